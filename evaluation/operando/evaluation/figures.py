"""Figures of cycling records as battery papers draw them. Needs matplotlib (extra `report`).

Every recorded point is drawn: thinning by minimum and maximum would distort loops. Gaps are not
bridged. Pictures of simulated data say so.
"""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from operando.evaluation.cccv import (
    COULOMBS_PER_MAH,
    GRAMS_PER_KG,
    PASCALS_PER_MPA,
    CyclingResult,
    cccv,
)
from operando.evaluation.half_cycles import read_cycling, with_breaks
from operando.instruments.errors import BadInputError
from operando.records import Gap, Record
from operando.records.reader import usable_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Distinguishable with any colour vision: Okabe and Ito, Color Universal Design (2008)."""

SPECIFIC_CAPACITY = "Specific capacity / mAh g⁻¹"
CAPACITY = "Capacity / mAh"
WIDE, NARROW = 7.0, 3.5
"""Widths of two columns and of one in a journal, inches."""
_RING, _DOT = 7.0, 3.8
"""Diameters of the markers of charge and discharge, pt."""
_PANEL = 230.0
"""Width of the panel of capacity by cycle, about, pt."""

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
}


def draw_voltage_capacity(
    records: Record | Sequence[Record],
    path: Path | str,
    *,
    labels: Sequence[str] | None = None,
    cycles: Sequence[int] | None = None,
    overlaid: bool = False,
) -> Path:
    """Voltage against the capacity of each charge and discharge, by cycle, into a PNG.

    labels: names of the records, by default their cells'. cycles: which to draw, by default up to
    six, spread over the record. overlaid: all records in one panel instead of side by side.
    Capacity is specific where every record states the active mass. Returns the path.
    Raises BadInputError if matplotlib is missing or there is nothing to draw.
    """
    records, labels = _named(records, labels)
    specific = _all_have_mass(records)
    panels = 1 if overlaid else len(records)
    with _figure(records, min(2.0 + 2.5 * panels, 9.0) if panels > 1 else 4.2, 3.1) as (fig, save):
        axes = fig.subplots(1, panels, sharex=True, sharey=True, squeeze=False)[0]
        for position, (record, label) in enumerate(zip(records, labels, strict=True)):
            ax = axes[0 if overlaid else position]
            hue = position if overlaid else None
            width = _widths(len(records))[position] if overlaid else None
            _draw_loops(ax, record, cycles, specific=specific, hue=hue, width=width, label=label)
            if not overlaid and len(records) > 1:
                ax.set_title(label)
        for ax in axes:
            ax.set_xlabel(SPECIFIC_CAPACITY if specific else CAPACITY)
            ax.set_xlim(left=0.0)
            ax.legend(title="Cycles, dark to light" if overlaid else "Cycle", handlelength=1.4)
        axes[0].set_ylabel("Voltage / V")
        return save(path)


def draw_time_series(
    records: Record | Sequence[Record],
    path: Path | str,
    *,
    labels: Sequence[str] | None = None,
    pressure_source: str | None = None,
) -> Path:
    """Voltage, current and, where it was measured, pressure against time in h, into a PNG.

    Unobserved times are hatched. Arguments, result and errors as in `draw_voltage_capacity`.
    """
    records, labels = _named(records, labels)
    pressed = any(quantity == "pressure" for r in records for _, quantity in r.quantities())
    panels = 3 if pressed else 2
    with _figure(records, WIDE, 0.7 + 1.45 * panels) as (fig, save):
        axes = fig.subplots(panels, 1, sharex=True)
        looks = zip(_colours(len(records)), _widths(len(records)), strict=True)
        for record, label, (colour, width) in zip(records, labels, looks, strict=True):
            samples, gaps = record.samples(columns=["time", "voltage", "current"]), record.gaps()
            line: dict[str, Any] = {"color": colour, "label": label, "linewidth": width}
            columns = (samples[name] for name in ("time", "voltage", "current"))
            time, voltage, current = with_breaks(samples["time"], tuple(gaps), *columns)
            axes[0].plot(time / 3600.0, voltage, **line)
            axes[1].plot(time / 3600.0, current * 1e3, **line)
            if pressed:
                source = record.source_of("pressure", pressure_source)
                readings = record.aux("pressure", source=source)
                time, pressure = with_breaks(
                    readings["time"], tuple(gaps), readings["time"], usable_values(readings)
                )
                axes[2].plot(time / 3600.0, pressure / PASCALS_PER_MPA, **line)
            _hatch(axes, gaps, colour)
        names = ("Voltage / V", "Current / mA", "Pressure / MPa")
        for ax, name in zip(axes, names, strict=False):
            ax.set_ylabel(name)
            ax.margins(x=0.01, y=0.08)
        axes[1].axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
        axes[-1].set_xlabel("Time / h")
        fig.align_ylabels(axes)
        if len(records) > 1:
            handles, names = axes[0].get_legend_handles_labels()
            fitting = _legend_columns(labels, WIDE)
            fig.legend(handles, names, loc="outside lower center", ncols=fitting)
        return save(path)


def draw_capacity_by_cycle(
    records: Record | Sequence[Record],
    path: Path | str,
    *,
    labels: Sequence[str] | None = None,
) -> Path:
    """Capacity and coulombic efficiency by cycle, into a PNG.

    Incomplete cycles are left out; cycles with a gap are drawn with a cross over them. Points of
    several records stand side by side around their cycle's number.
    Arguments, result and errors as in `draw_voltage_capacity`.
    """
    records, labels = _named(records, labels)
    specific = _all_have_mass(records)
    results = [cccv(record) for record in records]
    with _figure(records, 4.2, 4.4) as (fig, save):
        upper, lower = fig.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        numbers = [cycle.cycle for result in results for cycle in result.cycles]
        first, last = min(numbers, default=1), max(numbers, default=1)
        offsets = _offsets(len(results), last - first + 1)
        for result, label, colour, offset in zip(
            results, labels, _colours(len(results)), offsets, strict=True
        ):
            look: dict[str, Any] = {"colour": colour, "offset": offset, "specific": specific}
            _draw_capacities(upper, lower, result, label=label, **look)
        ink = PALETTE[0] if len(results) == 1 else "0.4"
        mark: dict[str, Any] = {"color": ink, "linestyle": "none", "marker": "o"}
        kinds = [
            *upper.plot([], [], fillstyle="none", markersize=_RING, label="charge", **mark),
            *upper.plot([], [], markersize=_DOT, label="discharge", **mark),
        ]
        if any("gap" in cycle.flags for result in results for cycle in result.cycles):
            kinds += upper.plot([], [], "x", color="black", label="not fully observed")
        upper.legend(handles=kinds, loc="lower left", handletextpad=0.2)
        upper.set_ylabel(SPECIFIC_CAPACITY if specific else CAPACITY)
        lower.set_ylabel("Coulombic\nefficiency / %")
        lower.axhline(100.0, color="0.6", linewidth=0.6, zorder=0)
        lower.set_xlabel("Cycle")
        lower.xaxis.get_major_locator().set_params(integer=True)
        lower.set_xlim(first - 0.5, last + 0.5)
        for ax in (upper, lower):
            ax.margins(y=0.15)
            ax.tick_params(axis="x", which="minor", top=False, bottom=False)
        fig.align_ylabels((upper, lower))
        top = upper.dataLim.y1
        upper.set_ylim(0.0, 1.12 * top if np.isfinite(top) and top > 0.0 else None)
        if len(results) > 1:
            handles = [line for line in upper.get_lines() if line.get_label() in labels]
            fitting = _legend_columns(labels, 4.2)
            fig.legend(handles=handles, loc="outside lower center", ncols=fitting)
        return save(path)


def draw_ageing(
    records: Record | Sequence[Record],
    path: Path | str,
    *,
    labels: Sequence[str] | None = None,
    cycles: tuple[int, int] | None = None,
    calibrated: Mapping[str, float] | None = None,
) -> Path:
    """How cells aged, on one page: capacity by cycle, voltage and pressure fresh and aged.

    cycles: the fresh and the aged one, by default the first and the last complete cycle of each
    record; the cycles are counted from the fresh one, so that formation is left out.
    calibrated: by label, the published share of the fresh capacity left in the aged cycle, to which
    a simulated cell was set; drawn as an open diamond. Pressure, if it was measured, is drawn
    against the charge put in less that taken out since the cycle began. Arguments, result and
    errors as in `draw_voltage_capacity`.
    """
    records, labels = _named(records, labels)
    specific = _all_have_mass(records)
    pressed = any(quantity == "pressure" for r in records for _, quantity in r.quantities())
    count, rows = len(records), 2 if pressed else 1
    unit = "mAh g⁻¹" if specific else "mAh"
    with _figure(records, 3.8 + 1.75 * count, 2.0 + 1.35 * rows) as (fig, save):
        ratios = (3.4, 0.4 + 1.75 * count)
        left, right = fig.subfigures(1, 2, squeeze=False, width_ratios=ratios)[0]
        fade = left.subplots()
        panels = right.subplots(rows, count, sharex=True, sharey="row", squeeze=False)
        for place, (record, label) in enumerate(zip(records, labels, strict=True)):
            capacity = _discharge_capacities(record, specific=specific)
            fresh, aged = cycles or (min(capacity, default=0), max(capacity, default=0))
            if not (fresh in capacity and aged in capacity and fresh < aged):
                raise BadInputError(
                    f"{record.folder}: cycles {fresh} and {aged} cannot be compared: two complete "
                    f"ones are needed, the earlier first (has {sorted(capacity)})"
                )
            colour = PALETTE[place % len(PALETTE)]
            fading = [number for number in sorted(capacity) if fresh <= number <= aged]
            kept = 100.0 * capacity[aged] / capacity[fresh]
            fade.plot(
                [number - fresh + 1 for number in fading],
                [capacity[number] for number in fading],
                color=colour,
                linewidth=2.0,
                label=f"{label}: {kept:.1f} % left",
            )
            if calibrated and label in calibrated:
                level = calibrated[label] * capacity[fresh]
                fade.plot(aged - fresh + 1, level, "D", fillstyle="none", color=colour)
            voltage = panels[0][place]
            look: dict[str, Any] = {"specific": specific, "hue": place, "width": 1.6}
            _draw_loops(voltage, record, (fresh, aged), label=label, **look)
            if pressed:
                _draw_breathing(
                    panels[1][place], record, (fresh, aged), specific=specific, hue=place
                )
            voltage.set_title(textwrap.fill(label, 18), color=colour, fontweight="bold")
            for line, number in zip(voltage.get_lines()[::2], (fresh, aged), strict=True):
                line.set_label(f"cycle {number - fresh + 1}")
            handles = voltage.get_lines()[::2]  # of charge and discharge the first
            where = "lower right" if pressed else "best"
            panels[-1][place].legend(handles=handles, loc=where, handlelength=1.2)
            panels[-1][place].set_xlabel(f"Charge / {unit}")
        if calibrated:
            fade.plot([], [], "D", fillstyle="none", color="0.4", label="published, calibrated")
        fade.set_xlabel("Cycle")
        fade.set_ylabel(f"Discharge capacity / {unit}")
        fade.set_ylim(bottom=0.0)
        fade.legend(loc="lower left")
        panels[0][0].set_ylabel("Voltage / V")
        if pressed:
            panels[1][0].set_ylabel("Stack pressure / MPa")
        return save(path)


def _discharge_capacities(record: Record, *, specific: bool) -> dict[int, float]:
    """Of the complete cycles, mAh/g or mAh, by number."""
    scale = _capacity_scale(record, specific=specific)
    return {
        cycle.cycle: scale * cycle.discharge_capacity
        for cycle in cccv(record).cycles
        if "incomplete" not in cycle.flags
    }


def _draw_breathing(
    ax: Axes, record: Record, cycles: Sequence[int], *, specific: bool, hue: int
) -> None:
    """Pressure against the charge in the cell, from the start of each cycle to its end."""
    cycling = read_cycling(record)
    readings = record.aux("pressure", source=record.source_of("pressure"))
    pressures = usable_values(readings) / PASCALS_PER_MPA
    scale = _capacity_scale(record, specific=specific)
    for number, shade in zip(cycles, _shades(len(cycles), hue), strict=True):
        halves = [half for half in cycling.halves if half.cycle == number]
        start, end = min(half.start for half in halves), max(half.end for half in halves)
        inside = (readings["time"] >= start) & (readings["time"] <= end)
        time = readings["time"][inside]
        before, *charge = np.interp([start, *time], cycling.samples["time"], cycling.net)
        passed = scale * (np.array(charge) - before)
        passed, pressure = with_breaks(time, cycling.gaps, passed, pressures[inside])
        ax.plot(passed, pressure, color=shade, linewidth=1.6)


def _draw_loops(
    ax: Axes,
    record: Record,
    cycles: Sequence[int] | None,
    *,
    specific: bool,
    hue: int | None,
    width: float | None,
    label: str,
) -> None:
    cycling = read_cycling(record)
    numbers = sorted({half.cycle for half in cycling.halves})
    chosen = _spread(numbers) if cycles is None else [n for n in numbers if n in set(cycles)]
    if not chosen:
        raise BadInputError(f"{record.folder}: there is no such cycle to draw (has {numbers})")
    scale = _capacity_scale(record, specific=specific)
    shades = _shades(len(chosen), hue)
    widths = _widths(len(chosen)) if width is None else [width] * len(chosen)
    for half in cycling.halves:
        if half.cycle not in chosen:
            continue
        place = chosen.index(half.cycle)
        time, voltage = cycling.samples["time"][half.rows], cycling.samples["voltage"][half.rows]
        passed, voltage = with_breaks(time, cycling.gaps, np.abs(half.passed) * scale, voltage)
        which = ", ".join(str(number) for number in chosen)
        name = str(half.cycle) if hue is None else f"{label}: {which}"
        shown = half.charging and (hue is None or place == 0)
        line: dict[str, Any] = {"color": shades[place], "linewidth": widths[place]}
        ax.plot(passed, voltage, label=name if shown else None, **line)


def _draw_capacities(
    upper: Axes,
    lower: Axes,
    result: CyclingResult,
    *,
    label: str,
    colour: str,
    offset: float,
    specific: bool,
) -> None:
    whole = [cycle for cycle in result.cycles if "incomplete" not in cycle.flags]
    scale = 1.0 / COULOMBS_PER_MAH
    if specific:
        scale /= result.active_mass * GRAMS_PER_KG
    number = [cycle.cycle + offset for cycle in whole]
    charge = [cycle.charge_capacity * scale for cycle in whole]
    discharge = [cycle.discharge_capacity * scale for cycle in whole]
    efficiency = [100.0 * cycle.coulombic_efficiency for cycle in whole]
    marks: dict[str, Any] = {"color": colour, "linestyle": "none"}
    # A dot in a ring: both are seen where charge and discharge are the same.
    upper.plot(number, charge, marker="o", fillstyle="none", markersize=_RING, **marks)
    upper.plot(number, discharge, marker="o", markersize=_DOT, label=label, **marks)
    lower.plot(number, efficiency, marker="s", markersize=_DOT, **marks)
    gaps = [(c.cycle + offset, c.discharge_capacity * scale) for c in whole if "gap" in c.flags]
    if gaps:
        upper.plot(*zip(*gaps, strict=True), "x", color="black")


def _hatch(axes: Sequence[Axes], gaps: Sequence[Gap], colour: str) -> None:
    for ax in axes:
        for gap in gaps:
            start, end = gap.start / 3600.0, gap.end / 3600.0
            ax.axvspan(start, end, facecolor="none", edgecolor=colour, alpha=0.35, hatch="///")


def _spread(numbers: Sequence[int], most: int = 6) -> list[int]:
    """Up to `most` of the numbers, first and last among them."""
    if len(numbers) <= most:
        return list(numbers)
    places = np.unique(np.round(np.linspace(0, len(numbers) - 1, most)).astype(int))
    return [numbers[place] for place in places]


def _shades(count: int, hue: int | None) -> list[Any]:
    """Colours of successive cycles: a sequence from dark to light, of one hue if there is one."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgb

    if hue is None:
        # The light end of viridis cannot be read on white.
        return [mpl.colormaps["viridis"](x) for x in np.linspace(0.0, 0.82, count)]
    colour = np.array(to_rgb(PALETTE[hue % len(PALETTE)]))
    return [tuple(colour + (1.0 - colour) * x) for x in np.linspace(0.0, 0.6, count)]


