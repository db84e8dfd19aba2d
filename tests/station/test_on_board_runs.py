"""Runs whose steps a cycler carries out by itself, in virtual time and through the wires."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import load_recipe
from operando.instruments.recorder import Entry
from operando.protocols import RunState
from operando.records import Record, verify
from operando.station.engine import Engine, Run, order_from

BENCH = """
[instruments.neware1]
driver = "neware-bts8"
address = "TCPIP::127.0.0.1::15060::SOCKET#21-1-1"
settings = { current = "0.1 A" }
simulated = { cell = "c1", OPTIONS }
[instruments.load1]
driver = "pt113"
address = "serial:ports/load1"
settings = { unit = "N", piston_area = "1.3273 cm2" }
simulated = { cell = "c1" }
[cells.c1]
active_mass = "16.96 mg"
one_c = "185 mA/g"
area = "1.131 cm2"
voltage_range = ["0 V", "4.6 V"]
preset = "ncm811-caec"
[channels.A1]
potentiostat = "neware1"
load_cell = "load1"
cell = "c1"
"""

RECIPE = """
protocol = "cccv"
[parameters]
charge_rate = "2C"
discharge_rate = "2C"
cv_cutoff = "0.5C"
rest = "2 min"
[poll]
interval = "5 s"
[limits]
crushed = { when = "pressure > 12 MPa", action = "trip", stale_after = "10 min" }
"""

LABELS = ["charge", "rest after charge", "discharge", "rest after discharge"]

Script = Callable[[Engine, Clock], Awaitable[None]]


class Lab:
    """Runs a recipe on a simulated cycler, with something happening beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cell_charge = 0.0
        self.relay_at_end = True
        self.passed: list[float] = []

    def run(
        self, beside: Script | None = None, recipe: str = RECIPE, options: str = "row_lag = 0"
    ) -> Run:
        """Run to the end in virtual time. options: of the simulated server."""
        bench, order = self.folder / "bench.toml", self.folder / "recipe.toml"
        bench.write_text(BENCH.replace("OPTIONS", options), encoding="utf-8")
        order.write_text(recipe, encoding="utf-8")

        async def main() -> Run:
            clock = Clock("virtual")
            async with Engine(load_bench(bench), clock) as engine:
                simulation: Any = engine.simulation
                at_start = simulation.cells["c1"].charge_passed(clock.now())
                running = asyncio.create_task(
                    engine.run("A1", order_from(load_recipe(order)), self.folder / "runs")
                )
                if beside is not None:
                    await beside(engine, clock)
                run = await running
                self.cell_charge = simulation.cells["c1"].charge_passed(clock.now()) - at_start
                self.relay_at_end = simulation.relays()["neware1"]
                return run

        return run_coroutine(main(), virtual=True)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A simulated cycler in a folder of the test's own."""
    return Lab(tmp_path)


def journal(record: Record, kind: Entry) -> list[dict[str, Any]]:
    """Entries of one kind."""
    return [dict(entry.data) for entry in record.journal() if entry.entry is kind]


def inject(engine: Engine, fault: str) -> None:
    """Let the cycler misbehave."""
    simulation: Any = engine.simulation
    simulation.inject("neware1", fault)


def channel(engine: Engine) -> Any:
    """The simulated channel itself, for what another client of its server does to it."""
    simulation: Any = engine.simulation
    (found,) = simulation.devices["neware1"]._channels.values()
    return found


async def at_step(engine: Engine, clock: Clock, count: int) -> None:
    """Wait until a run is at a step."""
    await clock.sleep(60.0)
    while engine.runners["A1"].tally.step_count < count:
        await clock.sleep(10.0)


def test_rows_and_sums_of_a_cycle_are_those_that_the_instrument_stored(lab: Lab) -> None:
    run = lab.run()
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert run.result.safe
    assert not lab.relay_at_end
    record = Record.open(run.folder)
    assert verify(run.folder)
    steps = record.steps()
    assert [step.label for step in steps] == LABELS
    samples = record.samples()
    assert set(samples["origin"]) == {"instrument"}
    assert np.all(np.diff(samples["time"]) >= 0.0)
    polled = record.samples(as_written=True)
    assert set(polled["origin"]) == {"instrument", "poll"}
    # Current in the cell is regulated without error in this preset, so the two counts agree.
    assert run.result.charge == pytest.approx(lab.cell_charge, rel=2e-4)
    for step in steps:
        rows = record.samples(step=step.index)
        assert rows["step_charge"][-1] == step.charge
        assert np.all(np.diff(rows["time"]) >= 0.0)
        counted = np.trapezoid(rows["current"], rows["time"]) if len(rows["time"]) > 1 else 0.0
        assert counted == pytest.approx(step.charge, abs=5e-3 * abs(steps[0].charge))
    ended = {step.label: (step.reason, step.condition) for step in steps}
    assert ended["discharge"] == ("cut-off", "voltage <= 2.5 V")
    assert ended["charge"][0] == ended["rest after charge"][0] == "condition"


