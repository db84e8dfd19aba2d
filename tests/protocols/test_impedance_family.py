"""Impedance, conductivity and DC polarisation on the example laboratory, in virtual time.

Each evaluation must find a parameter of the simulated cell from its record alone.
"""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest

from operando.evaluation.composite_transport import composite_transport as transport_of
from operando.evaluation.conductivity import conductivity as conductivity_of
from operando.evaluation.electronic_conductivity import (
    electronic_conductivity as electronic_conductivity_of,
)
from operando.evaluation.impedance import impedance as impedance_of
from operando.evaluation.impedance_by_charge import impedance_by_charge as arcs_of
from operando.evaluation.static_contact import static_contact as growth_of
from operando.instruments.bench import CellEntry
from operando.instruments.errors import BadInputError
from operando.protocols import Cell, ConstantCurrent, Outcome, Plan, preview
from operando.protocols.composite_transport import composite_transport
from operando.protocols.conductivity import conductivity, rungs
from operando.protocols.electronic_conductivity import dc_polarisation, electronic_conductivity
from operando.protocols.impedance import impedance
from operando.protocols.impedance_by_charge import impedance_by_charge
from operando.protocols.static_contact import static_contact, times
from operando.protocols.steps import Step
from operando.records import Record
from support.virtual_lab import run_on_lab

HOUR = 3600.0
NOISE = "Kramers-Kronig residual"
"""At 10 mV the noise of the potentiostats' range of potential is 0.4 % of |Z|, of which the largest
of 81 residuals comes near the 1 % of the Kramers-Kronig test."""
CELL = Cell(CellEntry("c1", "bench.toml line 1", capacity=11.3))


def but_for_noise(flags: tuple[str, ...]) -> list[str]:
    """Flags without those of the Kramers-Kronig test, which must be doubtful at worst."""
    assert not any("not valid" in flag for flag in flags)
    return [flag for flag in flags if not flag.startswith(NOISE)]


def with_metadata(record: Record, **stated: str) -> Record:
    """The record of a cell of which more is stated in the bench file."""
    cell: dict[str, Any] = dict(record.cell)
    cell["metadata"] = {**cell["metadata"], **stated}
    return Record(record.folder, {**record.manifest, "cell": cell})


# ---------------------------------------------------------------- full cells


def half_charged(simulation: Any, now: float) -> None:
    """Let the cell of D8 have been charged for five hours at C/10, ten hours ago."""
    cell = simulation.cells["d8"]
    cell.assembled_at = now - 15.0 * HOUR
    cell.source_current(now - 15.0 * HOUR, 0.1 * 16.96e-6 * 185.0, 5.0)
    cell.open_circuit(now - 10.0 * HOUR)


def test_the_charge_transfer_of_a_half_charged_cell_is_its_slowest_arc(tmp_path: Path) -> None:
    run = run_on_lab(impedance(), "D8", tmp_path / "run", before=half_charged)
    found, second = impedance_of(run.record).spectra
    arc = found.slowest_arc
    assert arc is not None
    truth = run.cell.charge_transfer_resistance(run.now)
    assert 0.6 < run.cell.state(run.now).lithiation < 0.7
    # 2 %: the fit states 0.6 % from noise, and the double layer charges along the thickness of the
    # composite, which the circuit lacks: without noise the arc is 0.6 % too small.
    assert arc.resistance == pytest.approx(truth, rel=0.02)
    assert arc.frequency == pytest.approx(6.7, rel=0.1)
    assert but_for_noise(found.flags) == []
    assert found.kramers_kronig is not None
    assert found.kramers_kronig.largest < 0.015
    assert (found.amplitude, second.amplitude, second.label) == (0.01, 0.005, "linearity")
    assert abs(found.bias - found.start_voltage) < 1e-9
    assert found.pressure == pytest.approx(8e6, rel=0.01)


def test_a_cell_that_had_no_time_to_settle_is_measured_and_flagged(tmp_path: Path) -> None:
    def just_charged(simulation: Any, now: float) -> None:
        half_charged(simulation, now + 10.0 * HOUR - 1.0)

    plan = impedance(longest_rest="11 min", linearity=False)
    run = run_on_lab(plan, "D8", tmp_path / "run", before=just_charged)
    (found,) = impedance_of(run.record).spectra
    assert "unsettled: the longest rest had passed" in found.flags


