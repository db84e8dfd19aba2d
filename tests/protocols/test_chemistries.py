"""Defaults by what a cell is made of, and default limits of every window."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operando.instruments.bench import PLAUSIBLE_VOLTAGES, CellEntry
from operando.instruments.conditions import ELAPSED, voltage_bound
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Action, LimitMonitor
from operando.protocols import HoldTemperature, default_limits, missing_limits
from operando.protocols.chemistries import (
    CHEMISTRIES,
    chemistry_limits,
    chemistry_of,
    with_chemistry,
)
from operando.protocols.sheet import CURRENT_AT_REST, unguarded

LITHIUM = CHEMISTRIES["ncm811-li"]
windows = st.tuples(st.floats(-4.0, 5.0), st.floats(-4.0, 5.0)).filter(
    lambda ends: ends[0] + 1e-3 < ends[1]
)


@given(windows, st.floats(0.0, 1.0))
@example((0.0, 4.25), 1e-3)
@example((-0.5, 0.5), 1e-3)
@example((-0.5, 0.0), 0.0)
@example((-2.0, -1.0), 1e-3)
@example((2.5, 4.35), 1e-3)
def test_default_limits_guard_every_window_from_outside(
    window: tuple[float, float], current: float
) -> None:
    limits = default_limits(window, current, PLAUSIBLE_VOLTAGES, 1.0)
    assert unguarded(limits) == ()
    highest = voltage_bound([limit.when for limit in limits], 1)
    lowest = voltage_bound([limit.when for limit in limits], -1)
    assert highest is not None
    assert lowest is not None
    assert lowest < window[0] < window[1] < highest
    monitor = LimitMonitor(limits)
    for voltage in window:
        assert monitor.update(0.0, {"voltage": voltage, "current": current}) == []
    for voltage in (highest + 1e-3, lowest - 1e-3):
        assert LimitMonitor(limits).update(0.0, {"voltage": voltage, "current": 0.0})
    most = 1.3 * current + 2.0 * CURRENT_AT_REST
    for sign in (1.0, -1.0):
        assert LimitMonitor(limits).update(0.0, {"voltage": window[0], "current": sign * most})


def test_a_cut_off_of_exactly_zero_has_room_for_noise_and_none_for_reversal() -> None:
    limits = default_limits((0.0, 4.25), 1e-3, LITHIUM.voltage_range, 1.0)
    assert LimitMonitor(limits).update(0.0, {"voltage": -0.005, "current": -1e-3}) == []
    assert LimitMonitor(limits).update(0.0, {"voltage": -0.06, "current": -1e-3})


@pytest.mark.parametrize("name", CHEMISTRIES)
def test_each_chemistry_accepts_only_what_it_may_be(name: str) -> None:
    chemistry = CHEMISTRIES[name]
    assert chemistry.voltage_range[0] <= chemistry.open_circuit[0] < chemistry.open_circuit[1]
    assert chemistry.open_circuit[1] <= chemistry.voltage_range[1]
    assert PLAUSIBLE_VOLTAGES[0] <= chemistry.voltage_range[0]
    assert chemistry.voltage_range[1] <= PLAUSIBLE_VOLTAGES[1]


@pytest.mark.parametrize("voltage", [2.5, 2.7, 4.25, 4.35])
def test_a_full_cell_is_accepted_as_assembled_and_charged(voltage: float) -> None:
    low, high = LITHIUM.open_circuit
    assert low < voltage < high
    low, high = CHEMISTRIES["ncm811-in"].open_circuit
    assert low < voltage - 0.62 < high


def test_a_cell_without_chemistry_is_as_it_was_written() -> None:
    cell = CellEntry("c1", "")
    assert chemistry_of(cell) is None
    assert with_chemistry(cell) == cell


def test_a_range_that_is_written_takes_the_place_of_that_of_the_chemistry() -> None:
    cell = CellEntry("c1", "", chemistry="ncm811-li")
    assert with_chemistry(cell).voltage_range == LITHIUM.voltage_range
    written = CellEntry("c1", "", chemistry="ncm811-li", voltage_range=(0.0, 5.0))
    assert with_chemistry(written) == written


def test_an_unknown_chemistry_is_refused_with_those_there_are() -> None:
    cell = CellEntry("c1", "bench.toml line 3", chemistry="ncm811-ly")
    with pytest.raises(BadInputError, match=r'line 3: \[cells.c1\].*"ncm811-li".*blocking-pellet'):
        with_chemistry(cell)


def test_limits_are_of_what_the_channel_measures() -> None:
    names = {"temperature", "chamber_temperature", "pressure"}
    for measured in ((), ("pressure",), ("temperature", "chamber_temperature"), tuple(names)):
        limits = chemistry_limits(LITHIUM, measured, (), 1.0)
        assert {name for limit in limits for name in limit.when.quantities} == set(measured)
        assert all(limit.action is Action.TRIP for limit in limits)
    assert chemistry_limits(CHEMISTRIES["ncm811-in"], ("pressure",), (), 1.0) == ()


@pytest.mark.parametrize(("asked", "bound"), [(333.15, 353.15), (373.15, 383.15)])
def test_no_default_limit_of_temperature_stands_where_the_plan_goes(
    asked: float, bound: float
) -> None:
    step = HoldTemperature(asked, (ELAPSED >= 60.0,))
    (limit,) = chemistry_limits(LITHIUM, ("chamber_temperature",), (step,), 1.0)
    below, above = ({"chamber_temperature": bound + delta} for delta in (-0.1, 0.1))
    assert LimitMonitor([limit]).update(0.0, below) == []
    assert LimitMonitor([limit]).update(0.0, above)


def test_a_recipe_that_names_the_limit_has_its_own() -> None:
    (default,) = chemistry_limits(LITHIUM, ("pressure",), (), 1.0)
    (own,) = chemistry_limits(CHEMISTRIES["steel-li"], ("pressure",), (), 1.0)
    assert missing_limits([own], [default]) == ()
    assert math.isfinite(default.stale_after)
