"""Numbers of MethodSCRIPT: variables, and how data packages write them."""

from __future__ import annotations

import math
from dataclasses import dataclass

PREFIXES = {
    "a": -18, "f": -15, "p": -12, "n": -9, "u": -6, "m": -3, " ": 0,
    "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
"""Power of ten of each SI prefix, finest first."""

OFFSET = 1 << 27
"""Added to a mantissa, so that seven hex digits hold it: -2^27 to 2^27 - 1."""

NAN = "     nan"

TIMING_NOT_MET, OVERLOAD, UNDERLOAD, OVERLOAD_WARNING = 1, 2, 4, 8
"""Bits of a status."""

TYPES = frozenset(
    group + letter
    for group, letters in {
        "a": "abcdefghistuvwxyz",
        "b": "ab",
        "c": "abcdefghijklmnopqrstuvwxyz",
        "d": "abcd",
        "e": "abcdefg",
        "h": "abcd",
        "i": "abcd",
        "j": "abcd",
    }.items()
    for letter in letters
)
"""Variable types that exist."""


@dataclass(slots=True)
class Variable:
    """A variable of a script: a float or an integer, with what a measurement knows about it.

    kind: variable type, two letters. status: bits, or None where the value was not measured.
    range: index, or None.
    """

    value: float | int = 0.0
    kind: str = "aa"
    status: int | None = None
    range: int | None = None

    def take(self, other: Variable) -> None:
        """Become a copy."""
        self.value, self.kind = other.value, other.kind
        self.status, self.range = other.status, other.range


def encode(value: float | int) -> str:
    """Seven hex digits and a prefix: the finest one whose rounded mantissa still fits.

    Integers have the prefix "i". What cannot be written is "     nan".
    """
    if isinstance(value, int):
        return f"{value + OFFSET:07X}i" if -OFFSET <= value < OFFSET else NAN
    if not math.isfinite(value):
        return NAN
    if value == 0.0:
        return f"{OFFSET:07X} "
    for prefix, power in PREFIXES.items():
        # Dividing by an exact power of ten rounds once; multiplying by 1e-6 would round twice.
        scaled = value * 10.0**-power if power < 0 else value / 10.0**power
        if abs(scaled) < OFFSET:
            mantissa = round(scaled)
            if -OFFSET <= mantissa < OFFSET:
                return f"{mantissa + OFFSET:07X}{prefix}"
    return NAN


def write(variable: Variable, noise: bool = False) -> str:
    """One variable of a package, with its metadata.

    noise: whether the instrument adds the fourth field of newer firmware; its content is not
    public, so it is always zero.
    """
    text = variable.kind + encode(variable.value)
    if variable.status is not None:
        text += f",1{variable.status:X}"
    if variable.range is not None:
        text += f",2{variable.range:02X}"
        if noise:
            text += ",40"
    return text
