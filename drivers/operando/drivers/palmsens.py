"""PalmSens instruments that run MethodSCRIPT: EmStat Pico, EmStat4 LR and HR, Sensit, Nexus.

Documents: see `palmsens_packages`, `methodscript` and `palmsens_models`. A set-point is one script
on board. It cuts off, holds, watches the window and ends by itself; the driver starts it, listens
to its points and tells it now and then that somebody is there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import ClassVar, NoReturn, TypeAlias

from operando.drivers import methodscript
from operando.drivers.methodscript import CURRENT, REST, VOLTAGE, Manner
from operando.drivers.palmsens_conversation import (
    BUSY,
    CELL_IS_ON,
    MODE_IS_OFF,
    TIMEOUT,
    Conversation,
)
from operando.drivers.palmsens_models import MODELS, ON_BOARD, PalmSensSettings
from operando.drivers.palmsens_packages import (
    ImpedancePoint,
    Point,
    PointClock,
    end_of_script,
    next_point,
    spectrum_points,
    started_or_refused,
    trouble,
)
from operando.drivers.palmsens_packages import (
    renewed as renewed_point,
)
from operando.instruments.capabilities import Capabilities, Range, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    NotVerifiedError,
    ReplyTimeoutError,
    UnsupportedError,
)
from operando.instruments.roles import (
    DriverInfo,
    Expect,
    Galvanostatic,
    Identity,
    OpenCircuit,
    Potentiostatic,
    Protection,
    SetPoint,
)
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

REST_MARGIN = 0.5
"""V by which a rest's limit may exceed the window: it drives nothing, the limit is a source
meter's."""

CURRENT_TOLERANCE = 0.02
"""Share of the current and of its range by which a first point may differ."""

STAGES = {REST: Regulation.OPEN, CURRENT: Regulation.CURRENT, VOLTAGE: Regulation.VOLTAGE}

NEEDED = {67: "meas_loop_cp", 28: "meas_loop_ca", 30: "meas_loop_ocp"}
"""Bits of CM that steps need."""


