"""The Rapidox 1100 driver, byte by byte against the examples of its manuals."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operando.drivers.rapidox import NOT_READY, Rapidox1100, RapidoxSettings, parse
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.errors import (
    BadInputError,
    GarbledReplyError,
    LinkLostError,
    ReplyTimeoutError,
    WrongInstrumentError,
)
from operando.instruments.roles import Expect, GloveboxMonitor
from operando.instruments.samples import AuxReading, Status
from wire.transcript import in_virtual_time, transcript

END = b"\r\n"
ASK = b"D"

PLAIN = "d2.959E+05,1.426E+01,2.000E-03,23:19:40,14/01/00,ALM1&2,0"  # 1100E manual v3.8 p. 15
ZIRCONIA = (  # 1100ZR-H-PFC-E manual v1.2 p. 18
    "d2.959E+05,-1.426E+01,2.000E+00,,23:19:40,14/01/00,,,ALM1&2,0"
)
CLEAN = "d8.000E-01,1.550E+02,2.000E-03,10:15:00,01/02/26,,0"  # constructed


async def reading_of(reply: str, **settings: object) -> AuxReading:
    """What the driver makes of one reply."""
    async with transcript(Rapidox1100, END, **settings) as (analyser, peer):  # type: ignore[arg-type]
        await analyser._wire.open()
        peer.answer(ASK, reply.encode() + END, delay=0.2)
        (reading,) = await analyser.measure()
    return reading


@pytest.mark.parametrize(
    ("reply", "fraction"), [(PLAIN, 0.2959), (ZIRCONIA, 0.2959), (CLEAN, 0.8e-6)]
)
@in_virtual_time
async def test_the_examples_of_both_manuals_are_read(reply: str, fraction: float) -> None:
    reading = await reading_of(reply, name="o2-1")
    assert (reading.source, reading.quantity) == ("o2-1", "o2")
    assert reading.value == pytest.approx(fraction, rel=1e-12)
    assert reading.status is Status.OK
    assert reading.time == pytest.approx(0.1)
    assert reading.uncertainty == pytest.approx(0.1)


@pytest.mark.parametrize("message", sorted(NOT_READY))
@in_virtual_time
async def test_a_message_instead_of_a_reading_is_not_a_number(message: str) -> None:
    reading = await reading_of(f"!{message}")
    assert math.isnan(reading.value)
    assert reading.status is (Status.FAULT if "fault" in message else Status.UNSTABLE)


@pytest.mark.parametrize(
    ("state", "status", "value"),
    [
        (0, Status.OK, 0.2959),
        (1, Status.OVERLOAD, 0.2959),
        (2, Status.UNDERLOAD, 0.2959),
        (3, Status.FAULT, math.nan),
        (4, Status.FAULT, math.nan),
        (5, Status.FAULT, math.nan),
        (6, Status.FAULT, math.nan),
    ],
)
@in_virtual_time
async def test_each_state_of_the_zirconia_model_has_its_status(
    state: int, status: Status, value: float
) -> None:
    reading = await reading_of(f"{ZIRCONIA[:-1]}{state}")
    assert reading.status is status
    assert reading.value == pytest.approx(value, nan_ok=True)


@in_virtual_time
async def test_any_fault_code_of_the_1100e_makes_its_reading_worthless() -> None:
    reading = await reading_of(f"{PLAIN[:-1]}1")
    assert reading.status is Status.FAULT
    assert math.isnan(reading.value)


@in_virtual_time
async def test_a_reading_below_nothing_is_under_its_range() -> None:
    reading = await reading_of(CLEAN.replace("d8.", "d-8."))
    assert reading.status is Status.UNDERLOAD
    assert reading.value == pytest.approx(-0.8e-6)


@pytest.mark.parametrize(
    ("words", "alarms"),
    [
        ("", set()),
        ("ALM1", {1}),
        ("ALM2", {2}),
        ("ALM1&2", {1, 2}),
        ("ALM1 & ALM2", {1, 2}),
        ("none", set()),
    ],
)
@in_virtual_time
async def test_its_alarms_are_the_digits_in_whatever_words_it_has(
    words: str, alarms: set[int]
) -> None:
    async with transcript(Rapidox1100, END) as (analyser, peer):
        await analyser._wire.open()
        assert analyser.condition == ""
        peer.answer(ASK, PLAIN.replace("ALM1&2", words).encode() + END)
        await analyser.measure()
        assert analyser.alarms == frozenset(alarms)
        assert analyser.condition == "OK"
        peer.answer(ASK, b"!Sensor heating\r\n")
        await analyser.measure()
        assert not analyser.alarms
        assert analyser.condition == "Sensor heating"


@pytest.mark.parametrize("reply", [PLAIN, "!Initialising", "!No sensor or sensor fault"])
@in_virtual_time
async def test_any_known_reply_proves_the_link_and_claims_no_identity(reply: str) -> None:
    async with transcript(Rapidox1100, END) as (analyser, peer):
        peer.answer(ASK, reply.encode() + END)
        identity = await analyser.connect()
        peer.answer(ASK, reply.encode() + END)
        assert await analyser.reconnect() == identity
        assert peer.connections == 2
    assert (identity.model, identity.serial) == ("", "")
    assert isinstance(analyser, GloveboxMonitor)
    assert analyser.capabilities.when_host_is_silent is WhenHostIsSilent.NO_OUTPUT


@in_virtual_time
async def test_an_expected_serial_number_is_refused_since_it_cannot_be_checked() -> None:
    async with transcript(Rapidox1100, END, expect=Expect(serial="123")) as (analyser, _):
        with pytest.raises(WrongInstrumentError, match="does not say who it is"):
            await analyser.connect()


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "d",
        "!",
        "!sensor heating",
        "!Sensor heating ",
        PLAIN[1:],
        PLAIN[:-1],
        PLAIN[:-2],
        PLAIN + "0",
        PLAIN[:-1] + "7",
        PLAIN.replace("2.959", "2.95"),
        PLAIN.replace("2.959", "12.959"),
        PLAIN.replace("E+05", "E+06"),
        PLAIN.replace("E+05", "E5"),
        PLAIN.replace("d2.959E+05", "dNAN"),
        PLAIN.replace("23:19:40", "23:19"),
        PLAIN.replace("14/01/00,", ""),
        PLAIN.replace("ALM1&2", "ALM3"),
        ZIRCONIA.replace(",,,", ",,"),
        "\xff" + PLAIN[1:],
    ],
)
@in_virtual_time
async def test_a_reply_that_the_manuals_do_not_allow_is_garbage(reply: str) -> None:
    async with transcript(Rapidox1100, END) as (analyser, peer):
        await analyser._wire.open()
        peer.answer(ASK, reply.encode("latin-1") + END)
        with pytest.raises(GarbledReplyError, match="rapidox-1100 at") as caught:
            await analyser.measure()
    assert "baud" in str(caught.value)


@in_virtual_time
async def test_silence_is_a_time_out_that_names_the_instrument_after_the_time_set() -> None:
    settings = RapidoxSettings(timeout=3.0)
    async with transcript(Rapidox1100, END, settings=settings) as (analyser, peer):
        await analyser._wire.open()
        peer.answer(ASK, CLEAN.encode() + END, delay=2.9)
        await analyser.measure()
        start = analyser._clock.now()
        peer.expect(ASK)
        with pytest.raises(ReplyTimeoutError, match="rapidox-1100 at"):
            await analyser.measure()
        assert analyser._clock.now() - start == pytest.approx(3.0)


@in_virtual_time
async def test_the_safe_state_of_something_without_output_needs_no_link() -> None:
    async with transcript(Rapidox1100, END) as (analyser, _):
        await analyser.safe()
        with pytest.raises(LinkLostError, match="rapidox-1100 at"):
            await analyser.measure()
        await analyser.close()
        await analyser.close()


@pytest.mark.parametrize("timeout", [0.0, -1.0, math.inf, math.nan])
def test_a_time_out_that_cannot_be_is_refused(timeout: float) -> None:
    with pytest.raises(BadInputError, match="must be positive"):
        RapidoxSettings(timeout=timeout)


@given(st.binary(max_size=80))
@example(PLAIN.encode())
def test_noise_is_refused_or_says_what_it_says(noise: bytes) -> None:
    report = parse(noise)
    if report is not None and not math.isnan(report.oxygen):
        assert report.oxygen == pytest.approx(float(noise[1 : noise.index(b",")]) * 1e-6)


@given(
    st.sampled_from([PLAIN, ZIRCONIA, CLEAN, "!Sensor heating"]),
    st.integers(0, 100),
    st.sampled_from(["drop", "double", "change"]),
    st.integers(1, 255),
)
def test_a_lost_doubled_or_changed_byte_never_makes_a_number_out_of_nothing(
    text: str, place: int, kind: str, change: int
) -> None:
    data = bytearray(text.encode())
    place %= len(data)
    if kind == "drop":
        del data[place]
    elif kind == "double":
        data.insert(place, data[place])
    else:
        data[place] ^= change
    report = parse(bytes(data))
    if report is None or math.isnan(report.oxygen):
        return
    # There is no check sum: a digit that became another cannot be told, all else is.
    before, after = (part.partition(",")[0] for part in (text, data.decode("ascii")))
    assert len(before) == len(after) or after.replace("-", "") == before
    assert report.oxygen == pytest.approx(float(after[1:]) * 1e-6)
    assert report.oxygen <= 1.0


@given(
    st.floats(1e-2, 9.99e5),
    st.booleans(),
    st.sampled_from(["", "ALM1", "ALM2", "ALM1&2"]),
    st.integers(0, 6),
)
def test_every_reading_of_the_documented_form_is_understood(
    ppm: float, zirconia: bool, alarms: str, state: int
) -> None:
    gap, tail = (",", ",,") if zirconia else ("", "")
    number = f"{ppm:.3E}"
    line = f"d{number},-1.426E+01,2.000E+00,{gap}23:59:59,31/12/26,{tail}{alarms},{state}"
    report = parse(line.encode())
    assert report is not None
    assert report.alarms == {int(digit) for digit in alarms if digit.isdigit()}
    if state == 0:
        assert report.oxygen == pytest.approx(float(number) * 1e-6)
    else:
        assert report.status is not Status.OK
