"""Evaluation of conditions: closures made once, called on every sample.

Nothing here knows units or text. Values are floats by quantity name; a missing one is NaN.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from math import isfinite
from typing import Protocol

_NAN = math.nan
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
FULL = 0.9
"""Fraction of its window that samples must span before a slope is defined."""


class Evaluate(Protocol):
    """A compiled condition."""

    def __call__(
        self, time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> bool:
        """See `Evaluator.update`."""
        ...


Slope = Callable[[float, Mapping[str, float], "Collection[str] | None"], float]


class Evaluator:
    """A condition at work on one step or limit.

    `update(time, values, new=None)` returns whether it is true now. time: stamp of the sample, s.
    values: latest value of every live quantity, SI. new: names of the quantities that this sample
    brought; None means all of them. With it, slopes and `for` timers follow the stamps of their
    own quantity when samples of several instruments take turns.
    """

    __slots__ = ("_resets", "update")

    update: Evaluate

    def __init__(self, update: Evaluate, resets: Sequence[Callable[[], None]]) -> None:
        self.update = update
        self._resets = tuple(resets)

    def reset(self) -> None:
        """Forget windows and timers."""
        for reset in self._resets:
            reset()


class Compiler:
    """What the closures of one evaluator share. patient: see `Condition.evaluator`."""

    def __init__(self, patient: bool) -> None:
        self.patient = patient
        self.resets: list[Callable[[], None]] = []


def compile_comparison(
    operand: Slope | str, magnitude: bool, symbol: str, bound: float
) -> Evaluate:
    """Compare the latest value of a quantity, or a slope, with a bound."""
    compare = _OPERATORS[symbol]
    if isinstance(operand, str):
        name = operand
        if magnitude:

            def of_magnitude(
                time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
            ) -> bool:
                return compare(abs(values.get(name, _NAN)), bound)

            return of_magnitude

        def of_value(
            time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
        ) -> bool:
            return compare(values.get(name, _NAN), bound)

        return of_value
    slope = operand

    def of_slope(
        time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> bool:
        value = slope(time, values, new)
        return compare(abs(value) if magnitude else value, bound)

    return of_slope


def compile_all(parts: Sequence[Evaluate]) -> Evaluate:
    """True when every part is. All are evaluated, for the sake of their windows and timers."""
    parts = tuple(parts)

    def every(
        time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> bool:
        result = True
        for part in parts:
            if not part(time, values, new):
                result = False
        return result

    return every


def compile_any(parts: Sequence[Evaluate]) -> Evaluate:
    """True when at least one part is. All are evaluated."""
    parts = tuple(parts)

    def some(
        time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> bool:
        result = False
        for part in parts:
            if part(time, values, new):
                result = True
        return result

    return some


def compile_held(
    compiler: Compiler,
    inner: Evaluate,
    duration: float,
    names: Collection[str],
    counted: Collection[str],
) -> Evaluate:
    """True once `inner` has been true at every sample over at least `duration` (s).

    names: quantities of `inner`. counted: those that are new with every sample.
    """
    names = frozenset(names)
    always = not names.isdisjoint(counted)
    patient = compiler.patient
    since: float | None = None
    result = False

    def reset() -> None:
        nonlocal since, result
        since, result = None, False

    def held(
        time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> bool:
        nonlocal since, result
        if new is not None and not always and names.isdisjoint(new):
            return result
        if inner(time, values, new):
            if since is None:
                since = time
            # Stamps are differences of large floats: half a nanosecond is forgiven.
            result = time - since >= duration - 5e-10
        elif patient and unknown(names, values):
            result = False
        else:
            since, result = None, False
        return result

    compiler.resets.append(reset)
    return held


def unknown(names: Collection[str], values: Mapping[str, float]) -> bool:
    """Whether one of the quantities has no valid value."""
    return any(math.isnan(values.get(name, _NAN)) for name in names)


def compile_slope(compiler: Compiler, name: str, window: float) -> Slope:
    """Least-squares slope over the samples stamped in [time - window, time]; NaN while undefined.

    Sums are kept about a reference point that moves along, so that they stay small and exact
    enough; they are made anew whenever it moves, at a constant cost a sample on average.
    """
    samples: deque[tuple[float, float]] = deque()
    reach = window * (1.0 + 1e-9)
    full = window * FULL
    t0 = v0 = 0.0
    st = sv = stt = stv = 0.0
    result = _NAN

    def reset() -> None:
        nonlocal result
        samples.clear()
        result = _NAN

    def rebase() -> None:
        nonlocal t0, v0, st, sv, stt, stv
        t0, v0 = samples[len(samples) // 2]
        st = sv = stt = stv = 0.0
        for t, v in samples:
            dt, dv = t - t0, v - v0
            st += dt
            sv += dv
            stt += dt * dt
            stv += dt * dv

    def slope(
        time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> float:
        nonlocal st, sv, stt, stv, result
        if new is not None and name not in new:
            return result
        value = values.get(name, _NAN)
        if not isfinite(value):
            # An invalid sample leaves the window alone, but nothing is known at this moment.
            result = _NAN
            return result
        if samples:
            if time <= samples[-1][0]:
                return result
            oldest = time - reach
            while samples and samples[0][0] < oldest:
                t, v = samples.popleft()
                dt, dv = t - t0, v - v0
                st -= dt
                sv -= dv
                stt -= dt * dt
                stv -= dt * dv
        samples.append((time, value))
        if len(samples) == 1 or time - t0 > 1.5 * window:
            rebase()
        else:
            dt, dv = time - t0, value - v0
            st += dt
            sv += dv
            stt += dt * dt
            stv += dt * dv
        count = len(samples)
        if count < 3 or time - samples[0][0] < full:
            result = _NAN
            return result
        spread = count * stt - st * st
        result = (count * stv - st * sv) / spread if spread > 0.0 else _NAN
        return result

    compiler.resets.append(reset)
    return slope


def compile_fall(compiler: Compiler, name: str, after: float) -> Slope:
    """Share by which the magnitude lies below its highest; NaN while undefined.

    after: s from the first valid sample for which nothing is looked at.
    """
    since: float | None = None
    highest = 0.0
    result = _NAN

    def reset() -> None:
        nonlocal since, highest, result
        since, highest, result = None, 0.0, _NAN

    def fall(
        time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> float:
        nonlocal since, highest, result
        if new is not None and name not in new:
            return result
        value = abs(values.get(name, _NAN))
        if not isfinite(value):
            result = _NAN
            return result
        if since is None:
            since = time
        if time - since < after - 5e-10:
            return result
        highest = max(highest, value)
        result = 1.0 - value / highest if highest > 0.0 else _NAN
        return result

    compiler.resets.append(reset)
    return fall


def compile_dose(name: str, above: float | None) -> Slope:
    """Time integral of a quantity, or of what exceeds `above`; NaN while undefined.

    No reset forgets it: a pause stops no exposure.
    """
    last_time = last_value = total = 0.0
    begun = False
    result = _NAN

    def dose(
        time: float, values: Mapping[str, float], new: Collection[str] | None = None, /
    ) -> float:
        nonlocal last_time, last_value, total, begun, result
        if new is not None and name not in new:
            return result
        value = values.get(name, _NAN)
        if not isfinite(value):
            result = _NAN
            return result
        if above is not None:
            value -= above
        if begun and time > last_time:
            total += (time - last_time) * _mean(last_value, value, above is not None)
        if not begun or time > last_time:
            begun, last_time, last_value = True, time, value
        result = total
        return result

    return dose


def _mean(begin: float, end: float, positive: bool) -> float:
    """Mean over a straight line between two values, or over what of it is positive."""
    low, high = min(begin, end), max(begin, end)
    if not positive or low >= 0.0:
        return 0.5 * begin + 0.5 * end
    return 0.0 if high <= 0.0 else 0.5 * high * (high / (high - low))
