"""What the documents show works: links lead somewhere, code compiles, the tutorial runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs/tutorials/first-run.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
names = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(document: Path, language: str) -> list[str]:
    """Fenced code blocks of one language."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def operando(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "operando.station", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def write_lab(folder: Path, document: Path) -> Path:
    """Write the bench and the recipe that a document shows into a folder."""
    bench, recipe = blocks(document, "toml")
    (folder / "lab.toml").write_text(bench, encoding="utf-8")
    (folder / "cycle.toml").write_text(recipe, encoding="utf-8")
    return folder


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with the two files that the tutorial has its reader write."""
    return write_lab(tmp_path, TUTORIAL)


def test_there_are_documents() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/index.md"} <= set(names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_code_in_documents_can_be_parsed(document: Path) -> None:
    for source in blocks(document, "python"):
        compile(source, str(document), "exec")
    for source in blocks(document, "toml"):
        tomllib.loads(source)


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    assert {page for page in pages - {"index.md"} if f"({page})" not in index} == set()


def test_every_decision_is_listed_and_has_its_three_parts() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert decisions
    for decision in decisions:
        assert f"decisions/{decision.name}" in index
        text = decision.read_text(encoding="utf-8")
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == [
            "Context", "Decision", "Consequence",
        ]  # fmt: skip


def test_the_bench_and_recipe_of_the_readme_fit_together(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, README)

    result = operando(lab, "check", "cycle.toml", "--bench", "lab.toml", "--json")

    assert result.returncode == 0, result.stderr
    (channel,) = json.loads(result.stdout)
    names = [limit["name"] for limit in channel["limits"]]
    assert names[:4] == ["over_voltage", "under_voltage", "over_current", "over_pressure"]


def test_the_commands_of_the_readme_exist() -> None:
    commands = {
        shlex.split(line, comments=True)[1]
        for block in blocks(README, "sh")
        for line in block.splitlines()
        if line.startswith("operando ")
    }
    assert {"demo", "simulate", "check", "run", "records", "drivers"} <= commands
    for command in sorted(commands):
        assert operando(ROOT, command, "--help").returncode == 0, command


def test_the_protocol_of_the_readme_makes_a_plan() -> None:
    (source,) = [block for block in blocks(README, "python") if "@protocol" in block]
    # A module of its own, because a protocol's annotations are looked up in it.
    code = f"{source}\nplan = one_charge(rate='C/20')\nassert plan.window() == (2.5, 4.25)\n"
    result = subprocess.run(
        [sys.executable, "-"], input=code, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_tutorial_runs_in_virtual_time(lab: Path) -> None:
    checked = operando(lab, "check", "cycle.toml", "--bench", "lab.toml")
    assert checked.returncode == 0, checked.stderr

    command = "run cycle.toml --bench lab.toml --channel A1 --virtual --output runs"
    assert f"operando {command}" in TUTORIAL.read_text(encoding="utf-8")
    ran = operando(lab, *command.split())
    assert ran.returncode == 0, ran.stdout + ran.stderr

    listed = operando(lab, "records", "list", "runs")
    assert "SIMULATED" in listed.stdout


def test_a_wrong_unit_in_the_tutorials_recipe_is_refused_with_its_place(lab: Path) -> None:
    recipe = lab / "cycle.toml"
    text = recipe.read_text(encoding="utf-8")
    assert "voltage > 4.30 V" in text
    recipe.write_text(text.replace("voltage > 4.30 V", "voltage > 4.30 A"), encoding="utf-8")
    line = 1 + text[: text.index("4.30 V")].count("\n")

    result = operando(lab, "check", "cycle.toml", "--bench", "lab.toml")

    assert result.returncode == 2
    assert "cycle.toml" in result.stderr
    assert str(line) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("document", [README, TUTORIAL], ids=["README", "tutorial"])
def test_the_script_of_the_documents_prints_its_cycles(tmp_path: Path, document: Path) -> None:
    lab = write_lab(tmp_path, document)
    (source,) = [block for block in blocks(document, "python") if "open_bench" in block]

    result = subprocess.run(
        [sys.executable, "-c", source],
        cwd=lab, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == (2 if "cycles=2" in source else 1)
