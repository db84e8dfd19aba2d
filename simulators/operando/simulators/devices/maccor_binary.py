"""The binary MacNet protocol of a simulated Maccor tester: four words, then data.

From the vendor's help "Remote Control - MacNet - LabView" (2022): all little-endian. The help
counts replies in bytes, but in its tables (4, 2) to (4, 5) and (4, 9) in channels: an option.
Requests for channels carry no data; files (1, 5) to (1, 7) and smart batteries are not simulated.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from operando.instruments.wires import Line
from operando.simulators.devices import maccor_functions as functions
from operando.simulators.devices.maccor_channel import ChannelTest
from operando.simulators.devices.maccor_messages import Refusal

if TYPE_CHECKING:
    from operando.simulators.devices.maccor import SimulatedMaccor

HEADER = struct.Struct("<4H")
OUTPUT = struct.Struct("<4fBc")
INCREMENTS = struct.Struct("<3f")
SAFETY = struct.Struct("<6f")
READINGS = struct.Struct("<BBHIIH6fQ")
START = struct.Struct("<BB25s25s80sfB")

DATA_LENGTHS = {(6, 7): 55, (6, 8): 18, (6, 9): 5, (6, 10): 24}
"""Bytes after the header where they are fixed, whatever its length says: for (6, 10) the help
says 5."""
NO_DATA = frozenset({(6, 3), (6, 4), (6, 5), (6, 6), (1, 1), (1, 2)})
BY_BITMAP = 65535
NEVER_VERIFIED = bytes(80)
"""Ten dates of 1970, function (3, 2)."""


class BinaryFace:
    """The tester as the port of the binary protocol shows it: a peer beside the tester."""

    def __init__(self, tester: SimulatedMaccor) -> None:
        self._tester = tester
        self._waiting: dict[Line, bytearray] = {}

    def clear(self) -> None:
        """Power is lost: break every connection."""
        for line in tuple(self._waiting):
            line.drop()
        self._waiting.clear()

    def connected(self, line: Line, now: float) -> None:
        """A host opened a connection."""
        self._waiting[line] = bytearray()

    def disconnected(self, line: Line, now: float) -> None:
        """The connection is gone; tests go on."""
        self._waiting.pop(line, None)

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Bytes of a host: answer every request that is complete."""
        waiting = self._waiting.get(line)
        if waiting is None:
            return
        waiting += data
        while len(waiting) >= HEADER.size:
            function_class, number, chan, length = HEADER.unpack_from(waiting)
            size = HEADER.size + _data_length(function_class, number, length)
            if len(waiting) < size:
                break
            request = bytes(waiting[:size])
            del waiting[:size]
            reply = self._answer((function_class, number), chan, length, request, now)
            self._tester.reply(line, reply, now)

    def _answer(
        self, key: tuple[int, int], chan: int, length: int, request: bytes, now: float
    ) -> bytes:
        """The reply; what is not known or refused has a header alone (assumed)."""
        if key[0] == 0:
            return request
        self._tester.look(now)
        handler = HANDLERS.get(key)
        body, counted = b"", 0
        if handler is not None and not self._tester.refusing():
            try:
                body, counted = handler(self._tester, chan, length, request[HEADER.size :], now)
            except (Refusal, struct.error):
                body, counted = b"", 0
        in_bytes = not counted or self._tester.binary_length == "bytes"
        told = len(body) if in_bytes else counted
        return HEADER.pack(*key, chan, told) + body


def _data_length(function_class: int, number: int, length: int) -> int:
    if function_class in (3, 4) or (function_class, number) in NO_DATA:
        return 0
    return DATA_LENGTHS.get((function_class, number), length)


Handled = tuple[bytes, int]
"""Data of a reply, and how many channels or inputs they are; 0 where that is not counted."""
Handler = Callable[["SimulatedMaccor", int, int, bytes, float], Handled]


def _bytes(data: bytes) -> Handled:
    return data, 0


def _code(code: int) -> Handled:
    return struct.pack("<H", code), 0


def _text(data: bytes) -> str:
    return data.decode("latin-1").rstrip(" \0")


def _padded(text: str, length: int) -> bytes:
    return text.encode("latin-1", "replace")[:length].ljust(length)


def _milliseconds(unix: float) -> int:
    return max(0, round(unix * 1000.0))