def test_arcs_are_found_by_the_state_of_charge(tmp_path: Path) -> None:
    plan = impedance_by_charge(
        rate="1C", step="50 %", highest_charge="50 %", lowest_frequency="100 mHz",
        longest_rest="1 h", discharge=False,
    )  # fmt: skip
    run = run_on_lab(plan, "D8", tmp_path / "run")
    fresh, half = arcs_of(run.record).points
    # As assembled the arc lies below the band, which is said instead of another arc being given.
    assert fresh.charging is None
    assert fresh.arc is None
    assert "arc below the band" in fresh.flags
    assert half.charging is True
    # A poll comes every 5 s, which is 0.14 % of the capacity at 1C.
    assert half.state_of_charge == pytest.approx(0.5, abs=0.003)
    assert half.open_circuit == pytest.approx(3.76, abs=0.02)
    assert but_for_noise(half.flags) == []
    assert half.arc is not None
    # 3 %: as above, and the noise is twice that of a sweep down to 10 mHz.
    truth = run.cell.charge_transfer_resistance(run.now)
    assert half.arc.resistance == pytest.approx(truth, rel=0.03)


# ---------------------------------------------------------------- pellets


def test_the_conductivity_of_a_pellet_is_its_own(tmp_path: Path) -> None:
    run = run_on_lab(conductivity(), "D1", tmp_path / "run")
    found = conductivity_of(run.record)
    p, state = run.cell.parameters, run.cell.state(run.now)
    truth = p.thickness / (state.ionic_resistance * p.area)
    # 0.5 %: each current range has a gain error of 0.05 %, and the noise adds 0.1 %.
    assert found.conductivity == pytest.approx(truth, rel=0.005)
    assert but_for_noise(found.measurements[0].flags) == []
    assert found.fabrication_pressure == pytest.approx(45e6)
    assert found.flags == ()
    # What is stated of the leads is subtracted.
    stated = conductivity_of(with_metadata(run.record, lead_resistance="2 ohm"))
    shorter = found.measurements[0].resistance - stated.measurements[0].resistance
    assert shorter == pytest.approx(2.0)
    assert stated.flags == ()


def test_a_ladder_of_temperatures_gives_the_activation_energy(tmp_path: Path) -> None:
    plan = conductivity(ladder=True, temperature_step="40 K", patience="3 h")
    run = run_on_lab(plan, "D1", tmp_path / "run")
    found = conductivity_of(run.record)
    kelvin = [one.temperature - 273.15 for one in found.measurements]
    assert kelvin == pytest.approx([25.0, 65.0, 25.0], abs=0.5)
    # 1 %: the chamber is read to 0.1 K at both ends of 40 K, a cell in its frame is 0.1 K behind
    # the air after an hour, and two ranges differ by 0.1 %.
    truth = run.cell.parameters.electrolyte_activation_energy
    assert found.activation_energy == pytest.approx(truth, rel=0.01)
    assert found.activation_energy - found.activation_energy_without_temperature == pytest.approx(
        8.314 * 318.0, rel=0.02
    )
    sigma = run.cell.parameters.electrolyte_conductivity
    assert found.conductivity == pytest.approx(sigma, rel=0.01)
    assert found.hysteresis < 0.01


@pytest.mark.parametrize(
    "plan",
    [
        electronic_conductivity(hold="1 h"),
        dc_polarisation(hold="1 h", last_voltage="150 mV"),
    ],
    ids=["one voltage", "ladder"],
)
def test_the_steady_current_of_a_pellet_is_its_electrons(tmp_path: Path, plan: Plan) -> None:
    run = run_on_lab(plan, "D1", tmp_path / "run")
    found = electronic_conductivity_of(run.record)
    p, state = run.cell.parameters, run.cell.state(run.now)
    truth = p.thickness / (state.electronic_resistance * p.area)
    # 1 % above at the most: what the blocking contacts still draw after an hour,
    # Q t^-n / Gamma(1 - n) against 1 / R, is 0.7 %; readings add 0.1 %.
    assert -0.002 < found.conductivity / truth - 1.0 < 0.01
    ladder = len(found.polarisation.holds) > 1
    assert ladder == (found.polarisation.nonlinearity < 0.01)
    assert ("one voltage: Ohm's law is not checked" in found.flags) == (not ladder)


