"""A potentiostat's driver on its simulated twin, in virtual time, with the true relay in sight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.registry import DRIVERS, load
from operando.instruments.wires import Switchboard
from operando.simulators.bench import SimulatedBench

BENCH = """
[instruments.it]
driver = "{driver}"
address = "{address}"
[instruments.it.simulated]
cell = "c1"
{options}
[channels.A1]
potentiostat = "it"
cell = "c1"
[cells.c1]
preset = "{preset}"
{cell}
"""


class TrueBench:
    """One instrument on one simulated cell. simulation: asks what is really so."""

    def __init__(self, folder: Path, text: str, settings: dict[str, Any]) -> None:
        path = folder / "bench.toml"
        path.write_text(text, encoding="utf-8")
        bench = load_bench(path)
        entry = bench.instruments["it"]
        driver: Any = load(DRIVERS, entry.driver)
        self.clock = Clock("virtual")
        self.simulation = SimulatedBench(bench, self.clock)
        self._switchboard = Switchboard()
        self.simulation.attach(self._switchboard)
        self._make: Callable[[], Any] = lambda: driver(
            self._switchboard.wire(entry.address, self.clock),
            self.clock,
            settings=driver.Settings(**settings),
        )
        self.instrument = self._make()

    def another_session(self) -> Any:
        """A driver object that knows of nothing yet."""
        return self._make()

    @property
    def relay(self) -> bool:
        """The true output relay: closed or not."""
        return self.simulation.relays()["it"]

    @property
    def cell(self) -> Any:
        """The simulated cell."""
        return self.simulation.cells["c1"]

    @property
    def now(self) -> float:
        """Laboratory time, s."""
        return self.clock.now()


Scenario = Callable[[TrueBench], Awaitable[None]]


def on_bench(
    folder: Path,
    scenario: Scenario,
    *,
    driver: str,
    address: str,
    options: str = "",
    preset: str = "ncm811-caec",
    cell: str = 'capacity = "3.14 mAh"',
    **settings: Any,
) -> None:
    """Run a scenario on a connected instrument; the driver is closed at its end."""
    text = BENCH.format(driver=driver, address=address, options=options, preset=preset, cell=cell)

    async def main() -> None:
        bench = TrueBench(folder, text, settings)
        try:
            await bench.instrument.connect()
            await scenario(bench)
        finally:
            await bench.instrument.close()

    run(main(), virtual=True)


async def relay_history(bench: TrueBench, doing: Awaitable[object], every: float) -> list[bool]:
    """The true relay, looked at every so many s while something is done."""
    task = asyncio.ensure_future(doing)
    seen = [bench.relay]
    while not task.done():
        await bench.clock.sleep(every)
        seen.append(bench.relay)
    await task
    return seen
