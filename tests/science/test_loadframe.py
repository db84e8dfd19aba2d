"""Stack pressure of a cell in a load frame: sign and size of its swing."""

import math
from dataclasses import replace

import pytest

from operando.simulators.cell import CellParameters, SimulatedCell, load_preset
from operando.simulators.loadframe import PISTON_AREA, LoadFrame

HOURS = 3600.0


def charged(parameters: CellParameters, **frame: float) -> tuple[LoadFrame, float, float]:
    """Return frame, pressure swing (Pa) and charge (mAh/cm2) after 9 h at C/10."""
    cell = SimulatedCell(parameters)
    stack = LoadFrame(cell, relaxation=0.0, **frame)
    before = stack.pressure(0.0)
    cell.source_voltage(0.0, 4.25, cell.nominal_capacity / (10.0 * HOURS))
    swing = stack.pressure(9.0 * HOURS) - before
    return stack, swing, cell.charge_passed(9.0 * HOURS) / cell.area / 3.6 / 1e4


@pytest.fixture(name="caec")
def _caec() -> CellParameters:
    return load_preset("ncm811-caec").parameters


def zero_strain_counter(parameters: CellParameters) -> CellParameters:
    """Return a cell with a counter electrode like Li4Ti5O12: 1.55 V vs Li, no strain."""
    return replace(parameters, counter_potential=1.55, counter_expansion=0.0)


def test_a_lithium_cell_presses_harder_when_charged(caec: CellParameters) -> None:
    # M-141. 4.85 um per mAh/cm2 of lithium less the contraction of NCM811, at 10 N/um on 13 mm.
    _, swing, charge = charged(caec)
    assert charge == pytest.approx(2.4975, rel=1e-6)
    assert swing / charge == pytest.approx(0.33e6, rel=0.08)


def test_a_zero_strain_counter_electrode_lets_the_pressure_fall_on_charge(
    caec: CellParameters,
) -> None:
    # M-140: cathode-dominated. NCM811 alone: about -0.5 um per mAh/cm2 over the full window.
    cell = SimulatedCell(zero_strain_counter(caec))
    stack = LoadFrame(cell, relaxation=0.0)
    before = stack.pressure(0.0)
    cell.source_voltage(0.0, 4.25 - 1.55, cell.nominal_capacity / (10.0 * HOURS))
    now = 12.0 * HOURS
    charge = cell.charge_passed(now) / cell.area / 3.6 / 1e4
    swing = stack.pressure(now) - before
    assert swing < 0.0
    thickness = swing * PISTON_AREA / 1e7
    assert thickness / charge == pytest.approx(-0.5e-6, rel=0.15)
    cell.source_voltage(now, 2.5 - 1.55, cell.nominal_capacity / (10.0 * HOURS))
    assert stack.pressure(now + 9.0 * HOURS) > before + swing


def test_the_swing_reverses_on_discharge(caec: CellParameters) -> None:
    stack, swing, _ = charged(caec)
    cell = stack.cell
    assert isinstance(cell, SimulatedCell)
    cell.source_voltage(9.0 * HOURS, 2.5, cell.nominal_capacity / (10.0 * HOURS))
    after = stack.pressure(13.0 * HOURS)
    assert 8e6 < after < 8e6 + 0.7 * swing


def test_a_softer_frame_or_stack_swings_less(caec: CellParameters) -> None:
    _, hard, _ = charged(caec, stiffness=2e7)
    _, soft, _ = charged(caec, stiffness=1e7)
    _, series, _ = charged(caec, stiffness=2e7, stack_stiffness=2e7)
    assert hard == pytest.approx(2.0 * soft, rel=1e-9)
    assert series == pytest.approx(soft, rel=1e-9)


def test_a_constant_force_frame_keeps_the_pressure(caec: CellParameters) -> None:
    stack, swing, _ = charged(caec, stiffness=0.0)
    assert swing == 0.0
    stack.cell.set_temperature(10.0 * HOURS, 313.15)
    assert stack.pressure(10.0 * HOURS) == pytest.approx(8e6)


def test_the_default_preload_is_eight_megapascal_on_thirteen_millimetres(
    caec: CellParameters,
) -> None:
    stack = LoadFrame(SimulatedCell(caec))
    assert stack.pressure(0.0) == pytest.approx(8e6)
    assert stack.force(0.0) == pytest.approx(1061.8, rel=1e-3)


