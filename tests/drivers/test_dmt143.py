"""The DMT143 driver, byte by byte against the examples of its user guide."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from operando.drivers.dmt143 import (
    AGREEMENT,
    DMT143,
    DMT143Settings,
    answer,
    checksum,
    contradiction,
    parse,
)
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import run
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    ReplyTimeoutError,
    WrongInstrumentError,
)
from operando.instruments.humidity import ATMOSPHERE, dew_point_at, saturation_pressure, water_ratio
from operando.instruments.roles import Expect, GloveboxMonitor
from operando.instruments.samples import AuxReading, Status
from wire.transcript import Transcript, in_virtual_time, transcript

ZERO = 273.15
"""K, 0 degC."""

# M211435EN, chapter 7.
METRIC = "Tdf= -9.80 'C Tdfatm= -9.80 'C H2O= 2618 ppm"
NON_METRIC = "Tdf= 16.71 'F Tdfatm= -6.19 'F H2O= 907 ppm"
SUMMED = "Tdf= -9.74'C H2O=  2632 ppm  C4"  # with the blanks that its own format and sum ask for
MISSING = "Tdf=****** 'C H2O=****** ppm"
# Constructed: a glovebox.
DRY = "Tdf= -76.17 'C Tdfatm= -76.17 'C H2O= 1 ppm"

COMPRESSED = (
    saturation_pressure((16.71 + 459.67) / 1.8) / saturation_pressure((-6.19 + 459.67) / 1.8)
) * ATMOSPHERE
"""Pa, at which the guide's transmitter measured its non-metric example: 3.3 bar."""

STOPPED = DMT143Settings(mode="stop")


async def readings_of(line: str, settings: DMT143Settings = STOPPED) -> list[AuxReading]:
    """What the driver makes of one line."""
    async with transcript(DMT143, b"\r", name="h2o-1", settings=settings) as (sensor, peer):
        await sensor._wire.open()
        peer.answer("SEND", line.encode("latin-1") + b"\r\n", delay=0.05)
        return list(await sensor.measure())


def identify(peer: Transcript, reply: bytes = b"Serial number  : F1234567\r\n") -> None:
    """Expect the opening of the line, the question for the serial number, the closing."""
    peer.answer("OPEN 7", b"OPEN 7\rDMT143: 7 line opened for operator commands\r\n>", delay=0.02)
    peer.answer("SNUM", b"SNUM\r" + reply + b">", delay=0.02)
    peer.answer("CLOSE", b"CLOSE\rline closed\r\n", delay=0.02)


POLLED = DMT143Settings(address=7)


@in_virtual_time
async def test_the_serial_number_is_read_through_a_line_that_is_closed_again() -> None:
    expect = Expect(serial="F1234567", model="DMT143")
    async with transcript(DMT143, b"\r", expect=expect, settings=POLLED) as (sensor, peer):
        identify(peer)
        identity = await sensor.connect()
        identify(peer)
        assert await sensor.reconnect() == identity
        assert peer.connections == 2
    assert (identity.maker, identity.model, identity.serial) == ("Vaisala", "DMT143", "F1234567")
    assert isinstance(sensor, GloveboxMonitor)
    assert sensor.capabilities.when_host_is_silent is WhenHostIsSilent.NO_OUTPUT


@pytest.mark.parametrize(
    ("reply", "serial"),
    [
        (b"F1234567\r\n", "F1234567"),
        (b"Serial number : 04096331\r\n", "04096331"),
        (b"\r\nSNUM: F1234567 \r\n", "F1234567"),
    ],
)
@in_virtual_time
async def test_the_serial_number_is_found_with_any_label_or_none(reply: bytes, serial: str) -> None:
    async with transcript(DMT143, b"\r", settings=POLLED) as (sensor, peer):
        identify(peer, reply)
        assert (await sensor.connect()).serial == serial


@in_virtual_time
async def test_in_stop_mode_no_line_is_opened_since_closing_it_would_change_the_mode() -> None:
    async with transcript(DMT143, b"\r", settings=STOPPED) as (sensor, peer):
        peer.answer("SNUM", b"Serial number  : F1234567\r\n>")
        assert (await sensor.connect()).serial == "F1234567"


@in_virtual_time
async def test_another_serial_number_is_refused() -> None:
    expect = Expect(serial="F7654321")
    async with transcript(DMT143, b"\r", expect=expect, settings=POLLED) as (sensor, peer):
        identify(peer)
        with pytest.raises(WrongInstrumentError, match="number F7654321, but F1234567 answers"):
            await sensor.connect()


