"""What MethodSCRIPT instruments send: lines, data packages, their metadata, errors.

Documents: PalmSens MethodSCRIPT examples (`mscript.py`, the README captures), the communication
protocol pages of the PalmSens SDK and its error tables. Nothing here has a check sum: a digit
that was changed on the way into another digit cannot be noticed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from operando.instruments.samples import Status
from operando.instruments.wires import Sized

OFFSET = 1 << 27
"""Zero of the seven hexadecimal digits of a value."""

DIVISORS = {"a": 1e18, "f": 1e15, "p": 1e12, "n": 1e9, "u": 1e6, "m": 1e3, " ": 1.0, "i": 1.0}
MULTIPLES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
"""SI prefixes of a value; "i" is an integer."""

NAN = "     nan"

TIMING, OVERLOAD, UNDERLOAD, NEARLY_OVERLOADED = 1, 2, 4, 8
"""Bits of a variable's status."""

TEXTS = {
    0x0001: "unspecified error",
    0x0003: "unknown command",
    0x0006: "not allowed in this communication mode",
    0x0007: "argument value not accepted",
    0x0008: "line too long",
    0x0009: "command timed out",
    0x000B: "no memory for a variable",
    0x000C: "no script loaded",
    0x000F: "potential not allowed",
    0x0010: "a variable is not a number or infinite",
    0x0011: "EIS frequency not valid",
    0x0012: "EIS amplitude not valid",
    0x0014: "open-circuit measurement needs the cell off",
    0x0019: "authentication invalid",
    0x001A: "calibration invalid",
    0x001B: "not supported by this device",
    0x001C: "a step smaller than the instrument resolves",
    0x001F: "technique not licensed",
    0x0021: "potentiostat mode not supported",
    0x0023: "command not allowed in this potentiostat mode",
    0x0024: "too many variables to measure",
    0x0028: "division by zero",
    0x0032: "critical cell overload, the measurement was stopped",
    0x0052: "UART overrun",
    0x0058: "timing error in a fast measurement",
    0x005A: "the timing asked for is not possible",
    0x0080: "the counter electrode oscillates",
    0x0082: "system warnings must be cleared first",
    0x7FFF: "fatal error, the device must be reset",
    0x4001: "unknown script command",
    0x4004: "unexpected character",
    0x4005: "script too large",
    0x400B: "nested measurement loops",
    0x400C: "not supported in this situation",
    0x401A: "not inside a measurement loop",
    0x401B: "package commands in a wrong order",
    0x4027: "needs the cell on",
    0x4028: "needs the cell off",
    0x4029: "a technique needs one step at the least",
    0x4032: "potential (or its range) cannot be set inside the loop",
    0x4033: "current (or its range) cannot be set inside the loop",
    0x4034: "feature not licensed",
    0x4037: "arithmetic overflow",
    0x4203: "value out of bounds",
    0x4206: "not for this instrument",
}
"""Those errors of the vendor's some 320 that a driver's scripts can meet; others go by number."""

_VARIABLE = re.compile(
    r"([a-z]{2})(?:([0-9A-Fa-f]{7})([afpnum kMGTPEi])|(     nan))((?:,[^,;]*)*)", re.ASCII
)
_ERROR = re.compile(rb"([A-LNOQ-SU-Za-z]?)!([0-9A-Fa-f]{4})(:[ -~]*)?")
_FLOW_CONTROL = b"\x11\x13"
_MARK = re.compile(rb"e|e?[MC][0-9A-Fa-f]{4}|[L+*\-hHZYR]|T[ -~]*")
_PRINTABLE = re.compile(rb"[ -~]*")

OPENING = {"M": "*", "L": "+", "C": "-"}
"""What closes a measurement loop, a loop, a scan."""


class Variable(NamedTuple):
    """One measured variable. kind: its two letters. value: SI. flags: status bits.

    current_range: index of a range of the model, None when not sent.
    """

    kind: str
    value: float
    flags: int
    range: int | None

    @property
    def status(self) -> Status:
        """How far it can be trusted. Close to an overload is still inside the range."""
        if self.flags & OVERLOAD:
            return Status.OVERLOAD
        if math.isnan(self.value):
            return Status.FAULT
        if self.flags & UNDERLOAD:
            return Status.UNDERLOAD
        return Status.UNSTABLE if self.flags & TIMING else Status.OK


class Trouble(NamedTuple):
    """An error that the instrument reports. code: its number. place: line and column, if told."""

    code: int
    text: str
    place: str


class Point(NamedTuple):
    """One point of a running step.

    time: s on the instrument's clock since the step began. voltage: V. current: A.
    stage: which part of the script sent it.
    """

    time: float
    voltage: float
    current: float
    stage: int
    status: Status


