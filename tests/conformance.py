"""The rules that every driver obeys, as checks that a broken driver fails.

Each rule takes a `Subject`: a driver on its simulated twin in virtual time. It asks the simulated
instrument's true state, never the driver's belief.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    InstrumentError,
    ReportedError,
    SafeStateError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.registry import TRANSPORTS, load
from operando.instruments.roles import (
    ROLES,
    DriverInfo,
    Expect,
    Galvanostatic,
    OpenCircuit,
    Potentiostatic,
    Protection,
)
from operando.instruments.safety import secure
from operando.instruments.samples import AuxReading, Reading, Regulation, Status
from operando.instruments.wires import Framing, MemoryWire, Switchboard

BENCH = """
[instruments.it]
driver = "{driver}"
address = "{address}"
[instruments.it.simulated]
cell = "c1"
room = "room"
{options}
[channels.A1]
{role} = "it"
cell = "c1"
[cells.c1]
capacity = "3.14 mAh"
preset = "ncm811-caec"
[rooms.room]
kind = "{room}"
"""

CURRENT = 1.5e-3
"""A: C/2 of the reference cell."""

TIME_BOUND = 10.0
"""Virtual seconds within which any call on a misbehaving instrument must have failed."""

FAULTS = ("silence", "garbage", "truncated", "drop 60 s", "late 30 s")

Truth = Callable[["Subject", float], Mapping[str, tuple[float, float]]]


def stack_pressure(subject: Subject, now: float) -> Mapping[str, tuple[float, float]]:
    """What presses on the cell."""
    pressure = subject.simulation.frames["c1"].pressure(now)
    return {"pressure": (pressure, 0.01 * pressure)}


def oxygen(subject: Subject, now: float) -> Mapping[str, tuple[float, float]]:
    """What the room's air holds."""
    fraction = subject.simulation.rooms["room"].fraction("o2", now)
    return {"o2": (fraction, 0.02 * fraction)}


def water(subject: Subject, now: float) -> Mapping[str, tuple[float, float]]:
    """What the room's air holds; its dew point is that of the Magnus formula (WMO no. 8)."""
    room = subject.simulation.rooms["room"]
    fraction = room.fraction("h2o", now)
    magnus = math.log(fraction * room.pressure(now) / 611.2)
    dew_point = 273.15 + 243.12 * magnus / (17.62 - magnus)
    return {"h2o": (fraction, 0.02 * fraction), "dew_point": (dew_point, 0.3)}


def gauge(subject: Subject, now: float) -> Mapping[str, tuple[float, float]]:
    """What the room is above its surroundings."""
    room = subject.simulation.rooms["room"]
    return {"box_pressure": (room.pressure(now) - room.surrounding_pressure(now), 30.0)}


def chamber(subject: Subject, now: float) -> Mapping[str, tuple[float, float]]:
    """How warm the room is."""
    return {"chamber_temperature": (subject.simulation.rooms["room"].temperature(now), 0.15)}


def air(subject: Subject, now: float) -> Mapping[str, tuple[float, float]]:
    """How warm and damp the room is."""
    room = subject.simulation.rooms["room"]
    damp = water(subject, now)
    vapour = damp["h2o"][0] * room.pressure(now)
    kelvin = room.temperature(now)
    celsius = kelvin - 273.15
    saturated = 611.2 * math.exp(17.62 * celsius / (243.12 + celsius))
    return {
        "temperature": (kelvin, 0.5),
        "relative_humidity": (vapour / saturated, 0.05),
        "h2o": (damp["h2o"][0], 0.1 * damp["h2o"][0]),
        "dew_point": (damp["dew_point"][0], 1.5),
    }


@dataclass(frozen=True)
class Profile:
    """What the rules must know of a driver and its simulated twin, from the instrument's documents.

    is_write: which requests change something. serial: that the twin has, as the driver tells it.
    other: another one, as the fault "identity" takes it. truth: what readings are held against,
    with a tolerance. error: fault that makes the instrument report an error, and its code. room,
    options: of the bench. current_tolerance: relative. settings: of the driver.
    """

    is_write: Callable[[bytes], bool]
    address: str = "serial:ports/it"
    serial: str = ""
    other: str = "77777777"
    truth: Truth | None = None
    error: tuple[str, int] = ("", 0)
    room: str = "laboratory"
    options: str = ""
    current_tolerance: float = 1e-3
    settings: Mapping[str, object] = field(default_factory=dict)


