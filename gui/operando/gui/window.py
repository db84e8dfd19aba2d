"""The operator's window: pages around one link to one station.

A timer drains the link; nothing here waits, and nothing asks in a dialog. A command acts at once
and says at once that it was given; what became of it comes from the station.
"""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from PyQt6.QtCore import QTimer
from PyQt6.QtGui import QCloseEvent, QGuiApplication, QKeySequence, QShortcut
from PyQt6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from operando.gui.appearance import (
    apply_theme,
    remember_theme,
    remembered_theme,
    settings,
    system_theme,
)
from operando.gui.commands import Commands
from operando.gui.link import Back, LinkMessage, Lost, StationLink
from operando.gui.models.channel import ChannelView
from operando.gui.models.station import Connection, StationModel
from operando.gui.theme import THEMES, Theme
from operando.gui.widgets.grid import GridPage
from operando.gui.widgets.header import KEYS, Header, Page, Rail
from operando.gui.widgets.notices import Action, NoticeStrip
from operando.gui.widgets.records_page import RecordsPage
from operando.gui.widgets.trend_feed import TrendFeed
from operando.station.client import UNDER_WAY, Rows, Snapshot

if TYPE_CHECKING:
    from operando.gui.widgets.channel_page import ChannelPage
    from operando.gui.widgets.start_panel import StartPanel

PANEL_WIDTH = 420
"""Width of the start panel, px."""

SMALLEST = (960, 640)
"""Least size of the window, px."""

USUAL = (1280, 800)
"""Size of the window when it opens for the first time, px."""

WARM_UP = 400
"""Wall ms after the first snapshot until the channel page is made, so that it opens at once."""


