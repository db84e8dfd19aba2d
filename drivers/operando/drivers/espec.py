"""ESPEC P300 and SCP-220 temperature chambers, ASCII lines over RS-232, RS-485 or TCP.

Document: ChamberConnectLibrary of ESPEC North America (p300.py, especinteract.py), the maker's own
Python client. It does not show how a set command is acknowledged: anything but NA: counts, and
what was set is read back. Humidity, programs and time signals are not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple, NoReturn, TypeAlias

from pydantic import Field

from operando.drivers.driver import WaryDriver
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    NotVerifiedError,
    ReportedError,
    SafeStateError,
    WrongInstrumentError,
)
from operando.instruments.quantities import Kelvins
from operando.instruments.roles import DriverInfo, Expect, Identity
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Terminated, Wire

ZERO_CELSIUS = 273.15
"""K at 0 degC (SI brochure 9th edition, 2.3.1)."""

TIMEOUT = 3.0
"""s; the time-out of the maker's client."""

URGENT_TIMEOUT = 0.8
"""s for the exchanges of `safe`, so that several of them fit into the 6 s that it is given.
ASSUMPTION: the chamber answers within a fraction of a second."""

RESOLUTION = 0.1
"""K; set-points go out and come back with one decimal."""

SETTLING = 0.2
"""s between looks at the mode after it was told to change."""

SHOWS = 1.0
"""s within which a mode shows, and acts, after it was told. ASSUMPTION: the document says nothing.
Until then a command from before may still come to act, whoever gave it."""

LINE = Terminated(b"\r\n")

MODES = frozenset({"OFF", "STANDBY", "CONSTANT", "RUN"})

MEANINGS = {
    "CMD ERR": "unknown command",
    "ADDR ERR": "wrong address",
    "CONT NOT READY-1": "it has no humidity or product temperature control",
    "CONT NOT READY-2": "no program is running",
    "CONT NOT READY-3": "this controller does not know the command",
    "CONT NOT READY-4": "keys cannot be locked while it is off",
    "CONT NOT READY-5": "the time signal is not enabled",
    "DATA NOT READY": "there is no such program",
    "PARA ERR": "a parameter is missing or not understood",
    "DATA OUT OF RANGE": "the value is outside the range that it allows",
    "PROTECT ON": "its settings are protected at the panel",
    "INVALID REQ": "it does not have this function",
    "CHB NOT READY": "it cannot do this now",
}
"""What the words behind NA: mean, from especinteract.py."""

_NUMBER = re.compile(r"[+-]?\d{1,4}(?:\.\d{1,2})?")
_COUNT = re.compile(r"\d{1,3}")
_SUFFIX = re.compile(r".*-(\d+)")

SafeState = Literal["standby", "off", "hold"]


@dataclass(frozen=True, slots=True)
class EspecSettings:
    """How the chamber is reached, and what it may do to the cells inside.

    address: on RS-485, sent before each command; 0 for RS-232 and TCP, where none is sent.
    lowest, highest: K. Written as the chamber's own alarm limits before the set-point; a
    set-point outside is refused.
    safe_state: "standby" stops heating and cooling, "off" switches the controller off too, "hold"
    leaves it as it is, for cells that must not leave their temperature when a run trips.
    """

    address: Annotated[int, Field(ge=0, le=99)] = 0
    lowest: Kelvins = 253.15
    highest: Kelvins = 353.15
    safe_state: SafeState = "standby"

    def __post_init__(self) -> None:
        if not 0 <= self.address <= 99:
            raise BadInputError(f"address must be 0 (none) or 1 to 99, not {self.address}")
        if not self.lowest < self.highest:
            raise BadInputError(
                f"lowest must be below highest, not {self.lowest:g} K and {self.highest:g} K"
            )


class Monitor(NamedTuple):
    """What MON? tells. temperature: degC. alarms: their number."""

    temperature: float
    mode: str
    alarms: int


class Loop(NamedTuple):
    """What TEMP? tells, all degC: temperature, set-point, upper and lower alarm limit."""

    temperature: float
    setpoint: float
    high: float
    low: float


