"""The Environmental Sensing driver against the formats of the GATT Specification Supplement."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers import ess
from operando.drivers.ess import EnvironmentalSensor, ESSSettings
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
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.humidity import ATMOSPHERE, saturation_pressure
from operando.instruments.roles import Expect, GloveboxMonitor, Thermometer
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Switchboard
from wire.transcript import in_virtual_time

ADDRESS = "ble:C4:7C:8D:6A:11:02"
BASE = "-0000-1000-8000-00805f9b34fb"

WARM, MOIST, AIR = bytes.fromhex("C4 09"), bytes.fromhex("C3 14"), bytes.fromhex("02 76 0F 00")
"""25.00 degC; 53.15 % and 101325.0 Pa, the vectors of the Supplement's formats."""

IDENTITY = {
    (0x180A, 0x2A29): b"Nordic",
    (0x180A, 0x2A24): b"Thingy\0",
    (0x180A, 0x2A25): b"A17-0042",
    (0x180A, 0x2A26): "2.2.0 β".encode(),
}
AMBIENT = {(0x181A, 0x2A6E): WARM, (0x181A, 0x2A6F): MOIST, (0x181A, 0x2A6D): AIR}


class Sensor:
    """A sensor with values by service and characteristic; handles count from 10 in their order.

    delay: s from request to answer. errors: ATT error by handle. again: characteristics that
    follow, of a kind that there may be already.
    """

    def __init__(
        self,
        values: Mapping[tuple[int, int], bytes],
        again: tuple[tuple[tuple[int, int], bytes], ...] = (),
        delay: float = 0.02,
    ) -> None:
        self.table = list(values.items()) + list(again)
        self.delay = delay
        self.errors: dict[int, int] = {}
        self.central: Central | None = None
        self.read_handles: list[int] = []
        self.subscribed: list[int] = []
        self.connections = 0

    def set(self, short: int, data: bytes) -> None:
        """Change a value."""
        self.table = [(key, data if key[1] == short else old) for key, old in self.table]

    def handle(self, short: int) -> int:
        """Of the first characteristic of this kind."""
        return next(10 + place for place, (key, _) in enumerate(self.table) if key[1] == short)

    def advertisement(self, now: float) -> Advertisement | None:
        return None

    def next_advertisement(self, now: float) -> float:
        return math.inf

    def connect(self, central: Central, now: float) -> float:
        self.central = central
        self.connections += 1
        return now + self.delay

    def characteristics(self) -> tuple[Characteristic, ...]:
        found = [
            Characteristic(
                10 + place,
                f"{kind:08x}{BASE}",
                f"{service:08x}{BASE}",
                frozenset({"read", "notify"} if service == 0x181A else {"read"}),
            )
            for place, ((service, kind), _) in enumerate(self.table)
        ]
        return tuple(reversed(found))

    def read(self, handle: int, now: float) -> tuple[bytes, float]:
        self.read_handles.append(handle)
        if handle in self.errors:
            raise ReportedError(self.errors[handle], "Unlikely Error")
        return self.table[handle - 10][1], now + self.delay

    def subscribe(self, handle: int, now: float) -> None:
        self.subscribed.append(handle)

    def disconnected(self, central: Central, now: float) -> None:
        self.central = None


def driver(
    sensor: Sensor, *, expect: Expect | None = None, settings: ESSSettings | None = None
) -> EnvironmentalSensor:
    """The driver on a sensor in memory."""
    switchboard, clock = Switchboard(), Clock("virtual")
    attach_peripheral(switchboard, ADDRESS, sensor)
    link = MemoryLink(switchboard, ADDRESS, clock)
    return EnvironmentalSensor(
        link, clock, name="room", expect=expect or Expect(), settings=settings or ESSSettings()
    )


def by_name(readings: tuple[AuxReading, ...]) -> dict[str, AuxReading]:
    """Readings by quantity."""
    return {one.quantity: one for one in readings}


