"""The simulated laboratory of a validation: published protocols through instruments and drivers.

Each experiment is run on a bench of its own, in virtual time: plan, engine, drivers, bytes,
simulated source meter, potentiostat and load cell, simulated cell, record. What is known of it
afterwards is read from the record, as a user would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from operando import evaluation
from operando.evaluation.cccv import Cycle
from operando.instruments.bench import Bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Plan, RunState
from operando.records import Record
from operando.simulators.cell import (
    CellParameters,
    LithiumParameters,
    PelletParameters,
    load_preset,
)
from operando.simulators.cell.factory import load_lithium, load_pellet
from operando.simulators.cell.parameters import preset_kind
from operando.simulators.loadframe import PISTON_AREA
from operando.station.engine import Engine, Order
from operando.validation.direct import CellFailedError

METER, POTENTIOSTAT = "A1", "B1"
"""Channels of a bench, both on its one cell: a source meter with the load cell, and a potentiostat
that measures impedance. The engine runs one at a time."""

SOURCE_METER = """
[instruments.smu]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::15025::SOCKET"
[instruments.smu.settings]
over_voltage_protection = "10 V"
[instruments.smu.simulated]
cell = "{name}"
{frame}
[channels.A1]
cell = "{name}"
potentiostat = "smu"
{more}
"""

LOAD_CELL = """
[instruments.load]
driver = "pt113"
address = "serial:ports/load?baud=9600"
[instruments.load.settings]
unit = "N"
piston_area = "1.3273 cm2"
[instruments.load.simulated]
cell = "{name}"
"""

IMPEDANCE = """
[instruments.potentiostat]
driver = "palmsens-methodscript"
address = "serial:ports/potentiostat?baud=921600"
[instruments.potentiostat.settings]
interval = "0.5 s"
[instruments.potentiostat.simulated]
model = "nexus"
cell = "{name}"

[channels.B1]
cell = "{name}"
potentiostat = "potentiostat"
"""

PLUGGED = "{name}-at-the-potentiostat"
"""Name of the same cell on the second channel: a bench file has a cell on one channel alone, and an
experiment that needs both instruments plugs its cell over between two runs."""

OVEN = """
[rooms.oven]
kind = "chamber"
[instruments.oven]
driver = "espec-p300"
address = "serial:ports/oven"
[instruments.oven.simulated]
room = "oven"
"""

CELL = """
[cells.{name}]
{more}
"""

ON_CHANGE = {"voltage": 2e-3}
"""V by which the voltage has changed where a row is recorded at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """One run of an experiment.

    channel: METER or POTENTIOSTAT. poll, every: s between two readings, and between two recorded
    rows. idle: s for which the cell lies unconnected before it.
    """

    plan: Plan
    channel: str = METER
    poll: float = 10.0
    every: float = 120.0
    idle: float = 0.0


@dataclass(frozen=True, slots=True)
class Experiment:
    """Runs one after another on one cell.

    pressure: of the stack in Pa, held by a frame without stiffness; NaN leaves the pressure of the
    cell's preset and a stiff frame. oven: whether the cell is in an oven that METER drives.
    """

    name: str
    parts: tuple[Part, ...]
    pressure: float = math.nan
    oven: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """What an experiment left.

    records: of its parts in order. cell: the simulated one afterwards. now: laboratory time, s.
    seconds: of processor time that it took.
    """

    records: tuple[Record, ...]
    cell: Any
    now: float
    seconds: float

    @property
    def cycles(self) -> tuple[Cycle, ...]:
        """All cycles of the first record, evaluated."""
        return evaluation.cccv(self.records[0]).cycles


@dataclass
class Lab:
    """Runs each experiment once per preset and keeps the records. folder: where they lie.

    draws, seed: of the prior-predictive intervals. say: told what begins, and what it took.
    """

    folder: Path
    draws: int = 0
    seed: int = 1
    say: Callable[[str], None] = lambda _: None
    _ran: dict[tuple[str, str], Ran] = field(default_factory=dict)

    def run(self, experiment: Experiment, preset: str) -> Ran:
        """The records of an experiment on the nominal cell of a preset, run when first asked for.

        Raises CellFailedError if a run did not complete, KeyError for an unknown preset.
        """
        key = (experiment.name, preset)
        if key not in self._ran:
            ran = run_experiment(experiment, preset, self.folder)
            self._ran[key] = ran
            self.say(f"{experiment.name} of {preset}: {ran.seconds:.1f} s CPU")
        return self._ran[key]

    def ran(self) -> Mapping[tuple[str, str], Ran]:
        """What has been run, by name of the experiment and preset."""
        return self._ran

    def specific(self, charge: float, preset: str) -> float:
        """A charge (C) in mAh per g of a preset's active material."""
        p = load_preset(preset).parameters
        return charge / 3.6 / (1e3 * p.active_loading * p.area)


