"""The experiments of a validation: which protocols run on a cell, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping

from operando.instruments.conditions import CURRENT, ELAPSED
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Kelvins, Seconds, Voltages, Volts
from operando.protocols import cccv
from operando.protocols.actuator_steps import CHAMBER_TEMPERATURE, HoldTemperature, within
from operando.protocols.ccd import ccd
from operando.protocols.composite_transport import composite_transport
from operando.protocols.conductivity import conductivity
from operando.protocols.ctta import ctta
from operando.protocols.gitt import gitt
from operando.protocols.impedance import impedance
from operando.protocols.impedance_by_charge import impedance_by_charge
from operando.protocols.lsv import lsv
from operando.protocols.plating_stripping import plating_stripping
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.rate_capability import rate_capability
from operando.protocols.static_contact import static_contact
from operando.protocols.steps import ConstantCurrentConstantVoltage, ConstantVoltage, Rest
from operando.validation.lab import POTENTIOSTAT, Experiment, Part

HOUR = 3600.0

# ---------------------------------------------------------------- full cells

FIRST_CYCLE = Experiment("first-cycle", (Part(cccv(formation_cycles=1, cycles=0)),))

RATE_TEST = Experiment(
    "rate-test",
    (
        Part(cccv(formation_cycles=1, cycles=0)),
        Part(rate_capability(cycles_per_rate=1, recovery_cycles=0), poll=5.0),
        Part(rate_capability(rates=("0.1C",), cycles_per_rate=1, recovery_cycles=0), poll=5.0),
    ),
)
"""Formation, the ladder as published with one cycle at each rate (the number is not), and one more
cycle at C/10 to see what is recovered."""

TITANATE = Experiment(
    "titanate", (Part(cccv(formation_cycles=1, cycles=0, window=("0.95 V", "2.7 V"))),)
)
"""The first cycle against a counter electrode at 1.55 V."""

SPECTRUM: Mapping[str, object] = {
    "highest_frequency": "1 MHz",
    "lowest_frequency": "100 mHz",
    "periods": 100.0,
    "amplitude": "20 mV",
    "current_limit": "5 mA",
    "window": ("2.4 V", "4.6 V"),
}
"""What all spectra of full cells share. The potentiostat chooses itself over how many periods it
averages; a hundred asked for make the rest before the spectrum strict, as for a sweep of 80 min.
28 mV at the peak over 16 ohm are 1.8 mA. More points a decade let the fit split the arc in two."""


def _at_charge(share: str, upper: str = "4.25 V") -> Part:
    """Spectra of a cell as it is and after a share of its nominal capacity was charged at C/10."""
    settings = {**SPECTRUM, "window": ("2.4 V", upper)}
    plan = impedance_by_charge(step=share, highest_charge=share, discharge=False, **settings)
    return Part(plan, POTENTIOSTAT)


HALF = "74.47 %"
"""Share of the nominal capacity, 185 mAh/g, that takes NCM811 from x = 1 to x = 0.5: half of the
275.5 mAh/g of one lithium a formula unit."""


def _cycling(name: str, cycles: int, upper: str, *after: Part) -> Experiment:
    plan = cccv(
        formation_cycles=1,
        cycles=cycles,
        charge_rate="C/2",
        discharge_rate="C/2",
        cv_cutoff="0.05C",
        window=("2.5 V", upper),
    )
    return Experiment(name, (Part(plan), *after))


CYCLING = _cycling("cycling-4.25", 100, "4.25 V", _at_charge("50 %"))
"""Behind the cycles a spectrum at half of the nominal capacity."""
STRESS = _cycling("cycling-4.35", 50, "4.35 V")

FRESH_AND_RESTED = Experiment(
    "fresh-and-rested",
    (
        _at_charge(HALF),
        Part(impedance(linearity=False, **SPECTRUM), POTENTIOSTAT, idle=500.0 * HOUR),
    ),
)
"""Half charged, and 500 h unconnected."""

TITRATION = Experiment("titration", (Part(gitt(), poll=5.0),))


@protocol(
    source="Sun et al., InfoMat 2025, section 4.1: holds at constant potential, before and after "
    "which impedance is measured; rate and taper are our choice"
)
def charged_and_held(
    cell: Cell,
    *,
    voltage: Volts = "4.25 V",  # type: ignore[assignment]
    hold: Seconds = "10 h",  # type: ignore[assignment]
    rate: CRate = "C/10",  # type: ignore[assignment]
    cv_cutoff: CRate = "C/200",  # type: ignore[assignment]
    rest: Seconds = "1 h",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.52 V"),  # type: ignore[assignment]
) -> Steps:
    """Charge to a voltage until the current is small, hold it there, and rest.

    voltage: in V, within the window.
    hold: time in s behind the taper; 0 leaves the hold out.
    rate: charge rate as a C-rate of the nominal capacity.
    cv_cutoff: current at which the taper ends, as a C-rate.
    rest: open-circuit time in s at the end; the interface ages then as well.
    window: lowest and highest voltage in V.
    """
    lower, upper = window
    if not lower < voltage <= upper:
        raise BadInputError("voltage: must lie within the window")
    tapered = abs(CURRENT) <= cv_cutoff * cell.capacity
    yield ConstantCurrentConstantVoltage(
        rate * cell.capacity, voltage, until=(tapered,), label="charge", cycle=1
    )
    if hold > 0.0:
        limit = rate * cell.capacity
        yield ConstantVoltage(voltage, limit, (ELAPSED >= hold,), label="hold", cycle=1)
    yield Rest((ELAPSED >= rest,), label="rest", cycle=1)


HOLD_OFFSET = 0.62
"""V of In/InLi against Li: Santhosha et al. 2019."""


def held(level: float) -> Experiment:
    """Two holds of 10 h at a voltage against In/InLi (V), spectra before, between and after.

    All rests before a spectrum are of one length, since the interface ages in them too.
    """
    voltage = level + HOLD_OFFSET
    plan = impedance(linearity=False, longest_rest="11 min", **SPECTRUM)
    spectrum = Part(plan, POTENTIOSTAT)
    parts = [
        part
        for hold in (0.0, 10.0 * HOUR, 10.0 * HOUR)
        for part in (
            Part(charged_and_held(voltage=voltage, hold=hold), poll=30.0, every=300.0),
            spectrum,
        )
    ]
    return Experiment(f"held-{level:g}", tuple(parts))


# ---------------------------------------------------------------- pellets

CONDUCTIVITY = Experiment("conductivity", (Part(conductivity(), POTENTIOSTAT),))

COATING_CONDUCTIVITY = Experiment(
    "coating-conductivity",
    (Part(conductivity(current_limit="1 uA"), POTENTIOSTAT),),
)
"""A coating conducts 10^4 times less than an electrolyte: 0.1 uA at 10 mV, and as much as 1 uA
flows past it at 1 MHz."""

STATIC_CONTACT = Experiment(
    "static-contact",
    (Part(static_contact(first="48 h", longest_gap="48 h"), POTENTIOSTAT, every=600.0),),
)
"""Spectra at 0 and 48 h."""


def transport(contacts: str) -> Experiment:
    """Spectrum and direct current of a composite between contacts of one kind."""
    plan = composite_transport(contacts=contacts, hold="10 min")
    return Experiment(f"transport-{contacts}", (Part(plan, POTENTIOSTAT),))


# ---------------------------------------------------------------- lithium

SWEEP = Experiment("sweep", (Part(lsv(), poll=5.0),))

LITHIUM_TITRATION = Experiment("lithium-titration", (Part(ctta(), poll=30.0),))


PLATED = {"0.05 mA/cm2": (100.0, 12), "0.5 mA/cm2": (100.0, 12), "2.5 mA/cm2": (9.0, 7)}
"""Charge of a first plating (uAh/cm2) and number of spectra along it by current density. At the
largest a filament begins to short the simulated cell below 20 uAh/cm2, and each interruption adds
one: the current flows for a second until it is off."""


def first_plating(current: str) -> Experiment:
    """A first plating at a current density, with spectra along it."""
    charge, interruptions = PLATED[current]
    plan = plating_stripping(
        current=current,
        areal_capacity=f"{charge:g} uAh/cm2",
        cycles=0,
        interruptions=interruptions,
        current_limit="5 mA",
        window=("-1 V", "2.5 V"),
    )
    name = f"first-plating-{current.removesuffix(' mA/cm2')}"
    return Experiment(name, (Part(plan, POTENTIOSTAT, poll=0.5, every=0.0),))


@protocol(
    source="the ramp of ccd (Dandena et al., EES Batteries 2025, section 2.1) in an oven; its soak "
    "is our choice"
)
def warm_ccd(
    cell: Cell,
    *,
    temperature: Kelvins = "60 degC",  # type: ignore[assignment]
    soak: Seconds = "2 h",  # type: ignore[assignment]
    window: Voltages = ("-1 V", "1 V"),  # type: ignore[assignment]
) -> Steps:
    """Warm the cell and measure its critical current density.

    temperature: of the oven in K.
    soak: time in s for which the oven is within 0.5 K of it before the ramp.
    window: lowest and highest voltage in V.
    """
    warm = within(CHAMBER_TEMPERATURE, temperature, 0.5).held(soak)
    yield HoldTemperature(temperature, (warm, ELAPSED >= 4.0 * soak), label="soak", cycle=1)
    yield from ccd.steps(cell, window=window)


RAMP_PRESSURE = 7e6
"""Pa, that of the preset."""


def ramp(pressure: float = RAMP_PRESSURE) -> Experiment:
    """A ramp of the current at room temperature and a pressure (Pa)."""
    return Experiment(
        f"ramp-{1e-6 * pressure:g}-MPa", (Part(ccd(), poll=10.0, every=0.0),), pressure
    )


WARM_RAMP = Experiment(
    "warm-ramp", (Part(warm_ccd(), poll=10.0, every=0.0),), RAMP_PRESSURE, oven=True
)


LIFE = Experiment(
    "life", (Part(plating_stripping(cycles=200, window=("-5 V", "5 V")), poll=30.0, every=0.0),)
)
"""0.25 mA/cm2, 1 h each way, until a short or twice the first overpotential."""
