"""A cabinet of 128 cycler channels behind one server: processor share and punctual polls.

    python benchmarks/many_channels.py [--seconds 60] [--channels 128] [--interval 1]
        [--fine] [--at-once 8]

A simulation in a process of its own serves one Neware BTS 8 with a cell on each channel, over TCP
at speed 1. One engine in this process charges all cells at C/2, each a run of its own with limits
and a record, and polls each channel once a second and records every poll. Its watchdog, a process
that waits, runs beside it. Runs are started unit by unit (all at once with `--at-once 128`), which
is not counted.

The current is taken from the live data, which have steps of 0.1 mA: the server is asked about many
channels in one request. `--fine` takes small currents from the newest stored row, as the driver
does unless it is told otherwise: a request for each reading of each channel.

Processor: user and system time of this process with all its threads, a share of one core, all
recorders included. Lateness: when a reading was begun less when it was due; deadlines are the first
poll of the step plus multiples of the interval, and one that an overrun made the runner leave out
counts as a late poll; the grid is laid through the most punctual polls. Age: of a reading when the
runner gets it, as it may have come with another channel's.

Prints what is reached and what is missed; always ends with 0.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from real_sockets import (  # type: ignore[import-not-found]
    LAST,
    ON_TIME,
    PUNCTUAL,
    Polls,
    Usage,
    charge_all,
    free_ports,
    grid_origin,
    table_head,
    verdict,
)

from operando.drivers.neware_session import Session, Sighting, Watch
from operando.instruments.clock import Clock, run
from operando.instruments.locks import ENVIRONMENT
from operando.instruments.recipe import parse_recipe
from operando.protocols import RunState
from operando.records import Record
from operando.station.engine import Run, order_from
from operando.station.simulate import SimulatedProcess

MOST_CPU = 25.0
"""% of one core."""

ROUNDING = 1e-3
"""s to which the times of a record, counted since 1970, are compared."""

UNIT = 8
"""Channels of one unit of the cabinet."""

SHOWN = 3
"""Runs of which is told why they ended otherwise than they should."""

CHANNEL = """
[instruments.neware{n}]
driver = "neware-bts8"
address = "TCPIP::127.0.0.1::{port}::SOCKET#21-{unit}-{place}"
[instruments.neware{n}.settings]
current = "0.1 A"
fine_current = {fine}
[instruments.neware{n}.simulated]
cell = "c{n}"

[channels.A{n}]
cell = "c{n}"
potentiostat = "neware{n}"

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
charge_rate = "C/2"
discharge_rate = "C/2"

[poll]
interval = "{interval} s"

