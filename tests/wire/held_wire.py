"""A wire on which one request waits while urgent ones pass it, as in a queue of a real line."""

from __future__ import annotations

import asyncio

from operando.instruments.wires import Framing, Wire


class HeldWire:
    """A wire that keeps back the first request that is `held` until `released` is set."""

    def __init__(self, wire: Wire, held: bytes) -> None:
        self._wire = wire
        self._held = held
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    @property
    def address(self) -> str:
        """Of the wire."""
        return self._wire.address

    async def open(self) -> None:
        """Open the wire."""
        await self._wire.open()

    async def exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Pass on, unless it is to be kept back."""
        if request == self._held and not urgent:
            self.reached.set()
            await self.released.wait()
        return await self._wire.exchange(request, framing, timeout, urgent=urgent)

    async def send(self, request: bytes, timeout: float, *, urgent: bool = False) -> None:
        """Pass on."""
        await self._wire.send(request, timeout, urgent=urgent)

    async def reopen(self) -> None:
        """Open another session."""
        await self._wire.reopen()

    async def close(self) -> None:
        """Close the wire."""
        await self._wire.close()
