"""The page of a channel: what it does is said, what it did is drawn, what can be done works."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PyQt6.QtWidgets import QApplication, QPushButton, QTabWidget, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.models.channel import NOT_VERIFIED, ChannelView, channel_view
from operando.gui.theme import LIGHT, Theme
from operando.gui.widgets import channel_page
from operando.gui.widgets.channel_page import ChannelPage
from operando.gui.widgets.page_head import COMMANDS
from operando.gui.widgets.sheet import stylesheet
from operando.station.client import (
    CellInfo,
    ChannelStatus,
    Curve,
    CycleRow,
    GapInfo,
    JournalLine,
    LimitInfo,
    Loop,
    RunDetail,
    State,
    StationLostError,
    StepInfo,
)
from support.window import STATES, FakeLink, channel, rows, run_summary

RUN = "run-A1"
LIMIT = LimitInfo(
    name="over_voltage", when="voltage > 4.3 V", action="trip", quantity="voltage", bound=4.3
)


def detail(run: str = RUN, **changes: Any) -> RunDetail:
    """A run of two steps with a gap between them."""
    fields: dict[str, Any] = {
        "summary": run_summary(run),
        "quantities": ("charge", "current", "pressure", "voltage"),
        "start": 0.0,
        "end": 5000.0,
        "cell": CellInfo(name="NCM-A1", capacity=11.3, active_mass=1.696e-5),
        "steps": (
            StepInfo(
                index=1,
                cycle=1,
                label="charge CC",
                kind="ConstantCurrent",
                setpoint="1.57 mA",
                start=0.0,
                end=2000.0,
                reason="condition",
                condition="voltage >= 4.25 V",
                duration=2000.0,
                charge=3.2,
            ),
            StepInfo(index=2, cycle=1, label="rest", kind="Rest", start=3000.0),
        ),
        "journal": (
            JournalLine(seq=1, time=0.0, unix_time=None, kind="run started", text="run started"),
            JournalLine(
                seq=2, time=3000.0, unix_time=None, kind="gap", text="nothing was observed"
            ),
        ),
        "gaps": (GapInfo(start=2000.0, end=3000.0, reason="suspended"),),
        "limits": (LIMIT,),
    }
    return RunDetail(**(fields | changes))


def curves(run: str, quantities: Any, **options: Any) -> dict[str, Curve]:
    time = np.concatenate((np.arange(0.0, 2001.0, 20.0), np.arange(3000.0, 5001.0, 20.0)))
    sizes = {"voltage": 3.8, "current": 1.5e-3, "pressure": 8e6, "charge": 3.2}
    return {name: Curve(time, sizes[name] * (1 + time / 1e5), True) for name in quantities}


LOOP = Loop(1, True, np.linspace(0.0, 3.2, 40), np.linspace(3.5, 4.25, 40))
CYCLE = CycleRow(cycle=1, charge_capacity=3.2, discharge_capacity=3.1, coulombic_efficiency=0.969)


@pytest.fixture
def page(qtbot: QtBot, link: FakeLink, theme: Theme) -> ChannelPage:
    return page_in(qtbot, link, theme)


def page_in(qtbot: QtBot, link: FakeLink, theme: Theme) -> ChannelPage:
    link.client.answers.update(
        {"run": detail, "curves": curves, "loops": [LOOP], "cycles": [CYCLE]}
    )
    made = ChannelPage(link, theme)
    qtbot.addWidget(made)
    made.setStyleSheet(stylesheet(theme))
    made.resize(1200, 720)
    made.show()
    QApplication.processEvents()
    return made


def settle(page: ChannelPage, link: FakeLink) -> None:
    for _ in range(4):
        QApplication.processEvents()
        page.tick()
        link.drain()
        QApplication.processEvents()


def view_of(status: ChannelStatus, *, current: bool = True) -> ChannelView:
    return channel_view(status, current=current, speed=60.0)


def show(
    page: ChannelPage, link: FakeLink, state: State = "running", **changes: Any
) -> ChannelStatus:
    status = channel("A1", state, **changes)
    page.show_channel(status, view_of(status))
    settle(page, link)
    return status


def text(page: ChannelPage, name: str) -> str:
    found: Any = page.findChild(QWidget, name)
    assert found is not None, name
    return str(found.text())


def commands(page: ChannelPage) -> set[str]:
    """Names of the commands that can be pressed."""
    return {
        word
        for word, _, _ in COMMANDS
        if page.head.button(word).isVisible() and page.head.button(word).isEnabled()
    }


def test_the_states_here_are_all_that_there_are() -> None:
    assert set(get_args(State)) == set(STATES)


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_said_by_glyph_and_word_with_its_reason(
    page: ChannelPage, link: FakeLink, state: State
) -> None:
    status = show(page, link, state)
    view = view_of(status)
    badge = text(page, "page-state")
    assert badge.startswith(view.glyph)
    assert view.state_text.partition(":")[0].lower() in badge.lower()
    assert text(page, "page-voltage") == view.voltage
    reason: Any = page.findChild(QWidget, "page-reason")
    if view.reason:
        assert reason.isVisible()
        assert view.reason in reason.text()
    if state in {"paused", "held"}:
        assert reason.text().startswith(f"{state.capitalize()} at open circuit, output read back")
    if view.over and view.output_text != NOT_VERIFIED:
        assert view.output_text in reason.text()
    last = view.over or state in {"paused", "held"}
    assert text(page, "page-caption-voltage") == ("Last voltage" if last else "Voltage")
    assert text(page, "page-caption-charge") == "Charge"
    alert: Any = page.findChild(QWidget, "page-alert")
    assert alert.isVisible() == (view.output_text == NOT_VERIFIED)


@pytest.mark.parametrize(
    ("state", "can"),
    [
        ("running", {"pause", "end_step", "stop"}),
        ("paused", {"resume", "end_step", "stop"}),
        ("completed", {"start"}),
        ("idle", {"start"}),
        ("tripped", {"acknowledge"}),
    ],
)
def test_what_can_be_done_depends_on_the_state(
    page: ChannelPage, link: FakeLink, state: State, can: set[str]
) -> None:
    show(page, link, state)
    assert commands(page) == can
    assert page.head.button("stop").isVisible()


@pytest.mark.parametrize("word", [word for word, _, _ in COMMANDS])
def test_a_command_is_asked_for_with_the_name_of_the_channel(
    page: ChannelPage, link: FakeLink, word: str
) -> None:
    states: dict[str, State] = {
        "start": "idle",
        "resume": "paused",
        "pause": "running",
        "acknowledge": "tripped",
        "stop": "running",
        "end_step": "running",
        "continue": "killed",
    }
    show(page, link, states[word], died=1_760_000_000.0 if word == "continue" else None)
    heard: list[tuple[str, str]] = []
    for each, _, _ in COMMANDS:
        getattr(page, f"{each}_requested").connect(
            lambda name, each=each: heard.append((each, name))
        )
    page.head.button(word).click()
    assert heard == [(word, "A1")]


def test_a_run_is_drawn_with_its_limits_gaps_steps_and_journal(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link, limits=(LIMIT,))
    assert tuple(page.plots.plots) == ("voltage", "current", "pressure", "charge")
    voltage = page.plots.plots["voltage"]
    assert voltage.limits == [("over_voltage", 4.3)]
    assert voltage.curve.lines[0].parts == [(0, 101), (101, 202)]
    assert page.loops.drawn == [1]
    assert [line[2] for line in page.steps.lines()] == ["charge CC", "rest"]
    assert [line[1] for line in page.journal.lines()] == ["run started", "gap"]
    tabs = page.findChild(QTabWidget, "page-tabs")
    assert tabs is not None
    names = ["Steps", "Journal", "Limits", "Instruments"]
    assert [tabs.tabText(n) for n in range(tabs.count())] == names


def test_a_channel_that_never_ran_says_so_and_asks_nothing(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link, "idle")
    empty: Any = page.findChild(QWidget, "page-empty")
    assert empty.isVisible()
    assert not page.plots.isVisible()
    assert link.client.calls == []


def test_new_rows_are_drawn(page: ChannelPage, link: FakeLink) -> None:
    show(page, link)
    page.apply_rows(rows(RUN, voltage=([5020.0], [3.99])))
    settle(page, link)
    page.apply_rows(rows(RUN, voltage=([5040.0], [4.01])))
    settle(page, link)
    line = page.plots.plots["voltage"].curve.lines[0]
    assert (line.x[-1], line.y[-1]) == (5040.0, 4.01)
    page.apply_rows(rows("run-B1", voltage=([6000.0], [4.1])))
    settle(page, link)
    assert page.plots.plots["voltage"].curve.lines[0].x[-1] == 5040.0


def test_a_quantity_that_turns_up_during_the_run_gets_a_plot(
    page: ChannelPage, link: FakeLink
) -> None:
    link.client.answers["run"] = lambda run: detail(quantities=("voltage", "current"))
    show(page, link, latest={})
    assert tuple(page.plots.plots) == ("voltage", "current")
    page.apply_rows(rows(RUN, pressure=([5010.0], [8.1e6])))
    assert tuple(page.plots.plots) == ("voltage", "current", "pressure")


def test_the_next_run_of_the_channel_takes_the_place_of_the_one_before(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link, "completed")
    page.plots.choose(100.0, 200.0)
    status = channel("A1", "running", run="run-A1-2")
    page.update_channel(status, view_of(status))
    assert page.shown_run == "run-A1-2"
    assert page.steps.lines() == []
    assert page.plots.viewport.follows
    settle(page, link)
    assert link.client.named("run")[-1] == ("run-A1-2",)


def test_who_comes_back_to_a_channel_finds_the_page_as_it_was(
    page: ChannelPage, link: FakeLink
) -> None:
    status = show(page, link)
    page.plots.choose(100.0, 200.0)
    settle(page, link)
    asked = len(link.client.calls)
    page.show_channel(status, view_of(status))
    assert (page.plots.viewport.start, page.plots.viewport.end) == (100.0, 200.0)
    assert len(page.steps.lines()) == 2
    settle(page, link)
    assert len(link.client.calls) > asked


def test_a_lost_station_is_said_and_what_is_shown_is_dimmed(
    page: ChannelPage, link: FakeLink
) -> None:
    status = show(page, link)
    page.set_current(False, "no sign of life for 1.5 s")
    page.update_channel(status, view_of(status, current=False))
    assert "no sign of life for 1.5 s" in text(page, "page-reason")
    reason: Any = page.findChild(QWidget, "page-reason")
    assert reason.isVisible()
    # A stop must be possible even when nobody knows whether it is needed.
    assert "stop" in commands(page)
    assert "pause" not in commands(page)
    asked = len(link.client.calls)
    page.set_current(True, "")
    page.update_channel(status, view_of(status))
    settle(page, link)
    assert "no sign of life" not in text(page, "page-reason")
    assert len(link.client.calls) > asked


def test_old_readings_are_said_to_be_old(page: ChannelPage, link: FakeLink) -> None:
    show(page, link, age=240.0, stale_after=5.0)
    age: Any = page.findChild(QWidget, "page-age")
    assert age.isVisible()
    assert age.text().endswith("ago")


def test_a_past_record_is_the_same_page_without_commands(page: ChannelPage, link: FakeLink) -> None:
    page.show_record(RUN)
    settle(page, link)
    assert text(page, "page-name") == "A1"
    assert "completed" in text(page, "page-state").lower()
    assert text(page, "page-voltage") == "3.9900 V"
    assert text(page, "page-caption-voltage") == "Last voltage"
    identity = text(page, "page-identity")
    assert identity.startswith("cccv · started 20")
    assert identity.endswith(f" · run {RUN}")
    assert not any(page.head.button(word).isVisible() for word, _, _ in COMMANDS)
    assert tuple(page.plots.plots) == ("voltage", "current", "pressure", "charge")
    # States of a channel have nothing to do with it.
    status = channel("A1", "running", run="another")
    page.update_channel(status, view_of(status))
    assert page.shown_run == RUN


def test_simulated_data_are_marked_and_real_ones_are_not(page: ChannelPage, link: FakeLink) -> None:
    mark: Any = page.findChild(QWidget, "page-simulated")
    show(page, link)
    assert mark.isVisible()
    assert mark.text() == "SIMULATED"
    link.client.answers["run"] = lambda run: detail(summary=run_summary(run, simulated=False))
    page.show_record("run-real")
    assert page.simulated, "what is not known yet counts as simulated"
    settle(page, link)
    assert not mark.isVisible()
    assert not page.simulated


def test_the_page_shows_in_both_appearances(
    qtbot: QtBot, link: FakeLink, each_theme: Theme
) -> None:
    page = page_in(qtbot, link, each_theme)
    show(page, link)
    page.set_theme(LIGHT)
    page.set_theme(each_theme)
    image = page.grab().toImage()
    area = page.plots.geometry()
    corner = page.plots.mapTo(page, area.topLeft() - area.topLeft())
    assert image.pixelColor(corner.x() + 3, corner.y() + 3).name() == each_theme.surface
    assert page.plots.plots["voltage"].curve.lines[0].colour == each_theme.voltage


def test_capacity_per_gram_is_offered_where_the_mass_is_known(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link)
    specific = page.findChild(QPushButton, "specific")
    assert specific is not None
    assert specific.isEnabled()
    specific.click()
    assert (page.loops.unit, page.cycles.unit) == ("mAh/g", "mAh/g")
    specific.click()
    assert (page.loops.unit, page.cycles.unit) == ("mAh", "mAh")
    link.client.answers["run"] = lambda run: detail(run, cell=CellInfo(name="x"))
    show(page, link, run="run-without-mass")
    assert not specific.isEnabled()


def test_the_buttons_say_what_is_followed_and_lead_back(page: ChannelPage, link: FakeLink) -> None:
    show(page, link)
    everything = page.findChild(QPushButton, "follow-all")
    hour = page.findChild(QPushButton, "follow-last-hour")
    follow = page.findChild(QPushButton, "follow")
    assert everything is not None
    assert hour is not None
    assert follow is not None
    assert everything.isChecked()
    assert not follow.isVisible()
    hour.click()
    assert (everything.isChecked(), hour.isChecked()) == (False, True)
    assert page.plots.viewport.end - page.plots.viewport.start == pytest.approx(3600.0)
    page.plots.choose(100.0, 200.0)
    assert (everything.isChecked(), hour.isChecked()) == (False, False)
    assert follow.isVisible()
    follow.click()
    assert everything.isChecked()
    assert not follow.isVisible()


def test_what_could_not_be_read_is_said_until_it_is(page: ChannelPage, link: FakeLink) -> None:
    link.client.answers["run"] = StationLostError("the station does not answer")
    show(page, link)
    assert text(page, "page-note") == "not read: the station does not answer"
    link.client.answers["run"] = detail
    page.run.renew()
    page.run._detail.asked = -np.inf
    settle(page, link)
    assert text(page, "page-note") == ""


def test_loops_are_not_asked_for_more_often_than_once_a_second(
    page: ChannelPage, link: FakeLink
) -> None:
    status = show(page, link)
    asked = page.run._loops.asked
    before = len(link.client.named("loops"))
    for count in range(1, 30):
        # Rows come ten times a second.
        now = asked + 0.1 * count
        page.run.note(status.model_copy(update={"rows": status.rows + count}), now)
        page.run.tick(now)
        link.drain()
        page.run._loops.cost = 0.0
    assert len(link.client.named("loops")) - before == 2


def test_a_slow_answer_is_asked_for_less_often(page: ChannelPage, link: FakeLink) -> None:
    show(page, link)
    asking = page.run._loops
    asking.dirty, asking.waiting, asking.asked, asking.cost = True, False, 100.0, 0.5
    assert not asking.due(104.9)
    assert asking.due(105.0)


def test_nothing_is_asked_while_nobody_looks(page: ChannelPage, link: FakeLink) -> None:
    show(page, link)
    page.hide()
    asked = len(link.client.calls)
    page.apply_rows(rows(RUN, voltage=([5020.0], [3.99])))
    link.drain()
    assert len(link.client.calls) == asked
    assert not page._timer.isActive()
    page.show()
    settle(page, link)
    assert len(link.client.calls) > asked


def test_the_pages_back_button_leads_back(page: ChannelPage, link: FakeLink) -> None:
    show(page, link)
    heard: list[bool] = []
    page.back.connect(lambda: heard.append(True))
    back = page.findChild(QPushButton, "page-back")
    assert back is not None
    back.click()
    assert heard == [True]


def test_no_widget_of_the_page_waits_for_somebody() -> None:
    folder = Path(inspect.getfile(channel_page)).parent
    names = (
        "channel_page",
        "cycle_plot",
        "export",
        "loop_plot",
        "page_head",
        "plot_style",
        "steps_table",
        "time_plots",
    )
    for name in names:
        source = (folder / f"{name}.py").read_text()
        assert ".exec(" not in source
        assert "getSaveFileName" not in source
