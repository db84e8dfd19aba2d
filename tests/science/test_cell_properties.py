"""Directions in which the cell must answer anywhere between the points of the papers.

Every test draws a cell and a pair of conditions; nothing here is a published number. Where the
answer has an optimum, the test says which two effects make it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from operando.simulators.cell import CellParameters, SimulatedCell, cycle, load_preset

CYCLES = 12
PRESETS = st.sampled_from(["ncm811-caec", "ncm811-lno", "ncm811-bare"])
COVERAGES = st.floats(0.0, 0.95)
CUT_OFFS = st.floats(4.0, 4.45)
RATES = st.floats(0.1, 2.0)

few = settings(max_examples=15, deadline=None)


def kept(
    parameters: CellParameters,
    *,
    upper: float = 4.25,
    rate: float = 0.5,
    kelvin: float = 303.15,
) -> tuple[float, float]:
    """Capacity (C) of the first cycle after formation and what is left of it after some more."""
    cell = SimulatedCell(parameters)
    now = next(cycle(cell, 0.0, lower=2.5, upper=4.25, rate=0.1)).end
    cell.set_temperature(now, kelvin)
    run = list(cycle(cell, now, lower=2.5, upper=upper, rate=rate, cutoff_rate=0.05, cycles=CYCLES))
    return run[0].discharged, run[-1].discharged / run[0].discharged


def cell_of(preset: str) -> CellParameters:
    return load_preset(preset).parameters


@few
@given(preset=PRESETS, coverage=COVERAGES, low=CUT_OFFS, high=CUT_OFFS, rate=st.floats(0.2, 1.0))
def test_a_higher_cut_off_always_gives_more_and_keeps_less(
    preset: str, coverage: float, low: float, high: float, rate: float
) -> None:
    assume(high - low > 0.01)
    p = replace(cell_of(preset), coating_coverage=coverage)
    (less, longer), (more, shorter) = (kept(p, upper=v, rate=rate) for v in (low, high))
    assert more > less
    assert shorter < longer


@few
@given(preset=PRESETS, slow=RATES, fast=RATES)
def test_a_faster_cycle_always_gives_less(preset: str, slow: float, fast: float) -> None:
    assume(fast > 1.05 * slow)
    p = cell_of(preset)
    assert kept(p, rate=fast)[0] < kept(p, rate=slow)[0]


@few
@given(preset=PRESETS, slow=st.floats(0.5, 2.0), fast=st.floats(0.5, 2.0))
def test_a_faster_cycle_keeps_less_where_strain_outweighs_time(
    preset: str, slow: float, fast: float
) -> None:
    # Slower than about C/2 a cycle lasts long enough for the interphase to cost more than haste
    # does: there an optimum is physical, and none is asked for.
    assume(fast > 1.1 * slow)
    p = cell_of(preset)
    assert kept(p, rate=fast)[1] < kept(p, rate=slow)[1]


@few
@given(preset=PRESETS, low=st.floats(5e5, 3e7), high=st.floats(5e5, 3e7), rate=st.floats(0.2, 1.0))
def test_pressure_always_keeps_more(preset: str, low: float, high: float, rate: float) -> None:
    # Monotone here: shorts by creep and cracks by pressure, which make an optimum in real cells,
    # belong to the symmetric cells and are not in this one.
    assume(high > 1.1 * low)
    p = cell_of(preset)
    soft, firm = (replace(p, stack_pressure=pressure) for pressure in (low, high))
    assert kept(soft, rate=rate)[1] < kept(firm, rate=rate)[1]


@few
@given(little=COVERAGES, much=COVERAGES, upper=st.floats(4.1, 4.4), rate=st.floats(0.2, 1.0))
def test_coverage_always_has_more_left(
    little: float, much: float, upper: float, rate: float
) -> None:
    # In charge; as a share from 4.25 V on. On the plateau near 4.2 V a few mV of overpotential
    # decide how deep a charge goes: a poorly covered cell is used less there, which spares it.
    assume(much > little + 0.03)
    p = cell_of("ncm811-caec")
    poor, good = (
        kept(replace(p, coating_coverage=c), upper=upper, rate=rate) for c in (little, much)
    )
    assert poor[0] * poor[1] < good[0] * good[1]
    if upper >= 4.25:
        assert poor[1] < good[1]


@few
@given(preset=PRESETS, cold=st.floats(283.0, 343.0), warm=st.floats(283.0, 343.0))
def test_warmth_always_gives_more_at_once(preset: str, cold: float, warm: float) -> None:
    assume(warm > cold + 2.0)
    p = cell_of(preset)
    assert kept(p, kelvin=warm)[0] > kept(p, kelvin=cold)[0]


@pytest.mark.parametrize("preset", ["ncm811-caec", "ncm811-lno", "ncm811-bare"])
def test_heat_always_costs_retention_and_cold_changes_little(preset: str) -> None:
    # Every growth law gains from heat. Cold slows diffusion too: what is used less deeply is
    # spared, what is slow leaves its window sooner, so that below 30 degC neither sign is asked.
    p = cell_of(preset)
    hot = [kept(p, kelvin=kelvin)[1] for kelvin in range(303, 354, 10)]
    assert hot == sorted(hot, reverse=True)
    assert hot[-1] < hot[0] - 0.01
    cold = [kept(p, kelvin=kelvin)[1] for kelvin in range(273, 303, 10)]
    assert max(abs(retention - hot[0]) for retention in cold) < 0.005
