"""Cycling at held conditions: the steps that conditioned_cccv asks for."""

from __future__ import annotations

from typing import Any

import pytest

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.protocols import (
    CHAMBER_TEMPERATURE,
    Cell,
    HoldPressure,
    HoldTemperature,
    Step,
    cccv,
    conditioned_cccv,
    preview,
    within,
)

CELL = Cell(CellEntry("c1", capacity=11.295, where="bench.toml line 20"))


def steps_of(**parameters: Any) -> tuple[Step, ...]:
    return preview(conditioned_cccv(**parameters), CELL).steps


def test_it_presses_warms_up_and_then_is_cccv() -> None:
    press, warm, *cycle = steps_of(hold_pressure=True, cycles=2, soak="30 min", patience="3 h")
    assert isinstance(press, HoldPressure)
    assert (press.pressure, press.maximum) == (5e6, 6e6)
    assert press.slew == pytest.approx(1e6 / 60.0)
    assert isinstance(warm, HoldTemperature)
    assert warm.temperature == pytest.approx(333.15)
    steady = within(CHAMBER_TEMPERATURE, warm.temperature, 0.5).held("30 min")
    assert warm.until == (steady, ELAPSED >= "3 h")
    same = cccv(cycles=2, charge_rate="C/10", discharge_rate="C/10", formation_rate="C/10")
    assert cycle == list(preview(same, CELL).steps)


def test_each_condition_can_be_left_out() -> None:
    kinds = [type(step) for step in steps_of(hold_temperature=False, hold_pressure=True)]
    assert (HoldTemperature in kinds, HoldPressure in kinds) == (False, True)
    kinds = [type(step) for step in steps_of()]
    assert (HoldTemperature in kinds, HoldPressure in kinds) == (True, False)


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"hold_temperature": False}, "else take cccv"),
        ({"soak": "0 s"}, "soak: must be more than 0 s"),
        ({"soak": "5 h"}, "shorter than patience"),
        ({"hold_pressure": True, "pressure": "7 MPa"}, "not above the maximum"),
        ({"temperature_tolerance": "0 K"}, "positive tolerance"),
    ],
)
def test_what_cannot_be_meant_is_refused(parameters: dict[str, Any], found: str) -> None:
    with pytest.raises(BadInputError, match=found):
        steps_of(**parameters)


def test_every_parameter_has_a_meaning_of_its_own() -> None:
    meanings = [row["meaning"] for row in conditioned_cccv.parameter_table()]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings) > 10
