"""What a cell, a preset or a cycle is given: refused with words, or carried without a crash."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.simulators.cell import (
    CellParameters,
    LithiumCell,
    LithiumParameters,
    PelletCell,
    PelletParameters,
    SimulatedCell,
    cycle,
    impedance,
    load_preset,
    parameters,
)
from operando.simulators.cell.ageing import LEAST_CONTACT
from operando.simulators.cell.factory import load_lithium, load_pellet
from operando.simulators.cell.parameters import read_preset
from operando.simulators.cell.quantities import quantity

CAEC = load_preset("ncm811-caec").parameters
HOUR = 3600.0
FREQUENCIES = np.logspace(-3.0, 6.0, 10)

Parameters = CellParameters | LithiumParameters | PelletParameters

NOMINAL: dict[str, Any] = {
    "ncm811-caec": CAEC,
    "li-lpscl": load_lithium("li-lpscl"),
    "steel-lpscl-li": load_lithium("steel-lpscl-li"),
    "pellet-lpscb": load_pellet("pellet-lpscb"),
    "composite-ncm83-ions": load_pellet("composite-ncm83-ions"),
    "static-caec": load_pellet("static-caec"),
}


@pytest.mark.parametrize("name", NOMINAL)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, "1.0", None], ids=str)
def test_a_number_of_a_cell_is_checked_wherever_it_comes_from(name: str, value: float) -> None:
    for field in fields(NOMINAL[name]):
        with pytest.raises(ValueError, match=re.escape(f"{field.name} = {value!r} is")):
            replace(NOMINAL[name], **{field.name: value})


def test_a_number_outside_what_is_physical_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ValueError) as found:
        SimulatedCell(replace(CAEC, coating_coverage=1.3))
    assert str(found.value) == (
        "coating_coverage = 1.3 is unphysical: write a value at least 0 and at most 1 (1)"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connection_width", 1e-5),
        ("diffusivity_knee_width", 1e-5),
        ("coating_window_width", 1e-5),
        ("reconstruction_voltage_scale", 1e-5),
        ("charge_transfer_activation_energy", 4e7),
        ("electrolyte_activation_energy", 4e7),
        ("contact_exponent", 2000.0),
        ("counter_creep_exponent", 1.9e6),
        ("separator_thickness", 6e-10),
        ("active_loading", 1.5e-7),
        ("particle_radius", 1e-12),
        ("electronic_conductivity", 0.63),
        ("counter_inventory", 0.0),
        ("interphase_blocking", 0.0),
    ],
)
def test_what_the_equations_cannot_carry_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} = .* is unphysical: write a value at least"):
        replace(CAEC, **{name: value})


@pytest.mark.parametrize("kind", [CellParameters, LithiumParameters, PelletParameters])
def test_every_number_is_bounded_both_ways(kind: type) -> None:
    for field in fields(kind):
        known = quantity(field.name)
        assert known.unit, field.name
        assert math.isfinite(known.low), field.name
        assert math.isfinite(known.high), field.name
        assert known.low < known.high, field.name


@pytest.mark.parametrize("kind", [CellParameters, LithiumParameters, PelletParameters])
def test_activation_energies_exponents_and_widths_are_such(kind: type) -> None:
    for name in (field.name for field in fields(kind)):
        known = quantity(name)
        if name.endswith("activation_energy"):
            assert (known.low, known.high) == (0.0, 3e5), name
        if name.endswith("_exponent"):
            assert known.low >= 0.0, name
            assert known.high <= 20.0, name
        if name.endswith("_width"):
            assert known.low >= 1e-3, name


def use_insertion(given: CellParameters) -> list[float]:
    """Charge, discharge, cold, heat, rest and spectrum of a cell; what they show."""
    cell = SimulatedCell(given, seed=5)
    one_c = cell.nominal_capacity / HOUR
    seen: list[float] = []
    now = 0.0
    for level, kelvin, c_rate in ((4.4, 250.0, 0.2), (4.4, 303.0, 1.0), (2.5, 350.0, 1.0)):
        cell.set_temperature(now, kelvin)
        cell.source_voltage(now, level, c_rate * one_c)
        for part in (0.1, 2.0):
            seen += cell.terminal(now + part * HOUR)[:2]
        now += 2.0 * HOUR
    cell.open_circuit(now)
    state = cell.state(now + HOUR)
    seen += [getattr(state, field.name) for field in fields(state)]
    assert 0.0 < state.contact_fraction <= 1.0
    assert 0.0 < state.connected_fraction <= 1.0
    assert 0.0 <= state.void_fraction < 1.0
    z = impedance(cell, FREQUENCIES, now + HOUR)
    return [*seen, *z.real, *z.imag, cell.thickness_change(now + HOUR)]


def use_stepped(build: Callable[..., LithiumCell | PelletCell], given: Parameters) -> list[float]:
    """Current both ways, held voltage, cold, heat and spectrum of another kind of cell."""
    cell = build(given, seed=5)
    seen: list[float] = []
    now = 0.0
    for current, kelvin in ((1e-4, 250.0), (-1e-4, 350.0)):
        cell.set_temperature(now, kelvin)
        cell.source_current(now, current, 5.0)
        seen += cell.terminal(now + HOUR)[:2]
        now += HOUR
    cell.source_voltage(now, 0.5, 1e-3)
    now += 10.0
    seen += cell.terminal(now)[:2]
    z = impedance(cell, FREQUENCIES, now)
    return [*seen, *z.real, *z.imag, cell.thickness_change(now)]


USES: dict[str, Callable[..., list[float]]] = {
    "ncm811-caec": use_insertion,
    "li-lpscl": partial(use_stepped, LithiumCell),
    "steel-lpscl-li": partial(use_stepped, LithiumCell),
    "pellet-lpscb": partial(use_stepped, PelletCell),
    "composite-ncm83-ions": partial(use_stepped, PelletCell),
    "static-caec": partial(use_stepped, PelletCell),
}


NO_CONTACT = {("pellet-lpscb", "electron_contact"), ("composite-ncm83-ions", "ion_contact")}
NO_CONTACT |= {("static-caec", "ion_contact")}
"""Pellets that neither ions nor electrons enter without it: refused in words of their own."""


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("name", NOMINAL)
def test_a_cell_with_one_number_at_its_bound_shows_finite_values(name: str, end: str) -> None:
    failures = {}
    for field in fields(NOMINAL[name]):
        value = getattr(quantity(field.name), end)
        if value == 0.0 and (name, field.name) in NO_CONTACT:
            continue
        try:
            seen = USES[name](replace(NOMINAL[name], **{field.name: value}))
            if not all(math.isfinite(number) for number in seen):
                failures[field.name] = f"{value:g}: not finite"
        except (ArithmeticError, AssertionError, ValueError) as error:
            failures[field.name] = f"{value:g}: {error!r}"
    assert failures == {}


@pytest.mark.parametrize("name", sorted({name for name, _ in NO_CONTACT}))
def test_a_pellet_without_any_contact_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="needs a contact for ions or electrons"):
        USES[name](replace(NOMINAL[name], ion_contact=0.0, electron_contact=0.0))


@pytest.mark.parametrize("name", NOMINAL)
def test_a_batch_stays_within_its_bounds_whatever_its_spread(name: str) -> None:
    """Numbers at a bound and the widest spread: every draw that leaves the bound ends there."""
    given = NOMINAL[name]
    widest = {
        field.name: quantity(field.name).high
        for field in fields(given)
        if field.name.startswith(("spread_", "flaw_"))
    }
    at_bound = set()
    for end in ("low", "high"):
        extreme = {
            field.name: getattr(quantity(field.name), end)
            for field in fields(given)
            if field.name in DRAWN
        }
        for seed in range(1, 40):
            made = replace(given, **(widest | extreme)).manufactured(seed)  # refuses what leaves
            at_bound |= {n for n in extreme if getattr(made, n) == extreme[n] > 0.0}
    assert at_bound == {field.name for field in fields(given) if field.name in DRAWN}


DRAWN = {
    "active_loading", "separator_thickness", "electronic_conductivity", "contact_loss",
    "charge_transfer_resistance", "space_charge_resistance", "assembled_potential",
    "interface_resistance", "filament_current", "thickness", "electrolyte_conductivity",
}  # fmt: skip
"""What differs between the cells of a batch."""


OWN = """
summary = "x"
base = "li-lpscl"
[parameters]
soft_short = {{ value = 0.8, unit = "1", basis = "assumed", source = "a reason", range = {bounds} }}
"""


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ("[-0.1, 0.9]", r"-0\.1 in its range is unphysical: write a value at least 0"),
        ("[0.1, 1.5]", r"1\.5 in its range is unphysical: write .* at most 0\.99"),
        ("[0.85, 0.9]", r"= 0\.8 lies outside its own range \[0\.85, 0\.9\]"),
        ("[0.9, 0.7]", r"= 0\.8 lies outside its own range"),
        ("[0.7, nan]", r"range = nan; write a finite number"),
    ],
)
def test_both_ends_of_a_stated_range_are_checked(tmp_path: Path, bounds: str, message: str) -> None:
    for base in ("lithium-sulfide", "li-lpscl"):
        text = (parameters.PRESET_FOLDER / f"{base}.toml").read_text(encoding="utf-8")
        (tmp_path / f"{base}.toml").write_text(text, encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(OWN.format(bounds=bounds), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as found:
        read_preset(own, LithiumParameters)
    assert f"{own}: [parameters] soft_short" in str(found.value)


def test_the_contact_of_a_cell_as_assembled_is_a_share() -> None:
    for adhesion in (0.05, 0.5, 1.0, 1.0001, 5.0, 1e2):
        for deficit in (0.0, 0.4, 10.0):
            made = replace(CAEC, coating_adhesion=adhesion, contact_deficit=deficit)
            assert LEAST_CONTACT < made.assembled_contact <= 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lower": 4.25}, "upper one and both be finite, not 4.25 V and 4.25 V"),
        ({"lower": 4.3}, "lower voltage must lie below"),
        ({"lower": math.nan}, "lower voltage must lie below"),
        ({"upper": math.inf}, "both be finite, not 2.5 V and inf V"),
        ({"rate": 0.0}, "rate must be positive and finite, not 0.0"),
        ({"rate": -1.0}, "rate must be positive"),
        ({"rate": math.nan}, "rate must be positive"),
        ({"charge_rate": 0.0}, "charge_rate must be positive"),
        ({"cutoff_rate": 0.0}, "cutoff_rate must be positive"),
        ({"cutoff_rate": -0.05}, "cutoff_rate must be positive"),
        ({"cutoff_rate": math.nan}, "cutoff_rate must be positive"),
    ],
)
def test_a_cycle_that_cannot_be_driven_is_refused_before_it_begins(
    wrong: dict[str, float], message: str
) -> None:
    cell = SimulatedCell(CAEC)
    with pytest.raises(ValueError, match=re.escape(message)):
        cycle(cell, 0.0, **{"lower": 2.5, "upper": 4.25, "rate": 0.5} | wrong)  # type: ignore[arg-type]
    assert cell.charge_passed(0.0) == 0.0


def test_a_cycle_says_whether_both_halves_reached_their_ends() -> None:
    whole = next(cycle(SimulatedCell(CAEC), 0.0, lower=2.5, upper=4.25, rate=0.5, cutoff_rate=0.05))
    assert whole.completed
    # Electrons pass the separator faster than C/1000 charges: the upper voltage is never reached.
    leaky = SimulatedCell(replace(CAEC, electronic_conductivity=1e-4))
    charge = next(cycle(leaky, 0.0, lower=2.5, upper=4.25, rate=0.5, charge_rate=0.001))
    assert not charge.completed
    # A hold that waits for less current than the separator leaks is ended by patience as well.
    leaky = SimulatedCell(replace(CAEC, electronic_conductivity=1e-6))
    held = next(cycle(leaky, 0.0, lower=2.5, upper=4.25, rate=0.5, cutoff_rate=1e-4))
    assert not held.completed


def test_a_spectrum_is_finite_however_much_lithium_lies_on_a_collector() -> None:
    """From bare to so much that the collector's own potential is a number without digits."""
    given = load_lithium("steel-lpscl-li")
    for multiple in (0.0, 1.0, 100.0, 690.0, 700.0, 708.0, 730.0, 1e4):
        plated = replace(given, working_lithium=multiple * given.bare_charge)
        z = impedance(LithiumCell(plated), FREQUENCIES, 0.0)
        assert bool(np.all(np.isfinite(z)))
