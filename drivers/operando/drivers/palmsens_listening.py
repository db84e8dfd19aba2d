"""How the points of a running script are taken from a PalmSens instrument, and a step kept alive.

Documents: see `palmsens_packages` and `palmsens_conversation`.
"""

from __future__ import annotations

import asyncio
import math
from typing import NoReturn

from operando.drivers.methodscript import CURRENT, REST, SWEEP, VOLTAGE
from operando.drivers.palmsens_conversation import BUSY, TIMEOUT, Conversation
from operando.drivers.palmsens_models import LONGEST_INTERVAL, POINT_ABORT, PalmSensSettings
from operando.drivers.palmsens_packages import (
    Point,
    PointClock,
    check_nesting,
    next_point,
    started_or_refused,
    trouble,
)
from operando.drivers.palmsens_packages import (
    renewed as renewed_point,
)
from operando.drivers.palmsens_spectra import RunningSpectrum
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    GarbledReplyError,
    InstrumentError,
    NotVerifiedError,
    ReplyTimeoutError,
    ReportedError,
)
from operando.instruments.roles import Expect
from operando.instruments.samples import Reading, Regulation, Status
from operando.instruments.wires import Wire

LATENCY = 0.005
"""Wall s, half the time a point may take to get here. ASSUMPTION: USB and serial lines take some
milliseconds; the documents give no figure."""

DRIFT = 1e-4
"""Most by which the instrument's clock may differ from ours. ASSUMPTION: a quartz."""

SETTLING = 2.0
"""s within which a script has set up its modes and made its first point. ASSUMPTION."""

RUNS_BY_ITSELF = 3.0
"""A step is told that somebody is there this many times in its unattended time."""

STAGES = {
    REST: Regulation.OPEN,
    CURRENT: Regulation.CURRENT,
    VOLTAGE: Regulation.VOLTAGE,
    SWEEP: Regulation.VOLTAGE,
}


