"""Conditions at work on samples."""

from __future__ import annotations

import math
import time as wall

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.conditions import PRESSURE, Condition, parse
from operando.instruments.evaluators import FULL, Compiler, Evaluator, compile_slope

NAN = math.nan


def evaluator(text: str, *, patient: bool = False) -> Evaluator:
    return parse(text).evaluator(patient=patient)


def history(
    condition: str | Condition, samples: list[tuple[float, float]], name: str
) -> list[bool]:
    """Results over samples (time, value) of one quantity."""
    parsed = parse(condition) if isinstance(condition, str) else condition
    update = parsed.evaluator().update
    return [update(time, {name: value}) for time, value in samples]


@pytest.mark.parametrize(
    ("text", "values", "result"),
    [
        ("voltage >= 4 V", {"voltage": 4.0}, True),
        ("voltage > 4 V", {"voltage": 4.0}, False),
        ("voltage <= 4 V", {"voltage": 4.0}, True),
        ("voltage < 4 V", {"voltage": 4.0}, False),
        ("4 V < voltage", {"voltage": 4.1}, True),
        ("abs(current) <= 1 mA", {"current": -5e-4}, True),
        ("abs(current) <= 1 mA", {"current": -5e-3}, False),
        ("abs(current) >= 1 mA", {"current": -5e-3}, True),
        ("voltage > 4 V or elapsed >= 1 s", {"voltage": 3.0, "elapsed": 2.0}, True),
        ("voltage > 4 V and elapsed >= 1 s", {"voltage": 3.0, "elapsed": 2.0}, False),
        ("voltage > 4 V and elapsed >= 1 s", {"voltage": 5.0, "elapsed": 2.0}, True),
        ("cycle >= 3", {"cycle": 3.0}, True),
    ],
)
def test_a_sample_makes_it_true_or_false(text: str, values: dict[str, float], result: bool) -> None:
    assert evaluator(text).update(0.0, values) is result


@pytest.mark.parametrize("sign", [">=", "<=", ">", "<"])
@pytest.mark.parametrize("operand", ["voltage", "abs(voltage)", "dV/dt over 10 s"])
@pytest.mark.parametrize("values", [{"voltage": NAN}, {}, {"current": 1.0}])
def test_an_invalid_or_missing_value_never_makes_it_true(
    sign: str, operand: str, values: dict[str, float]
) -> None:
    unit = "V/s" if "over" in operand else "V"
    assert evaluator(f"{operand} {sign} 0 {unit}").update(0.0, values) is False
    assert evaluator(f"{operand} {sign} -1 {unit}").update(0.0, values) is False


