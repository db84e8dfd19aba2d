"""A driver in a package of its own: installed into a folder, found there, and used in a run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import conformance
from conformance import RULES, Profile, Rule, Subject
from operando.instruments.clock import run
from operando.instruments.registry import DRIVERS, load
from operando.records import Record, verify

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "examples/driver-package"
GUIDE = ROOT / "docs/how-to/write-a-driver.md"
NAME = "thermolog-tl2"


def shown(language: str) -> list[str]:
    """Code blocks of the guide."""
    text = GUIDE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


ENTRY_POINTS, BENCH, RECIPE = shown("toml")
ROLE = 'thermometer = "t1"'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package, from nothing but its source."""
    folder = tmp_path_factory.mktemp("installed")
    result = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
         "--no-build-isolation", "--disable-pip-version-check", "--target", folder, PACKAGE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


def python(folder: Path, path: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder. path: where it looks for packages beside its own."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def operando(folder: Path, path: Path | None, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder."""
    return python(folder, path, "-m", "operando.validation", *words)


def test_the_command_line_lists_what_was_installed_and_nothing_before(
    installed: Path, tmp_path: Path
) -> None:
    before = operando(tmp_path, None, "drivers")
    assert before.returncode == 0, before.stderr
    assert "keithley-2450" in before.stdout
    assert NAME not in before.stdout

    listed = operando(tmp_path, installed, "drivers")
    assert listed.returncode == 0, listed.stderr
    assert f"{NAME}: Thermolog TL2" in listed.stdout
    told = json.loads(operando(tmp_path, installed, "drivers", "--json").stdout)
    (info,) = [info for info in told if info["name"] == NAME]
    assert info["roles"] == ["thermometer"]
    assert info["measures"] == ["temperature"]


def write_lab(folder: Path, beside: str = ROLE) -> None:
    """The guide's bench and recipe. beside: how the channel has the thermometer."""
    assert ROLE in BENCH
    (folder / "bench.toml").write_text(BENCH.replace(ROLE, beside), encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")


@pytest.mark.parametrize("beside", [ROLE, 'shared = ["t1"]'], ids=["role", "shared"])
def test_a_run_records_what_it_measures(installed: Path, tmp_path: Path, beside: str) -> None:
    write_lab(tmp_path, beside)
    (words,) = re.findall(r"^operando (run .*)$", "".join(shown("sh")), re.MULTILINE)
    ran = operando(tmp_path, installed, *words.split())
    assert ran.returncode == 0, ran.stdout + ran.stderr

    (manifest,) = tmp_path.glob("runs/*/manifest.json")
    assert not verify(manifest.parent).problems
    readings = Record.open(manifest.parent).aux("temperature", source="t1")
    assert len(readings["value"]) > 50
    assert set(readings["status"]) == {"ok"}
    assert all(abs(value - 310.5) < 0.05 for value in readings["value"])


def test_without_the_package_the_bench_is_refused_with_its_place(tmp_path: Path) -> None:
    write_lab(tmp_path)
    refused = operando(tmp_path, None, "check", "recipe.toml", "--bench", "bench.toml")
    assert refused.returncode == 2
    words = " ".join(re.sub(r"[│\n]", " ", refused.stderr).split())
    assert f'there is no driver "{NAME}"' in words
    assert "Traceback" not in refused.stderr


def test_the_packages_own_test_passes_away_from_this_project(
    installed: Path, tmp_path: Path
) -> None:
    shutil.copy(PACKAGE / "test_thermolog.py", tmp_path)
    result = python(
        tmp_path, installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_thermolog.py"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.findall(r"(\d+) passed", result.stdout)[0]) >= 15


@pytest.fixture
def on_the_path(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package in this process, as if it were installed beside operando."""
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setitem(conformance.PROFILES, NAME, PROFILE)
    yield
    for module in [name for name in sys.modules if name.partition(".")[0] == "thermolog"]:
        del sys.modules[module]


PROFILE = Profile(
    is_write=lambda request: not request.endswith(b"?\r\n"),
    serial="10472",
    truth=lambda subject, now: {
        "temperature": (subject.simulation.rooms["room"].temperature(now), 0.05)
    },
)


@pytest.mark.usefixtures("on_the_path")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_example_obeys_the_rules_of_every_driver(rule: Rule, tmp_path: Path) -> None:
    async def main() -> None:
        await rule(Subject(NAME, load(DRIVERS, NAME), tmp_path))

    run(main(), virtual=True)


def test_driver_and_simulator_of_the_example_do_not_know_each_other() -> None:
    for module, forbidden in (("driver", "simulator"), ("simulator", "driver")):
        source = (PACKAGE / f"thermolog/{module}.py").read_text(encoding="utf-8")
        imported = [
            name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (getattr(node, "module", None) or "", *(a.name for a in node.names))
        ]
        assert len(imported) > 10
        assert [name for name in imported if forbidden in name.replace("simulators", "")] == []


def test_the_guide_shows_the_code_of_the_example() -> None:
    files = [*PACKAGE.glob("thermolog/*.py"), PACKAGE / "test_thermolog.py", Path(__file__)]
    sources = [path.read_text(encoding="utf-8") for path in files]
    blocks = shown("python")
    assert len(blocks) >= 8
    for block in blocks:
        # Methods are shown without the class around them.
        either = (block, textwrap.indent(block, "    "))
        assert any(text in source for text in either for source in sources), block
    assert ENTRY_POINTS in (PACKAGE / "pyproject.toml").read_text(encoding="utf-8")
