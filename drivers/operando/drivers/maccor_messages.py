"""MacNet in JSON: requests, replies and the codes in them.

Document: Maccor help, "Remote Control - MacNet - LabView" (as printed on 18 May 2022), pages in
the comments. One JSON object a request, with an `id` that the reply repeats; CR LF ends a reply.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

Parameters = Mapping[str, str | int | float]


class Function(NamedTuple):
    """One function. group: FClass. number: FNum. writes: whether it changes something."""

    group: int
    number: int
    writes: bool = False


VERSIONS = Function(1, 1)  # p. 10
SYSTEM = Function(1, 2)  # p. 11
PROCEDURE_EXISTS = Function(1, 3)  # p. 13
SPECIFICATION = Function(3, 1)  # p. 20
STATES = Function(4, 1)  # p. 24
VOLTAGES = Function(4, 2)  # p. 27
CURRENTS = Function(4, 3)  # p. 28
AUXILIARY = Function(4, 4)  # p. 29
AUXILIARY_UNITS = Function(4, 5)  # p. 30
NAMES = Function(4, 6)  # p. 32
EVERYTHING = Function(4, 7)  # p. 33
START = Function(6, 2, writes=True)  # p. 40
SUSPEND = Function(6, 3, writes=True)  # p. 43
RESET = Function(6, 5, writes=True)  # p. 45
START_DIRECT = Function(6, 7, writes=True)  # p. 46
SET_DIRECT = Function(6, 8, writes=True)  # p. 48
SET_SAFETY = Function(6, 10, writes=True)  # p. 50
CAN_START = Function(6, 11)  # p. 51

MOST_CHANNELS = 128
"""Channels that one reply may tell of (p. 24)."""

ACTIVE, POWER_FAIL = 2, 9
STAT = {
    0: "available",
    1: "selected",
    ACTIVE: "active",
    3: "suspended",
    4: "completed",
    5: "problem",
    6: "not available",
    7: "reset",
    8: "start",
    POWER_FAIL: "power fail",
    10: "no controller",
    11: "shutdown",
    12: "starting",
    13: "blocked",
    14: "waiting",
    15: "FRA",
    16: "remote maintenance",
    17: "not used",
    18: "not available",
}
"""The state of a channel (p. 25)."""

IDLE = frozenset({0, 1})
OVER = frozenset({3, 4, 5})
"""A test is there that does not run: suspended, completed or stopped by a problem."""

CHARGING = frozenset({1, 8, 19})
DISCHARGING = frozenset({2, 9, 20})
"""Values of RF1, what the controller board does (p. 24): by itself, external, pulsed."""

END = {
    17: "pause step",
    129: "step time",
    130: "test time",
    132: "current",
    133: "voltage",
    134: "power",
    189: "safety capacity",
    190: "safety voltage",
    191: "safety overcharge",
    192: "suspended by operator or pause step",
    193: "normal end",
    194: "time-out fault",
    195: "time-out fault",
    196: "overcharge safety",
    197: "voltage safety",
    198: "slave error",
    199: "step forced by operator",
    252: "slave current control error",
    253: "absolute voltage safety",
    254: "lost current control",
    255: "buffer full",
}
"""Values of RF2, why a step ended (p. 24 f.): those that a host meets."""

TOO_FAST, NOT_READY = 3, 5

_REFUSALS: Mapping[tuple[int, int], tuple[tuple[str, int], ...]] = {
    (6, 2): (
        ("regimes with more than one", 10),
        ("not compatible with regimes", 12),
        ("no test procedure", 14),
        ("no procedure", 14),
        ("not active", 15),
        ("not selected", 16),
        ("not suspended", 17),
        ("too long", 18),
        ("maximum length", 18),
        ("unique", 19),
        ("chamber in use", 21),
        ("invalid entry", 22),
        ("channel in use", 23),
        ("selected", 24),
    ),
    (6, 7): (("system type", 1), ("available", 2), ("pseudo", 3)),
    (6, 8): (
        ("system type", 1),
        ("too fast", TOO_FAST),
        ("not ready", NOT_READY),
        ("direct mode", 4),
        ("active", 2),
    ),
    (6, 11): (
        ("sub", 3),
        ("procedure", 2),
        ("file name exists", 4),
        ("file name", 5),
        ("chamber", 6),
        ("compile", 7),
        ("channel", 1),
    ),
}
"""Numbers of the results that JSON gives in words (p. 42, 47, 48, 52), by what the words hold."""

UNNUMBERED = 0xFFFF
"""A refusal whose words are not in the document (its own "other" of 6,11)."""


LONGEST_REPLY = 200_000
"""Bytes; 128 channels take some 5000."""

_LONGEST_WORDS = 300
"""Characters of a reply that go into a message."""


class MacNetReplyError(ValueError):
    """A reply that the document does not allow; the text says what was expected."""

    def __init__(self, text: str) -> None:
        super().__init__(text[:_LONGEST_WORDS])


class MacNetRefusedError(Exception):
    """The tester refused. code: its number, `UNNUMBERED` when it gave none. text: its words."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text[:_LONGEST_WORDS]
        super().__init__(self.text)


