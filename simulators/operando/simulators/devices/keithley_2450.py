"""Simulated Keithley 2450 and 2461 source meters: SCPI in, readings of a cell out.

Written from 2450-901-01 Rev B (2013) and 2461-901-01 A (2015). What is assumed where they are
silent stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import ClassVar

from operando.instruments.clock import Clock
from operando.instruments.wires import Line
from operando.simulators.devices import scpi
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.keithley_buffer import Entry, ReadingBuffer, exponent, print_entry
from operando.simulators.devices.keithley_commands import commands
from operando.simulators.devices.keithley_models import MODEL_2450, MODEL_2461, SourceMeterModel
from operando.simulators.devices.keithley_source import SourceStage
from operando.simulators.devices.keithley_sweep import Sweep
from operando.simulators.devices.ports import Site
from operando.simulators.devices.scpi import ERROR, MESSAGES, Event, EventLog, ScpiError, Unit
from operando.simulators.faults import Fault

LONGEST_LINE = 65536
"""Bytes of one message before the input buffer overruns (assumed)."""

MOST_LINES_REMEMBERED = 4096
"""Messages whose meaning is kept, so that polls need not be parsed again."""

DEFAULT_BUFFER_SIZE = 100_000
"""Readings in defbuffer1 and defbuffer2 (2450-901-01, reading buffers)."""

BOOT_TIME = 20.0
"""Laboratory time between power and the first answer, s (assumed)."""

NEVER_REFUSED = ("*IDN?", "*LANG?", "*CLS", ":SYSTem:ERRor[:NEXT]?", ":SYSTem:EVENtlog:NEXT?")
"""Commands that the fault `nak` leaves alone, so that the host can learn about it."""

SOURCE_AND_READING = ("SOUR", "READ")


class Wait(Exception):  # noqa: N818 - not an error: work goes on later
    """A unit cannot be carried out before a time. until: laboratory time, s."""

    def __init__(self, until: float) -> None:
        super().__init__(f"until {until}")
        self.until = until


class _Task:
    """One message on its way through the instrument."""

    __slots__ = ("at", "line", "replies", "units")

    def __init__(self, line: Line, units: tuple[Unit, ...]) -> None:
        self.line = line
        self.units = units
        self.at = 0
        self.replies: list[str] = []


class SimulatedKeithley2450(Device):
    """A 2450 on a cell: ranges, limits, noise, settling, error queue, off states, relay."""

    MODEL: ClassVar[SourceMeterModel] = MODEL_2450
    link_drops_on_reboot = True
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
        self._true_serial = own.text("serial", "04096331")
        self.serial = self._true_serial
        self.firmware = own.text("firmware", self.MODEL.firmware)
        self.language = own.text("language", "SCPI", ("SCPI", "SCPI2400", "TSP"))
        self.accepts_2400_buffers = own.flag("accept_2400_buffer_commands", False)
        self._latency = own.number("latency", 1e-3, low=0.0, high=60.0)
        self._sessions = own.whole("sessions", 16, low=1, high=1024)
        queue = own.whole("error_queue", 64, low=2, high=100_000)
        random = noise_stream(name, own.whole("seed", 0))
        self.stage = SourceStage(self.MODEL, site.cell, random, own, self._later)
        own.finish()
        self.events = EventLog(queue)
        self.sweep = Sweep(self)
        self._inputs: dict[Line, bytearray] = {}
        self._seen: dict[bytes, tuple[Unit, ...]] = {}
        self._backlog: deque[_Task] = deque()
        self._woken_at = float("-inf")
        self._scan_left = 0
        self._power_on(clock.now())

    @property
    def relay_closed(self) -> bool:
        """True state of the output relay: closed even with the output off, unless HIMP."""
        return self.stage.relay_closed

    # -- power

    def _power_on(self, now: float) -> None:
        self.event_status = 128  # bit 7: power on
        self.event_enable = self.service_enable = self.measurement_enable = 0
        self.next_language = self.language
        table = commands(self)
        self._set = scpi.CommandSet(table, self._refuse)
        self._seen.clear()
        self._never_refused = {
            command.handler for command in table if command.pattern in NEVER_REFUSED
        }
        self.events.clear()
        self._reset_buffers()
        self.count = 1
        self.stage.power_on(now)

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` and come back `boot_time` (s) later, with -500 in the queue."""
        self._backlog.clear()
        self._scan_left = 0
        self.sweep.abort(now)
        for pending in self._inputs.values():
            pending.clear()
        self.stage.power_off(now)
        self.busy_until = now + boot_time

        def wake(at: float) -> None:
            self.language = self.next_language
            self._power_on(at)
            self.report(ScpiError(-500), at)

        self._later(now + boot_time, wake)

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        if fault.kind == "identity":
            self.serial = fault.text
        elif fault.kind == "error":
            self.report(ScpiError(int(fault.text)), now)
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

    def reset(self, now: float) -> None:
        """`*RST`."""
        self.sweep.forget(now)
        self._reset_buffers()
        self.count = 1
        self.occupy(self.stage.reset(now))

    def _reset_buffers(self) -> None:
        epoch = self.clock.utc(0.0)
        self.buffers = {
            "defbuffer1": ReadingBuffer(DEFAULT_BUFFER_SIZE, epoch),
            "defbuffer2": ReadingBuffer(DEFAULT_BUFFER_SIZE, epoch),
        }

    # -- connections

    def connected(self, line: Line, now: float) -> None:
        """A host opened a session."""
        if len(self._inputs) >= self._sessions:
            line.drop()
            return
        self._inputs[line] = bytearray()

    def disconnected(self, line: Line, now: float) -> None:
        """A session is gone; what it asked for and has not begun is forgotten."""
        self._inputs.pop(line, None)
        for task in tuple(self._backlog):
            if task.line is line:
                self._backlog.remove(task)
                self._scan_left = 0

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Bytes of a session: collect lines and carry them out in order."""
        waiting = self._inputs.get(line)
        if waiting is None:
            return
        if not waiting:
            units = self._seen.get(data)
            if units is not None:
                self._accept(line, units, now)
                return
            if data.find(b"\n") == len(data) - 1:
                units = self._set.compile(data[:-1])
                if len(self._seen) > MOST_LINES_REMEMBERED:
                    self._seen.clear()
                self._seen[data] = units
                self._accept(line, units, now)
                return
        waiting += data
        while (end := waiting.find(b"\n")) >= 0:
            message = bytes(waiting[:end])
            del waiting[: end + 1]
            self._accept(line, self._set.compile(message), now)
        if len(waiting) > LONGEST_LINE:
            waiting.clear()
            self.report(ScpiError(-363), now)

    def _accept(self, line: Line, units: tuple[Unit, ...], now: float) -> None:
        if self._backlog or now < self.busy_until:
            self._backlog.append(_Task(line, units))
            self._wake(self.busy_until)
            return
        if self.stage.pending is not None:
            self.stage.catch_up(now)  # its timer may be late
        if len(units) == 1 and not self._refusals:
            # The common case, a poll, without the book-keeping of longer messages.
            handler, arguments = units[0]
            try:
                reply = handler(now, *arguments)
            except Wait as wait:
                self.occupy(wait.until)
            except ScpiError as error:
                self.report(error, now)
                return
            else:
                if reply is not None:
                    at = self.busy_until
                    line.send(
                        (reply + "\n").encode("ascii"), at if at > now else now + self._latency
                    )
                return
        task = _Task(line, units)
        if not self._work(task, now):
            self._backlog.append(task)
            self._wake(self.busy_until)

    def _work(self, task: _Task, now: float) -> bool:
        """Carry out a message as far as possible; whether it is finished."""
        units = task.units
        replies = task.replies
        while task.at < len(units):
            if now < self.busy_until:
                return False
            handler, arguments = units[task.at]
            try:
                if self._refusals and handler not in self._never_refused and self._refusing():
                    raise ScpiError(-200)
                reply = handler(now, *arguments)
            except Wait as wait:
                self.busy_until = max(self.busy_until, wait.until)
                return False
            except ScpiError as error:
                self.report(error, now)
                if -200 < error.code <= -100:
                    break
                reply = None
            task.at += 1
            if reply is not None:
                replies.append(reply)
        if replies:
            at = self.busy_until
            if at <= now:
                at = now + self._latency
            task.line.send((";".join(replies) + "\n").encode("ascii"), at)
        return True

    def _wake(self, at: float) -> None:
        if at > self._woken_at:
            self._woken_at = at
            self._later(at, self._resume)

    def _resume(self, now: float) -> None:
        self.stage.catch_up(now)
        while self._backlog:
            if now < self.busy_until:
                self._wake(self.busy_until)
                return
            if self._work(self._backlog[0], now):
                self._backlog.popleft()

    def occupy(self, until: float) -> None:
        """Be busy until a laboratory time (s)."""
        self.busy_until = max(self.busy_until, until)

    def close(self) -> None:
        """Forget every timer."""
        super().close()
        self._woken_at = float("-inf")

    # -- errors

    def report(self, error: ScpiError, now: float, kind: int = ERROR) -> None:
        """Put an error into the queue and set its bit in the event status register."""
        code = error.code
        text = error.text or MESSAGES.get(code, "Device-specific error")
        self.events.push(Event(code, text, kind, self.clock.utc(now)))
        if code == -500:
            bit = 128
        else:
            bit = {-1: 32, -2: 16, -4: 4}.get(-(-code // 100) if code < 0 else 0, 8)
        self.event_status |= bit

    def _refuse(self, now: float, error: ScpiError) -> None:
        raise error

    def await_sweep(self, now: float) -> None:
        """`*WAI`: go on when the sweep has ended."""
        if self.sweep.running:
            raise Wait(max(self.sweep.next_step, now + 1e-6))

    # -- readings

    def scan_points(self) -> int:
        """Readings of a scan that `:INIT` starts with no sweep set up."""
        return self.buffers["defbuffer1"].size if self.accepts_2400_buffers else self.count

    def buffer(self, name: str) -> ReadingBuffer:
        """A reading buffer by name. Raises ScpiError."""
        try:
            return self.buffers[name]
        except KeyError:
            raise ScpiError(-224, f"Reading buffer {name} does not exist") from None

    def take(self, now: float, buffer: ReadingBuffer) -> Entry:
        """Take one reading into a buffer."""
        stage = self.stage
        how = stage.arrangement()
        source, reading = stage.measure(now, how)
        if self._overloads and self._overloaded():
            reading = 9.9e37
        entry = Entry(now, reading, source, stage.sense, stage.function, 0, 0)
        buffer.store(entry)
        return entry

    def read(self, now: float, name: str = "defbuffer1", *elements: str) -> str:
        """`:READ?`: take `:SENS:COUN` readings, one after the other, and give the last."""
        stage = self.stage
        if now < stage.settled_at and stage.output:
            raise Wait(stage.settled_at)
        if self.sweep.running:
            raise ScpiError(-213)
        buffer = self.buffers.get(name) or self.buffer(name)
        entry = self.take(now, buffer)
        done = now + stage.arrangement().duration
        if self.count > 1 or self._scan_left:
            self._scan_left = (self._scan_left or self.count) - 1
            if self._scan_left:
                raise Wait(done)
        self.busy_until = done
        if elements == SOURCE_AND_READING:
            return f"{entry.source:+.6E},{entry.reading:+.6E}"
        if not elements:
            return exponent(entry.reading)
        return print_entry(entry, elements, buffer)


class SimulatedKeithley2461(SimulatedKeithley2450):
    """A 2461 on a cell: other ranges and limits than the 2450."""

    MODEL = MODEL_2461
