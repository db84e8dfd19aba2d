"""The chamber's driver, line by line, and what it does with lines that are damaged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers.espec import EspecP300, EspecSettings
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    GarbledReplyError,
    NotVerifiedError,
    OperandoError,
    ReplyTimeoutError,
    ReportedError,
    SafeStateError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.parameters import parameters_from
from operando.instruments.roles import Expect, TemperatureController
from operando.instruments.samples import Status
from operando.instruments.wires import Switchboard
from wire.espec_chamber import END, Chamber, with_chamber
from wire.transcript import Transcript, in_virtual_time, transcript

LOOKS = 6
"""Looks at the mode of a chamber that answers at once, while it may still change."""
WIDE = "24.9,25.0,80.0,-20.0"
"""TEMP? of a chamber at 25 degC whose alarm limits are already those of the settings."""


def greet(peer: Transcript) -> None:
    peer.dialogue(("TYPE?", "T,P300,180.0"), ("ROM?", "P300 V1.02"))


# ---------------------------------------------------------------- identity


@in_virtual_time
async def test_connecting_tells_model_and_firmware_and_writes_nothing() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        identity = await chamber.connect()
    assert identity.maker == "ESPEC"
    assert identity.model in EspecP300.INFO.models
    assert identity.firmware == "P300 V1.02"
    assert isinstance(chamber, TemperatureController)


@pytest.mark.parametrize(
    ("reply", "model"), [("T,T,P-300,150.0", "P300"), ("T, SCP-220, 100.0", "SCP220")]
)
@in_virtual_time
async def test_a_wet_bulb_and_a_hyphen_in_the_name_make_no_difference(
    reply: str, model: str
) -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        peer.dialogue(("TYPE?", reply), ("ROM?", "1"))
        assert (await chamber.connect()).model == model


@in_virtual_time
async def test_another_controller_is_refused_with_a_remedy() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        peer.answer("TYPE?", "T,ES102,180.0")
        with pytest.raises(WrongInstrumentError, match=r"found 'ES102'.*Nothing was written"):
            await chamber.connect()


@in_virtual_time
async def test_an_expected_model_that_did_not_answer_is_refused() -> None:
    expect = Expect(model="SCP-220")
    async with transcript(EspecP300, END, expect=expect) as (chamber, peer):
        peer.answer("TYPE?", "T,P300,180.0")
        with pytest.raises(WrongInstrumentError, match="expected model SCP220"):
            await chamber.connect()


@in_virtual_time
async def test_an_expected_serial_number_is_refused_since_it_cannot_be_checked() -> None:
    async with transcript(EspecP300, END, expect=Expect(serial="1")) as (chamber, _):
        with pytest.raises(WrongInstrumentError, match="does not say its serial number"):
            await chamber.connect()


@in_virtual_time
async def test_an_address_on_rs485_is_put_before_every_command() -> None:
    settings = EspecSettings(address=3)
    async with transcript(EspecP300, END, settings=settings) as (chamber, peer):
        peer.dialogue(("3,TYPE?", "T,P300,180.0"), ("3,ROM?", "1"))
        await chamber.connect()
        peer.answer("3,MON?", "25.1,,CONSTANT,0")
        assert (await chamber.measure()).value == pytest.approx(298.25)


# ---------------------------------------------------------------- measuring


@in_virtual_time
async def test_the_temperature_is_in_kelvins_at_the_middle_of_the_exchange() -> None:
    async with transcript(EspecP300, END, name="chamber1") as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.answer("MON?", "-19.9,,CONSTANT,0", delay=0.2)
        reading = await chamber.measure()
    assert reading.source == "chamber1"
    assert reading.quantity == "chamber_temperature"
    assert reading.value == pytest.approx(253.25)
    assert reading.time == pytest.approx(0.1)
    assert reading.uncertainty == pytest.approx(0.1)
    assert reading.status is Status.OK


@in_virtual_time
async def test_humidity_is_read_over_and_an_alarm_marks_the_reading() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(("MON?", "60.0, 45, RUN, 2"), ("ALARM?", "2,7,11"))
        reading = await chamber.measure()
        assert await chamber.alarms() == (7, 11)
    assert reading.value == pytest.approx(333.15)
    assert reading.status is Status.FAULT


@pytest.mark.parametrize(
    "reply",
    [
        "25.1,,CONSTANT",
        "25.1,,CONSTANT,",
        "25.1,,CONSTAN,0",
        "2S.1,,CONSTANT,0",
        ",,CONSTANT,0",
        "nan,,CONSTANT,0",
        "1e2,,CONSTANT,0",
        "25.1,,CONSTANT,0\x00",
        "",
    ],
)
@in_virtual_time
async def test_a_line_of_another_form_is_garbage(reply: str) -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.answer("MON?", reply)
        with pytest.raises(GarbledReplyError, match="espec-p300 at"):
            await chamber.measure()


@in_virtual_time
async def test_silence_is_a_time_out_after_which_the_model_is_asked_again() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.expect("MON?")
        with pytest.raises(ReplyTimeoutError, match="espec-p300 at"):
            await chamber.measure()
        greet(peer)
        peer.answer("MON?", "25.1,,STANDBY,0")
        assert (await chamber.measure()).value == pytest.approx(298.25)


# ---------------------------------------------------------------- holding


@in_virtual_time
async def test_the_alarm_limits_go_out_before_the_set_point_and_all_is_read_back() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(
            ("MODE?", "STANDBY"),
            ("TEMP?", "21.0,25.0,180.0,-70.0"),
            ("TEMP, H80.0", "OK:TEMP, H80.0"),
            ("TEMP, L-20.0", "OK:TEMP, L-20.0"),
            ("TEMP?", "21.0,25.0,80.0,-20.0"),
            ("TEMP, S60.0", "OK:TEMP, S60.0"),
            ("TEMP?", "21.0,60.0,80.0,-20.0"),
            ("MODE,CONSTANT", "OK:MODE,CONSTANT"),
            ("MODE?", "CONSTANT"),
        )
        await chamber.hold(333.15)


@in_virtual_time
async def test_a_set_point_left_outside_the_limits_moves_together_with_them() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(
            ("MODE?", "CONSTANT"),
            ("TEMP?", "99.0,100.0,180.0,-70.0"),
            ("TEMP, S60.0 H80.0 L-20.0", "OK"),
            ("TEMP?", "99.0,60.0,80.0,-20.0"),
            ("TEMP, S60.0", ""),
            ("TEMP?", "99.0,60.0,80.0,-20.0"),
        )
        await chamber.hold(333.15)


@in_virtual_time
async def test_the_chamber_s_own_maximum_bounds_the_limits_too() -> None:
    settings = EspecSettings(highest=473.15)
    async with transcript(EspecP300, END, settings=settings) as (chamber, peer):
        peer.dialogue(("TYPE?", "T,P300,100.0"), ("ROM?", "1"))
        await chamber.connect()
        with pytest.raises(UnsupportedError, match=r"373\.15 K"):
            await chamber.hold(383.15)


@pytest.mark.parametrize("temperature", [253.0, 353.3, float("nan"), float("inf"), 25.0])
@in_virtual_time
async def test_a_temperature_outside_the_limits_is_refused_and_nothing_is_sent(
    temperature: float,
) -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        with pytest.raises(UnsupportedError, match="Nothing was written"):
            await chamber.hold(temperature)


@in_virtual_time
async def test_a_running_program_is_refused_and_not_stopped() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.answer("MODE?", "RUN")
        with pytest.raises(UnsupportedError, match="a program is running"):
            await chamber.hold(298.15)


@in_virtual_time
async def test_a_set_point_that_reads_back_otherwise_is_an_error() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(
            ("MODE?", "CONSTANT"), ("TEMP?", WIDE), ("TEMP, S60.0", "OK"), ("TEMP?", WIDE)
        )
        with pytest.raises(NotVerifiedError, match=r"set-point 60\.0 .* but gives 25\.0"):
            await chamber.hold(333.15)


@in_virtual_time
async def test_limits_that_read_back_otherwise_stop_before_the_set_point() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        before = "21.0,25.0,180.0,-70.0"
        peer.dialogue(
            ("MODE?", "CONSTANT"),
            ("TEMP?", before),
            ("TEMP, H80.0", "OK"),
            ("TEMP, L-20.0", "OK"),
            ("TEMP?", before),
        )
        with pytest.raises(NotVerifiedError, match="limits"):
            await chamber.hold(333.15)


@in_virtual_time
async def test_a_chamber_that_does_not_start_is_an_error() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(("MODE?", "STANDBY"), ("TEMP?", WIDE), ("TEMP, S25.0", "OK"), ("TEMP?", WIDE))
        peer.answer("MODE,CONSTANT", "OK")
        peer.dialogue(*[("MODE?", "STANDBY")] * LOOKS)
        with pytest.raises(NotVerifiedError, match="should give CONSTANT but gives STANDBY"):
            await chamber.hold(298.15)


@pytest.mark.parametrize(
    ("words", "code", "meaning"),
    [
        ("DATA OUT OF RANGE", 0, "outside the range"),
        ("CONT NOT READY-3", 3, "does not know"),
        ("PROTECT ON", 0, "protected at the panel"),
        ("SOMETHING NEW-12", 12, "manual"),
    ],
)
@in_virtual_time
async def test_the_words_behind_na_are_reported_with_their_meaning(
    words: str, code: int, meaning: str
) -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(("MODE?", "CONSTANT"), ("TEMP?", WIDE), ("TEMP, S60.0", f"NA:{words}"))
        with pytest.raises(ReportedError, match=meaning) as caught:
            await chamber.hold(333.15)
    assert caught.value.code == code
    assert words in caught.value.text
    assert caught.value.instrument == "espec-p300"


# ---------------------------------------------------------------- safe state


@pytest.mark.parametrize(
    ("state", "command", "after"),
    [("standby", "MODE,STANDBY", "STANDBY"), ("off", "POWER,off", "OFF")],
)
@in_virtual_time
async def test_the_safe_state_of_the_settings_is_reached_read_back_and_idempotent(
    state: Any, command: str, after: str
) -> None:
    settings = EspecSettings(safe_state=state)
    async with transcript(EspecP300, END, settings=settings) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(("MODE?", "CONSTANT"), (command, "OK"), ("MODE?", "CONSTANT"))
        peer.dialogue(*[("MODE?", after)] * (LOOKS - 1))
        await chamber.safe()
        peer.dialogue(("MODE?", after), (command, "OK"), *[("MODE?", after)] * LOOKS)
        await chamber.safe()


@in_virtual_time
async def test_a_chamber_that_is_off_is_not_switched_on_to_stand_by() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(("MODE?", "OFF"), ("POWER,off", "OK"), *[("MODE?", "OFF")] * LOOKS)
        await chamber.safe()


@in_virtual_time
async def test_a_chamber_that_refuses_to_be_told_is_safe_if_it_stays_so() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.dialogue(("MODE?", "STANDBY"), ("MODE,STANDBY", "NA:PROTECT ON"))
        peer.dialogue(*[("MODE?", "STANDBY")] * LOOKS)
        await chamber.safe()


@in_virtual_time
async def test_holding_as_the_safe_state_writes_nothing_but_needs_an_answer() -> None:
    settings = EspecSettings(safe_state="hold")
    async with transcript(EspecP300, END, settings=settings) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.answer("MODE?", "CONSTANT")
        await chamber.safe()
        peer.expect("MODE?")
        with pytest.raises(ReplyTimeoutError):
            await chamber.safe()


@in_virtual_time
async def test_a_chamber_that_goes_on_is_never_called_safe() -> None:
    async with transcript(EspecP300, END) as (chamber, peer):
        greet(peer)
        await chamber.connect()
        peer.answer("MODE?", "CONSTANT")
        peer.answer("MODE,STANDBY", "OK")
        peer.dialogue(*[("MODE?", "CONSTANT")] * LOOKS)
        with pytest.raises(SafeStateError, match="ASSUME THAT IT GOES ON"):
            await chamber.safe()
        peer.dialogue(("MODE?", "CONSTANT"), ("MODE,STANDBY", "NA:PROTECT ON"))
        peer.dialogue(*[("MODE?", "CONSTANT")] * LOOKS)
        with pytest.raises(SafeStateError, match="PROTECT ON"):
            await chamber.safe()


# ---------------------------------------------------------------- settings and noise


def test_the_capabilities_say_that_it_goes_on_when_the_host_falls_silent() -> None:
    clock = Clock("virtual")
    capabilities = EspecP300(Switchboard().wire("a", clock), clock).capabilities
    assert capabilities.when_host_is_silent is WhenHostIsSilent.STAYS_ON
    assert "temperature alarm limits" in capabilities.on_board
    assert capabilities.fastest_sampling > 0.0


def test_settings_come_from_a_bench_file_in_degrees() -> None:
    written = {"lowest": "10 degC", "highest": "60 degC", "safe_state": "hold", "address": 2}
    settings = parameters_from(EspecSettings, written, "bench.toml")
    assert (settings.lowest, settings.highest) == pytest.approx((283.15, 333.15))
    assert (settings.address, settings.safe_state) == (2, "hold")


@pytest.mark.parametrize("bad", [{"address": 100}, {"address": -1}, {"lowest": 353.15}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        EspecSettings(**bad)


@given(
    st.sampled_from(["MON?", "TEMP?", "MODE?", "MODE,CONSTANT", "TEMP, S60.0", "TYPE?"]),
    st.one_of(
        st.binary(max_size=30),
        st.text("0123456789.,+-NA:OFCSTRUEP ", max_size=30).map(str.encode),
    ),
)
def test_damaged_lines_end_in_an_error_of_ours_or_a_verified_set_point(
    command: str, noise: bytes
) -> None:
    chamber = Chamber()

    async def scenario(driver: EspecP300, chamber: Chamber) -> None:
        chamber.answers[command] = noise + END
        try:
            reading = await driver.measure()
        except OperandoError:
            pass
        else:
            shown = noise.split(END)[0].split(b",")[0] if command == "MON?" else b"25.1"
            assert reading.value == pytest.approx(float(shown) + 273.15)
        try:
            await driver.hold(333.15)
        except OperandoError:
            return
        assert chamber.mode == "CONSTANT"
        assert (chamber.setpoint, chamber.high, chamber.low) == (60.0, 80.0, -20.0)

    with_chamber(scenario, chamber)
