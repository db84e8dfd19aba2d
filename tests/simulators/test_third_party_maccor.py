"""The public client of BatteryDataAlliance/pymacnet works against the simulated Maccor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pymacnet
import pytest

from operando.instruments.clock import Clock, run
from operando.simulators.devices.maccor import SimulatedMaccor
from operando.simulators.devices.ports import Site
from operando.simulators.wire import TcpServer
from simulators.bench_of_one import ResistorCell

pytestmark = pytest.mark.sockets

T = TypeVar("T")
Ports = Callable[[int], tuple[int, ...]]
SPEED = 20.0


def with_pymacnet(
    ports: tuple[int, ...], use: Callable[[Any], T], **options: object
) -> tuple[T, SimulatedMaccor, dict[str, ResistorCell]]:
    """Serve a tester with cells of 3.7 V and 10 ohm on channels 1 and 3; use channel 1."""
    port, other_port = ports
    cells = {"1": ResistorCell(), "3": ResistorCell()}

    def client() -> T:
        channel = pymacnet.ChannelInterface(
            {
                "channel": 1,
                "test_name": "",
                "test_procedure": "Short",
                "v_max_safety_limit_v": 4.3,
                "v_min_safety_limit_v": 2.4,
                "i_max_safety_limit_a": 0.1,
                "i_min_safety_limit_a": 0.1,
                "power_safety_limit_chg_w": 1.0,
                "power_safety_limit_dsg_w": 1.0,
                "v_max_v": 4.2,
                "v_min_v": 2.5,
                "c_rate_ah": 0.1,
                "data_record_time_s": 1.0,
                "data_record_voltage_delta_vbys": 0.0,
                "data_record_current_delta_abys": 0.0,
                "server_ip": "127.0.0.1",
                "json_msg_port": port,
                "bin_msg_port": other_port,
                "msg_buffer_size_bytes": 4096,
            }
        )
        try:
            return use(channel)
        finally:
            channel._CyclerInterface__json_msg_socket.close()
            channel._CyclerInterface__bin_msg_socket.close()

    async def scenario() -> tuple[T, SimulatedMaccor]:
        clock = Clock("scaled", SPEED)
        shared = {"noise": 0.0}
        device = SimulatedMaccor(
            "mac1",
            site=Site(cells["1"]),
            clock=clock,
            channel="1",
            options={
                **shared,
                "procedures": "Short = charge 1C to 4.2 V; rest 5 s; discharge 1C to 3 V",
                "watchdog": 0.0,
                # So slow that its commands are never too fast for the tester.
                "latency": 0.1,
                **options,
            },
        )
        device.add_channel("mac3", "3", site=Site(cells["3"]), options=shared)
        servers = (
            TcpServer(device, clock, "127.0.0.1", port),
            TcpServer(device.binary, clock, "127.0.0.1", other_port),
        )
        try:
            for server in servers:
                await server.start()
            return await asyncio.to_thread(client), device
        finally:
            for server in servers:
                await server.close()
            device.close()

    used, device = run(scenario())
    return used, device, cells


def until(look: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """Look until what is seen is wanted, at most 10 s of the wall."""
    deadline = time.monotonic() + 10.0
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, seen
    return seen


def test_pymacnet_reads_what_the_tester_is(free_ports: Ports) -> None:
    def use(channel: Any) -> tuple[Any, ...]:
        return (
            channel.get_num_channels(),
            channel.read_system_info(),
            channel.read_general_info(),
            # Its own call for all channels asks for channel -1, which no tester has.
            channel._send_receive_json_msg(
                {
                    "jsonrpc": "2.0",
                    "method": "MacNet",
                    "params": {"FClass": 4, "FNum": 1, "Chan": 1, "Len": 12},
                    "id": 1987,
                }
            )["result"]["Status"],
            channel.read_channel_status(),
            channel.read_aux(),
            channel.set_channel_variable(3, -1.25),
        )

    used, device, _ = with_pymacnet(free_ports(2), use, channels=12, aux="V, C")
    count, system, general, states, status, aux, done = used
    assert count == 12
    assert system["MacTest32EXEversionBuild"] == 18
    assert general["SystemID"] == "SIMULATED"
    assert states == [{"RF1": 0, "RF2": 0, "Stat": 0}] * 12
    assert set(status) == set(pymacnet.messages.rx_read_status_msg["result"])
    assert status["Chan"] == 1
    assert status["Voltage"] == pytest.approx(3.7, abs=1e-4)
    assert status["Current"] == 0
    assert aux == [pytest.approx(3.7, abs=1e-4), pytest.approx(25.0, abs=0.2)]
    assert done
    assert device.channel(0).variables[2] == -1.25


def test_the_call_of_pymacnet_for_all_channels_is_an_illegal_value(free_ports: Ports) -> None:
    def use(channel: Any) -> None:
        with pytest.raises(KeyError, match="result"):
            channel.read_all_channel_statuses()

    with_pymacnet(free_ports(2), use)


def test_pymacnet_drives_a_cell_in_direct_mode(free_ports: Ports) -> None:
    def use(channel: Any) -> tuple[Any, ...]:
        def ready() -> bool:
            return bool(channel.read_channel_status()["Stat"] == 2)

        assert channel.start_test_with_direct_control()
        until(ready, bool)
        idle = channel.read_channel_status()
        assert channel.set_direct_mode_output(0.02, 4.2)
        charging = channel.read_channel_status()
        assert channel.set_direct_mode_output(0.08, 4.2)
        held = channel.read_channel_status()
        assert channel.set_direct_mode_output(-0.02)
        discharging = channel.read_channel_status()
        assert channel.reset_channel()
        return idle, charging, held, discharging, channel.read_channel_status()

    used, device, cells = with_pymacnet(free_ports(2), use)
    idle, charging, held, discharging, after = used
    assert (idle["RF1"], idle["Current"]) == (1, 0)
    assert (charging["RF1"], discharging["RF1"]) == (1, 2)
    assert charging["Current"] == pytest.approx(0.02, abs=2e-5)
    assert charging["Voltage"] == pytest.approx(3.9, abs=1e-3)
    assert held["Voltage"] == pytest.approx(4.2, abs=1e-3)
    assert held["Current"] == pytest.approx(0.05, abs=1e-4)
    assert discharging["Current"] == pytest.approx(0.02, abs=2e-5)
    assert discharging["Voltage"] == pytest.approx(3.5, abs=1e-3)
    assert after["Stat"] == 0
    assert not device.relay_closed
    assert cells["3"].charge == 0.0


@pytest.mark.parametrize("offset", [0, 2])
def test_the_rest_of_pymacnet_reaches_its_channel_only_with_an_offset(
    free_ports: Ports, offset: int
) -> None:
    def use(channel: Any) -> tuple[bool, Any]:
        assert channel.start_test_with_direct_control()
        until(channel.read_channel_status, lambda seen: seen["Stat"] == 2)
        assert channel.set_direct_mode_output(0.02, 4.2)
        return channel.set_direct_mode_output(0), channel.read_channel_status()

    used, device, _ = with_pymacnet(free_ports(2), use, binary_direct_offset=offset)
    told, seen = used
    assert told, "the client takes any reply for a success"
    assert seen["RF1"] == (4 if offset else 1)
    assert device.channel_relays == {"1": not offset, "3": False}


def test_pymacnet_runs_a_procedure_that_lies_on_the_tester(free_ports: Ports) -> None:
    def use(channel: Any) -> tuple[Any, ...]:
        assert channel.start_test_with_procedure()
        again = channel.start_test_with_procedure()
        done = until(channel.read_channel_status, lambda seen: seen["Stat"] == 4)
        channel.reset_channel()
        return again, done, channel.read_channel_status()

    # 0.1 A would take the cell of 10 ohm beyond both limits at once.
    used, device, cells = with_pymacnet(free_ports(2), use)
    again, done, after = used
    assert not again, "the channel is in use"
    assert (done["RF1"], done["RF2"], done["Step"]) == (31, 193, 4)
    assert after["Stat"] == 0
    assert cells["1"].charge != 0.0
    assert not device.relay_closed
