"""The library of protocols is whole: each has its words, its channel, its evaluation, its test."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from operando import evaluation
from operando.instruments.bench_file import load_bench
from operando.instruments.registry import PROTOCOLS, available, load
from operando.protocols import (
    Cell,
    HoldPressure,
    HoldTemperature,
    Impedance,
    ProtocolFunction,
    VoltageSweep,
    preview,
)
from operando.records import Record
from operando.station.client import RunRequest
from operando.station.requests import check_request
from support.laboratory import EXAMPLES

TESTS = Path(__file__).parent
LAB = load_bench(EXAMPLES / "lab.toml")

CHANNELS = {
    "calendar_ageing": "A1",
    "cccv": "A1",
    "ccd": "D2",
    "composite_transport": "D5",
    "compression_relaxation": "A1",
    "conditioned_cccv": "B1",
    "conductivity": "D1",
    "ctta": "D3",
    "cv": "D2",
    "dc_polarisation": "D5",
    "electronic_conductivity": "D5",
    "gitt": "C1",
    "impedance": "D8",
    "impedance_by_charge": "D8",
    "lsv": "D6",
    "operando_pressure": "A1",
    "pitt": "C1",
    "plating_stripping": "D2",
    "pressure_sweep": "D8",
    "pulses": "C3",
    "rate_capability": "C4",
    "self_discharge": "C4",
    "static_contact": "D7",
    "voltage_hold": "C3",
}
"""A channel of the example laboratory on which each protocol can run as it is, by its name."""

ELSEWHERE = {"conditioned_cccv": "hold", "dc_polarisation": "electronic_conductivity"}
"""Protocols that are not in a module of their own name: cycling that is held, and the ladder that
the electronic conductivity is measured by."""

INSTALLED = {
    name: point
    for name, point in available(PROTOCOLS).items()
    if point.dist is not None and point.dist.name == "operando"
}

every_protocol = pytest.mark.parametrize("name", sorted(INSTALLED))


def named(name: str) -> ProtocolFunction:
    found = load(PROTOCOLS, name)
    assert isinstance(found, ProtocolFunction)
    return found


def test_every_protocol_has_a_channel_of_the_laboratory() -> None:
    assert set(CHANNELS) == set(INSTALLED)
    assert set(CHANNELS.values()) <= set(LAB.channels)


@every_protocol
def test_a_protocol_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    protocol = named(name)
    assert protocol.name == name
    assert len(protocol.source) > 20
    assert protocol.summary.endswith(".")
    rows = protocol.parameter_table()
    assert [row["name"] for row in rows if not row["meaning"]] == []
    assert "window" in {row["name"] for row in rows}
    lower, upper = protocol().window()  # with its defaults, which are read as a user's are
    assert lower < upper


@every_protocol
def test_a_protocol_with_its_defaults_is_accepted_on_its_channel(name: str) -> None:
    checked = check_request(LAB, CHANNELS[name], RunRequest(recipe=f'protocol = "{name}"\n'))
    assert checked.report.problems == ()
    assert checked.report.steps > 0
    assert checked.report.duration
    assert {limit.name for limit in checked.report.limits}


@every_protocol
def test_protocol_and_evaluation_are_modules_and_functions_of_one_name(name: str) -> None:
    module = ELSEWHERE.get(name, name)
    for portion in ("protocols", "evaluation"):
        there = importlib.import_module(f"operando.{portion}.{module}")
        assert callable(getattr(there, name))
        assert inspect.getdoc(there)
    assert named(name) is getattr(importlib.import_module(f"operando.protocols.{module}"), name)
    assert name in evaluation.__all__
    evaluate = getattr(evaluation, name)
    assert evaluate is getattr(importlib.import_module(f"operando.evaluation.{module}"), name)
    first, *others = inspect.signature(evaluate, eval_str=True).parameters.values()
    assert first.annotation is Record
    assert [one.name for one in others if one.default is inspect.Parameter.empty] == []


def test_the_command_lists_every_protocol_with_its_source() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "operando.station", "protocols"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = re.findall(r"^(\w+): ", listed.stdout, re.MULTILINE)
    assert set(INSTALLED) <= set(shown)
    assert shown.count("source") == len(available(PROTOCOLS))


# ---------------------------------------------------------------- the reference page

PAGE = (EXAMPLES.parent / "docs/reference/protocols.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """Cells of the rows below a table's heading by their first cell, a name in backticks."""
    below = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", below, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


READERS = [f"operando.evaluation.{name}" for name in ("cccv", "impedance", "lithium")]
"""Evaluations that others build on."""


def test_the_tables_of_the_page_have_every_protocol() -> None:
    assert set(table("protocol")) == set(table("evaluation")) == set(INSTALLED)


