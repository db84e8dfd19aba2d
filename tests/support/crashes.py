"""What must hold of a run whose program died and that went on from its record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from operando.instruments.recorder import Entry
from operando.protocols import Cell, Outcome, Plan
from operando.protocols.steps import Step, step_hash
from operando.records import Record, verify

TABLES = {
    "samples": "record_index",
    "aux": "aux_index",
    "spectra": "spectrum_index, point_index",
    "journal": "seq",
}


@dataclass(frozen=True)
class Acknowledged:
    """The rows of every table of a record that a reader found committed."""

    rows: Mapping[str, list[tuple[Any, ...]]]

    @classmethod
    def by(cls, folder: Path) -> Acknowledged:
        """What is committed now."""
        record = Record.open(folder)
        return cls(
            {
                table: record.rows(f"SELECT * FROM {table} ORDER BY {order}")
                for table, order in TABLES.items()
            }
        )

    def are_kept(self, later: Acknowledged) -> None:
        """Fail unless all of them are there later, unchanged."""
        for table, rows in self.rows.items():
            assert later.rows[table][: len(rows)] == rows, f"{table} changed"


@dataclass(frozen=True)
class Stretch:
    """What nobody saw. start, end: s of the run. bound: C, stated."""

    start: float
    end: float
    bound: float


def unseen(record: Record) -> list[Stretch]:
    """The gaps of a record that belong to a death."""
    return [Stretch(gap.start, gap.end, gap.charge_bound) for gap in record.gaps()]


def counted(record: Record) -> float:
    """Net charge that a record of a run which has ended tells of, C."""
    last = record.rows("SELECT net_charge_coulomb FROM samples ORDER BY record_index DESC LIMIT 1")
    (safe,) = record.journal(Entry.SAFE)
    after = safe.data["charge_after"]
    assert isinstance(after, float | int)
    return float(last[0][0]) + after


def check_record(record: Record) -> None:
    """Fail unless the record is whole and its steps and times go forward, each once."""
    assert verify(record.folder)
    begun = [entry.data["index"] for entry in record.journal(Entry.STEP_STARTED)]
    ended = [entry.data["index"] for entry in record.journal(Entry.STEP_ENDED)]
    assert begun == ended == list(range(1, len(begun) + 1)), "a step was begun twice or not at all"
    assert set(Counter(begun).values()) <= {1}
    # What an instrument stored of a step replaces what was polled of it.
    rows = record.samples()
    assert (np.diff(rows["step_count"]) >= 0).all(), "a step was gone back to"
    for step in range(1, len(begun) + 1):
        of_step = rows["step_count"] == step
        assert (np.diff(rows["time"][of_step]) > 0.0).all(), f"step {step}: time went back"
        assert (np.diff(rows["step_time"][of_step]) > 0.0).all(), f"step {step} went back"


def check_replay(record: Record, plan: Plan, cell: Cell) -> None:
    """Fail unless the protocol, told the outcomes of the journal, asks for just its steps.

    cell: with the random numbers of the run.
    """
    asked = record.journal(Entry.STEP_STARTED)
    outcomes = {int(str(e.data["index"])): e.data for e in record.journal(Entry.STEP_ENDED)}
    program = plan.steps(cell)
    step = next(program)
    for entry in asked:
        number = int(str(entry.data["index"]))
        assert step_hash(step) == entry.data["hash"], f"step {number}: {step.label}"
        try:
            step = program.send(_outcome(step, outcomes[number]))
        except StopIteration:
            assert number == len(asked)
            return
    raise AssertionError(f"the protocol asks for more than {len(asked)} steps: {step.label}")


def _outcome(step: Step, data: Mapping[str, Any]) -> Outcome:
    condition = {str(one): one for one in step.until}.get(data["condition"])
    names = ("duration", "charge", "energy", "voltage", "current", "time")
    values = {name: math.nan if data[name] is None else float(data[name]) for name in names}
    return Outcome(index=data["index"], reason=data["reason"], condition=condition, **values)
