"""What a preview knows of groups of steps and how long they take."""

from __future__ import annotations

import pytest

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE
from operando.protocols import (
    Block,
    Cell,
    ConstantCurrent,
    ConstantCurrentConstantVoltage,
    Rest,
    Step,
    Steps,
    cccv,
    preview,
    protocol,
)
from operando.protocols.preview import MOST_STEPS

CELL = Cell(CellEntry("c1", "", capacity=11.295))


def rest(seconds: float) -> Step:
    return Rest((ELAPSED >= seconds,))


@protocol(source="this test")
def mixed(cell: Cell) -> Steps:
    """A step alone, a block that is repeated, a step alone."""
    yield rest(1.0)
    outcome = yield Block((rest(2.0), rest(3.0)), repeat=2)
    yield rest(outcome.duration)


@protocol(source="this test")
def endless(cell: Cell) -> Steps:
    """A block again and again."""
    while True:
        yield Block((rest(1.0), rest(1.0), rest(1.0)))


def test_a_preview_keeps_blocks_together_and_repeats_them() -> None:
    ahead = preview(mixed(), CELL)
    assert ahead.groups == (1, 2, 2, 1)
    assert [durations for _, durations in ahead.grouped()] == [
        (1.0,), (2.0, 3.0), (2.0, 3.0), (3.0,),
    ]  # fmt: skip
    assert tuple(step for steps, _ in ahead.grouped() for step in steps) == ahead.steps


def test_a_cycle_of_cccv_is_one_group_of_estimated_length() -> None:
    plan = cccv(formation_cycles=1, cycles=2, charge_rate="C/2", discharge_rate="1C")
    lengths = [sum(durations) for _, durations in preview(plan, CELL).grouped()]
    assert lengths == pytest.approx([2 * 36000.0 + 1200.0] + 2 * [7200.0 + 3600.0 + 1200.0])


def test_a_preview_that_does_not_end_stops_behind_a_whole_group() -> None:
    ahead = preview(endless(), CELL)
    assert not ahead.complete
    assert set(ahead.groups) == {3}
    assert len(ahead.steps) == sum(ahead.groups) == 3 * -(-MOST_STEPS // 3)


def test_without_a_capacity_the_time_of_a_current_is_not_estimated() -> None:
    @protocol(source="this test")
    def charge(cell: Cell) -> Steps:
        """Charge."""
        yield ConstantCurrent(1e-3, (VOLTAGE >= 4.2,))
        yield ConstantCurrentConstantVoltage(1e-3, 4.2, (abs(CURRENT) <= 1e-4,))

    assert preview(charge(), Cell(CellEntry("c1", ""))).durations == (0.0, 0.0)
