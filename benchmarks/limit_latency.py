"""From a limit's condition becoming true to the simulated output relay being open.

    python benchmarks/limit_latency.py [--trips 100]

One channel at real speed: a source meter on TCP and a load cell on a pty, polled every 0.1 s, both
served by a process of its own. Each trip is a run of its own through the engine, with its record
and watchdog: the cell is charged until a limit, which the runner alone enforces, trips.

time      "elapsed > X": true at the start of the step plus X, a moment known from the record. X
          moves through the poll interval from trip to trip, so that every phase is met alike.
pressure  "pressure > 12 MPa": the simulation raises the preload of the load frame by 1 kN at a
          moment that it reports. It takes both instruments: the load cell sees it, the source
          meter, which may be in the middle of a reading, must act.

The simulated source meter stamps each movement of its true output relay. Both processes read
CLOCK_MONOTONIC, which they share.

Bound: one poll interval, the command in flight (median length of a reading, for pressure that of
each instrument), the off time that the driver states, 10 ms. The stated off time is an assumption
about the real instrument and generous; the strict bound has the simulated relay's 5 ms instead.

Prints what is reached and what is missed; always ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.locks import ENVIRONMENT
from operando.instruments.recipe import parse_recipe
from operando.protocols import RunState
from operando.records import Record
from operando.simulators.bench import SimulatedBench
from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450
from operando.simulators.devices.keithley_source import SourceStage
from operando.station.assembly import instrument_of
from operando.station.engine import Engine, Run, order_from
from operando.station.served import Announcement

INTERVAL = 0.1
"""s between polls."""

TOLERANCE = 0.010
"""s that the bound allows beside everything that is stated."""

RELAY_TIME = 0.005
"""s that the simulated relay takes to open: the simulator's own default, set here."""

WANTED = 99.0
"""% of trips within the bound."""

EARLIEST = 0.3
"""s of charging before a condition becomes true."""

PUSH = 1000.0
"""N by which the preload rises; from about 8 MPa to about 15.5 MPa on 1.33 cm2."""

GOLDEN = 0.6180339887498949
"""Multiples of it modulo 1 fill an interval evenly (golden ratio)."""

BENCH = """
[instruments.smu1]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::{port}::SOCKET"
expect.serial = "04500001"
[instruments.smu1.settings]
nplc = 0.1
[instruments.smu1.simulated]
cell = "c1"
serial = "04500001"
reading_time = 0.02
relay_time = {relay}

[instruments.lc1]
driver = "pt113"
address = "serial:ports/lc1?baud=115200"
[instruments.lc1.settings]
unit = "N"
piston_area = "1.3273 cm2"
[instruments.lc1.simulated]
cell = "c1"
baud = 115200
filter = 0

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
charge_rate = "C/10"
discharge_rate = "C/10"

[poll]
interval = "{interval} s"

[preflight]
override = {{ open_circuit = "any voltage will do" }}

[limits]
wanted = {{ when = "{when}", action = "trip" }}
"""


# The simulation, in a process of its own ----------------------------------------------------


class WatchedStage(SourceStage):
    """A source stage that says when its relay moves."""

    movements: Connection

    @property
    def relay_closed(self) -> bool:
        """True state of the output relay."""
        return bool(self.__dict__["relay_closed"])

    @relay_closed.setter
    def relay_closed(self, closed: bool) -> None:
        now = time.monotonic()
        if closed != self.__dict__["relay_closed"]:
            self.movements.send(("relay", closed, now))
        self.__dict__["relay_closed"] = closed


def serve(path: Path, pipe: Connection) -> None:
    """Serve the bench until told to stop; report movements of the relay and of the load."""

    async def serving() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        simulation = SimulatedBench(load_bench(path), Clock())
        source_meter = simulation.devices["smu1"]
        assert isinstance(source_meter, SimulatedKeithley2450)
        stage = source_meter.stage
        stage.__class__ = WatchedStage
        assert isinstance(stage, WatchedStage)
        stage.movements = pipe
        frame = simulation.frames["c1"]
        preload = frame.preload

        def push() -> None:
            frame.preload = preload + PUSH
            pipe.send(("pushed", True, time.monotonic()))

        def hear() -> None:
            what, at = pipe.recv()
            if what == "push":
                loop.call_at(at, push)  # the loop's clock is CLOCK_MONOTONIC
            elif what == "release":
                frame.preload = preload
            else:
                stop.set()

        with Announcement(1.0) as announcement:
            for served in await simulation.serve():
                announcement.add(served.address)
            loop.add_reader(pipe.fileno(), hear)
            pipe.send(("ready", True, time.monotonic()))
            await stop.wait()
            loop.remove_reader(pipe.fileno())
            await simulation.close()

    run(serving())


