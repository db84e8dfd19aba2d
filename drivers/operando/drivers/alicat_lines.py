"""How Alicat's controllers are talked to: a letter, a command, a carriage return; no check sum.

Documents: Alicat Serial Primer (Feb 2023 Rev. 2), quick command guides of the PC and M series
manuals, replies captured from 10v20 firmware in the tests of the package alicatlib (G. Bellamy).
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from operando.drivers.driver import S, WaryDriver
from operando.instruments.errors import (
    GarbledReplyError,
    NotVerifiedError,
    WrongInstrumentError,
)
from operando.instruments.roles import Identity
from operando.instruments.wires import Sized, Terminated

CODES = {
    "ADC": "internal communication error",
    "COM": "communication",
    "EXH": "exhaust by hand",
    "GTA": "gas temperature average",
    "HLD": "valves held",
    "LCK": "buttons locked",
    "MOV": "mass flow over range",
    "OPL": "over-pressure limit acts",
    "OVR": "totalizer over range",
    "P2O": "second pressure over range",
    "POV": "pressure over range",
    "TMF": "totalizer missed flow",
    "TOV": "temperature over range",
    "VOV": "volume flow over range",
}
"""Status codes behind the numbers of a frame: Serial Primer p. 8 and ??D* of captured firmware.
The words for COM and GTA are a guess; nothing here depends on them."""

TIMEOUT = 0.5
"""s; a reply begins after 3.5 characters of silence and is one short line."""

LINES = 10
"""Lines of the manufacturer's table, M00 to M09."""

NUMBER = re.compile(r"[+-]?\d{1,7}(?:\.(\d{1,5}))?")
COUNT = re.compile(r"\d{1,3}")
_ROW = re.compile(r"([A-Z])\s+M(\d\d)\s*(.*)")

LINE = Terminated(b"\r")


def _table_length(data: bytes) -> int:
    """Bytes of the table that begins like this; a single ? is a refusal."""
    if data.lstrip(b"\n").startswith(b"?") and b"\r" in data:
        return data.index(b"\r") + 1
    at = -1
    for _ in range(LINES):
        at = data.find(b"\r", at + 1)
        if at < 0:
            return len(data) + 1
    return at + 1


TABLE = Sized(1, _table_length)


class Frame(NamedTuple):
    """A data frame: gas pressure and set-point in units of the display, and status codes."""

    pressure: float
    setpoint: float
    codes: frozenset[str]


class Conversation(WaryDriver[S]):
    """How it is spoken to; what it is told, the driver knows."""

    _unit_id: str
    """Its letter."""
    _columns: list[str]
    """What the numbers of a frame are, in their order."""
    _decimals: tuple[int, int] | None = None

    # Lines ---------------------------------------------------------------------------------

    async def _query(
        self, command: str, *, framing: Terminated | Sized = LINE, urgent: bool = False
    ) -> str:
        """Send a command, return its reply; ? becomes ReportedError."""
        request = f"{self._unit_id}{command}\r".encode("ascii")
        reply = await self._exchange(request, framing, TIMEOUT, urgent=urgent)
        text = reply.decode("ascii", "replace").lstrip("\n")
        if text.rstrip("\r") == "?":
            raise self._reported(
                ord("?"), f"?, not understood or not allowed, to {request[:-1].decode('ascii')}"
            )
        return text

    async def _ask(self, command: str, *, urgent: bool = False) -> list[str]:
        """Fields of a one-line reply behind the unit id."""
        if not self._trusted:
            await self._identify(urgent=urgent)
        return self._fields(command, await self._query(command, urgent=urgent))

    def _fields(self, command: str, text: str) -> list[str]:
        fields = text.split(" ")
        unit_id, *rest = [field for field in fields if field] or [""]
        if unit_id != self._unit_id or not text.isprintable():
            self._garbled(command or "a poll", text, f"{self._unit_id} and numbers")
        return rest

    async def _tell(self, command: str, *, urgent: bool = False) -> Frame:
        """Send a command that is answered by a data frame."""
        return self._parsed(command, await self._ask(command, urgent=urgent))

    async def _frame(self, *, urgent: bool = False) -> Frame:
        return await self._tell("", urgent=urgent)

    def _parsed(self, command: str, fields: list[str]) -> Frame:
        count = len(self._columns)
        numbers = dict(zip(self._columns, fields, strict=False))
        found = [NUMBER.fullmatch(numbers.get(name, "")) for name in ("pressure", "setpoint")]
        first, second = found
        if first is None or second is None or not CODES.keys() >= set(fields[count:]):
            self._garbled(
                command or "a poll",
                " ".join(fields),
                f"{' '.join(self._columns)} (`settings.columns`) and status codes",
            )
        decimals = (len(first[1] or ""), len(second[1] or ""))
        if self._decimals is None:
            self._decimals = decimals
        elif decimals != self._decimals:
            # Without a check sum this is what tells a number that lost a digit.
            self._garbled(command or "a poll", " ".join(fields), "as many decimals as before")
        return Frame(float(first[0]), float(second[0]), frozenset(fields[count:]))

    async def _ask_set_point(
        self, command: str = "LS", *, urgent: bool = False
    ) -> tuple[float, float, str]:
        """Present and requested set-point, and the label of their unit."""
        reply = await self._query(command, urgent=urgent)
        fields = self._fields(command, reply)
        if (
            len(fields) != 4
            or not all(map(NUMBER.fullmatch, fields[:2]))
            or not COUNT.fullmatch(fields[2])
        ):
            self._garbled(command, reply, "such as A +10.00 +20.00 10 PSIG")
        return float(fields[0]), float(fields[1]), fields[3]

    async def _manufacturer(self, *, urgent: bool) -> tuple[Identity, str]:
        """Identity and whole model number from the table of ten rows."""
        text = await self._query("??M*", framing=TABLE, urgent=urgent)
        rows: dict[int, str] = {}
        for line in text.strip("\r\n").split("\r"):
            row = _ROW.fullmatch(line.strip())
            if row is None or row[1] != self._unit_id:
                self._garbled("??M*", line, f"such as {self._unit_id}  M05 Serial Number")
            rows[int(row[2])] = " ".join(row[3].split())

        def value(label: str) -> str:
            found = [row.removeprefix(label).strip() for row in rows.values() if label in row]
            return found[0] if len(found) == 1 else ""

        number, serial = value("Model Number"), value("Serial Number")
        if len(rows) != LINES or not number or not serial:
            self._garbled("??M*", text, "rows with Model Number and Serial Number")
        maker = next((row for row in rows.values() if "ALICAT" in row.upper()), "")
        firmware = value("Software Revision")
        return Identity(maker or self.INFO.maker, number.split("-")[0], serial, firmware), number

    # Errors --------------------------------------------------------------------------------

    def _garbled(self, command: str, reply: str, expected: str) -> NoReturn:
        self._trusted = False
        raise self._error(
            GarbledReplyError, f"answered {command} with {reply!r}, expected {expected}"
        )

    def _wrong(self, what: str, remedy: str) -> NoReturn:
        raise self._error(WrongInstrumentError, f"{what}. Nothing was written. Correct {remedy}.")

    def _not_verified(self, command: str, expected: str, found: str) -> NoReturn:
        raise self._error(
            NotVerifiedError,
            f"{command} should give {expected} but gives {found}. The pressure is not to be "
            "trusted: bring it to the safe state.",
        )
