"""One channel of a BTS 8 server: finding it, asking it, reading what it stored."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from operando.drivers.neware_program import Reel
from operando.drivers.neware_session import Session, Sighting, Watch, join, leave, new_watch
from operando.drivers.neware_xml import (
    MOST_ROWS,
    ChannelPlace,
    Live,
    Stored,
    StoredEvent,
    StoredRow,
    StoredStep,
    accepted,
    download_body,
    events_body,
    events_of,
    list_body,
    rows_of,
    states_of,
    status_item,
    steps_body,
    steps_of,
    stored_item,
    stored_of,
    switch_item,
    test_of,
)
from operando.instruments.addresses import parse_address
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    LinkLostError,
    NotVerifiedError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.locks import runtime_directory
from operando.instruments.quantities import Amperes, Coulombs, Seconds, Voltages, Volts
from operando.instruments.roles import DriverInfo, Expect, Identity
from operando.instruments.wires import Wire

STOP_TIME: Final = 10.0
"""s from a stop until the channel must be seen idle. ASSUMPTION, as for a start."""

SETTLING: Final = 0.1
"""s between looks at a state that is to change."""


RESOLUTION: Final = 1e-4
"""A; live currents come with four decimals (captured), stored ones with all."""

FINE: Final = 1e3
"""A live current beyond so many steps of its resolution is fine enough as it is."""

FROZEN: Final = 30.0
"""s for which live data of a working channel may stand still. The API protocol promises them
afresh every 5 s."""

REFRESH: Final = 5.0
"""s that live data may be old: the API protocol promises a look at the device that often."""

STOOD_STILL: Final = 10.0
"""s by which a test's clock may fall behind, for the same reason."""

FINE_FOR: Final = 10.0
"""s for which a stored current of a step on board stands for the live one that it rounds to."""

FIRST_ROW: Final = 5.0
"""s into a step within which its first stored row should be there. ASSUMPTION."""


@dataclass(frozen=True, slots=True)
class NewareSettings:
    """How the server is reached, and what a channel may do.

    username, password: of the server's API. voltage: lowest and highest voltage of the channel, V.
    current: its highest current, A. A set-point outside is refused; the server does not tell them.
    protection_margin: how far beyond the run's window the instrument's own protection lies, V.
    protection_delay: for how long that must be passed, s. protection_charge: highest charge of a
    step, C, 0 for none. longest: time after which each step that the
    channel is given ends by itself, s; a current that is then held at its cut-off is two steps.
    record_every: time between the rows that the instrument stores, s.
    fine_current: whether small currents are taken from stored rows, for which each reading of a
    channel takes a request of its own.
    sharing: age that live data may have which came with another channel's, s.
    barcode: name that tests are given in BTS; empty for the name of the instrument.
    step_folder: where step files are written; empty for the folder of locks. server_folder: the
    same folder as the server's computer sees it; empty when that is this computer.
    backup_folder: where BTS keeps its own file of each test, on the server's computer.
    """

    username: str = "admin"
    password: str = "neware"
    voltage: Voltages = (0.0, 5.0)
    current: Amperes = 6.0
    protection_margin: Volts = 0.05
    protection_delay: Seconds = 1.0
    protection_charge: Coulombs = 0.0
    longest: Seconds = 604800.0
    record_every: Seconds = 1.0
    fine_current: bool = True
    sharing: Seconds = 0.5
    barcode: str = ""
    step_folder: str = ""
    server_folder: str = ""
    backup_folder: str = "C:\\Neware data"

    def __post_init__(self) -> None:
        if not self.voltage[0] < self.voltage[1] or self.current <= 0.0:
            raise BadInputError("voltage must rise and current must be positive")
        for name in ("protection_margin", "longest", "record_every"):
            if getattr(self, name) <= 0.0:
                raise BadInputError(f"{name} must be positive, not {getattr(self, name):g}")


ON_BOARD = frozenset(
    {"voltage cut-off", "current limit", "voltage protection", "current protection", "time limit",
     "schedule"}
)  # fmt: skip
"""What a channel sees to by itself."""


def own_bounds(settings: NewareSettings) -> tuple[str, ...]:
    """What a channel keeps its cell within by itself, in words for the limit sheet."""
    return (
        "cut-off and current of each set-point, held by the channel; a step file cannot be read "
        "back, only that the channel runs it",
        f"the protection of the step file {settings.protection_margin:g} V outside of the window "
        f"and at 1.1 times the highest current, after {settings.protection_delay:g} s; not read "
        "back either",
        f"each step ends after {settings.longest / 3600.0:g} h",
    )


