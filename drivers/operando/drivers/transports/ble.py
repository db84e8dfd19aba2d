"""Bluetooth Low Energy over bleak: one scanner an adapter, shared by all who listen.

bleak and its D-Bus library take a tenth of a second to import: only who uses the air pays.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from operando.instruments.ble import (
    Advertisement,
    BleAddress,
    Characteristic,
    GattLink,
    MemoryLink,
    parse_ble_address,
)
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    LinkLostError,
    OperandoError,
    ReplyTimeoutError,
    ReportedError,
)
from operando.instruments.wires import Switchboard

if TYPE_CHECKING:
    from bleak import BleakClient, BleakScanner
    from bleak.backends.characteristic import BleakGATTCharacteristic
    from bleak.backends.client import BaseBleakClient
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData, BaseBleakScanner

PATIENCE = 5.0
"""Wall s given to a disconnection, and to the beginning and the end of a scan."""

QUIET = 10.0
"""Wall s without any advertisement, of whatever sensor, after which a scan counts as dead.

A scan that an adapter forgot (unplugged, put to sleep) ends without a word.
"""

BUS_VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"
"""Where bleak looks for BlueZ; one for the whole process."""


def make_link(address: str, clock: Clock, *, switchboard: Switchboard | None = None) -> GattLink:
    """A link to the sensor at `address` ("ble:..."), neither listening nor connected yet.

    switchboard: sensors in memory, used instead of the outside world when given.
    Raises BadInputError for an address that is not understood.
    """
    if switchboard is not None:
        return MemoryLink(switchboard, address, clock)
    if clock.mode == "virtual":
        raise BadInputError(
            f"address {address!r}: virtual time cannot wait for the outside world. Simulate the "
            "bench, or use a real clock."
        )
    return BleakLink(parse_ble_address(address), clock)


class Backend(NamedTuple):
    """Which of bleak's backends is used; None is that of the computer."""

    scanner: type[BaseBleakScanner] | None = None
    client: type[BaseBleakClient] | None = None


PLATFORM = Backend()


class Radio:
    """One adapter: its scanner while somebody listens, and a turn for those who connect."""

    def __init__(self, adapter: str, backend: Backend) -> None:
        self._adapter = adapter
        self._backend = backend
        self._scanner: BleakScanner | None = None
        self._listeners: dict[object, Callable[[BLEDevice, AdvertisementData], None]] = {}
        self._door = asyncio.Lock()
        self._heard = 0.0
        self._users = 0
        self.turn = asyncio.Lock()
        """Held while connecting: BlueZ refuses a second connection that begins meanwhile."""

    async def join(
        self, who: object, heard: Callable[[BLEDevice, AdvertisementData], None]
    ) -> None:
        """Begin to tell `who` of every advertisement; starts the scanner for the first.

        A scan that has been quiet for too long is begun anew. Raises LinkLostError.
        """
        self._users += 1
        try:
            async with self._door:
                quiet = asyncio.get_running_loop().time() - self._heard > QUIET
                if self._scanner is not None and quiet:
                    await self._stop()
                if self._scanner is None:
                    await self._start()
                self._listeners[who] = heard
        except BaseException:
            self._forget()
            raise

    async def leave(self, who: object) -> None:
        """Stop telling `who`, which has joined; ends the scan after the last."""
        del self._listeners[who]
        try:
            async with self._door:
                if not self._listeners:
                    await self._stop()
        finally:
            self._forget()

    def _forget(self) -> None:
        """Leave nothing behind when nobody uses it: its locks would keep the event loop alive."""
        self._users -= 1
        radios = _radios.get(asyncio.get_running_loop(), {})
        if not self._users and radios.get((self._adapter, self._backend)) is self:
            del radios[self._adapter, self._backend]

    async def _start(self) -> None:
        from bleak import BleakScanner

        try:
            scanner = BleakScanner(
                self._on_advertisement,
                bluez={"adapter": self._adapter} if self._adapter else {},
                backend=self._backend.scanner,
            )
            async with asyncio.timeout(PATIENCE):
                await scanner.start()
        except Exception as error:
            raise LinkLostError(
                f"the Bluetooth adapter {self._adapter or 'of this computer'} cannot listen: "
                f"{_in_words(error)}. Is it plugged in, switched on and allowed?"
            ) from error
        self._scanner = scanner
        self._heard = asyncio.get_running_loop().time()

    async def _stop(self) -> None:
        scanner, self._scanner = self._scanner, None
        if scanner is not None:
            with suppress(Exception):
                async with asyncio.timeout(PATIENCE):
                    await scanner.stop()

    def _on_advertisement(self, device: BLEDevice, data: AdvertisementData) -> None:
        self._heard = asyncio.get_running_loop().time()
        for heard in tuple(self._listeners.values()):
            heard(device, data)


