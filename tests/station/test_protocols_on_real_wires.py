"""Five protocols side by side over real sockets and pseudo-terminals, and what they find.

The instruments are simulated in a process of their own, sixty times faster than life. The same
recipes run in virtual time beside it: what they find there is what must be found over the wires.
"""

from __future__ import annotations

import asyncio
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from lab import simulated
from operando import evaluation
from operando.instruments.bench import Bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import parse_recipe
from operando.protocols import RunState
from operando.records import Record
from operando.station.engine import Engine, Run, order_from
from operando.station.simulate import clock_for
from support.laboratory import copied

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals"),
]

PATIENT = 'action = "trip", stale_after = "10 min"'
"""At speed 60 a busy computer's 100 ms are 6 s of the laboratory."""

RECIPES = {
    "A5": f"""
protocol = "cccv"
[parameters]
charge_rate = "2C"
discharge_rate = "2C"
cv_cutoff = "1.8C"
window = ["2.5 V", "3.98 V"]
rest = "30 s"
[limits]
over_voltage = {{ when = "voltage > 4.1 V", {PATIENT} }}
under_voltage = {{ when = "voltage < 2.2 V", {PATIENT} }}
over_current = {{ when = "abs(current) > 3C", {PATIENT} }}
""",
    "C1": f"""
protocol = "gitt"
[parameters]
rate = "C/5"
pulse = "20 s"
rest = "40 s"
initial_rest = "20 s"
window = ["2.5 V", "3.45 V"]
discharge = false
[limits]
over_voltage = {{ when = "voltage > 4.1 V", {PATIENT} }}
under_voltage = {{ when = "voltage < 2.2 V", {PATIENT} }}
over_current = {{ when = "abs(current) > 3C", {PATIENT} }}
""",
    "D1": f"""
protocol = "impedance"
[parameters]
lowest_frequency = "1 Hz"
drift_window = "20 s"
longest_rest = "2 min"
window = ["-0.5 V", "0.5 V"]
[limits]
over_voltage = {{ when = "voltage > 0.6 V", {PATIENT} }}
under_voltage = {{ when = "voltage < -0.6 V", {PATIENT} }}
over_current = {{ when = "abs(current) > 6 mA", {PATIENT} }}
""",
    "D2": f"""
protocol = "plating_stripping"
[parameters]
current = "1 mA/cm2"
areal_capacity = "0.03 mAh/cm2"
cycles = 1
rest = "20 s"
[limits]
over_voltage = {{ when = "voltage > 1.1 V", {PATIENT} }}
under_voltage = {{ when = "voltage < -1.1 V", {PATIENT} }}
over_current = {{ when = "abs(current) > 2 mA", {PATIENT} }}
""",
    "D8": f"""
protocol = "pressure_sweep"
[parameters]
lowest = "7 MPa"
highest = "8 MPa"
levels = 2
slew = "10 MPa/min"
soak = "20 s"
highest_frequency = "100 kHz"
lowest_frequency = "10 Hz"
points_per_decade = 5
[limits]
over_voltage = {{ when = "voltage > 4.6 V", {PATIENT} }}
under_voltage = {{ when = "voltage < 0 V", {PATIENT} }}
over_current = {{ when = "abs(current) > 6 mA", {PATIENT} }}
""",
}
"""By channel: a cycler that carries steps out by itself (TCP), a source meter (TCP), potentiostats
and a press (pseudo-terminals)."""


def part_of_the_laboratory(folder: Path) -> Bench:
    """The example laboratory with the channels of RECIPES and what they need."""
    path = copied("lab.toml", folder)
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    whole = load_bench(path)
    channels = [whole.channels[name] for name in RECIPES]
    wanted = {
        "channels": set(RECIPES),
        "cells": {channel.cell for channel in channels},
        "instruments": {name for channel in channels for name in channel.instruments},
    }
    for section, names in wanted.items():
        table[section] = {name: table[section][name] for name in names}
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return load_bench(path)


def run_all(bench: Bench, clock: Clock, folder: Path) -> dict[str, Run]:
    """Every recipe on its channel, all at once."""
    orders = {
        name: order_from(parse_recipe(f'{text}[poll]\ninterval = "1 s"\n', Path(f"{name}.toml")))
        for name, text in RECIPES.items()
    }

    async def execute() -> dict[str, Run]:
        async with Engine(bench, clock) as engine, asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(engine.run(name, order, folder))
                for name, order in orders.items()
            }
        return {name: task.result() for name, task in tasks.items()}

    return run_coroutine(execute(), virtual=clock.mode == "virtual")


