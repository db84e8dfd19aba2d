"""Keeps the small trends of the cards fed: their past is asked for, what follows is appended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from operando.gui.link import StationLink
from operando.gui.models.run import pauses_of
from operando.gui.widgets.card import TREND
from operando.station.client import (
    UNDER_WAY,
    ChannelStatus,
    Curve,
    Rows,
    RunDetail,
    State,
    StationClient,
)

if TYPE_CHECKING:
    from operando.gui.widgets.grid import GridPage

BINS = 120
"""Of a trend; a card is about three times as many pixels wide."""

STANDING: frozenset[State] = frozenset({"paused", "held"})
"""States of a run under way in which it stands still with its output off."""


class TrendFeed:
    """Asks for the curve of each channel's run, and routes new rows to the cards."""

    def __init__(self, link: StationLink, grid: GridPage) -> None:
        self._link = link
        self._grid = grid
        self._runs: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._states: dict[str, State] = {}
        self._unsure: set[str] = set()

    def show_channels(self, channels: Mapping[str, ChannelStatus]) -> None:
        """Have a trend of the present or last run of each channel that has rows."""
        for name, status in channels.items():
            run = status.run if status.rows else None
            if name not in self._grid.cards:
                continue
            before, self._states[name] = self._states.get(name), status.state
            if run is not None and run == self._runs.get(name):
                if status.state in STANDING and status.elapsed is not None:
                    self._grid.cards[name].trend.reach(status.elapsed)
                if status.state != before or name in self._unsure:
                    self._ask_gaps(name, run)
                continue
            if run == self._runs.get(name):
                continue
            self._grid.cards[name].trend.clear()
            if run is None:
                self._runs.pop(name, None)
            else:
                self._runs[name] = run
                self._ask(name, run)
        self._names = {run: name for name, run in self._runs.items()}

    def apply_rows(self, rows: Rows) -> None:
        """Continue the trend of the run that these are of, if it is shown."""
        name = self._names.get(rows.run)
        if name is None or name not in self._grid.cards:
            return
        trend = self._grid.cards[name].trend
        if not rows.skipped:
            self._grid.apply_rows(name, rows)
        if rows.skipped or trend.full:
            self._ask(name, rows.run)

    def ask_again(self) -> None:
        """Rows may have been missed: ask for the whole of each run."""
        for name, run in self._runs.items():
            self._ask(name, run)

    def _ask(self, name: str, run: str) -> None:
        def work(client: StationClient) -> Curve | None:
            return client.curves(run, (TREND,), bins=BINS).get(TREND)

        def then(curve: Curve | None) -> None:
            if curve is None or self._runs.get(name) != run or name not in self._grid.cards:
                return
            self._grid.cards[name].trend.set_curve(curve.time, curve.value)
            self._ask_gaps(name, run)

        # Without an answer the trend stays as it is; the link says when the station is lost.
        self._link.ask(f"trend-{name}", work, then)

    def _ask_gaps(self, name: str, run: str) -> None:
        self._unsure.add(name)

        def work(client: StationClient) -> RunDetail:
            return client.run(run)

        def then(detail: RunDetail) -> None:
            if self._runs.get(name) != run or name not in self._grid.cards:
                return
            pauses = pauses_of(detail)
            gaps = [(gap.start, gap.end) for gap in detail.gaps]
            self._grid.cards[name].trend.set_gaps(gaps, pauses)
            # A run stands still a moment before its journal says so, and goes on likewise.
            state = self._states.get(name)
            goes_on = any(math.isinf(end) for _, end in pauses)
            if state not in UNDER_WAY or goes_on == (state in STANDING):
                self._unsure.discard(name)

        self._link.ask(f"gaps-{name}", work, then)
