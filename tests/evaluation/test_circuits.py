"""Fits of circuits, transmission lines and Kramers-Kronig chains to spectra of known truth."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.spectra import arc, band, full_cell, noisy
from operando.evaluation.circuits import (
    Complexes,
    Floats,
    fit_circuit,
    resistance_without_tail,
    tail_of,
)
from operando.evaluation.kramers_kronig import linear_kramers_kronig
from operando.evaluation.transmission import fit_transmission_line, line_impedance

SIGMAS = 4.0
"""Standard errors within which a fitted value must lie: 0.006 % of normal draws lie outside, and
the seeds are fixed."""


def blocking(frequency: Floats, resistance: float) -> Complexes:
    """Between blocking contacts of 10 uF with an exponent of 0.9, ohm."""
    tail = 1.0 / (1e-5 * (2j * np.pi * frequency) ** 0.9)
    return np.asarray(resistance + tail, np.complex128)


@pytest.mark.parametrize("seed", range(6))
def test_arcs_of_a_full_cell_are_found_within_their_stated_errors(seed: int) -> None:
    frequency = band()
    fit = fit_circuit(frequency, noisy(full_cell(frequency), seed))
    assert [round(np.log10(one.frequency)) for one in fit.arcs] == [5, 1]
    fast, slow = fit.arcs
    assert fit.tail == "diffusion"
    assert abs(fast.resistance - 6.0) < SIGMAS * fast.error < 0.6
    assert abs(slow.resistance - 40.0) < SIGMAS * slow.error < 1.0
    assert slow.frequency == pytest.approx(5.0, rel=0.02)
    assert slow.exponent == pytest.approx(0.85, abs=0.01)
    assert abs(fit.resistance - 62.0) < SIGMAS * fit.error < 1.0
    assert fit.residual == pytest.approx(1e-3, rel=0.25)


def test_the_stated_errors_are_those_of_repeated_measurements() -> None:
    frequency = band(1e5, 1e-1)
    clean = 10.0 + arc(frequency, 30.0, 50.0, 0.9)
    fits = [fit_circuit(frequency, noisy(clean, seed), tail="none", arcs=1) for seed in range(40)]
    scatter = np.std([fit.arcs[0].resistance for fit in fits], ddof=1)
    stated = np.mean([fit.arcs[0].error for fit in fits])
    # The standard deviation of forty draws is itself known to 11 %; three times that.
    assert stated == pytest.approx(scatter, rel=0.35)


def test_two_arcs_a_decade_apart_are_told_apart() -> None:
    frequency = band(1e5, 1e-1)
    clean = 5.0 + arc(frequency, 20.0, 100.0, 0.9) + arc(frequency, 30.0, 10.0, 0.9)
    fit = fit_circuit(frequency, noisy(clean, 1))
    assert len(fit.arcs) == 2
    for found, resistance in zip(fit.arcs, (20.0, 30.0), strict=True):
        assert abs(found.resistance - resistance) < SIGMAS * found.error < 10.0
    assert fit.resistance == pytest.approx(55.0, rel=0.005)


def test_a_spectrum_without_an_arc_gets_none() -> None:
    frequency = band(1e6, 1.0)
    fit = fit_circuit(frequency, noisy(blocking(frequency, 11.2), 2))
    assert (fit.tail, fit.arcs) == ("blocking", ())
    assert abs(fit.resistance - 11.2) < SIGMAS * fit.error < 0.05
    assert fit.tail_coefficient == pytest.approx(1e-5, rel=0.01)
    assert fit.tail_exponent == pytest.approx(0.9, abs=0.002)


def test_the_cables_beside_a_pellet_of_high_resistance_make_an_arc_of_its_resistance() -> None:
    frequency = band(1e6, 1.0)
    for resistance in (1e4, 1.7e5):
        pellet = blocking(frequency, resistance)
        seen = pellet / (1.0 + 2j * np.pi * frequency * 10e-12 * pellet)
        fit = fit_circuit(frequency, noisy(seen, 6))
        assert abs(fit.resistance - resistance) < SIGMAS * fit.error < 0.02 * resistance
        assert fit.slowest is not None
        assert fit.slowest.capacitance == pytest.approx(10e-12, rel=0.05)


def test_the_resistance_is_found_without_a_model_too() -> None:
    frequency = band(1e6, 1.0)
    # The tail of an exponent of 0.9 is drawn on straight, and is a little bent before it: 1 %.
    assert resistance_without_tail(blocking(frequency, 11.2)) == pytest.approx(11.2, rel=0.01)
    closed = 5.0 + arc(frequency, 20.0, 1e4, 0.9)
    assert resistance_without_tail(closed) == pytest.approx(25.0, rel=0.01)


@pytest.mark.parametrize(
    ("spectrum", "tail"),
    [
        (blocking(band(1e6, 1.0), 11.2), "blocking"),
        (full_cell(band()), "diffusion"),
        (5.0 + arc(band(), 20.0, 100.0, 0.9), "none"),
    ],
    ids=["blocking", "diffusion", "none"],
)
def test_the_tail_is_told_by_the_end_of_the_spectrum(spectrum: Complexes, tail: str) -> None:
    frequency = band()[: len(spectrum)]
    assert tail_of(frequency, noisy(spectrum, 3, 3e-4)) == tail


def test_diffusion_in_particles_of_finite_size_is_known_from_its_bend() -> None:
    frequency = band(1e5, 1e-3)
    x = np.sqrt(2j * np.pi * frequency * 2000.0)
    diffusion = 10.0 * np.tanh(x) / (x - np.tanh(x))
    charge = 1.0 / ((1j * frequency / 5.0) ** 0.9 / 40.0 + 1.0 / (40.0 + diffusion))
    fit = fit_circuit(frequency, noisy(16.0 + charge, 4))
    assert fit.tail == "finite diffusion"
    assert fit.slowest is not None
    assert abs(fit.slowest.resistance - 40.0) < SIGMAS * fit.slowest.error < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_transmission_line_gives_both_conductors_back(seed: int) -> None:
    frequency = band()
    omega = 2.0 * np.pi * frequency
    clean = line_impedance(omega, 87.0, 167.0, 6e-3, 0.95) + 30.0 + 2e-7j * omega
    fit = fit_transmission_line(frequency, noisy(clean, seed), contact=30.0)
    assert abs(fit.through - 87.0) < SIGMAS * fit.through_error < 2.0
    assert abs(fit.blocked - 167.0) < SIGMAS * fit.blocked_error < 10.0
    assert fit.exponent == pytest.approx(0.95, abs=0.02)


def test_a_wrong_contact_resistance_shifts_the_passing_conductor_by_itself() -> None:
    frequency = band()
    clean = line_impedance(2.0 * np.pi * frequency, 87.0, 167.0, 6e-3, 1.0) + 30.0
    fit = fit_transmission_line(frequency, clean, contact=25.0)
    assert fit.through == pytest.approx(92.0, abs=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_kramers_and_kronig_hold_for_noisy_linear_spectra(seed: int) -> None:
    frequency = band()
    for clean in (
        full_cell(frequency),
        blocking(frequency, 11.2),
        line_impedance(2.0 * np.pi * frequency, 167.0, 87.0, 6e-3, 1.0) + 0.01,
    ):
        test = linear_kramers_kronig(frequency, noisy(clean, seed))
        # Noise of 0.1 % in 162 values: the largest is 3 to 4 standard deviations.
        assert test.valid
        assert 1e-3 < test.largest < 6e-3


def test_a_cell_that_changes_while_it_is_measured_does_not_pass() -> None:
    frequency = band()
    elapsed = np.cumsum(1.0 / frequency)
    elapsed /= elapsed[-1]

    def growing(share: float) -> Complexes:
        slow = 40.0 * (1.0 + share * elapsed)
        z = 16.0 + slow / (1.0 + (1j * frequency / 0.05) ** 0.85)
        return noisy(np.asarray(z, np.complex128), 5)

    doubtful = linear_kramers_kronig(frequency, growing(0.3))
    wrong = linear_kramers_kronig(frequency, growing(1.0))
    assert not doubtful.valid
    assert "doubtful" in doubtful.flags[0]
    assert "not valid" in wrong.flags[0]


@pytest.mark.parametrize("fit", [fit_circuit, fit_transmission_line, linear_kramers_kronig])
def test_too_few_points_are_refused(fit: object) -> None:
    frequency = np.array([1e3, 1e2, 1e1])
    with pytest.raises(ValueError, match="not 3"):
        fit(frequency, np.ones(3, np.complex128))  # type: ignore[operator]
