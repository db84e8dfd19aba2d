"""Ageing of the cell: rate equations of what is lost and grown, over one step of its state.

Contact is lost as the active material shrinks and swells, against adhesion and stack pressure;
lost contact disconnects material and exposes fresh surface; an interphase grows on what is bare,
after an incubation, the faster the higher the potential; near the top of the charge the oxide
itself loses oxygen and part of it turns into inactive rock salt; another interphase grows on the
counter electrode, in which stripping leaves voids that creep refills. Nothing here is fitted to
cycles: cycle numbers appear nowhere. Equations and sources: `docs/explanation/cell-model.md`.
"""

import math

from operando.simulators.cell.materials import GAS_CONSTANT
from operando.simulators.cell.parameters import CellParameters
from operando.simulators.cell.state import Wear

LEAST_CONTACT = 1e-3
"""Contact fraction below which the model does not go: further loss would end in a division by 0."""

LEAST_CONNECTED = 0.05
"""Connected fraction below which the model does not go: a cell without cathode is no cell."""

MOST_VOID = 0.95
"""Share of the lithium interface lost to voids above which the model does not go."""

STAGES = 3.0
"""Stages of the incubation: its times are spread by 1/sqrt(3) of their mean, as 16 +/- 5 h of a
resistance that is flat at first asks for at least three."""

_NEVER = 60.0
"""Exponent beyond which a decay is over."""


