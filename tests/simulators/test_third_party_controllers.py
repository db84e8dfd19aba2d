"""Clients that others wrote work against the simulated controllers and the legacy source meter."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import serial
from alicat.driver import FlowController
from pymeasure.instruments.keithley import Keithley2400

from operando.instruments.clock import Clock, run
from operando.simulators.devices.alicat import PSI, SimulatedAlicatDualValve
from operando.simulators.devices.espec import SimulatedEspecP300
from operando.simulators.devices.keithley_2400 import SimulatedKeithley2400
from operando.simulators.devices.ports import Site
from operando.simulators.wire import TcpServer
from operando.simulators.wire.pty import PtyServer
from simulators.bench_of_one import ResistorCell, Spring
from support.serving import served

pytestmark = pytest.mark.sockets

T = TypeVar("T")


# -- PyMeasure and the source meter


def with_pymeasure(
    port: int, use: Callable[[Keithley2400], T], **options: object
) -> tuple[T, SimulatedKeithley2400]:
    """Serve a source meter on a cell of 3.7 V and 10 ohm, and use it with PyMeasure."""

    def client() -> T:
        meter = Keithley2400(
            f"TCPIP::127.0.0.1::{port}::SOCKET",
            visa_library="@py",
            read_termination="\n",
            write_termination="\n",
            timeout=3000,
        )
        try:
            return use(meter)
        finally:
            meter.adapter.close()
            meter.adapter.manager.close()

    async def scenario() -> tuple[T, SimulatedKeithley2400]:
        clock = Clock("scaled", 20.0)
        device = SimulatedKeithley2400(
            "smu1",
            site=Site(ResistorCell()),
            clock=clock,
            options={"noise": 0.0, "terminator": "LF", **options},
        )
        server = TcpServer(device, clock, "127.0.0.1", port)
        return await served(server, device, asyncio.to_thread(client)), device

    return run(scenario())


def test_pymeasure_identifies_the_2400_and_finds_no_errors(free_port: int) -> None:
    def use(meter: Keithley2400) -> tuple[str, list[object], str]:
        meter.reset()
        return meter.id, meter.check_errors(), meter.complete

    (identity, errors, complete), _ = with_pymeasure(free_port, use)
    assert identity.startswith("KEITHLEY INSTRUMENTS INC.,MODEL 2400,4105123,C32")
    assert (errors, complete) == ([], "1")


def test_pymeasure_charges_a_cell_and_measures_all_of_it(free_port: int) -> None:
    def use(meter: Keithley2400) -> tuple[dict[str, float], float, list[object]]:
        meter.reset()
        meter.output_off_state = "disconnected"
        meter.source_mode = "voltage"
        meter.source_voltage_range = 20
        meter.source_voltage = 4.2
        meter.compliance_current = 0.01
        meter.wires = 4
        meter.source_enabled = True
        everything = meter.measure_all()
        current = meter.current
        errors = meter.check_errors()
        meter.source_enabled = False
        assert not meter.source_enabled
        return everything, current, errors

    (everything, current, errors), device = with_pymeasure(free_port, use)
    assert errors == []
    assert everything["current"] == pytest.approx(0.01, rel=1e-2)
    assert everything["voltage"] == pytest.approx(3.8, abs=0.01)
    assert int(everything["status"]) == 4216844 | 1 << 13
    assert current == pytest.approx(0.01, rel=1e-3)
    assert not device.relay_closed


def test_pymeasure_reads_back_what_it_wrote(free_port: int) -> None:
    settings: dict[str, object] = {
        "source_mode": "voltage",
        "source_voltage": 1.5,
        "source_delay": 0.25,
        "source_delay_auto_enabled": True,
        "compliance_current": 0.05,
        "compliance_voltage": 15.0,
        "current_nplc": 2.0,
        "filter_count": 20,
        "filter_enabled": True,
        "repeat_filter_enabled": False,
        "source_current_range_auto_enabled": False,
        "current_range_auto_enabled": False,
        "auto_output_off_enabled": True,
        "line_frequency": 60,
        "wires": 4,
        "front_terminals_enabled": False,
        "trigger_delay": 0.5,
        "trigger_count": 5,
        "arm_count": 3,
        "buffer_points": 100,
        "display_enabled": False,
    }

    def use(meter: Keithley2400) -> tuple[dict[str, object], list[object]]:
        read = {}
        for name, value in settings.items():
            setattr(meter, name, value)
            read[name] = getattr(meter, name)
        return read, meter.check_errors()

    (read, errors), _ = with_pymeasure(free_port, use)
    assert errors == []
    assert read == settings


def test_pymeasure_fills_the_buffer(free_port: int) -> None:
    def use(meter: Keithley2400) -> tuple[list[float], list[object]]:
        meter.reset()
        meter.compliance_current = 0.01
        meter.source_voltage = 3.71
        meter.source_enabled = True
        meter.config_buffer(points=3)
        meter.start_buffer()
        meter.wait_for_buffer(timeout=10, interval=0.02)
        data = list(meter.buffer_data)
        meter.disable_buffer()
        meter.reset_buffer()
        errors = meter.check_errors()
        meter.source_enabled = False
        return data, errors

    (data, errors), _ = with_pymeasure(free_port, use)
    assert errors == []
    assert len(data) == 15
    assert data[6] == pytest.approx(1e-3, rel=1e-3)


def test_pymeasure_reads_the_error_queue_of_the_2400(free_port: int) -> None:
    def use(meter: Keithley2400) -> list[object]:
        meter.write(":SOUR:VOLT 500")
        meter.write(":SENS:VOLT:RANG100")
        return list(meter.check_errors())

    errors, _ = with_pymeasure(free_port, use)
    assert [int(error[0]) for error in errors] == [-222, -113]  # type: ignore[index]


# -- alicat and the pressure controller


def with_alicat(
    make: Callable[[SimulatedAlicatDualValve, Clock], TcpServer | PtyServer],
    address: Callable[[], str],
) -> tuple[dict[str, object], float]:
    """Serve a controller on a frame, exercise it with the public client: findings and force, N."""
    spring = Spring()

    async def scenario() -> dict[str, object]:
        clock = Clock("scaled", 20.0)
        device = SimulatedAlicatDualValve(
            "pc1",
            site=Site(frame=spring),
            clock=clock,
            options={"noise": 0.0, "actuator_area": 2e-3},
        )

        async def client() -> dict[str, object]:
            async with FlowController(address(), "A", timeout=2.0) as controller:
                # It counts on the columns of a mass flow controller until it is told.
                controller.keys = ["pressure", "setpoint"]
                try:
                    return await _exercise(controller)
                finally:
                    await controller.hw.close()  # it leaves a socket open

        return await served(make(device, clock), device, client())

    return run(scenario()), spring.newtons


async def _exercise(controller: Any) -> dict[str, object]:
    found: dict[str, object] = {"control_point": (await controller.get())["control_point"]}
    await controller.set_maxramp(50.0, "s")
    found["ramp"] = await controller.get_maxramp()
    await controller.set_ramp_config({"up": True, "down": False, "zero": False, "power": True})
    found["when"] = await controller.get_ramp_config()
    await controller.set_pressure(40.0)
    await asyncio.sleep(0.3)
    found["at 40"] = await controller.get()
    await controller.lock()
    found["locked"] = await controller.is_locked()
    await controller.unlock()
    await controller.hold()
    await controller.cancel_hold()
    found["pid"] = await controller.get_pid()
    found["firmware"] = await controller.get_firmware()
    return found


EXPECTED = {
    "control_point": "gauge pressure",
    "ramp": {"max_ramp": 50.0, "units": "PSIG/s"},
    "when": {"up": True, "down": False, "zero": False, "power": True},
    "at 40": {"pressure": 40.0, "setpoint": 40.0, "control_point": "gauge pressure"},
    "locked": True,
    "pid": {"loop_type": "PD/PDF", "P": "200", "D": "200", "I": "200"},
    "firmware": "A   10v20.0-R24 Jan  9 2025,15:04:07",
}


def test_the_public_alicat_client_controls_the_pressure_over_tcp(free_port: int) -> None:
    found, newtons = with_alicat(
        lambda device, clock: TcpServer(device, clock, "127.0.0.1", free_port),
        lambda: f"127.0.0.1:{free_port}",
    )
    assert found == EXPECTED
    assert newtons == pytest.approx(40.0 * PSI * 2e-3, rel=1e-4)


def test_the_public_alicat_client_controls_the_pressure_over_a_serial_port(tmp_path: Path) -> None:
    port = tmp_path / "pc1"
    # The client knows a serial port by the first letters of its address: name the terminal.
    found, newtons = with_alicat(
        lambda device, clock: PtyServer(device, clock, str(port)), lambda: str(port.resolve())
    )
    assert found == EXPECTED
    assert newtons == pytest.approx(40.0 * PSI * 2e-3, rel=1e-4)


# -- the chamber maker's own parser


class SteadyRoom:
    """A room that is at once what a chamber asks for."""

    def __init__(self) -> None:
        self.kelvin = 293.15

    def temperature(self, now: float) -> float:
        return self.kelvin

    def pressure(self, now: float) -> float:
        return 101_325.0

    def surrounding_pressure(self, now: float) -> float:
        return 101_325.0

    def fraction(self, gas: str, now: float) -> float:
        return 0.0

    def regulate(self, now: float, target: float | None, rate: float = float("inf")) -> None:
        self.kelvin = self.kelvin if target is None else target


def _p300(port: Path) -> Any:
    """The maker's P300 class. It was written for Python 2: its serial half is done anew here."""
    package = importlib.util.find_spec("chamberconnectlibrary")
    assert package is not None, "chamberconnectlibrary is missing: pip install -e '.[test]'"
    assert package.submodule_search_locations

    class EspecSerial:
        def __init__(self, **kwargs: Any) -> None:
            self._port = serial.Serial(str(port), 9600, timeout=3.0)

        def close(self) -> None:
            self._port.close()

        def interact(self, message: Any) -> Any:
            several = isinstance(message, list)
            replies = []
            for line in message if several else [message]:
                self._port.write(line.encode("ascii") + b"\r\n")
                reply = self._port.read_until(b"\r\n")
                assert reply.endswith(b"\r\n"), reply
                text = reply[:-2].decode("ascii")
                if text.startswith("NA:"):
                    raise ValueError(text)
                replies.append(text)
            return replies if several else replies[0]

    transport = types.ModuleType("especinteract")
    transport.EspecSerial = transport.EspecTCP = EspecSerial  # type: ignore[attr-defined]
    source = Path(next(iter(package.submodule_search_locations))) / "p300.py"
    made = importlib.util.spec_from_file_location("maker_p300", source)
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    sys.modules["especinteract"] = transport
    try:
        made.loader.exec_module(module)
    finally:
        del sys.modules["especinteract"]
    return module.P300("Serial", serialport=str(port), baudrate=9600)


