"""How fast a limit opens the true relay, for every driver of a potentiostat, also when it fails.

In virtual time, on the channels of the example laboratory, against what the limit sheet states.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.conditions import ELAPSED, PRESSURE, VOLTAGE, Condition
from operando.instruments.errors import UnsupportedError
from operando.instruments.limits import Action, Limit
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Cell, ConstantCurrent, RunResult, RunState, Steps, protocol
from operando.records import Record
from operando.simulators.faults import LINE_FAULTS
from operando.station.engine import Engine, Order, settle
from operando.station.sheets import limit_lines
from support.virtual_lab import bench_of

CHANNELS = {
    "A1": "neware1",
    "B1": "maccor1",
    "C1": "smu1",
    "C2": "smu2",
    "C3": "smu3",
    "C4": "smu4",
}
"""A channel for each driver of a potentiostat, and its instrument: Neware, Maccor, Keithley 2450,
PalmSens, Keithley 2461 and 2400."""

POLL = 2.0
"""s between readings: the greatest part of most latencies."""

TICK = 1e-3
"""s between two looks at the true relay: how well the moment is known at which it opens."""


@protocol(source="this test")
def charging(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
    """Charge at C/2 for an hour."""
    yield ConstantCurrent(cell.capacity / 7200.0, (VOLTAGE >= 4.25, ELAPSED >= 3600.0))


@dataclass
class Trip:
    """A run that a limit ended. stated: latency of the sheet, s. opened: laboratory time, s.

    tripped: laboratory time at which the limit acted, NaN if none did. ended: of the whole run.
    """

    result: RunResult
    record: Record
    stated: float
    began: float
    tripped: float
    opened: float
    ended: float


Beside = Callable[[Engine, Clock], Coroutine[None, None, None]]


def charged_until(
    when: Condition,
    channel: str,
    folder: Path,
    *,
    fault: str = "none",
    beside: Beside | None = None,
) -> Trip:
    """Charge until a limit trips.

    fault: of the potentiostat, from the very moment at which the limit acts. beside: is carried out
    meanwhile.
    """
    bench, instrument = bench_of(channel), CHANNELS[channel]
    order = Order(
        charging(),
        limits=(Limit("wanted", when, Action.TRIP, stale_after=600.0),),
        poll=Poll(interval=POLL),
        record=RecordConditions(every=0.0),
    )

    async def main() -> Trip:
        clock = Clock("virtual")
        lines = limit_lines(settle(bench, channel, order), bench, Clock())
        stated = {line.name: line for line in lines}
        latency = stated["wanted"].latency
        assert latency is not None
        async with Engine(bench, clock) as engine:
            simulation: Any = engine.simulation
            kind, device = fault.partition(" ")[0], simulation.devices[instrument]
            if kind not in {"none", "drop", *LINE_FAULTS} | device.misbehaviours:
                raise UnsupportedError(f"{instrument} cannot simulate {fault}")
            running = asyncio.create_task(engine.run(channel, order, folder))
            while not engine.runners:
                await clock.sleep(TICK)
            (runner,) = engine.runners.values()
            limits: Any = runner._limits
            interrupt, tripped = limits._interrupt, []

            def tripping(state: RunState, reason: str) -> None:
                tripped.append(clock.now())
                simulation.inject(instrument, fault)
                interrupt(state, reason)

            limits._interrupt = tripping
            happening = asyncio.create_task(beside(engine, clock)) if beside else None
            while not simulation.relays()[instrument]:
                await clock.sleep(TICK)
            opened = float("inf")
            while not running.done():
                await clock.sleep(TICK if tripped and fault == "none" else 20 * TICK)
                if tripped and opened == float("inf") and not simulation.relays()[instrument]:
                    opened = clock.now()
            run = await running
            ended = clock.now()
            if happening is not None:
                await happening
        return Trip(
            run.result,
            Record.open(run.folder),
            latency,
            runner.tally.start,
            tripped[0] if tripped else float("nan"),
            opened,
            ended,
        )

    return run_coroutine(main(), virtual=True)


# ---- latency


@pytest.mark.parametrize("after", [20.0, 20.7, 21.9])
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_limit_opens_the_true_relay_within_the_latency_of_the_sheet(
    channel: str, after: float, tmp_path: Path
) -> None:
    """Three moments between two polls; true at the start of the step plus a time."""
    trip = charged_until(after < ELAPSED, channel, tmp_path)
    assert trip.result.state is RunState.TRIPPED, trip.result.reason
    assert trip.result.safe
    rows = trip.record.samples()
    became_true = trip.began + float(rows["time"][0] - rows["step_time"][0]) + after
    latency = trip.opened - became_true
    assert 0.0 < latency <= trip.stated + TICK


@pytest.mark.parametrize("after", [20.0, 20.7, 21.9])
def test_a_limit_of_another_instrument_opens_the_relay_within_the_latency_of_the_sheet(
    after: float, tmp_path: Path
) -> None:
    """The stack is pressed harder, at a moment that is known: 1 kN more on 1.33 cm2 is 7.5 MPa."""
    pressed: list[float] = []

    async def press(engine: Engine, clock: Clock) -> None:
        simulation: Any = engine.simulation
        await clock.sleep(after)
        simulation.frames["a1"].preload += 1000.0
        pressed.append(clock.now())

    trip = charged_until(PRESSURE > 12e6, "A1", tmp_path, beside=press)
    assert trip.result.state is RunState.TRIPPED, trip.result.reason
    assert 0.0 < trip.opened - pressed[0] <= trip.stated + TICK


# ---- faults at the moment of the trip

FAULTS = (
    "silence", "mute", "garbage", "truncated", "late 300 ms", "late 3 s", "garbage once",
    "silence once", "drop", "drop 60 s", "reboot", "reboot 30 s", "nak", "error", "overload",
    "identity 99999999", "unplug",
)  # fmt: skip

ATTEMPTS = 3
"""Of `secure`, each through a fresh session."""

AFTERWARDS = 5.0
"""s for the journal and for closing sessions that do not answer."""


@pytest.mark.parametrize("channel", CHANNELS)
def test_safe_off_succeeds_or_reports_in_time_whatever_fails_at_the_trip(
    channel: str, tmp_path: Path
) -> None:
    tried, safe = 0, 0
    for fault in FAULTS:
        try:
            trip = charged_until(10.0 < ELAPSED, channel, tmp_path, fault=fault)
        except UnsupportedError:
            continue
        tried += 1
        result = trip.result
        attempt = trip.stated - POLL + 2.0  # off, and what an attempt may take beside it
        assert trip.ended - trip.tripped <= ATTEMPTS * attempt + AFTERWARDS, fault
        assert trip.record.state == result.state.value
        if result.safe:
            safe += 1
            assert trip.opened <= trip.ended, f"{fault}: said to be off, and it is on"
            # Faulted where the first attempts failed and those at the end of the run did not.
            assert result.state in (RunState.TRIPPED, RunState.FAULTED), (fault, result.reason)
        else:
            assert result.state is RunState.FAULTED, fault
            assert "ASSUME THAT THE OUTPUT IS ON" in result.reason, fault
    assert tried >= 10
    assert safe >= 5
