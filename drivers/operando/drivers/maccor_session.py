"""The one connection to a Maccor tester that the drivers of its channels share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Final

from operando.drivers.maccor_messages import (
    CURRENTS,
    EVERYTHING,
    MOST_CHANNELS,
    STATES,
    SYSTEM,
    VERSIONS,
    VOLTAGES,
    Function,
    MacNetRefusedError,
    MacNetReplyError,
    Observation,
    Parameters,
    Result,
    check_done,
    number,
    request,
    result_of,
    state_of,
)
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    LinkLostError,
    ReportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import Identity
from operando.instruments.wires import Terminated, Wire

REPLY: Final = Terminated(b"\r\n")

TIMEOUT: Final = 1.0
"""s for any reply. ASSUMPTION: the document gives no time; it must fit twice into 2 s of `safe`."""

BULK_FROM: Final = 4
"""Channels from which three requests for all are fewer than one for each."""

_sessions: dict[tuple[asyncio.AbstractEventLoop, str], TesterSession] = {}


class TesterSession:
    """A connection with its tester, in which nothing is written to a tester in doubt.

    Errors carry no instrument: the driver adds it and the channel. channels: 0-based, that are in
    use, with how many drivers use each. generation: counts the sessions opened.
    """

    def __init__(self, wire: Wire, clock: Clock) -> None:
        self._wire = wire
        self._clock = clock
        self._key = (asyncio.get_running_loop(), wire.address.partition("#")[0])
        self._opening = asyncio.Lock()
        self._observing = asyncio.Lock()
        self._observed: dict[int, Observation] = {}
        self._unreadable: dict[int, MacNetReplyError] = {}
        self._trusted = False
        self._request = 0
        self._system: tuple[str, int] | None = None
        self.channels: Counter[int] = Counter()
        self.generation = 0
        self.test_channels = 0

    @classmethod
    def join(cls, wire: Wire, clock: Clock, channel: int) -> TesterSession:
        """The session with the tester at a wire's address, opened by whoever comes first."""
        for key in [key for key in _sessions if key[0].is_closed()]:
            del _sessions[key]
        session = _sessions.get((asyncio.get_running_loop(), wire.address.partition("#")[0]))
        if session is None:
            session = cls(wire, clock)
            _sessions[session._key] = session
        session.channels[channel] += 1
        return session

    async def leave(self, channel: int) -> None:
        """Give a channel back; whoever is last closes the connection."""
        self.channels[channel] -= 1
        self.channels += Counter()  # drops what is zero
        self._observed.pop(channel, None)
        if not self.channels:
            if _sessions.get(self._key) is self:
                del _sessions[self._key]
            await self._wire.close()

    async def open(self) -> None:
        """Open the connection unless it is open, and check that the tester is the same."""
        async with self._opening:
            try:
                await self._wire.open()
            except CommunicationError:
                self._trusted = False
                raise
            await self._prove()

    async def reopen(self, seen: int) -> None:
        """Abandon the connection and open another, once for all who ask after the same failure.

        seen: the generation in which it failed.
        """
        async with self._opening:
            if self.generation != seen:
                with contextlib.suppress(CommunicationError):
                    await self._prove()
                    return
            self._trusted = False
            self.generation += 1
            self._observed.clear()
            await self._wire.reopen()
            await self._prove()

    async def _prove(self, *, urgent: bool = False) -> None:
        """Read which tester this is; the same as before, or nothing more is said to it."""
        result = await self._converse(SYSTEM, {}, urgent=urgent)
        try:
            found = result.word("SystemID").strip(), result.whole("SystemType", 0xFF)
            channels = result.whole("TestChannels", 0xFFFF)
        except MacNetReplyError as error:
            raise self._garbled(SYSTEM, error) from error
        if self._system is not None and self._system != found:
            self._trusted = False
            raise WrongInstrumentError(
                f"expected the tester {self._system[0]!r} (type {self._system[1]}), found "
                f"{found[0]!r} (type {found[1]}). Nothing was written. The testers may have been "
                "swapped: correct `expect.serial` in the bench file, or the address."
            )
        self._system = found
        self.test_channels = channels
        self._trusted = True

    async def identify(self) -> tuple[Identity, int]:
        """Who answered, and its system type (p. 12)."""
        result = await self.ask(VERSIONS, {})
        try:
            version = ".".join(
                str(result.whole(f"MacTest32EXEversion{part}", 0xFFFF))
                for part in ("Major", "Minor", "Build")
            )
        except MacNetReplyError as error:
            raise self._garbled(VERSIONS, error) from error
        assert self._system is not None
        name, kind = self._system
        return Identity("MACCOR", f"system type {kind}", name, version), kind

    async def ask(
        self, function: Function, parameters: Parameters, *, urgent: bool = False
    ) -> Result:
        """Ask; a read that failed because somebody reopened the connection is asked again."""
        generation = self.generation
        try:
            return await self._ask(function, parameters, urgent)
        except CommunicationError:
            if function.writes or self.generation == generation:
                raise
        return await self._ask(function, parameters, urgent)

    async def tell(
        self, function: Function, parameters: Parameters, *, urgent: bool = False
    ) -> None:
        """Give a command, once. Raises ReportedError unless its result is OK."""
        result = await self._ask(function, parameters, urgent)
        try:
            check_done(result, function)
        except MacNetRefusedError as error:
            raise ReportedError(error.code, f"{error.text} (to {_named(function)})") from error
        except MacNetReplyError as error:
            raise self._garbled(function, error) from error

    async def shout(self, function: Function, parameters: Parameters) -> None:
        """Give a command without waiting for an answer: the line may still carry one way."""
        self._request += 1
        self._trusted = False
        with contextlib.suppress(CommunicationError):
            await self._wire.send(
                request(function, parameters, self._request), TIMEOUT, urgent=True
            )

    async def _ask(self, function: Function, parameters: Parameters, urgent: bool) -> Result:
        if self._opening.locked():
            async with self._opening:
                pass  # somebody is opening the connection: nothing can be sent until then
        if not self._trusted:
            await self._prove(urgent=urgent)
        return await self._converse(function, parameters, urgent=urgent)

    async def _converse(
        self, function: Function, parameters: Parameters, *, urgent: bool
    ) -> Result:
        self._request += 1
        own_id = self._request
        generation = self.generation
        sent = request(function, parameters, own_id)
        try:
            reply = await self._wire.exchange(sent, REPLY, TIMEOUT, urgent=urgent)
        except CommunicationError:
            self._trusted = self._trusted and self.generation != generation
            raise
        try:
            return result_of(reply, function, parameters, own_id)
        except MacNetRefusedError as error:
            raise ReportedError(error.code, f"{error.text} (to {_named(function)})") from error
        except MacNetReplyError as error:
            raise self._garbled(function, error) from error

    def _garbled(self, function: Function, error: MacNetReplyError) -> GarbledReplyError:
        self._trusted = False
        return GarbledReplyError(f"answered {_named(function)} wrongly: expected {error}")

    # Readings ------------------------------------------------------------------------------

    async def observe(self, channel: int, newer_than: float) -> Observation:
        """A channel's state and readings, requested after laboratory time `newer_than` (s).

        Where several channels are in use, all are asked for at once and each takes its own.
        """
        if len(self.channels) < BULK_FROM:
            return await self.look(channel)
        async with self._observing:
            kept = self._observed.get(channel)
            if kept is None or not kept.sent > newer_than:
                await self._look_at_all(channel // MOST_CHANNELS)
                kept = self._observed.get(channel)
        if kept is None:
            if channel in self._unreadable:
                raise self._garbled(STATES, self._unreadable[channel])
            raise LinkLostError("the connection was replaced while it was being read")
        return kept

    async def look(self, channel: int, *, urgent: bool = False) -> Observation:
        """One channel's state and readings, asked for now."""
        sent = self._clock.now()
        result = await self.ask(EVERYTHING, {"Chan": channel}, urgent=urgent)
        received = self._clock.now()
        try:
            doing, why, state = state_of(result)
            voltage, current = result.number("Voltage"), result.number("Current")
        except MacNetReplyError as error:
            raise self._garbled(EVERYTHING, error) from error
        return Observation(sent, received, doing, why, state, voltage, current)

    async def _look_at_all(self, block: int) -> None:
        """Read all channels in use among 128; the states last, so that they are never stale."""
        used = [channel for channel in self.channels if channel // MOST_CHANNELS == block]
        first = min(used)
        count = max(used) - first + 1
        parameters = {"Chan": first, "Len": count}
        sent = self._clock.now()
        replies = [await self.ask(what, parameters) for what in (VOLTAGES, CURRENTS, STATES)]
        received = self._clock.now()
        try:
            voltages = replies[0].items("Voltage", count)
            currents = replies[1].items("Current", count)
            states = replies[2].items("Status", count)
        except MacNetReplyError as error:
            raise self._garbled(STATES, error) from error
        for channel in used:
            at = channel - first
            # One channel that makes no sense must not blind the others.
            self._observed.pop(channel, None)
            self._unreadable.pop(channel, None)
            try:
                codes = state_of(Result.of(states[at]))
                voltage, current = number(voltages[at], "Voltage"), number(currents[at], "Current")
            except MacNetReplyError as error:
                self._unreadable[channel] = error
            else:
                self._observed[channel] = Observation(sent, received, *codes, voltage, current)


def _named(function: Function) -> str:
    return f"function {function.group},{function.number}"
