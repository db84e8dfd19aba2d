"""The laboratory of a validation: benches, a cell that is plugged over, rows from records."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from operando.evaluation.impedance import impedance as impedance_of
from operando.instruments.bench_file import load_bench
from operando.protocols.impedance import impedance
from operando.validation.experiments import WARM_RAMP, charged_and_held, ramp
from operando.validation.lab import (
    POTENTIOSTAT,
    Experiment,
    Lab,
    Part,
    bench_text,
    run_experiment,
)
from operando.validation.measurements import MEASUREMENTS
from operando.validation.outcomes import Found
from operando.validation.outcomes import Path as Way
from operando.validation.pellets_and_lithium import crossing_of
from operando.validation.published import Role, load_targets

TARGETS = {target.id: target for role in Role for target in load_targets(role)}


def test_a_cell_that_the_source_meter_charged_is_the_one_at_the_potentiostat(
    tmp_path: Path,
) -> None:
    charge = charged_and_held(voltage="3.8 V", hold="5 min", rate="1C", cv_cutoff="C/10")
    short = impedance(
        highest_frequency="10 kHz", lowest_frequency="10 Hz", points_per_decade=3,
        linearity=False, longest_rest="11 min", window=("2.4 V", "4.6 V"),
    )  # fmt: skip
    experiment = Experiment("plugged", (Part(charge), Part(short, POTENTIOSTAT)))
    ran = run_experiment(experiment, "ncm811-caec", tmp_path)
    first, second = ran.records
    before = first.samples(columns=["voltage", "step_count"])
    held = before["voltage"][before["step_count"] == 2]
    assert held[-1] == pytest.approx(3.8, abs=2e-3)
    (spectrum,) = impedance_of(second, fitted=False).spectra
    # Fresh it has 2.9 V and less; at C/10 or below it relaxes by less than 50 mV.
    assert spectrum.start_voltage == pytest.approx(3.8, abs=0.05)
    truth = ran.cell.terminal(ran.now).voltage
    assert spectrum.end_voltage == pytest.approx(truth, abs=2e-3)


def test_a_cell_rests_unconnected_for_as_long_as_a_part_says(tmp_path: Path) -> None:
    short = impedance(
        highest_frequency="10 kHz", lowest_frequency="10 Hz", points_per_decade=3,
        linearity=False, longest_rest="11 min", window=("1 V", "4.6 V"),
    )  # fmt: skip
    parts = (Part(short, POTENTIOSTAT), Part(short, POTENTIOSTAT, idle=100.0 * 3600.0))
    ran = run_experiment(Experiment("idle", parts), "ncm811-caec", tmp_path)
    assert ran.now > 100.0 * 3600.0
    assert all(record.steps()[-1].end < 3600.0 for record in ran.records)


def test_a_warm_cell_is_in_an_oven_under_a_frame_without_stiffness(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(bench_text(WARM_RAMP, "li-lpscl"), encoding="utf-8")
    bench = load_bench(path)
    assert bench.channels["A1"].roles["temperature_controller"] == "oven"
    simulated = bench.instruments["smu"].simulated
    assert simulated is not None
    # 7 MPa on the piston of 13 mm.
    assert simulated.options["preload"] == pytest.approx(7e6 * 1.3273e-4)
    assert simulated.options["stiffness"] == 0.0
    path.write_text(bench_text(ramp(3e6), "li-lpscl"), encoding="utf-8")
    assert "oven" not in load_bench(path).instruments


@pytest.mark.parametrize("row", ["V-16", "V-17"])
def test_a_pellets_conductivity_comes_from_its_record(row: str, tmp_path: Path) -> None:
    target = TARGETS[row]
    found = MEASUREMENTS[row](Lab(tmp_path), target)
    assert isinstance(found, Found)
    assert found.path is Way.INSTRUMENTS
    assert target.tolerance is not None
    for case, published in target.published.items():
        assert target.tolerance.accepts(found.values[case], published)
    assert len(list(tmp_path.glob("*/records/*/manifest.json"))) == len(target.published)


def test_a_crossing_lies_between_the_points_around_it_or_nowhere() -> None:
    assert crossing_of([(0.3, -2.0), (0.4, -1.0), (0.5, 1.0)]) == pytest.approx(0.45)
    assert math.isnan(crossing_of([(0.3, -2.0), (0.4, -1.0)]))
    assert math.isnan(crossing_of([(0.3, 2.0), (0.4, 3.0)]))
