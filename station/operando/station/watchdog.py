"""The watchdog: a process that switches outputs off when the engine dies or freezes.

It holds the read end of a pipe to the engine. Each line is JSON: `guard` names an instrument whose
output would stay on, `beat` says that the engine is alive, `release` that an output is verified
off, `bye` that all is well. When the pipe closes without `bye`, or no beat comes for PATIENCE,
every guarded instrument is reached through a session of its own, its identity checked, its output
switched off and read back. The outcome goes to standard output and to standard error, which the
engine makes a log file.

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
import time
from dataclasses import dataclass

from operando.instruments.clock import Clock, run
from operando.instruments.errors import OperandoError
from operando.instruments.roles import Expect, Instrument
from operando.instruments.safety import secure
from operando.station.assembly import build_instrument
from operando.station.pipes import read_lines

PATIENCE = 3.0
"""Seconds without a beat after which the engine counts as frozen."""

REACH = 2.0
"""Seconds in which an instrument that answers is off and read back."""

WATCHDOG_TIME = PATIENCE + REACH
"""Seconds from the death or freezing of the engine to the output being read back off, stated
for an instrument that answers."""

PERSEVERANCE = 3600.0
"""Seconds for which an instrument that does not answer is tried again, each second at first and
every ten seconds after a minute."""


@dataclass(frozen=True)
class Guarded:
    """What is needed to reach an instrument again."""

    name: str
    driver: str
    address: str
    settings: dict[str, object]
    serial: str


class Watchdog:
    """Keeps the list of guarded instruments and acts."""

    def __init__(self) -> None:
        self._guarded: dict[str, Guarded] = {}

    def hear(self, line: bytes) -> bool:
        """Take one line from the engine; False when it says goodbye."""
        message = json.loads(line)
        kind = message.pop("do")
        if kind == "guard":
            guarded = Guarded(**message)
            self._instrument(guarded)  # imports the driver now, not in the emergency
            self._guarded[guarded.name] = guarded
            self._say({"guarding": guarded.name})
        elif kind == "release":
            self._guarded.pop(message["name"], None)
        elif kind == "bye":
            return False
        return True

    def act(self, why: str) -> None:
        """Switch every guarded instrument off."""
        if not self._guarded:
            return
        self._say({"acting": why, "instruments": sorted(self._guarded)})
        results = run(self._secure_all())
        for name, error in results.items():
            if error is None:
                del self._guarded[name]
        self._say({"acted": why, "verified off": {n: e is None for n, e in results.items()},
                   "errors": {n: e for n, e in results.items() if e is not None}})  # fmt: skip

    async def _secure_all(self) -> dict[str, str | None]:
        guarded = list(self._guarded.values())
        errors = await asyncio.gather(*(self._secure(one) for one in guarded))
        return {one.name: error for one, error in zip(guarded, errors, strict=True)}

    async def _secure(self, guarded: Guarded) -> str | None:
        start = time.monotonic()
        error = ""
        while (spent := time.monotonic() - start) < PERSEVERANCE:
            if error:
                await asyncio.sleep(1.0 if spent < 60.0 else 10.0)
            instrument = self._instrument(guarded)
            try:
                async with asyncio.timeout(10.0):
                    await instrument.connect()
                    await secure(instrument, attempts=1)
                return None
            except (OperandoError, OSError, TimeoutError) as problem:
                if not error:
                    self._say({"trying": guarded.name, "error": str(problem)})
                error = str(problem) or type(problem).__name__
            finally:
                await instrument.close()
        return error

    @staticmethod
    def _instrument(guarded: Guarded) -> Instrument:
        return build_instrument(
            guarded.driver,
            guarded.address,
            Clock(),
            name=guarded.name,
            expect=Expect(serial=guarded.serial),
            settings=guarded.settings,
            where="the watchdog",
        )

    def _say(self, message: dict[str, object]) -> None:
        text = json.dumps({"time": time.time(), "pid": os.getpid()} | message)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # the engine is gone; the log remains
                print(text, file=stream, flush=True)


def main() -> None:
    """Listen on standard input until the engine says goodbye or falls silent."""
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
        frozen = False
        if not line:
            watchdog.act("the engine died")
            return
        if not watchdog.hear(line):
            return


if __name__ == "__main__":
    main()
