"""How Keithley's graphical source meters are talked to: SCPI lines, the event log, reading back.

Documents: 2461-901-01 A (Nov 2015) chapters 5 and 6, 2450-901-01 Rev B (Sept 2013).
"""

from __future__ import annotations

import re
from typing import ClassVar, NoReturn, TypeAlias

from operando.drivers.driver import WaryDriver
from operando.drivers.keithley_tables import Model, SourceMeterSettings
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    NotVerifiedError,
    WrongInstrumentError,
)
from operando.instruments.roles import Identity
from operando.instruments.wires import Terminated

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
_CODE = re.compile(r"[+-]?\d{1,5}")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def identity_of(reply: str) -> Identity | None:
    """The identity in a reply to `*IDN?`, None if it is none."""
    parts = [part.strip() for part in reply.split(",")]
    found = _MODEL.search(parts[1]) if len(parts) == 4 else None
    return None if found is None else Identity(parts[0], found[1], parts[2], parts[3])


class Conversation(WaryDriver[SourceMeterSettings]):
    """How it is spoken to; what it is told, the drivers know."""

    Settings: TypeAlias = SourceMeterSettings

    MODEL: ClassVar[Model]

    _trusted = True
    _identity: Identity | None = None

    # Identity ------------------------------------------------------------------------------

    def _check_identity(self, identity: Identity) -> None:
        if identity.model != self.MODEL.number:
            remedy = "Nothing was written. Correct `driver` or `address` in the bench file."
            if identity.model in ("2460", "2470"):
                remedy = (
                    "It speaks the same commands, but its limits have not been found in a "
                    "document yet, so it is refused. Nothing was written."
                )
            self._mismatch("model", self.MODEL.number, identity.model, remedy)
        wanted = self._identity or Identity("", "", self._expect.serial, self._expect.firmware)
        swapped = (
            "The instruments may have been swapped. Nothing was written. Correct "
            "`expect.serial` in the bench file, or the cable."
        )
        if wanted.serial and identity.serial != wanted.serial:
            self._mismatch("serial", wanted.serial, identity.serial, swapped)
        if identity.model not in (self._expect.model or identity.model):
            remedy = "Nothing was written. Correct `expect.model` in the bench file."
            self._mismatch("model", self._expect.model, identity.model, remedy)
        if self._expect.firmware and identity.firmware != self._expect.firmware:
            remedy = "Nothing was written. Correct `expect.firmware` in the bench file."
            self._mismatch("firmware", self._expect.firmware, identity.firmware, remedy)

    def _mismatch(self, what: str, expected: str, found: str, remedy: str) -> NoReturn:
        raise self._error(
            WrongInstrumentError, f"expected {what} {expected}, found {found}. {remedy}"
        )

    # Lines ---------------------------------------------------------------------------------

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
            more = f" and {len(errors) - 1} more" if errors[1:] else ""
            raise self._reported(code, f"{text} (after {'; '.join(commands)}){more}")

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
            if _CODE.fullmatch(number) is None:
                self._garbled(":SYST:ERR?", 'such as 0,"No error;0,0,0"', reply)
            code = int(number)
            if code == 0:
                break
            errors.append((code, rest.strip().strip('"').partition(";")[0]))
        return errors

    def _garbled(self, question: str, expected: str, reply: str) -> NoReturn:
        self._trusted = False
        raise self._error(
            GarbledReplyError, f"answered {question} with {reply!r}, expected {expected}"
        )

    async def _number(self, question: str) -> float:
        reply = await self._ask(question)
        if _NUMBER.fullmatch(reply) is None:
            self._garbled(question, "a number", reply)
        return float(reply)

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
