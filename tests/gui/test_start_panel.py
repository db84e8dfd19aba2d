"""The panel that starts a run, with a station's own judgement of what is typed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QMimeDatabase, QPoint, QPointF, Qt
from PyQt6.QtGui import QGuiApplication, QWheelEvent
from PyQt6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from pytestqt.qtbot import QtBot

from operando.gui.models.form import FormState
from operando.gui.theme import DARK, LIGHT, Theme
from operando.gui.widgets.start_panel import StartPanel
from operando.gui.widgets.style import Line, stylesheet
from operando.station.client import (
    RefusedError,
    Started,
    StationLostError,
)
from support.forms import CCCV
from support.start_desk import CELL, Desk, judge, lab
from support.window import FakeLink, channel


@pytest.fixture(scope="session", autouse=True)
def _kinds_of_files() -> None:
    """Qt reads its list of file types once, for its first file dialog, and keeps it open."""
    QMimeDatabase().mimeTypeForName("text/plain")


@pytest.fixture
def desk(link: FakeLink, theme: Theme, qtbot: QtBot) -> Iterator[Desk]:
    made = Desk(link, theme, qtbot)
    yield made
    made.panel.hide()


# ---- what is typed ---------------------------------------------------------------------------


def test_a_fresh_panel_shows_the_protocol_its_defaults_and_its_currents(desk: Desk) -> None:
    assert desk.said("start-title") == "Start a run on A1"
    assert desk.find(Line, "start-cell").text() == "coated-1, 1C = 3.137 mA"
    assert desk.find(QComboBox, "protocol").currentText() == "cccv"
    assert desk.find(QLineEdit, "field-charge_rate").text() == "C/2"
    assert desk.find(QLineEdit, "field-window").text() == "2.5 V"
    assert desk.find(QLineEdit, "field-window-upper").text() == "4.25 V"
    assert desk.find(QCheckBox, "field-constant_voltage").isChecked()
    assert desk.find(Line, "derived-charge_rate").text() == "1.569 mA"
    assert desk.find(QLineEdit, "poll-interval").text() == "1 s"
    assert desk.find(QLineEdit, "record-every").text() == "10 s"
    assert desk.start.isEnabled()
    assert desk.said("plan-size").startswith("4 steps, about 4 h 20 min")
    assert "at ×60" in desk.said("plan-done")


def test_a_bad_value_shows_its_reason_under_the_field_and_holds_the_start_back(desk: Desk) -> None:
    line = desk.write("field-charge_rate", "half")
    assert not desk.start.isEnabled()
    assert desk.find(Line, "derived-charge_rate").text() != "1.569 mA"
    desk.answer()
    assert "half" in desk.said("problem-charge_rate")
    assert line.property("invalid")
    assert not desk.start.isEnabled()
    assert desk.find(Line, "start-state").text() == "mend Charge rate"
    assert "half" in line.accessibleDescription()
    assert QApplication.activeModalWidget() is None
    desk.press(line, Qt.Key.Key_Return)
    desk.answer()
    assert desk.link.client.named("start") == []


def test_a_good_value_shows_its_current_and_lets_the_run_start(desk: Desk) -> None:
    desk.write("field-charge_rate", "half")
    desk.answer()
    line = desk.write("field-charge_rate", "1C")
    desk.answer()
    assert desk.find(Line, "derived-charge_rate").text() == "3.138 mA"
    assert desk.said("problem-charge_rate") == ""
    assert not line.property("invalid")
    assert desk.start.isEnabled()


def test_a_value_in_another_unit_is_refused_with_the_words_of_the_station(desk: Desk) -> None:
    desk.write("field-rest", "10")
    desk.write("field-window-upper", "2 V")
    desk.answer()
    (problem,) = [
        one
        for one in judge("A1", desk.panel.form.request()).problems
        if one.where == "parameters.rest"
    ]
    assert desk.said("problem-rest") == problem.message
    assert "lower voltage" in desk.said("problem-window")


def test_a_late_answer_about_older_texts_changes_nothing(desk: Desk) -> None:
    desk.write("field-charge_rate", "2C")
    old = desk.panel.form.begin_check()
    assert old is not None
    desk.write("field-charge_rate", "half")
    desk.answer()
    desk.panel._checked(old, judge("A1", old.request))
    assert not desk.start.isEnabled()
    assert "half" in desk.said("problem-charge_rate")


def test_a_tick_and_a_choice_are_part_of_the_run(desk: Desk) -> None:
    desk.find(QCheckBox, "field-constant_voltage").click()
    desk.answer()
    assert desk.panel.form.request().parameters["constant_voltage"] is False
    protocol = desk.find(QComboBox, "protocol")
    protocol.setCurrentIndex(1)
    protocol.activated.emit(1)
    desk.answer()
    order = desk.find(QComboBox, "field-order")
    order.setCurrentIndex(0)
    order.activated.emit(0)
    assert desk.panel.form.request().parameters["order"] == "up"
    # The fields of the other protocol are gone, not only out of sight.
    desk.qtbot.waitUntil(lambda: not desk.panel.findChildren(QLineEdit, "field-charge_rate"))


def test_texts_are_remembered_per_protocol(desk: Desk) -> None:
    desk.write("field-cycles", "7")
    protocol = desk.find(QComboBox, "protocol")
    for index in (1, 0):
        protocol.setCurrentIndex(index)
        protocol.activated.emit(index)
        desk.answer()
        desk.qtbot.waitUntil(lambda: len(desk.panel.findChildren(QLineEdit, "field-cycles")) <= 1)
    assert desk.find(QLineEdit, "field-cycles").text() == "7"
    desk.find(QPushButton, "reset-form").click()
    assert desk.find(QLineEdit, "field-cycles").text() == "1"


def test_the_wheel_over_a_choice_scrolls_and_changes_nothing(desk: Desk) -> None:
    choice = desk.find(QComboBox, "protocol")
    event = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, -120), QPoint(0, -120),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase,
        False,
    )  # fmt: skip
    QApplication.sendEvent(choice, event)
    assert choice.currentText() == "cccv"
    assert not event.isAccepted()


def test_the_meaning_of_a_field_is_said_while_it_has_the_focus(desk: Desk) -> None:
    desk.panel.show()
    line = desk.find(QLineEdit, "field-rest")
    assert line.toolTip().startswith("Open-circuit time")
    desk.panel._focus_field("parameters.rest")
    assert desk.find(QWidget, "help").accessibleName().startswith("Rest: Open-circuit time")


# ---- limits, plan and sheet ------------------------------------------------------------------


def test_the_limits_of_the_station_are_shown_until_one_is_edited(desk: Desk) -> None:
    line = desk.find(QLineEdit, "default-over_voltage-when")
    assert line.text() == "voltage > 4.3 V"
    assert desk.find(QLineEdit, "default-over_current-when").text() == "|current| > 1.89 mA"
    assert line.isReadOnly()
    desk.find(QPushButton, "default-over_voltage-edit").click()
    assert not line.isReadOnly()
    line.setFocus()
    line.end(False)
    desk.press(line, Qt.Key.Key_Backspace)
    desk.press(line, Qt.Key.Key_Backspace)
    desk.qtbot.keyClicks(line, "1 V")  # type: ignore[no-untyped-call]
    desk.answer()
    assert desk.find(QLineEdit, "limit-0-when") is line
    assert desk.panel.form.request().limits == {
        "over_voltage": {"when": "voltage > 4.31 V", "action": "trip"}
    }
    assert desk.start.isEnabled()


def test_a_limit_that_ends_the_run_is_warned_of_above_the_button(desk: Desk) -> None:
    desk.find(QPushButton, "add-limit").click()
    desk.write("limit-0-name", "too_high")
    desk.write("limit-0-when", "voltage > 3.9 V")
    desk.answer()
    assert desk.said("start-warnings").startswith("This run will be ended by a limit: too_high")
    assert desk.start.isEnabled()
    desk.find(QAbstractButton, "limit-0-remove").click()
    desk.answer()
    assert desk.said("start-warnings") == ""
    assert desk.panel.form.request().limits == {}


def test_a_wrong_condition_is_told_at_its_limit(desk: Desk) -> None:
    desk.find(QPushButton, "add-limit").click()
    desk.write("limit-0-name", "odd")
    when = desk.write("limit-0-when", "pressure > 5")
    desk.answer()
    assert '"5" has no unit' in desk.said("limit-0-problem")
    assert "^" not in desk.said("limit-0-problem")
    assert when.property("invalid")
    assert not desk.find(QLineEdit, "limit-0-name").property("invalid")
    assert not desk.start.isEnabled()


def test_the_sheet_says_what_is_left_when_the_computer_dies(desk: Desk) -> None:
    desk.find(QPushButton, "add-limit").click()
    desk.write("limit-0-name", "over_pressure")
    desk.write("limit-0-when", "pressure > 12 MPa")
    desk.answer()
    assert desk.panel._results.sheet_part._summary.text() == "4 limits, 1 lost if the computer dies"
    desk.find(QPushButton, "limit-sheet").click()
    assert desk.panel._results.sheet_part.is_open
    shown = {made.text(): made.property("role") for made in desk.panel.findChildren(QLabel)}
    (bare,) = [text for text in shown if "NOTHING if the computer dies" in text]
    assert shown[bare] == "notice"


def test_a_refused_form_shows_no_plan_of_older_texts(desk: Desk) -> None:
    assert not desk.panel._results._plan.isHidden()
    desk.write("field-cycles", "none")
    desk.answer()
    assert desk.panel._results._plan.isHidden()
    assert desk.panel._results.sheet_part.isHidden()


# ---- starting --------------------------------------------------------------------------------


def test_a_start_sends_the_texts_and_closes_the_panel(desk: Desk, qtbot: QtBot) -> None:
    desk.link.client.answers["start"] = Started(run="run-7")
    desk.write("field-charge_rate", "1C")
    desk.answer()
    heard: list[tuple[str, str]] = []
    desk.panel.started.connect(lambda *both: heard.append(both))
    with qtbot.waitSignal(desk.panel.closed):
        desk.start.click()
        assert not desk.start.isEnabled()
        assert desk.find(QLineEdit, "field-charge_rate").isEnabled() is False
        desk.link.drain()
    assert heard == [("A1", "run-7")]
    ((name, request, request_id),) = desk.link.client.named("start")
    assert (name, bool(request_id)) == ("A1", True)
    assert request.parameters["charge_rate"] == "1C"
    assert desk.panel.isHidden()
    desk.panel.open_for(lab()[1])
    desk.answer()
    assert desk.find(QLineEdit, "field-charge_rate").text() == "1C"
    assert desk.said("start-title") == "Start a run on A2"
    assert desk.start.isEnabled()


def test_a_refused_start_says_why_and_keeps_everything_typed(desk: Desk) -> None:
    desk.link.client.answers["start"] = RefusedError("smu1 does not answer")
    desk.write("field-charge_rate", "1C")
    desk.find(QPushButton, "add-limit").click()
    desk.write("limit-0-name", "high")
    desk.write("limit-0-when", "voltage > 4.3 V")
    desk.answer()
    desk.start.click()
    desk.link.drain()
    assert desk.said("start-reason") == "Not started: smu1 does not answer"
    assert not desk.panel.isHidden()
    assert desk.find(QLineEdit, "field-charge_rate").text() == "1C"
    assert desk.find(QLineEdit, "limit-0-when").text() == "voltage > 4.3 V"
    assert desk.start.isEnabled()
    assert QApplication.activeModalWidget() is None


def test_a_start_that_is_not_answered_says_that_the_run_may_have_begun(desk: Desk) -> None:
    desk.link.client.answers["start"] = StationLostError("gone")
    desk.start.click()
    desk.link.drain()
    assert "Whether a run began on A1 is not known" in desk.said("start-reason")
    desk.link.client.answers["start"] = Started(run="run-7")
    desk.start.click()
    desk.link.drain()
    first, again = desk.link.client.named("start")
    assert first == again  # by its id the station knows the start that it has had


def test_nothing_closes_or_starts_twice_while_a_start_is_not_answered(desk: Desk) -> None:
    desk.link.hold = True
    desk.start.click()
    desk.start.click()
    desk.panel.start_run()
    desk.panel.close_panel()
    desk.panel.open_for(lab()[1])
    assert not desk.panel.isHidden()
    assert desk.said("start-title") == "Start a run on A1"
    desk.link.hold = False
    desk.link.client.answers["start"] = Started(run="run-7")
    desk.link.drain()
    assert len(desk.link.client.named("start")) == 1


def test_a_refusal_that_nobody_sees_is_handed_on(desk: Desk, qtbot: QtBot) -> None:
    desk.link.client.answers["start"] = RefusedError("smu1 does not answer")
    desk.start.click()
    desk.panel.hide()
    with qtbot.waitSignal(desk.panel.refused) as heard:
        desk.link.drain()
    assert heard.args == ["A1", "Not started: smu1 does not answer"]


def test_enter_starts_when_ready_and_escape_closes(desk: Desk, qtbot: QtBot) -> None:
    desk.link.client.answers["start"] = Started(run="run-7")
    line = desk.write("field-charge_rate", "1C")
    desk.press(line, Qt.Key.Key_Return)
    desk.link.drain()
    assert desk.link.client.named("start") == []  # these texts were not checked yet
    desk.answer()
    desk.press(line, Qt.Key.Key_Return)
    desk.link.drain()
    assert len(desk.link.client.named("start")) == 1
    desk.panel.open_for(lab()[0])
    desk.answer()
    with qtbot.waitSignal(desk.panel.closed):
        desk.press(desk.find(QLineEdit, "field-charge_rate"), Qt.Key.Key_Escape)
    assert desk.panel.isHidden()


def test_a_station_that_is_lost_is_asked_again_when_it_is_back(desk: Desk) -> None:
    desk.link.client.answers["check"] = StationLostError("the station does not answer")
    desk.write("field-cycles", "2")
    desk.answer()
    assert desk.said("start-reason") == "The station does not answer"
    assert not desk.start.isEnabled()
    desk.link.client.answers["check"] = judge
    desk.panel.set_channels(lab())
    desk.answer()
    assert desk.said("start-reason") == ""
    assert desk.start.isEnabled()


def test_protocols_that_did_not_come_are_asked_for_again(
    link: FakeLink, theme: Theme, qtbot: QtBot
) -> None:
    desk = Desk(link, theme, qtbot)
    fresh = StartPanel(link, theme)
    qtbot.addWidget(fresh)
    link.client.answers["protocols"] = StationLostError("gone")
    fresh.open_for(lab()[0])
    link.drain()
    assert not fresh.form.protocols
    link.client.answers["protocols"] = [CCCV]
    fresh.set_channels(lab())
    link.drain()
    assert [info.name for info in fresh.form.protocols] == ["cccv"]
    assert desk.start.isEnabled()


def test_a_channel_that_runs_or_waits_is_noted_before_the_start(desk: Desk) -> None:
    desk.panel.set_channels([channel("A1", "tripped", cell=CELL), *lab()[1:]])
    assert "A1 waits to be acknowledged (tripped)" in desk.said("start-warnings")
    desk.panel.set_channels([channel("A1", "running", cell=CELL), *lab()[1:]])
    assert desk.said("start-warnings").startswith("A1 is running: Formation")


def test_another_channel_is_checked_anew_with_the_same_texts(desk: Desk) -> None:
    desk.write("field-charge_rate", "1C")
    chosen = desk.find(QComboBox, "channel")
    chosen.setCurrentIndex(2)
    chosen.activated.emit(2)
    assert not desk.start.isEnabled()
    desk.answer()
    assert desk.said("start-title") == "Start a run on A3"
    assert desk.link.client.named("check")[-1][0] == "A3"
    assert desk.find(QLineEdit, "field-charge_rate").text() == "1C"


# ---- recipes ---------------------------------------------------------------------------------


def test_a_recipe_is_loaded_and_a_wrong_one_refused_with_its_line(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('protocol = "cccv"\n[parameters]\ncycles = 4\n', encoding="utf-8")
    desk.panel.load_recipe(path)
    desk.answer()
    assert desk.find(QLineEdit, "field-cycles").text() == "4"
    assert desk.start.isEnabled()
    path.write_text('protocol = "cccv"\n[parameters]\ncycle = 5\n', encoding="utf-8")
    desk.panel.load_recipe(path)
    assert "mine.toml line 3: [parameters] cycle: unknown key" in desk.said("start-reason")
    assert desk.find(QLineEdit, "field-cycles").text() == "4"
    desk.panel.load_recipe(tmp_path / "none.toml")
    assert "none.toml" in desk.said("start-reason")
    assert "cannot be read" in desk.said("start-reason")


def test_the_recipe_is_copied_and_saved_as_it_was_checked(desk: Desk, tmp_path: Path) -> None:
    desk.write("field-charge_rate", "1C")
    desk.answer()
    desk.find(QPushButton, "copy-recipe").click()
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    assert 'charge_rate = "1C"' in clipboard.text()
    path = tmp_path / "mine.toml"
    desk.panel.save_recipe(path)
    before = desk.panel.form.request()
    desk.find(QPushButton, "reset-form").click()
    desk.panel.load_recipe(path)
    assert desk.panel.form.request() == before
    desk.panel.save_recipe(tmp_path / "no" / "such.toml")
    assert "not saved" in desk.panel._results.recipe._note.text()


@pytest.mark.parametrize("name", ["load-recipe", "save-recipe"])
def test_a_file_dialog_locks_nothing_up(desk: Desk, name: str) -> None:
    desk.find(QPushButton, name).click()
    (dialog,) = desk.panel.findChildren(QFileDialog)
    assert dialog.isVisible()
    assert not dialog.isModal()
    assert desk.start.isEnabled()
    dialog.reject()
    assert desk.panel._dialog is None


# ---- looks and reach -------------------------------------------------------------------------


def test_both_themes_are_taken_while_it_is_open(
    link: FakeLink, each_theme: Theme, qtbot: QtBot
) -> None:
    desk = Desk(link, DARK, qtbot)
    window = QWidget()
    qtbot.addWidget(window)
    QVBoxLayout(window).addWidget(desk.panel)
    desk.write("field-charge_rate", "half")
    desk.answer()
    for theme in (each_theme, LIGHT if each_theme is DARK else DARK, each_theme):
        window.setStyleSheet(stylesheet(theme))
        desk.panel.set_theme(theme)
        picture = desk.panel.grab().toImage()
        assert picture.pixelColor(2, picture.height() // 2).name() == theme.surface
    assert "half" in desk.said("problem-charge_rate")


def test_the_button_stays_in_sight_and_no_text_is_wider_than_the_panel(desk: Desk) -> None:
    desk.panel.show()
    desk.write("field-charge_rate", "half")
    desk.answer()
    assert not desk.start.visibleRegion().isEmpty()
    assert desk.panel.width() == 420
    inner = desk.panel._scroll.widget()
    viewport = desk.panel._scroll.viewport()
    assert inner is not None
    assert viewport is not None
    assert inner.width() <= viewport.width()


def test_tab_goes_from_top_to_bottom(desk: Desk) -> None:
    names = itertools.islice(_chain(desk.find(QComboBox, "channel")), 200)
    order = [name for name in names if name]
    wanted = [
        "channel", "protocol", "field-cycles", "field-charge_rate", "field-window",
        "field-window-upper", "field-constant_voltage", "default-over_voltage-when",
        "add-limit", "limit-sheet", "recording", "poll-interval", "record-every", "start-run",
    ]  # fmt: skip
    assert [name for name in order if name in wanted] == wanted


def _chain(widget: QWidget) -> Iterator[str]:
    first, here = widget, widget
    while True:
        yield here.objectName()
        after = here.nextInFocusChain()
        if after is None or after is first:
            return
        here = after


def test_every_editor_has_a_name_for_screen_readers(desk: Desk) -> None:
    editors: list[QWidget] = [
        *desk.panel.findChildren(QLineEdit),
        *desk.panel.findChildren(QComboBox),
        *desk.panel.findChildren(QCheckBox),
    ]
    assert len(editors) > 20
    assert [one.objectName() for one in editors if not one.accessibleName()] == []


def test_no_dialog_of_the_panel_is_run_by_exec(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    def never(*_: object) -> int:
        raise AssertionError("exec")

    monkeypatch.setattr(QFileDialog, "exec", never)
    for act in _acts(desk):
        act()
    assert desk.panel.form.state is not FormState.STARTED


def _acts(desk: Desk) -> list[Callable[[], object]]:
    desk.link.client.answers["start"] = RefusedError("no")
    return [
        desk.find(QPushButton, "load-recipe").click,
        desk.find(QPushButton, "save-recipe").click,
        desk.start.click,
        desk.link.drain,
        desk.panel._forget_dialog,
    ]
