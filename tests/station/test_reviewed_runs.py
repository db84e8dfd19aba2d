"""What meets in a run: an operator, limits, spectra and steps on board, at the worst of moments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.conditions import ELAPSED, VOLTAGE, Condition, parse
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Action, Limit
from operando.instruments.quantities import Voltages
from operando.instruments.recipe import Poll, RecordConditions
from operando.instruments.recorder import Entry
from operando.protocols import (
    Block,
    Cell,
    ConstantCurrent,
    Impedance,
    Plan,
    Rest,
    Runner,
    RunResult,
    RunState,
    Steps,
    VoltageSweep,
    logarithmic,
    protocol,
)
from operando.records import Record
from operando.station.engine import Engine, Order
from support.dropped import Mortal
from support.virtual_lab import bench_of, run_on_lab

Story = Callable[[Runner, Clock], Awaitable[None]]


def tell(
    plan: Plan,
    channel: str,
    folder: Path,
    story: Story,
    *,
    limits: Sequence[Limit] = (),
    poll: Poll | None = None,
    shared: bool = False,
) -> tuple[Record, RunResult]:
    """Run a plan on a channel of the example laboratory while a story is told to its runner."""
    bench = bench_of(channel, shared=shared)
    order = Order(
        plan,
        limits=tuple(limits),
        record=RecordConditions(every=5.0),
        poll=poll or Poll(interval=5.0),
    )

    async def execute() -> tuple[Record, RunResult]:
        clock = Clock("virtual")
        async with Engine(bench, clock) as engine:
            run = asyncio.create_task(engine.run(channel, order, folder))
            while not run.done() and channel not in engine.runners:
                await clock.sleep(0.1)
            if not run.done():
                await story(engine.runners[channel], clock)
            ran = await run
            simulation = engine.simulation
            assert simulation is not None
            assert not any(simulation.relays().values()), "an output stayed on"
            return Record.open(ran.folder), ran.result

    return run_coroutine(execute(), virtual=True)


async def nothing(runner: Runner, clock: Clock) -> None:
    """Let the run alone."""


# ---- an operator ends a step, and something else wants the circuit open ----------------------


@protocol(source="a test")
def pulses(
    cell: Cell,
    *,
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Two pulses of 100 s."""
    for _ in range(2):
        yield ConstantCurrent(1e-4, (ELAPSED >= 100.0, VOLTAGE >= window[1]))


@pytest.mark.parametrize("state", [RunState.HELD, RunState.PAUSED])
def test_a_step_that_was_ended_does_not_take_a_hold_or_pause_along(
    tmp_path: Path, state: RunState
) -> None:
    async def story(runner: Runner, clock: Clock) -> None:
        await clock.sleep(60.0)
        await runner.cut_step("the test")
        if state is RunState.HELD:
            runner.hold("the glovebox is wet")
        else:
            runner.pause()
        await clock.sleep(30.0)
        assert (runner.state, runner.tally.step_count) == (state, 1)
        assert runner.verified_off
        runner.resume()

    record, result = tell(pulses(), "D2", tmp_path, story)
    assert result.state is RunState.COMPLETED, result.reason
    assert [step.reason for step in record.steps()] == ["operator", "condition"]


def test_a_step_cannot_be_ended_past_a_hold_that_comes_while_that_is_journalled(
    tmp_path: Path,
) -> None:
    async def story(runner: Runner, clock: Clock) -> None:
        await clock.sleep(60.0)
        note = runner.note

        async def slow(entry: Entry, data: object) -> None:
            if entry is Entry.EDIT:
                runner.hold("the glovebox is wet")
                await clock.sleep(20.0)
                assert runner.state is RunState.HELD
            await note(entry, data)  # type: ignore[arg-type]

        runner.note = slow  # type: ignore[method-assign]
        await runner.cut_step("the test")
        await clock.sleep(30.0)
        assert (runner.state, runner.tally.step_count) == (RunState.HELD, 1)
        runner.resume()

    record, result = tell(pulses(), "D2", tmp_path, story)
    assert result.state is RunState.COMPLETED, result.reason
    assert [step.reason for step in record.steps()] == ["operator", "condition"]


@protocol(source="a test")
def short_block(cell: Cell, *, window: Voltages = ("2.5 V", "4.25 V")) -> Steps:  # type: ignore[assignment]
    """A block that a cycler carries out whole."""
    current = cell.capacity / 36000.0
    yield Block(
        (
            ConstantCurrent(current, (ELAPSED >= 100.0, VOLTAGE >= window[1]), label="one"),
            ConstantCurrent(current, (ELAPSED >= 100.0, VOLTAGE >= window[1]), label="two"),
        )
    )


@pytest.mark.parametrize("at", [50.0, 100.1, 100.4, 100.7, 103.0])
def test_a_step_on_board_is_ended_and_the_run_does_not_wait_for_anybody(
    tmp_path: Path, at: float
) -> None:
    async def story(runner: Runner, clock: Clock) -> None:
        while runner.tally.step_count == 0:
            await clock.sleep(0.1)
        await clock.sleep(at)
        await runner.cut_step("the test")
        await clock.sleep(120.0)
        assert runner.state in (RunState.RUNNING, RunState.COMPLETED)

    _, result = tell(short_block(), "A5", tmp_path, story)
    assert result.state is RunState.COMPLETED, result.reason
    assert result.steps == 2


