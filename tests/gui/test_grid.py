"""The cards of the grid: what they say in every state, what they ask for, where they stand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PyQt6.QtCore import QEvent, QObject, QPoint, Qt
from PyQt6.QtGui import QColor
from PyQt6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.models.channel import GLYPHS, NOT_VERIFIED, ChannelView, channel_view
from operando.gui.theme import Theme
from operando.gui.widgets.card import ChannelCard
from operando.gui.widgets.grid import COLUMNS, NARROWEST, GridPage, columns_for, summary
from operando.gui.widgets.plot_style import pause_ground
from operando.gui.widgets.style import Alert, Badge, Line, Paragraph, Progress
from operando.gui.widgets.trend import MOST, Trend
from operando.station.client import UNDER_WAY, State
from support.hands import click, key
from support.window import STATES, channel, charging_curve, mixed, rows


def view_of(state: State = "running", *, current: bool = True, **changes: Any) -> ChannelView:
    return channel_view(channel(state=state, **changes), current=current, speed=60.0, unseen=12.0)


def card_of(qtbot: QtBot, theme: Theme, view: ChannelView, width: int = NARROWEST) -> ChannelCard:
    card = ChannelCard(theme, view.name)
    qtbot.addWidget(card)
    card.show_view(view)
    card.resize(width, card.minimumSizeHint().height())
    card.show()
    return card


def press(card: ChannelCard, what: str) -> QPushButton:
    found = card.findChild(QPushButton, f"{what}-{card.name}")
    assert found is not None
    return found


def line(card: ChannelCard, what: str) -> str:
    found = card.findChild(Line, f"{what}-{card.name}")
    assert found is not None
    return found.text()


def badge(card: ChannelCard, what: str = "state") -> Badge:
    found = card.findChild(Badge, f"{what}-{card.name}")
    assert found is not None
    return found


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_said_by_glyph_and_word_and_tone(
    qtbot: QtBot, each_theme: Theme, state: State
) -> None:
    view = view_of(state)
    card = card_of(qtbot, each_theme, view)
    shown = badge(card)
    assert shown.text() == f"{GLYPHS[state]} {state.capitalize()}"
    assert shown.tone == view.tone
    stripe = card.grab().toImage().pixelColor(2, card.height() // 2)
    wanted = each_theme.tone(view.tone)
    assert stripe.name() == wanted


@pytest.mark.parametrize("state", STATES)
def test_nothing_of_a_card_is_clipped_at_its_least_width(
    qtbot: QtBot, theme: Theme, state: State
) -> None:
    card = card_of(qtbot, theme, view_of(state))
    shown = [child for child in card.findChildren((Line, Badge, QPushButton)) if child.isVisible()]
    assert len(shown) > 6
    for child in shown:
        place = child.geometry()
        assert card.rect().contains(place), child.objectName()
        assert child.width() >= min(child.sizeHint().width(), 200), child.objectName()


def test_the_readouts_stand_on_the_card_with_their_units(qtbot: QtBot, theme: Theme) -> None:
    card = card_of(qtbot, theme, view_of())
    assert line(card, "voltage") == "3.8421 V"
    assert line(card, "current") == "1.569 mA"
    assert line(card, "pressure") == "5.12 MPa"
    assert line(card, "step") == "step 3 · charge CC · cycle 2"
    assert line(card, "progress-text") == "42 %"
    assert line(card, "left") == "1 h 55 min left"
    bar = card.findChild(Progress)
    assert bar is not None
    assert bar.value == 0.42


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        ("idle", {"start"}),
        ("running", {"pause", "stop"}),
        ("paused", {"resume", "stop"}),
        ("held", {"resume", "stop"}),
        ("preparing", {"stop"}),
        ("completed", {"start"}),
        ("tripped", {"acknowledge"}),
        ("killed", {"acknowledge", "stop"}),  # its output is not known
    ],
)
def test_a_card_offers_what_can_be_done_in_a_state(
    qtbot: QtBot, theme: Theme, state: State, offered: set[str]
) -> None:
    card = card_of(qtbot, theme, view_of(state))
    buttons = ("start", "pause", "resume", "stop", "acknowledge")
    usable = {what for what in buttons if press(card, what).isVisible()} - {"stop"}
    assert press(card, "stop").isVisible()
    assert usable | ({"stop"} if press(card, "stop").isEnabled() else set()) == offered


def test_the_stop_button_has_one_place_in_all_states(qtbot: QtBot, theme: Theme) -> None:
    places = set()
    for state in STATES:
        card = card_of(qtbot, theme, view_of(state))
        stop = press(card, "stop")
        places.add((stop.mapTo(card, stop.rect().topRight()).x(), stop.y(), stop.height()))
    assert len(places) == 1


@pytest.mark.parametrize("what", ["start", "pause", "resume", "stop", "acknowledge"])
def test_a_button_asks_for_its_command_and_does_not_open_the_page(
    qtbot: QtBot, theme: Theme, what: str
) -> None:
    states: dict[str, State] = {
        "start": "idle",
        "pause": "running",
        "resume": "paused",
        "stop": "running",
        "acknowledge": "tripped",
    }
    card = card_of(qtbot, theme, view_of(states[what]))
    opened: list[str] = []
    card.opened.connect(opened.append)
    with qtbot.waitSignal(getattr(card, f"{what}_requested")) as asked:
        click(press(card, what))
    assert asked.args == ["A1"]
    assert opened == []


def test_a_click_and_the_enter_key_open_the_page(qtbot: QtBot, theme: Theme) -> None:
    card = card_of(qtbot, theme, view_of())
    with qtbot.waitSignal(card.opened) as opened:
        click(card, QPoint(60, 100))
    assert opened.args == ["A1"]
    with qtbot.waitSignal(card.opened):
        key(card, Qt.Key.Key_Return)


def test_a_reason_is_wrapped_to_two_lines_and_whole_in_the_tool_tip(
    qtbot: QtBot, theme: Theme
) -> None:
    long = "the potentiostat " + "did not answer and " * 12 + "was left alone"
    card = card_of(qtbot, theme, view_of("faulted", reason=long))
    words = card.findChild(Paragraph, "reason-A1")
    assert words is not None
    drawn = words.lines()
    assert len(drawn) == 2
    assert drawn[1].endswith("…")
    assert card.toolTip().splitlines() == [long, NOT_VERIFIED]


def test_an_output_that_was_not_read_back_stands_in_a_band(qtbot: QtBot, theme: Theme) -> None:
    alert = card_of(qtbot, theme, view_of("faulted")).findChild(Alert)
    assert alert is not None
    assert (alert.isVisible(), alert.text()) == (True, NOT_VERIFIED)
    calm = card_of(qtbot, theme, view_of("completed")).findChild(Alert)
    assert calm is not None
    assert not calm.isVisible()


def test_old_readings_are_grey_and_say_their_age(qtbot: QtBot, theme: Theme) -> None:
    fresh, old = view_of(age=0.5), view_of(age=600.0)
    card = card_of(qtbot, theme, fresh)
    assert not badge(card, "age").isVisible()
    bright = card.grab().toImage()
    card.show_view(old)
    assert badge(card, "age").isVisible()
    assert badge(card, "age").text() == "10 s ago"
    number = card.findChild(Line, "voltage-A1")
    assert number is not None
    area = number.geometry()
    assert bright.copy(area) != card.grab().toImage().copy(area)


def test_a_lost_station_keeps_the_last_values_and_the_stop_button(
    qtbot: QtBot, theme: Theme
) -> None:
    card = card_of(qtbot, theme, view_of(current=False))
    assert line(card, "voltage") == "3.8421 V"
    assert badge(card).text() == "▶ Last seen running"
    assert card.findChild(Line, "caption-voltage-A1") is not None
    assert line(card, "caption-voltage") == "Last voltage"
    assert press(card, "stop").isEnabled()
    assert not press(card, "pause").isVisible()


def test_a_channel_that_stops_says_so_and_can_be_stopped_again(qtbot: QtBot, theme: Theme) -> None:
    card = card_of(qtbot, theme, view_of(stopping=True))
    assert press(card, "stop").text() == "Stopping…"
    assert press(card, "stop").isEnabled()


class Painted(QObject):
    """Names of the widgets that were painted."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        if watched is not None and event is not None and event.type() == QEvent.Type.Paint:
            self.names.append(watched.objectName())
        return False


