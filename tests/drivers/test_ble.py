"""bleak behind the link of the Bluetooth drivers.

bleak itself runs here, on a backend of these tests in place of the computer's radio.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ClassVar

import pytest
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError, BleakGATTProtocolError

from operando.drivers.ess import EnvironmentalSensor
from operando.drivers.ruuvi import RuuviTag
from operando.drivers.transports import ble
from operando.drivers.transports.ble import Backend, BleakLink, make_link
from operando.instruments.ble import (
    Characteristic,
    GattLink,
    MemoryLink,
    parse_ble_address,
)
from operando.instruments.clock import Clock, run
from operando.instruments.errors import (
    BadInputError,
    InstrumentError,
    LinkLostError,
    ReplyTimeoutError,
    ReportedError,
)
from operando.instruments.samples import Status
from operando.instruments.wires import Switchboard

MAC, OTHER = "CB:B8:33:4C:88:4F", "C4:7C:8D:6A:11:02"
TAG = bytes.fromhex("0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
BASE = "-0000-1000-8000-00805f9b34fb"


def test_in_memory_the_link_needs_no_radio() -> None:
    link = make_link(f"ble:{MAC}", Clock("virtual"), switchboard=Switchboard())
    assert isinstance(link, MemoryLink)


def test_virtual_time_has_no_radio() -> None:
    with pytest.raises(BadInputError, match="virtual time"):
        make_link(f"ble:{MAC}", Clock("virtual"))


class Air:
    """What the backend of these tests finds: advertisements by address, and one GATT table.

    values: by handle; an exception is raised instead of a value, None never answers.
    """

    def __init__(self) -> None:
        self.scanners: list[Scanner] = []
        self.starts = 0
        self.clients: list[Client] = []
        self.adapters: list[str] = []
        self.scanning = asyncio.Event()
        self.broken: Exception | None = None
        self.connecting: Exception | None = None
        self.hangs = False
        self.overlaps = 0
        self.table: list[tuple[int, int, int]] = [(0x181A, 0x2A6E, 10), (0x181A, 0x2A6F, 12)]
        self.values: dict[int, bytes | Exception | None] = {10: b"\xc4\x09", 12: b"\xc3\x14"}

    def advertise(self, address: str, data: dict[int, bytes] | None = None) -> None:
        """Let every scanner hear something."""
        for scanner in self.scanners:
            found = AdvertisementData("P", data or {}, {}, [f"0000181a{BASE}"], None, -55, ())
            device = scanner.create_or_update_device(address, address, "P", {}, found)
            scanner.call_detection_callbacks(device, found)


class Scanner(BaseBleakScanner):
    """A scanner in the air of the running test."""

    air: ClassVar[Air]

    def __init__(self, heard: Any, uuids: Any, mode: str, *, bluez: Any, cb: Any) -> None:
        super().__init__(heard, uuids)
        self.air.adapters.append(bluez.get("adapter", ""))

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.air.broken:
            raise self.air.broken
        self.seen_devices = {}
        self.air.starts += 1
        self.air.scanners.append(self)
        self.air.scanning.set()

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.air.scanners.remove(self)


class Client(BaseBleakClient):
    """A connection in the air of the running test."""

    air: ClassVar[Air]

    def __init__(self, device: Any, **settings: Any) -> None:
        super().__init__(
            device,
            disconnected_callback=settings.get("disconnected_callback"),
            timeout=settings["timeout"],
        )
        self._open = False
        self.callback: Callable[[bytearray], None] | None = None

    @property
    def name(self) -> str:
        return "P"

    @property
    def mtu_size(self) -> int:
        return 23

    @property
    def is_connected(self) -> bool:
        return self._open

    async def connect(self, pair: bool, **_: Any) -> None:
        self.air.overlaps += any(not one.is_connected for one in self.air.clients)
        self.air.clients.append(self)
        await asyncio.sleep(0.01)
        if self.air.hangs:
            await asyncio.Event().wait()
        if self.air.connecting:
            raise self.air.connecting
        services = self.services = BleakGATTServiceCollection()
        known: dict[int, BleakGATTService] = {}
        for short, kind, handle in self.air.table:
            if short not in known:
                known[short] = BleakGATTService(None, len(known) + 1, f"{short:08x}{BASE}")
                services.add_service(known[short])
            services.add_characteristic(
                BleakGATTCharacteristic(
                    None, handle, f"{kind:08x}{BASE}", ["read", "notify"], lambda: 20, known[short]
                )
            )
        self._open = True

    async def disconnect(self) -> None:
        self._open = False
        self.air.clients.remove(self)

    async def pair(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError

    async def unpair(self) -> None:
        raise NotImplementedError

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **_: Any
    ) -> bytearray:
        value = self.air.values[characteristic.handle]
        if value is None:
            await asyncio.Event().wait()
        if isinstance(value, Exception):
            raise value
        return bytearray(value or b"")

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **_: Any
    ) -> bytearray:
        raise NotImplementedError

    async def write_gatt_char(self, *_: Any) -> None:
        raise NotImplementedError

    async def write_gatt_descriptor(self, *_: Any) -> None:
        raise NotImplementedError

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: Any, **_: Any
    ) -> None:
        self.callback = callback

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        raise NotImplementedError

    def lose(self) -> None:
        """The link breaks."""
        self._open = False


Scenario = Callable[[Air, Clock, Backend], Awaitable[None]]


def over_bleak(test: Scenario) -> Callable[[], None]:
    """Make a test of a coroutine function that gets an air, a clock and bleak's backend."""

    @wraps(test)
    def wrapper() -> None:
        air = Air()
        scanner: type[Scanner] = type("Scanner", (Scanner,), {"air": air})
        client: type[Client] = type("Client", (Client,), {"air": air})

        async def scenario() -> None:
            await test(air, Clock(), Backend(scanner, client))
            assert air.scanners == [], "a scan was left running"
            assert air.clients == [], "a connection was left open"

        run(scenario())

    del wrapper.__wrapped__  # pytest would look for fixtures
    return wrapper


