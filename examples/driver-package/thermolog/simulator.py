"""Simulated Thermolog TL2, a thermometer in a room of the bench.

Written from the Thermolog TL2's serial commands (MANUAL.md of this package) alone. Assumed: the
noise, 20 ms until a reply begins, and that 2 s pass between power and the first answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line
from operando.simulators import Fault
from operando.simulators.devices import Device, Options, noise_stream
from operando.simulators.devices.ports import Site

LONGEST_COMMAND = 80


class SimulatedThermologTL2(Device):
    """A TL2: `T?` in, `+23.41` out."""

    power_on_time = 2.0
    misbehaviours = frozenset({"overload", "nak", "reboot", "unplug", "identity"})

    def __init__(
        self, name: str, *, site: Site, clock: Clock, options: Mapping[str, object]
    ) -> None:
        """Switch on. options: serial, noise (K), offset (K), seed."""
        super().__init__(name, clock)
        own = Options(name, options)
        self._true_serial = self._serial = own.text("serial", "10472")
        self._noise = own.number("noise", 0.005, low=0.0, high=10.0)
        self._offset = own.number("offset", 0.0, low=-10.0, high=10.0)
        self._gauss = noise_stream(name, own.whole("seed", 0)).gauss
        own.finish()
        if site.room is None:
            raise BadInputError(
                f"[instruments.{name}.simulated]: a thermometer needs the room whose temperature "
                'it measures: room = "..."'
            )
        self._room = site.room
        self._plugged = True
        self._input = bytearray()

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Collect commands that end with CR LF, and answer each."""
        self._input += data
        while (end := self._input.find(b"\r\n")) >= 0:
            command = self._input[:end].decode("ascii", "replace")
            del self._input[: end + 2]
            reply = self._answer(command, now).encode("ascii") + b"\r\n"
            # One after the other, 10 bits a byte at 9600 baud.
            bits = 10 * (len(command) + 2 + len(reply))
            self.busy_until = max(now, self.busy_until) + 0.02 + bits / 9600.0
            line.send(reply, self.busy_until)
        if len(self._input) > LONGEST_COMMAND:
            self._input.clear()

    def disconnected(self, line: Line, now: float) -> None:
        """The connection is gone, and an unfinished command with it."""
        self._input.clear()

    def _answer(self, command: str, now: float) -> str:
        if self._refusing():
            return "ERR 2"
        if command == "ID?":
            return f"TL2,{self._serial},1.04"
        if command != "T?":
            return "ERR 1"
        if not self._plugged:
            return "OPEN"
        if self._overloaded():
            return "OVER"
        noise = self._noise * self._gauss(0.0, 1.0)
        celsius = self._room.temperature(now) - 273.15 + self._offset + noise
        if not -100.0 <= celsius <= 400.0:
            return "OVER" if celsius > 0.0 else "UNDR"
        return f"{celsius:+.2f}"

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault inside the instrument, or carry out one that is an event."""
        if fault.kind == "unplug":
            self._plugged = False
        elif fault.kind == "identity":
            self._serial = fault.text
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self._plugged, self._serial = True, self._true_serial

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s): an unfinished command is forgotten."""
        self._input.clear()
