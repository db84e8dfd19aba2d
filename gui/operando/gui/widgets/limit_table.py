"""The limits of a run as rows that can be typed into."""

from __future__ import annotations

from PyQt6.QtCore import QEvent, QObject, Qt, pyqtSignal
from PyQt6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from operando.gui.models.draft import LimitRow
from operando.gui.models.form import ACTIONS, StartForm
from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.form_fields import (
    Choice,
    line_edit,
    mark_invalid,
    problem_label,
    show_problem,
)
from operando.gui.widgets.style import IconButton, button, label
from operando.instruments.words import condition_text_words

HELP = {
    "name": "What the limit is called in the record and in alarms, such as over_pressure.",
    "when": "A condition over live quantities: voltage > 4.3 V for 1 s, pressure > 12 MPa, "
    "abs(current) > 0.6C.",
    "action": "Warn: tell people. Hold: open circuit, an operator can resume. Trip: safe state, "
    "latched until it is acknowledged.",
    "grace": "How long the condition must stay true, or the sensor silent, before the limit acts.",
    "stale_after": "Age at which the latest valid reading no longer counts; the limit then acts.",
}
"""What stands in the columns."""

_TITLES = {
    "name": "Name of the limit",
    "when": "Condition of the limit",
    "action": "Action of the limit",
    "grace": "Grace of the limit",
    "stale_after": "Age at which its reading is stale",
}


