"""Titration with steps of the voltage on a simulated cell, whose diffusivity is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from operando.evaluation.pitt import PittResult, pitt
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Voltages
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Cell, ConstantCurrent, Rest, Steps, protocol
from operando.protocols.pitt import pitt as titration
from operando.simulators.cell.materials import ncm811_potential
from operando.validation.direct import DirectCell, direct_resistance
from support.virtual_lab import LabRun, run_on_lab


@protocol(source="a charge, then steps of 10 mV both ways about 3.75 V")
def about_the_middle(
    cell: Cell,
    *,
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
) -> Steps:
    """Charge, rest, titrate. window: in V."""
    yield ConstantCurrent(cell.capacity / 10800.0, (VOLTAGE >= 3.83,), label="charge", cycle=1)
    yield Rest((ELAPSED >= 3600.0,), cycle=1)
    yield from titration.steps(cell, window=("3.71 V", "3.78 V"), initial_rest="10 min")


@pytest.fixture(scope="module")
def titrated(tmp_path_factory: pytest.TempPathFactory) -> LabRun:
    return run_on_lab(
        about_the_middle(),
        "C1",
        tmp_path_factory.mktemp("titrated"),
        poll=Poll(interval=5.0),
        record=RecordConditions(every=60.0),
    )


@pytest.fixture(scope="module")
def result(titrated: LabRun) -> PittResult:
    p = titrated.cell.parameters
    return pitt(titrated.record, density=p.crystal_density, particle_radius=p.particle_radius)


def test_the_diffusivity_is_found_where_the_resistance_is_taken_into_account(
    titrated: LabRun, result: PittResult
) -> None:
    truth = titrated.cell.parameters.diffusivity
    valid = [step for step in result.steps if not step.flags]
    assert len(valid) >= 6, [step.flags for step in result.steps]
    # 15 % for the mean, 25 % for each step: dQ/dE is that of a step that ended before its current
    # was zero, and of one before it that did so too.
    found = [step.with_resistance for step in valid]
    assert np.mean(found) == pytest.approx(truth, rel=0.15)
    assert found == pytest.approx([truth] * len(found), rel=0.25)


def test_the_slope_alone_gives_too_little_by_the_factor_that_the_resistance_explains(
    titrated: LabRun, result: PittResult
) -> None:
    truth = titrated.cell.parameters.diffusivity
    for step in result.steps:
        if step.flags:
            continue
        # g cot g = 1 - R^2 / (3 D Rs C) from the cell's own diffusivity: what the decay should be.
        radius = titrated.cell.parameters.particle_radius
        biot = radius**2 / (3.0 * truth * step.resistance * step.capacity)
        roots = np.linspace(1e-3, math.pi - 1e-3, 100_000)
        root = roots[np.argmin(np.abs(roots / np.tan(roots) - 1.0 + biot))]
        # 15 %, as above: the slope depends on the diffusivity less than in proportion.
        assert step.sphere == pytest.approx(truth * (root / math.pi) ** 2, rel=0.15)
        assert step.sphere < 0.3 * truth
        assert step.plane / step.sphere == pytest.approx((2.0 * result.length / radius) ** 2)


def test_the_charge_of_a_step_is_the_slope_of_the_open_circuit_curve(
    titrated: LabRun, result: PittResult
) -> None:
    p = titrated.cell.parameters
    curve = ncm811_potential(p.potential_stretch)
    lithiation = np.linspace(0.3, 0.9, 6001)
    potential = np.array([curve(x) for x in lithiation])
    capacity = p.charge_per_lithiation * p.active_loading * p.area
    truth = -capacity / np.gradient(potential, lithiation)
    voltage, found = result.differential_capacity(up=False)
    # The first two steps after the turn and the others apart: the turn finds the cell not at rest.
    expected = np.interp(-voltage[2:], -potential, truth)
    assert len(expected) >= 4
    assert found[2:] == pytest.approx(expected, rel=0.1)


def test_the_current_at_the_beginning_of_a_step_tells_the_resistance(
    titrated: LabRun, result: PittResult
) -> None:
    # At the cell's last voltage; 10 %, for the resistance rises with the lithium content.
    truth = direct_resistance(DirectCell(titrated.cell, titrated.now))
    assert result.steps[-1].resistance == pytest.approx(truth, rel=0.1)
    assert result.flags == ()


def test_rows_are_in_the_units_of_the_literature(result: PittResult) -> None:
    row, step = result.rows()[-1], result.steps[-1]
    assert row["voltage_V"] == pytest.approx(3.71, abs=1e-3)
    assert row["height_mV"] == pytest.approx(-10.0, abs=0.2)
    assert row["dQ_dE_mAh_per_V"] == pytest.approx(step.charge / step.height / 3.6)
    assert row["sphere_cm2_per_s"] == pytest.approx(1e4 * step.sphere)


def test_a_record_without_voltage_steps_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    @protocol(source="nothing but a rest")
    def resting(cell: Cell, *, window: Voltages = (2.5, 4.25)) -> Steps:
        """Rest. window: in V."""
        yield Rest((ELAPSED >= 60.0,), cycle=1)

    run = run_on_lab(resting(), "C1", tmp_path_factory.mktemp("resting"))
    with pytest.raises(BadInputError, match="there is no voltage step"):
        pitt(run.record, density=4800.0, particle_radius=2.5e-6)
