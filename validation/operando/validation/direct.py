"""A simulated cell driven by itself, without instruments: for draws and the fit.

The same control as a source meter's: a voltage source at the cut-off with the current as its limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operando.instruments.errors import OperandoError
from operando.simulators.cell import CellParameters, SimulatedCell, load_preset

CURVE = 300
"""Readings of a half cycle whose curve is wanted."""

PATIENCE = 4.0
"""A half cycle is given up after this many times the nominal capacity at its current, and a day."""

REST = 600.0
"""Open circuit after each charge and discharge, s, as in the recipes: assumed, not published."""


class CellFailedError(OperandoError):
    """A cell did not reach the end of what was asked of it."""


@dataclass(frozen=True, slots=True)
class Half:
    """One charge or discharge.

    charge: passed, C, a magnitude. passed, voltage: C and V at every reading, at least both ends.
    """

    charge: float
    passed: npt.NDArray[np.float64]
    voltage: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DirectCycle:
    """A charge and the discharge after it."""

    charge: Half
    discharge: Half

    @property
    def efficiency(self) -> float:
        """Discharge over charge, fraction."""
        return self.discharge.charge / self.charge.charge


class DirectCell:
    """A cell and the time it has reached. cell: the model. now: s after assembly."""

    def __init__(self, cell: SimulatedCell | CellParameters | str, now: float = 0.0) -> None:
        """Take a cell, or assemble the nominal one of parameters or of a preset's name."""
        if isinstance(cell, str):
            cell = load_preset(cell).parameters
        self.cell = SimulatedCell(cell) if isinstance(cell, CellParameters) else cell
        self.now = now

    def current(self, rate: float) -> float:
        """Current of a C-rate, A."""
        return rate * self.cell.nominal_capacity / 3600.0

    def specific(self, charge: float) -> float:
        """A charge (C) in mAh per g of active material."""
        return charge / 3.6 / (1e3 * self.cell.active_mass)

    def rest(self, seconds: float = REST) -> float:
        """Wait at open circuit and return the voltage at the end, V."""
        self.cell.open_circuit(self.now)
        self.now += seconds
        return self.cell.terminal(self.now).voltage

    def half(self, rate: float, level: float, *, down_to: float = 0.0, polls: int = 0) -> Half:
        """Drive a current of a C-rate to a voltage (V), hold it while the rate is above `down_to`.

        down_to: a C-rate; 0 ends at the voltage. polls: readings in an hour over the rate; 0
        reads the ends alone. Raises CellFailedError if it takes too long.
        """
        cell, begun = self.cell, self.now
        start = cell.charge_passed(begun)
        cutoff = self.current(down_to) if down_to > 0.0 else math.inf
        deadline = begun + PATIENCE * 3600.0 / rate + 86400.0
        interval = 3600.0 / rate / polls if polls else math.inf
        cell.source_voltage(begun, level, self.current(rate))
        passed, voltage = [0.0], [cell.terminal(begun).voltage]
        ended = False
        while not ended:
            latest = min(self.now + interval, deadline)
            self.now = cell.run_until(cutoff, latest)
            ended = self.now < latest
            reading = cell.terminal(self.now).voltage
            if not math.isfinite(reading):
                raise CellFailedError(f"the voltage at {self.now:.0f} s is {reading}")
            if self.now >= deadline:
                raise CellFailedError(
                    f"{rate:g}C to {level} V, held down to {down_to:g}C, did not end within "
                    f"{deadline - begun:.0f} s; the voltage is {reading:.3f} V"
                )
            passed.append(abs(cell.charge_passed(self.now) - start))
            voltage.append(reading)
        return Half(passed[-1], np.array(passed), np.array(voltage))

    def cycle(
        self,
        charge_rate: float,
        discharge_rate: float,
        upper: float,
        lower: float = 2.5,
        *,
        down_to: float = 0.0,
        polls: int = 0,
    ) -> DirectCycle:
        """Charge, rest, discharge, rest; `down_to` (C-rate) ends the hold, 0 leaves it out."""
        charge = self.half(charge_rate, upper, down_to=down_to, polls=polls)
        self.rest()
        discharge = self.half(discharge_rate, lower, polls=polls)
        self.rest()
        return DirectCycle(charge, discharge)


