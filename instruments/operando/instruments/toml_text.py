"""TOML files whose errors name the line: `tomllib` parses, a small scanner finds the lines."""

from __future__ import annotations

import bisect
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from operando.instruments.errors import BadInputError
from operando.instruments.parameters import unknown_key
from operando.instruments.quantities import Quantity

Key = tuple[str, ...]


class TomlDocument:
    """A parsed file. table: its contents. source: its text. lines: line of each key, from 1.

    name: what messages call it, the file's name. Raises BadInputError when it is no TOML.
    """

    def __init__(self, source: str, path: Path) -> None:
        self.source = source
        self.path = path
        self.name = path.name
        try:
            self.table: Mapping[str, object] = tomllib.loads(source)
        except tomllib.TOMLDecodeError as error:
            raise BadInputError(f"{self.name}: not valid TOML: {error}") from None
        except RecursionError:
            raise BadInputError(f"{self.name}: nested too deeply") from None
        self.lines: Mapping[Key, int] = _Scanner(source).document()

    @classmethod
    def read(cls, path: Path) -> TomlDocument:
        """Read a file. Raises BadInputError when it is not there or no UTF-8 text."""
        try:
            source = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise BadInputError(
                f"{path}: cannot be read ({error.strerror}); check the path"
            ) from None
        except UnicodeDecodeError as error:
            raise BadInputError(f"{path}: is not UTF-8 text (byte {error.start})") from None
        return cls(source.replace("\r\n", "\n"), path)

    def where(self, *key: str) -> str:
        """ "bench.toml line 12", of a key or of the nearest table above it that was written."""
        for length in range(len(key), 0, -1):
            line = self.lines.get(key[:length])
            if line:
                return f"{self.name} line {line}"
        return self.name

    def label(self, *key: str) -> str:
        """ "bench.toml line 12: [instruments.smu1] address"."""
        table = f"[{'.'.join(key[:-1])}] " if len(key) > 1 else ""
        return f"{self.where(*key)}: {table}{key[-1]}"

    def error(self, key: Key, message: str) -> BadInputError:
        """An error at a key, to be raised."""
        return BadInputError(f"{self.label(*key)}: {message}")


class Section:
    """One table of a document, taken out key by key. What is left over at the end is unknown."""

    def __init__(self, document: TomlDocument, key: Key, known: Iterable[str]) -> None:
        self._document = document
        self._key = key
        self._known = list(known)
        found: object = document.table
        for part in key:
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        if not isinstance(found, Mapping):
            raise document.error(key, f"must be a table, found {found!r}")
        self.table: Mapping[str, object] = found
        for name in found:
            if name not in self._known:
                raise self.error(name, unknown_key(name, self._known))

    def __contains__(self, name: str) -> bool:
        return name in self.table

    def error(self, name: str, message: str) -> BadInputError:
        """An error at one of its keys, to be raised."""
        return self._document.error((*self._key, name), message)

    def missing(self, name: str, example: str) -> BadInputError:
        """An error for a key that must be there, to be raised."""
        if not self._key:
            return BadInputError(f"{self._document.name}: {name} is missing; write {example}")
        return BadInputError(
            f"{self._document.where(*self._key)}: [{'.'.join(self._key)}] {name} is missing; "
            f"write {example}"
        )

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        value = self.table.get(name, default)
        if not isinstance(value, str):
            raise self.error(name, f"must be a text in quotes, found {value!r}")
        return value

    def whole(self, name: str, default: int = 0) -> int:
        """A whole number, not negative."""
        value = self.table.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(name, f"must be a whole number from 0, found {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """A plain number."""
        value = self.table.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(name, f"must be a number, found {value!r}")
        return float(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.table.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(name, f"must be a list of texts in quotes, found {value!r}")
        return tuple(value)

    def mapping(self, name: str) -> Mapping[str, object]:
        """A table, with whatever keys."""
        value = self.table.get(name, {})
        if not isinstance(value, Mapping):
            raise self.error(name, f"must be a table, found {value!r}")
        return value

    def quantity(self, name: str, kind: Quantity, default: float) -> float:
        """A quantity in SI units."""
        if name not in self.table:
            return default
        try:
            return kind.parse(self.table[name])
        except BadInputError as error:
            raise self.error(name, str(error)) from None


class _Scanner:
    """Finds the line of every key of a text that is known to be valid TOML."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]
        self._lines: dict[Key, int] = {}
        self._arrays: dict[Key, int] = {}

    def document(self) -> dict[Key, int]:
        table: Key = ()
        while True:
            self._skip(" \t\r\n")
            if self._at >= len(self._text):
                return self._lines
            if self._text[self._at] == "#":
                self._comment()
            elif self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Key:
        double = self._text.startswith("[[", self._at)
        line = self._line()
        self._at += 2 if double else 1
        parts = self._dotted()
        self._at += 2 if double else 1
        key: Key = ()
        for index, part in enumerate(parts):
            key = (*key, part)
            if double and index == len(parts) - 1:
                self._arrays[key] = self._arrays.get(key, -1) + 1
            self._lines.setdefault(key, line)
            if key in self._arrays:
                key = (*key, str(self._arrays[key]))
        # A table that was only implied before gets the line of its own header.
        self._lines[key] = line
        return key

    def _pair(self, table: Key) -> None:
        line = self._line()
        key = table
        for part in self._dotted():
            key = (*key, part)
            self._lines.setdefault(key, line)
        self._skip(" \t")
        self._at += 1  # the equals sign
        self._skip(" \t")
        self._value(key)

    def _value(self, key: Key) -> None:
        text = self._text
        mark = text[self._at]
        if mark in "\"'":
            self._string()
        elif mark == "[":
            self._at += 1
            index = 0
            while True:
                self._blank()
                if text[self._at] == "]":
                    self._at += 1
                    return
                if text[self._at] == ",":
                    self._at += 1
                    continue
                item = (*key, str(index))
                self._lines.setdefault(item, self._line())
                self._value(item)
                index += 1
        elif mark == "{":
            self._at += 1
            while True:
                self._blank()
                if text[self._at] == "}":
                    self._at += 1
                    return
                if text[self._at] == ",":
                    self._at += 1
                    continue
                self._pair(key)
        else:
            while self._at < len(text) and text[self._at] not in ",]}#\n":
                self._at += 1

    def _dotted(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(" \t")
            start = self._at
            if self._text[start] in "\"'":
                self._string()
                quoted = self._text[start : self._at]
                parts.append(str(tomllib.loads(f"k = {quoted}")["k"]))
            else:
                while self._text[self._at] not in " \t.=]":
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip(" \t")
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _string(self) -> None:
        text = self._text
        quote = text[self._at]
        if text.startswith(quote * 3, self._at):
            self._at += 3
            while not text.startswith(quote * 3, self._at):
                self._at += 2 if quote == '"' and text[self._at] == "\\" else 1
            self._at += 3
            while text.startswith(quote, self._at):  # up to two quotes may end the text itself
                self._at += 1
            return
        self._at += 1
        while text[self._at] != quote:
            self._at += 2 if quote == '"' and text[self._at] == "\\" else 1
        self._at += 1

    def _blank(self) -> None:
        while True:
            self._skip(" \t\r\n")
            if self._text[self._at] != "#":
                return
            self._comment()

    def _comment(self) -> None:
        end = self._text.find("\n", self._at)
        self._at = len(self._text) if end < 0 else end

    def _skip(self, characters: str) -> None:
        while self._at < len(self._text) and self._text[self._at] in characters:
            self._at += 1

    def _line(self) -> int:
        return bisect.bisect_right(self._starts, self._at)
