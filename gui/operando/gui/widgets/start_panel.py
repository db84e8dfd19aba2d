"""The panel that starts a run: a form, what the station says of it, and one button.

Docked at the right of the window and never modal: stopping stays in reach. Every edit is judged by
the station; nothing is started that it did not find good as it stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PyQt6.QtCore import Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QHideEvent, QKeyEvent, QShowEvent
from PyQt6.QtWidgets import (
    QAbstractButton,
    QFileDialog,
    QFrame,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from operando.gui.link import StationLink
from operando.gui.models.fields import Field, Value
from operando.gui.models.form import Check, FormState, StartForm
from operando.gui.models.outlook import channel_note, duration_words, summary
from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.form_fields import FieldRow, Section, Tick
from operando.gui.widgets.limit_table import HELP, LimitTable
from operando.gui.widgets.plan_view import text
from operando.gui.widgets.start_frame import (
    Origin,
    ProtocolChoice,
    StartFoot,
    StartHead,
    panel_sheet,
)
from operando.gui.widgets.start_results import StartResults
from operando.gui.widgets.style import Hairline, Role
from operando.instruments.errors import BadInputError
from operando.instruments.toml_text import TomlDocument
from operando.station.client import (
    ChannelStatus,
    CheckReport,
    ProtocolInfo,
    RefusedError,
    Started,
    StationLostError,
)

WIDTH = 420
"""Of the panel, px."""

PAUSE_MS = 120
"""Wall time after the last key before the station is asked, ms."""


class StartPanel(QWidget):
    """Starts runs on the channels of one station.

    started: (channel, run) when a run has begun. closed: the operator or a start closed it.
    refused: (channel, reason) when a start was refused and the panel is not there to say so.
    """

    started = pyqtSignal(str, str)
    closed = pyqtSignal()
    refused = pyqtSignal(str, str)

    def __init__(self, link: StationLink, theme: Theme) -> None:
        super().__init__()
        self.form = StartForm()
        self._link = link
        self._theme = theme
        self._speed: float | None = None
        self._channels: dict[str, ChannelStatus] = {}
        self._fields: dict[str, FieldRow] = {}
        self._shown_fields: tuple[Field, ...] = ()
        self._said = ""
        self._lost_protocols = False
        self._dialog: QFileDialog | None = None
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE_MS)
        self._pause.timeout.connect(self._check)
        self._tick = QTimer(self)
        self._tick.setInterval(10_000)
        self._tick.timeout.connect(self._show_outlook)
        self.setObjectName("start-panel")
        self.setAccessibleName("Start a run")
        self.setFixedWidth(WIDTH)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._build()
        self.set_theme(theme)

    # For the window

    def open_for(self, channel: ChannelStatus) -> None:
        """Show the form for a channel, with the texts of the last time."""
        if self.form.state is not FormState.STARTING:
            self._channels[channel.name] = channel
            self.form.set_channel(channel.name)
            self.form.reopen()
            self._said = ""
            self._show_channels()
            self._ask_for_protocols()
            self._refresh()
            self._ask_soon()
            bar = self._scroll.verticalScrollBar()
            if bar is not None:
                bar.setValue(0)
        self._explain("Protocol", "What is done with the cell. Each has parameters of its own.")
        self.show()
        self._protocol.choice.setFocus(Qt.FocusReason.OtherFocusReason)

    def set_channels(self, channels: Sequence[ChannelStatus]) -> None:
        """Take the channels as they are now; to be called with each snapshot."""
        before = self._channels
        self._channels = {channel.name: channel for channel in channels}
        if list(before) != list(self._channels):
            self._show_channels()
        self._show_head()
        if self._lost_protocols:
            self._ask_for_protocols()
        if self.form.trouble and self.form.state is FormState.EDITING:
            self._ask_soon()  # the station is back
        self._show_verdict()

    def set_speed(self, speed: float) -> None:
        """Take the speed of the station's snapshot, so that the panel can say when a run is done.

        speed: laboratory seconds a wall second.
        """
        if speed != self._speed:
            self._speed = speed
            self._show_head()
            self._show_outlook()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.setStyleSheet(panel_sheet(theme))
        for row in self.findChildren(FieldRow):
            row.set_theme(theme)
        for section in self.findChildren(Section):
            section.set_theme(theme)
        for part in (self._head, self._foot, self._limits, self._protocol, self._results):
            part.set_theme(theme)

    # What the operator does

    def start_run(self) -> None:
        """Start what stands here, if the station found it good."""
        if not self.form.can_start:
            if self.form.state is FormState.EDITING:
                self._check()
            return
        order = self.form.begin_start()
        self._said = ""
        self._link.command(
            lambda client: client.start(order.channel, order.request, order.request_id),
            partial(self._started, order.channel),
            partial(self._refused, order.channel),
        )
        self._refresh()

    def close_panel(self) -> None:
        """Close it, but not while a start is not answered: its refusal would be lost."""
        if self.form.state is FormState.STARTING:
            return
        self.hide()
        self.closed.emit()

    def load_recipe(self, path: Path) -> None:
        """Fill the form from a recipe file; says in the panel what is wrong with it."""
        if self.form.state is FormState.STARTING:
            return
        self._said = ""
        try:
            self.form.load_recipe(TomlDocument.read(path).source, path)
        except BadInputError as error:
            self._said = str(error)
            self._show_verdict()
        else:
            self._refresh()
            self._ask_soon()

    def save_recipe(self, path: Path) -> None:
        """Write the recipe of the present texts."""
        try:
            path.write_text(self._results.recipe.text(), encoding="utf-8")
        except OSError as error:
            self._results.recipe.note(f"not saved: {error.strerror}")
        else:
            self._results.recipe.note(f"saved as {path.name}")

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Escape closes; Enter presses a button that has the focus."""
        if event is None:
            return
        if event.key() == Qt.Key.Key_Escape:
            self.close_panel()
            return
        focused = self.focusWidget()
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if isinstance(focused, QAbstractButton) and not isinstance(focused, Tick):
                focused.click()
            return
        super().keyPressEvent(event)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Keep the expected end up to date while it is seen."""
        self._tick.start()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 - Qt's name
        """Ask nothing while nobody looks."""
        self._tick.stop()
        self._pause.stop()
        super().hideEvent(event)

    # ---- the station's answers --------------------------------------------------------------

    def _ask_for_protocols(self) -> None:
        self._lost_protocols = False
        self._link.ask(
            "protocols", lambda client: client.protocols(), self._take_protocols, self._lost
        )

    def _take_protocols(self, protocols: list[ProtocolInfo]) -> None:
        if self.form.state is FormState.STARTING or list(self.form.protocols) == protocols:
            return
        self.form.set_protocols(protocols)
        self._protocol.show_protocols(protocols)
        self._said = ""
        self._refresh()
        self._ask_soon()

    def _lost(self, error: Exception) -> None:
        self._lost_protocols = True
        self._said = str(error)
        self._show_verdict()

    def _ask_soon(self) -> None:
        self._pause.start()

    def _check(self) -> None:
        self._pause.stop()
        check = self.form.begin_check()
        if check is None:
            return
        self._link.ask(
            "check",
            lambda client: client.check(check.channel, check.request),
            partial(self._checked, check),
            partial(self._not_checked, check),
        )
        self._show_verdict()

    def _checked(self, check: Check, report: CheckReport) -> None:
        if self.form.take_report(check, report):
            self._refresh()

    def _not_checked(self, check: Check, error: Exception) -> None:
        if self.form.check_failed(check, str(error)):
            self._refresh()

    def _started(self, channel: str, answer: Started) -> None:
        self.form.start_done()
        self._show_verdict()
        self.hide()
        self.started.emit(channel, answer.run)
        self.closed.emit()

    def _refused(self, channel: str, error: Exception) -> None:
        if isinstance(error, RefusedError):
            self.form.start_refused(f"Not started: {error}", error.problems)
        elif isinstance(error, StationLostError):
            self.form.start_lost(
                f"The station did not answer the start. Whether a run began on {channel} is not "
                f"known: look at the channel before you start again. ({error})"
            )
        else:
            self.form.start_lost(f"Whether a run began on {channel} is not known: {error}")
        self._refresh()
        if not self.form.current:
            self._ask_soon()
        self._foot.start.setFocus(Qt.FocusReason.OtherFocusReason)
        if not self.isVisible():
            self.refused.emit(channel, self.form.refusal)

    # ---- what is shown ----------------------------------------------------------------------

    def _refresh(self) -> None:
        """Show the whole form."""
        self._show_fields()
        self._show_head()
        self._limits.refresh()
        form = self.form
        for key, row in self._fields.items():
            row.show_value(form.value(key), changed=form.changed(key))
            row.show_verdict(form.derived(key), form.problem(key))
            if form.problem(key):
                self._section_of(key).open(True)
        for row in self._fields.values():
            row.setEnabled(form.state is not FormState.STARTING)
        self._limits.setEnabled(form.state is not FormState.STARTING)
        self._results.show_form(form, self._speed)
        self._show_records()
        self._show_carried()
        self._show_verdict()

    def _show_outlook(self) -> None:
        self._results.show_outlook(self.form, self._speed)

    def _show_records(self) -> None:
        form = self.form
        poll = str(form.value("poll.interval")).strip() or "1 s"
        every = str(form.value("record.every")).strip()
        reason = str(form.value("preflight.override.open_circuit")).strip()
        check = ", started at any voltage" if reason else ""
        said = f"read {poll}, record {every or 'every reading'}{check}"
        self._record_part.summarise(said, "notice" if check else "muted")

    def _show_carried(self) -> None:
        carried = [f"{key} = {value}" for key, value in self.form.carried.items()]
        self._carried.setText("Also from the recipe: " + "; ".join(carried) if carried else "")
        self._carried.setVisible(bool(carried))

    def _show_head(self) -> None:
        name = self.form.channel
        self._head.show_channel(name, self._channels.get(name), self._speed)
        self._protocol.show_protocol(self.form.info)

    def _show_channels(self) -> None:
        self._head.show_channels(self._channels, self.form.channel)

    def _show_fields(self) -> None:
        """Make the rows anew when another protocol was chosen."""
        wanted = self.form.fields
        if wanted == self._shown_fields:
            return
        self._shown_fields = wanted
        for key in [key for key in self._fields if key.startswith("parameters.")]:
            row = self._fields.pop(key)
            self._parameters.body.removeWidget(row)
            row.hide()
            row.deleteLater()
        for one in wanted:
            self._parameters.body.addWidget(self._row(one))
        self._order_tabs()

    def _show_verdict(self) -> None:
        """Say where the form stands, and let it start only when the station would."""
        form, foot = self.form, self._foot
        self._origin.show_origin(form.origin, form.changes)
        foot.summarise(summary(form.outcome) if form.current and form.outcome else "")
        starting = form.state is FormState.STARTING
        foot.start.setEnabled(form.can_start)
        self._results.offer_dry_run(form, self._speed)
        foot.start.setText("Starting …" if starting else "Start run")
        foot.load.setEnabled(not starting)
        foot.reset.setEnabled(form.any_changed and not starting)
        self._head.close_button.setEnabled(not starting)
        self._head.channel.setEnabled(not starting)
        self._protocol.setEnabled(not starting)
        self._origin.setEnabled(not starting)
        notes = form.warnings if form.current else ()
        foot.show_messages(
            (form.refusal, self._said, form.trouble, *form.general),
            (*notes, channel_note(self._channels.get(form.channel))),
        )
        foot.show_state(*self._verdict())

    def _verdict(self) -> tuple[str, Role]:
        form = self.form
        report = form.report
        if form.state is FormState.STARTING:
            return "waiting for the instruments …", "active"
        if form.state is FormState.REFUSED:
            names = form.places()
            return f"mend {', '.join(names)}" if names else "cannot start", "bad"
        if form.can_start and report is not None:
            if report.duration is None:
                return f"checked as far as {report.steps} steps", "muted"
            return f"checked, about {duration_words(report.duration)}", "muted"
        if form.trouble:
            return "not checked", "bad"
        return "checking …", "muted"

    # ---- what happens -----------------------------------------------------------------------

    def _edited(self, key: str, value: Value) -> None:
        if not self.form.set(key, value):
            return
        self._said = ""
        row = self._fields[key]
        row.show_value(value, changed=self.form.changed(key))
        row.show_verdict("", self.form.problem(key))
        self._show_records()
        self._show_verdict()
        self._ask_soon()

    def _limits_changed(self) -> None:
        self._said = ""
        self._show_verdict()
        self._ask_soon()

    def _choose_protocol(self, index: int) -> None:
        self.form.choose(str(self._protocol.choice.itemData(index)))
        self._refresh()
        self._ask_soon()

    def _choose_channel(self, index: int) -> None:
        self.form.set_channel(str(self._head.channel.itemData(index)))
        self._refresh()
        self._ask_soon()

    def _to_defaults(self) -> None:
        self.form.reset()
        self._refresh()
        self._ask_soon()

    def _focus_field(self, key: str) -> None:
        one = self._fields[key].field
        self._explain(one.title, one.meaning)

    def _explain(self, title: str, said: str) -> None:
        self._foot.explain(f"{title}: {said}" if said else title)

    def _ask_for_recipe(self) -> None:
        dialog = self._file_dialog("Load a recipe")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(lambda name: self.load_recipe(Path(name)))
        dialog.show()

    def _ask_for_place(self) -> None:
        dialog = self._file_dialog("Save the recipe")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("toml")
        dialog.selectFile(f"{self.form.protocol}.toml")
        dialog.fileSelected.connect(lambda name: self.save_recipe(Path(name)))
        dialog.show()

    def _file_dialog(self, title: str) -> QFileDialog:
        # Shown, not opened: a dialog that is modal for its window would lock up the stop buttons.
        if self._dialog is not None:
            self._dialog.reject()
        dialog = QFileDialog(self, title, "", "Recipes (*.toml);;All files (*)")
        dialog.setModal(False)
        dialog.finished.connect(self._forget_dialog)
        self._dialog = dialog
        return dialog

    def _forget_dialog(self) -> None:
        dialog, self._dialog = self._dialog, None
        if dialog is not None:
            dialog.deleteLater()

    def _reveal(self, editor: QWidget) -> None:
        inner = self._scroll.widget()
        if inner is not None:
            inner.adjustSize()  # its place is known only when it has been laid out
        self._scroll.ensureWidgetVisible(editor, 0, 2 * SPACE)

    # ---- how it is made ---------------------------------------------------------------------

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._head = StartHead(self._theme)
        self._foot = StartFoot(self._theme)
        self._head.channel.activated.connect(self._choose_channel)
        self._head.close_button.clicked.connect(self.close_panel)
        self._foot.start.clicked.connect(self.start_run)
        self._foot.load.clicked.connect(self._ask_for_recipe)
        self._foot.reset.clicked.connect(self._to_defaults)
        layout.addWidget(self._head)
        layout.addWidget(Hairline())
        layout.addWidget(self._make_form(), 1)
        layout.addWidget(Hairline())
        layout.addWidget(self._foot)

    def _make_form(self) -> QScrollArea:
        self._protocol = ProtocolChoice(self._theme)
        self._protocol.choice.activated.connect(self._choose_protocol)
        self._results = StartResults(self._link, self._theme)
        self._results.recipe.save_requested.connect(self._ask_for_place)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(2 * SPACE, 2 * SPACE, SPACE // 2, 2 * SPACE)
        column.setSpacing(3 * SPACE)
        self._origin = Origin()
        self._origin.defaults.clicked.connect(self._to_defaults)
        for part in (
            self._origin,
            self._protocol,
            self._make_parameters(),
            self._make_limits(),
            self._results.plan_part,
            self._results.sheet_part,
            self._make_records(),
            self._results.recipe_part,
        ):
            column.addWidget(part)
        column.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        # Always there, so that the columns do not move when a problem makes the form longer.
        self._scroll.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.setWidget(inner)
        return self._scroll

    def _make_parameters(self) -> Section:
        self._parameters = Section("Parameters", self._theme)
        self._parameters.body.setSpacing(SPACE)
        return self._parameters

    def _make_limits(self) -> Section:
        part = Section("Limits", self._theme)
        self._limits = LimitTable(self.form, self._theme)
        self._limits.changed.connect(self._limits_changed)
        self._limits.added.connect(self._reveal)
        self._limits.rebuilt.connect(self._order_tabs)
        self._limits.entered.connect(self.start_run)
        self._limits.focused.connect(lambda which: self._explain("Limit", HELP[which]))
        part.body.addWidget(self._limits)
        return part

    def _make_records(self) -> Section:
        self._record_part = Section("Recording", self._theme, name="recording", folds=True)
        for one in self.form.settings:
            self._record_part.body.addWidget(self._row(one))
        self._carried = text("", "muted", size=SMALL + 1)
        self._record_part.body.addWidget(self._carried)
        return self._record_part

    def _row(self, one: Field) -> FieldRow:
        row = FieldRow(one, self._theme)
        row.changed.connect(self._edited)
        row.entered.connect(self.start_run)
        row.focused.connect(self._focus_field)
        self._fields[one.key] = row
        return row

    def _section_of(self, key: str) -> Section:
        return self._parameters if key.startswith("parameters.") else self._record_part

    def _order_tabs(self) -> None:
        """Let Tab go from top to bottom, also over rows that were made later."""
        stops: list[QWidget] = [*self._head.tab_stops(), self._origin.defaults]
        stops.append(self._protocol.choice)
        rows = self._fields.items()
        for key, row in rows:
            if key.startswith("parameters."):
                stops += row.tab_stops()
        stops += self._limits.tab_stops() + self._results.plan_stops()
        stops += self._results.sheet_part.tab_stops()
        stops += self._record_part.tab_stops()
        for key, row in rows:
            if not key.startswith("parameters."):
                stops += row.tab_stops()
        stops += self._results.recipe_stops()
        stops += self._foot.tab_stops()
        for before, after in itertools.pairwise(stops):
            QWidget.setTabOrder(before, after)
