"""A MethodSCRIPT instrument on a small cell, and the host's end of its serial line."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from operando.instruments.clock import Clock
from operando.instruments.wires import Peer
from operando.simulators.devices.palmsens import SimulatedPalmSens
from operando.simulators.devices.ports import CellPort, Site
from operando.simulators.faults import FaultyPeer
from simulators.bench_of_one import ResistorCell


class RandlesCell(ResistorCell):
    """A resistor cell that is `resistance` in series with `arc` ohm beside `capacitance` F."""

    arc = 50.0
    capacitance = 1e-5

    def impedance(self, frequency: ArrayLike, now: float) -> NDArray[np.complex128]:
        omega = 2.0 * np.pi * np.asarray(frequency, dtype=np.float64)
        z = self.resistance + self.arc / (1.0 + 1j * omega * self.arc * self.capacitance)
        return np.asarray(z, dtype=np.complex128)


class Port:
    """The host's end of the line: everything that came, with the time of its last byte."""

    def __init__(self) -> None:
        self.chunks: list[tuple[float, bytes]] = []

    def send(self, data: bytes, at: float) -> None:
        self.chunks.append((at, data))

    def drop(self) -> None:
        """The tests unplug by hand."""


QUIET: dict[str, object] = {
    "noise": 0.0,
    "impedance_noise": 0.0,
    "warm_up_offset": 0.0,
    "range_gain_error": 0.0,
    "range_delay": 0.0,
    "stray_inductance": 0.0,
    "stray_capacitance": 0.0,
}
"""Options of an ideal instrument."""


class Console:
    """Talks to one instrument, in virtual time; ideal unless options say otherwise."""

    def __init__(self, cell: CellPort | None = None, **options: object) -> None:
        self.clock = Clock("virtual")
        self.cell = RandlesCell() if cell is None else cell
        self.device = SimulatedPalmSens(
            "pg1", site=Site(self.cell), clock=self.clock, options={**QUIET, **options}
        )
        self.faults = FaultyPeer(self.device, self.clock, name="pg1")
        self.plug_in()

    def plug_in(self) -> None:
        """Open the port anew; what came before is forgotten."""
        self.port = Port()
        self._read = 0
        self._peer.connected(self.port, self.clock.now())

    def unplug(self) -> None:
        """Close the port."""
        self._peer.disconnected(self.port, self.clock.now())

    @property
    def _peer(self) -> Peer:
        return self.faults

    def tell(self, text: str | bytes) -> None:
        """Send bytes as they are."""
        data = text.encode("latin-1") if isinstance(text, str) else text
        self._peer.receive(self.port, data, self.clock.now())

    def heard(self) -> str:
        """What has come since the last time."""
        now = self.clock.now()
        arrived = [data for at, data in self.port.chunks if at <= now]
        text = b"".join(arrived[self._read :]).decode("latin-1")
        self._read = len(arrived)
        return text

    async def ask(self, text: str | bytes, seconds: float = 0.2) -> str:
        """Send bytes, wait, and return what came."""
        self.tell(text)
        await self.clock.sleep(seconds)
        return self.heard()

    async def script(self, text: str, seconds: float = 10.0) -> list[str]:
        """Run a script (lines, without `e`); the lines of its output, the end included."""
        self.heard()
        said = await self.ask("e\n" + "\n".join(text.split("\n")).strip() + "\n\n", seconds)
        return said.split("\n")[:-1]


def decode(value: str) -> float:
    """A value of a package, by the published rule: hexadecimal less 2^27, times the prefix."""
    if value == "     nan":
        return float("nan")
    powers = dict(zip("afpnum kMGTPE", range(-18, 19, 3), strict=True))
    return (int(value[:7], 16) - 2**27) * 10.0 ** powers.get(value[7], 0)


def package(line: str) -> dict[str, float]:
    """A package line as values by variable type."""
    assert line.startswith("P")
    return {part[:2]: decode(part[2:10]) for part in line[1:].split(";")}


def packages(lines: list[str]) -> list[dict[str, float]]:
    """The packages among lines."""
    return [package(line) for line in lines if line.startswith("P")]
