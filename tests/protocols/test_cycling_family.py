"""The cycling family, seen as the steps that its protocols ask for."""

from __future__ import annotations

from typing import Any

import pytest

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import parameters_schema
from operando.instruments.recipe import RecordConditions
from operando.protocols import (
    Cell,
    ConstantCurrent,
    ConstantVoltage,
    HoldTemperature,
    Outcome,
    Rest,
    Step,
    preview,
)
from operando.protocols.calendar_ageing import calendar_ageing
from operando.protocols.protocol import Plan
from operando.protocols.pulses import pulses
from operando.protocols.rate_capability import rate_capability
from operando.protocols.self_discharge import self_discharge
from operando.protocols.steps import Impedance
from operando.protocols.voltage_hold import voltage_hold

CELL = Cell(CellEntry("c1", capacity=3600.0, where="bench.toml line 20"))
FAMILY = [rate_capability, pulses, voltage_hold, self_discharge, calendar_ageing]
ONE_C = 1.0  # A


def steps_of(plan: Plan) -> tuple[Step, ...]:
    return preview(plan, CELL).steps


def labelled(plan: Plan, label: str) -> list[Any]:
    return [step for step in steps_of(plan) if step.label == label]


def carried_out(plan: Plan, capacity: float, empty: str = "") -> list[Step]:
    """The steps when a discharge to the end of the window gives `capacity`, C.

    empty: label of a step that the end of the window ends before its time.
    """
    program, steps = plan.steps(CELL), []
    try:
        step = next(program)
        while True:
            steps.append(step)
            whole = step.label == "capacity discharge"
            charge = -capacity if whole else 0.0
            ended = step.until[-1 if step.label == empty else 0]
            outcome = Outcome(len(steps), "condition", ended, 1.0, charge, 0.0, 3.0, 0.0)
            step = program.send(outcome)
    except StopIteration:
        return steps


@pytest.mark.parametrize("protocol", FAMILY, ids=lambda one: one.name)
def test_every_parameter_has_a_meaning_and_the_defaults_make_a_whole_plan(protocol: Any) -> None:
    meanings = [row["meaning"] for row in protocol.parameter_table()]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings) > 5
    assert protocol.source
    assert preview(protocol(), CELL).complete
    assert protocol().window() == (2.5, 4.25)


def test_a_rate_test_is_a_slow_charge_before_each_rate_and_a_way_back() -> None:
    plan = rate_capability(rates="0.1C, 1C", cycles_per_rate=2, recovery_cycles=1)
    charges, downs = labelled(plan, "charge"), labelled(plan, "discharge")
    assert [step.current for step in charges] == pytest.approx([0.1 * ONE_C] * 5)
    assert all(step.until == (abs(CURRENT) <= 0.05 * ONE_C,) for step in charges)
    assert [step.current for step in downs] == pytest.approx([-0.1, -0.1, -1.0, -1.0])
    (back,) = labelled(plan, "recovery discharge")
    assert (back.current, back.cycle) == (pytest.approx(-0.1), 5)
    assert preview(plan, CELL).groups == (4,) * 5  # each cycle may run on board whole


def test_the_ladder_of_the_published_rate_test_is_the_default() -> None:
    plan = rate_capability(cycles_per_rate=1, recovery_cycles=0)
    rates = [-step.current / ONE_C for step in labelled(plan, "discharge")]
    assert rates == pytest.approx([0.1, 0.2, 0.33, 0.5, 1.0, 2.0])


def test_formation_comes_before_the_ladder_without_a_hold() -> None:
    plan = rate_capability(rates="1C", formation_cycles=2, initial_rest="6 h")
    first, *_ = steps_of(plan)
    assert first == Rest((ELAPSED >= 6 * 3600.0,), label="initial rest", cycle=1)
    assert all(isinstance(step, ConstantCurrent) for step in labelled(plan, "formation charge"))
    assert [step.cycle for step in labelled(plan, "formation discharge")] == [1, 2]
    assert [step.cycle for step in labelled(plan, "discharge")] == [3, 4, 5]


def test_a_list_of_rates_has_a_field_of_several_c_rates_in_a_form() -> None:
    entry = parameters_schema(rate_capability.function)["properties"]["rates"]
    assert entry["type"] == "array"
    assert entry["items"]["quantity"] == "a C-rate"
    assert entry["default"][:2] == ["0.1C", "0.2C"]


def test_pulses_go_down_by_the_capacity_that_was_measured() -> None:
    plan = pulses(states="80 %, 50 %", rate="C/10", pulse_rate="1C", charge_pulse="75 %")
    down = [s for s in carried_out(plan, 3000.0) if s.label == "to state of charge"]
    # 20 % of 3000 C at 0.1 A; then 30 %, less what the pulses took: a quarter of 1 A for 10 s.
    assert [step.until[0].bound for step in down] == pytest.approx([6000.0, 8975.0])  # type: ignore[attr-defined]
    assert [step.until[1] for step in down] == [VOLTAGE <= 2.5] * 2


def test_pulses_keep_every_reading_and_stop_at_the_window() -> None:
    plan = pulses(states="50 %")
    (discharge,), (charge,) = labelled(plan, "discharge pulse"), labelled(plan, "charge pulse")
    assert discharge.until == (VOLTAGE <= 2.5, ELAPSED >= 10.0)
    assert charge.until == (VOLTAGE >= 4.25, ELAPSED >= 10.0)
    assert (discharge.current, charge.current) == pytest.approx((-ONE_C, 0.75 * ONE_C))
    assert discharge.record == charge.record == RecordConditions(every=0.0)


