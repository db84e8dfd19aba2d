"""The desk and a chamber that the last run could not secure: said, asked again by a stop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from operando.instruments.clock import Clock
from operando.station.client.client import RefusedError
from operando.station.client.models import RunRequest
from operando.station.desk import Desk
from operando.station.engine import Engine
from station.conditioned import write_conditioned_bench
from support.desk_story import REQUEST, tell

WARM = RunRequest(
    protocol="conditioned_cccv",
    parameters={"temperature": "40 degC", "soak": "2 min"},
    poll={"interval": "5 s"},
)

NEIGHBOUR = """
[instruments.smu2]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::5026::SOCKET"
simulated = { cell = "c2" }
[channels.A2]
cell = "c2"
potentiostat = "smu2"
shared = ["oven1"]
[cells.c2]
active_mass = "16.96 mg"
one_c = "185 mA/g"
area = "1.131 cm2"
preset = "ncm811-caec"
room = "oven"
"""


def write_lab(folder: Path, *, shared: bool) -> Path:
    """A channel with a chamber; shared: with another channel that watches the chamber."""
    path = write_conditioned_bench(folder)
    if shared:
        path.write_text(path.read_text(encoding="utf-8") + NEIGHBOUR, encoding="utf-8")
    return path


async def leave_it_on(desk: Desk, engine: Engine, clock: Clock) -> Any:
    """End a run while the chamber is silent; what was answered, and the chamber."""
    simulation: Any = engine.simulation
    await desk.start("A1", WARM)
    await clock.sleep(60.0)
    oven = simulation.devices["oven1"]
    assert oven.mode == "CONSTANT"
    simulation.inject("oven1", "silence")
    done = await desk.abort("A1")
    assert not done.ok
    assert "HEATING OR COOLING: stop it at its panel" in done.message
    assert oven.mode == "CONSTANT"
    return oven


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "watched by another"])
@pytest.mark.parametrize("everything", [False, True], ids=["stop", "stop all"])
def test_a_stop_of_an_idle_channel_secures_what_its_last_run_could_not(
    tmp_path: Path, shared: bool, everything: bool
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        stop = desk.stop_all if everything else lambda: desk.abort("A1")
        oven = await leave_it_on(desk, engine, clock)
        assert await desk.at_rest() == ()  # the cell's circuit is open
        (words,) = desk.unsafe()
        assert words.startswith("channel A1: oven1 IS NOT KNOWN TO BE IN ITS SAFE STATE")
        assert "HEATING OR COOLING: stop it at its panel" in words

        done = await stop()
        assert not done.ok
        assert "oven1 IS NOT READ BACK IN ITS SAFE STATE" in done.message
        assert "HEATING OR COOLING" in done.message
        assert len(desk.unsafe()) == 1

        simulation: Any = engine.simulation
        simulation.inject("oven1", "none")
        stopping = asyncio.create_task(stop())
        await clock.sleep(0.1)
        desk.acknowledge("A1")
        with pytest.raises(RefusedError, match="being switched off"):
            await desk.start("A1", WARM)
        done = await stopping
        assert done.ok
        assert "oven1 was read back in its safe state" in done.message
        assert oven.mode == "STANDBY"
        assert desk.unsafe() == ()
        status = desk.statuses()[0]
        assert "oven1 was then brought into its safe state by a stop" in status.reason
        # Another stop leaves alone what is not this channel's to care for any more.
        oven._enter("CONSTANT", clock.now())
        assert (await stop()).ok
        assert oven.mode == "CONSTANT"

    tell(tmp_path, story, bench=write_lab(tmp_path, shared=shared))


def test_a_stop_secures_a_chamber_through_the_session_of_those_who_watch_it(
    tmp_path: Path,
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        simulation: Any = engine.simulation
        await desk.start("A2", REQUEST)
        oven = await leave_it_on(desk, engine, clock)
        opened: list[float] = []
        connected = oven.connected

        def counting(line: Any, now: float) -> None:
            opened.append(now)
            connected(line, now)

        oven.connected = counting
        simulation.inject("oven1", "none")
        await clock.sleep(60.0)  # the neighbour reads it again
        opened.clear()
        assert (await desk.abort("A1")).ok
        assert oven.mode == "STANDBY"
        assert opened == []
        assert [one.state for one in desk.statuses()] == ["faulted", "running"]
        await desk.stop_all()

    tell(tmp_path, story, bench=write_lab(tmp_path, shared=True))
