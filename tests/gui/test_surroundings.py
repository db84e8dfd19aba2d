"""What stands around a cell: its instruments, and readings of the glovebox and the chamber."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PyQt6.QtWidgets import QApplication, QPushButton, QTabWidget, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.models.channel import ChannelView, channel_view
from operando.gui.theme import Theme
from operando.gui.widgets.card import ChannelCard
from operando.gui.widgets.channel_page import ChannelPage
from operando.gui.widgets.grid import GridPage
from operando.gui.widgets.steps_table import InstrumentsTable
from operando.gui.widgets.style import Badge, stylesheet
from operando.station.client import (
    ChannelStatus,
    Curve,
    InstrumentInfo,
    LimitInfo,
    Reading,
    RunDetail,
)
from support.hands import click
from support.window import FakeLink, channel, rows, run_summary

NEWARE = InstrumentInfo(
    name="neware1",
    role="potentiostat",
    driver="neware-bts8",
    address="TCPIP::127.0.0.1::15060::SOCKET#21-1-1",
    identity="NEWARE BTS 8, serial 27-21-1-1",
    simulated=True,
)
LOAD = InstrumentInfo(name="load1", role="load_cell", driver="pt113", address="serial:ports/load1")
WATER = InstrumentInfo(name="water1", role="shared", driver="dmt143", address="serial:ports/water1")
WET = LimitInfo(
    name="wet", when="h2o > 100 ppm", action="trip", quantity="h2o", bound=1e-4, above=True
)
GLOVEBOX = {
    "voltage": 3.84,
    "current": 1.5e-3,
    "charge": 8.7,
    "o2": 6.06e-8,
    "h2o": 5.39e-7,
    "dew_point": 193.15,
    "box_pressure": 289.0,
}
LATE = 100.0


def readings(values: Mapping[str, float | None], **times: float) -> dict[str, Reading]:
    """Readings of 5000 s; of another time where that is said."""
    return {
        name: Reading(value=value, time=times.get(name, 5000.0)) for name, value in values.items()
    }


def status(**changes: Any) -> ChannelStatus:
    """A running channel in a glovebox, without a load cell."""
    fields: dict[str, Any] = {"latest": readings(GLOVEBOX), "instruments": (NEWARE, WATER)}
    return channel("A1", **(fields | changes))


def view_of(of: ChannelStatus) -> ChannelView:
    return channel_view(of, current=True, speed=60.0)


def card_of(qtbot: QtBot, theme: Theme, of: ChannelStatus) -> ChannelCard:
    card = ChannelCard(theme, of.name)
    qtbot.addWidget(card)
    card.show_view(view_of(of))
    card.resize(360, card.minimumSizeHint().height())
    card.show()
    return card


def said(widget: QWidget, name: str) -> str:
    found: Any = widget.findChild(QWidget, name)
    assert found is not None, name
    return str(found.text()) if found.isVisibleTo(widget) else ""


# ---- in words


def test_readings_around_a_cell_are_told_in_the_units_of_their_field() -> None:
    view = view_of(status())
    assert view.around == (
        "Oxygen 0.06 ppm · Water 0.54 ppm · Dew point −80.0 °C · Glovebox 2.89 mbar"
    )
    assert view.around_short.startswith("O₂ 0.06 ppm · H₂O 0.54 ppm")


def test_room_air_has_no_hundredths_of_a_ppm() -> None:
    latest = readings({"voltage": 3.8, "chamber_temperature": 296.15, "h2o": 0.012604567})
    assert view_of(status(latest=latest)).around == "Chamber 23.0 °C · Water 12605 ppm"


def test_a_reading_of_a_silent_sensor_says_that_it_is_old() -> None:
    latest = readings(GLOVEBOX, h2o=5000.0 - LATE)
    view = view_of(status(latest=latest))
    assert "Water 0.54 ppm (old)" in view.around
    assert "Oxygen 0.06 ppm ·" in view.around
    assert not view.stale


def test_a_reading_that_is_not_valid_is_not_a_number() -> None:
    assert "Oxygen —" in view_of(status(latest=readings(GLOVEBOX | {"o2": None}))).around


def test_a_channel_without_voltage_is_stale_however_fresh_the_air_around_is() -> None:
    latest = readings(GLOVEBOX, voltage=5000.0 - LATE, current=5000.0 - LATE)
    view = view_of(status(latest=latest, age=0.5))
    assert view.stale
    assert view.tone == "notice"
    assert view.age_text == "1 s ago"  # of the wall: it is sixty times slower
    paused = view_of(status(state="paused", output="off", latest=latest, age=0.5))
    assert not paused.stale


@pytest.mark.parametrize(("tools", "pressure"), [((NEWARE,), ""), ((NEWARE, LOAD), "—")])
def test_a_pressure_is_missing_only_where_somebody_measures_it(
    tools: tuple[InstrumentInfo, ...], pressure: str
) -> None:
    assert view_of(channel("A1", "idle", instruments=tools)).pressure == pressure


def test_an_output_that_was_read_back_after_all_is_told_before_what_went_wrong() -> None:
    reason = "smu4 broke; the safe state could not be verified; ASSUME THAT THE OUTPUT IS ON"
    faulted = status(state="faulted", attention=True, reason=reason, output="unknown")
    assert view_of(faulted).brief == reason
    since = view_of(faulted.model_copy(update={"output": "off", "output_at": 1.76e9}))
    assert since.brief.startswith("Output read back off at")
    assert since.brief.endswith(reason)


# ---- on a card


def test_a_running_card_tells_what_is_around_its_cell(qtbot: QtBot, theme: Theme) -> None:
    card = card_of(qtbot, theme, status())
    assert said(card, "around-A1").startswith("O₂ 0.06 ppm · H₂O 0.54 ppm")
    assert said(card, "caption-pressure-A1") == ""
    assert said(card, "reason-A1") == "Formation · 1 h 23 min"


def test_an_idle_card_names_its_instruments(qtbot: QtBot, theme: Theme) -> None:
    card = card_of(qtbot, theme, channel("A1", "idle", instruments=(NEWARE, LOAD, WATER)))
    assert said(card, "around-A1") == "neware1 · load1 · water1"
    assert said(card, "caption-pressure-A1") == "Stack pressure"


def test_a_reason_takes_the_room_of_what_is_around(qtbot: QtBot, theme: Theme) -> None:
    card = card_of(qtbot, theme, status())
    height = card.minimumSizeHint().height()
    card.show_view(view_of(status(state="tripped", output="off", attention=True, reason="wet: …")))
    assert said(card, "around-A1") == ""
    assert said(card, "reason-A1").startswith("wet")
    QApplication.processEvents()
    assert abs(card.minimumSizeHint().height() - height) <= 1


def test_a_card_whose_voltage_is_missing_says_since_when(qtbot: QtBot, theme: Theme) -> None:
    latest = readings(GLOVEBOX, voltage=4700.0, current=4700.0)
    card = card_of(qtbot, theme, status(latest=latest, age=0.5))
    age = card.findChild(Badge, "age-A1")
    assert age is not None
    assert age.isVisibleTo(card)
    assert age.text() == "5 s ago"


def test_sixteen_cards_fit_into_a_screen(qtbot: QtBot, theme: Theme) -> None:
    grid = GridPage(theme)
    qtbot.addWidget(grid)
    grid.setStyleSheet(stylesheet(theme))
    # A window of 1920 x 1080 without its head and its rail.
    grid.resize(1840, 1024)
    names = [f"{row}{column}" for row in "ABCD" for column in range(1, 5)]
    grid.set_channels(names)
    grid.show_views({name: view_of(channel(name)) for name in names}, names)
    grid.show()
    QApplication.processEvents()
    bar = grid.area.verticalScrollBar()
    assert bar is not None
    assert bar.maximum() == 0
    assert len({card.y() for card in grid.cards.values()}) == 4


# ---- on the page


def curves(run: str, quantities: Any, **options: Any) -> dict[str, Curve]:
    time = np.linspace(0.0, 5000.0, 200)
    return {name: Curve(time, np.full_like(time, GLOVEBOX[name]), True) for name in quantities}


@pytest.fixture
def page(qtbot: QtBot, link: FakeLink, theme: Theme) -> ChannelPage:
    def detail(run: str) -> RunDetail:
        return RunDetail(
            summary=run_summary(run), quantities=tuple(GLOVEBOX), start=0.0, end=5000.0
        )

    link.client.answers.update({"run": detail, "curves": curves, "loops": [], "cycles": []})
    made = ChannelPage(link, theme)
    qtbot.addWidget(made)
    made.setStyleSheet(stylesheet(theme))
    made.resize(1200, 720)
    made.show()
    return made


def settle(page: ChannelPage, link: FakeLink) -> None:
    for _ in range(4):
        QApplication.processEvents()
        page.tick()
        link.drain()
        QApplication.processEvents()


def show(page: ChannelPage, link: FakeLink, of: ChannelStatus) -> None:
    page.show_channel(of, view_of(of))
    settle(page, link)


def surroundings(page: ChannelPage) -> QPushButton:
    found = page.findChild(QPushButton, "surroundings")
    assert found is not None
    return found


def test_the_surroundings_are_plotted_below_the_voltage_when_asked_for(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link, status(limits=()))
    assert tuple(page.plots.plots) == ("voltage", "current", "charge")
    click(surroundings(page))
    settle(page, link)
    shown = ("voltage", "o2", "h2o", "dew_point", "box_pressure")
    assert tuple(page.plots.plots) == shown
    assert all(len(page.plots.traces.trace(name).time) == 200 for name in shown)
    labels = [plot.getPlotItem().getAxis("left").labelText for plot in page.plots.plots.values()]
    assert labels == [
        "Voltage / V", "Oxygen / ppm", "Water / ppm", "Dew point / °C", "Glovebox / mbar",
    ]  # fmt: skip
    click(surroundings(page))
    assert tuple(page.plots.plots) == ("voltage", "current", "charge")


def test_what_a_limit_watches_around_a_cell_is_plotted_with_it(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link, status(limits=(WET,)))
    assert tuple(page.plots.plots) == ("voltage", "current", "charge", "h2o")
    ((name, bound),) = page.plots.plots["h2o"].limits
    assert (name, round(bound, 6)) == ("wet", 100.0)


def test_new_rows_of_the_surroundings_continue_their_plots(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link, status())
    click(surroundings(page))
    settle(page, link)
    page.apply_rows(rows("run-A1", h2o=([5010.0], [6e-7])))  # the first makes it ask once more
    settle(page, link)
    page.apply_rows(rows("run-A1", h2o=([5020.0], [6e-7]), o2=([5020.5], [7e-8])))
    assert page.plots.traces.trace("h2o").last == 5020.0
    assert page.plots.traces.trace("o2").last == 5020.5


def test_where_nothing_is_measured_around_there_is_nothing_to_ask_for(
    page: ChannelPage, link: FakeLink
) -> None:
    detail = RunDetail(summary=run_summary("run-A1"), quantities=("voltage", "current"))
    link.client.answers["run"] = detail
    show(page, link, status(latest=readings({"voltage": 3.8, "current": 1e-3})))
    assert surroundings(page).isHidden()
    assert said(page, "page-around") == ""
    assert said(page, "page-caption-pressure") == ""


def test_the_head_tells_the_surroundings_and_after_the_run_that_they_are_the_last(
    page: ChannelPage, link: FakeLink
) -> None:
    show(page, link, status())
    assert said(page, "page-around").startswith("Oxygen 0.06 ppm · Water 0.54 ppm")
    show(page, link, status(state="completed", output="off"))
    assert said(page, "page-around").startswith("Last: Oxygen 0.06 ppm")


def test_an_idle_channel_shows_its_instruments(page: ChannelPage, link: FakeLink) -> None:
    broken = WATER.model_copy(update={"problem": "no answer within 2 s"})
    show(page, link, channel("A1", "idle", instruments=(NEWARE, LOAD, broken)))
    tabs = page.findChild(QTabWidget, "page-tabs")
    table = page.findChild(InstrumentsTable)
    assert tabs is not None
    assert table is not None
    assert tabs.currentWidget() is table
    assert table.lines() == [
        ("neware1", "potentiostat", NEWARE.identity, NEWARE.address),
        ("load1", "load cell", "pt113", LOAD.address),
        ("water1", "shared", "cannot be used: no answer within 2 s", WATER.address),
    ]
    assert [ink is not None for ink in table.inks()] == [False, False, True]
    # All columns are in sight, whatever long words they hold.
    bar = table.horizontalScrollBar()
    assert bar is not None
    assert bar.maximum() == 0
    page.show_record("run-A1")
    assert not tabs.isTabVisible(tabs.count() - 1)
