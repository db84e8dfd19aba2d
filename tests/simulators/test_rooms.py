"""Rooms of a bench: what instruments sense in them, and what cells are told."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.instruments.bench import RoomEntry
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Switchboard, Terminated
from operando.simulators import SimulatedBench
from operando.simulators.cell import PelletCell, SimulatedCell, cell_from_preset, impedance
from operando.simulators.devices.device import Options
from operando.simulators.devices.ports import RoomPort
from operando.simulators.loadframe import LoadFrame
from operando.simulators.rooms import Chamber, Glovebox, Laboratory, Room, make_room
from operando.simulators.rooms.chamber import STEP, Occupant
from operando.simulators.rooms.mixing import Balance, Overpressure, Product, grown, grown_twice

HOUR = 3600.0
BENCH = """
[instruments.smu1]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::5025::SOCKET"
[instruments.smu1.simulated]
cell = "c1"
power_on_off_state = "high impedance"
[instruments.lc1]
driver = "pt113"
address = "serial:ports/lc1"
[instruments.lc1.simulated]
cell = "c1"
[cells.c1]
preset = "ncm811-caec"
room = "oven"
[rooms.oven]
kind = "chamber"
heating_rate = 0.05
[rooms.box]
kind = "glovebox"
volume = 1.2
events = "at 10 min: sample 10 mg; at 1 h: leak 0.6 l/min for 5 min"
"""


def chamber(**options: object) -> Chamber:
    """A chamber at 296.15 K from time 0."""
    own = Options("[rooms.oven]", options)
    made = Chamber(own, 0.0)
    own.finish()
    return made


def glovebox(**options: object) -> Glovebox:
    """A glovebox from time 0."""
    own = Options("[rooms.box]", options)
    made = Glovebox(own, 0.0, "box")
    own.finish()
    return made


def bench_in(folder: Path, text: str = BENCH) -> SimulatedBench:
    """A simulated bench from a file, in virtual time."""
    path = folder / "bench.toml"
    path.write_text(text)
    return SimulatedBench(load_bench(path), Clock("virtual"))


# -- from the bench file


def test_every_kind_of_room_is_made_from_a_bench_file_and_shows_the_same_face() -> None:
    for kind, made in (("laboratory", Laboratory), ("chamber", Chamber), ("glovebox", Glovebox)):
        room: Room = make_room(RoomEntry("r", "bench.toml line 1", kind), 5.0)
        assert isinstance(room, made)
        port: RoomPort = room
        assert 280.0 < port.temperature(5.0) < 310.0
        assert 0.9e5 < port.surrounding_pressure(6.0) <= port.pressure(6.0) < 1.1e5
        assert all(0.0 <= port.fraction(gas, 7.0) <= 1.0 for gas in ("o2", "h2o", "h2s"))
        room.inject("none", 8.0)
    with pytest.raises(BadInputError, match=r"line 1: kind = 'oven': write one of chamber, glov"):
        make_room(RoomEntry("r", "bench.toml line 1", "oven"), 0.0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("glovebox", {"volum": 1.0}, "unknown key volum"),
        ("glovebox", {"low": 300.0, "high": 200.0}, "high = 200.0"),
        ("glovebox", {"regeneration_every": 60.0}, r"\[rooms.r\].*regeneration_every = 60"),
        ("glovebox", {"events": "at 2 h: explode"}, r"\[rooms.r\] events: unknown event 'explode'"),
        ("glovebox", {"events": "at cycle 2: leak"}, "knows no cycles"),
        ("chamber", {"heating_rate": 0.0}, "heating_rate = 0.0"),
        ("chamber", {"temperature": 900.0}, "temperature = 900.0"),
    ],
)
def test_a_wrong_option_of_a_room_is_refused_with_its_place(
    kind: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        make_room(RoomEntry("r", "bench.toml line 1", kind, options), 0.0)


def test_events_are_written_in_the_bench_file_and_injected_at_run_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = bench_in(tmp_path)
        box, clock = bench.rooms["box"], bench.clock
        await clock.sleep(599.0)
        before = box.fraction("h2o", clock.now())
        await clock.sleep(1.5)
        assert box.fraction("h2o", clock.now()) > before + 5e-6
        bench.inject("box", "in 1 min: antechamber 0.2 l")
        await clock.sleep(59.0)
        assert box.fraction("o2", clock.now()) < 1e-6
        await clock.sleep(1.5)
        assert box.fraction("o2", clock.now()) > 30e-6
        with pytest.raises(BadInputError, match=r"instrument 'bax'.*rooms: box, oven"):
            bench.inject("bax", "leak")
        with pytest.raises(BadInputError, match="unknown event"):
            bench.inject("rooms.box", "silence")
        with pytest.raises(BadInputError, match="no events happen here"):
            bench.inject("oven", "leak")
        await bench.close()

    run(scenario(), virtual=True)


# -- glovebox


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_what_a_glovebox_shows_does_not_depend_on_who_asks(seed: int) -> None:
    script = (
        "at 10 min: gloves for 20 min; at 15 min: antechamber; at 1 h: leak 5 l/min for 2 h; "
        "at 2 h: expose 50 g; at 4 h: regenerate for 1 h; at 8 h: blower off for 30 min"
    )
    options = {"events": script, "oxygen_capacity": 0.2, "loss": 1e-5}
    quiet, asked = glovebox(**options), glovebox(**options)
    stream = random.Random(seed)
    for now in sorted(stream.uniform(0.0, 10.0 * HOUR) for _ in range(60)):
        asked.fraction(stream.choice(("o2", "h2o", "h2s")), now)
        asked.pressure(now)
        asked.loads(now)
    end = 10.0 * HOUR
    assert quiet.pressure(end) == asked.pressure(end)
    assert quiet.loads(end) == asked.loads(end)
    for gas in ("o2", "h2o", "h2s"):
        assert quiet.fraction(gas, end) == asked.fraction(gas, end)
    assert asked.fraction("o2", 0.0) == asked.fraction("o2", end - 1e9), "an earlier time is now"


def test_none_ends_what_lasts_and_forgets_what_was_planned() -> None:
    box = glovebox(circulation=0.0, events="at 1 min: leak; at 2 min: gloves; at 2 h: sample")
    box.inject("at 4 h: expose", 10.0)
    leaking = box.fraction("o2", HOUR)
    assert leaking > 1e-3
    box.inject("none", HOUR)
    assert box.fraction("o2", 2.0 * HOUR) - leaking < 1e-5
    assert box.fraction("h2o", 3.0 * HOUR) - box.fraction("h2o", HOUR) < 2e-4
    assert box.fraction("h2s", 9.0 * HOUR) == 0.0
    steady = box.pressure(9.0 * HOUR)
    assert box.pressure(9.0 * HOUR + 60.0) == pytest.approx(steady, abs=1.0)


def test_what_lasts_ends_in_time_and_adds_up() -> None:
    one = glovebox(circulation=0.0, events="at 0 s: leak 2 l/min for 1 h")
    two = glovebox(
        circulation=0.0,
        events="at 0 s: leak 1 l/min for 1 h; at 0 s: leak 500 ml/min for 30 min\n"
        "at 30 min: leak 500 ml/min for 30 min; at 0 s: leak 500 ml/min for 1 h",
    )
    for now in (HOUR, 5.0 * HOUR):
        assert two.fraction("o2", now) == pytest.approx(one.fraction("o2", now), rel=1e-9)


@pytest.mark.parametrize(
    "text",
    ["leak 3", "leak 3 g", "gloves 2 l", "antechamber for 3 s", "sample 0 mg", "leak -1 l/min",
     "purge 10 min", "at 2: leak", "at 2 h leak", "in 3 s: none", "leak for 0 s", "at 1 s: leak"],
)  # fmt: skip
def test_an_event_that_is_misspelt_or_late_is_refused_and_changes_nothing(text: str) -> None:
    box, same = glovebox(), glovebox()
    box.fraction("o2", 100.0)
    with pytest.raises(BadInputError):
        box.inject(f"sample; {text}", 100.0)
    assert box.fraction("h2o", 200.0) == same.fraction("h2o", 200.0)


def test_what_cannot_be_heated_says_so() -> None:
    with pytest.raises(ValueError, match="nothing heats or cools a glovebox"):
        glovebox().regulate(0.0, 300.0)
    cell = SimulatedCell.from_preset("ncm811-caec")
    box = glovebox(temperature=303.15)
    assert box.occupy(cell, 0.0) is cell
    assert cell.temperature == box.temperature(0.0) == 303.15


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from((0.0, 1e-12, 1e-7, 1e-3, 0.5)),
    st.sampled_from((0.0, 1e-12, 1e-7, 1e-3, 0.5)),
    st.just(0.0) | st.floats(1e-6, 100.0),
)
def test_the_closed_forms_hold_where_rates_vanish_or_are_equal(
    first: float, second: float, time: float
) -> None:
    parent = Balance(2e-7, first)
    child = Product(parent, 1e-4, second)
    steps = 400
    x, y, dose, step = 1e-4, 2e-5, 0.0, time / steps
    for _ in range(steps):  # Runge-Kutta's midpoint rule
        mid_x = x + 0.5 * step * (2e-7 - first * x)
        mid_y = y + 0.5 * step * (1e-4 * x - second * y)
        dose += step * mid_y
        x += step * (2e-7 - first * mid_x)
        y += step * (1e-4 * mid_x - second * mid_y)
    assert parent.after(1e-4, time) == pytest.approx(x, rel=1e-3)
    assert child.after(2e-5, 1e-4, time) == pytest.approx(y, rel=1e-3)
    assert child.dose(2e-5, 1e-4, time) == pytest.approx(dose, rel=2e-3, abs=1e-12)
    assert grown(first, time) <= time * (1.0 + 1e-12)
    assert grown_twice(first, time) <= 0.5 * time * time * (1.0 + 1e-12)


@given(st.floats(0.0, 0.1), st.floats(-50.0, 50.0), st.floats(-900.0, 900.0), st.floats(-900, 900))
def test_the_time_to_a_pressure_is_when_it_is_there(
    rate: float, flow: float, begin: float, end: float
) -> None:
    course = Overpressure(rate, flow)
    time = course.time_to(begin, end)
    assert time >= 0.0
    if time < 1e6:
        assert course.after(begin, time) == pytest.approx(end, abs=1e-3 + 1e-6 * abs(begin))


# -- chamber


def test_a_chamber_ramps_at_its_own_rate_and_then_nears_the_target() -> None:
    oven = chamber(heating_rate=0.05, cooling_rate=0.02, response_time=60.0)
    oven.regulate(0.0, 333.15)
    assert oven.temperature(200.0) == pytest.approx(296.15 + 10.0)
    turn = (37.0 - 3.0) / 0.05
    assert oven.temperature(turn) == pytest.approx(330.15)
    assert oven.temperature(turn + 60.0) == pytest.approx(333.15 - 3.0 / math.e)
    assert oven.temperature(2.0 * HOUR) == pytest.approx(333.15, abs=1e-9)
    oven.regulate(2.0 * HOUR, 313.15, 0.01)
    assert oven.temperature(2.0 * HOUR + 1000.0) == pytest.approx(323.15)
    oven.regulate(2.0 * HOUR + 1000.0, 313.15, 1.0)
    assert oven.temperature(2.0 * HOUR + 1100.0) == pytest.approx(321.15), "its own rate holds"


def test_a_chamber_that_is_off_takes_the_temperature_around_it() -> None:
    oven = chamber(temperature=353.15, idle_time=3600.0)
    assert oven.temperature(HOUR) == pytest.approx(296.15 + 57.0 / math.e)
    oven.regulate(HOUR, 353.15)
    oven.regulate(3.0 * HOUR, None)
    assert oven.temperature(4.0 * HOUR) == pytest.approx(296.15 + 57.0 / math.e, abs=0.01)


def test_a_chamber_goes_no_further_than_it_reaches() -> None:
    oven = chamber(highest=350.0)
    oven.regulate(0.0, 400.0)
    assert oven.temperature(5.0 * HOUR) == pytest.approx(350.0)
    for target, rate in ((math.nan, 1.0), (300.0, 0.0), (300.0, -1.0)):
        with pytest.raises(ValueError, match=r"must be|needs a finite"):
            oven.regulate(6.0 * HOUR, target, rate)


def program(oven: Chamber, ask: list[float]) -> None:
    """Set-points over six hours, with looks at the air at given times in between."""
    orders = [(0.0, 333.15, math.inf), (900.0, 318.15, 0.01), (2 * HOUR, None, math.inf),
              (3 * HOUR, 263.15, math.inf), (3 * HOUR + 300.0, 303.15, 0.05)]  # fmt: skip
    for now, target, rate in orders:
        for look in [t for t in ask if t <= now]:
            oven.temperature(look)
            ask.remove(look)
        oven.regulate(now, target, rate)
    for look in ask:
        oven.temperature(look)


def test_cells_follow_the_air_with_their_own_lag() -> None:
    oven = chamber(cell_time=300.0)
    program(oven, [])
    quiet = chamber(cell_time=300.0)
    # The same by small steps: dT/dt = (air - T) / lag, with the air that the chamber shows.
    orders = {0.0: (333.15, math.inf), 900.0: (318.15, 0.01), 2 * HOUR: (None, math.inf),
              3 * HOUR: (263.15, math.inf), 3 * HOUR + 300.0: (303.15, 0.05)}  # fmt: skip
    cell, step = 296.15, 0.5
    for k in range(int(6.0 * HOUR / step)):
        now = k * step
        if now in orders:
            quiet.regulate(now, *orders[now])
        middle = quiet.temperature(now + 0.5 * step)
        cell += (middle - cell) * -math.expm1(-step / 300.0)
        if k % 1000 == 0:
            assert quiet.cell_temperature(now + step) == pytest.approx(cell, abs=2e-3)
    assert oven.cell_temperature(6.0 * HOUR) == pytest.approx(cell, abs=2e-3)


def test_cells_are_told_within_a_tenth_of_a_kelvin_and_in_the_end_exactly() -> None:
    oven = chamber()
    orders = {0.0: 333.15, 2.5 * HOUR: 263.15, 2.7 * HOUR: 310.0}
    told, index = oven.told, 0
    worst = 0.0
    for k in range(int(6.0 * HOUR / 2.0)):
        now = 2.0 * k
        if now in orders:
            oven.regulate(now, orders[now])
        truth = oven.cell_temperature(now)
        while index + 1 < len(told) and told[index + 1][0] <= now:
            index += 1
        worst = max(worst, abs(told[index][1] - truth))
    assert 0.05 < worst <= STEP * 1.001
    assert told[-1][1] == 310.0
    assert 200 < len(told) < 3000


def test_what_cells_are_told_does_not_depend_on_who_asks() -> None:
    quiet, asked = chamber(), chamber()
    program(quiet, [])
    stream = random.Random(5)
    program(asked, sorted(stream.uniform(0.0, 6.0 * HOUR) for _ in range(2000)))
    quiet.follow(6.0 * HOUR)
    asked.follow(6.0 * HOUR)
    assert quiet.told == asked.told
    assert quiet.temperature(6.0 * HOUR) == asked.temperature(6.0 * HOUR)


def test_a_cell_in_a_chamber_takes_the_same_course_however_it_is_asked() -> None:
    def course(polls: int) -> tuple[object, float, float]:
        oven = chamber()
        cell = SimulatedCell.from_preset("ncm811-caec", seed=2)
        terminals = oven.occupy(cell, 0.0)
        frame = oven.clamp(LoadFrame(cell), terminals)
        terminals.source_voltage(0.0, 4.25, 0.2 * cell.nominal_capacity / HOUR)
        oven.regulate(600.0, 333.15)
        for k in range(polls):
            now = 600.0 + 3000.0 * (k + 1) / (polls + 1)
            terminals.terminal(now)
            frame.force(now)
            oven.temperature(now)
        return terminals.terminal(HOUR), frame.force(HOUR), cell.temperature

    assert course(0) == course(97)


def test_a_source_meter_alone_sees_its_cell_get_warm(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = bench_in(tmp_path)
        clock, oven, cell = bench.clock, bench.rooms["oven"], bench.cells["c1"]
        assert isinstance(oven, Chamber)
        switchboard = Switchboard()
        bench.attach(switchboard)
        meter = switchboard.wire("TCPIP::127.0.0.1::5025::SOCKET", clock)
        scale = switchboard.wire(bench.bench.instruments["lc1"].address, clock)
        await meter.open()
        await scale.open()
        await meter.send(b":SOUR:VOLT 3.9;:SOUR:VOLT:ILIM 1e-4;:OUTP ON\n", 1.0)
        oven.regulate(clock.now(), 333.15)
        before = bench.frames["c1"].force(clock.now())
        for _ in range(20):
            await clock.sleep(60.0)
            await meter.exchange(b':READ? "defbuffer1"\n', Terminated(b"\n"), 5.0)
            assert cell.temperature == pytest.approx(oven.cell_temperature(clock.now()), abs=0.15)
        assert cell.temperature > 310.0
        # Nobody asked in the meantime; the load cell alone brings the cell up to date.
        await clock.sleep(4.0 * HOUR)
        assert cell.temperature < 329.0
        reply = await scale.exchange(b"01I\r\n", Terminated(b"\r\n"), 1.0)
        assert cell.temperature == 333.15
        assert float(reply[4:]) > before + 100.0, "a warm frame presses harder"
        await clock.sleep(60.0)
        oven.regulate(clock.now(), 300.0)
        await clock.sleep(4.0 * HOUR)
        bench.settle()
        assert cell.temperature == 300.0
        await bench.close()

    run(scenario(), virtual=True)


@pytest.mark.parametrize("preset", ["ncm811-caec", "pellet-lpscb"])
def test_a_spectrum_is_that_of_the_temperature_of_the_moment(preset: str) -> None:
    oven = chamber()
    cell, warm = cell_from_preset(preset), cell_from_preset(preset)
    terminals = oven.occupy(cell, 0.0)
    assert isinstance(terminals, Occupant)
    cold = impedance(terminals, 1e6, 1.0)
    oven.regulate(1.0, 333.15)
    found = impedance(terminals, 1e6, 5.0 * HOUR)
    warm.set_temperature(1.0, 333.15)
    assert abs(found) == pytest.approx(abs(impedance(warm, 1e6, 5.0 * HOUR)), rel=0.02)
    assert abs(found) < 0.5 * abs(cold)
    assert isinstance(cell, SimulatedCell | PelletCell)


def test_a_cell_that_was_asked_past_its_room_is_told_late_and_not_refused() -> None:
    oven = chamber()
    cell = SimulatedCell.from_preset("ncm811-caec")
    terminals = oven.occupy(cell, 0.0)
    assert isinstance(terminals, Occupant)
    oven.regulate(0.0, 333.15)
    cell.terminal(1000.0)
    terminals.terminal(1000.0)
    assert cell.temperature == pytest.approx(oven.cell_temperature(1000.0), abs=STEP)
