"""One impedance spectrum while a PalmSens instrument measures it: its lines become points.

The whole output of its script is one reply, so that no line can be lost between two requests;
this looks over the shoulder of whoever waits for that reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Mapping, Sequence

from operando.drivers.palmsens_packages import (
    Point,
    PointClock,
    end_of_script,
    impedance,
    point,
    trouble,
    unheard_of,
)
from operando.instruments.clock import Clock
from operando.instruments.errors import GarbledReplyError, InstrumentError
from operando.instruments.samples import Status
from operando.instruments.techniques import ImpedancePoint, SpectrumRequest

FREQUENCY_TOLERANCE = 0.01
"""Share by which a frequency may differ from the one asked for. ASSUMPTION: the captures of the
vendor show 99.99973 Hz for 100 Hz; ten points a decade are 26 % apart."""

MOST_PERIODS = 20.0
"""Periods within which a point comes, ranging included. ASSUMPTION: no document says how many the
instrument takes; twice that of a model which settles for two and averages some."""

LONGEST_OVERHEAD = 2.0
"""s besides. ASSUMPTION: short points are averaged longer, and a range takes its time to settle."""


class RunningSpectrum:
    """Points of one spectrum as they come, for whoever asks for the next.

    full_scale: A, of the largest range that the script may use. ranges: A by index.
    begun: laboratory time before which the script was not sent, s. drift: of its timer.
    """

    def __init__(
        self,
        request: SpectrumRequest,
        clock: Clock,
        *,
        full_scale: float,
        ranges: Mapping[int, float],
        begun: float,
        drift: float,
    ) -> None:
        self.request = request
        self.look: Point | None = None
        """What was seen of the held bias before the first point."""
        self.problem: tuple[type[InstrumentError], str] | None = None
        """Why it was broken off: kind of error and text. The script may still run."""
        self.looked = asyncio.Event()
        """Set when there is a `look`, or there will be none."""
        self.count = 0
        self._clock = clock
        self._full_scale = full_scale
        self._ranges = ranges
        self._timer = PointClock(drift, begun)
        self._points: deque[ImpedancePoint] = deque()
        self._news = asyncio.Event()
        self._over = False
        self._failure: Exception | None = None
        self._heard = 0
        self._loop = asyncio.get_running_loop()
        self._bound: asyncio.Timeout | None = None

    # In whatever thread the wire reads ------------------------------------------------------

    def finished(self, lines: Sequence[bytes]) -> bool:
        """Finished with the end of the script, a refusal, an error or garbage. Notes new lines."""
        if self.problem is not None:
            return True
        if len(lines) > self._heard:
            self._heard = len(lines)
            self._hand_over(lines[-1], self._clock.now())
        if len(lines) > 1 and trouble(lines[-1]) is not None:
            return True
        return end_of_script(lines) or unheard_of(lines)

    def _hand_over(self, line: bytes, arrival: float) -> None:
        if not line.startswith(b"P"):
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # the thread of a serial line
            with contextlib.suppress(RuntimeError):  # the event loop has gone
                self._loop.call_soon_threadsafe(self._take, line, arrival)
        else:
            self._take(line, arrival)

    # In the event loop ----------------------------------------------------------------------

    @property
    def goes_on(self) -> bool:
        """Whether the instrument still measures, as far as is known here."""
        return not self._over

    @property
    def patience(self) -> float:
        """Laboratory s within which the next point must come; the whole rest has one more."""
        left = self.request.frequencies[self.count :]
        periods = MOST_PERIODS / left[0] if left and self.look is not None else 0.0
        return LONGEST_OVERHEAD + periods

    @property
    def longest(self) -> float:
        """Laboratory s within which the whole must have come."""
        points = (LONGEST_OVERHEAD + MOST_PERIODS / one for one in self.request.frequencies)
        return 2.0 * LONGEST_OVERHEAD + math.fsum(points)

    def watch(self, bound: asyncio.Timeout) -> None:
        """Have the time that is left for the next line put into `bound`."""
        self._bound = bound
        self._extend(self.patience)

    def _extend(self, patience: float) -> None:
        if self._bound is not None:
            margin = 0.5  # s of the event loop, for the way of a line
            self._bound.reschedule(self._loop.time() + patience / self._clock.lab(1.0) + margin)

    def _break_off(self, kind: type[InstrumentError], text: str) -> None:
        """Take no more points, and end the wait for them."""
        self.problem = kind, text
        if self._bound is not None:
            self._bound.reschedule(self._loop.time())

    def _take(self, line: bytes, arrival: float) -> None:
        if self._over or self.problem is not None:
            return
        try:
            if self.look is None or (self.count == 0 and b";ja" in line):  # has a stage
                self.look = point(line)
                self._timer.made(self.look.time, arrival)
                self.looked.set()
            else:
                self._take_point(line, arrival)
        except ValueError as error:
            self._break_off(
                GarbledReplyError, f"expected a point of a spectrum ({error}), got {line[:200]!r}."
            )
        else:
            if self.problem is None:
                self._extend(self.patience)

    def _take_point(self, line: bytes, arrival: float) -> None:
        found = impedance(line)
        made = self._timer.made(found.time, arrival)
        if self.count == len(self.request.frequencies):
            raise ValueError(f"one more than the {self.count} that were asked for")
        expected = self.request.frequencies[self.count]
        if not abs(found.frequency - expected) <= FREQUENCY_TOLERANCE * expected:
            raise ValueError(f"{found.frequency:g} Hz where {expected:g} Hz is next")
        assert self.look is not None
        self.count += 1
        self._points.append(
            ImpedancePoint(
                made,
                found.frequency,
                found.real,
                found.imaginary,
                self.look.voltage,
                math.nan,
                found.status,
            )
        )
        self._news.set()
        full = self._full_scale if found.range is None else self._ranges.get(found.range, math.inf)
        if found.status is Status.OVERLOAD and full >= self._full_scale * (1.0 - 1e-9):
            self._break_off(
                InstrumentError,
                f"at {found.frequency:g} Hz more flowed than the {self._full_scale:g} A of the "
                "largest current range that was allowed.",
            )

    def end(self, failure: Exception | None) -> None:
        """No more points will come: it is complete, or failed."""
        if not self._over:
            self._over, self._failure = True, failure
            self._news.set()
            self.looked.set()

    async def next(self) -> ImpedancePoint | None:
        """The next point, None behind the last; raises why there is none."""
        while not self._points:
            if self._failure is not None:
                raise self._failure
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        return self._points.popleft()
