"""Whole runs in virtual time: recipe, engine, drivers, simulated instruments, cell, record."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab import write_bench, write_recipe
from operando import evaluation
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.conditions import ELAPSED, PRESSURE, VOLTAGE
from operando.instruments.errors import BadInputError, UnsupportedError, WrongInstrumentError
from operando.instruments.recipe import Poll, Preflight, load_recipe
from operando.instruments.recorder import Entry
from operando.protocols import Cell, ConstantCurrent, Rest, RunState, protocol
from operando.protocols.protocol import Steps
from operando.records import Record, canonical_dump, verify
from operando.station.engine import Engine, Order, Run, order_from
from operando.station.simulate import serve

Script = Callable[[Engine, Clock], Awaitable[None]]


class Lab:
    """Runs a recipe on channel A1 of a simulated bench, with something happening beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.simulation: Any = None
        self.relay_at_end = True
        self.charge_of_cell = 0.0

    def run(
        self, order: Order | Path, bench: Path | None = None, beside: Script | None = None
    ) -> Run:
        """Run to the end in virtual time."""
        if isinstance(order, Path):
            order = order_from(load_recipe(order))
        described = load_bench(bench or write_bench(self.folder))

        async def main() -> Run:
            import asyncio

            clock = Clock("virtual")
            async with Engine(described, clock) as engine:
                self.simulation = engine.simulation
                running = asyncio.create_task(engine.run("A1", order, self.folder / "runs"))
                if beside is not None:
                    await beside(engine, clock)
                run = await running
                self.relay_at_end = self.simulation.relays()["smu1"]
                self.charge_of_cell = self.simulation.cells["c1"].charge_passed(clock.now())
                return run

        return run_coroutine(main(), virtual=True)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A simulated laboratory in a folder of the test's own."""
    return Lab(tmp_path)


FAST = 'charge_rate = "2C"\ndischarge_rate = "2C"\ncv_cutoff = "0.5C"\nrest = "1 min"'


def test_a_cycle_completes_and_its_record_is_sound(lab: Lab) -> None:
    run = lab.run(write_recipe(lab.folder, interval="5 s"))
    assert run.result.state is RunState.COMPLETED
    assert run.result.safe
    assert not lab.relay_at_end
    record = Record.open(run.folder)
    assert record.state == "completed"
    assert record.simulated
    assert verify(run.folder)
    assert [step.label for step in record.steps()] == [
        "charge",
        "rest after charge",
        "discharge",
        "rest after discharge",
    ]
    cycle = evaluation.cccv(record).cycles[0]
    assert cycle.flags == ()
    assert 0.7 < cycle.coulombic_efficiency < 1.0  # charged slowly to C/20, discharged at 1C
    assert cycle.pressure.swing > 0.0  # lithium is plated on charge: 004, M-141


def test_the_counted_charge_is_the_charge_that_the_cell_saw(lab: Lab) -> None:
    run = lab.run(write_recipe(lab.folder, FAST, interval="1 s"))
    moved = 185e3 / 1e3 * 16.96e-6 * 3600.0  # about one 1C hour each way, C
    assert run.result.charge == pytest.approx(lab.charge_of_cell, abs=2e-3 * moved)


def test_the_same_recipe_gives_the_same_record_to_the_byte(tmp_path: Path) -> None:
    dumps = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        bench = write_bench(folder)
        text = bench.read_text().splitlines()
        # The free port is the only thing in which the two benches differ.
        fixed = "\n".join(
            'address = "TCPIP::127.0.0.1::15025::SOCKET"' if "TCPIP" in line else line
            for line in text
        )
        bench.write_text(fixed.replace("ports/lc1", "/tmp/operando-ports/lc1"))
        run = Lab(folder).run(write_recipe(folder, FAST, interval="10 s"), bench)
        dumps.append(canonical_dump(run.folder))
    assert dumps[0] == dumps[1]
    assert len(dumps[0]) > 10_000


def test_the_curve_does_not_depend_on_the_poll_interval(lab: Lab) -> None:
    curves = []
    for interval in ("1 s", "7 s"):
        recipe = write_recipe(lab.folder, interval=interval)
        record = Record.open(lab.run(recipe).folder)
        discharge = next(step for step in record.steps() if step.label == "discharge")
        samples = record.samples(step=discharge.index)
        curves.append((-samples["step_charge"], samples["voltage"]))
    charge = np.linspace(0.05, 0.95, 50) * min(curve[0].max() for curve in curves)
    first, second = (np.interp(charge, q, v) for q, v in curves)
    # Between two polls the curve is read off a straight line; 2450 noise is below 1 mV.
    assert np.abs(first - second).max() < 2e-3


