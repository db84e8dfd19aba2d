"""A simulated Neware cabinet on small cells, step files for it, and a client."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

from operando.instruments.clock import Clock
from operando.instruments.samples import Regulation
from operando.instruments.wires import Switchboard, Terminated
from operando.simulators.devices.neware import SimulatedNewareBts8
from operando.simulators.devices.ports import CellPort, Site
from operando.simulators.faults import FaultyPeer
from simulators.bench_of_one import State

END = b"\n\n#\r\n"

LOG_IN = (
    b'<?xml version="1.0" encoding="UTF-8" ?><bts version="1.0"><cmd>connect</cmd>'
    b"<username>admin</username><password>neware</password><type>bfgs</type></bts>"
)

QUIET: dict[str, object] = {"noise": 0.0, "warm_up_offset": 0.0}
"""Options of an ideal channel."""


class LinearCell:
    """A capacitor behind a resistor: `emf` V when assembled, rising by `slope` V/C, in ohm.

    Solved exactly: a source goes over from its current to its voltage at the very moment.
    """

    def __init__(self, emf: float = 3.0, resistance: float = 10.0, slope: float = 0.01) -> None:
        self.empty = emf
        self.resistance = resistance
        self.slope = slope
        self.charge = 0.0
        self.source: tuple[float, float] | None = None
        self._now = 0.0

    @property
    def emf(self) -> float:
        """V."""
        return self.empty + self.slope * self.charge

    def open_circuit(self, now: float) -> None:
        """Disconnect."""
        self._advance(now)
        self.source = None

    def source_voltage(
        self, now: float, level: float, current_limit: float, resistance: float = 0.0
    ) -> None:
        """Connect a voltage source."""
        self._advance(now)
        self.source = (level, current_limit)

    def source_current(self, now: float, level: float, voltage_limit: float) -> None:
        """Not used by a cycler that always limits its voltage."""
        raise AssertionError("a bare current source")

    def terminal(self, now: float) -> State:
        """What is seen."""
        self._advance(now)
        if self.source is None:
            return State(self.emf, 0.0, Regulation.OPEN)
        level, limit = self.source
        current = (level - self.emf) / self.resistance
        if abs(current) > limit * (1.0 + 1e-12):
            current = math.copysign(limit, current)
            return State(self.emf + current * self.resistance, current, Regulation.CURRENT)
        return State(level, current, Regulation.VOLTAGE)

    def _advance(self, now: float) -> None:
        assert now >= self._now, "time ran backwards"
        seconds, self._now = now - self._now, now
        if self.source is None or seconds == 0.0:
            return
        level, limit = self.source
        current = (level - self.emf) / self.resistance
        if abs(current) > limit:
            current = math.copysign(limit, current)
            missing = (level - current * self.resistance - self.emf) / self.slope
            if missing / current >= seconds:
                self.charge += current * seconds
                return
            self.charge += missing
            seconds -= missing / current
        full = (level - self.empty) / self.slope
        shrink = math.exp(-seconds * self.slope / self.resistance)
        self.charge = full + (self.charge - full) * shrink


def step_file(
    steps: Iterable[str],
    *,
    record: str = '<Time Value="10000"/>',
    protect: str = "",
    capacity: float = 7200.0,
) -> bytes:
    """A step file from the insides of its steps: (type, children) as text; the end is added."""
    listed = list(steps)
    inside = "".join(
        f'<Step{at} Step_ID="{at}" {step}</Step{at}>' for at, step in enumerate(listed, start=1)
    )
    last = len(listed) + 1
    return (
        '<?xml version="1.0" ?>\n<root><config type="Step File" version="17" '
        'client_version="BTS Client 8.0.0.478(2024.06.24)(R3)" date="20260101000000" Guid="1">'
        '<Head_Info><Operate Value="66"/><Scale Value="1"/>'
        '<Start_Step Value="1" Hide_Ctrl_Step="0"/><Creator Value="a test"/>'
        f'<Remark Value="cell"/><RateType Value="103"/><MultCap Value="{capacity}"/></Head_Info>'
        f"<Whole_Prt><Protect><Main>{protect}</Main></Protect>"
        f"<Record><Main>{record}</Main></Record></Whole_Prt>"
        f'<Step_Info Num="{last}">{inside}'
        f'<Step{last} Step_ID="{last}" Step_Type="6"/></Step_Info>'
        '<SMBUS><SMBUS_Info Num="0" AdjacentInterval="0"/></SMBUS></config></root>'
    ).encode()


def limits(kind: int, **values: float) -> str:
    """A step with Limit/Main: its type, and values in the units of the file."""
    inside = "".join(f'<{name} Value="{value:f}"/>' for name, value in values.items())
    return f'Step_Type="{kind}"><Limit><Main>{inside}</Main></Limit>'


def charge(amps: float, volts: float | None = None, seconds: float | None = None) -> str:
    """Constant current; negative discharges."""
    values = {"Curr": abs(amps) * 1e3}
    if seconds is not None:
        values["Time"] = seconds * 1e3
    if volts is not None:
        values["Stop_Volt"] = volts * 1e4
    return limits(1 if amps > 0 else 2, **values)


def hold(
    volts: float,
    stop: float | None = None,
    *,
    seconds: float | None = None,
    current: float | None = None,
    kind: int = 3,
) -> str:
    """Constant voltage until a current (A) or for a time (s)."""
    values = {"Volt": volts * 1e4}
    if seconds is not None:
        values["Time"] = seconds * 1e3
    if stop is not None:
        values["Stop_Curr"] = stop * 1e3
    if current is not None:
        values["Curr"] = current * 1e3
    return limits(kind, **values)


def rest(seconds: float) -> str:
    """Rest."""
    return limits(4, Time=seconds * 1e3)


def loop(target: int, count: int) -> str:
    """Go back to a step."""
    return (
        f'Step_Type="5"><Limit><Other><Start_Step Value="{target}"/>'
        f'<Cycle_Count Value="{count}"/></Other></Limit>'
    )


def items(tag: str, channels: Iterable[str], extra: str = "", text: str | None = "true") -> str:
    """A list of channels "21-1-2" as the public client writes it."""
    lines = []
    for channel in channels:
        devid, subdevid, chlid = channel.split("-")
        place = f'devtype="27" devid="{devid}" subdevid="{subdevid}" chlid="{chlid}"'
        if tag != "chl":
            place = 'ip="127.0.0.1" ' + place
        end = " />" if text is None else f">{text}</{tag}>"
        lines.append(f"<{tag} {place}{extra}{end}")
    return f'<list count = "{len(lines)}">{"".join(lines)}</list>'


class Port:
    """A client's end of a connection that only listens."""

    def __init__(self) -> None:
        self.said = bytearray()

    def send(self, data: bytes, at: float) -> None:
        """Keep what came, whenever it comes."""
        self.said += data

    def drop(self) -> None:
        """The connection broke."""


