"""What a run would do, as far as the station can tell: its steps, its limits, its recipe."""

from __future__ import annotations

from collections.abc import Iterable

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QFontDatabase, QGuiApplication, QResizeEvent, QWheelEvent
from PyQt6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from operando.gui.models.outlook import Outlook, duration_within
from operando.gui.theme import BODY, SMALL, SPACE
from operando.gui.widgets.form_fields import LABEL_WIDTH
from operando.gui.widgets.style import Role, button, font, label
from operando.instruments.words import condition_text_words
from operando.station.client import PlanRow, SheetRow

MOST_ROWS = 12
"""Kinds of steps that are listed; the rest is counted."""

UNPROTECTED = "NOTHING"
"""Stands in a limit's `without_host` where nothing is left when the computer dies."""


def text(written: str, role: str = "text", *, size: int = BODY, bold: bool = False) -> QLabel:
    """A label that wraps; plain text."""
    made = label(written, role, size=size, bold=bold)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setWordWrap(True)
    made.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
    return made


class _Grid(QWidget):
    """Rows of labels that are made anew when they differ from those that stand there."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)
        self._shown: object = None
        self._inner: QWidget | None = None

    def replace(self, content: object) -> QGridLayout | None:
        """A fresh grid to fill; None when the content stands there already."""
        if content == self._shown:
            return None
        self._shown = content
        if self._inner is not None:
            self._layout.removeWidget(self._inner)
            self._inner.hide()
            self._inner.deleteLater()
        self._inner = QWidget()
        grid = QGridLayout(self._inner)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(SPACE)
        grid.setVerticalSpacing(SPACE // 4)
        self._layout.addWidget(self._inner)
        return grid


class PlanView(QWidget):
    """Steps ahead, how long they take, when they are done."""

    def __init__(self) -> None:
        super().__init__()
        self._size = text("")
        self._size.setObjectName("plan-size")
        self._done = text("", "muted", size=SMALL + 1)
        self._done.setObjectName("plan-done")
        self._grid = _Grid()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE // 2)
        layout.addWidget(self._size)
        layout.addWidget(self._done)
        layout.addSpacing(SPACE // 2)
        layout.addWidget(self._grid)

    def show_outlook(self, seen: Outlook) -> None:
        """Say how long and until when."""
        self._size.setText(seen.size[:1].upper() + seen.size[1:])
        self._done.setText(seen.done[:1].upper() + seen.done[1:])
        self._done.setVisible(bool(seen.done))

    def show_plan(self, rows: Iterable[PlanRow]) -> None:
        """List the steps."""
        plan = tuple(rows)
        grid = self._grid.replace(plan)
        if grid is None:
            return
        for index, row in enumerate(plan[:MOST_ROWS]):
            line = 3 * index
            title = text(row.label, "muted")
            title.setFixedWidth(LABEL_WIDTH)
            grid.addWidget(title, line, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(text(row.setpoint), line, 1)
            times = text(f"×{row.times}" if row.times != 1 else "", "muted")
            times.setWordWrap(False)
            grid.addWidget(times, line, 2, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(text(_ends(row.ends), "muted", size=SMALL + 1), line + 1, 1, 1, 2)
            grid.setRowMinimumHeight(line + 2, SPACE // 2)
        left = len(plan) - MOST_ROWS
        if left > 0:
            grid.addWidget(text(f"and {left} more kinds of steps", "muted"), 3 * MOST_ROWS, 0, 1, 3)
        grid.setColumnStretch(1, 1)


def _ends(words: str) -> str:
    return words if words.startswith("after ") else f"until {words}"


class SheetView(QWidget):
    """The limit sheet: each limit, who enforces it, how fast, and what is left without a host."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = _Grid()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._grid)

    def show_sheet(self, rows: Iterable[SheetRow]) -> None:
        """List the limits."""
        sheet = tuple(rows)
        grid = self._grid.replace(sheet)
        if grid is None:
            return
        line = 0
        for row in sheet:
            action = text(row.action, "muted", bold=True)
            action.setWordWrap(False)
            grid.addWidget(text(row.name, bold=True), line, 0, 1, 2)
            grid.addWidget(action, line, 2)
            role = "notice" if UNPROTECTED in row.without_host else "text"
            within = "" if row.latency is None else duration_within(row.latency)
            for title, said, tone in (
                ("acts when" if _is_limit(row) else "what", condition_text_words(row.when), "text"),
                ("enforced by", ", ".join(map(_layer, row.layers)), "text"),
                ("acts within", within, "text"),
                ("if its link is lost", row.without_link, "text"),
                ("if the computer dies", row.without_host, role),
            ):
                if not said:
                    continue
                line += 1
                name = text(title, "muted", size=SMALL + 1)
                name.setFixedWidth(LABEL_WIDTH)
                grid.addWidget(name, line, 0, Qt.AlignmentFlag.AlignTop)
                grid.addWidget(text(said, tone, size=SMALL + 1), line, 1, 1, 2)
            grid.setRowMinimumHeight(line + 1, 3 * SPACE // 2)
            line += 2
        grid.setColumnStretch(1, 1)


def _is_limit(row: SheetRow) -> bool:
    return row.latency is not None


def _layer(name: str) -> str:
    return "software on this computer" if name == "runner" else name


def sheet_summary(rows: Iterable[SheetRow]) -> tuple[str, Role]:
    """The limit sheet in a line, and its role: what is unprotected must not be overlooked."""
    sheet = tuple(filter(_is_limit, rows))
    count = f"{len(sheet)} limit{'' if len(sheet) == 1 else 's'}"
    bare = sum(UNPROTECTED in row.without_host for row in sheet)
    if not bare:
        return count, "muted"
    which = "all" if bare == len(sheet) else str(bare)
    return f"{count}, {which} lost if the computer dies", "notice"


class _Page(QPlainTextEdit):
    """Read-only text as high as it needs; the wheel scrolls the panel."""

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802 - Qt's name
        """Scroll the page."""
        if event is not None:
            event.ignore()


class RecipeView(QWidget):
    """The run as a recipe file. save_requested: the operator wants it as a file."""

    save_requested = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._page = _Page()
        self._page.setObjectName("recipe-text")
        self._page.setAccessibleName("The run as a recipe file")
        self._page.setReadOnly(True)
        self._page.setTabChangesFocus(True)
        self._page.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        fixed = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
        fixed.setPixelSize(SMALL)
        self._page.setFont(fixed)
        self._copy = button("Copy", "plain", "copy-recipe")
        self._copy.clicked.connect(self._to_clipboard)
        self._save = button("Save recipe…", "plain", "save-recipe")
        self._save.clicked.connect(self.save_requested)
        self._note = label("", "muted", size=SMALL + 1)
        self._note.setFont(font(SMALL + 1))
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self._copy)
        row.addWidget(self._save)
        row.addWidget(self._note, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE)
        layout.addWidget(self._page)
        layout.addLayout(row)

    def text(self) -> str:
        """The recipe."""
        return self._text

    def tab_stops(self) -> list[QWidget]:
        """What can be reached by keyboard."""
        return [self._page, self._copy, self._save]

    def show_recipe(self, recipe: str) -> None:
        """Show a recipe; "" leaves nothing to copy or save."""
        if recipe != self._text:
            self._text = recipe
            self._page.setPlainText(recipe.rstrip())
            self._note.setText("")
        for pressed in (self._copy, self._save):
            pressed.setEnabled(bool(recipe))
        self._fit()

    def note(self, said: str) -> None:
        """Say what became of a press."""
        self._note.setText(said)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Wrapped lines change the height."""
        self._fit()

    # ---- below -----------------------------------------------------------------------------

    def _fit(self) -> None:
        document = self._page.document()
        if document is None:
            return
        # The size of such a document is counted in lines, wrapped ones too.
        lines = max(1, round(document.size().height()))
        height = lines * self._page.fontMetrics().lineSpacing() + 2 * document.documentMargin()
        self._page.setFixedHeight(round(height) + SPACE + 2)

    def _to_clipboard(self) -> None:
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.text())
            self.note("copied")