def request(function: Function, parameters: Parameters, own_id: int) -> bytes:
    """A request. own_id: its id, which the reply must repeat."""
    return json.dumps(
        {
            "jsonrpc": "2.0",
            "method": "MacNet",
            "params": {"FClass": function.group, "FNum": function.number, **parameters},
            "id": own_id,
        },
        separators=(",", ":"),
        allow_nan=False,
    ).encode("ascii")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys are there once each: of two values nobody knows which is meant."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """What a reply holds, checked value by value. values: by key."""

    values: Mapping[str, object]

    @classmethod
    def of(cls, found: object) -> Result:
        """An object inside a reply."""
        if not isinstance(found, dict):
            raise MacNetReplyError(f"an object, not {found!r}")
        return cls(found)

    def number(self, key: str) -> float:
        """A finite number."""
        return number(self.values.get(key), key)

    def whole(self, key: str, highest: int) -> int:
        """A whole number from 0 to `highest`."""
        return _whole(self.values.get(key), key, highest)

    def word(self, key: str) -> str:
        """A text."""
        found = self.values.get(key)
        if not isinstance(found, str):
            raise MacNetReplyError(f"a text {key}, not {found!r}")
        return found

    def items(self, key: str, count: int | None = None) -> list[object]:
        """A list; of `count` items unless that is None."""
        found = self.values.get(key)
        if not isinstance(found, list) or len(found) != (len(found) if count is None else count):
            size = "" if count is None else f" of {count}"
            raise MacNetReplyError(f"a list {key}{size}, not {found!r}")
        return found

    def numbers(self, key: str, count: int | None = None) -> list[float]:
        """A list of finite numbers."""
        return [number(item, key) for item in self.items(key, count)]


def number(found: object, key: str) -> float:
    """A finite number found under a key. Raises MacNetReplyError."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            value = float(found)
        except OverflowError:
            value = math.inf
        if math.isfinite(value):
            return value
    raise MacNetReplyError(f"a number {key}, not {found!r}")


def _whole(found: object, key: str, highest: int) -> int:
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= highest:
        return found
    raise MacNetReplyError(f"a whole number {key} from 0 to {highest}, not {found!r}")


