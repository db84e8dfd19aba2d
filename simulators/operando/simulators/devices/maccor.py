"""A simulated Maccor tester: channels on cells, reached through MacNet in JSON and in binary.

Written from the vendor's help "Remote Control - MacNet - LabView" (2022, 94 pages) and, for what is
known not to work, the notes of the public client pymacnet. What is assumed where they are silent
stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Line
from operando.simulators.devices import maccor_messages as messages
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.maccor_binary import BinaryFace
from operando.simulators.devices.maccor_channel import ChannelTest, MaccorChannel, Timing
from operando.simulators.devices.maccor_functions import FUNCTIONS
from operando.simulators.devices.maccor_messages import JsonStream, Parameters, Refusal
from operando.simulators.devices.maccor_procedures import (
    EXAMPLES,
    Procedure,
    ProcedureRun,
    parse_procedures,
)
from operando.simulators.devices.maccor_stage import Output
from operando.simulators.devices.ports import Site
from operando.simulators.faults import Fault

BOOT_TIME = 60.0
"""Time between power and the first answer, s: a computer starts (assumed)."""
MOST_CHANNELS = 1024
"""Test channels of one tester (assumed)."""
MOST_IN_ONE_REQUEST = 128
"""Functions (4, 1), (4, 2), (4, 3) and (4, 9)."""
LONGEST_NAME = 250
"""Characters of a test's or a procedure's name in JSON, function (6, 2)."""


class SimulatedMaccor(Device):
    """The tester of a MacNet address; speaks JSON-RPC, and binary through `binary`.

    The channel in an address is the number on the front panel, 1 and up; on the wire it is one
    less. binary: a peer of its own, to be served at the port of the binary protocol.
    """

    link_drops_on_reboot = True
    power_on_time = BOOT_TIME
    has_relay = True
    misbehaviours = frozenset({"nak", "reboot", "identity", "error", "unplug"})

    def __init__(
        self,
        name: str,
        *,
        site: Site,
        clock: Clock,
        options: Mapping[str, object],
        channel: str = "",
    ) -> None:
        """Switch on, `channel` wired to the cell of `site`. options: see the reference page."""
        super().__init__(name, clock)
        own = Options(name, options)
        self._true_identity = self.identity = own.text("serial", "SIMULATED")[:50]
        self.system_type = own.whole("system_type", 0, high=5)
        self._least_channels = own.whole("channels", 16, low=1, high=MOST_CHANNELS)
        self.first_number = own.whole("channel_numbers_from", 1, high=1)
        self._latency = own.number("latency", 5e-3, low=0.0, high=60.0)
        self.json_rest_works = own.flag("json_rest_works", False)
        self.binary_direct_offset = own.whole("binary_direct_offset", 0, high=2)
        self.binary_length = own.text("binary_length", "bytes", ("bytes", "channels"))
        self.signed_current = own.flag("signed_current", False)
        self._error_shape = own.text("error_shape", "object", ("object", "text"))
        self._lines = own.text("reply_layout", "compact", ("compact", "lines")) == "lines"
        self._utc_offset = own.number("utc_offset", 0.0, low=-1e9, high=1e9)
        self.procedures: dict[str, Procedure] = parse_procedures(
            f"[instruments.{name}.simulated]", own.text("procedures", EXAMPLES)
        )
        usual = Timing()
        self._timing = Timing(
            scan=own.number("scan", usual.scan, low=0.01, high=60.0),
            start=own.number("start_time", usual.start, low=0.0, high=60.0),
            watchdog=own.number("watchdog", usual.watchdog, low=0.0, high=1e6),
            record=own.number("record_interval", usual.record, low=0.0, high=1e6),
        )
        self._names = noise_stream(f"{name} names", 0)
        self.archive: dict[str, float] = {}
        self.global_flags = 0
        self.listing: list[tuple[str, float, int]] = []
        self.listed = 0
        self._channels: dict[int, MaccorChannel] = {}
        self._wired: dict[str, MaccorChannel] = {}
        self._streams: dict[Line, JsonStream] = {}
        self._woken_at = float("inf")
        self.binary = BinaryFace(self)
        self._first = self._wire(name, channel, site, own)

    # -- channels

    def add_channel(
        self, name: str, channel: str, *, site: Site, options: Mapping[str, object]
    ) -> None:
        """Wire another channel. name: on the bench. Raises BadInputError."""
        self._wire(name, channel, site, Options(name, options))

    def _wire(self, name: str, channel: str, site: Site, own: Options) -> MaccorChannel:
        first = self.first_number
        number = int(channel) if channel.isascii() and channel.isdecimal() else first - 1
        index = (number if channel else first) - first
        if not 0 <= index < MOST_CHANNELS:
            raise BadInputError(
                f"[instruments.{name}] channel {channel!r}: write the number of a channel, "
                f"#{first} to #{MOST_CHANNELS - 1 + first}"
            )
        if index in self._channels:
            raise BadInputError(f"[instruments.{name}] channel {channel!r} is wired already")
        made = self._make(name, index, site, own)
        self._wired[channel] = made
        return made

    def _make(self, name: str, index: int, site: Site, own: Options) -> MaccorChannel:
        channel = MaccorChannel(
            name,
            index,
            site=site,
            random=noise_stream(name, own.whole("seed", 0)),
            own=own,
            timing=self._timing,
            now=self.clock.now(),
            archive=self.store,
        )
        own.finish()
        self._channels[index] = channel
        return channel

    @property
    def channel_count(self) -> int:
        """Test channels of the tester, wired or not."""
        return max(self._least_channels, max(self._channels) + 1)

    def channel(self, index: int) -> MaccorChannel:
        """A channel by its number on the wire. Raises Refusal."""
        found = self._channels.get(index)
        if found is not None:
            return found
        if not 0 <= index < self.channel_count:
            raise Refusal(messages.ILLEGAL_VALUE)
        name = f"{self.name} channel {index + 1}"
        return self._make(name, index, Site(), Options(name, {}))

    def several(self, start: int, count: int) -> list[MaccorChannel]:
        """Channels in a row. Raises Refusal."""
        if not 1 <= count <= MOST_IN_ONE_REQUEST:
            raise Refusal(messages.ILLEGAL_VALUE)
        return [self.channel(index) for index in range(start, start + count)]

    @property
    def channels(self) -> Mapping[int, MaccorChannel]:
        """Channels by number on the wire; those that nobody has asked for are missing."""
        return self._channels

    @property
    def channel_relays(self) -> Mapping[str, bool]:
        """True relay of each wired channel, by the number in its address."""
        return {text: channel.stage.closed for text, channel in self._wired.items()}

    @property
    def relay_closed(self) -> bool:
        """Whether any relay is closed."""
        return any(channel.stage.closed for channel in self._channels.values())

    # -- tests

    def store(self, name: str) -> None:
        """Put the data of a test into the archive."""
        self.archive[name] = self.clock.now()

    def name_for_test(self, wanted: str) -> str:
        """The name of a new test: "Random" makes one up. Empty when it is taken or none."""
        if wanted == "Random":
            return f"{self._names.randrange(10**4):04d}-{self._names.randrange(10**6):06d}"
        taken = wanted in self.archive or any(
            channel.test.name == wanted for channel in self._channels.values()
        )
        return "" if taken else wanted.strip()

    def check_start(self, channel: MaccorChannel, name: str, procedure: str, chamber: int) -> int:
        """Why a procedure cannot start, as a code of function (6, 11); 0: it can."""
        if not channel.free:
            return 1
        if procedure not in self.procedures:
            return 2
        if not name.strip() or len(name) > LONGEST_NAME:
            return 5
        if not self.name_for_test(name):
            return 4
        return 6 if chamber else 0

    def start(
        self, channel: MaccorChannel, now: float, test: ChannelTest, capacity: float
    ) -> ProcedureRun:
        """Start a procedure that `check_start` allowed. capacity: Ah that is 1C."""
        channel.start_procedure(now, test, self.procedures[test.procedure], capacity)
        assert channel.run is not None
        return channel.run

    # -- what it does by itself

    def plan(self) -> None:
        """Wake up when the first channel wants to look."""
        earliest = min(channel.next_look for channel in self._channels.values())
        if earliest < self._woken_at:
            self._woken_at = earliest
            self._later(earliest, self._look)

    def _look(self, now: float) -> None:
        if now < self._woken_at:
            return  # a timer that an earlier one has replaced
        self._woken_at = float("inf")
        self.look(now)
        self.plan()

    def look(self, now: float) -> None:
        """Let channels do what is due; a timer may be late."""
        for channel in tuple(self._channels.values()):
            if channel.next_look <= now + 1e-9:
                channel.look(now)

    def close(self) -> None:
        """Forget every timer."""
        super().close()
        self._woken_at = float("inf")

    # -- connections

    def connected(self, line: Line, now: float) -> None:
        """A host opened a connection."""
        self._streams[line] = JsonStream()

    def disconnected(self, line: Line, now: float) -> None:
        """The connection is gone; tests go on."""
        self._streams.pop(line, None)

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Bytes of a host: answer every request that is complete."""
        stream = self._streams.get(line)
        if stream is None:
            return
        for text in stream.feed(data):
            self.reply(line, self._answer(text, now), now)

    def reply(self, line: Line, data: bytes, now: float) -> None:
        """Send a reply when the tester gets round to it: one after the other."""
        self.busy_until = max(self.busy_until, now) + self._latency
        line.send(data, self.busy_until)
        self.plan()

    def refusing(self) -> bool:
        """Whether this request is to be refused; counts it."""
        return bool(self._refusals) and self._refusing()

    def _answer(self, text: bytes | None, now: float) -> bytes:
        identity: object = None
        try:
            message = messages.read_request(text)
            identity = _identity(message)
            params = message.get("params")
            if not isinstance(params, dict):
                raise Refusal(messages.INVALID_PARAMS)
            function_class = _number(params, "FClass", messages.NO_CLASS)
            number = _number(params, "FNum", messages.NO_NUMBER)
            if self.refusing():
                raise Refusal(messages.MACNET_ERROR)
            if function_class == 0:
                assert text is not None
                return text + b"\r\n"
            handlers = FUNCTIONS.get(function_class)
            if handlers is None:
                raise Refusal(messages.INVALID_CLASS)
            handler = handlers.get(number)
            if handler is None:
                raise Refusal(messages.INVALID_NUMBER)
            self.look(now)
            body = handler(self, Parameters(params), now)
        except Refusal as refusal:
            reply = messages.error(identity, refusal.text, self._error_shape)
        else:
            body = {"FClass": function_class, "FNum": number, **body}
            reply = messages.result(identity, body)
        return messages.encode(reply, lines=self._lines)

    def local_time(self, at: float) -> float:
        """The clock of the tester's computer, as Unix time, s. at: laboratory time, s."""
        return self.clock.utc(at) + self._utc_offset

    def date(self, at: float) -> str:
        """ISO 8601 in the tester's local time, whole seconds. at: laboratory time, s."""
        moment = datetime.datetime.fromtimestamp(self.local_time(at), datetime.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S")

    # -- faults

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event; `error 253` is a reason code RF2."""
        if fault.kind == "identity":
            self.identity = fault.text
        elif fault.kind == "error":
            code = int(fault.text)
            self._first.fail(now, code if 0 <= code <= 255 else 253)
        elif fault.kind == "unplug":
            self._first.stage.plug(now, False)
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self.identity = self._true_identity
        for channel in self._channels.values():
            if not channel.stage.plugged:
                channel.stage.plug(now, True)

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` and come back `boot_time` (s) later; tests wait to be resumed."""
        for stream in self._streams.values():
            stream.clear()
        self.binary.clear()
        self.global_flags = 0
        for channel in self._channels.values():
            channel.lose_power(now)
            channel.stage.power_on(now + boot_time)
        self.busy_until = now + boot_time

    def output_of_json(self, output: Output) -> Output | None:
        """What JSON set points do; None: nothing, as a rest in JSON (pymacnet, 2022)."""
        return None if output.mode == "R" and not self.json_rest_works else output


def _identity(message: Mapping[str, object]) -> object:
    """The id of a request that is a MacNet one. Raises Refusal."""
    identity = message.get("id")
    if (
        message.get("jsonrpc") != "2.0"
        or message.get("method") != "MacNet"
        or isinstance(identity, bool)
        or not isinstance(identity, int | float | str)
    ):
        raise Refusal(messages.INVALID_REQUEST)
    return identity


def _number(params: Mapping[str, object], key: str, wrong: str) -> int:
    value = params.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(wrong)
    return value
