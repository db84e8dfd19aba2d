"""The PT113 drivers, byte by byte against the manual's examples."""

from __future__ import annotations

import math

import pytest
from pymodbus.framer import FramerRTU

from operando.drivers.pt113 import (
    PISTON,
    PT113,
    PT113Modbus,
    PT113Settings,
    Tare,
)
from operando.instruments.errors import (
    BadInputError,
    GarbledReplyError,
    NotVerifiedError,
    ReplyTimeoutError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import Expect, LoadCell
from operando.instruments.samples import Status
from wire.transcript import in_virtual_time, transcript

END = b"\r\n"
CHECKED = PT113Settings(checksum=True)


def frame(text: str) -> bytes:
    return bytes.fromhex(text)


def sealed(text: str) -> bytes:
    """A constructed frame with the check sum of another implementation than the driver's."""
    body = frame(text)
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


# ---------------------------------------------------------------- BSI


@in_virtual_time
async def test_connecting_proves_the_link_and_claims_no_identity() -> None:
    async with transcript(PT113, END) as (gauge, peer):
        peer.answer("01S", "01SSGI")
        identity = await gauge.connect()
    assert (identity.model, identity.serial) == ("", "")
    assert isinstance(gauge, LoadCell)


@in_virtual_time
async def test_an_expected_serial_number_is_refused_since_it_cannot_be_checked() -> None:
    async with transcript(PT113, END, expect=Expect(serial="123")) as (gauge, _):
        with pytest.raises(WrongInstrumentError, match="does not say who it is"):
            await gauge.connect()


@in_virtual_time
async def test_the_pressure_is_the_gross_weight_over_the_piston() -> None:
    async with transcript(PT113, END, name="lc1") as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01B", "01BS+000123.4", delay=0.02)
        reading = await gauge.measure()
    assert reading.source == "lc1"
    assert reading.quantity == "pressure"
    assert reading.value == pytest.approx(123.4 / PISTON)
    assert reading.time == pytest.approx(0.01)
    assert reading.uncertainty == pytest.approx(0.01)
    assert reading.status is Status.OK


@pytest.mark.parametrize(("unit", "newtons"), [("N", 123.4), ("kN", 123.4e3), ("kg", 1210.14061)])
@in_virtual_time
async def test_the_unit_of_the_display_comes_from_the_settings(unit: str, newtons: float) -> None:
    settings = PT113Settings(unit=unit, piston_area=1e-4)  # type: ignore[arg-type]
    async with transcript(PT113, END, settings=settings) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01B", "01BS-000123.4")
        assert (await gauge.measure()).value == pytest.approx(-newtons / 1e-4)


@in_virtual_time
async def test_a_moving_weight_is_a_value_that_is_not_stable() -> None:
    async with transcript(PT113, END) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01B", "01BD+000123.4")
        reading = await gauge.measure()
    assert reading.value == pytest.approx(123.4 / PISTON)
    assert reading.status is Status.UNSTABLE


@pytest.mark.parametrize(
    ("letter", "status"), [("-", Status.UNDERLOAD), ("+", Status.OVERLOAD), ("O", Status.FAULT)]
)
@in_virtual_time
async def test_a_letter_instead_of_a_weight_is_not_a_number(letter: str, status: Status) -> None:
    async with transcript(PT113, END) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01B", f"01B{letter}")
        reading = await gauge.measure()
    assert math.isnan(reading.value)
    assert reading.status is status


@in_virtual_time
async def test_beyond_the_capacity_the_number_is_kept_and_marked() -> None:
    async with transcript(PT113, END, settings=PT113Settings(capacity=100.0)) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01B", "01BS+000123.4")
        reading = await gauge.measure()
    assert reading.value == pytest.approx(123.4 / PISTON)
    assert reading.status is Status.OVERLOAD


@in_virtual_time
async def test_check_sums_of_the_manual_go_both_ways() -> None:
    async with transcript(PT113, END, settings=CHECKED) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01P4F", "01PS+000123.449")
        assert await gauge._ask("P") == "S+000123.4"
        peer.answer("01A5E", "01ZA04")
        with pytest.raises(GarbledReplyError, match="expected 01A and more"):
            await gauge._ask("A")
        peer.answer("01T4B", "01TA0A")
        assert await gauge._ask("T") == "A"


@in_virtual_time
async def test_a_wrong_check_sum_is_garbage() -> None:
    async with transcript(PT113, END, settings=CHECKED) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01P4F", "01PS+000923.449")
        with pytest.raises(GarbledReplyError, match="check sum 41"):
            await gauge._ask("P")


@pytest.mark.parametrize(
    "reply", ["02BS+000123.4", "01AS+000123.4", "01B", "01BS+00123.4", "01BSx000123.4", "01BS+"]
)
@in_virtual_time
async def test_replies_of_another_address_command_or_form_are_garbage(reply: str) -> None:
    async with transcript(PT113, END) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01B", reply)
        with pytest.raises(GarbledReplyError):
            await gauge.measure()


@in_virtual_time
async def test_zero_is_refused_in_net_mode_before_anything_is_written() -> None:
    async with transcript(PT113, END) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01S", "01SSNI")
        with pytest.raises(UnsupportedError, match="Clear the tare first"):
            await gauge.zero()


@in_virtual_time
async def test_zero_waits_longer_than_the_indicator_does() -> None:
    async with transcript(PT113, END) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01S", "01SSGI")
        peer.answer("01Z", "01ZA", delay=2.0)
        await gauge.zero()


@pytest.mark.parametrize(("reply", "text"), [("01TN", "not done"), ("01TX", "disabled")])
@in_virtual_time
async def test_a_tare_that_was_not_done_is_reported(reply: str, text: str) -> None:
    async with transcript(PT113, END) as (gauge, peer):
        await gauge._wire.open()
        peer.answer("01T", reply)
        with pytest.raises(ReportedError, match=text):
            await gauge.tare()


@in_virtual_time
async def test_silence_is_a_time_out_that_names_the_instrument() -> None:
    async with transcript(PT113, END) as (gauge, peer):
        await gauge._wire.open()
        peer.expect("01B")
        with pytest.raises(ReplyTimeoutError, match="pt113 at"):
            await gauge.measure()


@in_virtual_time
async def test_the_safe_state_of_something_without_output_needs_no_link() -> None:
    async with transcript(PT113, END) as (gauge, _):
        await gauge.safe()


def test_the_tare_is_given_to_the_record() -> None:
    settings = PT113Settings(tare=Tare(12.5, "2026-01-05"))
    gauge = PT113(None, None, settings=settings)  # type: ignore[arg-type]
    assert gauge.calibration["tare"] == 12.5


@pytest.mark.parametrize(
    "wrong", [{"address": 0}, {"address": 100}, {"piston_area": 0.0}, {"decimals": 7}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="must be"):
        PT113Settings(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- Modbus RTU


READ_STATUS = frame("01 03 00 02 00 01 25 CA")
READ_GROSS = frame("01 03 00 05 00 03 15 CA")  # CONSTRUCTED: 40006 to 40008
OK_STATUS = frame("01 03 02 00 02 39 85")


@in_virtual_time
async def test_modbus_proves_the_link_with_the_frame_of_the_manual() -> None:
    async with transcript(PT113Modbus, b"") as (gauge, peer):
        peer.answer(READ_STATUS, OK_STATUS)
        await gauge.connect()


@pytest.mark.parametrize(
    ("reply", "order", "newtons", "status"),
    [
        ("01 03 06 00 00 04 D2 00 02", "high-low", 123.4, Status.OK),
        ("01 03 06 04 D2 00 00 00 02", "low-high", 123.4, Status.OK),
        ("01 03 06 FF FF FF C8 00 02", "high-low", -5.6, Status.OK),
        ("01 03 06 00 00 04 D2 00 06", "high-low", 123.4, Status.UNSTABLE),
        ("01 03 06 00 00 04 D2 40 00", "high-low", math.nan, Status.OVERLOAD),
        ("01 03 06 00 00 04 D2 60 00", "high-low", math.nan, Status.UNDERLOAD),
        ("01 03 06 00 00 04 D2 20 00", "high-low", math.nan, Status.FAULT),
        ("01 03 06 00 00 04 D2 00 00", "high-low", math.nan, Status.FAULT),
    ],
)
@in_virtual_time
async def test_modbus_weight_and_status_come_from_one_frame(
    reply: str, order: str, newtons: float, status: Status
) -> None:
    settings = PT113Settings(word_order=order)  # type: ignore[arg-type]
    async with transcript(PT113Modbus, b"", settings=settings) as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_GROSS, sealed(reply))
        reading = await gauge.measure()
    assert reading.status is status
    assert reading.value == pytest.approx(newtons / PISTON, nan_ok=True)


@in_virtual_time
async def test_a_busy_indicator_is_read_again_and_then_given_up() -> None:
    async with transcript(PT113Modbus, b"") as (gauge, peer):
        await gauge._wire.open()
        for _ in range(3):
            peer.answer(READ_GROSS, sealed("01 03 06 00 00 04 D2 00 01"))
        reading = await gauge.measure()
    assert math.isnan(reading.value)
    assert reading.status is Status.UNSTABLE


@in_virtual_time
async def test_zero_over_modbus_is_done_when_the_status_shows_it() -> None:
    async with transcript(PT113Modbus, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(READ_STATUS, OK_STATUS)
        peer.answer(frame("01 10 00 08 00 01 02 00 01 66 D8"), frame("01 10 00 08 00 01 80 0B"))
        peer.answer(READ_STATUS, OK_STATUS)
        peer.answer(READ_STATUS, sealed("01 03 02 10 02"))
        await gauge.zero()


@in_virtual_time
async def test_a_tare_that_the_status_never_shows_is_not_verified() -> None:
    async with transcript(PT113Modbus, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(frame("01 10 00 08 00 01 02 00 02 26 D9"), frame("01 10 00 08 00 01 80 0B"))
        looks = 31  # at 0, 0.1 ... 3.0 s
        for _ in range(looks):
            peer.answer(READ_STATUS, OK_STATUS)
        with pytest.raises(NotVerifiedError, match="does not show net mode after 3 s"):
            await gauge.tare()


@in_virtual_time
async def test_a_modbus_exception_has_its_number_and_meaning() -> None:
    async with transcript(PT113Modbus, b"") as (gauge, peer):
        await gauge._wire.open()
        peer.answer(frame("01 10 00 08 00 01 02 00 02 26 D9"), frame("01 90 03 0C 01"))
        with pytest.raises(ReportedError, match="reports 3: illegal value") as caught:
            await gauge.tare()
    assert caught.value.code == 3


@pytest.mark.parametrize(
    "reply",
    ["01 03 02 00 02 39 86", "02 03 02 00 02 7D 85", "01 03 04 00 00 04 D2 78 AE", "FF 01 FF"],
)
@in_virtual_time
async def test_damaged_and_foreign_frames_are_garbage(reply: str) -> None:
    async with transcript(PT113Modbus, b"") as (gauge, peer):
        peer.answer(READ_STATUS, frame(reply))
        with pytest.raises(GarbledReplyError, match="pt113-modbus at"):
            await gauge.connect()