def test_the_instrument_is_told_once_for_a_whole_cycle(lab: Lab) -> None:
    tests: list[int] = []

    async def look(engine: Engine, clock: Clock) -> None:
        await clock.sleep(3600.0)
        tests.append(len(channel(engine).tests))

    run = lab.run(look)
    assert run.result.steps == len(LABELS)
    assert tests == [2]  # a rest, by which the open circuit was checked, and the cycle


def test_a_lost_link_costs_neither_the_cycle_nor_its_rows(lab: Lab) -> None:
    async def cut(engine: Engine, clock: Clock) -> None:
        await clock.sleep(600.0)
        inject(engine, "drop 120 s")

    run = lab.run(cut)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    record = Record.open(run.folder)
    (said,) = journal(record, Entry.ALARM)
    assert "goes on by itself" in said["what"]
    assert journal(record, Entry.GAP) == []
    assert journal(record, Entry.PAUSED) == []
    polled = record.samples(as_written=True)
    seen = polled["time"][polled["origin"] == "poll"]
    assert np.diff(seen).max() > 100.0
    assert np.diff(record.samples()["time"]).max() < 6.0
    assert run.result.charge == pytest.approx(lab.cell_charge, rel=2e-4)


def test_a_link_that_stays_lost_ends_the_run_and_says_what_is_not_known(lab: Lab) -> None:
    async def cut(engine: Engine, clock: Clock) -> None:
        await clock.sleep(600.0)
        inject(engine, "drop 3600 s")

    run = lab.run(cut)
    assert run.result.state is RunState.FAULTED
    assert not run.result.safe
    assert "ASSUME THAT THE OUTPUT IS ON" in run.result.reason
    gaps = journal(Record.open(run.folder), Entry.GAP)
    assert len(gaps) == 1
    assert 300.0 <= gaps[0]["end"] - gaps[0]["start"] < 330.0
    assert gaps[0]["charge_bound"] == pytest.approx(2 * 185e-3 * 16.96e-3 * 310.0, rel=0.1)


def test_a_pause_is_resumed_with_what_is_left(lab: Lab) -> None:
    async def pause(engine: Engine, clock: Clock) -> None:
        await clock.sleep(900.0)
        engine.runners["A1"].pause()
        await clock.sleep(300.0)
        engine.runners["A1"].resume()

    run = lab.run(pause)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    record = Record.open(run.folder)
    assert [step.label for step in record.steps()] == LABELS
    assert len(journal(record, Entry.STEP_ENDED)) == len(LABELS)
    assert len(journal(record, Entry.PAUSED)) == len(journal(record, Entry.RESUMED)) == 1
    assert run.result.charge == pytest.approx(lab.cell_charge, abs=2e-3 * 11.0)
    charge = record.steps()[0]
    rows = record.samples(step=charge.index)
    assert set(rows["origin"]) == {"poll"}
    assert rows["step_charge"][-1] == pytest.approx(charge.charge, abs=0.05)


def test_what_is_aborted_keeps_the_rows_that_the_instrument_stored(lab: Lab) -> None:
    async def abort(engine: Engine, clock: Clock) -> None:
        await clock.sleep(900.0)
        engine.runners["A1"].abort("enough")

    run = lab.run(abort)
    assert run.result.state is RunState.ABORTED
    assert run.result.safe
    assert not lab.relay_at_end
    record = Record.open(run.folder)
    assert verify(run.folder)
    (ended,) = journal(record, Entry.STEP_ENDED)
    assert ended["reason"] == "aborted"
    rows = record.samples()
    assert set(rows["origin"]) == {"instrument"}
    assert rows["step_charge"][-1] == ended["charge"]
    assert run.result.charge == pytest.approx(lab.cell_charge, rel=2e-4)


