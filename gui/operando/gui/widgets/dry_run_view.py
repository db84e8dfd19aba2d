"""A dry run from the start panel: how the run would end, its margins, its curves. SIMULATED."""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial

import numpy as np
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from operando.gui.link import StationLink
from operando.gui.models.form import Check
from operando.gui.models.outlook import duration_words, moment
from operando.gui.models.units import charge_text
from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.form_fields import LABEL_WIDTH
from operando.gui.widgets.plan_view import text
from operando.gui.widgets.style import Role, SimulatedMark, button
from operando.gui.widgets.trend import Trend
from operando.instruments.words import quantity_words
from operando.station.client import Margin, PredictedCurve, Prediction, margin_words

AT_MOST = 60.0
"""Wall s of computing after which the station cuts a dry run."""

DRAWN = {"voltage": "V", "current": "A", "pressure": "Pa"}
"""Predicted curves that are drawn, with their units."""

_ENDS: dict[str, tuple[str, Role]] = {
    "completed": ("It would complete", "good"),
    "tripped": ("It would TRIP", "bad"),
    "held": ("It would be HELD", "bad"),
    "faulted": ("It would FAIL", "bad"),
    "refused": ("It would be REFUSED", "bad"),
    "cut": ("Not predicted to its end", "notice"),
    "stopped": ("Not predicted to its end", "notice"),
}


class DryRunView(QWidget):
    """A button, and what the station answered about the texts that stand in the form."""

    def __init__(self, link: StationLink, theme: Theme) -> None:
        super().__init__()
        self._link = link
        self._theme = theme
        self._offered: Check | None = None
        self._asked: Check | None = None
        self._speed = 1.0
        self._result: QWidget | None = None
        self._trends: list[Trend] = []
        self.button = button("Dry run", "plain", "dry-run")
        self.button.setToolTip("Run it on the simulated twin of the channel, and predict")
        self.button.clicked.connect(self.predict)
        self._mark = SimulatedMark(theme, size=SMALL)
        self._said = text("", "muted", size=SMALL + 1)
        self._said.setObjectName("dry-run-said")
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(self.button)
        row.addWidget(self._said, 1, Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._mark)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, SPACE // 2, 0, 0)
        self._layout.setSpacing(SPACE)
        self._layout.addLayout(row)
        self.offer(None, 1.0)

    def offer(self, check: Check | None, speed: float) -> None:
        """Take what could be predicted now, None if the form is not good as it stands.

        An answer about other texts is taken away. speed: laboratory seconds a wall second.
        """
        self._offered, self._speed = check, speed
        if self._asked is not None and not _same(self._asked, check):
            self._asked = None
            self._clear("")
        self.button.setEnabled(check is not None and self._asked is None)

    def predict(self) -> None:
        """Ask the station. It answers within `AT_MOST`; the window goes on meanwhile."""
        check = self._offered
        if check is None:
            return
        self._asked = check
        self._clear("computing on the simulated twin …")
        self.button.setEnabled(False)
        # A command has a thread of its own: questions would wait behind this one.
        self._link.command(
            lambda client: client.dry_run(check.channel, check.request, at_most=AT_MOST),
            partial(self._predicted, check),
            partial(self._failed, check),
        )

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self._mark.set_theme(theme)
        for trend in self._trends:
            trend.set_theme(theme)

    # ---- below -----------------------------------------------------------------------------

    def _predicted(self, check: Check, prediction: Prediction) -> None:
        if self._asked is not check:
            return  # the texts have changed
        self._clear(f"preset {prediction.preset}, a fresh cell")
        self._mark.show_simulated(True, 1.0)
        self._result = self._made(prediction)
        self._layout.addWidget(self._result)
        self.button.setEnabled(True)

    def _failed(self, check: Check, error: Exception) -> None:
        if self._asked is check:
            self._clear(f"no prediction: {error}")
            self.button.setEnabled(True)

    def _clear(self, said: str) -> None:
        self._said.setText(said)
        self._mark.show_simulated(False, 1.0)
        self._trends.clear()
        result, self._result = self._result, None
        if result is not None:
            self._layout.removeWidget(result)
            result.hide()
            result.deleteLater()

    def _made(self, prediction: Prediction) -> QWidget:
        made = QWidget()
        layout = QVBoxLayout(made)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE)
        words, role = _ENDS[prediction.state]
        if prediction.state != "completed":
            words += f": {prediction.reason}"
        end = text(words, role, bold=True)
        end.setObjectName("dry-run-end")
        times = text(_times(prediction, self._speed))
        times.setObjectName("dry-run-times")
        layout.addWidget(end)
        layout.addWidget(times)
        for note in prediction.notes:
            layout.addWidget(text(note, "notice", size=SMALL + 1))
        for curve in prediction.curves:
            if curve.quantity in DRAWN:
                layout.addWidget(self._drawn(curve, DRAWN[curve.quantity]))
        layout.addWidget(_margins(prediction))
        return made

    def _drawn(self, curve: PredictedCurve, unit: str) -> QWidget:
        values = np.array([np.nan if value is None else value for value in curve.value])
        finite = np.abs(values[np.isfinite(values)])
        # A trend is made for volts; of less than a millivolt it makes a flat line.
        scale = float(finite.max(initial=0.0)) or 1.0
        trend = Trend(self._theme, curve.quantity, lambda value: _end_text(unit, value * scale))
        trend.setAccessibleName(f"Predicted {curve.quantity}, simulated")
        trend.setFixedHeight(7 * SPACE)
        trend.set_curve(np.array(curve.time), values / scale)
        self._trends.append(trend)
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE)
        name = text(curve.quantity.capitalize(), "muted", size=SMALL + 1)
        name.setFixedWidth(LABEL_WIDTH)
        row.addWidget(name)
        row.addWidget(trend, 1)
        return made


def _end_text(unit: str, value: float) -> str:
    """A value at the end of a trend, with three digits."""
    return f"{value:.2f} V" if unit == "V" else quantity_words(value, unit, digits=3)


def _same(one: Check, other: Check | None) -> bool:
    return other is not None and (one.revision, one.channel) == (other.revision, other.channel)


def _times(prediction: Prediction, speed: float) -> str:
    """How long it takes, when it is done, and what it charges and discharges."""
    parts = [f"{duration_words(prediction.duration)} of laboratory time"]
    if prediction.finish is not None:
        now = time.time()
        end = now + prediction.duration / speed
        at = moment(datetime.fromtimestamp(end), datetime.fromtimestamp(now))
        parts.append(f"over {at} if started now")
    last = prediction.cycles[-1] if prediction.cycles else None
    if last is not None and last.discharge_capacity is not None:
        cycle = "" if len(prediction.cycles) == 1 else f" in cycle {last.cycle}"
        parts.append(f"{charge_text(last.discharge_capacity)} discharged{cycle}")
    return ", ".join(parts)


def _margins(prediction: Prediction) -> QWidget:
    """A line for each limit: its name, and how it fares."""
    made = QWidget()
    made.setObjectName("dry-run-margins")
    grid = QGridLayout(made)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(SPACE)
    grid.setVerticalSpacing(SPACE // 4)
    for line, margin in enumerate(prediction.margins):
        name = text(margin.limit.removesuffix(" (default)"), "muted", size=SMALL + 1)
        name.setFixedWidth(LABEL_WIDTH)
        grid.addWidget(name, line, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(text(margin_words(margin), _role(margin), size=SMALL + 1), line, 1)
    grid.setColumnStretch(1, 1)
    return made


def _role(margin: Margin) -> Role:
    if margin.acted is not None:
        return "bad"
    return "text" if margin.watched else "notice"
