"""A chamber of a few lines, for tests of the driver in which time goes on between two requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from operando.drivers.espec import EspecP300
from operando.instruments.clock import Clock, run
from operando.instruments.wires import Line, Switchboard

END = b"\r\n"


class Chamber:
    """Keeps what it is told. delay: s before each answer. lag: s until a mode shows."""

    def __init__(self, delay: float = 0.05, lag: float = 0.0) -> None:
        self.delay = delay
        self.lag = lag
        self.told: list[tuple[float, str]] = []
        self.mode = "STANDBY"
        self.setpoint, self.high, self.low = 25.0, 180.0, -70.0
        self.answers: dict[str, bytes] = {}

    def connected(self, line: Line, now: float) -> None:
        """A host came."""

    def disconnected(self, line: Line, now: float) -> None:
        """The host went."""

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Take a setting or answer a question."""
        text = data.decode("ascii").strip()
        reply = "OK:" + text
        self.settle(now)
        match text.partition(",")[::2]:
            case ("TYPE?", ""):
                reply = "T,P300,180.0"
            case ("ROM?", ""):
                reply = "1"
            case ("MODE?", ""):
                reply = self.mode
            case ("MON?", ""):
                reply = f"25.1,,{self.mode},0"
            case ("TEMP?", ""):
                reply = f"25.1,{self.setpoint:.1f},{self.high:.1f},{self.low:.1f}"
            case ("MODE", mode):
                self.told.append((now + self.lag, mode))
                self.settle(now)
            case ("TEMP", values):
                for value in values.split():
                    name = {"S": "setpoint", "H": "high", "L": "low"}[value[0]]
                    setattr(self, name, float(value[1:]))
        line.send(self.answers.get(text, reply.encode() + END), now + self.delay)

    def settle(self, now: float) -> None:
        """Enter the modes that are due."""
        while self.told and self.told[0][0] <= now:
            self.mode = self.told.pop(0)[1]


def with_chamber(
    scenario: Callable[[EspecP300, Chamber], Awaitable[None]], chamber: Chamber | None = None
) -> None:
    async def main() -> None:
        peer = chamber or Chamber()
        switchboard, clock = Switchboard(), Clock("virtual")
        switchboard.attach("a", peer)
        driver = EspecP300(switchboard.wire("a", clock), clock)
        await driver.connect()
        await scenario(driver, peer)

    run(main(), virtual=True)
