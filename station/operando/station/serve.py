"""The station: a process that owns a bench and serves it on the loopback interface.

The engine has the main thread and its event loop to itself; the API answers in a thread beside
it. When the API fails the engine goes on, so that runs keep their limits, and the API is started
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from operando.instruments.bench import Bench
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError
from operando.station.api import SERVER_OPTIONS, make_app
from operando.station.client.discovery import StationNote, announced, station_of
from operando.station.connections import QUEUE, Server, open_many_files
from operando.station.desk import Desk
from operando.station.engine import Engine
from operando.station.simulate import bench_at, clock_for, simulation_for
from operando.station.views import Views

LOCK_PATIENCE = 10.0
"""Wall s for which a station waits for the instruments: the watchdog of a station that was killed
may have them."""

API_START = 20.0
API_END = 5.0
"""Wall s that the API may take to start and to end."""

API_ATTEMPTS = 5
"""Failures of the API within `API_LASTS` each, after which the station ends in order."""
API_LASTS = 30.0

EXIT_OUTPUT_UNKNOWN = 5


@dataclass(frozen=True)
class StationOptions:
    """What a station is told. bench: its file. speed: None takes that of the bench.

    port: 0 is a free one. output: folder of the records. as_json: announce itself as JSON.
    """

    bench: Path
    simulate: bool = False
    speed: float | None = None
    host: str = "127.0.0.1"
    port: int = 0
    output: Path = Path("runs")
    as_json: bool = False


def serve_station(options: StationOptions) -> int:
    """Serve a bench until a signal or a client ends it; the exit code.

    0 when every output was read back off at the end, and every chamber and press that a run had
    driven was read back safe, else 5. Raises BadInputError and
    AddressInUseError before anything is touched.
    """
    _unwind_on_signals()
    open_many_files()
    host = loopback(options.host)
    bench = bench_at(options.bench, options.speed)
    if not bench.channels:
        raise BadInputError(f"{bench.path.name}: there is no channel; add a table [channels.A1]")
    refuse_second(bench.path)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"{options.output}: cannot be made ({error.strerror}); choose another --output"
        ) from None
    with contextlib.ExitStack() as note, contextlib.ExitStack() as stack:
        # The note goes last: who waits for the end of this station finds nothing left of it.
        listener = stack.enter_context(listening(host, options.port))
        if options.simulate:
            stack.enter_context(simulation_for(bench))
        output = options.output.resolve()
        views = stack.enter_context(Views(output))
        station = _Station(bench, options, listener, views, output, note)
        return run_coroutine(station.main())


def loopback(host: str) -> str:
    """The address of this computer that a host name means. Raises BadInputError for another."""
    name = "127.0.0.1" if host.lower() == "localhost" else host.strip("[]")
    try:
        if ipaddress.ip_address(name).is_loopback:
            return name
    except ValueError:
        pass
    raise BadInputError(
        f"--host {host}: a station is served to this computer alone for now; use 127.0.0.1, ::1 or "
        "localhost. From another computer, use a tunnel such as 'ssh -L 8250:127.0.0.1:8250'"
    )


def refuse_second(bench: Path) -> None:
    """Raise BadInputError when a station owns this bench already."""
    other = station_of(bench)
    if other is not None:
        raise BadInputError(
            f"{bench.name} belongs to the station at {other.url} (process {other.pid}) already; "
            f"open its window with 'operando gui --station {other.url}', or end it with 'operando "
            f"station --end --bench {bench}'"
        )


def _unwind_on_signals() -> None:
    """Until the engine runs: a signal ends what has been begun, as Ctrl-C does, by its contexts."""
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            signal.signal(number, _leave)


def _leave(number: int, _: object) -> None:
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)  # nothing interrupts the end
    raise SystemExit(128 + number)


_ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket; nobody is answered before the API listens. Raises BadInputError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        if os.name == "posix":  # elsewhere the option would let two stations share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
            # Now, because Linux lets two sockets bind one address until one of them listens.
            bound.listen(QUEUE)
        except (OSError, OverflowError) as error:
            raise BadInputError(
                f"port {port} of {host} cannot be used ({error}); another program has it. Choose "
                "another --port, or --port 0 for a free one"
            ) from None
        yield bound


def _url(listener: socket.socket) -> tuple[str, frozenset[str]]:
    """URL of a station and the values of the Host header that mean it."""
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    return f"http://{place}:{port}", frozenset({f"{place}:{port}", f"localhost:{port}"})


class _Api:
    """The API in a thread of its own. failed: called in that thread when it ends unasked."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        config = uvicorn.Config(app, log_level="warning", log_config=None, **SERVER_OPTIONS)
        self._server = Server(config)
        self._listener = listener
        self.error = ""
        self.begun = time.monotonic()
        self.thread = threading.Thread(target=self._run, name="station-api", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        # The station keeps its own socket, so that an API that is started again finds the port.
        own = self._listener.dup()
        try:
            asyncio.run(self._server.serve(sockets=[own]))
        except BaseException as error:  # uvicorn leaves by SystemExit too
            self.error = f"{type(error).__name__}: {error}"
        finally:
            own.close()

    @property
    def up(self) -> bool:
        """Whether it answers."""
        return self._server.started and self.thread.is_alive()

    def tell_to_end(self) -> None:
        """Ask it to end; returns at once."""
        self._server.should_exit = True

    def end(self) -> None:
        """End it. A request that does not end is left behind with its thread."""
        self.tell_to_end()
        self.thread.join(API_END)
        if self.thread.is_alive():
            self._server.force_exit = True
            self.thread.join(API_END)


class _Station:
    """One life of a station, in the engine's event loop."""

    def __init__(
        self,
        bench: Bench,
        options: StationOptions,
        listener: socket.socket,
        views: Views,
        output: Path,
        note: contextlib.ExitStack,
    ) -> None:
        self._note = note
        self._bench = bench
        self._options = options
        self._listener = listener
        self._views = views
        self._output = output
        self._url, self._hosts = _url(listener)
        self._token = secrets.token_urlsafe(32)
        self._stop = asyncio.Event()
        self._desk: Desk | None = None

    async def main(self) -> int:
        """Own the bench until the end is asked for; the exit code."""
        loop = asyncio.get_running_loop()
        with self._signals(loop):
            async with Engine(self._bench, clock_for(self._bench)) as engine:
                await engine.claim(LOCK_PATIENCE)
                simulated = any(map(engine.is_simulated, self._bench.instruments.values()))
                desk = self._desk = Desk(engine, loop, self._output, simulated=simulated)
                if not self._stop.is_set():
                    await desk.open()
                    await self._serve(desk)
                    desk.end("it was asked to end")
                unknown = await desk.at_rest()
                unsafe = desk.unsafe()
        for channel in unknown:
            _say(f"channel {channel}: THE OUTPUT IS NOT KNOWN TO BE OFF; look at the instrument")
        for words in unsafe:
            _say(words)
        return EXIT_OUTPUT_UNKNOWN if unknown or unsafe else 0

    async def _serve(self, desk: Desk) -> None:
        """Answer clients until the end is asked for and every run has ended."""
        api = self._start_api(desk)
        try:
            await self._wait_until_up(api)
            note = StationNote(self._url, self._token, str(self._bench.path.resolve()), os.getpid())
            self._note.enter_context(announced(note))
            self._print(desk)
            api = await self._watch(desk, api)
            # Clients see their runs end: the API goes last.
            await desk.at_rest()
        finally:
            api.tell_to_end()
            await asyncio.to_thread(api.end)

    def _start_api(self, desk: Desk) -> _Api:
        return _Api(make_app(desk, self._views, self._token, self._hosts), self._listener)

    async def _wait_until_up(self, api: _Api) -> None:
        while not api.up:
            if not api.thread.is_alive() or time.monotonic() - api.begun > API_START:
                raise BadInputError(f"the API did not start: {api.error or 'it does not answer'}")
            await asyncio.sleep(0.01)

    async def _watch(self, desk: Desk, api: _Api) -> _Api:
        """Keep the API alive until the end is asked for; the one that is alive then."""
        asked = asyncio.create_task(desk.shut_down_asked.wait())
        stopped = asyncio.create_task(self._stop.wait())
        failures = 0
        try:
            while not (asked.done() or stopped.done()):
                await asyncio.wait(
                    {asked, stopped}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED
                )
                if api.thread.is_alive() or asked.done() or stopped.done():
                    continue
                failures = failures + 1 if time.monotonic() - api.begun < API_LASTS else 1
                _say(
                    f"the API ended unexpectedly ({api.error or 'without a reason'}); runs go on, "
                    "under their limits"
                )
                if failures >= API_ATTEMPTS:
                    _say("the API does not stay up: the station ends, and its runs with it")
                    desk.end("its API does not stay up")
                    break
                api = self._start_api(desk)
            desk.end("it was asked to end")
        finally:
            for task in (asked, stopped):
                task.cancel()
            await asyncio.gather(asked, stopped, return_exceptions=True)
        return api

    @contextlib.contextmanager
    def _signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Ctrl-C, SIGTERM and a closed terminal end the station in order; others change nothing."""

        def on_signal(number: int, _: object) -> None:
            loop.call_soon_threadsafe(self._end, signal.Signals(number).name)

        numbers = [signal.SIGINT, *_ENDING]
        before = {number: signal.signal(number, on_signal) for number in numbers}
        if hasattr(signal, "SIGUSR1"):
            # Their default would kill the station, and they mean something to `operando run`.
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                before[number] = signal.signal(number, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                late = signal.SIG_IGN if handler in (signal.SIG_DFL, _leave) else handler
                signal.signal(number, late)

    def _end(self, why: str) -> None:
        if self._desk is not None:
            self._desk.end(why)  # at once: whatever else the station waits for
        self._stop.set()

    def _print(self, desk: Desk) -> None:
        if self._options.as_json:
            line = json.dumps(
                {"url": self._url, "pid": os.getpid(), "bench": str(self._bench.path.resolve())}
            )
        else:
            simulated = f" SIMULATED x{desk.speed:g}" if desk.simulated else ""
            line = (
                f"station of {self._bench.path} at {self._url}{simulated}; open its window with "
                f"'operando gui --station {self._url}', end it with Ctrl-C"
            )
        with contextlib.suppress(OSError):  # whoever started it may be gone
            print(line, flush=True)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
