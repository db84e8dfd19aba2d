"""Simulated instruments behind pseudo-terminals, with a link at the path of the serial port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from pathlib import Path

from operando.instruments.clock import Clock
from operando.instruments.errors import AddressInUseError, BadInputError
from operando.instruments.wires import Peer
from operando.simulators.wire.timed import TimedLine

RETURN_CHECK = 0.05
"""How often a port that broke looks whether it may come back, s of the event loop."""

CHUNK = 4096


class PtyServer:
    """Serves one instrument at a path that a serial library can open.

    The path is a symbolic link to the terminal, made with its parent folders and removed on close.
    A pseudo-terminal knows no baud rate and no parity, and nobody tells it when a host opens or
    closes it: the instrument has one line, from start to close. When the line drops, the port
    disappears as an unplugged adapter does, and comes back when the instrument accepts it.
    """

    def __init__(self, peer: Peer, clock: Clock, path: str) -> None:
        self._peer = peer
        self._clock = clock
        self._path = Path(path)
        self._master = self._slave = -1
        self._line: TimedLine | None = None
        self._unsent = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._target = ""
        self._serving = False

    async def start(self) -> None:
        """Make the port. Raises AddressInUseError when something is at the path."""
        if self._path.is_relative_to("/dev"):
            raise BadInputError(
                f"a simulated instrument cannot be at {self._path}, where a real one may be; "
                "write a path of your own, e.g. serial:ports/lc1"
            )
        if self._path.is_symlink() and not self._path.exists():
            self._path.unlink()  # left over from a simulation that was killed
        if self._path.is_symlink() or self._path.exists():
            raise AddressInUseError(
                f"{self._path} exists already; another simulation may be running there, or remove "
                "it, or choose another path in the bench file"
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._serving = True
        self._plug_in()

    async def close(self) -> None:
        """Remove the port; idempotent."""
        if not self._serving:
            return
        self._serving = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        line = self._line
        self._unplug()
        if line is not None:
            line.forget()
            self._peer.disconnected(line, self._clock.now())

    def _plug_in(self) -> None:
        self._timer = None
        line = TimedLine(self._clock, self._write, self._broken)
        self._line = line
        self._peer.connected(line, self._clock.now())
        if not line.alive:
            return
        master, slave = os.openpty()
        # Raw on both sides, or line endings are translated and input is echoed. The slave stays
        # open here, so that the terminal outlives each host that opens and closes it.
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._master, self._slave = master, slave
        self._target = os.ttyname(slave)
        try:
            self._path.symlink_to(self._target)
        except FileExistsError:
            self._unplug()
            raise AddressInUseError(f"{self._path} exists already") from None
        asyncio.get_running_loop().add_reader(master, self._readable)

    def _unplug(self) -> None:
        """Take the terminal away from under whoever has it open."""
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        with contextlib.suppress(OSError):
            if os.readlink(self._path) == self._target:
                self._path.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        self._unsent.clear()

    def _broken(self) -> None:
        """The instrument dropped the line: unplug, and come back when it accepts again."""
        self._unplug()
        self._line = None
        if self._serving and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETURN_CHECK, self._plug_in)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, CHUNK)
        except BlockingIOError:
            return
        if data and self._line is not None:
            self._peer.receive(self._line, data, self._clock.now())

    def _write(self, data: bytes) -> None:
        self._unsent += data
        self._flush()

    def _flush(self) -> None:
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                sent = os.write(self._master, self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            loop.add_writer(self._master, self._flush)
            return
        loop.remove_writer(self._master)
