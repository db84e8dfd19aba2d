"""How the targets of pellets and of cells with lithium on one side or both are measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from operando.evaluation.ccd import CriticalCurrentResult, ccd
from operando.evaluation.composite_transport import composite_transport
from operando.evaluation.conductivity import conductivity
from operando.evaluation.ctta import ctta
from operando.evaluation.lsv import lsv
from operando.evaluation.plating_stripping import plating_stripping
from operando.evaluation.static_contact import static_contact
from operando.validation.direct import CellFailedError
from operando.validation.experiments import (
    COATING_CONDUCTIVITY,
    CONDUCTIVITY,
    LIFE,
    LITHIUM_TITRATION,
    STATIC_CONTACT,
    SWEEP,
    WARM_RAMP,
    first_plating,
    ramp,
    transport,
)
from operando.validation.lab import Lab
from operando.validation.other_cells import PRESETS
from operando.validation.outcomes import Found, measures
from operando.validation.published import Target

MA_PER_CM2 = 10.0
"""A/m2."""
UAH_PER_CM2 = 36.0
"""C/m2."""


def _cases(target: Target, value: Callable[[str], float]) -> dict[str, float]:
    return {case: value(case) for case in target.cases}


def _listed(notes: dict[str, str]) -> str:
    return ", ".join(f"{case} {text}" for case, text in notes.items())


# ---------------------------------------------------------------- pellets


@measures("V-16", "V-17")
def pellet_conductivity(lab: Lab, target: Target) -> Found:
    """Conductivity between blocking contacts, from the spectrum."""
    electrolyte = target.id == "V-16"
    experiment = CONDUCTIVITY if electrolyte else COATING_CONDUCTIVITY
    scale = 10.0 if electrolyte else 0.01  # S/m in mS/cm, S/cm
    errors = {}

    def value(case: str) -> float:
        record = lab.run(experiment, PRESETS[f"{target.id} {case}"]).records[0]
        result = conductivity(record)
        (one,) = result.measurements
        errors[case] = f"{100.0 * one.error / one.resistance:.1g} %"
        return scale * result.conductivity

    values = _cases(target, value)
    note = f"standard error {_listed(errors)}"
    if not electrolyte:
        note += "; electrons of the coating included, 4 and 6 %"
    return Found(values, note)


@measures("V-18-caec", "V-18-lno")
def pellet_at_rest(lab: Lab, target: Target) -> Found:
    """Resistance growth of a resting pellet in 48 h."""
    errors = {}

    def value(case: str) -> float:
        found = static_contact(lab.run(STATIC_CONTACT, PRESETS[f"V-18 {case}"]).records[0])
        errors[case] = f"{found.total_growth_error:.2f} ohm"
        return found.total_growth

    values = _cases(target, value)
    return Found(values, f"standard error {_listed(errors)}")


COMPOSITES = {0.3: "-30", 0.4: "", 0.5: "-50"}
"""Presets of the composite by share of active material: what is added to their names."""


@measures("V-60")
def conductivity_crossing(lab: Lab, target: Target) -> Found:
    """Share of active material at which ions and electrons are conducted alike.

    Each from direct current, on a pellet of its own; between two shares the logarithm of their
    ratio is taken as a straight line.
    """
    excess, told = [], []
    for share, suffix in COMPOSITES.items():
        ions, electrons = (
            composite_transport(
                lab.run(transport(contacts), f"composite-ncm83-{carrier}{suffix}").records[0]
            ).direct_conductivity
            for carrier, contacts in (("ions", "electron-blocking"), ("electrons", "ion-blocking"))
        )
        excess.append((share, math.log(electrons / ions)))
        told.append(f"{100.0 * share:.0f} %: {10.0 * ions:.3g} and {10.0 * electrons:.3g}")
    note = f"ions and electrons in mS/cm at {'; '.join(told)}; crossing between two of them"
    return Found(dict.fromkeys(target.cases, crossing_of(excess)), note)


def crossing_of(course: list[tuple[float, float]]) -> float:
    """Place at which a rising course passes zero, between two points linearly; NaN without."""
    for (low, below), (high, above) in pairwise(course):
        if below < 0.0 <= above:
            return low - below * (high - low) / (above - below)
    return math.nan


# ---------------------------------------------------------------- lithium on one side


@measures("V-19")
def coating_sweep(lab: Lab, target: Target) -> Found:
    """Charge above the background that a coating pellet passes on the way to 5.0 V."""

    def value(case: str) -> float:
        return lsv(lab.run(SWEEP, PRESETS[f"V-19 {case}"]).records[0]).reaction_charge

    note = "above the background; the computed window is an input of the cell"
    return Found(_cases(target, value), note)


@measures("V-40")
def titrated_charge(lab: Lab, target: Target) -> Found:
    """Exponent of the side-reaction charge against time."""
    found = ctta(lab.run(LITHIUM_TITRATION, PRESETS[target.id]).records[0])
    if found.free is None:
        raise CellFailedError("too few titrations for an exponent")
    note = f"0.1 mA/cm2, 2 uAh/cm2 a titration, 100 h (our choice); {len(found.time)} titrations"
    return Found(dict.fromkeys(target.cases, found.free.exponent), note)


@measures("V-41")
def charge_to_floor(lab: Lab, target: Target) -> Found:
    """Charge to the floor of the interface at three currents, from spectra along the plating."""

    def value(case: str) -> float:
        found = plating_stripping(lab.run(first_plating(case), PRESETS["V-40"]).records[0])
        if found.first_plating is None:
            raise CellFailedError(f"{case}: the spectra show no interface")
        return found.first_plating.charge_to_floor / UAH_PER_CM2

    return Found(_cases(target, value), "steel | Li6PS5Cl | Li, 7 to 12 spectra along the plating")


# ---------------------------------------------------------------- lithium on both sides


@measures("V-42T")
def critical_current_density(lab: Lab, target: Target) -> Found:
    """CCD by temperature at 7 MPa, and by pressure at 25 degC."""
    ends = {}

    def value(case: str) -> float:
        amount, unit = case.split(" ")
        experiment = ramp(1e6 * float(amount)) if unit == "MPa" else ramp()
        if case == "60 degC":
            experiment = WARM_RAMP
        found: CriticalCurrentResult = ccd(lab.run(experiment, PRESETS[target.id]).records[0])
        ends[case] = found.verdict
        return found.critical_current_density / MA_PER_CM2

    values = _cases(target, value)
    return Found(values, f"steps of 0.05 mA/cm2, 1 h each way; ended by: {_listed(ends)}")


@measures("V-43")
def symmetric_failure(lab: Lab, target: Target) -> Found:
    """How the overpotential ends in symmetric cells."""
    lives = {}

    def value(case: str) -> float:
        preset = PRESETS["V-43 lgps"] if case == "lgps" else PRESETS["V-42T"]
        found = plating_stripping(lab.run(LIFE, preset).records[0])
        lives[case] = f"{found.end} after {found.life / 3600.0:.0f} h"
        return found.late

    values = _cases(target, value)
    return Found(values, f"0.25 mA/cm2, 1 h each way: {_listed(lives)}")
