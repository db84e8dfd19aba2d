"""Voltage against charge of each half cycle: whole, in shape, and cheap to keep up to date."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.evaluation.half_cycles import read_cycling
from operando.instruments.clock import run
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import Origin, Regulation, Sample
from operando.records import Record, SqliteRecorder
from operando.records.loops import HalfLoop, thinned
from operando.records.view import RecordView

MakeSample = Callable[..., Sample]
Manifest = dict[str, JSON]
Floats = npt.NDArray[np.float64]


def step(index: int, time: float, kind: str) -> tuple[Entry, float, Manifest]:
    return Entry.STEP_STARTED, time, {"index": index, "kind": kind, "cycle": 1}


class Cycler:
    """Rows of a cell that is cycled, with the runner's count of charge."""

    def __init__(self, make_sample: MakeSample) -> None:
        self.make = make_sample
        self.time = self.charge = 0.0
        self.count = 0
        self.acts: list[object] = []

    def step(
        self,
        cycle: int,
        current: float,
        rows: int,
        kind: str = "ConstantCurrent",
        **fields: object,
    ) -> None:
        self.count += 1
        self.acts.append(step(self.count, self.time, kind))
        for n in range(rows):
            passing = current * (0.95**n if kind == "ConstantVoltage" else 1.0)
            self.time += 1.0
            self.charge += passing
            voltage = 3.7 + 2.0 * self.charge + 100.0 * passing
            row = self.make(
                self.time, current=passing, charge=self.charge, voltage=voltage,
                step_count=self.count, cycle=cycle, **fields,
            )  # fmt: skip
            self.acts.append(row)

    def cycle(self, number: int, rows: int = 30) -> None:
        rest = {"regulation": Regulation.OPEN}
        self.step(number, 1e-3, rows)
        self.step(number, 1e-3, rows // 2, "ConstantVoltage")
        self.step(number, 0.0, rows // 3, "Rest", **rest)
        self.step(number, -1e-3, rows)
        self.step(number, 0.0, rows // 3, "Rest", **rest)


def write(folder: Path, manifest: Manifest, *acts: object) -> None:
    async def scenario() -> None:
        recorder = SqliteRecorder(folder, manifest, inline=True)
        for act in acts:
            if isinstance(act, Sample):
                recorder.sample(act)
            elif isinstance(act, tuple):
                await recorder.journal(*act)
            else:
                assert callable(act)
                await recorder.flush()
                act()
        await recorder.close()

    run(scenario(), virtual=True)


def assert_as_evaluated(loops: list[HalfLoop], folder: Path) -> None:
    """The half cycles that evaluation finds, row by row. Evaluation shares no code with loops."""
    cycling = read_cycling(Record.open(folder))
    assert [(x.cycle, x.charging) for x in loops] == [
        (half.cycle, half.charging) for half in cycling.halves
    ]
    for loop, half in zip(loops, cycling.halves, strict=True):
        voltage = cycling.samples["voltage"][half.rows]
        valid = np.isfinite(voltage)
        drawn = np.isfinite(loop.voltage)
        assert loop.voltage[drawn].tolist() == voltage[valid].tolist()
        passed = half.passed[valid] * (1.0 if half.charging else -1.0)
        np.testing.assert_allclose(loop.charge[drawn], passed, rtol=1e-9, atol=1e-15)


def view_of(folder: Path) -> RecordView:
    view = RecordView(folder)
    view.update()
    return view


def test_half_cycles_are_those_that_evaluation_finds(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    cycler = Cycler(make_sample)
    for number in (1, 2, 3):
        cycler.cycle(number)
    # A pause lies within a step; a relaxation that leaks charge is still a rest.
    cycler.step(4, 1e-3, 10)
    cycler.acts += [
        row._replace(regulation=Regulation.OPEN, current=0.0, time=row.time + 20.0)
        for row in cycler.acts[-3:]
        if isinstance(row, Sample)
    ]
    cycler.time += 30.0
    cycler.step(4, -1e-7, 10, "Rest")
    cycler.step(4, 1e-6, 10, "OpenCircuit", regulation=Regulation.OPEN)
    write(tmp_path / "r", manifest, *cycler.acts)
    loops = view_of(tmp_path / "r").loops(10_000)
    assert len(loops) == 7
    assert_as_evaluated(loops, tmp_path / "r")


def test_a_live_view_of_a_growing_record_finds_the_same(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    cycler = Cycler(make_sample)
    for number in (1, 2, 3):
        cycler.cycle(number, rows=40)
    view = RecordView(tmp_path / "r")
    looks: list[list[HalfLoop]] = []

    def look() -> None:
        view.update()
        looks.append(view.loops(10_000))

    acts: list[object] = []
    for number, act in enumerate(cycler.acts):
        if number % 17 == 0 and isinstance(act, Sample):
            acts += [look, act._replace(charge=math.nan)]
        else:
            acts.append(act)
    write(tmp_path / "r", manifest, *acts, look)
    assert_as_evaluated(looks[-1], tmp_path / "r")
    # What is drawn only ever grows at its end, and what is finished is not made again.
    for before, after in pairwise(looks):
        for old, new in zip(before[:-1], after, strict=False):
            assert new is old
        if before:
            again = after[len(before) - 1]
            assert again.voltage[: len(before[-1].voltage)].tolist() == before[-1].voltage.tolist()


def test_only_new_rows_of_the_newest_half_cycle_are_read_again(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycler = Cycler(make_sample)
    cycler.cycle(1)
    cycler.step(2, 1e-3, 50)
    view, read = RecordView(tmp_path / "r"), []
    honest = view.loop_rows

    def counted(first: int, stop: int) -> object:
        read.append(stop - first)
        return honest(first, stop)

    monkeypatch.setattr(view, "loop_rows", counted)

    def look() -> None:
        view.update()
        view.loops()
        read.append(0)

    *acts, last = cycler.acts
    write(tmp_path / "r", manifest, *acts, look, last, look, look)
    assert sum(read[: read.index(0)]) == 30 + 15 + 30 + 49
    assert read[read.index(0) :] == [0, 1, 0, 0]


def test_a_step_that_turns_from_charge_to_discharge_moves_to_the_other_half_cycle(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    cycler = Cycler(make_sample)
    cycler.step(1, 1e-3, 10)
    cycler.step(1, 1e-4, 5)
    early = len(cycler.acts)
    cycler.step(1, -1e-3, 10)
    turned = [
        act._replace(step_count=2) if isinstance(act, Sample) else act
        for act in cycler.acts[early:]
    ][1:]
    view = RecordView(tmp_path / "r")
    directions: list[list[bool]] = []

    def look() -> None:
        view.update()
        directions.append([loop.charging for loop in view.loops(10_000)])

    write(tmp_path / "r", manifest, *cycler.acts[:early], look, *turned, look)
    assert directions == [[True], [True, False]]
    assert_as_evaluated(view.loops(10_000), tmp_path / "r")


def test_downloaded_rows_replace_polled_ones_in_loops(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    cycler = Cycler(make_sample)
    cycler.cycle(1)
    down = [
        act._replace(time=act.time + 0.25, origin=Origin.INSTRUMENT)
        for act in cycler.acts
        if isinstance(act, Sample) and act.step_count in (2, 4)
    ]
    view = RecordView(tmp_path / "r")

    def look() -> None:
        view.update()
        view.loops(10_000)

    write(tmp_path / "r", manifest, *cycler.acts, look, *down, look)
    assert_as_evaluated(view.loops(10_000), tmp_path / "r")


def test_a_record_without_a_count_of_charge_is_integrated(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    cycler = Cycler(make_sample)
    cycler.cycle(1)
    cycler.cycle(2)
    acts = [
        act._replace(charge=math.nan, energy=math.nan) if isinstance(act, Sample) else act
        for act in cycler.acts
    ]
    write(tmp_path / "r", manifest, *acts)
    loops = view_of(tmp_path / "r").loops(10_000)
    assert len(loops) == 4
    assert_as_evaluated(loops, tmp_path / "r")


def test_lines_break_at_invalid_rows_and_over_gaps(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    cycler = Cycler(make_sample)
    cycler.step(1, 1e-3, 10)
    rows = [act for act in cycler.acts if isinstance(act, Sample)]
    rows[3] = rows[3]._replace(voltage=math.nan)
    rows[4] = rows[4]._replace(charge=math.nan)
    rows[7:] = [row._replace(time=row.time + 100.0) for row in rows[7:]]
    told = (Entry.GAP, 107.0, {"start": 7.0, "end": 107.0, "reason": "", "charge_bound": 0.1})
    write(tmp_path / "r", manifest, cycler.acts[0], *rows[:7], told, *rows[7:])
    (loop,) = view_of(tmp_path / "r").loops()
    np.testing.assert_array_equal(np.isnan(loop.voltage).nonzero()[0], [3, 7])
    assert np.isfinite(loop.charge).all()
    assert len(loop.voltage) == 9 + 2
    # A NaN in the count of charge stays where the count was.
    assert loop.charge[4] == loop.charge[3] == pytest.approx(3e-3 + 1e-3)


def test_charge_counts_from_zero_and_its_magnitude_grows(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    cycler = Cycler(make_sample)
    cycler.cycle(1, rows=600)
    cycler.cycle(2, rows=600)
    write(tmp_path / "r", manifest, *cycler.acts)
    view = view_of(tmp_path / "r")
    for points in (10, 100, 5000):
        loops = view.loops(points)
        assert [(x.cycle, x.charging) for x in loops] == [
            (1, True), (1, False), (2, True), (2, False)
        ]  # fmt: skip
        for loop in loops:
            assert len(loop.charge) == len(loop.voltage) <= points
            assert np.all(np.diff(loop.charge) > 0.0)
            assert loop.charge[0] == pytest.approx(1e-3)
        assert loops[0].charge[-1] == pytest.approx(0.6 + 1e-3 * (1 - 0.95**300) / 0.05)


def deviation(x: Floats, y: Floats, kept: npt.NDArray[np.int64]) -> float:
    """Largest distance of a row from the line between the kept rows around it."""
    worst = 0.0
    for a, b in pairwise(kept):
        dx, dy = x[b] - x[a], y[b] - y[a]
        px, py = x[a : b + 1] - x[a], y[a : b + 1] - y[a]
        square = dx * dx + dy * dy
        along = np.clip((px * dx + py * dy) / square, 0.0, 1.0) if square else np.zeros(len(px))
        worst = max(worst, float(np.hypot(px - along * dx, py - along * dy).max()))
    return worst


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.integers(1, 3000), st.integers(8, 200), st.data())
def test_what_is_left_out_lies_within_the_stated_distance(
    seed: int, count: int, points: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    shape = data.draw(st.sampled_from(("smooth", "noise", "jumps", "flat", "back")))
    charge = np.cumsum(random.uniform(0.0, 1.0, count))
    voltage = 3.0 + np.tanh(charge / count)
    if shape == "noise":
        voltage = voltage + random.normal(0.0, 0.01, count)
    elif shape == "jumps":
        voltage = voltage + 0.3 * (random.uniform(size=count) < 0.01)
    elif shape == "flat":
        voltage = np.full(count, 3.7)
    elif shape == "back":
        charge = np.sin(charge / count * 6.0)
    kept = thinned(charge, voltage, points)
    assert np.all(np.diff(kept) > 0)
    assert len(kept) <= max(points, 8)
    assert (kept[0], kept[-1]) == (0, count - 1)
    for values in (charge, voltage):
        assert (values[kept].min(), values[kept].max()) == (values.min(), values.max())
    x, y = ((v - v.min()) / (np.ptp(v) or 1.0) for v in (charge, voltage))
    length = float(np.hypot(np.diff(x), np.diff(y)).sum())
    assert deviation(x, y, kept) <= 0.5 * length / ((points - 6) // 2) + 1e-9
    if count <= points:
        assert len(kept) == count


def test_a_loop_keeps_the_corner_that_extremes_of_bins_would_lose() -> None:
    """A hysteresis loop: of each charge two voltages, and a short notch in one of them."""
    charge = np.concatenate((np.linspace(0.0, 1.0, 20_000), np.linspace(1.0, 0.0, 20_000)))
    voltage = np.concatenate((np.linspace(3.0, 4.0, 20_000), np.linspace(3.8, 2.8, 20_000)))
    voltage[9_900:10_100] -= 0.05
    kept = thinned(charge, voltage, 1000)
    notch = (kept >= 9_900) & (kept < 10_100)
    assert notch.sum() >= 4
    assert voltage[kept][notch].min() == pytest.approx(voltage[9_900], abs=2e-3)
    assert np.all(np.diff(kept[notch]) > 0)
