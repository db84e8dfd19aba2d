"""A BTS server that remembers what it was told, for the driver's tests. It has no cells."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from operando.drivers.neware import NewareBTS8
from operando.drivers.neware_channel import NewareSettings
from operando.instruments.clock import Clock
from operando.instruments.roles import Expect
from operando.instruments.wires import Line, MemoryWire, Switchboard

END = "\n\n#\r\n"
HEAD = '<?xml version="1.0" encoding="UTF-8" ?><bts version="1.0">'
BASE = "TCPIP::bts.lab::502::SOCKET"


def request(body: str) -> str:
    """A request without its terminator."""
    return f"{HEAD}{body}</bts>"


def reply(body: str) -> str:
    """A reply without its terminator; each line of the body on one of its own."""
    lines = "".join(f"  {line}\r\n" for line in body.splitlines())
    return f'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n{lines}</bts>'


class Unit:
    """One channel. rows: data elements of its latest test."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.state = "finish"
        self.step_type = "--"
        self.step = 0
        self.barcode = "old"
        self.voltage, self.current = "3.7", "0"
        self.total = 0.0
        self.code = 0
        self.test, self.rows = 143, ["<data/>"] * 5
        self.schedule = ""

    @property
    def place(self) -> str:
        """Attributes that say which it is."""
        devid, unit, chl = self.key.split("-")
        return f'devtype="27" devid="{devid}" subdevid="{unit}" chlid="{chl}"'

    def work(self, barcode: str, step_type: str, current: str, step: int = 1) -> None:
        """Run a step."""
        self.state, self.barcode, self.step_type = "working", barcode, step_type
        self.current, self.step = current, step

    def store(self, current: float, seconds: float = 1.0, charge: float = 0.0) -> None:
        """Store a row of the present step. charge: of the step, C, without its sign."""
        self.rows.append(
            f'<data seqid="{len(self.rows) + 1}" stepid="{self.step}" cycleid="1" '
            f'steptype="{self.step_type}" testtime="{seconds * 1e3:.0f}" '
            f'atime="2026-01-01 00:00:01" volt="{self.voltage}" curr="{current!r}" '
            f'cap="{charge / 3600.0!r}" eng="0" />'
        )

    def inquire(self) -> str:
        """Its live data."""
        step = f'step_id="{self.step}" ' if self.step else ""
        return (
            f'<inquire dev="27-{self.key}-0" cycle_id="1" {step}step_type="{self.step_type}" '
            f'workstatus="{self.state}" barcode="{self.barcode}" current="{self.current}" '
            f'voltage="{self.voltage}" capacity="0" energy="0" totaltime="{self.total:g}" '
            f'relativetime="{self.total:g}" open_or_close="0" log_code="{self.code}" />'
        )


