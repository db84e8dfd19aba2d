"""The Keller X-line driver, byte by byte against the frames of Keller's protocol description."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from operando.drivers.keller import Keller33X, KellerSettings
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import run
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    NotVerifiedError,
    ReplyTimeoutError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.humidity import ATMOSPHERE
from operando.instruments.roles import Expect, GloveboxMonitor
from operando.instruments.samples import Status
from wire.transcript import Transcript, in_virtual_time, transcript


def frame(text: str) -> bytes:
    return bytes.fromhex(text)


def sealed(text: str) -> bytes:
    """A constructed frame with the check sum of another implementation than the driver's."""
    body = frame(text)
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def floats(value: float, slave: int = 1) -> bytes:
    """The reply that carries one float."""
    return sealed(f"{slave:02X} 03 04 {struct.pack('>f', value).hex()}")


# Keller, chapter 4.
READ_P1 = frame("01 03 00 02 00 02 65 CB")
P1 = frame("01 03 04 3F 75 F0 7B E3 DE")
READ_P1_ANY = frame("FA 03 00 02 00 02 70 40")
P1_ANY = frame("FA 03 04 3F 75 E4 A6 66 48")
ZERO = frame("01 10 FF 00 00 02 04 00 00 00 00 B6 5B")
ZEROED = frame("01 10 FF 00 00 02 71 DC")
# Constructed from its register map.
READ_SERIAL = sealed("01 03 02 02 00 02")
SERIAL = sealed("01 03 04 00 01 E2 40")  # 123456
READ_LOWEST, READ_HIGHEST = sealed("01 03 03 A0 00 02"), sealed("01 03 03 A2 00 02")
NO_SUCH_REGISTER = sealed("01 83 02")


def identify(peer: Transcript) -> None:
    """Expect an identification, of a transmitter of -1 to 1 bar."""
    peer.dialogue(
        (READ_P1, P1),
        (READ_SERIAL, SERIAL),
        (READ_LOWEST, floats(-1.0)),
        (READ_HIGHEST, floats(1.0)),
    )


@in_virtual_time
async def test_the_serial_number_and_the_range_are_read_when_it_is_connected() -> None:
    async with transcript(Keller33X, b"", expect=Expect(serial="123456")) as (gauge, peer):
        assert not gauge.capabilities.pressure_ranges
        identify(peer)
        identity = await gauge.connect()
        identify(peer)
        assert await gauge.reconnect() == identity
        assert peer.connections == 2
    assert (identity.maker, identity.model, identity.serial) == ("Keller", "X-line", "123456")
    assert [found.full_scale for found in gauge.capabilities.pressure_ranges] == [1e5]
    assert gauge.capabilities.when_host_is_silent is WhenHostIsSilent.NO_OUTPUT
    assert isinstance(gauge, GloveboxMonitor)


@in_virtual_time
async def test_another_serial_number_is_refused() -> None:
    async with transcript(Keller33X, b"", expect=Expect(serial="123457")) as (gauge, peer):
        identify(peer)
        with pytest.raises(WrongInstrumentError, match=r"serial number 123457, .* is 123456"):
            await gauge.connect()


@in_virtual_time
async def test_old_firmware_has_no_identity_and_works_unless_one_is_expected() -> None:
    absent = [(asked, NO_SUCH_REGISTER) for asked in (READ_SERIAL, READ_LOWEST, READ_HIGHEST)]
    async with transcript(Keller33X, b"") as (gauge, peer):
        peer.dialogue((READ_P1, P1), *absent)
        identity = await gauge.connect()
    assert (identity.model, identity.serial) == ("", "")
    assert not gauge.capabilities.pressure_ranges
    async with transcript(Keller33X, b"", expect=Expect(serial="123456")) as (gauge, peer):
        peer.dialogue((READ_P1, P1), *absent)
        with pytest.raises(WrongInstrumentError, match="firmware gives no serial"):
            await gauge.connect()


@in_virtual_time
async def test_a_model_is_not_told_and_cannot_be_expected() -> None:
    async with transcript(Keller33X, b"", expect=Expect(model="35X")) as (gauge, peer):
        identify(peer)
        with pytest.raises(WrongInstrumentError, match="cannot be checked"):
            await gauge.connect()


@pytest.mark.parametrize(
    ("settings", "pascals"),
    [
        (KellerSettings(), 96070.0),
        (KellerSettings(reference="absolute"), 96070.0 - ATMOSPHERE),
        (KellerSettings(reference="absolute", atmosphere=95e3), 1070.0),
    ],
)
@in_virtual_time
async def test_the_frame_of_the_document_is_a_pressure_against_the_room(
    settings: KellerSettings, pascals: float
) -> None:
    async with transcript(Keller33X, b"", name="box1", settings=settings) as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_P1, P1, delay=0.02)
        (reading,) = await gauge.measure()
    assert (reading.source, reading.quantity) == ("box1", "box_pressure")
    # 0.960701 bar as printed, to its last digit.
    assert reading.value == pytest.approx(pascals, abs=0.2)
    assert reading.status is Status.OK
    assert reading.time == pytest.approx(0.01)
    assert reading.uncertainty == pytest.approx(0.01)


@in_virtual_time
async def test_the_transparent_address_is_the_one_that_answers_too() -> None:
    async with transcript(Keller33X, b"", settings=KellerSettings(address=250)) as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_P1_ANY, P1_ANY)
        (reading,) = await gauge.measure()
    assert reading.value == pytest.approx(96052.0, abs=0.5)


