"""The published results, as the project keeps them."""

from __future__ import annotations

import math

import pytest

from operando.instruments.errors import BadInputError
from operando.simulators.cell import presets
from operando.validation.measurements import MEASUREMENTS
from operando.validation.published import Role, Target, Tolerance, load_targets, parse_targets

ROW = """
role = "{role}"
[papers]
kim = "Kim et al."
[[target]]
id = "V-1"
quantity = "capacity"
unit = "mAh/g"
source = {{ paper = "kim", section = "3" }}
conditions = "C/10"
{rest}
"""

VALUES = "published = { caec = 200.0 }\ntolerance = { relative = 0.02 }"


def parsed(rest: str, role: Role = Role.CALIBRATED) -> Target:
    """The one target of a file."""
    (target,) = parse_targets(role, ROW.format(role=role.value, rest=rest), "file.toml")
    return target


@pytest.mark.parametrize("role", Role)
def test_every_target_has_value_source_tolerance_and_conditions(role: Role) -> None:
    targets = load_targets(role)
    assert targets
    for target in targets:
        assert target.role is role
        assert target.source.paper
        assert target.source.section
        assert target.conditions
        assert target.cases
        if role is Role.ORDERING:
            assert target.statement
        else:
            assert target.tolerance is not None
            assert all(math.isfinite(value) for value in target.published.values())


def test_every_target_has_a_measurement_and_every_measurement_a_target() -> None:
    targets = {target.id for role in Role for target in load_targets(role)}
    assert targets == set(MEASUREMENTS)


def test_no_target_lies_in_two_files() -> None:
    ids = [target.id for role in Role for target in load_targets(role)]
    assert len(ids) == len(set(ids)) == 31


def test_rows_that_the_oxides_reconstruction_concerns_say_so_alike() -> None:
    seen = {target.id: target.seen for role in Role for target in load_targets(role)}
    assert "reconstruction of the oxide was added" in seen["V-11"]
    assert seen["V-11"] == seen["V-11o"] == seen["V-12"]


def test_the_presets_that_stand_for_cases_exist() -> None:
    named = {p for role in Role for t in load_targets(role) for p in t.presets.values()}
    assert named
    assert named <= set(presets())


def test_the_calibrated_numbers_are_those_of_the_paper() -> None:
    found = {target.id: target.published for target in load_targets(Role.CALIBRATED)}
    # Kim et al., Energy Storage Materials 2026, 105167, section 3.3
    assert found["V-01"] == {"caec": 220.59, "lno": 217.83}
    assert found["V-09"] == {"caec": 81.0, "lno": 74.2, "bare": 69.1}


@pytest.mark.parametrize(
    ("tolerance", "measured", "accepted"),
    [
        (Tolerance(absolute=2.0), 102.0, True),
        (Tolerance(absolute=2.0), 97.9, False),
        (Tolerance(relative=0.1), 110.0, True),
        (Tolerance(relative=0.1), 89.0, False),
        (Tolerance(at_least=True), 100.0, True),
        (Tolerance(at_least=True), 99.9, False),
        (Tolerance(absolute=2.0), math.nan, False),
        (Tolerance(at_least=True), math.inf, False),
    ],
)
def test_a_tolerance_accepts_what_lies_within(
    tolerance: Tolerance, measured: float, accepted: bool
) -> None:
    assert tolerance.accepts(measured, 100.0) is accepted


def test_a_file_of_another_role_is_refused() -> None:
    text = ROW.format(role="held-out", rest=VALUES)
    with pytest.raises(BadInputError, match="targets of one role lie in one file"):
        parse_targets(Role.CALIBRATED, text, "calibrated.toml")


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("published = { caec = 200.0 }", "needs `published` and `tolerance`"),
        ("tolerance = { relative = 0.02 }", "needs `published` and `tolerance`"),
        ("published = { caec = nan }\ntolerance = { relative = 0.02 }", "not a finite number"),
        ("published = { caec = 200.0 }\ntolerance = { relative = 0.0 }", "tolerance is"),
        ("published = { caec = 200.0 }\ntolerance = { about = 3.0 }", "tolerance is"),
        (VALUES + '\ndescending = [["caec", "lno"]]', "no order"),
    ],
)
def test_an_incomplete_row_is_refused_with_its_place(rest: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        parsed(rest)
    assert "file.toml: target V-1" in str(caught.value)


def test_an_ordering_with_a_value_is_refused() -> None:
    with pytest.raises(BadInputError, match="an ordering has"):
        parsed(VALUES + '\ndescending = [["caec", "lno"]]', Role.ORDERING)
