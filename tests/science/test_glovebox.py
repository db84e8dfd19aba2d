"""The atmosphere of a glovebox: balances, purifier, sulfide and pressure."""

import math

import pytest

from operando.simulators.devices.device import Options
from operando.simulators.rooms import OXYGEN_IN_AIR, WATER_IN_AIR, Glovebox
from operando.simulators.rooms.glovebox import (
    GAS_CONSTANT,
    LEAK,
    PERMEATION_OXYGEN,
    PERMEATION_WATER,
    SUPPLY_OXYGEN,
    WATER_MASS,
)
from operando.simulators.rooms.purifier import CIRCULATION, EFFICIENCY

HOUR = 3600.0
DAY = 24.0 * HOUR
MOLES = 101325.0 * 1.0 / (GAS_CONSTANT * 298.15)
"""Gas in a box of 1 m3."""
PPM = 1e-6
TIGHT = {"leak": 0.0, "permeation_o2": 0.0, "permeation_h2o": 0.0, "loss": 0.0}


def glovebox(**options: object) -> Glovebox:
    """A box that begins at time 0."""
    own = Options("[rooms.box]", options)
    box = Glovebox(own, 0.0, "box")
    own.finish()
    return box


def test_without_circulation_oxygen_rises_as_in_the_maker_s_leak_test() -> None:
    # MBRAUN, technical note on leak rates (2014): 3 ppm/h with two butyl gloves.
    box = glovebox(circulation=0.0)
    rise = box.fraction("o2", HOUR) - box.fraction("o2", 0.0)
    assert rise == pytest.approx(3.0 * PPM, rel=0.05)


def test_a_purified_box_settles_where_what_gets_in_is_taken_out() -> None:
    box = glovebox()
    removal = CIRCULATION * EFFICIENCY
    oxygen = LEAK * OXYGEN_IN_AIR * (1.0 - WATER_IN_AIR) + PERMEATION_OXYGEN / MOLES
    water = LEAK * WATER_IN_AIR + PERMEATION_WATER / MOLES
    assert box.fraction("o2", DAY) == pytest.approx(oxygen / removal, rel=1e-3)
    assert box.fraction("h2o", DAY) == pytest.approx(water / removal, rel=1e-3)
    assert box.fraction("o2", DAY) < 1 * PPM


def test_a_closed_box_without_purifier_becomes_air_and_no_more() -> None:
    box = glovebox(circulation=0.0, leak=1e-4, loss=0.0)
    assert box.fraction("o2", 10.0 * DAY) == pytest.approx(OXYGEN_IN_AIR * (1.0 - WATER_IN_AIR))
    assert box.fraction("h2o", 10.0 * DAY) == pytest.approx(WATER_IN_AIR)


def test_a_sample_s_water_is_found_in_the_gas_and_then_on_the_zeolite() -> None:
    box = glovebox(**TIGHT, events="at 1 h: sample 20 mg", h2o=0.0, o2=0.0)
    moles = 20e-6 / WATER_MASS
    assert box.fraction("h2o", HOUR - 1e-3) == 0.0
    assert box.fraction("h2o", HOUR) * MOLES == pytest.approx(moles)
    for later in (HOUR + 1.0, HOUR + 60.0, HOUR + 600.0, DAY):
        _, water, _ = box.loads(later)
        assert box.fraction("h2o", later) * MOLES + water == pytest.approx(moles, rel=1e-9)
    assert box.loads(DAY)[1] == pytest.approx(moles)


def test_an_antechamber_s_air_decays_with_volume_over_circulation() -> None:
    box = glovebox(**TIGHT, events="at 1 h: antechamber 0.1 l", o2=0.0)
    peak = box.fraction("o2", HOUR)
    assert peak == pytest.approx(1e-4 * OXYGEN_IN_AIR * (1.0 - WATER_IN_AIR), rel=1e-3)
    decay = 1.0 / (CIRCULATION * EFFICIENCY)
    assert box.fraction("o2", HOUR + decay) == pytest.approx(peak / math.e, rel=1e-3)


