"""Step control: error of a step, and the polynomial that stands for it between its ends."""

VOLTAGE_TOLERANCE = 5e-6
"""Accepted error of one step in voltage, V."""
COMPOSITION_TOLERANCE = 2.5e-6
"""Accepted error of one step in surface lithium content."""


def terms(
    times: tuple[float, ...], at_begin: float, at_end: float, at_before: float
) -> tuple[float, float, float]:
    """Return Newton's terms of the polynomial through begin, end and the point before.

    times: (begin, end, before) in s; without the third the polynomial is a straight line.
    The value at a time is c0 + (time - begin) * (c1 + (time - end) * c2).
    """
    begin, end = times[0], times[1]
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
    dv = (value - v1) / h
    dx = (surface - x1) / h
    dv2 = (dv - (v1 - v2) / (t1 - t2)) / whole
    dx2 = (dx - (x1 - x2) / (t1 - t2)) / whole
    if count < 3:
        # Too few points for the third difference: the error of the first-order step bounds it.
        factor = h * h
        return max(abs(dv2) * factor / VOLTAGE_TOLERANCE, abs(dx2) * factor / COMPOSITION_TOLERANCE)
    t3, v3, x3 = history[-3]
    span = t1 - t3
    dv3 = (dv2 - ((v1 - v2) / (t1 - t2) - (v2 - v3) / (t2 - t3)) / span) / (time - t3)
    dx3 = (dx2 - ((x1 - x2) / (t1 - t2) - (x2 - x3) / (t2 - t3)) / span) / (time - t3)
    # Truncation error of BDF2 with unequal steps: h^2 (h + h')^2 / (6 (2 h + h')) x'''.
    factor = h * h * whole * whole / (h + whole)
    return max(abs(dv3) * factor / VOLTAGE_TOLERANCE, abs(dx3) * factor / COMPOSITION_TOLERANCE)
