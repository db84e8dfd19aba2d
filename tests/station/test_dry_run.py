"""Dry runs: what a recipe would do, from the simulated twin of its channel, in virtual time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lab import write_bench, write_recipe
from operando import evaluation
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import load_recipe
from operando.instruments.registry import SIMULATORS, available
from operando.records import Record
from operando.station.cli import app
from operando.station.client import (
    CheckReport,
    Margin,
    Prediction,
    RefusedError,
    RunRequest,
    StationClient,
    margin_words,
)
from operando.station.dry_run import predict
from operando.station.engine import Engine, Order, Run, order_from
from operando.station.predicted import predicted_voltage
from operando.station.print_prediction import moment_words, print_prediction
from operando.station.requests import check_request
from operando.station.twin import twin_of
from operando.station.views import Views
from station.served_stub import Served, StubDesk

FAST = 'charge_rate = "2C"\ndischarge_rate = "2C"\ncv_cutoff = "0.5C"\nrest = "1 min"'
COATINGS = Path(__file__).parents[2] / "examples/three-coatings.toml"
STATED_CAPACITY = 185e3 / 1e3 * 16.96e-6 * 3600.0


def order_of(
    folder: Path, parameters: str = FAST, *, interval: str = "10 s", limits: str = ""
) -> Order:
    return order_from(
        load_recipe(write_recipe(folder, parameters, interval=interval, limits=limits))
    )


def run_virtually(bench: Path, order: Order, output: Path) -> Run:
    """The run that was predicted."""

    async def execute() -> Run:
        async with Engine(load_bench(bench), Clock("virtual")) as engine:
            return await engine.run("A1", order, output)

    return run_coroutine(execute(), virtual=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dry")


@pytest.fixture(scope="module")
def bench(folder: Path) -> Path:
    return write_bench(folder)


@pytest.fixture(scope="module")
def prediction(folder: Path, bench: Path) -> Prediction:
    """Of one fast cycle; its record is kept."""
    return predict(load_bench(bench), "A1", order_of(folder), output=folder / "dry")


def margins(prediction: Prediction, limit: str) -> list[Margin]:
    return [margin for margin in prediction.margins if margin.limit == limit]


# ---- what is predicted is what happens --------------------------------------------------------


def test_the_prediction_is_the_virtual_run_of_the_same_seed(
    prediction: Prediction, folder: Path, bench: Path
) -> None:
    run = run_virtually(bench, order_of(folder), folder / "runs")
    record = Record.open(run.folder)
    (cycle,) = evaluation.cccv(record).cycles

    assert prediction.state == run.result.state.value == "completed"
    assert prediction.duration == run.result.duration
    assert prediction.rows == len(record.samples()["time"])
    assert prediction.readings == len(record.aux()["time"])
    assert [row.discharge_capacity for row in prediction.cycles] == [cycle.discharge_capacity]
    assert [(step.label, step.charge) for step in prediction.steps] == [
        (step.label, step.charge) for step in record.steps()
    ]
    size = sum(path.stat().st_size for path in run.folder.iterdir())
    # Equal but for names of folders and instruments' stamps that the manifest bears.
    assert prediction.size == pytest.approx(size, rel=1e-2)


def test_it_tells_when_the_run_would_end(prediction: Prediction) -> None:
    assert prediction.finish == prediction.made + prediction.duration
    assert moment_words(1_767_225_600.0).startswith("2026-01-01 00:00 UTC")


def test_a_kept_record_is_stamped_simulated_and_one_that_is_not_kept_is_gone(
    prediction: Prediction, folder: Path, bench: Path
) -> None:
    assert Record.open(prediction.folder).simulated
    seen: list[Path] = []
    unkept = predict(
        load_bench(bench), "A1", order_of(folder), then=lambda record: seen.append(record.folder)
    )
    assert unkept.folder == ""
    assert len(seen) == 1
    assert not seen[0].exists()


def test_curves_reach_from_the_start_to_the_end(prediction: Prediction) -> None:
    curves = {curve.quantity: curve for curve in prediction.curves}
    assert set(curves) == {"voltage", "current", "pressure"}
    assert curves["voltage"].time[-1] == pytest.approx(prediction.duration, abs=10.0)


# ---- margins ----------------------------------------------------------------------------------


def test_margins_are_those_that_the_record_shows(prediction: Prediction) -> None:
    record = Record.open(prediction.folder)
    samples, pressure = record.samples(), record.aux("pressure")
    (over,) = margins(prediction, "over_voltage")
    at = int(np.argmax(samples["voltage"]))
    assert (over.value, over.time) == (samples["voltage"][at], samples["time"][at])
    assert over.margin == 4.30 - samples["voltage"][at]
    (current,) = margins(prediction, "over_current")
    strongest = np.abs(samples["current"]).max()
    assert current.margin == pytest.approx(3.0 * STATED_CAPACITY / 3600.0 - strongest, rel=1e-12)
    assert len(pressure["time"]) > 10


def test_a_margin_of_a_cell_held_at_a_voltage_is_the_distance_to_it(tmp_path: Path) -> None:
    # The charge ends in a hold at 4.25 V, the top of the default window: 10 mV stay to 4.26 V,
    # to the accuracy of the simulated source (0.02 % of 4.25 V and 1.5 mV: its data sheet).
    limits = 'close = { when = "voltage > 4.26 V for 1 h", action = "warn", stale_after = "1 h" }'
    order = order_of(tmp_path, limits=limits)
    found = predict(load_bench(write_bench(tmp_path)), "A1", order)
    (close,) = margins(found, "close")
    assert close.margin == pytest.approx(0.01, abs=2.4e-3)
    assert close.acted is None
    assert margin_words(close).endswith("mV left")


def test_each_part_of_a_limit_and_slopes_have_margins_of_their_own(tmp_path: Path) -> None:
    limits = (
        'both = { when = "pressure > 50 MPa or abs(dV/dt over 60 s) > 1 V/s", action = "trip", '
        'stale_after = "1 h" }'
    )
    found = predict(load_bench(write_bench(tmp_path)), "A1", order_of(tmp_path, limits=limits))
    pressure, slope = margins(found, "both")
    assert (pressure.quantity, pressure.unit) == ("pressure", "Pa")
    assert pressure.margin is not None
    assert 30e6 < pressure.margin < 50e6
    assert (slope.unit, slope.bound) == ("V/s", 1.0)
    assert slope.margin is not None
    assert 0.9 < slope.margin < 1.0


def test_what_a_limit_remembers_has_a_margin_too(tmp_path: Path) -> None:
    # 8 to 9 MPa for some 1.3 h: the dose above 5 MPa is 3 to 4 MPa times that.
    limits = (
        'pressed = { when = "dose of pressure above 5 MPa > 1000 MPa h", action = "trip", '
        'stale_after = "1 h" }\n'
        'fallen = { when = "fall of abs(voltage) > 90 %", action = "trip", stale_after = "1 h" }'
    )
    found = predict(load_bench(write_bench(tmp_path)), "A1", order_of(tmp_path, limits=limits))
    (pressed,) = margins(found, "pressed")
    hours = found.duration / 3600.0
    assert pressed.value is not None
    assert 3.0 * hours < pressed.value / 3.6e9 < 4.0 * hours
    (fallen,) = margins(found, "fallen")
    assert fallen.value == pytest.approx(1.0 - 2.5 / 4.25, abs=5e-3)  # from the top of the window
    assert margin_words(fallen).endswith("% left")


def test_a_recipe_that_trips_is_predicted_to_trip_when_it_does(tmp_path: Path) -> None:
    bench = write_bench(tmp_path)
    limits = 'early = { when = "voltage > 4.0 V", action = "trip", stale_after = "1 h" }'
    order = order_of(tmp_path, limits=limits)
    found = predict(load_bench(bench), "A1", order)
    run = run_virtually(bench, order, tmp_path / "runs")

    assert (found.state, found.reason) == ("tripped", run.result.reason)
    (event,) = Record.open(run.folder).limits
    (early,) = margins(found, "early")
    assert early.acted == event.time
    assert early.value is not None
    assert early.value > 4.0
    assert margin_words(early).startswith("would trip at ")


def test_a_limit_that_holds_ends_the_prediction_there(tmp_path: Path) -> None:
    limits = 'early = { when = "voltage > 4.0 V", action = "hold", stale_after = "1 h" }'
    found = predict(load_bench(write_bench(tmp_path)), "A1", order_of(tmp_path, limits=limits))
    (early,) = margins(found, "early")
    assert found.state == "held"
    assert found.finish is None
    assert early.acted is not None
    # The limit is journalled with the pause, once the circuit has been read back open.
    assert early.acted <= found.duration <= early.acted + 1.0
    assert found.steps[-1].label == "charge"


# ---- the twin ---------------------------------------------------------------------------------

REAL = """
[instruments.smu1]
driver = "{driver}"
address = "{address}"
expect.serial = "998877"

