"""A stand-in that carries a driver's scripts out on a straight cell, for the driver's tests.

It knows the statements that the driver writes and no others, and refuses them where the documents
do. The cell: 3.6 V and 1 mV a coulomb, behind 10 ohm.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Generator, Iterator

from operando.drivers.palmsens import PalmSensMethodScript
from operando.drivers.palmsens_models import PalmSensSettings
from operando.instruments.clock import Clock, run
from operando.instruments.wires import Line, Switchboard

SERIAL = "ES4HR20B0001"
FIRMWARE = b"tes4_hr1500#Mar 12 2026 14:28:01\nR*\n"
TALK = b"CC0000002F0000003FFFFF98FF00000002\n"
COMMANDS = b"CM000000000000000000000000000003FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE\n"

RESISTANCE = 10.0
FARADS = 1e3
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "i": 1.0}
SCALES = "afpnum kMGTPE"

Steps = Generator[float, None, bool]
"""Waits in s; whether the loop around it is broken."""


def encoded(value: float) -> str:
    """Digits and prefix of a value by the finest prefix that fits."""
    if math.isnan(value):
        return "     nan"
    if value == 0.0:
        return "8000000 "
    for exponent, prefix in zip(range(-18, 19, 3), SCALES, strict=True):
        count = round(value / 10.0**exponent) if exponent >= 0 else round(value * 10.0**-exponent)
        if abs(count) < 1 << 27:
            return f"{count + (1 << 27):07X}{prefix}"
    raise ValueError(value)


class Refused(Exception):  # noqa: N818 - an answer of the instrument, not of this program
    """A run-time error. code: the instrument's number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:04X}")
        self.code = code


class Aborted(Exception):  # noqa: N818
    """The script was told to end."""


