"""The chamber's driver on its way to the safe state, whatever was told a moment before."""

from __future__ import annotations

import asyncio

import pytest

from operando.drivers.espec import EspecP300
from operando.instruments.clock import Clock, run
from operando.instruments.errors import InstrumentError, SafeStateError, WrongInstrumentError
from operando.instruments.safety import secure
from operando.instruments.wires import Switchboard
from wire.espec_chamber import END, Chamber, with_chamber
from wire.held_wire import HeldWire


@pytest.mark.parametrize("moment", range(24))
def test_it_stands_by_whenever_during_a_set_point_the_safe_state_is_asked_for(moment: int) -> None:
    async def scenario(driver: EspecP300, chamber: Chamber) -> None:
        holding = asyncio.ensure_future(driver.hold(333.15))
        await asyncio.sleep(0.03 * moment)
        before = holding.done()
        await driver.safe()
        result = (await asyncio.gather(holding, return_exceptions=True))[0]
        assert chamber.mode == "STANDBY"
        assert before == (result is None)
        if not before:
            assert isinstance(result, InstrumentError)

    with_chamber(scenario)


def test_the_sweep_over_moments_meets_both_an_unfinished_and_a_finished_set_point() -> None:
    async def scenario(driver: EspecP300, chamber: Chamber) -> None:
        start = asyncio.get_running_loop().time()
        await driver.hold(333.15)
        assert chamber.mode == "CONSTANT"
        assert 0.03 * 4 < asyncio.get_running_loop().time() - start < 0.03 * 23

    with_chamber(scenario)


def test_a_start_that_waited_in_the_wire_while_it_was_made_safe_is_taken_back() -> None:
    async def main() -> None:
        chamber, switchboard, clock = Chamber(), Switchboard(), Clock("virtual")
        switchboard.attach("a", chamber)
        wire = HeldWire(switchboard.wire("a", clock), b"MODE,CONSTANT\r\n")
        driver = EspecP300(wire, clock)
        await driver.connect()
        holding = asyncio.ensure_future(driver.hold(333.15))
        await wire.reached.wait()
        await driver.safe()
        wire.released.set()
        with pytest.raises(InstrumentError, match="given up"):
            await holding
        assert chamber.mode == "STANDBY"

    run(main(), virtual=True)


@pytest.mark.parametrize("lag", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("session", ["the same", "another"])
def test_a_start_that_does_not_show_yet_is_not_taken_for_standing_by(
    lag: float, session: str
) -> None:
    async def main() -> None:
        chamber, switchboard, clock = Chamber(lag=lag), Switchboard(), Clock("virtual")
        switchboard.attach("a", chamber)
        driver = EspecP300(switchboard.wire("a", clock), clock)
        await driver.connect()
        holding = asyncio.ensure_future(driver.hold(333.15))
        while not chamber.told:
            await clock.sleep(0.01)
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        assert (chamber.mode, chamber.told[0][1]) == ("STANDBY", "CONSTANT")
        if session == "another":  # as the watchdog's
            await driver.close()
            driver = EspecP300(switchboard.wire("a", clock), clock)
            await driver.connect()
        begun = clock.now()
        await secure(driver, attempts=1)
        assert clock.now() - begun < 2.0
        for _ in range(50):
            chamber.settle(clock.now())
            assert chamber.mode == "STANDBY"
            await asyncio.sleep(0.1)
        assert not chamber.told

    run(main(), virtual=True)


def test_a_chamber_that_answers_slowly_is_secured_within_one_attempt() -> None:
    async def scenario(driver: EspecP300, chamber: Chamber) -> None:
        await driver.hold(333.15)
        chamber.delay = 0.75
        await driver.close()
        await driver.reconnect()
        driver._trusted = False
        await secure(driver, attempts=1)
        assert chamber.mode == "STANDBY"

    with_chamber(scenario, Chamber(lag=0.9))


def test_after_an_exchange_that_was_cancelled_the_model_is_asked_again() -> None:
    async def scenario(driver: EspecP300, chamber: Chamber) -> None:
        measuring = asyncio.ensure_future(driver.measure())
        await asyncio.sleep(0.01)
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)
        chamber.answers["TYPE?"] = b"T,ES102,180.0" + END  # the line is opened afresh
        with pytest.raises(WrongInstrumentError):
            await driver.hold(333.15)
        assert (chamber.setpoint, chamber.mode) == (25.0, "STANDBY")

    with_chamber(scenario)


def test_securing_a_silent_chamber_never_claims_success() -> None:
    async def scenario(driver: EspecP300, chamber: Chamber) -> None:
        await driver.hold(333.15)
        chamber.delay = 60.0
        with pytest.raises(SafeStateError):
            await secure(driver, attempts=2)
        chamber.delay = 0.05
        await secure(driver)
        assert chamber.mode == "STANDBY"

    with_chamber(scenario)
