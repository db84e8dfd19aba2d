"""Runs that drive a chamber and a press: told once, left alone by a pause, secured at every end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.conditions import ELAPSED, PRESSURE, VOLTAGE
from operando.instruments.errors import BadInputError, UnsupportedError
from operando.instruments.limits import Action, Limit
from operando.instruments.recorder import Entry
from operando.protocols import (
    CHAMBER_TEMPERATURE,
    Cell,
    ConstantCurrent,
    HoldPressure,
    HoldTemperature,
    Rest,
    RunState,
    Steps,
    protocol,
    within,
)
from operando.records import Record
from operando.station.channel_state import unsafe_of
from operando.station.details import words
from operando.station.engine import Engine, Order, settle
from station.conditioned import ConditionedLab, verdicts, write_conditioned_bench

HOUR = (ELAPSED >= 3600.0,)
WINDOW = (2.5, 4.25)


@protocol(source="this test")
def conditioned(
    cell: Cell,
    *,
    temperature: float = 313.15,
    pressure: float = 12e6,
    window: tuple[float, float] = WINDOW,
) -> Steps:
    """Warm up, press, charge a little, rest."""
    steady = within(CHAMBER_TEMPERATURE, temperature, 0.5).held("10 min")
    yield HoldTemperature(temperature, (steady, ELAPSED >= "2 h"))
    pressed = within(PRESSURE, pressure, 2e5).held("1 min")
    yield HoldPressure(pressure, 2e4, 14e6, (pressed, ELAPSED >= "1 h"))
    yield ConstantCurrent(cell.capacity / 36000.0, (VOLTAGE >= 4.25, ELAPSED >= 900.0))
    yield Rest((ELAPSED >= 600.0,))


@protocol(source="this test")
def rested(cell: Cell, *, window: tuple[float, float] = WINDOW) -> Steps:
    """Drive nothing around the cell."""
    yield Rest(HOUR)


@pytest.fixture
def lab(tmp_path: Path) -> ConditionedLab:
    """A cell in a chamber and under a press."""
    return ConditionedLab(tmp_path)


def waits(seconds: float, then: Callable[[Engine], Any]) -> Callable[[Engine, Clock], Any]:
    async def beside(engine: Engine, clock: Clock) -> None:
        await clock.sleep(seconds)
        told = then(engine)
        if isinstance(told, Awaitable):
            await told

    return beside


def inject(name: str, fault: str) -> Callable[[Engine], None]:
    return lambda engine: engine.simulation.inject(name, fault)  # type: ignore[union-attr]


def test_set_points_are_told_once_stay_in_force_and_end_in_the_safe_state(
    lab: ConditionedLab,
) -> None:
    run = lab.run(conditioned)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert run.result.safe
    assert lab.settings_of_oven() == ["TEMP, S40.0", "MODE,CONSTANT", "MODE,STANDBY"]
    assert (lab.oven.mode, lab.press._held, lab.relay_at_end) == ("STANDBY", True, False)
    assert verdicts(run) == dict.fromkeys(("smu1", "oven1", "press1"), "verified")
    record = Record.open(run.folder)
    steps = record.steps()
    assert [step.reason for step in steps] == ["condition"] * 4
    assert str(steps[0].condition).startswith("(chamber_temperature >= 39.5 degC")
    charging = steps[2].start
    for quantity, value, near in (("chamber_temperature", 313.15, 0.5), ("pressure", 12e6, 2e5)):
        readings = record.aux(quantity)
        later = readings["value"][readings["time"] > charging]
        assert len(later) > 100
        assert abs(later - value).max() < near
    notes = [e.data for e in record.journal(Entry.NOTE) if "instrument" in e.data]
    assert [(n["instrument"], next(iter(n.keys() - {"instrument"}))) for n in notes] == [
        ("oven1", "told"), ("oven1", "read back"), ("press1", "told"), ("press1", "read back"),
    ]  # fmt: skip
    assert notes[1]["read back"] == {"temperature": 313.15}


ENDS: dict[str, tuple[RunState, Callable[[Engine, Clock], Any] | None, tuple[Limit, ...]]] = {
    "aborted": (RunState.ABORTED, waits(1500.0, lambda e: e.stop_all("enough")), ()),
    "aborted while it is told": (RunState.ABORTED, waits(1.0, lambda e: e.stop_all("enough")), ()),
    "tripped": (
        RunState.TRIPPED,
        None,
        (Limit("squeeze", PRESSURE > 11e6, Action.TRIP, stale_after=60.0),),
    ),
    "faulted": (RunState.FAULTED, waits(1500.0, inject("smu1", "reboot")), ()),
}


@pytest.mark.parametrize("end", ENDS)
def test_however_a_run_ends_what_it_drove_is_secured(lab: ConditionedLab, end: str) -> None:
    state, beside, limits = ENDS[end]
    run = lab.run(conditioned, beside=beside, limits=limits)
    assert run.result.state is state, run.result.reason
    found = verdicts(run)
    assert found["oven1"] == "verified"
    assert lab.oven.mode == "STANDBY"
    if "told" not in end:
        assert found["press1"] == "verified"
        assert lab.press._held
    assert not lab.relay_at_end


def test_a_potentiostat_that_hangs_keeps_nothing_else_from_being_secured(
    lab: ConditionedLab,
) -> None:
    run = lab.run(conditioned, beside=waits(1500.0, inject("smu1", "silence")))
    found = verdicts(run)
    assert "DISCONNECT" in str(found.pop("smu1")).upper()
    assert found == {"oven1": "verified", "press1": "verified"}
    assert not run.result.safe


def test_a_chamber_that_hangs_is_named_and_delays_nothing_at_the_cell(lab: ConditionedLab) -> None:
    opened: list[float] = []

    async def beside(engine: Engine, clock: Clock) -> None:
        await clock.sleep(1400.0)
        simulation: Any = engine.simulation
        while not simulation.relays()["smu1"]:
            await clock.sleep(1.0)
        simulation.inject("oven1", "silence")
        await clock.sleep(5.0)
        engine.stop_all("enough")
        while simulation.relays()["smu1"] and len(opened) < 100:
            opened.append(clock.now())
            await clock.sleep(0.05)

    run = lab.run(conditioned, beside=beside)
    assert len(opened) < 20  # a second
    assert run.result.state is RunState.FAULTED
    assert not run.result.safe
    assert run.result.output_off
    assert run.result.unsafe == unsafe_of(Record.open(run.folder)) == ("oven1",)
    assert "enough; oven1: the safe state could not be verified" in run.result.reason
    assert "HEATING OR COOLING: stop it at its panel" in run.result.reason
    assert "cell by hand" not in run.result.reason
    said = [words(entry) for entry in Record.open(run.folder).journal()]
    assert "oven1 told: 40.0 degC" in said
    assert "oven1 read back: 40.0 degC" in said
    assert any(one.startswith("press1 told: 12.0 MPa, by ") for one in said)
    assert any(one.startswith("NOT VERIFIED SAFE: oven1: the safe state") for one in said)
    found = verdicts(run)
    assert (found["smu1"], found["press1"]) == ("verified", "verified")
    assert "could not be verified" in str(found["oven1"])


def test_the_safe_state_is_that_of_the_settings(lab: ConditionedLab) -> None:
    bench = write_conditioned_bench(lab.folder, oven="hold", press="vent")
    run = lab.run(conditioned, bench)
    assert verdicts(run) == dict.fromkeys(("smu1", "oven1", "press1"), "verified")
    assert lab.settings_of_oven() == ["TEMP, S40.0", "MODE,CONSTANT"]
    assert lab.oven.mode == "CONSTANT"
    assert not lab.press._held
    assert lab.told["press1"][-1] != ""
    assert any(line.startswith("ALS 0.00") for line in lab.told["press1"])


def test_what_a_run_does_not_drive_is_left_alone(lab: ConditionedLab) -> None:
    async def by_hand(engine: Engine, clock: Clock) -> None:
        lab.oven._enter("CONSTANT", clock.now())

    run = lab.run(rested, beside=by_hand)
    assert run.result.state is RunState.COMPLETED
    assert lab.settings_of_oven() == []
    assert lab.oven.mode == "CONSTANT"
    assert verdicts(run) == {"smu1": "verified"}


def test_somebody_elses_program_is_refused_and_not_stopped(lab: ConditionedLab) -> None:
    async def program(engine: Engine, clock: Clock) -> None:
        lab.oven.mode = "RUN"

    run = lab.run(conditioned, beside=program)
    assert run.result.state is RunState.FAULTED
    assert "a program is running on it" in run.result.reason
    assert lab.settings_of_oven() == []
    assert verdicts(run) == {"smu1": "verified"}


def test_a_pause_opens_the_circuit_alone_and_tells_nothing_twice(lab: ConditionedLab) -> None:
    during: list[tuple[str, bool]] = []

    async def beside(engine: Engine, clock: Clock) -> None:
        for at in (300.0, 1200.0):  # in the first and in the second step
            await clock.sleep(at - clock.now())
            engine.pause_all()
            await clock.sleep(60.0)
            during.append((lab.oven.mode, lab.press._held))
            engine.resume_all()

    run = lab.run(conditioned, beside=beside)
    assert run.result.state is RunState.COMPLETED
    assert during == [("CONSTANT", False)] * 2
    assert lab.settings_of_oven() == ["TEMP, S40.0", "MODE,CONSTANT", "MODE,STANDBY"]
    assert len(Record.open(run.folder).journal(Entry.RESUMED)) == 2


def test_what_the_watchdog_switched_is_told_again_by_a_resume(lab: ConditionedLab) -> None:
    held: list[RunState] = []

    async def beside(engine: Engine, clock: Clock) -> None:
        await clock.sleep(1300.0)
        lab.oven._enter("STANDBY", clock.now())
        engine.on_watchdog_acted(["oven1"], "the engine gave no sign of life")
        await clock.sleep(5.0)
        held.append(engine.runners["A1"].state)
        engine.resume_all()
        await clock.sleep(30.0)
        assert lab.oven.mode == "CONSTANT"

    run = lab.run(conditioned, beside=beside)
    assert held == [RunState.HELD]
    assert run.result.state is RunState.COMPLETED
    modes = [line for line in lab.settings_of_oven() if line.startswith("MODE")]
    assert modes == ["MODE,CONSTANT", "MODE,CONSTANT", "MODE,STANDBY"]


def test_a_lost_link_that_comes_back_ends_nothing(lab: ConditionedLab) -> None:
    run = lab.run(conditioned, beside=waits(300.0, inject("oven1", "drop 60 s")))
    assert run.result.state is RunState.COMPLETED, run.result.reason
    assert verdicts(run)["oven1"] == "verified"
    alarms = Record.open(run.folder).journal(Entry.ALARM)
    assert any("oven1 cannot be read" in str(alarm.data) for alarm in alarms)


@pytest.mark.parametrize(
    ("name", "fault", "quantity", "value", "near"),
    [
        ("oven1", "reboot", "chamber_temperature", 313.15, 0.5),
        ("press1", "drop 60 s", "pressure", 12e6, 2e5),
    ],
)
def test_what_was_out_of_reach_is_told_again_once_it_can_be_read(
    lab: ConditionedLab, name: str, fault: str, quantity: str, value: float, near: float
) -> None:
    at = 1300.0
    run = lab.run(conditioned, beside=waits(at, inject(name, fault)))
    assert run.result.state is RunState.COMPLETED, run.result.reason
    record = Record.open(run.folder)
    notes = [e for e in record.journal(Entry.NOTE) if e.data.get("instrument") == name]
    assert [e.time > at for e in notes if "told" in e.data] == [False, True]
    readings = record.aux(quantity)
    assert abs(readings["value"][readings["time"] > at + 600.0] - value).max() < near


def test_a_step_without_its_actuator_is_refused_before_anything_is_connected(
    tmp_path: Path,
) -> None:
    bench = load_bench(
        write_conditioned_bench(tmp_path, roles='temperature_controller = "oven1"\n')
    )
    with pytest.raises(BadInputError, match=r"'hold pressure' needs a pressure_controller, and"):
        settle(bench, "A1", Order(conditioned()))


def test_a_step_that_waits_for_what_nothing_measures_is_refused(tmp_path: Path) -> None:
    @protocol(source="this test")
    def blind(cell: Cell, *, window: tuple[float, float] = WINDOW) -> Steps:
        """Wait for a load cell that is not there."""
        yield Rest((PRESSURE >= 1e6, ELAPSED >= 60.0))

    bench = load_bench(write_conditioned_bench(tmp_path, roles=""))
    with pytest.raises(BadInputError, match="step 'rest' waits for pressure, but nothing"):
        settle(bench, "A1", Order(blind()))


@pytest.mark.parametrize(
    ("parameters", "found"), [({"temperature": 400.0}, "400 K"), ({"pressure": 15.5e6}, "maximum")]
)
def test_a_set_point_outside_the_settings_is_refused_before_anything_is_told(
    lab: ConditionedLab, parameters: dict[str, Any], found: str
) -> None:
    with pytest.raises((UnsupportedError, BadInputError), match=found):
        lab.run(conditioned, **parameters)
    assert lab.settings_of_oven() == []


def test_what_no_preview_foresaw_is_refused_when_it_comes(lab: ConditionedLab) -> None:
    @protocol(source="this test")
    def surprising(cell: Cell, *, window: tuple[float, float] = WINDOW) -> Steps:
        """Heat a real cell too much, but not that of a preview."""
        outcome = yield Rest((ELAPSED >= 60.0,))
        yield HoldTemperature(400.0 if outcome.voltage > 1.0 else 313.15, (ELAPSED >= 60.0,))

    run = lab.run(surprising)
    assert run.result.state is RunState.FAULTED
    assert "400 K is outside" in run.result.reason
    assert lab.settings_of_oven() == []
    assert verdicts(run) == {"smu1": "verified"}


def test_an_actuator_that_is_missing_unforeseen_ends_the_run_in_words(lab: ConditionedLab) -> None:
    @protocol(source="this test")
    def surprising(cell: Cell, *, window: tuple[float, float] = WINDOW) -> Steps:
        """Press a real cell alone."""
        outcome = yield Rest((ELAPSED >= 60.0,))
        if outcome.voltage > 1.0:
            yield HoldPressure(12e6, 2e4, 14e6, (ELAPSED >= 60.0,))

    bench = write_conditioned_bench(lab.folder, roles='temperature_controller = "oven1"\n')
    run = lab.run(surprising, bench)
    assert run.result.state is RunState.FAULTED
    assert "'hold pressure' needs a pressure_controller" in run.result.reason
    assert run.result.safe


def test_the_outcome_waits_for_the_set_point_to_be_read_back(lab: ConditionedLab) -> None:
    @protocol(source="this test")
    def hasty(cell: Cell, *, window: tuple[float, float] = WINDOW) -> Steps:
        """Go on at once."""
        yield HoldTemperature(313.15, (ELAPSED >= 0.1,))

    run = lab.run(hasty)
    assert run.result.state is RunState.COMPLETED
    kinds = [
        "read back" if "read back" in entry.data else entry.entry.value
        for entry in Record.open(run.folder).journal()
    ]
    assert kinds.index("read back") < kinds.index(Entry.STEP_ENDED.value)
