"""How MethodSCRIPT instruments are talked to: one line at a time, echoes, scripts, identity.

Documents: the communication protocol pages of the PalmSens SDK, its registry of commands, the
vendor's `instrument.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, NoReturn

from operando.drivers.methodscript import CELL_OFF, PROBE
from operando.drivers.palmsens_models import (
    EMSTAT4_HR,
    LONGEST_INTERVAL,
    POINT_ABORT,
    Model,
    model_of,
)
from operando.drivers.palmsens_packages import (
    Finished,
    Point,
    Trouble,
    check_nesting,
    end_of_script,
    first,
    lines_of,
    point,
    trouble,
    unheard_of,
    until,
)
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    ReplyTimeoutError,
    ReportedError,
    SafeStateError,
    WrongInstrumentError,
)
from operando.instruments.roles import DriverInfo, Expect, Identity
from operando.instruments.wires import Wire

TIMEOUT = 0.5
"""s of wall time for an answer that measures nothing."""

AFTER_ERROR = 0.1
"""s of silence after an answer with an error; more than 50 ms are asked for."""

BEYOND = 2.0
"""Times its window or largest range, what no model can measure: a digit was changed on the way."""

BUSY, NO_COMMAND = 0x0006, 0x0003
"""A script runs; the command is not known."""

MODE_IS_OFF = 0x0023
CELL_IS_ON = frozenset({0x0014, 0x4028})
"""What an open-circuit measurement is refused with."""

LOOP_ABORT = 99
"""Bit of CC that stands for the command Y."""

_SERIAL = re.compile(rb"i([A-Za-z0-9_\-]{4,})|i!([0-9A-Fa-f]{4})(:.*)?")
_FIRMWARE = re.compile(rb"t(([a-z][a-z0-9_]*?)([0-9]*))#[ -~]*")
_LAST_OF_FIRMWARE = re.compile(rb"[ -~]*\*|t![0-9A-Fa-f]{4}(:.*)?")
_BITS = re.compile(rb"C[CM]?([0-9A-Fa-f]+)|C!([0-9A-Fa-f]{4})(:.*)?")
_NOTHING = re.compile(rb"(?!)")
_STAMP = re.compile(rb"Toperando ([A-Za-z0-9_\-]+) ([a-z0-9_]+) ([Y-])")


class Conversation:
    """A session in which nothing is written to an instrument whose identity is in doubt.

    A running script keeps the line to itself: it answers but five letters. So each of our scripts
    sends a stamp with every point that tells on which instrument it was started.
    """

    INFO: ClassVar[DriverInfo]

    def __init__(self, wire: Wire, clock: Clock, expect: Expect) -> None:
        self._wire = wire
        self._clock = clock
        self._expect = expect
        self._trusted = False
        self._driving = False  # a step was begun and not ended by us
        self._identity: Identity | None = None
        self._firmware = ""
        self._model: Model = EMSTAT4_HR
        self._commands: frozenset[int] | None = None
        self._renewable = False
        self._calls_for_safety = 0
        self._give_way = False
        self._abort_time = LONGEST_INTERVAL  # s that the present script may take to end
        self._line = asyncio.Lock()
        self._quiet_until = 0.0

    # Lines ---------------------------------------------------------------------------------

    def _loop_seconds(self, seconds: float) -> float:
        """Laboratory seconds in seconds of the event loop."""
        return seconds / self._clock.lab(1.0)

    async def _exchange(
        self,
        request: bytes,
        finished: Finished,
        timeout: float,
        *,
        calls: int | None = None,
        answers: re.Pattern[bytes] = _NOTHING,
    ) -> list[bytes]:
        """Send a request (or none) and return the lines up to the one that is `finished`.

        answers: forms of the last line beside those that scripts send.
        calls: of `safe` so far, for what would switch the cell on: given up when there are more.
        The lines end early while the reader is to give way. timeout: s of the event loop.
        """
        async with self._line:
            wait = self._quiet_until - asyncio.get_running_loop().time()
            if wait > 0.0:
                await asyncio.sleep(wait)
            if calls is not None:
                self._stop_if_unsafe(calls)
            try:
                data = await self._wire.exchange(
                    request, until(finished, self._in_a_hurry), timeout
                )
            except CommunicationError as error:
                self._blame(error)
            lines = lines_of(data)
            if any(b"!" in line for line in lines):
                self._quiet_until = asyncio.get_running_loop().time() + AFTER_ERROR
        if self._give_way and not (lines and finished(lines)):
            raise self._error(InstrumentError, "was asked for something else meanwhile")
        if not lines or (unheard_of(lines) and answers.fullmatch(lines[-1]) is None):
            self._garbled(f"an answer to {request[:16]!r}", data)
        return lines

    def _in_a_hurry(self) -> bool:
        return self._give_way

    async def _open(self, opening: Callable[[], Awaitable[None]]) -> None:
        try:
            await opening()
        except CommunicationError as error:
            self._blame(error)

    def _error(self, kind: type[InstrumentError], message: str) -> InstrumentError:
        return kind(message, instrument=self.INFO.name, address=self._wire.address)

    def _blame(self, error: CommunicationError) -> NoReturn:
        """Raise a wire's error with the instrument's name, and trust nothing until identified."""
        self._trusted = False
        raise self._error(type(error), error.reason) from error

    def _garbled(self, expected: str, found: bytes) -> NoReturn:
        self._trusted = False
        # It may have been an error, after which nothing is heard.
        self._quiet_until = asyncio.get_running_loop().time() + AFTER_ERROR
        raise self._error(
            GarbledReplyError,
            f"expected {expected}, got {found[:200]!r}. Nothing else was written.",
        )

    def _raise(self, problem: Trouble) -> NoReturn:
        # The vendor's tables are in hexadecimal.
        text = f"{problem.code:04X} {problem.text}"
        raise ReportedError(
            problem.code, text, instrument=self.INFO.name, address=self._wire.address
        )

    def _stop_if_unsafe(self, calls: int) -> None:
        if calls != self._calls_for_safety:
            raise self._error(
                InstrumentError, "was asked for its safe state; the set-point was given up"
            )

    # Identity ------------------------------------------------------------------------------

    async def _trust(self) -> None:
        if not self._trusted:
            await self._identify()

    async def _is_running(self) -> bool:
        """Ask for the serial number, which is refused while a script runs."""
        lines = await self._exchange(b"i\n", first(_SERIAL), TIMEOUT, answers=_SERIAL)
        problem = trouble(lines[-1])
        if problem is None:
            self._check_serial(lines[-1][1:].decode("ascii"))
            return False
        if problem.code != BUSY:
            self._raise(problem)
        return True

    async def _identify(self) -> Identity:
        """Read and check the identity; writes nothing."""
        self._trusted = False
        lines = await self._exchange(b"i\n", first(_SERIAL), TIMEOUT, answers=_SERIAL)
        problem = trouble(lines[-1])
        if problem is None:
            serial = lines[-1][1:].decode("ascii")
            firmware = await self._ask_firmware()
            identity = self._identity_of(serial, firmware)
            self._check_identity(identity)
            await self._learn_commands()
        elif problem.code == BUSY:
            identity = await self._overhear()
            self._check_identity(identity)
        else:
            self._raise(problem)
        self._identity = identity
        self._trusted = True
        return identity

    async def _ask_firmware(self) -> str:
        lines = await self._exchange(
            b"t\n",
            lambda lines: _LAST_OF_FIRMWARE.fullmatch(lines[-1]) is not None or len(lines) > 3,
            TIMEOUT,
            answers=_LAST_OF_FIRMWARE,
        )
        problem = trouble(lines[-1])
        if problem is not None:
            self._raise(problem)
        found = _FIRMWARE.fullmatch(lines[0])
        if found is None or not lines[-1].endswith(b"*"):
            self._garbled("an answer to t such as tes4_hr1500#..., R*", b"\n".join(lines))
        return found[1].decode("ascii")

    def _identity_of(self, serial: str, firmware: str) -> Identity:
        model = model_of(firmware)
        if firmware.startswith("espbl"):
            self._wrong("it is in its boot loader; switch it off and on, or load its firmware")
        if model is None:
            self._wrong(f"expected firmware of {', '.join(self.INFO.models)}, found {firmware}")
        prefix = next(one for one in model.prefixes if firmware.startswith(one))
        digits = firmware.removeprefix(prefix)
        version = f"{digits[0]}.{digits[1]}.{digits[2:]}" if len(digits) == 4 else digits
        self._model, self._firmware = model, firmware
        return Identity(self.INFO.maker, model.name, serial, version)

    async def _learn_commands(self) -> None:
        """Which commands it has. Older firmware cannot tell; then Y is not used."""
        self._renewable, self._commands = False, None
        talk = await self._ask_bits(b"CC\n")
        if talk is not None:
            self._renewable = LOOP_ABORT in talk
            self._commands = await self._ask_bits(b"CM\n")

    async def _ask_bits(self, question: bytes) -> frozenset[int] | None:
        lines = await self._exchange(question, first(_BITS), TIMEOUT, answers=_BITS)
        problem = trouble(lines[-1])
        if problem is not None:
            if problem.code == NO_COMMAND:
                return None
            self._raise(problem)
        found = _BITS.fullmatch(lines[-1])
        if found is None:
            self._garbled(f"a bit field in answer to {question!r}", lines[-1])
        field = int(found[1][-48:], 16)  # an echoed C would be a digit too, far in front
        return frozenset(bit for bit in range(192) if field >> bit & 1)

    async def _overhear(self) -> Identity:
        """The identity that a script of ours repeats while it runs."""
        patience = self._loop_seconds(2.0 * LONGEST_INTERVAL) + TIMEOUT
        try:
            lines = await self._exchange(b"", first(_STAMP), patience, answers=_STAMP)
        except ReplyTimeoutError:
            if not self._driving:
                self._foreign()
            # Most likely the step that nobody has ended: `safe` must be able to abort it.
            raise self._error(
                ReplyTimeoutError,
                "its script runs but says nothing, as one that was halted (h). Bring it to the "
                "safe state, which aborts the script.",
            ) from None
        found = _STAMP.fullmatch(lines[-1])
        if found is None:
            self._foreign()
        serial, firmware, yes = (part.decode("ascii") for part in found.groups())
        self._renewable = yes == "Y"
        self._abort_time = POINT_ABORT  # it may be a spectrum
        return self._identity_of(serial, firmware)

    def _foreign(self) -> NoReturn:
        self._wrong(
            "a script runs on it that does not tell whose it is, so that its serial number cannot "
            "be read. End that script (Z), or switch the instrument off and on"
        )

    def _stamp(self) -> str:
        """What `_overhear` understands."""
        assert self._identity is not None
        return (
            f"operando {self._identity.serial} {self._firmware} {'Y' if self._renewable else '-'}"
        )

    def _check_serial(self, found: str) -> None:
        wanted = self._expect.serial if self._identity is None else self._identity.serial
        if wanted and found != wanted:
            self._wrong(
                f"expected serial {wanted}, found {found}. The instruments may have been swapped; "
                "correct `expect.serial` or the cable"
            )

    def _check_identity(self, identity: Identity) -> None:
        self._check_serial(identity.serial)
        for name in ("model", "firmware"):
            wanted, found = getattr(self._expect, name), getattr(identity, name)
            if wanted and found != wanted:
                self._wrong(f"expected {name} {wanted}, found {found}; correct `expect.{name}`")

    def _wrong(self, message: str) -> NoReturn:
        self._trusted = False
        raise self._error(WrongInstrumentError, f"{message}. Nothing was written.")

    # Stopping ------------------------------------------------------------------------------

    async def _halt(self) -> None:
        """Abort whatever script runs and wait until it has ended; fine when none does."""
        patience = self._loop_seconds(self._abort_time) + TIMEOUT
        lines = await self._exchange(b"Z\n", _aborted, patience)
        problem = trouble(lines[-1])
        if problem is not None and problem.code != BUSY:
            self._raise(problem)

    async def _abort_blindly(self) -> None:
        """Tell it to abort although it does not answer: our scripts end with the cell off."""
        await asyncio.sleep(AFTER_ERROR)  # until then it may be deaf
        with contextlib.suppress(CommunicationError):
            await self._wire.send(b"Z\n", TIMEOUT, urgent=True)

    async def _switch_off(self) -> None:
        """Switch the cell off by a script of its own; measure its open circuit to prove it.

        A refusal for another reason than the cell proves nothing; then the confirmed `cell_off`
        counts, as in the documents.
        """
        await asyncio.sleep(AFTER_ERROR)
        lines = await self._exchange(CELL_OFF, end_of_script, TIMEOUT)
        self._whole(lines, "cell_off")
        problem = await self._probe()
        if problem is not None and problem.code in CELL_IS_ON:
            raise self._error(
                SafeStateError,
                "it confirmed cell_off, but refuses an open-circuit measurement because the cell "
                "is on. ASSUME THAT THE OUTPUT IS ON: disconnect the cell.",
            )
        if problem is not None and problem.code == BUSY:
            self._raise(problem)  # somebody else's script

    async def _probe(self) -> Trouble | None:
        """Measure an open circuit, which needs the cell off; why that was refused, if it was."""
        patience = self._loop_seconds(2.0) + TIMEOUT
        lines = await self._exchange(PROBE, end_of_script, patience)
        problem = next((found for line in lines if (found := trouble(line))), None)
        if problem is None:
            self._whole(lines, "an open-circuit measurement")
        return problem

    async def _report(self, lines: Sequence[bytes]) -> None:
        """Raise what the instrument reports; after a run-time error the cell may still be on."""
        problem = trouble(lines[-1])
        if problem is None:
            return
        if lines[-1].startswith(b"!"):
            # `on_finished:` is not carried out then.
            await self._switch_off()
        self._raise(problem)

    def _decode(self, line: bytes) -> Point:
        try:
            found = point(line)
        except ValueError as error:
            self._garbled(f"a point of its script ({error})", line)
        model = self._model
        beyond = BEYOND * max(map(abs, model.voltage)), BEYOND * model.current
        if abs(found.voltage) > beyond[0] or abs(found.current) > beyond[1]:
            self._garbled(f"at most {beyond[0]:g} V and {beyond[1]:g} A", line)
        return found

    def _whole(self, lines: Sequence[bytes], what: str) -> None:
        for line in lines:
            problem = trouble(line)
            if problem is not None:
                self._raise(problem)
        try:
            check_nesting(lines)
        except ValueError as error:
            self._garbled(f"the whole output of {what} ({error})", b"\n".join(lines))


def _aborted(lines: Sequence[bytes]) -> bool:
    """Finished with the empty line after the echo of Z, or with its refusal."""
    last = lines[-1]
    if not last:
        return b"Z" in lines
    return last.startswith(b"Z!") or unheard_of(lines)
