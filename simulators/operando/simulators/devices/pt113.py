"""Simulated PT113 load-cell indicators: BSI (ASCII) and Modbus RTU.

Written from the PT113 instruction manual, printed pages 32-40. What is assumed where it is silent
stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from operando.instruments.clock import Clock
from operando.instruments.wires import Line
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.modbus_slave import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    SLAVE_FAILURE,
    ModbusRefusal,
    RtuSlave,
)
from operando.simulators.devices.ports import Site
from operando.simulators.devices.weighing import WeighingStage

PATIENCE = 2.0
"""Longest wait for a stable weight in zero and tare, s."""

BOOT_TIME = 20.0
"""Time from power to work, s: the manual's delay before the continuous output starts."""

LONGEST_FRAME = 256

OVERFLOWN, UNDERFLOWN, BAD_CONVERTER = "+", "-", "O"


class _Indicator(Device):
    """What both protocols share: the weighing stage, timing and the wait for a stable weight."""

    power_on_time = BOOT_TIME

    def __init__(
        self,
        name: str,
        *,
        site: Site,
        clock: Clock,
        options: Mapping[str, object],
    ) -> None:
        """Switch on, on the load frame of `site`. options: see the reference page."""
        super().__init__(name, clock)
        own = Options(name, options)
        self.address = own.whole("address", 1, low=1, high=99)
        self._byte_time = 10.0 / own.number("baud", 9600.0, low=1200.0, high=115200.0)
        self._response_time = own.number("response_time", 0.01, low=0.0, high=10.0)
        self.supply_voltage = own.number("supply_voltage", 23.4, low=0.0, high=100.0)
        self._tare_enabled = own.flag("tare_enabled", True)
        self._zero_enabled = own.flag("zero_enabled", True)
        self.count_mode = own.flag("count_mode", False)
        random = noise_stream(name, own.whole("seed", 0))
        self.weighing = WeighingStage(name, site.frame, random, own)
        self._take_own_options(own)
        own.finish()
        self._input = bytearray()
        self._input_at = float("-inf")

    def _take_own_options(self, options: Options) -> None:
        """Options of one protocol."""

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s): tare and zero are forgotten."""
        self._input.clear()
        self.weighing.power_on()

    def disconnected(self, line: Line, now: float) -> None:
        """A connection is gone; an unfinished request with it."""
        self._input.clear()

    def supply(self) -> str:
        """Supply voltage: "H" high, "L" low, "" right. The limits 12 and 28 V are assumed."""
        if self.supply_voltage < 12.0:
            return "L"
        return "H" if self.supply_voltage > 28.0 else ""

    def condition(self, gross: float) -> str:
        """Why a gross weight must not be shown: "O", "+", "-", or "" when it may."""
        if self._overloads and self._overloaded():
            return OVERFLOWN
        if self.weighing.over(gross):
            return OVERFLOWN
        return UNDERFLOWN if self.weighing.under(gross) else ""

    def _reply_time(self, now: float, asked: int, answered: int) -> float:
        """When the last byte of a reply is through a serial line, s."""
        return now + self._response_time + (asked + answered) * self._byte_time

    def _when_stable(self, now: float, act: Callable[[float, bool], object]) -> None:
        """Call `act` with (time, stable) as soon as the weight is stable, or after 2 s."""
        until = now + PATIENCE
        self.busy_until = until

        def check(at: float) -> None:
            self.weighing.look(at)
            stable = not self.weighing.moving()
            if stable or at >= until:
                self.busy_until = at
                act(at, stable)
            else:
                self._later(min(at + 0.2, until), check)

        check(now)


class SimulatedPT113(_Indicator):
    """A PT113 in BSI mode: `01I` in, `01IS+000123.4` out, with or without checksums."""

    def _take_own_options(self, options: Options) -> None:
        self._checksum = options.flag("checksum", False)

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect lines that end with CR LF."""
        self._input += data
        while (end := self._input.find(b"\r\n")) >= 0:
            message = bytes(self._input[:end])
            del self._input[: end + 2]
            self._carry_out(line, message, now)
        if len(self._input) > LONGEST_FRAME:
            self._input.clear()

    def _carry_out(self, line: Line, message: bytes, now: float) -> None:
        asked = len(message) + 2
        if self._checksum:
            body, given = message[:-2], message[-2:]
            if checksum(body) != given.upper():
                return  # assumed: a request that came through damaged is not answered
            message = body
        if len(message) != 3 or not message[:2].isdigit() or int(message[:2]) != self.address:
            return
        if now < self.busy_until:
            return  # assumed: a request during the wait of zero or tare is lost
        letter = chr(message[2])
        if self._refusals and self._refusing():
            self._reply(line, letter + "X", asked, now)
        elif letter == "T" and self._tare_enabled:
            self._when_stable(now, self._finisher(line, "T", asked, self.weighing.set_tare))
        elif letter == "Z" and self._zero_enabled:
            self._when_stable(now, self._finisher(line, "Z", asked, self.weighing.set_zero))
        else:
            answer = self._answers.get(letter)
            self._reply(line, letter + (answer(self, now) if answer else "X"), asked, now)

    def _finisher(
        self, line: Line, letter: str, asked: int, act: Callable[[float], bool]
    ) -> Callable[[float, bool], None]:
        def finish(at: float, stable: bool) -> None:
            done = stable and act(at)
            self._reply(line, letter + ("A" if done else "N"), asked, at)

        return finish

    def _reply(self, line: Line, text: str, asked: int, now: float) -> None:
        body = f"{self.address:02d}{text}".encode("ascii")
        if self._checksum:
            body += checksum(body)
        body += b"\r\n"
        line.send(body, self._reply_time(now, asked, len(body)))

    # -- answers, without address and letter

    def _weight(self, value: float) -> str:
        """Sign and 8 characters with leading zeros."""
        return f"{value:+09.{self.weighing.decimals}f}"

    def _steady(self) -> str:
        return "D" if self.weighing.moving() else "S"

    def _all(self, now: float) -> str:
        gross = self.weighing.gross(now)
        if self.condition(gross):
            return "O"
        weights = (gross - self.weighing.tare, self.weighing.tare, gross)
        return self._steady() + "".join(self._weight(w) for w in weights)

    def _gross(self, now: float) -> str:
        gross = self.weighing.gross(now)
        return self.condition(gross) or self._steady() + self._weight(gross)

    def _indicated(self, now: float) -> str:
        gross = self.weighing.gross(now)
        shown = gross - self.weighing.tare if self.weighing.net else gross
        return self.condition(gross) or self._steady() + self._weight(shown)

    def _printed(self, now: float) -> str:
        answer = self._indicated(now)
        return answer if answer.startswith("S") else "N"

    def _fine(self, now: float) -> str:
        value = self.weighing.fine(now)
        gross = value + (self.weighing.tare if self.weighing.net else 0.0)
        if self.condition(gross):
            return "E"
        return self._steady() + f"{value:+09.{self.weighing.decimals + 1}f}"

    def _counts(self, now: float) -> str:
        if not self.count_mode:
            return "X"
        gross = self.weighing.gross(now)
        if self.condition(gross):
            return "O"
        return self._steady() + f"{round(1000.0 * gross / self.weighing.division):+09d}"

    def _status(self, now: float) -> str:
        gross = self.weighing.gross(now)
        where = self.condition(gross) or self.supply() or "I"
        return self._steady() + ("N" if self.weighing.net else "G") + where

    def _supply(self, now: float) -> str:
        return f"A{round(10.0 * self.supply_voltage):03d}"

    def _clear(self, now: float) -> str:
        self.weighing.clear_tare()
        return "A"

    _answers: Mapping[str, Callable[[SimulatedPT113, float], str]] = {
        "A": _all,
        "B": _gross,
        "C": _clear,
        "D": _counts,
        "G": _supply,
        "I": _indicated,
        "P": _printed,
        "S": _status,
        "X": _fine,
    }


