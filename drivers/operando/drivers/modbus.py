"""The little of Modbus RTU that instruments here need: functions 03 and 16 as a master.

Source: Modbus application protocol V1.1b3 and serial line guide V1.02 (modbus.org).
"""

from __future__ import annotations

from operando.instruments.wires import Sized

READ = 0x03
WRITE = 0x10
EXCEPTION = 0x80

SILENCE = 0.005
"""s between frames: 3.5 characters at 9600 baud are 4 ms (serial line guide 2.5.1.1)."""

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal register address",
    3: "illegal value",
    4: "device failure",
}


class ModbusExceptionError(Exception):
    """The slave answered with an exception. code: its number. text: what it means."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.text = EXCEPTIONS.get(code, "unknown exception")
        super().__init__(f"exception {code}: {self.text}")


class ModbusFrameError(Exception):
    """A reply is damaged or belongs to another request."""


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        row = byte
        for _ in range(8):
            row = (row >> 1) ^ 0xA001 if row & 1 else row >> 1
        rows.append(row)
    return tuple(rows)


_TABLE = _table()


def crc(data: bytes) -> bytes:
    """Check sum of a frame, low byte first, as it goes on the wire."""
    value = 0xFFFF
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")


def read_request(slave: int, register: int, count: int) -> bytes:
    """Read `count` holding registers from the 0-based `register`."""
    body = bytes((slave, READ)) + register.to_bytes(2, "big") + count.to_bytes(2, "big")
    return body + crc(body)


def write_request(slave: int, register: int, values: tuple[int, ...]) -> bytes:
    """Write holding registers from the 0-based `register`."""
    body = bytes((slave, WRITE)) + register.to_bytes(2, "big") + len(values).to_bytes(2, "big")
    body += bytes((2 * len(values),)) + b"".join(value.to_bytes(2, "big") for value in values)
    return body + crc(body)


def _length(data: bytes) -> int:
    """Bytes of the reply that begins like this; what is no reply ends at once."""
    function = data[1]
    if function == READ:
        return 5 + data[2]
    if function == WRITE:
        return 8
    if function & EXCEPTION:
        return 5
    return len(data)


REPLY = Sized(3, _length)


def _open(reply: bytes, slave: int, function: int) -> bytes:
    """What a reply carries between its function and its check sum."""
    if len(reply) < 5 or crc(reply[:-2]) != reply[-2:]:
        raise ModbusFrameError("the check sum does not match")
    if reply[0] != slave:
        raise ModbusFrameError(f"it comes from slave {reply[0]}, not {slave}")
    if reply[1] == function | EXCEPTION:
        raise ModbusExceptionError(reply[2])
    if reply[1] != function:
        raise ModbusFrameError(f"it answers function {reply[1]}, not {function}")
    return reply[2:-2]


def read_reply(reply: bytes, slave: int, count: int) -> tuple[int, ...]:
    """Registers of a reply to `read_request`. Raises ModbusExceptionError, ModbusFrameError."""
    body = _open(reply, slave, READ)
    if body[0] != 2 * count or len(body) != 1 + 2 * count:
        raise ModbusFrameError(f"it carries {body[0]} bytes instead of {2 * count}")
    return tuple(int.from_bytes(body[at : at + 2], "big") for at in range(1, 1 + 2 * count, 2))


def write_reply(reply: bytes, slave: int, register: int, count: int) -> None:
    """Check a reply to `write_request`. Raises ModbusExceptionError, ModbusFrameError."""
    body = _open(reply, slave, WRITE)
    if body != register.to_bytes(2, "big") + count.to_bytes(2, "big"):
        raise ModbusFrameError(f"it confirms {body.hex(' ')}, not {count} at {register:#06x}")