@contextlib.contextmanager
def simulation(path: Path) -> Iterator[Connection]:
    """The simulation in a process of its own: the pipe to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(path, there), daemon=True)
    process.start()
    there.close()
    try:
        if here.recv()[0] != "ready":
            raise RuntimeError("the simulation did not start")
        yield here
        here.send(("stop", 0.0))
        process.join(10.0)
    finally:
        process.terminate()
        process.join()
        here.close()


# The trips ----------------------------------------------------------------------------------


@dataclass
class Trips:
    """Trips of one kind. latency: s, infinite when the relay stayed closed. strange: endings."""

    name: str
    latency: list[float] = field(default_factory=list)
    readings: list[float] = field(default_factory=list)
    weighings: list[float] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def take(self, one: Run, true_at: float, events: list[tuple[str, bool, float]]) -> None:
        """Count a run. true_at: when the condition became true; events of the simulation, s."""
        if one.result.state is not RunState.TRIPPED or "limit wanted acts" not in one.result.reason:
            self.strange.append(f"{one.result.state.value}: {one.result.reason}")
        opened = [at for what, closed, at in events if what == "relay" and not closed]
        after = [at for at in opened if at >= true_at]
        self.latency.append(after[0] - true_at if after else math.inf)
        if any(true_at - EARLIEST + 0.05 < at < true_at for at in opened):
            self.strange.append("the relay opened before the condition was true")
        record = Record.open(one.folder)
        self.readings += [2.0 * float(half) for half in record.samples()["uncertainty"]]
        self.weighings += [2.0 * float(half) for half in record.aux("pressure")["uncertainty"]]

    def lines(self, off_time: float) -> tuple[list[str], bool]:
        """Rows of the table, and whether the bound is kept."""
        late = sorted(self.latency)
        p50, p90, p99 = (1e3 * late[math.ceil(q * len(late)) - 1] for q in (0.5, 0.9, 0.99))
        longest = 1e3 * late[-1]
        in_flight = statistics.median(self.readings)
        if self.name == "pressure":
            in_flight += statistics.median(self.weighings)
        found = []
        shares = []
        for kind, off in (("stated", off_time), ("strict", RELAY_TIME)):
            bound = INTERVAL + in_flight + off + TOLERANCE
            shares.append(100.0 * sum(at <= bound for at in late) / len(late))
            head = f"{self.name:10}{len(late):>6}{p50:>9.1f}{p90:>9.1f}{p99:>9.1f}{longest:>9.1f}"
            if kind == "strict":
                head = " " * len(head)
            found.append(f"{head}{1e3 * bound:>9.1f} {kind}{shares[-1]:>9.1f}")
        return found, shares[0] >= WANTED and not self.strange


class Bench:
    """The engine, the simulation and the records of one benchmark."""

    def __init__(self, engine: Engine, pipe: Connection, folder: Path) -> None:
        self._engine = engine
        self._pipe = pipe
        self._folder = folder
        self._clock = engine.clock

    async def by_time(self, trips: Trips, fraction: float) -> None:
        """Trip on the step's time."""
        after = EARLIEST + fraction * INTERVAL
        one = await self._run(f"elapsed > {after:.6f} s")
        columns = Record.open(one.folder).samples()
        # Laboratory time of the first reading less the time it was into its step.
        first = float(columns["unix_time"][0]) - self._clock.utc(0.0)
        start = first - float(columns["step_time"][0])
        trips.take(one, start + after, self._events())

    async def by_pressure(self, trips: Trips, fraction: float) -> None:
        """Trip on the load cell."""
        going = asyncio.create_task(self._run("pressure > 12 MPa"))
        runners = self._engine.runners
        while not going.done():
            if "A1" in runners and "voltage" in runners["A1"].tally.values:
                break
            await self._clock.sleep(0.01)
        self._pipe.send(("push", time.monotonic() + EARLIEST + fraction * INTERVAL))
        one = await going
        self._pipe.send(("release", 0.0))
        events = self._events()
        pushed = [at for what, _, at in events if what == "pushed"]
        trips.take(one, pushed[0] if pushed else math.inf, events)

    async def _run(self, when: str) -> Run:
        recipe = parse_recipe(
            RECIPE.format(interval=INTERVAL, when=when), self._folder / "recipe.toml"
        )
        return await self._engine.run("A1", order_from(recipe), self._folder / "runs")

    def _events(self) -> list[tuple[str, bool, float]]:
        events: list[tuple[str, bool, float]] = []
        while self._pipe.poll():
            event: Any = self._pipe.recv()
            events.append(event)
        return events


async def trip_often(path: Path, pipe: Connection, count: int) -> tuple[list[Trips], float]:
    """Trip `count` times in each way. Returns them and the off time that the driver states, s."""
    by_time, by_pressure = Trips("time"), Trips("pressure")
    clock = Clock()
    async with Engine(load_bench(path), clock) as engine:
        stated = instrument_of(engine.bench.instruments["smu1"], clock).capabilities.off_time
        bench = Bench(engine, pipe, path.parent)
        for n in range(count):
            await bench.by_time(by_time, n * GOLDEN % 1.0)
            await bench.by_pressure(by_pressure, n * GOLDEN % 1.0)
    return [by_time, by_pressure], stated


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Serve, trip, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trips", type=int, default=100, help="of each kind")
    count = parser.parse_args().trips
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[ENVIRONMENT] = str(folder / "runtime")
        path = folder / "bench.toml"
        path.write_text(BENCH.format(port=free_port(), relay=RELAY_TIME), encoding="utf-8")
        with simulation(path) as pipe:
            kinds, off_time = run(trip_often(path, pipe, count))
    reading, weighing = (
        1e3 * statistics.median(found) for found in (kinds[0].readings, kinds[0].weighings)
    )
    print(
        f"poll {INTERVAL * 1e3:.0f} ms; reading {reading:.1f} ms, weighing {weighing:.1f} ms "
        f"(medians); stated off time {off_time * 1e3:.0f} ms; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    print(f"{'ms':10}{'trips':>6}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}{'bound':>9}"
          f"{'% within':>16}")  # fmt: skip
    verdicts = []
    for trips in kinds:
        lines, reached = trips.lines(off_time)
        print("\n".join(lines))
        for what in trips.strange:
            print(f"  not as expected: {what}")
        verdicts.append((trips.name, reached))
    for kind, reached in verdicts:
        print(f"{'reached' if reached else 'MISSED':8} {WANTED:g} % of trips by {kind} within the "
              "stated bound")  # fmt: skip


if __name__ == "__main__":
    main()
