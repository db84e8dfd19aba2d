"""A 2400 that remembers what it was told, for the driver's tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from operando.drivers.keithley_2400 import Keithley2400
from operando.drivers.keithley_tables import SourceMeterSettings
from operando.instruments.clock import Clock, run
from operando.instruments.wires import Line, Switchboard

IDENTITY = "KEITHLEY INSTRUMENTS INC.,MODEL 2400,4105123,C32   Oct  4 2010 14:20:11/A02  /S/K"
NO_ERROR = '0,"No error"'

# Status words: front terminals, both measured, voltage source, remote sense (manual's example).
HOLDING = 4216836
LIMITED = 4216844


def sent(voltage: float, current: float, word: int) -> bytes:
    """A reading as the instrument writes it."""
    return f"{voltage:+.6E},{current:+.6E},{word:+.6E}".encode()


class Parrot:
    """Remembers every setting as it was written and answers queries from that.

    delay: s before each answer. switched: every change of the output. answers: instead of its own.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.answers: dict[str, bytes] = {}
        self.switched: list[str] = []
        self.settings = {"*IDN": IDENTITY, ":OUTP": "0", ":SOUR:FUNC": "VOLT"}
        self.settings[":OUTP:SMOD"] = "NORM"
        self.settings[":SYST:ERR"] = NO_ERROR

    def connected(self, line: Line, now: float) -> None:
        """A host came."""

    def disconnected(self, line: Line, now: float) -> None:
        """The host went."""

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Take a setting or answer a question."""
        text = data.decode("ascii").strip()
        if text.endswith("?"):
            if text == ":READ?" and self.settings[":OUTP"] == "0":
                return
            words = {":READ": sent(3.8, 1.57e-3, LIMITED).decode()} | self.settings
            reply = self.answers.get(text, words.get(text[:-1], "").encode())
            line.send(reply + b"\n", now + self.delay)
        elif text != ":ABOR":
            header, value = text.split(" ", 1)
            value = {"ON": "1", "OFF": "0"}.get(value, value)
            if header == ":OUTP":
                self.switched.append(value)
            self.settings[header] = value


Scenario = Callable[[Keithley2400, Parrot], Awaitable[None]]


def with_parrot(
    scenario: Scenario, delay: float = 0.0, settings: SourceMeterSettings | None = None
) -> Parrot:
    parrot = Parrot(delay)

    async def main() -> None:
        switchboard, clock = Switchboard(), Clock("virtual")
        switchboard.attach("a", parrot)
        smu = Keithley2400(
            switchboard.wire("a", clock), clock, settings=settings or SourceMeterSettings()
        )
        await smu.connect()
        await scenario(smu, parrot)

    run(main(), virtual=True)
    return parrot
