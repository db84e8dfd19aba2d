"""Simulated Neware BTS 8: the server of a cabinet of channels that run schedules by themselves.

Written from replies captured from a BTS 8.0 and the requests of the public client `aurora-neware`
(Empa), the step files of `aurora-unicycler` (Empa), and the request of `continue`, the words of
`getchlstatus` and the 1000 rows of `download` as public clients after Neware's interface
description have them. What is assumed where they are silent stands in
`docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import math
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path, PureWindowsPath

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line
from operando.simulators.devices.device import Device, Options
from operando.simulators.devices.neware_channel import WORKING, Live, NewareChannel
from operando.simulators.devices.neware_front import FrontEnd
from operando.simulators.devices.neware_memory import StoredTest, layer_line, row_line
from operando.simulators.devices.neware_options import LEAST_REFRESH, Server
from operando.simulators.devices.neware_steps import StepFileRefusal, parse_step_file
from operando.simulators.devices.neware_xml import (
    END,
    LONGEST_REQUEST,
    XmlRefusal,
    element,
    listing,
    parse,
    reply,
    short,
)
from operando.simulators.devices.ports import Site
from operando.simulators.faults import Fault

BOOT_TIME = 30.0
"""Time from power to the first answer, s (assumed)."""

MOST_ROWS = 1000
"""Rows in one reply to `download` (public clients of Neware's interface description)."""

LARGEST_STEP_FILE = 4_000_000

RUNNING = "102000"
"""`log_code` of a channel that runs, as captured."""

MISSPELLED = {"download": "donwload_resp", "downloadlog": "donwloadlog_resp"}
"""Names of replies of BTS 8.0, as captured."""

Key = tuple[str, str, str]
"""devid, subdevid, chlid."""


class _Session:
    """What the server knows of one connection."""

    __slots__ = ("input", "known")

    def __init__(self) -> None:
        self.input = bytearray()
        self.known = False


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is not answered as usual."""


class SimulatedNewareBts8(Device):
    """A BTS 8 server with the channels that a bench has there."""

    power_on_time = BOOT_TIME
    link_drops_on_reboot = True
    has_relay = True
    misbehaviours = frozenset({"overload", "nak", "reboot", "identity", "error", "unplug"})

    def __init__(
        self,
        name: str,
        *,
        site: Site,
        clock: Clock,
        options: Mapping[str, object],
        channel: str = "",
    ) -> None:
        """Switch on with one channel: "devid-subdevid-chlid", "21-1-1" when empty.

        options: see the reference page.
        """
        super().__init__(name, clock)
        self._server = Server()
        self._channels: dict[Key, NewareChannel] = {}
        self._names: dict[str, NewareChannel] = {}
        self._sessions: dict[Line, _Session] = {}
        self._other_devid = ""
        self._plugged = True
        self._looking = False
        self._frozen_at = math.inf
        self._add(name, channel or "21-1-1", site, options)
        self._next_test = self._server.first_test_id

    def add_channel(
        self, name: str, channel: str, *, site: Site, options: Mapping[str, object]
    ) -> None:
        """Wire another channel. name: on the bench; options: its own, or the server's again."""
        self._add(name, channel, site, options)

    def _add(self, name: str, channel: str, site: Site, options: Mapping[str, object]) -> None:
        parts = channel.split("-")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            raise BadInputError(
                f"[instruments.{name}] address: the channel {channel!r} is not of the form "
                "devid-subdevid-chlid; write e.g. #21-1-2"
            )
        devid, subdevid, chlid = (str(int(part)) for part in parts)
        if (devid, subdevid, chlid) in self._channels:
            raise BadInputError(f"[instruments.{name}] address: channel {channel} is there already")
        own = Options(name, options)
        server = Server.read(own, self._server)
        front = FrontEnd(name, site.cell, own, self._overloaded)
        own.finish()
        if front.lowest >= front.highest:
            raise BadInputError(
                f"[instruments.{name}.simulated] lowest_voltage = {front.lowest:g}: write less "
                f"than voltage_range ({front.highest:g} V)"
            )
        if 0.0 < server.refresh < LEAST_REFRESH:
            raise BadInputError(
                f"[instruments.{name}.simulated] refresh = {server.refresh:g}: write 0 or "
                f"{LEAST_REFRESH:g} s at least"
            )
        if self._channels and server != self._server:
            written = {field.name: getattr(self._server, field.name) for field in fields(Server)}
            differing = [key for key, value in written.items() if getattr(server, key) != value]
            raise BadInputError(
                f"[instruments.{name}.simulated]: {', '.join(differing)} is of the whole server; "
                f"write it at {self.name}, its first channel"
            )
        self._server = server
        front.power_on(self.clock.now())
        made = NewareChannel(front, self._server.pace, self._later, self.clock.utc)
        self._channels[devid, subdevid, chlid] = self._names[channel] = made

    # -- truth

    @property
    def relay_closed(self) -> bool:
        """Whether the relay of any channel is closed."""
        return any(channel.front.closed for channel in self._channels.values())

    @property
    def channel_relays(self) -> Mapping[str, bool]:
        """True relay by channel, as the bench writes its channels."""
        return {name: channel.front.closed for name, channel in self._names.items()}

    def channel(self, name: str) -> NewareChannel:
        """A channel, as the bench writes it: "21-1-2"."""
        return self._names[name]

    # -- faults and power

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event; it meets every channel."""
        if fault.kind == "identity":
            self._other_devid = fault.text
        elif fault.kind == "unplug":
            self._plug(now, False)
        elif fault.kind == "error":
            for channel in self._channels.values():
                channel.trip(now)
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self._other_devid = ""
        self._plug(now, True)

    def _plug(self, now: float, plugged: bool) -> None:
        if plugged != self._plugged:
            self._plugged = plugged
            for channel in self._channels.values():
                channel.front.plug(now, plugged)

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now`: relays open, tests halt; what is stored is kept."""
        self._sessions.clear()
        self.busy_until = now + boot_time
        for channel in self._channels.values():
            channel.power_off(now)

        def back(then: float) -> None:
            for channel in self._channels.values():
                channel.power_on(then, self._server.power_loss == "resume")
            self._begin_to_look(then)

        self._later(now + boot_time, back)

    # -- what the server has from its channels

    def _begin_to_look(self, now: float) -> None:
        """Forget what was seen, and look at the channels from now on."""
        self._looking = True
        self._frozen_at = math.inf
        for channel in self._channels.values():
            channel.seen = None
        if self._server.refresh:
            self._look(now)
        if self._server.frozen_after:
            self._later(now + self._server.frozen_after, self._freeze)

    def _look(self, now: float) -> None:
        if now < self._frozen_at:
            for channel in self._channels.values():
                channel.seen = channel.live(now)
            self._later(now + self._server.refresh, self._look)

    def _freeze(self, now: float) -> None:
        """Go on answering with what is there; the channels go on by themselves."""
        self._frozen_at = now
        for channel in self._channels.values():
            channel.seen = channel.seen or channel.live(now)

    def _stored_until(self, now: float) -> float:
        """Unix time (s) until which a client is shown what is stored."""
        return self.clock.utc(min(now, self._frozen_at) - self._server.row_lag)

    # -- line

    def connected(self, line: Line, now: float) -> None:
        """A client connected; it has to log in. The server looks from its first client on."""
        if not self._looking:
            self._begin_to_look(now)
        self._sessions[line] = _Session()

    def disconnected(self, line: Line, now: float) -> None:
        """The client is gone; the channels go on."""
        self._sessions.pop(line, None)

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Answer every complete request, one after the other."""
        session = self._sessions.get(line)
        if session is None:
            return
        session.input += data
        while (at := session.input.find(END)) >= 0:
            request = bytes(session.input[:at])
            del session.input[: at + len(END)]
            if not self._take(line, session, request, now):
                self._sessions.pop(line, None)
                line.drop()
                return
        if len(session.input) > LONGEST_REQUEST:
            self._sessions.pop(line, None)
            line.drop()

    def _take(self, line: Line, session: _Session, request: bytes, now: float) -> bool:
        """Answer one request. False where the connection is to be broken."""
        command, body, cost = "error", "", 0.0
        try:
            root = parse(request)
            if root.tag != "bts":
                raise _Refused
            command = (root.findtext("cmd") or "").strip()
            body, cost = self._answer(command, root, session, now)
        except (XmlRefusal, _Refused):
            # What the server says to what it does not understand is not public.
            if self._server.refusal != "result":
                return self._server.refusal == "silence"
            body = "  <result>false</result>\r\n"
        name = f"{command}_resp" if command.isidentifier() else "error_resp"
        if not self._server.correct_spelling:
            name = MISSPELLED.get(command, name)
        self.busy_until = max(self.busy_until, now) + self._server.latency + cost
        line.send(reply(name, body), self.busy_until)
        return True

    def _answer(
        self, command: str, root: ET.Element, session: _Session, now: float
    ) -> tuple[str, float]:
        """Lines of the reply, and the time it takes beyond the latency, s."""
        if command == "connect":
            return self._log_in(root, session), 0.0
        if self._server.login_needed and not session.known:
            raise _Refused
        if command == "getdevinfo":
            return self._devices(), len(self._channels) * self._server.item_time
        if command in ("download", "downloadlog", "downloadStepLayer"):
            tag = "download" if command == "downloadlog" else command
            asked = root.find(f".//{tag}")
            if asked is None:
                raise _Refused
            body, rows = self._memory(command, asked, now)
            return body, rows * self._server.row_time
        return self._list(command, root, now)

    def _log_in(self, root: ET.Element, session: _Session) -> str:
        server = self._server
        given = (root.findtext("username"), root.findtext("password"))
        session.known = given == (server.username, server.password)
        return f"  <result>{'ok' if session.known else 'false'}</result>\r\n"

    def _devices(self) -> str:
        ip = self._server.ip
        lines = [
            element("channel", {**self._place(key), "Channelid": key[2]}, _free(channel))
            for key, channel in self._sorted()
        ]
        return (
            '  <serverip count="1">\r\n'
            f"    {element('server', {'ip': ip, 'port': 3306})}\r\n"
            "  </serverip>\r\n"
            f'  <middle count="{len(lines)}">\r\n'
            + "".join(f"    {line}\r\n" for line in lines)
            + "</middle>\r\n"
        )

    def _place(self, key: Key) -> dict[str, object]:
        devid = self._other_devid or key[0]
        server = self._server
        return {"ip": server.ip, "devtype": server.devtype, "devid": devid, "subdevid": key[1]}

    def _sorted(self) -> Iterable[tuple[Key, NewareChannel]]:
        return sorted(self._channels.items(), key=lambda item: tuple(map(int, item[0])))

    # -- requests for a list of channels

    def _list(self, command: str, root: ET.Element, now: float) -> tuple[str, float]:
        """Answer for every item of the list, in its order."""
        tag = {"getchlstatus": "status", "inquiredf": "chl"}.get(command, command)
        answer: Callable[[ET.Element, NewareChannel | None, float], str] | None = {
            "getchlstatus": self._status,
            "inquire": self._inquire,
            "inquiredf": self._stored,
        }.get(command)
        act: Callable[[ET.Element, NewareChannel, float], bool] | None = {
            "start": self._start,
            "stop": self._stop,
            "continue": self._continue,
            "light": self._light,
            "clearflag": self._clear_flag,
        }.get(command)
        asked = root.find("list")
        if asked is None or (answer is None and act is None):
            raise _Refused
        lines = []
        for item in asked.iterfind(tag):
            channel = self._find(item)
            if answer is not None:
                lines.append(answer(item, channel, now))
            elif act is not None:
                # A refused channel does not keep the others from being served.
                done = channel is not None and not self._refusing() and act(item, channel, now)
                lines.append(element(tag, _echo(item), "ok" if done else "false"))
        count = 1 if self._server.wrong_count and lines else None
        return listing(lines, count), len(lines) * self._server.item_time

    def _find(self, item: ET.Element) -> NewareChannel | None:
        """The channel that an item names; None where there is none."""
        devid, subdevid, chlid = (item.get(name, "") for name in ("devid", "subdevid", "chlid"))
        if self._other_devid:
            if devid != self._other_devid:
                return None
            devid = next(iter(self._channels))[0]
        if item.get("devtype", self._server.devtype) != self._server.devtype:
            return None
        return self._channels.get((devid, subdevid, chlid))

    def _status(self, item: ET.Element, channel: NewareChannel | None, now: float) -> str:
        values = _echo(item) | {"reservepause": "1"}
        if self._server.wrong_subdevid:
            values["subdevid"] = "1"
        return element("status", values, "false" if channel is None else _state(channel))

    def _inquire(self, item: ET.Element, channel: NewareChannel | None, now: float) -> str:
        places = ("devtype", "devid", "subdevid", "chlid")
        dev = "-".join([*(item.get(place, "") for place in places), item.get("aux", "0")])
        if channel is None:
            return element("inquire", {"dev": dev, "workstatus": "--"})
        live: Live = channel.seen or channel.live(now)
        step, decimals = live.step, self._server.inquire_decimals
        values: dict[str, object] = {"dev": dev, "cycle_id": live.cycle if step else 1}
        if step is not None:
            values["step_id"] = step.number
        values["step_type"] = "--" if step is None else step.word
        values["workstatus"] = live.state
        if item.get("barcode", "0") == "1":
            values["barcode"] = live.barcode
        values |= {
            "current": short(live.amps, decimals),
            "voltage": short(live.volts, decimals),
            "capacity": short(live.charge / 3600.0, decimals),
            "energy": short(live.energy / 3600.0, decimals),
            "totaltime": short(live.total, 1),
            "relativetime": short(live.elapsed, 1),
            "open_or_close": 0,
            "log_code": "0" if step is None else RUNNING,
        }
        return element("inquire", values)

    def _stored(self, item: ET.Element, channel: NewareChannel | None, now: float) -> str:
        test = self._test(item, channel)
        values = {key: item.get(key, "") for key in ("devtype", "devid", "subdevid", "chlid")}
        values["testid"] = "0" if test is None else str(test.number)
        rows = 0 if test is None else test.stored_until(self._stored_until(now))
        values["count"] = str(rows)
        return element("chl", values, "false" if channel is None else _free(channel))

    def _start(self, item: ET.Element, channel: NewareChannel, now: float) -> bool:
        if channel.state == WORKING:
            return False
        try:
            schedule = parse_step_file(self._step_file((item.text or "").strip()))
            channel.check(schedule)
        except (StepFileRefusal, OSError, ValueError):
            return False
        test = StoredTest(self._next_test, item.get("barcode", ""))
        self._next_test += 1
        channel.start(schedule, test, now)
        while len(channel.tests) > self._server.kept_tests:
            del channel.tests[min(channel.tests)]
        return True

    def _step_file(self, path: str) -> bytes:
        """The bytes of a step file on the server's computer."""
        if self._server.step_folder:
            # Paths of the server's own drives: their last part is looked up in one folder.
            file = Path(self._server.step_folder) / PureWindowsPath(path).name
        else:
            file = Path(path)
            if not file.is_absolute():
                raise StepFileRefusal(f"{path} is not absolute")
        if not file.is_file() or file.stat().st_size > LARGEST_STEP_FILE:
            raise StepFileRefusal(f"{file} is no step file")
        return file.read_bytes()

    def _stop(self, item: ET.Element, channel: NewareChannel, now: float) -> bool:
        return channel.stop(now)

    def _continue(self, item: ET.Element, channel: NewareChannel, now: float) -> bool:
        return channel.resume(now)

    def _light(self, item: ET.Element, channel: NewareChannel, now: float) -> bool:
        channel.light = (item.text or "").strip() == "true"
        return True

    def _clear_flag(self, item: ET.Element, channel: NewareChannel, now: float) -> bool:
        return channel.clear_flag()

    # -- memory

    def _test(self, item: ET.Element, channel: NewareChannel | None) -> StoredTest | None:
        """The test that an item asks for; 0 is the latest. None where there is none."""
        if channel is None:
            return None
        number = _whole(item, "testid")
        return channel.tests.get(number) if number else channel.test

    def _memory(self, command: str, asked: ET.Element, now: float) -> tuple[str, int]:
        """What is stored of a test, and the number of its rows."""
        test = self._test(asked, self._find(asked))
        until = self._stored_until(now)
        there = 0 if test is None else test.stored_until(until)
        head = {key: asked.get(key, "") for key in ("devtype", "devid", "subdevid", "chlid")}
        head["testid"] = "0" if test is None else str(test.number)
        if command == "download":
            start, count = _whole(asked, "startpos"), _whole(asked, "count")
            head |= {"startpos": str(start), "count": str(count), "auxid": asked.get("auxid", "0")}
            first = max(start, 1)
            last = min(first + min(count, MOST_ROWS) - 1, there)
            rows = range(first, last + 1)
            lines = [row_line(test, at, self._atime) for at in rows if test is not None]
        elif command == "downloadlog":
            head["log_lever"] = "0"
            lines = [
                element("data", {"seqid": row, "log_code": code, "atime": self._atime(utc)})
                for row, code, utc in (test.log if test is not None else ())
                if utc <= until
            ]
        else:
            over = () if test is None else enumerate(test.layers, start=1)
            lines = [
                layer_line(test, number, self._atime)
                for number, layer in over
                if test is not None and 0 < layer.last <= there
            ]
        tag = "download" if command == "downloadlog" else command
        return f"  {element(tag, head)}\r\n{listing(lines)}", len(lines)

    def _atime(self, utc: float) -> str:
        """Local time of the server's computer."""
        local = time.gmtime(math.floor(utc + self._server.utc_offset))
        return time.strftime("%Y-%m-%d %H:%M:%S", local)


def _free(channel: NewareChannel) -> str:
    """Text of a channel in lists: true exactly where nothing runs, as captured."""
    return "false" if _state(channel) == WORKING else "true"


def _state(channel: NewareChannel) -> str:
    """The state of a channel, as the server has it."""
    return channel.state if channel.seen is None else channel.seen.state


def _echo(item: ET.Element) -> dict[str, object]:
    """What the server repeats of an item."""
    keys = ("ip", "devtype", "devid", "subdevid", "chlid")
    return {key: item.get(key, "") for key in keys}


def _whole(item: ET.Element, name: str) -> int:
    """A whole number that is not negative; anything else is 0."""
    text = item.get(name, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
