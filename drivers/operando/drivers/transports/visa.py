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

CHUNK = 4096
"""Bytes asked for in one read; longer replies take several."""

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
        terminator = framing.terminator
        if terminator[-1] != self._terminator:
            resource.set_visa_attribute(constants.ResourceAttribute.termchar, terminator[-1])
            resource.set_visa_attribute(constants.ResourceAttribute.termchar_enabled, True)
            self._terminator = terminator[-1]
        deadline = time.monotonic() + timeout
        library, session = resource.visalib, resource.session
        try:
            library.write(session, request)
            with library.ignore_warning(session, constants.StatusCode.success_max_count_read):
                reply, _ = library.read(session, CHUNK)
                while not reply.endswith(terminator):
                    if time.monotonic() >= deadline:
                        raise ReplyTimeoutError(f"no end of the reply within {timeout:g} s")
                    more, _ = library.read(session, CHUNK)
                    reply += more
        except VisaIOError as error:
            raise self._translate(error, timeout) from error
        except OSError as error:
            raise LinkLostError(f"the connection to {self._name} broke: {error}") from error
        return framing.strip(reply)

    def send(self, request: bytes, timeout: float) -> None:
        """Send a request that has no reply. timeout: s."""
        resource = self._prepare(timeout)
        try:
            resource.visalib.write(resource.session, request)
        except VisaIOError as error:
            raise self._translate(error, timeout) from error
        except OSError as error:
            raise LinkLostError(f"the connection to {self._name} broke: {error}") from error

    def _prepare(self, timeout: float) -> MessageBasedResource:
        resource = self._resource
        if resource is None:
            raise LinkLostError(f"the connection to {self._name} is not open")
        if timeout != self._timeout:
            resource.timeout = max(1, round(timeout * 1e3))
            self._timeout = timeout
        connection = self._socket
        if connection is not None and select.select((connection,), (), (), 0.0)[0]:
            self._discard(resource, connection)
        return resource

    def _discard(self, resource: MessageBasedResource, connection: socket.socket) -> None:
        """Nothing was asked, yet something can be read: leftovers, or the end of the link."""
        while select.select((connection,), (), (), 0.0)[0]:
            if not connection.recv(CHUNK):
                raise LinkLostError(f"{self._name} closed the connection")

    def _translate(self, error: VisaIOError, timeout: float) -> Exception:
        if error.error_code != constants.StatusCode.error_timeout:
            return LinkLostError(f"{self._name}: {error.description}")
        connection = self._socket
        if connection is not None:
            # PyVISA-py reports the end of a connection as a time-out.
            try:
                readable = bool(select.select((connection,), (), (), 0.0)[0])
                ended = readable and not connection.recv(1, socket.MSG_PEEK)
            except OSError:
                ended = True
            if ended:
                return LinkLostError(f"{self._name} closed the connection")
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
