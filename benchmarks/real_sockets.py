"""Sixteen channels on real sockets and pseudo-terminals: processor share and punctual polls.

    python benchmarks/real_sockets.py [--seconds 300] [--channels 16] [--interval 0.1]

A simulation in a process of its own serves a source meter (TCP) and a load cell (pty) a channel,
at speed 1. One engine in this process charges all cells at C/10, polls every instrument at 10 Hz
and records every poll. Its watchdog, a process that waits, runs beside it. Start-up is not counted.

Processor: user and system time of this process with all its threads, a share of one core. The
simulation's share is shown beside it, as both live on the same cores. For comparison the same
instruments are then read at the same rate by bare pyvisa and pyserial, a thread each, without
driver, runner or record.

Lateness: sending time less deadline, both from the record. A reading's time is the midpoint between
sending and reply and half the width its uncertainty, so the sending time is their difference. The
deadlines of a source meter are the start of its step plus multiples of the interval; where an
overrun made the runner leave some out, the next one after the end of the reading counts, and each
one left out counts as a late poll. The record does not say when a load cell's grid began: it is
laid through the most punctual hundredth of its polls, so its lateness is about 0.2 ms too low.

Prints what is reached and what is missed; always ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import math
import os
import pstats
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyvisa
import serial

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.locks import ENVIRONMENT
from operando.instruments.recipe import parse_recipe
from operando.protocols import RunState
from operando.records import Record
from operando.station.engine import Engine, Order, Run, order_from
from operando.station.simulate import SimulatedProcess

MOST_CPU = 25.0
"""% of one core."""

ON_TIME = 0.020
"""s after its deadline within which a poll is on time."""

PUNCTUAL = 99.9
"""% of polls that must be on time."""

READING_TIME = 0.020
"""s that a simulated reading takes: NPLC 0.1 and little overhead, so that ten fit a second."""

LAST = 0.2
"""s before the end of the measurement from which polls are left out: they may be cut short."""

EARLY = 0.05
"""Share of an interval by which a first poll may seem early, for a grid that is not well known."""

SETTLING = 3.0
"""s between the first reading of the last channel and the beginning of the measurement."""

CHANNEL = """
[instruments.smu{n}]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::{port}::SOCKET"
expect.serial = "0450{n:04}"
[instruments.smu{n}.settings]
nplc = 0.1
[instruments.smu{n}.simulated]
cell = "c{n}"
serial = "0450{n:04}"
reading_time = {reading_time}

[instruments.lc{n}]
driver = "pt113"
address = "serial:ports/lc{n}?baud=115200"
[instruments.lc{n}.settings]
unit = "N"
piston_area = "1.3273 cm2"
[instruments.lc{n}.simulated]
cell = "c{n}"
baud = 115200

[channels.A{n}]
cell = "c{n}"
potentiostat = "smu{n}"
load_cell = "lc{n}"

[cells.c{n}]
active_mass = "16.96 mg"
one_c = "185 mA/g"
area = "1.131 cm2"
preset = "ncm811-caec"
seed = {n}
"""

RECIPE = """
protocol = "cccv"

[parameters]
charge_rate = "C/10"
discharge_rate = "C/10"

[poll]
interval = "{interval} s"

