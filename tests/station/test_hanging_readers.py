"""A reader that lives and does not answer: it is said, it is replaced, and nothing looks final."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import simulated, wait_until, write_bench, write_recipe
from operando.records import Record
from operando.station import push, views
from operando.station.client import (
    RefusedError,
    RunRequest,
    Snapshot,
    StationClient,
    StationProcess,
    Stream,
)
from operando.station.client.models import ChannelStatus
from operando.station.views import START, Fresh, Lane, ReaderLostError, Views
from station.served_stub import Author, Served, StubDesk, author, is_alive, status

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]


@contextlib.contextmanager
def watched(output: Path, writing: Author) -> Iterator[tuple[Served, Stream, Views]]:
    """A station whose channel A1 runs, and a client that has seen its first row."""
    with Views(output) as readers:
        desk = StubDesk(Path("unused"), (running(writing),))
        with (
            Served(desk, readers) as served,
            served.client() as client,
            client.stream() as stream,
        ):
            until(stream, lambda s: s.channels[0].rows == 1 and not s.alarm)
            yield served, stream, readers


def running(writing: Author, elapsed: float = 5.0) -> ChannelStatus:
    return status("A1", state="running", run=writing.run, elapsed=elapsed)


def over(writing: Author, elapsed: float = 65.0) -> ChannelStatus:
    return status("A1", state="aborted", run=writing.run, elapsed=elapsed)


def until(stream: Stream, wanted: Callable[[Snapshot], bool], timeout: float = 30.0) -> Snapshot:
    """The first snapshot that is wanted."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        message = stream.receive(1.0)
        if isinstance(message, Snapshot) and wanted(message):
            return message
    raise AssertionError(f"nothing of that kind within {timeout:g} s")


def stop(pid: int | None) -> int:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_readings_that_do_not_come_are_said_and_a_run_that_ended_meanwhile_is_not_shown_as_final(
    tmp_path: Path,
) -> None:
    with author(tmp_path) as writing:
        writing.sample(0.0)
        writing.commit()
        with watched(tmp_path, writing) as (served, stream, readers):
            hung = stop(readers.live.pid)
            begun = time.monotonic()
            for n in range(1, 51):
                writing.sample(float(n), 3.7 + 1e-3 * n)
            writing.close("aborted", "asked by the operator")
            served.desk.channels = (over(writing),)
            told = until(stream, lambda s: bool(s.alarm))
            assert push.SLOW <= time.monotonic() - begun + 0.5 < push.SLOW + 3.0
            assert "readings cannot be shown" in told.alarm
            (channel,) = told.channels
            assert (channel.rows, channel.latest["voltage"].time) == (1, 0.0)
            assert not channel.final
            # Nobody wakes the reader: it is replaced, and what it missed is seen.
            back = until(stream, lambda s: s.channels[0].final)
            assert (back.channels[0].rows, back.channels[0].latest["voltage"].time) == (51, 50.0)
            assert back.alarm == ""
            assert views.LIVE <= time.monotonic() - begun < views.LIVE + 10.0
            assert readers.live.pid != hung
            assert not is_alive(hung)


