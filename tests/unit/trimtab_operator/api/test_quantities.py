"""Kubernetes quantities as numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_operator.api.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2),
        (2, 2),
        ("500m", Decimal("0.5")),
        ("1.5", Decimal("1.5")),
        (".5", Decimal("0.5")),
        ("4Gi", 4 * 1024**3),
        ("1.5Gi", 1.5 * 1024**3),
        ("1k", 1000),
        ("3M", 3_000_000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12e-1", Decimal("1.2")),
        ("100n", Decimal("1e-7")),
        ("7u", Decimal("7e-6")),
        ("-1", -1),
    ],
)
def test_quantity(text: str | int, number: Decimal | float) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "1GiB", "1 Gi", "one", "1KI", "1K", "0x10", "1e"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@given(st.integers(min_value=0, max_value=2**50), st.sampled_from(["", "Ki", "Mi", "Gi"]))
def test_whole_binary_quantities_are_exact(number: int, suffix: str) -> None:
    power = ["", "Ki", "Mi", "Gi"].index(suffix)
    assert parse_quantity(f"{number}{suffix}") == number * 1024**power
