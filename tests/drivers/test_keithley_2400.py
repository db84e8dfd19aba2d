"""The 2400 driver: its lines, its orders of commands, its status word, its races with `safe`."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers.keithley_2400 import Keithley2400
from operando.drivers.keithley_tables import SourceMeterSettings
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    GarbledReplyError,
    InstrumentError,
    NotVerifiedError,
    OperandoError,
    ReplyTimeoutError,
    ReportedError,
    SafeStateError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import (
    Expect,
    Galvanostatic,
    OpenCircuit,
    Potentiostat,
    Potentiostatic,
    Protection,
)
from operando.instruments.safety import secure
from operando.instruments.samples import Reading, Regulation, Status
from operando.instruments.wires import Switchboard
from wire.legacy_source_meter import (
    HOLDING,
    IDENTITY,
    LIMITED,
    NO_ERROR,
    Parrot,
    sent,
    with_parrot,
)
from wire.transcript import Transcript, in_virtual_time, transcript

WINDOW = Protection(voltage=(2.5, 4.25), current=5e-3)
CHARGE = Galvanostatic(current=1.57e-3, cutoff=4.25)

# ---------------------------------------------------------------- identity


@in_virtual_time
async def test_connecting_reads_the_identity_alone_and_writes_nothing() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        peer.answer("*IDN?", IDENTITY)
        identity = await smu.connect()
    assert identity.maker == "KEITHLEY INSTRUMENTS INC."
    assert identity.model == "2400"
    assert identity.serial == "4105123"
    assert identity.firmware.startswith("C32")
    assert isinstance(smu, Potentiostat)


@pytest.mark.parametrize(
    ("reply", "expect", "message"),
    [
        (IDENTITY.replace("2400", "2410"), Expect(), "expected model 2400, found 2410"),
        (IDENTITY.replace("2400", "2450"), Expect(), "expected model 2400, found 2450"),
        (IDENTITY, Expect(serial="99999999"), "expected serial 99999999, found 4105123"),
    ],
)
@in_virtual_time
async def test_another_instrument_is_refused_with_a_remedy(
    reply: str, expect: Expect, message: str
) -> None:
    async with transcript(Keithley2400, expect=expect) as (smu, peer):
        peer.answer("*IDN?", reply)
        with pytest.raises(WrongInstrumentError, match=f"{message}.*Nothing was written"):
            await smu.connect()


@pytest.mark.parametrize("reply", ["", "MODEL 2400", "ACME,MODEL 2400,1,1", "\x00\x7f,,,"])
@in_virtual_time
async def test_garbage_instead_of_an_identity_is_said_to_be_garbage(reply: str) -> None:
    async with transcript(Keithley2400) as (smu, peer):
        peer.answer("*IDN?", reply)
        with pytest.raises(GarbledReplyError, match=r"baud rate and terminator"):
            await smu.connect()


@in_virtual_time
async def test_a_carriage_return_before_the_line_feed_makes_no_difference() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        peer.answer("*IDN?", IDENTITY.encode() + b"\r\n")
        assert (await smu.connect()).serial == "4105123"
        peer.answer(":OUTP:SMOD?", b"HIMP\r\n")
        peer.answer(":OUTP?", b"0\r\n")
        assert await smu.output_is_on() is False


@pytest.mark.parametrize(("mode", "output", "on"), [("HIMP", "1", True), ("NORM", "0", True)])
@in_virtual_time
async def test_an_output_that_would_load_the_cell_is_told(mode: str, output: str, on: bool) -> None:
    async with transcript(Keithley2400) as (smu, peer):
        peer.dialogue(("*IDN?", IDENTITY), (":OUTP:SMOD?", mode), (":OUTP?", output))
        await smu.connect()
        assert await smu.output_is_on() is on


# ---------------------------------------------------------------- lines of a charge


def told(peer: Transcript, *commands: str) -> None:
    """Commands, each with its own look into the error queue."""
    for command in commands:
        peer.expect(command)
        peer.answer(":SYST:ERR?", NO_ERROR)


def relay_opened(peer: Transcript) -> None:
    told(peer, ":OUTP OFF")
    peer.answer(":OUTP?", "0")
    told(peer, ":OUTP:SMOD HIMP")
    peer.answer(":OUTP:SMOD?", "HIMP")


def wiring_read(peer: Transcript) -> None:
    peer.dialogue(
        (":ROUT:TERM?", "FRON"),
        (":SYST:RSEN?", "1"),
        (":SOUR:VOLT:PROT?", "2.000000E+01"),
        (":SOUR:CLE:AUTO?", "0"),
        (":OUTP:SMOD?", "HIMP"),
        (":FORM:ELEM?", "VOLT,CURR,STAT"),
        (":SENS:FUNC?", '"VOLT:DC","CURR:DC"'),
    )


def preparation(peer: Transcript) -> None:
    peer.answer("*IDN?", IDENTITY)
    peer.answer(":SYST:ERR?", '+802,"Not permitted with OUTPUT off"')
    peer.answer(":SYST:ERR?", NO_ERROR)
    relay_opened(peer)
    told(
        peer,
        ":ROUT:TERM FRON",
        ":SYST:RSEN ON",
        ":SYST:AZER ON",
        ":SOUR:CLE:AUTO OFF",
        ":ARM:COUN 1",
        ":TRIG:COUN 1",
        ":SENS:FUNC:CONC ON",
        ':SENS:FUNC "VOLT","CURR"',
        ":SENS:VOLT:NPLC 1",
        ":SENS:CURR:NPLC 1",
        ":FORM:ELEM VOLT,CURR,STAT",
        ":SOUR:FUNC VOLT",
        ":SOUR:VOLT:MODE FIX",
        ":SOUR:CURR:MODE FIX",
        ":SOUR:VOLT 0",
        ":SOUR:CURR 0",
        ":SOUR:VOLT:RANG 20",
        ":SOUR:VOLT:PROT 20",
    )
    peer.dialogue((":ARM:COUN?", "1"), (":TRIG:COUN?", "1"), (":SENS:CURR:NPLC?", "1.00"))
    wiring_read(peer)
    peer.dialogue((":SOUR:VOLT:RANG?", "2.100000E+01"), (":OUTP?", "0"))


def charging(peer: Transcript) -> None:
    peer.dialogue((":OUTP?", "0"), (":SOUR:FUNC?", "VOLT"))
    told(
        peer,
        ":SOUR:FUNC VOLT",
        ":SENS:CURR:RANG:AUTO ON",
        ":SOUR:VOLT:RANG 20",
        ":SOUR:VOLT 4.25",
        ":SENS:CURR:PROT 0.00157",
        ":SENS:CURR:RANG 0.01",
    )
    read_back(peer, "4.250000E+00", "1.570000E-03", "1.050000E-02")
    told(peer, ":OUTP ON")
    peer.answer(":OUTP?", "1")


def read_back(peer: Transcript, level: str, limit: str, current_range: str) -> None:
    wiring_read(peer)
    peer.dialogue(
        (":SOUR:FUNC?", "VOLT"),
        (":SOUR:VOLT:RANG?", "2.100000E+01"),
        (":SOUR:VOLT?", level),
        (":SENS:CURR:RANG?", current_range),
        (":SENS:CURR:PROT?", limit),
    )


async def charge(smu: Keithley2400, peer: Transcript) -> None:
    preparation(peer)
    charging(peer)
    await smu.connect()
    await smu.prepare(WINDOW)
    await smu.apply(CHARGE)


@in_virtual_time
async def test_a_charge_is_a_voltage_source_at_the_cutoff_with_the_current_as_compliance() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        await charge(smu, peer)


@in_virtual_time
async def test_a_range_goes_up_after_the_compliance_and_down_before_it() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        await charge(smu, peer)
        smu._protection = Protection((2.5, 4.25), 0.05)
        peer.dialogue((":OUTP?", "1"), (":SOUR:FUNC?", "VOLT"))
        peer.dialogue((":SENS:CURR:PROT?", "1.57E-03"), (":SENS:CURR:RANG?", "1.05E-02"))
        told(peer, ":SOUR:VOLT 2.5", ":SENS:CURR:PROT 0.05", ":SENS:CURR:RANG 0.1")
        read_back(peer, "2.500000E+00", "5.000000E-02", "1.050000E-01")
        peer.answer(":OUTP?", "1")
        await smu.apply(Galvanostatic(current=-0.05, cutoff=2.5))
        peer.dialogue((":OUTP?", "1"), (":SOUR:FUNC?", "VOLT"))
        peer.dialogue((":SENS:CURR:PROT?", "5E-02"), (":SENS:CURR:RANG?", "1.05E-01"))
        told(peer, ":SENS:CURR:RANG 0.01", ":SENS:CURR:PROT 0.00157", ":SOUR:VOLT 4.25")
        read_back(peer, "4.250000E+00", "1.570000E-03", "1.050000E-02")
        peer.answer(":OUTP?", "1")
        await smu.apply(CHARGE)


@in_virtual_time
async def test_an_error_is_reported_with_the_command_that_caused_it() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        peer.dialogue(("*IDN?", IDENTITY), (":SYST:ERR?", NO_ERROR))
        await smu.connect()
        peer.expect(":OUTP OFF")
        peer.answer(":SYST:ERR?", '-113,"Undefined header"')
        peer.answer(":SYST:ERR?", NO_ERROR)
        with pytest.raises(ReportedError, match=r"Undefined header \(after :OUTP OFF\)") as caught:
            await smu.prepare(WINDOW)
    assert caught.value.code == -113
    assert caught.value.instrument == "keithley-2400"


# ---------------------------------------------------------------- readings


@pytest.mark.parametrize(
    ("word", "regulation", "status"),
    [
        (HOLDING, Regulation.VOLTAGE, Status.OK),
        (LIMITED, Regulation.CURRENT, Status.OK),
        (HOLDING | 1 << 16, Regulation.CURRENT, Status.OK),
        (HOLDING | 1 << 4, Regulation.VOLTAGE, Status.OVERLOAD),
        (HOLDING | 1 << 0, Regulation.VOLTAGE, Status.OVERLOAD),
        (HOLDING & ~(1 << 22), Regulation.UNKNOWN, Status.FAULT),
        (HOLDING & ~(1 << 2), Regulation.UNKNOWN, Status.FAULT),
        (HOLDING & ~(1 << 11), Regulation.UNKNOWN, Status.FAULT),
        (HOLDING ^ (3 << 14), Regulation.UNKNOWN, Status.FAULT),
    ],
)
@in_virtual_time
async def test_the_status_word_tells_which_limit_acts_and_whether_all_is_as_programmed(
    word: int, regulation: Regulation, status: Status
) -> None:
    async with transcript(Keithley2400) as (smu, peer):
        await charge(smu, peer)
        peer.answer(":OUTP?", "1")
        peer.answer(":READ?", sent(4.20001, 4.9987e-3, word) + b"\n", delay=0.1)
        reading = await smu.measure()
    assert reading.voltage == pytest.approx(4.20001)
    assert reading.current == pytest.approx(4.9987e-3)
    assert (reading.regulation, reading.status) == (regulation, status)
    assert reading.uncertainty == pytest.approx(0.05)


@in_virtual_time
async def test_overflows_are_not_numbers() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        await charge(smu, peer)
        peer.answer(":OUTP?", "1")
        peer.answer(":READ?", "+9.910000E+37,-9.900000E+37,+4.216836E+06")
        reading = await smu.measure()
    assert math.isnan(reading.voltage)
    assert math.isnan(reading.current)
    assert reading.status is Status.OVERLOAD


@in_virtual_time
async def test_an_output_switched_off_at_the_panel_is_a_fault_and_is_not_read() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        await charge(smu, peer)
        peer.answer(":OUTP?", "0")
        first = await smu.measure()
        peer.answer(":OUTP?", "0")
        second = await smu.measure()
    assert (first.regulation, first.status) == (Regulation.OPEN, Status.FAULT)
    assert math.isnan(first.voltage)
    assert second.status is Status.OK


@pytest.mark.parametrize(
    "reply",
    [
        "+4.2,+4.9E-03",
        "+4.200010E+00,+4.998700E-03,+9.910000E+37,+7.282600E+01,+4.216836E+06",
        "+4.20001E+00,+4.998700E-03,+4.216836E+06",
        "4.200010E+00,+4.998700E-03,+4.216836E+06",
        "+4.200010E+00,+4.998700E-03,+4.216836E-01",
        "+4.200010E+00,+4.998700E-03,-4.216836E+06",
        "+4.200010E+00,+4.998700E-03,+1.677722E+07",
        "nan,+4.998700E-03,+4.216836E+06",
        "",
    ],
)
@in_virtual_time
async def test_a_reading_of_another_form_is_garbage(reply: str) -> None:
    async with transcript(Keithley2400) as (smu, peer):
        await charge(smu, peer)
        peer.answer(":OUTP?", "1")
        peer.answer(":READ?", reply)
        with pytest.raises(GarbledReplyError, match=r":READ\?"):
            await smu.measure()


@in_virtual_time
async def test_after_a_reading_that_never_came_the_instrument_is_identified_again() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        await charge(smu, peer)
        peer.answer(":OUTP?", "1")
        peer.expect(":READ?")
        with pytest.raises(ReplyTimeoutError, match="keithley-2400 at"):
            await smu.measure()
        peer.dialogue(("*IDN?", IDENTITY), (":OUTP?", "1"))
        peer.answer(":READ?", sent(4.2, 4.9e-3, HOLDING) + b"\n")
        assert (await smu.measure()).status is Status.OK


@in_virtual_time
async def test_a_new_session_learns_what_the_output_does() -> None:
    async with transcript(Keithley2400) as (smu, peer):
        peer.dialogue(("*IDN?", IDENTITY), (":OUTP?", "1"), (":OUTP?", "1"))
        peer.answer(":SOUR:FUNC?", "CURR")
        peer.answer(":READ?", sent(3.7, 1e-12, HOLDING ^ (3 << 14)) + b"\n")
        await smu.connect()
        assert (await smu.measure()).regulation is Regulation.OPEN


# ---------------------------------------------------------------- an instrument that remembers


def test_an_open_circuit_is_a_source_of_no_current_on_its_lowest_range() -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        await smu.apply(OpenCircuit(4.75))
        word = HOLDING ^ (3 << 14)
        parrot.answers[":READ?"] = sent(3.7, 0.0, word)
        assert (await smu.measure()).regulation is Regulation.OPEN
        parrot.answers[":READ?"] = sent(4.75, 1e-7, word | 8)
        reading = await smu.measure()
        assert (reading.regulation, reading.status) == (Regulation.VOLTAGE, Status.OVERLOAD)

    settings = with_parrot(scenario).settings
    assert (settings[":SOUR:FUNC"], settings[":SOUR:CURR"]) == ("CURR", "0")
    assert settings[":SOUR:CURR:RANG"] == "1e-06"
    assert settings[":SENS:VOLT:PROT"] == "4.75"
    assert settings[":OUTP"] == "1"


def test_two_wires_at_the_rear_are_programmed_and_expected_in_the_status_word() -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        assert (await smu.measure()).status is Status.FAULT
        word = LIMITED & ~(1 << 22 | 1 << 2)
        parrot.answers[":READ?"] = sent(3.8, 1.57e-3, word)
        assert (await smu.measure()).status is Status.OK

    wiring = SourceMeterSettings(sense="2-wire", terminals="rear", nplc=0.1, auto_zero=False)
    settings = with_parrot(scenario, settings=wiring).settings
    assert settings[":SYST:RSEN"] == "0"
    assert settings[":ROUT:TERM"] == "REAR"
    assert settings[":SENS:CURR:NPLC"] == "0.1"
    assert settings[":SYST:AZER"] == "0"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (":SYST:RSEN?", b"0"),
        (":SOUR:VOLT:PROT?", b"1.6E+02"),
        (":OUTP:SMOD?", b"NORM"),
        (":SOUR:CLE:AUTO?", b"1"),
        (":SENS:FUNC?", b'"CURR:DC"'),
        (":FORM:ELEM?", b"VOLT,CURR,RES,TIME,STAT"),
        (":SENS:CURR:RANG?", b"1.05E-01"),
        (":SENS:CURR:PROT?", b"1.05E-04"),
        (":SOUR:VOLT?", b"0"),
    ],
)
def test_whatever_reads_back_otherwise_keeps_the_output_off(question: str, answer: bytes) -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        parrot.answers[question] = answer
        with pytest.raises(NotVerifiedError):
            await smu.apply(CHARGE)

    assert "1" not in with_parrot(scenario).switched


@pytest.mark.parametrize(
    "setpoint",
    [
        Galvanostatic(2.0, 4.2),
        Galvanostatic(6e-3, 4.2),
        Galvanostatic(1e-3, 4.3),
        Galvanostatic(1e-10, 4.2),
        Potentiostatic(300.0, 1e-3),
        OpenCircuit(4.0),
    ],
)
def test_what_it_cannot_do_is_refused_and_nothing_is_written(
    setpoint: Galvanostatic | Potentiostatic | OpenCircuit,
) -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        before = dict(parrot.settings)
        with pytest.raises(UnsupportedError, match="Nothing was written"):
            await smu.apply(setpoint)
        assert parrot.settings == before

    with_parrot(scenario)


@pytest.mark.parametrize(
    "window", [Protection((0.0, 250.0), 1e-3), Protection((0.0, 4.2), 2.0), Protection((0, 155), 1)]
)
def test_a_window_beyond_the_instrument_is_refused(window: Protection) -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        with pytest.raises(UnsupportedError):
            await smu.prepare(window)

    assert with_parrot(scenario).switched == []


@pytest.mark.parametrize("moment", range(0, 110, 2))
def test_the_relay_is_open_whenever_during_a_set_point_the_safe_state_is_asked_for(
    moment: int,
) -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        applying = asyncio.ensure_future(smu.apply(CHARGE))
        await asyncio.sleep(0.3e-3 * moment)
        before = applying.done()
        await smu.safe()
        assert parrot.settings[":OUTP"] == "0"
        result = (await asyncio.gather(applying, return_exceptions=True))[0]
        assert before == (result is None)
        if not before:
            assert isinstance(result, InstrumentError)
        await asyncio.sleep(1.0)
        assert parrot.settings[":OUTP"] == "0"

    with_parrot(scenario, delay=1e-3)


def test_the_sweep_over_moments_meets_both_an_unfinished_and_a_finished_set_point() -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        start = asyncio.get_running_loop().time()
        await smu.apply(CHARGE)
        assert 3e-3 < asyncio.get_running_loop().time() - start < 0.3e-3 * 108

    with_parrot(scenario, delay=1e-3)


def test_the_safe_state_makes_a_connected_relay_high_impedance() -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.safe()
        assert parrot.settings[":OUTP:SMOD"] == "HIMP"
        parrot.settings[":OUTP:SMOD"] = "NORM"
        parrot.answers[":OUTP:SMOD?"] = b"NORM"
        with pytest.raises(SafeStateError, match="may still load the cell"):
            await smu.safe()
        parrot.answers[":OUTP?"] = b"1"
        with pytest.raises(SafeStateError, match="ASSUME THAT THE OUTPUT IS ON"):
            await smu.safe()

    with_parrot(scenario)


def test_a_silent_instrument_is_never_called_safe() -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        parrot.delay = 60.0
        with pytest.raises(SafeStateError):
            await secure(smu, attempts=2)
        parrot.delay = 0.0
        await secure(smu)
        assert parrot.settings[":OUTP"] == "0"

    with_parrot(scenario)


def test_the_capabilities_are_those_of_a_2400() -> None:
    clock = Clock("virtual")
    capabilities = Keithley2400(Switchboard().wire("a", clock), clock).capabilities
    assert capabilities.voltage == (-210.0, 210.0)
    assert capabilities.current == (-1.05, 1.05)
    assert capabilities.when_host_is_silent is WhenHostIsSilent.STAYS_ON
    assert "voltage cut-off" in capabilities.on_board


@given(
    st.sampled_from([":READ?", ":OUTP?", "*IDN?", ":SYST:ERR?", ":SENS:CURR:PROT?"]),
    st.one_of(
        st.binary(max_size=60),
        st.text('0123456789.,+-E"KY ', max_size=60).map(str.encode),
    ),
)
def test_damaged_lines_end_in_an_error_of_ours_or_in_what_was_sent(
    question: str, noise: bytes
) -> None:
    async def scenario(smu: Keithley2400, parrot: Parrot) -> None:
        await smu.prepare(WINDOW)
        await smu.apply(CHARGE)
        parrot.answers[question] = noise
        for doing in (smu.measure, lambda: smu.apply(CHARGE), smu.reconnect, smu.safe):
            try:
                result = await doing()
            except OperandoError:
                continue
            if isinstance(result, Reading) and result.status is Status.OK:
                line = noise.split(b"\n")[0] if question == ":READ?" else sent(3.8, 1.57e-3, 0)
                numbers = [float(part) for part in line.split(b",")[:2]]
                assert [result.voltage, result.current] == numbers or (
                    result.regulation is Regulation.OPEN
                )
            if doing == smu.safe:
                assert parrot.settings[":OUTP"] == "0"

    with_parrot(scenario)