_radios: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, Backend], Radio]] = (
    weakref.WeakKeyDictionary()
)


def radio_of(adapter: str, backend: Backend = PLATFORM) -> Radio:
    """The adapter as all links of the running event loop share it."""
    radios = _radios.setdefault(asyncio.get_running_loop(), {})
    return radios.setdefault((adapter, backend), Radio(adapter, backend))


class BleakLink:
    """A link over the air. clock: laboratory time, for stamping what is heard."""

    def __init__(self, place: BleAddress, clock: Clock, backend: Backend = PLATFORM) -> None:
        self._place = place
        self._clock = clock
        self._backend = backend
        self._radio: Radio | None = None  # while it listens
        self._last: Advertisement | None = None
        self._found: BLEDevice | None = None
        self._arrival = asyncio.Event()
        self._client: BleakClient | None = None

    @property
    def address(self) -> str:
        """Address as the bench file writes it."""
        return self._place.text

    @property
    def device(self) -> str:
        """Address of the sensor itself."""
        return self._place.device

    async def listen(self) -> None:
        """Begin to listen for its advertisements."""
        await self._stop_listening()
        self._choose_bus()
        radio = radio_of(self._place.adapter, self._backend)
        await radio.join(self, self._on_advertisement)
        self._radio = radio

    async def advertisement(self, after: float, timeout: float) -> Advertisement:
        """The newest advertisement heard after laboratory time `after`, else the next one."""
        try:
            async with asyncio.timeout(timeout):
                while self._last is None or self._last.time <= after:
                    if self._radio is None:
                        raise LinkLostError(f"nobody listens to {self.address}")
                    self._arrival.clear()
                    await self._arrival.wait()
        except TimeoutError:
            raise ReplyTimeoutError(f"nothing was heard within {timeout:g} s") from None
        return self._last

    async def connect(self, timeout: float) -> tuple[Characteristic, ...]:
        """Wait for an advertisement, connect, find the characteristics."""
        await self._disconnect()
        missing = "was not heard"
        try:
            async with asyncio.timeout(timeout), self._listening() as radio:
                device = await self._heard_of()
                missing = "did not connect"
                async with radio.turn:
                    return await self._connect(device, timeout)
        except TimeoutError:
            raise LinkLostError(
                f"the sensor {self.device} {missing} within {timeout:g} s. Is it near, is its "
                "battery good, is no other computer or telephone connected to it?"
            ) from None

    async def _connect(self, device: BLEDevice, timeout: float) -> tuple[Characteristic, ...]:
        from bleak import BleakClient

        client = BleakClient(device, timeout=timeout, backend=self._backend.client)
        try:
            await client.connect()
            found = [
                Characteristic(
                    one.handle,
                    one.uuid.lower(),
                    one.service_uuid.lower(),
                    frozenset(one.properties),
                )
                for one in client.services.characteristics.values()
            ]
        except Exception as error:
            await _farewell(client)
            self._blame(error)
        except BaseException:
            await _farewell(client)
            raise
        self._client = client
        return tuple(sorted(found, key=lambda one: one.handle))

    async def read_gatt_char(self, handle: int, timeout: float) -> bytes:
        """Read a characteristic."""
        client = self._connected()
        try:
            async with asyncio.timeout(timeout):
                return bytes(await client.read_gatt_char(handle))
        except TimeoutError:
            raise ReplyTimeoutError(f"no answer within {timeout:g} s") from None
        except Exception as error:
            self._blame(error)

    async def start_notify(
        self, handle: int, heard: Callable[[bytes, float], None], timeout: float
    ) -> None:
        """Call `heard` with each value that it sends by itself and its laboratory time."""

        def on_value(_: BleakGATTCharacteristic, data: bytearray) -> None:
            heard(bytes(data), self._clock.now())

        client = self._connected()
        try:
            async with asyncio.timeout(timeout):
                await client.start_notify(handle, on_value)
        except TimeoutError:
            raise ReplyTimeoutError(f"no answer within {timeout:g} s") from None
        except Exception as error:
            self._blame(error)

    async def close(self) -> None:
        """Disconnect and stop listening; idempotent."""
        await self._disconnect()
        await self._stop_listening()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Radio]:
        """Listen for as long as the context lasts: BlueZ forgets who was heard long ago."""
        already = self._radio is not None
        if not already:
            await self.listen()
        try:
            assert self._radio is not None
            yield self._radio
        finally:
            if not already:
                await self._stop_listening()

    async def _stop_listening(self) -> None:
        radio, self._radio = self._radio, None
        self._found = self._last = None
        self._arrival.set()
        if radio is not None:
            await radio.leave(self)

    async def _heard_of(self) -> BLEDevice:
        while self._found is None:
            self._arrival.clear()
            await self._arrival.wait()
        return self._found

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _farewell(client)

    def _on_advertisement(self, device: BLEDevice, data: AdvertisementData) -> None:
        if device.address.upper() != self.device:
            return
        self._found = device
        self._last = _advertisement(data, self._clock)
        self._arrival.set()

    def _connected(self) -> BleakClient:
        client = self._client
        if client is None or not client.is_connected:
            raise LinkLostError(f"there is no connection to {self.address}")
        return client

    def _choose_bus(self) -> None:
        """Point bleak to the D-Bus of the address: an environment variable is its only door."""
        if not self._place.bus:
            return
        wanted = f"unix:path={self._place.bus}"
        chosen = os.environ.setdefault(BUS_VARIABLE, wanted)
        if chosen != wanted:
            raise BadInputError(
                f"{self.address} is on the D-Bus {wanted}, but this process uses {chosen} "
                f"({BUS_VARIABLE}); one process reaches one BlueZ"
            )

    def _blame(self, error: Exception) -> NoReturn:
        from bleak.exc import BleakGATTProtocolError

        if isinstance(error, OperandoError):
            raise error
        if isinstance(error, BleakGATTProtocolError):
            raise ReportedError(int(error.code), str(error.args[1])) from error
        raise LinkLostError(
            f"the connection to {self.device} failed: {_in_words(error)}"
        ) from error


async def survey(
    seconds: float, clock: Clock, *, adapter: str = "", backend: Backend = PLATFORM
) -> dict[str, Advertisement]:
    """Who is near: the last advertisement of each sensor heard within `seconds`, by address.

    Only listens. Raises LinkLostError without a radio.
    """
    found: dict[str, Advertisement] = {}

    def heard(device: BLEDevice, data: AdvertisementData) -> None:
        found[device.address.upper()] = _advertisement(data, clock)

    radio, listener = radio_of(adapter, backend), object()
    await radio.join(listener, heard)
    try:
        await asyncio.sleep(seconds)
    finally:
        await radio.leave(listener)
    return found


def _advertisement(data: AdvertisementData, clock: Clock) -> Advertisement:
    return Advertisement(
        clock.now(),
        data.rssi,
        data.manufacturer_data,
        data.service_data,
        data.local_name or "",
        tuple(data.service_uuids),
    )


async def _farewell(client: BleakClient) -> None:
    with suppress(Exception):
        async with asyncio.timeout(PATIENCE):
            await client.disconnect()


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
