"""A pneumatic press with its controller, for the driver's tests: gas, ramps and valves."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from operando.drivers.alicat import AlicatDualValve, AlicatSettings
from operando.instruments.clock import Clock, run
from operando.instruments.wires import Line, Switchboard

END = b"\r"
PSI = 6894.757
RATIO = 10.0
SETTINGS = AlicatSettings(actuator_area=1e-3, piston_area=1e-4, maximum_force=1000.0)
"""Ten pascals on the stack for one of gas; at most 10 MPa, 145 psi of gas."""

TABLE_ROWS = (
    "ALICAT SCIENTIFIC",
    "www.alicat.com",
    "Ph   520-290-6060",
    "info@alicat.com",
    "Model Number {model}",
    "Serial Number {serial}",
    "Date Manufactured 03/02/2025",
    "Date Calibrated   03/02/2025",
    "Calibrated By     BL",
    "Software Revision {firmware}",
)
"""As 10v20 firmware sends it (tests of the package alicatlib)."""


def table(
    model: str = "PCD-200PSIG-D/5P", serial: str = "521641", firmware: str = "10v20.0-R24"
) -> bytes:
    rows = (row.format(model=model, serial=serial, firmware=firmware) for row in TABLE_ROWS)
    return b"".join(f"A  M{at:02d} {row}\r".encode() for at, row in enumerate(rows))


class Press:
    """Gas that follows a set-point, which follows what was asked for at the slew limit.

    delay: s before each answer. jammed: the gas stays where it is. answers: instead of its own.
    """

    def __init__(self, delay: float = 0.02) -> None:
        self.delay = delay
        self.pressure = self.present = self.requested = 0.0
        self.rate = 0.0
        self.held = False
        self.jammed = False
        self.refuses: set[str] = set()
        self.answers: dict[str, bytes] = {}
        self.highest = 0.0
        self._time = 0.0

    def connected(self, line: Line, now: float) -> None:
        """A host came."""

    def disconnected(self, line: Line, now: float) -> None:
        """The host went."""

    def pass_time(self, now: float) -> None:
        """Move on to `now`."""
        elapsed, self._time = now - self._time, now
        far = self.requested - self.present
        step = min(abs(far), self.rate * elapsed) if self.rate > 0.0 else abs(far)
        self.present += math.copysign(step, far)
        if not (self.held or self.jammed):
            self.pressure = self.present
        self.highest = max(self.highest, self.pressure)

    def frame(self) -> str:
        return f"A {self.pressure:+07.2f} {self.requested:+07.2f}" + (" HLD" if self.held else "")

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Take a command, answer it."""
        self.pass_time(now)
        command, _, value = data.decode("ascii")[1:-1].partition(" ")
        if command in self.refuses:
            line.send(b"?\r", now + self.delay)
            return
        match command:
            case "??M*":
                line.send(self.answers.get(command, table()), now + self.delay)
                return
            case "LS":
                self.requested = float(value or self.requested)
            case "SR":
                self.rate = float(value.split()[0]) / {"4": 1.0, "5": 60.0}[value.split()[1]]
            case "HC":
                self.held = True
            case "C":
                self.held = False
        self.pass_time(now)
        reply = self.frame()
        if command == "LS":
            reply = f"A {self.present:+07.2f} {self.requested:+07.2f} 10 PSIG"
        elif command == "SR":
            reply = f"A {value.split()[0]} 10 {value.split()[1]} PSIG/x"
        line.send(self.answers.get(command, reply.encode() + END), now + self.delay)


Scenario = Callable[[AlicatDualValve, Press], Awaitable[None]]


def with_press(scenario: Scenario, **named: Any) -> Press:
    peer = Press()

    async def main() -> None:
        switchboard, clock = Switchboard(), Clock("virtual")
        switchboard.attach("a", peer)
        settings = AlicatSettings(
            actuator_area=1e-3, piston_area=1e-4, maximum_force=1000.0, **named
        )
        driver = AlicatDualValve(switchboard.wire("a", clock), clock, settings=settings)
        await driver.connect()
        await scenario(driver, peer)
        peer.pass_time(clock.now())

    run(main(), virtual=True)
    return peer
