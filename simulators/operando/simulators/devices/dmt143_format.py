"""Messages of a simulated DMT143: the `FORM` language and the text of values and settings.

Written from the DMT143 user guide M211435EN, section 7.8.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from operando.simulators.devices.gas_sensor import ZERO_CELSIUS

DEFAULT_FORM = '"Tdf=" 3.2 Tdf " " U3 "Tdfatm=" 3.2 Tdfa " " U3 "H2O=" 6.0 H2O " " U3 \\r \\n'

LONGEST_FORM = 153

TOKEN = re.compile(
    r"\s+|\"(?P<text>[^\"]{1,15})\"|#(?P<code>\d{3})|[\\#](?P<control>[trnTRN])"
    r"|(?P<digits>\d)\.(?P<places>\d)|[Uu](?P<unit>\d)"
    r"|(?P<name>(?i:TDFA|TDF|H2O|H20|RH|ADDR|STAT|SN|TIME|ERR|CS2|CS4|CSX))"
)

CONTROLS = {"t": "\t", "r": "\r", "n": "\n"}


class Reading(NamedTuple):
    """What is shown: K, K at one atmosphere, ppm of dry gas, relative humidity 0 to 1."""

    dew: float
    dew_at_one_atmosphere: float
    ppm: float
    humidity: float


NOTHING = Reading(math.nan, math.nan, math.nan, math.nan)


def is_form(text: str) -> bool:
    """Whether a format is understood."""
    known = sum(len(token[0]) for token in TOKEN.finditer(text))
    return known == len(text) <= LONGEST_FORM


def element(name: str, reading: Reading, metric: bool) -> tuple[float, str] | None:
    """A measured value and its unit as they are shown; None for a name that is not measured."""
    if name in ("TDF", "TDFA"):
        celsius = (reading.dew if name == "TDF" else reading.dew_at_one_atmosphere) - ZERO_CELSIUS
        return (celsius, "'C") if metric else (1.8 * celsius + 32.0, "'F")
    if name in ("H2O", "H20"):
        return reading.ppm, "ppm"
    if name == "RH":
        return 100.0 * reading.humidity, "%RH"
    return None


def message(form: str, reading: Reading, metric: bool, field: Callable[[str], str]) -> bytes:
    """A measurement in a format; field gives the text of what is not measured, by name.

    The checksum of the user guide's example comes out when x.y is x characters, a point and y.
    """
    out, width, places, unit = b"", 6, 2, ""
    for token in TOKEN.finditer(form):
        if token["text"]:
            out += token["text"].encode("latin-1", "replace")
        elif token["code"]:
            out += bytes([int(token["code"]) % 256])
        elif token["control"]:
            out += CONTROLS[token["control"].lower()].encode()
        elif token["digits"]:
            places = int(token["places"])
            width = int(token["digits"]) + (1 + places if places else 0)
        elif token["unit"]:
            out += unit.ljust(int(token["unit"]))[: int(token["unit"])].encode()
        elif token["name"]:
            name = token["name"].upper()
            measured = element(name, reading, metric)
            if measured is None:
                out += (checksum(name, out) or field(name)).encode("latin-1", "replace")
            elif math.isnan(measured[0]):
                out, unit = out + b"*" * width, measured[1]
            else:
                out, unit = out + f"{measured[0]:{width}.{places}f}".encode(), measured[1]
    return out


def checksum(name: str, sent: bytes) -> str:
    """CS2, CS4 or CSX over what was sent so far; "" for another name."""
    if name == "CS2":
        return f"{sum(sent) % 0x100:02X}"
    if name == "CS4":
        return f"{sum(sent) % 0x10000:04X}"
    if name == "CSX":
        folded = 0
        for byte in sent:
            folded ^= byte
        return f"{folded:02X}"
    return ""


def setting(name: str, value: str) -> str:
    """A setting in words."""
    return f"{name:<15}: {value}\r\n"


def count(name: str, value: int) -> str:
    """A whole number, which stands further right, as the user guide prints `Serial delay`."""
    return f"{name:<15}:        {value}\r\n"


def number(text: str, otherwise: float) -> float:
    """A number; NaN for nonsense, `otherwise` for nothing."""
    if not text:
        return otherwise
    return float(text) if re.fullmatch(r"\d{1,6}(\.\d{0,8})?", text) else math.nan
