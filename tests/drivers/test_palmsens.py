"""The MethodSCRIPT driver: identity, steps on board, their renewal and end, errors, safety."""

from __future__ import annotations

import asyncio
import math

import pytest

from drivers.palmsens_board import RESISTANCE, SERIAL, Board, on_board
from operando.drivers.methodscript import CELL_OFF, PROBE
from operando.drivers.palmsens import PalmSensMethodScript
from operando.drivers.palmsens_models import PalmSensSettings
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    GarbledReplyError,
    LinkLostError,
    NotVerifiedError,
    ReplyTimeoutError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import (
    Expect,
    Galvanostatic,
    OpenCircuit,
    Potentiostat,
    Potentiostatic,
    Protection,
)
from operando.instruments.samples import Regulation, Status
from operando.instruments.techniques import SweepRequest
from wire.transcript import in_virtual_time, transcript

WINDOW = Protection(voltage=(2.5, 4.25), current=5e-3)
CHARGE = Galvanostatic(current=1.5e-3, cutoff=4.2)
DISCHARGE = Galvanostatic(current=-1.5e-3, cutoff=3.0)
REST = OpenCircuit(4.75)
FIRMWARE = b"tes4_lr1500#Mar 12 2026 14:28:01\nR*\n"
BITS = (
    ("CC", b"CC0000002F0000003FFFFF98FF00000002\n"),
    ("CM", b"CM000000000000000000000000000003FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE\n"),
)

Driver = PalmSensMethodScript


async def charging(driver: Driver) -> None:
    await driver.prepare(WINDOW)
    await driver.apply(CHARGE)


async def apply_and_measure(driver: Driver, readings: int) -> None:
    await driver.apply(CHARGE)
    for _ in range(readings):
        await driver.measure()


# ---------------------------------------------------------------- identity


@in_virtual_time
async def test_connecting_asks_who_answers_and_writes_nothing() -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iES4LR20B0008\n"), ("t", FIRMWARE), *BITS)
        identity = await driver.connect()
        assert isinstance(driver, Potentiostat)
    assert identity.maker == "PalmSens"
    assert identity.model == "EmStat4 LR"
    assert identity.serial == "ES4LR20B0008"
    assert identity.firmware == "1.5.00"
    assert identity.model in PalmSensMethodScript.INFO.models


@pytest.mark.parametrize(
    ("firmware", "model", "highest"),
    [
        (b"tespico1300#Jan  1 2024 00:00:00\nR*\n", "EmStat Pico", 2.0),
        (b"tes4_hr1500#Mar 12 2026 14:28:01\nR*\n", "EmStat4 HR", 6.0),
        (b"tmes4lr1500#Mar 12 2026 14:28:01\nR*\n", "EmStat4 LR", 3.0),
        (b"tnexus11200#Mar 12 2026 14:28:01\nB*\n", "Nexus", 10.0),
    ],
)
@in_virtual_time
async def test_the_model_decides_window_and_ranges(
    firmware: bytes, model: str, highest: float
) -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iABC12345\n"), ("t", firmware), *BITS)
        assert (await driver.connect()).model == model
        window = driver.capabilities.voltage
        assert window is not None
        assert window[1] == highest
        driver.check(Potentiostatic(highest, 1e-3))
        with pytest.raises(UnsupportedError, match="Nothing was written"):
            driver.check(Potentiostatic(highest + 0.1, 1e-3))
        with pytest.raises(UnsupportedError):
            driver.check(Galvanostatic(2.0 * driver.capabilities.current_ranges[-1].full_scale, 1))


