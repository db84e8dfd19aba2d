"""Cells with a lithium interface on each side of the electrolyte: Li|SE|Li and steel|SE|Li.

Each interface has lithium, an interphase, voids, and a filament that grows from it while it is
plated. Voltage, impedance and thickness come from that one state. Equations, parameters and
sources: `docs/explanation/other-cells.md`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from operando.simulators.cell.elements import arc, arrhenius
from operando.simulators.cell.materials import FARADAY, GAS_CONSTANT
from operando.simulators.cell.quantities import check, clipped
from operando.simulators.cell.stepped import SteppedCell, Values

LEAST_CONTACT = 1e-3
"""Contact below which the model does not go: a further loss would end in a division by 0."""

MOST_VOIDS = 0.99
"""Void fraction beyond which the model does not go: what is left is the edge of the electrode."""

MOST_DRIVE = 40.0
"""Exponent of oxidation beyond which it grows no more; it keeps every number finite."""

LARGEST_GROWTH = 1e6
"""Filament growth, in units of the rate at the filament's current, beyond which it is cut."""


@dataclass(frozen=True, slots=True)
class LithiumParameters:
    """Everything that makes one lithium cell, in SI units; per geometric area where not said.

    A number outside its physical range raises ValueError.
    """

    area: float
    """Electrode area, m2."""
    separator_thickness: float
    """m."""
    separator_conductivity: float
    """Ionic, at the reference temperature, S/m."""
    separator_electronic_conductivity: float
    """S/m."""
    electrolyte_activation_energy: float
    """Of conductivity times temperature, J/mol."""

    working_lithium: float
    """Lithium on the positive terminal as assembled, C/m2; 0 is bare steel."""
    counter_lithium: float
    """Lithium on the negative terminal as assembled, C/m2."""
    bare_potential: float
    """Potential of a collector without lithium, V vs Li."""
    bare_charge: float
    """Lithium on a collector below which its potential leaves that of the metal (1/e), C/m2."""
    blocking_capacitance: float
    """Capacitance of a collector from which there is nothing to strip, F/m2."""
    oxidation_current: float
    """At which a collector without lithium oxidises what touches it, at the onset, A/m2."""
    oxidation_onset: float
    """Potential at which that current holds, V vs Li."""
    oxidation_scale: float
    """Potential that multiplies it by e, V."""
    nucleation_charge: float
    """Plated charge over which lithium covers bare steel (1/e) at the nucleation current, C/m2."""
    nucleation_current: float
    """Current density at which that charge holds, A/m2."""
    nucleation_exponent: float
    """Power of the current with which that charge falls."""

    interface_resistance: float
    """Of one lithium interface as assembled, in full contact, ohm m2."""
    interface_activation_energy: float
    """J/mol."""
    exchange_current: float
    """Exchange current density of one interface in full contact, A/m2."""
    exchange_activation_energy: float
    """J/mol."""
    contact_pressure: float
    """Stack pressure at which contact is full, Pa."""
    contact_exponent: float
    """Power of the pressure with which contact falls below it."""

    interphase_rate: float
    """Parabolic rate of lithium consumption by one interphase, C/(m2 s^0.5)."""
    interphase_reaction: float
    """Rate of consumption while nothing is in the way, C/(m2 s)."""
    interphase_volume: float
    """Thickness of interphase per charge, m3/C."""
    interphase_resistivity: float
    """Ohm m."""
    interphase_activation_energy: float
    """Of the parabolic constant, rate squared, J/mol."""

    stack_pressure: float
    """Pa."""
    stripping_limit: float
    """Current density that creep replenishes at the stripping pressure, A/m2."""
    stripping_pressure: float
    """Pa."""
    stripping_exponent: float
    """Power of the pressure with which creep replenishes."""
    creep_activation_energy: float
    """J/mol."""
    void_height: float
    """Depth of lithium whose loss takes all contact, m."""

    filament_current: float
    """Local current density at which a filament begins to grow at the rate below, A/m2."""
    filament_time: float
    """Time in which it would cross the separator at that rate, s."""
    filament_exponent: float
    """Power of the local current density with which a filament grows."""
    filament_activation_energy: float
    """Of the filament current, J/mol."""
    soft_short: float
    """Share of the separator beyond which a filament conducts a little."""
    soft_conductance: float
    """Electronic conductance of a filament just before it has crossed, S/m2."""
    hard_conductance: float
    """Electronic conductance of one that has crossed, S/m2."""
    creep_short_time: float
    """Time in which lithium creeps through the separator at the creep short pressure, s."""
    creep_short_pressure: float
    """Pa."""
    creep_short_exponent: float
    """Power of the pressure with which it creeps."""
    barrier_depth: float
    """Share of the separator at which an inner layer begins that holds filaments; 1 is none."""
    barrier_growth: float
    """Growth of a filament in that layer, relative to the rest."""

    grain_boundary_share: float
    """Share of the separator's resistance that lies in its grain boundaries."""
    grain_boundary_capacitance: float
    """Constant-phase coefficient of the grain boundaries, F s^(a-1)/m2."""
    grain_boundary_exponent: float
    """Its exponent a."""
    interface_capacitance: float
    """Constant-phase coefficient of one lithium interface, F s^(a-1)/m2."""
    interface_exponent: float
    """Its exponent a."""

    lithium_expansion: float
    """Volume of lithium per charge, m3/C."""
    reference_temperature: float
    """Temperature at which the numbers above hold, and of the cell until told otherwise, K."""

    spread_separator: float
    """Relative standard deviation of the separator thickness between cells."""
    spread_interface: float
    """Relative standard deviation of the interface resistance."""
    spread_filament: float
    """Relative standard deviation of the filament current: pores and scratches differ."""

    def __post_init__(self) -> None:
        """Refuse what is unphysical."""
        check(self)

    def manufactured(self, seed: int) -> LithiumParameters:
        """Return the parameters of one cell of a batch; seed 0 is the nominal cell.

        All three are normally distributed in their logarithm, cut at 2.5 standard deviations,
        and at the ends of their physical ranges.
        """
        if seed == 0:
            return self

        def factor(name: str, spread: float) -> float:
            deviate = random.Random(f"{name}/{seed}").gauss(0.0, 1.0)
            return math.exp(spread * max(-2.5, min(2.5, deviate)))

        values = clipped(
            separator_thickness=self.separator_thickness
            * factor("separator", self.spread_separator),
            interface_resistance=self.interface_resistance
            * factor("interface", self.spread_interface),
            filament_current=self.filament_current * factor("filament", self.spread_filament),
        )
        return replace(self, **values)