def test_for_counts_the_stamps_of_consecutive_samples() -> None:
    samples = [(0.0, 9e6), (2.0, 9e6), (4.9, 9e6), (5.0, 9e6), (6.0, 9e6), (7.0, 1e6), (8.0, 9e6)]
    assert history("pressure > 8 MPa for 5 s", samples, "pressure") == [
        False, False, False, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("interruption", [1e6, NAN])
def test_for_restarts_on_a_false_or_invalid_sample(interruption: float) -> None:
    samples = [(0.0, 9e6), (4.0, 9e6), (4.5, interruption), (5.0, 9e6), (9.0, 9e6), (10.0, 9e6)]
    results = history("pressure > 8 MPa for 5 s", samples, "pressure")
    assert results == [False, False, False, False, False, True]


def test_a_patient_timer_goes_on_through_an_invalid_sample_but_not_through_a_false_one() -> None:
    update = evaluator("pressure > 8 MPa for 5 s", patient=True).update
    assert not update(0.0, {"pressure": 9e6})
    assert not update(4.0, {"pressure": NAN})
    assert update(5.0, {"pressure": 9e6})
    assert not update(6.0, {"pressure": NAN})
    assert not update(7.0, {"pressure": 1e6})
    assert not update(9.0, {"pressure": 9e6})


def test_for_ignores_samples_of_other_instruments() -> None:
    update = evaluator("pressure > 8 MPa for 5 s").update
    values = {"pressure": 9e6, "voltage": 3.0}
    assert not update(0.0, values, ("pressure",))
    # The old pressure is not new evidence, however much later the voltage is sampled.
    assert not update(100.0, values, ("voltage",))
    assert update(101.0, values, ("pressure",))


def test_for_over_a_counted_quantity_follows_every_sample() -> None:
    update = evaluator("elapsed >= 1 s for 5 s").update
    assert not update(1.0, {"elapsed": 1.0}, ("voltage",))
    assert update(6.0, {"elapsed": 6.0}, ("voltage",))


@given(
    st.lists(st.tuples(st.floats(0.01, 3.0), st.sampled_from([9e6, 1e6, NAN])), max_size=40),
    st.floats(0.5, 8.0),
)
def test_for_is_true_exactly_when_every_sample_of_the_last_stretch_was(
    steps: list[tuple[float, float]], duration: float
) -> None:
    times = np.cumsum([step for step, _ in steps]).tolist()
    samples = list(zip(times, (value for _, value in steps), strict=True))
    results = history((PRESSURE > 8e6).held(duration), samples, "pressure")
    for index, (now, _) in enumerate(samples):
        start = index
        while start >= 0 and samples[start][1] > 8e6:
            start -= 1
        run = samples[start + 1 : index + 1]
        margin = now - run[0][0] - duration if run else -1.0
        if abs(margin) > 1e-9:
            assert results[index] == (margin > 0.0)


@given(
    st.lists(st.tuples(st.floats(0.05, 2.0), st.floats(-5.0, 5.0)), min_size=3, max_size=25),
    st.floats(1.0, 10.0),
    st.sampled_from([0.0, 1e5]),
)
def test_the_slope_is_that_of_a_least_squares_fit_over_the_window(
    steps: list[tuple[float, float]], window: float, start: float
) -> None:
    times = (start + np.cumsum([step for step, _ in steps])).tolist()
    samples = list(zip(times, (value for _, value in steps), strict=True))
    update = SlopeOf(window)
    for index, (now, value) in enumerate(samples):
        result = update(now, value)
        inside = [(t, v) for t, v in samples[: index + 1] if now - t <= window * (1 + 1e-9)]
        spanned = now - inside[0][0]
        if abs(spanned - FULL * window) < 1e-9:
            continue
        if len(inside) < 3 or spanned < FULL * window:
            assert math.isnan(result)
        else:
            t = np.array([one for one, _ in inside])
            v = np.array([one for _, one in inside])
            expected = np.polyfit(t - t[0], v, 1)[0]
            assert result == pytest.approx(expected, rel=1e-7, abs=1e-9)


class SlopeOf:
    """The slope itself, which a condition only compares."""

    def __init__(self, window: float) -> None:
        self._slope = compile_slope(Compiler(False), "voltage", window)

    def __call__(self, time: float, value: float, new: tuple[str, ...] | None = None) -> float:
        return self._slope(time, {"voltage": value}, new)


def test_the_slope_stays_exact_over_a_long_run() -> None:
    slope = SlopeOf(60.0)
    result = NAN
    for index in range(50_000):
        # 0.1 mV/min on 4 V, for half a million seconds of laboratory time.
        result = slope(1e6 + 10.0 * index, 4.0 + 1e-4 / 60.0 * 10.0 * index)
    assert result == pytest.approx(1e-4 / 60.0, rel=1e-6)


def test_a_condition_on_a_slope_waits_for_a_full_window() -> None:
    samples = [(float(second), 4.0) for second in range(0, 75, 5)]
    results = history("abs(dV/dt over 60 s) < 0.1 mV/min", samples, "voltage")
    assert results == [time >= 55.0 for time, _ in samples]


def test_a_relaxing_cell_ends_its_rest_when_it_has_become_quiet() -> None:
    samples = [(10.0 * i, 4.0 + 0.05 * math.exp(-i / 30.0)) for i in range(400)]
    results = history("abs(dV/dt over 60 s) < 0.1 mV/min", samples, "voltage")
    first = samples[results.index(True)][0]
    # 0.05 V/300 s exp(-t/300 s) falls to 0.1 mV/min at 300 s ln(100) = 1382 s; the slope of the
    # window is that of its middle, 30 s earlier.
    assert first == pytest.approx(300.0 * math.log(100.0) + 30.0, abs=11.0)
    assert all(results[results.index(True) :])


def test_an_invalid_sample_makes_a_slope_unknown_for_that_sample_alone() -> None:
    samples = [(float(i), 4.0) for i in range(12)]
    samples[10] = (10.0, NAN)
    results = history("dV/dt over 5 s < 1 mV/s", samples, "voltage")
    assert results == [False] * 5 + [True] * 5 + [False, True]


def test_samples_of_other_instruments_and_repeated_stamps_do_not_change_a_slope() -> None:
    alone, disturbed = SlopeOf(10.0), SlopeOf(10.0)
    for second in range(30):
        time, value = float(second), 1e-2 * second**2
        expected = alone(time, value)
        assert disturbed(time, value) == pytest.approx(expected, nan_ok=True)
        # The same sample again, and one of another instrument with the old voltage beside it.
        assert disturbed(time, value) == pytest.approx(expected, nan_ok=True)
        assert disturbed(time + 0.9, value, ("pressure",)) == pytest.approx(expected, nan_ok=True)
    assert expected == pytest.approx(1e-2 * 2.0 * 24.0)


def test_reset_forgets_windows_and_timers() -> None:
    one = evaluator("pressure > 8 MPa for 5 s or dP/dt over 5 s < 1 Pa/s")
    for second in range(7):
        result = one.update(float(second), {"pressure": 9e6})
    assert result
    one.reset()
    assert not one.update(7.0, {"pressure": 9e6})


def test_evaluators_of_one_condition_do_not_share_their_memory() -> None:
    condition = parse("pressure > 8 MPa for 5 s")
    one, other = condition.evaluator(), condition.evaluator()
    one.update(0.0, {"pressure": 9e6})
    assert one.update(5.0, {"pressure": 9e6})
    assert not other.update(5.0, {"pressure": 9e6})


def test_every_part_of_an_or_sees_every_sample() -> None:
    update = evaluator("voltage > 1 V or pressure > 8 MPa for 5 s").update
    assert update(0.0, {"voltage": 2.0, "pressure": 9e6})
    assert update(5.0, {"voltage": 0.0, "pressure": 9e6})


def test_a_simple_comparison_takes_little_time() -> None:
    update = evaluator("voltage >= 4.25 V").update
    values = {"voltage": 3.7, "elapsed": 5.0}
    best = math.inf
    for _ in range(20):
        start = wall.perf_counter()
        for _ in range(1000):
            update(1.0, values)
        best = min(best, wall.perf_counter() - start)
    # 1.5 µs is what 10,000 samples a second allow with a few conditions; the best of 20 runs is
    # taken, because the machine may be busy with other things.
    assert best / 1000 < 1.5e-6