def checksum(body: bytes) -> bytes:
    """Two hex digits of the negative sum of the characters: b"01P" gives b"4F"."""
    return b"%02X" % (-sum(body) & 0xFF)


class SimulatedPT113Modbus(_Indicator):
    """A PT113 in Modbus RTU mode: functions 03 and 16, exceptions 01 to 04."""

    def _take_own_options(self, options: Options) -> None:
        order = options.text("word_order", "high-low", ("high-low", "low-high"))
        self._high_first = order == "high-low"
        self._calibration_load = 0
        self._calibration_status = 1
        self._mode = 5 if self.count_mode else 0
        self._input_range = 0
        self._control = 0
        self._slave = RtuSlave(self.address, self._read_registers, self._write_registers)

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect frames; a pause starts a new one."""
        # 3.5 characters by the standard; a host's own delays must not cut a frame in two.
        if now - self._input_at > self.clock.lab(0.1):
            self._input.clear()
        self._input_at = now
        self._input += data
        for asked, reply in self._slave.receive(self._input, now):
            line.send(reply, self._reply_time(now, asked, len(reply)))
        if len(self._input) > LONGEST_FRAME:
            self._input.clear()

    def _words(self, value: int) -> tuple[int, int]:
        """A signed 32-bit value as two registers."""
        high, low = (value >> 16) & 0xFFFF, value & 0xFFFF
        return (high, low) if self._high_first else (low, high)

    def _status(self, now: float, gross: float) -> int:
        condition = self.condition(gross)
        error = {"": 0, BAD_CONVERTER: 1, OVERFLOWN: 2, UNDERFLOWN: 3}[condition]
        if not error and self.supply():
            error = 6
        busy = now < self.busy_until
        status = error << 13
        status |= 1 if busy else 0
        status |= 2 if not error else 0
        status |= 4 if self.weighing.moving() else 0
        status |= 8 if self.weighing.net else 0
        status |= 32 if self.count_mode else 0
        status |= 1 << 12 if abs(gross) < 0.25 * self.weighing.division else 0
        return status

    def _read_registers(self, start: int, count: int, now: float) -> list[int]:
        if self._refusals and self._refusing():
            raise ModbusRefusal(SLAVE_FAILURE)
        weighing = self.weighing
        gross = weighing.gross(now)
        shown = gross - weighing.tare if weighing.net else gross
        status = self._status(now, gross)
        steps = [round(value / weighing.division) for value in (shown, weighing.tare, gross)]
        registers = [
            *self._words(steps[0]),
            status,
            *self._words(steps[1]),
            *self._words(steps[2]),
            status,
            self._control,
            0,
            *self._words(self._calibration_load),
            self._calibration_status,
            self._mode,
            self._input_range,
            weighing.filter,
        ]
        if start == SUPPLY_REGISTER and count == 1:
            return [round(10.0 * self.supply_voltage)]
        if start + count > len(registers):
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        return registers[start : start + count]

    def _write_registers(self, start: int, values: list[int], now: float) -> None:
        if self._refusals and self._refusing():
            raise ModbusRefusal(SLAVE_FAILURE)
        for at, value in enumerate(values, start):
            # The two words of the calibration load are the only 32-bit value that can be written.
            if at not in WRITABLE:
                raise ModbusRefusal(ILLEGAL_ADDRESS)
            if value not in WRITABLE[at]:
                raise ModbusRefusal(ILLEGAL_VALUE)
        for at, value in enumerate(values, start):
            self._write(at, value, now)

    def _write(self, at: int, value: int, now: float) -> None:
        if at == 0x08:
            self._control = value
            if value == 1 and self._zero_enabled:
                self._when_stable(now, lambda t, stable: stable and self.weighing.set_zero(t))
            elif value == 2 and self._tare_enabled:
                self._when_stable(now, lambda t, stable: stable and self.weighing.set_tare(t))
            elif value == 3:
                self.weighing.clear_tare()
        elif at in (0x0A, 0x0B):
            high = (at == 0x0A) == self._high_first
            kept = self._calibration_load & (0xFFFF if high else 0xFFFF0000)
            self._calibration_load = kept | (value << 16 if high else value)
        elif at == 0x0D:
            self._mode = value
        elif at == 0x0E:
            self._input_range = value
        elif at == 0x0F:
            self.weighing.filter = value


SUPPLY_REGISTER = 0x0021

WRITABLE: Mapping[int, range | frozenset[int]] = {
    0x08: range(1, 4),
    0x09: frozenset({188, 220}),
    0x0A: range(0x10000),
    0x0B: range(0x10000),
    0x0D: range(5),
    0x0E: range(4),
    0x0F: range(10),
}
"""Registers that can be written, with the values they take. Calibration commands are accepted and
change nothing: calibrating is not simulated."""
