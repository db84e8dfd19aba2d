"""Simulated ESPEC P300 temperature chamber: ASCII lines in, a room that is heated and cooled.

Written from Espec North America's ChamberConnectLibrary (p300.py, especinteract.py). What is
assumed where it is silent stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.ports import Site
from operando.simulators.faults import Fault

ICE_POINT = 273.15  # K, exact by definition (ITS-90)

YEAR = 365.25 * 86_400.0  # s, a Julian year

LONGEST_LINE = 256

BOOT_TIME = 30.0
"""Time from power to the first answer, s (assumed)."""

REFRIGERATION = {"REF0": "OFF", "REF1": "20", "REF3": "50", "REF6": "100", "REF9": "AUTO"}
"""Capacity settings and how `CONSTANT SET?,REF` shows them."""

RELAYS = 12
"""Time signals of the controller."""

STATUS_ALARM, STATUS_STEP, STATUS_STATE = 1, 2, 3
"""Characters of `SRQ?` that are kept, counted from 0."""

_PARTS = re.compile(r"([SHL])(-?\d+(?:\.\d*)?)")
_REMOTE = re.compile(
    r"TEMP(?P<start>-?\d+(?:\.\d*)?)\s+TIME(?P<hours>\d{1,3}):(?P<minutes>\d{1,2})"
    r"(?:\s+GOTEMP(?P<end>-?\d+(?:\.\d*)?))?"
)
_STORED = re.compile(r"RUN\s*,\s*R[AO]M:\d{1,2}\s*,\s*STEP\d{1,2}")


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """An answer `NA:<text>`."""


@dataclass(slots=True)
class RemoteProgram:
    """One step sent by the host: from `start` to `end` (degC) in `duration` s, begun at `begun`.

    passed: s that were run before a pause. paused: whether time stands still.
    """

    start: float
    end: float
    duration: float
    begun: float
    passed: float = 0.0
    paused: bool = False
    ended: bool = False

    def elapsed(self, now: float) -> float:
        """Time run so far, s."""
        running = 0.0 if self.paused or self.ended else now - self.begun
        return min(self.passed + running, self.duration)

    def set_point(self, now: float) -> float:
        """Temperature wanted now, degC."""
        if not self.duration:
            return self.end
        return self.start + (self.end - self.start) * self.elapsed(now) / self.duration


class SimulatedEspecP300(Device):
    """A P300 without humidity that regulates the room it stands in.

    Its own loop holds what its own sensor shows, watches its own alarm limits and goes on when
    nobody is connected.
    """

    power_on_time = BOOT_TIME
    misbehaviours = frozenset({"nak", "reboot", "error"})

    def __init__(
        self,
        name: str,
        *,
        site: Site,
        clock: Clock,
        options: Mapping[str, object],
    ) -> None:
        """Switch on, in the room of `site`. options: see the reference page."""
        super().__init__(name, clock)
        own = Options(name, options)
        self.address = own.whole("address", 0, low=0, high=99)
        self._byte_time = 10.0 / own.number("baud", 9600.0, low=1200.0, high=115200.0)
        self._response_time = own.number("response_time", 0.05, low=0.0, high=10.0)
        self._set_time = own.number("set_time", 0.3, low=0.0, high=10.0)
        self._mode_delay = own.number("mode_delay", 0.8, low=0.0, high=60.0)
        self._set_reply = own.text("set_reply", "ok command", ("ok command", "ok", "command"))
        self._firmware = own.text("firmware", "P300 01.00")
        self._lowest = own.number("lowest_temperature", 203.15, low=150.0, high=300.0) - ICE_POINT
        self._highest = own.number("highest_temperature", 453.15, low=300.0, high=600.0) - ICE_POINT
        self.set_point = own.number("set_point", 298.15, low=150.0, high=600.0) - ICE_POINT
        self._heating_rate = own.number("heating_rate", 0.05, low=1e-6, high=10.0)
        self._cooling_rate = own.number("cooling_rate", 0.025, low=1e-6, high=10.0)
        self._noise = own.number("noise", 0.02, low=0.0, high=10.0)
        self._offset = own.number("sensor_offset", 0.0, low=-20.0, high=20.0)
        self._drift = own.number("sensor_drift", 0.0, low=-20.0, high=20.0)
        self._high_code = own.whole("high_alarm_code", 1, low=0, high=99)
        self._low_code = own.whole("low_alarm_code", 2, low=0, high=99)
        self._stops = own.text("alarm_action", "stop", ("stop", "continue")) == "stop"
        self._resumes = own.text("after_power_failure", "stop", ("stop", "resume")) == "resume"
        self.protected = own.flag("protected", False)
        self._watch_interval = own.number("watch_interval", 10.0, low=0.1, high=3600.0)
        self._gauss = noise_stream(name, own.whole("seed", 0)).gauss
        own.finish()
        if not self._lowest <= self.set_point <= self._highest:
            raise BadInputError(
                f"[instruments.{name}.simulated] set_point: write a number of K between "
                "lowest_temperature and highest_temperature"
            )
        if site.room is None:
            raise BadInputError(
                f'[instruments.{name}.simulated]: a chamber needs the room it heats: room = "..."'
            )
        self._room = site.room
        self._since = clock.now()
        try:
            self._room.regulate(self._since, None)
        except ValueError as error:
            raise BadInputError(f"[instruments.{name}.simulated] room: {error}") from error
        self.high_limit, self.low_limit = self._highest, self._lowest
        self.mode = "STANDBY"
        self._lives = 0  # times it lost power: a mode that waited then is forgotten
        self.program: RemoteProgram | None = None
        self.alarms: list[int] = []
        self.keys_locked = False
        self._refrigeration = "REF9"
        self._relays: set[int] = set()
        self._status = 0
        self._mask = "00000000"
        self._clock_offset = 0.0
        self._watching = False
        self._input = bytearray()

    # -- line

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect lines that end with CR LF."""
        self._input += data
        while (end := self._input.find(b"\r\n")) >= 0:
            message = bytes(self._input[:end])
            del self._input[: end + 2]
            self._carry_out(line, message, now)
        if len(self._input) > LONGEST_LINE:
            self._input.clear()

    def disconnected(self, line: Line, now: float) -> None:
        """A connection is gone; the chamber goes on, an unfinished request does not."""
        self._input.clear()

    def _carry_out(self, line: Line, message: bytes, now: float) -> None:
        asked = len(message) + 2
        text = message.decode("latin-1").strip()
        if self.address:
            # On RS-485 the others stay silent.
            prefix, comma, text = text.partition(",")
            if not comma or not prefix.strip().isdecimal() or int(prefix) != self.address:
                return
            text = text.strip()
        begin = max(now, self.busy_until)
        queries = "?" in text
        try:
            reply = self._answer(text.upper(), now)
        except Refusal as refusal:
            reply = f"NA:{refusal}"
        if reply is None:
            reply = {"ok": "OK", "command": text}.get(self._set_reply, f"OK:{text}")
        body = reply.encode("latin-1") + b"\r\n"
        self.busy_until = begin + (asked + len(body)) * self._byte_time
        self.busy_until += self._response_time if queries else self._set_time
        line.send(body, self.busy_until)

    def _answer(self, text: str, now: float) -> str | None:
        """The reply to a request in capitals; None for a setting that was carried out."""
        self._look(now)
        if self._refusals and self._refusing():
            raise Refusal("CHB NOT READY")
        head, _, rest = text.partition(",")
        head, rest = head.strip(), rest.strip()
        query = self._queries.get(head)
        if query is not None:
            return query(self, rest, now)
        setting = self._settings.get(head)
        if setting is None:
            raise Refusal("CMD ERR")
        if self.protected:
            raise Refusal("PROTECT ON")
        setting(self, rest, now)
        return None

    # -- the loop

    def error_of_sensor(self, now: float) -> float:
        """What its sensor shows too much, K."""
        return self._offset + self._drift * (now - self._since) / YEAR

    def measured(self, now: float) -> float:
        """What its sensor shows, degC, without noise."""
        return self._room.temperature(now) - ICE_POINT + self.error_of_sensor(now)

    @property
    def operating(self) -> bool:
        """Whether it heats or cools."""
        return self.mode in ("CONSTANT", "RUN")

    def wanted(self, now: float) -> float:
        """Set point now, degC."""
        if self.mode == "RUN" and self.program is not None:
            return self.program.set_point(now)
        return self.set_point

    def _drive(self, now: float) -> None:
        """Tell the room what to do from now on."""
        if not self.operating:
            self._room.regulate(now, None)
            return
        program = self.program if self.mode == "RUN" else None
        goal = self.wanted(now)
        moving = program is not None and not program.paused and not program.ended
        if program is not None and moving:
            goal = program.end
        target = goal + ICE_POINT - self.error_of_sensor(now)
        rising = target > self._room.temperature(now)
        rate = self._heating_rate if rising else self._cooling_rate
        if program is not None and moving and program.duration and program.end != program.start:
            rate = min(rate, abs(program.end - program.start) / program.duration)
        self._room.regulate(now, target, rate)
        if not self._watching:
            self._watching = True
            self._later(now + self._watch_interval, self._watch)

    def _watch(self, now: float) -> None:
        self._watching = False
        self._look(now)
        if self.operating:
            self._drive(now)  # the sensor's error may have moved

    def _look(self, now: float) -> None:
        """Notice alarms and the end of a program."""
        program = self.program
        if self.mode == "RUN" and program is not None and not program.ended:
            left = program.duration - program.elapsed(now)
            if left <= 0.0:
                program.passed, program.ended = program.duration, True
                self._status |= 1 << STATUS_STEP
                self._drive(now)
        if not self.operating:
            return
        shown = self.measured(now)
        if shown > self.high_limit:
            self._alarm(self._high_code, now)
        elif shown < self.low_limit:
            self._alarm(self._low_code, now)

    def _alarm(self, code: int, now: float) -> None:
        if code not in self.alarms:
            self.alarms.append(code)
            self._status |= 1 << STATUS_ALARM
        if self._stops:
            self._enter("STANDBY", now)

    def _enter(self, mode: str, now: float) -> None:
        if mode != self.mode:
            self._status |= 1 << STATUS_STATE
        self.mode = mode
        if mode != "RUN":
            self.program = None
        self._drive(now)

    # -- power and faults

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s); what it does afterwards is `after_power_failure`."""
        before, program = self.mode, self.program
        if program is not None:
            program.passed, program.begun = program.elapsed(now), now + boot_time
        self._input.clear()
        self._watching = False
        self._lives += 1
        self._enter("OFF", now)
        self.busy_until = now + boot_time

        def wake(at: float) -> None:
            self.program = program if self._resumes else None
            self.mode = before if self._resumes else "STANDBY"
            self._status |= 1 << STATUS_STATE
            self._drive(at)

        self._later(now + boot_time, wake)

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault; `error 12` raises alarm 12."""
        if fault.kind == "error":
            self._alarm(abs(int(fault.text)) % 100, now)
        else:
            super().misbehave(fault, now)

    # -- queries

    def _show(self, now: float) -> str:
        value = self.measured(now) + self._noise * self._gauss(0.0, 1.0)
        return f"{round(value, 1) + 0.0:.1f}"

    def _detailed(self) -> str:
        if self.mode != "RUN" or self.program is None:
            return self.mode
        if self.program.ended:
            return "RMT RUN END HOLD"
        return "RMT RUN PAUSE" if self.program.paused else "RMT RUN"

    def _monitor(self, rest: str, now: float) -> str:
        mode = self._detailed() if self._only(rest, "", "DETAIL") else self.mode
        return f"{self._show(now)},,{mode},{len(self.alarms)}"

    def _temperature(self, rest: str, now: float) -> str:
        self._only(rest, "")
        limits = f"{self.high_limit:.1f},{self.low_limit:.1f}"
        return f"{self._show(now)},{self.wanted(now):.1f},{limits}"

    def _mode(self, rest: str, now: float) -> str:
        return self._detailed() if self._only(rest, "", "DETAIL") else self.mode

    def _alarm_list(self, rest: str, now: float) -> str:
        return self._numbers(self.alarms)

    def _constant(self, rest: str, now: float) -> str:
        if rest == "TEMP":
            return f"{self.set_point:.1f},ON"
        if rest == "REF":
            return REFRIGERATION[self._refrigeration]
        if rest == "RELAY":
            return self._numbers(sorted(self._relays))
        raise Refusal("CONT NOT READY-1" if rest in ("HUMI", "PTC") else "PARA ERR")

    def _heaters(self, rest: str, now: float) -> str:
        if not self.operating:
            return "1,0.0"
        lacking = self.wanted(now) - self.measured(now)
        return f"1,{min(max(30.0 + 70.0 * lacking, 0.0), 100.0):.1f}"

    def _compressors(self, rest: str, now: float) -> str:
        on = self.operating and self._refrigeration != "REF0"
        low = on and self.wanted(now) < 0.0
        return f"2,{'ON1' if on else 'OFF1'},{'ON2' if low else 'OFF2'}"

    def _status_bits(self, rest: str, now: float) -> str:
        return "".join("1" if self._status >> at & 1 else "0" for at in range(8))

    def _remote_monitor(self, rest: str, now: float) -> str:
        program = self._running()
        minutes = int((program.duration - program.elapsed(now)) / 60.0)
        return f"1,{program.set_point(now):.1f},{minutes // 60}:{minutes % 60:02d},0"

    def _remote(self, rest: str, now: float) -> str:
        program = self._running()
        minutes = int(program.duration / 60.0)
        return (
            f"TEMP{program.start:.1f} GOTEMP{program.end:.1f} "
            f"TIME{minutes // 60}:{minutes % 60:02d} {self._refrigeration}"
        )

    def _date(self, rest: str, now: float) -> str:
        return self._calendar(now).strftime("%y.%m/%d")

    def _time(self, rest: str, now: float) -> str:
        return self._calendar(now).strftime("%H:%M:%S")

    def _calendar(self, now: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(
            self.clock.utc(now) + self._clock_offset, datetime.UTC
        )

    def _no_humidity(self, rest: str, now: float) -> str:
        raise Refusal("CONT NOT READY-1")

    def _no_program(self, rest: str, now: float) -> str:
        raise Refusal("CONT NOT READY-2")

    _queries: Mapping[str, Callable[[SimulatedEspecP300, str, float], str]] = {
        "ROM?": lambda self, rest, now: self._firmware,
        "TYPE?": lambda self, rest, now: f"T,P300,{self._highest:.1f}",
        "MON?": _monitor,
        "TEMP?": _temperature,
        "HUMI?": _no_humidity,
        "MON PTC?": _no_humidity,
        "TEMP PTC?": _no_humidity,
        "MODE?": _mode,
        "ALARM?": _alarm_list,
        "SRQ?": _status_bits,
        "MASK?": lambda self, rest, now: self._mask,
        "CONSTANT SET?": _constant,
        "SET?": lambda self, rest, now: self._refrigeration,
        "%?": _heaters,
        "REF?": _compressors,
        "RELAY?": lambda self, rest, now: self._numbers(sorted(self._relays)),
        "PRGM MON?": _no_program,
        "PRGM SET?": _no_program,
        "PRGM USE?": lambda self, rest, now: "0",
        "RUN PRGM MON?": _remote_monitor,
        "RUN PRGM?": _remote,
        "DATE?": _date,
        "TIME?": _time,
        "KEYPROTECT?": lambda self, rest, now: "ON" if self.keys_locked else "OFF",
    }

    # -- settings

    def _set_temperature(self, rest: str, now: float) -> None:
        found: dict[str, float] = {}
        for word in rest.split():
            part = _PARTS.fullmatch(word)
            if part is None or part[1] in found:
                raise Refusal("PARA ERR")
            found[part[1]] = round(float(part[2]), 1)
        if not found:
            raise Refusal("PARA ERR")
        wanted = found.get("S", self.set_point)
        high, low = found.get("H", self.high_limit), found.get("L", self.low_limit)
        # The set point must lie between the alarm limits, those within the chamber's range.
        if not self._lowest <= low <= wanted <= high <= self._highest:
            raise Refusal("DATA OUT OF RANGE")
        self.set_point, self.high_limit, self.low_limit = wanted, high, low
        self._drive(now)

    def _set_power(self, rest: str, now: float) -> None:
        self._only(rest, "ON", "OFF")
        self._start("CONSTANT" if rest == "ON" else "OFF", now)

    def _set_mode(self, rest: str, now: float) -> None:
        if re.fullmatch(r"RUN\s*\d{1,2}", rest):
            raise Refusal("DATA NOT READY")  # no programs are stored
        self._only(rest, "OFF", "STANDBY", "CONSTANT")
        self._start(rest, now)

    def _start(self, mode: str, now: float) -> None:
        """Enter a mode that was chosen, `mode_delay` later; modes keep their order."""
        life = self._lives

        def begin(at: float) -> None:
            if life != self._lives:
                return
            # Assumed: choosing a mode acknowledges alarms; one that persists comes back at once.
            self.alarms.clear()
            self._enter(mode, at)
            self._look(at)

        if self._mode_delay:
            self._later(now + self._mode_delay, begin)
        else:
            begin(now)

    def _set_refrigeration(self, rest: str, now: float) -> None:
        self._only(rest, *REFRIGERATION)
        self._refrigeration = rest

    def _set_relay(self, rest: str, now: float) -> None:
        state, *words = [word.strip() for word in rest.split(",")]
        numbers = {int(word) for word in words if word.isdecimal() and len(word) < 3}
        valid = len(numbers) == len(words) and numbers <= set(range(1, RELAYS + 1))
        if state not in ("ON", "OFF") or not words or not valid:
            raise Refusal("PARA ERR")
        self._relays = self._relays | numbers if state == "ON" else self._relays - numbers

    def _set_keys(self, rest: str, now: float) -> None:
        self._only(rest, "ON", "OFF")
        if rest == "ON" and self.mode == "OFF":
            raise Refusal("CONT NOT READY-4")
        self.keys_locked = rest == "ON"

    def _reset_status(self, rest: str, now: float) -> None:
        self._only(rest, "RESET")
        self._status = 0

    def _set_mask(self, rest: str, now: float) -> None:
        if not re.fullmatch("[01]{8}", rest):
            raise Refusal("PARA ERR")
        self._mask = rest

    def _run_remote(self, rest: str, now: float) -> None:
        if "HUMI" in rest:
            raise Refusal("CONT NOT READY-1")
        found = _REMOTE.fullmatch(rest)
        if found is None:
            raise Refusal("PARA ERR")
        start = float(found["start"])
        end = float(found["end"] or start)
        duration = 3600.0 * int(found["hours"]) + 60.0 * int(found["minutes"])
        if not all(self.low_limit <= value <= self.high_limit for value in (start, end)):
            raise Refusal("DATA OUT OF RANGE")
        self.alarms.clear()
        self.program = RemoteProgram(start, end, duration, now)
        self._enter("RUN", now)
        self._look(now)
        # The end of the step is acted on when it comes, not when somebody asks.
        self._later(now + duration, self._look)

    def _control_program(self, rest: str, now: float) -> None:
        if _STORED.fullmatch(rest):
            raise Refusal("DATA NOT READY")
        word, _, mode = rest.partition(",")
        mode = mode.strip()
        program = self._running()
        if rest == "PAUSE":
            program.passed, program.paused = program.elapsed(now), True
            self._drive(now)
        elif rest == "CONTINUE":
            program.begun, program.paused = now, False
            self._drive(now)
            self._later(now + program.duration - program.passed, self._look)
        elif rest == "ADVANCE":
            program.passed = program.duration
            self._look(now)
        elif word == "END" and mode in ("HOLD", "CONST", "OFF", "STANDBY"):
            if mode == "HOLD":
                program.passed, program.ended = program.elapsed(now), True
                self._drive(now)
            else:
                self._start({"CONST": "CONSTANT"}.get(mode, mode), now)
        else:
            raise Refusal("PARA ERR")

    def _running(self) -> RemoteProgram:
        if self.mode != "RUN" or self.program is None:
            raise Refusal("CONT NOT READY-2")
        return self.program

    def _set_date(self, rest: str, now: float) -> None:
        found = re.fullmatch(r"(\d{1,2})\.(\d{1,2})/(\d{1,2})(?:\.\s*[A-Z]{3})?", rest)
        self._set_calendar(now, found, ("year", "month", "day"), 2000)

    def _set_clock(self, rest: str, now: float) -> None:
        found = re.fullmatch(r"(\d{1,2}):(\d{1,2}):(\d{1,2})", rest)
        self._set_calendar(now, found, ("hour", "minute", "second"), 0)

    def _set_calendar(
        self, now: float, found: re.Match[str] | None, fields: tuple[str, ...], base: int
    ) -> None:
        if found is None:
            raise Refusal("PARA ERR")
        values = [int(word) for word in found.groups()]
        values[0] += base
        before = self._calendar(now)
        try:
            after = before.replace(**dict(zip(fields, values, strict=True)))  # type: ignore[arg-type]
        except ValueError:
            raise Refusal("DATA OUT OF RANGE") from None
        self._clock_offset += (after - before).total_seconds()

    def _set_humidity(self, rest: str, now: float) -> None:
        raise Refusal("CONT NOT READY-1")

    _settings: Mapping[str, Callable[[SimulatedEspecP300, str, float], None]] = {
        "TEMP": _set_temperature,
        "HUMI": _set_humidity,
        "POWER": _set_power,
        "MODE": _set_mode,
        "SET": _set_refrigeration,
        "PRGM": _control_program,
        "RUN PRGM": _run_remote,
        "RELAY": _set_relay,
        "KEYPROTECT": _set_keys,
        "SRQ": _reset_status,
        "MASK": _set_mask,
        "DATE": _set_date,
        "TIME": _set_clock,
    }

    @staticmethod
    def _only(rest: str, *allowed: str) -> bool:
        """Refuse anything but the words allowed; whether it is not the first of them."""
        if rest not in allowed:
            raise Refusal("PARA ERR")
        return rest != allowed[0]

    @staticmethod
    def _numbers(values: list[int]) -> str:
        return ",".join(str(number) for number in (len(values), *values))
