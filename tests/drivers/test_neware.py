"""The driver of a BTS 8 channel against a server that remembers: set-points, readings, safety."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from operando.drivers.neware import NewareBTS8, mark_of
from operando.drivers.neware_channel import NewareSettings
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.errors import (
    CommunicationError,
    GarbledReplyError,
    InstrumentError,
    NotVerifiedError,
    ReplyTimeoutError,
    ReportedError,
    SafeStateError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import (
    Cycler,
    Galvanostatic,
    OpenCircuit,
    Potentiostat,
    Potentiostatic,
    Protection,
    SetPoint,
)
from operando.instruments.safety import secure
from operando.instruments.samples import Regulation, Status
from operando.instruments.wires import Framing
from wire.cycler_server import Bench, Unit
from wire.held_wire import HeldWire
from wire.transcript import in_virtual_time

KEY = "21-1-2"
WINDOW = Protection((2.5, 4.25), 5e-3)
CHARGE = Galvanostatic(1.569e-3, 4.25)


async def ready(
    bench: Bench,
    settings: NewareSettings = NewareSettings(),  # noqa: B008  (frozen)
) -> tuple[NewareBTS8, Unit]:
    """A driver that is connected and prepared, and its channel."""
    driver = bench.driver(KEY, settings=settings)
    await driver.connect()
    await driver.prepare(WINDOW)
    return driver, bench.server.units[KEY]


def leaf(unit: Unit, name: str, nth: int = 0) -> float:
    """The value of a leaf in the step file that a channel was given."""
    return float(unit.schedule.split(f"<{name} Value=")[nth + 1].split('"')[1])


# ---------------------------------------------------------------- identity


@in_virtual_time
async def test_it_has_both_roles_and_goes_on_without_the_host() -> None:
    driver = Bench(KEY).driver(KEY)
    assert isinstance(driver, Potentiostat)
    assert isinstance(driver, Cycler)
    assert driver.capabilities.when_host_is_silent is WhenHostIsSilent.STAYS_ON
    assert driver.capabilities.voltage == (0.0, 5.0)


# ---------------------------------------------------------------- set-points


@in_virtual_time
async def test_a_charge_runs_on_board_within_the_bounds_of_the_run() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    assert unit.state == "working"
    assert unit.barcode.startswith(f"smu1_{mark_of(CHARGE, WINDOW)}_")
    assert leaf(unit, "Curr") == pytest.approx(1.569)
    assert leaf(unit, "Stop_Volt") == pytest.approx(42500.0)
    assert (leaf(unit, "Upper"), leaf(unit, "Lower")) == pytest.approx((43000.0, 24500.0))
    assert leaf(unit, "Upper", 1) == pytest.approx(5.5)


@pytest.mark.parametrize(
    ("setpoint", "voltage", "kinds"),
    [
        (Galvanostatic(-1e-3, 2.5), "3.7", ("2", "19", "6")),
        (Potentiostatic(4.0, 1e-3), "3.7", ("1", "3", "6")),
        (Potentiostatic(3.0, 1e-3), "3.7", ("2", "19", "6")),
        (OpenCircuit(4.75), "3.7", ("4", "6")),
    ],
)
@in_virtual_time
async def test_each_set_point_has_its_steps(
    setpoint: SetPoint, voltage: str, kinds: tuple[str, ...]
) -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.voltage = voltage
    await driver.apply(setpoint)
    found = [part.partition('"')[0] for part in unit.schedule.split('Step_Type="')[1:]]
    assert tuple(found) == kinds


@pytest.mark.parametrize(
    ("setpoint", "voltage", "bounds"),
    [
        (CHARGE, "2.1", (4.3, 2.05)),
        (Galvanostatic(-1e-3, 2.5), "2.1", (4.3, 2.45)),
        (Galvanostatic(-1e-3, 2.5), "4.4", (4.45, 2.45)),
        (OpenCircuit(4.75), "0.5", (4.3, 0.45)),
    ],
)
@in_virtual_time
async def test_a_cell_may_be_led_back_into_the_window_but_not_further_out(
    setpoint: SetPoint, voltage: str, bounds: tuple[float, float]
) -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.voltage = voltage
    await driver.apply(setpoint)
    found = leaf(unit, "Upper") / 1e4, leaf(unit, "Lower") / 1e4
    assert found == pytest.approx(bounds)


@in_virtual_time
async def test_the_same_set_point_again_is_another_test() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    before = unit.barcode
    await bench.clock.sleep(1.0)
    await driver.apply(CHARGE)
    assert unit.barcode != before


@in_virtual_time
async def test_a_new_set_point_stops_the_one_before_it_first() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    bench.server.asked.clear()
    await driver.apply(Galvanostatic(-1.569e-3, 2.5))
    commands = [command for command, _ in bench.server.asked]
    assert commands.index("stop") < commands.index("getchlstatus") < commands.index("start")
    assert unit.step_type == "dc"


@pytest.mark.parametrize(
    "setpoint",
    [
        Galvanostatic(1e3, 4.2),
        Galvanostatic(1e-7, 4.2),
        Galvanostatic(1e-3, 1e4),
        Galvanostatic(6e-3, 4.2),
        Potentiostatic(4.3, 1e-3),
        Potentiostatic(math.nan, 1e-3),
        OpenCircuit(1e4),
    ],
)
@in_virtual_time
async def test_what_the_channel_or_the_run_does_not_allow_is_refused(setpoint: SetPoint) -> None:
    bench = Bench(KEY)
    driver, _ = await ready(bench)
    before = len(bench.server.asked)
    with pytest.raises(UnsupportedError, match="Nothing was written"):
        await driver.apply(setpoint)
    assert len(bench.server.asked) == before


@in_virtual_time
async def test_a_run_beyond_the_channel_is_refused() -> None:
    driver = Bench(KEY).driver(KEY)
    await driver.connect()
    for protection in (Protection((2.5, 5.5), 1e-3), Protection((2.5, 4.2), 7.0)):
        with pytest.raises(UnsupportedError):
            await driver.prepare(protection)
    with pytest.raises(UnsupportedError, match="prepare"):
        await driver.apply(CHARGE)


@in_virtual_time
async def test_a_test_of_somebody_else_is_neither_stopped_nor_replaced() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.work("ageing_of_a_year", "cc", "0.001")
    with pytest.raises(UnsupportedError, match="ageing_of_a_year"):
        await driver.prepare(WINDOW)
    with pytest.raises(UnsupportedError, match="stop it in BTS Client"):
        await driver.apply(CHARGE)
    assert unit.state == "working"
    assert bench.server.count("start") == bench.server.count("stop") == 0


@in_virtual_time
async def test_a_refused_start_is_reported_with_its_code() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    bench.server.refuses.add("start")
    unit.code = 100215
    with pytest.raises(ReportedError, match="refuses to start; its state is finish") as caught:
        await driver.apply(CHARGE)
    assert caught.value.code == 100215
    assert bench.server.count("start") == 1


@in_virtual_time
async def test_a_start_that_has_no_effect_is_not_believed() -> None:
    bench = Bench(KEY)
    driver, _ = await ready(bench)
    bench.server.on_start = lambda unit: None
    with pytest.raises(NotVerifiedError, match="after start the channel should be working"):
        await driver.apply(CHARGE)
    assert bench.server.count("start") == 1


@in_virtual_time
async def test_a_channel_that_works_without_a_running_clock_is_waited_for() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    obey = bench.server.on_start

    def close_late(unit: Unit) -> None:
        obey(unit)
        unit.total = 0.0

    bench.server.on_start = close_late
    applying = asyncio.create_task(driver.apply(CHARGE))
    await bench.clock.sleep(1.0)
    assert not applying.done()
    unit.total = 0.1
    await applying


@in_virtual_time
async def test_a_protection_that_acts_at_once_is_reported() -> None:
    bench = Bench(KEY)
    driver, _ = await ready(bench)

    def protect(unit: Unit) -> None:
        unit.state, unit.code = "protect", 100007

    bench.server.on_start = protect
    with pytest.raises(ReportedError, match="protection acted at once") as caught:
        await driver.apply(CHARGE)
    assert caught.value.code == 100007


@in_virtual_time
async def test_the_step_file_is_named_as_the_server_s_computer_sees_it(tmp_path: Path) -> None:
    bench = Bench(KEY)
    settings = NewareSettings(step_folder=str(tmp_path / "here"), server_folder="S:\\steps\\")
    driver, _ = await ready(bench, settings)
    seen: list[str] = []

    def read_from_there(unit: Unit) -> None:
        seen.append(unit.schedule)

    bench.server.on_start = read_from_there
    with pytest.raises(FileNotFoundError, match=r"S:\\\\steps\\\\.*-27-21-1-2\.xml"):
        await driver.apply(CHARGE)
    assert [path.name.endswith("-27-21-1-2.xml") for path in (tmp_path / "here").iterdir()] == [
        True
    ]


@in_virtual_time
async def test_a_folder_that_cannot_be_written_stops_before_the_start(tmp_path: Path) -> None:
    bench = Bench(KEY)
    (tmp_path / "file").write_text("")
    settings = NewareSettings(step_folder=str(tmp_path / "file"))
    driver, _ = await ready(bench, settings)
    with pytest.raises(InstrumentError, match="Nothing was started"):
        await driver.apply(CHARGE)
    assert bench.server.count("start") == 0


# ---------------------------------------------------------------- readings


@in_virtual_time
async def test_a_small_current_is_taken_from_the_stored_rows_of_its_step() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    unit.total, unit.current = 0.5, "0.0016"
    first = await driver.measure()
    assert math.isnan(first.current)
    assert first.status is Status.UNSTABLE
    await bench.clock.sleep(1.0)
    unit.total = 1.5
    unit.store(1.56921e-3)
    second = await driver.measure()
    assert (second.current, second.voltage) == (1.56921e-3, 3.7)
    assert (second.regulation, second.status) == (Regulation.CURRENT, Status.OK)
    assert bench.server.asked[-1][0] == "download"


@in_virtual_time
async def test_a_stored_row_that_contradicts_the_live_current_is_too_old() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    unit.store(1.569e-3)
    unit.work(unit.barcode, "cv", "0.0009", step=1)
    unit.total = 60.0
    reading = await driver.measure()
    assert reading.current == 0.0009
    assert reading.regulation is Regulation.VOLTAGE


@in_virtual_time
async def test_a_row_of_the_step_before_says_nothing_of_this_one() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    unit.store(1.569e-3)
    unit.work(unit.barcode, "cv", "0.0016", step=2)
    assert math.isnan((await driver.measure()).current)


@in_virtual_time
async def test_without_rows_the_rounded_current_counts_after_a_while() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    unit.total, unit.current = 60.0, "0.0016"
    assert (await driver.measure()).current == 0.0016


@in_virtual_time
async def test_a_large_current_needs_no_rows() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.work("big", "cc", "1.5")
    bench.server.asked.clear()
    assert (await driver.measure()).current == 1.5
    assert [command for command, _ in bench.server.asked] == ["inquire"]


@in_virtual_time
async def test_rows_are_left_alone_if_asked_so() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench, NewareSettings(fine_current=False))
    await driver.apply(CHARGE)
    unit.store(1.569e-3)
    assert (await driver.measure()).current == 0.0016
    assert bench.server.count("download") == 0


@in_virtual_time
async def test_a_channel_that_nobody_read_for_long_is_caught_up_with() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    for number in range(4321):
        unit.store(1.569e-3 + 1e-9 * number, float(number))
    unit.total = 4321.0
    assert (await driver.measure()).current == 1.569e-3 + 1e-9 * 4320
    assert bench.server.count("download") == 2


@in_virtual_time
async def test_an_unknown_word_for_a_step_is_known_by_its_place_in_the_set_point() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(Galvanostatic(-1e-3, 2.5))
    unit.work(unit.barcode, "cvdc", "-0.2", step=2)
    assert (await driver.measure()).regulation is Regulation.VOLTAGE
    unit.barcode, unit.step = "other", 2
    assert (await driver.measure()).status is Status.FAULT


@pytest.mark.parametrize("state", ["finish", "stop", "protect", "pause"])
@in_virtual_time
async def test_a_set_point_that_ended_by_itself_is_a_fault_once(state: str) -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    await driver.apply(CHARGE)
    unit.state, unit.current = state, "0"
    reading = await driver.measure()
    assert (reading.regulation, reading.status) == (Regulation.OPEN, Status.FAULT)
    assert (reading.current, reading.voltage) == (0.0, 3.7)
    await bench.clock.sleep(1.0)
    assert (await driver.measure()).status is Status.OK


@in_virtual_time
async def test_an_idle_channel_tells_the_cell_s_voltage() -> None:
    driver, _ = await ready(Bench(KEY))
    reading = await driver.measure()
    assert reading[2:] == (3.7, 0.0, Regulation.OPEN, Status.OK)


@in_virtual_time
async def test_a_reading_s_time_is_the_middle_of_its_exchange() -> None:
    bench = Bench(KEY)
    driver, _ = await ready(bench)
    bench.server.delay = 0.2
    start = bench.clock.now()
    reading = await driver.measure()
    assert (reading.time, reading.uncertainty) == pytest.approx((start + 0.1, 0.1))


@in_virtual_time
async def test_live_data_that_stand_still_keep_their_time_and_then_fail() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.work("test", "rest", "0")
    unit.total = 100.0
    first = await driver.measure()
    await bench.clock.sleep(20.0)
    assert (await driver.measure()).time == first.time
    await bench.clock.sleep(11.0)
    with pytest.raises(CommunicationError, match="stood still for 31 s"):
        await driver.measure()
    unit.total = 101.0
    assert (await driver.measure()).time == bench.clock.now()


# ---------------------------------------------------------------- safety


@in_virtual_time
async def test_safe_stops_any_test_and_is_idempotent() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.work("somebody_else_s", "cc", "0.001")
    assert await driver.output_is_on()
    await driver.safe()
    assert unit.state == "stop"
    assert not await driver.output_is_on()
    # It is told again: what the server says of a channel may be seconds old.
    await driver.safe()
    assert bench.server.count("stop") == 2
    assert unit.state == "stop"


@pytest.mark.parametrize("refused", [True, False])
@in_virtual_time
async def test_a_channel_that_goes_on_is_never_called_safe(refused: bool) -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.work("test", "cc", "0.001")
    if refused:
        bench.server.refuses.add("stop")
    else:
        bench.server.silent = True
    with pytest.raises(SafeStateError, match="ASSUME THAT"):
        await secure(driver)
    assert unit.state == "working"
    bench.server.refuses.clear()
    bench.server.silent = False
    await secure(driver)
    assert unit.state == "stop"


@in_virtual_time
async def test_safe_outlives_a_start_that_comes_into_effect_late() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    bench.server.on_start = lambda unit: None
    applying = asyncio.create_task(driver.apply(CHARGE))
    await bench.clock.sleep(0.05)
    assert bench.server.count("start") == 1
    applying.cancel()
    # The channel looks idle, yet it was told to start a moment ago.
    with pytest.raises(SafeStateError, match="may still come into effect"):
        await driver.safe()
    unit.work(unit.barcode, "cc", "0.0016")
    await driver.safe()
    assert unit.state == "stop"
    await asyncio.gather(applying, return_exceptions=True)


class HeldStart(HeldWire):
    """Keeps a start back for as long as it is told, while urgent requests pass."""

    async def exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Pass on, unless it is a start."""
        if b"<cmd>start</cmd>" in request:
            self.reached.set()
            await self.released.wait()
        return await super().exchange(request, framing, timeout, urgent=urgent)


