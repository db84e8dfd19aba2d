"""Judging what was measured: rows with published value, deviation, interval and verdict."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from operando.instruments.errors import OperandoError
from operando.validation.lab import Lab
from operando.validation.measurements import MEASUREMENTS
from operando.validation.outcomes import Found, NotYet, Path
from operando.validation.prior import Interval, intervals
from operando.validation.published import Role, Target

FAILURES = (OperandoError, ValueError, KeyError)
"""What a run, a cell or a preset may raise. The row is then a miss that says so."""

ORDERINGS_TO_MEET = 0.9
"""Share of the orderings that could be measured which must hold."""


class Verdict(Enum):
    """What became of a target."""

    MET = "met"
    MISSED = "missed"
    NOT_YET = "not yet"


@dataclass(frozen=True, slots=True)
class Row:
    """One printed row: a target in one case, or an ordering as a whole.

    case: "" for an ordering. published: NaN for an ordering. measured: NaN for an ordering or
    where nothing was measured. values: of an ordering, by case. interval: prior-predictive,
    of held-out rows. note: reason of "not yet", or what a reader must know.
    """

    target: Target
    case: str
    published: float
    measured: float
    verdict: Verdict
    path: Path
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    interval: Interval | None = None

    @property
    def deviation(self) -> float:
        """Measured minus published, in the target's unit; NaN for an ordering."""
        return self.measured - self.published

    @property
    def relative_deviation(self) -> float:
        """The same over the published value."""
        return self.deviation / self.published if self.published else math.nan

    @property
    def predicted(self) -> bool | None:
        """Whether the published value lies in the interval; None without one.

        A published lower bound does if the interval reaches above it.
        """
        if self.interval is None or math.isnan(self.interval.low):
            return None
        if self.target.tolerance is not None and self.target.tolerance.at_least:
            return self.interval.high >= self.published
        return self.interval.holds(self.published)


def holds(target: Target, values: Mapping[str, float]) -> bool:
    """Whether an ordering is met by values by case; False where one is not finite."""
    values = {**values, **(target.given or {})}
    if not all(math.isfinite(values[case]) for case in target.cases):
        return False
    chains = all(
        values[larger] > values[smaller]
        for chain in target.descending
        for larger, smaller in pairwise(chain)
    )
    signs = all(values[case] > 0.0 for case in target.positive)
    return chains and signs and all(values[case] < 0.0 for case in target.negative)


def judge(
    target: Target, outcome: Found | NotYet, predicted: Mapping[str, Interval] | None = None
) -> list[Row]:
    """The rows of one target. predicted: intervals by case."""
    nan, cases = math.nan, target.cases if target.role is not Role.ORDERING else ("",)
    if isinstance(outcome, NotYet):
        return [
            Row(
                target,
                case,
                target.published.get(case, nan),
                nan,
                Verdict.NOT_YET,
                Path.NONE,
                outcome.reason,
            )
            for case in cases
        ]
    if missing := set(target.cases) - set(outcome.values):
        raise ValueError(f"{target.id}: nothing was measured for {sorted(missing)}")
    if target.role is Role.ORDERING:
        verdict = Verdict.MET if holds(target, outcome.values) else Verdict.MISSED
        return [
            Row(target, "", nan, nan, verdict, outcome.path, outcome.note, dict(outcome.values))
        ]
    assert target.tolerance is not None
    rows = []
    for case in cases:
        measured, published = outcome.values[case], target.published[case]
        met = target.tolerance.accepts(measured, published)
        rows.append(
            Row(
                target,
                case,
                published,
                measured,
                Verdict.MET if met else Verdict.MISSED,
                outcome.path,
                outcome.note,
                interval=(predicted or {}).get(case),
            )
        )
    return rows


def measure(lab: Lab, target: Target) -> Found | NotYet:
    """Measure one target; a cell or preset that failed is a value that is not a number."""
    try:
        return MEASUREMENTS[target.id](lab, target)
    except FAILURES as error:
        return Found(dict.fromkeys(target.cases, math.nan), f"failed: {error}", Path.NONE)


def validate(
    lab: Lab, targets: Iterable[Target], tell: Callable[[Target], None] = lambda _: None
) -> list[Row]:
    """Measure and judge targets. tell: told of each before it is measured."""
    rows = []
    for target in targets:
        tell(target)
        predicted = {}
        if target.role is Role.HELD_OUT and lab.draws:
            lab.say(f"{target.id}: prior-predictive intervals, {lab.draws} draws on the model")
            with contextlib.suppress(*FAILURES):  # the measurement meets it too, and says so
                predicted = intervals(target, draws=lab.draws, seed=lab.seed)
        rows += judge(target, measure(lab, target), predicted)
    return rows


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of a role there are, by verdict."""

    met: int
    missed: int
    not_yet: int


def tally(rows: Sequence[Row], role: Role) -> Tally:
    """Count the rows of a role."""
    count = [row.verdict for row in rows if row.target.role is role]
    return Tally(*(count.count(v) for v in (Verdict.MET, Verdict.MISSED, Verdict.NOT_YET)))


def acceptable(rows: Sequence[Row]) -> bool:
    """Whether no calibrated row missed and 90 % of the measured orderings hold.

    Held-out rows have no pass mark: one would invite fitting to them. What could not be measured
    yet counts neither way; it is printed.
    """
    orderings = tally(rows, Role.ORDERING)
    measured = orderings.met + orderings.missed
    enough = measured == 0 or orderings.met >= ORDERINGS_TO_MEET * measured
    return tally(rows, Role.CALIBRATED).missed == 0 and enough
