"""Titrations and sweeps, seen as the steps that they ask for."""

from __future__ import annotations

import itertools

import pytest

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE, Condition
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import si
from operando.instruments.recipe import RecordConditions, load_recipe
from operando.instruments.roles import Galvanostatic, OpenCircuit, Potentiostatic
from operando.protocols import (
    Cell,
    ConstantCurrent,
    ConstantVoltage,
    Outcome,
    Plan,
    ProtocolFunction,
    Rest,
    Step,
    preview,
)
from operando.protocols.cv import cv
from operando.protocols.gitt import MOST_CHARGE, gitt
from operando.protocols.lsv import lsv
from operando.protocols.pitt import pitt
from operando.protocols.steps import VoltageSweep
from support.laboratory import EXAMPLES

# 16.96 mg at 185 mA/g: Kim et al., Energy Storage Materials 2026, 105167, section 2.3.
CELL = Cell(CellEntry("c1", "bench.toml line 1", capacity=16.96e-6 * 185e3 * 3600.0 / 1e3))
ONE_C = CELL.capacity / 3600.0


def ended(condition: Condition, voltage: float = 0.0) -> Outcome:
    return Outcome(1, "condition", condition, 1.0, 0.0, 0.0, voltage, 0.0)


def steps_of(plan: Plan, rest_voltage: float) -> list[Step]:
    """The steps of a plan whose rests all end at one voltage."""
    program, found = plan.steps(CELL), []
    try:
        step = next(program)
        while True:
            found.append(step)
            step = program.send(ended(step.until[0], rest_voltage))
    except StopIteration:
        return found


def test_the_published_titration_is_ten_minutes_at_a_tenth_of_c_and_half_an_hour_of_rest() -> None:
    first, pulse, rest = itertools.islice(gitt().steps(CELL), 3)
    assert isinstance(first, Rest)
    assert first.until == (ELAPSED >= 1800.0,)
    assert isinstance(pulse, ConstantCurrent)
    assert pulse.setpoint(5.0) == Galvanostatic(pulse.current, 4.25)
    assert pulse.current == pytest.approx(0.1 * ONE_C)
    assert pulse.until == (ELAPSED >= 600.0, VOLTAGE >= 4.25)
    assert pulse.record == RecordConditions(every=0.0)
    assert rest.setpoint(5.0) == OpenCircuit(5.0)
    assert rest.until == (ELAPSED >= 1800.0,)


def test_a_titration_turns_round_where_a_pulse_reaches_the_end_of_the_window() -> None:
    program = gitt(window=("3.0 V", "4.2 V")).steps(CELL)
    step = next(program)
    asked: list[str] = []
    for condition in (VOLTAGE >= 3.0, ELAPSED >= 600.0, VOLTAGE >= 4.2, VOLTAGE <= 3.0):
        if asked:
            step = program.send(ended(ELAPSED >= 600.0))
            asked.append(step.label)
            step = program.send(ended(condition))
        asked.append(step.label)
    assert asked == ["initial rest", "charge pulse", "rest", "charge pulse", "rest",
                     "discharge pulse", "rest"]  # fmt: skip
    with pytest.raises(StopIteration):
        program.send(ended(ELAPSED >= 1800.0))


def test_a_titration_that_never_arrives_is_given_up_after_twice_the_capacity() -> None:
    look = preview(gitt(discharge=False), CELL)
    assert look.complete
    passed = sum(
        step.current * seconds
        for step, seconds in zip(look.steps, look.durations, strict=True)
        if isinstance(step, ConstantCurrent)
    )
    assert passed == pytest.approx(MOST_CHARGE * CELL.capacity)


def test_a_relaxed_titration_rests_until_the_voltage_is_steady_or_the_patience_ends() -> None:
    plan = gitt(relaxed="0.1 mV/h", relaxation_window="20 min", longest_rest="5 h")
    _, _, rest = itertools.islice(plan.steps(CELL), 3)
    steady = abs(VOLTAGE.slope(1200.0)) <= si("0.1 mV/h")
    assert rest.until == (ELAPSED >= 18000.0, (ELAPSED >= 1800.0) & steady)


