"""Asking a protocol for its next step, whatever its function does.

A protocol may be somebody else's: what it does wrong is said with its file and line, it has a
bounded time to think, and nothing but steps comes out of it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from operando.instruments.errors import BadInputError, UnsupportedError
from operando.protocols import patience
from operando.protocols.steps import Block, Step, problem_with, shown

if TYPE_CHECKING:
    from operando.protocols.protocol import Cell, Groups, Program, ProtocolFunction, Steps

T = TypeVar("T")


def grouped(maker: ProtocolFunction, cell: Cell, parameters: Mapping[str, Any]) -> Groups:
    """Groups of steps, passing outcomes back; a block's own outcome is that of its last step.

    Raises BadInputError with the protocol's name, file and line when its function raises, thinks
    for longer than PATIENCE, or gives anything but steps. An UnsupportedError that is thrown in
    comes out with the line of the yield that asked for the step.
    """
    steps = _asked(maker, partial(maker.function, cell, **parameters), begun=False)
    if not isinstance(steps, Generator):
        raise BadInputError(
            f"protocol {maker.name}, {_defined(maker)}: its function returns {shown(steps)}; write "
            "it as a generator, which yields its steps: 'yield Rest(...)'"
        )
    try:
        item = _asked(maker, partial(next, steps), begun=False)
        while True:
            problem = _problem_with(item)
            if problem:
                raise BadInputError(f"protocol {maker.name}, {_place(steps)}: {problem}")
            block = item if isinstance(item, Block) else Block((item,))
            for _ in range(block.repeat):
                try:
                    outcome = yield tuple(block.steps)
                except UnsupportedError as error:
                    place = f"protocol {maker.name}, {_place(steps)}"
                    raise BadInputError(f"{place}: {_labels(block)}: {error}") from error
            item = _asked(maker, partial(steps.send, outcome), begun=True)
    except StopIteration:
        return
    finally:
        # What it does on its way out, in a `finally` of its own, is bounded like the rest.
        with contextlib.suppress(Exception, SystemExit, patience.TooLongError):
            patience.within(steps.close)


def asked_at(groups: Groups) -> str:
    """File and line of the yield at which a generator of `grouped` waits."""
    return _place(inspect.getgeneratorlocals(groups)["steps"])


def flat(groups: Groups) -> Program:
    """The steps of groups, one by one."""
    try:
        group = next(groups)
        while True:
            for step in group:
                outcome = yield step
            group = groups.send(outcome)
    except StopIteration:
        return
    finally:
        groups.close()


def _asked(maker: ProtocolFunction, call: Callable[[], T], *, begun: bool) -> T:
    """Let the protocol's code come to its next step. begun: it has yielded one before."""
    try:
        return patience.within(call)
    except (StopIteration, KeyboardInterrupt):
        raise
    except patience.TooLongError as error:
        words = (
            f"it has been thinking for {patience.PATIENCE:g} s without yielding a step, and was "
            "stopped: does this loop end? A protocol must not wait by itself; yield Rest(...)"
        )
        raise BadInputError(f"protocol {maker.name}, {_line_of(maker, error)}: {words}") from None
    except BadInputError as error:
        if not begun and _is_its_own(maker, error):
            raise  # what it says of its parameters
        raise BadInputError(f"protocol {maker.name}, {_line_of(maker, error)}: {error}") from error
    except BaseException as error:  # `sys.exit()` in a script must not end a station
        kind = type(error).__name__
        words = f"{kind}: {error}" if str(error) else kind
        raise BadInputError(f"protocol {maker.name}, {_line_of(maker, error)}: {words}") from error


def _is_its_own(maker: ProtocolFunction, error: BadInputError) -> bool:
    """Whether a protocol raised it itself, instead of something that it called."""
    if maker.function.__module__.startswith("operando."):
        return True
    traceback = error.__traceback__
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_filename == _code(maker).co_filename


def _line_of(maker: ProtocolFunction, error: BaseException) -> str:
    """File and line of the protocol at which an error came up, in it or in what it called."""
    name, line = _code(maker).co_filename, 0
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == name:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f"{Path(name).name} line {line}" if line else _defined(maker)


def _defined(maker: ProtocolFunction) -> str:
    code = _code(maker)
    return f"{Path(code.co_filename).name} line {code.co_firstlineno}"


def _code(maker: ProtocolFunction) -> CodeType:
    return cast(CodeType, inspect.unwrap(maker.function).__code__)


def _problem_with(item: Step | Block) -> str:
    if not isinstance(item, Block):
        return problem_with(item)
    if not item.steps or item.repeat < 1:
        return "a block needs at least one step and one repeat"
    return next(filter(None, map(problem_with, item.steps)), "")


def _labels(block: Block) -> str:
    labels = dict.fromkeys(step.label for step in block.steps)
    return "step " + " or ".join(f"'{label}'" for label in labels)


def _place(steps: Steps) -> str:
    """File and line of the yield at which a generator waits, in whatever function that is."""
    place, waiting = "somewhere", cast(object, steps)
    while isinstance(waiting, GeneratorType) and waiting.gi_frame is not None:
        place = f"{Path(waiting.gi_code.co_filename).name} line {waiting.gi_frame.f_lineno}"
        waiting = waiting.gi_yieldfrom
    return place
