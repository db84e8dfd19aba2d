"""Runs of protocol scripts, good and bad, on a simulated bench in virtual time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import simulated, write_bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import load_recipe, parse_recipe
from operando.instruments.recorder import Entry
from operando.protocols import RunState, patience
from operando.records import Record, verify
from operando.station.assembly import protocol_functions
from operando.station.client import RefusedError, StationProcess
from operando.station.client.models import RunRequest
from operando.station.desk import Desk
from operando.station.engine import Engine, Run, order_from
from operando.station.orders import settle
from operando.station.sheets import limit_lines
from support.desk_story import of, relay, tell, until

ROOT = Path(__file__).resolve().parents[2]

HEAD = """\
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE
from operando.instruments.quantities import CRate, Voltages
from operando.protocols import Cell, ConstantCurrent, ConstantVoltage, Rest, Steps, cccv, protocol


@protocol(source="this test")
def pulse(cell: Cell, *, rate: CRate = "1C", window: Voltages = ("2.5 V", "4.25 V")) -> Steps:
    \"\"\"A charge, and then something.\"\"\"
    full = VOLTAGE >= window[1]
    outcome = yield ConstantCurrent(rate * cell.capacity, (ELAPSED >= 60.0, full), label="first")
"""
NEXT = HEAD.count("\n") + 1
"""Line of what comes after the first step."""
RECIPE = 'protocol = "pulse.py"\n\n[poll]\ninterval = "5 s"\n'
BEYOND = (
    "rate = 1e4 if outcome.voltage > 1.0 else rate",
    "yield ConstantCurrent(rate * cell.capacity, (ELAPSED >= 60.0, full), label='second')",
)


def write(folder: Path, *body: str, name: str = "pulse.py") -> Path:
    """A script that goes on like this after its first step, and a recipe that names it."""
    (folder / name).write_text(HEAD + "".join(f"    {line}\n" for line in body), encoding="utf-8")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.replace("pulse.py", name), encoding="utf-8")
    return recipe


@pytest.fixture
def lab(tmp_path: Path) -> Callable[[Path], tuple[Run, bool]]:
    """Runs a recipe to its end in virtual time; the run, and the true relay afterwards."""
    bench = load_bench(write_bench(tmp_path))

    def run(recipe: Path) -> tuple[Run, bool]:
        async def main() -> tuple[Run, bool]:
            async with Engine(bench, Clock("virtual")) as engine:
                order = order_from(load_recipe(recipe), bench.scripts)
                done = await engine.run("A1", order, tmp_path / "runs")
                return done, relay(engine)

        return run_coroutine(main(), virtual=True)

    return run


Lab = Callable[[Path], tuple[Run, bool]]


def test_a_script_runs_branches_and_calls_another_protocol(tmp_path: Path, lab: Lab) -> None:
    recipe = write(
        tmp_path,
        "if outcome.voltage > 1.0:",
        "    yield Rest((ELAPSED >= 600.0,), label='relax')",
        "yield from cccv.steps(cell, charge_rate='2C', discharge_rate='2C', rest='0 s',",
        "                      constant_voltage=False, window=(2.5, 3.9))",
    )
    run, on = lab(recipe)
    assert run.result.state is RunState.COMPLETED
    assert not on
    record = Record.open(run.folder)
    assert [s.label for s in record.steps()] == ["first", "relax", "charge", "discharge"]
    told = record.manifest["protocol"]
    assert isinstance(told, dict)
    script = tmp_path / "pulse.py"
    assert (told["name"], told["file"]) == ("pulse", str(script))
    assert told["text"] == script.read_text()
    assert len(str(told["source_hash"])) == 64


@pytest.mark.parametrize(
    ("body", "line", "found"),
    [
        # A preview answers with zeros, so that only the run comes to what is wrong.
        (("yield Rest((ELAPSED >= 60.0 * (1 / (outcome.voltage < 1.0)),))",), 0, "ZeroDivision"),
        (("if outcome.voltage > 1.0:", "    raise ValueError('not like this')"), 1,
         "ValueError: not like this"),
        (("if outcome.voltage > 1.0:", "    import sys", "    sys.exit(1)"), 2, "SystemExit: 1"),
        (("if outcome.voltage > 1.0:", "    yield 'charge'"), 1, r"'charge' \(str\) is no step"),
        (("if outcome.voltage > 1.0:", "    yield Rest(())"), 1, "needs until"),
        (("if outcome.voltage > 1.0:", "    yield ConstantCurrent(1e-3, (ELAPSED >= 1.0,))"), 1,
         "has no voltage at which to stop"),
        (BEYOND, 1, "step 'second': .*cannot do this: .*outside what the run was prepared"),
        (("if outcome.voltage > 1.0:", "    yield from cccv.steps(cell, cycles=0)"), 1, "at least"),
    ],
    ids=["arithmetic", "raise", "exit", "nonsense", "no end", "no cut-off", "current", "inside"],
)  # fmt: skip
def test_what_a_script_does_wrong_in_mid_run_ends_it_safely_with_the_line(
    tmp_path: Path, lab: Lab, body: tuple[str, ...], line: int, found: str
) -> None:
    run, on = lab(write(tmp_path, *body))
    assert not on
    assert (run.result.state, run.result.safe) == (RunState.FAULTED, True)
    assert run.result.reason.startswith(f"protocol pulse, pulse.py line {NEXT + line}: ")
    with pytest.raises(ValueError, match=found):
        raise ValueError(run.result.reason)
    assert_complete(run)


def test_a_script_that_stops_yielding_in_mid_run_is_stopped_with_the_line(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    run, on = lab(write(tmp_path, "while outcome.voltage > 1.0:", "    pass"))
    assert not on
    assert (run.result.state, run.result.safe) == (RunState.FAULTED, True)
    lines = [f"pulse.py line {NEXT + one}: it has been thinking for 0.3 s" for one in (0, 1)]
    assert any(one in run.result.reason for one in lines), run.result.reason
    assert_complete(run)


def assert_complete(run: Run) -> None:
    """The record of a run that a script ended: closed, with the step before and the safe state."""
    record = Record.open(run.folder)
    assert record.state == "faulted"
    assert verify(run.folder)
    assert record.steps()[0].reason == "condition"
    (safe,) = record.journal(Entry.SAFE)
    assert safe.data["potentiostat"] == "verified"
    (ended,) = record.journal(Entry.RUN_ENDED)
    assert ended.data["reason"] == run.result.reason


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (("yield ConstantCurrent(5.0, (full,), label='second')",),
         rf"step 'second' \(pulse\.py line {NEXT}\): .*beyond its 1\.05 A"),
        (("yield Rest(())",), rf"protocol pulse, pulse\.py line {NEXT}: step 'rest' needs until"),
        (("yield ConstantCurrent(1e-3, ())",), rf"pulse\.py line {NEXT}: .*no voltage at which"),
        (("yield 7",), rf"pulse\.py line {NEXT}: 7 \(int\) is no step"),
        (("raise KeyError('a')",), rf"pulse\.py line {NEXT}: KeyError: 'a'"),
        (("while True:", "    pass"), rf"pulse\.py line ({NEXT}|{NEXT + 1}): it has been thinking"),
        (("yield Rest((ELAPSED >= 1.0 + id(object()) % 97 + __import__('time').time_ns(),))",),
         r"protocol pulse asks for other steps each time"),
    ],
    ids=["current", "no end", "no cut-off", "nonsense", "raise", "loop", "chance"],
)  # fmt: skip
def test_what_a_preview_shows_is_refused_before_anything_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: tuple[str, ...], found: str
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    bench = load_bench(write_bench(tmp_path))
    order = order_from(load_recipe(write(tmp_path, *body)))
    with pytest.raises(BadInputError, match=found):
        limit_lines(settle(bench, "A1", order), bench, Clock())


def test_notes_of_the_lint_stand_beside_what_would_run(tmp_path: Path) -> None:
    bench = load_bench(write_bench(tmp_path))
    recipe = write(tmp_path, "import time", "time.time()")
    first, last = settle(bench, "A1", order_from(load_recipe(recipe))).warnings
    assert first.startswith(f"pulse.py lines {NEXT} and {NEXT + 1}: time: ")
    assert "outcome.time" in first
    assert "after a crash a run is resumed" in last
    write(tmp_path)
    assert settle(bench, "A1", order_from(load_recipe(recipe))).warnings == ()


def test_scripts_of_one_name_beside_their_recipes_do_not_mix(tmp_path: Path) -> None:
    recipes = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        recipes.append(write(tmp_path / name, f"# {name}"))
    files = [order_from(load_recipe(one)).plan.protocol.script for one in recipes]
    assert [one.path for one in files if one is not None] == [
        tmp_path / "a" / "pulse.py", tmp_path / "b" / "pulse.py",
    ]  # fmt: skip


def bench_with_scripts(folder: Path) -> Path:
    """A bench whose folder of scripts has a good one and a broken one."""
    bench = write_bench(folder)
    bench.write_text(bench.read_text() + '\n[protocols]\nfolder = "scripts"\n', encoding="utf-8")
    (folder / "scripts").mkdir()
    write(folder / "scripts")
    (folder / "scripts" / "broken.py").write_text("a = (\n")
    (folder / "scripts" / "_helper.py").write_text("a = (\n")
    return bench


def test_the_scripts_of_the_bench_are_offered_with_the_installed_protocols(tmp_path: Path) -> None:
    bench = load_bench(bench_with_scripts(tmp_path))
    found, wrong = protocol_functions(bench.scripts)
    assert list(found)[-1] == "pulse.py"
    assert "cccv" in found
    assert list(wrong) == ["broken.py"]
    assert "broken.py line 1" in wrong["broken.py"]
    named = order_from(parse_recipe(RECIPE, Path("recipe")), bench.scripts)
    assert named.plan.protocol.name == "pulse"


def test_a_name_that_is_nowhere_or_in_two_places_is_refused_with_the_line(tmp_path: Path) -> None:
    bench = load_bench(bench_with_scripts(tmp_path))
    recipe = write(tmp_path, "# another")
    with pytest.raises(BadInputError, match=r"recipe.toml line 1: protocol: there are two files"):
        order_from(load_recipe(recipe), bench.scripts)
    recipe.write_text(RECIPE.replace("pulse.py", "none.py"))
    with pytest.raises(BadInputError, match=r"line 1: protocol: there is no file none.py in"):
        order_from(load_recipe(recipe), bench.scripts)
    with pytest.raises(BadInputError, match=r"pulse.py: where is it\? Write its whole path"):
        order_from(parse_recipe(RECIPE, Path("recipe")))
    whole = RECIPE.replace("pulse.py", str(tmp_path / "pulse.py:pulse"))
    assert order_from(parse_recipe(whole, Path("recipe"))).plan.protocol.name == "pulse"


def test_a_folder_of_scripts_that_is_not_there_is_refused_with_the_line(tmp_path: Path) -> None:
    bench = write_bench(tmp_path)
    lines = bench.read_text().count("\n")
    bench.write_text(bench.read_text() + '\n[protocols]\nfolder = "none"\n')
    with pytest.raises(BadInputError, match=rf"bench.toml line {lines + 3}: \[protocols\] folder"):
        load_bench(bench)


def test_a_station_runs_the_script_as_it_is_now_for_windows_and_for_recipes_of_a_terminal(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        listed = {one.name: one for one in desk.protocols()}
        assert set(listed["pulse.py"].parameters["properties"]) == {"rate", "window"}  # type: ignore[call-overload]
        assert listed["broken.py"].summary.startswith("CANNOT BE USED: broken.py line 1: ")
        offered = RunRequest(protocol="pulse.py", parameters={"rate": "C/2"})
        report = desk.check("A1", offered)
        assert report.ok
        assert report.derived["parameters.rate"]

        # Edited: the next check and start see it.
        write(tmp_path / "scripts", "yield Rest((ELAPSED >= 60.0,), label='another')")
        assert desk.check("A1", offered).steps == 2
        started = await desk.start("A1", offered)
        await until(desk, clock, "completed")
        assert of(desk).protocol == "pulse"
        record = Record.open(tmp_path / "runs" / started.run)
        assert [step.label for step in record.steps()] == ["first", "another"]

        # A recipe of a terminal comes with its path, beside which its own script is.
        (tmp_path / "mine").mkdir()
        recipe = write(tmp_path / "mine", name="mine.py")
        sent = RunRequest(recipe=recipe.read_text(), recipe_name=str(recipe))
        assert desk.check("A1", sent).ok
        (problem,) = desk.check("A1", sent.model_copy(update={"recipe_name": "r.toml"})).problems
        assert (problem.where, "there is no file mine.py" in problem.message) == ("protocol", True)

        # What is wrong with a script is a problem of its field, and the others go on.
        broken = RunRequest(protocol="broken.py")
        (problem,) = desk.check("A1", broken).problems
        assert problem.message.startswith("broken.py line 1: ")
        with pytest.raises(RefusedError, match=r"broken\.py line 1"):
            await desk.start("A1", broken)

    tell(tmp_path, story, bench=bench_with_scripts(tmp_path))


# ---- the command line --------------------------------------------------------------------------


def operando(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "operando.station", *words],
        cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_new_protocol_passes_the_lint_is_checked_and_runs(tmp_path: Path) -> None:
    made = operando(tmp_path, "new", "protocol", "slow_pulses")
    assert made.returncode == 0, made.stderr
    assert "operando check" in made.stdout
    script = tmp_path / "slow_pulses.py"
    text = script.read_text()
    again = operando(tmp_path, "new", "protocol", "slow_pulses")
    assert (again.returncode, script.read_text()) == (2, text)
    assert "is there already" in again.stderr
    assert operando(tmp_path, "new", "protocol", "slow-pulses").returncode == 2

    (listed,) = json.loads(operando(tmp_path, "protocols", "slow_pulses.py", "--json").stdout)
    assert (listed["name"], listed["notes"]) == ("slow_pulses.py", [])
    assert all(one["meaning"] for one in listed["parameters"])

    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'protocol = "slow_pulses.py"\n[parameters]\npulses = 2\nrate = "1C"\n'
        'length = "1 min"\nrest = "1 min"\n[poll]\ninterval = "10 s"\n'
    )
    at = ("--bench", str(ROOT / "examples/bench.toml"), "--channel", "A1")
    checked = operando(tmp_path, "check", "recipe.toml", *at)
    assert checked.returncode == 0, checked.stderr
    assert "note: slow_pulses.py" not in checked.stdout
    ran = operando(tmp_path, "run", "recipe.toml", *at, "--virtual", "--json")
    assert ran.returncode == 0, ran.stderr
    record = Record.open(Path(tmp_path / json.loads(ran.stdout)["record"]))
    assert [step.label for step in record.steps()][:4] == ["pulse", "relax", "pulse", "relax"]


def test_notes_and_errors_of_scripts_are_told_on_the_command_line(tmp_path: Path) -> None:
    bench = bench_with_scripts(tmp_path)
    write(tmp_path / "scripts", "import random")
    listed = operando(tmp_path, "protocols", "--bench", str(bench))
    assert listed.returncode == 0, listed.stderr
    assert "pulse.py: A charge, and then something." in listed.stdout
    assert f"note: pulse.py line {NEXT}: random: use cell.random" in listed.stdout
    assert "cannot be used: broken.py line 1" in listed.stderr
    alone = operando(tmp_path, "protocols", "scripts/broken.py")
    assert alone.returncode == 2
    assert alone.stderr.startswith("broken.py line 1: ")


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals")
def test_a_run_of_a_terminal_takes_the_script_beside_its_recipe_to_the_station(
    tmp_path: Path,
) -> None:
    bench = write_bench(tmp_path, speed=60.0)
    (tmp_path / "mine").mkdir()
    recipe = write(tmp_path / "mine")
    with simulated(bench), StationProcess(bench, output=tmp_path / "runs"):
        # From another folder, so that a relative path would lead astray.
        ran = operando(
            tmp_path, "run", "mine/recipe.toml", "--bench", bench.name, "--channel", "A1"
        )
    assert ran.returncode == 0, ran.stderr
    assert "through the station at" in ran.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    told = Record.open(folder).manifest["protocol"]
    assert isinstance(told, dict)
    assert told["file"] == str(recipe.parent / "pulse.py")
