"""The station's API on a real port: real records and readers, and a stand-in for the bench."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from operando.instruments.bench import Bench
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Origin, Regulation, Sample, Status
from operando.records import SqliteRecorder
from operando.station.api import SERVER_OPTIONS, make_app
from operando.station.client import (
    ChannelStatus,
    CheckReport,
    Done,
    Problem,
    ProtocolInfo,
    RefusedError,
    RunRequest,
    Started,
    StationClient,
)
from operando.station.connections import Server
from operando.station.push import Board
from operando.station.views import Views

TOKEN = "a-token-of-this-test"

MANIFEST: dict[str, JSON] = {
    "started": "2026-01-01T00:00:00+00:00",
    "channel": "A1",
    "simulated": True,
    "cell": {"name": "NCM811/1", "capacity": 11.3, "active_mass": 1.7e-5, "area": 1.1e-4,
             "one_c": "1C = 3.138 mA", "metadata": {"electrolyte": "Li6PS5Cl", "layers": 2}},
    "protocol": {"name": "cccv"},
    "limits": {"over_voltage": {"when": "voltage > 4.3 V", "action": "trip"},
               "drift": {"when": "abs(dV/dt over 60 s) < 0.1 mV/min", "action": "warn"}},
}  # fmt: skip


class Author:
    """Writes a record a row at a time, and commits when it is told to."""

    def __init__(self, folder: Path, **manifest: JSON) -> None:
        self.folder = folder
        self._recorder = SqliteRecorder(folder, {**MANIFEST, **manifest}, inline=True)
        self._begun: list[int] = []

    @property
    def run(self) -> str:
        """Identifier of the run."""
        return self.folder.name

    def sample(self, time: float, voltage: float = 3.7, **fields: object) -> None:
        """Take a sample of 1 mA."""
        plain = Sample(
            time, 1_767_225_600.0 + time, 0.005, voltage, 1e-3, 1e-3 * time, 1e-3 * time,
            3.7e-3 * time, time, 1, 1, 1, Regulation.CURRENT, Status.OK, Origin.POLL,
        )  # fmt: skip
        self._recorder.sample(plain._replace(**fields))  # type: ignore[arg-type]

    def pressure(self, time: float, value: float, status: Status = Status.OK) -> None:
        """Take a reading of the load cell, Pa."""
        self._recorder.aux(AuxReading("load1", "pressure", time, 0.005, value, status))

    def journal(self, entry: Entry, time: float, **data: JSON) -> None:
        """Append to the journal, which commits what came before."""
        asyncio.run(self._recorder.journal(entry, time, data))

    def step(self, index: int, start: float, cycle: int, label: str, current: float) -> None:
        """Begin a step at constant current."""
        self.journal(
            Entry.STEP_STARTED, start, index=index, step_id=index, cycle=cycle, label=label,
            kind="ConstantCurrent", hash="x",
            step={"kind": "ConstantCurrent", "current": current, "until": ["voltage >= 4.25 V"]},
        )  # fmt: skip

    def commit(self) -> None:
        """Make durable what was taken so far."""
        asyncio.run(self._recorder.flush())

    def close(self, state: str = "completed", reason: str = "it came to its end") -> None:
        """End the run."""
        self.journal(Entry.RUN_ENDED, 1e4, state=state, reason=reason)
        asyncio.run(self._recorder.close())


@contextlib.contextmanager
def author(output: Path, name: str = "run1", **manifest: JSON) -> Iterator[Author]:
    """A record that is being written while the context lasts."""
    writing = Author(output / name, **manifest)
    try:
        yield writing
    finally:
        asyncio.run(writing._recorder.close())


def write_cycle(writing: Author) -> None:
    """One cycle of two half cycles of 100 samples, with pressure, and the end of the run."""
    writing.journal(Entry.RUN_STARTED, 0.0, channel="A1")
    for index, (label, sign) in enumerate((("charge", 1.0), ("discharge", -1.0)), 1):
        begin = 1000.0 * (index - 1)
        writing.step(index, begin, 1, label, sign * 1e-3)
        for n in range(100):
            time = begin + 10.0 * n
            charge = 1e-3 * (time if sign > 0 else 2000.0 - time)
            writing.sample(
                time, 3.5 + sign * 5e-3 * n, current=sign * 1e-3, charge=charge, step_count=index,
            )  # fmt: skip
            writing.pressure(time + 0.5, 5e6 + 1e3 * n)
        writing.journal(
            Entry.STEP_ENDED, begin + 990.0, index=index, reason="condition",
            condition="voltage >= 4.25 V", duration=990.0, charge=sign * 0.99, energy=sign * 3.7,
        )  # fmt: skip
    writing.close()


def status(name: str = "A1", **fields: object) -> ChannelStatus:
    """The status of an idle channel without instruments."""
    plain: dict[str, object] = {"name": name, "cell": None, "instruments": (), "simulated": True,
                                "state": "idle", "output": "off"}  # fmt: skip
    return ChannelStatus.model_validate(plain | fields)


@dataclass
class StubDesk:
    """Says what the test wants, and remembers what it was asked. refusing: raised by commands."""

    output: Path
    channels: tuple[ChannelStatus, ...] = (status("A1"), status("A2"))
    asked: list[tuple[str, ...]] = field(default_factory=list)
    refusing: RefusedError | None = None
    bench: Bench = field(default_factory=lambda: Bench(Path("bench.toml"), 1.0, {}, {}, {}))
    instance: str = "i1"
    started: float = 1.7e9
    bench_name: str = "bench.toml"
    simulated: bool = True
    speed: float = 60.0
    version: str = "0.1.0"
    shut: threading.Event = field(default_factory=threading.Event)

    def statuses(self) -> tuple[ChannelStatus, ...]:
        return self.channels

    def alarm(self) -> str:
        return ""

    def protocols(self) -> list[ProtocolInfo]:
        schema: Mapping[str, object] = {"type": "object", "properties": {"cycles": {"default": 1}}}
        return [ProtocolInfo(name="cccv", summary="cycles", source="none", parameters=schema)]

    def check(self, channel: str, request: RunRequest) -> CheckReport:
        self._ask("check", channel, request.protocol)
        problem = Problem(where="parameters.cycles", message="too many")
        return CheckReport(ok=False, problems=(problem,))

    async def start(self, channel: str, request: RunRequest, request_id: str = "") -> Started:
        self._ask("start", channel, request.protocol, *filter(None, (request_id,)))
        return Started(run="run1")

    def pause(self, channel: str) -> Done:
        return self._ask("pause", channel)

    def resume(self, channel: str) -> Done:
        return self._ask("resume", channel)

    def acknowledge(self, channel: str, run: str = "") -> Done:
        return self._ask("acknowledge", channel, *filter(None, (run,)))

    async def abort(self, channel: str, run: str = "") -> Done:
        return self._ask("abort", channel, *filter(None, (run,)))

    async def end_step(self, channel: str, step: int = 0, by: str = "") -> Done:
        return self._ask("end_step", channel, str(step), by)

    async def change_limit(self, channel: str, name: str, when: str, by: str = "") -> Done:
        return self._ask("change_limit", channel, name, when, by)

    async def go_on(self, channel: str, run: str = "") -> Started:
        self._ask("go_on", channel, *filter(None, (run,)))
        return Started(run="run1")

    async def stop_all(self) -> Done:
        return self._ask("stop_all")

    def shut_down(self) -> None:
        self._ask("shut_down")
        self.shut.set()

    def _ask(self, *words: str) -> Done:
        self.asked.append(words)
        if self.refusing is not None:
            raise self.refusing
        return Done(ok=True, message=f"{words[0]} done")


class Served:
    """The API of a desk on a port of its own, served in a thread while the context lasts."""

    def __init__(self, desk: StubDesk, views: Views, port: int = 0) -> None:
        self.desk = desk
        self.views = views
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        app = make_app(desk, views, TOKEN, {self.host, f"localhost:{self.port}"})
        self.board: Board = app.state.board
        config = uvicorn.Config(app, log_config=None, **SERVER_OPTIONS)
        self._server = Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    def client(self) -> StationClient:
        """A client that knows the token."""
        return StationClient(self.url, TOKEN)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def warm_views(output: Path) -> Iterator[Views]:
    """Views for several tests: every process and thread is there before the first of them."""

    async def ask() -> None:
        await asyncio.gather(views.fresh({}), views.runs(), _unknown(views))

    with Views(output) as views:
        asyncio.run(ask())
        yield views


async def _unknown(views: Views) -> None:
    with contextlib.suppress(Exception):
        await views.run("nothing of that name")


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    os.kill(pid, 0)
    return stat.rpartition(")")[2].split()[0] not in "ZX"
