"""Simulated Vaisala DMT143 dew point transmitter: terminal commands and Modbus RTU.

Written from the DMT143 user guide M211435EN, chapters 2 and 7 and appendix A; the Modbus table of
measurements is that of its relatives DPT145 or DMT340. What is assumed where they are silent
stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping

from operando.instruments.wires import Line
from operando.simulators.devices.device import Options
from operando.simulators.devices.dmt143_format import (
    DEFAULT_FORM,
    NOTHING,
    Reading,
    count,
    is_form,
    message,
    number,
    setting,
)
from operando.simulators.devices.gas_sensor import (
    BAR,
    ZERO_CELSIUS,
    Lag,
    RoomSensor,
    dew_point,
    saturation_pressure,
)
from operando.simulators.devices.modbus_slave import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    SLAVE_FAILURE,
    ModbusRefusal,
    RtuSlave,
)
from operando.simulators.faults import Fault
from operando.simulators.rooms import STANDARD_PRESSURE

BOOT_TIME = 2.0
"""User guide: the transmitter starts in about 2 s."""

CYCLE = 1.0
"""Time of one measurement, s: assumed. `INTV 0` sends a line for each."""

LONGEST_COMMAND = 200

PSI = 6894.757  # Pa, NIST SP 811

UNKNOWN, INVALID = "Unknown command\r\n", "Invalid argument\r\n"
"""Words for what is refused: assumed."""

INTERVAL = re.compile(r"(\d{1,3})(?:\s+(S|MIN|H))?")

SECONDS = {"S": 1.0, "MIN": 60.0, "H": 3600.0}

PURGE, AUTOCALIBRATION, WARMING, NORMAL = "H", "A", "h", " "
"""STAT: the letters of the user guide; a blank when nothing is on is assumed."""

WARM_HUMIDITY = 0.8
"""Relative humidity above which the sensor is warmed: assumed."""

ENCAPSULATED, DEVICE_IDENTIFICATION = 0x2B, 0x0E

TABLES: Mapping[str, tuple[int, int, int]] = {
    "dpt145": (0x0006, 0x000A, 0x0014),
    "dmt340": (0x0008, 0x000A, 0x0014),
}
"""Addresses of Tdf, Tdf at 1 atm and H2O; the DMT143's own table was found in no document."""


class _Slave(RtuSlave):
    """Adds function 43/14, read device identification."""

    def __init__(
        self,
        address: int,
        read: Callable[[int, int, float], list[int]],
        objects: Callable[[], Mapping[int, str]],
    ) -> None:
        super().__init__(address, read, self._refuse_write)
        self._objects = objects

    @staticmethod
    def _refuse_write(start: int, values: list[int], now: float) -> None:
        raise ModbusRefusal(ILLEGAL_ADDRESS)

    def _answer(self, request: bytes, now: float) -> bytes:
        if request[0] != ENCAPSULATED or request[1:2] != bytes([DEVICE_IDENTIFICATION]):
            return super()._answer(request, now)
        if len(request) != 4 or not 1 <= request[2] <= 4:
            return bytes([ENCAPSULATED | 0x80, ILLEGAL_VALUE])
        objects, code, first = self._objects(), request[2], request[3]
        if code == 4:
            wanted = [first] if first in objects else []
        else:
            top = {1: 2, 2: 6, 3: 255}[code]
            wanted = [key for key in sorted(objects) if first <= key <= top]
        if not wanted:
            return bytes([ENCAPSULATED | 0x80, ILLEGAL_ADDRESS])
        body = bytes([*request[:3], 0x83, 0, 0, len(wanted)])
        for key in wanted:
            text = objects[key].encode("ascii", "replace")
            body += bytes([key, len(text)]) + text
        return body


