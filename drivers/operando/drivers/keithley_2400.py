"""Keithley 2400 source meter driving one cell, legacy SCPI over RS-232 or GPIB.

Document: 2400S-900-01, 2400 Series SourceMeter user's manual, Rev. K (Sept 2011), section 18; its
pages in the comments. What it has in common with the 2450 is taken from that driver: charge and
discharge are a voltage source at the cut-off, with the current as its compliance.
"""

from __future__ import annotations

import math
import re
from typing import ClassVar, NamedTuple

from operando.drivers.keithley_2450 import INVALID, Function, Keithley2450
from operando.drivers.keithley_scpi import LINE, READ_BACK_TOLERANCE, identity_of
from operando.drivers.keithley_tables import OVERRANGE, Model
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
)
from operando.instruments.roles import DriverInfo, Identity, Protection
from operando.instruments.samples import Reading, Regulation, Status

MODEL_2400 = Model(
    number="2400",
    document="2400S-900-01 Rev. K",
    voltage=210.0,
    current=1.05,
    voltage_ranges=(0.2, 2.0, 20.0, 200.0),
    current_ranges=(1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0),
    protection_levels=(20, 40, 60, 80, 100, 120, 160),  # p. 18-75, 5 % tolerance
    lowest_current_limit=0.0,
    lowest_voltage_limit=0.0,
    # 21 V at 1.05 A, 210 V at 105 mA. General knowledge, not read in the manual.
    high_voltage=21.0,
    high_voltage_current=0.105,
)

READ = b":READ?\n"
ELEMENTS = "VOLT,CURR,STAT"

# Bits of the status word (p. 18-51 and after).
OVER_RANGE = 1 << 0
FRONT = 1 << 2
COMPLIANCE = 1 << 3
PROTECTION = 1 << 4
MEASURES_VOLTAGE = 1 << 11
MEASURES_CURRENT = 1 << 12
SOURCES_VOLTAGE = 1 << 14
SOURCES_CURRENT = 1 << 15
RANGE_COMPLIANCE = 1 << 16
REMOTE_SENSE = 1 << 22
ARRANGEMENT = (
    FRONT | MEASURES_VOLTAGE | MEASURES_CURRENT | SOURCES_VOLTAGE | SOURCES_CURRENT | REMOTE_SENSE
)
"""Bits that say how it is wired and set up; they must be what was programmed."""

SOURCES = {"VOLT": SOURCES_VOLTAGE, "CURR": SOURCES_CURRENT}

_NUMBER = re.compile(r"[+-]\d\.\d{6}E[+-]\d\d")
"""A number of a reading: always 13 characters, which tells one that lost a digit on the line."""


class Elements(NamedTuple):
    """One reading as it is sent. V, A (9.9E37 beyond its range), status word."""

    voltage: float
    current: float
    word: int


