"""`operando discover`: known instruments are asked, unknown ports are left in peace."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lab import free_port
from operando.drivers import discovery
from operando.instruments.addresses import parse_address
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.locks import AddressLock
from operando.instruments.registry import DRIVERS, available
from operando.instruments.roles import DriverInfo
from operando.instruments.sightings import Sighting
from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450
from operando.simulators.devices.ports import Site
from operando.simulators.wire.tcp import TcpServer
from operando.station.assembly import driver_info
from operando.station.cli import app
from operando.station.discover import Discovered, driver_of, identified, skeleton
from simulators.bluetooth_bench import bluetooth, ess_in_air, tag_in_air

INFOS: list[DriverInfo] = [driver_info(name) for name in available(DRIVERS)]
METER = frozenset({"usb:05e6:2450"})


@asynccontextmanager
async def source_meter() -> AsyncIterator[Sighting]:
    """A simulated 2450 behind a socket, sighted with the USB ids of a real one."""
    port, clock = free_port(), Clock()
    device = SimulatedKeithley2450(
        "smu", site=Site(), clock=clock, options={"power_on_off_state": "high impedance"}
    )
    server = TcpServer(device, clock, "127.0.0.1", port)
    await server.start()
    try:
        yield Sighting(f"TCPIP::127.0.0.1::{port}::SOCKET", "VISA resource", METER)
    finally:
        await server.close()
        device.close()


def test_an_instrument_that_is_known_by_its_signs_is_asked_who_it_is() -> None:
    async def main() -> None:
        async with source_meter() as sighting:
            found = await identified(sighting, INFOS, Clock())
            assert (found.driver, found.model) == ("keithley-2450", "2450")
            assert found.serial == "04096331"
            with AddressLock(sighting.address):
                held = await identified(sighting, INFOS, Clock())
            assert held.serial == ""
            assert "in use" in held.remark

    asyncio.run(main())


def test_nothing_is_written_to_a_port_that_nobody_knows() -> None:
    host, instrument = os.openpty()
    try:
        tty.setraw(instrument)
        os.set_blocking(host, False)
        for signs in (frozenset[str](), frozenset({"usb:0403:6001"})):
            sighting = Sighting(f"serial:{os.ttyname(instrument)}", "an adapter", signs)
            found = asyncio.run(identified(sighting, INFOS, Clock()))
            assert found.driver == ""
            assert "nothing was said" in found.remark
            with pytest.raises(BlockingIOError):
                os.read(host, 1)
    finally:
        os.close(host)
        os.close(instrument)


def test_a_known_instrument_that_is_gone_is_said_so() -> None:
    sighting = Sighting(f"TCPIP::127.0.0.1::{free_port()}::SOCKET", "VISA resource", METER)
    found = asyncio.run(identified(sighting, INFOS, Clock()))
    assert found.driver == "keithley-2450"
    assert found.serial == ""
    assert found.remark


def test_two_drivers_that_know_one_sign_are_none() -> None:
    twice = [INFOS[0].__class__("a", "", (), "", (), "none", "", signs=("usb:1:2",))]
    twice += [INFOS[0].__class__("b", "", (), "", (), "none", "", signs=("usb:1:2",))]
    assert driver_of(Sighting("x", "", frozenset({"usb:1:2"})), twice[:1]) == "a"
    assert driver_of(Sighting("x", "", frozenset({"usb:1:2"})), twice) == ""


@pytest.mark.parametrize(
    ("signs", "driver"),
    [
        ({"ble:name:Ruuvi 884F"}, "ruuvi"),
        ({"ble:data:0499:0512fc5394c37c"}, "ruuvi"),
        ({"ble:data:0499:0312fc5394c37c"}, ""),  # another format, without a name
        ({"ble:data:004c:05"}, ""),
        ({"ble:name:My Ruuvi"}, ""),
        ({"ble:service:181a"}, "ess"),
        ({"ble:service:181a5"}, ""),
        ({"ble:service:180f"}, ""),
        ({"usb:05e6:2461"}, "keithley-2461"),
        ({"usb:05e6:24"}, ""),
    ],
)
def test_signs_of_what_is_heard_and_plugged_in_lead_to_a_driver(
    signs: set[str], driver: str
) -> None:
    assert driver_of(Sighting("x", "", frozenset(signs)), INFOS) == driver


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform != "linux", reason="BlueZ is of Linux")
def test_sensors_on_the_air_are_known_and_stand_in_the_bench(tmp_path: Path) -> None:
    bench = tmp_path / "bench.toml"

    async def scenario() -> Any:
        clock = Clock("scaled", 10.0)
        ess, tag = ess_in_air(clock), tag_in_air(clock)
        ess.sensor.address, tag.sensor.address = "C0:00:00:00:00:01", "CB:B8:33:4C:88:4F"
        async with bluetooth(tmp_path, clock, ess, tag):
            command = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "operando.station", "discover"),
                *("--json", "--write", str(bench)),
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await command.communicate()
        assert command.returncode == 0
        return json.loads(printed)

    shown = asyncio.run(scenario())
    assert not [why for why in shown["blind"] if why.startswith("Bluetooth")]
    heard = {one["address"]: one for one in shown["found"] if one["address"].startswith("ble:")}
    assert {address: one["driver"] for address, one in heard.items()} == {
        "ble:C0:00:00:00:00:01": "ess",
        "ble:CB:B8:33:4C:88:4F": "ruuvi",
    }
    assert all("advertises" in one["remark"] for one in heard.values())
    written = load_bench(bench).instruments
    assert (written["ess-1"].driver, written["ess-1"].address) == ("ess", "ble:C0:00:00:00:00:01")
    assert written["ruuvi-1"].driver == "ruuvi"
    assert written["ruuvi-1"].address == "ble:CB:B8:33:4C:88:4F"


def test_the_skeleton_is_a_bench_file_with_the_unknown_as_remarks(tmp_path: Path) -> None:
    usb = Sighting("USB0::0x05E6::0x2450::04096331::INSTR", "VISA resource", METER)
    other = Sighting("serial:/dev/ttyUSB0", "FTDI, USB serial")
    found = [
        Discovered(usb, "keithley-2450", "2450", "04096331"),
        Discovered(usb.__class__("USB0::0x05E6::0x2450::2::INSTR", "", METER), "keithley-2450"),
        Discovered(other),
    ]
    path = tmp_path / "bench.toml"
    path.write_text(skeleton(found), encoding="utf-8")
    bench = load_bench(path)
    assert list(bench.instruments) == ["keithley-2450-1", "keithley-2450-2"]
    assert bench.instruments["keithley-2450-1"].expect.serial == "04096331"
    assert "# serial:/dev/ttyUSB0: FTDI, USB serial" in path.read_text(encoding="utf-8")


def test_what_this_computer_has_can_be_listed_and_its_addresses_are_understood() -> None:
    found = asyncio.run(discovery.look(bluetooth=False))
    assert all(parse_address(sighting.address).text for sighting in found.seen)
    assert all(why.startswith("USB instruments: ") for why in found.blind)


def test_the_command_lists_and_never_overwrites_a_bench(tmp_path: Path) -> None:
    runner = CliRunner()
    path = tmp_path / "bench.toml"
    arguments = ["discover", "--no-bluetooth", "--json", "--write", str(path)]
    shown = runner.invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    data = json.loads(shown.stdout)
    assert set(data) == {"found", "blind"}
    load_bench(path)
    again = runner.invoke(app, arguments)
    assert again.exit_code != 0
    assert "exists" in str(again.exception)
