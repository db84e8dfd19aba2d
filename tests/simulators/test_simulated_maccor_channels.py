"""What a channel of the simulated Maccor does: direct mode, watchdog, safety, procedures."""

from __future__ import annotations

import statistics

import pytest

from operando.instruments.clock import Clock, run
from operando.simulators.cell import cell_from_preset
from operando.simulators.devices.maccor import SimulatedMaccor
from operando.simulators.devices.ports import Site
from simulators.bench_of_one import ResistorCell, Spring, virtual
from simulators.maccor_bench import PROCEDURE, START, a_tester

LSB = 10.0 / 131070.0
"""V: one step of the readings in the vendor's examples."""

SAFETY = {
    "VSafeMax": 4.3,
    "VSafeMin": 2.4,
    "ISafeChg": 0.1,
    "ISafeDis": 0.1,
    "PBatSafeChg": 0,
    "PBatSafeDis": 0,
}


# -- direct mode


@virtual
async def test_direct_mode_needs_a_moment_before_it_takes_outputs() -> None:
    at = await a_tester(start_time=1.0)
    assert await at.output(Current=0.01) == "The channel is not active"
    assert await at.told(6, 7, **START) == "OK"
    assert (await at.state())["Stat"] == 12
    assert await at.output(Current=0.01) == "Direct mode is not ready yet."
    await at.clock.sleep(1.0)
    assert (await at.state())["Stat"] == 2
    assert await at.told(6, 8, **{**START, "Current": 0.01}) == "OK"
    assert (await at.told(6, 8, **{**START, "Current": 0.02})).startswith("Command sent too fast")
    assert (await at.state())["Current"] == pytest.approx(0.01, abs=1e-5)
    assert await at.output(Current=0.02) == "OK"


@virtual
async def test_an_output_is_refused_outside_direct_mode_and_on_other_systems() -> None:
    at = await a_tester(start_time=0.0)
    assert await at.told(6, 2, **PROCEDURE) == "OK"
    await at.clock.sleep(0.1)
    assert await at.output() == "Direct mode is not active."
    at = await a_tester(system_type=3)
    assert (await at.told(6, 7, **START)).startswith("Illegal system type")
    assert (await at.output()).startswith("Illegal system type")


@virtual
async def test_a_charge_is_held_at_its_voltage_and_counted() -> None:
    at = await a_tester(watchdog=0.0)
    await at.begin()
    assert await at.output(Current=0.02, Voltage=4.2) == "OK"
    await at.clock.sleep(360.0)
    seen = await at.state()
    assert (seen["RF1"], seen["Voltage"]) == (1, pytest.approx(3.9, abs=2e-4))
    assert seen["Capacity"] == pytest.approx(0.002, rel=1e-3)
    assert seen["Energy"] == pytest.approx(0.002 * 3.9, rel=1e-3)
    assert seen["LastRecNum"] == pytest.approx(360, abs=5)
    assert at.cell.charge == pytest.approx(7.2, rel=1e-3)
    assert await at.output(Current=0.1, Voltage=4.2) == "OK"
    seen = await at.state()
    assert seen["Voltage"] == pytest.approx(4.2, abs=2e-4)
    assert seen["Current"] == pytest.approx(0.05, abs=5e-5)


@pytest.mark.parametrize(("signed", "told"), [(False, 0.02), (True, -0.02)])
def test_a_discharge_is_told_by_its_reason_code_or_by_a_sign(signed: bool, told: float) -> None:
    async def scenario() -> None:
        at = await a_tester(signed_current=signed)
        await at.begin()
        assert await at.output(Current=0.02, Voltage=2.5, ChMode="D") == "OK"
        seen = await at.state()
        assert (seen["RF1"], seen["Current"]) == (2, pytest.approx(told, abs=1e-5))
        assert (await at.ask(4, 3, Chan=0, Len=1))["Current"] == [pytest.approx(told, abs=1e-5)]
        assert seen["Voltage"] == pytest.approx(3.5, abs=2e-4)
        assert at.cell.terminal(at.clock.now()).current == pytest.approx(-0.02, abs=1e-5)

    run(scenario(), virtual=True)


