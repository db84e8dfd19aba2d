"""How much of a core live plots take, and how soon a zoom is answered.

    python benchmarks/live_plots.py [--rows N] [--seconds S] [--profile]

Four runs of N rows, of which each has voltage, current, pressure and charge, lie in the folder of a
real station, and a process appends 20 rows a second to each. The window's process holds four of
the channel page's stacks of plots, 1200 px wide: 16 curves. It draws all of them 20 times a second
for S seconds, then zooms and moves at random. Processor time is that of the window's process with
all its threads; station and writer are processes of their own. No display is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import pstats
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

RUNS = ("run-A1", "run-A2", "run-A3", "run-A4")
QUANTITIES = ("voltage", "current", "pressure", "charge")
WIDTH, HEIGHT = 1200, 640
FRAME = 0.05
"""s between two frames."""
ROWS_PER_SECOND = 20
INTERVAL = 0.5
"""s of laboratory time between two rows."""
ZOOMS = 100

MOST_CORE = 0.60
MOST_ZOOM = 0.050

_SAMPLE = (
    "INSERT INTO samples (test_time_second, unix_time_second, time_uncertainty_second, "
    "voltage_volt, current_ampere, net_charge_coulomb, step_net_charge_coulomb, "
    "net_energy_joule, step_time_second, step_count, step_id, cycle_count, regulation, status, "
    "origin) VALUES (?, ?, 0.005, ?, ?, ?, ?, 0.0, ?, 1, 1, 1, 'current', 'ok', 'poll')"
)
_AUX = (
    "INSERT INTO aux (source, quantity, test_time_second, time_uncertainty_second, value, status) "
    "VALUES ('lc1', 'pressure', ?, 0.005, ?, 'ok')"
)


def values(first: int, count: int) -> list[tuple[float, float, float, float, float]]:
    """Time, voltage, current, charge and pressure of rows: cycles of 2 h with noise."""
    time_s = INTERVAL * np.arange(first, first + count)
    noise = np.random.default_rng(first)
    turn = np.sin(2 * np.pi * time_s / 7200.0)
    voltage = 3.6 + 0.5 * turn + noise.normal(0.0, 2e-3, count)
    current = 1.5e-3 * np.sign(np.cos(2 * np.pi * time_s / 7200.0)) + noise.normal(0, 1e-6, count)
    charge = 6.0 + 5.0 * turn
    pressure = 8.0e6 + 4e5 * turn + noise.normal(0.0, 5e3, count)
    return list(
        zip(
            *(column.tolist() for column in (time_s, voltage, current, charge, pressure)),
            strict=True,
        )
    )


def put(connection: sqlite3.Connection, first: int, count: int) -> None:
    """Append rows to a record and commit them."""
    rows = values(first, count)
    with connection:
        connection.executemany(_SAMPLE, [(t, 1.7e9 + t, u, i, q, q, t) for t, u, i, q, _ in rows])
        connection.executemany(_AUX, [(t, p) for t, _, _, _, p in rows])


def prepare(folder: Path, rows: int) -> None:
    """Make the records."""
    from operando.instruments.clock import run
    from operando.instruments.recorder import JSON, Entry
    from operando.records import SqliteRecorder

    manifest: dict[str, JSON] = {
        "started": "2026-01-01T00:00:00+00:00",
        "simulated": True,
        "channel": "A1",
        "protocol": {"name": "cccv"},
        "poll": {"interval": INTERVAL},
    }

    async def scenario() -> None:
        recorder = SqliteRecorder(folder / RUNS[0], manifest, inline=True)
        await recorder.journal(Entry.RUN_STARTED, 0.0, {"channel": "A1"})
        await recorder.close()

    run(scenario())
    first = folder / RUNS[0]
    (first / "checksums.json").unlink()
    with contextlib.closing(sqlite3.connect(first / "record.sqlite")) as connection:
        for begin in range(0, rows, 100_000):
            put(connection, begin, min(100_000, rows - begin))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for other in RUNS[1:]:
        shutil.copytree(first, folder / other)


def append(folder: Path, rows: int) -> None:
    """Append rows to all records, for ever."""
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(
                contextlib.closing(sqlite3.connect(folder / name / "record.sqlite"))
            )
            for name in RUNS
        ]
        for connection in connections:
            connection.execute("PRAGMA synchronous = NORMAL")
        begin, written = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begin) * ROWS_PER_SECOND) - written
            if due > 0:
                for connection in connections:
                    put(connection, rows + written, due)
                written += due
            time.sleep(1.0 / ROWS_PER_SECOND)


@contextlib.contextmanager
def writer(folder: Path, rows: int) -> Iterator[None]:
    """The process that appends."""
    words = [sys.executable, __file__, "--append", str(folder), "--rows", str(rows)]
    process = subprocess.Popen(words)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def line(name: str, seconds: Sequence[float]) -> str:
    """Percentiles in ms."""
    p50, p99 = np.percentile(np.array(seconds) * 1e3, (50, 99))
    return f"{name:<44} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   longest {max(seconds) * 1e3:.1f} ms"


def measure(url: str, rows: int, seconds: float, profiled: bool) -> bool:
    """Draw and zoom; prints figures and says whether all targets are reached."""
    from PyQt6.QtCore import QEvent, QEventLoop, QObject
    from PyQt6.QtWidgets import QApplication

    from operando.gui.link import StationLink
    from operando.gui.theme import DARK
    from operando.gui.widgets.time_plots import TimePlot, TimePlots
    from operando.station.client import Rows

    application = QApplication([])
    link = StationLink(url)
    link.start()
    link.follow(RUNS)
    stacks = {}
    for name in RUNS:
        stack = TimePlots(link, DARK, key=name)
        stack.resize(WIDTH, HEIGHT)
        stack.show()
        stack.show_run(name, QUANTITIES, live=True)
        stacks[name] = stack

    class Painted(QObject):
        """Counts what the plots paint."""

        def __init__(self, plots: Iterable[TimePlot]) -> None:
            super().__init__()
            self.count = 0
            for plot in plots:
                plot.viewport().installEventFilter(self)

        def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
            self.count += event is not None and event.type() == QEvent.Type.Paint
            return False

    def handle(wait: float) -> None:
        application.processEvents(QEventLoop.ProcessEventsFlag.AllEvents)
        time.sleep(wait)

    def drain() -> int:
        taken = 0
        for message in link.drain():
            if isinstance(message, Rows) and message.run in stacks:
                stacks[message.run].apply_rows(message)
                taken += len(message.quantities.get("voltage", ((), ()))[0])
        return taken

    def ready() -> bool:
        return all(
            len(stack.traces.trace(name).time) and not stack.traces.waiting
            for stack in stacks.values()
            for name in QUANTITIES
        )

    begin = time.monotonic()
    deadline = begin + 120.0
    while drain() == 0 or not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"the station did not answer within 120 s: {link.last_error}")
        handle(0.01)
    print(f"station's first look at all records: {time.monotonic() - begin:.1f} s")
    for _ in range(20):
        drain()
        handle(0.05)
    points = [len(s.traces.trace(q).time) for s in stacks.values() for q in QUANTITIES]
    print(f"{len(points)} curves of {rows} rows, {min(points)} to {max(points)} points held each")

    profile = cProfile.Profile()
    frames, taken = [], 0
    if profiled:
        profile.enable()
    painted = Painted(plot for stack in stacks.values() for plot in stack.plots.values())
    begin, used = time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) - begin < seconds:
        taken += drain()
        application.processEvents(QEventLoop.ProcessEventsFlag.AllEvents)
        for stack in stacks.values():
            stack.redraw()
        # The scene gathers what changed, then the widgets paint it.
        for _ in range(2):
            application.processEvents(QEventLoop.ProcessEventsFlag.AllEvents)
        frames.append(time.perf_counter() - now)
        time.sleep(max(0.0, begin + len(frames) * FRAME - time.perf_counter()))
    wall, used = time.perf_counter() - begin, time.process_time() - used
    if profiled:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    share = used / wall
    drawn = painted.count / wall / len(points)
    new = taken / wall / len(RUNS)
    print(f"each curve painted {drawn:.1f} times a second, {new:.1f} new rows/s a run")
    print(
        f"window's process: {100 * share:.0f} % of a core (target: below {100 * MOST_CORE:.0f} %)"
    )
    print(line("a frame of all 16 curves", frames))

    random = np.random.default_rng(1)
    stack, whole = stacks[RUNS[0]], INTERVAL * rows
    for other in RUNS[1:]:
        stacks[other].hide()
    profile = cProfile.Profile()
    answers: list[float] = []
    asking: list[float] = []
    for number in range(ZOOMS):
        if number % 2:
            width = whole * 10.0 ** random.uniform(-4, 0)
            start = random.uniform(0.0, whole - width)
        else:
            width = stack.viewport.end - stack.viewport.start
            start = stack.viewport.start + random.uniform(-0.5, 0.5) * width
        if profiled:
            profile.enable()
        now = time.perf_counter()
        stack.choose(start, start + width)
        while stack.traces.waiting:
            application.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        # Paints what the answer changed.
        application.processEvents(QEventLoop.ProcessEventsFlag.AllEvents)
        answers.append(time.perf_counter() - now)
        profile.disable()
        for _ in range(3):
            drain()
            handle(0.01)
        now = time.perf_counter()
        view = stack.viewport
        link._client.curves(RUNS[0], QUANTITIES, start=view.start, end=view.end, bins=WIDTH - 82)
        asking.append(time.perf_counter() - now)
    if profiled:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    print(line("from a zoom or pan to its exact bins painted", answers), "(target: 50 ms)")
    print(line("of that, the station's answer alone", asking))
    link.close()
    return share < MOST_CORE and float(np.percentile(answers, 99)) < MOST_ZOOM


def main() -> int:
    """Prepare, measure, clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--append", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.append is not None:
        append(arguments.append, arguments.rows)
    from operando.station.client import StationProcess

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(folder, arguments.rows)
        stack.enter_context(writer(folder, arguments.rows))
        station = stack.enter_context(StationProcess(None, simulate=True, output=folder))
        reached = measure(station.url, arguments.rows, arguments.seconds, arguments.profile)
    print("all targets reached" if reached else "A TARGET WAS MISSED")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
