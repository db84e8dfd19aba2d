"""What is found before the first step, in whole runs in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lab import write_bench, write_recipe
from operando.instruments.bench import Bench, Calibration
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import CHECKS, Preflight, load_recipe
from operando.instruments.recorder import Entry
from operando.protocols import RunResult, RunState
from operando.protocols.sheet import unguarded
from operando.records import Record
from operando.station.engine import Engine, order_from
from operando.station.orders import Order, resolve, settle
from operando.station.preflight import judge_clock, judge_disk, record_size
from operando.station.sheets import unsupported_steps
from support.virtual_lab import bench_of

Findings = dict[str, Mapping[str, Any]]
SHORT = 'charge_rate = "2C"\ndischarge_rate = "2C"\ncv_cutoff = "1C"\nrest = "0 s"'


@dataclass(frozen=True)
class Ended:
    """A run that has ended, what was found before it, and the charge that its cell saw (C)."""

    result: RunResult
    findings: Findings
    record: Record
    charge: float


def order_of(folder: Path, preflight: Preflight) -> Order:
    """One short cycle."""
    order = order_from(load_recipe(write_recipe(folder, SHORT, interval="10 s")))
    return replace(order, limits=(), preflight=preflight)


def run(
    bench: Bench,
    folder: Path,
    preflight: Preflight = Preflight(),  # noqa: B008  (frozen)
    *,
    before: Callable[[Engine], None] = lambda engine: None,
    wait: float = 0.0,
) -> Ended:
    """Run one short cycle on the only channel. wait: s that pass before it is started."""
    (channel,) = bench.channels

    async def execute() -> Ended:
        clock = Clock("virtual")
        async with Engine(bench, clock) as engine:
            before(engine)
            await clock.sleep(wait)
            ended = await engine.run(channel, order_of(folder, preflight), folder / "runs")
            simulation: Any = engine.simulation
            assert not any(simulation.relays().values())
            cell = simulation.cells[engine.cell_of(channel).name]
            record = Record.open(ended.folder)
            (note,) = [e.data for e in record.journal(Entry.NOTE) if "preflight" in e.data]
            found: Any = note["preflight"]
            findings = {one["check"]: one for one in found}
            return Ended(ended.result, findings, record, cell.charge_passed(clock.now()))

    return run_coroutine(execute(), virtual=True)


def source_meter(folder: Path, options: str = "") -> Bench:
    """A source meter and a load cell on an as-assembled cell."""
    return load_bench(write_bench(folder, smu_options=options))


def problems(ended: Ended) -> set[str]:
    return {name for name, finding in ended.findings.items() if not finding["ok"]}


def assert_refused(ended: Ended, check: str, said: str) -> None:
    assert ended.result.state is RunState.REFUSED, ended.result.reason
    assert ended.result.safe
    assert problems(ended) == {check}
    assert said in ended.result.reason
    # Half a microampere-second: the zero-current source of the check is not better than that.
    assert ended.charge == pytest.approx(0.0, abs=1e-6)
    assert not list(ended.record.journal(Entry.STEP_STARTED))


def test_all_that_was_found_stands_in_one_entry_before_the_first_step(tmp_path: Path) -> None:
    ended = run(bench_of("A1", shared=True), tmp_path)
    assert ended.result.state is RunState.COMPLETED, ended.result.reason
    assert problems(ended) == set()
    # Nothing was asked of its contacts.
    assert list(ended.findings) == [name for name in CHECKS if name != "contact"]
    assert 2.3 < ended.findings["open_circuit"]["values"]["voltage"] < 2.8
    assert ended.findings["h2o"]["values"]["water1"] < 1e-6
    kinds = [entry.entry for entry in ended.record.journal()]
    assert kinds.index(Entry.NOTE) < kinds.index(Entry.STEP_STARTED)


def test_reversed_leads_are_refused_also_when_any_voltage_is_let_pass(tmp_path: Path) -> None:
    preflight = Preflight(override={"open_circuit": "discharged on purpose"})
    ended = run(source_meter(tmp_path, 'leads = "reversed"'), tmp_path, preflight)
    assert_refused(ended, "polarity", "reversed")


def test_an_open_lead_is_no_voltage(tmp_path: Path) -> None:
    ended = run(source_meter(tmp_path, 'leads = "open"'), tmp_path)
    assert_refused(ended, "open_circuit", "an open lead, an empty holder or a short")


def test_an_implausible_voltage_is_let_pass_for_a_reason_that_is_recorded(tmp_path: Path) -> None:
    bench = source_meter(tmp_path)
    wrong = Preflight(open_circuit=(3.0, 4.3))
    assert_refused(run(bench, tmp_path, wrong), "open_circuit", "implausible")
    ended = run(bench, tmp_path, replace(wrong, override={"open_circuit": "as assembled"}))
    assert ended.result.state is RunState.COMPLETED, ended.result.reason
    finding = ended.findings["open_circuit"]
    assert (finding["ok"], finding["override"]) == (False, "as assembled")
    assert "implausible" in finding["problem"]


def test_a_wet_glovebox_is_refused_before_the_cell_is_touched(tmp_path: Path) -> None:
    bench = bench_of("A1", shared=True)
    room = replace(bench.rooms["glovebox1"], options={"events": "at 10 min: antechamber 20 l"})
    bench = replace(bench, rooms={**bench.rooms, "glovebox1": room})
    asked = Preflight(o2=1e-6)
    dry = run(bench, tmp_path, asked)
    assert dry.result.state is RunState.COMPLETED, dry.result.reason
    wet = run(bench, tmp_path, asked, wait=900.0)
    assert_refused(wet, "o2", "at most 1 ppm")
    assert "open_circuit" not in wet.findings


def test_a_stack_pressure_out_of_range_is_refused(tmp_path: Path) -> None:
    bench = source_meter(tmp_path)
    ended = run(bench, tmp_path, Preflight(pressure=(20e6, 30e6)))
    assert_refused(ended, "pressure", "tare")
    found = ended.findings["pressure"]["values"]["lc1"]
    assert run(bench, tmp_path, Preflight(pressure=(0.9 * found, 1.1 * found))).result.safe


def calibrated(bench: Bench, due: date) -> Bench:
    (name,) = [one for one in bench.instruments if one.startswith("lc")]
    entry = replace(bench.instruments[name], calibration=Calibration(due, "C-4711"))
    return replace(bench, instruments={**bench.instruments, name: entry})


@pytest.mark.parametrize(
    ("due", "note"), [(date(2026, 1, 10), "in 9 days"), (date(2026, 6, 1), None)]
)
def test_a_calibration_that_is_due_soon_is_told(
    tmp_path: Path, due: date, note: str | None
) -> None:
    # Virtual time begins on 2026-01-01.
    ended = run(calibrated(source_meter(tmp_path), due), tmp_path)
    assert ended.result.state is RunState.COMPLETED, ended.result.reason
    assert (note or "") in (ended.findings["calibration"]["note"] or "")
    assert (ended.findings["calibration"]["note"] is None) is (note is None)
    manifest: Any = ended.record.manifest["instruments"]
    assert manifest["lc1"]["calibration"]["due"] == due.isoformat()
    assert manifest["lc1"]["calibration"]["certificate"] == "C-4711"
    assert "tare" in manifest["lc1"]["calibration"]


def test_an_expired_calibration_is_refused_and_can_be_let_pass(tmp_path: Path) -> None:
    bench = calibrated(source_meter(tmp_path), date(2025, 12, 31))
    assert_refused(run(bench, tmp_path), "calibration", "lc1 was due on 2025-12-31 (C-4711)")
    ended = run(bench, tmp_path, Preflight(override={"calibration": "a trial"}))
    assert ended.result.state is RunState.COMPLETED, ended.result.reason


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    def fill(engine: Engine) -> None:
        engine.free_space = lambda folder: 50_000_000

    ended = run(source_meter(tmp_path), tmp_path, before=fill)
    assert_refused(ended, "disk", "50 MB are free")


def test_the_size_that_is_expected_of_a_record_is_above_what_it_has(tmp_path: Path) -> None:
    bench = source_meter(tmp_path)
    settled = settle(bench, "A1", order_of(tmp_path, Preflight()))
    ended = run(bench, tmp_path)
    folder = ended.record.folder
    actual = sum(file.stat().st_size for file in folder.iterdir())
    assert 0.02 * record_size(settled, bench) < actual < record_size(settled, bench)


def test_a_disk_must_hold_all_records_that_are_being_written() -> None:
    assert not judge_disk(1e9, [100e6]).problem
    assert judge_disk(1e9, [100e6, 400e6]).problem
    assert "at least" in judge_disk(1e9, [100e6], complete=False).note


@pytest.mark.parametrize(
    ("now", "newest", "said"),
    [
        (0.0, None, "1970-01-01"),
        (4.2e9, None, "Set it"),
        (1.8e9, 1.8e9 + 3600.0, "1 h before the newest record"),
        (1.8e9, 1.8e9 + 30.0, ""),
        (1.8e9, None, ""),
    ],
)
def test_a_clock_that_cannot_be_right_is_a_problem(
    now: float, newest: float | None, said: str
) -> None:
    finding = judge_clock(now, newest, False)
    assert bool(finding.problem) is bool(said)
    assert said in finding.problem
    assert "not known" in finding.note


# ---- contacts ----------------------------------------------------------------------------------


def test_contacts_are_measured_by_a_short_spectrum_that_moves_no_charge(tmp_path: Path) -> None:
    bench = bench_of("C2")
    ended = run(bench, tmp_path, Preflight(contact=(1.0, 1000.0)))
    assert ended.result.state is RunState.COMPLETED, ended.result.reason
    values = list(ended.findings["contact"]["values"].values())
    assert len(values) == 5
    assert all(1.0 < value < 1000.0 for value in values)
    low = 2.0 * max(values)
    refused = run(bench, tmp_path, Preflight(contact=(low, 10.0 * low)))
    assert_refused(refused, "contact", "shorted")
    high = 0.5 * min(values)
    assert_refused(run(bench, tmp_path, Preflight(contact=(0.1 * high, high))), "contact", "bad")


def test_a_cell_that_is_refused_sees_no_spectrum(tmp_path: Path) -> None:
    asked = Preflight(open_circuit=(3.0, 4.3), contact=(1.0, 200.0))
    ended = run(bench_of("C2"), tmp_path, asked)
    assert_refused(ended, "open_circuit", "implausible")
    assert "contact" not in ended.findings


def test_contacts_that_an_instrument_cannot_measure_are_told_before_the_run(
    tmp_path: Path,
) -> None:
    bench = source_meter(tmp_path)
    settled = settle(bench, "A1", order_of(tmp_path, Preflight(contact=(1.0, 200.0))))
    (problem,) = unsupported_steps(settled, bench, Clock())
    assert problem.where == "preflight.contact"
    assert "measures no impedance" in problem.message
    asked = Preflight(contact=(1.0, 200.0), override={"contact": "looked at by hand"})
    ended = run(bench, tmp_path, asked)
    assert ended.result.state is RunState.COMPLETED, ended.result.reason
    assert ended.findings["contact"]["problem"] == "not measured: it measures no impedance."


def test_what_nothing_measures_is_told_before_the_run(tmp_path: Path) -> None:
    bench = source_meter(tmp_path)
    _, found = resolve(bench, "A1", order_of(tmp_path, Preflight(o2=1e-6)))
    assert [problem.where for problem in found] == ["preflight.o2"]
    excused = Preflight(o2=1e-6, override={"o2": "dry room"})
    assert resolve(bench, "A1", order_of(tmp_path, excused))[1] == []


# ---- chemistry and limits ----------------------------------------------------------------------


def test_a_chemistry_brings_its_window_at_rest_and_its_limits(tmp_path: Path) -> None:
    bench = source_meter(tmp_path)
    cells = {"c1": replace(bench.cells["c1"], chemistry="ncm811-li")}
    settled = settle(replace(bench, cells=cells), "A1", order_of(tmp_path, Preflight()))
    window = settled.settings.open_circuit
    assert (window.low, window.high) == (2.0, 4.4)
    assert "over_pressure (default)" in {limit.name for limit in settled.limits}
    assert settled.cell.entry.voltage_range == (-0.05, 4.6)


@pytest.mark.parametrize(
    "limits",
    [
        "",
        'over_voltage = { when = "voltage > 4.3 V", action = "warn" }',
        'over_voltage = { when = "voltage > 4.3 V and time > 1 h", action = "trip" }',
        'over_current = { when = "abs(current) > 1 A and voltage > 5 V", action = "trip" }\n'
        'under_voltage = { when = "voltage > 2 V", action = "hold" }',
    ],
)
def test_no_recipe_can_take_the_limits_of_voltage_and_current_away(
    tmp_path: Path, limits: str
) -> None:
    path = write_recipe(tmp_path, limits=limits)
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if "stale_after" not in line]
    path.write_text("\n".join(kept), encoding="utf-8")
    settled, found = resolve(source_meter(tmp_path), "A1", order_from(load_recipe(path)))
    assert found == []
    assert settled is not None
    assert unguarded(settled.limits) == ()
    assert unguarded(limit for limit in settled.limits if "default" not in limit.name)
