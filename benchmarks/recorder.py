"""How fast rows become durable, beside the peers that are installed.

    python benchmarks/recorder.py [--rows N]

Ours: rows of 12 numbers and 3 states, offered one by one under the flush rule; timed from the
first offer until the last row is synced to disk. QCoDeS: its fastest form, one row of 4 numbers a
result, timed until its dataset is written. bluesky: events of 4 numbers a second that the
RunEngine emits, stored nowhere. Best of three each, as machines are noisy. Peers are not
dependencies: install `qcodes` and `bluesky` beside operando to see them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from operando.instruments.clock import run
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import Origin, Regulation, Sample, Status
from operando.records import SqliteRecorder

MANIFEST: dict[str, JSON] = {"started": "2026-01-01T00:00:00+00:00", "simulated": True}
AT_LEAST_QCODES = 4.0
AT_LEAST_BLUESKY = 60.0
AT_LEAST_ROWS = 100_000.0
AT_MOST_APPEND = 1e-3
"""s, 99th percentile of one append beside a running writer thread."""


def rows(count: int) -> list[Sample]:
    return [
        Sample(
            0.1 * n, 1.7e9 + 0.1 * n, 0.005, 3.7 + 1e-6 * n, 1.57e-3, 1.57e-4 * n, 1.57e-4 * n,
            5.8e-4 * n, 0.1 * n, 1 + n // 1000, 1, 1, Regulation.CURRENT, Status.OK, Origin.POLL,
        )
        for n in range(count)
    ]  # fmt: skip


def ours(samples: list[Sample], *, inline: bool) -> float:
    """Rows a second until synced."""

    async def scenario(folder: Path) -> float:
        recorder = SqliteRecorder(folder, MANIFEST, inline=inline)
        start = time.perf_counter()
        for sample in samples:
            recorder.sample(sample)
        await recorder.journal(Entry.NOTE, samples[-1].time, {})
        elapsed = time.perf_counter() - start
        await recorder.close()
        return len(samples) / elapsed

    with tempfile.TemporaryDirectory() as parent:
        return run(scenario(Path(parent) / "r"), virtual=inline)


def appends(samples: list[Sample]) -> list[float]:
    """Duration of each append from a busy event loop beside the writer thread, s, sorted."""

    async def scenario(folder: Path) -> list[float]:
        recorder = SqliteRecorder(folder, MANIFEST, inline=False)
        durations = []
        for sample in samples:
            start = time.perf_counter()
            recorder.sample(sample)
            durations.append(time.perf_counter() - start)
            await asyncio.sleep(0)  # a turn of the loop: the thread commits all the while
        await recorder.close()
        return sorted(durations)

    with tempfile.TemporaryDirectory() as parent:
        return run(scenario(Path(parent) / "r"))


def journal(count: int = 200) -> float:
    """Mean time of a synced journal entry, s."""

    async def scenario(folder: Path) -> float:
        recorder = SqliteRecorder(folder, MANIFEST, inline=False)
        start = time.perf_counter()
        for n in range(count):
            await recorder.journal(Entry.NOTE, float(n), {"n": n})
        elapsed = time.perf_counter() - start
        await recorder.close()
        return elapsed / count

    with tempfile.TemporaryDirectory() as parent:
        return run(scenario(Path(parent) / "r"))


def qcodes(count: int) -> float | None:
    """Results a second of QCoDeS; None if it is not installed."""
    if importlib.util.find_spec("qcodes") is None:
        return None
    import qcodes as qc  # type: ignore[import-not-found,unused-ignore]
    from qcodes.dataset import (  # type: ignore[import-not-found,unused-ignore]
        Measurement,
        initialise_or_create_database_at,
        load_or_create_experiment,
    )

    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as parent:
        initialise_or_create_database_at(str(Path(parent) / "q.db"))
        experiment = load_or_create_experiment("benchmark", "none")
        measurement = Measurement(exp=experiment)
        setpoints = ["time", "current", "pressure"]
        for name in setpoints:
            measurement.register_custom_parameter(name)
        measurement.register_custom_parameter("voltage", setpoints=setpoints)
        start = time.perf_counter()
        with measurement.run() as saver:
            for n in range(count):
                saver.add_result(
                    ("time", 0.1 * n), ("current", 1e-3), ("pressure", 5e6), ("voltage", 3.7)
                )
        elapsed = time.perf_counter() - start
        assert saver.dataset.number_of_results == count
        with contextlib.suppress(Exception):
            qc.config  # noqa: B018
            experiment.conn.close()
    return count / elapsed


class Readable:
    """The least that bluesky can read."""

    name = "cell"
    parent = None
    hints: dict[str, Any] = {}  # noqa: RUF012
    names = ("voltage", "current", "pressure", "temperature")

    def read(self) -> dict[str, Any]:
        return {name: {"value": 3.7, "timestamp": 0.0} for name in self.names}

    def describe(self) -> dict[str, Any]:
        return {name: {"source": "", "dtype": "number", "shape": []} for name in self.names}

    def read_configuration(self) -> dict[str, Any]:
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        return {}


def bluesky(count: int) -> float | None:
    """Events a second of bluesky's RunEngine; None if it is not installed."""
    if importlib.util.find_spec("bluesky") is None:
        return None
    import bluesky.plan_stubs as bps  # type: ignore[import-not-found,unused-ignore]
    from bluesky import RunEngine

    seen = []
    device = Readable()

    def plan() -> Iterator[Any]:
        yield from bps.open_run()
        for _ in range(count):
            yield from bps.create("primary")
            yield from bps.read(device)
            yield from bps.save()
        yield from bps.close_run()

    engine = RunEngine({}, context_managers=[])
    engine.subscribe(lambda name, document: seen.append(name), "event")
    start = time.perf_counter()
    engine(plan())
    elapsed = time.perf_counter() - start
    assert len(seen) == count
    return count / elapsed