@pytest.mark.parametrize(
    "parameters",
    ['rest = "1 min"', 'constant_voltage = false\nrest = "0 s"\ncycles = 3'],
)
@pytest.mark.parametrize("moment", [600.0, 3000.0])
def test_a_lead_that_comes_off_is_not_taken_for_the_end_of_a_charge(
    lab: Lab, parameters: str, moment: float
) -> None:
    async def unplug(engine: Engine, clock: Clock) -> None:
        await clock.sleep(moment)
        engine.simulation.inject("smu1", "unplug")  # type: ignore[union-attr]

    recipe = write_recipe(lab.folder, f'charge_rate = "1C"\ndischarge_rate = "1C"\n{parameters}')
    run = lab.run(recipe, beside=unplug)
    assert run.result.state is RunState.TRIPPED
    assert "a lead is open" in run.result.reason
    assert run.result.duration < moment + 10.0
    assert not lab.relay_at_end


def test_a_lead_that_comes_off_during_the_hold_is_not_taken_for_its_end(lab: Lab) -> None:
    async def unplug(engine: Engine, clock: Clock) -> None:
        await clock.sleep(6000.0)
        runner = engine.runners["A1"]
        assert 0.05 < runner.tally.values["current"] / runner.tally.current_bound < 0.5
        engine.simulation.inject("smu1", "unplug")  # type: ignore[union-attr]

    run = lab.run(write_recipe(lab.folder, 'charge_rate = "1C"'), beside=unplug)
    assert run.result.state is RunState.TRIPPED
    assert "a lead is open" in run.result.reason


def test_a_limit_that_is_passed_from_the_start_holds_with_the_circuit_open(lab: Lab) -> None:
    async def look(engine: Engine, clock: Clock) -> None:
        await clock.sleep(60.0)
        assert engine.runners["A1"].state is RunState.HELD
        assert not engine.simulation.relays()["smu1"]  # type: ignore[union-attr]
        engine.stop_all("seen")

    limits = 'pressed = { when = "pressure > 1 MPa", action = "hold" }'
    run = lab.run(write_recipe(lab.folder, limits=limits), beside=look)
    assert run.result.state is RunState.ABORTED
    assert lab.charge_of_cell == pytest.approx(0.0, abs=1e-6)


def test_the_charge_around_many_pauses_is_the_charge_that_the_cell_saw(lab: Lab) -> None:
    async def interrupt(engine: Engine, clock: Clock) -> None:
        await clock.sleep(30.0)
        for _ in range(10):
            await clock.sleep(97.0)
            engine.pause_all()
            await clock.sleep(30.0)
            engine.resume_all()
        await clock.sleep(97.0)
        engine.stop_all("enough")

    limits = ""
    recipe = write_recipe(lab.folder, 'charge_rate = "1C"', interval="60 s", limits=limits)
    run = lab.run(recipe, beside=interrupt)
    assert run.result.charge == pytest.approx(lab.charge_of_cell, rel=3e-3)
    assert run.result.charge > 2.5


def test_a_pause_right_after_a_resume_is_not_lost(lab: Lab) -> None:
    async def operator(engine: Engine, clock: Clock) -> None:
        await clock.sleep(300.0)
        runner = engine.runners["A1"]
        runner.pause()
        await clock.sleep(10.0)
        assert runner.state is RunState.PAUSED
        runner.resume()
        runner.pause()
        await clock.sleep(20.0)
        assert runner.state is RunState.PAUSED
        assert not engine.simulation.relays()["smu1"]  # type: ignore[union-attr]
        runner.pause()
        runner.resume()
        await clock.sleep(20.0)
        assert engine.simulation.relays()["smu1"]  # type: ignore[union-attr]
        engine.stop_all("seen")

    run = lab.run(write_recipe(lab.folder), beside=operator)
    assert run.result.state is RunState.ABORTED


