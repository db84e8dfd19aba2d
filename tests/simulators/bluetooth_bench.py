"""Simulated Bluetooth sensors on a BlueZ of their own, for tests with bleak itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from operando.instruments.clock import Clock
from operando.simulators.devices.ambient import saturation_over_water
from operando.simulators.devices.bluetooth import BluetoothSensor
from operando.simulators.devices.ess import SimulatedESS
from operando.simulators.devices.gas_sensor import ZERO_CELSIUS
from operando.simulators.devices.ports import RoomPort, Site
from operando.simulators.devices.ruuvi import SimulatedRuuviTag
from operando.simulators.radio import FaultyPeripheral
from operando.simulators.wire.bluez import ADAPTER_PATH, SimulatedBlueZ
from operando.simulators.wire.bluez_bus import PrivateBus
from simulators.room_of_one import Box

PATIENCE = 20.0
"""Wall s after which something that should happen is given up."""

QUICK: Mapping[str, object] = {"connect_time": 0.1, "connection_interval": 0.0075}

EXACT: Mapping[str, object] = {
    "temperature_noise": 0.0,
    "humidity_noise": 0.0,
    "pressure_noise": 0.0,
    "rssi_noise": 0.0,
    "loss": 0.0,
}


def air(celsius: float, humidity: float, pascals: float) -> Box:
    """A box whose air a sensor shows as these: degrees, relative (1 is saturated), Pa."""
    box = Box()
    box.kelvin, box.pascals = celsius + ZERO_CELSIUS, pascals
    box.gases["h2o"] = humidity * saturation_over_water(box.kelvin) / pascals
    return box


def sensor_in(
    model: Callable[..., BluetoothSensor],
    room: RoomPort | None,
    clock: Clock,
    options: Mapping[str, object] | None = None,
    name: str = "dut",
) -> FaultyPeripheral:
    """A sensor, exact unless its options say otherwise, with its faults."""
    device = model(name, site=Site(room=room), clock=clock, options={**EXACT, **(options or {})})
    return FaultyPeripheral(device, clock, name=name)


@asynccontextmanager
async def bluetooth(
    folder: Path, clock: Clock, *sensors: FaultyPeripheral, temporary_timeout: float = 30.0
) -> AsyncIterator[SimulatedBlueZ]:
    """A BlueZ that hears these sensors, and which bleak takes for that of the system.

    At the end the bus goes away under whoever still has it open, as bleak always has.
    """
    bus = PrivateBus(folder / "bus")
    await bus.start()
    bluez = SimulatedBlueZ(bus.address, clock, temporary_timeout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        try:
            await bluez.start()
            for sensor in sensors:
                bluez.add(sensor)
            yield bluez
        finally:
            await bluez.close()
            for sensor in sensors:
                sensor.close()
                sensor.sensor.close()
            await bus.close()
            # bleak's own tasks see that the bus is gone, and end.
            ending = asyncio.all_tasks() - {asyncio.current_task()}
            if ending:
                await asyncio.wait(ending, timeout=10.0)


class Client:
    """A client of the bus that calls what it likes and hears every signal of BlueZ."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.signals: asyncio.Queue[tuple[str, str, list[Any]]] = asyncio.Queue()
        bus.add_message_handler(self._hear)

    def _hear(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.member != "NameAcquired":
            self.signals.put_nowait((message.member or "", message.path or "", message.body))

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: object
    ) -> Message:
        async with asyncio.timeout(PATIENCE):
            reply = await self._bus.call(
                Message(
                    destination="org.bluez",
                    path=path,
                    interface=interface,
                    member=member,
                    signature=signature,
                    body=list(body),
                )
            )
        assert reply is not None
        return reply

    async def adapter(self, member: str, signature: str = "", *body: object) -> str:
        """Call the adapter; the error's name, "" for none."""
        reply = await self.call(ADAPTER_PATH, "org.bluez.Adapter1", member, signature, *body)
        return reply.error_name or ""

    async def until(self, member: str) -> tuple[str, list[Any]]:
        """Path and body of the next signal of a name."""
        async with asyncio.timeout(PATIENCE):
            while True:
                name, path, body = await self.signals.get()
                if name == member:
                    return path, body


@asynccontextmanager
async def client_of(address: str) -> AsyncIterator[Client]:
    bus = await MessageBus(bus_address=address).connect()
    client = Client(bus)
    reply = await bus.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="AddMatch",
            signature="s",
            body=["type='signal',sender='org.bluez'"],
        )
    )
    assert reply is not None
    try:
        yield client
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


def bus_of(folder: Path) -> str:
    return f"unix:path={folder / 'bus'}"


def ess_in_air(clock: Clock, **options: object) -> FaultyPeripheral:
    """A sensor whose temperature, humidity and pressure are the document's examples."""
    room = air(-12.34, 0.5315, 101_325.0)
    return sensor_in(SimulatedESS, room, clock, {**QUICK, **options}, name="ess")


def tag_in_air(clock: Clock, **options: object) -> FaultyPeripheral:
    return sensor_in(SimulatedRuuviTag, air(24.3, 0.5349, 100_044.0), clock, options, name="tag")
