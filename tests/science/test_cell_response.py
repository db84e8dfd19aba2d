"""How the simulated cell answers to what it is made of and to how it is used: by property.

Where the papers have one point, physics has a direction; these tests hold the direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from operando.simulators.cell import CellParameters, CellState, SimulatedCell, cycle, load_preset
from operando.simulators.loadframe import PISTON_AREA, LoadFrame

CAEC, LNO, BARE = (load_preset(f"ncm811-{n}").parameters for n in ("caec", "lno", "bare"))
CYCLES = 15


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some cycles did to a cell."""

    retention: float
    capacity: float
    state: CellState


def cycled(
    parameters: CellParameters,
    *,
    upper: float = 4.25,
    rate: float = 0.5,
    kelvin: float | None = None,
) -> Outcome:
    """Return what a first cycle at C/10 and some more at a rate do to a cell."""
    cell = SimulatedCell(parameters)
    now = next(cycle(cell, 0.0, lower=2.5, upper=upper, rate=0.1)).end
    if kelvin is not None:
        cell.set_temperature(now, kelvin)
    done = list(
        cycle(cell, now, lower=2.5, upper=upper, rate=rate, cutoff_rate=0.05, cycles=CYCLES)
    )
    first, last = done[0].discharged, done[-1].discharged
    return Outcome(last / first, first, cell.state(done[-1].end))


def rises(values: Sequence[float], least: float = 0.0) -> bool:
    return all(b > a + least for a, b in pairwise(values))


def series(make: Callable[[float], Outcome], levels: Sequence[float]) -> list[Outcome]:
    return [make(level) for level in levels]


@pytest.mark.parametrize("parameters", [CAEC, LNO, BARE])
def test_a_higher_cut_off_gives_more_and_keeps_less(parameters: CellParameters) -> None:
    outcomes = series(lambda v: cycled(parameters, upper=v), (4.05, 4.15, 4.25, 4.35, 4.45))
    assert rises([o.capacity for o in outcomes])
    assert rises([-o.retention for o in outcomes], least=1e-4)
    assert rises([o.state.interphase_thickness for o in outcomes])
    assert rises([-o.state.contact_fraction for o in outcomes])


@pytest.mark.parametrize("parameters", [CAEC, LNO])
def test_the_collapse_of_the_layers_is_what_a_high_cut_off_costs(
    parameters: CellParameters,
) -> None:
    # Contraction is stored energy against the contact: it costs more than in proportion.
    low, high = cycled(parameters, upper=4.1), cycled(parameters, upper=4.25)
    lost = (1.0 - low.state.contact_fraction, 1.0 - high.state.contact_fraction)
    travelled = high.capacity / low.capacity
    start = 1.0 - SimulatedCell(parameters).state(0.0).contact_fraction
    assert (lost[1] - start) / (lost[0] - start) > 2.0 * travelled


def test_a_faster_cycle_gives_less_and_keeps_less() -> None:
    outcomes = series(lambda r: cycled(CAEC, rate=r), (0.2, 0.5, 1.0, 2.0))
    assert rises([-o.capacity for o in outcomes])
    assert rises([-o.retention for o in outcomes])


def test_more_pressure_keeps_more_contact_and_less_voids() -> None:
    outcomes = series(
        lambda p: cycled(replace(CAEC, stack_pressure=p), rate=1.0), (1e6, 2e6, 5e6, 1e7, 2e7)
    )
    assert rises([o.state.contact_fraction for o in outcomes])
    assert rises([o.retention for o in outcomes])
    assert rises([-o.state.counter_resistance for o in outcomes])


def test_warmth_grows_every_interphase_and_costs_contact() -> None:
    outcomes = series(lambda t: cycled(CAEC, kelvin=t), (283.15, 303.15, 323.15))
    assert rises([o.state.interphase_thickness for o in outcomes])
    assert rises([-o.state.contact_fraction for o in outcomes])
    # Diffusion and creep gain from warmth: what a cycle gives rises, what it keeps has an optimum.
    assert rises([o.capacity for o in outcomes])
    hot = cycled(CAEC, kelvin=353.15)
    assert hot.retention < max(o.retention for o in outcomes)


