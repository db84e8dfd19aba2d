"""Titration with current pulses on simulated cells, whose diffusivity is known."""

from __future__ import annotations

import numpy as np
import pytest

from operando.evaluation.gitt import GittResult, Length, Method, gitt
from operando.evaluation.sphere import diffusion_time, overshoot, surface_limited
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Voltages
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Cell, ConstantCurrent, Rest, Steps, cccv, protocol
from operando.protocols.gitt import gitt as titration
from operando.records import Record
from operando.simulators.cell.materials import ncm811_potential
from operando.validation import direct
from support.virtual_lab import LabRun, run_on_lab


def evaluated(run: LabRun, length: Length = "geometric", method: Method = "pulse") -> GittResult:
    p = run.cell.parameters
    return gitt(
        run.record,
        length=length,
        method=method,
        density=p.crystal_density,
        particle_radius=p.particle_radius,
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> LabRun:
    """The titration of Kim et al. 2026, up the window."""
    return run_on_lab(
        titration(discharge=False),
        "C4",
        tmp_path_factory.mktemp("published"),
        poll=Poll(interval=5.0),
        record=RecordConditions(every=60.0),
    )


@protocol(source="a charge, then a few pulses both ways about 3.8 V")
def about_the_middle(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
) -> Steps:
    """Charge, rest, titrate. window: in V."""
    yield ConstantCurrent(cell.capacity / 7200.0, (VOLTAGE >= 3.9,), label="charge", cycle=1)
    yield Rest((ELAPSED >= 7200.0,), cycle=1)
    yield from titration.steps(
        cell, window=("3.77 V", "3.84 V"), relaxed="0.1 mV/h", longest_rest="6 h"
    )


@pytest.fixture(scope="module")
def relaxed(tmp_path_factory: pytest.TempPathFactory) -> LabRun:
    """A few pulses both ways with rests until the voltage is steady."""
    return run_on_lab(
        about_the_middle(),
        "C1",
        tmp_path_factory.mktemp("relaxed"),
        poll=Poll(interval=5.0),
        record=RecordConditions(every=30.0),
    )


def test_the_published_reading_is_that_of_a_cell_titrated_without_instruments(
    published: LabRun,
) -> None:
    # Within 3 %: the start of a pulse is extrapolated from its first 36 s, where the cell alone
    # can be asked for the voltage after a millisecond.
    expected = direct.titration(direct.DirectCell(published.cell.parameters))  # cm2/s
    result = evaluated(published)
    assert 1e4 * result.diffusion_coefficient == pytest.approx(expected, rel=0.03)
    assert result.diffusion_coefficient == result.reading("geometric", "pulse").charge


def test_diffusion_into_a_sphere_gives_the_diffusivity_of_the_particles(published: LabRun) -> None:
    # Within 10 % on the plateau of the diffusivity, from a fifth of the charge on. One pulse may be
    # half off: the solution takes the slope of the open-circuit curve as constant over a pulse,
    # and the curve has bends.
    truth = published.cell.parameters.diffusivity
    result = evaluated(published, length="particle", method="sphere")
    found = [
        value
        for pulse, value in zip(result.pulses, result.chosen.coefficients, strict=True)
        if 0.2 < pulse.position < 0.9
    ]
    assert len(found) > 30
    assert np.median(found) == pytest.approx(truth, rel=0.1)
    assert found == pytest.approx([truth] * len(found), rel=0.5)
    # The mean from 10 % on takes in pulses at high lithium content, where the cell diffuses slowly.
    assert result.diffusion_coefficient == pytest.approx(truth, rel=0.1)


def test_the_readings_differ_from_the_diffusivity_by_known_factors(published: LabRun) -> None:
    p = published.cell.parameters
    result = evaluated(published)
    ratio = p.active_loading / p.crystal_density / (p.particle_radius / 3.0)
    methods: tuple[Method, ...] = ("pulse", "slope")
    for method in methods:
        geometric = result.reading("geometric", method)
        particle = result.reading("particle", method)
        # By construction, from the lengths alone; mass over area is rounded in the bench file.
        assert geometric.charge / particle.charge == pytest.approx(ratio**2, rel=5e-3)
    # A sphere fills faster than the plane of the formula, the more the longer the pulse. With
    # theta = D t / R^2 its overshoot takes the place of (2/3) / sqrt(pi theta); in the first 36 s
    # the surface rises as 2 sqrt(theta/pi) + theta. 15 %: pulses of slower diffusion, at high
    # lithium content, are averaged in.
    theta = p.diffusivity * 600.0 / p.particle_radius**2
    root = 0.5 * np.sqrt(theta / 600.0) * (1.0 + 6.0)
    whole = 4.0 / (9.0 * np.pi * theta * overshoot(theta) ** 2)
    first = 1.0 / (1.0 + np.sqrt(np.pi) * root) ** 2
    assert (whole, first) == pytest.approx((0.45, 0.83), abs=0.01)
    pulse, slope = (result.reading("particle", method).charge for method in methods)
    assert pulse / p.diffusivity == pytest.approx(whole, rel=0.15)
    assert slope / p.diffusivity == pytest.approx(first, rel=0.15)
    errors = result.reading("particle", "slope").errors
    assert 0.0 < np.nanmedian(errors) < 0.1 * slope


def test_the_voltage_at_rest_follows_the_open_circuit_curve(published: LabRun) -> None:
    cell, result = published.cell, evaluated(published)
    p = cell.parameters
    curve = ncm811_potential(p.potential_stretch)
    charge, voltage = result.open_circuit()
    capacity = p.charge_per_lithiation * p.active_loading * p.area
    # Electrolyte that oxidises meanwhile gives charge to the cathode: counted from the beginning
    # there seems too little lithium in it, counted back from the end too much.
    first = p.initial_lithiation - charge / capacity
    last = cell.lithiation(published.now) + (charge[-1] - charge) / capacity
    assert np.all(np.abs(first - last) < 0.02)
    ends = np.array([[curve(x), curve(y)] for x, y in zip(first, last, strict=True)])
    inner = (charge > 0.2 * charge[-1]) & (charge < 0.95 * charge[-1])
    assert np.count_nonzero(inner) > 30
    # 2 mV: what half an hour of rest leaves.
    assert np.all(voltage[inner] > ends[inner].min(axis=1) - 2e-3)
    assert np.all(voltage[inner] < ends[inner].max(axis=1) + 2e-3)
    assert voltage[-1] == pytest.approx(cell.open_circuit_voltage(published.now), abs=3e-3)


def test_the_published_pulses_are_too_long_for_the_formula_and_are_flagged(
    published: LabRun,
) -> None:
    result = evaluated(published)
    assert result.flags == ("no valid pulse",)
    assert "long pulse" in result.validity
    assert result.validity.startswith("0 of ")
    # Near full lithiation the cell does not come to rest within half an hour.
    assert all("not relaxed" in pulse.flags for pulse in result.pulses[:3])
    assert "cut short" in result.pulses[-1].flags
    # The slope of the first part does not ask for a short pulse.
    slope = evaluated(published, method="slope")
    assert slope.flags == ()
    assert "long pulse" not in slope.validity


def test_rows_name_the_length_the_formula_and_the_source_of_every_reading(
    published: LabRun,
) -> None:
    rows = evaluated(published).rows()
    assert [(row["length"], row["method"]) for row in rows] == [
        ("geometric", "pulse"), ("geometric", "slope"), ("particle", "pulse"),
        ("particle", "slope"), ("particle", "sphere"),
    ]  # fmt: skip
    assert rows[0]["length_um"] == pytest.approx(31.25, rel=5e-3)
    assert all("Weppner" in str(row["source"]) for row in rows[:4])
    assert "L = m/(rho A)" in str(rows[0]["formula"])
    assert "L = R/3" in str(rows[2]["formula"])


def test_relaxed_pulses_are_valid_in_both_directions(relaxed: LabRun) -> None:
    truth = relaxed.cell.parameters.diffusivity
    result = evaluated(relaxed, length="particle", method="sphere")
    for charging, mean in ((True, result.chosen.charge), (False, result.chosen.discharge)):
        pulses = [pulse for pulse in result.pulses if pulse.charging is charging]
        valid = [pulse for pulse in pulses if not result.chosen.against(pulse)]
        assert len(valid) >= 2, [(pulse.flags, pulse.drift) for pulse in pulses]
        assert mean == pytest.approx(truth, rel=0.15)
    # The rest after the first pulse also waits for what the charge before left behind.
    rests = [step for step in relaxed.record.steps() if step.label == "rest"][2:]
    assert len(rests) >= 4
    assert all(1800.0 <= rest.duration < 21600.0 for rest in rests)


def test_a_cell_whose_density_nobody_stated_is_not_evaluated(published: LabRun) -> None:
    manifest = published.record.manifest
    cell = {**published.record.cell, "metadata": {}}
    bare = Record(published.record.folder, {**manifest, "cell": cell})
    with pytest.raises(BadInputError, match=r'density = "4.8 g/cm3".*\[cells.c4.metadata\]'):
        gitt(bare)
    with pytest.raises(BadInputError, match=r'particle_radius = "2\.5 um"'):
        gitt(bare, length="particle", density=4800.0)


def test_a_record_without_pulses_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = run_on_lab(
        cccv(charge_rate="2C", discharge_rate="2C", rest="0 s", constant_voltage=False),
        "C1",
        tmp_path_factory.mktemp("cycled"),
        poll=Poll(interval=30.0),
    )
    with pytest.raises(BadInputError, match="no pulse between two rests"):
        gitt(run.record, density=4800.0, particle_radius=2.5e-6)


@pytest.mark.parametrize("theta", [1e-4, 1e-2, 0.1, 1.0])
def test_the_time_of_diffusion_is_found_from_the_overshoot(theta: float) -> None:
    assert diffusion_time(overshoot(theta)) == pytest.approx(theta, rel=1e-6)


def test_a_short_pulse_into_a_sphere_is_one_into_a_plane() -> None:
    # dEt/dEs of a plane of length R/3 is (R/3) sqrt(4 / (pi D t)), and the first correction of the
    # sphere D t / R^2 over 3 D t / R^2: Crank, The Mathematics of Diffusion, chapters 3 and 6.
    theta = 1e-4
    plane = 2.0 / (3.0 * np.sqrt(np.pi * theta))
    assert overshoot(theta) == pytest.approx(plane + 1.0 / 3.0, rel=1e-3)


def test_a_current_without_resistance_decays_with_pi_squared() -> None:
    assert surface_limited(1e-3, np.inf) == pytest.approx(1e-3 / np.pi**2)
    assert surface_limited(1e-3, 1e3) == pytest.approx(1e-3 / np.pi**2, rel=1e-4)
    # A quarter of pi: g cot g = pi/4, so 1 - pi/4 is exchange R^2 / D.
    diffusion = 1e-3 / (np.pi / 4.0) ** 2
    assert surface_limited(1e-3, (1.0 - np.pi / 4.0) * diffusion) == pytest.approx(diffusion)
    assert np.isnan(surface_limited(1e-3, 3e-4))
