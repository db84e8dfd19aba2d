"""What the simulated Neware server says is as old as its last look at its channels."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError
from operando.simulators.devices.neware import SimulatedNewareBts8
from operando.simulators.devices.ports import CellPort, Site
from simulators.bench_of_one import virtual
from simulators.neware_bench import Cabinet, LinearCell, charge, rest, step_file

UP = step_file([charge(0.01, 4.0)], record='<Time Value="1000"/>')


def steep() -> LinearCell:
    """1 mV/s at 10 mA: every second shows in four decimals."""
    return LinearCell(emf=3.0, resistance=10.0, slope=0.1)


async def logged_in(folder: Path, *cells: CellPort, **options: object) -> Cabinet:
    """A cabinet that never waits, looked at from t = 0, and half a second later."""
    options = {"start_time": 0.0, "stop_time": 0.0, "latency": 0.0, **options}
    bench = Cabinet(folder, *(cells or (steep(),)), channels=(), **options)
    await bench.log_in()
    assert bench.clock.now() < 0.1
    await bench.clock.sleep_until(0.5)
    return bench


# -- refresh


@virtual
async def test_live_data_stand_still_between_two_looks(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, refresh=5.0)
    await bench.start(UP)
    await bench.clock.sleep_until(5.5)
    (first,) = await bench.inquire()
    assert (first["workstatus"], first["totaltime"]) == ("working", "4.5")
    await bench.clock.sleep_until(9.9)
    assert await bench.inquire() == [first]
    await bench.clock.sleep_until(10.5)
    (second,) = await bench.inquire()
    assert second["totaltime"] == "9.5"
    assert float(second["voltage"]) - float(first["voltage"]) == pytest.approx(5e-3, abs=2e-4)


@virtual
async def test_a_start_acts_at_once_and_is_seen_at_the_next_look(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, refresh=5.0)
    assert await bench.start(UP) == ["ok"]
    await bench.clock.sleep_until(4.9)
    assert bench.device.relay_closed
    assert await bench.start(UP) == ["false"]  # the channel itself is busy
    assert await bench.each("getchlstatus") == ["finish"]
    (state,) = await bench.inquire()
    assert (state["workstatus"], state["step_type"], state["barcode"]) == ("finish", "--", "")
    assert b">true</channel>" in await bench.ask("<cmd>getdevinfo</cmd>")
    await bench.clock.sleep_until(5.1)
    assert await bench.each("getchlstatus") == ["working"]
    (state,) = await bench.inquire()
    assert (state["workstatus"], state["step_type"], state["barcode"]) == ("working", "cc", "S1")
    assert b">false</channel>" in await bench.ask("<cmd>getdevinfo</cmd>")


@virtual
async def test_a_stop_opens_the_relay_before_the_server_says_so(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, refresh=5.0)
    await bench.start(UP)
    await bench.clock.sleep_until(6.0)
    assert await bench.each("stop") == ["ok"]
    await bench.clock.sleep_until(9.9)
    assert not bench.device.relay_closed
    assert await bench.each("getchlstatus") == ["working"]
    assert (await bench.inquire())[0]["current"] == "0.01"
    await bench.clock.sleep_until(10.1)
    assert await bench.each("getchlstatus") == ["stop"]
    assert (await bench.inquire())[0]["current"] == "0"


@virtual
async def test_one_look_is_at_all_channels(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, steep(), steep(), refresh=5.0)
    await bench.start(UP, *bench.names)
    await bench.clock.sleep_until(7.0)
    assert [state["totaltime"] for state in await bench.inquire(*bench.names)] == ["4.5", "4.5"]


@virtual
async def test_stored_rows_do_not_wait_for_a_look(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, refresh=100.0)
    await bench.start(UP)
    await bench.clock.sleep_until(10.7)
    assert len(await bench.rows()) == 11
    assert await bench.each("getchlstatus") == ["finish"]


@virtual
async def test_after_a_power_loss_the_server_looks_again(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, refresh=5.0, power_loss="stop")
    await bench.start(UP)
    await bench.clock.sleep_until(6.0)
    assert await bench.each("getchlstatus") == ["working"]
    bench.faults.inject("reboot 1 s")
    await bench.clock.sleep_until(8.0)
    await bench.log_in()
    assert await bench.each("getchlstatus") == ["stop"]
    await bench.start(UP)
    await bench.clock.sleep_until(11.9)  # its looks are counted from 7 s now
    assert await bench.each("getchlstatus") == ["stop"]
    await bench.clock.sleep_until(12.1)
    assert await bench.each("getchlstatus") == ["working"]


def test_looks_leave_no_trace_in_what_is_stored(tmp_path: Path) -> None:
    async def scenario(refresh: float) -> list[dict[str, str]]:
        bench = Cabinet(tmp_path, steep(), noise=1.0, refresh=refresh)
        await bench.log_in()
        await bench.start(UP)
        await bench.sleep(100.0)
        return await bench.rows()

    left_alone, looked_at = (run(scenario(refresh), virtual=True) for refresh in (0.0, 0.7))
    assert len(left_alone) == 100
    assert left_alone == looked_at


# -- row_lag


@virtual
async def test_stored_rows_are_seen_so_long_after_they_were_measured(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, row_lag=30.0)
    await bench.start(UP)
    await bench.clock.sleep_until(30.2)
    chl = '<chl devtype="27" devid="21" subdevid="1" chlid="1" testid="0">true</chl>'
    body = f'<list count="1">{chl}</list>'
    (known,) = await bench.listed("inquiredf", body)
    assert (known["testid"], known["count"], known["chl"]) == ("143", "0", "false")
    assert await bench.rows() == []
    assert await bench.log() == []
    assert (await bench.inquire())[0]["totaltime"] == "29.7"  # live data are not late
    await bench.clock.sleep_until(35.7)
    rows = await bench.rows()
    assert [row["testtime"] for row in rows] == [f"{at}000" if at else "0" for at in range(6)]
    assert (await bench.listed("inquiredf", body))[0]["count"] == "6"
    assert await bench.rows(start=7) == []
    assert await bench.log() == [100000]


@virtual
async def test_a_step_is_told_when_its_last_row_is_seen(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, row_lag=10.0)
    await bench.start(step_file([rest(5), rest(20)], record='<Time Value="1000"/>'))
    await bench.clock.sleep_until(15.4)
    assert await bench.layers() == []
    assert len(await bench.rows()) == 5
    await bench.clock.sleep_until(15.7)
    (layer,) = await bench.layers()
    assert layer["endseqid"] == "6"
    await bench.clock.sleep_until(30.0)
    assert await bench.each("getchlstatus") == ["finish"]
    assert len(await bench.layers()) == 1
    await bench.clock.sleep_until(36.0)
    assert len(await bench.layers()) == 2
    assert len(await bench.rows()) == int((await bench.layers())[-1]["endseqid"])


# -- frozen_after


@virtual
@pytest.mark.parametrize("refresh", [0.0, 5.0])
async def test_a_frozen_server_goes_on_answering_with_what_it_had(
    refresh: float, tmp_path: Path
) -> None:
    cell = steep()
    bench = await logged_in(tmp_path, cell, refresh=refresh, frozen_after=20.5)
    await bench.start(UP)
    await bench.clock.sleep_until(21.0)
    live, rows = await bench.inquire(), await bench.rows()
    assert live[0]["totaltime"] == ("19.5" if refresh else "20")
    assert len(rows) == 21
    await bench.clock.sleep_until(500.0)
    assert await bench.inquire() == live
    assert await bench.rows() == rows
    cell.terminal(bench.clock.now())
    assert cell.charge == pytest.approx(4.995, abs=1e-3)  # the channel goes on
    assert await bench.each("stop") == ["ok"]
    await bench.sleep(1.0)
    assert not bench.device.relay_closed
    assert await bench.each("getchlstatus") == ["working"]
    assert await bench.log() == [100000]


@virtual
async def test_a_power_loss_wakes_a_frozen_server_up_for_a_while(tmp_path: Path) -> None:
    bench = await logged_in(tmp_path, frozen_after=20.0)
    await bench.start(UP)
    await bench.clock.sleep_until(100.0)
    assert (await bench.inquire())[0]["totaltime"] == "19.5"
    bench.faults.inject("reboot 1 s")
    await bench.clock.sleep_until(102.0)
    await bench.log_in()
    assert (await bench.inquire())[0]["totaltime"] == "100.5"
    await bench.clock.sleep_until(150.0)
    assert (await bench.inquire())[0]["totaltime"] == "119.5"


# -- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"refresh": 1e-6}, "refresh = 1e-06: write 0 or 0.001 s at least"),
        ({"refresh": -1.0}, "refresh = -1.0: write a number from 0"),
        ({"row_lag": -1.0}, "row_lag = -1.0: write a number from 0"),
        ({"frozen_after": "soon"}, "frozen_after = 'soon': write a number"),
    ],
)
def test_a_wrong_time_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        SimulatedNewareBts8("n1", site=Site(), clock=Clock("virtual"), options=options)