@virtual
async def test_a_charge_to_a_voltage_below_the_cell_does_not_discharge_it() -> None:
    at = await a_tester()
    await at.begin()
    assert await at.output(Current=0.02, Voltage=3.0) == "OK"
    await at.clock.sleep(2.0)
    assert (await at.state())["Current"] == 0
    assert at.cell.charge == 0.0
    at.cell.emf = 2.9
    at.cell.open_circuit(at.clock.now())
    await at.clock.sleep(2.0)
    assert (await at.state())["Current"] == pytest.approx(0.01, abs=1e-4)


@virtual
async def test_a_charge_stops_when_the_cell_would_push_back() -> None:
    at = await a_tester(watchdog=0.0)
    await at.begin()
    await at.output(Current=0.02, Voltage=4.2)
    at.cell.emf = 4.3
    at.cell.source_voltage(at.clock.now(), 4.2, 0.02)
    assert at.cell.terminal(at.clock.now()).current < 0.0
    await at.clock.sleep(1.0)
    assert at.cell.terminal(at.clock.now()).current == 0.0


@virtual
async def test_a_channel_at_rest_does_not_mind_who_else_drives_its_cell() -> None:
    at = await a_tester(procedures="P = rest 100 s")
    await at.ask(6, 10, Chan=0, **SAFETY)
    assert await at.told(6, 2, **{**PROCEDURE, "ProcName": "P"}) == "OK"
    await at.clock.sleep(1.0)
    at.cell.source_current(at.clock.now(), -0.12, 5.0)
    await at.clock.sleep(10.0)
    seen = await at.state()
    assert (seen["Stat"], seen["Current"], seen["Capacity"]) == (2, 0, 0)


@pytest.mark.parametrize(
    ("points", "current"),
    [
        ({"Current": 0.02, "Power": 0.05}, 0.05 / 3.568),
        ({"Current": 0.02, "Power": 65536}, 0.02),
        ({"Current": 0.16, "Power": 65536}, 0.07),
        ({"Current": 0.02, "Resistance": 350, "Power": 65536}, 0.02),
    ],
)
def test_set_points_limit_each_other_and_those_out_of_range_do_not(
    points: dict[str, object], current: float
) -> None:
    # The resistance was 0 when direct mode began: it stays without effect.
    async def scenario() -> None:
        at = await a_tester()
        await at.begin()
        assert await at.output(**points, Voltage=3.0, ChMode="D") == "OK"
        await at.clock.sleep(3.0)
        assert (await at.state())["Current"] == pytest.approx(current, rel=5e-3)

    run(scenario(), virtual=True)


@virtual
async def test_a_resistance_that_was_set_at_the_start_loads_the_cell() -> None:
    at = await a_tester()
    await at.begin(Resistance=350, Power=65536)
    assert await at.output(Current=0.1, Voltage=3.0, Resistance=360, ChMode="D") == "OK"
    await at.clock.sleep(3.0)
    assert (await at.state())["Current"] == pytest.approx(0.01, rel=2e-3)


@virtual
async def test_four_set_points_at_once_are_one_too_many() -> None:
    at = await a_tester()
    four = {**START, "Resistance": 100}
    assert await at.told(6, 7, **four) == "Failed creating the pseudo test procedure"


@pytest.mark.parametrize(("works", "rf1"), [(False, 1), (True, 4)])
def test_a_rest_in_json_has_no_effect_unless_it_is_mended(works: bool, rf1: int) -> None:
    async def scenario() -> None:
        at = await a_tester(json_rest_works=works)
        await at.begin()
        await at.output(Current=0.02)
        assert await at.output(Current=0, ChMode="R") == "OK"
        seen = await at.state()
        assert seen["RF1"] == rf1
        assert seen["Current"] == pytest.approx(0.0 if works else 0.02, abs=1e-5)
        assert at.device.relay_closed is not works

    run(scenario(), virtual=True)


# -- the watchdog


