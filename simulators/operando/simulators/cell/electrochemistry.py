"""Physics of the cell: potentials, resistances, and one implicit step of its state."""

import math

from operando.simulators.cell.ageing import Ageing
from operando.simulators.cell.diffusion import Sphere, tabulate
from operando.simulators.cell.materials import (
    FARADAY,
    GAS_CONSTANT,
    ncm811_potential,
    ncm811_strain,
)
from operando.simulators.cell.parameters import CellParameters
from operando.simulators.cell.state import Branch, Point, Regulation, Wear

NODES = 9
GRADING = 0.62
"""Grid of the particle: with a last shell of R/300, 1 s after a step of current is resolved."""

LEAK_IMPLICIT = 1e-2
"""Change of the leakage over a step, relative, above which it is found together with the voltage.
What is slower goes with the voltage at the step's beginning."""
STEEPEST_POTENTIAL = 1e3
"""Slope of the potential over the lithium content with which that change is bounded, V."""

EXCHANGE_FLOOR = 1e-3
"""Keeps the exchange current positive where x (1 - x) vanishes; in units of x (1 - x)."""


class Electrochemistry:
    """The laws of one cell at one temperature; it holds no state of the cell."""

    def __init__(self, parameters: CellParameters) -> None:
        """Take the parameters and tabulate their material functions."""
        p = parameters
        self.parameters = p
        self.ageing = Ageing(p)
        active_mass = p.active_loading * p.area
        self.sphere = Sphere(
            p.particle_radius, self._plateau_diffusivity, nodes=NODES, grading=GRADING
        )
        self.potential = ncm811_potential(p.potential_stretch)
        self.capacity = p.charge_per_lithiation * active_mass
        self.cathode_height = p.active_loading / p.crystal_density * p.cathode_accommodation
        self.ohmic = 0.0
        self._area = p.area
        self._film = p.fresh_film / p.area
        self._film_growth = p.interphase_resistance / p.area
        self._strain = tabulate(ncm811_strain(p.potential_stretch))
        self._plated_height = p.counter_expansion / p.area
        self._void_height = p.counter_void_charge * p.counter_expansion
        self._counter_swelling = p.counter_interphase_expansion
        self._formation_charge = p.formation_charge * active_mass
        self._assembled_offset = p.assembled_potential - self.potential(p.initial_lithiation)
        self._counter_potential = p.counter_potential
        self._fresh_strain = self.sphere.average(self._strain, [p.initial_lithiation] * NODES)
        self.set_temperature(p.reference_temperature)

    def _plateau_diffusivity(self, lithiation: float) -> float:
        """Return the diffusivity (m2/s) of the fresh cell at the reference temperature."""
        p = self.parameters
        beyond = (lithiation - p.diffusivity_knee) / p.diffusivity_knee_width
        # What only abuse reaches must not overflow the exponential.
        fall = 1.0 / (1.0 + math.exp(beyond if beyond < 500.0 else 500.0))
        return p.diffusivity * (p.diffusivity_floor + (1.0 - p.diffusivity_floor) * fall)

    def set_temperature(self, kelvin: float) -> None:
        """Set everything that depends on temperature, K."""
        p = self.parameters
        reference = p.reference_temperature

        def faster(activation_energy: float) -> float:
            return math.exp(activation_energy / GAS_CONSTANT * (1.0 / reference - 1.0 / kelvin))

        self._thermal_voltage = GAS_CONSTANT * kelvin / FARADAY
        # Butler-Volmer with equal transfer coefficients: the slope at zero current is RT / (F i0).
        slope = p.charge_transfer_resistance / p.area
        exchange = GAS_CONSTANT * reference / FARADAY / slope
        exchange /= _exchange_shape(p.charge_transfer_lithiation)
        self._exchange = exchange * faster(p.charge_transfer_activation_energy)
        # The product of conductivity and temperature follows Arrhenius.
        electrolyte = faster(p.electrolyte_activation_energy) * reference / kelvin
        ionic = p.separator_thickness / p.separator_conductivity
        ionic += p.cathode_ionic_resistance / 3.0
        self.ohmic = ionic / electrolyte / p.area
        colder = 1.0 / faster(p.counter_activation_energy) / p.area
        self._counter = p.counter_resistance * colder
        self._counter_growth = p.counter_interphase_resistance * colder
        self._diffusion_factor = faster(p.diffusivity_activation_energy)
        self.ageing.set_temperature(kelvin)

    def fresh(self, time: float) -> Point:
        """Return the state of the cell as assembled at a time (s), at open circuit."""
        x0 = self.parameters.initial_lithiation
        voltage = self.rest_voltage(x0, 0.0)
        wear = self.ageing.fresh()
        resistance = self.ohmic + self.counter_resistance(wear) + self.film_resistance(wear)
        return Point(
            time, [x0] * NODES, x0, 0.0, 0.0, voltage, 0.0, 0.0, 0.0, 0.0, 0.0, self._fresh_strain,
            resistance, 0.0, voltage + self.parameters.counter_potential, wear,
        )  # fmt: skip

    def height(self, point: Point) -> float:
        """Return what both electrodes have gained in thickness since assembly, m."""
        return self._height(point.charge - point.leaked, point.strain, point.wear)

    def _height(self, plated: float, strain: float, wear: Wear) -> float:
        """Return the same from the lithium plated (C), strain and wear.

        What has been plated and stripped leaves voids and its interphase behind: the part of the
        swelling that does not go back.
        """
        return (
            self._plated_height * plated
            + (strain - self._fresh_strain) * self.cathode_height
            + self._void_height * wear.void
            + self._counter_swelling * math.sqrt(wear.counter_square)
        )

    def rest_voltage(self, lithiation: float, positive: float) -> float:
        """Return the voltage (V) without current at a surface lithium content.

        positive: charge passed in the direction of charging since assembly, C; what is left of
        the difference between the cell as assembled and the model's curve fades with it.
        """
        voltage = self.potential(lithiation) - self.parameters.counter_potential
        passed = positive / self._formation_charge
        if passed < 40.0:
            voltage += self._assembled_offset * math.exp(-passed)
        return voltage

    def resistance(self, point: Point) -> float:
        """Return all of the cell that is ohmic, ohm: electrolyte, counter electrode and films."""
        wear = point.wear
        return self.ohmic + self.counter_resistance(wear) + self.film_resistance(wear)

    def counter_resistance(self, wear: Wear) -> float:
        """Return the resistance of the counter electrode, interphase and voids included, ohm."""
        grown = self._counter_growth * math.sqrt(wear.counter_square)
        return (self._counter + grown) / (1.0 - wear.void)

    def film_resistance(self, wear: Wear) -> float:
        """Return what coating, bare contact and interphase add to the arc, ohm."""
        return (self._film + self._film_growth * wear.interphase) / (wear.contact * wear.connected)

    def _formed(self, point: Point) -> float:
        """Return the share of a side current that reaches the cathode's lithium.

        Before the first charge it meets the surface state that makes the voltage of a cell as
        assembled: it sets in with the formation.
        """
        passed = point.positive / self._formation_charge
        return 1.0 if passed > 40.0 else 1.0 - math.exp(-passed)

    def exchange_current(self, lithiation: float, contact: float, connected: float) -> float:
        """Return the exchange current of the cathode at a surface lithium content, A."""
        return self._exchange * contact * connected * _exchange_shape(lithiation)

    def charge_transfer_resistance(
        self, lithiation: float, contact: float, connected: float
    ) -> float:
        """Return the Butler-Volmer slope at zero current, ohm."""
        return self._thermal_voltage / self.exchange_current(lithiation, contact, connected)

    def instant_voltage(self, point: Point, current: float) -> float:
        """Return the voltage (V) right after a change of current (A), before anything diffuses."""
        inner = current - point.side
        return self.voltage_at(point.x[-1], point.positive, inner, point.wear, point.resistance)

    def voltage_at(
        self, surface: float, positive: float, inner: float, wear: Wear, resistance: float
    ) -> float:
        """Return the voltage (V) at a surface lithium content and a current in the cell (A)."""
        exchange = 2.0 * self._exchange * wear[0] * wear[1] * _exchange_shape(surface)
        return (
            self.rest_voltage(surface, positive)
            + 2.0 * self._thermal_voltage * math.asinh(inner / exchange)
            + inner * resistance
        )

    def instant_current(self, point: Point, branch: Branch) -> float:
        """Return the current (A) right after a change to a held voltage."""
        surface, positive = (point.x[-1], 0.0), (point.positive, 0.0)
        side, wear = point.side, point.wear
        inner = self._hold(
            branch.level - side * branch.resistance,
            self._exchange * wear[0] * wear[1],
            point.resistance + branch.resistance,
            surface,
            positive,
            point.current - side,
        )
        return inner + side

    def held_current(
        self, surface: float, point: Point, resistance: float, branch: Branch, guess: float
    ) -> float:
        """Return the current (A) of a held voltage at a surface lithium content.

        point: where the step began. resistance: of the cell, ohm. guess: A.
        """
        side, wear = point.side, point.wear
        inner = self._hold(
            branch.level - side * branch.resistance,
            self._exchange * wear[0] * wear[1],
            resistance + branch.resistance,
            (surface, 0.0),
            (point.positive, 0.0),
            guess - side,
        )
        return inner + side

    def _hold(
        self,
        level: float,
        exchange: float,
        resistance: float,
        surface: tuple[float, float],
        positive: tuple[float, float],
        guess: float,
    ) -> float:
        """Return the current inside the cell (A) at which a voltage (V) is the one held.

        exchange: of the cathode before its shape, A. resistance: with the leads, ohm.
        surface: (a, b), lithium content at the surface a - b * current.
        positive: (a, b), charge passed in charging a + b * current, C. guess: A.
        """
        free, response = surface
        passed, weight = positive
        exchange *= 2.0
        thermal = 2.0 * self._thermal_voltage
        slope_of = self.potential.slope
        low, high = -math.inf, math.inf
        current = guess
        for _ in range(80):
            x = free - response * current
            scale = exchange * _exchange_shape(x)
            deviation = (
                self.rest_voltage(x, passed + weight * max(current, 0.0))
                + thermal * math.asinh(current / scale)
                + current * resistance
                - level
            )
            if deviation > 0.0:
                high = current
            elif deviation < 0.0:
                low = current
            else:
                break
            slope = resistance + thermal / math.hypot(current, scale) - response * slope_of(x)
            trial = current - deviation / slope
            if not low < trial < high and math.isfinite(low + high):
                # The voltage rises with the current, so that the answer lies between the bounds.
                trial = 0.5 * (low + high)
            last = abs(trial - current) <= 1e-16 + 1e-7 * abs(current)
            current = trial
            if last:
                # Newton's rule squares the relative error: what is left is rounding.
                break
        return current

    def step(self, before: Point | None, begin: Point, branch: Branch, length: float) -> Point:
        """Return the state a time (s) after a point.

        before: the point before that one on the same stretch of control, for the second order;
            None makes a step of first order.
        branch: what the source holds during the step.
        """
        wear = begin.wear
        contact, connected, isolated = wear[0], wear[1], wear[2]
        resistance = begin.resistance
        mean, charge, leaked = begin.mean, begin.charge, begin.leaked
        positive, oxidised = begin.positive, begin.oxidised
        if before is None:
            ratio, weight, earlier = 0.0, length, None
        else:
            ratio = length / (begin.time - before.time)
            denominator = 1.0 + 2.0 * ratio
            c1 = (1.0 + ratio) * (1.0 + ratio) / denominator
            c2 = ratio * ratio / denominator
            weight = length * (1.0 + ratio) / denominator
            earlier = before.x
            past = before.wear
            mean = c1 * mean - c2 * before.mean
            charge = c1 * charge - c2 * before.charge
            positive = c1 * positive - c2 * before.positive
            leaked = c1 * leaked - c2 * before.leaked
            oxidised = c1 * oxidised - c2 * before.oxidised
            isolated = c1 * isolated - c2 * (past[2] + (past[1] - connected) * before.mean)
            # What ages is carried on to the end of the step: it moves by parts in a thousand
            # over hundreds of steps, but its lag would show where the control changes.
            contact += ratio * (contact - past[0])
            resistance += ratio * (resistance - before.resistance)
        # Less contact lengthens the way of the lithium: diffusivity falls with its square.
        sphere = self.sphere
        factor = self._diffusion_factor * contact * contact
        free, inflow = sphere.eliminate(begin.x, earlier, h=length, ratio=ratio, factor=factor)
        capacity = self.capacity * connected
        response = inflow / capacity
        conductance = self.ageing.conductance
        oxidation = wear[12]
        if begin.positive < 40.0 * self._formation_charge:
            formed = self._formed(begin)
            conductance *= formed
            oxidation *= formed
        leak = conductance * begin.voltage
        side = leak + oxidation
        exchange = self._exchange * contact * connected
        if branch.regulation is Regulation.VOLTAGE:
            guess = begin.current
            if before is not None:
                guess += ratio * (guess - before.current)
            inner = self._hold(
                branch.level - side * branch.resistance,
                exchange,
                resistance + branch.resistance,
                (free, response),
                (positive + weight * max(side, 0.0), weight),
                guess - side,
            )
            current = inner + side
            surface = free - response * inner
        else:
            current = branch.level
            inner = current - side
            if conductance * (resistance + STEEPEST_POTENTIAL * response) > LEAK_IMPLICIT:
                # What leaks depends on the voltage that it lowers: a source behind a resistor.
                own = current - oxidation
                behind = 1.0 / conductance
                inner = self._hold(
                    own * behind,
                    exchange,
                    resistance + behind,
                    (free, response),
                    (positive + weight * max(current, 0.0), 0.0),
                    inner,
                )
                leak = own - inner
                side = leak + oxidation
            surface = free - response * inner
        x, strain = sphere.complete(surface, self._strain)
        charge += weight * current
        if current > 0.0:
            positive += weight * current
        mean -= weight * inner / capacity
        potential = begin.potential
        if before is not None:
            potential += 0.5 * ratio * (potential - before.potential)
        wear = self.ageing.after(
            wear,
            length,
            begin.strain,
            strain,
            potential,
            -inner / self._area,
            self._height(charge - leaked - weight * leak, strain, wear),
            isolated,
            mean,
        )
        # The same laws as at a change of control, so that nothing jumps where none happens.
        counter = self.counter_resistance(wear)
        resistance = self.ohmic + counter + self.film_resistance(wear)
        shown = current
        if branch.regulation is Regulation.VOLTAGE:
            if before is not None:
                # The formula's slope of the charge leaves out h (h + h') / 6 of its third
                # derivative: with it, what flows adds up to what has passed.
                shown += (current - begin.current - ratio * (begin.current - before.current)) / 3.0
            voltage = branch.level - shown * branch.resistance
        else:
            voltage = self.voltage_at(surface, positive, inner, wear, resistance)
        return Point(
            begin.time + length, x, mean, current, shown, voltage, charge, positive,
            begin.throughput + abs(charge - begin.charge), leaked + weight * leak,
            oxidised + weight * oxidation, strain, resistance, side,
            voltage + self._counter_potential - current * self.ohmic - inner * counter, wear,
        )  # fmt: skip


def _exchange_shape(lithiation: float) -> float:
    """Return the exchange current's dependence on lithium content, sqrt(x (1 - x)), kept positive.

    The square root is the usual closure; the floor stands for what is left at the ends of the
    range, where nothing is measured, and keeps abused cells finite.
    """
    y = lithiation * (1.0 - lithiation)
    root = math.sqrt(y * y + _FLOOR_SQUARED)
    if y >= 0.0:
        return math.sqrt(0.5 * (y + root))
    # The same without the difference of two nearly equal numbers, which could come out as 0.
    return max(math.sqrt(0.5 * _FLOOR_SQUARED / (root - y)), 1e-150)


_FLOOR_SQUARED = 4.0 * EXCHANGE_FLOOR * EXCHANGE_FLOOR