class EspecP300(WaryDriver[EspecSettings]):
    """One chamber, in constant mode. When the host falls silent it goes on holding.

    Nothing on board stops it then but its alarm limits, which `hold` writes before the set-point,
    and its own over-temperature protector, which is set at the chamber.
    """

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="espec-p300",
        maker="ESPEC",
        models=("P300", "SCP220"),
        document="ChamberConnectLibrary (ESPEC North America), p300.py and especinteract.py",
        roles=("temperature_controller",),
        identification="model",
        safe_state="settings.safe_state: standby (default), off, or hold as it is; read back",
        measures=("chamber_temperature",),
        notes=(
            "goes on heating or cooling when the computer dies: set its own over-temperature "
            "protector for the cells inside",
            "a running program is refused, not stopped; humidity is left as it is",
            "how it acknowledges a setting is not documented: each one is read back",
        ),
    )
    Settings: TypeAlias = EspecSettings

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: EspecSettings = EspecSettings(),
    ) -> None:
        super().__init__(wire, clock, name=name, expect=expect, settings=settings)
        self._prefix = b"%d," % settings.address if settings.address else b""
        self._highest = settings.highest
        self._lock = asyncio.Lock()

    # Identity ------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities. fastest_sampling is an ASSUMPTION: the document gives no update rate."""
        return Capabilities(
            fastest_sampling=1.0,
            off_time=2.0 * URGENT_TIMEOUT,
            on_board=frozenset({"temperature alarm limits"}),
            when_host_is_silent=WhenHostIsSilent.STAYS_ON,
        )

    async def connect(self) -> Identity:
        """Open the wire, read which controller answers and check it. Writes nothing.

        Raises WrongInstrumentError for another model, and for an expected serial number: it has
        none to read.
        """
        if self._expect.serial:
            raise self._error(
                WrongInstrumentError,
                f"serial {self._expect.serial} cannot be checked, since the chamber does not say "
                "its serial number. Nothing was written. Remove `expect.serial`.",
            )
        return await super().connect()

    async def _identify(self, *, urgent: bool = False) -> Identity:
        self._trusted = False
        reply = await self._query("TYPE?", urgent=urgent)
        fields = [field.strip() for field in reply.split(",")]
        if len(fields) not in (3, 4) or not _NUMBER.fullmatch(fields[-1]):
            self._garbled("TYPE?", reply, "such as T,P300,180.0")
        said = fields[-2].upper().replace("-", "").replace(" ", "")
        found = next((model for model in self.INFO.models if model in said), "")
        wanted = self._expect.model.upper().replace("-", "") or found
        if not found or found != wanted:
            raise self._error(
                WrongInstrumentError,
                f"expected model {wanted or ' or '.join(self.INFO.models)}, found {fields[-2]!r}. "
                "Nothing was written. Correct `driver`, `address` or `expect.model`.",
            )
        firmware = (await self._query("ROM?", urgent=urgent)).strip()
        if self._expect.firmware and firmware != self._expect.firmware:
            raise self._error(
                WrongInstrumentError,
                f"expected firmware {self._expect.firmware}, found {firmware}. Nothing was "
                "written. Correct `expect.firmware` in the bench file.",
            )
        self._highest = min(self._settings.highest, float(fields[-1]) + ZERO_CELSIUS)
        self._trusted = True
        return Identity(self.INFO.maker, found, "", firmware)

    # Holding -------------------------------------------------------------------------------

    def check(self, temperature: float) -> None:
        """Raise UnsupportedError outside the settings, and what the chamber allows if it told.

        temperature: K. Touches nothing.
        """
        lowest = self._settings.lowest
        if not lowest <= temperature <= self._highest:
            self._refuse(
                f"{temperature:g} K is outside {lowest:g} to {self._highest:g} K, which "
                "`settings.lowest`, `settings.highest` and the chamber allow"
            )

    async def hold(self, temperature: float) -> None:
        """Go to `temperature` (K) and hold it; returns when set-point and mode are read back.

        The alarm limits of the settings are on board before the set-point. Raises UnsupportedError
        outside them and while a program runs, ReportedError, NotVerifiedError.
        """
        self.check(temperature)
        settings = self._settings
        calls = self._calls_for_safety
        async with self._lock:
            mode = await self._mode()
            if mode == "RUN":
                self._refuse("a program is running on it; end that at the chamber first")
            wanted = temperature - ZERO_CELSIUS
            high, low = self._highest - ZERO_CELSIUS, settings.lowest - ZERO_CELSIUS
            self._stop_if_unsafe(calls)
            await self._limit(low, high, wanted)
            self._stop_if_unsafe(calls)
            await self._tell(f"TEMP, S{wanted:.1f}")
            await self._verify(wanted, low, high)
            if mode != "CONSTANT":
                self._stop_if_unsafe(calls)
                try:
                    await self._tell("MODE,CONSTANT")
                    if (mode := await self._settled("CONSTANT")) != "CONSTANT":
                        self._not_verified("MODE?", "CONSTANT", mode)
                finally:
                    if calls != self._calls_for_safety:
                        # `safe` may have come between the last look at it and the mode command.
                        await self._make_safe()
            self._stop_if_unsafe(calls)

    async def _limit(self, low: float, high: float, wanted: float) -> None:
        """Write the alarm limits (degC), read them back."""
        found = await self._loop()
        if _near(found.low, low) and _near(found.high, high):
            return
        if low <= found.setpoint <= high:
            await self._tell(f"TEMP, H{high:.1f}")
            await self._tell(f"TEMP, L{low:.1f}")
        else:
            # The old set-point lies outside: the three must change in one command.
            await self._tell(f"TEMP, S{wanted:.1f} H{high:.1f} L{low:.1f}")
        found = await self._loop()
        if not (_near(found.low, low) and _near(found.high, high)):
            self._not_verified(
                "TEMP?", f"limits {low:.1f} to {high:.1f} degC", f"{found.low} to {found.high}"
            )

    async def _verify(self, wanted: float, low: float, high: float) -> None:
        found = await self._loop()
        if not (_near(found.setpoint, wanted) and _near(found.low, low)) or not _near(
            found.high, high
        ):
            self._not_verified(
                "TEMP?",
                f"set-point {wanted:.1f} within {low:.1f} to {high:.1f} degC",
                f"{found.setpoint} within {found.low} to {found.high}",
            )

    # Measuring -----------------------------------------------------------------------------

    async def measure(self) -> AuxReading:
        """Measure the temperature of the chamber's air (K), quantity "chamber_temperature".

        FAULT while it reports an alarm: the number is kept, but ends no step and counts as
        missing for limits.
        """
        if not self._trusted:
            await self._identify()
        sent = self._clock.now()
        monitor = await self._monitor()
        width = 0.5 * (self._clock.now() - sent)
        status = Status.FAULT if monitor.alarms else Status.OK
        value = monitor.temperature + ZERO_CELSIUS
        return AuxReading(self.name, "chamber_temperature", sent + width, width, value, status)

    async def alarms(self) -> tuple[int, ...]:
        """Measure which alarms are active: their codes, as the chamber's manual lists them."""
        reply = await self._ask("ALARM?")
        fields = [field.strip() for field in reply.split(",")]
        if not all(map(_COUNT.fullmatch, fields)) or int(fields[0]) != len(fields) - 1:
            self._garbled("ALARM?", reply, "such as 1,7")
        return tuple(map(int, fields[1:]))

    # Safe state ----------------------------------------------------------------------------

    async def safe(self) -> None:
        """Bring it into the safe state of the settings; returns when MODE? goes on showing it.

        Always tells it, whatever it shows: a set-point that was told a moment ago may not show
        yet. Takes `SHOWS` and more. "hold" writes nothing and only proves that the chamber
        answers. Idempotent. Raises SafeStateError or CommunicationError.
        """
        self._calls_for_safety += 1
        try:
            if not self._trusted:
                await self._identify(urgent=True)
            await self._make_safe()
        except CommunicationError:
            await self._tell_blindly()
            raise

    async def _tell_blindly(self) -> None:
        """Tell it to stop although it does not answer: the line may still carry one way."""
        state = self._settings.safe_state
        if state == "hold":
            return
        command = "POWER,off" if state == "off" else _STANDBY
        request = self._prefix + command.encode("ascii") + b"\r\n"
        with contextlib.suppress(CommunicationError):
            await self._wire.send(request, URGENT_TIMEOUT, urgent=True)

    async def _make_safe(self) -> None:
        mode = await self._mode(urgent=True)
        state = self._settings.safe_state
        if state == "hold":
            return
        # One that is off stays off: standing by would switch it on.
        command = "POWER,off" if "OFF" in (mode, state.upper()) else _STANDBY
        wanted = ("OFF",) if state == "off" else ("STANDBY", "OFF")
        answer = "it was told"
        try:
            await self._tell(command, urgent=True)
        except ReportedError as error:
            answer = f"it refused: {error.reason}"
        mode = await self._settled(*wanted, urgent=True, stays=True)
        if mode not in wanted:
            self._not_safe(f"MODE? reads back {mode} after {command} ({answer})")

    def _not_safe(self, why: str) -> NoReturn:
        raise self._error(
            SafeStateError,
            f"{why}. ASSUME THAT IT GOES ON HEATING OR COOLING: stop it at the chamber.",
        )

    # Lines ---------------------------------------------------------------------------------

    async def _query(self, command: str, *, urgent: bool = False) -> str:
        """Send a line, return its reply; the words behind NA: become ReportedError."""
        timeout = URGENT_TIMEOUT if urgent else TIMEOUT
        request = self._prefix + command.encode("ascii") + b"\r\n"
        reply = await self._exchange(request, LINE, timeout, urgent=urgent)
        text = reply.decode("ascii", "replace")
        if not text.isascii() or not text.isprintable():
            self._garbled(command, text, "a line of text")
        if text.startswith("NA:"):
            words = text[3:].strip()
            suffix = _SUFFIX.fullmatch(words)
            meaning = MEANINGS.get(words, "see the chamber's manual")
            raise self._reported(
                int(suffix[1]) if suffix else 0, f"{words} ({meaning}), to {command}"
            )
        return text

    async def _ask(self, command: str, *, urgent: bool = False) -> str:
        if not self._trusted:
            await self._identify(urgent=urgent)
        return await self._query(command, urgent=urgent)

    async def _tell(self, command: str, *, urgent: bool = False) -> None:
        """Send a setting. Its acknowledgement is not documented: whatever is not NA: will do."""
        await self._ask(command, urgent=urgent)

    async def _monitor(self) -> Monitor:
        reply = await self._ask("MON?")
        fields = [field.strip() for field in reply.split(",")]
        if (
            len(fields) != 4
            or not _NUMBER.fullmatch(fields[0])
            or fields[2] not in MODES
            or not _COUNT.fullmatch(fields[3])
        ):
            self._garbled("MON?", reply, "such as 25.1,,CONSTANT,0")
        return Monitor(float(fields[0]), fields[2], int(fields[3]))

    async def _loop(self) -> Loop:
        reply = await self._ask("TEMP?")
        fields = [field.strip() for field in reply.split(",")]
        if len(fields) != 4 or not all(map(_NUMBER.fullmatch, fields)):
            self._garbled("TEMP?", reply, "such as 25.1,25.0,180.0,-70.0")
        return Loop(*map(float, fields))

    async def _mode(self, *, urgent: bool = False) -> str:
        mode = (await self._ask("MODE?", urgent=urgent)).strip()
        if mode not in MODES:
            self._garbled("MODE?", mode, "one of " + ", ".join(sorted(MODES)))
        return mode

    async def _settled(self, *wanted: str, urgent: bool = False, stays: bool = False) -> str:
        """The mode once it is one of `wanted`, else what it still is after some looks.

        stays: look on until nothing that was told before can show any more.
        """
        pause = SETTLING * self._clock.speed
        end = self._clock.now() + SHOWS * self._clock.speed
        last = False
        while True:
            mode = await self._mode(urgent=urgent)
            if last or (mode in wanted and not stays):
                return mode
            # The last look does not begin before `end`.
            last = self._clock.now() + pause > end - 1e-6
            await self._clock.sleep(pause)

    # Errors --------------------------------------------------------------------------------

    def _garbled(self, command: str, reply: str, expected: str) -> NoReturn:
        self._trusted = False
        raise self._error(
            GarbledReplyError,
            f"answered {command} with {reply!r}, expected {expected}. Check the line's settings "
            "and `settings.address`.",
        )

    def _not_verified(self, command: str, expected: str, found: str) -> NoReturn:
        raise self._error(
            NotVerifiedError,
            f"{command} should give {expected} but gives {found}. Look at the chamber's panel "
            "before you go on.",
        )


_STANDBY = "MODE,STANDBY"


def _near(found: float, wanted: float) -> bool:
    """Whether a temperature (degC) reads back as it was written, with one decimal."""
    return abs(found - wanted) <= 0.5 * RESOLUTION + 1e-6
