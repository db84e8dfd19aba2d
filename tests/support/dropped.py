"""A program that dies in virtual time, while the simulated bench that it drove lives on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from operando.instruments.bench import Bench
from operando.instruments.clock import Clock, VirtualTimeLoop
from operando.instruments.errors import WrongInstrumentError
from operando.instruments.wires import MemoryWire, Switchboard
from operando.station.assembly import simulation_of
from operando.station.engine import Engine, Order, Run

_PROGRAM: contextvars.ContextVar[bool] = contextvars.ContextVar("program", default=False)
"""Whether a callback belongs to a program, which may die, or to the bench, which does not."""


class _Loop(VirtualTimeLoop):
    """The loop of one program and of the bench, whose timers go on in the next one."""

    def take_the_bench_from(self, dead: _Loop) -> None:
        """Go on with what a loop that has stopped for ever still had to do for the bench."""
        self._now = dead._now
        ready: Any = dead._ready  # type: ignore[attr-defined]
        self._ready.extend(item for item in ready if _is_of_bench(item))  # type: ignore[attr-defined]
        for when, number, item in sorted(dead._timers, key=lambda timer: timer[:2]):
            if isinstance(item, asyncio.TimerHandle) and _is_of_bench(item):
                self._timers.append((when, number, item))
                self._sequence = number
        dead._timers = [timer for timer in dead._timers if timer not in self._timers]


def _is_of_bench(handle: Any) -> bool:
    return not handle._context.get(_PROGRAM, False)


class _Standing:
    """An instrument whose timers are its own, not those of the program that speaks to it."""

    def __init__(self, peer: Any, context: contextvars.Context) -> None:
        self._peer = peer
        self._context = context

    def connected(self, line: Any, now: float) -> None:
        self._context.copy().run(self._peer.connected, line, now)

    def receive(self, line: Any, data: bytes, now: float) -> None:
        self._context.copy().run(self._peer.receive, line, data, now)

    def disconnected(self, line: Any, now: float) -> None:
        self._context.copy().run(self._peer.disconnected, line, now)


class Ledger:
    """What a simulated cell itself counts: its charge at every look and every change of control.

    Between two looks the charge is taken to grow evenly, so a current that changes by itself is
    known as well as it is polled.
    """

    def __init__(self, cell: Any) -> None:
        self._cell = cell
        self._times: list[float] = []
        self._charges: list[float] = []
        for name in ("terminal", "source_voltage", "source_current", "open_circuit"):
            setattr(cell, name, self._noting(getattr(cell, name)))

    def _noting(self, method: Any) -> Any:
        def noting(now: float, *arguments: Any) -> Any:
            found = method(now, *arguments)
            self.look(now)
            return found

        return noting

    def look(self, now: float) -> None:
        """Note the charge at laboratory time `now`, s."""
        self._times.append(now)
        self._charges.append(self._cell.charge_passed(now))

    def charge(self, at: float) -> float:
        """Net charge since assembly at a laboratory time (s), C."""
        return float(np.interp(at, self._times, self._charges))


@dataclass
class Mortal:
    """Engines that follow one another on one simulated bench; each may be dropped dead.

    simulation: of the bench, which outlives them. ledgers: of its cells, by name. began: laboratory
    time at which the run began, s, as each program that died took it to be.
    """

    bench: Bench
    folder: Path
    simulation: Any = None
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    began: list[float] = field(default_factory=list)
    _engine: Engine | None = None
    _loop: _Loop = field(default_factory=_Loop)
    _dead: list[_Loop] = field(default_factory=list)

    def __enter__(self) -> Self:
        async def build() -> None:
            self.simulation = simulation_of(self.bench, Clock("virtual"))
            self.ledgers = {name: Ledger(one) for name, one in self.simulation.cells.items()}

        self._loop.run_until_complete(build())
        return self

    def __exit__(self, *_: object) -> None:
        """Bury the dead: nothing of theirs is carried out any more."""
        if self._engine is not None:
            self.drop()
        for loop in (*self._dead, self._loop):
            _bury(loop)

    @property
    def now(self) -> float:
        """Laboratory time, s. Setting it lets the bench live on alone until then."""
        return self._loop.time()

    @now.setter
    def now(self, later: float) -> None:
        assert self._engine is None
        self._loop.run_until_complete(asyncio.sleep(later - self._loop.time()))
        for ledger in self.ledgers.values():
            ledger.look(later)

    def start(self, channel: str, order: Order) -> None:
        """Begin a run in a new program."""
        self._born(lambda engine: engine.run(channel, order, self.folder))

    def resume(self, record: Path, order: Order | None = None) -> None:
        """Begin a new program that goes on with a run."""
        self._born(lambda engine: engine.execute(engine.resume(record, order), self.folder))

    def _born(self, running: Any) -> None:
        assert self._engine is None
        bench, own = contextvars.copy_context(), contextvars.copy_context()
        own.run(_PROGRAM.set, True)

        async def begin() -> None:
            engine = Engine(self.bench, Clock("virtual"))
            engine.simulation = self.simulation
            engine._switchboard = board = Switchboard()
            self.simulation.attach(board)
            board._peers = {at: _Standing(peer, bench) for at, peer in board._peers.items()}
            self._run: asyncio.Task[Run] = self._loop.create_task(running(engine), context=own)
            self._engine = engine

        self._loop.run_until_complete(begin())

    def live(self, seconds: float) -> bool:
        """Let the program run for a time (s) at most; whether its run is over."""

        async def wait() -> None:
            await asyncio.wait({self._run}, timeout=seconds)

        self._loop.run_until_complete(wait())
        return self._run.done()

    def refused(self, within: float = 60.0) -> bool:
        """Whether the program gives up within a time (s) because an instrument is busy."""
        while not self.recording and within > 0.0:
            if self.live(0.5):
                if not isinstance(self._run.exception(), WrongInstrumentError):
                    return False
                self._engine = None
                return True
            within -= 0.5
        return False

    @property
    def record(self) -> Path:
        """Folder of the record of the run under way."""
        assert self._engine is not None
        (run,) = self._engine.under_way.values()
        assert run.folder is not None
        return run.folder

    @property
    def recording(self) -> bool:
        """Whether the run under way has a record already."""
        assert self._engine is not None
        return any(run.folder is not None for run in self._engine.under_way.values())

    def drop(self) -> None:
        """The program is no more: what an operating system does then is done, nothing else."""
        engine, self._engine = self._engine, None
        assert engine is not None
        for run in engine.under_way.values():
            if run.runner is not None:
                self.began.append(run.runner.tally.start)
                recorder: Any = run.runner._recorder
                recorder._connection.close()
                os.close(recorder._lock._descriptor)
                recorder._lock._descriptor = -1
                recorder._refusing = RuntimeError("dead")
        dead, self._loop = self._loop, _Loop()
        self._dead.append(dead)
        self._loop.take_the_bench_from(dead)
        for wire in _wires_of(engine):
            line, wire._line = wire._line, None
            if line is not None and line.alive:
                line.alive = False
                self._loop.call_soon(wire._peer.disconnected, line, self.now)
        assert engine._switchboard is not None
        engine._switchboard._peers.clear()
        self._loop.run_until_complete(asyncio.sleep(0))

    def end(self) -> Run:
        """Let the run come to its end, and give it."""
        assert self._engine is not None
        try:
            return self._loop.run_until_complete(self._run)
        finally:
            self._engine = None


def _bury(loop: _Loop) -> None:
    """Let the tasks of a dead program come to an end; there is nothing that they could reach."""
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=3600.0))
        for task in tasks:
            _ = task.done() and (task.cancelled() or task.exception())
    loop.close()


def _wires_of(engine: Engine) -> list[Any]:
    """Memory wires that the engine's drivers hold."""
    board = engine._switchboard
    return [
        one for one in gc.get_objects() if isinstance(one, MemoryWire) and one._switchboard is board
    ]
