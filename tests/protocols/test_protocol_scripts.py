"""A script is loaded from its text as it is now; what is wrong with it is said with its line."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.protocols import Cell, Rest, Steps, cccv, patience, preview, protocol
from operando.protocols.lint import findings
from operando.protocols.patience import TooLongError, within
from operando.protocols.protocol import Script
from operando.protocols.script_files import load_script, protocols_in, protocols_of, split_name
from operando.station.guard import BEAT
from operando.station.watchdog import PATIENCE as WATCHDOG_PATIENCE

CELL = Cell(CellEntry("c1", capacity=11.295, where="bench.toml line 20"))

HEAD = """\
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.quantities import Seconds, Voltages
from operando.protocols import Cell, ConstantCurrent, Rest, Steps, cccv, protocol


@protocol(source="this test")
def soak(cell: Cell, *, length: Seconds = "10 min", window: Voltages = ("2 V", "4 V")) -> Steps:
    \"\"\"Rest.

    length: of the rest in s.
    \"\"\"
"""
FIRST = HEAD.count("\n") + 1
"""Line of the first line of the body."""


def write(folder: Path, *body: str, name: str = "soak.py", head: str = HEAD) -> Path:
    """A script whose protocol has this body."""
    path = folder / name
    path.write_text(head + "".join(f"    {line}\n" for line in body), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    """Why the steps of a script are refused."""
    with pytest.raises(BadInputError) as caught:
        preview(load_script(path)(), CELL)
    return str(caught.value)


def test_a_script_is_a_protocol_like_the_installed_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "yield Rest((ELAPSED >= length,))")
    soak = load_script(path)
    assert (soak.name, soak.summary) == ("soak", "Rest.")
    assert soak.parameter_table()[0] == {
        "name": "length", "default": "10 min", "meaning": "of the rest in s.",
    }  # fmt: skip
    (step,) = preview(soak(length="5 min"), CELL).steps
    assert step.until == (ELAPSED >= 300.0,)
    assert soak.script == Script(path, path.read_text())
    assert soak.source_hash == soak.script.hash
    assert protocols_of(soak.script)["soak"].source_hash == soak.source_hash


def test_a_changed_file_is_loaded_anew_and_files_of_one_name_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    path = write(tmp_path, "yield Rest((ELAPSED >= 1.0,))")
    other = write(tmp_path / "other", "yield Rest((ELAPSED >= 2.0,))")
    first, second = load_script(path), load_script(other)
    write(tmp_path, "yield Rest((ELAPSED >= 3.0,))")
    third = load_script(path)
    asked = [preview(one(), CELL).steps[0].until for one in (first, second, third)]
    assert asked == [(ELAPSED >= 1.0,), (ELAPSED >= 2.0,), (ELAPSED >= 3.0,)]
    assert len({one.source_hash for one in (first, second, third)}) == 3


def test_nothing_that_an_earlier_run_left_in_a_variable_is_there_when_it_is_loaded_again(
    tmp_path: Path,
) -> None:
    head = "COUNT = []\n" + HEAD
    path = write(tmp_path, "COUNT.append(1)", "yield Rest((ELAPSED >= len(COUNT),))", head=head)
    for _ in range(2):
        program = load_script(path)().steps(CELL)
        assert next(program).until == (ELAPSED >= 1.0,)
        program.close()


def test_a_file_with_several_protocols_needs_the_name_of_one(tmp_path: Path) -> None:
    body = "    yield Rest((ELAPSED >= 1.0,))\n"
    path = tmp_path / "two.py"
    path.write_text(HEAD + body + HEAD.replace("def soak", "def wait") + body)
    assert list(protocols_in(path)) == ["soak", "wait"]
    assert load_script(path, "wait").name == "wait"
    with pytest.raises(BadInputError, match=r'two.py: .*"two.py:soak" or "two.py:wait"'):
        load_script(path)
    with pytest.raises(BadInputError, match=r"no protocol 'hold' in it; it has: soak, wait"):
        load_script(path, "hold")
    assert split_name("a.py:b") == ("a.py", "b")
    assert split_name("C:\\a.py") == ("C:\\a.py", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a = 1\nb = (\n", r"x\.py line 2: '\(' was never closed"),
        ("import no_such_module\n", r"x\.py line 1: No module named 'no_such_module'; a script is"),
        ("a = 1\nb = a / 0\n", r"x\.py line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", r"x\.py line 2: SystemExit: 3"),
        ("a = 1\n", r"x\.py: there is no protocol in it; 'operando new protocol NAME'"),
        ("def mine(cell):\n    yield 1\n", r"x\.py: .*@protocol.* above 'def mine' in line 1"),
        ("from operando.protocols import cccv\n", r"x\.py: there is no protocol in it"),
        ("a = '\0'\n", r"x\.py.*null byte"),
        (HEAD.replace("*, ", "") + "    yield 1\n", r"x\.py line 6: protocol soak: write the cell"),
        (HEAD.replace("Seconds =", "Second =") + "    yield 1\n", r"NameError: .*'Second'"),
        (
            HEAD.replace("length: Seconds", "length") + "    yield 1\n",
            r"x\.py line 6: protocol soak: its parameters .* length needs an annotation",
        ),
    ],
)
def test_what_keeps_a_file_from_being_loaded_is_told_with_its_line(
    tmp_path: Path, text: str, found: str
) -> None:
    path = tmp_path / "x.py"
    path.write_text(text)
    with pytest.raises(BadInputError, match=found):
        load_script(path)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.py: cannot be read"):
        load_script(tmp_path / "none.py")
    (tmp_path / "x.py").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInputError, match=r"x\.py: is not UTF-8"):
        load_script(tmp_path / "x.py")
    with pytest.raises(BadInputError, match="this computer's own folders"):
        load_script(Path("//server/share/x.py"))


@pytest.mark.parametrize(
    ("body", "line", "found"),
    [
        (("yield Rest((ELAPSED >= 1.0,))", "yield 1 / 0"), 1, "ZeroDivisionError"),
        (("outcome = yield 5",), 0, r"5 \(int\) is no step"),
        (("yield Rest(())",), 0, r"step 'rest' needs until"),
        (("a = 1", "yield ConstantCurrent(1e-3, (ELAPSED >= 1.0,))"), 1, "no voltage at which to"),
        (("yield from cccv.steps(cell, cycles='x')",), 0, r"cccv.steps\(...\) cycles: .*whole"),
        (("yield from cccv.steps(cell, window=('4 V', '4 V'))",), 0, "lower"),
        (("raise SystemExit(1)", "yield"), 0, "SystemExit: 1"),
    ],
)
def test_what_goes_wrong_in_a_script_is_told_with_its_own_line(
    tmp_path: Path, body: tuple[str, ...], line: int, found: str
) -> None:
    message = refusal(write(tmp_path, *body))
    assert message.startswith(f"protocol soak, soak.py line {FIRST + line}: ")
    with pytest.raises(BadInputError, match=found):
        raise BadInputError(message)


def test_what_a_script_says_of_its_own_parameters_is_left_as_it_is(tmp_path: Path) -> None:
    head = "from operando.instruments.errors import BadInputError\n" + HEAD
    body = ("raise BadInputError('length: too long')", "yield")
    assert refusal(write(tmp_path, *body, head=head)) == "length: too long"


def test_steps_of_another_protocol_are_part_of_this_one(tmp_path: Path) -> None:
    path = write(tmp_path, "yield from cccv.steps(cell, cycles=2, rest='1 min', window=window)")
    inside = preview(load_script(path)(window=("2.5 V", "4.1 V")), CELL).steps
    assert inside == preview(cccv(cycles=2, rest="1 min", window=("2.5 V", "4.1 V")), CELL).steps


def test_a_protocol_that_asks_for_other_steps_the_second_time_is_refused(tmp_path: Path) -> None:
    head = "import random\n" + HEAD
    message = refusal(write(tmp_path, "yield Rest((ELAPSED >= random.random(),))", head=head))
    assert message.startswith("protocol soak asks for other steps each time it is asked: step 1")
    counting = write(
        tmp_path, "TIMES.append(1)", "for _ in TIMES:", "    yield Rest((ELAPSED >= 1.0,))",
        head="TIMES = []\n" + HEAD,
    )  # fmt: skip
    assert "for 1 steps at first, and then for 2" in refusal(counting)
    own = write(tmp_path, "yield Rest((ELAPSED >= cell.random.random(),))")
    assert len(preview(load_script(own)(), CELL).steps) == 1


def test_a_protocol_that_goes_by_the_time_of_its_outcomes_comes_to_an_end_in_a_preview(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path, "outcome = yield Rest((ELAPSED >= 600.0,))", "while outcome.time < 3600.0:",
        "    outcome = yield Rest((ELAPSED >= 600.0,))",
    )  # fmt: skip
    ahead = preview(load_script(path)(), CELL)
    assert ahead.complete
    assert len(ahead.steps) == 6


@pytest.mark.parametrize("start", ["", "import time\n"])
def test_a_loop_without_a_yield_is_stopped_and_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.2)
    loop = "time.sleep(0.001)" if start else "pass"
    head = start + HEAD
    path = write(tmp_path, "while True:", f"    {loop}", "yield", head=head)
    line = head.count("\n")
    message = refusal(path)
    assert message.startswith("protocol soak, soak.py line ")
    assert int(message.split(" line ")[1].split(":")[0]) in (line + 1, line + 2)
    assert "thinking for 0.2 s without yielding a step" in message


def test_a_file_that_never_comes_to_its_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.2)
    (tmp_path / "x.py").write_text("a = 1\nwhile a:\n    pass\n")
    with pytest.raises(BadInputError, match=r"x\.py line [23]: .*0\.2 s without coming to its end"):
        load_script(tmp_path / "x.py")


def test_a_script_that_holds_on_to_its_loop_is_stopped_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.1)
    monkeypatch.setattr(patience, "AGAIN", 0.05)
    path = write(
        tmp_path, "for _ in range(3):", "    try:", "        while True:", "            pass",
        "    except BaseException:", "        pass", "while True:", "    pass", "yield",
    )  # fmt: skip
    assert "without yielding a step" in refusal(path)


def test_a_generator_that_hangs_on_its_way_out_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.1)
    path = write(
        tmp_path, "try:", "    yield Rest((ELAPSED >= 1.0,))", "finally:", "    while True:",
        "        pass",
    )  # fmt: skip
    program = load_script(path)().steps(CELL)
    next(program)
    program.close()  # comes back


def test_an_exception_that_comes_too_late_is_never_raised_elsewhere() -> None:
    """Calls that end at just the moment at which they would be stopped, in several threads."""
    stray: list[BaseException] = []
    stopped = 0

    def count(turns: int) -> int:
        return sum(1 for _ in range(turns))

    def work() -> None:
        nonlocal stopped
        for turn in range(60):
            try:
                within(lambda turns=2000 * (turn % 30): count(turns), 0.001)  # type: ignore[misc]
            except TooLongError:
                stopped += 1
            try:
                count(3000)
            except BaseException as error:
                stray.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stray == []
    assert stopped > 0
    assert within(lambda: 7) == 7
    with pytest.raises(TooLongError):
        within(lambda: count(10**12), 0.05)


def test_the_hash_of_a_protocol_without_a_file_says_so_in_words() -> None:
    code = (
        "from operando.protocols import protocol\n"
        "@protocol(source='x')\ndef soak(cell):\n    yield\n"
        "print(soak.source_hash)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("not known: the protocol was defined in <string>")

    @protocol(source="this test")
    def here(cell: Cell) -> Steps:
        """Rest."""
        yield Rest((ELAPSED >= 1.0,))

    assert len(here.source_hash) == 64


# ---- the lint --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word", "instead"),
    [
        ("import time\n\ndef f():\n    time.sleep(1)\n", "time", "outcome.time"),
        ("from time import monotonic as now\n\n\nnow()\n", "time", "Rest(...)"),
        ("import datetime\n\n\ndatetime.datetime.now()\n", "datetime.datetime.now()", "outcome"),
        ("from datetime import datetime as d\n\n\nd.now()\n", "datetime.datetime.now()", "outcome"),
        ("import random\n\n\nrandom.random()\n", "random", "cell.random"),
        ("import numpy as np\n\n\nnp.random.rand()\n", "numpy.random", "cell.random"),
        ("from numpy import random\n\n\nrandom.rand()\n", "numpy.random", "cell.random"),
        ("import os.path\n\n\nos.getpid()\n", "os", "parameter"),
        ("\n\n\nopen('a')\n", "open()", "parameter"),
        ("import requests\n\n\nrequests.get('x')\n", "requests", "parameter"),
        ("import threading\n\n\nthreading.Thread()\n", "threading", "steps"),
        ("import asyncio\n\n\nasyncio.run(None)\n", "asyncio", "steps"),
        ("\n\n\ninput()\n", "input()", "parameter"),
        ("a = 1\ndef f():\n\n    global a\n", "the module's variable a", "function"),
        ("a = []\ndef f():\n\n    a.append(1)\n", "the module's variable a", "function"),
        ("a = {}\ndef f():\n\n    a['b'] = 1\n", "the module's variable a", "function"),
        ("\n\n\nfor one in {1, 2}:\n    pass\n", "a loop over a set", "sorted"),
        ("import sys\n\n\nsys.exit()\n", "sys.exit()", "return"),
    ],
)
def test_what_a_script_must_not_rely_on_is_told_with_its_line(
    text: str, word: str, instead: str
) -> None:
    ((words, lines),) = findings(text).items()
    assert words.startswith(word)
    assert instead in words
    assert lines[-1] == 4


@pytest.mark.parametrize(
    "text",
    [
        "import math\nimport numpy as np\nfrom datetime import timedelta\nnp.exp(math.pi)\n",
        "def f(time):\n    time.sleep(1)\n",
        "def open(a):\n    pass\nopen(1)\n",
        "a = []\ndef f():\n    a = []\n    a.append(1)\n",
        "a = []\ndef f(a):\n    a.append(1)\n",
        "A = [1, 2]\na = [b for b in A]\nprint(a)\n",
    ],
)
def test_what_is_harmless_is_not_told(text: str) -> None:
    assert not findings(text)


def test_the_lint_finds_nothing_in_our_own_protocols() -> None:
    for one in protocol_sources():
        assert not findings(one.read_text(encoding="utf-8")), one


def protocol_sources() -> list[Path]:
    """Modules of ours that define protocols."""
    folder = Path(inspect.getfile(cccv.function)).parent
    found = [path for path in folder.glob("*.py") if "\n@protocol(" in path.read_text("utf-8")]
    assert len(found) >= 2
    return found


def test_patience_is_less_than_that_of_the_watchdog() -> None:
    assert patience.PATIENCE + BEAT < WATCHDOG_PATIENCE
