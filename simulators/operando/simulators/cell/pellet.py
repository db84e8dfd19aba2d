"""Bare pellets between two contacts: electrolyte, coating material or composite electrode.

The contacts let ions, electrons or both through. A pellet has an impedance, its response in time
is a chain of relaxations that stands for the same impedance, and the interfaces inside a composite
may grow as it rests. Equations, parameters and sources: `docs/explanation/other-cells.md`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from operando.simulators.cell.elements import arc, arrhenius, constant_phase
from operando.simulators.cell.percolation import effective_conductivity
from operando.simulators.cell.quantities import check, clipped
from operando.simulators.cell.stepped import SteppedCell, Values

AVRAMI = 4.0
"""Exponent of incubation, 1 - exp(-(t/t_i)^4): nuclei appear and grow in three dimensions."""
RELAXATIONS = 25
"""Relaxations that stand for the response in time."""
DECADES = 12.0
"""Of time that they span where a constant-phase element spreads them."""
LEAST_CONDUCTIVITY = 1e-14
"""S/m. Below it a path counts for nothing; it keeps resistances finite."""


@dataclass(frozen=True, slots=True)
class PelletParameters:
    """Everything that makes one pellet, in SI units.

    A number outside its physical range raises ValueError.
    """

    area: float
    """m2."""
    thickness: float
    """m."""
    porosity: float
    """Share of pores in the volume; 0 where the conductivity is that of the pressed powder."""
    electrolyte_conductivity: float
    """Ionic, of the electrolyte phase as pressed, at the reference temperature, S/m."""
    electrolyte_activation_energy: float
    """Of conductivity times temperature, J/mol."""
    electrolyte_electronic_conductivity: float
    """S/m."""
    active_fraction: float
    """Share of active material in the volume of the solids; 0 is a bare electrolyte."""
    active_conductivity: float
    """Electronic, of the active material, S/m."""
    active_activation_energy: float
    """J/mol."""
    ionic_threshold: float
    """Volume share below which the electrolyte forms no path."""
    electronic_threshold: float
    """Volume share below which the active material forms no path."""
    percolation_exponent: float
    """Power with which both conductivities rise above their thresholds."""
    ionic_floor: float
    """Ionic conductivity left below the threshold, S/m."""
    electronic_floor: float
    """Electronic conductivity left below the threshold, S/m."""

    ion_contact: float
    """Conductance of both contacts together for ions, S/m2; 0 blocks them."""
    electron_contact: float
    """Conductance of both contacts together for electrons, S/m2; 0 blocks them."""
    blocking_coefficient: float
    """Constant-phase coefficient of both blocked faces in series, F s^(a-1)/m2."""
    blocking_exponent: float
    """Its exponent a."""
    internal_capacitance: float
    """Of the interface between active material and electrolyte in a composite, F/m2 of pellet."""
    grain_boundary_share: float
    """Share of the ionic resistance that lies in grain boundaries."""
    grain_boundary_capacitance: float
    """Constant-phase coefficient of the grain boundaries, F s^(a-1)/m2."""
    grain_boundary_exponent: float
    """Its exponent a."""

    interface_resistance: float
    """Of the interfaces in the ions' way between the two phases, as pressed, ohm m2 of pellet."""
    interface_activation_energy: float
    """J/mol."""
    interface_capacitance: float
    """Constant-phase coefficient of that interface, F s^(a-1)/m2."""
    interface_exponent: float
    """Its exponent a."""
    coverage: float
    """Share of the active material's surface that a coating keeps from the electrolyte."""
    growth_rate: float
    """Growth of the interphase on bare surface after incubation, m/s."""
    growth_scale: float
    """Thickness beyond which growth becomes parabolic, m."""
    growth_resistivity: float
    """Resistance of the pellet per thickness of interphase, ohm m2/m."""
    growth_activation_energy: float
    """J/mol."""
    incubation_time: float
    """s."""
    bulk_growth_share: float
    """Share of what grows that a spectrum counts as bulk, not as interface."""

    reference_temperature: float
    """Temperature at which the numbers above hold, and of the pellet until told otherwise, K."""
    spread_thickness: float
    """Relative standard deviation of the thickness between pellets."""
    spread_conductivity: float
    """Relative standard deviation of the electrolyte's conductivity."""

    def __post_init__(self) -> None:
        """Refuse what is unphysical."""
        check(self)

    def manufactured(self, seed: int) -> PelletParameters:
        """Return one pellet of a batch; seed 0 is the nominal one.

        Log-normal, cut at 2.5 standard deviations and at the ends of the physical ranges.
        """
        if seed == 0:
            return self

        def factor(name: str, spread: float) -> float:
            deviate = random.Random(f"{name}/{seed}").gauss(0.0, 1.0)
            return math.exp(spread * max(-2.5, min(2.5, deviate)))

        values = clipped(
            thickness=self.thickness * factor("thickness", self.spread_thickness),
            electrolyte_conductivity=self.electrolyte_conductivity
            * factor("conductivity", self.spread_conductivity),
        )
        return replace(self, **values)