@pytest.mark.parametrize(
    ("serial", "firmware", "expect", "message"),
    [
        (b"iES4LR1\n", FIRMWARE, Expect(serial="ES4LR2"), "expected serial ES4LR2, found ES4LR1"),
        (b"iES4LR1\n", FIRMWARE, Expect(model="Nexus"), "expected model Nexus, found EmStat4 LR"),
        (b"iES4LR1\n", FIRMWARE, Expect(firmware="1.4.00"), "expected firmware 1.4.00"),
        (b"iES4LR1\n", b"tespbl1000#x\nR*\n", Expect(), "boot loader"),
        (b"iES4LR1\n", b"tfooba1000#x\nR*\n", Expect(), "expected firmware of EmStat Pico"),
    ],
)
@in_virtual_time
async def test_another_instrument_is_refused_and_nothing_is_written(
    serial: bytes, firmware: bytes, expect: Expect, message: str
) -> None:
    async with transcript(PalmSensMethodScript, expect=expect) as (driver, peer):
        peer.dialogue(("i", serial), ("t", firmware))
        with pytest.raises(WrongInstrumentError, match=f"{message}.*Nothing was written"):
            await driver.connect()


@pytest.mark.parametrize("reply", [b"\xff\xfe\x00\n", b"i\xe9\xe9\xe9\xe9\xe9\n", b"\x01\n"])
@in_virtual_time
async def test_garbage_instead_of_a_serial_number_is_said_to_be_garbage(reply: bytes) -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.answer("i", reply)
        with pytest.raises(GarbledReplyError):
            await driver.connect()


@in_virtual_time
async def test_old_firmware_without_capability_bits_is_taken_without_them() -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iABC12345\n"), ("t", FIRMWARE), ("CC", b"C!0003\n"))
        await driver.connect()
        driver.check(Potentiostatic(1.0, 1e-3))


@in_virtual_time
async def test_a_missing_technique_is_refused_before_anything_is_written() -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        no_cp = f"CM{(1 << 138) - 1 - (1 << 67):064X}\n".encode()
        peer.dialogue(("i", b"iABC12345\n"), ("t", FIRMWARE), BITS[0], ("CM", no_cp))
        await driver.connect()
        with pytest.raises(UnsupportedError, match="meas_loop_cp"):
            driver.check(Potentiostatic(1.0, 1e-3))


def test_a_fresh_session_knows_a_running_instrument_by_the_stamp_of_its_script() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        other = PalmSensMethodScript(driver._wire, Clock("virtual"))
        await driver.close()
        identity = await other.connect()
        assert (identity.serial, identity.model) == (SERIAL, "EmStat4 HR")
        assert await other.output_is_on()
        reading = await other.measure()
        assert reading.current == pytest.approx(1.5e-3)
        assert board.relay
        await other.safe()
        assert not board.relay
        await other.close()

    board = on_board(scenario)
    assert len([one for one in board.scripts if b"cell_on" in one]) == 1


def test_a_foreign_script_is_left_alone() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.connect()
        line = b"e\nvar p\ncell_off\nmeas_loop_ocp p 1 600\nendloop\n\n"
        await driver._wire.send(line, 1.0)
        with pytest.raises(WrongInstrumentError, match="does not tell whose it is"):
            await driver.reconnect()
        with pytest.raises(WrongInstrumentError):
            await driver.safe()
        assert b"Z\n" not in board.letters

    on_board(scenario)


# ---------------------------------------------------------------- steps


def test_a_charge_is_driven_cut_off_and_held_on_board() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        assert board.relay
        reading = await driver.measure()
        assert reading.current == pytest.approx(1.5e-3)
        assert reading.voltage == pytest.approx(4.17 + 1.5e-3 * RESISTANCE, abs=1e-3)
        assert reading.regulation is Regulation.CURRENT
        assert reading.status is Status.OK
        now = asyncio.get_running_loop().time()
        assert abs(now - reading.time) <= reading.uncertainty + 1e-9
        await asyncio.sleep(1.2e4)  # 15 mV remain below the cut-off, 1 mV a coulomb
        reading = await driver.measure()
        assert reading.regulation is Regulation.VOLTAGE
        assert reading.voltage == pytest.approx(4.2, abs=1e-3)
        assert 0.0 < reading.current < 1.5e-3
        assert board.relay

    board = on_board(scenario, Board(voltage=4.17))
    assert len([one for one in board.scripts if b"cell_on" in one]) == 1


