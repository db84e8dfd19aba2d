"""One channel of a Maccor tester over MacNet (JSON-RPC): direct mode and existing procedures.

Document: Maccor help, "Remote Control - MacNet - LabView" (as printed on 18 May 2022), pages in
the comments. What only its public client knows is cited as pymacnet.

A set-point is a direct mode: a current and a voltage that limit each other on board, charging or
discharging. It is renewed while this computer lives, since the tester can be told to suspend a
channel that is not (MacNetDirectModeWD). A rest suspends the channel, which opens its relay.
"""

from __future__ import annotations

import asyncio
import math
from typing import ClassVar, Final, TypeAlias

from operando.drivers.maccor_channel import PATIENCE, TesterChannel
from operando.drivers.maccor_direct import NEAR, Drive, MaccorSettings, regulation_of
from operando.drivers.maccor_messages import (
    ACTIVE,
    CAN_START,
    CHARGING,
    DISCHARGING,
    NOT_READY,
    PROCEDURE_EXISTS,
    SET_DIRECT,
    SET_SAFETY,
    START,
    START_DIRECT,
    TOO_FAST,
    Observation,
    Parameters,
    Specification,
)
from operando.instruments.capabilities import Capabilities, Range, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    NotVerifiedError,
    ReportedError,
)
from operando.instruments.roles import (
    DriverInfo,
    Expect,
    Galvanostatic,
    OpenCircuit,
    Potentiostatic,
    Protection,
    SetPoint,
)
from operando.instruments.samples import Reading, Regulation, Status
from operando.instruments.wires import Wire

LAB_SYSTEM: Final = 0
"""The system type that has a direct mode (p. 47)."""

PACE: Final = 0.11
"""s between two commands of direct mode: at least 0.1 (p. 48)."""

LIMIT_FLOOR: Final = 1e-3
"""Lowest current, as a share of the lowest range. ASSUMPTION: its accuracy is not documented."""

CURRENT_MARGIN: Final = 1.1
"""Share of the run's highest current at which the tester's own safety acts. ASSUMPTION."""