class Server:
    """Answers as a BTS 8.0 does. delay: s before each answer. silent: gives none.

    asked: commands with the channels that they named. on_start: called with a channel that was
    told to start, instead of starting it. refuses: commands that are answered with false.
    """

    def __init__(self, *keys: str) -> None:
        self.units = {key: Unit(key) for key in keys}
        self.delay = 0.0
        self.silent = False
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.on_start: Callable[[Unit], None] = _obey
        self.refuses: set[str] = set()
        self.connections = 0
        self.line: Line | None = None
        self._logged_in: set[int] = set()

    def count(self, command: str) -> int:
        """How often a command came."""
        return sum(asked == command for asked, _ in self.asked)

    def connected(self, line: Line, now: float) -> None:
        """A host came."""
        self.connections += 1
        self.line = line

    def disconnected(self, line: Line, now: float) -> None:
        """It went."""
        self._logged_in.discard(id(line))

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Answer one request."""
        text = data.decode()
        assert text.startswith(HEAD)
        assert text.endswith("</bts>" + END)
        root = ET.fromstring(text.removesuffix(END))
        command = root.findtext("cmd") or ""
        items = [item for item in root.iter() if item.get("chlid")]
        keys = tuple(
            "-".join(item.get(n, "") for n in ("devid", "subdevid", "chlid")) for item in items
        )
        self.asked.append((command, keys))
        if self.silent:
            return
        assert command == "connect" or id(line) in self._logged_in, f"{command} before the log-in"
        answer = self._answer(
            command, line, list(zip(map(self.units.get, keys), items, strict=True))
        )
        line.send(f"{reply(answer)}{END}".encode(), now + self.delay)

    def _answer(self, command: str, line: Line, named: list[tuple[Unit | None, ET.Element]]) -> str:
        name = {"download": "donwload"}.get(command, command)
        head = f"<cmd>{name}_resp</cmd>\n"
        if command == "connect":
            self._logged_in.add(id(line))
            return f"{head}<result>{'false' if command in self.refuses else 'ok'}</result>"
        if command == "getdevinfo":
            places = (unit.place.replace("chlid", "Channelid") for unit in self.units.values())
            items = (f'<channel ip="127.0.0.1" {place}>true</channel>' for place in places)
            return f'{head}<middle count="{len(self.units)}">\n' + "\n".join(items) + "\n</middle>"
        answers = []
        for unit, item in named:
            assert unit is not None
            answers.append(self._of_unit(command, unit, item))
        if command == "download":
            return head + answers[0]
        return f'{head}<list count="1">\n' + "\n".join(answers) + "\n</list>"

    def _of_unit(self, command: str, unit: Unit, item: ET.Element) -> str:
        if command == "inquire":
            return unit.inquire()
        if command == "getchlstatus":
            return f'<status ip="127.0.0.1" {unit.place} reservepause="1">{unit.state}</status>'
        if command == "inquiredf":
            return f'<chl {unit.place} testid="{unit.test}" count="{len(unit.rows)}">false</chl>'
        if command == "download":
            first, count = int(item.get("startpos", "")), int(item.get("count", ""))
            rows = unit.rows[first - 1 : first - 1 + count]
            return f'<download {unit.place} testid="{unit.test}" />\n<list>{"".join(rows)}</list>'
        done = self._obey(command, unit, item)
        return f'<{command} ip="127.0.0.1" {unit.place}>{"ok" if done else "false"}</{command}>'

    def _obey(self, command: str, unit: Unit, item: ET.Element) -> bool:
        idle = unit.state in ("finish", "stop", "protect")
        if command in self.refuses:
            return False
        if command == "start":
            if not idle:
                return False
            unit.barcode = item.get("barcode", "")
            unit.schedule = Path(item.text or "").read_text(encoding="utf-8")
            unit.test, unit.rows, unit.total = unit.test + 1, [], 0.1
            self.on_start(unit)
            return True
        if command == "stop":
            unit.state, unit.step_type, unit.step, unit.current = "stop", "--", 0, "0"
            return not idle
        if command == "continue":
            unit.state = "working"
            return True
        return True


def _obey(unit: Unit) -> None:
    """Run the first step of the schedule that was given."""
    found = re.search(r'<Step1 Step_ID="1" Step_Type="(\d+)"', unit.schedule)
    current = re.search(r'<Curr Value="([0-9.]+)"', unit.schedule)
    assert found
    step_type = {"1": "cc", "2": "dc", "4": "rest"}[found[1]]
    amperes = float(current[1]) / 1e3 if current and step_type != "rest" else 0.0
    unit.work(unit.barcode, step_type, f"{-amperes if step_type == 'dc' else amperes:.4f}")


class Bench:
    """Drivers on channels of one server, in virtual time."""

    def __init__(self, *keys: str) -> None:
        self.server = Server(*keys)
        self.clock = Clock("virtual")
        self._switchboard = Switchboard()
        self._switchboard.attach(BASE, self.server)

    def driver(
        self,
        key: str,
        *,
        name: str = "smu1",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: NewareSettings = NewareSettings(),  # noqa: B008  (frozen)
    ) -> NewareBTS8:
        """A driver of a channel."""
        return NewareBTS8(self.wire(key), self.clock, name=name, expect=expect, settings=settings)

    def wire(self, key: str) -> MemoryWire:
        """A wire to a channel."""
        return self._switchboard.wire(f"{BASE}#{key}", self.clock)
