"""Simulated Keller 33X pressure transmitter: Modbus RTU and Keller bus on one port.

Written from Keller's "Description of the communication protocol" for Series 30 and X-line
transmitters (class 5 group 20). What is assumed where it is silent stands in
`docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping

from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line
from operando.simulators.devices.device import Options
from operando.simulators.devices.gas_sensor import BAR, ZERO_CELSIUS, Lag, RoomSensor
from operando.simulators.devices.modbus_slave import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    SLAVE_FAILURE,
    crc,
)
from operando.simulators.faults import Fault

TRANSPARENT = 250
"""Every device answers this address, so it serves one device alone on its line."""

BROADCAST = 0

NOT_INITIALISED = 32

BAD_PARAMETER, BAD_DATA, CHANNEL_ERROR = 2, 3, 4
"""Exceptions of the Keller bus; 1 is an unknown function."""

MOST_READ, MOST_READ_BEFORE_2010 = 4, 2
"""Registers in one request: firmware before year 10 gives one value, and floats of the process
values only."""

SAMPLE_TIME = 1.0 / 400.0
"""Time of a pressure measurement, s: 400 a second, Keller's data sheet of the 33X."""

RECEIVE_BUFFER = 10
"""BUF of function 48, as in the example of the document."""

LONGEST_FRAME = 256

CH0, P1, P2, T, TOB1, TOB2 = range(6)

OFFSET, GAIN = 64, 65
WRITABLE = frozenset({53, *range(64, 72), *range(100, 112)})
"""Coefficients that can be written; the others of the table are read only."""

LAST_COEFFICIENT = 111

OVERFLOW, UNDERFLOW = 2**31 - 1, -(2**31)

MODBUS_LENGTHS = {3: 8, 6: 8, 8: 8}
BUS_LENGTHS = {30: 5, 31: 9, 32: 5, 33: 6, 48: 4, 66: 5, 69: 4, 73: 5, 74: 5, 95: 5}
"""Bytes of a request with address and checksum; 95 has four more with a set point."""