@pytest.mark.parametrize(
    ("data", "kelvins"),
    [
        ("2E FB", 260.81),  # -12.34 degC
        ("C4 09", 298.15),
        ("4D 95", 0.0),  # -273.15 degC, the coldest that is allowed
        ("FF 7F", 600.82),
    ],
)
def test_temperatures_are_decoded(data: str, kelvins: float) -> None:
    assert ess.temperature(bytes.fromhex(data)) == pytest.approx(kelvins)


@pytest.mark.parametrize(("data", "fraction"), [("C3 14", 0.5315), ("00 00", 0.0), ("10 27", 1.0)])
def test_humidities_are_decoded(data: str, fraction: float) -> None:
    assert ess.humidity(bytes.fromhex(data)) == pytest.approx(fraction)


@pytest.mark.parametrize(("data", "pascals"), [("02 76 0F 00", 101_325.0), ("00 00 00 00", 0.0)])
def test_pressures_are_decoded(data: str, pascals: float) -> None:
    assert ess.pressure(bytes.fromhex(data)) == pytest.approx(pascals)


def test_values_that_are_not_known_are_no_numbers() -> None:
    unknown_temperature = ess.temperature(bytes.fromhex("00 80"))
    unknown_humidity = ess.humidity(bytes.fromhex("FF FF"))
    assert unknown_temperature is not None
    assert unknown_humidity is not None
    assert math.isnan(unknown_temperature)
    assert math.isnan(unknown_humidity)


def test_prohibited_values_are_refused() -> None:
    assert ess.temperature(bytes.fromhex("4C 95")) is None  # -273.16 degC
    assert ess.temperature(bytes.fromhex("01 80")) is None
    assert ess.humidity(bytes.fromhex("11 27")) is None  # 100.01 %
    assert ess.humidity(bytes.fromhex("FE FF")) is None


@given(st.binary(max_size=6))
def test_any_bytes_are_a_value_of_their_format_or_refused(data: bytes) -> None:
    raw = int.from_bytes(data, "little")
    signed = raw - 0x10000 if raw >= 0x8000 else raw
    kelvins, fraction, pascals = ess.temperature(data), ess.humidity(data), ess.pressure(data)
    if len(data) != 2:
        assert kelvins is None
        assert fraction is None
    else:
        if signed == -0x8000 or signed < -27_315:
            assert kelvins is None or math.isnan(kelvins)
        else:
            assert kelvins == pytest.approx(273.15 + 0.01 * signed)
        if raw > 10_000:
            assert fraction is None or (raw == 0xFFFF and math.isnan(fraction))
        else:
            assert fraction == pytest.approx(1e-4 * raw)
    assert pascals == (pytest.approx(0.1 * raw) if len(data) == 4 else None)


@in_virtual_time
async def test_the_device_information_is_its_identity() -> None:
    sensor = Sensor({**IDENTITY, **AMBIENT})
    room = driver(sensor, expect=Expect(serial="A17-0042", model="Thingy", firmware="2.2.0 β"))
    identity = await room.connect()
    assert (identity.maker, identity.model) == ("Nordic", "Thingy")
    assert (identity.serial, identity.firmware) == ("A17-0042", "2.2.0 β")
    assert await room.reconnect() == identity
    assert sensor.connections == 2
    assert room.quantities == ("temperature", "humidity", "pressure")
    assert room.capabilities.when_host_is_silent is WhenHostIsSilent.NO_OUTPUT
    assert isinstance(room, Thermometer)
    assert isinstance(room, GloveboxMonitor)
    await room.safe()
    await room.close()
    assert sensor.central is None
    await room.close()


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        (Expect(serial="A17-0043"), "expected serial number A17-0043, but it gives A17-0042"),
        (Expect(model="Weather"), "expected model Weather, but it gives Thingy"),
        (Expect(firmware="9"), "expected firmware 9"),
    ],
)
def test_another_sensor_than_expected_is_refused(expect: Expect, message: str) -> None:
    async def scenario() -> None:
        with pytest.raises(WrongInstrumentError, match=message):
            await driver(Sensor({**IDENTITY, **AMBIENT}), expect=expect).connect()

    run(scenario(), virtual=True)