class PelletState(NamedTuple):
    """Inner state of a pellet: truth, which no instrument shows."""

    time: float
    """Laboratory time, s."""
    ionic_resistance: float
    """Of the ions' way from face to face without interfaces, ohm."""
    electronic_resistance: float
    """Of the electrons' way, ohm; infinite where there is none."""
    bulk_resistance: float
    """Ionic resistance with what growth adds to it, ohm."""
    interface_resistance: float
    """Of the interfaces in the ions' way, ohm."""
    interphase: float
    """Thickness of interphase grown on bare surface, m."""


class PelletCell(SteppedCell):
    """A pellet between two equal contacts, behind the usual electrical port; it rests at 0 V."""

    def __init__(
        self, parameters: PelletParameters, *, seed: int | None = 0, start: float = 0.0
    ) -> None:
        """Press a pellet; seed: which of the batch, 0 or None is the nominal one."""
        self.parameters = parameters.manufactured(seed or 0)
        p = self.parameters
        if p.ion_contact == 0.0 and p.electron_contact == 0.0:
            raise ValueError("a pellet needs a contact for ions or electrons: both are 0")
        # Age (s), interphase (m), then the voltage of every relaxation (V).
        super().__init__(
            (0.0, 0.0, *([0.0] * RELAXATIONS)),
            area=p.area,
            temperature=p.reference_temperature,
            start=start,
        )

    # -- truth

    def state(self, now: float) -> PelletState:
        """Return the inner state at a time."""
        self.advance(now)
        interphase = self._values()[1]
        bulk, interface = self._grown(interphase)
        return PelletState(
            now, self._ionic, self._electronic, self._ionic + bulk, interface, interphase
        )

    def thickness_change(self, now: float) -> float:
        """Return 0: a pellet keeps its thickness."""
        self.advance(now)
        return 0.0

    def open_circuit_voltage(self, now: float) -> float:
        """Return 0: both contacts are the same."""
        self.advance(now)
        return 0.0

    def impedance(self, frequency: ArrayLike, now: float) -> NDArray[np.complex128]:
        """Return the impedance at frequencies (Hz), ohm."""
        p, area, state = self.parameters, self.area, self.state(now)
        omega = 2.0 * np.pi * np.asarray(frequency, dtype=np.float64)
        grains = p.grain_boundary_share * self._ionic
        ionic = (state.bulk_resistance - grains) + arc(
            omega, grains, p.grain_boundary_capacitance * area, p.grain_boundary_exponent
        )
        ionic = ionic + arc(
            omega, state.interface_resistance, p.interface_capacitance * area, p.interface_exponent
        )
        return self._network(ionic, omega)

    # -- circuit

    def _network(
        self, ionic: NDArray[np.complex128], omega: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        """Return the impedance with a given impedance of the ions' way, ohm."""
        p, area = self.parameters, self.area
        electronic = self._electronic
        ions_pass, electrons_pass = p.ion_contact > 0.0, p.electron_contact > 0.0
        contact_i = 1.0 / (p.ion_contact * area) if ions_pass else 0.0
        contact_e = 1.0 / (p.electron_contact * area) if electrons_pass else 0.0
        z: NDArray[np.complex128]
        if p.active_fraction > 0.0 and ions_pass != electrons_pass:
            # Two conductors coupled all along by the capacitance between them: what the contacts
            # block reaches the other conductor inside.
            both = ionic + electronic
            between = constant_phase(omega, p.internal_capacitance * area, 1.0)
            half = np.asarray(0.5 * np.sqrt(both * between), dtype=np.complex128)
            fall = _tanh(half) / half
            through = ionic if ions_pass else electronic
            z = ionic * electronic / both + through * through / both * fall
            return np.asarray(z + contact_i + contact_e, dtype=np.complex128)
        blocked = constant_phase(omega, p.blocking_coefficient * area, p.blocking_exponent)
        admittance = 1.0 / (ionic + contact_i + (0.0 if ions_pass else 1.0 / blocked))
        if electrons_pass:
            admittance = admittance + 1.0 / (electronic + contact_e)
        return np.asarray(1.0 / admittance, dtype=np.complex128)

    def _relaxation(self, interphase: float) -> tuple[float, float, float]:
        """Return the resistance at once, what relaxes after it (ohm), and its time (s)."""
        p, area = self.parameters, self.area
        bulk, interface = self._grown(interphase)
        ionic, electronic = self._ionic + bulk + interface, self._electronic
        ions_pass, electrons_pass = p.ion_contact > 0.0, p.electron_contact > 0.0
        contact_i = 1.0 / (p.ion_contact * area) if ions_pass else 0.0
        contact_e = 1.0 / (p.electron_contact * area) if electrons_pass else 0.0
        both = ionic + electronic
        if p.active_fraction > 0.0 and ions_pass != electrons_pass:
            through = ionic if ions_pass else electronic
            time = both * p.internal_capacitance * area
            return (
                ionic * electronic / both + contact_i + contact_e,
                through * through / both,
                time,
            )
        if ions_pass:
            path = ionic + contact_i
            other = electronic + contact_e
            return (path * other / (path + other) if electrons_pass else path), 0.0, 1.0
        path, other = ionic, electronic + contact_e
        at_once = path * other / (path + other)
        time = (p.blocking_coefficient * area * (path + other)) ** (1.0 / p.blocking_exponent)
        return at_once, other - at_once, time

    def _grown(self, interphase: float) -> tuple[float, float]:
        """Return what growth adds to the bulk, and the whole interface resistance, ohm."""
        p = self.parameters
        grown = p.growth_resistivity * interphase * (1.0 - p.coverage) / self.area / self._film
        share = p.bulk_growth_share
        fresh = p.interface_resistance / self.area / self._film
        return share * grown, fresh + (1.0 - share) * grown

    def _set_temperature(self, kelvin: float) -> None:
        p, reference = self.parameters, self.parameters.reference_temperature
        conducts = arrhenius(p.electrolyte_activation_energy, reference, kelvin)
        conducts *= reference / kelvin
        solid = 1.0 - p.porosity
        geometry = p.thickness / p.area
        if p.active_fraction > 0.0:
            ionic = effective_conductivity(
                p.electrolyte_conductivity,
                solid * (1.0 - p.active_fraction),
                threshold=p.ionic_threshold,
                exponent=p.percolation_exponent,
                floor=p.ionic_floor,
            )
            electronic = effective_conductivity(
                p.active_conductivity,
                solid * p.active_fraction,
                threshold=p.electronic_threshold,
                exponent=p.percolation_exponent,
                floor=p.electronic_floor,
            ) * arrhenius(p.active_activation_energy, reference, kelvin)
        else:
            ionic, electronic = p.electrolyte_conductivity, 0.0
        electronic += p.electrolyte_electronic_conductivity * conducts
        self._ionic = geometry / max(ionic * conducts, LEAST_CONDUCTIVITY)
        self._electronic = geometry / max(electronic, LEAST_CONDUCTIVITY)
        self._film = arrhenius(p.interface_activation_energy, reference, kelvin)
        self._growth = p.growth_rate * arrhenius(p.growth_activation_energy, reference, kelvin)
        self._chain = _line_chain() if p.active_fraction > 0.0 else _chain(p.blocking_exponent)

    # -- steps

    def _respond(self, values: Values, current: float, length: float) -> tuple[float, Values]:
        age, interphase, *voltages = values
        at_once, relaxing, time = self._relaxation(interphase)
        voltage = current * at_once
        if length <= 0.0:
            return voltage + sum(voltages), values
        after = []
        for (share, factor), held in zip(self._chain, voltages, strict=True):
            # Exact for a current that is held through the step.
            kept = math.exp(-length / (factor * time))
            after.append(held * kept + current * share * relaxing * (1.0 - kept))
        return voltage + sum(after), (
            age + length,
            self._grow(age, interphase, length),
            *after,
        )

    def _grow(self, age: float, interphase: float, length: float) -> float:
        """Return the interphase (m) after a step: late, linear, then parabolic."""
        p = self.parameters
        begun = 1.0 - math.exp(-(((age + 0.5 * length) / p.incubation_time) ** AVRAMI))
        scale = p.growth_scale
        total = interphase + interphase * interphase / (2.0 * scale) + self._growth * begun * length
        return 2.0 * total / (1.0 + math.sqrt(1.0 + 2.0 * total / scale))

    def _change(self, begin: Values, end: Values) -> float:
        before, after = sum(begin[2:]), sum(end[2:])
        scale = 1e-6 + 0.01 * max(abs(before), abs(after))
        grown = (end[1] - begin[1]) / (0.02 * self.parameters.growth_scale + 0.05 * begin[1])
        aged = (end[0] - begin[0]) / (0.05 * self.parameters.incubation_time + 0.05 * begin[0])
        return max(abs(after - before) / scale, grown, aged if self._growth > 0.0 else 0.0)


def _tanh(argument: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return the hyperbolic tangent for a positive real part, without overflow."""
    decay = np.exp(-2.0 * argument)
    return np.asarray((1.0 - decay) / (1.0 + decay), dtype=np.complex128)


def _line_chain() -> list[tuple[float, float]]:
    """Return shares and times of the relaxations of tanh(x)/x; what is cut goes to the fastest."""
    shares, times = [], []
    for n in range(RELAXATIONS):
        square = ((2 * n + 1) * math.pi) ** 2
        shares.append(8.0 / square)
        times.append(1.0 / square)
    shares[-1] += 1.0 - sum(shares)
    return list(zip(shares, times, strict=True))


def _chain(exponent: float) -> list[tuple[float, float]]:
    """Return shares and times of the relaxations of 1 / (1 + (j w)^a), a the exponent.

    K. S. Cole and R. H. Cole, J. Chem. Phys. 9 (1941) 341: their distribution of relaxation times,
    cut into equal pieces of its logarithm.
    """

    def below(logarithm: float) -> float:
        if exponent >= 1.0:
            return 0.0 if logarithm < 0.0 else 1.0
        steep = 1.0 / math.tan(0.5 * math.pi * (1.0 - exponent))
        lean = math.tanh(0.5 * exponent * logarithm)
        return 0.5 + math.atan(steep * lean) / (math.pi * exponent)

    width = DECADES * math.log(10.0) / RELAXATIONS
    chain, done = [], 0.0
    for k in range(RELAXATIONS):
        centre = (k - 0.5 * (RELAXATIONS - 1)) * width
        until = 1.0 if k == RELAXATIONS - 1 else below(centre + 0.5 * width)
        chain.append((until - done, math.exp(centre)))
        done = until
    return chain
