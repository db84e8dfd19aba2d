"""Steady currents under constant voltages: electronic conductivity, and any DC resistance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.evaluation.lines import fit_line
from operando.evaluation.metadata import stated
from operando.instruments.samples import Status
from operando.records import Record

NAN = math.nan
LAST = 0.1
"""Share of a hold at its end whose mean current counts as steady. Our choice."""
STILL = 0.02
"""Relative change of the current from the middle to the end of a hold above which it is not called
steady. What a blocking contact draws falls nearly with 1 / t: as much as went in the second half is
still left. Our choice."""
OHMIC = 0.05
"""Largest distance of a current from the straight line, over the largest current. Our choice."""
NOISE = 10.0
"""Least ratio of a steady current to its standard error. Our choice."""
SMALL = "small for its range"
USABLE = frozenset({Status.OK.value, Status.UNSTABLE.value, Status.UNDERLOAD.value})
"""Statuses of readings that count: a current that is small for its range is read all the same."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One voltage that was held. Means over its last tenth.

    step: index in the record. voltage: V. current: A. error: standard error of the current from the
    scatter of its readings, A. change: relative change of the current from the middle to the end.
    duration: s. flags: "not steady", "near the noise", "small for its range" (ask for a smaller
    current limit), "cut short".
    """

    step: int
    voltage: float
    current: float
    error: float
    change: float
    duration: float
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolarisationResult:
    """What holds at several voltages show.

    holds: in order. resistance, error: slope of voltage against steady current, ohm; of a single
    hold voltage over current. offset: current of the line at 0 V, A; NaN for a single hold.
    nonlinearity: largest distance of a current from the line over the largest current; NaN with
    fewer than three. flags: what speaks against using the numbers, those of the holds too.
    """

    cell: str
    simulated: bool
    holds: tuple[Hold, ...]
    resistance: float
    error: float
    offset: float
    nonlinearity: float
    flags: tuple[str, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a hold in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "step": hold.step,
                "voltage_mV": 1e3 * hold.voltage,
                "steady_current_uA": 1e6 * hold.current,
                "error_uA": 1e6 * hold.error,
                "duration_h": hold.duration / 3600.0,
                "resistance_ohm": self.resistance,
                "flags": ", ".join(hold.flags),
            }
            for hold in self.holds
        ]


@dataclass(frozen=True, slots=True)
class ElectronicConductivity:
    """polarisation: what it comes from. thickness: m. area: m2. conductivity, error: S/m."""

    polarisation: PolarisationResult
    thickness: float
    area: float
    conductivity: float
    error: float
    flags: tuple[str, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """The rows of the polarisation, with the conductivity."""
        sigma = {"electronic_conductivity_S_per_cm": 0.01 * self.conductivity}
        return [{**row, **sigma} for row in self.polarisation.rows()]


def dc_polarisation(record: Record) -> PolarisationResult:
    """Resistance to direct current from the holds at constant voltage of a record.

    The current at the end of each hold is steady when what the contacts block has charged. With two
    holds or more the resistance is the inverse slope of current against voltage by least squares,
    which an offset of the instrument leaves alone; Ohm's law is checked by the distance of the
    currents from that line. With one hold it is voltage over current.
    Raises RecordError if the record cannot be read.
    """
    steps = {step.index: step for step in record.steps() if step.kind == "ConstantVoltage"}
    samples = record.samples(columns=["time", "voltage", "current", "status", "step_count"])
    holds: list[Hold] = []
    for index, step in steps.items():
        rows = (samples["step_count"] == index) & np.isin(samples["status"], list(USABLE))
        time, voltage, current = (samples[name][rows] for name in ("time", "voltage", "current"))
        if len(time) < 2:
            continue
        flags: list[str] = []
        length = float(time[-1] - step.start)
        last = time >= step.start + (1.0 - LAST) * length
        middle = np.abs(time - step.start - 0.5 * length) <= 0.5 * LAST * length
        mean = float(current[last].mean())
        count = int(last.sum())
        error = float(current[last].std(ddof=1) / math.sqrt(count)) if count > 2 else NAN
        change = (mean - float(current[middle].mean())) / mean if middle.any() and mean else NAN
        if not abs(change) <= STILL:
            flags.append("not steady")
        if abs(mean) < NOISE * error:
            flags.append("near the noise")
        if np.all(samples["status"][rows][last] == Status.UNDERLOAD.value):
            flags.append(SMALL)
        if not step.ended:
            flags.append("cut short")
        held = float(voltage[last].mean())
        holds.append(Hold(index, held, mean, error, change, length, tuple(flags)))
    largest = max(holds, key=lambda hold: abs(hold.current), default=None)
    flags = list(dict.fromkeys(flag for hold in holds for flag in hold.flags))
    if SMALL in flags and largest is not None and SMALL not in largest.flags:
        flags.remove(SMALL)  # the line rests on the large currents
    resistance = error = offset = bent = NAN
    if len(holds) == 1 and holds[0].current:
        only = holds[0]
        resistance = only.voltage / only.current
        error = abs(resistance * only.error / only.current)
        flags.append("one voltage: Ohm's law is not checked")
    elif len(holds) > 1:
        volts = np.array([hold.voltage for hold in holds])
        amps = np.array([hold.current for hold in holds])
        line = fit_line(volts, amps)
        resistance, offset = 1.0 / line.slope, line.intercept
        error = line.slope_error * resistance**2
        if len(holds) > 2:
            bent = line.largest / float(np.max(np.abs(amps)))
            if bent > OHMIC:
                flags.append(f"not ohmic: {100.0 * bent:.1f} % off the line")
    return PolarisationResult(
        record.cell_name, record.simulated, tuple(holds), resistance, error, offset, bent,
        tuple(flags),
    )  # fmt: skip


def electronic_conductivity(record: Record) -> ElectronicConductivity:
    """Electronic conductivity sigma = d / (R A) between contacts that block ions.

    R is the resistance to a steady direct current, from one voltage or a ladder of them
    (`dc_polarisation`): chronoamperometry at 200 mV as Dandena et al., EES Batteries 2025, 1, 692,
    section 3.1.1. d is the metadata `thickness`, A the area of the cell. What a constant-phase
    contact still draws falls with t^-n, slower than an exponential: a hold that is cut short gives
    too much. Raises RecordError, and BadInputError for metadata that cannot be read.
    """
    polarisation = dc_polarisation(record)
    thickness, area = stated(record, "thickness", "m"), record.of_cell("area") or NAN
    flags = list(polarisation.flags)
    if math.isnan(thickness):
        flags.append("thickness not stated")
    if math.isnan(area):
        flags.append("area not stated")
    sigma = thickness / (polarisation.resistance * area)
    error = abs(sigma * polarisation.error / polarisation.resistance)
    return ElectronicConductivity(polarisation, thickness, area, sigma, error, tuple(flags))
