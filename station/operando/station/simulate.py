"""Serving a simulated bench, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from operando.instruments.bench import Bench
from operando.instruments.bench_file import at_speed, load_bench, require_served_addresses
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.locks import runtime_directory
from operando.station.assembly import driver_info, simulation_of
from operando.station.client.process import Lines, uninterrupted
from operando.station.pipes import read_lines
from operando.station.served import Announcement, Served, served


def clock_for(bench: Bench, *, virtual: bool = False, speed: float | None = None) -> Clock:
    """The clock that a bench asks for: virtual, scaled by its speed, or real."""
    if virtual:
        return Clock("virtual")
    factor = bench.speed if speed is None else speed
    return Clock("scaled", factor) if factor != 1.0 else Clock()


async def serve(
    bench: Bench, clock: Clock, commands: int | None, replies: TextIO, *, station: str = ""
) -> None:
    """Serve every simulated instrument at the bench's addresses until cancelled.

    Writes one JSON line an instrument and then {"ready": true}. Lines of `commands`, a file
    descriptor, are carried out: {"inject": "smu1", "fault": "silence"} switches a fault,
    {"relays": true} asks for the true output relays, {"charges": true} for the true net charge of
    the cells (C); each is answered by one JSON line. The end of `commands` changes nothing.
    station: bench file of the station that started this.
    """
    if not any(entry.simulated for entry in bench.instruments.values()):
        raise BadInputError(
            f"{bench.path.name}: no instrument has a table [instruments.NAME.simulated]; "
            "there is nothing to simulate"
        )
    require_served_addresses(bench)
    simulation = simulation_of(bench, clock)
    with Announcement(clock.speed, station) as announcement:
        try:
            for device in await simulation.serve():
                announcement.add(device.address)
                line = {
                    "device": device.name,
                    "driver": device.driver,
                    "role": driver_info(device.driver).roles[0],
                    "address": device.address,
                }
                print(json.dumps(line), file=replies, flush=True)
            print(json.dumps({"ready": True, "speed": clock.speed}), file=replies, flush=True)
            if commands is not None:
                async for command in _lines(commands):
                    print(json.dumps(_command(simulation, command)), file=replies, flush=True)
            await asyncio.get_running_loop().create_future()
        finally:
            await simulation.close()


def _command(simulation: object, line: str) -> dict[str, object]:
    try:
        message = json.loads(line)
        if "inject" in message:
            simulation.inject(message["inject"], message["fault"])  # type: ignore[attr-defined]
            return {"injected": message["inject"], "fault": message["fault"]}
        if "relays" in message:
            return {"relays": dict(simulation.relays())}  # type: ignore[attr-defined]
        if "charges" in message:
            return {"charges": dict(simulation.charges())}  # type: ignore[attr-defined]
        return {"error": f"unknown command: {line.strip()}"}
    except (ValueError, KeyError, BadInputError) as error:
        return {"error": str(error)}


async def _lines(descriptor: int) -> AsyncIterator[str]:
    """Lines of a file descriptor until its end."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def take(line: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(arrived.put_nowait, line)

    read_lines(descriptor, take, "simulate-commands")
    while line := await arrived.get():
        if line.strip():
            yield line.decode()


START = 60.0
"""Wall s for a simulation to serve its instruments, and to answer a command."""


