"""What a driver adds to the bare library, for each transport and framing, side by side in one run.

    python benchmarks/transport_overhead.py [--rounds 2000]

A simulation in a process of its own serves the instruments without the times that they take by
themselves. A driver's reading (`measure`) is compared with the bare library, which sends the same
bytes to the same instrument and takes as many replies as the reading needs: pyvisa and pyserial as
their manuals have it, bleak's own client, and a plain socket where the public clients of an
instrument use one. The bare library only waits for the last byte; the driver also checks the reply,
makes numbers of it and stamps them.

All take turns in blocks, so that a noisy machine disturbs them alike. Wanted: at most 100 us more
for each exchange, from the medians. `wire` is our session alone, without the driver. The silence
that a driver keeps between two Modbus frames is left out. A busy machine lengthens the way to the
session's thread and back, so the processor time that the driver adds, of all threads, stands
beside it.

Prints what is reached and what is missed; always ends with 0.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyvisa
import serial
from real_sockets import free_ports, verdict  # type: ignore[import-not-found]

from operando.drivers import modbus
from operando.drivers.transports.threaded import ThreadedWire
from operando.instruments.addresses import parse_address
from operando.instruments.bench import InstrumentEntry
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.errors import InstrumentError
from operando.instruments.locks import ENVIRONMENT
from operando.instruments.roles import OpenCircuit, Protection
from operando.instruments.wires import Framing, Terminated
from operando.station.assembly import instrument_of
from operando.station.simulate import SimulatedProcess

BLOCK = 25
"""Readings of one kind before the other takes its turn."""

WARM_UP = 50
"""Readings of each kind that are not counted."""

ALLOWED = 100.0
"""us."""

SPEED = 1000.0
"""Laboratory seconds in one of the wall."""

BENCH = """
[clock]
speed = {speed:g}

[rooms.glovebox]
kind = "glovebox"

[instruments.keithley-2450]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::{ports[0]}::SOCKET"
[instruments.keithley-2450.simulated]
latency = 0.0
reading_time = 1e-6
cell = "c1"

[instruments.neware-bts8]
driver = "neware-bts8"
address = "TCPIP::127.0.0.1::{ports[1]}::SOCKET#21-1-1"
[instruments.neware-bts8.settings]
sharing = "0 s"
[instruments.neware-bts8.simulated]
latency = 0.0
item_time = 0.0
cell = "c2"

[instruments.maccor-macnet]
driver = "maccor-macnet"
address = "TCPIP::127.0.0.1::{ports[2]}::SOCKET#1"
[instruments.maccor-macnet.simulated]
latency = 0.0
cell = "c3"

[instruments.pt113]
driver = "pt113"
address = "serial:ports/pt113?baud=115200"
[instruments.pt113.settings]
unit = "N"
piston_area = "1.3273 cm2"
[instruments.pt113.simulated]
baud = 115200
response_time = 0.0
cell = "c1"

[instruments.pt113-modbus]
driver = "pt113-modbus"
address = "serial:ports/modbus?baud=115200"
[instruments.pt113-modbus.settings]
unit = "N"
piston_area = "1.3273 cm2"
[instruments.pt113-modbus.simulated]
baud = 115200
response_time = 0.0
cell = "c2"

