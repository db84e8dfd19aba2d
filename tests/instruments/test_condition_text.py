"""The language of conditions: text, values and units."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.conditions import (
    CURRENT,
    CYCLE,
    ELAPSED,
    H2O,
    PRESSURE,
    STEP_CHARGE,
    TEMPERATURE,
    VOLTAGE,
    All,
    AnyOf,
    Comparison,
    Condition,
    Held,
    Live,
    Magnitude,
    Operand,
    Operator,
    Per,
    Slope,
    parse,
    voltage_bound,
)
from operando.instruments.errors import BadInputError
from operando.instruments.histories import Dose, Fall
from operando.instruments.quantities import QUANTITIES

bounds = st.floats(min_value=-1e30, max_value=1e30, allow_nan=False)
durations = st.floats(min_value=1e-6, max_value=1e9)
measured = sorted(name for name, quantity in QUANTITIES.items() if quantity.sources)
lives = st.builds(Live, st.sampled_from(sorted(QUANTITIES)))
slopes = st.builds(Slope, st.sampled_from(measured), durations)
falls = st.builds(Fall, st.sampled_from(measured), st.one_of(st.just(0.0), durations))
doses = st.builds(
    Dose,
    st.sampled_from(sorted({*measured} - {"current", "power"})),
    st.one_of(st.none(), bounds),
)
remembering = st.one_of(slopes, falls, doses)
operands: st.SearchStrategy[Operand] = st.one_of(
    lives, remembering, st.builds(Magnitude, st.one_of(lives, remembering))
)
comparisons: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Comparison, operands, st.sampled_from(Operator), bounds),
    st.builds(
        Comparison,
        st.sampled_from([CURRENT, abs(CURRENT)]),
        st.sampled_from(Operator),
        bounds,
        st.sampled_from(Per),
    ),
    st.builds(
        Comparison,
        st.just(STEP_CHARGE),
        st.sampled_from(Operator),
        bounds,
        st.sampled_from([Per.AREA, Per.MASS]),
    ),
)
any_condition: st.SearchStrategy[Condition] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Held, inner, durations),
        st.builds(lambda parts: All(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda parts: AnyOf(tuple(parts)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


@given(any_condition)
def test_canonical_text_reads_back_as_the_same_condition(condition: Condition) -> None:
    text = str(condition)
    again = parse(text)
    assert again == condition
    assert hash(again) == hash(condition)
    assert str(again) == text


@given(st.text(max_size=60))
def test_arbitrary_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInputError):
        assert isinstance(parse(text), Condition)


WORDS = [
    "voltage", "current", "pressure", "elapsed", "cycle", "abs", "dV/dt", "d(", "/dt", "over",
    "for", "and", "or", "(", ")", ">=", "<", "==", "4.25", "V", "C", "C/20", "60 s", "8 MPa",
    "-", "/", "*", "mV/min", "%", "dX/dt", "d", "\n", "£", "fall", "dose", "of", "after", "above",
    "h2o", "ppm h", "abs(voltage)",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=14))
def test_any_order_of_the_languages_own_words_is_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(BadInputError):
        assert isinstance(parse(" ".join(words)), Condition)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("voltage >= 4.25 V", VOLTAGE >= 4.25),
        ("voltage ≥ 4250 mV", VOLTAGE >= 4.25),
        ("4.25 V <= voltage", VOLTAGE >= 4.25),
        ("elapsed >= 10 min", ELAPSED >= 600.0),
        ("elapsed >= 2 h 30 min", ELAPSED >= 9000.0),
        ("abs(current) <= 0.1 mA", abs(CURRENT) <= 1e-4),
        ("abs(current) <= C/20", abs(CURRENT) <= "C/20"),
        ("pressure > 8 MPa for 5 s", (PRESSURE > 8e6).held(5.0)),
        ("dV/dt over 60 s < 6 mV/min", VOLTAGE.slope(60.0) < 1e-4),
        ("d(voltage)/dt over 1 min < 6 mV/min", VOLTAGE.slope(60.0) < 1e-4),
        ("d( pressure ) / dt over 60 s > 1 MPa/s", PRESSURE.slope(60.0) > 1e6),
        ("dP/dt over 60 s > 1 MPa/s", PRESSURE.slope(60.0) > 1e6),
        ("dI/dt over 60 s > 1 A/s", CURRENT.slope(60.0) > 1.0),
        ("dT/dt over 60 s > 60 K/min", TEMPERATURE.slope(60.0) > 1.0),
        ("abs(dV/dt over 60 s) < 6 mV/min", abs(VOLTAGE.slope("60 s")) < "6 mV/min"),
        ("h2o > 5 ppm for 60 s", (H2O > 5e-6).held("1 min")),
        ("fall of abs(voltage) > 5 %", VOLTAGE.fall() > 0.05),
        ("fall of abs(voltage) after 1 min > 5 %", VOLTAGE.fall("60 s") > "5 %"),
        ("fall of abs( voltage ) after 60 s > 50000 ppm", VOLTAGE.fall(60.0) > 0.05),
        ("dose of h2o > 5 ppm h", H2O.dose() > 0.018),
        ("5 ppm h < dose of h2o", H2O.dose() > "5 ppm h"),
        ("dose of h2o > 5 ppm*h", H2O.dose() > "300 ppm min"),
        ("dose of h2o above 1 ppm > 5 ppm h", H2O.dose("1 ppm") > "5 ppm h"),
        ("dose of h2o above 1 ppm > 5 ppm h for 60 s", (H2O.dose(1e-6) > "5 ppm h").held(60.0)),
        ("dose of temperature above 60 degC > 2 K h", TEMPERATURE.dose(333.15) > 7200.0),
        ("dose of pressure > 3 MPa h", PRESSURE.dose() > "3 MPa h"),
        ("temperature > 60 degC", TEMPERATURE > 333.15),
        ("cycle >= 3", CYCLE >= 3),
        ("voltage < -0.1 V", VOLTAGE < -0.1),
        ("voltage >= 4 V or elapsed >= 1 s", (VOLTAGE >= 4.0) | (ELAPSED >= 1.0)),
        (
            "voltage >= 4 V and elapsed >= 1 s or current < 0 A",
            ((VOLTAGE >= 4.0) & (ELAPSED >= 1.0)) | (CURRENT < 0.0),
        ),
        (
            "voltage >= 4 V and (elapsed >= 1 s or current < 0 A) for 2 s",
            (VOLTAGE >= 4.0) & ((ELAPSED >= 1.0) | (CURRENT < 0.0)).held(2.0),
        ),
        ("(((voltage >= 4 V)))", VOLTAGE >= 4.0),
        ("voltage >= 4 V AND elapsed >= 1 s", (VOLTAGE >= 4.0) & (ELAPSED >= 1.0)),
    ],
)  # fmt: skip
def test_text_and_building_blocks_make_the_same_value(text: str, condition: Condition) -> None:
    assert parse(text) == condition


def test_a_bound_on_the_left_of_the_python_operator_works_too() -> None:
    assert (4.25 <= VOLTAGE) == (VOLTAGE >= 4.25)


@pytest.mark.parametrize(
    "text",
    [
        "voltage >= 4.25 V",
        "elapsed >= 10 min",
        "abs(current) <= C/20",
        "pressure > 8 MPa for 5 s",
        "abs(dV/dt over 60 s) < 0.1 mV/min",
        "d(h2o)/dt over 10 min > 1 ppm/s",
        "temperature > 60 degC",
        "(voltage >= 4.25 V or elapsed >= 10 min) and cycle >= 3",
        "abs(step_charge) >= 2 mAh/cm2",
        "fall of abs(voltage) after 60 s > 5 %",
        "dose of h2o > 5 ppm h",
        "dose of h2o above 1 ppm > 5 ppm h",
        "dose of temperature above 60 degC > 2 K h",
    ],
)
def test_the_canonical_text_is_what_people_write(text: str) -> None:
    if "ppm/s" not in text:
        assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "is empty"),
        ("voltage", 8, "expected a comparison"),
        ("voltage >= 4.25", 12, "has no unit.*voltage takes a voltage in V"),
        ("voltage >= 4.25 MPa", 12, "is a pressure; expected a voltage"),
        ("voltage >= 4.25 mpa", 12, 'did you mean "MPa"'),
        ("volts >= 4.25 V", 1, 'did you mean "voltage"'),
        ("capacity >= 1 mAh", 1, 'did you mean "step_charge"'),
        ("xyzzy >= 4.25 V", 1, "there are voltage, current"),
        ("voltage = 4.25 V", 9, "never exactly equal"),
        ("voltage == 4.25 V", 9, "never exactly equal"),
        ("voltage >= current", 12, "expected a value with a unit"),
        ("2 V < voltage < 4 V", 15, "join two of them with `and`"),
        ("voltage >= 4 V && elapsed > 1 s", 16, "write `and`"),
        ("voltage >= 4 V elapsed > 1 s", 12, "not a unit"),
        ("(voltage >= 4 V", 16, r'expected "\)", found the end'),
        ("voltage >= 4 V)", 15, "expected the end"),
        ("dV/dt < 1 mV/s", 7, "write dV/dt over 60 s"),
        ("d(voltage)/dt < 1 mV/s", 15, r"write d\(voltage\)/dt over 60 s"),
        ("dX/dt over 5 s < 1 mV/s", 1, "is not a slope known here"),
        ("dV/dt over 5 V < 1 mV/s", 12, "expected a time"),
        ("dV/dt over 0 s < 1 mV/s", 1, "positive time"),
        ("d(elapsed)/dt over 5 s < 1", 1, "counted, not measured"),
        ("voltage > 4 V for 0 s", 19, "positive time"),
        ("voltage > 4 V for ever", 19, "expected a time after `for`"),
        ("voltage > 4 V for 5 s for 5 s", 23, "expected the end"),
        ("cycle >= 3 V", 10, "is a count"),
        ("dT/dt over 5 s > 1 degC", 18, "is a temperature; expected"),
        ("fall of voltage > 5 %", 9, r"write fall of abs\(voltage\)"),
        ("fall abs(voltage) > 5 %", 6, 'expected "of"'),
        ("fall of abs(dV/dt over 60 s) > 5 %", 13, "did you mean|there are voltage"),
        ("fall of abs(cycle) > 5 %", 1, "counted, not measured"),
        ("fall of abs(voltage) > 5 mV", 24, "is a voltage; expected a fraction"),
        ("fall of abs(voltage) after 5 V > 5 %", 28, "expected a time"),
        (
            "dose of h2o > 5 s",
            15,
            'is a time; dose of h2o takes a value in ppm h, such as "5 ppm h"',
        ),
        ("dose of h2o > 5 ppm", 15, "is a fraction; dose of h2o takes a value in ppm h"),
        ("dose of h2o > 5", 15, "has no unit; dose of h2o takes a value in ppm h"),
        ("dose of h2o above > 5 ppm h", 19, "which h2o must exceed to count"),
        ("dose of h2o above 1 V > 5 ppm h", 19, "is a voltage; expected a fraction"),
        ("dose of current > 1 mAh", 1, "is a live quantity: write charge"),
        ("dose of power > 1 Wh", 1, "is a live quantity: write energy"),
        ("dose of elapsed > 1 s", 1, "counted, not measured"),
        ("voltage >= £4", 12, "means nothing here"),
        ("elapsed >= C/20", 12, "is a C-rate"),
    ],
)
def test_an_error_points_at_the_column(text: str, column: int, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as caught:
        parse(text)
    first, _, rest = str(caught.value).partition("\n")
    assert first.startswith(f"condition, column {column}: ")
    shown, caret = rest.split("\n")
    assert shown == f"  {text}"
    assert caret.index("^") == column + 1


def test_deep_nesting_and_long_text_are_refused_not_fatal() -> None:
    with pytest.raises(BadInputError, match="too many parentheses"):
        parse("(" * 900 + "voltage > 1 V" + ")" * 900)
    with pytest.raises(BadInputError, match="too many parentheses"):
        parse("abs(" * 300 + "voltage" + ")" * 300 + " > 1 V")
    with pytest.raises(BadInputError, match="too long"):
        parse("(" * 100_000)


def test_conditions_are_values() -> None:
    found: dict[Condition, str] = {VOLTAGE >= 4.25: "end"}
    assert found[parse("voltage >= 4.25 V")] == "end"
    assert (VOLTAGE >= 4.25) != (VOLTAGE > 4.25)
    nested = All((VOLTAGE > 1.0, All((VOLTAGE > 2.0, VOLTAGE > 3.0))))
    assert nested == (VOLTAGE > 1.0) & (VOLTAGE > 2.0) & (VOLTAGE > 3.0)
    with pytest.raises(AttributeError):
        (VOLTAGE >= 4.25).bound = 5.0  # type: ignore[misc]


def test_python_and_or_chained_comparisons_are_refused() -> None:
    with pytest.raises(TypeError, match="no truth value"):
        _ = (VOLTAGE >= 4.0) and (ELAPSED >= 1.0)
    with pytest.raises(TypeError, match="no truth value"):
        _ = 2.0 < VOLTAGE < 4.0


@pytest.mark.parametrize("bound", [math.nan, math.inf, 1e31])
def test_a_bound_must_be_a_number_of_this_world(bound: float) -> None:
    with pytest.raises(BadInputError):
        _ = VOLTAGE >= bound


def test_an_unknown_quantity_and_empty_groups_are_refused() -> None:
    with pytest.raises(BadInputError, match="did you mean"):
        Live("voltag")
    with pytest.raises(BadInputError, match="at least two"):
        All((VOLTAGE > 1.0,))
    with pytest.raises(BadInputError):
        Comparison(VOLTAGE, Operator.ABOVE, 1.0, Per.CAPACITY)


def test_it_tells_which_quantities_and_windows_it_uses() -> None:
    condition = parse("dV/dt over 60 s < 1 mV/s and (pressure > 1 MPa or elapsed > 1 s) for 5 s")
    assert condition.quantities == {"voltage", "pressure", "elapsed"}
    assert condition.windows == (60.0,)


def test_a_c_rate_becomes_amperes_with_the_capacity_of_the_cell() -> None:
    condition = parse("voltage > 4 V or abs(current) <= C/20 for 5 s")
    assert condition.unbound == {Per.CAPACITY}
    bound = condition.bind(capacity=11.304)
    assert bound == parse("voltage > 4 V") | (abs(CURRENT) <= 11.304 / 20.0 / 3600.0).held(5.0)
    assert bound.unbound == frozenset()
    assert bound.bind() == bound


def test_specific_bounds_become_amperes_and_coulombs() -> None:
    assert parse("current > 1 mA/cm2").bind(area=1.131e-4) == (CURRENT > 10.0 * 1.131e-4)
    assert parse("current > 20 mA/g").bind(mass=1e-5) == (CURRENT > 20.0 * 1e-5)
    assert parse("step_charge > 1 mAh/cm2").bind(area=1e-4) == (STEP_CHARGE > 36000.0 * 1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("current < C/20", 'capacity = "3.14 mAh"'),
        ("current < 1 mA/cm2", 'area = "1.131 cm2"'),
        ("current < 1 mA/g", 'active_mass = "16.96 mg"'),
    ],
)
def test_a_missing_capacity_says_how_to_state_it(text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        parse(text).bind()
    with pytest.raises(BadInputError, match=words):
        parse(text).evaluator()


def test_the_tightest_plain_voltage_bound_is_found() -> None:
    conditions = [
        parse("elapsed > 1 h or voltage >= 4.3 V"),
        VOLTAGE >= 4.25,
        VOLTAGE > 4.4,
        VOLTAGE <= 2.5,
        VOLTAGE < 2.7,
    ]
    assert voltage_bound(conditions, +1e-3) == 4.25
    assert voltage_bound(conditions, -1e-3) == 2.7


def test_a_voltage_bound_that_does_not_end_the_step_by_itself_does_not_count() -> None:
    conditions = [
        parse("voltage >= 4.25 V and elapsed > 1 h"),
        parse("voltage >= 4.25 V for 5 s"),
        parse("abs(voltage) >= 4.25 V"),
        parse("dV/dt over 60 s >= 1 V/s"),
        parse("voltage <= 2.5 V"),
        parse("elapsed >= 1 h"),
    ]
    assert voltage_bound(conditions, 1.0) is None
    assert voltage_bound([], 1.0) is None
