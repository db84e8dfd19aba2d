"""Faults, sensors and power of the simulated Neware cabinet."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from operando.instruments.errors import LinkLostError, ReplyTimeoutError
from operando.simulators.devices.ports import Site
from simulators.bench_of_one import ResistorCell, virtual
from simulators.neware_bench import Cabinet, LinearCell, charge, rest, step_file

UP = step_file([charge(0.01, 4.0), rest(60)])


async def charging(bench: Cabinet, seconds: float = 100.0) -> None:
    """Log in, start a charge on every channel, and wait."""
    await bench.log_in()
    assert set(await bench.start(UP, *bench.names)) == {"ok"}
    await bench.sleep(seconds)
    assert all(bench.device.channel_relays.values())


# -- power


@virtual
async def test_a_power_loss_opens_the_relays_and_the_tests_go_on_afterwards(
    tmp_path: Path,
) -> None:
    cells = [LinearCell(slope=0.1), LinearCell(slope=0.1)]
    bench = Cabinet(tmp_path, *cells)
    await charging(bench)
    bench.faults.inject("reboot 60 s")
    assert not bench.device.relay_closed
    with pytest.raises(LinkLostError):
        await bench.ask("<cmd>getdevinfo</cmd>")
    with pytest.raises(LinkLostError):
        await bench.log_in()
    await bench.sleep(59.0)
    assert not bench.device.relay_closed
    await bench.sleep(2.0)
    await bench.log_in()
    assert all(bench.device.channel_relays.values())
    assert await bench.log() == [100000, 100215, 100213, 100007]
    await bench.sleep(900.0)
    step, _ = await bench.layers()
    assert float(step["cap"]) == pytest.approx(9.0 / 3600, rel=3e-4)
    assert float(step["steptime"]) == pytest.approx(900e3, abs=300.0)
    for cell in cells:
        assert cell.charge == pytest.approx(9.0, rel=3e-4)


@virtual
async def test_a_power_loss_may_stop_the_tests(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path, power_loss="stop")
    await charging(bench)
    bench.faults.inject("reboot 5 s")
    await bench.sleep(6.0)
    await bench.log_in()
    assert await bench.each("getchlstatus") == ["stop"]
    assert not bench.device.relay_closed
    assert await bench.each("continue") == ["ok"]


@virtual
async def test_power_may_be_lost_at_any_moment(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path, start_time=1.0, stop_time=1.0)
    await bench.log_in()
    await bench.start(UP)
    bench.faults.inject("reboot 5 s")  # before the relay has closed
    await bench.sleep(2.0)
    bench.faults.inject("reboot 5 s")  # while it is still off
    await bench.sleep(5.5)
    await bench.log_in()
    assert await bench.each("getchlstatus") == ["working"]
    assert bench.device.relay_closed
    await bench.each("stop")
    bench.faults.inject("reboot 5 s")  # while it is stopping
    await bench.sleep(5.5)
    await bench.log_in()
    assert await bench.each("getchlstatus") == ["stop"]
    assert not bench.device.relay_closed


@virtual
async def test_a_lost_link_leaves_the_channels_alone(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path)
    await charging(bench)
    bench.faults.inject("drop 10 s")
    await bench.sleep(11.0)
    assert bench.device.relay_closed
    with pytest.raises(LinkLostError):
        await bench.each("getchlstatus")
    await bench.wire.reopen()
    with pytest.raises(ReplyTimeoutError):  # a new connection has to log in
        await bench.each("getchlstatus")
    await bench.log_in()
    assert await bench.each("getchlstatus") == ["working"]


# -- faults inside


@virtual
async def test_a_refusal_answers_false_and_does_nothing(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path)
    await charging(bench)
    bench.faults.inject("nak once")
    assert await bench.each("stop") == ["false"]
    await bench.sleep(1.0)
    assert bench.device.relay_closed
    assert await bench.each("stop") == ["ok"]


@virtual
async def test_an_overload_breaks_the_test_off(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path)
    await charging(bench)
    bench.faults.inject("overload")
    await bench.sleep(11.0)
    assert (await bench.inquire())[0]["voltage"] == "5.5"
    assert await bench.each("getchlstatus") == ["protect"]
    assert not bench.device.relay_closed
    bench.faults.inject("none")
    assert (await bench.inquire())[0]["voltage"] != "5.5"


@virtual
async def test_an_error_protects_every_channel_at_once(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path, LinearCell(), LinearCell())
    await charging(bench)
    bench.faults.inject("error 1")
    assert not any(bench.device.channel_relays.values())
    assert await bench.each("getchlstatus", *bench.names) == ["protect", "protect"]


@virtual
async def test_another_cabinet_answers_for_other_channels_only(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path)
    await bench.log_in()
    bench.faults.inject("identity 22")
    answer = await bench.ask("<cmd>getdevinfo</cmd>")
    assert b'devid="22"' in answer
    assert b'devid="21"' not in answer
    assert await bench.start(UP, "21-1-1", "22-1-1") == ["false", "ok"]
    bench.faults.inject("none")
    assert await bench.each("getchlstatus") == ["working"]


@virtual
async def test_unplugged_leads_end_a_charge_at_once_and_read_nothing(tmp_path: Path) -> None:
    cell = LinearCell(slope=0.1)
    bench = Cabinet(tmp_path, cell)
    await charging(bench)
    bench.faults.inject("unplug")
    passed = cell.charge
    await bench.sleep(20.0)
    (state,) = await bench.inquire()
    assert (state["step_type"], state["voltage"], state["current"]) == ("rest", "0", "0")
    bench.faults.inject("none")
    assert cell.charge == passed
    assert float((await bench.inquire())[0]["voltage"]) == pytest.approx(cell.emf, abs=1e-4)


@virtual
async def test_leads_may_be_put_back_while_the_source_is_on(tmp_path: Path) -> None:
    cell = LinearCell(slope=0.1)
    bench = Cabinet(tmp_path, cell, sampling_interval=1.0)
    await charging(bench)
    for fault in ("unplug", "none"):
        bench.faults.inject(fault)
    assert (await bench.inquire())[0]["current"] == "0.01"


@virtual
@pytest.mark.parametrize("fault", ["garbage", "truncated", "mute", "silence"])
async def test_spoilt_replies_have_no_end_or_never_come(fault: str, tmp_path: Path) -> None:
    bench = Cabinet(tmp_path)
    await charging(bench)
    bench.faults.inject(f"{fault} once")
    with pytest.raises(ReplyTimeoutError):
        await bench.each("getchlstatus")
    await bench.log_in()
    assert await bench.each("getchlstatus") == ["working"]
    assert bench.device.relay_closed


# -- sensors


@virtual
async def test_live_and_stored_readings_have_noise_and_resolution(tmp_path: Path) -> None:
    bench = Cabinet(
        tmp_path, ResistorCell(emf=3.7), noise=1.0, current_range=0.01, inquire_decimals=12
    )
    await bench.log_in()
    await bench.start(step_file([charge(0.9e-3, 4.2)], record='<Time Value="1000"/>'))
    await bench.sleep(901.0)
    rows = await bench.rows()
    volts = [float(row["volt"]) for row in rows]
    amps = [float(row["curr"]) for row in rows]
    # 20 uV and 1e-6 of the range of 1 mA.
    assert statistics.stdev(volts) == pytest.approx(20e-6, rel=0.15)
    assert statistics.stdev(amps) == pytest.approx(1e-9, rel=0.15)
    assert statistics.mean(amps) == pytest.approx(0.9e-3, rel=1e-6)
    live = {(await bench.inquire())[0]["voltage"] for _ in range(20)}
    assert len(live) > 5


@virtual
async def test_errors_of_calibration_act_on_source_and_reading_alike(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    bench = Cabinet(
        tmp_path,
        cell,
        voltage_offset=0.01,
        warm_up_offset=0.02,
        warm_up_time=100.0,
        voltage_drift=1e-7,
        current_gain_error=0.02,
        current_offset=1e-5,
        inquire_decimals=6,
    )
    await bench.log_in()
    assert float((await bench.inquire())[0]["voltage"]) == pytest.approx(3.03, abs=1e-5)
    await bench.sleep(1000.0)
    await bench.start(UP)
    await bench.sleep(1.0)
    (state,) = await bench.inquire()
    assert float(state["current"]) == pytest.approx(0.01 + 1e-5, abs=1e-7)
    assert cell.source is not None
    level, limit = cell.source
    assert limit == pytest.approx(0.01 / 1.02)
    assert level == pytest.approx(4.0 - 0.01 - 1e-7 * 1000.0, abs=3e-6)
    bench.faults.inject("reboot 10 s")  # it is cold again
    await bench.sleep(11.0)
    await bench.log_in()
    rise = 10.0 * 0.01 / 1.02 + cell.emf
    shown = float((await bench.inquire())[0]["voltage"])
    assert shown - rise == pytest.approx(0.03, abs=3e-3)


@virtual
async def test_a_channel_without_a_cell_reads_nothing(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path)
    bench.device.add_channel(
        "empty", "21-1-8", site=Site(), options={"noise": 0.0, "warm_up_offset": 0.0}
    )
    await bench.log_in()
    assert (await bench.inquire("21-1-8"))[0]["voltage"] == "0"
    assert await bench.start(UP, "21-1-8") == ["ok"]
    await bench.sleep(100.0)
    assert await bench.each("getchlstatus", "21-1-8") == ["finish"]
