"""A prediction on the terminal."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from operando.instruments.quantities import format_quantity
from operando.instruments.words import condition_text_words, quantity_words, tidy
from operando.station.client.predictions import (
    Extreme,
    Margin,
    Prediction,
    margin_words,
    value_words,
)

MOST = 16
"""Rows of steps and of cycles that are printed; --json has all."""

NO_CHARGE = 1e-9
"""What a rest counts of the noise of its current is no charge, C."""

_WORDS = {
    "completed": "it would complete",
    "tripped": "it would TRIP",
    "held": "it would be HELD",
    "faulted": "it would FAIL",
    "refused": "it would be REFUSED",
    "cut": "CUT before its end",
    "stopped": "STOPPED before its end",
}


def print_prediction(prediction: Prediction) -> None:
    """Print what a run would do. It is SIMULATED, and says so."""
    console = Console(highlight=False, soft_wrap=True)
    colour = "green" if prediction.state == "completed" else "bold red"
    console.print(
        f"\n[bold]SIMULATED[/bold]: predicted on a fresh cell of the preset {prediction.preset}, "
        f"seed {prediction.seed}"
    )
    for note in prediction.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"{_WORDS[prediction.state]}: {prediction.reason}", style=colour, markup=False)
    console.print(", ".join(_times(prediction)))
    console.print(
        f"record: {prediction.rows:,} rows and {prediction.readings:,} readings of other "
        f"instruments, {size_words(prediction.size)}"
    )
    voltages = _range(prediction.lowest_voltage, prediction.highest_voltage, "V")
    currents = _range(prediction.lowest_current, prediction.highest_current, "A")
    console.print(f"voltage {voltages}; current {currents}")
    console.print(
        f"{prediction.on_board} of {len(prediction.steps)} steps on board of the instrument"
    )
    console.print(_margins(prediction))
    console.print(_steps(prediction))
    if prediction.cycles:
        console.print(_cycles(prediction))
    if prediction.folder:
        console.print(f"SIMULATED record in {prediction.folder}", markup=False)


def size_words(size: int) -> str:
    """Bytes for people: "516 kB"."""
    for unit, scale in (("B", 1.0), ("kB", 1e3), ("MB", 1e6)):
        if size < 999.5 * scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 1e9:,.3g} GB"


def moment_words(at: float) -> str:
    """A Unix time in UTC and on this computer: "2026-03-01 14:05 UTC (15:05 here)"."""
    moment = datetime.fromtimestamp(at, UTC)
    here = moment.astimezone()
    local = f"{here:%H:%M}" if here.date() == moment.date() else f"{here:%Y-%m-%d %H:%M}"
    return f"{moment:%Y-%m-%d %H:%M} UTC ({local} here)"


def _times(prediction: Prediction) -> list[str]:
    duration = format_quantity(_whole(prediction.duration), "s")
    if prediction.finish is None:
        return [f"predicted up to {duration}"]
    ends = moment_words(prediction.finish)
    return [f"it lasts {duration}", f"started now it ends at {ends}"]


def _whole(seconds: float) -> float:
    return float(math.floor(seconds + 0.5))


def _range(low: Extreme | None, high: Extreme | None, unit: str) -> str:
    if low is None or high is None:
        return "not known"
    return f"{quantity_words(low.value, unit)} to {quantity_words(high.value, unit)}"


def _margins(prediction: Prediction) -> Table:
    table = Table("limit", "acts when", "closest", "at", "margin", title="SIMULATED: limits")
    for margin in prediction.margins:
        value = _closest(margin)
        at = "" if margin.time is None else format_quantity(_whole(margin.time), "s")
        style = "bold red" if margin.acted is not None else None
        table.add_row(margin.limit, condition_text_words(margin.when), value, at,
                      margin_words(margin), style=style)  # fmt: skip
    return table


def _closest(margin: Margin) -> str:
    if margin.value is None:
        return ""
    if margin.unit == "K":  # a temperature, not a difference
        return quantity_words(margin.value, "K")
    return value_words(margin.value, margin.unit)


def _steps(prediction: Prediction) -> Table:
    table = Table("step", "cycle", "lasts", "charge", "end voltage", "ended by",
                  title="SIMULATED: steps")  # fmt: skip
    for step in prediction.steps[:MOST]:
        table.add_row(
            step.label,
            str(step.cycle),
            "" if step.duration is None else format_quantity(_whole(step.duration), "s"),
            _moved(step.charge),
            "" if step.end_voltage is None else quantity_words(step.end_voltage, "V"),
            step.reason,
        )
    left = len(prediction.steps) - MOST
    if left > 0:
        table.caption = f"and {left} more; --json has all"
    return table


def _cycles(prediction: Prediction) -> Table:
    table = Table("cycle", "charge", "discharge", "efficiency", title="SIMULATED: cycles")
    cycles = prediction.cycles
    # The first and the last ones, where there are many.
    shown = cycles if len(cycles) <= MOST else (*cycles[: MOST // 2], *cycles[-MOST // 2 :])
    for cycle in shown:
        efficiency = cycle.coulombic_efficiency
        table.add_row(
            str(cycle.cycle),
            _charge(cycle.charge_capacity),
            _charge(cycle.discharge_capacity),
            "" if efficiency is None else f"{100.0 * efficiency:.2f} %",
        )
    if len(shown) < len(cycles):
        table.caption = f"{len(cycles) - len(shown)} between them are left out; --json has all"
    return table


def _moved(charge: float | None) -> str:
    if charge is None or abs(charge) < NO_CHARGE:
        return "" if charge is None else "0"
    return tidy(format_quantity(charge, "As"))


def _charge(charge: float | None) -> str:
    return "" if charge is None else format_quantity(charge, "As", digits=4)
