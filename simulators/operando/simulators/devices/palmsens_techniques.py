"""The measurement loops of MethodSCRIPT: what is applied, when it is measured, what comes out.

Identifiers of techniques are those of the MethodSCRIPT manual 1.8, table 5, as quoted by third
parties. Kinds of the outputs follow PalmSens' captures and published scripts: the applied
potential ("da") beside a measured current, the applied current ("db") beside a measured potential.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from operando.simulators.devices.palmsens_packages import TIMING_NOT_MET, Variable
from operando.simulators.devices.palmsens_script import Leave, ScriptFault, Statement

if TYPE_CHECKING:
    from operando.simulators.devices.palmsens_interpreter import Interpreter, Task

NOT_A_NUMBER = 0x0010
STEP_TOO_SMALL = 0x001C
TIMING_NOT_POSSIBLE = 0x005A
NEEDS_A_STEP = 0x4029
OUT_OF_BOUNDS = 0x4205

SHORTEST_INTERVAL = 1e-3
"""Between measurements of these loops, s (assumed; the fast techniques are not simulated)."""
MOST_POINTS = 10_000_000

IMPEDANCE_TIME = 0.05
"""Least time of one frequency, s, and least number of periods (assumed); `eis_opt` sets both."""
IMPEDANCE_PERIODS = 2.0


@dataclass(frozen=True, slots=True)
class Technique:
    """A measurement loop: its identifier, and what checks the arguments and gives the points.

    prepare: raises ScriptFault before anything is put out.
    """

    identifier: int
    prepare: Callable[[Interpreter, Statement], Task]


def _extra(run: Interpreter, s: Statement, patience: float) -> None:
    """`add_meas(channel type variable)`: one more quantity at each point."""
    added = s.options.get("add_meas")
    if added is not None:
        run.variable(added[2]).take(run.read(str(added[1]), patience))


def _count(run: Interpreter, interval: object, time: object) -> tuple[float, int]:
    """Interval (s) and number of points of a loop at constant conditions."""
    step, total = run.positive(interval), run.positive(time)
    if step < SHORTEST_INTERVAL:
        raise ScriptFault(TIMING_NOT_POSSIBLE)
    return step, max(math.floor(total / step + 1e-6), 1)


def _late(variable: Variable, run: Interpreter, due: float) -> Variable:
    if run.lateness(due):
        variable.status = (variable.status or 0) | TIMING_NOT_MET
    return variable


def _open_circuit(run: Interpreter, s: Statement) -> Task:
    run.need_cell(on=False)
    interval, points = _count(run, s.arguments[1], s.arguments[2])

    def measure() -> Task:
        begin = run.at
        for point in range(1, points + 1):
            due = begin + point * interval
            yield from run.point(s, due)
            potential = run.stage.read_potential(run.now, interval)
            run.variable(s.arguments[0]).take(_late(potential, run, due))
            _extra(run, s, interval)
            yield from run.body(s)

    return measure()


def _amperometry(run: Interpreter, s: Statement) -> Task:
    run.stage.need(galvanostat=False)
    run.need_cell(on=True)
    potential, current, level = s.arguments[:3]
    interval, points = _count(run, s.arguments[3], s.arguments[4])
    volts = float(run.number(level))
    run.stage.check_scan(volts, volts)

    def measure() -> Task:
        applied = run.stage.set_potential(run.now, volts)
        begin = run.at
        for point in range(1, points + 1):
            due = begin + point * interval
            yield from run.point(s, due)
            run.variable(potential).take(Variable(applied, "da"))
            reading = run.stage.read_current(run.now, interval)
            run.variable(current).take(_late(reading, run, due))
            _extra(run, s, interval)
            yield from run.body(s)

    return measure()


def _potentiometry(run: Interpreter, s: Statement) -> Task:
    run.stage.need(galvanostat=True)
    run.need_cell(on=True)
    potential, current, level = s.arguments[:3]
    interval, points = _count(run, s.arguments[3], s.arguments[4])
    applied = run.stage.set_current(run.now, float(run.number(level)))

    def measure() -> Task:
        begin = run.at
        for point in range(1, points + 1):
            due = begin + point * interval
            yield from run.point(s, due)
            reading = run.stage.read_potential(run.now, interval)
            run.variable(potential).take(_late(reading, run, due))
            run.variable(current).take(Variable(applied, "db"))
            _extra(run, s, interval)
            yield from run.body(s)

    return measure()


def _levels(begin: float, end: float, step: float) -> Iterator[float]:
    """A staircase from one level to the last that lies before or at another, both included."""
    steps = math.floor(abs(end - begin) / step + 1e-6)
    for at in range(steps + 1):
        yield begin + math.copysign(at * step, end - begin)


def _staircase(run: Interpreter, numbers: list[float], lsb: float) -> tuple[float, float]:
    """Check step and rate, the last two of the numbers; step and time of one step (s)."""
    if not all(map(math.isfinite, numbers)):
        raise ScriptFault(NOT_A_NUMBER)
    step, rate = abs(numbers[-2]), numbers[-1]
    if rate <= 0.0:
        raise ScriptFault(OUT_OF_BOUNDS)
    if step < lsb:
        raise ScriptFault(STEP_TOO_SMALL)
    levels = numbers[:-2]
    longest = max(levels) - min(levels)
    if longest < step * (1.0 - 1e-6):
        raise ScriptFault(NEEDS_A_STEP)
    if longest / step > MOST_POINTS:
        raise ScriptFault(OUT_OF_BOUNDS)
    if step / rate < SHORTEST_INTERVAL:
        raise ScriptFault(TIMING_NOT_POSSIBLE)
    return step, step / rate


def _sweep_point(run: Interpreter, s: Statement, level: float, due: float, dwell: float) -> Task:
    """Apply a potential, dwell, measure at the end."""
    applied = run.stage.set_potential(run.now, level)
    yield from run.point(s, due)
    run.variable(s.arguments[0]).take(Variable(applied, "da"))
    reading = run.stage.read_current(run.now, dwell)
    run.variable(s.arguments[1]).take(_late(reading, run, due))
    _extra(run, s, dwell)
    yield from run.body(s)


def _linear_sweep(run: Interpreter, s: Statement) -> Task:
    run.stage.need(galvanostat=False)
    run.need_cell(on=True)
    begin, end, *rest = (float(run.number(a)) for a in s.arguments[2:])
    step, dwell = _staircase(run, [begin, end, *rest], run.stage.model.potential_step)
    run.stage.check_scan(min(begin, end), max(begin, end))

    def measure() -> Task:
        due = run.at
        for level in _levels(begin, end, step):
            due += dwell
            yield from _sweep_point(run, s, level, due, dwell)

    return measure()


def _current_sweep(run: Interpreter, s: Statement) -> Task:
    run.stage.need(galvanostat=True)
    run.need_cell(on=True)
    begin, end, *rest = (float(run.number(a)) for a in s.arguments[2:])
    step, dwell = _staircase(run, [begin, end, *rest], 0.0)

    def measure() -> Task:
        due = run.at
        for level in _levels(begin, end, step):
            due += dwell
            applied = run.stage.set_current(run.now, level)
            yield from run.point(s, due)
            reading = run.stage.read_potential(run.now, dwell)
            run.variable(s.arguments[0]).take(_late(reading, run, due))
            run.variable(s.arguments[1]).take(Variable(applied, "db"))
            _extra(run, s, dwell)
            yield from run.body(s)

    return measure()


def _turning(
    run: Interpreter, begin: float, vertices: tuple[float, float], step: float
) -> Iterator[float]:
    """Potentials of one scan; `R` turns towards the other vertex."""
    level, target, turns = begin, vertices[0], 0
    yield level
    while True:
        if run.reverse:
            run.reverse = False
            target = vertices[1] if target == vertices[0] else vertices[0]
        ahead = target - level
        if abs(ahead) < step * (1.0 - 1e-6):
            turns += 1
            if turns == 3:
                return
            target = vertices[1] if turns == 1 else begin
            continue
        level += math.copysign(step, ahead)
        yield level


def _cyclic(run: Interpreter, s: Statement) -> Task:
    run.stage.need(galvanostat=False)
    run.need_cell(on=True)
    begin, first, second, *rest = (float(run.number(a)) for a in s.arguments[2:])
    numbers = [begin, first, second, *rest]
    step, dwell = _staircase(run, numbers, run.stage.model.potential_step)
    run.stage.check_scan(min(numbers[:3]), max(numbers[:3]))
    scans = run.whole(s.options["nscans"][0]) if "nscans" in s.options else 1
    if not 1 <= scans <= 0xFFFF:
        raise ScriptFault(OUT_OF_BOUNDS)

    def scan(number: int, due: float) -> Task:
        marked = scans > 1
        if marked:
            run.say(f"C{number:04X}")
        try:
            for level in _turning(run, begin, (first, second), step):
                due += dwell
                yield from _sweep_point(run, s, level, due, dwell)
        except Leave:
            if marked:
                run.say("-")
            raise
        if marked:
            run.say("-")

    def measure() -> Task:
        for number in range(scans):
            yield from scan(number, run.at)

    return measure()


def _impedance(run: Interpreter, s: Statement, galvanostatic: bool) -> Task:
    run.stage.need(galvanostat=galvanostatic)
    run.need_cell(on=True)
    f, zre, zim, amplitude, start, end, number, direct = s.arguments
    rms = float(run.number(amplitude))
    run.stage.check_amplitude(rms, galvanostatic)
    first, last = float(run.number(start)), float(run.number(end))
    run.stage.check_frequency(first)
    run.stage.check_frequency(last)
    points = run.whole(number)
    if not 1 <= points <= 10_000:
        raise ScriptFault(OUT_OF_BOUNDS)
    level = float(run.number(direct))
    least, periods = IMPEDANCE_TIME, IMPEDANCE_PERIODS
    if "eis_opt" in s.options:
        least, periods = (run.positive(one) for one in s.options["eis_opt"])
    if galvanostatic:
        run.stage.set_current(run.now, level)
    else:
        run.stage.check_scan(level, level)

    def measure() -> Task:
        if not galvanostatic:
            run.stage.set_potential(run.now, level)
        due = run.at
        for point in range(points):
            share = point / (points - 1) if points > 1 else 0.0
            hertz = first * (last / first) ** share
            lasting = max(least, periods / hertz)
            due = max(due, run.at) + lasting
            yield from run.point(s, due)
            real, imaginary = run.stage.read_impedance(
                run.now, hertz, rms, lasting * hertz, galvanostatic
            )
            run.variable(f).take(Variable(hertz, "dc"))
            run.variable(zre).take(real)
            run.variable(zim).take(imaginary)
            yield from run.body(s)

    return measure()


def _pulse(run: Interpreter, s: Statement) -> Task:
    """Differential and normal pulse: a current during the pulse, less that before it."""
    run.stage.need(galvanostat=False)
    run.need_cell(on=True)
    begin, end, step, *rest = (float(run.number(a)) for a in s.arguments[2:])
    differential = s.name == "meas_loop_dpv"
    pulse = math.copysign(rest.pop(0), end - begin) if differential else 0.0
    width, rate = rest
    step, dwell = _staircase(run, [begin, end, step, rate], run.stage.model.potential_step)
    if not 0.0 < width < 0.5 * dwell:
        raise ScriptFault(OUT_OF_BOUNDS)
    levels = (begin, end, begin + pulse, end + pulse)
    run.stage.check_scan(min(levels), max(levels))

    def measure() -> Task:
        due = run.at
        for level in _levels(begin, end, step):
            due += dwell
            applied = run.stage.set_potential(run.now, level if differential else begin)
            yield from run.point(s, due - width)
            base = run.stage.read_current(run.now, width).value if differential else 0.0
            top = run.stage.set_potential(run.now, level + pulse)
            yield from run.point(s, due)
            reading = run.stage.read_current(run.now, width)
            reading.value -= base
            run.variable(s.arguments[0]).take(Variable(applied if differential else top, "da"))
            run.variable(s.arguments[1]).take(_late(reading, run, due))
            yield from run.body(s)

    return measure()


def _square_wave(run: Interpreter, s: Statement) -> Task:
    run.stage.need(galvanostat=False)
    run.need_cell(on=True)
    begin, end, step, amplitude, frequency = (float(run.number(a)) for a in s.arguments[4:])
    step, dwell = _staircase(
        run, [begin, end, step, step * frequency], run.stage.model.potential_step
    )
    swing = math.copysign(amplitude, end - begin)
    run.stage.check_scan(min(begin, end) - abs(swing), max(begin, end) + abs(swing))

    def measure() -> Task:
        due = run.at
        for level in _levels(begin, end, step):
            halves = []
            for sign in (1.0, -1.0):
                due += 0.5 * dwell
                run.stage.set_potential(run.now, level + sign * swing)
                yield from run.point(s, due)
                halves.append(run.stage.read_current(run.now, 0.5 * dwell))
            forward, reverse = halves
            change = forward.value - reverse.value
            difference = Variable(change, "ba", forward.status, forward.range)
            potential = Variable(level, "da")
            outputs = (potential, _late(difference, run, due), forward, reverse)
            for target, value in zip(s.arguments[:4], outputs, strict=True):
                run.variable(target).take(value)
            yield from run.body(s)

    return measure()


TECHNIQUES = {
    "meas_loop_lsv": Technique(0x0000, _linear_sweep),
    "meas_loop_dpv": Technique(0x0001, _pulse),
    "meas_loop_swv": Technique(0x0002, _square_wave),
    "meas_loop_npv": Technique(0x0003, _pulse),
    "meas_loop_cv": Technique(0x0005, _cyclic),
    "meas_loop_ca": Technique(0x0007, _amperometry),
    "meas_loop_cp": Technique(0x000A, _potentiometry),
    "meas_loop_ocp": Technique(0x000B, _open_circuit),
    "meas_loop_eis": Technique(0x000D, lambda run, s: _impedance(run, s, False)),
    "meas_loop_geis": Technique(0x000E, lambda run, s: _impedance(run, s, True)),
    "meas_loop_lsp": Technique(0x000F, _current_sweep),
}
"""By command."""
