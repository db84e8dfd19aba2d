"""A simulated BlueZ: org.bluez on a bus, with one adapter that hears simulated sensors.

Written from BlueZ' manual pages org.bluez.Adapter(5), org.bluez.Device(5) and
org.bluez.GattCharacteristic(5). Discovery, advertisements, connections, reads and notifications are
there; pairing, writing, passive monitors and what a host itself may advertise are not.
"""

from __future__ import annotations

import contextlib
import re

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.constants import RequestNameReply

from operando.instruments.clock import Clock
from operando.instruments.errors import AddressInUseError, LinkLostError
from operando.simulators.radio import FaultyPeripheral
from operando.simulators.wire.bluez_objects import (
    ADAPTER,
    CHARACTERISTIC,
    DESCRIPTOR,
    DEVICE,
    OBJECT_MANAGER,
    PROPERTIES,
    BusError,
    ObjectTree,
    unknown_method,
    unknown_object,
)
from operando.simulators.wire.bluez_remote import IN_PROGRESS, TEMPORARY_TIMEOUT, Remote

NAME = "org.bluez"
ADAPTER_NAME = "hci0"
ADAPTER_PATH = f"/org/bluez/{ADAPTER_NAME}"
ADAPTER_ADDRESS = "00:00:00:00:00:00"

FILTERS = {
    "UUIDs": "as",
    "RSSI": "n",
    "Pathloss": "q",
    "Transport": "s",
    "DuplicateData": "b",
    "Discoverable": "b",
    "Pattern": "s",
}
"""Keys of a discovery filter and their types: org.bluez.Adapter(5)."""

NOT_READY = BusError("NotReady", "Resource Not Ready")

_DEVICE_PATH = re.compile(rf"({ADAPTER_PATH}/dev_[0-9A-F]{{2}}(?:_[0-9A-F]{{2}}){{5}})(?:/.*)?")


