"""Retention, polarisation and differential capacity of ideal cells whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from operando.evaluation import cccv
from operando.evaluation.cycling import (
    differential_capacity,
    gap_at_half,
    halves_of,
    least_efficiency,
    main_peak,
    polarisation_growth,
    retention,
)
from operando.evaluation.half_cycles import read_cycling
from operando.instruments.errors import BadInputError

MakeRecord = Any


def test_retention_is_the_last_discharge_over_the_first(make_record: MakeRecord) -> None:
    result = cccv(make_record(make_record.cell(fade=0.1, cycles=3, held=0.0)))
    # Ends of the constant current lie on the grid of samples: 0.1 % of the charge.
    assert retention(result) == pytest.approx(0.81, rel=3e-3)
    assert retention(result, 2) == pytest.approx(0.9, rel=3e-3)
    assert retention(result, 1, 2) == pytest.approx(0.9, rel=3e-3)


def test_a_cycle_that_is_not_there_is_told(make_record: MakeRecord) -> None:
    record = make_record()
    with pytest.raises(BadInputError, match=r"no cycle 7 \(has \[1, 2\]\)"):
        retention(cccv(record), 1, 7)
    with pytest.raises(BadInputError, match=r"discharge of cycle 7 \(has \[1, 2\]\)"):
        gap_at_half(record, 7)


def test_the_least_efficiency_is_of_single_cycles_or_of_running_means(
    make_record: MakeRecord,
) -> None:
    result = cccv(make_record(make_record.cell(cycles=2, efficiency=0.98)))
    first, second = result.cycles
    worse = replace(second, discharge_capacity=0.9 * second.charge_capacity)
    result = replace(result, cycles=(first, worse, replace(first, cycle=3)))
    assert least_efficiency(result) == pytest.approx(0.9)
    assert least_efficiency(result, averaged=3) == pytest.approx((2 * 0.98 + 0.9) / 3, rel=1e-5)
    assert least_efficiency(result, first=3) == pytest.approx(0.98, rel=1e-5)
    assert np.isnan(least_efficiency(result, first=3, averaged=2))


def test_the_gap_is_taken_at_half_of_each_halfs_own_charge(make_record: MakeRecord) -> None:
    # Without a hold: 3.6 V at half of the charge, and 0.1 V below it at half of the discharge,
    # whatever the efficiency.
    cell = make_record.cell(held=0.0, efficiency=0.9, cycles=2)
    record = make_record(cell)
    assert gap_at_half(record, 1) == pytest.approx(0.1, abs=1e-3)
    assert polarisation_growth(record, 1, 2) == pytest.approx(0.0, abs=1e-3)
    wide = make_record(make_record.cell(name="wide", held=0.0, drop=0.25))
    assert gap_at_half(wide, 1) == pytest.approx(0.25, abs=1e-3)


def test_a_straight_discharge_has_one_differential_capacity(make_record: MakeRecord) -> None:
    record = make_record()
    cycling = read_cycling(record)
    _, _, down, _ = halves_of(cycling, 1)
    expected = -down.charge / 1.2  # from 4.1 V to 2.9 V, C/V
    found = differential_capacity(cycling, 1, window=(3.0, 4.0))
    assert found.capacity == pytest.approx(expected, rel=1e-3)
    assert found.voltage[0] == pytest.approx(3.01)
    assert main_peak(record, 1) == pytest.approx(expected, rel=1e-3)


def test_the_charge_has_its_own_differential_capacity(make_record: MakeRecord) -> None:
    record = make_record(make_record.cell(held=0.0))
    up, *_ = halves_of(record, 1)
    found = differential_capacity(record, 1, charging=True, window=(3.1, 4.1))
    assert found.capacity == pytest.approx(up.charge / 1.2, rel=1e-2)