[instruments.palmsens-methodscript]
driver = "palmsens-methodscript"
address = "serial:ports/palmsens"
[instruments.palmsens-methodscript.simulated]
latency = 0.0
cell = "c4"
"""

AIR = """
[instruments.ess]
driver = "ess"
address = "ble:CB:B8:33:4C:88:4F?bus=ports/bluez"
[instruments.ess.simulated]
room = "glovebox"
"""
"""Needs Linux and dbus-daemon."""

CELL = """
[cells.c{n}]
active_mass = "16.96 mg"
one_c = "185 mA/g"
area = "1.131 cm2"
preset = "ncm811-caec"
seed = {n}
"""

WAYS = {
    "keithley-2450": "SCPI, TCP",
    "neware-bts8": "XML, TCP",
    "maccor-macnet": "JSON-RPC, TCP",
    "pt113": "ASCII, serial",
    "pt113-modbus": "Modbus, serial",
    "palmsens-methodscript": "MethodSCRIPT, serial",
    "ess": "GATT, BLE",
}
"""What each driver speaks, over what."""


class Exchange(NamedTuple):
    """One request with how its reply ends and what the reply was, without its terminator."""

    request: bytes
    framing: Framing
    reply: bytes


@contextlib.contextmanager
def overheard() -> Iterator[list[Exchange]]:
    """What goes over wires while the context lasts."""
    heard: list[Exchange] = []
    original = ThreadedWire.exchange

    async def exchange(
        self: ThreadedWire,
        request: bytes,
        framing: Framing,
        timeout: float,
        *,
        urgent: bool = False,
    ) -> bytes:
        reply = await original(self, request, framing, timeout, urgent=urgent)
        heard.append(Exchange(request, framing, reply))
        return reply

    ThreadedWire.exchange = exchange  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        ThreadedWire.exchange = original  # type: ignore[method-assign]


# Bare libraries -----------------------------------------------------------------------------

Ask = Callable[[Exchange], object]
"""Sends a request and waits for the whole reply."""


def bare_visa(address: str) -> tuple[str, Ask, Callable[[], object]]:
    """As PyVISA's manual has it, for lines."""
    manager = pyvisa.ResourceManager("@py")
    resource: Any = manager.open_resource(address, read_termination="\n", write_termination="\n")

    def ask(one: Exchange) -> object:
        resource.write_raw(one.request)
        return resource.read_raw()

    return "pyvisa", ask, resource.close


def bare_socket(address: str) -> tuple[str, Ask, Callable[[], object]]:
    """As public clients of XML and JSON servers do it: read until the end is there."""
    place = parse_address(address)
    connection = socket.create_connection((place.host, place.port), timeout=2.0)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(one: Exchange) -> object:
        connection.sendall(one.request)
        received = b""
        while not one.framing.find_end(received):
            received += connection.recv(4096)
        return received

    return "socket", ask, connection.close


def bare_serial(path: str, baud: int) -> tuple[str, Ask, Callable[[], object]]:
    """As pyserial's manual has it; as minimalmodbus, which reads as many bytes as it expects."""
    port = serial.Serial(path, baud, timeout=1.0)

    def ask(one: Exchange) -> object:
        port.write(one.request)
        if isinstance(one.framing, Terminated):
            return port.read_until(one.framing.terminator)
        return port.read(len(one.reply))

    return "pyserial", ask, port.close


def bare_library(entry: InstrumentEntry) -> tuple[str, Ask, Callable[[], object]]:
    """Name of the library, how to ask with it, how to close it."""
    address = entry.address.partition("#")[0]
    if not address.startswith("TCPIP"):
        path, _, query = address.removeprefix("serial:").partition("?")
        return bare_serial(path, int(query.removeprefix("baud=") or 9600))
    return bare_visa(address) if entry.driver == "keithley-2450" else bare_socket(address)


# Comparing ----------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What a reading takes, us. waited: from request to result, median. used: of the processor."""

    waited: float
    used: float


class Result(NamedTuple):
    """One row of the table. wire: our session alone, None where there is none."""

    name: str
    library: str
    exchanges: int
    bare: Cost
    wire: Cost | None
    driver: Cost


Reading = Callable[[], Awaitable[object]]


