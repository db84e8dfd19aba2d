"""Vaisala DMT143, dew point transmitter of a glovebox, ASCII over RS-485 in POLL mode.

Document: Vaisala DRYCAP DMT143 User Guide, M211435EN, chapter 7 (serial communication). The
reply to SNUM is not printed there: its label is read past, as INFN Trieste's wrapper for these
transmitters also does. 19200 baud 8N1 is the transmitter's default.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import Field

from operando.drivers.driver import NoOutput, WireDriver
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    WrongInstrumentError,
)
from operando.instruments.humidity import ATMOSPHERE, saturation_pressure
from operando.instruments.quantities import Pascals
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Sized

TIMEOUT = 1.0
"""s; a line of 50 characters takes 26 ms at 19200 baud, a quarter of a second at 2400."""

SETTLING = 0.3
"""s given to OPEN and CLOSE, whose replies the guide does not print: they are dropped."""

AGREEMENT = 0.05
"""Fraction of its water content within which the numbers of one line must agree.

0.4 K of frost point, a fifth of the transmitter's own accuracy (2 K): wide enough for any
formula that its firmware may use, narrow enough to find most damaged digits.
"""

COLDEST, HOTTEST = 173.15, 373.15
"""K, beyond which a dew point of a DMT143 is nonsense; its own range is -80 to +20 degC."""

_ELEMENT = re.compile(
    r"\s*(Tdfatm|Tdfa|Tdf|H2O|H20|RH)\s*=\s*(-?\d{1,7}(?:\.\d{1,4})?|\*+)\s*('C|'F|ppmv?|%)"
)
_UNITS = {"T": ("'C", "'F"), "H": ("ppm", "ppmv"), "R": ("%",)}
_SERIAL = re.compile(r"(?:[A-Za-z][A-Za-z ]*:\s*)?([A-Z]?\d{4,12})")
_MODE_REPLY = re.compile(rb"line (opened|closed)", re.IGNORECASE)

Checksum = Literal["none", "CS2", "CS4", "CSX"]

_DIGITS = {"CS2": 2, "CS4": 4, "CSX": 2}


@dataclass(frozen=True, slots=True)
class DMT143Settings:
    """What the line does not say.

    address: 0 to 255, of the transmitter in POLL mode. mode: its serial mode; in STOP mode it is
    asked without its address. pressure: Pa that it was given for its calculations (PRES); 1 atm
    when nobody changed it. checksum: the modifier at the end of its format, if it has one.
    """

    address: Annotated[int, Field(ge=0, le=255)] = 0
    mode: Literal["poll", "stop"] = "poll"
    pressure: Pascals = ATMOSPHERE
    checksum: Checksum = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.address <= 255:
            raise BadInputError(f"address must be 0 to 255, not {self.address}")
        if not 0.0 < self.pressure < math.inf:
            raise BadInputError(f"pressure must be positive, not {self.pressure:g} Pa")


class Measurement(NamedTuple):
    """One line. NaN for what the transmitter shows as asterisks, None for what it does not send.

    dew_point, atmospheric: K, at its pressure and at 1 atm. ratio: moles of water per mole of dry
    gas. step: of the last digit of `ratio`.
    """

    dew_point: float
    atmospheric: float | None
    ratio: float | None
    step: float


def checksum(text: bytes, kind: Checksum) -> bytes:
    """The check sum (CS2, CS4 or CSX) of what was sent before it, in hexadecimal digits."""
    total = reduce(xor, text, 0) if kind == "CSX" else sum(text)
    digits = _DIGITS[kind]
    return b"%0*X" % (digits, total % 16**digits)


def _lines(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Complete lines without prompt and spaces, with where each ends in `data`."""
    start = 0
    for found in re.finditer(rb"[\r\n]", data):
        yield data[start : found.start()].lstrip(b"> "), found.end()
        start = found.end()


def answer(data: bytes, command: bytes) -> tuple[bytes, int] | None:
    """The first line that is no echo of `command`, and where it ends; None when incomplete.

    The transmitter echoes commands, ended by CR, and prompts with `>`.
    """
    for line, end in _lines(data):
        words = line.strip()
        if words and words.upper() != command and not _MODE_REPLY.search(words):
            return line, end
    return None