def test_the_makers_own_parser_understands_the_chamber(tmp_path: Path) -> None:
    port = tmp_path / "chamber1"

    def client() -> dict[str, object]:
        chamber = _p300(port)
        try:
            chamber.write_temp(setpoint=60.0, max=80.0, min=-20.0)
            chamber.write_mode_constant()
            chamber.write_relay([True, None, True] + [None] * 9)
            chamber.write_set("manual", 50)
            found: dict[str, object] = {
                "mon": chamber.read_mon(),
                "temp": chamber.read_temp(),
                "mode": chamber.read_mode(detail=True),
                "type": chamber.read_type(),
                "alarm": chamber.read_alarm(),
                "relay": chamber.read_relay()[:3],
                "set": chamber.read_set(),
                "constant": chamber.read_constant_temp(),
                "reference": chamber.read_ref(),
                "keys": chamber.read_keyprotect(),
                "srq": chamber.read_srq()["state_change"],
                "year": chamber.read_date_time()["year"],
            }
            with pytest.raises(ValueError, match="NA:CONT NOT READY-1"):
                chamber.read_humi()
            chamber.write_run_prgm(60.0, 1, 30, gotemp=70.0)
            found["remote"] = chamber.read_run_prgm_mon()
            chamber.write_prgm_end("OFF")
            found["off"] = chamber.read_mode()
            return found
        finally:
            chamber.close()

    async def scenario() -> dict[str, object]:
        clock = Clock("scaled", 20.0)
        device = SimulatedEspecP300(
            "chamber1",
            site=Site(room=SteadyRoom()),
            clock=clock,
            options={"noise": 0.0, "mode_delay": 0.0},
        )
        server = PtyServer(device, clock, str(port))
        return await served(server, device, asyncio.to_thread(client))

    found = run(scenario())
    assert found.pop("remote") == {
        "pgmstep": 1,
        "temperature": pytest.approx(60.0, abs=0.2),
        "time": {"hours": 1, "minuets": pytest.approx(29, abs=1)},
        "counter": 0,
    }
    assert found == {
        "mon": {"temperature": 60.0, "mode": "CONSTANT", "alarms": 0},
        "temp": {
            "processvalue": 60.0,
            "setpoint": 60.0,
            "enable": True,
            "range": {"max": 80.0, "min": -20.0},
        },
        "mode": "CONSTANT",
        "type": {"drybulb": "T", "controller": "P300", "tempmax": 180.0},
        "alarm": [],
        "relay": [True, False, True],
        "set": {"mode": "manual", "setpoint": 50},
        "constant": {"setpoint": 60.0, "enable": True},
        "reference": [True, False],
        "keys": False,
        "srq": True,
        "year": 2026,
        "off": "OFF",
    }
