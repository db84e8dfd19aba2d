"""A killed run that had driven a chamber and a press, each in a process of its own.

The chamber and the press are asked over their own serial lines by this test, never through a
driver, once the watchdog has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import free_port, simulated, wait_until
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recorder import Entry
from operando.records import Record
from operando.station.channel_state import unsafe_of
from operando.station.client import ChannelStatus
from operando.station.desk import Desk
from operando.station.engine import Engine
from operando.station.simulate import clock_for
from operando.station.watchdog import WATCHDOG_TIME
from station.conditioned import write_conditioned_bench

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals"),
]

SPEED = 20.0

PROGRAM = """
import sys
from pathlib import Path
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import run
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.recipe import Poll
from operando.protocols import Cell, ConstantCurrent, HoldPressure, HoldTemperature, Steps, protocol
from operando.station.engine import Engine, Order
from operando.station.simulate import clock_for

@protocol(source="this test")
def soak(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
    'Warm up, press, charge.'
    yield HoldTemperature(313.15, (ELAPSED >= 60.0,))
    yield HoldPressure(12e6, 2e4, 14e6, (ELAPSED >= 60.0,))
    lasts = float(sys.argv[3])
    yield ConstantCurrent(cell.capacity / 36000.0, (VOLTAGE >= 4.25, ELAPSED >= lasts))

async def main() -> None:
    bench = load_bench(Path(sys.argv[1]))
    async with Engine(bench, clock_for(bench)) as engine:
        ended = await engine.run("A1", Order(soak(), poll=Poll(2.0)), Path(sys.argv[2]))
    print(ended.result.state.value, ended.result.safe, ended.result.reason)

run(main())
"""


@contextlib.contextmanager
def running(
    bench: Path, output: Path, charge: float = 1e5
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run in a process of its own, once it charges, for so many s; its record."""
    script = bench.with_name("soak.py")
    script.write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script), str(bench), str(output), str(charge)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        made = wait_until(lambda: sorted(output.glob("*/manifest.json")) or process.poll())
        assert isinstance(made, list), "the run has ended"
        folder: Path = made[0].parent
        wait_until(lambda: len(Record.open(folder).journal(Entry.STEP_STARTED)) == 3)
        yield process, folder
    finally:
        process.kill()
        process.communicate()


def asked(port: Path, request: bytes) -> str:
    """What an instrument answers on its line, asked by hand."""
    line = os.open(port, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(line, termios.TCSANOW)
        os.write(line, request)
        answer = b""
        while not answer.endswith(b"\r") and not answer.endswith(b"\n"):
            ready, _, _ = select.select([line], [], [], 5.0)
            assert ready, f"no answer to {request!r}, only {answer!r}"
            answer += os.read(line, 100)
        return answer.decode("ascii").strip()
    finally:
        os.close(line)


def opened_by_a_station(bench: Path, output: Path) -> ChannelStatus:
    """What a station says of the channel once it has looked at its instruments."""

    async def main() -> ChannelStatus:
        described = load_bench(bench)
        async with Engine(described, clock_for(described)) as engine:
            await engine.claim(patience=5.0)
            desk = Desk(engine, asyncio.get_running_loop(), output, simulated=True)
            await desk.open()
            assert desk.unsafe() == ()
            return await asyncio.to_thread(lambda: desk.statuses()[0])

    return run_coroutine(main())


def acted(runtime: Path, name: str) -> bool:
    """Whether the watchdog's log says that an instrument was read back in its safe state."""
    lines = (runtime / "watchdog.log").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return any(one.get("instrument") == name and one.get("verified off") for one in told)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for locks and for the log of the watchdog."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("OPERANDO_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A cell with its chamber and press, on addresses that are free."""
    smu = f"TCPIP::127.0.0.1::{free_port()}::SOCKET"
    return write_conditioned_bench(tmp_path, smu=smu, speed=SPEED)


def test_kill_nine_leaves_chamber_and_press_in_their_safe_states(
    tmp_path: Path, runtime: Path, bench: Path
) -> None:
    with simulated(bench) as process:
        with running(bench, tmp_path / "runs") as (run, folder):
            wait_until(lambda: process.relays()["smu1"])
            assert not acted(runtime, "oven1")
            run.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            wait_until(lambda: not process.relays()["smu1"], timeout=WATCHDOG_TIME)
            for name in ("oven1", "press1"):
                wait_until(lambda name=name: acted(runtime, name), timeout=WATCHDOG_TIME)
            assert time.monotonic() - killed <= WATCHDOG_TIME
        record = Record.open(folder)
        assert record.state == "killed"
        assert set(unsafe_of(record)) == {"potentiostat", "oven1", "press1"}
        oven = tmp_path / "ports" / "oven1"
        assert asked(oven, b"MODE?\r\n") == "STANDBY"
        assert "HLD" in asked(tmp_path / "ports" / "press1", b"A\r")
        # As if the next station had been quicker than the watchdog.
        asked(oven, b"MODE, CONSTANT\r\n")
        wait_until(lambda: asked(oven, b"MODE?\r\n") == "CONSTANT")
        status = opened_by_a_station(bench, folder.parent)
        assert asked(oven, b"MODE?\r\n") == "STANDBY"
        assert (status.output, status.attention) == ("off", True)
        assert "oven1 was brought into its safe state when this station started" in status.reason
        assert "press1 was brought into its safe state" in status.reason


def test_a_chamber_that_does_not_answer_at_the_end_is_pursued_until_it_does(
    tmp_path: Path, runtime: Path, bench: Path
) -> None:
    with simulated(bench) as process:
        with running(bench, tmp_path / "runs", charge=60.0) as (run, _):
            process.inject("oven1", "silence")
            out, _ = run.communicate(timeout=60.0)
        assert out.startswith("faulted False ")
        assert "oven1: the safe state could not be verified" in out
        assert not process.relays()["smu1"]
        assert not acted(runtime, "oven1")
        process.inject("oven1", "none")
        wait_until(lambda: acted(runtime, "oven1"), timeout=3.0 * WATCHDOG_TIME)
        assert asked(tmp_path / "ports" / "oven1", b"MODE?\r\n") == "STANDBY"