def test_only_what_changed_is_painted_again(qtbot: QtBot, theme: Theme) -> None:
    view = view_of()
    card = card_of(qtbot, theme, view)
    painted = Painted()
    for child in card.findChildren(QWidget):
        child.installEventFilter(painted)
    qtbot.waitUntil(lambda: "voltage-A1" in painted.names)
    QApplication.processEvents()
    painted.names.clear()
    card.show_view(replace(view))
    QApplication.processEvents()
    assert painted.names == []
    card.show_view(replace(view, voltage="3.8422 V"))
    qtbot.waitUntil(lambda: painted.names != [])
    assert painted.names == ["voltage-A1"]
    assert line(card, "voltage") == "3.8422 V"


# The trend


def trend_in(qtbot: QtBot, theme: Theme, width: int = 400) -> Trend:
    trend = Trend(theme, "voltage", "{:.2f} V".format)
    qtbot.addWidget(trend)
    trend.resize(width, 80)
    return trend


def test_a_trend_is_cut_at_gaps_pauses_and_at_readings_that_are_not_valid(
    qtbot: QtBot, theme: Theme
) -> None:
    trend = trend_in(qtbot, theme)
    trend.set_curve(np.arange(12.0), np.array([1, 1, np.nan, *range(9)]))
    trend.set_gaps([(6.0, 7.0)], [(8.5, 9.5)])
    assert [polygon.count() for polygon in trend.polygons()] == [2, 4, 2, 1, 2]


