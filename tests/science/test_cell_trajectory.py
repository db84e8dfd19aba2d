"""The simulated cell's trajectory: who asks, how often and in which order must not matter."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from operando.simulators.cell import Regulation, SimulatedCell, cycle, load_preset, presets

Control = Callable[[SimulatedCell], None]


def one_c(cell: SimulatedCell) -> float:
    """Return the current of 1C, A."""
    return cell.nominal_capacity / 3600.0


def day_in_the_lab(
    cell: SimulatedCell, poll: Callable[[SimulatedCell, float, float], None]
) -> None:
    """Drive a cell through every kind of control, with polls between them."""
    current = one_c(cell)
    schedule: list[tuple[float, Control]] = [
        (0.0, lambda c: c.open_circuit(0.0)),
        (600.0, lambda c: c.source_voltage(600.0, 4.25, current)),
        (6000.3, lambda c: c.open_circuit(6000.3)),
        (9000.0, lambda c: c.set_temperature(9000.0, 318.15)),
        (9001.7, lambda c: c.source_current(9001.7, -0.5 * current, 2.5)),
        (12000.0, lambda c: c.source_voltage(12000.0, 2.5, current, 20.0)),
        (19000.0, lambda c: c.source_current(19000.0, 0.1 * current, 4.2)),
    ]
    ends = [start for start, _ in schedule[1:]] + [60000.0]
    for (start, control), end in zip(schedule, ends, strict=True):
        control(cell)
        poll(cell, start, end)


def first_hold(cell: SimulatedCell, now: float) -> float:
    """Return the first time on a grid of 5 s (s) at which the source holds its voltage."""
    for _ in range(10_000):
        if cell.terminal(now).regulation is Regulation.VOLTAGE:
            return now
        now += 5.0
    pytest.fail(f"the source still holds its current after {now} s")


def never(cell: SimulatedCell, start: float, end: float) -> None:
    """Poll not at all."""


def test_polling_leaves_no_trace() -> None:
    stream = random.Random(5)

    def densely(cell: SimulatedCell, start: float, end: float) -> None:
        for now in sorted(stream.uniform(start, end) for _ in range(2000)):
            cell.terminal(now)
            cell.thickness_change(now)
            cell.state(now)

    quiet = SimulatedCell.from_preset("ncm811-lno", seed=3)
    asked = SimulatedCell.from_preset("ncm811-lno", seed=3)
    day_in_the_lab(quiet, never)
    day_in_the_lab(asked, densely)
    assert quiet.terminal(60000.0) == asked.terminal(60000.0)
    assert quiet.state(60000.0) == asked.state(60000.0)
    assert quiet.thickness_change(60000.0) == asked.thickness_change(60000.0)


def test_the_same_seed_gives_the_same_cell_to_the_bit() -> None:
    def trace(seed: int | None) -> list[float]:
        cell = SimulatedCell.from_preset("ncm811-caec", seed=seed)
        cell.source_voltage(0.0, 4.25, one_c(cell))
        return [cell.terminal(now).voltage for now in range(0, 7200, 60)]

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)
    assert trace(None) == trace(0)


def test_seeds_spread_as_the_preset_states() -> None:
    nominal = load_preset("ncm811-caec").parameters
    batch = [nominal.manufactured(seed) for seed in range(1, 401)]
    for name, spread in (
        ("active_loading", nominal.spread_loading),
        ("separator_thickness", nominal.spread_separator),
        ("charge_transfer_resistance", nominal.spread_charge_transfer),
        ("contact_loss", nominal.spread_contact_loss),
    ):
        logarithms = [math.log(getattr(p, name) / getattr(nominal, name)) for p in batch]
        deviation = math.sqrt(sum(v * v for v in logarithms) / len(logarithms))
        assert deviation == pytest.approx(spread, rel=0.15)
    leak = nominal.electronic_conductivity
    flawed = sum(p.electronic_conductivity > leak for p in batch)
    assert 0.5 < flawed / len(batch) / nominal.flaw_probability < 1.5
    voltages = [p.assembled_potential for p in batch if p.electronic_conductivity == leak]
    assert 2.5 <= min(voltages) < 2.55
    assert 2.65 < max(voltages) <= 2.7


def test_a_flawed_cell_of_a_batch_shows_it_as_assembled_and_fails_to_charge() -> None:
    nominal = load_preset("ncm811-caec").parameters
    leaks = {seed: nominal.manufactured(seed).electronic_conductivity for seed in range(1, 200)}
    worst = max(leaks, key=lambda seed: leaks[seed])
    sound, flawed = (SimulatedCell.from_preset("ncm811-caec", seed=s) for s in (1, worst))
    assert leaks[1] == nominal.electronic_conductivity
    assert flawed.terminal(0.0).voltage < 2.5 < sound.terminal(0.0).voltage
    for cell in (sound, flawed):
        cell.source_voltage(0.0, 4.25, 0.1 * one_c(cell))
    day = 24 * 3600.0
    assert sound.terminal(day).regulation is Regulation.VOLTAGE
    assert flawed.terminal(day).regulation is Regulation.CURRENT  # it never gets there
    assert flawed.terminal(day).voltage < 4.2


@pytest.mark.parametrize(("preset", "seed"), [("ncm811-bare", 349), ("ncm811-caec", 7)])
def test_a_flawed_cell_left_alone_runs_down_and_never_up(preset: str, seed: int) -> None:
    cell = SimulatedCell.from_preset(preset, seed=seed)
    now = next(cycle(cell, 0.0, lower=2.5, upper=4.2, rate=0.5)).end
    cell.source_voltage(now, 4.0, one_c(cell))
    now += 7200.0
    cell.open_circuit(now)
    voltages = [cell.terminal(now + 3600.0 * hour).voltage for hour in range(24 * 60)]
    # The first hours relax what the charge left behind.
    assert all(b <= a + 1e-6 for a, b in pairwise(voltages[12:]))
    assert -1e-6 < voltages[-1] < 0.5 * voltages[0]
    assert cell.leniency == 1.0


@pytest.mark.parametrize(
    "ask",
    [
        SimulatedCell.open_circuit_voltage,
        SimulatedCell.charge_transfer_resistance,
        SimulatedCell.lithiation,
        SimulatedCell.thickness_change,
        SimulatedCell.charge_passed,
        SimulatedCell.throughput,
        SimulatedCell.state,
    ],
)
def test_what_a_cell_says_of_itself_does_not_depend_on_who_asked_before(
    ask: Callable[[SimulatedCell, float], object],
) -> None:
    asked, silent = (SimulatedCell.from_preset("ncm811-caec") for _ in range(2))
    for cell in (asked, silent):
        cell.source_current(0.0, 0.1 * one_c(cell), 4.25)
    for second in range(600):
        asked.terminal(float(second))
    asked.terminal(600.0)
    assert ask(silent, 600.0) == ask(asked, 600.0)


def test_leads_of_negative_resistance_are_refused() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    with pytest.raises(ValueError, match="negative resistance"):
        cell.source_voltage(0.0, 4.0, 1e-3, -1.0)


def test_constant_current_turns_into_constant_voltage_at_the_crossing() -> None:
    def at(now: float) -> tuple[SimulatedCell, Regulation]:
        cell = SimulatedCell.from_preset("ncm811-caec")
        cell.source_voltage(0.0, 4.25, one_c(cell))
        return cell, cell.terminal(now).regulation

    low, high = 0.0, 7200.0
    assert at(low)[1] is Regulation.CURRENT
    assert at(high)[1] is Regulation.VOLTAGE
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if at(middle)[1] is Regulation.VOLTAGE else (middle, high)
    cell, _ = at(low)
    before, after, later = (cell.terminal(now) for now in (low, high, high + 1.0))
    assert before.voltage == pytest.approx(4.25, abs=1e-6)
    assert before.current == one_c(cell)
    assert after.voltage == 4.25
    # The slow states lag a step behind in the algebra: at a change of control that is below 1 uV.
    assert after.current == pytest.approx(one_c(cell), rel=1e-5)
    assert later.voltage == 4.25
    assert later.current < after.current
    assert at(low - 10.0)[0].terminal(low - 10.0).voltage < 4.25


def test_a_discharge_never_falls_below_its_cut_off() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    cell.source_voltage(0.0, 4.25, one_c(cell))
    cell.source_voltage(7200.0, 2.5, one_c(cell))
    lowest = min(cell.terminal(7200.0 + 0.5 * i).voltage for i in range(10800))
    assert lowest == pytest.approx(2.5, abs=1e-6)
    assert lowest >= 2.5 - 1e-6


def test_the_cut_off_holds_at_the_source_side_of_the_leads() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    cell.source_voltage(0.0, 4.0, one_c(cell), 25.0)
    for now in (6000.0, 8000.0, 12000.0):
        terminal = cell.terminal(now)
        assert terminal.regulation is Regulation.VOLTAGE
        assert terminal.voltage + 25.0 * terminal.current == pytest.approx(4.0, abs=1e-9)


def test_a_held_voltage_turns_back_into_a_held_current_when_the_limit_is_reached() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    limit = one_c(cell)
    cell.source_voltage(0.0, 4.0, limit)
    now = first_hold(cell, 0.0)
    # A warmer cell takes more current at the same voltage than the source gives.
    cell.set_temperature(now, 333.15)
    assert cell.terminal(now).regulation is Regulation.CURRENT
    assert cell.terminal(now).current == limit
    now = first_hold(cell, now)
    assert cell.terminal(now).voltage == 4.0


def test_a_current_source_at_its_voltage_limit_comes_back() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    # 3.0 V: below what the virgin cell reaches within its first charge, above where it starts.
    cell.source_current(0.0, 0.1 * one_c(cell), 3.0)
    regulations = [cell.terminal(10.0 * i).regulation for i in range(400)]
    assert regulations[0] is Regulation.CURRENT
    assert regulations[-1] is Regulation.VOLTAGE
    held = cell.terminal(4000.0)
    assert held.voltage == 3.0
    assert abs(held.current) < 0.1 * one_c(cell)
    # From 4 V, 3 V is reached by discharging, until the set current is all that flows.
    cell.source_voltage(4000.0, 4.0, one_c(cell))
    cell.source_current(20000.0, -0.5 * one_c(cell), 3.95)
    assert cell.terminal(20000.0).regulation is Regulation.CURRENT
    cell.source_current(20001.0, 0.0, 3.9)
    assert cell.terminal(20001.0).voltage == 3.9
    assert cell.terminal(20001.0).current < 0.0


def test_the_integral_of_the_current_is_the_lithium_that_left_the_cathode() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    start = cell.lithiation(0.0)
    cell.source_voltage(0.0, 4.2, one_c(cell))
    steps = 20000
    width = 9000.0 / steps
    currents = [cell.terminal(i * width).current for i in range(steps + 1)]
    assert cell.terminal(9000.0).regulation is Regulation.VOLTAGE
    integral = width * (sum(currents) - 0.5 * (currents[0] + currents[-1]))
    charge = cell.charge_passed(9000.0)
    state = cell.state(9000.0)
    # Electrons through the separator and from the oxidation of electrolyte return lithium.
    side = state.leaked_charge + state.oxidised_charge
    assert 0.0 < side < 0.02 * charge
    lithium = start * 9.918e5 * cell.active_mass - state.cathode_lithium + side
    assert charge == pytest.approx(integral, rel=1e-4)
    assert lithium == pytest.approx(charge, rel=1e-6)
    assert cell.throughput(9000.0) == pytest.approx(charge, rel=1e-4)


def test_lithium_lost_at_the_counter_electrode_is_in_no_current() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec")
    state = cell.state(100.0 * 3600.0)
    # 3 uAh/cm2 per square root of hour: 30 uAh/cm2 in 100 h.
    assert state.counter_interphase_charge == pytest.approx(30e-6 * 3600.0 * 1e4, rel=0.01)
    assert state.charge == 0.0
    assert state.counter_lithium < cell.parameters.counter_inventory


def test_time_does_not_run_backwards() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec", start=50.0)
    cell.terminal(100.0)
    with pytest.raises(ValueError, match="must not decrease"):
        cell.terminal(99.0)
    with pytest.raises(ValueError, match="must not decrease"):
        cell.open_circuit(99.0)
    with pytest.raises(ValueError):
        cell.terminal(math.nan)
    with pytest.raises(ValueError, match="finite"):
        cell.source_voltage(101.0, math.nan, 1.0)
    with pytest.raises(ValueError, match="finite"):
        cell.terminal(math.inf)
    with pytest.raises(ValueError, match=r"1e\+09 s after its assembly at 50\.0"):
        cell.terminal(1e300)
    with pytest.raises(ValueError, match=r"1e\+06 V, A or ohm"):
        cell.source_voltage(101.0, 1e300, 1.0)
    with pytest.raises(ValueError, match="finite time of assembly"):
        SimulatedCell.from_preset("ncm811-caec", start=math.inf)
    assert math.isfinite(cell.terminal(102.0).voltage)  # what was refused changed nothing


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"There are: .*ncm811-caec.*ncm811-lno"):
        SimulatedCell.from_preset("ncm622")


@pytest.mark.parametrize("name", list(presets()))
def test_every_number_of_a_preset_says_where_it_comes_from(name: str) -> None:
    for key, entry in load_preset(name).provenance.items():
        assert len(entry.source) > 8, key
        if entry.basis == "assumed":
            assert entry.plausible is not None
            assert entry.plausible[0] <= entry.value <= entry.plausible[1], key


LEVEL = st.one_of(st.sampled_from([0.0, 2.5, 4.25, 21.0, -21.0]), st.floats(-21.0, 21.0))
LIMIT = st.one_of(st.sampled_from([0.0, 1e-6, 1.57e-3]), st.floats(1e-9, 1.0))
TINY = st.sampled_from([5e-324, 2.2e-309, 1e-300, 1e-100, 1e-12])
DURATION = st.one_of(TINY, st.floats(0.0, 1.0), st.floats(0.0, 2e4), st.floats(0.0, 1e6))
CONTROLS = st.one_of(
    st.tuples(st.just("open"), st.just(0.0), st.just(0.0), st.just(0.0)),
    st.tuples(st.just("voltage"), LEVEL | TINY, LIMIT | TINY, st.sampled_from([0.0, 1.0, 100.0])),
    st.tuples(
        st.just("current"), st.floats(-0.1, 0.1) | TINY, st.floats(0.0, 21.0) | TINY, st.just(0.0)
    ),
    st.tuples(st.just("temperature"), st.floats(151.0, 599.0), st.just(0.0), st.just(0.0)),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(CONTROLS, DURATION), min_size=1, max_size=6),
    st.integers(0, 5) | st.sampled_from([7, 33, 87, 349]),  # the latter are flawed
)
# A flawed cell and a hot one, left alone for months: what leaks depends on what it lowers.
@example([(("voltage", 4.25, 1.57e-3, 0.0), 2e4), (("open", 0.0, 0.0, 0.0), 1.6e7)], 349)
@example([(("temperature", 550.0, 0.0, 0.0), 1.0), (("open", 0.0, 0.0, 0.0), 1e7)], 0)
# A change of control 2.2e-309 s after another: one over that length of a step is no number.
@example([(("voltage", 4.25, 1.57e-3, 0.0), 2.2e-309), (("open", 0.0, 0.0, 0.0), 1.0)], 0)
@example([(("voltage", 0.0, 0.54, 100.0), 5e-324), (("open", 0.0, 0.0, 0.0), 1.0)], 1)
# The voltage falls from a limit of 1e-12 V through the opposite one within one step.
@example([(("current", -0.0559, 1e-12, 0.0), 0.0186), (("open", 0.0, 0.0, 0.0), 1.0)], 2)
# Days far beyond the window, where the lithium moves inwards as a front.
@example([(("voltage", 16.0, 0.6, 0.0), 2.6e5), (("voltage", -16.0, 1.0, 1.0), 2.6e5)], 0)
def test_no_abuse_upsets_the_cell(
    sequence: list[tuple[tuple[str, float, float, float], float]], seed: int
) -> None:
    cell = SimulatedCell.from_preset("ncm811-caec", seed=seed)
    now = 0.0
    kind, limit = "open", 0.0
    for (control, level, bound, resistance), duration in sequence:
        if control == "temperature":
            cell.set_temperature(now, level)
        elif control == "open":
            cell.open_circuit(now)
        elif control == "voltage":
            cell.source_voltage(now, level, bound, resistance)
        else:
            cell.source_current(now, level, bound)
        if control != "temperature":
            kind, limit = control, bound
        for part in (0.0, 0.3, 1.0):
            terminal = cell.terminal(now + part * duration)
            assert math.isfinite(terminal.voltage)
            assert math.isfinite(terminal.current)
            if kind == "open":
                assert terminal.current == 0.0
            elif kind == "voltage":
                assert abs(terminal.current) <= limit * (1.0 + 1e-6) + 1e-12
            else:
                assert abs(terminal.voltage) <= limit + 1e-4
        now += duration
        assert math.isfinite(cell.thickness_change(now))
        assert 0.0 < cell.state(now).contact_fraction <= 1.0
