"""What Neware's BTS 8 says and is told over TCP: XML bodies, strictly read.

Documents: aurora-neware of Empa (neware.py; tests/mocks.py holds replies captured from a BTS 8.0),
and for the words of states and steps and for `continue` a public client (neware_client.py) that
quotes the maker's BTS API protocol v1.19. The maker's own document is not public.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, NoReturn
from xml.sax.saxutils import escape, quoteattr

from operando.instruments.errors import GarbledReplyError
from operando.instruments.wires import Terminated

END: Final = Terminated(b"\n\n#\r\n")

LONGEST_REPLY: Final = 4_000_000
"""Bytes. A thousand rows take a quarter of a million, and so do 720 channels."""

MOST_PARTS: Final = 60_000
"""Tags and attributes together. A thousand rows have some 13,000, and so do 720 channels; deeply
nested ones would take seconds and hundreds of megabytes."""

MOST_ROWS: Final = 1000
"""Rows that one download gives (API protocol v1.19)."""

IDLE: Final = frozenset({"finish", "stop", "protect"})
"""States from which a channel may be started: nothing runs on it, its circuit is open."""

STATES: Final = IDLE | {"working", "pause", "synCtrl", "ligth", "waitTimeOut", "waitStart"}
"""Words for the state of a channel (captured, and API protocol v1.19; "ligth" is theirs)."""

AH: Final = 3600.0
"""C in an ampere hour; J in a watt hour."""

_HEAD = b'<?xml version="1.0" encoding="UTF-8" ?><bts version="1.0">'
_NUMBER = re.compile(r"-?[0-9]{1,12}(?:\.([0-9]{1,20}))?(?:[eE][+-]?[0-9]{1,2})?")
_COUNT = re.compile(r"[0-9]{1,12}")
_WORD = re.compile(r"[A-Za-z_]{1,24}")
_PLACE = ("devtype", "devid", "subdevid", "chlid")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


class ChannelPlace(NamedTuple):
    """Where a channel is. ip: of its middle machine, as the server names it."""

    ip: str
    devtype: int
    devid: int
    subdevid: int
    chlid: int

    @property
    def key(self) -> str:
        """As clients write it: device, unit, channel."""
        return f"{self.devid}-{self.subdevid}-{self.chlid}"

    @property
    def serial(self) -> str:
        """With the type of the device before it."""
        return f"{self.devtype}-{self.key}"

    def short(self) -> str:
        """Attributes without the address of the middle machine."""
        return (
            f'devtype="{self.devtype}" devid="{self.devid}" subdevid="{self.subdevid}" '
            f'chlid="{self.chlid}"'
        )

    def long(self) -> str:
        """All attributes."""
        return f"ip={quoteattr(self.ip)} {self.short()}"


class Live(NamedTuple):
    """What a channel does now.

    step, cycle: running numbers of the schedule, 0 when there is none. step_type: "cc", "dc", "cv",
    "rest", ...; "" when none. voltage: V. current: A, negative discharges. charge, energy: of the
    step, C and J. total_time, step_time: s. code: of the last event.
    decimals: of the current as it was written. NaN where it says that there is no value.
    """

    state: str
    step_type: str
    step: int
    cycle: int
    barcode: str
    voltage: float
    current: float
    charge: float
    energy: float
    total_time: float
    step_time: float
    code: int
    decimals: int


class StoredRow(NamedTuple):
    """One row of a test as the instrument stored it.

    number: from 1. step_time: s since the step began. local_time: of the server's computer,
    "2025-12-28 22:30:11". voltage: V. current: A. charge, energy: of the step, C and J.
    """

    number: int
    step: int
    cycle: int
    step_type: str
    step_time: float
    local_time: str
    voltage: float
    current: float
    charge: float
    energy: float


class StoredStep(NamedTuple):
    """One step of a test in sum. rows: first and last number. duration: s. SI units as in rows."""

    rows: tuple[int, int]
    position: int
    step: int
    cycle: int
    step_type: str
    duration: float
    ended: str
    voltages: tuple[float, float]
    currents: tuple[float, float]
    charge: float
    energy: float


class StoredEvent(NamedTuple):
    """One event of a test. row: number of the row at which it happened. code: the maker's."""

    row: int
    code: int
    local_time: str