class TestClock:
    """The clock of one test, beside ours."""

    def __init__(self) -> None:
        self._total = math.nan
        self._since = 0.0
        self._behind = 0.0
        self._least = math.inf

    def seen(self, sighting: Sighting) -> float:
        """When the data were seen first (laboratory time): a server may give the same again.

        Raises CommunicationError when those of a working channel have been the same for long.
        """
        live = sighting.live
        if live.state != "working":
            self._total, self._behind, self._least = math.nan, 0.0, math.inf
            return sighting.time
        if live.total_time != self._total:
            self._total, self._since = live.total_time, sighting.time
            self._behind = self._since - self._total
            self._least = min(self._least, self._behind)
        elif sighting.time - self._since > FROZEN:
            raise CommunicationError(
                f"the live data of the working channel have stood still for "
                f"{sighting.time - self._since:.0f} s: the server has lost the device. Look into "
                "BTS Client."
            )
        return self._since

    def stood_still(self, longest: float) -> bool:
        """Whether the test fell behind by more than `longest` s: its circuit was open meanwhile.

        A cabinet that lost power goes on by itself when it is back, and its next data look as if
        nothing had been.
        """
        return self._behind - self._least > longest


class BTSChannel:
    """The part of the driver that drives nothing."""

    INFO: ClassVar[DriverInfo]

    def __init__(
        self, wire: Wire, clock: Clock, name: str, expect: Expect, settings: NewareSettings
    ) -> None:
        self._wire = wire
        self._clock = clock
        self._expect = expect
        self._settings = settings
        self.name = name or self.INFO.name
        self._channel = parse_address(wire.address).channel
        self._session: Session | None = None
        self._watch: Watch | None = None
        self._generation = 0
        self._identity: Identity | None = None
        self._next_row = 0
        self._row: StoredRow | None = None
        self._row_at = -math.inf
        self._reel: Reel | None = None

    # Connection and identity ---------------------------------------------------------------

    async def connect(self) -> Identity:
        """Join the connection to the server and find the channel. Writes nothing to it.

        Raises WrongInstrumentError when the server has no such channel.
        """
        if self._session is None:
            settings = self._settings
            self._session = join(self._wire, self._clock, settings.username, settings.password)
        with self._named():
            await self._session.ready()
        return self._identify(self._session)

    async def reconnect(self) -> Identity:
        """Open a fresh connection, one for all channels, find the channel again. Writes nothing."""
        if self._session is None:
            return await self.connect()
        if self._reel is None:
            self._expect_rows(0)
        with self._named():
            await self._session.renew(self._generation)
        return self._identify(self._session)

    async def close(self) -> None:
        """Leave the connection; the last channel closes it. The channel goes on as it is."""
        session, self._session = self._session, None
        if session is not None:
            if self._watch is not None:
                session.unwatch(self._watch)
                self._watch = None
            await leave(session)

    def _identify(self, session: Session) -> Identity:
        """Find the channel in the server's list, which was read at the last log-in."""
        found = [place for place in session.places if place.key == self._channel]
        if not self._channel and len(session.places) == 1:
            found = list(session.places)
        wanted = self._identity.serial if self._identity else self._expect.serial
        matching = [place for place in found if place.serial == wanted or not wanted]
        if len(matching) != 1:
            there = ", ".join(p.serial for p in found or session.places[:20]) or "none"
            asked = wanted or (f"*-{self._channel}" if self._channel else "one channel")
            raise self._error(
                WrongInstrumentError,
                f"expected {asked} (type-device-unit-channel), the server has {there}. Nothing "
                "was written. Let `address` end in #device-unit-channel, such as #21-1-2, "
                "correct `expect.serial`, and look into BTS Client whether the device is online.",
            )
        model, firmware = self._expect.model, self._expect.firmware
        if model not in ("", *self.INFO.models) or firmware:
            raise self._error(
                WrongInstrumentError,
                f"the server does not tell a model or firmware, so {model or firmware} cannot be "
                "checked. Nothing was written. Use `expect.serial`: type-device-unit-channel.",
            )
        place = matching[0]
        if self._watch is None or self._watch.place != place:
            if self._watch is not None:
                session.unwatch(self._watch)
            self._watch = new_watch(place, self._settings.sharing)
            session.watch(self._watch)
        self._generation = session.generation
        self._identity = Identity(self.INFO.maker, self.INFO.models[0], place.serial)
        return self._identity

    async def _ready(self, *, urgent: bool = False) -> tuple[Session, ChannelPlace]:
        """The connection, logged in, and the channel, found on it."""
        session = self._session
        if session is None:
            raise self._error(LinkLostError, "is not connected")
        await session.ready(urgent=urgent)
        if session.generation != self._generation:
            self._identify(session)
        assert self._watch is not None
        return session, self._watch.place

    async def _stop_blindly(self) -> None:
        """Tell the channel to stop although the server does not answer."""
        session, watch = self._session, self._watch
        if session is not None and watch is not None:
            await session.shout(list_body("stop", [switch_item("stop", watch.place, "true")]))

    # Asking --------------------------------------------------------------------------------

    async def _look(self) -> Live:
        """Live data asked for from now on."""
        session, _ = await self._ready()
        watch = self._watch
        assert watch is not None
        watch.after = self._clock.now()
        return (await session.look(watch)).live

    async def _state(self, *, urgent: bool = False) -> str:
        session, place = await self._ready(urgent=urgent)
        body = list_body("getchlstatus", [status_item(place)])
        root = await session.ask("getchlstatus", body, urgent=urgent)
        with self._strict(session):
            return states_of(root, [place])[0]

    async def _settled(self, time: float, wanted: Collection[str], *, urgent: bool = False) -> str:
        """The state once it is one of `wanted`, else what it still is after `time` (s)."""
        deadline = self._clock.now() + self._clock.lab(time)
        state = await self._state(urgent=urgent)
        while state not in wanted and self._clock.now() < deadline:
            await self._clock.sleep(self._clock.lab(SETTLING))
            state = await self._state(urgent=urgent)
        return state

    async def _tell(self, command: str, text: str = "true", *, urgent: bool = False) -> bool:
        """stop, continue, clearflag or light; whether the channel accepted it."""
        session, place = await self._ready(urgent=urgent)
        body = list_body(command, [switch_item(command, place, text)])
        root = await session.ask(command, body, urgent=urgent)
        return self._accepted(session, root, command, place)

    def _accepted(
        self, session: Session, root: ET.Element, command: str, place: ChannelPlace
    ) -> bool:
        with self._strict(session):
            return accepted(root, command, [place])[0]

    async def _order(self, command: str, text: str = "true") -> None:
        with self._named():
            if not await self._tell(command, text):
                await self._complain(command)

    async def _complain(self, command: str) -> NoReturn:
        """Raise ReportedError for a refused command, with the channel's state and event code."""
        live = await self._look()
        raise ReportedError(
            live.code,
            f"refuses to {command}; its state is {live.state}, the code that of its last event. "
            "Look into BTS Client (and at the step file's path, for a start)",
            instrument=self.INFO.name,
            address=self._wire.address,
        )

    async def clear_flag(self) -> None:
        """Take back the mark that an alarm left on the channel."""
        await self._order("clearflag")

    async def light(self, on: bool) -> None:
        """Light the channel's lamp, to find it."""
        await self._order("light", "true" if on else "false")

    def _save(self, schedule: str, place: ChannelPlace) -> str:
        """Write a step file; its path as the server's computer sees it."""
        settings = self._settings
        folder = Path(settings.step_folder or runtime_directory() / "neware").absolute()
        server = hashlib.sha256(parse_address(self._wire.address).base_key.encode()).hexdigest()
        name = f"{server[:8]}-{place.serial}.xml"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = folder / f"{name}.new"
            new.write_text(schedule, encoding="utf-8")
            os.replace(new, folder / name)
        except OSError as error:
            raise self._error(
                InstrumentError,
                f"the step file cannot be written to {folder} ({error.strerror}). Nothing was "
                "started. Set `step_folder` to one that this computer can write and the server's "
                "can read.",
            ) from error
        there = settings.server_folder
        if not there:
            return str(folder / name)
        return there.rstrip("\\/") + ("\\" if "\\" in there or ":" in there else "/") + name

    # What is stored ------------------------------------------------------------------------

    async def stored(self) -> Stored:
        """Read how many rows of the latest test the server has."""
        with self._named():
            return await self._stored()

    async def _stored(self) -> Stored:
        session, place = await self._ready()
        root = await session.ask("inquiredf", list_body("inquiredf", [stored_item(place)]))
        with self._strict(session):
            return stored_of(root, [place])[0]

    async def rows(self, first: int = 1, count: int | None = None) -> list[StoredRow]:
        """Download rows of the latest test, from number `first` (1 is the oldest).

        count: at most so many; None takes all there are. A hundred thousand take seconds.
        """
        found: list[StoredRow] = []
        with self._named():
            while count is None or len(found) < count:
                most = MOST_ROWS if count is None else min(MOST_ROWS, count - len(found))
                chunk = await self._rows(first + len(found), most)
                found += chunk
                if len(chunk) < most:
                    break
        return found

    async def _rows(self, first: int, most: int = MOST_ROWS) -> list[StoredRow]:
        session, place = await self._ready()
        root = await session.ask("download", download_body(place, first, most))
        reel = self._reel
        if reel is not None and test_of(root) != reel.test:
            raise self._error(
                InstrumentError,
                f"its latest test is number {test_of(root)}, not the schedule that was started, "
                f"number {reel.test}: somebody else has started one. Look into BTS Client.",
            )
        with self._strict(session):
            return rows_of(root, place, first)

    async def events(self) -> list[StoredEvent]:
        """Download the events of the latest test."""
        with self._named():
            session, place = await self._ready()
            root = await session.ask("downloadlog", events_body(place))
            with self._strict(session):
                return events_of(root, place)

    async def steps(self) -> list[StoredStep]:
        """Download the sums of the latest test's steps."""
        with self._named():
            session, place = await self._ready()
            root = await session.ask("downloadStepLayer", steps_body(place))
            with self._strict(session):
                return steps_of(root, place)

    def _expect_rows(self, first: int, reel: Reel | None = None) -> None:
        """The next row will be number `first`; 0 when that is to be asked for.

        reel: of a schedule, on which every row is wanted and not the newest alone.
        """
        self._next_row = first
        self._row = None
        self._reel = reel

    async def _refined(self, live: Live) -> float:
        """The current with more digits than the live one has, where they are known."""
        coarse = live.decimals <= 4 and abs(live.current) < FINE * RESOLUTION
        if not (coarse and self._settings.fine_current):
            return live.current
        now = self._clock.now()
        # Of steps on board every row is stored in the end: live values need no row each.
        if self._reel is None or self._near(live) is None or now - self._row_at > FINE_FOR:
            await self._fetch()
            self._row_at = now
        row = self._row
        if row is not None and (row.step, row.cycle) == (live.step, live.cycle):
            near = self._near(live)
            return live.current if near is None else near
        # Nothing of this step is stored yet. Rounded, a small current may look like none.
        wait = max(FIRST_ROW, 3.0 * self._settings.record_every)
        return math.nan if live.step_time < wait else live.current

    def _near(self, live: Live) -> float | None:
        """The current of the newest row, if it is of the same step and rounds to the live one."""
        row = self._row
        if row is None or (row.step, row.cycle) != (live.step, live.cycle):
            return None
        near = abs(row.current - live.current) <= 0.5 * RESOLUTION * (1.0 + 1e-6)
        return row.current if near else None

    async def _fetch(self) -> None:
        """Take the rows that were stored since the last look; the newest counts."""
        if self._reel is not None:
            await self._wind(self._reel)
            return
        if self._next_row == 0:
            self._next_row = max(1, (await self._stored()).rows)
        rows = await self._rows(self._next_row)
        if len(rows) == MOST_ROWS:
            self._next_row = max(self._next_row + len(rows), (await self._stored()).rows)
            rows = await self._rows(self._next_row) or rows
        if rows:
            self._row = rows[-1]
            self._next_row = rows[-1].number + 1

    async def _wind(self, reel: Reel) -> None:
        """Take every row that was stored since the last look."""
        count = MOST_ROWS
        while count == MOST_ROWS:
            rows = await self._rows(self._next_row)
            count = len(rows)
            strange = [row.step for row in rows if not 1 <= row.step <= len(reel.natives)]
            if strange:
                raise GarbledReplyError(
                    f"has stored a row of step {strange[0]}; the schedule that was started has "
                    f"{len(reel.natives)}"
                )
            if rows:
                reel.rows += rows
                self._row = rows[-1]
                self._next_row = rows[-1].number + 1

    # Errors --------------------------------------------------------------------------------

    def _error(self, kind: type[InstrumentError], message: str) -> InstrumentError:
        return kind(message, instrument=self.INFO.name, address=self._wire.address)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Give the errors of the connection, which many share, the name of this channel."""
        try:
            yield
        except CommunicationError as error:
            if error.instrument:
                raise
            raise self._error(type(error), error.reason) from error

    @contextlib.contextmanager
    def _strict(self, session: Session) -> Iterator[None]:
        """Trust the connection no more when a reply is not what it should be."""
        try:
            yield
        except CommunicationError:
            session.distrust()
            raise

    def _refuse(self, reason: str) -> NoReturn:
        raise self._error(UnsupportedError, f"cannot do this: {reason}. Nothing was written.")

    def _not_verified(self, when: str, expected: str, found: str) -> NoReturn:
        raise self._error(
            NotVerifiedError,
            f"{when} the channel should be {expected} but is {found}. What it does is not to be "
            "trusted: bring it to the safe state, look into BTS Client.",
        )


def span(window: tuple[float, float]) -> str:
    """A window in words. window: V."""
    return f"{window[0]:g} to {window[1]:g} V"