class MaccorMacNet(TesterChannel):
    """One channel of a Maccor tester; `#4` behind the address is channel 4 of its front panel.

    Charge and discharge hold their cut-off on board. A charge never discharges, nor the reverse:
    asked for beyond its cut-off, no current flows. A held voltage takes its direction from the
    cell's voltage when it is set. Rows that the tester stores can be fetched in MacNet's binary
    form alone, hence not here.
    """

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="maccor-macnet",
        maker="MACCOR",
        models=(f"system type {LAB_SYSTEM}",),
        document='Maccor help, "Remote Control - MacNet - LabView" (May 2022)',
        roles=("potentiostat", "cycler"),
        identification="serial",
        safe_state="channel suspended or without a test: its relay is open",
        notes=(
            "the serial number is the tester's SystemID, the same for all of its channels",
            "set-points cannot be read back in direct mode: its state and direction are",
            "set MacNetDirectModeWD in the tester's System.ini, and `settings.watchdog` to it",
        ),
    )
    Settings: TypeAlias = MaccorSettings

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: MaccorSettings = MaccorSettings(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(wire, clock, name, expect, settings)
        self._protection: Protection | None = None
        self._drive: Drive | None = None
        self._test = ""
        self._procedure = ""
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._newer_than = -math.inf

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities from the channel's own specification; no ranges before `connect`.

        fastest_sampling and off_time are ASSUMPTIONS: the document gives no times.
        """
        silent = WhenHostIsSilent
        limits = self._specification
        return Capabilities(
            voltage=limits.voltage if limits is not None else None,
            current=(-limits.discharge[-1], limits.charge[-1]) if limits is not None else None,
            voltage_ranges=(Range(limits.voltage[1]),) if limits is not None else (),
            current_ranges=tuple(map(Range, limits.charge)) if limits is not None else (),
            fastest_sampling=0.1,
            off_time=1.0,
            on_board=frozenset({"voltage cut-off", "current limit", "over-voltage protection"}),
            when_host_is_silent=silent.SWITCHES_OFF if self._settings.watchdog else silent.STAYS_ON,
            bounds=(
                "cut-off and current of each set-point, held by its regulation; direct mode cannot "
                "read them back, the channel's state and direction are",
                f"the tester's own safety {self._settings.safety_margin:g} V outside of the window "
                f"and at {CURRENT_MARGIN:g} times the highest current, programmed and read back "
                "before the run; the manual states no time",
            ),
        )

    async def close(self) -> None:
        """Give the connection back. Does not change the output, but it is renewed no more."""
        self._forget()
        if self._renewing is not None:
            await asyncio.wait({self._renewing})
        await super().close()

    # Set-points ----------------------------------------------------------------------------

    def check(self, setpoint: SetPoint) -> None:
        """Raise UnsupportedError if the channel cannot do it. Touches nothing.

        Its limits are its own, told at `connect`: before that, nothing is known to be too much.
        """
        limits = self._specification
        if limits is None:
            return
        match setpoint:
            case Galvanostatic(current=current, cutoff=voltage):
                self._check_pair(voltage, (current,), limits)
            case Potentiostatic(voltage=voltage, current_limit=current):
                self._check_pair(voltage, (current, -current), limits)
            case OpenCircuit(voltage_limit=voltage):
                # Its relay is open: nothing acts at that voltage, so only nonsense is refused.
                if not 0.0 < voltage <= limits.voltage[1] + 1.0:
                    self._refuse(
                        f"a voltage limit of {voltage:g} V is beyond its {limits.voltage[1]:g} V"
                    )

    def _limits(self) -> Specification:
        if self._specification is None:
            self._refuse("its limits are not known before connect()")
        return self._specification

    def _check_pair(
        self, voltage: float, currents: tuple[float, ...], limits: Specification
    ) -> None:
        low, high = limits.voltage
        if not low <= voltage <= high:
            self._refuse(f"{voltage:g} V is beyond its {low:g} to {high:g} V")
        for current in currents:
            scales, power = limits.charge, limits.safety_power[0]
            if not current > 0.0:
                scales, power = limits.discharge, limits.safety_power[1]
            if limits.range_for(current) < 0:
                self._refuse(f"{abs(current):g} A is beyond its {scales[-1]:g} A")
            if not abs(current) >= LIMIT_FLOOR * scales[0]:
                self._refuse(
                    f"{abs(current):g} A is too little for its lowest range of {scales[0]:g} A"
                )
            if 0.0 < power < abs(current * voltage):
                self._refuse(f"{voltage:g} V with {abs(current):g} A is beyond its {power:g} W")
        protection = self._protection
        if protection is not None:
            low, high = protection.voltage
            current = abs(currents[0])
            if current > protection.current * (1.0 + 1e-9) or not low <= voltage <= high:
                self._refuse(
                    f"{voltage:g} V with {current:g} A lies outside what the run was prepared for: "
                    f"{low:g} to {high:g} V and {protection.current:g} A"
                )

    async def prepare(self, protection: Protection) -> None:
        """Free the channel of our own earlier test, and set the tester's safety around the run.

        Refuses a channel on which somebody else's test runs or waits.
        """
        limits = self._limits()
        (low, high), current = protection.voltage, protection.current
        if self._system_type != LAB_SYSTEM:
            self._refuse(
                f"a tester of system type {self._system_type} has no direct mode, only type "
                f"{LAB_SYSTEM} has"
            )
        lowest = max(limits.voltage[0], limits.safety_voltage[0])
        highest = min(limits.voltage[1], limits.safety_voltage[1])
        most = min(limits.charge[-1], limits.discharge[-1], *limits.safety_current)
        if not (lowest <= low and high <= highest and current <= most):
            self._refuse(
                f"a window of {low:g} to {high:g} V and {current:g} A is beyond its {lowest:g} to "
                f"{highest:g} V and {most:g} A"
            )
        margin = self._settings.safety_margin
        safety = {
            "VSafeMax": min(high + margin, limits.safety_voltage[1]),
            "VSafeMin": max(low - margin, limits.safety_voltage[0]),
            "ISafeChg": min(CURRENT_MARGIN * current, limits.safety_current[0]),
            "ISafeDis": min(CURRENT_MARGIN * current, limits.safety_current[1]),
            "PBatSafeChg": limits.safety_power[0],
            "PBatSafeDis": limits.safety_power[1],
        }
        async with self._lock:
            self._protection = None
            await self._clear()
            echo = await self._ask(SET_SAFETY, safety)
            read_back = self._parse(
                SET_SAFETY, lambda result: {key: result.number(key) for key in safety}, echo
            )
            for key, wanted in safety.items():
                found = read_back[key]
                if not abs(found - wanted) <= 1e-5 * abs(wanted) + 1e-6:  # single precision
                    raise self._error(
                        NotVerifiedError,
                        f"its safety limit {key} should be {wanted:g} but reads back {found:g}. "
                        "Nothing was switched on.",
                    )
            self._protection = protection

    async def apply(self, setpoint: SetPoint) -> None:
        """Drive the cell as told; returns when the channel is seen to do so.

        A change of a running direct mode leaves no gap. A rest suspends it, and what comes next
        is a new one, which takes a second or two.
        """
        if self._protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        self.check(setpoint)
        calls = self._calls_for_safety
        async with self._lock:
            self._stop_renewing()
            if isinstance(setpoint, OpenCircuit):
                self._drive = None
                await self._halt()
            else:
                await self._drive_cell(setpoint, calls)
            self._newer_than = self._clock.now()

    async def _drive_cell(self, setpoint: Galvanostatic | Potentiostatic, calls: int) -> None:
        observed = await self._look()
        drive = self._drive_for(setpoint, observed)
        self._drive = None
        if observed.state == ACTIVE and await self._is_ours(self._test):
            await self._set_direct(drive, calls)
        else:
            await self._clear()
            await self._start_direct(drive, calls)
        wanted = CHARGING if drive.current > 0.0 else DISCHARGING
        await self._become(
            lambda seen: seen.state == ACTIVE and seen.doing in wanted,
            "charging" if drive.current > 0.0 else "discharging",
            calls,
        )
        self._stop_if_unsafe(calls)
        self._may_start_until = -math.inf
        self._drive = drive
        self._renew_later()

    def _drive_for(self, setpoint: Galvanostatic | Potentiostatic, observed: Observation) -> Drive:
        """The direct mode of a set-point, given where the channel stands."""
        match setpoint:
            case Galvanostatic(current=current, cutoff=level):
                pass
            case Potentiostatic(voltage=level, current_limit=limit):
                above = observed.voltage > level
                if self._drive is not None and abs(observed.voltage - level) <= NEAR:
                    above = self._drive.current < 0.0
                current = -limit if above else limit
        limits = self._limits()
        scale = limits.range_for(current)
        scales = limits.charge if current > 0.0 else limits.discharge
        return Drive(float(current), float(level), scale, scales[scale])

    async def _start_direct(self, drive: Drive, calls: int) -> None:
        self._test = self._new_name()
        parameters = {
            "TestName": self._test,
            **drive.parameters,
            "DataTime": self._settings.record_interval,
            "DataV": 0,
            "DataI": 0,
        }
        await self._switch_on(START_DIRECT, parameters, calls)

    async def _set_direct(self, drive: Drive, calls: int) -> None:
        deadline = self._clock.now() + self._clock.lab(PATIENCE)
        while True:
            await self._clock.sleep_until(self._commanded_at + PACE)
            try:
                await self._switch_on(SET_DIRECT, drive.parameters, calls)
                return
            except ReportedError as error:
                # It says itself that it did nothing and may be asked again.
                if error.code not in (TOO_FAST, NOT_READY) or self._clock.now() > deadline:
                    raise

    # Renewal -------------------------------------------------------------------------------

    def _renew_later(self) -> None:
        """Send the set-point again after the interval of renewal."""
        self._stop_renewing()
        delay = self._settings.renewal / self._clock.lab(1.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._begin_renewal)

    def _forget(self) -> None:
        self._drive = None
        self._stop_renewing()

    def _stop_renewing(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _begin_renewal(self) -> None:
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        """Renew the set-point. Whatever fails is seen by `measure`, and in time by the watchdog."""
        async with self._lock:
            drive, calls = self._drive, self._calls_for_safety
            if drive is None:
                return
            try:
                await self._clock.sleep_until(self._commanded_at + PACE)
                await self._switch_on(SET_DIRECT, drive.parameters, calls)
            except ReportedError as error:
                if error.code not in (TOO_FAST, NOT_READY):
                    return
            except CommunicationError:
                pass
            except InstrumentError:
                return
            if self._drive is drive and self._session is not None:
                self._renew_later()

    # Measuring -----------------------------------------------------------------------------

    async def measure(self) -> Reading:
        """Measure voltage (V) and current (A), with the time of the tester's reply.

        FAULT when the channel stopped although it had been driving: its watchdog, its safety, a
        power failure, or somebody at the tester.
        """
        newer_than = max(self._newer_than, self._clock.now() - self._settings.sharing)
        try:
            observed = await self._connected().observe(self._channel, newer_than)
        except InstrumentError as error:
            self._blame(error)
        self._newer_than = max(self._newer_than, observed.sent)
        width = 0.5 * (observed.received - observed.sent)
        current = observed.current
        if observed.doing in DISCHARGING:
            current = -abs(current)  # the sign that is sent is not in the document
        regulation, status = Regulation.OPEN, Status.OK
        drive = self._drive
        if observed.doing in CHARGING | DISCHARGING:
            regulation = Regulation.UNKNOWN
            if drive is not None:
                regulation = regulation_of(drive, observed.voltage, current)
        if drive is not None and observed.state != ACTIVE:
            self._forget()
            status = Status.FAULT
        return Reading(observed.sent + width, width, observed.voltage, current, regulation, status)

    # Procedures ----------------------------------------------------------------------------

    async def load(self, program: str) -> None:
        """Choose a procedure that exists on the tester. Writes nothing.

        Raises UnsupportedError when it does not.
        """
        if not 0 < len(program) <= 250 or not program.isascii() or not program.isprintable():
            self._refuse(f"{program!r} is no name of a procedure")
        try:
            result = await self._connected().ask(PROCEDURE_EXISTS, {"ProcName": program})
        except InstrumentError as error:
            self._blame(error)
        exists = self._parse(PROCEDURE_EXISTS, lambda found: found.word("ProcedurExists"), result)
        if exists not in ("TRUE", "FALSE"):
            raise self._error(GarbledReplyError, f"expected TRUE or FALSE, found {exists!r}")
        if exists == "FALSE":
            self._refuse(f"the tester has no procedure {program!r} in C:\\Maccor\\Procedur")
        self._procedure = program

    async def start(self) -> None:
        """Start the loaded procedure; returns when the channel is active."""
        if not self._procedure:
            self._refuse("no procedure is chosen; load() comes first")
        calls = self._calls_for_safety
        async with self._lock:
            await self._clear()
            self._test = self._new_name()
            wanted: Parameters = {
                "TestName": self._test,
                "ProcName": self._procedure,
                "Comment": "started by operando",
                "Crate": 1,
                "ChamberNum": 0,
            }
            await self._tell(CAN_START, wanted)
            await self._switch_on(START, {**wanted, **_START_DEFAULTS}, calls)
            await self._become(lambda seen: seen.state == ACTIVE, "active", calls)
            self._newer_than = self._clock.now()

    async def stop(self) -> None:
        """Suspend the procedure: its relay opens."""
        await self.safe()


_START_DEFAULTS: Parameters = {
    "StartCycle": 0,
    "TotCycles": 0,
    "Mass": 1,
    "VGain": 0,
    "AbsTRepAlign": 0,
    "ParallelR": 0,
    "VDivHiR": 0,
    "VDivLoR": 0,
    "CANpos": -1,
    "CANprof": "",
    "RegimeName": "",
}
"""What a start needs besides, as in the document's example (p. 42)."""
