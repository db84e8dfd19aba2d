"""Fields of the start panel: label, editor, what the value means, and what is wrong with it."""

from __future__ import annotations

import re

from PyQt6.QtCore import QEvent, QObject, QPoint, QPointF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QPainter, QPaintEvent, QPen, QWheelEvent
from PyQt6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from operando.gui.models.fields import Field, Kind, Value
from operando.gui.theme import BODY, SMALL, SPACE, Theme
from operando.gui.widgets.style import Line, Role, font, label

LABEL_WIDTH = 16 * SPACE
"""Column of labels, px: the same in the form, the plan and the limit sheet."""

HINT_WIDTH = 10 * SPACE
"""Column of units and derived values, px."""

# "  pressure > 12" and a caret below the wrong place, for terminals: here the text stands above.
_POINTER = re.compile(r"\n[^\n]*\n *\^+(?=\n|$)")


def mark_invalid(editor: QWidget, invalid: bool) -> None:
    """Give an editor the border of a problem, or take it away."""
    if bool(editor.property("invalid")) != invalid:
        editor.setProperty("invalid", invalid)
        style = editor.style()
        if style is not None:
            style.unpolish(editor)
            style.polish(editor)


def line_edit(name: str, says: str, placeholder: str = "") -> QLineEdit:
    """An editor of one line. name: its objectName. says: its accessible name."""
    made = QLineEdit()
    made.setObjectName(name)
    made.setAccessibleName(says)
    made.setPlaceholderText(placeholder)
    made.setFont(font(BODY, tabular=True))
    made.setMinimumWidth(4 * SPACE)
    return made


def problem_label(name: str) -> QLabel:
    """A label for a problem, hidden while there is none."""
    made = label("", "bad", size=SMALL + 1)
    made.setObjectName(name)
    made.setWordWrap(True)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.hide()
    return made


def show_problem(made: QLabel, text: str) -> None:
    """Show a problem; "" hides the label."""
    text = _POINTER.sub("", text)
    if text != made.text():
        made.setText(text)
    made.setVisible(bool(text))


class Choice(QComboBox):
    """A choice that leaves the wheel to the page, so that scrolling never changes a run."""

    def __init__(self, theme: Theme, name: str, says: str) -> None:
        super().__init__()
        self._theme = theme
        self.setObjectName(name)
        self.setAccessibleName(says)
        self.setFont(font(BODY))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.update()

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802 - Qt's name
        """Scroll the page."""
        if event is not None:
            event.ignore()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """As styled, with a small angle at the right: a stylesheet draws none without a picture."""
        super().paintEvent(event)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self._theme.muted if self.isEnabled() else self._theme.faint
        painter.setPen(QPen(QColor(ink), 1.5))
        x, y = self.width() - 2.0 * SPACE, self.height() / 2.0 - 2.0
        painter.drawPolyline(QPointF(x - 4.0, y), QPointF(x, y + 4.0), QPointF(x + 4.0, y))
        painter.end()


class Tick(QCheckBox):
    """A check box in the colours of the theme."""

    BOX = 18

    def __init__(self, theme: Theme, text: str = "") -> None:
        super().__init__(text)
        self._theme = theme
        self.setFont(font(BODY))
        self.setMinimumHeight(4 * SPACE)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Box, gap and text."""
        width = self.BOX + SPACE + self.fontMetrics().horizontalAdvance(self.text())
        return QSize(width + 2, 4 * SPACE)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw box, tick and text."""
        theme = self._theme
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        top = (self.height() - self.BOX) / 2.0
        on = self.isChecked()
        fill = theme.accent if self.isEnabled() else theme.faint
        edge = fill if on or self.hasFocus() else theme.faint
        painter.setPen(QPen(QColor(edge), 1.5 if self.hasFocus() else 1.0))
        painter.setBrush(QColor(fill if on else theme.raised))
        painter.drawRoundedRect(1, round(top), self.BOX - 2, self.BOX - 2, 4, 4)
        if on:
            painter.setPen(QPen(QColor(theme.on_accent), 2.0))
            painter.drawPolyline(
                QPointF(5.0, top + 9.0), QPointF(8.0, top + 12.0), QPointF(13.0, top + 6.0)
            )
        painter.setPen(QColor(theme.text if self.isEnabled() else theme.faint))
        area = self.rect().adjusted(self.BOX + SPACE, 0, 0, 0)
        painter.drawText(area, int(Qt.AlignmentFlag.AlignVCenter), self.text())
        painter.end()

    def hitButton(self, pos: QPoint) -> bool:  # noqa: N802 - Qt's name
        """Box and text."""
        return pos.x() <= self.sizeHint().width()


