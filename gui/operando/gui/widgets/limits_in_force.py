"""The limits of a run, and the change of one while the run goes on.

No dialog: what asks stands below the list, so that the stop buttons stay within reach.
"""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import QEvent, QObject, Qt, pyqtSignal
from PyQt6.QtGui import QKeyEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.form_fields import (
    line_edit,
    mark_invalid,
    problem_label,
    show_problem,
)
from operando.gui.widgets.steps_table import LimitsTable
from operando.gui.widgets.style import button, label
from operando.instruments.words import condition_text_words
from operando.station.client import LimitInfo


class LimitsInForce(QWidget):
    """A list of limits, and below it what asks for another condition of one of them.

    asked: (name, condition) that somebody wants; `answer` says what became of it.
    """

    asked = pyqtSignal(str, str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._limits: tuple[LimitInfo, ...] = ()
        self._editing = ""
        self._can_change = False
        self.table = LimitsTable(theme)
        self._open = button("Change…", "plain", "limit-edit")
        self._open.setAccessibleName("Change the chosen limit")
        self._open.clicked.connect(self._edit_chosen)
        self.table.doubleClicked.connect(lambda _: self._edit_chosen())
        chosen = self.table.selectionModel()
        assert chosen is not None
        chosen.selectionChanged.connect(lambda *_: self._show_can())
        self._title = label("", "text", size=SMALL + 1, bold=True)
        self._title.setObjectName("limit-title")
        self._old = label("", "muted", size=SMALL + 1)
        self._old.setObjectName("limit-old")
        self._old.setWordWrap(True)
        self._new = line_edit("limit-new", "New condition of the limit", "voltage > 4.3 V")
        self._new.returnPressed.connect(self._ask)
        self._new.installEventFilter(self)
        self._problem = problem_label("limit-problem")
        self._change = button("Change", "accent", "limit-change")
        self._change.clicked.connect(self._ask)
        self._cancel = button("Cancel", "plain", "limit-cancel")
        self._cancel.clicked.connect(self._close)
        self._editor = QFrame()
        self._editor.setObjectName("limit-editor")
        self._compose()

    def show_limits(self, limits: Sequence[LimitInfo], *, can_change: bool) -> None:
        """Show these. can_change: the run is under way and its station heard."""
        if tuple(limits) == self._limits and can_change == self._can_change:
            return
        self._limits, self._can_change = tuple(limits), can_change
        self.table.show_limits(self._limits)
        if self._editing and (not can_change or self._find(self._editing) is None):
            self._close()
        self._show_old()
        self._show_can()

    def answer(self, name: str, problem: str) -> None:
        """What became of a change: "" when it is done, else why it is refused."""
        if name != self._editing:
            return
        self._change.setEnabled(True)
        self._new.setEnabled(True)
        if not problem:
            self._close()
            return
        show_problem(self._problem, problem)
        mark_invalid(self._new, True)
        self._new.setFocus()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self.table.set_theme(theme)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Escape leaves the limit as it is, and the page where it is."""
        if isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape:
            if event.type() == QEvent.Type.ShortcutOverride:
                event.accept()
                return True
            if event.type() == QEvent.Type.KeyPress:
                self._close()
                return True
        return super().eventFilter(watched, event)

    # ---- below -----------------------------------------------------------------------------

    def _find(self, name: str) -> LimitInfo | None:
        return next((limit for limit in self._limits if limit.name == name), None)

    def _chosen(self) -> LimitInfo | None:
        row = self.table.currentIndex().row()
        model = self.table.selectionModel()
        if model is None or not model.hasSelection() or not 0 <= row < len(self._limits):
            return None
        return self._limits[row]

    def _show_can(self) -> None:
        self._open.setEnabled(self._can_change and self._chosen() is not None)
        tip = "" if self._can_change else "Only limits of a run under way can be changed"
        self._open.setToolTip(tip)

    def _show_old(self) -> None:
        limit = self._find(self._editing)
        if limit is not None:
            self._title.setText(f"{limit.name} ({limit.action})")
            self._old.setText(f"now: {condition_text_words(limit.when)}")

    def _edit_chosen(self) -> None:
        limit = self._chosen()
        if limit is None or not self._can_change:
            return
        self._editing = limit.name
        self._show_old()
        self._new.setText(limit.when)
        self._clear()
        self._change.setEnabled(True)
        self._new.setEnabled(True)
        self._open.hide()
        self._editor.show()
        self._new.setFocus()
        self._new.selectAll()

    def _ask(self) -> None:
        when = self._new.text().strip()
        if not self._editing or not when or not self._change.isEnabled():
            return
        self._clear()
        self._change.setEnabled(False)
        self._new.setEnabled(False)
        self.asked.emit(self._editing, when)

    def _clear(self) -> None:
        show_problem(self._problem, "")
        mark_invalid(self._new, False)

    def _close(self) -> None:
        self._editing = ""
        self._clear()
        self.table.setFocus()  # and not what comes next, which may be a stop button
        self._editor.hide()
        self._open.show()

    def _compose(self) -> None:
        first = QHBoxLayout()
        first.setSpacing(SPACE)
        first.addWidget(self._title)
        first.addWidget(self._old, 1)
        second = QHBoxLayout()
        second.setSpacing(SPACE // 2)
        second.addWidget(self._new, 1)
        second.addWidget(self._change)
        second.addWidget(self._cancel)
        inside = QVBoxLayout(self._editor)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(SPACE // 2)
        inside.addLayout(first)
        inside.addLayout(second)
        inside.addWidget(self._problem)
        self._editor.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE // 2)
        column.addWidget(self.table, 1)
        column.addWidget(self._open, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self._editor)
        self._show_can()
