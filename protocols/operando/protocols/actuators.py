"""The chamber and the press of one channel, as its run drives them.

A set-point is told in the background, so that the cell is watched meanwhile. One that was lost is
told again while its instrument can be read, and the run holds when that goes on failing. A pause
leaves all as it is. The end of a run does not: what the run has driven is brought into its safe
state, and what it has not is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    RecordError,
    SafeStateError,
    UnsupportedError,
)
from operando.instruments.recorder import JSON, Entry
from operando.instruments.roles import Instrument
from operando.instruments.safety import secure
from operando.protocols.actuator_steps import HoldPressure, HoldTemperature
from operando.protocols.run import Channel
from operando.protocols.steps import Step

Note = Callable[[Entry, Mapping[str, JSON]], Awaitable[None]]
OnActuator = Callable[[str], Awaitable[None]]
"""Does something about an instrument, by its name on the bench."""

VERIFIED = "verified"

ATTEMPTS = 3
"""Times that an instrument which can be read may fail to be told again before the run holds."""

PAUSE = 5.0
"""Seconds of the event loop between them, and more, up to its next reading."""


def no_actuator(role: str, label: str, channel: str, where: str = "") -> str:
    """What to say of a step whose actuator is missing. where: place of the channel."""
    place = where or "the bench file"
    return (
        f"step '{label}' needs a {role}, and channel {channel} has none; write {role} = \"...\" "
        f"into [channels.{channel}] ({place})"
    )


def check_actuator(step: Step, actuators: Mapping[str, Any], channel: str) -> None:
    """Refuse a step that asks for what is not on the channel or not in its settings.

    actuators: instruments by role. Raises BadInputError, UnsupportedError; touches nothing.
    """
    if not isinstance(step, HoldTemperature | HoldPressure):
        return
    actuator = actuators.get(step.role)
    if actuator is None:
        raise BadInputError(no_actuator(step.role, step.label, channel))
    actuator.check(**step.asked)


class Actuators:
    """What one run asks of its channel's chamber and press, and whether it stands.

    guard: puts an instrument under guard before it is driven. stop_watching: ends its polls. hold:
    opens the cell's circuit and waits for an operator, for a reason in words.
    verdicts: of the safe state that was asked for, by instrument: VERIFIED or what is wrong.
    """

    def __init__(
        self,
        channel: Channel,
        note: Note,
        guard: OnActuator | None,
        stop_watching: OnActuator,
        hold: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._names = channel.actuators
        self._instruments: dict[str, Any] = {
            role: channel.monitors[name] for role, name in channel.actuators.items()
        }
        self._note = note
        self._guard = guard
        self._stop_watching = stop_watching
        self._hold = hold
        self._wanted: dict[str, HoldTemperature | HoldPressure] = {}
        self._asked_by: dict[str, int] = {}
        self._told_by: dict[str, int] = {}
        self._standing: set[str] = set()
        self._announced: set[str] = set()
        self._driven: set[str] = set()
        self._unread: set[str] = set()
        self._failures: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._telling: asyncio.Task[None] | None = None
        self._securing: asyncio.Task[None] | None = None
        self.verdicts: dict[str, str] = {}

    # ---- while the run goes on -----------------------------------------------------------

    def begin(self, step: Step, index: int) -> None:
        """Tell what step number `index` asks for, and what no longer stands, in the background.

        Raises BadInputError, UnsupportedError for a step that cannot be done; nothing is told.
        """
        check_actuator(step, self._instruments, self._channel.name)
        if isinstance(step, HoldTemperature | HoldPressure):
            # A step that is taken up again after a pause has been told already.
            if self._asked_by.get(step.role) != index:
                self._standing.discard(step.role)
            self._wanted[step.role], self._asked_by[step.role] = step, index
        self.tell_again()

    async def recall(self, step: Step, index: int) -> None:
        """Step number `index` was begun before this program; what it asked for still counts.

        It is told again with the next step, and made safe at the end even if there is none.
        """
        if isinstance(step, HoldTemperature | HoldPressure):
            if step.role not in self._driven and self._guard is not None:
                await self._guard(self._names[step.role])
            self._driven.add(step.role)
            self._wanted[step.role], self._asked_by[step.role] = step, index

    def tell_again(self) -> None:
        """Tell what no longer stands, in the background."""
        last = self._telling
        ended = last is None or (last.done() and (last.cancelled() or not last.exception()))
        if ended and self._securing is None:
            self._telling = asyncio.create_task(self._tell())

    def heard(self, name: str) -> None:
        """An instrument could be read: what it was not told again a while ago is told now."""
        self._unread.discard(name)
        roles = [role for role in self._retry_at if self._names[role] == name]
        if roles and asyncio.get_running_loop().time() >= self._retry_at[roles[0]]:
            self.tell_again()

    def check(self) -> None:
        """Raise what kept a set-point from being told."""
        if self._telling is not None and self._telling.done():
            self._telling.result()

    async def told(self, step: Step) -> None:
        """Wait until what a step asks for has been read back. Raises what kept it from that.

        Other steps do not wait for what is told again: their current may still be on.
        """
        if isinstance(step, HoldTemperature | HoldPressure) and self._telling is not None:
            await asyncio.shield(self._telling)

    def lost(self, name: str) -> bool:
        """Whether an instrument's set-point still stands is not known any more.

        Gives whether this run had driven it.
        """
        roles = {role for role, own in self._names.items() if own == name and role in self._driven}
        self._standing -= roles
        self._unread.add(name)
        for role in roles:
            self._failures.pop(role, None)
        return bool(roles)

    def _next(self, failed: Mapping[str, int]) -> str:
        """Role of what is to be told next, "" when all stands or has `failed`, by its step."""
        missing = sorted(self._wanted.keys() - self._standing)
        return next((role for role in missing if failed.get(role) != self._asked_by[role]), "")

    async def _tell(self) -> None:
        failed: dict[str, int] = {}
        while self._securing is None and (role := self._next(failed)):
            name, step, index = self._names[role], self._wanted[role], self._asked_by[role]
            asked: dict[str, JSON] = dict(step.asked)
            again = self._told_by.get(role) == index
            self._announced.add(role)
            await self._note(Entry.NOTE, {"instrument": name, "told": asked})
            if role not in self._driven and self._guard is not None:
                await self._guard(name)
            if self._securing is not None:
                return
            untouched = role not in self._driven
            self._driven.add(role)
            self._standing.add(role)
            try:
                await self._instruments[role].hold(**step.asked)
            except UnsupportedError:
                if untouched:  # nothing was written: somebody else's program goes on running
                    self._driven.discard(role)
                raise
            except CommunicationError as error:
                if not again:
                    raise
                failed[role] = index
                self._standing.discard(role)
                await self._not_told(role, error)
                continue
            self._told_by[role] = index
            self._failures.pop(role, None)
            self._retry_at.pop(role, None)
            await self._note(Entry.NOTE, {"instrument": name, "read back": asked})

    async def _not_told(self, role: str, error: CommunicationError) -> None:
        """Try again at a later reading; hold if it can be read but not told."""
        name = self._names[role]
        self._retry_at[role] = asyncio.get_running_loop().time() + PAUSE
        if name not in self._unread:
            self._failures[role] = self._failures.get(role, 0) + 1
        alarm = f"{name} was not told its set-point again"
        await self._note(Entry.ALARM, {"what": alarm, "why": str(error)})
        if self._failures.get(role, 0) >= ATTEMPTS:
            del self._failures[role], self._retry_at[role]  # told again by a resume
            self._hold(f"{name} can be read, but {ATTEMPTS} times {alarm}: {error}")

    # ---- at its end ----------------------------------------------------------------------

    def begin_securing(self) -> None:
        """Nothing is told any more, and what was driven is on its way to its safe state."""
        if self._securing is None:
            self._securing = asyncio.create_task(self._secure())

    async def secured(self) -> Mapping[str, str]:
        """Verdicts by instrument once the safe state was asked for; cancelling does not stop it."""
        self.begin_securing()
        assert self._securing is not None
        try:
            await asyncio.shield(self._securing)
        except asyncio.CancelledError:
            await asyncio.wait({self._securing})
            raise
        return self.verdicts

    @property
    def unsafe(self) -> tuple[str, ...]:
        """Instruments whose safe state was asked for and could not be read back."""
        return tuple(name for name, one in self.verdicts.items() if one != VERIFIED)

    def is_safe(self, name: str) -> bool:
        """Whether an instrument was never driven by this run, or its safe state was read back."""
        driven = any(self._names[role] == name for role in self._driven)
        return not driven or self.verdicts.get(name) == VERIFIED

    async def _secure(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        async with asyncio.TaskGroup() as group:
            for role in sorted(self._driven):
                group.create_task(self._secure_one(self._names[role], self._instruments[role]))
        with contextlib.suppress(RecordError):  # the end of the run says so
            for role in sorted(self._announced - self._driven):
                # Refused, or the run ended before it was told: it is whatever it was.
                await self._note(Entry.NOTE, {"instrument": self._names[role], "not driven": True})

    async def _secure_one(self, name: str, instrument: Instrument) -> None:
        # Two that renew one session would spoil it for each other.
        await self._stop_watching(name)
        try:
            await secure(instrument)
        except SafeStateError as error:
            self.verdicts[name] = str(error)
        else:
            self.verdicts[name] = VERIFIED
