"""The guide to protocol scripts: its script, recipe, bench and commands work as it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from operando.instruments.bench_file import load_bench
from operando.protocols.lint import findings
from operando.protocols.script_files import load_script
from operando.records import Record
from operando.station.assembly import protocol_functions

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs/how-to/write-a-protocol-script.md"
TEXT = GUIDE.read_text(encoding="utf-8")


def shown(language: str) -> list[str]:
    """Code blocks of the guide."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


(SCRIPT,) = shown("python")
RECIPE, FOLDER = shown("toml")
(COMMANDS,) = shown("sh")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with a bench, and the files that the guide has its reader write."""
    shutil.copy(ROOT / "examples/bench.toml", tmp_path / "lab.toml")
    (tmp_path / "relaxing_pulses.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "pulses.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def operando(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "operando.station", *words],
        cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_commands_of_the_guide_list_check_and_run_its_script(lab: Path) -> None:
    listed, checked, ran = (
        operando(lab, *words) for words in (shlex.split(line)[1:] for line in COMMANDS.splitlines())
    )
    assert listed.returncode == 0, listed.stderr
    assert "relaxing_pulses.py: Charge in pulses until the voltage hardly falls" in listed.stdout
    assert checked.returncode == 0, checked.stderr
    assert "note: relaxing_pulses.py" not in listed.stdout + checked.stdout
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (manifest,) = lab.glob("runs/*/manifest.json")
    told = json.loads(manifest.read_text())["protocol"]
    assert told["text"] == SCRIPT
    labels = [step.label for step in Record.open(manifest.parent).steps()]
    assert labels[:2] == ["pulse", "relax"]
    assert labels[-4:] == ["charge", "rest after charge", "discharge", "rest after discharge"]


def test_the_folder_of_the_guide_offers_its_script(lab: Path) -> None:
    bench = lab / "lab.toml"
    bench.write_text(f"{bench.read_text()}\n{FOLDER}", encoding="utf-8")
    (lab / "protocols").mkdir()
    shutil.move(lab / "relaxing_pulses.py", lab / "protocols")
    found, wrong = protocol_functions(load_bench(bench).scripts)
    assert "relaxing_pulses.py" in found
    assert not wrong


def test_what_the_guide_says_not_to_write_is_noted_and_what_it_says_to_write_is_not(
    tmp_path: Path,
) -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|$", TEXT, re.MULTILINE)
    words = [word for row, _ in rows for word in re.findall(r"`([\w.]+)", row)]
    assert {"time.time", "datetime.now", "cell.random"} - set(words) == {"cell.random"}
    for word in words:
        module = word.partition(".")[0]
        if module == "datetime":
            code = "from datetime import datetime\ndatetime.now()\n"
        elif word in ("open", "input"):
            code = f"{word}('x')\n"
        elif word == "global":
            code = "a = 1\ndef f():\n    global a\n"
        else:
            code = f"import {word if word == 'numpy.random' else module}\n"
        assert findings(code), word
    assert not findings(SCRIPT)
    path = tmp_path / "relaxing_pulses.py"
    path.write_text(SCRIPT, encoding="utf-8")
    documented = load_script(path).parameter_table()
    assert all(parameter["meaning"] for parameter in documented)
