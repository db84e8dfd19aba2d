"""What is looked at before the first step: each finding, its remedy and its override."""

from __future__ import annotations

import math

import pytest

from operando.instruments.recipe import CHECKS, Preflight
from operando.instruments.samples import AuxReading, Reading, Regulation, Status
from operando.instruments.techniques import ImpedancePoint
from operando.protocols import Finding, OpenCircuitWindow
from operando.protocols.preflight import (
    CONTACT_FREQUENCIES,
    contact_request,
    judge_contact,
    judge_rest,
    judge_surroundings,
    overridden,
    why_no_contact,
)

FULL = OpenCircuitWindow(2.0, 4.3)
SYMMETRIC = OpenCircuitWindow(-0.1, 0.1)


def at_rest(
    voltage: float, window: OpenCircuitWindow = FULL, status: Status = Status.OK
) -> dict[str, Finding]:
    reading = Reading(0.0, 0.0, voltage, 0.0, Regulation.OPEN, status)
    return {finding.name: finding for finding in judge_rest(reading, window)}


def around(asked: Preflight, **values: float) -> dict[str, Finding]:
    readings = [
        AuxReading(f"sensor_{name}", name, 0.0, 0.0, value, Status.OK)
        for name, value in values.items()
    ]
    return {finding.name: finding for finding in judge_surroundings(readings, asked)}


def problems(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.problem}


def spectrum(*real: float, status: Status = Status.OK) -> list[ImpedancePoint]:
    return [
        ImpedancePoint(0.0, frequency, one, -0.1, 2.6, math.nan, status)
        for frequency, one in zip(CONTACT_FREQUENCIES, real, strict=False)
    ]


@pytest.mark.parametrize("voltage", [2.5, 2.6, 2.7, 4.25])
def test_an_assembled_or_a_charged_cell_is_as_expected(voltage: float) -> None:
    assert problems(at_rest(voltage)) == set()


def test_reversed_leads_are_a_matter_of_polarity_alone() -> None:
    found = at_rest(-2.6)
    assert problems(found) == {"polarity"}
    assert "leads are reversed" in found["polarity"].problem
    assert "Swap them" in found["polarity"].problem


def test_an_override_of_the_voltage_does_not_let_reversed_leads_pass() -> None:
    reasons = {"open_circuit": "discharged on purpose"}
    assert any(one.refuses for one in overridden(at_rest(-2.6).values(), reasons))
    assert not any(one.refuses for one in overridden(at_rest(0.4).values(), reasons))


def test_a_voltage_of_no_such_cell_is_implausible() -> None:
    assert problems(at_rest(1.2)) == {"open_circuit"}
    assert problems(at_rest(4.9)) == {"open_circuit"}


def test_a_cell_of_two_equal_electrodes_has_no_polarity() -> None:
    found = at_rest(-0.02, SYMMETRIC)
    assert problems(found) == set()
    assert "either sign" in found["polarity"].note
    assert problems(at_rest(0.3, SYMMETRIC)) == {"open_circuit"}


@pytest.mark.parametrize("status", [Status.OVERLOAD, Status.OK])
def test_open_leads_are_a_missing_connection(status: Status) -> None:
    found = at_rest(math.nan, status=status)
    assert problems(found) == {"connection"}
    assert found["connection"].values == {"voltage": None}


def test_a_finding_that_is_overridden_keeps_its_problem_and_its_reason() -> None:
    (finding,) = overridden([Finding("disk", "it is full.")], {"disk": "the run is short"})
    assert not finding.refuses
    assert finding.entry["problem"] == "it is full."
    assert finding.entry["override"] == "the run is short"
    assert finding.entry["ok"] is False
    assert "the run is short" in str(finding)


def test_a_box_is_judged_by_what_is_asked_for_and_else_only_noted() -> None:
    wet = {"h2o": 5e-6, "o2": 0.5e-6, "dew_point": 208.0}
    assert problems(around(Preflight(), **wet)) == set()
    assert "5.000 ppm" in around(Preflight(), **wet)["h2o"].note
    asked = Preflight(o2=1e-6, h2o=1e-6, dew_point=213.15)
    found = around(asked, **wet)
    assert problems(found) == {"h2o"}
    assert "at most 1 ppm" in found["h2o"].problem
    assert "purifier" in found["h2o"].problem


def test_what_is_asked_for_and_not_measured_is_a_problem() -> None:
    found = around(Preflight(o2=1e-6, pressure=(3e6, 8e6)))
    assert problems(found) == {"o2", "pressure"}
    assert "not measured" in found["o2"].problem


@pytest.mark.parametrize(("pressure", "wrong"), [(5e6, False), (0.1e6, True), (20e6, True)])
def test_a_stack_pressure_out_of_range_points_at_clamp_and_tare(
    pressure: float, wrong: bool
) -> None:
    found = around(Preflight(pressure=(3e6, 8e6)), pressure=pressure)
    assert ("tare" in found["pressure"].problem) is wrong


def test_a_sensor_without_a_valid_reading_is_a_problem() -> None:
    broken = AuxReading("lc1", "pressure", 0.0, 0.0, math.nan, Status.FAULT)
    readings, *_ = judge_surroundings([broken], Preflight())
    assert readings.name == "readings"
    assert "lc1 gives no valid pressure (fault)" in readings.problem


def test_a_contact_within_its_range_is_as_expected() -> None:
    finding = judge_contact(spectrum(40, 42, 44, 46, 48), (1.0, 200.0))
    assert not finding.problem
    assert list(finding.values.values()) == [40, 42, 44, 46, 48]


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (spectrum(40, 42, 44, 46, 400), "bad contact"),
        (spectrum(0.2, 0.2, 0.2, 0.2, 0.2), "shorted"),
        (spectrum(40, 42, 44, 46, 48, status=Status.OVERLOAD), "not valid"),
        (spectrum(math.nan, 42, 44, 46, 48), "not valid"),
        ([], "not valid"),
    ],
)
def test_a_contact_beyond_its_range_is_a_problem(points: list[ImpedancePoint], said: str) -> None:
    assert said in judge_contact(points, (1.0, 200.0)).problem


def test_a_contact_is_measured_with_a_current_that_the_instrument_has() -> None:
    request = contact_request(2.6, (1.0, 200.0), 3e-3)
    assert request.current_limit == 3e-3
    assert request.frequencies[0] == 1e4
    assert request.frequencies[-1] == pytest.approx(1e3)
    assert request.duration < 0.01
    assert why_no_contact(object(), request) == "it measures no impedance."


def test_every_finding_has_a_name_that_a_recipe_can_override() -> None:
    names = [*at_rest(2.6), *around(Preflight(o2=1.0, h2o=1.0, dew_point=300.0, pressure=(0, 1)))]
    assert {*names, "contact", "calibration", "disk", "clock"} == set(CHECKS)
