"""The simulated sensor with the Environmental Sensing Service."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.ble import Characteristic, MemoryLink, attach_peripheral
from operando.instruments.clock import Clock, run
from operando.instruments.errors import (
    BadInputError,
    LinkLostError,
    ReplyTimeoutError,
    ReportedError,
)
from operando.instruments.wires import Switchboard
from operando.simulators.devices.bluetooth import assigned
from operando.simulators.devices.ess import (
    BATTERY_LEVEL,
    HUMIDITY,
    PRESSURE,
    SERIAL,
    TEMPERATURE,
    SimulatedESS,
    encode,
)
from operando.simulators.devices.gas_sensor import ZERO_CELSIUS
from operando.simulators.radio import FaultyPeripheral
from simulators.bench_of_one import virtual
from simulators.bluetooth_bench import air, sensor_in
from simulators.room_of_one import Box

DAY = 86_400.0


class Session:
    """A host in memory, connected to a sensor."""

    def __init__(self, sensor: FaultyPeripheral) -> None:
        self.clock = Clock("virtual")
        self.sensor = sensor
        self.inject = sensor.inject
        address = f"ble:{sensor.sensor.address}"
        switchboard = Switchboard()
        attach_peripheral(switchboard, address, sensor)
        self.link = MemoryLink(switchboard, address, self.clock)
        self.found: dict[str, Characteristic] = {}

    async def connect(self, timeout: float = 10.0) -> Session:
        self.found = {one.uuid: one for one in await self.link.connect(timeout)}
        return self

    def handle(self, kind: int) -> int:
        return self.found[assigned(kind)].handle

    async def read(self, kind: int, timeout: float = 5.0) -> bytes:
        return await self.link.read_gatt_char(self.handle(kind), timeout)

    async def number(self, kind: int) -> int:
        return int.from_bytes(await self.read(kind), "little", signed=kind == TEMPERATURE)

    async def hear(self, kind: int) -> list[tuple[bytes, float]]:
        """Values that it sends by itself, with their times, as they come."""
        heard: list[tuple[bytes, float]] = []
        await self.link.start_notify(
            self.handle(kind), lambda data, at: heard.append((data, at)), 5.0
        )
        return heard


async def session(room: Box | None, **options: object) -> Session:
    """A host connected to a sensor that is exact unless its options say otherwise."""
    return await Session(sensor_in(SimulatedESS, room, Clock("virtual"), options)).connect()


# -- encodings


def test_the_documents_vectors_are_encoded_byte_for_byte() -> None:
    assert encode(TEMPERATURE, -12.34 + ZERO_CELSIUS) == bytes.fromhex("2EFB")
    assert encode(HUMIDITY, 0.5315) == bytes.fromhex("C314")
    assert encode(PRESSURE, 101_325.0) == bytes.fromhex("02760F00")


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e12, 1e12))
def test_values_stay_within_what_the_supplement_allows(
    kelvin: float, humidity: float, pascals: float
) -> None:
    temperature = int.from_bytes(encode(TEMPERATURE, kelvin), "little", signed=True)
    assert -27315 <= temperature <= 32767
    assert temperature == pytest.approx(
        min(max(100.0 * (kelvin - ZERO_CELSIUS), -27315.0), 32767.0), abs=0.5 + 1e-6
    )
    assert int.from_bytes(encode(HUMIDITY, humidity), "little") == pytest.approx(
        min(max(1e4 * humidity, 0.0), 1e4), abs=0.5 + 1e-6
    )
    assert int.from_bytes(encode(PRESSURE, pascals), "little") == pytest.approx(
        min(max(10.0 * pascals, 0.0), 2.0**32 - 1), abs=0.5 + 1e-6
    )


# -- reading


@virtual
async def test_it_shows_the_air_of_its_room() -> None:
    host = await session(air(-12.34, 0.5315, 101_325.0))
    assert await host.read(TEMPERATURE) == bytes.fromhex("2EFB")
    assert await host.read(HUMIDITY) == bytes.fromhex("C314")
    assert await host.read(PRESSURE) == bytes.fromhex("02760F00")
    assert await host.read(BATTERY_LEVEL) == bytes([100])
    assert await host.read(SERIAL) == b"0001"


@virtual
async def test_what_it_has_depends_on_what_is_fitted() -> None:
    host = await session(Box())
    assert host.found[assigned(TEMPERATURE)].properties == {"read", "notify"}
    assert host.found[assigned(TEMPERATURE)].service == assigned(0x181A)
    handles = [one.handle for one in host.found.values()]
    assert len(set(handles)) == len(handles) == 8
    host = await session(Box(), pressure_fitted=False)
    assert assigned(PRESSURE) not in host.found


@virtual
async def test_a_read_takes_a_round_trip_and_reads_wait_for_each_other() -> None:
    host = await session(Box(), connection_interval=0.5)
    before = host.clock.now()
    await host.read(TEMPERATURE)
    assert host.clock.now() - before == pytest.approx(1.0)
    before = host.clock.now()
    # A request whose answer nobody waits for still takes its time.
    host.sensor.read(host.handle(HUMIDITY), before)
    await host.read(TEMPERATURE)
    assert host.clock.now() - before == pytest.approx(2.0)


@virtual
async def test_between_two_samples_it_shows_the_same() -> None:
    host = await session(Box(), temperature_noise=1.0, sampling_interval=60.0)
    shown = []
    for _ in range(150):
        shown.append(await host.number(TEMPERATURE))
        await host.clock.sleep(0.9)
    changes = sum(before != after for before, after in pairwise(shown))
    assert changes == 2


@virtual
async def test_noise_comes_from_the_name_and_the_seed() -> None:
    async def three(seed: int) -> list[int]:
        sensor = sensor_in(
            SimulatedESS, Box(), Clock("virtual"), {"seed": seed, "temperature_noise": 0.5}
        )
        host = await Session(sensor).connect()
        found = []
        for _ in range(3):
            found.append(await host.number(TEMPERATURE))
            await host.clock.sleep(1.0)
        return found

    assert await three(1) == await three(1)
    assert await three(1) != await three(2)


@virtual
async def test_it_follows_the_humidity_with_its_time_constant() -> None:
    dry, wet = air(23.0, 0.1, 1e5), air(23.0, 0.6, 1e5)
    host = await session(dry, humidity_response=8.0, sampling_interval=0.5)
    assert await host.number(HUMIDITY) == 1000
    start = host.clock.now()
    dry.gases["h2o"] = wet.gases["h2o"]
    for _ in range(16):
        await host.clock.sleep(0.5)
        shown = await host.number(HUMIDITY)
    passed = host.clock.now() - start
    assert shown == pytest.approx(1000 + 5000 * (1.0 - math.exp(-passed / 8.0)), abs=250)


@virtual
async def test_the_battery_level_falls_with_the_battery() -> None:
    host = await session(Box(), battery=2.5, battery_life=100.0 * DAY)
    assert await host.read(BATTERY_LEVEL) == bytes([50])
    await host.clock.sleep(20.0 * DAY)
    assert await host.read(BATTERY_LEVEL) == bytes([30])


# -- notifications


@virtual
async def test_it_notifies_at_its_interval() -> None:
    host = await session(Box(), notify_interval=2.0)
    heard = await host.hear(TEMPERATURE)
    await host.clock.sleep(11.0)
    times = [at for _, at in heard]
    assert len(times) == 5
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == pytest.approx([2.0] * 4)
    assert {data for data, _ in heard} == {await host.read(TEMPERATURE)}


@virtual
async def test_notifications_may_be_slow_or_never_come() -> None:
    slow = await session(Box(), notify_interval=600.0)
    never = await session(Box(), notify_interval=0.0)
    heard, nothing = await slow.hear(TEMPERATURE), await never.hear(TEMPERATURE)
    await slow.clock.sleep(599.0)
    assert heard == []
    await slow.clock.sleep(2.0)
    assert len(heard) == 1
    assert nothing == []


@virtual
async def test_a_subscription_ends_and_begins_anew() -> None:
    host = await session(Box(), notify_interval=2.0)
    heard = await host.hear(TEMPERATURE)
    host.sensor.unsubscribe(host.handle(TEMPERATURE), host.clock.now())
    await host.clock.sleep(1.0)
    host.sensor.subscribe(host.handle(TEMPERATURE), host.clock.now())
    await host.clock.sleep(5.5)
    assert len(heard) == 2


# -- connections


@virtual
async def test_it_is_found_by_its_name_and_falls_silent_while_connected() -> None:
    host = Session(sensor_in(SimulatedESS, Box(), Clock("virtual"), {"local_name": "box 1"}))
    await host.link.listen()
    newest = await host.link.advertisement(-math.inf, 5.0)
    assert newest.name == "box 1"
    await host.connect()
    with pytest.raises(ReplyTimeoutError):
        await host.link.advertisement(host.clock.now(), 30.0)
    await host.link.close()
    await host.link.listen()
    again = await host.link.advertisement(host.clock.now(), 5.0)
    assert again.time > newest.time + 30.0


@virtual
async def test_connecting_waits_for_an_advertisement_and_takes_its_time() -> None:
    sensor = sensor_in(
        SimulatedESS, Box(), Clock("virtual"), {"advertising_interval": 10.0, "connect_time": 2.0}
    )
    host = Session(sensor)
    due = sensor.next_advertisement(host.clock.now())
    await host.connect(20.0)
    assert host.clock.now() == pytest.approx(due + 2.0)


@virtual
async def test_a_second_host_cannot_connect() -> None:
    host = await session(Box())
    second = Session(host.sensor)
    with pytest.raises(LinkLostError):
        await second.connect(30.0)
    assert await host.read(TEMPERATURE)


@virtual
async def test_out_of_range_the_connection_breaks_and_none_comes_about() -> None:
    host = await session(Box(), notify_interval=1.0)
    heard = await host.hear(TEMPERATURE)
    host.inject("drop 40 s")
    with pytest.raises(LinkLostError):
        await host.read(TEMPERATURE)
    with pytest.raises(LinkLostError):
        await host.connect(10.0)
    assert heard == []
    await host.clock.sleep(35.0)
    await host.connect(10.0)
    assert await host.read(TEMPERATURE)


@virtual
async def test_losing_power_breaks_the_connection_until_it_has_booted() -> None:
    host = await session(Box())
    begun = host.clock.now()
    host.inject("reboot 5 s")
    with pytest.raises(LinkLostError):
        await host.read(TEMPERATURE)
    await host.clock.sleep(5.0)
    await host.connect(10.0)
    assert host.clock.now() >= begun + 5.0
    assert await host.read(TEMPERATURE)


@virtual
async def test_a_connection_that_breaks_during_a_read_ends_it() -> None:
    host = await session(Box(), connection_interval=2.0)
    reading = asyncio.ensure_future(host.read(TEMPERATURE, 60.0))
    await host.clock.sleep(1.0)
    host.inject("drop")
    with pytest.raises(LinkLostError):
        await reading


# -- faults


@virtual
async def test_values_not_known_have_their_codes() -> None:
    host = await session(Box())
    host.inject("unplug")
    assert await host.read(TEMPERATURE) == b"\x00\x80"
    assert await host.read(HUMIDITY) == b"\xff\xff"
    assert await host.number(PRESSURE) == 1_013_250
    host.inject("overload once")
    assert await host.read(PRESSURE) == b"\xff\xff\xff\xff"
    assert await host.number(PRESSURE) == 1_013_250


@virtual
async def test_a_refused_read_is_an_att_error() -> None:
    host = await session(Box())
    host.inject("nak once")
    with pytest.raises(ReportedError) as refused:
        await host.read(TEMPERATURE)
    assert refused.value.code == 0x0E
    assert await host.read(TEMPERATURE)
    with pytest.raises(ReportedError) as unknown:
        await host.link.read_gatt_char(0x0999, 1.0)
    assert unknown.value.code == 0x01


@pytest.mark.parametrize("fault", ["silence", "mute"])
@virtual
async def test_a_silent_sensor_neither_answers_nor_notifies(fault: str) -> None:
    host = await session(Box(), notify_interval=1.0)
    heard = await host.hear(HUMIDITY)
    host.inject(f"{fault} for 10 s")
    await host.clock.sleep(0.01)
    with pytest.raises(ReplyTimeoutError):
        await host.read(TEMPERATURE, 5.0)
    assert heard == []
    await host.clock.sleep(7.5)
    assert 1 <= len(heard) <= 3
    assert await host.read(TEMPERATURE)


@virtual
async def test_values_are_garbled_truncated_and_late_on_demand() -> None:
    host = await session(Box())
    good = await host.read(PRESSURE)
    host.inject("garbage once")
    garbled = await host.read(PRESSURE)
    assert len(garbled) == 4
    assert garbled != good
    host.inject("truncated once")
    assert await host.read(PRESSURE) == good[:2]
    host.inject("late 3 s once")
    before = host.clock.now()
    assert await host.read(PRESSURE) == good
    assert host.clock.now() - before == pytest.approx(3.0 + 0.1)
    host.inject("late 3 s once")
    with pytest.raises(ReplyTimeoutError):
        await host.read(PRESSURE, 2.0)


@given(st.lists(st.tuples(st.sampled_from(["read", "subscribe"]), st.integers(0, 60))))
def test_whatever_is_read_is_a_value_or_an_att_error(requests: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        host = await session(Box())
        known = {one.handle for one in host.found.values()}
        for request, handle in requests:
            refused = 0
            try:
                if request == "read":
                    assert await host.link.read_gatt_char(handle, 60.0)
                else:
                    await host.link.start_notify(handle, lambda *_: None, 5.0)
            except ReportedError as error:
                refused = error.code
            assert refused == (0x00 if handle in known else 0x01)
        await host.link.close()

    run(scenario(), virtual=True)


@virtual
async def test_its_identity_changes_on_demand() -> None:
    host = await session(Box(), serial="0042")
    host.inject("identity 0043")
    assert await host.read(SERIAL) == b"0043"
    host.inject("none")
    assert await host.read(SERIAL) == b"0042"


@virtual
async def test_an_empty_battery_ends_the_answers() -> None:
    host = await session(Box(), battery=1.9, battery_life=1000.0)
    assert await host.read(TEMPERATURE)
    await host.clock.sleep(120.0)
    with pytest.raises(ReplyTimeoutError):
        await host.read(TEMPERATURE, 5.0)


@virtual
async def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(BadInputError, match="colour"):
        await session(Box(), colour="red")