class PalmSensMethodScript(Conversation):
    """One channel of a MethodSCRIPT instrument on one cell.

    The instrument checks cut-off, window and current limit once in an interval, by its script.
    When the host falls silent a step goes on for `unattended` at the most, then its script opens
    the cell; rests end likewise. Points arrive as they are made: a reader takes them, and a step
    is alive as long as this program's event loop is.
    """

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="palmsens-methodscript",
        maker="PalmSens",
        models=tuple(model.name for model in MODELS),
        document="PalmSens MethodSCRIPT examples and SDK, communication protocol pages",
        roles=("potentiostat",),
        identification="serial",
        safe_state="script aborted, cell off, an open circuit measured to prove it",
        notes=(
            "when the computer dies a step goes on for settings.unattended (10 min), then its "
            "script opens the cell",
            "a new set-point opens the cell for a moment; so does the change from current to "
            "voltage at the cut-off",
            "while a voltage is held the instrument may report the set voltage, while a current "
            "is driven the set current",
            "cut-off, window and current limit are looked at once in an interval",
            "a serial address needs its speed: baud=230400 for Pico and Sensit, else baud=921600",
            "where the instrument lacks the command Y a step is begun anew before its time ends",
        ),
    )
    Settings: TypeAlias = PalmSensSettings

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: PalmSensSettings = PalmSensSettings(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(wire, clock, expect)
        self.name = name or self.INFO.name
        self._settings = settings
        self._lock = asyncio.Lock()
        self._protection: Protection | None = None
        self._script = b""
        self._reader: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._news: asyncio.Future[Reading] | None = None
        self._timer = PointClock(DRIFT)
        self._unread: Reading | None = None
        self._securing = 0

    # Identity ------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the identified model, of an EmStat4 HR before that.

        off_time: an abort waits for the interval to end, one more may be on its way, then a
        script switches off and another proves it. The output STAYS ON when the host is silent,
        for `settings.unattended` s at the most.
        """
        model, interval = self._model, self._settings.interval
        return Capabilities(
            voltage=model.voltage,
            current=(-model.current, model.current),
            voltage_ranges=(Range(max(map(abs, model.voltage))),),
            current_ranges=tuple(Range(full) for full in model.currents),
            fastest_sampling=interval,
            off_time=2.0 * interval + 0.5,
            on_board=ON_BOARD,
            when_host_is_silent=WhenHostIsSilent.STAYS_ON,
        )

    async def connect(self) -> Identity:
        """Open the wire, read and check who answers. Changes nothing at the output.

        While a script of this driver runs the instrument does not answer; then the script's own
        stamp is read. Raises WrongInstrumentError for another instrument or a foreign script.
        """
        await self._open(self._wire.open)
        await self._stop_reading()
        return await self._identify()

    async def reconnect(self) -> Identity:
        """Abandon the session, open another, check the identity again. Writes nothing."""
        self._trusted = False
        self._script = b""
        await self._stop_reading(patience=0.0)
        self._unread = None
        await self._open(self._wire.reopen)
        return await self._identify()

    async def close(self) -> None:
        """Stop listening and close the wire. The step goes on until its unattended time is over."""
        await self._stop_reading()
        await self._wire.close()

    async def output_is_on(self) -> bool:
        """Read whether the cell is on: from the running script's points, else from a probe."""
        async with self._lock:
            await self._trust()
            if await self._is_running():
                lines = await self._exchange(b"", next_point, self._patience())
                if lines[-1].startswith(b"P"):
                    return self._decode(lines[-1]).stage != REST
            problem = await self._probe()
            if problem is None or problem.code == MODE_IS_OFF:
                return False
            if problem.code not in CELL_IS_ON:
                self._raise(problem)
            return True

    # Set-points ----------------------------------------------------------------------------

    def check(self, setpoint: SetPoint) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        match setpoint:
            case Galvanostatic(current=current, cutoff=voltage):
                self._check_pair(voltage, abs(current))
            case Potentiostatic(voltage=voltage, current_limit=current):
                self._check_pair(voltage, current)
            case OpenCircuit(voltage_limit=voltage):
                highest = max(map(abs, self._model.voltage))
                if not 0.0 < voltage <= highest + REST_MARGIN:
                    self._refuse(f"it measures up to {highest:g} V, not {voltage:g} V")

    def _check_pair(self, voltage: float, current: float) -> None:
        model, protection = self._model, self._protection
        low, high = model.voltage
        if not low <= voltage <= high:
            self._refuse(f"{voltage:g} V lies outside a {model.name}'s {low:g} to {high:g} V")
        if not current <= model.current:
            self._refuse(f"{current:g} A is beyond a {model.name}'s {model.current:g} A")
        if not current >= 1e-4 * model.currents[0]:
            self._refuse(f"{current:g} A is too little for the {model.currents[0]:g} A range")
        missing = [
            name
            for bit, name in NEEDED.items()
            if self._commands is not None and bit not in self._commands
        ]
        if missing:
            self._refuse(f"it lacks the script command {', '.join(missing)}")
        if protection is not None:
            low, high = protection.voltage
            if current > protection.current * (1.0 + 1e-9) or not low <= voltage <= high:
                self._refuse(
                    f"{voltage:g} V with {current:g} A lies outside what the run was prepared for: "
                    f"{low:g} to {high:g} V and {protection.current:g} A"
                )

    def _refuse(self, reason: str) -> NoReturn:
        raise self._error(UnsupportedError, f"cannot do this: {reason}. Nothing was written.")

    async def prepare(self, protection: Protection) -> None:
        """Note the window that every script of the run will watch; abort, cell off, proven."""
        model = self._model
        low, high = protection.voltage
        if not (model.voltage[0] <= low <= high <= model.voltage[1]):
            self._refuse(
                f"a window from {low:g} to {high:g} V is beyond a {model.name}'s "
                f"{model.voltage[0]:g} to {model.voltage[1]:g} V"
            )
        if not protection.current <= model.current:
            self._refuse(f"{protection.current:g} A is beyond its {model.current:g} A")
        calls = self._calls_for_safety
        async with self._lock:
            await self._stop_reading()
            await self._trust()
            await self._halt()
            await self._switch_off()
            self._stop_if_unsafe(calls)
            self._driving = False
            self._protection = protection

    async def apply(self, setpoint: SetPoint) -> None:
        """Run the set-point on board; returns when its first point has shown that it does.

        A step that runs is aborted first, which opens the cell until the new one has begun.
        """
        if self._protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        self.check(setpoint)
        calls = self._calls_for_safety
        async with self._lock:
            await self._stop_reading()
            await self._trust()
            program = self._compile(setpoint)
            await self._halt()
            self._driving = False
            begun = self._clock.now()
            started = await self._start(program, calls)
            self._verify(setpoint, started)
            self._stop_if_unsafe(calls)
            self._script, self._driving = program, True
            self._timer = PointClock(DRIFT, begun)
            self._take(started)
            self._listen(self._clock.now())

    def _manner(self) -> Manner:
        settings, model, protection = self._settings, self._model, self._protection
        assert protection is not None
        low, high = protection.voltage
        return Manner(
            stamp=self._stamp(),
            channel=settings.channel,
            mode=model.dc_mode,
            ac_mode=model.ac_mode,
            interval=settings.interval,
            unattended=settings.unattended,
            bandwidth=settings.measuring_bandwidth,
            mains=settings.mains,
            window=(low - settings.protection_margin, high + settings.protection_margin),
            reach=max(abs(low), abs(high)),
            autoranging=settings.autoranging,
        )

    def _compile(self, setpoint: SetPoint) -> bytes:
        manner = self._manner()
        match setpoint:
            case Galvanostatic(current=current, cutoff=voltage):
                direction = 1 if current > 0.0 else -1
            case Potentiostatic(voltage=voltage, current_limit=current):
                direction = 0
            case OpenCircuit():
                return methodscript.rest(manner)
        return methodscript.source(
            manner,
            voltage=voltage,
            current=abs(current),
            full_scale=self._model.full_scale(abs(current)),
            direction=direction,
        )

    async def _start(self, program: bytes, calls: int) -> Point:
        """Load and run a script; its first point."""
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

    def _verify(self, setpoint: SetPoint, found: Point) -> None:
        """Hold the first point of a step against what was asked for."""
        resting = isinstance(setpoint, OpenCircuit)
        if resting != (found.stage == REST):
            self._not_verified("a rest" if resting else "a driven cell", f"stage {found.stage}")
        if found.stage != CURRENT or math.isnan(found.current):
            return
        if isinstance(setpoint, Galvanostatic):
            expected, value = setpoint.current, found.current
        else:
            assert isinstance(setpoint, Potentiostatic)
            expected, value = setpoint.current_limit, abs(found.current)
        room = CURRENT_TOLERANCE * (abs(expected) + self._model.full_scale(abs(expected)))
        # A point made while the current settles is not held against it, unless by its sign.
        if found.status is Status.OK and abs(value - expected) > room:
            self._not_verified(f"{expected:g} A", f"{value:g} A")

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
            patience = self._loop_seconds(self._settings.interval) + 0.1
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
        FAULT when a step ended that nobody ended.
        """
        async with self._lock:
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

    # Impedance -----------------------------------------------------------------------------

    async def impedance(
        self,
        frequencies: Sequence[float],
        amplitude: float,
        *,
        bias: float | None = None,
        largest_current: float | None = None,
    ) -> tuple[ImpedancePoint, ...]:
        """Measure a spectrum on board; the cell is off before and after.

        frequencies: Hz, evenly on a logarithmic scale, at least two. amplitude: V, root mean
        square. bias: V, None for the open circuit that the script finds. largest_current: A, for
        the current range; what the run was prepared for when None.
        Raises UnsupportedError, and GarbledReplyError unless every point has come.
        """
        protection = self._protection
        if protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        low, high = protection.voltage
        if bias is not None and not low <= bias <= high:
            self._refuse(f"{bias:g} V lies outside the run's {low:g} to {high:g} V")
        current = protection.current if largest_current is None else largest_current
        if not 0.0 < current <= self._model.current:
            self._refuse(f"{current:g} A is beyond its {self._model.current:g} A")
        if not 0.0 < amplitude <= 0.5:
            self._refuse(f"an amplitude of {amplitude:g} V; 0 to 0.5 V are meant here")
        if self._commands is not None and 31 not in self._commands:
            self._refuse("it lacks the script command meas_loop_eis")
        if not methodscript.evenly_spaced(frequencies):
            self._refuse("its spectra are two frequencies or more, evenly spaced in logarithm")
        calls = self._calls_for_safety
        async with self._lock:
            await self._stop_reading()
            await self._trust()
            program = methodscript.spectrum(
                self._manner(),
                amplitude=amplitude,
                highest=frequencies[0],
                lowest=frequencies[-1],
                points=len(frequencies),
                bias=bias,
                full_scale=self._model.full_scale(current),
            )
            await self._halt()
            self._driving = False
            # Two periods for settling and some for averaging: GENERAL, no document says.
            longest = SETTLING + sum(1.0 + 20.0 / frequency for frequency in frequencies)
            found: list[bytes] = []

            async def whole() -> None:
                patience = self._loop_seconds(longest) + TIMEOUT
                found.extend(await self._exchange(program, end_of_script, patience, calls=calls))

            task = self._reader = asyncio.create_task(whole())
            try:
                await asyncio.wait({task})
            finally:
                if not task.done():
                    await self._stop_reading()
                if self._reader is task:
                    self._reader = None
            self._stop_if_unsafe(calls)
            task.result()
            return await self._spectrum(found, len(frequencies))

    async def _spectrum(self, lines: list[bytes], expected: int) -> tuple[ImpedancePoint, ...]:
        for line in lines:
            await self._report([line])
        try:
            points = spectrum_points(lines, self._model.ranges)
        except ValueError as error:
            self._garbled(f"the output of an impedance script ({error})", b"\n".join(lines[:4]))
        if len(points) != expected:
            raise self._error(
                GarbledReplyError, f"sent {len(points)} points of a spectrum of {expected}"
            )
        return points

    async def safe(self) -> None:
        """Abort what runs, cell off, prove it, or SafeStateError or CommunicationError."""
        self._calls_for_safety += 1
        self._script = b""
        self._securing += 1
        try:
            await self._stop_reading()
            await self._trust()
            self._driving = False
            await self._halt()
            await self._switch_off()
        except CommunicationError:
            await self._abort_blindly()
            raise
        finally:
            self._securing -= 1
