"""The demonstration: a coated and an uncoated cell on a simulated bench, from wires to pictures."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from operando import evaluation
from operando.evaluation import figures
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError, OperandoError
from operando.instruments.recipe import load_recipe
from operando.protocols import RunState
from operando.records import Record, export_csv
from operando.station.engine import Engine, Order, Run, order_from
from operando.station.progress import show_progress
from operando.station.signals import signals_of
from operando.station.simulate import SimulatedProcess, clock_for

SPEED = 400.0
"""Laboratory seconds a wall second of the part over real sockets and serial lines."""

CHANNELS = ("A1", "A2")


class DemoFailedError(OperandoError):
    """A run of the demonstration did not complete."""


@dataclass(frozen=True)
class Part:
    """One part of the demonstration: its records by channel."""

    title: str
    records: tuple[Record, ...]


def examples_folder() -> Path:
    """Folder of the example benches and recipes, in a checkout or an installed package."""
    packaged = Path(__file__).parent / "examples"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "examples"


def run_demo(output: Path, console: Console) -> None:
    """Run the demonstration and leave its records, exports and pictures under `output`."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"{output}: cannot be made ({error.strerror}); choose another"
        ) from None
    bench = _own_bench(output / "bench")
    recipes = examples_folder() / "recipes"
    console.rule("operando demo: everything below is SIMULATED")
    console.print(
        "Two cells, NCM811 | Li6PS5Cl0.5Br0.5 | Li, one with coated and one with uncoated cathode "
        "particles.\nEach sits between a Keithley 2450 and a PT113 load cell that are simulated "
        "byte for byte.\n"
    )
    console.print(
        f"[bold]1.[/bold] One cycle at 1C over real sockets and serial lines, {SPEED:g} times "
        "faster than life"
    )
    order = order_from(load_recipe(recipes / "one-cycle-1c.toml"))
    wired = Part("one cycle at 1C, over real wires", _over_wires(bench, order, output))
    _print_results(wired, console)

    console.print(
        "[bold]2.[/bold] Formation at C/10 and three cycles at C/2, through the same drivers in "
        "virtual time"
    )
    order = order_from(load_recipe(recipes / "formation-and-cycling.toml"))
    virtual = Part("formation and cycling, virtual time", _in_virtual_time(bench, order, output))
    _print_results(virtual, console)

    exports = [
        export_csv(record, output / "bdf", institution="DEMO")
        for part in (wired, virtual)
        for record in part.records
    ]
    labels = ["coated", "uncoated"]
    pictures = [
        figures.draw_voltage_capacity(
            virtual.records, output / "voltage-capacity.png", labels=labels
        ),
        figures.draw_time_series(wired.records, output / "voltage-and-pressure.png", labels=labels),
        figures.draw_capacity_by_cycle(
            virtual.records, output / "capacity-by-cycle.png", labels=labels
        ),
    ]
    console.print("[bold]Left for you[/bold]")
    for record in (*wired.records, *virtual.records):
        console.print(f"  record   {record.folder}", soft_wrap=True)
    for export in exports:
        console.print(f"  BDF      {export.data}", soft_wrap=True)
    for picture in pictures:
        console.print(f"  picture  {picture}", soft_wrap=True)
    console.print(
        "\nAn operator's window on a simulated lab: [bold]operando gui --simulate[/bold] "
        "(in a clone: make gui)"
    )


def _own_bench(folder: Path) -> Path:
    """A copy of the example bench on ports that are free now."""
    text = (examples_folder() / "bench.toml").read_text(encoding="utf-8")
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        for wanted, probe in (("15025", first), ("15026", second)):
            text = text.replace(f"::{wanted}::", f"::{probe.getsockname()[1]}::")
    text = re.sub(r"^speed = .*$", f"speed = {SPEED:g}", text, count=1, flags=re.MULTILINE)
    if sys.platform == "win32":  # no pseudo-terminals there: serial lines over sockets instead
        for number in (1, 2):
            text = text.replace(
                f"serial:ports/load{number}?baud=9600",
                f"serial:socket://127.0.0.1:{15030 + number}",
            )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _over_wires(bench: Path, order: Order, output: Path) -> tuple[Record, ...]:
    described = load_bench(bench)
    with SimulatedProcess(bench):
        runs = run_coroutine(_run_all(Engine(described, clock_for(described)), order, output))
    return _records(runs)


def _in_virtual_time(bench: Path, order: Order, output: Path) -> tuple[Record, ...]:
    engine = Engine(load_bench(bench), Clock("virtual"))
    return _records(run_coroutine(_run_all(engine, order, output), virtual=True))


async def _run_all(engine: Engine, order: Order, output: Path) -> list[Run]:
    async with engine:
        virtual = engine.clock.mode == "virtual"
        with (
            signals_of(engine, virtual=virtual),
            show_progress(engine, dict.fromkeys(CHANNELS, order)),
        ):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(engine.run(channel, order, output / "records"))
                    for channel in CHANNELS
                ]
        return [task.result() for task in tasks]


def _records(runs: list[Run]) -> tuple[Record, ...]:
    for run in runs:
        if run.result.state is not RunState.COMPLETED:
            raise DemoFailedError(
                f"{run.folder.name} ended {run.result.state.value}: {run.result.reason}"
            )
    return tuple(Record.open(run.folder) for run in runs)


def _print_results(part: Part, console: Console) -> None:
    table = Table("cell", "cycle", "charge\nmAh/g", "discharge\nmAh/g", "coulombic\nefficiency",
                  "CV time", "pressure swing\non charge", title=part.title)  # fmt: skip
    for record in part.records:
        for row in evaluation.cccv(record).rows():
            table.add_row(
                str(row["cell"]),
                str(row["cycle"]),
                f"{row['charge_capacity_mAh_per_g']:.1f}",
                f"{row['discharge_capacity_mAh_per_g']:.1f}",
                f"{row['coulombic_efficiency_percent']:.1f} %",
                f"{float(row['constant_voltage_time_s']) / 60.0:.1f} min",
                f"{row['pressure_swing_MPa']:+.3f} MPa",
            )
    console.print(table)
