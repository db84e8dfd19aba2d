"""PT Ltd PT113 weighing transmitter as a stack-pressure gauge, ASCII (BSI) and Modbus RTU.

Document: PT113 instruction manual, printed pages 32-40. The indicator knows weights alone; the
pressure follows from the unit and the area of the piston, which are settings here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import Field

from operando.drivers import modbus
from operando.drivers.driver import NoOutput, WireDriver
from operando.instruments.capabilities import Capabilities, Range, WhenHostIsSilent
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    NotVerifiedError,
    UnsupportedError,
)
from operando.instruments.quantities import Newtons, SquareMetres
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Terminated

NEWTONS = {"N": 1.0, "kN": 1e3, "kg": 9.80665}
"""N in one unit of the display; kilograms by standard gravity (CGPM 1901)."""

PISTON = 1.3273e-4
"""m2, a piston of 13 mm diameter."""

TIMEOUT = 0.5
"""s; read commands answer at once (manual p. 33). Covers 40 characters at 1200 baud."""

ACTION_TIMEOUT = 3.0
"""s; zero and tare wait up to 2 s for stability (manual p. 34)."""

LINE = Terminated(b"\r\n")


@dataclass(frozen=True, slots=True)
class Tare:
    """A tare. value: N, of the fixture. date: ISO 8601; empty when there is none."""

    value: Newtons = 0.0
    date: str = ""


@dataclass(frozen=True, slots=True)
class PT113Settings:
    """What the indicator cannot say.

    piston_area: m2, over which the force is a pressure. unit: of the display.
    address: 1 to 99 (1 on RS-232).
    capacity: N that the load cell may carry, 0 when not stated; beyond it readings are OVERLOAD.
    tare: kept for the record; the pressure comes from the gross weight.
    checksum: BSI check sum on, as in the indicator's menu.
    decimals: digits behind the decimal point of the display; Modbus sends none.
    word_order: Modbus order of 32-bit values, as in the indicator's menu.
    """

    piston_area: SquareMetres = PISTON
    unit: Literal["N", "kg", "kN"] = "N"
    address: Annotated[int, Field(ge=1, le=99)] = 1
    capacity: Newtons = 0.0
    tare: Tare = field(default_factory=Tare)
    checksum: bool = False
    decimals: Annotated[int, Field(ge=0, le=6)] = 1
    word_order: Literal["high-low", "low-high"] = "high-low"

    def __post_init__(self) -> None:
        if not 1 <= self.address <= 99:
            raise BadInputError(f"address must be 1 to 99, not {self.address}")
        if not self.piston_area > 0.0:
            raise BadInputError(f"piston_area must be positive, not {self.piston_area:g} m2")
        if not 0 <= self.decimals <= 6:
            raise BadInputError(f"decimals must be 0 to 6, not {self.decimals}")


class Weight(NamedTuple):
    """A gross weight in units of the display, NaN when there is none, and its status."""

    value: float
    status: Status


class _Indicator(NoOutput, WireDriver[PT113Settings]):
    """What both protocols share: forces, pressures and metadata."""

    Settings: TypeAlias = PT113Settings

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities. Its update rate is not in the manual: fastest_sampling is an ASSUMPTION.

        pressure_ranges: the load cell's capacity over the piston area, when it is stated.
        """
        capacity = self._settings.capacity / self._settings.piston_area
        return Capabilities(
            pressure_ranges=(Range(capacity),) if capacity > 0.0 else (),
            fastest_sampling=0.1,
            when_host_is_silent=WhenHostIsSilent.NO_OUTPUT,
        )

    @property
    def calibration(self) -> dict[str, str | float]:
        """Tare (N), piston area (m2) and unit, for the record."""
        settings = self._settings
        return {
            "tare": settings.tare.value,
            "tare_date": settings.tare.date,
            "piston_area": settings.piston_area,
            "unit": settings.unit,
        }

    async def measure(self) -> AuxReading:
        """Measure the stack pressure (Pa) from the gross weight.

        UNSTABLE while it moves. OVERLOAD, UNDERLOAD or FAULT with NaN where the indicator has no
        number; beyond the stated capacity the number is kept, with OVERLOAD.
        """
        sent = self._clock.now()
        weight, status = await self._gross()
        width = 0.5 * (self._clock.now() - sent)
        settings = self._settings
        force = weight * NEWTONS[settings.unit]
        if 0.0 < settings.capacity < abs(force):
            status = Status.OVERLOAD
        pressure = force / settings.piston_area
        return AuxReading(self.name, "pressure", sent + width, width, pressure, status)

    @abstractmethod
    async def _gross(self) -> Weight:
        """Measure the gross weight."""


# BSI (manual p. 33-35) ---------------------------------------------------------------------

_WORDS = {
    "A": "done",
    "D": "dynamic",
    "E": "other error",
    "H": "supply voltage high",
    "I": "in range",
    "L": "supply voltage low",
    "N": "not done",
    "O": "converter out of range",
    "S": "stable",
    "X": "syntax error or command disabled",
    "+": "overload",
    "-": "underload",
}

