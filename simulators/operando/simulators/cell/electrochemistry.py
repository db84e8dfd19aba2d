"""Physics of the cell: potentials, resistances, and one implicit step of its state."""

import math

from operando.simulators.cell.diffusion import Sphere, tabulate
from operando.simulators.cell.materials import (
    FARADAY,
    GAS_CONSTANT,
    ncm811_potential,
    ncm811_strain,
)
from operando.simulators.cell.parameters import CellParameters
from operando.simulators.cell.state import Branch, Point, Regulation

NODES = 22
GRADING = 0.82
"""Grid of the particle: with the last distance R/350, 1 s after a step of current is resolved."""

EXCHANGE_FLOOR = 1e-3
"""Keeps the exchange current positive where x (1 - x) vanishes; in units of x (1 - x)."""

LEAST_CONTACT = 1e-3
"""Contact fraction below which the model does not go: further loss would end in a division by 0."""

LEAST_CONNECTED = 0.05
"""Connected fraction below which the model does not go: a cell without cathode is no cell."""


class Electrochemistry:
    """The laws of one cell at one temperature; it holds no state of the cell."""

    def __init__(self, parameters: CellParameters) -> None:
        """Take the parameters and tabulate their material functions."""
        p = parameters
        self.parameters = p
        active_mass = p.active_loading * p.area
        self.sphere = Sphere(
            p.particle_radius, self._plateau_diffusivity, nodes=NODES, grading=GRADING
        )
        self.potential = ncm811_potential(p.potential_stretch)
        self.capacity = p.charge_per_lithiation * active_mass
        self.cathode_height = p.active_loading / p.crystal_density * p.cathode_accommodation
        self.ohmic = 0.0
        self._strain = tabulate(ncm811_strain())
        self._onset_voltage = p.interphase_onset - p.counter_potential
        self._formation_charge = p.formation_charge * active_mass
        self._assembled_offset = p.assembled_potential - self.potential(p.initial_lithiation)
        self.set_temperature(p.reference_temperature)

    def _plateau_diffusivity(self, lithiation: float) -> float:
        """Return the diffusivity (m2/s) of the fresh cell at the reference temperature."""
        p = self.parameters
        fall = 1.0 / (1.0 + math.exp((lithiation - p.diffusivity_knee) / p.diffusivity_knee_width))
        return p.diffusivity * (p.diffusivity_floor + (1.0 - p.diffusivity_floor) * fall)

    def set_temperature(self, kelvin: float) -> None:
        """Set everything that depends on temperature, K."""
        p = self.parameters
        reference = p.reference_temperature

        def faster(activation_energy: float) -> float:
            return math.exp(activation_energy / GAS_CONSTANT * (1.0 / reference - 1.0 / kelvin))

        self._thermal_voltage = GAS_CONSTANT * kelvin / FARADAY
        # Butler-Volmer with equal transfer coefficients: the slope at zero current is RT / (F i0).
        slope = (p.charge_transfer_resistance - p.coating_resistance) / p.area
        exchange = GAS_CONSTANT * reference / FARADAY / slope
        exchange /= _exchange_shape(p.charge_transfer_lithiation)
        self._exchange = exchange * faster(p.charge_transfer_activation_energy)
        # The product of conductivity and temperature follows Arrhenius.
        electrolyte = faster(p.electrolyte_activation_energy) * reference / kelvin
        ionic = p.separator_thickness / p.separator_conductivity
        ionic += p.cathode_ionic_resistance / 3.0
        counter = p.counter_resistance / faster(p.counter_activation_energy)
        self.ohmic = (ionic / electrolyte + counter) / p.area
        self._diffusion_factor = faster(p.diffusivity_activation_energy)
        self._interphase_rate = p.interphase_growth * faster(p.interphase_activation_energy)

    def fresh(self, time: float) -> Point:
        """Return the state of the cell as assembled at a time (s), at open circuit."""
        p = self.parameters
        x = [p.initial_lithiation] * NODES
        voltage = self.rest_voltage(p.initial_lithiation, 0.0)
        strain = self.sphere.average(self._strain, x)
        return Point(time, x, 0.0, voltage, 0.0, 0.0, 0.0, strain, 1.0, 1.0, 0.0)

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
        """Return all of the cell that is ohmic, ohm: separator, ions' way, counter, films."""
        return self.ohmic + self.film_resistance(point.interphase, point.contact)

    def film_resistance(self, interphase: float, contact: float) -> float:
        """Return the resistance of coating and cathode interphase (thickness in m), ohm."""
        p = self.parameters
        return (p.coating_resistance + p.interphase_resistance * interphase) / p.area / contact

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
        surface = point.x[-1]
        exchange = 2.0 * self.exchange_current(surface, point.contact, point.connected)
        return (
            self.rest_voltage(surface, point.positive)
            + 2.0 * self._thermal_voltage * math.asinh(current / exchange)
            + current * self.resistance(point)
        )

    def instant_current(self, point: Point, branch: Branch) -> float:
        """Return the current (A) right after a change to a held voltage."""
        surface, positive = (point.x[-1], 0.0), (point.positive, 0.0)
        return self._hold(branch, point, surface, positive, point.current)

    def _hold(
        self,
        branch: Branch,
        point: Point,
        surface: tuple[float, float],
        positive: tuple[float, float],
        guess: float,
    ) -> float:
        """Return the current (A) at which the source's voltage is the one held.

        surface: (a, b), lithium content at the surface a - b * current.
        positive: (p, w), charge in charging direction p + w * max(current, 0).
        guess: where the search begins, A.
        """
        free, response = surface
        passed, weight = positive
        exchange = 2.0 * self._exchange * point.contact * point.connected
        resistance = self.resistance(point) + branch.resistance
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
                - branch.level
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
            last = abs(trial - current) <= 1e-16 + 1e-8 * abs(current)
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
        contact, connected = begin.contact, begin.connected
        charge, positive, throughput = begin.charge, begin.positive, begin.throughput
        if before is None:
            ratio, weight, earlier = 0.0, length, None
        else:
            ratio = length / (begin.time - before.time)
            denominator = 1.0 + 2.0 * ratio
            c1 = (1.0 + ratio) * (1.0 + ratio) / denominator
            c2 = ratio * ratio / denominator
            weight = length * (1.0 + ratio) / denominator
            earlier = before.x
            charge = c1 * charge - c2 * before.charge
            positive = c1 * positive - c2 * before.positive
            throughput = c1 * throughput - c2 * before.throughput
        # Less contact lengthens the way of the lithium: diffusivity falls with its square.
        sphere = self.sphere
        factor = self._diffusion_factor * contact * contact
        free, inflow = sphere.eliminate(begin.x, earlier, h=length, ratio=ratio, factor=factor)
        response = inflow / (self.capacity * connected)
        if branch.regulation is Regulation.VOLTAGE:
            guess = begin.current
            if before is not None:
                guess += ratio * (guess - before.current)
            current = self._hold(branch, begin, (free, response), (positive, weight), guess)
            surface = free - response * current
            voltage = branch.level - current * branch.resistance
        else:
            current = branch.level
            surface = free - response * current
            voltage = self.rest_voltage(surface, positive + weight * max(current, 0.0))
            if current != 0.0:
                exchange = 2.0 * self._exchange * contact * connected * _exchange_shape(surface)
                voltage += 2.0 * self._thermal_voltage * math.asinh(current / exchange)
                voltage += current * self.resistance(begin)
        x, strain = sphere.complete(surface, self._strain)
        moved = weight * current
        charge += moved
        if moved > 0.0:
            positive += moved
            throughput += moved
        else:
            throughput -= moved

        # Slow changes are explicit: they move by parts in a thousand over hundreds of steps.
        p = self.parameters
        contact *= math.exp(-p.contact_loss * abs(strain - begin.strain))
        contact = max(contact, LEAST_CONTACT)
        if contact < p.connection_threshold:
            connected -= p.connection_loss * (begin.contact - contact)
            connected = max(connected, LEAST_CONNECTED)
        # Growth saturates: an abused cell must not overflow the exponential.
        interphase = begin.interphase
        drive = (begin.voltage - self._onset_voltage) / p.interphase_voltage_scale
        drive = -40.0 if drive < -40.0 else 10.0 if drive > 10.0 else drive
        rate = self._interphase_rate / (1.0 + interphase / p.interphase_scale)
        interphase += length * rate * math.exp(drive)
        time = begin.time + length
        return Point(
            time, x, current, voltage, charge, positive, throughput, strain,
            contact, connected, interphase,
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
    return math.sqrt(0.5 * _FLOOR_SQUARED / (root - y))


_FLOOR_SQUARED = 4.0 * EXCHANGE_FLOOR * EXCHANGE_FLOOR