SOCKET = "TCPIP::127.0.0.1::15025::SOCKET"

WRITES_OF_A_CYCLER = (b"start", b"stop", b"continue", b"light", b"clearflag")

PROFILES: dict[str, Profile] = {
    "alicat-dual-valve": Profile(
        lambda r: r[1:].startswith((b"LS ", b"S", b"HC", b"HP", b"C")),
        "serial:ports/it?baud=19200",
        "301245",
        truth=stack_pressure,
        options="stiffness = 0.0",
    ),
    "dmt143": Profile(
        lambda r: not r.startswith((b"SEND", b"SNUM", b"OPEN", b"CLOSE")),
        "serial:ports/it?baud=19200",
        "J1140501",
        truth=water,
        options='mode = "POLL"',
    ),
    "ess": Profile(lambda r: True, "ble:CB:B8:33:4C:88:4F?bus=ports/bluez", truth=air),
    "espec-p300": Profile(lambda r: b"?" not in r, truth=chamber, room="chamber"),
    "keithley-2400": Profile(lambda r: b"?" not in r, serial="4105123", error=("error -222", -222)),
    "keithley-2450": Profile(
        lambda r: b"?" not in r, SOCKET, "04096331", error=("error -222", -222)
    ),
    "keithley-2461": Profile(
        lambda r: b"?" not in r, SOCKET, "04096331", error=("error -222", -222)
    ),
    "keller-33x": Profile(lambda r: r[1] == 0x10, serial="123456", truth=gauge),
    "maccor-macnet": Profile(
        lambda r: b'"FClass":6,' in r and b'"FNum":11,' not in r,
        f"{SOCKET}#1",
        "SIMULATED",
        error=("nak", -32000),
    ),
    "neware-bts8": Profile(
        lambda r: any(b"<cmd>%b<" % w in r for w in WRITES_OF_A_CYCLER),
        f"{SOCKET}#21-1-1",
        "27-21-1-1",
        "22",
        error=("nak", 0),
    ),
    "palmsens-methodscript": Profile(
        lambda r: r[:1] in b"eZY" and r != b"",
        "serial:ports/it?baud=921600",
        "ES4HR20B0008",
        error=("nak", 1),
        options='model = "emstat4-hr"',
    ),
    "pt113": Profile(lambda r: r[2:3] in (b"T", b"Z", b"C"), truth=stack_pressure),
    "pt113-modbus": Profile(lambda r: r[1] == 0x10, truth=stack_pressure),
    "rapidox-1100": Profile(lambda r: r != b"D", truth=oxygen),
    "ruuvi": Profile(
        lambda r: True,
        "ble:CB:B8:33:4C:88:50?bus=ports/bluez",
        "CB:B8:33:4C:88:50",
        "CBB833777777",
        truth=air,
        settings={"timeout": 8.0},
    ),
}
"""By driver."""