@pytest.mark.parametrize("expect", [Expect(firmware="1.0.3"), Expect(model="DMT152")])
@in_virtual_time
async def test_what_is_not_read_cannot_be_expected(expect: Expect) -> None:
    async with transcript(DMT143, b"\r", expect=expect, settings=POLLED) as (sensor, peer):
        identify(peer)
        with pytest.raises(WrongInstrumentError, match="cannot be checked"):
            await sensor.connect()


@in_virtual_time
async def test_a_line_that_was_opened_is_closed_when_the_serial_number_is_garbage() -> None:
    async with transcript(DMT143, b"\r", settings=POLLED) as (sensor, peer):
        identify(peer, b"Unknown command.\r\n")
        with pytest.raises(GarbledReplyError, match="expected a serial number"):
            await sensor.connect()


@in_virtual_time
async def test_a_transmitter_that_says_nothing_when_opened_is_still_asked() -> None:
    async with transcript(DMT143, b"\r", settings=POLLED) as (sensor, peer):
        peer.expect("OPEN 7")
        peer.answer("SNUM", b"Serial number  : F1234567\r\n")
        peer.expect("CLOSE")
        assert (await sensor.connect()).serial == "F1234567"


@in_virtual_time
async def test_what_is_said_late_about_the_opened_line_is_not_the_serial_number() -> None:
    async with transcript(DMT143, b"\r", settings=POLLED) as (sensor, peer):
        peer.answer("OPEN 7", b"DMT143: 7 line opened for operator commands\r\n>", delay=0.4)
        peer.answer("SNUM", b"Serial number  : F1234567\r\n>", delay=0.2)
        peer.answer("CLOSE", b"line closed\r\n", delay=0.4)
        assert (await sensor.connect()).serial == "F1234567"
        peer.answer("SEND 7", METRIC.encode() + b"\r\n", delay=0.2)
        point, _ = await sensor.measure()
    assert point.value == pytest.approx(ZERO - 9.80)


@in_virtual_time
async def test_in_poll_mode_the_transmitter_is_asked_by_its_address() -> None:
    async with transcript(DMT143, b"\r", settings=POLLED) as (sensor, peer):
        await sensor._wire.open()
        peer.answer("SEND 7", METRIC.encode() + b"\r\n")
        point, _ = await sensor.measure()
    assert point.value == pytest.approx(ZERO - 9.80)


@pytest.mark.parametrize(
    ("line", "pressure", "celsius", "ppm"),
    [
        (METRIC, ATMOSPHERE, -9.80, 2617.8),
        (NON_METRIC, COMPRESSED, (16.71 - 32.0) / 1.8, 907.1),
        (DRY, ATMOSPHERE, -76.17, 1.0),
        ("Tdf= -9.74'C H2O= 2632 ppm", ATMOSPHERE, -9.74, 2631.8),
        ("Tdf= -9.72'C H20= 2636 ppm", ATMOSPHERE, -9.72, 2636.5),
        ("Tdf=-9.80'C", ATMOSPHERE, -9.80, 2617.8),
        ("Tdf= -9.80 'C H2O= 2618 ppm RH= 10.2 %", ATMOSPHERE, -9.80, 2617.8),
    ],
)
@in_virtual_time
async def test_the_examples_of_the_guide_are_read(
    line: str, pressure: float, celsius: float, ppm: float
) -> None:
    point, water = await readings_of(line, DMT143Settings(mode="stop", pressure=pressure))
    assert (point.source, point.quantity) == ("h2o-1", "dew_point")
    assert (water.source, water.quantity) == ("h2o-1", "h2o")
    assert point.value == pytest.approx(celsius + ZERO, abs=1e-6)
    # The document counts against dry gas, the record by mole fraction.
    assert water.value / (1.0 - water.value) * 1e6 == pytest.approx(ppm, rel=1e-3)
    assert {point.status, water.status} == {Status.OK}
    assert point[2:4] == water[2:4]
    assert point.time == pytest.approx(0.025)
    assert point.uncertainty == pytest.approx(0.025)