def parse(line: str) -> Measurement | None:
    """What a line in the default or a similar format says; None when it is none."""
    found: dict[str, tuple[str, str]] = {}
    end = 0
    while element := _ELEMENT.match(line, end):
        key = {"Tdfatm": "Tdfa", "H20": "H2O"}.get(element[1], element[1])
        if key in found or element[3] not in _UNITS[key[0]]:
            return None
        found[key] = element[2], element[3]
        end = element.end()
    if line[end:].strip() or "Tdf" not in found:
        return None
    atmospheric, water = found.get("Tdfa"), found.get("H2O")
    return Measurement(
        _kelvins(*found["Tdf"]),
        None if atmospheric is None else _kelvins(*atmospheric),
        None if water is None else 1e-6 * _number(water[0]),
        0.0 if water is None else 1e-6 * 10.0 ** -len(water[0].partition(".")[2]),
    )


def _number(text: str) -> float:
    return math.nan if text.startswith("*") else float(text)


def _kelvins(text: str, unit: str) -> float:
    value = _number(text)
    return value + 273.15 if unit == "'C" else (value + 459.67) / 1.8


def contradiction(found: Measurement, pressure: float) -> str:
    """In which way the numbers of a line contradict each other; empty when they do not.

    pressure: Pa, to which the transmitter refers its dew point.
    """
    for point in (found.dew_point, found.atmospheric):
        if point is not None and not (COLDEST <= point <= HOTTEST or math.isnan(point)):
            return f"a dew point of {point - 273.15:.2f} degC"
    fraction = _fraction(found.dew_point, pressure)
    if not fraction < 1.0 and not math.isnan(fraction):
        return f"a dew point of {found.dew_point - 273.15:.2f} degC at {pressure:g} Pa"
    if found.atmospheric is not None:
        other = _fraction(found.atmospheric, ATMOSPHERE)
        if abs(other - fraction) > AGREEMENT * fraction:
            return f"{1e6 * fraction:.4g} ppm from Tdf, {1e6 * other:.4g} ppm from Tdfatm"
    if found.ratio is not None:
        ratio = fraction / (1.0 - fraction)
        if abs(found.ratio - ratio) > AGREEMENT * ratio + found.step:
            return f"{1e6 * ratio:.4g} ppm from Tdf, {1e6 * found.ratio:.4g} ppm as H2O"
    return ""


def _fraction(point: float, pressure: float) -> float:
    return math.nan if math.isnan(point) else saturation_pressure(point) / pressure


