"""The driver of a BTS 8 channel that runs stages of a protocol on board."""

from __future__ import annotations

import math

import pytest

from operando.drivers.neware import NewareBTS8
from operando.drivers.neware_program import MOST_STEPS
from operando.instruments.conditions import CURRENT, ELAPSED, PRESSURE, VOLTAGE
from operando.instruments.errors import GarbledReplyError, InstrumentError, LinkLostError
from operando.instruments.on_board import Ends, Sequencer, Stage, StoredReading, ends_of
from operando.instruments.roles import Galvanostatic, OpenCircuit, Potentiostatic, Protection
from operando.instruments.samples import Regulation, Status
from wire.cycler_server import Bench, Unit
from wire.transcript import in_virtual_time

KEY = "21-1-2"
WINDOW = Protection((2.5, 4.25), 5e-3)
CHARGE = Stage(Galvanostatic(3e-3, 4.25), (abs(CURRENT) <= 6e-4,))
REST = Stage(OpenCircuit(4.75), (ELAPSED >= 300.0,))
DISCHARGE = Stage(Galvanostatic(-3e-3, 2.5), (VOLTAGE <= 2.5,))
CYCLE = (CHARGE, REST, DISCHARGE, REST)


async def begun(stages: tuple[Stage, ...] = CYCLE) -> tuple[Bench, NewareBTS8, Unit]:
    """A driver whose stages have been started."""
    bench = Bench(KEY)
    driver = bench.driver(KEY)
    await driver.connect()
    await driver.prepare(WINDOW)
    await driver.begin(stages, 60.0)
    return bench, driver, bench.server.units[KEY]


def kinds(unit: Unit) -> list[str]:
    """Step types of the schedule that a channel was given."""
    return [part.partition('"')[0] for part in unit.schedule.split('Step_Type="')[1:]]


@pytest.mark.parametrize(
    ("stage", "ends"),
    [
        (CHARGE, Ends(taper=6e-4)),
        (REST, Ends(elapsed=300.0)),
        (DISCHARGE, Ends(cutoff=2.5)),
        (Stage(DISCHARGE.setpoint, (VOLTAGE <= 2.5, ELAPSED >= 60.0)), Ends(2.5, None, 60.0)),
        (Stage(DISCHARGE.setpoint, (VOLTAGE <= 2.6,)), None),  # not the cut-off of the hardware
        (Stage(DISCHARGE.setpoint, (VOLTAGE >= 2.5,)), None),
        (Stage(REST.setpoint, (VOLTAGE <= 2.5,)), None),
        (Stage(REST.setpoint, (ELAPSED <= 60.0,)), None),
        (Stage(REST.setpoint, (ELAPSED >= 60.0, ELAPSED >= 70.0)), None),
        (Stage(REST.setpoint, ((ELAPSED >= 60.0) & (VOLTAGE >= 3.0),)), None),
        (Stage(REST.setpoint, (PRESSURE >= 1e6,)), None),
        (Stage(REST.setpoint, (abs(VOLTAGE.slope(60.0)) <= 1e-5,)), None),
        (Stage(CHARGE.setpoint, (CURRENT <= 6e-4,)), None),
    ],
)
def test_only_what_numbers_can_say_ends_a_stage_on_board(stage: Stage, ends: Ends | None) -> None:
    assert ends_of(stage) == ends


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (CYCLE, ""),
        ((Stage(DISCHARGE.setpoint, (VOLTAGE <= 2.5, ELAPSED >= 60.0)),), ""),
        ((Stage(REST.setpoint, (PRESSURE >= 1e6,)),), "cannot end when pressure >= 1 MPa"),
        ((Stage(CHARGE.setpoint, (abs(CURRENT) <= 6e-4, ELAPSED >= 60.0)),), "is no step of it"),
        ((Stage(REST.setpoint, (ELAPSED >= 0.0,)),), "is no step of it"),
        ((Stage(DISCHARGE.setpoint, (VOLTAGE <= 2.5, ELAPSED >= 0.0)),), "is no step of it"),
        ((Stage(CHARGE.setpoint, (abs(CURRENT) <= 0.0,)),), "is no step of it"),
        ((Stage(Potentiostatic(4.0, 1e-3), (ELAPSED >= 60.0,)),), "which way"),
        ((Stage(Galvanostatic(7.0, 4.25), (VOLTAGE >= 4.25,)),), "7 A is outside"),
        (CYCLE * MOST_STEPS, "steps are more than"),
    ],
)
@in_virtual_time
async def test_what_it_cannot_run_exactly_it_leaves_to_software(
    stages: tuple[Stage, ...], words: str
) -> None:
    bench = Bench(KEY)
    driver = bench.driver(KEY)
    assert isinstance(driver, Sequencer)
    found = driver.why_not(stages)
    assert (found == "") == (words == "")
    assert words in found
    assert bench.server.asked == []


@in_virtual_time
async def test_a_cycle_is_one_schedule_within_the_bounds_of_the_run() -> None:
    _, _, unit = await begun()
    assert kinds(unit) == ["1", "3", "4", "2", "4", "6"]
    assert 'Stop_Curr Value="0.600000"' in unit.schedule
    assert 'Time Value="300000.000000"' in unit.schedule
    assert 'Upper Value="43000.000000"' in unit.schedule
    assert 'Lower Value="24500.000000"' in unit.schedule
    assert 'Time Value="1000.000000"' in unit.schedule  # its own setting, oftener than 60 s


