"""Ranges and limits of the simulated Keithley source meters.

Levels, ranges and limits: 2450-901-01 Rev B p. 6-32..6-75 and 2461-901-01 A p. 6-93..6-98.
Resolution, noise and settling are general knowledge of the data sheets, not read in them.
"""

from __future__ import annotations

from dataclasses import dataclass

OVER_RANGE = 1.05
"""Every range sources and measures 105 % of its name (2450: 210 V on the 200 V range)."""


@dataclass(frozen=True, slots=True)
class SourceMeterModel:
    """One model. Voltages in V, currents in A.

    voltage_ranges, current_ranges: full scales, ascending. highest_voltage, highest_current:
    largest magnitude of a level. voltage_limits, current_limits: lowest and highest VLIM and ILIM.
    default_voltage_limit, default_current_limit: after *RST. protections: steps of the
    over-voltage protection. firmware: as *IDN? gives it.
    """

    name: str
    firmware: str
    voltage_ranges: tuple[float, ...]
    current_ranges: tuple[float, ...]
    highest_voltage: float
    highest_current: float
    voltage_limits: tuple[float, float]
    current_limits: tuple[float, float]
    default_voltage_limit: float
    default_current_limit: float
    protections: tuple[int, ...]

    def range_for(self, function: str, value: float) -> float | None:
        """Lowest range of "VOLT" or "CURR" that holds a value; None when none does."""
        magnitude = abs(value)
        for full_scale in self.ranges(function):
            if magnitude <= self.reach(function, full_scale):
                return full_scale
        return None

    def ranges(self, function: str) -> tuple[float, ...]:
        """Ranges of "VOLT" or "CURR"."""
        return self.voltage_ranges if function == "VOLT" else self.current_ranges

    def reach(self, function: str, full_scale: float) -> float:
        """Largest magnitude on a range of "VOLT" or "CURR"."""
        highest = self.highest_voltage if function == "VOLT" else self.highest_current
        return min(full_scale * OVER_RANGE * (1.0 + 1e-12), highest)


MODEL_2450 = SourceMeterModel(
    name="MODEL 2450",
    firmware="1.6.7c",
    voltage_ranges=(0.02, 0.2, 2.0, 20.0, 200.0),
    current_ranges=(1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    highest_voltage=210.0,
    highest_current=1.05,
    # The document gives the upper ends alone; the lower ones are a tenth of the lowest range
    # (general knowledge).
    voltage_limits=(0.002, 210.0),
    current_limits=(1e-9, 1.05),
    default_voltage_limit=21.0,
    default_current_limit=105e-6,
    protections=(2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180),
)

MODEL_2461 = SourceMeterModel(
    name="MODEL 2461",
    firmware="1.6.7c",
    voltage_ranges=(0.2, 2.0, 7.0, 10.0, 20.0, 100.0),
    current_ranges=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 4.0, 5.0, 7.0, 10.0),
    highest_voltage=105.0,
    highest_current=7.35,
    voltage_limits=(0.2, 105.0),
    current_limits=(1e-6, 7.35),
    default_voltage_limit=7.35,
    default_current_limit=105e-6,
    # 2461-901-01 A p. 6-96: the 2461 has the steps up to 80 V alone.
    protections=(2, 5, 10, 20, 40, 60, 80),
)

MEASURE_RESOLUTION = {"VOLT": 5e-7, "CURR": 1e-6}
"""One count at 6.5 digits, as a fraction of the range: 10 uV on 20 V, 1 uA on 1 A."""

SOURCE_RESOLUTION = {"VOLT": 2.5e-5, "CURR": 5e-5}
"""One step of the source, as a fraction of the range: 0.5 mV on 20 V, 50 nA on 1 mA."""

NOISE = 1e-6
"""Standard deviation of a reading at 1 NPLC, as a fraction of the range."""
