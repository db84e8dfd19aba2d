"""XML as Neware's BTS 8 server reads and writes it on its TCP port.

Framing, indents and the ways numbers are printed follow replies captured from a BTS 8.0 (the tests
of the public client `aurora-neware`, Empa).
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping

END = b"\n\n#\r\n"
"""Ends every request and every reply."""

LONGEST_REQUEST = 4_000_000
"""Bytes of one request, beyond which a connection is broken (assumed)."""

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
_QUOTED = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        '"': "&quot;",
        "\t": "&#9;",
        "\n": "&#10;",
        "\r": "&#13;",
    }
)


class XmlRefusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A text that is not well-formed XML, or that declares a document type."""


class _NoDocumentType(ET.TreeBuilder):
    """Builds a tree, and refuses a document type before an entity of it could be expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise XmlRefusal("a document type is not accepted")


def parse(data: bytes) -> ET.Element:
    """The root element of an XML text. Raises XmlRefusal."""
    parser = ET.XMLParser(target=_NoDocumentType())
    try:
        parser.feed(data.strip())
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise XmlRefusal(str(error)) from None
    assert isinstance(root, ET.Element)
    return root


def attributes(values: Mapping[str, object]) -> str:
    """Attributes as they stand behind a tag, a space before each."""
    return "".join(f' {key}="{str(value).translate(_QUOTED)}"' for key, value in values.items())


def element(tag: str, values: Mapping[str, object], text: str | None = None) -> str:
    """One element of a list, with text or without."""
    if text is None:
        return f"<{tag}{attributes(values)} />"
    return f"<{tag}{attributes(values)}>{text.translate(_QUOTED)}</{tag}>"


def listing(items: Iterable[str], count: int | None = None) -> str:
    """Items in a list; count: what it says of their number, else their true number."""
    lines = tuple(items)
    number = len(lines) if count is None else count
    if not lines:
        return f'  <list count="{number}" />\r\n'
    inside = "".join(f"    {line}\r\n" for line in lines)
    return f'  <list count="{number}">\r\n{inside}  </list>\r\n'


def reply(command: str, body: str) -> bytes:
    """A whole reply with its end. body: lines that end with CRLF."""
    return f"{_HEAD}  <cmd>{command}</cmd>\r\n{body}</bts>".encode() + END


def short(value: float, decimals: int) -> str:
    """A number with so many decimals at most, as `inquire` shows it: 0, -0.0003, 4.1995."""
    text = f"{value:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def single(value: float) -> float:
    """A number as it is kept in the memory: with single precision."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return value


def stored(value: float) -> str:
    """A number as `download` shows it: 3.49995565414429."""
    return f"{value:.15g}" if value else "0"
