"""Ramps, titrations and plating on cells with lithium, through simulated instruments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from operando.instruments.errors import BadInputError
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Cell, Plan
from operando.protocols.ccd import ccd
from operando.protocols.ctta import ctta
from operando.protocols.plating_stripping import interrupted, plating_stripping
from operando.records.reader import Step
from support.lithium_lab import run_on_source_meter
from support.virtual_lab import bench_of, run_on_lab

EVERY = RecordConditions(every=0.0)


def driven(steps: Any) -> list[Step]:
    return [step for step in steps if step.kind == "ConstantCurrent"]


# ---- the ramp


def test_the_ramp_goes_both_ways_a_step_higher_each_time_and_rests_between(tmp_path: Path) -> None:
    plan = ccd(
        first_current="0.1 mA/cm2", step="0.1 mA/cm2", largest_current="0.3 mA/cm2",
        half_cycle="5 min", rest="2 min",
    )  # fmt: skip
    steps = run_on_source_meter(plan, "li-lpscl", tmp_path).record.steps()
    asked = [float(str(step.step["current"])) / 0.7854e-4 for step in driven(steps)]
    assert asked == pytest.approx([1.0, -1.0, 2.0, -2.0, 3.0, -3.0])
    assert [step.cycle for step in driven(steps)] == [1, 1, 2, 2, 3, 3]
    assert [step.label for step in steps[:4]] == ["initial rest", "forward", "rest", "backward"]
    assert all(step.duration == pytest.approx(300.0, abs=1.0) for step in driven(steps))


def test_a_fixed_capacity_is_passed_faster_at_a_larger_current(tmp_path: Path) -> None:
    plan = ccd(
        first_current="0.1 mA/cm2", step="0.1 mA/cm2", largest_current="0.2 mA/cm2",
        areal_capacity="0.02 mAh/cm2", rest="0 s", initial_rest="0 s",
    )  # fmt: skip
    steps = run_on_source_meter(plan, "li-lpscl", tmp_path).record.steps()
    durations = [step.duration for step in steps]
    assert durations == pytest.approx([720.0, 720.0, 360.0, 360.0], abs=1.0)
    # 0.02 mAh/cm2 on 0.7854 cm2; what flows while the instrument is switched is not in a step.
    assert abs(steps[-1].charge) == pytest.approx(0.02 * 3.6 * 0.7854, rel=2e-3)


def test_the_ramp_ends_at_a_soft_short_and_not_before(tmp_path: Path) -> None:
    """A ramp that begins above the critical current density: the first filament is soft."""
    plan = ccd(first_current="0.8 mA/cm2", half_cycle="4 h", rest="0 s", initial_rest="0 s")
    ran = run_on_source_meter(plan, "li-lpscl", tmp_path)
    last = ran.record.steps()[-1]
    assert last.condition == "fall of abs(voltage) after 60 s > 5 %"
    state = ran.cell.state(ran.now)
    assert 0.8 < max(state.working.filament, state.counter.filament) < 1.0


def test_the_ramp_ends_where_a_cell_is_shorted_before_its_half_cycle_is_judged(
    tmp_path: Path,
) -> None:
    """Shorted through while it settles, the voltage is low from the start and never falls."""
    plan = ccd(
        first_current="0.1 mA/cm2", step="4 mA/cm2", largest_current="5 mA/cm2",
        half_cycle="10 min", settling="2 min", rest="0 s", initial_rest="0 s",
    )  # fmt: skip
    last = run_on_source_meter(plan, "li-lpscl", tmp_path).record.steps()[-1]
    assert last.condition is not None
    assert last.condition.startswith("elapsed >= 2 min and abs(voltage) < ")
    assert last.duration < 200.0


def test_the_ramp_ends_at_the_voltage_window(tmp_path: Path) -> None:
    plan = ccd(
        first_current="0.1 mA/cm2", step="0.1 mA/cm2", half_cycle="5 min", rest="0 s",
        window=("-20 mV", "20 mV"), initial_rest="0 s",
    )  # fmt: skip
    last = run_on_source_meter(plan, "li-lpscl", tmp_path).record.steps()[-1]
    # About 70 ohm cm2 at 0.3 mA/cm2.
    assert (last.cycle, last.label) == (3, "forward")
    assert last.condition == "voltage >= 20 mV"


def test_spectra_are_measured_before_the_ramp_and_after_each_step(tmp_path: Path) -> None:
    plan = ccd(
        first_current="0.1 mA/cm2", step="0.1 mA/cm2", largest_current="0.2 mA/cm2",
        half_cycle="3 min", rest="30 s", initial_rest="30 s", spectra=True,
        lowest_frequency="10 Hz", points_per_decade=5,
    )  # fmt: skip
    ran = run_on_lab(plan, "D2", tmp_path, poll=Poll(interval=2.0))
    assert [spectrum.cycle for spectrum in ran.record.spectra()] == [1, 1, 2]
    assert ran.result.reason == "the protocol came to its end"


def test_no_spectrum_is_asked_of_a_cell_that_is_shorted_through(tmp_path: Path) -> None:
    plan = ccd(
        first_current="0.1 mA/cm2", step="4 mA/cm2", largest_current="5 mA/cm2",
        half_cycle="10 min", settling="2 min", rest="10 s", initial_rest="10 s", spectra=True,
        lowest_frequency="10 Hz", points_per_decade=5,
    )  # fmt: skip
    ran = run_on_lab(plan, "D2", tmp_path, poll=Poll(interval=2.0))
    assert len(ran.record.spectra()) == 2
    assert [step.kind for step in ran.record.steps()][-2:] == ["ConstantCurrent", "Rest"]


# ---- titration


def test_a_titration_plates_with_negative_current_and_waits_for_the_steel_to_rise(
    tmp_path: Path,
) -> None:
    ran = run_on_lab(ctta(duration="40 min"), "D3", tmp_path, poll=Poll(interval=2.0))
    steps = ran.record.steps()
    assert [step.label for step in steps] == ["titration", "open circuit"] * 2
    assert steps[0].charge < 0.0
    assert steps[1].condition == "voltage >= 50 mV"
    # The second is still being used up when the time is over.
    assert str(steps[3].condition).startswith("elapsed >= ")
    assert steps[3].end == pytest.approx(2400.0, abs=5.0)
    rest = ran.record.samples()
    plated = rest["voltage"][rest["step_count"] == 2]
    assert abs(plated[len(plated) // 2]) < 0.01


def test_a_titration_that_cannot_plate_ends(tmp_path: Path) -> None:
    plan = ctta(current="5 mA/cm2", window=("-0.1 V", "2.5 V"))
    ran = run_on_source_meter(plan, "steel-lpscl-li", tmp_path, poll=1.0)
    (only,) = ran.record.steps()
    assert only.condition == "voltage <= -0.1 V"


# ---- plating and stripping


def test_plating_comes_first_and_both_pass_the_same_charge(tmp_path: Path) -> None:
    plan = plating_stripping(areal_capacity="0.05 mAh/cm2", cycles=2, rest="1 min")
    steps = run_on_source_meter(plan, "li-lpscl", tmp_path).record.steps()
    assert [step.label for step in steps] == ["plate", "rest", "strip", "rest"] * 2
    charges = [step.charge / 0.7854 / 3.6 for step in driven(steps)]
    assert charges == pytest.approx([-0.05, 0.05, -0.05, 0.05], rel=2e-3)


def test_lithium_on_steel_is_stripped_to_the_window_and_plated_again(tmp_path: Path) -> None:
    plan = plating_stripping(
        current="0.2 mA/cm2",
        areal_capacity="0.1 mAh/cm2",
        cycles=2,
        strip_to_window=True,
        window=("-1 V", "2 V"),
    )
    steps = driven(run_on_source_meter(plan, "steel-lpscl-li", tmp_path, poll=5.0).record.steps())
    assert [step.label for step in steps] == ["plate", "strip"] * 2
    assert steps[1].condition == steps[3].condition == "voltage >= 2 V"


def test_an_interrupted_plating_has_a_spectrum_after_each_part(tmp_path: Path) -> None:
    plan = plating_stripping(
        current="0.2 mA/cm2", areal_capacity="9 uAh/cm2", cycles=0, window=("-1 V", "2 V"),
        interruptions=3,
        lowest_frequency="10 Hz", points_per_decade=5,
    )  # fmt: skip
    ran = run_on_lab(plan, "D3", tmp_path, poll=Poll(interval=0.5))
    kinds = [step.kind for step in ran.record.steps()]
    assert kinds == ["ConstantCurrent", "Impedance"] * 3
    assert len(ran.record.spectra()) == 3


def test_interruptions_begin_at_small_charges() -> None:
    assert interrupted(100.0, 3, 1.0) == pytest.approx((1.0, 10.0, 100.0))
    assert interrupted(100.0, 0, 1.0) == (100.0,)


# ---- what is refused before anything is switched on


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (ccd(window=("0 V", "1 V")), "both signs are driven"),
        (ccd(step="0 mA/cm2"), "write positive current densities"),
        (ccd(largest_current="0.01 mA/cm2"), "at least as large as the first"),
        (ccd(soft_short="0 %"), 'write a share such as "5 %"'),
        (ccd(half_cycle="30 s"), "longer than settling"),
        (ccd(areal_capacity="0.01 mAh/cm2"), "leaves unjudged"),
        (ctta(window=("0.1 V", "2 V")), "plating goes below 0 V"),
        (ctta(trigger="3 V"), "the trigger lies above"),
        (ctta(titration="0 uAh/cm2"), "positive magnitudes"),
        (ctta(duration="0 s"), "must be more than 0 s"),
        (plating_stripping(current="-1 mA/cm2"), "positive magnitudes"),
        (plating_stripping(window=("0 V", "1 V")), "both signs are driven"),
        (plating_stripping(polarised=0.5), "a multiple above 1"),
        (plating_stripping(cycles=-1), "cycles"),
        (plating_stripping(interruptions=1), "two or more"),
        (plating_stripping(interruptions=2, first_interruption="1 mAh/cm2"), "below areal_cap"),
    ],
)
def test_bad_parameters_are_refused_in_words(plan: Plan, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=words):
        run_on_lab(plan, "D2", tmp_path)


@pytest.mark.parametrize("plan", [ccd(), ctta(), plating_stripping()])
def test_a_cell_without_an_area_is_refused(plan: Plan, tmp_path: Path) -> None:
    cell = replace(bench_of("D2").cells["d2"], area=0.0)
    with pytest.raises(BadInputError, match=r'write area = "0\.785 cm2"'):
        next(plan.steps(Cell(cell)))
