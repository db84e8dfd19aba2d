"""A simulated instrument that is served while a client uses it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from operando.instruments.wires import Peer
from operando.simulators.wire.server import WireServer

T = TypeVar("T")


async def served(server: WireServer, device: Peer, use: Awaitable[T]) -> T:
    """Serve a device while it is used."""
    await server.start()
    try:
        return await use
    finally:
        await server.close()
        close = getattr(device, "close", None)
        if callable(close):
            close()
