"""A pause in the plots of a run: what was not measured is not drawn, and the stretch is named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from operando.gui.models.run import pauses_of
from operando.gui.theme import LIGHT, Theme
from operando.gui.widgets.plot_style import pause_ground
from operando.gui.widgets.time_plots import TimePlots
from operando.station.client import Curve, JournalLine, RunDetail
from support.window import FakeLink, run_summary

RUN = "run-A1"


def told(*entries: tuple[float | None, str], state: str = "running", end: float = 900.0) -> Any:
    """The pauses of a run with these entries of its journal: times, s, and kinds."""
    lines = tuple(
        JournalLine(seq=n, time=time, unix_time=None, kind=kind, text=kind)
        for n, (time, kind) in enumerate(entries)
    )
    return pauses_of(RunDetail(summary=run_summary(state=state), journal=lines, end=end))


def test_a_run_is_paused_from_what_paused_it_until_it_was_resumed_or_ended() -> None:
    assert told() == ()
    assert told((10.0, "paused"), (20.0, "resumed")) == ((10.0, 20.0),)
    entries = ((10.0, "paused"), (20.0, "resumed"), (30.0, "paused"), (40.0, "run ended"))
    assert told(*entries, state="aborted") == ((10.0, 20.0), (30.0, 40.0))
    assert told((10.0, "paused"), (15.0, "note"), (None, "resumed")) == ((10.0, math.inf),)


def test_a_pause_that_goes_on_has_no_end_and_that_of_a_killed_run_ends_with_its_readings() -> None:
    assert told((10.0, "paused"), state="paused") == ((10.0, math.inf),)
    assert told((10.0, "paused"), state="killed", end=900.0) == ((10.0, 900.0),)
    assert told((10.0, "paused"), state="killed", end=5.0) == ((10.0, 10.0),)


@pytest.fixture
def plots(qtbot: QtBot, link: FakeLink, each_theme: Theme) -> TimePlots:
    """A run whose potentiostat rested from 1000 s to 3000 s while its load cell measured."""
    driven = np.concatenate((np.arange(0.0, 1000.0, 10.0), np.arange(3001.0, 3600.0, 10.0)))
    always = np.arange(0.0, 3600.0, 10.0)
    link.client.answers["curves"] = {
        "voltage": Curve(driven, np.full_like(driven, 3.7), True),
        "current": Curve(driven, np.full_like(driven, 1.5e-3), True),
        "pressure": Curve(always, np.full_like(always, 8e6), True),
        "charge": Curve(driven, np.full_like(driven, 3.6), True),
    }
    made = TimePlots(link, each_theme)
    qtbot.addWidget(made)
    made.resize(700, 600)
    made.show()
    made.show_run(RUN, ("voltage", "current", "pressure", "charge"), live=False)
    for _ in range(3):
        QApplication.processEvents()
        link.drain()
    return made


def parts(plots: TimePlots) -> dict[str, int]:
    """Pieces of each curve."""
    found = {}
    for name, plot in plots.plots.items():
        (line,) = plot.curve.lines
        found[name] = 1 if line.parts is None else len(line.parts)
    return found


def test_what_the_potentiostat_measures_is_cut_at_a_pause_and_the_pressure_is_not(
    plots: TimePlots,
) -> None:
    assert set(parts(plots).values()) == {1}
    plots.set_pauses([(995.0, 3000.5)])
    assert parts(plots) == {"voltage": 2, "current": 2, "pressure": 1, "charge": 2}


def test_a_plot_that_is_made_later_and_one_of_a_picture_are_cut_too(plots: TimePlots) -> None:
    plots.set_pauses([(995.0, 3000.5)])
    plots.want(("voltage", "charge"))
    plots.want(("voltage", "current", "charge"))
    plots.redraw()
    assert parts(plots)["current"] in (0, 2)
    (line,) = plots.plots["voltage"].copy(LIGHT).curve.lines
    assert line.parts == [(0, 100), (100, 160)]


def test_another_run_has_none_of_the_pauses_of_the_one_before(
    plots: TimePlots, link: FakeLink
) -> None:
    plots.set_pauses([(995.0, 3000.5)])
    plots.show_run("run-B1", ("voltage",), live=False)
    for _ in range(3):
        QApplication.processEvents()
        link.drain()
    assert parts(plots) == {"voltage": 1}


@pytest.mark.parametrize("end", [3000.5, math.inf])
def test_a_pause_is_shaded_and_named(plots: TimePlots, each_theme: Theme, end: float) -> None:
    plot = plots.plots["current"]
    before = plot.grab().toImage()
    plots.set_pauses([(995.0, end)])
    QApplication.processEvents()
    image = plot.grab().toImage()
    ground = pause_ground(each_theme)
    area = plot.getViewBox().sceneBoundingRect()
    y = round(area.top()) + 30
    inside = [image.pixelColor(x, y).name() == ground for x in range(image.width())]
    assert not any(before.pixelColor(x, y).name() == ground for x in range(before.width()))
    low, high = plots.viewport.start, plots.viewport.end
    share = (min(end, high) - 995.0) / (high - low)
    assert sum(inside) == pytest.approx(share * area.width(), rel=0.05)
    muted = each_theme.muted
    named = sum(
        image.pixelColor(x, y).name() == muted
        for x in range(round(area.left()), round(area.right()))
        for y in range(round(area.bottom()) - 22, round(area.bottom()))
    )
    assert named > 5
