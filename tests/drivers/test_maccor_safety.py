"""A Maccor channel's way to the safe state, its watchdog, and the races between them."""

from __future__ import annotations

import asyncio
import json

import pytest

from operando.drivers.maccor import MaccorMacNet
from operando.drivers.maccor_direct import MaccorSettings
from operando.instruments.clock import run
from operando.instruments.errors import (
    InstrumentError,
    LinkLostError,
    ReportedError,
    SafeStateError,
)
from operando.instruments.roles import Galvanostatic, OpenCircuit, Protection
from operando.instruments.safety import secure
from operando.instruments.samples import Regulation, Status
from operando.instruments.wires import Framing, Wire
from wire.held_wire import HeldWire
from wire.macnet_tester import ADDRESS, Bench, Channel, MacNetTester, with_tester

WINDOW = Protection(voltage=(2.5, 4.25), current=5e-3)
CHARGE = Galvanostatic(current=1.5e-3, cutoff=4.25)
DISCHARGE = Galvanostatic(current=-1.5e-3, cutoff=2.5)
START_DIRECT, SET_DIRECT, SUSPEND, RESET = (6, 7), (6, 8), (6, 3), (6, 5)


def fourth(bench: Bench) -> Channel:
    """The channel that the drivers of these tests use."""
    return bench.tester.channels[3]


async def charging(bench: Bench, settings: MaccorSettings | None = None) -> MaccorMacNet:
    cycler = bench.driver(settings=settings)
    await cycler.connect()
    await cycler.prepare(WINDOW)
    await cycler.apply(CHARGE)
    assert fourth(bench).relay
    return cycler


# ---------------------------------------------------------------- the safe state


@pytest.mark.parametrize("state", [0, 1, 3, 4, 5])
def test_a_channel_on_which_nothing_runs_is_safe_and_nothing_is_written(state: int) -> None:
    async def scenario(bench: Bench) -> None:
        fourth(bench).state = state
        cycler = bench.driver()
        await cycler.connect()
        await cycler.safe()
        await cycler.safe()

    assert with_tester(scenario).writes() == []


def test_safe_suspends_whatever_runs_and_reads_it_back() -> None:
    async def scenario(bench: Bench) -> None:
        fourth(bench).name = "Anna 2026-03"
        fourth(bench).enter(1, 0, 2, "another's")
        cycler = bench.driver()
        await cycler.connect()
        await cycler.safe()
        assert fourth(bench).state == 3
        await cycler.safe()

    assert with_tester(scenario).writes() == [SUSPEND]


@pytest.mark.parametrize("state", [6, 10, 13, 18])
def test_a_state_that_does_not_say_that_the_relay_is_open_is_not_called_safe(state: int) -> None:
    async def scenario(bench: Bench) -> None:
        fourth(bench).state = state
        cycler = bench.driver()
        await cycler.connect()
        with pytest.raises(SafeStateError, match="ASSUME THAT THE OUTPUT IS ON"):
            await cycler.safe()

    with_tester(scenario)


async def after_a_power_failure(bench: Bench, *, ours: bool = True) -> MaccorMacNet:
    """A channel whose test waits to be resumed, and the driver that had it charge."""
    cycler = await charging(bench)
    fourth(bench).enter(30, 192, 9, "power fail")
    if not ours:
        fourth(bench).name = "Anna 2026-03"
    return cycler


def test_a_test_of_ours_that_waits_after_a_power_failure_is_ended_and_read_back() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await after_a_power_failure(bench)
        assert (await cycler.measure()).status is Status.FAULT
        await cycler.safe()
        assert (fourth(bench).state, fourth(bench).history[-1]) == (0, "reset")
        await cycler.safe()
        count = len(bench.tester.writes())
        await asyncio.sleep(30.0)
        assert len(bench.tester.writes()) == count
        await cycler.prepare(WINDOW)
        await cycler.apply(CHARGE)
        assert fourth(bench).relay

    assert with_tester(scenario).writes().count(RESET) == 1


def test_a_channel_can_be_prepared_after_a_power_failure() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await after_a_power_failure(bench)
        await cycler.prepare(WINDOW)
        assert fourth(bench).state == 0

    assert with_tester(scenario).writes().count(RESET) == 1


def test_a_test_of_somebody_else_that_waits_after_a_power_failure_is_kept_and_not_called_safe() -> (
    None
):
    async def scenario(bench: Bench) -> None:
        cycler = await after_a_power_failure(bench, ours=False)
        with pytest.raises(SafeStateError, match=r"is power fail .* not ours.* at the tester"):
            await cycler.safe()
        assert fourth(bench).state == 9

    assert RESET not in with_tester(scenario).writes()


def test_a_power_failure_that_a_reset_does_not_end_is_not_called_safe() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await after_a_power_failure(bench)
        bench.tester.instead(RESET, *[{"Result": "OK"}] * 100)
        with pytest.raises(SafeStateError, match="is power fail"):
            await cycler.safe()

    with_tester(scenario)


