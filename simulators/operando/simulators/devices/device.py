"""What simulated instruments have in common: options, noise, order of work, misbehaviour."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import ClassVar

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line
from operando.simulators.faults import Fault
from operando.simulators.timing import set_timer


def noise_stream(name: str, seed: int) -> random.Random:
    """A random stream that depends on the instrument's name and a seed alone.

    `random.Random` hashes a text with SHA-512, so the stream is the same in every process.
    """
    return random.Random(f"{name}|{seed}")


class Options:
    """The own keys of a simulated instrument or room in the bench file; each may be taken once.

    place: "[rooms.NAME]", or the bare name of an instrument for `[instruments.NAME.simulated]`.
    Raises BadInputError that names the place, the key and what would be right.
    """

    def __init__(self, place: str, values: Mapping[str, object]) -> None:
        named = place.startswith("[")
        self._place = place if named else f"[instruments.{place}.simulated]"
        self._values = dict(values)
        self._known: list[str] = []

    def number(
        self, key: str, default: float, *, low: float = float("-inf"), high: float = float("inf")
    ) -> float:
        """A number within bounds, in the SI unit that the key's description gives."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number in SI units")
        if not low <= value <= high:
            raise self._wrong(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, key: str, default: int, *, low: int = 0, high: int = 2**31) -> int:
        """A whole number within bounds."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: str, choices: tuple[str, ...] = ()) -> str:
        """A text, one of `choices` where there are any."""
        value = self._take(key, default)
        if not isinstance(value, str) or (choices and value not in choices):
            wanted = "one of " + ", ".join(choices) if choices else "a text"
            raise self._wrong(key, value, wanted)
        return value

    def finish(self) -> None:
        """Refuse what is left over."""
        if self._values:
            left = ", ".join(sorted(self._values))
            known = ", ".join(sorted(self._known))
            raise BadInputError(f"{self._place}: unknown key {left}; it knows {known}")

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._values.pop(key, default)

    def _wrong(self, key: str, value: object, wanted: str) -> BadInputError:
        return BadInputError(f"{self._place} {key} = {value!r}: write {wanted}")


class Device:
    """Base of our simulated instruments.

    name: on the bench. clock: laboratory time. A device does one thing after the other: while
    `busy_until` lies ahead, requests wait in `_backlog` and a timer takes them up again.
    """

    link_drops_on_reboot: ClassVar[bool] = False
    """A LAN socket breaks when the instrument loses power; a serial line does not."""
    power_on_time: ClassVar[float] = 0.0
    """Laboratory time between power and the first answer, s."""
    has_relay: ClassVar[bool] = False
    misbehaviours: frozenset[str] = frozenset({"overload", "nak", "reboot"})
    """Faults inside the instrument that it can simulate."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.busy_until = float("-inf")
        self._timers: set[asyncio.TimerHandle] = set()
        self._overloads = 0
        self._refusals = 0

    @property
    def relay_closed(self) -> bool:
        """True state of the output relay."""
        return False

    def connected(self, line: Line, now: float) -> None:
        """A host opened a connection."""

    def disconnected(self, line: Line, now: float) -> None:
        """The connection is gone."""

    def close(self) -> None:
        """Forget every timer."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault inside the instrument, or carry out one that is an event."""
        lasting = fault.times or -1
        if fault.kind == "overload":
            self._overloads = lasting
        elif fault.kind == "nak":
            self._refusals = lasting
        elif fault.kind == "reboot":
            self.close()
            self._overloads = self._refusals = 0
            self.busy_until = float("-inf")
            self.power_cycle(now, fault.seconds)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        self._overloads = self._refusals = 0

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s) and come back `boot_time` (s) later."""

    def _overloaded(self) -> bool:
        """Whether this reading is overloaded; counts it."""
        if self._overloads > 0:
            self._overloads -= 1
            return True
        return self._overloads < 0

    def _refusing(self) -> bool:
        """Whether this request is to be refused; counts it."""
        if self._refusals > 0:
            self._refusals -= 1
            return True
        return self._refusals < 0

    def _later(self, at: float, action: Callable[[float], None]) -> None:
        """Call `action` with the laboratory time, not before laboratory time `at` (s)."""

        def fire() -> None:
            self._timers.discard(timer)
            now = self.clock.now()
            if now < at:
                self._later(at, action)
            else:
                action(now)

        timer = set_timer(self.clock, at, fire)
        self._timers.add(timer)