class SpyWire:
    """A memory wire that notes what is sent."""

    def __init__(self, wire: MemoryWire) -> None:
        self._wire = wire
        self.sent: list[bytes] = []

    @property
    def address(self) -> str:
        """Of the wire."""
        return self._wire.address

    async def open(self) -> None:
        """Open the wire."""
        await self._wire.open()

    async def exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Note and pass on."""
        self.sent.append(request)
        return await self._wire.exchange(request, framing, timeout, urgent=urgent)

    async def send(self, request: bytes, timeout: float, *, urgent: bool = False) -> None:
        """Note and pass on."""
        self.sent.append(request)
        await self._wire.send(request, timeout, urgent=urgent)

    async def reopen(self) -> None:
        """Open another session."""
        await self._wire.reopen()

    async def close(self) -> None:
        """Close the wire."""
        await self._wire.close()


class Subject:
    """A driver under test with its simulated twin. Make one inside a virtual loop."""

    def __init__(self, name: str, driver: Any, folder: Path) -> None:
        self.name = name
        self.driver = driver
        self.info: DriverInfo = driver.INFO
        self.profile = PROFILES[name]
        bench_file = folder / f"{name}.toml"
        bench_file.write_text(
            BENCH.format(
                driver=name,
                address=self.profile.address,
                role=self.info.roles[0],
                room=self.profile.room,
                options=self.profile.options,
            )
        )
        bench = load_bench(bench_file)
        self.clock = Clock("virtual")
        from operando.simulators.bench import SimulatedBench

        self.simulation = SimulatedBench(bench, self.clock)
        self.switchboard = Switchboard()
        self.simulation.attach(self.switchboard)
        self.address = bench.instruments["it"].address
        self.wire = self.another_wire()
        self.instrument = self.make(self.wire)

    def another_wire(self) -> SpyWire:
        """Another wire to it, or link over the air, to which nothing is ever written."""
        if self.address.startswith("ble:"):
            link: Any = load(TRANSPORTS, "ble")
            link = link(self.address, self.clock, switchboard=self.switchboard)
            link.sent = []
            return cast("SpyWire", link)
        return SpyWire(self.switchboard.wire(self.address, self.clock))

    def make(self, wire: SpyWire, expect: Expect | None = None) -> Any:
        """Another driver object on a wire."""
        own = self.profile.settings
        settings = {"settings": self.driver.Settings(**own)} if own else {}
        return self.driver(wire, self.clock, name="it", expect=expect or Expect(), **settings)

    @property
    def drives(self) -> bool:
        """Whether it drives a cell."""
        return "potentiostat" in self.info.roles

    @property
    def acts(self) -> bool:
        """Whether it drives something else than a cell."""
        return bool({"temperature_controller", "pressure_controller"} & set(self.info.roles))

    @property
    def relay(self) -> bool:
        """The true output relay: closed or not."""
        return self.simulation.relays().get("it", False)

    def writes(self) -> list[bytes]:
        """Requests so far that change something."""
        return [request for request in self.wire.sent if self.profile.is_write(request)]

    async def charging(self) -> None:
        """Connect, prepare, and charge the cell."""
        await self.instrument.connect()
        if self.drives:
            await self.instrument.prepare(Protection((2.5, 4.25), 5e-3))
            await self.instrument.apply(Galvanostatic(CURRENT, 4.25))
            assert self.relay, "the output did not go on"


Failure = TypeVar("Failure", bound=Exception)


async def failure_of(doing: Awaitable[object], kind: type[Failure]) -> Failure:
    """The error of this kind with which something must fail."""
    with pytest.raises(kind) as caught:
        await doing
    return caught.value


Rule = Callable[[Subject], Awaitable[None]]


async def states_what_it_is(subject: Subject) -> None:
    """INFO and docstrings are complete."""
    info = subject.info
    assert info.name == subject.name
    assert info.maker
    assert info.models
    assert info.document
    assert info.safe_state
    assert info.identification in {"serial", "model", "none"}
    assert subject.driver.__doc__
    for name, member in inspect.getmembers(subject.driver, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.getdoc(member), f"{name} has no docstring"


async def implements_its_roles(subject: Subject) -> None:
    """Every role that it names is there, method by method, and asynchronous where it must be."""
    for role in subject.info.roles:
        assert isinstance(subject.instrument, ROLES[role]), role
    for name in ("connect", "reconnect", "safe", "close", "measure"):
        assert inspect.iscoroutinefunction(getattr(subject.instrument, name)), name


async def identifies_without_writing(subject: Subject) -> None:
    """Connecting tells who answered and changes nothing."""
    before = subject.relay
    identity = await subject.instrument.connect()
    if subject.info.identification != "none":
        assert identity.maker
        assert identity.model in subject.info.models
    if subject.info.identification == "serial":
        assert identity.serial == subject.profile.serial
    assert subject.writes() == []
    assert subject.relay == before


async def refuses_another_instrument(subject: Subject) -> None:
    """Another serial number than expected is refused, and nothing is written."""
    if subject.info.identification != "serial":
        return
    instrument = subject.make(subject.wire, Expect(serial="99999999"))
    error = await failure_of(instrument.connect(), WrongInstrumentError)
    assert "99999999" in str(error)
    assert subject.profile.serial in str(error)
    assert subject.writes() == []


async def verifies_the_identity_after_a_reconnect(subject: Subject) -> None:
    """An instrument that was swapped while the link was down is found before a write."""
    if subject.info.identification != "serial":
        return
    await subject.charging()
    subject.simulation.inject("it", f"identity {subject.profile.other}")
    count = len(subject.writes())
    await failure_of(subject.instrument.reconnect(), WrongInstrumentError)
    assert len(subject.writes()) == count


async def has_plausible_capabilities(subject: Subject) -> None:
    """Capabilities are frozen, stable, and say what happens when the host falls silent."""
    await subject.instrument.connect()
    capabilities = subject.instrument.capabilities
    assert isinstance(capabilities, Capabilities)
    assert capabilities == subject.instrument.capabilities
    assert capabilities.fastest_sampling > 0.0
    if subject.drives:
        assert capabilities.voltage is not None
        assert capabilities.voltage[0] < capabilities.voltage[1]
        assert capabilities.current is not None
        assert capabilities.off_time > 0.0
        assert capabilities.when_host_is_silent is not WhenHostIsSilent.NO_OUTPUT
    elif subject.acts:
        assert capabilities.when_host_is_silent is not WhenHostIsSilent.NO_OUTPUT
    else:
        assert capabilities.when_host_is_silent is WhenHostIsSilent.NO_OUTPUT


async def measures_what_the_cell_does(subject: Subject) -> None:
    """A reading agrees with the physics behind the instrument, at its own time."""
    await subject.charging()
    await subject.clock.sleep(10.0)
    reading = await subject.instrument.measure()
    now = subject.clock.now()
    readings = reading if type(reading) is tuple else (reading,)
    assert all(abs(now - one.time) <= one.uncertainty + 0.5 for one in readings)
    if subject.drives:
        assert isinstance(reading, Reading)
        truth = subject.simulation.cells["c1"].terminal(now)
        assert abs(reading.voltage - truth.voltage) < 5e-3
        assert abs(reading.current - CURRENT) < subject.profile.current_tolerance * CURRENT
        assert reading.regulation is Regulation.CURRENT
        assert reading.status is Status.OK
    else:
        assert subject.profile.truth is not None
        known = subject.profile.truth(subject, now)
        assert {one.quantity for one in readings} == set(known) == set(subject.info.measures)
        for one in readings:
            assert isinstance(one, AuxReading)
            assert one.source == "it"
            value, tolerance = known[one.quantity]
            assert abs(one.value - value) < tolerance, one


async def prepares_with_the_output_off(subject: Subject) -> None:
    """Preparing never drives the cell."""
    if not subject.drives:
        return
    await subject.instrument.connect()
    await subject.instrument.prepare(Protection((2.5, 4.25), 5e-3))
    await subject.clock.sleep(1.0)  # whatever was sent has been carried out
    assert not subject.relay
    assert abs(subject.simulation.cells["c1"].charge_passed(subject.clock.now())) < 1e-6


async def stops_at_the_cutoff_by_itself(subject: Subject) -> None:
    """The cut-off is the instrument's own: nobody polls, and the cell does not pass it."""
    if not subject.drives:
        return
    await subject.instrument.connect()
    await subject.instrument.prepare(Protection((2.5, 4.25), 5e-3))
    cell = subject.simulation.cells["c1"]
    await subject.instrument.apply(Galvanostatic(CURRENT, 3.9))
    await subject.clock.sleep(4 * 3600.0)
    assert abs(cell.terminal(subject.clock.now()).voltage - 3.9) < 5e-3
    await subject.instrument.apply(Galvanostatic(-CURRENT, 3.5))
    await subject.clock.sleep(4 * 3600.0)
    assert abs(cell.terminal(subject.clock.now()).voltage - 3.5) < 5e-3


