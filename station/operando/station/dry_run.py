"""Dry runs: a recipe on the simulated twin of its channel, in virtual time, before it is started.

What comes out is SIMULATED. It is as good as the preset that the bench states for the cell, and the
twin's cell is a fresh one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operando.instruments.bench import Bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError, InstrumentError
from operando.instruments.quantities import format_quantity
from operando.instruments.recorder import Entry
from operando.instruments.samples import Origin
from operando.protocols import RunState
from operando.protocols.tally import ELECTRICAL
from operando.records import Record
from operando.records.view import RecordView
from operando.station.assembly import driver_info
from operando.station.client.predictions import (
    Extreme,
    PredictedCurve,
    PredictedState,
    PredictedStep,
    Prediction,
)
from operando.station.details import cycles_of
from operando.station.engine import Engine, Run
from operando.station.margins import Series, margins_of, series_of, unmeasured
from operando.station.orders import Order, settle
from operando.station.progress import show_progress
from operando.station.signals import signals_of
from operando.station.twin import Twin, twin_of

LOOK: Final = 30.0
"""Virtual s between two looks at the wall's clock and at whether the run waits for an operator."""

BINS: Final = 600
"""Bins of a predicted curve."""

_OPEN = frozenset({"cut", "stopped", "held"})
"""States after which it is not known when the run would end."""

OTHER_CELL: Final = 0.1
"""Difference of the twin's capacity from the stated one, relative, of which it is told. Ours."""

Floats = npt.NDArray[np.float64]


def predict(
    bench: Bench,
    channel: str,
    order: Order,
    *,
    output: Path | None = None,
    at_most: float | None = None,
    watched: bool = False,
    then: Callable[[Record], object] | None = None,
) -> Prediction:
    """Carry an order out on the twin of its channel in virtual time.

    output: folder in which the dry record is kept; None keeps none. at_most: wall s after which
    the prediction is cut and says so. watched: show progress if there is a terminal, and let
    Ctrl-C cut it; for the main thread. then: told of the dry record while it is there. Raises
    BadInputError for what a run would be refused for, and where there is no twin.
    """
    twin = twin_of(bench, channel)
    order, missing = _on_twin(twin, channel, order)
    settled = settle(twin.bench, channel, order)
    began, made = time.monotonic(), time.time()
    with _folder(output) as folder:
        deadline = math.inf if at_most is None else began + at_most
        dry = run_coroutine(_run(twin, channel, order, folder, deadline, watched), virtual=True)
        record = Record.open(dry.run.folder)
        if then is not None:
            then(record)
        state, reason = _end(dry, at_most)
        # A hold lasts until somebody comes: the run is predicted up to there.
        last = Entry.PAUSED if dry.held else Entry.RUN_ENDED
        duration = record.journal(last)[-1].time
        own, size = twin.cell.capacity, dry.capacity
        notes = list(twin.notes)
        if own and size and abs(size - own) > OTHER_CELL * own:
            notes.insert(
                0,
                f"the preset {twin.cell.preset} is a cell of {_mah(size)}, and {_mah(own)} is "
                "stated for this one: rates are of the stated capacity, times and charges of "
                "another cell",
            )
        bound = tuple(limit.bind(**_sizes(twin)) for limit in missing)
        return Prediction(
            channel=channel,
            cell=twin.cell.name,
            preset=twin.cell.preset,
            seed=twin.cell.seed,
            state=state,
            reason=reason,
            made=made,
            duration=duration,
            finish=made + duration if state not in _OPEN else None,
            computed=time.monotonic() - began,
            size=sum(path.stat().st_size for path in dry.run.folder.rglob("*") if path.is_file()),
            margins=margins_of(record, (*settled.limits, *bound)),
            notes=tuple(notes),
            folder=str(dry.run.folder) if output is not None else "",
            **_summary(record),
        )


def _mah(charge: float) -> str:
    return format_quantity(charge, "As")


def _sizes(twin: Twin) -> dict[str, float]:
    cell = twin.cell
    return {"capacity": cell.capacity, "area": cell.area, "mass": cell.active_mass}


def _on_twin(twin: Twin, channel: str, order: Order) -> tuple[Order, tuple[Any, ...]]:
    """The order without the limits on what the twin does not measure, and those limits."""
    measured = set(ELECTRICAL)
    for name in twin.bench.channels[channel].instruments:
        measured.update(driver_info(twin.bench.instruments[name].driver).measures)
    missing = unmeasured(order.limits, measured)
    kept = tuple(limit for limit in order.limits if limit not in missing)
    return replace(order, limits=kept), missing


@contextlib.contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="operando-dry-run-") as folder:
        yield Path(folder)


# ---- the run -------------------------------------------------------------------------------


@dataclass
class _DryRun:
    """What a dry run left. capacity: nominal one of the twin's cell, C, 0.0 if it has none.

    held: why the circuit was opened for an operator, "" if it was not. cut: it was stopped because
    its time was up.
    """

    run: Run
    capacity: float
    held: str = ""
    cut: bool = False


