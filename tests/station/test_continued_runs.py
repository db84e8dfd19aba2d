"""Runs whose station or program is killed while the instruments live on, and that go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import RunProcess, simulated, summary, wait_until, write_bench, write_recipe
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import load_recipe
from operando.instruments.recorder import Entry
from operando.protocols import cccv
from operando.records import Record, verify
from operando.station import open_bench
from operando.station.client import RefusedError, RunRequest, StationClient, StationProcess
from operando.station.simulate import SimulatedProcess

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals"),
]

SPEED = 60.0
CYCLE = (
    'charge_rate = "2C"\ndischarge_rate = "2C"\nwindow = ["2.5 V", "3.75 V"]\n'
    'constant_voltage = false\nrest = "1 min"'
)
SCRIPT = '''
"""One charge."""
from operando.protocols import ConstantCurrent, protocol
from operando.instruments.conditions import ELAPSED, VOLTAGE

@protocol(source="this test")
def one_charge(cell, *, window: tuple[float, float] = (2.5, 4.25)):
    """A charge of six minutes."""
    yield ConstantCurrent(cell.capacity / 3360.0, (VOLTAGE >= 4.25, ELAPSED >= 360.0))
'''


class Lab:
    """A bench whose simulated instruments outlive what drives them."""

    def __init__(self, folder: Path, simulation: SimulatedProcess, bench: Path) -> None:
        self.folder = folder
        self.simulation = simulation
        self.bench = bench
        self.output = folder / "runs"

    def station(self) -> StationProcess:
        """A station of the bench, not started yet."""
        return StationProcess(self.bench, output=self.output)

    def resume(self, record: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Resume from a terminal's command line, to the end."""
        return subprocess.run(
            [
                *(sys.executable, "-m", "operando.station", "resume", str(record)),
                *("--bench", str(self.bench), "--json", *options),
            ],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def charges_until(self, record: Path, rows: int = 10) -> None:
        """Wait until a run has driven the cell for some time."""
        wait_until(lambda: self.simulation.relays()["smu1"])
        wait_until(lambda: len(Record.open(record).samples()["time"]) > rows)

    def is_off(self) -> None:
        """Wait until the watchdog has switched off."""
        wait_until(lambda: not self.simulation.relays()["smu1"])

    def went_on(self, record: Path, deaths: int = 1) -> Record:
        """The record of a run that was killed and went on to its end, looked at closely."""
        found = Record.open(record)
        assert found.state == "completed", found.journal()[-1].data
        report = verify(record)
        assert report, report.problems
        assert len(found.gaps()) == deaths
        counted = found.samples(columns=["charge"])["charge"][-1]
        bound = sum(gap.charge_bound for gap in found.gaps())
        # Beside the gap: two polls of 2 s at 2C, in which the current is not known to the second.
        wrong = abs(self.simulation.charges()["c1"] - counted)
        for gap in found.gaps():  # 2C is the highest current of the run
            assert 0.0 < gap.charge_bound <= 1.01 * 2 * 11.3 / 3600.0 * (gap.end - gap.start)
        assert wrong <= bound + 2 * 2.0 * 2 * 11.3 / 3360.0
        return found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A served bench of one channel, at SPEED."""
    bench = write_bench(tmp_path, speed=SPEED)
    with simulated(bench) as simulation:
        yield Lab(tmp_path, simulation, bench)


def request_of(lab: Lab) -> RunRequest:
    recipe = write_recipe(lab.folder, CYCLE, interval="2 s")
    return RunRequest(recipe=recipe.read_text(), recipe_name=str(recipe))


def test_a_run_of_a_killed_station_is_continued_through_the_next_one(lab: Lab) -> None:
    with lab.station() as station, StationClient(station.url, name="the test") as client:
        run = client.start("A1", request_of(lab)).run
        lab.charges_until(lab.output / run)
        client.change_limit("A1", "over_voltage", "voltage > 4.28 V")
        os.kill(station.pid, signal.SIGKILL)
        lab.is_off()
    with lab.station() as station, StationClient(station.url) as client:
        status = client.snapshot().channels[0]
        assert (status.state, status.run, status.attention) == ("killed", run, True)
        assert status.obstacle == ""
        assert status.died is not None
        assert 0.0 <= client.snapshot().now - status.died < 60.0
        assert "4.28 V" in next(one.when for one in status.limits if one.name == "over_voltage")
        with pytest.raises(RefusedError, match="only the last can go on"):
            client.go_on("A1", "another")
        assert client.go_on("A1", run).run == run
        assert client.go_on("A1", run).run == run  # asked for again, it is begun once
        wait_until(lambda: client.snapshot().channels[0].state == "running")
        now = client.snapshot().channels[0]
        assert (now.run, now.attention) == (run, False)
        # What was changed before the crash is in force after it.
        assert "4.28 V" in next(one.when for one in now.limits if one.name == "over_voltage")
        wait_until(lambda: client.snapshot().channels[0].state == "completed", timeout=90.0)
        wait_until(lambda: Record.open(lab.output / run).closed)
        detail = client.run(run)
        with pytest.raises(RefusedError, match="nothing to continue"):
            client.go_on("A1", run)
    record = lab.went_on(lab.output / run)
    (edit,) = record.journal(Entry.EDIT)
    assert edit.data["by"] == "the test"
    texts = [line.text for line in detail.journal if line.kind == "edit"]
    assert texts == ["limit over_voltage: voltage > 4.3 V -> voltage > 4.28 V, by the test"]
    assert [step.label for step in record.steps()] == [
        "charge", "rest after charge", "discharge", "rest after discharge",
    ]  # fmt: skip


def test_a_run_of_a_killed_command_goes_on_with_resume(lab: Lab) -> None:
    recipe = write_recipe(lab.folder, CYCLE, interval="2 s")
    with RunProcess(recipe, lab.bench, lab.output) as run:
        record = run.folder()
        lab.charges_until(record)
        run.signal(signal.SIGKILL)
        lab.is_off()
    off = time.monotonic()
    listed = subprocess.run(
        [*(sys.executable, "-m", "operando.station", "records", "list", str(lab.output), "--json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (row,) = json.loads(listed.stdout)
    assert (row["state"], row["resumable"]) == ("killed", True)
    other = lab.resume(record, "--speed", "30")
    assert other.returncode == 2
    assert "clock" in other.stderr
    unseen = SPEED * (time.monotonic() - off)
    done = lab.resume(record)
    assert done.returncode == 0, done.stderr
    told = summary(done.stdout)
    assert (told["state"], told["safe"], told["record"]) == ("completed", True, str(record))
    (gap,) = lab.went_on(record).gaps()
    assert gap.end - gap.start > unseen
    again = lab.resume(record)
    assert again.returncode == 2
    assert "ended completed" in again.stderr


def test_a_script_goes_on_with_a_killed_run(lab: Lab) -> None:
    recipe = write_recipe(lab.folder, CYCLE, interval="2 s")
    with RunProcess(recipe, lab.bench, lab.output) as run:
        record = run.folder()
        lab.charges_until(record)
        run.signal(signal.SIGKILL)
        lab.is_off()
    begun = load_recipe(recipe)
    plan = cccv(**begun.parameters)
    with open_bench(lab.bench) as bench:
        with pytest.raises(BadInputError, match="step 1 of the journal"):
            bench["A1"].resume(cccv(**(dict(begun.parameters) | {"charge_rate": "C/2"})), record)
        found = bench["A1"].resume(plan, record, recording=begun.record, poll=begun.poll)
    lab.went_on(found.folder)
    (limit,) = (one for one in found.manifest["limits"] if one == "over_current")  # type: ignore[union-attr]
    assert limit == "over_current"


def test_a_run_that_dies_twice_is_latched_twice_and_goes_on_from_a_script_file(lab: Lab) -> None:
    (lab.folder / "one_charge.py").write_text(SCRIPT)
    recipe = lab.folder / "script.toml"
    recipe.write_text('protocol = "one_charge.py"\n[poll]\ninterval = "2 s"\n')
    request = RunRequest(recipe=recipe.read_text(), recipe_name=str(recipe))
    with lab.station() as station, StationClient(station.url) as client:
        run = client.start("A1", request).run
        record = lab.output / run
        lab.charges_until(record)
        os.kill(station.pid, signal.SIGKILL)
        lab.is_off()
    with lab.station() as station, StationClient(station.url) as client:
        client.acknowledge("A1", run)
        client.go_on("A1", run)
        rows = len(Record.open(record).samples()["time"])
        lab.charges_until(record, rows + 10)
        os.kill(station.pid, signal.SIGKILL)
        lab.is_off()
    script = lab.folder / "one_charge.py"
    script.write_text(SCRIPT.replace("360.0", "900.0"))
    with lab.station() as station, StationClient(station.url) as client:
        status = client.snapshot().channels[0]
        assert (status.state, status.attention) == ("killed", True)
        assert "source of the protocol" in status.obstacle
        with pytest.raises(RefusedError, match="source of the protocol"):
            client.go_on("A1")
        assert client.snapshot().channels[0].attention  # nothing was begun, it is not seen
        script.write_text(SCRIPT)
        done = lab.resume(record)  # through the station
        assert done.returncode == 0, done.stderr
        assert summary(done.stdout)["state"] == "completed"
    found = lab.went_on(record, deaths=2)
    (step,) = found.steps()
    assert step.duration == pytest.approx(360.0, abs=5.0)
