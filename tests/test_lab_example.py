"""examples/lab.toml: a whole laboratory from one file, in virtual time and over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from lab import simulated, wait_until
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import load_recipe, parse_recipe
from operando.instruments.recorder import Entry
from operando.protocols import RunState
from operando.records import Record
from operando.station.client import (
    UNDER_WAY,
    Rows,
    RunRequest,
    Snapshot,
    StationClient,
    StationProcess,
    Stream,
    stations,
)
from operando.station.engine import Engine, Run, order_from
from operando.station.requests import check_request
from support.laboratory import EXAMPLES, copied

LAB = EXAMPLES / "lab.toml"

BENCH = load_bench(LAB)
FULL = [name for name, one in BENCH.channels.items() if BENCH.cells[one.cell].capacity > 0.0]
"""Channels with a full cell; the others have lithium on both sides, pellets, plating."""
OTHERS = sorted(set(BENCH.channels) - set(FULL))

RECIPE = """
protocol = "cccv"
[parameters]
charge_rate = "2C"
discharge_rate = "2C"
cv_cutoff = "0.5C"
rest = "2 min"
[poll]
interval = "5 s"
[limits]
over_voltage = { when = "voltage > 4.30 V", action = "trip", stale_after = "1 min" }
"""
MOIST = ("relative_humidity", "h2o", "dew_point")
"""What a hygrometer of room air tells."""
WET = 'wet = { when = "h2o > 100 ppm", action = "trip", stale_after = "5 min" }\n'


SHORT = """
protocol = "cccv"
[parameters]
window = ["2.5 V", "3.98 V"]
charge_rate = "2C"
discharge_rate = "2C"
cv_cutoff = "1.5C"
rest = "1 min"
[poll]
interval = "5 s"
[limits]
over_voltage = { when = "voltage > 4.05 V", action = "trip", stale_after = "10 min" }
under_voltage = { when = "voltage < 2.0 V", action = "trip", stale_after = "10 min" }
over_current = { when = "abs(current) > 3C", action = "trip", stale_after = "10 min" }
"""
DRY = 'wet = { when = "h2o > 100 ppm", action = "trip", stale_after = "10 min" }\n'


def test_the_laboratory_has_every_instrument_that_there_is_a_driver_for() -> None:
    lab = load_bench(LAB)
    assert len(lab.channels) == 24
    assert len(FULL) == 17
    assert Counter(room.kind for room in lab.rooms.values()) == {
        "chamber": 2, "glovebox": 2, "laboratory": 1,
    }  # fmt: skip
    assert Counter(entry.driver for entry in lab.instruments.values()) == {
        "neware-bts8": 8,
        "maccor-macnet": 4,
        "keithley-2400": 1,
        "keithley-2450": 1,
        "keithley-2461": 1,
        "palmsens-methodscript": 9,
        "pt113": 2,
        "pt113-modbus": 2,
        "alicat-dual-valve": 2,
        "espec-p300": 2,
        "rapidox-1100": 2,
        "dmt143": 2,
        "keller-33x": 1,
        "ess": 1,
        "ruuvi": 1,
    }
    used = {name for channel in lab.channels.values() for name in channel.instruments}
    assert used == set(lab.instruments)


@pytest.mark.parametrize("channel", FULL)
def test_a_recipe_is_accepted_before_anything_is_connected(channel: str) -> None:
    report = check_request(load_bench(LAB), channel, RunRequest(recipe=SHORT)).report
    assert report.problems == ()
    assert report.ok
    assert report.sheet


@pytest.mark.parametrize("channel", OTHERS)
def test_a_recipe_for_full_cells_is_refused_on_other_cells(channel: str) -> None:
    (problem,) = check_request(load_bench(LAB), channel, RunRequest(recipe=SHORT)).report.problems
    assert "a C-rate needs the capacity" in problem.message


def test_all_channels_with_a_full_cell_run_side_by_side(tmp_path: Path) -> None:
    bench = load_bench(LAB)
    order = order_from(parse_recipe(SHORT, Path("short.toml")))

    async def main() -> list[Run]:
        async with Engine(bench, Clock("virtual")) as engine, asyncio.TaskGroup() as group:
            tasks = [group.create_task(engine.run(name, order, tmp_path / "runs")) for name in FULL]
        return [task.result() for task in tasks]

    runs = run_coroutine(main(), virtual=True)
    assert len(runs) == 17
    for run, name in zip(runs, FULL, strict=True):
        channel = bench.channels[name]
        assert run.result.state is RunState.COMPLETED, (channel.name, run.result.reason)
        assert run.result.safe
        told = {source for source, _ in Record.open(run.folder).quantities()}
        assert told == set(channel.instruments) - {channel.roles["potentiostat"]}


@pytest.mark.parametrize(
    ("channel", "quantities", "limits"),
    [
        ("A1", {"pressure", "o2", "dew_point", "h2o", "box_pressure"}, WET),
        ("B1", {"chamber_temperature", "temperature", *MOIST}, ""),
        ("C1", {"pressure", "o2", "dew_point", "h2o"}, WET),
        ("C2", {"o2", "dew_point", "h2o"}, WET),
        ("C4", {"chamber_temperature", *MOIST}, ""),
    ],
)
def test_a_run_uses_all_that_stands_around_its_cell(
    tmp_path: Path, channel: str, quantities: set[str], limits: str
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE + limits, encoding="utf-8")
    bench = load_bench(LAB)

    async def main() -> Run:
        async with Engine(bench, Clock("virtual")) as engine:
            return await engine.run(channel, order_from(load_recipe(recipe)), tmp_path / "runs")

    run = run_coroutine(main(), virtual=True)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert run.result.safe
    record = Record.open(run.folder)
    assert {quantity for _, quantity in record.quantities()} == quantities
    # Charged and discharged with one efficiency, whatever drove it: fresh cells lose at first.
    samples = record.samples(columns=["current", "voltage"])
    assert 4.2 < samples["voltage"].max() < 4.27
    assert samples["current"].min() < -5e-3 < 5e-3 < samples["current"].max()


def lab_run(recipe: str, channel: str, folder: Path) -> Record:
    """The record of a recipe of the examples on a channel, in virtual time."""
    order = order_from(load_recipe(EXAMPLES / "recipes" / recipe))

    async def main() -> Run:
        async with Engine(load_bench(LAB), Clock("virtual")) as engine:
            return await engine.run(channel, order, folder)

    run = run_coroutine(main(), virtual=True)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert run.result.safe
    return Record.open(run.folder)


@pytest.mark.parametrize("channel", FULL)
def test_a_recipe_of_the_examples_is_accepted_on_every_full_cell(channel: str) -> None:
    text = (EXAMPLES / "recipes" / "one-cycle.toml").read_text(encoding="utf-8")
    assert check_request(load_bench(LAB), channel, RunRequest(recipe=text)).report.ok


def test_the_recipe_for_every_channel_cycles_a_cell_with_nothing_but_a_potentiostat(
    tmp_path: Path,
) -> None:
    record = lab_run("one-cycle.toml", "C4", tmp_path)
    assert len(list(record.journal(Entry.STEP_ENDED))) == 4


def test_the_recipe_that_drives_the_chamber_cycles_warm_and_lets_go_of_it(tmp_path: Path) -> None:
    record = lab_run("conditioned-cycle.toml", "B1", tmp_path)
    warm, *cycle = [dict(entry.data) for entry in record.journal(Entry.STEP_ENDED)]
    assert len(cycle) == 4
    assert "chamber_temperature" in str(warm["condition"]), "it went on for want of patience"
    began = [entry.time for entry in record.journal(Entry.STEP_STARTED)][1]
    readings = record.aux("chamber_temperature", source="oven1")
    held = readings["value"][readings["time"] > began]
    assert len(held) > 100
    assert max(abs(held - 333.15)) < 1.0
    (safe,) = record.journal(Entry.SAFE)
    assert safe.data["actuators"] == {"oven1": "verified"}


with_bluetooth = pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="needs dbus-daemon")


@pytest.mark.sockets
@with_bluetooth
def test_the_whole_laboratory_is_served_at_its_addresses(tmp_path: Path) -> None:
    bench = copied("lab.toml", tmp_path)
    with simulated(bench) as simulation:
        served = {device["device"]: device["address"] for device in simulation.served}
    described = load_bench(bench)
    assert served == {name: entry.address for name, entry in described.instruments.items()}


def ended(stream: Stream, channels: set[str]) -> dict[str, str]:
    """States of channels once none of them has a run under way."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        message = stream.receive(5.0)
        if isinstance(message, Snapshot):
            now = {one.name: str(one.state) for one in message.channels if one.name in channels}
            if UNDER_WAY.isdisjoint(now.values()):
                return now
    raise AssertionError(f"{channels} have not ended")


