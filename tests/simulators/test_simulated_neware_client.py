"""The public client `aurora-neware` (Empa), unmodified, against the simulated BTS 8 over TCP."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from operando.instruments.clock import Clock, run
from operando.simulators.devices.neware import SimulatedNewareBts8
from operando.simulators.devices.ports import Site
from operando.simulators.faults import FaultyPeer
from operando.simulators.wire import TcpServer
from simulators.neware_bench import END, LOG_IN, QUIET, LinearCell, charge, hold, rest, step_file

pytestmark = pytest.mark.sockets

T = TypeVar("T")
NAMES = ("21-1-1", "21-1-2", "21-2-1")


def with_client(port: int, use: Callable[[], T]) -> tuple[T, SimulatedNewareBts8]:
    """Serve three channels at sixty times the speed of the wall, and use them in a thread."""

    async def scenario() -> tuple[T, SimulatedNewareBts8]:
        clock = Clock("scaled", 60.0)
        first, *others = NAMES
        device = SimulatedNewareBts8(
            "c1", site=Site(LinearCell(slope=1.0)), clock=clock, options=QUIET, channel=first
        )
        for name in others:
            site = Site(LinearCell(slope=1.0))
            device.add_channel(f"c{name}", name, site=site, options=QUIET)
        server = TcpServer(FaultyPeer(device, clock, name="c1"), clock, "127.0.0.1", port)
        await server.start()
        try:
            return await asyncio.to_thread(use), device
        finally:
            await server.close()
            device.close()

    return run(scenario())


def test_the_public_client_runs_a_schedule_and_downloads_it(free_port: int, tmp_path: Path) -> None:
    client: Any = pytest.importorskip("aurora_neware", reason="needs the package aurora-neware")
    path = tmp_path / "steps.xml"
    path.write_bytes(
        step_file(
            [rest(60), charge(0.01, 3.3), hold(3.3, 5e-3), charge(-0.01, 3.0)],
            record='<Time Value="1000"/>',
        )
    )

    def use() -> tuple[Any, ...]:
        with client.NewareAPI("127.0.0.1", free_port) as api:
            started = api.start("21-1-2", "cell 2", path, tmp_path)
            with pytest.raises(ValueError, match="working"):
                api.start("21-1-2", "cell 2", path, tmp_path)
            live = api.inquire()
            deadline = time.monotonic() + 30.0
            while api.getchlstatus("21-1-2")["21-1-2"]["status"] == "working":
                assert time.monotonic() < deadline
            answers = (api.light(list(NAMES)), api.clearflag("21-1-1"), api.stop("21-2-1"))
            return (
                list(api.channel_map),
                started,
                live,
                api.get_steps("21-1-2"),
                api.download("21-1-2", 0),
                api.downloadlog("21-1-2"),
                api.get_testid("21-1-2"),
                answers,
            )

    (found, started, live, steps, rows, log, number, answers), device = with_client(free_port, use)
    assert tuple(found) == NAMES
    assert [one["start"] for one in started] == ["ok"]
    assert {name: one["workstatus"] for name, one in live.items()} == {
        "21-1-1": "finish",
        "21-1-2": "working",
        "21-2-1": "finish",
    }
    assert [(one["stepid"], one["steptype"]) for one in steps] == [
        (1, "rest"), (2, "cc"), (3, "cv"), (4, "dc"),
    ]  # fmt: skip
    # 0.2 C at 10 mA, and a decay to half of the current; a busy computer looks late.
    assert 0.199 <= 3600 * steps[1]["cap"] <= 0.3
    assert 0.0 <= steps[2]["endcurr"] <= 5.1e-3
    assert rows["seqid"] == list(range(1, len(rows["seqid"]) + 1))
    assert len(rows["seqid"]) == steps[-1]["endseqid"]
    assert [one["log_code"] for one in log] == [100000, 100001]
    assert number["21-1-2"]["full_test_id"] == "21-1-2-143"
    lights, flags, stops = answers
    assert [one["light"] for one in lights] == ["ok", "ok", "ok"]
    assert [one["clearflag"] for one in flags] == ["false"]
    assert [one["stop"] for one in stops] == ["false"]
    assert not device.relay_closed


def test_a_long_reply_comes_whole_over_a_socket(free_port: int) -> None:
    """Three requests in one write, read in small pieces: three replies, in order."""
    items = "".join(
        f'<status devtype="27" devid="21" subdevid="1" chlid="{at}">true</status>'
        for at in range(2000)
    )
    asked = f'<bts version="1.0"><cmd>getchlstatus</cmd><list>{items}</list></bts>'.encode() + END

    def use() -> list[bytes]:
        with socket.create_connection(("127.0.0.1", free_port), timeout=20.0) as link:
            link.sendall(LOG_IN + END + asked + asked)
            said = b""
            while said.count(END) < 3:
                said += link.recv(2048)
            return said.split(END)

    (login, first, second, rest_of_it), _ = with_client(free_port, use)
    assert b"connect_resp" in login
    assert first == second
    assert first.count(b"</status>") == 2000
    assert rest_of_it == b""
