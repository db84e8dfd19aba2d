"""Instruments that are read at the same moment as the potentiostat, and how well that went.

Each reading keeps its own time, the midpoint between sending and reply, and half the width as its
uncertainty. What lies between the times of one moment is the skew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from operando.instruments.clock import Clock
from operando.instruments.recorder import JSON

LEARNING: Final = 10
"""Moments in which an instrument's delay is found; their skew is in the mean, but not the worst."""

GAIN: Final = 0.5
"""Share of a moment's skew by which the delay is corrected. Our choice: it settles within some
readings and does not follow the scatter of one."""


@dataclass
class _Skew:
    """Of one source. pairs: moments in which both were read. sum, worst: s, magnitudes.

    delay: s after the potentiostat's beginning at which it is read, so that the middles meet: an
    instrument that integrates for a while is asked before one that answers at once.
    """

    pairs: int = 0
    sum: float = 0.0
    worst: float = 0.0
    delay: float = 0.0


class Synchrony:
    """Moments at which a run reads several instruments at once. names: of those instruments."""

    def __init__(self, names: Collection[str], clock: Clock) -> None:
        self._clock = clock
        self._next = asyncio.Event()
        self._skews = {name: _Skew() for name in names}
        self._electrical = math.nan
        self._waiting: dict[str, float] = {}
        self._unpaired: set[str] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._skews

    def strike(self) -> None:
        """The potentiostat is read now: so are the others."""
        if self._skews:
            self._electrical = math.nan
            self._waiting.clear()
            self._unpaired = set(self._skews)
            self._next.set()
            self._next = asyncio.Event()

    async def wait(self, name: str, interval: float) -> None:
        """Wait for the next moment, for not much longer than `interval` s of laboratory time."""
        try:
            async with asyncio.timeout(1.5 * interval / self._clock.lab(1.0)):
                await self._next.wait()
        except TimeoutError:
            self._unpaired.discard(name)
            return  # a spectrum, a step on board or a pause: they are read all the same
        if delay := self._skews[name].delay:
            await self._clock.sleep(delay)

    def electrical(self, time: float) -> None:
        """The potentiostat was read at a laboratory time (s)."""
        self._electrical = time
        for name, at in self._waiting.items():
            self._pair(name, at)
        self._waiting.clear()

    def other(self, name: str, time: float) -> None:
        """Another instrument was read at a laboratory time (s)."""
        if name not in self._unpaired:
            return  # of no moment, or a further quantity of one that is counted already
        self._unpaired.discard(name)
        if math.isnan(self._electrical):
            self._waiting[name] = time
        else:
            self._pair(name, time)

    def _pair(self, name: str, time: float) -> None:
        skew, early = self._skews[name], self._electrical - time
        skew.pairs += 1
        skew.sum += abs(early)
        if skew.pairs > LEARNING:
            skew.worst = max(skew.worst, abs(early))
        skew.delay = max(0.0, skew.delay + GAIN * early)

    def summary(self) -> dict[str, JSON]:
        """Mean and largest skew (s) of each source, and in how many moments both were read.

        The largest is that after the first LEARNING moments.
        """
        return {
            name: {
                "moments": skew.pairs,
                "mean_skew": skew.sum / skew.pairs if skew.pairs else None,
                "largest_skew": skew.worst if skew.pairs else None,
            }
            for name, skew in self._skews.items()
        }
