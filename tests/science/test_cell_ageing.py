"""Ageing of the simulated cell: what is lost and grown, what is conserved, what it costs."""

import math
from dataclasses import fields, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.simulators.cell import (
    CellParameters,
    CellState,
    Regulation,
    SimulatedCell,
    cycle,
    load_preset,
    stepping,
)
from operando.simulators.cell.ageing import LEAST_CONNECTED, LEAST_CONTACT, MOST_VOID
from operando.simulators.cell.electrochemistry import Electrochemistry
from operando.simulators.cell.state import Branch, Point

CAEC = load_preset("ncm811-caec").parameters
HOUR = 3600.0


def aged(cell: SimulatedCell, cycles: int, upper: float = 4.25) -> list[float]:
    """Return the discharge capacities (C) of cycles at C/2 with a hold to 0.05C."""
    run = cycle(cell, cell.time, lower=2.5, upper=upper, rate=0.5, cutoff_rate=0.05, cycles=cycles)
    return [c.discharged for c in run]


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that grows by the length (s) of every step that any cell computes."""
    lengths: list[float] = []
    step = Electrochemistry.step

    def counted(
        self: Electrochemistry, before: Point | None, begin: Point, branch: Branch, length: float
    ) -> Point:
        lengths.append(length)
        return step(self, before, begin, branch, length)

    monkeypatch.setattr(Electrochemistry, "step", counted)
    return lengths


def lithium(cell: SimulatedCell, state: CellState) -> float:
    """Return all lithium of a cell but that of its electrolyte, C."""
    counter = (state.counter_lithium + state.counter_interphase_charge) * cell.area
    return state.cathode_lithium + counter


def test_charge_and_lithium_close_over_a_thousand_cycles() -> None:
    cell = SimulatedCell(CAEC)
    before = lithium(cell, cell.state(0.0))
    external = 0.0
    for c in cycle(cell, 0.0, lower=2.5, upper=4.25, rate=1.0, cutoff_rate=0.1, cycles=1000):
        external += c.charged - c.discharged
    state = cell.state(cell.time)
    assert state.throughput > 1000.0 * cell.nominal_capacity * 0.5
    assert state.connected_fraction < 0.95  # isolated material takes part in the balance
    # What oxidised electrolyte gave to the cathode came out of the electrolyte.
    after = lithium(cell, state) - state.oxidised_charge
    assert after == pytest.approx(before, rel=1e-9)
    assert state.charge == pytest.approx(external, abs=1e-9 * state.throughput)
    # The cathode alone, which is 1 part in 6: its lithium is summed over the particle.
    x0 = CAEC.initial_lithiation * CAEC.charge_per_lithiation * cell.active_mass
    side = state.leaked_charge + state.oxidised_charge
    assert state.cathode_lithium - x0 == pytest.approx(
        side - state.charge, abs=1e-9 * state.throughput
    )


def test_a_hundred_cycles_cost_as_much_late_as_early(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = count_steps(monkeypatch)
    cell = SimulatedCell(CAEC)
    counts = []
    for _ in range(4):
        begun = len(taken)
        aged(cell, 25)
        counts.append(len(taken) - begun)
    assert max(counts) < 25 * 300
    assert max(counts) < 1.3 * min(counts)


@pytest.mark.parametrize("preset", ["ncm811-caec", "ncm811-lno", "ncm811-bare"])
def test_halving_the_step_changes_the_retention_of_a_hundred_cycles_by_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    def retention() -> tuple[float, int]:
        begun = len(taken)
        capacities = aged(SimulatedCell.from_preset(preset), 100)
        return 100.0 * capacities[-1] / capacities[0], len(taken) - begun

    taken = count_steps(monkeypatch)
    ordinary, steps = retention()
    # The step follows the third root of its tolerance.
    monkeypatch.setattr(stepping, "VOLTAGE_TOLERANCE", stepping.VOLTAGE_TOLERANCE / 8.0)
    monkeypatch.setattr(stepping, "COMPOSITION_TOLERANCE", stepping.COMPOSITION_TOLERANCE / 8.0)
    fine, more = retention()
    assert more > 1.6 * steps
    assert fine == pytest.approx(ordinary, abs=0.05)


@pytest.mark.parametrize("interval", [1.0, 7.3, 60.0])
def test_an_aged_cell_does_not_know_how_often_it_was_asked(interval: float) -> None:
    quiet, asked = SimulatedCell(CAEC), SimulatedCell(CAEC)
    current = CAEC.nominal_specific_capacity * quiet.active_mass / HOUR
    now = 0.0
    for level, duration in ((4.25, 2.0), (2.5, 1.3), (4.35, 2.0), (2.8, 1.0)):
        for cell in (quiet, asked):
            cell.source_voltage(now, level, current)
        end = now + duration * HOUR
        while now < end:
            asked.terminal(now)
            now += interval
        now = end
        assert quiet.terminal(now).voltage == pytest.approx(asked.terminal(now).voltage, abs=1e-5)
        assert quiet.terminal(now) == asked.terminal(now)
    assert quiet.state(now) == asked.state(now)


def test_a_driven_cycle_is_a_polled_cycle() -> None:
    driven, polled = SimulatedCell(CAEC), SimulatedCell(CAEC)
    one_c = driven.nominal_capacity / HOUR
    done = next(cycle(driven, 0.0, lower=2.5, upper=4.25, rate=1.0, cutoff_rate=0.1))
    polled.source_voltage(0.0, 4.25, one_c)
    now = 0.0
    while polled.terminal(now).regulation is not Regulation.VOLTAGE or (
        polled.terminal(now).current > 0.1 * one_c
    ):
        now += 1.0
    assert polled.charge_passed(now) == pytest.approx(done.charged, abs=1.01 * 0.1 * one_c)
    polled.source_voltage(now, 2.5, one_c)
    while polled.terminal(now).regulation is not Regulation.VOLTAGE:
        now += 1.0
    assert now == pytest.approx(done.end, abs=4.0)
    assert 0.0 < done.discharged < done.charged


def test_a_run_to_a_current_ends_at_that_current() -> None:
    cell = SimulatedCell(CAEC)
    one_c = cell.nominal_capacity / HOUR
    cell.source_voltage(0.0, 4.0, one_c)
    reached = cell.run_until(math.inf, 1e6)
    assert cell.terminal(reached).voltage == pytest.approx(4.0, abs=1e-6)
    assert cell.terminal(reached).current == pytest.approx(one_c, rel=1e-4)
    later = cell.run_until(0.3 * one_c, 1e6)
    assert cell.terminal(later).current == pytest.approx(0.3 * one_c, rel=1e-6)
    assert cell.run_until(0.0, later + 10.0) == later + 10.0
    cell.open_circuit(later + 10.0)
    assert cell.run_until(math.inf, later + 20.0) == later + 20.0


def test_a_cell_left_alone_discharges_itself_through_its_separator() -> None:
    cell = SimulatedCell(CAEC)
    done = next(cycle(cell, 0.0, lower=3.9, upper=4.25, rate=0.1))
    cell.open_circuit(done.end)
    begin = cell.state(done.end)
    later = done.end + 200.0 * HOUR
    end = cell.state(later)
    leaked = end.leaked_charge - begin.leaked_charge
    expected = CAEC.electronic_conductivity * CAEC.area / CAEC.separator_thickness
    assert leaked == pytest.approx(expected * 3.9 * 200.0 * HOUR, rel=0.05)
    assert end.charge == pytest.approx(begin.charge, abs=1e-9)
    assert end.lithiation > begin.lithiation


def test_the_interphase_waits_before_it_grows() -> None:
    # Flat at first, growing after 16 h: NCM811 + Li3PS4 at rest, Feng et al. 2025, section 2.2.
    cell = SimulatedCell(replace(CAEC, coating_coverage=0.0))
    grown = [cell.state(hours * HOUR).interphase_thickness for hours in (0, 4, 16, 28, 40)]
    first, to_mean, past_mean, after = (b - a for a, b in pairwise(grown))
    assert 3.0 * first < 0.2 * past_mean
    assert to_mean < past_mean < after


def test_the_counter_electrode_s_interphase_is_parabolic_and_resists() -> None:
    cell = SimulatedCell(CAEC)
    start = cell.state(0.0)
    hour, hundred = cell.state(HOUR), cell.state(100.0 * HOUR)
    assert hundred.counter_interphase_charge == pytest.approx(
        10.0 * hour.counter_interphase_charge, rel=1e-6
    )
    assert hundred.counter_resistance > hour.counter_resistance > start.counter_resistance
    cell.set_temperature(100.0 * HOUR, 333.15)
    warm = cell.state(200.0 * HOUR)
    assert warm.counter_interphase_charge > 1.5 * hundred.counter_interphase_charge


def test_stripping_beyond_creep_leaves_voids_that_rest_and_plating_fill() -> None:
    def voids(parameters: CellParameters = CAEC, kelvin: float = 303.15) -> tuple[float, float]:
        cell = SimulatedCell(parameters)
        done = next(cycle(cell, 0.0, lower=3.0, upper=4.25, rate=0.2))
        cell.set_temperature(done.end, kelvin)
        done = next(cycle(cell, done.end, lower=3.0, upper=4.25, rate=2.0, charge_rate=0.2))
        opened = cell.state(done.end).void_fraction
        cell.open_circuit(done.end)
        return opened, cell.state(done.end + 4.0 * HOUR).void_fraction

    opened, rested = voids()
    assert 0.1 < opened < 0.9
    assert rested < 0.2 * opened
    assert voids(replace(CAEC, stack_pressure=4e6))[0] > opened
    assert voids(replace(CAEC, stack_pressure=20e6))[0] < opened
    assert voids(kelvin=333.15)[0] < opened


def test_a_pressure_that_is_none_is_refused() -> None:
    cell = SimulatedCell(CAEC)
    for pascal in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="pressure must be finite and not negative"):
            cell.set_stack_pressure(0.0, pascal)
    with pytest.raises(ValueError, match="stiffness"):
        cell.set_stack_pressure(0.0, 8e6, -1.0)
    with pytest.raises(ValueError, match="rate must be positive"):
        next(cycle(cell, 0.0, lower=2.5, upper=4.25, rate=0.0))


PROTOCOL = st.lists(
    st.tuples(
        st.sampled_from(["voltage", "current", "open", "temperature", "pressure"]),
        st.floats(0.0, 1.0),
        st.floats(0.0, 1.0),
        st.floats(1.0, 4e4),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(PROTOCOL, st.sampled_from(["ncm811-caec", "ncm811-lno", "ncm811-bare"]), st.integers(0, 9))
def test_no_protocol_drives_a_state_out_of_its_range(
    protocol: list[tuple[str, float, float, float]], name: str, seed: int
) -> None:
    cell = SimulatedCell.from_preset(name, seed=seed)
    one_c = cell.nominal_capacity / HOUR
    before, now = lithium(cell, cell.state(0.0)), 0.0
    for kind, first, second, duration in protocol:
        if kind == "voltage":
            cell.source_voltage(now, 2.0 + 2.6 * first, (0.02 + 5.0 * second) * one_c)
        elif kind == "current":
            cell.source_current(now, (first - 0.5) * 6.0 * one_c, 1.0 + 4.0 * second)
        elif kind == "open":
            cell.open_circuit(now)
        elif kind == "temperature":
            cell.set_temperature(now, 250.0 + 100.0 * first)
        else:
            cell.set_stack_pressure(now, 5e7 * first, 1e11 * second)
        for share in (0.37, 1.0):
            state = cell.state(now + share * duration)
            for field in fields(state):
                assert math.isfinite(getattr(state, field.name)), field.name
            assert LEAST_CONTACT <= state.contact_fraction <= 1.0
            assert LEAST_CONNECTED <= state.connected_fraction <= 1.0
            assert 0.0 <= state.void_fraction <= MOST_VOID
            assert state.interphase_thickness >= 0.0
            assert state.counter_interphase_charge >= 0.0
            assert state.pressure >= 0.0
            assert math.isfinite(cell.terminal(now + share * duration).voltage)
        now += duration
    state = cell.state(now)
    after = lithium(cell, state) - state.oxidised_charge
    assert after == pytest.approx(before, rel=1e-9)
