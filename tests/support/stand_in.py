"""Small stations that do as they are told: in this process, in another one, or from a script."""

from __future__ import annotations

import contextlib
import http
import json
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from operando.station.client import Rows, Snapshot


def snapshot(serial: int = 1, instance: str = "first") -> Snapshot:
    """A station without channels."""
    return Snapshot(
        instance=instance,
        serial=serial,
        version="0",
        bench="bench",
        simulated=True,
        speed=1.0,
        started=0.0,
        now=float(serial),
        channels=(),
    )


def rows(run: str, first: int = 0, count: int = 1) -> Rows:
    """New rows of a run, a second apart."""
    times = tuple(float(time) for time in range(first, first + count))
    return Rows(run=run, quantities={"voltage": (times, times)})


class StandIn:
    """Speaks a station's paths: the stream with a heartbeat, and GET /api/station."""

    def __init__(self, port: int = 0, instance: str = "first") -> None:
        self.instance = instance
        self.beating = threading.Event()
        self.beating.set()
        self.follows: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._connections: list[ServerConnection] = []
        self._server = serve(
            self._serve,
            "127.0.0.1",
            port,
            process_request=self._answer,
            compression=None,
            ping_interval=None,
            close_timeout=0.2,
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def send(self, message: Snapshot | Rows) -> None:
        """Push a message to every client."""
        for connection in self._connections:
            connection.send(message.model_dump_json())

    def kill(self) -> None:
        """Be gone at once, as after kill -9. Idempotent."""
        self._server.shutdown()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/api/stream":
            return None
        body = snapshot(instance=self.instance).model_dump_json().encode()
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(http.HTTPStatus.OK, "OK", headers, body)

    def _serve(self, connection: ServerConnection) -> None:
        self._connections.append(connection)
        serial = 0
        with contextlib.suppress(ConnectionClosed):
            while True:
                if self.beating.is_set():
                    serial += 1
                    connection.send(snapshot(serial, self.instance).model_dump_json())
                with contextlib.suppress(TimeoutError):
                    self.follows.put(json.loads(connection.recv(0.3))["follow"])


class ScriptedClient:
    """A client whose stream gives what is put into `script`; None in it is a wait in vain."""

    def __init__(self, *script: Snapshot | Rows | None, took: Callable[[], None] = lambda: None):
        self._script = list(script)
        self._took = took
        self.empty = threading.Event()
        self.rest = threading.Event()

    def stream(self) -> ScriptedClient:
        return self

    def follow(self, runs: object) -> None:
        return

    def receive(self, timeout: float) -> Snapshot | Rows | None:
        self._took()
        if self._script:
            return self._script.pop(0)
        self.empty.set()
        self.rest.wait(timeout)
        return None

    def close(self) -> None:
        return


PROGRAM = """
import sys, threading
from websockets.sync.server import serve
def handle(connection):
    serial = 0
    while True:
        serial += 1
        connection.send(sys.argv[1].replace('"serial":1', f'"serial":{serial}'))
        threading.Event().wait(0.2)
with serve(handle, "127.0.0.1", 0, compression=None) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
"""


@contextlib.contextmanager
def station_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A station that does nothing but push snapshots, and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, snapshot().model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()
