"""A Maccor tester with a few channels, for the driver's tests: states, direct mode, watchdog."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from operando.drivers.maccor import MaccorMacNet
from operando.drivers.maccor_direct import MaccorSettings
from operando.instruments.clock import Clock, run
from operando.instruments.roles import Expect
from operando.instruments.wires import Line, Switchboard

ADDRESS = "TCPIP::127.0.0.1::57570::SOCKET"

SPECIFICATION = {
    "TickSpeed": 0.005,
    "Vmax": 10,
    "Vmin": 0,
    "VSafeMax": 10,
    "VSafeMin": 0,
    **{f"IR{n}{way}": scale for way in ("Chg", "Dis")
       for n, scale in ((4, 5), (3, 0.15000000596), (2, 0.005), (1, 0.00015))},
    "ISafeChg": 5,
    "ISafeDis": 5,
    "PBatSafeChg": 50,
    "PBatSafeDis": 50,
}  # fmt: skip
"""As in the document's example of function 3,1."""

FAST, NOT_ACTIVE = "Command sent too fast", "The channel is not active"


class Channel:
    """One position: a cell of 3.7 V behind 10 ohm."""

    def __init__(self) -> None:
        self.doing, self.why, self.state = 0, 0, 0
        self.name = ""
        self.drive: dict[str, Any] = {}
        self.commanded = -1.0
        self.starts_at = 0.0
        self.rest_voltage = 3.7
        self.history: list[str] = []

    @property
    def relay(self) -> bool:
        return self.state == 2

    def enter(self, doing: int, why: int, state: int, what: str) -> None:
        self.doing, self.why, self.state = doing, why, state
        self.history.append(what)

    def readings(self) -> tuple[float, float]:
        """Voltage and current, with the sign that charges positive."""
        if not self.relay or not self.drive:
            return self.rest_voltage, 0.0
        sign = 1.0 if self.drive["ChMode"] == "C" else -1.0
        most = max(0.0, sign * (self.drive["Voltage"] - self.rest_voltage) / 10.0)
        current = sign * min(self.drive["Current"], most)
        return self.rest_voltage + 10.0 * current, current


