"""MethodSCRIPT on board: a script as a generator that asks to be woken at times of its clock."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass

from operando.simulators.devices.palmsens_packages import TIMING_NOT_MET, TYPES, Variable, write
from operando.simulators.devices.palmsens_script import (
    PACKAGE_SEQUENCE,
    AbortLoop,
    AbortScript,
    BreakLoop,
    Condition,
    Reference,
    Script,
    ScriptFault,
    Statement,
    Text,
)
from operando.simulators.devices.palmsens_stage import PotentiostatStage
from operando.simulators.devices.palmsens_techniques import TECHNIQUES

BAD_VARIABLE_TYPE = 0x0002
BAD_ARGUMENT = 0x0007
NO_MEMORY = 0x000B
NOT_A_NUMBER = 0x0010
OCP_NEEDS_CELL_OFF = 0x0014
DIVISION_BY_ZERO = 0x0028
UNSUPPORTED_TYPE = 0x0084
ARRAY_INDEX = 0x400F
ARRAY_SIZE = 0x4017
TOO_MANY_VARIABLES = 0x401C
NEEDS_CELL_ON = 0x4027
NO_POTENTIAL_IN_LOOP = 0x4032
NO_CURRENT_IN_LOOP = 0x4033
OVERFLOW = 0x4037
OUTPUT_MODE = 0x403C
MUST_NOT_BE_NEGATIVE = 0x4200
MUST_BE_POSITIVE = 0x4204
WRONG_NUMBER_KIND = 0x4207

MOST_VARIABLES = 33
"""In one package (assumed)."""
LARGEST_ARRAY = 1 << 17
"""Elements (assumed)."""
LATE = 1e-6
"""A measurement that comes later than this was too late for its interval, s."""

SLICE = 1e-3
"""How far the script's clock may run ahead before the script waits, s."""

