"""The simulated Rapidox 1100 oxygen analyser."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.clock import VIRTUAL_EPOCH, Clock
from operando.instruments.errors import BadInputError, ReplyTimeoutError
from operando.instruments.wires import Sized, Terminated
from operando.simulators.devices.device import Options
from operando.simulators.devices.dmt143 import SimulatedDMT143
from operando.simulators.devices.gas_sensor import saturation_pressure
from operando.simulators.devices.keller import SimulatedKeller33X
from operando.simulators.devices.ports import Site
from operando.simulators.devices.rapidox import FARADAY, GAS_CONSTANT, SimulatedRapidox
from operando.simulators.rooms import OXYGEN_IN_AIR, Glovebox
from simulators.bench_of_one import Host, connect, virtual
from simulators.room_of_one import Box, sensor_in

EXACT: dict[str, object] = {"noise": 0.0, "pressure_noise": 0.0, "warm_up_error": 0.0}


async def analyser(box: Box | None, **options: object) -> tuple[Host, Callable[[str], None]]:
    """An analyser without noise and warm-up error unless asked for."""
    return await sensor_in(SimulatedRapidox, box, {**EXACT, **options})


async def ask(host: Host) -> str:
    """Send `D` without a terminator; the reply without CR LF."""
    reply = await host.wire.exchange(b"D", Terminated(b"\r\n"), 5.0)
    return reply.decode("ascii")


async def parts(host: Host) -> tuple[float, float, int]:
    """Oxygen as a mole fraction, cell voltage in V and state of an 1100E."""
    reply = await ask(host)
    assert reply[0] == "d"
    fields = reply[1:].split(",")
    return float(fields[0]) * 1e-6, float(fields[1]) * 1e-3, int(fields[6])


def cell_temperature(voltage: float, fraction: float) -> float:
    """Temperature at which the Nernst equation gives a voltage (V), K."""
    return abs(voltage * 4.0 * FARADAY / GAS_CONSTANT / math.log(OXYGEN_IN_AIR / fraction))


def seconds_to(moment: datetime) -> float:
    """From the beginning of virtual time to a moment, s."""
    return moment.timestamp() - VIRTUAL_EPOCH


@pytest.mark.parametrize(
    ("layout", "polarity", "millivolts", "gauge", "line"),
    [
        (
            "1100E",
            "sample minus air",
            14.26,
            200.0,
            "d2.959E+05,1.426E+01,2.000E-03,23:19:40,14/01/00,ALM1&2,0",
        ),
        (
            "1100ZR",
            "air minus sample",
            -14.26,
            2e5,
            "d2.959E+05,-1.426E+01,2.000E+00,,23:19:40,14/01/00,,,ALM1&2,0",
        ),
    ],
)
@virtual
async def test_the_manuals_replies_are_given_byte_for_byte(
    layout: str, polarity: str, millivolts: float, gauge: float, line: str
) -> None:
    box = Box(o2=0.2959)
    box.pascals += gauge
    host, _ = await analyser(
        box,
        layout=layout,
        cell_polarity=polarity,
        cell_temperature=cell_temperature(millivolts * 1e-3, 0.2959),
        alarm1=0.1,
        alarm2=0.2,
        clock_offset=seconds_to(datetime(2000, 1, 14, 23, 19, 40, tzinfo=UTC)),
    )
    assert await host.wire.exchange(b"D", Terminated(b"\n"), 5.0) == line.encode() + b"\r"


@virtual
async def test_a_trace_of_oxygen_is_given_without_alarms() -> None:
    box = Box(o2=0.8e-6)
    box.pascals += 200.0
    host, _ = await analyser(
        box,
        cell_temperature=cell_temperature(0.155, 0.8e-6),
        clock_offset=seconds_to(datetime(2026, 2, 1, 10, 15, tzinfo=UTC)),
    )
    assert await ask(host) == "d8.000E-01,1.550E+02,2.000E-03,10:15:00,01/02/26,,0"


@virtual
async def test_from_power_to_the_first_reading_it_says_what_it_does() -> None:
    host, _ = await analyser(Box(o2=5e-6), powered_for=0.0, heating_time=180.0)
    said = []
    for moment in (1.0, 30.0, 184.0, 186.0, 189.0, 190.5):
        await host.clock.sleep_until(moment)
        said.append(await ask(host))
    assert said[:5] == [
        "!Initialising",
        "!Sensor heating",
        "!Sensor heating",
        "!Cleaning sensor",
        "!Cleaning sensor",
    ]
    assert said[5].startswith("d5.000E+00,")


@virtual
async def test_a_heater_too_weak_is_a_possible_fault_after_ten_minutes() -> None:
    host, _ = await analyser(Box(), powered_for=0.0, heating_time=1000.0)
    await host.clock.sleep_until(599.0)
    assert await ask(host) == "!Sensor heating"
    await host.clock.sleep_until(600.0)
    assert await ask(host) == "!Possible sensor fault"
    await host.clock.sleep_until(1011.0)
    assert (await ask(host)).startswith("d")


@virtual
async def test_losing_power_makes_the_cell_cold_again() -> None:
    host, inject = await analyser(Box())
    assert (await ask(host)).startswith("d")
    inject("reboot")
    with pytest.raises(ReplyTimeoutError):
        await host.wire.exchange(b"D", Terminated(b"\r\n"), 0.5)
    await host.clock.sleep(1.0)
    assert await ask(host) == "!Initialising"
    await host.clock.sleep(200.0)
    assert (await ask(host)).startswith("d")


@virtual
async def test_faults_inside_are_told_in_its_own_words() -> None:
    host, inject = await analyser(Box(o2=5e-6))
    inject("unplug")
    assert await ask(host) == "!No sensor or sensor fault"
    inject("nak once")
    assert await ask(host) == "!User setup active"
    assert (await parts(host))[2] == 0
    inject("overload once")
    shown, _, state = await parts(host)
    assert (shown, state) == (1.0, 1)
    assert (await parts(host))[2] == 0


@pytest.mark.parametrize(
    ("gauge", "pressure", "state"),
    [(1.5e5, "1.500E+00", "0"), (2.5e5, "2.000E+00", "5"), (-2.5e5, "-2.000E+00", "4")],
)
@virtual
async def test_the_pressure_sensor_has_two_bars_either_way(
    gauge: float, pressure: str, state: str
) -> None:
    box = Box()
    box.outside, box.pascals = 3e5, 3e5 + gauge
    host, _ = await analyser(box)
    fields = (await ask(host)).split(",")
    assert (fields[2], fields[6]) == (pressure, state)


@virtual
async def test_oxygen_beyond_the_range_is_shown_as_its_end_with_the_state() -> None:
    host, _ = await analyser(Box(o2=0.5), highest=0.3)
    assert (await ask(host)).split(",")[::6] == ["d3.000E+05", "1"]
    host, _ = await analyser(Box(o2=1e-7), lowest=1e-6)
    assert (await ask(host)).split(",")[::6] == ["d1.000E+00", "2"]


@virtual
async def test_hydrogen_sulfide_burns_oxygen_at_the_cell() -> None:
    host, _ = await analyser(Box(o2=10e-6, h2s=2e-6))
    assert (await parts(host))[0] == pytest.approx(7e-6, rel=1e-3)
    host, _ = await analyser(Box(o2=10e-6, h2s=20e-6))
    assert (await ask(host)).split(",")[::6] == ["d1.000E-20", "2"]


@virtual
async def test_hydrogen_sulfide_poisons_the_cell_for_good() -> None:
    box = Box(o2=1e-6, h2s=lambda now: 1e-5 if now < 1e5 else 0.0)
    host, inject = await analyser(box, poison_dose=1.0, poison_loss=0.1)
    await ask(host)
    for moment in range(1000, 110_000, 1000):
        await host.clock.sleep_until(float(moment))
        await ask(host)
    shown, voltage, _ = await parts(host)
    # A dose of 1e-5 for 1e5 s costs half of 10 % of the voltage.
    nernst = GAS_CONSTANT * 923.15 / (4.0 * FARADAY)
    assert voltage == pytest.approx(0.95 * nernst * math.log(OXYGEN_IN_AIR / 1e-6), rel=2e-3)
    assert shown > 1.7e-6
    inject("reboot 10 s")
    await host.clock.sleep(300.0)
    assert (await parts(host))[0] == pytest.approx(shown, rel=1e-2)


@virtual
async def test_a_poisoned_cell_follows_more_slowly() -> None:
    async def after_a_step(dose: float) -> float:
        step_at = 10.0 * math.ceil(1.0 + 0.1 * asyncio.get_running_loop().time())
        box = Box(o2=lambda now: 1e-4 if now < step_at else 2e-4)
        host, _ = await analyser(box, dose=dose, poison_loss=0.0)
        for quarter in range(-4, 24):
            await host.clock.sleep_until(step_at + 0.25 * quarter)
            await ask(host)
        return (await parts(host))[0]

    # Time constants of 2 s, and of 2 s (1 + 9/2), six seconds after the step.
    assert await after_a_step(0.0) == pytest.approx(1e-4 * 2.0 ** (1.0 - math.exp(-3.0)), rel=0.02)
    assert await after_a_step(1.0) == pytest.approx(
        1e-4 * 2.0 ** (1.0 - math.exp(-6.0 / 11.0)), rel=0.02
    )


@virtual
async def test_what_it_shows_does_not_depend_on_how_often_it_is_asked() -> None:
    async def at_ten_seconds(polls: int) -> float:
        start = asyncio.get_running_loop().time()
        box = Box(o2=lambda now: 1e-6 * math.exp(0.3 * (now - start)))
        host, _ = await analyser(box, sensing_time=3.0)
        for poll in range(polls):
            await host.clock.sleep_until(start + 10.0 * poll / polls)
            await ask(host)
        await host.clock.sleep_until(start + 10.0)
        return (await parts(host))[0]

    seldom = await at_ten_seconds(1)
    assert await at_ten_seconds(40) == pytest.approx(seldom, rel=1e-3)
    # A first-order lag follows a ramp of the logarithm one time constant behind.
    behind = 0.9 * (1.0 - math.exp(-10.0 / 3.0))
    assert seldom == pytest.approx(1e-6 * math.exp(3.0 - behind), rel=1e-3)


@virtual
async def test_errors_of_calibration_warm_up_and_age_shift_the_cell_voltage() -> None:
    nernst = GAS_CONSTANT * 923.15 / (4.0 * FARADAY)
    true = nernst * math.log(OXYGEN_IN_AIR / 1e-6)
    host, _ = await analyser(Box(o2=1e-6), offset=2e-3)
    assert (await parts(host))[1] == pytest.approx(true + 2e-3, rel=1e-3)
    host, _ = await analyser(Box(o2=1e-6), ageing=0.05, age=2.0 * 365.25 * 86_400.0)
    assert (await parts(host))[1] == pytest.approx(0.9 * true, rel=1e-3)
    host, _ = await analyser(
        Box(o2=1e-6), warm_up_error=5e-3, powered_for=185.0 + 600.0, warm_up_time=600.0
    )
    assert (await parts(host))[1] == pytest.approx(true + 5e-3 * math.exp(-1.0), rel=1e-3)


@virtual
async def test_without_compensation_it_shows_the_partial_pressure() -> None:
    box = Box(o2=1e-5)
    box.pascals *= 1.1
    host, _ = await analyser(box, pressure_compensation=False)
    assert (await parts(host))[0] == pytest.approx(1.1e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alarm1": 1e-6}, "ALM1"),
        ({"alarm2": 1e-6}, "ALM2"),
        ({"alarm1": 1e-4, "alarm2": 1e-4}, ""),
        ({"alarm1": 1e-4, "alarm_polarity": "falling"}, "ALM1"),
    ],
)
@virtual
async def test_each_alarm_has_its_set_point(options: dict[str, object], text: str) -> None:
    host, _ = await analyser(Box(o2=1e-5), **options)
    assert (await ask(host)).split(",")[5] == text


@virtual
async def test_without_a_room_it_senses_laboratory_air() -> None:
    host, _ = await analyser(None)
    assert (await parts(host))[0] == pytest.approx(0.2068, rel=1e-3)


@virtual
async def test_the_serial_line_takes_its_time_and_requests_wait_for_each_other() -> None:
    host, _ = await analyser(Box(), baud=1200, response_time=0.1)
    before = host.clock.now()
    length = len(await ask(host)) + 2
    one = 0.1 + 10.0 * (1 + length) / 1200.0
    assert host.clock.now() - before == pytest.approx(one)
    before = host.clock.now()

    def both(reply: bytes) -> int:
        return len(reply) + (0 if reply.count(b"\n") == 2 else 1)

    await host.wire.exchange(b"DD", Sized(1, both), 5.0)
    assert host.clock.now() - before == pytest.approx(2.0 * one, rel=0.02)


@virtual
async def test_what_is_not_a_request_is_ignored() -> None:
    host, _ = await analyser(Box())
    with pytest.raises(ReplyTimeoutError):
        await host.wire.exchange(b"d\r\n?\r\n", Terminated(b"\r\n"), 5.0)
    # A request for identification has the letter in it.
    reply = await host.wire.exchange(b"*IDN?\r\n", Terminated(b"\r\n"), 5.0)
    assert reply.startswith(b"d")


@virtual
async def test_noise_comes_from_the_name_and_the_seed() -> None:
    async def three(seed: int) -> list[str]:
        host, _ = await sensor_in(SimulatedRapidox, Box(), {"seed": seed, "noise": 1e-3})
        return [(await ask(host)).split(",")[1] for _ in range(3)]

    assert await three(1) == await three(1)
    assert await three(1) != await three(2)


@virtual
async def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(BadInputError, match="heater"):
        await analyser(Box(), heater="weak")


@virtual
async def test_the_monitors_of_a_glovebox_show_its_own_air() -> None:
    clock = Clock("virtual")
    box = Glovebox(Options("[rooms.g1]", {"o2": 3e-6, "h2o": 8e-6}), clock.now())
    oxygen = SimulatedRapidox("o2", site=Site(room=box), clock=clock, options=EXACT)
    prompt_and_deep = {"noise": 0.0, "drying_time": 0.0, "lowest": 170.0}
    water = SimulatedDMT143("h2o", site=Site(room=box), clock=clock, options=prompt_and_deep)
    pressure = SimulatedKeller33X("p", site=Site(room=box), clock=clock, options={"noise": 0.0})
    o2_host, h2o_host = (await connect(oxygen, clock))[0], (await connect(water, clock))[0]
    p_host = (await connect(pressure, clock))[0]
    for moment in (0.0, 300.0, 600.0):
        await clock.sleep_until(moment)
        shown = (await parts(o2_host))[0]
        assert shown == pytest.approx(box.fraction("o2", clock.now()), rel=0.03)
        line = await h2o_host.wire.exchange(b"SEND\r", Terminated(b" 'C"), 1.0)
        vapour = box.fraction("h2o", clock.now()) * box.pressure(clock.now())
        celsius = float(line.decode().split("=")[1])
        assert saturation_pressure(celsius + 273.15) == pytest.approx(vapour, rel=0.02)
        request = bytes.fromhex("01 03 00 12 00 02 64 0E")
        reply = await p_host.wire.exchange(request, Sized(1, lambda data: 9), 1.0)
        gauge = box.pressure(clock.now()) - box.surrounding_pressure(clock.now())
        assert int.from_bytes(reply[3:7], "big", signed=True) == pytest.approx(gauge, abs=5.0)


@given(st.binary(max_size=100))
def test_any_bytes_leave_it_alive(noise: bytes) -> None:
    @virtual
    async def scenario() -> None:
        host, _ = await analyser(Box())
        await host.wire.send(noise, 1.0)
        await host.clock.sleep(10.0)
        assert (await ask(host)).startswith("d")

    scenario()
