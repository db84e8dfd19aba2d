"""A cell in a chamber and under a press: bench, protocols and runs for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lab import BENCH
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import Poll
from operando.instruments.recorder import JSON, Entry
from operando.protocols import ProtocolFunction
from operando.records import Record
from operando.station.engine import Engine, Order, Run

AROUND = """
[instruments.oven1]
driver = "espec-p300"
address = "serial:ports/oven1"
[instruments.oven1.settings]
safe_state = "{oven}"
[instruments.oven1.simulated]
room = "oven"

[instruments.press1]
driver = "alicat-dual-valve"
address = "serial:ports/press1?baud=19200"
[instruments.press1.settings]
safe_state = "{press}"
[instruments.press1.simulated]
cell = "c1"
stiffness = 0.0

[rooms.oven]
kind = "chamber"
"""

ROLES = 'temperature_controller = "oven1"\npressure_controller = "press1"\n'

Script = Callable[[Engine, Clock], Awaitable[None]]


def write_conditioned_bench(
    folder: Path,
    *,
    smu: str = "TCPIP::127.0.0.1::5025::SOCKET",
    speed: float = 1.0,
    oven: str = "standby",
    press: str = "hold",
    roles: str = ROLES,
) -> Path:
    """A bench of one channel A1: a source meter, a chamber and a press."""
    text = BENCH.format(
        speed=speed, smu=smu, smu_options="", load_cell="pt113", load="serial:ports/lc1"
    )
    text = text.replace('load_cell = "lc1"\n', roles).replace(
        "seed = 1\n", 'seed = 1\nroom = "oven"\n'
    )
    path = folder / "bench.toml"
    path.write_text(text + AROUND.format(oven=oven, press=press), encoding="utf-8")
    return path


class ConditionedLab:
    """Runs a protocol on that bench in virtual time, with something happening beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.oven: Any = None
        self.press: Any = None
        self.relay_at_end = True
        self.told: dict[str, list[str]] = {"oven1": [], "press1": []}

    def run(
        self,
        protocol: ProtocolFunction,
        bench: Path | None = None,
        beside: Script | None = None,
        *,
        limits: tuple[Any, ...] = (),
        **parameters: Any,
    ) -> Run:
        """Run to the end."""
        described = load_bench(bench or write_conditioned_bench(self.folder))
        order = Order(protocol(**parameters), limits=limits, poll=Poll(5.0))

        async def main() -> Run:
            clock = Clock("virtual")
            async with Engine(described, clock) as engine:
                simulation: Any = engine.simulation
                self.oven, self.press = (simulation.devices[name] for name in ("oven1", "press1"))
                for name, lines in self.told.items():
                    _listen(simulation.devices[name], lines)
                running = asyncio.create_task(engine.run("A1", order, self.folder / "runs"))
                if beside is not None:
                    await beside(engine, clock)
                run = await running
                self.relay_at_end = simulation.relays()["smu1"]
                return run

        return run_coroutine(main(), virtual=True)

    def settings_of_oven(self) -> list[str]:
        """The set-points and modes that the chamber was told, in their order."""
        heads = ("TEMP, S", "MODE,", "POWER,")
        return [line for line in self.told["oven1"] if line.startswith(heads)]


def _listen(device: Any, lines: list[str]) -> None:
    receive = device.receive

    def listening(line: Any, data: bytes, now: float) -> None:
        lines.extend(bytes(data).decode("ascii").split("\r")[:1])
        receive(line, data, now)

    device.receive = listening


def verdicts(run: Run) -> dict[str, JSON]:
    """The journal's verdicts of the safe state, the potentiostat's too."""
    (safe,) = Record.open(run.folder).journal(Entry.SAFE)
    actuators = safe.data.get("actuators", {})
    assert isinstance(actuators, dict)
    return {"smu1": safe.data["potentiostat"]} | actuators
