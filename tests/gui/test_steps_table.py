"""The table of steps: how long and how much, live as in the record, in the room that there is."""

from __future__ import annotations

import math

import pytest
from pytestqt.qtbot import QtBot

from operando.gui.theme import DARK
from operando.gui.widgets.steps_table import StepsTable, lasted, passed
from operando.station.client import Reading, StepInfo

DONE = StepInfo(
    index=1,
    cycle=1,
    label="charge",
    kind="ConstantCurrentConstantVoltage",
    setpoint="1.57 mA",
    start=0.0,
    end=2000.0,
    reason="condition",
    condition="|I| <= 156.9 µA",
    duration=1900.0,
    charge=3.2,
)
RUNS = StepInfo(
    index=2,
    cycle=1,
    label="rest after discharge",
    kind="Rest",
    setpoint="open circuit",
    start=2000.0,
)
LASTED, CHARGE, ENDED = 4, 5, 6


def column(table: StepsTable, number: int) -> list[str]:
    return [row[number] for row in table.lines()]


def test_a_running_step_has_lasted_what_is_no_pause() -> None:
    assert lasted(RUNS, 2090.0) == 90.0
    assert lasted(RUNS, 2600.0, [(2100.0, 2300.0)]) == 400.0
    # A pause before it, one that it began in, and one that goes on.
    assert lasted(RUNS, 2600.0, [(100.0, 200.0), (1990.0, 2010.0), (2500.0, math.inf)]) == 490.0
    assert lasted(DONE, 9000.0, [(100.0, 200.0)]) == 1900.0


@pytest.mark.parametrize("now", [None, -math.inf, math.nan])
def test_without_a_reading_nobody_says_how_long(now: float | None) -> None:
    assert lasted(RUNS, now) is None


def test_a_running_step_has_passed_what_the_steps_before_it_have_not() -> None:
    assert passed([DONE, RUNS], Reading(value=3.5, time=2010.0)) == pytest.approx(0.3)
    unknown = DONE.model_copy(update={"charge": None})
    assert passed([unknown, RUNS], Reading(value=3.5, time=2010.0)) is None
    assert passed([DONE, RUNS], Reading(value=3.2, time=1999.0)) is None
    assert passed([DONE, RUNS], Reading(value=None, time=2010.0)) is None
    assert passed([DONE, RUNS], None) is None


@pytest.fixture
def table(qtbot: QtBot) -> StepsTable:
    made = StepsTable(DARK)
    qtbot.addWidget(made)
    made.resize(700, 200)
    made.show()
    return made


def test_a_running_step_goes_on_from_its_first_second(table: StepsTable) -> None:
    table.show_steps([DONE, RUNS], now=None, live=True)
    assert column(table, LASTED) == ["31 min 40 s", "—"]
    table.show_now(2001.0, Reading(value=3.236, time=2001.0))
    assert column(table, LASTED)[1] == "1 s"
    assert column(table, CHARGE)[1] == "0.010 mAh"
    table.show_now(2090.0, None)
    assert (column(table, LASTED)[1], column(table, CHARGE)[1]) == ("1 min 30 s", "—")


def test_a_step_that_stands_says_so_and_its_time_stands_too(table: StepsTable) -> None:
    pauses = [(2100.0, math.inf)]
    table.show_steps([DONE, RUNS], now=5000.0, live=True, pauses=pauses)
    assert (column(table, LASTED)[1], column(table, ENDED)[1]) == ("1 min 40 s", "paused")
    assert table.inks()[1] == DARK.notice
    table.show_now(9000.0)
    assert column(table, LASTED)[1] == "1 min 40 s"


@pytest.mark.parametrize("width", [340, 440, 560, 700, 900])
def test_no_column_lies_beyond_the_edge(table: StepsTable, width: int) -> None:
    table.resize(width, 200)
    steps = [DONE.model_copy(update={"index": n}) for n in range(1, 40)]
    table.show_steps([*steps, RUNS.model_copy(update={"index": 40})], now=2100.0, live=True)
    view, across = table.viewport(), table.horizontalHeader()
    assert view is not None
    assert across is not None
    assert across.length() <= view.width()
    for head in ("Lasted", "Charge", "Ended by"):
        assert not table.isColumnHidden(StepsTable.HEADS.index(head))
    if width in {340, 900}:
        assert table.isColumnHidden(StepsTable.STARTED) == (width == 340)