_NO_WEIGHT = {
    "O": Status.FAULT,
    "E": Status.FAULT,
    "H": Status.FAULT,
    "L": Status.FAULT,
    "+": Status.OVERLOAD,
    "-": Status.UNDERLOAD,
}

_WEIGHT = 9
"""Characters of a weight: a sign and eight with decimal point and leading zeros."""


def checksum(text: bytes) -> bytes:
    """BSI check sum: two hexadecimal digits of minus the sum of all characters, mod 256."""
    return b"%02X" % (-sum(text) & 0xFF)


class PT113(_Indicator):
    """One PT113 in BSI mode. No output; nothing happens when the host falls silent."""

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="pt113",
        maker="PT Ltd",
        models=("PT113",),
        document="PT113 instruction manual, printed pages 32-35 (BSI)",
        roles=("load_cell",),
        identification="none",
        safe_state="has no output",
        measures=("pressure",),
        notes=("units are not sent: settings.unit must match the display",),
    )

    async def _ask(self, command: str, timeout: float = TIMEOUT) -> str:
        """Send a command letter; what its reply carries behind address and letter."""
        settings = self._settings
        head = b"%02d%b" % (settings.address, command.encode("ascii"))
        request = head + checksum(head) if settings.checksum else head
        try:
            reply = await self._wire.exchange(request + b"\r\n", LINE, timeout)
        except CommunicationError as error:
            self._blame(error)
        body = reply
        if settings.checksum:
            body, found = reply[:-2], reply[-2:]
            if checksum(body) != found:
                raise self._garbled(command, reply, f"check sum {checksum(body).decode('ascii')}")
        if not body.startswith(head) or len(body) == len(head):
            raise self._garbled(command, reply, f"{head.decode('ascii')} and more")
        return body[len(head) :].decode("ascii", "replace")

    def _garbled(self, command: str, reply: bytes, expected: str) -> InstrumentError:
        return self._error(
            GarbledReplyError,
            f"answered {command} with {reply!r}, expected {expected}. Check `settings.address` "
            "and `settings.checksum` against its menu, and the line's settings.",
        )

    async def _identify(self) -> Identity:
        await self._status()
        return Identity("", "")

    async def _status(self) -> str:
        """Three letters: S or D, G or N, and I, O, +, -, L, H or E."""
        status = await self._ask("S")
        if len(status) != 3 or status[0] not in "SD" or status[1] not in "GN":
            raise self._garbled("S", status.encode("ascii", "replace"), "three letters such as SGI")
        return status

    async def _gross(self) -> Weight:
        reply = await self._ask("B")
        letter, digits = reply[0], reply[1:]
        if letter in ("S", "D"):
            value = _weight(digits)
            if math.isnan(value):
                raise self._garbled("B", reply.encode("ascii", "replace"), "such as S+000123.4")
            return Weight(value, Status.OK if letter == "S" else Status.UNSTABLE)
        if letter in _NO_WEIGHT and not digits:
            return Weight(math.nan, _NO_WEIGHT[letter])
        if letter == "X":
            raise self._reported(ord("X"), f"X, {_WORDS['X']}, to command B")
        raise self._garbled("B", reply.encode("ascii", "replace"), "such as S+000123.4")

    async def zero(self) -> None:
        """Take the present weight for zero; an operator's decision, to be logged.

        Raises UnsupportedError in net mode, where the indicator refuses it, ReportedError when
        it did not do it (in motion, outside the zero range, disabled).
        """
        if (await self._status())[1] == "N":
            raise self._error(
                UnsupportedError,
                "cannot be zeroed in net mode. Nothing was written. Clear the tare first.",
            )
        await self._act("Z")

    async def tare(self) -> None:
        """Take the present weight for the tare; an operator's decision. Gross stays as it is."""
        await self._act("T")

    async def clear_tare(self) -> None:
        """Clear the tare; an operator's decision."""
        await self._act("C")

    async def _act(self, command: str) -> None:
        reply = await self._ask(command, ACTION_TIMEOUT)
        if reply != "A":
            raise self._reported(
                ord(reply[0]), f"{reply}, {_WORDS.get(reply, 'unknown')}, to {command}"
            )


def _weight(text: str) -> float:
    """A weight as it is sent, NaN when it is none."""
    digits = text[1:]
    if len(text) != _WEIGHT or text[0] not in "+-" or not digits.replace(".", "", 1).isdecimal():
        return math.nan
    return float(text)


# Modbus RTU (manual p. 36-40) --------------------------------------------------------------

STATUS = 0x0002  # 40003
GROSS = 0x0005  # 40006 and 40007, followed by a copy of the status in 40008
CONTROL = 0x0008  # 40009

BUSY = 1 << 0
DATA_OK = 1 << 1
UNSTABLE = 1 << 2
NET = 1 << 3
CENTRE_OF_ZERO = 1 << 12

