"""Blocking serial sessions: devices, pseudo-terminals and pyserial's URLs."""

from __future__ import annotations

import contextlib
import socket
import time

import serial

from operando.instruments.addresses import SerialParameters
from operando.instruments.errors import LinkLostError, ReplyTimeoutError
from operando.instruments.wires import Framing

SLICE = 0.05
"""s for which one read blocks; time-outs are counted in these.

The port keeps this one setting, since pyserial configures the whole line anew at each change.
"""

WRITE_TIMEOUT = 1.0
"""s after which a write that makes no headway fails."""

QUIET = 0.05
"""s without a byte after which a line counts as quiet."""

LONGEST_NOISE = 0.5
"""s for which a line that does not get quiet is listened to."""


class SerialSession:
    """One open serial line. port: device or URL of pyserial. line: its settings."""

    def __init__(self, port: str, line: SerialParameters) -> None:
        self._name = port
        try:
            self._port = serial.serial_for_url(
                port,
                baudrate=line.baud,
                parity=line.parity,
                bytesize=line.bits,
                stopbits=line.stop,
                timeout=SLICE,
                write_timeout=WRITE_TIMEOUT,
            )
        except (OSError, ValueError) as error:
            raise LinkLostError(f"{port} cannot be opened: {error}") from error

    def exchange(self, request: bytes, framing: Framing, timeout: float) -> bytes:
        """Send a request, return its reply without terminator. timeout: s."""
        deadline = time.monotonic() + timeout
        port = self._port
        received = bytearray()
        try:
            if port.in_waiting:
                port.reset_input_buffer()
            port.write(request)
            while True:
                # One blocking byte, then whatever else has come.
                received += port.read(1)
                waiting = port.in_waiting
                if waiting:
                    received += port.read(waiting)
                end = framing.find_end(received)
                if end:
                    return framing.strip(bytes(received[:end]))
                if time.monotonic() >= deadline:
                    raise ReplyTimeoutError(
                        f"no complete reply within {timeout:g} s (got {bytes(received)!r})"
                    )
        except serial.SerialTimeoutException as error:
            raise ReplyTimeoutError(f"{self._name} took no bytes within {WRITE_TIMEOUT:g} s") from (
                error
            )
        except (OSError, TypeError) as error:
            # A port that is closed while it is read raises TypeError in pyserial.
            raise LinkLostError(f"the line {self._name} broke: {error}") from error

    def send(self, request: bytes, timeout: float) -> None:
        """Send a request that has no reply. timeout: s."""
        try:
            self._port.write(request)
        except serial.SerialTimeoutException as error:
            raise ReplyTimeoutError(f"{self._name} took no bytes within {WRITE_TIMEOUT:g} s") from (
                error
            )
        except (OSError, TypeError) as error:
            raise LinkLostError(f"the line {self._name} broke: {error}") from error

    def resynchronise(self) -> None:
        """Listen until the line is quiet and drop what was heard."""
        end = time.monotonic() + LONGEST_NOISE
        quiet_since = time.monotonic()
        try:
            while time.monotonic() < end and time.monotonic() - quiet_since < QUIET:
                if self._port.read(1):
                    self._port.reset_input_buffer()
                    quiet_since = time.monotonic()
        except (OSError, TypeError) as error:
            raise LinkLostError(f"the line {self._name} broke: {error}") from error

    def abort(self) -> None:
        """Wake a blocked read or write, where pyserial can."""
        for name in ("cancel_read", "cancel_write"):
            cancel = getattr(self._port, name, None)
            if cancel is not None:
                with contextlib.suppress(Exception):
                    cancel()

    def close(self) -> None:
        """Close the line."""
        # pyserial forgets to close the socket of a URL whose peer has already gone.
        connection = getattr(self._port, "_socket", None)
        with contextlib.suppress(Exception):
            self._port.close()
        if isinstance(connection, socket.socket):
            connection.close()
