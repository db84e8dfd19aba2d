"""What an operator changes in a run under way: the end of a step, the condition of a limit.

A change is checked as it would be at the start of a run, and journalled, old and new.
"""

from __future__ import annotations

from dataclasses import replace

from operando.instruments.bench import Bench
from operando.instruments.conditions import Condition, parse
from operando.instruments.errors import BadInputError, RecordError
from operando.instruments.words import condition_words
from operando.protocols import Runner
from operando.station.client.client import RefusedError
from operando.station.client.models import Done
from operando.station.orders import limit_problems
from operando.station.runs import UnderWay


def driving(run: UnderWay) -> Runner:
    """The runner of a run that can be changed now. Raises RefusedError."""
    if run.stop_reason:
        raise RefusedError(f"channel {run.channel} is being stopped")
    if run.runner is None or not run.driving:
        raise RefusedError(f"channel {run.channel} is being prepared; nothing is on yet")
    return run.runner


def new_condition(bench: Bench, run: UnderWay, name: str, text: str) -> Condition:
    """At what a limit of a run is to act, bound to its cell. Raises RefusedError with the reason.

    May be called in any thread.
    """
    limits = driving(run).limits
    old = next((limit for limit in limits if limit.name == name), None)
    if old is None:
        known = ", ".join(limit.name for limit in limits) or "none"
        raise RefusedError(f"channel {run.channel} has no limit '{name}'; it has: {known}")
    cell = run.settled.cell.entry
    try:
        limit = replace(old, when=parse(text)).bind(
            capacity=cell.capacity, area=cell.area, mass=cell.active_mass
        )
    except BadInputError as error:
        raise RefusedError(f"limit {name}: {error}") from None
    changed = [limit if one is old else one for one in limits]
    known_before = set(limit_problems(bench, run.settled, run.order, limits))
    problems = [
        problem.message
        for problem in limit_problems(bench, run.settled, run.order, changed)
        if problem not in known_before
    ]
    if problems:
        raise RefusedError(f"limit {name} was not changed: {'; '.join(problems)}")
    return limit.when


async def change_limit(run: UnderWay, name: str, when: Condition, by: str) -> Done:
    """Let a limit act at another condition from now on. Raises RefusedError."""
    try:
        await driving(run).change_limit(name, when, by)
    except (BadInputError, RecordError) as error:
        raise RefusedError(f"limit {name} was not changed: {error}") from None
    return Done(
        ok=True, message=f"channel {run.channel}: limit {name} is {condition_words(when)} now"
    )


async def end_step(run: UnderWay, step: int, by: str) -> Done:
    """End the present step; the protocol goes on with the next. Raises RefusedError.

    step: its index; 0 is whichever runs.
    """
    runner = driving(run)
    index, label = runner.tally.step_count, runner.tally.label
    if step and step != index:
        raise RefusedError(
            f"NOTHING WAS ENDED: channel {run.channel} has step {index} ('{label}') under way by "
            f"now, not {step}"
        )
    try:
        await runner.cut_step(by)
    except (BadInputError, RecordError) as error:
        raise RefusedError(str(error)) from None
    return Done(ok=True, message=f"channel {run.channel}: step {index} ('{label}') is being ended")
