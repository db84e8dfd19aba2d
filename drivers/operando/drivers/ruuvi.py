"""RuuviTag, a battery-driven sensor that broadcasts its readings over Bluetooth Low Energy.

Document: Ruuvi, Data Format 5 Protocol Specification (RAWv2). The tag is never connected to: what
it advertises is heard, and nothing can be set.
"""

from __future__ import annotations

import asyncio
import math
import struct
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from operando.drivers.driver import BluetoothDriver, NoOutput
from operando.drivers.humid_air import water_in
from operando.instruments.ble import Advertisement
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    ReplyTimeoutError,
    WrongInstrumentError,
)
from operando.instruments.humidity import ATMOSPHERE
from operando.instruments.quantities import Pascals, Seconds
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.samples import AuxReading, Status

COMPANY = 0x0499
"""Ruuvi Innovations, in the list of company identifiers of the Bluetooth SIG."""

FORMAT = 5

LAYOUT = struct.Struct(">BhHHhhhHBH6s")
"""24 bytes: format, temperature, humidity, pressure, acceleration X Y Z, power, movements,
sequence, address."""

GRAVITY = 9.80665
"""m/s2, standard acceleration of gravity (CGPM 1901)."""

_NO_NUMBER, _NO_COUNT = -0x8000, 0xFFFF  # not available, signed and unsigned
_NO_VOLTAGE, _NO_POWER, _NO_MOVEMENT = 2047, 31, 255
_NO_ADDRESS = bytes.fromhex("FF FF FF FF FF FF")


@dataclass(frozen=True, slots=True)
class RuuviSettings:
    """What a tag does not say.

    temperature_of: what its temperature is that of: the "cell", or the "chamber" or box around.
    timeout: s of wall time without a new measurement after which the tag counts as lost: ten
    broadcasts in a row may be missed in good conditions (Ruuvi, Bluetooth advertisements).
    interval: s between its broadcasts, 1.285 s unless it saves its battery (firmware 2.5.9 on);
    what it says was measured at most that long before. pressure: Pa, of the air, for tags without
    barometer.
    """

    temperature_of: Literal["cell", "chamber"] = "cell"
    timeout: Seconds = 30.0
    interval: Seconds = 1.285
    pressure: Pascals = ATMOSPHERE

    def __post_init__(self) -> None:
        if not 0.0 < self.timeout < math.inf:
            raise BadInputError(f"timeout must be positive, not {self.timeout:g} s")
        if not 0.0 <= self.interval < math.inf:
            raise BadInputError(f"interval must not be negative, not {self.interval:g} s")
        if not 0.0 < self.pressure < math.inf:
            raise BadInputError(f"pressure must be positive, not {self.pressure:g} Pa")


class Report(NamedTuple):
    """What one broadcast says; NaN or None for what is not available.

    temperature: K. humidity: relative, fraction; above 1 from a faulty or miscalibrated sensor.
    pressure: Pa, of the air. acceleration: m/s2, along X, Y, Z. battery: V. transmission: dBm.
    movements: 0 to 254, then from 0 again. sequence: number of the measurement, 0 to 65534.
    address: of the tag, "" when not available.
    """

    temperature: float
    humidity: float
    pressure: float
    acceleration: tuple[float, float, float]
    battery: float
    transmission: float
    movements: int | None
    sequence: int | None
    address: str


def parse(data: bytes) -> Report | None:
    """What Ruuvi's manufacturer data say, None when they are not of format 5."""
    if len(data) != LAYOUT.size or data[0] != FORMAT:
        return None
    _, celsius, humidity, pressure, x, y, z, power, movements, sequence, address = LAYOUT.unpack(
        data
    )
    voltage, strength = power >> 5, power & 0x1F
    return Report(
        math.nan if celsius == _NO_NUMBER else 273.15 + 0.005 * celsius,
        math.nan if humidity == _NO_COUNT else 0.25e-4 * humidity,
        math.nan if pressure == _NO_COUNT else 50_000.0 + pressure,
        (_acceleration(x), _acceleration(y), _acceleration(z)),
        math.nan if voltage == _NO_VOLTAGE else 1e-3 * (1600 + voltage),
        math.nan if strength == _NO_POWER else 2.0 * strength - 40.0,
        None if movements == _NO_MOVEMENT else movements,
        None if sequence == _NO_COUNT else sequence,
        "" if address == _NO_ADDRESS else address.hex(":").upper(),
    )


def _acceleration(raw: int) -> float:
    return math.nan if raw == _NO_NUMBER else 1e-3 * GRAVITY * raw


