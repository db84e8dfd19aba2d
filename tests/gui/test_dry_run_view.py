"""The dry run of the start panel: what is predicted, and about which texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6.QtWidgets import QLabel, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.theme import DARK, LIGHT, Theme
from operando.gui.widgets.start_panel import StartPanel
from operando.gui.widgets.style import SimulatedMark
from operando.gui.widgets.trend import Trend
from operando.instruments.recipe import parse_recipe
from operando.station.client import Prediction, RefusedError, RunRequest
from operando.station.dry_run import predict
from operando.station.orders import order_from
from support.start_desk import BENCH, Desk, judge
from support.window import FakeLink


@pytest.fixture
def desk(link: FakeLink, theme: Theme, qtbot: QtBot) -> Iterator[Desk]:
    made = Desk(link, theme, qtbot)
    yield made
    made.panel.hide()


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    """Of a cycle at 1C with a limit that acts."""
    request = RunRequest(
        protocol="cccv",
        parameters={"charge_rate": "1C", "cycles": 1},
        poll={"interval": "10 s"},
        limits={
            "early": {"when": "voltage > 4.1 V", "action": "trip", "stale_after": "1 h"},
            "over_voltage": {"when": "voltage > 4.3 V", "action": "trip", "stale_after": "1 h"},
        },
    )
    report = judge("A1", request)
    assert report.ok, report.problems
    return predict(BENCH, "A1", order_from(parse_recipe(report.recipe, Path("recipe"))))


def dry_run(desk: Desk) -> QPushButton:
    return desk.find(QPushButton, "dry-run")


def mark(panel: StartPanel) -> SimulatedMark:
    return panel._results._dry_run._mark


def test_a_dry_run_shows_how_it_would_end_its_margins_and_its_curves(
    desk: Desk, prediction: Prediction
) -> None:
    desk.link.client.answers["dry_run"] = prediction
    dry_run(desk).click()
    assert desk.said("dry-run-said") == "computing on the simulated twin …"
    assert not dry_run(desk).isEnabled()
    desk.answer()
    ((channel, request),) = desk.link.client.named("dry_run")
    assert (channel, request) == ("A1", desk.panel.form.request())
    assert desk.said("dry-run-end").startswith("It would TRIP: limit early acts (trip)")
    assert "of laboratory time, over " in desk.said("dry-run-times")
    margins = desk.find(QWidget, "dry-run-margins").findChildren(QLabel)
    told = [made.text() for made in margins]
    assert told[:2] == ["early", told[1]]
    assert told[1].startswith("would trip at ")
    assert margins[1].property("role") == "bad"
    assert told[3].endswith("left")
    names = [trend.accessibleName() for trend in desk.panel.findChildren(Trend)]
    assert "Predicted voltage, simulated" in names
    assert not mark(desk.panel).isHidden()
    assert dry_run(desk).isEnabled()


def test_a_prediction_goes_when_the_texts_change(desk: Desk, prediction: Prediction) -> None:
    desk.link.client.answers["dry_run"] = prediction
    dry_run(desk).click()
    desk.answer()
    desk.write("field-charge_rate", "2C")
    assert not dry_run(desk).isEnabled()
    assert mark(desk.panel).isHidden()
    assert desk.panel._results._dry_run._result is None
    desk.answer()
    assert dry_run(desk).isEnabled()


def test_an_answer_about_older_texts_is_not_shown(desk: Desk, prediction: Prediction) -> None:
    desk.link.client.answers["dry_run"] = prediction
    desk.link.hold = True
    dry_run(desk).click()
    desk.write("field-charge_rate", "2C")
    desk.link.hold = False
    desk.answer()
    assert desk.panel._results._dry_run._result is None
    assert desk.said("dry-run-said") == ""


def test_a_form_with_problems_has_no_dry_run(desk: Desk) -> None:
    desk.write("field-charge_rate", "half")
    desk.answer()
    assert not dry_run(desk).isEnabled()


def test_a_refusal_is_shown_and_the_run_can_be_started_all_the_same(desk: Desk) -> None:
    desk.link.client.answers["dry_run"] = RefusedError("a dry run needs a preset")
    dry_run(desk).click()
    desk.answer()
    assert desk.said("dry-run-said") == "no prediction: a dry run needs a preset"
    assert dry_run(desk).isEnabled()
    assert desk.start.isEnabled()


@pytest.mark.parametrize("each_theme", [DARK, LIGHT], ids=["dark", "light"])
def test_a_prediction_fits_into_the_panel(
    link: FakeLink, qtbot: QtBot, each_theme: Theme, prediction: Prediction
) -> None:
    desk = Desk(link, each_theme, qtbot)
    desk.panel.show()
    desk.link.client.answers["dry_run"] = prediction
    dry_run(desk).click()
    desk.answer()
    desk.panel.set_theme(each_theme)
    inner, viewport = desk.panel._scroll.widget(), desk.panel._scroll.viewport()
    assert inner is not None
    assert viewport is not None
    assert inner.width() <= viewport.width()
    desk.panel.hide()
