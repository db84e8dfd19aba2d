"""Thermolog TL2, a thermometer on RS-232.

Document: Thermolog TL2, serial commands (MANUAL.md of this package).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, NoReturn, TypeAlias

from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    ReportedError,
    WrongInstrumentError,
)
from operando.instruments.quantities import KelvinDifference
from operando.instruments.roles import DriverInfo, Expect, Identity
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Terminated, Wire

LINE = Terminated(b"\r\n")

TIMEOUT = 0.5
"""s; replies begin within 50 ms, and take 16 ms at 9600 baud (manual, Line)."""

PERIOD = 0.25
"""s between two measurements (manual)."""

ZERO_CELSIUS = 273.15
"""K at 0 degC (SI brochure 9th edition, 2.3.1)."""

ERRORS = {1: "unknown command", 2: "not ready: somebody is in its menu"}

WORDS = {"OVER": Status.OVERLOAD, "UNDR": Status.UNDERLOAD, "OPEN": Status.FAULT}
"""What it says instead of a number."""

_TEMPERATURE = re.compile(r"[+-]\d{1,3}\.\d\d")
_IDENTITY = re.compile(r"(\w+),(\d+),(\d+\.\d+)")
_ERROR = re.compile(r"ERR (\d+)")


@dataclass(frozen=True, slots=True)
class ThermologSettings:
    """What the thermometer cannot say. correction: K, added to what it shows."""

    correction: KelvinDifference = 0.0

    def __post_init__(self) -> None:
        if not abs(self.correction) <= 10.0:
            raise BadInputError(f"correction must be -10 to 10 K, not {self.correction:g} K")


def parse(reply: str) -> tuple[float, Status] | None:
    """Temperature (K, NaN when there is none) and status; None for what the manual lacks."""
    if reply in WORDS:
        return math.nan, WORDS[reply]
    if _TEMPERATURE.fullmatch(reply):
        return float(reply) + ZERO_CELSIUS, Status.OK
    return None


class ThermologTL2:
    """One TL2. No output; nothing happens when the host falls silent."""

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="thermolog-tl2",
        maker="Thermolog",
        models=("TL2",),
        document="Thermolog TL2, serial commands",
        roles=("thermometer",),
        identification="serial",
        safe_state="has no output",
        measures=("temperature",),
    )
    Settings: TypeAlias = ThermologSettings

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: ThermologSettings = ThermologSettings(),
    ) -> None:
        self._wire = wire
        self._clock = clock
        self._expect = expect
        self._settings = settings
        self._known = ""  # serial number of the instrument that was connected first
        self.name = name or self.INFO.name

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities, from the manual."""
        return Capabilities(fastest_sampling=PERIOD, when_host_is_silent=WhenHostIsSilent.NO_OUTPUT)

    async def connect(self) -> Identity:
        """Open the wire, read the identity and check it."""
        try:
            await self._wire.open()
        except CommunicationError as error:
            self._blame(error)
        return await self._identify()

    async def reconnect(self) -> Identity:
        """Abandon the session, open another, check the identity again."""
        try:
            await self._wire.reopen()
        except CommunicationError as error:
            self._blame(error)
        return await self._identify()

    async def safe(self) -> None:
        """Return at once: it has no output, whatever the state of its link."""

    async def close(self) -> None:
        """Close the wire."""
        await self._wire.close()

    async def measure(self) -> AuxReading:
        """Measure the temperature, quantity "temperature", K.

        NaN with OVERLOAD or UNDERLOAD beyond its range, with FAULT when the sensor is broken.
        """
        sent = self._clock.now()
        reply = await self._ask("T?")
        width = 0.5 * (self._clock.now() - sent)
        found = parse(reply)
        if found is None:
            self._garbled("T?", reply, "such as +23.41")
        value, status = found
        value += self._settings.correction
        return AuxReading(self.name, "temperature", sent + width, width, value, status)

    async def _identify(self) -> Identity:
        reply = await self._ask("ID?")
        found = _IDENTITY.fullmatch(reply)
        if found is None:
            self._garbled("ID?", reply, "such as TL2,10472,1.04")
        identity = Identity(self.INFO.maker, *found.groups())
        serial = self._known or self._expect.serial
        for what, wanted, came in (
            ("model", self._expect.model or "TL2", identity.model),
            ("serial number", serial, identity.serial),
            ("firmware", self._expect.firmware, identity.firmware),
        ):
            if wanted and came != wanted:
                raise self._error(
                    WrongInstrumentError,
                    f"expected {what} {wanted}, but {came} answers. Nothing was written. Check the "
                    "cabling or correct `expect` in the bench file.",
                )
        self._known = identity.serial
        return identity

    async def _ask(self, command: str) -> str:
        """Send a command; its reply. Raises ReportedError for ERR."""
        try:
            reply = await self._wire.exchange(command.encode("ascii") + b"\r\n", LINE, TIMEOUT)
        except CommunicationError as error:
            self._blame(error)
        text = reply.decode("ascii", "replace")
        if refused := _ERROR.fullmatch(text):
            code = int(refused[1])
            raise ReportedError(
                code,
                f"{ERRORS.get(code, 'not in its manual')}, to {command}",
                instrument=self.INFO.name,
                address=self._wire.address,
            )
        return text

    def _error(self, kind: type[InstrumentError], message: str) -> InstrumentError:
        return kind(message, instrument=self.INFO.name, address=self._wire.address)

    def _blame(self, error: CommunicationError) -> NoReturn:
        """Raise a wire's error with the instrument's name."""
        raise self._error(type(error), error.reason) from error

    def _garbled(self, command: str, reply: str, expected: str) -> NoReturn:
        raise self._error(
            GarbledReplyError,
            f"answered {command} with {reply!r}, expected a reply {expected}. Check `address`.",
        )
