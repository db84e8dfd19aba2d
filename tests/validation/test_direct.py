"""A simulated cell driven without instruments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from operando.simulators.cell import load_preset
from operando.validation.direct import (
    CellFailedError,
    DirectCell,
    cycling,
    direct_resistance,
    gap_at_half,
    half_charged,
)


def test_a_half_cycle_ends_at_its_voltage_and_the_curve_has_the_same_charge() -> None:
    ends, curve = DirectCell("ncm811-caec"), DirectCell("ncm811-caec")
    short, long = ends.half(0.5, 4.25), curve.half(0.5, 4.25, polls=200)
    assert short.voltage[-1] == pytest.approx(4.25, abs=1e-6)
    assert long.charge == pytest.approx(short.charge, rel=1e-6)
    assert len(long.passed) > 50 > len(short.passed)


def test_a_hold_ends_at_its_current() -> None:
    cell = DirectCell("ncm811-caec")
    cell.half(0.5, 4.25, down_to=0.05)
    assert cell.cell.terminal(cell.now).current == pytest.approx(cell.current(0.05), rel=1e-3)


def test_a_hold_that_never_ends_is_a_failure_that_says_so() -> None:
    with pytest.raises(CellFailedError, match=r"0.5C to 4.25 V, held down to 1e-07C, did not end"):
        DirectCell("ncm811-caec").half(0.5, 4.25, down_to=1e-7)


def test_a_gap_needs_a_curve() -> None:
    first, middle, last = cycling(DirectCell("ncm811-caec"), 3, 4.25)
    assert gap_at_half(first) > 0.0
    assert gap_at_half(last) > 0.0
    with pytest.raises(ValueError, match="ask for polls"):
        gap_at_half(middle)


def test_half_charged_is_the_lithium_content_that_was_asked_for() -> None:
    cell = DirectCell("ncm811-caec")
    half_charged(cell)
    assert cell.cell.lithiation(cell.now) == pytest.approx(0.5, abs=2e-3)
    assert direct_resistance(cell) > cell.cell.charge_transfer_resistance(cell.now)


@pytest.mark.parametrize(
    ("preset", "loading"), [("ncm811-caec-half", 0.5), ("ncm811-caec-double", 2.0)]
)
def test_another_loading_has_its_share_of_the_coatings_mass(preset: str, loading: float) -> None:
    one, other = load_preset("ncm811-caec").parameters, load_preset(preset).parameters
    mass = other.coating_coverage * other.coating_thickness
    # The presets give coverage and thickness to four digits.
    whole = loading * one.coating_coverage * one.coating_thickness
    assert mass == pytest.approx(whole, rel=1e-3)
    # The uncovered share falls exponentially with the loading, as when patches land anywhere.
    uncovered = (1.0 - one.coating_coverage) ** loading
    assert 1.0 - other.coating_coverage == pytest.approx(uncovered, rel=1e-3)
    kept = replace(
        other, coating_coverage=one.coating_coverage, coating_thickness=one.coating_thickness
    )
    assert kept == one
