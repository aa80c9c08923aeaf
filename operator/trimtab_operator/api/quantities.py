"""Kubernetes quantities as numbers: `500m`, `4Gi`, `1e3`, `2`.

The `kubernetes` package has the same function, but importing it from the pure rooms would load the whole client.
"""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"^([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$")
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}


def parse_quantity(quantity: str | int) -> Decimal:
    """The number that a quantity stands for.

    Raises:
        ValueError: the text is no quantity.
    """
    match = _QUANTITY.match(str(quantity))
    if match is None:
        raise ValueError(f"'{quantity}' is not a quantity; write for example 500m, 2 or 4Gi")
    number, suffix = match[1], match[2] or ""
    if suffix not in _SUFFIXES:  # an exponent: 1e3
        return Decimal(number + suffix)
    return Decimal(number) * _SUFFIXES[suffix]
