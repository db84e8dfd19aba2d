"""What viewers of a large record wait for, and what they cost the station.

    python benchmarks/station_views.py [--rows N] [--seconds S] [--clients N]

A station's API serves a record of a million samples, and as many readings of pressure, from a
process of its own; the engine is replaced by a timer that is due every 10 ms in the station's event
loop, as polls are. Clients are processes too. Printed are the time from a request to its answer,
from a commit to the client that follows the run, and how late the timer is, alone and while
clients ask for curves of the whole record as fast as they can. The same timer runs in a process
that does nothing else: how late that one is says what the machine does to any process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Origin, Regulation, Sample, Status
from operando.records import SqliteRecorder
from operando.station.api import SERVER_OPTIONS, make_app
from operando.station.client import ChannelStatus, RefusedError, Rows, StationClient
from operando.station.views import Views

MANIFEST: dict[str, JSON] = {"started": "2026-01-01T00:00:00+00:00", "simulated": True}
TOKEN = "benchmark"
QUANTITIES = ("voltage", "current", "charge", "pressure")
BINS = 1200
TICK = 0.01
"""s between two turns of the timer that stands for polls."""
AT_MOST_ZOOM = 50.0
"""ms from a request to its answer."""
AT_MOST_LATE = 20.0
"""ms that 99.9 % of the polls may be late."""

SPAWN = multiprocessing.get_context("spawn")


def record(folder: Path, rows: int) -> None:
    """A record of 100 half cycles, a sample and a reading of pressure a second."""
    recorder = SqliteRecorder(folder, MANIFEST, inline=True)
    length = max(1, rows // 100)
    noise = np.random.default_rng(1).normal(0.0, 1e-4, rows).tolist()
    for n in range(rows):
        half, within = divmod(n, length)
        if within == 0:
            asyncio.run(recorder.journal(Entry.STEP_STARTED, float(n), step(half)))
        sign = 1.0 if half % 2 == 0 else -1.0
        recorder.sample(sample(float(n), 3.5 + sign * within / length + noise[n], sign, half))
        recorder.aux(AuxReading("lc", "pressure", n + 0.5, 0.005, 5e6 + 1e4 * within, Status.OK))
    asyncio.run(recorder.close())


def step(half: int) -> dict[str, JSON]:
    """A step's journal entry."""
    return {"index": half + 1, "step_id": 1, "cycle": half // 2 + 1, "label": "half",
            "kind": "ConstantCurrent", "hash": "", "step": {"current": 1e-3}}  # fmt: skip


def sample(time: float, voltage: float, sign: float, half: int) -> Sample:
    """One row."""
    return Sample(
        time, 1.7e9 + time, 0.005, voltage, sign * 1e-3, 1e-3 * time, 1e-3 * time, 3e-3 * time,
        time, half + 1, 1, half // 2 + 1, Regulation.CURRENT, Status.OK, Origin.POLL,
    )  # fmt: skip


# The station


@dataclass
class IdleDesk:
    """A bench on which run after run is under way, and nothing else happens."""

    output: Path
    instance: str = "benchmark"
    started: float = 0.0
    bench_name: str = "bench.toml"
    simulated: bool = True
    speed: float = 1.0
    version: str = ""

    def statuses(self) -> tuple[ChannelStatus, ...]:
        return (
            ChannelStatus(
                name="A1", cell=None, instruments=(), simulated=True, state="running",
                output="on", run="live", elapsed=time.monotonic(),
            ),
        )  # fmt: skip

    def alarm(self) -> str:
        return ""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def station(output: Path, pipe: Connection) -> None:
    """Serve until the pipe is closed; measure the timer when asked to."""
    listener = socket.create_server(("127.0.0.1", 0))
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    with Views(output) as views:
        desk: Any = IdleDesk(output)
        config = uvicorn.Config(make_app(desk, views, TOKEN, {host}), log_config=None,
                                **SERVER_OPTIONS)  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        pipe.send(f"http://{host}")
        measure_timer(pipe)
        server.should_exit = True
        thread.join()


def measure_timer(pipe: Connection) -> None:
    """Run the timer for so many seconds as the pipe says, until it is closed."""
    with contextlib.suppress(EOFError):
        while True:
            seconds = pipe.recv()
            begun = time.process_time()
            late = asyncio.run(timer(seconds))
            pipe.send((late, (time.process_time() - begun) / seconds))


async def timer(seconds: float) -> list[float]:
    """ms by which each turn came later than it was due."""
    loop = asyncio.get_running_loop()
    due, end, late = loop.time() + TICK, loop.time() + seconds, []
    while due < end:
        await asyncio.sleep(due - loop.time())
        late.append(1e3 * (loop.time() - due))
        due += TICK * max(1, int((loop.time() - due) / TICK) + 1)
    return late


# Its clients


def hammer(url: str, end: Connection) -> None:
    """Ask for curves of the whole record as fast as they come."""
    count = 0
    with StationClient(url, TOKEN) as client:
        while not end.poll():
            client.curves("big", QUANTITIES, bins=BINS)
            count += 1
    end.send(count)


@contextlib.contextmanager
def hammering(url: str, clients: int, counts: list[int]) -> Iterator[None]:
    """So many clients that hammer while the context lasts. counts: gets their answers."""
    pairs = [SPAWN.Pipe() for _ in range(clients)]
    processes = [SPAWN.Process(target=hammer, args=(url, theirs)) for _, theirs in pairs]
    for process in processes:
        process.start()
    time.sleep(2.0)  # they import
    try:
        yield
    finally:
        for ours, _ in pairs:
            ours.send(None)
        counts += [ours.recv() for ours, _ in pairs]
        for process in processes:
            process.join()


