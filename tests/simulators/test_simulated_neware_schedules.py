"""The simulated Neware cabinet runs its schedules by itself: steps, limits, memory."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from operando.instruments.clock import run
from operando.simulators.cell import SimulatedCell
from operando.simulators.devices.ports import CellPort
from simulators.bench_of_one import ResistorCell, virtual
from simulators.neware_bench import (
    Cabinet,
    LinearCell,
    charge,
    hold,
    limits,
    loop,
    rest,
    step_file,
)

Rows = list[dict[str, str]]


def column(rows: Rows, name: str) -> list[float]:
    """One column as numbers."""
    return [float(row[name]) for row in rows]


async def finished(
    bench: Cabinet, steps: list[str], seconds: float, record: str = '<Time Value="10000"/>'
) -> Rows:
    """Run steps; the steps that are over after some time, when the test must be."""
    await bench.log_in()
    assert await bench.start(step_file(steps, record=record)) == ["ok"]
    await bench.sleep(seconds)
    assert await bench.each("getchlstatus") == ["finish"]
    assert not bench.device.relay_closed
    return await bench.layers()


# -- steps


@virtual
async def test_a_charge_ends_at_its_voltage_with_the_right_charge(tmp_path: Path) -> None:
    # 10 mA through 10 ohm: 4.0 V at the terminals is 3.9 V inside, 9 C above 3.0 V.
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    (layer,) = await finished(Cabinet(tmp_path, cell), [charge(0.01, 4.0)], 2000.0)
    assert (layer["steptype"], layer["stepid"], layer["cycleid"]) == ("cc", "1", "1")
    # It looks every 0.1 s near the end.
    assert float(layer["steptime"]) == pytest.approx(900e3, abs=200.0)
    assert float(layer["cap"]) == pytest.approx(9.0 / 3600, rel=2e-4)
    assert float(layer["eng"]) == pytest.approx(9.0 * 3.55 / 3600, rel=3e-4)
    assert float(layer["startvolt"]) == pytest.approx(3.1, abs=1e-5)
    assert float(layer["endvolt"]) == pytest.approx(4.0, abs=1e-5)
    assert cell.charge == pytest.approx(9.0, rel=2e-4)


@virtual
async def test_a_discharge_ends_at_its_voltage(tmp_path: Path) -> None:
    cell = LinearCell(emf=4.0, resistance=10.0, slope=0.1)
    (layer,) = await finished(Cabinet(tmp_path, cell), [charge(-0.01, 3.0)], 2000.0)
    assert layer["steptype"] == "dc"
    assert float(layer["startcurr"]) == pytest.approx(-0.01)
    assert float(layer["cap"]) == pytest.approx(9.0 / 3600, rel=2e-4)
    assert cell.charge == pytest.approx(-9.0, rel=2e-4)


@virtual
async def test_a_held_voltage_ends_at_its_current(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    steps = [charge(0.01, 4.0), hold(4.0, 1e-3, current=0.01)]
    _, held = await finished(Cabinet(tmp_path, cell), steps, 2000.0)
    # From 10 mA to 1 mA with 100 s: ln 10 of them, and 0.9 C.
    assert held["steptype"] == "cv"
    assert float(held["steptime"]) == pytest.approx(math.log(10.0) * 100e3, abs=300.0)
    assert float(held["cap"]) == pytest.approx(0.9 / 3600, rel=2e-3)
    assert float(held["endcurr"]) == pytest.approx(1e-3, rel=2e-3)


@virtual
async def test_one_step_charges_and_then_holds(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    (layer,) = await finished(Cabinet(tmp_path, cell), [hold(4.0, 1e-3, current=0.01)], 2000.0)
    assert float(layer["cap"]) == pytest.approx(9.9 / 3600, rel=3e-4)
    assert cell.charge == pytest.approx(9.9, rel=3e-4)


@virtual
async def test_a_discharge_at_constant_voltage_ends_at_its_current(tmp_path: Path) -> None:
    cell = LinearCell(emf=4.0, resistance=10.0, slope=0.1)
    (layer,) = await finished(Cabinet(tmp_path, cell), [hold(3.95, 1e-3, kind=19)], 2000.0)
    assert float(layer["startcurr"]) == pytest.approx(-5e-3, rel=1e-4)
    assert float(layer["endcurr"]) == pytest.approx(-1e-3, rel=5e-3)


@virtual
async def test_a_limit_below_the_end_current_does_not_end_a_step_early(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    bench = Cabinet(tmp_path, cell)
    (layer,) = await finished(bench, [hold(3.2, 5e-3, current=1e-3)], 3000.0)
    assert float(layer["cap"]) == pytest.approx(1.9 / 3600, rel=1e-3)


@virtual
async def test_a_smaller_current_charges_further_to_the_same_voltage(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    steps = [charge(amps, 4.0) for amps in (0.01, 0.005, 0.002)]
    layers = await finished(Cabinet(tmp_path, cell), steps, 2000.0)
    charges = [3600.0 * float(layer["cap"]) for layer in layers]
    assert charges == [
        pytest.approx(9.0, abs=3e-3),
        *[pytest.approx(q, abs=3e-3) for q in (0.5, 0.3)],
    ]


@virtual
async def test_charge_is_counted_through_a_decay(tmp_path: Path) -> None:
    # 0.1 A decaying with 20 s: 2 C.
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.5)
    (layer,) = await finished(Cabinet(tmp_path, cell), [hold(4.0, seconds=600.0)], 700.0)
    assert 3600.0 * float(layer["cap"]) == pytest.approx(2.0, rel=5e-4)


@virtual
async def test_steps_end_after_their_time(tmp_path: Path) -> None:
    steps = [rest(33.3), charge(1e-3, seconds=12.5), hold(3.0, seconds=7.0)]
    layers = await finished(Cabinet(tmp_path), steps, 100.0)
    assert [layer["steptime"] for layer in layers] == ["33300", "12500", "7000"]


@virtual
async def test_a_current_may_be_given_as_a_rate(tmp_path: Path) -> None:
    # 2 mAh at C/2 is 1 mA.
    steps = [limits(1, Rate=0.5, Time=10_000.0)]
    (layer,) = await finished(Cabinet(tmp_path), steps, 20.0)
    assert float(layer["endcurr"]) == pytest.approx(1e-3, rel=1e-6)


@virtual
async def test_a_voltage_scan_goes_at_its_rate(tmp_path: Path) -> None:
    scan = (
        'Step_Type="25"><Slope SlopeType="1" Cycle_Count="1" ItemCount="1">'
        '<Slope1 StartValue="30000" EndValue="32000" Value="10"/></Slope>'
    )
    bench = Cabinet(tmp_path, ResistorCell(emf=3.0, resistance=100.0))
    (layer,) = await finished(bench, [scan], 30.0, record='<Time Value="1000"/>')
    assert layer["steptime"] == "20000"
    rows = await bench.rows()
    assert column(rows[:11], "volt") == pytest.approx([3.0 + 0.01 * at for at in range(11)])
    assert float(rows[10]["curr"]) == pytest.approx(1e-3, rel=1e-4)


@virtual
async def test_loops_are_run_as_often_as_they_say_and_count_cycles(tmp_path: Path) -> None:
    steps = [rest(1), rest(2), rest(3), loop(2, 3), rest(4), loop(1, 2)]
    layers = await finished(Cabinet(tmp_path), steps, 100.0)
    once = [1, *[2, 3] * 3, 5]
    assert column(layers, "stepid") == once * 2
    assert column(layers, "cycleid") == [1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6]
    assert column(layers, "stepindex") == list(range(1, 17))


@virtual
async def test_a_step_whose_end_is_already_there_connects_nothing(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    steps = [
        charge(0.01, 2.9),
        charge(-0.01, 3.1),
        hold(2.9, 1e-3),
        hold(3.1, 1e-3, kind=19),
    ]
    layers = await finished(Cabinet(tmp_path, cell), steps, 10.0)
    assert len(layers) == 4
    assert all(float(layer["cap"]) == 0.0 for layer in layers)
    assert all(layer["steptime"] == "100" for layer in layers)
    assert cell.charge == 0.0


@virtual
async def test_a_discharge_never_charges_on_its_way_to_its_voltage(tmp_path: Path) -> None:
    # After the charge the terminals are at 4.0 V, but the cell rests at 3.9 V.
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    steps = [charge(0.01, 4.0), charge(-0.01, 3.95)]
    _, layer = await finished(Cabinet(tmp_path, cell), steps, 2000.0)
    assert (layer["steptype"], layer["steptime"], float(layer["cap"])) == ("dc", "100", 0.0)


@virtual
async def test_a_real_cell_is_charged_and_discharged(tmp_path: Path) -> None:
    cell = SimulatedCell.from_preset("ncm811-bare")
    rate = cell.nominal_capacity / 3600.0
    steps = [charge(rate, 4.25), hold(4.25, rate / 10, current=rate), charge(-rate, 2.6)]
    port: CellPort = cell
    bench = Cabinet(tmp_path, port)
    layers = await finished(bench, steps, 12_000.0)
    up, held, down = column(layers, "cap")
    assert 3600.0 * (up + held - down) == pytest.approx(
        cell.charge_passed(bench.clock.now()), rel=2e-3
    )


# -- by itself


@virtual
async def test_a_schedule_goes_on_while_nobody_is_connected(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    bench = Cabinet(tmp_path, cell)
    await bench.log_in()
    await bench.start(step_file([charge(0.01, 4.0), rest(100), charge(-0.01, 3.2)]))
    await bench.sleep(10.0)
    await bench.wire.close()
    await bench.sleep(1000.0)
    await bench.log_in()
    (state,) = await bench.inquire()
    assert (state["step_id"], state["step_type"], state["workstatus"]) == ("3", "dc", "working")
    assert bench.device.relay_closed
    rows = await bench.rows()
    assert column(rows, "seqid") == list(range(1, len(rows) + 1))
    assert column(rows, "testtime")[:3] == [0.0, 10_000.0, 20_000.0]


def test_polling_changes_nothing_that_is_stored(tmp_path: Path) -> None:
    async def scenario(interval: float) -> Rows:
        cell = SimulatedCell.from_preset("ncm811-bare", seed=3)
        port: CellPort = cell
        bench = Cabinet(tmp_path, port, noise=1.0)
        rate = cell.nominal_capacity / 3600.0
        steps = [charge(rate, 4.25), hold(4.25, rate / 5, current=rate), charge(-rate, 2.6)]
        await bench.log_in()
        await bench.start(step_file(steps, record='<Time Value="60000"/><Volt Value="100"/>'))
        while bench.clock.now() < 10_000.0:
            await bench.sleep(interval)
            await bench.inquire()
        return await bench.rows()

    left_alone, polled = (run(scenario(interval), virtual=True) for interval in (20_000.0, 3.7))
    assert len(left_alone) > 200
    assert left_alone == polled


@virtual
async def test_live_charge_and_time_are_of_the_step(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path, start_time=0.0, inquire_decimals=7)
    await bench.log_in()
    await bench.start(step_file([rest(10), charge(-0.01, 2.0)]))
    await bench.clock.sleep_until(bench.clock.now() - 0.0101 + 46.0)
    (state,) = await bench.inquire()
    assert (state["totaltime"], state["relativetime"]) == ("46", "36")
    assert float(state["capacity"]) == pytest.approx(0.36 / 3600, abs=1e-7)
    assert float(state["energy"]) == pytest.approx(0.36 * 2.9 / 3600, abs=1e-6)


# -- memory


@virtual
async def test_times_lie_on_a_grid_and_changes_count_from_the_last_change(tmp_path: Path) -> None:
    # 1 mV/s: 0.05 V in 50 s; a grid of 30 s beside it, as in captured rows.
    cell = LinearCell(emf=3.0, resistance=1.0, slope=0.1)
    bench = Cabinet(tmp_path, cell)
    steps = [charge(0.01, seconds=145.0)]
    await finished(bench, steps, 200.0, record='<Time Value="30000"/><Volt Value="500"/>')
    times = column(await bench.rows(), "testtime")
    grid = [time for time in times if time % 30_000 == 0]
    changes = [time for time in times if time % 30_000 != 0]
    assert grid == [0.0, 30e3, 60e3, 90e3, 120e3]
    assert changes == [pytest.approx(50e3, abs=200), pytest.approx(100e3, abs=200), 145e3]


@virtual
async def test_rows_are_given_a_thousand_at_a_time_and_tests_are_kept(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path, kept_tests=2, first_test_id=7)
    second = '<Time Value="1000"/>'
    await finished(bench, [rest(2500)], 2600.0, record=second)
    assert [len(await bench.rows(start=at, count=5000)) for at in (0, 1, 1001, 2001, 2502)] == [
        1000,
        1000,
        1000,
        501,
        0,
    ]
    for seconds in (3, 4):
        await bench.start(step_file([rest(seconds)], record=second))
        await bench.sleep(10.0)
    place = 'devtype="27" devid="21" subdevid="1" chlid="1" startpos="1" count="9"'
    counts = [
        len(await bench.listed("download", f'<download {place} testid="{number}"/>'))
        for number in (7, 8, 9, 0, 10)
    ]
    assert counts == [0, 4, 5, 5, 0]


# -- protection


@pytest.mark.parametrize(
    ("protect", "steps"),
    [
        ('<Volt><Upper Value="35000"/></Volt>', [charge(0.01, 4.0)]),
        ('<Volt><Lower Value="25000"/></Volt>', [charge(-0.01, 2.0)]),
        ('<Curr><Upper Value="5"/></Curr>', [rest(300), charge(0.01, 4.0)]),
        ('<Curr><Lower Value="-5"/></Curr>', [rest(300), charge(-0.01, 2.0)]),
        ('<Cap><Upper Value="4000"/></Cap>', [charge(0.01, 4.0)]),
    ],
)
def test_a_protection_opens_the_relay_after_its_delay(
    protect: str, steps: list[str], tmp_path: Path
) -> None:
    @virtual
    async def scenario() -> None:
        bench = Cabinet(tmp_path, LinearCell(emf=3.0, resistance=10.0, slope=0.1), start_time=0.0)
        await bench.log_in()
        await bench.start(step_file(steps, protect=protect + '<Delay_Time Value="2000"/>'))
        began = bench.clock.now()
        while (await bench.inquire())[0]["workstatus"] == "working":
            assert bench.clock.now() < began + 600.0
            await bench.sleep(0.05)
        # 400 s (300 s: a current) until the bound is passed, and 2 s more.
        reached = 300.0 if "Curr" in protect else 400.0
        assert bench.clock.now() - began == pytest.approx(reached + 2.0, abs=0.5)
        assert await bench.each("getchlstatus") == ["protect"]
        assert not bench.device.relay_closed
        assert [await bench.each("clearflag") for _ in "12"] == [["ok"], ["false"]]
        assert await bench.each("continue") == ["false"]
        assert (await bench.layers())[-1]["endseqid"] == (await bench.rows())[-1]["seqid"]
        assert await bench.start(step_file([rest(5)])) == ["ok"]

    scenario()


@virtual
async def test_a_charge_without_an_end_is_broken_off_at_the_end_of_the_range(
    tmp_path: Path,
) -> None:
    cell = LinearCell(emf=4.5, resistance=10.0, slope=0.1)
    bench = Cabinet(tmp_path, cell)
    await bench.log_in()
    await bench.start(step_file([charge(0.01)]))
    await bench.sleep(1000.0)
    assert await bench.each("getchlstatus") == ["protect"]
    assert cell.emf < 5.0


# -- stop and continue


@virtual
async def test_a_stopped_test_opens_the_relay_and_can_be_continued(tmp_path: Path) -> None:
    cell = LinearCell(emf=3.0, resistance=10.0, slope=0.1)
    bench = Cabinet(tmp_path, cell, stop_time=0.5)
    await bench.log_in()
    assert await bench.each("continue") == ["false"]
    await bench.start(step_file([charge(0.01, 4.0), rest(10)]))
    await bench.sleep(300.0)
    assert await bench.each("stop") == ["ok"]
    assert await bench.each("getchlstatus") == ["working"]
    await bench.sleep(0.6)
    assert await bench.each("getchlstatus") == ["stop"]
    assert not bench.device.relay_closed
    assert await bench.each("stop") == ["false"]
    assert (await bench.inquire())[0]["step_type"] == "--"
    await bench.sleep(1000.0)
    assert await bench.each("continue") == ["ok"]
    await bench.sleep(100.0)
    (state,) = await bench.inquire()
    assert float(state["totaltime"]) == pytest.approx(400.0, abs=1.0)
    assert float(state["relativetime"]) == pytest.approx(400.0, abs=1.0)
    await bench.sleep(520.0)
    assert await bench.each("getchlstatus") == ["finish"]
    first, second, _ = await bench.layers()
    assert float(second["cap"]) == pytest.approx(9.0 / 3600, rel=3e-4)
    assert float(second["steptime"]) == pytest.approx(900e3, abs=300.0)
    assert first["stepid"] == second["stepid"] == "1"
    assert await bench.log() == [100000, 100001, 100007, 100001]


@virtual
async def test_a_test_can_be_stopped_before_its_relay_closes(tmp_path: Path) -> None:
    cell = LinearCell()
    bench = Cabinet(tmp_path, cell, start_time=5.0, stop_time=0.2)
    await bench.log_in()
    await bench.start(step_file([charge(0.01, 4.0)]))
    (state,) = await bench.inquire()
    assert (state["step_id"], state["current"], state["relativetime"]) == ("1", "0", "0")
    assert await bench.each("stop") == ["ok"]
    await bench.sleep(20.0)
    assert await bench.each("getchlstatus") == ["stop"]
    assert cell.charge == 0.0


@virtual
async def test_channels_run_and_stop_by_themselves(tmp_path: Path) -> None:
    cells = [LinearCell() for _ in range(3)]
    bench = Cabinet(tmp_path, *cells)
    await bench.log_in()
    await bench.start(step_file([charge(0.01, 4.0)]), "21-1-1", "21-1-3")
    await bench.sleep(100.0)
    await bench.each("stop", "21-1-1")
    await bench.sleep(100.0)
    assert dict(bench.device.channel_relays) == {"21-1-1": False, "21-1-2": False, "21-1-3": True}
    for cell in cells:
        cell.terminal(bench.clock.now())
    assert [cell.charge for cell in cells] == [
        pytest.approx(1.0, rel=0.01),
        0.0,
        pytest.approx(2.0, rel=0.01),
    ]


# -- step files


GOOD = [charge(1e-3, 4.2)]


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"not xml",
        b"<root/>",
        step_file(GOOD).replace(b"Step File", b"Test File"),
        step_file(GOOD).replace(b'Num="2"', b'Num="3"'),
        step_file(GOOD).replace(b'Step_Type="6"', b'Step_Type="4"'),
        step_file(GOOD).replace(b'Step_ID="1"', b'Step_ID="2"'),
        step_file(['Step_Type="77">']),
        step_file(['Step_Type="1">']),
        step_file([limits(1, Time=1000.0)]),
        step_file([limits(1, Curr=-1.0)]),
        step_file([limits(1, Curr=1.0, Volt=4e4)]),
        step_file([limits(3, Time=1000.0)]),
        step_file([limits(1, Rate=1.0)], capacity=0.0),
        step_file([charge(0.2, 4.2)]),
        step_file([charge(1e-3, 5.1)]),
        step_file([hold(-0.1, seconds=1.0)]),
        step_file([limits(4, Time=math.inf)]),
        step_file([limits(4, Time=math.nan)]),
        step_file([rest(1), loop(2, 2)]),
        step_file([rest(1), loop(0, 2)]),
        step_file([rest(1), loop(1, 0)]),
        step_file([rest(1), loop(1, 2), loop(2, 2)]),
        step_file(['Step_Type="5"><Limit/>']),
        step_file(['Step_Type="25"><Slope ItemCount="1"/>']),
    ],
)
def test_a_step_file_that_cannot_be_run_is_refused(file: bytes, tmp_path: Path) -> None:
    @virtual
    async def scenario() -> None:
        bench = Cabinet(tmp_path)
        await bench.log_in()
        assert await bench.start(file) == ["false"]
        assert await bench.each("getchlstatus") == ["finish"]
        assert await bench.start(step_file(GOOD)) == ["ok"]

    scenario()


@virtual
async def test_a_step_file_must_be_there_and_may_be_looked_up_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "steps.xml").write_bytes(step_file(GOOD))
    place = 'devtype="27" devid="21" subdevid="1" chlid="1"'
    for folder, path, answer in (
        ("", "/nowhere/steps.xml", "false"),
        ("", str(tmp_path), "false"),
        ("", "steps.xml", "false"),
        ("", r"C:\recipes\steps.xml", "false"),
        (str(tmp_path), r"C:\recipes\steps.xml", "ok"),
        (str(tmp_path), r"C:\recipes\other.xml", "false"),
    ):
        bench = Cabinet(tmp_path, step_folder=folder)
        await bench.log_in()
        body = f"<list count='1'><start {place} barcode='S1'>{path}</start></list>"
        assert (await bench.listed("start", body))[0]["start"] == answer, path


@virtual
async def test_a_loop_of_steps_that_take_no_time_still_takes_time(tmp_path: Path) -> None:
    bench = Cabinet(tmp_path, LinearCell(emf=4.0))
    await bench.log_in()
    await bench.start(
        step_file([charge(1e-3, 3.0), loop(1, 10**9)], record='<Time Value="0.0001"/>')
    )
    await bench.sleep(60.0)
    assert 500 <= int((await bench.inquire())[0]["cycle_id"]) <= 600