def test_warming_raises_the_pressure(caec: CellParameters) -> None:
    cell = SimulatedCell(replace(caec, counter_interphase_expansion=0.0))
    stack = LoadFrame(cell, relaxation=0.0)
    cell.set_temperature(0.0, cell.temperature + 10.0)
    assert stack.pressure(1.0) == pytest.approx(8.5e6, rel=1e-6)  # 0.05 MPa/K


def test_the_stack_creeps_with_the_logarithm_of_time(caec: CellParameters) -> None:
    still = replace(caec, counter_interphase_expansion=0.0)
    stack = LoadFrame(SimulatedCell(still), relaxation=0.01)
    hour, ten, hundred = (stack.pressure(t * HOURS) for t in (1.0, 10.0, 100.0))
    assert ten - hour == pytest.approx(-0.08e6, rel=0.02)
    assert hundred - ten == pytest.approx(-0.08e6, rel=0.02)


def test_an_interphase_that_grows_at_rest_presses_on_the_frame(caec: CellParameters) -> None:
    cell = SimulatedCell(caec)
    stack = LoadFrame(cell, relaxation=0.0)
    gained = [cell.thickness_change(t * HOURS) for t in (100.0, 400.0)]
    # q_a = k sqrt(t), and nothing else moves.
    for hours, height in zip((100.0, 400.0), gained, strict=True):
        charge = caec.counter_interphase_rate * math.sqrt(hours * HOURS)
        assert height == pytest.approx(charge * caec.counter_interphase_expansion, rel=0.02)
    assert stack.pressure(400.0 * HOURS) > 8.0e6 + 1e4


def test_the_force_is_never_negative(caec: CellParameters) -> None:
    cell = SimulatedCell(caec)
    stack = LoadFrame(cell, preload=10.0)
    cell.source_voltage(0.0, 4.25, cell.nominal_capacity / (10.0 * HOURS))
    raised = stack.force(9.0 * HOURS)
    slack = LoadFrame(cell, preload=0.0, start=9.0 * HOURS)
    assert raised > 10.0
    cell.set_temperature(9.0 * HOURS, 240.0)
    assert stack.force(9.0 * HOURS) == 0.0
    assert slack.force(9.0 * HOURS) >= 0.0


def test_asking_for_the_pressure_changes_nothing(caec: CellParameters) -> None:
    def end(polls: int) -> float:
        cell = SimulatedCell(caec)
        stack = LoadFrame(cell)
        cell.source_voltage(0.0, 4.25, cell.nominal_capacity / HOURS)
        for i in range(polls):
            stack.pressure(4000.0 * i / polls)
        return stack.pressure(4000.0)

    assert end(0) == end(997)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stiffness": -1.0}, "stiffness must be finite and not negative, not -1.0"),
        ({"stack_stiffness": 0.0}, "stack_stiffness must be positive, not 0.0"),
        ({"preload": -5.0}, "preload must be finite and not negative, not -5.0"),
        ({"area": 0.0}, "area must be positive, not 0.0"),
        ({"relaxation": -0.01}, "relaxation must lie between 0 and 0.1 .*, not -0.01"),
        ({"relaxation": 0.11}, "relaxation must lie between 0 and 0.1 .*, not 0.11"),
        ({"relaxation": math.nan}, "relaxation must lie between 0 and 0.1 .*, not nan"),
        ({"thermal_pressure": math.nan}, "thermal_pressure must be finite .*, not nan"),
        ({"thermal_pressure": math.inf}, "thermal_pressure must be finite .*, not inf"),
    ],
)
def test_impossible_frames_are_refused(
    caec: CellParameters, wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LoadFrame(SimulatedCell(caec), **wrong)


@pytest.mark.parametrize("relaxation", [0.0, 0.1])
def test_a_frame_keeps_some_force_as_long_as_a_cell_is_followed(
    caec: CellParameters, relaxation: float
) -> None:
    frame = LoadFrame(SimulatedCell(caec), relaxation=relaxation)
    assert frame.force(1e9) > 0.0


@pytest.mark.parametrize("stiffness", [0.0, 1e7])
def test_an_actuator_sets_the_force_and_the_frame_stays_as_stiff_as_it_is(stiffness: float) -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    frame = LoadFrame(cell, stiffness=stiffness)
    day = 86400.0
    frame.press(day, 500.0)
    assert frame.force(day) == pytest.approx(500.0, rel=1e-12)
    assert cell.stack_pressure == pytest.approx(500.0 / frame.area)
    cell.source_voltage(day, 4.25, 1e-3)
    rise = frame.force(1.5 * day) - 500.0
    assert rise == 0.0 if stiffness == 0.0 else rise > 10.0
    with pytest.raises(ValueError, match="force must be finite and not negative"):
        frame.press(2 * day, -1.0)
