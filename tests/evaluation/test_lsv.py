"""Linear sweeps on a simulated steel | coating | Li cell, whose oxidation is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from operando.evaluation.lsv import LsvResult, lsv
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols.lsv import lsv as sweep
from support.virtual_lab import LabRun, run_on_lab

RATE = 5e-3  # V/s: fifty times the published one, so that the sweep takes 8 min


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> LabRun:
    return run_on_lab(
        sweep(rate="5 mV/s", current_limit="2 uA", rest="5 min"),
        "D6",
        tmp_path_factory.mktemp("swept"),
        poll=Poll(interval=1.0),
        record=RecordConditions(every=0.0),
    )


@pytest.fixture(scope="module")
def result(swept: LabRun) -> LsvResult:
    return lsv(swept.record)


def expected(swept: LabRun) -> tuple[np.ndarray, np.ndarray, float]:
    """Voltage (V) and current (A) of capacitance, resistance and oxidation, and its charge (C).

    C dE/dt + A j exp((E - E0)/s) = (V - E)/R: the law of the preset, in steps of 5 ms.
    """
    p, step = swept.cell.parameters, 5e-3
    capacitance = p.blocking_capacitance * p.area
    resistance = p.separator_thickness / (p.separator_conductivity * p.area)
    inner = outer = p.bare_potential
    voltage, current, charge = [], [], 0.0
    while outer < 5.0:
        flow = (outer - inner) / resistance
        drive = (inner - p.oxidation_onset) / p.oxidation_scale
        oxidation = p.oxidation_current * p.area * math.exp(drive)
        inner += (flow - oxidation) / capacitance * step
        outer += RATE * step
        charge += oxidation * step
        voltage.append(outer)
        current.append(flow)
    return np.array(voltage), np.array(current), charge


def test_the_background_is_the_charging_of_the_cell(swept: LabRun, result: LsvResult) -> None:
    p = swept.cell.parameters
    charging = p.blocking_capacitance * p.area * RATE
    middle = result.background.intercept + result.background.slope * 3.1
    assert middle == pytest.approx(charging, rel=0.03)
    assert result.rate == pytest.approx(RATE, rel=1e-3)


def test_the_threshold_is_passed_where_the_law_of_the_oxidation_says(
    swept: LabRun, result: LsvResult
) -> None:
    p = swept.cell.parameters
    voltage, current, _ = expected(swept)
    above = current - p.blocking_capacitance * p.area * RATE
    truth = voltage[np.argmax(above > result.threshold * p.area)]
    # 10 mV: the noise of the current range over the slope of the current there.
    assert result.threshold_onset == pytest.approx(truth, abs=0.01)
    # The threshold is the current of the onset by its definition: in a slow sweep they coincide.
    # At this rate the oxidation first has to take over the charging, C dE/dt.
    assert 0.0 < result.threshold_onset - p.oxidation_onset < 0.06


def test_a_tenfold_threshold_is_passed_later(swept: LabRun, result: LsvResult) -> None:
    # By s ln 10 or less than s ln 10 more, where the charging is still being taken over.
    p = swept.cell.parameters
    shift = lsv(swept.record, threshold=1e-3).threshold_onset - result.threshold_onset
    assert shift == pytest.approx(p.oxidation_scale * math.log(10.0), rel=0.15)


def test_the_tangent_follows_the_end_of_the_sweep_and_says_so(
    swept: LabRun, result: LsvResult
) -> None:
    voltage, current, _ = expected(swept)
    end = int(np.searchsorted(voltage, result.tangent_voltage))
    slope = (current[end + 200] - current[end - 200]) / (voltage[end + 200] - voltage[end - 200])
    p = swept.cell.parameters
    above = current[end] - p.blocking_capacitance * p.area * RATE
    assert result.tangent_onset == pytest.approx(voltage[end] - above / slope, abs=0.02)
    assert result.flags == ("tangent at the end",)


def test_charges_are_those_that_the_cell_passed(swept: LabRun, result: LsvResult) -> None:
    p = swept.cell.parameters
    _, current, oxidised = expected(swept)
    # All of it, but the second between the last point and the open circuit.
    after = 1.5 * float(np.max(current))
    assert result.charge == pytest.approx(swept.cell.charge_passed(swept.now), abs=after + 1e-6)
    # Less what the drop over the pellet keeps from being charged: 2 % of the background's charge.
    spared = (
        p.blocking_capacitance
        * p.area
        * float(current[-1])
        * (p.separator_thickness / (p.separator_conductivity * p.area))
    )
    background = 0.02 * p.blocking_capacitance * p.area * 2.5
    assert result.reaction_charge == pytest.approx(oxidised - spared, abs=background)


def test_a_stated_resistance_takes_its_drop_off_the_voltage(
    swept: LabRun, result: LsvResult
) -> None:
    p = swept.cell.parameters
    resistance = p.separator_thickness / (p.separator_conductivity * p.area)
    corrected = lsv(swept.record, resistance=resistance)
    # (charging current + threshold) x 176 kohm
    drop = resistance * p.area * (p.blocking_capacitance * RATE + result.threshold)
    found = result.threshold_onset - corrected.threshold_onset
    assert found == pytest.approx(drop, abs=5e-3)
    assert "drop" in corrected.flags


def test_an_onset_that_is_not_there_is_not_made_up(swept: LabRun) -> None:
    high = lsv(swept.record, threshold=1.0)
    assert math.isnan(high.threshold_onset)
    assert "no onset" in high.flags


def test_a_background_outside_the_sweep_is_refused(swept: LabRun) -> None:
    with pytest.raises(BadInputError, match="there is no sweep between 0 and 1 V"):
        lsv(swept.record, background=(0.0, 1.0))


def test_a_staircase_of_a_source_meter_is_evaluated_alike(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = run_on_lab(
        sweep(
            rate="5 mV/s", end="3.7 V", window=("2.5 V", "3.7 V"), current_limit="5 mA",
            rest="1 min", step="2 mV",
        ),
        "C4",
        tmp_path_factory.mktemp("staircase"),
        poll=Poll(interval=0.5),
        record=RecordConditions(every=0.0),
    )  # fmt: skip
    result = lsv(run.record)
    assert result.rate == pytest.approx(5e-3, rel=0.01)
    # The second at the last level, before the circuit opens, passes some of it.
    last = float(result.current[-1])
    assert result.charge == pytest.approx(run.cell.charge_passed(run.now), abs=2.0 * last)
    assert "cut short" not in result.flags
