"""Steps for chamber and press: what they accept, and what they are to a cell."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from operando.instruments.conditions import ELAPSED, PRESSURE, parse
from operando.instruments.errors import BadInputError
from operando.instruments.roles import OpenCircuit
from operando.protocols import CHAMBER_TEMPERATURE, HoldPressure, HoldTemperature, within
from operando.protocols.steps import describe, problem_with, step_hash

ENDS = (ELAPSED >= 60.0,)


@pytest.mark.parametrize(
    "step", [HoldTemperature(333.15, ENDS), HoldPressure(5e6, 1e5, 6e6, ENDS)], ids=type
)
def test_to_the_cell_it_is_a_rest(step: HoldTemperature | HoldPressure) -> None:
    assert problem_with(step) == ""
    assert step.setpoint(4.75) == OpenCircuit(4.75)
    assert (step.direction, step.cutoff) == (0, None)
    assert str(step).startswith("open circuit, ")


@pytest.mark.parametrize("kelvins", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(kelvins: float) -> None:
    with pytest.raises(BadInputError, match=r"step 'hold temperature'.*positive number of K"):
        HoldTemperature(kelvins, ENDS)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: HoldPressure(-1.0, 1e5, 6e6, ENDS), "from 0 Pa up"),
        (lambda: HoldPressure(7e6, 1e5, 6e6, ENDS), "not above the maximum"),
        (lambda: HoldPressure(math.nan, 1e5, 6e6, ENDS), "must be finite"),
        (lambda: HoldPressure(5e6, 1e5, math.inf, ENDS), "must be finite"),
        (lambda: HoldPressure(5e6, 0.0, 6e6, ENDS), "slew must be a positive"),
        (lambda: HoldPressure(5e6, math.nan, 6e6, ENDS), "slew must be a positive"),
    ],
)
def test_a_pressure_that_cannot_be_meant_is_refused(
    make: Callable[[], HoldPressure], found: str
) -> None:
    with pytest.raises(BadInputError, match=found):
        make()


def test_the_journal_tells_all_that_is_asked_for_and_a_hash_tells_two_apart() -> None:
    step = HoldPressure(5e6, 1e5, 6e6, ENDS, label="press")
    data = describe(step)
    assert {name: data[name] for name in ("kind", "pressure", "slew", "maximum", "label")} == {
        "kind": "HoldPressure", "pressure": 5e6, "slew": 1e5, "maximum": 6e6, "label": "press",
    }  # fmt: skip
    assert step_hash(step) != step_hash(HoldPressure(5e6, 1e5, 7e6, ENDS, label="press"))


def test_people_read_it_in_their_units() -> None:
    assert str(HoldTemperature(333.15, ENDS)) == "open circuit, chamber at 60.00 °C"
    words = str(HoldPressure(5e6, 1e5, 6e6, ENDS))
    assert words == "open circuit, stack at 5.000 MPa by 100.0 kPa/s, at most 6.000 MPa"


def test_within_is_a_condition_that_can_be_written_in_a_recipe() -> None:
    steady = within(CHAMBER_TEMPERATURE, 333.15, 0.5).held("10 min")
    assert parse(str(steady)) == steady
    near = within(PRESSURE, 5e6, 1e5).evaluator()
    found = [near.update(0.0, {"pressure": one}) for one in (4.8e6, 4.95e6, 5.1e6, 5.2e6, math.nan)]
    assert found == [False, True, True, False, False]


@pytest.mark.parametrize("tolerance", [0.0, -0.5, math.nan])
def test_within_needs_a_tolerance(tolerance: float) -> None:
    with pytest.raises(BadInputError, match="positive tolerance"):
        within(PRESSURE, 5e6, tolerance)
