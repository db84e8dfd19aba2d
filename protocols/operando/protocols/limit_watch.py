"""The limits of a run at work: they act on every reading and on silence, and are journalled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace

from operando.instruments.clock import Clock
from operando.instruments.conditions import Condition, parse
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Action, Firing, Limit, LimitMonitor
from operando.instruments.recorder import JSON, Entry
from operando.protocols.entries import firing_entry
from operando.protocols.run import RunSettings, RunState
from operando.protocols.sheet import on_board_limits
from operando.protocols.tally import ELECTRICAL, Tally

READING_TIME = 2.0
"""Wall s that a reading may take before its quantity can count as stale: time-out and repeats."""


class LimitWatch:
    """Lets limits interrupt a run.

    interrupt: called with the state and the reason. note: appends to the journal. on_board: whether
    the instrument carries steps out by itself, and enforces what it can of the limits.
    """

    def __init__(
        self,
        settings: RunSettings,
        clock: Clock,
        tally: Tally,
        interrupt: Callable[[RunState, str], None],
        note: Callable[[Entry, Mapping[str, JSON]], Awaitable[None]],
    ) -> None:
        # A reading may be on its way for as long as a time-out, which is wall time.
        patience = clock.lab(READING_TIME)
        self._limits = LimitMonitor(
            replace(limit, stale_after=max(limit.stale_after, patience))
            for limit in settings.limits
        )
        self._protection = settings.protection
        self._enforced_on_board = on_board_limits(settings.limits, settings.protection)
        self._clock = clock
        self._tally = tally
        self._interrupt = interrupt
        self._note = note
        self._fired: list[Firing] = []
        self._journalling = asyncio.Lock()
        self._electrical = frozenset(
            limit.name for limit in settings.limits if limit.when.quantities <= ELECTRICAL
        )
        self._unread = False
        self._unread_until = -math.inf
        self.on_board = False

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in force."""
        return self._limits.limits

    def unread(self, quiet: bool) -> None:
        """Excuse electrical quantities while a spectrum is measured, in which none is read.

        What else is watched is read meanwhile, and acts.
        """
        if self._unread and not quiet:
            self._limits.reset(self._clock.now() - self._tally.start, self._electrical)
        self._unread, self._unread_until = quiet, self._clock.now()

    def change(self, name: str, when: Condition) -> tuple[str, str]:
        """Let a limit act at another condition on the same quantities; both as text.

        What the instrument enforces by itself stays as it was programmed. Raises BadInputError.
        """
        old = next((limit for limit in self._limits.limits if limit.name == name), None)
        if old is not None and old.when.quantities != when.quantities:
            raise BadInputError(
                f"limit {name} watches {', '.join(sorted(old.when.quantities))}; "
                f"'{when}' would leave that unguarded"
            )
        new = Limit(name, when, Action.TRIP) if old is None else replace(old, when=when)
        changed = self._limits.exchange(new)
        # What was programmed may not reach as far as the new one.
        self._enforced_on_board &= on_board_limits(self.limits, self._protection)
        return str(changed.when), str(when)

    def repeat(self, edits: Iterable[Mapping[str, JSON]]) -> None:
        """Change limits as the entries of a journal say that they were changed."""
        for edit in edits:
            if edit.get("what") == "limit":
                self.change(str(edit.get("name")), parse(str(edit.get("new"))))

    def acts_on(self, quantity: str) -> bool:
        """Whether a limit that does more than warn watches a quantity."""
        return any(
            quantity in limit.when.quantities and limit.action is not Action.WARN
            for limit in self._limits.limits
        )

    def update(self, time: float, quantities: Collection[str]) -> bool:
        """Judge new values of some quantities; whether a limit acted. time: s since the start."""
        return self._act(self._limits.update(time, self._tally.values, quantities))

    def reset(self) -> None:
        """Restart windows, timers and graces, as after a pause. Latched trips stay latched."""
        self._limits.reset(self._clock.now() - self._tally.start)

    async def watch(
        self, is_running: Callable[[], bool], on_crash: Callable[[str, str], None]
    ) -> None:
        """Judge silence, and journal what acted, until cancelled. on_crash: told of a bug."""
        try:
            await self._watch(is_running)
        except Exception as error:
            on_crash("the limits", f"{type(error).__name__}: {error}")
            raise

    async def _watch(self, is_running: Callable[[], bool]) -> None:
        shortest = min(limit.stale_after for limit in self._limits.limits)
        period = max(self._clock.lab(0.1), shortest / 4.0)
        while True:
            await self._clock.sleep(period)
            if is_running():
                now, tally = self._clock.now(), self._tally
                excused = self._enforced_on_board if self.on_board else frozenset()
                ages = tally.ages(now)
                waited = 0.0 if self._unread else now - self._unread_until
                ages |= {name: min(age, waited) for name, age in ages.items() if name in ELECTRICAL}
                self._act(self._limits.check_stale(now - tally.start, ages, excused))
            await self.journal()

    async def journal(self) -> None:
        """Journal the limits that acted; one task at a time, each exactly once."""
        async with self._journalling:
            while self._fired:
                await self._note(Entry.LIMIT, firing_entry(self._fired[0]))
                self._fired.pop(0)

    def _act(self, fired: Collection[Firing]) -> bool:
        for firing in fired:
            self._fired.append(firing)
            if firing.action is Action.TRIP:
                self._interrupt(RunState.TRIPPED, str(firing))
            elif firing.action is Action.HOLD:
                self._interrupt(RunState.HELD, str(firing))
        return bool(fired)
