"""Misbehaviour that can be switched on and off, on any simulated instrument.

A fault is written as text, in bench files and at run time: `silence`, `late 3 s`, `silence once`,
`garbage 2 times; late 300 ms`, `none`. Faults of the line are made here, between the instrument
and its connections; faults of the instrument are handed to it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line, Peer

LINE_FAULTS = ("silence", "mute", "garbage", "truncated", "late")
"""Faults of the conversation, made outside the instrument."""

EVENTS = ("drop", "reboot", "error")
"""Faults that happen once, at the moment they are injected."""

DEVICE_FAULTS = ("overload", "identity", "nak", "unplug")
"""Faults inside the instrument that last."""

_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|min)")
_TIMES = re.compile(r"\s+(?:once|(\d+)\s+times)$")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    kind: its name. seconds: duration where it has one, s: of the event loop for `late` and
    `drop`, which play on time-outs, of laboratory time for `reboot`. text: the serial number of
    `identity`, the number of `error`. times: how many requests, replies or readings it spoils; 0
    until switched off.
    """

    kind: str
    seconds: float = 0.0
    text: str = ""
    times: int = 0

    def __str__(self) -> str:
        """The text that `parse_faults` reads back."""
        words = [self.kind]
        if self.kind in {"late", "drop", "reboot"} and self.seconds:
            words.append(f"{self.seconds!r} s")
        if self.text:
            words.append(self.text)
        if self.times:
            words.append("once" if self.times == 1 else f"{self.times} times")
        return " ".join(words)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Faults from text, e.g. "late 3 s; garbage once"; empty for "none".

    Raises BadInputError that quotes the part that is wrong.
    """
    faults: list[Fault] = []
    for part in text.split(";"):
        words = part.strip()
        if words and words != "none":
            faults.append(_parse_fault(words))
    return tuple(faults)


def _parse_fault(words: str) -> Fault:
    times = 0
    counted = _TIMES.search(words)
    if counted:
        times = int(counted[1]) if counted[1] else 1
        if times < 1:
            raise BadInputError(f"fault {words!r}: write at least 1 time, or leave the count out")
        words = words[: counted.start()]
    kind, _, argument = words.partition(" ")
    argument = argument.strip()
    if kind in EVENTS and times:
        raise BadInputError(f"fault {words!r} happens once by nature: leave the count out")
    if kind in {"late", "drop", "reboot"}:
        if not argument and kind != "late":
            return Fault(kind)
        duration = _DURATION.fullmatch(argument)
        if not duration:
            raise BadInputError(f"fault {words!r}: write a duration, e.g. '{kind} 3 s'")
        return Fault(kind, seconds=float(duration[1]) * _UNITS[duration[2]], times=times)
    if kind == "identity":
        if not argument or " " in argument or times:
            raise BadInputError(f"fault {words!r}: write one serial number: 'identity 04500007'")
        return Fault(kind, text=argument)
    if kind == "error":
        if not re.fullmatch(r"-?\d{1,4}", argument or "-200"):
            raise BadInputError(f"fault {words!r}: write a number, e.g. 'error -221'")
        return Fault(kind, text=argument or "-200")
    if kind not in LINE_FAULTS + DEVICE_FAULTS:
        known = ", ".join(("none", *LINE_FAULTS, *DEVICE_FAULTS, *EVENTS))
        raise BadInputError(f"unknown fault {words!r}; known are {known}")
    if argument:
        raise BadInputError(f"fault {words!r}: {kind!r} takes no {argument!r}")
    return Fault(kind, times=times)


@runtime_checkable
class Misbehaving(Protocol):
    """A device that can be told to misbehave inside, not only on its line.

    misbehaviours: kinds of `DEVICE_FAULTS` and `EVENTS` that it can simulate.
    power_on_time: laboratory time between power and the first answer, s.
    link_drops_on_reboot: whether its connections break when it loses power.
    """

    misbehaviours: frozenset[str]
    power_on_time: float
    link_drops_on_reboot: bool

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        ...

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        ...


class _WatchedLine:
    """A connection as the instrument sees it, with the faults of the line in between."""

    __slots__ = ("line", "owner")

    def __init__(self, owner: FaultyPeer, line: Line) -> None:
        self.owner = owner
        self.line = line

    def send(self, data: bytes, at: float) -> None:
        """Deliver bytes to the host, unless a fault is on."""
        if self.owner.well:
            self.line.send(data, at)
        else:
            self.owner.spoil(self.line, data, at)

    def drop(self) -> None:
        """Break the connection."""
        self.line.drop()


class FaultyPeer:
    """An instrument whose line, or which itself, can be told to misbehave.

    device: any `Peer`; faults inside it need it to be `Misbehaving`. name: for messages and the
    random stream of garbage.
    """

    def __init__(self, device: Peer, clock: Clock, *, name: str = "instrument") -> None:
        self.device = device
        self.name = name
        self.well = True
        self._clock = clock
        self._random = random.Random(f"{name} line")
        self._faults: list[Fault] = []
        self._lines: dict[Line, _WatchedLine] = {}
        self._refuse_until = float("-inf")
        self._dead_until = float("-inf")

    def inject(self, text: str) -> None:
        """Replace the faults by those of `text`; "none" ends all that last.

        Raises BadInputError, having changed nothing.
        """
        now = self._clock.now()
        faults = parse_faults(text)
        device = self._misbehaving(faults)
        if device is not None:
            device.behave(now)
        self._faults = [fault for fault in faults if fault.kind in LINE_FAULTS]
        self._judge(now)
        for fault in faults:
            if fault.kind == "drop":
                self._refuse_until = now + self._clock.lab(fault.seconds)
                self._drop(now)
            elif fault.kind == "reboot" and device is not None:
                self._reboot(device, fault, now)
            elif fault.kind not in LINE_FAULTS and device is not None:
                device.misbehave(fault, now)

    def connected(self, line: Line, now: float) -> None:
        """A host opens a connection; refused while the link is down."""
        if now < self._refuse_until:
            line.drop()
            return
        watched = self._lines[line] = _WatchedLine(self, line)
        self.device.connected(watched, now)

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Bytes of a host; swallowed while the instrument is silent."""
        if not self.well and self._swallows(now):
            return
        watched = self._lines.get(line)
        if watched is not None:
            self.device.receive(watched, data, now)

    def disconnected(self, line: Line, now: float) -> None:
        """The connection is gone."""
        watched = self._lines.pop(line, None)
        if watched is not None:
            self.device.disconnected(watched, now)

    def spoil(self, line: Line, data: bytes, at: float) -> None:
        """Deliver a reply with the faults that are on."""
        if at < self._dead_until:
            return
        for fault in tuple(self._faults):
            if fault.kind == "silence":
                continue
            self._spend(fault)
            if fault.kind == "mute":
                return
            if fault.kind == "garbage":
                data = self._garble(data)
            elif fault.kind == "truncated":
                data = data[: len(data) // 2]
            elif fault.kind == "late":
                at += self._clock.lab(fault.seconds)
        line.send(data, at)

    def _misbehaving(self, faults: tuple[Fault, ...]) -> Misbehaving | None:
        """The device, if it misbehaves at all; refuses what it cannot, before any change."""
        device = self.device if isinstance(self.device, Misbehaving) else None
        able = device.misbehaviours if device is not None else frozenset[str]()
        for fault in faults:
            if fault.kind not in (*LINE_FAULTS, "drop") and fault.kind not in able:
                known = ", ".join((*LINE_FAULTS, "drop", *sorted(able)))
                raise BadInputError(
                    f"{self.name} cannot simulate the fault {fault.kind!r}; it can {known}"
                )
        return device

    def _reboot(self, device: Misbehaving, fault: Fault, now: float) -> None:
        boot_time = fault.seconds or device.power_on_time
        self._dead_until = now + boot_time
        self._judge(now)
        if device.link_drops_on_reboot:
            self._refuse_until = max(self._refuse_until, self._dead_until)
            self._drop(now)
        device.misbehave(replace(fault, seconds=boot_time), now)

    def _drop(self, now: float) -> None:
        for line, watched in tuple(self._lines.items()):
            del self._lines[line]
            self.device.disconnected(watched, now)
            line.drop()

    def _swallows(self, now: float) -> bool:
        if now < self._dead_until:
            return True
        for fault in self._faults:
            if fault.kind == "silence":
                self._spend(fault)
                return True
        self._judge(now)
        return False

    def _spend(self, fault: Fault) -> None:
        """Count a fault down."""
        if not fault.times:
            return
        at = self._faults.index(fault)
        if fault.times == 1:
            del self._faults[at]
        else:
            self._faults[at] = replace(fault, times=fault.times - 1)

    def _judge(self, now: float) -> None:
        self.well = not self._faults and now >= self._dead_until

    def _garble(self, data: bytes) -> bytes:
        """Random bytes of the same length; a line ending stays, so that the reply is complete."""
        body = data.rstrip(b"\r\n")
        noise = bytes(byte for byte in self._random.randbytes(4 * len(body)) if byte not in b"\r\n")
        return noise[: len(body)] + data[len(body) :]
