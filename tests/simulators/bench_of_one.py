"""A small cell, a small frame and a host for tests of simulated instruments."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import NamedTuple

from operando.instruments.clock import Clock, run
from operando.instruments.samples import Regulation
from operando.instruments.wires import MemoryWire, Peer, Switchboard, Terminated
from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450
from operando.simulators.devices.ports import Site
from operando.simulators.faults import FaultyPeer


class State(NamedTuple):
    """Terminal state: V, A, regulation."""

    voltage: float
    current: float
    regulation: Regulation


class ResistorCell:
    """A voltage source of `emf` V behind `resistance` ohm; counts the charge that passes, C."""

    def __init__(self, emf: float = 3.7, resistance: float = 10.0) -> None:
        self.emf = emf
        self.resistance = resistance
        self.charge = 0.0
        self._now = 0.0
        self._state = State(emf, 0.0, Regulation.OPEN)

    def _advance(self, now: float) -> None:
        assert now >= self._now, "time ran backwards"
        self.charge += self._state.current * (now - self._now)
        self._now = now

    def open_circuit(self, now: float) -> None:
        self._advance(now)
        self._state = State(self.emf, 0.0, Regulation.OPEN)

    def source_voltage(
        self, now: float, level: float, current_limit: float, resistance: float = 0.0
    ) -> None:
        self._advance(now)
        current = (level - self.emf) / (self.resistance + resistance)
        regulation = Regulation.VOLTAGE
        if abs(current) > current_limit:
            current = current_limit if current > 0 else -current_limit
            regulation = Regulation.CURRENT
        self._state = State(self.emf + current * self.resistance, current, regulation)

    def source_current(self, now: float, level: float, voltage_limit: float) -> None:
        self._advance(now)
        voltage = self.emf + level * self.resistance
        regulation = Regulation.CURRENT
        if abs(voltage) > voltage_limit:
            voltage = voltage_limit if voltage > 0 else -voltage_limit
            level = (voltage - self.emf) / self.resistance
            regulation = Regulation.VOLTAGE
        self._state = State(voltage, level, regulation)

    def terminal(self, now: float) -> State:
        self._advance(now)
        return self._state


class Spring:
    """A frame whose force is set by the test: `newtons` at time zero, rising `rate` N/s."""

    def __init__(self, newtons: float = 0.0, rate: float = 0.0) -> None:
        self.newtons = newtons
        self.rate = rate

    area = 1e-4

    def force(self, now: float) -> float:
        return self.newtons + self.rate * now

    def press(self, now: float, force: float) -> None:
        self.newtons = force - self.rate * now


class Host:
    """Talks to one instrument through memory, in lines."""

    def __init__(self, wire: MemoryWire, clock: Clock, end: bytes = b"\n") -> None:
        self.wire = wire
        self.clock = clock
        self._framing = Terminated(end)
        self._end = end

    async def tell(self, text: str) -> None:
        """Send a line that has no reply."""
        await self.wire.send(text.encode() + self._end, 1.0)

    async def ask(self, text: str, timeout: float = 5.0) -> str:
        """Send a line and return its reply."""
        reply = await self.wire.exchange(text.encode() + self._end, self._framing, timeout)
        return reply.decode("latin-1")

    async def numbers(self, text: str) -> list[float]:
        """Ask for numbers."""
        return [float(part) for part in (await self.ask(text)).split(",")]

    async def errors(self) -> list[int]:
        """Empty the error queue; the numbers in it."""
        codes = []
        while (code := int((await self.ask(":SYST:ERR?")).split(",")[0])) != 0:
            codes.append(code)
        return codes


async def connect(device: Peer, clock: Clock, end: bytes = b"\n") -> tuple[Host, FaultyPeer]:
    """A host with an open session to an instrument, and the instrument's faults."""
    peer = FaultyPeer(device, clock, name="dut")
    switchboard = Switchboard()
    switchboard.attach("memory", peer)
    wire = switchboard.wire("memory", clock)
    await wire.open()
    return Host(wire, clock, end), peer


class Meter(NamedTuple):
    """A source meter on a cell, and a host that talks to it."""

    host: Host
    device: SimulatedKeithley2450
    cell: ResistorCell
    faults: FaultyPeer


async def meter_on(
    cell: ResistorCell | None = None,
    *,
    model: type[SimulatedKeithley2450] = SimulatedKeithley2450,
    **options: object,
) -> Meter:
    """A source meter, without noise unless asked for, on a cell; in virtual time."""
    clock = Clock("virtual")
    cell = cell or ResistorCell()
    device = model("smu1", site=Site(cell), clock=clock, options={"noise": 0.0, **options})
    host, faults = await connect(device, clock)
    return Meter(host, device, cell, faults)


def virtual(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Run a test in virtual time."""

    @wraps(test)
    def wrapper(*args: object, **kwargs: object) -> None:
        run(test(*args, **kwargs), virtual=True)

    return wrapper
