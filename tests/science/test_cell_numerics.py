"""The simulated cell's numerics against independent solutions."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from operando.simulators.cell import SimulatedCell, load_preset, simulated, stepping
from operando.simulators.cell.diffusion import Sphere, tabulate
from operando.simulators.cell.electrochemistry import Electrochemistry
from operando.simulators.cell.interpolation import MonotoneCurve
from operando.simulators.cell.materials import (
    NCM811_POTENTIAL,
    NCM811_STRAIN,
    ncm811_potential,
    ncm811_strain,
)
from operando.simulators.cell.state import Branch, Point

UNITY = tabulate(lambda x: 1.0)


@pytest.mark.parametrize("table", [NCM811_POTENTIAL, NCM811_STRAIN])
def test_the_curve_is_the_pchip_interpolant(table: tuple[tuple[float, float], ...]) -> None:
    x, y = zip(*table, strict=True)
    curve, reference = MonotoneCurve(x, y), PchipInterpolator(x, y)
    slope = reference.derivative()
    for at in np.linspace(x[0], x[-1], 3001)[:-1]:
        assert curve(at) == pytest.approx(float(reference(at)), abs=1e-12)
        assert curve.slope(at) == pytest.approx(float(slope(at)), abs=1e-7, rel=1e-9)


def test_the_open_circuit_curve_meets_its_table_and_falls_everywhere() -> None:
    curve = ncm811_potential(1.0)
    for x, potential in NCM811_POTENTIAL:
        assert curve(x) == pytest.approx(potential, abs=1e-12)
    assert curve(0.20) == pytest.approx(4.35, abs=1e-3)
    values = [curve(x) for x in np.linspace(-1.0, 3.0, 40001)]
    assert all(b < a for a, b in pairwise(values))


def test_the_stretch_acts_on_the_extracted_lithium() -> None:
    stretched, table = ncm811_potential(1.06), ncm811_potential(1.0)
    for extracted in (0.05, 0.3, 0.7):
        assert stretched(1.0 - 1.06 * extracted) == pytest.approx(table(1.0 - extracted), abs=1e-9)


def test_the_cathode_shrinks_monotonically_on_charge() -> None:
    strain = ncm811_strain(1.0)
    values = [strain(x) for x in np.linspace(0.1, 1.1, 1001)]
    assert all(b >= a for a, b in pairwise(values))
    assert strain(1.0) == 0.0
    assert strain(0.216) == pytest.approx(-0.051)  # Kondrakov et al. 2017, 3.0-4.3 V


def test_constant_flux_into_a_sphere_follows_the_analytic_series() -> None:
    # Crank, The Mathematics of Diffusion, 2nd ed., section 6.3.3.
    radius, diffusivity, rate = 2.5e-6, 9e-16, 5e-5  # m, m2/s, change of the mean in 1/s
    roots = [
        float(brentq(lambda z: math.sin(z) - z * math.cos(z), n * math.pi, (n + 0.5) * math.pi))
        for n in range(1, 400)
    ]

    def surface(time: float) -> float:
        tau = diffusivity * time / radius**2
        series = sum(math.exp(-z * z * tau) / z**2 for z in roots)
        return rate * radius**2 / (3.0 * diffusivity) * (3.0 * tau + 0.2 - 2.0 * series)

    sphere = Sphere(radius, lambda x: diffusivity, nodes=22, grading=0.82)
    now, before, step, time = [0.3] * 22, None, 1.0, 0.0
    for count in range(1, 3001):
        free, inflow = sphere.eliminate(now, before, h=step, ratio=1.0, factor=1.0)
        now, before = sphere.complete(free + inflow * rate, UNITY)[0], now
        time += step
        if count in (10, 30, 100, 300, 1000, 3000):
            assert now[-1] - 0.3 == pytest.approx(surface(time), rel=0.01)
            assert sphere.mean(now) - 0.3 == pytest.approx(rate * time, rel=1e-9)


def test_a_steady_profile_in_a_graded_medium_is_conserved() -> None:
    sphere = Sphere(1e-6, lambda x: 1e-15 * math.exp(-5.0 * x), nodes=22, grading=0.82)
    assert sum(sphere.volumes) == pytest.approx(1.0, abs=1e-14)
    composition = [0.2 + 0.7 * i / 21 for i in range(22)]
    mean = sphere.mean(composition)
    for _ in range(200):
        free, _ = sphere.eliminate(composition, None, h=30.0, ratio=0.0, factor=1.0)
        composition, whole = sphere.complete(free, UNITY)
        assert whole == pytest.approx(1.0, abs=1e-13)
    assert sphere.mean(composition) == pytest.approx(mean, abs=1e-12)
    assert max(composition) - min(composition) < 1e-3


@pytest.mark.parametrize(("rate", "allowed"), [(0.1, 2e-4), (2.0, 3e-4)])
def test_a_hundredfold_tolerance_changes_little(
    monkeypatch: pytest.MonkeyPatch, rate: float, allowed: float
) -> None:
    def voltages() -> list[float]:
        cell = SimulatedCell.from_preset("ncm811-caec")
        cell.source_voltage(0.0, 4.25, rate * cell.nominal_capacity / 3600.0)
        return [cell.terminal(i * 90.0 / rate).voltage for i in range(1, 45)]

    ordinary = voltages()
    monkeypatch.setattr(stepping, "VOLTAGE_TOLERANCE", stepping.VOLTAGE_TOLERANCE / 100.0)
    monkeypatch.setattr(stepping, "COMPOSITION_TOLERANCE", stepping.COMPOSITION_TOLERANCE / 100.0)
    fine = voltages()
    assert max(abs(a - b) for a, b in zip(ordinary, fine, strict=True)) < allowed
    assert ordinary != fine


def test_the_cell_starts_without_scipy_matplotlib_or_qt() -> None:
    # What takes seconds to load, or needs a display, is no part of a headless acquisition's start.
    # The package around the cell brings asyncio, which every station has anyway.
    code = (
        "import sys, operando.simulators.cell, operando.simulators.loadframe; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "operando" in loaded
    heavy = {"scipy", "matplotlib", "PyQt5", "PyQt6", "PySide2", "PySide6", "pyqtgraph"}
    assert not heavy & loaded


@pytest.mark.parametrize("length", [0.0, 5e-324, 2.2e-309, 1e-300, 1e-30])
@pytest.mark.parametrize("ratio", [None, 1e-300, 1.0])
def test_a_step_of_next_to_no_time_moves_nothing(length: float, ratio: float | None) -> None:
    # One over such a length is no number: it must not be divided by.
    sphere = Sphere(2.5e-6, lambda x: 1e-14 * (1.1 - x), nodes=22, grading=0.82)
    now = [0.2 + 0.7 * i / 21 for i in range(22)]
    before = None if ratio is None else list(now)
    free, inflow = sphere.eliminate(now, before, h=length, ratio=ratio or 0.0, factor=1.0)
    assert 0.0 <= inflow < 1e-27
    assert sphere.complete(free, UNITY)[0] == pytest.approx(now, rel=1e-14)


def test_the_average_that_comes_with_a_composition_is_the_average_of_its_table() -> None:
    sphere = Sphere(2.5e-6, lambda x: 1e-14 * (1.1 - x), nodes=22, grading=0.82)
    square = tabulate(lambda x: x * x)
    now = [-0.1 + 1.3 * i / 21 for i in range(22)]  # beyond both ends of the table
    free, _ = sphere.eliminate(now, None, h=1.0, ratio=0.0, factor=1.0)
    composition, average = sphere.complete(free, square)
    expected = [min(max(x, 0.0), 1.05) ** 2 for x in composition]
    assert average == pytest.approx(sphere.mean(expected), rel=1e-5)
    assert average == pytest.approx(sphere.average(square, composition), rel=1e-14)


@pytest.mark.parametrize("surface", [-1e12, -300.0, -0.1, 0.0, 0.5, 1.0, 1.3, 300.0, 1e12])
def test_the_exchange_current_is_positive_at_any_lithium_content(surface: float) -> None:
    physics = Electrochemistry(load_preset("ncm811-caec").parameters)
    assert 0.0 < physics.exchange_current(surface, 1e-3, 0.05) < 1.0


def test_an_hour_of_charge_takes_hundreds_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Cost in steps, which every machine counts alike; 380 when this was written.
    taken = count_steps(monkeypatch)
    cell = SimulatedCell.from_preset("ncm811-caec")
    one_c = cell.nominal_capacity / 3600.0
    cell.source_voltage(0.0, 4.25, one_c)
    cell.source_voltage(7200.0, 2.5, one_c)
    cell.open_circuit(10800.0)
    cell.terminal(12000.0)
    assert 200 < len(taken) < 450


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that grows by the length (s) of every step that any cell computes."""
    lengths: list[float] = []
    step = Electrochemistry.step

    def counted(
        self: Electrochemistry, before: Point | None, begin: Point, branch: Branch, length: float
    ) -> Point:
        lengths.append(length)
        return step(self, before, begin, branch, length)

    monkeypatch.setattr(Electrochemistry, "step", counted)
    return lengths