def test_a_channel_that_charges_in_spite_of_a_power_failure_is_suspended_and_not_ended() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await after_a_power_failure(bench)
        fourth(bench).doing = 1
        with pytest.raises(SafeStateError, match=r"is power fail .*RF1 1"):
            await cycler.safe()

    assert RESET not in with_tester(scenario).writes()


def test_a_channel_that_says_suspended_but_charges_is_not_called_safe() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        fourth(bench).state, fourth(bench).doing = 3, 1
        with pytest.raises(SafeStateError, match="is suspended, RF1 1, and says 'The channel"):
            await cycler.safe()
        assert await cycler.output_is_on()

    with_tester(scenario)


def test_a_channel_that_does_not_obey_is_not_called_safe() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        bench.tester.instead(SUSPEND, *[{"Result": "OK"}] * 100)
        with pytest.raises(SafeStateError, match="is active"):
            await cycler.safe()
        bench.tester.answers.clear()
        await cycler.safe()
        assert not fourth(bench).relay

    with_tester(scenario)


def test_a_tester_that_does_not_answer_is_not_called_safe_and_heals() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        bench.tester.deaf = True
        start = bench.clock.now()
        with pytest.raises(SafeStateError, match="could not be verified"):
            await secure(cycler)
        assert bench.clock.now() - start < 10.0
        bench.tester.deaf = False
        await secure(cycler)
        assert not fourth(bench).relay

    with_tester(scenario)


@pytest.mark.parametrize("start_delay", [0.0, 0.3])
@pytest.mark.parametrize("moment", range(40))
def test_the_relay_is_open_whenever_during_a_set_point_the_safe_state_is_asked_for(
    moment: int, start_delay: float
) -> None:
    tester = MacNetTester(delay=5e-3)
    tester.start_delay = start_delay

    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        await cycler.prepare(WINDOW)
        applying = asyncio.ensure_future(cycler.apply(CHARGE))
        await asyncio.sleep(1e-3 * moment * (1.0 if start_delay == 0.0 else 10.0))
        before = applying.done()
        await cycler.safe()
        assert not fourth(bench).relay
        result = (await asyncio.gather(applying, return_exceptions=True))[0]
        assert before == (result is None)
        assert before or isinstance(result, InstrumentError)
        await asyncio.sleep(10.0)
        assert not fourth(bench).relay
        assert "active" not in fourth(bench).history[-1:]

    with_tester(scenario, tester)


def test_the_sweep_over_moments_meets_both_an_unfinished_and_a_finished_set_point() -> None:
    for start_delay, longest in ((0.0, 0.039), (0.3, 0.39)):
        tester = MacNetTester(delay=5e-3)
        tester.start_delay = start_delay
        times: list[float] = []

        async def scenario(bench: Bench, times: list[float] = times) -> None:
            start = bench.clock.now()
            await charging(bench)
            times.append(bench.clock.now() - start)

        with_tester(scenario, tester)
        assert 0.01 < times[0] < longest + 0.05


def test_a_channel_that_shows_its_start_late_is_still_stopped() -> None:
    class Sluggish(MacNetTester):
        """Answers a start while the channel still looks idle."""

        def command(self, number: int, channel: Channel, params: dict, now: float) -> object:  # type: ignore[type-arg]
            result = super().command(number, channel, params, now)
            if number == 7:
                channel.state = channel.doing = 0
                asyncio.get_running_loop().call_later(0.4, self.run, channel)
            return result

    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        await cycler.prepare(WINDOW)
        applying = asyncio.ensure_future(cycler.apply(CHARGE))
        await asyncio.sleep(0.1)
        await cycler.safe()
        await asyncio.gather(applying, return_exceptions=True)
        await asyncio.sleep(5.0)
        assert fourth(bench).history == ["active", "active", "suspended"]

    with_tester(scenario, Sluggish())


def test_a_cancelled_set_point_does_not_switch_on_later() -> None:
    tester = MacNetTester(delay=5e-3)

    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        await cycler.prepare(WINDOW)
        applying = asyncio.ensure_future(cycler.apply(CHARGE))
        await asyncio.sleep(3e-3)
        applying.cancel()
        await asyncio.gather(applying, return_exceptions=True)
        await asyncio.sleep(1.0)
        assert fourth(bench).history == []
        await secure(cycler)

    with_tester(scenario, tester)