async def refuses_what_it_cannot_do(subject: Subject) -> None:
    """A set-point beyond the instrument is refused, never clamped; nothing is written."""
    if not subject.drives:
        return
    await subject.instrument.connect()
    await subject.instrument.prepare(Protection((2.5, 4.25), 5e-3))
    count = len(subject.writes())
    for setpoint in (
        Galvanostatic(1e3, 4.2),
        Galvanostatic(CURRENT, 1e4),
        Potentiostatic(1e4, CURRENT),
        OpenCircuit(1e4),
    ):
        with pytest.raises(UnsupportedError):
            subject.instrument.check(setpoint)
        await failure_of(subject.instrument.apply(setpoint), UnsupportedError)
    assert len(subject.writes()) == count
    assert not subject.relay


async def switches_off_and_reads_it_back(subject: Subject) -> None:
    """`safe` opens the true relay, from any state, again and again, in a fresh session too."""
    await subject.charging()
    await subject.instrument.safe()
    assert not subject.relay
    await subject.instrument.safe()
    assert not subject.relay
    if subject.drives:
        await subject.instrument.apply(Galvanostatic(CURRENT, 4.25))
        assert subject.relay
        other = subject.make(subject.another_wire())
        await other.connect()
        await other.safe()
        assert not subject.relay
        await other.close()


