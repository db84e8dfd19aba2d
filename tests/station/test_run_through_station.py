"""`operando run` on a bench that a station owns: the same words, the same exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import RunProcess, simulated, summary, wait_until, write_bench, write_recipe
from operando.instruments.recipe import load_recipe
from operando.instruments.recorder import Entry
from operando.protocols import RunState
from operando.records import Record
from operando.station import remote
from operando.station.client import (
    RunRequest,
    Started,
    StationClient,
    StationLostError,
    StationProcess,
    station_of,
)
from operando.station.engine import order_from
from operando.station.remote import _result
from operando.station.simulate import SimulatedProcess

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals"),
]

SLOW = 'charge_rate = "C/2"\ndischarge_rate = "C/2"'
SHORT = 'charge_rate = "2C"\nwindow = ["2.5 V", "3.7 V"]\nconstant_voltage = false\nrest = "0 s"'
SPEED = 60.0


class Lab:
    """A bench with its simulation and its station."""

    def __init__(self, folder: Path, simulation: SimulatedProcess, station: StationProcess) -> None:
        self.folder = folder
        self.simulation = simulation
        self.station = station
        self.bench = folder / "bench.toml"

    def run(self, *options: str, parameters: str = SLOW, limits: str = "") -> RunProcess:
        """Start a run from a terminal's command line."""
        recipe = write_recipe(self.folder, parameters, interval="5 s", limits=limits)
        return RunProcess(recipe, self.bench, self.folder / "runs", *options)

    @property
    def relay(self) -> bool:
        """The true output relay of the source meter."""
        return self.simulation.relays()["smu1"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A served bench with a living station."""
    bench = write_bench(tmp_path, speed=SPEED)
    with (
        simulated(bench) as simulation,
        StationProcess(bench, output=tmp_path / "runs") as station,
    ):
        yield Lab(tmp_path, simulation, station)


def test_a_run_goes_through_the_station_and_ends_with_its_summary(lab: Lab) -> None:
    limits = 'early = { when = "voltage > 3.6 V", action = "trip" }'
    with lab.run(limits=limits) as run:
        folder = run.folder()
        with StationClient(lab.station.url) as client:
            assert client.snapshot().channels[0].run == folder.name
        code, out, err = run.wait()
    assert code == 3, err
    told = summary(out)
    assert (told["state"], told["safe"], told["record"]) == ("tripped", True, str(folder))
    assert "early" in str(told["reason"])
    assert not lab.relay
    record = Record.open(folder)
    assert record.state == "tripped"
    assert str(record.manifest["recipe"]) == (lab.folder / "recipe.toml").read_text()
    charge = record.samples(columns=["charge"])["charge"]
    assert told["charge"] == pytest.approx(charge[-1], rel=0.05)
    assert told["steps"] == 1
    assert float(str(told["duration"])) > 0.0


def test_a_completed_run_exits_with_zero(lab: Lab) -> None:
    with lab.run(parameters=SHORT) as run:
        code, out, err = run.wait(100.0)
    assert code == 0, out + err
    assert summary(out)["state"] == "completed"
    assert summary(out)["steps"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_and_waits_for_the_output(lab: Lab, number: signal.Signals) -> None:
    with lab.run() as run:
        folder = run.folder()
        wait_until(lambda: lab.relay)
        run.signal(number)
        code, out, err = run.wait()
        assert not lab.relay
    assert code == 4, err
    assert (summary(out)["state"], summary(out)["safe"]) == ("aborted", True)
    assert Record.open(folder).state == "aborted"
    assert lab.station.alive


PROGRAM = """
import select
import sys
from pathlib import Path
from operando.instruments.recipe import load_recipe
from operando.station.client import station_of
from operando.station.engine import order_from
from operando.station.remote import run_through

bench, recipe = map(Path, sys.argv[1:])
run = run_through(
    station_of(bench), "A1", order_from(load_recipe(recipe)), recipe.name,
    speed=None, output=None, quiet=True,
)
print(run.result.state.value, flush=True)
# A signal that comes just before a read begins would not end it: so it is asked again.
while not select.select([sys.stdin], [], [], 0.1)[0]:
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_can_be_ended_after_it_ran_something_through_a_station(
    lab: Lab, number: signal.Signals
) -> None:
    limits = 'early = { when = "voltage > 3.0 V", action = "trip" }'
    recipe = write_recipe(lab.folder, SLOW, interval="5 s", limits=limits)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(lab.bench), str(recipe)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline().strip() == "tripped"
        program.send_signal(number)
        try:
            program.wait(20.0)
        except subprocess.TimeoutExpired:
            program.kill()
    assert program.returncode == -number


def test_signals_pause_and_resume(lab: Lab) -> None:
    with lab.run() as run:
        wait_until(lambda: lab.relay)
        run.signal(signal.SIGUSR1)
        wait_until(lambda: not lab.relay)
        wait_until(lambda: run.record().journal(Entry.PAUSED))
        run.signal(signal.SIGUSR2)
        wait_until(lambda: lab.relay)
        run.signal(signal.SIGINT)
        code, _, err = run.wait()
    assert code == 4, err


def test_the_death_of_the_station_is_told(lab: Lab) -> None:
    with lab.run() as run:
        wait_until(lambda: lab.relay)
        os.kill(lab.station.pid, signal.SIGKILL)
        code, _, err = run.wait()
        assert code == 5
        assert "the station died" in err
        assert "watchdog" in err
        wait_until(lambda: not lab.relay)


def test_the_end_of_the_station_is_the_end_of_an_aborted_run(lab: Lab) -> None:
    with lab.run() as run:
        wait_until(lambda: lab.relay)
        os.kill(lab.station.pid, signal.SIGTERM)
        code, out, err = run.wait()
    assert code == 4, err
    assert summary(out)["state"] == "aborted"
    assert not lab.relay


def test_a_closed_client_leaves_the_run_alone(lab: Lab) -> None:
    with lab.run() as run:
        wait_until(lambda: lab.relay)
        run.signal(signal.SIGKILL)
        run.wait()
        with StationClient(lab.station.url) as client:
            rows = len(run.record().samples()["time"])
            wait_until(lambda: len(run.record().samples()["time"]) > rows + 5)
            assert lab.relay
            assert client.stop_all().ok
    assert not lab.relay


def test_a_start_whose_answer_is_lost_begins_one_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    class Forgetful(StationClient):
        """Loses the first answer to a start."""

        def start(self, channel: str, request: RunRequest, request_id: str = "") -> Started:
            started = super().start(channel, request, request_id)
            begun.append(started.run)
            if len(begun) == 1:
                raise StationLostError("the connection broke")
            return started

    monkeypatch.setattr(remote, "StationClient", Forgetful)
    limits = 'early = { when = "voltage > 3.0 V", action = "trip" }'
    recipe = load_recipe(write_recipe(lab.folder, SLOW, interval="5 s", limits=limits))
    note = station_of(lab.bench)
    assert note is not None
    ended = remote.run_through(
        note, "A1", order_from(recipe), "recipe.toml", speed=None, output=None, quiet=True
    )
    assert begun == [ended.folder.name] * 2
    assert ended.result.state is RunState.TRIPPED
    assert [path.name for path in (lab.folder / "runs").glob("2*")] == [ended.folder.name]


def test_what_the_station_refuses_is_bad_input(lab: Lab) -> None:
    with lab.run() as first:
        wait_until(lambda: lab.relay)
        with lab.run() as second:
            code, _, err = second.wait()
        assert code == 2
        assert "running already" in err
        with lab.run("--speed", "10") as third:
            code, _, err = third.wait()
        assert code == 2
        assert "at speed 60" in err
        assert lab.relay
        first.signal(signal.SIGINT)
        first.wait()


def test_another_output_folder_is_said_to_be_not_used(lab: Lab) -> None:
    limits = 'early = { when = "voltage > 3.5 V", action = "trip" }'
    recipe = write_recipe(lab.folder, SLOW, interval="5 s", limits=limits)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "operando.station", "run", str(recipe), "--channel", "A1"),
            *("--bench", str(lab.bench), "--output", str(lab.folder / "other")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "is not used" in done.stderr
    assert "output read back off; SIMULATED record in" in done.stdout
    assert "limit sheet" in done.stdout
    assert not (lab.folder / "other").exists()


def test_virtual_time_needs_no_station(lab: Lab) -> None:
    with lab.run("--virtual", parameters=SHORT) as run:
        code, out, err = run.wait()
    assert code == 0, err
    assert not lab.relay
    assert Path(str(summary(out)["record"])).parent == lab.folder / "runs"


def test_the_summary_of_a_record_is_that_of_its_run(lab: Lab) -> None:
    with lab.run("--virtual", parameters=SHORT) as run:
        _, out, _ = run.wait()
    told = summary(out)
    result = _result(Path(str(told["record"])), None)
    assert result.state is RunState.COMPLETED
    assert (result.safe, result.steps, result.reason) == (True, told["steps"], told["reason"])
    assert result.charge == pytest.approx(float(str(told["charge"])), abs=1e-6)
    assert result.duration == pytest.approx(float(str(told["duration"])), abs=1.0)
