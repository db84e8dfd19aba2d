"""An instrument beside several cells: asked once, recorded in every run, owned by none."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from lab import BENCH, write_recipe
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import load_recipe
from operando.instruments.recorder import Entry
from operando.protocols import RunState
from operando.records import Record, verify
from operando.station.engine import Engine, Run, order_from, settle

SHORT = 'charge_rate = "2C"\ndischarge_rate = "2C"\ncv_cutoff = "1C"\nrest = "1 min"'


def write_two_channels(folder: Path) -> Path:
    """Two source meters on two cells; the load cell on a third cell stands beside both."""
    first = BENCH.format(
        speed=1, smu="TCPIP::127.0.0.1::5025::SOCKET", smu_options="", load_cell="pt113",
        load="serial:ports/lc1",
    )  # fmt: skip
    first = first.replace('load_cell = "lc1"\n', 'shared = ["lc1"]\n')
    blocks = re.split(r"(?m)^(?=\[(?:instruments\.\w+|channels\.\w+|cells\.\w+)\]$)", first)
    second = "".join(
        block.replace("smu1", "smu2").replace("A1", "A2").replace("c1]", "c2]")
        .replace('"c1"', '"c2"').replace("5025", "5026").replace("04500001", "04500002")
        for block in blocks
        if re.match(r"\[(instruments\.smu1|channels|cells)", block)
    )  # fmt: skip
    alone = '[instruments.lc1.simulated]\ncell = "c1"'
    assert first.count(alone) == 1
    first = first.replace(alone, '[instruments.lc1.simulated]\ncell = "c3"')
    path = folder / "bench.toml"
    path.write_text(first + second + '[cells.c3]\npreset = "ncm811-caec"\n', encoding="utf-8")
    return path


def run_both(folder: Path, limits: str = "", faults: str = "") -> tuple[list[Run], list[bytes]]:
    """Run both channels, one a little later; what the load cell was asked."""
    bench = load_bench(write_two_channels(folder))
    order = order_from(load_recipe(write_recipe(folder, parameters=SHORT, limits=limits)))
    asked: list[bytes] = []

    async def main() -> list[Run]:
        clock = Clock("virtual")
        async with Engine(bench, clock) as engine:
            simulation: Any = engine.simulation
            device = simulation.devices["lc1"]
            receive = device.receive

            def listening(line: Any, data: bytes, now: float) -> None:
                asked.append(bytes(data))
                receive(line, data, now)

            device.receive = listening
            one = asyncio.create_task(engine.run("A1", order, folder / "runs"))
            await clock.sleep(17.0)
            other = asyncio.create_task(engine.run("A2", order, folder / "runs"))
            if faults:
                await clock.sleep(60.0)
                simulation.inject("lc1", faults)
            return [await one, await other]

    return run_coroutine(main(), virtual=True), asked


def test_two_runs_hear_what_one_of_them_asked(tmp_path: Path) -> None:
    runs, asked = run_both(tmp_path)
    assert [run.result.state for run in runs] == [RunState.COMPLETED] * 2
    told = []
    for run in runs:
        record = Record.open(run.folder)
        assert not verify(run.folder).problems
        offset = record.journal()[0].unix_time - record.journal()[0].time
        times = [offset + t for t in record.aux("pressure", source="lc1")["time"]]
        assert len(times) > 20
        assert len(set(times)) == len(times)
        told.append({round(t, 3) for t in times})
    assert len(told[0] & told[1]) > 0.9 * min(map(len, told))
    polls = sum(b"B" in message for message in asked)
    assert polls < 1.2 * max(map(len, told))


def test_a_limit_on_what_a_shared_instrument_measures_acts_in_every_run(tmp_path: Path) -> None:
    limit = 'pressed = { when = "pressure > 1 MPa", action = "trip" }'
    runs, _ = run_both(tmp_path, limits=limit)
    assert [run.result.state for run in runs] == [RunState.TRIPPED] * 2
    assert all(run.result.safe and "pressed" in run.result.reason for run in runs)


def test_a_shared_instrument_that_falls_silent_is_missed_by_every_run(tmp_path: Path) -> None:
    limit = 'blind = { when = "pressure > 900 MPa", action = "trip", stale_after = "20 s" }'
    runs, asked = run_both(tmp_path, limits=limit, faults="silence")
    assert [run.result.state for run in runs] == [RunState.TRIPPED] * 2
    for run in runs:
        alarms = Record.open(run.folder).journal(Entry.ALARM)
        assert any("lc1 cannot be read" in str(alarm.data) for alarm in alarms)
    assert asked


def test_what_drives_a_cell_cannot_be_shared(tmp_path: Path) -> None:
    path = write_two_channels(tmp_path)
    text = path.read_text(encoding="utf-8")
    text = text.replace('shared = ["lc1"]', 'shared = ["smu3"]', 1) + (
        '[instruments.smu3]\ndriver = "keithley-2450"\n'
        'address = "TCPIP::127.0.0.1::5027::SOCKET"\n[instruments.smu3.simulated]\ncell = "c3"\n'
    )
    path.write_text(text, encoding="utf-8")
    order = order_from(load_recipe(write_recipe(tmp_path, parameters=SHORT)))
    with pytest.raises(BadInputError, match=r"'smu3' under shared.*Sensors and chambers"):
        settle(load_bench(path), "A1", order)


def test_a_limit_must_be_patient_with_the_polls_of_a_shared_instrument(tmp_path: Path) -> None:
    hasty = 'pressed = { when = "pressure > 100 MPa", action = "trip", stale_after = "3 s" }'
    path = write_recipe(tmp_path, parameters=SHORT, limits=hasty)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[poll]", '[poll]\ninstruments.lc1 = "10 s"'), encoding="utf-8")
    bench = load_bench(write_two_channels(tmp_path))
    with pytest.raises(BadInputError, match="missing after 3 s, but there is one in 10 s"):
        settle(bench, "A1", order_from(load_recipe(path)))
