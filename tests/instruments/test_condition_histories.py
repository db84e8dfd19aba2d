"""Conditions that remember: the fall of a magnitude and the dose of a quantity."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.conditions import H2O, VOLTAGE, parse
from operando.instruments.evaluators import Compiler, compile_dose, compile_fall
from operando.instruments.limits import Action, Cause, Limit, LimitMonitor
from operando.instruments.recipe import RecordConditions
from operando.instruments.words import condition_words
from operando.protocols import RunState
from operando.protocols.cccv import cccv
from support.virtual_lab import run_on_lab

NAN = math.nan
HOUR = 3600.0

steps = st.lists(
    st.tuples(st.floats(0.01, 50.0), st.one_of(st.floats(-5.0, 5.0), st.just(NAN))),
    min_size=1,
    max_size=30,
)


def stamped(course: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Samples (time, value) of a course (time since the one before, value)."""
    times = np.cumsum([step for step, _ in course]).tolist()
    return list(zip(times, (value for _, value in course), strict=True))


@given(steps, st.one_of(st.just(0.0), st.floats(0.0, 100.0)))
def test_the_fall_is_the_share_below_the_highest_magnitude_so_far(
    course: list[tuple[float, float]], after: float
) -> None:
    samples = stamped(course)
    valid = [(time, abs(value)) for time, value in samples if not math.isnan(value)]
    fall = compile_fall(Compiler(False), "voltage", after)
    for time, value in samples:
        found = fall(time, {"voltage": value}, None)
        seen = [v for t, v in valid if t <= time and t - valid[0][0] >= after]
        if valid and any(abs(t - valid[0][0] - after) < 1e-8 for t, _ in valid):
            continue  # on the edge of `after`, where rounding decides
        if math.isnan(value) or not seen or max(seen) == 0.0:
            assert math.isnan(found)
        else:
            assert found == pytest.approx(1.0 - abs(value) / max(seen), abs=1e-12)
            assert 0.0 <= found <= 1.0


def test_a_voltage_that_collapses_either_way_has_fallen() -> None:
    for sign in (1.0, -1.0):
        update = (VOLTAGE.fall() > 0.05).evaluator().update
        course = [0.10, 0.11, 0.12, 0.115, 0.113, 0.05]
        assert [update(float(i), {"voltage": sign * v}) for i, v in enumerate(course)] == [
            False, False, False, False, True, True,
        ]  # fmt: skip


def test_what_settles_after_switching_on_is_not_a_fall() -> None:
    """A double layer charges and a polarisation relaxes: the highest is looked for afterwards."""
    samples = [(0.0, 0.5), (30.0, 0.3), (60.0, 0.2), (90.0, 0.2), (120.0, 0.18)]
    early = parse("fall of abs(voltage) > 5 %").evaluator().update
    late = parse("fall of abs(voltage) after 60 s > 5 %").evaluator().update
    assert [early(t, {"voltage": v}) for t, v in samples] == [False, True, True, True, True]
    assert [late(t, {"voltage": v}) for t, v in samples] == [False, False, False, False, True]


def test_a_fall_begins_anew_after_a_pause_and_ignores_other_instruments() -> None:
    evaluator = (VOLTAGE.fall() > 0.5).evaluator()
    assert not evaluator.update(0.0, {"voltage": 1.0})
    assert not evaluator.update(1.0, {"voltage": 0.1}, ("pressure",))
    assert evaluator.update(2.0, {"voltage": 0.1}, ("voltage",))
    evaluator.reset()
    assert not evaluator.update(3.0, {"voltage": 0.1})


@given(steps, st.one_of(st.none(), st.floats(-5.0, 5.0)))
def test_the_dose_is_the_integral_of_straight_lines_through_the_valid_readings(
    course: list[tuple[float, float]], above: float | None
) -> None:
    samples = stamped(course)
    dose = compile_dose("h2o", above)
    known: list[tuple[float, float]] = []
    for time, value in samples:
        found = dose(time, {"h2o": value}, None)
        if math.isnan(value):
            assert math.isnan(found)
            continue
        known.append((time, value))
        if len(known) == 1:
            assert found == 0.0
            continue
        total, error = 0.0, 0.0
        for (t0, v0), (t1, v1) in itertools.pairwise(known):
            grid = np.linspace(v0, v1, 2001) - (0.0 if above is None else above)
            part = np.maximum(grid, 0.0) if above is not None else grid
            total += (t1 - t0) * float(np.mean(0.5 * (part[1:] + part[:-1])))
            # The grid is exact but where a line crosses the threshold: half a cell there.
            error += (t1 - t0) * abs(v1 - v0) / 2000.0**2
        assert found == pytest.approx(total, abs=error + 1e-9)