class SimulatedDMT143(RoomSensor):
    """A DMT143: `SEND` in, `Tdf=-70.12 'C Tdfatm=-70.12 'C H2O=     3 ppm` out."""

    power_on_time = BOOT_TIME
    default_baud = 19_200.0
    misbehaviours = RoomSensor.misbehaviours | {"identity"}

    def _take_own_options(self, options: Options) -> None:
        self._true_serial = self._serial = options.text("serial", "J1140501")
        self._firmware = options.text("firmware", "1.4.2")
        self._mode = options.text("mode", "STOP", ("STOP", "RUN", "POLL", "MODBUS"))
        self._echo = options.text("echo", "as sent", ("as sent", "lines", "off"))
        self._prompt = b">" if options.flag("prompt", True) else b""
        self._address = options.whole("address", 0, low=0, high=255)
        self._metric = options.text("unit", "metric", ("metric", "non-metric")) == "metric"
        self._pressure = options.number("pressure_setting", STANDARD_PRESSURE, low=1e4, high=5e6)
        self._wetting = options.number("wetting_time", 4.3, low=0.0)
        self._drying = options.number("drying_time", 62.0, low=0.0)
        self._noise = options.number("noise", 0.02, low=0.0)
        self._offset = options.number("offset", 0.0)
        self._ageing = options.number("ageing", 0.0)
        self._drift = options.number("drift", 0.0)
        self._lowest = options.number("lowest", 193.15, low=150.0, high=273.15)
        self._highest = options.number("highest", 333.15, low=273.15, high=373.15)
        self._purge_every = options.number("purge_interval", 86_400.0, low=0.0)
        self._purge_time = options.number("purge_time", 240.0, low=0.0)
        self._calibrate_every = options.number("autocalibration_interval", 3600.0, low=0.0)
        self._calibration_time = options.number("autocalibration_time", 65.0, low=0.0)
        table = TABLES[options.text("modbus_table", "dpt145", tuple(TABLES))]
        self._tdf_at, self._tdfa_at, self._ppm_at = table
        slave = options.whole("modbus_address", 240, low=1, high=247)
        self._slave = _Slave(slave, self._registers, self._identification)
        self._sensor = Lag()
        self._held: tuple[float, float] | None = None
        self._next_mode = self._mode
        self._form = DEFAULT_FORM
        self._filter = 1.0
        self._interval = (1, "S")
        self._delay = 0
        self._serial_settings = "19200 N 8 1"
        self._open = self._mode != "POLL"
        self._running = self._mode == "RUN"
        self._awake_at = float("-inf")
        self._input = bytearray()
        self._input_at = float("-inf")
        self._lines: set[Line] = set()
        self._output_due = False

    # -- power, connections, faults

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        if fault.kind == "identity":
            self._serial = fault.text
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self._serial = self._true_serial

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s): settings stay, what was measured before is forgotten."""
        self.powered_at = self._awake_at = now + boot_time
        self._mode = self._next_mode
        self._open = self._mode != "POLL"
        self._running = self._mode == "RUN"
        self._input.clear()
        self._sensor.forget()
        self._held = None
        self._output_due = False
        self._later(self._awake_at, self._wake)

    def _wake(self, now: float) -> None:
        if self._mode == "STOP":
            for line in self._lines:
                self._say(line, self._banner(), 0, now)
        self._schedule_output(now)

    def connected(self, line: Line, now: float) -> None:
        """A host opened a connection; in RUN mode lines go to it by themselves."""
        self._lines.add(line)
        self._schedule_output(now)

    def disconnected(self, line: Line, now: float) -> None:
        """A connection is gone; an unfinished command with it."""
        self._lines.discard(line)
        self._input.clear()

    def _schedule_output(self, now: float) -> None:
        if self._running and self._lines and not self._output_due:
            self._output_due = True
            number, unit = self._interval
            self._later(now + max(number * SECONDS[unit], CYCLE), self._output)

    def _output(self, now: float) -> None:
        self._output_due = False
        if self._running:
            for line in self._lines:
                self._reply(line, self._message(now), 0, now)
        self._schedule_output(now)

    # -- the sensor

    def _pause(self, now: float) -> tuple[str, float]:
        """Whether the shown value is held, as the letter of STAT, and since when (s)."""
        on_for = now - self.powered_at
        for letter, every, lasts in (
            (PURGE, self._purge_every, self._purge_time),
            (AUTOCALIBRATION, self._calibrate_every, self._calibration_time),
        ):
            if every <= 0.0:
                continue
            rounds = math.floor(on_for / every)
            # A purge comes with power, the first automatic calibration one interval later.
            if on_for - rounds * every < lasts and (rounds > 0 or letter == PURGE):
                return letter, self.powered_at + rounds * every
        return "", now

    def _look(self, now: float) -> tuple[str, float]:
        """STAT and dew point before the range's ends, K; NaN when none is known."""
        room = self.room
        vapour = room.fraction("h2o", now) * room.pressure(now)
        true = dew_point(vapour)
        slow = CYCLE * (1.0 - self._filter) / self._filter
        follow = self._wetting if true > self._sensor.output else self._drying
        self._sensor.look(now, true, follow + slow)
        letter, since = self._pause(now)
        if letter:
            if self._held is None or self._held[0] != since:
                # A purge that comes with power has nothing before it to show.
                before = self._shown(since) if since > self.powered_at else math.nan
                self._held = (since, before)
            return letter, self._held[1]
        humid = vapour > WARM_HUMIDITY * saturation_pressure(room.temperature(now))
        return (WARMING if humid else NORMAL), self._shown(now)

    def _shown(self, at: float) -> float:
        """Dew point with the sensor's errors, K."""
        since_calibration = at - self.powered_at
        if self._calibrate_every > 0.0:
            since_calibration %= self._calibrate_every
        error = self._offset + self._ageing * self.age(at) + self._drift * since_calibration
        return self._sensor.at(at) + error + self._noise * self.gauss(0.0, 1.0)

    def _read(self, now: float) -> tuple[str, Reading]:
        """STAT and what is shown; NOTHING when there is nothing to show."""
        status, dew = self._look(now)
        if not self.plugged or (self._overloads and self._overloaded()) or math.isnan(dew):
            return status, NOTHING
        dew = min(max(dew, self._lowest), self._highest)
        vapour = saturation_pressure(dew)
        at_one = dew_point(vapour * STANDARD_PRESSURE / self._pressure)
        ppm = 1e6 * vapour / max(self._pressure - vapour, 1.0)
        humidity = vapour / saturation_pressure(self.room.temperature(now))
        return status, Reading(dew, at_one, ppm, humidity)

    # -- the terminal

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect commands that end with CR, or Modbus frames."""
        if now < self._awake_at:
            return
        if self._mode == "MODBUS":
            self._receive_frames(line, data, now)
            return
        echoed = self._open and not self._running
        if echoed and self._echo != "off":
            heard = data.replace(b"\r", b"\r\n") if self._echo == "lines" else data
            line.send(heard, max(now + len(data) * self._byte_time, self.busy_until))
        for byte in data:
            if byte == 0x1B:  # ESC needs no CR
                self._running = False
                self._input.clear()
            elif byte == 0x0D:
                command = bytes(self._input)
                self._input.clear()
                self._carry_out(line, command, now)
                if now < self._awake_at:
                    return
            elif byte != 0x0A and len(self._input) < LONGEST_COMMAND:
                self._input.append(byte)

    def _carry_out(self, line: Line, command: bytes, now: float) -> None:
        words = command.decode("ascii", "replace").strip()
        verb, _, arguments = words.partition(" ")
        verb, arguments = verb.upper(), arguments.strip()
        asked = len(command) + 1
        if self._running:
            if verb == "S":
                self._running = False
                self._say(line, "", asked, now)
            return
        if not self._open:
            self._carry_out_polled(line, verb, arguments, asked, now)
            return
        if not verb:
            self._say(line, "", asked, now)
            return
        if verb == "RESET":
            self.close()
            self.power_cycle(now, BOOT_TIME)
            return
        if self._refusals and self._refusing():
            self._say(line, UNKNOWN, asked, now)
            return
        handler = self._commands.get(verb)
        self._say(line, handler(self, arguments, now) if handler else UNKNOWN, asked, now)
        self._schedule_output(now)

    def _carry_out_polled(
        self, line: Line, verb: str, arguments: str, asked: int, now: float
    ) -> None:
        """In POLL mode only what carries the address is answered, without echo and prompt."""
        if verb == "??":
            self._reply(line, self._information("", now).encode("ascii"), asked, now)
        elif arguments != str(self._address):
            return
        elif verb == "SEND":
            self._reply(line, self._message(now), asked, now)
        elif verb == "OPEN":
            self._say(line, self._opened(arguments, now), asked, now)

    def _say(self, line: Line, text: str, asked: int, now: float) -> None:
        """Answer, with a prompt where the next command is awaited."""
        ready = self._open and not self._running
        body = text.encode("latin-1") + (self._prompt if ready else b"")
        if body:
            self._reply(line, body, asked, now + 0.004 * self._delay)

    # -- messages

    def _message(self, now: float) -> bytes:
        """The measurement in the chosen format."""
        status, reading = self._read(now)

        def field(name: str) -> str:
            on_for = int(max(now - self.powered_at, 0.0))
            return {
                "ADDR": str(self._address),
                "SN": self._serial,
                "STAT": status,
                "ERR": _error_bits(status, reading),
                "TIME": f"{on_for // 3600:02d}:{on_for // 60 % 60:02d}:{on_for % 60:02d}",
            }[name]

        return message(self._form, reading, self._metric, field)

    def _banner(self) -> str:
        return f"DMT143 / {self._firmware}\r\n"

    # -- commands: (arguments, time) to text

    def _send(self, arguments: str, now: float) -> str:
        if arguments and arguments != str(self._address):
            return ""
        return self._message(now).decode("latin-1")

    def _run(self, arguments: str, now: float) -> str:
        self._running = True
        return ""

    def _stop(self, arguments: str, now: float) -> str:
        return ""

    def _set_interval(self, arguments: str, now: float) -> str:
        given = INTERVAL.fullmatch(arguments.upper())
        if given and int(given[1]) <= 255:
            self._interval = (int(given[1]), given[2] or self._interval[1])
        elif arguments:
            return INVALID
        return f"Output interval: {self._interval[0]} {self._interval[1]}\r\n"

    def _set_form(self, arguments: str, now: float) -> str:
        if not arguments:
            return self._form + "\r\n"
        if arguments == "/":
            self._form = DEFAULT_FORM
            return "OK\r\n"
        if not is_form(arguments):
            return INVALID
        self._form = arguments
        return "OK\r\n"

    def _set_unit(self, arguments: str, now: float) -> str:
        if arguments.upper() in ("M", "N"):
            self._metric = arguments.upper() == "M"
        elif arguments:
            return INVALID
        return setting("Output units", "metric" if self._metric else "non metric")

    def _set_filter(self, arguments: str, now: float) -> str:
        value = number(arguments, self._filter)
        if not 0.0 < value <= 1.0:
            return INVALID
        self._filter = value
        return setting("Filter", f"{value:.5f}")

    def _set_serial(self, arguments: str, now: float) -> str:
        words = arguments.upper().split()
        if len(words) == 4 and words[0].isdigit() and words[1] in "NEO":
            self._serial_settings = " ".join(words)
        elif words:
            return INVALID
        return setting("Baud P D S", self._serial_settings)

    def _set_address(self, arguments: str, now: float) -> str:
        if arguments:
            if not re.fullmatch(r"\d{1,3}", arguments) or int(arguments) > 255:
                return INVALID
            self._address = int(arguments)
        return count("Address", self._address)

    def _set_delay(self, arguments: str, now: float) -> str:
        if arguments:
            if not re.fullmatch(r"\d{1,3}", arguments) or int(arguments) > 255:
                return INVALID
            self._delay = int(arguments)
        return count("Serial delay", self._delay)

    def _set_pressure(self, arguments: str, now: float) -> str:
        scale = BAR if self._metric else PSI
        value = number(arguments, self._pressure / scale) * scale
        if not 1e4 <= value <= 5e6:
            return INVALID
        self._pressure = value
        return self._pressure_text()

    def _pressure_text(self) -> str:
        if self._metric:
            return f"{'Pressure':<15}:{self._pressure / BAR:10.5f} bara\r\n"
        return f"{'Pressure':<15}:{self._pressure / PSI:10.4f} psia\r\n"

    def _set_mode(self, arguments: str, now: float) -> str:
        if arguments.upper() in ("STOP", "RUN", "POLL", "MODBUS"):
            self._next_mode = arguments.upper()
        elif arguments:
            return INVALID
        return setting("Serial mode", self._next_mode)

    def _opened(self, arguments: str, now: float) -> str:
        if arguments and arguments != str(self._address):
            return ""
        self._open = True
        return f"DMT143   {self._address} line opened for operator commands\r\n"

    def _closed(self, arguments: str, now: float) -> str:
        self._open = self._mode != "POLL"
        return "line closed\r\n"

    def _show_serial(self, arguments: str, now: float) -> str:
        return setting("Serial number", self._serial)

    def _show_version(self, arguments: str, now: float) -> str:
        return self._banner()

    def _show_errors(self, arguments: str, now: float) -> str:
        well = self.plugged and not self._overloads
        return "No errors\r\n" if well else "F meas error\r\n"

    def _information(self, arguments: str, now: float) -> str:
        """Fourteenth is the pressure, second the serial number: PyExpLabSys reads them there."""
        return "".join(
            (
                self._banner(),
                setting("Serial number", self._serial),
                setting("Batch number", "J1130001"),
                setting("Module number", "J1120001"),
                setting("Sensor number", "J1110001"),
                setting("Sensor model", "Drycap 180D"),
                setting("Cal. date", "20260101"),
                setting("Cal. info", "simulated"),
                self._set_unit("", now),
                setting("Serial mode", self._next_mode),
                setting("Baud P D S", self._serial_settings),
                self._set_interval("", now),
                count("Address", self._address),
                self._pressure_text(),
                setting("Filter", f"{self._filter:.5f}"),
            )
        )

    def _help(self, arguments: str, now: float) -> str:
        return "".join(f"{verb}\r\n" for verb in sorted(self._commands))

    _commands: Mapping[str, Callable[[SimulatedDMT143, str, float], str]] = {
        "SEND": _send,
        "R": _run,
        "S": _stop,
        "INTV": _set_interval,
        "FORM": _set_form,
        "UNIT": _set_unit,
        "FILT": _set_filter,
        "SERI": _set_serial,
        "ADDR": _set_address,
        "SDELAY": _set_delay,
        "PRES": _set_pressure,
        "XPRES": _set_pressure,
        "SMODE": _set_mode,
        "OPEN": _opened,
        "CLOSE": _closed,
        "SNUM": _show_serial,
        "VERS": _show_version,
        "ERRS": _show_errors,
        "?": _information,
        "??": _information,
        "HELP": _help,
    }

    # -- Modbus

    def _receive_frames(self, line: Line, data: bytes, now: float) -> None:
        # 3.5 characters by the standard; a host's own delays must not cut a frame in two.
        if now - self._input_at > self.clock.lab(0.1):
            self._input.clear()
        self._input_at = now
        self._input += data
        for asked, reply in self._slave.receive(self._input, now):
            self._reply(line, reply, asked, now)
        if len(self._input) > LONGEST_COMMAND:
            self._input.clear()

    def _registers(self, start: int, count: int, now: float) -> list[int]:
        if self._refusals and self._refusing():
            raise ModbusRefusal(SLAVE_FAILURE)
        status, reading = self._read(now)
        errors = _error_bits(status, reading)
        words = {0x0200: int(errors == "0000"), 0x0201: int(status in (NORMAL, WARMING))}
        words |= {0x0203: int(errors[::-1], 2), 0x0204: 0}
        words |= _low_word_first(self._tdf_at, reading.dew - ZERO_CELSIUS)
        words |= _low_word_first(self._tdfa_at, reading.dew_at_one_atmosphere - ZERO_CELSIUS)
        words |= _low_word_first(self._ppm_at, reading.ppm)
        words |= {0x1F00: -12345, **_low_word_first(0x1F01, -123.45)}
        text = b"-123.45\0"
        words |= {0x1F03 + at // 2: int.from_bytes(text[at : at + 2], "big") for at in (0, 2, 4, 6)}
        wanted = range(start, start + count)
        if any(at not in words for at in wanted):
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        return [words[at] for at in wanted]

    def _identification(self) -> Mapping[int, str]:
        return {
            0x00: "Vaisala",
            0x01: "DMT143",
            0x02: self._firmware,
            0x03: "http://www.vaisala.com/",
            0x04: "Vaisala DRYCAP Dewpoint Transmitter DMT143",
            0x05: "G1A1A1A0A0ASX",
            0x80: self._serial,
            0x81: "2026-01-01",
            0x82: "simulated",
        }


def _low_word_first(at: int, value: float) -> dict[int, int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return {at: low, at + 1: high}


def _error_bits(status: str, reading: Reading) -> str:
    """Bit 0 temperature, bit 2 frequency of the sensor, bit 3 flash; bit 0 comes first."""
    paused = status in (PURGE, AUTOCALIBRATION)
    return "0010" if math.isnan(reading.dew) and not paused else "0000"
