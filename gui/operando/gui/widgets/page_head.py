"""The head of a channel's page: who, in what state and why, what it reads, what can be done."""

from __future__ import annotations

from PyQt6.QtCore import QPointF, Qt, pyqtSignal
from PyQt6.QtGui import QFontMetricsF, QPainter, QPaintEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from operando.gui.models.channel import NOT_VERIFIED, ChannelView
from operando.gui.models.units import UNKNOWN
from operando.gui.theme import BODY, LARGE, READOUT, SMALL, SPACE, Theme
from operando.gui.widgets.card import can_press, keep_focus, state_badge
from operando.gui.widgets.style import (
    Alert,
    Badge,
    Kind,
    Line,
    Paragraph,
    Progress,
    Role,
    SimulatedMark,
    button,
    colour,
    font,
)

READOUTS = (
    ("voltage", "Voltage"),
    ("current", "Current"),
    ("pressure", "Stack pressure"),
    ("charge", "Charge"),
)

COMMANDS: tuple[tuple[str, str, Kind], ...] = (
    ("continue", "Continue this run", "accent"),
    ("start", "Start…", "accent"),
    ("resume", "Resume", "accent"),
    ("end_step", "End step…", "plain"),
    ("pause", "Pause", "plain"),
    ("acknowledge", "Acknowledge", "plain"),
    ("stop", "Stop", "danger"),
)