def test_a_discharge_stops_at_its_own_cutoff() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.apply(Galvanostatic(-5e-3, 3.54))
        assert (await driver.measure()).current == pytest.approx(-5e-3)
        await asyncio.sleep(6000.0)
        reading = await driver.measure()
        assert reading.regulation is Regulation.VOLTAGE
        assert reading.voltage == pytest.approx(3.54, abs=1e-3)

    on_board(scenario)


@pytest.mark.parametrize(("voltage", "sign"), [(3.63, 1.0), (3.57, -1.0)])
def test_a_held_voltage_is_approached_with_the_current_limit(voltage: float, sign: float) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.apply(Potentiostatic(voltage, 2e-3))
        reading = await driver.measure()
        assert reading.regulation is Regulation.CURRENT
        assert reading.current == pytest.approx(sign * 2e-3)
        await asyncio.sleep(7000.0)
        reading = await driver.measure()
        assert reading.regulation is Regulation.VOLTAGE
        assert reading.voltage == pytest.approx(voltage, abs=1e-3)
        assert abs(reading.current) < 2e-3

    on_board(scenario)


def test_more_current_than_the_limit_gives_the_voltage_up() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.apply(Potentiostatic(3.61, 2e-3))
        await asyncio.sleep(5.0)
        assert (await driver.measure()).regulation is Regulation.CURRENT
        board.charge += 60.0  # the cell is suddenly 60 mV higher
        readings = [await driver.measure() for _ in range(8)]
        assert any(one.current == pytest.approx(-3.9e-3, rel=1e-2) for one in readings)
        assert sum(abs(one.current) > 2.1e-3 for one in readings) == 1, "once in an interval"
        assert readings[-1].regulation is Regulation.CURRENT
        assert readings[-1].current == pytest.approx(-2e-3)

    # Reaches 3.61 V through 10 ohm of 2 mA from 3.589 V.
    on_board(scenario, Board(voltage=3.589))


def test_current_against_a_charge_is_told_and_then_the_cell_is_opened() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.apply(Galvanostatic(1.5e-3, 3.55))
        readings = [await driver.measure() for _ in range(3)]
        assert readings[0].current < 0.0
        assert readings[0].regulation is Regulation.VOLTAGE
        assert not board.relay
        assert readings[-1].status is Status.FAULT
        assert readings[-1].regulation is Regulation.OPEN

    on_board(scenario)


def test_a_cell_that_a_current_lifts_far_beyond_its_cutoff_is_held_there_at_once() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.apply(Galvanostatic(5e-3, 3.61))  # 50 mV over 10 ohm: 3.64 V
        reading = await driver.measure()
        assert reading.regulation is Regulation.VOLTAGE
        assert reading.voltage == pytest.approx(3.61, abs=1e-3)
        # Seen within two tenths of a second, not after an interval.
        assert board.charge - 5e-3 * 0.2 < -10.0 + 5e-3

    on_board(scenario, Board(voltage=3.59))


def test_the_window_of_the_run_is_watched_on_board() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        await driver.close()  # nobody listens
        board.charge = 800.0
        await asyncio.sleep(2.0)
        assert not board.relay

    on_board(scenario)


def test_a_rest_measures_the_open_circuit_with_the_cell_off() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        await driver.apply(REST)
        assert not board.relay
        reading = await driver.measure()
        assert reading.regulation is Regulation.OPEN
        assert reading.voltage == pytest.approx(board.rest_voltage, abs=1e-5)
        assert reading.current == 0.0
        assert not await driver.output_is_on()

    on_board(scenario)


def test_a_new_set_point_aborts_the_old_one_first() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        await driver.apply(DISCHARGE)
        assert (await driver.measure()).current == pytest.approx(-1.5e-3)
        assert b"Z\n" in board.letters

    on_board(scenario)


