"""Objects on a bus, their properties and the signals about them, as BlueZ exports its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES = "org.freedesktop.DBus.Properties"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"

ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"
SERVICE = "org.bluez.GattService1"
CHARACTERISTIC = "org.bluez.GattCharacteristic1"
DESCRIPTOR = "org.bluez.GattDescriptor1"

Interfaces = dict[str, dict[str, Variant]]
"""Properties by name, by interface."""


class BusError(Exception):
    """A call is answered with an error. name: whole, or its end behind "org.bluez.Error."."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(text)
        self.name = name if name.startswith("org.") else f"org.bluez.Error.{name}"
        self.text = text


def unknown_object(path: str) -> BusError:
    """The answer to a call on an object that does not exist."""
    return BusError("org.freedesktop.DBus.Error.UnknownObject", f"no such object: {path}")


def unknown_method(message: Message) -> BusError:
    """The answer to a call of a method that does not exist."""
    return BusError(
        "org.freedesktop.DBus.Error.UnknownMethod",
        f'Method "{message.member}" with signature "{message.signature}" on interface '
        f'"{message.interface}" doesn\'t exist',
    )


class ObjectTree:
    """Everything that is exported; each change is told to whoever listens."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.objects: dict[str, Interfaces] = {}

    def add(self, path: str, interfaces: Interfaces) -> None:
        """Export an object."""
        self.objects[path] = interfaces
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])

    def remove(self, path: str) -> None:
        """Take an object back; nothing happens when there is none."""
        interfaces = self.objects.pop(path, None)
        if interfaces is not None:
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, list(interfaces)])

    def change(
        self,
        path: str,
        interface: str,
        values: Mapping[str, Variant],
        gone: Sequence[str] = (),
    ) -> None:
        """Set properties and remove others."""
        properties = self.objects[path][interface]
        properties.update(values)
        lost = [name for name in gone if properties.pop(name, None) is not None]
        if values or lost:
            body = [interface, dict(values), lost]
            self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    def value(self, path: str, interface: str, name: str) -> Variant:
        """One property. Raises BusError."""
        try:
            return self.of(path, interface)[name]
        except KeyError:
            raise BusError(
                "org.freedesktop.DBus.Error.InvalidArgs", f"No such property '{name}'"
            ) from None

    def of(self, path: str, interface: str) -> dict[str, Variant]:
        """Properties of one interface. Raises BusError."""
        if path not in self.objects:
            raise unknown_object(path)
        try:
            return self.objects[path][interface]
        except KeyError:
            raise BusError(
                "org.freedesktop.DBus.Error.InvalidArgs", f"No such interface '{interface}'"
            ) from None

    def reply(self, message: Message, signature: str = "", body: Sequence[object] = ()) -> None:
        """Answer a call."""
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self._send(Message.new_method_return(message, signature, list(body)))

    def refuse(self, message: Message, error: BusError) -> None:
        """Answer a call with an error."""
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self._send(Message.new_error(message, error.name, error.text))

    def _signal(
        self, path: str, interface: str, member: str, signature: str, body: Sequence[object]
    ) -> None:
        self._send(
            Message(
                message_type=MessageType.SIGNAL,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
        )

    def _send(self, message: Message) -> None:
        if self._bus.connected:
            self._bus.send(message).add_done_callback(_forget)


def _forget(sent: asyncio.Future[None]) -> None:
    """Nobody waits for a message to leave; when the bus is gone, so is who would read it."""
    if not sent.cancelled():
        sent.exception()
