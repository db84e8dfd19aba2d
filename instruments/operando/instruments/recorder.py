"""The interface between the runner and whatever makes its data durable."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol, TypeAlias

from operando.instruments.samples import AuxReading, Sample, SpectrumRow

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


class Entry(enum.Enum):
    """Kinds of journal entries. Together they tell what a run did and why."""

    RUN_STARTED = "run started"
    STEP_STARTED = "step started"
    """Intent, written before the set-point: index, step, hash, label, step_id, cycle."""
    STEP_ENDED = "step ended"
    """Outcome: index, reason, duration, charge."""
    LIMIT = "limit"
    """A limit acted: name, condition, action, value."""
    ALARM = "alarm"
    PAUSED = "paused"
    RESUMED = "resumed"
    EDIT = "edit"
    GAP = "gap"
    """Nothing was observed between two times: start, end, reason, charge_bound."""
    SAFE = "safe"
    """The safe state was asked for: reason, and per instrument verified or the error."""
    NOTE = "note"
    RUN_ENDED = "run ended"
    """Final state: completed, tripped, aborted, faulted, refused; reason."""


class Recorder(Protocol):
    """Takes a run's data. Times are s of laboratory time since the start of the run."""

    def sample(self, sample: Sample) -> None:
        """Take one row; durable at the next flush. Raises RecordError if writing failed."""
        ...

    def aux(self, reading: AuxReading) -> None:
        """Take one reading of another instrument, time relative to the start of the run."""
        ...

    def spectrum(self, row: SpectrumRow) -> None:
        """Take one point of a spectrum. Raises RecordError if writing failed."""
        ...

    def check(self) -> None:
        """Raise RecordError if writing has failed; cheap, for every turn of a loop."""
        ...

    async def journal(self, entry: Entry, time: float, data: Mapping[str, JSON]) -> None:
        """Append an entry; returns when it and everything before it are synced to disk."""
        ...

    async def close(self) -> None:
        """Flush, write the checksums, close; idempotent."""
        ...
