"""Spectra and sweeps of the MethodSCRIPT driver on its simulated twin: streams, bounds, ends."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from pathlib import Path

import pytest

from drivers.potentiostat_bench import Scenario, TrueBench, on_bench
from operando.drivers.palmsens_models import impedance_accuracy
from operando.instruments.errors import InstrumentError, UnsupportedError
from operando.instruments.roles import OpenCircuit, Potentiostatic, Protection
from operando.instruments.safety import secure
from operando.instruments.samples import Reading, Regulation, Status
from operando.instruments.techniques import (
    ImpedancePoint,
    Spectroscope,
    SpectrumRequest,
    Sweeper,
    SweepRequest,
)
from operando.simulators.cell import impedance

WINDOW = Protection((2.5, 4.3), 5e-3)
PELLET = {"preset": "pellet-lpscb", "cell": ""}


def bench(
    folder: Path,
    scenario: Scenario,
    model: str = "nexus",
    window: Protection = WINDOW,
    **more: object,
) -> None:
    async def prepared(bench: TrueBench) -> None:
        await half_charged(bench)
        await bench.instrument.prepare(window)
        await scenario(bench)

    on_bench(
        folder,
        prepared,
        driver="palmsens-methodscript",
        address="serial:ports/it?baud=921600",
        options=f'model = "{model}"',
        **more,  # type: ignore[arg-type]
    )


async def half_charged(bench: TrueBench) -> None:
    """Charge a full cell for an hour by its own physics, and let it rest."""
    if bench.cell.terminal(bench.now).voltage > 1.0:
        bench.cell.source_current(bench.now, 1.5e-3, 4.3)
        await bench.clock.sleep(3600.0)
        bench.cell.open_circuit(bench.now)
        await bench.clock.sleep(7200.0)


def spaced(highest: float, lowest: float, points: int) -> tuple[float, ...]:
    ratio = math.log(lowest / highest) / (points - 1)
    return tuple(highest * math.exp(index * ratio) for index in range(points))


def at_rest(bench: TrueBench, frequencies: tuple[float, ...], **more: float) -> SpectrumRequest:
    voltage = bench.cell.terminal(bench.now).voltage
    given = {"amplitude": 20e-3, "bias": voltage, "current_limit": 5e-3, **more}
    return SpectrumRequest(frequencies, **given)


async def points_of(bench: TrueBench) -> list[ImpedancePoint]:
    points = []
    while (point := await bench.instrument.next_point()) is not None:
        points.append(point)
    return points


async def begin_and_fetch(bench: TrueBench, request: SpectrumRequest) -> None:
    await bench.instrument.begin_spectrum(request)
    await bench.instrument.next_point()


# ---------------------------------------------------------------- spectra


@pytest.mark.parametrize(
    ("cell", "window"),
    [({}, WINDOW), (PELLET, Protection((-0.5, 0.5), 5e-3))],
    ids=["full cell", "pellet"],
)
def test_61_points_match_the_cell_within_the_stated_accuracy(
    tmp_path: Path, cell: dict[str, str], window: Protection
) -> None:
    # With 20 mV the twin's noise stays inside of 1 %, as what is stated leaves noise out.
    async def scenario(bench: TrueBench) -> None:
        frequencies = spaced(1e6, 1.0, 61)
        request = at_rest(bench, frequencies)
        await bench.instrument.begin_spectrum(request)
        points = await points_of(bench)
        assert [one.frequency for one in points] == pytest.approx(frequencies, rel=1e-5)
        for one in points:
            truth = complex(impedance(bench.cell, one.frequency, bench.now))
            error = abs(complex(one.real, one.imaginary) - truth)
            assert error <= impedance_accuracy(one.frequency, abs(truth)), one
            assert one.status is Status.OK
            assert one.voltage == pytest.approx(request.bias, abs=1e-3)
            assert math.isnan(one.current)
        assert min(one.imaginary for one in points) < 0.0, "capacitive is negative"

    bench(tmp_path, scenario, window=window, **cell)


def test_points_come_one_by_one_as_they_are_made_and_the_cell_is_off_behind_the_last(
    tmp_path: Path,
) -> None:
    async def scenario(bench: TrueBench) -> None:
        instrument = bench.instrument
        assert isinstance(bench.instrument, Spectroscope)
        frequencies = spaced(1e3, 0.1, 9)
        begun = bench.now
        await instrument.begin_spectrum(at_rest(bench, frequencies))
        assert bench.relay
        times = [begun]
        for frequency in frequencies:
            point = await instrument.next_point()
            assert point is not None
            assert point.frequency == pytest.approx(frequency, rel=1e-5)
            assert times[-1] < point.time <= bench.now
            assert bench.now - point.time < 0.02, "it was made when it came"
            times.append(point.time)
            if frequency < 0.2:
                assert point.time - times[-2] > 1.0 / frequency
        assert await instrument.next_point() is None
        assert not bench.relay
        assert await instrument.next_point() is None
        reading = await instrument.measure()
        assert (reading.regulation, reading.status) == (Regulation.OPEN, Status.OK)

    bench(tmp_path, scenario)


def test_points_that_nobody_fetches_wait_for_whoever_asks(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        await bench.instrument.begin_spectrum(at_rest(bench, spaced(1e5, 1.0, 11)))
        await bench.clock.sleep(60.0)
        assert not bench.relay
        points = await points_of(bench)
        assert len(points) == 11
        assert points[-1].time < bench.now - 30.0

    bench(tmp_path, scenario)


def test_while_a_spectrum_is_measured_a_reading_says_that_nothing_is_known(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        await bench.instrument.begin_spectrum(at_rest(bench, spaced(10.0, 0.1, 3)))
        begun = bench.now
        for _ in range(5):
            reading = await bench.instrument.measure()
            assert math.isnan(reading.voltage)
            assert math.isnan(reading.current)
            assert (reading.regulation, reading.status) == (Regulation.VOLTAGE, Status.OK)
            assert reading.time == bench.now
        assert bench.now == begun, "it does not wait for a point"
        assert await bench.instrument.output_is_on()
        assert len(await points_of(bench)) == 3

    bench(tmp_path, scenario)


@pytest.mark.parametrize("after", [0.0, 0.3, 2.0, 30.0, 130.0, 199.0])
def test_safe_ends_a_spectrum_at_10_millihertz_within_the_stated_time(
    tmp_path: Path, after: float
) -> None:
    async def scenario(bench: TrueBench) -> None:
        instrument = bench.instrument
        await instrument.begin_spectrum(at_rest(bench, spaced(0.1, 0.01, 2)))
        fetching = asyncio.create_task(points_of(bench))
        await bench.clock.sleep(after)
        assert bench.relay
        begun = bench.now
        await instrument.safe()
        assert bench.now - begun <= instrument.capabilities.off_time
        assert not bench.relay
        with pytest.raises(InstrumentError, match="safe state"):
            await fetching
        reading = await instrument.measure()
        assert (reading.regulation, reading.status) == (Regulation.OPEN, Status.OK)

    bench(tmp_path, scenario)


def test_safe_opens_the_cell_even_while_a_spectrum_is_begun(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        beginning = asyncio.create_task(
            bench.instrument.begin_spectrum(at_rest(bench, spaced(10.0, 1.0, 3)))
        )
        await bench.clock.sleep(0.15)
        await bench.instrument.safe()
        assert not bench.relay
        with pytest.raises(InstrumentError, match="safe state"):
            await beginning
        await bench.clock.sleep(30.0)
        assert not bench.relay

    bench(tmp_path, scenario)


def test_a_new_set_point_ends_a_spectrum(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        instrument = bench.instrument
        await instrument.begin_spectrum(at_rest(bench, spaced(1.0, 0.01, 3)))
        await instrument.apply(OpenCircuit(4.75))
        assert not bench.relay
        with pytest.raises(InstrumentError, match="asked for something else"):
            await instrument.next_point()
        assert (await instrument.measure()).voltage > 3.0

    bench(tmp_path, scenario)


def test_a_spectrum_outlives_its_host_by_its_own_length_alone(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        await bench.instrument.begin_spectrum(at_rest(bench, spaced(1.0, 0.1, 2)))
        await bench.instrument.close()
        assert bench.relay
        await bench.clock.sleep(60.0)
        assert not bench.relay

    bench(tmp_path, scenario)


def test_a_bias_far_from_rest_opens_the_cell_before_the_first_frequency(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        request = at_rest(bench, spaced(1e3, 1.0, 4), bias=2.6, current_limit=0.5e-3)
        with pytest.raises(InstrumentError, match="before the first frequency"):
            await begin_and_fetch(bench, request)
        assert not bench.relay

    bench(tmp_path, scenario)


def test_more_current_than_the_largest_range_is_told_and_ends_the_spectrum(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        # 20 mV over some 17 ohm is more than 1 mA.
        request = at_rest(bench, spaced(1e5, 1e2, 4), current_limit=1e-3)
        await bench.instrument.begin_spectrum(request)
        point = await bench.instrument.next_point()
        assert point is not None
        assert point.status is Status.OVERLOAD
        with pytest.raises(InstrumentError, match=r"more flowed than the 0\.001 A"):
            await bench.instrument.next_point()
        await bench.clock.sleep(1.0)
        assert not bench.relay

    bench(tmp_path, scenario)


def test_a_line_that_breaks_is_an_error_at_once_and_another_session_may_stop_it(
    tmp_path: Path,
) -> None:
    async def scenario(bench: TrueBench) -> None:
        await bench.instrument.begin_spectrum(at_rest(bench, spaced(100.0, 0.5, 20)))
        bench.simulation.inject("it", "drop 0.5 s")
        begun = bench.now
        with pytest.raises(InstrumentError):
            await points_of(bench)
        assert bench.now - begun < 1.0
        bench.simulation.inject("it", "none")
        await bench.clock.sleep(1.0)
        assert bench.relay
        other = bench.another_session()
        await other.connect()  # hears the stamp of the next point
        await other.safe()
        assert not bench.relay
        await other.close()

    bench(tmp_path, scenario)


def test_a_session_whose_line_broke_within_a_long_point_still_stops_what_it_began(
    tmp_path: Path,
) -> None:
    async def scenario(bench: TrueBench) -> None:
        begun = bench.now  # two periods a point: the second after 83 s, the last after 283 s
        await bench.instrument.begin_spectrum(at_rest(bench, spaced(0.1, 0.01, 3)))
        assert await bench.instrument.next_point() is not None
        bench.simulation.inject("it", "drop 0.5 s")
        with pytest.raises(InstrumentError):
            await bench.instrument.next_point()
        bench.simulation.inject("it", "none")
        await bench.clock.sleep(1.0)
        assert bench.relay
        await secure(bench.instrument)  # aborts, then finds who answers
        assert bench.now - begun < 40.0
        assert not bench.relay

    bench(tmp_path, scenario)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"amplitude": 0.6}, "amplitude"),
        ({"bias": 4.4}, "lies outside what the run was prepared for"),
        ({"current_limit": 6e-3}, "lies outside what the run was prepared for"),
    ],
)
def test_a_spectrum_that_cannot_be_is_refused(
    tmp_path: Path, more: dict[str, float], words: str
) -> None:
    async def scenario(bench: TrueBench) -> None:
        request = at_rest(bench, spaced(1e3, 1.0, 4), **more)
        with pytest.raises(UnsupportedError, match=words):
            bench.instrument.check_spectrum(request)
        with pytest.raises(UnsupportedError, match=words):
            await bench.instrument.begin_spectrum(request)
        assert not bench.relay

    bench(tmp_path, scenario)


def test_the_highest_frequency_is_that_of_the_model(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        bench.instrument.check_spectrum(at_rest(bench, spaced(200e3, 1.0, 4)))
        with pytest.raises(UnsupportedError, match="beyond a EmStat4 HR's 200000 Hz"):
            bench.instrument.check_spectrum(at_rest(bench, spaced(1e6, 1.0, 61)))

    bench(tmp_path, scenario, model="emstat4-hr")


# ---------------------------------------------------------------- sweeps


async def readings_until(bench: TrueBench, end: float) -> list[Reading]:
    found = []
    while bench.now < end:
        found.append(await bench.instrument.measure())
    return found


@pytest.mark.parametrize(
    ("rate", "step"),
    [(10e-3, 1e-3), (-20e-3, 1e-3), (0.5e-3, 1e-3), (-1e-3, 0.35e-3)],
    ids=["fast up", "fast down", "slow up", "slow down, levels not whole"],
)
def test_a_sweep_passes_its_levels_at_its_rate_and_holds_the_end(
    tmp_path: Path, rate: float, step: float
) -> None:
    async def scenario(bench: TrueBench) -> None:
        instrument = bench.instrument
        assert isinstance(bench.instrument, Sweeper)
        start = round(bench.cell.terminal(bench.now).voltage, 3)
        end = start + math.copysign(20e-3, rate)
        request = SweepRequest(start, end, abs(rate), step, 5e-3)
        await instrument.sweep(request)
        assert bench.relay
        first = await instrument.measure()
        dwell = step / abs(rate)
        # The first point is made at the end of the first interval.
        begun = first.time - dwell / max(1, math.ceil(dwell / 0.1 - 1e-9))
        readings = [first, *await readings_until(bench, begun + request.duration + 5.0)]
        assert {one.status for one in readings} <= {Status.OK, Status.UNDERLOAD}
        assert {one.regulation for one in readings} == {Regulation.VOLTAGE}
        # Points are no further apart than the interval, also within a level.
        assert max(b.time - a.time for a, b in pairwise(readings)) < 0.11
        for one in readings:
            # A point that is made when a level ends belongs to it; 10 ms are the script's. Where
            # levels are held one by one their ends are told to half of an interval.
            elapsed = one.time - begun
            slack = 0.01 if dwell <= 0.1 else 0.06
            levels = {request.level(elapsed + late) for late in (-slack, slack - 0.01)}
            assert any(abs(one.voltage - level) < 0.2e-3 for level in levels), (elapsed, one)
        assert readings[-1].voltage == pytest.approx(end, abs=0.2e-3)
        seen = {round(abs(one.voltage - start) / step, 1) for one in readings}
        assert len(seen) >= request.duration / dwell - 1e-6

    bench(tmp_path, scenario)


def test_a_sweep_of_the_board_is_seen_by_the_cell_itself(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        start = bench.cell.terminal(bench.now).voltage
        await bench.instrument.sweep(SweepRequest(start, start + 0.05, 5e-3, 1e-3, 5e-3))
        begun = bench.now
        await bench.clock.sleep(4.0)
        here = bench.cell.terminal(bench.now)
        assert here.voltage == pytest.approx(start + 5e-3 * (bench.now - begun), abs=2e-3)
        assert here.current > 0.0
        await bench.clock.sleep(60.0)
        assert bench.cell.terminal(bench.now).voltage == pytest.approx(start + 0.05, abs=1e-3)
        assert bench.relay

    bench(tmp_path, scenario)


@pytest.mark.parametrize("rate", [20e-3, 1e-3])
def test_a_sweep_ends_when_its_current_limit_is_passed(tmp_path: Path, rate: float) -> None:
    async def scenario(bench: TrueBench) -> None:
        start = bench.cell.terminal(bench.now).voltage
        limit = 0.2e-3
        await bench.instrument.sweep(SweepRequest(start, start + 0.2, rate, 1e-3, limit))
        readings = []
        while bench.relay:
            readings.append(await bench.instrument.measure())
            assert abs(readings[-1].current) < 1.3 * limit
        assert readings
        assert readings[-1].voltage < start + 0.1, "it ended long before its last level"
        rest = [await bench.instrument.measure() for _ in range(2)]
        assert abs((readings + rest)[-2].current) > limit or abs(readings[-1].current) > limit
        assert (rest[-1].regulation, rest[-1].status) == (Regulation.OPEN, Status.FAULT)
        assert not bench.relay

    bench(tmp_path, scenario)


@pytest.mark.parametrize("step", [0.2e-3, 2e-3], ids=["linear", "level by level"])
def test_a_sweep_is_renewed_without_losing_its_way(tmp_path: Path, step: float) -> None:
    async def scenario(bench: TrueBench) -> None:
        instrument = bench.instrument
        start = bench.cell.terminal(bench.now).voltage
        request = SweepRequest(start, start + 40e-3, 0.4e-3, step, 5e-3)
        await instrument.sweep(request)  # takes 100 s, and would end after 20 s unattended
        begun = bench.now
        for _ in range(20):
            await bench.clock.sleep(4.9)
            reading = await instrument.measure()
            assert bench.relay
            expected = request.level(bench.now - begun)
            assert reading.voltage == pytest.approx(expected, abs=1.1 * step + 1e-3)
        await bench.clock.sleep(60.0)
        assert bench.relay
        assert (await instrument.measure()).voltage == pytest.approx(request.end, abs=0.2e-3)

    bench(tmp_path, scenario, interval=0.5, unattended=20.0)


@pytest.mark.parametrize(
    ("rate", "step", "after"),
    [(1e-3, 0.2e-3, 5.0), (1e-3, 5e-3, 5.0), (50e-3, 5e-3, 30.0)],
    ids=["linear", "level by level", "behind the end"],
)
def test_a_sweep_ends_by_itself_when_the_host_has_gone(
    tmp_path: Path, rate: float, step: float, after: float
) -> None:
    async def scenario(bench: TrueBench) -> None:
        start = bench.cell.terminal(bench.now).voltage
        await bench.instrument.sweep(SweepRequest(start, start + 0.1, rate, step, 5e-3))
        await bench.clock.sleep(after)
        await bench.instrument.close()
        await bench.clock.sleep(15.0)
        assert bench.relay
        await bench.clock.sleep(11.0)
        assert not bench.relay

    bench(tmp_path, scenario, interval=0.5, unattended=25.0)


@pytest.mark.parametrize("step", [0.2e-3, 5e-3], ids=["linear", "level by level"])
def test_safe_opens_the_cell_within_a_sweep_in_its_time(tmp_path: Path, step: float) -> None:
    async def scenario(bench: TrueBench) -> None:
        start = bench.cell.terminal(bench.now).voltage
        await bench.instrument.sweep(SweepRequest(start, start + 0.1, 0.4e-3, step, 5e-3))
        await bench.clock.sleep(7.3)
        begun = bench.now
        await bench.instrument.safe()
        assert not bench.relay
        assert bench.now - begun <= bench.instrument.capabilities.off_time

    bench(tmp_path, scenario, interval=0.5)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (SweepRequest(3.7, 4.4, 1e-3, 1e-3, 1e-3), "outside what the run was prepared for"),
        (SweepRequest(3.7, 4.0, 1e-3, 1e-3, 6e-3), "outside what the run was prepared for"),
        (SweepRequest(3.7, 3.7, 1e-3, 1e-3, 1e-3), "no two levels"),
        (SweepRequest(3.7, 4.0, 1.0, 1e-3, 1e-3), "steps of 0.02 V take"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(
    tmp_path: Path, request_: SweepRequest, words: str
) -> None:
    async def scenario(bench: TrueBench) -> None:
        with pytest.raises(UnsupportedError, match=words):
            bench.instrument.check_sweep(request_)
        with pytest.raises(UnsupportedError, match=words):
            await bench.instrument.sweep(request_)
        assert not bench.relay

    bench(tmp_path, scenario)


def test_a_held_voltage_comes_after_a_sweep_like_any_set_point(tmp_path: Path) -> None:
    async def scenario(bench: TrueBench) -> None:
        start = bench.cell.terminal(bench.now).voltage
        await bench.instrument.sweep(SweepRequest(start, start + 0.01, 10e-3, 1e-3, 5e-3))
        await bench.clock.sleep(2.0)
        await bench.instrument.apply(Potentiostatic(start, 1e-3))
        await bench.clock.sleep(2.0)
        assert bench.relay
        assert (await bench.instrument.measure()).status in (Status.OK, Status.UNDERLOAD)

    bench(tmp_path, scenario)
