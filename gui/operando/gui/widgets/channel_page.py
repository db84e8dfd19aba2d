"""The page of one channel, or of one past record: its state, its plots, its steps and journal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from PyQt6.QtCore import Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QHideEvent, QShowEvent
from PyQt6.QtWidgets import (
    QButtonGroup,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from operando.gui.link import StationLink, plain
from operando.gui.models.channel import AROUND, ChannelView
from operando.gui.models.run import (
    PLOTTED,
    RunModel,
    limits_of,
    plotted,
    record_view,
    recorded,
)
from operando.gui.models.traces import ALL
from operando.gui.models.units import HOUR, MINUTE, display
from operando.gui.theme import BODY, SMALL, SPACE, Theme
from operando.gui.widgets.cycle_plot import CyclePlot
from operando.gui.widgets.export import (
    Caption,
    Copied,
    breaks_of,
    marked,
    picture,
    save,
    write_data,
)
from operando.gui.widgets.limits_in_force import LimitsInForce
from operando.gui.widgets.loop_plot import LoopPlot
from operando.gui.widgets.notices import Saying
from operando.gui.widgets.page_head import COMMANDS, PageHead
from operando.gui.widgets.panels import choose, panel
from operando.gui.widgets.plot_style import time_text
from operando.gui.widgets.records_page import start_text
from operando.gui.widgets.steps_table import InstrumentsTable, JournalTable, StepsTable
from operando.gui.widgets.style import Role, button, font, label
from operando.gui.widgets.time_plots import TimePlots
from operando.station.client import UNDER_WAY, ChannelStatus, Reading, Rows, StationClient

TICK = 250
"""ms between two looks at what is to be asked."""

UNREAD = "not read: "

SPANS = (("All", ALL), ("Last hour", HOUR), ("Last 10 min", 10 * MINUTE))
"""What can be followed."""


class ChannelPage(QWidget):
    """Everything about one channel and its run. Signals carry the channel's name; that of a limit
    its name and the condition at which it is to act too.

    It asks the station for curves, loops and tables by itself while it is visible; rows and
    states are given to it.
    """

    back = pyqtSignal()
    start_requested = pyqtSignal(str)
    pause_requested = pyqtSignal(str)
    resume_requested = pyqtSignal(str)
    stop_requested = pyqtSignal(str)
    acknowledge_requested = pyqtSignal(str)
    continue_requested = pyqtSignal(str)
    end_step_requested = pyqtSignal(str)
    limit_requested = pyqtSignal(str, str, str)

    def __init__(self, link: StationLink, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("page")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._link = link
        self._theme = theme
        self._status: ChannelStatus | None = None
        self._view: ChannelView | None = None
        self._current = True
        self._past: str | None = None
        self._again_at = 0.0
        self._met: set[str] = set()
        self.run = RunModel(link, self._learned)
        self.head = PageHead(theme)
        self.head.back.connect(self.back)
        for word, _, _ in COMMANDS:
            self.head.button(word).clicked.connect(partial(self._request, word))
        self.plots = TimePlots(link, theme)
        self.plots.moved.connect(self._show_following)
        self.plots.drawn.connect(self._show_readings)
        self.loops = LoopPlot(theme)
        self.cycles = CyclePlot(theme)
        self.steps = StepsTable(theme)
        self.journal = JournalTable(theme)
        self.limits = LimitsInForce(theme)
        self.limits.asked.connect(self._change_limit)
        self.instruments = InstrumentsTable(theme)
        self._note = Saying(theme, "muted", size=SMALL)
        self._note.setObjectName("page-note")
        self._compose()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK)
        self._timer.timeout.connect(self.tick)

    # What is shown

    @property
    def shown_run(self) -> str | None:
        """Identifier of the run whose data are shown."""
        return self.run.run

    @property
    def channel(self) -> str:
        """Name of the channel; of a past record, the one that it was run on."""
        return self._view.name if self._view is not None else ""

    @property
    def simulated(self) -> bool:
        """Whether what is shown is simulated; what is not known yet counts as simulated."""
        detail = self.run.detail
        if detail is not None:
            return detail.summary.simulated
        return self._view is None or self._view.simulated

    def show_channel(self, status: ChannelStatus, view: ChannelView) -> None:
        """Show a channel with the run that it does or did last."""
        self._past = None
        self._status = None
        self.head.set_commands(True)
        if status.run is not None and status.run == self.shown_run:
            # Whoever comes back, or the station itself, finds the page as it was.
            self.run.renew(lost=True)
            self.plots.refresh()
        else:
            self._show_run(status.run, live=status.state in UNDER_WAY)
        self._tabs.setTabVisible(self._tabs.indexOf(self.instruments), True)
        if status.run is None:
            self._tabs.setCurrentWidget(self.instruments)
        elif self._tabs.currentWidget() is self.instruments:
            self._tabs.setCurrentWidget(self.steps)
        self.update_channel(status, view)

    def show_record(self, run: str) -> None:
        """Show a past record: the same page without commands."""
        self._past = run
        self._status = self._view = None
        self.head.set_commands(False)
        self._tabs.setTabVisible(self._tabs.indexOf(self.instruments), False)
        self._show_run(run, live=False)
        self.head.show_waiting(run)

    def update_channel(self, status: ChannelStatus, view: ChannelView) -> None:
        """Take the channel's present state; another run than the one shown is shown instead."""
        if self._past is not None:
            return
        if status.run != self.shown_run:
            self._show_run(status.run, live=status.state in UNDER_WAY)
        self._status, self._view = status, view
        self.head.show_view(view)
        self.instruments.show_instruments(status.instruments)
        self._identify()
        self.run.note(status, time.monotonic())
        self.plots.set_live(status.state in UNDER_WAY)
        self._arrange_plots()
        self._say_empty()

    def apply_rows(self, rows: Rows) -> None:
        """Take newly committed rows."""
        if rows.run != self.shown_run or not self.isVisible():
            return
        if not self._met >= rows.quantities.keys():
            self._met |= rows.quantities.keys()
            self._arrange_plots()
            self._say_empty()
        self.plots.apply_rows(rows)

    def set_current(self, current: bool, why: str) -> None:
        """Whether the station is heard. why: it is not, in words."""
        came_back = current and not self._current
        self._current = current
        self.head.set_lost("" if current else why or "the station does not answer")
        if came_back:
            self.run.renew(lost=True)
            self.plots.refresh()
            self.tick()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        for part in (
            self.head,
            self.plots,
            self.loops,
            self.cycles,
            self.steps,
            self.journal,
            self.limits,
            self.instruments,
            self._note,
        ):
            part.set_theme(theme)

    def tick(self) -> None:
        """Ask what is due."""
        now = time.monotonic()
        detail = self.run.detail
        if (
            self._past is not None
            and detail is not None
            and detail.summary.state in UNDER_WAY
            and now >= self._again_at
        ):
            # A record that is still written, seen without its channel.
            self._again_at = now + 5.0
            self.run.renew()
            self.plots.refresh()
        self.run.tick(now)
        self.steps.show_now(self._newest(), self._charge())

    # What leaves the window

    def save_picture(self, path: str | Path) -> Path:
        """Write the visible plots as PNG; returns where. What goes wrong is said on the page."""
        path = marked(Path(path), ".png", simulated=self.simulated)
        left: list[Copied] = list(self.plots.plots.values())
        right: list[Copied] = [self.loops, self.cycles]
        with self._saying(path):
            save(picture(self._caption(), left, right), path)
        return path

    def save_data(self, path: str | Path) -> Path:
        """Write the recorded rows of the visible time as CSV; returns where they will be.

        The rows are asked from the station and written in the link's thread.
        """
        path = marked(Path(path), ".csv", simulated=self.simulated)
        run, view = self.shown_run, self.plots.viewport
        if run is None:
            self.say("there is no run to save", "notice")
            return path
        start, end = view.start, view.end

        def work(client: StationClient) -> int:
            rows = client.rows(run, start=start, end=end)
            return write_data(path, rows, breaks_of(client.run(run)))

        self.say(f"saving {path.name} …", "muted")
        self._link.ask(
            "page-rows",
            work,
            lambda count: self.say(f"saved {path.name}, {count} rows", "good", str(path)),
            lambda error: self.say(f"not saved: {plain(error)}", "bad"),
        )
        return path

    def say(self, text: str, role: Role, tip: str = "") -> None:
        """Say something beside the save buttons. role: of its colour. tip: more of it."""
        self._note.set_role(role)
        self._note.set_text(text)
        self._note.setToolTip(tip or text)

    # ---- Qt --------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Ask only while somebody looks."""
        super().showEvent(event)
        self.run.renew()
        self._timer.start()
        self.plots.setFocus()
        QTimer.singleShot(0, self.tick)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 - Qt's name
        """Nobody looks."""
        super().hideEvent(event)
        self._timer.stop()

    # ---- below -----------------------------------------------------------------------------

    def _show_run(self, run: str | None, *, live: bool) -> None:
        self.run.show(run)
        self._met = set()
        quantities = plotted(recorded(None, self._status))
        self.plots.show_run(run, quantities or PLOTTED[:2] if run is not None else (), live=live)
        self.loops.set_mass(None)
        self.cycles.set_mass(None)
        choose(self._specific, False)
        self._specific.setEnabled(False)
        self.loops.set_loops(())
        self.cycles.set_cycles(())
        self.steps.show_steps((), now=None, live=False)
        self.journal.show_journal(())
        self.say("", "muted")
        self._say_empty()
        if self.isVisible():
            self.tick()

    def _learned(self, what: str) -> None:
        """An answer came."""
        detail = self.run.detail
        if what == "failed":
            if self._current:  # else the head says why
                self.say(f"{UNREAD}{self.run.failure}", "notice")
            return
        if not self.run.failure and self._note.text().startswith(UNREAD):
            self.say("", "muted")
        if what == "loops":
            self.loops.set_loops(self.run.loops)
        elif what == "cycles":
            self.cycles.set_cycles(self.run.cycles)
        elif detail is not None:
            self._arrange_plots()
            self.plots.set_gaps(self.run.gaps)
            self.plots.set_pauses(self.run.pauses)
            live = self._live()
            self.steps.show_steps(
                detail.steps,
                now=self._newest() if live else detail.end,
                live=live,
                charge=self._charge(),
                pauses=self.run.pauses,
            )
            self.journal.show_journal(detail.journal)
            mass = self.run.active_mass
            self._specific.setEnabled(mass is not None)
            self._specific.setToolTip(
                "Capacity per gram of active material"
                if mass is not None
                else "The cell states no active mass"
            )
            self._show_readings()
            self._identify()
        self._say_empty()

    def _live(self) -> bool:
        detail = self.run.detail
        if self._past is not None:
            return detail is not None and detail.summary.state in UNDER_WAY
        return self._status is not None and self._status.state in UNDER_WAY

    def _newest(self) -> float | None:
        """Time of the newest reading that is known, s: curves are answered later than states."""
        times = [self.plots.traces.last]
        if self._status is not None and self._status.run == self.shown_run:
            times += [reading.time for reading in self._status.latest.values()]
        newest = max(times)
        return newest if math.isfinite(newest) else None

    def _charge(self) -> Reading | None:
        if self._status is None or self._status.run != self.shown_run:
            return None
        return self._status.latest.get("charge")

    def _arrange_plots(self) -> None:
        detail = self.run.detail
        known = recorded(detail, self._status) | self._met
        if detail is None:
            known |= set(self.plots.plots)
        limits = limits_of(self._status, detail)
        self._around.setVisible(not known.isdisjoint(AROUND))
        around = self._around.isChecked() and self._around.isVisibleTo(self)
        quantities = plotted(known, limits, around=around)
        if quantities and self.shown_run is not None:
            self.plots.want(quantities)
        self.plots.set_limits(limits)
        can = self._past is None and self._current and self._live()
        self.limits.show_limits(limits, can_change=can)

    def _show_readings(self) -> None:
        """Fill the head of a past record."""
        detail = self.run.detail
        if self._past is None or detail is None:
            return
        readings: dict[str, str] = {}
        if self.plots.traces.reaches_the_end:
            for name in self.plots.plots:
                trace = self.plots.traces.trace(name)
                if len(trace.time):
                    readings[name] = display(name).text(float(trace.value[-1]))
        self._view = replace(record_view(detail, readings), over=not self._live())
        self.head.show_view(self._view)

    def _identify(self) -> None:
        """Say which run this is: protocol, when it began, identifier."""
        detail = self.run.detail
        known = detail is not None and detail.summary.run == self.shown_run
        parts = [self._status.title or self._status.protocol] if self._status is not None else []
        if known and detail is not None:
            parts = parts or [detail.summary.protocol]
            parts.append(f"started {start_text(detail.summary)}")
        parts += [f"run {self.shown_run}"] if self.shown_run is not None else []
        self.head.set_identity(" · ".join(part for part in parts if part))

    def _request(self, word: str) -> None:
        signal = getattr(self, f"{word}_requested")
        if self._past is None and self.channel:
            signal.emit(self.channel)

    def _change_limit(self, name: str, when: str) -> None:
        self.limit_requested.emit(self.channel, name, when)

    def _use_mass(self, specific: bool) -> None:
        choose(self._specific, specific)
        mass = self.run.active_mass if specific else None
        self.loops.set_mass(mass)
        self.cycles.set_mass(mass)

    def _say_empty(self) -> None:
        """Say why there is nothing to see, if there is nothing."""
        for made in self._savers:
            made.setEnabled(self.shown_run is not None)
        self.plots.setVisible(self.shown_run is not None)
        self._empty.setVisible(self.shown_run is None)

    def _show_following(self) -> None:
        span = self.plots.viewport.span
        for (_, known), made in zip(SPANS, self._spans, strict=True):
            choose(made, span == known)
        self._free.setVisible(span is None)

    def _caption(self) -> Caption:
        view = self._view
        detail = self.run.detail
        start, end = self.plots.viewport.start, self.plots.viewport.end
        across = max(self.plots.width(), 1)
        title = (
            " · ".join(
                part
                for part in (view.name, view.cell, view.protocol if detail is None else "")
                if part
            )
            if view is not None
            else ""
        )
        protocol = detail.summary.protocol if detail is not None else ""
        stretch = (
            f"{time_text(start, end - start, across)} to {time_text(end, end - start, across)}"
        )
        return Caption(
            title=" · ".join(part for part in (title, protocol) if part),
            subtitle=f"run {self.shown_run}, {stretch} after its start",
            simulated=self.simulated,
        )

    def _suggest(self, suffix: str) -> str:
        return str(marked(Path(self.shown_run or "plots"), suffix, simulated=self.simulated))

    def _ask_where(self, what: str, suffix: str, kind: str, then: Callable[[str], object]) -> None:
        dialog = QFileDialog(self, f"Save {what}", self._suggest(suffix), kind)
        dialog.setObjectName(f"save-{what}-dialog")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)
        dialog.setDefaultSuffix(suffix.removeprefix("."))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(then)
        # Shown, not opened: a dialog that is modal for its window would lock up the stop buttons.
        dialog.setModal(False)
        dialog.show()

    def _saying(self, path: Path) -> _Saying:
        return _Saying(self, path)

    def _compose(self) -> None:
        tools = QHBoxLayout()
        tools.setSpacing(SPACE // 2)
        self._spans: list[QPushButton] = []
        self._savers: list[QPushButton] = []
        group = QButtonGroup(self)
        group.setExclusive(False)
        for text, span in SPANS:
            made = button(text, "quiet", f"follow-{text.lower().replace(' ', '-')}")
            made.setCheckable(True)
            made.setAccessibleName(f"Show {text.lower()}")
            made.clicked.connect(partial(self._follow, span))
            group.addButton(made)
            self._spans.append(made)
            tools.addWidget(made)
        self._free = button("Follow", "accent", "follow")
        self._free.setToolTip("Back to the newest readings")
        self._free.clicked.connect(partial(self._follow, ALL))
        tools.addWidget(self._free)
        self._around = button("Surroundings", "quiet", "surroundings")
        self._around.setCheckable(True)
        self._around.setToolTip("What is measured around the cell, below its voltage")
        self._around.toggled.connect(self._show_around)
        self._around.hide()
        tools.addWidget(self._around)
        tools.addWidget(self._note, 1)
        for what, suffix, kind, save_it in (
            ("picture", ".png", "Pictures (*.png)", self.save_picture),
            ("data", ".csv", "Tables (*.csv)", self.save_data),
        ):
            made = button(f"Save {what}…", "plain", f"save-{what}")
            made.clicked.connect(partial(self._ask_where, what, suffix, kind, save_it))
            self._savers.append(made)
            tools.addWidget(made)

        empty = QLabel("This channel has not run anything yet.")
        empty.setProperty("role", "muted")
        empty.setFont(font(BODY))
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setObjectName("page-empty")
        self._empty = empty
        left = panel(tools, self.plots, empty)

        capacity = QHBoxLayout()
        capacity.addWidget(label("Voltage against capacity", "muted", size=SMALL + 1))
        capacity.addStretch(1)
        self._specific = button("mAh/g", "quiet", "specific")
        self._specific.setCheckable(True)
        self._specific.setAccessibleName("Capacity per gram of active material")
        self._specific.toggled.connect(self._use_mass)
        capacity.addWidget(self._specific)
        top = panel(capacity, self.loops)

        by_cycle = QHBoxLayout()
        by_cycle.addWidget(label("Capacity and efficiency by cycle", "muted", size=SMALL + 1))
        middle = panel(by_cycle, self.cycles)

        tabs = QTabWidget()
        tabs.setObjectName("page-tabs")
        tabs.setFont(font(SMALL + 1))
        tabs.setDocumentMode(True)
        bar = tabs.tabBar()
        if bar is not None:
            bar.setDrawBase(False)
        tabs.addTab(self.steps, "Steps")
        tabs.addTab(self.journal, "Journal")
        tabs.addTab(self.limits, "Limits")
        tabs.addTab(self.instruments, "Instruments")
        self._tabs = tabs
        bottom = panel(None, tabs)

        right = QVBoxLayout()
        right.setSpacing(SPACE)
        right.addWidget(top, 10)
        right.addWidget(middle, 8)
        right.addWidget(bottom, 9)
        body = QHBoxLayout()
        body.setSpacing(SPACE)
        body.addWidget(left, 3)
        body.addLayout(right, 2)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(2 * SPACE, SPACE, 2 * SPACE, 2 * SPACE)
        whole.setSpacing(SPACE)
        whole.addWidget(self.head)
        whole.addLayout(body, 1)
        self._show_following()

    def _show_around(self, shown: bool) -> None:
        choose(self._around, shown)
        self._arrange_plots()

    def _follow(self, span: float, checked: bool = True) -> None:
        self.plots.follow(span)


class _Saying:
    """Says on a page whether a file was saved; what went wrong ends there."""

    def __init__(self, page: ChannelPage, path: Path) -> None:
        self._page, self._path = page, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            self._page.say(f"saved {self._path.name}", "good", str(self._path))
        elif isinstance(error, Exception):
            self._page.say(f"not saved: {error}", "bad")
        return isinstance(error, Exception)
