"""The published results that the simulated cell is held against, as typed rows.

They lie in three files by role, so that the fit can open the first alone:
`targets/calibrated.toml`, `targets/held-out.toml`, `targets/orderings.toml`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from operando.instruments.errors import BadInputError

TARGETS = Path(__file__).parent / "targets"


class Role(Enum):
    """What a target is for. Its value is the word in the files, `file` where it lies."""

    CALIBRATED = "calibrated"
    HELD_OUT = "held-out"
    ORDERING = "ordering"

    @property
    def file(self) -> Path:
        """The file of this role's targets."""
        stem = "orderings" if self is Role.ORDERING else self.value
        return TARGETS / f"{stem}.toml"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a result is published: paper and section."""

    paper: str
    section: str

    def __str__(self) -> str:
        return f"{self.paper}, section {self.section}"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a measured value may lie from the published one, or that it may only lie above.

    absolute: in the target's unit. relative: share of the published value. One of them is NaN.
    at_least: the published value is a lower bound; then both are NaN.
    """

    absolute: float = math.nan
    relative: float = math.nan
    at_least: bool = False

    def accepts(self, measured: float, published: float) -> bool:
        """Whether a finite measured value agrees; False for one that is not finite."""
        if not math.isfinite(measured):
            return False
        if self.at_least:
            return measured >= published
        if math.isnan(self.relative):
            return abs(measured - published) <= self.absolute
        return abs(measured - published) <= self.relative * abs(published)

    def __str__(self) -> str:
        if self.at_least:
            return "at least"
        if math.isnan(self.relative):
            return f"± {self.absolute:g}"
        return f"± {100.0 * self.relative:g} %"


@dataclass(frozen=True, slots=True)
class Target:
    """One published result.

    id: its row. unit: of every value. presets: preset of a case, where one stands for it.
    published: value by case; empty for an ordering. tolerance: None for an ordering.
    descending: chains of cases, each larger than the next; a case in `given` is that number.
    positive, negative: cases that must have that sign.
    seen: what of the model was changed, in a way that concerns this row, after it had been measured
        and had missed; "" for nothing. Since then it is no blind prediction, met or not.
    """

    id: str
    quantity: str
    unit: str
    role: Role
    source: Source
    conditions: str
    presets: Mapping[str, str]
    published: Mapping[str, float]
    tolerance: Tolerance | None
    descending: tuple[tuple[str, ...], ...] = ()
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    given: Mapping[str, float] | None = None
    seen: str = ""

    @property
    def cases(self) -> tuple[str, ...]:
        """Every case that has to be measured, in order of appearance."""
        named = [
            *self.published,
            *(case for chain in self.descending for case in chain),
            *self.positive,
            *self.negative,
        ]
        return tuple(case for case in dict.fromkeys(named) if case not in (self.given or {}))

    @property
    def statement(self) -> str:
        """What an ordering says, in signs."""
        parts = [" > ".join(chain) for chain in self.descending]
        parts += [f"{case} > 0" for case in self.positive]
        parts += [f"{case} < 0" for case in self.negative]
        return "; ".join(parts)


def load_targets(role: Role) -> tuple[Target, ...]:
    """The targets of one role; opens that role's file and no other.

    Raises BadInputError naming the file and the row for one that is not complete.
    """
    return parse_targets(role, role.file.read_text(encoding="utf-8"), role.file.name)


def parse_targets(role: Role, text: str, name: str) -> tuple[Target, ...]:
    """Targets from the text of a file. name: of the file, for messages. Raises BadInputError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{name}: not TOML: {error}") from None
    if document.get("role") != role.value:
        raise BadInputError(
            f"{name}: role is {document.get('role')!r}; targets of one role lie in one file, and "
            f"this one is for {role.value!r}"
        )
    targets = tuple(_target(role, row, document, name) for row in document.get("target", ()))
    ids = [target.id for target in targets]
    for twice in {i for i in ids if ids.count(i) > 1}:
        raise BadInputError(f"{name}: two targets are called {twice}")
    return targets


def _target(role: Role, row: Mapping[str, Any], document: Mapping[str, Any], name: str) -> Target:
    where = f"{name}: target {row.get('id', 'without id')}"
    for key in ("id", "quantity", "unit", "source", "conditions"):
        if not row.get(key):
            raise BadInputError(f"{where}: needs `{key}`")
    papers = document.get("papers", {})
    source = row["source"]
    if not isinstance(source, Mapping) or not {"paper", "section"} <= set(source):
        raise BadInputError(f"{where}: source needs paper and section, got {source!r}")
    if source["paper"] not in papers:
        raise BadInputError(f"{where}: paper {source['paper']!r} is not among {sorted(papers)}")
    published = {case: _number(where, value) for case, value in row.get("published", {}).items()}
    given = {case: _number(where, value) for case, value in row.get("given", {}).items()}
    target = Target(
        id=str(row["id"]),
        quantity=str(row["quantity"]),
        unit=str(row["unit"]),
        role=role,
        source=Source(str(papers[source["paper"]]), str(source["section"])),
        conditions=str(row["conditions"]),
        presets=dict(document.get("presets", {})),
        published=published,
        tolerance=_tolerance(where, row["tolerance"]) if "tolerance" in row else None,
        descending=tuple(tuple(map(str, chain)) for chain in row.get("descending", ())),
        positive=tuple(map(str, row.get("positive", ()))),
        negative=tuple(map(str, row.get("negative", ()))),
        given=given,
        seen=str(row.get("seen", "")),
    )
    ordered = bool(target.descending or target.positive or target.negative)
    if role is Role.ORDERING and (published or target.tolerance or not ordered):
        raise BadInputError(f"{where}: an ordering has descending, positive or negative, no values")
    if role is not Role.ORDERING and (not published or target.tolerance is None or ordered):
        raise BadInputError(f"{where}: needs `published` and `tolerance`, and no order")
    return target


def _tolerance(where: str, table: Mapping[str, Any]) -> Tolerance:
    if set(table) == {"at_least"} and table["at_least"] is True:
        return Tolerance(at_least=True)
    if len(table) == 1 and (key := next(iter(table))) in ("absolute", "relative"):
        bound = _number(where, table[key])
        if bound > 0.0:
            relative = key == "relative"
            return Tolerance(relative=bound) if relative else Tolerance(absolute=bound)
    raise BadInputError(
        f"{where}: tolerance is {{ absolute = x }}, {{ relative = x }} or {{ at_least = true }} "
        f"with x > 0, not {dict(table)!r}"
    )


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInputError(f"{where}: {value!r} is not a finite number")
    return float(value)
