"""What a killed window and a killed station leave, seen from the other side."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import free_port, simulated, wait_until, write_bench
from operando.records import Record, find_records
from operando.station.client import (
    RunRequest,
    StationClient,
    StationProcess,
)
from operando.station.simulate import SimulatedProcess
from support.at_screen import Operator

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does"),
    pytest.mark.timeout(180),
]

CHARGE = RunRequest(protocol="cccv", parameters={"charge_rate": "1C", "discharge_rate": "1C"})


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return write_bench(tmp_path, speed=60.0)


@pytest.fixture
def lab(bench: Path) -> Iterator[SimulatedProcess]:
    """The instruments: they live on whatever happens to stations and windows."""
    with simulated(bench) as process:
        yield process


def station(bench: Path, port: int) -> StationProcess:
    return StationProcess(bench, port=port, output=bench.parent / "runs")


def test_a_killed_window_leaves_the_station_and_its_run_untouched(
    tmp_path: Path, bench: Path, lab: SimulatedProcess
) -> None:
    with station(bench, 0) as process, StationClient(process.url) as client:
        run = client.start("A1", CHARGE).run
        with Operator(None, tmp_path, "gui", "--station", process.url) as operator:
            operator.await_text("running")
            before = client.snapshot().channels[0].rows

            os.kill(operator.pid, signal.SIGKILL)
            operator.wait()

            wait_until(lambda: client.snapshot().channels[0].rows > before + 5)
        channel = client.snapshot().channels[0]
        assert (channel.run, channel.state, channel.output) == (run, "running", "on")
        assert lab.relays()["smu1"]
        assert client.abort("A1").ok
        assert not lab.relays()["smu1"]
    assert Record.open(tmp_path / "runs" / run).gaps() == []


def test_a_window_that_is_closed_leaves_a_station_that_it_did_not_start(
    tmp_path: Path, bench: Path, lab: SimulatedProcess
) -> None:
    with station(bench, 0) as process, StationClient(process.url) as client:
        client.start("A1", CHARGE)
        with Operator(None, tmp_path, "gui", "--station", process.url) as operator:
            operator.await_text("running")
            os.kill(operator.pid, signal.SIGTERM)
            assert operator.wait() == 0
        assert client.snapshot().channels[0].state == "running"
        assert lab.relays()["smu1"]


def test_a_window_says_that_its_station_was_killed_and_is_whole_when_it_returns(
    tmp_path: Path, bench: Path, lab: SimulatedProcess
) -> None:
    port = free_port()
    first = station(bench, port).start()
    with (
        StationClient(first.url) as client,
        Operator(None, tmp_path, "gui", "--station", first.url) as operator,
    ):
        run = client.start("A1", CHARGE).run
        operator.await_text("running")
        assert operator.read("Connected")

        os.kill(first.pid, signal.SIGKILL)

        operator.await_text("Lost")
        first.close()
        wait_until(lambda: not lab.relays()["smu1"])  # its watchdog switched off

        with station(bench, port):
            operator.await_text("Connected")
            operator.await_text("killed")
            operator.await_widget("acknowledge-A1")
            assert client.snapshot().channels[0].run == run
            assert client.acknowledge("A1").ok
            operator.await_widget("start-A1")
    (folder,) = find_records(tmp_path / "runs")
    assert Record.open(folder).state == "killed"


def test_a_window_says_that_its_station_does_not_answer(
    tmp_path: Path, bench: Path, lab: SimulatedProcess
) -> None:
    with (
        station(bench, 0) as process,
        Operator(None, tmp_path, "gui", "--station", process.url) as operator,
    ):
        operator.await_text("Connected")
        os.kill(process.pid, signal.SIGSTOP)
        try:
            operator.await_text("Lost")
        finally:
            os.kill(process.pid, signal.SIGCONT)
        operator.await_text("Connected")
