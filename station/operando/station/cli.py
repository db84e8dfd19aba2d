"""The command `operando`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import (
    BadInputError,
    InstrumentError,
    OperandoError,
)
from operando.instruments.recipe import load_recipe
from operando.protocols import contradictions
from operando.station import cli_station
from operando.station.assembly import simulated_bench
from operando.station.cli_check import check
from operando.station.cli_discover import discover
from operando.station.cli_drivers import drivers
from operando.station.cli_end import end_of_run
from operando.station.cli_new import new, protocols
from operando.station.cli_records import records
from operando.station.cli_resume import resume
from operando.station.client.discovery import station_of
from operando.station.engine import Engine, Run
from operando.station.orders import order_from, settle
from operando.station.progress import show_progress
from operando.station.sheets import limit_lines, print_sheet
from operando.station.signals import signals_of
from operando.station.simulate import bench_at, clock_for, serve

app = typer.Typer(
    name="operando",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(records, name="records")
app.command()(cli_station.station)
app.command()(cli_station.gui)
app.command()(check)
app.command()(discover)
app.command()(drivers)
app.command()(resume)
app.command()(protocols)
app.add_typer(new, name="new")

EXIT_BAD_INPUT = 2
EXIT_ABORTED = 4
EXIT_INSTRUMENT = 5


def _print_version(asked: bool) -> None:
    if asked:
        print(f"operando {importlib.metadata.version('operando')}")
        raise typer.Exit


@app.callback()
def operando(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Run battery experiments on real and simulated instruments."""


BenchOption = Annotated[Path, typer.Option("--bench", help="The bench file.")]
ChannelOption = Annotated[str, typer.Option("--channel", help="Channel of the bench.")]
SpeedOption = Annotated[
    float | None,
    typer.Option(help="Laboratory seconds a wall second; replaces the speed of the bench's clock."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line; errors of ours become one message and an exit code."""
    try:
        app()
    except BadInputError as error:
        fail(str(error), EXIT_BAD_INPUT)
    except InstrumentError as error:
        fail(str(error), EXIT_INSTRUMENT)
    except OperandoError as error:
        fail(str(error), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        fail("stopped", EXIT_ABORTED)


def fail(message: str, code: int) -> NoReturn:
    """Print an error to standard error and leave."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(message, style="bold red", markup=False)
    sys.exit(code)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe file.")],
    bench: BenchOption,
    channel: ChannelOption,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Simulate the bench in virtual time: takes no time.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder in which the record is made; 'runs' if left out.")
    ] = None,
    speed: SpeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe on a channel: through the station of the bench if there is one.

    Exit codes: 0 completed, 2 bad input, 3 tripped, 4 aborted, 5 instrument fault. Ctrl-C and
    SIGTERM switch off, read back, and end the run. SIGUSR1 pauses, SIGUSR2 resumes.
    """
    described = bench_at(bench, speed)
    order = order_from(load_recipe(recipe), described.scripts)
    if not as_json:
        settled = settle(described, channel, order)
        print_sheet(limit_lines(settled, described, clock_for(described)))
        for warning in contradictions(settled.limits, settled.settings.protection):
            Console(highlight=False).print(f"this run will be ended by a limit: {warning}")
        for warning in settled.warnings:
            Console(highlight=False).print(f"note: {warning}", markup=False)
    station = None if virtual else station_of(bench)
    if station is not None:
        from operando.station.remote import run_through

        through = run_through(
            station,
            channel,
            order,
            str(recipe.absolute()),
            speed=speed,
            output=output,
            quiet=as_json,
        )
        end_of_run(through.result, through.folder, as_json)
        return
    clock = clock_for(described, virtual=virtual)

    async def execute() -> Run:
        async with Engine(described, clock) as engine:
            with signals_of(engine, virtual=virtual), contextlib.ExitStack() as stack:
                if not as_json:
                    stack.enter_context(show_progress(engine, {channel: order}))
                return await engine.run(channel, order, output or Path("runs"))

    ended = run_coroutine(execute(), virtual=virtual)
    end_of_run(ended.result, ended.folder, as_json)


@app.command()
def simulate(
    bench: Annotated[Path, typer.Argument(help="The bench file.")],
    speed: SpeedOption = None,
    by_station: Annotated[bool, typer.Option("--by-station", hidden=True)] = False,
) -> None:
    """Serve the simulated instruments of a bench at exactly its addresses, until Ctrl-C.

    One JSON line an instrument, then {"ready": true}. Standard input takes commands, one JSON
    line each: {"inject": "smu1", "fault": "silence"}, {"relays": true}, {"charges": true}.
    """
    described = bench_at(bench, speed)

    async def execute() -> None:
        loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(
            serve(
                described,
                clock_for(described),
                sys.stdin.fileno(),
                sys.stdout,
                station=str(bench.resolve()) if by_station else "",
            )
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(serving.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    run_coroutine(execute())


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for records and pictures.")] = Path(
        "demo-output"
    ),
) -> None:
    """Cycle and age coated and uncoated cells on simulated benches and draw the results."""
    from operando.station.demo import run_demo

    run_demo(output, Console())


@app.command()
def presets(as_json: JsonOption = False) -> None:
    """List the presets of simulated cells."""
    found: dict[str, str] = simulated_bench().presets()
    if as_json:
        print(json.dumps(found))
        return
    table = Table("preset", "cell")
    for name, summary in found.items():
        table.add_row(name, summary)
    Console().print(table)