def test_a_cell_that_is_empty_before_its_last_state_is_left_alone() -> None:
    steps = carried_out(pulses(states="80 %, 10 %"), 3000.0, empty="to state of charge")
    assert steps[-1].label == "to state of charge"


def test_holds_stand_between_cycles_without_them() -> None:
    plan = voltage_hold(holds=2, cycles=2, hold="10 h")
    holds = labelled(plan, "hold")
    assert all(isinstance(step, ConstantVoltage) for step in holds)
    assert [step.cycle for step in holds] == [3, 6]
    assert holds[0].until == (ELAPSED >= 36000.0,)
    assert holds[0].current_limit == pytest.approx(2.0 * 0.02 * ONE_C)
    assert [step.cycle for step in labelled(plan, "discharge")] == list(range(1, 9))
    assert len(labelled(plan, "discharge pulse")) == 8


@pytest.mark.parametrize("protocol", [voltage_hold, calendar_ageing], ids=lambda one: one.name)
def test_spectra_are_measured_only_if_asked_for_and_before_each_pulse(protocol: Any) -> None:
    assert not [step for step in steps_of(protocol()) if isinstance(step, Impedance)]
    steps = steps_of(protocol(spectra=True, highest_frequency="100 kHz", lowest_frequency="1 Hz"))
    places = [place for place, step in enumerate(steps) if isinstance(step, Impedance)]
    assert places
    assert all(steps[place + 1].label == "discharge pulse" for place in places)
    assert all(steps[place - 1].label == "rest until steady" for place in places)
    spectrum = steps[places[0]]
    assert isinstance(spectrum, Impedance)
    assert (spectrum.frequencies[0], spectrum.frequencies[-1]) == pytest.approx((1e5, 1.0))
    assert len(spectrum.frequencies) == 51


def test_the_storage_lies_between_cycles_without_one() -> None:
    plan = self_discharge(storage="48 h", cycles=2)
    (storage,) = labelled(plan, "storage")
    assert (storage.cycle, storage.until) == (3, (ELAPSED >= 48 * 3600.0,))
    assert [step.cycle for step in labelled(plan, "discharge")] == [1, 2, 3, 4, 5]


def test_check_ups_stand_at_both_ends_of_each_storage() -> None:
    plan = calendar_ageing(storages=2, state="50 %", rate="C/10")
    steps = carried_out(plan, 3000.0)
    up = [step for step in steps if step.label == "to state of charge"]
    assert [step.until[0].bound for step in up] == pytest.approx([15000.0] * 3)  # type: ignore[attr-defined]
    order = [s.label for s in steps if s.label in ("storage", "capacity discharge")]
    assert order == ["capacity discharge", "storage"] * 2 + ["capacity discharge"]
    assert not [step for step in steps if isinstance(step, HoldTemperature)]


def test_a_chamber_is_warm_for_the_storage_and_at_the_reference_for_check_ups() -> None:
    plan = calendar_ageing(storages=1, hold_temperature=True)
    found = [s.temperature for s in steps_of(plan) if isinstance(s, HoldTemperature)]
    assert found == pytest.approx([303.15, 318.15, 303.15])


@pytest.mark.parametrize(
    ("protocol", "parameters", "found"),
    [
        (rate_capability, {"rates": []}, "rates: write at least one"),
        (rate_capability, {"rates": "1C, -2C"}, "rates: value 2: write a positive C-rate"),
        (rate_capability, {"cycles_per_rate": 0}, "cycles_per_rate: ask for at least one"),
        (rate_capability, {"recovery_cycles": -1}, "write 0 to leave them out"),
        (rate_capability, {"cv_cutoff": "C/5"}, "cv_cutoff must be smaller than charge_rate"),
        (rate_capability, {"rest": "0 s"}, "rest: must be more than 0 s"),
        (pulses, {"states": "50 %, 80 %"}, "states: write the highest first"),
        (pulses, {"states": ["120 %"]}, "states: write fractions"),
        (pulses, {"charge_pulse": "0 %"}, "charge_pulse: write a positive fraction"),
        (pulses, {"pulse_rate": "-1C"}, "pulse_rate: write a positive C-rate"),
        (voltage_hold, {"hold_voltage": "4.4 V"}, "hold_voltage: 4.4 V lies outside the window"),
        (voltage_hold, {"cycles": 0}, "holds, cycles: ask for at least one of each"),
        (voltage_hold, {"hold": "0 s"}, "hold: must be more than 0 s"),
        (self_discharge, {"storage": "30 min"}, "storage: must be longer than rest"),
        (self_discharge, {"cycles": 0}, "cycles: ask for at least one"),
        (calendar_ageing, {"state": "0 %"}, "state: write a fraction above 0"),
        (calendar_ageing, {"storages": 0}, "storages: ask for at least one"),
        (calendar_ageing, {"window": ["4.25 V", "2.5 V"]}, "lower voltage comes first"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    protocol: Any, parameters: dict[str, object], found: str
) -> None:
    with pytest.raises(BadInputError, match=found):
        preview(protocol(**parameters), CELL)