class Ageing:
    """The rate equations of one cell at one temperature; it holds no state of the cell."""

    __slots__ = (
        "_contact_rate",
        "_creep",
        "_exponent",
        "_first_charge",
        "_first_rate",
        "_growth_charge",
        "_leak",
        "_parameters",
        "_reconstruction_floor",
        "_stage_rate",
        "_warm_growth",
        "_warm_incubation",
        "_warm_reconstruction",
        "_warm_square",
        "pressure",
        "reference_height",
        "stiffness",
    )

    def __init__(self, parameters: CellParameters) -> None:
        """Take the parameters."""
        p = parameters
        self._parameters = p
        self.pressure = p.stack_pressure
        """At `reference_height`, Pa."""
        self.stiffness = p.frame_stiffness
        """Pa/m."""
        self.reference_height = 0.0
        """Thickness change (m) at which the pressure is `pressure`."""
        # Loss of contact, freed of adhesion's and pressure's share.
        self._contact_rate = p.contact_loss / p.coating_adhesion
        self._contact_rate *= 1.0 + p.contact_pressure / p.contact_pressure_scale
        self._contact_rate /= p.contact_strain**p.contact_exponent
        self._exponent = p.contact_exponent
        self._stage_rate = STAGES / p.interphase_incubation
        surface = p.surface_ratio * p.area
        # It grows where electrolyte touches; the first charge also oxidises what touches carbon.
        self._growth_charge = p.interphase_charge * surface * p.contact_share
        self._first_charge = p.first_oxidation * surface
        self._first_rate = 1.0 / p.first_oxidation_time
        # Ten scales below its onset reconstruction is lost in rounding, and costs no exponential.
        self._reconstruction_floor = p.reconstruction_onset - 10.0 * p.reconstruction_voltage_scale
        self.set_temperature(p.reference_temperature)

    def set_temperature(self, kelvin: float) -> None:
        """Set everything that depends on temperature, K."""
        p = self._parameters
        inverse = 1.0 / p.reference_temperature - 1.0 / kelvin

        def faster(activation_energy: float) -> float:
            return math.exp(activation_energy / GAS_CONSTANT * inverse)

        self._warm_growth = p.interphase_growth * faster(p.interphase_activation_energy)
        self._warm_incubation = faster(p.interphase_activation_energy)
        self._warm_reconstruction = p.reconstruction_rate * faster(
            p.reconstruction_activation_energy
        )
        self._warm_square = p.counter_interphase_rate**2 * faster(
            p.counter_interphase_activation_energy
        )
        self._creep = p.counter_creep_current * faster(p.counter_creep_activation_energy)
        leak = p.electronic_conductivity * p.area / p.separator_thickness
        self._leak = leak * faster(p.electrolyte_activation_energy)

    def fresh(self) -> Wear:
        """Return what a cell as assembled has."""
        p = self._parameters
        return Wear(p.assembled_contact, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def conductance(self) -> float:
        """Of the separator for electrons, S: the cell discharges itself through it."""
        return self._leak

    def pressure_at(self, height: float) -> float:
        """Return the pressure on the stack (Pa) at a gained thickness (m); never negative."""
        pressure = self.pressure + self.stiffness * (height - self.reference_height)
        return pressure if pressure > 0.0 else 0.0

    def after(
        self,
        wear: Wear,
        length: float,
        begin: float,
        end: float,
        potential: float,
        stripping: float,
        height: float,
        isolated: float,
        mean: float,
    ) -> Wear:
        """Return the wear a step (s) later.

        begin, end: volume strain of the active material at both ends. potential: of the cathode
        against lithium in the electrolyte beside it, V. stripping: current density that dissolves
        the counter electrode, A/m2. height: gained thickness, m. isolated: what of the isolated
        lithium the step's formula carries over. mean: lithium content at its end.
        """
        p = self._parameters
        (
            contact,
            connected,
            _,
            interphase,
            _,
            elapsed,
            first,
            second,
            ripe,
            square,
            void,
            primed,
            _,
        ) = wear
        pressure = self.pressure + self.stiffness * (height - self.reference_height)
        pressure = pressure if pressure > 0.0 else 0.0

        # Cathode interphase: on what the coating leaves bare or no longer protects, after the
        # incubation, and on what was torn open since, after one of its own.
        aged = length * self._warm_incubation
        elapsed += aged
        z = elapsed * self._stage_rate
        bare = 1.0
        if p.coating_coverage > 0.0:
            beyond = (potential - p.coating_window) / p.coating_window_width
            if beyond < _NEVER:
                bare -= p.coating_coverage / (1.0 + math.exp(beyond))
        if z < 0.01:
            reacting = bare * z * z * z * (1.0 - 0.75 * z) / 6.0  # the same without cancellation
        else:
            reacting = bare * (1.0 - math.exp(-z) * (1.0 + z + 0.5 * z * z)) if z < _NEVER else bare
        # Growth saturates: an abused cell must not overflow the exponential.
        drive = (potential - p.interphase_onset) / p.interphase_voltage_scale
        drive = -40.0 if drive < -40.0 else 10.0 if drive > 10.0 else drive
        growth = self._warm_growth * (reacting + ripe) * math.exp(drive)
        growth /= 1.0 + interphase / p.interphase_scale
        grown = length * growth
        interphase += grown
        # The first charge oxidises what lies on the bare surface, once.
        oxidising = 0.0
        missing = bare - primed
        if missing > 0.0:
            share = length * self._first_rate / (1.0 + math.exp(-drive))
            missing *= share / (1.0 + share)
            primed += missing
            oxidising = missing / length

        # Contact: what grows between blocks it; and the energy that a contraction stores against
        # it rises with its square (Griffith): what travels at that contraction tears it open.
        left = contact * math.exp(-grown / p.interphase_blocking)
        travelled = end - begin
        contraction = -0.5 * (begin + end)
        torn = 0.0
        if travelled != 0.0 and contraction > 0.0:
            rate = self._contact_rate * contraction**self._exponent
            rate /= 1.0 + pressure / p.contact_pressure_scale
            torn = left * (1.0 - math.exp(-rate * abs(travelled)))
            if travelled > 0.0:
                torn *= 1.0 - p.contact_healing
            left -= torn
        left = left if left > LEAST_CONTACT else LEAST_CONTACT
        # Connection: what has little contact left drops out of the network.
        share = math.exp((left - p.connection_threshold) / p.connection_width)
        kept = connected * (left / contact) ** (p.connection_loss / (1.0 + share))
        # Reconstruction: what nothing protects loses oxygen and turns into rock salt.
        if potential > self._reconstruction_floor:
            # Twice the rate at the onset is the most: then oxygen's way out limits it.
            drive = (potential - p.reconstruction_onset) / p.reconstruction_voltage_scale
            rate = 2.0 * self._warm_reconstruction / (1.0 + math.exp(-drive))
            kept *= math.exp(-length * bare * rate)
        kept = kept if kept > LEAST_CONNECTED else LEAST_CONNECTED
        isolated += (connected - kept) * mean

        passed = aged * self._stage_rate
        first = (first + torn) / (1.0 + passed)
        second = (second + first * passed) / (1.0 + passed)
        ripe += second * passed

        # Counter electrode: parabolic interphase; voids where stripping outruns creep, which
        # rises as the same force presses on less contact.
        square += length * self._warm_square
        if void > 0.0 or stripping > 0.0:
            share = 1.0 - void
            creep = (pressure / p.counter_creep_pressure / share) ** p.counter_creep_exponent
            creep *= self._creep
            scale = length / p.counter_void_charge
            # Implicit in the creep's own rise: long steps approach the balance, never pass it.
            void += (
                scale
                * (stripping - creep)
                / (1.0 + scale * creep * p.counter_creep_exponent / share)
            )
            void = 0.0 if void < 0.0 else MOST_VOID if void > MOST_VOID else void
        return Wear(
            left, kept, isolated, interphase, growth, elapsed, first, second, ripe,
            square, void, primed, growth * self._growth_charge + oxidising * self._first_charge,
        )  # fmt: skip