_ERRORS = {
    1: Status.FAULT,  # converter out of range
    2: Status.OVERLOAD,
    3: Status.UNDERLOAD,
    4: Status.FAULT,  # system
    5: Status.FAULT,  # programming
    6: Status.FAULT,  # supply voltage
}

_READS = 3
"""Reads of a busy indicator before its reading counts as missing."""

_SETTLING = 0.1
"""s between looks at the status while zero or tare is under way."""


class PT113Modbus(_Indicator):
    """One PT113MB in Modbus RTU mode. No output; nothing happens when the host falls silent."""

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="pt113-modbus",
        maker="PT Ltd",
        models=("PT113MB",),
        document="PT113 instruction manual, printed pages 36-40 (Modbus)",
        roles=("load_cell",),
        identification="none",
        safe_state="has no output",
        measures=("pressure",),
        notes=(
            "units and decimal point are not sent: settings must match the display",
            "a wrong word order shows as an absurd weight",
        ),
    )

    _quiet_until = -math.inf

    async def _exchange(self, request: bytes) -> bytes:
        clock = self._clock
        if clock.now() < self._quiet_until:
            await clock.sleep_until(self._quiet_until)
        try:
            reply = await self._wire.exchange(request, modbus.REPLY, TIMEOUT)
        except CommunicationError as error:
            self._blame(error)
        self._quiet_until = clock.now() + modbus.SILENCE * clock.speed
        return reply

    async def _read(self, register: int, count: int) -> tuple[int, ...]:
        slave = self._settings.address
        reply = await self._exchange(modbus.read_request(slave, register, count))
        try:
            return modbus.read_reply(reply, slave, count)
        except modbus.ModbusExceptionError as error:
            raise self._reported(error.code, error.text) from error
        except modbus.ModbusFrameError as error:
            raise self._garbled(reply, error) from error

    async def _write(self, register: int, value: int) -> None:
        slave = self._settings.address
        reply = await self._exchange(modbus.write_request(slave, register, (value,)))
        try:
            modbus.write_reply(reply, slave, register, 1)
        except modbus.ModbusExceptionError as error:
            raise self._reported(error.code, error.text) from error
        except modbus.ModbusFrameError as error:
            raise self._garbled(reply, error) from error

    def _garbled(self, reply: bytes, error: modbus.ModbusFrameError) -> InstrumentError:
        return self._error(
            GarbledReplyError,
            f"answered with {reply.hex(' ')}: {error}. Check `settings.address` and the line's "
            "settings against its menu.",
        )

    async def _identify(self) -> Identity:
        await self._read(STATUS, 1)
        return Identity("", "")

    async def _gross(self) -> Weight:
        # Gross weight and status in one frame belong together; two frames might not.
        for _ in range(_READS):
            first, second, status = await self._read(GROSS, 3)
            if not status & BUSY:
                break
        else:
            return Weight(math.nan, Status.UNSTABLE)
        error = status >> 13
        if error:
            return Weight(math.nan, _ERRORS.get(error, Status.FAULT))
        if not status & DATA_OK:
            return Weight(math.nan, Status.FAULT)
        if self._settings.word_order == "low-high":
            first, second = second, first
        raw = (first << 16 | second) - (first >> 15 << 32)
        moving = Status.UNSTABLE if status & UNSTABLE else Status.OK
        return Weight(raw * 10.0**-self._settings.decimals, moving)

    async def zero(self) -> None:
        """Take the present weight for zero; an operator's decision, to be logged.

        Raises UnsupportedError in net mode, where the indicator refuses it, NotVerifiedError when
        it has not reported the centre of zero after 3 s.
        """
        if (await self._read(STATUS, 1))[0] & NET:
            raise self._error(
                UnsupportedError,
                "cannot be zeroed in net mode. Nothing was written. Clear the tare first.",
            )
        await self._act(1, CENTRE_OF_ZERO, CENTRE_OF_ZERO, "the centre of zero")

    async def tare(self) -> None:
        """Take the present weight for the tare; an operator's decision. Gross stays as it is."""
        await self._act(2, NET, NET, "net mode")

    async def clear_tare(self) -> None:
        """Clear the tare; an operator's decision."""
        await self._act(3, NET, 0, "gross mode")

    async def _act(self, control: int, bit: int, wanted: int, state: str) -> None:
        """Write to the control register and watch the status for the effect."""
        await self._write(CONTROL, control)
        clock = self._clock
        deadline = clock.now() + ACTION_TIMEOUT * clock.speed
        while (status := (await self._read(STATUS, 1))[0]) & BUSY or status & bit != wanted:
            if clock.now() >= deadline:
                raise self._error(
                    NotVerifiedError,
                    f"was told {control} at 40009, but its status {status:#06x} does not show "
                    f"{state} after {ACTION_TIMEOUT:g} s. Look at the display before you go on.",
                )
            await clock.sleep(_SETTLING * clock.speed)