@pytest.mark.parametrize(
    "setpoint",
    [
        Galvanostatic(1.0, 4.2),
        Galvanostatic(1.5e-3, 1e4),
        Galvanostatic(6e-3, 4.2),
        Galvanostatic(1.5e-3, 4.3),
        Galvanostatic(math.nan, 4.2),
        Potentiostatic(math.nan, 1e-3),
        Potentiostatic(4.0, 1e-15),
        OpenCircuit(1e4),
    ],
)
def test_what_it_cannot_do_is_refused_and_nothing_is_written(
    setpoint: Galvanostatic | Potentiostatic | OpenCircuit,
) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        count = len(board.scripts)
        with pytest.raises(UnsupportedError):
            driver.check(setpoint)
        with pytest.raises(UnsupportedError):
            await driver.apply(setpoint)
        assert len(board.scripts) == count

    on_board(scenario)


def test_nothing_is_driven_before_the_window_is_known() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        with pytest.raises(UnsupportedError, match="prepare"):
            await driver.apply(CHARGE)
        assert board.scripts == []

    on_board(scenario)


def test_a_window_beyond_the_model_is_refused() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        with pytest.raises(UnsupportedError, match="6 V"):
            await driver.prepare(Protection((2.5, 6.5), 1e-3))
        assert board.scripts == []

    on_board(scenario)


# ---------------------------------------------------------------- as long as somebody is there


def test_a_step_is_renewed_without_opening_the_cell() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        await asyncio.sleep(2 * 3600.0)
        assert board.relay
        assert (await driver.measure()).current == pytest.approx(1.5e-3)

    board = on_board(scenario)
    assert len(board.closed) == 1
    assert set(board.letters) == {b"Y\n"}
    assert 30 < len(board.letters) < 50


def test_a_step_ends_by_itself_when_the_host_has_gone() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        await asyncio.sleep(1000.0)
        await driver.close()
        begin = asyncio.get_running_loop().time()
        await asyncio.sleep(390.0)
        assert board.relay, "it ends after `unattended`, of which a third may have passed"
        await asyncio.sleep(601.0 - 390.0)
        assert not board.relay
        assert board.moves[-1][1] - begin <= 600.0

    on_board(scenario)


def test_a_held_voltage_ends_by_itself_too() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.apply(Galvanostatic(1.5e-3, 3.61))
        await driver.measure()
        await driver.measure()
        assert board.relay
        await driver.close()
        await asyncio.sleep(601.0)
        assert not board.relay

    on_board(scenario)


def test_a_renewal_that_came_between_two_loops_is_made_again() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        board.deaf_to_y = 3
        await asyncio.sleep(1000.0)
        assert board.deaf_to_y == 0
        assert (await driver.measure()).regulation is Regulation.CURRENT

    board = on_board(scenario)
    assert len(board.closed) == 1


def test_without_the_letter_for_it_a_step_is_begun_anew_before_its_time_ends() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        await asyncio.sleep(3600.0)
        reading = await driver.measure()
        assert reading.current == pytest.approx(1.5e-3)
        assert board.relay

    board = on_board(scenario, Board(renewable=False))
    assert b"Y\n" not in board.letters
    assert len(board.closed) == 8
    gaps = [
        on - off
        for (_, off), (word, on) in zip(board.moves, board.moves[1:], strict=False)
        if word == "cell_on"
    ]
    assert max(gaps) < 0.5


def test_without_the_letter_for_it_a_sweep_must_be_over_in_time() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        driver.check_sweep(SweepRequest(3.6, 3.8, 1e-3, 1e-3, 5e-3))  # 200 of 600 s
        with pytest.raises(UnsupportedError, match="lacks the command Y"):
            driver.check_sweep(SweepRequest(3.6, 3.8, 0.5e-3, 1e-3, 5e-3))

    on_board(scenario, Board(renewable=False))


def test_a_step_that_nobody_ended_reads_as_a_fault() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        board.letter(b"Z\n")
        readings = [await driver.measure() for _ in range(2)]
        assert readings[-1].status is Status.FAULT
        assert readings[-1].regulation is Regulation.OPEN
        assert math.isnan(readings[-1].voltage)

    on_board(scenario)