def test_a_poorer_cover_grows_more_interphase_and_keeps_less() -> None:
    outcomes = series(lambda c: cycled(replace(CAEC, coating_coverage=c)), (0.0, 0.3, 0.6, 0.9))
    assert rises([-o.state.interphase_thickness for o in outcomes])
    assert rises([o.retention for o in outcomes])


def test_a_coating_protects_within_its_window_only() -> None:
    wide = cycled(replace(LNO, coating_coverage=0.9, coating_window=4.38))
    narrow = cycled(replace(LNO, coating_coverage=0.9, coating_window=3.6))
    bare = cycled(replace(LNO, coating_coverage=0.0))
    thickness = [o.state.interphase_thickness for o in (wide, narrow, bare)]
    assert thickness[0] < 0.6 * thickness[1]
    assert thickness[1] == pytest.approx(thickness[2], rel=0.1)


def test_better_adhesion_keeps_more() -> None:
    outcomes = series(lambda a: cycled(replace(CAEC, coating_adhesion=a)), (0.6, 0.8, 1.0))
    assert rises([o.retention for o in outcomes])
    assert rises([o.state.contact_fraction for o in outcomes])


def test_the_coatings_are_told_apart_by_nothing_but_what_a_coating_is() -> None:
    # Calibrated together: all that these cells share is shared.
    described = {
        "coating_coverage",
        "coating_thickness",
        "coating_conductivity",
        "coating_window",
        "coating_adhesion",
    }
    for name in ("lno", "bare"):
        ours = load_preset("ncm811-caec").provenance
        theirs = load_preset(f"ncm811-{name}").provenance
        differing = {key for key in ours if ours[key].value != theirs[key].value}
        assert differing <= described
    outcomes = [cycled(p) for p in (CAEC, LNO, BARE)]
    assert rises([-o.retention for o in outcomes])
    assert rises([o.state.interphase_thickness for o in outcomes])


def test_a_softer_contact_that_heals_lasts_longer() -> None:
    assert cycled(replace(CAEC, contact_healing=0.5)).retention > cycled(CAEC).retention


def test_lost_connection_takes_its_lithium_with_it() -> None:
    strained = replace(CAEC, contact_loss=0.5, reconstruction_rate=0.0)
    loose = replace(strained, connection_loss=1.0, connection_threshold=0.9)
    tight = replace(loose, connection_loss=0.0)
    assert cycled(loose).state.connected_fraction < 0.95
    assert cycled(tight).state.connected_fraction == 1.0
    assert cycled(loose).retention < cycled(tight).retention


def test_the_oxide_turns_into_rock_salt_where_it_is_bare_and_charged_high() -> None:
    # Connection apart, so that what is lost is reconstructed.
    held = replace(CAEC, connection_loss=0.0)
    by_cut_off = series(lambda v: cycled(held, upper=v), (4.1, 4.2, 4.3, 4.4))
    assert rises([-o.state.connected_fraction for o in by_cut_off])
    assert by_cut_off[0].state.connected_fraction > 0.9999
    by_cover = series(lambda c: cycled(replace(held, coating_coverage=c)), (0.0, 0.5, 0.9))
    assert rises([o.state.connected_fraction for o in by_cover])
    never = cycled(replace(held, reconstruction_rate=0.0), upper=4.4)
    assert never.state.connected_fraction == 1.0


def test_the_frame_around_a_cell_presses_on_its_contacts() -> None:
    def contact(pressure: float) -> float:
        cell = SimulatedCell(CAEC)
        frame = LoadFrame(cell, preload=pressure * PISTON_AREA)
        assert cell.stack_pressure == pytest.approx(pressure)
        assert frame.pressure(0.0) == pytest.approx(pressure)
        now = list(cycle(cell, 0.0, lower=2.5, upper=4.25, rate=0.5, cycles=5))[-1].end
        return cell.state(now).contact_fraction

    assert contact(2e6) < contact(8e6) < contact(2e7)


def test_a_frame_of_the_usual_kind_changes_nothing() -> None:
    alone, framed = SimulatedCell(CAEC), SimulatedCell(CAEC)
    LoadFrame(framed)
    for cell in (alone, framed):
        cell.source_voltage(0.0, 4.25, 1e-3)
    assert framed.terminal(9000.0).voltage == pytest.approx(alone.terminal(9000.0).voltage)
    assert framed.state(9000.0).pressure == pytest.approx(alone.state(9000.0).pressure, rel=1e-4)