def package(line: bytes) -> tuple[Variable, ...]:
    """Decode a data package, `P` included, no terminator. Raises ValueError."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("not ASCII") from None
    if not text.startswith("P"):
        raise ValueError("a package begins with P")
    return tuple(_variable(part) for part in text[1:].split(";"))


def _variable(text: str) -> Variable:
    found = _VARIABLE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a variable")
    kind, digits, prefix, invalid, rest = found.groups()
    flags, current_range = _metadata(rest)
    if invalid:
        return Variable(kind, math.nan, flags, current_range)
    count = int(digits, 16) - OFFSET
    divisor = DIVISORS.get(prefix)
    # Division rounds once; a product with 1e-6 would round twice.
    value = count / divisor if divisor else count * MULTIPLES[prefix]
    return Variable(kind, value, flags, current_range)


def _metadata(text: str) -> tuple[int, int | None]:
    flags, current_range, seen = 0, None, set()
    for field in text.split(",")[1:]:
        kind, digits = field[:1], field[1:]
        if kind in seen or re.fullmatch(r"[0-9A-Fa-f]+", digits) is None:
            raise ValueError(f"{field!r} is not metadata")
        seen.add(kind)
        if kind == "1" and len(digits) == 1:
            flags = int(digits, 16)
        elif kind == "2" and len(digits) == 2:
            current_range = int(digits, 16)
        elif kind != "4":  # noise of newer firmware, content not documented
            raise ValueError(f"{field!r} is not metadata")
    return flags, current_range


def gravest(*variables: Variable) -> Status:
    """The status of several variables together: that of the worst."""
    found = {variable.status for variable in variables}
    order = (Status.OVERLOAD, Status.FAULT, Status.UNDERLOAD, Status.UNSTABLE)
    return next((one for one in order if one in found), Status.OK)


VOLTAGES = frozenset({"ab", "da"})
CURRENTS = frozenset({"ba", "db"})


def point(line: bytes) -> Point:
    """A point of our own scripts: time, stage, potential and, unless at rest, current.

    Raises ValueError when it is anything else.
    """
    variables = package(line)
    if len(variables) not in (3, 4) or variables[0].kind != "eb" or variables[1].kind != "ja":
        raise ValueError("not a point of a script of this driver")
    time, stage, potential = variables[:3]
    if potential.kind not in VOLTAGES or not time.value >= 0.0 or stage.value not in (0, 1, 2, 3):
        raise ValueError("not a point of a script of this driver")
    if (len(variables) == 4) != (stage.value != 0):
        raise ValueError("a current at rest, or none in a step")
    electrical = [potential]
    current = 0.0
    if len(variables) == 4:
        if variables[3].kind not in CURRENTS:
            raise ValueError("not a current")
        electrical.append(variables[3])
        current = variables[3].value
    status = gravest(*electrical)
    voltage = potential.value
    if status is Status.OVERLOAD:
        voltage = math.nan if electrical[0].status is Status.OVERLOAD else voltage
        current = math.nan if electrical[-1].status is Status.OVERLOAD and current else current
    return Point(time.value, voltage, current, int(stage.value), status)


class PointClock:
    """When points were made, by the instrument's timer; laboratory time, s.

    drift: most by which the two clocks may differ, as a fraction. begun: when the script was sent
    at the earliest; unknown for one that ran before.
    """

    def __init__(self, drift: float, begun: float = -math.inf) -> None:
        self._drift = drift
        self._begun = begun
        # Laboratory time of the timer's zero, by the fastest point so far.
        self._zero = math.inf
        self._last = 0.0

    @property
    def zero(self) -> float:
        """Laboratory time at which the timer was started, s; infinite before the first point."""
        return self._zero

    def made(self, time: float, arrival: float) -> float:
        """When a point was made that the timer stamps `time` and that came at `arrival`.

        Raises ValueError for a stamp that lies in the future: it would move all that follow.
        """
        if time > (1.0 + self._drift) * (arrival - self._begun):
            raise ValueError(f"{time:g} s of a step that began {arrival - self._begun:g} s ago")
        self._zero += self._drift * max(0.0, time - self._last)
        self._last = time
        self._zero = min(self._zero, arrival - time)
        return min(arrival, self._zero + time)


class Impedance(NamedTuple):
    """One point of a spectrum as it is sent.

    time: s on the instrument's clock since the script began. frequency: Hz. real, imaginary: ohm,
    capacitive is negative. range: index of the current range, None when not told.
    """

    time: float
    frequency: float
    real: float
    imaginary: float
    status: Status
    range: int | None


def impedance(line: bytes) -> Impedance:
    """A point of a spectrum of ours: time, frequency, Z' and Z''. Raises ValueError."""
    variables = package(line)
    if [variable.kind for variable in variables] != ["eb", "dc", "cc", "cd"]:
        raise ValueError("not a point of a spectrum of this driver")
    time, frequency, real, imaginary = variables
    if not time.value >= 0.0:
        raise ValueError("a time before the script began")
    status = gravest(real, imaginary)
    return Impedance(time.value, frequency.value, real.value, imaginary.value, status, real.range)


