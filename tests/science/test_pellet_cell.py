"""Pellets: conductivity between contacts, composites, polarisation, and growth at rest."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from operando.simulators.cell import PelletCell, PelletParameters, cell_from_preset, impedance
from operando.simulators.cell.factory import load_pellet
from operando.simulators.cell.percolation import effective_conductivity

HOUR = 3600.0
BOLTZMANN = 8.617333e-5
"""eV/K."""


def pellet(name: str) -> PelletCell:
    cell = cell_from_preset(name)
    assert isinstance(cell, PelletCell)
    return cell


def conductivity(cell: PelletCell, now: float = 0.0) -> float:
    """Return what a user would read off a spectrum, S/m: the real part where |phase| is least."""
    z = impedance(cell, np.logspace(0.0, 6.0, 400), now)
    resistance = z.real[np.argmin(np.abs(z.imag / z.real))]
    return float(cell.parameters.thickness / resistance / cell.area)


@pytest.mark.parametrize(
    ("name", "millisiemens"),
    [
        ("pellet-lpscb", 4.5),
        ("pellet-lno", 9.7e-5),
        ("pellet-caec", 1.5e-4),
        ("pellet-lpscl", 0.9),
        ("pellet-lpscl-ald1", 1.2),
        ("pellet-lpscl-ald10", 1.7),
        ("pellet-lpscl-ald100", 0.27),
    ],
)
def test_the_spectrum_of_a_pellet_shows_the_conductivity_it_was_set_by(
    name: str, millisiemens: float
) -> None:
    assert conductivity(pellet(name)) == pytest.approx(0.1 * millisiemens, rel=0.1)


@pytest.mark.parametrize(("name", "electronvolt"), [("pellet-lpscl", 0.31), ("pellet-lpscb", 0.31)])
def test_a_ladder_of_temperatures_gives_the_activation_energy(
    name: str, electronvolt: float
) -> None:
    cell = pellet(name)
    kelvins = np.array([283.15, 298.15, 313.15, 333.15])
    found = []
    for i, kelvin in enumerate(kelvins):
        cell.set_temperature(i * HOUR, float(kelvin))
        found.append(conductivity(cell, i * HOUR))
    slope = np.polyfit(1.0 / kelvins, np.log(np.array(found) * kelvins), 1)[0]
    assert -slope * BOLTZMANN == pytest.approx(electronvolt, abs=0.02)


def test_polarisation_falls_to_the_electronic_current_and_is_ohmic() -> None:
    steady = []
    for volts in (0.05, 0.2):
        cell = pellet("pellet-lpscl")
        cell.source_voltage(0.0, volts, 1.0)
        first = cell.terminal(0.0).current
        one, ten, last = (cell.terminal(h * HOUR).current for h in (0.01, 1.0, 20.0))
        assert first > one > ten > last > 0.0
        assert first == pytest.approx(volts / cell.state(20.0 * HOUR).ionic_resistance, rel=0.01)
        steady.append(last / volts)
    p = load_pellet("pellet-lpscl")
    electronic = steady[0] * p.thickness / p.area
    assert electronic == pytest.approx(6.3e-7, rel=0.05)
    assert steady[0] == pytest.approx(steady[1], rel=1e-6)


@pytest.mark.parametrize("name", ["pellet-lpscl", "composite-ncm83-electrons"])
def test_the_response_in_time_stands_for_the_same_impedance(name: str) -> None:
    # A pellet without the capacitance of grain boundaries and interface, which time leaves out.
    p = replace(load_pellet(name), grain_boundary_capacitance=0.0, interface_capacitance=0.0)
    for frequency in (0.01, 1.0):
        cell = PelletCell(p)
        stairs, periods, samples = 60, 4, 4
        width = 1.0 / frequency / stairs
        voltage = current = 0j
        for k in range(periods * stairs):
            begin = k * width
            cell.source_current(begin, 1e-6 * math.sin(2.0 * math.pi * (k + 0.5) / stairs), 100.0)
            for i in range(samples):
                at = begin + (i + 0.5) / samples * width
                terminal = cell.terminal(at)
                if k >= (periods - 1) * stairs:
                    turn = np.exp(-2j * math.pi * frequency * at)
                    voltage += terminal.voltage * turn
                    current += terminal.current * turn
        expected = complex(impedance(PelletCell(p), frequency, 0.0))
        assert abs(voltage / current - expected) < 0.05 * abs(expected)


def crossing(parameters: PelletParameters) -> float:
    """Return the share of active material at which both conductivities are the same."""
    low, high = 0.05, 0.95
    for _ in range(40):
        share = 0.5 * (low + high)
        state = PelletCell(replace(parameters, active_fraction=share)).state(0.0)
        if state.electronic_resistance > state.ionic_resistance:
            low = share
        else:
            high = share
    return low


def test_the_conductivities_of_a_composite_cross_once_and_fall_off_both_sides() -> None:
    p = load_pellet("composite-ncm83-ions")
    shares = np.linspace(0.1, 0.9, 17)
    states = [PelletCell(replace(p, active_fraction=float(s))).state(0.0) for s in shares]
    ionic = np.array([1.0 / s.ionic_resistance for s in states])
    electronic = np.array([1.0 / s.electronic_resistance for s in states])
    assert bool(np.all(np.diff(ionic) <= 0.0))
    assert bool(np.all(np.diff(electronic) >= 0.0))
    assert int(np.sum(np.diff(np.sign(ionic - electronic)) != 0.0)) == 1
    best = shares[np.argmax(np.minimum(ionic, electronic))]
    assert 0.25 < best < 0.6
    assert min(ionic[-1], electronic[0]) < 0.02 * float(np.max(np.minimum(ionic, electronic)))


def test_a_higher_threshold_moves_the_crossing_to_more_active_material() -> None:
    p = load_pellet("composite-ncm83-ions")
    found = [crossing(replace(p, electronic_threshold=t)) for t in (0.16, 0.25, 0.35)]
    assert found == sorted(found)


def test_each_contact_shows_its_own_conductor() -> None:
    electrons, ions = pellet("composite-ncm83-electrons"), pellet("composite-ncm83-ions")
    state = electrons.state(0.0)
    both = state.ionic_resistance * state.electronic_resistance
    both /= state.ionic_resistance + state.electronic_resistance
    low = np.array([1e-7])
    contact_e = 1.0 / electrons.parameters.electron_contact / electrons.area
    contact_i = 1.0 / ions.parameters.ion_contact / ions.area
    z_e, z_i = impedance(electrons, low, 0.0)[0], impedance(ions, low, 0.0)[0]
    assert z_e.real == pytest.approx(state.electronic_resistance + contact_e, rel=1e-3)
    assert z_i.real == pytest.approx(state.ionic_resistance + contact_i, rel=1e-3)
    high = replace(electrons.parameters, grain_boundary_capacitance=0.0)
    z = impedance(PelletCell(high), np.array([1e8]), 0.0)[0]
    assert z.real == pytest.approx(both + contact_e, rel=0.01)


def test_percolation_ends_at_the_threshold_and_at_the_pure_phase() -> None:
    def of(share: float) -> float:
        return effective_conductivity(2.0, share, threshold=0.2, exponent=2.0, floor=1e-6)

    assert of(0.1) == 1e-6
    assert of(1.0) == 2.0
    assert of(0.3) < of(0.5) < of(0.9)


def growth(name: str, hours: float, kelvin: float = 298.15) -> tuple[float, float]:
    """Return what the bulk and the whole of a pellet gain at rest, ohm."""
    cell = pellet(name)
    cell.set_temperature(0.0, kelvin)
    fresh, aged = cell.state(0.0), cell.state(hours * HOUR)
    bulk = aged.bulk_resistance - fresh.bulk_resistance
    return bulk, bulk + aged.interface_resistance - fresh.interface_resistance


def test_static_contact_keeps_the_growth_it_was_set_by() -> None:
    bulk, total = growth("static-caec", 48.0)
    assert total == pytest.approx(6.7, rel=0.05)
    assert bulk == pytest.approx(0.3, rel=0.1)


def test_static_contact_grows_late_and_then_slows() -> None:
    gained = [growth("static-caec", h)[1] for h in (4.0, 8.0, 16.0, 48.0, 80.0, 160.0, 192.0)]
    assert gained == sorted(gained)
    assert gained[1] < 0.02 * gained[3]
    assert gained[6] - gained[5] < gained[4] - gained[3]
    assert growth("static-caec", 48.0, 333.15)[0] != growth("static-caec", 48.0)[0]


def test_less_coverage_grows_more() -> None:
    p = load_pellet("static-caec")
    found = []
    for coverage in (1.0, 0.85, 0.5, 0.0):
        cell = PelletCell(replace(p, coverage=coverage))
        fresh = cell.state(0.0).interface_resistance
        found.append(cell.state(48.0 * HOUR).interface_resistance - fresh)
    assert found[0] == 0.0
    assert found == sorted(found)


def test_a_pellet_does_not_notice_how_often_it_is_asked() -> None:
    quiet, asked = pellet("static-lno"), pellet("static-lno")
    for cell in (quiet, asked):
        cell.source_voltage(0.0, 0.1, 1e-3)
        if cell is asked:
            for i in range(2000):
                cell.terminal(i * 40.123)
        cell.source_current(30.0 * HOUR, 1e-4, 1.0)
        cell.open_circuit(31.0 * HOUR)
    assert quiet.terminal(40.0 * HOUR) == asked.terminal(40.0 * HOUR)


def test_a_pellet_with_contacts_that_pass_nothing_is_refused() -> None:
    p = replace(load_pellet("pellet-lpscl"), electron_contact=0.0)
    with pytest.raises(ValueError, match="contact for ions or electrons"):
        PelletCell(p)