@pytest.mark.parametrize("moment", [0.02 * step for step in range(1, 60, 4)])
def test_a_pause_before_the_first_step_only_pauses(lab: Lab, moment: float) -> None:
    async def operator(engine: Engine, clock: Clock) -> None:
        await clock.sleep(moment)
        engine.pause_all()
        await clock.sleep(60.0)
        runner = engine.runners["A1"]
        if runner.state is RunState.PAUSED:
            assert not engine.simulation.relays()["smu1"]  # type: ignore[union-attr]
            engine.resume_all()
        await clock.sleep(300.0)
        assert runner.state is RunState.RUNNING
        engine.stop_all("seen")

    run = lab.run(write_recipe(lab.folder), beside=operator)
    assert (run.result.state, run.result.reason) == (RunState.ABORTED, "seen")
    assert run.result.charge > 0.5
    notes = [e.data for e in Record.open(run.folder).journal(Entry.NOTE)]
    assert sum("preflight" in note for note in notes) == 1


def test_a_pause_that_comes_as_the_run_ends_does_not_change_how_it_ended(lab: Lab) -> None:
    async def pause(engine: Engine, clock: Clock) -> None:
        await clock.sleep(1.0)
        runner = engine.runners["A1"]
        while runner.tally.label != "rest after discharge" or runner.tally.reason == "":
            await clock.sleep(0.001 if runner.tally.elapsed > 59.9 else 0.5)
            if "A1" not in engine.runners:
                return
        engine.pause_all()

    run = lab.run(write_recipe(lab.folder, FAST, interval="1 s"), beside=pause)
    assert run.result.state is RunState.COMPLETED
    assert Record.open(run.folder).state == "completed"


def _faulty(fail: Callable[[], None]) -> Order:
    @protocol(source="this test")
    def faulty(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
        """One minute of charge, then something wrong."""
        charge = yield ConstantCurrent(1e-3, (VOLTAGE >= 4.25, ELAPSED >= 60.0))
        if charge.voltage > 1.0:  # a preview answers with zeros
            fail()
        yield Rest((ELAPSED >= 1.0,))

    return Order(faulty())


def test_a_bug_in_a_protocol_faults_the_run_with_the_output_off(lab: Lab) -> None:
    def fail() -> None:
        raise KeyError("capacity_fade")

    run = lab.run(_faulty(fail))
    assert run.result.state is RunState.FAULTED
    assert "capacity_fade" in run.result.reason
    assert run.result.safe
    assert not lab.relay_at_end


def test_bad_input_in_the_middle_of_a_run_is_a_fault_not_a_refusal(lab: Lab) -> None:
    def fail() -> None:
        raise BadInputError("found late")

    run = lab.run(_faulty(fail))
    assert run.result.state is RunState.FAULTED
    assert run.result.charge > 0.05


def test_values_of_the_step_before_do_not_end_the_next(lab: Lab) -> None:
    @protocol(source="this test")
    def late(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
        """A long rest, then a step that ends on pressure and time together."""
        yield Rest((ELAPSED >= 1200.0,))
        yield Rest(((PRESSURE > 1e6) & (ELAPSED > 600.0),), label="second")

    for interval in (1.0, 3.1, 7.3):
        run = lab.run(Order(late(), poll=Poll(interval=interval)))
        assert Record.open(run.folder).steps()[1].duration > 600.0


def test_a_pause_keeps_the_charge_and_time_that_a_step_already_has(lab: Lab) -> None:
    async def pause(engine: Engine, clock: Clock) -> None:
        await clock.sleep(600.0)
        engine.pause_all()
        await clock.sleep(60.0)
        assert engine.runners["A1"].state is RunState.PAUSED
        assert not engine.simulation.relays()["smu1"]  # type: ignore[union-attr]
        await clock.sleep(1200.0)
        engine.resume_all()

    recipe = write_recipe(lab.folder, interval="5 s")
    paused = lab.run(recipe, beside=pause)
    straight = lab.run(recipe)
    assert paused.result.state is RunState.COMPLETED
    first, second = (Record.open(run.folder).steps()[0] for run in (paused, straight))
    # The cell relaxes in the pause, so the charge to 4.25 V differs by a little, not by 10 min.
    assert first.charge == pytest.approx(second.charge, rel=0.02)
    assert first.duration == pytest.approx(second.duration, rel=0.05)
    journal = [entry.entry for entry in Record.open(paused.folder).journal()]
    assert journal.index(Entry.PAUSED) < journal.index(Entry.RESUMED)
    samples = Record.open(paused.folder).samples(step=1)
    assert np.all(np.diff(samples["step_charge"]) >= -1e-9)


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ('early = { when = "voltage > 4.0 V", action = "trip" }', "early"),
        ('late = { when = "elapsed > 5 min and voltage > 3 V", action = "trip" }', "late"),
        ('squeeze = { when = "pressure > 8.2 MPa", action = "trip" }', "squeeze"),
    ],
)
def test_a_limit_trips_into_a_verified_safe_state(lab: Lab, limit: str, name: str) -> None:
    run = lab.run(write_recipe(lab.folder, interval="5 s", limits=limit))
    assert run.result.state is RunState.TRIPPED
    assert name in run.result.reason
    assert run.result.safe
    assert not lab.relay_at_end
    record = Record.open(run.folder)
    assert [event.name for event in record.limits] == [name]
    assert record.state == "tripped"
    cut = record.steps()[-1]
    assert (cut.reason, cut.condition, cut.ended) == ("tripped", None, False)
    assert cut.end == pytest.approx(run.result.duration, abs=1.0)
    whole = record.samples()["charge"]
    assert sum(step.charge for step in record.steps()) == pytest.approx(run.result.charge, rel=1e-6)
    assert abs(run.result.charge) >= abs(whole[-1])