def records_of(runs: Mapping[str, Run]) -> dict[str, Record]:
    """Their records, once all of them have completed and are safe."""
    for name, run in runs.items():
        assert run.result.state is RunState.COMPLETED, (name, run.result.reason)
        assert run.result.safe, name
    return {name: Record.open(run.folder) for name, run in runs.items()}


def assert_the_same_spectra(wired: Record, virtual: Record, number: int) -> None:
    """Both have this many, which differ by their noise alone, 1 % or less of most points."""
    pairs = list(zip(wired.spectra(), virtual.spectra(), strict=True))
    assert len(pairs) == number
    for one, other in pairs:
        assert one.frequency == pytest.approx(other.frequency, rel=1e-6)
        difference = np.abs(one.impedance - other.impedance) / np.abs(other.impedance)
        assert np.median(difference) < 0.01
        assert difference.max() < 0.1


def at_switches(record: Record) -> float:
    """What may have flowed unseen where a current was switched, C: its bound between two rows.

    A cycler's rows are its own, a second apart, and their ends are not known better than that.
    """
    samples = record.samples(columns=["time", "current", "step_count"])
    current = np.abs(samples["current"])
    switched = np.diff(samples["step_count"]) > 0
    larger = np.maximum(current[1:], current[:-1])
    return float(np.sum((larger * np.maximum(np.diff(samples["time"]), 1.0))[switched]))


def test_five_protocols_run_side_by_side_and_find_what_they_find_in_virtual_time(
    tmp_path: Path,
) -> None:
    bench = part_of_the_laboratory(tmp_path)
    with simulated(bench.path) as process:
        runs = run_all(bench, clock_for(bench), tmp_path / "wired")
        assert not any(process.relays().values())
        charges = process.charges()
    wired = records_of(runs)
    virtual = records_of(run_all(bench, Clock("virtual"), tmp_path / "virtual"))
    began = [record.steps()[0].start for record in wired.values()]
    assert max(began) < min(record.steps()[-1].end for record in wired.values()), "side by side"

    # No charge passes that is not counted, but for what flowed around a switch of the current.
    for name, record in wired.items():
        counted = record.samples(columns=["charge"])["charge"][-1]
        bound = at_switches(record) + 1e-6
        assert counted == pytest.approx(charges[name.lower()], abs=bound), name

    cycles = [evaluation.cccv(records["A5"]).cycles[0] for records in (wired, virtual)]
    assert set(wired["A5"].samples(columns=["origin"])["origin"]) == {"instrument"}
    for capacity in ("charge_capacity", "discharge_capacity"):
        found, expected = (getattr(cycle, capacity) for cycle in cycles)
        assert found == pytest.approx(expected, abs=2 * 6.28e-3)  # a row at either end
    assert expected > 4 * 6.28e-3

    # A pulse that ends late is longer, which its evaluation knows; there may be fewer then.
    titrations = [evaluation.gitt(records["C1"]) for records in (wired, virtual)]
    assert len(titrations[0].pulses) in (3, 4, 5)
    assert len(titrations[1].pulses) == 5
    for pulse in titrations[0].pulses[:3]:
        assert pulse.duration >= 20.0
        assert pulse.current == pytest.approx(titrations[1].pulses[0].current, rel=1e-4)
    # A busy computer opens the circuit up to 0.1 s late, 6 s of the laboratory and a third of a
    # pulse: no more than the order of magnitude can be asked for.
    coefficients = [np.mean(titration.chosen.coefficients[1:3]) for titration in titrations]
    assert coefficients[0] == pytest.approx(coefficients[1], rel=0.5)

    assert_the_same_spectra(wired["D1"], virtual["D1"], 2)
    fits = [evaluation.impedance(records["D1"]).spectra[0].fit for records in (wired, virtual)]
    bulk = [fit.high_frequency_resistance for fit in fits if fit is not None]
    assert len(bulk) == 2
    assert bulk[0] == pytest.approx(bulk[1], rel=0.005)

    plated = [evaluation.plating_stripping(records["D2"]).halves for records in (wired, virtual)]
    for half, other in zip(*plated, strict=True):
        assert half.complete
        assert half.resistance == pytest.approx(other.resistance, rel=0.01)
        assert half.capacity >= 0.03 * 3.6e4  # an end that is seen late has more

    assert_the_same_spectra(wired["D8"], virtual["D8"], 3)
    for records in (wired, virtual):
        pressures = evaluation.pressure_sweep(records["D8"]).pressures
        assert pressures == pytest.approx([7e6, 8e6, 7e6], rel=1e-3)