@every_protocol
def test_the_page_says_what_a_channel_needs(name: str) -> None:
    needs = table("protocol")[name][1]
    protocol = named(name)
    cell = Cell(LAB.cells[LAB.channels[CHANNELS[name]].cell])
    flags = {row["name"] for row in protocol.parameter_table() if row["default"] == "False"}
    # One that measures impedance only if it is told to is asked for all that it can do.
    asks = re.findall(r"if `(\w+)`", needs)
    switches: dict[str, bool | int] = {name: name in flags or 3 for name in asks}  # a number else
    steps = preview(protocol(**switches), cell).steps
    plain = preview(protocol(), cell).steps
    for word, kind in (
        ("EIS", Impedance),
        ("sweep", VoltageSweep),
        ("temperature controller", HoldTemperature),
        ("pressure controller", HoldPressure),
    ):
        asked = any(isinstance(step, kind) for step in steps)
        assert (word in needs) == asked, (word, needs)
        always = word in needs and f"{word} if" not in needs
        assert always == any(isinstance(step, kind) for step in plain), (word, needs)


@every_protocol
def test_the_page_says_which_rows_are_the_protocols_own(name: str) -> None:
    cell = Cell(LAB.cells[LAB.channels[CHANNELS[name]].cell])
    own = [step for step in preview(named(name)(), cell).steps if step.record is not None]
    says = table("protocol")[name][2].replace("spectra", "").strip("; ")
    assert bool(says) == bool(own), says


@every_protocol
def test_the_page_names_what_an_evaluation_reads_and_finds(name: str) -> None:
    states, finds = table("evaluation")[name]
    module = importlib.import_module(f"operando.evaluation.{ELSEWHERE.get(name, name)}")
    kinds = [one for one in vars(module).values() if inspect.isclass(one)]
    known = {
        attribute
        for kind in kinds
        for attribute in (*getattr(kind, "__dataclass_fields__", ()), *vars(kind))
    }
    fields = re.findall(r"`(\w+)`", finds)
    assert fields
    assert [field for field in fields if field not in known] == []
    stated = set(re.findall(r"`(\w+)`", states)) - set(INSTALLED)
    source = "".join(inspect.getsource(importlib.import_module(one)) for one in READERS)
    source += inspect.getsource(module)
    assert {one for one in stated if f'"{one}"' not in source} == set()
    own = inspect.getsource(getattr(module, name) if name in ELSEWHERE else module)
    asked = set(re.findall(r'\bstated(?:_text)?\(record, "(\w+)"', own))
    assert asked - stated == set()


def test_the_published_set_of_the_page_is_the_one_of_the_examples() -> None:
    shown = re.findall(r"`([\w.-]+\.toml)` \| (replica|expert)", PAGE)
    names = [name for name, _ in shown]
    there = {path.name for path in (EXAMPLES / "recipes").glob("kim2026-*.toml")}
    assert set(names) == there | {"gitt-relaxed.toml"}
    assert len(names) == len(set(names))
    experts = {name for name, kind in shown if kind == "expert"}
    assert {name for name in names if "expert" in name} <= experts


# ---------------------------------------------------------------- a test for each

RUNS_ON_THE_LABORATORY = {"run_on_lab", "on_lab", "run_on_source_meter"}
"""Helpers of the tests that run a plan on simulated instruments, in virtual time."""


def used_in(path: Path) -> tuple[set[str], set[str]]:
    """Protocols and evaluations that a test file imports and uses beside a run on the laboratory.

    A name that is imported and not used is refused by the linter.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    protocols: set[str] = set()
    evaluations: set[str] = set()
    runs = False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {one.name for one in node.names}
            runs = runs or bool(names & RUNS_ON_THE_LABORATORY)
            if node.module.startswith("operando.protocols"):
                protocols |= names
            elif node.module.startswith("operando.evaluation"):
                evaluations |= names
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            evaluations |= {node.attr} if node.value.id == "evaluation" else set()
    return (protocols, evaluations) if runs else (set(), set())


def test_a_protocol_comes_with_a_test_of_what_its_evaluation_finds_on_the_laboratory() -> None:
    together: set[str] = set()
    for folder in ("protocols", "evaluation"):
        for path in (TESTS / folder).glob("test_*.py"):
            protocols, evaluations = used_in(path)
            together |= protocols & evaluations
    assert set(INSTALLED) - together == set()


def test_the_guard_misses_a_protocol_whose_test_lacks_evaluation_or_run(tmp_path: Path) -> None:
    lines = [
        "from operando.protocols.gitt import gitt",
        "from operando.evaluation.gitt import gitt as evaluate",
        "from support.virtual_lab import run_on_lab",
    ]
    path = tmp_path / "test_it.py"
    found = []
    for shown in (lines, *(lines[:n] + lines[n + 1 :] for n in range(3))):
        path.write_text("\n".join(shown), encoding="utf-8")
        protocols, evaluations = used_in(path)
        found.append(protocols & evaluations)
    assert found == [{"gitt"}, set(), set(), set()]