@virtual
async def test_the_relay_opens_when_the_host_is_silent_for_too_long() -> None:
    at = await a_tester(watchdog=5.0, latency=0.0)
    await at.begin()
    await at.output(Current=0.02)
    fed = at.clock.now()
    for _ in range(4):
        await at.clock.sleep(1.0)
        assert (await at.state())["Stat"] == 2, "readings do not feed it"
    await at.output(Current=0.02)
    await at.clock.sleep(4.9)
    assert at.device.relay_closed
    await at.clock.sleep(0.2)
    assert not at.device.relay_closed
    assert at.cell.charge == pytest.approx(0.02 * (9.1), rel=1e-3)
    assert at.clock.now() - fed < 10.0
    seen = await at.state()
    assert (seen["Stat"], seen["RF1"], seen["RF2"]) == (3, 30, 192)
    assert await at.output() == "The channel is not active"
    assert await at.told(6, 4) == "OK"
    assert (await at.state())["Current"] == pytest.approx(0.02, abs=1e-5)


@virtual
async def test_the_relay_opens_after_the_link_is_gone_too() -> None:
    at = await a_tester(watchdog=5.0)
    await at.begin()
    await at.output(Current=0.02)
    at.faults.inject("drop 60 s")
    await at.clock.sleep(5.1)
    assert not at.device.relay_closed


@virtual
async def test_without_a_watchdog_direct_mode_goes_on_for_ever() -> None:
    at = await a_tester(watchdog=0.0)
    await at.begin()
    await at.output(Current=0.02)
    await at.clock.sleep(100_000.0)
    assert at.device.relay_closed


# -- stopping


@virtual
async def test_a_suspended_channel_keeps_its_test_and_a_reset_ends_it() -> None:
    at = await a_tester()
    refused = "The channel is not in a state where it can be {}"
    assert await at.told(6, 3) == refused.format("suspended")
    await at.begin(TestName="cell 7")
    await at.output(Current=0.02)
    await at.clock.sleep(2.0)
    assert await at.told(6, 4) == refused.format("resumed")
    assert await at.told(6, 3) == "OK"
    assert await at.told(6, 3) == "OK", "twice is as good"
    seen = await at.state()
    assert (seen["Stat"], seen["RF1"], seen["RF2"], seen["Current"]) == (3, 30, 192, 0)
    assert not at.device.relay_closed
    await at.clock.sleep(50.0)
    assert (await at.state())["TestTime"] == seen["TestTime"]
    assert (await at.ask(4, 6, Chan=0))["TestName"] == "cell 7"
    assert await at.told(6, 6) == refused.format("archived")
    assert await at.told(6, 5) == "OK"
    assert (await at.state())["Stat"] == 0
    assert (await at.ask(1, 4, TestName="cell 7"))["TestNameExists"] == "TRUE"
    assert await at.told(6, 5) == "OK", "a free channel can be reset"
    await at.begin()
    await at.clock.sleep(2.5)
    seen = await at.state()
    assert seen["TestTime"] == pytest.approx(2.5, abs=0.3)
    assert seen["LastRecNum"] == 3, "each test counts its own records"


# -- safety


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ({"Current": 0.08, "Voltage": 4900}, 253),
        ({"Current": 0.08, "Voltage": 4.4}, 253),
        ({"Current": 0.14, "Voltage": 2.5, "ChMode": "D"}, 252),
        ({"Current": 0.14, "Voltage": 0, "ChMode": "D"}, 253),
        ({"Current": 0.09, "Voltage": 2.5, "ChMode": "D"}, 252),
    ],
)
def test_a_safety_limit_opens_the_relay_without_the_host(
    points: dict[str, object], why: int
) -> None:
    async def scenario() -> None:
        at = await a_tester(watchdog=0.0)
        limits = {**SAFETY, "PBatSafeDis": 0.25}
        assert (await at.ask(6, 10, Chan=0, **limits))["ISafeDis"] == pytest.approx(0.1)
        await at.begin()
        assert await at.output(**points) == "OK"
        assert 2.399 < at.cell.terminal(at.clock.now()).voltage < 4.301
        await at.clock.sleep(1.0)
        assert not at.device.relay_closed
        seen = await at.state()
        assert (seen["Stat"], seen["RF1"], seen["RF2"]) == (5, 29, why)
        assert (await at.output()).startswith("The channel is not active")
        assert await at.told(6, 6) == "OK"
        assert (await at.state())["Stat"] == 0

    run(scenario(), virtual=True)


