"""How quantities are shown: the unit of axes and readouts, numbers as texts, spans of time.

A missing or unknown number is "—"; a negative one has a true minus sign.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from operando.instruments import QUANTITIES

UNKNOWN = "—"
MINUS = "−"

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Display:
    """How a quantity is shown: shown = SI value * factor + offset, in `unit`.

    decimals: of a readout. label: noun, such as "Voltage". short: what stands before a reading
    where there is little room; "" is the label. digits: significant ones of a readout that goes
    over powers of ten; 0 for fixed decimals.
    """

    unit: str
    factor: float
    decimals: int
    label: str
    offset: float = 0.0
    short: str = ""
    digits: int = 0

    @property
    def axis(self) -> str:
        """Label of an axis: "Voltage / V"; the label alone when there is no unit."""
        return f"{self.label} / {self.unit}" if self.unit else self.label

    def shown(self, value: float) -> float:
        """The number to show for an SI value."""
        return value * self.factor + self.offset

    def si(self, shown: float) -> float:
        """The SI value of a number that is shown."""
        return (shown - self.offset) / self.factor

    def text(self, value: float | None) -> str:
        """A readout of an SI value: "3.8421 V"; "—" when it is None or not finite."""
        shown = None if value is None else self.shown(value)
        number = number_text(shown, self.decimals)
        if self.digits:
            number = significant_text(shown, self.digits, self.decimals)
        return number if number == UNKNOWN or not self.unit else f"{number} {self.unit}"


_CELSIUS = -273.15

_DISPLAYS: Mapping[str, Display] = {
    "voltage": Display("V", 1.0, 4, "Voltage"),
    "current": Display("mA", 1e3, 3, "Current"),
    "charge": Display("mAh", 1.0 / 3.6, 3, "Charge"),
    "step_charge": Display("mAh", 1.0 / 3.6, 3, "Charge of the step"),
    "power": Display("mW", 1e3, 3, "Power"),
    "energy": Display("mWh", 1.0 / 3.6, 3, "Energy"),
    "elapsed": Display("s", 1.0, 1, "Time in the step"),
    "time": Display("s", 1.0, 1, "Time"),
    "cycle": Display("", 1.0, 0, "Cycle"),
    "pressure": Display("MPa", 1e-6, 2, "Pressure"),
    "force": Display("N", 1.0, 1, "Force"),
    "temperature": Display("°C", 1.0, 1, "Temperature", _CELSIUS, "T"),
    "chamber_temperature": Display("°C", 1.0, 1, "Chamber", _CELSIUS, "chamber"),
    "o2": Display("ppm", 1e6, 2, "Oxygen", short="O₂", digits=4),
    "h2o": Display("ppm", 1e6, 2, "Water", short="H₂O", digits=4),
    "dew_point": Display("°C", 1.0, 1, "Dew point", _CELSIUS, "dew point"),
    "relative_humidity": Display("%", 100.0, 1, "Humidity", short="RH"),
    "box_pressure": Display("mbar", 1e-2, 2, "Glovebox", short="box"),
}


def display(name: str) -> Display:
    """How a quantity is shown, by its name: "voltage", ...; one not known here stays in SI."""
    if (known := _DISPLAYS.get(name)) is not None:
        return known
    live = QUANTITIES.get(name)
    unit = live.unit if live is not None and live.unit != "1" else ""
    return Display(unit, 1.0, 4, name.replace("_", " ").capitalize() or "Value")


def number_text(value: float | None, decimals: int) -> str:
    """A number with fixed decimals: "−1.569"; never "−0.000"; "—" when None or not finite."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{value:.{decimals}f}"
    if text.startswith("-"):
        text = text[1:] if not text.strip("-0.") else MINUS + text[1:]
    return text


def significant_text(value: float | None, digits: int = 4, most: int = 3) -> str:
    """A number with so many significant digits but at most `most` decimals; integers stay whole."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    # Rounded first: 9.9996 has one decimal less than 9.9994.
    rounded = float(f"{value:.{digits - 1}e}")
    before = 1 + math.floor(math.log10(abs(rounded))) if rounded else 1
    return number_text(value, min(most, max(0, digits - max(1, before))))


def current_text(value: float | None) -> str:
    """A current in A as it is read: "1.569 mA", "−12.34 µA", "2.500 A"; three decimals at most."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    size = abs(float(f"{value:.3e}"))
    factor, unit = 1e3, "mA"
    if size >= 1.0:
        factor, unit = 1.0, "A"
    elif 0.0 < size < 1e-3:
        factor, unit = 1e6, "µA"
    return f"{significant_text(value * factor)} {unit}"


def charge_text(value: float | None) -> str:
    """A charge in C as it is read: "2.413 mAh"."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{significant_text(value / 3.6)} mAh"


def time_unit(span: float) -> tuple[str, float]:
    """Unit of a time axis that shows `span` s, and its length in s.

    Seconds up to 2 min, minutes up to 2 h, hours up to 3 d, then days.
    """
    if span <= 2.0 * MINUTE:
        return "s", 1.0
    if span <= 2.0 * HOUR:
        return "min", MINUTE
    if span <= 3.0 * DAY:
        return "h", HOUR
    return "d", DAY


def duration_text(seconds: float | None) -> str:
    """A span of time in its two largest units, the rest cut off: "1 h 12 min", "45 s", "2 d".

    "—" when None or not finite; a negative one counts as nothing.
    """
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, math.floor(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return _two(minutes, "min", rest, "s")
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return _two(hours, "h", minutes, "min")
    days, hours = divmod(hours, 24)
    return _two(days, "d", hours, "h")


def clock_text(unix: float) -> str:
    """A Unix time, s, on the clock of this place: "14:32", with its day if that is not today."""
    then, now = (datetime.fromtimestamp(one, UTC).astimezone() for one in (unix, time.time()))
    return then.strftime("%H:%M" if then.date() == now.date() else "%H:%M on %d %b %Y")


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"
