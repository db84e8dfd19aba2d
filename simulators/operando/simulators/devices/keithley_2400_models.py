"""Ranges, limits and power envelope of the simulated Keithley 2400 series.

Written from the 2400 Series SourceMeter user's manual (2400S-900-01).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from operando.simulators.devices.keithley_models import SourceMeterModel

_FINE = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Envelope(NamedTuple):
    """Largest A on the highest voltage range, largest V on the highest current range."""

    current: float
    voltage: float


def _model(
    name: str,
    voltages: tuple[float, ...],
    currents: tuple[float, ...],
    highest: tuple[float, float],
    protections: tuple[int, ...],
) -> SourceMeterModel:
    return SourceMeterModel(
        name=f"MODEL {name}",
        firmware="C32   Oct  4 2010 14:20:11/A02  /S/K",
        voltage_ranges=voltages,
        current_ranges=currents,
        highest_voltage=highest[0],
        highest_current=highest[1],
        voltage_limits=(0.0, highest[0]),
        current_limits=(0.0, highest[1]),
        default_voltage_limit=21.0,
        default_current_limit=105e-6,
        protections=protections,
    )


MODELS: Mapping[str, tuple[SourceMeterModel, Envelope | None]] = {
    "2400": (
        _model("2400", (0.2, 2.0, 20.0, 200.0), _FINE, (210.0, 1.05), (*range(20, 121, 20), 160)),
        Envelope(0.105, 21.0),
    ),
    "2401": (_model("2401", (0.2, 2.0, 20.0), _FINE, (21.0, 1.05), (20,)), None),
    "2420": (
        _model("2420", (0.2, 2.0, 20.0, 60.0), (*_FINE[1:], 3.0), (63.0, 3.15), (6, 12, 18, 24, 30,
               36, 48)),
        Envelope(1.05, 21.0),
    ),
    "2425": (
        _model("2425", (0.2, 2.0, 20.0, 100.0), (*_FINE[1:], 3.0), (105.0, 3.15), (10, 20, 30, 40,
               50, 60, 80)),
        Envelope(1.05, 21.0),
    ),
    "2440": (
        _model("2440", (0.2, 2.0, 10.0, 40.0), (*_FINE[1:], 5.0), (42.0, 5.25), (4, 8, 12, 16, 20,
               24, 32)),
        Envelope(1.05, 10.5),
    ),
}  # fmt: skip
"""Ranges and power envelope: p. 18-62; maxima and protection steps: p. 18-68, 18-75."""