DAY = 86400.0


@pytest.mark.parametrize(
    ("voltage", "current", "duration"),
    [
        (16.0, 0.6, 7.0 * DAY),
        (21.0, 1.0, 7.0 * DAY),
        (-21.0, 1.0, 7.0 * DAY),
        (1e6, 1e6, 7.0 * DAY),
        (-1e6, 1e-9, 1e9),
        (4.25, 1e-3, 1e9),
    ],
)
@pytest.mark.parametrize("start", [0.0, 1.8e9])
def test_the_work_for_one_setting_is_bounded_whatever_it_is(
    monkeypatch: pytest.MonkeyPatch, voltage: float, current: float, duration: float, start: float
) -> None:
    taken = count_steps(monkeypatch)
    cell = SimulatedCell.from_preset("ncm811-caec", start=start)
    cell.source_voltage(start, voltage, current)
    terminal = cell.terminal(start + duration)
    assert math.isfinite(terminal.voltage)
    assert abs(terminal.current) <= current * (1.0 + 1e-6)
    assert len(taken) < 2 * (stepping.PATIENCE + math.log(1e9 / 1e-6) / math.log(stepping.RELIEF))


def test_equations_that_never_satisfy_their_tolerance_are_still_followed_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulated, "PATIENCE", 100)
    monkeypatch.setattr(simulated, "error_of_step", lambda *_: math.nan)
    taken = count_steps(monkeypatch)
    cell = SimulatedCell.from_preset("ncm811-caec")
    cell.source_voltage(0.0, 4.25, cell.nominal_capacity / 3600.0)
    terminal = cell.terminal(1e5)
    assert terminal.voltage == pytest.approx(4.25, abs=1e-4)
    assert cell.leniency > 1e6
    assert len(taken) < 100_000


