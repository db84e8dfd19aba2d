"""Bluetooth sensors with the Environmental Sensing Service: temperature, humidity, pressure.

Documents: Bluetooth SIG, Environmental Sensing Service 1.0 (service 0x181A), GATT Specification
Supplement (formats of the characteristics and their values for "not known"), Device Information
Service 1.1 (0x180A).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, NamedTuple, NoReturn, TypeAlias

from pydantic import Field

from operando.drivers.driver import BluetoothDriver, NoOutput
from operando.drivers.humid_air import water_in
from operando.instruments.ble import Characteristic
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    LinkLostError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.humidity import ATMOSPHERE
from operando.instruments.quantities import Pascals, Seconds
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.samples import AuxReading, Status


def uuid(short: int) -> str:
    """The 128 bits of a number that the Bluetooth SIG assigned (Core Specification 3.B.2.5.1)."""
    return f"0000{short:04x}-0000-1000-8000-00805f9b34fb"


ENVIRONMENTAL_SENSING = uuid(0x181A)
TEMPERATURE, HUMIDITY, PRESSURE = uuid(0x2A6E), uuid(0x2A6F), uuid(0x2A6D)

DEVICE_INFORMATION = uuid(0x180A)
MANUFACTURER, MODEL, SERIAL, FIRMWARE = uuid(0x2A29), uuid(0x2A24), uuid(0x2A25), uuid(0x2A26)

ABSOLUTE_ZERO = -27_315
"""Coldest temperature that may be sent, 0.01 degC."""

WHOLE = 10_000
"""Highest humidity that may be sent, 0.01 %."""

CONNECTING = 8.0
"""Wall s to hear the sensor, connect and find what it has; an ASSUMPTION: sensors that spare their
battery advertise every few seconds."""

_UNKNOWN_TEMPERATURE, _UNKNOWN_HUMIDITY = -0x8000, 0xFFFF


def temperature(data: bytes) -> float | None:
    """K of a characteristic 0x2A6E; NaN when not known, None when not allowed."""
    if len(data) != 2:
        return None
    raw = int.from_bytes(data, "little", signed=True)
    if raw == _UNKNOWN_TEMPERATURE:
        return math.nan
    return None if raw < ABSOLUTE_ZERO else (raw - ABSOLUTE_ZERO) / 100.0


def humidity(data: bytes) -> float | None:
    """Relative humidity (fraction) of a 0x2A6F; NaN when not known, None when not allowed."""
    if len(data) != 2:
        return None
    raw = int.from_bytes(data, "little")
    if raw == _UNKNOWN_HUMIDITY:
        return math.nan
    return None if raw > WHOLE else raw / WHOLE


def pressure(data: bytes) -> float | None:
    """Pa of a characteristic 0x2A6D; None when not allowed. It has no value for "not known"."""
    return 0.1 * int.from_bytes(data, "little") if len(data) == 4 else None


DECODERS: dict[str, Callable[[bytes], float | None]] = {
    TEMPERATURE: temperature,
    HUMIDITY: humidity,
    PRESSURE: pressure,
}

NAMES = {TEMPERATURE: "temperature", HUMIDITY: "humidity", PRESSURE: "pressure"}


@dataclass(frozen=True, slots=True)
class ESSSettings:
    """What a sensor does not say.

    temperature_of: what its temperature is that of: the "cell", or the "chamber" or box around.
    notify: let it send values by itself where it can, and ask for those that did not come.
    fresh: s of laboratory time for which a value that it sent by itself is taken instead of
    asking. timeout: s to wait for one answer. pressure: Pa, of the air, for sensors without
    barometer. temperature_handle, humidity_handle, pressure_handle: which characteristic to read
    where there are several of one kind, 0 where there is one.
    """

    temperature_of: Literal["cell", "chamber"] = "cell"
    notify: bool = False
    fresh: Seconds = 30.0
    timeout: Seconds = 5.0
    pressure: Pascals = ATMOSPHERE
    temperature_handle: Annotated[int, Field(ge=0, le=0xFFFF)] = 0
    humidity_handle: Annotated[int, Field(ge=0, le=0xFFFF)] = 0
    pressure_handle: Annotated[int, Field(ge=0, le=0xFFFF)] = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.timeout < math.inf:
            raise BadInputError(f"timeout must be positive, not {self.timeout:g} s")
        if not 0.0 < self.pressure < math.inf:
            raise BadInputError(f"pressure must be positive, not {self.pressure:g} Pa")


class Value(NamedTuple):
    """One value with its laboratory time (midpoint) and half its width, s."""

    data: bytes
    time: float
    width: float


class EnvironmentalSensor(NoOutput, BluetoothDriver[ESSSettings]):
    """One sensor with the Environmental Sensing Service.

    No output; nothing happens when the host falls silent.
    """

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="ess",
        maker="any",
        models=("Environmental Sensing Service",),
        document="Bluetooth SIG, Environmental Sensing Service 1.0, GATT Specification Supplement",
        roles=("thermometer", "glovebox_monitor"),
        identification="none",
        safe_state="has no output",
        measures=("temperature", "relative_humidity", "h2o", "dew_point"),
        notes=(
            "what it measures and whether it tells its serial number differs between sensors: "
            "what it tells is checked against `expect`",
            "a humidity of 1 % is 300 ppm of water at 25 degC: no hygrometer for a dry glovebox",
            "its air pressure serves to compute h2o and is not recorded",
            "it serves one host at a time: a telephone that is connected to it keeps others out",
        ),
        # Its number (Bluetooth SIG, Assigned Numbers), where a sensor advertises its services.
        signs=("ble:service:181a",),
    )
    Settings: TypeAlias = ESSSettings

    _known: Identity | None = None
    _handles: Mapping[str, int] = MappingProxyType({})  # by characteristic, of those that it has
    _sent: dict[int, Value]  # what it sent by itself and nobody has taken yet

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities. How often it measures is its own affair: 1 s is an ASSUMPTION."""
        return Capabilities(fastest_sampling=1.0, when_host_is_silent=WhenHostIsSilent.NO_OUTPUT)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What it senses, known once connected: "temperature", "humidity", "pressure"."""
        return tuple(NAMES[kind] for kind in self._handles)

    async def connect(self) -> Identity:
        """Connect, find what it senses, read who it is and check that. Writes no setting."""
        self._handles = {}
        self._sent = {}
        try:
            there = await self._link.connect(CONNECTING)
        except CommunicationError as error:
            self._blame(error)
        identity = Identity(
            await self._text(there, MANUFACTURER),
            await self._text(there, MODEL),
            await self._text(there, SERIAL),
            await self._text(there, FIRMWARE),
        )
        self._check(identity)
        settings = self._settings
        chosen = {
            TEMPERATURE: settings.temperature_handle,
            HUMIDITY: settings.humidity_handle,
            PRESSURE: settings.pressure_handle,
        }
        found = {
            kind: one
            for kind, handle in chosen.items()
            if (one := self._choose(there, kind, handle)) is not None
        }
        if TEMPERATURE not in found and HUMIDITY not in found:
            raise self._error(
                UnsupportedError,
                "senses neither temperature nor humidity by the Environmental Sensing Service; it "
                f"has {', '.join(one.uuid[4:8].upper() for one in there) or 'nothing'}. Choose the "
                "driver that fits it, or correct its address.",
            )
        self._handles = {kind: one.handle for kind, one in found.items()}
        if settings.notify:
            await self._subscribe(found)
        self._known = identity
        return identity

    async def measure(self) -> tuple[AuxReading, ...]:
        """Measure what it senses.

        Quantities "temperature" (or "chamber_temperature"; K), "relative_humidity" (fraction),
        and from both, at the pressure of its barometer or of the settings, "h2o" (mole fraction)
        and "dew_point" (K). FAULT with NaN for what it does not know. Raises GarbledReplyError
        for a value that its format prohibits, ReportedError for an ATT error.
        """
        if not self._handles:
            raise self._error(LinkLostError, "is not connected")
        values = {kind: await self._value(kind) for kind in self._handles}
        of = "temperature" if self._settings.temperature_of == "cell" else "chamber_temperature"
        names = {TEMPERATURE: of, HUMIDITY: "relative_humidity"}
        readings = {
            kind: self._reading(name, kind, values[kind])
            for kind, name in names.items()
            if kind in values
        }
        water: tuple[AuxReading, ...] = ()
        if len(readings) == len(names):
            air = self._settings.pressure
            if PRESSURE in values:
                air = self._decoded(PRESSURE, values[PRESSURE].data)
            water = water_in(readings[TEMPERATURE], readings[HUMIDITY], air)
        return (*readings.values(), *water)

    async def _value(self, kind: str) -> Value:
        handle = self._handles[kind]
        sent = self._sent.pop(handle, None)
        began = self._clock.now()
        if sent is not None and began - sent.time <= self._settings.fresh:
            return sent
        data = await self._read(handle)
        width = 0.5 * (self._clock.now() - began)
        return Value(data, began + width, width)

    def _reading(self, name: str, kind: str, value: Value) -> AuxReading:
        number = self._decoded(kind, value.data)
        status = Status.FAULT if math.isnan(number) else Status.OK
        return AuxReading(self.name, name, value.time, value.width, number, status)

    def _decoded(self, kind: str, data: bytes) -> float:
        number = DECODERS[kind](data)
        if number is None:
            raise self._error(
                GarbledReplyError,
                f"gives {data.hex(' ') or 'no bytes'} as its {NAMES[kind]}, which the format of "
                f"characteristic {kind[4:8].upper()} prohibits. Its firmware does not keep to the "
                "standard; choose another sensor.",
            )
        return number

    def _choose(
        self, there: tuple[Characteristic, ...], kind: str, handle: int
    ) -> Characteristic | None:
        """The characteristic of this kind to read; None when there is none."""
        found = [one for one in there if (one.service, one.uuid) == (ENVIRONMENTAL_SENSING, kind)]
        if handle:
            found = [one for one in found if one.handle == handle]
            if not found:
                raise self._error(
                    UnsupportedError,
                    f"has no {NAMES[kind]} with the handle {handle}. Correct "
                    f"`settings.{NAMES[kind]}_handle`.",
                )
        if len(found) > 1:
            handles = ", ".join(str(one.handle) for one in found)
            raise self._error(
                UnsupportedError,
                f"has {len(found)} characteristics for its {NAMES[kind]}, with the handles "
                f"{handles}. Choose one by `settings.{NAMES[kind]}_handle`.",
            )
        return found[0] if found else None

    async def _subscribe(self, found: dict[str, Characteristic]) -> None:
        for one in found.values():
            if "notify" not in one.properties:
                continue

            def heard(data: bytes, at: float, handle: int = one.handle) -> None:
                self._sent[handle] = Value(data, at, 0.0)

            try:
                await self._link.start_notify(one.handle, heard, self._settings.timeout)
            except (CommunicationError, ReportedError) as error:
                self._blame(error)

    async def _text(self, there: tuple[Characteristic, ...], kind: str) -> str:
        """A text of the Device Information Service, "" where it has none."""
        for one in there:
            if (one.service, one.uuid) == (DEVICE_INFORMATION, kind):
                data = await self._read(one.handle)
                text = data.decode("utf-8", "replace").rstrip("\0").strip()
                if not text.isprintable() or "\ufffd" in text:
                    raise self._error(
                        GarbledReplyError,
                        f"gives {data!r} as characteristic {kind[4:8].upper()} of its device "
                        "information, expected a text in UTF-8",
                    )
                return text
        return ""

    async def _read(self, handle: int) -> bytes:
        try:
            return await self._link.read_gatt_char(handle, self._settings.timeout)
        except (CommunicationError, ReportedError) as error:
            self._blame(error)

    def _check(self, found: Identity) -> None:
        expected = self._expect
        for what, wanted, got in (
            ("serial number", expected.serial, found.serial),
            ("model", expected.model, found.model),
            ("firmware", expected.firmware, found.firmware),
        ):
            if wanted and wanted != got:
                raise self._error(
                    WrongInstrumentError,
                    f"expected {what} {wanted}, but it gives {got or 'none'}. Nothing was "
                    "written. Correct the address or `expect` in the bench file.",
                )
        known = self._known
        if known is not None and (known.model, known.serial) != (found.model, found.serial):
            raise self._error(
                WrongInstrumentError,
                f"was {known.model} {known.serial}, now it is {found.model} {found.serial}. Check "
                "which sensor has this address.",
            )

    def _blame(self, error: CommunicationError | ReportedError) -> NoReturn:
        if isinstance(error, ReportedError):
            raise self._reported(error.code, error.text) from error
        super()._blame(error)
