"""The demonstration: simulated cells are cycled over real wires, and aged in virtual time."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Sequence
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

RETENTIONS = {"CAEC": 0.810, "LiNbO₃": 0.742, "bare": 0.691}
"""Names of the cells of `three-coatings.toml` in the order of its channels, and the share of its
capacity that each keeps over 100 cycles at C/2: Kim et al., Energy Storage Materials 2026, 105167,
section 3.3. The presets were set by these numbers."""

FIRST_DISCHARGES = {"CAEC": 202.30, "LiNbO₃": 195.99}
"""First discharge at C/10, mAh/g, of the same cells where it is published, and set by it too."""

SHOWN = (1, 25, 50, 75, 100)
"""Cycles at C/2 that are printed."""

FORMATION = 1
"""Cycles of `recipes/ageing.toml` before those."""

PRESSURE_AGE = 90.0
"""How far from the ends of a charge its pressure may be read, s: it is polled every two minutes."""


class DemoFailedError(OperandoError):
    """A run of the demonstration did not complete."""


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
        "Cells of NCM811 | Li6PS5Cl0.5Br0.5 | Li with coated or uncoated cathode particles.\n"
        "Each sits between a Keithley 2450 and a PT113 load cell that are simulated byte for "
        "byte.\n"
    )
    console.print(
        f"[bold]1.[/bold] One cycle at 1C over real sockets and serial lines, {SPEED:g} times "
        "faster than life"
    )
    order = order_from(load_recipe(recipes / "one-cycle-1c.toml"))
    wired = _over_wires(bench, order, output)
    print_cycles(wired, console)

    console.print(
        "[bold]2.[/bold] Three cells age: 100 cycles at C/2, three weeks of laboratory time, "
        "through the same drivers in virtual time"
    )
    order = order_from(load_recipe(recipes / "ageing.toml"))
    aged = in_virtual_time(examples_folder() / "three-coatings.toml", order, output)
    print_ageing(aged, console)

    exports = [export_csv(record, output / "bdf", institution="DEMO") for record in (*wired, *aged)]
    pictures = [
        draw_ageing(aged, output / "ageing.png"),
        figures.draw_voltage_capacity(
            aged, output / "voltage-capacity.png", labels=list(RETENTIONS)
        ),
        figures.draw_time_series(
            wired, output / "voltage-and-pressure.png", labels=["coated", "uncoated"]
        ),
    ]
    console.print("[bold]Left for you[/bold]")
    for record in (*wired, *aged):
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


def in_virtual_time(bench: Path, order: Order, output: Path) -> tuple[Record, ...]:
    """Carry out an order on every channel of a bench in virtual time; the records, by channel."""
    engine = Engine(load_bench(bench), Clock("virtual"))
    return _records(run_coroutine(_run_all(engine, order, output), virtual=True))


async def _run_all(engine: Engine, order: Order, output: Path) -> list[Run]:
    async with engine:
        virtual = engine.clock.mode == "virtual"
        channels = sorted(engine.bench.channels)
        with (
            signals_of(engine, virtual=virtual),
            show_progress(engine, dict.fromkeys(channels, order)),
        ):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(engine.run(channel, order, output / "records"))
                    for channel in channels
                ]
        return [task.result() for task in tasks]


def _records(runs: list[Run]) -> tuple[Record, ...]:
    for run in runs:
        if run.result.state is not RunState.COMPLETED:
            raise DemoFailedError(
                f"{run.folder.name} ended {run.result.state.value}: {run.result.reason}"
            )
    return tuple(Record.open(run.folder) for run in runs)


def print_cycles(records: Sequence[Record], console: Console) -> None:
    """Print each cycle of records in a table."""
    table = Table("cell", "cycle", "charge\nmAh/g", "discharge\nmAh/g", "coulombic\nefficiency",
                  "CV time", "pressure swing\non charge", title="SIMULATED")  # fmt: skip
    for record in records:
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


def print_ageing(records: Sequence[Record], console: Console) -> None:
    """Print how the cells of `three-coatings.toml` aged, and what of it is a prediction."""
    table = Table("cell", "cycle", "discharge\nmAh/g", "kept", "polarisation\nmV",
                  "pressure\nswing MPa", "published,\ncalibrated",
                  title="ageing, SIMULATED")  # fmt: skip
    for record, (name, retention) in zip(records, RETENTIONS.items(), strict=True):
        result = evaluation.cccv(record, max_age=PRESSURE_AGE)
        forming, *cycling = result.rows()
        rows = {"C/10": forming} | {str(n): row for n, row in enumerate(cycling, 1) if n in SHOWN}
        published = {str(SHOWN[-1]): f"{100.0 * retention:.1f} %"}
        if name in FIRST_DISCHARGES:
            published["C/10"] = f"{FIRST_DISCHARGES[name]:.1f}"
        for cycle, row in rows.items():
            kept = float(row["discharge_capacity_mAh_per_g"]) / float(
                rows["1"]["discharge_capacity_mAh_per_g"]
            )
            table.add_row(
                name,
                cycle,
                f"{row['discharge_capacity_mAh_per_g']:.1f}",
                f"{100.0 * kept:.1f} %" if row is not forming else "",
                f"{1e3 * float(row['mean_polarisation_V']):.0f}",
                f"{row['pressure_swing_MPa']:+.3f}",
                published.get(cycle, ""),
            )
        table.add_section()
    console.print(table)
    console.print(
        "The last column is what Kim et al. (Energy Storage Materials 2026, 105167, section 3.3) "
        "measured. The simulated cells were [bold]calibrated[/bold] with it, so that agreement "
        "there proves nothing. All else is what the model makes of it; the size of the pressure "
        "follows from an assumed load frame of 10 N/µm. What was never fitted, and what is "
        "missed: [bold]operando validate[/bold].\n"
    )


def draw_ageing(records: Sequence[Record], path: Path) -> Path:
    """Draw the cells of `three-coatings.toml` fresh and aged; returns the picture."""
    return figures.draw_ageing(
        records,
        path,
        labels=list(RETENTIONS),
        cycles=(1 + FORMATION, SHOWN[-1] + FORMATION),
        calibrated=RETENTIONS,
    )
