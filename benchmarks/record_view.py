"""How fast a viewer follows a record, and how fast it answers a zoom.

    python benchmarks/record_view.py [--rows N]

A record of samples at 10 Hz, with a pressure reading for every other one. *First update*: a view
is made and reads everything. *Nothing new*, *10 rows*: updates of a view that is up to date, while
the recorder is open. *Curves*: four quantities in 1200 bins over the whole record, a hundredth of
it, and stretches that are short enough to be read as they are. *Loops*: voltage against charge of
all half cycles, for the first time and again. *Naive*: reading the columns of the samples as
`Record` gives them, which is what a viewer without a pyramid does at every redraw. Medians, of what
takes seconds the best of three, as machines are noisy; ratios are of the same run.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

from operando.instruments.clock import run
from operando.instruments.recorder import JSON
from operando.instruments.samples import AuxReading, Origin, Regulation, Sample, Status
from operando.records import Record, RecordView, SqliteRecorder

MANIFEST: dict[str, JSON] = {
    "started": "2026-01-01T00:00:00+00:00", "simulated": True, "poll_interval": 0.1
}  # fmt: skip
QUANTITIES = ("voltage", "current", "charge", "pressure")
AT_MOST_FIRST = 1.5e-6
"""s a row: 1.5 s for a million."""
AT_MOST_CURVES = 0.05


def sample(n: int, half: int) -> Sample:
    """A row of a cell that is charged and discharged, `half` rows each."""
    t, (cycles, phase) = 0.1 * n, divmod(n, half)
    sign = 1.0 if cycles % 2 == 0 else -1.0
    charge = 1.57e-4 * (phase if sign > 0.0 else half - phase)
    voltage = 3.0 + charge / (1.57e-4 * half) + 0.05 * sign + 1e-3 * math.sin(t)
    return Sample(
        t, 1.7e9 + t, 0.005, voltage, 1.57e-3 * sign, charge, 1.57e-4 * phase * sign, 5.8e-4 * n,
        0.1 * phase, 1 + cycles, 1, 1 + cycles // 2, Regulation.CURRENT, Status.OK, Origin.POLL,
    )  # fmt: skip


def write(recorder: SqliteRecorder, first: int, count: int, half: int) -> None:
    for n in range(first, first + count):
        recorder.sample(sample(n, half))
        if n % 2 == 0:
            recorder.aux(AuxReading("lc1", "pressure", 0.1 * n + 0.03, 0.01, 5e6 + n, Status.OK))


def median(act: Callable[[], object], times: int) -> float:
    """Wall s."""
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        act()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def memory(folder: Path) -> tuple[float, float]:
    """Bytes that a view holds once it has read everything, and the most while it read."""
    tracemalloc.start()
    view = RecordView(folder)
    view.update()
    view.curves(QUANTITIES)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held, peak


async def scenario(folder: Path, rows: int) -> None:
    recorder = SqliteRecorder(folder, MANIFEST, inline=True)
    half = max(rows // 50, 1)
    write(recorder, 0, rows, half)
    await recorder.flush()

    first = min(median(lambda: RecordView(folder).update(), 1) for _ in range(3))
    view = RecordView(folder)
    view.update()
    nothing = median(view.update, 200)
    few = []
    for n in range(50):
        write(recorder, rows + 10 * n, 10, half)
        await recorder.flush()
        few.append(median(view.update, 1))
    record, end = Record.open(folder), view.end
    columns = ["time", "voltage", "current", "charge"]
    naive = min(median(lambda: record.samples(columns=columns), 1) for _ in range(3))

    figures = [
        ("first update", first),
        ("update, nothing new", nothing),
        ("update, 10 rows", statistics.median(few)),
    ]
    answers = []
    for name, share in (
        ("whole", 1.0),
        ("a hundredth", 0.01),
        ("8 readings a pixel", 958.0 / end),
        ("4 readings a pixel", 478.0 / end),
    ):
        start = 0.4 * end * (1.0 - share)
        stop = start + share * end
        curves = view.curves(QUANTITIES, start, stop)
        exact = "exact" if curves["voltage"].exact else "bins"
        points = len(curves["voltage"].time)
        answers.append(median(partial(view.curves, QUANTITIES, start, stop), 30))
        figures.append((f"curves, {name} ({points} points each, {exact})", answers[-1]))
    figures += [
        ("loops, first time", median(view.loops, 1)),
        ("loops, again", median(view.loops, 30)),
        ("naive: samples of the record", naive),
    ]
    for name, duration in figures:
        print(f"{name:55} {duration * 1e3:10.2f} ms   naive / this {naive / duration:10,.1f}")
    held, peak = memory(folder)
    print(f"{'memory of a view':55} {held / 1e6:10.1f} MB   at most {peak / 1e6:.0f} MB meanwhile")
    for text, passed in (
        (f"first update within {AT_MOST_FIRST * 1e6:g} us a row", first <= AT_MOST_FIRST * rows),
        (f"every zoom within {AT_MOST_CURVES * 1e3:g} ms", max(answers) <= AT_MOST_CURVES),
    ):
        print(f"{'yes' if passed else 'NO '}  {text}")
    await recorder.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as parent:
        run(scenario(Path(parent) / "r", rows), virtual=True)


if __name__ == "__main__":
    main()
