"""Ramps of the dual-valve controller, and what becomes of them when nobody looks."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers.alicat import AlicatDualValve, AlicatSettings
from operando.drivers.alicat_lines import TABLE
from operando.instruments.clock import Clock, run
from operando.instruments.errors import (
    InstrumentError,
    LinkLostError,
    OperandoError,
    SafeStateError,
)
from operando.instruments.safety import secure
from operando.instruments.samples import Status
from operando.instruments.wires import Switchboard
from wire.held_wire import HeldWire
from wire.pneumatic_press import END, PSI, RATIO, Press, with_press

TARGET = 100.0 * PSI * RATIO
SLEW = 1.0 * PSI * RATIO * 1.00001


async def polled(driver: AlicatDualValve, seconds: int) -> None:
    for _ in range(seconds):
        await asyncio.sleep(1.0)
        await driver.measure()


def test_a_polled_ramp_reaches_its_target_at_its_slew_and_stays() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        await polled(driver, 50)
        assert press.pressure == pytest.approx(51.0, abs=2.0)
        await polled(driver, 60)
        assert press.pressure == pytest.approx(100.0)
        assert (await driver.measure()).value == pytest.approx(TARGET, rel=1e-3)
        await asyncio.sleep(3600.0)

    press = with_press(scenario)
    assert press.pressure == pytest.approx(100.0)
    assert press.highest <= 100.0


def test_a_ramp_that_nobody_polls_freezes_by_itself_and_goes_on_with_the_next_reading() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        await polled(driver, 30)
        reached = press.pressure
        await asyncio.sleep(3600.0)
        press.pass_time(asyncio.get_running_loop().time())
        assert reached < press.pressure <= reached + 5.0 + 0.1
        frozen = press.pressure
        await polled(driver, 10)
        assert frozen < press.pressure <= frozen + 10.5
        await driver.close()
        await asyncio.sleep(3600.0)

    assert with_press(scenario).pressure < 60.0


def test_a_pressure_that_does_not_follow_stops_the_ramp() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        await polled(driver, 10)
        press.jammed = True
        await polled(driver, 3600)
        assert press.requested <= press.pressure + 5.0 + 0.1

    assert with_press(scenario).requested < 20.0


def test_a_slow_ramp_is_not_stalled_by_the_last_digit_of_the_display() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(10.0 * PSI * RATIO, slew=0.001 * PSI * RATIO * 1.00001, maximum=TARGET)
        await polled(driver, 9000)

    assert with_press(scenario).pressure == pytest.approx(9.1, abs=0.2)


def test_a_ramp_down_freezes_as_one_up_does() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        press.pressure = press.present = press.requested = 100.0
        await driver.hold(0.0, slew=SLEW, maximum=1.01 * TARGET)
        await polled(driver, 20)
        reached = press.pressure
        await asyncio.sleep(3600.0)
        press.pass_time(asyncio.get_running_loop().time())
        assert reached - 5.1 <= press.pressure < reached
        await polled(driver, 100)

    assert with_press(scenario).pressure == 0.0


def test_more_than_the_maximum_is_let_out_at_once_and_is_not_trapped_by_the_safe_state() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(50.0 * PSI * RATIO, slew=1e6, maximum=60.0 * PSI * RATIO)
        await polled(driver, 2)
        press.jammed = True
        press.pressure = 70.0
        reading = await driver.measure()
        assert reading.status is Status.OVERLOAD
        assert reading.value == pytest.approx(70.0 * PSI * RATIO)
        assert press.requested == 0.0
        assert press.rate == 0.0
        await driver.safe()
        assert not press.held
        press.jammed = False
        await polled(driver, 2)
        assert press.pressure == 0.0

    with_press(scenario)


def test_a_set_point_that_somebody_raised_at_the_panel_is_taken_back() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(50.0 * PSI * RATIO, slew=1e6, maximum=60.0 * PSI * RATIO)
        await polled(driver, 2)
        press.requested = 120.0
        press.rate = 1.0
        assert (await driver.measure()).status is Status.OVERLOAD
        assert press.requested == 0.0

    assert with_press(scenario).highest < 60.0


# ---------------------------------------------------------------- safe state


def test_the_safe_state_closes_both_valves_and_reads_it_back_again_and_again() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        await polled(driver, 20)
        await driver.safe()
        trapped = press.pressure
        await driver.safe()
        await polled(driver, 100)
        assert press.held
        assert press.pressure == trapped
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        assert not press.held
        assert press.pressure == pytest.approx(trapped, abs=0.2)

    with_press(scenario)


def test_the_safe_state_can_be_to_let_the_gas_out() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        await polled(driver, 20)
        press.held = True
        await driver.safe()
        assert not press.held
        await driver.safe()

    assert with_press(scenario, safe_state="vent").pressure == 0.0


@pytest.mark.parametrize("state", ["hold", "vent"])
@pytest.mark.parametrize("moment", range(0, 40, 2))
def test_it_is_safe_whenever_during_a_release_the_safe_state_is_asked_for(
    moment: int, state: str
) -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        press.pressure = press.present = press.requested = 20.0
        press.held = True
        holding = asyncio.ensure_future(driver.hold(TARGET, slew=1e6, maximum=TARGET))
        await asyncio.sleep(0.008 * moment)
        before = holding.done()
        await driver.safe()
        result = (await asyncio.gather(holding, return_exceptions=True))[0]
        assert before == (result is None)
        if not before:
            assert isinstance(result, InstrumentError)
        await polled(driver, 10)
        assert press.held == (state == "hold")
        assert press.requested == 0.0 or state == "hold"
        assert press.pressure == 0.0 or state == "hold"

    with_press(scenario, safe_state=state)


def test_the_sweep_over_moments_meets_both_an_unfinished_and_a_finished_release() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        press.held = True
        start = asyncio.get_running_loop().time()
        await driver.hold(TARGET, slew=1e6, maximum=TARGET)
        assert 0.05 < asyncio.get_running_loop().time() - start < 0.3

    with_press(scenario)


@pytest.mark.parametrize("state", ["hold", "vent"])
@pytest.mark.parametrize("held", [b"AC\r", b"ALS 100.00\r"])
def test_a_command_that_waited_in_the_wire_while_it_was_made_safe_is_taken_back(
    held: bytes, state: Literal["hold", "vent"]
) -> None:
    async def main() -> None:
        press, switchboard, clock = Press(), Switchboard(), Clock("virtual")
        switchboard.attach("a", press)
        wire = HeldWire(switchboard.wire("a", clock), held)
        settings = AlicatSettings(
            actuator_area=1e-3, piston_area=1e-4, maximum_force=1000.0, safe_state=state
        )
        driver = AlicatDualValve(wire, clock, settings=settings)
        await driver.connect()
        press.held = True
        holding = asyncio.ensure_future(driver.hold(TARGET, slew=1e6, maximum=TARGET))
        released = asyncio.ensure_future(wire.reached.wait())
        await asyncio.wait([holding, released], return_when=asyncio.FIRST_COMPLETED)
        while not wire.reached.is_set():  # the set-point comes with a later piece
            await asyncio.sleep(1.0)
            polling = asyncio.ensure_future(driver.measure())
            await asyncio.sleep(0.5)
        await driver.safe()
        wire.released.set()
        if holding.done():
            await polling
        else:
            with pytest.raises(InstrumentError, match="given up"):
                await holding
        assert press.held == (state == "hold")
        assert press.requested == 0.0 or press.held
        released.cancel()

    run(main(), virtual=True)


def test_a_ramp_that_is_being_started_is_given_up_when_the_maximum_is_passed() -> None:
    async def main() -> None:
        press, switchboard, clock = Press(), Switchboard(), Clock("virtual")
        switchboard.attach("a", press)
        wire = HeldWire(switchboard.wire("a", clock), b"AC\r")
        settings = AlicatSettings(actuator_area=1e-3, piston_area=1e-4, maximum_force=1000.0)
        driver = AlicatDualValve(wire, clock, settings=settings)
        await driver.connect()
        press.held = press.jammed = True
        holding = asyncio.ensure_future(driver.hold(TARGET, slew=1e6, maximum=TARGET))
        await wire.reached.wait()
        press.pressure = 120.0
        measuring = asyncio.ensure_future(driver.measure())
        await asyncio.sleep(1.0)
        wire.released.set()
        assert (await measuring).status is Status.OVERLOAD
        with pytest.raises(InstrumentError, match="given up"):
            await holding
        assert press.requested == 0.0
        assert not press.held

    run(main(), virtual=True)


@pytest.mark.parametrize("state", ["hold", "vent"])
def test_a_controller_that_refuses_or_is_silent_is_never_called_safe(state: str) -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        press.refuses = {"HC", "LS"}
        with pytest.raises(SafeStateError, match="ASSUME THAT IT GOES ON PRESSING"):
            await driver.safe()
        press.refuses = set()
        press.delay = 60.0
        with pytest.raises(SafeStateError):
            await secure(driver, attempts=2)
        press.delay = 0.02
        await secure(driver)

    with_press(scenario, safe_state=state)


def test_valves_that_stay_free_are_not_called_held() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.hold(TARGET, slew=SLEW, maximum=TARGET)
        press.answers["HC"] = press.answers[""] = b"A +001.00 +005.00\r"
        with pytest.raises(SafeStateError, match="last frame"):
            await driver.safe()

    with_press(scenario)


# ---------------------------------------------------------------- noise


def test_a_broken_link_is_said_with_the_controller_s_name() -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.close()
        with pytest.raises(LinkLostError, match="alicat-dual-valve at a"):
            await driver.measure()

    with_press(scenario)


@given(st.binary(max_size=400))
def test_the_end_of_a_table_lies_within_it(noise: bytes) -> None:
    assert 0 <= TABLE.find_end(noise) <= len(noise)


NOISE = st.one_of(
    st.binary(max_size=40),
    st.text("0123456789.+- APSIGHLDOV?", max_size=40).map(str.encode),
)


@given(st.sampled_from(["", "LS", "SR", "C", "HC", "??M*"]), NOISE)
def test_damaged_lines_end_in_an_error_of_ours_and_never_above_the_maximum(
    command: str, noise: bytes
) -> None:
    async def scenario(driver: AlicatDualValve, press: Press) -> None:
        await driver.measure()
        press.answers[command] = noise + END
        for doing in (
            lambda: driver.hold(TARGET, slew=1e6, maximum=TARGET),
            driver.measure,
            driver.reconnect,
            driver.safe,
        ):
            try:
                result = await doing()
            except OperandoError:
                continue
            if doing == driver.measure and command == "":
                shown = float(noise.split(END)[0].split()[1])
                assert result.value == pytest.approx(shown * PSI * RATIO)  # type: ignore[union-attr]
            if doing == driver.safe and command not in ("", "HC"):
                assert press.held

    assert with_press(scenario).highest <= 100.0