class Keithley2400(Keithley2450):
    """One 2400 on one cell. Output off: relay open. When the host falls silent it stays on.

    As with the 2450 the cut-off holds by hardware, and whoever polls must trip on a current of
    the wrong sign. Each reading carries the status word: which limit acts, and whether sensing,
    terminals and source are still those that were programmed.
    """

    MODEL: ClassVar[Model] = MODEL_2400
    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="keithley-2400",
        maker="KEITHLEY INSTRUMENTS INC.",
        models=("2400",),
        document="2400S-900-01 Rev. K (Sept 2011), section 18",
        roles=Keithley2450.INFO.roles,
        identification="serial",
        safe_state="output off with its relay open (high impedance)",
        notes=(
            "no *RST: it would put the off state to NORMAL, which loads a connected cell",
            "RS-232: set its terminator to <LF> or <CR+LF>, 9600 baud or more, no flow control",
            "the lowest over-voltage protection is 20 V: the cut-off alone protects a cell",
            "averaging filter, maths and limit tests of the front panel are not touched",
        ),
    )

    OFF_STATES: ClassVar[tuple[str, ...]] = (":OUTP:SMOD?",)

    # Identity ------------------------------------------------------------------------------

    async def _identify(self, *, urgent: bool = False) -> Identity:
        """Read and check identity; writes nothing. It has no other command set to be in."""
        self._trusted = False
        reply = await self._query("*IDN?", urgent=urgent)
        identity = identity_of(reply)
        if identity is None or "KEITHLEY" not in identity.maker.upper():
            raise self._error(
                GarbledReplyError,
                f"expected an identity such as 'KEITHLEY INSTRUMENTS INC.,MODEL 2400,4105123,C32',"
                f" got {reply!r}. Nothing was written. Check baud rate and terminator.",
            )
        self._check_identity(identity)
        self._identity = identity
        self._trusted = True
        return identity

    # Set-points ----------------------------------------------------------------------------

    async def _tell(self, *commands: str) -> None:
        """Send commands one by one, each followed by a look at the error queue.

        Without handshake its input buffer could be overrun by a batch, and the queue holds ten.
        """
        for command in commands:
            await super()._tell(command)

    async def prepare(self, protection: Protection) -> None:
        """Program ranges, sensing, protection and the off state, read back, output off.

        There is no reset: `*RST` selects the off state NORMAL, a 0 V source with closed relay
        that loads a connected cell. The relay is opened first, then each setting is written.
        """
        model, settings = self.MODEL, self._settings
        highest = max(map(abs, protection.voltage))
        if not (highest <= model.voltage and protection.current <= model.current):
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
        # One range for the whole run: it must hold the cell's voltage, not only the level.
        voltage_range = model.voltage_range(highest)
        async with self._lock:
            await self._drain_log()  # errors of an earlier user are not ours
            await self._open_relay()
            self._protection, self._voltage_range = protection, voltage_range
            await self._tell(
                f":ROUT:TERM {'FRON' if settings.terminals == 'front' else 'REAR'}",
                f":SYST:RSEN {'ON' if settings.sense == '4-wire' else 'OFF'}",
                f":SYST:AZER {'ON' if settings.auto_zero else 'OFF'}",
                ":SOUR:CLE:AUTO OFF",  # or it would open the circuit after each reading
                ":ARM:COUN 1",
                ":TRIG:COUN 1",
                # Both together, so that the voltage is measured and not the programmed one.
                ":SENS:FUNC:CONC ON",
                ':SENS:FUNC "VOLT","CURR"',
                f":SENS:VOLT:NPLC {settings.nplc:g}",
                f":SENS:CURR:NPLC {settings.nplc:g}",
                f":FORM:ELEM {ELEMENTS}",
                ":SOUR:FUNC VOLT",
                ":SOUR:VOLT:MODE FIX",
                ":SOUR:CURR:MODE FIX",
                ":SOUR:VOLT 0",
                ":SOUR:CURR 0",
                f":SOUR:VOLT:RANG {voltage_range:g}",
                f":SOUR:VOLT:PROT {level:g}",
            )
            await self._verify_number(":ARM:COUN?", 1.0)
            await self._verify_number(":TRIG:COUN?", 1.0)
            await self._verify_number(":SENS:CURR:NPLC?", settings.nplc)
            await self._verify_wiring(protection)
            await self._verify_range(":SOUR:VOLT:RANG?", voltage_range)
            await self._verify_word(":OUTP?", "0")

    async def _verify_wiring(self, protection: Protection) -> None:
        """What keeps cell and instrument safe, whatever the set-point."""
        settings = self._settings
        await self._verify_word(":ROUT:TERM?", settings.terminals[:4].upper())
        await self._verify_word(":SYST:RSEN?", "1" if settings.sense == "4-wire" else "0")
        await self._verify_number(":SOUR:VOLT:PROT?", self._protection_level(protection))
        await self._verify_word(":SOUR:CLE:AUTO?", "0")
        await self._verify_word(":OUTP:SMOD?", "HIMP")
        await self._verify_word(":FORM:ELEM?", ELEMENTS)
        measured = await self._ask(":SENS:FUNC?")
        if {part.strip('" ').removesuffix(":DC") for part in measured.split(",")} != {
            "VOLT",
            "CURR",
        }:
            self._not_verified(":SENS:FUNC?", '"VOLT:DC","CURR:DC"', measured)

    async def _verify_range(self, question: str, full_scale: float) -> None:
        """Read a range back; it says 105 % of the nominal full scale (default 1.05e-4, 18-11)."""
        found = self._nominal(await self._number(question))
        if not abs(found - full_scale) <= READ_BACK_TOLERANCE * full_scale:
            self._not_verified(question, f"the {full_scale:g} range", f"{found:g}")

    def _nominal(self, full_scale: float) -> float:
        """Full scale (V or A) without the five percent that the range carries besides."""
        for nominal in (*self.MODEL.voltage_ranges, *self.MODEL.current_ranges):
            if math.isclose(full_scale, nominal * OVERRANGE, rel_tol=READ_BACK_TOLERANCE):
                return nominal
        return full_scale

    async def _program(self, function: Function, level: float, limit: float) -> None:
        """Write a set-point while the relay is open."""
        if function == "VOLT":
            await self._tell(
                ":SOUR:FUNC VOLT",
                ":SENS:CURR:RANG:AUTO ON",  # the compliance bounds a fixed range (p. 18-62)
                f":SOUR:VOLT:RANG {self._voltage_range:g}",
                f":SOUR:VOLT {level!r}",
                f":SENS:CURR:PROT {limit!r}",
                f":SENS:CURR:RANG {self.MODEL.current_range(limit):g}",
            )
        else:
            await self._tell(
                ":SOUR:FUNC CURR",
                ":SENS:VOLT:RANG:AUTO ON",
                ":SOUR:CURR 0",
                f":SOUR:CURR:RANG {self.MODEL.current_ranges[0]:g}",
                f":SENS:VOLT:PROT {limit!r}",
                f":SENS:VOLT:RANG {self.MODEL.voltage_range(limit):g}",
            )

    async def _change(self, level: float, limit: float) -> bool:
        """Change level and compliance while the output is on, the smaller current first.

        A measurement range above the compliance is not allowed, one below it bounds the current
        (p. 18-62): so the range goes first on the way down and last on the way up.
        """
        present = await self._number(":SENS:CURR:PROT?")
        present_range = self._nominal(await self._number(":SENS:CURR:RANG?"))
        new_range = self.MODEL.current_range(limit)
        to_range = [] if new_range == present_range else [f":SENS:CURR:RANG {new_range:g}"]
        to_level, to_limit = f":SOUR:VOLT {level!r}", f":SENS:CURR:PROT {limit!r}"
        if limit <= present:
            await self._tell(*to_range, to_limit, to_level)
        else:
            await self._tell(to_level, to_limit, *to_range)
        return True

    async def _verify(self, function: Function, level: float, limit: float) -> None:
        """Read back the set-point and its ranges."""
        await self._verify_word(":SOUR:FUNC?", function)
        if function == "VOLT":
            current_range = self.MODEL.current_range(limit)
            await self._verify_range(":SOUR:VOLT:RANG?", self._voltage_range)
            await self._verify_number(":SOUR:VOLT?", level, self._voltage_range)
            await self._verify_range(":SENS:CURR:RANG?", current_range)
            await self._verify_number(":SENS:CURR:PROT?", limit, current_range)
        else:
            voltage_range = self.MODEL.voltage_range(limit)
            await self._verify_number(":SOUR:CURR?", level, self.MODEL.current_ranges[0])
            await self._verify_range(":SOUR:CURR:RANG?", self.MODEL.current_ranges[0])
            await self._verify_range(":SENS:VOLT:RANG?", voltage_range)
            await self._verify_number(":SENS:VOLT:PROT?", limit, voltage_range)

    # Measuring -----------------------------------------------------------------------------

    async def measure(self) -> Reading:
        """Measure voltage (V) and current (A) at the cell in one reading.

        With the output off nothing is measured: voltage NaN, current 0, regulation OPEN. Status
        is FAULT when the output went off although it had been on, and when sensing, terminals or
        source are no longer those that were programmed. Overflows are NaN, OVERLOAD.
        """
        async with self._lock:
            clock = self._clock
            # With its output off it would answer READ? with silence and error +802.
            answer = await self._ask(":OUTP?")
            if answer not in ("0", "1"):
                self._garbled(":OUTP?", "0 or 1", answer)
            on = answer == "1"
            function, self._function = self._function, None
            sent = clock.now()
            if not on:
                status = Status.OK if function is None else Status.FAULT
                return Reading(sent, 0.0, math.nan, 0.0, Regulation.OPEN, status)
            function = function or await self._learn()
            sent = clock.now()
            if function is None:  # went off meanwhile
                return Reading(sent, 0.0, math.nan, 0.0, Regulation.OPEN, Status.FAULT)
            try:
                reply = await self._wire.exchange(READ, LINE, self._reading_timeout)
            except CommunicationError as error:
                self._function = function
                self._blame(error)
            width = 0.5 * (clock.now() - sent)
            self._function = function
            voltage, current, word = self._elements(reply.decode("ascii", "replace").strip())
            regulation, status = self._regulation_of(function, word)
            if not abs(voltage) < INVALID:
                voltage, status = math.nan, Status.OVERLOAD
            if not abs(current) < INVALID:
                current, status = math.nan, Status.OVERLOAD
            return Reading(sent + width, width, voltage, current, regulation, status)

    def _elements(self, reply: str) -> Elements:
        fields = reply.split(",")
        if len(fields) != 3 or not all(map(_NUMBER.fullmatch, fields)):
            self._garbled(":READ?", "voltage, current and status word", reply)
        voltage, current, word = map(float, fields)
        if not word.is_integer() or not 0.0 <= word < 1 << 24:
            self._garbled(":READ?", "a status word of 24 bits", reply)
        return Elements(voltage, current, int(word))

    def _regulation_of(self, function: Function, word: int) -> tuple[Regulation, Status]:
        """Which limit acts, and whether the instrument is still what was programmed."""
        settings = self._settings
        wanted = MEASURES_VOLTAGE | MEASURES_CURRENT | SOURCES[function]
        wanted |= REMOTE_SENSE if settings.sense == "4-wire" else 0
        wanted |= FRONT if settings.terminals == "front" else 0
        if word & ARRANGEMENT != wanted:
            return Regulation.UNKNOWN, Status.FAULT
        limited = bool(word & (COMPLIANCE | RANGE_COMPLIANCE))
        over = bool(word & (OVER_RANGE | PROTECTION))
        if function == "VOLT":
            regulation = Regulation.CURRENT if limited else Regulation.VOLTAGE
        else:
            # At its voltage limit a zero-current source drives current, or the leads are open.
            regulation = Regulation.VOLTAGE if limited else Regulation.OPEN
            over = over or limited
        return regulation, Status.OVERLOAD if over else Status.OK

    async def _learn(self) -> Function | None:
        """Read from the instrument what it does, for `measure` in a new session."""
        if await self._ask(":OUTP?") != "1":
            return None
        self._function = "CURR" if "CURR" in await self._ask(":SOUR:FUNC?") else "VOLT"
        return self._function
