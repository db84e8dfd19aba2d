"""PalmSens instruments that run MethodSCRIPT: EmStat Pico, EmStat4 LR and HR, Sensit, Nexus.

Documents: see `palmsens_packages`, `methodscript` and `palmsens_models`. A set-point is one script
on board. It cuts off, holds, watches the window and ends by itself; the driver starts it, listens
to its points and tells it now and then that somebody is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, NoReturn, TypeAlias

from operando.drivers import methodscript
from operando.drivers.methodscript import CURRENT, REST, SWEEP, VOLTAGE, Manner
from operando.drivers.palmsens_conversation import CELL_IS_ON, MODE_IS_OFF
from operando.drivers.palmsens_listening import DRIFT, Listener
from operando.drivers.palmsens_models import (
    FASTEST_INTERVAL,
    LARGEST_AMPLITUDE,
    MODELS,
    ON_BOARD,
    POINT_ABORT,
    PalmSensSettings,
    own_bounds,
)
from operando.drivers.palmsens_packages import Point, PointClock, next_point
from operando.drivers.palmsens_spectra import RunningSpectrum
from operando.instruments.capabilities import Capabilities, Range, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    InstrumentError,
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
from operando.instruments.samples import Status
from operando.instruments.techniques import ImpedancePoint, SpectrumRequest, SweepRequest
from operando.instruments.wires import Wire

REST_MARGIN = 0.5
"""V by which a rest's limit may exceed the window: it drives nothing, the limit is a source
meter's."""

CURRENT_TOLERANCE = 0.02
"""Share of the current and of its range by which a first point may differ."""

VOLTAGE_TOLERANCE = 0.02
"""V by which the first point of a sweep or a spectrum may differ."""

NEEDED = {67: "meas_loop_cp", 28: "meas_loop_ca", 30: "meas_loop_ocp"}
"""Bits of CM that steps need."""


