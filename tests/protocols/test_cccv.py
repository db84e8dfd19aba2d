"""The cccv protocol, seen as the steps that it asks for."""

from __future__ import annotations

import pytest

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.roles import Galvanostatic, OpenCircuit
from operando.protocols import (
    Block,
    Cell,
    ConstantCurrent,
    ConstantCurrentConstantVoltage,
    Outcome,
    Rest,
    cccv,
    preview,
    protocol,
)
from operando.protocols.protocol import Steps
from operando.protocols.run import current_bound
from operando.protocols.steps import step_hash

# 16.96 mg at 185 mA/g: Kim et al., Energy Storage Materials 2026, 105167, section 2.3.
CELL = Cell(CellEntry("c1", "bench.toml line 1", capacity=16.96e-6 * 185e3 * 3600.0 / 1e3))


def test_one_cycle_is_charge_with_hold_rest_discharge_rest() -> None:
    steps = preview(cccv(charge_rate="1C", discharge_rate="2C", cv_cutoff="0.1C"), CELL).steps
    one_c = CELL.capacity / 3600.0
    assert [type(step) for step in steps] == [
        ConstantCurrentConstantVoltage,
        Rest,
        ConstantCurrent,
        Rest,
    ]
    assert steps[0].setpoint(5.0) == Galvanostatic(one_c, 4.25)
    assert steps[0].until == (abs(CURRENT) <= 0.1 * one_c,)
    assert steps[2].setpoint(5.0) == Galvanostatic(-2.0 * one_c, 2.5)
    assert steps[1].setpoint(5.0) == OpenCircuit(5.0)


def test_the_1c_current_of_the_reference_cell_is_3_14_milliamperes() -> None:
    assert preview(cccv(charge_rate="1C"), CELL).highest_current == pytest.approx(3.1376e-3)


def test_formation_cycles_come_first_at_their_own_rate_without_a_hold() -> None:
    steps = preview(cccv(formation_cycles=2, cycles=1, rest="0 s"), CELL).steps
    assert [step.label for step in steps] == [
        *("formation charge", "formation discharge") * 2,
        "charge",
        "discharge",
    ]
    assert [step.cycle for step in steps] == [1, 1, 2, 2, 3, 3]
    assert current_bound(steps[0].setpoint(5.0)) == pytest.approx(CELL.capacity / 36000.0)


def test_a_rate_without_a_capacity_is_refused_and_says_what_to_write() -> None:
    cell = Cell(CellEntry("c9", "bench.toml line 30"))
    with pytest.raises(BadInputError, match=r'bench.toml line 30.*capacity = "3.14 mAh"'):
        preview(cccv(), cell)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": ("4.25 V", "2.5 V")}, "window"),
        ({"cycles": 0}, "at least one cycle"),
        ({"cv_cutoff": "2C", "charge_rate": "1C"}, "cv_cutoff must be smaller"),
        ({"charge_rate": "-1C"}, "rate"),
        ({"rest": "10"}, "rest"),
        ({"rest": "10 mV"}, "rest"),
        ({"chrage_rate": "1C"}, 'did you mean "charge_rate"'),
    ],
)
def test_bad_parameters_are_refused_by_name(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        preview(cccv(**parameters), CELL)


def test_a_constant_current_without_a_voltage_at_which_to_stop_cannot_be_made() -> None:
    with pytest.raises(BadInputError, match=r"no voltage at which to stop.*voltage >="):
        ConstantCurrent(1e-3, (ELAPSED >= 60.0,))
    with pytest.raises(BadInputError, match=r"voltage <="):
        ConstantCurrent(-1e-3, (VOLTAGE >= 4.0,))


def test_the_cut_off_is_the_tightest_bound_on_the_side_of_the_current() -> None:
    step = ConstantCurrent(1e-3, (VOLTAGE >= 4.3, VOLTAGE >= 4.1, VOLTAGE <= 2.0))
    assert step.setpoint(5.0) == Galvanostatic(1e-3, 4.1)
    assert step.cutoff == (VOLTAGE >= 4.1)


def test_a_step_hash_follows_what_the_step_does() -> None:
    step = ConstantCurrent(1e-3, (VOLTAGE >= 4.1,), label="charge", cycle=1)
    same = ConstantCurrent(1e-3, (VOLTAGE >= 4.1,), label="charge", cycle=1)
    other = ConstantCurrent(1.1e-3, (VOLTAGE >= 4.1,), label="charge", cycle=1)
    assert step_hash(step) == step_hash(same) != step_hash(other)


def test_blocks_are_unrolled_and_their_last_outcome_is_given_back() -> None:
    seen: list[Outcome] = []

    @protocol(source="this test")
    def twice(cell: Cell, *, window: tuple[float, float] = (2.5, 4.2)) -> Steps:
        """Two rests, twice."""
        outcome = yield Block((Rest((ELAPSED >= 1.0,)), Rest((ELAPSED >= 2.0,))), repeat=2)
        seen.append(outcome)

    steps = preview(twice(), CELL).steps
    assert [step.until for step in steps] == [(ELAPSED >= 1.0,), (ELAPSED >= 2.0,)] * 2
    assert seen[0].index == 4


def test_an_outcome_knows_what_ended_it() -> None:
    full = VOLTAGE >= 4.25
    outcome = Outcome(1, "cut-off", full, 10.0, 1.0, 1.0, 4.25, 1e-3)
    assert outcome.ended_by(VOLTAGE >= 4.25)
    assert not outcome.ended_by(VOLTAGE >= 4.2)
