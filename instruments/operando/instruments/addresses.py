"""Addresses of instruments, as bench files write them.

TCPIP::host::port::SOCKET                     a raw TCP socket
TCPIP::host::INSTR, USB..., GPIB..., ASRL...  other VISA resources
serial:/dev/ttyUSB0?baud=9600&parity=N        a serial port; also COM3, or a path relative to
                                              the bench file's folder
serial:socket://127.0.0.1:5030                a serial line behind a TCP server
serial:rfc2217://127.0.0.1:5031?baud=9600     one that also knows line settings (RFC 2217)
ble:CB:B8:33:4C:88:4F                         a Bluetooth sensor, see `operando.instruments.ble`

Behind any of them "#channel" names one channel of an instrument that has several:
TCPIP::host::502::SOCKET#5-1-3. All of one place share a connection.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from operando.instruments.ble import SCHEME, parse_ble_address
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import unknown_key

AddressKind = Literal["visa_socket", "visa", "serial", "serial_socket", "serial_rfc2217", "ble"]


@dataclass(frozen=True, slots=True)
class SerialParameters:
    """Line settings. baud: bits/s. bits: 7 or 8 data bits. parity: N, E, O. stop: stop bits."""

    baud: int = 9600
    bits: int = 8
    parity: Literal["N", "E", "O"] = "N"
    stop: float = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. text: as written, relative paths resolved.

    host, port: of TCP kinds ("" and 0 otherwise). path: device of a serial port, the resource part
    of ASRL, or the D-Bus socket of a BlueZ of one's own. serial: line settings of serial kinds.
    channel: of an instrument that has several, "" of one that has not.
    """

    kind: AddressKind
    text: str
    host: str = ""
    port: int = 0
    path: str = ""
    serial: SerialParameters = field(default_factory=SerialParameters)
    channel: str = ""

    @property
    def base(self) -> str:
        """The place as written, without the channel."""
        return self.text.partition("#")[0]

    @property
    def is_loopback(self) -> bool:
        """Whether its host is this computer, by number or as localhost. False without a host."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_private_path(self) -> bool:
        """Whether it is a serial port at a path of one's own, not a device of the system."""
        if self.kind == "ble":
            return bool(self.path)
        return (
            self.kind == "serial"
            and not self.path.startswith("/dev/")
            and not _COM.fullmatch(self.path)
        )

    @property
    def key(self) -> str:
        """The same for every way of writing one place; line settings do not count."""
        return f"{self.base_key}#{self.channel}" if self.channel else self.base_key

    @property
    def base_key(self) -> str:
        """The same of the place without its channel."""
        if self.kind == "ble":
            return parse_ble_address(self.base).key
        if self.host:
            host = "127.0.0.1" if self.host.lower() == "localhost" else self.host.lower()
            # An INSTR resource has a device name beside its host: two may share a host.
            rest = "" if self.kind != "visa" else self.base.upper().split("::", 2)[-1]
            return f"tcp:{host}:{self.port}:{rest}" if rest else f"tcp:{host}:{self.port}"
        if self.path:
            own = self.path.upper() if _COM.fullmatch(self.path) else os.path.realpath(self.path)
            return f"serial:{own}"
        return self.base.upper()


_CHANNEL = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_COM = re.compile(r"COM[0-9]+", re.IGNORECASE)
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
_SOCKET = re.compile(rf"TCPIP[0-9]*::({_HOST})::([0-9]{{1,5}})::SOCKET", re.IGNORECASE)
_TCPIP = re.compile(
    rf"TCPIP[0-9]*::({_HOST})(?:,([0-9]{{1,5}}))?(?:::([A-Za-z0-9_]+)(?:,([0-9]{{1,5}}))?)?(?:::INSTR)?",
    re.IGNORECASE,
)
_ASRL = re.compile(r"ASRL([^:?\s]+)(?:::INSTR)?", re.IGNORECASE)
_VISA = re.compile(
    r"(?:USB[0-9]*(?:::[A-Za-z0-9_.-]+){2,5}|GPIB[0-9]*(?:::[0-9]{1,2}){1,2}(?:::INSTR)?)",
    re.IGNORECASE,
)
_URL = re.compile(rf"(socket|rfc2217)://({_HOST}):([0-9]{{1,5}})/?")
_FORMS = (
    'write "TCPIP::host::port::SOCKET", another VISA resource (USB..., GPIB..., ASRL...), '
    '"serial:/dev/ttyUSB0?baud=9600", "serial:socket://host:port", or "ble:CB:B8:33:4C:88:4F"'
)
_PARITIES: Mapping[str, Literal["N", "E", "O"]] = {"N": "N", "E": "E", "O": "O"}


