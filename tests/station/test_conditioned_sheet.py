"""What a check says of a chamber and a press before the run drives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.protocols import cccv, conditioned_cccv
from operando.station.engine import Order, settle
from operando.station.sheets import limit_lines, plan_rows, print_sheet, unsupported_steps
from station.conditioned import write_conditioned_bench

BOTH = conditioned_cccv(hold_pressure=True, pressure="12 MPa", maximum_pressure="14 MPa")


def test_the_sheet_names_safe_state_and_what_is_left_without_a_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = load_bench(write_conditioned_bench(tmp_path, press="vent"))
    lines = limit_lines(settle(bench, "A1", Order(BOTH)), bench, Clock())
    driven = {line.name: line for line in lines if line.name in bench.instruments}
    assert {name: line.action for name, line in driven.items()} == {
        "press1": "vent (its safe state)", "oven1": "standby (its safe state)",
    }  # fmt: skip
    for line in driven.values():
        assert "goes on holding its last set-point" in line.without_host
        assert "NOTHING does if the computer dies" in line.without_host
        assert line.latency is not None
        assert line.latency > 1.0
    print_sheet(lines)
    printed = " ".join(capsys.readouterr().out.split())
    assert "press1: vent (its safe state) when the run has ended, however it ended" in printed
    assert "acts within: 1.01 s of that" in printed
    assert "s of the limit being passed" in printed


def test_what_the_plan_does_not_drive_is_not_on_the_sheet(tmp_path: Path) -> None:
    bench = load_bench(write_conditioned_bench(tmp_path))
    lines = limit_lines(settle(bench, "A1", Order(cccv())), bench, Clock())
    assert not {line.name for line in lines} & set(bench.instruments)


def test_the_plan_shows_where_chamber_and_press_go(tmp_path: Path) -> None:
    bench = load_bench(write_conditioned_bench(tmp_path))
    rows = plan_rows(settle(bench, "A1", Order(BOTH)).preview.steps)
    assert [row.setpoint for row in rows[:2]] == [
        "open circuit, stack at 12.00 MPa by 16.67 kPa/s, at most 14.00 MPa",
        "open circuit, chamber at 60.00 °C",
    ]


def test_a_set_point_outside_the_settings_is_a_problem_of_the_check(tmp_path: Path) -> None:
    bench = load_bench(write_conditioned_bench(tmp_path))
    order = Order(conditioned_cccv(temperature="100 degC"))
    settled = settle(bench, "A1", order)
    (problem,) = unsupported_steps(settled, bench, Clock())
    assert "step 'warm up'" in problem.message
    assert "373.15 K is outside 253.15 to 353.15 K" in problem.message
    with pytest.raises(BadInputError, match=r"373\.15 K is outside"):
        limit_lines(settled, bench, Clock())
