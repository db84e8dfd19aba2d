"""The bus of a simulated BlueZ, whatever is called on it, and sensors at their addresses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from bleak import BleakScanner
from bleak.exc import BleakDBusError
from dbus_fast import Variant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operando.instruments.clock import Clock, run
from operando.instruments.errors import AddressInUseError, BadInputError, LinkLostError
from operando.simulators.wire.bluez import ADAPTER_PATH, SimulatedBlueZ
from operando.simulators.wire.bluez_bus import PrivateBus
from operando.simulators.wire.bluez_server import BluetoothServer
from simulators.bluetooth_bench import bluetooth, bus_of, client_of, ess_in_air, tag_in_air

pytestmark = pytest.mark.sockets

# -- the bus and the addresses of a bench file


def test_a_bus_belongs_to_one_simulation_and_outlives_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        socket = tmp_path / "ports" / "bluez"
        first = PrivateBus(socket)
        await first.start()
        assert socket.is_socket()
        with pytest.raises(AddressInUseError, match="another simulation"):
            await PrivateBus(socket).start()
        await first.close()
        await first.close()
        assert not socket.exists()
        with pytest.raises(LinkLostError, match="no bus"):
            await SimulatedBlueZ(first.address, Clock()).start()

    run(scenario())


def test_a_socket_that_was_left_over_is_taken_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "bus"
        server = await asyncio.start_unix_server(lambda *_: None, path)
        server.close()
        await server.wait_closed()
        assert path.is_socket()
        bus = PrivateBus(path)
        await bus.start()
        await bus.close()

    run(scenario())


def test_a_bus_that_cannot_be_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(AddressInUseError, match="no socket"):
        run(PrivateBus(file).start())
    assert file.read_text() == "mine"
    with pytest.raises(BadInputError, match="107 bytes"):
        run(PrivateBus(tmp_path / ("x" * 120)).start())
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(BadInputError, match="apt-get install dbus-daemon"):
        run(PrivateBus(tmp_path / "bus").start())


def test_the_sensors_of_a_bench_share_a_bus_until_the_last_one_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 10.0)
        ess, tag = ess_in_air(clock), tag_in_air(clock)
        socket = tmp_path / "bluez"
        servers = [
            BluetoothServer(ess, clock, f"ble:C0:00:00:00:00:01?bus={socket}"),
            BluetoothServer(tag, clock, f"ble:CB:B8:33:4C:88:4F?bus={socket}"),
        ]
        for server in servers:
            await server.start()
        twin = BluetoothServer(tag_in_air(clock), clock, f"ble:CB:B8:33:4C:88:4F?bus={socket}")
        with pytest.raises(AddressInUseError, match="CB:B8:33:4C:88:4F"):
            await twin.start()
        async with client_of(f"unix:path={socket}") as client:
            await client.adapter("StartDiscovery")
            paths = {(await client.until("InterfacesAdded"))[1][0][-17:] for _ in range(2)}
            assert paths == {"C0_00_00_00_00_01", "CB_B8_33_4C_88_4F"}
            await servers[0].close()
            _, (path, _interfaces) = await client.until("InterfacesRemoved")
            assert path.endswith("C0_00_00_00_00_01")
        await servers[1].close()
        await servers[1].close()
        assert not socket.exists()

    run(scenario())


@pytest.mark.parametrize(
    "address",
    [
        "ble:CB:B8:33:4C:88:4F",
        "ble:CB:B8:33:4C:88:4F?adapter=hci1&bus=/tmp/x",
        "ble:2A3C7A1E-5B0C-4D43-9C39-0D5D1B9D2E11?bus=/tmp/x",
    ],
)
def test_a_sensor_is_simulated_only_where_no_real_one_can_be(address: str) -> None:
    async def scenario() -> None:
        clock = Clock()
        with pytest.raises(BadInputError, match="where a real one may be"):
            BluetoothServer(tag_in_air(clock), clock, address)

    run(scenario())


def test_bleak_finds_nothing_where_no_bluez_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        bus = PrivateBus(tmp_path / "bus")
        await bus.start()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        try:
            with pytest.raises(BleakDBusError, match="ServiceUnknown"):
                await BleakScanner.discover(timeout=0.1)
        finally:
            await bus.close()

    run(scenario())


# -- calls

PATHS = ("/", "/org/bluez", ADAPTER_PATH, f"{ADAPTER_PATH}/dev_C0_00_00_00_00_01", "/nothing")
INTERFACES = (
    "org.bluez.Adapter1",
    "org.bluez.Device1",
    "org.bluez.GattCharacteristic1",
    "org.freedesktop.DBus.Properties",
    "org.freedesktop.DBus.ObjectManager",
    "org.freedesktop.DBus.Introspectable",
)
MEMBERS = (
    "Connect",
    "Disconnect",
    "Pair",
    "StartDiscovery",
    "StopDiscovery",
    "SetDiscoveryFilter",
    "RemoveDevice",
    "ReadValue",
    "StartNotify",
    "Get",
    "GetAll",
    "Set",
    "GetManagedObjects",
    "Introspect",
)
BODIES: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("", ()),
    ("s", ("org.bluez.Device1",)),
    ("ss", ("org.bluez.Adapter1", "Powered")),
    ("ssv", ("org.bluez.Adapter1", "Powered", Variant("b", False))),
    ("ssv", ("org.bluez.Adapter1", "Powered", Variant("s", "yes"))),
    ("ssv", ("org.bluez.Adapter1", "Roles", Variant("as", []))),
    ("a{sv}", ({"UUIDs": Variant("as", ["x"]), "RSSI": Variant("n", -90)},)),
    ("a{sv}", ({"UUIDs": Variant("s", "x")},)),
    ("a{sv}", ({},)),
    ("o", (f"{ADAPTER_PATH}/dev_C0_00_00_00_00_01",)),
    ("u", (7,)),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PATHS),
            st.sampled_from(INTERFACES),
            st.sampled_from(MEMBERS),
            st.sampled_from(BODIES),
        ),
        min_size=10,
        max_size=40,
    )
)
def test_whatever_is_called_is_answered_and_nothing_breaks(
    tmp_path: Path, calls: list[tuple[str, str, str, tuple[str, tuple[object, ...]]]]
) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 1000.0)
        ess = ess_in_air(clock)
        ess.sensor.address = "C0:00:00:00:00:01"
        async with bluetooth(tmp_path, clock, ess), client_of(bus_of(tmp_path)) as client:
            await client.adapter("StartDiscovery")
            await client.until("InterfacesAdded")
            for path, interface, member, (signature, body) in calls:
                reply = await client.call(path, interface, member, signature, *body)
                # What dbus-fast answers for a handler that raised something unexpected.
                assert reply.error_name != "com.dubstepdish.dbus.next.InternalError"
                assert "internal error" not in str(reply.body)

    run(scenario())
