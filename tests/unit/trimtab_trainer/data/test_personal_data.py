"""What counts as personal data, and what only looks like it."""

import pytest

from trimtab_trainer.data.personal_data import IDENTITY_NUMBERS, kinds_in

PEOPLES = {
    "BR": ("390.533.447-05", "390.533.447-06"),
    "CA": ("123-456-782", "123-456-789"),
    "CH": ("756.9217.0769.85", "756.9217.0769.84"),
    "DK": ("211062-5629", "211362-5629"),
    "ES": ("54362315-K", "54362315-A"),
    "ES, foreigners": ("X-2482300W", "X-2482300A"),
    "FI": ("131052-308T", "131052-308U"),
    "FR": ("2 95 10 99 126 111 93", "2 95 10 99 126 111 92"),
    "IN": ("2341 2341 2346", "2341 2341 2347"),
    "IT": ("RCCMNL83S18D969H", "RCCMNL83S18D969G"),
    "KR": ("971013-9019902", "971013-9019903"),
    "MX": ("BOXW310820HNERXN09", "BOXW310820HNERXN08"),
    "SE": ("880320-0016", "880320-0018"),
    "US": ("536-90-4399", "666-90-4399"),
}
"""A number that holds, from the documentation of `python-stdnum` or with a computed check digit, and one that does not."""


@pytest.mark.parametrize("country", IDENTITY_NUMBERS)
def test_identity_numbers_hold_by_the_rules_of_their_country(country: str) -> None:
    right, wrong = PEOPLES[country]
    kind = f"identity number ({country})"
    assert kind in kinds_in(f"My number is {right}, please look it up.")
    assert kind not in kinds_in(f"My number is {wrong}, please look it up.")
    assert kind not in kinds_in(f"Order x{right}y of today.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe@example.org, please", ["e-mail address"]),
        ("call +49 30 901820 or ring (415) 555-0132", ["phone number"]),
        ("call +442071838750 at night", ["phone number"]),
        ("ring 415-555-2671", ["phone number"]),
        ("ring 415 555 2671", ["phone number"]),
        ("paid with 4111 1111 1111 1111", ["payment card"]),
        ("paid with 5500-0000-0000-0004", ["payment card"]),
        ("to DE89 3704 0044 0532 0130 00 at once", ["bank account (IBAN)"]),
        ("to GB29NWBK60161331926819 at once", ["bank account (IBAN)"]),
        ("jane@example.org, +33 1 42 68 53 00", ["e-mail address", "phone number"]),
    ],
)
def test_what_belongs_to_people(text: str, expected: list[str]) -> None:
    assert kinds_in(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "paid with 4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "to DE88 3704 0044 0532 0130 00 at once",
        "to XX89 3704 0044 0532 0130 00 at once",
        "version 1.2.3 of 2026-11-22, order 12345678",
        "the score was 123-456-7890",
        "a code with +999 123 4567 in it",
        "user 4155552671 logged in",
        "ISBN 978-3-16-148410-0",
        "1,234,567.89 in 2010-2014",
        "from 10.0.0.1 at 12:30:45",
        "pi is 3.14159265358979",
        "tracking 1Z999AA10123456784",
        "about 123 456 782 people",
        "commit 4f2a9c1d8e7b6a5c4d3e2f1a0b9c8d7e6f5a4b3c",
        "@someone and a@b",
    ],
)
def test_what_only_looks_like_it(text: str) -> None:
    assert kinds_in(text) == []