Task = Generator[float, float, None]
"""Yields the time at which it wants to go on (s), is sent the time at which it does."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(slots=True)
class Timing:
    """What the instrument needs: instruction: time of a statement, s; relay: to switch, s."""

    instruction: float
    relay: float


class Interpreter:
    """One run of one script.

    emit: puts a line (without its end) out at a time, s, and tells whether the script must wait
    before it puts out more. The script has a clock of its own, `at`,
    which follows its intervals exactly and stands still while it is halted; `lab` is the same
    moment in laboratory time, and `now` is when it was really woken, which is what the cell sees.
    """

    def __init__(
        self,
        script: Script,
        stage: PotentiostatStage,
        emit: Callable[[str, float], bool],
        timing: Timing,
        now: float,
        *,
        booted: float = 0.0,
        noise_metadata: bool = False,
    ) -> None:
        self._script = script
        self.stage = stage
        self._emit = emit
        self._timing = timing
        self._booted = booted
        self._noise_metadata = noise_metadata
        self._variables: dict[str, Variable] = {}
        self._arrays: dict[str, list[Variable]] = {}
        self._package: list[str] | None = None
        self._timer = self._interval_end = now
        self._halts = 0.0
        self._congested = False
        self._interval = 0.0
        self._output = 1
        self._line = 0
        self.at = self.now = now
        self.in_measurement = False
        self.reverse = False
        self.started = False
        self.finishing = False

    # -- running

    def run(self) -> Task:
        """Carry out the script; its last line is the empty one, or an error."""
        self.started = True
        self.stage.begin_script()
        try:
            with suppress(AbortScript):
                yield from self._carry_out(self._script.main)
            self.finishing = True
            yield from self._carry_out(self._script.finish)
        except AbortScript:
            pass
        except ScriptFault as fault:
            self._emit(f"!{fault.code:04X}: Line {self._line}", self.lab)
            return
        self._emit("", self.lab)

    @property
    def lab(self) -> float:
        """Laboratory time of the script's clock, s."""
        return self.at + self._halts

    def halted(self, seconds: float) -> None:
        """The script's clock stood still for some seconds."""
        self._halts += seconds

    def stall(self, now: float) -> None:
        """The script could not go on before laboratory time `now` (s)."""
        self.at = max(self.at, now - self._halts)

    def interrupt(self, now: float) -> None:
        """A wait is cut short: the script's clock goes back to laboratory time `now` (s)."""
        self.at = min(self.at, now - self._halts)
        self.now = now

    @property
    def line(self) -> int:
        """Line that is carried out."""
        return self._line

    def wait_until(self, at: float) -> Task:
        """Sleep until a time of the script's clock."""
        self.at = max(self.at, at)
        self.now = yield self.lab

    def say(self, text: str) -> None:
        """Put out a marker of the stream."""
        self._congested = self._emit(text, self.lab)

    def _carry_out(self, statements: Iterable[Statement]) -> Task:
        for statement in statements:
            self._line = statement.line
            self.at += self._timing.instruction
            if self._congested or self.lab > self.now + SLICE:
                self._congested = False
                self.now = yield self.lab
            handler = _HANDLERS.get(statement.name)
            if handler is not None:
                handler(self, statement)
            elif statement.name == "loop":
                yield from self._loop(statement)
            elif statement.name == "if":
                yield from self._branch(statement)
            elif statement.name in TECHNIQUES:
                yield from self._measurement_loop(statement)
            elif statement.name == "meas":
                yield from self._measure(statement)
            elif statement.name in ("cell_on", "cell_off"):
                yield from self._relay(statement)
            elif statement.name == "wait":
                yield from self.wait_until(self.at + self.positive(statement.arguments[0], True))
            elif statement.name == "await_int":
                yield from self._await_interval()

    def _loop(self, statement: Statement) -> Task:
        assert statement.condition is not None
        self.say("L")
        try:
            while self._holds(statement.condition):
                yield from self._carry_out(statement.body)
                self._line = statement.line
                self.at += self._timing.instruction
                if self.lab > self.now + SLICE:
                    self.now = yield self.lab
        except BreakLoop:
            pass
        except AbortScript:
            self.say("+")
            raise
        self.say("+")

    def _branch(self, statement: Statement) -> Task:
        for condition, body in statement.branches:
            if condition is None or self._holds(condition):
                yield from self._carry_out(body)
                return

    def _measurement_loop(self, statement: Statement) -> Task:
        technique = TECHNIQUES[statement.name]
        points = technique.prepare(self, statement)
        self.say(f"M{technique.identifier:04X}")
        self.in_measurement = True
        self.reverse = False
        try:
            yield from points
        except (BreakLoop, AbortLoop):
            pass
        except AbortScript:
            self.say("*")
            raise
        finally:
            self.in_measurement = False
        self.say("*")

    def point(self, statement: Statement, at: float) -> Task:
        """Wait for a moment of measurement."""
        self._line = statement.line
        yield from self.wait_until(at)

    def body(self, statement: Statement) -> Task:
        """Carry out what stands in a measurement loop."""
        yield from self._carry_out(statement.body)

    def lateness(self, at: float) -> int:
        """Status of a measurement that was due at a time."""
        return TIMING_NOT_MET if self.at > at + LATE else 0

    def _await_interval(self) -> Task:
        if self._interval <= 0.0:
            raise ScriptFault(BAD_ARGUMENT)
        missed = math.ceil((self.at - self._interval_end) / self._interval)
        end = self._interval_end + max(missed, 0) * self._interval
        yield from self.wait_until(end)
        self._interval_end = end + self._interval

    def _relay(self, statement: Statement) -> Task:
        if statement.name == "cell_on":
            start = statement.options.get("ocp")
            self.stage.cell_on(self.now, None if start is None else float(self.number(start[0])))
        else:
            self.stage.cell_off(self.now)
        yield from self.wait_until(self.at + self._timing.relay)

    def _measure(self, statement: Statement) -> Task:
        duration, target, kind = statement.arguments
        seconds = self.positive(duration, True)
        yield from self.wait_until(self.at + seconds)
        self.variable(target).take(self.read(str(kind), seconds))

    def read(self, kind: str, patience: float) -> Variable:
        """Measure a current or a potential now. Raises ScriptFault for other types."""
        if kind == "ba":
            return self.stage.read_current(self.now, patience)
        if kind == "ab":
            return self.stage.read_potential(self.now, patience)
        if kind == "eb":
            return Variable(self.lab - self._booted, "eb")
        raise ScriptFault(UNSUPPORTED_TYPE)

    # -- values

    def number(self, argument: object) -> float | int:
        """The value of a literal or of a variable."""
        if isinstance(argument, Reference):
            return self.variable(argument).value
        assert isinstance(argument, float | int)
        return argument

    def positive(self, argument: object, zero: bool = False) -> float:
        """A number that must be positive, or at least not negative. Raises ScriptFault."""
        value = float(self.number(argument))
        if not math.isfinite(value):
            raise ScriptFault(NOT_A_NUMBER)
        if value < 0.0 or (value == 0.0 and not zero):
            raise ScriptFault(MUST_NOT_BE_NEGATIVE if zero else MUST_BE_POSITIVE)
        return value

    def whole(self, argument: object) -> int:
        """A number as an integer; one with a fraction raises ScriptFault."""
        value = self.number(argument)
        if not math.isfinite(value) or value != int(value):
            raise ScriptFault(WRONG_NUMBER_KIND)
        return int(value)

    def variable(self, argument: object) -> Variable:
        """The variable, or the element of an array, that an argument names."""
        assert isinstance(argument, Reference)
        if argument.index is None:
            return self._variables[argument.name]
        array = self._arrays[argument.name]
        index = self.whole(argument.index)
        if not 0 <= index < len(array):
            raise ScriptFault(ARRAY_INDEX)
        return array[index]

    def _holds(self, condition: Condition) -> bool:
        left, right = self.number(condition.left), self.number(condition.right)
        if condition.operator in _COMPARE:
            return _COMPARE[condition.operator](left, right)
        if not (isinstance(left, int) and isinstance(right, int)):
            raise ScriptFault(WRONG_NUMBER_KIND)
        return bool(left & right if condition.operator == "&" else left | right)

    # -- commands that take no time

    def _declare(self, s: Statement) -> None:
        self._variables[str(s.arguments[0])] = Variable()

    def _declare_array(self, s: Statement) -> None:
        size = self.whole(s.arguments[1])
        if not 0 < size <= LARGEST_ARRAY:
            raise ScriptFault(NO_MEMORY)
        self._arrays[str(s.arguments[0])] = [Variable() for _ in range(size)]

    def _store(self, s: Statement) -> None:
        target = self.variable(s.arguments[0])
        target.take(Variable(self.number(s.arguments[1]), str(s.arguments[2])))

    def _copy(self, s: Statement) -> None:
        source, target = s.arguments
        if isinstance(source, Reference):
            self.variable(target).take(self.variable(source))
        else:
            self.variable(target).take(Variable(self.number(source)))

    def _array_get(self, s: Statement) -> None:
        name, index, target = s.arguments
        at = Reference(str(name), self.whole(index))
        self.variable(target).take(self.variable(at))

    def _array_set(self, s: Statement) -> None:
        name, index, value = s.arguments
        at = self.variable(Reference(str(name), self.whole(index)))
        if isinstance(value, Reference):
            at.take(self.variable(value))
        else:
            at.take(Variable(self.number(value)))

    def _mean(self, s: Statement) -> None:
        values = self._arrays[str(s.arguments[0])]
        mean = sum(float(one.value) for one in values) / len(values)
        self.variable(s.arguments[1]).take(Variable(mean, values[0].kind))

    def _alter_type(self, s: Statement) -> None:
        kind = str(s.arguments[1])
        if kind not in TYPES:
            raise ScriptFault(BAD_VARIABLE_TYPE)
        self.variable(s.arguments[0]).kind = kind

    def _compute(self, s: Statement) -> None:
        target = self.variable(s.arguments[0])
        right = self.number(s.arguments[1]) if len(s.arguments) > 1 else 0
        try:
            value = _ARITHMETIC[s.name](target.value, right)
        except ZeroDivisionError:
            raise ScriptFault(DIVISION_BY_ZERO) from None
        except (ValueError, TypeError):
            raise ScriptFault(WRONG_NUMBER_KIND) from None
        except OverflowError:
            raise ScriptFault(OVERFLOW) from None
        if isinstance(value, int) and not -(2**31) <= value < 2**32:
            raise ScriptFault(OVERFLOW)
        if not math.isfinite(value):
            raise ScriptFault(NOT_A_NUMBER)
        target.value = value

    def _send_string(self, s: Statement) -> None:
        text = s.arguments[0]
        assert isinstance(text, Text)
        written = "".join(
            part if isinstance(part, str) else _show(self.number(part)) for part in text.parts
        )
        self._put_out("T" + written)

    def _put_out(self, text: str) -> None:
        # 2 and 3 involve storage, which is not simulated; 3 is taken to mean both.
        if self._output in (1, 3):
            self._congested = self._emit(text, self.lab)

    def _set_output(self, s: Statement) -> None:
        self._output = self.whole(s.arguments[0])
        if self._output not in (0, 1, 2, 3):
            raise ScriptFault(OUTPUT_MODE)

    def _package_start(self, s: Statement) -> None:
        if self._package is not None:
            raise ScriptFault(PACKAGE_SEQUENCE)
        self._package = []

    def _package_add(self, s: Statement) -> None:
        if self._package is None:
            raise ScriptFault(PACKAGE_SEQUENCE)
        if len(self._package) >= MOST_VARIABLES:
            raise ScriptFault(TOO_MANY_VARIABLES)
        argument = s.arguments[0]
        if isinstance(argument, Reference):
            variable = self.variable(argument)
        else:
            variable = Variable(self.number(argument))
        self._package.append(write(variable, self._noise_metadata))

    def _package_end(self, s: Statement) -> None:
        if self._package is None:
            raise ScriptFault(PACKAGE_SEQUENCE)
        package, self._package = self._package, None
        self._put_out("P" + ";".join(package))

    def _timer_start(self, s: Statement) -> None:
        self._timer = self.lab

    def _timer_get(self, s: Statement) -> None:
        self.variable(s.arguments[0]).take(Variable(self.lab - self._timer, "eb"))

    def _get_time(self, s: Statement) -> None:
        self.variable(s.arguments[0]).take(Variable(self.lab - self._booted, "eb"))

    def _set_interval(self, s: Statement) -> None:
        self._interval = self.positive(s.arguments[0])
        self._interval_end = self.at + self._interval

    def _set_mode(self, s: Statement) -> None:
        self.stage.set_mode(self.now, self.whole(s.arguments[0]))

    def _set_channel(self, s: Statement) -> None:
        channel = self.whole(s.arguments[0])
        if channel not in (0, 1):
            raise ScriptFault(BAD_ARGUMENT)
        self.stage.channel = channel

    def _set_potential(self, s: Statement) -> None:
        if self.in_measurement:
            raise ScriptFault(NO_POTENTIAL_IN_LOOP)
        if self.stage.channel == 0:
            self.stage.set_potential(self.now, float(self.number(s.arguments[0])))

    def _set_current(self, s: Statement) -> None:
        if self.in_measurement:
            raise ScriptFault(NO_CURRENT_IN_LOOP)
        self.stage.set_current(self.now, float(self.number(s.arguments[0])))

    def _set_range(self, s: Statement) -> None:
        kind, values = "ba", s.arguments
        if s.name != "set_cr":
            kind, values = str(s.arguments[0]), s.arguments[1:]
        if self.in_measurement and kind in ("da", "db"):
            raise ScriptFault(NO_POTENTIAL_IN_LOOP if kind == "da" else NO_CURRENT_IN_LOOP)
        numbers = [float(self.number(value)) for value in values]
        if not all(map(math.isfinite, numbers)):
            raise ScriptFault(NOT_A_NUMBER)
        if self.stage.channel:
            return
        if s.name == "set_range_minmax":
            self.stage.set_range_minmax(self.now, kind, *numbers)
        elif s.name == "set_autoranging":
            self.stage.set_autoranging(self.now, kind, *numbers)
        else:
            self.stage.set_range(self.now, kind, *numbers)

    def _set_potential_window(self, s: Statement) -> None:
        low, high = (float(self.number(value)) for value in s.arguments)
        self.stage.set_window(low, high)

    def _set_bandwidth(self, s: Statement) -> None:
        self.stage.bandwidth = self.positive(s.arguments[0], True)

    def _mains(self, s: Statement) -> None:
        if self.whole(s.arguments[0]) not in (50, 60):
            raise ScriptFault(BAD_ARGUMENT)

    def _constant(self, s: Statement) -> None:
        value = 100 if s.name in ("battery_perc", "get_progress") else 0
        self.variable(s.arguments[0]).take(Variable(value, "ja"))

    def _abort(self, s: Statement) -> None:
        raise AbortScript

    def _break(self, s: Statement) -> None:
        raise BreakLoop

    def _nothing(self, s: Statement) -> None:
        """Lamps, pins and filters: accepted, with no effect on the cell."""

    def need_cell(self, on: bool) -> None:
        """Raise ScriptFault unless the relay is as a technique needs it."""
        if self.stage.closed is not on:
            raise ScriptFault(NEEDS_CELL_ON if on else OCP_NEEDS_CELL_OFF)


