"""The MethodSCRIPT driver: its safe state, its spectra, and whatever a line can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.palmsens_board import RESISTANCE, Board, on_board
from drivers.test_palmsens import BITS, CHARGE, DISCHARGE, FIRMWARE, WINDOW, Driver, charging
from operando.drivers.methodscript import CELL_OFF, PROBE
from operando.drivers.palmsens import PalmSensMethodScript
from operando.drivers.palmsens_models import PalmSensSettings
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.errors import (
    GarbledReplyError,
    InstrumentError,
    ReplyTimeoutError,
    ReportedError,
    SafeStateError,
    UnsupportedError,
)
from operando.instruments.safety import secure
from operando.instruments.samples import Regulation, Status
from operando.instruments.techniques import ImpedancePoint, SpectrumRequest
from wire.transcript import in_virtual_time, transcript

# ---------------------------------------------------------------- safety


@in_virtual_time
async def test_safe_is_the_documents_own_sequence() -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iES4LR20B0008\n"), ("t", FIRMWARE), *BITS)
        await driver.connect()
        peer.answer("Z", b"Z!0006\n")
        peer.answer(b"e\ncell_off\n\n", b"e\n\n")
        peer.answer(PROBE, b"e\nM000B\n*\n\n")
        await driver.safe()


@pytest.mark.parametrize("code", [b"0014", b"4028"])
@in_virtual_time
async def test_a_cell_that_is_not_off_is_an_alarm(code: bytes) -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iES4LR20B0008\n"), ("t", FIRMWARE), *BITS)
        await driver.connect()
        peer.answer("Z", b"Z\n*\n\n")
        peer.answer(CELL_OFF, b"e\n\n")
        peer.answer(PROBE, b"e\n!" + code + b": Line 2\n\n")
        with pytest.raises(SafeStateError, match="ASSUME THAT THE OUTPUT IS ON"):
            await driver.safe()


@pytest.mark.parametrize("code", [b"0023", b"001B"])
@in_virtual_time
async def test_a_probe_that_says_nothing_of_the_cell_leaves_the_confirmation(code: bytes) -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iES4LR20B0008\n"), ("t", FIRMWARE), *BITS)
        await driver.connect()
        peer.answer("Z", b"Z!0006\n")
        peer.answer(CELL_OFF, b"e\n\n")
        peer.answer(PROBE, b"e!" + code + b": Line 2, Col 1\n")
        await driver.safe()


@in_virtual_time
async def test_an_instrument_that_is_busy_again_is_not_safe() -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iES4LR20B0008\n"), ("t", FIRMWARE), *BITS)
        await driver.connect()
        peer.answer("Z", b"Z!0006\n")
        peer.answer(CELL_OFF, b"e\n\n")
        peer.answer(PROBE, b"e!0006\n")
        with pytest.raises(ReportedError, match="not allowed"):
            await driver.safe()


@pytest.mark.parametrize(
    ("reply", "on"),
    [
        (b"e\nM000B\n*\n\n", False),
        (b"e!0023: Line 2\n", False),
        (b"e\n!4028: Line 2\n\n", True),
        (b"e!0014: Line 2\n", True),
    ],
)
@in_virtual_time
async def test_whether_an_idle_output_is_on_is_read_from_a_probe(reply: bytes, on: bool) -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iES4LR20B0008\n"), ("t", FIRMWARE), *BITS)
        await driver.connect()
        peer.dialogue(("i", b"iES4LR20B0008\n"), (PROBE, reply))
        assert await driver.output_is_on() is on


@in_virtual_time
async def test_an_output_that_cannot_be_told_is_an_error() -> None:
    async with transcript(PalmSensMethodScript) as (driver, peer):
        peer.dialogue(("i", b"iES4LR20B0008\n"), ("t", FIRMWARE), *BITS)
        await driver.connect()
        peer.dialogue(("i", b"iES4LR20B0008\n"), (PROBE, b"e!001B: Line 2\n"))
        with pytest.raises(ReportedError, match="not supported"):
            await driver.output_is_on()


def test_safe_opens_the_cell_within_its_time_and_again() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        for _ in range(3):
            begin = asyncio.get_running_loop().time()
            await driver.safe()
            assert asyncio.get_running_loop().time() - begin < 1.9
            assert not board.relay
        assert (await driver.measure()).status is Status.OK

    on_board(scenario, settings=PalmSensSettings(interval=0.5))


def test_safe_does_not_believe_a_relay_that_sticks() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        board.sticks = True
        with pytest.raises(SafeStateError):
            await driver.safe()
        board.sticks = False
        await driver.safe()
        assert not board.relay

    on_board(scenario)


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2, 0.3, 1.1])
def test_a_set_point_gives_way_to_safe_whenever_that_comes(after: float) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        applying = asyncio.create_task(driver.apply(DISCHARGE))
        await asyncio.sleep(after)
        await driver.safe()
        assert not board.relay
        try:
            await applying
        except InstrumentError:
            assert "safe state" in str(applying.exception())
        else:
            assert after > 0.2
        await asyncio.sleep(5.0)
        assert not board.relay

    on_board(scenario)


def test_silence_is_not_safe() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        board.silent = True
        with pytest.raises(SafeStateError):
            await secure(driver, timeout=2.0, attempts=2)
        board.silent = False
        await secure(driver, timeout=5.0)
        assert not board.relay

    on_board(scenario)


@pytest.mark.parametrize("what", ["step", "spectrum"])
def test_a_script_that_another_hand_halted_is_an_error_in_time_and_is_brought_to_safety(
    what: str,
) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        doing = (
            driver.measure if what == "step" else partial(points_of, driver, spectrum(10, 1, 0.1))
        )
        measuring: asyncio.Future[object] = asyncio.ensure_future(doing())
        await asyncio.sleep(0.05 if what == "step" else 2.0)
        board.letter(b"h\n")
        if what == "step":
            with pytest.raises(ReplyTimeoutError):
                await measuring
            with pytest.raises(ReplyTimeoutError, match=r"halted \(h\)"):
                await driver.measure()
        assert board.relay, "what is halted goes on to drive the cell"
        await secure(driver, timeout=2.0, attempts=3)
        assert not board.relay
        if what == "spectrum":
            with pytest.raises(InstrumentError, match="safe state"):
                await measuring

    on_board(scenario)


def test_after_a_run_time_error_a_reading_is_a_fault_until_the_next_set_point() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        board.fail_at = 6
        await driver.apply(CHARGE)
        await asyncio.sleep(60.0)  # points came that nobody read, then the error
        with pytest.raises(ReportedError, match="critical cell overload"):
            await driver.measure()
        for reconnected in (False, False, True):
            if reconnected:
                await driver.reconnect()
            reading = await driver.measure()
            assert (reading.status, reading.regulation) == (Status.FAULT, Regulation.OPEN)
            assert math.isnan(reading.voltage)
        await driver.apply(CHARGE)
        assert (await driver.measure()).status is Status.OK

    on_board(scenario)


def test_closing_leaves_the_output_alone() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        count = len(board.letters) + len(board.scripts)
        await driver.close()
        await driver.close()
        assert board.relay
        assert len(board.letters) + len(board.scripts) == count

    on_board(scenario)


def test_what_happens_in_silence_is_stated() -> None:
    driver = PalmSensMethodScript.INFO
    assert any("10 min" in note for note in driver.notes)

    async def scenario(driver: Driver, board: Board) -> None:
        capabilities = driver.capabilities
        assert capabilities.when_host_is_silent is WhenHostIsSilent.STAYS_ON
        assert "unattended time limit" in capabilities.on_board
        assert capabilities.off_time < 2.0

    on_board(scenario)


# ---------------------------------------------------------------- impedance


def spectrum(*frequencies: float) -> SpectrumRequest:
    return SpectrumRequest(frequencies, amplitude=10e-3, bias=3.6, current_limit=5e-3)


async def points_of(driver: Driver, request: SpectrumRequest) -> list[ImpedancePoint]:
    await driver.begin_spectrum(request)
    points = []
    while (point := await driver.next_point()) is not None:
        points.append(point)
    return points


def test_a_spectrum_is_measured_on_board_with_the_cell_off_before_and_after() -> None:
    frequencies = [10.0 ** (4 - 0.25 * index) for index in range(17)]

    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        points = await points_of(driver, spectrum(*frequencies))
        assert not board.relay
        assert [one.frequency for one in points] == pytest.approx(frequencies)
        assert all(one.real == pytest.approx(RESISTANCE) for one in points)
        for one in points:  # seven digits at the least, by the finest prefix that fits
            assert one.imaginary == pytest.approx(-0.1 / one.frequency, rel=1e-5)
        assert {one.status for one in points} == {Status.OK}
        assert (await driver.measure()).regulation is Regulation.OPEN

    on_board(scenario)


@pytest.mark.parametrize("frequencies", [[1e3, 500.0, 10.0], [1e3, 1e2, 1e2, 10.0]])
def test_a_spectrum_that_the_instrument_cannot_space_is_refused(frequencies: list[float]) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        count = len(board.scripts)
        with pytest.raises(UnsupportedError):
            await driver.begin_spectrum(spectrum(*frequencies))
        assert len(board.scripts) == count

    on_board(scenario)


def test_no_spectrum_is_begun_before_the_window_is_known() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        with pytest.raises(UnsupportedError, match="prepare"):
            await driver.begin_spectrum(spectrum(1e3, 1e2))
        with pytest.raises(InstrumentError, match="begin_spectrum"):
            await driver.next_point()
        assert board.scripts == []

    on_board(scenario)


@pytest.mark.parametrize(
    ("line", "words"),
    [(b"Tnothing", "1 Hz where 10 Hz is next"), (b"Pdc800", "not"), (b"\xff\xfe", "expected")],
)
def test_a_spectrum_that_lost_a_point_is_garbled_and_ended(line: bytes, words: str) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        lost = iter([False, False, False, True])
        board.distort = lambda whole: line if next(lost, False) else whole
        await driver.begin_spectrum(spectrum(1e3, 1e2, 1e1, 1.0, 0.1))
        for frequency in (1e3, 1e2):
            point = await driver.next_point()
            assert point is not None
            assert point.frequency == pytest.approx(frequency)
        with pytest.raises(GarbledReplyError, match=words):
            await driver.next_point()
        assert not board.relay

    on_board(scenario)


def test_a_spectrum_that_another_hand_ended_is_not_complete() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.begin_spectrum(spectrum(1e3, 1e2, 1e1, 1.0, 0.1))
        assert await driver.next_point() is not None
        board.letter(b"Z\n")
        with pytest.raises(InstrumentError, match="after 1 of 5 points of a spectrum"):
            await driver.next_point()
        assert (await driver.measure()).status is Status.FAULT
        assert not board.relay

    on_board(scenario)


def test_after_a_run_time_error_in_a_spectrum_the_cell_is_switched_off() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        board.fail_at = 3
        with pytest.raises(ReportedError, match="critical cell overload"):
            await points_of(driver, spectrum(1e3, 1e2, 1e1, 1.0, 0.1))
        assert board.scripts[-2:] == [CELL_OFF, PROBE]
        assert not board.relay

    on_board(scenario)


def test_a_spectrum_that_is_refused_is_reported_and_no_fault() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        board.refuse = b"4001"
        with pytest.raises(ReportedError, match=r"unknown script command.*Line 2"):
            await driver.begin_spectrum(spectrum(1e3, 1e2))
        reading = await driver.measure()
        assert (reading.status, reading.regulation) == (Status.OK, Regulation.OPEN)

    on_board(scenario)


def test_a_spectrum_that_falls_silent_is_an_error_when_a_point_is_overdue() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        await driver.begin_spectrum(spectrum(10.0, 1.0, 0.1))
        assert await driver.next_point() is not None
        board.silent = True
        begin = asyncio.get_running_loop().time()
        with pytest.raises(ReplyTimeoutError, match="point 2 of its spectrum"):
            await driver.next_point()
        assert 20.0 < asyncio.get_running_loop().time() - begin < 25.0

    on_board(scenario)


def test_safe_breaks_a_spectrum_off() -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await driver.prepare(WINDOW)
        measuring = asyncio.create_task(points_of(driver, spectrum(10.0, 1.0, 0.1)))
        await asyncio.sleep(1.3)
        assert board.relay
        await secure(driver, timeout=2.0, attempts=3)
        assert not board.relay
        with pytest.raises(InstrumentError, match="safe state"):
            await measuring

    on_board(scenario)


# ---------------------------------------------------------------- what a line can do


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=80)), min_size=1, max_size=4))
def test_damaged_points_are_errors_of_ours_or_readings_that_are_true(
    damage: list[bytes | None],
) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)
        plan = iter(damage)

        def distort(line: bytes) -> bytes:
            replaced = next(plan, None)
            return line if replaced is None else replaced

        board.distort = distort
        named: list[str] = []
        for _ in range(6):
            try:
                reading = await driver.measure()
            except InstrumentError as error:
                named.append(error.instrument)
                continue
            if reading.regulation is Regulation.CURRENT:
                assert reading.current == pytest.approx(1.5e-3)
                assert 3.6 < reading.voltage < 3.7
        board.distort = lambda line: line
        await driver.safe()
        assert not board.relay
        assert all(named)

    on_board(scenario)


@pytest.mark.parametrize(
    ("field", "damaged"),
    [(b"eb", b"eb80F4240 "), (b"ab", b"ab8BEBC20m"), (b"ba", b"ba8BEBC20m")],
)
def test_a_point_that_no_instrument_can_have_made_is_garbled_and_harms_no_other(
    field: bytes, damaged: bytes
) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        await charging(driver)

        def distort(line: bytes) -> bytes:
            board.distort = lambda line: line
            return b";".join(
                damaged if part.lstrip(b"P").startswith(field) else part
                for part in line.removeprefix(b"P").split(b";")
            ).join((b"P", b""))

        board.distort = distort
        with pytest.raises(GarbledReplyError):
            await driver.measure()
        reading = await driver.measure()
        assert abs(asyncio.get_running_loop().time() - reading.time) <= 0.1
        assert reading.current == pytest.approx(1.5e-3)

    on_board(scenario)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([b"i\n", b"t\n", b"CC\n", b"CM\n"]), st.binary(max_size=80))
def test_damaged_answers_never_break_the_session(question: bytes, answer: bytes) -> None:
    async def scenario(driver: Driver, board: Board) -> None:
        board.fixed = {question: answer + b"\n"}
        with contextlib.suppress(InstrumentError):
            identity = await driver.connect()
            assert identity.model in PalmSensMethodScript.INFO.models
        assert board.scripts == []

    on_board(scenario, connect=False)
