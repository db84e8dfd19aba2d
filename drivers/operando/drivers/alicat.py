"""Alicat dual-valve pressure controllers (PCD and kin) driving a pneumatic press, ASCII.

Documents: Alicat Serial Primer (Feb 2023 Rev. 2) and the quick command guides of the PC, EXTSEN
and M series manuals; the replies to ??M*, LS and SR as captured from 10v20 firmware in the tests
of the public package alicatlib (G. Bellamy); numat/alicat for the two-column frame and for what
holding means on two valves. What gas pressure means for a stack: forces, by two areas of settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple, NoReturn, TypeAlias

from pydantic import Field

from operando.drivers.alicat_lines import COUNT, NUMBER, TIMEOUT, Conversation, Frame
from operando.instruments.capabilities import Capabilities, Range, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    NotVerifiedError,
    ReportedError,
    SafeStateError,
)
from operando.instruments.quantities import (
    Fraction,
    Newtons,
    Pascals,
    PascalsPerSecond,
    Seconds,
    SquareMetres,
)
from operando.instruments.roles import DriverInfo, Expect, Identity
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Wire

PASCALS = {
    "pa": 1.0,
    "hpa": 1e2,
    "kpa": 1e3,
    "mpa": 1e6,
    "mbar": 1e2,
    "bar": 1e5,
    "psi": 6894.757,
    "torr": 133.3224,
    "atm": 101325.0,
}
"""Pa in one unit of the display (NIST SP 811, appendix B). Case does not count."""

SECOND, MINUTE = 4, 5
"""Time units of SR (Serial Primer p. 15)."""

NO_RATE = "0 4"
"""What lifts the slew limit."""

HELD = frozenset({"HLD", "EXH"})
"""Codes under which the valves do not follow the set-point."""

FROZEN = HELD | {"ADC"}
"""Codes under which a ramp stays where it is."""

OVER = frozenset({"POV", "OPL"})
"""Codes of too much pressure: a ramp goes no further up."""

SET_POINT_QUERY = (9, 0)
"""Firmware that knows LS, which tells unit and requested set-point (Serial Primer p. 12)."""

_FIRMWARE = re.compile(r"(\d{1,2})v(\d{1,2})")
_UNIT = re.compile(r"(pa|hpa|kpa|mpa|mbar|bar|psi|torr|atm)([agd]?)")


@dataclass(frozen=True, slots=True)
class AlicatSettings:
    """How the controller is reached and what its gas pressure does to the stack.

    unit_id: letter on the line. unit: of its display; "reported" takes what LS tells, which
    firmware before 9v00 cannot. reference: whether it shows pressure above the atmosphere or
    above nothing. atmosphere: Pa, subtracted from an absolute pressure.
    columns: numbers of a data frame in their order; "-" is one that does not matter.
    actuator_area, piston_area: m2; stack pressure is gas pressure times the first over the second.
    Friction and weight are not accounted for.
    maximum_force: N on the stack that no set-point exceeds, whatever a run asks for.
    maximum_slew: Pa/s of stack pressure, likewise. full_scale: Pa of gas, 0 when not stated.
    overshoot: fraction above the maximum at which `measure` lets the gas out by itself.
    stale_after: s that a ramp runs on without a reading. lead: Pa of stack pressure that it may be
    ahead of the reading anyway; must exceed the control error.
    safe_state: "hold" closes both valves, "vent" lets the gas out.
    """

    unit_id: Annotated[str, Field(pattern="^[A-Z]$")] = "A"
    unit: Literal["reported", "psi", "bar", "mbar", "kPa", "MPa", "hPa", "Pa"] = "reported"
    reference: Literal["gauge", "absolute"] = "gauge"
    atmosphere: Pascals = 101325.0
    columns: str = "pressure setpoint"
    actuator_area: SquareMetres = 1.9635e-3  # a bore of 50 mm
    piston_area: SquareMetres = 1.3273e-4  # a piston of 13 mm, as of the load cell
    maximum_force: Newtons = 2000.0
    maximum_slew: PascalsPerSecond = 1e6
    full_scale: Pascals = 0.0
    overshoot: Fraction = 0.02
    stale_after: Seconds = 5.0
    lead: Pascals = 50e3
    safe_state: Literal["hold", "vent"] = "hold"

    def __post_init__(self) -> None:
        names = self.columns.split()
        if names.count("pressure") != 1 or names.count("setpoint") != 1:
            raise BadInputError(
                'columns must name "pressure" and "setpoint" once, such as "pressure setpoint", '
                f"not {self.columns!r}"
            )
        if set(names) - {"pressure", "setpoint", "-"}:
            raise BadInputError(f'columns knows pressure, setpoint and "-", not {self.columns!r}')
        if len(self.unit_id) != 1 or not "A" <= self.unit_id <= "Z":
            raise BadInputError(f"unit_id must be a letter A to Z, not {self.unit_id!r}")
        for name in ("actuator_area", "piston_area", "maximum_force", "maximum_slew", "lead"):
            if not getattr(self, name) > 0.0:
                raise BadInputError(f"{name} must be positive, not {getattr(self, name):g}")
        if not (self.overshoot >= 0.0 and self.stale_after >= 0.0 and self.full_scale >= 0.0):
            raise BadInputError("overshoot, stale_after and full_scale must not be negative")


class Ramp(NamedTuple):
    """Where to go. target, slew: of the display and per second.

    setpoint: the last one that was written, of the display.
    """

    target: float
    slew: float
    setpoint: float


class AlicatDualValve(Conversation[AlicatSettings]):
    """One dual-valve controller on one press. When the host falls silent it goes on holding.

    The slew limit is on board. A ramp is handed out in pieces: each reading moves the set-point
    on, at most `stale_after` seconds of slew (or `lead`) beyond the pressure that was read. So a
    ramp freezes there by itself when readings stop, when the host dies, and when the pressure
    does not follow, and goes on with the next reading. It must be polled faster than that.
    """

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="alicat-dual-valve",
        maker="ALICAT SCIENTIFIC",
        models=("PCD", "PCD3", "PCDS", "PCRD", "PCRD3", "PCRDS", "PCRD3S", "EPCD"),
        document="Alicat Serial Primer, Feb 2023 Rev. 2; PC series manual",
        roles=("pressure_controller",),
        identification="serial",
        safe_state="settings.safe_state: both valves held closed (default), or vented; read back",
        measures=("pressure",),
        notes=(
            "a ramp goes on only while it is polled: `measure` moves the set-point",
            "a constant pressure stays on when the computer dies; fit a relief valve",
            "the pressure is inferred from the gas, without friction: compare with a load cell",
            "the set-point source must be serial, the auto-tare off",
        ),
    )
    Settings: TypeAlias = AlicatSettings

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: AlicatSettings = AlicatSettings(),
    ) -> None:
        super().__init__(wire, clock, name=name, expect=expect, settings=settings)
        self._unit_id, self._columns = settings.unit_id, settings.columns.split()
        self._lock = asyncio.Lock()
        self._identity: Identity | None = None
        self._asks_set_point = False
        self._unit = ""
        self._pascals = math.nan
        self._hard = settings.maximum_force / settings.piston_area
        self._maximum = self._hard
        self._relieving = False
        self._ramp: Ramp | None = None

    # Identity ------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities. fastest_sampling: a frame takes 20 ms at 19200 baud.

        pressure_ranges: of the stack, by the smaller of full scale and largest force.
        """
        settings, highest = self._settings, self._hard
        if settings.full_scale > 0.0:
            highest = min(highest, settings.full_scale * self._ratio)
        return Capabilities(
            pressure_ranges=(Range(highest),),
            fastest_sampling=0.05,
            off_time=2.0 * TIMEOUT,
            on_board=frozenset({"constant pressure", "slew limit"}),
            when_host_is_silent=WhenHostIsSilent.STAYS_ON,
        )

    async def _identify(self, *, urgent: bool = False) -> Identity:
        self._trusted = False
        identity, number = await self._manufacturer(urgent=urgent)
        wanted = self._identity or Identity("", "", self._expect.serial, self._expect.firmware)
        model = self._expect.model
        if identity.model not in self.INFO.models or model not in ("", identity.model, number):
            self._wrong(
                f"expected model {model or ', '.join(self.INFO.models)}, found {number}",
                "`driver`, `address` or `expect.model`",
            )
        if wanted.serial and identity.serial != wanted.serial:
            self._wrong(
                f"expected serial {wanted.serial}, found {identity.serial}", "`expect.serial`"
            )
        if wanted.firmware and identity.firmware != wanted.firmware:
            self._wrong(
                f"expected firmware {wanted.firmware}, found {identity.firmware}",
                "`expect.firmware`",
            )
        await self._learn_unit(identity.firmware, urgent=urgent)
        self._identity = identity
        self._trusted = True
        return identity

    async def _learn_unit(self, firmware: str, *, urgent: bool) -> None:
        settings = self._settings
        version = _FIRMWARE.match(firmware)
        unit: str = "" if settings.unit == "reported" else settings.unit
        # Older firmware takes any command that begins with AL for "lock the display".
        self._asks_set_point = (
            version is not None and (int(version[1]), int(version[2])) >= SET_POINT_QUERY
        )
        if self._asks_set_point:
            *_, label = await self._ask_set_point(urgent=urgent)
            found = _UNIT.fullmatch(label.lower())
            if found is None:
                self._wrong(f"it controls in {label!r}, which is no pressure", "its control loop")
            if unit and unit.lower() != found[1]:
                self._wrong(f"expected the unit {unit}, found {label}", "`settings.unit`")
            letter = {"gauge": "a", "absolute": "g"}[settings.reference]
            if found[2] in (letter, "d"):
                self._wrong(
                    f"expected {settings.reference} pressure, found {label}", "`settings.reference`"
                )
            if label != (self._unit or label):
                self._wrong(f"its unit was changed from {self._unit} to {label}", "it at the panel")
            self._unit = label
            unit = found[1]
        elif not unit:
            self._wrong(
                f"firmware {firmware or 'without number'} does not tell its unit", "`settings.unit`"
            )
        self._pascals = PASCALS[unit.lower()]

    # Conversions ---------------------------------------------------------------------------

    @property
    def _ratio(self) -> float:
        return self._settings.actuator_area / self._settings.piston_area

    @property
    def _zero(self) -> float:
        """Pa that the display shows without any force on the stack."""
        return self._settings.atmosphere if self._settings.reference == "absolute" else 0.0

    def _stack(self, shown: float) -> float:
        """Stack pressure (Pa) at a number of the display."""
        return (shown * self._pascals - self._zero) * self._ratio

    def _shown(self, stack: float) -> float:
        """Number of the display at a stack pressure (Pa)."""
        return (stack / self._ratio + self._zero) / self._pascals

    # Holding and ramping -------------------------------------------------------------------

    def check(self, pressure: float, *, slew: float, maximum: float) -> None:
        """Raise UnsupportedError for what `hold` refuses by the settings alone. Touches nothing."""
        settings = self._settings
        maximum = min(maximum, self._hard)
        if not 0.0 <= pressure <= maximum:
            self._refuse(
                f"{pressure:g} Pa is not within 0 and {maximum:g} Pa, the lower one of what the "
                "run and `settings.maximum_force` allow"
            )
        if settings.full_scale > 0.0 and pressure > settings.full_scale * self._ratio:
            self._refuse(f"{pressure:g} Pa needs more gas pressure than `settings.full_scale`")
        if not 0.0 < slew <= settings.maximum_slew:
            self._refuse(
                f"a slew of {slew:g} Pa/s is not within 0 and {settings.maximum_slew:g} Pa/s, "
                "`settings.maximum_slew`"
            )

    async def hold(self, pressure: float, *, slew: float, maximum: float) -> None:
        """Go to `pressure` (Pa on the stack) at `slew` (Pa/s), never above `maximum` (Pa).

        Returns when slew limit and first piece of the ramp are read back; readings take it on
        from there. Releases valves that were held. Raises UnsupportedError before it writes,
        NotVerifiedError, ReportedError.
        """
        self.check(pressure, slew=slew, maximum=maximum)
        maximum = min(maximum, self._hard)
        rate = slew / self._ratio / self._pascals
        words = _rate(rate)
        if words is None:
            self._refuse(f"a slew of {slew:g} Pa/s is too slow for its display")
        calls = self._calls_for_safety
        async with self._lock:
            frame = await self._frame()
            self._check_state(frame, maximum)
            self._ramp = None
            self._maximum, self._relieving = maximum, False
            try:
                if frame.codes & HELD:
                    frame = await self._release(frame, words, calls)
                else:
                    self._stop_if_unsafe(calls)
                    await self._set_rate(words)
                self._stop_if_unsafe(calls)
                target = self._rounded(self._shown(pressure))
                self._ramp = Ramp(target, rate, frame.setpoint)
                await self._advance(frame, first=True)
            finally:
                if calls != self._calls_for_safety:
                    # `safe` may have come between the last look at it and a command.
                    self._ramp = None
                    await self._make_safe()
            self._stop_if_unsafe(calls)

    def _check_state(self, frame: Frame, maximum: float) -> None:
        """Refuse to start where the maximum is passed already, or nothing can be measured."""
        if "ADC" in frame.codes:
            self._refuse("its converter fails (ADC), so that it cannot see the pressure")
        found = max(self._stack(frame.pressure), self._stack(frame.setpoint))
        if frame.codes & HELD:
            found = self._stack(frame.pressure)
        if found > maximum * (1.0 + self._settings.overshoot) + self._stack_step:
            self._refuse(
                f"the stack is at {found:g} Pa or told to go there, above the maximum of "
                f"{maximum:g} Pa. Go down with the old maximum first, or vent"
            )

    async def _release(self, frame: Frame, words: str, calls: int) -> Frame:
        """Free held valves with the set-point where the pressure is; the frame after that."""
        within = min(max(frame.pressure, self._shown(0.0)), self._shown(self._maximum))
        self._stop_if_unsafe(calls)
        await self._set(self._rounded(within))
        await self._set_rate(NO_RATE)  # whatever ramp it was on, it is there now
        await self._set_rate(words)
        self._stop_if_unsafe(calls)
        await self._tell("C")
        frame = await self._frame()
        if frame.codes & HELD and calls == self._calls_for_safety:
            self._not_verified("C", "a frame without HLD and EXH", " ".join(frame.codes))
        return frame

    async def _advance(self, frame: Frame, *, first: bool = False) -> None:
        """Move the set-point on towards the target, as far as the pressure was seen to follow.

        first: write it even where it seems to stand already. Whether a frame shows what was asked
        for or how far a ramp has come is not documented; an older ramp may be under way.
        """
        ramp = self._ramp
        if ramp is None or frame.codes & FROZEN:
            return
        settings = self._settings
        lead = max(ramp.slew * settings.stale_after, settings.lead / self._ratio / self._pascals)
        if ramp.target < ramp.setpoint:
            wanted = min(max(ramp.target, frame.pressure - lead), ramp.setpoint)
        elif frame.codes & OVER:
            wanted = ramp.setpoint
        else:
            wanted = max(min(ramp.target, frame.pressure + lead), ramp.setpoint)
        wanted = self._rounded(wanted)
        if wanted == ramp.setpoint and not first:
            return
        self._ramp = None  # until it is read back: no further piece after a failure
        await self._set(wanted)
        self._ramp = ramp._replace(setpoint=wanted)

    def _stop_if_unsafe(self, calls: int) -> None:
        if calls != self._calls_for_safety:
            self._ramp = None
        super()._stop_if_unsafe(calls)

    # Measuring -----------------------------------------------------------------------------

    async def measure(self) -> AuxReading:
        """Measure the stack pressure (Pa) from the gas pressure, and take a ramp on.

        OVERLOAD over range and above the maximum of `hold`; more than `overshoot` above it the
        gas is let out at once. FAULT with NaN when its converter fails.
        """
        sent = self._clock.now()
        calls = self._calls_for_safety
        frame = await self._frame()
        width = 0.5 * (self._clock.now() - sent)
        value, status = self._stack(frame.pressure), Status.OK
        if "ADC" in frame.codes:
            value, status = math.nan, Status.FAULT
        elif value > self._maximum + self._stack_step or frame.codes & OVER:
            status = Status.OVERLOAD
        if self._is_beyond(frame, self._maximum):
            status = Status.OVERLOAD
            await self._relieve(frame)
        elif self._ramp is not None and not self._lock.locked():
            async with self._lock:
                await self._advance(frame)
                if calls != self._calls_for_safety:
                    self._ramp = None
                    await self._make_safe()
        return AuxReading(self.name, "pressure", sent + width, width, value, status)

    def _is_beyond(self, frame: Frame, maximum: float) -> bool:
        """Whether pressure, or a set-point that somebody else gave it, passes the maximum."""
        most = maximum * (1.0 + self._settings.overshoot) + self._stack_step
        return (self._stack(frame.pressure) > most and "ADC" not in frame.codes) or (
            self._stack(frame.setpoint) > most and "HLD" not in frame.codes
        )

    @property
    def _stack_step(self) -> float:
        """Pa on the stack by which the last digit of the display changes it."""
        digits = self._decimals[0] if self._decimals is not None else 0
        return 10.0**-digits * self._pascals * self._ratio

    async def _relieve(self, frame: Frame) -> None:
        """Let the gas out, unless that is under way. Gives a set-point that is written up."""
        self._ramp = None
        self._relieving = True
        if frame.codes & HELD or self._stack(frame.setpoint) > self._stack_step:
            self._calls_for_safety += 1
            await self._vent()

    # Safe state ----------------------------------------------------------------------------

    async def safe(self) -> None:
        """Close both valves or let the gas out, as the settings say; read back. Idempotent.

        A pressure above its maximum is let out, never held. Letting out is proven by set-point
        and free valves; the gas itself takes its time. Raises SafeStateError or
        CommunicationError.
        """
        self._calls_for_safety += 1
        self._ramp = None
        try:
            if not self._trusted:
                await self._identify(urgent=True)
            await self._make_safe()
        except CommunicationError:
            await self._tell_blindly()
            raise

    async def _tell_blindly(self) -> None:
        """Tell it to stop although it does not answer: the line may still carry one way.

        Nothing is known of the pressure then: it is held, unless it was being let out already.
        """
        words = ["HC"]
        if self._relieving or self._settings.safe_state == "vent":
            words = ["LS 0" if self._asks_set_point else "S0", "C"]
        for word in words:
            request = f"{self._settings.unit_id}{word}\r".encode("ascii")
            with contextlib.suppress(CommunicationError):
                await self._wire.send(request, TIMEOUT, urgent=True)

    async def _make_safe(self) -> None:
        frame = await self._frame(urgent=True)
        if self._is_beyond(frame, self._maximum):
            self._relieving = True
        vent = self._relieving or self._settings.safe_state == "vent"
        for _ in range(2):  # a set-point that was waiting in the wire may have come between
            try:
                await (self._vent() if vent else self._tell("HC", urgent=True))
            except (ReportedError, NotVerifiedError) as error:
                self._not_safe(error.reason)
            frame = await self._frame(urgent=True)
            let_out = not frame.codes & HELD and self._stack(frame.setpoint) <= self._stack_step
            if let_out if vent else "HLD" in frame.codes:
                return
        self._not_safe(f"its last frame is {frame}")

    async def _vent(self) -> None:
        """Set-point to no force, without ramp, then free the valves: in no other order.

        Lifting the slew limit first would let it jump to the end of a ramp that is going up.
        """
        await self._set(self._rounded(self._shown(0.0)), urgent=True)
        await self._set_rate(NO_RATE, urgent=True)
        await self._tell("C", urgent=True)

    def _not_safe(self, why: str) -> NoReturn:
        raise self._error(
            SafeStateError,
            f"{why}. ASSUME THAT IT GOES ON PRESSING: shut the gas off and vent by hand.",
        )

    async def _set(self, value: float, *, urgent: bool = False) -> None:
        """Write a set-point of the display, read back what it was taken for."""
        if not self._trusted:
            await self._identify(urgent=urgent)
        digits = self._set_point_digits
        if self._asks_set_point:
            command = f"LS {value:.{digits}f}"
            _, found, unit = await self._ask_set_point(command, urgent=urgent)
            if unit != self._unit:
                self._not_verified(command, self._unit, unit)
        else:
            command = f"S{value:.{digits}f}"
            found = (await self._tell(command, urgent=urgent)).setpoint
        if abs(found - value) > 0.5 * 10.0**-digits:
            self._not_verified(
                command, f"the set-point {value:.{digits}f}", f"{found:g}; is its source serial?"
            )

    @property
    def _set_point_digits(self) -> int:
        return self._decimals[1] if self._decimals is not None else 2

    def _rounded(self, value: float) -> float:
        """Down to what the display can show: a maximum stays a maximum."""
        scale = 10.0**self._set_point_digits
        return math.floor(value * scale + 1e-6) / scale

    async def _set_rate(self, words: str, *, urgent: bool = False) -> None:
        """Limit the slew of the set-point on board, read it back; "0 4" lifts the limit."""
        command = f"SR {words}"
        fields = await self._ask(command, urgent=urgent)
        wanted, unit = words.split()
        if len(fields) != 4 or not NUMBER.fullmatch(fields[0]) or not COUNT.fullmatch(fields[2]):
            self._garbled(command, " ".join(fields), "such as 25.0 10 4 PSIG/s")
        found = float(fields[0])
        # It takes the closest rate that it has: slower will do, none at all or faster will not.
        slow = found <= 1.05 * float(wanted) and (found > 0.0) == (float(wanted) > 0.0)
        if not slow or (fields[2] != unit and found > 0.0):
            self._not_verified(command, f"a slew limit of {words}", " ".join(fields))


def _rate(rate: float) -> str | None:
    """Arguments of SR for a rate of the display per second; None when it is too slow to write."""
    value, unit = (rate, SECOND) if rate >= 1.0 else (60.0 * rate, MINUTE)
    value = math.floor(value * 1e4) / 1e4
    return f"{value:.4f} {unit}" if value > 0.0 else None
