"""Personal data that its form gives away: e-mail addresses, phone numbers, payment cards, bank accounts, identity numbers.

What is a phone number is told by `phonenumbers` (Google's numbering plans), which numbers hold by `python-stdnum`: both are small
and offline. Presidio checks forms by the same rules, and needs spaCy with a language model on top, for names. Names, addresses and
everything else without a fixed form are not found here.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.dk import cpr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.se import personnummer
from stdnum.us import ssn

_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
_CARD = re.compile(r"(?<![\w-])[2-6]\d(?:[ -]?\d){11,17}(?![\w-])")
"""ISO/IEC 7812: 13 to 19 digits, of which the first is a bank's, a travel card's or a merchant's."""
_FEWEST_DIGITS = 6
"""Texts with fewer digits have no number of a person."""
_DIGIT = re.compile(r"\d")
_NUMBERS = re.compile(r"(?<![\w-])[A-Z\d](?:[A-Z .+-]{0,8}\d)+-?[A-Z]?(?![\w-])")
"""Digits with capitals and separators between them: the little of a text that the forms below are looked for in."""

IDENTITY_NUMBERS: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    "BR": (r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.is_valid),
    "CA": (r"\d{3}-\d{3}-\d{3}", sin.is_valid),
    "CH": (r"756\.\d{4}\.\d{4}\.\d{2}", ahv.is_valid),
    "DK": (r"\d{6}-\d{4}", cpr.is_valid),
    "ES": (r"\d{8}-?[A-Z]", dni.is_valid),
    "ES, foreigners": (r"[XYZ]-?\d{7}-?[A-Z]", nie.is_valid),
    "FI": (r"\d{6}[-+A]\d{3}[0-9A-Y]", hetu.is_valid),
    "FR": (r"[12] ?\d\d ?\d\d ?\d[0-9AB] ?\d{3} ?\d{3} ?\d\d", nir.is_valid),
    "IN": (r"[2-9]\d{3} \d{4} \d{4}", aadhaar.is_valid),
    "IT": (r"[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z]", codicefiscale.is_valid),
    "KR": (r"\d{6}-\d{7}", rrn.is_valid),
    "MX": (r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d", curp.is_valid),
    "SE": (r"(?:\d{2})?\d{6}[-+]\d{4}", personnummer.is_valid),
    "US": (r"\d{3}-\d{2}-\d{4}", ssn.is_valid),
}
"""By country: only numbers whose separators or letters give them away; bare digits pass a check digit too often by chance."""
_CHECKED: Mapping[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "payment card": (_CARD, lambda text: luhn.is_valid(re.sub(r"[ -]", "", text))),
    "bank account (IBAN)": (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), iban.is_valid),
    **{
        f"identity number ({country})": (re.compile(rf"(?<![\w-])(?:{form})(?![\w-])"), is_valid)
        for country, (form, is_valid) in IDENTITY_NUMBERS.items()
    },
}


def kinds_in(text: str) -> list[str]:
    """What a text has of them."""
    return list(_kinds(text))


def _kinds(text: str) -> Iterator[str]:
    if _EMAIL.search(text):
        yield "e-mail address"
    if len(_DIGIT.findall(text)) < _FEWEST_DIGITS:
        return
    if _has_phone_number(text):
        yield "phone number"
    numbers = "\n".join(_NUMBERS.findall(text))
    for kind, (form, is_valid) in _CHECKED.items():
        if any(is_valid(match.group()) for match in form.finditer(numbers)):
            yield kind


def _has_phone_number(text: str) -> bool:
    """Of any country with its code, of North America without it, if it is written with separators."""
    return any(
        not found.raw_string.isdigit() for found in PhoneNumberMatcher(text, "US", leniency=Leniency.STRICT_GROUPING)
    )
