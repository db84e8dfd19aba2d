"""SCPI as an instrument reads it: messages, headers, parameters, the error queue.

Rules of SCPI-1999 volume 1 (syntax and style) and IEEE 488.2; written for instruments that answer
from a table of commands.
"""

from __future__ import annotations

import datetime
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MESSAGES = {
    0: "No error",
    -100: "Command error",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -131: "Invalid suffix",
    -200: "Execution error",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -285: "TSP syntax error",
    -310: "System error",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -410: "Query INTERRUPTED",
    -420: "Query UNTERMINATED",
    -500: "Power on",
}
"""Standard messages: SCPI-1999 volume 2, chapter 21."""

ERROR, WARNING, INFORMATION = 1, 2, 4
"""Types of events as the 2450 numbers them (1 and 2 documented, 4 assumed)."""

Handler = Callable[..., "str | None"]
Parser = Callable[[str], object]


class ScpiError(Exception):
    """A command that the instrument refuses.

    code: number of the error. text: its message; the standard one when empty.
    """

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the event log. time: Unix time, s."""

    code: int
    text: str
    kind: int
    time: float

    def dated(self) -> str:
        """As `:SYST:ERR?` shows it."""
        stamp = datetime.datetime.fromtimestamp(self.time, datetime.UTC)
        when = stamp.strftime("%Y/%m/%d %H:%M:%S.") + f"{stamp.microsecond // 1000:03d}"
        return f'{self.code},"{self.text};{self.kind};{when}"'

    def numbered(self) -> str:
        """As `:SYST:EVEN:NEXT?` shows it."""
        seconds = int(self.time)
        nanoseconds = int((self.time - seconds) * 1e9)
        return f'{self.code},"{self.text};{self.kind},{seconds},{nanoseconds}"'


NO_EVENT = '0,"No error;0,0,0"'


class EventLog:
    """The queue that remote commands read errors from. size: entries it holds."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def push(self, event: Event) -> None:
        """Append an event; the last entry becomes -350 when the queue is full."""
        if len(self._events) < self._size:
            self._events.append(event)
        else:
            self._events[-1] = Event(-350, MESSAGES[-350], ERROR, event.time)

    def next(self, kinds: int = ERROR) -> Event | None:
        """Remove and return the oldest event of the kinds (a sum of their numbers)."""
        for event in self._events:
            if event.kind & kinds:
                self._events.remove(event)
                return event
        return None

    def count(self, kinds: int = ERROR) -> int:
        """Number of events of the kinds."""
        return sum(1 for event in self._events if event.kind & kinds)

    def clear(self) -> None:
        """Forget all."""
        self._events.clear()


@dataclass(frozen=True, slots=True)
class Command:
    """One header and what it does.

    pattern: as manuals print it, e.g. ":SOURce[1]:VOLTage[:LEVel]"; a trailing "?" makes a query.
    handler: called with laboratory time (s) and the parsed parameters; a query returns its reply.
    parameters: a parser for each. required: how many must be there.
    """

    pattern: str
    handler: Handler
    parameters: tuple[Parser, ...] = ()
    required: int = -1

    def bind(self, arguments: Sequence[str]) -> tuple[object, ...]:
        """Parse the parameters. Raises ScpiError."""
        required = len(self.parameters) if self.required < 0 else self.required
        if len(arguments) < required:
            raise ScpiError(-109)
        if len(arguments) > len(self.parameters):
            raise ScpiError(-108)
        return tuple(parse(text) for parse, text in zip(self.parameters, arguments, strict=False))


Unit = tuple[Handler, tuple[object, ...]]
"""One program message unit, ready to be carried out."""


