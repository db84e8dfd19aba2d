"""What the operator must know, in a strip under the header: nothing here stops the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QPainter, QPaintEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from operando.gui.theme import BODY, SPACE, Theme, Tone
from operando.gui.widgets.style import IconButton, Kind, Line, button, colour, font, mix

MOST = 3
"""Notices in sight at once; the others are counted, and come up as these are dismissed."""

SIGNS: dict[Tone, str] = {"idle": "○", "active": "▶", "good": "✓", "notice": "◆", "bad": "▲"}

RANK: dict[Tone, int] = {"bad": 0, "notice": 1, "active": 2, "good": 3, "idle": 4}


@dataclass(frozen=True, slots=True)
class Action:
    """A button of a notice. name: its objectName."""

    text: str
    act: Callable[[], None]
    kind: Kind = "plain"
    name: str = ""


class Saying(Line):
    """A line whose middle is left out when it does not fit: both ends of a file's name matter."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """May shrink to nothing: the buttons beside it come first."""
        return QSize(0, self.minimumHeight())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the text at the right."""
        painter = QPainter(self)
        painter.setPen(colour(self.theme, self._role))
        middle = Qt.TextElideMode.ElideMiddle
        text = self._metrics.elidedText(self.text(), middle, float(self.width()))
        left = max(0.0, self.width() - self._metrics.horizontalAdvance(text))
        painter.drawText(QPointF(left, self._metrics.ascent()), text)
        painter.end()


class Notice(QFrame):
    """One line that says what happened and what can be done."""

    dismissed = pyqtSignal(str)

    def __init__(
        self,
        theme: Theme,
        key: str,
        tone: Tone,
        text: str,
        actions: Sequence[Action],
        dismissible: bool,
    ) -> None:
        super().__init__()
        self.key = key
        self.tone: Tone = tone
        self.choices = tuple(actions)
        self.dismissible = dismissible
        self._theme = theme
        self.setObjectName(f"notice-{key}")
        self.setMinimumHeight(5 * SPACE + SPACE // 2)
        self._sign = QLabel(SIGNS[tone])
        self._sign.setFont(font(BODY, bold=True))
        self._sign.setProperty("role", tone)
        self._words = QLabel(text)
        self._words.setFont(font(BODY))
        self._words.setWordWrap(True)
        self._words.setTextFormat(Qt.TextFormat.PlainText)
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setAccessibleName(text)
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * SPACE, SPACE - 2, SPACE, SPACE - 2)
        row.setSpacing(SPACE)
        row.addWidget(self._sign)
        row.addWidget(self._words, 1)
        self.buttons: list[QPushButton] = []
        for action in actions:
            made = button(action.text, action.kind, action.name)
            made.clicked.connect(lambda _=False, act=action.act: act())
            self.buttons.append(made)
            row.addWidget(made)
        if dismissible:
            close = IconButton("✕", "Dismiss", size=BODY)
            close.setObjectName(f"dismiss-{key}")
            close.clicked.connect(lambda: self.dismissed.emit(self.key))
            row.addWidget(close)

    def text(self) -> str:
        """What it says."""
        return self._words.text()

    def say(self, text: str) -> None:
        """Say it otherwise, for an age that grows."""
        if text != self._words.text():
            self._words.setText(text)
            self.setAccessibleName(text)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw a tinted band with a stripe in its tone."""
        tone = self._theme.tone(self.tone)
        painter = QPainter(self)
        area = QRectF(self.rect())
        painter.fillRect(area, QColor(mix(tone, self._theme.surface, 0.12)))
        painter.fillRect(QRectF(0.0, 0.0, 4.0, area.height()), QColor(tone))
        painter.fillRect(
            QRectF(0.0, area.height() - 1.0, area.width(), 1.0),
            QColor(mix(tone, self._theme.surface, 0.35)),
        )
        painter.end()


class NoticeStrip(QWidget):
    """Notices by key, the worst and then the newest first. Empty, it takes no room."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("notices")
        self._theme = theme
        self._notices: dict[str, Notice] = {}
        self._more = QLabel()
        self._more.setProperty("role", "muted")
        self._more.setFont(font(BODY))
        self._more.setContentsMargins(2 * SPACE, SPACE // 2, SPACE, SPACE // 2)
        self._more.hide()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._column.addWidget(self._more)
        self.hide()

    @property
    def texts(self) -> dict[str, str]:
        """What is said, by key, in the order of the strip."""
        return {notice.key: notice.text() for notice in self._order()}

    def notice(self, key: str) -> Notice | None:
        """A notice that is there."""
        return self._notices.get(key)

    def say(
        self,
        key: str,
        tone: Tone,
        text: str,
        actions: Sequence[Action] = (),
        *,
        dismissible: bool = True,
    ) -> None:
        """Show a notice, or say the one of this key otherwise."""
        there = self._notices.get(key)
        if there is not None:
            same = (there.tone, there.choices, there.dismissible)
            if same == (tone, tuple(actions), dismissible):
                there.say(text)
                return
            self._remove(key)
        made = Notice(self._theme, key, tone, text, actions, dismissible)
        made.dismissed.connect(self.clear)
        self._notices[key] = made
        self._arrange()

    def ask(self, key: str, tone: Tone, text: str, actions: Sequence[Action]) -> None:
        """Show a notice that asks: its first action, which must be the harmless one, is focused."""
        self.say(key, tone, text, actions)
        self._notices[key].buttons[0].setFocus()

    def clear(self, key: str) -> None:
        """Take a notice away; nothing happens when it is not there."""
        if key in self._notices:
            self._remove(key)
            self._arrange()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        for notice in self._notices.values():
            notice.set_theme(theme)

    def _remove(self, key: str) -> None:
        notice = self._notices.pop(key)
        window = self.window()
        focused = None if window is None else window.focusWidget()
        if window is not None and focused is not None and notice.isAncestorOf(focused):
            window.setFocus()  # and not what comes next, which may be a stop button
        self._column.removeWidget(notice)
        notice.hide()
        notice.deleteLater()

    def _order(self) -> list[Notice]:
        newest_first = reversed(list(self._notices.values()))
        # What asks comes first: nothing goes on before it is answered.
        return sorted(newest_first, key=lambda notice: (not notice.choices, RANK[notice.tone]))

    def _arrange(self) -> None:
        order = self._order()
        for index, notice in enumerate(order):
            self._column.removeWidget(notice)
            self._column.insertWidget(index, notice)
            notice.setVisible(index < MOST)
        hidden = len(order) - MOST
        self._more.setText(f"and {hidden} more" if hidden > 0 else "")
        self._more.setVisible(hidden > 0)
        self.setVisible(bool(order))