def parse_address(text: str, folder: Path | None = None) -> Address:
    """Parse an address. folder: what relative paths are relative to; None leaves them.

    Raises BadInputError with the forms that exist.
    """
    if not text.isprintable() or text != text.strip():
        raise BadInputError(f"{text!r} is not an address; {_FORMS}")
    place, sign, channel = text.partition("#")
    if sign:
        if not _CHANNEL.fullmatch(channel):
            raise BadInputError(
                f'"{text}": behind # stands a channel of letters and digits, such as #5-1-3'
            )
        found = parse_address(place, folder)
        return replace(found, text=f"{found.text}#{channel}", channel=channel)
    if text.startswith("serial:"):
        return _serial(text, folder)
    if text.startswith(SCHEME):
        sensor = parse_ble_address(text, folder)
        return Address("ble", sensor.text, path=sensor.bus)
    upper = text.upper()
    match = _SOCKET.fullmatch(text)
    if match:
        return Address("visa_socket", text, _host(match[1]), _port(match[2], text))
    if upper.startswith("TCPIP"):
        match = _TCPIP.fullmatch(text)
        if match and (match[3] or "").upper() != "SOCKET":
            port = match[2] or match[4]
            return Address("visa", text, _host(match[1]), _port(port, text) if port else 0)
    elif upper.startswith("ASRL"):
        match = _ASRL.fullmatch(text)
        if match:
            return Address("visa", text, path=match[1])
    elif _VISA.fullmatch(text):
        return Address("visa", text)
    raise BadInputError(f'"{text}" is not an address; {_FORMS}')


def _host(text: str) -> str:
    return text.strip("[]")


def _port(digits: str, text: str) -> int:
    port = int(digits)
    if not 0 < port < 65536:
        raise BadInputError(f'"{text}": {port} is not a port from 1 to 65535')
    return port


def _serial(text: str, folder: Path | None) -> Address:
    place, _, query = text.removeprefix("serial:").partition("?")
    parameters = _parameters(query, text)
    found = _URL.fullmatch(place)
    if found:
        kind: AddressKind = "serial_socket" if found[1] == "socket" else "serial_rfc2217"
        port = _port(found[3], text)
        return Address(kind, text, _host(found[2]), port, serial=parameters)
    if "://" in place or place.startswith("//"):
        raise BadInputError(
            f'"{text}": serial:socket://host:port and serial:rfc2217://host:port are known'
        )
    if not place or place.endswith("/"):
        raise BadInputError(f'"{text}" names no serial port; {_FORMS}')
    if _COM.fullmatch(place) or folder is None or Path(place).is_absolute():
        return Address("serial", text, path=place, serial=parameters)
    # Only the text is resolved: the file itself may be a link that does not exist yet.
    path = os.path.normpath(folder.absolute() / place)
    resolved = f"serial:{path}?{query}" if query else f"serial:{path}"
    return Address("serial", resolved, path=path, serial=parameters)


def _parameters(query: str, text: str) -> SerialParameters:
    result = SerialParameters()
    seen: set[str] = set()
    for part in query.split("&") if query else []:
        key, _, value = part.partition("=")
        if key in seen:
            raise BadInputError(f'"{text}": {key} is given twice')
        seen.add(key)
        if key == "baud" and value.isdecimal() and value.isascii() and 0 < len(value) < 9:
            result = replace(result, baud=int(value))
            if result.baud > 0:
                continue
        elif key == "bits" and value in ("7", "8"):
            result = replace(result, bits=int(value))
            continue
        elif key == "parity" and value.upper() in _PARITIES:
            result = replace(result, parity=_PARITIES[value.upper()])
            continue
        elif key == "stop" and value in ("1", "1.5", "2"):
            result = replace(result, stop=float(value))
            continue
        elif key not in _SERIAL_KEYS:
            raise BadInputError(f'"{text}": {key}: {unknown_key(key, list(_SERIAL_KEYS))}')
        raise BadInputError(f'"{text}": {key} must be {_SERIAL_KEYS[key]}, not "{value}"')
    return result


_SERIAL_KEYS = {
    "baud": "a number of bits/s such as 9600",
    "bits": "7 or 8",
    "parity": "N, E or O",
    "stop": "1, 1.5 or 2",
}