def _widths(count: int) -> list[float]:
    """Line widths, pt: what is drawn later is thinner, so that a line below still shows."""
    return [float(width) for width in np.linspace(1.9, 0.9, count)] if count > 1 else [1.3]


def _offsets(count: int, cycles: int) -> list[float]:
    """Where the points of several records stand beside their cycle's number, in cycles.

    They stand a marker apart, and closer where there are too many cycles for that.
    """
    apart = min(_RING * 1.3 * max(cycles, 1) / _PANEL, 0.6 / count)
    return [apart * (position - 0.5 * (count - 1)) for position in range(count)]


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """Columns of a legend that fit into a width in inches."""
    entry = 0.55 + 0.065 * max(len(label) for label in labels)  # handle and space, then 8 pt text
    return max(1, min(len(labels), int(width / entry)))


def _colours(count: int) -> list[str]:
    return [PALETTE[position % len(PALETTE)] for position in range(count)]


def _named(
    records: Record | Sequence[Record], labels: Sequence[str] | None
) -> tuple[list[Record], list[str]]:
    records = [records] if isinstance(records, Record) else list(records)
    if not records:
        raise BadInputError("there is no record to draw")
    if labels is None:
        labels = [record.cell_name for record in records]
    if len(labels) != len(records):
        raise BadInputError(f"{len(records)} records need as many labels, not {len(labels)}")
    return records, list(labels)


