"""The spectrum belongs to the same state as the voltage, and is a physical impedance."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operando.simulators.cell import CellParameters, SimulatedCell, elements, load_preset
from operando.simulators.cell.spectrum import contributions, impedance

HOUR = 3600.0


def without_capacitances(parameters: CellParameters) -> CellParameters:
    return replace(
        parameters,
        grain_boundary_capacitance=0.0,
        counter_capacitance=0.0,
        double_layer_capacitance=0.0,
    )


def rested(
    parameters: CellParameters, *, cycles: int = 0, kelvin: float | None = None
) -> tuple[SimulatedCell, float]:
    """Return a half-charged cell after some fast cycles and a long rest."""
    cell = SimulatedCell(parameters)
    current = cell.nominal_capacity / HOUR
    now = 0.0
    for _ in range(cycles):
        for direction in (1.0, -1.0):
            cell.source_voltage(now, 4.25 if direction > 0.0 else 2.5, current)
            now += HOUR
            cell.terminal(now)
    cell.source_voltage(now, 3.95, 0.2 * current)
    now += 40.0 * HOUR
    cell.open_circuit(now)
    now += 300.0 * HOUR
    if kelvin is not None:
        cell.set_temperature(now, kelvin)
    return cell, now


def measured(cell: SimulatedCell, now: float, frequency: float, amplitude: float) -> complex:
    """Drive a cell with a current in stairs around a sine and return voltage over current.

    A twin that is left alone tells what drifts by itself: leakage, and the growth of interphases.
    """
    twin = deepcopy(cell)
    stairs, samples, periods = 48, 6, 3
    width = 1.0 / frequency / stairs
    turned_voltage = turned_current = 0j
    for k in range(periods * stairs):
        begin = now + k * width
        level = amplitude * math.sin(2.0 * math.pi * (k + 0.5) / stairs)
        cell.source_current(begin, level, 9.0)
        for i in range(samples):
            at = begin + (i + 0.5) / samples * width
            terminal = cell.terminal(at)
            if k >= (periods - 1) * stairs:
                turn = np.exp(-2j * math.pi * frequency * (at - now))
                turned_voltage += (terminal.voltage - twin.terminal(at).voltage) * turn
                turned_current += terminal.current * turn
    return complex(turned_voltage / turned_current)


def voigt_residual(frequency: NDArray[np.float64], z: NDArray[np.complex128]) -> float:
    """Return the largest relative residual of a fit with RC elements: Kramers-Kronig holds."""
    omega = 2.0 * np.pi * frequency
    times = np.logspace(-9.0, 5.0, 85)
    columns = [1.0 / (1.0 + 1j * np.outer(omega, times)), np.ones((len(omega), 1))]
    matrix = np.hstack([*columns, 1.0 / (1j * omega)[:, None]])
    matrix = matrix / np.abs(z)[:, None]
    both = np.vstack([matrix.real, matrix.imag])
    target = np.concatenate([(z / np.abs(z)).real, (z / np.abs(z)).imag])
    found = np.linalg.lstsq(both, target, rcond=1e-12)[0]
    return float(np.max(np.abs(both @ found - target)))


@pytest.fixture(scope="module")
def fresh() -> CellParameters:
    return load_preset("ncm811-caec").parameters


@pytest.mark.parametrize("frequency", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("cycles", [0, 4])
def test_without_capacitances_it_is_the_time_domain_perturbed(
    fresh: CellParameters, frequency: float, cycles: int
) -> None:
    quick = replace(without_capacitances(fresh), contact_loss=60.0 * fresh.contact_loss)
    cell, now = rested(quick if cycles else without_capacitances(fresh), cycles=cycles)
    if cycles:
        assert cell.state(now).contact_fraction < 0.93
    expected = complex(impedance(cell, frequency, now))
    found = measured(cell, now, frequency, 2e-6)
    # The time domain's grid of the particle is worth some parts in a thousand.
    assert abs(found - expected) < 0.005 * abs(expected)


@pytest.mark.parametrize("frequency", [1e-3, 3e-3])
def test_below_the_capacitances_it_is_the_time_domain_perturbed(
    fresh: CellParameters, frequency: float
) -> None:
    cell, now = rested(fresh)
    expected = complex(impedance(cell, frequency, now))
    assert abs(measured(cell, now, frequency, 2e-6) - expected) < 0.005 * abs(expected)


def test_the_high_frequency_intercept_is_bulk_and_both_conductors_side_by_side(
    fresh: CellParameters,
) -> None:
    cell, now = rested(fresh)
    bulk = fresh.separator_thickness / fresh.separator_conductivity
    share = fresh.cathode_electronic_share
    beside = fresh.cathode_ionic_resistance * share * (1.0 - share)
    expected = (bulk * (1.0 - fresh.grain_boundary_share) + beside) / fresh.area
    z = complex(impedance(cell, 1e12, now, lead_resistance=0.5))
    assert z.real == pytest.approx(expected + 0.5, rel=1e-3)


def test_at_low_frequency_resistance_and_capacitance_take_their_limits(
    fresh: CellParameters,
) -> None:
    # A constant-phase element, unlike a capacitor, takes a little even here.
    cell, now = rested(without_capacitances(fresh))
    state, physics = cell.state(now), cell._physics
    slope = physics.potential.slope(state.lithiation)
    omega = 1e-9
    z = complex(impedance(cell, omega / (2.0 * math.pi), now))
    assert z.imag == pytest.approx(slope / (omega * physics.capacity * state.connected_fraction))

    # The pseudo-steady resistance: a small constant current, either way, until the profile stands.
    duration = 20.0 * HOUR
    found = []
    for current in (1e-6, -1e-6):
        cell, now = rested(without_capacitances(fresh))
        cell.source_current(now, current, 9.0)
        voltage = cell.terminal(now + duration).voltage
        found.append((voltage - cell.open_circuit_voltage(now + duration)) / current)
    assert z.real == pytest.approx(sum(found) / 2.0, rel=2e-3)


@settings(max_examples=25, deadline=None)
@given(
    hours=st.floats(0.05, 9.5),
    kelvin=st.floats(250.0, 350.0),
    seed=st.integers(0, 50),
)
def test_the_spectrum_is_passive_and_causal_at_every_state(
    hours: float, kelvin: float, seed: int
) -> None:
    cell = SimulatedCell.from_preset("ncm811-lno", seed=seed)
    cell.source_current(0.0, 0.1 * cell.nominal_capacity / HOUR, 4.6)
    now = hours * HOUR
    cell.set_temperature(now, kelvin)
    frequency = np.logspace(-3.0, 6.0, 46)
    z = impedance(cell, frequency, now)
    assert bool(np.all(z.real > 0.0))
    assert bool(np.all(z.imag < 0.0))
    assert bool(np.all(np.diff(z.real) < 0.0))
    assert voigt_residual(frequency, z) < 1e-3


def test_a_spectrum_that_breaks_causality_is_found_out() -> None:
    frequency = np.logspace(-3.0, 6.0, 46)
    cell, now = rested(load_preset("ncm811-caec").parameters)
    z = impedance(cell, frequency, now)
    drifted = z * (1.0 + 0.05 * np.log10(frequency / 1e-3) / 9.0 * 1j)
    assert voigt_residual(frequency, drifted) > 5e-3


def test_every_arc_shrinks_when_the_cell_is_warmed(fresh: CellParameters) -> None:
    cold, now = rested(fresh, kelvin=283.15)
    warm, _ = rested(fresh, kelvin=313.15)
    low = np.array([1e-6])
    a, b = contributions(cold, low, now), contributions(warm, low, now)
    ratio = math.exp(fresh.electrolyte_activation_energy / 8.314462618 * (1 / 283.15 - 1 / 313.15))
    assert a.separator.real / b.separator.real == pytest.approx(ratio * 283.15 / 313.15, rel=1e-6)
    for part in ("grain_boundary", "counter", "cathode_interface", "cathode_transport"):
        assert getattr(a, part)[0].real > 1.2 * getattr(b, part)[0].real


def test_twice_the_area_is_half_the_impedance(fresh: CellParameters) -> None:
    cell, now = rested(fresh)
    double, _ = rested(replace(fresh, area=2.0 * fresh.area))
    frequency = np.logspace(-3.0, 6.0, 10)
    ratio = impedance(cell, frequency, now) / impedance(double, frequency, now)
    assert np.allclose(ratio, 2.0, rtol=1e-4)


def test_asking_for_a_spectrum_leaves_the_cell_alone(fresh: CellParameters) -> None:
    asked, now = rested(fresh)
    quiet, _ = rested(fresh)
    impedance(asked, np.logspace(-3.0, 6.0, 20), now + 10.0)
    for cell in (asked, quiet):
        cell.source_current(now + 20.0, 1e-3, 9.0)
    assert asked.terminal(now + 500.0) == quiet.terminal(now + 500.0)


def test_the_line_of_the_single_particle_differs_little_from_the_distributed_one(
    fresh: CellParameters,
) -> None:
    cell, now = rested(fresh)
    frequency = np.logspace(-3.0, 6.0, 40)
    parts = contributions(cell, frequency, now)
    ways = fresh.cathode_ionic_resistance / fresh.area
    electronic = fresh.cathode_electronic_share * ways
    distributed = elements.transmission_line(parts.cathode_interface, ways - electronic, electronic)
    lumped = parts.cathode_interface + parts.cathode_transport
    total = parts.total
    assert float(np.max(np.abs((distributed - lumped) / total))) < 0.01


def test_the_line_takes_its_limits() -> None:
    interface = np.array([1e9 + 0j, 1e-9 + 0j])
    line = elements.transmission_line(interface, 12.0, 6.0)
    assert line[0] - 1e9 == pytest.approx(6.0, rel=1e-3)
    assert line[1] == pytest.approx(4.0, rel=1e-3)
    y = np.array([1e-5j, 9.9e-6 + 1e-7j, 1e-4j], dtype=np.complex128)
    interface = np.reciprocal(y)
    exact = elements.transmission_line(interface, 12.0, 6.0) - interface
    assert np.allclose(elements.distribution(y, 12.0, 6.0), exact, atol=1e-7)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_frequency_is_refused(fresh: CellParameters, wrong: float) -> None:
    with pytest.raises(ValueError, match="positive finite frequencies"):
        impedance(SimulatedCell(fresh), wrong, 0.0)
