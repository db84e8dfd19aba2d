"""A small Modbus RTU slave: framing, CRC, functions 03 and 16, exceptions.

Written from MODBUS over Serial Line V1.02 and MODBUS Application Protocol V1.1b3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, SLAVE_FAILURE = 1, 2, 3, 4

READ_HOLDING_REGISTERS = 0x03
WRITE_MULTIPLE_REGISTERS = 0x10

MOST_READ = 125
MOST_WRITTEN = 123

BROADCAST = 0


class ModbusRefusal(Exception):  # noqa: N818 - the protocol's word is exception
    """A request that is answered with an exception. code: 1 to 4."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:02d}")
        self.code = code


def crc(frame: bytes) -> bytes:
    """CRC-16 of a frame, low byte first: polynomial 0xA001, start 0xFFFF."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


class RtuSlave:
    """Turns bytes into requests and replies.

    address: 1 to 247. read: (start, count, now) to registers. write: (start, values, now). Both
    may raise ModbusRefusal; addresses are the zero-based ones of the wire.
    """

    def __init__(
        self,
        address: int,
        read: Callable[[int, int, float], list[int]],
        write: Callable[[int, list[int], float], None],
    ) -> None:
        self._address = address
        self._read = read
        self._write = write

    def receive(self, buffer: bytearray, now: float) -> Iterator[tuple[int, bytes]]:
        """Take complete frames out of a buffer; gives (length of request, reply) for each.

        A damaged frame, or one for another slave, is dropped without a word.
        """
        while len(buffer) >= 4:
            length = self._length(buffer)
            if length == 0:
                return
            frame = bytes(buffer[:length])
            if crc(frame[:-2]) != frame[-2:]:
                # Nothing tells where the next frame begins: only a pause does.
                buffer.clear()
                return
            del buffer[:length]
            if frame[0] not in (self._address, BROADCAST):
                continue
            reply = self._answer(frame[1:-2], now)
            if frame[0] != BROADCAST:
                body = frame[:1] + reply
                yield length, body + crc(body)

    @staticmethod
    def _length(buffer: bytearray) -> int:
        """Length of the first frame; 0 while it is incomplete."""
        function = buffer[1]
        if function == READ_HOLDING_REGISTERS or function in (1, 2, 4, 5, 6):
            length = 8
        elif function == WRITE_MULTIPLE_REGISTERS:
            if len(buffer) < 7:
                return 0
            length = 9 + buffer[6]
        else:
            # Unknown functions have no known length: the frame is what came in one piece.
            length = len(buffer)
        return length if len(buffer) >= length else 0

    def _answer(self, request: bytes, now: float) -> bytes:
        function = request[0]
        try:
            if function == READ_HOLDING_REGISTERS:
                return self._answer_read(request, now)
            if function == WRITE_MULTIPLE_REGISTERS:
                return self._answer_write(request, now)
            raise ModbusRefusal(ILLEGAL_FUNCTION)
        except ModbusRefusal as refusal:
            return bytes([function | 0x80, refusal.code])

    def _answer_read(self, request: bytes, now: float) -> bytes:
        start = int.from_bytes(request[1:3], "big")
        count = int.from_bytes(request[3:5], "big")
        if not 1 <= count <= MOST_READ:
            raise ModbusRefusal(ILLEGAL_VALUE)
        registers = self._read(start, count, now)
        data = b"".join((register & 0xFFFF).to_bytes(2, "big") for register in registers)
        return bytes([request[0], len(data)]) + data

    def _answer_write(self, request: bytes, now: float) -> bytes:
        start = int.from_bytes(request[1:3], "big")
        count = int.from_bytes(request[3:5], "big")
        data = request[6:]
        if not 1 <= count <= MOST_WRITTEN or len(data) != 2 * count or request[5] != len(data):
            raise ModbusRefusal(ILLEGAL_VALUE)
        values = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
        self._write(start, values, now)
        return request[:5]
