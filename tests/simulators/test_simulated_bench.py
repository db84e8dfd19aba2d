"""The simulated twin of a bench: shared physics, memory pipes, servers, faults."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import serial

from operando.instruments.bench import Bench, CellEntry, InstrumentEntry, RoomEntry, SimulatedEntry
from operando.instruments.clock import Clock, run
from operando.instruments.errors import AddressInUseError, BadInputError, ReplyTimeoutError
from operando.instruments.simulation import Simulation
from operando.instruments.wires import Switchboard, Terminated
from operando.simulators import SimulatedBench

LINES = Terminated(b"\n")
CRLF = Terminated(b"\r\n")


def instrument(
    name: str,
    driver: str,
    address: str,
    *,
    cell: str = "c1",
    faults: str = "none",
    **options: object,
) -> InstrumentEntry:
    """An entry with a `simulated` table."""
    return InstrumentEntry(
        name=name,
        driver=driver,
        address=address,
        where="bench.toml line 1",
        simulated=SimulatedEntry(cell=cell, faults=faults, options=options),
    )


def bench_of(*entries: InstrumentEntry, cells: Mapping[str, CellEntry] | None = None) -> Bench:
    """A bench around one cell."""
    described = cells or {"c1": CellEntry("c1", "bench.toml line 9", preset="ncm811-caec", seed=1)}
    return Bench(
        path=Path("bench.toml"),
        speed=1.0,
        instruments={entry.name: entry for entry in entries},
        channels={},
        cells=described,
    )


def smu(address: str = "TCPIP::127.0.0.1::5025::SOCKET", **options: object) -> InstrumentEntry:
    """A source meter that is off in high impedance from the start."""
    options.setdefault("power_on_off_state", "high impedance")
    return instrument("smu1", "keithley-2450", address, **options)  # type: ignore[arg-type]


def load_cell(address: str = "serial:ports/lc1", **options: object) -> InstrumentEntry:
    """A load cell on the same cell."""
    return instrument("lc1", "pt113", address, **options)  # type: ignore[arg-type]


def test_source_meter_and_load_cell_share_one_cell() -> None:
    async def scenario() -> None:
        clock = Clock("virtual")
        bench = SimulatedBench(bench_of(smu(), load_cell(preload=1000.0)), clock)
        simulation: Simulation = bench
        switchboard = Switchboard()
        simulation.attach(switchboard)
        meter = switchboard.wire("TCPIP::127.0.0.1::5025::SOCKET", clock)
        scale = switchboard.wire("serial:ports/lc1", clock)
        await meter.open()
        await scale.open()

        async def force() -> float:
            reply = await scale.exchange(b"01I\r\n", CRLF, 1.0)
            assert reply[:3] == b"01I"
            return float(reply[4:])

        assert list(bench.cells) == list(bench.frames) == ["c1"]
        before = await force()
        assert before == pytest.approx(1000.0, abs=20.0)
        for line in (
            b"*RST",
            b":OUTP:SMOD HIMP",
            b":SOUR:VOLT 4.25;:SOUR:VOLT:ILIM 1e-3",
            b":OUTP ON",
        ):
            await meter.send(line + b"\n", 1.0)
        await clock.sleep(3600.0)
        reply = await meter.exchange(b':READ? "defbuffer1",SOUR,READ\n', LINES, 5.0)
        volts, amps = (float(part) for part in reply.split(b","))
        assert amps == pytest.approx(1e-3, rel=1e-3)
        assert 2.5 < volts < 4.25
        assert bench.cells["c1"].charge_passed(clock.now()) == pytest.approx(3.6, rel=0.01)
        assert bench.frames["c1"].force(clock.now()) == pytest.approx(await force(), abs=1.0)
        assert abs(await force() - before) > 1.0, "the cell has changed its thickness"
        assert bench.relays() == {"smu1": True}
        await meter.send(b":OUTP OFF\n", 1.0)
        assert await meter.exchange(b":OUTP?\n", LINES, 1.0) == b"0"
        assert bench.relays() == {"smu1": False}
        await bench.close()

    run(scenario(), virtual=True)


def test_the_same_bench_gives_the_same_bytes_twice() -> None:
    async def replies() -> list[bytes]:
        clock = Clock("virtual")
        bench = SimulatedBench(bench_of(smu(), load_cell()), clock)
        switchboard = Switchboard()
        bench.attach(switchboard)
        meter = switchboard.wire("TCPIP::127.0.0.1::5025::SOCKET", clock)
        scale = switchboard.wire("serial:ports/lc1", clock)
        await meter.open()
        await scale.open()
        await meter.send(b":SOUR:VOLT 4;:SOUR:VOLT:ILIM 1e-3;:OUTP ON\n", 1.0)
        found = []
        for _ in range(50):
            found.append(await meter.exchange(b':READ? "defbuffer1",SOUR,READ\n', LINES, 5.0))
            found.append(await scale.exchange(b"01X\r\n", CRLF, 5.0))
        return found

    first = run(replies(), virtual=True)
    assert len(set(first)) > 10, "there is noise"
    assert run(replies(), virtual=True) == first


def test_faults_are_active_from_the_start_and_switched_at_run_time() -> None:
    async def scenario() -> None:
        clock = Clock("virtual")
        bench = SimulatedBench(bench_of(smu(faults="silence")), clock)
        switchboard = Switchboard()
        bench.attach(switchboard)
        meter = switchboard.wire("TCPIP::127.0.0.1::5025::SOCKET", clock)
        await meter.open()
        with pytest.raises(ReplyTimeoutError):
            await meter.exchange(b"*IDN?\n", LINES, 1.0)
        bench.inject("smu1", "none")
        assert b"2450" in await meter.exchange(b"*IDN?\n", LINES, 1.0)
        with pytest.raises(BadInputError, match=r"no simulated instrument 'smu9'; there are smu1"):
            bench.inject("smu9", "silence")
        with pytest.raises(BadInputError, match="unknown fault"):
            bench.inject("smu1", "explode")

    run(scenario(), virtual=True)


@pytest.mark.parametrize(
    ("bench", "message"),
    [
        (bench_of(instrument("x", "keithley-9999", "A")), "no simulated instrument"),
        (bench_of(instrument("x", "keithley-2450", "A", cell="c9")), r"no table \[cells.c9\]"),
        (
            bench_of(smu(), cells={"c1": CellEntry("c1", "bench.toml line 9")}),
            "line 9.*needs a `preset`",
        ),
        (
            bench_of(smu(), cells={"c1": CellEntry("c1", "bench.toml line 9", preset="lead")}),
            "bench.toml line 9",
        ),
        (bench_of(smu(serial=4)), "serial = 4: write a text"),
        (bench_of(load_cell(preload="8 MPa")), "preload = '8 MPa': write a number"),
        (bench_of(load_cell(preload=-1.0)), "load frame: preload"),
        (bench_of(load_cell(preload=1.0), smu(preload=2.0)), "a cell has one load frame"),
        (bench_of(InstrumentEntry("x", "pt113", "A", "line 1")), "no instrument has a table"),
        (bench_of(smu(faults="sulk")), "unknown fault"),
    ],
)
def test_a_bench_that_cannot_be_simulated_names_the_place(bench: Bench, message: str) -> None:
    async def scenario() -> None:
        with pytest.raises(BadInputError, match=message):
            SimulatedBench(bench, Clock("virtual"))

    run(scenario(), virtual=True)


def test_virtual_time_has_no_servers() -> None:
    async def scenario() -> None:
        bench = SimulatedBench(bench_of(smu()), Clock("virtual"))
        with pytest.raises(BadInputError, match="virtual time"):
            await bench.serve()

    run(scenario(), virtual=True)


@pytest.mark.sockets
def test_every_instrument_is_served_at_its_address(free_port: int, tmp_path: Path) -> None:
    port_path = tmp_path / "ports" / "lc1"

    def ask_load_cell() -> bytes:
        with serial.Serial(str(port_path), 9600, timeout=2.0) as port:
            port.write(b"01I\r\n")
            reply: bytes = port.read_until(b"\r\n")
            return reply

    async def scenario() -> None:
        clock = Clock("scaled", 20.0)
        entries = (
            smu(f"TCPIP::127.0.0.1::{free_port}::SOCKET"),
            load_cell(f"serial:{port_path}"),
        )
        bench = SimulatedBench(bench_of(*entries), clock)
        served = await bench.serve()
        assert [(s.name, s.driver, s.address) for s in served] == [
            (e.name, e.driver, e.address) for e in entries
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
        writer.write(b"*IDN?\n")
        assert b"MODEL 2450" in await reader.readline()
        assert (await asyncio.to_thread(ask_load_cell)).startswith(b"01IS+")
        assert bench.relays() == {"smu1": False}
        bench.inject("smu1", "drop")
        assert await reader.read() == b""
        writer.close()
        await bench.close()
        await bench.close()
        assert not port_path.is_symlink()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", free_port)

    run(scenario())


@pytest.mark.sockets
def test_when_one_address_fails_nothing_stays_served(free_port: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        path = tmp_path / "lc1"
        path.write_text("in the way")
        address = f"TCPIP::127.0.0.1::{free_port}::SOCKET"
        bench = SimulatedBench(bench_of(smu(address), load_cell(f"serial:{path}")), clock)
        with pytest.raises(AddressInUseError, match="lc1"):
            await bench.serve()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", free_port)

    run(scenario())


def test_a_cell_has_the_temperature_of_its_room() -> None:
    cell = CellEntry("c1", "bench.toml line 1", preset="ncm811-caec", room="lab")
    room = RoomEntry("lab", "bench.toml line 9", "laboratory", {"temperature": 291.15})
    bench = replace(bench_of(smu(), cells={"c1": cell}), rooms={"lab": room})
    wrong = replace(bench, rooms={"lab": replace(room, options={"temperture": 291.15})})

    async def assemble() -> None:
        assert SimulatedBench(bench, Clock()).cells["c1"].temperature == 291.15
        with pytest.raises(BadInputError, match=r"\[rooms.lab\]: unknown key temperture"):
            SimulatedBench(wrong, Clock())

    run(assemble(), virtual=True)
