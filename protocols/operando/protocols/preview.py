"""A look at what a plan will ask for, without running it."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from operando.instruments.errors import BadInputError
from operando.protocols.advancing import asked_at
from operando.protocols.protocol import Cell, Outcome, Plan
from operando.protocols.run import current_bound
from operando.protocols.steps import Impedance, Step, describe, elapsed_bound, step_hash

MOST_STEPS = 2000
"""A preview of an adaptive protocol stops here; it cannot know how the cell will answer."""

MOST_TIME = 10.0
"""Wall s after which a preview stops as well: a protocol may think long about each step."""

_SILENCED = threading.Lock()
"""Held while the standard output is put aside."""


@dataclass(frozen=True)
class Preview:
    """Steps as they would come if each ended by its first condition.

    complete: the plan came to its end within MOST_STEPS. highest_current: A.
    durations: s of each step, estimated from the nominal capacity and the timed steps.
    groups: how many steps each group has; one may run on board whole. places: file and line of
    the yield that asked for each step.
    """

    steps: tuple[Step, ...]
    complete: bool
    highest_current: float
    durations: tuple[float, ...]
    groups: tuple[int, ...]
    places: tuple[str, ...]

    @cached_property
    def behind(self) -> tuple[float, ...]:
        """Estimated s of the steps before each step."""
        return (0.0, *accumulate(self.durations))[: len(self.durations)]

    @property
    def duration(self) -> float:
        """Estimated s of the whole plan."""
        return sum(self.durations)

    def grouped(self) -> Iterator[tuple[tuple[Step, ...], tuple[float, ...]]]:
        """Steps and durations (s) of each group."""
        end = 0
        for length in self.groups:
            begin, end = end, end + length
            yield self.steps[begin:end], self.durations[begin:end]

    def passed(self, index: int, elapsed: float) -> float | None:
        """How much of `duration` lies behind in step `index` (from 1), s.

        elapsed: s in that step; it counts for no more than was estimated. None when that cannot
        be known, because the plan is longer than its preview or went another way.
        """
        if not self.complete or index > len(self.durations):
            return None
        if index < 1:
            return 0.0
        return self.behind[index - 1] + min(max(elapsed, 0.0), self.durations[index - 1])


def preview(plan: Plan, cell: Cell) -> Preview:
    """Ask the plan for its steps with made-up outcomes. Raises BadInputError as the run would.

    What the protocol prints is said when it runs, and not here too. May be called in any thread.
    """
    with silenced():
        ahead, again = _preview(plan, cell), _preview(plan, cell)
    if found := _difference(ahead, again):
        raise BadInputError(
            f"protocol {plan.protocol.name} asks for other steps each time it is asked: {found}. "
            "A run that is resumed after a crash asks it again, so take time, randomness and "
            f"results from the outcomes and the cell alone{_where_to_look(plan)}"
        )
    return ahead


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Put aside what is printed meanwhile. May be used in any thread."""
    # The standard output is that of all threads: two that exchange it must not overlap, and none
    # waits for another, whose protocol may hang.
    silencing = _SILENCED.acquire(blocking=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()) if silencing else contextlib.nullcontext():
            yield
    finally:
        if silencing:
            _SILENCED.release()


def _difference(first: Preview, second: Preview) -> str:
    """How two previews of one plan differ, in words; "" if they do not."""
    for index, (one, other) in enumerate(zip(first.steps, second.steps, strict=False), 1):
        if one != other and step_hash(one) != step_hash(other):
            return f"step {index} was {_said(one)}, and then {_said(other)}"
    shorter, longer = sorted((first, second), key=lambda ahead: len(ahead.steps))
    if shorter.complete and (not longer.complete or len(shorter.steps) < len(longer.steps)):
        return f"for {len(first.steps)} steps at first, and then for {len(second.steps)}"
    return ""


def _said(step: Step) -> str:
    data = {key: value for key, value in describe(step).items() if value not in (None, 0)}
    return ", ".join(f"{key} {value}" for key, value in data.items())


def _where_to_look(plan: Plan) -> str:
    script = plan.protocol.script
    return "" if script is None else f"; 'operando protocols {script.path.name}' says where to look"


def _preview(plan: Plan, cell: Cell) -> Preview:
    steps: list[Step] = []
    durations: list[float] = []
    groups: list[int] = []
    places: list[str] = []
    program = plan.groups(cell)
    complete, passed = False, 0.0
    try:
        group = next(program)
        until = time.monotonic() + MOST_TIME
        while len(steps) < MOST_STEPS and time.monotonic() < until:
            steps += group
            durations += [_duration(step, cell) for step in group]
            groups.append(len(group))
            places += [asked_at(program)] * len(group)
            last, seconds = steps[-1], durations[-1]
            passed += sum(durations[-len(group) :])
            group = program.send(
                Outcome(len(steps), "condition", last.until[0], seconds, 0.0, 0.0, 0.0, 0.0, passed)
            )
    except StopIteration:
        complete = True
    finally:
        program.close()
    highest = max(map(_highest_current, steps), default=0.0)
    return Preview(tuple(steps), complete, highest, tuple(durations), tuple(groups), tuple(places))


def _highest_current(step: Step) -> float:
    return step.current_limit if isinstance(step, Impedance) else current_bound(step.setpoint(0.0))


def _duration(step: Step, cell: Cell) -> float:
    if isinstance(step, Impedance):
        return step.request(0.0).duration
    bound = elapsed_bound(step.until)
    if bound is not None:
        return bound
    current = current_bound(step.setpoint(0.0))
    return cell.capacity / current if current and cell.entry.capacity else 0.0
