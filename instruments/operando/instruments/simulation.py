"""What the station needs from a simulated bench, without knowing who simulates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from operando.instruments.wires import Switchboard


class ServedInstrument(Protocol):
    """One simulated instrument that is being served: name, driver, address."""

    @property
    def name(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def address(self) -> str: ...


class Simulation(Protocol):
    """The simulated twin of a bench; made by the entry point of group `operando.benches`.

    Called as `factory(bench, clock)` with a `bench.Bench` and a `clock.Clock`.
    """

    def attach(self, switchboard: Switchboard) -> None:
        """Make every simulated instrument reachable through memory pipes."""
        ...

    async def serve(self) -> tuple[ServedInstrument, ...]:
        """Serve every simulated instrument at the bench's addresses (TCP, pty)."""
        ...

    async def close(self) -> None:
        """Stop serving and remove what was made for it (links to ptys)."""
        ...

    def charges(self) -> Mapping[str, float]:
        """True net charge that has passed each cell since it was assembled, C."""
        ...

    def relays(self) -> Mapping[str, bool]:
        """True output relay of each instrument that has one: closed or not."""
        ...

    def inject(self, instrument: str, fault: str) -> None:
        """Switch a fault of one instrument on or off, e.g. "silence", "late 3 s", "none"."""
        ...
