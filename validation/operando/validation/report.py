"""Rows as tables on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from operando.instruments.errors import BadInputError
from operando.validation.prior import COVERAGE
from operando.validation.published import Role, Target
from operando.validation.verdicts import Row, Verdict, tally

SCHEMA = "operando-validation-1"

HEADINGS = {
    Role.CALIBRATED: "Calibrated: set by the fit or by hand, validates nothing by itself",
    Role.HELD_OUT: "Held out: never shown to the fit, no pass mark",
    Role.ORDERING: "Orderings: never shown to the fit",
}

SEEN = "*"
"""Marks a row that had missed before the model was changed in a way that concerns it, and is
therefore no blind prediction."""

COLOURS = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.NOT_YET: "yellow"}

JSON = dict[str, object]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How a validation was made. mode: "quick" or "full". seconds: wall time."""

    mode: str
    draws: int
    seed: int
    version: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"operando {self.version}, {self.mode}, {self.seconds:.0f} s; every cell SIMULATED; "
            f"intervals: {100 * COVERAGE:.0f} % of {self.draws} draws, seed {self.seed}"
        )


def number(value: float) -> str:
    """Four digits, or a dash."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.3e}" if value and not 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def columns(role: Role) -> tuple[str, ...]:
    """Headings of the table of a role."""
    if role is Role.ORDERING:
        return ("row", "quantity", "published order", "measured", "verdict", "path")
    interval = (f"{100 * COVERAGE:.0f} % interval",) if role is Role.HELD_OUT else ()
    head = ("row", "quantity", "cell", "published", "measured", "deviation")
    return (*head, *interval, "verdict", "path")


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of `columns`."""
    target = row.target
    end = (row.verdict.value, row.path.value if row.verdict is not Verdict.NOT_YET else "–")
    quantity = target.quantity if target.unit == "1" else f"{target.quantity}, {target.unit}"
    name = f"{target.id} {SEEN}" if target.seen else target.id
    if target.role is Role.ORDERING:
        measured = ", ".join(f"{case}: {number(value)}" for case, value in row.values.items())
        return (name, quantity, target.statement, measured or "–", *end)
    published = number(row.published)
    lower_bound = target.tolerance is not None and target.tolerance.at_least
    published = f"≥ {published}" if lower_bound else f"{published} {target.tolerance}"
    interval = (_interval(row),) if target.role is Role.HELD_OUT else ()
    measured = number(row.measured)
    return (name, quantity, row.case, published, measured, _deviation(row), *interval, *end)


def _deviation(row: Row) -> str:
    """In the target's unit where its tolerance is, else relative."""
    if not math.isfinite(row.deviation):
        return "–"
    tolerance = row.target.tolerance
    if tolerance is not None and math.isfinite(tolerance.relative):
        return f"{100.0 * row.relative_deviation:+.1f} %"
    return f"{row.deviation:+.2f}"


def _interval(row: Row) -> str:
    interval = row.interval
    if interval is None:
        return "–"
    if row.predicted is None:
        return f"none: all {interval.draws} draws failed"
    failed = f", {interval.failed} failed" if interval.failed else ""
    inside = "" if row.predicted else ", published outside"
    return f"{number(interval.low)} … {number(interval.high)}{failed}{inside}"


