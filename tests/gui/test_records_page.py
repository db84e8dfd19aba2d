"""The table of records: what it shows, how one is found and opened."""

from __future__ import annotations

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QColor
from pytestqt.qtbot import QtBot

from operando.gui.theme import Theme
from operando.gui.widgets.records_page import COLUMNS, LABORATORY, ORIGIN, STATE, RecordsPage, words
from operando.station.client import StationLostError
from support.hands import double_click, key, write
from support.window import FakeLink, run_summary

RUNS = [
    run_summary("run-1", channel="A1", started=1_760_000_000.0, state="completed"),
    run_summary("run-3", channel="B2", started=1_760_200_000.0, state="tripped", cell="Si-7"),
    run_summary("run-2", channel="A1", started=1_760_100_000.0, state="running", duration=None),
    run_summary("run-0", channel="C1", cell="LFP", started=1_750_000_000.0, simulated=False),
]


@pytest.fixture
def page(qtbot: QtBot, link: FakeLink, each_theme: Theme) -> RecordsPage:
    link.client.answers["runs"] = RUNS
    made = RecordsPage(link, each_theme)
    qtbot.addWidget(made)
    made.resize(1200, 700)
    made.show()
    made.refresh()
    link.drain()
    return made


def shown(page: RecordsPage) -> list[str]:
    return [run.run for run in page.model.shown]


def cell(page: RecordsPage, row: int, column: int, role: Qt.ItemDataRole) -> object:
    return page.model.data(page.model.index(row, column), role)


def test_the_newest_record_comes_first(page: RecordsPage) -> None:
    assert shown(page) == ["run-3", "run-2", "run-1", "run-0"]
    assert page.note() == "4 runs"
    header = [
        page.model.headerData(index, Qt.Orientation.Horizontal) for index in range(len(COLUMNS))
    ]
    assert header == list(COLUMNS)


def test_a_state_has_glyph_word_and_colour(page: RecordsPage, each_theme: Theme) -> None:
    assert cell(page, 0, STATE, Qt.ItemDataRole.DisplayRole) == "▲  tripped"
    assert cell(page, 0, STATE, Qt.ItemDataRole.ForegroundRole) == QColor(each_theme.bad)
    assert cell(page, 1, STATE, Qt.ItemDataRole.ForegroundRole) == QColor(each_theme.active)


def test_simulated_and_measured_records_are_told_apart(
    page: RecordsPage, each_theme: Theme
) -> None:
    assert cell(page, 0, ORIGIN, Qt.ItemDataRole.DisplayRole) == "SIMULATED"
    assert cell(page, 0, ORIGIN, Qt.ItemDataRole.ForegroundRole) == QColor(each_theme.simulated)
    assert cell(page, 3, ORIGIN, Qt.ItemDataRole.DisplayRole) == "measured"


def test_a_run_under_way_has_no_duration_yet(page: RecordsPage) -> None:
    assert cell(page, 1, 5, Qt.ItemDataRole.DisplayRole) == "—"
    assert cell(page, 2, 5, Qt.ItemDataRole.DisplayRole) == "1 h 23 min"


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        ("tripped", ["run-3"]),
        ("A1", ["run-2", "run-1"]),
        ("a1 completed", ["run-1"]),
        ("si-7", ["run-3"]),
        ("measured", ["run-0"]),
        ("nowhere", []),
    ],
)
def test_the_field_finds_records_by_any_word(
    page: RecordsPage, sought: str, found: list[str]
) -> None:
    write(page.filter, sought)
    assert shown(page) == found
    assert page.note() == f"{len(found)} of 4 runs"
    page.filter.clear()
    assert len(shown(page)) == 4


def test_enter_and_a_double_click_open_a_record(page: RecordsPage, qtbot: QtBot) -> None:
    page.table.selectRow(1)
    with qtbot.waitSignal(page.opened) as opened:
        key(page.table, Qt.Key.Key_Return)
    assert opened.args == ["run-2"]
    viewport = page.table.viewport()
    assert viewport is not None
    place = page.table.visualRect(page.model.index(2, 1)).center()
    with qtbot.waitSignal(page.opened) as opened:
        double_click(viewport, place)
    assert opened.args == ["run-1"]


def test_what_is_chosen_stays_chosen_when_the_records_are_read_again(
    page: RecordsPage, link: FakeLink
) -> None:
    page.table.selectRow(2)
    newer = run_summary("run-4", started=1_770_000_000.0)
    link.client.answers["runs"] = [newer, *RUNS]
    page.refresh()
    link.drain()
    assert shown(page)[0] == "run-4"
    assert page.model.shown[page.table.currentIndex().row()].run == "run-1"


def test_records_that_cannot_be_read_are_said_to_be(page: RecordsPage, link: FakeLink) -> None:
    link.client.answers["runs"] = StationLostError("the station does not answer")
    page.refresh()
    link.drain()
    assert page.note() == "The records cannot be read: the station does not answer"
    assert len(shown(page)) == 4


def test_a_folder_without_records_says_how_to_make_one(
    qtbot: QtBot, link: FakeLink, theme: Theme
) -> None:
    link.client.answers["runs"] = []
    page = RecordsPage(link, theme)
    qtbot.addWidget(page)
    page.refresh()
    assert page.note() == "Reading the records…"
    link.drain()
    assert page.note() == "No run yet: start one on a channel's card"


def test_the_start_is_told_by_the_wall_clock_and_that_of_the_laboratory_beside_it(
    page: RecordsPage, link: FakeLink
) -> None:
    assert page.table.isColumnHidden(LABORATORY)
    ahead = run_summary("run-1", made=1_760_000_000.0, started=1_760_040_000.0)
    newer = run_summary("run-2", made=1_760_003_600.0, started=1_760_003_600.0, simulated=False)
    link.client.answers["runs"] = [ahead, newer]
    page.refresh()
    link.drain()
    assert shown(page) == ["run-2", "run-1"]
    assert not page.table.isColumnHidden(LABORATORY)
    texts = words(ahead)
    assert texts[0] == words(run_summary("x", made=None, started=ahead.made, simulated=False))[0]
    assert texts[LABORATORY] != texts[0]
    assert words(newer)[LABORATORY] == "the same"


def test_a_simulated_start_without_a_wall_clock_is_said_to_be_the_laboratorys() -> None:
    assert words(run_summary("run-1"))[0].endswith("(lab)")
