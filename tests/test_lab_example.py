"""examples/lab.toml: a whole laboratory from one file, in virtual time and over real sockets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import load_recipe
from operando.protocols import RunState
from operando.records import Record
from operando.station.engine import Engine, Run, order_from
from operando.station.simulate import SimulatedProcess

LAB = Path(__file__).parents[1] / "examples" / "lab.toml"

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
WET = 'wet = { when = "h2o > 100 ppm", action = "trip", stale_after = "5 min" }\n'


def test_the_laboratory_has_what_it_says() -> None:
    lab = load_bench(LAB)
    assert len(lab.channels) == 16
    assert sorted(room.kind for room in lab.rooms.values()) == [
        "chamber", "glovebox", "glovebox", "laboratory",
    ]  # fmt: skip
    drivers = [entry.driver for entry in lab.instruments.values()]
    assert drivers.count("neware-bts8") == 8
    assert drivers.count("maccor-macnet") == 4
    assert {"alicat-dual-valve", "espec-p300", "ess", "ruuvi", "keller-33x"} <= set(drivers)


@pytest.mark.parametrize(
    ("channel", "quantities", "limits"),
    [
        ("A1", {"pressure", "o2", "dew_point", "h2o"}, WET),
        ("B1", {"chamber_temperature"}, ""),
        ("C1", {"pressure", "o2", "dew_point", "h2o"}, WET),
        ("C2", {"o2", "dew_point", "h2o"}, WET),
        ("C4", {"o2", "dew_point", "h2o"}, ""),
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


@pytest.mark.sockets
@pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="needs dbus-daemon")
def test_the_whole_laboratory_is_served_at_its_addresses(tmp_path: Path) -> None:
    bench = tmp_path / "lab.toml"
    shutil.copy(LAB, bench)
    with SimulatedProcess(bench) as simulation:
        served = {device["device"]: device["address"] for device in simulation.served}
    described = load_bench(bench)
    assert served == {name: entry.address for name, entry in described.instruments.items()}