class Stored(NamedTuple):
    """How much of a channel's latest test is stored. complete: no more rows will come."""

    test: int
    rows: int
    complete: bool


# Requests --------------------------------------------------------------------------------------


def framed(body: str) -> bytes:
    """A request ready to send."""
    return _HEAD + body.encode("utf-8") + b"</bts>" + END.terminator


def connect_body(username: str, password: str) -> str:
    """Log in; comes first on every connection."""
    return (
        f"<cmd>connect</cmd><username>{escape(username)}</username>"
        f"<password>{escape(password)}</password><type>bfgs</type>"
    )


def list_body(command: str, items: Sequence[str], more: str = "") -> str:
    """A command on a list of channels."""
    return f'<cmd>{command}</cmd><list count = "{len(items)}">{"".join(items)}{more}</list>'


def status_item(place: ChannelPlace) -> str:
    """Ask for the state."""
    return f"<status {place.long()}>true</status>"


def inquire_item(place: ChannelPlace) -> str:
    """Ask for live data."""
    return f'<inquire {place.long()} aux="0" barcode="1">true</inquire>'


def stored_item(place: ChannelPlace) -> str:
    """Ask how much of the latest test is stored."""
    return f'<chl {place.short()} testid="0" />'


def switch_item(command: str, place: ChannelPlace, text: str = "true") -> str:
    """stop, continue, clearflag, light."""
    return f"<{command} {place.long()}>{text}</{command}>"


def start_item(place: ChannelPlace, barcode: str, path: str) -> str:
    """Start the step file at `path`, as the server's computer sees it."""
    return f"<start {place.long()} barcode={quoteattr(barcode)}>{escape(path)}</start>"


def backup_item(folder: str) -> str:
    """Where BTS keeps its own file of the test."""
    return (
        f'<backup backupdir={quoteattr(folder)} remotedir="" filenametype="0" customfilename="" '
        'addtimewhenrepeat="0" createdirbydate="0" filetype="0" backupontime="1" '
        'backupontimeinterval="720" backupfree="1" />'
    )


def download_body(place: ChannelPlace, first: int, count: int = MOST_ROWS) -> str:
    """Rows of the latest test, from number `first`."""
    return (
        f'<cmd>download</cmd><download {place.short()} auxid="0" testid="0" '
        f'startpos="{first}" count="{count}"/>'
    )


def events_body(place: ChannelPlace) -> str:
    """Events of the latest test."""
    return f'<cmd>downloadlog</cmd><download {place.short()} testid="0"/>'


def steps_body(place: ChannelPlace) -> str:
    """Sums of the steps of the latest test."""
    return f"<cmd>downloadStepLayer</cmd><downloadStepLayer {place.short()} />"


# Replies ---------------------------------------------------------------------------------------


def parse_xml(text: str) -> ET.Element:
    """Parse XML that declares nothing: without a declaration there are no entities to expand.

    Raises ValueError in words.
    """
    if "<!" in text:
        raise ValueError("has a declaration or comment (<!...), which is refused")
    parts = text.count("<") + text.count("=")
    if parts > MOST_PARTS:
        raise ValueError(f"has {parts} tags and attributes, more than {MOST_PARTS}")
    try:
        # Text, not bytes: an encoding that it claims for itself is passed over.
        return ET.fromstring(text)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"is not XML: {error}") from None


