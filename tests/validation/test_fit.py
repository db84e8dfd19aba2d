"""The fit: its restraint, its bisection, its account of itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from operando.simulators.cell import CellParameters, load_preset
from operando.validation import fit as fitting
from operando.validation.fit import (
    STAGES,
    Stage,
    bounds_of,
    diffusivity_by_arithmetic,
    fit,
    set_by_hand,
)
from operando.validation.published import Role, load_targets

WATCHED = """
import os, sys
opened = set()
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        opened.add(os.path.basename(os.fsdecode(arguments[0])))
sys.addaudithook(watch)
from operando.validation import fit
code = fit.main(["--row", "V-08", "--rounds", "1"])
print("opened:", sorted(opened & {"calibrated.toml", "held-out.toml", "orderings.toml"}))
from operando.validation.published import TARGETS
for name in ("held-out.toml", "orderings.toml"):
    for way in (lambda p: open(p), lambda p: os.open(p, os.O_RDONLY), lambda p: open(os.fsencode(p))):
        try:
            way(TARGETS / ".." / TARGETS.name / name)
        except PermissionError:
            print("refused:", name)
import subprocess
try:
    subprocess.run(["cat", str(TARGETS / "held-out.toml")])
except PermissionError:
    print("refused: a process")
sys.exit(code)
"""  # noqa: E501


def test_the_fit_opens_the_calibrated_targets_and_cannot_open_the_others() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=False, timeout=100
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert "opened: ['calibrated.toml']" in lines
    assert lines.count("refused: held-out.toml") == 3
    assert lines.count("refused: orderings.toml") == 3
    assert "refused: a process" in lines
    assert lines[0] == "2 free parameters, set by 2 of 17 calibrated numbers"
    assert lines[1] == "5 parameters set by hand from the same number, 4 of the 17; no stage:"
    assert lines[2] == "  V-16 lpscb: electrolyte_conductivity = 0.45 S/m (pellet-lpscb)"


TARGETS = {target.id: target for target in load_targets(Role.CALIBRATED)}
SLOPE = {"charge_transfer_resistance": (1e-3, 1e-2)}


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell whose arc (ohm) is its charge-transfer resistance per cm2 (ohm cm2)."""
    monkeypatch.setitem(fitting.MEASURES, "V-08", lambda p: 1e4 * p.charge_transfer_resistance)


def presets(*cases: str) -> dict[str, CellParameters]:
    """The coated cell, in these places."""
    return dict.fromkeys(cases, load_preset("ncm811-caec").parameters)


def test_stages_name_fields_of_a_cell_and_calibrated_rows() -> None:
    fields = set(CellParameters.__dataclass_fields__)
    assert STAGES
    for stage in STAGES:
        assert stage.parameter in fields
        assert set(stage.judged) <= set(TARGETS[stage.row].published)
        assert set(stage.judged) <= set(stage.cases)
    free = [(stage.parameter, case) for stage in STAGES for case in stage.cases]
    assert len(free) == len(set(free))


def test_every_fitted_parameter_states_the_range_of_its_search() -> None:
    names = next(iter(TARGETS.values())).presets
    bounds = bounds_of(STAGES, names)
    assert set(bounds) == {stage.parameter for stage in STAGES}
    for stage in STAGES:
        low, high = bounds[stage.parameter]
        for case in stage.cases:
            assert low <= getattr(load_preset(names[case]).parameters, stage.parameter) <= high


def test_what_a_preset_calls_calibrated_is_what_the_fit_sets() -> None:
    names = next(iter(TARGETS.values())).presets
    fitted = {(stage.parameter, case) for stage in STAGES for case in stage.cases}
    for case, name in names.items():
        said = {
            (key, case)
            for key, entry in load_preset(name).provenance.items()
            if entry.basis == "calibrated"
        }
        assert said == {pair for pair in fitted if pair[1] == case}


def test_numbers_set_by_hand_are_those_that_presets_of_calibrated_rows_call_calibrated() -> None:
    found = set_by_hand(TARGETS.values())
    assert [(hand.row, hand.case, hand.preset, hand.parameter) for hand in found] == [
        ("V-16", "lpscb", "pellet-lpscb", "electrolyte_conductivity"),
        ("V-17", "caec", "pellet-caec", "electrolyte_conductivity"),
        ("V-17", "lno", "pellet-lno", "electrolyte_conductivity"),
        ("V-18-caec", "caec", "static-caec", "bulk_growth_share"),
        ("V-18-caec", "caec", "static-caec", "growth_rate"),
    ]
    assert found[0].entry.value == 0.45
    assert {hand.parameter for hand in found}.isdisjoint(stage.parameter for stage in STAGES)