[limits]
over_pressure = {{ when = "pressure > 50 MPa", action = "trip" }}
"""


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback interface that are free now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def write_bench(folder: Path, channels: int) -> Path:
    """A bench with a source meter and a load cell a channel."""
    path = folder / "bench.toml"
    text = "".join(
        CHANNEL.format(n=n, port=port, reading_time=READING_TIME)
        for n, port in enumerate(free_ports(channels), start=1)
    )
    path.write_text(text, encoding="utf-8")
    return path


# What was used ------------------------------------------------------------------------------


def own_cpu() -> float:
    """s of processor time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_of(process: int) -> float:
    """s of processor time of another process; NaN where /proc does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2]
    except OSError:
        return math.nan
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """Processor time between two moments. start, end: laboratory time, s. shares: %."""

    start: float
    end: float
    own: float
    simulation: float


class Meter:
    """Measures processor time from now on."""

    def __init__(self, clock: Clock, simulation: int) -> None:
        self._clock = clock
        self._simulation = simulation
        self._start = clock.now()
        self._own, self._other = own_cpu(), cpu_of(simulation)

    def stop(self) -> Usage:
        """What was used since the beginning."""
        end = self._clock.now()
        factor = 100.0 / (end - self._start)
        return Usage(
            self._start,
            end,
            factor * (own_cpu() - self._own),
            factor * (cpu_of(self._simulation) - self._other),
        )


# The runs -----------------------------------------------------------------------------------


async def charge_all(
    bench: Path,
    order: Order,
    seconds: float,
    simulation: int,
    clock: Clock,
    profile: str,
    at_once: int = 1000,
) -> tuple[Usage, list[Run]]:
    """Run the order on every channel, measure for `seconds`, stop all.

    at_once: channels that are started together; the next ones when these are polled.
    """
    profiler = cProfile.Profile() if profile else None
    async with Engine(load_bench(bench), clock) as engine:

        def is_polled(channel: str) -> bool:
            runner = engine.runners.get(channel)
            return (
                runner is not None
                and runner.state is RunState.RUNNING
                and "voltage" in runner.tally.values
            )

        channels = tuple(engine.bench.channels)
        async with asyncio.TaskGroup() as group:
            runs: list[asyncio.Task[Run]] = []
            for first in range(0, len(channels), at_once):
                together = channels[first : first + at_once]
                runs += [
                    group.create_task(engine.run(channel, order, bench.parent / "runs"))
                    for channel in together
                ]
                while not all(map(is_polled, together)) and not any(run.done() for run in runs):
                    await clock.sleep(0.1)
            await clock.sleep(SETTLING)
            meter = Meter(clock, simulation)
            if profiler is not None:
                profiler.enable()
            await clock.sleep(seconds)
            if profiler is not None:
                profiler.disable()
            usage = meter.stop()
            engine.stop_all("the benchmark has ended")
    if profiler is not None:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(40)
    return usage, [task.result() for task in runs]


# Lateness, from the record ------------------------------------------------------------------


@dataclass
class Polls:
    """Polls of one kind of instrument. lateness: s, sorted at the end. left_out: grid points."""

    name: str
    lateness: list[float] = field(default_factory=list)
    left_out: int = 0
    rows: int = 0

    def add(self, sent: list[float], ended: list[float], origin: float, interval: float) -> None:
        """Replay the grid of one instrument. sent, ended: s, of each poll. origin: s."""
        due = origin + interval * math.floor((sent[0] - origin) / interval + EARLY)
        for n, at in enumerate(sent):
            if n:
                due += interval
                if due < ended[n - 1]:
                    missed = math.ceil((ended[n - 1] - due) / interval)
                    self.left_out += missed
                    due += missed * interval
            self.lateness.append(at - due)
        self.rows += len(sent)

    def plus(self, other: Polls) -> Polls:
        """Both kinds together."""
        return Polls(
            "all",
            self.lateness + other.lateness,
            self.left_out + other.left_out,
            self.rows + other.rows,
        )

    def on_time(self) -> float:
        """% of grid points that were polled within ON_TIME."""
        good = sum(late <= ON_TIME for late in self.lateness)
        return 100.0 * good / max(1, len(self.lateness) + self.left_out)

    def line(self) -> str:
        """One row of the table."""
        late = sorted(self.lateness)
        if not late:
            return f"{self.name:14} no polls"
        p50, p99, p999 = (1e3 * late[int(q * (len(late) - 1))] for q in (0.5, 0.99, 0.999))
        return (
            f"{self.name:14}{len(late):>8}{p50:>9.2f}{p99:>9.2f}{p999:>9.2f}{1e3 * late[-1]:>9.2f}"
            f"{self.left_out:>9}{self.on_time():>10.3f}"
        )


def table_head() -> str:
    """The heads of the columns of `Polls.line`."""
    return (
        f"{'lateness (ms)':14}{'polls':>8}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}"
        f"{'left out':>9}{'% on time':>10}"
    )


def within(rows: Iterable[tuple[float, float]], usage: Usage) -> tuple[list[float], list[float]]:
    """Sending and end of the polls that were sent while the processor time was measured, s."""
    kept = [
        (at - half, at + half) for at, half in rows if usage.start <= at - half <= usage.end - LAST
    ]
    return [sent for sent, _ in kept], [ended for _, ended in kept]


def read_records(
    runs: list[Run], usage: Usage, interval: float, clock: Clock
) -> tuple[Polls, Polls]:
    """Lateness of every poll of all runs."""
    source_meters, load_cells = Polls("source meters"), Polls("load cells")
    offset = clock.utc(0.0)
    for one in runs:
        record = Record.open(one.folder)
        columns = record.samples()
        if not len(columns["time"]):
            continue
        # `unix_time` is laboratory time plus a constant that this clock knows.
        times = [float(t) - offset for t in columns["unix_time"]]
        start = times[0] - float(columns["time"][0])
        halves = [float(half) for half in columns["uncertainty"]]
        sent, ended = within(zip(times, halves, strict=True), usage)
        if sent:
            origin = times[0] - float(columns["step_time"][0])
            source_meters.add(sent, ended, origin, interval)
        aux = record.aux("pressure")
        own = [(float(t) + start, float(u)) for t, u in zip(aux["time"], aux["uncertainty"],
                                                            strict=True)]  # fmt: skip
        sent, ended = within(own, usage)
        if sent:
            load_cells.add(sent, ended, grid_origin(sent, interval), interval)
    return source_meters, load_cells


def grid_origin(sent: list[float], interval: float) -> float:
    """Origin of a grid before which one poll in a hundred is sent, s.

    Not the first of them: one poll that is late by more than half an interval would look early.
    """
    first = sent[0]
    offsets = sorted((at - first + 0.5 * interval) % interval for at in sent)
    return first + offsets[len(offsets) // 100] - 0.5 * interval


# Bare libraries -----------------------------------------------------------------------------


def bare_share(bench: Path, seconds: float, interval: float, clock: Clock, process: int) -> Usage:
    """Processor share of bare pyvisa and pyserial at the same rate, a thread each."""
    stop = threading.Event()
    manager = pyvisa.ResourceManager("@py")
    opened: list[Callable[[], object]] = []
    threads: list[threading.Thread] = []

    def poll(read: Callable[[], object], phase: float) -> None:
        due = time.monotonic() + phase
        while not stop.wait(max(0.0, due - time.monotonic())):
            read()
            due += interval

    def start(read: Callable[[], object], close: Callable[[], object]) -> None:
        opened.append(close)
        phase = interval * len(threads) / (2 * len(load_bench(bench).channels))
        threads.append(threading.Thread(target=poll, args=(read, phase), daemon=True))

    for entry in load_bench(bench).instruments.values():
        if entry.address.startswith("TCPIP"):
            meter = manager.open_resource(
                entry.address, read_termination="\n", write_termination="\n"
            )
            # The source measures with its output off: nothing is driven.
            start(
                lambda meter=meter: meter.query(':READ? "defbuffer1",SOUR,READ'),  # type: ignore[misc]
                meter.close,
            )
        else:
            path = entry.address.removeprefix("serial:").partition("?")[0]
            line = serial.Serial(path, 115200, timeout=1.0)

            def ask(line: serial.Serial = line) -> bytes:
                line.write(b"01B\r\n")
                return line.read_until(b"\r\n")

            start(ask, line.close)
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    gauge = Meter(clock, process)
    time.sleep(seconds)
    usage = gauge.stop()
    stop.set()
    for thread in threads:
        thread.join()
    for close in opened:
        close()
    manager.close()
    return usage


# ---------------------------------------------------------------------------------------------


def verdict(reached: bool) -> str:
    """A word for the table."""
    return "reached" if reached else "MISSED"


def main() -> None:
    """Serve, run, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--interval", type=float, default=0.1, help="s between polls")
    parser.add_argument("--bare", type=float, default=20.0, help="s of bare reading, 0 for none")
    parser.add_argument("--profile", action="store_true", help="profile the event loop's thread")
    chosen = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[ENVIRONMENT] = str(folder / "runtime")
        bench = write_bench(folder, chosen.channels)
        order = order_from(
            parse_recipe(RECIPE.format(interval=chosen.interval), folder / "recipe.toml")
        )
        with SimulatedProcess(bench) as simulation:
            profile = "yes" if chosen.profile else ""
            usage, runs = run(
                charge_all(bench, order, chosen.seconds, simulation.pid, clock, profile)
            )
            bare = (
                bare_share(bench, chosen.bare, chosen.interval, clock, simulation.pid)
                if chosen.bare > 0.0
                else None
            )
        source_meters, load_cells = read_records(runs, usage, chosen.interval, clock)
    every = source_meters.plus(load_cells)
    unexpected = [one for one in runs if one.result.state is not RunState.ABORTED]
    unsafe = [one for one in runs if not one.result.safe]
    length = usage.end - usage.start
    rate = every.rows / (length - LAST)
    print(
        f"{len(runs)} channels, {2 * len(runs)} instruments at {1.0 / chosen.interval:g} Hz for "
        f"{length:.0f} s; {rate:.0f} polls/s recorded; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    print(table_head())
    for polls in (source_meters, load_cells, every):
        print(polls.line())
    per_poll = 1e4 * usage.own / rate if rate else math.nan
    print(f"engine process     {usage.own:6.1f} % of a core, {per_poll:.0f} us a poll")
    print(f"simulation         {usage.simulation:6.1f} % of a core")
    if bare is not None:
        print(
            f"bare libraries     {bare.own:6.1f} % of a core; the engine takes "
            f"{usage.own / bare.own:.1f} times as much"
        )
    for one in unexpected:
        print(f"run ended {one.result.state.value}: {one.result.reason}")
    print(f"runs that ended as asked, safe state read back: "
          f"{len(runs) - len(set(map(id, unexpected + unsafe)))} of {len(runs)}")  # fmt: skip
    whole = not unexpected and not unsafe
    print(f"{verdict(whole and usage.own < MOST_CPU):8} below {MOST_CPU:g} % of a core")
    print(f"{verdict(whole and every.on_time() >= PUNCTUAL):8} {PUNCTUAL:g} % of polls within "
          f"{ON_TIME * 1e3:g} ms of their deadline")  # fmt: skip


if __name__ == "__main__":
    main()
