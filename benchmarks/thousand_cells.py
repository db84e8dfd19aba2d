"""A batch of differently seeded cells aged on all cores, and how long a thousand would take.

Each cell is another one of the manufactured batch, alone, with all ageing on and no instruments.
The number of cycles is run in full; only the number of cells is extrapolated. Memory is the
resident set of each process, before its first cell of the batch and after its last.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from operando.simulators.cell import SimulatedCell, cycle

WANTED = 1000
"""Cells."""
NIGHT = 12.0
"""Hours."""


@dataclass(frozen=True)
class Aged:
    """One cell. retention: last over first capacity. halves: seconds of processor time for the
    first and the second half of its cycles. process, before, after: which one aged it, and its
    resident set before and after, bytes."""

    retention: float
    halves: tuple[float, float]
    process: int
    before: int
    after: int


def resident() -> int:
    """Resident set of this process, bytes; 0 where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def age(task: tuple[str, int, int]) -> Aged:
    """Age one cell. task: preset, seed, cycles at C/2, at least 2."""
    preset, seed, cycles = task
    before = resident()
    cell = SimulatedCell.from_preset(preset, seed=seed)
    capacities, times = [], [time.process_time()]
    for done in cycle(cell, 0.0, lower=2.5, upper=4.25, rate=0.5, cutoff_rate=0.05, cycles=cycles):
        if done.number in (1, cycles):
            capacities.append(done.discharged)
        if done.number in (cycles // 2, cycles):
            times.append(time.process_time())
    halves = times[1] - times[0], times[2] - times[1]
    return Aged(capacities[-1] / capacities[0], halves, os.getpid(), before, resident())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="ncm811-caec")
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--cycles", type=int, default=500, help="of each cell")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    cells, cycles, processes = arguments.cells, arguments.cycles, arguments.processes
    if cells < 1 or cycles < 2 or processes < 1:
        parser.error("give at least 1 cell, 2 cycles and 1 process")
    tasks = [(arguments.preset, seed, cycles) for seed in range(1, cells + 1)]
    # Spawned, as on every system: each process reads presets and libraries by itself.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(age, [(arguments.preset, 0, 2)] * (4 * processes), chunksize=1)
        begun = time.perf_counter()
        aged = pool.map(age, tasks, chunksize=1)
        wall = time.perf_counter() - begun
    kept = sorted(100.0 * cell.retention for cell in aged)
    early, late = (sum(cell.halves[half] for cell in aged) for half in (0, 1))
    print(f"{cells} cells ({arguments.preset}, seeds 1 to {cells}), {cycles} cycles each at C/2:")
    print(f"  {wall:.1f} s with {processes} processes on {os.cpu_count()} cores, start-up left out")
    print(f"  {cells * cycles / wall * 3600.0:,.0f} cells x cycles an hour")
    print(f"  {1e3 * (early + late) / cells / cycles:.2f} ms of processor a cycle; the second half "
          f"of a life costs {late / early:.2f} times the first")  # fmt: skip
    print(f"  capacity left: {kept[0]:.1f} to {kept[-1]:.1f} %, median {median(kept):.1f} %")
    for process in sorted({cell.process for cell in aged}):
        its = [cell for cell in aged if cell.process == process]
        print(f"  process {process}: {len(its)} cells, resident {its[0].before / 1e6:.1f} MB "
              f"before the first, {its[-1].after / 1e6:.1f} MB after the last")  # fmt: skip
    hours = wall / cells * WANTED / 3600.0
    own = (early + late) / cells * WANTED / min(processes, os.cpu_count() or 1) / 3600.0
    print(
        f"extrapolated by the number of cells alone: {WANTED} cells x {cycles} cycles in "
        f"{hours:.2f} h as loaded as now, {own:.2f} h with the cores to itself; a night of "
        f"{NIGHT:g} h: {'reached' if hours <= NIGHT else 'missed'}"
    )


if __name__ == "__main__":
    main()
