"""What goes on without the host: adopting it, whole schedules, what the server stored of them."""

from __future__ import annotations

import pytest

from operando.drivers.neware import NewareBTS8
from operando.drivers.neware_channel import NewareSettings
from operando.drivers.neware_steps import Bounds, CurrentStep, Recording, RestStep, step_file
from operando.instruments.errors import BadInputError, ReportedError, UnsupportedError
from operando.instruments.parameters import parameters_from
from operando.instruments.roles import Galvanostatic, Protection
from operando.instruments.samples import Regulation, Status
from wire.cycler_server import Bench, Unit
from wire.transcript import in_virtual_time

KEY = "21-1-2"
WINDOW = Protection((2.5, 4.25), 5e-3)
CHARGE = Galvanostatic(1.569e-3, 4.25)


async def ready(bench: Bench) -> tuple[NewareBTS8, Unit]:
    """A driver that is connected and prepared, and its channel."""
    driver = bench.driver(KEY)
    await driver.connect()
    await driver.prepare(WINDOW)
    return driver, bench.server.units[KEY]


@in_virtual_time
async def test_a_computer_that_comes_back_adopts_what_went_on() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    await driver.close()
    unit.total = 3600.0
    unit.store(1.569e-3, 3600.0)
    back = bench.driver(KEY)
    await back.connect()
    assert not await back.adopt(Galvanostatic(1e-3, 4.25), WINDOW)
    assert await back.adopt(CHARGE, WINDOW)
    reading = await back.measure()
    assert (reading.current, reading.regulation) == (1.569e-3, Regulation.CURRENT)
    assert bench.server.count("stop") == 0
    unit.state = "stop"
    await bench.clock.sleep(1.0)
    assert (await back.measure()).status is Status.FAULT


SCHEDULE = step_file(
    [CurrentStep(1e-3, 4.2), RestStep(600.0)],
    Bounds(2.5, 4.3, 2e-3),
    Recording(),
    date="20260101000000",
    remark="formation",
)


@in_virtual_time
async def test_a_schedule_is_loaded_started_continued_and_comes_to_its_end() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.load(SCHEDULE)
    assert bench.server.count("start") == 0
    await driver.start()
    assert unit.schedule == SCHEDULE
    with pytest.raises(UnsupportedError, match="only a paused test"):
        await driver.carry_on()
    unit.state = "pause"
    assert (await driver.measure()).regulation is Regulation.OPEN
    await driver.carry_on()
    assert (await driver.running()).state == "working"
    unit.state = "finish"
    await bench.clock.sleep(1.0)
    assert (await driver.measure()).status is Status.OK
    await driver.stop()


@in_virtual_time
async def test_a_schedule_without_bounds_or_beyond_the_channel_is_refused() -> None:
    driver = Bench(KEY).driver(KEY, settings=NewareSettings(voltage=(2.5, 4.2)))
    with pytest.raises(UnsupportedError, match="protection at"):
        await driver.load(SCHEDULE)
    with pytest.raises(BadInputError, match="no step file"):
        await driver.load("<root/>")
    with pytest.raises(UnsupportedError, match="no schedule"):
        await driver.start()


@in_virtual_time
async def test_all_rows_of_a_test_are_downloaded_in_chunks() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.rows = []
    unit.work("test", "cc", "0.001")
    for number in range(2500):
        unit.store(1e-3, float(number))
    rows = await driver.rows()
    assert [row.number for row in rows] == list(range(1, 2501))
    assert bench.server.count("download") == 3
    assert [row.number for row in await driver.rows(2400, 5)] == list(range(2400, 2405))
    assert (await driver.stored()).rows == 2500


@in_virtual_time
async def test_lamp_and_flag_are_told_to_the_channel() -> None:
    bench = Bench(KEY)
    driver, _ = await ready(bench)
    await driver.light(True)
    await driver.clear_flag()
    bench.server.refuses.add("clearflag")
    with pytest.raises(ReportedError, match="refuses to clearflag"):
        await driver.clear_flag()


def test_settings_are_written_with_units() -> None:
    found = parameters_from(
        NewareSettings, {"voltage": "-5 V, 5 V", "current": "10 mA", "longest": "30 d"}, "here"
    )
    assert (found.voltage, found.current, found.longest) == ((-5.0, 5.0), 0.01, 30 * 86400.0)
    for wrong in ({"voltage": "5 V, 0 V"}, {"current": "0 A"}, {"longest": "0 s"}):
        with pytest.raises(BadInputError):
            parameters_from(NewareSettings, wrong, "here")
