"""The example scripts run as they are, from any folder; the recipes fit a channel of the lab."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from operando.instruments.bench_file import load_bench
from operando.station.client import RunRequest
from operando.station.requests import check_request

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
RECIPES = sorted((EXAMPLES / "recipes").glob("*.toml"))


def run(script: Path, folder: Path) -> str:
    """What a script prints, run in a folder."""
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_there_are_examples() -> None:
    assert {"age_a_cell.py", "first_run.py"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.name for path in SCRIPTS])
def test_an_example_runs_and_prints(tmp_path: Path, script: Path) -> None:
    assert run(script, tmp_path).strip()


def test_the_cells_that_age_lose_capacity_and_contact_and_gain_resistance(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "age_a_cell.py", tmp_path)
    assert printed.startswith("SIMULATED")
    rows = [line.split() for line in printed.splitlines() if re.match(r"ncm811-\w+ +\d", line)]
    cells = {name: [row for row in rows if row[0] == name] for name in {row[0] for row in rows}}
    assert sorted(cells) == ["ncm811-bare", "ncm811-caec", "ncm811-lno"]
    left = {}
    for name, table in cells.items():
        assert [int(row[1]) for row in table] == [1, 25, 50, 75, 100]
        columns = [[float(row[column]) for row in table] for column in (2, 3, 4, 5)]
        capacity, arc, contact, pressure = columns
        assert capacity == sorted(capacity, reverse=True)
        assert contact == sorted(contact, reverse=True)
        assert arc == sorted(arc)
        assert all(5.0 < value < 12.0 for value in pressure)  # MPa around the assumed 8
        left[name] = capacity[-1] / capacity[0]
    assert left["ncm811-caec"] > left["ncm811-lno"] > left["ncm811-bare"]


def test_there_are_recipes_of_the_published_reference_set() -> None:
    assert {
        "kim2026-formation.toml",
        "kim2026-rate-capability.toml",
        "kim2026-rate-capability-expert.toml",
        "kim2026-cycle-life.toml",
        "kim2026-cycle-life-4.35V.toml",
    } <= {path.name for path in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=[path.name for path in RECIPES])
def test_a_recipe_is_accepted_on_a_channel_of_the_example_laboratory(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert text.startswith("# "), "it says at its head what it is and where it comes from"
    bench = load_bench(EXAMPLES / "lab.toml")
    refused = {}
    for channel in sorted(bench.channels):
        checked = check_request(bench, channel, RunRequest(recipe=text))
        if checked.report.ok:
            return
        refused[channel] = [problem.message for problem in checked.report.problems]
    pytest.fail(f"no channel takes {recipe.name}: {refused}")
