"""The limit sheet and the default limits."""

from __future__ import annotations

import pytest

from operando.instruments.conditions import parse
from operando.instruments.limits import Action, Limit
from operando.protocols import missing_limits


def _limit(when: str, action: Action = Action.TRIP) -> Limit:
    return Limit("it", parse(when), action)


@pytest.mark.parametrize(
    ("when", "guards"),
    [
        ("voltage > 4.3 V", "over_voltage"),
        ("voltage > 4.3 V for 1 s", "over_voltage"),
        ("voltage > 4.3 V or pressure > 12 MPa", "over_voltage"),
        ("voltage < 2 V", "under_voltage"),
        ("abs(current) > 3 mA", "over_current"),
        ("abs(current) >= 3 mA for 2 s", "over_current"),
    ],
)
def test_a_limit_guards_what_it_bounds(when: str, guards: str) -> None:
    everything = {"over_voltage", "under_voltage", "over_current"}
    assert set(missing_limits([_limit(when)])) == everything - {guards}


@pytest.mark.parametrize(
    "when",
    [
        "abs(current) < 1 uA",
        "current > 10 mA",
        "voltage > 4.3 V and pressure > 12 MPa",
        "elapsed > 1 h",
    ],
)
def test_a_limit_that_bounds_only_one_side_or_with_something_else_guards_nothing(
    when: str,
) -> None:
    assert len(missing_limits([_limit(when)])) == 3


def test_a_warning_guards_nothing() -> None:
    assert "over_voltage" in missing_limits([_limit("voltage > 4.3 V", Action.WARN)])