def test_a_cabinet_that_lost_power_and_goes_on_by_itself_is_noticed(lab: Lab) -> None:
    async def cut(engine: Engine, clock: Clock) -> None:
        await clock.sleep(900.0)
        inject(engine, "reboot 30 s")

    run = lab.run(cut)
    assert run.result.state is RunState.FAULTED, run.result.reason
    assert "output went off" in run.result.reason
    assert run.result.safe
    assert not lab.relay_at_end


def test_a_limit_of_another_instrument_stops_the_schedule(lab: Lab) -> None:
    recipe = RECIPE.replace("pressure > 12 MPa", "pressure > 1 kPa for 5 min")
    run = lab.run(recipe=recipe)
    assert run.result.state is RunState.TRIPPED
    assert "crushed" in run.result.reason
    assert run.result.safe
    assert not lab.relay_at_end
    assert set(Record.open(run.folder).samples()["origin"]) == {"instrument"}


def test_rows_are_kept_as_the_record_asks(lab: Lab) -> None:
    run = lab.run(recipe=RECIPE + '[record]\nevery = "1 min"\non_change.voltage = "50 mV"\n')
    assert run.result.state is RunState.COMPLETED, run.result.reason
    record = Record.open(run.folder)
    rows = record.samples(step=1)
    gaps, jumps = np.diff(rows["step_time"]), np.abs(np.diff(rows["voltage"]))
    assert 3 < len(rows["time"]) < 100
    assert np.all((gaps >= 60.0 - 1e-6) | (jumps >= 0.05) | (np.arange(len(gaps)) == len(gaps) - 1))
    assert gaps.max() <= 62.0


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_no_charge_is_lost_or_counted_twice(lab: Lab, seed: int) -> None:
    dice = random.Random(seed)

    async def disturb(engine: Engine, clock: Clock) -> None:
        for _ in range(3):
            await clock.sleep(dice.uniform(10.0, 1200.0))
            if "A1" not in engine.runners:
                return
            if dice.random() < 0.5:
                inject(engine, f"drop {dice.uniform(1.0, 250.0)} s")
                await clock.sleep(260.0)
            elif engine.runners["A1"].state is RunState.RUNNING:
                engine.runners["A1"].pause()
                step = engine.runners["A1"].tally.step_count
                await clock.sleep(dice.uniform(10.0, 600.0))
                engine.runners["A1"].resume()
                # The rest of a step that was paused is stepped by software, which needs its link.
                while "A1" in engine.runners and engine.runners["A1"].tally.step_count == step:
                    await clock.sleep(30.0)

    run = lab.run(disturb)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    record = Record.open(run.folder)
    assert verify(run.folder)
    assert [step.label for step in record.steps()] == LABELS
    # A paused step is counted from polls; rests leak nothing and are of no matter.
    assert run.result.charge == pytest.approx(lab.cell_charge, abs=0.01)


@pytest.mark.parametrize("interval", ["1 s", "5 s"])
def test_a_server_that_is_late_is_waited_for(lab: Lab, interval: str) -> None:
    recipe = RECIPE.replace('"5 s"', f'"{interval}"')
    run = lab.run(recipe=recipe, options="refresh = 5.0, row_lag = 6.0")
    assert run.result.state is RunState.COMPLETED, run.result.reason
    record = Record.open(run.folder)
    assert journal(record, Entry.ALARM) == journal(record, Entry.GAP) == []
    assert run.result.charge == pytest.approx(lab.cell_charge, rel=2e-4)
    assert [step.duration for step in record.steps() if "rest" in step.label] == [120.0, 120.0]


def test_the_last_rows_of_what_is_aborted_are_waited_for(lab: Lab) -> None:
    async def abort(engine: Engine, clock: Clock) -> None:
        await clock.sleep(901.5)
        engine.runners["A1"].abort("enough")

    run = lab.run(abort, options="row_lag = 5.0")
    assert run.result.state is RunState.ABORTED
    assert run.result.charge == pytest.approx(lab.cell_charge, rel=2e-4)


def test_no_charge_is_invented_for_what_was_not_seen(lab: Lab) -> None:
    run = lab.run(options="frozen_after = 2300.0")
    assert run.result.state is RunState.FAULTED
    assert "stood still" in run.result.reason
    gaps = journal(Record.open(run.folder), Entry.GAP)
    assert len(gaps) == 1
    assert gaps[0]["end"] - gaps[0]["start"] > 300.0
    error = abs(run.result.charge - lab.cell_charge)
    assert 0.0 < error < gaps[0]["charge_bound"]


