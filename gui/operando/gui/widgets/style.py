"""One stylesheet for the whole window, its fonts, and the small widgets that all pages share.

Sizes of text are set by `font`, colours by the stylesheet or, where a widget paints itself, from
the `Theme` that it was given. A stylesheet names no font, so that `setFont` keeps its word.
"""

from __future__ import annotations

from typing import Literal

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QPainter,
    QPaintEvent,
    QPalette,
    QTextLayout,
    QTextOption,
)
from PyQt6.QtWidgets import QFrame, QLabel, QPushButton, QSizePolicy, QToolButton, QWidget

from operando.gui.theme import BODY, FONTS, LARGE, RADIUS, SMALL, SPACE, Theme, Tone
from operando.gui.widgets.sheet import mix, stylesheet

Kind = Literal["plain", "accent", "stop", "danger", "quiet"]
Role = Literal["text", "muted", "faint", "accent"] | Tone

__all__ = [
    "Alert",
    "Badge",
    "Hairline",
    "IconButton",
    "Line",
    "Paragraph",
    "Progress",
    "SimulatedMark",
    "button",
    "colour",
    "font",
    "label",
    "mix",
    "palette",
    "stylesheet",
]


def font(size: int, *, bold: bool = False, tabular: bool = False) -> QFont:
    """The window's font. size: px. tabular: all figures equally wide, for numbers that change."""
    made = QFont()
    made.setFamilies(list(FONTS))
    made.setPixelSize(size)
    made.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
    if tabular and hasattr(made, "setFeature"):  # Qt 6.7
        made.setFeature(QFont.Tag(b"tnum"), 1)
    return made


def palette(theme: Theme) -> QPalette:
    """Colours of what a stylesheet does not reach."""
    roles = {
        QPalette.ColorRole.Window: theme.background,
        QPalette.ColorRole.WindowText: theme.text,
        QPalette.ColorRole.Base: theme.surface,
        QPalette.ColorRole.AlternateBase: theme.raised,
        QPalette.ColorRole.Text: theme.text,
        QPalette.ColorRole.Button: theme.raised,
        QPalette.ColorRole.ButtonText: theme.text,
        QPalette.ColorRole.Highlight: theme.accent,
        QPalette.ColorRole.HighlightedText: theme.on_accent,
        QPalette.ColorRole.ToolTipBase: theme.raised,
        QPalette.ColorRole.ToolTipText: theme.text,
        QPalette.ColorRole.PlaceholderText: theme.faint,
        QPalette.ColorRole.Link: theme.accent,
    }
    made = QPalette()
    for role, name in roles.items():
        made.setColor(role, QColor(name))
    for role in (
        QPalette.ColorRole.WindowText,
        QPalette.ColorRole.Text,
        QPalette.ColorRole.ButtonText,
    ):
        made.setColor(QPalette.ColorGroup.Disabled, role, QColor(theme.faint))
    return made


def colour(theme: Theme, role: Role) -> QColor:
    """Colour of a role of text or of a tone."""
    return QColor(str(getattr(theme, role)))


def button(text: str, kind: Kind = "plain", name: str = "") -> QPushButton:
    """A push button of the window. name: its objectName.

    accent: what one came to do. stop: stops one thing. danger: stops everything. quiet: without
    a frame.
    """
    made = QPushButton(text)
    made.setProperty("kind", kind)
    made.setFont(font(BODY, bold=kind in {"accent", "stop", "danger"}))
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    if name:
        made.setObjectName(name)
    return made


def label(text: str, role: str = "text", *, size: int = BODY, bold: bool = False) -> QLabel:
    """A label whose colour the stylesheet chooses by role: text, muted, faint or a tone."""
    made = QLabel(text)
    made.setProperty("role", role)
    made.setFont(font(size, bold=bold))
    return made


class Hairline(QFrame):
    """A line one pixel thin, horizontal unless told otherwise."""

    def __init__(self, *, vertical: bool = False) -> None:
        super().__init__()
        self.setProperty("hairline", True)
        if vertical:
            self.setFixedWidth(1)
        else:
            self.setFixedHeight(1)


class IconButton(QToolButton):
    """A button that is one glyph; `says` is its accessible name and tool tip."""

    def __init__(self, glyph: str, says: str, *, size: int = LARGE) -> None:
        super().__init__()
        self.setText(glyph)
        self.setFont(font(size))
        self.setFixedSize(QSize(4 * SPACE, 4 * SPACE))
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.say(says)

    def say(self, says: str) -> None:
        """What pressing it does, in words."""
        self.setToolTip(says)
        self.setAccessibleName(says)