class Cabinet:
    """A cabinet in virtual time, and a client that is logged in."""

    def __init__(
        self, folder: Path, *cells: CellPort, channels: tuple[str, ...] = (), **options: object
    ) -> None:
        self.folder = folder
        self.clock = Clock("virtual")
        self.cells = cells or (LinearCell(),)
        self.names = channels or tuple(f"21-1-{at}" for at in range(1, len(self.cells) + 1))
        self.device = SimulatedNewareBts8(
            "ch1",
            site=Site(self.cells[0]),
            clock=self.clock,
            options={**QUIET, **options},
            channel=self.names[0],
        )
        for at, (name, cell) in enumerate(zip(self.names[1:], self.cells[1:], strict=True), 2):
            self.device.add_channel(f"ch{at}", name, site=Site(cell), options=QUIET)
        self.faults = FaultyPeer(self.device, self.clock, name="ch1")
        switchboard = Switchboard()
        switchboard.attach("memory", self.faults)
        self.wire = switchboard.wire("memory", self.clock)

    async def log_in(self) -> None:
        """Connect and log in."""
        await self.wire.reopen()
        answer = await self.wire.exchange(LOG_IN + END, Terminated(END), 5.0)
        assert b"<result>ok</result>" in answer

    def throw(self, chunks: Iterable[bytes]) -> bytes:
        """Send raw bytes on a connection of their own, logged in; all that ever came back."""
        port, now = Port(), self.clock.now()
        self.device.connected(port, now)
        for chunk in (LOG_IN + END, *chunks):
            self.device.receive(port, chunk, now)
        self.device.disconnected(port, now)
        return bytes(port.said)

    async def ask(self, body: str, timeout: float = 5.0) -> bytes:
        """Send a body and return the reply without its end."""
        request = f'<?xml version="1.0" encoding="UTF-8" ?><bts version="1.0">{body}</bts>'
        return await self.wire.exchange(request.encode() + END, Terminated(END), timeout)

    async def listed(self, command: str, body: str) -> list[dict[str, str]]:
        """What a reply lists: attributes, and the text under the name of the tag."""
        root = ET.fromstring(await self.ask(f"<cmd>{command}</cmd>{body}"))
        found = root.find("list")
        assert found is not None
        return [dict(item.attrib) | {item.tag: item.text or ""} for item in found]

    async def each(self, command: str, *channels: str, text: str = "true") -> list[str]:
        """Carry a command out on channels (the first without any); the texts of the answer."""
        tag = "status" if command == "getchlstatus" else command
        asked = items(tag, channels or self.names[:1], text=text)
        return [item[tag] for item in await self.listed(command, asked)]

    async def start(self, data: bytes, *channels: str, barcode: str = "S1") -> list[str]:
        """Start a step file on channels (the first without any)."""
        path = self.folder / "steps.xml"
        path.write_bytes(data)
        body = items("start", channels or self.names[:1], f' barcode="{barcode}"', str(path))
        return [item["start"] for item in await self.listed("start", body)]

    async def inquire(self, *channels: str) -> list[dict[str, str]]:
        """Live data of channels (the first without any)."""
        body = items("inquire", channels or self.names[:1], ' aux="0" barcode="1"')
        return await self.listed("inquire", body)

    async def rows(
        self, channel: str = "", start: int = 1, count: int = 1000
    ) -> list[dict[str, str]]:
        """Stored rows of a channel."""
        return await self.listed("download", self.place("download", channel, start, count))

    async def layers(self, channel: str = "") -> list[dict[str, str]]:
        """Steps that are over."""
        return await self.listed("downloadStepLayer", self.place("downloadStepLayer", channel))

    async def log(self, channel: str = "") -> list[int]:
        """Codes of the log."""
        listed = await self.listed("downloadlog", self.place("download", channel))
        return [int(item["log_code"]) for item in listed]

    def place(self, tag: str, channel: str = "", start: int | None = None, count: int = 0) -> str:
        """A request for the memory of one channel."""
        devid, subdevid, chlid = (channel or self.names[0]).split("-")
        where = f'devtype="27" devid="{devid}" subdevid="{subdevid}" chlid="{chlid}"'
        asked = "" if start is None else f' auxid="0" startpos="{start}" count="{count}"'
        return f'<{tag} {where}{asked} testid="0"/>'

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.clock.sleep(seconds)