def test_the_guide_measured_its_non_metric_example_in_compressed_air() -> None:
    assert COMPRESSED == pytest.approx(3.3e5, rel=0.01)


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (MISSING, [Status.FAULT, Status.FAULT]),
        ("Tdf=****** 'C Tdfatm= -9.80 'C H2O= 2618 ppm", [Status.FAULT, Status.OK]),
        ("Tdf=****** 'C H2O= 2618 ppm", [Status.FAULT, Status.OK]),
        ("Tdf= -9.80 'C Tdfatm=****** 'C H2O=****** ppm", [Status.OK, Status.OK]),
    ],
)
@in_virtual_time
async def test_asterisks_are_a_fault_of_that_quantity(line: str, statuses: list[Status]) -> None:
    readings = await readings_of(line)
    assert [reading.status for reading in readings] == statuses
    for reading in readings:
        assert math.isnan(reading.value) == (reading.status is Status.FAULT)
    if statuses[1] is Status.OK:
        assert readings[1].value == pytest.approx(2611e-6, rel=1e-3)


@pytest.mark.parametrize(
    "stream",
    [
        f"SEND\r{METRIC}\r\n>",
        f"SEND\r\n{METRIC}\r\n>",
        f"send\r{METRIC}\r\n",
        f">SEND\r\n\r\n{METRIC}\r\n",
        f"\n> {METRIC} \r",
    ],
)
@in_virtual_time
async def test_echo_prompt_and_blank_lines_are_read_past(stream: str) -> None:
    async with transcript(DMT143, b"\r", settings=STOPPED) as (sensor, peer):
        await sensor._wire.open()
        peer.answer("SEND", stream.encode())
        point, _ = await sensor.measure()
    assert point.value == pytest.approx(ZERO - 9.80)


@in_virtual_time
async def test_an_echo_alone_is_no_answer() -> None:
    async with transcript(DMT143, b"\r", settings=STOPPED) as (sensor, peer):
        await sensor._wire.open()
        peer.answer("SEND", b"SEND\r\n>")
        with pytest.raises(ReplyTimeoutError, match="dmt143 at"):
            await sensor.measure()


@pytest.mark.parametrize(
    "line",
    [
        "Unknown command.",
        METRIC[1:],
        METRIC[:-1],
        METRIC + "\xb5",
        METRIC.replace("-9.80", "-9,80", 1),
        METRIC.replace("Tdfatm", "Tdf"),
        METRIC.replace("ppm", "'C"),
        METRIC.replace("'C", "%", 1),
        METRIC.replace("'C", "K", 1),
        "H2O= 2618 ppm",
        "Tdfatm= -9.80 'C H2O= 2618 ppm",
    ],
)
@in_virtual_time
async def test_lines_of_another_form_are_garbage(line: str) -> None:
    with pytest.raises(GarbledReplyError, match=r"dmt143 at .*FORM /"):
        await readings_of(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (METRIC.replace("Tdf= -9.80", "Tdf= -8.80"), "2852 ppm from Tdf, 2611 ppm from Tdfatm"),
        (METRIC.replace("2618", "3618"), "3618 ppm as H2O"),
        (METRIC.replace("Tdf= -9.80", "Tdf= -99.80"), "ppm from Tdfatm"),
        ("Tdf= -109.80 'C", "a dew point of -109.80 degC"),
        ("Tdf= 110.00 'C", r"a dew point of 110.00 degC"),
        ("Tdf= 100.00 'C", r"at 101325 Pa"),
        (NON_METRIC, r"settings\.pressure"),
        (DRY.replace("H2O= 1 ", "H2O= 3 "), "3 ppm as H2O"),
    ],
)
@in_virtual_time
async def test_numbers_that_contradict_each_other_are_garbage(line: str, words: str) -> None:
    with pytest.raises(GarbledReplyError, match=words):
        await readings_of(line)


def test_the_sums_of_the_two_lines_of_the_guide_differ_as_their_texts_do() -> None:
    first, second = SUMMED[:-2], SUMMED[:-2].replace("-9.74", "-9.72").replace("2632", "2636")
    assert (checksum(first.encode(), "CS2"), checksum(second.encode(), "CS2")) == (b"C4", b"C6")


@pytest.mark.parametrize(
    ("text", "kind", "digits"),
    [(b"", "CS2", b"00"), (b"\xff" * 300, "CS4", b"2AD4"), (b"$A", "CSX", b"65")],
)
def test_check_sums_are_sums_or_exclusive_ors_in_hexadecimal(
    text: bytes, kind: str, digits: bytes
) -> None:
    assert checksum(text, kind) == digits  # type: ignore[arg-type]