async def note(runner: Runner) -> None:
    """Make all rows durable."""
    await runner.note(Entry.NOTE, {"a": "test"})


def test_an_outage_on_board_is_a_gap_if_the_program_dies_before_the_download(
    tmp_path: Path,
) -> None:
    bench = bench_of("A1")
    order = Order(one_charge(), poll=Poll(interval=5.0), record=RecordConditions(every=5.0))
    with Mortal(bench, tmp_path) as lab:

        def within(work: Callable[[], object]) -> None:
            async def do() -> None:
                if asyncio.iscoroutine(found := work()):
                    await found

            lab._loop.run_until_complete(do())

        lab.start("A1", order)
        assert not lab.live(200.0)
        within(lambda: lab.simulation.inject("neware1", "drop 60 s"))
        assert not lab.live(200.0)
        within(lambda: note(lab._engine.runners["A1"]))  # type: ignore[union-attr]
        record = lab.record
        lab.drop()
        lab.now += 5.0
        lab.resume(record, order)
        run = lab.end()
        cell = lab.simulation.cells[bench.channels["A1"].cell]
        passed = cell.charge_passed(lab.now)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    gaps = Record.open(run.folder).gaps()
    outage, death = sorted(gaps, key=lambda gap: gap.start)
    assert outage.end - outage.start == pytest.approx(60.0, abs=12.0)
    assert outage.end < death.start
    assert 0.0 < passed - run.result.charge <= outage.charge_bound + death.charge_bound + 1e-3


@protocol(source="a test")
def one_charge(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
) -> Steps:
    """Ten minutes of 1C."""
    yield ConstantCurrent(cell.capacity / 3600.0, (ELAPSED >= 600.0, VOLTAGE >= window[1]))


# ---- spectra ---------------------------------------------------------------------------------

SPECTRUM = logarithmic(1e4, 1.0, 5)


@protocol(source="a test")
def spectra(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.3 V"),  # type: ignore[assignment]
) -> Steps:
    """Spectra without end."""
    for _ in range(10):
        yield Impedance(SPECTRUM, 5e-3)
        yield Rest((ELAPSED >= 10.0,))


def test_a_limit_on_something_else_keeps_its_grace_through_spectra(tmp_path: Path) -> None:
    async def story(runner: Runner, clock: Clock) -> None:
        while runner.state in (RunState.PREPARING, RunState.RUNNING):
            await clock.sleep(1.0)
        runner.abort("the limit acted")

    limit = Limit("wet", parse("h2o > 0.001 ppm"), Action.HOLD, grace=60.0)
    record, result = tell(spectra(), "C2", tmp_path, story, limits=[limit], shared=True)
    (fired,) = record.journal(Entry.LIMIT)
    assert fired.data["name"] == "wet"
    assert fired.time < 75.0
    assert result.state is RunState.ABORTED


def test_a_limit_on_voltage_and_something_else_lets_a_long_spectrum_be(tmp_path: Path) -> None:
    limit = Limit("both", parse("voltage > 4.2 V and h2o > 500 ppm"), Action.TRIP)
    record, result = tell(long_spectrum(), "C2", tmp_path, nothing, limits=[limit], shared=True)
    assert result.state is RunState.COMPLETED, result.reason
    (spectrum,) = record.spectra()
    assert spectrum.times[-1] - spectrum.times[0] > 60.0
    assert record.journal(Entry.LIMIT) == []


@protocol(source="a test")
def long_spectrum(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.3 V"),  # type: ignore[assignment]
) -> Steps:
    """A spectrum that takes some minutes."""
    yield Impedance(logarithmic(1.0, 0.02, 5), 5e-3)
    yield Rest((ELAPSED >= 20.0,))


@pytest.mark.parametrize("moment", [60.0, 200.0])
def test_a_spectrum_that_nobody_saw_the_end_of_may_have_passed_its_current(
    tmp_path: Path, moment: float
) -> None:
    bench = bench_of("C2")
    order = Order(long_spectrum(), poll=Poll(interval=5.0), record=RecordConditions(every=5.0))
    with Mortal(bench, tmp_path) as lab:
        lab.start("C2", order)
        assert not lab.live(moment)
        record = lab.record
        lab.drop()
        lab.now += 900.0
        lab.resume(record, order)
        run = lab.end()
    assert run.result.state is RunState.COMPLETED, run.result.reason
    (gap,) = Record.open(run.folder).gaps()
    assert gap.charge_bound == pytest.approx(5e-3 * (gap.end - gap.start))
    assert gap.end - gap.start > 900.0


# ---- what an instrument cannot do, asked for only while the run goes on ----------------------


