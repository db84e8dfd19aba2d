"""What was run: the records in the station's folder, the newest first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from PyQt6.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent
from PyQt6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from operando.gui.link import StationLink, plain
from operando.gui.models.channel import GLYPHS, TONES
from operando.gui.models.units import duration_text
from operando.gui.theme import BODY, LARGE, SMALL, SPACE, Theme
from operando.gui.widgets.style import font, label
from operando.station.client import RunSummary

COLUMNS = (
    "Started",
    "Channel",
    "Cell",
    "Protocol",
    "State",
    "Duration",
    "Origin",
    "Laboratory clock",
)
STATE, DURATION, ORIGIN, LABORATORY = 4, 5, 6, 7
WIDTHS = tuple(SPACE * width for width in (23, 9, 18, 12, 15, 14, 14, 23))

APART = 2.0
"""Wall s by which the laboratory's clock may differ from that of the wall without being said."""

Index = QModelIndex


def is_apart(summary: RunSummary) -> bool:
    """Whether the laboratory's clock showed another time than the wall's when a record was made."""
    return summary.made is not None and abs(summary.started - summary.made) > APART


def start_text(summary: RunSummary) -> str:
    """When a record was made, by the clock and in the time zone of this computer.

    Without that, the start by the laboratory's clock, and said to be that when it is simulated.
    """
    if summary.made is not None:
        return _moment(summary.made)
    return _moment(summary.started) + (" (lab)" if summary.simulated else "")


def words(summary: RunSummary) -> tuple[str, ...]:
    """A record as the texts of its row. The start is in the time of this computer."""
    glyph = next((sign for state, sign in GLYPHS.items() if state == summary.state), "·")
    return (
        start_text(summary),
        summary.channel,
        summary.cell,
        summary.protocol,
        f"{glyph}  {summary.state}",
        duration_text(summary.duration),
        "SIMULATED" if summary.simulated else "measured",
        _moment(summary.started) if is_apart(summary) else "the same",
    )


def _moment(unix: float) -> str:
    return time.strftime("%Y-%m-%d  %H:%M:%S", time.localtime(unix))


def matches(summary: RunSummary, sought: str) -> bool:
    """Whether every word that is sought stands somewhere in a record's row or name."""
    text = " ".join((*words(summary), summary.run)).casefold()
    return all(word in text for word in sought.casefold().split())