@pytest.mark.sockets
@with_bluetooth
def test_a_station_of_the_whole_laboratory_runs_two_channels_with_all_around_them(
    tmp_path: Path,
) -> None:
    bench, output = copied("lab.toml", tmp_path), tmp_path / "runs"
    # Served here, so that it can be asked for its true relays; the station finds it served.
    with simulated(bench) as lab:
        with (
            StationProcess(bench, simulate=True, output=output) as station,
            StationClient(station.url) as client,
            client.stream() as stream,
        ):
            met = {one.name: one for one in client.snapshot().channels}
            assert len(met) == 24
            assert {one.output for one in met.values()} == {"off"}
            assert not any(tool.problem for one in met.values() for tool in one.instruments)
            runs: dict[str, str] = {}
            for name, limits, instrument in (("A1", DRY, "neware1"), ("B1", "", "maccor1")):
                runs[name] = client.start(name, RunRequest(recipe=SHORT + limits)).run
                wait_until(lambda relay=instrument: lab.relays()[relay])
            stream.follow(runs.values())
            heard: dict[str, set[str]] = {run: set() for run in runs.values()}
            while not all(heard.values()):
                message = stream.receive(30.0)
                assert message is not None
                if isinstance(message, Rows):
                    heard[message.run] |= set(message.quantities)
            states = ended(stream, set(runs))
            assert states == {"A1": "completed", "B1": "completed"}
            folders = {name: Path(client.run(run).summary.folder) for name, run in runs.items()}
        assert not any(lab.relays().values())
        assert stations() == []
    assert not list((tmp_path / "ports").iterdir())
    around = {
        "A1": {
            ("load1", "pressure"), ("oxygen1", "o2"), ("water1", "h2o"),
            ("water1", "dew_point"), ("box1", "box_pressure"),
        },
        "B1": {
            ("oven1", "chamber_temperature"), ("tag1", "temperature"),
            ("tag1", "relative_humidity"), ("tag1", "h2o"), ("tag1", "dew_point"),
        },
    }  # fmt: skip
    for name, folder in folders.items():
        record = Record.open(folder)
        assert record.simulated
        (safe,) = record.journal(Entry.SAFE)
        assert safe.data["potentiostat"] == "verified"
        samples = record.samples(columns=["current", "voltage"])
        assert len(samples["current"]) > 20
        assert samples["current"].min() < -3e-3 < 6e-3 < samples["current"].max()
        assert set(record.quantities()) == around[name]
        for source, quantity in around[name]:
            readings = record.aux(quantity, source=source)
            assert list(readings["status"]).count("ok") > 5, (source, quantity)
