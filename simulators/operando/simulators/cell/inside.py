"""What a poll sees inside one step: the physics at an interpolated surface composition."""

from operando.simulators.cell.electrochemistry import Electrochemistry
from operando.simulators.cell.state import Branch, Point, Regulation, Terminal
from operando.simulators.cell.stepping import terms

Terms = tuple[float, float, float]


class Inside:
    """Voltage and current between the two ends of a step.

    The surface composition is the parabola through both ends and the point before; voltage or
    current follow from it by the cell's own laws, so that the bends of the open-circuit curve
    need no steps of their own. What ages goes straight from one end to the other.
    """

    __slots__ = (
        "_begin",
        "_branch",
        "_current",
        "_early",
        "_end",
        "_late",
        "_physics",
        "_resistance",
        "_surface",
        "_voltage",
    )

    def __init__(
        self,
        physics: Electrochemistry,
        before: Point | None,
        begin: Point,
        end: Point,
        branch: Branch,
        *,
        straight: bool,
    ) -> None:
        """Prepare for a step from begin to end.

        before: the point before begin on the same branch. straight: draw straight lines through
            voltage and current, which leave no limit of the source where the step's own errors
            are large.
        """
        self._physics, self._begin, self._end, self._branch = physics, begin, end, branch
        times: tuple[float, ...] = (begin.time, end.time)
        self._voltage: Terms | None = None
        self._surface: Terms = (0.0, 0.0, 0.0)
        if straight or not begin.time < end.time:
            self._voltage = terms(times, begin.voltage, end.voltage, begin.voltage)
            self._current = terms(times, begin.shown, end.shown, begin.shown)
            return
        earlier = begin
        if before is not None:
            earlier = before
            times = (*times, before.time)
        self._surface = terms(times, begin.x[-1], end.x[-1], earlier.x[-1])
        self._current = terms(times, begin.current, end.current, earlier.current)
        # What the laws at the wear of the beginning leave open at the end is added in proportion.
        self._resistance = begin.resistance
        self._early = self._late = 0.0
        if branch.regulation is Regulation.VOLTAGE:
            held = physics.held_current
            at_begin = held(begin.x[-1], begin, self._resistance, branch, begin.current)
            at_end = held(end.x[-1], begin, self._resistance, branch, end.current)
            self._early = begin.shown - at_begin
            self._late = end.shown - at_end
        else:
            self._late = end.voltage - self._voltage_at(end.x[-1], end.positive)

    def _voltage_at(self, surface: float, positive: float) -> float:
        begin, physics = self._begin, self._physics
        inner = self._branch.level - begin.side
        return physics.voltage_at(surface, positive, inner, begin.wear, self._resistance)

    def terminal(self, now: float) -> Terminal:
        """Return what is seen at the terminals at a time (s) within the step."""
        begin, end, branch = self._begin, self._end, self._branch
        t = now - begin.time
        u = now - end.time
        c0, c1, c2 = self._current
        current = c0 + t * (c1 + u * c2)
        if self._voltage is not None:
            v0, v1, v2 = self._voltage
            return Terminal(v0 + t * (v1 + u * v2), current, branch.regulation)
        if t <= 0.0:
            return Terminal(begin.voltage, begin.shown, branch.regulation)
        x0, x1, x2 = self._surface
        surface = x0 + t * (x1 + u * x2)
        share = t / (end.time - begin.time)
        if branch.regulation is Regulation.VOLTAGE:
            current = self._physics.held_current(surface, begin, self._resistance, branch, current)
            current += self._early + share * (self._late - self._early)
            return Terminal(branch.level - current * branch.resistance, current, branch.regulation)
        positive = begin.positive + share * (end.positive - begin.positive)
        voltage = self._voltage_at(surface, positive) + share * self._late
        return Terminal(voltage, branch.level, branch.regulation)
