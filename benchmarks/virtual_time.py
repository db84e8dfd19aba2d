"""Samples a second in virtual time, on one core, through every layer.

A sample is one round trip of the source meter, one of the load cell, the simulated cell, the
limits and a recorded row of each. `--profile` prints where the time goes, by layer.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.recipe import parse_recipe
from operando.records import Record
from operando.station.engine import Engine, Order, Run, order_from

TARGET = 10_000.0
"""Samples a second."""

RECIPE = """
protocol = "cccv"

[parameters]
cycles = 1
charge_rate = "1C"
discharge_rate = "1C"
cv_cutoff = "0.1C"

[poll]
interval = "{interval}"

[limits]
over_voltage = {{ when = "voltage > 4.30 V", action = "trip" }}
under_voltage = {{ when = "voltage < 2.0 V", action = "trip" }}
over_current = {{ when = "abs(current) > 1.2C", action = "trip" }}
over_pressure = {{ when = "pressure > 12 MPa for 5 s", action = "trip" }}
"""

LAYERS = {
    "clock.py": "virtual loop and clock",
    "wires.py": "memory wire",
    "drivers/": "drivers",
    "simulators/operando/simulators/cell": "simulated cell",
    "simulators/": "simulated instruments",
    "protocols/": "runner",
    "records/": "recorder",
    "conditions.py": "limits and conditions",
    "evaluators.py": "limits and conditions",
    "limits.py": "limits and conditions",
    "asyncio": "virtual loop and clock",
    "sqlite3": "recorder",
}


def order(interval: str) -> Order:
    """The order of the benchmark, every poll recorded."""
    return order_from(parse_recipe(RECIPE.format(interval=interval), Path("benchmark.toml")))


def cycle(bench: Path, what: Order, output: Path) -> Run:
    """One cycle in virtual time."""

    async def main() -> Run:
        async with Engine(load_bench(bench), Clock("virtual")) as engine:
            return await engine.run("A1", what, output)

    return run(main(), virtual=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", default="1 s", help="poll interval, laboratory time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    bench = Path(__file__).parents[1] / "examples" / "bench.toml"
    what = order(arguments.interval)
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            start, cpu = time.perf_counter(), time.process_time()
            ended = cycle(bench, what, Path(folder))
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            record = Record.open(ended.folder)
            samples = len(record.samples(columns=["time"])["time"])
            pressures = len(record.aux("pressure")["time"])
            rates.append(min(samples, pressures) / wall)
            print(
                f"{samples} samples and {pressures} pressures of "
                f"{ended.result.duration:.0f} s in {wall:.2f} s wall, {cpu:.2f} s CPU: "
                f"{rates[-1]:,.0f} samples/s"
            )
        best = max(rates)
        verdict = "reached" if best >= TARGET else "missed"
        middle = sorted(rates)[len(rates) // 2]
        print(f"best {best:,.0f}, median {middle:,.0f} samples/s; target {TARGET:,.0f}: {verdict}")
        if arguments.profile:
            _profile(bench, what, Path(folder))


def _profile(bench: Path, what: Order, output: Path) -> None:
    profiler = cProfile.Profile()
    profiler.enable()
    cycle(bench, what, output)
    profiler.disable()
    stats = pstats.Stats(profiler)
    layers: dict[str, float] = defaultdict(float)
    for (file, _, name), (_, _, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        place = file if file != "~" else name
        layer = next((title for part, title in LAYERS.items() if part in place), "the rest")
        layers[layer] += own
    total = sum(layers.values())
    print("\nown time by layer, under the profiler:")
    for layer, own in sorted(layers.items(), key=lambda item: -item[1]):
        print(f"  {100 * own / total:5.1f} %  {layer}")
    stats.sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
