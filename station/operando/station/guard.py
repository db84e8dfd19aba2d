"""The engine's side of the watchdog: start it, keep it alive, tell it what to guard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from operando.instruments.errors import OperandoError
from operando.station.watchdog import PATIENCE

BEAT = 0.5
"""Seconds between signs of life."""

START = 15.0
"""Seconds that the watchdog may take to start and to import a driver."""

PROGRAM = "from operando.station.watchdog import main; main()"


class WatchdogError(OperandoError):
    """The watchdog could not be started or died; no output may be on without it."""


class Owner(Protocol):
    """The engine, as its guard needs it."""

    def on_watchdog_death(self, why: str) -> None:
        """The watchdog died or does not answer."""
        ...

    def on_watchdog_acted(self, instruments: Collection[str], why: str) -> None:
        """The watchdog switched these instruments off, or tries to."""
        ...

    async def on_standstill(self, seconds: float) -> None:
        """This process stood still for `seconds` of wall time, more than PATIENCE."""
        ...


class Guard:
    """Owns the watchdog process of one engine. log: file in which the watchdog notes what it does.

    The process is a plain child, not one of asyncio's, whose transports kill what they close.
    """

    def __init__(self, log: Path, owner: Owner) -> None:
        self._log = log
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._beating: asyncio.Task[None] | None = None
        self._guarding: dict[str, asyncio.Future[None]] = {}
        self._closing = False
        self._alive_at = 0.0

    @property
    def alive(self) -> bool:
        """Whether the watchdog runs."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start the watchdog in a session of its own, so that Ctrl-C does not reach it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        assert self._process.stdin is not None
        if hasattr(os, "set_blocking"):
            # A watchdog that does not read must not stop the engine.
            os.set_blocking(self._process.stdin.fileno(), False)
        loop = asyncio.get_running_loop()
        self._reader = threading.Thread(
            target=self._read, args=(self._process, loop), daemon=True, name="watchdog-reader"
        )
        self._reader.start()
        self._alive_at = time.monotonic() + START
        self._beating = asyncio.create_task(self._beat())

    async def guard(
        self, name: str, driver: str, address: str, settings: Mapping[str, object], serial: str
    ) -> None:
        """Put an instrument under guard; returns when the watchdog has confirmed it."""
        confirmed = self._guarding[name] = asyncio.get_running_loop().create_future()
        self._tell(
            do="guard",
            name=name,
            driver=driver,
            address=address,
            settings=dict(settings),
            serial=serial,
        )
        try:
            async with asyncio.timeout(START):
                await confirmed
        except TimeoutError:
            raise WatchdogError(
                f"the watchdog did not take {name} under guard within {START:g} s; nothing was "
                f"switched on. See {self._log}."
            ) from None

    def release(self, name: str) -> None:
        """The output of this instrument has been read back off."""
        self._guarding.pop(name, None)
        self._tell(do="release", name=name)

    def pursue(self, name: str) -> None:
        """The output could not be verified off: let the watchdog go on trying."""
        self._tell(do="pursue", name=name)

    async def close(self) -> None:
        """Say goodbye and wait for the process.

        While anything is still guarded there is no goodbye: the watchdog then tries to switch it
        off, and goes on trying when this process has ended.
        """
        process, self._process = self._process, None
        if process is None:
            return
        self._closing = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        assert process.stdin is not None
        leaving = bool(self._guarding)
        with contextlib.suppress(OSError):
            if not leaving:
                process.stdin.write(b'{"do": "bye"}\n')
        process.stdin.close()
        if leaving:
            process.returncode = 0  # it outlives this process on purpose: no warning about it
            return
        await asyncio.get_running_loop().run_in_executor(None, self._join, process)

    def _join(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            process.kill()  # it hangs, and nothing is guarded
            process.wait()
        assert self._reader is not None
        self._reader.join()
        assert process.stdout is not None
        process.stdout.close()

    def _tell(self, **message: object) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):  # its reader reports that it died
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _beat(self) -> None:
        last = time.monotonic()
        while True:
            self._tell(do="beat")
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            stood_still, last = now - last, now
            if stood_still > PATIENCE:
                self._alive_at = now
                await self._owner.on_standstill(stood_still)
            elif now - self._alive_at > 2.0 * PATIENCE:
                self._alive_at = now
                self._owner.on_watchdog_death("the watchdog does not answer")

    def _read(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: hand the watchdog's lines to the event loop."""
        assert process.stdout is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended before the watchdog
            for line in process.stdout:
                loop.call_soon_threadsafe(self._hear, json.loads(line))
            loop.call_soon_threadsafe(self._ended)

    def _hear(self, message: dict[str, object]) -> None:
        self._alive_at = max(self._alive_at, time.monotonic())
        confirmed = self._guarding.get(str(message.get("guarding")))
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)
        if "acting" in message and not self._closing:
            self._owner.on_watchdog_acted([str(message["instrument"])], str(message["acting"]))

    def _ended(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        for confirmed in self._guarding.values():
            if not confirmed.done():
                confirmed.set_exception(WatchdogError(f"the watchdog ended; see {self._log}"))
        if not self._closing:
            self._owner.on_watchdog_death("the watchdog died")