class RuuviTag(NoOutput, BluetoothDriver[RuuviSettings]):
    """One RuuviTag. No output; nothing happens when the host falls silent."""

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="ruuvi",
        maker="Ruuvi",
        models=("RuuviTag",),
        document="Ruuvi, Data Format 5 Protocol Specification (RAWv2)",
        roles=("thermometer", "glovebox_monitor"),
        identification="serial",
        safe_state="has no output",
        measures=("temperature", "relative_humidity", "h2o", "dew_point"),
        notes=(
            "its serial number is its Bluetooth address",
            "a humidity of 1 % is 300 ppm of water at 25 degC: no hygrometer for a dry glovebox",
            "its air pressure serves to compute h2o and is not recorded",
        ),
        # Each broadcast begins so: Data Format 5. The name is that of a scan response (Ruuvi,
        # Bluetooth connection), of tags in whatever format.
        signs=(f"ble:data:{COMPANY:04x}:{FORMAT:02x}", "ble:name:Ruuvi"),
    )
    Settings: TypeAlias = RuuviSettings

    _heard = -math.inf  # time of the newest broadcast that was looked at
    _last: Report | None = None
    _known = ""  # address of the tag that was heard first

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities: it measures as often as the settings say."""
        return Capabilities(
            fastest_sampling=self._settings.interval,
            when_host_is_silent=WhenHostIsSilent.NO_OUTPUT,
        )

    @property
    def last(self) -> Report | None:
        """All that its last new broadcast said: battery, acceleration; None before the first."""
        return self._last

    async def connect(self) -> Identity:
        """Listen until the tag is heard once, and check its address. Sends nothing."""
        expected = self._expect
        if expected.model or expected.firmware:
            raise self._error(
                WrongInstrumentError,
                f"{expected} cannot be checked: a tag broadcasts its address alone. Expect that "
                "as the serial number in the bench file.",
            )
        try:
            await self._link.listen()
        except CommunicationError as error:
            self._blame(error)
        # What was heard long ago may be repeated first: it is never given as a reading.
        self._last = None
        report, _ = await self._next()
        address = report.address
        if expected.serial and expected.serial.upper() != address:
            raise self._error(
                WrongInstrumentError,
                f"expected the tag {expected.serial.upper()}, but heard "
                f"{address or 'one that hides its address'}. Correct `expect` or the address in "
                "the bench file.",
            )
        if self._known and address != self._known:
            raise self._error(
                WrongInstrumentError,
                f"was the tag {self._known}, now it is {address or 'one without an address'}. "
                "Check which tag is where.",
            )
        self._known = address
        return Identity(self.INFO.maker, self.INFO.models[0], address)

    async def measure(self) -> tuple[AuxReading, ...]:
        """The tag's newest measurement, each one once: waits for the next when it was given.

        Quantities "temperature" (or "chamber_temperature"; K), "relative_humidity" (fraction),
        and, computed from both and the air's pressure, "h2o" (mole fraction) and "dew_point" (K).
        FAULT with NaN for what the tag's sensor does not give; OVERLOAD with the number above
        100 % relative humidity. Raises ReplyTimeoutError when no new measurement is heard.
        """
        report, found = await self._next()
        time, width = found.time, self._settings.interval
        of = self._settings.temperature_of
        temperature = AuxReading(
            self.name,
            "temperature" if of == "cell" else "chamber_temperature",
            time,
            width,
            report.temperature,
            Status.FAULT if math.isnan(report.temperature) else Status.OK,
        )
        status = Status.OK
        if math.isnan(report.humidity):
            status = Status.FAULT
        elif report.humidity > 1.0:
            status = Status.OVERLOAD
        humidity = AuxReading(self.name, "relative_humidity", time, width, report.humidity, status)
        pressure = self._settings.pressure if math.isnan(report.pressure) else report.pressure
        return (temperature, humidity, *water_in(temperature, humidity, pressure))

    async def _next(self) -> tuple[Report, Advertisement]:
        """The newest broadcast of a measurement that has not been looked at yet."""
        loop, timeout = asyncio.get_running_loop(), self._settings.timeout
        deadline = loop.time() + timeout
        heard = "nothing was heard of it"
        while True:
            try:
                found = await self._link.advertisement(self._heard, deadline - loop.time())
            except ReplyTimeoutError as error:
                raise self._error(
                    ReplyTimeoutError,
                    f"no new measurement within {timeout:g} s: {heard}. Is the tag near, and its "
                    "battery good?",
                ) from error
            except CommunicationError as error:
                self._blame(error)
            self._heard = found.time
            data = found.manufacturer_data.get(COMPANY)
            if data is None:
                heard = "it was heard, but not with Ruuvi's data"
            elif self._clock.now() - found.time > self._clock.lab(timeout):
                heard = "it was last heard too long ago"
            else:
                report = self._checked(data)
                last = self._last
                if last is None or last.sequence is None or last.sequence != report.sequence:
                    self._last = report
                    return report, found
                heard = f"it repeats its measurement {last.sequence}"

    def _checked(self, data: bytes) -> Report:
        report = parse(data)
        if report is None:
            raise self._error(
                GarbledReplyError,
                f"broadcasts {data.hex(' ') or 'no data'}, expected {LAYOUT.size} bytes of format "
                f"{FORMAT} (RAWv2). Update the tag's firmware or switch it to RAWv2 with its "
                "button.",
            )
        own = self._link.device
        # Some computers give tags numbers of their own instead of showing their addresses.
        if report.address and ":" in own and report.address != own:
            raise self._error(
                WrongInstrumentError,
                f"is heard from {own}, but says that it is {report.address}. Correct the address "
                "in the bench file, or remove the device that pretends to be the tag.",
            )
        return report