def test_a_full_bed_lets_the_gas_through_and_holds_what_came_in() -> None:
    # Air that leaks in at 10 ml/s would fill the copper in a day.
    leak = 1e-5
    inflow = leak * OXYGEN_IN_AIR * (1.0 - WATER_IN_AIR) * MOLES
    box = glovebox(**(TIGHT | {"leak": leak}), o2=0.0, oxygen_capacity=inflow * DAY)
    fresh = box.fraction("o2", 0.5 * DAY)
    assert fresh == pytest.approx(inflow / MOLES / (CIRCULATION * EFFICIENCY), rel=1e-3)
    assert box.fraction("o2", 0.95 * DAY) < 2.0 * fresh
    assert box.fraction("o2", 1.2 * DAY) > 30.0 * fresh
    # Air comes in and the box's gas goes out; what stays is in the gas or on the copper.
    box = glovebox(**(TIGHT | {"leak": leak}), o2=0.0, oxygen_capacity=inflow * DAY)
    stayed, step = 0.0, 60.0
    for k in range(int(2.0 * DAY / step)):
        seen = box.fraction("o2", (k + 0.5) * step)
        stayed += step * leak * (OXYGEN_IN_AIR * (1.0 - WATER_IN_AIR) - seen) * MOLES
    held = box.loads(2.0 * DAY)[0] + box.fraction("o2", 2.0 * DAY) * MOLES
    assert held == pytest.approx(stayed, rel=1e-6)


def test_the_efficiency_follows_yoon_and_nelson_to_a_stair() -> None:
    # Half of the fresh efficiency is left at the capacity: twice the fraction at the same leak.
    leak = 1e-6
    half = glovebox(**(TIGHT | {"leak": leak}), oxygen_capacity=10.0, oxygen_load=10.0)
    fresh = glovebox(**(TIGHT | {"leak": leak}), oxygen_capacity=10.0)
    ratio = half.fraction("o2", HOUR) / fresh.fraction("o2", HOUR)
    assert ratio == pytest.approx(2.0, rel=0.02)


def test_a_regeneration_rests_the_purifier_and_empties_it() -> None:
    box = glovebox(events="at 10 h: regenerate", oxygen_load=1.0, water_load=20.0)
    assert box.fraction("o2", 10.0 * HOUR) < 0.1 * PPM
    assert box.fraction("o2", 26.0 * HOUR - 1.0) == pytest.approx(16.0 * 3.0 * PPM, rel=0.05)
    assert box.loads(26.0 * HOUR - 1.0)[0] > 1.0
    assert box.loads(26.0 * HOUR)[:2] == (0.0, 0.0)
    assert box.fraction("o2", 27.0 * HOUR) < 0.1 * PPM


def test_a_regeneration_comes_by_itself_where_it_is_asked_for() -> None:
    box = glovebox(regeneration_every=7.0 * DAY)
    busy = [box.fraction("o2", day * DAY + 8.0 * HOUR) > 1 * PPM for day in range(22)]
    assert [day for day, high in enumerate(busy) if high] == [7, 14, 21]


def test_wet_sulfide_gives_the_gas_that_was_measured() -> None:
    # Front. Energy Res. 2022, 882508: 0.1 cm3/g in 30 min at a dew point of -40 degC (126.7 ppm).
    dry = TIGHT | {"circulation": 0.0, "volume": 100.0, "h2o": 126.7 * PPM}
    box = glovebox(**dry, events="at 0 s: expose 1 g")
    volume = box.fraction("h2s", 1800.0) * 100.0
    assert volume * 1e6 == pytest.approx(0.1, rel=0.01)
    # A molecule of water makes one of H2S.
    lost = 126.7 * PPM - box.fraction("h2o", 1800.0)
    assert lost == pytest.approx(box.fraction("h2s", 1800.0), rel=1e-6)


