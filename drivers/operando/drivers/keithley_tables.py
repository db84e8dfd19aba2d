"""Limits, ranges and settings of Keithley's graphical source meters, from their manuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Volts

OVERRANGE = 1.05
"""A range carries 105 % of its full scale: 1.05 A on 1 A, 210 V on 200 V (2450-901-01)."""

LIMIT_FLOOR = 1e-3
"""A limit must exceed 0.1 % of a fixed measure range (2461-901-01 p. 6-94)."""

PROTECTION_MARGIN = 0.05
"""Fraction by which a protection level may act early. ASSUMPTION: the tolerance that the 2400
series manual gives for the same function; the 2450 and 2461 pages give none."""


CYCLE = 0.02
"""s of one power line cycle at 50 Hz."""

CONVERSIONS = 6
"""Line cycles a reading may take per NPLC: signal, reference and zero, for source read-back and
for the measurement. ASSUMPTION, agrees with 80 to 120 ms per READ at NPLC 1."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model. voltage: highest source level, V. current: highest source level, A.

    voltage_ranges, current_ranges: full scales, ascending, V and A.
    protection_levels: levels of over-voltage protection, V.
    lowest_current_limit: A, 0.0 where only `LIMIT_FLOOR` applies.
    lowest_voltage_limit: V, likewise.
    high_voltage, high_voltage_current: above this voltage (V) only this current (A) is supplied;
        0.0 where the sources do not say.
    """

    number: str
    document: str
    voltage: float
    current: float
    voltage_ranges: tuple[float, ...]
    current_ranges: tuple[float, ...]
    protection_levels: tuple[float, ...]
    lowest_current_limit: float
    lowest_voltage_limit: float
    high_voltage: float
    high_voltage_current: float

    def voltage_range(self, voltage: float) -> float:
        """Full scale (V) of the lowest range that holds `voltage`."""
        return lowest_holding(abs(voltage), self.voltage_ranges)

    def current_range(self, current: float) -> float:
        """Full scale (A) of the lowest range that holds `current`."""
        return lowest_holding(abs(current), self.current_ranges)

    def protection(self, voltage: float) -> float:
        """Lowest protection level (V) that stays clear of `voltage`, 0.0 when there is none."""
        for level in self.protection_levels:
            if level * (1.0 - PROTECTION_MARGIN) > abs(voltage):
                return level
        return 0.0


def lowest_holding(value: float, ranges: tuple[float, ...]) -> float:
    """The lowest range whose full scale is not below `value`; the highest when none is."""
    for full_scale in ranges:
        if value <= full_scale * (1.0 + 1e-9):
            return full_scale
    return ranges[-1]


MODEL_2450 = Model(
    number="2450",
    document="2450-901-01 Rev B",
    voltage=210.0,
    current=1.05,
    voltage_ranges=(0.02, 0.2, 2.0, 20.0, 200.0),
    current_ranges=(10e-9, 100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0),
    protection_levels=(2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180),
    lowest_current_limit=0.0,
    lowest_voltage_limit=0.0,
    # 20 W class: 21 V at 1.05 A, 210 V at 105 mA. General knowledge, not read in the manual.
    high_voltage=21.0,
    high_voltage_current=0.105,
)

MODEL_2461 = Model(
    number="2461",
    document="2461-901-01 A",
    voltage=105.0,
    current=7.35,
    voltage_ranges=(0.2, 2.0, 7.0, 10.0, 20.0, 100.0),
    current_ranges=(1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 4.0, 5.0, 7.0, 10.0),
    protection_levels=(2, 5, 10, 20, 40, 60, 80),  # p. 6-96
    lowest_current_limit=1e-6,  # p. 6-94
    lowest_voltage_limit=0.2,  # p. 6-94
    high_voltage=0.0,  # which voltage goes with which current was not found
    high_voltage_current=0.0,
)


@dataclass(frozen=True, slots=True)
class SourceMeterSettings:
    """How the instrument is wired and how it measures.

    nplc: integration time in power line cycles, 0.01 to 10. sense: 4-wire needs all four leads.
    terminals: where the cell is connected. auto_zero: correct drift with every reading.
    over_voltage_protection: protection level, V; 0 takes the lowest one above the run's window.
    """

    nplc: Annotated[float, Field(ge=0.01, le=10.0)] = 1.0
    sense: Literal["4-wire", "2-wire"] = "4-wire"
    terminals: Literal["front", "rear"] = "front"
    auto_zero: bool = True
    over_voltage_protection: Volts = 0.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.nplc <= 10.0:
            raise BadInputError(f"nplc must be 0.01 to 10 power line cycles, not {self.nplc:g}")

    @property
    def reading_time(self) -> float:
        """s that one reading takes. ASSUMPTION, see `CONVERSIONS`."""
        return self.nplc * CYCLE * CONVERSIONS
