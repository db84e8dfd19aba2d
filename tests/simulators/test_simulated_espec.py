"""The simulated temperature chamber: its lines, its loop, its alarms, its remote program."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, ReplyTimeoutError
from operando.simulators.devices.espec import ICE_POINT, SimulatedEspecP300
from operando.simulators.devices.ports import Site
from operando.simulators.faults import FaultyPeer
from simulators.bench_of_one import Host, connect, virtual


class Oven:
    """A room that goes to its target at the rate asked for, and stays where it is let go."""

    def __init__(self, celsius: float = 25.1, *, heated: bool = True) -> None:
        self.kelvin = celsius + ICE_POINT
        self.target: float | None = None
        self.rate = 0.0
        self.heated = heated
        self._now = 0.0

    def _advance(self, now: float) -> None:
        assert now >= self._now, "time ran backwards"
        if self.target is not None:
            step = self.rate * (now - self._now)
            lacking = self.target - self.kelvin
            self.kelvin += max(-step, min(step, lacking)) if now > self._now else 0.0
        self._now = now

    def temperature(self, now: float) -> float:
        self._advance(now)
        return self.kelvin

    def pressure(self, now: float) -> float:
        return 101_325.0

    def surrounding_pressure(self, now: float) -> float:
        return 101_325.0

    def fraction(self, gas: str, now: float) -> float:
        return 0.0

    def regulate(self, now: float, target: float | None, rate: float = float("inf")) -> None:
        if not self.heated:
            raise ValueError("nothing heats it")
        self._advance(now)
        self.target, self.rate = target, rate


class Chamber(NamedTuple):
    """A chamber, the room it heats and a host."""

    host: Host
    device: SimulatedEspecP300
    oven: Oven
    faults: FaultyPeer


async def chamber(oven: Oven | None = None, **options: object) -> Chamber:
    """A chamber without noise unless asked for; in virtual time."""
    clock = Clock("virtual")
    oven = oven or Oven()
    device = SimulatedEspecP300(
        "chamber1",
        site=Site(room=oven),
        clock=clock,
        options={"noise": 0.0, "mode_delay": 0.0, **options},
    )
    host, faults = await connect(device, clock, b"\r\n")
    return Chamber(host, device, oven, faults)


@virtual
async def test_the_documented_lines_are_answered_byte_for_byte() -> None:
    host = (await chamber()).host
    assert await host.ask("MON?") == "25.1,,STANDBY,0"
    assert await host.ask("POWER,ON") == "OK:POWER,ON"
    assert await host.ask("MON?") == "25.1,,CONSTANT,0"
    assert await host.ask("TEMP?") == "25.1,25.0,180.0,-70.0"
    assert await host.ask("XYZ?") == "NA:CMD ERR"
    assert await host.ask("TEMP, S60.0") == "OK:TEMP, S60.0"
    assert await host.ask("CONSTANT SET?,TEMP") == "60.0,ON"


@pytest.mark.parametrize(
    ("request_text", "reply"),
    [
        ("ROM?", "P300 01.00"),
        ("TYPE?", "T,P300,180.0"),
        ("MODE?", "STANDBY"),
        ("MODE?,DETAIL", "STANDBY"),
        ("MON?,DETAIL", "25.1,,STANDBY,0"),
        ("ALARM?", "0"),
        ("SRQ?", "00000000"),
        ("MASK?", "00000000"),
        ("SET?", "REF9"),
        ("%?", "1,0.0"),
        ("REF?", "2,OFF1,OFF2"),
        ("RELAY?", "0"),
        ("DATE?", "26.01/01"),
        ("TIME?", "00:00:00"),
        ("KEYPROTECT?", "OFF"),
        ("HUMI?", "NA:CONT NOT READY-1"),
        ("PRGM MON?", "NA:CONT NOT READY-2"),
        ("PRGM,PAUSE", "NA:CONT NOT READY-2"),
        ("PRGM,RUN,RAM:1,STEP1", "NA:DATA NOT READY"),
        ("MODE,RUN3", "NA:DATA NOT READY"),
        ("MODE,SLEEP", "NA:PARA ERR"),
        ("TEMP, S", "NA:PARA ERR"),
        ("TEMP, S10 S20", "NA:PARA ERR"),
        ("TEMP, S200.0", "NA:DATA OUT OF RANGE"),
        ("RELAY,ON,13", "NA:PARA ERR"),
        ("HUMI, S50.0", "NA:CONT NOT READY-1"),
        ("RUN PRGM, TEMP25.0 TIME1:00 HUMI50", "NA:CONT NOT READY-1"),
        ("mode?", "STANDBY"),
    ],
)
def test_each_request_has_its_reply(request_text: str, reply: str) -> None:
    async def scenario() -> None:
        assert await (await chamber()).host.ask(request_text) == reply

    run(scenario(), virtual=True)


@virtual
async def test_a_mode_shows_and_acts_some_time_after_it_was_chosen() -> None:
    host, device, oven, _ = await chamber(mode_delay=2.0)
    assert await host.ask("MODE,CONSTANT") == "OK:MODE,CONSTANT"
    assert await host.ask("MODE?") == "STANDBY"
    assert oven.target is None
    await asyncio.sleep(0.5)
    assert await host.ask("MODE,STANDBY") == "OK:MODE,STANDBY"
    await asyncio.sleep(1.0)
    assert await host.ask("MODE?") == "CONSTANT"
    assert oven.target is not None
    await asyncio.sleep(1.5)
    assert await host.ask("MODE?") == "STANDBY"
    assert await host.ask("MODE,CONSTANT") == "OK:MODE,CONSTANT"
    device.power_cycle(device.clock.now(), 1.0)
    await asyncio.sleep(5.0)
    assert await host.ask("MODE?") == "STANDBY"


@virtual
async def test_settings_read_back() -> None:
    host = (await chamber()).host
    for line in (
        "TEMP, S25.0 H80.0 L-20.0",
        "SET,REF6",
        "RELAY,ON,1,2,5",
        "RELAY,OFF,2",
        "MASK,01110010",
        "KEYPROTECT,ON",
        "DATE,27.3/4",
        "TIME,10:15:00",
    ):
        assert not (await host.ask(line)).startswith("NA:"), line
    assert await host.ask("TEMP?") == "25.1,25.0,80.0,-20.0"
    assert await host.ask("SET?") == "REF6"
    assert await host.ask("RELAY?") == "2,1,5"
    assert await host.ask("MASK?") == "01110010"
    assert await host.ask("KEYPROTECT?") == "ON"
    assert await host.ask("DATE?") == "27.03/04"
    assert (await host.ask("TIME?")).startswith("10:15:0")
    await host.ask("KEYPROTECT,off")
    await host.ask("POWER,off")
    assert await host.ask("KEYPROTECT,ON") == "NA:CONT NOT READY-4"


@virtual
async def test_it_heats_at_its_own_rate_and_holds_the_set_point() -> None:
    rig = await chamber(Oven(20.0), heating_rate=0.05)
    await rig.host.ask("TEMP, S50.0")
    await rig.host.ask("MODE,CONSTANT")
    await rig.host.clock.sleep(300.0)
    assert float((await rig.host.ask("MON?")).split(",")[0]) == pytest.approx(35.0, abs=0.2)
    assert await rig.host.ask("%?") == "1,100.0"
    await rig.host.clock.sleep(600.0)
    assert await rig.host.ask("TEMP?") == "50.0,50.0,180.0,-70.0"
    await rig.host.ask("MODE,STANDBY")
    assert rig.oven.target is None, "in standby nothing regulates the room"


@virtual
async def test_cooling_has_a_rate_of_its_own() -> None:
    rig = await chamber(Oven(20.0), cooling_rate=0.01)
    await rig.host.ask("TEMP, S0.0")
    await rig.host.ask("POWER,ON")
    await rig.host.clock.sleep(1000.0)
    assert await rig.host.ask("MON?") == "10.0,,CONSTANT,0"


@virtual
async def test_the_room_is_off_by_what_the_sensor_shows_too_much() -> None:
    rig = await chamber(Oven(20.0), sensor_offset=0.7)
    await rig.host.ask("TEMP, S40.0")
    await rig.host.ask("POWER,ON")
    await rig.host.clock.sleep(3000.0)
    assert await rig.host.ask("MON?") == "40.0,,CONSTANT,0"
    assert rig.oven.temperature(rig.host.clock.now()) - ICE_POINT == pytest.approx(39.3, abs=1e-6)


@virtual
async def test_a_drifting_sensor_is_followed_while_nobody_asks() -> None:
    rig = await chamber(Oven(40.0), sensor_drift=1.0, watch_interval=3600.0)
    await rig.host.ask("TEMP, S40.0")
    await rig.host.ask("POWER,ON")
    await rig.host.clock.sleep(0.5 * 365.25 * 86400.0)
    true = rig.oven.temperature(rig.host.clock.now()) - ICE_POINT
    assert true == pytest.approx(39.5, abs=1e-3)


@virtual
async def test_a_set_point_must_lie_between_the_alarm_limits() -> None:
    host = (await chamber()).host
    assert (await host.ask("TEMP, H60.0 L10.0")).startswith("OK")
    assert await host.ask("TEMP, S60.1") == "NA:DATA OUT OF RANGE"
    assert await host.ask("TEMP, S70.0 H80.0") == "OK:TEMP, S70.0 H80.0"
    assert await host.ask("TEMP, H65.0") == "NA:DATA OUT OF RANGE"
    assert await host.ask("TEMP?") == "25.1,70.0,80.0,10.0"


@virtual
async def test_beyond_its_alarm_limit_it_stops_by_itself() -> None:
    rig = await chamber(Oven(25.0), high_alarm_code=7)
    await rig.host.ask("TEMP, S25.0 H30.0")
    await rig.host.ask("POWER,ON")
    rig.oven.kelvin = 31.0 + ICE_POINT
    rig.oven.rate = 0.0
    await rig.host.clock.sleep(11.0)
    assert rig.oven.target is None
    assert await rig.host.ask("ALARM?") == "1,7"
    assert await rig.host.ask("MON?") == "31.0,,STANDBY,1"
    assert (await rig.host.ask("SRQ?"))[1] == "1"
    await rig.host.ask("SRQ,RESET")
    assert await rig.host.ask("SRQ?") == "00000000"
    await rig.host.ask("MODE,CONSTANT")
    assert await rig.host.ask("MODE?") == "STANDBY", "the room is still too hot"


@virtual
async def test_an_alarm_may_leave_it_running() -> None:
    rig = await chamber(Oven(31.0), alarm_action="continue")
    await rig.host.ask("TEMP, S25.0 H30.0")
    await rig.host.ask("POWER,ON")
    assert await rig.host.ask("MON?") == "31.0,,CONSTANT,1"


@virtual
async def test_a_remote_program_ramps_pauses_and_ends_in_hold() -> None:
    rig = await chamber(Oven(20.0), heating_rate=1.0)
    host = rig.host
    await host.ask("RUN PRGM, TEMP20.0 TIME1:00 GOTEMP50.0")
    assert await host.ask("MODE?") == "RUN"
    assert await host.ask("MODE?,DETAIL") == "RMT RUN"
    assert await host.ask("RUN PRGM?") == "TEMP20.0 GOTEMP50.0 TIME1:00 REF9"
    await host.clock.sleep_until(1800.0)
    shown, wanted, *_ = (await host.ask("TEMP?")).split(",")
    assert float(shown) == pytest.approx(35.0, abs=0.2)
    assert float(wanted) == pytest.approx(35.0, abs=0.1)
    assert (await host.ask("RUN PRGM MON?")).split(",")[2] in ("0:29", "0:30")
    await host.ask("PRGM,PAUSE")
    await host.clock.sleep(7200.0)
    assert await host.ask("MODE?,DETAIL") == "RMT RUN PAUSE"
    assert float((await host.ask("MON?")).split(",")[0]) == pytest.approx(35.0, abs=0.2)
    await host.ask("PRGM,CONTINUE")
    await host.clock.sleep(1900.0)
    assert await host.ask("MODE?,DETAIL") == "RMT RUN END HOLD"
    assert (await host.ask("TEMP?")).startswith("50.0,50.0,")
    assert (await host.ask("SRQ?"))[2] == "1"
    await host.ask("PRGM,END,STANDBY")
    assert await host.ask("RUN PRGM MON?") == "NA:CONT NOT READY-2"


@virtual
async def test_on_rs485_only_its_own_address_answers_and_replies_carry_none() -> None:
    host = (await chamber(address=3)).host
    assert await host.ask("3,MON?") == "25.1,,STANDBY,0"
    for other in ("MON?", "4,MON?", "x,MON?"):
        with pytest.raises(ReplyTimeoutError):
            await host.ask(other, timeout=2.0)


@virtual
async def test_the_line_and_the_controller_take_their_time() -> None:
    host = (await chamber(baud=1200, response_time=0.2, set_time=0.5)).host
    before = host.clock.now()
    reply = await host.ask("MON?")
    asked = 10.0 * (len("MON?\r\n") + len(reply) + 2) / 1200.0
    assert host.clock.now() - before == pytest.approx(0.2 + asked)
    before = host.clock.now()
    reply = await host.ask("POWER,ON")
    asked = 10.0 * (len("POWER,ON\r\n") + len(reply) + 2) / 1200.0
    assert host.clock.now() - before == pytest.approx(0.5 + asked)


@pytest.mark.parametrize(
    ("kind", "reply"), [("ok command", "OK:SET,REF0"), ("ok", "OK"), ("command", "SET,REF0")]
)
def test_how_a_setting_is_acknowledged_is_an_option(kind: str, reply: str) -> None:
    async def scenario() -> None:
        assert await (await chamber(set_reply=kind)).host.ask("SET,REF0") == reply

    run(scenario(), virtual=True)


@virtual
async def test_protected_data_can_be_read_and_not_written() -> None:
    host = (await chamber(protected=True)).host
    assert await host.ask("TEMP, S60.0") == "NA:PROTECT ON"
    assert await host.ask("TEMP?") == "25.1,25.0,180.0,-70.0"


@virtual
async def test_faults_inside_it_are_refusals_alarms_and_a_restart() -> None:
    rig = await chamber()
    await rig.host.ask("POWER,ON")
    rig.faults.inject("nak once")
    assert await rig.host.ask("MODE,STANDBY") == "NA:CHB NOT READY"
    assert await rig.host.ask("MODE?") == "CONSTANT"
    rig.faults.inject("error 12")
    assert await rig.host.ask("ALARM?") == "1,12"
    assert await rig.host.ask("MODE?") == "STANDBY"
    await rig.host.ask("POWER,ON")
    rig.faults.inject("reboot 20 s")
    assert rig.oven.target is None
    with pytest.raises(ReplyTimeoutError):
        await rig.host.ask("MODE?", timeout=10.0)
    await rig.host.clock.sleep(15.0)
    assert await rig.host.ask("MODE?") == "STANDBY"


@virtual
async def test_after_a_power_failure_it_may_resume() -> None:
    rig = await chamber(after_power_failure="resume")
    await rig.host.ask("POWER,ON")
    rig.faults.inject("reboot 20 s")
    await rig.host.clock.sleep(25.0)
    assert await rig.host.ask("MODE?") == "CONSTANT"
    assert rig.oven.target is not None


@virtual
async def test_noise_depends_on_name_and_seed_alone() -> None:
    async def shown(seed: int) -> list[str]:
        host = (await chamber(noise=0.5, seed=seed)).host
        return [await host.ask("MON?") for _ in range(5)]

    assert await shown(1) == await shown(1)
    assert await shown(1) != await shown(2)


def test_a_room_that_nothing_heats_is_refused_at_once() -> None:
    async def scenario() -> None:
        with pytest.raises(BadInputError, match="nothing heats"):
            await chamber(Oven(heated=False))
        with pytest.raises(BadInputError, match="needs the room"):
            SimulatedEspecP300("chamber1", site=Site(), clock=Clock("virtual"), options={})

    run(scenario(), virtual=True)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_leave_it_alive(noise: list[bytes]) -> None:
    async def scenario() -> None:
        rig = await chamber()
        for piece in noise:
            await rig.host.wire.send(piece + b"\r\n", 1.0)
        await asyncio.sleep(60.0)
        assert (await rig.host.ask("MON?", timeout=60.0)).count(",") == 3

    run(scenario(), virtual=True)


WORDS = st.sampled_from(
    ["TEMP", "MODE", "RUN PRGM", "PRGM", "RELAY", "DATE", "TIME", "SET", "MASK", "KEYPROTECT"]
)


@given(WORDS, st.text(alphabet="SHLRTEMPIGO0123456789.,:- /", max_size=30))
def test_any_argument_is_carried_out_or_refused_by_name(word: str, rest: str) -> None:
    async def scenario() -> None:
        rig = await chamber()
        reply = await rig.host.ask(f"{word},{rest}")
        assert reply.startswith(("OK:", "NA:"))
        assert -70.0 <= rig.device.set_point <= 180.0

    run(scenario(), virtual=True)