def bench_text(experiment: Experiment, preset: str) -> str:
    """The bench file of an experiment. Raises KeyError for an unknown preset."""
    p, metadata = described(preset)
    name = name_of(preset)
    stated = [f'area = "{1e4 * p.area:.6g} cm2"', f'preset = "{preset}"']
    on_channel = []
    parts = []
    if isinstance(p, CellParameters):
        stated.append(f'active_mass = "{1e6 * p.active_loading * p.area:.6g} mg"')
        stated.append(f'one_c = "{p.nominal_specific_capacity / 3600.0:.6g} mA/g"')
        parts.append(LOAD_CELL.format(name=name))
        on_channel.append('load_cell = "load"')
    if experiment.oven:
        parts.append(OVEN)
        on_channel.append('temperature_controller = "oven"')
        stated.append('room = "oven"')
    stated.append("[cells.{name}.metadata]")
    stated += [f'{key} = "{value}"' for key, value in metadata.items()]
    frame = ""
    if not math.isnan(experiment.pressure):
        frame = "stiffness = 0.0\nthermal_pressure = 0.0\npreload = "
        frame += f"{experiment.pressure * PISTON_AREA:.6g}\n"
    used = {part.channel for part in experiment.parts}
    names = [name]
    if METER in used:
        more = "\n".join(on_channel)
        parts.append(SOURCE_METER.format(name=name, frame=frame, more=more))
    if POTENTIOSTAT in used:
        names = [name, PLUGGED.format(name=name)] if METER in used else [name]
        parts.append(IMPEDANCE.format(name=names[-1]))
    for one in names:
        parts.append(CELL.format(name=one, more="\n".join(stated).format(name=one)))
    return "".join(parts)


def bench_of(path: Path, cell: str) -> Bench:
    """A bench whose instruments are all simulated on one cell, whichever channel they are on."""
    bench = load_bench(path)
    instruments = {}
    for name, entry in bench.instruments.items():
        simulated = entry.simulated
        if simulated is not None and simulated.cell:
            simulated = replace(simulated, cell=cell)
        instruments[name] = replace(entry, simulated=simulated)
    return replace(bench, instruments=instruments)


def name_of(preset: str) -> str:
    """Name of a preset's cell on the bench."""
    return preset.replace(".", "-")


def described(
    preset: str,
) -> tuple[CellParameters | LithiumParameters | PelletParameters, Mapping[str, str]]:
    """Parameters of a preset, and what an experimenter would state of such a cell.

    Raises KeyError for an unknown preset.
    """
    kind = preset_kind(preset)
    if kind == "pellet":
        pellet = load_pellet(preset)
        stated = {"thickness": f"{1e3 * pellet.thickness:.6g} mm", "lead_resistance": "0 ohm"}
        if pellet.active_fraction > 0.0 and pellet.ion_contact > 0.0:
            # From a cell without the composite.
            contact = 1.0 / (pellet.ion_contact * pellet.area)
            stated["contact_resistance"] = f"{contact:.6g} ohm"
        return pellet, stated
    if kind == "lithium":
        return load_lithium(preset), {}
    p = load_preset(preset).parameters
    return p, {
        "density": f"{p.crystal_density:.6g} kg/m3",
        "particle_radius": f"{1e6 * p.particle_radius:.6g} um",
    }


def run_experiment(experiment: Experiment, preset: str, output: Path) -> Ran:
    """Run an experiment in virtual time on a bench that is written below `output`.

    Raises CellFailedError if a run did not complete, KeyError for an unknown preset.
    """
    name = name_of(preset)
    folder = output / f"{experiment.name}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    bench = folder / "bench.toml"
    bench.write_text(bench_text(experiment, preset), encoding="utf-8")

    async def execute() -> tuple[list[Path], Any, float]:
        clock = Clock("virtual")
        async with Engine(bench_of(bench, name), clock) as engine:
            records = []
            for part in experiment.parts:
                if part.idle > 0.0:
                    await clock.sleep(part.idle)
                order = Order(
                    part.plan,
                    record=RecordConditions(every=part.every, on_change=ON_CHANGE),
                    poll=Poll(interval=part.poll),
                    title=f"{experiment.name} of {preset}",
                )
                run = await engine.run(part.channel, order, folder / "records")
                if run.result.state is not RunState.COMPLETED:
                    raise CellFailedError(
                        f"{experiment.name} of {preset} ended {run.result.state.value}: "
                        f"{run.result.reason} (record in {run.folder})"
                    )
                records.append(run.folder)
            cells = getattr(engine.simulation, "cells")  # noqa: B009 - not in the protocol
            return records, cells[name], clock.now()

    begun = time.process_time()
    records, cell, now = run_coroutine(execute(), virtual=True)
    taken = time.process_time() - begun
    return Ran(tuple(Record.open(path) for path in records), cell, now, taken)
