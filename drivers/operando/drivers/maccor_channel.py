"""What every use of a Maccor channel shares: who answers, how it is asked, how it is stopped."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import ClassVar, Final, NoReturn, TypeVar

from operando.drivers.maccor_direct import MaccorSettings, channel_of
from operando.drivers.maccor_messages import (
    AUXILIARY,
    AUXILIARY_UNITS,
    CHARGING,
    DISCHARGING,
    EVERYTHING,
    IDLE,
    NAMES,
    OVER,
    POWER_FAIL,
    RESET,
    SET_DIRECT,
    SPECIFICATION,
    STAT,
    SUSPEND,
    ChannelStatus,
    Function,
    MacNetReplyError,
    Observation,
    Parameters,
    Result,
    Specification,
    specification_of,
    status_of,
)
from operando.drivers.maccor_session import TesterSession
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    LinkLostError,
    NotVerifiedError,
    ReportedError,
    SafeStateError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import DriverInfo, Expect, Identity
from operando.instruments.wires import Wire

PATIENCE: Final = 3.0
"""s in which a channel must have started, stopped or been reset. ASSUMPTION."""

START_DELAY: Final = 1.0
"""s after a start for which a channel that looks idle may still begin. ASSUMPTION."""

LOOK: Final = 0.1
"""s between two looks at a channel whose state is to change."""

PREFIX: Final = "operando-"
"""How the names of our own tests begin."""

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"

T = TypeVar("T")


class TesterChannel:
    """One channel: its conversation, its state, its way to the safe state."""

    INFO: ClassVar[DriverInfo]

    def __init__(
        self, wire: Wire, clock: Clock, name: str, expect: Expect, settings: MaccorSettings
    ) -> None:
        self._wire = wire
        self._clock = clock
        self._expect = expect
        self._settings = settings
        self.name = name or self.INFO.name
        self._channel = channel_of(wire.address)
        self._session: TesterSession | None = None
        self._generation = 0
        self._identity: Identity | None = None
        self._system_type = 0
        self._specification: Specification | None = None
        self._lock = asyncio.Lock()
        self._calls_for_safety = 0
        self._under_way: asyncio.Future[None] | None = None
        """A command that may switch the output on and was not answered yet."""
        self._commanded_at = -math.inf
        self._may_start_until = -math.inf

    # Identity ------------------------------------------------------------------------------

    async def connect(self) -> Identity:
        """Open the tester's connection or share it; check who answers. Changes nothing.

        Raises WrongInstrumentError for another tester, or a channel that it has not.
        """
        held = self._session is not None
        session = self._join()
        try:
            try:
                await session.open()
            except InstrumentError as error:
                self._blame(error)
            return await self._identify(session)
        except BaseException:
            if not held:
                await self._leave()
            raise

    async def reconnect(self) -> Identity:
        """Open another connection, once for all channels; check who answers. Writes nothing."""
        session = self._join()
        try:
            await session.reopen(self._generation)
        except InstrumentError as error:
            self._blame(error)
        finally:
            self._generation = session.generation
        return await self._identify(session)

    async def close(self) -> None:
        """Give the connection back; the last channel closes it. Does not change the output."""
        await self._leave()

    def _join(self) -> TesterSession:
        if self._session is None:
            self._session = TesterSession.join(self._wire, self._clock, self._channel)
            self._generation = self._session.generation
        return self._session

    async def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.leave(self._channel)

    async def _identify(self, session: TesterSession) -> Identity:
        try:
            identity, self._system_type = await session.identify()
        except InstrumentError as error:
            self._blame(error)
        expect, before = self._expect, self._identity
        for what, expected, found in (
            ("serial", before.serial if before else expect.serial, identity.serial),
            ("model", expect.model, identity.model),
            ("firmware", expect.firmware, identity.firmware),
        ):
            if expected and found != expected:
                raise self._error(
                    WrongInstrumentError,
                    f"expected {what} {expected}, found {found}. Nothing was written. Correct "
                    f"`expect.{what}` in the bench file, or the address.",
                )
        if not self._channel < session.test_channels:
            raise self._error(
                WrongInstrumentError,
                f"the tester has {session.test_channels} channels. Nothing was written. Correct "
                "what stands behind # in `address`.",
            )
        result = await self._ask(SPECIFICATION)
        self._specification = self._parse(SPECIFICATION, specification_of, result)
        self._identity = identity
        return identity

    # Conversation --------------------------------------------------------------------------

    def _connected(self) -> TesterSession:
        if self._session is None:
            raise self._error(LinkLostError, "is not connected")
        return self._session

    async def _ask(
        self, function: Function, parameters: Parameters | None = None, *, urgent: bool = False
    ) -> Result:
        try:
            return await self._connected().ask(
                function, {"Chan": self._channel, **(parameters or {})}, urgent=urgent
            )
        except InstrumentError as error:
            self._blame(error)

    async def _tell(
        self, function: Function, parameters: Parameters | None = None, *, urgent: bool = False
    ) -> None:
        try:
            await self._connected().tell(
                function, {"Chan": self._channel, **(parameters or {})}, urgent=urgent
            )
        except InstrumentError as error:
            self._blame(error)

    async def _switch_on(self, function: Function, parameters: Parameters, calls: int) -> None:
        """Give a command that drives the cell, unless the safe state was asked for meanwhile."""
        self._stop_if_unsafe(calls)
        if function is not SET_DIRECT:
            # It may be answered before the channel's state shows that it starts.
            self._may_start_until = self._clock.now() + self._clock.lab(START_DELAY)
        ended = self._under_way = asyncio.get_running_loop().create_future()
        try:
            await self._tell(function, parameters)
        finally:
            self._commanded_at = self._clock.now()
            self._under_way = None
            if not ended.done():
                ended.set_result(None)

    def _stop_if_unsafe(self, calls: int) -> None:
        if calls != self._calls_for_safety:
            raise self._error(
                InstrumentError, "was asked for its safe state; the set-point was given up"
            )

    async def _look(self, *, urgent: bool = False) -> Observation:
        """State and readings of this channel, asked for now."""
        try:
            return await self._connected().look(self._channel, urgent=urgent)
        except InstrumentError as error:
            self._blame(error)

    async def _is_ours(self, beginning: str, *, urgent: bool = False) -> bool:
        """Whether the test on the channel, running or not, has a name that begins so."""
        names = await self._ask(NAMES, urgent=urgent)
        name = self._parse(NAMES, lambda found: found.word("TestName"), names)
        return bool(beginning) and name.startswith(beginning)

    def _parse(self, function: Function, parse: Callable[[Result], T], result: Result) -> T:
        try:
            return parse(result)
        except MacNetReplyError as error:
            raise self._error(
                GarbledReplyError,
                f"answered function {function.group},{function.number} wrongly: expected {error}",
            ) from error

    def _error(self, kind: type[InstrumentError], message: str) -> InstrumentError:
        return kind(message, instrument=self.INFO.name, address=self._wire.address)

    def _blame(self, error: InstrumentError) -> NoReturn:
        """Raise the session's error with instrument and channel."""
        if isinstance(error, ReportedError):
            place = {"instrument": self.INFO.name, "address": self._wire.address}
            raise ReportedError(error.code, error.text, **place) from error
        raise self._error(type(error), error.reason) from error

    def _refuse(self, reason: str) -> NoReturn:
        raise self._error(UnsupportedError, f"cannot do this: {reason}. Nothing was written.")

    # State ---------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Whatever was being driven is not to be renewed."""

    async def status(self) -> ChannelStatus:
        """State and counters of the test on the channel."""
        return self._parse(EVERYTHING, status_of, await self._ask(EVERYTHING))

    async def auxiliary(self) -> tuple[tuple[float, str], ...]:
        """Auxiliary inputs of the channel: value and the unit that the tester gives."""
        values = self._parse(
            AUXILIARY, lambda found: found.numbers("AuxValues"), await self._ask(AUXILIARY)
        )
        units = self._parse(
            AUXILIARY_UNITS,
            lambda found: found.items("AuxUnit", len(values)),
            await self._ask(AUXILIARY_UNITS),
        )
        return tuple((value, str(unit).strip()) for value, unit in zip(values, units, strict=True))

    async def output_is_on(self) -> bool:
        """Read whether a test is under way on the channel, ours or not. Writes nothing."""
        return not self._is_off(await self._look(urgent=True))

    @staticmethod
    def _is_off(observed: Observation) -> bool:
        return observed.state in IDLE | OVER and observed.doing not in CHARGING | DISCHARGING

    async def _become(
        self, wanted: Callable[[Observation], bool], what: str, calls: int | None = None
    ) -> None:
        """Look at the channel until it is as wanted. Raises NotVerifiedError."""
        clock = self._clock
        deadline = clock.now() + clock.lab(PATIENCE)
        while not wanted(observed := await self._look()):
            if calls is not None:
                self._stop_if_unsafe(calls)
            if clock.now() >= deadline:
                raise self._error(
                    NotVerifiedError,
                    f"should be {what} but is {observed.words}, RF1 {observed.doing}, after "
                    f"{PATIENCE:g} s. Bring it to the safe state and look at the tester.",
                )
            await clock.sleep(clock.lab(LOOK))

    async def _clear(self) -> None:
        """End and take away what is on the channel, if it is ours; returns when it is available."""
        self._forget()
        observed = await self._look()
        if observed.state in IDLE and self._is_off(observed):
            return
        if STAT[observed.state] != "completed" and not await self._is_ours(PREFIX):
            self._refuse(
                f"the channel is {observed.words} with a test that is not ours. End it at the "
                "tester, or choose another channel"
            )
        if observed.state not in OVER:
            observed = await self._halt()
        if observed.state not in IDLE:
            await self._tell(RESET)
        await self._become(lambda seen: seen.state in IDLE, "available after a reset")

    def _new_name(self) -> str:
        """A name that no other test has: the time in ms to the base of 36, and the channel."""
        number, digits = int(self._clock.utc() * 1e3), ""
        while number:
            number, digit = divmod(number, 36)
            digits = _DIGITS[digit] + digits
        return f"{PREFIX}{digits}-{self._channel + 1}"

    # Safe state ----------------------------------------------------------------------------

    async def safe(self) -> None:
        """Suspend whatever runs on the channel; returns when it has been read back.

        A test of ours that waits after a power failure is ended instead. Idempotent, in any
        state, without waiting for a set-point that is being programmed. Raises SafeStateError or
        CommunicationError.
        """
        self._calls_for_safety += 1
        self._forget()
        try:
            await self._halt()
            while self._under_way is not None:
                # A command that was sent before may have come after what was read back.
                await asyncio.wait({self._under_way})
                await self._halt()
        except CommunicationError:
            if self._session is not None:
                await self._session.shout(SUSPEND, {"Chan": self._channel})
            raise

    async def _halt(self) -> Observation:
        """Suspend the channel until it is read back that nothing runs; what was read at last."""
        clock = self._clock
        deadline = clock.now() + clock.lab(0.5 * PATIENCE)
        refusal, told = "", False
        while True:
            observed = await self._look(urgent=True)
            starting = observed.state in IDLE and clock.now() < self._may_start_until
            if self._is_off(observed) and not starting:
                return observed
            if clock.now() >= deadline:
                raise self._error(
                    SafeStateError,
                    f"should be suspended but is {observed.words}, RF1 {observed.doing}{refusal}. "
                    "ASSUME THAT THE OUTPUT IS ON: disconnect the cell.",
                )
            if told or starting:
                await clock.sleep(clock.lab(LOOK))
            if not self._is_off(observed):
                told, ending, why = True, SUSPEND, ""
                if observed.state == POWER_FAIL and observed.doing not in CHARGING | DISCHARGING:
                    # The test waits to be resumed, the document does not say by whom or when:
                    # it is safe when it is ended. What is not ours must not be lost by that.
                    ours = await self._is_ours(PREFIX, urgent=True)
                    ending = RESET if ours else SUSPEND
                    why = "" if ours else ", with a test that is not ours: end it at the tester"
                try:
                    await self._tell(ending, urgent=True)
                except ReportedError as error:
                    refusal = f", and says {error.text!r}{why}"