@virtual
async def test_a_host_that_never_stops_talking_does_not_hold_the_safety_off() -> None:
    at = await a_tester(scan=1.0)
    await at.ask(6, 10, Chan=0, **SAFETY)
    await at.begin()
    for number in range(20):
        await at.output(Current=0.08 + 1e-5 * number, Voltage=4900)
    assert (await at.state())["RF2"] == 253


@virtual
async def test_charging_to_the_safety_limit_itself_is_allowed() -> None:
    at = await a_tester(watchdog=0.0)
    await at.ask(6, 10, Chan=0, **SAFETY)
    await at.begin()
    await at.output(Current=0.1, Voltage=4.3)
    await at.clock.sleep(5.0)
    assert (await at.state())["Stat"] == 2


@pytest.mark.parametrize(
    "wrong", [{"VSafeMax": 11}, {"VSafeMin": 5}, {"ISafeChg": 6}, {"PBatSafeDis": 51}]
)
def test_safety_limits_wider_than_the_channel_are_refused(wrong: dict[str, object]) -> None:
    async def scenario() -> None:
        at = await a_tester()
        reply = await at.message({"FClass": 6, "FNum": 10, "Chan": 0, **SAFETY, **wrong})
        assert reply["error"]["message"] == "Illegal value"
        assert at.device.channel(0).stage.safety.vmax == 10.0

    run(scenario(), virtual=True)


# -- procedures


@virtual
async def test_a_procedure_runs_by_itself_while_nobody_is_connected() -> None:
    at = await a_tester(
        ResistorCell(3.7, 1.0),
        procedures="P = charge 0.5C to 3.74 V; rest 600 s; discharge C/2 to 3.66 V; repeat 2",
    )
    capacities = {**PROCEDURE, "ProcName": "P", "Crate": 0.1}
    assert await at.told(6, 2, **capacities) == "OK"
    await at.wire.close()
    await at.clock.sleep(1300.0)
    await at.wire.open()
    seen = await at.state()
    assert (seen["Stat"], seen["RF1"], seen["RF2"]) == (4, 31, 193)
    assert (seen["Step"], seen["Cycle"]) == (5, 2)
    assert seen["TestTime"] == pytest.approx(1200.0, abs=5.0)
    assert (await at.ask(4, 10, Chan=0))["EndNum"] == 1
    assert not at.device.relay_closed
    assert await at.told(6, 6) == "OK"


@virtual
async def test_a_suspended_rest_goes_on_where_it_was() -> None:
    at = await a_tester(procedures="P = rest 100 s", start_time=0.0)
    assert await at.told(6, 2, **{**PROCEDURE, "ProcName": "P"}) == "OK"
    await at.clock.sleep(40.0)
    await at.told(6, 3)
    await at.clock.sleep(1000.0)
    assert await at.told(6, 4) == "OK"
    await at.clock.sleep(59.0)
    assert (await at.state())["Stat"] == 2
    await at.clock.sleep(2.0)
    assert (await at.state())["Stat"] == 4


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"TestStep": 2}, "OK"),
        ({"TestStep": 9}, "Illegal test step"),
        ({"Options": 1}, "Archived file does not exist"),
        ({"Options": 2}, "Illegal combination of options"),
    ],
)
def test_an_advanced_start_begins_at_a_step(other: dict[str, object], told: str) -> None:
    async def scenario() -> None:
        at = await a_tester(start_time=0.0)
        request = {**PROCEDURE, "Options": 0, "TestStep": -1, "TestTime": 0, **other}
        assert await at.told(6, 13, **request) == told
        await at.clock.sleep(0.1)
        if told == "OK":
            seen = await at.state()
            assert (seen["Stat"], seen["RF1"], seen["Step"]) == (2, 4, 2)

    run(scenario(), virtual=True)


# -- readings


