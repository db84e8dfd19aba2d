"""A look at what a plan will ask for, without running it."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from operando.protocols.protocol import Cell, Outcome, Plan
from operando.protocols.run import current_bound
from operando.protocols.steps import Step, elapsed_bound

MOST_STEPS = 2000
"""A preview of an adaptive protocol stops here; it cannot know how the cell will answer."""

_SILENCED = threading.Lock()
"""Held while the standard output is put aside."""


@dataclass(frozen=True)
class Preview:
    """Steps as they would come if each ended by its first condition.

    complete: the plan came to its end within MOST_STEPS. highest_current: A.
    durations: s of each step, estimated from the nominal capacity and the timed steps.
    groups: how many steps each group has; one may run on board whole.
    """

    steps: tuple[Step, ...]
    complete: bool
    highest_current: float
    durations: tuple[float, ...]
    groups: tuple[int, ...]

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
    # The standard output is that of all threads: two that exchange it must not overlap, and none
    # waits for another, whose protocol may hang.
    silencing = _SILENCED.acquire(blocking=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()) if silencing else contextlib.nullcontext():
            return _preview(plan, cell)
    finally:
        if silencing:
            _SILENCED.release()


def _preview(plan: Plan, cell: Cell) -> Preview:
    steps: list[Step] = []
    durations: list[float] = []
    groups: list[int] = []
    program = plan.groups(cell)
    complete = False
    try:
        group = next(program)
        while len(steps) < MOST_STEPS:
            steps += group
            durations += [_duration(step, cell) for step in group]
            groups.append(len(group))
            last, seconds = steps[-1], durations[-1]
            group = program.send(
                Outcome(len(steps), "condition", last.until[0], seconds, 0.0, 0.0, 0.0, 0.0)
            )
    except StopIteration:
        complete = True
    finally:
        program.close()
    highest = max((current_bound(step.setpoint(0.0)) for step in steps), default=0.0)
    return Preview(tuple(steps), complete, highest, tuple(durations), tuple(groups))


def _duration(step: Step, cell: Cell) -> float:
    bound = elapsed_bound(step.until)
    if bound is not None:
        return bound
    current = current_bound(step.setpoint(0.0))
    return cell.capacity / current if current and cell.entry.capacity else 0.0
