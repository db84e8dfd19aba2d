"""A run through the station that owns its bench: the same words and exit codes as without one."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from operando.instruments.errors import BadInputError, InstrumentError
from operando.instruments.quantities import format_quantity
from operando.instruments.recorder import Entry
from operando.protocols import RunResult, RunState
from operando.records import Record
from operando.station.channel_state import unsafe_of
from operando.station.client import (
    UNDER_WAY,
    ChannelStatus,
    RefusedError,
    RunRequest,
    Snapshot,
    Started,
    StationClient,
    StationLostError,
    StationNote,
    Stream,
    station_at,
)
from operando.station.engine import Run
from operando.station.orders import Order
from operando.station.signals import put_back

GLANCE = 0.2
"""Wall s between looks at what was asked for by a signal."""

SILENCE = 5.0
"""Wall s without a snapshot after which the connection counts as lost; a station sends one each
second."""

RETURN = 30.0
"""Wall s for which a station that lives but does not answer is asked again."""


class StationDiedError(InstrumentError):
    """The station is gone, or does not answer, while a run of it was being watched."""


@dataclass
class _Wishes:
    """What signals asked for and has not been passed on yet."""

    abort: str = ""
    paused: bool | None = None


def run_through(
    note: StationNote,
    channel: str,
    order: Order,
    name: str,
    *,
    speed: float | None,
    output: Path | None,
    quiet: bool,
) -> Run:
    """Run an order through a station and wait for its end.

    name: path of the recipe, absolute: a script that it names is looked for beside it. Raises
    BadInputError when the station refuses, and StationDiedError when it is lost.
    """
    request, request_id = RunRequest(recipe=order.recipe_text, recipe_name=name), token_hex(8)

    def start(client: StationClient) -> Started:
        return client.start(channel, request, request_id)

    return _watched(note, channel, start, speed=speed, output=output, quiet=quiet)


def resume_through(note: StationNote, record: Record, *, speed: float | None, quiet: bool) -> Run:
    """Go on with a killed run through a station and wait for its end; raises as `run_through`."""
    channel, folder = str(record.manifest.get("channel")), record.folder.resolve()

    def go_on(client: StationClient) -> Started:
        summaries = {one.run: one.folder for one in client.runs()}
        if Path(summaries.get(folder.name, "")).resolve() != folder:
            raise RefusedError(
                f"{record.folder} is not among the records of the station at {note.url}, which has "
                "the bench; end it with 'operando station --end', then resume again"
            )
        return client.go_on(channel, folder.name)

    return _watched(note, channel, go_on, speed=speed, output=None, quiet=quiet)


def _watched(
    note: StationNote,
    channel: str,
    begin: Callable[[StationClient], Started],
    *,
    speed: float | None,
    output: Path | None,
    quiet: bool,
) -> Run:
    """Have a run begun by a station, and wait for its end. begin: may be called again."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    client = StationClient(note.url, note.token, name="the command line")
    with client, _signals() as wishes:
        try:
            snapshot = client.snapshot()
        except StationLostError as error:
            raise StationDiedError(f"{error}; nothing was started") from error
        if speed is not None and speed != snapshot.speed:
            raise BadInputError(
                f"the station at {note.url} has this bench at speed {snapshot.speed:g}, not "
                f"{speed:g}; leave --speed out, or end it with 'operando station --end'"
            )
        if wishes.abort:
            raise BadInputError(f"stopped before the run began ({wishes.abort})")
        run = _start(client, note, begin, wishes)
        try:
            folder = Path(client.run(run).summary.folder)
        except (RefusedError, StationLostError) as error:
            raise StationDiedError(
                f"the run {run} was started, but the station does not tell of it: {error}. THE RUN "
                f"MAY GO ON: 'kill -TERM {note.pid}' ends it and the station in order"
            ) from error
        if not quiet:
            console.print(f"through the station at {note.url}, record in {folder}", markup=False)
        if output is not None and output.resolve() != folder.parent.resolve():
            console.print(
                f"--output {output} is not used: the station's records are in {folder.parent}",
                markup=False,
            )
        status = _Watcher(client, note, channel, folder, wishes, console, quiet).watch()
    return Run(_result(folder, status), folder)


