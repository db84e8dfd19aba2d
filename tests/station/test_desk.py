"""The desk: what clients can ask of an engine, in virtual time and across threads."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import free_port, simulated, write_bench
from operando.drivers import Keithley2450
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import AddressInUseError
from operando.instruments.locks import AddressLock
from operando.instruments.recipe import parse_recipe
from operando.records import Record
from operando.station.client.client import RefusedError
from operando.station.client.models import RunRequest
from operando.station.desk import Desk
from operando.station.engine import Engine
from operando.station.simulate import clock_for
from support.desk_story import REQUEST, TRIPPING, of, relay, tell, until


def test_a_run_is_started_watched_and_completes(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        idle = of(desk)
        assert (idle.state, idle.run, idle.attention) == ("idle", None, False)
        assert idle.cell is not None
        assert idle.cell.capacity == pytest.approx(11.295, abs=1e-3)
        smu, load = idle.instruments
        assert "04500001" in smu.identity
        assert (smu.role, smu.problem, load.problem, smu.simulated) == (
            "potentiostat",
            "",
            "",
            True,
        )

        started = await desk.start("A1", REQUEST)
        assert (tmp_path / "runs" / started.run / "manifest.json").is_file()
        await clock.sleep(600.0)
        early = of(desk)
        assert (early.state, early.output, early.run) == ("running", "on", started.run)
        assert (early.step, early.step_index, early.cycle) == ("charge", 1, 1)
        assert (early.title, early.protocol) == ("a cycle", "cccv")
        assert early.elapsed == pytest.approx(600.0, abs=10.0)
        assert relay(engine)
        await until(desk, clock, "completed")
        late = of(desk)
        assert (late.output, late.attention, late.progress) == ("off", False, 1.0)
        assert early.progress is not None
        assert early.time_left is not None
        # 30 min each way at 2C and two rests of a minute, 10 min of which have passed.
        assert early.progress == pytest.approx(600.0 / 3720.0, abs=0.01)
        assert early.time_left == pytest.approx(3120.0, abs=15.0)
        assert not relay(engine)
        record = Record.open(tmp_path / "runs" / started.run)
        assert parse_recipe(str(record.manifest["recipe"]), Path("r")).title == "a cycle"

    tell(tmp_path, story)


def test_progress_does_not_run_ahead_of_a_step_that_lasts_longer(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        slow = REQUEST.model_copy(update={"limits": {}, "parameters": {"charge_rate": "2C"}})
        await desk.start("A1", slow)
        seen: list[float] = []
        # The hold at the upper voltage goes on after the half hour that 2C would take.
        while (status := of(desk)).step_index < 2:
            assert status.progress is not None or status.state == "preparing"
            seen.append(status.progress or 0.0)
            await clock.sleep(30.0)
        assert seen == sorted(seen)
        assert len(seen) * 30.0 > 2000.0
        assert seen[-1] == pytest.approx(1800.0 / (1800.0 + 7200.0 + 1200.0), abs=0.005)
        await desk.abort("A1")

    tell(tmp_path, story)


def test_a_trip_is_latched_until_it_is_acknowledged(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await desk.start("A1", TRIPPING)
        tripped = await until(desk, clock, "tripped", "completed")
        assert (tripped.state, tripped.output, tripped.attention) == ("tripped", "off", True)
        assert "early" in tripped.reason
        with pytest.raises(RefusedError, match=r"latched until somebody acknowledges.*early"):
            await desk.start("A1", REQUEST)
        assert len(list((tmp_path / "runs").iterdir())) == 1
        assert "tripped" in desk.acknowledge("A1").message
        assert not of(desk).attention
        assert of(desk).state == "tripped"
        await desk.start("A1", REQUEST)
        await desk.abort("A1")

    tell(tmp_path, story)


def test_an_abort_is_done_when_the_output_has_been_read_back_off(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await desk.start("A1", REQUEST)
        await clock.sleep(100.0)
        assert relay(engine)
        done = await desk.abort("A1")
        assert done.ok
        assert not relay(engine)
        assert "read back off" in done.message
        status = of(desk)
        assert (status.state, status.output, status.attention) == ("aborted", "off", False)
        assert (await desk.abort("A1")).ok  # nothing runs, and it is known to be off
        await desk.start("A1", REQUEST)
        await desk.abort("A1")

    tell(tmp_path, story)


def test_an_output_that_cannot_be_read_back_is_never_said_to_be_off(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await desk.start("A1", REQUEST)
        await clock.sleep(100.0)
        engine.simulation.inject("smu1", "silence")  # type: ignore[union-attr]
        done = await desk.abort("A1")
        assert not done.ok
        assert "ASSUME THAT THE OUTPUT IS ON" in done.message
        assert relay(engine)
        status = of(desk)
        assert (status.state, status.output, status.attention) == ("faulted", "unknown", True)
        assert not (await desk.stop_all()).ok
        assert not (await desk.abort("A1")).ok
        assert await desk.at_rest() == ("A1",)
        with pytest.raises(RefusedError, match="latched"):
            await desk.start("A1", REQUEST)
        assert "you state that you have looked at smu1" in desk.acknowledge("A1").message
        assert (of(desk).output, of(desk).attention) == ("unknown", False)
        with pytest.raises(RefusedError, match=r"smu1|keithley"):
            await desk.start("A1", REQUEST)  # it is still silent
        engine.simulation.inject("smu1", "none")  # type: ignore[union-attr]
        await desk.start("A1", REQUEST)
        assert (await desk.abort("A1")).ok
        assert of(desk).output == "off"

    tell(tmp_path, story)


def test_stop_all_ends_what_is_being_prepared_and_forbids_nothing_later(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        starting = asyncio.create_task(desk.start("A1", REQUEST))
        await asyncio.sleep(0)
        assert of(desk).state == "preparing"
        assert "A1" not in engine.runners
        done = await desk.stop_all()
        assert done.ok, done.message
        assert not relay(engine)
        run = (await starting).run
        assert Record.open(tmp_path / "runs" / run).state == "aborted"
        assert not Record.open(tmp_path / "runs" / run).steps()
        await desk.start("A1", REQUEST)
        await clock.sleep(100.0)
        assert of(desk).state == "running"
        assert (await desk.stop_all()).ok
        assert "no run" in (await desk.stop_all()).message

    tell(tmp_path, story)


def test_a_station_that_ends_starts_nothing_more(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await desk.start("A1", REQUEST)
        desk.shut_down()
        assert desk.shut_down_asked.is_set()
        desk.end("asked")
        assert "ending" in desk.alarm()
        assert await desk.at_rest() == ()
        assert of(desk).state == "aborted"
        with pytest.raises(RefusedError, match="is ending"):
            await desk.start("A1", REQUEST)

    tell(tmp_path, story)


def test_a_pause_opens_the_circuit_and_a_resume_goes_on(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        with pytest.raises(RefusedError, match="no run under way"):
            desk.pause("A1")
        await desk.start("A1", REQUEST)
        await clock.sleep(100.0)
        with pytest.raises(RefusedError, match="nothing to resume"):
            desk.resume("A1")
        with pytest.raises(RefusedError, match="running already"):
            await desk.start("A1", REQUEST)
        with pytest.raises(RefusedError, match="run under way"):
            desk.acknowledge("A1")
        assert desk.pause("A1").ok
        paused = await until(desk, clock, "paused")
        assert paused.output == "off"
        assert not relay(engine)
        assert "paused already" in desk.pause("A1").message
        assert desk.resume("A1").ok
        await until(desk, clock, "running")
        await clock.sleep(10.0)
        assert relay(engine)
        assert (await desk.abort("A1")).ok

    tell(tmp_path, story)


def test_what_does_not_exist_is_refused_with_what_does(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        calls: list[Callable[[], object]] = [
            lambda: desk.pause("B1"),
            lambda: desk.resume("B1"),
            lambda: desk.acknowledge("B1"),
            lambda: desk.check("B1", REQUEST),
        ]
        for call in calls:
            with pytest.raises(RefusedError, match=r"no channel 'B1'; it has: A1"):
                call()
        for wait in (desk.start("B1", REQUEST), desk.abort("B1")):
            with pytest.raises(RefusedError, match="no channel"):
                await wait

    tell(tmp_path, story)


def test_an_instrument_that_does_not_answer_is_named_and_keeps_no_channel(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        assert of(desk).instruments[0].problem
        assert not of(desk).instruments[1].problem
        with pytest.raises(RefusedError, match=r"channel A1: .*127\.0\.0\.1"):
            await desk.start("A1", REQUEST)
        assert (of(desk).state, of(desk).run) == ("idle", None)
        assert not list((tmp_path / "runs").glob("*"))
        engine.simulation.inject("smu1", "none")  # type: ignore[union-attr]
        await desk.start("A1", REQUEST)
        assert not of(desk).instruments[0].problem
        assert (await desk.abort("A1")).ok

    bench = write_bench(tmp_path)
    text = bench.read_text().replace(
        'serial = "04500001"\n\n', 'serial = "04500001"\nfaults = "silence"\n'
    )
    bench.write_text(text)
    assert "silence" in text
    tell(tmp_path, story, bench=bench)


@pytest.mark.parametrize(("on", "output"), [(True, "on"), (False, "off")])
def test_an_output_that_is_found_on_waits_for_somebody_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: bool, output: str
) -> None:
    async def output_is_on(_: object) -> bool:
        return on

    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        status = of(desk)
        assert (status.output, status.attention) == (output, on)
        if not on:
            return
        assert "found on" in status.reason
        with pytest.raises(RefusedError, match="found on"):
            await desk.start("A1", REQUEST)
        desk.acknowledge("A1")
        await desk.start("A1", REQUEST)
        await desk.abort("A1")

    monkeypatch.setattr(Keithley2450, "output_is_on", output_is_on, raising=False)
    tell(tmp_path, story)


def test_a_check_tells_all_that_is_wrong_by_field(tmp_path: Path) -> None:
    request = RunRequest(
        protocol="cccv",
        parameters={"charge_rate": "2 V", "cycles": "many", "charge_rat": "1C"},
        limits={
            "high": {"when": "volts > 4.3 V", "action": "explode"},
            "low": {"action": "trip"},
        },
        poll={"interval": "1 V"},
        record={"every": "often", "on_change": {"volt": "1 mV"}},
    )

    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        report = desk.check("A1", request)
        assert not report.ok
        told = {problem.where: problem.message for problem in report.problems}
        assert set(told) == {
            "parameters.charge_rate", "parameters.cycles", "parameters.charge_rat",
            "limits.high.when", "limits.high.action", "limits.low.when",
            "poll.interval", "record.every", "record.on_change.volt",
        }  # fmt: skip
        assert all(told.values())
        assert 'did you mean "charge_rate"' in told["parameters.charge_rat"]
        # What can be said is said: the other rates in amperes.
        assert report.derived["parameters.discharge_rate"] == "1.569 mA"
        assert "parameters.charge_rate" not in report.derived
        with pytest.raises(RefusedError) as refused:
            await desk.start("A1", request)
        assert refused.value.problems == report.problems
        assert not list((tmp_path / "runs").glob("*"))

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"protocol": "ccvc"}, "protocol", 'Did you mean "cccv"'),
        ({"protocol": ""}, "protocol", "missing"),
        ({"parameters": {"cv_cutoff": "3C"}}, "parameters.cv_cutoff", "smaller than charge_rate"),
        ({"parameters": {"cycles": 0}}, "parameters.cycles", "at least one cycle"),
        ({"parameters": {"charge_rate": "1000C"}}, "parameters.charge_rate",
         "beyond its 1.05 A"),
        ({"limits": {"hot": {"when": "temperature > 60 degC", "action": "trip"}}},
         "limits.hot.when", "nothing on channel A1"),
        ({"limits": {"steep": {"when": "dV/dt over 5 s > 1 V/s", "action": "trip"}}},
         "limits.steep.when", "fewer than three readings"),
        ({"limits": {"slow": {"when": "voltage > 5 V", "action": "trip", "stale_after": "1 s"}}},
         "limits.slow.stale_after", "counts a reading as missing"),
        ({"preflight": {"open_circuit": ["3 V", "2 V"]}}, "preflight.open_circuit", "lower"),
        ({"recipe": "protocol = 'cccv'"}, "", "send one of them"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_at_its_field(
    tmp_path: Path, change: dict[str, Any], where: str, message: str
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        assert desk.check("A1", REQUEST).ok
        report = desk.check("A1", REQUEST.model_copy(update=change))
        assert not report.ok
        assert [problem.where for problem in report.problems] == [where]
        assert message in report.problems[0].message

    tell(tmp_path, story)


def test_a_check_says_what_would_happen_and_its_recipe_means_the_same(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        request = REQUEST.model_copy(
            update={
                "parameters": {**REQUEST.parameters, "cycles": 3, "initial_rest": None},
                "limits": {
                    "pressed": {"when": "pressure > 12 MPa for 5 s", "action": "hold"},
                    "flow": {"when": "abs(current) > 1C", "action": "trip"},
                },
            }
        )
        report = desk.check("A1", request)
        assert report.ok, report.problems
        assert report.derived["parameters.charge_rate"] == "6.275 mA"
        assert [(row.label, row.times) for row in report.plan] == [
            ("charge", 3), ("rest after charge", 3), ("discharge", 3), ("rest after discharge", 3),
        ]  # fmt: skip
        assert report.steps == 12
        assert report.duration == pytest.approx(3 * 3720.0)
        limits = {limit.name: limit for limit in report.limits}
        assert (limits["pressed"].quantity, limits["pressed"].bound) == ("pressure", 12e6)
        assert (limits["flow"].magnitude, limits["flow"].above) == (True, True)
        assert limits["flow"].bound == pytest.approx(3.138e-3, rel=1e-3)
        assert not limits["under_voltage (default)"].above
        assert {row.name for row in report.sheet} == {*limits, "bounds on board of smu1"}
        assert any("flow" in warning for warning in report.warnings)
        again = desk.check("A1", RunRequest(recipe=report.recipe, recipe_name="again.toml"))
        assert again.model_dump(exclude={"recipe"}) == report.model_dump(exclude={"recipe"})
        broken = report.recipe.replace('"2C"', '"2 V"', 1)
        (problem,) = desk.check("A1", RunRequest(recipe=broken, recipe_name="r.toml")).problems
        assert problem.where == "parameters.charge_rate"
        assert "r.toml line" in problem.message

    tell(tmp_path, story)


def test_protocols_come_with_the_schema_of_their_form(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        cccv = next(protocol for protocol in desk.protocols() if protocol.name == "cccv")
        rate = cccv.parameters["properties"]["charge_rate"]  # type: ignore[index]
        assert (rate["quantity"], rate["default"]) == ("a C-rate", "C/2")

    tell(tmp_path, story)


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_another_thread_starts_and_ends_a_run_and_the_bench_is_claimed(tmp_path: Path) -> None:
    bench = load_bench(write_bench(tmp_path, speed=60.0))
    request = REQUEST.model_copy(update={"poll": {"interval": "10 s"}})
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()

    async def client(desk: Desk) -> None:
        started = await desk.start("A1", request)
        heard.put(started.run)
        heard.put([status.run for status in desk.statuses()])
        desk.pause("A1")
        heard.put((await desk.stop_all()).ok)
        heard.put((await desk.start("A1", request)).run)
        heard.put((await desk.abort("A1")).ok)
        desk.shut_down()

    async def main() -> None:
        async with Engine(bench, clock_for(bench)) as engine:
            await engine.claim()
            with pytest.raises(AddressInUseError, match="in use by process"):
                AddressLock(bench.instruments["smu1"].address).acquire()
            loop = asyncio.get_running_loop()
            desk = Desk(engine, loop, tmp_path / "runs", simulated=True)
            await desk.open()
            thread = threading.Thread(target=lambda: asyncio.run(client(desk)))
            thread.start()
            async with asyncio.timeout(60.0):
                await desk.shut_down_asked.wait()
            await asyncio.to_thread(thread.join)

    with simulated(bench.path) as process:
        run_coroutine(main())
        assert process.relays() == {"smu1": False}
    AddressLock(bench.instruments["smu1"].address).acquire()
    first, runs, stopped, second, aborted = (heard.get_nowait() for _ in range(5))
    assert runs == [first]
    assert first != second
    assert (stopped, aborted) == (True, True)


def test_a_claim_names_who_has_an_instrument(tmp_path: Path) -> None:
    bench = load_bench(write_bench(tmp_path))
    assert free_port()

    async def main() -> None:
        async with Engine(bench, Clock()) as first, Engine(bench, Clock()) as second:
            await first.claim()
            with pytest.raises(AddressInUseError, match="in use by process"):
                await second.claim(0.2)

    run_coroutine(main())
    with AddressLock(bench.instruments["smu1"].address):
        pass
