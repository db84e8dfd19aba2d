"""Verdicts, the share of orderings, and how rows are printed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from operando.instruments.errors import BadInputError, OperandoError
from operando.validation.lab import Lab
from operando.validation.measurements import MEASUREMENTS
from operando.validation.outcomes import Found, NotYet
from operando.validation.prior import Interval
from operando.validation.published import Role, Source, Target, Tolerance
from operando.validation.report import (
    BEGIN,
    END,
    Circumstances,
    as_json,
    cells,
    columns,
    markdown,
    replaced,
    summary,
)
from operando.validation.verdicts import Row, Verdict, acceptable, holds, judge, measure, tally

CAPACITY = Target(
    id="V-1",
    quantity="capacity",
    unit="mAh/g",
    role=Role.CALIBRATED,
    source=Source("Kim et al.", "3.3"),
    conditions="C/10",
    presets={"caec": "ncm811-caec"},
    published={"caec": 200.0, "lno": 190.0},
    tolerance=Tolerance(relative=0.02),
)
ORDER = replace(
    CAPACITY,
    id="V-2",
    role=Role.ORDERING,
    published={},
    tolerance=None,
    descending=(("caec", "lno", "bare"),),
)
HOW = Circumstances("quick", draws=10, seed=1, version="0.1.0", seconds=12.0)


def orderings(met: int, missed: int) -> list[Row]:
    """Rows of orderings that were met and missed."""
    right, wrong = {"caec": 3.0, "lno": 2.0, "bare": 1.0}, {"caec": 1.0, "lno": 2.0, "bare": 3.0}
    found = [right] * met + [wrong] * missed
    return [row for values in found for row in judge(ORDER, Found(values))]


def test_a_value_is_judged_case_by_case() -> None:
    met, missed = judge(CAPACITY, Found({"caec": 203.9, "lno": 180.0}))
    assert (met.case, met.verdict) == ("caec", Verdict.MET)
    assert (missed.case, missed.verdict) == ("lno", Verdict.MISSED)
    assert missed.deviation == pytest.approx(-10.0)


def test_what_cannot_be_measured_yet_is_a_row_with_its_reason() -> None:
    rows = judge(CAPACITY, NotYet("no preset of a pellet"))
    assert [row.case for row in rows] == ["caec", "lno"]
    assert {row.verdict for row in rows} == {Verdict.NOT_YET}
    assert {row.note for row in rows} == {"no preset of a pellet"}


def test_a_measurement_that_leaves_a_case_out_is_a_defect() -> None:
    with pytest.raises(ValueError, match="lno"):
        judge(CAPACITY, Found({"caec": 200.0}))


def test_a_value_that_is_not_a_number_is_a_miss() -> None:
    rows = judge(CAPACITY, Found({"caec": math.nan, "lno": 190.0}))
    assert [row.verdict for row in rows] == [Verdict.MISSED, Verdict.MET]


@pytest.mark.parametrize(
    ("values", "met"),
    [((3.0, 2.0, 1.0), True), ((3.0, 3.0, 1.0), False), ((2.0, 3.0, 1.0), False),
     ((3.0, math.nan, 1.0), False)],
)  # fmt: skip
def test_an_ordering_holds_when_every_step_falls(
    values: tuple[float, float, float], met: bool
) -> None:
    assert holds(ORDER, dict(zip(("caec", "lno", "bare"), values, strict=True))) is met


def test_an_ordering_may_ask_for_signs_and_given_bounds() -> None:
    signs = replace(ORDER, descending=(), positive=("li",), negative=("lto",))
    assert holds(signs, {"li": 0.3, "lto": -0.1})
    assert not holds(signs, {"li": 0.3, "lto": 0.1})
    bounded = replace(ORDER, descending=(("60", "slow"),), given={"60": 60.0})
    assert bounded.cases == ("slow",)
    assert holds(bounded, {"slow": 50.0})
    assert not holds(bounded, {"slow": 61.0})


@pytest.mark.parametrize(
    ("met", "missed", "good"), [(9, 1, True), (8, 1, False), (0, 0, True), (0, 1, False)]
)
def test_nine_of_ten_measured_orderings_must_hold(met: int, missed: int, good: bool) -> None:
    assert acceptable([*orderings(met, missed), *judge(ORDER, NotYet("later"))]) is good


def test_a_calibrated_miss_is_not_acceptable_and_a_held_out_one_is() -> None:
    far = Found({"caec": 100.0, "lno": 100.0})
    assert not acceptable(judge(CAPACITY, far))
    held_out = judge(replace(CAPACITY, role=Role.HELD_OUT), far)
    assert tally(held_out, Role.HELD_OUT).missed == 2
    assert acceptable(held_out)


def test_a_cell_that_fails_is_a_miss_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(lab: Lab, target: Target) -> Found:
        raise OperandoError("the cell collapsed")

    monkeypatch.setitem(MEASUREMENTS, "V-1", fail)
    rows = judge(CAPACITY, measure(Lab(tmp_path), CAPACITY))
    assert {row.verdict for row in rows} == {Verdict.MISSED}
    assert all("the cell collapsed" in row.note for row in rows)


def test_an_interval_says_whether_it_holds_what_was_published() -> None:
    held_out = replace(CAPACITY, role=Role.HELD_OUT)
    found = Found({"caec": 203.0, "lno": 180.0})
    predicted = {"caec": Interval(198.0, 210.0, 20, 0), "lno": Interval(178.0, 182.0, 20, 3)}
    inside, outside = judge(held_out, found, predicted)
    assert inside.predicted is True
    assert outside.predicted is False
    assert "published outside" in " ".join(cells(outside))
    assert "3 failed" in " ".join(cells(outside))
    assert "inside the interval in 1 of 2" in summary([inside, outside])[0]


def test_a_published_bound_is_predicted_where_the_interval_reaches_above_it() -> None:
    bound = replace(
        CAPACITY, role=Role.HELD_OUT, published={"caec": 99.5}, tolerance=Tolerance(at_least=True)
    )
    (row,) = judge(bound, Found({"caec": 99.7}), {"caec": Interval(99.6, 99.8, 20, 0)})
    assert row.predicted is True
    assert "≥ 99.5" in cells(row)


def test_orderings_are_counted_apart_by_whether_they_had_missed_before() -> None:
    right, wrong = {"caec": 3.0, "lno": 2.0, "bare": 1.0}, {"caec": 1.0, "lno": 2.0, "bare": 3.0}
    seen = replace(ORDER, id="V-3", seen="a mechanism was added")
    rows = [
        *orderings(met=3, missed=1),
        *judge(seen, Found(right)),
        *judge(seen, Found(wrong)),
        *judge(seen, NotYet("later")),
    ]
    (line,) = summary(rows)
    assert line.startswith(
        "ordering: 4 met, 2 missed, 1 not yet (blind 3 of 4, seen before 1 of 2)"
    )
    assert "* no blind prediction: V-3" in line
    assert "(" not in summary(orderings(met=3, missed=1))[0]


def test_a_row_that_had_missed_says_what_was_changed_then() -> None:
    seen = replace(ORDER, seen="a mechanism was added")
    text = markdown(judge(seen, Found({"caec": 3.0, "lno": 2.0, "bare": 1.0})), HOW)
    assert "* missed before the model was changed: a mechanism was added" in text


@pytest.mark.parametrize("role", Role)
def test_a_row_has_a_text_for_every_column(role: Role) -> None:
    target = replace(ORDER if role is Role.ORDERING else CAPACITY, role=role)
    values = {"caec": 3.0, "lno": 2.0, "bare": 1.0}
    for row in judge(target, Found(values)) + judge(target, NotYet("later")):
        assert len(cells(row)) == len(columns(role))


def test_markdown_prints_misses_and_reasons() -> None:
    rows = judge(CAPACITY, Found({"caec": 150.0, "lno": 190.0}, "by hand"))
    text = markdown([*rows, *judge(ORDER, NotYet("no preset yet"))], HOW)
    assert (
        "| V-1 | capacity, mAh/g | caec | 200 ± 2 % | 150 | -25.0 % | missed | instruments |"
        in text
    )
    assert "NOT YET: no preset yet" in text
    assert "Kim et al., section 3.3" in text


def test_json_has_its_schema_and_no_number_that_json_lacks() -> None:
    held_out = replace(CAPACITY, role=Role.HELD_OUT)
    rows = [
        *judge(CAPACITY, Found({"caec": math.nan, "lno": 190.0})),
        *judge(
            held_out,
            Found({"caec": 200.0, "lno": 190.0}),
            {"caec": Interval(math.nan, math.nan, 4, 4)},
        ),
        *orderings(1, 0),
        *judge(ORDER, NotYet("later")),
    ]
    data = json.loads(json.dumps(as_json(rows, HOW), allow_nan=False))
    assert data["schema"] == "operando-validation-1"
    assert data["simulated"] is True
    assert (data["mode"], data["draws"], data["seed"]) == ("quick", 10, 1)
    assert data["summary"]["calibrated"] == {"met": 1, "missed": 1, "not yet": 0}
    common = {"id", "quantity", "unit", "role", "conditions", "source", "verdict", "path", "note"}
    common |= {"seen"}
    value = {"case", "published", "tolerance", "measured", "deviation", "relative_deviation"}
    for row in data["rows"]:
        expected = {"order", "values"} if row["role"] == "ordering" else value | {"interval"}
        assert set(row) == common | expected
    assert data["rows"][0]["measured"] is None
    assert data["rows"][2]["interval"] == {
        "low": None, "high": None, "draws": 4, "failed": 4, "holds_published": None
    }  # fmt: skip


def test_a_page_keeps_all_but_its_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n{BEGIN}\nold\n{END}\nwhy\n", encoding="utf-8")
    text = replaced(page, "| new |")
    assert text == f"# Title\n{BEGIN}\n\n| new |\n{END}\nwhy\n"


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="no place for a table"):
        replaced(page, "| new |")
    with pytest.raises(BadInputError, match="cannot be read"):
        replaced(tmp_path / "none.md", "| new |")