def test_a_hold_that_is_cut_too_short_is_said_to_be_unsteady(tmp_path: Path) -> None:
    run = run_on_lab(electronic_conductivity(hold="3 min"), "D1", tmp_path / "run")
    found = electronic_conductivity_of(run.record)
    assert "not steady" in found.flags
    state = run.cell.state(run.now)
    assert found.polarisation.resistance < 0.9 * state.electronic_resistance


def test_a_composite_between_ion_blocking_contacts_shows_its_electrons(tmp_path: Path) -> None:
    plan = composite_transport(contacts="ion-blocking", hold="2 min", current_limit="1 mA")
    run = run_on_lab(plan, "D5", tmp_path / "run")
    found = transport_of(run.record)
    p, state = run.cell.parameters, run.cell.state(run.now)
    electronic = p.thickness / (state.electronic_resistance * p.area)
    ionic = p.thickness / (state.ionic_resistance * p.area)
    # 0.5 %: noise and range errors of 0.1 % each; of the blocked carrier twice that, as it rests on
    # a difference.
    assert found.electronic_conductivity == pytest.approx(electronic, rel=0.005)
    assert found.direct_conductivity == pytest.approx(electronic, rel=0.005)
    assert found.ionic_conductivity == pytest.approx(ionic, rel=0.01)
    assert but_for_noise(found.flags) == []


def test_a_composite_between_electron_blocking_contacts_shows_its_ions(tmp_path: Path) -> None:
    plan = composite_transport(contacts="electron-blocking", hold="2 min", current_limit="1 mA")
    run = run_on_lab(plan, "D4", tmp_path / "run")
    p, state = run.cell.parameters, run.cell.state(run.now)
    ionic = p.thickness / (state.ionic_resistance * p.area)
    electronic = p.thickness / (state.electronic_resistance * p.area)
    contact = 1.0 / (p.ion_contact * p.area)
    found = transport_of(with_metadata(run.record, contact_resistance=f"{contact} ohm"))
    assert found.ionic_conductivity == pytest.approx(ionic, rel=0.005)
    assert found.direct_conductivity == pytest.approx(ionic, rel=0.005)
    # 3 %: what is blocked rests on the high-frequency end, half of which is the contact.
    assert found.electronic_conductivity == pytest.approx(electronic, rel=0.03)
    assert but_for_noise(found.flags) == []
    # Without the contacts' share, which is a quarter of what is measured, it says so.
    metadata = {"contact_resistance": "0 ohm"}
    blind = transport_of(with_metadata(run.record, **metadata))
    assert blind.ionic_conductivity < 0.8 * ionic


def test_the_growth_of_a_resting_pellet_is_found(tmp_path: Path) -> None:
    # The pellet was pressed a day ago, beyond its incubation, and is warm: it grows in two hours
    # as it would in a day. A potentiostat sends a point every 0.5 s, which two days are too long
    # for.
    twins: list[Any] = []

    def warm(simulation: Any, now: float) -> None:
        cell = simulation.cells["d7"]
        cell.assembled_at = now - 24.0 * HOUR
        cell.set_temperature(now, 333.15)
        twins.append((copy.deepcopy(cell), now))

    plan = static_contact(
        duration="2 h", lowest_frequency="100 mHz", amplitude="20 mV", periods=10.0
    )
    run = run_on_lab(plan, "D7", tmp_path / "run", before=warm)
    found = growth_of(run.record)
    assert [round(point.time / HOUR, 1) for point in found.points] == [0.0, 1.0, 2.0]
    # Nothing drives the cell, so that its twin tells how it was when each spectrum began.
    (twin, start), truth = twins[0], []
    for point in found.points:
        state = twin.state(start + point.spectrum.time)
        truth.append((state.bulk_resistance, state.interface_resistance))
    bulk = truth[-1][0] - truth[0][0]
    total = bulk + truth[-1][1] - truth[0][1]
    assert total > 0.5
    # Three stated standard errors of the difference of two spectra; they are 12 % of it.
    assert abs(found.total_growth - total) < 3.0 * found.total_growth_error < 0.15 * total
    assert abs(found.bulk_growth - bulk) < 3.0 * found.bulk_growth_error
    totals = [point.total for point in found.points]
    assert totals == sorted(totals)


# ---------------------------------------------------------------- what the protocols ask for