class Board:
    """The instrument's end. relay: whether the cell is on. scripts: that were loaded so far.

    closed: times at which the relay closed. on: set when it closes.
    fail_at: point at which error `fail_with` comes. line: the present connection.
    fixed: answers by request, instead of its own. distort: changes each line of points.
    """

    def __init__(self, *, renewable: bool = True, voltage: float = 3.6) -> None:
        self.serial = SERIAL
        self.firmware = FIRMWARE
        self.talk = TALK if renewable else TALK.replace(b"2F", b"27")
        self.charge = (voltage - 3.6) * FARADS
        self.relay = False
        self.on = asyncio.Event()
        self.scripts: list[bytes] = []
        self.letters: list[bytes] = []
        self.closed: list[float] = []
        self.moves: list[tuple[str, float]] = []
        self.fixed: dict[bytes, bytes] = {}
        self.fail_at = -1
        self.fail_with = 0x0032
        self.refuse = b""
        self.sticks = False
        self.silent = False
        self.deaf_to_y = 0
        self.points = 0
        self.status = ""
        self.distort: Callable[[bytes], bytes] = lambda line: line
        self._mode = 0
        self._held = 0.0
        self._driven = 0.0
        self._now = 0.0
        self.line: Line | None = None
        self._running: Steps | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end_loop = False
        self._variables: dict[str, float] = {}
        self._begun = 0.0
        self._number = 0

    # The cell --------------------------------------------------------------------------

    @property
    def rest_voltage(self) -> float:
        """V without current."""
        return 3.6 + self.charge / FARADS

    def _advance(self, now: float) -> None:
        passed, self._now = now - self._now, now
        if not self.relay:
            return
        if self._mode == 6:
            self.charge += self._driven * passed
        else:
            settled = (self._held - 3.6) * FARADS
            share = math.exp(-passed / (RESISTANCE * FARADS))
            self.charge = settled + (self.charge - settled) * share

    def look(self) -> tuple[float, float]:
        """Voltage and current at the cell, now."""
        self._advance(asyncio.get_running_loop().time())
        if not self.relay:
            return self.rest_voltage, 0.0
        if self._mode == 6:
            return self.rest_voltage + RESISTANCE * self._driven, self._driven
        return self._held, (self._held - self.rest_voltage) / RESISTANCE

    def _switch(self, on: bool) -> None:
        self._advance(asyncio.get_running_loop().time())
        if on and not self.relay:
            self.closed.append(self._now)
            self.on.set()
        self.relay = on or self.sticks

    # The line --------------------------------------------------------------------------

    def connected(self, line: Line, now: float) -> None:
        """A host came."""
        self.line = line

    def disconnected(self, line: Line, now: float) -> None:
        """The host went; a script does not care."""
        self.line = None

    def send(self, data: bytes) -> None:
        """Send at once, unless silent."""
        if self.line is not None and not self.silent:
            self.line.send(data, asyncio.get_running_loop().time())

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Answer a line, or take a script."""
        self.line = line
        if not data:
            return
        letter = data[:1]
        if data in self.fixed:
            self.send(self.fixed[data])
        elif self._running is not None:
            self.letters.append(data)
            if data == b"h\n":
                self.send(data)
                if self._timer is not None:
                    self._timer.cancel()
            elif data == b"Y\n" and self.deaf_to_y:
                self.deaf_to_y -= 1
                self.send(b"Y!0006\n")
            elif data in (b"Z\n", b"Y\n"):
                self.send(data)
                self._end_loop = data == b"Y\n"
                self._go_on(abort=data == b"Z\n")
            else:
                self.send(letter + b"!0006\n")
        elif letter == b"e":
            self._load(data)
        elif data in (b"i\n", b"t\n", b"CC\n", b"CM\n"):
            answers = {b"i": b"i" + self.serial.encode() + b"\n", b"t": self.firmware}
            answers |= {b"CC": self.talk, b"CM": COMMANDS}
            self.send(answers[data[:-1]])
        else:
            self.send(letter + (b"!0006\n" if data == b"Z\n" else b"!0003\n"))

    def letter(self, data: bytes) -> None:
        """Take a command that came from somewhere else."""
        assert self.line is not None
        self.receive(self.line, data, asyncio.get_running_loop().time())

    # Scripts ---------------------------------------------------------------------------

    def _load(self, data: bytes) -> None:
        assert data.startswith(b"e\n")
        assert data.endswith(b"\n\n")
        assert b"\n\n" not in data[:-1]
        self.scripts.append(data)
        if self.refuse and data.count(b"\n") > 5 and b"cell_on" in data:
            self.send(b"e!" + self.refuse + b": Line 2, Col 16\n")
            return
        body, _, last = data.decode("ascii")[2:-2].partition("\non_finished:\n")
        self._variables = {}
        self.send(b"e\n")
        self._running = self._whole(body.split("\n"), last.split("\n") if last else [])
        self._number = 0
        self._go_on()

    def _go_on(self, abort: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        running = self._running
        assert running is not None
        try:
            wait = running.throw(Aborted()) if abort else next(running)
        except StopIteration:
            self._running = self._timer = None
            self.send(b"\n")
        else:
            self._timer = asyncio.get_running_loop().call_later(wait, self._go_on)

    def _whole(self, body: list[str], last: list[str]) -> Steps:
        try:
            yield from self._block(iter(body), [])
        except Aborted:
            pass
        except Refused as error:
            self.send(b"!%04X: Line 7\n" % error.code)
            return False
        yield from self._block(iter(last), [])
        return False

    def _block(self, lines: Iterator[str], closing: list[str]) -> Steps:
        """Carry lines out up to one of `closing`."""
        for line in lines:
            word, *rest = line.split(" ")
            if word in closing:
                return False
            if word == "if":
                block, other = _until(lines, "endif", "else")
                alternative = _until(lines, "endif")[0] if other == "else" else []
                chosen = block if self._holds(rest) else alternative
                if (yield from self._block(iter(chosen), [])):
                    return True
            elif word == "loop":
                block, _ = _until(lines, "endloop")
                self.send(b"L\n")
                while self._holds(rest):
                    if (yield from self._block(iter(block), [])):
                        break
                self.send(b"+\n")
            elif word.startswith("meas_loop"):
                block, _ = _until(lines, "endloop")
                yield from self._measure(word[10:], rest, block)
            elif word == "breakloop":
                return True
            elif word == "abort":
                raise Aborted
            else:
                self._do(word, rest, line)
        return False

    def _measure(self, kind: str, rest: list[str], block: list[str]) -> Steps:
        if kind == "eis":
            yield from self._spectrum(rest, block)
            return False
        if kind == "ocp" and self.relay:
            raise Refused(0x0014)
        if kind != "ocp" and (not self.relay or self._mode != {"cp": 6, "ca": 3}[kind]):
            raise Refused(0x4027)
        self.send({"ocp": b"M000B\n", "cp": b"M000A\n", "ca": b"M0007\n"}[kind])
        interval, longest = self._value(rest[-2]), self._value(rest[-1])
        if kind == "cp":
            self._advance(asyncio.get_running_loop().time())
            self._driven = self._value(rest[2])
        self._end_loop = False
        try:
            for _ in range(round(longest / interval)):
                yield interval
                if self._end_loop:
                    break
                voltage, current = self.look()
                self._variables[rest[0]] = voltage
                if kind != "ocp":
                    self._variables[rest[1]] = current
                if (yield from self._block(iter(block), [])):
                    break
        finally:
            self.send(b"*\n")
        return False

    def _spectrum(self, rest: list[str], block: list[str]) -> Steps:
        highest, lowest, points = (self._value(word) for word in rest[4:7])
        self.send(b"M000D\n")
        for index in range(int(points)):
            frequency = highest * (lowest / highest) ** (index / (points - 1))
            yield 1.0 / frequency
            self._variables.update({"f": frequency, "r": RESISTANCE, "j": -0.1 / frequency})
            yield from self._block(iter(block), [])
        self.send(b"*\n")
        return False

    def _do(self, word: str, rest: list[str], line: str) -> None:
        match word:
            case "store_var":
                self._variables[rest[0]] = self._value(rest[1])
            case "sub_var":
                self._variables[rest[0]] -= self._value(rest[1])
            case "timer_start":
                self._begun = asyncio.get_running_loop().time()
            case "timer_get":
                self._variables[rest[0]] = asyncio.get_running_loop().time() - self._begun
            case "set_pgstat_mode":
                assert not self.relay, "the mode changed with the cell on"
                self._mode = int(rest[0])
            case "set_e":
                self._held = self._value(rest[0])
            case "set_i":
                self._driven = self._value(rest[0])
            case "cell_on" | "cell_off":
                self.moves.append((word, asyncio.get_running_loop().time()))
                self._switch(word == "cell_on")
            case "send_string":
                self.send(b"T" + line.split('"')[1].encode() + b"\n")
            case "pck_start":
                self._packed: list[str] = []
            case "pck_add":
                self._packed.append(rest[0])
            case "pck_end":
                self._pack()
            case _:
                assert word in KNOWN, f"the driver sent {line!r}"

    def _pack(self) -> None:
        if self._number == self.fail_at:
            self.fail_at = -1
            raise Refused(self.fail_with)
        self._number += 1
        self.points += 1
        kinds = {"t": "eb", "s": "ja", "p": "ab", "c": "ba", "f": "dc", "r": "cc", "j": "cd"}
        parts = []
        for name in self._packed:
            value = self._variables[name]
            digits = f"{int(value) + (1 << 27):07X}i" if name == "s" else encoded(value)
            extra = (self.status or ",10,218") if name in "crj" else ""
            parts.append(kinds[name] + digits + extra)
        self.send(self.distort(b"P" + ";".join(parts).encode()) + b"\n")

    def _value(self, word: str) -> float:
        found = re.fullmatch(r"(-?\d+)([kMmunpi]?)", word)
        return int(found[1]) * PREFIXES[found[2]] if found else self._variables[word]

    def _holds(self, words: list[str]) -> bool:
        left, right = self._value(words[0]), self._value(words[2])
        return {
            "==": left == right,
            ">": left > right,
            "<": left < right,
            ">=": left >= right,
            "<=": left <= right,
        }[words[1]]


KNOWN = frozenset(
    (
        "var",
        "set_pgstat_chan",
        "set_max_bandwidth",
        "set_range",
        "set_autoranging",
        "set_acquisition_frac_autoadjust",
    )
)


def _until(lines: Iterator[str], *closing: str) -> tuple[list[str], str]:
    """Lines up to the one that closes this block, and its word."""
    depth, block = 0, list[str]()
    for line in lines:
        word = line.split(" ")[0]
        if depth == 0 and word in closing:
            return block, word
        depth += (word in ("if", "loop") or word.startswith("meas_loop")) - (
            word in ("endif", "endloop")
        )
        block.append(line)
    raise AssertionError(f"no {closing} in {block}")


Scenario = Callable[[PalmSensMethodScript, Board], Awaitable[None]]


def on_board(
    scenario: Scenario,
    board: Board | None = None,
    settings: PalmSensSettings | None = None,
    *,
    connect: bool = True,
) -> Board:
    """Run a scenario in virtual time; the driver is closed at its end, the board goes on."""
    board = board or Board()

    async def main() -> None:
        switchboard, clock = Switchboard(), Clock("virtual")
        switchboard.attach("a", board)
        driver = PalmSensMethodScript(
            switchboard.wire("a", clock), clock, settings=settings or PalmSensSettings()
        )
        try:
            if connect:
                await driver.connect()
            await scenario(driver, board)
        finally:
            await driver.close()

    run(main(), virtual=True)
    return board
