"""The simulated Keller 33X pressure transmitter, on Modbus and on the Keller bus."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.errors import BadInputError, ReplyTimeoutError
from operando.instruments.wires import Sized
from operando.simulators.devices.keller import SimulatedKeller33X
from operando.simulators.devices.modbus_slave import crc
from simulators.bench_of_one import Host, virtual
from simulators.room_of_one import Box, sensor_in

EXACT: dict[str, object] = {
    "noise": 0.0,
    "resolution": 0.0,
    "temperature_noise": 0.0,
    "filter": 0,
}

NOT_A_NUMBER = "7F C0 00 00"


async def transmitter(box: Box | None, **options: object) -> tuple[Host, Callable[[str], None]]:
    """An absolute transmitter without noise and rounding unless asked for."""
    return await sensor_in(SimulatedKeller33X, box, {"reference": "absolute", **EXACT, **options})


def single(text: str) -> float:
    """The number of four bytes written as hex."""
    return float(struct.unpack(">f", bytes.fromhex(text))[0])


def box_with(pressure: str = "3F 75 F0 7B", temperature: str = "41 B5 C0 79") -> Box:
    """A box of a pressure in bar and a temperature in degC, as floats in hex."""
    box = Box()
    box.pascals = single(pressure) * 1e5
    box.kelvin = single(temperature) + 273.15
    return box


def _modbus_length(reply: bytes) -> int:
    if reply[1] & 0x80:
        return 5
    return 5 + reply[2] if reply[1] == 3 else 8


async def exchange(host: Host, frame: str) -> str:
    """Send a Modbus frame written as hex; the reply as hex."""
    reply = await host.wire.exchange(bytes.fromhex(frame), Sized(3, _modbus_length), 1.0)
    return reply.hex(" ").upper()


def framed(body: str) -> str:
    """A Modbus frame with its CRC, as hex."""
    data = bytes.fromhex(body)
    return (data + crc(data)).hex(" ").upper()


async def modbus(host: Host, body: str) -> str:
    """Send a Modbus request without its CRC; the reply without address and CRC, as hex."""
    reply = bytes.fromhex(await exchange(host, framed(body)))
    assert crc(reply[:-2]) == reply[-2:]
    return reply[1:-2].hex(" ").upper()


async def bus(host: Host, *request: int, raw: bool = False) -> list[int]:
    """Send a request of the Keller bus without its checksum; the reply without address and CRC."""
    lengths = {30: 8, 31: 5, 32: 5, 33: 5, 48: 10, 66: 5, 69: 8, 73: 9, 74: 9, 95: 5}

    def length(reply: bytes) -> int:
        return 5 if reply[1] & 0x80 else lengths[request[1]]

    frame = bytes(request) + crc(bytes(request))[::-1]
    reply = await host.wire.exchange(frame, Sized(2, length), 1.0)
    assert crc(reply[:-2])[::-1] == reply[-2:]
    return list(reply if raw else reply[1:-2])


# -- frames of the document


@pytest.mark.parametrize(
    ("pressure", "temperature", "request_frame", "reply"),
    [
        ("3F 75 F0 7B", "41 B5 C0 79", "01 03 00 02 00 02 65 CB", "01 03 04 3F 75 F0 7B E3 DE"),
        ("3F 75 F0 7B", "41 B5 C0 79", "01 03 00 08 00 02 45 C9", "01 03 04 41 B5 C0 79 6E 0B"),
        ("3F 75 E4 A6", "41 B5 C0 79", "FA 03 00 02 00 02 70 40", "FA 03 04 3F 75 E4 A6 66 48"),
        (
            "3F 75 E3 D2",
            "41 B6 1C 20",
            "01 03 01 00 00 04 45 F5",
            # The document prints the CRC as A0 77, which its own rule does not give.
            "01 03 08 3F 75 E3 D2 41 B6 1C 20 A0 C7",
        ),
        (
            "3F 75 F0 7B",
            "41 B5 C0 79",
            "01 10 FF 00 00 02 04 00 00 00 00 B6 5B",
            "01 10 FF 00 00 02 71 DC",
        ),
    ],
)
@virtual
async def test_documented_modbus_frames_are_answered_byte_for_byte(
    pressure: str, temperature: str, request_frame: str, reply: str
) -> None:
    host, _ = await transmitter(box_with(pressure, temperature))
    assert await exchange(host, request_frame) == reply


@virtual
async def test_documented_frames_of_the_keller_bus_are_answered_byte_for_byte() -> None:
    async def talk(host: Host, *request: int) -> list[int]:
        length = {48: 10, 73: 9}[request[1]]
        reply = await host.wire.exchange(bytes(request), Sized(1, lambda data: length), 1.0)
        return list(reply)

    # 0.928487 bar, 25.28979 degC, firmware 5.20-5.50.
    pressure = bytes([63, 109, 177, 83]).hex()
    temperature = bytes([65, 202, 81, 128]).hex()
    host, _ = await transmitter(box_with(pressure, temperature), firmware="5.20-5.50")
    first = await talk(host, 1, 48, 52, 0)
    assert first[:8] == [1, 48, 5, 20, 5, 50, 10, 0]
    assert (await talk(host, 1, 48, 52, 0))[:8] == [1, 48, 5, 20, 5, 50, 10, 1]
    assert await talk(host, 1, 73, 1, 80, 214) == [1, 73, 63, 109, 177, 83, 0, 231, 97]
    assert await talk(host, 1, 73, 4, 83, 22) == [1, 73, 65, 202, 81, 128, 0, 95, 54]

    host, _ = await transmitter(box_with(bytes([63, 109, 186, 172]).hex()))
    await talk(host, 250, 48, 4, 67)
    assert await talk(host, 250, 73, 1, 161, 167) == [250, 73, 63, 109, 186, 172, 0, 26, 27]


# -- Modbus


@virtual
async def test_whole_numbers_are_pascals_and_hundredths_of_a_degree() -> None:
    box = Box()
    box.pascals, box.kelvin = 96_070.4, 273.15 + 22.718
    host, _ = await transmitter(box)
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 01 77 46"
    assert await modbus(host, "01 03 00 18 00 02") == "03 04 00 00 08 E0"


@virtual
async def test_channels_that_are_not_there_are_no_numbers_or_an_exception() -> None:
    host, _ = await transmitter(Box())
    for start in ("00", "04", "06", "0A"):
        assert await modbus(host, f"01 03 00 {start} 00 02") == f"03 04 {NOT_A_NUMBER}"
    assert await modbus(host, "01 03 00 14 00 02") == "83 04"


@virtual
async def test_beyond_the_range_it_is_infinite_or_the_last_whole_number() -> None:
    box = Box()
    host, _ = await transmitter(box, lowest=0.0, highest=1e5)
    box.pascals = 1.05e5
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 01 9A 28"
    await host.clock.sleep(1.0)
    box.pascals = 1.2e5
    await modbus(host, "01 03 00 02 00 02")
    await host.clock.sleep(1.0)
    assert await modbus(host, "01 03 00 02 00 02") == "03 04 7F 80 00 00"
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 7F FF FF FF"
    gauge, _ = await transmitter(Box(), lowest=2e5, highest=3e5)
    assert await modbus(gauge, "01 03 00 02 00 02") == "03 04 FF 80 00 00"
    assert await modbus(gauge, "01 03 00 12 00 02") == "03 04 80 00 00 00"


@virtual
async def test_half_a_value_is_zero_and_a_value_begins_at_an_even_address() -> None:
    host, _ = await transmitter(Box())
    assert await modbus(host, "01 03 00 02 00 01") == "03 02 00 00"
    assert await modbus(host, "01 03 00 03 00 02") == "83 02"
    assert await modbus(host, "01 03 00 02 00 05") == "83 03"
    assert await modbus(host, "01 03 00 02 00 00") == "83 03"
    assert await modbus(host, "01 03 50 00 00 02") == "83 02"
    assert await modbus(host, "01 03 FF 00 00 02") == "83 02"
    assert await modbus(host, "01 04 00 02 00 02") == "84 01"


@virtual
async def test_the_configuration_holds_serial_number_address_and_firmware() -> None:
    host, inject = await transmitter(Box(), serial=0x00123456)
    assert await modbus(host, "01 03 02 02 00 02") == "03 04 00 12 34 56"
    assert await modbus(host, "01 03 02 0D 00 03") == "03 06 00 01 05 14 0C 1C"
    inject("identity 7")
    assert await modbus(host, "01 03 02 02 00 02") == "03 04 00 00 00 07"
    assert await modbus(host, "01 06 02 0D 00 09") == "06 02 0D 00 09"
    assert await modbus(host, "09 03 02 04 00 02") == "03 04 00 02 00 10"
    assert await modbus(host, "09 06 03 80 00 00") == "86 02"
    assert await modbus(host, "09 08 00 00 12 34") == "08 00 00 12 34"


@virtual
async def test_zero_makes_the_present_pressure_the_wanted_one_and_survives_power() -> None:
    box = Box()
    box.pascals = 101_525.0
    host, inject = await transmitter(box, reference="gauge")
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 00 00 C8"
    assert await modbus(host, "01 10 FF 00 00 02 04 00 00 00 00") == "10 FF 00 00 02"
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 00 00 00"
    offset = single((await modbus(host, "01 03 03 80 00 02"))[6:])
    assert offset == pytest.approx(-0.002, rel=1e-4)
    inject("reboot")
    await host.clock.sleep(1.0)
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 00 00 00"
    half_a_millibar = struct.pack(">f", 5e-4).hex(" ")
    await modbus(host, f"01 10 FF 00 00 02 04 {half_a_millibar}")
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 00 00 32"
    assert await modbus(host, "01 10 FF 02 00 02 04 00 00 00 00") == "10 FF 02 00 02"
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 00 00 C8"


@virtual
async def test_gain_and_range_are_coefficients() -> None:
    box = Box()
    box.pascals = 1e5
    host, _ = await transmitter(box)
    assert single((await modbus(host, "01 03 03 A2 00 02"))[6:]) == pytest.approx(1.6)
    assert await modbus(host, "01 10 03 82 00 02 04 3F 80 00 00") == "10 03 82 00 02"
    await modbus(host, "01 10 03 82 00 02 04 40 00 00 00")
    assert single((await modbus(host, "01 03 00 02 00 02"))[6:]) == pytest.approx(2.0)
    assert await modbus(host, "01 10 03 A2 00 02 04 40 00 00 00") == "90 02"
    assert await modbus(host, f"01 10 03 82 00 02 04 {NOT_A_NUMBER}") == "90 04"
    assert await modbus(host, "01 10 FF 00 00 01 02 00 00") == "90 03"


@virtual
async def test_old_firmware_gives_one_float_at_a_time_and_nothing_else() -> None:
    host, _ = await transmitter(box_with(), firmware="5.20-5.50")
    assert await modbus(host, "01 03 00 02 00 02") == "03 04 3F 75 F0 7B"
    assert await modbus(host, "01 03 01 00 00 02") == "83 02"
    assert await modbus(host, "01 03 00 02 00 04") == "83 03"
    assert await modbus(host, "01 10 FF 00 00 02 04 00 00 00 00") == "90 01"


@virtual
async def test_a_gauge_transmitter_is_relative_to_the_air_outside() -> None:
    box = Box()
    box.outside, box.pascals = 98_000.0, 98_000.0 + 850.0
    host, _ = await transmitter(box, reference="gauge")
    assert await modbus(host, "01 03 00 12 00 02") == "03 04 00 00 03 52"


# -- Keller bus


@virtual
async def test_the_keller_bus_wants_to_be_initialised_after_each_start() -> None:
    host, inject = await transmitter(Box(), serial=305_419_896)
    assert await bus(host, 1, 69) == [0x80 | 69, 32]
    assert (await bus(host, 1, 48))[-1] == 0
    assert await bus(host, 1, 69) == [69, 0x12, 0x34, 0x56, 0x78]
    inject("reboot")
    await host.clock.sleep(1.0)
    assert await bus(host, 1, 69) == [0x80 | 69, 32]
    assert await modbus(host, "01 03 02 02 00 02") == "03 04 12 34 56 78"


@virtual
async def test_functions_of_the_keller_bus() -> None:
    box = Box()
    box.pascals, box.kelvin = 101_330.0, 298.15
    host, inject = await transmitter(box)
    await bus(host, 1, 48)
    assert await bus(host, 1, 74, 1) == [74, *(101_330).to_bytes(4, "big"), 0]
    assert await bus(host, 1, 74, 4) == [74, 0, 0, 9, 0xC4, 0]
    assert await bus(host, 1, 74, 2) == [0x80 | 74, 4]
    assert await bus(host, 1, 73, 6) == [0x80 | 73, 2]
    assert (await bus(host, 1, 73, 2))[-1] == 1 << 2
    assert await bus(host, 1, 95, 0) == [95, 0]
    assert await bus(host, 1, 74, 1) == [74, 0, 0, 0, 0, 0]
    assert await bus(host, 1, 95, 0, *struct.pack(">f", 1.0)) == [95, 0]
    assert await bus(host, 1, 74, 1) == [74, *(100_000).to_bytes(4, "big"), 0]
    assert await bus(host, 1, 95, 1) == [95, 0]
    assert await bus(host, 1, 95, 9) == [0x80 | 95, 2]
    assert await bus(host, 1, 31, 65, *struct.pack(">f", 0.5)) == [31, 0]
    assert await bus(host, 1, 30, 65) == [30, 0x3F, 0, 0, 0]
    assert await bus(host, 1, 30, 200) == [0x80 | 30, 2]
    assert await bus(host, 1, 31, 80, 0, 0, 0, 0) == [0x80 | 31, 2]
    assert await bus(host, 1, 32, 3) == [32, 1]
    assert await bus(host, 1, 33, 3, 5) == [33, 0]
    assert await bus(host, 1, 32, 3) == [32, 5]
    assert await bus(host, 1, 66, 17) == [66, 17]
    assert await bus(host, 250, 66, 0) == [66, 17]
    inject("nak once")
    assert await bus(host, 17, 69) == [0x80 | 69, 3]
    inject("unplug")
    assert (await bus(host, 17, 73, 1))[-1] == 2
    inject("overload once")
    assert await bus(host, 17, 74, 1) == [0x80 | 74, 4]


# -- the line


@virtual
async def test_other_addresses_broadcasts_and_damage_are_not_answered() -> None:
    host, _ = await transmitter(box_with(), address=5)
    with pytest.raises(ReplyTimeoutError):
        await exchange(host, "01 03 00 02 00 02 65 CB")
    with pytest.raises(ReplyTimeoutError):
        await exchange(host, framed("05 03 00 02 00 02")[:-2] + "00")
    with pytest.raises(ReplyTimeoutError):
        await exchange(host, framed("00 06 02 0D 00 07"))
    assert await modbus(host, "07 03 00 02 00 02") == "03 04 3F 75 F0 7B"
    assert (await modbus(host, "FA 03 00 02 00 02"))[:5] == "03 04"


@virtual
async def test_a_cable_with_echo_repeats_the_request() -> None:
    host, _ = await transmitter(box_with(), echo=True)
    request = bytes.fromhex("01 03 00 02 00 02 65 CB")
    reply = await host.wire.exchange(request, Sized(1, lambda data: 17), 1.0)
    assert reply == request + bytes.fromhex("01 03 04 3F 75 F0 7B E3 DE")


@virtual
async def test_the_serial_line_takes_its_time() -> None:
    host, _ = await transmitter(Box(), baud=1200, response_time=0.02)
    before = host.clock.now()
    await exchange(host, "01 03 00 02 00 02 65 CB")
    assert host.clock.now() - before == pytest.approx(0.02 + 10 * (8 + 9) / 1200)


@virtual
async def test_a_frame_may_come_in_pieces_but_not_after_a_pause() -> None:
    host, _ = await transmitter(Box())
    await host.wire.send(bytes.fromhex("01 03 00 02"), 1.0)
    assert (await exchange(host, "00 02 65 CB")).startswith("01 03 04")
    await host.wire.send(bytes.fromhex("01 03 00 02"), 1.0)
    await host.clock.sleep(1.0)
    assert (await exchange(host, "01 03 00 02 00 02 65 CB")).startswith("01 03 04")


# -- the sensor, faults


async def pascals(host: Host) -> float:
    """P1 in Pa."""
    return 1e5 * single((await modbus(host, "01 03 00 02 00 02"))[6:])


@virtual
async def test_errors_of_calibration_age_temperature_and_warm_up_shift_the_pressure() -> None:
    year = 365.25 * 86_400.0
    box = Box()
    box.kelvin = 273.15 + 30.0
    host, _ = await transmitter(
        box,
        reference="gauge",
        offset=5.0,
        ageing=10.0,
        age=2 * year - 60.0,
        powered_for=60.0,
        temperature_coefficient=0.5,
        warm_up_error=100.0,
        warm_up_time=60.0,
    )
    expected = 5.0 + 20.0 + 5.0 + 100.0 * math.exp(-1.0)
    assert await pascals(host) == pytest.approx(expected, abs=0.05)


@virtual
async def test_readings_have_a_resolution_and_noise_from_the_seed() -> None:
    async def three(seed: int) -> list[float]:
        host, _ = await sensor_in(
            SimulatedKeller33X, Box(), {"seed": seed, "noise": 5.0, "resolution": 2.0}
        )
        return [await pascals(host) for _ in range(3)]

    first = await three(1)
    assert all(value == pytest.approx(2.0 * round(value / 2.0), abs=0.01) for value in first)
    assert len(set(first)) > 1
    assert first == await three(1)
    assert first != await three(2)


@virtual
async def test_the_low_pass_filter_can_be_set() -> None:
    box = Box()
    host, _ = await transmitter(box, reference="gauge", response_time=0.0, baud=115_200)
    assert await modbus(host, "01 06 02 08 00 A0") == "06 02 08 00 A0"
    await pascals(host)
    box.pascals += 1000.0
    await host.clock.sleep(0.001)
    await pascals(host)
    await host.clock.sleep(2.56)
    # 2^10 samples at 400 a second: 2.56 s.
    assert await pascals(host) == pytest.approx(1000.0 * (1.0 - math.exp(-1.0)), rel=0.01)


@virtual
async def test_faults_inside_are_no_number_infinity_and_an_exception() -> None:
    host, inject = await transmitter(box_with())
    inject("overload once")
    assert await modbus(host, "01 03 00 02 00 02") == "03 04 7F 80 00 00"
    assert await modbus(host, "01 03 00 02 00 02") == "03 04 3F 75 F0 7B"
    inject("unplug")
    assert await modbus(host, "01 03 01 00 00 04") == f"03 08 {NOT_A_NUMBER} {NOT_A_NUMBER}"
    inject("nak once")
    assert await modbus(host, "01 03 00 02 00 02") == "83 04"
    assert await modbus(host, "01 03 00 02 00 02") == "03 04 3F 75 F0 7B"


@virtual
async def test_without_a_room_it_senses_laboratory_air() -> None:
    host, _ = await transmitter(None)
    assert await pascals(host) == pytest.approx(101_325.0, abs=1.0)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"firmware": "new"}, "firmware"),
        ({"lowest": 5e4, "highest": 4e4}, "highest"),
        ({"range": 1.0}, "range"),
    ],
)
@virtual
async def test_wrong_options_are_refused_by_name(options: dict[str, object], key: str) -> None:
    with pytest.raises(BadInputError, match=key):
        await transmitter(Box(), **options)


@virtual
async def test_an_identity_that_is_no_number_is_refused() -> None:
    _, inject = await transmitter(Box())
    with pytest.raises(BadInputError, match="whole number"):
        inject("identity K12")


@given(st.binary(max_size=300))
def test_any_bytes_leave_it_alive(noise: bytes) -> None:
    @virtual
    async def scenario() -> None:
        host, _ = await transmitter(box_with())
        await host.wire.send(noise, 1.0)
        await host.clock.sleep(1.0)
        assert (await modbus(host, "FA 03 00 02 00 02"))[:5] == "03 04"

    scenario()


@given(
    st.sampled_from([3, 6, 8, 16, 30, 31, 32, 33, 48, 66, 69, 73, 74, 95, 100]),
    st.binary(min_size=1, max_size=12),
    st.booleans(),
)
def test_any_request_with_a_good_checksum_leaves_it_alive(
    function: int, data: bytes, backwards: bool
) -> None:
    @virtual
    async def scenario() -> None:
        host, _ = await transmitter(box_with())
        await bus(host, 1, 48)
        body = bytes([250, function]) + data
        await host.wire.send(body + (crc(body)[::-1] if backwards else crc(body)), 1.0)
        await host.clock.sleep(1.0)
        assert (await modbus(host, "FA 03 00 02 00 02"))[:5] == "03 04"

    scenario()
