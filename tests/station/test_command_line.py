"""The command line as its users type it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab import simulated, write_bench, write_recipe
from operando.records import Record


def operando(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "operando.station", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


FAST = 'charge_rate = "2C"\ndischarge_rate = "2C"\ncv_cutoff = "0.5C"\nrest = "1 min"'


def test_a_virtual_run_completes_and_its_record_can_be_used(tmp_path: Path) -> None:
    bench, recipe = write_bench(tmp_path), write_recipe(tmp_path, FAST, interval="5 s")
    done = operando(
        *("run", recipe, "--bench", bench, "--channel", "A1", "--virtual"),
        *("--output", tmp_path / "runs", "--json"),
    )
    assert done.returncode == 0, done.stderr
    folder = json.loads(done.stdout)["record"]

    listed = json.loads(operando("records", "list", tmp_path / "runs", "--json").stdout)
    assert [(row["record"], row["state"], row["simulated"]) for row in listed] == [
        (folder, "completed", True)
    ]
    assert "SIMULATED" in operando("records", "show", folder).stdout
    assert operando("records", "verify", folder).returncode == 0

    exported = operando("records", "export", folder, "--to", tmp_path / "bdf")
    assert exported.returncode == 0, exported.stderr
    table = Path(exported.stdout.splitlines()[0])
    assert "SIMULATED" in table.name
    assert "Current / A" in table.read_text().splitlines()[0]

    (Path(folder) / "manifest.json").write_text("{}")
    assert operando("records", "verify", folder).returncode == 1


def test_a_trip_has_its_own_exit_code(tmp_path: Path) -> None:
    limits = 'early = { when = "voltage > 3.9 V", action = "trip" }'
    done = operando(
        *("run", write_recipe(tmp_path, FAST, limits=limits), "--bench", write_bench(tmp_path)),
        *("--channel", "A1", "--virtual", "--output", tmp_path / "runs"),
    )
    assert done.returncode == 3
    assert "early" in done.stdout
    assert "read back off" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[poll]", "[pol]"), "pol"),
        (('charge_rate = "2C"', 'charge_rate = "2 V"'), "charge_rate"),
        (('charge_rate = "2C"', 'charge_rat = "2C"'), 'did you mean "charge_rate"'),
        (('"voltage > 4.30 V"', '"voltage > 4.30"'), "over_voltage"),
        (('"voltage > 4.30 V"', '"volts > 4.30 V"'), "volts"),
        (('action = "trip"', 'action = "explode"'), "explode"),
        (
            ('protocol = "cccv"', 'protocol = "ccvc"'),
            'recipe.toml line 2: protocol: there is no protocol "ccvc". Did you mean "cccv"',
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_line_before_anything_else(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    bench, recipe = write_bench(tmp_path), write_recipe(tmp_path, FAST)
    recipe.write_text(recipe.read_text().replace(*change, 1))
    done = operando("run", recipe, "--bench", bench, "--channel", "A1", "--virtual")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("address =", "addres ="), "line 7"),
        (('potentiostat = "smu1"', 'potentiostat = "smu9"'), "smu9"),
        (('potentiostat = "smu1"', 'potentiostat = "lc1"'), "potentiostat"),
        (
            ('driver = "keithley-2450"', 'driver = "keithley-2451"'),
            'bench.toml line 5: [instruments.smu1] driver: there is no driver "keithley-2451"',
        ),
        (('one_c = "185 mA/g"', ""), "capacity"),
        (('unit = "N"', 'unit = "stone"'), "unit"),
    ],
)
def test_a_wrong_bench_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    bench, recipe = write_bench(tmp_path), write_recipe(tmp_path, FAST)
    bench.write_text(bench.read_text().replace(*change, 1))
    done = operando("run", recipe, "--bench", bench, "--channel", "A1", "--virtual")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_simulated_instruments_that_nobody_serves_are_missed_with_the_remedy(
    tmp_path: Path,
) -> None:
    done = operando(
        *("run", write_recipe(tmp_path, FAST), "--bench", write_bench(tmp_path)),
        *("--channel", "A1", "--output", tmp_path / "runs"),
    )
    assert done.returncode == 5
    assert "operando simulate bench.toml" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("speed", ["0", "-1", "1e9"])
def test_an_impossible_speed_is_refused(tmp_path: Path, speed: str) -> None:
    done = operando("simulate", write_bench(tmp_path), "--speed", speed)
    assert done.returncode == 2
    assert "speed" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_prints_the_currents_and_the_limit_sheet(tmp_path: Path) -> None:
    limits = 'squeeze = { when = "pressure > 12 MPa for 2 s", action = "trip", grace = "10 s" }'
    recipe = write_recipe(tmp_path, FAST, limits=limits)
    done = operando("check", recipe, "--bench", write_bench(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)[0]
    sheet = {line["name"]: line for line in report["limits"]}
    assert "instrument" in sheet["over_voltage"]["layers"][0]
    assert "computer" in sheet["over_current"]["without_host"]
    assert "watchdog" in sheet["squeeze"]["without_host"]
    assert sheet["squeeze"]["latency"] > 12.0 + sheet["over_current"]["latency"] - 1e-9
    text = operando("check", recipe, "--bench", write_bench(tmp_path)).stdout
    assert "does not say who it is" in text
    assert "6.275 mA" in text  # 2C of 16.96 mg at 185 mA/g in mA
    assert "limit sheet" in text


def test_the_sheet_names_the_instrument_only_where_it_really_guards(tmp_path: Path) -> None:
    wide = 'window = ["2.5 V", "4.5 V"]\ncharge_rate = "2C"\ndischarge_rate = "2C"'
    limits = 'low_current = { when = "abs(current) > 5 mA", action = "trip" }'
    recipe = write_recipe(tmp_path, wide, limits=limits)
    done = operando("check", recipe, "--bench", write_bench(tmp_path), "--json")
    sheet = {line["name"]: line for line in json.loads(done.stdout)[0]["limits"]}
    assert sheet["over_voltage"]["layers"] == ["runner"]
    assert sheet["low_current"]["layers"] == ["runner"]
    assert sheet["under_voltage"]["layers"][0].startswith("instrument")
    text = operando("check", recipe, "--bench", write_bench(tmp_path)).stdout
    assert "will be ended by a limit: over_voltage" in text
    assert "will be ended by a limit: low_current" in text


def test_check_goes_on_with_the_other_channels_and_says_what_would_mend_the_rest(
    tmp_path: Path,
) -> None:
    bench = write_bench(tmp_path)
    bare = (
        '[cells.c2]\ncapacity = "3.14 mAh"\n[channels.A2]\npotentiostat = "smu2"\ncell = "c2"\n'
        '[instruments.smu2]\ndriver = "keithley-2450"\naddress = "TCPIP::127.0.0.1::1::SOCKET"\n'
    )
    bench.write_text(bare + bench.read_text())
    limits = 'squeeze = { when = "pressure > 12 MPa", action = "trip" }'
    recipe = write_recipe(tmp_path, FAST, limits=limits)
    done = operando("check", recipe, "--bench", bench)
    assert done.returncode == 2
    assert "channel A1: cccv" in done.stdout
    assert "channel A2" not in done.stdout
    assert "A2: limit squeeze watches pressure, but nothing on channel A2" in done.stderr
    assert (
        'write load_cell = "..." or pressure_controller = "..." into [channels.A2]' in done.stderr
    )
    assert "or take the limit out" in done.stderr
    reports = json.loads(operando("check", recipe, "--bench", bench, "--json").stdout)
    assert ["limits" in one for one in reports] == [one["channel"] == "A1" for one in reports]
    assert len(reports) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('preset = "ncm811-caec"', 'preset = "nope"'), "nope"),
        (('driver = "pt113"', 'driver = "pt114"'), "line 14: [instruments.lc1] driver: there is"),
        (('piston_area = "1.3273 cm2"', 'piston_area = "1.3273 cm"'), "piston_area"),
        (('serial = "04500001"\n', 'serial = "04500001"\nleads = "reversd"\n'), "reversd"),
    ],
)
def test_check_finds_what_run_would_refuse(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    bench = write_bench(tmp_path)
    head, sep, tail = bench.read_text().partition("[instruments.smu1.simulated]")
    bench.write_text(head + sep + tail.replace(*change, 1))
    done = operando("check", write_recipe(tmp_path, FAST), "--bench", bench)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_rate_beyond_the_instrument_is_bad_input(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 'charge_rate = "1000C"')
    done = operando("check", recipe, "--bench", write_bench(tmp_path))
    assert done.returncode == 2
    assert "charge" in done.stderr


def test_lists_name_what_is_installed() -> None:
    drivers = json.loads(operando("drivers", "--json").stdout)
    assert {info["name"] for info in drivers} >= {"keithley-2450", "keithley-2461", "pt113"}
    protocols = json.loads(operando("protocols", "--json").stdout)
    assert {"cccv", "gitt", "impedance"} <= {one["name"] for one in protocols}
    assert all(parameter["meaning"] for one in protocols for parameter in one["parameters"])
    assert "ncm811-caec" in json.loads(operando("presets", "--json").stdout)


@pytest.mark.parametrize("module", ["operando.station", "operando.validation"])
def test_the_version_is_that_of_the_package(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"operando {importlib.metadata.version('operando')}\n"


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_simulate_names_every_device_role_and_address(tmp_path: Path) -> None:
    bench = write_bench(tmp_path, speed=60.0)
    with simulated(bench) as process:
        assert [(line["device"], line["role"]) for line in process.served] == [
            ("smu1", "potentiostat"),
            ("lc1", "load_cell"),
        ]
        assert all(line["address"] in bench.read_text() or "ports" in line["address"]
                   for line in process.served)  # fmt: skip
        recipe = write_recipe(tmp_path, FAST, interval="5 s", limits=(
            'early = { when = "voltage > 3.9 V", action = "trip" }'))  # fmt: skip
        done = operando(
            *("run", recipe, "--bench", bench, "--channel", "A1"),
            *("--output", tmp_path / "runs", "--json"),
        )
        assert done.returncode == 3, done.stderr
        assert process.relays() == {"smu1": False}
        assert Record.open(json.loads(done.stdout)["record"]).simulated