@in_virtual_time
async def test_a_start_that_still_waits_for_its_turn_is_not_forgotten() -> None:
    bench = Bench(KEY)
    wire = HeldStart(bench.wire(KEY), b"")
    driver = NewareBTS8(wire, bench.clock)
    await driver.connect()
    await driver.prepare(WINDOW)
    applying = asyncio.create_task(driver.apply(CHARGE))
    await wire.reached.wait()
    await bench.clock.sleep(60.0)
    with pytest.raises(SafeStateError, match="may still come into effect"):
        await driver.safe()
    wire.released.set()
    with pytest.raises(InstrumentError, match="given up"):
        await applying
    await driver.safe()
    assert bench.server.units[KEY].state == "stop"


@in_virtual_time
async def test_a_set_point_that_safe_overtook_is_given_up() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    bench.server.delay = 0.1
    applying = asyncio.create_task(driver.apply(CHARGE))
    while not bench.server.count("start"):
        await bench.clock.sleep(0.01)
    await driver.safe()
    with pytest.raises(InstrumentError, match="given up"):
        await applying
    assert unit.state == "stop"


@in_virtual_time
async def test_silence_is_a_time_out_after_which_the_session_opens_afresh() -> None:
    bench = Bench(KEY)
    driver, _ = await ready(bench)
    bench.server.silent = True
    with pytest.raises(ReplyTimeoutError, match="neware-bts8 at"):
        await driver.measure()
    bench.server.silent = False
    bench.server.asked.clear()
    assert (await driver.measure()).voltage == 3.7
    assert [c for c, _ in bench.server.asked] == ["connect", "getdevinfo", "inquire"]


@in_virtual_time
async def test_a_swapped_device_is_found_before_anything_is_written() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    bench.server.silent = True
    with pytest.raises(ReplyTimeoutError):
        await driver.measure()
    bench.server.silent = False
    bench.server.units = {"22-1-2": Unit("22-1-2")}
    for doing in (driver.apply(CHARGE), driver.safe(), driver.reconnect()):
        with pytest.raises(WrongInstrumentError, match="expected 27-21-1-2"):
            await doing
    assert unit.state == "finish"
    assert bench.server.count("start") == bench.server.count("stop") == 0


@in_virtual_time
async def test_garbage_is_named_and_the_session_opens_afresh() -> None:
    bench = Bench(KEY)
    driver, unit = await ready(bench)
    unit.voltage = "much"
    with pytest.raises(GarbledReplyError, match=r"neware-bts8 at .*#21-1-2: answered inquire"):
        await driver.measure()
    unit.voltage = "3.6"
    assert (await driver.measure()).voltage == 3.6
    assert bench.server.connections == 2
