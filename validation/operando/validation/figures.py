"""Figures of a validation: voltage, spectrum and pressure of the three cells, fresh and aged.

Needs matplotlib (extra `report`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from operando import evaluation
from operando.instruments.errors import BadInputError
from operando.records.reader import usable_values
from operando.validation.experiments import CYCLING, FRESH_AND_RESTED
from operando.validation.full_cells import half_charged, halves_of
from operando.validation.lab import Lab

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELLS = {"ncm811-caec": "CAEC", "ncm811-lno": "LiNbO₃", "ncm811-bare": "bare"}
COLOURS = ("#0072B2", "#D55E00", "#009E73")
FRESH: dict[str, float] = {"linewidth": 1.9}
AGED: dict[str, float] = {"linewidth": 1.0, "alpha": 0.7}
FIRST, LAST = 2, 101
"""Cycles of the cycling record that are drawn: the first and the last at C/2."""


def draw_all(lab: Lab, folder: Path) -> list[Path]:
    """Draw what the experiments that were run can show; returns the pictures."""
    aged = [preset for preset in CELLS if (CYCLING.name, preset) in lab.ran()]
    if not aged:
        return []
    records = [lab.run(CYCLING, preset).records[0] for preset in aged]
    voltage = evaluation.draw_voltage_capacity(
        records,
        folder / "voltage.png",
        labels=[CELLS[preset] for preset in aged],
        cycles=[FIRST, LAST],
    )
    pressure = draw_pressure(lab, aged, folder / "pressure.png")
    return [voltage, pressure, draw_spectra(lab, aged, folder / "spectrum.png")]


def draw_pressure(lab: Lab, presets: list[str], path: Path) -> Path:
    """Pressure against charge of the first and the last cycle at C/2, from the load cell."""
    with _figure(2.3 * len(presets) + 0.6, 2.9, path) as figure:
        axes = figure.subplots(1, len(presets), sharex=True, sharey=True, squeeze=False)[0]
        for ax, preset, colour in zip(axes, presets, COLOURS, strict=False):
            record = lab.run(CYCLING, preset).records[0]
            readings = record.aux("pressure", source=record.source_of("pressure"))
            pressure = usable_values(readings) / 1e6
            for cycle, look in ((FIRST, FRESH), (LAST, AGED)):
                up, _, down, _ = halves_of(record, cycle)
                inside = (readings["time"] >= up.start) & (readings["time"] <= down.end)
                samples = record.samples(columns=["time", "charge"])
                charge = np.interp(readings["time"][inside], samples["time"], samples["charge"])
                specific = lab.specific(1.0, preset) * (charge - charge[0])
                label = f"cycle {cycle - 1}"
                ax.plot(specific, pressure[inside], color=colour, label=label, **look)
            ax.set_title(CELLS[preset], fontsize=9)
            ax.tick_params(labelsize=8)
            ax.set_xlabel("Charge / mAh g⁻¹")
            ax.legend(frameon=False, fontsize=8)
        axes[0].set_ylabel("Stack pressure / MPa")
    return path


def draw_spectra(lab: Lab, presets: list[str], path: Path) -> Path:
    """Impedance of the half-charged cells, after the cycling and, where it was measured, fresh."""
    kinds = ((FRESH_AND_RESTED, 0, "fresh", FRESH), (CYCLING, 1, "aged", AGED))
    with _figure(2.3 * len(presets) + 0.6, 2.1, path) as figure:
        axes = figure.subplots(1, len(presets), sharex=True, sharey=True, squeeze=False)[0]
        for ax, preset, colour in zip(axes, presets, COLOURS, strict=False):
            for experiment, part, label, look in kinds:
                if (experiment.name, preset) not in lab.ran():
                    continue
                z = half_charged(lab, experiment, part, preset).impedance
                ax.plot(z.real, -z.imag, color=colour, label=label, **look)
            ax.set_title(CELLS[preset], fontsize=9)
            ax.tick_params(labelsize=8)
            ax.set_xlabel("Re Z / Ω")
            ax.set_aspect("equal")
            ax.legend(frameon=False, fontsize=8, loc="upper left")
        # Room above the arcs for the legends; all share the axis.
        axes[0].set_ylim(top=1.75 * max(line.get_ydata().max() for line in axes[-1].lines))
        axes[0].set_ylabel("−Im Z / Ω")
    return path


@contextmanager
def _figure(width: float, height: float, path: Path) -> Iterator[Figure]:
    """A figure in inches that is saved at the end, marked as simulated."""
    try:
        agg = importlib.import_module("matplotlib.backends.backend_agg")
        made: Callable[..., Figure] = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise BadInputError(
            "figures need matplotlib, which is not installed: pip install 'operando[report]'"
        ) from error
    figure = made(figsize=(width, height), layout="constrained")
    agg.FigureCanvasAgg(figure)
    yield figure
    figure.suptitle(
        "SIMULATED DATA", x=0.995, ha="right", fontsize=7.5, fontweight="bold", color="#B00020"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=200)
