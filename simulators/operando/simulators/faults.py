"""Misbehaviour that can be switched on and off, on any simulated instrument.

A fault is written as text, in bench files and at run time: `silence`, `late 3 s`, `silence once`,
`garbage 2 times; late 300 ms`, `none`; with a time before it, it is planned (see `script`):
`at cycle 3 + 10 s: drop 40 s; at 2 h: silence for 30 s`. Faults of the line are made here, between
the instrument and its connections; faults of the instrument are handed to it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line, Peer
from operando.simulators.script import CycleCount, Planned, Timetable, read_script

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


@dataclass(slots=True, eq=False)
class _Active:
    """A fault that is on. left: how many requests or replies it still spoils; 0 until ended."""

    fault: Fault
    left: int


class FaultyPeer:
    """An instrument whose line, or which itself, can be told to misbehave.

    device: any `Peer`; faults inside it need it to be `Misbehaving`. name: for messages and the
    random stream of garbage. start: laboratory time that "at" counts from, s; now when None.
    charge: net charge (C) of a cell by its name ("" is the instrument's own) at a laboratory time,
    for "at cycle"; raises BadInputError where there is none.
    """

    def __init__(
        self,
        device: Peer,
        clock: Clock,
        *,
        name: str = "instrument",
        start: float | None = None,
        charge: Callable[[str, float], float] | None = None,
    ) -> None:
        self.device = device
        self.name = name
        self.well = True
        self._clock = clock
        self._random = random.Random(f"{name} line")
        self._faults: list[_Active] = []
        self._inside: list[Fault] = []
        self._start = start
        self._charge = charge
        self._timetable = Timetable(clock)
        self._counts: dict[str, CycleCount] = {}
        self._lines: dict[Line, _WatchedLine] = {}
        self._refuse_until = float("-inf")
        self._dead_until = float("-inf")

    def inject(self, text: str, given: float | None = None) -> None:
        """Replace faults and plans by those of `text`; "none" ends all that last.

        What is planned adds to the faults that are on when it is due. given: laboratory time from
        which "in" counts and before which nothing can be planned, s; now when None. Raises
        BadInputError, having changed nothing.
        """
        now = self._clock.now()
        start = now if self._start is None else self._start
        given = now if given is None else given
        at_once, planned = self._read(text)
        due = [(0.0 if part.cycle else part.time(start, given), part) for part in planned]
        waiting: dict[str, list[Planned]] = {}
        for _, part in due:
            if part.cycle:
                waiting.setdefault(part.cell, []).append(part)
        for cell in waiting:
            self._charge_of(cell)(now)
        self.close()
        if isinstance(self.device, Misbehaving):
            self.device.behave(now)
        self._faults.clear()
        self._inside.clear()
        for fault in at_once:
            self._begin(fault, now)
        self._judge(now)
        for at, part in due:
            if not part.cycle:
                self._timetable.add(at, partial(self._happen, part))
        for cell, parts in waiting.items():
            begun = partial(self._cycle_begun, parts)
            self._counts[cell] = CycleCount(self._clock, self._charge_of(cell), begun)

    def close(self) -> None:
        """Forget what was planned."""
        self._timetable.clear()
        for count in self._counts.values():
            count.close()
        self._counts.clear()

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
        for active in tuple(self._faults):
            fault = active.fault
            if fault.kind == "silence":
                # What speaks unasked is not heard either.
                return
            self._spend(active)
            if fault.kind == "mute":
                return
            if fault.kind == "garbage":
                data = self._garble(data)
            elif fault.kind == "truncated":
                data = data[: len(data) // 2]
            elif fault.kind == "late":
                at += self._clock.lab(fault.seconds)
        line.send(data, at)

    def _read(self, text: str) -> tuple[list[Fault], list[Planned]]:
        """What happens at once, and what is planned; refuses what the device cannot do."""
        at_once: list[Fault] = []
        planned: list[Planned] = []
        able = self.device.misbehaviours if isinstance(self.device, Misbehaving) else ()
        for part in read_script(text):
            fault = _parse_fault(part.action)
            if fault.kind not in (*LINE_FAULTS, "drop") and fault.kind not in able:
                known = ", ".join((*LINE_FAULTS, "drop", *sorted(able)))
                raise BadInputError(
                    f"{self.name} cannot simulate the fault {fault.kind!r}; it can {known}"
                )
            if part.lasts and (fault.kind in EVENTS or fault.times):
                raise BadInputError(
                    f"fault {part.action!r}: it ends by itself; leave 'for ...' out"
                )
            if part == Planned(part.action):
                at_once.append(fault)
            else:
                planned.append(part)
        return at_once, planned

    def _charge_of(self, cell: str) -> Callable[[float], float]:
        if self._charge is None:
            raise BadInputError(f"{self.name} knows no cell whose cycles could be counted")
        return partial(self._charge, cell)

    def _cycle_begun(self, parts: list[Planned], cycle: int, now: float) -> None:
        for part in parts:
            if part.cycle == cycle:
                self._timetable.add(now + part.after, partial(self._happen, part))

    def _happen(self, part: Planned, now: float) -> None:
        """Carry out one part of the plan."""
        begun = self._begin(_parse_fault(part.action), now)
        self._judge(now)
        if part.lasts:
            self._timetable.add(now + part.lasts, partial(self._end, begun))

    def _begin(self, fault: Fault, now: float) -> _Active:
        """Begin a fault beside those that are on, or carry out one that is an event."""
        active = _Active(fault, fault.times)
        device = self.device if isinstance(self.device, Misbehaving) else None
        if fault.kind in LINE_FAULTS:
            self._faults.append(active)
        elif fault.kind == "drop":
            self._refuse_until = max(self._refuse_until, now + self._clock.lab(fault.seconds))
            self._drop(now)
        elif device is not None and fault.kind == "reboot":
            self._reboot(device, fault, now)
        elif device is not None:
            if fault.kind in DEVICE_FAULTS and not fault.times:
                self._inside.append(fault)
            device.misbehave(fault, now)
        return active

    def _end(self, active: _Active, now: float) -> None:
        """End a fault that lasts; the others stay."""
        if active in self._faults:
            self._faults.remove(active)
            self._judge(now)
        elif active.fault in self._inside and isinstance(self.device, Misbehaving):
            self._inside.remove(active.fault)
            self.device.behave(now)
            for fault in self._inside:
                self.device.misbehave(fault, now)

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
        for active in self._faults:
            if active.fault.kind == "silence":
                self._spend(active)
                return True
        self._judge(now)
        return False

    def _spend(self, active: _Active) -> None:
        """Count a fault down."""
        if active.left:
            active.left -= 1
            if not active.left:
                self._faults.remove(active)

    def _judge(self, now: float) -> None:
        self.well = not self._faults and now >= self._dead_until

    def _garble(self, data: bytes) -> bytes:
        """Random bytes of the same length; a line ending stays, so that the reply is complete."""
        body = data.rstrip(b"\r\n")
        noise = bytes(byte for byte in self._random.randbytes(4 * len(body)) if byte not in b"\r\n")
        return noise[: len(body)] + data[len(body) :]