class LimitEditor(QFrame):
    """One limit. edited: (key, part, text). removed: key. focused: part.

    A limit that the station adds by itself is text to be read, until its Edit is pressed. adopted:
    key of such a one.
    """

    edited = pyqtSignal(int, str, str)
    adopted = pyqtSignal(int)
    removed = pyqtSignal(int)
    entered = pyqtSignal()
    focused = pyqtSignal(str)

    def __init__(self, row: LimitRow, theme: Theme) -> None:
        super().__init__()
        self.key = row.key
        self._own: bool | None = None
        self._lines: dict[str, QLineEdit] = {}
        for part, hint in (
            ("name", "name"),
            ("when", "voltage > 4.3 V for 1 s"),
            ("grace", "0 s"),
            ("stale_after", "10 s"),
        ):
            line = line_edit("", _TITLES[part], hint)
            line.setToolTip(HELP[part])
            line.installEventFilter(self)
            line.textEdited.connect(lambda text, part=part: self.edited.emit(self.key, part, text))
            line.returnPressed.connect(self.entered)
            self._lines[part] = line
        self._action = Choice(theme, "", _TITLES["action"])
        self._action.addItems(ACTIONS)
        self._action.setFixedWidth(10 * SPACE)
        self._action.setToolTip(HELP["action"])
        self._action.installEventFilter(self)
        self._action.textActivated.connect(lambda text: self.edited.emit(self.key, "action", text))
        self._mark = label("", "muted", size=SMALL + 1)
        self._mark.setToolTip("The station adds this limit by itself.")
        self._edit = button("Edit", "quiet")
        self._edit.setAccessibleName("Edit this default limit")
        self._edit.setToolTip("Make this limit your own")
        self._edit.clicked.connect(lambda: self.adopted.emit(self.key))
        self._more = IconButton("…", "Grace and age of readings", size=13)
        self._more.setCheckable(True)
        self._more.toggled.connect(self._show_details)
        self._remove = IconButton("×", "Remove this limit")
        self._remove.clicked.connect(lambda: self.removed.emit(self.key))
        self._problem = problem_label("")
        self._details = self._make_details()
        self._build()
        self.show_row(row, {})
        self._more.setChecked(bool(row.grace or row.stale_after))

    def tab_stops(self) -> list[QWidget]:
        """Its editors in order."""
        first: list[QWidget] = [self._lines["name"], self._action, self._edit]
        first += [self._more, self._remove]
        return [*first, self._lines["when"], self._lines["grace"], self._lines["stale_after"]]

    def focus_name(self) -> None:
        """Bring the cursor to its name."""
        self._lines["name"].setFocus(Qt.FocusReason.OtherFocusReason)

    def focus_condition(self) -> None:
        """Bring the cursor to its condition."""
        self._lines["when"].setFocus(Qt.FocusReason.OtherFocusReason)

    def name(self, stem: str) -> None:
        """Give the widgets names for tests and screen readers: stem-name, stem-when, ..."""
        self.setObjectName(stem)
        for part, line in self._lines.items():
            line.setObjectName(f"{stem}-{part.replace('_', '-')}")
        self._action.setObjectName(f"{stem}-action")
        self._edit.setObjectName(f"{stem}-edit")
        self._remove.setObjectName(f"{stem}-remove")
        self._more.setObjectName(f"{stem}-more")
        self._problem.setObjectName(f"{stem}-problem")

    def show_row(self, row: LimitRow, problems: dict[str, str]) -> None:
        """Show a limit and what is wrong with it, by part."""
        for part, line in self._lines.items():
            text = str(getattr(row, part))
            if part == "when" and not row.own:
                text = condition_text_words(text)
            if line.text() != text:
                line.setText(text)
                line.setCursorPosition(0)
            mark_invalid(line, part in problems or (part == "when" and "" in problems))
        if self._action.currentText() != row.action:
            self._action.setCurrentText(row.action)
        mark_invalid(self._action, "action" in problems)
        if row.own != self._own:
            self._own = row.own
            self._mark.setVisible(not row.own)
            self._edit.setVisible(not row.own)
            self._action.setVisible(row.own)
            self._column.setSpacing(SPACE // 2 if row.own else 0)
            for line in self._lines.values():
                line.setReadOnly(not row.own)
            self._more.setVisible(row.own)
            self._remove.setVisible(row.own)
            for widget in (*self._lines.values(), self._action):
                widget.setProperty("default", not row.own)
                style = widget.style()
                if style is not None:
                    style.unpolish(widget)
                    style.polish(widget)
        self._mark.setText(f"{row.action} · default")
        if {"grace", "stale_after"} & set(problems):
            self._more.setChecked(True)
        show_problem(self._problem, "\n".join(problems.values()))

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._action.set_theme(theme)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Notice the focus."""
        if event is not None and event.type() == QEvent.Type.FocusIn:
            parts: dict[QObject | None, str] = {line: part for part, line in self._lines.items()}
            self.focused.emit("action" if watched is self._action else parts.get(watched, "name"))
        return super().eventFilter(watched, event)

    # ---- below -----------------------------------------------------------------------------

    def _build(self) -> None:
        first = QHBoxLayout()
        first.setSpacing(SPACE // 2)
        first.addWidget(self._lines["name"], 1)
        first.addWidget(self._action)
        first.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignCenter)
        first.addWidget(self._edit)
        first.addWidget(self._more)
        first.addWidget(self._remove)
        layout = self._column = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE // 2)
        layout.addLayout(first)
        layout.addWidget(self._lines["when"])
        layout.addWidget(self._details)
        layout.addWidget(self._problem)

    def _make_details(self) -> QWidget:
        holder = QWidget()
        layout = QGridLayout(holder)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(SPACE)
        layout.addWidget(label("grace", "muted", size=SMALL + 1), 0, 0)
        layout.addWidget(self._lines["grace"], 0, 1)
        layout.addWidget(label("stale after", "muted", size=SMALL + 1), 0, 2)
        layout.addWidget(self._lines["stale_after"], 0, 3)
        holder.hide()
        return holder

    def _show_details(self, yes: bool) -> None:
        self._details.setVisible(yes)


class LimitTable(QWidget):
    """All limits of the form, own ones first as they were added.

    changed: something was typed. added: the editor of a new limit. rebuilt: editors came or went.
    """

    changed = pyqtSignal()
    added = pyqtSignal(QWidget)
    rebuilt = pyqtSignal()
    entered = pyqtSignal()
    focused = pyqtSignal(str)

    def __init__(self, form: StartForm, theme: Theme) -> None:
        super().__init__()
        self._form = form
        self._theme = theme
        self._editors: dict[int, LimitEditor] = {}
        self._order: list[int] = []
        self._rows = QVBoxLayout()
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(2 * SPACE)
        self._add = button("Add limit", "plain", "add-limit")
        self._add.setAccessibleName("Add a limit")
        self._add.clicked.connect(self._add_limit)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE)
        layout.addLayout(self._rows)
        layout.addWidget(self._add, 0, Qt.AlignmentFlag.AlignLeft)

    def tab_stops(self) -> list[QWidget]:
        """Its editors from top to bottom."""
        stops = [stop for key in self._order for stop in self._editors[key].tab_stops()]
        return [*stops, self._add]

    def refresh(self) -> None:
        """Show what the form holds; an editor that is being typed into stays where it is."""
        rows = {row.key: row for row in self._form.limits}
        new = set(rows) - set(self._editors)
        gone = set(self._editors) - set(rows)
        for key in gone:
            editor = self._editors.pop(key)
            self._rows.removeWidget(editor)
            editor.hide()
            editor.deleteLater()
        for key in new:
            self._editors[key] = self._make(rows[key])
        order = list(rows)
        if order != self._order:
            self._order = order
            for index, key in enumerate(order):
                if self._rows.indexOf(self._editors[key]) != index:
                    self._rows.insertWidget(index, self._editors[key])
        number = 0
        for key, row in rows.items():
            editor = self._editors[key]
            editor.show_row(row, dict(self._form.limit_problems(key)))
            editor.name(f"limit-{number}" if row.own else f"default-{row.name}")
            number += row.own
        if new or gone:
            self.rebuilt.emit()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        for editor in self._editors.values():
            editor.set_theme(theme)

    # ---- below -----------------------------------------------------------------------------

    def _make(self, row: LimitRow) -> LimitEditor:
        editor = LimitEditor(row, self._theme)
        editor.edited.connect(self._edited)
        editor.removed.connect(self._removed)
        editor.adopted.connect(self._adopted)
        editor.entered.connect(self.entered)
        editor.focused.connect(self.focused)
        return editor

    def _edited(self, key: int, part: str, text: str) -> None:
        self._form.edit_limit(key, **{part: text})
        self.refresh()
        self.changed.emit()

    def _removed(self, key: int) -> None:
        self._form.remove_limit(key)
        self.refresh()
        self.changed.emit()

    def _adopted(self, key: int) -> None:
        self._form.adopt_limit(key)
        self.refresh()
        self._editors[key].focus_condition()
        self.changed.emit()

    def _add_limit(self) -> None:
        row = self._form.add_limit()
        self.refresh()
        self._editors[row.key].focus_name()
        self.added.emit(self._editors[row.key])
        self.changed.emit()