def test_the_bound_of_a_gap_knows_the_steps_behind_the_one_that_was_seen_last(lab: Lab) -> None:
    async def cut(engine: Engine, clock: Clock) -> None:
        await at_step(engine, clock, 2)
        inject(engine, "drop 3600 s")

    run = lab.run(cut)
    assert run.result.state is RunState.FAULTED
    (gap,) = journal(Record.open(run.folder), Entry.GAP)
    # The link was lost in a rest, in which nothing flows; the discharge followed.
    assert 0.5 < abs(run.result.charge - lab.cell_charge) <= gap["charge_bound"]


def test_each_loss_is_told_and_a_pause_says_what_was_not_seen(lab: Lab) -> None:
    async def disturb(engine: Engine, clock: Clock) -> None:
        for _ in range(2):
            await clock.sleep(300.0)
            inject(engine, "drop 30 s")
        await clock.sleep(300.0)
        engine.runners["A1"].pause()
        await clock.sleep(60.0)
        engine.runners["A1"].resume()

    run = lab.run(disturb)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    record = Record.open(run.folder)
    assert len(journal(record, Entry.ALARM)) == 2
    gaps = [gap["end"] - gap["start"] for gap in journal(record, Entry.GAP)]
    assert len(gaps) == 2
    assert all(25.0 < gap < 45.0 for gap in gaps)


@pytest.mark.parametrize("how", ["stop", "trip"])
def test_what_somebody_else_stops_is_no_open_lead(lab: Lab, how: str) -> None:
    async def stop(engine: Engine, clock: Clock) -> None:
        await at_step(engine, clock, 3)
        await clock.sleep(100.0)
        getattr(channel(engine), how)(clock.now())

    run = lab.run(stop)
    assert run.result.state is RunState.FAULTED
    assert "its own protection" in run.result.reason or "its protection" in run.result.reason
    assert run.result.safe
    assert run.result.charge == pytest.approx(lab.cell_charge, rel=3e-4)
    assert journal(Record.open(run.folder), Entry.ALARM) == []


def test_a_suspended_computer_holds_the_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = [0.0]
    monkeypatch.setattr(Clock, "suspended", lambda _: slept[0])
    states: list[RunState] = []

    async def suspend(engine: Engine, clock: Clock) -> None:
        await clock.sleep(600.0)
        slept[0] = 1500.0
        await clock.sleep(60.0)
        states.append(engine.runners["A1"].state)
        engine.runners["A1"].abort("enough")

    run = lab.run(suspend)
    assert states == [RunState.HELD]
    (gap,) = journal(Record.open(run.folder), Entry.GAP)
    assert gap["suspended"] == 1500.0
    assert gap["charge_bound"] == pytest.approx(2 * 185e-3 * 16.96e-3 * 1505.0, rel=0.01)


def test_a_cell_that_is_found_outside_of_its_window_is_not_sent_on_board(lab: Lab) -> None:
    """The bounds of a schedule hold for all of its steps; a cell outside is led back first."""

    async def abort(engine: Engine, clock: Clock) -> None:
        await clock.sleep(600.0)
        engine.runners["A1"].abort("enough")

    outside = RECIPE.replace('rest = "2 min"', 'rest = "2 min"\nwindow = ["2.8 V", "4.25 V"]')
    overridden = '[preflight]\noverride = { open_circuit = "as assembled" }\n'
    run = lab.run(abort, recipe=outside + overridden)
    assert run.result.state is RunState.ABORTED, run.result.reason
    assert set(Record.open(run.folder).samples()["origin"]) == {"poll"}


@pytest.mark.parametrize("what", ["pause", "abort"])
def test_a_late_server_makes_no_trip_of_a_pause_or_an_abort(lab: Lab, what: str) -> None:
    """It takes seconds until the circuit has been read back open, and nothing is read meanwhile."""

    async def interrupt(engine: Engine, clock: Clock) -> None:
        await clock.sleep(1439.0)
        runner = engine.runners["A1"]
        if what == "abort":
            runner.abort("enough")
            return
        runner.pause()
        await clock.sleep(60.0)
        runner.resume()

    run = lab.run(interrupt, options="refresh = 5.0, row_lag = 6.0")
    wanted = RunState.ABORTED if what == "abort" else RunState.COMPLETED
    assert run.result.state is wanted, run.result.reason
