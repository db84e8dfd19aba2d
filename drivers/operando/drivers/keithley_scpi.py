"""How Keithley's graphical source meters are talked to: SCPI lines, the event log, reading back.

Documents: 2461-901-01 A (Nov 2015) chapters 5 and 6, 2450-901-01 Rev B (Sept 2013).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar, NoReturn

from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    NotVerifiedError,
    ReportedError,
)
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.wires import Terminated, Wire

LINE = Terminated(b"\n")

TIMEOUT = 0.5
"""s for anything that is not a reading. Short, so that a retried `safe` fits into 2 s."""

LOG_DEPTH = 1000
"""Entries the event log holds (2461-901-01 p. 6-147)."""

READ_BACK_TOLERANCE = 1e-4
"""Relative error allowed in a number read back."""

RESOLUTION = 5e-5
"""Error allowed besides, as a fraction of the range: two steps of 0.5 mV on the 20 V range."""


_MODEL = re.compile(r"MODEL\s+(\d{4})")


def identity_of(reply: str) -> Identity | None:
    """The identity in a reply to `*IDN?`, None if it is none."""
    parts = [part.strip() for part in reply.split(",")]
    found = _MODEL.search(parts[1]) if len(parts) == 4 else None
    return None if found is None else Identity(parts[0], found[1], parts[2], parts[3])


class Conversation(ABC):
    """A session in which nothing is written to an instrument whose identity is in doubt.

    After an exchange that failed, the identity is read again before anything else is said: the
    link may have been opened afresh, to whatever answers at that address now.
    """

    INFO: ClassVar[DriverInfo]

    def __init__(self, wire: Wire, clock: Clock, name: str) -> None:
        self._wire = wire
        self._clock = clock
        self.name = name
        self._trusted = True

    @abstractmethod
    async def _identify(self, *, urgent: bool = False) -> Identity:
        """Read and check the identity; writes nothing; restores trust."""

    async def _open(self, opening: Callable[[], Awaitable[None]]) -> None:
        try:
            await opening()
        except CommunicationError as error:
            self._blame(error)

    async def _query(self, question: str, *, urgent: bool = False) -> str:
        """Ask without caring for trust: for `_identify` and `_ask` alone."""
        try:
            reply = await self._wire.exchange(
                question.encode("ascii") + b"\n", LINE, TIMEOUT, urgent=urgent
            )
        except CommunicationError as error:
            self._blame(error)
        return reply.decode("ascii", "replace").strip()

    async def _ask(self, question: str, *, urgent: bool = False) -> str:
        """Ask the instrument, after checking who it is if an exchange failed before."""
        if not self._trusted:
            await self._identify(urgent=urgent)
        return await self._query(question, urgent=urgent)

    async def _tell(self, *commands: str) -> None:
        """Send a batch of commands, then read the event log. Never repeats a command."""
        if not self._trusted:
            await self._identify()
        try:
            for command in commands:
                await self._wire.send(command.encode("ascii") + b"\n", TIMEOUT)
        except CommunicationError as error:
            self._blame(error)
        errors = await self._drain_log()
        if errors:
            code, text = errors[0]
            raise ReportedError(
                code,
                f"{text} (after {'; '.join(commands)})"
                + (f" and {len(errors) - 1} more" if errors[1:] else ""),
                instrument=self.INFO.name,
                address=self._wire.address,
            )

    async def _urge(self, command: str) -> None:
        """Send one command ahead of everything that waits."""
        try:
            await self._wire.send(command.encode("ascii") + b"\n", TIMEOUT, urgent=True)
        except CommunicationError as error:
            self._blame(error)

    async def _drain_log(self, depth: int = LOG_DEPTH) -> list[tuple[int, str]]:
        """Read the event log until it is empty: codes and texts, oldest first."""
        errors: list[tuple[int, str]] = []
        for _ in range(depth):
            reply = await self._ask(":SYST:ERR?")
            number, _, rest = reply.partition(",")
            try:
                code = int(number)
            except ValueError:
                self._garbled(":SYST:ERR?", 'such as 0,"No error;0,0,0"', reply)
            if code == 0:
                break
            errors.append((code, rest.strip().strip('"').partition(";")[0]))
        return errors

    def _error(self, kind: type[InstrumentError], message: str) -> InstrumentError:
        return kind(message, instrument=self.INFO.name, address=self._wire.address)

    def _blame(self, error: CommunicationError) -> NoReturn:
        """Raise a wire's error with the instrument's name, and trust nothing until identified."""
        self._trusted = False
        raise self._error(type(error), error.reason) from error

    def _garbled(self, question: str, expected: str, reply: str) -> NoReturn:
        self._trusted = False
        raise self._error(
            GarbledReplyError, f"answered {question} with {reply!r}, expected {expected}"
        )

    async def _number(self, question: str) -> float:
        reply = await self._ask(question)
        try:
            return float(reply)
        except ValueError:
            self._garbled(question, "a number", reply)

    async def _verify_number(self, question: str, expected: float, scale: float = 0.0) -> None:
        """Read a number back. scale: full scale of its range, for the resolution."""
        found = await self._number(question)
        if not abs(found - expected) <= READ_BACK_TOLERANCE * abs(expected) + RESOLUTION * scale:
            self._not_verified(question, f"{expected:g}", f"{found:g}")

    async def _verify_word(self, question: str, expected: str) -> None:
        found = (await self._ask(question)).strip('"').upper()
        if found.removesuffix(":DC") != expected:
            self._not_verified(question, expected, found)

    def _not_verified(self, question: str, expected: str, found: str) -> NoReturn:
        raise self._error(
            NotVerifiedError,
            f"{question} should be {expected} but reads back {found}. The output is not to be "
            "trusted: bring it to the safe state, look at the instrument's event log.",
        )
