"""The reference pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.conditions import parse
from operando.instruments.limits import Action
from operando.instruments.quantities import QUANTITIES
from operando.instruments.recipe import parse_recipe
from operando.instruments.roles import ROLES
from operando.instruments.units import parse_unit

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


def test_the_table_of_live_quantities_is_the_one_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S*) ?\| (.+?) \|$", page("conditions.md"), re.MULTILINE)
    live = [(name, unit, words) for name, unit, words in rows if name in QUANTITIES]
    assert live == [(q.name, q.unit, q.meaning) for q in QUANTITIES.values()]


def test_the_conditions_shown_are_canonical_and_the_python_shown_runs() -> None:
    shown = blocks("conditions.md", "text")[0].splitlines()
    assert len(shown) == 5
    assert [str(parse(line)) for line in shown] == shown
    exec(blocks("conditions.md", "python")[0], {})


def test_every_unit_shown_is_known() -> None:
    section = page("conditions.md").partition("## Units")[2].partition("`C` is a C-rate")[0]
    written = [unit for part in re.findall(r"`([^`]+)`", section) for unit in part.split()]
    known = [unit for unit in written if unit not in ("*", "/", "µ", "Ω", "2", "30")]
    assert len(known) > 50
    for unit in known:
        parse_unit(unit)


def test_the_bench_shown_loads_and_every_role_is_named(tmp_path: Path) -> None:
    whole, rooms, script = blocks("bench-file.md", "toml")
    path = tmp_path / "bench.toml"
    path.write_text(whole, encoding="utf-8")
    assert load_bench(path).channels["A1"].cell == "c1"
    path.write_text(rooms, encoding="utf-8")
    assert load_bench(path).cells["c1"].room == "oven"
    shown = '[instruments.smu1.simulated]\ncell = "c1"\n'
    assert script.startswith(shown)
    path.write_text(whole.replace(shown, script), encoding="utf-8")
    simulated = load_bench(path).instruments["smu1"].simulated
    assert simulated is not None
    assert "at cycle 3 + 10 s: drop 40 s" in simulated.faults
    assert [role for role in ROLES if f"`{role}`" not in page("bench-file.md")] == []


@pytest.mark.parametrize("name", ["recipe-file.md", "conditions.md"])
def test_the_recipes_shown_load(name: str) -> None:
    (block,) = blocks(name, "toml")
    text = block if "protocol" in block else f'protocol = "cccv"\n{block}'
    recipe = parse_recipe(text, Path("shown.toml"))
    assert len(recipe.limits) == 2
    assert all(f"`{action.value}`" in page("conditions.md") for action in Action)