def link_to(address: str, clock: Clock, backend: Backend, query: str = "") -> BleakLink:
    return BleakLink(parse_ble_address(f"ble:{address}{query}"), clock, backend)


async def soon(*, turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def test_a_link_over_the_air_is_a_link() -> None:
    link: GattLink = make_link(f"ble:{MAC}?adapter=hci1", Clock())
    assert isinstance(link, BleakLink)
    assert (link.address, link.device) == (f"ble:{MAC}?adapter=hci1", MAC)


@over_bleak
async def test_all_sensors_of_an_adapter_share_one_scan(
    air: Air, clock: Clock, backend: Backend
) -> None:
    first, second = link_to(MAC, clock, backend), link_to(OTHER, clock, backend)
    third = link_to(MAC, clock, backend, "?adapter=hci1")
    await asyncio.gather(first.listen(), second.listen())
    assert len(air.scanners) == 1
    await third.listen()
    assert air.adapters == ["", "hci1"]
    await third.close()
    await first.close()
    await first.close()
    assert len(air.scanners) == 1
    air.advertise(OTHER, {9: b"x"})
    assert (await second.advertisement(-math.inf, 1.0)).manufacturer_data == {9: b"x"}
    await second.close()


@over_bleak
async def test_a_survey_lists_who_is_near(air: Air, clock: Clock, backend: Backend) -> None:
    surveying = asyncio.ensure_future(ble.survey(0.05, clock, adapter="hci1", backend=backend))
    await air.scanning.wait()
    await soon()
    air.advertise(MAC.lower(), {0x0499: TAG})
    air.advertise(OTHER)
    air.advertise(OTHER, {1: b"newer"})
    found = await surveying
    assert set(found) == {MAC, OTHER}
    assert found[MAC].manufacturer_data == {0x0499: TAG}
    assert found[OTHER].manufacturer_data == {1: b"newer"}
    assert found[OTHER].services == (f"0000181a{BASE}",)
    assert air.adapters == ["hci1"]


@over_bleak
async def test_each_link_hears_its_own_sensor(air: Air, clock: Clock, backend: Backend) -> None:
    link = link_to(MAC, clock, backend)
    await link.listen()
    waiting = asyncio.ensure_future(link.advertisement(-math.inf, 5.0))
    await soon()
    air.advertise(OTHER, {1: b"other"})
    await soon()
    assert not waiting.done()
    before = clock.now()
    air.advertise(MAC.lower(), {1: b"own"})
    found = await waiting
    assert before <= found.time <= clock.now()
    assert (found.manufacturer_data, found.rssi, found.name) == ({1: b"own"}, -55, "P")
    air.advertise(MAC, {1: b"newer"})
    assert (await link.advertisement(found.time, 1.0)).manufacturer_data == {1: b"newer"}
    await link.close()


@over_bleak
async def test_silence_ends_in_a_time_out(air: Air, clock: Clock, backend: Backend) -> None:
    link = link_to(MAC, clock, backend)
    await link.listen()
    with pytest.raises(ReplyTimeoutError, match="nothing was heard"):
        await link.advertisement(-math.inf, 0.01)
    await link.close()
    with pytest.raises(LinkLostError, match="nobody listens"):
        await link.advertisement(-math.inf, 0.01)


@over_bleak
async def test_closing_ends_a_wait_at_once(air: Air, clock: Clock, backend: Backend) -> None:
    link = link_to(MAC, clock, backend)
    await link.listen()
    waiting = asyncio.ensure_future(link.advertisement(-math.inf, 60.0))
    await soon()
    await link.close()
    with pytest.raises(LinkLostError):
        await waiting


@over_bleak
async def test_a_scan_that_was_quiet_for_long_is_begun_anew(
    air: Air, clock: Clock, backend: Backend
) -> None:
    first, second = link_to(MAC, clock, backend), link_to(OTHER, clock, backend)
    await first.listen()
    await second.listen()
    assert air.starts == 1
    ble.radio_of("", backend)._heard -= 2 * ble.QUIET
    await second.close()
    await second.listen()
    assert air.starts == 2
    assert len(air.scanners) == 1
    air.advertise(MAC)
    await first.advertisement(-math.inf, 1.0)
    await second.close()
    await first.close()


@over_bleak
async def test_without_a_radio_the_link_is_lost(air: Air, clock: Clock, backend: Backend) -> None:
    air.broken = BleakError("No powered Bluetooth adapters found.")
    link = link_to(MAC, clock, backend, "?adapter=hci1")
    with pytest.raises(LinkLostError, match=r"adapter hci1 cannot listen: .*No powered"):
        await link.listen()
    with pytest.raises(LinkLostError, match="cannot listen"):
        await link.connect(1.0)
    air.broken = None
    await link.listen()
    await link.close()


async def connected(air: Air, link: BleakLink) -> tuple[Characteristic, ...]:
    """Connect to a sensor that is heard as soon as somebody listens."""
    connecting = asyncio.ensure_future(link.connect(5.0))
    await air.scanning.wait()
    air.advertise(link.device)
    return await connecting


@over_bleak
async def test_a_sensor_is_connected_to_once_it_was_heard(
    air: Air, clock: Clock, backend: Backend
) -> None:
    link = link_to(MAC, clock, backend)
    found = await connected(air, link)
    assert [one.handle for one in found] == [10, 12]
    assert found[0].uuid == f"00002a6e{BASE}"
    assert found[0].service == f"0000181a{BASE}"
    assert found[0].properties == {"read", "notify"}
    assert air.scanners == [], "the scan outlasts the connection"
    assert await link.read_gatt_char(10, 1.0) == b"\xc4\x09"
    await link.close()
    await link.close()


@over_bleak
async def test_a_sensor_that_is_not_heard_or_does_not_connect_is_lost(
    air: Air, clock: Clock, backend: Backend
) -> None:
    link = link_to(MAC, clock, backend)
    with pytest.raises(LinkLostError, match=r"was not heard within 0\.05 s"):
        await link.connect(0.05)
    assert air.scanners == []
    air.hangs = True
    await link.listen()
    air.advertise(MAC)
    with pytest.raises(LinkLostError, match=r"did not connect within 0\.05 s"):
        await link.connect(0.05)
    assert air.clients == []
    air.hangs, air.connecting = False, BleakError("le-connection-abort-by-local")
    with pytest.raises(LinkLostError, match="le-connection-abort-by-local"):
        await link.connect(1.0)
    await link.close()


@over_bleak
async def test_sensors_are_connected_to_one_after_the_other(
    air: Air, clock: Clock, backend: Backend
) -> None:
    first, second = link_to(MAC, clock, backend), link_to(OTHER, clock, backend)
    await first.listen()
    await second.listen()
    air.advertise(MAC)
    air.advertise(OTHER)
    await asyncio.gather(first.connect(5.0), second.connect(5.0))
    assert (len(air.clients), air.overlaps) == (2, 0)
    await first.close()
    await second.close()


@over_bleak
async def test_failures_of_a_connection_become_errors_of_ours(
    air: Air, clock: Clock, backend: Backend
) -> None:
    link = link_to(MAC, clock, backend)
    with pytest.raises(LinkLostError, match="no connection"):
        await link.read_gatt_char(10, 1.0)
    await connected(air, link)
    air.values[10] = None
    with pytest.raises(ReplyTimeoutError):
        await link.read_gatt_char(10, 0.01)
    air.values[10] = BleakGATTProtocolError(0x81)
    with pytest.raises(ReportedError) as error:
        await link.read_gatt_char(10, 1.0)
    assert error.value.code == 0x81
    assert error.value.text
    air.values[10] = EOFError("the bus went away")
    with pytest.raises(LinkLostError, match="EOFError: the bus went away"):
        await link.read_gatt_char(10, 1.0)
    with pytest.raises(LinkLostError, match="not found"):
        await link.read_gatt_char(99, 1.0)
    air.clients[0].lose()
    with pytest.raises(LinkLostError, match="no connection"):
        await link.read_gatt_char(12, 1.0)
    with pytest.raises(LinkLostError, match="no connection"):
        await link.start_notify(12, lambda data, at: None, 1.0)
    await link.close()


@over_bleak
async def test_values_that_a_sensor_sends_by_itself_are_heard_with_their_time(
    air: Air, clock: Clock, backend: Backend
) -> None:
    link = link_to(MAC, clock, backend)
    await connected(air, link)
    heard: list[tuple[bytes, float]] = []
    await link.start_notify(10, lambda data, at: heard.append((data, at)), 1.0)
    callback = air.clients[0].callback
    assert callback is not None
    before = clock.now()
    callback(bytearray(b"\xc5\x09"))
    ((data, at),) = heard
    assert data == b"\xc5\x09"
    assert before <= at <= clock.now()
    await link.close()


@over_bleak
async def test_the_drivers_run_on_it(air: Air, clock: Clock, backend: Backend) -> None:
    tag = RuuviTag(link_to(MAC, clock, backend), clock, name="tag1")
    room = EnvironmentalSensor(link_to(OTHER, clock, backend), clock, name="room")
    connecting = asyncio.gather(tag.connect(), room.connect())
    await air.scanning.wait()
    await soon()
    air.advertise(OTHER)
    air.advertise(MAC, {0x0499: TAG})
    identity, _ = await connecting
    assert identity.serial == MAC
    measuring = asyncio.gather(tag.measure(), room.measure())
    await soon()
    air.advertise(MAC, {0x0499: TAG[:17] + b"\xce" + TAG[18:]})
    broadcast, read = await measuring
    assert [one.quantity for one in broadcast] == [one.quantity for one in read]
    assert {one.status for one in (*broadcast, *read)} == {Status.OK}
    air.clients[0].lose()
    with pytest.raises(InstrumentError, match=f"ess at ble:{OTHER}"):
        await room.measure()
    await tag.close()
    await room.close()


def test_a_bus_of_ones_own_is_where_bleak_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ble.BUS_VARIABLE, raising=False)
    monkeypatch.setenv("LEFT_ALONE", "1")

    @over_bleak
    async def scenario(air: Air, clock: Clock, backend: Backend) -> None:
        link = link_to(MAC, clock, backend, "?bus=/run/lab/bluez")
        await link.listen()
        assert os.environ[ble.BUS_VARIABLE] == "unix:path=/run/lab/bluez"
        await link.close()
        with pytest.raises(BadInputError, match="one process reaches one BlueZ"):
            await link_to(MAC, clock, backend, "?bus=/run/other/bluez").listen()

    try:
        scenario()
    finally:
        os.environ.pop(ble.BUS_VARIABLE, None)