class DMT143(NoOutput, WireDriver[DMT143Settings]):
    """One DMT143. No output; nothing happens when the host falls silent."""

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="dmt143",
        maker="Vaisala",
        models=("DMT143",),
        document="Vaisala DRYCAP DMT143 User Guide, M211435EN, chapter 7",
        roles=("glovebox_monitor",),
        identification="serial",
        safe_state="has no output",
        measures=("dew_point", "h2o"),
        notes=(
            "must be in POLL (or STOP) mode with its default format; the driver never changes it",
            "its range ends near -70 degC, 2.6 ppm: drier readings are kept, without its accuracy",
        ),
    )
    Settings: TypeAlias = DMT143Settings

    _known = ""  # serial number of the instrument that was connected first

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities. Its measurement cycle is not in the guide: 1 s is an ASSUMPTION."""
        return Capabilities(fastest_sampling=1.0, when_host_is_silent=WhenHostIsSilent.NO_OUTPUT)

    async def measure(self) -> tuple[AuxReading, ...]:
        """Measure the water: quantities "dew_point" (K) and "h2o" (mole fraction).

        The dew point is a frost point below 0 degC, at the transmitter's pressure. The fraction
        comes from the dew point: H2O itself is printed in whole ppm. FAULT with NaN where the
        transmitter shows asterisks. Raises GarbledReplyError when the numbers of the line
        contradict each other.
        """
        settings = self._settings
        sent = self._clock.now()
        line = await self._ask(f"SEND {settings.address}" if settings.mode == "poll" else "SEND")
        width = 0.5 * (self._clock.now() - sent)
        text = self._verified(line)
        found = parse(text)
        if found is None:
            raise self._garbled(
                line, "such as Tdf= -9.80 'C Tdfatm= -9.80 'C H2O= 2618 ppm (its default, FORM /)"
            )
        wrong = contradiction(found, settings.pressure)
        if wrong:
            raise self._garbled(
                line,
                f"numbers that agree, not {wrong}. Check `settings.pressure` ({settings.pressure:g}"
                " Pa) against its PRES",
            )
        values = ("dew_point", found.dew_point), ("h2o", self._water(found))
        return tuple(
            AuxReading(self.name, quantity, sent + width, width, value, _status(value))
            for quantity, value in values
        )

    def _water(self, found: Measurement) -> float:
        """Mole fraction of water, from the finest number that there is."""
        if found.atmospheric is not None and not math.isnan(found.atmospheric):
            return _fraction(found.atmospheric, ATMOSPHERE)
        if not math.isnan(found.dew_point):
            return _fraction(found.dew_point, self._settings.pressure)
        return math.nan if found.ratio is None else found.ratio / (1.0 + found.ratio)

    def _verified(self, line: bytes) -> str:
        """The line without its check sum, which is checked where there is one."""
        kind = self._settings.checksum
        if kind != "none":
            line = line.rstrip()
            line, sent = line[: -_DIGITS[kind]], line[-_DIGITS[kind] :]
            if checksum(line, kind) != sent.upper():
                right = checksum(line, kind).decode("ascii")
                raise self._garbled(line + sent, f"{right} as {kind} at its end")
        return line.decode("ascii", "replace")

    async def _identify(self) -> Identity:
        """Read and check the serial number; in POLL mode its line is opened and closed for that."""
        if self._settings.mode != "poll":
            return self._check(await self._serial())
        try:
            await self._switch(f"OPEN {self._settings.address}")
            serial = await self._serial()
        except CommunicationError:
            with contextlib.suppress(CommunicationError):
                await self._switch("CLOSE")
            raise
        await self._switch("CLOSE")
        return self._check(serial)

    async def _serial(self) -> str:
        line = await self._ask("SNUM")
        found = _SERIAL.fullmatch(line.decode("ascii", "replace").strip())
        if found is None:
            raise self._garbled(line, "a serial number such as Serial number  : F1234567")
        return found[1]

    def _check(self, serial: str) -> Identity:
        expected = self._expect
        if expected.model not in ("", "DMT143") or expected.firmware:
            raise self._error(
                WrongInstrumentError,
                f"{expected} cannot be checked: of a DMT143 the serial number alone is read. "
                "Nothing was written. Expect that in the bench file.",
            )
        wanted = self._known or expected.serial
        if wanted and wanted != serial:
            raise self._error(
                WrongInstrumentError,
                f"expected serial number {wanted}, but {serial} answers. Nothing was "
                "written. Check the cabling or correct `expect` in the bench file.",
            )
        self._known = serial
        return Identity(self.INFO.maker, "DMT143", serial)

    async def _switch(self, command: str) -> None:
        """Open or close the line to the transmitter; what it says to that is dropped."""
        try:
            await self._wire.send(command.encode("ascii") + b"\r", TIMEOUT)
        except CommunicationError as error:
            self._blame(error)
        await self._clock.sleep(self._clock.lab(SETTLING))

    async def _ask(self, command: str) -> bytes:
        """Send a command; the line that answers it."""
        text = command.encode("ascii")

        def length(data: bytes) -> int:
            found = answer(data, text)
            return len(data) + 1 if found is None else found[1]

        try:
            reply = await self._wire.exchange(text + b"\r", Sized(1, length), TIMEOUT)
        except CommunicationError as error:
            self._blame(error)
        found = answer(reply, text)
        assert found is not None  # or the reply would not have been complete
        return found[0]

    def _garbled(self, line: bytes, expected: str) -> InstrumentError:
        return self._error(
            GarbledReplyError,
            f"answered with {line!r}, expected {expected}. Check its mode (SMODE) and the "
            "settings of the line.",
        )


def _status(value: float) -> Status:
    return Status.FAULT if math.isnan(value) else Status.OK
