"""Many channels on one connection: bulk requests, one reconnect for all, separate lives."""

from __future__ import annotations

import asyncio
import time

import pytest

from operando.drivers.neware import NewareBTS8
from operando.drivers.neware_channel import NewareSettings
from operando.instruments.errors import (
    CommunicationError,
    LinkLostError,
    ReplyTimeoutError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import Expect, Galvanostatic, Protection
from operando.instruments.wires import Line
from wire.cycler_server import Bench
from wire.transcript import in_virtual_time

KEYS = tuple(f"21-{unit}-{chl}" for unit in range(1, 17) for chl in range(1, 9))
WINDOW = Protection((2.5, 4.25), 5e-3)
CHARGE = Galvanostatic(1.5e-3, 4.25)


async def connected(bench: Bench, *keys: str) -> list[NewareBTS8]:
    """Drivers that are connected."""
    drivers = [bench.driver(key, name=key) for key in keys]
    for driver in drivers:
        await driver.connect()
    return drivers


@in_virtual_time
async def test_connecting_writes_nothing_and_finds_the_channel() -> None:
    bench = Bench(*KEYS[:2])
    driver = bench.driver(KEYS[1])
    assert (await driver.connect()).serial == "27-21-1-2"
    await driver.close()
    assert [command for command, _ in bench.server.asked] == ["connect", "getdevinfo"]


@in_virtual_time
async def test_a_channel_that_the_server_does_not_have_is_refused() -> None:
    bench = Bench(KEYS[1])
    del bench.server.units[KEYS[1]]
    with pytest.raises(WrongInstrumentError, match=r"\*-21-1-2.*has none.*Nothing was written"):
        await bench.driver(KEYS[1]).connect()


@in_virtual_time
async def test_another_type_of_device_than_expected_is_refused() -> None:
    bench = Bench(KEYS[1])
    with pytest.raises(WrongInstrumentError, match=r"expected 24-21-1-2.*has 27-21-1-2"):
        await bench.driver(KEYS[1], expect=Expect(serial="24-21-1-2")).connect()
    with pytest.raises(WrongInstrumentError, match="cannot be checked"):
        await bench.driver(KEYS[1], expect=Expect(firmware="1.0")).connect()


@in_virtual_time
async def test_a_refused_log_in_says_what_to_look_at() -> None:
    bench = Bench(KEYS[1])
    bench.server.refuses.add("connect")
    with pytest.raises(LinkLostError, match=r"neware-bts8 at .*#21-1-2: .*API is switched on"):
        await bench.driver(KEYS[1]).connect()


@in_virtual_time
async def test_all_channels_share_one_connection_and_one_log_in() -> None:
    bench = Bench(*KEYS[:3])
    drivers = await connected(bench, *KEYS[:3])
    assert bench.server.connections == 1
    assert [command for command, _ in bench.server.asked] == ["connect", "getdevinfo"]
    for driver in drivers[:2]:
        await driver.close()
        await driver.close()
    assert (await drivers[2].measure()).voltage == 3.7
    await drivers[2].close()
    with pytest.raises(LinkLostError, match="not connected"):
        await drivers[2].measure()
    (again,) = await connected(bench, KEYS[0])
    assert bench.server.connections == 2
    await again.close()


@in_virtual_time
async def test_the_channel_that_lent_the_wire_can_leave_first() -> None:
    bench = Bench(*KEYS[:2])
    first, second = await connected(bench, *KEYS[:2])
    await first.close()
    await second.reconnect()
    assert (await second.measure()).voltage == 3.7


@in_virtual_time
async def test_channels_that_are_polled_together_are_read_in_one_request() -> None:
    bench = Bench(*KEYS)
    drivers = await connected(bench, *KEYS)
    for number, unit in enumerate(bench.server.units.values()):
        unit.voltage = f"{3.0 + number * 1e-3:.3f}"
    times: dict[str, list[float]] = {key: [] for key in KEYS}

    async def poll(driver: NewareBTS8, phase: float) -> None:
        for n in range(10):
            await bench.clock.sleep_until(start + phase + n)
            reading = await driver.measure()
            assert reading.voltage == float(bench.server.units[driver.name].voltage)
            assert bench.clock.now() - reading.time <= 0.5
            times[driver.name].append(reading.time)

    start = bench.clock.now()
    await asyncio.gather(*(poll(d, n / len(KEYS)) for n, d in enumerate(drivers)))
    # The first two rounds tell the session who asks how often; then a request serves half a second.
    assert bench.server.count("inquire") <= 2 * len(KEYS) + 8 * 3
    assert max(len(keys) for command, keys in bench.server.asked if command == "inquire") > 60
    for seen in times.values():
        assert sorted(set(seen)) == seen  # each reading is a new one


@in_virtual_time
async def test_a_reading_is_given_out_once_and_never_older_than_the_set_point() -> None:
    bench = Bench(*KEYS[:2])
    first, second = await connected(bench, *KEYS[:2])
    for _ in range(3):  # the session learns that both ask every second
        await first.measure()
        await second.measure()
        await bench.clock.sleep(1.0)
    await first.measure()
    count = bench.server.count("inquire")
    await second.measure()
    assert bench.server.count("inquire") == count  # it came with the first one's
    await second.measure()
    assert bench.server.count("inquire") == count + 1
    await bench.clock.sleep(1.0)
    await first.measure()
    await second.prepare(WINDOW)
    await second.apply(CHARGE)
    reading = await second.measure()
    assert reading.time >= bench.clock.now() - 1e-9
    assert reading.regulation.value == "current"


@in_virtual_time
async def test_what_another_channel_s_reading_brought_is_too_old_to_decide_on() -> None:
    bench = Bench(*KEYS[:2])
    first, second = await connected(bench, *KEYS[:2])
    for _ in range(3):
        await first.measure()
        await second.measure()
        await bench.clock.sleep(1.0)
    await first.measure()  # brings the second one's state, which is idle
    bench.server.units[KEYS[1]].work("somebody_else_s", "cc", "0.001")
    with pytest.raises(UnsupportedError, match="somebody_else_s"):
        await second.prepare(WINDOW)


@in_virtual_time
async def test_a_slow_channel_is_not_read_with_every_request_of_a_fast_one() -> None:
    bench = Bench(*KEYS[:2])
    fast, slow = await connected(bench, *KEYS[:2])
    for _ in range(3):
        await slow.measure()
        for _ in range(100):
            await fast.measure()
            await bench.clock.sleep(0.1)
    named = [keys for command, keys in bench.server.asked if command == "inquire"]
    assert sum(KEYS[1] in keys for keys in named) < 15


@in_virtual_time
async def test_a_lost_connection_is_opened_once_for_all() -> None:
    bench = Bench(*KEYS)
    drivers = await connected(bench, *KEYS)
    assert bench.server.line is not None
    bench.server.line.drop()
    bench.server.asked.clear()
    await asyncio.gather(*(driver.reconnect() for driver in drivers))
    assert bench.server.connections == 2
    assert [command for command, _ in bench.server.asked] == ["connect", "getdevinfo"]


@in_virtual_time
async def test_all_channels_learn_of_silence_together() -> None:
    bench = Bench(*KEYS)
    drivers = await connected(bench, *KEYS)
    bench.server.silent = True
    start = bench.clock.now()
    found = await asyncio.gather(*(d.measure() for d in drivers), return_exceptions=True)
    assert bench.clock.now() - start <= 5.0
    assert all(isinstance(error, ReplyTimeoutError) for error in found)
    names = {str(error).split("#")[1].split(":")[0] for error in found}
    assert names == set(KEYS)  # each names its own channel
    bench.server.silent = False
    readings = await asyncio.gather(*(driver.measure() for driver in drivers))
    assert {reading.voltage for reading in readings} == {3.7}
    assert bench.server.connections == 2


@in_virtual_time
async def test_a_channel_that_disappears_fails_alone() -> None:
    bench = Bench(*KEYS[:2])
    first, second = await connected(bench, *KEYS[:2])
    await first.reconnect()
    del bench.server.units[KEYS[1]]
    await first.reconnect()
    with pytest.raises(WrongInstrumentError, match=KEYS[1]):
        await second.measure()
    assert (await first.measure()).voltage == 3.7


@in_virtual_time
async def test_a_cancelled_reading_does_not_harm_the_stop_of_another_channel() -> None:
    bench = Bench(*KEYS[:2])
    first, second = await connected(bench, *KEYS[:2])
    await second.prepare(WINDOW)
    await second.apply(CHARGE)
    bench.server.delay = 0.3
    reading = asyncio.create_task(first.measure())
    await bench.clock.sleep(0.1)
    reading.cancel()
    await second.safe()
    assert bench.server.units[KEYS[1]].state == "stop"
    assert bench.server.connections == 1
    assert (await first.measure()).voltage == 3.7


@in_virtual_time
async def test_channels_are_driven_separately() -> None:
    bench = Bench(*KEYS[:2])
    first, second = await connected(bench, *KEYS[:2])
    for driver in (first, second):
        await driver.prepare(WINDOW)
        await driver.apply(CHARGE)
    await first.safe()
    states = [bench.server.units[key].state for key in KEYS[:2]]
    assert states == ["stop", "working"]


@in_virtual_time
async def test_closing_ends_what_is_under_way() -> None:
    bench = Bench(KEYS[0])
    (driver,) = await connected(bench, KEYS[0])
    bench.server.silent = True
    reading = asyncio.create_task(driver.measure())
    await bench.clock.sleep(0.1)
    await driver.close()
    with pytest.raises(LinkLostError, match="closed meanwhile"):
        await reading


# What many ask at the same time --------------------------------------------------------------


async def working(bench: Bench) -> list[NewareBTS8]:
    """Drivers of 128 channels on each of which a test runs; a request takes the server 10 ms."""
    drivers = await connected(bench, *KEYS)
    for unit in bench.server.units.values():
        unit.work("somebody_else_s", "cc", "0.001")
    bench.server.delay = 0.01
    return drivers


@in_virtual_time
async def test_128_channels_are_stopped_as_fast_as_a_few() -> None:
    bench = Bench(*KEYS)
    drivers = await working(bench)
    start = bench.clock.now()
    await asyncio.gather(*(driver.safe() for driver in drivers))
    assert {unit.state for unit in bench.server.units.values()} == {"stop"}
    assert bench.clock.now() - start < 0.1  # one by one it would take 4 s
    stops = [keys for command, keys in bench.server.asked if command == "stop"]
    assert len(stops) <= 2
    assert sorted(key for keys in stops for key in keys) == sorted(KEYS)  # each once


@in_virtual_time
async def test_of_a_joint_answer_each_channel_gets_its_own() -> None:
    bench = Bench(*KEYS)
    drivers = await working(bench)
    for key in KEYS[::3]:
        bench.server.units[key].state = "finish"
    found = await asyncio.gather(*(driver.output_is_on() for driver in drivers))
    assert found == [number % 3 != 0 for number in range(len(KEYS))]
    assert bench.server.count("getchlstatus") <= 2


@in_virtual_time
async def test_channels_that_start_together_each_start_their_own_test() -> None:
    bench = Bench(*KEYS)
    drivers = await connected(bench, *KEYS)
    bench.server.delay = 0.01
    for driver in drivers:
        await driver.prepare(WINDOW)
    start = bench.clock.now()
    charges = [Galvanostatic(1e-3 + 1e-5 * n, 4.25) for n in range(len(KEYS))]
    await asyncio.gather(*(d.apply(c) for d, c in zip(drivers, charges, strict=True)))
    assert bench.clock.now() - start < 0.5  # one by one it would take 9 s
    assert bench.server.count("start") <= 4
    for driver, charge in zip(drivers, charges, strict=True):
        unit = bench.server.units[driver.name]
        assert unit.barcode.startswith(driver.name.replace("-", "_"))
        assert float(unit.current) == pytest.approx(charge.current, abs=6e-5)


@in_virtual_time
async def test_channels_that_look_for_the_first_time_share_a_request() -> None:
    bench = Bench(*KEYS)
    drivers = await working(bench)
    await asyncio.gather(*(driver.running() for driver in drivers))
    assert bench.server.count("inquire") <= 2


@in_virtual_time
async def test_a_server_that_minds_joint_requests_is_asked_one_by_one() -> None:
    bench = Bench(*KEYS[:4])
    drivers = await connected(bench, *KEYS[:4])
    for unit in bench.server.units.values():
        unit.work("somebody_else_s", "cc", "0.001")
    server = bench.server
    receive = server.receive

    def only_single(line: Line, data: bytes, now: float) -> None:
        if data.count(b"chlid=") > 1:
            server.asked.append(("refused", ()))
        else:
            receive(line, data, now)

    server.receive = only_single  # type: ignore[method-assign]

    async def secured(driver: NewareBTS8) -> None:
        try:
            await driver.safe()
        except CommunicationError:
            await driver.reconnect()
            await driver.safe()

    start = bench.clock.now()
    await asyncio.gather(*(secured(driver) for driver in drivers))
    assert {unit.state for unit in server.units.values()} == {"stop"}
    assert server.count("refused") == 1
    assert bench.clock.now() - start < 2.0
    assert await asyncio.gather(*(driver.output_is_on() for driver in drivers)) == [False] * 4


@in_virtual_time
async def test_what_waited_on_a_connection_that_failed_is_not_sent_on_the_next() -> None:
    bench = Bench(*KEYS[:3])
    drivers = await connected(bench, *KEYS[:3])
    bench.server.silent = True
    first = asyncio.create_task(drivers[0].output_is_on())
    await bench.clock.sleep(0.1)
    others = [asyncio.create_task(driver.output_is_on()) for driver in drivers[1:]]
    await bench.clock.sleep(0.1)
    with pytest.raises(ReplyTimeoutError):
        await first
    for other in others:
        with pytest.raises(LinkLostError, match="nothing was sent"):
            await other
    assert bench.server.count("getchlstatus") == 1


@in_virtual_time
async def test_a_look_does_not_wait_for_the_downloads_of_other_channels() -> None:
    bench = Bench(*KEYS)
    drivers = await working(bench)
    for unit in bench.server.units.values():
        unit.rows.clear()
        unit.store(1e-3)
    downloads = [asyncio.create_task(driver.rows()) for driver in drivers[1:]]
    await bench.clock.sleep(0.005)
    start = bench.clock.now()
    await drivers[0].running()
    assert bench.clock.now() - start < 0.05
    assert not downloads[-1].done()
    assert all(len(rows) == 1 for rows in await asyncio.gather(*downloads))


@in_virtual_time
async def test_reading_128_channels_is_cheap() -> None:
    bench = Bench(*KEYS)
    settings = NewareSettings(sharing=1.0)
    drivers = [bench.driver(key, name=key, settings=settings) for key in KEYS]
    for driver in drivers:
        await driver.connect()
    for _ in range(3):
        for driver in drivers:
            await driver.measure()
        await bench.clock.sleep(1.0)
    count, start = bench.server.count("inquire"), time.process_time()
    for _ in range(5):
        for driver in drivers:
            await driver.measure()
        await bench.clock.sleep(1.0)
    assert bench.server.count("inquire") == count + 5
    # Wall time of a noisy machine: the bound is ten times what was seen.
    assert (time.process_time() - start) / 5 < 0.25
