"""Head and foot of the start panel: they stay where they are while the form scrolls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from operando.gui.models.outlook import one_c_words
from operando.gui.theme import LARGE, RADIUS, SMALL, SPACE, Theme
from operando.gui.widgets.form_fields import LABEL_WIDTH, Choice, problem_label, show_problem
from operando.gui.widgets.style import (
    IconButton,
    Line,
    Paragraph,
    Role,
    SimulatedMark,
    button,
    label,
    mix,
)
from operando.station.client import ChannelStatus, ProtocolInfo

MOST_MESSAGES = 20 * SPACE
"""Height of problems and warnings above the button before they scroll, px."""


class StartHead(QWidget):
    """Which channel, which cell, and what 1C is for it."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.title = label("Start a run", size=LARGE, bold=True)
        self.title.setObjectName("start-title")
        self.channel = Choice(theme, "channel", "Channel")
        self.channel.setFixedWidth(11 * SPACE)
        self.close_button = IconButton("×", "Close without starting (Esc)")
        self.close_button.setObjectName("close-start")
        self._cell = Line(theme, "muted", size=SMALL + 1)
        self._cell.setObjectName("start-cell")
        self._mark = SimulatedMark(theme, size=SMALL)
        first, second = QHBoxLayout(), QHBoxLayout()
        first.setSpacing(SPACE)
        first.addWidget(self.title, 1)
        first.addWidget(self.channel)
        first.addWidget(self.close_button)
        second.setContentsMargins(0, 0, SPACE, 0)
        second.setSpacing(SPACE)
        second.addWidget(self._cell, 1)
        second.addWidget(self._mark)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * SPACE, 3 * SPACE // 2, SPACE, 3 * SPACE // 2)
        layout.setSpacing(SPACE // 2)
        layout.addLayout(first)
        layout.addLayout(second)

    def show_channels(self, names: Iterable[str], chosen: str) -> None:
        """Offer these channels."""
        self.channel.clear()
        for name in names:
            self.channel.addItem(name, name)
        self.channel.setCurrentIndex(self.channel.findData(chosen))

    def show_channel(self, name: str, channel: ChannelStatus | None, speed: float | None) -> None:
        """Name the channel and its cell. speed: laboratory seconds a wall second."""
        self.title.setText(f"Start a run on {name}" if name else "Start a run")
        cell = channel.cell if channel is not None else None
        words = one_c_words(cell)
        self._cell.set_text(f"{cell.name}, {words}" if cell is not None else words)
        self._cell.setToolTip(f"1C is {cell.one_c}" if cell is not None and cell.one_c else "")
        self._mark.show_simulated(channel is not None and channel.simulated, speed or 1.0)

    def tab_stops(self) -> list[QWidget]:
        """What can be reached by keyboard."""
        return [self.channel, self.close_button]

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self.channel.set_theme(theme)
        self._cell.set_theme(theme)
        self._mark.set_theme(theme)


class ProtocolChoice(QWidget):
    """Which protocol, what it does, where it comes from."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.choice = Choice(theme, "protocol", "Protocol")
        self._summary = label("Asking the station …")
        self._summary.setObjectName("protocol-summary")
        self._summary.setWordWrap(True)
        self._source = Paragraph(theme, "faint", size=SMALL, lines=2)
        title = label("Protocol", "muted")
        title.setFixedWidth(LABEL_WIDTH)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(title)
        row.addWidget(self.choice, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE)
        layout.addLayout(row)
        layout.addWidget(self._summary)
        layout.addWidget(self._source)

    def show_protocols(self, protocols: Iterable[ProtocolInfo]) -> None:
        """Offer these protocols."""
        self.choice.clear()
        for info in protocols:
            self.choice.addItem(info.name, info.name)

    def show_protocol(self, info: ProtocolInfo | None) -> None:
        """Show the chosen one."""
        self._summary.setText(info.summary if info is not None else "Asking the station …")
        source = info.source if info is not None else ""
        self._source.set_text(source)
        self._source.setToolTip(source)
        self._source.setVisible(bool(source))
        self.choice.setCurrentIndex(self.choice.findData(info.name if info is not None else ""))

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self.choice.set_theme(theme)
        self._source.set_theme(theme)


class Origin(QFrame):
    """That the texts were not typed for this channel, what they change, and the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("start-origin")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._head = label("", "notice", bold=True)
        self._head.setObjectName("origin")
        self._what = label("", size=SMALL + 1)
        self._what.setObjectName("origin-changes")
        for made in (self._head, self._what):
            made.setTextFormat(Qt.TextFormat.PlainText)
            made.setWordWrap(True)
        self.defaults = button("Defaults", "plain", "origin-defaults")
        self.defaults.setToolTip("Forget what was typed for this protocol")
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self._head, 1)
        row.addWidget(self.defaults)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE, SPACE, SPACE, SPACE)
        layout.setSpacing(SPACE // 2)
        layout.addLayout(row)
        layout.addWidget(self._what)
        self.hide()

    def show_origin(self, origin: str, changes: Sequence[str]) -> None:
        """Say where the texts come from and what they change; nothing when origin is ""."""
        count = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
        self._head.setText(f"{origin[:1].upper()}{origin[1:]} · {count}")
        self._what.setText("\n".join(changes))
        self.setVisible(bool(origin))


class StartFoot(QWidget):
    """What the field in hand means, what speaks against a start, and the button that starts."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._help = Paragraph(theme, "muted", size=SMALL + 1, lines=2)
        self._help.setObjectName("help")
        self.reason = problem_label("start-reason")
        self.warning = problem_label("start-warnings")
        self.warning.setProperty("role", "notice")
        for made in (self.reason, self.warning):
            made.setContentsMargins(SPACE, SPACE // 2, SPACE, SPACE // 2)
        self._messages = self._make_messages()
        self._summary = Line(theme, "text", size=SMALL + 1)
        self._summary.setObjectName("start-summary")
        self._state = Line(theme, "muted", size=SMALL + 1, align="right")
        self._state.setObjectName("start-state")
        self.start = button("Start run", "accent", "start-run")
        self.start.setAccessibleName("Start the run")
        self.start.setFixedWidth(14 * SPACE)
        self.load = button("Load recipe…", "plain", "load-recipe")
        self.reset = button("Defaults", "quiet", "reset-form")
        self.reset.setToolTip("Forget what was typed for this protocol")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * SPACE, SPACE, 2 * SPACE, 2 * SPACE)
        layout.setSpacing(SPACE)
        layout.addWidget(self._help)
        layout.addWidget(self._messages)
        layout.addWidget(self._summary)
        layout.addWidget(self._state)
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.load)
        row.addWidget(self.reset)
        row.addStretch(1)
        row.addWidget(self.start)
        layout.addLayout(row)

    def explain(self, said: str) -> None:
        """Say what the field in hand means."""
        self._help.set_text(said)
        self._help.setToolTip(said)

    def show_messages(self, bad: Iterable[str], notes: Iterable[str]) -> None:
        """Show what speaks against a start, and what should be read before it."""
        show_problem(self.reason, _sentences(bad))
        show_problem(self.warning, _sentences(notes))
        self._fit()

    def summarise(self, said: str) -> None:
        """Plan and limits in a line; "" while they are not known."""
        self._summary.set_text(said)
        self._summary.setToolTip(said)
        self._summary.setVisible(bool(said))

    def show_state(self, said: str, role: Role) -> None:
        """Where the form stands, beside the button."""
        self._state.set_text(said)
        self._state.set_role(role)

    def tab_stops(self) -> list[QWidget]:
        """What can be reached by keyboard."""
        return [self.load, self.reset, self.start]

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._help.set_theme(theme)
        self._summary.set_theme(theme)
        self._state.set_theme(theme)

    # ---- below -----------------------------------------------------------------------------

    def _make_messages(self) -> QScrollArea:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addWidget(self.reason)
        column.addWidget(self.warning)
        column.addStretch(1)
        made = QScrollArea()
        made.setWidgetResizable(True)
        made.setFrameShape(QFrame.Shape.NoFrame)
        made.setWidget(inner)
        made.hide()
        return made

    def _fit(self) -> None:
        shown = [made for made in (self.reason, self.warning) if not made.isHidden()]
        self._messages.setVisible(bool(shown))
        width = self.width() - 4 * SPACE
        heights = [made.heightForWidth(width) for made in shown]
        height = sum(heights) + SPACE // 2 * (len(shown) - 1)
        if shown:
            self._messages.setFixedHeight(min(height, MOST_MESSAGES))


def _sentences(parts: Iterable[str]) -> str:
    """One line each, with a capital where it begins with a word and not with a name."""
    said = []
    for part in filter(None, parts):
        first = part.split(" ", 1)[0]
        said.append(part[0].upper() + part[1:] if first.isalpha() and first.islower() else part)
    return "\n".join(said)


def panel_sheet(theme: Theme) -> str:
    """What the stylesheet of the window does not say of the panel."""
    bad, notice = mix(theme.bad, theme.surface, 0.12), mix(theme.notice, theme.surface, 0.12)
    return f"""
#start-panel {{ background: {theme.surface}; }}
QPushButton[fold="true"] {{
    background: transparent; border: none; text-align: left; padding: 0; color: {theme.text};
}}
QPushButton[fold="true"]:hover, QPushButton[fold="true"]:focus {{ color: {theme.accent}; }}
QLineEdit[default="true"], QLineEdit[default="true"]:focus {{
    color: {theme.text}; background: transparent; border-color: transparent; padding: 0;
    min-height: {2 * SPACE + 4}px;
}}
QLineEdit[default="true"]:focus {{ border-bottom-color: {theme.accent}; }}
#start-origin {{ background: {notice}; border-radius: {RADIUS}px; }}
#start-reason {{ background: {bad}; border-radius: {RADIUS}px; }}
#start-warnings {{ background: {notice}; border-radius: {RADIUS}px; }}
"""
