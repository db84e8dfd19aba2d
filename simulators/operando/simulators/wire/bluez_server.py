"""Simulated Bluetooth sensors at the addresses of a bench file, on a BlueZ of one's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from operando.instruments.ble import parse_ble_address
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Peer
from operando.simulators.radio import FaultyPeripheral
from operando.simulators.wire.bluez import ADAPTER_NAME, SimulatedBlueZ
from operando.simulators.wire.bluez_bus import PrivateBus


@dataclass(slots=True)
class _Shared:
    """A bus with a BlueZ on it, for all sensors at one socket. users: how many are served."""

    bus: PrivateBus
    bluez: SimulatedBlueZ
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def join(self) -> None:
        async with self.lock:
            if self.users == 0:
                await self.bus.start()
                try:
                    await self.bluez.start()
                except BaseException:
                    await self.bus.close()
                    raise
            self.users += 1

    async def leave(self) -> bool:
        """Whether it was the last user, with whom it ended."""
        async with self.lock:
            self.users -= 1
            if self.users:
                return False
            await self.bluez.close()
            await self.bus.close()
            return True


_shared: dict[tuple[asyncio.AbstractEventLoop, str], _Shared] = {}
"""By running loop and socket: a bench has many sensors and one BlueZ."""


class BluetoothServer:
    """Serves one sensor at "ble:CB:B8:33:4C:88:4F?bus=ports/bluez".

    The first sensor at a socket starts the bus there, the last one ends it.
    """

    def __init__(self, peer: Peer, clock: Clock, address: str) -> None:
        place = parse_ble_address(address)
        if not isinstance(peer, FaultyPeripheral):
            raise BadInputError(f"what is simulated at {address} is no Bluetooth sensor")
        if not place.bus or not place.is_mac or place.adapter not in ("", ADAPTER_NAME):
            raise BadInputError(
                f"a simulated sensor cannot be at {address}, where a real one may be; write its "
                f'Bluetooth address and a bus of your own, e.g. "ble:{peer.sensor.address}'
                '?bus=ports/bluez"'
            )
        peer.sensor.address = place.device
        self._sensor = peer
        self._clock = clock
        self._socket = place.bus
        self._joined: _Shared | None = None

    async def start(self) -> None:
        """Begin to serve. Raises AddressInUseError, BadInputError without `dbus-daemon`."""
        key = asyncio.get_running_loop(), self._socket
        shared = _shared.get(key)
        if shared is None:
            bus = PrivateBus(Path(self._socket))
            shared = _shared[key] = _Shared(bus, SimulatedBlueZ(bus.address, self._clock))
        try:
            await shared.join()
        except BaseException:
            if not shared.users:
                _shared.pop(key, None)
            raise
        self._joined = shared
        try:
            shared.bluez.add(self._sensor)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop, and end the bus with the last sensor; idempotent."""
        shared, self._joined = self._joined, None
        if shared is None:
            return
        shared.bluez.remove(self._sensor)
        if await shared.leave():
            _shared.pop((asyncio.get_running_loop(), self._socket), None)