def test_every_calibrated_number_is_fitted_set_by_hand_or_left_to_the_others() -> None:
    numbers = {(target.id, case) for target in TARGETS.values() for case in target.published}
    fitted = {(stage.row, case) for stage in STAGES for case in stage.judged}
    by_hand = {(hand.row, hand.case) for hand in set_by_hand(TARGETS.values())}
    assert fitted.isdisjoint(by_hand)
    assert numbers - fitted - by_hand == {("V-02", "caec"), ("V-02", "lno"), ("V-15", "lno")}


def test_there_are_no_more_free_parameters_than_calibrated_numbers_they_use() -> None:
    assert len(STAGES) <= len({(stage.row, case) for stage in STAGES for case in stage.judged})


@pytest.mark.usefixtures("linear")
def test_a_stage_finds_the_number_that_gives_the_published_row() -> None:
    stage = Stage("charge_transfer_resistance", ("caec",), "V-08", ("caec",))
    (found,), cells = fit([stage], TARGETS, presets("caec"), SLOPE)
    assert found.value == pytest.approx(34.8e-4, rel=1e-3)
    assert cells["caec"].charge_transfer_resistance == found.value


@pytest.mark.usefixtures("linear")
def test_a_row_out_of_reach_leaves_what_is_missing_at_the_nearer_bound() -> None:
    stage = Stage("charge_transfer_resistance", ("caec",), "V-08", ("caec",))
    bounds = {"charge_transfer_resistance": (1e-3, 2e-3)}
    (found,), _ = fit([stage], TARGETS, presets("caec"), bounds, rounds=1)
    assert found.value == 2e-3
    assert found.deviation == pytest.approx(20.0 / 34.8 - 1.0)


@pytest.mark.usefixtures("linear")
def test_a_shared_parameter_is_the_same_for_all_its_cells() -> None:
    stage = Stage("charge_transfer_resistance", ("caec", "lno", "bare"), "V-08", ("caec", "lno"))
    _, cells = fit([stage], TARGETS, presets("caec", "lno", "bare"), SLOPE, rounds=1)
    values = {cell.charge_transfer_resistance for cell in cells.values()}
    assert len(values) == 1
    # The mean relative deviation of 34.8 and 45.0 ohm vanishes at their harmonic mean.
    assert values.pop() == pytest.approx(2.0 / (1.0 / 34.8 + 1.0 / 45.0) * 1e-4, rel=1e-3)


@pytest.mark.usefixtures("linear")
def test_a_stage_may_fit_a_ratio() -> None:
    stage = Stage("charge_transfer_resistance", ("lno",), "V-08", ("lno",), over="caec")
    other = replace(presets("caec")["caec"], charge_transfer_resistance=2e-3)
    (found,), cells = fit([stage], TARGETS, presets("lno") | {"caec": other}, SLOPE, rounds=1)
    assert found.value == pytest.approx(2e-3 * 45.0 / 34.8, rel=1e-3)
    assert cells["caec"] == other


@pytest.mark.usefixtures("linear")
def test_two_readings_of_one_number_meet_halfway() -> None:
    stage = Stage(
        "charge_transfer_resistance", ("caec",), "V-08", ("caec",), reading=lambda p, v: v * 4e-4
    )
    (found,), _ = fit([stage], TARGETS, presets("caec"), SLOPE)
    assert found.value == pytest.approx(2.0 * 34.8e-4, rel=1e-3)
    assert found.deviation == pytest.approx(1.0, rel=1e-3)


def test_the_published_diffusion_length_is_volume_over_geometric_area() -> None:
    # 1406: square of 31.2 um of dense active material over a third of a radius of 2.5 um.
    found = diffusivity_by_arithmetic(presets("caec")["caec"], 1.323e-8)
    assert found == pytest.approx(1.323e-12 / 1406.0, rel=2e-3)


@pytest.mark.usefixtures("linear")
def test_a_fit_repeats() -> None:
    stage = Stage("charge_transfer_resistance", ("caec",), "V-08", ("caec",))
    once, again = (fit([stage], TARGETS, presets("caec"), SLOPE)[0] for _ in range(2))
    assert once == again