def reply_to(command: str, data: bytes) -> ET.Element:
    """The root of the reply to `command`. Raises GarbledReplyError."""
    if len(data) > LONGEST_REPLY:
        _garbled(command, f"{len(data)} bytes", f"at most {LONGEST_REPLY}")
    try:
        root = parse_xml(data.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        _garbled(command, f"{_shown(data)}, which {error}", "XML without declarations")
    said = (root.findtext("cmd") or "").strip()
    if root.tag != "bts" or said not in _ANSWERS.get(command, (f"{command}_resp",)):
        _garbled(command, f"<{root.tag}> with {said!r}", f"{command}_resp")
    return root


_ANSWERS = {
    # The first is what a BTS 8.0 says.
    "download": ("donwload_resp", "download_resp"),
    "downloadlog": ("donwloadlog_resp", "downloadlog_resp"),
}


def _garbled(command: str, got: str, expected: str) -> NoReturn:
    got = got if len(got) <= 300 else f"{got[:280]}..."
    raise GarbledReplyError(f"answered {command} with {got}; expected {expected}")


def _shown(data: bytes) -> str:
    return repr(data if len(data) <= 120 else data[:80] + b"..." + data[-40:])


def _items(root: ET.Element, command: str, tag: str, holder: str = "list") -> list[ET.Element]:
    """Children of the list. Its count is not believed: it may be 1 although more follow."""
    found = root.find(holder)
    if found is None:
        _garbled(command, f"no <{holder}>", f"a <{holder}> of <{tag}>")
    items = list(found)
    for item in items:
        if item.tag != tag:
            _garbled(command, f"<{item.tag}>", f"<{tag}>")
    return items


def _number(item: ET.Element, name: str, command: str) -> float:
    text = item.get(name, "")
    if _NUMBER.fullmatch(text):
        return float(text)
    if text == "--":
        return math.nan
    _garbled(command, f"{name}={text!r}", "a number or --")


def _count(item: ET.Element, name: str, command: str, absent: int | None = None) -> int:
    text = item.get(name)
    if text is None and absent is not None:
        return absent
    if text is None or not _COUNT.fullmatch(text):
        _garbled(command, f"{name}={text!r}", "a whole number")
    return int(text)


def _word(item: ET.Element, name: str, command: str) -> str:
    text = item.get(name, "")
    if text == "--":
        return ""
    if not _WORD.fullmatch(text):
        _garbled(command, f"{name}={text!r}", "a word")
    return text


def _moment(item: ET.Element, name: str, command: str) -> str:
    text = item.get(name, "")
    if not _MOMENT.fullmatch(text):
        _garbled(command, f"{name}={text!r}", "such as 2025-12-28 22:30:11")
    return text


def _state(text: str, command: str) -> str:
    if text not in STATES:
        _garbled(command, f"the state {text!r}", "one of " + ", ".join(sorted(STATES)))
    return text


def _check(command: str, place: ChannelPlace, said: Sequence[int]) -> None:
    """Check whom an answer is about; the unit may wrongly be 1 (known fault of BTS 8.0)."""
    devtype, devid, unit, chl = said
    wanted = (place.devtype, place.devid, place.chlid)
    if (devtype, devid, chl) != wanted or unit not in (place.subdevid, 1):
        _garbled(command, f"an answer of {devtype}-{devid}-{unit}-{chl}", place.serial)


def _matched(
    items: list[ET.Element], command: str, places: Sequence[ChannelPlace]
) -> Iterable[tuple[ET.Element, ChannelPlace]]:
    """Answers in the order of the request."""
    if len(items) != len(places):
        _garbled(command, f"{len(items)} answers", f"{len(places)}")
    return zip(items, places, strict=True)


def _answered(
    root: ET.Element, command: str, tag: str, places: Sequence[ChannelPlace]
) -> list[ET.Element]:
    items = _items(root, command, tag)
    for item, place in _matched(items, command, places):
        _check(command, place, [_count(item, name, command) for name in _PLACE])
    return items


def logged_in(root: ET.Element) -> bool:
    """Whether it accepted the name and the password."""
    return (root.findtext("result") or "").strip() == "ok"


def places_of(root: ET.Element) -> tuple[ChannelPlace, ...]:
    """The channels that the server has."""
    name = "getdevinfo"
    return tuple(
        ChannelPlace(
            item.get("ip", ""),
            _count(item, "devtype", name),
            _count(item, "devid", name),
            _count(item, "subdevid", name),
            _count(item, "Channelid", name),
        )
        for item in _items(root, name, "channel", "middle")
    )


def states_of(root: ET.Element, places: Sequence[ChannelPlace]) -> tuple[str, ...]:
    """States, in the order of the request."""
    name = "getchlstatus"
    items = _answered(root, name, "status", places)
    return tuple(_state((item.text or "").strip(), name) for item in items)


def accepted(root: ET.Element, command: str, places: Sequence[ChannelPlace]) -> tuple[bool, ...]:
    """Whether each channel did what it was told: ok or false."""
    texts = [(item.text or "").strip() for item in _answered(root, command, command, places)]
    for text in texts:
        if text not in ("ok", "false"):
            _garbled(command, repr(text), "ok or false")
    return tuple(text == "ok" for text in texts)


def stored_of(root: ET.Element, places: Sequence[ChannelPlace]) -> tuple[Stored, ...]:
    """How much is stored, in the order of the request."""
    name = "inquiredf"
    return tuple(
        Stored(
            _count(item, "testid", name),
            _count(item, "count", name),
            (item.text or "").strip() == "true",
        )
        for item in _answered(root, name, "chl", places)
    )


def live_of(root: ET.Element, places: Sequence[ChannelPlace]) -> tuple[Live, ...]:
    """Live data, in the order of the request."""
    items = _items(root, "inquire", "inquire")
    return tuple(_live(item, place) for item, place in _matched(items, "inquire", places))


def _live(item: ET.Element, place: ChannelPlace) -> Live:
    name = "inquire"
    said = item.get("dev", "").split("-")
    if len(said) != 5 or not all(map(_COUNT.fullmatch, said)):
        _garbled(name, f"dev={item.get('dev')!r}", f"{place.serial}-0")
    _check(name, place, [int(part) for part in said[:4]])
    current = _number(item, "current", name)
    written = _NUMBER.fullmatch(item.get("current", ""))
    return Live(
        _state(item.get("workstatus", ""), name),
        _word(item, "step_type", name),
        _count(item, "step_id", name, 0),
        _count(item, "cycle_id", name, 0),
        item.get("barcode", ""),
        _number(item, "voltage", name),
        current,
        _number(item, "capacity", name) * AH,
        _number(item, "energy", name) * AH,
        _number(item, "totaltime", name),
        _number(item, "relativetime", name),
        _count(item, "log_code", name, 0),
        len(written[1] or "") if written else 0,
    )


def _about(root: ET.Element, command: str, tag: str, place: ChannelPlace) -> None:
    """The element that says whose data follow."""
    item = root.find(tag)
    if item is None:
        _garbled(command, f"no <{tag}>", f"<{tag}> of {place.serial}")
    _check(command, place, [_count(item, name, command) for name in _PLACE])


def rows_of(root: ET.Element, place: ChannelPlace, first: int) -> list[StoredRow]:
    """Rows, which must be numbered from `first` without a gap."""
    name = "download"
    _about(root, name, "download", place)
    rows = [
        StoredRow(
            _count(item, "seqid", name),
            _count(item, "stepid", name),
            _count(item, "cycleid", name),
            _word(item, "steptype", name),
            _number(item, "testtime", name) / 1e3,
            _moment(item, "atime", name),
            _number(item, "volt", name),
            _number(item, "curr", name),
            _number(item, "cap", name) * AH,
            _number(item, "eng", name) * AH,
        )
        for item in _items(root, name, "data")
    ]
    for number, row in enumerate(rows, first):
        if row.number != number:
            _garbled(name, f"row {row.number}", f"row {number}")
    return rows


def test_of(root: ET.Element) -> int:
    """Number of the test whose rows were downloaded."""
    item = root.find("download")
    return 0 if item is None else _count(item, "testid", "download", 0)


def events_of(root: ET.Element, place: ChannelPlace) -> list[StoredEvent]:
    """Events of a test."""
    name = "downloadlog"
    _about(root, name, "download", place)
    return [
        StoredEvent(
            _count(item, "seqid", name),
            _count(item, "log_code", name),
            _moment(item, "atime", name),
        )
        for item in _items(root, name, "data")
    ]


def steps_of(root: ET.Element, place: ChannelPlace) -> list[StoredStep]:
    """Sums of the steps of a test."""
    name = "downloadStepLayer"
    _about(root, name, name, place)
    return [
        StoredStep(
            (_count(item, "startseqid", name), _count(item, "endseqid", name)),
            _count(item, "stepindex", name),
            _count(item, "stepid", name),
            _count(item, "cycleid", name),
            _word(item, "steptype", name),
            _number(item, "steptime", name) / 1e3,
            _moment(item, "endatime", name),
            (_number(item, "startvolt", name), _number(item, "endvolt", name)),
            (_number(item, "startcurr", name), _number(item, "endcurr", name)),
            _number(item, "cap", name) * AH,
            _number(item, "eng", name) * AH,
        )
        for item in _items(root, name, "data")
    ]