def test_a_warning_is_journalled_and_the_run_goes_on(lab: Lab) -> None:
    limits = 'high = { when = "voltage > 4.0 V", action = "warn" }'
    run = lab.run(write_recipe(lab.folder, FAST, interval="5 s", limits=limits))
    assert run.result.state is RunState.COMPLETED
    assert "warn" in {event.action for event in Record.open(run.folder).limits}


def test_a_hold_opens_the_circuit_and_an_operator_can_resume(lab: Lab) -> None:
    resumed = 0

    async def operator(engine: Engine, clock: Clock) -> None:
        nonlocal resumed
        await clock.sleep(10.0)
        for _ in range(5000):
            runner = engine.runners.get("A1")
            if runner is None:
                break
            if runner.state is RunState.HELD:
                assert not engine.simulation.relays()["smu1"]  # type: ignore[union-attr]
                engine.resume_all()
                resumed += 1
            await clock.sleep(10.0)

    limits = 'once = { when = "voltage > 4.0 V for 5 min", action = "hold" }'
    run = lab.run(write_recipe(lab.folder, FAST, interval="5 s", limits=limits), beside=operator)
    assert run.result.state is RunState.COMPLETED
    assert resumed >= 1
    assert len(Record.open(run.folder).journal(Entry.RESUMED)) == resumed


def test_an_abort_ends_in_a_verified_safe_state(lab: Lab) -> None:
    async def abort(engine: Engine, clock: Clock) -> None:
        await clock.sleep(100.0)
        engine.stop_all("asked")

    run = lab.run(write_recipe(lab.folder), beside=abort)
    assert (run.result.state, run.result.reason) == (RunState.ABORTED, "asked")
    assert not lab.relay_at_end


def test_an_abort_while_the_instruments_are_being_connected_is_not_lost(lab: Lab) -> None:
    async def abort(engine: Engine, clock: Clock) -> None:
        await clock.sleep(0.01)
        assert not engine.runners
        engine.stop_all("asked early")

    run = lab.run(write_recipe(lab.folder), beside=abort)
    assert (run.result.state, run.result.reason) == (RunState.ABORTED, "asked early")
    assert lab.charge_of_cell == pytest.approx(0.0, abs=1e-6)
    assert not lab.relay_at_end


def test_reversed_leads_are_found_before_the_cell_is_driven(lab: Lab) -> None:
    bench = write_bench(lab.folder, smu_options='leads = "reversed"')
    run = lab.run(write_recipe(lab.folder), bench)
    assert run.result.state is RunState.REFUSED
    assert "reversed" in run.result.reason
    assert run.result.safe
    assert lab.charge_of_cell == pytest.approx(0.0, abs=1e-6)


def test_open_leads_are_found_before_the_cell_is_driven(lab: Lab) -> None:
    bench = write_bench(lab.folder, smu_options='leads = "open"')
    run = lab.run(write_recipe(lab.folder), bench)
    assert run.result.state is RunState.REFUSED
    assert not lab.relay_at_end