@protocol(source="a test")
def surprising(
    cell: Cell,
    *,
    sweep: bool = False,
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
) -> Steps:
    """A technique behind a rest that an operator ended, which no preview foresees."""
    rest = yield Rest((ELAPSED >= 100.0,))
    if rest.reason == "operator":
        if sweep:
            yield VoltageSweep(rest.voltage, rest.voltage + 0.1, 1e-3, 1e-5)
        else:
            yield Impedance(SPECTRUM, 5e-3)


@pytest.mark.parametrize(
    ("channel", "sweep"), [("A5", False), ("A5", True), ("B2", True), ("C4", False)]
)
def test_a_technique_that_was_not_foreseen_is_refused_and_never_replaced(
    tmp_path: Path, channel: str, sweep: bool
) -> None:
    async def story(runner: Runner, clock: Clock) -> None:
        await clock.sleep(60.0)
        await runner.cut_step("the test")

    record, result = tell(surprising(sweep=sweep), channel, tmp_path, story)
    assert result.state is RunState.FAULTED
    assert "test_reviewed_runs.py line" in result.reason
    assert "this instrument" in result.reason
    assert len(record.steps()) == 1


# ---- when a spectrum is given up -------------------------------------------------------------


@protocol(source="a test")
def impatient(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.3 V"),  # type: ignore[assignment]
) -> Steps:
    """A spectrum of some minutes that is given 100 s."""
    outcome = yield Impedance(logarithmic(1.0, 0.02, 5), 5e-3, until=(ELAPSED >= 100.0,))
    assert outcome.ended_by(ELAPSED >= 100.0)
    yield Rest((ELAPSED >= 20.0,))


def test_a_spectrum_is_given_up_at_its_time_and_says_by_what(tmp_path: Path) -> None:
    _, result = tell(impatient(), "C2", tmp_path, nothing)
    assert result.state is RunState.COMPLETED, result.reason
    assert result.duration == pytest.approx(120.0, abs=5.0)


@pytest.mark.parametrize("condition", [VOLTAGE >= 4.0, parse("pressure > 5 MPa"), ELAPSED <= 5.0])
def test_a_spectrum_takes_no_condition_that_nobody_would_look_at(condition: Condition) -> None:
    with pytest.raises(BadInputError, match="only by a time"):
        Impedance(SPECTRUM, 5e-3, until=(condition,))


# ---- what is read together -------------------------------------------------------------------


def test_a_pause_is_no_skew_of_what_is_read_together(tmp_path: Path) -> None:
    async def story(runner: Runner, clock: Clock) -> None:
        await clock.sleep(60.0)
        for _ in range(20):
            runner.pause()
            await clock.sleep(100.0)
            runner.resume()
            await clock.sleep(10.0)

    together = Poll(interval=2.0, together=("air1",))
    record, result = tell(resting(), "C4", tmp_path, story, poll=together, shared=True)
    assert result.state is RunState.COMPLETED, result.reason
    (told,) = [
        e.data["read together"] for e in record.journal(Entry.NOTE) if "read together" in e.data
    ]
    skew: Any = told["air1"]  # type: ignore[index,call-overload]
    assert skew["moments"] > 30
    assert skew["largest_skew"] < 2.0
    assert skew["mean_skew"] < 1.0


@protocol(source="a test")
def resting(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.3 V"),  # type: ignore[assignment]
) -> Steps:
    """A rest of five minutes."""
    yield Rest((ELAPSED >= 300.0,))


# ---- sweeps ----------------------------------------------------------------------------------


@protocol(source="a test")
def swept(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.3 V"),  # type: ignore[assignment]
) -> Steps:
    """A sweep of 100 mV behind a short rest."""
    rest = yield Rest((ELAPSED >= 5.0,))
    yield VoltageSweep(rest.voltage, rest.voltage + 0.1, 1e-3, 5e-3)


@pytest.mark.parametrize("seconds", [0.3, 50.0, 98.6, 98.9, 99.2])
@pytest.mark.parametrize("channel", ["C1", "C2"])
def test_a_sweep_goes_on_after_a_pause_also_at_its_last_level(
    tmp_path: Path, channel: str, seconds: float
) -> None:
    async def story(runner: Runner, clock: Clock) -> None:
        while runner.tally.step_count < 2 or runner.tally.elapsed < seconds:
            await clock.sleep(0.02)
        runner.pause()
        await clock.sleep(20.0)
        assert runner.verified_off
        runner.resume()

    record, result = tell(swept(), channel, tmp_path, story)
    assert result.state is RunState.COMPLETED, result.reason
    assert record.steps()[1].duration == pytest.approx(100.0, abs=1.0)


@pytest.mark.parametrize("channel", ["C1", "C2"])
def test_the_charge_of_a_sweep_is_that_which_the_cell_saw(tmp_path: Path, channel: str) -> None:
    ran = run_on_lab(swept(), channel, tmp_path)
    passed = ran.cell.charge_passed(ran.now)
    # Current falls within each level; what a trapezoid of four readings makes of that.
    assert ran.result.charge == pytest.approx(passed, rel=0.02)
