"""A chamber that lost its set-point is told again until it has been read back, or the run holds."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from operando.drivers.espec import EspecP300
from operando.instruments.clock import Clock
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import LinkLostError
from operando.instruments.recorder import JSON, Entry
from operando.protocols import Cell, ConstantCurrent, HoldTemperature, RunState, Steps, protocol
from operando.protocols.actuators import ATTEMPTS, PAUSE, Actuators
from operando.protocols.run import Channel
from operando.records import Record
from operando.station.channel_state import unsafe_of
from operando.station.engine import Engine, Run
from station.conditioned import ConditionedLab, verdicts, write_conditioned_bench

WARM = 313.15
LOST_AT = 600.0


@protocol(source="this test")
def warmed(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
    """Warm up, then charge slowly for an hour."""
    yield HoldTemperature(WARM, (ELAPSED >= 300.0,))
    yield ConstantCurrent(cell.capacity / 36000.0, (VOLTAGE >= 4.25, ELAPSED >= 3600.0))


@pytest.fixture
def lab(tmp_path: Path) -> ConditionedLab:
    """A cell in a chamber."""
    return ConditionedLab(tmp_path)


def cycler_bench(folder: Path) -> Path:
    """The same bench with a cycler, which runs the charge by itself."""
    path = write_conditioned_bench(folder, smu="TCPIP::127.0.0.1::15060::SOCKET#21-1-1")
    text = path.read_text(encoding="utf-8")
    for written, instead in (
        ('expect.serial = "04500001"', 'settings = { current = "0.1 A" }'),
        ('serial = "04500001"', ""),
        ("keithley-2450", "neware-bts8"),
    ):
        assert written in text
        text = text.replace(written, instead)
    path.write_text(text, encoding="utf-8")
    return path


class Deafness:
    """A chamber that loses its set-point and does not answer the next ones, but goes on measuring.

    times: set-points that it misses. missed: those that it did, at s.
    """

    def __init__(self, times: int, *, resume: bool = False) -> None:
        self.times = times
        self.resume = resume
        self.missed: list[float] = []
        self.held: list[str] = []
        self.modes: list[str] = []

    async def __call__(self, engine: Engine, clock: Clock) -> None:
        """Let it happen beside a run."""
        simulation: Any = engine.simulation
        oven = simulation.devices["oven1"]
        await clock.sleep(LOST_AT)
        receive = oven.receive

        def receiving(line: Any, data: bytes, now: float) -> None:
            if data.startswith(b"TEMP, S") and len(self.missed) < self.times:
                self.missed.append(now)
            else:
                receive(line, data, now)

        oven.receive = receiving
        simulation.inject("oven1", "reboot")
        await clock.sleep(300.0)
        runner = engine.runners["A1"]
        if runner.state is RunState.HELD:
            self.held.append(runner.reason)
            self.modes.append(oven.mode)
            assert not simulation.relays()["smu1"]
            if self.resume:
                runner.resume()
            else:
                runner.abort("enough")


def told_again(run: Run) -> list[float]:
    """When the chamber was told after it had lost its set-point, s."""
    notes = Record.open(run.folder).journal(Entry.NOTE)
    return [one.time for one in notes if "told" in one.data and one.time > LOST_AT]


def stayed_warm(run: Run) -> bool:
    readings = Record.open(run.folder).aux("chamber_temperature")
    later = readings["value"][readings["time"] > LOST_AT + 1200.0]
    assert len(later) > 100
    return bool(abs(later - WARM).max() < 0.5)


@pytest.mark.parametrize("alone", [False, True], ids=["by software", "on board"])
def test_what_could_not_be_told_again_is_tried_at_later_readings(
    lab: ConditionedLab, alone: bool
) -> None:
    deaf = Deafness(ATTEMPTS - 1)
    run = lab.run(warmed, cycler_bench(lab.folder) if alone else None, deaf)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert deaf.held == []
    origins = set(Record.open(run.folder).samples()["origin"])
    assert ("instrument" in origins) == alone
    assert len(deaf.missed) == ATTEMPTS - 1
    attempts = told_again(run)
    assert len(attempts) == ATTEMPTS
    assert all(b - a >= PAUSE for a, b in itertools.pairwise(attempts))
    assert stayed_warm(run)
    assert verdicts(run)["oven1"] == "verified"


@pytest.mark.parametrize("alone", [False, True], ids=["by software", "on board"])
def test_a_run_holds_when_what_can_be_read_cannot_be_told(lab: ConditionedLab, alone: bool) -> None:
    deaf = Deafness(ATTEMPTS, resume=True)
    run = lab.run(warmed, cycler_bench(lab.folder) if alone else None, deaf)
    (reason,) = deaf.held
    assert "oven1 can be read, but 3 times oven1 was not told its set-point again" in reason
    assert deaf.modes == ["STANDBY"]
    assert len(deaf.missed) == ATTEMPTS
    # A resume tells it once more, and now it listens.
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert len(told_again(run)) == ATTEMPTS + 1
    assert stayed_warm(run)


def test_while_it_cannot_be_read_either_no_attempt_counts(lab: ConditionedLab) -> None:
    @protocol(source="this test")
    def stepping(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
        """Warm up, then take a new step every minute."""
        yield HoldTemperature(WARM, (ELAPSED >= 300.0,))
        for _ in range(60):
            yield ConstantCurrent(cell.capacity / 36000.0, (VOLTAGE >= 4.25, ELAPSED >= 60.0))

    async def away(engine: Engine, clock: Clock) -> None:
        await clock.sleep(LOST_AT)
        engine.simulation.inject("oven1", "drop 600 s")  # type: ignore[union-attr]

    run = lab.run(stepping, beside=away)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert len(told_again(run)) > ATTEMPTS
    assert Record.open(run.folder).journal(Entry.PAUSED) == []
    assert stayed_warm(run)


def actuators(hold: Any, told: list[str]) -> tuple[Actuators, list[dict[str, Any]]]:
    """The actuators of a channel whose chamber does `hold`, and what they note."""
    notes: list[dict[str, Any]] = []

    class Oven:
        INFO = EspecP300.INFO

        def check(self, *, temperature: float) -> None:
            """Refuse nothing."""

        async def hold(self, *, temperature: float) -> None:
            """Do what the test says."""
            await hold()

        async def safe(self) -> None:
            """Stand by."""
            told.append("safe")

        async def reconnect(self) -> None:
            """Nothing to renew."""

    async def note(entry: Entry, data: Any) -> None:
        notes.append(dict(data))

    async def ignore(name: str) -> None:
        """Nothing watches it."""

    potentiostat: Any = None
    cell: Any = None
    monitors: Any = {"oven1": Oven()}
    channel = Channel("A1", cell, potentiostat, monitors, {"temperature_controller": "oven1"})
    return Actuators(channel, note, ignore, ignore, told.append), notes


def test_a_monitor_that_comes_back_at_the_end_of_a_run_finds_nobody_who_tells() -> None:
    async def forever() -> None:
        await asyncio.sleep(1e6)

    async def main() -> None:
        told: list[str] = []
        own, _ = actuators(forever, told)
        own.begin(HoldTemperature(WARM, (ELAPSED >= 60.0,)), 1)
        await asyncio.sleep(0)
        await own.secured()
        own.lost("oven1")
        own.heard("oven1")
        own.tell_again()  # as its watcher does
        await asyncio.sleep(0)
        assert told == ["safe"]
        assert own.verdicts == {"oven1": "verified"}

    asyncio.run(main())


def test_what_was_announced_but_not_told_before_the_end_was_not_driven() -> None:
    async def never() -> None:
        raise LinkLostError("must not be reached")

    async def main() -> None:
        told: list[str] = []
        own, notes = actuators(never, told)
        own.begin(HoldTemperature(WARM, (ELAPSED >= 60.0,)), 1)
        own._guard = lambda name: asyncio.sleep(1e6)
        await asyncio.sleep(0)
        assert notes == [{"instrument": "oven1", "told": {"temperature": WARM}}]
        await own.secured()
        assert notes[1:] == [{"instrument": "oven1", "not driven": True}]
        assert (told, own.verdicts, own.unsafe) == ([], {}, ())
        assert own.is_safe("oven1")

    asyncio.run(main())


def test_a_restarted_station_leaves_alone_what_a_run_was_refused(lab: ConditionedLab) -> None:
    async def program(engine: Engine, clock: Clock) -> None:
        lab.oven.mode = "RUN"

    run = lab.run(warmed, beside=program)
    record = Record.open(run.folder)
    noted: list[dict[str, JSON]] = [dict(one.data) for one in record.journal(Entry.NOTE)]
    assert {"instrument": "oven1", "told": {"temperature": WARM}} in noted
    assert {"instrument": "oven1", "not driven": True} in noted
    assert run.result.unsafe == unsafe_of(record) == ()
