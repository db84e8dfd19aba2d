"""The desk: the face of the engine for other threads, in which the API answers its clients.

The engine lives in one event loop and the API in another, in a thread of its own, so that no
request's arithmetic stands between a reading and its limit. States are read across; whatever
changes something is carried out in the engine's loop.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from operando.instruments.errors import BadInputError, OperandoError
from operando.protocols import RunState
from operando.station.channel_state import Acknowledgements, LastRun, ended, last_run
from operando.station.client.client import RefusedError
from operando.station.client.models import (
    ChannelStatus,
    CheckReport,
    Done,
    ProtocolInfo,
    RunRequest,
    Started,
)
from operando.station.edits import change_limit, end_step, new_condition
from operando.station.engine import Engine, Order, Settled, UnderWay
from operando.station.requests import Checked, check_request, protocol_infos
from operando.station.resume import TakenUp, taken_up
from operando.station.starts import Asked, Starts, begun, recorded
from operando.station.status import cell_on, instruments_on, of_current, of_last
from operando.station.taking_over import with_actuators, with_obstacle, with_output

T = TypeVar("T")

SOMEBODY = "a client"
"""Who asked, when nobody said."""

END_OF_RUN = 45.0
"""Wall s for which a command waits until a run has ended; less than a client's patience."""