def test_a_trend_follows_its_readings_within_a_pixel_as_they_followed_each_other(
    qtbot: QtBot, theme: Theme
) -> None:
    trend = trend_in(qtbot, theme)
    # A rise within one pixel, then nothing for long, then a rise again.
    time = np.concatenate((np.linspace(0.0, 40.0, 40), np.linspace(2570.0, 27000.0, 5)))
    trend.set_curve(time, np.concatenate((np.linspace(3.06, 3.78, 40), np.full(5, 3.79))))
    (drawn,) = trend.polygons()
    places = [drawn.at(n) for n in range(drawn.count())]
    assert [at.x() for at in places] == sorted(at.x() for at in places)
    heights = [at.y() for at in places]
    assert len(heights) < 45
    assert heights == sorted(heights, reverse=True)


def test_a_pause_is_shaded_on_a_trend_up_to_where_the_run_has_come(
    qtbot: QtBot, theme: Theme
) -> None:
    trend = trend_in(qtbot, theme)
    trend.set_curve(np.arange(101.0), np.linspace(3.0, 3.8, 101))
    trend.set_gaps([], [(100.0, np.inf)])
    before = trend.polygons()[0].boundingRect().width()
    trend.reach(200.0)
    assert trend.polygons()[0].boundingRect().width() == pytest.approx(0.5 * before)
    image = trend.grab().toImage()
    ground = QColor(pause_ground(theme))
    seen = sum(image.pixelColor(x, 20) == ground for x in range(image.width()))
    assert seen == pytest.approx(0.5 * before, abs=4)


def test_rows_continue_a_trend_and_are_not_taken_twice(qtbot: QtBot, theme: Theme) -> None:
    card = card_of(qtbot, theme, view_of())
    curve = charging_curve(50, 100.0)
    card.apply_rows(rows(voltage=([99.0, 101.0], [3.7, 3.8])))
    card.trend.set_curve(curve.time, curve.value)
    assert (len(card.trend), card.trend.until) == (51, 101.0)
    card.apply_rows(rows(voltage=([100.5, 101.0, 102.0], [3.7, 3.8, None])))
    assert (len(card.trend), card.trend.until) == (52, 102.0)


