"""The head of the window and the rail at its left: what station this is, and how to stop it."""

from __future__ import annotations

import time
from enum import Enum

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QIcon, QPainter, QPaintEvent, QPen, QPixmap
from PyQt6.QtWidgets import QButtonGroup, QFrame, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from operando.gui.models.station import Connection
from operando.gui.models.units import duration_text
from operando.gui.theme import BODY, LARGE, SMALL, SPACE, Theme, Tone
from operando.gui.widgets.style import (
    Badge,
    Hairline,
    IconButton,
    Line,
    SimulatedMark,
    button,
    font,
    label,
)

STOP_ALL = "■  STOP ALL"
STOPPING_ALL = "■  STOPPING…"


class Page(Enum):
    """What the rail leads to."""

    CHANNELS = "Channels"
    RECORDS = "Records"


KEYS = {Page.CHANNELS: "Ctrl+G", Page.RECORDS: "Ctrl+R"}
"""What leads to a page from the keyboard; the window listens to them."""


def connection_words(state: Connection, since: float) -> tuple[str, Tone]:
    """What to say of a connection. since: monotonic s of its last change."""
    if state is Connection.CONNECTED:
        return "● Connected", "active"
    if state is Connection.CONNECTING:
        return "◌ Connecting…", "notice"
    return f"✕ Lost since {duration_text(max(0.0, time.monotonic() - since))}", "bad"


class Mark(QWidget):
    """The sign of the project: a cell between its two plates."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setFixedSize(QSize(3 * SPACE, 3 * SPACE))

    def set_theme(self, theme: Theme) -> None:
        """Draw in another appearance."""
        self._theme = theme
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Two plates, and what is between them."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._theme.accent))
        painter.drawRoundedRect(QRectF(2, 2, 20, 4), 1.5, 1.5)
        painter.drawRoundedRect(QRectF(2, 18, 20, 4), 1.5, 1.5)
        painter.setBrush(QColor(self._theme.active))
        painter.drawRoundedRect(QRectF(5, 9, 14, 6), 1.5, 1.5)
        painter.end()


class Header(QFrame):
    """Bench, connection, SIMULATED, appearance, and STOP ALL, which is always in sight."""

    stop_all_requested = pyqtSignal()
    theme_requested = pyqtSignal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("header")
        self.setFixedHeight(7 * SPACE)
        self._mark = Mark(theme)
        self.bench = Line(theme, "muted", size=BODY)
        self.bench.setObjectName("bench")
        self.connection = Badge(theme, "notice")
        self.connection.setObjectName("connection")
        self.simulated = SimulatedMark(theme)
        self.appearance = IconButton("◐", "")
        self.appearance.setObjectName("theme-toggle")
        self.appearance.clicked.connect(self.theme_requested)
        self.stop_all = button(STOP_ALL, "danger", "stop-all")
        self.stop_all.setFont(font(BODY + 1, bold=True))
        self.stop_all.setMinimumWidth(self.stop_all.sizeHint().width() + 3 * SPACE)
        self.stop_all.setAccessibleName("Stop all")
        self.stop_all.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # no Space by accident
        self.stop_all.setToolTip("Stop every run and read every output back off (Ctrl+Shift+S)")
        self.stop_all.clicked.connect(self.stop_all_requested)
        row = QHBoxLayout(self)
        row.setContentsMargins(2 * SPACE, 0, 2 * SPACE, 0)
        row.setSpacing(SPACE + SPACE // 2)
        row.addWidget(self._mark)
        row.addWidget(label("operando", size=LARGE, bold=True))
        line = Hairline(vertical=True)
        line.setFixedHeight(3 * SPACE)
        row.addWidget(line)
        row.addWidget(self.bench, 1)
        row.addWidget(self.connection)
        row.addWidget(self.simulated)
        row.addWidget(self.appearance)
        row.addWidget(self.stop_all)
        self.set_theme(theme)

    def show_connection(self, state: Connection, since: float, why: str) -> None:
        """since: monotonic s of its last change. why: the reason when it is lost."""
        words, tone = connection_words(state, since)
        self.connection.show_state(words, tone, strong=state is Connection.LOST)
        self.connection.setToolTip(why)

    def show_stopping(self, stopping: bool) -> None:
        """Whether every run is being stopped. The button can be pressed again all the same."""
        self.stop_all.setText(STOPPING_ALL if stopping else STOP_ALL)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        for part in (self._mark, self.bench, self.connection, self.simulated):
            part.set_theme(theme)
        other = "light" if theme.name == "dark" else "dark"
        self.appearance.say(f"Change to the {other} appearance")


class Rail(QFrame):
    """The pages, as buttons at the left."""

    chosen = pyqtSignal(Page)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("rail")
        self.setFixedWidth(10 * SPACE)
        self.buttons: dict[Page, QToolButton] = {}
        group = QButtonGroup(self)
        column = QVBoxLayout(self)
        column.setContentsMargins(SPACE - 2, SPACE, SPACE - 2, SPACE)
        column.setSpacing(SPACE // 2)
        for page, key in KEYS.items():
            made = QToolButton()
            made.setObjectName(f"rail-{page.value.lower()}")
            made.setText(page.value)
            made.setAccessibleName(page.value)
            made.setToolTip(f"{page.value} ({key})")
            made.setFont(font(SMALL))
            made.setCheckable(True)
            made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            made.setIconSize(QSize(3 * SPACE, 3 * SPACE))
            made.setFixedSize(QSize(10 * SPACE - 2 * (SPACE - 2) - 1, 7 * SPACE))
            made.setCursor(Qt.CursorShape.PointingHandCursor)
            made.clicked.connect(lambda _=False, page=page: self.chosen.emit(page))
            group.addButton(made)
            column.addWidget(made)
            self.buttons[page] = made
        column.addStretch(1)
        self.set_theme(theme)

    def show_page(self, page: Page) -> None:
        """Mark the page that is in sight."""
        self.buttons[page].setChecked(True)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        for page, made in self.buttons.items():
            made.setIcon(_icon(page, theme))


def _icon(page: Page, theme: Theme) -> QIcon:
    icon = QIcon()
    for state, ink in ((QIcon.State.Off, theme.muted), (QIcon.State.On, theme.accent)):
        scale = 2
        pixmap = QPixmap(3 * SPACE * scale, 3 * SPACE * scale)
        pixmap.setDevicePixelRatio(scale)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(ink), 1.6))
        if page is Page.CHANNELS:
            for x in (4.0, 13.5):
                for y in (4.0, 13.5):
                    painter.drawRoundedRect(QRectF(x, y, 6.5, 6.5), 1.5, 1.5)
        else:
            for y in (6.0, 12.0, 18.0):
                painter.drawEllipse(QPointF(5.0, y), 0.8, 0.8)
                painter.drawLine(QPointF(9.0, y), QPointF(20.0, y))
        painter.end()
        icon.addPixmap(pixmap, QIcon.Mode.Normal, state)
    return icon
