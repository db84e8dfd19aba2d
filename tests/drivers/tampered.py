"""A line that damages what an instrument says, and what a test draws to damage it with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

from conformance import SpyWire, Subject
from operando.instruments.clock import VirtualTimeLoop
from operando.instruments.registry import DRIVERS, load
from operando.instruments.wires import Line, Peer, Switchboard

T = TypeVar("T")


class Wound(NamedTuple):
    """One change: what is done, where (modulo the length), to how many bytes, with which."""

    kind: str
    at: int
    size: int
    with_: bytes

    def inflict(self, data: bytes) -> bytes:
        """The changed bytes."""
        at = self.at % (len(data) or 1)
        end = at + self.size
        match self.kind:
            case "change":
                return data[:at] + self.with_ + data[at + len(self.with_) :]
            case "flip":
                byte = data[at : at + 1] or b"\0"
                return data[:at] + bytes([byte[0] ^ 1 << self.size % 8]) + data[at + 1 :]
            case "lose":
                return data[:at] + data[end:]
            case "double":
                return data[:end] + data[at:]
            case "insert":
                return data[:at] + self.with_ + data[at:]
            case "cut":
                return data[:at]
            case "swap":
                return data[:at] + data[at : at + 2][::-1] + data[at + 2 :]
            case "replace":
                return self.with_
            case _:
                return data + self.with_


LIKELY = st.text("0123456789+-.,eEnaif_ <>&;\"'{}[]SDPOhT?\r\n\t", min_size=1, max_size=6)
"""Bytes that a parser may take for something; anything else is refused too easily."""

wounds = st.lists(
    st.builds(
        Wound,
        st.sampled_from(
            [
                "change",
                "change",
                "flip",
                "lose",
                "double",
                "insert",
                "cut",
                "swap",
                "replace",
                "add",
            ]
        ),
        st.integers(0, 4000),
        st.integers(1, 12),
        st.one_of(st.binary(min_size=1, max_size=8), LIKELY.map(str.encode)),
    ),
    min_size=1,
    max_size=3,
)


def inflicted(data: bytes, damage: Sequence[Wound]) -> bytes:
    """The bytes with every wound."""
    for wound in damage:
        data = wound.inflict(data)
    return data


class _Line:
    """The instrument's end, with a hand between it and the host."""

    def __init__(self, line: Line, between: TamperedPeer) -> None:
        self._line = line
        self._between = between

    def send(self, data: bytes, at: float) -> None:
        changed = self._between.change(data)
        self._between.heard.append(changed)
        if changed:
            self._line.send(changed, at)

    def drop(self) -> None:
        self._line.drop()


class TamperedPeer:
    """An instrument whose words pass `change` on their way. heard: what the host was given."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._lines: dict[Line, _Line] = {}
        self.heard: list[bytes] = []
        self.change: Callable[[bytes], bytes] = lambda data: data

    def connected(self, line: Line, now: float) -> None:
        """A host came."""
        self._lines[line] = _Line(line, self)
        self._peer.connected(self._lines[line], now)

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Nothing that the host says is changed."""
        self._peer.receive(self._lines[line], data, now)

    def disconnected(self, line: Line, now: float) -> None:
        """The host went."""
        self._peer.disconnected(self._lines.pop(line), now)


class Patient:
    """A driver at work on its simulated twin, for many examples one after the other.

    A context manager with a virtual event loop of its own. before: sent before all else.
    """

    def __init__(self, name: str, folder: Path, settings: Any = None, before: bytes = b"") -> None:
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self._name = name
        self._folder = folder
        self._settings = settings
        self._before = before

    def __enter__(self) -> Patient:
        try:
            self.do(self._begin())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.tamper.change = lambda data: data
        self.do(self.driver.close())
        self.do(self.subject.simulation.close())
        self._runner.close()

    def do(self, doing: Any) -> Any:
        """Run a coroutine to its end."""
        return self._runner.run(doing)

    async def _begin(self) -> None:
        subject = self.subject = Subject(self._name, load(DRIVERS, self._name), self._folder)
        address = subject.address
        self.tamper = TamperedPeer(subject.switchboard.peer(address))
        board = Switchboard()
        board.attach(address, self.tamper)
        wire = SpyWire(board.wire(address, subject.clock))
        if self._settings is None:
            self.driver = subject.make(wire)
        else:
            self.driver = subject.driver(wire, subject.clock, name="it", settings=self._settings)
        subject.instrument = self.driver
        if self._before:
            await wire.open()
            await wire.send(self._before, 1.0)
            await subject.clock.sleep(5.0)
        await subject.charging()
        await subject.clock.sleep(5.0)

    async def measure(self, damage: Sequence[Wound], which: int = 0) -> Any:
        """Measure while the reply number `which` is damaged; heals the line afterwards."""
        count = 0

        def change(data: bytes) -> bytes:
            nonlocal count
            count += 1
            return inflicted(data, damage) if count == which + 1 else data

        return await self._while(change, self.driver.measure())

    async def measure_as(self, reply: bytes, mark: bytes = b"") -> Any:
        """Measure while another reply comes instead of the first that holds a mark."""
        return await self.hears(reply, mark, self.driver.measure())

    async def hears(self, reply: bytes, mark: bytes, doing: Awaitable[T]) -> T:
        """Do something while another reply comes instead of the first that holds a mark."""
        waiting = [reply]

        def change(data: bytes) -> bytes:
            return waiting.pop() if waiting and mark in data else data

        return await self._while(change, doing)

    async def _while(self, change: Callable[[bytes], bytes], doing: Awaitable[T]) -> T:
        self.tamper.heard.clear()
        self.tamper.change = change
        try:
            return await doing
        finally:
            self.tamper.change = lambda data: data
