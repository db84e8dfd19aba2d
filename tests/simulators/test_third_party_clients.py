"""Clients that others wrote work against the simulated instruments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from pymeasure.instruments.keithley import Keithley2450
from pymodbus import FramerType
from pymodbus.client import ModbusTcpClient

from operando.instruments.clock import Clock, run
from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450
from operando.simulators.devices.ports import Site
from operando.simulators.devices.pt113 import SimulatedPT113Modbus
from operando.simulators.wire import TcpServer
from simulators.bench_of_one import ResistorCell, Spring
from support.serving import served

pytestmark = pytest.mark.sockets

T = TypeVar("T")


def with_pymeasure(
    port: int, use: Callable[[Keithley2450], T], **options: object
) -> tuple[T, SimulatedKeithley2450]:
    """Serve a source meter on a cell of 3.7 V and 10 ohm, and use it with PyMeasure."""

    def client() -> T:
        meter = Keithley2450(
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

    async def scenario() -> tuple[T, SimulatedKeithley2450]:
        clock = Clock("scaled", 20.0)
        device = SimulatedKeithley2450(
            "smu1",
            site=Site(ResistorCell()),
            clock=clock,
            options={"noise": 0.0, **options},
        )
        server = TcpServer(device, clock, "127.0.0.1", port)
        return await served(server, device, asyncio.to_thread(client)), device

    return run(scenario())


def test_pymeasure_identifies_and_finds_no_errors(free_port: int) -> None:
    def use(meter: Keithley2450) -> tuple[str, list[object], str, str]:
        meter.reset()
        return meter.id, meter.check_errors(), meter.complete, meter.options

    (identity, errors, complete, options), _ = with_pymeasure(free_port, use)
    assert identity == "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c"
    assert errors == []
    assert (complete, options) == ("1", "0")


def test_pymeasure_sources_a_current_and_measures_the_voltage(free_port: int) -> None:
    def use(meter: Keithley2450) -> tuple[float, float, bool, list[object]]:
        meter.reset()
        meter.apply_current(current_range=10e-3, compliance_voltage=10)
        meter.source_current = 0
        meter.enable_source()
        meter.measure_voltage(nplc=0.1)
        meter.ramp_to_current(5e-3, steps=3, pause=0.001)
        enabled = meter.source_enabled
        voltage = meter.voltage
        current = meter.source_current
        errors = meter.check_errors()
        meter.shutdown()
        assert meter.ask(":OUTP?").strip() == "0"
        return voltage, current, enabled, errors

    (voltage, current, enabled, errors), device = with_pymeasure(free_port, use)
    assert voltage == pytest.approx(3.75, abs=1e-4)
    assert current == 5e-3
    assert enabled
    assert errors == []
    assert not device.stage.output


def test_pymeasure_trips_the_compliance_and_reads_it(free_port: int) -> None:
    def use(meter: Keithley2450) -> tuple[float, int, int]:
        meter.apply_voltage(voltage_range=20, compliance_current=1e-3)
        meter.voltage_output_off_state = "HIMP"
        meter.measure_current(nplc=1, current=1e-2, auto_range=False)
        meter.source_voltage = 4.2
        meter.enable_source()
        current = meter.current
        tripped = int(meter.ask(":SOUR:VOLT:ILIM:TRIP?"))
        meter.source_voltage = 3.705
        free = int(meter.ask(":SOUR:VOLT:ILIM:TRIP?"))
        meter.disable_source()
        assert meter.ask(":OUTP?").strip() == "0"
        return current, tripped, free

    (current, tripped, free), device = with_pymeasure(free_port, use)
    assert current == pytest.approx(1e-3, rel=1e-3)
    assert (tripped, free) == (1, 0)
    assert not device.relay_closed


def test_pymeasure_reads_the_error_queue(free_port: int) -> None:
    def use(meter: Keithley2450) -> tuple[list[object], list[object]]:
        meter.write(":SOUR:VOLT 500")
        meter.write(":TRAC:FEED SENSE")
        return meter.check_errors(), meter.check_errors()

    (first, second), _ = with_pymeasure(free_port, use)
    assert [int(error[0]) for error in first] == [-222, -113]  # type: ignore[index]
    assert second == []


def test_every_property_of_pymeasure_reads_back_what_it_wrote(free_port: int) -> None:
    settings: dict[str, object] = {
        "source_mode": "current",
        "current_range": 1e-3,
        "current_nplc": 0.5,
        "compliance_current": 5e-4,
        "source_current_range": 1e-2,
        "source_current_delay": 0.5,
        "source_current_delay_auto": True,
        "voltage_range": 20.0,
        "voltage_nplc": 2.0,
        "compliance_voltage": 15.0,
        "source_voltage": 1.5,
        "source_voltage_range": 2.0,
        "source_voltage_delay": 0.25,
        "source_voltage_delay_auto": False,
        "resistance_range": 2e5,
        "resistance_nplc": 0.1,
        "wires": 4,
        "buffer_points": 1000,
        "current_filter_type": "MOV",
        "current_filter_count": 20,
        "voltage_filter_type": "REP",
        "voltage_filter_count": 5,
        "current_output_off_state": "GUAR",
        "voltage_output_off_state": "ZERO",
    }

    def use(meter: Keithley2450) -> tuple[dict[str, object], list[object]]:
        read = {}
        for name, value in settings.items():
            setattr(meter, name, value)
            read[name] = getattr(meter, name)
        meter.current_filter_state = "ON"
        meter.measure_resistance()
        meter.auto_range_source()
        meter.use_rear_terminals()
        meter.use_front_terminals()
        meter.beep(440, 0.1)
        meter.trigger()
        meter.clear()
        return read, meter.check_errors()

    (read, errors), _ = with_pymeasure(free_port, use)
    assert read == settings
    assert errors == []


def test_the_buffer_commands_of_the_2400_are_an_option(free_port: int) -> None:
    def use(meter: Keithley2450) -> tuple[list[float], list[object]]:
        meter.measure_current()
        meter.config_buffer(points=3)
        meter.start_buffer()
        meter.wait_for_buffer(timeout=10, interval=0.01)
        data = list(meter.buffer_data)
        meter.disable_buffer()
        meter.reset_buffer()
        return data, meter.check_errors()

    (data, errors), _ = with_pymeasure(
        free_port, use, accept_2400_buffer_commands=True, leads="open"
    )
    assert data == [0.0, 0.0, 0.0]
    assert errors == []


def test_pymodbus_reads_and_writes_registers(free_port: int) -> None:
    def client() -> tuple[int, int, int, int, bool]:
        with ModbusTcpClient("127.0.0.1", port=free_port, framer=FramerType.RTU) as host:
            weight = host.read_holding_registers(0, count=2, device_id=1)
            value = host.convert_from_registers(weight.registers, host.DATATYPE.INT32)
            status = host.read_holding_registers(2, count=1, device_id=1).registers[0]
            host.write_registers(0x0F, [5], device_id=1)
            setting = host.read_holding_registers(0x0F, count=1, device_id=1).registers[0]
            supply = host.read_holding_registers(0x21, count=1, device_id=1).registers[0]
            refused = host.read_holding_registers(0x40, count=1, device_id=1).isError()
        assert isinstance(value, int)
        return value, status, setting, supply, refused

    async def scenario() -> tuple[int, int, int, int, bool]:
        clock = Clock("scaled", 20.0)
        device = SimulatedPT113Modbus(
            "lc1", site=Site(frame=Spring(-123.4)), clock=clock, options={"noise": 0.0}
        )
        server = TcpServer(device, clock, "127.0.0.1", free_port)
        return await served(server, device, asyncio.to_thread(client))

    assert run(scenario()) == (-1234, 2, 5, 234, True)
