"""A stop at the desk: it asks the instruments, overtakes what is slow, and never guesses."""

from __future__ import annotations

import asyncio
import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from lab import simulated, write_bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.records import Record
from operando.station.client.client import RefusedError
from operando.station.client.models import RunRequest
from operando.station.desk import Desk
from operando.station.engine import Engine
from operando.station.simulate import clock_for
from support.desk_story import REQUEST, of, relay, tell


def test_an_abort_before_the_first_reading_of_a_step_is_an_abort(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        run = (await desk.start("A1", REQUEST)).run
        while engine.runners["A1"].tally.step_count == 0:
            await clock.sleep(1e-4)
        assert "voltage" not in engine.runners["A1"].tally.values
        done = await desk.abort("A1")
        assert done.ok, done.message
        assert of(desk).state == "aborted"
        assert not relay(engine)
        assert Record.open(tmp_path / "runs" / run).state == "aborted"

    tell(tmp_path, story)


class AnotherHost:
    """A line on which nobody listens."""

    def send(self, data: bytes, at: float) -> None:
        """Drop it."""

    def close(self) -> None:
        """Nothing is open."""


async def switch_on_behind(engine: Engine, clock: Clock) -> None:
    """Switch the output on as a front panel or another program does."""
    device: Any = engine.simulation.devices["smu1"]  # type: ignore[union-attr]
    line = AnotherHost()
    device.connected(line, clock.now())
    device.receive(line, b":OUTP ON\n", clock.now())
    device.disconnected(line, clock.now())
    await clock.sleep(1.0)
    assert relay(engine)


def test_a_stop_asks_the_instrument_and_not_the_memory(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        looked = of(desk).output_at
        assert of(desk).output == "off"
        assert looked is not None
        for channel in ("A1", None):
            await switch_on_behind(engine, clock)
            done = await (desk.stop_all() if channel is None else desk.abort(channel))
            assert done.ok
            assert "no run was under way" in done.message
            assert "read back off" in done.message
            assert not relay(engine)
            assert (of(desk).output, of(desk).attention) == ("off", False)
            assert (of(desk).output_at or 0.0) >= looked

    tell(tmp_path, story)


def test_a_stop_switches_off_what_was_found_on_also_after_an_acknowledgement(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await switch_on_behind(engine, clock)
        await desk.open()
        assert (of(desk).output, of(desk).attention) == ("on", True)
        assert relay(engine), "nothing is switched that nobody asked for"
        desk.acknowledge("A1")
        assert (of(desk).output, of(desk).attention) == ("on", False)
        assert await desk.at_rest() == ("A1",)
        assert (await desk.stop_all()).ok
        assert not relay(engine)
        assert of(desk).output == "off"
        assert await desk.at_rest() == ()

    tell(tmp_path, story)


def test_a_stop_of_an_instrument_that_is_silent_says_that_it_may_be_on(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        engine.simulation.inject("smu1", "silence")  # type: ignore[union-attr]
        done = await desk.stop_all()
        assert not done.ok
        assert "NOT READ BACK OFF" in done.message
        assert (of(desk).output, of(desk).attention) == ("unknown", True)
        assert of(desk).output_at is None
        engine.simulation.inject("smu1", "none")  # type: ignore[union-attr]
        assert (await desk.stop_all()).ok
        assert "then switched off" in of(desk).reason

    tell(tmp_path, story)


def test_an_abort_of_a_run_that_is_being_prepared_reads_the_output_back(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await switch_on_behind(engine, clock)
        await desk.open()
        desk.acknowledge("A1")
        engine.simulation.inject("smu1", "silence")  # type: ignore[union-attr]
        starting = asyncio.create_task(desk.start("A1", REQUEST))
        await asyncio.sleep(0)
        assert of(desk).state == "preparing"
        done = await desk.abort("A1")
        with pytest.raises(RefusedError):
            await starting
        assert relay(engine)
        assert not done.ok, done.message
        assert "NOT READ BACK OFF" in done.message
        assert of(desk).output == "unknown"

    tell(tmp_path, story)


def test_nothing_starts_while_an_output_is_being_switched_off(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        stopping = asyncio.create_task(desk.stop_all())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert of(desk).stopping
        with pytest.raises(RefusedError, match="being switched off"):
            await desk.start("A1", REQUEST)
        assert (await stopping).ok
        assert not of(desk).stopping
        await desk.start("A1", REQUEST)
        assert (await desk.stop_all()).ok

    tell(tmp_path, story)


def test_a_stop_overtakes_a_start_that_is_still_being_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = load_bench(write_bench(tmp_path))
    checking, go_on = threading.Event(), threading.Event()
    check = Desk._checked

    def slow(desk: Desk, channel: str, request: RunRequest) -> Any:
        checking.set()
        assert go_on.wait(30.0)
        return check(desk, channel, request)

    monkeypatch.setattr(Desk, "_checked", slow)
    outcome: queue.SimpleQueue[object] = queue.SimpleQueue()

    async def client(desk: Desk) -> None:
        starting = asyncio.create_task(desk.start("A1", REQUEST))
        await asyncio.to_thread(checking.wait, 30.0)
        outcome.put((await desk.stop_all()).ok)
        go_on.set()
        try:
            outcome.put(await starting)
        except RefusedError as error:
            outcome.put(str(error))

    async def main() -> None:
        async with Engine(bench, clock_for(bench)) as engine:
            desk = Desk(engine, asyncio.get_running_loop(), tmp_path / "runs", simulated=True)
            thread = threading.Thread(target=lambda: asyncio.run(client(desk)))
            thread.start()
            await asyncio.to_thread(thread.join)
            assert engine.under_way == {}

    with simulated(bench.path):
        run_coroutine(main())
    assert outcome.get_nowait() is True
    assert "was stopped while this run was being checked" in str(outcome.get_nowait())


@pytest.mark.parametrize(
    ("recipe", "why"),
    [("a." * 20_000 + "b = 1", "dotted parts"), ("# " + "x" * 70_000, "letters")],
)
def test_a_recipe_that_would_cost_much_to_read_is_refused_unread(
    tmp_path: Path, recipe: str, why: str
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        report = desk.check("A1", RunRequest(recipe=f"protocol = 'cccv'\n{recipe}"))
        assert not report.ok
        assert why in report.problems[0].message

    tell(tmp_path, story)


def test_a_run_that_has_come_to_its_end_is_stopping_until_its_output_is_read_back(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await desk.start("A1", REQUEST)
        while of(desk).step_index < 4:
            await clock.sleep(1.0)
        seen = set()
        while of(desk).state != "completed" or of(desk).stopping:
            status = of(desk)
            seen.add((status.state, status.output, status.stopping, status.attention))
            await clock.sleep(0.002)
        assert seen == {
            ("running", "on", False, False),
            ("completed", "on", True, False),
        }
        assert (of(desk).output, of(desk).attention) == ("off", False)
        assert not relay(engine)

    tell(tmp_path, story)