def remarks(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Source, conditions and remark of every target, once each: its id and the text."""
    found: dict[str, str] = {}
    for row in rows:
        target: Target = row.target
        note = row.note
        if row.verdict is Verdict.NOT_YET:
            note = f"NOT YET: {note}"
        text = f"{target.source}; {target.conditions}"
        text = f"{text}. {note}" if note else text
        if target.seen:
            text = f"{text}. {SEEN} missed before the model was changed: {target.seen}"
        found.setdefault(target.id, text)
    return list(found.items())


def summary(rows: Sequence[Row]) -> list[str]:
    """What the rows amount to, a line a role."""
    lines = []
    for role in Role:
        count = tally(rows, role)
        if not (count.met or count.missed or count.not_yet):
            continue
        line = f"{role.value}: {count.met} met, {count.missed} missed, {count.not_yet} not yet"
        seen = {row.target.id for row in rows if row.target.role is role and row.target.seen}
        if seen and role is Role.ORDERING:
            line += f" (blind {_share(rows, role, seen=False)}, "
            line += f"seen before {_share(rows, role, seen=True)})"
        if seen:
            line += f"; {SEEN} no blind prediction: {', '.join(sorted(seen))}"
        if role is Role.HELD_OUT:
            judged = [row.predicted for row in rows if row.predicted is not None]
            if judged:
                line += f"; published value inside the interval in {sum(judged)} of {len(judged)}"
        lines.append(line)
    return lines


def _share(rows: Sequence[Row], role: Role, *, seen: bool) -> str:
    """How many of the measured rows of a role were met, of those that had been seen or not."""
    count = tally([row for row in rows if bool(row.target.seen) is seen], role)
    return f"{count.met} of {count.met + count.missed}"


def print_tables(rows: Sequence[Row], how: Circumstances, console: Console) -> None:
    """One table a role with its sources and remarks, then the summary."""
    for role in Role:
        chosen = [row for row in rows if row.target.role is role]
        if not chosen:
            continue
        table = Table(title=HEADINGS[role], title_justify="left")
        for name in columns(role):
            wraps = name in ("quantity", "published order") or role is Role.ORDERING
            table.add_column(name, no_wrap=not (wraps and name != "row"))
        place = columns(role).index("verdict")
        for row in chosen:
            texts = list(cells(row))
            texts[place] = f"[{COLOURS[row.verdict]}]{texts[place]}[/]"
            table.add_row(*texts)
        console.print(table)
        for target, text in remarks(chosen):
            console.print(f"{target}: {text}", style="dim", highlight=False, markup=False)
        console.print()
    for line in summary(rows):
        console.print(line, highlight=False)
    console.print(str(how), highlight=False)


def markdown(rows: Sequence[Row], how: Circumstances) -> str:
    """The same as a Markdown text with one table a role."""
    parts = [str(how) + "\n", "\n".join(f"- {line}" for line in summary(rows)) + "\n"]
    for role in Role:
        chosen = [row for row in rows if row.target.role is role]
        if not chosen:
            continue
        head = columns(role)
        lines = [f"### {HEADINGS[role]}\n", _line(head), _line(["---"] * len(head))]
        lines += [_line(cells(row)) for row in chosen]
        lines += ["", *(f"- {target}: {text}" for target, text in remarks(chosen))]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
"""Marks of a page between which a table stands that `operando validate --page` writes."""


def replaced(page: Path, table: str) -> str:
    """The text of a page with another table between its marks. Raises BadInputError without."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"{page}: cannot be read ({error.strerror})") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInputError(f"{page}: has no place for a table; write {BEGIN} and {END} into it")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def as_json(rows: Sequence[Row], how: Circumstances) -> JSON:
    """The same as plain data; what is not a number is null."""
    return {
        "schema": SCHEMA,
        "simulated": True,
        "operando": how.version,
        "mode": how.mode,
        "draws": how.draws,
        "seed": how.seed,
        "seconds": round(how.seconds, 1),
        "rows": [_row(row) for row in rows],
        "summary": {
            role.value: {"met": t.met, "missed": t.missed, "not yet": t.not_yet}
            for role in Role
            for t in (tally(rows, role),)
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _row(row: Row) -> JSON:
    target = row.target
    data: JSON = {
        "id": target.id,
        "quantity": target.quantity,
        "unit": target.unit,
        "role": target.role.value,
        "conditions": target.conditions,
        "source": {"paper": target.source.paper, "section": target.source.section},
        "verdict": row.verdict.value,
        "path": row.path.value,
        "note": row.note,
        "seen": target.seen or None,
    }
    if target.role is Role.ORDERING:
        values = {case: _finite(value) for case, value in row.values.items()}
        return data | {"order": target.statement, "values": values}
    data |= {
        "case": row.case,
        "published": row.published,
        "tolerance": str(target.tolerance),
        "measured": _finite(row.measured),
        "deviation": _finite(row.deviation),
        "relative_deviation": _finite(row.relative_deviation),
        "interval": None,
    }
    if row.interval is not None:
        data["interval"] = {
            "low": _finite(row.interval.low),
            "high": _finite(row.interval.high),
            "draws": row.interval.draws,
            "failed": row.interval.failed,
            "holds_published": row.predicted,
        }
    return data