def test_sulfide_blocks_the_copper_for_good() -> None:
    wet = {"h2o": 2e-3, "oxygen_capacity": 0.05, "water_capacity": 1e-3, "water_load": 1.2e-3}
    box = glovebox(**wet, events="at 0 s: expose 1000 g; at 12 h: regenerate for 1 h")
    sulfide = box.loads(12.0 * HOUR)[2]
    assert sulfide > 0.01
    after = box.loads(13.0 * HOUR)
    assert after[2] == pytest.approx(sulfide)
    assert after[0] == pytest.approx(0.5 * sulfide), "oxide leaves, sulfide stays"
    assert after[1] == 0.0


def test_purging_washes_the_box_out_with_argon() -> None:
    box = glovebox(**TIGHT, circulation=0.0, o2=0.2, purge=0.01, events="at 0 s: purge for 10 min")
    assert box.fraction("o2", 100.0) == pytest.approx(0.2 / math.e, rel=1e-4)
    washed = SUPPLY_OXYGEN + (0.2 - SUPPLY_OXYGEN) * math.exp(-6.0)
    assert box.fraction("o2", 600.0) == pytest.approx(washed, rel=1e-9)
    assert box.fraction("o2", DAY) == pytest.approx(washed, rel=1e-9)


def test_the_pressure_is_kept_between_its_limits() -> None:
    box = glovebox(loss=1e-4, low=200.0, high=600.0)
    seen = [box.pressure(now) - 101325.0 for now in range(0, 36000, 7)]
    assert min(seen) == pytest.approx(200.0, abs=10.0)
    assert max(seen) == pytest.approx(400.0, abs=10.0), "it is filled to the middle"
    turns = sum(b > a and b > c for a, b, c in zip(seen, seen[1:], seen[2:], strict=False))
    assert turns > 10


def test_gloves_push_the_pressure_about_until_the_arms_leave() -> None:
    box = glovebox(events="at 10 min: gloves for 10 min", seed=3)
    before, at_work, after = (
        [box.pressure(start + 0.1 * k) - 101325.0 for k in range(5900)] for start in (0, 600, 1500)
    )
    assert max(before) - min(before) < 10.0
    assert max(at_work) > 500.0, "beyond the upper limit, until it is vented"
    assert min(at_work) < 100.0, "below the lower limit, until it is filled"
    assert 100.0 <= min(after)
    assert max(after) <= 500.0
    other = glovebox(events="at 10 min: gloves for 10 min", seed=4)
    assert other.pressure(700.0) != glovebox(events="at 10 min: gloves for 10 min").pressure(700.0)


def test_the_closed_forms_agree_with_small_steps() -> None:
    options = {"leak": 2e-6, "circulation": 1e-3, "h2o": 5e-5, "o2": 3e-5, "h2s": 2e-6}
    box = glovebox(**options, loss=0.0, events="at 0 s: expose 500 g")
    oxygen, water, sulfide = 3e-5, 5e-5, 2e-6
    outside = OXYGEN_IN_AIR * (1.0 - WATER_IN_AIR)
    step, removal = 0.05, 1e-3 * EFFICIENCY
    made = 1.79e-2 * 0.5 / MOLES
    for _ in range(int(600.0 / step)):
        in_oxygen = 2e-6 * (outside - oxygen)
        in_oxygen += PERMEATION_OXYGEN / MOLES * (1.0 - oxygen / outside)
        in_water = 2e-6 * (WATER_IN_AIR - water)
        in_water += PERMEATION_WATER / MOLES * (1.0 - water / WATER_IN_AIR)
        change = made * water - (removal + 2e-6) * sulfide
        oxygen += step * (in_oxygen - removal * oxygen)
        water += step * (in_water - (removal + made) * water)
        sulfide += step * change
    assert box.fraction("o2", 600.0) == pytest.approx(oxygen, rel=1e-3)
    assert box.fraction("h2o", 600.0) == pytest.approx(water, rel=1e-3)
    assert box.fraction("h2s", 600.0) == pytest.approx(sulfide, rel=2e-3)
