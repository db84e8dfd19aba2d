"""An instrument that the watchdog pursues stays this engine's: nobody else gets its address."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from lab import simulated, write_bench, write_recipe
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import AddressInUseError
from operando.instruments.locks import AddressLock
from operando.instruments.recipe import load_recipe
from operando.protocols import RunState
from operando.station.engine import Engine, order_from
from operando.station.simulate import clock_for

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals"),
]


def test_the_address_of_what_the_watchdog_pursues_is_not_given_back(tmp_path: Path) -> None:
    bench = load_bench(write_bench(tmp_path, speed=20.0))
    recipe = load_recipe(write_recipe(tmp_path, interval="2 s"))
    address = bench.instruments["smu1"].address

    async def main() -> None:
        async with Engine(bench, clock_for(bench)) as engine:

            async def run(fault: str) -> RunState:
                running = asyncio.create_task(
                    engine.run("A1", order_from(recipe), tmp_path / "runs")
                )
                while not await asyncio.to_thread(process.relays):
                    await engine.clock.sleep(1.0)
                while not (await asyncio.to_thread(process.relays))["smu1"]:
                    await engine.clock.sleep(1.0)
                await asyncio.to_thread(process.inject, "smu1", fault)
                engine.stop_all("enough", later=False)
                return (await running).result.state

            assert await run("silence") is RunState.FAULTED
            with pytest.raises(AddressInUseError):
                AddressLock(address).acquire()
            # It is this engine's own all the same, which ends the pursuit by a run that ends well.
            await asyncio.to_thread(process.inject, "smu1", "none")
            assert await run("none") is RunState.ABORTED
        with AddressLock(address):
            """Free again."""

    with simulated(bench.path) as process:
        run_coroutine(main())
