"""The engine: the only executor of runs. Commands, scripts and the station's API wrap it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from secrets import randbits
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    AddressInUseError,
    BadInputError,
    LinkLostError,
    OperandoError,
    RecordError,
    SafeStateError,
)
from operando.instruments.locks import AddressLock, runtime_directory
from operando.instruments.roles import ACTUATORS, Identity, Instrument
from operando.instruments.safety import secure as make_safe
from operando.instruments.simulation import Simulation
from operando.instruments.wires import Switchboard
from operando.protocols import (
    Cell,
    Channel,
    Runner,
    RunState,
    check_actuator,
    check_technique,
)
from operando.records import SqliteRecorder
from operando.station.assembly import instrument_of, simulation_of
from operando.station.guard import Guard
from operando.station.manifest import described_instrument, manifest_of
from operando.station.orders import Order, Settled, cell_of, order_from, settle
from operando.station.preflight import free_space, host_findings
from operando.station.resume import TakenUp, taken_up
from operando.station.runs import Found, Run, UnderWay
from operando.station.served import served_speed
from operando.station.shared import SharedInstrument, SharedInstruments

__all__ = [
    "Engine",
    "Found",
    "Order",
    "Run",
    "Settled",
    "UnderWay",
    "cell_of",
    "exit_code",
    "order_from",
    "settle",
]

NOBODY = Identity("", "")

SURVEY_TIME = 10.0
"""Seconds of the event loop in which an instrument must say who it is, when a bench is surveyed."""


@runtime_checkable
class TellsOutput(Protocol):
    """A driver that can read whether its output is on, without writing a setting."""

    async def output_is_on(self) -> bool:
        """Read the state of the output. Writes nothing. Raises InstrumentError."""
        ...


class Engine:
    """Owns the instruments of a bench while it is open.

    clock: real or scaled to talk to the bench's addresses; virtual to run everything in memory
    against the simulated bench. guard: start the watchdog (always, but in virtual time).
    under_way: runs by channel. found: instruments by name, as they were last met. orphaned:
    instruments whose owner before this engine died without giving them back. alarm: what concerns
    every channel, "". free_space: bytes that are free in a folder.
    """

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self.bench = bench
        self.clock = clock
        self.simulation: Simulation | None = None
        self.under_way: dict[str, UnderWay] = {}
        self.found: dict[str, Found] = {}
        self.orphaned: frozenset[str] = frozenset()
        self.alarm = ""
        self.free_space = free_space
        self._switchboard: Switchboard | None = None
        self._guard: Guard | None = None
        self._claims = ExitStack()
        self._claimed: frozenset[str] = frozenset()
        self._pursued: set[str] = set()
        self._kept: dict[str, AddressLock] = {}
        self._stop_reason = ""
        self._shared = SharedInstruments()

    @property
    def runners(self) -> dict[str, Runner]:
        """Runners by channel, of the runs that have got one and are not over."""
        return {
            channel: run.runner
            for channel, run in tuple(self.under_way.items())
            if run.runner is not None and run.driving
        }

    async def __aenter__(self) -> Self:
        if self.clock.mode == "virtual":
            for entry in self.bench.instruments.values():
                if entry.simulated is None:
                    raise BadInputError(
                        f"{entry.where}: virtual time needs every instrument simulated, and "
                        f"{entry.name} has no table [instruments.{entry.name}.simulated]"
                    )
            self._switchboard = Switchboard()
            simulation: Simulation = simulation_of(self.bench, self.clock)
            simulation.attach(self._switchboard)
            self.simulation = simulation
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all("the engine closes")
        try:
            while self.under_way:
                # Cancels nothing that it waits for.
                await asyncio.wait({run.ended for run in self.under_way.values()})
        finally:
            try:
                if self._guard is not None:
                    await self._guard.close()
            finally:
                self._claimed = frozenset()
                self._claims.close()
                while self._kept:
                    self._kept.popitem()[1].release()

    # ---- the bench -----------------------------------------------------------------------

    async def claim(self, patience: float = 0.0) -> None:
        """Hold the locks of all instruments of the bench until the engine closes.

        patience: wall s for which a lock that is held is asked for again: the watchdog of an
        engine that died may be switching off. Raises AddressInUseError naming the owner.
        """
        if self.clock.mode == "virtual" or self._claimed:
            return
        deadline = time.monotonic() + patience
        orphaned = set()
        with ExitStack() as stack:
            for name, entry in self.bench.instruments.items():
                lock = AddressLock(entry.address)
                while True:
                    before = lock.owner
                    try:
                        stack.enter_context(lock)
                        break
                    except AddressInUseError:
                        if time.monotonic() >= deadline:
                            raise
                        await asyncio.sleep(0.1)
                # A note without a lock: its owner died, and this claim keeps its watchdog out.
                if before is not None:
                    orphaned.add(name)
            self._claims = stack.pop_all()
        self.orphaned = frozenset(orphaned)
        self._claimed = frozenset(self.bench.instruments)

    def _take(self, stack: AsyncExitStack, entry: InstrumentEntry) -> None:
        """Lock an address of real or scaled time until the stack ends, and check its speed.

        One that the watchdog then pursues stays locked until this engine closes: two programs at
        work on it would spoil it for each other. Raises AddressInUseError naming the owner.
        """
        if self.clock.mode == "virtual":
            return
        if entry.name not in self._claimed | self._kept.keys():
            lock = AddressLock(entry.address)
            lock.acquire()
            stack.callback(self._give_back, entry.name, lock)
        self._check_speed(entry)

    def _give_back(self, name: str, lock: AddressLock) -> None:
        if name in self._pursued:
            self._kept[name] = lock
        else:
            lock.release()

    async def survey(self, secure: Collection[str] = ()) -> None:
        """Connect to every instrument, ask who it is, close again; the answers are in `found`.

        Nothing is switched but the instruments named by `secure`, which a run that died may have
        left on: they are brought into their safe state and read back, or pursued by the watchdog.
        Never raises for what is wrong with an instrument. For a bench with no run under way.
        """
        async with asyncio.TaskGroup() as group:
            for entry in self.bench.instruments.values():
                group.create_task(self._look_at(entry, to_secure=entry.name in secure))

    async def switch_off(self, name: str, *, pursue: bool) -> Found:
        """Bring an instrument that no run has into its safe state and read it back.

        Gives what was found; its output is "off" if and only if it was read back off now. pursue:
        let the watchdog go on trying if that fails. Never raises for what is wrong with it.
        """
        entry = self.bench.instruments[name]
        if name in self._watched:
            await self._secure_shared(entry, pursue=pursue)
        else:
            await self._look_at(entry, to_secure=True, pursue=pursue)
        return self.found[name]

    @property
    def _watched(self) -> set[str]:
        """Instruments that several channels may have open."""
        return {name for channel in self.bench.channels.values() for name in channel.shared}

    async def _secure_shared(self, entry: InstrumentEntry, *, pursue: bool) -> None:
        """The same for an instrument that runs of other channels may have open."""
        problem = ""
        try:
            async with self._shared.watch(entry.name, 0.0, self._open, drive=True) as view:
                instrument: Any = view
                await make_safe(instrument)
                self._release(entry.name)
        except SafeStateError as error:
            problem = str(error)
            problem += await self._pursue(entry) if pursue else ""
        except Exception:  # it could not be opened, so that nobody else has it open either
            await self._look_at(entry, to_secure=True, pursue=pursue)
            return
        before = self.found.get(entry.name, Found(simulated=self.is_simulated(entry)))
        output: Literal["off", "unknown"] = "unknown" if problem else "off"
        self.found[entry.name] = replace(before, problem=problem, output=output, at=time.time())

    def _release(self, name: str) -> None:
        """The watchdog need not pursue it any more."""
        if self._guard is not None:
            self._guard.release(name)

    async def _look_at(
        self, entry: InstrumentEntry, *, to_secure: bool, pursue: bool = True
    ) -> None:
        instrument: Instrument | None = None
        problem = ""
        output: Literal["off", "on", "unknown"] = "unknown"
        self.found.pop(entry.name, None)
        try:
            self._check_speed(entry)
            instrument = instrument_of(entry, self.clock, self._switchboard)
            async with asyncio.timeout(SURVEY_TIME):
                await self._connect(instrument, entry)
                if isinstance(instrument, TellsOutput):
                    output = "on" if await instrument.output_is_on() else "off"
        except TimeoutError:
            problem = f"{entry.name} did not say who it is within {SURVEY_TIME:g} s"
        except Exception as error:
            problem = _in_words(error)
        if instrument is not None:
            if to_secure:
                try:
                    await make_safe(instrument)
                    output = "off"
                    self._release(entry.name)
                except OperandoError as error:
                    output, problem = "unknown", "; ".join(filter(None, (problem, str(error))))
                    problem += await self._pursue(entry) if pursue else ""
            with contextlib.suppress(OperandoError, OSError):
                await instrument.close()
        before = self.found.get(entry.name, Found(simulated=self.is_simulated(entry)))
        self.found[entry.name] = replace(before, problem=problem, output=output, at=time.time())

    async def _pursue(self, entry: InstrumentEntry) -> str:
        """Let the watchdog go on trying to switch an instrument off; what came of it, in words."""
        identity = self.found.get(entry.name, Found()).identity
        serial = entry.expect.serial if identity is None else identity.serial
        try:
            await self._put_under_guard(entry, serial)
        except (OperandoError, OSError) as error:
            return f"; {error}"
        if self._guard is not None:
            self._guard.pursue(entry.name)
        return "; the watchdog goes on trying"

    async def _connect(self, instrument: Instrument, entry: InstrumentEntry) -> Identity:
        simulated = self.is_simulated(entry)
        try:
            identity = await instrument.connect()
        except Exception as error:
            failure = error
            if (
                isinstance(error, LinkLostError)
                and entry.simulated is not None
                and self.clock.mode != "virtual"
            ):
                failure = LinkLostError(
                    f"{entry.name} does not answer ({error}). It is a simulated instrument: start "
                    f"it with 'operando simulate {self.bench.path.name}' in another terminal, or "
                    "run with --virtual"
                )
            self.found[entry.name] = Found(problem=_in_words(failure), simulated=simulated)
            if failure is error:
                raise
            raise failure from error
        self.found[entry.name] = Found(identity, simulated=simulated)
        return identity

    # ---- runs ----------------------------------------------------------------------------

    async def run(self, channel: str, order: Order, output: Path) -> Run:
        """Run an order on a channel and leave its record in a new folder under `output`.

        Raises BadInputError, AddressInUseError or InstrumentError for what is found before the
        record exists; afterwards the result says how the run ended.
        """
        return await self.execute(self.begin(channel, order), output)

    def resume(self, folder: Path, order: Order | None = None) -> UnderWay:
        """Take the channel of a run whose program died, to go on with it; touches nothing.

        folder: of its record. order: what it was to do; that of its recipe if None. `execute`
        carries it out. Raises BadInputError, RecordError.
        """
        again = taken_up(self.bench, self.clock, folder, order)
        return self.begin(again.settled.entry.name, again.order, again.settled, again)

    def begin(
        self,
        channel: str,
        order: Order,
        settled: Settled | None = None,
        again: TakenUp | None = None,
    ) -> UnderWay:
        """Take a channel for a run, which `execute` must carry out next; touches nothing.

        settled: the order resolved for this channel already. again: the run that goes on. Raises
        BadInputError.
        """
        if settled is None:
            settled = settle(self.bench, channel, order)
        if channel in self.under_way:
            raise BadInputError(f"channel {channel} is running already")
        for other in self.under_way.values():
            if other.settled.cell.name == settled.cell.name:
                raise BadInputError(
                    f"cell {settled.cell.name} is being run on channel {other.channel}; two "
                    "instruments must not drive one cell"
                )
        self._check_others_off(settled)
        loop = asyncio.get_running_loop()
        run = UnderWay(channel, order, settled, loop.create_future(), loop.create_future(), again)
        run.stop_reason = self._stop_reason
        self.under_way[channel] = run
        return run

    def _check_others_off(self, settled: Settled) -> None:
        """Refuse a cell that another channel's instrument drives, or may drive, still."""
        for other in self.bench.channels.values():
            name = other.roles.get("potentiostat", "")
            if other.cell != settled.cell.name or name == settled.entry.roles["potentiostat"]:
                continue
            if name in self._pursued or self.found.get(name, Found()).output == "on":
                raise BadInputError(
                    f"{name} of channel {other.name} is on the same cell, and its output is not "
                    "known to be off. Stop it there first"
                )

    async def execute(self, run: UnderWay, output: Path) -> Run:
        """Carry out what was begun, see `run`."""
        try:
            async with AsyncExitStack() as stack:
                return await self._execute(stack, run, output)
        finally:
            run.driving = False
            self.under_way.pop(run.channel, None)
            run.recorded.cancel()
            if not run.ended.done():
                run.ended.set_result(None)

    async def _execute(self, stack: AsyncExitStack, run: UnderWay, output: Path) -> Run:
        settled, entry = run.settled, run.settled.entry
        instruments: dict[str, Instrument] = {}
        identities: dict[str, Identity] = {}
        for name in dict.fromkeys((*entry.roles.values(), *entry.shared)):
            described = self.bench.instruments[name]
            if name in self._watched:
                drive = name in entry.roles.values()
                patience = 0.5 * settled.settings.poll.of(name)
                view = self._shared.watch(name, patience, self._open, drive=drive)
                instruments[name] = await stack.enter_async_context(view)
                identities[name] = self.found[name].identity or NOBODY
                continue
            self._take(stack, described)
            instrument = instrument_of(described, self.clock, self._switchboard)
            stack.push_async_callback(instrument.close)
            identities[name] = await self._connect(instrument, described)
            instruments[name] = instrument
        potentiostat: Any = instruments[entry.roles["potentiostat"]]
        names = {role: name for role, name in entry.roles.items() if role in ACTUATORS}
        actuators = {role: instruments[name] for role, name in names.items()}
        for step in settled.preview.steps:
            potentiostat.check(step.setpoint(max(map(abs, settled.settings.protection.voltage))))
            check_technique(step, potentiostat)
            check_actuator(step, actuators, entry.name)
        if run.again is not None:
            for name, identity in identities.items():
                simulated = self.is_simulated(self.bench.instruments[name])
                run.again.check_instrument(name, identity, simulated=simulated)
        driven = entry.roles["potentiostat"]
        monitors: Any = {name: one for name, one in instruments.items() if name != driven}
        guarded: list[str] = []

        async def guard_it(name: str) -> None:
            if await self._put_under_guard(self.bench.instruments[name], identities[name].serial):
                guarded.append(name)

        await guard_it(driven)
        try:
            again, started = run.again, self.clock.utc()
            others = [one.settled for one in self.under_way.values() if one is not run]
            seen = host_findings(settled, self.bench, self.clock, output, beside=others,
                                 free=self.free_space)  # fmt: skip
            folder = _new_folder(output, started, entry.name, run.order.plan.protocol.name)
            met = {
                name: described_instrument(
                    self.bench.instruments[name], identity, instruments[name],
                    simulated=self.is_simulated(self.bench.instruments[name]),
                )
                for name, identity in identities.items()
            }  # fmt: skip
            seed = settled.cell.entry.seed if self.clock.mode == "virtual" else randbits(32)
            cell = replace(settled.cell, seed=seed)
            manifest = manifest_of(settled, run.order, self.bench, met, started, self.clock, seed)
            if again is not None:
                folder, manifest, cell = again.folder, dict(again.manifest), again.cell
                started = again.started(self.clock)
            inline = self.clock.mode == "virtual"
            recorder = SqliteRecorder(folder, manifest, inline=inline, resuming=again is not None)
            stack.push_async_callback(recorder.close)
            runner = Runner(
                Channel(entry.name, cell, potentiostat, monitors, names),
                run.order.plan,
                replace(settled.settings, found=seen),
                recorder,
                self.clock,
                guard_it,
                None if again is None else again.resumption,
                None if again is None else self.clock.now() - (self.clock.utc() - started),
            )
            run.runner, run.folder, run.started, run.driving = runner, folder, started, True
            run.recorded.set_result(folder)
            if run.stop_reason:  # asked for while the instruments were being connected
                runner.abort(run.stop_reason)
            try:
                result = await runner.run()
            finally:
                run.driving = False
        finally:
            for name in guarded:
                assert self._guard is not None
                if run.verified_off if name == driven else run.is_safe(name):
                    self._guard.release(name)
                else:
                    self._pursued.add(name)
                    self._guard.pursue(name)
        try:
            await recorder.close()
        except RecordError as error:
            if result.state is not RunState.FAULTED:
                result = replace(result, state=RunState.FAULTED, reason=str(error))
        return Run(result, folder)

    async def _open(self, name: str, stack: AsyncExitStack) -> SharedInstrument:
        """Connect an instrument that several runs watch, until the last of them has ended."""
        described = self.bench.instruments[name]
        self._take(stack, described)
        instrument: Any = instrument_of(described, self.clock, self._switchboard)
        stack.push_async_callback(instrument.close)
        await self._connect(instrument, described)
        return SharedInstrument(instrument, self.clock)

    async def _put_under_guard(self, entry: InstrumentEntry, serial: str) -> bool:
        """Whether the watchdog has it now: always, but in virtual time."""
        if self.clock.mode == "virtual":
            return False
        if self._guard is None or not self._guard.alive:
            log = runtime_directory() / "watchdog.log"
            self._guard = Guard(log, self)
            await self._guard.start()
            self.alarm = ""
        await self._guard.guard(
            entry.name, entry.driver, entry.address, dict(entry.settings), serial
        )
        return True

    def on_watchdog_death(self, why: str) -> None:
        """No output stays on without the watchdog."""
        self.alarm = f"{why}: every run was ended; the next run starts another watchdog"
        for runner in self.runners.values():
            runner.fault(f"{why}; no output stays on without it")

    def on_watchdog_acted(self, instruments: Collection[str], why: str) -> None:
        """The watchdog switched outputs off behind the backs of their runs."""
        for channel, runner in self.runners.items():
            if self.bench.channels[channel].roles["potentiostat"] in instruments:
                runner.hold(f"the watchdog switched the output off: {why}")
            for name in instruments:
                runner.lost(name, f"the watchdog brought it into its safe state: {why}")

    async def on_standstill(self, seconds: float) -> None:
        """This process stood still for `seconds` of wall time."""
        for runner in tuple(self.runners.values()):
            try:
                await runner.stood_still(self.clock.lab(seconds))
            except RecordError as error:
                runner.fault(f"the record failed: {error}")

    def stop_all(self, reason: str, *, later: bool = True) -> None:
        """Abort every run, those that are being prepared too; each ends in its safe state.

        later: runs that are asked for afterwards are aborted too, because all is to end.
        """
        if later:
            self._stop_reason = self._stop_reason or reason
        for run in tuple(self.under_way.values()):
            run.stop(reason)

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

    def _check_speed(self, entry: InstrumentEntry) -> None:
        speed = served_speed(entry.address)
        if speed is not None and speed != self.clock.speed:
            raise BadInputError(
                f"{entry.where}: {entry.name} at {entry.address} is simulated at speed {speed:g}, "
                f"but this run has speed {self.clock.speed:g}; use --speed {speed:g}, or serve the "
                "bench again"
            )

    def is_simulated(self, entry: InstrumentEntry) -> bool:
        """Whether readings of this instrument come from a simulation."""
        if self.clock.mode == "virtual" or served_speed(entry.address) is not None:
            return True
        return entry.simulated is not None and self.bench.speed != 1.0


def _in_words(error: Exception) -> str:
    """An error for people: ours say what to do, others also say what they are."""
    return str(error) if isinstance(error, OperandoError) else f"{type(error).__name__}: {error}"


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
