"""Step control: error of a step, and the polynomial that stands for it between its ends."""

VOLTAGE_TOLERANCE = 2e-5
"""Accepted error of one step in voltage, V."""
COMPOSITION_TOLERANCE = 1e-5
"""Accepted error of one step in surface lithium content."""
ORDINARY_VOLTAGE = 5.0
"""V. Beyond it, and beyond a lithium content of 1, the tolerances are relative: what only abuse
reaches is not worth more digits than it has."""
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
    history: list[tuple[float, float, float]], time: float, value: float, surface: float
) -> float:
    """Return the local error of a step over its tolerance, from divided differences.

    history: up to three earlier (time, held or free voltage in V, surface lithium content).
    """
    count = len(history)
    if count < 2:
        return 0.0
    t1, v1, x1 = history[-1]
    t2, v2, x2 = history[-2]
    h = time - t1
    whole = time - t2
    last = t1 - t2
    lv = (v1 - v2) / last
    lx = (x1 - x2) / last
    dv = ((value - v1) / h - lv) / whole
    dx = ((surface - x1) / h - lx) / whole
    # Too few points for the third difference: the error of the first-order step bounds it.
    factor = h * h
    if count > 2:
        t3, v3, x3 = history[-3]
        span = t1 - t3
        earlier = t2 - t3
        reach = time - t3
        dv = (dv - (lv - (v2 - v3) / earlier) / span) / reach
        dx = (dx - (lx - (x2 - x3) / earlier) / span) / reach
        # Truncation error of BDF2 with unequal steps: h^2 (h + h')^2 / (6 (2 h + h')) x'''.
        factor *= whole * whole / (h + whole)
    of_voltage = abs(dv) * factor / VOLTAGE_TOLERANCE
    of_composition = abs(dx) * factor / COMPOSITION_TOLERANCE
    if not (-ORDINARY_VOLTAGE < value < ORDINARY_VOLTAGE and -1.0 < surface < 1.0):
        of_voltage /= max(abs(value) / ORDINARY_VOLTAGE, 1.0)
        of_composition /= max(abs(surface), 1.0)
    return of_voltage if of_voltage > of_composition else of_composition