def test_voltage_steps_go_from_open_circuit_up_the_window_and_down_again() -> None:
    steps = steps_of(pitt(step="50 mV", window=("3.6 V", "3.8 V")), 3.63)
    held = [step for step in steps if isinstance(step, ConstantVoltage)]
    assert [step.voltage for step in held] == pytest.approx(
        [3.68, 3.73, 3.78, 3.8, 3.75, 3.7, 3.65, 3.6]
    )
    assert [step.label for step in held] == ["step up"] * 4 + ["step down"] * 4
    assert held[0].setpoint(5.0) == Potentiostatic(3.68, ONE_C)
    assert held[0].until == (ELAPSED >= 7200.0, abs(CURRENT) <= CELL.capacity * si("C/100"))


@pytest.mark.parametrize(("rest", "first"), [(2.6, 3.05), (4.4, 4.15)])
def test_voltage_steps_begin_at_the_end_of_the_window_that_is_nearer(
    rest: float, first: float
) -> None:
    held = steps_of(pitt(step="50 mV", window=("3.0 V", "4.2 V")), rest)[1]
    assert isinstance(held, ConstantVoltage)
    assert held.voltage == pytest.approx(first)


def test_a_linear_sweep_starts_from_the_voltage_at_rest() -> None:
    rest, sweep = steps_of(lsv(), 2.5)
    assert isinstance(rest, Rest)
    assert isinstance(sweep, VoltageSweep)
    assert (sweep.start, sweep.end, sweep.rate) == pytest.approx((2.5, 5.0, 1e-4))
    assert sweep.until == (ELAPSED >= sweep.request.duration,)


def test_cyclic_sweeps_go_to_the_vertex_and_then_to_and_fro() -> None:
    plan = cv(window=("-0.1 V", "0.2 V"), scans=2, rate="1 mV/s")
    sweeps = [step for step in steps_of(plan, 0.0) if isinstance(step, VoltageSweep)]
    assert [(step.start, step.end, step.cycle) for step in sweeps] == [
        (0.0, -0.1, 1), (-0.1, 0.2, 1), (0.2, -0.1, 1), (-0.1, 0.2, 2), (0.2, -0.1, 2),
    ]  # fmt: skip
    assert [step.label for step in sweeps[1:3]] == ["sweep up", "sweep down"]


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        (gitt, {"rate": "-C/10"}, "rate: write a positive C-rate"),
        (gitt, {"rest": "0 s"}, "rest"),
        (gitt, {"relaxed": "0.1 mV/h", "longest_rest": "10 min"}, "longest_rest"),
        (gitt, {"relaxed": "-0.1 mV/h"}, "relaxed: write a magnitude"),
        (pitt, {"step": "-5 mV"}, "step: write a positive voltage"),
        (pitt, {"cutoff": "2C"}, "cutoff"),
        (lsv, {"end": "5.5 V"}, "end: 5.5 V lies outside the window, 0 to 5 V"),
        (lsv, {"rate": "-1 mV/s"}, "must be positive"),
        (cv, {"scans": 0}, "scans: ask for at least one"),
        (cv, {"window": ("0.5 V", "-0.5 V")}, "window"),
    ],
)
def test_bad_parameters_are_refused_by_name(
    function: ProtocolFunction, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        preview(function(**parameters), CELL)


@pytest.mark.parametrize(
    ("name", "function"),
    [("kim2026-gitt", gitt), ("gitt-relaxed", gitt), ("kim2026-oxidation-sweep", lsv)],
)
def test_the_recipes_ask_for_what_their_protocol_knows(
    name: str, function: ProtocolFunction
) -> None:
    recipe = load_recipe(EXAMPLES / "recipes" / f"{name}.toml")
    assert recipe.protocol == function.name
    assert preview(function(**recipe.arguments(function.function)), CELL).steps