[limits]
over_voltage = {{ when = "voltage > 4.5 V", action = "trip" }}
"""


def write_bench(folder: Path, channels: int, fine: bool) -> Path:
    """A bench of one cabinet. fine: whether small currents come from stored rows."""
    path = folder / "bench.toml"
    (port,) = free_ports(1)
    text = "".join(
        CHANNEL.format(
            n=n,
            port=port,
            unit=(n - 1) // UNIT + 1,
            place=(n - 1) % UNIT + 1,
            fine=str(fine).lower(),
        )
        for n in range(1, channels + 1)
    )
    path.write_text(text, encoding="utf-8")
    return path


class Look(NamedTuple):
    """One look at a channel: laboratory times (s) when it was begun and given, and its own."""

    began: float
    ended: float
    time: float


@contextmanager
def overheard(clock: Clock) -> Iterator[dict[str, list[Look]]]:
    """Looks at every channel, by its serial number, while the context lasts.

    The record holds the time of a reading, which another channel may have asked for: when the
    runner asked is known to the driver alone. Costs less than 1 us a look.
    """
    looks: dict[str, list[Look]] = defaultdict(list)
    original = Session.look

    async def look(self: Session, watch: Watch) -> Sighting:
        began = clock.now()
        sighting = await original(self, watch)
        looks[watch.place.serial].append(Look(began, clock.now(), sighting.time))
        return sighting

    Session.look = look  # type: ignore[method-assign]
    try:
        yield looks
    finally:
        Session.look = original  # type: ignore[method-assign]


class Found(NamedTuple):
    """What was measured. ages: s, sorted. recorded: polls in the records. expected: deadlines."""

    polls: Polls
    ages: list[float]
    recorded: int
    expected: int


def judge(
    runs: list[Run], looks: dict[str, list[Look]], usage: Usage, interval: float, clock: Clock
) -> Found:
    """Lateness and age of all readings that were begun while the processor time was measured."""
    polls, ages, recorded, expected = Polls("channels"), list[float](), 0, 0
    offset = clock.utc(0.0)
    last = usage.end - LAST
    for one in runs:
        record = Record.open(one.folder)
        manifest: Any = record.manifest
        (instrument,) = manifest["instruments"].values()
        kept = [
            one
            for one in looks[instrument["identity"]["serial"]]
            if usage.start <= one.began <= last
        ]
        if not kept:
            continue
        began = [one.began for one in kept]
        origin = grid_origin(began, interval)
        polls.add(began, [one.ended for one in kept], origin, interval)
        ages += [one.ended - one.time for one in kept]
        rows = record.samples(as_written=True, columns=["unix_time", "origin"])
        first, final = (one.time + offset for one in (kept[0], kept[-1]))
        recorded += sum(
            origin == "poll" and first - ROUNDING <= at <= final + ROUNDING
            for at, origin in zip(rows["unix_time"], rows["origin"], strict=True)
        )
        first_due, last_due = ((at - origin) / interval for at in (usage.start, last))
        expected += math.floor(last_due) - math.floor(first_due)
    return Found(polls, sorted(ages), recorded, expected)


def main() -> None:
    """Serve, run, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--interval", type=float, default=1.0, help="s between polls")
    parser.add_argument("--fine", action="store_true", help="small currents from stored rows")
    parser.add_argument("--at-once", type=int, default=UNIT, help="channels started together")
    parser.add_argument("--profile", action="store_true", help="profile the event loop's thread")
    chosen = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.environ[ENVIRONMENT] = str(folder / "runtime")
        bench = write_bench(folder, chosen.channels, chosen.fine)
        order = order_from(
            parse_recipe(RECIPE.format(interval=chosen.interval), folder / "recipe.toml")
        )
        profile = "yes" if chosen.profile else ""
        with SimulatedProcess(bench) as simulation, overheard(clock) as looks:
            usage, runs = run(
                charge_all(
                    bench, order, chosen.seconds, simulation.pid, clock, profile, chosen.at_once
                )
            )
        found = judge(runs, looks, usage, chosen.interval, clock)
    polls, ages = found.polls, found.ages
    ended_well = [one for one in runs if one.result.state is RunState.ABORTED and one.result.safe]
    whole = len(ended_well) == chosen.channels and bool(ages)
    rate = len(polls.lateness) / (usage.end - usage.start - LAST)
    print(
        f"{len(runs)} channels of one server, every {chosen.interval:g} s for "
        f"{usage.end - usage.start:.0f} s; {rate:.0f} readings/s; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    print(table_head())
    print(polls.line())
    if ages:
        p50, p99 = (1e3 * ages[int(q * (len(ages) - 1))] for q in (0.5, 0.99))
        print(
            f"age of a reading   {p50:6.0f} ms p50, {p99:.0f} ms p99, {1e3 * ages[-1]:.0f} ms max"
        )
    print(f"recorded           {found.recorded:6} of {found.expected} polls that were due")
    print(
        f"engine process     {usage.own:6.1f} % of a core, {1e4 * usage.own / max(rate, 1):.0f} us "
        "a poll"
    )
    print(f"simulation         {usage.simulation:6.1f} % of a core")
    others = [one.result for one in runs if one not in ended_well]
    for result in others[:SHOWN]:
        print(f"run ended {result.state.value}: {result.reason}")
    if len(others) > SHOWN:
        print(f"and {len(others) - SHOWN} more")
    print(f"runs that ended as asked, safe state read back: {len(ended_well)} of {len(runs)}")
    print(f"{verdict(whole and usage.own < MOST_CPU):8} below {MOST_CPU:g} % of a core")
    print(f"{verdict(whole and found.recorded >= found.expected):8} every poll recorded")
    on_time = f"{PUNCTUAL:g} % of polls within {ON_TIME * 1e3:g} ms of their deadline"
    print(f"{verdict(whole and polls.on_time() >= PUNCTUAL):8} {on_time}")


if __name__ == "__main__":
    main()
