"""How close each quantity of a record came to the limits that watched it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from operando.instruments.conditions import (
    All,
    AnyOf,
    Comparison,
    Condition,
    Held,
    Magnitude,
    Operand,
    Operator,
    Slope,
)
from operando.instruments.evaluators import Compiler
from operando.instruments.histories import Dose, Fall
from operando.instruments.limits import Cause, Limit
from operando.instruments.quantities import QUANTITIES
from operando.instruments.recorder import Entry
from operando.records import JournalEntry, Record
from operando.records.reader import VALID, usable_values
from operando.station.client.predictions import Margin

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity against time: s, SI; NaN where it was not valid."""

    time: Floats
    value: Floats


def margins_of(record: Record, limits: Sequence[Limit]) -> tuple[Margin, ...]:
    """A line for each comparison of each limit, from the recorded readings.

    Ends of steps and trips are always recorded; between two recorded readings a quantity may have
    been closer. limits: bound to the cell. Raises RecordError.
    """
    acted: dict[str, JournalEntry] = {}
    for entry in record.journal(Entry.LIMIT):
        acted.setdefault(str(entry.data.get("name")), entry)
    series = _reader(record)
    return tuple(
        _margin(limit, part, series, acted.get(limit.name))
        for limit in limits
        for part in comparisons(limit.when)
    )


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """The comparisons that a condition is made of."""
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, Held):
        yield from comparisons(condition.condition)
    elif isinstance(condition, All | AnyOf):
        for part in condition.conditions:
            yield from comparisons(part)


def series_of(record: Record) -> Mapping[str, Series]:
    """Voltage and current of a record."""
    read = _reader(record)
    return {name: read(name) for name in ("voltage", "current")}


def _margin(
    limit: Limit, part: Comparison, series: Callable[[str], Series], acted: JournalEntry | None
) -> Margin:
    operand = part.operand.operand if isinstance(part.operand, Magnitude) else part.operand
    found = _computed(operand, series(operand.quantity))
    values = np.abs(found.value) if isinstance(part.operand, Magnitude) else found.value
    above = part.operator in (Operator.ABOVE, Operator.AT_LEAST)
    left = part.bound - values if above else values - part.bound
    line = Margin(
        limit=limit.name,
        when=str(limit.when),
        action=limit.action.value,
        quantity=str(part.operand),
        unit=_unit(operand),
        bound=part.bound,
        above=above,
        acted=None if acted is None else acted.time,
        silent=acted is not None and acted.data.get("cause") == Cause.STALE.value,
    )
    if not np.isfinite(left).any():
        return line
    closest = int(np.nanargmin(left))
    return line.model_copy(
        update={
            "value": float(values[closest]),
            "time": float(found.time[closest]),
            "margin": float(left[closest]),
        }
    )


def _computed(operand: Operand, series: Series) -> Series:
    """A slope, fall or dose at each reading, as a limit would compute it from these readings."""
    compute = operand._compile(Compiler(patient=True))
    if isinstance(compute, str):
        return series
    values = [
        compute(time, {operand.quantity: value}, None)
        for time, value in zip(series.time.tolist(), series.value.tolist(), strict=True)
    ]
    return Series(series.time, np.array(values, dtype=np.float64))


def _unit(operand: Operand) -> str:
    own = QUANTITIES[operand.quantity].unit
    if isinstance(operand, Slope):
        return f"{own}/s"
    return {Fall: "1", Dose: f"{own} s"}.get(type(operand), own)


def _reader(record: Record) -> Callable[[str], Series]:
    """Reads each quantity of a record once."""
    counted = {"elapsed": "step_time", "cycle": "cycle"}
    measured = ("voltage", "current", "charge", "step_charge", "energy", "time")
    samples = record.samples(columns=["status", *measured, *counted.values()])
    valid = np.isin(samples["status"], list(VALID))

    def usable(name: str) -> Floats:
        return np.where(valid, samples[name], np.nan)

    @cache
    def read(name: str) -> Series:
        if name in ("voltage", "current"):
            return Series(samples["time"], usable(name))
        if name == "power":
            return Series(samples["time"], usable("voltage") * usable("current"))
        if name in measured or name in counted:
            column = samples[counted.get(name, name)]
            return Series(samples["time"], column.astype(np.float64))
        readings = record.aux(name)
        return Series(readings["time"], usable_values(readings))

    return read


def unmeasured(limits: Iterable[Limit], measured: Iterable[str]) -> tuple[Limit, ...]:
    """Limits on something that nothing measures."""
    known = frozenset(measured)
    return tuple(limit for limit in limits if limit.when.quantities - known)
