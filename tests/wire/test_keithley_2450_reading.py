"""Readings and the safe state of the 2450 driver, byte by byte against its manual."""

from __future__ import annotations

import asyncio
import math

import pytest

from operando.drivers.keithley_2450 import Keithley2450
from operando.instruments.errors import (
    GarbledReplyError,
    LinkLostError,
    ReplyTimeoutError,
    SafeStateError,
)
from operando.instruments.samples import Regulation, Status
from wire.source_meter_lines import (
    NO_ERROR,
    READ,
    charge_of,
    greet,
    made_safe,
)
from wire.transcript import in_virtual_time, transcript

# ---------------------------------------------------------------- measuring


@in_virtual_time
async def test_a_reading_away_from_the_level_at_the_limit_needs_one_exchange() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        await charge_of(smu, peer)
        peer.answer(READ, "+3.800000E+00,+1.569900E-03", delay=0.1)
        reading = await smu.measure()
    assert reading.voltage == 3.8
    assert reading.current == 1.5699e-3
    assert reading.regulation is Regulation.CURRENT
    assert reading.time == pytest.approx(0.05)
    assert reading.uncertainty == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("tripped", "regulation"), [("1", Regulation.CURRENT), ("0", Regulation.VOLTAGE)]
)
@in_virtual_time
async def test_near_the_level_the_instrument_is_asked_which_limit_acts(
    tripped: str, regulation: Regulation
) -> None:
    async with transcript(Keithley2450) as (smu, peer):
        await charge_of(smu, peer)
        peer.answer(READ, "+4.249980E+00,+9.998000E-04")
        peer.answer(":SOUR:VOLT:ILIM:TRIP?", tripped)
        reading = await smu.measure()
    assert reading.regulation is regulation
    assert reading.status is Status.OK


@pytest.mark.parametrize("overflow", ["+9.900000E+37", "-9.900000E+37", "+9.910000E+37"])
@in_virtual_time
async def test_an_overflow_is_not_a_number(overflow: str) -> None:
    async with transcript(Keithley2450) as (smu, peer):
        await charge_of(smu, peer)
        peer.answer(READ, f"+3.800000E+00,{overflow}")
        peer.answer(":SOUR:VOLT:ILIM:TRIP?", "1")
        reading = await smu.measure()
    assert reading.voltage == 3.8
    assert math.isnan(reading.current)
    assert reading.status is Status.OVERLOAD


@in_virtual_time
async def test_an_output_that_went_off_by_itself_is_a_fault_and_no_finished_charge() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        await charge_of(smu, peer)
        peer.answer(READ, "+4.249000E+00,+1.000000E-08")
        peer.answer(":SOUR:VOLT:ILIM:TRIP?", "0")
        peer.answer(":OUTP?", "0")
        reading = await smu.measure()
    assert reading.status is Status.FAULT
    assert reading.regulation is Regulation.OPEN
    assert math.isnan(reading.voltage)


@in_virtual_time
async def test_with_the_output_off_nothing_is_measured() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.answer(":OUTP?", "0")
        reading = await smu.measure()
    assert math.isnan(reading.voltage)
    assert reading.current == 0.0
    assert reading.regulation is Regulation.OPEN


@in_virtual_time
async def test_a_new_session_learns_what_the_instrument_does_before_it_measures() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.dialogue(
            (":OUTP?", "1"),
            (":SOUR:FUNC?", "VOLT"),
            (":SOUR:VOLT?", "2.500000E+00"),
            (":SOUR:VOLT:ILIM?", "1.000000E-03"),
            (READ, "+3.100000E+00,-1.000100E-03"),
        )
        reading = await smu.measure()
    assert reading.current == -1.0001e-3
    assert reading.regulation is Regulation.CURRENT


@in_virtual_time
async def test_a_truncated_reading_is_garbage_and_the_identity_is_asked_again() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        await charge_of(smu, peer)
        peer.answer(READ, "+3.8000")
        with pytest.raises(GarbledReplyError, match="two numbers"):
            await smu.measure()
        greet(peer)
        peer.answer(READ, "+3.800000E+00,+1.569900E-03")
        assert (await smu.measure()).voltage == 3.8


@in_virtual_time
async def test_a_late_reading_is_not_taken_for_the_next() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        await charge_of(smu, peer)
        peer.answer(READ, "+1.111111E+00,+1.569900E-03", delay=1.5)
        with pytest.raises(ReplyTimeoutError):
            await smu.measure()
        await asyncio.sleep(1.0)
        greet(peer)
        peer.answer(READ, "+3.800000E+00,+1.569900E-03")
        assert (await smu.measure()).voltage == 3.8


# ---------------------------------------------------------------- safe state


@in_virtual_time
async def test_the_safe_state_is_read_back_and_can_be_asked_for_twice() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        made_safe(peer)
        await smu.safe()
        made_safe(peer)
        await smu.safe()


@in_virtual_time
async def test_a_relay_that_stays_closed_is_tried_once_more_and_then_reported() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        for _ in range(2):
            peer.expect(":ABOR", ":OUTP OFF")
            peer.answer(":OUTP?", "1")
        with pytest.raises(SafeStateError, match="ASSUME THAT THE OUTPUT IS ON"):
            await smu.safe()


@in_virtual_time
async def test_an_off_state_that_loads_the_cell_is_corrected() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.expect(":ABOR", ":OUTP OFF")
        peer.dialogue((":OUTP?", "0"), (":OUTP:VOLT:SMOD?", "NORM"))
        peer.expect(":OUTP:SMOD HIMP")
        peer.dialogue(
            (":OUTP:VOLT:SMOD?", "HIMP"),
            (":OUTP:CURR:SMOD?", "HIMP"),
            (":SYST:ERR?", NO_ERROR),
        )
        await smu.safe()


@in_virtual_time
async def test_an_off_state_that_cannot_be_corrected_is_reported() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.expect(":ABOR", ":OUTP OFF")
        peer.dialogue((":OUTP?", "0"), (":OUTP:VOLT:SMOD?", "NORM"))
        peer.expect(":OUTP:SMOD HIMP")
        peer.answer(":OUTP:VOLT:SMOD?", "NORM")
        with pytest.raises(SafeStateError, match="may still load the cell"):
            await smu.safe()


@in_virtual_time
async def test_a_silent_instrument_is_a_time_out_and_not_a_safe_state() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.expect(":ABOR", ":OUTP OFF", ":OUTP?")
        with pytest.raises(ReplyTimeoutError):
            await smu.safe()


@in_virtual_time
async def test_closing_and_losing_the_link_are_told_apart_from_answers() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        await smu.close()
        assert peer.disconnections == 1
        with pytest.raises(LinkLostError, match="keithley-2450 at"):
            await smu.measure()