def test_a_trend_draws_no_more_than_two_points_a_pixel(qtbot: QtBot, theme: Theme) -> None:
    trend = Trend(theme, "voltage", "{:.2f} V".format)
    qtbot.addWidget(trend)
    trend.resize(200, 50)
    time = np.linspace(0.0, 1000.0, 10 * MOST)
    trend.set_curve(time, 3.7 + np.sin(time))
    assert trend.full
    (drawn,) = trend.polygons()
    assert 100 < drawn.count() <= 2 * 200 + 1


# The page


def test_cards_fill_one_to_four_columns_and_no_row_is_nearly_empty() -> None:
    assert columns_for(300, 16) == 1
    assert columns_for(1168, 16) == 3
    assert columns_for(4000, 16) == COLUMNS
    assert columns_for(1168, 4) == 2
    assert columns_for(1168, 1) == 1


def test_what_wants_somebody_comes_first_in_the_summary() -> None:
    views = [
        channel_view(status, current=True, speed=60.0)
        for status in (
            channel("A1", "idle"),
            channel("A2"),
            channel("A3"),
            channel("A4", "tripped"),
            channel("A5", "held"),
        )
    ]
    assert summary(views) == [
        ("1 tripped", "bad"),
        ("1 held", "notice"),
        ("2 running", "active"),
        ("1 idle", "idle"),
    ]


def test_no_word_comes_twice_in_the_summary() -> None:
    views = [
        view_of("killed", output="off"),
        view_of("killed", output="off", attention=False),
        view_of("running"),
        view_of("running", age=600.0),
        view_of("completed", output="unknown"),
    ]
    assert summary(views) == [
        ("1 killed", "bad"),
        ("1 with output not verified", "bad"),
        ("1 running without new readings", "notice"),
        ("1 running", "active"),
        ("1 acknowledged", "idle"),
    ]


def test_a_paused_card_dims_what_is_not_measured_and_says_that_the_circuit_is_open(
    qtbot: QtBot, theme: Theme
) -> None:
    card = card_of(qtbot, theme, view_of("paused"))
    captions = [line(card, f"caption-{name}") for name in ("voltage", "current", "pressure")]
    assert captions == ["Last voltage", "Last current", "Stack pressure"]
    roles = [card.findChild(Line, f"{name}-A1")._role for name in ("voltage", "pressure")]
    assert roles == ["faint", "text"]
    words = card.findChild(Paragraph, "reason-A1")
    assert words is not None
    assert words.text().startswith("Paused at open circuit, output read back off")


def test_sixteen_channels_scroll_and_each_has_its_card(qtbot: QtBot, theme: Theme) -> None:
    page = GridPage(theme)
    qtbot.addWidget(page)
    page.resize(1200, 744)
    channels = mixed(16)
    views = {one.name: channel_view(one, current=True, speed=60.0) for one in channels}
    page.set_channels(list(views))
    page.show_views(views, views)
    page.show()
    assert list(page.cards) == [one.name for one in channels]
    bar = page.area.verticalScrollBar()
    assert bar is not None
    qtbot.waitUntil(lambda: bar.maximum() > 0)
    places = [card.geometry() for card in page.cards.values()]
    assert not any(one.intersects(two) for one in places for two in places if one is not two)
    running = sum(one.state == "running" for one in channels)
    assert f"{running} running" in page.summary_text()
    assert any(one.state in UNDER_WAY for one in channels)


def test_a_channel_that_is_gone_takes_its_card_along(qtbot: QtBot, theme: Theme) -> None:
    page = GridPage(theme)
    qtbot.addWidget(page)
    page.set_channels(["A1", "A2"])
    page.set_channels(["A2", "A3"])
    assert list(page.cards) == ["A2", "A3"]