class MainWindow(QMainWindow):
    """A window on one station.

    theme: None for the one that was chosen before, else that of the desktop.
    owns_station: the station was started for this window: closing asks, in the strip, what becomes
    of runs under way. `keep_station`: that the answer was to let it go on.
    """

    def __init__(
        self,
        link: StationLink,
        theme: Theme | None = None,
        *,
        drain_interval_ms: int = 50,
        owns_station: bool = False,
    ) -> None:
        super().__init__()
        self.setObjectName("main-window")
        self.setWindowTitle("operando")
        self.setMinimumSize(*SMALLEST)
        self.link = link
        self.model = StationModel()
        self.owns_station = owns_station
        self.keep_station = False
        self._may_close = False
        self._first_instance = ""
        self._starting: str | None = None
        self._errors: deque[BaseException] = deque(maxlen=8)
        self._followed: set[str] = set()
        self._views: dict[str, ChannelView] = {}
        chosen = theme or remembered_theme()
        self._chosen_theme = chosen is not None
        self._theme = chosen or system_theme()
        self._channel_page: ChannelPage | None = None
        self._start_panel: StartPanel | None = None
        self._open_channel: str | None = None
        self._open_record: str | None = None
        self._back_to = Page.CHANNELS
        self._shown_second = -1

        self.header = Header(self._theme)
        self.notices = NoticeStrip(self._theme)
        self.rail = Rail(self._theme)
        self.grid = GridPage(self._theme)
        self.records = RecordsPage(link, self._theme)
        self.trends = TrendFeed(link, self.grid)
        self.commands = Commands(link, self.notices, self._show_channels, self.header.show_stopping)
        self.stack = QStackedWidget()
        self.side = QFrame()
        self._compose()
        self._connect()
        apply_theme(self._theme)
        self._restore()
        self._show_connection()

        self._warm_up = QTimer(self)
        self._warm_up.setSingleShot(True)
        self._warm_up.setInterval(WARM_UP)
        self._warm_up.timeout.connect(self.channel_page)
        self._timer = QTimer(self)
        self._timer.setInterval(drain_interval_ms)
        self._timer.timeout.connect(self.drain)
        self._timer.start()

    @property
    def theme(self) -> Theme:
        """Its appearance."""
        return self._theme

    # What arrives

    def drain(self) -> None:
        """Take what the link has, and show what changed."""
        while self._errors:
            self.show_error(self._errors.popleft())
        changed: set[str] = set()
        for message in self.link.drain():
            changed |= self._take(message)
        second = int(time.monotonic())
        if second != self._shown_second:  # ages grow although nothing arrives
            if self.model.connection is not Connection.CONNECTED:
                self._show_connection()
                changed |= set(self.model.channels)
            changed |= {name for name, one in self.model.channels.items() if one.died is not None}
        self._shown_second = second
        if changed:
            self._show_channels(changed)

    def _take(self, message: LinkMessage) -> set[str]:
        if isinstance(message, Rows):
            self.trends.apply_rows(message)
            if self._channel_page is not None:
                self._channel_page.apply_rows(message)
            return set()
        ended = self._runs_under_way()
        changed = self.model.apply(message)
        if isinstance(message, Snapshot):
            if self.model.snapshot is message and not self._views:
                self._warm_up.start()
            self._take_snapshot(message)
        if isinstance(message, Back):
            self.trends.ask_again()
            self._tell_page(back=True)
            self._see_whose(self.model.snapshot)
        if isinstance(message, Lost | Back) or self._connection_shown is not self.model.connection:
            self._show_connection()
        if ended - self._runs_under_way():
            self._refresh_records()
        return changed

    def _see_whose(self, snapshot: Snapshot | None) -> None:
        """The station that was started for this window may be followed by one that was not."""
        if snapshot is None:
            return
        if self._first_instance not in ("", snapshot.instance):
            self.owns_station = False
        self._first_instance = self._first_instance or snapshot.instance

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        self.header.bench.set_text(snapshot.bench)
        self.header.simulated.show_simulated(snapshot.simulated, snapshot.speed)
        self.setWindowTitle(f"{snapshot.bench} – operando")
        self.grid.set_channels(list(self.model.channels))
        if not snapshot.channels:
            self.grid.say_empty("This bench has no channels: add [channels.NAME] to its file")
        if snapshot.alarm:
            self.notices.say("alarm", "bad", snapshot.alarm, dismissible=False)
        else:
            self.notices.clear("alarm")
        for status in snapshot.channels:
            if status.stopping:
                self.commands.answered_by_state(status.name)

    def _show_channels(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.model.channels:
                self._views.pop(name, None)
                continue
            view = self.model.view(name)
            if name in self.commands.stopping:
                view = replace(view, stopping=True, state_text="stopping…")
            self._views[name] = view
        ordered = {name: self._views[name] for name in self.model.channels if name in self._views}
        self.grid.show_views(ordered, names)
        self.trends.show_channels(self.model.channels)
        open_one = self._open_channel
        if open_one in ordered and open_one in set(names) and self._channel_page is not None:
            self._channel_page.update_channel(self.model.channels[open_one], ordered[open_one])
        if self._start_panel is not None and self.side.isVisible():
            self._start_panel.set_channels(list(self.model.channels.values()))
        self._follow()

    def _show_connection(self) -> None:
        model = self.model
        self._connection_shown = model.connection
        self.header.show_connection(model.connection, model.since, model.why)
        if model.connection is Connection.LOST:
            self.notices.say(
                "connection",
                "bad",
                f"The station is lost: {model.why.rstrip('.')}. What is shown is the last that was "
                "seen; runs may go on without this window, and it can vouch for no output."
                f"{self._how_to_start()}",
                dismissible=False,
            )
            self.grid.say_empty("The station does not answer; trying again.")
        else:
            self.notices.clear("connection")
        self._tell_page()

    def _how_to_start(self) -> str:
        """The command that starts a station of the same bench again, if it is known."""
        bench, last = self.link.bench, self.model.snapshot
        if not bench:
            return ""
        words = ["operando", "station", "--bench", bench]
        if last is not None and last.simulated:
            words += ["--simulate", *(["--speed", f"{last.speed:g}"] if last.speed != 1.0 else [])]
        return f" If it has ended, this starts it again: {shlex.join(words)}"

    def _tell_page(self, *, back: bool = False) -> None:
        if self._channel_page is None:
            return
        self._channel_page.set_current(self.model.current(), self.model.why)
        if back and self.stack.currentWidget() is self._channel_page:
            self._reopen()

    def _runs_under_way(self) -> set[str]:
        return {
            status.run
            for status in self.model.channels.values()
            if status.run is not None and status.state in UNDER_WAY
        }

    def _follow(self) -> None:
        """Have the rows of what is in sight, and of nothing else."""
        wanted: set[str] = set()
        under_way = self._runs_under_way()
        if self.stack.currentWidget() is self.grid:
            wanted = under_way
        elif self._open_channel in self.model.channels:
            run = self.model.channels[self._open_channel].run
            wanted = {run} & under_way if run is not None else set()
        if wanted != self._followed:
            self._followed = wanted
            self.link.follow(wanted)

    # Pages

    def show_grid(self) -> None:
        """Go to all channels."""
        left = self._open_channel
        self._leave_channel()
        self.stack.setCurrentWidget(self.grid)
        self._focus_on(left)
        self.rail.show_page(Page.CHANNELS)
        self.trends.ask_again()
        self._follow()

    def show_records(self) -> None:
        """Go to the records."""
        self._leave_channel()
        self.stack.setCurrentWidget(self.records)
        self.rail.show_page(Page.RECORDS)
        self.records.refresh()
        self.records.table.setFocus()
        self._follow()

    def show_channel(self, name: str) -> None:
        """Go to the page of a channel."""
        if name not in self.model.channels:
            return
        page = self.channel_page()
        self._open_channel, self._open_record, self._back_to = name, None, Page.CHANNELS
        view = self._views.get(name) or self.model.view(name)
        page.set_current(self.model.current(), self.model.why)
        page.show_channel(self.model.channels[name], view)
        self.stack.setCurrentWidget(page)
        self.rail.show_page(Page.CHANNELS)
        self._follow()

    def show_record(self, run: str) -> None:
        """Go to the page of a record; that of its channel when it is its run under way."""
        for status in self.model.channels.values():
            if status.run == run and status.state in UNDER_WAY:
                self.show_channel(status.name)
                self._back_to = Page.RECORDS
                return
        page = self.channel_page()
        self._open_channel, self._open_record, self._back_to = None, run, Page.RECORDS
        page.show_record(run)
        self.stack.setCurrentWidget(page)
        self.rail.show_page(Page.RECORDS)
        self._follow()

    def go_back(self) -> None:
        """Close the start panel if it is open; else leave a channel's page."""
        if self.side.isVisible():
            self.close_start()
        elif self._open_channel is not None or self._open_record is not None:
            if self._back_to is Page.RECORDS:
                self.show_records()
            else:
                self.show_grid()

    def channel_page(self) -> ChannelPage:
        """The page of a channel; made when it is first wanted, since plots take time to load."""
        if self._channel_page is None:
            from operando.gui.widgets.channel_page import ChannelPage

            page = self._channel_page = ChannelPage(self.link, self._theme)
            page.back.connect(self.go_back)
            page.start_requested.connect(self.open_start)
            page.pause_requested.connect(self.commands.pause)
            page.resume_requested.connect(self.commands.resume)
            page.stop_requested.connect(self.commands.stop)
            page.acknowledge_requested.connect(self.acknowledge)
            page.continue_requested.connect(self.go_on)
            page.end_step_requested.connect(self.end_step)
            page.limit_requested.connect(
                partial(self.commands.change_limit, answered=page.limits.answer)
            )
            self.stack.addWidget(page)
        return self._channel_page

    def _focus_on(self, name: str | None) -> None:
        """Let the keys go on where somebody was; never at a button, which nobody has chosen."""
        card = self.grid.cards.get(name or "")
        if card is not None and self.stack.currentWidget() is self.grid:
            card.setFocus()
        else:
            self.setFocus()

    def _leave_channel(self) -> None:
        self._open_channel = self._open_record = None

    def _reopen(self) -> None:
        if self._open_channel in self.model.channels:
            name = self._open_channel
            self.channel_page().show_channel(self.model.channels[name], self.model.view(name))
        elif self._open_record is not None:
            self.channel_page().show_record(self._open_record)

    def _refresh_records(self) -> None:
        if self.stack.currentWidget() is self.records:
            self.records.refresh()

    # Starting a run

    def open_start(self, name: str) -> None:
        """Open the panel that starts a run on a channel."""
        if name not in self.model.channels:
            return
        panel = self.start_panel()
        if self.model.snapshot is not None:
            panel.set_speed(self.model.snapshot.speed)
        panel.set_channels(list(self.model.channels.values()))
        panel.open_for(self.model.channels[name])
        self._starting = name
        self.side.show()

    def close_start(self) -> None:
        """Close that panel."""
        self.side.hide()
        self._focus_on(self._starting)

    def start_panel(self) -> StartPanel:
        """The panel that starts runs; made when it is first wanted."""
        if self._start_panel is None:
            from operando.gui.widgets.start_panel import StartPanel

            panel = self._start_panel = StartPanel(self.link, self._theme)
            panel.started.connect(self._started)
            panel.closed.connect(self.close_start)
            panel.refused.connect(self._start_refused)
            inside = self.side.layout()
            assert inside is not None
            inside.addWidget(panel)
        return self._start_panel

    def _started(self, name: str, run: str) -> None:
        self.notices.clear(f"command-{name}")
        self.close_start()

    def _start_refused(self, name: str, reason: str) -> None:
        self.notices.say(f"command-{name}", "bad", f"Start {name}: {reason}")

    # Commands

    def acknowledge(self, name: str) -> None:
        """Say that what is shown of a channel has been seen, and nothing that came after it."""
        status = self.model.channels.get(name)
        self.commands.acknowledge(name, status.run or "" if status is not None else "")

    def go_on(self, name: str) -> None:
        """Go on with the killed run that is shown of a channel, and with no other."""
        status = self.model.channels.get(name)
        if status is not None and status.run is not None:
            self.commands.go_on(name, status.run)

    def end_step(self, name: str) -> None:
        """Ask whether the step that is shown of a channel is to end."""
        status = self.model.channels.get(name)
        if status is not None:
            self.commands.end_step(name, status.step_index, status.step)

    def stop_all(self, then: Callable[[], None] | None = None) -> None:
        """Stop every run. then: called when every output was read back off."""
        channels = self.model.channels.items()
        under_way = [name for name, status in channels if status.state in UNDER_WAY]
        self.commands.stop_all(under_way, then)

    # Appearance

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        apply_theme(self._theme)
        parts = (self.header, self.notices, self.rail, self.grid, self.records)
        for part in (*parts, self._channel_page, self._start_panel):
            if part is not None:
                part.set_theme(theme)

    def toggle_theme(self) -> None:
        """Change between dark and light, and remember it."""
        self._chosen_theme = True
        self.set_theme(THEMES["light" if self._theme.name == "dark" else "dark"])
        remember_theme(self._theme)

    def _follow_system(self) -> None:
        if not self._chosen_theme and system_theme() is not self._theme:
            self.set_theme(system_theme())

    # Errors

    def report(self, error: BaseException) -> None:
        """Show an error at the next turn; may be called from any thread."""
        self._errors.append(error)

    def show_error(self, error: BaseException) -> None:
        """Say that something in the window itself went wrong; it goes on."""
        self.notices.say(
            "error",
            "bad",
            f"The window met an error that it did not expect: {type(error).__name__}: {error}. "
            "Runs are not touched by it; the terminal has the details.",
        )

    # Closing

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Close, unless this window's own station has runs and nobody said what becomes of them."""
        assert event is not None
        under_way = len(self._runs_under_way())
        unsure = not self.model.current()
        if self.owns_station and not self._may_close and (under_way or unsure):
            event.ignore()
            self._ask_what_becomes(under_way, unsure=unsure)
            return
        self._timer.stop()
        self._warm_up.stop()
        store = settings()
        store.setValue("geometry", self.saveGeometry())
        event.accept()

    def _ask_what_becomes(self, under_way: int, *, unsure: bool) -> None:
        runs, they = ("1 run is", "it") if under_way == 1 else (f"{under_way} runs are", "them")
        text = (
            f"{runs} under way on the station that this window started. "
            f"Keep {they} running without the window, or stop all and end the station?"
        )
        if unsure:
            text = (
                "The station that this window started is not heard, and whether runs are under way "
                "is not known. Leave it as it is, or stop all and end the station?"
            )
        self.notices.ask(
            "closing",
            "notice",
            text,
            (
                Action("Keep running", self._close_and_keep, "accent", "keep-running"),
                Action("Stop all and end", self._close_and_stop, "danger", "stop-and-end"),
            ),
        )

    def leave(self) -> None:
        """Close without asking, as after a signal; a station with runs, or unheard, goes on."""
        self.keep_station = bool(self._runs_under_way()) or not self.model.current()
        self._may_close = True
        self.close()

    def _close_and_keep(self) -> None:
        self.keep_station = True
        self._may_close = True
        self.close()

    def _close_and_stop(self) -> None:
        def end() -> None:
            self.keep_station = False
            self._may_close = True
            self.close()

        self.stop_all(then=end)

    # ---- below -----------------------------------------------------------------------------

    def _compose(self) -> None:
        self.side.setObjectName("side-panel")
        self.side.setFixedWidth(PANEL_WIDTH + 1)  # and its line at the left
        inside = QVBoxLayout(self.side)
        inside.setContentsMargins(0, 0, 0, 0)
        self.side.hide()
        self.stack.addWidget(self.grid)
        self.stack.addWidget(self.records)
        beside = QHBoxLayout()
        beside.setSpacing(0)
        beside.addWidget(self.stack, 1)
        beside.addWidget(self.side)
        right = QVBoxLayout()
        right.setSpacing(0)
        right.addWidget(self.notices)
        right.addLayout(beside, 1)
        below = QHBoxLayout()
        below.setSpacing(0)
        below.addWidget(self.rail)
        below.addLayout(right, 1)
        middle = QWidget()
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.header)
        column.addLayout(below, 1)
        self.setCentralWidget(middle)
        middle.setFocus()  # of no button: what Space does must have been chosen
        self.rail.show_page(Page.CHANNELS)

    def _connect(self) -> None:
        self.header.stop_all_requested.connect(self.stop_all)
        self.header.theme_requested.connect(self.toggle_theme)
        self.rail.chosen.connect(
            lambda page: self.show_records() if page is Page.RECORDS else self.show_grid()
        )
        self.grid.opened.connect(self.show_channel)
        self.grid.start_requested.connect(self.open_start)
        self.grid.pause_requested.connect(self.commands.pause)
        self.grid.resume_requested.connect(self.commands.resume)
        self.grid.stop_requested.connect(self.commands.stop)
        self.grid.acknowledge_requested.connect(self.acknowledge)
        self.grid.continue_requested.connect(self.go_on)
        self.records.opened.connect(self.show_record)
        keys: list[tuple[str, Callable[[], object]]] = [
            ("Ctrl+Shift+S", self.stop_all),
            ("Esc", self.go_back),
            (KEYS[Page.CHANNELS], self.show_grid),
            (KEYS[Page.RECORDS], self.show_records),
        ]
        keys += [(f"Ctrl+{number}", partial(self._open_nth, number - 1)) for number in range(1, 10)]
        for key, act in keys:
            QShortcut(QKeySequence(key), self).activated.connect(act)
        hints = QGuiApplication.styleHints()
        if hints is not None and hasattr(hints, "colorSchemeChanged"):  # Qt 6.5
            hints.colorSchemeChanged.connect(self._follow_system)

    def _open_nth(self, index: int) -> None:
        names = list(self.model.channels)
        if index < len(names):
            self.show_channel(names[index])

    def _restore(self) -> None:
        self.resize(*USUAL)
        store = settings()
        if (geometry := store.value("geometry")) is not None:
            self.restoreGeometry(geometry)
