"""The simulated laboratory of a validation: published protocols through instruments and drivers.

Each experiment is run on a bench of its own, in virtual time: recipe, engine, drivers, bytes,
simulated source meter and load cell, simulated cell, record. What is known of it afterwards is
read from the record, as a user would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from operando import evaluation
from operando.evaluation.cccv import Cycle
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import parse_recipe
from operando.protocols import RunState
from operando.records import Record
from operando.simulators.cell import load_preset
from operando.station.engine import Engine, order_from
from operando.validation.direct import CellFailedError, DirectCell, direct_resistance

BENCH = """
[instruments.smu]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::15025::SOCKET"
[instruments.smu.simulated]
cell = "{name}"

[instruments.load]
driver = "pt113"
address = "serial:ports/load?baud=9600"
[instruments.load.settings]
unit = "N"
piston_area = "1.3273 cm2"
[instruments.load.simulated]
cell = "{name}"

[channels.A1]
cell = "{name}"
potentiostat = "smu"
load_cell = "load"

[cells.{name}]
active_mass = "{mass:.6g} mg"
one_c = "{one_c:.6g} mA/g"
area = "{area:.6g} cm2"
preset = "{preset}"
"""

RECIPE = """
title = "{title}"
protocol = "cccv"
[parameters]
{parameters}
rest = "10 min"
[poll]
interval = "{poll:g} s"
[record]
every = "{every:g} s"
on_change = {{ voltage = "2 mV" }}
"""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Recipes that are run one after another on one cell. poll, every: s, see the recipe file."""

    name: str
    recipes: tuple[str, ...]
    poll: float = 10.0
    every: float = 120.0


def _cycling(name: str, cycles: int, upper: float) -> Experiment:
    return Experiment(
        name,
        (
            f"formation_cycles = 1\ncycles = {cycles}\n"
            f'charge_rate = "C/2"\ndischarge_rate = "C/2"\ncv_cutoff = "0.05C"\n'
            f'window = ["2.5 V", "{upper:g} V"]',
        ),
    )


def _slow_charge(rate: str) -> str:
    return (
        f'cycles = 1\ncharge_rate = "C/10"\ndischarge_rate = "{rate}"\n'
        'cv_cutoff = "0.05C"\nwindow = ["2.5 V", "4.25 V"]'
    )


FORMATION = 'formation_cycles = 1\ncycles = 0\nwindow = ["2.5 V", "4.25 V"]'

RATES = ("C/10", "0.2C", "0.33C", "C/2", "1C", "2C", "C/10")
"""Discharge rates of the rate test, one cycle each (the number is not published), the last to
see what is recovered."""

FIRST_CYCLE = Experiment("first-cycle", (FORMATION,))
RATE_TEST = Experiment("rate-test", (FORMATION, *map(_slow_charge, RATES)), poll=5.0)
TITANATE = Experiment(
    "titanate",
    ('formation_cycles = 1\ncycles = 0\nwindow = ["0.95 V", "2.7 V"]',),
)
"""The first cycle against a counter electrode at 1.55 V."""
CYCLING = _cycling("cycling-4.25", 100, 4.25)
STRESS = _cycling("cycling-4.35", 50, 4.35)


@dataclass(frozen=True, slots=True)
class Ran:
    """What an experiment left: its records in order, the cell afterwards, the time it took, s."""

    records: tuple[Record, ...]
    cell: DirectCell
    seconds: float

    @property
    def cycles(self) -> tuple[Cycle, ...]:
        """All cycles of all records, evaluated."""
        return tuple(cycle for record in self.records for cycle in evaluation.cccv(record).cycles)


@dataclass
class Lab:
    """Runs each experiment once per preset and keeps the records. folder: where they lie.

    quick: leave out what takes long. draws, seed: of the prior-predictive intervals.
    say: told what begins.
    """

    folder: Path
    quick: bool = True
    draws: int = 0
    seed: int = 1
    say: Callable[[str], None] = lambda _: None
    _ran: dict[tuple[str, str], Ran] = field(default_factory=dict)
    _aged: dict[tuple[str, str], float] = field(default_factory=dict)

    def run(self, experiment: Experiment, preset: str) -> Ran:
        """The records of an experiment on the nominal cell of a preset, run when first asked for.

        Raises CellFailedError if a run did not complete, KeyError for an unknown preset.
        """
        key = (experiment.name, preset)
        if key not in self._ran:
            self.say(f"{experiment.name} of {preset}, through the instruments")
            self._ran[key] = run_experiment(experiment, preset, self.folder)
        return self._ran[key]

    def ran(self) -> Mapping[tuple[str, str], Ran]:
        """What has been run, by name of the experiment and preset."""
        return self._ran

    def resistance_after(self, experiment: Experiment, preset: str) -> float:
        """Resistance of the cell that an experiment has aged, ohm; read once, on the model."""
        key = (experiment.name, preset)
        if key not in self._aged:
            self._aged[key] = direct_resistance(self.run(experiment, preset).cell)
        return self._aged[key]

    def specific(self, charge: float, preset: str) -> float:
        """A charge (C) in mAh per g of a preset's active material."""
        p = load_preset(preset).parameters
        return charge / 3.6 / (1e3 * p.active_loading * p.area)


def run_experiment(experiment: Experiment, preset: str, output: Path) -> Ran:
    """Run an experiment in virtual time on a bench that is written below `output`."""
    p = load_preset(preset).parameters
    name = preset.replace(".", "-")
    folder = output / f"{experiment.name}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    bench = folder / "bench.toml"
    bench.write_text(
        BENCH.format(
            name=name,
            preset=preset,
            mass=1e6 * p.active_loading * p.area,
            one_c=p.nominal_specific_capacity / 3600.0,
            area=1e4 * p.area,
        ),
        encoding="utf-8",
    )
    orders = [
        order_from(
            parse_recipe(
                RECIPE.format(
                    title=f"{experiment.name} of {preset}",
                    parameters=parameters,
                    poll=experiment.poll,
                    every=experiment.every,
                ),
                folder / f"{experiment.name}.toml",
            )
        )
        for parameters in experiment.recipes
    ]

    async def execute() -> tuple[list[Path], DirectCell]:
        clock = Clock("virtual")
        async with Engine(load_bench(bench), clock) as engine:
            records = []
            for order in orders:
                run = await engine.run("A1", order, folder / "records")
                if run.result.state is not RunState.COMPLETED:
                    raise CellFailedError(
                        f"{experiment.name} of {preset} ended {run.result.state.value}: "
                        f"{run.result.reason} (record in {run.folder})"
                    )
                records.append(run.folder)
            cells = getattr(engine.simulation, "cells")  # noqa: B009 - not in the protocol
            return records, DirectCell(cells[name], clock.now())

    begun = time.perf_counter()
    records, cell = run_coroutine(execute(), virtual=True)
    return Ran(tuple(Record.open(path) for path in records), cell, time.perf_counter() - begun)