@in_virtual_time
async def test_a_sensor_without_device_information_works_unless_something_is_expected() -> None:
    identity = await driver(Sensor(AMBIENT)).connect()
    assert (identity.maker, identity.model, identity.serial) == ("", "", "")
    with pytest.raises(WrongInstrumentError, match="gives none"):
        await driver(Sensor(AMBIENT), expect=Expect(serial="A17-0042")).connect()


@in_virtual_time
async def test_a_sensor_that_was_swapped_is_found_at_the_reconnect() -> None:
    sensor = Sensor({**IDENTITY, **AMBIENT})
    room = driver(sensor)
    await room.connect()
    sensor.set(0x2A25, b"A17-0099")
    with pytest.raises(WrongInstrumentError, match=r"was Thingy A17-0042, now .* A17-0099"):
        await room.reconnect()
    with pytest.raises(LinkLostError, match="is not connected"):
        await room.measure()


@pytest.mark.parametrize("data", [b"\xff\xfe", b"A\x07B"])
def test_an_identity_that_is_no_text_is_refused(data: bytes) -> None:
    async def scenario() -> None:
        sensor = Sensor({**IDENTITY, **AMBIENT})
        sensor.set(0x2A24, data)
        with pytest.raises(GarbledReplyError, match="characteristic 2A24"):
            await driver(sensor).connect()

    run(scenario(), virtual=True)


@in_virtual_time
async def test_values_are_read_one_after_the_other_with_their_own_times() -> None:
    clock, sensor = Clock("virtual"), Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    start = clock.now()
    readings = by_name(await room.measure())
    assert set(readings) == set(EnvironmentalSensor.INFO.measures)
    assert all(one.source == "room" and one.status is Status.OK for one in readings.values())
    assert readings["temperature"].value == pytest.approx(298.15)
    assert readings["temperature"].time == pytest.approx(start + 0.01)
    assert readings["temperature"].uncertainty == pytest.approx(0.01)
    assert readings["relative_humidity"].value == pytest.approx(0.5315)
    assert readings["relative_humidity"].time == pytest.approx(start + 0.03)
    # 3169.9 Pa at 25 degC (Wagner and Pruss 1993).
    assert readings["h2o"].value == pytest.approx(0.5315 * 3169.9 / 101_325.0, rel=1e-3)
    assert readings["h2o"].time == pytest.approx(start + 0.02)
    assert readings["h2o"].uncertainty == pytest.approx(0.02)
    # 1598.9 Pa at 14 degC, 1705.8 Pa at 15 degC (IAPWS steam tables), between them 1684.8 Pa.
    assert readings["dew_point"].value == pytest.approx(273.15 + 14.81, abs=0.02)


@in_virtual_time
async def test_without_a_barometer_the_pressure_is_that_of_the_settings() -> None:
    values = {key: AMBIENT[key] for key in [(0x181A, 0x2A6E), (0x181A, 0x2A6F)]}
    for pressure in (ATMOSPHERE, 80_000.0):
        room = driver(Sensor(values), settings=ESSSettings(pressure=pressure))
        await room.connect()
        assert by_name(await room.measure())["h2o"].value == pytest.approx(
            0.5315 * saturation_pressure(298.15) / pressure
        )


@in_virtual_time
async def test_a_thermometer_alone_gives_its_temperature_alone() -> None:
    room = driver(Sensor({(0x181A, 0x2A6E): WARM}), settings=ESSSettings(temperature_of="chamber"))
    await room.connect()
    (reading,) = await room.measure()
    assert reading.quantity == "chamber_temperature"
    assert reading.value == pytest.approx(298.15)


