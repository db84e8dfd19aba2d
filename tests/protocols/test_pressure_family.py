"""Pressure experiments on the example laboratory: evaluations find what the frames do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando import evaluation
from operando.evaluation.compression_relaxation import compression_relaxation as relaxation_of
from operando.evaluation.operando_pressure import operando_pressure as breathing_of
from operando.evaluation.pressure_sweep import pressure_sweep as sweep_of
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Voltages
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Cell, ConstantCurrent, Rest, Steps, protocol
from operando.protocols.compression_relaxation import compression_relaxation, ladder
from operando.protocols.operando_pressure import operando_pressure
from operando.protocols.pressure_sweep import pressure_sweep
from operando.simulators.cell.spectrum import impedance
from support.virtual_lab import run_on_lab

POLL = Poll(interval=10.0)
ROWS = RecordConditions(every=30.0)


def creeping(share: float) -> Any:
    """Let the frames of the laboratory creep by another share of the preload a decade."""

    def change(simulation: Any, now: float) -> None:
        for frame in simulation.frames.values():
            frame.relaxation = share

    return change


def test_the_creep_of_a_clamped_stack_is_found(tmp_path: Path) -> None:
    plan = compression_relaxation(relaxation="8 h")
    ran = run_on_lab(plan, "A1", tmp_path, poll=POLL, record=ROWS, before=creeping(0.02))
    (found,) = relaxation_of(ran.record).relaxations
    (frame,) = ran.simulation.frames.values()
    # The load cell resolves 1 N of 1 kN; the fit shares the fall with the age of the stack.
    assert found.fall == pytest.approx(0.02 * frame.preload / frame.area, rel=0.1)
    assert found.share_per_decade == pytest.approx(0.02, rel=0.12)
    assert found.flags == ()


def test_breathing_is_found_whatever_the_stack_creeps(tmp_path: Path) -> None:
    plan = operando_pressure(
        relaxation="6 h", cycles=1, charge_rate="C/3", discharge_rate="C/3", rest="10 min"
    )
    slopes, raw = [], []
    for share in (0.0, 0.03):
        folder = tmp_path / str(share)
        ran = run_on_lab(plan, "A1", folder, poll=POLL, record=ROWS, before=creeping(share))
        found = breathing_of(ran.record)
        (cycle,) = found.cycles
        slopes.append(cycle.charge_slope)
        raw.append(cycle.raw_swing)
        assert found.sign == "rises"
        assert cycle.swing == pytest.approx(
            cycle.charge_slope * np.ptp(_charge(ran.record)) / found.area, rel=0.25
        )
    assert abs(raw[1] / raw[0] - 1.0) > 0.04
    assert slopes[1] == pytest.approx(slopes[0], rel=0.02)
    assert "frame stiffness is not stated" in found.flags


def _charge(record: Any) -> Any:
    return record.samples()["charge"]


def test_the_expansion_follows_from_the_stated_stiffness(tmp_path: Path) -> None:
    plan = operando_pressure(
        relaxation="1 h", cycles=1, charge_rate="C/2", discharge_rate="C/2", rest="0 s"
    )
    ran = run_on_lab(plan, "A1", tmp_path, poll=POLL, record=ROWS, before=creeping(0.0))
    found = breathing_of(ran.record)
    (frame,) = ran.simulation.frames.values()
    known = replace(found, stiffness=frame.stiffness, piston_area=frame.area)
    cycle = known.cycles[0]
    moved = known.expansion(cycle)
    # Lithium gains 4.85 um per mAh/cm2, the cathode loses some of it: seven tenths to all are left.
    assert 0.5 * 4.85e-6 / 3.6e4 < moved < 4.85e-6 / 3.6e4
    after = ran.cell.thickness_change(ran.now) * frame.stiffness / frame.area
    pressures = ran.record.aux("pressure")["value"]
    assert pressures[-1] - pressures[0] == pytest.approx(after, abs=3e4)


@protocol(source="a test: a cell as it was assembled has next to no exchange current")
def charged_sweep(
    cell: Cell,
    *,
    window: Voltages = ("2 V", "4.3 V"),  # type: ignore[assignment]
) -> Steps:
    """Charge for half an hour, then sweep the pressure."""
    charged = (VOLTAGE >= window[1], ELAPSED >= 1800.0)
    yield ConstantCurrent(0.5 * cell.capacity / 3600.0, charged)
    yield Rest((ELAPSED >= 1800.0,))
    yield from pressure_sweep.steps(
        cell,
        lowest="2 MPa", highest="8 MPa", levels=3, soak="2 min", points_per_decade=6,
        highest_frequency="100 kHz", lowest_frequency="0.1 Hz", amplitude="20 mV",
        current_limit="20 mA", window=window,
    )  # fmt: skip


def test_a_press_goes_up_and_down_its_ladder_with_a_spectrum_at_each_level(tmp_path: Path) -> None:
    ran = run_on_lab(charged_sweep(), "D8", tmp_path, poll=POLL, record=ROWS)
    found = sweep_of(ran.record)
    assert found.pressures == pytest.approx([2e6, 5e6, 8e6, 5e6, 2e6], rel=0.05)
    # The cell still relaxes a little: the way down comes back to where the way up began.
    assert abs(found.hysteresis) < 0.02
    last = found.spectra[-1]
    true = impedance(ran.cell, last.frequency, ran.now)
    assert found.resistance[-1] == pytest.approx(float(true.real[-1]), rel=0.05)


@pytest.mark.parametrize(
    ("levels", "words"),
    [((5e6, 2e6, 3), "lowest"), ((1e6, 2e6, 1), "levels")],
)
def test_a_ladder_that_is_none_is_refused(levels: tuple[float, float, int], words: str) -> None:
    with pytest.raises(BadInputError, match=f"^{words}:"):
        ladder(*levels)


def test_the_evaluations_are_offered_by_name() -> None:
    assert evaluation.operando_pressure is breathing_of
    assert evaluation.pressure_sweep is sweep_of
    assert evaluation.compression_relaxation is relaxation_of
