"""Serving a simulated bench, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from operando.instruments.bench import Bench
from operando.instruments.bench_file import at_speed, load_bench, require_served_addresses
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.station.assembly import driver_info, simulated_bench
from operando.station.pipes import read_lines
from operando.station.served import Announcement


def clock_for(bench: Bench, *, virtual: bool = False, speed: float | None = None) -> Clock:
    """The clock that a bench asks for: virtual, scaled by its speed, or real."""
    if virtual:
        return Clock("virtual")
    factor = bench.speed if speed is None else speed
    return Clock("scaled", factor) if factor != 1.0 else Clock()


async def serve(bench: Bench, clock: Clock, commands: int | None, replies: TextIO) -> None:
    """Serve every simulated instrument at the bench's addresses until cancelled.

    Writes one JSON line an instrument and then {"ready": true}. Lines of `commands`, a file
    descriptor, are carried out: {"inject": "smu1", "fault": "silence"} switches a fault,
    {"relays": true} asks for the true output relays; each is answered by one JSON line. The end of
    `commands` changes nothing.
    """
    if not any(entry.simulated for entry in bench.instruments.values()):
        raise BadInputError(
            f"{bench.path.name}: no instrument has a table [instruments.NAME.simulated]; "
            "there is nothing to simulate"
        )
    require_served_addresses(bench)
    simulation = simulated_bench()(bench, clock)
    with Announcement(clock.speed) as announcement:
        try:
            for served in await simulation.serve():
                announcement.add(served.address)
                line = {
                    "device": served.name,
                    "driver": served.driver,
                    "role": driver_info(served.driver).roles[0],
                    "address": served.address,
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


class SimulatedProcess:
    """`operando simulate` in a process of its own, as a context manager.

    served: the lines that it printed, one an instrument.
    """

    def __init__(self, bench: Path, *, speed: float | None = None) -> None:
        self._bench = bench
        self._speed = speed
        self._process: subprocess.Popen[str] | None = None
        self.served: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "operando.station", "simulate", str(self._bench)]
        if self._speed is not None:
            command += ["--speed", str(self._speed)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("ready"):
                return self
            self.served.append(message)
        self.close()
        raise BadInputError(f"the simulation of {self._bench} did not start; see its message above")

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process is not None
        return self._process.pid

    def ask(self, **message: object) -> dict[str, object]:
        """Send one command and return the answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer: dict[str, object] = json.loads(self._process.stdout.readline())
        return answer

    def relays(self) -> dict[str, bool]:
        """True output relay of each instrument that has one: closed or not."""
        relays = self.ask(relays=True)["relays"]
        assert isinstance(relays, dict)
        return relays

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
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

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
