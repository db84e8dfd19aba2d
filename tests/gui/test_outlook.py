"""What a checked run would be like, in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from operando.gui.models.outlook import (
    channel_note,
    duration_within,
    duration_words,
    guard_words,
    one_c_words,
    outlook,
)
from operando.station.client import CellInfo, CheckReport, LimitInfo
from support.window import channel

NOON = datetime(2026, 11, 12, 12, 0, tzinfo=UTC).timestamp()


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def report(duration: float | None, steps: int = 4, *, complete: bool = True) -> CheckReport:
    return CheckReport(ok=True, steps=steps, duration=duration, complete=complete)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (44.2, "45 s"),
        (60.0, "1 min"),
        (3599.0, "1 h"),
        (12_000.0, "3 h 20 min"),
        (86_399.0, "1 d"),
        (190_800.0, "2 d 5 h"),
    ],
)
def test_a_duration_is_rounded_to_what_matters(seconds: float, said: str) -> None:
    assert duration_words(seconds) == said


def test_a_reaction_time_keeps_its_fractions() -> None:
    assert [duration_within(seconds) for seconds in (0.25, 1.8, 90.0)] == [
        "0.25 s", "1.8 s", "2 min",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("duration", "done"),
    [
        (4 * 3600.0, "done about 16:00"),
        (14 * 3600.0, "done about Fri 02:00"),
        (10 * 86_400.0, "done about Sun 22 Nov, 12:00"),
    ],
)
def test_a_run_in_real_time_says_when_it_is_done(duration: float, done: str) -> None:
    assert outlook(report(duration), 1.0, NOON, utc).done == done


def test_a_fast_station_says_both_times() -> None:
    seen = outlook(report(4 * 3600.0), 60.0, NOON, utc)
    assert seen.size == "4 steps, about 4 h of laboratory time"
    assert seen.done == "done about 12:04 by the wall clock, in 4 min at ×60"


def test_what_is_not_known_is_not_promised() -> None:
    assert outlook(report(3600.0, 1), None, NOON, utc).size == "1 step, about 1 h"
    assert outlook(report(3600.0), None, NOON, utc).done == ""
    open_end = outlook(report(None, 2000, complete=False), 1.0, NOON, utc)
    assert open_end.size == "2000 steps or more, for a time that cannot be estimated"
    assert open_end.done == ""


def test_one_c_is_said_in_the_current_of_the_cell() -> None:
    assert one_c_words(CellInfo(name="c", capacity=11.2968)) == "1C = 3.138 mA"
    assert one_c_words(CellInfo(name="c")) == "its capacity is not known: no C-rates"
    assert one_c_words(None) == "no cell on this channel"


def test_a_channel_that_would_not_start_says_why() -> None:
    assert channel_note(None) == ""
    assert channel_note(channel("A1", "idle")) == ""
    assert channel_note(channel("A1", "held")) == "A1 is held: Formation"
    assert channel_note(channel("A1", "tripped")).startswith("A1 waits to be acknowledged")


def _limit(
    name: str, quantity: str | None, bound: float, above: bool, action: str = "trip"
) -> LimitInfo:
    return LimitInfo(
        name=name, when="", action=action, quantity=quantity, bound=bound, above=above,
        magnitude=quantity == "current",
    )  # fmt: skip


def test_the_tightest_limits_are_said_and_the_others_counted() -> None:
    limits = [
        _limit("high", "voltage", 4.3, True),
        _limit("higher", "voltage", 4.5, True),
        _limit("careful", "voltage", 4.0, True, "warn"),
        _limit("low", "voltage", -0.3, False, "hold"),
        _limit("flow", "current", 1.5688e-4, True),
        _limit("pressed", "pressure", 8e6, True),
        _limit("odd", None, 0.0, True),
    ]
    assert guard_words(limits) == "off outside −0.3 V to 4.3 V, above 156.9 µA, 2 more limits"
    assert guard_words(limits[:1]) == "off above 4.3 V"
    assert guard_words(limits[3:4]) == "off below −0.3 V"
    assert guard_words(limits[2:3]) == "no limit switches off"