def test_an_implausible_open_circuit_voltage_is_refused(lab: Lab) -> None:
    order = order_from(load_recipe(write_recipe(lab.folder)))
    run = lab.run(replace(order, preflight=Preflight(open_circuit=(3.0, 4.3))))
    assert run.result.state is RunState.REFUSED
    assert "implausible" in run.result.reason
    assert lab.charge_of_cell == pytest.approx(0.0, abs=1e-6)


def test_a_current_beyond_the_instrument_is_refused_before_a_record_exists(lab: Lab) -> None:
    recipe = write_recipe(lab.folder, 'charge_rate = "1000C"')
    with pytest.raises(UnsupportedError, match=r"beyond its 1\.05 A"):
        lab.run(recipe)
    assert not list(lab.folder.glob("runs/*"))


def test_a_bench_of_real_addresses_runs_in_virtual_time_but_is_not_served(lab: Lab) -> None:
    bench = write_bench(lab.folder)
    text = bench.read_text().replace("127.0.0.1", "192.168.0.10")
    bench.write_text(text.replace("serial:ports/lc1", "serial:/dev/ttyUSB0"))
    run = lab.run(write_recipe(lab.folder, FAST, interval="10 s"), bench)
    assert run.result.state is RunState.COMPLETED
    assert Record.open(run.folder).simulated
    with pytest.raises(BadInputError, match=r"smu1 at TCPIP::192.168.0.10.* cannot be served"):
        run_coroutine(serve(load_bench(bench), Clock(), None, sys.stdout))


def test_another_instrument_than_the_bench_says_is_refused(lab: Lab) -> None:
    bench = write_bench(lab.folder)
    bench.write_text(bench.read_text().replace('expect.serial = "04500001"', 'expect.serial = "7"'))
    with pytest.raises(WrongInstrumentError, match="expected serial 7, found 04500001"):
        lab.run(write_recipe(lab.folder), bench)
    assert not list(lab.folder.glob("runs/*"))


def test_a_limit_on_a_quantity_that_nothing_measures_is_refused(lab: Lab) -> None:
    bench = write_bench(lab.folder)
    bench.write_text(bench.read_text().replace('load_cell = "lc1"', ""))
    recipe = write_recipe(
        lab.folder, limits='squeeze = { when = "pressure > 8 MPa", action = "trip" }'
    )
    with pytest.raises(BadInputError, match="squeeze watches pressure"):
        lab.run(recipe, bench)


def test_a_slope_over_fewer_than_three_readings_is_refused(lab: Lab) -> None:
    limits = 'steep = { when = "abs(dV/dt over 20 s) > 1 V/min", action = "trip" }'
    with pytest.raises(BadInputError, match="fewer than three readings"):
        lab.run(write_recipe(lab.folder, interval="10 s", limits=limits))


def test_a_cell_that_is_overloaded_for_its_meter_trips_at_once(lab: Lab) -> None:
    async def overload(engine: Engine, clock: Clock) -> None:
        await clock.sleep(300.0)
        engine.simulation.inject("smu1", "overload")  # type: ignore[union-attr]

    run = lab.run(write_recipe(lab.folder, interval="5 s"), beside=overload)
    assert run.result.state is RunState.TRIPPED
    assert "beyond its range" in run.result.reason
    assert run.result.duration < 310.0
    assert not lab.relay_at_end


def test_a_load_cell_in_overload_trips_what_watches_it_at_once(lab: Lab) -> None:
    async def overload(engine: Engine, clock: Clock) -> None:
        await clock.sleep(300.0)
        engine.simulation.inject("lc1", "overload")  # type: ignore[union-attr]

    limits = 'squeeze = { when = "pressure > 12 MPa", action = "trip", stale_after = "1 h" }'
    run = lab.run(write_recipe(lab.folder, interval="5 s", limits=limits), beside=overload)
    assert run.result.state is RunState.TRIPPED
    assert "overload" in run.result.reason
    assert run.result.duration < 310.0