class Painted(QWidget):
    """A widget that paints text itself: it keeps its size when the text changes.

    Sixteen cards at ten changes a second would otherwise be laid out again each time.
    """

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self._text = ""

    def text(self) -> str:
        """What stands there."""
        return self._text

    def set_text(self, text: str) -> None:
        """Show another text; costs nothing when it is the same."""
        if text != self._text:
            self._text = text
            self.setAccessibleName(text)
            self.update()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self.theme = theme
        self.update()


class Line(Painted):
    """One line of text, elided at its end when it does not fit. role: of its colour."""

    def __init__(
        self,
        theme: Theme,
        role: Role = "text",
        *,
        size: int = BODY,
        bold: bool = False,
        align: Literal["left", "right"] = "left",
    ) -> None:
        super().__init__(theme)
        self._role: Role = role
        self._align = align
        self.setFont(font(size, bold=bold, tabular=True))
        self._metrics = QFontMetricsF(self.font())
        self.setFixedHeight(round(self._metrics.height()) + 1)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_role(self, role: Role) -> None:
        """Choose another colour."""
        if role != self._role:
            self._role = role
            self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as its text."""
        return QSize(round(self._metrics.horizontalAdvance(self._text)) + 2, self.minimumHeight())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """May shrink to a few letters."""
        return QSize(3 * SPACE, self.minimumHeight())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the text."""
        if not self._text:
            return
        painter = QPainter(self)
        painter.setPen(colour(self.theme, self._role))
        width = float(self.width())
        text = self._metrics.elidedText(self._text, Qt.TextElideMode.ElideRight, width)
        left = 0.0
        if self._align == "right":
            left = max(0.0, width - self._metrics.horizontalAdvance(text))
        painter.drawText(QPointF(left, self._metrics.ascent()), text)
        painter.end()


class Paragraph(Painted):
    """Text over at most so many lines, the last one elided; in full as a tool tip."""

    def __init__(
        self, theme: Theme, role: Role = "muted", *, size: int = SMALL + 1, lines: int = 2
    ) -> None:
        super().__init__(theme)
        self._role: Role = role
        self.setFont(font(size, tabular=True))
        self._pitch = QFontMetricsF(self.font()).height() + 1.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._lines = 0
        self.set_most(lines)

    def set_most(self, lines: int) -> None:
        """Take the room of so many lines, and use no more."""
        if lines != self._lines:
            self._lines = lines
            self.setFixedHeight(round(self._pitch * lines) + 1)

    def set_role(self, role: Role) -> None:
        """Choose another colour."""
        if role != self._role:
            self._role = role
            self.update()

    def lines(self) -> list[str]:
        """What is drawn, line by line, in the present width."""
        metrics = QFontMetricsF(self.font())
        layout = QTextLayout(self._text, self.font())
        option = QTextOption()
        option.setWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        layout.setTextOption(option)
        layout.beginLayout()
        found: list[str] = []
        while (line := layout.createLine()).isValid():
            line.setLineWidth(max(1.0, float(self.width())))
            start, length = line.textStart(), line.textLength()
            if len(found) == self._lines - 1:
                rest = self._text[start:]
                found.append(
                    metrics.elidedText(rest, Qt.TextElideMode.ElideRight, float(self.width()))
                )
                break
            found.append(self._text[start : start + length].rstrip())
        layout.endLayout()
        return found

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the lines from the top."""
        if not self._text:
            return
        painter = QPainter(self)
        painter.setPen(colour(self.theme, self._role))
        ascent = QFontMetricsF(self.font()).ascent()
        for index, line in enumerate(self.lines()):
            painter.drawText(QPointF(0.0, index * self._pitch + ascent), line)
        painter.end()


class Badge(Painted):
    """A rounded label in a tone. strong: filled, for what asks for somebody."""

    def __init__(self, theme: Theme, tone: Tone = "idle", *, size: int = SMALL + 1) -> None:
        super().__init__(theme)
        self._tone: Tone = tone
        self._strong = False
        self._dim = False
        self.setFont(font(size, bold=True))
        self._metrics = QFontMetricsF(self.font())
        self.setFixedHeight(round(self._metrics.height()) + SPACE)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    @property
    def tone(self) -> Tone:
        """Its tone."""
        return self._tone

    def show_state(self, text: str, tone: Tone, *, strong: bool = False, dim: bool = False) -> None:
        """Set text and look; dim: the last known, no longer certain."""
        if text != self._text:
            self.set_text(text)
            self.updateGeometry()
        if (tone, strong, dim) != (self._tone, self._strong, self._dim):
            self._tone, self._strong, self._dim = tone, strong, dim
            self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Text and a margin on either side."""
        width = round(self._metrics.horizontalAdvance(self._text)) + 2 * SPACE + 2
        return QSize(width, self.minimumHeight())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw a capsule and the text in its middle."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme = self.theme
        tone = theme.tone(self._tone)
        if self._strong and not self._dim:
            fill, ink, edge = tone, theme.surface, tone
        elif self._dim:
            ink = theme.muted if self._tone == "idle" else mix(tone, theme.muted, 0.5)
            fill, edge = theme.surface, theme.line
        else:
            fill, ink = mix(tone, theme.surface, 0.14), tone
            edge = fill
        shape = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.setPen(QColor(edge))
        painter.setBrush(QColor(fill))
        painter.drawRoundedRect(shape, shape.height() / 2, shape.height() / 2)
        painter.setPen(QColor(ink))
        painter.drawText(shape, int(Qt.AlignmentFlag.AlignCenter), self._text)
        painter.end()