@in_virtual_time
async def test_a_check_sum_at_the_end_of_the_format_is_checked() -> None:
    settings = DMT143Settings(mode="stop", checksum="CS2")
    point, _ = await readings_of(SUMMED, settings)
    assert point.value == pytest.approx(ZERO - 9.74)
    with pytest.raises(GarbledReplyError, match="C5 as CS2"):
        await readings_of(SUMMED.replace("-9.74", "-9.75"), settings)
    with pytest.raises(GarbledReplyError, match="as CS2"):
        await readings_of(METRIC, settings)


@in_virtual_time
async def test_silence_is_a_time_out_that_names_the_instrument() -> None:
    async with transcript(DMT143, b"\r", settings=STOPPED) as (sensor, peer):
        await sensor._wire.open()
        start = sensor._clock.now()
        peer.expect("SEND")
        with pytest.raises(ReplyTimeoutError, match="dmt143 at"):
            await sensor.measure()
        assert sensor._clock.now() - start == pytest.approx(1.0)


@in_virtual_time
async def test_the_safe_state_of_something_without_output_needs_no_link() -> None:
    async with transcript(DMT143, b"\r") as (sensor, _):
        await sensor.safe()
        await sensor.close()
        await sensor.close()


@pytest.mark.parametrize(
    "wrong", [{"address": -1}, {"address": 256}, {"pressure": 0.0}, {"pressure": math.nan}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="must be"):
        DMT143Settings(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- any line


celsius = st.integers(-9999, 2000).map(lambda hundredths: hundredths / 100.0)
pressures = st.floats(5e4, 3e5)


@given(celsius, pressures)
def test_every_line_in_the_default_format_is_understood(point: float, pressure: float) -> None:
    try:
        atmospheric = dew_point_at(point + ZERO, pressure, ATMOSPHERE) - ZERO
    except BadInputError:
        assume(False)
    ppm = 1e6 * water_ratio(atmospheric + ZERO)
    found = parse(f"Tdf= {point:.2f} 'C Tdfatm= {atmospheric:.2f} 'C H2O= {ppm:.0f} ppm")
    assert found is not None
    assert found.dew_point == pytest.approx(point + ZERO)
    assert found.atmospheric == pytest.approx(atmospheric + ZERO, abs=0.0051)
    if atmospheric > -99.9:
        assert contradiction(found, pressure) == ""


@given(
    st.sampled_from([METRIC, DRY]),
    st.integers(0, 100),
    st.sampled_from(["drop", "double", "change"]),
    st.integers(1, 255),
)
def test_a_lost_doubled_or_changed_byte_never_moves_the_water_content(
    line: str, place: int, kind: str, change: int
) -> None:
    data = bytearray(line.encode())
    place %= len(data)
    if kind == "drop":
        del data[place]
    elif kind == "double":
        data.insert(place, data[place])
    else:
        data[place] ^= change

    async def scenario() -> None:
        async with transcript(DMT143, b"\r", settings=STOPPED) as (sensor, peer):
            await sensor._wire.open()
            peer.answer("SEND", bytes(data) + b"\r\n")
            try:
                point, water = await sensor.measure()
            except CommunicationError:
                return
        right = -9.80 if line == METRIC else -76.17
        assert point.status is Status.FAULT or point.value == pytest.approx(right + ZERO, abs=0.7)
        fraction = saturation_pressure(right + ZERO) / ATMOSPHERE
        assert water.value == pytest.approx(fraction, rel=1.1 * AGREEMENT)

    run(scenario(), virtual=True)


@given(st.binary(max_size=60))
def test_noise_is_refused_with_our_own_errors(noise: bytes) -> None:
    async def scenario() -> None:
        async with transcript(DMT143, b"\r", settings=STOPPED) as (sensor, peer):
            await sensor._wire.open()
            peer.answer("SEND", noise)
            with pytest.raises(CommunicationError):
                await sensor.measure()

    run(scenario(), virtual=True)


@given(st.text("SENDTdf=-9.80'C >\r\n", max_size=40))
def test_a_line_is_complete_exactly_when_its_last_byte_has_come(text: str) -> None:
    data = text.encode()
    found = answer(data, b"SEND")
    if found is None:
        return
    line, end = found
    assert data[end - 1 : end] in (b"\r", b"\n")
    assert all(answer(data[:size], b"SEND") is None for size in range(end))
    assert answer(data[:end] + b"more", b"SEND") == found
    assert line.strip()
