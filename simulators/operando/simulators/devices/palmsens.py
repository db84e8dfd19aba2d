"""Simulated MethodSCRIPT potentiostats of PalmSens: EmStat Pico, EmStat4 LR and HR, Nexus.

Written from PalmSens' MethodSCRIPT examples (2026-03), the documentation and error texts of its
SDK, its communication protocol of the Sensit Wearable, and the MethodSCRIPT manual 1.8 as quoted
by third parties. A script runs on board by itself, whether or not somebody reads its output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from operando.instruments.clock import Clock
from operando.instruments.wires import Line
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.palmsens_interpreter import Interpreter, Task, Timing
from operando.simulators.devices.palmsens_models import COMMAND_BITS, MODELS
from operando.simulators.devices.palmsens_script import (
    SCRIPT_TOO_LARGE,
    AbortLoop,
    AbortScript,
    Script,
    ScriptFault,
    ScriptRefusal,
    parse_script,
)
from operando.simulators.devices.palmsens_stage import PotentiostatStage
from operando.simulators.devices.ports import Site
from operando.simulators.faults import Fault

UNSPECIFIED = 0x0001
UNKNOWN_COMMAND = 0x0003
UNKNOWN_REGISTER = 0x0004
READ_ONLY_REGISTER = 0x0005
NOT_NOW = 0x0006
BAD_ARGUMENT = 0x0007
LINE_TOO_LONG = 0x0008
NO_SCRIPT = 0x000C
NOT_SUPPORTED = 0x001B

XON, XOFF = 0x11, 0x13

BOOT_TIME = 2.0
"""Time between power and the first answer, s (assumed)."""

MOST_AT_ONCE = 2000
"""Slices of a script that is behind its clock, before others have their turn."""

REGISTERS = {0x01: "00000000", 0x08: "00000000", 0x0A: "00000000"}
"""Registers that can be read and written, with their values after power on. Which there are is not
public for these models: peripherals, script at power on and options are general knowledge."""
SERIAL_REGISTER = 0x06

_NOT_SIMULATED = ("fs_", "sfs_", "l_fs", "e_fs", "comm_", "dlfw")
_WHILE_RUNNING = ("h", "H", "Z", "Y", "R")


class SimulatedPalmSens(Device):
    """A MethodSCRIPT instrument on a cell: scripts, packages, ranges, relay, impedance."""

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
        model = self.model = MODELS[own.text("model", "emstat4-hr", tuple(MODELS))]
        self._true_serial = self.serial = own.text("serial", model.serial)
        self._firmware = own.text("firmware", model.prefix)
        self._script_version = own.text("script_version", model.script_version)
        self._byte_time = 10.0 / own.number("baud", model.baud, low=1200.0, high=1e9)
        self._latency = own.number("latency", 1e-3, low=0.0, high=60.0)
        self._flow_control = own.flag("flow_control", model.software_flow_control)
        self._room = own.whole("output_buffer", 4096, low=64)
        self._unread = own.text("unread_output", "lost", ("lost", "kept", "holds"))
        self._longest_line = own.whole("longest_line", 255, low=16)
        self._script_memory = own.whole("script_memory", 1 << 16, low=64)
        self._deaf_time = own.number("error_deaf_time", 0.05, low=0.0, high=60.0)
        self._abort_latency = own.number("abort_latency", 1.0, low=0.0, high=1e5)
        self._abort_opens = own.flag("cell_off_on_abort", False)
        self._blank_after_error = own.flag("blank_line_after_error", False)
        self._joined = own.flag("joined_acknowledgement", False)
        self._noise_metadata = own.flag("noise_metadata", False)
        self._timing = Timing(
            own.number("instruction_time", 50e-6, low=1e-7, high=1.0),
            own.number("relay_time", 5e-3, low=0.0, high=60.0),
        )
        random = noise_stream(name, own.whole("seed", 0))
        self.stage = PotentiostatStage(model, site.cell, random, own, self._overloaded)
        own.finish()
        bits = int(model.script_bits, 16)
        self._commands = frozenset(n for n, bit in COMMAND_BITS.items() if bits >> bit & 1)
        self._commands |= {"on_finished:"}
        self._line: Line | None = None
        self._stored: Script | None = None
        self._loaded: Script | None = None
        self._power_on(clock.now())

    @property
    def relay_closed(self) -> bool:
        """True state of the relay between the cell and the amplifier."""
        return self.stage.closed

    @property
    def running(self) -> bool:
        """Whether a script runs."""
        return self._task is not None

    # -- power

    def _power_on(self, now: float) -> None:
        self._input = bytearray()
        self._script: list[str] | None = None
        self._script_command = ""
        self._loaded = None
        self._registers = dict(REGISTERS)
        self._run: Interpreter | None = None
        self._task: Task | None = None
        self._ticket = 0
        self._wakes_at = now
        self._halted_at: float | None = None
        self._stopped = False
        self._unsaid = False
        self._held = bytearray()
        self._sent_until = now
        self._deaf_until = -math.inf
        self._booted = now
        self.stage.power_on(now)

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now`: the relay opens, script and settings are lost, flash is kept."""
        self._power_on(now)
        self.busy_until = now + boot_time
        self._booted = self.busy_until

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        if fault.kind == "identity":
            # Another instrument in its place: it runs nothing, and its relay is open.
            self.power_cycle(now, 0.0)
            self.serial = fault.text
        elif fault.kind == "unplug":
            self.stage.plug(now, False)
        elif fault.kind == "error":
            # Written as the manual prints it: "error 32" is !0032. A negative one has no meaning.
            code = UNSPECIFIED if fault.text.startswith("-") else int(fault.text, 16)
            if self._task is not None:
                self._throw(now, ScriptFault(code))
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self.serial = self._true_serial
        if not self.stage.plugged:
            self.stage.plug(now, True)

    # -- line

    def connected(self, line: Line, now: float) -> None:
        """A host opened the port."""
        self._line = line
        self._stopped = False
        self._flush(now)

    def disconnected(self, line: Line, now: float) -> None:
        """The host closed the port; a serial instrument knows nothing of it."""
        if line is self._line:
            self._line = None

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect lines and carry them out."""
        self._line = line
        if now < self.busy_until:
            return
        for byte in data:
            if byte in (XON, XOFF):
                if self._flow_control:
                    self._stopped = byte == XOFF
                    self._flush(now)
            elif now < self._deaf_until:
                self._input.clear()  # after an error the instrument does not listen for a while
            elif byte == 0x0A:
                text = self._input.decode("latin-1").rstrip("\r")
                self._input.clear()
                self._take(text, now)
            else:
                self._input.append(byte)
                if len(self._input) > self._longest_line + 1:
                    del self._input[self._longest_line + 1 :]

    def _send(self, text: str, at: float) -> None:
        """Put a line on its way at a time (s), behind what is still being sent."""
        self._held += text.encode("latin-1", "replace") + b"\n"
        self._flush(at)

    def _flush(self, at: float) -> None:
        """Send what is held, if anybody may have it."""
        if self._line is None and self._unread == "lost":
            self._held.clear()
        if self._line is None or self._stopped:
            if self._line is None and self._unread == "kept":
                del self._held[: max(len(self._held) - self._room, 0)]
            return
        if self._held:
            begin = max(self._sent_until, at)
            self._sent_until = begin + len(self._held) * self._byte_time
            self._line.send(bytes(self._held), self._sent_until)
            self._held.clear()
        if self._task is not None and self._halted_at is None and math.isinf(self._wakes_at):
            self._schedule(-math.inf)

    def _reply(self, text: str, now: float) -> None:
        self._send(text, now + self._latency)
        if "!" in text:
            self._deaf_until = now + self._latency + self._deaf_time

    def _refuse(self, echo: str, code: int, now: float) -> None:
        self._reply(f"{echo}!{code:04X}", now)

    # -- commands

    def _take(self, text: str, now: float) -> None:
        if self._script is not None:
            if text:
                self._script.append(text)
            else:
                self._load(now)
        elif self._task is not None:
            self._command_running(text, now)
        else:
            self._command(text, now)

    def _command_running(self, text: str, now: float) -> None:
        if not text:
            return  # an empty line would look like the end of the script (assumed)
        if text not in _WHILE_RUNNING:
            self._refuse(text[0], NOT_NOW, now)
            return
        self._reply(text, now)
        assert self._run is not None
        if text == "h" and self._halted_at is None:
            self._halted_at = now
            self._ticket += 1
        elif text == "H" and self._halted_at is not None:
            halt = now - self._halted_at
            self._halted_at = None
            self._run.halted(halt)
            self._schedule(now if math.isinf(self._wakes_at) else self._wakes_at + halt)
        elif text == "R":
            self._run.reverse = True
        elif text == "Z" and not self._run.finishing:
            self._stop(now, AbortScript())
        elif text == "Y" and self._run.in_measurement:
            self._stop(now, AbortLoop())

    def _command(self, text: str, now: float) -> None:
        echo = text[:1]
        if len(text) > self._longest_line:
            self._refuse(echo, LINE_TOO_LONG, now)
        elif text in _WHILE_RUNNING:
            self._refuse(echo, NOT_NOW, now)
        elif text in ("e", "l"):
            self._script = []
            self._script_command = text
        elif text and self._refusing():
            self._refuse(echo, UNSPECIFIED, now)
        elif text == "r":
            if self._loaded is None:
                self._refuse(echo, NO_SCRIPT, now)
            else:
                self._reply("r", now)
                self._start(self._loaded, now)
        elif text[:1] in ("G", "S") and len(text) >= 3:
            self._register(text, now)
        elif text in ("Fmscr", "Lmscr"):
            self._flash(text, now)
        elif text.startswith(_NOT_SIMULATED):
            self._refuse(echo, NOT_SUPPORTED, now)
        else:
            self._identify(text, now)

    def _identify(self, text: str, now: float) -> None:
        replies = {
            "": "",
            "t": f"t{self._firmware}{self.model.firmware}\nR*",
            "i": "i" + self.serial,
            "v": "v" + self._script_version,
            "m": "m" + self.serial,
            "CC": "C" + self.model.communication_bits,
            "CM": "C" + self.model.script_bits,
        }
        if text in replies:
            self._reply(replies[text], now)
        else:
            self._refuse(text[0], UNKNOWN_COMMAND, now)

    def _register(self, text: str, now: float) -> None:
        echo, digits, value = text[0], text[1:3], text[3:]
        try:
            number = int(digits, 16)
            int(value or "0", 16)
        except ValueError:
            self._refuse(echo, BAD_ARGUMENT, now)
            return
        if echo == "G" and number == SERIAL_REGISTER and not value:
            self._reply("G" + self.serial, now)
        elif echo == "S" and number == SERIAL_REGISTER:
            self._refuse(echo, READ_ONLY_REGISTER, now)
        elif number not in self._registers:
            self._refuse(echo, UNKNOWN_REGISTER, now)
        elif echo == "G" and not value:
            self._reply("G" + self._registers[number], now)
        elif echo == "S" and len(value) == len(self._registers[number]):
            self._registers[number] = value.upper()
            self._reply("S", now)
        else:
            self._refuse(echo, BAD_ARGUMENT, now)

    def _flash(self, text: str, now: float) -> None:
        source = self._loaded if text == "Fmscr" else self._stored
        if source is None:
            self._refuse(text[0], NO_SCRIPT, now)
            return
        self._loaded = self._stored = source
        self._reply(text[0], now)

    # -- scripts

    def _load(self, now: float) -> None:
        """The empty line has come: check the script, and run it if it came with `e`."""
        lines, self._script = self._script or [], None
        echo = self._script_command
        if self._refusing():
            self._refuse(echo, UNSPECIFIED, now)
            return
        try:
            script = self._check(lines)
        except ScriptRefusal as refusal:
            self._reply(f"{echo}!{refusal}", now)
            return
        self._loaded = script
        if echo == "e":
            if not self._joined:
                self._reply("e", now)
            self._unsaid = self._joined
            self._start(script, now)
        else:
            self._reply("l", now)

    def _check(self, lines: list[str]) -> Script:
        for number, text in enumerate(lines, start=1):
            if len(text) > self._longest_line:
                raise ScriptRefusal(LINE_TOO_LONG, number, self._longest_line + 1)
        if sum(len(text) + 1 for text in lines) > self._script_memory:
            raise ScriptRefusal(SCRIPT_TOO_LARGE, len(lines), 1)
        return parse_script(lines, self._commands)

    def _start(self, script: Script, now: float) -> None:
        self._run = Interpreter(
            script,
            self.stage,
            self._emit,
            self._timing,
            now,
            booted=self._booted,
            noise_metadata=self._noise_metadata,
        )
        self._task = self._run.run()
        self._halted_at = None
        self._drive(now, None)

    def _emit(self, text: str, at: float) -> bool:
        """Put out a line of a script; whether the next one has to wait."""
        if self._unsaid:
            # Some firmware puts the acknowledgement and the first marker on one line.
            self._unsaid = False
            if text.startswith(("M", "L")):
                text = "e" + text
            else:
                self._send("e", at)
        self._send(text, at)
        if text.startswith("!"):
            self._deaf_until = at + self._deaf_time
            if self._blank_after_error:
                self._send("", at)
        return len(self._held) > self._room or self._room_at() > at

    def _room_at(self) -> float:
        """When no more is left to be sent than the buffer holds, s."""
        return self._sent_until - self._room * self._byte_time

    def _schedule(self, at: float) -> None:
        """Wake the script at a time (s), or when there is room for its output."""
        self._ticket += 1
        ticket = self._ticket
        if len(self._held) > self._room:
            self._wakes_at = math.inf  # until the host takes what is held
            return
        stalled = self._room_at() > at
        at = self._wakes_at = max(at, self._room_at()) if stalled else at

        def wake(now: float) -> None:
            if ticket == self._ticket and self._task is not None and self._run is not None:
                if stalled:
                    self._run.stall(now)
                self._drive(now, None)

        self._later(at, wake)

    def _stop(self, now: float, how: AbortScript | AbortLoop) -> None:
        """Leave a loop or the script, after the point that is being measured, but soon."""
        halted = self._halted_at is not None
        if self._halted_at is not None and self._run is not None:
            self._run.halted(now - self._halted_at)
            self._halted_at = None
        at = now if halted else min(max(self._wakes_at, now), now + self._abort_latency)
        self._ticket += 1
        ticket = self._ticket
        self._wakes_at = at

        def stop(now: float) -> None:
            if ticket == self._ticket and self._task is not None:
                self._throw(now, how)
                if isinstance(how, AbortScript) and self._abort_opens:
                    self.stage.cell_off(now)

        self._later(at, stop)

    def _throw(self, now: float, error: Exception) -> None:
        assert self._run is not None
        self._run.interrupt(now)
        self._halted_at = None
        self._drive(now, error)

    def _drive(self, now: float, error: Exception | None) -> None:
        """Let the script go on to a time (s)."""
        task = self._task
        assert task is not None
        try:
            if error is not None:
                wake = task.throw(error)
            elif self._run is not None and self._run.started:
                wake = task.send(now)
            else:
                wake = next(task)
            slices = 0
            while wake <= now and slices < MOST_AT_ONCE:
                wake = task.send(now)
                slices += 1
        except StopIteration:
            self._task = None
            self._run = None
            self._ticket += 1
            return
        self._schedule(wake)