class Side(NamedTuple):
    """State of one interface."""

    lithium: float
    """Metallic lithium, C/m2; a little below 0 a collector is charged like a capacitor."""
    interphase: float
    """Lithium used up by the interphase, C/m2."""
    coverage: float
    """Share of the collector that lithium covers."""
    voids: float
    """Share of the interface lost to voids."""
    filament: float
    """Length of the longest filament over the separator's thickness."""


class LithiumState(NamedTuple):
    """Inner state of a lithium cell: truth, which no instrument shows."""

    time: float
    """Laboratory time, s."""
    working: Side
    """At the positive terminal."""
    counter: Side
    """At the negative terminal."""
    shunt: float
    """Electronic conductance across the separator, S."""


class LithiumCell(SteppedCell):
    """A symmetric lithium cell, or lithium plated on steel, behind the usual electrical port."""

    def __init__(
        self, parameters: LithiumParameters, *, seed: int | None = 0, start: float = 0.0
    ) -> None:
        """Assemble a cell; seed: which of the batch, 0 or None is the nominal one."""
        p = parameters.manufactured(seed or 0)
        self.parameters = p
        self._pressure = p.stack_pressure
        self._leak = p.separator_electronic_conductivity / p.separator_thickness
        # Lithium that the voids hold when they take all contact, C/m2.
        self._void_charge = p.void_height / p.lithium_expansion
        sides = (
            Side(p.working_lithium, 0.0, 1.0 if p.working_lithium > 0.0 else 0.0, 0.0, 0.0),
            Side(p.counter_lithium, 0.0, 1.0 if p.counter_lithium > 0.0 else 0.0, 0.0, 0.0),
        )
        super().__init__(
            (*sides[0], *sides[1]),
            area=p.area,
            temperature=p.reference_temperature,
            start=start,
        )

    # -- mechanics

    @property
    def stack_pressure(self) -> float:
        """Pressure on the stack, Pa."""
        return self._pressure

    def set_stack_pressure(self, now: float, pascal: float, stiffness: float | None = None) -> None:
        """Set the pressure on the stack from a time on, Pa; it then stays.

        stiffness: of the frame, Pa/m; taken for the sake of the common face and without effect,
        as lithium leaves one side while it arrives on the other. Raises ValueError for what is
        negative or not finite.
        """
        for name, value in (("pressure", pascal), ("stiffness", stiffness or 0.0)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and not negative, not {value!r}")
        if pascal == self._pressure:
            self.advance(now)
            return
        self._cut(now)
        self._pressure = pascal
        self._set_temperature(self._temperature)
        self._engage()

    def thickness_change(self, now: float) -> float:
        """Return what the stack has gained since assembly, m: the voids that keep their room.

        Lithium leaves one side as it arrives on the other; what an interphase uses up is taken to
        keep its room.
        """
        state = self.state(now)
        return self.parameters.void_height * (state.working.voids + state.counter.voids)

    # -- truth

    def state(self, now: float) -> LithiumState:
        """Return the inner state at a time."""
        self.advance(now)
        values = self._values()
        return LithiumState(
            now, Side(*values[:5]), Side(*values[5:]), self._shunt(values) * self.area
        )

    def open_circuit_voltage(self, now: float) -> float:
        """Return the voltage without current and without a short, V."""
        state = self.state(now)
        return self._potential(state.working.lithium) - self._potential(state.counter.lithium)

    def interface_resistances(self, now: float) -> tuple[float, float]:
        """Return the small-signal resistance of both interfaces, working and counter, ohm."""
        state = self.state(now)
        working, counter = (
            self._film(side) / self.area + self._kinetic_slope(side) / self.area
            for side in (state.working, state.counter)
        )
        return working, counter

    def impedance(self, frequency: ArrayLike, now: float) -> NDArray[np.complex128]:
        """Return the impedance at frequencies (Hz), ohm; frozen state, no diffusion in lithium."""
        state, p, area = self.state(now), self.parameters, self.area
        omega = 2.0 * np.pi * np.asarray(frequency, dtype=np.float64)
        separator = self._separator / area
        grains = p.grain_boundary_share * separator
        z = (separator - grains) + arc(
            omega, grains, p.grain_boundary_capacitance * area, p.grain_boundary_exponent
        )
        for side in (state.working, state.counter):
            contact = self._contact(side)
            resistance = (self._film(side) + self._kinetic_slope(side)) / area
            z = z + arc(
                omega, resistance, p.interface_capacitance * area * contact, p.interface_exponent
            )
            slope = -self._potential_slope(side.lithium) / area
            if slope > 0.0:
                # A collector without lithium blocks: its potential moves with the charge on it.
                passes = self._oxidation(side.lithium) / p.oxidation_scale * area
                z = z + slope / (1j * omega + slope * passes)
        return np.asarray(1.0 / (1.0 / z + state.shunt), dtype=np.complex128)

    # -- laws

    def _set_temperature(self, kelvin: float) -> None:
        p = self.parameters
        reference = p.reference_temperature
        conducts = arrhenius(p.electrolyte_activation_energy, reference, kelvin)
        self._separator = p.separator_thickness / p.separator_conductivity
        self._separator *= kelvin / reference / conducts
        self._thermal = 2.0 * GAS_CONSTANT * kelvin / FARADAY
        self._interface = p.interface_resistance / arrhenius(
            p.interface_activation_energy, reference, kelvin
        )
        film = arrhenius(p.electrolyte_activation_energy, reference, kelvin)
        self._interphase_film = p.interphase_resistivity * p.interphase_volume / film
        self._exchange = p.exchange_current * arrhenius(
            p.exchange_activation_energy, reference, kelvin
        )
        grows = arrhenius(p.interphase_activation_energy, reference, kelvin)
        self._parabolic = 1.0 / (p.interphase_rate**2 * grows)
        self._linear = 1.0 / (p.interphase_reaction * grows)
        creeps = arrhenius(p.creep_activation_energy, reference, kelvin)
        self._replenished = (
            p.stripping_limit
            * creeps
            * (self._pressure / p.stripping_pressure) ** p.stripping_exponent
        )
        self._creep_short = (
            creeps
            / p.creep_short_time
            * (self._pressure / p.creep_short_pressure) ** p.creep_short_exponent
        )
        self._filament = p.filament_current * arrhenius(
            p.filament_activation_energy, reference, kelvin
        )
        pressed: float = min(self._pressure / p.contact_pressure, 1.0) ** p.contact_exponent
        self._pressed = max(pressed, LEAST_CONTACT)

    def _contact(self, side: Side) -> float:
        return max(self._pressed * side.coverage * (1.0 - side.voids), LEAST_CONTACT)

    def _film(self, side: Side) -> float:
        """Return the ohmic resistance of an interface with its interphase, ohm m2."""
        return (self._interface + self._interphase_film * side.interphase) / self._contact(side)

    def _kinetic_slope(self, side: Side) -> float:
        """Return the slope of the kinetics at zero current, ohm m2."""
        return self._thermal / (2.0 * self._exchange * self._contact(side))

    def _potential(self, lithium: float) -> float:
        """Return the potential of a collector by the lithium on it (C/m2), V vs Li."""
        p = self.parameters
        if lithium < 0.0:
            return p.bare_potential - lithium / p.blocking_capacitance
        return p.bare_potential * math.exp(-lithium / p.bare_charge)

    def _potential_slope(self, lithium: float) -> float:
        """Return the derivative of that, V m2/C; never positive."""
        p = self.parameters
        if lithium < 0.0:
            return -1.0 / p.blocking_capacitance
        return -p.bare_potential / p.bare_charge * math.exp(-lithium / p.bare_charge)

    def _oxidation(self, lithium: float) -> float:
        """Return the current that oxidises what touches a bare collector, A/m2."""
        p = self.parameters
        if lithium >= 0.0 or p.oxidation_current == 0.0:
            return 0.0
        drive = (self._potential(lithium) - p.oxidation_onset) / p.oxidation_scale
        return p.oxidation_current * math.exp(min(drive, MOST_DRIVE))

    def _left(self, lithium: float, stripping: float, length: float) -> float:
        """Return the lithium (C/m2) after a step with a current density that strips it (A/m2).

        What a bare collector passes to oxidation does not charge it. The equation is implicit in
        its potential; Newton's rule comes down to the answer from one side.
        """
        p = self.parameters
        left = free = lithium - stripping * length
        if free >= 0.0 or p.oxidation_current == 0.0:
            return left
        for _ in range(200):
            oxidation = self._oxidation(left)
            slope = 1.0 + length * oxidation / (p.oxidation_scale * p.blocking_capacitance)
            change = (left - free - length * oxidation) / slope
            left -= change
            if left >= 0.0:
                return 0.0
            if abs(change) <= 1e-13 + 1e-10 * abs(left):
                break
        return left

    def _shunt(self, values: Values) -> float:
        """Return the electronic conductance across the separator, S/m2."""
        p = self.parameters
        length = max(values[4], values[9])
        if length >= 1.0:
            return self._leak + p.hard_conductance
        beyond = (length - p.soft_short) / (1.0 - p.soft_short)
        return self._leak + p.soft_conductance * max(beyond, 0.0) ** 2

    def _respond(self, values: Values, current: float, length: float) -> tuple[float, Values]:
        working, counter = Side(*values[:5]), Side(*values[5:])
        linear = self._separator + self._film(working) + self._film(counter)
        at_working = 2.0 * self._exchange * self._contact(working)
        at_counter = 2.0 * self._exchange * self._contact(counter)
        thermal, total, shunt = self._thermal, current / self.area, self._shunt(values)

        # What does not pass as ions passes through the shunt: ionic + shunt * voltage = total.
        low, high = -math.inf, math.inf
        ionic = total
        for _ in range(100):
            left = self._left(working.lithium, ionic, length)
            arrived = self._left(counter.lithium, -ionic, length)
            voltage = (
                ionic * linear
                + thermal * (math.asinh(ionic / at_working) + math.asinh(ionic / at_counter))
                + self._potential(left)
                - self._potential(arrived)
            )
            excess = ionic + shunt * voltage - total
            if excess > 0.0:
                high = ionic
            elif excess < 0.0:
                low = ionic
            else:
                break
            slope = linear + thermal / math.hypot(ionic, at_working)
            slope += thermal / math.hypot(ionic, at_counter)
            slope -= length * (self._potential_slope(left) + self._potential_slope(arrived))
            trial = ionic - excess / (1.0 + shunt * slope)
            if not low < trial < high and math.isfinite(low + high):
                trial = 0.5 * (low + high)
            last = abs(trial - ionic) <= 1e-15 + 1e-9 * abs(ionic)
            ionic = trial
            if last:
                break
        if length <= 0.0:
            return voltage, values
        return voltage, (
            *self._aged(working, ionic, length),
            *self._aged(counter, -ionic, length),
        )

    def _aged(self, side: Side, stripping: float, length: float) -> Side:
        """Return an interface after a step with a current density that strips it (A/m2)."""
        p = self.parameters
        lithium, interphase, coverage, voids, filament = side
        # Nuclei on bare steel are many and small: they concentrate no current over the separator.
        local = stripping / max(self._pressed * (1.0 - side.voids), LEAST_CONTACT)
        lithium = self._left(lithium, stripping, length)
        # Growth is parabolic once the reaction itself is no longer what limits it; without
        # lithium there is none.
        supply = 1.0 - math.exp(-max(lithium, 0.0) / p.bare_charge)
        if supply > 0.0:
            a, b = self._parabolic, self._linear
            c = a * interphase * interphase + b * interphase + supply * length
            grown = 2.0 * c / (b + math.sqrt(b * b + 4.0 * a * c))
            grown = min(max(grown - interphase, 0.0), max(lithium, 0.0))
            interphase += grown
            lithium -= grown
        if stripping < 0.0 and coverage < 1.0:
            # Not as a charge to divide by: a current may be as small as a float can say.
            share = (-stripping / p.nucleation_current) ** p.nucleation_exponent
            covered = stripping * length * share / p.nucleation_charge
            coverage = 1.0 - (1.0 - coverage) * math.exp(covered)
        voids += (max(stripping, 0.0) - self._replenished) * length / self._void_charge
        voids = min(max(voids, 0.0), MOST_VOIDS)
        growth = self._creep_short
        if local < 0.0:
            strength = (-local / self._filament) ** p.filament_exponent
            # The less electrolyte is left before its tip, the more current goes there.
            ahead = max(1.0 - filament, 0.01)
            growth += min(strength, LARGEST_GROWTH) / p.filament_time / ahead
        if filament >= p.barrier_depth:
            growth *= p.barrier_growth
        filament = min(filament + growth * length, 1.0)
        return Side(lithium, interphase, coverage, voids, filament)

    def _change(self, begin: Values, end: Values) -> float:
        most = 0.0
        for i in (0, 5):
            before, after = self._potential(begin[i]), self._potential(end[i])
            most = max(most, abs(after - before) / (5e-3 + 0.02 * min(abs(before), abs(after))))
            most = max(most, abs(end[i + 2] - begin[i + 2]) / (0.02 + 0.1 * begin[i + 2]))
            most = max(most, abs(end[i + 3] - begin[i + 3]) / (0.02 * (1.001 - begin[i + 3])))
            most = max(most, abs(end[i + 4] - begin[i + 4]) / 0.01)
        return most
