"""A simulated Maccor tester and a host that speaks JSON to it, for tests in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from operando.instruments.clock import Clock
from operando.instruments.wires import MemoryWire, Switchboard, Terminated
from operando.simulators.devices.maccor import SimulatedMaccor
from operando.simulators.devices.ports import Site
from operando.simulators.faults import FaultyPeer
from simulators.bench_of_one import ResistorCell

REPLY = Terminated(b"\r\n")


class MaccorHost(NamedTuple):
    """A tester with one wired channel, its cell, and two hosts."""

    device: SimulatedMaccor
    cell: ResistorCell
    clock: Clock
    wire: MemoryWire
    binary: MemoryWire
    faults: FaultyPeer

    async def say(self, text: str) -> str:
        """Send a text; the reply without its end."""
        return (await self.wire.exchange(text.encode(), REPLY, 5.0)).decode()

    async def message(self, params: object, **other: object) -> Any:
        """Send params; the whole reply."""
        request = {"jsonrpc": "2.0", "method": "MacNet", "params": params, "id": 1987, **other}
        return json.loads(await self.say(json.dumps(request)))

    async def ask(self, function_class: int, number: int, **params: object) -> Any:
        """Call a function; its result."""
        reply = await self.message({"FClass": function_class, "FNum": number, **params})
        return reply["result"]

    async def told(self, function_class: int, number: int, **params: object) -> str:
        """Call a command for channel 0; its result's text."""
        params.setdefault("Chan", 0)
        return str((await self.ask(function_class, number, **params))["Result"])

    async def state(self) -> Any:
        """Everything of channel 0."""
        return await self.ask(4, 7, Chan=0)

    async def begin(self, **points: object) -> None:
        """Start direct mode on channel 0 at zero current, and wait until it is active."""
        assert await self.told(6, 7, **{**START, **points}) == "OK"
        await self.until(lambda seen: seen["Stat"] == 2)

    async def output(self, **points: object) -> str:
        """Wait long enough and set a direct output of channel 0."""
        await self.clock.sleep(0.1)
        return await self.told(6, 8, **{**OUTPUT, **points})

    async def until(self, wanted: Callable[[Any], bool], longest: float = 1e5) -> Any:
        """Look every 0.1 s until the state is wanted."""
        end = self.clock.now() + longest
        while not wanted(seen := await self.state()):
            assert self.clock.now() < end, seen
            await self.clock.sleep(0.1)
        return seen


OUTPUT: dict[str, object] = {
    "Current": 0,
    "Voltage": 4.2,
    "Power": 65536,
    "Resistance": 0,
    "CurrentRange": 3,
    "ChMode": "C",
}
START: dict[str, object] = {
    **OUTPUT,
    "TestName": "Random",
    "Power": 50,
    "DataTime": 1.0,
    "DataV": 0,
    "DataI": 0,
}
PROCEDURE: dict[str, object] = {
    "TestName": "Random",
    "ProcName": "Short",
    "Comment": "",
    "Crate": 0.1,
    "ChamberNum": 0,
}


async def a_tester(
    cell: ResistorCell | None = None, *, channel: str = "1", **options: object
) -> MaccorHost:
    """A tester without noise unless asked for, one channel on a cell of 3.7 V and 10 ohm."""
    clock = Clock("virtual")
    cell = cell or ResistorCell()
    device = SimulatedMaccor(
        "mac1",
        site=Site(cell),
        clock=clock,
        channel=channel,
        options={
            "noise": 0.0,
            "procedures": "Short = charge 1C to 4.2 V; rest 5 s; discharge 1C to 3 V",
            **options,
        },
    )
    faults = FaultyPeer(device, clock, name="mac1")
    switchboard = Switchboard()
    switchboard.attach("json", faults)
    switchboard.attach("binary", device.binary)
    wire, binary = switchboard.wire("json", clock), switchboard.wire("binary", clock)
    await wire.open()
    await binary.open()
    return MaccorHost(device, cell, clock, wire, binary, faults)