class PalmSensMethodScript(Listener):
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
            "a spectrum goes on to its last frequency when the computer dies, then its script "
            "opens the cell; until its next point no other session can tell whose script runs",
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
        super().__init__(wire, clock, expect, settings)
        self.name = name or self.INFO.name
        self._protection: Protection | None = None

    # Identity ------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the identified model, of an EmStat4 HR before that.

        off_time: an abort waits for the interval to end, one more may be on its way, or for a
        point of a spectrum, which is taken to end within a second; then a script switches off and
        another proves it. The output STAYS ON when the host is silent,
        for `settings.unattended` s at the most.
        """
        model, interval = self._model, self._settings.interval
        return Capabilities(
            voltage=model.voltage,
            current=(-model.current, model.current),
            voltage_ranges=(Range(max(map(abs, model.voltage))),),
            current_ranges=tuple(Range(full) for full in model.currents),
            fastest_sampling=interval,
            off_time=max(2.0 * interval, POINT_ABORT) + 0.5,
            on_board=ON_BOARD,
            when_host_is_silent=WhenHostIsSilent.STAYS_ON,
            bounds=own_bounds(self._settings),
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
            if self._spectrum is not None and self._spectrum.goes_on:
                return True
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
        self._check_commands(NEEDED)
        if protection is not None:
            low, high = protection.voltage
            if current > protection.current * (1.0 + 1e-9) or not low <= voltage <= high:
                self._refuse(
                    f"{voltage:g} V with {current:g} A lies outside what the run was prepared for: "
                    f"{low:g} to {high:g} V and {protection.current:g} A"
                )

    def _check_commands(self, needed: Mapping[int, str]) -> None:
        if self._commands is not None:
            missing = [name for bit, name in needed.items() if bit not in self._commands]
            if missing:
                self._refuse(f"it lacks the script command {', '.join(missing)}")

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
        await self._run(
            lambda: self._compile(setpoint), lambda found: self._verify(setpoint, found)
        )

    async def _run(
        self,
        compiled: Callable[[], bytes],
        verify: Callable[[Point], None],
        again: Callable[[], bytes] | None = None,
    ) -> None:
        """Run a script and hold its first point against what it should show.

        again: what is begun before the unattended time ends if nothing can renew the script;
        the same when None.
        """
        calls = self._calls_for_safety
        async with self._lock:
            await self._stop_reading()
            await self._trust()
            program = compiled()
            await self._halt()
            self._driving = False
            begun = self._clock.now()
            started = await self._start(program, calls)
            verify(started)
            self._stop_if_unsafe(calls)
            self._script, self._driving = again() if again else program, True
            self._timer = PointClock(DRIFT, begun)
            self._take(started)
            self._switched = begun, self._timer.zero
            self._listen(self._clock.now())

    @property
    def switched(self) -> tuple[float, float]:
        """Laboratory times (s) at which the set-point before ended and the present one began.

        The first is that of the abort's answer, the second that of the script's own timer at zero,
        known by the fastest point.
        """
        return self._switched

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

    # Techniques ----------------------------------------------------------------------------

    def check_spectrum(self, request: SpectrumRequest) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        model, highest = self._model, request.frequencies[0]
        self._check_pair(request.bias, request.current_limit)
        self._check_commands({31: "meas_loop_eis"})
        if not highest <= model.frequency * (1.0 + 1e-9):
            self._refuse(f"{highest:g} Hz is beyond a {model.name}'s {model.frequency:g} Hz")
        if not request.amplitude <= LARGEST_AMPLITUDE:
            self._refuse(
                f"an amplitude of {request.amplitude:g} V; up to {LARGEST_AMPLITUDE:g} V are meant"
            )
        if not methodscript.evenly_spaced(request.frequencies):
            self._refuse("its spectra are evenly spaced in the logarithm of the frequency")

    async def begin_spectrum(self, request: SpectrumRequest) -> None:
        """Begin a spectrum; returns when the held bias has been seen within what is allowed.

        How many periods a point takes is left to the instrument: the option that seems to choose
        it (`eis_opt`) is in the grammar, but no document says what its numbers mean. When the host
        falls silent the script goes on to its last frequency, then opens the cell: the length of
        the spectrum bounds that, not `unattended`.
        """
        if self._protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        self.check_spectrum(request)
        calls = self._calls_for_safety
        async with self._lock:
            await self._stop_reading()
            await self._trust()
            full_scale = self._model.full_scale(request.current_limit)
            program = methodscript.spectrum(
                self._manner(),
                amplitude=request.amplitude,
                highest=request.frequencies[0],
                lowest=request.frequencies[-1],
                points=len(request.frequencies),
                bias=request.bias,
                current=request.current_limit,
                full_scale=full_scale,
            )
            await self._halt()
            self._script, self._driving, self._unread = b"", True, None
            spectrum = RunningSpectrum(
                request,
                self._clock,
                full_scale=full_scale,
                ranges=self._model.ranges,
                begun=self._clock.now(),
                drift=DRIFT,
            )
            await self._follow(spectrum, program, calls)
            assert spectrum.look is not None
            self._verify_voltage(request.bias, spectrum.look)

    async def next_point(self) -> ImpedancePoint | None:
        """The next point of the spectrum as it comes; None behind the last, the cell being off.

        Voltage is that of the held bias before the first point, the current is not told. Raises
        GarbledReplyError for what is no point or not the next, ReportedError, ReplyTimeoutError,
        and InstrumentError when anybody ended it, or more flowed than the largest range holds:
        the point that showed this comes first, with status OVERLOAD, and the script is aborted.
        """
        if self._spectrum is None:
            raise self._error(InstrumentError, "measures no spectrum; begin_spectrum() comes first")
        return await self._spectrum.next()

    def check_sweep(self, request: SweepRequest) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        for voltage in (request.start, request.end):
            self._check_pair(voltage, request.current_limit)
        self._check_commands({23: "meas_loop_lsv"})
        if not abs(request.end - request.start) > request.step * (1.0 + 1e-6):
            self._refuse(
                f"a sweep from {request.start:g} to {request.end:g} V in steps of "
                f"{request.step:g} V has no two levels; hold the voltage, or choose smaller steps"
            )
        if not request.step / request.rate >= FASTEST_INTERVAL * (1.0 - 1e-9):
            self._refuse(
                f"steps of {request.step:g} V at {request.rate:g} V/s follow each other within "
                f"{request.step / request.rate:g} s; {FASTEST_INTERVAL:g} s are the least, which "
                f"steps of {request.rate * FASTEST_INTERVAL:g} V take"
            )
        unattended = self._settings.unattended
        cannot_renew = self._identity is not None and not self._renewable
        if cannot_renew and request.duration > 0.5 * unattended:
            self._refuse(
                f"it lacks the command Y, so that a sweep of {request.duration:g} s cannot be told "
                f"that somebody is there; choose settings.unattended of twice that ({unattended:g} "
                "s now)"
            )

    async def sweep(self, request: SweepRequest) -> None:
        """Sweep the voltage on board, then hold the last; returns with the first point.

        Levels that last no longer than `settings.interval` are a linear sweep of the instrument,
        a point a level. Longer ones keep their step and are held one by one with points an
        interval apart at the most: smaller steps could fall below what the instrument resolves
        (error 001C), longer intervals could keep `safe` waiting. A current beyond the limit, of
        either sign, and a voltage outside the run's window open the cell: then readings are
        FAULT. Renewed and `unattended` like any step, in the sweep as behind it; each renewal may
        cut one level of a linear sweep short.
        """
        if self._protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        self.check_sweep(request)
        await self._run(
            lambda: self._compile_sweep(request),
            lambda found: self._verify_voltage(request.start, found),
            # What is begun anew where a step cannot be renewed: the sweep is over by then.
            lambda: self._compile(Potentiostatic(request.end, request.current_limit)),
        )

    def _compile_sweep(self, request: SweepRequest) -> bytes:
        # A limit at the very end of a range would never be seen to be passed.
        full_scale = self._model.full_scale(methodscript.OVER_LIMIT * request.current_limit)
        return methodscript.sweep(
            self._manner(),
            start=request.start,
            end=request.end,
            rate=request.rate,
            step=request.step,
            current=request.current_limit,
            full_scale=full_scale,
        )

    def _verify_voltage(self, expected: float, found: Point) -> None:
        """Hold the first point under a voltage against it, unless its status excuses it."""
        if found.stage not in (VOLTAGE, SWEEP):
            self._not_verified("a driven cell", f"stage {found.stage}")
        if found.status is Status.OK and not abs(found.voltage - expected) <= VOLTAGE_TOLERANCE:
            self._not_verified(f"{expected:g} V", f"{found.voltage:g} V")

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
