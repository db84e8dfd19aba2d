"""What leaves the window: a picture of the plots, and their data as recorded rows.

Both say that they are simulated, if they are: the picture in itself, the table in its file's name.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PyQt6.QtCore import QPoint, QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import QColor, QFontMetricsF, QImage, QPainter

from operando.gui.models.run import pauses_of
from operando.gui.theme import BODY, LARGE, LIGHT, RADIUS, SMALL, SPACE, Theme
from operando.gui.widgets.plot_style import BOTTOM_AXIS
from operando.gui.widgets.style import font
from operando.instruments.errors import BadInputError
from operando.records.bdf import CELSIUS_ZERO, COULOMBS_PER_AH, JOULES_PER_WH, TERMS
from operando.records.files import write_atomically
from operando.station.client import RunDetail

SCALE: Final = 2.0
"""Pixels of a picture for one of the window: sharp on a slide."""

MARGIN: Final = 2 * SPACE
HEAD: Final = 7 * SPACE
LEFT, RIGHT, HEIGHT = 860, 520, 720
"""Widths of the columns of a picture and their height, px of the window."""

MARK: Final = "_SIMULATED"
"""In the names of files with simulated data, as in exports of records."""

_BDF: Final[Mapping[str, tuple[str, float, float]]] = {
    "record_index": ("record_index", 1.0, 0.0),
    "time": ("test_time_second", 1.0, 0.0),
    "unix_time": ("unix_time_second", 1.0, 0.0),
    "voltage": ("voltage_volt", 1.0, 0.0),
    "current": ("current_ampere", 1.0, 0.0),
    "cycle": ("cycle_count", 1.0, 0.0),
    "step_count": ("step_count", 1.0, 0.0),
    "step_id": ("step_id", 1.0, 0.0),
    "step_time": ("step_time_second", 1.0, 0.0),
    "charge": ("net_capacity_ah", 1.0 / COULOMBS_PER_AH, 0.0),
    "step_charge": ("step_net_capacity_ah", 1.0 / COULOMBS_PER_AH, 0.0),
    "energy": ("net_energy_wh", 1.0 / JOULES_PER_WH, 0.0),
    "pressure": ("surface_pressure_pa", 1.0, 0.0),
    "temperature": ("surface_temperature_celsius", 1.0, -CELSIUS_ZERO),
    "chamber_temperature": ("ambient_temperature_celsius", 1.0, -CELSIUS_ZERO),
}
"""Columns of `Record.samples` and of joined readings: the format's machine name, and factor and
offset from SI to its unit."""

TIME: Final = TERMS["test_time_second"]
STATUS: Final = "Status"

_LAST: Final = ("regulation", "status", "origin")
"""Columns of text, which the format does not have; they stand at the end."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands over a picture. simulated: the data were not measured on a real cell."""

    title: str
    subtitle: str
    simulated: bool


def marked(path: Path, suffix: str, *, simulated: bool) -> Path:
    """The path with a suffix, and with the mark of simulated data in its name."""
    name = path.stem if path.suffix.lower() == suffix else path.name
    mark = MARK if simulated and MARK.lower() not in name.lower() else ""
    return path.with_name(f"{name}{mark}{suffix}")