def test_five_ppm_for_an_hour_are_five_ppm_h() -> None:
    limit = parse("dose of h2o > 5 ppm h").evaluator().update
    above = parse("dose of h2o above 2 ppm > 5 ppm h").evaluator().update
    times = [60.0 * minute for minute in range(120)]
    first = next(t for t in times if limit(t, {"h2o": 5.1e-6}))
    assert first == pytest.approx(HOUR * 5.0 / 5.1, abs=60.0)
    first = next(t for t in times if above(t, {"h2o": 5.1e-6}))
    assert first == pytest.approx(HOUR * 5.0 / 3.1, abs=60.0)
    calm = parse("dose of h2o above 2 ppm > 0 ppm h").evaluator().update
    assert not any(calm(t, {"h2o": 1e-6}) for t in times)


def test_an_unknown_stretch_is_no_clean_one() -> None:
    update = parse("dose of h2o > 5 ppm h").evaluator().update
    assert not update(0.0, {"h2o": 10e-6})
    # Nobody knows the dose while the sensor is silent, so nothing is concluded from it.
    assert not update(0.4 * HOUR, {"h2o": NAN})
    assert not update(0.9 * HOUR, {"h2o": NAN})
    # Afterwards the stretch counts with the readings on either side of it.
    assert update(1.0 * HOUR, {"h2o": 1e-6})


def test_a_limit_on_a_dose_acts_on_the_silence_of_its_sensor_and_on_the_dose() -> None:
    limit = Limit("wet", H2O.dose() > "5 ppm h", Action.HOLD, stale_after=60.0)
    monitor = LimitMonitor([limit])
    assert not monitor.update(0.0, {"h2o": 10e-6}, ("h2o",))
    assert not monitor.update(600.0, {"h2o": NAN}, ("h2o",))
    (stale,) = monitor.check_stale(700.0, {"h2o": 700.0})
    assert stale.cause is Cause.STALE
    (acted,) = monitor.update(2400.0, {"h2o": 10e-6}, ("h2o",))
    assert acted.cause is Cause.CONDITION
    # A resumed run has been in the same box all the time: what was reached stays reached.
    monitor.reset(2500.0)
    (again,) = monitor.update(2510.0, {"h2o": 0.0}, ("h2o",))
    assert again.cause is Cause.CONDITION


def test_doses_of_two_evaluators_are_their_own() -> None:
    condition = parse("dose of h2o > 1 ppm h")
    one, other = condition.evaluator(), condition.evaluator()
    one.update(0.0, {"h2o": 2e-6})
    assert one.update(HOUR, {"h2o": 2e-6})
    assert not other.update(HOUR, {"h2o": 2e-6})


def test_people_read_them_as_they_are_written() -> None:
    assert condition_words(parse("dose of h2o > 5 ppm h")) == "dose of h2o > 5 ppm h"
    shown = condition_words(parse("fall of abs(voltage) after 60 s > 5 %"))
    assert shown == "fall of abs(voltage) after 60 s > 5 %"


def test_a_dose_of_a_glovebox_trips_a_run_when_the_record_says_so(tmp_path: Path) -> None:
    """Through simulated sensors: what the limit counted is the integral of what was recorded."""
    limit = Limit("wet", H2O.dose() > "0.05 ppm h", Action.TRIP, stale_after=60.0)
    ran = run_on_lab(
        cccv(cycles=1, initial_rest="2 h"),
        "C2",
        tmp_path,
        limits=[limit],
        record=RecordConditions(every=0.0),
        shared=True,
        completed=False,
    )
    assert ran.result.state is RunState.TRIPPED
    assert "limit wet acts (trip)" in ran.result.reason
    readings = ran.record.aux("h2o")
    time, water = readings["time"], readings["value"]
    dose = np.concatenate([[0.0], np.cumsum(np.diff(time) * 0.5 * (water[1:] + water[:-1]))])
    # It acts on the reading that brings the dose beyond its bound: the last one before that is
    # below it.
    assert float(dose[-1]) >= 0.05e-6 * HOUR * (1.0 - 1e-9)
    assert float(dose[dose < 0.05e-6 * HOUR][-1]) == pytest.approx(0.05e-6 * HOUR, rel=0.05)
    assert len(dose) > 20
    assert int(np.sum(dose > 0.05e-6 * HOUR)) <= 2
