"""Random protocols, cut anywhere, ask from their journals for just what they would have asked."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE, Condition
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import RecordConditions
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Sample, SpectrumRow
from operando.protocols import (
    Block,
    Cell,
    ConstantCurrent,
    ConstantCurrentConstantVoltage,
    ConstantVoltage,
    HoldTemperature,
    Outcome,
    Plan,
    Rest,
    Step,
    Steps,
    protocol,
)
from operando.protocols.entries import ended_entry, started_entry
from operando.protocols.replay import History, Noted, Tail, history_of, resume
from operando.protocols.steps import VoltageSweep, step_hash
from operando.protocols.tally import Tally
from operando.records import schema

Node = tuple[Any, ...]
"""A piece of a protocol: its kind, then what it is made of."""

Body = Generator[Step | Block, Outcome, Outcome | None]


# ---- protocols that are made up --------------------------------------------------------------


def carried_out(nodes: tuple[Node, ...], cell: Cell, last: Outcome | None) -> Body:
    """Ask for what a protocol is made of; the last outcome."""
    for node in nodes:
        kind, *parts = node
        if kind == "step":
            last = yield made(tuple(parts), last)
        elif kind == "block":
            steps, repeat = parts
            last = yield Block(tuple(made(step, last) for step in steps), repeat)
        elif kind == "loop":
            for _ in range(parts[0]):
                last = yield from carried_out(parts[1], cell, last)
        elif kind == "until":
            quantity, bound, most, body = parts
            for _ in range(most):
                last = yield from carried_out(body, cell, last)
                if last is not None and getattr(last, quantity) > bound:
                    break
        elif kind == "if":
            quantity, bound, then, otherwise = parts
            chosen = then if judged(last, quantity, bound) else otherwise
            last = yield from carried_out(chosen, cell, last)
        elif kind == "draw":
            seconds = cell.random.expovariate(1e-3) + cell.random.choice((1.0, 2.0))
            last = yield Rest((ELAPSED >= seconds,), label="drawn")
    return last


def judged(last: Outcome | None, quantity: str, bound: float) -> bool:
    """A decision on how the last step ended."""
    if last is None:
        return bound > 0.0
    if quantity == "reason":
        return last.reason == "condition"
    if quantity == "condition":
        return last.condition is not None and "voltage" in last.condition.quantities
    return bool(getattr(last, quantity) > bound)


def made(step: Node, last: Outcome | None) -> Step:
    """A step; one that learns takes a number from the last outcome, if it is of use."""
    kind, level, bound, learns = step
    if learns and last is not None and math.isfinite(last.voltage):
        level += math.remainder(last.voltage, 1.0)
    times = (ELAPSED >= 60.0, ELAPSED >= 60.0 * (1.0 + bound), VOLTAGE >= 4.0 + 1e-9 * bound)
    if kind == "rest":
        return Rest(times)
    if kind == "current":
        current = 1e-3 * (level or 1.0)
        stop = VOLTAGE >= 4.0 if current > 0.0 else VOLTAGE <= 3.0
        return ConstantCurrent(current, (stop, *times[:2]), label="drive", cycle=1)
    if kind == "voltage":
        return ConstantVoltage(level, 1e-3, (abs(CURRENT) <= 1e-4, *times[:2]))
    if kind == "both":
        return ConstantCurrentConstantVoltage(1e-3, 4.0 + 0.01 * level, (abs(CURRENT) <= 1e-4,))
    if kind == "sweep":
        return VoltageSweep(level, level + 1.0, 0.01, 1e-3)
    return HoldTemperature(300.0 + level, times[:1], label="warm")


@protocol(source="this test")
def made_up(cell: Cell, *, nodes: Any = (), window: tuple[float, float] = (3.0, 4.0)) -> Steps:
    """Whatever is written in `nodes`."""
    yield from carried_out(nodes, cell, None)


NUMBERS = st.floats(-2.0, 2.0, allow_nan=False)
QUANTITIES = st.sampled_from(("voltage", "charge", "current", "energy", "duration", "time"))
KINDS = st.sampled_from(("rest", "current", "voltage", "both", "sweep", "warm"))
STEPS = st.tuples(KINDS, NUMBERS, NUMBERS, st.booleans())
LEAVES = st.one_of(
    st.tuples(st.just("step"), KINDS, NUMBERS, NUMBERS, st.booleans()),
    st.tuples(
        st.just("block"), st.lists(STEPS, min_size=1, max_size=3).map(tuple), st.integers(1, 2)
    ),
    st.tuples(st.just("draw")),
)


def _branches(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    body = st.lists(nodes, min_size=1, max_size=3).map(tuple)
    decided = st.one_of(QUANTITIES, st.just("reason"), st.just("condition"))
    return st.one_of(
        st.tuples(st.just("loop"), st.integers(0, 2), body),
        st.tuples(st.just("until"), QUANTITIES, NUMBERS, st.integers(1, 2), body),
        st.tuples(st.just("if"), decided, NUMBERS, body, body),
    )


PROTOCOLS = st.lists(st.recursive(LEAVES, _branches, max_leaves=5), min_size=1, max_size=3).map(
    tuple
)


# ---- what the cell answers, and what is written down ---------------------------------------------

EXTREMES = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2)


def answered(step: Step, index: int, seed: int) -> Outcome:
    """An outcome that is made up, the same one for the same step."""
    chance = random.Random(f"{seed} {index} {step_hash(step)}")

    def number() -> float:
        return chance.choice(EXTREMES) if chance.random() < 0.2 else chance.gauss(0.0, 2.0)

    condition = chance.choice((None, *step.until))
    reason = chance.choice(("condition", "cut-off", "operator", "complete"))
    return Outcome(index, reason, condition, *(number() for _ in range(6)))


class Nowhere:
    """A recorder that keeps nothing."""

    def sample(self, sample: Sample) -> None: ...
    def aux(self, reading: AuxReading) -> None: ...
    def spectrum(self, row: SpectrumRow) -> None: ...
    def check(self) -> None: ...
    async def journal(self, entry: Entry, time: float, data: Mapping[str, JSON]) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Moment:
    """A cut: what was asked for so far, and what is left of the group under way."""

    entries: int
    over: int
    begun: bool
    left: tuple[Step, ...]


@dataclass(frozen=True)
class Told:
    """A run from its beginning to its end. answers: outcomes, in order."""

    journal: tuple[Noted, ...]
    steps: tuple[Step, ...]
    answers: tuple[Outcome, ...]
    moments: tuple[Moment, ...]


def run_of(plan: Plan, cell: Cell, seed: int) -> Told:
    """Run a plan with made-up outcomes through the real entries of a journal."""
    tally = Tally(0.0, 0.0, RecordConditions(every=1.0), Nowhere())
    journal: list[Noted] = []
    steps: list[Step] = []
    answers: list[Outcome] = []
    moments: list[Moment] = []

    def note(entry: Entry, data: Mapping[str, JSON]) -> None:
        journal.append(Noted(entry, float(len(journal)), json.loads(schema.encode(data))))

    for group in groups_of(plan, cell, answers):
        for place, step in enumerate(group):
            moments.append(Moment(len(journal), len(steps), False, group[place:]))
            tally.begin_step(step, 1)
            note(Entry.STEP_STARTED, started_entry(step, tally))
            moments.append(Moment(len(journal), len(steps), True, group[place:]))
            steps.append(step)
            answers.append(answered(step, len(steps), seed))
            note(Entry.STEP_ENDED, ended_entry(answers[-1], tally))
    moments.append(Moment(len(journal), len(steps), False, ()))
    return Told(tuple(journal), tuple(steps), tuple(answers), tuple(moments))


def groups_of(plan: Plan, cell: Cell, answers: list[Outcome]) -> Iterator[tuple[Step, ...]]:
    """The groups of a plan, each told the last of the answers."""
    program = plan.groups(cell)
    try:
        group = next(program)
        while True:
            yield group
            group = program.send(answers[-1])
    except StopIteration:
        return


def history_at(told: Told, moment: Moment) -> History:
    """What the journal told at a moment."""
    return history_of(told.journal[: moment.entries], Tail())


def hashes(steps: tuple[Step, ...]) -> list[str]:
    """What steps are known by."""
    return [step_hash(step) for step in steps]


CELL = Cell(CellEntry("c1", "bench.toml line 1", capacity=10.0), seed=7)
LONGEST = 20
"""Steps: every cut is tried, so that the work grows with their square."""
SLOW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(PROTOCOLS, st.integers(0, 2**32 - 1), st.integers(0, 1000), st.data())
def test_a_protocol_cut_anywhere_goes_on_as_if_it_had_not_been(
    nodes: tuple[Node, ...], random_seed: int, seed: int, data: st.DataObject
) -> None:
    plan, cell = made_up(nodes=nodes), replace(CELL, seed=random_seed)
    told = run_of(plan, cell, seed)
    assume(0 < len(told.steps) <= LONGEST)
    for moment in told.moments:
        found = resume(plan.groups(cell), history_at(told, moment))
        assert hashes(found.group) == hashes(moment.left)
        assert found.begun is moment.begun
        assert hashes(found.over) == hashes(told.steps[: moment.over])
        found.program.close()
    # And on to the end: random numbers and decisions are those of the whole run.
    moment = data.draw(st.sampled_from(told.moments), label="cut")
    found = resume(plan.groups(cell), history_at(told, moment))
    group, number = found.group, moment.over
    while group:
        assert hashes(group) == hashes(told.steps[number : number + len(group)])
        number += len(group)
        try:
            group = found.program.send(told.answers[number - 1])
        except StopIteration:
            break
    assert number == len(told.steps)


@SLOW
@given(PROTOCOLS, st.integers(0, 1000))
def test_every_outcome_comes_back_exactly(nodes: tuple[Node, ...], seed: int) -> None:
    heard: list[Outcome] = []

    @protocol(source="this test")
    def listening(cell: Cell, *, window: tuple[float, float] = (3.0, 4.0)) -> Steps:
        """Note what it is told."""
        asking = carried_out(nodes, cell, None)
        try:
            item = next(asking)
            while True:
                heard.append((yield item))
                item = asking.send(heard[-1])
        except StopIteration:
            return

    told = run_of(listening(), CELL, seed)
    assume(told.steps)
    first, heard[:] = tuple(heard), []
    resume(listening().groups(CELL), history_at(told, told.moments[-1]))
    assert [exactly(one) for one in heard] == [exactly(one) for one in first]


def exactly(outcome: Outcome) -> tuple[object, ...]:
    """An outcome to the last bit; NaN is NaN and -0.0 is not 0.0."""
    names = ("duration", "charge", "energy", "voltage", "current", "time")
    numbers = tuple(getattr(outcome, name).hex() for name in names)
    return (outcome.index, outcome.reason, outcome.condition, *numbers)


@SLOW
@given(PROTOCOLS, st.integers(0, 1000), st.data())
def test_a_protocol_that_has_changed_is_refused(
    nodes: tuple[Node, ...], seed: int, data: st.DataObject
) -> None:
    told = run_of(made_up(nodes=nodes), CELL, seed)
    assume(told.steps)
    number = data.draw(st.integers(0, len(told.steps) - 1), label="step that is another now")
    entries: list[Noted] = list(told.journal)
    changed = dict(entries[2 * number].data) | {"hash": "another"}
    entries[2 * number] = entries[2 * number]._replace(data=changed)
    for cut in (2 * number + 1, len(entries)):
        with pytest.raises(BadInputError, match=f"step {number + 1} of the journal is"):
            resume(made_up(nodes=nodes).groups(CELL), history_of(entries[:cut], Tail()))


@SLOW
@given(PROTOCOLS, st.integers(0, 1000))
def test_a_protocol_that_is_shorter_now_is_refused(nodes: tuple[Node, ...], seed: int) -> None:
    longer = (*nodes, ("step", "rest", 0.0, 1.0, False))
    told = run_of(made_up(nodes=longer), CELL, seed)
    with pytest.raises(BadInputError, match="it has changed"):
        resume(made_up(nodes=nodes).groups(CELL), history_at(told, told.moments[-1]))


def test_conditions_that_differ_in_the_last_digit_are_told_apart() -> None:
    near = VOLTAGE >= 4.0
    far = VOLTAGE >= math.nextafter(4.0, 5.0)
    ends: tuple[Condition, ...] = (near, far)
    seen: list[bool] = []

    @protocol(source="this test")
    def two_ends(cell: Cell, *, window: tuple[float, float] = (3.0, 4.0)) -> Steps:
        """End by one of two that are nearly the same."""
        outcome = yield Rest(ends)
        seen.append(outcome.ended_by(far))

    step = Rest(ends)
    tally = Tally(0.0, 0.0, RecordConditions(every=1.0), Nowhere())
    tally.begin_step(step, 1)
    outcome = Outcome(1, "condition", far, 1.0, 0.0, 0.0, 4.0, 0.0)
    journal = [
        Noted(entry, 0.0, json.loads(schema.encode(data)))
        for entry, data in (
            (Entry.STEP_STARTED, started_entry(step, tally)),
            (Entry.STEP_ENDED, ended_entry(outcome, tally)),
        )
    ]
    resume(two_ends().groups(CELL), history_of(journal, Tail()))
    assert seen == [True]