def test_leniency_tells_abuse_from_ordinary_use(monkeypatch: pytest.MonkeyPatch) -> None:
    # With a tenth of the steps that are granted, ordinary use still needs none of the leniency.
    monkeypatch.setattr(simulated, "PATIENCE", 300)
    cell = SimulatedCell.from_preset("ncm811-lno")
    one_c = cell.nominal_capacity / 3600.0
    now = 0.0
    for rate in (0.02, 1.0, 3.0):
        for level in (4.35, 2.5):
            cell.source_voltage(now, level, rate * one_c)
            now += 4000.0 + 4000.0 / rate
            cell.open_circuit(now)
            now += 40.0 * 3600.0
    cell.terminal(now)
    assert cell.leniency == 1.0
    cell.source_voltage(now, 21.0, 1.0)
    cell.terminal(now + 30.0 * DAY)
    assert cell.leniency > 1.0


def test_a_cell_is_the_same_wherever_laboratory_time_counts_from() -> None:
    def voltages(start: float) -> list[float]:
        cell = SimulatedCell.from_preset("ncm811-caec", start=start)
        cell.source_voltage(start + 60.0, 4.25, cell.nominal_capacity / 3600.0)
        return [cell.terminal(start + 60.0 * i).voltage for i in range(1, 120)]

    # 1.8e9 s is a date of these years as seconds since 1970: a float tells 0.24 us apart there.
    assert voltages(1.8e9) == pytest.approx(voltages(0.0), abs=1e-7)
