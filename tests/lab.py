"""A small simulated laboratory for tests: benches and recipes on free ports, real processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from operando.records import Record
from operando.station.simulate import SimulatedProcess

BENCH = """
[clock]
speed = {speed}

[instruments.smu1]
driver = "keithley-2450"
address = "{smu}"
expect.serial = "04500001"
[instruments.smu1.simulated]
cell = "c1"
serial = "04500001"
{smu_options}

[instruments.lc1]
driver = "{load_cell}"
address = "{load}"
[instruments.lc1.settings]
unit = "N"
piston_area = "1.3273 cm2"
[instruments.lc1.simulated]
cell = "c1"

[channels.A1]
cell = "c1"
potentiostat = "smu1"
load_cell = "lc1"

[cells.c1]
active_mass = "16.96 mg"
one_c = "185 mA/g"
area = "1.131 cm2"
preset = "ncm811-caec"
seed = 1
"""

RECIPE = """
protocol = "cccv"

[parameters]
{parameters}

[poll]
interval = "{interval}"

[limits]
over_voltage = {{ when = "voltage > 4.30 V", action = "trip", stale_after = "1 h" }}
under_voltage = {{ when = "voltage < 2.0 V", action = "trip", stale_after = "1 h" }}
over_current = {{ when = "abs(current) > 3C", action = "trip", stale_after = "1 h" }}
{limits}
"""


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_bench(
    folder: Path,
    *,
    speed: float = 1.0,
    load_cell: str = "pt113",
    smu_options: str = "",
    name: str = "bench.toml",
) -> Path:
    """A bench of one channel A1: a source meter on TCP and a load cell on a pty."""
    path = folder / name
    path.write_text(
        BENCH.format(
            speed=speed,
            smu=f"TCPIP::127.0.0.1::{free_port()}::SOCKET",
            load="serial:ports/lc1?baud=9600",
            load_cell=load_cell,
            smu_options=smu_options,
        ),
        encoding="utf-8",
    )
    return path


def write_recipe(
    folder: Path,
    parameters: str = 'charge_rate = "1C"\ndischarge_rate = "1C"\nrest = "1 min"',
    *,
    interval: str = "1 s",
    limits: str = "",
    name: str = "recipe.toml",
) -> Path:
    """A cccv recipe with these parameters."""
    path = folder / name
    path.write_text(
        RECIPE.format(parameters=parameters, interval=interval, limits=limits), encoding="utf-8"
    )
    return path


class RunProcess:
    """`operando run` in a process of its own."""

    def __init__(self, recipe: Path, bench: Path, output: Path, *options: str) -> None:
        self.output = output
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "operando.station", "run", str(recipe)),
                *("--bench", str(bench), "--channel", "A1", "--output", str(output), "--json"),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> tuple[int, str, str]:
        """Exit code, standard output and standard error once it has ended."""
        out, err = self._process.communicate(timeout=timeout)
        return self._process.returncode, out, err

    def folder(self) -> Path:
        """The folder of its record; waits until it exists."""
        found: list[Path] = wait_until(lambda: sorted(self.output.glob("*/manifest.json")))
        return found[0].parent

    def record(self) -> Record:
        """Its record as it is now."""
        return Record.open(self.folder())

    def __enter__(self) -> RunProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            # In order, so that its watchdog ends too.
            for number in (signal.SIGCONT, signal.SIGTERM):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
            try:
                self._process.wait(20.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.communicate()


def wait_until(probe, timeout: float = 30.0):  # type: ignore[no-untyped-def]
    """The first true result of `probe`; asks again after short waits on nothing, then fails.

    For other processes, whose state can only be polled; never for code in this process.
    """
    deadline = time.monotonic() + timeout
    while not (result := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing within {timeout:g} s")
        select.select([], [], [], 0.02)
    return result


@contextlib.contextmanager
def simulated(bench: Path, speed: float | None = None) -> Iterator[SimulatedProcess]:
    """`operando simulate` for a bench in a process of its own."""
    with SimulatedProcess(bench, speed=speed) as process:
        yield process


def summary(out: str) -> dict[str, object]:
    """The JSON summary that `operando run --json` printed."""
    parsed: dict[str, object] = json.loads(out.strip().splitlines()[-1])
    return parsed
