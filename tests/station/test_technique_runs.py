"""Sweeps and spectra as steps of a run, on the example laboratory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError, UnsupportedError
from operando.instruments.quantities import Voltages, Volts
from operando.instruments.recipe import Poll, RecordConditions
from operando.instruments.recorder import Entry
from operando.protocols import (
    Cell,
    ConstantCurrent,
    Impedance,
    Rest,
    RunState,
    Steps,
    VoltageSweep,
    logarithmic,
    protocol,
)
from operando.station.engine import Engine, Found, Order
from support.virtual_lab import bench_of, run_on_lab

ROWS = RecordConditions(every=5.0)


@protocol(source="a test")
def swept(
    cell: Cell,
    *,
    end: Volts = "4.5 V",  # type: ignore[assignment]
    window: Voltages = ("0.5 V", "4.6 V"),  # type: ignore[assignment]
) -> Steps:
    """Rest, then sweep at 1 mV/s."""
    rest = yield Rest((ELAPSED >= 10.0,))
    yield VoltageSweep(rest.voltage, end, 1e-3, 1e-3)


def test_a_sweep_longer_than_the_instrument_goes_unattended_comes_to_its_end(
    tmp_path: Path,
) -> None:
    ran = run_on_lab(swept(), "D6", tmp_path, poll=Poll(interval=1.0), record=ROWS)
    samples = ran.record.samples(step=2)
    assert samples["step_time"][-1] > 1300.0
    assert samples["voltage"][-1] == pytest.approx(4.5, abs=2e-3)
    expected = samples["voltage"][0] + 1e-3 * samples["step_time"]
    # A level lasts a second, and a point is half a second old at the most.
    assert np.max(np.abs(samples["voltage"] - expected)) < 4e-3


@protocol(source="a test")
def measured(
    cell: Cell,
    *,
    offset: Volts = "0 V",  # type: ignore[assignment]
    window: Voltages = ("0 V", "4.4 V"),  # type: ignore[assignment]
) -> Steps:
    """Rest, then measure a spectrum around the voltage found, or beside it."""
    rest = yield Rest((ELAPSED >= 10.0,))
    bias = rest.voltage + offset if offset else None
    outcome = yield Impedance(logarithmic(1e4, 1.0, 5), 5e-3, bias=bias)
    yield Rest((ELAPSED >= outcome.duration,), label="as long as the spectrum")


def test_a_spectrum_is_recorded_point_by_point_and_counts_its_time(tmp_path: Path) -> None:
    ran = run_on_lab(measured(window="-0.5 V, 0.5 V"), "D1", tmp_path, record=ROWS)
    (spectrum,) = ran.record.spectra()
    assert len(spectrum.frequency) == 21
    assert np.all(np.diff(spectrum.times) > 0.0)
    steps = ran.record.steps()
    assert steps[1].reason == "complete"
    # Twice the circuit is opened, which takes this instrument half a second and is no part of it.
    assert steps[1].duration == pytest.approx(steps[1].end - steps[1].start, abs=1.5)
    (ended,) = [e for e in ran.record.journal(Entry.STEP_ENDED) if e.data.get("spectrum")]
    told: Any = ended.data["spectrum"]
    assert told["index"] == spectrum.index == 1
    assert told["bias"] == told["start_voltage"]
    assert abs(told["end_voltage"] - told["start_voltage"]) < 1e-3


def test_a_bias_beside_the_cells_own_voltage_is_refused_and_nothing_is_driven(
    tmp_path: Path,
) -> None:
    plan = measured(offset="50 mV")
    ran = run_on_lab(plan, "D8", tmp_path, record=ROWS, completed=False)
    assert ran.result.state is RunState.FAULTED
    assert "a bias of" in ran.result.reason
    assert "more than 20 mV from" in ran.result.reason
    assert ran.record.spectra() == []
    assert ran.cell.charge_passed(ran.now) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("channel", "plan"), [("C4", measured()), ("B2", swept()), ("A5", swept())]
)
def test_what_an_instrument_cannot_do_is_refused_before_anything_is_driven(
    tmp_path: Path, channel: str, plan: object
) -> None:
    with pytest.raises(UnsupportedError, match=r"measures no impedance|neither sweeps"):
        run_on_lab(plan, channel, tmp_path, record=ROWS)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@protocol(source="a test")
def pulsed(
    cell: Cell,
    *,
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Ten short pulses with rests between them."""
    for number in range(10):
        current = 1e-3 if number % 2 else -1.5e-3
        side = VOLTAGE >= window[1] if current > 0.0 else VOLTAGE <= window[0]
        yield ConstantCurrent(current, (ELAPSED >= 10.0, side))
        yield Rest((ELAPSED >= 10.0,))


def test_the_charge_of_short_pulses_is_that_which_the_cell_saw(tmp_path: Path) -> None:
    ran = run_on_lab(pulsed(), "D2", tmp_path, poll=Poll(interval=5.0), record=ROWS)
    passed = ran.cell.charge_passed(ran.now)
    # 0.1 s of each pulse: the instrument's abort is answered so much after it has switched off.
    assert ran.result.charge == pytest.approx(passed, abs=10 * 0.1 * 1.5e-3)
    for step in ran.record.steps():
        assert step.duration == pytest.approx(10.0, abs=1.1)


def test_a_cell_whose_other_instrument_may_be_on_is_not_driven() -> None:
    lab = bench_of("D2")
    channel = lab.channels["D2"]
    instrument = lab.instruments["emstat3"]
    both = replace(
        lab,
        instruments={**lab.instruments, "other": replace(instrument, name="other")},
        channels={
            "D2": channel,
            "D9": replace(channel, name="D9", roles={"potentiostat": "other"}),
        },
    )
    order = Order(pulsed())

    async def begin() -> None:
        engine = Engine(both, Clock("virtual"))
        engine.found["other"] = Found(output="on")
        with pytest.raises(BadInputError, match="other of channel D9 is on the same cell"):
            engine.begin("D2", order)
        engine.found["other"] = Found(output="off")
        engine.begin("D2", order)
        with pytest.raises(BadInputError, match="is being run on channel D2"):
            engine.begin("D9", order)

    run_coroutine(begin(), virtual=True)
