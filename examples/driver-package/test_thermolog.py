"""The driver on its simulated twin, in virtual time; and against the manual's own words."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from thermolog.driver import ThermologTL2, parse

from operando.instruments import (
    AuxReading,
    Clock,
    Expect,
    InstrumentError,
    LinkLostError,
    ReplyTimeoutError,
    ReportedError,
    Status,
    Switchboard,
    WrongInstrumentError,
    load_bench,
    run,
)
from operando.simulators import SimulatedBench

BENCH = """
[instruments.t1]
driver = "thermolog-tl2"
address = "serial:ports/t1"
[instruments.t1.simulated]
room = "oven"
[rooms.oven]
kind = "laboratory"
temperature = 310.0
"""


@asynccontextmanager
async def thermometer(
    folder: Path, expect: Expect | None = None
) -> AsyncIterator[tuple[ThermologTL2, SimulatedBench]]:
    """A driver, not yet connected, and the bench that its twin is on."""
    path = folder / "bench.toml"
    path.write_text(BENCH, encoding="utf-8")
    bench = load_bench(path)
    clock, switchboard = Clock("virtual"), Switchboard()
    simulation = SimulatedBench(bench, clock)
    simulation.attach(switchboard)
    wire = switchboard.wire(bench.instruments["t1"].address, clock)
    yield ThermologTL2(wire, clock, name="t1", expect=expect or Expect()), simulation
    await wire.close()
    await simulation.close()


@pytest.mark.parametrize(
    ("reply", "kelvins", "status"),
    [
        ("+23.41", 296.56, Status.OK),
        ("-100.00", 173.15, Status.OK),
        ("OVER", math.nan, Status.OVERLOAD),
        ("UNDR", math.nan, Status.UNDERLOAD),
        ("OPEN", math.nan, Status.FAULT),
    ],
)
def test_the_replies_of_the_manual_are_read(reply: str, kelvins: float, status: Status) -> None:
    found = parse(reply)
    assert found is not None
    assert found[0] == pytest.approx(kelvins, nan_ok=True)
    assert found[1] is status


@pytest.mark.parametrize("reply", ["", "23.41", "+23.4", "+23,41", "nan", "+23.41 ", "TL2"])
def test_nothing_else_is_taken_for_a_temperature(reply: str) -> None:
    assert parse(reply) is None


def test_it_measures_its_room_at_the_middle_of_the_exchange(tmp_path: Path) -> None:
    async def main() -> None:
        async with thermometer(tmp_path) as (driver, simulation):
            identity = await driver.connect()
            assert (identity.model, identity.serial) == ("TL2", "10472")
            before = simulation.clock.now()
            reading = await driver.measure()
            after = simulation.clock.now()
        assert (reading.source, reading.quantity) == ("t1", "temperature")
        assert reading.value == pytest.approx(310.0, abs=0.05)
        assert reading.status is Status.OK
        assert reading.time == pytest.approx(0.5 * (before + after))
        assert reading.uncertainty == pytest.approx(0.5 * (after - before))

    run(main(), virtual=True)


def test_another_instrument_than_expected_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with thermometer(tmp_path, Expect(serial="10473")) as (driver, _):
            with pytest.raises(WrongInstrumentError, match=r"10473.*10472"):
                await driver.connect()

    run(main(), virtual=True)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("silence", ReplyTimeoutError),
        ("truncated", ReplyTimeoutError),
        ("late 3 s", ReplyTimeoutError),
        ("garbage", InstrumentError),
        ("drop 5 s", LinkLostError),
        ("nak", ReportedError),
    ],
)
def test_a_fault_is_an_error_in_time_and_heals(
    tmp_path: Path, fault: str, error: type[InstrumentError]
) -> None:
    async def main() -> None:
        async with thermometer(tmp_path) as (driver, simulation):
            await driver.connect()
            simulation.inject("t1", fault)
            start = simulation.clock.now()
            with pytest.raises(error, match="thermolog-tl2 at "):
                await driver.measure()
            assert simulation.clock.now() - start <= 0.5
            simulation.inject("t1", "none")
            await simulation.clock.sleep(10.0)
            await driver.reconnect()
            assert (await driver.measure()).status is Status.OK

    run(main(), virtual=True)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("unplug", Status.FAULT), ("overload", Status.OVERLOAD)],
)
def test_a_sensor_that_fails_gives_no_number(tmp_path: Path, fault: str, expected: Status) -> None:
    async def main() -> AuxReading:
        async with thermometer(tmp_path) as (driver, simulation):
            await driver.connect()
            simulation.inject("t1", fault)
            return await driver.measure()

    reading = run(main(), virtual=True)
    assert math.isnan(reading.value)
    assert reading.status is expected
