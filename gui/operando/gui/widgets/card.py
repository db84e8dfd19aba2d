"""One channel on the grid: what state it is in, what it reads, and what can be done about it."""

from __future__ import annotations

from collections.abc import Container, Mapping

from PyQt6.QtCore import QEvent, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QEnterEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
)
from PyQt6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QSpacerItem,
    QVBoxLayout,
    QWidget,
)

from operando.gui.models.channel import NOT_VERIFIED, ChannelView
from operando.gui.theme import BODY, LARGE, RADIUS, READOUT, SMALL, SPACE, Theme
from operando.gui.widgets.style import (
    Alert,
    Badge,
    Kind,
    Line,
    Paragraph,
    Progress,
    Role,
    button,
    font,
    mix,
)
from operando.gui.widgets.trend import Trend
from operando.station.client import Rows

STRIPE = 4
"""Width of the coloured stripe at a card's left, px."""

CAPTIONS = (
    ("voltage", "Voltage", "Last voltage"),
    ("current", "Current", "Last current"),
    ("pressure", "Stack pressure", "Last pressure"),
)
"""Of the readouts: quantity, caption while it is measured, and when it is not any more."""

REPLACES = {"pause": "resume", "resume": "pause", "acknowledge": "start", "continue": "pause"}
"""Button that takes the place of another one which was pressed."""

TREND = "voltage"
"""What the small trend shows."""