def best(measure: Callable[[], float | None]) -> float | None:
    """The best of three, silently."""
    with contextlib.redirect_stdout(io.StringIO()):
        results = [measure() for _ in range(3)]
    found = [result for result in results if result is not None]
    return max(found) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    samples = rows(count)
    threaded = best(lambda: ours(samples, inline=False)) or 0.0
    inline = best(lambda: ours(samples, inline=True)) or 0.0
    durations = appends(samples)
    p50, p99 = durations[len(durations) // 2], durations[int(0.99 * len(durations))]
    print(f"operando, writer thread    {threaded:12,.0f} rows/s")
    print(f"operando, inline           {inline:12,.0f} rows/s")
    print(f"append beside the thread   p50 {p50 * 1e6:.2f} us, p99 {p99 * 1e6:.2f} us, "
          f"worst {durations[-1] * 1e3:.2f} ms")  # fmt: skip
    print(f"synced journal entry       {journal() * 1e3:.2f} ms")
    slowest = min(threaded, inline)
    verdicts = [
        (f"at least {AT_LEAST_ROWS:,.0f} rows/s", slowest >= AT_LEAST_ROWS),
        (f"p99 of an append below {AT_MOST_APPEND * 1e3:g} ms", p99 < AT_MOST_APPEND),
    ]
    for name, rate, factor in (
        ("QCoDeS", best(lambda: qcodes(10_000)), AT_LEAST_QCODES),
        ("bluesky RunEngine", best(lambda: bluesky(2_000)), AT_LEAST_BLUESKY),
    ):
        if rate is None:
            print(f"{name:26} not installed")
            continue
        print(f"{name:26} {rate:12,.0f} rows/s   operando is {slowest / rate:.0f} times as fast")
        verdicts.append((f"at least {factor:g} times {name}", slowest >= factor * rate))
    for text, passed in verdicts:
        print(f"{'yes' if passed else 'NO '}  {text}")
    if not all(passed for _, passed in verdicts):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
