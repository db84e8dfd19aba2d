"""Simulated Alicat dual-valve pressure controller (PCD series) on a pneumatic actuator.

Written from Alicat's Serial Primer (rev. 2, February 2023), the manuals that print its quick
command reference, the P and PCD series manual (set points as counts), and what users report of real
instruments: numat/alicat, GraysonBellamy/alicatlib (captures of 10v20 firmware). What is assumed
where they are silent stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line
from operando.simulators.devices.alicat_pneumatics import Pneumatics, Ramp
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.ports import Site
from operando.simulators.faults import Fault

PSI = 6894.757293168  # Pa: 0.45359237 kg * 9.80665 m/s2 / (25.4 mm)2, exact definitions

UNITS: Mapping[int, tuple[str, float]] = {
    2: ("Pa", 1.0),
    3: ("hPa", 100.0),
    4: ("kPa", 1e3),
    5: ("MPa", 1e6),
    6: ("mbar", 100.0),
    7: ("bar", 1e5),
    10: ("PSI", PSI),
    22: ("atm", 101325.0),
}
"""Unit codes of the Serial Primer's appendix B-6: label without "A" or "G", and Pa in one."""

GAUGE, ABSOLUTE = 6, 2
"""Statistics of pressure; their set points are 32 higher (Serial Primer, appendix A)."""

SETPOINT = 32

RAMP_TIMES: Mapping[int, tuple[str, float]] = {
    3: ("ms", 1e-3),
    4: ("s", 1.0),
    5: ("m", 60.0),
    6: ("h", 3600.0),
    7: ("d", 86_400.0),
}
"""Time units of `SR`: label and s in one."""

FULL_COUNT, HIGHEST_COUNT = 64_000, 65_535
"""Counts of a set point written as a whole number: full scale, and 2 % above."""

MEASURABLE = 1.1
"""Largest reading as a fraction of full scale, beyond which it is `POV` (assumed)."""

BOOT_TIME = 1.0
"""Time from power to the first answer, s (assumed)."""

LONGEST_LINE = 128

MOTION_STEP, LEAK_STEP = 0.1, 10.0
"""How often the actuator passes its pressure on to the frame while it moves or leaks, s."""

STREAM_INTERVAL = 0.05
"""Time between frames in streaming mode, s (manual of the MC series, p. 36)."""

_TOKEN = re.compile(r"(?P<id>[A-Z*@])(?:\$\$)?(?P<rest>.*)")


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """The answer "?"."""


