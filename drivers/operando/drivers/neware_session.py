"""One connection to a BTS server for all its channels.

A server has hundreds of channels and answers one request at a time. Drivers of one server share
a session; it logs in for all, fails for all at once, and reads many channels in one request. What
many channels ask at the same time goes in one request too: else the last of a hundred that are to
be stopped would wait for seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from operando.drivers.neware_xml import (
    END,
    ChannelPlace,
    Live,
    connect_body,
    framed,
    inquire_item,
    list_body,
    live_of,
    logged_in,
    places_of,
    reply_to,
)
from operando.instruments.addresses import parse_address
from operando.instruments.clock import Clock
from operando.instruments.errors import CommunicationError, GarbledReplyError, LinkLostError
from operando.instruments.wires import Wire

TIMEOUT: Final = 2.0
"""s for a reply. ASSUMPTION: the API protocol allows 30 s, too long to bring a cell to safety."""

URGENT_TIMEOUT: Final = 0.8
"""s for the exchanges of `safe`, so that two of them fit into the 2 s that it is given."""


class Sighting:
    """Live data of one channel with the laboratory time (s) at which they were asked for.

    time: midpoint between sending and reply. uncertainty: half the width.
    """

    __slots__ = ("live", "sent", "time", "uncertainty")

    def __init__(self, live: Live, sent: float, received: float) -> None:
        self.live = live
        self.sent = sent
        self.uncertainty = 0.5 * (received - sent)
        self.time = sent + self.uncertainty


@dataclass(slots=True)
class Watch:
    """How one driver watches its channel.

    sharing: s that live data may be old when they come from a request made for other channels.
    after: laboratory time up to which whatever was asked for is too old. waiting: who waits now.
    """

    place: ChannelPlace
    item: str
    sharing: float
    after: float = -math.inf
    asked: float = -math.inf
    interval: float = math.inf
    seen: Sighting | None = None
    waiting: int = 0

    def ask(self, now: float) -> None:
        """Note that somebody asks, to know when to expect it again."""
        self.interval = now - self.asked if now > self.asked else self.interval
        self.asked = now

    def is_fresh(self, now: float) -> bool:
        """Whether the next reading is here already; each is given out once."""
        seen = self.seen
        return seen is not None and seen.sent > self.after and now - seen.time <= self.sharing

    def is_due(self, now: float) -> bool:
        """Whether it will be asked for before a reading of now is too old, or is already."""
        if self.waiting:
            return not self.is_fresh(now)
        due = self.asked + self.interval
        return due - self.sharing <= now <= due + self.interval and not self.is_fresh(now)


class _Door:
    """Lets one caller try something for all that wait; who waited shares its failure."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._failures = 0
        self._failure: CommunicationError | None = None

    async def pass_through(
        self, is_open: Callable[[], bool], opening: Callable[[], Awaitable[None]]
    ) -> None:
        """Return when `is_open`, trying `opening` unless somebody else did while we waited."""
        if is_open():
            return
        failures = self._failures
        async with self._lock:
            if is_open():
                return
            if self._failures != failures and self._failure is not None:
                raise type(self._failure)(self._failure.reason)
            try:
                await opening()
            except CommunicationError as error:
                self._failures += 1
                self._failure = error
                raise


class _Question(NamedTuple):
    """A request about one channel, taken apart. more: what the list holds for all channels."""

    command: str
    item: str
    more: str

    @classmethod
    def read(cls, command: str, body: str) -> _Question | None:
        """From a body that `list_body` made; None for what is not about one channel of a list."""
        found = _ONE_OF_A_LIST.fullmatch(body)
        return cls(command, found["item"], found["more"]) if found else None


# The first end of an element is that of the item: quoted text holds no ">", see xml.sax.saxutils.
_ONE_OF_A_LIST: Final = re.compile(
    r'<cmd>\w+</cmd><list count = "1">'
    r"(?P<item><(?P<tag>\w+) [^>]*(?:/>|>[^<]*</(?P=tag)>))(?P<more>.*)</list>",
    re.DOTALL,
)


@dataclass(slots=True)
class _Together:
    """Questions of one kind that wait for the one before them to be answered."""

    generation: int
    items: list[str] = field(default_factory=list)
    answer: asyncio.Task[ET.Element] | None = None


