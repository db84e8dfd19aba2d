"""Unmodified bleak, and calls of one's own, against the simulated BlueZ."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakDeviceNotFoundError,
    BleakGATTProtocolError,
)
from dbus_fast import Variant

from operando.instruments.clock import Clock, run
from operando.simulators.devices.bluetooth import assigned
from operando.simulators.devices.ess import HUMIDITY, PRESSURE, TEMPERATURE
from operando.simulators.devices.ruuvi import COMPANY
from operando.simulators.radio import FaultyPeripheral
from operando.simulators.wire.bluez import ADAPTER_PATH
from simulators.bluetooth_bench import (
    PATIENCE,
    bluetooth,
    bus_of,
    client_of,
    ess_in_air,
    tag_in_air,
)

pytestmark = pytest.mark.sockets

CHARACTERISTIC = "org.bluez.GattCharacteristic1"


async def found(sensor: FaultyPeripheral) -> BLEDevice:
    """What bleak finds of a sensor."""
    device = await BleakScanner.find_device_by_address(sensor.sensor.address, timeout=PATIENCE)
    assert device is not None
    return device


# -- bleak


def test_bleak_hears_what_sensors_advertise(tmp_path: Path) -> None:
    async def scenario() -> dict[str, tuple[BLEDevice, AdvertisementData]]:
        clock = Clock("scaled", 10.0)
        ess, tag = ess_in_air(clock), tag_in_air(clock)
        ess.sensor.address, tag.sensor.address = "C0:00:00:00:00:01", "CB:B8:33:4C:88:4F"
        heard: dict[str, tuple[BLEDevice, AdvertisementData]] = {}
        both = asyncio.Event()

        def detected(device: BLEDevice, data: AdvertisementData) -> None:
            heard[device.address] = device, data
            if len(heard) == 2:
                both.set()

        async with bluetooth(tmp_path, clock, ess, tag), BleakScanner(detected):
            await asyncio.wait_for(both.wait(), PATIENCE)
        return heard

    heard = run(scenario())
    device, data = heard["C0:00:00:00:00:01"]
    assert (device.name, data.local_name, data.rssi) == ("ESS", "ESS", -65)
    assert data.service_uuids == [assigned(0x181A)]
    device, data = heard["CB:B8:33:4C:88:4F"]
    assert device.name is None
    payload = data.manufacturer_data[COMPANY]
    assert payload[:7].hex().upper() == "0512FC5394C37C"
    assert payload[18:].hex().upper() == "CBB8334C884F"


def test_bleak_reads_and_is_notified(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock, notify_interval=2.0)
        async with bluetooth(tmp_path, clock, ess), BleakClient(await found(ess)) as client:
            assert client.is_connected
            assert await client.read_gatt_char(assigned(TEMPERATURE)) == bytes.fromhex("2EFB")
            assert await client.read_gatt_char(assigned(HUMIDITY)) == bytes.fromhex("C314")
            assert await client.read_gatt_char(assigned(PRESSURE)) == bytes.fromhex("02760F00")
            told: asyncio.Queue[bytes] = asyncio.Queue()
            await client.start_notify(
                assigned(HUMIDITY), lambda _, data: told.put_nowait(bytes(data))
            )
            values = [await asyncio.wait_for(told.get(), PATIENCE) for _ in range(3)]
            assert values == [bytes.fromhex("C314")] * 3
            await client.stop_notify(assigned(HUMIDITY))

    run(scenario())


def test_bleak_reads_the_descriptors_that_the_service_asks_for(tmp_path: Path) -> None:
    async def scenario() -> dict[str, bytes]:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock, notify_interval=60.0, sampling_interval=2.0)
        async with bluetooth(tmp_path, clock, ess), BleakClient(await found(ess)) as client:
            found_one = client.services.get_characteristic(assigned(TEMPERATURE))
            assert found_one is not None
            return {
                one.uuid[4:8]: bytes(await client.read_gatt_descriptor(one.handle))
                for one in found_one.descriptors
            }

    values = run(scenario())
    assert values["2901"] == b"Temperature"
    assert values["2906"] == (-4000).to_bytes(2, "little", signed=True) + (12500).to_bytes(
        2, "little"
    )
    # Flags, instantaneous, period, update interval of 2 s, air, uncertainty not available.
    assert values["290c"] == bytes.fromhex("0000 01 000000 020000 01 FF")
    # At fixed intervals of 60 s.
    assert values["290d"] == bytes.fromhex("01 3C0000")
    assert "2902" in values


def test_a_broken_connection_is_told_and_can_be_made_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock)
        async with bluetooth(tmp_path, clock, ess):
            gone = asyncio.Event()
            client = BleakClient(await found(ess), disconnected_callback=lambda _: gone.set())
            await client.connect()
            ess.inject("drop 300 ms")
            await asyncio.wait_for(gone.wait(), PATIENCE)
            assert not client.is_connected
            await client.disconnect()
            # It waits until the sensor is back.
            again = BleakClient(await found(ess))
            async with again:
                assert await again.read_gatt_char(assigned(HUMIDITY)) == bytes.fromhex("C314")

    run(scenario())


def test_a_link_that_breaks_during_a_read_ends_it_with_an_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        ess = ess_in_air(clock, connection_interval=0.01)
        async with bluetooth(tmp_path, clock, ess):
            client = BleakClient(await found(ess))
            await client.connect()
            ess.sensor.connection_interval = 4.0
            found_one = client.services.get_characteristic(assigned(HUMIDITY))
            assert found_one is not None
            reading = asyncio.ensure_future(client.read_gatt_char(found_one))
            await asyncio.sleep(0)
            async with client_of(bus_of(tmp_path)) as other:
                # The answer shows that the reading has reached BlueZ.
                reply = await other.call(found_one.obj[0], CHARACTERISTIC, "ReadValue", "a{sv}", {})
                assert reply.error_name == "org.bluez.Error.InProgress"
            ess.inject("drop")
            with pytest.raises(BleakGATTProtocolError, match=r"(?i)unlikely"):
                await asyncio.wait_for(reading, PATIENCE)
            await client.disconnect()

    run(scenario())


def test_a_refused_read_has_the_number_of_its_att_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock)
        async with bluetooth(tmp_path, clock, ess), BleakClient(await found(ess)) as client:
            ess.inject("nak once")
            with pytest.raises(BleakGATTProtocolError) as refused:
                await client.read_gatt_char(assigned(HUMIDITY))
            assert refused.value.code == 0x0E
            assert await client.read_gatt_char(assigned(HUMIDITY))
            with pytest.raises(BleakGATTProtocolError):
                await client.write_gatt_char(assigned(HUMIDITY), b"\x00", response=True)

    run(scenario())


def test_a_sensor_out_of_range_is_not_connected_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock)
        async with bluetooth(tmp_path, clock, ess):
            client = BleakClient(await found(ess), timeout=0.5)
            ess.inject("silence")
            with pytest.raises(TimeoutError):
                await client.connect()
            ess.inject("none")
            async with BleakClient(await found(ess)) as again:
                assert await again.read_gatt_char(assigned(HUMIDITY))

    run(scenario())


def test_an_adapter_that_is_off_finds_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock)
        async with bluetooth(tmp_path, clock, ess) as bluez:
            gone = asyncio.Event()
            client = BleakClient(await found(ess), disconnected_callback=lambda _: gone.set())
            await client.connect()
            bluez.power(False)
            await asyncio.wait_for(gone.wait(), PATIENCE)
            with pytest.raises(BleakBluetoothNotAvailableError):
                await BleakScanner.discover(timeout=0.1)
            await client.disconnect()
            bluez.power(True)
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        assert await found(ess)
                        break
                    except BleakBluetoothNotAvailableError:
                        await asyncio.sleep(0)  # until bleak has heard of it

    run(scenario())


def test_sensors_can_be_searched_by_what_they_offer(tmp_path: Path) -> None:
    async def scenario() -> set[str]:
        clock = Clock("scaled", 20.0)
        ess, tag = ess_in_air(clock), tag_in_air(clock)
        async with bluetooth(tmp_path, clock, ess, tag), client_of(bus_of(tmp_path)) as client:
            wanted = {"UUIDs": Variant("as", [assigned(0x181A)]), "Transport": Variant("s", "le")}
            assert await client.adapter("SetDiscoveryFilter", "a{sv}", wanted) == ""
            assert await client.adapter("StartDiscovery") == ""
            found_one = (await client.until("InterfacesAdded"))[1][0]
            # The tag has been heard by now, too.
            await clock.sleep(5.0)
            assert await client.adapter("StopDiscovery") == ""
            reply = await client.call(
                "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"
            )
            devices = {path for path in reply.body[0] if "/dev_" in path}
            assert devices == {found_one}
            assert found_one.endswith(ess.sensor.address.replace(":", "_"))
            return devices

    assert len(run(scenario())) == 1


# -- how bluetoothd behaves


def test_an_unchanged_advertisement_is_told_once_unless_repeats_are_wanted(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 20.0)
        ess = ess_in_air(clock)
        async with bluetooth(tmp_path, clock, ess), client_of(bus_of(tmp_path)) as client:
            await client.adapter("StartDiscovery")
            await client.until("InterfacesAdded")
            await clock.sleep(5.0)
            told = [client.signals.get_nowait() for _ in range(client.signals.qsize())]
            assert told == []
            repeats = {"DuplicateData": Variant("b", True)}
            await client.adapter("SetDiscoveryFilter", "a{sv}", repeats)
            for _ in range(3):
                _, body = await client.until("PropertiesChanged")
                assert body[1]["RSSI"].value == -65

    run(scenario())


def test_a_device_that_is_no_longer_heard_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 60.0)
        tag = tag_in_air(clock)
        async with (
            bluetooth(tmp_path, clock, tag, temporary_timeout=1.0),
            client_of(bus_of(tmp_path)) as client,
        ):
            await client.adapter("StartDiscovery")
            await client.until("InterfacesAdded")
            begun = clock.now()
            tag.inject("silence")
            _, (path, interfaces) = await client.until("InterfacesRemoved")
            assert path.endswith(tag.sensor.address.replace(":", "_"))
            assert interfaces == ["org.bluez.Device1"]
            assert clock.now() - begun > 0.5 * clock.lab(1.0)
            reply = await client.call(path, "org.bluez.Device1", "Connect")
            assert reply.error_name == "org.freedesktop.DBus.Error.UnknownObject"
            tag.inject("none")
            _, body = await client.until("InterfacesAdded")
            assert body[0] == path

    run(scenario())


def test_signal_strengths_are_forgotten_when_discovery_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock)
        async with bluetooth(tmp_path, clock, ess), client_of(bus_of(tmp_path)) as client:
            await client.adapter("StartDiscovery")
            await client.until("InterfacesAdded")
            await client.adapter("StopDiscovery")
            path, body = await client.until("PropertiesChanged")
            assert body == ["org.bluez.Device1", {}, ["RSSI"]]
            path, body = await client.until("PropertiesChanged")
            assert (path, body[1]["Discovering"].value) == (ADAPTER_PATH, False)

    run(scenario())


def test_a_client_that_leaves_takes_its_discovery_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        async with bluetooth(tmp_path, clock), client_of(bus_of(tmp_path)) as watching:
            async with client_of(bus_of(tmp_path)) as leaving:
                assert await leaving.adapter("StartDiscovery") == ""
                assert await leaving.adapter("StartDiscovery") == "org.bluez.Error.InProgress"
                _, body = await watching.until("PropertiesChanged")
                assert body[1]["Discovering"].value is True
                assert await watching.adapter("StopDiscovery") == "org.bluez.Error.Failed"
            _, body = await watching.until("PropertiesChanged")
            assert body[1]["Discovering"].value is False

    run(scenario())


def test_attributes_outlive_the_connection_but_are_not_read_without_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock)
        async with (
            bluetooth(tmp_path, clock, ess),
            BleakClient(await found(ess)) as bleak,
            client_of(bus_of(tmp_path)) as own,
        ):
            found_one = bleak.services.get_characteristic(assigned(HUMIDITY))
            assert found_one is not None
            path = found_one.obj[0]
            reply = await own.call(path, CHARACTERISTIC, "ReadValue", "a{sv}", {})
            assert bytes(reply.body[0]) == bytes.fromhex("C314")
            _, body = await own.until("PropertiesChanged")
            assert bytes(body[1]["Value"].value) == bytes.fromhex("C314"), "told as well"
            await bleak.disconnect()
            refused = (
                await own.call(path, CHARACTERISTIC, "ReadValue", "a{sv}", {}),
                await own.call(path, CHARACTERISTIC, "StartNotify"),
            )
            assert [reply.body for reply in refused] == [["Not connected"]] * 2
            assert await own.adapter("RemoveDevice", "o", path[:37]) == ""
            reply = await own.call(path, CHARACTERISTIC, "ReadValue", "a{sv}", {})
            assert reply.error_name == "org.freedesktop.DBus.Error.UnknownObject"

    run(scenario())


def test_who_was_notified_is_so_again_when_the_sensor_is_connected_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock, notify_interval=1.0)
        async with bluetooth(tmp_path, clock, ess), client_of(bus_of(tmp_path)) as client:
            await client.adapter("StartDiscovery")
            _, (device, _interfaces) = await client.until("InterfacesAdded")
            characteristic = ""
            for turn in range(2):
                reply = await client.call(device, "org.bluez.Device1", "Connect")
                assert reply.error_name is None
                while not characteristic:
                    _, (path, interfaces) = await client.until("InterfacesAdded")
                    uuid = interfaces.get(CHARACTERISTIC, {}).get("UUID")
                    characteristic = path if uuid and uuid.value == assigned(HUMIDITY) else ""
                if turn == 0:
                    reply = await client.call(characteristic, CHARACTERISTIC, "StartNotify")
                    assert reply.error_name is None
                told = {"Value": False}
                while not told.get("Value"):
                    path, body = await client.until("PropertiesChanged")
                    told = body[1] if path == characteristic else {}
                await client.call(device, "org.bluez.Device1", "Disconnect")
                while not client.signals.empty():
                    client.signals.get_nowait()

    run(scenario())


def test_a_device_that_was_removed_is_not_found_until_it_is_heard_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess = ess_in_air(clock)
        async with bluetooth(tmp_path, clock, ess):
            device = await found(ess)
            client = BleakClient(device)
            await client.unpair()
            with pytest.raises(BleakDeviceNotFoundError):
                await BleakClient(ess.sensor.address, timeout=0.2).unpair()
            async with BleakClient(await found(ess)) as again:
                assert again.is_connected

    run(scenario())
