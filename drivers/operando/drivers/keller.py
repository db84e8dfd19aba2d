"""Keller 33X and other X-line transmitters as a gauge of a glovebox's pressure, Modbus RTU.

Document: Keller, Communication protocol for Series 30 and X-line pressure transmitters
(Class.Group 5.20 and 5.21), chapter 4. The serial number and the ranges are read where the
firmware has them (5.20-10.XX and later).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NoReturn, TypeAlias

from pydantic import Field

from operando.drivers import modbus
from operando.drivers.driver import NoOutput, WireDriver
from operando.instruments.capabilities import Capabilities, Range, WhenHostIsSilent
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    NotVerifiedError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.humidity import ATMOSPHERE
from operando.instruments.quantities import Pascals
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Sized

P1 = 0x0002
"""Pressure of sensor 1, bar, float."""

SERIAL = 0x0202
"""Serial number, high word first (device configuration range)."""

RANGE = (0x03A0, 0x03A2)
"""Lowest and highest pressure of sensor 1, bar, float (coefficients 80 and 81)."""

SET_ZERO = 0xFF00
"""Takes what P1 shall read now, bar, float."""

RESET_ZERO = 0xFF02

BAR = 1e5
"""Pa."""

ILLEGAL_ADDRESS = 2
"""Modbus exception of a register that the firmware does not have."""

TIMEOUT = 0.5
"""s; it answers within milliseconds, a frame of 13 bytes at 9600 baud takes 14 ms."""

_ZEROED = 100.0
"""Pa within which a new zero must be read back."""


@dataclass(frozen=True, slots=True)
class KellerSettings:
    """What the transmitter cannot say.

    address: 1 to 249; 250 is answered by any, for one transmitter alone on its line.
    reference: whether it measures against the room (gauge) or against vacuum (absolute).
    atmosphere: Pa in the room, subtracted from an absolute reading to get the box pressure.
    echo: whether the cable (K-114) returns what is sent.
    """

    address: Annotated[int, Field(ge=1, le=250)] = 1
    reference: Literal["gauge", "absolute"] = "gauge"
    atmosphere: Pascals = ATMOSPHERE
    echo: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.address <= 250:
            raise BadInputError(f"address must be 1 to 250, not {self.address}")
        if not 0.0 < self.atmosphere < math.inf:
            raise BadInputError(f"atmosphere must be positive, not {self.atmosphere:g} Pa")


class Keller33X(NoOutput, WireDriver[KellerSettings]):
    """One X-line transmitter. No output; nothing happens when the host falls silent."""

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="keller-33x",
        maker="Keller",
        models=("X-line",),
        document="Keller, Communication protocol for Series 30 and X-line, chapter 4 (Modbus)",
        roles=("glovebox_monitor",),
        identification="serial",
        safe_state="has no output",
        measures=("box_pressure",),
        notes=(
            "box_pressure is against the room: an absolute transmitter needs settings.reference "
            "and settings.atmosphere, and then moves with the weather",
            "firmware before 5.20-10 has no serial number to read",
        ),
    )
    Settings: TypeAlias = KellerSettings

    _known = ""  # serial number of the instrument that was connected first
    _range: tuple[float, float] | None = None
    _quiet_until = -math.inf

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities; the range of sensor 1 (Pa) once connected, where the firmware says it.

        Its update rate is not in the document: fastest_sampling is an ASSUMPTION.
        """
        found = self._range
        return Capabilities(
            pressure_ranges=() if found is None else (Range(max(map(abs, found))),),
            fastest_sampling=0.1,
            when_host_is_silent=WhenHostIsSilent.NO_OUTPUT,
        )

    async def measure(self) -> tuple[AuxReading, ...]:
        """Measure the pressure of the box against the room, quantity "box_pressure", Pa.

        FAULT with NaN when the sensor does not work; OVERLOAD or UNDERLOAD with NaN beyond its
        range, where it sends infinity.
        """
        sent = self._clock.now()
        bar = await self._read_float(P1)
        width = 0.5 * (self._clock.now() - sent)
        if math.isnan(bar):
            value, status = math.nan, Status.FAULT
        elif math.isinf(bar):
            value, status = math.nan, Status.OVERLOAD if bar > 0.0 else Status.UNDERLOAD
        else:
            value, status = bar * BAR - self._offset, Status.OK
        return (AuxReading(self.name, "box_pressure", sent + width, width, value, status),)

    async def zero(self) -> None:
        """Make the present pressure the zero of sensor 1; an operator's decision, to be logged.

        Only with the box open to the room. Raises UnsupportedError on an absolute transmitter,
        NotVerifiedError when it does not read zero afterwards.
        """
        if self._settings.reference == "absolute":
            raise self._error(
                UnsupportedError,
                "measures against vacuum, which is not at hand to zero it. Nothing was written. "
                "Set `settings.atmosphere` to the pressure in the room.",
            )
        await self._write_float(SET_ZERO, 0.0)
        pressure = await self._read_float(P1) * BAR
        if not abs(pressure) <= _ZEROED:
            raise self._error(
                NotVerifiedError,
                f"was told to zero P1, but reads {pressure:g} Pa, expected 0 within {_ZEROED:g} "
                "Pa. Open the box to the room and let it settle, or reset the zero.",
            )

    async def reset_zero(self) -> None:
        """Return to the zero of the factory; an operator's decision."""
        await self._write_float(RESET_ZERO, 0.0)

    @property
    def _offset(self) -> float:
        settings = self._settings
        return settings.atmosphere if settings.reference == "absolute" else 0.0

    async def _identify(self) -> Identity:
        """Read serial number and range, check the serial number. Writes nothing."""
        # Read a pressure first: it proves the link with every firmware there is.
        await self._read_float(P1)
        words = await self._read_where_there(SERIAL)
        serial = str(words[0] << 16 | words[1]) if words else ""
        ends = [await self._read_where_there(register) for register in RANGE]
        lowest, highest = (math.nan if end is None else _float(end) * BAR for end in ends)
        if math.isfinite(lowest) and math.isfinite(highest):
            self._range = (lowest, highest)
        self._check(serial)
        self._known = serial
        # The register map of an X-line is all there is to tell 33X, 35X and 36X by.
        return Identity(self.INFO.maker, "X-line", serial) if serial else Identity("", "")

    def _check(self, serial: str) -> None:
        expected = self._expect
        if expected.model or expected.firmware:
            raise self._error(
                WrongInstrumentError,
                f"{expected} cannot be checked: an X-line transmitter gives its serial number "
                "alone. Nothing was written. Expect that in the bench file.",
            )
        wanted = self._known or expected.serial
        if wanted and wanted != serial:
            found = f"its serial number is {serial}" if serial else "its firmware gives no serial"
            raise self._error(
                WrongInstrumentError,
                f"expected serial number {wanted}, but {found}. Nothing was written. "
                "Check the cabling or correct `expect` in the bench file.",
            )

    async def _read_where_there(self, register: int) -> tuple[int, ...] | None:
        """Two registers, None when the firmware does not have them."""
        try:
            return await self._read(register)
        except ReportedError as error:
            if error.code != ILLEGAL_ADDRESS:
                raise
            return None

    async def _read_float(self, register: int) -> float:
        return _float(await self._read(register))

    async def _read(self, register: int) -> tuple[int, ...]:
        """Two registers: old firmware gives no more at once."""
        slave = self._settings.address
        reply = await self._exchange(modbus.read_request(slave, register, 2))
        try:
            return modbus.read_reply(reply, slave, 2)
        except (modbus.ModbusExceptionError, modbus.ModbusFrameError) as error:
            self._refuse(reply, error)

    async def _write_float(self, register: int, bar: float) -> None:
        slave = self._settings.address
        words: tuple[int, int] = struct.unpack(">HH", struct.pack(">f", bar))
        reply = await self._exchange(modbus.write_request(slave, register, words))
        try:
            modbus.write_reply(reply, slave, register, 2)
        except (modbus.ModbusExceptionError, modbus.ModbusFrameError) as error:
            self._refuse(reply, error)

    async def _exchange(self, request: bytes) -> bytes:
        clock = self._clock
        if clock.now() < self._quiet_until:
            await clock.sleep_until(self._quiet_until)
        own = len(request) if self._settings.echo else 0
        framing = modbus.REPLY
        if own:
            framing = Sized(own + 3, lambda data: own + modbus.REPLY.length(data[own:]))
        try:
            reply = await self._wire.exchange(request, framing, TIMEOUT)
        except CommunicationError as error:
            self._blame(error)
        self._quiet_until = clock.now() + modbus.SILENCE * clock.speed
        if own and reply[:own] != request:
            raise self._error(
                GarbledReplyError,
                f"the cable returned {reply[:own].hex(' ')} for {request.hex(' ')}. Set "
                "`settings.echo` to false unless the cable (K-114) echoes; two hosts on one line "
                "also look like this.",
            )
        return reply[own:]

    def _refuse(
        self, reply: bytes, error: modbus.ModbusExceptionError | modbus.ModbusFrameError
    ) -> NoReturn:
        if isinstance(error, modbus.ModbusExceptionError):
            raise self._reported(error.code, error.text) from error
        raise self._error(
            GarbledReplyError,
            f"answered with {reply.hex(' ')}: {error}. Check `settings.address`, `settings.echo` "
            "and the line's settings.",
        ) from error


def _float(words: tuple[int, ...]) -> float:
    """A float from two registers, the high word first."""
    value: float = struct.unpack(">f", struct.pack(">HH", *words))[0]
    return value