def _show(value: float | int) -> str:
    """A value in a text (the form is assumed)."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _divide(left: float | int, right: float | int) -> float | int:
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) is (right < 0) else -quotient
    return left / right


def _bits(
    combine: Callable[[int, int], int],
) -> Callable[[float | int, float | int], int]:
    """Work on the bits of two integers; anything else is a TypeError."""

    def work(left: float | int, right: float | int) -> int:
        if not (isinstance(left, int) and isinstance(right, int)):
            raise TypeError("only integers have bits")
        return combine(left, right) & 0xFFFFFFFF

    return work


def _shift(value: int, places: int) -> int:
    if abs(places) > 31:
        raise ValueError("an integer has 32 bits")
    return value << places if places >= 0 else value >> -places


_ARITHMETIC: dict[str, Callable[[float | int, float | int], float | int]] = {
    "add_var": operator.add,
    "sub_var": operator.sub,
    "mul_var": operator.mul,
    "div_var": _divide,
    "mod_var": math.fmod,
    "pow_var": math.pow,
    "log_var": lambda left, _: math.log10(left),
    "bit_and_var": _bits(operator.and_),
    "bit_or_var": _bits(operator.or_),
    "bit_xor_var": _bits(operator.xor),
    "bit_lsl_var": _bits(_shift),
    "bit_lsr_var": _bits(lambda left, right: _shift(left, -right)),
    "bit_inv_var": _bits(lambda left, _: ~left),
    "int_to_float": lambda left, _: float(left),
    "float_to_int": lambda left, _: int(left),
}


_I = Interpreter
_HANDLERS: dict[str, Callable[[Interpreter, Statement], None]] = {
    "var": _I._declare, "array": _I._declare_array, "store_var": _I._store,
    "copy_var": _I._copy, "array_get": _I._array_get, "array_set": _I._array_set,
    "mean": _I._mean, "alter_vartype": _I._alter_type,
    "send_string": _I._send_string, "set_script_output": _I._set_output,
    "pck_start": _I._package_start, "pck_add": _I._package_add, "pck_end": _I._package_end,
    "timer_start": _I._timer_start, "timer_get": _I._timer_get, "get_time": _I._get_time,
    "set_int": _I._set_interval, "set_pgstat_mode": _I._set_mode,
    "set_pgstat_chan": _I._set_channel, "set_e": _I._set_potential, "set_i": _I._set_current,
    "set_range": _I._set_range, "set_range_minmax": _I._set_range,
    "set_autoranging": _I._set_range, "set_cr": _I._set_range,
    "set_pot_range": _I._set_potential_window, "set_max_bandwidth": _I._set_bandwidth,
    "set_acquisition_frac_autoadjust": _I._mains, "get_gpio": _I._constant,
    "battery_perc": _I._constant, "get_progress": _I._constant,
    "abort": _I._abort, "breakloop": _I._break,
    **dict.fromkeys(_ARITHMETIC, _I._compute),
    **dict.fromkeys(
        ("set_acquisition_frac", "set_channel_sync", "set_gpio_cfg", "set_gpio_pullup",
         "set_gpio", "notify_led", "beep", "set_scan_dir", "set_poly_we_mode"), _I._nothing,
    ),
}  # fmt: skip
