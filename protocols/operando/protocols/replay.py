"""Taking a run up again from its journal, after the program that ran it has died.

The outcomes of the steps that have ended are fed back to the protocol until it asks for a step that
has none. That step goes on with the time and charge that it has had; nothing is run twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from operando.instruments.errors import BadInputError
from operando.instruments.recorder import JSON, Entry
from operando.protocols.entries import PROGRAM_DIED, UNSEEN, gap_entry
from operando.protocols.protocol import Groups, Outcome
from operando.protocols.run import FINAL, current_bound
from operando.protocols.steps import Impedance, Step, step_hash
from operando.protocols.tally import Tally


class Noted(NamedTuple):
    """One entry of a journal. time: s of the run."""

    entry: Entry
    time: float
    data: Mapping[str, JSON]


_FINAL_WORDS = frozenset(state.value for state in FINAL)
"""Reasons of steps that the end of their run cut short."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the rows of a record end. time: s of the run. step_count, cycle: as in `Sample`.

    charge, energy: of the run, C and J. step_charge, step_energy: C and J. step_time: s.
    """

    time: float = 0.0
    step_count: int = 0
    charge: float = 0.0
    energy: float = 0.0
    step_charge: float = 0.0
    step_energy: float = 0.0
    step_time: float = 0.0


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """A step as a journal tells of it. ended: its outcome's data, None if it has none."""

    index: int
    hash: str
    label: str
    ended: Mapping[str, JSON] | None


@dataclass(frozen=True, slots=True)
class History:
    """What a record tells of a run that nobody ended.

    steps: in order. tail: of its rows. noted_until: s of the run, of the last thing known.
    resting: whether the circuit was known to be open then. unseen_since: s of the run, from where
    what flowed is neither counted nor told of by a gap. edits: of limits, in order, data of their
    entries. spectra: number of those begun. unseen: stretches of the step under way that were to be
    downloaded at its end, as entries of gaps.
    """

    steps: tuple[LoggedStep, ...]
    tail: Tail
    noted_until: float
    resting: bool
    unseen_since: float
    edits: tuple[Mapping[str, JSON], ...] = ()
    spectra: int = 0
    unseen: tuple[Mapping[str, JSON], ...] = ()


def history_of(journal: Iterable[Noted], tail: Tail, spectra: int = 0) -> History:
    """What a journal tells. Raises BadInputError if the run ended, or a limit had tripped it."""
    begun: dict[int, Mapping[str, JSON]] = {}
    ended: dict[int, Mapping[str, JSON]] = {}
    edits: list[Mapping[str, JSON]] = []
    unseen: dict[float, Mapping[str, JSON]] = {}
    noted_until, unseen_since, resting = tail.time, tail.time, True
    for entry, time, data in journal:
        noted_until = max(noted_until, time)
        index = data.get("index")
        if entry is Entry.STEP_STARTED and isinstance(index, int):
            begun.setdefault(index, data)
            resting = False
        elif entry is Entry.STEP_ENDED and isinstance(index, int):
            if data.get("reason") in _FINAL_WORDS:
                raise BadInputError(
                    f"this run was being ended ({data.get('reason')}) when its program died; there "
                    "is nothing to resume"
                )
            ended[index] = data
            unseen.clear()
        elif entry in (Entry.PAUSED, Entry.RESUMED):
            resting = entry is Entry.PAUSED
            if time >= tail.time:  # no row has followed: what the pause tells still counts
                unseen_since = max(unseen_since, time)
                if resting and begun and tail.step_count == max(begun):
                    tail = _until_pause(tail, data)
        elif entry is Entry.NOTE and data.get("what") == UNSEEN:
            unseen[_number(data.get("start"))] = {key: data[key] for key in data if key != "what"}
        elif entry is Entry.GAP:
            unseen.pop(_number(data.get("start")), None)  # it is told
            if _number(data.get("start")) <= unseen_since:
                unseen_since = max(unseen_since, _number(data.get("end")))
        elif entry is Entry.EDIT:
            edits.append(data)
        elif entry is Entry.LIMIT and data.get("action") == "trip":
            raise BadInputError(
                f"limit {data.get('name')} had tripped this run before its program died. A trip is "
                "final: look at the cell, then start a new run"
            )
        elif entry is Entry.RUN_ENDED:
            raise BadInputError("this run has ended; there is nothing to resume")
    steps = tuple(
        LoggedStep(index, str(data.get("hash")), str(data.get("label")), ended.get(index))
        for index, data in sorted(begun.items())
    )
    missing = tuple(one for one in unseen.values() if _number(one.get("end")) <= unseen_since)
    return History(steps, tail, noted_until, resting, unseen_since, tuple(edits), spectra, missing)


