"""Addresses of Bluetooth sensors, and sensors in memory."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from operando.instruments.ble import (
    Advertisement,
    Central,
    Characteristic,
    MemoryLink,
    attach_peripheral,
    parse_ble_address,
)
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError, LinkLostError, ReplyTimeoutError
from operando.instruments.wires import Switchboard, Terminated
from wire.transcript import in_virtual_time

MAC, OTHER = "CB:B8:33:4C:88:4F", "C4:7C:8D:6A:11:02"


# -- addresses


def test_an_address_is_read_with_its_adapter() -> None:
    place = parse_ble_address("ble:cb:b8:33:4c:88:4f?adapter=hci1")
    assert (place.device, place.adapter, place.bus) == (MAC, "hci1", "")
    assert place.text == "ble:cb:b8:33:4c:88:4f?adapter=hci1"
    assert place.is_mac
    assert not place.is_private
    assert place.key == parse_ble_address(f"ble:{MAC}").key


def test_the_number_that_macos_gives_is_an_address_too() -> None:
    place = parse_ble_address("ble:2a3c7a1e-5b0c-4d43-9c39-0d5d1b9d2e11")
    assert place.device == "2A3C7A1E-5B0C-4D43-9C39-0D5D1B9D2E11"
    assert not place.is_mac


def test_the_bus_is_relative_to_the_folder_of_the_bench() -> None:
    place = parse_ble_address(f"ble:{MAC}?adapter=hci0&bus=ports/bluez", Path("/lab"))
    assert place.bus == "/lab/ports/bluez"
    assert place.text == f"ble:{MAC}?adapter=hci0&bus=/lab/ports/bluez"
    assert place.is_private
    assert parse_ble_address(place.text, Path("/elsewhere")) == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ble:", "is not an address of a Bluetooth sensor"),
        ("ble:CB:B8:33:4C:88", "is not an address"),
        ("ble:CB:B8:33:4C:88:4F:00", "is not an address"),
        ("ble:CB-B8-33-4C-88-4F", "is not an address"),
        ("CB:B8:33:4C:88:4F", "is not an address"),
        ("ble:CB:B8:33:4C:88:4F\n", "is not an address"),
        (f"ble:{MAC}?", "adapter"),
        (f"ble:{MAC}?adaptor=hci1", "adaptor.*adapter"),
        (f"ble:{MAC}?adapter=", "a name such as hci1"),
        (f"ble:{MAC}?adapter=hci1&adapter=hci2", "given twice"),
        (f"ble:{MAC}?adapter=../hci1", "a name such as hci1"),
        (f"ble:{MAC}?bus=", "the path of a socket"),
        (f"ble:{MAC}?bus=a,guid=1", "the path of a socket"),
        (f"ble:{MAC}?bus=ports/", "the path of a socket"),
    ],
)
def test_other_texts_are_refused_with_the_forms_that_exist(text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        parse_ble_address(text)


# -- in memory


class Beacon:
    """A sensor that advertises every second and connects after half a second."""

    def __init__(self) -> None:
        self.central: Central | None = None
        self.connecting = 0.5
        self.left: list[Central] = []

    def advertisement(self, now: float) -> Advertisement | None:
        count = math.floor(now)
        return Advertisement(float(count), -60, {1: bytes([count])}) if count else None

    def next_advertisement(self, now: float) -> float:
        return math.floor(now) + 1.0

    def connect(self, central: Central, now: float) -> float:
        self.central = central
        return now + self.connecting

    def characteristics(self) -> tuple[Characteristic, ...]:
        return (Characteristic(7, "b", "s"), Characteristic(3, "a", "s"))

    def read(self, handle: int, now: float) -> tuple[bytes, float]:
        return bytes([handle]), now + 0.25

    def subscribe(self, handle: int, now: float) -> None:
        assert self.central is not None
        self.central.notify(handle, b"first", now)
        self.central.notify(handle + 1, b"nobody asked", now)

    def disconnected(self, central: Central, now: float) -> None:
        assert central is self.central
        self.left.append(central)
        self.central = None


def in_memory() -> tuple[MemoryLink, Beacon, Clock]:
    switchboard, clock, beacon = Switchboard(), Clock("virtual"), Beacon()
    attach_peripheral(switchboard, f"ble:{MAC}?bus=/run/bluez", beacon)
    return MemoryLink(switchboard, f"ble:{MAC.lower()}", clock), beacon, clock


@in_virtual_time
async def test_in_memory_the_next_advertisement_is_waited_for() -> None:
    link, _, clock = in_memory()
    assert (link.address, link.device) == (f"ble:{MAC.lower()}", MAC)
    with pytest.raises(LinkLostError, match="nobody listens"):
        await link.advertisement(0.0, 1.0)
    await link.listen()
    first = await link.advertisement(-math.inf, 5.0)
    assert (first.time, clock.now()) == (1.0, 1.0)
    assert (await link.advertisement(first.time, 5.0)).time == 2.0
    await clock.sleep(3.5)
    assert (await link.advertisement(2.0, 5.0)).manufacturer_data == {1: b"\x05"}
    assert clock.now() == 5.5
    with pytest.raises(ReplyTimeoutError):
        await link.advertisement(8.0, 1.25)
    assert clock.now() == 6.75


@in_virtual_time
async def test_in_memory_a_sensor_is_connected_to_read_and_heard() -> None:
    link, beacon, clock = in_memory()
    with pytest.raises(LinkLostError, match="no connection"):
        await link.read_gatt_char(3, 1.0)
    assert [one.handle for one in await link.connect(2.0)] == [3, 7]
    assert clock.now() == 0.5
    assert await link.read_gatt_char(7, 1.0) == b"\x07"
    assert clock.now() == 0.75
    with pytest.raises(ReplyTimeoutError):
        await link.read_gatt_char(7, 0.125)
    heard: list[tuple[bytes, float]] = []
    await link.start_notify(3, lambda data, at: heard.append((data, at)), 1.0)
    assert heard == [(b"first", 0.875)]
    await link.close()
    assert beacon.central is None
    with pytest.raises(LinkLostError, match="no connection"):
        await link.read_gatt_char(3, 1.0)


@in_virtual_time
async def test_connecting_again_ends_the_former_connection() -> None:
    link, beacon, _ = in_memory()
    await link.connect(2.0)
    former = beacon.central
    await link.connect(2.0)
    assert beacon.left == [former]
    assert beacon.central is not former
    await link.close()


@in_virtual_time
async def test_in_memory_a_sensor_that_does_not_connect_is_given_up() -> None:
    link, beacon, clock = in_memory()
    beacon.connecting = math.inf
    with pytest.raises(LinkLostError, match="did not connect within 2 s"):
        await link.connect(2.0)
    assert (clock.now(), beacon.central) == (2.0, None)


@in_virtual_time
async def test_a_sensor_on_the_switchboard_has_no_bytes_and_bytes_have_no_sensor() -> None:
    switchboard, clock = Switchboard(), Clock("virtual")
    attach_peripheral(switchboard, f"ble:{MAC}", Beacon())
    wire = switchboard.wire(f"ble:{MAC}", clock)
    with pytest.raises(LinkLostError, match="refuses connections"):
        await wire.open()
    with pytest.raises(LinkLostError):
        await wire.exchange(b"D", Terminated(), 1.0)
    with pytest.raises(LinkLostError, match="nothing is attached"):
        await MemoryLink(switchboard, f"ble:{OTHER}", clock).listen()
