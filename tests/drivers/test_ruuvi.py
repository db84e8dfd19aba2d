"""The RuuviTag driver against the test vectors of Ruuvi's specification of data format 5."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers.ruuvi import COMPANY, RuuviSettings, RuuviTag, parse
from operando.instruments.ble import (
    Advertisement,
    Central,
    Characteristic,
    MemoryLink,
    attach_peripheral,
)
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import Clock, run
from operando.instruments.errors import (
    BadInputError,
    GarbledReplyError,
    LinkLostError,
    ReplyTimeoutError,
    WrongInstrumentError,
)
from operando.instruments.humidity import saturation_pressure
from operando.instruments.roles import Expect, GloveboxMonitor, Thermometer
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Switchboard
from wire.transcript import in_virtual_time

MAC = "CB:B8:33:4C:88:4F"
ADDRESS = f"ble:{MAC}"
INTERVAL = 1.285

# The specification's vectors.
VALID = bytes.fromhex("0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
HIGHEST = bytes.fromhex("057FFFFFFEFFFE7FFF7FFF7FFFFFDEFEFFFECBB8334C884F")
LOWEST = bytes.fromhex("058001000000008001800180010000000000CBB8334C884F")
MISSING = bytes.fromhex("058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF")


def numbered(data: bytes, sequence: int) -> bytes:
    """The same measurement under another number."""
    return data[:16] + sequence.to_bytes(2, "big") + data[18:]


class Tag:
    """A tag that broadcasts what a test says, every interval, a millisecond after its start.

    data: manufacturer data by company of each broadcast from the first on; the last is repeated
    under rising numbers as long as `counting`.
    """

    def __init__(self, *data: bytes | Mapping[int, bytes], counting: bool = True) -> None:
        self.data = data
        self.counting = counting
        self.silent = False
        self._last: Advertisement | None = None

    def advertisement(self, now: float) -> Advertisement | None:
        if self.silent:
            return self._last
        number = math.floor((now - 0.001) / INTERVAL)
        if number < 0:
            return None
        sent = self.data[min(number, len(self.data) - 1)]
        if isinstance(sent, bytes):
            sent = {COMPANY: numbered(sent, number) if self.counting else sent}
        self._last = Advertisement(0.001 + number * INTERVAL, -60, sent)
        return self._last

    def next_advertisement(self, now: float) -> float:
        if self.silent:
            return math.inf
        return 0.001 + (1 + math.floor((now - 0.001) / INTERVAL)) * INTERVAL + 1e-9

    def connect(self, central: Central, now: float) -> float:
        raise AssertionError("a tag is never connected to")

    def characteristics(self) -> tuple[Characteristic, ...]:
        raise AssertionError("a tag is never connected to")

    def read(self, handle: int, now: float) -> tuple[bytes, float]:
        raise AssertionError("a tag is never connected to")

    def subscribe(self, handle: int, now: float) -> None:
        raise AssertionError("a tag is never connected to")

    def disconnected(self, central: Central, now: float) -> None:
        raise AssertionError("a tag is never connected to")


def driver(
    tag: Tag,
    *,
    expect: Expect | None = None,
    settings: RuuviSettings | None = None,
    address: str = ADDRESS,
) -> RuuviTag:
    """The driver on a tag in memory."""
    switchboard, clock = Switchboard(), Clock("virtual")
    attach_peripheral(switchboard, address, tag)
    link = MemoryLink(switchboard, address, clock)
    return RuuviTag(
        link, clock, name="tag1", expect=expect or Expect(), settings=settings or RuuviSettings()
    )


def by_name(readings: tuple[AuxReading, ...]) -> dict[str, AuxReading]:
    """Readings by quantity."""
    return {one.quantity: one for one in readings}


def test_the_valid_vector_is_decoded() -> None:
    report = parse(VALID)
    assert report is not None
    assert report.temperature == pytest.approx(297.45)
    assert report.humidity == pytest.approx(0.5349)
    assert report.pressure == 100_044.0
    assert report.acceleration == pytest.approx((0.0392266, -0.0392266, 10.1596894))
    assert report.battery == pytest.approx(2.977)
    assert report.transmission == 4.0
    assert (report.movements, report.sequence, report.address) == (66, 205, MAC)


def test_the_highest_values_are_decoded() -> None:
    report = parse(HIGHEST)
    assert report is not None
    assert report.temperature == pytest.approx(436.985)
    assert report.humidity == pytest.approx(1.63835)
    assert report.pressure == 115_534.0
    assert report.acceleration == pytest.approx((321.3345,) * 3, abs=1e-3)
    assert report.battery == pytest.approx(3.646)
    assert report.transmission == 20.0
    assert (report.movements, report.sequence) == (254, 65534)


def test_the_lowest_values_are_decoded() -> None:
    report = parse(LOWEST)
    assert report is not None
    assert report.temperature == pytest.approx(109.315)
    assert report.humidity == 0.0
    assert report.pressure == 50_000.0
    assert report.acceleration == pytest.approx((-321.3345,) * 3, abs=1e-3)
    assert report.battery == pytest.approx(1.6)
    assert report.transmission == -40.0
    assert (report.movements, report.sequence) == (0, 0)


def test_what_is_missing_is_no_number() -> None:
    report = parse(MISSING)
    assert report is not None
    numbers = (
        report.temperature,
        report.humidity,
        report.pressure,
        *report.acceleration,
        report.battery,
        report.transmission,
    )
    assert all(math.isnan(number) for number in numbers)
    assert (report.movements, report.sequence, report.address) == (None, None, "")


@pytest.mark.parametrize(
    ("raw", "celsius"), [(0x0000, 0.0), (0x01C3, 2.255), (0xFE3D, -2.255), (0x8001, -163.835)]
)
def test_temperatures_of_the_specification_are_decoded(raw: int, celsius: float) -> None:
    report = parse(VALID[:1] + raw.to_bytes(2, "big") + VALID[3:])
    assert report is not None
    assert report.temperature == pytest.approx(273.15 + celsius)


@given(
    st.integers(-0x7FFF, 0x7FFF),
    st.integers(0, 0xFFFE),
    st.integers(0, 0xFFFE),
    st.tuples(*[st.integers(-0x7FFF, 0x7FFF)] * 3),
    st.integers(0, 2046),
    st.integers(0, 30),
    st.integers(0, 254),
    st.integers(0, 0xFFFE),
)
def test_every_value_that_can_be_sent_is_read_back(
    celsius: int,
    humidity: int,
    pressure: int,
    acceleration: tuple[int, int, int],
    volts: int,
    strength: int,
    movements: int,
    sequence: int,
) -> None:
    data = b"\x05" + struct.pack(">hHH3h", celsius, humidity, pressure, *acceleration)
    data += struct.pack(">HBH", volts * 32 + strength, movements, sequence) + VALID[18:]
    report = parse(data)
    assert report is not None
    assert round((report.temperature - 273.15) / 0.005) == celsius
    assert round(report.humidity * 40_000) == humidity
    assert report.pressure == 50_000 + pressure
    assert [round(one / 0.00980665) for one in report.acceleration] == list(acceleration)
    assert round(report.battery * 1000) == 1600 + volts
    assert report.transmission == 2 * strength - 40
    assert (report.movements, report.sequence) == (movements, sequence)


@given(st.binary(max_size=40))
def test_whatever_else_is_broadcast_is_no_report(data: bytes) -> None:
    report = parse(data)
    assert (report is not None) == (len(data) == 24 and data[0] == 5)


@pytest.mark.parametrize("data", [VALID[:-1], VALID + b"\0", b"\x03" + VALID[1:], b"", VALID[:18]])
def test_other_formats_and_lengths_are_refused(data: bytes) -> None:
    assert parse(data) is None


@in_virtual_time
async def test_it_is_identified_by_the_address_in_its_broadcasts() -> None:
    tag = driver(Tag(VALID), expect=Expect(serial=MAC.lower()))
    identity = await tag.connect()
    assert (identity.maker, identity.model, identity.serial) == ("Ruuvi", "RuuviTag", MAC)
    assert await tag.reconnect() == identity
    assert isinstance(tag, Thermometer)
    assert isinstance(tag, GloveboxMonitor)
    assert tag.capabilities.when_host_is_silent is WhenHostIsSilent.NO_OUTPUT
    assert tag.capabilities.fastest_sampling == INTERVAL
    await tag.safe()
    await tag.close()
    await tag.close()


@in_virtual_time
async def test_another_tag_than_expected_is_refused() -> None:
    tag = driver(Tag(VALID), expect=Expect(serial="CB:B8:33:4C:88:50"))
    with pytest.raises(WrongInstrumentError, match=r"88:50, but heard CB:B8:33:4C:88:4F") as error:
        await tag.connect()
    assert error.value.instrument == "ruuvi"


@in_virtual_time
async def test_a_tag_that_hides_its_address_is_not_the_expected_one() -> None:
    tag = driver(Tag(VALID[:18] + b"\xff" * 6), expect=Expect(serial=MAC))
    with pytest.raises(WrongInstrumentError, match="hides its address"):
        await tag.connect()


@in_virtual_time
async def test_a_model_is_not_told_and_cannot_be_expected() -> None:
    with pytest.raises(WrongInstrumentError, match="cannot be checked"):
        await driver(Tag(VALID), expect=Expect(model="RuuviTag Pro")).connect()


@in_virtual_time
async def test_another_tag_after_a_reconnect_is_found() -> None:
    # macOS gives tags numbers of its own: what the tag says about itself is all there is.
    source = Tag(VALID)
    tag = driver(source, address="ble:2A3C7A1E-5B0C-4D43-9C39-0D5D1B9D2E11")
    await tag.connect()
    source.data = (VALID[:-1] + b"\x50",)
    with pytest.raises(WrongInstrumentError, match=r"was the tag .*:4F, now it is .*:50"):
        await tag.reconnect()


@in_virtual_time
async def test_a_broadcast_becomes_readings_with_the_time_at_which_it_was_heard() -> None:
    tag = driver(Tag(VALID))
    await tag.connect()
    readings = by_name(await tag.measure())
    assert set(readings) == set(RuuviTag.INFO.measures)
    for one in readings.values():
        assert one.source == "tag1"
        assert one.status is Status.OK
        assert one.time == pytest.approx(0.001 + INTERVAL)
        assert one.uncertainty == INTERVAL
    assert readings["temperature"].value == pytest.approx(297.45)
    assert readings["relative_humidity"].value == pytest.approx(0.5349)
    # 3039.2 Pa at 24.3 degC (Wagner and Pruss 1993).
    assert readings["h2o"].value == pytest.approx(0.5349 * 3039.2 / 100_044.0, rel=1e-3)
    assert saturation_pressure(readings["dew_point"].value) == pytest.approx(
        readings["h2o"].value * 100_044.0, rel=1e-9
    )
    assert tag.last is not None
    assert tag.last.battery == pytest.approx(2.977)


@in_virtual_time
async def test_each_measurement_is_given_once_and_the_next_one_waited_for() -> None:
    clock = Clock("virtual")
    tag = driver(Tag(VALID))
    await tag.connect()
    times = [(await tag.measure())[0].time for _ in range(3)]
    assert times == pytest.approx([0.001 + count * INTERVAL for count in (1, 2, 3)])
    await clock.sleep(20.0)
    newest = (await tag.measure())[0]
    assert clock.now() - newest.time <= INTERVAL
    assert clock.now() == pytest.approx(times[-1] + 20.0, abs=1e-6), "it was there already"


@in_virtual_time
async def test_a_repeated_measurement_is_no_new_one() -> None:
    tag = driver(Tag(VALID, counting=False), settings=RuuviSettings(timeout=10.0))
    await tag.connect()
    with pytest.raises(ReplyTimeoutError, match=r"within 10 s: it repeats its measurement 205"):
        await tag.measure()


@in_virtual_time
async def test_without_numbers_every_broadcast_is_a_new_measurement() -> None:
    tag = driver(Tag(numbered(VALID, 0xFFFF), counting=False))
    await tag.connect()
    assert (await tag.measure())[0].time < (await tag.measure())[0].time


@in_virtual_time
async def test_a_tag_that_falls_silent_is_reported_within_the_time_out_and_comes_back() -> None:
    clock, source = Clock("virtual"), Tag(VALID)
    tag = driver(source)
    await tag.connect()
    await tag.measure()
    source.silent = True
    start = clock.now()
    with pytest.raises(ReplyTimeoutError, match="nothing was heard") as error:
        await tag.measure()
    assert clock.now() - start == pytest.approx(30.0)
    assert error.value.address == ADDRESS
    source.silent = False
    await tag.reconnect()
    assert by_name(await tag.measure())["temperature"].status is Status.OK


@in_virtual_time
async def test_what_was_heard_before_a_long_silence_is_not_given_as_a_reading() -> None:
    clock, source = Clock("virtual"), Tag(VALID)
    tag = driver(source)
    await tag.connect()
    await clock.sleep(10 * INTERVAL)
    source.advertisement(clock.now())
    source.silent = True
    await clock.sleep(31.0)
    with pytest.raises(ReplyTimeoutError, match="last heard too long ago"):
        await tag.measure()


@in_virtual_time
async def test_broadcasts_without_readings_are_passed_over() -> None:
    tag = driver(Tag({}, VALID, {0x004C: b"\x02\x15"}, VALID))
    await tag.connect()
    assert (await tag.measure())[0].time == pytest.approx(0.001 + 3 * INTERVAL)


@in_virtual_time
async def test_a_device_of_another_kind_is_never_taken_for_a_tag() -> None:
    tag = driver(Tag({0x004C: b"\x02\x15"}), settings=RuuviSettings(timeout=5.0))
    with pytest.raises(ReplyTimeoutError, match="not with Ruuvi's data"):
        await tag.connect()


@pytest.mark.parametrize("data", [b"\x03" + VALID[1:14], VALID[:20], b""])
def test_a_broadcast_in_another_format_says_how_to_change_it(data: bytes) -> None:
    async def scenario() -> None:
        tag = driver(Tag(VALID, {COMPANY: data}))
        await tag.connect()
        with pytest.raises(GarbledReplyError, match=r"expected 24 bytes of format 5 \(RAWv2\)"):
            await tag.measure()

    run(scenario(), virtual=True)


@in_virtual_time
async def test_a_tag_that_claims_another_address_is_not_believed() -> None:
    tag = driver(Tag(VALID, VALID[:-1] + b"\x50"))
    await tag.connect()
    with pytest.raises(WrongInstrumentError, match=r"from CB:.*:4F, but says that it is CB:.*:50"):
        await tag.measure()


@in_virtual_time
async def test_missing_values_are_faults_without_numbers() -> None:
    tag = driver(Tag(MISSING, counting=False))
    await tag.connect()
    readings = await tag.measure()
    assert len(readings) == 4
    assert all(math.isnan(one.value) and one.status is Status.FAULT for one in readings)


@in_virtual_time
async def test_a_missing_pressure_is_replaced_by_that_of_the_settings() -> None:
    data = VALID[:5] + b"\xff\xff" + VALID[7:]
    tag = driver(Tag(data), settings=RuuviSettings(pressure=90_000.0))
    await tag.connect()
    assert by_name(await tag.measure())["h2o"].value == pytest.approx(
        0.5349 * saturation_pressure(297.45) / 90_000.0
    )


@in_virtual_time
async def test_more_than_all_humidity_is_an_overload_with_its_number() -> None:
    data = VALID[:3] + (42_000).to_bytes(2, "big") + VALID[5:]
    tag = driver(Tag(data))
    await tag.connect()
    readings = by_name(await tag.measure())
    assert readings["relative_humidity"].value == pytest.approx(1.05)
    assert readings["relative_humidity"].status is Status.OVERLOAD
    assert readings["h2o"].status is Status.OVERLOAD
    assert readings["temperature"].status is Status.OK


@pytest.mark.parametrize(
    ("data", "wet", "dew"),
    [(LOWEST, Status.UNDERLOAD, Status.UNDERLOAD), (HIGHEST, Status.OVERLOAD, Status.OVERLOAD)],
)
def test_water_is_not_computed_where_the_formulas_end(
    data: bytes, wet: Status, dew: Status
) -> None:
    async def scenario() -> None:
        tag = driver(Tag(data))
        await tag.connect()
        readings = by_name(await tag.measure())
        assert (readings["h2o"].status, readings["dew_point"].status) == (wet, dew)
        assert math.isnan(readings["h2o"].value)

    run(scenario(), virtual=True)


@in_virtual_time
async def test_its_temperature_may_be_that_of_the_chamber() -> None:
    tag = driver(Tag(VALID), settings=RuuviSettings(temperature_of="chamber"))
    await tag.connect()
    readings = by_name(await tag.measure())
    assert readings["chamber_temperature"].value == pytest.approx(297.45)
    assert "temperature" not in readings


@in_virtual_time
async def test_a_tag_that_is_not_listened_to_gives_nothing() -> None:
    tag = driver(Tag(VALID))
    with pytest.raises(LinkLostError, match="nobody listens"):
        await tag.measure()


@given(
    st.binary(max_size=30)
    | st.binary(min_size=17, max_size=17).map(lambda middle: b"\x05" + middle + VALID[18:])
)
def test_mutated_broadcasts_give_readings_or_an_error_of_ours(data: bytes) -> None:
    async def scenario() -> None:
        tag = driver(Tag(VALID, {COMPANY: data}))
        await tag.connect()
        if len(data) != 24 or data[0] != 5 or data[18:] not in (VALID[18:], b"\xff" * 6):
            with pytest.raises(GarbledReplyError):
                await tag.measure()
            return
        if data[16:18] == bytes(2):  # the number of the broadcast that connecting heard
            return
        readings = await tag.measure()
        assert len(readings) == 4
        for one in readings:
            assert math.isfinite(one.value) or one.status is not Status.OK

    run(scenario(), virtual=True)


@pytest.mark.parametrize("wrong", [{"timeout": 0.0}, {"interval": -1.0}, {"pressure": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInputError):
        RuuviSettings(**wrong)  # type: ignore[arg-type]