class CommandSet:
    """A table of commands that turns lines into units, and remembers lines it has seen.

    refuse: handler put in place of a unit that cannot be parsed; called with (now, error).
    """

    def __init__(self, commands: Sequence[Command], refuse: Handler) -> None:
        self._refuse = refuse
        self._table = [
            (_header_expression(command.pattern), command.pattern.endswith("?"), command)
            for command in commands
        ]
        self._headers: dict[str, Command | None] = {}
        self._lines: dict[bytes, tuple[Unit, ...]] = {}

    def compile(self, line: bytes) -> tuple[Unit, ...]:
        """Units of one line without its terminator; after an error the rest is left out."""
        units = self._lines.get(line)
        if units is None:
            if len(self._lines) > 4096:
                self._lines.clear()
            units = self._lines[line] = tuple(self._parse(line))
        return units

    def _parse(self, line: bytes) -> list[Unit]:
        units: list[Unit] = []
        path = ""
        try:
            text = line.decode("ascii")
            for part in split_outside_quotes(text, ";"):
                words = part.strip()
                if not words:
                    continue
                header, *rest = words.split(None, 1)
                header = header.upper()
                if not header.startswith((":", "*")):
                    header = f"{path}:{header}"
                command = self._find(header)
                if not header.startswith(("*", ":*")):
                    path = header.rpartition(":")[0]
                written = split_outside_quotes(rest[0], ",") if rest else []
                arguments = [argument.strip() for argument in written]
                units.append((command.handler, command.bind(arguments)))
        except UnicodeDecodeError:
            units.append((self._refuse, (ScpiError(-102),)))
        except ScpiError as error:
            units.append((self._refuse, (error,)))
        return units

    def _find(self, header: str) -> Command:
        if header not in self._headers:
            if len(self._headers) > 4096:
                self._headers.clear()
            query = header.endswith("?")
            bare = header.removesuffix("?").removeprefix(":")
            self._headers[header] = next(
                (
                    command
                    for expression, asks, command in self._table
                    if asks == query and expression.fullmatch(":" + bare)
                ),
                None,
            )
        command = self._headers[header]
        if command is None:
            raise ScpiError(-113)
        return command


def _header_expression(pattern: str) -> re.Pattern[str]:
    """A regular expression for the short and long forms of a header."""
    expression = pattern.removesuffix("?")
    if expression.startswith("*"):
        return re.compile(":" + re.escape(expression))
    expression = expression.replace("[", "(?:").replace("]", ")?")

    def forms(match: re.Match[str]) -> str:
        long = match[0]
        short = re.match("[A-Z0-9]+", long)
        assert short is not None
        return f"(?:{short[0]}|{long.upper()})"

    return re.compile(re.sub(r"[A-Z][A-Za-z]*", forms, expression))


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at a separator that stands outside quotes. Raises ScpiError on an open quote."""
    if '"' not in text and "'" not in text:
        return text.split(separator)
    parts: list[str] = []
    quote = ""
    begin = 0
    for at, character in enumerate(text):
        if quote:
            if character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character == separator:
            parts.append(text[begin:at])
            begin = at + 1
    if quote:
        raise ScpiError(-102)
    parts.append(text[begin:])
    return parts


_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def number(text: str) -> float:
    """A decimal number. Raises ScpiError: -104 for another type, -131 for a unit behind it."""
    found = _NUMBER.match(text)
    if not found:
        raise ScpiError(-104)
    if found.end() != len(text):
        raise ScpiError(-131 if text[found.end() :].strip().isalpha() else -104)
    return float(text)


def number_or_keyword(text: str) -> float | str:
    """A number, or "MIN", "MAX", "DEF"."""
    word = text.upper()
    for short, long in (("MIN", "MINIMUM"), ("MAX", "MAXIMUM"), ("DEF", "DEFAULT")):
        if word in (short, long):
            return short
    return number(text)


def keyword(text: str) -> str:
    """One of "MIN", "MAX", "DEF"."""
    word = number_or_keyword(text)
    if not isinstance(word, str):
        raise ScpiError(-104)
    return word


def boolean(text: str) -> bool:
    """ON, OFF or a number, which is rounded: 0 is off."""
    word = text.upper()
    if word in ("ON", "OFF"):
        return word == "ON"
    return round(number(text)) != 0


def string(text: str) -> str:
    """A text in quotes of either kind."""
    if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0]:
        raise ScpiError(-104)
    return text[1:-1]


def anything(text: str) -> str:
    """The parameter as it was written."""
    return text


def choice(*forms: str) -> Parser:
    """A parser for words printed as "HIMPedance"; gives the short form."""
    words: dict[str, str] = {}
    for form in forms:
        short = "".join(c for c in form if not c.islower())
        words[short] = words[form.upper()] = short

    def parse(text: str) -> str:
        try:
            return words[text.upper()]
        except KeyError:
            raise ScpiError(-104 if text[:1] in "\"'+-.0123456789" else -224) from None

    return parse


def resolve(value: float | str, low: float, high: float, default: float) -> float:
    """A number within bounds, or what a keyword stands for. Raises ScpiError -222."""
    if isinstance(value, str):
        return {"MIN": low, "MAX": high, "DEF": default}[value]
    if not low <= value <= high:
        raise ScpiError(-222)
    return value


def nothing(now: float, *_: object) -> None:
    """A command without effect on anything that is simulated."""
