"""What the documents show works: links lead somewhere, code compiles, the tutorial runs."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operando.protocols import RunState
from operando.protocols.chemistries import CHEMISTRIES
from operando.simulators.cell import presets
from operando.station.engine import exit_code

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs/tutorials/first-run.md"
RUN_A_PROTOCOL = ROOT / "docs/how-to/run-a-protocol.md"
RECOVER = ROOT / "docs/how-to/recover-after-a-crash.md"
VERIFY, EXPORT = ["records", "verify"], ["records", "export"]
FOR_THE_MAINTAINERS = {"--draws", "--seed", "--page"}
"""Options of `operando validate` that the page of its table tells, and `--help`."""
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
names = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(document: Path, language: str) -> list[str]:
    """Fenced code blocks of one language."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def operando(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder: whole, as the top floor puts it together."""
    return subprocess.run(
        [sys.executable, "-m", "operando.validation", *arguments],
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


def commands(document: Path) -> list[list[str]]:
    """Command lines that begin with `operando`, without that word."""
    return [
        shlex.split(line, comments=True)[1:]
        for block in blocks(document, "sh")
        for line in block.splitlines()
        if line.startswith("operando ")
    ]


@pytest.fixture(scope="module")
def helps() -> Iterator[Callable[[tuple[str, ...]], str]]:
    """What `--help` of a command says, asked once each."""

    @functools.cache
    def ask(command: tuple[str, ...]) -> str:
        result = operando(ROOT, *command, "--help")
        assert result.returncode == 0, command
        return result.stdout

    yield ask
    ask.cache_clear()


@pytest.mark.parametrize(
    "document", [README, TUTORIAL, RUN_A_PROTOCOL], ids=["README", "tutorial", "how-to"]
)
def test_every_command_and_option_that_a_document_shows_exists(
    document: Path, helps: Callable[[tuple[str, ...]], str]
) -> None:
    shown = commands(document)
    assert {"check", "simulate", "run", "records"} <= {words[0] for words in shown}
    for words in shown:
        depth = 2 if words[0] == "records" else 1
        text = helps(tuple(words[:depth]))
        for option in (word for word in words if word.startswith("--")):
            assert option in text, (words, option)


def test_every_command_of_the_page_about_crashes_exists(
    helps: Callable[[tuple[str, ...]], str],
) -> None:
    shown = commands(RECOVER)
    assert {"resume", "records"} == {words[0] for words in shown}
    for words in shown:
        text = helps(tuple(words[: 2 if words[0] == "records" else 1]))
        assert all(option in text for option in words if option.startswith("--"))


def test_the_refusals_of_the_page_about_crashes_are_those_of_the_program() -> None:
    page = RECOVER.read_text(encoding="utf-8").partition("## 5.")[2]
    cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    told = [words for cell in cells for words in re.findall(r"`([^`]+)`", cell)]
    assert len(told) > 10
    folders = (ROOT / "station/operando/station", ROOT / "protocols/operando/protocols")
    modules = (path for folder in folders for path in folder.glob("re*.py"))
    source = " ".join(path.read_text(encoding="utf-8") for path in modules)
    source = re.sub(r'"\s+f?"', "", source)  # a text goes on in the next line
    assert [words for words in told if words not in source] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_module_that_a_document_runs_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (operando[\w.]*)", text))
    if document == README:
        assert "operando.validation.fit" in modules
    assert {name for name in modules if importlib.util.find_spec(name) is None} == set()


def test_every_command_there_is_stands_in_the_readme(
    helps: Callable[[tuple[str, ...]], str],
) -> None:
    there = set(re.findall(r"^│ ([a-z]+)  ", helps(()), re.MULTILINE))
    assert {"run", "check", "records", "validate"} <= there
    text = README.read_text(encoding="utf-8")
    overview = next(block for block in blocks(README, "sh") if "operando records list |" in block)
    assert {name for name in there if not re.search(rf"\b{name}\b", overview)} == set()
    for command in ("run", "validate"):
        options = set(re.findall(r"--[a-z]+", helps((command,)))) - {"--help"} - FOR_THE_MAINTAINERS
        assert options
        assert {option for option in options if option not in text} == set()


def test_the_exit_codes_of_the_readme_are_those_of_a_run() -> None:
    text = README.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d) \| (.*) \|$", text, re.MULTILINE))
    assert set(rows) == {"0", "1", "2", "3", "4", "5"}
    for state in (RunState.COMPLETED, RunState.TRIPPED, RunState.ABORTED):
        assert rows[str(exit_code(state))].startswith(state.value)
    assert "was not driven" in rows[str(exit_code(RunState.REFUSED))]
    assert "instrument fault" in rows[str(exit_code(RunState.FAULTED))]


def test_the_recipe_and_bench_of_the_readmes_two_terminals_fit_together() -> None:
    (words,) = [w for w in commands(README) if w[0] == "check" and "examples/bench.toml" in w]
    result = operando(ROOT, *words, "--json")
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)[0]["limits"]) >= 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_picture_that_a_document_shows_belongs_to_the_project(document: Path) -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("an unpacked sdist has no pictures")
    tracked = {ROOT / name for name in listing.stdout.split("\0") if name}
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    local = [picture for picture in pictures if "://" not in picture]
    missing = [picture for picture in local if (document.parent / picture).resolve() not in tracked]
    assert missing == []


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

    afterwards = [w for w in commands(TUTORIAL) if w[:2] in (["records", "show"], VERIFY, EXPORT)]
    assert len(afterwards) == 3
    for words in afterwards:
        result = operando(lab, *words)
        assert result.returncode == 0, result.stdout + result.stderr
    assert [path.name for path in (lab / "exports").glob("*SIMULATED.bdf.csv")]


def test_what_the_page_about_running_a_protocol_shows_works(tmp_path: Path) -> None:
    lab = write_lab(tmp_path, RUN_A_PROTOCOL)
    over_wires = {"--virtual", "--dry-run"}
    for words in commands(RUN_A_PROTOCOL):
        if words[0] == "simulate" or (words[0] == "run" and not over_wires.intersection(words)):
            continue  # the tutorial has them, and their tests
        result = operando(lab, *words)
        assert result.returncode == 0, result.stdout + result.stderr
        if "--dry-run" in words:
            assert "SIMULATED" in result.stdout
            assert (lab / "predicted.png").is_file()
    (source,) = blocks(RUN_A_PROTOCOL, "python")

    result = subprocess.run(
        [sys.executable, "-c", source],
        cwd=lab, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith("c1, cycle 1: ")
    assert re.search(r"pressure swing \+[01]\.\d\d MPa$", second)


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


def test_the_cell_of_the_readme_ages() -> None:
    (source,) = [block for block in blocks(README, "python") if "from_preset" in block]
    assert len(source.split("\n\n")[1].splitlines()) <= 5

    result = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 100
    first, last = (float(re.findall(r"([\d.]+) mAh", line)[0]) for line in (lines[0], lines[-1]))
    assert 0.5 * first < last < 0.95 * first


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_preset_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(
        re.findall(r"`((?:ncm\d+|li|pellet|steel|static|sweep|composite)-[a-z\d-]+)`", text)
    )
    assert named - {*presets(None), *CHEMISTRIES} == set()


def test_every_preset_stands_on_a_page_about_cells() -> None:
    pages = [ROOT / f"docs/explanation/{name}.md" for name in ("other-cells", "published-systems")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    there = {name for name in presets(None) if not re.search(rf"`{name}`", text)}
    assert there == set()
