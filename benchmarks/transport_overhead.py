"""What a session behind a thread costs beside the bare library, side by side in one run.

    python benchmarks/transport_overhead.py [--rounds 2000]

An echo process answers on a TCP port and on a pseudo-terminal. Bare and wrapped round trips
alternate in blocks, so that a noisy machine disturbs both alike. Wanted: at most 100 us more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import select
import socket
import statistics
import time
import tty
from collections.abc import Awaitable, Callable

import pyvisa
import serial

from operando.drivers.transports import make_wire
from operando.instruments.clock import Clock, run
from operando.instruments.wires import Terminated, Wire

LINE = Terminated(b"\n")
REQUEST = b':READ? "defbuffer1",SOUR,READ\n'
BLOCK = 50
"""Round trips of one kind before the other takes its turn."""

ALLOWED = 100.0
"""us."""


def serve(listener: socket.socket, master: int) -> None:
    """Echo whatever comes on the socket's connections and the terminal, until killed."""
    open_files: dict[int, socket.socket | None] = {listener.fileno(): listener, master: None}
    while True:
        for handle in select.select(list(open_files), [], [])[0]:
            if handle == listener.fileno():
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_files[connection.fileno()] = connection
            elif handle == master:
                os.write(master, os.read(master, 4096))
            else:
                data = os.read(handle, 4096)
                if data:
                    os.write(handle, data)
                else:
                    closed = open_files.pop(handle)
                    if closed is not None:
                        closed.close()


async def compare(bare: Callable[[], object], wire: Wire, rounds: int) -> tuple[float, float]:
    """Median round trip (us) of the bare call and of the wire."""

    async def timed(call: Callable[[], Awaitable[object]], times: list[float]) -> None:
        for _ in range(BLOCK):
            start = time.perf_counter()
            await call()
            times.append((time.perf_counter() - start) * 1e6)

    async def through_wire() -> object:
        return await wire.exchange(REQUEST, LINE, 1.0)

    alone: list[float] = []
    wrapped: list[float] = []
    for _ in range(max(1, rounds // BLOCK)):
        for _ in range(BLOCK):
            start = time.perf_counter()
            bare()
            alone.append((time.perf_counter() - start) * 1e6)
        await timed(through_wire, wrapped)
    return statistics.median(alone), statistics.median(wrapped)


def report(name: str, bare: float, wrapped: float) -> None:
    """Print one line."""
    more = wrapped - bare
    verdict = "ok" if more <= ALLOWED else f"MORE THAN {ALLOWED:.0f} us"
    print(
        f"{name:28} bare {bare:7.1f} us   wire {wrapped:7.1f} us   more {more:6.1f} us   {verdict}"
    )


async def measure(port: int, slave: str, rounds: int) -> None:
    """Compare both libraries."""
    address = f"TCPIP::127.0.0.1::{port}::SOCKET"
    manager = pyvisa.ResourceManager("@py")
    resource = manager.open_resource(address, read_termination="\n", write_termination="\n")
    text = REQUEST.decode("ascii").strip()
    wire = make_wire(address, Clock())
    await wire.open()
    bare, wrapped = await compare(lambda: resource.query(text), wire, rounds)  # type: ignore[attr-defined]
    await wire.close()
    resource.close()
    report("pyvisa-py, TCP socket", bare, wrapped)

    terminal = serial.Serial(slave, timeout=1.0)

    def query() -> bytes:
        terminal.write(REQUEST)
        return terminal.read_until(b"\n")

    # One opens after the other: two readers of one terminal would share its bytes.
    alone = [_timed(query) for _ in range(rounds)]
    terminal.close()
    wire = make_wire(f"serial:{slave}", Clock())
    await wire.open()
    through = []
    for _ in range(rounds):
        start = time.perf_counter()
        await wire.exchange(REQUEST, LINE, 1.0)
        through.append((time.perf_counter() - start) * 1e6)
    await wire.close()
    report("pyserial, pseudo-terminal", statistics.median(alone), statistics.median(through))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def main() -> None:
    """Start the echo process, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    listener = socket.create_server(("127.0.0.1", 0))
    master, slave = os.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    echo = multiprocessing.get_context("fork").Process(
        target=serve, args=(listener, master), daemon=True
    )
    echo.start()
    try:
        run(measure(listener.getsockname()[1], os.ttyname(slave), rounds))
    finally:
        echo.terminate()
        echo.join()
        listener.close()
        os.close(master)
        os.close(slave)


if __name__ == "__main__":
    main()
