"""The engine: the only executor of runs. Commands, scripts and the station's API wrap it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import time
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from operando.instruments.bench import Bench, ChannelEntry, InstrumentEntry
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError, LinkLostError, RecordError
from operando.instruments.limits import Limit
from operando.instruments.locks import AddressLock, runtime_directory
from operando.instruments.recipe import Poll, Recipe, RecordConditions
from operando.instruments.roles import Identity, Instrument, Protection
from operando.instruments.simulation import Simulation
from operando.instruments.wires import Switchboard
from operando.protocols import (
    Cell,
    Channel,
    OpenCircuitWindow,
    Plan,
    Preview,
    Runner,
    RunResult,
    RunSettings,
    RunState,
    preview,
    with_defaults,
)
from operando.protocols.tally import ELECTRICAL
from operando.records import SqliteRecorder
from operando.station.assembly import (
    check_role,
    driver_info,
    instrument_of,
    protocol_function,
    simulated_bench,
)
from operando.station.guard import Guard
from operando.station.served import served_speed

OPEN_CIRCUIT_BELOW = 0.5
OPEN_CIRCUIT_ABOVE = 0.05
"""Accepted open-circuit voltage of a cell before its first step: the protocol's window widened by
these volts. A freshly assembled cell rests well below its window (about 2.6 V vs Li)."""


@dataclass(frozen=True)
class Order:
    """All that a run needs to know beside the bench.

    limits: those asked for; default ones are added for what they leave unguarded.
    open_circuit: accepted voltage before the first step, V; None derives it from the window.
    recipe_text: the recipe as written, for the record.
    """

    plan: Plan
    limits: tuple[Limit, ...] = ()
    record: RecordConditions = field(default_factory=RecordConditions)
    poll: Poll = field(default_factory=Poll)
    open_circuit: tuple[float, float] | None = None
    check_open_circuit: bool = True
    recipe_text: str = ""


def order_from(recipe: Recipe) -> Order:
    """What a recipe orders. Raises BadInputError for an unknown protocol or parameter."""
    return Order(
        plan=protocol_function(recipe.protocol).plan(recipe.parameters, where=recipe.where),
        limits=recipe.limits,
        record=recipe.record,
        poll=recipe.poll,
        open_circuit=recipe.open_circuit,
        check_open_circuit=recipe.check_open_circuit,
        recipe_text=recipe.source,
    )


@dataclass(frozen=True)
class Settled:
    """An order resolved for one channel: every number in SI units, nothing connected yet."""

    entry: ChannelEntry
    cell: Cell
    preview: Preview
    limits: tuple[Limit, ...]
    settings: RunSettings


def cell_of(bench: Bench, channel: str) -> Cell:
    """The cell on a channel. Raises BadInputError for an unknown channel or one without cell."""
    entry = bench.channels.get(channel)
    if entry is None:
        raise BadInputError(
            f"{bench.path.name}: there is no channel '{channel}'; it has: "
            + ", ".join(sorted(bench.channels))
        )
    if not entry.cell:
        raise BadInputError(f'{entry.where}: channel {channel} names no cell; add cell = "..."')
    return Cell(bench.cells[entry.cell])


def settle(bench: Bench, channel: str, order: Order) -> Settled:
    """Resolve an order for a channel. Raises BadInputError; touches nothing."""
    cell = cell_of(bench, channel)
    entry = bench.channels[channel]
    for role, name in entry.roles.items():
        check_role(role, bench.instruments[name], channel)
    if "potentiostat" not in entry.roles:
        raise BadInputError(f"{entry.where}: channel {channel} has no potentiostat")
    ahead = preview(order.plan, cell)
    limits = with_defaults(order.limits, order.plan, ahead.highest_current, order.poll.interval)
    limits = tuple(
        limit.bind(capacity=cell.entry.capacity, area=cell.entry.area, mass=cell.entry.active_mass)
        for limit in limits
    )
    lower, upper = order.plan.window()
    window = order.open_circuit or (lower - OPEN_CIRCUIT_BELOW, upper + OPEN_CIRCUIT_ABOVE)
    settings = RunSettings(
        poll=order.poll,
        limits=limits,
        record=order.record,
        protection=Protection((lower, upper), ahead.highest_current),
        open_circuit=OpenCircuitWindow(*window) if order.check_open_circuit else None,
    )
    _check_limits(limits, entry)
    _check_windows(limits, ahead, order.poll)
    _check_staleness(limits, entry, order.poll)
    return Settled(entry, cell, ahead, limits, settings)


def _check_windows(limits: tuple[Limit, ...], ahead: Preview, poll: Poll) -> None:
    """A slope needs three readings; over a shorter window it would never be defined."""
    slowest = max((poll.interval, *poll.instruments.values()))
    conditions = [limit.when for limit in limits]
    conditions += [condition for step in ahead.steps for condition in step.until]
    for condition in conditions:
        if any(window < 3.0 * slowest for window in condition.windows):
            raise BadInputError(
                f"condition '{condition}': its window holds fewer than three readings at one in "
                f"{slowest:g} s; widen the window, or poll faster ([poll] interval)"
            )


def _check_staleness(limits: tuple[Limit, ...], entry: ChannelEntry, poll: Poll) -> None:
    """A limit must not take the time between two polls for a sensor that fell silent."""
    slowest = max(map(poll.of, entry.roles.values()), default=poll.interval)
    for limit in limits:
        if limit.stale_after < 2.0 * slowest:
            raise BadInputError(
                f"limit {limit.name} counts a reading as missing after {limit.stale_after:g} s, "
                f"but there is one in {slowest:g} s; write stale_after = "
                f'"{3.0 * slowest:g} s" into it, or poll faster ([poll] interval)'
            )


def _check_limits(limits: tuple[Limit, ...], entry: ChannelEntry) -> None:
    """A limit on a quantity that nothing on the channel measures would never act."""
    measured = set(ELECTRICAL)
    if "load_cell" in entry.roles:
        measured.add("pressure")
    for limit in limits:
        for quantity in sorted(limit.when.quantities - measured):
            raise BadInputError(
                f"limit {limit.name} watches {quantity}, but nothing on channel {entry.name} "
                f"({entry.where}) measures it"
            )


@dataclass(frozen=True)
class Run:
    """A run that has ended: how, and where its record is."""

    result: RunResult
    folder: Path


class Engine:
    """Owns the instruments of a bench while it is open.

    clock: real or scaled to talk to the bench's addresses; virtual to run everything in memory
    against the simulated bench. guard: start the watchdog (always, but in virtual time).
    """

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self.bench = bench
        self.clock = clock
        self.simulation: Simulation | None = None
        self.runners: dict[str, Runner] = {}
        self._switchboard: Switchboard | None = None
        self._running: set[asyncio.Future[None]] = set()
        self._guard: Guard | None = None
        self._taken: set[str] = set()
        self._stop_reason = ""

    async def __aenter__(self) -> Self:
        if self.clock.mode == "virtual":
            for entry in self.bench.instruments.values():
                if entry.simulated is None:
                    raise BadInputError(
                        f"{entry.where}: virtual time needs every instrument simulated, and "
                        f"{entry.name} has no table [instruments.{entry.name}.simulated]"
                    )
            self._switchboard = Switchboard()
            self.simulation = simulated_bench()(self.bench, self.clock)
            self.simulation.attach(self._switchboard)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all("the engine closes")
        try:
            while self._running:
                await asyncio.wait(set(self._running))  # cancels nothing that it waits for
        finally:
            if self._guard is not None:
                await self._guard.close()

    async def run(self, channel: str, order: Order, output: Path) -> Run:
        """Run an order on a channel and leave its record in a new folder under `output`.

        Raises BadInputError, AddressInUseError or InstrumentError for what is found before the
        record exists; afterwards the result says how the run ended.
        """
        settled = settle(self.bench, channel, order)
        if channel in self._taken:
            raise BadInputError(f"channel {channel} is running already")
        self._taken.add(channel)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running.add(ended)
        try:
            async with AsyncExitStack() as stack:
                return await self._run(stack, settled, order, output)
        finally:
            self._taken.discard(channel)
            if not ended.done():
                ended.set_result(None)
            self._running.discard(ended)

    async def _run(
        self, stack: AsyncExitStack, settled: Settled, order: Order, output: Path
    ) -> Run:
        entry = settled.entry
        instruments: dict[str, Instrument] = {}
        identities: dict[str, Identity] = {}
        for name in dict.fromkeys(entry.roles.values()):
            described = self.bench.instruments[name]
            if self.clock.mode != "virtual":
                stack.enter_context(AddressLock(described.address))
                self._check_speed(described)
            instrument = instrument_of(described, self.clock, self._switchboard)
            stack.push_async_callback(instrument.close)
            identities[name] = await self._connect(instrument, described)
            instruments[name] = instrument
        potentiostat: Any = instruments[entry.roles["potentiostat"]]
        for step in settled.preview.steps:
            potentiostat.check(step.setpoint(max(map(abs, settled.settings.protection.voltage))))
        monitors: Any = {
            name: instruments[name] for role, name in entry.roles.items() if role != "potentiostat"
        }
        off = True  # nothing is switched on before the runner runs
        guarded = await self._put_under_guard(entry, identities)
        guard = self._guard
        try:
            started = self.clock.utc()
            folder = _new_folder(output, started, entry.name, order.plan.protocol.name)
            manifest = self._manifest(settled, order, identities, instruments, started)
            recorder = SqliteRecorder(folder, manifest, inline=self.clock.mode == "virtual")
            stack.push_async_callback(recorder.close)
            runner = Runner(
                Channel(entry.name, settled.cell, potentiostat, monitors),
                order.plan,
                settled.settings,
                recorder,
                self.clock,
            )
            self.runners[entry.name] = runner
            if self._stop_reason:  # asked for while the instruments were being connected
                runner.abort(self._stop_reason)
            try:
                result = await runner.run()
            finally:
                off = runner.verified_off
                del self.runners[entry.name]
        finally:
            if guarded is not None and guard is not None:
                if off:
                    guard.release(guarded)
                else:
                    guard.pursue(guarded)
        try:
            await recorder.close()
        except RecordError as error:
            if result.state is not RunState.FAULTED:
                result = replace(result, state=RunState.FAULTED, reason=str(error))
        return Run(result, folder)

    async def _connect(self, instrument: Instrument, entry: InstrumentEntry) -> Identity:
        try:
            return await instrument.connect()
        except LinkLostError as error:
            if entry.simulated is None or self.clock.mode == "virtual":
                raise
            raise LinkLostError(
                f"{entry.name} does not answer ({error}). It is a simulated instrument: start it "
                f"with 'operando simulate {self.bench.path.name}' in another terminal, or run with "
                "--virtual"
            ) from error

    async def _put_under_guard(
        self, entry: ChannelEntry, identities: Mapping[str, Identity]
    ) -> str | None:
        if self.clock.mode == "virtual":
            return None
        if self._guard is None or not self._guard.alive:
            log = runtime_directory() / "watchdog.log"
            self._guard = Guard(log, self)
            await self._guard.start()
        name = entry.roles["potentiostat"]
        described = self.bench.instruments[name]
        await self._guard.guard(
            name, described.driver, described.address, dict(described.settings),
            identities[name].serial,
        )  # fmt: skip
        return name

    def on_watchdog_death(self, why: str) -> None:
        """No output stays on without the watchdog."""
        for runner in self.runners.values():
            runner.fault(f"{why}; no output stays on without it")

    def on_watchdog_acted(self, instruments: Collection[str], why: str) -> None:
        """The watchdog switched outputs off behind the backs of their runs."""
        for channel, runner in self.runners.items():
            if self.bench.channels[channel].roles["potentiostat"] in instruments:
                runner.hold(f"the watchdog switched the output off: {why}")

    async def on_standstill(self, seconds: float) -> None:
        """This process stood still for `seconds` of wall time."""
        for runner in tuple(self.runners.values()):
            try:
                await runner.stood_still(self.clock.lab(seconds))
            except RecordError as error:
                runner.fault(f"the record failed: {error}")

    def stop_all(self, reason: str) -> None:
        """Abort every run, those that are being prepared too; each ends in its safe state."""
        self._stop_reason = reason
        for runner in self.runners.values():
            runner.abort(reason)

    def pause_all(self) -> None:
        """Pause every run; each opens its circuit and keeps its step's time and charge."""
        for runner in self.runners.values():
            runner.pause()

    def resume_all(self) -> None:
        """Resume every paused or held run."""
        for runner in self.runners.values():
            runner.resume()

    def cell_of(self, channel: str) -> Cell:
        """The cell on a channel. Raises BadInputError."""
        return cell_of(self.bench, channel)

    def _manifest(
        self,
        settled: Settled,
        order: Order,
        identities: Mapping[str, Identity],
        instruments: Mapping[str, Instrument],
        started: float,
    ) -> dict[str, Any]:
        plan, cell = order.plan, settled.cell.entry
        described: dict[str, Any] = {}
        for name, identity in identities.items():
            entry = self.bench.instruments[name]
            described[name] = {
                "driver": entry.driver,
                "document": driver_info(entry.driver).document,
                "address": entry.address,
                "identity": asdict(identity),
                "settings": dict(entry.settings),
                "calibration": getattr(instruments[name], "calibration", None),
                "simulated": self._is_simulated(entry),
            }
        return {
            "started": datetime.fromtimestamp(started, UTC).isoformat(),
            "channel": settled.entry.name,
            "roles": dict(settled.entry.roles),
            "cell": {
                "name": cell.name,
                "capacity": cell.capacity,
                "active_mass": cell.active_mass,
                "area": cell.area,
                "one_c": cell.one_c,
                "preset": cell.preset,
                "metadata": dict(cell.metadata),
            },
            "seed": cell.seed,
            "instruments": described,
            "bench": self.bench.path.read_text(encoding="utf-8"),
            "protocol": {
                "name": plan.protocol.name,
                "source": plan.protocol.source,
                "source_hash": plan.protocol.source_hash,
                "parameters": dict(plan.parameters),
            },
            "recipe": order.recipe_text,
            "limits": {
                limit.name: {"when": str(limit.when), "action": limit.action.value}
                for limit in settled.limits
            },
            "poll_interval": settled.settings.poll.interval,
            "software": {
                "operando": importlib.metadata.version("operando"),
                "python": platform.python_version(),
                "platform": platform.platform(),
            },
            "clock": {"mode": self.clock.mode, "speed": self.clock.speed},
            "simulated": any(self._is_simulated(self.bench.instruments[n]) for n in identities),
        }

    def _check_speed(self, entry: InstrumentEntry) -> None:
        speed = served_speed(entry.address)
        if speed is not None and speed != self.clock.speed:
            raise BadInputError(
                f"{entry.where}: {entry.name} at {entry.address} is simulated at speed {speed:g}, "
                f"but this run has speed {self.clock.speed:g}; use --speed {speed:g}, or serve the "
                "bench again"
            )

    def _is_simulated(self, entry: InstrumentEntry) -> bool:
        """Whether readings of this instrument come from a simulation."""
        if self.clock.mode == "virtual" or served_speed(entry.address) is not None:
            return True
        return entry.simulated is not None and self.bench.speed != 1.0


def _new_folder(output: Path, started: float, channel: str, protocol: str) -> Path:
    """A folder name that sorts by time and does not exist yet; the recorder makes it."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started))
    base = output / f"{stamp}_{channel}_{protocol}"
    folder, count = base, 1
    while folder.exists():
        count += 1
        folder = base.with_name(f"{base.name}_{count}")
    return folder


def exit_code(state: RunState) -> int:
    """Exit code of a command for the state in which a run ended."""
    return {
        RunState.COMPLETED: 0,
        RunState.REFUSED: 2,
        RunState.TRIPPED: 3,
        RunState.ABORTED: 4,
    }.get(state, 5)