# ---------------------------------------------------------------- the published protocols


def first_cycle(cell: DirectCell) -> DirectCycle:
    """C/10 between 2.5 and 4.25 V without a hold: V-01, V-02, V-03."""
    return cell.cycle(0.1, 0.1, 4.25)


def cycling(cell: DirectCell, cycles: int, upper: float) -> list[DirectCycle]:
    """A first cycle at C/10, then C/2 with a hold to 0.05C; the first cycle is left out.

    Of the first and the last of those given there is a curve.
    """
    cell.cycle(0.1, 0.1, upper)
    ends = (0, cycles - 1)
    return [
        cell.cycle(0.5, 0.5, upper, down_to=0.05, polls=CURVE if number in ends else 0)
        for number in range(cycles)
    ]


def half_charged(cell: DirectCell, lithiation: float = 0.5) -> None:
    """Bring a cell to a lithium content at C/10 and let it rest for 5 h."""
    capacity = cell.cell.parameters.charge_per_lithiation * cell.cell.active_mass
    for _ in range(4):
        # Not all charge that passes leaves the cathode: side reactions take their share.
        missing = (cell.cell.lithiation(cell.now) - lithiation) * capacity
        if abs(missing) < 1e-4 * capacity:
            break
        current = math.copysign(cell.current(0.1), missing)
        cell.cell.source_current(cell.now, current, 5.0)
        cell.now += missing / current
    cell.rest(5.0 * 3600.0)


def arc(cell: DirectCell) -> float:
    """Charge-transfer arc of a fresh, half-charged cell, ohm: V-08."""
    half_charged(cell)
    return cell.cell.charge_transfer_resistance(cell.now)


def direct_resistance(cell: DirectCell) -> float:
    """Resistance to a small current in the first millisecond after a rest, ohm."""
    before = cell.rest(3600.0)
    current = cell.current(1e-3)
    cell.cell.source_current(cell.now, current, 5.0)
    cell.now += 1e-3
    after = cell.cell.terminal(cell.now).voltage
    cell.cell.open_circuit(cell.now)
    return (after - before) / current


def gap_at_half(cycle: DirectCycle) -> float:
    """Charge voltage minus discharge voltage at half of each one's own charge, V."""
    charge, discharge = cycle.charge, cycle.discharge
    if min(len(charge.passed), len(discharge.passed)) < 10:
        raise ValueError("the cycle was read at its ends alone: ask for polls")
    up = np.interp(0.5 * charge.charge, charge.passed, charge.voltage)
    down = np.interp(0.5 * discharge.charge, discharge.passed, discharge.voltage)
    return float(up - down)


def titration(cell: DirectCell, pulse: float = 600.0, rest: float = 1800.0) -> float:
    """Diffusion coefficient of GITT on charge as published, cm2/s: V-15.

    C/10 pulses and rests (s) on a fresh cell up to 4.25 V, each by Weppner and Huggins with the
    length volume of active material over geometric electrode area; the ohmic jump at the start of
    a pulse is left out. Mean over the pulses between 10 and 90 % of the charge.
    """
    p = cell.cell.parameters
    length = 100.0 * p.active_loading / p.crystal_density  # cm
    current = cell.current(0.1)
    found: list[float] = []
    before = cell.rest(rest)
    while True:
        cell.cell.source_current(cell.now, current, 5.0)
        start = cell.cell.terminal(cell.now + 1e-3).voltage
        cell.now += pulse
        end = cell.cell.terminal(cell.now).voltage
        after = cell.rest(rest)
        if end != start:
            ratio = (after - before) / (end - start)
            found.append(4.0 / (math.pi * pulse) * (length * ratio) ** 2)
        before = after
        if end >= 4.25:
            break
        if len(found) > 400:
            raise CellFailedError("400 titration pulses did not reach 4.25 V")
    tenth = len(found) // 10
    return float(np.mean(found[tenth : len(found) - tenth]))