def _capacity_scale(record: Record, *, specific: bool) -> float:
    """What makes mAh, or mAh/g, of a charge in C."""
    return (
        1.0 / COULOMBS_PER_MAH / (record.of_cell("active_mass") * GRAMS_PER_KG if specific else 1.0)
    )


def _all_have_mass(records: Sequence[Record]) -> bool:
    return all(record.of_cell("active_mass") > 0.0 for record in records)


@contextmanager
def _figure(
    records: Sequence[Record], width: float, height: float
) -> Iterator[tuple[Figure, Callable[[Path | str], Path]]]:
    """A figure in the house style, in inches, and how to save it; no global state is left."""
    try:
        mpl = importlib.import_module("matplotlib")
        agg = importlib.import_module("matplotlib.backends.backend_agg")
        figure = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise BadInputError(
            "figures need matplotlib, which is not installed: pip install 'operando[report]'"
        ) from error
    with mpl.rc_context(_STYLE):
        fig = figure.Figure(figsize=(width, height))
        agg.FigureCanvasAgg(fig)

        def save(path: Path | str) -> Path:
            path = Path(path)
            simulated = [record.simulated for record in records]
            if any(simulated):
                text = "SIMULATED DATA" if all(simulated) else "PARTLY SIMULATED DATA"
                fig.suptitle(
                    text, x=0.995, ha="right", fontsize=7.5, fontweight="bold", color="#B00020"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            fig.savefig(path, format="png")
            return path

        yield fig, save


__all__ = ["draw_ageing", "draw_capacity_by_cycle", "draw_time_series", "draw_voltage_capacity"]
