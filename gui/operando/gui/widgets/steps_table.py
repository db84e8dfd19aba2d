"""Steps and journal of a run, instruments of a channel as tables; the newest row stays in view."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PyQt6.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt
from PyQt6.QtGui import QBrush, QColor, QResizeEvent
from PyQt6.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QTableView, QWidget

from operando.gui.models.run import StepLine, journal_tone, step_line
from operando.gui.models.traces import Stretch
from operando.gui.models.units import duration_text
from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.style import font
from operando.instruments.words import condition_text_words
from operando.records import INTERRUPTIONS
from operando.station.client import InstrumentInfo, JournalLine, LimitInfo, Reading, StepInfo

ROW = 3 * SPACE
"""Height of a row, px."""


def lasted(step: StepInfo, now: float | None, pauses: Sequence[Stretch] = ()) -> float | None:
    """How long a step has lasted up to `now`, s, pauses excluded, as the outcome of one that ended.

    now: time of the newest reading, s. None when it is not known.
    """
    if step.end is not None or step.duration is not None:
        return step.duration
    if now is None or not math.isfinite(now):
        return None
    paused = sum(max(0.0, min(now, end) - max(step.start, start)) for start, end in pauses)
    return max(0.0, now - step.start - paused)


def passed(steps: Sequence[StepInfo], charge: Reading | None) -> float | None:
    """Charge of the last step so far, C: what the run has passed without the steps before it.

    charge: newest reading of the run's charge, C. None when one of these is not known, or when
    the reading is of a time before the step.
    """
    before = [step.charge for step in steps[:-1]]
    if charge is None or charge.value is None or charge.time < steps[-1].start:
        return None
    known = [each for each in before if each is not None]
    return charge.value - sum(known) if len(known) == len(before) else None


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
        self._wanted = list(widths)

    def lines(self) -> list[tuple[str, ...]]:
        """Its rows as they are shown."""
        return list(self._source.rows)

    def inks(self) -> list[str | None]:
        """Colours of its rows, None for the usual one."""
        return list(self._source.inks)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Some rows."""
        return QSize(300, 6 * ROW)

    def _fit(self) -> None:
        """Give every column but the last, which takes the rest, what it wants."""
        for column, width in enumerate(self._wanted[:-1]):
            if width > self.columnWidth(column):
                self.setColumnWidth(column, width)

    def _put(self, rows: list[tuple[str, ...]], inks: list[str | None]) -> None:
        bar = self.verticalScrollBar()
        # Whoever scrolled up to read is left alone.
        at_end = bar is None or bar.value() >= bar.maximum()
        grown = len(rows) > len(self._source.rows)
        self._source.put(rows, inks)
        heads = self.horizontalHeader()
        assert heads is not None
        for column, least in enumerate(self._least):
            least = max(least, heads.sectionSizeHint(column))  # noqa: PLW2901
            # Nothing is cut that fits; what was widened by a longer text stays so.
            self._wanted[column] = max(
                self._wanted[column], least, self.sizeHintForColumn(column) + 4
            )
        self._fit()
        if grown and at_end:
            self.scrollToBottom()