def table(rows: Mapping[str, npt.NDArray[Any]]) -> tuple[list[str], list[npt.NDArray[Any]]]:
    """Labels and columns of recorded rows, as in an export of the whole record.

    rows: as `StationClient.rows` gives them, SI. A quantity that the Battery Data Format has no
    word for keeps its own name and SI.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    others: dict[str, npt.NDArray[Any]] = {}
    for name, values in rows.items():
        known = _BDF.get(name)
        if known is None:
            others[name.replace("_", " ").title()] = values
            continue
        term, factor, offset = known
        plain = factor == 1.0 and offset == 0.0
        found[TERMS[term]] = values if plain else values * factor + offset
    order = [label for label in TERMS.values() if label in found]
    texts = {name.title() for name in _LAST}
    order += sorted(others, key=lambda label: (label in texts, label))
    both = found | others
    return order, [both[label] for label in order]


def breaks_of(detail: RunDetail) -> list[tuple[float, float, str]]:
    """Start and end, s, of the times of a run over which nothing may be joined, and what was."""
    found = [(gap.start, gap.end, "not observed") for gap in detail.gaps]
    found += [(start, end, "paused") for start, end in pauses_of(detail)]
    return sorted(found)


def write_data(
    path: Path,
    rows: Mapping[str, npt.NDArray[Any]],
    breaks: Sequence[tuple[float, float, str]] = (),
) -> int:
    """Write rows as CSV; returns how many. A missing value is an empty field.

    breaks: as `breaks_of` tells. Where one begins or ends between two rows stands a line with a
    time and a status alone, so that whatever draws the table joins nothing over it.
    Raises BadInputError if there are none, or the file cannot be written.
    """
    labels, columns = table(rows)
    count = len(columns[0]) if columns else 0
    if count == 0:
        raise BadInputError("there are no recorded rows in view; show another stretch of time")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(labels)
    lines = list(zip(*(_fields(column) for column in columns), strict=True))
    # From the last on, so that places which were found stay right.
    for at, when, what in sorted(_edges(rows["time"], breaks), reverse=True):
        said = {TIME: when, STATUS: what}
        lines.insert(at, tuple(said.get(label, "") for label in labels))
    writer.writerows(lines)
    try:
        write_atomically(path, text.getvalue().encode())
    except OSError as error:
        raise BadInputError(f"{path} could not be written: {error}") from error
    return count


class Copied(Protocol):
    """A plot that can be made again in another appearance."""

    def copy(self, theme: Theme) -> pg.PlotWidget:
        """Another plot that shows the same."""
        ...


def picture(caption: Caption, left: Sequence[Copied], right: Sequence[Copied]) -> QImage:
    """The plots on the light background, whatever the window looks like and however large it is.

    left: plots with one time axis, which the last of them shows; right: the others. Each column
    from top to bottom.
    """
    each = (HEIGHT - BOTTOM_AXIS - SPACE * (len(left) - 1)) / max(len(left), 1)
    heights = [each] * (len(left) - 1) + [each + BOTTOM_AXIS] if left else []
    size = QSize(LEFT + RIGHT + 3 * MARGIN, HEAD + HEIGHT + MARGIN)
    image = QImage(size * SCALE, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(SCALE)
    image.fill(QColor(LIGHT.surface))
    image.setText("Title", caption.title)
    image.setText("Description", caption.subtitle)
    image.setText("Simulated", "true" if caption.simulated else "false")
    painter = QPainter(image)
    try:
        painter.save()
        _head(painter, caption, size.width())
        painter.restore()
        _column(painter, left, heights, MARGIN, LEFT)
        share = (HEIGHT - SPACE * (len(right) - 1)) / max(len(right), 1)
        _column(painter, right, [share] * len(right), 2 * MARGIN + LEFT, RIGHT)
    finally:
        painter.end()
    return image


def save(image: QImage, path: Path) -> None:
    """Write a PNG. Raises BadInputError if it cannot be written."""
    if not image.save(str(path), "PNG"):
        raise BadInputError(f"{path} could not be written; choose another folder")


# ---- below ---------------------------------------------------------------------------------


def _column(
    painter: QPainter, plots: Sequence[Copied], heights: Sequence[float], x: int, width: int
) -> None:
    y = float(HEAD)
    for plot, height in zip(plots, heights, strict=True):
        target = QRectF(x, round(y), width, round(y + height) - round(y))
        made = plot.copy(LIGHT)
        # Laid out as if it were shown, and never seen.
        made.setAttribute(Qt.WidgetAttribute.WA_DontShowOnScreen)
        made.resize(target.size().toSize())
        made.show()
        made.render(painter, target, made.viewport().rect())
        made.close()
        made.deleteLater()
        y += height + SPACE


def _head(painter: QPainter, caption: Caption, width: int) -> None:
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    right = width - MARGIN
    if caption.simulated:
        painter.setFont(font(BODY, bold=True))
        metrics = QFontMetricsF(painter.font())
        box = QRectF(0, 0, metrics.horizontalAdvance("SIMULATED") + 2 * SPACE, 3 * SPACE)
        box.moveTopRight(QPointF(right, MARGIN))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(LIGHT.simulated))
        painter.drawRoundedRect(box, RADIUS - 2, RADIUS - 2)
        painter.setPen(QColor(LIGHT.on_simulated))
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), "SIMULATED")
        right = round(box.left()) - SPACE
    for text, size, ink, y, bold in (
        (caption.title, LARGE, LIGHT.text, 12, True),
        (caption.subtitle, SMALL + 1, LIGHT.muted, 34, False),
    ):
        painter.setFont(font(size, bold=bold))
        painter.setPen(QColor(ink))
        metrics = QFontMetricsF(painter.font())
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, right - MARGIN)
        painter.drawText(QPoint(MARGIN, round(y + metrics.ascent())), shown)


def _edges(
    times: npt.NDArray[np.float64], breaks: Sequence[tuple[float, float, str]]
) -> Iterator[tuple[int, float, str]]:
    """Edges of breaks between rows: before which row, when, s, and what begins or ends there."""
    for start, end, what in breaks:
        for at, when, word in (
            (int(np.searchsorted(times, start, side="right")), start, "from here"),
            (int(np.searchsorted(times, end)), end, "until here"),
        ):
            if 0 < at < len(times):
                yield at, when, f"{what} {word}"


def _fields(values: npt.NDArray[Any]) -> list[object]:
    if values.dtype.kind == "S":
        return [value.decode() for value in values.tolist()]
    if values.dtype.kind != "f":
        return list(values.tolist())
    return ["" if math.isnan(value) else value for value in np.asarray(values).tolist()]
