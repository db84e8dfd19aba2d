"""Scripts: what is to happen when, as text.

    at 2 h: silence for 30 s
    at cycle 3 + 10 s: drop 40 s
    in 5 min: late 2 s for 1 min; garbage once

`at` counts from the start of the bench, `in` from the moment the script is given, `at cycle` from
the start of a cycle of the cell. A part without a time acts at once. Parts are separated by `;` or
by lines. What is to happen is read by whoever carries it out: an instrument's faults, a room.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.simulators.timing import set_timer

UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|min|h|d)")
_PLANNED = re.compile(r"(at|in)\s+([^:]*):(.*)")
_CYCLE = re.compile(r"cycle\s+(\d{1,6})(?:\s+of\s+([A-Za-z0-9_-]+))?")
_LASTING = re.compile(r"(.*\S)\s+for\s+(\S.*)")


@dataclass(frozen=True, slots=True)
class Planned:
    """One part of a script.

    action: what is to happen. after: s of laboratory time after what `since` names: "start" of the
    bench, "now" (when the script is given), "cycle" (start of a cycle). cycle: its number from 1.
    cell: whose cycle, empty for the instrument's own. lasts: s of laboratory time; 0 is not said.
    """

    action: str
    after: float = 0.0
    since: str = "now"
    cycle: int = 0
    cell: str = ""
    lasts: float = 0.0

    def time(self, start: float, now: float) -> float:
        """Laboratory time (s) at which it is due; start: of the bench.

        Raises BadInputError for a time that has passed, ValueError for a cycle.
        """
        if self.since == "now":
            return now + self.after
        if self.since != "start":
            raise ValueError("when a cycle starts is not known before")
        due = start + self.after
        if due < now:
            raise BadInputError(
                f"{self.action!r} at {self.after:g} s after the start: that was "
                f"{now - due:.3g} s ago; write 'in 10 s: {self.action}'"
            )
        return due


def read_script(text: str) -> tuple[Planned, ...]:
    """The parts of a script, in the order written; "none" and empty parts are left out.

    Raises BadInputError that quotes the part that is wrong.
    """
    parts = (" ".join(part.split()) for part in re.split(r"[;\n]", text))
    return tuple(_part(part) for part in parts if part and part != "none")


def read_duration(text: str, where: str) -> float:
    """A duration in s. where: what the text is part of, for the message."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        units = ", ".join(UNITS)
        raise BadInputError(f"{where!r}: {text.strip()!r} is no duration; write '10 s' ({units})")
    return float(found[1]) * UNITS[found[2]]


def _part(part: str) -> Planned:
    planned = _PLANNED.fullmatch(part)
    action = planned[3].strip() if planned else part
    lasts = 0.0
    if found := _LASTING.fullmatch(action):
        action, lasts = found[1], read_duration(found[2], part)
        if not lasts > 0.0:
            raise BadInputError(f"{part!r}: what lasts no time does not happen")
    if planned is None:
        return Planned(action, lasts=lasts)
    if not action or action == "none":
        raise BadInputError(f"{part!r}: write what is to happen, e.g. 'at 2 h: silence for 30 s'")
    first, *rest = planned[2].split("+")
    after = sum(read_duration(piece, part) for piece in rest)
    cycle = _CYCLE.fullmatch(first.strip())
    if cycle is None:
        after += read_duration(first, part)
        return Planned(action, after, "start" if planned[1] == "at" else "now", lasts=lasts)
    if planned[1] == "in" or int(cycle[1]) < 1:
        raise BadInputError(f"{part!r}: cycles count from 1; write 'at cycle 3 + 10 s: ...'")
    return Planned(action, after, "cycle", int(cycle[1]), cycle[2] or "", lasts)


class Timetable:
    """Actions at laboratory times, through timers of the running event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timers: set[asyncio.TimerHandle] = set()

    def add(self, at: float, action: Callable[[float], None]) -> None:
        """Call `action` with the laboratory time, not before `at` (s)."""

        def fire() -> None:
            self._timers.discard(timer)
            now = self._clock.now()
            if now < at:  # timers and clock may differ by a tick
                self.add(at, action)
            else:
                action(now)

        timer = set_timer(self._clock, at, fire)
        self._timers.add(timer)

    def clear(self) -> None:
        """Forget every action."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


LOOK = 1.0
"""Time between two looks at a cell whose cycles are counted, s: how closely a start is known."""
SHORTEST_LOOK = 0.02
"""The same in wall time where laboratory time runs fast, s."""
CURRENT = 1e-7
"""Mean current between two looks above which a cell is being charged or discharged, A; below every
cell of the presets at C/1000, above what rounding leaves of a charge (assumed)."""


class CycleCount:
    """Counts the cycles of a cell from the sign of the charge that passes.

    Cycle 1 begins with the first charge or discharge after the count began, each further one when
    the current has had the other sign and takes the first one's again. Rests do not count; a pulse
    of the other sign does. The cell is only looked at, which leaves no trace in it.
    """

    def __init__(
        self, clock: Clock, charge: Callable[[float], float], begun: Callable[[int, float], None]
    ) -> None:
        """charge: net charge (C) of the cell at a laboratory time. begun: told number and time."""
        self.cycle = 0
        self._charge = charge
        self._begun = begun
        self._clock = clock
        self._table = Timetable(clock)
        self._first = self._last = 0
        now = clock.now()
        self._seen = (now, charge(now))
        self._wait()

    def close(self) -> None:
        """Count no more."""
        self._table.clear()

    def _wait(self) -> None:
        period = max(LOOK, 0.0 if self._clock.mode == "virtual" else self._clock.lab(SHORTEST_LOOK))
        self._table.add(self._seen[0] + period, self._look)

    def _look(self, now: float) -> None:
        before, charge = self._seen
        self._seen = (now, self._charge(now))
        passed = self._seen[1] - charge
        if abs(passed) > CURRENT * (now - before):
            sign = 1 if passed > 0.0 else -1
            self._first = self._first or sign
            if sign == self._first != self._last:
                self.cycle += 1
                self._begun(self.cycle, now)
            self._last = sign
        self._wait()