def _versions(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    # Build times of the vendor's JSON example.
    return _bytes(struct.pack("<HHBBHBBQQ", 1, 18, 2, 3, 18, 2, 3, 1478617378000, 1479036569000))


def _system(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    count = tester.channel_count
    boards = -(-count // functions.CONTROLLERS_OF)
    aux = sum(len(channel.stage.aux) for channel in tester.channels.values())
    offset = 0  # ChannelNumberOffset of System.ini
    head = _padded(tester.identity, 50) + struct.pack("<B", tester.system_type)
    return _bytes(head + struct.pack("<6HI", boards, count, 1, aux, 0, 0, offset))


def _exists(known: Callable[[SimulatedMaccor], object]) -> Handler:
    def handle(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
        names = known(tester)
        assert isinstance(names, dict)
        return _bytes(bytes([_text(data) in names]))

    return handle


def _specification(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    several = tester.several(chan, max(length, 1))
    values = [value for c in several for value in functions.specified(c.stage.spec)]
    return _bytes(struct.pack(f"<{len(values)}f", *values))


def _calibration(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    tester.channel(chan)
    return _bytes(NEVER_VERIFIED)


def _states(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    several = tester.several(chan, length)
    return _bytes(b"".join(struct.pack("<BBH", c.rf1, c.rf2, c.stat) for c in several))


def _voltages(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    several = tester.several(chan, length)
    return struct.pack(f"<{length}f", *(c.reading(now)[0] for c in several)), length


def _currents(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    several = tester.several(chan, length)
    told = (functions.told_current(tester, c.rf1, c.reading(now)[1]) for c in several)
    return struct.pack(f"<{length}f", *told), length


def _times(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    several = tester.several(chan, length)
    return struct.pack(f"<{length}f", *(c.snapshot(now).test_time for c in several)), length


def _aux_values(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    values = tester.channel(chan).stage.auxiliary(now)
    return struct.pack(f"<{len(values)}f", *values), len(values)


def _aux_units(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    units = tester.channel(chan).stage.aux
    return b"".join(_padded(unit, 4) for unit in units), len(units)


def _names(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    test = tester.channel(chan).test
    fields = ((test.name, 25), (test.comment, 80), (test.procedure, 25), ("", 80))
    return _bytes(b"".join(_padded(text, size) for text, size in fields))


def _everything(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    seen = tester.channel(chan).snapshot(now)
    return _bytes(
        READINGS.pack(
            seen.rf1,
            seen.rf2,
            seen.stat,
            seen.records,
            seen.cycle,
            seen.step,
            seen.test_time,
            seen.step_time,
            seen.capacity,
            seen.energy,
            functions.told_current(tester, seen.rf1, seen.current),
            seen.voltage,
            _milliseconds(tester.local_time(now)),
        )
    )


def _variables(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    return _bytes(struct.pack("<I15f", tester.global_flags, *tester.channel(chan).variables))


def _end_status(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    test = tester.channel(chan).test
    return _bytes(struct.pack("<HH", test.ends, test.end))


def _set_flags(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    (tester.global_flags,) = struct.unpack("<I", data[:4])
    return _bytes(data[:4])


def _select(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    if chan != BY_BITMAP:
        tester.channel(chan).select()
        return b"", 0
    for index in range(min(8 * len(data), tester.channel_count)):
        channel = tester.channel(index)
        # A bit chooses; without it a selected channel becomes available.
        if channel.free and bool(data[index // 8] >> index % 8 & 1) != (channel.stat == 1):
            channel.select()
    return b"", 0


def _start(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    _, _, name, procedure, comment, capacity, chamber = START.unpack_from(data)
    if chan == BY_BITMAP:
        chosen = [channel for channel in tester.channels.values() if channel.stat == 1]
    else:
        chosen = [tester.channel(chan)]
    wanted = ChannelTest(_text(name), _text(procedure), _text(comment))
    return _code(functions.start_all(tester, chosen, now, wanted, _finite(capacity), chamber))


def _check_start(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    _, _, name, procedure, _, _, chamber = START.unpack_from(data)
    return _code(tester.check_start(tester.channel(chan), _text(name), _text(procedure), chamber))


def _suspend(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    tester.channel(chan).suspend(now)
    return b"", 0


def _resume(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    tester.channel(chan).resume(now)
    return b"", 0


def _reset(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    tester.channel(chan).reset(now)
    return b"", 0


def _archive(tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float) -> Handled:
    tester.channel(chan).archive(now)
    return b"", 0


def _finite(value: float) -> float:
    """A single-precision number that is one; beyond every range otherwise."""
    return value if abs(value) <= 3e38 else 3e38


def _start_direct(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    channel = tester.channel(chan)
    *values, current_range, mode = OUTPUT.unpack_from(data, 25)
    increments = INCREMENTS.unpack_from(data, 25 + OUTPUT.size)
    points = [_finite(value) for value in values]
    output = functions.set_points(
        channel.stage.spec, mode.decode("latin-1"), current_range, *points
    )
    time, voltage, current = (_finite(value) for value in increments)
    return _code(
        functions.begin_direct(
            tester, channel, now, _text(data[:25]), output, (time, voltage, current)
        )
    )


def _direct_output(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    channel = tester.channel(chan - tester.binary_direct_offset)
    *values, current_range, mode = OUTPUT.unpack(data)
    points = [_finite(value) for value in values]
    output = functions.set_points(
        channel.stage.spec, mode.decode("latin-1"), current_range, *points
    )
    return _code(1 if tester.system_type != 0 else channel.set_direct(now, output))


def _set_variable(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    number, value = struct.unpack("<Bf", data)
    variables = tester.channel(chan).variables
    if 1 <= number <= len(variables):
        variables[number - 1] = _finite(value)
    return b"", 0


def _set_safety(
    tester: SimulatedMaccor, chan: int, length: int, data: bytes, now: float
) -> Handled:
    channel = tester.channel(chan)
    values = tuple(_finite(value) for value in SAFETY.unpack(data))
    channel.set_safety(now, functions.safety_of(channel.stage.spec, values))
    return _bytes(data)


HANDLERS: dict[tuple[int, int], Handler] = {
    (1, 1): _versions,
    (1, 2): _system,
    (1, 3): _exists(lambda tester: tester.procedures),
    (1, 4): _exists(lambda tester: tester.archive),
    (3, 1): _specification,
    (3, 2): _calibration,
    (4, 1): _states,
    (4, 2): _voltages,
    (4, 3): _currents,
    (4, 4): _aux_values,
    (4, 5): _aux_units,
    (4, 6): _names,
    (4, 7): _everything,
    (4, 8): _variables,
    (4, 9): _times,
    (4, 10): _end_status,
    (5, 1): _set_flags,
    (6, 1): _select,
    (6, 2): _start,
    (6, 3): _suspend,
    (6, 4): _resume,
    (6, 5): _reset,
    (6, 6): _archive,
    (6, 7): _start_direct,
    (6, 8): _direct_output,
    (6, 9): _set_variable,
    (6, 10): _set_safety,
    (6, 11): _check_start,
}