def timed(question: Callable[[], object]) -> float:
    """ms that it took."""
    begun = time.perf_counter()
    question()
    return 1e3 * (time.perf_counter() - begun)


def patiently(question: Callable[[], object]) -> None:
    """Ask until the record has been read, which may take longer than a client waits."""
    while True:
        with contextlib.suppress(RefusedError):
            question()
            return


def push_latency(client: StationClient, live: SqliteRecorder, commits: int) -> list[float]:
    """ms from a commit to the client. Rows come at random phases of the station's period."""
    committed: dict[float, float] = {}
    found: list[float] = []
    with client.stream() as stream:
        stream.follow(["live"])
        for _ in range(3):
            stream.receive(2.0)
        begun = time.monotonic()
        for _ in range(commits):
            at = time.monotonic()
            live.sample(sample(at, 3.7, 1.0, 0))
            asyncio.run(live.flush())
            committed[at] = time.monotonic()
            while at in committed and time.monotonic() - begun < 120.0:
                message = stream.receive(5.0)
                if isinstance(message, Rows):
                    for stamp in message.quantities.get("voltage", ((), ()))[0]:
                        if stamp in committed:
                            found.append(1e3 * (time.monotonic() - committed.pop(stamp)))
            time.sleep(random.uniform(0.0, 0.2))
    return found


def percentiles(values: list[float], *which: float) -> str:
    """Some percentiles and the largest of values, in ms."""
    parts = [f"p{p:g} {np.percentile(values, p):.1f}" for p in which]
    return ", ".join([*parts, f"longest {max(values):.1f} ms"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.rows, options.seconds, options.clients)


@contextlib.contextmanager
def process(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """A process with a pipe to it; ends when the pipe is closed."""
    ours, theirs = SPAWN.Pipe()
    started = SPAWN.Process(target=target, args=(*arguments, theirs))
    started.start()
    theirs.close()
    try:
        with contextlib.closing(ours):
            yield ours
    finally:
        started.join()


def measure(output: Path, rows: int, seconds: float, clients: int) -> None:
    """All of it. output: an empty folder."""
    record(output / "big", rows)
    live = SqliteRecorder(output / "live", MANIFEST, inline=True)
    with (
        process(station, output) as served,
        process(measure_timer) as idle,
        StationClient(served.recv(), TOKEN) as client,
    ):
        print(f"{rows:,} samples, {os.cpu_count()} cores")
        show_answers(client, rows)
        print("commit to client:", percentiles(push_latency(client, live, 100), 50, 99))
        for pipe in (served, idle):
            pipe.send(seconds)
        show_timers(served, idle)
        counts: list[int] = []
        begun = time.monotonic()
        with hammering(client.url, clients, counts):
            for pipe in (served, idle):
                pipe.send(seconds)
            pushed = push_latency(client, live, 30)
            print(f"beside {clients} clients that ask for plots:")
            show_timers(served, idle)
            lasted = time.monotonic() - begun
        print(f"    plots a second: {sum(counts) / lasted:.0f}")
        print("    commit to client:", percentiles(pushed, 50, 99))
    asyncio.run(live.close())


def show_timers(served: Connection, idle: Connection) -> None:
    """Print how late the timers of the station and of an idle process are."""
    (late, share), (other, _) = served.recv(), idle.recv()
    reached = "reached" if np.percentile(late, 99.9) <= AT_MOST_LATE else "missed"
    print(
        f"    10 ms timer in the station: {percentiles(late, 50, 99, 99.9)}, {share:.1%} of a core"
        f" (target p99.9 {AT_MOST_LATE:g} ms: {reached})\n"
        f"    10 ms timer on its own:     {percentiles(other, 50, 99, 99.9)}"
    )


def show_answers(client: StationClient, rows: int) -> None:
    """Time a client's questions."""

    def whole() -> object:
        return client.curves("big", QUANTITIES, bins=BINS)

    def zoom() -> object:
        width = rows * 10.0 ** random.uniform(-4.0, 0.0)
        start = random.uniform(0.0, rows - width)
        return client.curves("big", QUANTITIES, start=start, end=start + width, bins=BINS)

    print(f"first curves, which read the record: {timed(lambda: patiently(whole)):.0f} ms")
    print("curves of the whole record:", percentiles([timed(whole) for _ in range(100)], 50, 99))
    zooms = [timed(zoom) for _ in range(300)]
    reached = "reached" if np.percentile(zooms, 99) <= AT_MOST_ZOOM else "missed"
    print(f"zooms and pans: {percentiles(zooms, 50, 99)} (target {AT_MOST_ZOOM:g} ms: {reached})")
    size = len(client._get("/api/runs/big/curves", {"quantities": ",".join(QUANTITIES)}).content)
    print(f"size of an answer of {len(QUANTITIES)} curves in {BINS} bins: {size / 1e3:.0f} kB")
    for name, question in (
        ("loops", lambda: client.loops("big")),
        ("detail of the run", lambda: client.run("big")),
        ("cycles", lambda: client.cycles("big")),
        ("export of all rows", lambda: client.rows("big")),
    ):
        print(f"{name}: first {timed(question):.0f} ms, again {timed(question):.0f} ms")


if __name__ == "__main__":
    main()