# ---------------------------------------------------------------- errors


def test_a_refused_script_is_reported_with_code_and_text() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        board.refuse = b"4001"
        with pytest.raises(ReportedError, match=r"unknown script command.*Line 2") as caught:
            await driver.apply(CHARGE)
        assert caught.value.code == 0x4001
        assert not board.relay

    on_board(scenario)


@pytest.mark.parametrize("at", [0, 3])
def test_after_a_run_time_error_the_cell_is_switched_off_by_a_script_of_its_own(at: int) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        board.fail_at = at
        with pytest.raises(ReportedError, match="critical cell overload") as caught:
            await apply_and_measure(driver, 5)
        assert caught.value.code == 0x0032
        assert board.scripts[-2:] == [CELL_OFF, PROBE]
        assert not board.relay
        assert (await driver.measure()).regulation is Regulation.OPEN

    on_board(scenario)


def test_a_first_point_that_shows_another_current_is_not_believed() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        board.distort = lambda line: line.split(b"ba")[0] + b"ba8000000 "
        with pytest.raises(NotVerifiedError, match=r"0\.0015 A"):
            await driver.apply(CHARGE)
        await driver.safe()
        assert not board.relay

    on_board(scenario)


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (",12,218", Status.OVERLOAD),
        (",14,218", Status.UNDERLOAD),
        (",11,218", Status.UNSTABLE),
        (",18,218", Status.OK),
    ],
)
def test_the_status_of_a_package_becomes_that_of_the_reading(flags: str, status: Status) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        board.status = flags
        reading = await driver.measure()
        assert reading.status is status
        assert math.isnan(reading.current) == (status is Status.OVERLOAD)

    on_board(scenario)


def test_silence_ends_in_an_error_in_time_and_heals() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        board.silent = True
        begin = asyncio.get_running_loop().time()
        with pytest.raises(ReplyTimeoutError, match="palmsens-methodscript at a"):
            await driver.measure()
        assert asyncio.get_running_loop().time() - begin < 5.0
        board.silent = False
        await driver.reconnect()
        assert (await driver.measure()).current == pytest.approx(1.5e-3)

    on_board(scenario)


def test_a_broken_link_is_an_error_and_the_step_is_found_again() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        assert board.line is not None
        board.line.drop()
        for _ in range(2):
            with pytest.raises(LinkLostError, match="palmsens-methodscript at a"):
                await driver.measure()
        await asyncio.sleep(60.0)
        assert (await driver.reconnect()).serial == SERIAL
        assert (await driver.measure()).current == pytest.approx(1.5e-3)
        assert len(board.closed) == 1

    on_board(scenario)


def test_an_instrument_that_was_swapped_for_an_idle_one_is_found_before_anything_is_written() -> (
    None
):
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        board.serial = "ES4HR20B7777"
        count = len(board.scripts)
        with pytest.raises(WrongInstrumentError, match=f"expected serial {SERIAL}.*7777"):
            await driver.reconnect()
        with pytest.raises(WrongInstrumentError):
            await driver.apply(CHARGE)
        with pytest.raises(WrongInstrumentError):
            await driver.safe()
        assert len(board.scripts) == count

    on_board(scenario)


@pytest.mark.parametrize("line", [b"P\xff\xfe", b"Pab7F85F3Fu", b"Peb8000001 ;ja8000001i"])
def test_a_garbled_point_is_no_reading(line: bytes) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        board.distort = lambda _: line
        with pytest.raises(GarbledReplyError):
            await driver.measure()
        board.distort = lambda line: line
        assert (await driver.measure()).current == pytest.approx(1.5e-3)

    on_board(scenario)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("interval", 0.0), ("interval", 0.6), ("unattended", 1.0), ("mains", 55), ("channel", -1)],
)
def test_settings_without_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(BadInputError):
        PalmSensSettings(**{name: value})  # type: ignore[arg-type]
