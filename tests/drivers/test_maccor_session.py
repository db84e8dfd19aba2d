"""Channels of one Maccor tester on one connection: shared, asked in bulk, failing apart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from operando.drivers.maccor import MaccorMacNet
from operando.drivers.maccor_direct import MaccorSettings
from operando.drivers.maccor_session import BULK_FROM, _sessions
from operando.drivers.transports import make_wire
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    LinkLostError,
    WrongInstrumentError,
)
from operando.instruments.roles import Expect, Galvanostatic, Protection
from operando.instruments.samples import Status
from wire.macnet_tester import Bench, MacNetTester, with_tester

WINDOW = Protection(voltage=(2.5, 4.25), current=5e-3)
CHARGE = Galvanostatic(current=1.5e-3, cutoff=4.25)
BULK = [(4, 2), (4, 3), (4, 1)]


async def connected(bench: Bench, numbers: Iterable[int]) -> list[MaccorMacNet]:
    drivers = [bench.driver(number) for number in numbers]
    for driver in drivers:
        await driver.connect()
    return drivers


def test_all_channels_of_a_tester_share_one_connection_and_the_last_closes_it() -> None:
    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, 6))
        for driver in drivers[:-1]:
            await driver.close()
            await driver.close()
        assert bench.tester.disconnections == 0
        assert (await drivers[-1].measure()).voltage == 3.7
        await drivers[-1].close()
        assert bench.tester.disconnections == 1

    assert with_tester(scenario).connections == 1
    assert not any(not loop.is_closed() for loop, _ in _sessions)


def test_a_channel_that_could_not_be_connected_gives_its_part_back() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(WrongInstrumentError):
            await bench.driver(1, Expect(serial="other")).connect()
        assert bench.tester.disconnections == 1
        await bench.driver(1).connect()

    assert with_tester(scenario).connections == 2


def test_two_drivers_of_one_channel_count_as_two() -> None:
    async def scenario(bench: Bench) -> None:
        first, second = await connected(bench, (4, 4))
        await first.close()
        assert (await second.measure()).voltage == 3.7
        assert bench.tester.disconnections == 0

    with_tester(scenario)


def test_few_channels_are_read_one_by_one() -> None:
    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, BULK_FROM))
        before = len(bench.tester.sent)
        await asyncio.gather(*(driver.measure() for driver in drivers))
        assert bench.tester.functions()[before:] == [(4, 7)] * (BULK_FROM - 1)

    with_tester(scenario)


def test_many_channels_that_poll_together_cost_three_requests() -> None:
    tester = MacNetTester(128)
    for at, channel in enumerate(tester.channels):
        channel.rest_voltage = 3.0 + 0.01 * at

    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, 129))
        for _ in range(3):
            await asyncio.sleep(1.0)
            before = len(bench.tester.sent)
            readings = await asyncio.gather(*(driver.measure() for driver in drivers))
            assert bench.tester.functions()[before:] == BULK
            for at, reading in enumerate(readings):
                assert reading.voltage == 3.0 + 0.01 * at
                assert abs(reading.time - bench.clock.now()) <= 2 * reading.uncertainty

    with_tester(scenario, tester)


def test_polls_spread_over_an_interval_take_what_is_fresh_with_its_own_time() -> None:
    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, 11))
        times: dict[int, list[float]] = {at: [] for at in range(10)}

        async def poll(at: int) -> None:
            for turn in range(5):
                await bench.clock.sleep_until(start + turn + 0.1 * at)
                asked = bench.clock.now()
                reading = await drivers[at].measure()
                assert -0.4 <= reading.time - asked <= 0.02
                times[at].append(reading.time)

        start = bench.clock.now() + 1.0
        before = len(bench.tester.sent)
        await asyncio.gather(*(poll(at) for at in range(10)))
        assert len(bench.tester.sent) - before <= 3 * 5 * 3
        for each in times.values():
            assert each == sorted(set(each)), "a reading was given twice"

    with_tester(scenario)


def test_a_reading_after_a_set_point_is_never_from_before_it() -> None:
    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, 6))
        await drivers[0].prepare(WINDOW)
        await drivers[1].measure()
        await drivers[0].apply(CHARGE)
        assert (await drivers[0].measure()).current == 1.5e-3
        await drivers[0].safe()

    with_tester(scenario)


def test_one_channel_that_makes_no_sense_does_not_blind_the_others() -> None:
    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, 6))
        bench.tester.channels[2].state = 77
        found = await asyncio.gather(*(d.measure() for d in drivers), return_exceptions=True)
        assert isinstance(found[2], GarbledReplyError)
        assert "#3" in str(found[2])
        assert [one.voltage for one in found if not isinstance(one, BaseException)] == [3.7] * 4
        bench.tester.channels[2].state = 0
        await asyncio.sleep(1.0)
        assert (await drivers[2].measure()).voltage == 3.7

    with_tester(scenario)


def test_one_channel_that_stops_is_a_fault_of_its_own() -> None:
    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, 6))
        for driver in drivers:
            await driver.prepare(WINDOW)
            await driver.apply(CHARGE)
        bench.tester.channels[1].enter(29, 190, 5, "safety voltage")
        await asyncio.sleep(1.0)
        readings = await asyncio.gather(*(driver.measure() for driver in drivers))
        faults = [reading.status is Status.FAULT for reading in readings]
        assert faults == [False, True, False, False, False]
        await drivers[0].safe()
        relays = [channel.relay for channel in bench.tester.channels[:5]]
        assert relays == [False, False, True, True, True]

    with_tester(scenario)


def test_a_link_that_broke_is_opened_once_for_all() -> None:
    async def scenario(bench: Bench) -> None:
        drivers = await connected(bench, range(1, 6))
        bench.tester.lines[-1].drop()
        for driver in drivers:
            with pytest.raises(LinkLostError):
                await driver.measure()
        await asyncio.gather(*(driver.reconnect() for driver in drivers))
        assert bench.tester.connections == 2
        await asyncio.sleep(1.0)
        assert [(await driver.measure()).voltage for driver in drivers] == [3.7] * 5
        await drivers[0].reconnect()
        assert bench.tester.connections == 3

    with_tester(scenario)


def test_a_tester_that_was_swapped_is_told_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        first, second = await connected(bench, (1, 2))
        for driver in (first, second):
            await driver.prepare(WINDOW)
        await first.apply(CHARGE)
        bench.tester.system_id = "Win11"
        count = len(bench.tester.writes())
        with pytest.raises(WrongInstrumentError, match=r"'Win10' .* found 'Win11'"):
            await first.reconnect()
        with pytest.raises(WrongInstrumentError, match="swapped"):
            await second.apply(CHARGE)
        with pytest.raises(WrongInstrumentError, match="swapped"):
            await first.safe()
        await asyncio.sleep(30.0)
        assert len(bench.tester.writes()) == count
        bench.tester.system_id = "Win10"
        await first.safe()
        assert not bench.tester.channels[0].relay

    with_tester(scenario)


def test_a_late_reply_is_not_taken_for_the_next_one() -> None:
    async def scenario(bench: Bench) -> None:
        (cycler,) = await connected(bench, (4,))
        bench.tester.delay = 1.5
        with pytest.raises(Exception, match="time-out"):
            await cycler.measure()
        bench.tester.delay = 1e-3
        bench.tester.channels[3].rest_voltage = 3.5
        for _ in range(3):
            assert (await cycler.measure()).voltage == 3.5
            await asyncio.sleep(0.4)

    with_tester(scenario)


class Socket:
    """The tester's end of a connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def send(self, data: bytes, at: float) -> None:
        self._writer.write(data)

    def drop(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def served(tester: MacNetTester, count: int) -> AsyncIterator[list[MaccorMacNet]]:
    """Connected drivers of the first `count` channels of a tester on a real socket."""
    clock = Clock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Socket(writer)
        tester.connected(line, clock.now())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                tester.receive(line, data, clock.now())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    place = f"TCPIP::127.0.0.1::{server.sockets[0].getsockname()[1]}::SOCKET"
    drivers = [
        MaccorMacNet(make_wire(f"{place}#{number}", clock), clock) for number in range(1, count + 1)
    ]
    try:
        await asyncio.gather(*(driver.connect() for driver in drivers))
        yield drivers
    finally:
        await asyncio.gather(*(driver.close() for driver in drivers))
        server.close()
        await server.wait_closed()


def test_over_a_real_socket_the_channels_share_one_connection_and_lose_it_together() -> None:
    tester = MacNetTester()

    async def main() -> None:
        async with served(tester, 5) as drivers:
            await drivers[2].prepare(WINDOW)
            await drivers[2].apply(CHARGE)
            readings = await asyncio.gather(*(driver.measure() for driver in drivers))
            assert [reading.current for reading in readings] == [0.0, 0.0, 1.5e-3, 0.0, 0.0]
            assert tester.connections == 1
            tester.lines[0].drop()
            failures = await asyncio.gather(*(d.measure() for d in drivers), return_exceptions=True)
            assert isinstance(failures[0], CommunicationError)
            await asyncio.gather(*(driver.reconnect() for driver in drivers))
            await drivers[2].safe()
            assert not tester.channels[2].relay

    asyncio.run(main())


def test_a_reading_that_another_channels_reconnect_broke_is_repeated_but_no_command_is() -> None:
    tester = MacNetTester()

    async def main() -> None:
        async with served(tester, 2) as (first, second):
            tester.instead((4, 7), b"")  # is not answered
            reading = asyncio.ensure_future(second.measure())
            await tester.unanswered.wait()
            await first.reconnect()
            assert (await reading).voltage == 3.7
            await second.prepare(WINDOW)
            tester.instead((6, 7), b"")
            applying = asyncio.ensure_future(second.apply(CHARGE))
            tester.unanswered.clear()
            await tester.unanswered.wait()
            await first.reconnect()
            with pytest.raises(LinkLostError):
                await applying
            assert tester.functions().count((6, 7)) == 1

    asyncio.run(main())


def test_a_reading_without_sharing_is_always_a_new_one() -> None:
    settings = MaccorSettings(sharing=0.0)

    async def scenario(bench: Bench) -> None:
        await connected(bench, range(1, 5))
        fifth = bench.driver(5, settings=settings)
        await fifth.connect()
        before = len(bench.tester.sent)
        await fifth.measure()
        await fifth.measure()
        assert len(bench.tester.sent) - before == 6

    with_tester(scenario)