@pytest.mark.parametrize(
    ("sent", "status"),
    [(math.nan, Status.FAULT), (math.inf, Status.OVERLOAD), (-math.inf, Status.UNDERLOAD)],
)
@in_virtual_time
async def test_what_is_no_number_is_a_fault_or_beyond_the_range(
    sent: float, status: Status
) -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_P1, floats(sent))
        (reading,) = await gauge.measure()
    assert math.isnan(reading.value)
    assert reading.status is status


@in_virtual_time
async def test_a_cable_that_returns_what_is_sent_is_read_past() -> None:
    async with transcript(Keller33X, b"", settings=KellerSettings(echo=True)) as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_P1, READ_P1 + P1)
        (reading,) = await gauge.measure()
        assert reading.value == pytest.approx(96070.0, abs=0.2)
        peer.answer(READ_P1, bytes((READ_P1[0] ^ 1,)) + READ_P1[1:] + P1)
        with pytest.raises(GarbledReplyError, match=r"settings\.echo"):
            await gauge.measure()


@in_virtual_time
async def test_an_unexpected_echo_is_garbage_and_not_a_pressure() -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_P1, READ_P1 + P1)
        with pytest.raises(GarbledReplyError, match=r"settings\.echo"):
            await gauge.measure()


@in_virtual_time
async def test_zero_is_written_as_in_the_document_and_read_back() -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.dialogue((ZERO, ZEROED), (READ_P1, floats(2e-5)))
        await gauge.zero()


@in_virtual_time
async def test_a_zero_that_does_not_read_zero_is_not_verified() -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        for pressure in (0.96, math.nan):
            peer.dialogue((ZERO, ZEROED), (READ_P1, floats(pressure)))
            with pytest.raises(NotVerifiedError, match="expected 0 within 100 Pa"):
                await gauge.zero()


@in_virtual_time
async def test_an_absolute_transmitter_is_not_zeroed_against_the_room() -> None:
    settings = KellerSettings(reference="absolute")
    async with transcript(Keller33X, b"", settings=settings) as (gauge, _):
        await gauge._wire.open()
        with pytest.raises(UnsupportedError, match="Nothing was written"):
            await gauge.zero()


@in_virtual_time
async def test_the_zero_of_the_factory_can_be_had_back() -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(sealed("01 10 FF 02 00 02 04 00 00 00 00"), sealed("01 10 FF 02 00 02"))
        await gauge.reset_zero()


@pytest.mark.parametrize(("code", "text"), [(1, "illegal function"), (4, "device failure")])
@in_virtual_time
async def test_a_modbus_exception_has_its_number_and_meaning(code: int, text: str) -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_P1, sealed(f"01 83 {code:02X}"))
        with pytest.raises(ReportedError, match=f"keller-33x at .*reports {code}: {text}"):
            await gauge.measure()


@in_virtual_time
async def test_an_exception_while_identifying_is_reported_unless_the_register_is_missing() -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        peer.dialogue((READ_P1, P1), (READ_SERIAL, sealed("01 83 04")))
        with pytest.raises(ReportedError, match="device failure"):
            await gauge.connect()


@pytest.mark.parametrize(
    "reply",
    [
        "01 03 04 3F 75 F0 7B E3 DF",
        "FA 03 04 3F 75 E4 A6 66 48",
        "01 03 08 3F 75 E3 D2 41 B6 1C 20 A0 C7",
        "01 10 FF 00 00 02 71 DC",
        "FF 01 FF",
    ],
)
@in_virtual_time
async def test_damaged_and_foreign_frames_are_garbage(reply: str) -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_P1, frame(reply))
        with pytest.raises(GarbledReplyError, match="keller-33x at"):
            await gauge.measure()


@in_virtual_time
async def test_silence_is_a_time_out_that_names_the_instrument() -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.expect(READ_P1)
        with pytest.raises(ReplyTimeoutError, match="keller-33x at"):
            await gauge.measure()


@in_virtual_time
async def test_frames_keep_the_silence_between_them() -> None:
    async with transcript(Keller33X, b"") as (gauge, peer):
        await gauge._wire.open()
        start = gauge._clock.now()
        for _ in range(3):
            peer.answer(READ_P1, P1)
            await gauge.measure()
        assert gauge._clock.now() - start >= 2 * 3.5 * 10 / 9600


@in_virtual_time
async def test_the_safe_state_of_something_without_output_needs_no_link() -> None:
    async with transcript(Keller33X, b"") as (gauge, _):
        await gauge.safe()
        await gauge.close()
        await gauge.close()


@pytest.mark.parametrize(
    "wrong", [{"address": 0}, {"address": 251}, {"atmosphere": 0.0}, {"atmosphere": math.nan}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="must be"):
        KellerSettings(**wrong)  # type: ignore[arg-type]


@given(st.integers(0, len(P1) - 1), st.integers(1, 255), st.booleans())
def test_a_changed_byte_never_becomes_a_pressure(place: int, change: int, echo: bool) -> None:
    damaged = bytearray(READ_P1 + P1 if echo else P1)
    damaged[place] ^= change

    async def scenario() -> None:
        async with transcript(Keller33X, b"", settings=KellerSettings(echo=echo)) as (gauge, peer):
            await gauge._wire.open()
            peer.answer(READ_P1, bytes(damaged))
            with pytest.raises((CommunicationError, ReportedError)):
                await gauge.measure()

    run(scenario(), virtual=True)


@given(st.binary(max_size=40), st.booleans())
def test_noise_never_becomes_a_pressure(noise: bytes, echo: bool) -> None:
    async def scenario() -> None:
        async with transcript(Keller33X, b"", settings=KellerSettings(echo=echo)) as (gauge, peer):
            await gauge._wire.open()
            peer.answer(READ_P1, noise)
            with pytest.raises((CommunicationError, ReportedError)):
                await gauge.measure()

    run(scenario(), virtual=True)
