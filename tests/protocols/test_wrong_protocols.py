"""What a protocol of somebody else may do wrong is said with its name and line."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.protocols import Block, Cell, ProtocolFunction, Rest, Steps, preview, protocol

CELL = Cell(CellEntry("c1", capacity=11.295, where="bench.toml line 20"))


def yielding(item: Any) -> ProtocolFunction:
    """A protocol that yields one good step and then this."""

    @protocol(source="this test")
    def soak(cell: Cell) -> Steps:
        """Rest, and then something else."""
        yield Rest((ELAPSED >= 1.0,))
        yield item  # the line that is told

    return soak


LINE = next(
    number
    for number, text in enumerate(inspect.getsource(inspect.getmodule(yielding)).splitlines(), 1)  # type: ignore[arg-type]
    if text.endswith("# the line that is told")
)


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (5, r"5 \(int\) is no step"),
        (None, r"None \(NoneType\) is no step"),
        (Rest, r"the class Rest is no step"),
        ([Rest((ELAPSED >= 1.0,))], r"\(list\) is no step"),
        (Rest(ELAPSED >= 1.0), r"step 'rest' needs .*found .*elapsed"),  # type: ignore[arg-type]
        (Rest((), label="soak"), r"step 'soak' needs .*found \(\)"),
        (Rest((True,)), r"step 'rest' needs .*found \(True,\)"),  # type: ignore[arg-type]
        (Block((Rest((ELAPSED >= 1.0,)), 7)), r"7 \(int\) is no step"),  # type: ignore[arg-type]
        (Block(()), r"a block needs at least one step and one repeat"),
        (Block((Rest((ELAPSED >= 1.0,)),), 0), r"a block needs at least one step and one repeat"),
    ],
)
def test_what_is_no_step_is_refused_with_protocol_line_and_remedy(item: Any, found: str) -> None:
    with pytest.raises(BadInputError, match=found) as caught:
        preview(yielding(item)(), CELL)
    message = str(caught.value)
    assert message.startswith(f"protocol soak, test_wrong_protocols.py line {LINE}: ")
    assert "yield Rest" in message or "at least one" in message


def test_the_line_is_that_of_the_function_that_yields() -> None:
    def inner() -> Generator[Any, Any, None]:
        yield "rest"

    @protocol(source="this test")
    def soak(cell: Cell) -> Steps:
        """Leave it to another function."""
        yield from inner()

    line = inspect.getsourcelines(inner)[1] + 1
    with pytest.raises(BadInputError, match=rf"protocol soak, \S+ line {line}: 'rest' \(str\)"):
        preview(soak(), CELL)


def test_a_protocol_that_returns_its_steps_is_told_to_yield_them() -> None:
    @protocol(source="this test")
    def soak(cell: Cell) -> Steps:
        """No generator."""
        return [Rest((ELAPSED >= 1.0,))]  # type: ignore[return-value]

    with pytest.raises(BadInputError, match=r"protocol soak, \S+ line \d+: .*\(list\).*yield"):
        preview(soak(), CELL)


def printing(word: str, also: Callable[[], None] = lambda: None) -> ProtocolFunction:
    """A protocol that prints a word."""

    @protocol(source="this test")
    def soak(cell: Cell) -> Steps:
        """Rest once."""
        print(word)
        also()
        yield Rest((ELAPSED >= 1.0,))

    return soak


def test_a_preview_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    plan = printing("here")()
    assert len(preview(plan, CELL).steps) == 1
    assert capsys.readouterr().out == ""
    assert len(list(plan.steps(CELL))) == 1
    assert capsys.readouterr().out == "here\n"


def test_previews_in_several_threads_do_not_wait_and_leave_the_output_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        assert go_on.wait(30.0)

    first = threading.Thread(target=functools.partial(preview, printing("one", wait)(), CELL))
    second = threading.Thread(target=functools.partial(preview, printing("two")(), CELL))
    first.start()
    assert inside.wait(30.0)
    second.start()
    second.join()
    go_on.set()
    first.join()
    print("still here")
    assert capsys.readouterr().out == "still here\n"
