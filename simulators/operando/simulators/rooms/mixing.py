"""Gases in a well-mixed box, in closed form: what is asked does not depend on how often.

Every function takes a time in s and rates in 1/s; fractions are mole fractions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def grown(rate: float, time: float) -> float:
    """Integral of exp(-rate t) from 0 to a time, s; rate may be 0."""
    return time if rate * time < 1e-15 else -math.expm1(-rate * time) / rate


def grown_twice(rate: float, time: float) -> float:
    """Integral of `grown` from 0 to a time, s2; rate may be 0."""
    if rate * time < 1e-4:  # the difference below would lose its digits
        return 0.5 * time * time * (1.0 - rate * time / 3.0)
    return (time - grown(rate, time)) / rate


def overlap(first: float, second: float, time: float) -> float:
    """Integral of exp(-first t) exp(-second (time - t)) from 0 to a time, s."""
    slow, fast = min(first, second), max(first, second)
    return math.exp(-slow * time) * grown(fast - slow, time)


@dataclass(frozen=True, slots=True)
class Balance:
    """A gas whose fraction x obeys dx/dt = source - rate x. source: 1/s. rate: 1/s."""

    source: float
    rate: float

    def after(self, begin: float, time: float) -> float:
        """Fraction a time after it was `begin`."""
        return begin * math.exp(-self.rate * time) + self.source * grown(self.rate, time)

    def dose(self, begin: float, time: float) -> float:
        """Integral of the fraction over that time, s."""
        return begin * grown(self.rate, time) + self.source * grown_twice(self.rate, time)


@dataclass(frozen=True, slots=True)
class Product:
    """A gas y that another one makes: dy/dt = yield_ x - rate y. yield_: 1/s. rate: 1/s."""

    parent: Balance
    yield_: float
    rate: float

    def after(self, begin: float, parent: float, time: float) -> float:
        """Fraction a time after it was `begin` and that of its parent was `parent`."""
        kept = begin * math.exp(-self.rate * time)
        if not self.yield_:
            return kept
        p = self.parent
        both = overlap(p.rate, self.rate, time)
        if p.rate * time < 1e-6:
            fed = grown_twice(self.rate, time)
        else:
            fed = (grown(self.rate, time) - both) / p.rate
        return kept + self.yield_ * (parent * both + p.source * fed)

    def dose(self, begin: float, parent: float, time: float) -> float:
        """Integral of the fraction over that time, s."""
        if self.rate * time < 1e-6:
            return 0.5 * time * (begin + self.after(begin, parent, time))
        made = self.yield_ * self.parent.dose(parent, time)
        return (made + begin - self.after(begin, parent, time)) / self.rate


@dataclass(frozen=True, slots=True)
class Overpressure:
    """Pressure above the surroundings, Pa: it leaks away while gas flows in or out.

    rate: of the leak, 1/s. flow: what filling adds (venting: takes), Pa/s.
    """

    rate: float
    flow: float = 0.0

    def after(self, begin: float, time: float) -> float:
        """Pa, a time after it was `begin`."""
        return begin * math.exp(-self.rate * time) + self.flow * grown(self.rate, time)

    def time_to(self, begin: float, end: float) -> float:
        """Time until a pressure is reached, s; infinite where it is not."""
        if begin == end:
            return 0.0
        away = self.rate * end - self.flow
        if not away:
            return math.inf
        # The share by which the distance to where the pressure tends has shrunk, less one.
        shrunk = (begin - end) / away
        if abs(self.rate * shrunk) < 1e-12:
            time = shrunk
        elif self.rate * shrunk > -1.0:
            time = math.log1p(self.rate * shrunk) / self.rate
        else:
            return math.inf
        return time if time >= 0.0 else math.inf