@contextlib.contextmanager
def _signals() -> Iterator[_Wishes]:
    """Signals become wishes, so that a run that is being started is not left behind."""
    wishes = _Wishes()

    def abort(reason: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            wishes.abort = wishes.abort or reason

        return note

    def pause(paused: bool) -> Callable[..., None]:
        def note(*_: object) -> None:
            wishes.paused = paused

        return note

    actions: dict[int, Callable[..., None]] = {
        signal.SIGINT: abort("Ctrl-C"),
        signal.SIGTERM: abort("SIGTERM"),
    }
    if hasattr(signal, "SIGUSR1"):
        actions[signal.SIGHUP] = abort("the terminal was closed")
        actions[signal.SIGUSR1] = pause(True)
        actions[signal.SIGUSR2] = pause(False)
    before = {number: signal.signal(number, action) for number, action in actions.items()}
    try:
        yield wishes
    finally:
        put_back(before)


def _start(
    client: StationClient,
    note: StationNote,
    begin: Callable[[StationClient], Started],
    wishes: _Wishes,
) -> str:
    """Start a run; its identifier. Asks again, for the same start, while the station lives."""
    until = time.monotonic() + RETURN
    while True:
        try:
            return begin(client).run
        except RefusedError as error:
            told = [problem.message for problem in error.problems] or [str(error)]
            raise BadInputError("\n".join(told)) from None
        except StationLostError as error:
            living = station_at(note.url)
            same = living is not None and living.pid == note.pid
            if not same or wishes.abort or time.monotonic() > until:
                raise StationDiedError(
                    f"{error}. Whether the run was started is not known: look at its window "
                    f"('operando gui --station {note.url}')"
                ) from error
            time.sleep(GLANCE)


class _Watcher:
    """Watches one run of a station until it is over."""

    def __init__(
        self,
        client: StationClient,
        note: StationNote,
        channel: str,
        folder: Path,
        wishes: _Wishes,
        console: Console,
        quiet: bool,
    ) -> None:
        self._client = client
        self._note = note
        self._channel = channel
        self._folder = folder
        self._run = folder.name
        self._wishes = wishes
        self._console = console
        self._quiet = quiet
        self._status: ChannelStatus | None = None

    def watch(self) -> ChannelStatus | None:
        """The channel when the run was over; None when only its record tells of it."""
        show = not self._quiet and self._console.is_terminal
        live = (
            Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            if show
            else contextlib.nullcontext()
        )
        lost_since = math.inf
        with live:
            while True:
                try:
                    with self._client.stream() as stream:
                        lost_since = math.inf
                        return self._follow(stream)
                except StationLostError as error:
                    if Record.open(self._folder).state not in ("running", "killed"):
                        return None  # the station ended, and the run before it
                    lost_since = min(lost_since, time.monotonic())
                    self._check_alive(error, lost_since)

    def _follow(self, stream: Stream) -> ChannelStatus | None:
        heard = time.monotonic()
        while True:
            self._pass_on()
            message = stream.receive(GLANCE)
            now = time.monotonic()
            if not isinstance(message, Snapshot):
                if message is None and now - heard > SILENCE:
                    raise StationLostError(f"the station was silent for {SILENCE:g} s")
                continue
            heard = now
            status = next(one for one in message.channels if one.name == self._channel)
            if status.run != self._run:
                return None
            self._status = status
            # The state is told at once, the record is closed a moment later.
            if status.state not in UNDER_WAY and Record.open(self._folder).state != "running":
                return status

    def _pass_on(self) -> None:
        wishes = self._wishes
        if wishes.abort:
            reason, wishes.abort = wishes.abort, ""
            if not self._quiet:
                self._console.print(f"{reason}: the run is being ended", markup=False)
            try:
                done = self._client.abort(self._channel, self._run)
                if not done.ok:
                    self._console.print(done.message, style="bold red", markup=False)
            except RefusedError as error:
                self._console.print(str(error), style="bold red", markup=False)
            except StationLostError:
                wishes.abort = reason  # it may not have been heard
                raise
        elif wishes.paused is not None:
            paused, wishes.paused = wishes.paused, None
            try:
                (self._client.pause if paused else self._client.resume)(self._channel)
            except RefusedError as error:
                self._console.print(str(error), markup=False)

    def _check_alive(self, error: StationLostError, lost_since: float) -> None:
        """Go on if the station lives; raise StationDiedError if it is dead or stays silent."""
        note = station_at(self._note.url)
        if note is None or note.pid != self._note.pid:
            raise StationDiedError(
                f"the station died ({error}); its watchdog switches the output off. Look at the "
                f"instrument; the record of {self._run} goes as far as it was written"
            )
        pid = self._note.pid
        if time.monotonic() - lost_since > RETURN:
            raise StationDiedError(
                f"the station lives (process {pid}) but does not answer ({error}). THE RUN MAY GO "
                f"ON: 'kill -TERM {pid}' ends it in order"
            )
        if self._wishes.abort:
            raise StationDiedError(
                f"the station does not answer ({error}), so THE RUN MAY GO ON: "
                f"'kill -TERM {pid}' ends it and the station in order"
            )
        time.sleep(GLANCE)

    def _render(self) -> RenderableType:
        """Two lines of 80 columns, from the newest snapshot."""
        status = self._status
        if status is None:
            return Text(f"{self._channel:<6} waiting for the station")
        line = Text(f"{self._channel:<6} ", style="bold")
        line.append(status.state, style="green" if status.state == "running" else "bold yellow")
        line.append(f", cycle {status.cycle}, {status.step or 'no step yet'}\n", style="default")
        values = {name: reading.value for name, reading in status.latest.items()}
        gone = format_quantity(60.0 * ((status.elapsed or 0.0) // 60.0), "s")
        left = ""
        if status.time_left is not None:
            left = f", about {format_quantity(60.0 * math.ceil(status.time_left / 60.0), 's')} left"
        pressure = _number(values, "pressure", 1e-6, "8.3f", "MPa") if "pressure" in values else ""
        line.append(
            " " * 6
            + _number(values, "voltage", 1.0, "9.4f", "V")
            + _number(values, "current", 1e3, "10.4f", "mA")
            + pressure
            + f"   {gone} gone{left}",
            style="default",
        )
        return line


def _number(values: dict[str, float | None], name: str, factor: float, form: str, unit: str) -> str:
    value = values.get(name)
    return f"{math.nan if value is None else factor * value:{form}} {unit}"


def _result(folder: Path, status: ChannelStatus | None) -> RunResult:
    """How a run ended, from its record; what it lacks from the station's last word."""
    record = Record.open(folder)
    ends = record.journal(Entry.RUN_ENDED)
    safe = [entry.data for entry in record.journal(Entry.SAFE)]
    state = RunState(record.state) if ends else RunState.FAULTED
    reason = str(ends[-1].data.get("reason", "")) if ends else "its record has no end"
    if status is not None and not ends:
        reason = status.reason
    unsafe = unsafe_of(record)
    charges = record.samples(columns=["charge"])["charge"]
    after = safe[-1].get("charge_after") if safe else None
    charge = float(charges[-1]) if len(charges) else 0.0
    return RunResult(
        state=state,
        reason=reason,
        safe=not unsafe,
        duration=(ends[-1].time if ends else 0.0),
        charge=charge + (float(after) if isinstance(after, int | float) else 0.0),
        steps=len(record.steps()),
        unsafe=unsafe,
    )
