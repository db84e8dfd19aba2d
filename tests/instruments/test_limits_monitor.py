"""Limits: how they are written, and who watches."""

from __future__ import annotations

import math

import pytest

from operando.instruments.conditions import parse
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Action, Cause, Firing, Limit, LimitMonitor, parse_limits

NAN = math.nan


def limit(
    when: str, action: Action = Action.TRIP, *, grace: float = 0.0, stale_after: float = 10.0
) -> Limit:
    return Limit("one", parse(when), action, grace, stale_after)


def pressures(monitor: LimitMonitor, *samples: tuple[float, float]) -> list[list[Firing]]:
    return [monitor.update(t, {"pressure": p}, ("pressure",)) for t, p in samples]


def test_limits_are_read_from_a_table() -> None:
    table: dict[str, object] = {
        "over_pressure": {"when": "pressure > 12 MPa", "action": "trip", "grace": "10 min"},
        "wet_box": {"when": "h2o > 5 ppm for 60 s", "action": "hold", "stale_after": "2 min"},
    }
    assert parse_limits(table, "") == (
        Limit("over_pressure", parse("pressure > 12 MPa"), Action.TRIP, 600.0, 10.0),
        Limit("wet_box", parse("h2o > 5 ppm for 60 s"), Action.HOLD, 0.0, 120.0),
    )


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("voltage > 4 V", "x one: a limit is a table"),
        ({"when": "voltage > 4 V"}, "x one: action is missing"),
        ({"action": "trip"}, "x one: when is missing"),
        ({"when": "voltage > 4 V", "action": "stop"}, 'x one.action: "stop" is not an action'),
        ({"when": "voltage > 4 V", "action": 3}, "x one.action: must be a text"),
        ({"when": "voltage > 4", "action": "trip"}, "x one.when: condition, column 11"),
        ({"when": "voltage > 4 V", "action": "trip", "grac": "1 s"}, 'did you mean "grace"'),
        ({"when": "voltage > 4 V", "action": "trip", "grace": "10"}, "x one.grace: .*no unit"),
        ({"when": "voltage > 4 V", "action": "trip", "grace": "-1 s"}, "at least 0 s"),
        ({"when": "voltage > 4 V", "action": "trip", "stale_after": "0 s"}, "more than 0 s"),
    ],
)
def test_a_wrong_limit_is_refused_at_its_key(entry: object, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        parse_limits({"one": entry}, "x")


def test_a_limit_acts_at_the_sample_that_makes_it_true_and_is_latched() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa")])
    calm, act, after = pressures(monitor, (0.0, 11e6), (1.0, 13e6), (2.0, 14e6))
    assert (calm, after) == ([], [])
    assert [(f.limit.name, f.action, f.cause, f.since, f.time) for f in act] == [
        ("one", Action.TRIP, Cause.CONDITION, 1.0, 1.0)
    ]
    assert act[0].values == {"pressure": 13e6}
    assert str(act[0]) == ("limit one acts (trip): pressure > 12 MPa (pressure 13.0 MPa)")
    assert monitor.latched == ("one",)
    # A trip stays latched, although the pressure came back and rose again.
    assert pressures(monitor, (3.0, 1e6), (4.0, 13e6)) == [[], []]


def test_an_acknowledged_trip_acts_again_while_its_reason_persists() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa")])
    pressures(monitor, (0.0, 13e6))
    monitor.acknowledge("one")
    assert monitor.latched == ()
    assert [len(fired) for fired in pressures(monitor, (1.0, 13e6))] == [1]
    with pytest.raises(BadInputError, match="latched: one"):
        monitor.acknowledge("other")


@pytest.mark.parametrize("action", [Action.WARN, Action.HOLD])
def test_a_warning_or_hold_acts_once_per_excursion(action: Action) -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa", action)])
    fired = pressures(monitor, (0.0, 13e6), (1.0, 13e6), (2.0, 11e6), (3.0, 13e6), (4.0, 13e6))
    assert [len(one) for one in fired] == [1, 0, 0, 1, 0]
    assert monitor.latched == ()


def test_a_grace_must_pass_without_a_calm_sample() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa", grace=5.0)])
    fired = pressures(
        monitor, (0.0, 13e6), (4.0, 13e6), (4.5, 11e6), (5.0, 13e6), (9.9, 13e6), (10.0, 13e6)
    )
    assert [len(one) for one in fired] == [0, 0, 0, 0, 0, 1]
    assert fired[-1][0].since == 5.0


def test_limits_within_their_grace_are_pending_with_their_deadline() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa", grace=5.0)])
    assert monitor.pending == {}
    pressures(monitor, (1.0, 13e6))
    assert monitor.pending == {"one": 6.0}
    pressures(monitor, (6.0, 13e6))
    assert monitor.pending == {}


def test_an_invalid_sample_neither_sets_off_nor_calms() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa", grace=5.0)])
    fired = pressures(monitor, (0.0, NAN), (1.0, 13e6), (2.0, NAN), (6.0, 13e6))
    assert [len(one) for one in fired] == [0, 0, 0, 1]
    assert fired[-1][0].since == 1.0


def test_an_intermittent_sensor_does_not_disarm_a_for() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa for 60 s")])
    samples = [(10.0 * i, NAN if i % 3 == 2 else 13e6) for i in range(8)]
    assert [len(one) for one in pressures(monitor, *samples)] == [0, 0, 0, 0, 0, 0, 1, 0]


def test_a_grace_runs_out_although_no_sample_comes_any_more() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa", grace=60.0, stale_after=1000.0)])
    pressures(monitor, (0.0, 13e6))
    assert monitor.check_stale(59.0, {"pressure": 59.0}) == []
    fired = monitor.check_stale(60.0, {"pressure": 60.0})
    assert [(f.cause, f.time) for f in fired] == [(Cause.CONDITION, 60.0)]


def test_a_stale_sensor_follows_its_limits_action_after_the_grace() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa", grace=30.0)])
    assert monitor.check_stale(100.0, {"pressure": 9.9}) == []
    assert monitor.check_stale(101.0, {"pressure": 11.0}) == []
    assert monitor.pending == {"one": 130.0}
    fired = monitor.check_stale(130.0, {"pressure": 40.0})
    assert [(f.cause, f.since, f.action) for f in fired] == [(Cause.STALE, 100.0, Action.TRIP)]
    assert "no valid reading of pressure" in str(fired[0])
    assert monitor.check_stale(131.0, {"pressure": 41.0}) == []


def test_fresh_readings_within_the_grace_calm_a_stale_sensor() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa", Action.HOLD, grace=30.0)])
    monitor.check_stale(100.0, {"pressure": 20.0})
    assert monitor.check_stale(125.0, {"pressure": 1.0}) == []
    assert monitor.check_stale(140.0, {"pressure": 16.0}) == []
    assert len(monitor.check_stale(164.0, {"pressure": 40.0})) == 1
    assert monitor.check_stale(170.0, {"pressure": 46.0}) == []
    monitor.check_stale(171.0, {"pressure": 0.0})
    assert len(monitor.check_stale(300.0, {"pressure": 129.0})) == 1


@pytest.mark.parametrize("ages", [{}, {"pressure": math.inf}, {"pressure": NAN}])
def test_a_sensor_that_never_answered_is_stale_from_the_start(ages: dict[str, float]) -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa")], started=1000.0)
    assert monitor.check_stale(1010.0, ages) == []
    assert [f.cause for f in monitor.check_stale(1010.5, ages)] == [Cause.STALE]


def test_counted_quantities_are_never_stale_and_computed_ones_follow_their_sources() -> None:
    assert limit("elapsed > 1 h").sensors == frozenset()
    assert limit("abs(charge) > 1 As").sensors == {"current"}
    assert limit("power > 1 W and elapsed > 1 s").sensors == {"voltage", "current"}
    monitor = LimitMonitor([limit("elapsed > 1 h"), limit("power > 1 W")])
    fired = monitor.check_stale(1000.0, {"voltage": 1.0, "current": 900.0})
    assert [str(f.limit.when) for f in fired] == ["power > 1 W"]


def test_an_unbound_limit_cannot_be_watched_and_a_bound_one_can() -> None:
    over = limit("abs(current) > 2C")
    with pytest.raises(BadInputError, match="state capacity"):
        LimitMonitor([over])
    monitor = LimitMonitor([over.bind(capacity=3600.0)])
    assert monitor.update(0.0, {"current": -1.9}) == []
    assert len(monitor.update(0.0, {"current": -2.1})) == 1


def test_reset_restarts_timers_but_keeps_trips_latched() -> None:
    monitor = LimitMonitor([limit("pressure > 12 MPa for 5 s")])
    pressures(monitor, (0.0, 13e6), (4.0, 13e6))
    monitor.reset(4.0)
    assert [len(one) for one in pressures(monitor, (6.0, 13e6), (11.0, 13e6))] == [0, 1]
    monitor.reset(20.0)
    assert monitor.latched == ("one",)
    assert [len(one) for one in pressures(monitor, (21.0, 13e6), (30.0, 13e6))] == [0, 0]


def test_a_limit_reads_as_a_line_of_the_limit_sheet() -> None:
    assert str(limit("pressure > 12 MPa", Action.HOLD, grace=600.0)) == (
        "one: hold when pressure > 12 MPa, or no reading for 10 s, grace 10 min"
    )
