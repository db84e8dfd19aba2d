"""Programs that die at random moments of many protocols, and runs that go on from their records.

Half of them are dropped in virtual time, without any clean-up, while the simulated bench lives on:
there is no watchdog there, and the output stays on until the next program opens it. The other half
are processes ended by kill -9, see `test_killed_runs.py`. OPERANDO_CRASHES=100 makes a hundred
deaths here; a few of them are enough for every day.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from operando.instruments.bench import Bench
from operando.instruments.bench_file import load_bench
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE
from operando.instruments.recipe import Poll, RecordConditions
from operando.instruments.recorder import Entry
from operando.protocols import (
    Block,
    Cell,
    ConstantCurrent,
    ConstantCurrentConstantVoltage,
    Plan,
    Rest,
    RunState,
    Steps,
    cccv,
    protocol,
)
from operando.protocols.ccd import ccd
from operando.protocols.entries import PROGRAM_DIED
from operando.protocols.gitt import gitt
from operando.protocols.hold import conditioned_cccv
from operando.protocols.impedance import impedance
from operando.protocols.lsv import lsv
from operando.protocols.pitt import pitt
from operando.protocols.plating_stripping import plating_stripping
from operando.protocols.pulses import pulses
from operando.protocols.rate_capability import rate_capability
from operando.protocols.self_discharge import self_discharge
from operando.records import Record, recorder
from operando.station.engine import Order, settle
from station.conditioned import write_conditioned_bench
from support.crashes import Acknowledged, check_record, check_replay, counted, unseen
from support.dropped import Mortal
from support.virtual_lab import bench_of

DEATHS = int(os.environ.get("OPERANDO_CRASHES", "13"))
SEED = int(os.environ.get("OPERANDO_CRASHES_SEED", "1"))

ACCURACY = 1e-3
"""Share of the charge passed, to and fro, by which a count may be wrong. The simulated instruments
are within 0.03 %; the rest is a current that changes between two readings. Ours: the largest error
that was seen in a hundred deaths is three fifths of what this allows."""


@protocol(source="this test")
def wandering(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
    """Random charges, each decided by how the one before ended."""
    one_c = cell.capacity / 3600.0
    up = True
    for number in range(1, 7):
        seconds = cell.random.uniform(60.0, 300.0)
        rate = cell.random.choice([0.5, 1.0, 2.0]) * one_c
        if up:
            first = yield ConstantCurrent(
                rate, (VOLTAGE >= 4.1, ELAPSED >= seconds), label="up", cycle=number
            )
        else:
            first = yield ConstantCurrent(
                -rate, (VOLTAGE <= 2.7, ELAPSED >= seconds), label="down", cycle=number
            )
        up = first.voltage < 3.7
        taper = abs(CURRENT) <= 0.5 * one_c
        yield Block(
            (
                ConstantCurrentConstantVoltage(one_c, 4.0, (taper, ELAPSED >= 200.0), label="top"),
                Rest((ELAPSED >= 60.0 + 100.0 * abs(first.charge),), label="wait"),
            ),
            repeat=1 + number % 2,
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """A protocol on a channel. adaptive: its steps depend on how the cell was disturbed."""

    name: str
    bench: Callable[[Path], Bench]
    plan: Plan
    poll: float
    adaptive: bool = False

    @property
    def order(self) -> Order:
        """What is run, with every poll a row, so that the charge is known at every row."""
        return Order(
            self.plan, poll=Poll(interval=self.poll), record=RecordConditions(every=3 * self.poll)
        )


def on_lab(channel: str) -> Callable[[Path], Bench]:
    """A channel of the example laboratory."""
    return lambda folder: bench_of(channel)


QUICK = {"charge_rate": "2C", "discharge_rate": "2C", "cv_cutoff": "C/2", "rest": "2 min"}
SPECTRUM = {"lowest_frequency": "10 Hz", "points_per_decade": 5}

SCENES = (
    Scene("cccv on a 2400", on_lab("C4"), cccv(**QUICK), 10.0),
    Scene(
        "formation on board of a Neware channel",
        on_lab("A1"),
        cccv(formation_cycles=1, formation_rate="2C", **QUICK),
        10.0,
    ),
    Scene(
        "cccv in a chamber and under a press",
        lambda folder: load_bench(write_conditioned_bench(folder)),
        conditioned_cccv(
            hold_pressure=True,
            temperature="40 degC",
            pressure="9 MPa",
            maximum_pressure="12 MPa",
            slew="10 MPa/min",
            soak="2 min",
            **QUICK,
        ),
        10.0,
    ),
    Scene(
        "titration on a 2461",
        on_lab("C3"),
        gitt(rate="2C", pulse="5 min", rest="5 min", initial_rest="2 min"),
        10.0,
        adaptive=True,
    ),
    Scene(
        "voltage steps on a 2450",
        on_lab("C1"),
        pitt(
            step="300 mV",
            longest="5 min",
            cutoff="C/5",
            current_limit="2C",
            initial_rest="2 min",
        ),
        2.0,
        adaptive=True,
    ),
    Scene(
        "rate capability on a Maccor channel",
        on_lab("B1"),
        rate_capability(
            rates=("2C", "1C"),
            cycles_per_rate=1,
            recovery_cycles=0,
            charge_rate="2C",
            cv_cutoff="1C",
            rest="1 min",
        ),
        10.0,
    ),
    Scene(
        "pulses on board of a Neware channel",
        on_lab("A3"),
        pulses(states=("70 %", "30 %"), rate="2C", cv_cutoff="1C", pulse_rate="2C", rest="2 min"),
        5.0,
        adaptive=True,
    ),
    Scene(
        "ramp on lithium with spectra",
        on_lab("D2"),
        ccd(
            first_current="0.1 mA/cm2",
            step="0.1 mA/cm2",
            largest_current="0.3 mA/cm2",
            half_cycle="3 min",
            rest="30 s",
            initial_rest="30 s",
            spectra=True,
            **SPECTRUM,
        ),
        2.0,
        adaptive=True,
    ),
    Scene(
        "plating with interruptions",
        on_lab("D2"),
        plating_stripping(
            current="0.2 mA/cm2",
            areal_capacity="9 uAh/cm2",
            cycles=2,
            interruptions=3,
            **SPECTRUM,
        ),
        2.0,
        adaptive=True,
    ),
    Scene(
        "sweep", on_lab("D6"), lsv(rate="40 mV/s", step="10 mV", rest="20 s"), 2.0, adaptive=True
    ),
    Scene(
        "impedance of a pellet",
        on_lab("D1"),
        impedance(window=("-0.5 V", "0.5 V"), lowest_frequency="1 Hz", longest_rest="20 min"),
        2.0,
    ),
    Scene(
        "storage on a Maccor channel",
        on_lab("B1"),
        self_discharge(storage="20 min", rate="2C", cv_cutoff="1C", rest="2 min"),
        20.0,
    ),
    Scene("random decisions", on_lab("C4"), wandering(), 10.0, adaptive=True),
)


@dataclass(frozen=True)
class Undisturbed:
    """How a run ends that nobody disturbs. times: s of its journal's entries.

    duration, last_end: laboratory times of the end, and of that of the last step, s. error: of the
    charge counted, C. throughput: charge passed to and fro, C.
    """

    duration: float
    last_end: float
    times: tuple[float, ...]
    hashes: tuple[object, ...]
    error: float
    throughput: float


@cache
def undisturbed(scene: Scene) -> Undisturbed:
    """The run of a scene as it should be."""
    with TemporaryDirectory() as made, Mortal(scene.bench(Path(made)), Path(made)) as lab:
        (channel,) = lab.bench.channels
        lab.start(channel, scene.order)
        run = lab.end()
        assert run.result.state is RunState.COMPLETED, run.result.reason
        record = Record.open(run.folder)
        cell = lab.simulation.cells[lab.bench.channels[channel].cell]
        (*_, last) = record.journal(Entry.STEP_ENDED)
        return Undisturbed(
            lab.now,
            lab.now - record.journal()[-1].time + last.time,
            tuple(entry.time for entry in record.journal()),
            tuple(entry.data["hash"] for entry in record.journal(Entry.STEP_STARTED)),
            abs(cell.charge_passed(lab.now) - counted(record)),
            cell.throughput(lab.now),
        )


def moments(scene: Scene, chance: random.Random) -> list[float]:
    """Lives of the programs of one run, s: its deaths are anywhere, or beside an entry."""
    whole = undisturbed(scene)
    if chance.random() < 0.5:
        first = chance.uniform(0.0, 0.98 * whole.duration)
    else:
        first = max(
            0.0, chance.choice(whole.times) + chance.choice([-1, 1]) * 10 ** chance.uniform(-3, 1)
        )
    lives = [min(first, 0.98 * whole.duration)]
    while len(lives) < 4 and chance.random() < 0.5:
        left = whole.duration - sum(lives)
        again = 10 ** chance.uniform(-2, 1.5) if chance.random() < 0.5 else chance.uniform(0, left)
        lives.append(again)
    return lives


def tell(scene: Scene, chance: random.Random, folder: Path) -> tuple[int, float, float]:
    """One run with its deaths, and all that must hold of it.

    Gives the number of deaths, and the largest error of the charge outside of the gaps and within
    them, as shares of what is allowed.
    """
    bench = scene.bench(folder)
    (channel,) = bench.channels
    lives = moments(scene, chance)
    deaths, seen = 0, []
    with Mortal(bench, folder) as lab:
        lab.start(channel, scene.order)
        for life in lives:
            over = lab.live(life)
            while not over and not lab.recording:
                over = lab.live(0.05)
            if over:
                break
            deaths += 1
            record = lab.record
            seen.append(Acknowledged.by(record))
            lab.drop()
            assert Record.open(record).state == "killed"
            lab.now += 10 ** chance.uniform(-1.0, 2.7)
            lab.resume(record, scene.order)
            if lab.refused():  # nothing was written; a person tries again
                lab.now += 60.0
                lab.resume(record, scene.order)
        run = lab.end()
        assert run.result.state is RunState.COMPLETED, run.result.reason
        assert run.result.safe
        assert not any(lab.simulation.relays().values()), "an output stayed on"
        name = bench.channels[channel].cell
        cell, ledger = lab.simulation.cells[name], lab.ledgers[name]
        passed, throughput = cell.charge_passed(lab.now), cell.throughput(lab.now)
        began = lab.began
    found = Record.open(run.folder)
    if deaths:
        assert found.folder == record
        for rows in seen:
            rows.are_kept(Acknowledged.by(record))
        assert max(began) - min(began) < 1e-3, "the run's time began anew"
    check_record(found)
    died = [gap for gap in found.gaps() if gap.reason == PROGRAM_DIED]
    # One that dies before it has said anything leaves no trace.
    assert min(deaths, 1) <= len(found.journal(Entry.RESUMED)) <= len(died) <= deaths
    # Pumped through the same decisions: the journal's outcomes give the journal's steps.
    seed = found.manifest["random_seed"]
    assert isinstance(seed, int)
    check_replay(found, scene.plan, replace(settle(bench, channel, scene.order).cell, seed=seed))
    if not scene.adaptive:
        hashes = tuple(entry.data["hash"] for entry in found.journal(Entry.STEP_STARTED))
        assert hashes == undisturbed(scene).hashes
    # No charge twice: what the cell counts is what the record counts, but for the gaps.
    start = began[0] if began else 0.0
    gaps = unseen(found)
    within, worst = 0.0, 0.0
    for gap in gaps:
        passed_in_gap = ledger.charge(start + gap.end) - ledger.charge(start + gap.start)
        allowed = 1.01 * gap.bound + 1e-6
        worst = max(worst, abs(passed_in_gap) / allowed)
        assert abs(passed_in_gap) <= allowed, (gap, passed_in_gap)
        within += passed_in_gap
    for before, after in pairwise(gaps):
        assert before.end <= after.start + 1e-9, "a stretch is told twice"
    error = abs(passed - within - counted(found))
    allowed = undisturbed(scene).error + ACCURACY * throughput + 1e-4
    assert error <= allowed, (passed, within, counted(found))
    return deaths, error / allowed, worst


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name.replace(" ", "-"))
def test_a_dropped_run_goes_on_and_passes_no_charge_twice(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(f"{SEED} {scene.name}")
    deaths, number = 0, 0
    while deaths < DEATHS / len(SCENES):
        number += 1
        # Rows become durable after a quarter of a second of wall time, which here is an hour.
        monkeypatch.setattr(recorder, "FLUSH_ROWS", chance.choice((1, 5, 40)))
        folder = tmp_path / str(number)
        folder.mkdir()
        died, _, _ = tell(scene, chance, folder)
        deaths += died


def test_what_a_dead_program_drove_is_made_safe_though_no_step_is_left(tmp_path: Path) -> None:
    """It dies behind the last step: nothing is told again, and the chamber still heats."""
    scene = next(scene for scene in SCENES if "chamber" in scene.name)
    last = len(undisturbed(scene).hashes)
    with Mortal(scene.bench(tmp_path), tmp_path) as lab:
        lab.start("A1", scene.order)
        # Nothing is by chance before a death: the last step ends where it did without one.
        lab.live(undisturbed(scene).last_end - 0.01)
        record = lab.record
        while len(Record.open(record).journal(Entry.STEP_ENDED)) < last:
            assert not lab.live(0.001)
        lab.drop()
        lab.now += 5.0
        lab.resume(record, scene.order)
        run = lab.end()
    assert run.result.state is RunState.COMPLETED
    (safe,) = Record.open(record).journal(Entry.SAFE)
    assert safe.data["actuators"] == {"oven1": "verified", "press1": "verified"}
