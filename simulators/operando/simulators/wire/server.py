"""The server for an address of a bench file."""

from __future__ import annotations

from typing import Protocol

from operando.instruments.addresses import parse_address
from operando.instruments.ble import SCHEME
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Peer
from operando.simulators.wire.pty import PtyServer
from operando.simulators.wire.tcp import TcpServer


class WireServer(Protocol):
    """Serves one instrument at one address."""

    async def start(self) -> None:
        """Begin to serve."""
        ...

    async def close(self) -> None:
        """Stop, and remove what was made; idempotent."""
        ...


def server_for(address: str, peer: Peer, clock: Clock) -> WireServer:
    """The server for an address, not yet started. Raises BadInputError for one it cannot serve."""
    if address.startswith(SCHEME):
        # Not at the top: dbus-fast comes with bleak, and on Linux alone.
        from operando.simulators.wire.bluez_server import BluetoothServer

        return BluetoothServer(peer, clock, address)
    place = parse_address(address)
    if place.kind in ("visa_socket", "serial_socket"):
        return TcpServer(peer, clock, place.host, place.port)
    if place.kind == "serial":
        return PtyServer(peer, clock, place.path)
    raise BadInputError(
        f"a simulated instrument cannot be served at {address}; write "
        "TCPIP::127.0.0.1::PORT::SOCKET, serial:socket://127.0.0.1:PORT or serial:PATH"
    )