class SimulatedBlueZ:
    """Serves org.bluez on the bus at a D-Bus address. Sensors may come and go while it runs.

    temporary_timeout: after which a device that is no longer heard is forgotten, s of the event
    loop, as main.conf sets it.
    """

    def __init__(
        self, address: str, clock: Clock, temporary_timeout: float = TEMPORARY_TIMEOUT
    ) -> None:
        self._address = address
        self._temporary_timeout = temporary_timeout
        self._clock = clock
        self._bus: MessageBus | None = None
        self._tree: ObjectTree | None = None
        self._remotes: dict[str, Remote] = {}
        self._filters: dict[str, dict[str, Variant]] = {}
        self._sessions: set[str] = set()

    async def start(self) -> None:
        """Connect to the bus and own the name.

        Raises LinkLostError where no bus is, AddressInUseError where another BlueZ runs on it.
        """
        bus = MessageBus(bus_address=self._address)
        try:
            try:
                await bus.connect()
            except OSError as error:
                raise LinkLostError(f"no bus answers at {self._address}: {error}") from error
            self._bus, self._tree = bus, ObjectTree(bus)
            self._tree.objects |= {
                "/org/bluez": {"org.bluez.AgentManager1": {}},
                ADAPTER_PATH: {ADAPTER: _adapter_properties()},
            }
            bus.add_message_handler(self._handle)
            await bus.call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus",
                    member="AddMatch",
                    signature="s",
                    body=[
                        "type='signal',sender='org.freedesktop.DBus',"
                        "interface='org.freedesktop.DBus',member='NameOwnerChanged'"
                    ],
                )
            )
            if await bus.request_name(NAME) is not RequestNameReply.PRIMARY_OWNER:
                raise AddressInUseError(f"another BlueZ runs on the bus at {self._address}")
        except BaseException:
            self._bus = None
            bus.disconnect()
            raise

    async def close(self) -> None:
        """Take every sensor back and leave the bus; idempotent."""
        bus, self._bus = self._bus, None
        if bus is None:
            return
        for remote in self._remotes.values():
            remote.close()
        self._remotes.clear()
        self._sessions.clear()
        bus.disconnect()
        with contextlib.suppress(Exception):  # whatever ended it, it has ended
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    def add(self, sensor: FaultyPeripheral) -> None:
        """Bring a sensor near. Raises AddressInUseError when there is one with its address."""
        assert self._tree is not None, "not started"
        remote = Remote(self._tree, ADAPTER_PATH, sensor, self._clock, self._temporary_timeout)
        if remote.path in self._remotes:
            raise AddressInUseError(f"two simulated sensors have the address {remote.address}")
        self._remotes[remote.path] = remote
        self._listen()

    def remove(self, sensor: FaultyPeripheral) -> None:
        """Take a sensor away; nothing happens when it is not there."""
        for path, remote in tuple(self._remotes.items()):
            if remote.sensor is sensor:
                del self._remotes[path]
                remote.close()

    def power(self, on: bool) -> None:
        """Switch the adapter: off, every discovery and connection ends."""
        assert self._tree is not None, "not started"
        self._tree.change(ADAPTER_PATH, ADAPTER, {"Powered": Variant("b", on)})
        if not on:
            self._sessions.clear()
            self._listen()
            for remote in self._remotes.values():
                remote.disconnect()

    # -- calls

    def _handle(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            if message.member == "NameOwnerChanged" and not message.body[2]:
                self._client_left(str(message.body[0]))
            return False
        if message.message_type is not MessageType.METHOD_CALL or self._tree is None:
            return False
        if message.interface not in {
            OBJECT_MANAGER,
            PROPERTIES,
            ADAPTER,
            DEVICE,
            CHARACTERISTIC,
            DESCRIPTOR,
        }:
            return False
        try:
            self._dispatch(message, self._tree)
        except BusError as error:
            self._tree.refuse(message, error)
        return True

    def _dispatch(self, message: Message, tree: ObjectTree) -> None:
        path, interface = message.path or "", message.interface or ""
        if interface == OBJECT_MANAGER:
            if path != "/" or message.member != "GetManagedObjects":
                raise unknown_method(message)
            tree.reply(message, "a{oa{sa{sv}}}", [tree.objects])
            return
        if path not in tree.objects:
            raise unknown_object(path)
        if interface == PROPERTIES:
            self._call_properties(message, tree)
            return
        if interface not in tree.objects[path]:
            raise unknown_method(message)
        if interface == ADAPTER:
            self._call_adapter(message, tree)
            return
        found = _DEVICE_PATH.fullmatch(path)
        remote = self._remotes.get(found[1]) if found else None
        if remote is None:
            raise unknown_object(path)
        if interface == DEVICE:
            remote.call(message)
        elif interface == CHARACTERISTIC:
            remote.call_characteristic(path, message)
        else:
            remote.call_descriptor(path, message)

    def _call_properties(self, message: Message, tree: ObjectTree) -> None:
        path, form = message.path or "", (message.member, message.signature)
        if form == ("Get", "ss"):
            tree.reply(message, "v", [tree.value(path, *message.body)])
        elif form == ("GetAll", "s"):
            tree.reply(message, "a{sv}", [tree.of(path, *message.body)])
        elif form == ("Set", "ssv"):
            interface, name, value = message.body
            tree.value(path, interface, name)
            if (interface, name, value.signature) == (ADAPTER, "Powered", "b"):
                self.power(value.value)
            elif (interface, name, value.signature) == (DEVICE, "Trusted", "b"):
                tree.change(path, interface, {name: value})
            else:
                raise BusError(
                    "org.freedesktop.DBus.Error.PropertyReadOnly", f"{name} is not written here"
                )
            tree.reply(message)
        else:
            raise unknown_method(message)

    def _call_adapter(self, message: Message, tree: ObjectTree) -> None:
        sender, form = message.sender or "", (message.member, message.signature)
        ready = tree.value(ADAPTER_PATH, ADAPTER, "Powered").value
        if form == ("SetDiscoveryFilter", "a{sv}"):
            self._set_filter(sender, message.body[0])
        elif form == ("StartDiscovery", ""):
            if not ready:
                raise NOT_READY
            if sender in self._sessions:
                raise IN_PROGRESS
            self._sessions.add(sender)
            self._listen()
        elif form == ("StopDiscovery", ""):
            if not ready:
                raise NOT_READY
            if sender not in self._sessions:
                raise BusError("Failed", "No discovery started")
            self._sessions.discard(sender)
            self._listen()
        elif form == ("RemoveDevice", "o"):
            self._remove_device(message.body[0])
        else:
            raise unknown_method(message)
        tree.reply(message)

    def _set_filter(self, sender: str, wanted: dict[str, Variant]) -> None:
        for key, value in wanted.items():
            if FILTERS.get(key) != value.signature:
                raise BusError("InvalidArguments", "Invalid arguments in method call")
        self._filters[sender] = wanted
        self._listen()

    def _remove_device(self, path: str) -> None:
        remote = self._remotes.get(path)
        if remote is None or not remote.exported:
            raise BusError("DoesNotExist", "Does Not Exist")
        remote.forget()

    # -- discovery

    def _listen(self) -> None:
        """Let the sensors be heard while anybody discovers."""
        assert self._tree is not None
        discovering = bool(self._sessions)
        for remote in self._remotes.values():
            if discovering:
                repeats = any(
                    bool(_option(self._filters.get(one), "DuplicateData", False))
                    for one in self._sessions
                )
                remote.listen(self._wanted, repeats)
            else:
                remote.be_deaf()
        if self._tree.value(ADAPTER_PATH, ADAPTER, "Discovering").value != discovering:
            told = {"Discovering": Variant("b", discovering)}
            self._tree.change(ADAPTER_PATH, ADAPTER, told)

    def _wanted(self, uuids: frozenset[str], rssi: int) -> bool:
        """Whether any session's filter lets an advertisement through."""
        for session in self._sessions:
            wanted = self._filters.get(session)
            kinds = _option(wanted, "UUIDs", [])
            weakest = _option(wanted, "RSSI", -128)
            if _option(wanted, "Transport", "auto") == "bredr" or rssi < int(str(weakest)):
                continue
            if not kinds or (isinstance(kinds, list) and uuids & {kind.lower() for kind in kinds}):
                return True
        return False

    def _client_left(self, client: str) -> None:
        self._filters.pop(client, None)
        if client in self._sessions:
            self._sessions.discard(client)
            self._listen()
        for remote in self._remotes.values():
            remote.client_left(client)


def _option(wanted: dict[str, Variant] | None, key: str, default: object) -> object:
    return wanted[key].value if wanted and key in wanted else default


def _adapter_properties() -> dict[str, Variant]:
    return {
        "Address": Variant("s", ADAPTER_ADDRESS),
        "AddressType": Variant("s", "public"),
        "Name": Variant("s", "simulated"),
        "Alias": Variant("s", "simulated"),
        "Class": Variant("u", 0),
        "Powered": Variant("b", True),
        "Discoverable": Variant("b", False),
        "Pairable": Variant("b", False),
        "Discovering": Variant("b", False),
        "UUIDs": Variant("as", []),
        "Roles": Variant("as", ["central", "peripheral"]),
    }
