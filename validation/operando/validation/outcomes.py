"""What comes of measuring a target, and the table of how each is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from operando.validation.lab import Lab
from operando.validation.published import Target


class Path(Enum):
    """By what way a value was measured."""

    INSTRUMENTS = "instruments"
    """Protocol, engine, driver, bytes, simulated instrument, cell, record, evaluation."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured. values: by case, in the target's unit. note: what a reader must know."""

    values: Mapping[str, float]
    note: str = ""
    path: Path = Path.INSTRUMENTS


@dataclass(frozen=True, slots=True)
class NotYet:
    """A target that cannot be measured yet, and why."""

    reason: str


Measurement = Callable[[Lab, Target], Found | NotYet]

MEASUREMENTS: dict[str, Measurement] = {}
"""The measurement of every target, by its id; `operando.validation.measurements` fills it."""


def measures(*ids: str) -> Callable[[Measurement], Measurement]:
    """Enter a function as the measurement of targets."""

    def enter(function: Measurement) -> Measurement:
        for target in ids:
            MEASUREMENTS[target] = function
        return function

    return enter


def per_case(target: Target, value: Callable[[str], float], note: str = "") -> Found:
    """A value for the preset of each case."""
    return Found({case: value(target.presets[case]) for case in target.cases}, note)
