"""Presets: every kind is built from its file, and a bad one says what to write."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from operando.instruments.bench import Bench, CellEntry, InstrumentEntry, SimulatedEntry
from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError
from operando.simulators import LoadFrame, SimulatedBench
from operando.simulators.cell import (
    Cell,
    LithiumCell,
    LithiumParameters,
    cell_from_preset,
    impedance,
    parameters,
    presets,
)
from operando.simulators.cell.parameters import preset_kind, read_preset

NAMES = sorted(presets(None))

TOLD_BY_REMARK = [
    name for name in NAMES if preset_kind(name) != "insertion" or name == "ncm811-lno-lto"
]
"""Presets whose opening remark says it; the other insertion cells have words and tables of their
own."""


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_makes_a_cell_with_port_spectrum_and_thickness(name: str) -> None:
    cell: Cell = cell_from_preset(name, seed=3, start=5.0)
    cell.source_current(10.0, 1e-5, 5.0)
    terminal = cell.terminal(60.0)
    assert math.isfinite(terminal.voltage)
    assert abs(terminal.current) <= 1e-5 * 1.000001
    assert cell.charge_passed(60.0) <= 5e-4 * 1.000001
    assert cell.throughput(60.0) == pytest.approx(abs(cell.charge_passed(60.0)))
    assert math.isfinite(cell.open_circuit_voltage(60.0))
    cell.set_temperature(60.0, 313.15)
    assert cell.temperature == 313.15
    frame = LoadFrame(cell)
    assert frame.force(100.0) > 0.0
    cell.open_circuit(100.0)
    assert cell.terminal(120.0).current == 0.0
    z = impedance(cell_from_preset(name), np.logspace(-3.0, 6.0, 19), 0.0)
    assert bool(np.all(np.isfinite(z)))
    assert bool(np.all(z.real > 0.0))
    with pytest.raises(ValueError, match="must not decrease"):
        cell.terminal(1.0)


@pytest.mark.parametrize("name", TOLD_BY_REMARK)
def test_every_preset_says_what_it_was_set_by_and_what_it_predicts(name: str) -> None:
    remark, chain = "", name
    while chain:
        text = (parameters.PRESET_FOLDER / f"{chain}.toml").read_text(encoding="utf-8")
        remark += text.partition("\nsummary")[0].lower()
        chain = tomllib.loads(text).get("base", "")
    assert "calibrated" in remark
    assert "predicted" in remark


GOOD = 'area = { value = 1e-4, unit = "m2", basis = "seed", source = "somewhere" }'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("area = 1e-4", r'own\.toml: \[parameters\] area = 0\.0001 has no unit.*unit = "m2"'),
        ('area = { value = 1e-4, basis = "seed", source = "x" }', r"area has no unit; write area"),
        ('area = { unit = "m2", basis = "seed", source = "x" }', r"area has no value; write area"),
        (GOOD.replace('"m2"', '"cm2"'), r"given in 'cm2'; convert it and write unit = \"m2\""),
        (
            GOOD.replace("1e-4", "-1e-4"),
            r"area = -0\.0001 is unphysical: write a value at least 1e-08 and at most 1 \(m2\)",
        ),
        (GOOD.replace("1e-4", "0"), r"area = 0 is unphysical"),
        (GOOD.replace("1e-4", "nan"), r"value = nan; write a finite number"),
        (GOOD.replace("1e-4", '"1e-4"'), r"write a finite number"),
        (GOOD.replace("1e-4", "true"), r"write a finite number"),
        (GOOD.replace('"seed"', '"guess"'), r"basis is one of seed, .* not 'guess'"),
        (GOOD.replace('"seed"', '"assumed"'), r"area is assumed: add the range"),
        (GOOD.replace('"somewhere"', '""'), r"empty source"),
        (GOOD.replace(" }", ", range = [2e-4, 3e-4] }"), r"outside its own range"),
        (GOOD.replace(" }", ", range = 3 }"), r"write range = \[low, high\]"),
        (GOOD.replace("area", "aera"), r"aera is no parameter of this kind: did you mean area"),
        (GOOD.replace("area", "colour"), r"colour is no parameter of this kind: remove it"),
        (
            'soft_short = { value = 1.5, unit = "1", basis = "seed", source = "x" }',
            r"soft_short = 1\.5 is unphysical: write a value at least 0 and at most 0\.99",
        ),
    ],
)
def test_a_bad_entry_is_named_with_what_to_write(tmp_path: Path, line: str, message: str) -> None:
    folder = parameters.PRESET_FOLDER
    for base in ("lithium-sulfide", "li-lpscl"):
        text = (folder / f"{base}.toml").read_text(encoding="utf-8")
        (tmp_path / f"{base}.toml").write_text(text, encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(f'summary = "x"\nbase = "li-lpscl"\n[parameters]\n{line}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=f"(?s){message}") as found:
        read_preset(own, LithiumParameters)
    assert str(own) in str(found.value)


def test_a_missing_number_is_named_with_an_example(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f'summary = "x"\nkind = "lithium"\n[parameters]\n{GOOD}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="lacks separator_thickness") as found:
        read_preset(own, LithiumParameters)
    assert 'separator_thickness = { value = ..., unit = "m", basis' in str(found.value)
    assert str(own) in str(found.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[parameters", "not valid TOML"),
        ("[parameters]", "write summary"),
        ('summary = "x"', r"no table \[parameters\]"),
        ('summary = "x"\nbase = "own"\n[parameters]', "leads back to itself"),
        ('summary = "x"\nbase = "nowhere"\n[parameters]', "there is no such preset file"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_preset(own, LithiumParameters)


def test_an_unknown_preset_or_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError, match="did you mean 'li-lpscl'"):
        cell_from_preset("li-lpsc")
    (tmp_path / "odd.toml").write_text('summary = "x"\nkind = "fuel"\n[parameters]\n')
    monkeypatch.setattr(parameters, "PRESET_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"odd\.toml: kind = 'fuel'; write one of 'insertion'"):
        cell_from_preset("odd")


def test_a_preset_of_another_kind_is_no_insertion_cell() -> None:
    with pytest.raises(KeyError, match="of kind 'lithium': build it with cell_from_preset"):
        parameters.load_preset("li-lpscl")


def bench_with(preset: str) -> Bench:
    meter = InstrumentEntry(
        name="smu1",
        driver="keithley-2450",
        address="TCPIP::127.0.0.1::5025::SOCKET",
        where="bench.toml line 1",
        simulated=SimulatedEntry(cell="c1", faults="none", options={}),
    )
    cell = CellEntry("c1", "bench.toml line 9", preset=preset, seed=1)
    return Bench(
        path=Path("bench.toml"),
        speed=1.0,
        instruments={"smu1": meter},
        channels={},
        cells={"c1": cell},
    )


@pytest.mark.parametrize("name", ["ncm811-caec", "li-lpscl", "steel-lpscl-li", "pellet-lpscb"])
def test_a_simulated_bench_builds_any_kind_of_cell(name: str) -> None:
    async def scenario() -> None:
        bench = SimulatedBench(bench_with(name), Clock("virtual"))
        assert bench.cells["c1"].area > 0.0
        assert bench.frames["c1"].pressure(0.0) > 0.0
        assert name in bench.presets()

    run(scenario(), virtual=True)


def test_a_lithium_cell_is_pressed_by_its_frame() -> None:
    cell = cell_from_preset("li-lpscl")
    assert isinstance(cell, LithiumCell)
    assert LoadFrame(cell, relaxation=0.0).pressure(0.0) == pytest.approx(7e6)
    pressed = LoadFrame(cell, preload=300.0, area=1e-4, relaxation=0.0)
    assert pressed.pressure(0.0) == pytest.approx(3e6)
    assert cell.stack_pressure == 3e6


def test_a_bench_names_the_place_of_an_unknown_preset() -> None:
    async def scenario() -> None:
        SimulatedBench(bench_with("li-x"), Clock("virtual"))

    with pytest.raises(BadInputError, match=r"bench\.toml line 9: no cell preset named 'li-x'"):
        run(scenario(), virtual=True)