@pytest.mark.parametrize("fault", ["silence", "drop 3600 s", "garbage", "overload"])
def test_a_load_cell_that_gives_nothing_valid_at_the_start_is_refused(lab: Lab, fault: str) -> None:
    bench = write_bench(lab.folder)
    text = bench.read_text().replace(
        '[instruments.lc1.simulated]\ncell = "c1"',
        f'[instruments.lc1.simulated]\ncell = "c1"\nfaults = "{fault}"',
    )
    bench.write_text(text)
    try:
        run = lab.run(write_recipe(lab.folder), bench)
    except Exception as error:
        assert "lc1" in str(error) or "pt113" in str(error)  # noqa: PT017
        return
    assert run.result.state in {RunState.REFUSED, RunState.FAULTED}
    assert run.result.steps == 0
    assert run.result.safe


@pytest.mark.parametrize("load_cell", ["pt113", "pt113-modbus"])
def test_a_load_cell_that_falls_silent_trips_the_limit_on_its_quantity(
    lab: Lab, load_cell: str
) -> None:
    async def cut(engine: Engine, clock: Clock) -> None:
        await clock.sleep(300.0)
        engine.simulation.inject("lc1", "silence")  # type: ignore[union-attr]

    bench = write_bench(lab.folder, load_cell=load_cell)
    limits = 'squeeze = { when = "pressure > 12 MPa", action = "trip", stale_after = "30 s" }'
    run = lab.run(write_recipe(lab.folder, limits=limits), bench, beside=cut)
    assert run.result.state is RunState.TRIPPED
    assert "no valid reading of pressure" in run.result.reason
    assert 330.0 < run.result.duration < 400.0
    assert not lab.relay_at_end


@pytest.mark.parametrize("fault", ["silence", "garbage", "truncated", "late 3600 s", "drop 30 s"])
def test_a_source_meter_that_misbehaves_ends_the_run_and_is_never_left_on_in_silence(
    lab: Lab, fault: str
) -> None:
    async def break_it(engine: Engine, clock: Clock) -> None:
        await clock.sleep(300.0)
        engine.simulation.inject("smu1", fault)  # type: ignore[union-attr]

    run = lab.run(write_recipe(lab.folder), beside=break_it)
    assert run.result.state is RunState.FAULTED
    # Either it was read back off, or the result says loudly that it was not.
    assert run.result.safe == (not lab.relay_at_end) or not run.result.safe
    if not run.result.safe:
        assert "ASSUME THAT THE OUTPUT IS ON" in run.result.reason
    assert Record.open(run.folder).state == "faulted"


def test_an_output_that_goes_off_by_itself_ends_the_run(lab: Lab) -> None:
    async def reboot(engine: Engine, clock: Clock) -> None:
        await clock.sleep(300.0)
        engine.simulation.inject("smu1", "reboot")  # type: ignore[union-attr]

    run = lab.run(write_recipe(lab.folder), beside=reboot)
    assert run.result.state is RunState.FAULTED
    assert not lab.relay_at_end


def test_the_manifest_says_how_patient_each_limit_is(lab: Lab) -> None:
    limits = (
        'squeeze = { when = "pressure > 50 MPa", action = "hold", grace = "10 s", '
        'stale_after = "2 min" }\n'
        'early = { when = "voltage > 3.5 V", action = "trip" }'
    )
    run = lab.run(write_recipe(lab.folder, limits=limits))
    written: Any = Record.open(run.folder).manifest["limits"]
    assert written["squeeze"] == {
        "when": "pressure > 50 MPa", "action": "hold", "grace": 10.0, "stale_after": 120.0,
    }  # fmt: skip
    assert (written["early"]["grace"], written["early"]["stale_after"]) == (0.0, 10.0)
    assert written["over_voltage"]["stale_after"] == 3600.0


def test_what_is_no_step_ends_a_run_that_nobody_could_foresee_in_the_safe_state(lab: Lab) -> None:
    @protocol(source="this test")
    def soak(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
        """Rest, and go wrong on a cell that has a voltage, which a preview does not know."""
        outcome = yield Rest((ELAPSED >= 5.0,))
        yield 5 if outcome.voltage > 1.0 else Rest((ELAPSED >= 5.0,))  # type: ignore[misc]

    run = lab.run(Order(soak()))
    assert run.result.state is RunState.FAULTED
    assert "protocol soak, test_virtual_runs.py line " in run.result.reason
    assert "5 (int) is no step" in run.result.reason
    assert run.result.safe
    assert not lab.relay_at_end
