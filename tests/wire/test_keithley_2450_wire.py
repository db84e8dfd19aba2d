"""The 2450 and 2461 drivers, byte by byte against their manual."""

from __future__ import annotations

import math

import pytest

from operando.drivers.keithley_2450 import Keithley2450, Keithley2461
from operando.drivers.keithley_tables import SourceMeterSettings
from operando.instruments.errors import (
    GarbledReplyError,
    NotVerifiedError,
    ReplyTimeoutError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import (
    Expect,
    Galvanostatic,
    OpenCircuit,
    Potentiostat,
    Potentiostatic,
)
from operando.instruments.samples import Regulation, Status
from wire.source_meter_lines import (
    CHARGE,
    IDENTITY,
    NO_ERROR,
    READ,
    WINDOW,
    charging,
    greet,
    preparation,
    programmed,
    read_back,
    relay_opened,
    told,
    wiring_read,
)
from wire.transcript import ADDRESS, in_virtual_time, transcript

# ---------------------------------------------------------------- identity


@in_virtual_time
async def test_connecting_reads_identity_and_command_set_and_writes_nothing() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        identity = await smu.connect()
    assert identity.model == "2450"
    assert identity.serial == "04096331"
    assert identity.firmware == "1.6.7c"
    assert isinstance(smu, Potentiostat)


@pytest.mark.parametrize(
    ("modes", "output", "on"),
    [(("HIMP", "HIMP"), "0", False), (("HIMP", "HIMP"), "1", True), (("NORM", "HIMP"), "0", True)],
)
@in_virtual_time
async def test_an_output_that_is_on_or_would_load_the_cell_is_told_without_writing(
    modes: tuple[str, str], output: str, on: bool
) -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.dialogue((":OUTP:VOLT:SMOD?", modes[0]), (":OUTP:CURR:SMOD?", modes[1]))
        peer.answer(":OUTP?", output)
        assert await smu.output_is_on() is on


@in_virtual_time
async def test_another_serial_number_is_refused_with_a_remedy() -> None:
    expect = Expect(serial="04500001")
    async with transcript(Keithley2450, expect=expect) as (smu, peer):
        peer.answer("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,04500007,1.6.7c")
        with pytest.raises(WrongInstrumentError) as caught:
            await smu.connect()
    assert str(caught.value) == (
        f"keithley-2450 at {ADDRESS}: expected serial 04500001, found 04500007. The instruments "
        "may have been swapped. Nothing was written. Correct `expect.serial` in the bench file, "
        "or the cable."
    )


@pytest.mark.parametrize("model", ["2460", "2470"])
@in_virtual_time
async def test_a_model_whose_limits_are_not_known_is_refused(model: str) -> None:
    async with transcript(Keithley2450) as (smu, peer):
        peer.answer("*IDN?", f"KEITHLEY INSTRUMENTS,MODEL {model},04096331,1.6.7c")
        with pytest.raises(WrongInstrumentError, match="limits have not been found"):
            await smu.connect()


@in_virtual_time
async def test_a_2450_is_refused_by_the_driver_of_the_2461() -> None:
    async with transcript(Keithley2461) as (smu, peer):
        peer.answer("*IDN?", IDENTITY)
        with pytest.raises(WrongInstrumentError, match="expected model 2461, found 2450"):
            await smu.connect()


@pytest.mark.parametrize("language", ["TSP", "SCPI2400"])
@in_virtual_time
async def test_another_command_set_is_refused_with_a_remedy(language: str) -> None:
    async with transcript(Keithley2450) as (smu, peer):
        peer.dialogue(("*IDN?", IDENTITY), ("*LANG?", language))
        with pytest.raises(WrongInstrumentError, match=r"\*LANG SCPI.*off and on"):
            await smu.connect()


@in_virtual_time
async def test_garbage_instead_of_an_identity_is_said_to_be_garbage() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        peer.answer("*IDN?", "\x00\xffnoise\n".encode("latin1"))
        with pytest.raises(GarbledReplyError, match="Nothing was written"):
            await smu.connect()


@in_virtual_time
async def test_an_instrument_that_was_swapped_during_a_reconnection_is_noticed() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.answer("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,99999999,1.6.7c")
        with pytest.raises(WrongInstrumentError, match="expected serial 04096331"):
            await smu.reconnect()
        assert peer.connections == 2
        # Whatever comes next asks again who is there, before it writes.
        peer.answer("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,99999999,1.6.7c")
        with pytest.raises(WrongInstrumentError):
            await smu.safe()


# ---------------------------------------------------------------- preparation


@in_virtual_time
async def test_preparation_opens_the_relay_first_and_never_resets() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        preparation(peer)
        await smu.prepare(WINDOW)


@in_virtual_time
async def test_a_protection_that_reads_back_otherwise_is_an_error() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        preparation(peer, protection="PROT20")
        with pytest.raises(NotVerifiedError, match="PROT5 but reads back PROT20"):
            await smu.prepare(WINDOW)


@in_virtual_time
async def test_an_output_that_does_not_open_stops_the_preparation() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.answer(":SYST:ERR?", NO_ERROR)
        told(peer, ":OUTP OFF")
        peer.answer(":OUTP?", "1")
        with pytest.raises(NotVerifiedError):
            await smu.prepare(WINDOW)


@in_virtual_time
async def test_an_error_that_the_instrument_reports_has_its_code_and_text() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        await smu.connect()
        peer.answer(":SYST:ERR?", NO_ERROR)
        peer.expect(":OUTP OFF")
        peer.answer(":SYST:ERR?", '-222,"Data out of range;1;2015/05/06 12:57:04.484"')
        peer.answer(":SYST:ERR?", '5074,"Output voltage limited;1,1400469179,431599191"')
        peer.answer(":SYST:ERR?", NO_ERROR)
        with pytest.raises(ReportedError, match=r"Data out of range .*and 1 more") as caught:
            await smu.prepare(WINDOW)
    assert caught.value.code == -222
    assert caught.value.instrument == "keithley-2450"


@pytest.mark.parametrize(
    ("highest", "level"), [(1.5, 2), (1.95, 5), (4.25, 5), (4.74, 5), (4.76, 10), (18.0, 20)]
)
def test_protection_takes_the_lowest_level_that_stays_clear_of_the_window(
    highest: float, level: float
) -> None:
    assert Keithley2450.MODEL.protection(highest) == level


@in_virtual_time
async def test_a_chosen_protection_inside_the_window_is_refused() -> None:
    settings = SourceMeterSettings(over_voltage_protection=2.0)
    async with transcript(Keithley2450, settings=settings) as (smu, _):
        with pytest.raises(UnsupportedError, match="no over-voltage protection at 2 V"):
            await smu.prepare(WINDOW)


# ---------------------------------------------------------------- set-points


@in_virtual_time
async def test_a_charge_is_a_voltage_source_at_the_cutoff_with_the_current_as_limit() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        charging(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)


@in_virtual_time
async def test_a_discharge_at_a_higher_current_moves_the_level_before_the_limit() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        charging(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        peer.dialogue(
            (":OUTP?", "1"),
            (":SOUR:FUNC?", "VOLT"),
            (":SOUR:VOLT:ILIM?", "1.570000E-03"),
            (":SENS:CURR:RANG?", "1.000000E-02"),
        )
        told(peer, ":SOUR:VOLT 2.5", ":SOUR:VOLT:ILIM 0.00314")
        read_back(peer, "2.500000E+00", "3.140000E-03", "1.000000E-02")
        peer.answer(":OUTP?", "1")
        await smu.apply(Galvanostatic(current=-3.14e-3, cutoff=2.5))


@in_virtual_time
async def test_a_lower_current_is_set_before_range_and_level() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        charging(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        peer.dialogue(
            (":OUTP?", "1"),
            (":SOUR:FUNC?", "VOLT"),
            (":SOUR:VOLT:ILIM?", "1.570000E-03"),
            (":SENS:CURR:RANG?", "1.000000E-02"),
        )
        told(peer, ":SOUR:VOLT:ILIM 0.000157", ":SENS:CURR:RANG 0.001", ":SOUR:VOLT 4.2")
        read_back(peer, "4.200000E+00", "1.570000E-04", "1.000000E-03")
        peer.answer(":OUTP?", "1")
        await smu.apply(Potentiostatic(voltage=4.2, current_limit=1.57e-4))


@in_virtual_time
async def test_a_limit_a_thousand_times_lower_goes_through_the_open_relay() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        charging(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        peer.dialogue(
            (":OUTP?", "1"),
            (":SOUR:FUNC?", "VOLT"),
            (":SOUR:VOLT:ILIM?", "1.570000E-03"),
            (":SENS:CURR:RANG?", "1.000000E-02"),
        )
        relay_opened(peer)
        programmed(peer, "4.25", "1e-06", "1e-06")
        read_back(peer, "4.250000E+00", "1.000000E-06", "1.000000E-06")
        told(peer, ":OUTP ON")
        peer.answer(":OUTP?", "1")
        await smu.apply(Potentiostatic(voltage=4.25, current_limit=1e-6))


@in_virtual_time
async def test_open_circuit_is_a_zero_current_source_reached_through_the_open_relay() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        charging(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        peer.dialogue((":OUTP?", "1"), (":SOUR:FUNC?", "VOLT"))
        relay_opened(peer)
        told(
            peer,
            ":SOUR:FUNC CURR",
            ':SENS:FUNC "VOLT"',
            ":SENS:VOLT:RANG:AUTO ON",
            ":SOUR:CURR 0",
            ":SOUR:CURR:RANG 1e-08",
            ":SOUR:CURR:VLIM 4.5",
            ":SENS:VOLT:RANG 20",
        )
        wiring_read(peer)
        peer.dialogue(
            (":SOUR:FUNC?", "CURR"),
            (":SENS:FUNC?", '"VOLT:DC"'),
            (":SOUR:CURR?", "0.000000E+00"),
            (":SOUR:CURR:RANG?", "1.000000E-08"),
            (":SENS:VOLT:RANG?", "2.000000E+01"),
            (":SOUR:CURR:VLIM?", "4.500000E+00"),
        )
        told(peer, ":OUTP ON")
        peer.answer(":OUTP?", "1")
        await smu.apply(OpenCircuit(voltage_limit=4.5))
        peer.answer(READ, "+1.200000E-12,+3.712345E+00")
        reading = await smu.measure()
    assert reading.voltage == pytest.approx(3.712345)
    assert reading.current == pytest.approx(1.2e-12)
    assert reading.regulation is Regulation.OPEN
    assert reading.status is Status.OK


@in_virtual_time
async def test_the_output_stays_off_when_the_limit_reads_back_otherwise() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        peer.dialogue((":OUTP?", "0"), (":SOUR:FUNC?", "VOLT"))
        programmed(peer, "4.25", "0.00157", "0.01")
        read_back(peer, "4.250000E+00", "1.050000E-04", "1.000000E-02")
        with pytest.raises(NotVerifiedError, match=r"ILIM.* should be 0.00157"):
            await smu.apply(CHARGE)


@in_virtual_time
async def test_a_write_that_times_out_is_raised_and_not_repeated() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        peer.dialogue((":OUTP?", "0"), (":SOUR:FUNC?", "VOLT"))
        peer.expect(
            ":SOUR:FUNC VOLT",
            ':SENS:FUNC "CURR"',
            ":SENS:CURR:RANG:AUTO ON",
            ":SOUR:VOLT:RANG 20",
            ":SOUR:VOLT 4.25",
            ":SOUR:VOLT:ILIM 0.00157",
            ":SENS:CURR:RANG 0.01",
            ":SYST:ERR?",
        )
        with pytest.raises(ReplyTimeoutError, match="keithley-2450 at TCPIP"):
            await smu.apply(CHARGE)


@in_virtual_time
async def test_nothing_is_applied_before_the_window_is_known() -> None:
    async with transcript(Keithley2450) as (smu, _):
        with pytest.raises(UnsupportedError, match="prepare"):
            await smu.apply(CHARGE)


@pytest.mark.parametrize(
    ("setpoint", "why"),
    [
        (Galvanostatic(current=1.06, cutoff=4.2), "beyond its 1.05 A"),
        (Galvanostatic(current=-1.06, cutoff=2.5), "beyond its 1.05 A"),
        (Potentiostatic(voltage=211.0, current_limit=1e-3), "beyond its 210 V"),
        (Potentiostatic(voltage=-211.0, current_limit=1e-3), "beyond its 210 V"),
        (Potentiostatic(voltage=22.0, current_limit=0.2), "power envelope"),
        (Galvanostatic(current=1e-12, cutoff=4.2), "lowest current limit"),
        (OpenCircuit(voltage_limit=0.0), "too low"),
        (Potentiostatic(voltage=math.nan, current_limit=1e-3), "beyond"),
        (Galvanostatic(current=math.nan, cutoff=4.2), "beyond"),
    ],
)
@in_virtual_time
async def test_a_set_point_beyond_the_instrument_is_refused_and_not_clamped(
    setpoint: Galvanostatic | Potentiostatic | OpenCircuit, why: str
) -> None:
    async with transcript(Keithley2450) as (smu, _):
        with pytest.raises(UnsupportedError, match=why):
            smu.check(setpoint)


@in_virtual_time
async def test_within_a_run_the_protection_and_the_window_bound_set_points() -> None:
    async with transcript(Keithley2450) as (smu, peer):
        greet(peer)
        preparation(peer)
        await smu.connect()
        await smu.prepare(WINDOW)
        with pytest.raises(UnsupportedError, match="over-voltage protection at 5 V"):
            smu.check(Potentiostatic(voltage=5.1, current_limit=1e-3))
        with pytest.raises(UnsupportedError, match="sink current"):
            smu.check(OpenCircuit(voltage_limit=4.0))
        smu.check(OpenCircuit(voltage_limit=4.5))