class Prose(QPlainTextEdit):
    """A few lines of text; Tab leaves it, the wheel scrolls the page."""

    def __init__(self, name: str, says: str, placeholder: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName(says)
        self.setPlaceholderText(placeholder)
        self.setTabChangesFocus(True)
        self.setFont(font(BODY))
        self.setFixedHeight(7 * SPACE)

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802 - Qt's name
        """Scroll the page."""
        if event is not None:
            event.ignore()


class FieldRow(QWidget):
    """One field. changed: (key, value) as the operator types. entered: Enter was pressed.

    focused: its key, when the operator comes to it.
    """

    changed = pyqtSignal(str, object)
    entered = pyqtSignal()
    focused = pyqtSignal(str)

    def __init__(self, one: Field, theme: Theme) -> None:
        super().__init__()
        self.field = one
        self._theme = theme
        of_table = "." in one.key and not one.key.startswith("parameters.")
        self._name = one.name if of_table else f"field-{one.name}"
        self._title = label(one.title, "muted")
        self._title.setFixedWidth(LABEL_WIDTH)
        self._title.setMinimumHeight(4 * SPACE)
        self._title.setWordWrap(True)
        self._hint = Line(theme, "muted", size=SMALL + 1)
        self._hint.setObjectName(f"derived-{one.name}")
        self._hint.setFixedWidth(HINT_WIDTH)
        self._problem = problem_label(f"problem-{one.name}")
        self._lines: list[QLineEdit] = []
        self._derived = ""
        self._focused = False
        self._editor = self._make_editor()
        self._stops: list[QWidget] = [*self._lines] or [self._editor]
        self._title.setBuddy(self._stops[0])
        tip = self._tip()
        for widget in (self._title, self._editor, *self._lines):
            widget.setToolTip(tip)
            widget.installEventFilter(self)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(SPACE)
        layout.setVerticalSpacing(SPACE // 2)
        layout.addWidget(self._title, 0, 0, Qt.AlignmentFlag.AlignTop)
        wide = one.kind in (Kind.BOOLEAN, Kind.PROSE, Kind.TEXT, Kind.LIST, Kind.CHOICE)
        layout.addWidget(self._editor, 0, 1, 1, 2 if wide else 1)
        if not wide:
            layout.addWidget(self._hint, 0, 2, Qt.AlignmentFlag.AlignVCenter)
        layout.addWidget(self._problem, 1, 1, 1, 2)
        layout.setColumnStretch(1, 1)
        self._hint.setVisible(not wide)

    def tab_stops(self) -> list[QWidget]:
        """Its editors in order."""
        return list(self._stops)

    def value(self) -> Value:
        """What stands there."""
        editor = self._editor
        if isinstance(editor, Tick):
            return editor.isChecked()
        if isinstance(editor, Choice):
            return editor.currentText()
        if isinstance(editor, Prose):
            return editor.toPlainText()
        if len(self._lines) == 2:
            return self._lines[0].text(), self._lines[1].text()
        return self._lines[0].text()

    def show_value(self, value: Value, *, changed: bool) -> None:
        """Put a value there unless it stands there already, and say whether it is the default."""
        if self.value() != value:
            self._put(value)
        role = "text" if changed else "muted"
        if self._title.property("role") != role:
            self._title.setProperty("role", role)
            style = self._title.style()
            if style is not None:
                style.unpolish(self._title)
                style.polish(self._title)

    def show_verdict(self, derived: str, problem: str) -> None:
        """Show what the value means for the cell, or what is wrong with it."""
        self._derived = "" if problem else derived
        self._show_hint()
        show_problem(self._problem, problem)
        for editor in self._stops:
            mark_invalid(editor, bool(problem))
        self._stops[0].setAccessibleDescription(problem or f"{self.field.meaning} {derived}")

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self._hint.set_theme(theme)
        if isinstance(self._editor, Tick | Choice):
            self._editor.set_theme(theme)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Notice the focus."""
        if event is not None and event.type() == QEvent.Type.FocusIn:
            self.focused.emit(self.field.key)
            self._focused = True
            self._show_hint()
        elif event is not None and event.type() == QEvent.Type.FocusOut:
            self._focused = False
            self._show_hint()
        return super().eventFilter(watched, event)

    # ---- below -----------------------------------------------------------------------------

    def _show_hint(self) -> None:
        """What the value is for this cell, or while it is written the units that it may have."""
        said = self._derived or (self.field.unit_hint if self._focused else "")
        self._hint.set_text(said)
        self._hint.setToolTip(said)
        self._hint.set_role("text" if self._derived else "faint")

    def _placeholder(self) -> str:
        one = self.field
        return one.empty or (f"e.g. {one.example}" if one.example else "")

    def _tip(self) -> str:
        one = self.field
        shown = one.default
        default = " to ".join(shown) if isinstance(shown, tuple) else str(shown)
        parts = [one.meaning]
        if one.example:
            parts.append(f"Write it as in {one.example}.")
        if default.strip(" to") and not isinstance(shown, bool):
            parts.append(f"Default: {default}.")
        return "\n".join(part for part in parts if part)

    def _make_editor(self) -> QWidget:
        one = self.field
        if one.kind is Kind.BOOLEAN:
            tick = Tick(self._theme)
            tick.setObjectName(self._name)
            tick.setAccessibleName(one.title)
            tick.toggled.connect(self._emit)
            return tick
        if one.kind is Kind.CHOICE:
            choice = Choice(self._theme, self._name, one.title)
            choice.addItems(one.choices)
            choice.activated.connect(self._emit)
            return choice
        if one.kind is Kind.PROSE:
            prose = Prose(self._name, one.title, one.empty)
            prose.textChanged.connect(self._emit)
            return prose
        if one.kind is Kind.WINDOW:
            return self._two_lines()
        line = line_edit(self._name, one.title, self._placeholder())
        self._watch(line)
        return line

    def _two_lines(self) -> QWidget:
        one = self.field
        holder = QWidget()
        layout = QHBoxLayout(holder)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE // 2)
        for part, name in (("lower", self._name), ("upper", f"{self._name}-upper")):
            line = line_edit(name, f"{one.title}, {part}", self._placeholder())
            self._watch(line)
            if part == "upper":
                layout.addWidget(label("to", "faint", size=SMALL))
            layout.addWidget(line, 1)
        return holder

    def _watch(self, line: QLineEdit) -> None:
        line.textEdited.connect(self._emit)
        line.returnPressed.connect(self.entered)
        self._lines.append(line)

    def _emit(self) -> None:
        self.changed.emit(self.field.key, self.value())

    def _put(self, value: Value) -> None:
        editor = self._editor
        blocked = editor.blockSignals(True)
        if isinstance(value, bool) and isinstance(editor, Tick):
            editor.setChecked(value)
        elif isinstance(value, tuple):
            for line, text in zip(self._lines, value, strict=True):
                if line.text() != text:
                    line.setText(text)
        elif isinstance(editor, Choice):
            editor.setCurrentIndex(editor.findText(str(value)))
        elif isinstance(editor, Prose):
            editor.setPlainText(str(value))
        elif self._lines:
            self._lines[0].setText(str(value))
            self._lines[0].setCursorPosition(0)
        editor.blockSignals(blocked)


class Section(QWidget):
    """A part of the panel under a heading. folds: it can be closed; its summary stays readable."""

    toggled = pyqtSignal(bool)

    def __init__(self, title: str, theme: Theme, *, name: str = "", folds: bool = False) -> None:
        super().__init__()
        self._title = title
        self._folds = folds
        self._head = QPushButton() if folds else None
        self._summary = Line(theme, "muted", size=SMALL + 1, align="right")
        self._body = QWidget()
        self.body = QVBoxLayout(self._body)
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(SPACE)
        heading = QHBoxLayout()
        heading.setContentsMargins(0, 0, 0, 0)
        heading.setSpacing(SPACE)
        if self._head is not None:
            self._head.setObjectName(name)
            self._head.setAccessibleName(title)
            self._head.setFont(font(BODY, bold=True))
            self._head.setProperty("fold", True)
            self._head.setCursor(Qt.CursorShape.PointingHandCursor)
            self._head.clicked.connect(lambda: self.open(not self.is_open))
            heading.addWidget(self._head)
        else:
            heading.addWidget(label(title, bold=True))
        heading.addWidget(self._summary, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE)
        layout.addLayout(heading)
        layout.addWidget(self._body)
        self.open(not folds)

    @property
    def is_open(self) -> bool:
        """Whether its body is shown."""
        return not self._body.isHidden()

    def summarise(self, said: str, role: Role = "muted") -> None:
        """Say at the right of its heading what is in it."""
        self._summary.set_text(said)
        self._summary.set_role(role)

    def open(self, yes: bool) -> None:
        """Show or hide the body."""
        self._body.setVisible(yes)
        if self._head is not None:
            self._head.setText(f"{'▾' if yes else '▸'}  {self._title}")
            self._head.setAccessibleDescription("open" if yes else "closed")
        self.toggled.emit(yes)

    def tab_stops(self) -> list[QWidget]:
        """Its heading, when it can be pressed."""
        return [self._head] if self._head is not None else []

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._summary.set_theme(theme)