class StepsTable(_Table):
    """The steps: what was asked, how long, how much, what ended it, when it began.

    Nothing is scrolled to the side: where there is less room, what can be said by other columns is
    left out and long words are shortened, which are whole in the tool tip.
    """

    HEADS = ("#", "Cycle", "Step", "Set-point", "Lasted", "Charge", "Ended by", "Started")
    LEAST = (26, 44, 64, 62, 58, 62, 76, 62)
    CYCLE, STEP, SETPOINT, ENDED, STARTED = 1, 2, 3, 6, 7

    def __init__(self, theme: Theme) -> None:
        super().__init__(self.HEADS, self.LEAST, (0, 1, 4, 5, 7), theme)
        self.setObjectName("steps")
        self.setAccessibleName("Steps of the run")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        across = self.horizontalHeader()
        assert across is not None
        across.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self._steps: Sequence[StepInfo] = ()
        self._now: float | None = None
        self._live = False
        self._charge: Reading | None = None
        self._pauses: Sequence[Stretch] = ()

    def show_steps(
        self,
        steps: Sequence[StepInfo],
        *,
        now: float | None,
        live: bool,
        charge: Reading | None = None,
        pauses: Sequence[Stretch] = (),
    ) -> None:
        """Show these.

        now: time of the newest reading, s. live: the run goes on. charge: newest reading of its
        net charge, C. pauses: when it stood at open circuit, s; infinite while it still does.
        """
        self._steps, self._now, self._live = steps, now, live
        self._charge, self._pauses = charge, pauses
        lines = [self._line(index) for index in range(len(steps))]
        self._put([_cells(line) for line in lines], [self._ink(line) for line in lines])

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.show_steps(
            self._steps,
            now=self._now,
            live=self._live,
            charge=self._charge,
            pauses=self._pauses,
        )

    def show_now(self, now: float | None, charge: Reading | None = None) -> None:
        """Let the step that runs go on. now, charge: as for `show_steps`."""
        if not (self._live and self._steps and self._steps[-1].end is None):
            return
        self._now, self._charge = now, charge
        line = self._line(len(self._steps) - 1)
        self._put([*self.lines()[:-1], _cells(line)], [*self.inks()[:-1], self._ink(line)])

    # ---- below -----------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Another width, other columns."""
        super().resizeEvent(event)
        self._fit()

    def _line(self, index: int) -> StepLine:
        step = self._steps[index]
        if step.end is not None:
            return step_line(step, live=self._live)
        known = {"duration": lasted(step, self._now, self._pauses)}
        is_last = index == len(self._steps) - 1
        if self._live and is_last and step.charge is None:
            known["charge"] = passed(self._steps, self._charge)
        line = step_line(step.model_copy(update=known), live=self._live)
        stands = bool(self._pauses) and math.isinf(self._pauses[-1][1])
        return replace(line, ended="paused") if self._live and is_last and stands else line

    def _fit(self) -> None:
        """Share the width out: every column what it wants, else the least important goes."""
        view = self.viewport()
        room = 0 if view is None else view.width()
        if room <= 0:
            return
        widths = dict(enumerate(self._wanted))
        least = {self.STEP: 8 * SPACE, self.ENDED: 12 * SPACE}
        for column in (self.STARTED, self.CYCLE, self.SETPOINT):
            if sum(widths.values()) - _excess(widths, least) > room:
                del widths[column]
        over = sum(widths.values()) - room
        if over > _excess(widths, least):  # the smallest window
            least = {self.STEP: 5 * SPACE, self.ENDED: 7 * SPACE}
        for column in (self.ENDED, self.STEP):
            cut = min(max(0, over), widths[column] - least[column])
            widths[column] -= cut
            over -= cut
        widths[self.ENDED] += max(0, -over)
        for column in range(len(self.HEADS)):
            self.setColumnHidden(column, column not in widths)
            if column in widths and widths[column] != self.columnWidth(column):
                self.setColumnWidth(column, widths[column])

    def _ink(self, line: StepLine) -> str | None:
        if line.ended == "paused":
            return self._theme.notice
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


class LimitsTable(_Table):
    """The limits of a run: what each is called, at what it acts, what it does then."""

    HEADS = ("Limit", "Action", "Acts at")

    def __init__(self, theme: Theme) -> None:
        super().__init__(self.HEADS, (120, 56, 150), (), theme)
        self.setObjectName("limits")
        self.setAccessibleName("Limits of the run")
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)

    def show_limits(self, limits: Sequence[LimitInfo]) -> None:
        """Show these."""
        rows: list[tuple[str, ...]] = [
            (limit.name, limit.action, condition_text_words(limit.when)) for limit in limits
        ]
        self._put(rows, [None] * len(rows))

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme


class InstrumentsTable(_Table):
    """The instruments of a channel: what each is to it, what it said it is, where it is."""

    HEADS = ("Instrument", "Role", "What it is", "Address")

    def __init__(self, theme: Theme) -> None:
        super().__init__(self.HEADS, (76, 76, 150, 120), (), theme)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setObjectName("instruments")
        self.setAccessibleName("Instruments of the channel")
        self._tools: Sequence[InstrumentInfo] = ()

    def show_instruments(self, tools: Sequence[InstrumentInfo]) -> None:
        """Show these; what keeps one from being used stands in the place of what it is."""
        self._tools = tools
        rows: list[tuple[str, ...]] = [
            (
                tool.name,
                tool.role.replace("_", " "),
                f"cannot be used: {tool.problem}" if tool.problem else tool.identity or tool.driver,
                tool.address,
            )
            for tool in tools
        ]
        self._put(rows, [self._theme.notice if tool.problem else None for tool in tools])

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.show_instruments(self._tools)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Another width, other columns."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Names and roles whole; what it is and where share the rest, if there is enough."""
        view = self.viewport()
        name, role, what, _ = self._wanted
        rest = (0 if view is None else view.width()) - name - role
        crowded = rest < 2 * self._least[2]
        self.setColumnHidden(3, crowded)
        what = rest if crowded else min(what, rest * 3 // 5)
        for column, width in enumerate((name, role, max(self._least[2], what))):
            self.setColumnWidth(column, width)


def _excess(widths: Mapping[int, int], least: Mapping[int, int]) -> int:
    """What columns that may be shortened have more than they need."""
    return sum(widths[column] - width for column, width in least.items())


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