async def costs(readings: list[Reading], rounds: int) -> list[Cost]:
    """What each kind of reading takes; they take turns in blocks. used: median of the blocks."""
    waited: list[list[float]] = [[] for _ in readings]
    used: list[list[float]] = [[] for _ in readings]
    gc.collect()
    gc.freeze()
    for block in range(WARM_UP // BLOCK + max(1, rounds // BLOCK)):
        for n, reading in enumerate(readings):
            took, busy = [], 0.0
            for _ in range(BLOCK):
                start, before = time.perf_counter(), time.process_time()
                await reading()
                busy += time.process_time() - before
                took.append((time.perf_counter() - start) * 1e6)
            if block >= WARM_UP // BLOCK:
                waited[n] += took
                used[n].append(busy / BLOCK * 1e6)
    gc.unfreeze()
    return [
        Cost(statistics.median(took), statistics.median(busy))
        for took, busy in zip(waited, used, strict=True)
    ]


async def compare_wire(entry: InstrumentEntry, clock: Clock, rounds: int) -> Result:
    """A driver over sockets or serial lines."""
    driver: Any = instrument_of(entry, clock, None)
    with overheard() as said:
        await driver.connect()
        greeting = list(said)
        if entry.driver == "keithley-2450":  # it measures only what it was told to
            await driver.prepare(Protection((2.0, 4.3), 1e-3))
            await driver.apply(OpenCircuit(4.8))
        await driver.measure()  # the first may learn something that is kept
        said.clear()
        await driver.measure()
        asked = list(said)
    library, ask, close = bare_library(entry)
    wire: Any = driver._wire
    if library == "socket":
        for one in greeting:  # a log-in, for a connection of its own
            ask(one)

    async def bare() -> None:
        for one in asked:
            ask(one)

    async def through_wire() -> None:
        for one in asked:
            await wire.exchange(one.request, one.framing, 1.0)

    try:
        found = await costs([bare, through_wire, driver.measure], rounds)
    finally:
        close()
        await driver.close()
    return Result(entry.driver, library, len(asked), *found)


async def compare_air(entry: InstrumentEntry, clock: Clock, rounds: int) -> Result:
    """A driver over Bluetooth; both sides use the same connection, as a sensor has only one."""
    driver: Any = instrument_of(entry, clock, None)
    await driver.connect()
    client, handles = driver._link._client, tuple(driver._handles.values())

    async def bare() -> None:
        for handle in handles:
            await client.read_gatt_char(handle)

    try:
        alone, whole = await costs([bare, driver.measure], rounds // 4)
    finally:
        await driver.close()
    return Result(entry.driver, "bleak", len(handles), alone, None, whole)


async def compare_all(bench: Path, rounds: int) -> None:
    """Compare and print, one instrument after the other."""
    clock = Clock("scaled", SPEED)
    print(f"{'medians, us':56}{'a reading':>21}{'more an exchange':>22}")
    print(
        f"{'':46}{'exchanges':>10}{'bare':>7}{'wire':>8}{'driver':>8}{'in all':>9}{'processor':>11}"
    )
    for entry in load_bench(bench).instruments.values():
        air = entry.address.startswith("ble:")
        try:
            found = await (compare_air if air else compare_wire)(entry, clock, rounds)
        except InstrumentError as error:
            print(f"{entry.driver}: {error}")
            continue
        title = f"{WAYS[found.name]} ({found.name}, {found.library})"
        wire = f"{found.wire.waited:8.0f}" if found.wire else f"{'':8}"
        more = (found.driver.waited - found.bare.waited) / found.exchanges
        used = (found.driver.used - found.bare.used) / found.exchanges
        print(
            f"{title:54}{found.exchanges:>2}{found.bare.waited:>7.0f}{wire}"
            f"{found.driver.waited:>8.0f}{more:>9.0f}{used:>11.0f}  {verdict(more <= ALLOWED)}"
        )


def main() -> None:
    """Serve the instruments, compare, stop them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--no-bluetooth", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.environ[ENVIRONMENT] = str(folder / "runtime")
        modbus.SILENCE = 0.0
        bench = folder / "bench.toml"
        text = BENCH.format(speed=SPEED, ports=free_ports(3))
        text += "" if chosen.no_bluetooth else AIR
        text += "".join(CELL.format(n=n) for n in range(1, 5))
        bench.write_text(text, encoding="utf-8")
        with SimulatedProcess(bench):
            run(compare_all(bench, chosen.rounds))
    print(f"wanted: at most {ALLOWED:g} us more; {os.cpu_count()} cores, load "
          f"{os.getloadavg()[0]:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
