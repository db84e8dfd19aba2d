"""The simulated load-cell indicators, in both protocols."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, ReplyTimeoutError
from operando.instruments.wires import Sized
from operando.simulators.devices.modbus_slave import crc
from operando.simulators.devices.ports import Site
from operando.simulators.devices.pt113 import SimulatedPT113, SimulatedPT113Modbus, checksum
from simulators.bench_of_one import Host, Spring, connect


async def indicator(spring: Spring, **options: object) -> Host:
    """A host at an indicator in BSI mode, without noise unless asked for."""
    clock = Clock("virtual")
    device = SimulatedPT113(
        "lc1", site=Site(frame=spring), clock=clock, options={"noise": 0.0, **options}
    )
    return (await connect(device, clock, b"\r\n"))[0]


async def slave(spring: Spring, **options: object) -> Host:
    """A host at an indicator in Modbus mode."""
    clock = Clock("virtual")
    device = SimulatedPT113Modbus(
        "lc1", site=Site(frame=spring), clock=clock, options={"noise": 0.0, **options}
    )
    return (await connect(device, clock))[0]


def _length(reply: bytes) -> int:
    if reply[1] & 0x80:
        return 5
    return 5 + reply[2] if reply[1] == 3 else 8


REPLY = Sized(3, _length)


async def exchange(host: Host, frame: str, timeout: float = 1.0) -> str:
    """Send a frame written as hex with its CRC; the reply as hex."""
    reply = await host.wire.exchange(bytes.fromhex(frame), REPLY, timeout)
    return reply.hex(" ").upper()


# -- BSI


@pytest.mark.parametrize(
    ("body", "digits"),
    [("01P", "4F"), ("01PS+000123.4", "49"), ("01T", "4B"), ("01A", "5E"), ("01ZA", "04")],
)
def test_checksums_agree_with_the_documented_vectors(body: str, digits: str) -> None:
    assert checksum(body.encode()) == digits.encode()


@pytest.mark.parametrize(
    ("request_text", "reply"),
    [
        ("01I", "01IS+000123.4"),
        ("01B", "01BS+000123.4"),
        ("01A", "01AS+000123.4+000000.0+000123.4"),
        ("01P", "01PS+000123.4"),
        ("01X", "01XS+00123.41"),
        ("01S", "01SSGI"),
        ("01G", "01GA234"),
        ("01C", "01CA"),
        ("01D", "01DX"),
        ("01Q", "01QX"),
    ],
)
def test_documented_replies_are_answered_byte_for_byte(request_text: str, reply: str) -> None:
    async def scenario() -> None:
        host = await indicator(Spring(123.41))
        assert await host.ask(request_text) == reply

    run(scenario(), virtual=True)


def test_checksums_go_both_ways_and_a_wrong_one_is_not_answered() -> None:
    async def scenario() -> None:
        host = await indicator(Spring(123.4), checksum=True)
        assert await host.ask("01P4F") == "01PS+000123.449"
        with pytest.raises(ReplyTimeoutError):
            await host.ask("01P4E", timeout=1.0)
        with pytest.raises(ReplyTimeoutError):
            await host.ask("01P", timeout=1.0)

    run(scenario(), virtual=True)


def test_another_address_is_ignored_in_silence() -> None:
    async def scenario() -> None:
        host = await indicator(Spring(1.0), address=7)
        with pytest.raises(ReplyTimeoutError):
            await host.ask("01I", timeout=1.0)
        assert (await host.ask("07I")).startswith("07IS")

    run(scenario(), virtual=True)


def test_tare_gives_net_weight_until_it_is_cleared() -> None:
    async def scenario() -> None:
        spring = Spring(111.1)
        host = await indicator(spring)
        assert await host.ask("01T", timeout=3.0) == "01TA"
        spring.newtons = 234.5
        await host.ask("01I")
        await host.clock.sleep(10.0)
        assert await host.ask("01A") == "01AS+000123.4+000111.1+000234.5"
        assert await host.ask("01S") == "01SSNI"
        assert await host.ask("01Z", timeout=3.0) == "01ZN", "zero is refused in net mode"
        assert await host.ask("01C") == "01CA"
        assert await host.ask("01I") == "01IS+000234.5"

    run(scenario(), virtual=True)


def test_zero_must_lie_inside_its_range() -> None:
    async def scenario() -> None:
        small = await indicator(Spring(5.0), capacity=1000.0)
        assert await small.ask("01Z", timeout=3.0) == "01ZA"
        assert await small.ask("01I") == "01IS+000000.0"
        large = await indicator(Spring(500.0), capacity=1000.0)
        assert await large.ask("01Z", timeout=3.0) == "01ZN"
        assert await large.ask("01I") == "01IS+000500.0"

    run(scenario(), virtual=True)


def test_a_moving_weight_is_dynamic_and_fails_tare_after_two_seconds() -> None:
    async def scenario() -> None:
        host = await indicator(Spring(100.0, rate=5.0))
        await host.ask("01I")
        await host.clock.sleep(1.0)
        assert (await host.ask("01I")).startswith("01ID+")
        assert await host.ask("01P") == "01PN"
        assert (await host.ask("01S"))[2:4] == "SD"
        before = host.clock.now()
        assert await host.ask("01T", timeout=3.0) == "01TN"
        assert host.clock.now() - before == pytest.approx(2.0, abs=0.1)

    run(scenario(), virtual=True)


def test_beyond_its_capacity_it_shows_no_weight() -> None:
    async def scenario() -> None:
        host = await indicator(Spring(1001.0), capacity=1000.0)
        assert await host.ask("01I") == "01I+"
        assert await host.ask("01A") == "01AO"
        assert await host.ask("01S") == "01SSG+"
        under = await indicator(Spring(-100.0), capacity=1000.0)
        assert await under.ask("01B") == "01B-"

    run(scenario(), virtual=True)


def test_a_low_supply_shows_in_the_status() -> None:
    async def scenario() -> None:
        host = await indicator(Spring(1.0), supply_voltage=10.0)
        assert await host.ask("01S") == "01SSGL"
        assert await host.ask("01G") == "01GA100"

    run(scenario(), virtual=True)


def test_the_unit_is_configured_and_never_sent() -> None:
    async def scenario() -> None:
        host = await indicator(Spring(9.80665 * 250.0), unit="kg")
        assert await host.ask("01I") == "01IS+000250.0"

    run(scenario(), virtual=True)


def test_a_step_settles_through_the_filter_independently_of_polling() -> None:
    async def after_a_second(polls: int) -> str:
        spring = Spring(100.0)
        host = await indicator(spring, filter=9, response_time=0.0, baud=115200)
        await host.ask("01I")
        spring.newtons = 0.0
        spring.rate = 200.0
        start = host.clock.now()
        spring.newtons = 100.0 - 200.0 * start
        for _ in range(polls):
            await host.clock.sleep(1.0 / polls)
            await host.ask("01I")
        await host.clock.sleep_until(start + 2.0)
        return await host.ask("01X")

    async def scenario() -> None:
        often, seldom = await after_a_second(50), await after_a_second(1)
        assert float(often[4:]) == pytest.approx(float(seldom[4:]), abs=0.5)
        # A first-order filter follows a ramp one time constant (1 s) behind.
        assert float(often[4:]) == pytest.approx(500.0 - 200.0 * (1.0 - 0.1353), abs=2.0)

    run(scenario(), virtual=True)


def test_the_serial_line_takes_its_time() -> None:
    async def scenario() -> None:
        host = await indicator(Spring(1.0), baud=1200, response_time=0.0)
        before = host.clock.now()
        reply = await host.ask("01I")
        bits = 10 * (len("01I\r\n") + len(reply) + 2)
        assert host.clock.now() - before == pytest.approx(bits / 1200)

    run(scenario(), virtual=True)


def test_a_weight_that_does_not_fit_its_characters_is_refused_at_once() -> None:
    async def scenario() -> None:
        with pytest.raises(BadInputError, match="8 characters"):
            await indicator(Spring(), capacity=5e6, division=0.1)

    run(scenario(), virtual=True)


# -- Modbus


@pytest.mark.parametrize(
    ("newtons", "request_frame", "reply"),
    [
        (123.4, "01 03 00 00 00 02 C4 0B", "01 03 04 00 00 04 D2 78 AE"),
        (-5.6, "01 03 00 00 00 02 C4 0B", "01 03 04 FF FF FF C8 BA 71"),
        (123.4, "01 03 00 02 00 01 25 CA", "01 03 02 00 02 39 85"),
        (99999.0, "01 03 00 02 00 01 25 CA", "01 03 02 40 00 89 84"),
        (0.5, "01 10 00 08 00 01 02 00 01 66 D8", "01 10 00 08 00 01 80 0B"),
        (123.4, "01 03 00 21 00 01 D4 00", "01 03 02 00 EB F8 0B"),
    ],
)
def test_documented_frames_are_answered_byte_for_byte(
    newtons: float, request_frame: str, reply: str
) -> None:
    async def scenario() -> None:
        host = await slave(Spring(newtons), supply_voltage=23.5)
        assert await exchange(host, request_frame) == reply

    run(scenario(), virtual=True)


def test_a_moving_weight_shows_bit_two() -> None:
    async def scenario() -> None:
        host = await slave(Spring(100.0, rate=5.0))
        await exchange(host, "01 03 00 02 00 01 25 CA")
        await host.clock.sleep(1.0)
        assert await exchange(host, "01 03 00 02 00 01 25 CA") == "01 03 02 00 06 38 46"

    run(scenario(), virtual=True)


@pytest.mark.parametrize(
    "frame",
    [
        "01 10 00 08 00 01 02 00 02 26 D9",
        "01 10 00 0F 00 01 02 00 05 66 AC",
        "01 10 00 0D 00 01 02 00 04 A6 8E",
        "01 10 00 0E 00 01 02 00 00 A7 7E",
        "01 10 00 09 00 03 06 00 DC 00 00 C3 50 B7 B0",
    ],
)
def test_documented_writes_are_accepted(frame: str) -> None:
    async def scenario() -> None:
        host = await slave(Spring(50.0))
        reply = bytes.fromhex(await exchange(host, frame))
        assert reply[:6] == bytes.fromhex(frame)[:6]
        assert crc(reply[:-2]) == reply[-2:]

    run(scenario(), virtual=True)


def framed(body: str) -> str:
    """A frame with its CRC, as hex."""
    data = bytes.fromhex(body)
    return (data + crc(data)).hex(" ").upper()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("01 06 00 08 00 01", 1),
        ("01 03 00 30 00 01", 2),
        ("01 03 00 0F 00 02", 2),
        ("01 10 00 02 00 01 02 00 00", 2),
        ("01 10 00 08 00 01 02 00 09", 3),
        ("01 03 00 00 00 00", 3),
        ("01 03 00 00 00 7E", 3),
    ],
)
def test_what_cannot_be_done_is_answered_with_an_exception(body: str, code: int) -> None:
    async def scenario() -> None:
        host = await slave(Spring(50.0))
        reply = bytes.fromhex(await exchange(host, framed(body)))
        assert reply[:3] == bytes([1, bytes.fromhex(body)[1] | 0x80, code])
        assert crc(reply[:-2]) == reply[-2:]

    run(scenario(), virtual=True)


def test_the_documented_exception_frame_is_sent_for_an_illegal_value() -> None:
    async def scenario() -> None:
        host = await slave(Spring(50.0))
        assert await exchange(host, framed("01 10 00 0F 00 01 02 00 0A")) == "01 90 03 0C 01"

    run(scenario(), virtual=True)


def test_words_can_be_low_first() -> None:
    async def scenario() -> None:
        host = await slave(Spring(12345.6), word_order="low-high")
        reply = bytes.fromhex(await exchange(host, "01 03 00 00 00 02 C4 0B"))
        low, high = int.from_bytes(reply[3:5], "big"), int.from_bytes(reply[5:7], "big")
        assert (high << 16) + low == 123456

    run(scenario(), virtual=True)


def test_zero_keeps_it_busy_while_the_weight_moves() -> None:
    async def scenario() -> None:
        host = await slave(Spring(0.0, rate=5.0))
        await exchange(host, "01 03 00 02 00 01 25 CA")
        await host.clock.sleep(1.0)
        await exchange(host, "01 10 00 08 00 01 02 00 01 66 D8")
        status = bytes.fromhex(await exchange(host, "01 03 00 02 00 01 25 CA"))
        assert status[4] & 1
        await host.clock.sleep(2.5)
        status = bytes.fromhex(await exchange(host, "01 03 00 02 00 01 25 CA"))
        assert not status[4] & 1

    run(scenario(), virtual=True)


def test_damaged_frames_and_other_addresses_are_not_answered() -> None:
    async def scenario() -> None:
        host = await slave(Spring(50.0))
        with pytest.raises(ReplyTimeoutError):
            await exchange(host, "01 03 00 00 00 02 C4 0C")
        with pytest.raises(ReplyTimeoutError):
            await exchange(host, framed("02 03 00 00 00 02"))
        assert (await exchange(host, "01 03 00 00 00 02 C4 0B")).startswith("01 03 04")

    run(scenario(), virtual=True)


def test_a_frame_may_come_in_pieces_but_not_after_a_pause() -> None:
    async def scenario() -> None:
        host = await slave(Spring(50.0))
        await host.wire.send(bytes.fromhex("01 03 00 00"), 1.0)
        assert (await exchange(host, "00 02 C4 0B")).startswith("01 03 04")
        await host.wire.send(bytes.fromhex("01 03 00 00"), 1.0)
        await host.clock.sleep(1.0)
        assert (await exchange(host, "01 03 00 00 00 02 C4 0B")).startswith("01 03 04")

    run(scenario(), virtual=True)


def test_nak_is_a_slave_failure_in_modbus_and_an_x_in_bsi() -> None:
    async def scenario() -> None:
        clock = Clock("virtual")
        modbus = SimulatedPT113Modbus("lc1", site=Site(frame=Spring(1.0)), clock=clock, options={})
        host, peer = await connect(modbus, clock)
        peer.inject("nak once")
        assert (await exchange(host, "01 03 00 00 00 02 C4 0B")).startswith("01 83 04")
        bsi = SimulatedPT113("lc2", site=Site(frame=Spring(1.0)), clock=clock, options={})
        host, peer = await connect(bsi, clock, b"\r\n")
        peer.inject("nak once; overload once")
        assert await host.ask("01I") == "01IX"
        assert await host.ask("01I") == "01I+"

    run(scenario(), virtual=True)


@given(st.binary(max_size=300))
def test_any_bytes_leave_both_indicators_alive(noise: bytes) -> None:
    async def scenario() -> None:
        modbus = await slave(Spring(12.0))
        await modbus.wire.send(noise, 1.0)
        await modbus.clock.sleep(3.0)
        assert (await exchange(modbus, "01 03 00 02 00 01 25 CA")).startswith("01 03 02")
        bsi = await indicator(Spring(12.0))
        await bsi.wire.send(noise + b"\r\n", 1.0)
        await bsi.clock.sleep(3.0)
        assert (await bsi.ask("01I")).startswith("01I")

    run(scenario(), virtual=True)
