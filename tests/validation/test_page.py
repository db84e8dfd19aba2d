"""The page that shows the table: complete, generated, every miss accounted for."""

from __future__ import annotations

import re
from pathlib import Path

from operando.validation.published import Role, load_targets
from operando.validation.report import BEGIN, END, SEEN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "validation.md"


def parts() -> tuple[str, str]:
    """The table of the page, and what stands after it."""
    text = PAGE.read_text(encoding="utf-8")
    table, _, after = text.partition(BEGIN)[2].partition(END)
    return table, after


def rows_of(table: str) -> list[list[str]]:
    """Cells of the rows of its Markdown tables, ids without the mark of rows that were seen."""
    lines = [line for line in table.splitlines() if re.match(r"\| [VM]-", line)]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [[row[0].removesuffix(f" {SEEN}"), *row[1:]] for row in rows]


def test_every_target_stands_in_the_table_with_its_cases() -> None:
    shown = [row[0] for row in rows_of(parts()[0])]
    for role in Role:
        for target in load_targets(role):
            expected = 1 if role is Role.ORDERING else len(target.published)
            assert shown.count(target.id) == expected, target.id


def test_rows_that_were_seen_before_the_model_changed_are_marked() -> None:
    seen = {t.id for role in Role for t in load_targets(role) if t.seen}
    marked = set(re.findall(rf"^\| (\S+) {re.escape(SEEN)} \|", parts()[0], re.M))
    assert seen
    assert marked == seen


def test_every_miss_has_its_account() -> None:
    table, after = parts()
    missed = {row[0] for row in rows_of(table) if "missed" in row}
    named = {name for bold in re.findall(r"\*\*([^*]+):", after) for name in re.split(r", ", bold)}
    assert missed
    assert missed - named == set()


def test_the_table_says_how_it_came_about() -> None:
    assert re.search(r"operando [\d.]+, full, \d+ s; every cell SIMULATED", parts()[0])