class Listener(Conversation):
    """Runs one script at a time and takes its points."""

    def __init__(
        self, wire: Wire, clock: Clock, expect: Expect, settings: PalmSensSettings
    ) -> None:
        super().__init__(wire, clock, expect)
        self._settings = settings
        self._lock = asyncio.Lock()
        self._script = b""
        self._reader: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._news: asyncio.Future[Reading] | None = None
        self._timer = PointClock(DRIFT)
        self._switched = (0.0, 0.0)
        self._unread: Reading | None = None
        self._spectrum: RunningSpectrum | None = None
        self._securing = 0

    async def _start(self, program: bytes, calls: int) -> Point:
        """Load and run the script of a step; its first point."""
        self._abort_time = LONGEST_INTERVAL
        patience = self._loop_seconds(SETTLING + self._settings.interval) + TIMEOUT
        lines = await self._exchange(program, started_or_refused, patience, calls=calls)
        await self._report(lines)
        if not lines[0].startswith(b"e"):
            self._garbled("e, which accepts a script", lines[0])
        if not lines[-1].startswith(b"P"):
            raise self._error(
                NotVerifiedError,
                "the script ended before its first point. Bring the instrument to the safe state "
                "and look at the cell: its voltage may lie outside the run's window.",
            )
        return self._decode(lines[-1])

    def _not_verified(self, expected: str, found: str) -> NoReturn:
        raise self._error(
            NotVerifiedError,
            f"the script should show {expected}, but shows {found}. The output is not to be "
            "trusted: bring it to the safe state.",
        )

    # Listening -----------------------------------------------------------------------------

    def _patience(self) -> float:
        """Seconds of the event loop in which a running script must be heard."""
        return self._loop_seconds(3.0 * self._settings.interval) + TIMEOUT

    def _listen(self, renewed: float) -> None:
        """Begin to take points. renewed: laboratory time when the host last showed itself."""
        self._failure = None
        self._news = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(renewed, self._calls_for_safety))

    async def _read(self, renewed: float, calls: int) -> None:
        """Take points and renew the step until it ends; what went wrong is kept for `measure`."""
        try:
            while calls == self._calls_for_safety and not self._give_way:
                age = self._clock.now() - renewed
                unattended = self._settings.unattended
                if self._renewable and age > unattended / RUNS_BY_ITSELF:
                    lines = await self._exchange(
                        b"Y\n", renewed_point, self._patience(), calls=calls
                    )
                elif not self._renewable and self._script and age > 0.75 * unattended:
                    await self._halt()
                    self._timer = PointClock(DRIFT, self._clock.now())
                    await self._start(self._script, calls)
                    renewed = self._clock.now()
                    continue
                else:
                    lines = await self._exchange(b"", next_point, self._patience())
                problem = trouble(lines[-1])
                if problem is not None and lines[-1].startswith(b"Y"):
                    # Refused between two measurement loops, and when the script has just ended.
                    if problem.code == BUSY and not await self._is_running():
                        return
                    self._renewable = problem.code == BUSY
                    continue
                if b"Y" in lines:
                    renewed = self._clock.now()
                await self._report(lines)
                if not lines[-1].startswith(b"P"):
                    return
                self._take(self._decode(lines[-1]))
        except ReplyTimeoutError as error:
            self._failure = await self._explain(error)
        except Exception as error:
            self._failure = error

    async def _explain(self, error: ReplyTimeoutError) -> Exception | None:
        """Why a script is not heard any more: it may have ended between two points."""
        try:
            return error if await self._is_running() else None
        except InstrumentError as another:
            return another

    def _take(self, found: Point) -> None:
        arrival = self._clock.now()
        try:
            made = self._timer.made(found.time, arrival)  # also of one that was long on its way
        except ValueError as error:
            self._garbled(f"a point of its script ({error})", str(found).encode())
        half = self._clock.lab(LATENCY)
        reading = Reading(
            made - half,
            half + arrival - made,
            found.voltage,
            found.current,
            STAGES[found.stage],
            found.status,
        )
        self._unread = reading
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        if news is not None and not news.done():
            news.set_result(reading)

    async def _stop_reading(self, patience: float | None = None) -> None:
        """End the reader. patience: s of the event loop for its present exchange to end."""
        reader = self._reader
        if reader is None:
            return
        if patience is None:
            # A serial line looks 20 times a second whether to give way.
            waits_for_points = self._spectrum is None or not self._spectrum.goes_on
            interval = self._settings.interval if waits_for_points else 0.0
            patience = self._loop_seconds(interval) + 0.1
        self._give_way = True
        try:
            if patience and not reader.done():
                await asyncio.wait({reader}, timeout=patience)
            reader.cancel()
            await asyncio.wait({reader})
        finally:
            self._give_way = False
        if self._reader is reader:
            self._reader = None

    async def measure(self) -> Reading:
        """The next point of the running step, at the time when it was made.

        Without a step nothing is measured: voltage NaN, current 0, regulation OPEN. Status is
        FAULT when a step or a spectrum ended that nobody ended. While a spectrum is measured the
        instrument tells neither voltage nor current: both are NaN, regulation VOLTAGE, at once.
        """
        async with self._lock:
            if self._spectrum is not None and self._spectrum.goes_on:
                now = self._clock.now()
                return Reading(now, 0.0, math.nan, math.nan, Regulation.VOLTAGE, Status.OK)
            if self._reader is None:
                if self._securing:  # the line is needed for what matters more
                    return self._nothing()
                await self._trust()
                if not await self._is_running():
                    return self._nothing()
                self._timer = PointClock(DRIFT)
                self._listen(-math.inf)
            reader, news = self._reader, self._news
            assert reader is not None
            assert news is not None
            await asyncio.wait((reader, news), return_when=asyncio.FIRST_COMPLETED)
            if news.done():
                self._unread = None
                return news.result()
            if self._reader is reader:
                self._reader = None
            failure, self._failure = self._failure, None
            if failure is not None:
                self._unread = None  # what came before it is not the present any more
                raise failure
            return self._nothing()

    def _nothing(self) -> Reading:
        """What is read when no step runs: the last point of one that ended, if nobody read it."""
        last, self._unread = self._unread, None
        if last is not None and self._driving:
            return last
        status = Status.FAULT if self._driving else Status.OK
        return Reading(self._clock.now(), 0.0, math.nan, 0.0, Regulation.OPEN, status)

    # A spectrum ----------------------------------------------------------------------------

    async def _follow(self, spectrum: RunningSpectrum, program: bytes, calls: int) -> None:
        """Begin to measure a spectrum; returns when the held bias has been seen.

        `_stop_reading` ends it like the reading of a step.
        """
        self._spectrum = spectrum
        self._failure = None
        self._abort_time = POINT_ABORT
        self._reader = asyncio.create_task(self._complete(spectrum, program, calls))
        await spectrum.looked.wait()
        if spectrum.look is None:
            await spectrum.next()  # raises what went wrong

    async def _complete(self, spectrum: RunningSpectrum, program: bytes, calls: int) -> None:
        """Wait for the whole of a spectrum; what came of it is kept for `next_point`."""
        failure: Exception | None = self._error(
            InstrumentError, "was asked for something else meanwhile"
        )
        try:
            lines = await self._output(spectrum, program, calls)
            await self._report(lines)
            self._check_complete(spectrum, lines)
            self._driving, failure = False, None
        except ReportedError as error:
            failure = error
            self._driving = spectrum.look is not None  # else it was refused
        except Exception as error:
            failure = error
        finally:
            if calls != self._calls_for_safety:
                failure = self._error(
                    InstrumentError, "was asked for its safe state; the spectrum was given up"
                )
            if self._reader is asyncio.current_task():
                self._reader = None
            spectrum.end(failure)

    async def _output(self, spectrum: RunningSpectrum, program: bytes, calls: int) -> list[bytes]:
        """Run the script of a spectrum; its whole output."""
        longest = self._loop_seconds(spectrum.longest) + TIMEOUT
        try:
            async with asyncio.timeout(None) as bound:
                spectrum.watch(bound)
                lines = await self._exchange(program, spectrum.finished, longest, calls=calls)
        except TimeoutError:
            if spectrum.problem is None:
                self._trusted = False
                raise self._error(
                    ReplyTimeoutError,
                    f"has not sent point {spectrum.count + 1} of its spectrum within "
                    f"{spectrum.patience:.3g} s. Bring it to the safe state.",
                ) from None
        except GarbledReplyError:
            await self._halt()  # a spectrum that misses a point is of no use
            raise
        if spectrum.problem is not None:
            await self._halt()
            self._driving = False
            kind, text = spectrum.problem
            raise self._error(kind, f"{text} The spectrum was aborted.")
        return lines

    def _check_complete(self, spectrum: RunningSpectrum, lines: list[bytes]) -> None:
        look, wanted = spectrum.look, len(spectrum.request.frequencies)
        if look is not None and spectrum.count == 0:
            raise self._error(
                InstrumentError,
                f"its script opened the cell before the first frequency: {look.voltage:.6g} V and "
                f"{look.current:.3g} A at the bias lie outside of what was allowed.",
            )
        if spectrum.count < wanted:
            raise self._error(
                InstrumentError,
                f"its script ended after {spectrum.count} of {wanted} points of a spectrum: "
                "another hand ended it.",
            )
        try:
            check_nesting(lines)
        except ValueError as error:
            self._garbled(f"the whole output of a spectrum ({error})", b"\n".join(lines[:4]))