[instruments.press1]
driver = "pt113"
address = "serial:/dev/ttyUSB7"
[instruments.press1.settings]
unit = "N"
piston_area = "2 cm2"

[instruments.oxygen1]
driver = "rapidox-1100"
address = "serial:/dev/ttyUSB8"

[instruments.oven1]
driver = "espec-p300"
address = "serial:/dev/ttyUSB9"

[channels.A1]
potentiostat = "smu1"
load_cell = "press1"
temperature_controller = "oven1"
shared = ["oxygen1"]
cell = "c1"

[cells.c1]
active_mass = "16.96 mg"
one_c = "{one_c}"
{preset}
"""


def real_bench(
    folder: Path,
    driver: str = "keithley-2450",
    address: str = "TCPIP::192.168.0.10::5025::SOCKET",
    preset: str = 'preset = "ncm811-caec"',
    one_c: str = "185 mA/g",
) -> Path:
    """A bench without a word of simulation, but for the preset of its cell."""
    path = folder / "real.toml"
    path.write_text(REAL.format(driver=driver, address=address, preset=preset, one_c=one_c))
    return path


@pytest.mark.parametrize(
    ("driver", "address"),
    [
        ("keithley-2450", "TCPIP::192.168.0.10::5025::SOCKET"),
        ("keithley-2461", "USB0::0x05E6::0x2461::04567890::INSTR"),
        ("keithley-2400", "GPIB0::24::INSTR"),
        ("neware-bts8", "TCPIP::192.168.0.20::502::SOCKET#21-3-5"),
        ("maccor-macnet", "TCPIP::192.168.0.21::57570::SOCKET#7"),
        ("palmsens-methodscript", "serial:/dev/ttyACM0?baud=921600"),
    ],
)
def test_the_instruments_of_a_real_bench_are_twinned(
    tmp_path: Path, driver: str, address: str
) -> None:
    bench = load_bench(real_bench(tmp_path, driver, address))
    limits = (
        'dry_box = { when = "o2 > 100 ppm", action = "trip", stale_after = "1 h" }\n'
        'warm = { when = "chamber_temperature > 60 degC", action = "trip", stale_after = "1 h" }'
    )
    found = predict(bench, "A1", order_of(tmp_path, interval="20 s", limits=limits))
    assert found.state == "completed", found.reason
    assert 0.5 * STATED_CAPACITY < (found.cycles[0].discharge_capacity or 0.0) < STATED_CAPACITY
    assert all(margin.watched for margin in found.margins)
    assert sum("default options" in note for note in found.notes) == 4


def test_the_frame_of_a_twin_has_the_piston_that_the_load_cell_states(tmp_path: Path) -> None:
    twin = twin_of(load_bench(real_bench(tmp_path)), "A1")
    simulated = twin.bench.instruments["press1"].simulated
    assert simulated is not None
    assert simulated.options == {"area": pytest.approx(2e-4)}


def test_a_cell_without_a_preset_is_refused_with_what_to_write(tmp_path: Path) -> None:
    bench = load_bench(real_bench(tmp_path, preset=""))
    with pytest.raises(BadInputError, match=r'write preset = "ncm811-caec" into \[cells.c1\]'):
        predict(bench, "A1", order_of(tmp_path))


def test_a_preset_of_another_size_than_the_cell_is_told(
    tmp_path: Path, prediction: Prediction
) -> None:
    bench = load_bench(real_bench(tmp_path, one_c="100 mA/g"))
    found = predict(bench, "A1", order_of(tmp_path, interval="30 s"))
    assert "1.70 mAh is stated for this one" in found.notes[0]
    assert not any("stated" in note for note in prediction.notes)


def test_a_shared_sensor_that_nothing_simulates_is_left_out_and_its_limit_is_not_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = available(SIMULATORS)
    del found["rapidox-1100"]
    monkeypatch.setattr("operando.station.twin.available", lambda _: found)
    limits = 'dry_box = { when = "o2 > 100 ppm", action = "trip", stale_after = "1 h" }'
    order = order_of(tmp_path, interval="30 s", limits=limits)
    prediction = predict(load_bench(real_bench(tmp_path)), "A1", order)
    (dry_box,) = margins(prediction, "dry_box")
    assert prediction.state == "completed"
    assert margin_words(dry_box) == "not watched in the twin"
    assert "oxygen1 is not in the twin: nothing simulates rapidox-1100" in prediction.notes


def test_faults_that_a_bench_simulates_are_left_out(tmp_path: Path, prediction: Prediction) -> None:
    bench = load_bench(write_bench(tmp_path, smu_options='faults = "at 5 min: silence"'))
    found = predict(bench, "A1", order_of(tmp_path))
    assert (found.state, found.duration) == ("completed", prediction.duration)
    assert "the faults of smu1 (at 5 min: silence) are left out" in found.notes


def test_only_what_the_channel_needs_is_built() -> None:
    lab = load_bench(Path(__file__).parents[2] / "examples/lab.toml")
    alone = twin_of(lab, "A1").bench
    assert set(alone.instruments) == {"neware1", "load1", "oxygen1", "water1", "box1"}
    assert (set(alone.cells), set(alone.rooms)) == ({"a1"}, {"glovebox1"})
    # The first channel of a tester states the options of all: it comes along.
    assert set(twin_of(lab, "B2").bench.instruments) == {"maccor1", "maccor2", "oven1", "tag1"}
    (events,) = twin_of(lab, "D8").notes
    assert events == "what is planned to happen in glovebox2 is left out"


def test_the_twin_of_a_channel_is_a_fresh_cell_whatever_its_seed(
    tmp_path: Path, bench: Path, prediction: Prediction
) -> None:
    described = load_bench(bench)
    other = replace(described, cells={"c1": replace(described.cells["c1"], seed=2)})
    found = predict(other, "A1", order_of(tmp_path))
    assert found.seed == 2
    assert found.cycles[0].discharge_capacity != prediction.cycles[0].discharge_capacity


# ---- long recipes -----------------------------------------------------------------------------


def test_a_prediction_is_cut_when_its_time_is_up_and_says_how_far_it_came(tmp_path: Path) -> None:
    order = order_of(tmp_path, f"cycles = 100000\n{FAST}")
    found = predict(load_bench(write_bench(tmp_path)), "A1", order, at_most=1e-3)
    assert found.state == "cut"
    assert found.finish is None
    assert "it had come to " in found.reason
    assert found.rows > 0


# ---- to compare with --------------------------------------------------------------------------


def test_the_predicted_voltage_follows_the_charge_where_a_step_drives_current(
    prediction: Prediction,
) -> None:
    record = Record.open(prediction.folder)
    voltage = predicted_voltage(record)
    for step in record.steps():
        rows = record.samples(step=step.index)
        middle = len(rows["time"]) // 2
        charge, elapsed = rows["step_charge"][middle], rows["step_time"][middle]
        driven = step.label in ("charge", "discharge")
        # Of the two the other one is wrong here, and does not matter.
        found = (
            voltage(step.index, charge, math.nan) if driven else voltage(step.index, 0.0, elapsed)
        )
        assert found == pytest.approx(rows["voltage"][middle], abs=1e-12)


def test_the_predicted_voltage_is_unknown_beyond_what_was_predicted(prediction: Prediction) -> None:
    voltage = predicted_voltage(Record.open(prediction.folder))
    charge = prediction.steps[0].charge or 0.0
    assert math.isnan(voltage(1, 1.01 * charge, 0.0))
    assert math.isnan(voltage(99, 0.0, 0.0))
    assert 2.0 < voltage(1, 0.0, 0.0) < 4.3


# ---- the station ------------------------------------------------------------------------------


class CheckingDesk(StubDesk):
    """Checks requests as a station does."""

    def check(self, channel: str, request: RunRequest) -> CheckReport:
        return check_request(self.bench, channel, request).report


@pytest.fixture
def client(tmp_path: Path, bench: Path) -> Iterator[StationClient]:
    desk = CheckingDesk(tmp_path, bench=load_bench(bench))
    with Views(tmp_path) as views, Served(desk, views) as served, served.client() as client:
        yield client


@pytest.mark.sockets
def test_a_station_predicts_in_a_process_of_its_own(
    client: StationClient, tmp_path: Path, prediction: Prediction
) -> None:
    recipe = write_recipe(tmp_path, FAST, interval="10 s").read_text()
    found = client.dry_run("A1", RunRequest(recipe=recipe))
    assert (found.state, found.duration) == ("completed", prediction.duration)
    assert found.steps == prediction.steps
    assert found.margins == prediction.margins


@pytest.mark.sockets
def test_a_station_cuts_a_prediction_at_its_budget(client: StationClient, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, f"cycles = 100000\n{FAST}", interval="10 s").read_text()
    found = client.dry_run("A1", RunRequest(recipe=recipe), at_most=1.0)
    assert found.state == "cut"


@pytest.mark.sockets
def test_a_station_refuses_to_predict_what_it_would_not_start(client: StationClient) -> None:
    with pytest.raises(RefusedError) as caught:
        client.dry_run("A1", RunRequest(protocol="cccv", parameters={"cycles": "many"}))
    assert [problem.where for problem in caught.value.problems] == ["parameters.cycles"]


# ---- the command ------------------------------------------------------------------------------


def operando(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "operando.station", *map(str, arguments)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_check_prints_the_prediction_as_simulated_and_draws_it(
    tmp_path: Path, bench: Path, prediction: Prediction
) -> None:
    pytest.importorskip("matplotlib")
    recipe = write_recipe(tmp_path, FAST, interval="10 s")
    picture = tmp_path / "predicted.png"
    done = operando(
        *("check", recipe, "--bench", bench, "--channel", "A1", "--dry-run", "--draw", picture)
    )
    assert done.returncode == 0, done.stderr
    assert "SIMULATED: predicted on a fresh cell of the preset ncm811-caec" in done.stdout
    assert "it would complete" in done.stdout
    assert f"{prediction.rows:,} rows" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_check_gives_the_prediction_as_json_and_the_exit_code_of_a_trip(tmp_path: Path) -> None:
    limits = 'early = { when = "voltage > 3.9 V", action = "trip", stale_after = "1 h" }'
    recipe = write_recipe(tmp_path, FAST, interval="10 s", limits=limits)
    done = operando("check", recipe, "--bench", write_bench(tmp_path), "--dry-run", "--json")
    assert done.returncode == 3
    (report,) = json.loads(done.stdout)
    found = Prediction.model_validate(report["prediction"])
    assert (found.state, found.simulated) == ("tripped", True)
    assert report["limits"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at-most", "1 min"], "--at-most is of a dry run; add --dry-run"),
        (["--dry-run", "--at-most", "5 V"], "--at-most: "),
        (["--dry-run", "--at-most", "0 s"], "must be more than 0 s"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, bench: Path, options: list[str], message: str
) -> None:
    words = ["check", str(write_recipe(tmp_path, FAST)), "--bench", str(bench), *options]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, BadInputError)
    assert message in str(error)


def test_a_dry_run_wants_one_channel(tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path, FAST))
    error = CliRunner().invoke(app, ["check", recipe, "--bench", str(COATINGS), "--dry-run"])
    assert isinstance(error.exception, BadInputError)
    assert "of one channel; add --channel, with one of: A1" in str(error.exception)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_stops_a_dry_run_and_tells_how_far_it_came(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, f"cycles = 100000\n{FAST}", interval="10 s")
    kept = tmp_path / "dry"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "operando.station", "check", str(recipe), "--dry-run"),
            *("--bench", str(write_bench(tmp_path)), "--output", str(kept), "--json"),
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        for _ in _until_there_are_rows(process, kept):
            pass
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 4
    found = json.loads(text)[0]["prediction"]
    assert found["state"] == "stopped"
    assert "Ctrl-C, when it had come to " in found["reason"]


def _until_there_are_rows(process: subprocess.Popen[str], kept: Path) -> Iterator[None]:
    import time

    deadline = time.monotonic() + 60.0
    while not list(kept.glob("*/manifest.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        yield


def test_printing_many_steps_and_cycles_stays_short(
    prediction: Prediction, capsys: pytest.CaptureFixture[str]
) -> None:
    many = prediction.model_copy(
        update={"steps": prediction.steps * 100, "cycles": prediction.cycles * 100}
    )
    print_prediction(many)
    text = capsys.readouterr().out
    assert "and 384 more; --json has all" in text
    assert "84 between them are left out" in text
    assert len(text.splitlines()) < 80
