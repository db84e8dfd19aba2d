"""Cycling, rate test and pulses on the example laboratory, against a twin of the simulated cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.evaluation.cccv import cccv as evaluate_cccv
from operando.evaluation.hold import conditioned_cccv as evaluate_conditioned
from operando.evaluation.pulses import pulses as evaluate_pulses
from operando.evaluation.rate_capability import rate_capability as evaluate_rates
from operando.protocols.hold import conditioned_cccv
from operando.protocols.pulses import pulses
from operando.protocols.rate_capability import rate_capability
from support.twins import LOWER, UPPER, driven, on_lab, pulsed, twin


def test_a_rate_test_finds_the_capacities_of_the_cell(tmp_path: Path) -> None:
    plan = rate_capability(
        rates="1C, 2C", cycles_per_rate=1, recovery_cycles=1, recovery_rate="1C",
        charge_rate="1C", cv_cutoff="0.2C",
    )  # fmt: skip
    run = on_lab(plan, "C4", tmp_path, poll=2.0, every=60.0)
    result = evaluate_rates(run.record)
    same = twin("ncm811-caec", 34)
    capacities, net = [], 0.0
    for rate in (1.0, 2.0, 1.0):
        net += same.half(1.0, UPPER, down_to=0.2).charge
        same.rest(600.0)
        capacities.append(same.half(rate, LOWER).charge)
        net -= capacities[-1]
        same.rest(600.0)
    assert [one.rate * 3600.0 for one in result.rates] == pytest.approx([1.0, 2.0, 1.0])
    assert [one.recovery for one in result.rates] == [False, False, True]
    # The end of a discharge is seen within a poll of 2 s: 0.11 % of the charge at 2C.
    assert [one.capacity for one in result.rates] == pytest.approx(capacities, rel=1.1e-3)
    assert result.capability(result.rates[1]) == pytest.approx(
        capacities[1] / capacities[0], rel=1.1e-3
    )
    assert result.recovery == pytest.approx(capacities[2] / capacities[0], rel=1.1e-3)
    assert result.rates[1].capacity < 0.95 * result.rates[0].capacity
    # Charge in and out against the cell's own count: what passes between the last reading of a
    # step and its end is at most 2 s of current each.
    cycles = evaluate_cccv(run.record).cycles
    counted = sum(one.charge_capacity - one.discharge_capacity for one in cycles)
    assert counted == pytest.approx(run.cell.charge_passed(run.now), abs=0.02)
    assert all(one.flags == () for one in result.rates)


def test_a_cycler_runs_a_rate_test_on_board(tmp_path: Path) -> None:
    plan = rate_capability(
        rates="2C", cycles_per_rate=1, recovery_cycles=0, charge_rate="2C", cv_cutoff="0.5C",
        rest="1 min",
    )  # fmt: skip
    run = on_lab(plan, "A5", tmp_path, poll=10.0, every=60.0)
    assert set(run.record.samples(columns=["origin"])["origin"]) == {"instrument"}
    (found,) = evaluate_rates(run.record).rates
    (cycle,) = evaluate_cccv(run.record).cycles
    # Two ends within the row a second that it stores, of 6.3 mA.
    left = run.cell.charge_passed(run.now)
    assert cycle.charge_capacity - found.capacity == pytest.approx(left, abs=2 * 6.3e-3)
    same = twin("ncm811-lno", 5)
    same.half(2.0, UPPER, down_to=0.5)
    same.rest(60.0)
    # It stores a row a second: 0.06 % of the charge at 2C.
    assert found.capacity == pytest.approx(same.half(2.0, LOWER).charge, rel=6e-4)


def test_pulses_find_the_resistance_at_each_state_of_charge(tmp_path: Path) -> None:
    plan = pulses(states="80 %, 40 %", rate="1C", cv_cutoff="0.5C", rest="10 min")
    run = on_lab(plan, "C4", tmp_path, poll=1.0, every=60.0)
    result = evaluate_pulses(run.record)
    same = twin("ncm811-caec", 34)
    same.half(1.0, UPPER, down_to=0.5)
    same.rest(600.0)
    capacity = same.half(1.0, LOWER).charge
    same.rest(600.0)
    same.half(1.0, UPPER, down_to=0.5)
    same.rest(600.0)
    assert result.capacity == pytest.approx(capacity, rel=5e-4)  # a poll of 1 s at 1C: 0.03 %
    one_c, left = same.current(1.0), capacity
    for found, state in zip(result.states, (0.8, 0.4), strict=True):
        driven(same, -one_c, (left - state * capacity) / one_c)
        left = state * capacity - 2.5 * one_c
        voltage = same.rest(600.0)
        assert found.state == pytest.approx(state, abs=5e-4)
        assert found.open_circuit_voltage == pytest.approx(voltage, abs=1e-3)
        for pulse, current in ((found.discharge, -one_c), (found.charge, 0.75 * one_c)):
            assert pulse is not None
            instant, second, end = pulsed(same, current, (1e-3, 1.0, 10.0))
            same.rest(40.0)
            assert pulse.flags == ()
            assert pulse.current == pytest.approx(current, rel=1e-3)
            # The first reading comes within 0.2 s, in which diffusion adds 1 % to what the model
            # has at once; the others differ by the source meter's 0.1 % and its noise.
            assert pulse.first_time < 0.2
            assert instant < pulse.first_resistance < 1.011 * instant
            assert pulse.resistance_1s == pytest.approx(second, rel=5e-3)
            assert pulse.end_resistance == pytest.approx(end, rel=2e-3)
        assert found.discharge is not None
        power = LOWER * (voltage - LOWER) / found.discharge.end_resistance
        assert found.discharge_power == pytest.approx(power, rel=1e-3)


def test_cycles_at_a_held_pressure_are_reported_with_it(tmp_path: Path) -> None:
    plan = conditioned_cccv(
        hold_temperature=False, hold_pressure=True, pressure="8.5 MPa", maximum_pressure="9 MPa",
        soak="5 min", patience="1 h", charge_rate="1C", discharge_rate="1C", cv_cutoff="0.2C",
    )  # fmt: skip
    run = on_lab(plan, "C1", tmp_path, poll=10.0, every=30.0)
    result = evaluate_conditioned(run.record)
    assert result.temperature is None
    assert result.pressure is not None
    assert (result.pressure.asked, result.pressure.tolerance) == (8.5e6, 1e5)
    # The press holds it with its own 0.1 % or so.
    assert result.pressure.mean == pytest.approx(run.cell.stack_pressure, rel=1e-3)
    assert result.pressure.within == 1.0
    assert result.flags == ()
    assert len(result.cycling.cycles) == 1


def test_cycles_at_a_held_temperature_are_reported_with_it(tmp_path: Path) -> None:
    plan = conditioned_cccv(
        temperature="45 degC", soak="10 min", patience="2 h", charge_rate="1C",
        discharge_rate="1C", cv_cutoff="0.2C",
    )  # fmt: skip
    run = on_lab(plan, "B1", tmp_path, poll=10.0, every=30.0)
    held = evaluate_conditioned(run.record).temperature
    assert held is not None
    assert held.flags == ()
    assert held.mean == pytest.approx(run.cell.temperature, abs=0.1)  # what the chamber resolves
    assert held.lowest <= 318.15 <= held.highest


def test_a_condition_that_was_not_reached_is_flagged(tmp_path: Path) -> None:
    plan = conditioned_cccv(
        temperature="60 degC", temperature_tolerance="0.1 K", soak="1 min", patience="2 min",
        charge_rate="2C", discharge_rate="2C", cv_cutoff="0.5C", rest="1 min",
    )  # fmt: skip
    run = on_lab(plan, "B1", tmp_path, poll=10.0, every=30.0)
    result = evaluate_conditioned(run.record)
    assert result.flags == (
        "temperature not steady when the cycles began",
        "temperature outside its tolerance",
    )
