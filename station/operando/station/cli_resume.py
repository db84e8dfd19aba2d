"""`operando resume`: go on with a run whose program died."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from operando.instruments.clock import run as run_coroutine
from operando.instruments.quantities import format_quantity
from operando.records import Record
from operando.station.cli_end import end_of_run
from operando.station.client.discovery import station_of
from operando.station.engine import Engine, Run
from operando.station.progress import show_progress
from operando.station.resume import TakenUp
from operando.station.sheets import limit_lines, print_sheet
from operando.station.signals import signals_of
from operando.station.simulate import bench_at, clock_for


def resume(
    record: Annotated[Path, typer.Argument(help="Folder of the record; its state is killed.")],
    bench: Annotated[Path, typer.Option("--bench", help="The bench file.")],
    speed: Annotated[
        float | None,
        typer.Option(
            help="Laboratory seconds a wall second; replaces the speed of the bench's clock."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Go on with a run whose program died: through the station of the bench if there is one.

    Nothing is run twice: the step that was under way goes on with the time and charge that it had.
    Exit codes and signals as of `operando run`; 2 when the run cannot go on: nothing was driven.
    """
    described = bench_at(bench, speed)
    station = station_of(bench)
    if station is not None:
        from operando.station.remote import resume_through

        through = resume_through(station, Record.open(record), speed=speed, quiet=as_json)
        end_of_run(through.result, through.folder, as_json)
        return
    clock = clock_for(described)

    async def execute() -> Run:
        async with Engine(described, clock) as engine:
            with signals_of(engine, virtual=False), contextlib.ExitStack() as stack:
                run = engine.resume(record)
                if not as_json and run.again is not None:
                    _tell(run.again)
                    print_sheet(limit_lines(run.settled, described, clock))
                    stack.enter_context(show_progress(engine, {run.channel: run.order}))
                return await engine.execute(run, record.parent)

    ended = run_coroutine(execute())
    end_of_run(ended.result, ended.folder, as_json)


def _tell(again: TakenUp) -> None:
    """Say where a run goes on."""
    resumption = again.resumption
    over = len(resumption.over)
    until = format_quantity(resumption.history.noted_until, "s")
    step = f"step {over + 1} ('{resumption.group[0].label}')" if resumption.group else "its end"
    Console(highlight=False, soft_wrap=True).print(
        f"known until {until} after its start; {over} steps are over, it goes on with {step}",
        markup=False,
    )