def _until_pause(tail: Tail, paused: Mapping[str, JSON]) -> Tail:
    """With what passed between the last row and the open circuit, which the pause tells."""
    charge, elapsed = _number(paused.get("step_charge")), _number(paused.get("elapsed"))
    if not (math.isfinite(charge) and math.isfinite(elapsed)):
        return tail
    return replace(
        tail,
        charge=tail.charge + charge - tail.step_charge,
        step_charge=charge,
        step_time=elapsed,
    )


@dataclass(frozen=True, slots=True)
class Resumption:
    """A run about to go on. program: the protocol, where it waits for an outcome.

    group: the steps that it asked for last and that are not over; none when it came to its end.
    begun: whether the first of them has been begun. over: those that are, in order. highest: the
    largest current that may have flowed unseen, A.
    """

    history: History
    program: Groups
    group: tuple[Step, ...]
    begun: bool
    over: tuple[Step, ...]
    highest: float

    @property
    def driven(self) -> tuple[Step, ...]:
        """The steps that have been begun, over or not, in order."""
        return (*self.over, *self.group[: int(self.begun)])


def resume(program: Groups, history: History) -> Resumption:
    """Feed a protocol its outcomes. Raises BadInputError if it asks for something else now."""
    over: list[Step] = []
    logged = iter(history.steps)
    try:
        group = next(program)
        while True:
            for place, step in enumerate(group):
                log = next(logged, None)
                if log is None or log.ended is None:
                    left = group[place:] if log is None else _same(step, log, group[place:])
                    # What was left of a group may have gone on on board.
                    unseen = (*over[-1:], *(left if place or log is not None else ()))
                    highest = 0.0 if history.resting else _highest(unseen)
                    return Resumption(history, program, left, log is not None, tuple(over), highest)
                _same(step, log, group)
                over.append(step)
                outcome = _outcome(step, log.index, log.ended)
            group = program.send(outcome)
    except StopIteration:
        if next(logged, None) is not None:
            raise BadInputError(
                f"the journal has {len(history.steps)} steps, but the protocol now ends after "
                f"{len(over)}: it has changed. Nothing was driven; restore it, or start a new run"
            ) from None
        return Resumption(history, program, (), False, tuple(over), _highest(over[-1:]))


def _same(step: Step, log: LoggedStep, group: tuple[Step, ...]) -> tuple[Step, ...]:
    if step_hash(step) == log.hash:
        return group
    raise BadInputError(
        f"step {log.index} of the journal is '{log.label}', but the protocol now asks for another "
        f"one there ('{step.label}'): the protocol, its parameters or its version have changed, or "
        "it is not deterministic. Nothing was driven; restore it, or start a new run"
    )


def _highest(steps: Iterable[Step]) -> float:
    """Largest current of any of the steps: an instrument may have gone on with them by itself."""
    return max(map(_largest, steps), default=0.0)


def _largest(step: Step) -> float:
    # A spectrum is asked for at rest, and drives a current nevertheless.
    if isinstance(step, Impedance):
        return step.current_limit
    return current_bound(step.setpoint(0.0))


def _outcome(step: Step, index: int, data: Mapping[str, JSON]) -> Outcome:
    text = data.get("condition")
    condition = next((one for one in step.until if str(one) == text), None)
    number: Callable[[str], float] = lambda name: _number(data.get(name))  # noqa: E731
    return Outcome(
        index=index,
        reason=str(data.get("reason")),
        condition=condition,
        duration=number("duration"),
        charge=number("charge"),
        energy=number("energy"),
        voltage=number("voltage"),
        current=number("current"),
        time=number("time"),
    )


def count_on(resumption: Resumption, tally: Tally, now: float) -> dict[str, JSON]:
    """Let a tally go on from a record; the entry of what was not seen until `now`.

    now: laboratory time, s.
    """
    history, tail = resumption.history, resumption.history.tail
    tally.take_up(tail.charge, tail.energy, tail.time, now)
    for step in resumption.over:
        tally.pass_over(step)
    end = now - tally.start
    bound = resumption.highest * (end - history.unseen_since)
    start = history.noted_until if history.resting else history.unseen_since
    return gap_entry(start, end, suspended=0.0, charge_bound=bound, why=PROGRAM_DIED)


def go_on_with(resumption: Resumption, step: Step, step_id: int, tally: Tally) -> None:
    """Let a tally go on with a step that has had part of its time and charge."""
    tail = resumption.history.tail
    tally.begin_step(step, step_id)
    if tail.step_count == tally.step_count:
        tally.carry(tail.step_time, tail.step_charge, tail.step_energy)


def _number(value: JSON) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
