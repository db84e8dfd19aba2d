"""The samples of each step, as the evaluations of titrations and sweeps read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operando.evaluation.lines import fit_line
from operando.evaluation.traces import linearity, read_traces
from operando.instruments.recorder import Entry

MakeRecord = Any


def test_every_step_has_its_time_from_its_beginning_and_its_charge(make_record: MakeRecord) -> None:
    charge, rest, discharge = read_traces(make_record(make_record.cell(cycles=1)))
    assert [trace.step.label for trace in (charge, rest, discharge)] == [
        "charge", "rest", "discharge",
    ]  # fmt: skip
    for trace in (charge, rest, discharge):
        assert trace.time[0] == 0.0
        assert trace.time[-1] == pytest.approx(trace.step.duration)
        assert trace.charge[-1] == pytest.approx(trace.step.charge)
        assert trace.flags == ()
    time, voltage, current = charge.between(100.0, 200.0)
    assert (time[0], time[-1]) == (100.0, 200.0)
    assert voltage[0] == pytest.approx(3.0 + 1.2 * 100.0 / 3600.0)
    assert np.all(current == 1e-3)


def test_a_step_that_was_not_seen_whole_or_was_paused_says_so(make_record: MakeRecord) -> None:
    # The charge lasts 4800 s, the rest 600 s.
    pause = (Entry.PAUSED, 5000.0, {"reason": "operator"})
    record = make_record(make_record.cell(cycles=1), gap=(1003.0, 1047.0), extra=[pause])
    charge, rest, discharge = read_traces(record)
    assert charge.flags == ("gap",)
    assert rest.flags == ("paused",)
    assert discharge.flags == ()


def test_linearity_is_the_share_of_the_variance_that_a_line_explains() -> None:
    x = np.arange(10.0)
    assert linearity(fit_line(x, 2.0 * x), 10) == pytest.approx(1.0)
    y = 2.0 * x + np.tile([1.0, -1.0], 5)
    assert linearity(fit_line(x, y), 10) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
