"""Plain cycles and a ladder of voltages on the example laboratory, against what the cell is."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.evaluation.cccv import cccv as evaluate_cycles
from operando.evaluation.electronic_conductivity import dc_polarisation as evaluate_ladder
from operando.protocols.cccv import cccv
from operando.protocols.electronic_conductivity import dc_polarisation
from support.twins import LOWER, UPPER, on_lab, twin
from support.virtual_lab import run_on_lab


def test_cycles_find_the_capacities_of_the_cell(tmp_path: Path) -> None:
    plan = cccv(cycles=2, charge_rate="1C", discharge_rate="1C", cv_cutoff="0.2C", rest="10 min")
    run = on_lab(plan, "C4", tmp_path, poll=2.0, every=60.0)
    same = twin("ncm811-caec", 34)
    cycles = evaluate_cycles(run.record).cycles
    assert len(cycles) == 2
    for found in cycles:
        charged = same.half(1.0, UPPER, down_to=0.2).charge
        same.rest(600.0)
        discharged = same.half(1.0, LOWER).charge
        same.rest(600.0)
        # The end of a half is seen within a poll of 2 s: 0.056 % of the charge at 1C.
        assert found.charge_capacity == pytest.approx(charged, rel=6e-4)
        assert found.discharge_capacity == pytest.approx(discharged, rel=6e-4)
        assert found.coulombic_efficiency == pytest.approx(discharged / charged, rel=1.2e-3)
        assert found.flags == ()


def test_a_ladder_of_voltages_finds_the_resistance_that_electrons_meet(tmp_path: Path) -> None:
    plan = dc_polarisation(
        first_voltage="10 mV", last_voltage="30 mV", voltage_step="10 mV", hold="2 min",
        current_limit="1 mA",
    )  # fmt: skip
    run = run_on_lab(plan, "D5", tmp_path)
    found = evaluate_ladder(run.record)
    assert [hold.voltage for hold in found.holds] == pytest.approx([0.01, 0.02, 0.03], abs=1e-4)
    # Ions are blocked after seconds. Noise and range errors are 0.1 % each.
    truth = run.cell.state(run.now).electronic_resistance
    assert found.resistance == pytest.approx(truth, rel=5e-3)
    assert found.nonlinearity < 0.01
