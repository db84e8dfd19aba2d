"""Clients that others wrote read the simulated monitors through real pseudo-terminals."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import minimalmodbus
import pytest
import serial
from keller_protocol.keller_protocol import KellerProtocol

from operando.instruments.clock import Clock, run
from operando.instruments.wires import Peer
from operando.simulators.devices.dmt143 import SimulatedDMT143
from operando.simulators.devices.gas_sensor import saturation_pressure
from operando.simulators.devices.keller import SimulatedKeller33X
from operando.simulators.devices.ports import Site
from operando.simulators.devices.pt113 import SimulatedPT113Modbus
from operando.simulators.devices.rapidox import SimulatedRapidox
from operando.simulators.wire import PtyServer
from simulators.bench_of_one import Spring
from simulators.room_of_one import Box
from support.serving import served

pytestmark = pytest.mark.sockets

T = TypeVar("T")


def glovebox() -> Box:
    """A box 4 mbar above the air outside, at 25 degC, with 5 ppm O2 and a frost point of -60."""
    box = Box(o2=5e-6, h2o=saturation_pressure(213.15) / 101_725.0)
    box.kelvin = 298.15
    box.pascals = 101_725.0
    return box


def through_a_pty(
    folder: Path,
    model: Callable[..., Peer],
    options: dict[str, object],
    use: Callable[[str], T],
    site: Site | None = None,
) -> T:
    """Serve a device at a pseudo-terminal and use it from a thread that knows its path alone."""

    async def scenario() -> T:
        clock = Clock("scaled", 20.0)
        device = model("dut", site=site or Site(room=glovebox()), clock=clock, options=options)
        path = folder / "port"
        server = PtyServer(device, clock, str(path))
        return await served(server, device, asyncio.to_thread(use, str(path)))

    return run(scenario())


def modbus_client(path: str, address: int, baud: int = 9600) -> minimalmodbus.Instrument:
    """A client with a time-out that a shared machine keeps."""
    client = minimalmodbus.Instrument(path, address)
    client.serial.baudrate = baud
    client.serial.timeout = 2.0
    return client


def test_minimalmodbus_reads_and_zeroes_a_keller(tmp_path: Path) -> None:
    def use(path: str) -> tuple[float, float, int, list[int], float, str]:
        client = modbus_client(path, 1)
        try:
            pressure = client.read_float(2)
            temperature = client.read_float(8)
            whole = client.read_long(0x0012, signed=True)
            serial_number = client.read_registers(0x0202, 2)
            client.write_float(0xFF00, 0.0)
            zeroed = client.read_float(2)
            try:
                client.read_registers(2, 5)
            except minimalmodbus.IllegalRequestError as error:
                refused = str(error)
            return pressure, temperature, whole, serial_number, zeroed, refused
        finally:
            client.serial.close()

    pressure, temperature, whole, serial_number, zeroed, refused = through_a_pty(
        tmp_path, SimulatedKeller33X, {"noise": 0.0, "resolution": 0.0, "serial": 70_000}, use
    )
    assert pressure == pytest.approx(0.004, abs=1e-6)
    assert temperature == pytest.approx(25.0, abs=0.05)
    assert whole == 400
    assert serial_number == [1, 4464]
    assert zeroed == pytest.approx(0.0, abs=1e-6)
    assert "illegal data value" in refused


def test_minimalmodbus_gets_no_answer_from_another_address(tmp_path: Path) -> None:
    def use(path: str) -> None:
        client = modbus_client(path, 9)
        client.serial.timeout = 0.3
        try:
            client.read_float(2)
        finally:
            client.serial.close()

    with pytest.raises(minimalmodbus.NoResponseError):
        through_a_pty(tmp_path, SimulatedKeller33X, {}, use)


@pytest.mark.parametrize("echo", [False, True])
def test_the_makers_package_works_on_the_keller_bus(tmp_path: Path, echo: bool) -> None:
    def use(path: str) -> dict[str, object]:
        client = KellerProtocol(path, timeout=2.0, echo=echo)
        read: dict[str, object] = {"firmware": client.f48(1)}
        read["serial"] = client.f69(1)
        read["pressure"] = client.f73(1, 1)
        read["temperature"] = client.f73(1, 4)
        read["whole"] = client.f74(1, 1)
        read["missing"] = client.f73(1, 2)
        client.f31(1, 65, 2.0)
        read["gain"] = client.f30(1, 65)
        read["doubled"] = client.f73(1, 1)
        client.f31(1, 65, 1.0)
        read["interval"] = client.f32(1, 3)
        client.f95(1, 0)
        read["zeroed"] = client.f73(1, 1)
        client.f95(1, 1)
        read["address"] = client.f66(250, 0)
        client.f66(1, 42)
        read["moved"] = client.f74(42, 1)
        return read

    read = through_a_pty(
        tmp_path,
        SimulatedKeller33X,
        {"noise": 0.0, "resolution": 0.0, "serial": 70_000, "echo": echo},
        use,
    )
    assert read["firmware"] == "5.20-12.28"
    assert read["serial"] == 70_000
    assert read["pressure"] == pytest.approx(0.004, abs=1e-6)
    assert read["temperature"] == pytest.approx(25.0, abs=0.05)
    assert (read["whole"], read["moved"]) == (400, 400)
    assert isinstance(read["missing"], float)
    assert math.isnan(read["missing"])
    assert (read["gain"], read["interval"], read["address"]) == (2.0, 1, 1)
    assert read["doubled"] == pytest.approx(0.008, abs=1e-6)
    assert read["zeroed"] == pytest.approx(0.0, abs=1e-6)


def test_the_makers_package_sees_that_it_was_not_initialised(tmp_path: Path) -> None:
    def use(path: str) -> object:
        return KellerProtocol(path, timeout=2.0, echo=False).f69(1)

    with pytest.raises(Exception, match="Device Error number: 197"):
        through_a_pty(tmp_path, SimulatedKeller33X, {}, use)


def test_minimalmodbus_reads_a_dew_point_low_word_first(tmp_path: Path) -> None:
    def use(path: str) -> tuple[float, float, int, float]:
        client = modbus_client(path, 240, 19_200)
        swapped = minimalmodbus.BYTEORDER_LITTLE_SWAP
        try:
            return (
                client.read_float(0x0006, byteorder=swapped),
                client.read_float(0x1F01, byteorder=swapped),
                client.read_register(0x1F00, signed=True),
                client.read_register(0x0200),
            )
        finally:
            client.serial.close()

    dew, test_value, test_integer, good = through_a_pty(
        tmp_path, SimulatedDMT143, {"mode": "MODBUS", "noise": 0.0}, use
    )
    assert dew == pytest.approx(-60.0, abs=0.01)
    assert test_value == pytest.approx(-123.45, abs=1e-4)
    assert (test_integer, good) == (-12345, 1)


def test_minimalmodbus_reads_a_load_cell(tmp_path: Path) -> None:
    def use(path: str) -> int:
        client = modbus_client(path, 1)
        try:
            return int(client.read_long(0, signed=True))
        finally:
            client.serial.close()

    weight = through_a_pty(
        tmp_path, SimulatedPT113Modbus, {"noise": 0.0}, use, Site(frame=Spring(-123.4))
    )
    assert weight == -1234


def test_pyserial_reads_lines_of_the_dew_point_and_oxygen_monitors(tmp_path: Path) -> None:
    def lines(path: str) -> bytes:
        with serial.Serial(path, 19_200, timeout=2.0) as port:
            port.write(b"send\r")
            return port.readline()

    line = through_a_pty(tmp_path, SimulatedDMT143, {"noise": 0.0, "echo": "off"}, lines)
    assert line == b"Tdf=-60.00 'C Tdfatm=-60.00 'C H2O=    11 ppm\r\n"

    def poll(path: str) -> bytes:
        with serial.Serial(path, 9600, timeout=2.0) as port:
            port.write(b"D")
            return port.readline()

    reply = through_a_pty(tmp_path, SimulatedRapidox, {"noise": 0.0, "warm_up_error": 0.0}, poll)
    assert reply.startswith(b"d5.000E+00,")
    assert reply.endswith(b",,0\r\n")