def test_impedance_waits_for_a_drift_below_one_percent_of_the_half_amplitude() -> None:
    rest, whole, half = preview(impedance(), CELL).steps
    frequencies = whole.frequencies  # type: ignore[attr-defined]
    assert len(frequencies) == 81
    assert (frequencies[0], frequencies[-1]) == pytest.approx((1e6, 1e-2))
    assert half.amplitude == 0.005  # type: ignore[attr-defined]
    steady, longest = rest.until
    # 1 % of 5 mV over the 1458 s that three periods at each of 81 frequencies take.
    assert steady.bound == pytest.approx(0.01 * 0.005 / 1458.0, rel=0.01)  # type: ignore[attr-defined]
    assert longest.bound == 12.0 * HOUR  # type: ignore[attr-defined]


def test_spectra_by_charge_go_up_and_down_in_the_same_steps() -> None:
    program = impedance_by_charge(step="50 %", rate="C/10").steps(CELL)
    asked: list[Step] = []
    step = next(program)
    with contextlib.suppress(StopIteration):
        while len(asked) < 40:
            asked.append(step)
            charge = 0.0
            end = step.until[0]
            if isinstance(step, ConstantCurrent):
                # Full after 80 % and empty after 75 %.
                share = {2: 0.5, 5: 0.3, 8: -0.5, 11: -0.25}[len(asked) - 1]
                charge = share * CELL.capacity
                end = step.until[0] if abs(share) < 0.5 else step.until[1]
            step = program.send(Outcome(1, "condition", end, 1.0, charge, 0.0, 3.7, 0.0))
    driven = [step for step in asked if isinstance(step, ConstantCurrent)]
    assert [step.label for step in driven] == ["charge", "charge", "discharge", "discharge"]
    assert [step.label for step in asked].count("impedance") == 5
    tenth = CELL.capacity / 36000.0
    assert [step.current for step in driven] == pytest.approx([tenth, tenth, -tenth, -tenth])


def test_the_published_conductivity_measurement_has_61_points_at_no_bias() -> None:
    rest, spectrum = preview(conductivity(), CELL).steps
    assert len(spectrum.frequencies) == 61  # type: ignore[attr-defined]
    assert spectrum.bias == 0.0  # type: ignore[attr-defined]
    assert "elapsed >= 3 min" in str(rest.until[0])


def test_a_ladder_of_temperatures_goes_up_and_down_again() -> None:
    steps = preview(conductivity(ladder=True, temperature_step="20 K"), CELL).steps
    kelvin = [step.temperature - 273.15 for step in steps if hasattr(step, "temperature")]
    assert kelvin == pytest.approx([25.0, 45.0, 65.0, 45.0, 25.0])
    assert rungs(298.15, 330.0, 20.0) == pytest.approx((298.15, 318.15, 330.0))


def test_spectra_of_static_contact_are_close_at_first() -> None:
    assert [t / HOUR for t in times(48 * HOUR, HOUR, 2.0, 12 * HOUR)] == [
        1,
        2,
        4,
        8,
        16,
        28,
        40,
        48,
    ]
    assert [t / HOUR for t in times(3 * HOUR, HOUR, 1.0, 12 * HOUR)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (impedance(amplitude="0 mV"), "amplitude"),
        (impedance(periods=0.0), "periods"),
        (impedance(lowest_frequency="2 MHz"), "lowest_frequency"),
        (impedance(longest_rest="5 min"), "drift_window"),
        (impedance(drift="0 %"), "drift"),
        (impedance_by_charge(rate="0C"), "rate"),
        (impedance_by_charge(step="0 %"), "step"),
        (conductivity(stabilisation="2 h"), "stabilisation"),
        (conductivity(ladder=True, last_temperature="20 degC"), "last_temperature"),
        (conductivity(ladder=True, soak="9 h"), "soak"),
        (static_contact(first="0 s"), "first"),
        (static_contact(factor=0.5), "factor"),
        (electronic_conductivity(voltage="0.8 V"), "window"),
        (electronic_conductivity(hold="0 s"), "hold"),
        (electronic_conductivity(steady_slope="-1 uA/s"), "steady_slope"),
        (dc_polarisation(first_voltage="0 V"), "first_voltage"),
        (composite_transport(last_voltage="1 V"), "window"),
    ],
)
def test_bad_parameters_are_refused_by_name_before_anything_is_asked_for(
    plan: Plan, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        next(plan.steps(CELL))


def test_contacts_of_a_composite_are_of_two_kinds() -> None:
    with pytest.raises(BadInputError, match="contacts"):
        composite_transport(contacts="steel")
