"""Windows, ranges and settings of PalmSens instruments that run MethodSCRIPT.

Ranges: tables of the vendor's MethodSCRIPT examples. Windows and the currents that a Pico's ranges
really reach: at second hand, from the package labmcp-palmsens. Highest frequencies of impedance:
of the Pico from there; of the others GENERAL, from the vendor's advertisements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Hertz, Seconds, Volts

ON_BOARD = frozenset(
    {"voltage cut-off", "current limit", "over-voltage protection", "unattended time limit"}
)
"""What the scripts see to by themselves."""

LONGEST_INTERVAL = 0.5
"""s; `safe` may have to wait for two intervals to end and has 2 s for everything."""

FASTEST_INTERVAL = 0.02
"""s between points. ASSUMPTION: a slow line needs 5 ms for a point."""

POINT_ABORT = 1.0
"""s within which an abort ends a point of a spectrum, however low its frequency. ASSUMPTION: the
documents speak of a measurement interval, and name none for impedance."""

LARGEST_AMPLITUDE = 0.5
"""V, root mean square, of a spectrum. Our choice: a cell is far from linear there."""

CABLE_INDUCTANCE, CABLE_CAPACITANCE, IMPEDANCE_SHARE = 0.5e-6, 20e-12, 0.01
"""H, F and fraction, see `impedance_accuracy`. ASSUMPTION: no document at hand states an accuracy;
half a metre of cable to a cell has about 1 uH/m, and vendors' accuracy plots begin at 1 %."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model. prefixes: of its answer to `t`. voltage: lowest and highest, V, of `dc_mode`.

    currents: highest current of each range that is used, A, ascending. ranges: A by range index.
    dc_mode, ac_mode: modes of the potentiostat for steps and for impedance.
    baud: of its serial line, bits/s. frequency: highest of impedance, Hz.
    """

    name: str
    prefixes: tuple[str, ...]
    voltage: tuple[float, float]
    currents: tuple[float, ...]
    ranges: Mapping[int, float] = field(repr=False)
    dc_mode: int = 3
    ac_mode: int = 3
    baud: int = 921600
    frequency: float = 200e3

    @property
    def current(self) -> float:
        """Highest current, A."""
        return self.currents[-1]

    def full_scale(self, current: float) -> float:
        """Highest current (A) of the lowest range that holds `current`."""
        return next((full for full in self.currents if current <= full * (1 + 1e-9)), self.current)


PICO_RANGES = {
    **dict(
        enumerate(
            (100e-9, 2e-6, 4e-6, 8e-6, 16e-6, 32e-6, 63e-6, 125e-6, 250e-6, 500e-6, 1e-3, 5e-3)
        )
    ),
    **dict(
        enumerate((100e-9, 1e-6, 6e-6, 13e-6, 25e-6, 50e-6, 100e-6, 200e-6, 1e-3, 5e-3), start=128)
    ),
}
PICO_CURRENTS = (
    60e-9, 1.17e-6, 2.34e-6, 4.68e-6, 9.38e-6, 18.7e-6, 37.5e-6, 75e-6, 150e-6, 300e-6, 600e-6,
    3e-3,
)  # fmt: skip
EMSTAT4_RANGES = {
    3: 1e-9, 6: 10e-9, 9: 100e-9, 12: 1e-6, 15: 10e-6, 18: 100e-6, 21: 1e-3, 24: 10e-3, 27: 100e-3,
}  # fmt: skip
NEXUS_RANGES = {
    16: 100e-12, 0: 1e-9, 1: 10e-9, 2: 100e-9, 3: 1e-6, 4: 10e-6, 5: 100e-6, 6: 1e-3, 7: 10e-3,
    8: 1e-3, 9: 10e-3, 10: 100e-3, 11: 1.0,
    32: 1e-9, 33: 10e-9, 34: 100e-9, 35: 1e-6, 36: 10e-6, 37: 100e-6, 38: 1e-3, 39: 10e-3,
    40: 1e-3, 41: 10e-3, 42: 100e-3, 43: 1.0,
}  # fmt: skip
LOW_RANGES = {index: full for index, full in EMSTAT4_RANGES.items() if index != 27}
HIGH_RANGES = {index: full for index, full in EMSTAT4_RANGES.items() if index != 6}

# Low-speed mode: what a cell is cycled in. High-speed mode: -1.7 to 2.0 V, for impedance.
PICO = Model("EmStat Pico", ("espico",), (-1.25, 2.0), PICO_CURRENTS, PICO_RANGES, 2, 3, 230400)
SENSIT = Model(
    "Sensit Wearable", ("senswb",), (-1.25, 2.0), PICO_CURRENTS, PICO_RANGES, 2, 3, 230400
)
EMSTAT4_LR = Model(
    "EmStat4 LR", ("es4_lr", "mes4lr"), (-3.0, 3.0), tuple(LOW_RANGES.values()), LOW_RANGES
)
EMSTAT4_HR = Model(
    "EmStat4 HR", ("es4_hr", "mes4hr"), (-6.0, 6.0), tuple(HIGH_RANGES.values()), HIGH_RANGES
)
NEXUS = Model(
    "Nexus",
    ("nexus1",),
    (-10.0, 10.0),
    tuple(sorted(set(NEXUS_RANGES.values()))),
    NEXUS_RANGES,
    frequency=1e6,
)

MODELS = (PICO, SENSIT, EMSTAT4_LR, EMSTAT4_HR, NEXUS)


def own_bounds(settings: PalmSensSettings) -> tuple[str, ...]:
    """What the scripts keep a cell within by themselves, in words for the limit sheet."""
    return (
        f"cut-off and current limit of each set-point, compared in its script at each point, every "
        f"{settings.interval:g} s; a script cannot be read back, its first point shows that it "
        "does what was asked",
        f"the cell opens {settings.protection_margin:g} V outside of the window, compared in the "
        "same way",
        f"the cell opens {settings.unattended:g} s after the computer was last heard",
    )


def model_of(firmware: str) -> Model | None:
    """The model by the first line of its answer to `t`, None for one that is not known."""
    for model in MODELS:
        if firmware.startswith(model.prefixes):
            return model
    return None


def impedance_accuracy(frequency: float, modulus: float) -> float:
    """Largest error (ohm) of an impedance of `modulus` ohm at `frequency` Hz.

    A share of the modulus, the inductance of the cables in series and their capacitance across:
    the form of the accuracy plots that vendors print. ASSUMPTION, see `CABLE_INDUCTANCE`.
    """
    omega = 2.0 * math.pi * frequency
    cables = omega * CABLE_INDUCTANCE + omega * CABLE_CAPACITANCE * modulus**2
    return IMPEDANCE_SHARE * modulus + cables


@dataclass(frozen=True, slots=True)
class PalmSensSettings:
    """How a script measures.

    channel: of the potentiostat in a multi-channel box. interval: s between points, up to 0.5 s.
    unattended: s that a step runs on when the host has died; then the script opens the cell.
    bandwidth: Hz, 0 takes 5.85 over the interval, as the vendor's battery scripts do.
    protection_margin: V beyond the run's window at which a step opens the cell.
    autoranging: let the instrument choose the current range while a voltage is held; a change of
    range can report an overload, which ends a run.
    mains: Hz of the power line, to be rejected; 0 leaves that to the instrument.
    """

    channel: Annotated[int, Field(ge=0, le=15)] = 0
    interval: Seconds = 0.1
    unattended: Seconds = 600.0
    bandwidth: Annotated[float, Field(ge=0.0)] = 0.0
    protection_margin: Volts = 0.1
    autoranging: bool = False
    mains: Annotated[int, Field(ge=0, le=60)] = 0

    def __post_init__(self) -> None:
        if not FASTEST_INTERVAL <= self.interval <= LONGEST_INTERVAL:
            raise BadInputError(
                f"interval must be {FASTEST_INTERVAL:g} to {LONGEST_INTERVAL:g} s, not "
                f"{self.interval:g} s"
            )
        if not self.unattended >= 20.0 * self.interval:
            raise BadInputError(
                f"unattended must be at least 20 intervals, not {self.unattended:g} s"
            )
        if not self.protection_margin > 0.0:
            raise BadInputError("protection_margin must be positive")
        if self.mains not in (0, 50, 60):
            raise BadInputError(f"mains must be 0, 50 or 60 Hz, not {self.mains}")
        if not self.bandwidth >= 0.0 or not 0 <= self.channel <= 15:
            raise BadInputError("bandwidth must not be negative, channel 0 to 15")

    @property
    def measuring_bandwidth(self) -> Hertz:
        """Hz of `set_max_bandwidth`."""
        return self.bandwidth or 5.850535 / self.interval