@in_virtual_time
async def test_a_device_that_senses_nothing_of_the_kind_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"neither temperature nor humidity .* 2A19"):
        await driver(Sensor({(0x180F, 0x2A19): b"\x64"})).connect()
    # The same characteristic in another service means something else.
    with pytest.raises(UnsupportedError):
        await driver(Sensor({(0x1809, 0x2A6E): WARM})).connect()


@in_virtual_time
async def test_of_several_alike_one_must_be_chosen_by_its_handle() -> None:
    inner = ((0x181A, 0x2A6E), bytes.fromhex("D0 07"))
    with pytest.raises(UnsupportedError, match=r"handles 10, 13\. .*temperature_handle"):
        await driver(Sensor(AMBIENT, (inner,))).connect()
    room = driver(Sensor(AMBIENT, (inner,)), settings=ESSSettings(temperature_handle=13))
    await room.connect()
    assert by_name(await room.measure())["temperature"].value == pytest.approx(293.15)
    with pytest.raises(UnsupportedError, match="no temperature with the handle 11"):
        await driver(
            Sensor(AMBIENT, (inner,)), settings=ESSSettings(temperature_handle=11)
        ).connect()


@in_virtual_time
async def test_what_is_not_known_is_a_fault_without_a_number() -> None:
    sensor = Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    sensor.set(0x2A6E, bytes.fromhex("00 80"))
    readings = by_name(await room.measure())
    for name in ("temperature", "h2o", "dew_point"):
        assert math.isnan(readings[name].value)
        assert readings[name].status is Status.FAULT
    assert readings["relative_humidity"].status is Status.OK


@in_virtual_time
async def test_a_pressure_that_is_none_of_air_gives_no_fraction() -> None:
    sensor = Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    for data in ("00 00 00 00", "FF FF FF FF"):
        sensor.set(0x2A6D, bytes.fromhex(data))
        readings = by_name(await room.measure())
        assert math.isnan(readings["h2o"].value)
        assert readings["h2o"].status is Status.FAULT
        assert readings["dew_point"].status is Status.OK


@in_virtual_time
async def test_frost_leaves_the_water_open() -> None:
    sensor = Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    sensor.set(0x2A6E, bytes.fromhex("2E FB"))
    readings = by_name(await room.measure())
    assert readings["temperature"].status is Status.OK
    assert {readings[name].status for name in ("h2o", "dew_point")} == {Status.UNDERLOAD}


@in_virtual_time
async def test_perfectly_dry_air_has_no_dew_point_but_no_water_either() -> None:
    sensor = Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    sensor.set(0x2A6F, bytes(2))
    readings = by_name(await room.measure())
    assert (readings["h2o"].value, readings["h2o"].status) == (0.0, Status.OK)
    assert readings["dew_point"].status is Status.UNDERLOAD


@pytest.mark.parametrize(
    ("short", "data"),
    [(0x2A6E, "4C 95"), (0x2A6E, "C4"), (0x2A6F, "11 27"), (0x2A6F, ""), (0x2A6D, "02 76 0F")],
)
def test_prohibited_values_are_garbled_replies(short: int, data: str) -> None:
    async def scenario() -> None:
        sensor = Sensor(AMBIENT)
        room = driver(sensor)
        await room.connect()
        sensor.set(short, bytes.fromhex(data))
        with pytest.raises(
            GarbledReplyError, match=f"characteristic {short:04X} prohibits"
        ) as error:
            await room.measure()
        assert (error.value.instrument, error.value.address) == ("ess", ADDRESS)

    run(scenario(), virtual=True)


@given(st.sampled_from([0x2A6E, 0x2A6F, 0x2A6D]), st.binary(max_size=5))
def test_mutated_values_give_readings_or_an_error_of_ours(short: int, data: bytes) -> None:
    async def scenario() -> None:
        sensor = Sensor(AMBIENT)
        room = driver(sensor)
        await room.connect()
        sensor.set(short, data)
        if len(data) != (4 if short == 0x2A6D else 2):
            with pytest.raises(GarbledReplyError):
                await room.measure()
            return
        try:
            readings = await room.measure()
        except GarbledReplyError:
            return
        for one in readings:
            assert math.isfinite(one.value) or one.status is not Status.OK

    run(scenario(), virtual=True)