class Session:
    """A connection that several drivers share. Errors carry no instrument's name.

    generation: counts log-ins; who sees it change must check its channel again before it writes.
    places: the server's channels. users: drivers that hold it.

    Should a server mind that several channels share a request, each asks alone on the connection
    after that on which such a request failed, and together again on the one after that.
    """

    def __init__(self, wire: Wire, clock: Clock, username: str, password: str) -> None:
        self._wire = wire
        self._clock = clock
        self._login = connect_body(username, password)
        self._entrance = _Door()
        self._polling = _Door()
        self._logged_in = False
        self._watches: list[Watch] = []
        self._under_way: set[asyncio.Task[ET.Element]] = set()
        self._gathering: dict[tuple[str, str, bool], _Together] = {}
        self._turns: dict[tuple[str, str, bool], asyncio.Lock] = {}
        self._alone = 0
        self._downloading = asyncio.Lock()
        self.generation = 0
        self.places: tuple[ChannelPlace, ...] = ()
        self.users = 0

    @property
    def clock(self) -> Clock:
        """Laboratory time."""
        return self._clock

    # Connection ----------------------------------------------------------------------------

    async def ready(self, *, urgent: bool = False) -> None:
        """Log in if nobody has, or if an exchange failed since."""
        if self._logged_in:
            return
        # A connection on which something failed is not used again.
        opening = self._wire.reopen if self.generation else self._wire.open
        await self._entrance.pass_through(
            lambda: self._logged_in, lambda: self._enter(opening, urgent)
        )

    async def renew(self, seen: int) -> None:
        """Open a fresh connection, unless that was done since generation `seen`; log in."""
        await self._entrance.pass_through(
            lambda: self._logged_in and self.generation != seen,
            lambda: self._enter(self._wire.reopen, urgent=True),
        )

    async def _enter(self, opening: Callable[[], Awaitable[None]], urgent: bool) -> None:
        self._logged_in = False
        await opening()
        timeout = URGENT_TIMEOUT if urgent else TIMEOUT
        if not logged_in(await self._ask("connect", self._login, timeout, urgent)):
            raise LinkLostError(
                "the server refuses the log-in; check `username` and `password` in the settings "
                "and that its API is switched on (BTS Client, Help > Mode settings)"
            )
        places = places_of(await self._ask("getdevinfo", _GETDEVINFO, timeout, urgent))
        self.places = places
        self.generation += 1
        self._logged_in = True

    def distrust(self) -> None:
        """Log in again before anything else is said: a reply was not what it should be."""
        self._alone = self.generation + (self.generation != self._alone)
        self._logged_in = False

    async def close(self) -> None:
        """Close the connection."""
        self._logged_in = False
        under_way = tuple(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._wire.close()

    # Requests ------------------------------------------------------------------------------

    async def ask(self, command: str, body: str, *, urgent: bool = False) -> ET.Element:
        """Send a request on a connection that is logged in, return the reply's root.

        A request about one channel may go together with others of its kind; the reply is about
        the one channel all the same. Raises LinkLostError when the connection is not logged in:
        whoever asks must check its channel again first.
        """
        if not self._logged_in:
            raise LinkLostError(_NOT_SENT)
        if command.startswith("download"):
            return await self._outcome(self._begin(self._download(command, body)))
        question = _Question.read(command, body)
        if question is not None and self.generation != self._alone:
            return await self._ask_together(question, urgent)
        return await self._ask(command, body, URGENT_TIMEOUT if urgent else TIMEOUT, urgent)

    async def _download(self, command: str, body: str) -> ET.Element:
        """Downloads go one by one: who looks at a channel waits for no more than one of them."""
        generation = self.generation
        async with self._downloading:
            if not self._logged_in or self.generation != generation:
                raise LinkLostError(_NOT_SENT)
            return await self._exchange(command, body, TIMEOUT, urgent=False)

    async def _ask_together(self, question: _Question, urgent: bool) -> ET.Element:
        """Ask with all who ask the same until the question before has been answered."""
        key = (question.command, question.more, urgent)
        group = self._gathering.get(key)
        if group is None or group.generation != self.generation:
            group = self._gathering[key] = _Together(self.generation)
            group.answer = self._begin(self._exchange_together(key, group))
        assert group.answer is not None
        number = len(group.items)
        group.items.append(question.item)
        root = await self._outcome(group.answer)
        return _part_of(root, number)

    async def _exchange_together(self, key: tuple[str, str, bool], group: _Together) -> ET.Element:
        command, more, urgent = key
        async with self._turns.setdefault(key, asyncio.Lock()):
            if self._gathering.get(key) is group:
                del self._gathering[key]
            if not self._logged_in or self.generation != group.generation:
                raise LinkLostError(_NOT_SENT)
            count, timeout = len(group.items), URGENT_TIMEOUT if urgent else TIMEOUT
            try:
                body = list_body(command, group.items, more)
                root = await self._exchange(command, body, timeout, urgent)
                answers = root.find("list")
                if answers is None or len(answers) != count:
                    got = "no list" if answers is None else f"{len(answers)} answers"
                    self._logged_in = False
                    raise GarbledReplyError(f"answered {command} with {got}; expected {count}")
            except CommunicationError:
                if count > 1:
                    self._alone = self.generation + 1
                raise
            return root

    async def _ask(self, command: str, body: str, timeout: float, urgent: bool) -> ET.Element:
        """Exchange in a task of the session's own."""
        return await self._outcome(self._begin(self._exchange(command, body, timeout, urgent)))

    def _begin(self, exchange: Coroutine[object, object, ET.Element]) -> asyncio.Task[ET.Element]:
        """Exchange in a task of the session's own.

        A run that ends cancels its readings. The reply must be taken all the same, or the next
        request, perhaps another channel's stop, would meet it.
        """
        task = asyncio.ensure_future(exchange)
        self._under_way.add(task)
        task.add_done_callback(self._end)
        return task

    async def _outcome(self, task: asyncio.Task[ET.Element]) -> ET.Element:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by `close`, not whoever waits
                raise LinkLostError("the connection was closed meanwhile") from None
            raise

    async def shout(self, body: str) -> None:
        """Send a request without waiting for an answer: the line may still carry one way.

        Behind a log-in, as this connection may be a new one.
        """
        self._logged_in = False
        with contextlib.suppress(CommunicationError):
            for one in (self._login, body):
                await self._wire.send(framed(one), URGENT_TIMEOUT, urgent=True)

    def _end(self, task: asyncio.Task[ET.Element]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more

    async def _exchange(self, command: str, body: str, timeout: float, urgent: bool) -> ET.Element:
        try:
            reply = await self._wire.exchange(framed(body), END, timeout, urgent=urgent)
            return reply_to(command, reply)
        except BaseException:
            self._logged_in = False
            raise

    # Live data -----------------------------------------------------------------------------

    def watch(self, watch: Watch) -> None:
        """Begin to watch a channel."""
        self._watches.append(watch)

    def unwatch(self, watch: Watch) -> None:
        """Watch a channel no more."""
        if watch in self._watches:
            self._watches.remove(watch)

    async def look(self, watch: Watch) -> Sighting:
        """Live data of a channel, perhaps from a request that another channel's reading made."""
        watch.ask(self._clock.now())
        watch.waiting += 1
        try:
            await self._polling.pass_through(
                lambda: watch.is_fresh(self._clock.now()), lambda: self._look_at_all(watch)
            )
        finally:
            watch.waiting -= 1
        seen, watch.seen = watch.seen, None
        assert seen is not None
        return seen

    async def _look_at_all(self, first: Watch) -> None:
        """Read a channel, and all that will be asked for soon."""
        await self.ready()
        now = self._clock.now()
        due = [first, *(w for w in self._watches if w is not first and w.is_due(now))]
        places = [watch.place for watch in due]
        if not self._logged_in:
            raise LinkLostError(_NOT_SENT)
        body = list_body("inquire", [watch.item for watch in due])
        root = await self._ask("inquire", body, TIMEOUT, urgent=False)
        received = self._clock.now()
        try:
            lives = live_of(root, places)
        except CommunicationError:
            self.distrust()
            raise
        for watch, live in zip(due, lives, strict=True):
            watch.seen = Sighting(live, now, received)


def _part_of(root: ET.Element, number: int) -> ET.Element:
    """What a reply about several channels says of one of them."""
    part = ET.Element(root.tag)
    answers = root.find("list")
    assert answers is not None
    ET.SubElement(part, "list").append(answers[number])
    return part


_NOT_SENT: Final = "the connection failed meanwhile; nothing was sent"

_GETDEVINFO: Final = "<cmd>getdevinfo</cmd>"

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Session]] = WeakKeyDictionary()


def join(wire: Wire, clock: Clock, username: str, password: str) -> Session:
    """The session with the server at the wire's address; the first who comes lends its wire."""
    of_loop = _sessions.setdefault(asyncio.get_running_loop(), {})
    base = parse_address(wire.address).base_key
    session = of_loop.get(base)
    if session is None:
        session = of_loop[base] = Session(wire, clock, username, password)
    session.users += 1
    return session


async def leave(session: Session) -> None:
    """Leave a session; the last who leaves closes the connection."""
    session.users -= 1
    if session.users:
        return
    of_loop = _sessions.get(asyncio.get_running_loop(), {})
    for base in [base for base, found in of_loop.items() if found is session]:
        del of_loop[base]
    await session.close()


def new_watch(place: ChannelPlace, sharing: float) -> Watch:
    """A watch on a channel that nobody has asked for yet."""
    return Watch(place, inquire_item(place), sharing)
