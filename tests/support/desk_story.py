"""A desk over a simulated bench in virtual time, for tests that tell what happens at it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from lab import write_bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.station.client.models import ChannelStatus, RunRequest
from operando.station.desk import Desk
from operando.station.engine import Engine

Story = Callable[[Desk, Engine, Clock], Awaitable[None]]

REQUEST = RunRequest(
    protocol="cccv",
    title="a cycle",
    parameters={"charge_rate": "2C", "discharge_rate": "2C", "cv_cutoff": "0.5C", "rest": "1 min"},
    poll={"interval": "5 s"},
)
TRIPPING = REQUEST.model_copy(
    update={"limits": {"early": {"when": "voltage > 3.9 V", "action": "trip"}}}
)


def tell(folder: Path, story: Story, *, bench: Path | None = None) -> None:
    """Let something happen at the desk of a simulated bench, in virtual time."""
    described = load_bench(bench or write_bench(folder))

    async def main() -> None:
        clock = Clock("virtual")
        async with Engine(described, clock) as engine:
            loop = asyncio.get_running_loop()
            desk = Desk(engine, loop, folder / "runs", simulated=True)
            await desk.open()
            await story(desk, engine, clock)

    run_coroutine(main(), virtual=True)


def of(desk: Desk) -> ChannelStatus:
    """The state of the only channel."""
    (status,) = desk.statuses()
    return status


async def until(desk: Desk, clock: Clock, *states: str) -> ChannelStatus:
    """Wait until the channel is in one of these states."""
    for _ in range(100_000):
        if (status := of(desk)).state in states:
            return status
        await clock.sleep(1.0)
    raise AssertionError(f"still {of(desk).state}")


def relay(engine: Engine) -> bool:
    """The true output relay of the source meter."""
    return bool(engine.simulation.relays()["smu1"])  # type: ignore[union-attr]
