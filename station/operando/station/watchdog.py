"""The watchdog: a process that switches outputs off when the engine dies or freezes.

It holds the read end of a pipe to the engine. Each line is JSON:

guard    an instrument whose output would stay on, and how to reach it
beat     the engine is alive; answered with `alive`
release  the output of an instrument was read back off
pursue   the engine could not switch an instrument off: try until it works
bye      all is well

When the pipe closes without `bye`, or no beat comes for PATIENCE, every guarded instrument is
reached through a session of its own, its identity checked, its output switched off and read back.
An engine that was only frozen may come back, so its instruments stay under guard until they are
released. What happens goes to standard output and to standard error, which the engine makes a log.

It does not survive the death of the computer: that is what on-board limits, an instrument's own
dead-man or an external relay are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import sys
import threading
import time
from dataclasses import dataclass

from operando.instruments.clock import Clock, run
from operando.instruments.errors import AddressInUseError
from operando.instruments.locks import AddressLock
from operando.instruments.roles import Expect, Instrument
from operando.instruments.safety import secure
from operando.station.assembly import build_instrument
from operando.station.pipes import read_lines

PATIENCE = 3.0
"""Seconds without a beat after which the engine counts as frozen."""

REACH = 2.0
"""Seconds in which an instrument that answers is off and read back; a chamber is told as soon, but
looked at for a second more, until nothing that it was told before can show."""

WATCHDOG_TIME = PATIENCE + REACH
"""Seconds from the death or freezing of the engine to the output being read back off, stated
for an instrument that answers."""

PERSEVERANCE = 3600.0
"""Seconds for which an instrument that does not answer is tried again, each second at first and
every ten seconds after a minute."""

ENGINE = os.getppid()
"""Process number of the engine that started this process."""

ATTEMPT = 10.0
"""Seconds that one attempt may take."""


@dataclass(frozen=True)
class Guarded:
    """What is needed to reach an instrument again."""

    name: str
    driver: str
    address: str
    settings: dict[str, object]
    serial: str


class Rescue:
    """One instrument being switched off, in a thread of its own, until it is or is called off.

    orphaned: the engine is dead, so its lock on the address is free and is taken.
    """

    def __init__(self, guarded: Guarded, why: str, *, orphaned: bool) -> None:
        self._guarded = guarded
        self._why = why
        self._orphaned = orphaned
        self._called_off = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"rescue {guarded.name}", daemon=True)
        self.thread.start()

    def call_off(self) -> None:
        """The engine is back, or has switched off itself: try no more."""
        self._called_off.set()

    def _run(self) -> None:
        name = self._guarded.name
        say({"acting": self._why, "instrument": name})
        error = self._persevere()
        say({"acted": self._why, "instrument": name, "verified off": error is None, "error": error})

    def _persevere(self) -> str | None:
        start = time.monotonic()
        error = "called off before the first attempt"
        while not self._called_off.is_set():
            try:
                with contextlib.ExitStack() as stack:
                    if self._orphaned:
                        stack.enter_context(AddressLock(self._guarded.address))
                    run(self._attempt())
                return None
            except AddressInUseError as taken:
                # A dying engine may lose its lock a moment after its pipe.
                owner = AddressLock(self._guarded.address).owner
                if owner is not None and owner.pid != ENGINE:
                    return f"left alone: {taken}"
                error = str(taken)
            except Exception as problem:
                if str(problem) != error:
                    error = str(problem) or type(problem).__name__
                    say({"trying": self._guarded.name, "error": error})
            spent = time.monotonic() - start
            if spent > PERSEVERANCE:
                break
            self._called_off.wait(0.1 if spent < 1.0 else 1.0 if spent < 60.0 else 10.0)
        return error

    async def _attempt(self) -> None:
        instrument = instrument_of(self._guarded)
        try:
            async with asyncio.timeout(ATTEMPT):
                await instrument.connect()
                await secure(instrument, attempts=1)
        finally:
            await instrument.close()


def instrument_of(guarded: Guarded) -> Instrument:
    """A driver for a guarded instrument, nothing opened."""
    return build_instrument(
        guarded.driver,
        guarded.address,
        Clock(),
        name=guarded.name,
        expect=Expect(serial=guarded.serial),
        settings=guarded.settings,
        where="the watchdog",
    )


class Watchdog:
    """Keeps the list of guarded instruments and starts and calls off rescues."""

    def __init__(self) -> None:
        self._guarded: dict[str, Guarded] = {}
        self._rescues: dict[str, Rescue] = {}
        self._pursued: set[str] = set()

    def hear(self, line: bytes) -> bool:
        """Take one line from the engine; False when it says goodbye."""
        message = json.loads(line)
        kind = message.pop("do")
        if kind == "beat":
            say({"alive": True}, log=False)
        elif kind == "guard":
            guarded = Guarded(**message)
            instrument_of(guarded)  # imports the driver now, not in the emergency
            self._end_pursuit(guarded.name)  # a new run has it
            self._guarded[guarded.name] = guarded
            say({"guarding": guarded.name})
        elif kind == "release":
            self._guarded.pop(message["name"], None)
            self._end_pursuit(message["name"])
        elif kind == "pursue" and message["name"] in self._guarded:
            self._pursued.add(message["name"])
            self._start(self._guarded[message["name"]], "the engine could not", orphaned=False)
        return bool(kind != "bye")

    def act(self, why: str, *, orphaned: bool = False) -> None:
        """Switch every guarded instrument off."""
        for guarded in self._guarded.values():
            if orphaned or guarded.name not in self._pursued:
                self._start(guarded, why, orphaned=orphaned)

    def engine_is_back(self) -> None:
        """A frozen engine beats again: it looks after its instruments itself.

        But not after those that it could not switch off: their runs have ended.
        """
        for name in self._rescues.keys() - self._pursued:
            self._call_off(name)

    def wait(self) -> None:
        """Wait until every rescue has ended."""
        for rescue in self._rescues.values():
            rescue.thread.join()

    def _start(self, guarded: Guarded, why: str, *, orphaned: bool) -> None:
        self._call_off(guarded.name)
        self._rescues[guarded.name] = Rescue(guarded, why, orphaned=orphaned)

    def _end_pursuit(self, name: str) -> None:
        self._pursued.discard(name)
        self._call_off(name)

    def _call_off(self, name: str) -> None:
        rescue = self._rescues.pop(name, None)
        if rescue is not None:
            rescue.call_off()


_speaking = threading.Lock()


def say(message: dict[str, object], *, log: bool = True) -> None:
    """Tell the engine, and the log."""
    text = json.dumps({"time": time.time(), "pid": os.getpid()} | message)
    with _speaking:
        for stream in (sys.stdout, sys.stderr) if log else (sys.stdout,):
            with contextlib.suppress(OSError):  # the engine is gone; the log remains
                print(text, file=stream, flush=True)


def main() -> None:
    """Listen on standard input until the engine says goodbye or dies."""
    watchdog = Watchdog()
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # A thread reads the pipe, because waiting for a pipe with a time-out differs between
    # operating systems. An empty line means that the pipe was closed.
    read_lines(sys.stdin.fileno(), lines.put, "engine-pipe")
    frozen = False
    while True:
        try:
            line = lines.get(timeout=PATIENCE)
        except queue.Empty:
            if not frozen:
                watchdog.act(f"the engine gave no sign of life for {PATIENCE:g} s")
            frozen = True
            continue
        if not line:
            watchdog.act("the engine died", orphaned=True)
            watchdog.wait()
            return
        if frozen:
            frozen = False
            watchdog.engine_is_back()
        try:
            if not watchdog.hear(line):
                return
        except Exception as error:
            watchdog.act(f"a line was not understood: {type(error).__name__}: {error}")
            watchdog.wait()  # the rescues end with this process
            raise


if __name__ == "__main__":
    main()
