"""The how-to about limits: its bench and recipes work, and its table is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from operando.instruments.bench_file import parse_bench
from operando.instruments.clock import Clock
from operando.instruments.recipe import parse_recipe
from operando.instruments.toml_text import TomlDocument
from operando.instruments.words import bound_words
from operando.protocols.chemistries import CHEMISTRIES
from operando.station.orders import order_from, settle
from operando.station.sheets import limit_lines, print_sheet

PAGE = Path(__file__).resolve().parents[1] / "docs/how-to/choose-limits.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_sheet_of_its_recipe_says_what_the_page_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench, recipe, overriding = blocks("toml")
    described = parse_bench(TomlDocument(bench, Path("lab.toml")))
    order = order_from(parse_recipe(recipe, Path("cycle.toml")))
    settled = settle(described, "A1", order)
    print_sheet(limit_lines(settled, described, Clock()))
    (shown,) = blocks("text")
    printed = " ".join(capsys.readouterr().out.split())
    assert " ".join(shown.split()) in printed
    assert "bounds on board of smu1" in printed
    assert settled.settings.preflight.pressure == (3e6, 10e6)
    # What the recipe names is not there twice.
    names = {limit.name.removesuffix(" (default)") for limit in settled.limits}
    assert names == {"over_voltage", "under_voltage", "over_current", "over_pressure"}
    assert len(settled.limits) == len(names)
    assert order_from(parse_recipe(overriding, Path("cycle.toml"))).preflight.override


@pytest.mark.parametrize("name", CHEMISTRIES)
def test_its_table_is_that_of_the_code(name: str) -> None:
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}`")]
    _, may, rest, pressure, temperature = (cell.strip() for cell in row.strip("|").split("|"))
    chemistry = CHEMISTRIES[name]
    for shown, (low, high) in ((may, chemistry.voltage_range), (rest, chemistry.open_circuit)):
        assert shown == f"{low:.5g} to {high:.5g} V".replace("2 to 4.4", "2.0 to 4.4")
    assert pressure == ("" if chemistry.pressure > 1e9 else "25 MPa")
    assert temperature == bound_words(chemistry.temperature, "K").replace("°C", "degC")