async def never_calls_an_unverified_output_safe(subject: Subject) -> None:
    """While the instrument does not answer, `safe` must not say that it is safe."""
    if not subject.drives:
        return
    for fault in ("silence", "mute", "garbage"):
        await subject.charging()
        subject.simulation.inject("it", fault)
        await failure_of(secure(subject.instrument, timeout=2.0, attempts=2), SafeStateError)
        subject.simulation.inject("it", "none")
        await secure(subject.instrument, timeout=5.0)
        assert not subject.relay


async def fails_in_time_under_each_fault(subject: Subject) -> None:
    """Every fault on the line ends in an exception of ours within a bound, and heals."""
    for fault in FAULTS:
        await subject.charging()
        subject.simulation.inject("it", fault)
        start = subject.clock.now()
        measuring = asyncio.wait_for(subject.instrument.measure(), TIME_BOUND)
        error = await failure_of(measuring, InstrumentError)
        assert error.instrument, f"{fault}: the error does not name the instrument"
        assert subject.clock.now() - start <= TIME_BOUND
        subject.simulation.inject("it", "none")
        await subject.clock.sleep(120.0)
        await subject.instrument.reconnect()
        await subject.instrument.measure()


async def maps_the_errors_of_the_instrument(subject: Subject) -> None:
    """An error in the instrument's queue after a batch becomes ReportedError, code and text."""
    if not subject.drives:
        return
    await subject.instrument.connect()
    await subject.instrument.prepare(Protection((2.5, 4.25), 5e-3))
    fault, code = subject.profile.error
    subject.simulation.inject("it", fault)
    error = await failure_of(subject.instrument.apply(Galvanostatic(CURRENT, 4.25)), ReportedError)
    assert error.code == code
    assert error.text


async def closes_without_touching_the_output(subject: Subject) -> None:
    """Closing the wire changes nothing and can be done twice."""
    await subject.charging()
    before = subject.relay
    count = len(subject.writes())
    await subject.instrument.close()
    await subject.instrument.close()
    assert subject.relay == before
    assert len(subject.writes()) == count


RULES: tuple[Rule, ...] = (
    states_what_it_is,
    implements_its_roles,
    identifies_without_writing,
    refuses_another_instrument,
    verifies_the_identity_after_a_reconnect,
    has_plausible_capabilities,
    measures_what_the_cell_does,
    prepares_with_the_output_off,
    stops_at_the_cutoff_by_itself,
    refuses_what_it_cannot_do,
    switches_off_and_reads_it_back,
    never_calls_an_unverified_output_safe,
    fails_in_time_under_each_fault,
    maps_the_errors_of_the_instrument,
    closes_without_touching_the_output,
)
