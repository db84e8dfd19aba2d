"""Keithley 2450 and 2461 source meters driving one cell, SCPI command set.

Documents: 2450-901-01 Rev B, 2461-901-01 A (pages in the comments), 2461-900-01 p. 6-8 for the
battery recipe. What a source meter means for a cell: docs/explanation/source-meter.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from typing import ClassVar, Literal

from operando.drivers.keithley_scpi import LINE, TIMEOUT, Conversation, identity_of
from operando.drivers.keithley_tables import (
    LIMIT_FLOOR,
    MODEL_2450,
    MODEL_2461,
    OVERRANGE,
    Model,
    SourceMeterSettings,
)
from operando.instruments.capabilities import Capabilities, Range, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    SafeStateError,
    WrongInstrumentError,
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

READ = b':READ? "defbuffer1",SOUR,READ\n'
LIMITED = {"VOLT": b":SOUR:VOLT:ILIM:TRIP?\n", "CURR": b":SOUR:CURR:VLIM:TRIP?\n"}

INVALID = 9.0e37
"""Readings beyond this are overflows (+/-9.9E37) or not a number (9.91E37)."""

_READING = re.compile(rb"([+-]?\d\.\d+E[+-]\d\d),([+-]?\d\.\d+E[+-]\d\d)")

SAFE_LOG_DEPTH = 20
"""Entries of the event log that `safe` reads, so that it stays within its time."""

Function = Literal["VOLT", "CURR"]


class Keithley2450(Conversation):
    """One 2450 on one cell. Output off: relay open. When the host falls silent it stays on.

    A charge or discharge is a voltage source at the cut-off with the current as its limit, so
    the cut-off holds by hardware. Which way current flows depends on the side of the cut-off on
    which the cell stands: whoever polls must trip on the sign, which the driver cannot foresee.
    """

    MODEL: ClassVar[Model] = MODEL_2450
    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="keithley-2450",
        maker="KEITHLEY INSTRUMENTS",
        models=("2450",),
        document="2450-901-01 Rev B (Sept 2013), 2461-901-01 A (Nov 2015)",
        roles=("potentiostat",),
        identification="serial",
        safe_state="output off with its relay open (high impedance), both source functions",
        notes=(
            "no *RST: it would put the off state to NORMAL, which loads a connected cell",
            "relative offset, averaging, maths and units of the front panel are not touched",
        ),
        # As in the VISA resource names of Tektronix' examples for its source meters.
        signs=("usb:05e6:2450",),
    )
    OFF_STATES: ClassVar[tuple[str, ...]] = (":OUTP:VOLT:SMOD?", ":OUTP:CURR:SMOD?")
    """What asks for the state of the output when it is off."""

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: SourceMeterSettings = SourceMeterSettings(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(wire, clock, name=name, expect=expect, settings=settings)
        self._reading_timeout = 1.0 + settings.reading_time
        self._lock = asyncio.Lock()
        self._protection: Protection | None = None
        self._voltage_range = 0.0
        # What `measure` must know of the present set-point; learnt when unknown.
        self._function: Function | None = None
        self._level = 0.0
        self._limit = 0.0
        self._held: Potentiostatic | None = None  # what `move` may change

    # Identity ------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities from the manual's tables.

        off_time is an ASSUMPTION: a running reading must end first, then the relay opens and four
        short queries are answered. fastest_sampling: 80 to 120 ms per READ at NPLC 1.
        """
        model, reading = self.MODEL, self._settings.reading_time
        return Capabilities(
            voltage=(-model.voltage, model.voltage),
            current=(-model.current, model.current),
            voltage_ranges=tuple(Range(scale) for scale in model.voltage_ranges),
            current_ranges=tuple(Range(scale) for scale in model.current_ranges),
            fastest_sampling=reading,
            off_time=0.5 + reading,
            on_board=frozenset({"voltage cut-off", "current limit", "over-voltage protection"}),
            when_host_is_silent=WhenHostIsSilent.STAYS_ON,
            bounds=(
                "voltage and current limit of each set-point, which its regulation holds at once; "
                "both read back before the output is switched on",
                "over-voltage protection at the lowest of its steps above the window, read back "
                "with each set-point; the manual states no time",
            ),
        )

    async def reconnect(self) -> Identity:
        """Abandon the session, open another, check the identity again. Writes nothing."""
        self._function = self._held = None
        return await super().reconnect()

    async def output_is_on(self) -> bool:
        """Read whether the output drives or loads the cell: on, or off but not high impedance."""
        modes = {await self._ask(question) for question in self.OFF_STATES}
        return await self._ask(":OUTP?") != "0" or modes != {"HIMP"}

    async def _identify(self, *, urgent: bool = False) -> Identity:
        """Read and check identity and command set; writes nothing."""
        self._trusted = False
        reply = await self._query("*IDN?", urgent=urgent)
        identity = identity_of(reply)
        if identity is None:
            raise self._error(
                GarbledReplyError,
                f"expected an identity such as 'KEITHLEY INSTRUMENTS,MODEL {self.MODEL.number},"
                f"04096331,1.6.7c', got {reply!r}. Nothing was written.",
            )
        self._check_identity(identity)
        language = await self._query("*LANG?", urgent=urgent)
        if language != "SCPI":
            raise self._error(
                WrongInstrumentError,
                f"expected the command set SCPI, found {language}. Nothing was written. Send "
                "'*LANG SCPI' (or MENU > System > Settings > Command Set), then switch the "
                "instrument off and on.",
            )
        self._identity = identity
        self._trusted = True
        return identity

    # Set-points ----------------------------------------------------------------------------

    def check(self, setpoint: SetPoint) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        model = self.MODEL
        match setpoint:
            case Galvanostatic(current=current, cutoff=voltage):
                self._check_pair(voltage, abs(current))
            case Potentiostatic(voltage=voltage, current_limit=current):
                self._check_pair(voltage, current)
            case OpenCircuit(voltage_limit=voltage):
                self._check_voltage(voltage)
                highest = self._highest_voltage()
                if voltage <= 0.0 or voltage < model.lowest_voltage_limit:
                    self._refuse(f"a voltage limit of {voltage:g} V is too low")
                if voltage < highest:
                    self._refuse(
                        f"a voltage limit of {voltage:g} V lies inside the run's window of up to "
                        f"{highest:g} V: the instrument would sink current from the cell to hold "
                        "its limit"
                    )

    def _check_pair(self, voltage: float, current: float) -> None:
        model = self.MODEL
        self._check_voltage(voltage)
        protection = self._protection
        if protection is not None:
            low, high = protection.voltage
            if current > protection.current * (1.0 + 1e-9) or not low <= voltage <= high:
                self._refuse(
                    f"{voltage:g} V with {current:g} A lies outside what the run was prepared for: "
                    f"{low:g} to {high:g} V and {protection.current:g} A"
                )
        if self._protection is not None and abs(voltage) > self._voltage_range * OVERRANGE:
            self._refuse(
                f"{voltage:g} V does not fit the {self._voltage_range:g} V range of the run"
            )
        if not current <= model.current:
            self._refuse(f"{current:g} A is beyond its {model.current:g} A")
        floor = max(model.lowest_current_limit, LIMIT_FLOOR * model.current_ranges[0])
        if current < floor:
            self._refuse(f"{current:g} A is below the lowest current limit of {floor:g} A")
        if 0.0 < model.high_voltage < abs(voltage) and current > model.high_voltage_current:
            self._refuse(
                f"{voltage:g} V with {current:g} A is outside its power envelope: above "
                f"{model.high_voltage:g} V it supplies {model.high_voltage_current:g} A"
            )

    def _check_voltage(self, voltage: float) -> None:
        if not abs(voltage) <= self.MODEL.voltage:
            self._refuse(f"{voltage:g} V is beyond its {self.MODEL.voltage:g} V")
        if self._protection is not None:
            level = self._protection_level(self._protection)
            if abs(voltage) > level:
                self._refuse(f"{voltage:g} V is beyond the over-voltage protection at {level:g} V")

    def _highest_voltage(self) -> float:
        return max(map(abs, self._protection.voltage)) if self._protection is not None else 0.0

    def _protection_level(self, protection: Protection) -> float:
        """Level of over-voltage protection, V; 0.0 when the instrument has none so high."""
        wanted = self._settings.over_voltage_protection
        return wanted or self.MODEL.protection(max(map(abs, protection.voltage)))

    async def prepare(self, protection: Protection) -> None:
        """Program ranges, sensing, protections and the off state, read back, output off.

        There is no reset: `*RST` selects the off state NORMAL, a 0 V source with closed relay
        that loads a connected cell. The relay is opened first, then each setting is written.
        """
        model, settings = self.MODEL, self._settings
        highest = max(map(abs, protection.voltage))
        if highest > model.voltage or protection.current > model.current:
            self._refuse(
                f"a window up to {highest:g} V and {protection.current:g} A is beyond its "
                f"{model.voltage:g} V and {model.current:g} A"
            )
        level = self._protection_level(protection)
        if level not in model.protection_levels or level <= highest:
            self._refuse(
                f"it has no over-voltage protection at {level:g} V above the window of up to "
                f"{highest:g} V"
                if level
                else f"it has no over-voltage protection above {highest:g} V"
            )
        # One range for the whole run: it must hold the cell's voltage, not only the level, or a
        # discharge to 1 V would ask a 2 V range to sink a 4 V cell.
        voltage_range = model.voltage_range(highest)
        async with self._lock:
            await self._drain_log()  # errors of an earlier user are not ours
            await self._open_relay()
            self._protection, self._voltage_range = protection, voltage_range
            wires = "ON" if settings.sense == "4-wire" else "OFF"
            zero = "ON" if settings.auto_zero else "OFF"
            await self._tell(
                f":ROUT:TERM {'FRON' if settings.terminals == 'front' else 'REAR'}",
                ":SENS:COUN 1",
                ':SENS:FUNC "VOLT"',  # the function before its range (2461-901-01 p. 6-65)
                ":SENS:VOLT:RANG:AUTO ON",
                f":SENS:VOLT:RSEN {wires}",
                f":SENS:VOLT:NPLC {settings.nplc:g}",
                f":SENS:VOLT:AZER {zero}",
                ':SENS:FUNC "CURR"',
                ":SENS:CURR:RANG:AUTO ON",
                f":SENS:CURR:RSEN {wires}",
                f":SENS:CURR:NPLC {settings.nplc:g}",
                f":SENS:CURR:AZER {zero}",
                ":SOUR:FUNC VOLT",
                # Levels and limits go below every protection level before that is lowered.
                ":SOUR:VOLT 0",
                ":SOUR:CURR 0",
                ":SOUR:CURR:VLIM 1",
                f":SOUR:VOLT:RANG {voltage_range:g}",
                f":SOUR:VOLT:PROT PROT{level:g}",
                ":SOUR:VOLT:READ:BACK ON",
                ":SOUR:CURR:READ:BACK ON",
            )
            await self._verify_word(":ROUT:TERM?", settings.terminals[:4].upper())
            await self._verify_number(":SENS:COUN?", 1.0)
            await self._verify_number(":SENS:VOLT:NPLC?", settings.nplc)
            await self._verify_number(":SENS:CURR:NPLC?", settings.nplc)
            await self._verify_wiring(protection)
            await self._verify_number(":SOUR:VOLT:RANG?", voltage_range)
            await self._verify_word(":OUTP?", "0")

    async def _verify_wiring(self, protection: Protection) -> None:
        """What keeps cell and instrument safe, whatever the set-point."""
        level = self._protection_level(protection)
        wires = "1" if self._settings.sense == "4-wire" else "0"
        await self._verify_word(":SOUR:VOLT:PROT?", f"PROT{level:g}")
        await self._verify_word(":SENS:VOLT:RSEN?", wires)
        await self._verify_word(":SENS:CURR:RSEN?", wires)
        await self._verify_word(":SOUR:VOLT:READ:BACK?", "1")
        await self._verify_word(":SOUR:CURR:READ:BACK?", "1")
        for question in self.OFF_STATES:
            await self._verify_word(question, "HIMP")

    async def _open_relay(self) -> None:
        """Output off and off state high impedance, both read back."""
        self._function = self._held = None
        await self._tell(":OUTP OFF")
        await self._verify_word(":OUTP?", "0")
        await self._tell(":OUTP:SMOD HIMP")  # without a function it applies to all
        for question in self.OFF_STATES:
            await self._verify_word(question, "HIMP")

    async def apply(self, setpoint: SetPoint) -> None:
        """Drive the cell as told; returns when the output is on with the settings read back.

        Within the voltage source level and limit change under way, the smaller current first.
        Changing the source function, or the limit by more than a factor of 1000, opens the relay.
        """
        protection = self._protection
        if protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        self.check(setpoint)
        calls = self._calls_for_safety
        async with self._lock:
            on = await self._ask(":OUTP?") == "1"
            source = (await self._ask(":SOUR:FUNC?")).strip('"')
            match setpoint:
                case OpenCircuit(voltage_limit=limit):
                    function: Function = "CURR"
                    level, under_way = 0.0, False
                case Galvanostatic(current=current, cutoff=level):
                    function, limit = "VOLT", abs(current)
                    under_way = on and source == "VOLT" and await self._change(level, limit)
                case Potentiostatic(voltage=level, current_limit=limit):
                    function = "VOLT"
                    under_way = on and source == "VOLT" and await self._change(level, limit)
            level, limit = float(level), float(limit)
            self._function = self._held = None
            if not under_way:
                if on:
                    await self._open_relay()
                await self._program(function, level, limit)
            await self._verify_wiring(protection)
            await self._verify(function, level, limit)
            if not under_way:
                self._stop_if_unsafe(calls)
                await self._tell(":OUTP ON")
            await self._verify_word(":OUTP?", "1")
            if calls != self._calls_for_safety:
                # `safe` was asked for while the output was being switched on.
                await self._urge(":OUTP OFF")
            self._stop_if_unsafe(calls)
            self._level, self._limit, self._function = level, limit, function
            self._held = setpoint if isinstance(setpoint, Potentiostatic) else None

    async def move(self, voltage: float) -> None:
        """Hold another voltage (V), current limit as it is; returns when that was read back.

        The relay stays closed. Raises UnsupportedError, and writes nothing, unless a
        `Potentiostatic` set-point is applied that this session knows of, and outside of what the
        run was prepared for.
        """
        held = self._held
        if held is None:
            self._refuse("no voltage is held that could be moved; apply a Potentiostatic first")
        moved = Potentiostatic(voltage, held.current_limit)
        self.check(moved)
        calls = self._calls_for_safety
        async with self._lock:
            self._stop_if_unsafe(calls)
            await self._change(voltage, held.current_limit)
            await self._verify("VOLT", voltage, held.current_limit)
            self._stop_if_unsafe(calls)
            await self._verify_word(":OUTP?", "1")
            self._stop_if_unsafe(calls)
            self._level, self._held = voltage, moved

    async def _program(self, function: Function, level: float, limit: float) -> None:
        """Write a set-point while the relay is open."""
        if function == "VOLT":
            await self._tell(
                ":SOUR:FUNC VOLT",
                ':SENS:FUNC "CURR"',
                # While the range is automatic it does not bound the limit (p. 6-94).
                ":SENS:CURR:RANG:AUTO ON",
                f":SOUR:VOLT:RANG {self._voltage_range:g}",
                f":SOUR:VOLT {level!r}",
                f":SOUR:VOLT:ILIM {limit!r}",
                f":SENS:CURR:RANG {self.MODEL.current_range(limit):g}",
            )
        else:
            await self._tell(
                ":SOUR:FUNC CURR",
                ':SENS:FUNC "VOLT"',
                ":SENS:VOLT:RANG:AUTO ON",
                ":SOUR:CURR 0",
                f":SOUR:CURR:RANG {self.MODEL.current_ranges[0]:g}",
                f":SOUR:CURR:VLIM {limit!r}",
                f":SENS:VOLT:RANG {self.MODEL.voltage_range(limit):g}",
            )

    async def _change(self, level: float, limit: float) -> bool:
        """Change level and limit while the output is on, if that can be done in safe steps."""
        present = await self._number(":SOUR:VOLT:ILIM?")
        present_range = await self._number(":SENS:CURR:RANG?")
        new_range = self.MODEL.current_range(limit)
        if limit <= LIMIT_FLOOR * present_range or present <= LIMIT_FLOOR * new_range:
            return False
        to_range = [] if new_range == present_range else [f":SENS:CURR:RANG {new_range:g}"]
        to_level, to_limit = f":SOUR:VOLT {level!r}", f":SOUR:VOLT:ILIM {limit!r}"
        if limit <= present:
            await self._tell(to_limit, *to_range, to_level)
        else:
            await self._tell(*to_range, to_level, to_limit)
        return True

    async def _verify(self, function: Function, level: float, limit: float) -> None:
        """Read back the set-point and its ranges."""
        await self._verify_word(":SOUR:FUNC?", function)
        if function == "VOLT":
            current_range = self.MODEL.current_range(limit)
            await self._verify_word(":SENS:FUNC?", "CURR")
            await self._verify_number(":SOUR:VOLT:RANG?", self._voltage_range)
            await self._verify_number(":SOUR:VOLT?", level, self._voltage_range)
            await self._verify_number(":SENS:CURR:RANG?", current_range)
            await self._verify_number(":SOUR:VOLT:ILIM?", limit, current_range)
        else:
            voltage_range = self.MODEL.voltage_range(limit)
            await self._verify_word(":SENS:FUNC?", "VOLT")
            await self._verify_number(":SOUR:CURR?", level, self.MODEL.current_ranges[0])
            await self._verify_number(":SOUR:CURR:RANG?", self.MODEL.current_ranges[0])
            await self._verify_number(":SENS:VOLT:RANG?", voltage_range)
            await self._verify_number(":SOUR:CURR:VLIM?", limit, voltage_range)

    # Measuring -----------------------------------------------------------------------------

    async def measure(self) -> Reading:
        """Measure voltage (V) and current (A) at the cell in one reading.

        With the output off nothing is measured: voltage NaN, current 0, regulation OPEN. Status
        is FAULT when the output went off although it had been on. Overflows are NaN, OVERLOAD.
        """
        async with self._lock:
            function = self._function or await self._learn()
            clock = self._clock
            sent = clock.now()
            if function is None:
                return Reading(sent, 0.0, math.nan, 0.0, Regulation.OPEN, Status.OK)
            if not self._trusted:
                await self._identify()
                sent = clock.now()
            try:
                reply = await self._wire.exchange(READ, LINE, self._reading_timeout)
            except CommunicationError as error:
                self._blame(error)
            width = 0.5 * (clock.now() - sent)
            found = _READING.fullmatch(reply.strip())
            if found is None:
                expected = "two numbers such as +3.700000E+00"
                self._garbled(":READ?", expected, reply.decode("ascii", "replace"))
            source, measured = float(found[1]), float(found[2])
            voltage, current = (source, measured) if function == "VOLT" else (measured, source)
            status = Status.OK
            if not -INVALID < voltage < INVALID:
                voltage, status = math.nan, Status.OVERLOAD
            if not -INVALID < current < INVALID:
                current, status = math.nan, Status.OVERLOAD
            if function == "VOLT":
                limit = self._limit
                distance = abs(voltage - self._level)
                if distance > max(2e-3, 1e-3 * abs(self._level)) and (
                    abs(abs(current) - limit) < 0.02 * limit
                ):
                    regulation = Regulation.CURRENT
                else:
                    regulation, status = await self._regulation(function, current, status)
            elif abs(voltage) < 0.98 * self._limit and abs(voltage) > 1e-3 * self._limit:
                regulation = Regulation.OPEN
            else:
                regulation, status = await self._regulation(function, 0.0, status)
            if status is Status.FAULT:
                voltage, current = math.nan, 0.0
            return Reading(sent + width, width, voltage, current, regulation, status)

    async def _regulation(
        self, function: Function, current: float, status: Status
    ) -> tuple[Regulation, Status]:
        """Ask which limit acts where the reading leaves it open; notice an output gone off."""
        try:
            reply = await self._wire.exchange(LIMITED[function], LINE, TIMEOUT)
        except CommunicationError as error:
            self._blame(error)
        if reply not in (b"0", b"1"):
            self._garbled(":TRIP?", "0 or 1", reply.decode("ascii", "replace"))
        limited = reply == b"1"
        # So little current could also mean that something else switched the output off: the
        # front panel, the interlock, a power cut. It must not look like the end of a charge.
        nothing_flows = abs(current) <= LIMIT_FLOOR * self._limit
        if nothing_flows and await self._ask(":OUTP?") != "1":
            self._function = None
            return Regulation.OPEN, Status.FAULT
        if function == "CURR":
            # At its voltage limit a zero-current source drives current, or the leads are open.
            return (Regulation.VOLTAGE, Status.OVERLOAD) if limited else (Regulation.OPEN, status)
        return (Regulation.CURRENT if limited else Regulation.VOLTAGE), status

    async def _learn(self) -> Function | None:
        """Read from the instrument what it does, for `measure` in a new session."""
        if await self._ask(":OUTP?") != "1":
            return None
        if "CURR" in await self._ask(":SOUR:FUNC?"):
            self._level = await self._number(":SOUR:CURR?")
            self._limit = await self._number(":SOUR:CURR:VLIM?")
            self._function = "CURR"
        else:
            self._level = await self._number(":SOUR:VOLT?")
            self._limit = await self._number(":SOUR:VOLT:ILIM?")
            self._function = "VOLT"
        return self._function

    # Safe state ----------------------------------------------------------------------------

    async def safe(self) -> None:
        """Switch the output off; returns when relay state and off state have been read back.

        Idempotent, works in any state, does not wait for a set-point that is being programmed.
        Raises SafeStateError or CommunicationError.
        """
        self._calls_for_safety += 1
        self._function = self._held = None
        state = ""
        for _ in range(2):  # a set-point that was waiting in the wire may have come between
            if not self._trusted:
                await self._identify(urgent=True)
            await self._urge(":ABOR")
            await self._urge(":OUTP OFF")
            state = await self._ask(":OUTP?", urgent=True)
            if state == "0":
                break
        else:
            raise self._error(
                SafeStateError,
                f":OUTP? should be 0 after :OUTP OFF but reads back {state!r}. ASSUME THAT THE "
                "OUTPUT IS ON: disconnect the cell.",
            )
        for question in self.OFF_STATES:
            if await self._ask(question, urgent=True) == "HIMP":
                continue
            await self._urge(":OUTP:SMOD HIMP")
            state = await self._ask(question, urgent=True)
            if state != "HIMP":
                raise self._error(
                    SafeStateError,
                    f"the output is off, but {question} should be HIMP and reads back {state!r}: "
                    "the terminals may still load the cell. Disconnect it.",
                )
        with contextlib.suppress(CommunicationError):  # nothing in it changes what was verified
            await self._drain_log(SAFE_LOG_DEPTH)


class Keithley2461(Keithley2450):
    """One 2461 on one cell; same commands as the 2450, other limits.

    Which voltage goes with which current is not in the sources: the instrument itself refuses.
    """

    MODEL: ClassVar[Model] = MODEL_2461
    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="keithley-2461",
        maker="KEITHLEY INSTRUMENTS",
        models=("2461",),
        document="2461-901-01 A (Nov 2015), 2461-900-01 p. 6-8",
        roles=Keithley2450.INFO.roles,
        identification="serial",
        safe_state=Keithley2450.INFO.safe_state,
        notes=(*Keithley2450.INFO.notes, "its power envelope is not known to the driver"),
        signs=("usb:05e6:2461",),  # as that of the 2450, from the same examples
    )