class RecordsModel(QAbstractTableModel):
    """The rows of the table."""

    def __init__(self, theme: Theme, parent: QObject) -> None:
        super().__init__(parent)
        self._theme = theme
        self._all: tuple[RunSummary, ...] = ()
        self._sought = ""
        self.shown: tuple[RunSummary, ...] = ()

    def __len__(self) -> int:
        return len(self._all)

    def set_runs(self, runs: Sequence[RunSummary]) -> None:
        """Show these records, the newest first."""
        self._all = tuple(sorted(runs, key=_age, reverse=True))
        self._choose()

    def seek(self, sought: str) -> None:
        """Show those that match alone."""
        self._sought = sought
        self._choose()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self._choose(again=True)

    def rowCount(self, parent: Index | None = None) -> int:  # noqa: N802
        """How many match."""
        return 0 if parent is not None and parent.isValid() else len(self.shown)

    def columnCount(self, parent: Index | None = None) -> int:  # noqa: N802
        """How many columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A cell of the table."""
        run, column = self.shown[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return words(run)[column]
        if role == Qt.ItemDataRole.ForegroundRole:
            return self._ink(run, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{run.run}\n{run.folder}" if run.folder else run.run
        if role == Qt.ItemDataRole.TextAlignmentRole and column == DURATION:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.FontRole and column in {STATE, ORIGIN}:
            return font(SMALL + 1, bold=column == STATE or run.simulated)
        return None

    def headerData(  # noqa: N802 - Qt's name
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Names of the columns."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return _TIPS.get(section)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = (
                Qt.AlignmentFlag.AlignRight if section == DURATION else Qt.AlignmentFlag.AlignLeft
            )
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _ink(self, run: RunSummary, column: int) -> QColor:
        if column == STATE:
            tones = (tone for state, tone in TONES.items() if state == run.state)
            return QColor(self._theme.tone(next(tones, "idle")))
        if column == ORIGIN and run.simulated:
            return QColor(self._theme.simulated)
        return QColor(self._theme.text if column in {0, 1, 2} else self._theme.muted)

    def _choose(self, *, again: bool = False) -> None:
        shown = tuple(run for run in self._all if matches(run, self._sought))
        if shown == self.shown and not again:
            return
        self.beginResetModel()
        self.shown = shown
        self.endResetModel()


_TIPS = {
    0: "When the record was made, by the clock of the station's computer",
    DURATION: "In laboratory time",
    LABORATORY: "The start by the laboratory's clock, which a simulated bench may run faster",
}


def _age(run: RunSummary) -> tuple[float, str]:
    return (run.started if run.made is None else run.made), run.run


class _Table(QTableView):
    """Enter opens the row."""

    chosen = pyqtSignal(int)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Enter, or what a table does with a key."""
        if event is not None and event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter}:
            if self.currentIndex().isValid():
                self.chosen.emit(self.currentIndex().row())
            return
        super().keyPressEvent(event)


class RecordsPage(QWidget):
    """A table of runs with a field to find one. opened: the page of a record is wanted."""

    opened = pyqtSignal(str)

    def __init__(self, link: StationLink, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("page")
        self._link = link
        self._note = label("", "muted")
        self._note.setObjectName("records-note")
        self.filter = QLineEdit()
        self.filter.setObjectName("records-filter")
        self.filter.setAccessibleName("Find a record")
        self.filter.setPlaceholderText("Find by channel, cell, protocol, state or date")
        self.filter.setClearButtonEnabled(True)
        self.filter.setFont(font(BODY))
        self.filter.setFixedWidth(44 * SPACE)
        self.table = _Table()
        self.table.setObjectName("records-table")
        self.table.setAccessibleName("Records")
        self.model = RecordsModel(theme, self.table)
        self._dress()
        self.filter.textChanged.connect(self._seek)
        self.table.chosen.connect(self._open)
        self.table.doubleClicked.connect(lambda index: self._open(index.row()))

        head = QHBoxLayout()
        head.setSpacing(2 * SPACE)
        head.addWidget(label("Records", size=LARGE, bold=True))
        head.addWidget(self._note, 1)
        head.addWidget(self.filter)
        column = QVBoxLayout(self)
        column.setContentsMargins(2 * SPACE, 3 * SPACE // 2, 2 * SPACE, 2 * SPACE)
        column.setSpacing(3 * SPACE // 2)
        column.addLayout(head)
        column.addWidget(self.table, 1)

    def refresh(self) -> None:
        """Ask the station for its records."""
        if not len(self.model):
            self._note.setText("Reading the records…")
        self._link.ask("records", lambda client: client.runs(), self._take, self._fail)

    def note(self) -> str:
        """What stands beside the title."""
        return self._note.text()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self.model.set_theme(theme)

    def _dress(self) -> None:
        table = self.table
        table.setModel(self.model)
        table.setFont(font(BODY, tabular=True))
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setAlternatingRowColors(True)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setTabKeyNavigation(False)
        table.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        down = table.verticalHeader()
        across = table.horizontalHeader()
        assert down is not None
        assert across is not None
        down.hide()
        down.setDefaultSectionSize(4 * SPACE)
        across.setFont(font(SMALL + 1))
        across.setHighlightSections(False)
        across.setSectionsClickable(False)
        across.setMinimumSectionSize(8 * SPACE)
        for index, width in enumerate(WIDTHS):
            table.setColumnWidth(index, width)
        for index in (2, 3):
            across.setSectionResizeMode(index, QHeaderView.ResizeMode.Stretch)

    def _take(self, runs: list[RunSummary]) -> None:
        chosen = self._chosen()
        self.model.set_runs(runs)
        self.table.setColumnHidden(LABORATORY, not any(map(is_apart, runs)))
        self._say()
        names = [run.run for run in self.model.shown]
        if names:
            self.table.selectRow(names.index(chosen) if chosen in names else 0)

    def _fail(self, error: Exception) -> None:
        self._note.setText(f"The records cannot be read: {plain(error)}")

    def _seek(self, sought: str) -> None:
        self.model.seek(sought)
        self._say()
        if self.model.shown:
            self.table.selectRow(0)

    def _say(self) -> None:
        count, shown = len(self.model), len(self.model.shown)
        every = "1 run" if count == 1 else f"{count} runs"
        text = every if shown == count else f"{shown} of {every}"
        self._note.setText(text if count else "No run yet: start one on a channel's card")

    def _chosen(self) -> str | None:
        row = self.table.currentIndex().row()
        return self.model.shown[row].run if 0 <= row < len(self.model.shown) else None

    def _open(self, row: int) -> None:
        if 0 <= row < len(self.model.shown):
            self.opened.emit(self.model.shown[row].run)
