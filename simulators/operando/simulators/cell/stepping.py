"""Step control: error of a step, and the polynomial that stands for it between its ends."""

VOLTAGE_TOLERANCE = 2e-4
"""Accepted error of one step in the potential that the surface lithium content gives, V."""
COMPOSITION_TOLERANCE = 2e-4
"""Accepted error of one step in surface lithium content."""
HELD_CLOSER = 2.5
"""By this factor the error of a step is taken more seriously under a held voltage: its taper, and
with it the end of a charge, is set by a current that the surface composition hardly shows."""
STEEPEST = 4.0
"""V. Where the potential is steeper over the lithium content, at full lithiation, the voltage is
followed no more closely than this slope asks for."""
PATIENCE = 3000
"""Steps after a change of control that are taken with these tolerances. An ordinary charge,
discharge, hold or rest needs some hundreds, whatever it lasts."""
RELIEF = 1.003
"""By this factor every further step may be longer than the one before: the number of steps in a
stretch of control then rises with the logarithm of its length only."""


def terms(
    times: tuple[float, ...], at_begin: float, at_end: float, at_before: float
) -> tuple[float, float, float]:
    """Return Newton's terms of the polynomial through begin, end and the point before.

    times: (begin, end, before) in s; without the third the polynomial is a straight line.
    The value at a time is c0 + (time - begin) * (c1 + (time - end) * c2).
    """
    begin, end = times[0], times[1]
    if not begin < end:
        return at_end, 0.0, 0.0
    first = (at_end - at_begin) / (end - begin)
    if len(times) < 3:
        return at_begin, first, 0.0
    earlier = (at_begin - at_before) / (begin - times[2])
    return at_begin, first, (first - earlier) / (end - times[2])


def error_of_step(
    history: list[tuple[float, float]], time: float, surface: float, slope: float
) -> float:
    """Return the local error of a step over its tolerance, from divided differences.

    history: up to three earlier (time in s, surface lithium content). slope: of the open-circuit
    potential at the surface, V.
    """
    count = len(history)
    if count < 2:
        return 0.0
    t1, x1 = history[-1]
    t2, x2 = history[-2]
    h = time - t1
    whole = time - t2
    last = (x1 - x2) / (t1 - t2)
    difference = ((surface - x1) / h - last) / whole
    # Too few points for the third difference: the error of the first-order step bounds it.
    factor = h * h
    if count > 2:
        t3, x3 = history[-3]
        earlier = (x2 - x3) / (t2 - t3)
        difference = (difference - (last - earlier) / (t1 - t3)) / (time - t3)
        # Truncation error of BDF2 with unequal steps: h^2 (h + h')^2 / (6 (2 h + h')) x'''.
        factor *= whole * whole / (h + whole)
    steepness = min(abs(slope), STEEPEST)
    error = abs(difference) * factor
    error *= 1.0 / COMPOSITION_TOLERANCE + steepness / VOLTAGE_TOLERANCE
    # Beyond a lithium content of 1 the tolerance is relative: what only abuse reaches is not
    # worth more digits than it has.
    return error if -1.0 < surface < 1.0 else error / max(abs(surface), 1.0)
