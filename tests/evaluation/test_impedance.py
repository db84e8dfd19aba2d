"""What is said of the spectra of a record: gates, conductivity ladders, stated metadata."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from evaluation.spectra import Swept, band, full_cell, noisy, write_spectra
from operando.evaluation.conductivity import GAS_CONSTANT, Conductivity, Ladder
from operando.evaluation.impedance import MeasuredSpectrum, impedance
from operando.evaluation.lines import fit_line
from operando.evaluation.metadata import stated, stated_text
from operando.instruments.errors import BadInputError
from operando.instruments.recorder import JSON

FREQUENCY = band()
GOOD = noisy(full_cell(FREQUENCY), 1)


def only(folder: Path, *spectra: Swept) -> MeasuredSpectrum:
    return impedance(write_spectra(folder, spectra)).spectra[0]


def test_a_good_spectrum_has_no_flags_and_gives_its_arcs(tmp_path: Path) -> None:
    found = only(tmp_path, Swept(FREQUENCY, GOOD, rest="abs(dV/dt over 600 s) <= 1e-07 V/s"))
    assert found.flags == ()
    assert found.valid
    assert found.amplitude == 0.01
    assert found.bias == found.start_voltage == 3.7
    assert found.slowest_arc is not None
    assert found.slowest_arc.resistance == pytest.approx(40.0, rel=0.01)
    assert math.isnan(found.nonlinearity)


@pytest.mark.parametrize(
    ("changed", "flag"),
    [
        ({"end_voltage": 3.7002}, "drift 2.0 % of the amplitude"),
        ({"reason": "condition"}, "incomplete"),
        ({"rest": "elapsed >= 43200 s"}, "unsettled: the longest rest had passed"),
        ({"overloaded": (3, 4)}, "invalid points: 2"),
    ],
)
def test_what_speaks_against_a_spectrum_is_said(
    tmp_path: Path, changed: dict[str, object], flag: str
) -> None:
    found = only(tmp_path, Swept(FREQUENCY, GOOD, **changed))  # type: ignore[arg-type]
    assert found.flags == (flag,)


def test_points_that_are_not_valid_are_left_out(tmp_path: Path) -> None:
    spoiled = GOOD.copy()
    spoiled[[2, 3]] *= 50.0
    found = only(tmp_path, Swept(FREQUENCY, spoiled, overloaded=(3, 4)))
    assert len(found.frequency) == len(FREQUENCY) - 2
    assert found.slowest_arc is not None
    assert found.slowest_arc.resistance == pytest.approx(40.0, rel=0.01)


def test_a_response_that_depends_on_the_amplitude_is_not_linear(tmp_path: Path) -> None:
    # First harmonic of Butler-Volmer, 2 I1(x) / x, x the peak amplitude over twice the thermal
    # voltage; at 50 mV rms, x = 1.38: the arc is 21 % smaller, at half of it 6 %.
    def at(rms: float) -> Swept:
        x = math.sqrt(2.0) * rms / (2.0 * 0.02569)
        harmonic = sum((x / 2) ** (2 * k) / (math.factorial(k) * math.factorial(k + 1))
                       for k in range(12))  # fmt: skip
        z = noisy(full_cell(FREQUENCY, 40.0 / harmonic), 2)
        return Swept(FREQUENCY, z, amplitude=rms)

    whole, half = at(0.05), at(0.025)
    half = Swept(half.frequency, half.impedance, amplitude=0.025, label="linearity")
    found = only(tmp_path, whole, half)
    assert found.nonlinearity == pytest.approx(0.12, abs=0.03)
    assert any("not linear" in flag for flag in found.flags)
    # It obeys Kramers and Kronig all the same: only the second amplitude shows it.
    assert found.kramers_kronig is not None
    assert found.kramers_kronig.valid


def test_a_linear_response_passes_at_half_the_amplitude(tmp_path: Path) -> None:
    second = Swept(FREQUENCY, noisy(full_cell(FREQUENCY), 3), amplitude=0.005, label="linearity")
    found = only(tmp_path, Swept(FREQUENCY, GOOD), second)
    # Two draws of 0.1 % noise at 81 frequencies.
    assert 1e-3 < found.nonlinearity < 8e-3
    assert found.valid


def test_a_spectrum_of_few_points_is_reported_and_not_fitted(tmp_path: Path) -> None:
    found = only(tmp_path, Swept(FREQUENCY[:5], GOOD[:5], reason="aborted"))
    assert found.fit is None
    assert math.isnan(found.resistance)
    assert found.flags == ("incomplete", "too few points")


def test_rows_are_in_the_units_of_the_literature(tmp_path: Path) -> None:
    row = impedance(write_spectra(tmp_path, [Swept(FREQUENCY, GOOD)])).rows()[0]
    assert row["amplitude_rms_mV"] == 10.0
    assert row["slowest_arc_ohm"] == pytest.approx(40.0, rel=0.01)
    assert row["resistance_ohm_cm2"] == pytest.approx(62.0, rel=0.01)


def ladder(energy: float, *kelvin: float, spoiled: float = 0.0) -> Ladder:
    """Of conductivities that follow the law; the last one is off by a share `spoiled`."""
    sigma = [4.5e-1 * 298.15 / t * math.exp(-energy / GAS_CONSTANT * (1 / t - 1 / 298.15))
             for t in kelvin]  # fmt: skip
    sigma[-1] *= 1.0 + spoiled
    blank = MeasuredSpectrum(
        1, 1, 1, "", 0.0, FREQUENCY, GOOD, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, None, None, 0.0
    )
    return Ladder.through(
        [
            Conductivity(blank, 1.0, 0.0, value, t, 0.0, ())
            for value, t in zip(sigma, kelvin, strict=True)
        ]
    )


def test_the_activation_energy_is_that_of_conductivity_times_temperature() -> None:
    found = ladder(29900.0, 298.15, 318.15, 338.15, 318.2, 298.1)
    assert found.energy == pytest.approx(29900.0, rel=1e-9)
    # ln sigma alone gives RT less, at the middle of the ladder: 2.6 kJ/mol, 0.027 eV.
    assert found.without == pytest.approx(29900.0 - GAS_CONSTANT * 316.0, abs=30.0)
    assert found.hysteresis < 1e-9


def test_a_pellet_that_came_back_changed_shows_hysteresis() -> None:
    assert ladder(3e4, 298.15, 338.15, 298.15, spoiled=0.1).hysteresis == pytest.approx(
        0.1, abs=0.01
    )


def test_one_temperature_gives_no_activation_energy() -> None:
    assert math.isnan(ladder(3e4, 298.15, 298.5).energy)


def test_a_line_states_the_error_of_its_slope() -> None:
    x = np.linspace(0.0, 1.0, 11)
    slopes, errors = [], []
    for seed in range(200):
        y = 3.0 * x + 1.0 + np.random.default_rng(seed).normal(0.0, 0.1, 11)
        line = fit_line(x, y)
        slopes.append(line.slope)
        errors.append(line.slope_error)
    # The scatter of 200 draws is known to 5 %; three times that.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(slopes, ddof=1), rel=0.15)
    assert np.mean(slopes) == pytest.approx(3.0, abs=0.03)


def test_stated_quantities_are_read_with_their_units(tmp_path: Path) -> None:
    metadata: dict[str, JSON] = {
        "thickness": "0.67 mm",
        "lead_resistance": 0.2,
        "contacts": "ion-blocking",
    }
    record = write_spectra(tmp_path, [Swept(FREQUENCY, GOOD)], metadata=metadata)
    assert stated(record, "thickness", "m") == pytest.approx(6.7e-4)
    assert stated(record, "lead_resistance", "ohm") == 0.2
    assert math.isnan(stated(record, "stack_pressure", "Pa"))
    assert stated_text(record, "contacts") == "ion-blocking"
    with pytest.raises(BadInputError, match=r"cells.ideal.metadata\] thickness"):
        stated(record, "thickness", "Pa")