class MacNetTester:
    """Answers MacNet's functions. delay: s before each answer. start_delay: s of a start.

    watchdog: s, 0 for none. answers: results that replace its own, by function, each used once.
    unanswered: set when an empty answer was given.
    signs: whether it sends a discharge as negative. sent: functions asked for, with the channel.
    """

    def __init__(self, channels: int = 12, delay: float = 1e-3) -> None:
        self.channels = [Channel() for _ in range(channels)]
        self.delay = delay
        self.start_delay = 0.0
        self.watchdog = 0.0
        self.system_id = "Win10"
        self.system_type = 0
        self.procedures = {"Formation"}
        self.answers: dict[tuple[int, int], deque[bytes | dict[str, Any] | None]] = {}
        self.signs = True
        self.deaf = False
        self.sent: list[tuple[int, int, int]] = []
        self.unanswered = asyncio.Event()
        self.connections = self.disconnections = 0
        self.lines: list[Line] = []

    def connected(self, line: Line, now: float) -> None:
        """A host came."""
        self.connections += 1
        self.lines.append(line)

    def disconnected(self, line: Line, now: float) -> None:
        """The host went."""
        self.disconnections += 1

    def instead(self, function: tuple[int, int], *answers: bytes | dict[str, Any] | None) -> None:
        """Answer a function otherwise: bytes as they are, results; None for its own answer."""
        self.answers.setdefault(function, deque()).extend(answers)

    def functions(self) -> list[tuple[int, int]]:
        """Functions asked for, in order."""
        return [entry[:2] for entry in self.sent]

    def writes(self) -> list[tuple[int, int]]:
        """Functions that change something."""
        return [entry for entry in self.functions() if entry[0] > 4 and entry != (6, 11)]

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Answer one request."""
        message = json.loads(data)
        params = message["params"]
        function = (params["FClass"], params["FNum"])
        self.sent.append((*function, params.get("Chan", -1)))
        if self.deaf:
            return
        self.pass_time(now)
        waiting = self.answers.get(function)
        answer = waiting.popleft() if waiting else None
        if isinstance(answer, bytes):
            if not answer:
                self.unanswered.set()
            line.send(answer, now + self.delay)
            return
        if answer is None:
            answer = self.answer(function, params, now)
        echoes = {key: params[key] for key in ("FClass", "FNum", "Chan", "Len") if key in params}
        reply = {"jsonrpc": "2.0", "result": {**echoes, **answer}, "id": message["id"]}
        line.send(json.dumps(reply).encode() + b"\r\n", now + self.delay)

    def pass_time(self, now: float) -> None:
        """Starts and the watchdog."""
        for channel in self.channels:
            if channel.state == 12 and now >= channel.starts_at:
                self.run(channel)
            watched = channel.relay and channel.drive and self.watchdog
            if watched and now > channel.commanded + self.watchdog:
                channel.enter(30, 192, 3, "watchdog")

    def run(self, channel: Channel) -> None:
        """Close the relay."""
        way = 2 if channel.drive.get("ChMode") == "D" else 1
        channel.enter(way, 0, 2, "active")

    def answer(self, function: tuple[int, int], params: dict[str, Any], now: float) -> Any:
        """The result of a function."""
        if function == (1, 1):
            parts = {"Major": 3, "Minor": 2, "Build": 18}
            return {f"MacTest32EXEversion{part}": number for part, number in parts.items()}
        if function == (1, 2):
            return {
                "SystemID": self.system_id,
                "SystemType": self.system_type,
                "TestChannels": len(self.channels),
            }
        if function == (1, 3):
            return {"ProcedurExists": str(params["ProcName"] in self.procedures).upper()}
        if function in ((4, 1), (4, 2), (4, 3)):
            those = self.channels[params["Chan"] : params["Chan"] + params["Len"]]
            if function == (4, 1):
                return {"Status": [{"RF1": c.doing, "RF2": c.why, "Stat": c.state} for c in those]}
            key = "Voltage" if function == (4, 2) else "Current"
            return {key: [c.readings()[function[1] - 2] for c in those]}
        channel = self.channels[params["Chan"]]
        if function[0] == 6:
            return self.command(function[1], channel, params, now)
        voltage, current = channel.readings()
        known: dict[tuple[int, int], Any] = {
            (3, 1): SPECIFICATION,
            (4, 4): {"AuxValues": [24.75, 0.5], "Len": 2},
            (4, 5): {"AuxUnit": ["C", "V"], "Len": 2},
            (4, 6): {"TestName": channel.name, "ProcName": ""},
            (4, 7): {
                "RF1": channel.doing, "RF2": channel.why, "Stat": channel.state, "LastRecNum": 18,
                "Cycle": 0, "Step": 2, "TestTime": 15, "StepTime": 10, "Capacity": 1e-3,
                "Energy": 4e-3, "Current": current if self.signs else abs(current),
                "Voltage": voltage, "TesterTime": "2016-11-14T09:24:08",
            },
        }  # fmt: skip
        return known[function]

    def command(self, number: int, channel: Channel, params: dict[str, Any], now: float) -> Any:
        """A function of class 6."""
        text = "OK"
        if number == 3:
            if channel.state in (2, 12):
                channel.enter(30, 192, 3, "suspended")
            else:
                text = "The channel cannot be suspended"
        elif number == 5:
            channel.name, channel.drive = "", {}
            channel.enter(0, 128, 0, "reset")
        elif number in (2, 7):
            if channel.state not in (0, 1):
                return {"Result": "The channel is not available"}
            channel.name, channel.commanded = params["TestName"], now
            channel.drive = params if number == 7 else {}
            channel.starts_at = now + self.start_delay
            if self.start_delay:
                channel.enter(0, 0, 12, "starting")
            else:
                self.run(channel)
        elif number == 8:
            if channel.state != 2:
                text = NOT_ACTIVE
            elif now - channel.commanded < 0.1:
                text = FAST
            else:
                channel.drive, channel.commanded = params, now
                self.run(channel)
        elif number == 10:
            return {key: params[key] for key in params if re.match("[VIP]", key)}
        return {"Result": text}


Scenario = Callable[["Bench"], Awaitable[None]]


class Bench:
    """A tester and drivers of its channels, in virtual time."""

    def __init__(self, tester: MacNetTester) -> None:
        self.tester = tester
        self.clock = Clock("virtual")
        self.switchboard = Switchboard()
        self.switchboard.attach(ADDRESS, tester)
        self._drivers: list[MaccorMacNet] = []

    def driver(
        self, number: int = 4, expect: Expect | None = None, settings: MaccorSettings | None = None
    ) -> MaccorMacNet:
        """A driver of a channel, as its front panel counts."""
        wire = self.switchboard.wire(f"{ADDRESS}#{number}", self.clock)
        made = MaccorMacNet(
            wire, self.clock, expect=expect or Expect(), settings=settings or MaccorSettings()
        )
        self._drivers.append(made)
        return made

    async def close(self) -> None:
        """Close all drivers."""
        for driver in self._drivers:
            await driver.close()


def with_tester(scenario: Scenario, tester: MacNetTester | None = None) -> MacNetTester:
    """Run a scenario and close its drivers."""
    tester = tester or MacNetTester()

    async def main() -> None:
        bench = Bench(tester)
        try:
            await scenario(bench)
        finally:
            await bench.close()

    run(main(), virtual=True)
    return tester