def test_a_run_under_way_whose_reader_hangs_ages_is_said_and_recovers(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        writing.sample(0.0)
        writing.commit()
        with watched(tmp_path, writing) as (served, stream, readers):
            readers.live.patience = 3.0
            hung = stop(readers.live.pid)
            served.desk.channels = (running(writing, 9.0),)
            assert until(stream, lambda s: bool(s.alarm)).channels[0].age == 9.0
            writing.sample(8.0)
            writing.commit()
            (channel,) = until(stream, lambda s: not s.alarm).channels
            assert (channel.rows, channel.age, channel.final) == (2, 1.0, False)
            assert not is_alive(hung)


def test_a_question_for_the_station_waits_for_readings_or_says_that_there_are_none(
    tmp_path: Path,
) -> None:
    with author(tmp_path) as writing, Views(tmp_path) as readers:
        writing.sample(0.0)
        writing.commit()
        with (
            Served(StubDesk(Path("unused"), (running(writing),)), readers) as served,
            served.client() as client,
        ):
            wait_until(lambda: client.snapshot().channels[0].rows == 1)
            hung = stop(readers.live.pid)
            found = client.snapshot()
            assert "readings cannot be shown" in found.alarm
            assert not found.channels[0].final
            os.kill(hung, signal.SIGCONT)


def test_what_is_shown_of_a_run_is_final_once_its_writer_was_gone_before_the_look(
    tmp_path: Path,
) -> None:
    async def look(readers: Views) -> bool:
        found = (await readers.fresh({"run1": START}))["run1"]
        assert isinstance(found, Fresh)
        return found.over

    with Views(tmp_path) as readers:
        with author(tmp_path) as writing:
            writing.sample(0.0)
            writing.commit()
            assert not asyncio.run(look(readers))
        assert asyncio.run(look(readers))


def test_a_run_that_is_over_is_not_final_while_its_record_is_written(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        writing.sample(0.0)
        writing.commit()
        with watched(tmp_path, writing) as (served, stream, _):
            served.desk.channels = (over(writing),)
            assert not until(stream, lambda s: s.channels[0].state == "aborted").channels[0].final
            writing.sample(1.0)
            writing.close("aborted")
            assert until(stream, lambda s: s.channels[0].final).channels[0].rows == 2


def test_no_client_waits_for_ever_for_a_table_or_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with author(tmp_path) as writing, Views(tmp_path) as readers:
        writing.sample(0.0)
        writing.commit()
        with Served(StubDesk(Path("unused")), readers) as served, served.client() as client:
            client.runs()
            client.loops("run1")
            monkeypatch.setattr(views, "ANSWER", 0.5)
            monkeypatch.setattr("operando.station.client.client.LONG_PATIENCE", 1.0)
            stop(readers.tables.pid)
            stop(readers.plots.pid)
            questions: list[Callable[[], object]] = [
                client.runs,
                lambda: client.cycles("run1"),
                lambda: client.rows("run1"),
                lambda: client.loops("run1"),
            ]
            for question in questions:
                begun = time.monotonic()
                with pytest.raises(RefusedError, match="ask again"):
                    question()
                assert time.monotonic() - begun < 5.0


def test_a_lane_that_hangs_over_a_question_twice_gives_up_and_says_so(tmp_path: Path) -> None:
    lane = Lane("hung", tmp_path, 0, 0.2)
    lane._words = [sys.executable, "-c", "import time; time.sleep(600)"]
    try:
        begun = time.monotonic()
        with pytest.raises(ReaderLostError, match=r"'runs' twice: it did not answer within 0\.6 s"):
            asyncio.run(lane.ask("runs"))
        assert time.monotonic() - begun < 10.0
        assert lane.pid is None
    finally:
        lane.close()


def test_neither_a_question_nor_the_end_waits_for_a_reader_that_cannot_be_killed(
    tmp_path: Path,
) -> None:
    """One that waits for its disk does not die; here something else holds its pipe open."""
    holder = (
        "import pathlib, subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{p.pid}} '); time.sleep(600)"
    )
    lane = Lane("stuck", tmp_path, 0, 1.0)
    lane._words = [sys.executable, "-c", holder]
    begun = time.monotonic()
    try:
        with pytest.raises(ReaderLostError, match="did not answer"):
            asyncio.run(lane.ask("runs"))
        lane.start()
    finally:
        lane.close()
        assert time.monotonic() - begun < 20.0
        for pid in (tmp_path / "pids").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def test_a_reader_that_answers_again_after_a_while_is_kept(tmp_path: Path) -> None:
    with Views(tmp_path) as readers:
        asyncio.run(readers.fresh({}))
        pid = readers.live.pid
        resume = subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {pid}"])
        stop(pid)
        begun = time.monotonic()
        asyncio.run(readers.fresh({}))
        assert time.monotonic() - begun > 0.3
        assert readers.live.pid == pid
        resume.wait()


def readers_of(output: Path) -> list[int]:
    """The reader processes of a station."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if views.PROGRAM.encode() in words and str(output.resolve()).encode() in words:
                found.append(int(folder.name))
    return found


def request(folder: Path) -> RunRequest:
    slow = 'charge_rate = "C/2"\ndischarge_rate = "C/2"'
    return RunRequest(recipe=write_recipe(folder, slow, interval="5 s").read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_station_whose_readers_hang_says_so_and_then_shows_the_whole_run(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    bench = write_bench(tmp_path, speed=60.0)
    with (
        simulated(bench),
        StationProcess(bench, output=output) as station,
        StationClient(station.url) as client,
        client.stream() as stream,
    ):
        run = client.start("A1", request(tmp_path)).run
        until(stream, lambda s: s.channels[0].rows > 2)
        hung = [stop(pid) for pid in readers_of(output)]
        assert len(hung) == 3
        wait_until(lambda: record_rows(output / run) > 50, 30.0)
        assert client.abort("A1").ok
        told = until(stream, lambda s: s.channels[0].state == "aborted")
        assert "readings cannot be shown" in told.alarm
        assert not told.channels[0].final
        assert told.channels[0].rows < record_rows(output / run)
        shown = until(stream, lambda s: s.channels[0].final, 60.0)
        assert shown.channels[0].rows == record_rows(output / run)
        assert shown.alarm == ""


def record_rows(folder: Path) -> int:
    ((count,),) = Record.open(folder).rows("SELECT COUNT(*) FROM samples")
    return int(count)


def test_after_a_station_was_started_again_its_new_runs_are_the_newest(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    bench = write_bench(tmp_path, speed=600.0)
    runs: list[str] = []
    with simulated(bench):
        for rounds in (2, 1):  # the second run begins when the clock is far ahead of the wall's
            with (
                StationProcess(bench, output=output) as station,
                StationClient(station.url) as client,
            ):
                for _ in range(rounds):
                    runs.append(client.start("A1", request(tmp_path)).run)
                    wait_until(lambda: record_rows(output / runs[-1]) >= 60, 30.0)
                    assert client.abort("A1").ok
        with StationProcess(bench, output=output) as station, StationClient(station.url) as client:
            assert client.snapshot().channels[0].run == runs[-1]
            listed = client.runs()
    assert [line.run for line in listed] == runs[::-1]
    assert listed[0].started < listed[1].started  # by the laboratory's clock it is the older one
