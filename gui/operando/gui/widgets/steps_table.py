"""Steps and journal of a run as tables; the newest row stays in view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PyQt6.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt
from PyQt6.QtGui import QBrush, QColor
from PyQt6.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QTableView, QWidget

from operando.gui.models.run import StepLine, journal_tone, step_line
from operando.gui.models.units import duration_text
from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.style import font
from operando.records import INTERRUPTIONS
from operando.station.client import JournalLine, StepInfo

ROW = 3 * SPACE
"""Height of a row, px."""


class _Model(QAbstractTableModel):
    """Rows of ready texts. aligned: columns of numbers."""

    def __init__(self, heads: Sequence[str], aligned: Sequence[int], theme: Theme) -> None:
        super().__init__()
        self.heads = tuple(heads)
        self.aligned = frozenset(aligned)
        self.theme = theme
        self.rows: list[tuple[str, ...]] = []
        self.inks: list[str | None] = []

    def put(self, rows: list[tuple[str, ...]], inks: list[str | None]) -> None:
        """Show these rows; what stays the same is not touched."""
        kept = 0
        for new, old in zip(rows, self.rows, strict=False):
            if new != old:
                break
            kept += 1
        if len(rows) < len(self.rows):
            self.beginResetModel()
            self.rows, self.inks = rows, inks
            self.endResetModel()
            return
        count = len(self.rows)
        more = len(rows) > count
        if more:
            self.beginInsertRows(QModelIndex(), count, len(rows) - 1)
        self.rows, self.inks = rows, inks
        if more:
            self.endInsertRows()
        if kept < count:
            self.dataChanged.emit(self.index(kept, 0), self.index(count - 1, len(self.heads) - 1))

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Columns."""
        return 0 if parent is not None and parent.isValid() else len(self.heads)

    def headerData(  # noqa: N802 - Qt's name
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Heads of the columns."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.heads[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(section)
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Texts, colours and sides."""
        row, column = index.row(), index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return self.rows[row][column]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self._alignment(column)
        if role == Qt.ItemDataRole.ForegroundRole:
            ink = self.inks[row]
            return None if ink is None else QBrush(QColor(ink))
        return None

    def _alignment(self, column: int) -> int:
        side = Qt.AlignmentFlag.AlignRight if column in self.aligned else Qt.AlignmentFlag.AlignLeft
        return int(side | Qt.AlignmentFlag.AlignVCenter)


class _Table(QTableView):
    """A table that is read and not edited."""

    def __init__(
        self, heads: Sequence[str], widths: Sequence[int], aligned: Sequence[int], theme: Theme
    ) -> None:
        super().__init__()
        self._theme = theme
        self._source = _Model(heads, aligned, theme)
        self.setModel(self._source)
        self.setFont(font(SMALL, tabular=True))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setAlternatingRowColors(True)
        self.setWordWrap(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTabKeyNavigation(False)
        corner = QWidget()
        corner.setStyleSheet("background: transparent; border: none")
        self.setCornerWidget(corner)
        across, down = self.horizontalHeader(), self.verticalHeader()
        assert across is not None
        assert down is not None
        down.hide()
        down.setDefaultSectionSize(ROW)
        down.setMinimumSectionSize(ROW)
        across.setFont(font(SMALL))
        across.setHighlightSections(False)
        across.setMinimumSectionSize(24)
        for column, width in enumerate(widths):
            self.setColumnWidth(column, width)
        across.setSectionResizeMode(len(widths) - 1, QHeaderView.ResizeMode.Stretch)
        self._least = tuple(widths)

    def lines(self) -> list[tuple[str, ...]]:
        """Its rows as they are shown."""
        return list(self._source.rows)

    def inks(self) -> list[str | None]:
        """Colours of its rows, None for the usual one."""
        return list(self._source.inks)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Some rows."""
        return QSize(300, 6 * ROW)

    def _put(self, rows: list[tuple[str, ...]], inks: list[str | None]) -> None:
        bar = self.verticalScrollBar()
        # Whoever scrolled up to read is left alone.
        at_end = bar is None or bar.value() >= bar.maximum()
        grown = len(rows) > len(self._source.rows)
        self._source.put(rows, inks)
        for column, least in enumerate(self._least[:-1]):
            # Nothing is cut that fits; what was widened by hand or by a longer text stays so.
            width = max(self.columnWidth(column), least, self.sizeHintForColumn(column) + SPACE)
            if width != self.columnWidth(column):
                self.setColumnWidth(column, width)
        if grown and at_end:
            self.scrollToBottom()


class StepsTable(_Table):
    """The steps: what was asked, when, how long, how much, what ended it."""

    HEADS = ("#", "Cycle", "Step", "Set-point", "Lasted", "Charge", "Ended by", "Started")

    def __init__(self, theme: Theme) -> None:
        super().__init__(self.HEADS, (40, 56, 100, 84, 82, 88, 176, 80), (0, 1, 4, 5, 7), theme)
        self.setObjectName("steps")
        self.setAccessibleName("Steps of the run")
        self._steps: Sequence[StepInfo] = ()
        self._now: float | None = None
        self._live = False

    def show_steps(self, steps: Sequence[StepInfo], *, now: float | None, live: bool) -> None:
        """Show these. now: time of the newest reading, s. live: the run goes on."""
        self._steps, self._now, self._live = steps, now, live
        lines = [step_line(step, now=now, live=live) for step in steps]
        self._put([_cells(line) for line in lines], [self._ink(line) for line in lines])

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.show_steps(self._steps, now=self._now, live=self._live)

    def show_now(self, now: float | None) -> None:
        """Let the time of the step that runs go on. now: time of the newest reading, s."""
        if not (self._live and self._steps and self._steps[-1].end is None):
            return
        line = step_line(self._steps[-1], now=now, live=True)
        self._now = now
        self._put([*self.lines()[:-1], _cells(line)], [*self.inks()[:-1], self._ink(line)])

    def _ink(self, line: StepLine) -> str | None:
        if line.running:
            return self._theme.active
        cut_short = line.ended == "no outcome" or line.ended in INTERRUPTIONS
        return self._theme.notice if cut_short else None


class JournalTable(_Table):
    """The journal: when, what, in words; limits, gaps and alarms are marked by colour and word."""

    HEADS = ("Time", "Kind", "What happened")

    def __init__(self, theme: Theme) -> None:
        super().__init__(self.HEADS, (84, 100, 240), (0,), theme)
        self.setObjectName("journal")
        self.setAccessibleName("Journal of the run")
        self._lines: Sequence[JournalLine] = ()

    def show_journal(self, lines: Sequence[JournalLine]) -> None:
        """Show these entries."""
        self._lines = lines
        rows: list[tuple[str, ...]] = [
            ("—" if line.time is None else duration_text(line.time), line.kind, line.text)
            for line in lines
        ]
        inks = []
        for line in lines:
            tone = journal_tone(line)
            inks.append(None if tone == "idle" else self._theme.tone(tone))
        self._put(rows, inks)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.show_journal(self._lines)


def _cells(line: StepLine) -> tuple[str, ...]:
    return (
        line.index,
        line.cycle,
        line.label,
        line.setpoint,
        line.duration,
        line.charge,
        line.ended,
        line.started,
    )
