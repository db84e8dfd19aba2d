"""Blocking VISA sessions: TCP/IP sockets, USB, GPIB and serial resources through one code path."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

import pyvisa
from pyvisa import constants
from pyvisa.errors import VisaIOError

from operando.drivers.transports.threaded import OPEN_TIMEOUT
from operando.instruments.errors import LinkLostError, ReplyTimeoutError
from operando.instruments.wires import Framing, Terminated

if TYPE_CHECKING:
    from pyvisa.resources import MessageBasedResource

CHUNK = 65_536
"""Bytes asked for in one read; longer replies take several."""

PIECE = 4096
"""Bytes written to a socket at once."""

_manager_lock = threading.Lock()


class VisaSession:
    """One open VISA resource.

    resource: its name. library: which VISA library, in PyVISA's spelling.
    Replies are found by their terminator: `Sized` framing is refused.
    """

    def __init__(self, resource: str, library: str = "@py") -> None:
        self._name = resource
        self._library = library
        self._resource: MessageBasedResource | None = None
        self._socket: socket.socket | None = None
        self._timeout = -1.0
        self._terminator = -1
        self._open()

    def _open(self) -> None:
        try:
            with _manager_lock:
                manager = pyvisa.ResourceManager(self._library)
            resource = manager.open_resource(self._name, open_timeout=int(OPEN_TIMEOUT * 1e3))
        except Exception as error:
            # PyVISA-py raises bare Exception when a host does not answer.
            raise LinkLostError(f"{self._name} cannot be opened: {error}") from error
        self._resource = resource  # type: ignore[assignment]
        self._timeout = -1.0
        self._terminator = -1
        self._socket = _socket_of(resource)
        if self._socket is not None:
            self._prove_connected(self._socket)

    def _prove_connected(self, connection: socket.socket) -> None:
        """PyVISA-py takes a refused connection for an open one: ask the socket itself."""
        failure = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            if failure:
                raise OSError(failure, "connection refused or lost")
            connection.getpeername()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self.close()
            raise LinkLostError(f"{self._name} cannot be opened: {error}") from error

    def exchange(self, request: bytes, framing: Framing, timeout: float) -> bytes:
        """Send a request, return its reply without terminator. timeout: s."""
        if not isinstance(framing, Terminated):
            raise LinkLostError("a VISA session needs replies with a terminator")
        resource = self._prepare(timeout)
        connection = self._socket
        try:
            if connection is not None:
                deadline = time.monotonic() + timeout
                self._transmit(connection, request, deadline)
                reply = self._receive(connection, framing.terminator, deadline)
            else:
                resource.visalib.write(resource.session, request)
                reply = self._read(resource, framing.terminator, timeout)
        except TimeoutError:
            raise ReplyTimeoutError(f"no complete reply within {timeout:g} s") from None
        except VisaIOError as error:
            raise self._translate(error, timeout) from error
        except OSError as error:
            raise LinkLostError(f"the connection to {self._name} broke: {error}") from error
        return framing.strip(reply)

    def _transmit(self, connection: socket.socket, request: bytes, deadline: float) -> None:
        """Write to the socket itself: PyVISA-py needs four times as long for it."""
        left = memoryview(request)
        while left:
            remaining = max(0.0, deadline - time.monotonic())
            if not select.select((), (connection,), (), remaining)[1]:
                raise TimeoutError
            # A socket that is ready takes so much without blocking.
            left = left[connection.send(left[:PIECE]) :]

    def _receive(self, connection: socket.socket, terminator: bytes, deadline: float) -> bytes:
        """Read a reply from the socket itself, in as many bytes at a time as there are.

        PyVISA-py reads on to the last character of the terminator: a long reply of many lines
        would take as many reads, each of which may wait for the interpreter's lock.
        """
        received = bytearray()
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0.0 or not select.select((connection,), (), (), remaining)[0]:
                raise TimeoutError
            more = connection.recv(CHUNK)
            if not more:
                raise LinkLostError(f"{self._name} closed the connection")
            unseen = max(0, len(received) - len(terminator) + 1)
            received += more
            end = received.find(terminator, unseen)
            if end >= 0:
                return bytes(received[: end + len(terminator)])

    def _read(self, resource: MessageBasedResource, terminator: bytes, timeout: float) -> bytes:
        """Read a reply through the VISA library."""
        deadline = time.monotonic() + timeout
        library, session = resource.visalib, resource.session
        if terminator[-1] != self._terminator:
            resource.set_visa_attribute(constants.ResourceAttribute.termchar, terminator[-1])
            resource.set_visa_attribute(constants.ResourceAttribute.termchar_enabled, True)
            self._terminator = terminator[-1]
        reply = b""
        with library.ignore_warning(session, constants.StatusCode.success_max_count_read):
            while not reply.endswith(terminator):
                if reply and time.monotonic() >= deadline:
                    raise ReplyTimeoutError(f"no end of the reply within {timeout:g} s")
                more, _ = library.read(session, CHUNK)
                reply += more
        return reply

    def send(self, request: bytes, timeout: float) -> None:
        """Send a request that has no reply. timeout: s."""
        resource = self._prepare(timeout)
        try:
            if self._socket is not None:
                self._transmit(self._socket, request, time.monotonic() + timeout)
            else:
                resource.visalib.write(resource.session, request)
        except TimeoutError:
            raise ReplyTimeoutError(f"took no bytes within {timeout:g} s") from None
        except VisaIOError as error:
            raise self._translate(error, timeout) from error
        except OSError as error:
            raise LinkLostError(f"the connection to {self._name} broke: {error}") from error

    def _prepare(self, timeout: float) -> MessageBasedResource:
        resource = self._resource
        if resource is None:
            raise LinkLostError(f"the connection to {self._name} is not open")
        connection = self._socket
        if connection is not None:
            self._discard(connection)
        elif timeout != self._timeout:
            resource.timeout = max(1, round(timeout * 1e3))
            self._timeout = timeout
        return resource

    def _discard(self, connection: socket.socket) -> None:
        """Nothing was asked, yet something can be read: leftovers, or the end of the link."""
        while select.select((connection,), (), (), 0.0)[0]:
            if not connection.recv(CHUNK):
                raise LinkLostError(f"{self._name} closed the connection")

    def _translate(self, error: VisaIOError, timeout: float) -> Exception:
        if error.error_code != constants.StatusCode.error_timeout:
            return LinkLostError(f"{self._name}: {error.description}")
        return ReplyTimeoutError(f"no complete reply within {timeout:g} s")

    def resynchronise(self) -> None:
        """Make sure that a late reply is not taken for the next one.

        A socket or serial resource is opened afresh, so that a late reply finds nobody; on a
        bus, the device is cleared, which empties its output queue.
        """
        resource = self._resource
        if resource is not None and self._name.upper().endswith("INSTR"):
            with contextlib.suppress(VisaIOError, OSError, NotImplementedError):
                resource.clear()
                return
        self.close()
        self._open()

    def abort(self) -> None:
        """Wake a blocked read or write of a PyVISA-py socket; otherwise nothing can."""
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the resource."""
        resource, self._resource = self._resource, None
        self._socket = None
        if resource is not None:
            with contextlib.suppress(Exception):
                resource.close()


def _socket_of(resource: object) -> socket.socket | None:
    """The TCP socket under a PyVISA-py SOCKET resource, None for anything else."""
    sessions = getattr(getattr(resource, "visalib", None), "sessions", None)
    if not isinstance(sessions, dict):
        return None
    interface = getattr(sessions.get(getattr(resource, "session", None)), "interface", None)
    return interface if isinstance(interface, socket.socket) else None
