"""Modbus frames against the vectors of the PT113 and Keller documents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers import modbus

VECTORS = [
    "01 03 00 00 00 02 C4 0B",
    "01 03 04 00 00 04 D2 78 AE",
    "01 03 00 02 00 01 25 CA",
    "01 10 00 08 00 01 02 00 01 66 D8",
    "01 10 00 0F 00 01 02 00 05 66 AC",
    "01 10 00 0D 00 01 02 00 04 A6 8E",
    "01 10 00 0E 00 01 02 00 00 A7 7E",
    "01 10 00 09 00 03 06 00 DC 00 00 C3 50 B7 B0",
    "01 03 00 21 00 01 D4 00",
    "01 03 02 00 EB F8 0B",
    "01 90 03 0C 01",
]

register = st.integers(0, 0xFFFF)
slave = st.integers(1, 247)


@pytest.mark.parametrize("text", VECTORS)
def test_the_check_sum_agrees_with_the_documents(text: str) -> None:
    frame = bytes.fromhex(text)
    assert modbus.crc(frame[:-2]) == frame[-2:]


def test_requests_are_those_of_the_manual() -> None:
    assert modbus.read_request(1, 0, 2).hex(" ").upper() == VECTORS[0]
    assert modbus.write_request(1, 9, (0xDC, 0, 0xC350)).hex(" ").upper() == VECTORS[7]


def test_replies_of_the_manual_are_read() -> None:
    assert modbus.read_reply(bytes.fromhex(VECTORS[1]), 1, 2) == (0, 1234)
    with pytest.raises(modbus.ModbusExceptionError, match="exception 3: illegal value"):
        modbus.write_reply(bytes.fromhex(VECTORS[10]), 1, 8, 1)


@given(slave, st.lists(register, min_size=1, max_size=20))
def test_a_reply_is_complete_exactly_when_its_last_byte_has_come(
    address: int, values: list[int]
) -> None:
    body = bytes((address, 3, 2 * len(values)))
    body += b"".join(value.to_bytes(2, "big") for value in values)
    frame = body + modbus.crc(body)
    for size in range(len(frame)):
        assert modbus.REPLY.find_end(frame[:size]) == 0
    assert modbus.REPLY.find_end(frame + b"\x00") == len(frame)
    assert modbus.read_reply(frame, address, len(values)) == tuple(values)


@given(st.binary(max_size=40))
def test_noise_is_refused_and_never_read(noise: bytes) -> None:
    end = modbus.REPLY.find_end(noise)
    assert 0 <= end <= len(noise)
    if end and modbus.crc(noise[: end - 2]) != noise[end - 2 : end]:
        with pytest.raises(modbus.ModbusFrameError):
            modbus.read_reply(noise[:end], 1, 1)


@given(st.integers(0, 6), st.integers(1, 255))
def test_one_changed_byte_is_always_noticed(position: int, change: int) -> None:
    frame = bytearray.fromhex("01 03 02 00 EB F8 0B")
    frame[position] ^= change
    with pytest.raises((modbus.ModbusFrameError, modbus.ModbusExceptionError)):
        modbus.read_reply(bytes(frame), 1, 1)
