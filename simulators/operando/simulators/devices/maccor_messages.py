"""JSON messages of a simulated Maccor tester: requests out of a byte stream, replies, errors.

From the vendor's help "Remote Control - MacNet - LabView" (2022). Codes and shape of its JSON-RPC
errors are not in it: the codes are those that JSON-RPC 2.0 reserves for such errors (assumed).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping

LONGEST_REQUEST = 65536
"""Bytes of one request (assumed)."""

PARSE_ERROR = "Parse error"
INVALID_REQUEST = "Method MacNet, jsonrpc 2.0 or id not found"
INVALID_PARAMS = "Invalid params"
NO_CLASS = '"FClass" key does not exist or value syntax error'
NO_NUMBER = '"FNum" key does not exist or value syntax error'
INVALID_CLASS = "Invalid FClass"
INVALID_NUMBER = "Invalid FNum"
MACNET_ERROR = "MacNet error"
MISSING_OBJECT = "Missing object"
ILLEGAL_VALUE = "Illegal value"

ERROR_CODES = {
    PARSE_ERROR: -32700,
    INVALID_REQUEST: -32600,
    INVALID_PARAMS: -32602,
    NO_CLASS: -32602,
    NO_NUMBER: -32602,
    INVALID_CLASS: -32601,
    INVALID_NUMBER: -32601,
    MACNET_ERROR: -32000,
    MISSING_OBJECT: -32602,
    ILLEGAL_VALUE: -32602,
}


START_TEXTS = {
    0: "OK",
    12: "Advanced start is not compatible with regimes.",
    14: "No test procedure was selected, please select a test procedure",
    18: "The maximum length of the data file name is 256 characters.",
    19: "Name is not a unique filename.",
    22: "Invalid entry.",
    23: "Channel in use",
    24: "No Channels were selected to be started.",
}
"""Function (6, 2)."""
CHECK_TEXTS = {
    0: "OK",
    1: "Channel not available or selected",
    2: "Procedure does not exist",
    4: "File name exists in Archive",
    5: "Invalid file name",
    6: "Invalid EV chamber number",
}
"""Function (6, 11)."""
ADVANCED_TEXTS = {
    0: "OK",
    2: "Channel not available or selected",
    3: "Illegal combination of options",
    4: "Archived file does not exist",
    6: "Illegal test step",
    0xFFFF: "Other non-defined problem",
}
"""Function (6, 13)."""
DIRECT_TEXTS = {
    0: "OK",
    1: "Illegal system type. This feature only works for type 0",
    2: "The channel is not available",
    3: "Failed creating the pseudo test procedure",
}
"""Function (6, 7)."""
OUTPUT_TEXTS = {
    0: "OK",
    1: "Illegal system type. This feature only works for type 0",
    2: "The channel is not active",
    3: "Command sent too fast. There must be at least 100 ms (10 ticks) between commands.",
    4: "Direct mode is not active.",
    5: "Direct mode is not ready yet.",
}
"""Function (6, 8)."""
STATE_TEXT = "The channel is not in a state where it can be {}"
"""Refusals of functions (6, 3), (6, 4) and (6, 6); their text is not public (assumed)."""


class Refusal(Exception):  # noqa: N818 - a reply, not a failure of the program
    """A request that is answered with a JSON-RPC error. text: one of `ERROR_CODES`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class JsonStream:
    """Cuts requests out of a byte stream: they have no terminator, only balanced braces."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def clear(self) -> None:
        """Forget an unfinished request."""
        self._waiting.clear()

    def feed(self, data: bytes) -> list[bytes | None]:
        """Texts of the requests that are complete now; None stands for bytes that are none."""
        waiting = self._waiting
        waiting += data
        found: list[bytes | None] = []
        while waiting:
            start = len(waiting) - len(waiting.lstrip())
            del waiting[:start]
            if not waiting:
                break
            if waiting[0] != 0x7B:
                waiting.clear()
                found.append(None)
                break
            end = _end_of_object(waiting)
            if end == 0:
                if len(waiting) > LONGEST_REQUEST:
                    waiting.clear()
                    found.append(None)
                break
            found.append(bytes(waiting[:end]))
            del waiting[:end]
        return found


def _end_of_object(data: bytearray) -> int:
    """Where the object at the beginning ends; 0 when it does not end yet."""
    depth = 0
    quoted = escaped = False
    for at, byte in enumerate(data):
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte == 0x22:
            quoted = True
        elif byte == 0x7B:
            depth += 1
        elif byte == 0x7D:
            depth -= 1
            if depth == 0:
                return at + 1
    return 0


def _no_constant(text: str) -> float:
    raise ValueError(text)


def read_request(text: bytes | None) -> dict[str, object]:
    """The object of a request. Raises Refusal."""
    if text is None:
        raise Refusal(PARSE_ERROR)
    try:
        message = json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal(PARSE_ERROR) from None
    if not isinstance(message, dict):
        raise Refusal(PARSE_ERROR)
    return message


def single(value: float) -> float | int:
    """A single-precision number as the tester writes it: 15 digits, whole ones without a point."""
    try:
        near = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        near = 0.0
    if not math.isfinite(near):
        return 0
    written = float(f"{near:.15g}")
    return int(written) if written.is_integer() else written


def encode(message: Mapping[str, object], *, lines: bool) -> bytes:
    """A reply, with its end. lines: laid out as in the vendor's help, not in one line."""
    if lines:
        text = json.dumps(message, indent=1, separators=(",", ":")).replace("\n", "\r\n")
    else:
        text = json.dumps(message, separators=(",", ":"))
    return text.encode("ascii") + b"\r\n"


def result(identity: object, body: Mapping[str, object]) -> dict[str, object]:
    """A reply that carries a result."""
    return {"jsonrpc": "2.0", "result": dict(body), "id": identity}


def error(identity: object, text: str, shape: str) -> dict[str, object]:
    """A reply that carries an error. shape: "object" or "text"."""
    told: object = {"code": ERROR_CODES[text], "message": text} if shape == "object" else text
    return {"jsonrpc": "2.0", "error": told, "id": identity}


class Parameters:
    """The `params` of a request. Missing keys and wrong types raise Refusal."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _get(self, key: str) -> object:
        if key not in self._values:
            raise Refusal(MISSING_OBJECT)
        return self._values[key]

    def whole(self, key: str, low: int = 0, high: int = 65535) -> int:
        """A whole number within bounds."""
        value = self._get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Refusal(ILLEGAL_VALUE)
        return value

    def number(self, key: str) -> float:
        """A finite number that single precision can hold."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal(ILLEGAL_VALUE)
        if not abs(value) <= 3e38:
            raise Refusal(ILLEGAL_VALUE)
        return float(value)

    def text(self, key: str, longest: int = 250) -> str:
        """A text."""
        value = self._get(key)
        if not isinstance(value, str) or len(value) > longest:
            raise Refusal(ILLEGAL_VALUE)
        return value

    def wholes(self, key: str) -> list[int]:
        """A list of channel numbers."""
        value = self._get(key)
        if not isinstance(value, list):
            raise Refusal(ILLEGAL_VALUE)
        for number in value:
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 65535:
                raise Refusal(ILLEGAL_VALUE)
        return value
