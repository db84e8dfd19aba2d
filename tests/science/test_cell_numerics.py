"""The simulated cell's numerics against independent solutions."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from operando.simulators.cell import SimulatedCell, stepping
from operando.simulators.cell.diffusion import Sphere
from operando.simulators.cell.interpolation import MonotoneCurve
from operando.simulators.cell.materials import (
    NCM811_POTENTIAL,
    NCM811_STRAIN,
    ncm811_potential,
    ncm811_strain,
)


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
    strain = ncm811_strain()
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
        now, before = sphere.complete(free + inflow * rate), now
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
        composition = sphere.complete(free)
    assert sphere.mean(composition) == pytest.approx(mean, abs=1e-12)
    assert max(composition) - min(composition) < 1e-3


@pytest.mark.parametrize(("rate", "allowed"), [(0.1, 1e-4), (2.0, 3e-4)])
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


def test_the_cell_starts_without_scipy() -> None:
    code = (
        "import sys, operando.simulators.cell, operando.simulators.loadframe\n"
        "assert not {'scipy', 'asyncio', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
