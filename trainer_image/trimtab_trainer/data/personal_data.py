"""Personal data by patterns: what has the form of an e-mail address, a phone number, a payment card or a bank account.

It is a check of patterns: names, addresses and everything without a fixed form are not found.
"""

import re
from collections.abc import Callable, Mapping

_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
_PHONE = re.compile(
    r"(?<![\w+])(?:\+\d{1,3}[ .-]?)(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}(?!\w)|\(\d{3}\) ?\d{3}-\d{4}|\b\d{3}-\d{3}-\d{4}\b"
)
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")


def is_card_number(text: str) -> bool:
    """13 to 19 digits with a right check digit (Luhn, ISO/IEC 7812)."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_account_number(text: str) -> bool:
    """15 to 34 characters whose check digits are right (ISO 13616, modulo 97)."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1  # noqa: PLR2004


KINDS: Mapping[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "e-mail address": (_EMAIL, lambda _: True),
    "phone number": (_PHONE, lambda _: True),
    "payment card": (_CARD, is_card_number),
    "bank account (IBAN)": (_IBAN, is_account_number),
}


def kinds_in(text: str) -> list[str]:
    """What a text has of them."""
    return [
        kind
        for kind, (pattern, is_right) in KINDS.items()
        if any(is_right(match.group()) for match in pattern.finditer(text))
    ]
