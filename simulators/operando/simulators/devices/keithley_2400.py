"""Simulated Keithley 2400 series source meters on RS-232: legacy SCPI in, readings of a cell out.

Written from the 2400 Series SourceMeter user's manual (2400S-900-01): sections 3, 14, 15, 18 and
appendix B. What is assumed where it is silent stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from operando.instruments.clock import Clock
from operando.instruments.wires import Line
from operando.simulators.devices import scpi
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.keithley_2400_commands import commands
from operando.simulators.devices.keithley_2400_models import MODELS
from operando.simulators.devices.keithley_source import OTHER, OVERFLOW, SourceStage
from operando.simulators.devices.ports import Site
from operando.simulators.devices.scpi import MESSAGES, ScpiError, Unit
from operando.simulators.faults import Fault

NAN = 9.91e37
"""An element that is neither measured nor sourced (p. 18-51)."""

ERRORS_KEPT = 10
"""Entries of the error queue (section 15)."""

LONGEST_LINE = 2048
"""Bytes of one message before the input buffer overruns (assumed)."""

BOOT_TIME = 5.0
"""Laboratory time between power and the first answer, s (assumed)."""

TERMINATORS = {"CR": b"\r", "CR+LF": b"\r\n", "LF": b"\n", "LF+CR": b"\n\r"}

CLEAR = (b"\x03", b"\x18")
"""^C and ^X clear pending operations and output (p. 14-18)."""

OWN_MESSAGES = {
    -211: "Trigger ignored",
    -214: "Trigger deadlock",
    -222: "Parameter data out of range",
    -230: "Data corrupt or stale",
    802: "OUTPUT blocked by output enable",
    803: "Not permitted with OUTPUT off",
    822: "Too small for sense range",
    824: "Cannot exceed compliance range",
    826: "Attempt to exceed power limit",
    900: "Internal System Error",
}
"""Messages of appendix B that differ from the standard's or are Keithley's own."""

NEVER_REFUSED = ("*IDN?", "*CLS", ":SYSTem:ERRor[:NEXT]?", ":STATus:QUEue[:NEXT]?")
"""Commands that the fault `nak` leaves alone, so that the host can learn about it."""

ELEMENTS = ("VOLT", "CURR", "RES", "TIME", "STAT")
"""Elements of a reading, in the order in which they are sent whatever the order of the list."""


class Row(NamedTuple):
    """One reading: V, A, ohm, s, status word."""

    voltage: float
    current: float
    resistance: float
    time: float
    status: int

    def element(self, name: str) -> float:
        """The element "VOLT", "CURR", "RES", "TIME" or "STAT"."""
        return self[ELEMENTS.index(name)]


class Wait(Exception):  # noqa: N818 - not an error: work goes on later
    """A unit cannot be carried out before a time. until: laboratory time, s."""

    def __init__(self, until: float) -> None:
        super().__init__(f"until {until}")
        self.until = until


class _Task:
    """One message on its way through the instrument."""

    __slots__ = ("asks", "at", "line", "replies", "size", "units")

    def __init__(self, line: Line, message: bytes, units: tuple[Unit, ...]) -> None:
        self.line = line
        self.size = len(message) + 1
        self.asks = b"?" in message
        self.units = units
        self.at = 0
        self.replies: list[str] = []


class SimulatedKeithley2400(Device):
    """A 2400 on a cell: compliance, concurrent readings, status word, error queue of ten."""

    power_on_time = BOOT_TIME
    has_relay = True
    misbehaviours = frozenset({"overload", "nak", "reboot", "identity", "error", "unplug"})

    def __init__(
        self,
        name: str,
        *,
        site: Site,
        clock: Clock,
        options: Mapping[str, object],
    ) -> None:
        """Switch on, wired to the cell of `site`. options: see the reference page."""
        super().__init__(name, clock)
        own = Options(name, options)
        self.model, self._envelope = MODELS[own.text("model", "2400", tuple(MODELS))]
        self._true_serial = own.text("serial", "4105123")
        self.serial = self._true_serial
        self.firmware = own.text("firmware", self.model.firmware)
        self._byte_time = 10.0 / own.number("baud", 9600.0, low=300.0, high=57_600.0)
        self._end = TERMINATORS[own.text("terminator", "LF", tuple(TERMINATORS))]
        self._latency = own.number("latency", 5e-3, low=0.0, high=60.0)
        self.full_ranges = own.flag("range_queries_full", True)
        random = noise_stream(name, own.whole("seed", 0))
        self.stage = SourceStage(self.model, site.cell, random, own, self._later)
        own.finish()
        self._input = bytearray()
        self._queue: deque[_Task] = deque()
        self._reply: tuple[int, Line, bytes] | None = None
        self._replies_made = 0
        self._woken_at = float("-inf")
        self.errors: deque[tuple[int, str]] = deque()
        self._timer_start = clock.now()
        self._power_on(clock.now())

    @property
    def relay_closed(self) -> bool:
        """True state of the output relay: closed even with the output off, unless HIMP."""
        return self.stage.relay_closed

    # -- power and settings

    def _power_on(self, now: float) -> None:
        self.event_status = 128
        self.event_enable = self.service_enable = 0
        self.enables = {"MEAS": 0, "OPER": 0, "QUES": 0}
        self.events = {"MEAS": 0, "OPER": 0, "QUES": 0}
        table = commands(self)
        self._set = scpi.CommandSet(table, self._refuse)
        self._never_refused = {c.handler for c in table if c.pattern in NEVER_REFUSED}
        self.errors.clear()
        self._timer_start = now
        self._own_defaults()
        self.stage.power_on(now)
        self._arrange(now)

    def _own_defaults(self) -> None:
        """Settings of `*RST` that the source stage does not hold."""
        self.functions = {"CURR"}
        self.concurrent = True
        self.elements = set(ELEMENTS)
        self.compliance = {
            "VOLT": self.model.default_current_limit,
            "CURR": self.model.default_voltage_limit,
        }
        self.clear_auto = False
        self.counts = {"ARM": 1, "TRIG": 1}
        self.trigger_delay = self.arm_timer = 0.0
        self.arm_source = "IMM"
        self.trace: list[Row] = []
        self.trace_size = 100
        self.trace_control = "NEV"
        self.last_rows: list[Row] = []
        self._rows: list[Row] | None = None
        self.measuring = ""
        self._next = float("-inf")
        self.running = False
        self.armed = False
        self._round = getattr(self, "_round", 0) + 1

    def reset(self, now: float) -> None:
        """`*RST`: factory settings, output off."""
        self._own_defaults()
        until = self.stage.reset(now)
        self._arrange(now)
        self.occupy(until)

    def _arrange(self, now: float) -> None:
        """Let the stage measure what is not sourced, and read back what is."""
        stage = self.stage
        stage.sense = OTHER[stage.function]
        for settings in stage.source.values():
            settings.read_back = True
        self.apply_limits(now)

    def apply_limits(self, now: float) -> None:
        """Compliance that acts: the programmed one, or the end of a lower fixed measure range."""
        stage = self.stage
        for function, limit in self.compliance.items():
            measured = OTHER[function]
            fixed = stage.senses[measured].range
            reach = self.model.reach(measured, fixed) if fixed is not None else limit
            stage.source[function].limit = min(limit, reach)
        stage.source_changed(now)

    def change_function(self, function: str, now: float) -> None:
        """Select the source function, which switches the output off."""
        self.occupy(self.stage.change_function(function, now))
        self._arrange(now)

    def check_power(self, function: str, full_scale: float, limit: float) -> None:
        """Refuse what lies outside the power envelope. Raises ScpiError +826."""
        if self._envelope is None or full_scale != self.model.ranges(function)[-1]:
            return
        most = self._envelope.current if function == "VOLT" else self._envelope.voltage
        if limit > most * (1.0 + 1e-9):
            raise ScpiError(826)

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` and come back `boot_time` (s) later."""
        self._queue.clear()
        self._reply = None
        self._input.clear()
        self._own_defaults()
        self.stage.power_off(now)
        self.busy_until = now + boot_time
        self._later(now + boot_time, self._power_on)

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        if fault.kind == "identity":
            self.serial = fault.text
        elif fault.kind == "error":
            self.report(ScpiError(int(fault.text)))
        elif fault.kind == "unplug":
            self._later(max(now, self.busy_until), lambda at: self.stage.plug(at, False))
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self.serial = self._true_serial
        if not self.stage.plugged:
            self._later(max(now, self.busy_until), lambda at: self.stage.plug(at, True))

    def close(self) -> None:
        """Forget every timer."""
        super().close()
        self._woken_at = float("-inf")
        self._reply = None

    # -- line

    def disconnected(self, line: Line, now: float) -> None:
        """The host closed the port; what it left behind goes on being carried out."""
        self._input.clear()

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect messages; they end with CR, LF or both."""
        self._input += data
        cleared = max(self._input.rfind(code) for code in CLEAR) + 1
        if cleared:
            del self._input[:cleared]
            self._clear_device(now)
        while (found := re.search(rb"[\r\n]", self._input)) is not None:
            message = bytes(self._input[: found.start()])
            del self._input[: found.end()]
            if message.strip():
                self._accept(line, message, now)
        if len(self._input) > LONGEST_LINE:
            self._input.clear()
            self.report(ScpiError(-363))

    def _clear_device(self, now: float) -> None:
        """^C: forget what is pending. A reading that is under way is given up."""
        self._queue.clear()
        self._reply = None
        self._rows = None
        self.measuring = ""
        self.running = self.armed = False
        self._round += 1
        # The relay finishes its movement; everything else is free at once.
        pending = self.stage.pending
        self.busy_until = now if pending is None else pending[0]

    def _accept(self, line: Line, message: bytes, now: float) -> None:
        waiting = [task for task in self._queue if task.asks]
        if self._reply is not None or waiting:
            # The answer to an earlier query is lost, not the message that came too early.
            self._reply = None
            self._rows = None
            self.measuring = ""
            for task in waiting:
                self._queue.remove(task)
            self.report(ScpiError(-410))
        self._queue.append(_Task(line, message, self._set.compile(message)))
        self._resume(now)

    def _resume(self, now: float) -> None:
        self.stage.catch_up(now)
        while self._queue:
            if now < self.busy_until or not self._work(self._queue[0], now):
                self._wake(self.busy_until)
                return
            self._queue.popleft()

    def _wake(self, at: float) -> None:
        if at > self._woken_at:
            self._woken_at = at
            self._later(at, self._resume)

    def _work(self, task: _Task, now: float) -> bool:
        """Carry out a message as far as possible; whether it is finished."""
        while task.at < len(task.units):
            if now < self.busy_until:
                return False
            handler, arguments = task.units[task.at]
            try:
                if self._refusals and handler not in self._never_refused and self._refusing():
                    raise ScpiError(-200)
                reply = handler(now, *arguments)
            except Wait as wait:
                self.occupy(wait.until)
                return False
            except ScpiError as error:
                self.report(error)
                if -200 < error.code <= -100:
                    break
                reply = None
            task.at += 1
            if reply is not None:
                task.replies.append(reply)
        if task.replies:
            body = ";".join(task.replies).encode("ascii") + self._end
            done = max(now + self._latency, self.busy_until)
            at = done + (task.size + len(body)) * self._byte_time
            self._replies_made += 1
            self._reply = (self._replies_made, task.line, body)
            ours = self._replies_made
            self._later(at, lambda when: self._transmit(ours, when))
        return True

    def _transmit(self, which: int, now: float) -> None:
        if self._reply is not None and self._reply[0] == which:
            _, line, body = self._reply
            self._reply = None
            line.send(body, now)

    def occupy(self, until: float) -> None:
        """Be busy until a laboratory time (s)."""
        self.busy_until = max(self.busy_until, until)

    # -- errors and status

    def report(self, error: ScpiError) -> None:
        """Put an error into the queue and set its bit in the event status register."""
        code = error.code
        text = OWN_MESSAGES.get(code) or error.text or MESSAGES.get(code, "Device-specific error")
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append((code, text))
        else:
            self.errors[-1] = (-350, MESSAGES[-350])
        if code < 0:
            bit = {1: 32, 2: 16, 3: 8, 4: 4}.get(-code // 100, 8)
        else:
            bit = 16 if 500 <= code < 600 or 800 <= code < 900 else 8
        self.event_status |= bit

    def _refuse(self, now: float, error: ScpiError) -> None:
        raise error

    def measurement_condition(self, now: float) -> int:
        """Measurement condition register (p. 15-14)."""
        self.stage.catch_up(now)
        value = 1 << 6 if self.last_rows else 0
        if self.last_rows and max(map(abs, self.last_rows[-1][:2])) == OVERFLOW:
            value |= 1 << 7
        value |= 1 << 8 if len(self.trace) >= 2 else 0
        value |= 1 << 9 if len(self.trace) >= self.trace_size else 0
        value |= 1 << 13 if self.stage.protecting(now) else 0
        value |= 1 << 14 if self.stage.in_limit(now) else 0
        return value

    def latch(self, now: float) -> None:
        """Let conditions set their event bits."""
        self.events["MEAS"] |= self.measurement_condition(now)

    def status_byte(self, now: float) -> int:
        """Answer of `*STB?`."""
        self.latch(now)
        value = 1 if self.events["MEAS"] & self.enables["MEAS"] else 0
        value |= 4 if self.errors else 0
        value |= 8 if self.events["QUES"] & self.enables["QUES"] else 0
        value |= 32 if self.event_status & self.event_enable else 0
        value |= 128 if self.events["OPER"] & self.enables["OPER"] else 0
        return value | (64 if value & self.service_enable else 0)

    # -- readings

    def take(self, now: float) -> Row:
        """Take one reading of everything that is enabled."""
        stage = self.stage
        stage.catch_up(now)
        by_voltage = stage.function == "VOLT"
        sourced, other = stage.measure(now, stage.arrangement())
        measured = {"VOLT": sourced, "CURR": other} if by_voltage else {
            "VOLT": other, "CURR": sourced}  # fmt: skip
        if self._overloads and self._overloaded():
            measured = dict.fromkeys(measured, OVERFLOW)
        shown = {}
        for name, value in measured.items():
            programmed = stage.source[name].level if stage.function == name else NAN
            shown[name] = value if name in self.functions else programmed
        ohms = NAN
        if "RES" in self.functions:
            amps = measured["CURR"]
            over = abs(amps) >= OVERFLOW or abs(measured["VOLT"]) >= OVERFLOW
            ohms = OVERFLOW if over or amps == 0.0 else measured["VOLT"] / amps
        word = self._status_word(now, max(abs(v) for v in measured.values()) >= OVERFLOW)
        return Row(shown["VOLT"], shown["CURR"], ohms, now - self._timer_start, word)

    def _status_word(self, now: float, over: bool) -> int:
        """The 24 bits of the STAT element (p. 18-52)."""
        stage = self.stage
        limited = stage.in_limit(now)
        by_range = stage.source[stage.function].limit < self.compliance[stage.function]
        bits = {
            0: over,
            1: any(sense.filter for sense in stage.senses.values()),
            2: stage.terminals == "FRON",
            3: limited and not by_range,
            4: stage.protecting(now),
            11: "VOLT" in self.functions,
            12: "CURR" in self.functions,
            13: "RES" in self.functions,
            14: stage.function == "VOLT",
            15: stage.function == "CURR",
            16: limited and by_range,
            22: stage.senses["VOLT"].four_wire,
        }
        return sum(1 << bit for bit, on in bits.items() if on)

    def _duration(self) -> float:
        """Time of one reading, s: each further function is converted after the first."""
        how = self.stage.arrangement()
        conversions = 3.0 if self.stage.senses["CURR"].auto_zero else 1.0
        return how.duration + (max(len(self.functions), 1) - 1) * conversions * how.aperture

    def count(self) -> int:
        """Readings of one trigger cycle."""
        return self.counts["ARM"] * self.counts["TRIG"]

    def read(self, now: float) -> str:
        """`:READ?`: trigger, measure, send."""
        if self.running or self.armed:
            raise ScpiError(-213)
        if self.arm_source != "IMM":
            raise ScpiError(-214)
        if self._rows is None:
            self._permit(now)
            self._rows = []
            self._next = max(now, self.stage.settled_at, self.busy_until) + self.trigger_delay
        if now < self._next:
            raise Wait(self._next)
        self._rows.append(self.take(now))
        self._next = now + self._duration() + self.trigger_delay
        if len(self._rows) < self.count():
            raise Wait(self._next)
        rows, self._rows = self._rows, None
        self.occupy(self._next - self.trigger_delay)
        self._keep(rows, self.busy_until)
        return self.print_rows(rows)

    def _permit(self, now: float) -> None:
        """Readings need the output on; auto-clear switches it on by itself."""
        if not self.stage.output:
            if not self.clear_auto:
                raise ScpiError(803)
            self.occupy(self.stage.switch(True, now))

    def _keep(self, rows: list[Row], now: float) -> None:
        self.last_rows = rows
        if self.clear_auto:
            self.occupy(self.stage.switch(False, now))

    def print_rows(self, rows: list[Row]) -> str:
        """Readings as they are sent, with the chosen elements."""
        chosen = [name for name in ELEMENTS if name in self.elements]
        return ",".join(f"{row.element(name):+.6E}" for row in rows for name in chosen)

    def initiate(self, now: float) -> None:
        """`:INIT`: measure beside the commands, into the trace buffer when it is fed."""
        if self.running or self.armed:
            raise ScpiError(-213)
        self._permit(now)
        if self.arm_source == "BUS":
            self.armed = True
        else:
            self._begin(now)

    def trigger(self, now: float) -> None:
        """`*TRG`."""
        if not self.armed:
            raise ScpiError(-211)
        self.armed = False
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.running = True
        self._round += 1
        ours = self._round
        taken: list[Row] = []

        def step(at: float) -> None:
            if ours != self._round:
                return
            row = self.take(at)
            taken.append(row)
            if self.trace_control == "NEXT" and len(self.trace) < self.trace_size:
                self.trace.append(row)
                self.latch(at)
            done = at + self._duration()
            if len(taken) < self.count():
                self._later(done + self.trigger_delay, step)
            else:
                self._later(done, finish)

        def finish(at: float) -> None:
            if ours == self._round:
                self.running = False
                self._keep(taken, at)

        self._later(max(now, self.stage.settled_at) + self.trigger_delay, step)

    def await_idle(self, now: float) -> None:
        """`*OPC?`, `*WAI`: go on when the trigger cycle has ended."""
        if self.running:
            raise Wait(now + self._duration())

    def abort(self, now: float) -> None:
        """`:ABOR`: back to idle; the output stays as it is."""
        self.running = self.armed = False
        self._rows = None
        self._round += 1

    def restart_timer(self, now: float) -> None:
        """Start the timestamps at zero again."""
        self._timer_start = now
