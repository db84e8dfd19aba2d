"""A line server on the loopback whose answers a test chooses, and a wire to it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from operando.drivers.transports import make_wire
from operando.instruments.clock import Clock
from operando.instruments.wires import Wire

Answer = Callable[["Server", bytes, Callable[[bytes], None]], None]
"""What a test server does with one line: given itself, the line, and a way to send."""


class Server:
    """A line server on the loopback; every connection is served by a thread of its own."""

    def __init__(self, answer: Answer, *, reads: bool = True) -> None:
        self.answer = answer
        self.reads = reads
        self.lines: list[bytes] = []
        self.connections = 0
        self.release = threading.Event()
        self.answered = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def visa(self) -> str:
        return f"TCPIP::127.0.0.1::{self.port}::SOCKET"

    @property
    def serial(self) -> str:
        return f"serial:socket://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if not self.reads:
                self.release.wait(30.0)
                return
            for line in connection.makefile("rb"):
                self.lines.append(line)
                self.answer(self, line, connection.sendall)

    def drop(self) -> None:
        """Break every connection."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.release.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(5.0)


def echo(server: Server, line: bytes, send: Callable[[bytes], None]) -> None:
    """Send every line back."""
    send(line)


@contextlib.contextmanager
def serving(answer: Answer = echo) -> Iterator[Server]:
    """A server while the context lasts."""
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


async def with_wire(address: str, use: Callable[[Wire], object]) -> None:
    wire = make_wire(address, Clock())
    await wire.open()
    try:
        await use(wire)  # type: ignore[misc]
    finally:
        await wire.close()
