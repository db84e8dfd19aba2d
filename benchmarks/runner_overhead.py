"""What runner, limits and record cost a sample in virtual time, and a hundred cycles in seconds.

A cell is cycled as in the cell life test of Kim et al. (C/2 between 2.5 and 4.25 V, held down to
0.05C) on the source meter of `examples/bench.toml`, with a load cell beside it. The runs are made
twice: plain, for the time they take, and under the profiler, which tells how the time is shared
between drivers, simulated instruments and cell, the virtual clock with the memory wires, and what
is left: runner, limits and record. That share of the plain run's processor time is the overhead.

The profiler makes calls dearer than what they do, and the runner's are many and small: its share
comes out too large rather than too small.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.recipe import parse_recipe
from operando.protocols import RunState
from operando.records import Record
from operando.station.engine import Engine, Run, order_from

TARGET = 60e-6
"""Runner, limits and record, s a sample."""
TARGET_CYCLES = 15.0
"""A hundred cycles, s of processor time: what a free machine needs, whatever else runs on this."""

BENCH = Path(__file__).parents[1] / "examples" / "bench.toml"
RECIPE = """
protocol = "cccv"

[parameters]
cycles = {cycles}
charge_rate = "C/2"
discharge_rate = "C/2"
cv_cutoff = "0.05C"
window = ["2.5 V", "4.25 V"]

[poll]
interval = "{interval}"
{load_cell}

[limits]
over_voltage = {{ when = "voltage > 4.30 V", action = "trip", stale_after = "10 min" }}
under_voltage = {{ when = "voltage < 2.2 V", action = "trip", stale_after = "10 min" }}
over_current = {{ when = "abs(current) > 0.6C", action = "trip", stale_after = "10 min" }}
over_pressure = {{ when = "pressure > 12 MPa", action = "trip", stale_after = "10 min" }}
"""

LAYERS = {
    "/protocols/": "runner",
    "/station/": "runner",
    "/records/": "record",
    "sqlite3": "record",
    "conditions.py": "limits and conditions",
    "evaluators.py": "limits and conditions",
    "limits.py": "limits and conditions",
    "/drivers/": "drivers",
    "/simulators/operando/simulators/cell": "simulated cell",
    "/simulators/": "simulated instruments",
    "wires.py": "memory wires",
    "clock.py": "virtual clock and loop",
    "asyncio": "virtual clock and loop",
}
OURS = ("runner", "limits and conditions", "record")


@dataclass(frozen=True)
class Timed:
    """A run with the processor time it took, s."""

    ended: Run
    wall: float
    processor: float

    @property
    def samples(self) -> int:
        """Readings of the source meter, all of which became rows."""
        return len(Record.open(self.ended.folder).samples(columns=["time"])["time"])

    @property
    def pressures(self) -> int:
        """Readings of the load cell."""
        return len(Record.open(self.ended.folder).aux("pressure")["time"])


def cycles(number: int, interval: str, output: Path, *, load_cell: bool) -> Timed:
    """Run cycles in virtual time, every reading recorded.

    load_cell: read as often as the source meter, else every 3 min.
    """
    text = RECIPE.format(
        cycles=number,
        interval=interval,
        load_cell="" if load_cell else 'instruments = { load1 = "3 min" }',
    )
    order = order_from(parse_recipe(text, Path("benchmark.toml")))

    async def execute() -> Run:
        async with Engine(load_bench(BENCH), Clock("virtual")) as engine:
            return await engine.run("A1", order, output)

    wall, processor = time.perf_counter(), time.process_time()
    ended = run(execute(), virtual=True)
    assert ended.result.state is RunState.COMPLETED, ended.result.reason
    return Timed(ended, time.perf_counter() - wall, time.process_time() - processor)


Place = tuple[str, int, str]


def layer_of(place: Place) -> str:
    """The layer of a function, "" for one of the interpreter's own and of other libraries."""
    file = place[0]
    return next((layer for part, layer in LAYERS.items() if part in file), "")


def shares(profiler: cProfile.Profile) -> dict[str, float]:
    """Share of the time of each layer. What belongs to none is given to those that called it."""
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    layers: dict[str, float] = defaultdict(float)
    for place, (_, _, own, _, callers) in stats.items():
        if layer := layer_of(place):
            layers[layer] += own
            continue
        told = 0.0
        for caller, (_, _, part, _) in callers.items():
            layers[layer_of(caller) or "the rest"] += part
            told += part
        layers["the rest"] += own - told
    total = sum(layers.values())
    return {layer: own / total for layer, own in layers.items()}


def overhead(output: Path) -> None:
    """Print what a sample costs, by layer."""
    plain = min((cycles(1, "1 s", output, load_cell=True) for _ in range(3)), key=_processor)
    profiler = cProfile.Profile()
    profiler.enable()
    cycles(1, "1 s", output, load_cell=True)
    profiler.disable()
    found = shares(profiler)
    each = plain.processor / plain.samples
    print(
        f"one cycle, a poll a second: {plain.samples} samples and {plain.pressures} pressures in "
        f"{plain.processor:.2f} s of processor time ({plain.wall:.2f} s wall), "
        f"{1e6 * each:.1f} us a sample with its pressure"
    )
    for layer, share in sorted(found.items(), key=lambda item: -item[1]):
        print(f"  {1e6 * share * each:6.1f} us  {100 * share:4.1f} %  {layer}")
    ours = each * sum(found.get(layer, 0.0) for layer in OURS)
    verdict = "reached" if ours <= TARGET else "missed"
    print(f"runner, limits and record: {1e6 * ours:.1f} us a sample; target 60: {verdict}")


def hundred(output: Path, interval: str) -> None:
    """Print how long the cell life test takes."""
    for load_cell in (False, True):
        timed = cycles(100, interval, output, load_cell=load_cell)
        verdict = "reached" if timed.processor <= TARGET_CYCLES else "missed"
        print(
            f"100 cycles at C/2, a poll in {interval}, "
            f"the load cell {'as often' if load_cell else 'every 3 min'}: "
            f"{timed.samples} samples and {timed.pressures} pressures of "
            f"{timed.ended.result.duration / 86400.0:.1f} days in {timed.processor:.1f} s of "
            f"processor time ({timed.wall:.1f} s wall); target 15: {verdict}"
        )


def _processor(timed: Timed) -> float:
    return timed.processor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", default="12 s", help="poll interval of the hundred cycles")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        overhead(Path(folder))
        hundred(Path(folder), arguments.interval)


if __name__ == "__main__":
    main()