class Desk:
    """Runs and states of one engine, for any thread.

    engine, loop: the engine and the event loop in which it lives. output: folder of the records.
    instance: different for each start of a station. started: Unix time, s. shut_down_asked: set
    in the engine's loop when a client asks for the end of the station.
    """

    def __init__(
        self, engine: Engine, loop: asyncio.AbstractEventLoop, output: Path, *, simulated: bool
    ) -> None:
        self.instance = secrets.token_hex(8)
        self.started = time.time()
        self.bench = engine.bench
        self.bench_name = engine.bench.path.name
        self.simulated = simulated
        self.speed = engine.clock.speed
        self.version = importlib.metadata.version("operando")
        self.output = output
        self.shut_down_asked = asyncio.Event()
        self._engine = engine
        self._loop = loop
        self._lock = threading.Lock()
        self._last = dict.fromkeys(engine.bench.channels, LastRun())
        self._current: dict[str, UnderWay] = {}
        self._tasks: dict[str, asyncio.Task[str]] = {}
        self._switching_off: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, int] = dict.fromkeys(engine.bench.channels, 0)
        self._starts = Starts()
        self._taking_up: dict[str, asyncio.Future[Started | str]] = {}
        self._seen = Acknowledgements(output)
        self._ending = ""
        self._is_simulated = {
            name: engine.is_simulated(entry) for name, entry in engine.bench.instruments.items()
        }

    # ---- in the engine's loop ------------------------------------------------------------

    async def open(self) -> None:
        """Look at the instruments and at how the last runs of the channels ended.

        What a run that died may have left on is switched off and read back; nothing else is
        switched. Before the first run.
        """
        bench = self._engine.bench
        last = {name: last_run(self.output, bench, name, self._seen) for name in bench.channels}
        potentiostats = self._potentiostats
        orphaned = {
            name
            for name, instrument in potentiostats.items()
            if (last[name].attention and last[name].output != "off")
            or instrument in self._engine.orphaned
        }
        told = {
            instrument
            for name, run in last.items()
            if run.attention
            for instrument in run.unsafe
            if instrument in bench.channels[name].roles.values()
        }
        await self._engine.survey({potentiostats[name] for name in orphaned} | told)
        for name, run in last.items():
            potentiostat = potentiostats.get(name, "")
            found = self._engine.found.get(potentiostat)
            now = with_actuators(run, told, self._engine.found)
            now = with_output(now, potentiostat, found, orphaned=name in orphaned)
            self._last[name] = with_obstacle(now, self._engine, self.output)

    def end(self, reason: str) -> None:
        """End every run in its safe state and start no other; in the engine's loop."""
        self._ending = self._ending or reason
        self._engine.stop_all(reason)

    async def at_rest(self) -> tuple[str, ...]:
        """Wait until every run has ended; channels that may be on.

        That is whatever was found or left on, and what a run had whose end nobody could verify. An
        instrument that no run has had and that does not answer is not among them.
        """
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))
        if self._switching_off:
            await asyncio.wait(set(self._switching_off.values()))
        last = {name: self._last[name] for name in self._potentiostats}
        return tuple(
            name
            for name, run in last.items()
            if run.output == "on" or (run.output == "unknown" and (run.run or run.attention))
        )

    def unsafe(self) -> tuple[str, ...]:
        """Chambers and presses that runs have driven and nobody has read back safe, in words."""
        return tuple(
            f"channel {channel}: {name} IS NOT KNOWN TO BE IN ITS SAFE STATE; look at it. Its last "
            f"run is {last.run}, {last.state}: {last.reason}"
            for channel, last in self._last.items()
            for name in last.unsafe
        )

    # ---- what there is -------------------------------------------------------------------

    def alarm(self) -> str:
        """What concerns every channel, "" if nothing does."""
        ending = f"the station is ending: {self._ending}" if self._ending else ""
        return "; ".join(filter(None, (self._engine.alarm, ending)))

    def protocols(self) -> list[ProtocolInfo]:
        """The protocols that are installed, then those of the bench's folder of scripts."""
        return protocol_infos(self._engine.bench.scripts)

    def statuses(self) -> tuple[ChannelStatus, ...]:
        """Every channel as it is now, without what only the records know."""
        return tuple(map(self._status, self._engine.bench.channels))

    def _status(self, name: str) -> ChannelStatus:
        # The run first: it is taken away after its end has become the last run.
        run = self._current.get(name)
        fixed: dict[str, Any] = {"name": name, "cell": cell_on(self._engine.bench, name)}
        instruments = instruments_on(self._engine, name, self._is_simulated)
        fixed["instruments"] = instruments
        fixed["simulated"] = any(one.simulated for one in instruments)
        if run is None:
            fixed["stopping"] = self._is_switched(name)
            return ChannelStatus(**fixed, **of_last(self._last[name]))
        return ChannelStatus(**fixed, **of_current(run, self._last[name], self._engine.clock))

    # ---- commands ------------------------------------------------------------------------

    def check(self, channel: str, request: RunRequest) -> CheckReport:
        """What a request would do on a channel, or all that is wrong with it; touches nothing."""
        self._require(channel)
        return self._checked(channel, request).report

    def _checked(self, channel: str, request: RunRequest) -> Checked:
        return check_request(self._engine.bench, channel, request)

    async def start(self, channel: str, request: RunRequest, request_id: str = "") -> Started:
        """Start a run; returns when its record exists. Raises RefusedError.

        request_id: of two starts with the same one on a channel the second begins nothing; it is
        answered as the first. "" is no id.
        """
        self._require(channel)
        asked = self._starts.asked(channel, request, request_id, self._stops[channel])
        if asked.answer is not None:
            return await self._in_engine(begun(channel, asked.answer))
        if self._in_loop():
            checked = self._checked(channel, request)
        else:
            # However long a recipe takes to check, no stop waits for it.
            checked = await asyncio.to_thread(self._checked, channel, request)
        if not checked.report.ok:
            problems = checked.report.problems
            raise RefusedError(problems[0].message, problems)
        return await self._in_engine(self._start(channel, checked, asked))

    async def _start(self, channel: str, checked: Checked, asked: Asked) -> Started:
        if asked.answer is None:
            last = self._last[channel]
            self._must_be_free(channel, asked.stops)
            if last.attention:
                why = f"its last run is {last.state}: " if last.run else ""
                raise RefusedError(
                    f"channel {channel} is latched until somebody acknowledges it: {why}"
                    f"{last.reason}"
                )
            assert checked.order is not None
            asked.answer = self._begin(channel, checked.order, checked.settled)
        return await begun(channel, asked.answer)

    async def go_on(self, channel: str, run: str = "") -> Started:
        """Go on with the last run of a channel, which was killed; returns when it is taken up.

        run: which run is meant; "" is any. Asked for twice it is begun once. It counts as seen.
        Raises RefusedError, also when nobody can go on with it.
        """
        self._require(channel)
        current, last, stops = self._current.get(channel), self._last[channel], self._stops[channel]
        again = current.again if current is not None else None
        if again is not None and run in ("", again.folder.name):
            return await self._in_engine(self._go_on(channel, again, stops))
        if run and run != last.run:
            raise RefusedError(
                f"the last run of channel {channel} is {last.run or 'none'} ({last.state}), not "
                f"{run}; only the last can go on"
            )
        if last.run is None or last.state != "killed" or current is not None:
            state = "under way" if current is not None else last.state
            raise RefusedError(f"channel {channel}: there is nothing to continue, it is {state}")
        folder, engine = self.output / last.run, self._engine
        try:
            if self._in_loop():
                again = taken_up(engine.bench, engine.clock, folder)
            else:
                again = await asyncio.to_thread(taken_up, engine.bench, engine.clock, folder)
        except OperandoError as error:
            raise RefusedError(str(error)) from None
        return await self._in_engine(self._go_on(channel, again, stops))

    async def _go_on(self, channel: str, again: TakenUp, stops: int) -> Started:
        current = self._current.get(channel)
        if current is None or current.again is None or current.again.folder != again.folder:
            self._must_be_free(channel, stops)
            self._taking_up[channel] = self._begin(channel, again.order, again.settled, again)
        return await begun(channel, self._taking_up[channel])

    def _must_be_free(self, channel: str, stops: int) -> None:
        """Raise RefusedError unless a run may begin. stops: of the channel when it was asked."""
        if self._ending:
            raise RefusedError(f"the station is ending: {self._ending}")
        if self._stops[channel] != stops:
            raise RefusedError(
                f"channel {channel} was stopped while this run was being checked; start it again "
                "if it is still wanted"
            )
        if self._is_switched(channel):
            raise RefusedError(
                f"the output of channel {channel} is being switched off and read back; start "
                "again in a moment"
            )
        if channel in self._current:
            raise RefusedError(f"channel {channel} is running already")

    def _begin(
        self, channel: str, order: Order, settled: Settled | None, again: TakenUp | None = None
    ) -> asyncio.Future[Started | str]:
        """Take the channel for a run and carry it out; the future answers whoever asked for it."""
        try:
            run = self._engine.begin(channel, order, settled, again)
        except BadInputError as error:
            raise RefusedError(str(error)) from None
        self._current[channel] = run
        # Tasks of their own: a client that goes away takes nothing with it.
        task = self._tasks[channel] = asyncio.create_task(self._carry_out(run))
        return asyncio.create_task(recorded(run, task))

    async def _carry_out(self, run: UnderWay) -> str:
        """Carry a run out; why it came to no record, "" if it did."""
        why = ""
        last: LastRun | None = None
        try:
            try:
                last = ended(run, await self._engine.execute(run, self.output))
            except Exception as error:
                ours = isinstance(error, OperandoError)
                why = str(error) if ours else f"{type(error).__name__}: {error}"
                if run.runner is not None:
                    last = ended(run, why)
        finally:
            with self._lock:
                if last is not None:
                    self._last[run.channel] = last
                self._current.pop(run.channel, None)
                self._tasks.pop(run.channel, None)
        return why

    def pause(self, channel: str) -> Done:
        """Open the circuit and keep the step's time and charge. Raises RefusedError."""
        run = self._running(channel)
        runner = run.runner
        if runner is None or not run.driving:
            raise RefusedError(f"channel {channel} is being prepared; nothing is on yet")
        if run.stop_reason:
            raise RefusedError(f"channel {channel} is being stopped already")
        if runner.state in (RunState.PAUSED, RunState.HELD):
            return Done(ok=True, message=f"channel {channel} is {runner.state.value} already")
        self._do(runner.pause)
        return Done(ok=True, message=f"channel {channel}: the circuit is being opened")

    def resume(self, channel: str) -> Done:
        """Go on after a pause or hold. Raises RefusedError."""
        run = self._running(channel)
        runner = run.runner
        if run.stop_reason:
            raise RefusedError(f"channel {channel} is being stopped")
        if runner is None or runner.state not in (RunState.PAUSED, RunState.HELD):
            state = "being prepared" if runner is None else runner.state.value
            raise RefusedError(f"channel {channel} is {state}; there is nothing to resume")
        self._do(runner.resume)
        return Done(ok=True, message=f"channel {channel} goes on")

    async def end_step(self, channel: str, step: int = 0, by: str = SOMEBODY) -> Done:
        """End the present step; the protocol goes on with the next. Raises RefusedError.

        step: its index; refused if another runs by now. 0 is whichever runs. by: who asks.
        """
        return await self._in_engine(end_step(self._running(channel), step, by))

    async def change_limit(self, channel: str, name: str, when: str, by: str = SOMEBODY) -> Done:
        """Let a limit act at another condition. Raises RefusedError, which tells what is wrong.

        when: as in a recipe. by: who asks. The change is journalled.
        """
        run, bench = self._running(channel), self._engine.bench
        if self._in_loop():
            condition = new_condition(bench, run, name, when)
        else:
            condition = await asyncio.to_thread(new_condition, bench, run, name, when)
        return await self._in_engine(change_limit(run, name, condition, by))

    def acknowledge(self, channel: str, run: str = "") -> Done:
        """Say that a trip, fault, killed run or unknown output has been seen.

        run: which run has been seen; "" whatever there is to see. Raises RefusedError while a run
        is under way, and when the last run is another.
        """
        self._require(channel)
        with self._lock:
            last = self._last[channel]
            if channel in self._current:
                raise RefusedError(
                    f"channel {channel} has a run under way; there is nothing to acknowledge"
                )
            if run and run != last.run:
                raise RefusedError(
                    f"NOTHING WAS ACKNOWLEDGED: the last run of channel {channel} is "
                    f"{last.run or 'none'} ({last.state}), not {run}; look at that one first"
                )
            if not last.attention:
                return Done(ok=True, message=f"channel {channel}: nothing waits to be acknowledged")
            self._last[channel] = replace(last, attention=False)
        stored = ""
        if last.run is not None:
            try:
                self._seen.add(last.seen_as)
            except OSError as error:
                stored = f" (not stored, because {error}: a new start of the station asks again)"
        return Done(ok=True, message=f"channel {channel}: {self._stated(channel, last)}{stored}")

    def _stated(self, channel: str, last: LastRun) -> str:
        """What somebody states by acknowledging."""
        if last.output == "off":
            return f"acknowledged that its last run is {last.state}; a run may start"
        potentiostat = self._engine.bench.channels[channel].roles.get("potentiostat", "it")
        return (
            f"acknowledged: you state that you have looked at {potentiostat} at the bench, and "
            "that its output is off or the cell is disconnected; a run may start"
        )

    async def abort(self, channel: str, run: str = "") -> Done:
        """End the run, or switch off a channel without one; ok when its output was read back off.

        run: end this run alone, and touch nothing that is off already; "" ends whatever runs,
        always. Raises RefusedError, also when another run is under way.
        """
        self._require(channel)
        with self._lock:
            current, last = self._current.get(channel), self._last[channel]
        if not run:
            self._stops[channel] += 1
        elif current is not None and (current.folder is None or current.folder.name != run):
            now = "another run that is being prepared"
            now = now if current.folder is None else current.folder.name
            raise RefusedError(
                f"NOTHING WAS STOPPED: channel {channel} has {now} under way, not {run}. To stop "
                "whatever runs there, stop the channel without naming a run"
            )
        elif current is None and last.output == "off" and not last.unsafe:
            of = f"the last is {last.run}, {last.state}" if last.run else "it has had none"
            words = f"no run was under way ({of}); its output was read back off"
            return Done(ok=True, message=f"channel {channel}: {words}")
        if current is not None:
            # Not as a part of the waiting, which ends with a client that goes away.
            self._do(lambda: current.stop("asked by the operator"))
        return await self._in_engine(self._aborted(channel, current))

    async def _aborted(self, channel: str, run: UnderWay | None) -> Done:
        if run is not None:
            return await self._end_of(run)
        return await self._switched_off(channel, "no run was under way")

    async def _switched_off(self, channel: str, what: str) -> Done:
        """Switch the output of a channel without a run off, and answer with what was read back.

        With it the chamber and press that its last run could not secure.
        """
        name = self._potentiostats.get(channel)
        if name is None:
            return Done(ok=True, message=f"channel {channel}: it has no potentiostat")
        left = self._last[channel].unsafe
        tasks = [self._begin_switching(name, self._switch_off(name))]
        tasks += [self._begin_switching(one, self._secure_left(channel, one)) for one in left]
        await asyncio.wait(set(tasks), timeout=END_OF_RUN)
        last = self._last[channel]
        off = name not in self._switching_off and last.output == "off"
        words = "its output was read back off"
        if not off:
            words = "ITS OUTPUT IS NOT READ BACK OFF: assume that it is on" + self._problem(name)
        for one in left:
            if one in self._switching_off or one in last.unsafe:
                off = False
                words += f"; {one} IS NOT READ BACK IN ITS SAFE STATE" + self._problem(one)
            else:
                words += f"; {one} was read back in its safe state"
        return Done(ok=off, message=f"channel {channel}: {what}; {words}")

    def _begin_switching(
        self, name: str, switching: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        """The task that switches an instrument: the one under way, else this one, begun now."""
        if name in self._switching_off:
            switching.close()
        else:
            task = self._switching_off[name] = asyncio.create_task(switching)
            task.add_done_callback(lambda _: self._switching_off.pop(name, None))
        return self._switching_off[name]

    def _problem(self, name: str) -> str:
        """What was wrong with an instrument when it was last met, in brackets."""
        found = self._engine.found.get(name)
        return f" ({found.problem})" if found is not None and found.problem else ""

    async def _secure_left(self, channel: str, name: str) -> None:
        """Bring an actuator that the last run of a channel could not secure into its safe state."""
        found = await self._engine.switch_off(name, pursue=True)
        with self._lock:
            last = self._last[channel]
            if found.output == "off":
                said = f"{name} was then brought into its safe state by a stop"
                unsafe = tuple(one for one in last.unsafe if one != name)
                self._last[channel] = replace(last, unsafe=unsafe, reason=f"{last.reason}; {said}")
            else:
                self._last[channel] = replace(last, attention=True)

    async def _switch_off(self, name: str) -> None:
        channels = [channel for channel, own in self._potentiostats.items() if own == name]
        # What was off when it was last read and cannot be reached now is told, not pursued.
        pursue = any(self._last[channel].output != "off" for channel in channels)
        found = await self._engine.switch_off(name, pursue=pursue)
        with self._lock:
            for channel in channels:
                last = self._last[channel]
                reason = last.reason
                if found.output == "off" and last.output != "off":
                    said = "its output was then switched off by a stop and read back off"
                    reason = f"{reason}; {said}" if reason else said
                elif found.output != "off":
                    said = f"the output of {name} could not be read back off: ASSUME THAT IT IS ON"
                    said += f" ({found.problem})" if found.problem else ""
                    reason = reason if said in reason else f"{reason}; {said}" if reason else said
                self._last[channel] = replace(
                    last,
                    output="off" if found.output == "off" else "unknown",
                    output_at=found.at if found.output == "off" else None,
                    attention=last.attention or found.output != "off",
                    reason=reason,
                )

    async def _end_of(self, run: UnderWay) -> Done:
        """Wait for the end of a run that was told to stop."""
        channel, task = run.channel, self._tasks.get(run.channel)
        if task is not None:
            await asyncio.wait({task}, timeout=END_OF_RUN)
        if task is not None and not task.done():
            where = (
                "its output was read back off, but its record is not closed yet"
                if run.runner is not None and run.verified_off
                else "ITS OUTPUT IS NOT READ BACK OFF yet; stopping goes on"
            )
            return Done(ok=False, message=f"channel {channel}: stopping, {where}")
        if run.folder is None:
            return await self._switched_off(channel, "ended while it was being prepared")
        last = self._last[channel]
        if not run.verified_off or last.unsafe:
            return Done(ok=False, message=f"channel {channel}: {last.state}: {last.reason}")
        return Done(ok=True, message=f"channel {channel}: {last.state}, output read back off")

    async def stop_all(self) -> Done:
        """Abort every run, those being prepared too, and switch every other output off.

        ok when every output was read back off.
        """
        reason = "stop all, asked by the operator"
        for channel in self._stops:
            self._stops[channel] += 1
        self._do(lambda: self._engine.stop_all(reason, later=False))
        return await self._in_engine(self._all_stopped())

    async def _all_stopped(self) -> Done:
        runs = tuple(self._current.values())
        driven = {self._potentiostats.get(run.channel) for run in runs}
        idle = [name for name, own in self._potentiostats.items() if own not in driven]
        left = [bool(self._last[name].unsafe) for name in idle]
        done, rest = await asyncio.gather(
            asyncio.gather(*map(self._end_of, runs)),
            asyncio.gather(*(self._switched_off(name, "no run was under way") for name in idle)),
        )
        told = (one for one, some in zip(rest, left, strict=True) if some or not one.ok)
        words = [one.message for one in (*done, *told)]
        if idle and all(one.ok for one in rest):
            other = "every other output" if runs else "no run was under way; every output"
            words.append(f"{other} was read back off")
        return Done(ok=all(one.ok for one in (*done, *rest)), message="; ".join(words))

    def shut_down(self) -> None:
        """Ask for the end of the station: every run is aborted first."""
        self._do(self.shut_down_asked.set)

    # ---- below ---------------------------------------------------------------------------

    @property
    def _potentiostats(self) -> dict[str, str]:
        """Potentiostats by channel, of the channels that have one."""
        return {
            name: entry.roles["potentiostat"]
            for name, entry in self._engine.bench.channels.items()
            if "potentiostat" in entry.roles
        }

    def _is_switched(self, channel: str) -> bool:
        """Whether an instrument of a channel without a run is being brought into its safe state."""
        roles = self._engine.bench.channels[channel].roles
        return any(name in self._switching_off for name in roles.values())

    def _require(self, channel: str) -> None:
        channels = self._engine.bench.channels
        if channel not in channels:
            raise RefusedError(
                f"{self.bench_name} has no channel '{channel}'; it has: " + ", ".join(channels)
            )

    def _running(self, channel: str) -> UnderWay:
        self._require(channel)
        run = self._current.get(channel)
        if run is None:
            raise RefusedError(f"channel {channel} has no run under way")
        return run

    def _in_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _do(self, action: Callable[[], None]) -> None:
        """Carry an action out in the engine's loop, without waiting for it."""
        if self._in_loop():
            action()
        else:
            self._loop.call_soon_threadsafe(action)

    async def _in_engine(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry work out in the engine's loop and wait for it."""
        if self._in_loop():
            return await work
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise RefusedError("the station has ended") from None
        return await asyncio.wrap_future(future)
