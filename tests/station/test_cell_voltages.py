"""Between which voltages a cell may be: windows, set-points, limits and the defaults of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from operando.instruments.bench import PLAUSIBLE_VOLTAGES, Bench
from operando.instruments.bench_file import load_bench
from operando.station.client.models import CheckReport, RunRequest
from operando.station.requests import check_request

EXAMPLE = load_bench(Path(__file__).parents[2] / "examples" / "simulated-lab.toml")


def bench(voltages: tuple[float, float]) -> Bench:
    cells = {name: replace(cell, voltage_range=voltages) for name, cell in EXAMPLE.cells.items()}
    return replace(EXAMPLE, cells=cells)


LAB = bench(PLAUSIBLE_VOLTAGES)
"""Without a stated range."""


def check(on: Bench = LAB, limits: Any = None, **parameters: Any) -> CheckReport:
    request = RunRequest(protocol="cccv", parameters=parameters, limits=limits or {})
    return check_request(on, "A1", request).report


def told(report: CheckReport) -> dict[str, str]:
    return {problem.where: problem.message for problem in report.problems}


def trip(when: str) -> dict[str, str]:
    return {"when": when, "action": "trip"}


@pytest.mark.parametrize("window", [["2.5 V", "42.5 V"], ["2.5 V", "6 V"], ["-25 V", "4.25 V"]])
def test_a_window_that_no_lithium_cell_has_is_refused_with_the_way_to_widen_it(
    window: list[str],
) -> None:
    problems = told(check(window=window))
    assert list(problems) == ["parameters.window"]
    said = problems["parameters.window"]
    assert "−5 V to 5.5 V believed of a lithium cell" in said
    assert "write voltage_range = [" in said
    assert "[cells.coated-1] of the bench file (simulated-lab.toml line" in said


@pytest.mark.parametrize("window", [["-1 V", "1 V"], ["3 V", "5.2 V"], ["0.01 V", "1.5 V"]])
def test_symmetric_cells_and_cathodes_of_the_5_v_class_need_no_words(window: list[str]) -> None:
    report = check(window=window)
    assert report.ok, report.problems


def test_the_range_of_the_cell_counts_when_it_is_stated() -> None:
    tight = bench((2.0, 4.4))
    assert check(tight).ok
    said = told(check(tight, window=["2.5 V", "4.5 V"]))["parameters.window"]
    assert "2 V to 4.4 V stated for coated-1" in said
    assert 'voltage_range = ["2 V", "5 V"]' in said
    assert check(bench((-10.0, 10.0)), window=["2.5 V", "6 V"]).ok


@pytest.mark.parametrize(
    "when",
    [
        "voltage > 9 V",
        "voltage > 9 V for 1 s",
        "abs(voltage) > 9 V",
        "voltage < -9 V",
        "pressure > 12 MPa or voltage > 9 V",
        "pressure > 12 MPa and voltage > 9 V",
    ],
)
def test_a_limit_beyond_the_range_is_refused_at_its_field(when: str) -> None:
    assert list(told(check(limits={"w": trip(when)}))) == ["limits.w.when"]


def test_a_slope_of_the_voltage_is_no_voltage() -> None:
    assert check(limits={"w": trip("dV/dt over 60 s > 9 V/s")}).ok


def test_default_limits_end_where_the_cell_ends_and_say_when_that_leaves_no_room() -> None:
    report = check(bench((2.4, 4.28)))
    whens = {limit.name: limit.when for limit in report.limits}
    assert whens["over_voltage (default)"] == "voltage > 4.28 V"
    assert whens["under_voltage (default)"] == "voltage < 2.4 V"
    assert report.warnings == ()
    (said,) = check(bench((2.0, 4.25))).warnings
    assert said.startswith("over_voltage lies at the window's 4.25 V")


def test_a_looser_limit_stands_beside_the_default_one() -> None:
    report = check(limits={"w": trip("voltage > 5 V")})
    assert {limit.name for limit in report.limits} == {
        "w", "over_voltage (default)", "under_voltage (default)", "over_current (default)",
    }  # fmt: skip
    report = check(limits={"w": trip("voltage > 3.9 V"), "flow": trip("abs(current) > 0.6C")})
    assert {limit.name for limit in report.limits} == {"w", "flow", "under_voltage (default)"}
    report = check(limits={"flow": trip("abs(current) > 0.7C")})
    assert "over_current (default)" in {limit.name for limit in report.limits}


def test_a_default_that_is_loosened_by_its_name_is_told() -> None:
    (said,) = check(limits={"over_voltage": trip("voltage > 5 V")}).warnings
    assert said.startswith("over_voltage (voltage > 5 V) lets the cell go further than the default")


def test_the_plan_is_written_for_people() -> None:
    charge, rest, discharge, *_ = check(charge_rate="C/20", cv_cutoff="C/100").plan
    assert charge.setpoint == "156.9 µA, cut off by the instrument at 4.25 V"
    assert charge.ends == "|current| ≤ 31.38 µA"
    assert rest.ends == "after 10 min"
    assert discharge.setpoint == "−1.569 mA, cut off by the instrument at 2.5 V"
    assert discharge.ends == "voltage ≤ 2.5 V"


@pytest.mark.parametrize(
    ("parameters", "where", "said"),
    [
        ({"charge_rate": "1000C"}, "parameters.charge_rate", "beyond its 1.05 A"),
        ({"cycles": 100_000_000}, "parameters.cycles", "more than 1,000,000 is hardly meant"),
        ({"cycles": "two"}, "parameters.cycles", '"two" is not a whole number'),
        ({"charge_rate": "0"}, "parameters.charge_rate", 'no unit; expected a C-rate, such as "C'),
        ({"charge_rate": "half"}, "parameters.charge_rate", 'such as "C/10" or "0.5C"'),
        ({"window": ["2.5", "4 V"]}, "parameters.window", 'lower: "2.5" has no unit'),
    ],
)
def test_a_wrong_value_is_refused_at_its_field(
    parameters: dict[str, Any], where: str, said: str
) -> None:
    problems = told(check(**parameters))
    assert list(problems) == [where]
    assert said in problems[where]


def test_many_cycles_are_no_mistake() -> None:
    assert check(cycles=100_000).ok