@virtual
async def test_readings_have_noise_resolution_and_the_errors_of_the_options() -> None:
    at = await a_tester(noise=1e-5, latency=0.02)
    readings = [(await at.state())["Voltage"] for _ in range(300)]
    steps = [reading / LSB for reading in readings]
    assert max(abs(step - round(step)) for step in steps) < 0.01
    assert statistics.stdev(readings) == pytest.approx(1e-4, rel=0.2)
    at = await a_tester(noise=1e-5, latency=0.0)
    seen = [(await at.ask(4, 2, Chan=0, Len=1))["Voltage"] for _ in range(5)]
    assert seen == [seen[0]] * 5, "a reading is renewed with the tick"
    at = await a_tester(voltage_offset=0.01, voltage_gain_error=0.001)
    assert (await at.state())["Voltage"] == pytest.approx(3.7 * 1.001 + 0.01, abs=1e-4)
    at = await a_tester(warm_up=0.01)
    assert (await at.state())["Voltage"] == pytest.approx(3.71, abs=1e-4)
    await at.clock.sleep(20_000.0)
    assert (await at.state())["Voltage"] == pytest.approx(3.7, abs=1e-4)
    at = await a_tester(drift=0.01)
    await at.clock.sleep_until(21_600.0 + 86_400.0)
    assert (await at.state())["Voltage"] == pytest.approx(3.71, abs=1e-4)


@virtual
async def test_a_channel_out_of_calibration_believes_its_own_readings() -> None:
    at = await a_tester(current_gain_error=0.01, voltage_offset=0.01)
    await at.begin()
    await at.output(Current=0.02)
    assert (await at.state())["Current"] == pytest.approx(0.02, abs=1e-5)
    assert at.cell.terminal(at.clock.now()).current == pytest.approx(0.02 / 1.01, rel=1e-3)
    await at.output(Current=0.1, Voltage=4.2)
    assert (await at.state())["Voltage"] == pytest.approx(4.2, abs=2e-4)
    assert at.cell.terminal(at.clock.now()).voltage == pytest.approx(4.19, abs=2e-4)


@pytest.mark.parametrize(("number", "most"), [(1, 150e-6), (2, 5e-3), (3, 0.15), (4, 0.45)])
def test_a_current_range_gives_no_more_than_its_full_scale(number: int, most: float) -> None:
    async def scenario() -> None:
        at = await a_tester(ResistorCell(3.7, 1.0))
        await at.begin()
        await at.output(Current=6, Voltage=4.15, CurrentRange=number)
        assert (await at.state())["Current"] == pytest.approx(most, rel=1e-3)

    run(scenario(), virtual=True)


@virtual
async def test_auxiliary_inputs_see_the_force_in_the_frame() -> None:
    clock = Clock("virtual")
    frame = Spring(500.0)
    device = SimulatedMaccor(
        "mac1", site=Site(frame=frame), clock=clock, options={"aux": "MPa", "aux_noise": 0.0}
    )
    assert device.channel(0).stage.auxiliary(clock.now()) == [5.0]


# -- on a cell that ages


@pytest.mark.parametrize("pause", [1.0, 37.0])
def test_a_trajectory_does_not_depend_on_who_looks(pause: float) -> None:
    async def scenario(pause: float) -> tuple[float, float]:
        clock = Clock("virtual")
        cell = cell_from_preset("ncm811-caec", seed=1, start=clock.now())
        device = SimulatedMaccor(
            "mac1",
            site=Site(cell),
            clock=clock,
            options={"procedures": "P = charge 1.5 mA to 4.2 V; hold 4.2 V to 0.5 mA; rest 60 s"},
        )
        channel = device.channel(0)
        test = type(channel.test)("t", "P")
        device.start(channel, clock.now(), test, 1.0)
        device.plan()
        while clock.now() < 3600.0:
            await clock.sleep(pause)
            channel.snapshot(clock.now())
        await clock.sleep_until(3700.0)
        device.close()
        assert 3600.0 * channel.test.capacity == pytest.approx(cell.charge_passed(3700.0), rel=2e-4)
        return cell.terminal(3700.0).voltage, cell.charge_passed(3700.0)

    seen = run(scenario(pause), virtual=True)
    unseen = run(scenario(3600.0), virtual=True)
    assert seen == pytest.approx(unseen, abs=1e-5)
    assert seen[1] > 1.0, "it was charged"
