"""Runs that are killed (kill -9) at random moments and go on by `operando resume`.

The simulated bench lives in a process of its own, at sixty times the speed of the wall. The
watchdog, which survives, switches the output off; the cell's own count says what passed until then.
OPERANDO_CRASHES=100 kills a hundred times, on every scene; every day one scene is killed twice.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from lab import RunProcess, free_port, simulated, wait_until
from operando.instruments.bench_file import load_bench
from operando.instruments.recipe import load_recipe
from operando.instruments.recorder import Entry
from operando.protocols.entries import PROGRAM_DIED
from operando.records import Record, verify
from operando.station.engine import order_from, settle
from operando.station.simulate import SimulatedProcess
from operando.station.watchdog import WATCHDOG_TIME
from support.crashes import Acknowledged, check_record, check_replay, counted
from support.virtual_lab import LAB

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals"),
]

ALL = "OPERANDO_CRASHES" in os.environ
DEATHS = int(os.environ.get("OPERANDO_CRASHES", "2"))
SEED = int(os.environ.get("OPERANDO_CRASHES_SEED", "1"))
SPEED = 60.0

EDGE = 0.01 * SPEED
"""Laboratory s (10 ms of the wall) by which it may not be known when a set-point came or went: the
time of the command on the wire of a busy computer. Ours; the largest seen is under half of it."""
ACCURACY = 1e-3
"""Share of the charge passed, to and fro, by which a count may be wrong, see `test_crashes.py`."""


@dataclass(frozen=True)
class Scene:
    """A protocol on a channel of the example laboratory, from a cell that is new.

    parameters: of the recipe, in TOML. highest: largest current, A. takes: wall s, about.
    """

    name: str
    channel: str
    protocol: str
    parameters: str
    highest: float
    takes: float
    interval: str = "5 s"


QUICK = 'charge_rate = "4C"\ndischarge_rate = "4C"\ncv_cutoff = "2C"\nrest = "1 min"\n'
SPECTRUM = 'lowest_frequency = "10 Hz"\npoints_per_decade = 5\n'

SCENES = (
    Scene(
        "titration on a 2461", "C3", "gitt",
        'rate = "4C"\npulse = "1 min"\nrest = "30 s"\ninitial_rest = "30 s"\n', 13e-3, 5.0,
    ),
    Scene("cccv on a 2450", "C1", "cccv", QUICK, 13e-3, 10.0),
    Scene(
        "pulses on board of a Neware channel", "A3", "pulses",
        'states = ["60 %"]\nrate = "4C"\ncv_cutoff = "2C"\npulse_rate = "4C"\nrest = "1 min"\n',
        13e-3, 20.0,
    ),
    Scene(
        "formation on board of a Neware channel", "A1", "cccv",
        QUICK + 'formation_cycles = 1\nformation_rate = "4C"\n', 13e-3, 20.0,
    ),
    Scene(
        "voltage steps on a 2450", "C1", "pitt",
        'step = "400 mV"\nlongest = "1 min"\ncutoff = "C/2"\ncurrent_limit = "4C"\n'
        'initial_rest = "30 s"\n', 13e-3, 12.0, "2 s",
    ),
    Scene(
        "rate capability on a Maccor channel", "B1", "rate_capability",
        'rates = ["4C"]\ncycles_per_rate = 1\nrecovery_cycles = 1\nrecovery_rate = "4C"\n'
        'charge_rate = "4C"\ncv_cutoff = "2C"\nrest = "1 min"\n', 13e-3, 20.0,
    ),
    Scene(
        "storage on a 2400", "C4", "self_discharge",
        'storage = "5 min"\nrate = "4C"\ncv_cutoff = "2C"\nrest = "1 min"\n', 13e-3, 30.0,
    ),
    Scene(
        "ramp on lithium with spectra", "D2", "ccd",
        'first_current = "0.1 mA/cm2"\nstep = "0.1 mA/cm2"\nlargest_current = "0.3 mA/cm2"\n'
        'half_cycle = "90 s"\nrest = "30 s"\ninitial_rest = "30 s"\nspectra = true\n' + SPECTRUM,
        1e-3, 15.0,
    ),
    Scene(
        "plating with interruptions", "D2", "plating_stripping",
        'current = "0.2 mA/cm2"\nareal_capacity = "9 uAh/cm2"\ncycles = 2\ninterruptions = 3\n'
        + SPECTRUM, 1e-3, 14.0,
    ),
    Scene(
        "sweep", "D6", "lsv", 'rate = "10 mV/s"\nstep = "10 mV"\nrest = "30 s"\n', 1e-4, 6.0, "2 s",
    ),
    Scene(
        "impedance of a pellet", "D1", "impedance",
        'window = ["-0.5 V", "0.5 V"]\nlowest_frequency = "1 Hz"\nlongest_rest = "20 min"\n',
        1e-4, 12.0,
    ),
)  # fmt: skip


def write_bench(folder: Path, channel: str) -> Path:
    """The example laboratory with one channel and its own instruments, on ports that are free."""
    tables = re.split(r"\n(?=\[|# ----)", LAB.read_text(encoding="utf-8"))
    lab = load_bench(LAB)
    entry = lab.channels[channel]
    driven = {name for name in entry.shared if name.startswith("oven")}
    names = {*entry.roles.values(), *driven}
    if driven or "temperature_controller" in entry.roles:
        rooms = {lab.cells[entry.cell].room}
    else:
        rooms = {lab.cells[entry.cell].room} - {""}
    kept = [f"[clock]\nspeed = {SPEED:g}"]
    for table in tables:
        kind, _, rest = table.partition("]")[0].removeprefix("[").partition(".")
        name = rest.partition(".")[0]
        wanted = {
            "instruments": names, "cells": {entry.cell}, "channels": {channel}, "rooms": rooms,
        }.get(kind, set())  # fmt: skip
        if name in wanted:
            kept.append(re.sub(r"^shared = .*$", "", table, flags=re.M))
    text = re.sub(r"(?<=127\.0\.0\.1::)\d+(?=::)", lambda _: str(free_port()), "\n".join(kept))
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def charge_of(lab: SimulatedProcess, cell: str) -> float:
    """Net charge that a cell itself counts now, C."""
    charges = lab.ask(charges=True)["charges"]
    assert isinstance(charges, dict)
    return float(charges[cell])


class ResumeProcess(RunProcess):
    """`operando resume` in a process of its own."""

    def __init__(self, record: Path, bench: Path) -> None:
        self.output = record.parent
        words = ["resume", str(record), "--bench", str(bench), "--json"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "operando.station", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None


class KillableRun(ResumeProcess):
    """`operando run` likewise."""

    def __init__(self, recipe: Path, bench: Path, channel: str, output: Path) -> None:
        self.output = output
        words = ["run", str(recipe), "--bench", str(bench), "--channel", channel]
        words += ["--output", str(output), "--json"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "operando.station", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def tell(scene: Scene, chance: random.Random, folder: Path) -> tuple[int, float]:
    """One run with its deaths, and all that must hold of it.

    Gives the number of deaths and the largest error of the charge as a share of what is allowed.
    """
    bench = write_bench(folder, scene.channel)
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'protocol = "{scene.protocol}"\n[parameters]\n{scene.parameters}'
        f'[poll]\ninterval = "{scene.interval}"\n[record]\nevery = "10 s"\n',
        encoding="utf-8",
    )
    described = load_bench(bench)
    entry = described.channels[scene.channel]
    cell, instrument = entry.cell, entry.roles["potentiostat"]
    deaths, seen = 0, []
    opened: list[tuple[float, float]] = []
    with simulated(bench) as lab:
        output = folder / "runs"
        run: ResumeProcess = KillableRun(recipe, bench, scene.channel, output)
        record: Path | None = None
        while True:
            with run:
                if record is None:
                    record = run.folder()
                else:
                    wait_until(partial(is_at_work, run, record))
                dies = deaths < 3 and (deaths == 0 or chance.random() < 0.7)
                life = chance.uniform(0.0, 0.8 * scene.takes / (1.0 if deaths else 1.5))
                if dies and not waits(run, life):
                    seen.append(Acknowledged.by(record))
                    run.signal(signal.SIGKILL)
                    deaths += 1
                else:
                    code, out, err = run.wait(120.0)
                    assert code == 0, (out, err)
                    break
            wait_until(lambda: not lab.relays()[instrument], timeout=2.0 * WATCHDOG_TIME)
            if Record.open(record).state == "completed":  # it was faster
                deaths -= 1
                break
            assert Record.open(record).state == "killed"
            assert verify(record)
            opened.append((charge_of(lab, cell), tail(record)))
            run = ResumeProcess(record, bench)
        assert not any(lab.relays().values()), "an output stayed on"
        passed = charge_of(lab, cell)
    found = Record.open(record)
    for rows in seen:
        rows.are_kept(Acknowledged.by(record))
    check_record(found)
    order = order_from(load_recipe(recipe))
    seed = found.manifest["random_seed"]
    assert isinstance(seed, int)
    check_replay(
        found, order.plan, replace(settle(described, scene.channel, order).cell, seed=seed)
    )
    died = [gap for gap in found.gaps() if gap.reason == PROGRAM_DIED]
    assert min(deaths, 1) <= len(found.journal(Entry.RESUMED)) <= len(died) <= deaths
    bounds = [gap.charge_bound for gap in found.gaps()]
    throughput = sum(abs(step.charge) for step in found.steps()) + sum(bounds)
    edge = scene.highest * EDGE

    def share(passed: float, counted: float, bound: float, edges: int) -> float:
        """Error of a count, as a share of what is allowed."""
        allowed = bound + ACCURACY * throughput + edges * edge + 1e-5
        assert abs(passed - counted) <= allowed, (passed, counted, bound)
        return abs(passed - counted) / allowed

    edges = 1 + len(found.steps())
    worst = share(passed, counted(found), sum(bounds), edges + 2 * deaths)
    if len(died) == deaths:  # each gap is that of one death
        before = (0.0, 0.0)
        for now, gap in zip(opened, died, strict=True):
            worst = max(
                worst, share(now[0] - before[0], now[1] - before[1], gap.charge_bound, edges)
            )
            before = now
    return deaths, worst


def is_at_work(run: ResumeProcess, record: Path) -> bool:
    """Whether a process has taken a record up, or has ended already."""
    return run.over or Record.open(record).state == "running"


def waits(run: ResumeProcess, seconds: float) -> bool:
    """Let a process live for a time, wall s; whether it has ended."""
    try:
        run._process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def tail(record: Path) -> float:
    """Charge that a record counts so far, C."""
    rows = Record.open(record).rows(
        "SELECT net_charge_coulomb FROM samples ORDER BY record_index DESC LIMIT 1"
    )
    return float(rows[0][0]) if rows else 0.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "scene", SCENES if ALL else SCENES[:1], ids=lambda scene: scene.name.replace(" ", "-")
)
def test_a_killed_run_goes_on_and_passes_no_charge_twice(scene: Scene, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} {scene.name}")
    deaths, number = 0, 0
    while deaths < DEATHS / (len(SCENES) if ALL else 1):
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        died, _ = tell(scene, chance, folder)
        deaths += died
