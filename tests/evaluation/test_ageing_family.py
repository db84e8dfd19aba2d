"""Holds, storage and check-ups on the example laboratory, against a twin of the simulated cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.evaluation.calendar_ageing import calendar_ageing as evaluate_calendar_ageing
from operando.evaluation.pulses import pulses as evaluate_pulses
from operando.evaluation.self_discharge import self_discharge as evaluate_self_discharge
from operando.evaluation.voltage_hold import voltage_hold as evaluate_hold
from operando.protocols.calendar_ageing import calendar_ageing
from operando.protocols.self_discharge import self_discharge
from operando.protocols.voltage_hold import voltage_hold
from support.twins import DAY, HOUR, LOWER, UPPER, driven, on_lab, pulsed, side_charge, twin


def test_a_voltage_hold_finds_the_current_that_leaks(tmp_path: Path) -> None:
    """This cell of the batch leaks more than most, which an operator would want to see."""
    plan = voltage_hold(hold="30 h", holds=1, cycles=1, rate="C/2")
    run = on_lab(plan, "C3", tmp_path, poll=60.0)
    result = evaluate_hold(run.record)
    same = twin("ncm811-bare", 33)
    resistances = []
    for holding in (False, True, False):
        same.half(0.5, UPPER, down_to=0.02)
        if holding:
            same.cell.source_voltage(same.now, UPPER, same.current(0.04))
            same.now += 27.0 * HOUR
            before, passed = side_charge(same), same.cell.charge_passed(same.now)
            same.now += 3.0 * HOUR
            side = (side_charge(same) - before) / (3.0 * HOUR)
            assert same.cell.charge_passed(same.now) - passed == pytest.approx(
                3.0 * HOUR * side, rel=1e-3
            )  # nothing else flows by then
        same.rest(HOUR)
        resistances += pulsed(same, -same.current(0.5), (10.0,))
        same.rest(10.0)
        same.half(0.5, LOWER)
        same.rest(HOUR)
    (hold,) = result.holds
    assert hold.flags == ()
    assert hold.duration == pytest.approx(30.0 * HOUR, abs=1.0)
    # 0.02 % of the reading and its offset in the 1 mA range: 0.1 uA of 44 uA.
    assert hold.leakage_current == pytest.approx(side, abs=0.1e-6)
    found = [one.resistance for one in result.cycles]
    # A poll of 60 s leaves the charge before a pulse uncertain by 0.05C s, and 0.5 % of resistance.
    assert found == pytest.approx(resistances, rel=5e-3)
    assert hold.resistance_growth == pytest.approx(found[2] - found[0])
    assert [one.held for one in result.cycles] == [False, True, False]


def test_a_voltage_hold_with_spectra_finds_the_resistance_of_the_cell(tmp_path: Path) -> None:
    plan = voltage_hold(
        hold="10 min", holds=1, cycles=1, rate="1C", cv_cutoff="C/5", rest="5 min",
        spectra=True, highest_frequency="100 kHz", lowest_frequency="0.3 Hz",
    )  # fmt: skip
    run = on_lab(plan, "D8", tmp_path, poll=10.0)
    result = evaluate_hold(run.record)
    assert len(run.record.spectra()) == 3
    same = twin("ncm811-caec", 0)
    same.half(1.0, UPPER, down_to=0.2)
    same.rest(900.0)
    # At C/10 charge transfer is linear to 0.2 %, and within a millisecond nothing diffuses.
    (resistance,) = pulsed(same, -same.current(0.1), (1e-3,))
    # The fit tells the last arc from the diffusion that joins it, as well as the spectrum is
    # consistent: its Kramers-Kronig residual is about 1 %.
    assert result.cycles[0].spectrum_resistance == pytest.approx(resistance, rel=0.015)
    assert result.holds[0].flags == ("not steady",)  # ten minutes are short for a hold


def test_self_discharge_finds_the_charge_that_leaks(tmp_path: Path) -> None:
    plan = self_discharge(storage="10 d", cycles=2)
    run = on_lab(plan, "C4", tmp_path, poll=60.0)
    result = evaluate_self_discharge(run.record)
    same = twin("ncm811-caec", 34)
    for cycle in (1, 2, 3):
        same.half(0.1, UPPER, down_to=0.02)
        if cycle < 3:
            same.rest(HOUR)
            same.half(0.1, LOWER)
            same.rest(HOUR)
    before = side_charge(same)
    same.rest(5.0 * DAY)
    middle = side_charge(same)
    same.rest(5.0 * DAY)
    leaked, late = side_charge(same) - before, side_charge(same) - middle
    assert result.flags == ()
    # Each of the two discharges ends within a poll of 60 s, 0.019 C, and the cell goes on losing
    # a little between them.
    assert result.reversible == pytest.approx(leaked, abs=0.04)
    assert result.lost == pytest.approx(result.reversible + result.irreversible)
    assert result.lost > result.reversible
    # dQ/dV is steep near the top, and the polarisation there is taken from half of the capacity.
    assert result.drift_current == pytest.approx(late / (5.0 * DAY), rel=0.15)


def test_calendar_ageing_finds_capacity_and_resistance_of_each_check_up(tmp_path: Path) -> None:
    plan = calendar_ageing(storages=1, interval="10 d", rate="C/5", cv_cutoff="C/10")
    run = on_lab(plan, "C4", tmp_path, poll=30.0, every=1800.0)
    result = evaluate_calendar_ageing(run.record)
    same = twin("ncm811-caec", 34)
    expected = []
    for check_up in (1, 2):
        if check_up == 2:
            left = same.half(0.2, LOWER).charge
            same.rest(HOUR)
        same.half(0.2, UPPER, down_to=0.1)
        same.rest(HOUR)
        capacity = same.half(0.2, LOWER).charge
        same.rest(HOUR)
        driven(same, same.current(0.2), 0.8 * capacity / same.current(0.2))
        same.rest(HOUR)
        expected.append((capacity, *pulsed(same, -same.current(0.5), (10.0,))))
        same.rest(10.0)
        if check_up == 1:
            same.rest(10.0 * DAY)
    first, second = result.check_ups
    for one, (capacity, resistance) in zip(result.check_ups, expected, strict=True):
        assert one.flags == ()
        # A poll of 30 s at C/5 is 0.17 % of the charge.
        assert one.capacity == pytest.approx(capacity, rel=1.7e-3)
        assert one.resistance == pytest.approx(resistance, rel=3e-3)
    assert second.stored == pytest.approx(10.0 * DAY, abs=1.0)
    assert second.left == pytest.approx(left, rel=1.7e-3)
    assert second.resistance > 1.02 * first.resistance  # it has aged, so the comparison says so


def test_a_chamber_is_told_of_and_a_state_of_charge_that_was_not_reached_is_flagged(
    tmp_path: Path,
) -> None:
    plan = calendar_ageing(
        storages=1, interval="1 h", rate="1C", cv_cutoff="C/2", rest="5 min", state="95 %",
        hold_temperature=True, soak="5 min",
    )  # fmt: skip
    run = on_lab(plan, "B1", tmp_path, poll=60.0)
    first, second = evaluate_calendar_ageing(run.record).check_ups
    # At 1C from empty the end of the window comes before 95 %.
    assert "state of charge not reached" in first.flags
    # Check-ups at 30 degC, within the tolerance that was waited for, and warmer between.
    assert [first.temperature, second.temperature] == pytest.approx([303.15] * 2, abs=0.5)
    assert max(run.record.aux("chamber_temperature")["value"]) == pytest.approx(318.15, abs=0.5)


def test_a_record_without_the_experiment_gives_nothing_and_says_so(make_record: Any) -> None:
    record = make_record()
    stored = evaluate_self_discharge(record)
    assert "incomplete" in stored.flags
    assert np.isnan([stored.lost, stored.mean_current, stored.drift_current]).all()
    assert evaluate_hold(record).holds == ()
    assert evaluate_calendar_ageing(record).check_ups == ()
    assert evaluate_pulses(record).states == ()
    assert stored.rows()