class SimulatedProcess:
    """`operando simulate` in a process of its own, as a context manager.

    served: the lines that it printed, one an instrument. by_station: a station starts it and ends
    it, also one that comes after a station that was killed.
    """

    def __init__(
        self, bench: Path, *, speed: float | None = None, by_station: bool = False
    ) -> None:
        self._bench = bench
        self._speed = speed
        self._by_station = by_station
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: Lines | None = None
        self.served: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "operando.station", "simulate", str(self._bench)]
        if self._speed is not None:
            command += ["--speed", str(self._speed)]
        if self._by_station:
            command.append("--by-station")
        try:
            with uninterrupted():
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
                assert self._process.stdout is not None
                self._lines = Lines(self._process.stdout, "simulation-lines")
            self._wait_until_ready(self._lines)
        except TimeoutError:
            self.close()
            raise BadInputError(
                f"the simulation of {self._bench} did not start within {START:g} s and was ended; "
                f"start it in a terminal of its own, with 'operando simulate {self._bench}', to "
                "see what it waits for"
            ) from None
        except BaseException:  # Ctrl-C too: it would belong to nobody
            self.close()
            raise
        return self

    def _wait_until_ready(self, lines: Lines) -> None:
        until = time.monotonic() + START
        while line := lines.next(until):
            message = json.loads(line)
            if message.get("ready"):
                return
            self.served.append(message)
        raise BadInputError(f"the simulation of {self._bench} did not start; see its message above")

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process is not None
        return self._process.pid

    def ask(self, **message: object) -> dict[str, object]:
        """Send one command and return the answer. Raises TimeoutError after `START`."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._lines is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, object] = json.loads(self._lines.next(time.monotonic() + START))
        return answer

    def relays(self) -> dict[str, bool]:
        """True output relay of each instrument that has one: closed or not."""
        relays = self.ask(relays=True)["relays"]
        assert isinstance(relays, dict)
        return relays

    def charges(self) -> dict[str, float]:
        """True net charge that has passed each cell since it was assembled, C."""
        charges = self.ask(charges=True)["charges"]
        assert isinstance(charges, dict)
        return charges

    def inject(self, instrument: str, fault: str) -> None:
        """Switch a fault on or off. Raises BadInputError if the simulation refuses."""
        answer = self.ask(inject=instrument, fault=fault)
        if "error" in answer:
            raise BadInputError(str(answer["error"]))

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if self._lines is not None:
            self._lines.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def bench_at(path: Path, speed: float | None) -> Bench:
    """A bench from its file, at another speed if one is given."""
    bench = load_bench(path)
    return bench if speed is None else at_speed(bench, speed)


@contextlib.contextmanager
def simulation_for(bench: Bench) -> Iterator[None]:
    """See to it that the simulated instruments of a bench are served while the context lasts.

    One that is served already, at the speed of the bench, is used. At the end a simulation is
    ended if this station or a killed one of the same bench started it, not if a person did.
    Raises BadInputError.
    """
    found = {
        name: served(entry.address)
        for name, entry in bench.instruments.items()
        if entry.simulated is not None
    }
    if not found:
        raise BadInputError(
            f"{bench.path.name}: no instrument has a table [instruments.NAME.simulated]; leave "
            "--simulate out"
        )
    absent = [name for name, simulation in found.items() if simulation is None]
    living = {name: simulation for name, simulation in found.items() if simulation is not None}
    for name, simulation in living.items():
        if simulation.speed != bench.speed:
            raise BadInputError(
                f"{name} is simulated at speed {simulation.speed:g} already, and this station has "
                f"{bench.speed:g}; use --speed {simulation.speed:g}, or end that simulation "
                f"(process {simulation.pid})"
            )
        if absent:
            raise BadInputError(
                f"{name} is simulated already (process {simulation.pid}), but {absent[0]} is not; "
                "end that simulation"
            )
    if not living:
        with SimulatedProcess(bench.path, speed=bench.speed, by_station=True):
            yield
        return
    try:
        yield
    finally:
        ours = {one.pid for one in living.values() if one.station == _key(bench.path)}
        for pid in sorted(ours):
            _end(bench, pid)


def _key(bench: Path) -> str:
    return str(bench.resolve())


END = 10.0
"""Wall s for a simulation to end."""


def _end(bench: Bench, pid: int) -> None:
    """End a simulation that a killed station left behind."""
    addresses = [entry.address for entry in bench.instruments.values()]
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        # Its lock shows that the process with this number is still the one that wrote the note.
        if not any(_pid(served(address)) == pid for address in addresses):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + END
        while time.monotonic() < deadline:
            if not any(_pid(served(address)) == pid for address in addresses):
                return
            time.sleep(0.02)


def _pid(simulation: Served | None) -> int:
    return 0 if simulation is None else simulation.pid


LAB = "simulated-lab.toml"


def simulated_lab() -> Path:
    """The bench file of the built-in simulated lab: a copy of the example on ports of its own.

    A copy is kept while its simulation or station is alive, and as long as its ports are free.
    """
    from operando.station.client.discovery import station_of
    from operando.station.demo import examples_folder

    example = (examples_folder() / LAB).read_text(encoding="utf-8")
    folder = runtime_directory() / "simulated-lab"
    path = folder / LAB
    if path.is_file():
        with contextlib.suppress(BadInputError):
            entries = load_bench(path).instruments.values()
            if station_of(path) or any(served(entry.address) for entry in entries):
                return path
            written = path.read_text(encoding="utf-8")
            same = _PORT.sub("", written) == _PORT.sub("", example)
            if same and all(map(_is_free, _PORT.findall(written))):
                return path
    with contextlib.ExitStack() as stack:
        for port in dict.fromkeys(_PORT.findall(example)):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            example = example.replace(f"::{port}::", f"::{probe.getsockname()[1]}::")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(example, encoding="utf-8")
    fresh.replace(path)
    return path


_PORT = re.compile(r"(?<=127\.0\.0\.1::)\d+(?=::)")


def _is_free(port: str) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":  # as the simulation binds it
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError:
            return False
    return True
