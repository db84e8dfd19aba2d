"""How spectra and titrations of other cells are read off the model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from operando.validation.other_cells import (
    power_of,
    resistance_of,
    spectrum_frequencies,
)

OMEGA = 2.0 * np.pi * spectrum_frequencies()


def tail(coefficient: float, exponent: float) -> npt.NDArray[np.complex128]:
    """A constant-phase element, ohm."""
    return np.asarray(1.0 / (coefficient * (1j * OMEGA) ** exponent), dtype=np.complex128)


def arc(resistance: float, capacitance: float) -> npt.NDArray[np.complex128]:
    """A resistance beside a capacitance, ohm."""
    z = resistance / (1.0 + resistance * capacitance * 1j * OMEGA)
    return np.asarray(z, dtype=np.complex128)


@pytest.mark.parametrize("exponent", [0.9, 1.0])
def test_a_resistance_is_read_before_the_blocking_tail(exponent: float) -> None:
    assert resistance_of(11.2 + tail(1e-5, exponent)) == pytest.approx(11.2, rel=0.01)


def test_an_arc_before_the_tail_belongs_to_the_resistance() -> None:
    assert resistance_of(8.0 + arc(4.0, 1e-7) + tail(1e-5, 0.9)) == pytest.approx(12.0, rel=0.02)


def test_a_spectrum_that_ends_on_the_real_axis_is_read_at_its_end() -> None:
    assert resistance_of(60.0 + arc(20.0, 1e-3)) == pytest.approx(80.0, rel=1e-3)


@pytest.mark.parametrize("exponent", [0.5, 0.75, 1.0])
def test_an_exponent_is_found_with_offset_and_factor_free(exponent: float) -> None:
    time = np.linspace(1e3, 3e5, 40)
    assert power_of(time, 3.0 + 0.02 * time**exponent) == pytest.approx(exponent, abs=0.006)


def test_four_points_give_no_exponent() -> None:
    assert math.isnan(power_of(np.arange(1.0, 5.0), np.arange(1.0, 5.0)))
