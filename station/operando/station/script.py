"""The synchronous face for scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, VirtualTimeLoop
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Limit
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Plan, RunState
from operando.records import Record
from operando.station.engine import Engine, Order, Run
from operando.station.simulate import SimulatedProcess, clock_for


class RunFailedError(Exception):
    """A script's run did not complete; `record` holds what was measured."""

    def __init__(self, state: RunState, reason: str, record: Record) -> None:
        super().__init__(f"the run ended {state.value}: {reason}")
        self.state = state
        self.record = record


class ScriptChannel:
    """One channel of an open bench."""

    def __init__(self, bench: ScriptBench, name: str) -> None:
        self._bench = bench
        self.name = name

    def run(
        self,
        plan: Plan,
        *,
        limits: tuple[Limit, ...] = (),
        record: RecordConditions | None = None,
        poll: Poll | None = None,
    ) -> Record:
        """Run a plan to its end and return its record.

        limits: those asked for; default ones guard what they leave open. Raises RunFailedError
        unless the run completed, BadInputError before anything is switched on.
        """
        order = Order(
            plan,
            limits=limits,
            record=record or RecordConditions(),
            poll=poll or Poll(),
        )
        return self._bench.execute(self.name, order)

    def resume(
        self,
        plan: Plan,
        record: Record | str | Path,
        *,
        recording: RecordConditions | None = None,
        poll: Poll | None = None,
    ) -> Record:
        """Go on with a run whose program died, to its end, and return its record.

        plan, recording, poll: as it was started with. Its limits are those that it had. Raises as
        `run`; BadInputError also when it is another plan or the record is of another channel.
        """
        folder = record.folder if isinstance(record, Record) else Path(record)
        order = Order(plan, record=recording or RecordConditions(), poll=poll or Poll())
        return self._bench.resume(self.name, order, folder)


class ScriptBench:
    """An open bench: `bench["A1"].run(plan)`."""

    def __init__(
        self,
        path: Path,
        *,
        simulate: bool,
        clock: Literal["real", "scaled", "virtual"] | None,
        output: Path,
    ) -> None:
        if clock not in (None, "real", "scaled", "virtual"):
            raise BadInputError(f"clock must be real, scaled or virtual, not {clock!r}")
        self._path = path
        self._simulate = simulate
        self._virtual = clock == "virtual"
        self._output = output
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        bench = load_bench(self._path)
        with ExitStack() as stack:
            if self._virtual and not self._simulate:
                raise BadInputError("virtual time needs simulate=True: real instruments are slow")
            if self._simulate and not self._virtual:
                stack.enter_context(SimulatedProcess(self._path))
            factory = VirtualTimeLoop if self._virtual else None
            self._runner = stack.enter_context(asyncio.Runner(loop_factory=factory))
            self._clock: Clock = clock_for(bench, virtual=self._virtual)
            self._engine = self._runner.run(Engine(bench, self._clock).__aenter__())
            stack.callback(lambda: self._runner.run(self._engine.__aexit__(None, None, None)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __getitem__(self, channel: str) -> ScriptChannel:
        if channel not in self._engine.bench.channels:
            raise KeyError(
                f"no channel '{channel}'; there are: " + ", ".join(self._engine.bench.channels)
            )
        return ScriptChannel(self, channel)

    def execute(self, channel: str, order: Order) -> Record:
        """Run an order and return its record."""
        return self._record_of(self._engine.run(channel, order, self._output))

    def resume(self, channel: str, order: Order, folder: Path) -> Record:
        """Go on with the run of a record and return that."""
        of = Record.open(folder).manifest.get("channel")
        if of != channel:
            raise BadInputError(f"{folder}: it is a run of channel {of}, not of {channel}")

        async def go_on() -> Run:
            return await self._engine.execute(self._engine.resume(folder, order), folder.parent)

        return self._record_of(go_on())

    def _record_of(self, running: Coroutine[Any, Any, Run]) -> Record:
        run = self._runner.run(running)
        record = Record.open(run.folder)
        if run.result.state is not RunState.COMPLETED:
            raise RunFailedError(run.result.state, run.result.reason, record)
        return record


def open_bench(
    path: str | Path,
    *,
    simulate: bool = False,
    clock: Literal["real", "scaled", "virtual"] | None = None,
    output: str | Path = "runs",
) -> ScriptBench:
    """Open a bench for a script: `with open_bench("lab.toml") as bench: ...`.

    simulate: run against the simulated twin of the bench; clock="virtual" then takes no time,
    any other clock serves it on the bench's own addresses. output: folder of the records.
    """
    return ScriptBench(Path(path), simulate=simulate, clock=clock, output=Path(output))