class SimulatedAlicatDualValve(Device):
    """A PCD: an inlet valve, an exhaust valve, a pressure sensor and a loop around them."""

    power_on_time = BOOT_TIME
    misbehaviours = frozenset({"overload", "nak", "reboot", "identity", "unplug"})

    def __init__(
        self,
        name: str,
        *,
        site: Site,
        clock: Clock,
        options: Mapping[str, object],
    ) -> None:
        """Switch on, pressing on the frame of `site` as it is. options: see the reference page."""
        super().__init__(name, clock)
        own = Options(name, options)
        number = own.number
        self._place = f"[instruments.{name}.simulated]"
        self.unit_id = own.text("unit_id", "A", tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        self._byte_time = 10.0 / number("baud", 19_200.0, low=2400.0, high=115_200.0)
        self._response_time = number("response_time", 0.005, low=0.0, high=10.0)
        self._true_serial = own.text("serial", "301245")
        self.serial = self._true_serial
        self.firmware = own.text("firmware", "10v20.0-R24")
        self.full_scale = number("full_scale", 150.0 * PSI, low=100.0, high=1e8)
        label = own.text("unit", "PSI", tuple(label for label, _ in UNITS.values()))
        self._unit = next(code for code, (known, _) in UNITS.items() if known == label)
        self._reference = own.text("reference", "gauge", ("gauge", "absolute"))
        self._area = number("actuator_area", 1.9635e-3, low=0.0, high=10.0)
        self._noise = number("noise", 2e-5 * self.full_scale, low=0.0)
        self._offset = number("sensor_offset", 0.0)
        self._gain = number("sensor_gain", 1.0, low=0.5, high=2.0)
        self._drift = number("sensor_drift", 0.0)
        self._warm_up = number("warm_up_offset", 0.0)
        self._warm_up_time = number("warm_up_time", 600.0, low=1e-3)
        self._clips = own.text("overrange_setpoint", "refuse", ("refuse", "clip")) == "clip"
        self._decimals_fixed = own.whole("decimals", 9, low=0, high=9)
        self._gauss = noise_stream(name, own.whole("seed", 0)).gauss
        self._air = site.room
        self._frame = site.frame
        self._powered_at = now = clock.now()
        pressed = site.frame.force(now) if site.frame is not None and self._area else 0.0
        true = number("initial_pressure", pressed / self._area if self._area else 0.0, low=0.0)
        if true > MEASURABLE * self.full_scale:
            raise BadInputError(
                f"{self._place}: the frame is pressed with {pressed:g} N, which needs {true:g} Pa "
                f"in an actuator of {self._area:g} m2, more than full_scale "
                f"({self.full_scale:g} Pa): write a larger actuator_area"
            )
        self.pneumatics = Pneumatics(own, now, self._shown(true, now), self.full_scale)
        own.finish()
        self._tare = 0.0
        self._model = f"PCD-{self.full_scale / PSI:.0f}PSI{'GA'[self._absolute]}-D"
        self.source = "S"
        self.locked = False
        self._gains = {21: 200, 22: 200, 23: 200, 85: 1}
        self._input = bytearray()
        self._line: Line | None = None
        self._streaming = False
        self._stream_interval = STREAM_INTERVAL
        self._moving = False

    # -- pressure

    @property
    def _absolute(self) -> bool:
        return self._reference == "absolute"

    def _atmosphere(self, now: float) -> float:
        """Pressure around it, Pa; a gauge of it is relative to this."""
        return self._air.surrounding_pressure(now) if self._air is not None else 101_325.0

    def _error(self, now: float) -> float:
        """What the sensor shows too much at any pressure, Pa."""
        warm = self._warm_up * math.exp(-(now - self._powered_at) / self._warm_up_time)
        years = now / (365.25 * 86_400.0)
        return self._offset + warm + self._drift * years

    def _shown(self, true: float, now: float) -> float:
        """What the sensor shows at a true gauge pressure, Pa."""
        return self._gain * true + self._error(now)

    def true_pressure(self, now: float) -> float:
        """Gauge pressure in the actuator, Pa."""
        shown = self.pneumatics.pressure(now) + self._tare
        return (shown - self._error(now)) / self._gain

    def force(self, now: float) -> float:
        """Force of the actuator, N."""
        return max(self.true_pressure(now), 0.0) * self._area

    def _press(self, now: float) -> None:
        """Pass the pressure on to the frame, and keep doing so while it moves."""
        frame = self._frame
        if frame is None or not self._area:
            return
        force = self.force(now)
        # Below what the sensor resolves a frame may drift by itself.
        if abs(force - frame.force(now)) > 1e-5 * self.full_scale * self._area:
            frame.press(now, force)
        if not self._moving and self.pneumatics.moving(now):
            self._moving = True
            step = LEAK_STEP if self.pneumatics.mode == "hold" else MOTION_STEP
            self._later(now + step, self._go_on)

    def _go_on(self, now: float) -> None:
        self._moving = False
        self._press(now)

    # -- numbers as it prints them

    @property
    def _label(self) -> str:
        return UNITS[self._unit][0] + ("A" if self._absolute else "G")

    def _decimals(self) -> int:
        """Decimals of a pressure: five digits in all, wide enough for 110 % of full scale."""
        if self._decimals_fixed < 9:
            return self._decimals_fixed
        largest = MEASURABLE * self.full_scale / UNITS[self._unit][1]
        whole = max(1, math.floor(math.log10(largest)) + 1) if largest >= 1.0 else 1
        return max(0, 5 - max(whole, 2))

    def _print(self, pascals: float) -> str:
        """A pressure in the present unit: +014.62."""
        decimals = self._decimals()
        width = 7 if decimals else 0
        value = round(pascals / UNITS[self._unit][1], decimals) + 0.0
        return f"{value:+0{width}.{decimals}f}"

    def _parse(self, text: str) -> float:
        """A pressure in the present unit, as Pa."""
        return _number(text) * UNITS[self._unit][1]

    def _reading(self, now: float) -> tuple[str, bool]:
        """What is shown of the pressure, and whether it is beyond the range."""
        value = self.pneumatics.pressure(now)
        if self._absolute:
            value += self._atmosphere(now)
        value += self._noise * self._gauss(0.0, 1.0)
        if self._overloads and self._overloaded():
            value = math.inf
        limit = MEASURABLE * self.full_scale
        return self._print(max(-limit, min(value, limit))), abs(value) > limit

    def _frame_text(self, now: float, *, named: bool = True) -> str:
        """The data frame: unit, pressure, set point, status."""
        pressure, over = self._reading(now)
        parts = [self.unit_id] if named else []
        parts += [pressure, self._print(self._from_gauge(self.pneumatics.set_point(now), now))]
        parts += ["POV"] if over else []
        parts += [{"hold": "HLD", "exhaust": "EXH"}[self.pneumatics.mode]] if self._held else []
        parts += ["LCK"] if self.locked else []
        return " ".join(parts)

    @property
    def _held(self) -> bool:
        return self.pneumatics.mode != "control"

    def _from_gauge(self, pascals: float, now: float) -> float:
        return pascals + self._atmosphere(now) if self._absolute else pascals

    def _to_gauge(self, pascals: float, now: float) -> float:
        return pascals - self._atmosphere(now) if self._absolute else pascals

    # -- line

    def connected(self, line: Line, now: float) -> None:
        """A host opened the port."""
        self._line = line

    def disconnected(self, line: Line, now: float) -> None:
        """A connection is gone; the pressure stays under control."""
        self._input.clear()
        if self._line is line:
            self._line = None

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect lines that end with CR; one that comes while it answers is lost."""
        self._line = line
        self._input += data
        while (end := self._input.find(b"\r")) >= 0:
            message = bytes(self._input[:end])
            del self._input[: end + 1]
            if now >= self.busy_until:
                self._carry_out(line, message, now)
        if len(self._input) > LONGEST_LINE:
            self._input.clear()

    def _carry_out(self, line: Line, message: bytes, now: float) -> None:
        text = message.decode("latin-1").upper().replace("\x08", "")
        found = _TOKEN.fullmatch(text)
        if found is None:
            return
        if found["id"] not in ("*", "@" if self._streaming else self.unit_id):
            return
        self._press(now)
        try:
            if self._refusals and self._refusing():
                raise Refusal
            reply = self._answer(found["rest"], now)
        except Refusal:
            reply = "?"
        self._press(now)
        if reply is None:
            return
        body = "".join(f"{row}\r" for row in reply.split("\n")).encode("latin-1")
        # It starts after a silence of 3.5 characters (manual of the BC series, p. 10).
        asked = len(message) + 1 + 3.5
        self.busy_until = now + self._response_time + (asked + len(body)) * self._byte_time
        line.send(body, self.busy_until)

    def _answer(self, rest: str, now: float) -> str | None:
        if not rest:
            return self._frame_text(now)
        if rest.startswith("@"):
            return self._rename(rest[1:].lstrip("= ").strip(), now)
        for pattern, action in _COMMANDS:
            found = pattern.fullmatch(rest)
            if found is not None:
                words = [word for group in found.groups() if group for word in group.split()]
                return action(self, words, now)
        raise Refusal

    # -- commands

    def _rename(self, wanted: str, now: float) -> str | None:
        if wanted == "@":
            self._streaming = True
            self._later(now + self._stream_interval, self._stream)
            return None
        if not re.fullmatch("[A-Z]", wanted):
            raise Refusal
        self.unit_id, self._streaming = wanted, False
        return self._frame_text(now)

    def _stream(self, now: float) -> None:
        if not self._streaming:
            return
        if self._line is not None:
            self._press(now)
            body = (self._frame_text(now, named=False) + "\r").encode("ascii")
            self._line.send(body, now + len(body) * self._byte_time)
        self._later(now + self._stream_interval, self._stream)

    def _steer(self, pascals: float, now: float) -> None:
        """Take a set point in the present reference, Pa."""
        highest = HIGHEST_COUNT / FULL_COUNT * self.full_scale * (1.0 + 1e-9)
        lowest = 0.0
        if not lowest <= pascals <= highest:
            if not self._clips:
                raise Refusal
            pascals = min(max(pascals, lowest), highest)
        if self.source == "A":
            return  # set points from the line are ignored
        self.pneumatics.steer(self._to_gauge(pascals, now), now)

    def _set_old(self, words: list[str], now: float) -> str:
        self._steer(self._parse(words[0]), now)
        return self._frame_text(now)

    def _set_counts(self, words: list[str], now: float) -> str:
        self._steer(self.full_scale * int(words[0]) / FULL_COUNT, now)
        return self._frame_text(now)

    def _set_point(self, words: list[str], now: float) -> str:
        if len(words) > 2:
            raise Refusal
        if words:
            scale = UNITS[self._unit][1] if len(words) == 1 else self._code(words[1])[1]
            self._steer(_number(words[0]) * scale, now)
        current = self._from_gauge(self.pneumatics.set_point(now), now)
        requested = self._from_gauge(self.pneumatics.requested, now)
        values = f"{self._print(current)} {self._print(requested)}"
        return f"{self.unit_id} {values} {self._unit} {self._label}"

    def _set_source(self, words: list[str], now: float) -> str:
        if words:
            if words[0] not in ("A", "S", "U"):
                raise Refusal
            self.source = words[0]
        return f"{self.unit_id} {self.source}"

    def _set_ramp(self, words: list[str], now: float) -> str:
        ramp = self.pneumatics.ramp
        if words:
            if len(words) != 2 or not words[1].isdecimal() or int(words[1]) not in RAMP_TIMES:
                raise Refusal
            rate = self._parse(words[0])
            if rate < 0.0:
                raise Refusal
            code = int(words[1])
            self.pneumatics.set_ramp(Ramp(rate / RAMP_TIMES[code][1], code, ramp.when), now)
            ramp = self.pneumatics.ramp
        label, seconds = RAMP_TIMES[ramp.code]
        shown = ramp.rate * seconds / UNITS[self._unit][1]
        text = f"{shown:.{max(self._decimals(), 1)}f}"
        return f"{self.unit_id} {text} {self._unit} {ramp.code} {self._label}/{label}"

    def _set_ramp_options(self, words: list[str], now: float) -> str:
        ramp = self.pneumatics.ramp
        if words:
            if len(words) != 4 or not set(words) <= {"0", "1"}:
                raise Refusal
            up, down, zero, power = (word == "1" for word in words)
            self.pneumatics.set_ramp(Ramp(ramp.rate, ramp.code, (up, down, zero, power)), now)
        return " ".join((self.unit_id, *(str(int(on)) for on in self.pneumatics.ramp.when)))

    def _hold(self, words: list[str], now: float) -> str:
        # A dual-valve pressure controller closes both valves in either hold (numat/alicat).
        self.pneumatics.enter("hold", now)
        return self._frame_text(now)

    def _exhaust(self, words: list[str], now: float) -> str:
        self.pneumatics.enter("exhaust", now)
        return self._frame_text(now)

    def _cancel(self, words: list[str], now: float) -> str:
        self.pneumatics.enter("control", now)
        return self._frame_text(now)

    def _valves(self, words: list[str], now: float) -> str:
        inlet, exhaust = self.pneumatics.valves(now)
        return f"{self.unit_id} {inlet:06.2f} {exhaust:06.2f} 000.00 000.00"

    def _lock(self, words: list[str], now: float) -> str:
        self.locked = True
        return self._frame_text(now)

    def _unlock(self, words: list[str], now: float) -> str:
        self.locked = False
        return self._frame_text(now)

    def _tare_now(self, words: list[str], now: float) -> str:
        # Taken with pressure on, the loop then adds what was tared away: as the real one would.
        self._tare += self.pneumatics.shift(now)
        return self._frame_text(now)

    def _version(self, words: list[str], now: float) -> str:
        return f"{self.unit_id}   {self.firmware} Jan  9 2025,15:04:07"

    def _maker(self, words: list[str], now: float) -> str:
        rows = [
            "ALICAT SCIENTIFIC",
            "www.alicat.com",
            "Ph   520-290-6060",
            "info@alicat.com",
            f"Model Number {self._model}",
            f"Serial Number {self.serial}",
            "Date Manufactured 03/02/2025",
            "Date Calibrated   03/02/2025",
            "Calibrated By     BL",
            f"Software Revision {self.firmware}",
        ]
        wanted = range(10) if words[0] == "*" else [int(words[0])]
        return "\n".join(f"{self.unit_id}  M{at:02d} {rows[at]}" for at in wanted)

    def _columns(self, words: list[str], now: float) -> str:
        first = ABSOLUTE if self._absolute else GAUGE
        kind = "Abs" if self._absolute else "Gauge"
        form = f"s decimal     7/{self._decimals()} {self._unit:03d} 02 {self._label}"
        rows = [
            "D00 ID_ NAME______________________ TYPE_______ WIDTH NOTES___________________",
            f"D01 700 {'Unit ID':<26} string          1",
            f"D02 {first:03d} {kind + ' Press':<26} {form}",
            f"D03 {first + SETPOINT:03d} {kind + ' Press Setpt':<26} {form}",
            f"D04 701 {'*Error':<26} string          3 ADC",
        ]
        for at, status in enumerate(("OPL", "POV", "HLD", "EXH", "LCK"), 5):
            rows.append(f"D{at:02d} 702 {'*Status':<26} string          3 {status}")
        return "\n".join(f"{self.unit_id} {row}" for row in rows)

    def _engineering_unit(self, words: list[str], now: float) -> str:
        self._statistic(words[0] if words else "")
        if len(words) > 1:
            self._unit = self._code(words[-1])[0]
        return f"{self.unit_id} {self._unit} {self._label}"

    def _full_scale(self, words: list[str], now: float) -> str:
        self._statistic(words[0] if words else "")
        return f"{self.unit_id} {self._print(self.full_scale)} {self._unit} {self._label}"

    def _loop_variable(self, words: list[str], now: float) -> str:
        if words:
            names = {str(GAUGE + SETPOINT): "gauge", str(ABSOLUTE + SETPOINT): "absolute"}
            if words[0] not in names:
                raise Refusal
            self._reference = names[words[0]]
        return f"{self.unit_id} {(ABSOLUTE if self._absolute else GAUGE) + SETPOINT}"

    def _values(self, words: list[str], now: float) -> str:
        if len(words) < 2 or not all(word.isdecimal() for word in words) or int(words[0]) < 1:
            raise Refusal
        gauge = self.pneumatics.pressure(now)
        set_point = self.pneumatics.set_point(now)
        air = self._atmosphere(now)
        known = {GAUGE: gauge, ABSOLUTE: gauge + air, 15: air}
        known |= {GAUGE + SETPOINT: set_point, ABSOLUTE + SETPOINT: set_point + air}
        return " ".join(
            self._print(known[int(word)]) if int(word) in known else "--" for word in words[1:]
        )

    def _interval(self, words: list[str], now: float) -> str:
        if words:
            if not words[0].isdecimal() or not 1 <= int(words[0]) <= 60_000:
                raise Refusal
            self._stream_interval = int(words[0]) / 1e3
        return f"{self.unit_id} {round(1e3 * self._stream_interval)}"

    def _register(self, words: list[str], now: float) -> str:
        at = int(words[0])
        if len(words) > 1:
            value = int(words[1])
            if at == 122 and value in (GAUGE + SETPOINT, ABSOLUTE + SETPOINT):
                self._loop_variable([str(value)], now)
            elif at in self._gains and value <= 65_535:
                self._gains[at] = value
            else:
                raise Refusal
        if at == 122:
            value = (ABSOLUTE if self._absolute else GAUGE) + SETPOINT
        elif at in self._gains:
            value = self._gains[at]
        else:
            raise Refusal
        return f"{self.unit_id}   {at:03d} = {value}"

    def _statistic(self, word: str) -> None:
        pressures = {GAUGE, ABSOLUTE, GAUGE + SETPOINT, ABSOLUTE + SETPOINT}
        if not word.isdecimal() or int(word) not in pressures:
            raise Refusal

    @staticmethod
    def _code(word: str) -> tuple[int, float]:
        if not word.isdecimal() or int(word) not in UNITS:
            raise Refusal
        return int(word), UNITS[int(word)][1]

    # -- power and faults

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now`: both valves close; back `boot_time` (s) later in control.

        A set point is kept unless the source is "U", which starts from zero.
        """
        self._input.clear()
        self._streaming = self._moving = False
        self.pneumatics.enter("hold", now)
        self.busy_until = now + boot_time
        self._press(now)

        def wake(at: float) -> None:
            self._powered_at = at
            if self.source == "U":
                self.pneumatics.steer(self._to_gauge(0.0, at), at)
            self.pneumatics.enter("control", at, after_power=True)
            self._press(at)

        self._later(now + boot_time, wake)

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault; `unplug` pulls the supply hose: nothing can be filled any more."""
        if fault.kind == "identity":
            self.serial = fault.text
        elif fault.kind == "unplug":
            self.pneumatics.supply(False, now)
            self._press(now)
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self.serial = self._true_serial
        self.pneumatics.supply(True, now)
        self._press(now)


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d{1,2})?", text):
        raise Refusal
    return float(text)


Action = Callable[[SimulatedAlicatDualValve, list[str], float], str]

_WORDS = r"(?: +(.*))?"

_COMMANDS: tuple[tuple[re.Pattern[str], Action], ...] = tuple(
    (re.compile(pattern), action)
    for pattern, action in (
        (r"LSS" + _WORDS, SimulatedAlicatDualValve._set_source),
        (r"LSRC" + _WORDS, SimulatedAlicatDualValve._set_ramp_options),
        (r"LS" + _WORDS, SimulatedAlicatDualValve._set_point),
        (r"LV" + _WORDS, SimulatedAlicatDualValve._loop_variable),
        (r"SR" + _WORDS, SimulatedAlicatDualValve._set_ramp),
        (r"S *([+-]?[\d.]\S*)", SimulatedAlicatDualValve._set_old),
        (r"(\d{1,6})", SimulatedAlicatDualValve._set_counts),
        (r"HP|HC|H", SimulatedAlicatDualValve._hold),
        (r"E", SimulatedAlicatDualValve._exhaust),
        (r"C", SimulatedAlicatDualValve._cancel),
        (r"VD", SimulatedAlicatDualValve._valves),
        (r"VE", SimulatedAlicatDualValve._version),
        (r"L", SimulatedAlicatDualValve._lock),
        (r"U", SimulatedAlicatDualValve._unlock),
        (r"P|TP|PC", SimulatedAlicatDualValve._tare_now),
        (r"\?\?M(\*|\d)", SimulatedAlicatDualValve._maker),
        (r"\?\?D\*()", SimulatedAlicatDualValve._columns),
        (r"DCU" + _WORDS, SimulatedAlicatDualValve._engineering_unit),
        (r"FPF" + _WORDS, SimulatedAlicatDualValve._full_scale),
        (r"DV" + _WORDS, SimulatedAlicatDualValve._values),
        (r"NCS" + _WORDS, SimulatedAlicatDualValve._interval),
        (r"R(\d{1,3})", SimulatedAlicatDualValve._register),
        (r"W(\d{1,3})=(\d{1,6})", SimulatedAlicatDualValve._register),
    )
)