def trouble(line: bytes) -> Trouble | None:
    """The error that a line reports, None when it reports none."""
    found = _ERROR.fullmatch(line)
    if found is None:
        return None
    code = int(found[2], 16)
    place = (found[3] or b":").decode("ascii")[1:].strip()
    text = TEXTS.get(code, f"error {code:04X} of the vendor's table")
    return Trouble(code, text + (f" ({place})" if place else ""), place)


def is_known(line: bytes) -> bool:
    """Whether a line is of a form that a running script sends."""
    return (
        not line
        or line.startswith(b"P")
        or _MARK.fullmatch(line) is not None
        or _ERROR.fullmatch(line) is not None
    )


def is_fragment(line: bytes) -> bool:
    """Whether a line can be the rest of one whose beginning was not heard."""
    return _PRINTABLE.fullmatch(line) is not None


def lines_of(data: bytes) -> list[bytes]:
    """The complete lines in `data`, without terminators and flow control characters."""
    return data.translate(None, _FLOW_CONTROL).split(b"\n")[:-1]


Finished = Callable[[Sequence[bytes]], bool]
"""Whether the lines so far are the whole of what was waited for."""


def until(finished: Finished, hurry: Callable[[], bool] = lambda: False) -> Sized:
    """A framing that takes whole lines until they are `finished`, or at once when in a `hurry`."""

    def length(data: bytes) -> int:
        # Whatever came behind the line that finishes belongs to nobody: it is discarded.
        lines: list[bytes] = []
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            lines.append(data[at:end].translate(None, _FLOW_CONTROL))
            at = end + 1
            if finished(lines):
                return at
        return len(data) if hurry() else len(data) + 1

    return Sized(1, length)


def first(pattern: re.Pattern[bytes]) -> Finished:
    """Finished with a line of a form, or with one that no script sends."""
    return lambda lines: pattern.fullmatch(lines[-1]) is not None or unheard_of(lines)


def unheard_of(lines: Sequence[bytes]) -> bool:
    """Whether the last line is garbled; the first may be the rest of a line not heard in full."""
    last = lines[-1]
    return not is_known(last) and (len(lines) > 1 or not is_fragment(last))


def end_of_script(lines: Sequence[bytes]) -> bool:
    """Finished with the empty line that ends a script, or with its refusal."""
    if not lines[-1]:
        return True
    return len(lines) == 1 and trouble(lines[0]) is not None


def next_point(lines: Sequence[bytes]) -> bool:
    """Finished with a point, an error, garbage, or the end of the script.

    An empty line that comes first may be the rest of one that was not heard.
    """
    last = lines[-1]
    if not last:
        return len(lines) > 1
    return last.startswith(b"P") or trouble(last) is not None or unheard_of(lines)


def started_or_refused(lines: Sequence[bytes]) -> bool:
    """Finished with the first point after the acknowledgement, or with what came instead."""
    return next_point(lines) or not lines[-1]


def renewed(lines: Sequence[bytes]) -> bool:
    """Finished with a point made after the answer to Y, or with what came instead."""
    answered = b"Y" in lines[:-1]
    if lines[-1].startswith(b"P"):
        return answered
    return next_point(lines)


def check_nesting(lines: Iterable[bytes]) -> None:
    """Hold a script's whole output against the grammar of its marks. Raises ValueError.

    lines: from the acknowledgement to the empty line, both included.
    """
    rest = list(lines)
    if not rest or rest[-1] or not rest[0].startswith(b"e"):
        raise ValueError("a script's output begins with e and ends with an empty line")
    if len(rest[0]) > 1:
        rest[0] = rest[0][1:]
    else:
        rest.pop(0)
    waiting: list[str] = []
    failed = False
    for line in rest[:-1]:
        if failed or not is_known(line) or not line or line == b"e":
            raise ValueError(f"{line!r} does not belong here")
        mark = line[:1].decode("ascii")
        if mark in OPENING:
            waiting.append(OPENING[mark])
        elif mark in OPENING.values():
            if not waiting or waiting.pop() != mark:
                raise ValueError(f"{mark} closes what was not opened")
        elif mark == "P" and not waiting:
            raise ValueError("a package outside of a loop")
        failed = mark == "!"
    if waiting and not failed:
        raise ValueError(f"{''.join(waiting)} is missing")