class Alert(Painted):
    """A filled band for what must not be overlooked; hidden while it has nothing to say."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme)
        self.setFont(font(SMALL, bold=True))
        self.setFixedHeight(3 * SPACE)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.hide()

    def warn(self, text: str) -> None:
        """Say this; "" hides it."""
        self.set_text(text)
        self.setToolTip(text)
        self.setVisible(bool(text))

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the band."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.theme.danger))
        painter.drawRoundedRect(QRectF(self.rect()), RADIUS - 2, RADIUS - 2)
        painter.setPen(QColor(self.theme.on_danger))
        inner = QRectF(self.rect()).adjusted(SPACE, 0, -SPACE, 0)
        text = self.fontMetrics().elidedText(
            self._text, Qt.TextElideMode.ElideRight, round(inner.width())
        )
        painter.drawText(inner, int(Qt.AlignmentFlag.AlignCenter), text)
        painter.end()


class Progress(QWidget):
    """A thin bar. No value: nothing is known, and the track alone is drawn."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._value: float | None = None
        self._tone: Tone = "active"
        self._dim = False
        self.setFixedHeight(SPACE // 2)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def value(self) -> float | None:
        """What it shows, 0 ... 1."""
        return self._value

    def show_progress(self, value: float | None, tone: Tone, *, dim: bool = False) -> None:
        """value: 0 ... 1, None when it is not known."""
        if (value, tone, dim) != (self._value, self._tone, self._dim):
            moved = value is None or self._value is None or abs(value - self._value) >= 0.001
            if moved or (tone, dim) != (self._tone, self._dim):
                self.update()
                self._value = value
            self._tone, self._dim = tone, dim

    def set_theme(self, theme: Theme) -> None:
        """Draw in another appearance."""
        self._theme = theme
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the track and how far it is."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        area = QRectF(self.rect())
        round_end = area.height() / 2
        painter.setBrush(QColor(self._theme.raised))
        painter.drawRoundedRect(area, round_end, round_end)
        if self._value:
            area.setWidth(max(area.height(), area.width() * min(1.0, self._value)))
            tone = self._theme.faint if self._dim else self._theme.tone(self._tone)
            painter.setBrush(QColor(tone))
            painter.drawRoundedRect(area, round_end, round_end)
        painter.end()


class SimulatedMark(Painted):
    """SIMULATED ×60 in amber: what is shown was not measured on a real cell. Hidden otherwise."""

    def __init__(self, theme: Theme, *, size: int = SMALL + 1) -> None:
        super().__init__(theme)
        self.setObjectName("simulated-mark")
        made = font(size, bold=True)
        made.setLetterSpacing(QFont.SpacingType.AbsoluteSpacing, 0.6)
        self.setFont(made)
        self._metrics = QFontMetricsF(made)
        self.setFixedHeight(round(self._metrics.height()) + SPACE)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setToolTip("Nothing here is a real measurement: instruments and cells are simulated.")
        self.hide()

    def show_simulated(self, simulated: bool, speed: float = 1.0) -> None:
        """speed: laboratory seconds a second; named when it is not 1."""
        text = "SIMULATED" + (f" ×{speed:g}" if speed != 1.0 else "")
        if text != self._text:
            self.set_text(text)
            self.updateGeometry()
        self.setVisible(simulated)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Text and a margin on either side."""
        width = round(self._metrics.horizontalAdvance(self._text)) + 2 * SPACE + 2
        return QSize(width, self.minimumHeight())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw a filled label."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.theme.simulated))
        painter.drawRoundedRect(QRectF(self.rect()), RADIUS - 2, RADIUS - 2)
        painter.setPen(QColor(self.theme.on_simulated))
        painter.drawText(QRectF(self.rect()), int(Qt.AlignmentFlag.AlignCenter), self._text)
        painter.end()