class Refusal(Exception):  # noqa: N818 - the protocol's word is exception
    """A request that is answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class SimulatedKeller33X(RoomSensor):
    """A 33X: `01 03 00 02 00 02 65 CB` in, P1 in bar as a float out; also the Keller bus."""

    power_on_time = 0.5
    misbehaviours = RoomSensor.misbehaviours | {"identity"}
    default_response_time = 0.005

    def _take_own_options(self, options: Options) -> None:
        self.address = options.whole("address", 1, low=1, high=249)
        self._true_serial = self._serial = options.whole("serial", 123_456, low=1, high=2**31)
        firmware = options.text("firmware", "5.20-12.28")
        version = re.fullmatch(r"(\d{1,2})\.(\d{1,2})-(\d{1,2})\.(\d{1,2})", firmware)
        if version is None:
            raise BadInputError(
                f"[instruments.{self.name}.simulated] firmware = {firmware!r}: write class.group-"
                "year.week, e.g. '5.20-12.28'"
            )
        self._version = tuple(int(part) for part in version.groups())
        self._old = self._version[2] < 10
        self._echo = options.flag("echo", False)
        self._gauge = options.text("reference", "gauge", ("gauge", "absolute")) == "gauge"
        self._low = options.number("lowest", -3e4 if self._gauge else 0.0)
        self._high = options.number("highest", 3e4 if self._gauge else 1.6e5)
        if self._high <= self._low:
            raise BadInputError(
                f"[instruments.{self.name}.simulated] highest = {self._high:g}: write a pressure "
                f"above lowest = {self._low:g}"
            )
        span = self._high - self._low
        # 0.002 % of full scale: Keller's data sheet of the 33X.
        self._resolution = options.number("resolution", 2e-5 * span, low=0.0)
        self._noise = options.number("noise", 1e-5 * span, low=0.0)
        self._error = options.number("offset", 0.0)
        self._ageing = options.number("ageing", 0.0)
        self._per_kelvin = options.number("temperature_coefficient", 0.0)
        self._warm_up_error = options.number("warm_up_error", 0.0)
        self._warm_up_time = options.number("warm_up_time", 60.0, low=1.0)
        self._self_heating = options.number("self_heating", 0.0, low=0.0, high=20.0)
        self._temperature_noise = options.number("temperature_noise", 0.005, low=0.0)
        filtering = options.whole("filter", 4, low=0, high=15)
        # Register 0x0200 and on: UART, P1 and TOB1 active, temperature every second.
        self._configuration = {0: 0, 1: filtering << 4, 4: 2, 5: 16, 6: 0, 7: 1, 8: filtering << 4}
        self._coefficients = {
            OFFSET: 0.0,
            GAIN: 1.0,
            66: 0.0,
            67: 1.0,
            68: 0.0,
            69: 1.0,
            70: 0.0,
            71: 1.0,
            80: self._low / BAR,
            81: self._high / BAR,
            84: -10.0,
            85: 80.0,
            86: -10.0,
            87: 80.0,
        }
        self._initialised = False
        self._pressure = Lag()
        self._input = bytearray()
        self._input_at = float("-inf")

    # -- power, connections, faults

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        if fault.kind != "identity":
            super().misbehave(fault, now)
        elif fault.text.isdecimal() and int(fault.text) < 2**32:
            self._serial = int(fault.text)
        else:
            raise BadInputError(
                f"fault 'identity {fault.text}' on {self.name}: a Keller serial number is a whole "
                "number below 2^32"
            )

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self._serial = self._true_serial

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s): zero and settings stay, the Keller bus wants function 48."""
        self.powered_at = now + boot_time
        self._initialised = False
        self._pressure.forget()
        self._input.clear()

    def disconnected(self, line: Line, now: float) -> None:
        """A connection is gone; an unfinished request with it."""
        self._input.clear()

    # -- the sensor

    def _raw(self, now: float) -> float:
        """What the membrane says, Pa, before zero and gain of the calibration."""
        room = self.room
        pressure = room.pressure(now)
        if self._gauge:
            pressure -= room.surrounding_pressure(now)
        filtered = SAMPLE_TIME * 2.0 ** (self._configuration[8] >> 4)
        value = self._pressure.look(now, pressure, filtered)
        value += self._error + self._ageing * self.age(now)
        value += self._per_kelvin * (room.temperature(now) - ZERO_CELSIUS - 20.0)
        on_for = max(now - self.powered_at, 0.0)
        return value + self._warm_up_error * math.exp(-on_for / self._warm_up_time)

    def _channel(self, channel: int, now: float) -> float:
        """Value in bar or degC; NaN for a channel that is not there or broken."""
        if channel == TOB1 and self.plugged:
            celsius = self.room.temperature(now) - ZERO_CELSIUS + self._self_heating
            return celsius + self._temperature_noise * self.gauss(0.0, 1.0)
        if channel != P1:
            return math.nan
        raw = self._raw(now) + self._noise * self.gauss(0.0, 1.0)
        if not self.plugged:
            return math.nan
        if self._overloads and self._overloaded():
            return math.inf
        # A tenth beyond the range is still measured: assumed.
        slack = 0.1 * (self._high - self._low)
        if not self._low - slack <= raw <= self._high + slack:
            return math.copysign(math.inf, raw - self._low)
        value = self._coefficients[GAIN] * raw / BAR + self._coefficients[OFFSET]
        step = self._resolution / BAR
        return round(value / step) * step if step else value

    def _whole(self, channel: int, now: float) -> int:
        """Value in Pa or 0.01 degC. Raises Refusal for a channel with an error."""
        value = self._channel(channel, now)
        if math.isnan(value):
            raise Refusal(CHANNEL_ERROR)
        if math.isinf(value):
            return OVERFLOW if value > 0 else UNDERFLOW
        return round(value * (BAR if channel in (CH0, P1, P2) else 100.0))

    def _set_zero(self, wanted: float, now: float) -> None:
        """Choose the offset so that P1 shows `wanted` (bar)."""
        if not math.isfinite(wanted):
            raise Refusal(ILLEGAL_VALUE)
        shown = self._coefficients[GAIN] * self._raw(now) / BAR
        self._coefficients[OFFSET] = _single(wanted - shown)

    # -- frames

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect frames of either protocol; a pause starts a new one."""
        if self._echo:
            line.send(data, now + len(data) * self._byte_time)
        # 3.5 characters by the standard; a host's own delays must not cut a frame in two.
        if now - self._input_at > self.clock.lab(0.1):
            self._input.clear()
        self._input_at = now
        self._input += data
        while frame := self._take_frame():
            address, request = frame[0], frame[1:-2]
            if address not in (self.address, TRANSPARENT, BROADCAST):
                continue
            # The Keller bus sends its checksum the other way round.
            backwards = crc(frame[:-2]) != frame[-2:]
            answer = self._answer_bus(request, now) if backwards else self._answer(request, now)
            if address != BROADCAST:
                body = bytes([address]) + answer
                checksum = crc(body)
                body += checksum[::-1] if backwards else checksum
                self._reply(line, body, len(frame), now)

    def _take_frame(self) -> bytes:
        """The first frame of the input; b"" while there is none. What is damaged is dropped."""
        buffer = self._input
        if len(buffer) < 4:
            return b""
        function = buffer[1]
        if function == 16:
            lengths = [9 + buffer[6]] if len(buffer) > 6 else [9]
        elif function == 95:
            lengths = [5, 9]
        else:
            # An unknown function has no known length: the frame is what came in one piece.
            lengths = [MODBUS_LENGTHS.get(function) or BUS_LENGTHS.get(function) or len(buffer)]
        for length in lengths:
            frame = bytes(buffer[:length])
            if len(frame) == length:
                good = crc(frame[:-2])
                bus = function not in (*MODBUS_LENGTHS, 16)
                modbus = function not in BUS_LENGTHS
                if (modbus and frame[-2:] == good) or (bus and frame[-2:] == good[::-1]):
                    del buffer[:length]
                    return frame
        if len(buffer) >= max(lengths) or len(buffer) > LONGEST_FRAME:
            # Nothing tells where the next frame begins: only a pause does.
            buffer.clear()
        return b""

    # -- Modbus

    def _answer(self, request: bytes, now: float) -> bytes:
        function = request[0]
        try:
            if self._refusals and self._refusing():
                raise Refusal(SLAVE_FAILURE)
            start = int.from_bytes(request[1:3], "big")
            if function == 3:
                registers = self._read(start, int.from_bytes(request[3:5], "big"), now)
                return bytes([3, len(registers)]) + registers
            if self._old:
                raise Refusal(ILLEGAL_FUNCTION)
            if function == 6:
                self._write_one(start, int.from_bytes(request[3:5], "big"))
                return request
            if function == 8:
                if start:
                    raise Refusal(ILLEGAL_VALUE)
                return request
            if function == 16:
                self._write_two(start, request, now)
                return request[:5]
            raise Refusal(ILLEGAL_FUNCTION)
        except Refusal as refusal:
            return bytes([function | 0x80, refusal.code])

    def _read(self, start: int, registers: int, now: float) -> bytes:
        if not 1 <= registers <= (MOST_READ_BEFORE_2010 if self._old else MOST_READ):
            raise Refusal(ILLEGAL_VALUE)
        if self._old and start >= 0x000C:
            raise Refusal(ILLEGAL_ADDRESS)
        if 0x0200 <= start and start + registers <= 0x0210:
            words = [self._configured(at) for at in range(start, start + registers)]
            return b"".join(word.to_bytes(2, "big") for word in words)
        if self._value(start & ~1) is None:
            raise Refusal(ILLEGAL_ADDRESS)
        if registers == 1:
            return b"\0\0"  # half of a value that takes two registers
        values = [self._value(at) for at in range(start, start + registers, 2)]
        if start % 2 or registers % 2:
            raise Refusal(ILLEGAL_ADDRESS)
        read = b""
        for value in values:
            if value is None:
                raise Refusal(ILLEGAL_ADDRESS)
            read += value(now)
        return read

    def _value(self, at: int) -> Callable[[float], bytes] | None:
        """What gives the value of two registers; None where there is none."""
        if at % 2 == 0 and at < 0x000C:
            return lambda now: _floating(self._channel(at // 2, now))
        if at % 2 == 0 and 0x0010 <= at < 0x001C:
            return lambda now: _integer(self._whole((at - 0x0010) // 2, now))
        if at in (0x0100, 0x0102):
            return lambda now: _floating(self._channel(P1 if at == 0x0100 else TOB1, now))
        number = (at - 0x0300) // 2
        if at % 2 == 0 and 0 <= number <= LAST_COEFFICIENT:
            return lambda now: _floating(self._coefficients.get(number, 0.0))
        return None

    def _configured(self, at: int) -> int:
        """A register of the configuration, 0x0200 to 0x020F."""
        family, group, year, week = self._version
        return {
            0x0202: self._serial >> 16,
            0x0203: self._serial & 0xFFFF,
            0x020D: self.address,
            0x020E: family << 8 | group,
            0x020F: year << 8 | week,
        }.get(at, self._configuration.get(at - 0x0200, 0))

    def _write_one(self, at: int, value: int) -> None:
        if at == 0x020D:
            if not 1 <= value <= 249:
                raise Refusal(SLAVE_FAILURE)
            self.address = value
        elif at in (0x0200, 0x0206, 0x0207, 0x0208):
            if value > 0xFF:
                raise Refusal(SLAVE_FAILURE)
            self._configuration[at - 0x0200] = value
        else:
            raise Refusal(ILLEGAL_ADDRESS)

    def _write_two(self, at: int, request: bytes, now: float) -> None:
        if request[3:6] != b"\0\x02\x04":
            raise Refusal(ILLEGAL_VALUE)
        value = struct.unpack(">f", request[6:10])[0]
        number = (at - 0x0300) // 2
        if at == 0xFF00:
            self._set_zero(value, now)
        elif at == 0xFF02:
            self._coefficients[OFFSET] = 0.0
        elif at % 2 == 0 and number in WRITABLE:
            if not math.isfinite(value):
                raise Refusal(SLAVE_FAILURE)
            self._coefficients[number] = value
        else:
            raise Refusal(ILLEGAL_ADDRESS)

    # -- Keller bus

    def _answer_bus(self, request: bytes, now: float) -> bytes:
        function, data = request[0], request[1:]
        try:
            handler = self._functions.get(function)
            if handler is None:
                raise Refusal(ILLEGAL_FUNCTION)
            if not self._initialised and function != 48:
                raise Refusal(NOT_INITIALISED)
            if self._refusals and self._refusing():
                raise Refusal(BAD_DATA)
            return bytes([function]) + handler(self, data, now)
        except Refusal as refusal:
            return bytes([function | 0x80, refusal.code])

    def _read_coefficient(self, data: bytes, now: float) -> bytes:
        if data[0] > LAST_COEFFICIENT:
            raise Refusal(BAD_PARAMETER)
        return _floating(self._coefficients.get(data[0], 0.0))

    def _write_coefficient(self, data: bytes, now: float) -> bytes:
        value = struct.unpack(">f", data[1:5])[0]
        if data[0] not in WRITABLE or not math.isfinite(value):
            raise Refusal(BAD_PARAMETER)
        self._coefficients[data[0]] = value
        return b"\0"

    def _read_configuration(self, data: bytes, now: float) -> bytes:
        return bytes([self._configuration.get(self._place(data[0]), 0)])

    def _write_configuration(self, data: bytes, now: float) -> bytes:
        self._configuration[self._place(data[0])] = data[1]
        return b"\0"

    @staticmethod
    def _place(number: int) -> int:
        """Register that holds a configuration byte: 0 P channels, 1 T channels, 2 CH0, 3 interval,
        4 filter (numbers of Keller's function 32), the rest kept apart."""
        if number > 13:
            raise Refusal(BAD_PARAMETER)
        return number + 4 if number <= 4 else number + 16

    def _initialise(self, data: bytes, now: float) -> bytes:
        before, self._initialised = self._initialised, True
        return bytes([*self._version, RECEIVE_BUFFER, int(before)])

    def _change_address(self, data: bytes, now: float) -> bytes:
        if data[0] and not 1 <= data[0] <= 249:
            raise Refusal(BAD_DATA)
        self.address = data[0] or self.address
        return bytes([self.address])

    def _read_serial(self, data: bytes, now: float) -> bytes:
        return self._serial.to_bytes(4, "big")

    def _read_floating(self, data: bytes, now: float) -> bytes:
        if data[0] > TOB2:
            raise Refusal(BAD_PARAMETER)
        value = self._channel(data[0], now)
        return _floating(value) + bytes([0 if math.isfinite(value) else 1 << data[0]])

    def _read_integer(self, data: bytes, now: float) -> bytes:
        if data[0] > TOB2:
            raise Refusal(BAD_PARAMETER)
        value = self._whole(data[0], now)
        if value in (OVERFLOW, UNDERFLOW):
            raise Refusal(CHANNEL_ERROR)
        return _integer(value) + b"\0"

    def _zero(self, data: bytes, now: float) -> bytes:
        if data[0] == 0:
            self._set_zero(struct.unpack(">f", data[1:5])[0] if len(data) == 5 else 0.0, now)
        elif data[0] == 1:
            self._coefficients[OFFSET] = 0.0
        else:
            raise Refusal(BAD_PARAMETER)
        return b"\0"

    _functions: Mapping[int, Callable[[SimulatedKeller33X, bytes, float], bytes]] = {
        30: _read_coefficient,
        31: _write_coefficient,
        32: _read_configuration,
        33: _write_configuration,
        48: _initialise,
        66: _change_address,
        69: _read_serial,
        73: _read_floating,
        74: _read_integer,
        95: _zero,
    }


def _single(value: float) -> float:
    """A number as a 4-byte float keeps it."""
    return float(struct.unpack(">f", struct.pack(">f", max(min(value, 3e38), -3e38)))[0])


def _floating(value: float) -> bytes:
    if math.isfinite(value):
        value = max(min(value, 3e38), -3e38)
    return struct.pack(">f", value)


def _integer(value: int) -> bytes:
    return max(min(value, OVERFLOW), UNDERFLOW).to_bytes(4, "big", signed=True)