class ChannelCard(QFrame):
    """A channel as a card. Signals carry its name.

    opened: the channel's page is wanted. The others: commands; the card does nothing by itself.
    """

    opened = pyqtSignal(str)
    start_requested = pyqtSignal(str)
    pause_requested = pyqtSignal(str)
    resume_requested = pyqtSignal(str)
    stop_requested = pyqtSignal(str)
    acknowledge_requested = pyqtSignal(str)
    continue_requested = pyqtSignal(str)

    def __init__(self, theme: Theme, name: str) -> None:
        super().__init__()
        self.name = name
        self._theme = theme
        self._view: ChannelView | None = None
        self._under_pointer = False
        self.setObjectName(f"card-{name}")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._lines: list[Line | Paragraph] = []
        self._captions: list[Line] = []

        self._cell = self._line("cell", "muted", BODY)
        self._age = Badge(theme, "notice")
        self._age.setObjectName(f"age-{name}")
        self._age.hide()
        self._state = Badge(theme)
        self._state.setObjectName(f"state-{name}")
        self._voltage = self._line("voltage", "text", READOUT, bold=True)
        self._current = self._line("current", "text", LARGE - 1)
        self._pressure = self._line("pressure", "text", LARGE - 1)
        self._alert = Alert(theme)
        self._alert.setObjectName(f"alert-{name}")
        self.trend = Trend(theme, TREND, lambda value: f"{value:.2f} V")
        self._step = self._line("step", "text", SMALL + 1)
        self._percent = self._line("progress-text", "muted", SMALL + 1, right=True)
        self._percent.setFixedWidth(6 * SPACE)
        self._left = self._line("left", "muted", SMALL + 1, right=True)
        self._left.setFixedWidth(17 * SPACE)
        self._progress = Progress(theme)
        self._progress.setObjectName(f"progress-{name}")
        self._reason = Paragraph(theme)
        self._reason.setObjectName(f"reason-{name}")
        self._lines.append(self._reason)
        self._around = self._line("around", "muted", SMALL + 1)
        self._around.hide()
        self._start = self._button("start", "Start…", "accent", self.start_requested)
        self._pause = self._button("pause", "Pause", "plain", self.pause_requested)
        self._resume = self._button("resume", "Resume", "accent", self.resume_requested)
        self._acknowledge = self._button(
            "acknowledge", "Acknowledge", "plain", self.acknowledge_requested
        )
        self._continue = self._button("continue", "Continue", "accent", self.continue_requested)
        self._continue.setToolTip("Continue this run")
        self._stop = self._button("stop", "Stop", "stop", self.stop_requested)
        self._compose()

    @property
    def view(self) -> ChannelView | None:
        """What it shows."""
        return self._view

    def show_view(self, view: ChannelView) -> None:
        """Show a channel as it is now; only what differs is drawn again."""
        before, self._view = self._view, view
        if view == before:
            return
        dim = view.stale
        plain: Role = "faint" if dim else "muted" if view.over else "text"
        self._cell.set_text(view.cell)
        # When the whole station is lost the strip says since when; sixteen ages would shout.
        self._age.show_state(view.age_text, "notice")
        self._age.setVisible(view.stale and bool(view.age_text) and not view.last_seen)
        self._state.show_state(
            state_badge(view), view.tone, strong=view.attention, dim=dim and not view.attention
        )
        self._state.setToolTip(view.state_text)
        self._step.set_text(_step(view))
        self._step.set_role(plain)
        for line, text, below, (quantity, caption, last) in zip(
            (self._voltage, self._current, self._pressure),
            (view.voltage, view.current, view.pressure),
            self._captions,
            CAPTIONS,
            strict=True,
        ):
            line.set_text(text)
            line.set_role("faint" if quantity in view.old else plain)
            words = last if view.is_last(quantity) else caption
            below.set_text(words if text else "")
        quiet: Role = "faint" if dim else "muted"
        self._percent.set_text(view.progress_text)
        self._percent.set_role(quiet)
        self._left.set_text(view.time_left)
        self._left.set_role(quiet)
        self._left.setVisible(bool(view.time_left) and not (view.reason or view.circuit))
        self._progress.show_progress(view.progress, view.tone, dim=dim)
        self._alert.warn(view.output_text if view.output_text == NOT_VERIFIED else "")
        beside = _beside(view)
        self._around.set_text(beside)
        self._around.set_role("faint" if dim or view.over else "muted")
        self._around.setVisible(bool(beside))
        self._reason.set_most(1 if beside else 2)
        self._reason.set_text(_words(view))
        urgent = view.attention or (view.reason and not dim)
        self._reason.set_role("text" if urgent else quiet)
        self.trend.set_dim(dim)
        self._buttons(view)
        if before is None or _spoken(before) != _spoken(view):
            output = view.circuit or view.output_text
            says = "\n".join(part for part in (view.reason, output) if part)
            self.setToolTip(says)
            self.setAccessibleName(f"Channel {view.name}, {view.cell}: {view.state_text}")
            self.setAccessibleDescription(says)
        if before is None or _frame(before) != _frame(view):
            self.update()

    def apply_rows(self, rows: Rows) -> None:
        """Continue the trend; `rows` are of this channel's run."""
        if TREND in rows.quantities:
            self.trend.append(*rows.quantities[TREND])

    def set_theme(self, theme: Theme) -> None:
        """Draw in another appearance."""
        self._theme = theme
        for widget in self.findChildren(QWidget):
            if isinstance(widget, Line | Paragraph | Badge | Alert | Progress | Trend):
                widget.set_theme(theme)
        self.update()

    # ---- Qt --------------------------------------------------------------------------------

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """A click anywhere but on a button opens the channel."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            if self.rect().contains(event.position().toPoint()):
                self.opened.emit(self.name)
            event.accept()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Taken, so that the release comes here too."""
        if event is not None:
            event.accept()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Enter opens the channel."""
        if event is not None and event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter}:
            self.opened.emit(self.name)
            return
        super().keyPressEvent(event)

    def enterEvent(self, event: QEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Say that it can be clicked."""
        self._under_pointer = True
        self.update()

    def leaveEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """No longer."""
        self._under_pointer = False
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the card: surface, border, and the stripe in the colour of its state."""
        theme, view = self._theme, self._view
        tone = theme.idle if view is None else theme.tone(view.tone)
        attention = view is not None and view.attention
        if view is not None and view.stale and not attention:
            tone = mix(tone, theme.surface, 0.45)
        width = 2.0 if attention or self.hasFocus() else 1.0
        edge = theme.accent if self.hasFocus() else tone if attention else theme.line
        if edge == theme.line and self._under_pointer:
            edge = theme.faint
        surface = mix(tone, theme.surface, 0.07) if attention else theme.surface
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        inset = width / 2
        shape = QRectF(self.rect()).adjusted(inset, inset, -inset, -inset)
        outline = QPainterPath()
        outline.addRoundedRect(shape, RADIUS, RADIUS)
        painter.fillPath(outline, QColor(surface))
        painter.save()
        painter.setClipPath(outline)
        painter.fillRect(QRectF(0.0, 0.0, STRIPE + 1.0, float(self.height())), QColor(tone))
        painter.restore()
        painter.setPen(QPen(QColor(edge), width))
        painter.drawPath(outline)
        painter.end()

    # ---- below -----------------------------------------------------------------------------

    def _line(
        self, what: str, role: Role, size: int, *, bold: bool = False, right: bool = False
    ) -> Line:
        made = Line(self._theme, role, size=size, bold=bold, align="right" if right else "left")
        made.setObjectName(f"{what}-{self.name}")
        self._lines.append(made)
        return made

    def _button(self, what: str, text: str, kind: Kind, signal: object) -> QPushButton:
        made = button(text, kind, f"{what}-{self.name}")
        made.setAccessibleName(f"{text.rstrip('…')} {self.name}")
        made.clicked.connect(lambda: signal.emit(self.name))  # type: ignore[attr-defined]
        if what != "stop":
            made.hide()
        return made

    def _buttons(self, view: ChannelView) -> None:
        buttons = {
            "start": self._start,
            "pause": self._pause,
            "resume": self._resume,
            "acknowledge": self._acknowledge,
            "continue": self._continue,
            "stop": self._stop,
        }
        shown = can_press(view)
        keep_focus(buttons, shown, self)
        for word, made in buttons.items():
            if made is not self._stop and made.isHidden() == (word in shown):
                made.setVisible(word in shown)
        self._stop.setEnabled("stop" in shown)
        text = "Stopping…" if view.stopping else "Stop"
        if self._stop.text() != text:
            self._stop.setText(text)

    def _middle(self) -> QWidget:
        """Trend and warning, as tall with the warning as without: Stop keeps its place."""
        middle = QWidget()
        middle.setMinimumHeight(5 * SPACE)  # sixteen cards fit into a screen of 1920 x 1080
        middle.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addWidget(self._alert)
        column.addWidget(self.trend, 1)
        return middle

    def _compose(self) -> None:
        name = Line(self._theme, "text", size=LARGE, bold=True)
        name.set_text(self.name)
        name.setFixedWidth(name.sizeHint().width() + 2)
        head = QHBoxLayout()
        head.setSpacing(SPACE)
        head.addWidget(name)
        head.addWidget(self._cell, 1)
        head.addWidget(self._age)
        head.addWidget(self._state)

        readouts = QHBoxLayout()
        readouts.setSpacing(SPACE)
        for line, (quantity, caption, _), share in zip(
            (self._voltage, self._current, self._pressure), CAPTIONS, (7, 5, 5), strict=True
        ):
            below = Line(self._theme, "faint", size=SMALL)
            below.setObjectName(f"caption-{quantity}-{self.name}")
            below.set_text(caption)
            self._captions.append(below)
            column = QVBoxLayout()
            column.setSpacing(1)
            column.addStretch(1)
            column.addWidget(line)
            column.addSpacing(0 if line is self._voltage else 2)  # one baseline
            column.addWidget(below)
            readouts.addLayout(column, share)

        where = QHBoxLayout()
        where.setSpacing(SPACE)
        where.addWidget(self._step, 1)
        where.addWidget(self._percent)

        words = QHBoxLayout()
        words.setSpacing(SPACE)
        words.addWidget(self._reason, 1)
        words.addWidget(self._left, 0, Qt.AlignmentFlag.AlignTop)

        actions = QHBoxLayout()
        actions.setSpacing(SPACE)
        for made in (self._continue, self._start, self._resume, self._pause, self._acknowledge):
            actions.addWidget(made)
        actions.addStretch(1)
        actions.addWidget(self._stop)
        self._stop.setMinimumWidth(13 * SPACE)  # of "Stopping…", so that it keeps its width
        self._stop.setFont(font(BODY, bold=True))

        column = QVBoxLayout(self)
        column.setContentsMargins(2 * SPACE + STRIPE, SPACE, 2 * SPACE, SPACE)
        column.setSpacing(0)
        column.addLayout(head)
        _space(column)
        column.addLayout(readouts)
        _space(column)
        column.addWidget(self._middle(), 1)
        column.addSpacing(SPACE // 2)
        column.addLayout(where)
        column.addSpacing(SPACE // 2)
        column.addWidget(self._progress)
        _space(column)
        column.addLayout(words)
        column.addWidget(self._around)
        _space(column)
        column.addLayout(actions)


def _space(column: QVBoxLayout) -> None:
    """The usual space where there is room, half of it on a crowded screen."""
    half = SPACE // 2
    column.addSpacing(half)
    column.addItem(QSpacerItem(0, half, QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Maximum))


def state_badge(view: ChannelView) -> str:
    """Glyph and word of a state in a few letters; the reason and the age stand beside it."""
    word = f"last seen {view.word}" if view.last_seen else view.word
    return f"{view.glyph} {word[:1].upper()}{word[1:]}"


def can_press(view: ChannelView) -> frozenset[str]:
    """Words of the buttons that can be pressed."""
    # Pressing stop again while it stops does no harm, and may be what somebody needs.
    can = {
        "start": view.can_start,
        "pause": view.can_pause,
        "resume": view.can_resume,
        "acknowledge": view.can_acknowledge,
        "continue": view.can_continue,
        "end_step": view.can_end_step,
        "stop": view.can_stop or view.stopping,
    }
    return frozenset(word for word, may in can.items() if may)


def keep_focus(buttons: Mapping[str, QPushButton], shown: Container[str], else_to: QWidget) -> None:
    """Before buttons go: give the focus of one that goes to what replaces it, else to `else_to`.

    Qt would give it to whatever comes next, which may be a stop button, or another channel's.
    """
    window = else_to.window()
    there = None if window is None else window.focusWidget()
    for word, made in buttons.items():
        if made is there and word not in shown:
            heir = REPLACES.get(word, "")
            if heir in shown:
                buttons[heir].show()
                buttons[heir].setFocus()
            else:
                else_to.setFocus()


def _frame(view: ChannelView) -> tuple[object, ...]:
    return view.tone, view.attention, view.stale


def _spoken(view: ChannelView) -> tuple[str, ...]:
    return view.state_text, view.reason, view.circuit or view.output_text


def _step(view: ChannelView) -> str:
    return " · ".join(part for part in (view.step, view.cycle) if part)


def _words(view: ChannelView) -> str:
    """What stands below: of a run that drives, its time left stands beside it."""
    if view.reason or view.circuit or view.stale or not view.time_left:
        return view.brief
    return " · ".join(part for part in (view.protocol, view.elapsed) if part)


def _beside(view: ChannelView) -> str:
    """What stands below that, unless a reason needs the room: the surroundings, or what it has."""
    if view.reason or view.circuit:
        return ""
    return view.around_short if view.protocol else view.tools
