"""The default limits: which stay beside those of a recipe, and where they lie."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operando.instruments.conditions import parse
from operando.instruments.limits import Action, Limit, LimitMonitor
from operando.instruments.roles import Protection
from operando.protocols import missing_limits
from operando.protocols.sheet import DEFAULT_MARK, contradictions, default_limits, loosened

DEFAULTS = default_limits((2.5, 4.25), 3e-3, (-5.0, 5.5), 1.0)
NAMES = {"over_voltage", "under_voltage", "over_current"}


def _limit(when: str, action: Action = Action.TRIP, name: str = "it", **more: float) -> Limit:
    return Limit(name, parse(when), action, **more)


def _kept(*limits: Limit) -> set[str]:
    return {one.name.removesuffix(DEFAULT_MARK) for one in missing_limits(limits, DEFAULTS)}


@pytest.mark.parametrize(
    ("when", "guards"),
    [
        ("voltage > 4.3 V", "over_voltage"),
        ("voltage >= 3.9 V", "over_voltage"),
        ("voltage > 4.3 V or pressure > 12 MPa", "over_voltage"),
        ("voltage > 4 V and voltage > 4.2 V", "over_voltage"),
        ("voltage < 2.2 V", "under_voltage"),
        ("voltage <= 2.4 V", "under_voltage"),
        ("abs(current) > 3.6 mA", "over_current"),
        ("abs(current) >= 3 mA", "over_current"),
    ],
)
def test_a_limit_at_least_as_tight_replaces_the_default(when: str, guards: str) -> None:
    assert _kept(_limit(when)) == NAMES - {guards}
    assert _kept(_limit(when, Action.HOLD)) == NAMES - {guards}


@pytest.mark.parametrize(
    "limit",
    [
        _limit("voltage > 9 V"),
        _limit("voltage > 4.31 V"),
        _limit("voltage > 3.9 V for 1 s"),
        _limit("voltage > 3.9 V", grace=1.0),
        _limit("voltage > 3.9 V", stale_after=3600.0),
        _limit("voltage < 2.1 V"),
        _limit("voltage > 4.3 V and pressure > 12 MPa"),
        _limit("abs(current) > 4 mA"),
        _limit("abs(current) > C/10"),
        _limit("abs(current) < 1 uA"),
        _limit("current > 1 mA"),
        _limit("elapsed > 1 h"),
        _limit("voltage > 3.9 V", Action.WARN),
        _limit("voltage > 3.9 V", Action.WARN, "over_voltage"),
        _limit("pressure > 12 MPa", name="over_voltage"),
        _limit("voltage < 3 V and pressure > 1 MPa", name="under_voltage"),
    ],
    ids=str,
)
def test_a_limit_that_is_looser_slower_or_about_something_else_leaves_the_defaults(
    limit: Limit,
) -> None:
    assert _kept(limit) == NAMES


@pytest.mark.parametrize("when", ["voltage > 4.4 V", "voltage > 4.3 V for 1 s"])
def test_a_limit_of_the_same_name_replaces_the_default(when: str) -> None:
    assert _kept(_limit(when, name="over_voltage")) == NAMES - {"over_voltage"}


def test_a_limit_of_the_same_name_that_is_looser_is_told() -> None:
    loose = _limit("voltage > 4.4 V for 1 s", name="over_voltage")
    (said,) = loosened([loose], DEFAULTS)
    assert "over_voltage" in said
    assert "4.4 V" in said
    assert "4.3 V" in said
    assert loosened([_limit("voltage > 4.3 V for 1 s", name="over_voltage")], DEFAULTS) == ()
    assert loosened([_limit("voltage > 4.4 V", name="other")], DEFAULTS) == ()


_UNITS = {"voltage": "V", "abs(current)": "mA", "pressure": "MPa"}


@st.composite
def _conditions(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["plain"] * 3 + ["and", "or", "for"])) if depth else "plain"
    if kind == "plain":
        operand = draw(st.sampled_from(["voltage", "voltage", *sorted(_UNITS)]))
        bound = draw(st.sampled_from([1.9, 2.2, 2.5, 3.0, 3.6, 4.2, 4.3, 4.31, 9.0]))
        operator = draw(st.sampled_from([">", ">=", "<", "<="]))
        return f"{operand} {operator} {bound} {_UNITS[operand]}"
    inner = draw(_conditions(depth - 1))
    if kind == "for":
        return f"({inner}) for {draw(st.sampled_from([1, 3]))} s"
    return f"({inner}) {kind} ({draw(_conditions(depth - 1))})"


_limits = st.builds(
    lambda when, action, grace, stale, name: Limit(name, parse(when), action, grace, stale),
    _conditions(),
    st.sampled_from(Action),
    st.sampled_from([0.0, 0.0, 0.0, 2.0]),
    st.sampled_from([10.0, 3.0, 60.0]),
    st.sampled_from(["mine", "over_voltagee", "limit"]),
)
_values = st.sampled_from([1.0, 2.1, 2.2, 2.6, 3.61, 4.25, 4.3, 4.305, 4.5, 10.0, math.nan])


@given(st.lists(_limits, max_size=4), st.lists(st.tuples(_values, _values, _values), max_size=12))
@example([_limit("voltage > 9 V")], [(4.5, 0.0, 0.0)])
@example([_limit("voltage < 1.9 V")], [(2.1, 0.0, 0.0)])
@example([_limit("abs(current) > 9 mA")], [(3.0, 4.5, 0.0)])
@example([_limit("voltage > 3.9 V for 1 s")], [(4.5, 0.0, 0.0)])
@example([_limit("voltage > 3.9 V", grace=2.0)], [(4.5, 0.0, 0.0)])
@example([_limit("abs(current) > 3 mA", stale_after=60.0)], [(3.0, math.nan, 0.0)] * 5)
@example([_limit("voltage > 4.3 V or pressure > 1 MPa")], [(4.305, 0.0, math.nan)])
def test_no_limit_of_another_name_ever_delays_what_the_defaults_would_do(
    given_limits: list[Limit], samples: list[tuple[float, float, float]]
) -> None:
    kept = missing_limits(given_limits, DEFAULTS)
    alone = LimitMonitor(DEFAULTS)
    together = LimitMonitor([*given_limits, *kept])
    opened = False
    ages = dict.fromkeys(("voltage", "current", "pressure"), 0.0)
    for time, (voltage, current, pressure) in enumerate(samples):
        values = {"voltage": voltage, "current": 1e-3 * current, "pressure": 1e6 * pressure}
        ages = {name: ages[name] + 4.0 if math.isnan(values[name]) else 0.0 for name in ages}
        wanted = alone.update(4.0 * time, values) + alone.check_stale(4.0 * time, ages)
        acted = together.update(4.0 * time, values) + together.check_stale(4.0 * time, ages)
        opened = opened or any(firing.action is not Action.WARN for firing in acted)
        assert opened or not wanted
        if opened:
            return


@given(
    st.floats(-4.0, 5.0),
    st.floats(0.01, 3.0),
    st.floats(0.0, 10.0),
    st.tuples(st.floats(-10.0, 0.0), st.floats(0.1, 10.0)),
)
def test_default_limits_never_lie_beyond_the_cell_nor_within_the_plan(
    lower: float, width: float, current: float, voltages: tuple[float, float]
) -> None:
    window = (max(lower, voltages[0]), min(lower + width, voltages[1]))
    over, under, most = default_limits(window, current, voltages, 1.0)
    assert window[1] <= over.when.bound <= voltages[1]  # type: ignore[attr-defined]
    assert voltages[0] <= under.when.bound <= window[0]  # type: ignore[attr-defined]
    assert most.when.bound >= 1.2 * current * (1 - 1e-12)  # type: ignore[attr-defined]
    assert {one.action for one in (over, under, most)} == {Action.TRIP}


def test_default_bounds_have_few_digits() -> None:
    over, under, most = default_limits((2.5, 4.25), 3.1376e-3, (-5.0, 5.5), 1.0)
    whens = [str(one.when) for one in (over, under, most)]
    assert whens == ["voltage > 4.3 V", "voltage < 2.2 V", "abs(current) > 3.77 mA"]


def test_a_limit_that_the_plan_passes_is_told_for_people() -> None:
    told = contradictions(
        [_limit("abs(current) > 156.87999 uA", name="low")], Protection((2.5, 4.25), 3.1376e-3)
    )
    assert told == (
        "low (|current| > 156.9 µA) is below the highest current of the plan, 3.138 mA",
    )