class Held(HeldWire):
    """Keeps back the first direct mode that is sent."""

    async def exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Pass on, unless it is to be kept back."""
        if json.loads(request)["params"]["FNum"] == 7 and b'"FClass":6' in request:
            self.reached.set()
            await self.released.wait()
        return await self._wire.exchange(request, framing, timeout, urgent=urgent)


def test_a_start_that_waits_in_the_wire_is_stopped_once_it_is_through() -> None:
    tester = MacNetTester()

    async def main() -> None:
        bench = Bench(tester)
        wire: Wire = bench.switchboard.wire(f"{ADDRESS}#4", bench.clock)
        held = Held(wire, b"")
        cycler = MaccorMacNet(held, bench.clock)
        await cycler.connect()
        await cycler.prepare(WINDOW)
        applying = asyncio.ensure_future(cycler.apply(CHARGE))
        await held.reached.wait()
        safe = asyncio.ensure_future(cycler.safe())
        await asyncio.sleep(1.5)
        assert not safe.done(), "safe must not be reported before the start has come through"
        held.released.set()
        await safe
        assert fourth(bench).history == ["active", "suspended"]
        with pytest.raises(InstrumentError, match="safe state"):
            await applying
        await cycler.close()

    run(main(), virtual=True)


# ---------------------------------------------------------------- watchdog and renewal


def test_a_set_point_is_renewed_for_as_long_as_the_driver_lives_with_nobody_polling() -> None:
    tester = MacNetTester()
    tester.watchdog = 5.0

    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        await asyncio.sleep(600.0)
        assert (await cycler.measure()).regulation is Regulation.CURRENT
        renewed = bench.tester.writes().count(SET_DIRECT)
        assert 290 <= renewed <= 300
        await cycler.close()
        await asyncio.sleep(20.0)
        bench.tester.pass_time(bench.clock.now())
        assert fourth(bench).history[-1] == "watchdog"
        assert bench.tester.writes().count(SET_DIRECT) == renewed

    with_tester(scenario, tester)


def test_a_renewal_repeats_the_last_set_point_and_no_other() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        await asyncio.sleep(1.9)
        await cycler.apply(DISCHARGE)
        await asyncio.sleep(30.0)
        assert fourth(bench).drive["ChMode"] == "D"
        assert (await cycler.measure()).current == -1.5e-3
        await cycler.apply(OpenCircuit(4.75))
        count = len(bench.tester.sent)
        await asyncio.sleep(30.0)
        assert len(bench.tester.sent) == count, "a rest needs no renewal"

    with_tester(scenario)


@pytest.mark.parametrize("why", ["watchdog", "safety"])
def test_a_channel_that_stopped_by_itself_is_a_fault_and_not_renewed(why: str) -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        if why == "watchdog":
            fourth(bench).enter(30, 192, 3, "watchdog")
        else:
            fourth(bench).enter(29, 190, 5, "safety voltage")
        reading = await cycler.measure()
        assert reading.status is Status.FAULT
        assert reading.regulation is Regulation.OPEN
        assert reading.voltage == 3.7
        count = len(bench.tester.sent)
        await asyncio.sleep(30.0)
        assert len(bench.tester.sent) == count
        assert (await cycler.measure()).status is Status.OK

    with_tester(scenario)


def test_a_renewal_that_is_refused_is_the_last() -> None:
    async def scenario(bench: Bench) -> None:
        await charging(bench)
        fourth(bench).enter(30, 192, 3, "suspended by an operator")
        await asyncio.sleep(30.0)

    assert with_tester(scenario).writes().count(SET_DIRECT) == 1


def test_a_renewal_outlives_a_reply_that_was_lost() -> None:
    tester = MacNetTester()
    tester.watchdog = 10.0

    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        bench.tester.instead(SET_DIRECT, b"", b"garbage\r\n", {"Result": "Command sent too fast"})
        await asyncio.sleep(60.0)
        assert (await cycler.measure()).regulation is Regulation.CURRENT

    assert with_tester(scenario, tester).writes().count(SET_DIRECT) > 20


def test_after_a_dropped_link_the_watchdog_has_suspended_the_channel() -> None:
    tester = MacNetTester()
    tester.watchdog = 5.0

    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        bench.tester.lines[-1].drop()
        with pytest.raises(LinkLostError, match="#4"):
            await cycler.measure()
        await asyncio.sleep(30.0)
        await cycler.reconnect()
        assert (await cycler.measure()).status is Status.FAULT
        assert not fourth(bench).relay

    with_tester(scenario, tester)


def test_closing_while_a_renewal_is_on_its_way_leaves_nothing_behind() -> None:
    tester = MacNetTester(delay=0.5)

    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        await asyncio.sleep(2.2)
        await cycler.close()
        assert len(asyncio.all_tasks()) == 1

    assert with_tester(scenario, tester).writes()[-1] == SET_DIRECT


def test_a_refused_set_point_is_reported_and_the_old_one_is_not_renewed() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await charging(bench)
        bench.tester.instead(SET_DIRECT, {"Result": "Illegal system type"})
        with pytest.raises(ReportedError):
            await cycler.apply(DISCHARGE)
        await asyncio.sleep(30.0)

    assert with_tester(scenario).writes().count(SET_DIRECT) == 1