class Readout(Line):
    """A line that becomes smaller where it does not fit: of a number no digit may be missing."""

    def __init__(self, theme: Theme, role: Role, size: int, *, bold: bool = False) -> None:
        super().__init__(theme, role, size=size, bold=bold)
        self._sizes = range(size, SMALL - 1, -1)
        self._bold = bold

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the text on the baseline that it has at its usual size."""
        if not self.text():
            return
        width = float(self.width())
        for size in self._sizes:
            made = font(size, bold=self._bold, tabular=True)
            metrics = QFontMetricsF(made)
            if metrics.horizontalAdvance(self.text()) <= width:
                break
        painter = QPainter(self)
        painter.setFont(made)
        painter.setPen(colour(self.theme, self._role))
        text = metrics.elidedText(self.text(), Qt.TextElideMode.ElideRight, width)
        painter.drawText(QPointF(0.0, QFontMetricsF(self.font()).ascent()), text)
        painter.end()


class PageHead(QFrame):
    """Two rows: name, state and commands; readouts, step and progress. A third says why."""

    back = pyqtSignal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("page-head")
        self._theme = theme
        self._view: ChannelView | None = None
        self._commands = True
        self._lost = ""
        self._back = button("←  Back", "quiet", "page-back")
        self._back.setAccessibleName("Back to all channels")
        self._back.clicked.connect(self.back)
        self._name = self._line("name", "text", LARGE, bold=True)
        self._cell = self._line("cell", "muted", LARGE)
        self._state = Badge(theme)
        self._state.setObjectName("page-state")
        self._age = Badge(theme, "notice")
        self._age.setObjectName("page-age")
        self._age.hide()
        self._mark = SimulatedMark(theme)
        self._mark.setObjectName("page-simulated")
        self._identity = self._line("identity", "muted", BODY)
        self._readouts = {name: self._readout(name, READOUT, bold=True) for name, _ in READOUTS}
        self._captions: list[Line] = []
        self._step = self._readout("step", LARGE)
        self._percent = self._line("progress-text", "text", LARGE)
        self._left = self._line("time-left", "muted", SMALL)
        self._progress = Progress(theme)
        self._progress.setObjectName("page-progress")
        self._alert = Alert(theme)
        self._alert.setObjectName("page-alert")
        self._around = self._line("around", "muted", SMALL + 1)
        self._around.hide()
        self._reason = Paragraph(theme, lines=1)
        self._reason.setObjectName("page-reason")
        self._buttons: dict[str, QPushButton] = {}
        for word, text, kind in COMMANDS:
            made = button(text, kind, f"page-{word.replace('_', '-')}")
            made.setAccessibleName(text.rstrip("…"))
            self._buttons[word] = made
        self._compose()

    def button(self, word: str) -> QPushButton:
        """The button of a command, see `COMMANDS`."""
        return self._buttons[word]

    def set_commands(self, shown: bool) -> None:
        """Show the commands, or none: a past record has none."""
        self._commands = shown
        if not shown:
            keep_focus(self._buttons, (), self)
        for made in self._buttons.values():
            made.setVisible(shown)

    def set_identity(self, text: str) -> None:
        """Say which run this is: its protocol, its start, its identifier."""
        self._identity.set_text(text)
        self._identity.setToolTip(text)

    def show_waiting(self, run: str) -> None:
        """Say that a record is being read."""
        self._view = None
        self._name.set_text(run)
        self._cell.set_text("")
        self._fit_names()
        self._state.show_state("reading…", "idle")
        for line in (*self._readouts.values(), self._step, self._percent, self._left):
            line.set_text("")
        self._progress.show_progress(None, "idle")
        self._alert.warn("")
        self._reason.set_text("")
        self._reason.hide()
        self._around.hide()
        self._mark.hide()
        self._age.hide()
        self.set_identity("")

    def set_lost(self, why: str) -> None:
        """Say that the station is not heard, and why; "" when it is."""
        self._lost = why
        if self._view is not None:
            self.show_view(self._view)
        self._say()

    def show_view(self, view: ChannelView) -> None:
        """Show a channel as it is, or as it was last seen."""
        self._view = view
        dim = view.stale or bool(self._lost)
        plain: Role = "faint" if dim else "muted" if view.over else "text"
        self._name.set_text(view.name)
        self._cell.set_text(view.cell)
        self._fit_names()
        self._state.show_state(
            state_badge(view), view.tone, strong=view.attention, dim=dim and not view.attention
        )
        self._state.setToolTip(view.state_text)
        self._age.show_state(view.age_text, "notice")
        self._age.setVisible(dim and bool(view.age_text) and not view.last_seen)
        self._mark.show_simulated(view.simulated)
        for name, text in (
            ("voltage", view.voltage),
            ("current", view.current),
            ("pressure", view.pressure),
            ("charge", view.charge),
        ):
            self._readouts[name].set_text(text)
            role: Role = plain
            if dim or name in view.old:
                role = "muted" if name == "charge" and not dim else "faint"
            self._readouts[name].set_role(role)
        for below, (name, caption) in zip(self._captions, READOUTS, strict=False):
            last = view.is_last(name) or (bool(self._lost) and name != "charge")
            words = f"Last {caption.lower()}" if last else caption
            below.set_text(words)
            if name == "pressure":  # not every channel has somebody who measures it
                below.setVisible(bool(view.pressure))
                self._readouts[name].setVisible(bool(view.pressure))
        self._around.set_text(f"Last: {view.around}" if view.over or dim else view.around)
        self._around.set_role("faint" if dim else "muted")
        self._around.setVisible(bool(view.around))
        where = " · ".join(part for part in (view.step, view.cycle) if part)
        self._step.set_text(where or UNKNOWN)
        self._step.set_role(plain)
        self._step.setToolTip(view.protocol)
        self._percent.set_text(view.progress_text or view.elapsed or UNKNOWN)
        self._percent.set_role(plain)
        self._left.set_text(
            view.time_left or ("Run lasted" if not view.progress_text else "Progress")
        )
        self._progress.show_progress(view.progress, view.tone, dim=dim)
        self._show_buttons(view)
        self._say()
        self.setAccessibleName(f"{view.name}, {view.cell}: {view.state_text}")

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        for widget in self.findChildren(QWidget):
            if isinstance(widget, Line | Paragraph | Badge | Alert | Progress | SimulatedMark):
                widget.set_theme(theme)

    # ---- below -----------------------------------------------------------------------------

    def _line(self, what: str, role: Role, size: int, *, bold: bool = False) -> Line:
        made = Line(self._theme, role, size=size, bold=bold)
        made.setObjectName(f"page-{what}")
        return made

    def _readout(self, what: str, size: int, *, bold: bool = False) -> Readout:
        made = Readout(self._theme, "text", size, bold=bold)
        made.setObjectName(f"page-{what}")
        return made

    def _fit_names(self) -> None:
        for line in (self._name, self._cell):
            line.setMaximumWidth(line.sizeHint().width() + 4)

    def _say(self) -> None:
        view = self._view
        words = f"The station is not heard: {self._lost}" if self._lost else ""
        if view is not None and not self._lost:
            parts = [f"{view.circuit[:1].upper()}{view.circuit[1:]}", view.reason]
            told = view.circuit or "read back off" in view.reason
            if view.output_text != NOT_VERIFIED and not told and (view.over or not view.reason):
                parts.append(view.output_text)
            words = " · ".join(part for part in parts if part)
        self._reason.set_text(words)
        self._reason.setToolTip(words)
        self._reason.set_role("notice" if self._lost else "muted")
        self._reason.setVisible(bool(words))
        uncertain = view is not None and view.output_text == NOT_VERIFIED
        self._alert.warn(NOT_VERIFIED if uncertain else "")

    def _show_buttons(self, view: ChannelView) -> None:
        if not self._commands:
            return
        shown = can_press(view)
        keep_focus(self._buttons, shown, self)
        stop = self._buttons["stop"]
        for word, made in self._buttons.items():
            made.setVisible(made is stop or word in shown)
        stop.setEnabled("stop" in shown)
        stop.setText("Stopping…" if view.stopping else "Stop")

    def _caption(self, text: str, name: str) -> Line:
        made = Line(self._theme, "faint", size=SMALL)
        made.setObjectName(f"page-caption-{name}")
        made.set_text(text)
        self._captions.append(made)
        return made

    def _compose(self) -> None:
        first = QHBoxLayout()
        first.setSpacing(SPACE)
        first.addWidget(self._back)
        first.addWidget(self._name)
        first.addWidget(self._cell)
        first.addWidget(self._state)
        first.addWidget(self._age)
        first.addWidget(self._mark)
        first.addWidget(self._identity, 1)
        for made in self._buttons.values():
            first.addWidget(made)
        self._buttons["stop"].setMinimumWidth(11 * SPACE)

        second = QHBoxLayout()
        second.setContentsMargins(SPACE, 0, SPACE, 0)
        second.setSpacing(2 * SPACE)
        for name, caption in READOUTS:
            second.addLayout(_column(self._readouts[name], self._caption(caption, name)), 10)
        second.addLayout(_column(self._step, self._caption("Step", "step")), 13)
        second.addLayout(_column(self._percent, self._left, self._progress), 10)

        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(first)
        column.addWidget(self._alert)
        words = QHBoxLayout()
        words.setContentsMargins(SPACE, 0, SPACE, 0)
        words.addWidget(self._reason)
        column.addLayout(words)
        column.addLayout(second)
        third = QHBoxLayout()
        third.setContentsMargins(SPACE, 0, SPACE, 0)
        third.addWidget(self._around)
        column.addLayout(third)


def _column(*lines: QWidget) -> QVBoxLayout:
    column = QVBoxLayout()
    column.setSpacing(1)
    column.addStretch(1)
    for line in lines:
        column.addWidget(line, 0, Qt.AlignmentFlag.AlignVCenter)
    return column