@in_virtual_time
async def test_it_tells_which_stage_is_at_work() -> None:
    _, driver, unit = await begun()
    seen = []
    for step, word in ((1, "cc"), (2, "cv"), (3, "rest"), (4, "dc"), (5, "rest")):
        unit.work(unit.barcode, word, "0", step)
        unit.total += 1.0
        progress = await driver.progress()
        assert progress.reading.status is not Status.FAULT
        seen.append((progress.stage, math.isnan(progress.elapsed)))
    assert seen == [(0, False), (0, True), (1, False), (2, False), (3, False)]
    unit.state, unit.step, unit.step_type = "finish", 0, "--"
    assert (await driver.progress()).stage == 4


@in_virtual_time
async def test_time_and_charge_go_on_from_constant_current_to_constant_voltage() -> None:
    _, driver, unit = await begun()
    unit.work(unit.barcode, "cc", "0.003", 1)
    unit.store(3e-3, 1000.0, 3.0)
    (driven,) = await driver.collect()
    assert driven == StoredReading(0, 1000.0, 3.7, 3e-3, driven.charge, 0.0, Regulation.CURRENT)
    assert driven.charge == pytest.approx(3.0)
    unit.work(unit.barcode, "cv", "0.003", 2)
    unit.store(2e-3, 10.0, 0.025)
    unit.work(unit.barcode, "rest", "0", 3)
    unit.store(0.0, 0.0)
    unit.work(unit.barcode, "dc", "-0.003", 4)
    unit.store(-3e-3, 10.0, 0.03)
    held, rest, discharge = await driver.collect()
    assert (held.stage, held.elapsed) == (0, 1010.0)
    assert held.charge == pytest.approx(3.025)
    assert held.regulation is Regulation.VOLTAGE
    assert (rest.stage, rest.elapsed, rest.charge) == (1, 0.0, 0.0)
    assert (discharge.stage, discharge.elapsed) == (2, 10.0)
    assert discharge.charge == pytest.approx(-0.03)


@in_virtual_time
async def test_a_new_connection_goes_on_with_the_next_row() -> None:
    bench, driver, unit = await begun()
    for second in range(3):
        unit.store(3e-3, second + 1.0)
    unit.step = 1
    unit.rows = [row.replace('stepid="0"', 'stepid="1"') for row in unit.rows]
    assert [row.elapsed for row in await driver.collect()] == [1.0, 2.0, 3.0]
    for second in range(3, 2500):
        unit.store(3e-3, second + 1.0)
    assert bench.server.line is not None
    bench.server.line.drop()
    with pytest.raises(LinkLostError):
        await driver.collect()
    await driver.reconnect()
    rows = await driver.collect()
    assert [row.elapsed for row in rows] == [float(n) for n in range(4, 2501)]


@in_virtual_time
async def test_what_was_stopped_can_still_be_collected() -> None:
    _, driver, unit = await begun()
    unit.store(3e-3, 5.0, 0.015)
    await driver.safe()
    (row,) = await driver.collect()
    assert row.charge == pytest.approx(0.015)
    assert (await driver.progress()).reading.status is Status.FAULT


@in_virtual_time
async def test_somebody_elses_test_is_not_taken_for_the_schedule() -> None:
    _, driver, unit = await begun()
    unit.work("theirs", "cc", "0.003", 1)
    assert (await driver.progress()).reading.status is Status.FAULT


@pytest.mark.parametrize("state", ["working", "finish"])
@in_virtual_time
async def test_rows_of_somebody_elses_test_are_never_taken(state: str) -> None:
    _, driver, unit = await begun()
    unit.test += 1
    unit.rows.clear()
    unit.work("theirs", "cc", "0.05", 1)
    unit.store(50e-3, 1.0, 0.05)
    unit.state = state
    assert (await driver.progress()).reading.status is Status.FAULT
    with pytest.raises(InstrumentError, match="somebody else has started one"):
        await driver.collect()


@pytest.mark.parametrize("state", ["stop", "protect", "pause"])
@in_virtual_time
async def test_a_schedule_that_stopped_before_its_end_is_a_fault(state: str) -> None:
    _, driver, unit = await begun()
    unit.state, unit.step_type, unit.step = state, "--", 0
    progress = await driver.progress()
    assert progress.reading.status is Status.FAULT
    assert progress.stage == 0


@in_virtual_time
async def test_a_row_of_a_step_that_was_never_written_is_refused() -> None:
    _, driver, unit = await begun()
    unit.step = 9
    unit.store(3e-3)
    with pytest.raises(GarbledReplyError, match=r"a row of step 9; the schedule .* has 5"):
        await driver.collect()


@in_virtual_time
async def test_a_test_whose_clock_stood_still_is_a_fault() -> None:
    bench, driver, unit = await begun()
    for lost in (0.0, 9.0, 9.5):
        await bench.clock.sleep(60.0 + lost)
        unit.total += 60.0
        reading = (await driver.progress()).reading
        if lost < 9.5:
            assert reading.status is not Status.FAULT
    assert reading.status is Status.FAULT


@in_virtual_time
async def test_small_currents_of_steps_on_board_need_no_download_each() -> None:
    bench, driver, unit = await begun()
    unit.work(unit.barcode, "cc", "0.0031", 1)
    currents = []
    for second in range(30):
        await bench.clock.sleep(1.0)
        unit.total += 1.0
        unit.store(3.14e-3, second + 1.0, 3.14e-3 * (second + 1.0))
        currents.append((await driver.progress()).reading.current)
    assert set(currents) == {3.14e-3}
    assert bench.server.count("download") == 3
    assert len(await driver.collect()) == 30
    # One that rounds to something else is asked for at once.
    unit.current = "0.0029"
    unit.store(2.86e-3, 31.0, 0.1)
    await bench.clock.sleep(1.0)
    unit.total += 1.0
    assert (await driver.progress()).reading.current == 2.86e-3