async def _run(
    twin: Twin, channel: str, order: Order, folder: Path, deadline: float, watched: bool
) -> _DryRun:
    clock = Clock("virtual")
    try:
        async with Engine(twin.bench, clock) as engine:
            simulation: Any = engine.simulation
            capacity = getattr(simulation.cells[twin.cell.name], "nominal_capacity", 0.0)
            with contextlib.ExitStack() as stack:
                if watched:
                    stack.enter_context(signals_of(engine, virtual=True))
                    stack.enter_context(show_progress(engine, {channel: order}))
                running = asyncio.ensure_future(engine.run(channel, order, folder))
                looking = asyncio.ensure_future(_look_on(engine, channel, deadline))
                try:
                    run = await running
                finally:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)
            held, cut = ("", False) if looking.cancelled() else looking.result()
            return _DryRun(run, float(capacity), held, cut)
    except InstrumentError as error:
        raise BadInputError(
            f"the twin of channel {channel} cannot be driven: {error}. Options of a simulated "
            "instrument that fit its settings belong into [instruments.NAME.simulated]"
        ) from error


async def _look_on(engine: Engine, channel: str, deadline: float) -> tuple[str, bool]:
    """Stop a run that waits for an operator or takes too long.

    Returns why it was held, and whether it was cut.
    """
    while True:
        await engine.clock.sleep(LOOK)
        runner = engine.runners.get(channel)
        if runner is not None and runner.state is RunState.HELD:
            reason = runner.reason
            engine.stop_all("nobody resumes a dry run")
            return reason, False
        if time.monotonic() >= deadline:
            engine.stop_all("the time for this dry run is up")
            return "", True


def _end(dry: _DryRun, at_most: float | None) -> tuple[PredictedState, str]:
    """How the run is predicted to end, and why."""
    result = dry.run.result
    came = format_quantity(result.duration, "s")
    if dry.held:
        return "held", f"{dry.held}; it waits there for an operator"
    if dry.cut and result.state is RunState.ABORTED:
        limit = format_quantity(at_most or 0.0, "s")
        return "cut", f"after {limit} of computing it had come to {came} of the run"
    if result.state is RunState.ABORTED:
        return "stopped", f"{result.reason}, when it had come to {came} of the run"
    states: dict[RunState, PredictedState] = {
        RunState.COMPLETED: "completed",
        RunState.TRIPPED: "tripped",
        RunState.REFUSED: "refused",
    }
    return states.get(result.state, "faulted"), result.reason


# ---- the record ----------------------------------------------------------------------------


def _summary(record: Record) -> dict[str, Any]:
    """What a dry record tells, by field of `Prediction`."""
    ((rows,),) = record.rows("SELECT COUNT(*) FROM samples")
    ((readings,),) = record.rows("SELECT COUNT(*) FROM aux")
    steps = _steps(record)
    electrical = series_of(record)
    return {
        "rows": rows,
        "readings": readings,
        "steps": steps,
        "cycles": tuple(cycles_of(record)),
        "lowest_voltage": _extreme(electrical["voltage"], np.nanargmin),
        "highest_voltage": _extreme(electrical["voltage"], np.nanargmax),
        "lowest_current": _extreme(electrical["current"], np.nanargmin),
        "highest_current": _extreme(electrical["current"], np.nanargmax),
        "on_board": sum(step.on_board for step in steps),
        "curves": _curves(record),
    }


def _steps(record: Record) -> tuple[PredictedStep, ...]:
    samples = record.samples(columns=["step_count", "voltage", "origin"])
    counts, voltages = samples["step_count"], samples["voltage"]
    stored = set(counts[samples["origin"] == Origin.INSTRUMENT.value].tolist())
    # The last of each step that has a voltage.
    known = np.flatnonzero(np.isfinite(voltages))
    last = dict(zip(counts[known].tolist(), voltages[known].tolist(), strict=True))
    return tuple(
        PredictedStep(
            index=step.index,
            label=step.label,
            cycle=step.cycle,
            start=step.start,
            duration=_finite(step.duration),
            charge=_finite(step.charge),
            end_voltage=last.get(step.index),
            reason=step.reason or "",
            on_board=step.index in stored,
        )
        for step in record.steps()
    )


def _extreme(series: Series, find: Callable[[Floats], np.intp]) -> Extreme | None:
    if not np.isfinite(series.value).any():
        return None
    at = int(find(series.value))
    return Extreme(value=float(series.value[at]), time=float(series.time[at]))


def _curves(record: Record) -> tuple[PredictedCurve, ...]:
    view = RecordView(record.folder)
    view.update()
    names = [name for name in view.quantities if name not in ("charge", "step_charge")]
    return tuple(
        PredictedCurve(
            quantity=name,
            time=tuple(curve.time.tolist()),
            value=tuple(_finite(value) for value in curve.value.tolist()),
        )
        for name, curve in view.curves(names, bins=BINS).items()
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# ---- to compare with ------------------------------------------------------------------------