@in_virtual_time
async def test_an_att_error_is_reported_with_its_number() -> None:
    sensor = Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    sensor.errors[sensor.handle(0x2A6F)] = 0x0E
    with pytest.raises(ReportedError, match="reports 14: Unlikely Error") as error:
        await room.measure()
    assert (error.value.code, error.value.instrument) == (14, "ess")


@in_virtual_time
async def test_a_sensor_that_does_not_answer_is_reported_in_time() -> None:
    clock, sensor = Clock("virtual"), Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    sensor.delay = math.inf
    start = clock.now()
    with pytest.raises(ReplyTimeoutError):
        await room.measure()
    assert clock.now() - start == pytest.approx(5.0)
    with pytest.raises(LinkLostError, match="did not connect within 8 s"):
        await room.reconnect()
    assert clock.now() - start == pytest.approx(13.0)
    sensor.delay = 0.02
    await room.reconnect()
    assert by_name(await room.measure())["temperature"].status is Status.OK


@in_virtual_time
async def test_a_link_that_breaks_is_reported_and_renewed() -> None:
    clock, sensor = Clock("virtual"), Sensor(AMBIENT)
    room = driver(sensor)
    await room.connect()
    assert sensor.central is not None
    sensor.central.drop()
    with pytest.raises(LinkLostError, match="no connection") as error:
        await room.measure()
    assert error.value.instrument == "ess"
    await room.reconnect()
    sensor.delay = 3.0
    central = sensor.central
    assert central is not None
    end = clock.now() + 1.0
    asyncio.get_running_loop().call_at(end, central.drop)
    with pytest.raises(LinkLostError, match="broke"):
        await room.measure()
    assert clock.now() == pytest.approx(end)


@in_virtual_time
async def test_values_that_it_sends_by_itself_are_taken_instead_of_asking() -> None:
    clock, sensor = Clock("virtual"), Sensor(AMBIENT)
    room = driver(sensor, settings=ESSSettings(notify=True))
    await room.connect()
    assert sensor.subscribed == [sensor.handle(short) for short in (0x2A6E, 0x2A6F, 0x2A6D)]
    sensor.read_handles.clear()
    assert sensor.central is not None
    for handle in sensor.subscribed:
        sensor.central.notify(handle, sensor.table[handle - 10][1], clock.now())
    sent = clock.now()
    await clock.sleep(4.0)
    readings = by_name(await room.measure())
    assert readings["temperature"].value == pytest.approx(298.15)
    assert readings["temperature"].time == sent
    assert sensor.read_handles == []
    assert by_name(await room.measure())["temperature"].time > sent + 4.0, "it was asked again"
    assert len(sensor.read_handles) == 3


@in_virtual_time
async def test_what_it_sent_long_ago_is_asked_for_again() -> None:
    clock, sensor = Clock("virtual"), Sensor(AMBIENT)
    room = driver(sensor, settings=ESSSettings(notify=True, fresh=10.0))
    await room.connect()
    sensor.read_handles.clear()
    assert sensor.central is not None
    sensor.central.notify(sensor.handle(0x2A6E), bytes.fromhex("2E FB"), clock.now())
    await clock.sleep(11.0)
    assert by_name(await room.measure())["temperature"].value == pytest.approx(298.15)
    assert sensor.handle(0x2A6E) in sensor.read_handles


@in_virtual_time
async def test_nothing_is_subscribed_to_unless_the_settings_say_so() -> None:
    sensor = Sensor(AMBIENT)
    await driver(sensor).connect()
    assert sensor.subscribed == []


@pytest.mark.parametrize("wrong", [{"timeout": 0.0}, {"pressure": -1.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInputError):
        ESSSettings(**wrong)  # type: ignore[arg-type]
