"""Runs on a channel of the example laboratory in virtual time, with what the channel needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from operando.instruments.bench import Bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.limits import Limit
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Plan, RunResult, RunState
from operando.records import Record
from operando.station.engine import Engine, Order
from support.laboratory import EXAMPLES

LAB = EXAMPLES / "lab.toml"


@dataclass(frozen=True)
class LabRun:
    """A run that has ended. cell: the simulated one, in the state that the run left. now: s."""

    record: Record
    result: RunResult
    cell: Any
    simulation: Any
    now: float


def bench_of(channel: str, *, shared: bool = False) -> Bench:
    """The example laboratory with one channel alone. shared: with its glovebox and room sensors."""
    lab = load_bench(LAB)
    entry = lab.channels[channel]
    if not shared:
        driven = tuple(name for name in entry.shared if name.startswith("oven"))
        entry = replace(entry, shared=driven)
    used = {*entry.roles.values(), *entry.shared}
    return replace(
        lab,
        channels={channel: entry},
        instruments={name: lab.instruments[name] for name in lab.instruments if name in used},
        cells={entry.cell: lab.cells[entry.cell]},
    )


def run_on_lab(
    plan: Plan,
    channel: str,
    folder: Path,
    *,
    limits: Sequence[Limit] = (),
    record: RecordConditions | None = None,
    poll: Poll | None = None,
    shared: bool = False,
    before: Callable[[Any, float], None] | None = None,
    completed: bool = True,
) -> LabRun:
    """Run a plan on a channel; fail unless it completed, or whatever it did if `completed` is not.

    before: told of the simulation and the time before the run begins, to prepare the cell.
    """
    order = Order(
        plan,
        limits=tuple(limits),
        record=record or RecordConditions(every=10.0),
        poll=poll or Poll(interval=5.0),
    )
    ran = run_order(bench_of(channel, shared=shared), channel, order, folder, before=before)
    if completed:
        assert ran.result.state is RunState.COMPLETED, ran.result.reason
    return ran


def run_order(
    bench: Bench,
    channel: str,
    order: Order,
    folder: Path,
    *,
    before: Callable[[Any, float], None] | None = None,
) -> LabRun:
    """Carry an order out on a bench in virtual time; fail if an output stayed on."""

    async def execute() -> LabRun:
        clock = Clock("virtual")
        async with Engine(bench, clock) as engine:
            simulation: Any = engine.simulation
            if before is not None:
                before(simulation, clock.now())
            run = await engine.run(channel, order, folder)
            cell = simulation.cells[bench.channels[channel].cell]
            return LabRun(Record.open(run.folder), run.result, cell, simulation, clock.now())

    ran = run_coroutine(execute(), virtual=True)
    assert not any(ran.simulation.relays().values()), "an output stayed on"
    return ran
