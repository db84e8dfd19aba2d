"""Commands that come twice or late: a start is made once, and an abort hits no other run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import simulated, wait_until, write_bench
from operando.instruments.clock import Clock
from operando.station.client import (
    ChannelStatus,
    RefusedError,
    RunRequest,
    StationClient,
    StationProcess,
)
from operando.station.desk import Desk
from operando.station.engine import Engine
from operando.station.simulate import SimulatedProcess
from operando.station.starts import REMEMBERED, Starts
from support.desk_story import REQUEST, TRIPPING, of, relay, tell, until

SLOW = RunRequest(
    protocol="cccv",
    parameters={"charge_rate": "C/2", "discharge_rate": "C/2"},
    poll={"interval": "2 s"},
)


async def being_prepared(desk: Desk) -> None:
    """Wait until a run is being prepared."""
    for _ in range(100):
        if of(desk).state == "preparing":
            return
        await asyncio.sleep(0)
    raise AssertionError(f"still {of(desk).state}")


def made(folder: Path) -> list[str]:
    """Runs that have a record."""
    return sorted(path.parent.name for path in (folder / "runs").glob("*/manifest.json"))


# ---- starts that are asked for twice ---------------------------------------------------------


def test_a_start_that_is_asked_for_again_after_its_run_has_ended_begins_no_other(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        first = await desk.start("A1", REQUEST, "one")
        await until(desk, clock, "completed")
        assert await desk.start("A1", REQUEST, "one") == first
        assert (of(desk).state, made(tmp_path)) == ("completed", [first.run])
        other = await desk.start("A1", REQUEST, "two")
        assert other != first
        await desk.abort("A1")

    tell(tmp_path, story)


def test_a_start_that_is_asked_for_again_while_it_is_prepared_or_runs_is_the_same(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        both = await asyncio.gather(*(desk.start("A1", REQUEST, "one") for _ in range(2)))
        assert both[0] == both[1] == await desk.start("A1", REQUEST, "one")
        with pytest.raises(RefusedError, match="running already"):
            await desk.start("A1", REQUEST, "two")
        with pytest.raises(RefusedError, match="running already"):
            await desk.start("A1", REQUEST)
        assert made(tmp_path) == [both[0].run]
        await desk.abort("A1")

    tell(tmp_path, story)


def test_a_client_that_gives_up_waiting_leaves_the_start_to_its_repetition(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        waiting = asyncio.create_task(desk.start("A1", REQUEST, "one"))
        await being_prepared(desk)
        waiting.cancel()
        run = (await desk.start("A1", REQUEST, "one")).run
        assert made(tmp_path) == [run]
        assert of(desk).run == run
        await desk.abort("A1")

    tell(tmp_path, story)


def test_a_start_that_a_stop_met_does_not_begin_when_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        starting = asyncio.create_task(desk.start("A1", REQUEST, "one"))
        await being_prepared(desk)
        assert (await desk.abort("A1")).ok
        run = (await starting).run
        assert (await desk.start("A1", REQUEST, "one")).run == run
        assert (of(desk).state, made(tmp_path)) == ("aborted", [run])
        # Nor one that was stopped before anything was begun.
        desk._starts.asked("A1", REQUEST, "two", desk._stops["A1"])
        await desk.abort("A1")
        with pytest.raises(RefusedError, match="was stopped"):
            await desk.start("A1", REQUEST, "two")
        assert made(tmp_path) == [run]
        assert not relay(engine)

    tell(tmp_path, story)


def test_a_start_that_came_to_no_record_stays_refused_when_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        engine.simulation.inject("smu1", "silence")  # type: ignore[union-attr]
        with pytest.raises(RefusedError) as first:
            await desk.start("A1", REQUEST, "one")
        engine.simulation.inject("smu1", "none")  # type: ignore[union-attr]
        with pytest.raises(RefusedError) as again:
            await desk.start("A1", REQUEST, "one")
        assert str(first.value) == str(again.value)
        assert made(tmp_path) == []
        assert (await desk.start("A1", REQUEST, "two")).run
        await desk.abort("A1")

    tell(tmp_path, story)


def test_a_start_that_was_refused_may_be_asked_for_again_when_its_reason_is_gone(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        tripped = (await desk.start("A1", TRIPPING)).run
        await until(desk, clock, "tripped")
        with pytest.raises(RefusedError, match="latched"):
            await desk.start("A1", REQUEST, "one")
        desk.acknowledge("A1", tripped)
        assert (await desk.start("A1", REQUEST, "one")).run != tripped
        await desk.abort("A1")

    tell(tmp_path, story)


def test_an_id_that_is_used_for_another_run_is_refused(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        await desk.start("A1", REQUEST, "one")
        await desk.abort("A1")
        with pytest.raises(RefusedError, match=r"'one'.*something else before; nothing was start"):
            await desk.start("A1", TRIPPING, "one")
        assert len(made(tmp_path)) == 1

    tell(tmp_path, story)


def test_the_oldest_ids_are_forgotten() -> None:
    starts = Starts()
    first = starts.asked("A1", REQUEST, "0", 0)
    for number in range(1, REMEMBERED):
        starts.asked("A1", REQUEST, str(number), 0)
        starts.asked("A2", REQUEST, str(number), 0)
    assert starts.asked("A1", REQUEST, "0", 1) is first
    starts.asked("A1", REQUEST, "one more", 0)
    assert starts.asked("A1", REQUEST, "0", 1) is not first


# ---- aborts and acknowledgements that come late ----------------------------------------------


def test_an_abort_that_names_an_earlier_run_stops_nothing_and_says_so(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        early = (await desk.start("A1", REQUEST)).run
        assert (await desk.abort("A1", early)).ok
        late = asyncio.create_task(desk.start("A1", REQUEST))
        await being_prepared(desk)
        with pytest.raises(RefusedError, match=r"NOTHING WAS STOPPED.*being prepared"):
            await desk.abort("A1", early)
        run = (await late).run
        await clock.sleep(100.0)
        with pytest.raises(RefusedError, match=rf"NOTHING WAS STOPPED.*{run} under way") as caught:
            await desk.abort("A1", early)
        assert "without naming a run" in str(caught.value)
        assert relay(engine)
        assert of(desk).state == "running"
        assert (await desk.abort("A1", run)).ok
        assert not relay(engine)

    tell(tmp_path, story)


def test_a_stop_that_names_no_run_stops_whatever_runs(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        for _ in range(2):
            await desk.start("A1", REQUEST)
            await clock.sleep(100.0)
            assert relay(engine)
            assert (await desk.abort("A1")).ok
            assert not relay(engine)

    tell(tmp_path, story)


def test_an_abort_of_a_run_that_is_over_leaves_the_next_start_alone(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        run = (await desk.start("A1", REQUEST)).run
        await desk.abort("A1")
        checked, asked = desk._checked("A1", REQUEST), desk._starts.asked("A1", REQUEST, "", 1)
        done = await desk.abort("A1", run)
        assert done.ok
        assert f"no run was under way (the last is {run}, aborted)" in done.message
        assert (await desk._start("A1", checked, asked)).run != run
        await desk.abort("A1")

    tell(tmp_path, story)


def test_an_acknowledgement_of_an_earlier_run_leaves_the_last_one_latched(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        runs = []
        for _ in range(2):
            runs.append((await desk.start("A1", TRIPPING)).run)
            await until(desk, clock, "tripped")
            if len(runs) == 1:
                desk.acknowledge("A1", runs[0])
        with pytest.raises(RefusedError, match=rf"NOTHING WAS ACKNOWLEDGED.*{runs[1]} \(tripped"):
            desk.acknowledge("A1", runs[0])
        assert of(desk).attention
        desk.acknowledge("A1", runs[1])
        assert not of(desk).attention

    tell(tmp_path, story)


# ---- through a station -----------------------------------------------------------------------


class Served:
    """A station of one channel, its client, and its simulation."""

    def __init__(self, folder: Path, lab: SimulatedProcess, client: StationClient) -> None:
        self.folder = folder
        self.lab = lab
        self.client = client

    @property
    def status(self) -> ChannelStatus:
        """The only channel as it is now."""
        return self.client.snapshot().channels[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A living station."""
    bench = write_bench(tmp_path, speed=20.0)
    with (
        simulated(bench) as lab,
        StationProcess(bench, output=tmp_path / "runs") as station,
        StationClient(station.url) as client,
    ):
        yield Served(tmp_path, lab, client)


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals")
def test_a_station_makes_a_repeated_start_once_and_lets_a_late_abort_hit_nothing(
    served: Served,
) -> None:
    client = served.client
    first = client.start("A1", SLOW, "one").run
    wait_until(lambda: served.lab.relays()["smu1"])
    assert client.abort("A1", first).ok
    assert client.start("A1", SLOW, "one").run == first
    assert made(served.folder) == [first]
    assert served.status.state == "aborted"
    second = client.start("A1", SLOW, "two").run
    wait_until(lambda: served.lab.relays()["smu1"])
    with pytest.raises(RefusedError, match="NOTHING WAS STOPPED"):
        client.abort("A1", first)
    with pytest.raises(RefusedError, match="under way; there is nothing to acknowledge"):
        client.acknowledge("A1", first)
    # The circuit opens for a moment between the first look at the cell and the first step.
    wait_until(lambda: served.lab.relays()["smu1"])
    assert served.status.run == second
    assert client.abort("A1").ok  # a stop that names no run always stops
    assert not served.lab.relays()["smu1"]
    with pytest.raises(RefusedError, match="NOTHING WAS ACKNOWLEDGED"):
        client.acknowledge("A1", first)
