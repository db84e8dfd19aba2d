"""What an instrument can do, as a frozen value known after identifying it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class WhenHostIsSilent(enum.Enum):
    """What the output does when the computer dies and nobody else acts."""

    STAYS_ON = "stays on"
    SWITCHES_OFF = "switches off"
    NO_OUTPUT = "has no output"
    UNKNOWN = "unknown: assume that it stays on"


@dataclass(frozen=True, slots=True)
class Range:
    """One range of an instrument.

    full_scale: V, A or Pa. accuracy_of_reading: fraction. accuracy_offset: V, A or Pa.
    resolution: V, A or Pa. NaN where the document does not say.
    """

    full_scale: float
    accuracy_of_reading: float = float("nan")
    accuracy_offset: float = float("nan")
    resolution: float = float("nan")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Limits and manners of one instrument.

    voltage: lowest and highest voltage, V; None when it has none. current: likewise, A.
    voltage_ranges, current_ranges, pressure_ranges: available ranges.
    fastest_sampling: shortest useful poll interval, s.
    reading_age: age that a reading may have when it comes, s.
    off_time: stated time from the off command to the output being open and read back, s.
    on_board: step kinds or limits that the instrument runs by itself, by name
        ("voltage cut-off", "current limit", "over-voltage protection").
    when_host_is_silent: what its output does when the computer dies.
    bounds: what it keeps voltage and current within by itself, one sentence each: where that lies,
        how late it acts, and whether it was read back. Levels that follow the run are in words.
    """

    voltage: tuple[float, float] | None = None
    current: tuple[float, float] | None = None
    voltage_ranges: tuple[Range, ...] = ()
    current_ranges: tuple[Range, ...] = ()
    pressure_ranges: tuple[Range, ...] = ()
    fastest_sampling: float = 0.0
    reading_age: float = 0.0
    off_time: float = 0.0
    on_board: frozenset[str] = field(default_factory=frozenset)
    when_host_is_silent: WhenHostIsSilent = WhenHostIsSilent.UNKNOWN
    bounds: tuple[str, ...] = ()