def result_of(reply: bytes, function: Function, parameters: Parameters, own_id: int) -> Result:
    """What a reply to that request says.

    Raises MacNetReplyError when it is none, MacNetRefusedError when the tester refuses.
    """
    if len(reply) > LONGEST_REPLY:
        raise MacNetReplyError(f"at most {LONGEST_REPLY} bytes, not {len(reply)}")
    try:
        message = json.loads(
            reply.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise MacNetReplyError(f"one JSON object ({error})") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise MacNetReplyError('an object with "jsonrpc":"2.0"')
    if "error" in message:
        _raise_refusal(message["error"], message.get("id"), own_id)
    if message.get("id") != own_id or isinstance(message.get("id"), bool):
        raise MacNetReplyError(f"the id {own_id}, not {message.get('id')!r}")
    result = Result.of(message.get("result"))
    echoes: Iterable[tuple[str, object]] = [("FClass", function.group), ("FNum", function.number)]
    echoes = [*echoes, *((key, parameters[key]) for key in ("Chan", "Len") if key in parameters)]
    for key, sent in echoes:
        if result.whole(key, 0xFFFF) != sent:
            raise MacNetReplyError(f"{key} {sent}, not {result.values[key]!r}")
    return result


def _raise_refusal(error: object, found: object, own_id: int) -> NoReturn:
    """Its shape is not in the document: JSON-RPC 2.0's own, or words alone (p. 2)."""
    if found not in (own_id, None) or isinstance(found, bool):
        raise MacNetReplyError(f"the id {own_id}, not {found!r}")
    if isinstance(error, str) and error:
        raise MacNetRefusedError(UNNUMBERED, error)
    if isinstance(error, dict):
        code, text = error.get("code", UNNUMBERED), error.get("message")
        if isinstance(code, int) and not isinstance(code, bool) and isinstance(text, str) and text:
            raise MacNetRefusedError(code, text)
    raise MacNetReplyError(f"an error with code and message, not {error!r}")


def check_done(result: Result, function: Function) -> None:
    """Raise MacNetRefusedError unless a command's result is OK."""
    found = result.values.get("Result")
    if isinstance(found, int) and not isinstance(found, bool):
        if found == 0:
            return
        raise MacNetRefusedError(found, f"result {found}")
    text = result.word("Result")
    if text == "OK":
        return
    if not text:
        raise MacNetReplyError("a Result in words, not ''")
    lower = text.lower()
    for words, code in _REFUSALS.get(function[:2], ()):
        if words in lower:
            raise MacNetRefusedError(code, text)
    raise MacNetRefusedError(UNNUMBERED, text)


class Observation(NamedTuple):
    """One channel at one moment.

    sent, received: laboratory time around the request, s. doing: RF1. why: RF2. state: Stat.
    voltage: V. current: A, sign as sent.
    """

    sent: float
    received: float
    doing: int
    why: int
    state: int
    voltage: float
    current: float

    @property
    def words(self) -> str:
        """Its state and why, for messages."""
        why = END.get(self.why, "")
        return f"{STAT[self.state]} ({why})" if why else STAT[self.state]


def state_of(result: Result) -> tuple[int, int, int]:
    """RF1, RF2 and Stat."""
    state = result.whole("Stat", 0xFFFF)
    if state not in STAT:
        raise MacNetReplyError(f"a Stat from 0 to 18, not {state}")
    return result.whole("RF1", 0xFF), result.whole("RF2", 0xFF), state


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """Counters of a channel's test.

    state, reason: in words. last_record: number of its newest stored row. cycle, step: of its
    procedure. test_time, step_time: s. charge: C, and energy: J, of the step, as counted by the
    tester. tester_time: of its computer, ISO 8601, without a time zone.
    """

    state: str
    reason: str
    last_record: int
    cycle: int
    step: int
    test_time: float
    step_time: float
    charge: float
    energy: float
    tester_time: str


def status_of(result: Result) -> ChannelStatus:
    """The counters in a reply to `EVERYTHING`."""
    _, why, state = state_of(result)
    return ChannelStatus(
        state=STAT[state],
        reason=END.get(why, f"code {why}"),
        last_record=result.whole("LastRecNum", 0xFFFFFFFF),
        cycle=result.whole("Cycle", 0xFFFFFFFF),
        step=result.whole("Step", 0xFFFF),
        test_time=result.number("TestTime"),
        step_time=result.number("StepTime"),
        charge=result.number("Capacity") * 3600.0,
        energy=result.number("Energy") * 3600.0,
        tester_time=result.word("TesterTime"),
    )


@dataclass(frozen=True, slots=True)
class Specification:
    """What a channel can do (p. 20 f.).

    voltage: lowest and highest, V. safety_voltage: bounds of its safety limits, V. charge,
    discharge: full scales of the ranges 1 to 4, A. safety_current: highest of its safety limits
    in charge and discharge, A. safety_power: likewise, W; 0.0 where it has none.
    """

    voltage: tuple[float, float]
    safety_voltage: tuple[float, float]
    charge: tuple[float, float, float, float]
    discharge: tuple[float, float, float, float]
    safety_current: tuple[float, float]
    safety_power: tuple[float, float]

    def range_for(self, current: float) -> int:
        """Index of the lowest range that holds a current (A, positive charges); -1 if none."""
        scales = self.charge if current > 0.0 else self.discharge
        for index, full_scale in enumerate(scales):
            if abs(current) <= full_scale * (1.0 + 1e-6):  # sent in single precision
                return index
        return -1


def specification_of(result: Result) -> Specification:
    """A channel's specification, checked for sense."""
    ranges = (1, 2, 3, 4)
    charge = [result.number(f"IR{index}Chg") for index in ranges]
    discharge = [result.number(f"IR{index}Dis") for index in ranges]
    for scales in (charge, discharge):
        if scales[0] <= 0.0 or scales != sorted(scales):
            raise MacNetReplyError(f"four rising current ranges, not {scales}")
    found = Specification(
        voltage=(result.number("Vmin"), result.number("Vmax")),
        safety_voltage=(result.number("VSafeMin"), result.number("VSafeMax")),
        charge=(charge[0], charge[1], charge[2], charge[3]),
        discharge=(discharge[0], discharge[1], discharge[2], discharge[3]),
        safety_current=(result.number("ISafeChg"), result.number("ISafeDis")),
        safety_power=(result.number("PBatSafeChg"), result.number("PBatSafeDis")),
    )
    if not found.voltage[0] < found.voltage[1]:
        raise MacNetReplyError(f"Vmin below Vmax, not {found.voltage}")
    return found
