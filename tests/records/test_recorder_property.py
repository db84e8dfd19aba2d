"""Whatever is recorded is read back exactly: a property of the writer and the reader together."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from operando.instruments.clock import run
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Origin, Regulation, Sample, Status
from operando.records import Record, SqliteRecorder, verify
from operando.records.reader import Columns
from operando.records.schema import SAMPLE_COLUMNS

Manifest = dict[str, JSON]
BOTH = pytest.mark.parametrize("inline", [True, False], ids=["inline", "threaded"])

numbers = st.floats(width=64)
counts = st.integers(1, 2**40)
samples = st.builds(
    Sample, *[numbers] * 9, *[counts] * 3,
    st.sampled_from(Regulation), st.sampled_from(Status), st.sampled_from(Origin),
)  # fmt: skip
readings = st.builds(
    AuxReading, st.text(max_size=5), st.sampled_from(["pressure", "h2o"]), *[numbers] * 3,
    st.sampled_from(Status),
)  # fmt: skip
plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
values = st.recursive(
    plain | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
entries = st.tuples(
    st.sampled_from(Entry), st.floats(0, 1e9), st.dictionaries(st.text(max_size=4), values)
)
actions = st.lists(samples | readings | entries | st.just("flush"), max_size=25)


def same(stored: Columns, name: str, expected: list[Any]) -> bool:
    """Equal one by one, NaN to NaN."""
    found = stored[name].tolist()
    return len(found) == len(expected) and all(
        a == b or (isinstance(b, float) and math.isnan(a) and math.isnan(b))
        for a, b in zip(found, expected, strict=True)
    )


def plain_value(value: object) -> object:
    return getattr(value, "value", value)


async def record_all(recorder: SqliteRecorder, sequence: list[Any]) -> None:
    for action in sequence:
        if isinstance(action, Sample):
            recorder.sample(action)
        elif isinstance(action, AuxReading):
            recorder.aux(action)
        elif action == "flush":
            await recorder.flush()
        else:
            await recorder.journal(*action)
    await recorder.close()


@BOTH
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Every example writes a record to disk: shrinking one would outlast the test's time-out.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(sequence=actions)
@example(sequence=[AuxReading("\0", "pressure", 0.0, 0.0, 0.0, Status.OK)])
@example(sequence=[(Entry.NOTE, -0.0, {})])
def test_whatever_is_recorded_is_read_back_exactly(inline: bool, sequence: list[Any]) -> None:
    manifest: Manifest = {"started": "2026-01-01T00:00:00+00:00", "simulated": False}

    async def write(folder: Path) -> None:
        await record_all(SqliteRecorder(folder, manifest, inline=inline), sequence)

    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "r"
        run(write(folder), virtual=inline)
        record = Record.open(folder)
        stored = record.samples(as_written=True)
        rows = [action for action in sequence if isinstance(action, Sample)]
        for position, name in enumerate(SAMPLE_COLUMNS):
            assert same(stored, name, [plain_value(row[position]) for row in rows]), name
        aux = record.aux()
        others = [action for action in sequence if isinstance(action, AuxReading)]
        for position, name in enumerate(AuxReading._fields):
            assert same(aux, name, [plain_value(row[position]) for row in others]), name
        told = [a for a in sequence if isinstance(a, tuple) and isinstance(a[0], Entry)]
        journal = [(entry.entry, entry.time, entry.data) for entry in record.journal()]
        assert journal[: len(told)] == told
        # One more says how it ended, if nobody had said so.
        said = any(entry is Entry.RUN_ENDED for entry, _, _ in told)
        assert len(journal) - len(told) == (not said)
        backwards = [p for p in verify(folder).problems if "back in time" not in p]
        assert backwards == []
