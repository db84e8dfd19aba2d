"""What a card says of a channel, over all states, heard or not."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from datetime import datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.gui.models.channel import GLYPHS, NOT_VERIFIED, SHORT, TONES, channel_view
from operando.station.client import (
    UNDER_WAY,
    CellInfo,
    ChannelStatus,
    InstrumentInfo,
    Output,
    Reading,
    State,
)

STATES: tuple[State, ...] = get_args(State)
OUTPUTS: tuple[Output, ...] = get_args(Output)
CAN = ("can_start", "can_pause", "can_resume", "can_stop", "can_acknowledge")


def status(state: State = "running", **changes: object) -> ChannelStatus:
    """A channel with a cell and nothing else; its output on in a run, else read back off."""
    fields: dict[str, object] = {
        "name": "A1",
        "cell": CellInfo(name="c1"),
        "instruments": (),
        "simulated": True,
        "state": state,
        "output": "on" if state in UNDER_WAY else "off",
    }
    return ChannelStatus.model_validate(fields | changes)


def readings(**values: float | None) -> dict[str, Reading]:
    """Readings by quantity, all of 100 s."""
    return {name: Reading(value=value, time=100.0) for name, value in values.items()}


def allowed(of: ChannelStatus, *, current: bool = True) -> set[str]:
    """What can be pressed."""
    view = channel_view(of, current=current, speed=1.0)
    return {name.removeprefix("can_") for name in CAN if getattr(view, name)}


TABLE: dict[State, tuple[str, str, str, set[str]]] = {
    "idle": ("idle", "○", "idle", {"start"}),
    "preparing": ("preparing", "◔", "active", {"stop"}),
    "running": ("running", "▶", "active", {"pause", "stop"}),
    "paused": ("paused", "❚❚", "notice", {"resume", "stop"}),
    "held": ("held", "◆", "notice", {"resume", "stop"}),
    "completed": ("completed", "✓", "good", {"start"}),
    "tripped": ("tripped", "▲", "bad", {"acknowledge"}),
    "aborted": ("aborted", "■", "idle", {"start"}),
    "faulted": ("faulted", "✕", "bad", {"acknowledge"}),
    "refused": ("refused", "⊘", "notice", {"start"}),
    "killed": ("killed: the station died", "✕", "bad", {"acknowledge"}),
}
"""State: its text, sign and tone, and what can be pressed."""


def test_the_table_has_all_states() -> None:
    assert set(TABLE) == set(STATES) == set(GLYPHS) == set(TONES)


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_said_by_text_sign_and_tone(state: State) -> None:
    text, glyph, tone, can = TABLE[state]
    of = status(state, attention=tone == "bad")
    view = channel_view(of, current=True, speed=1.0)
    assert (view.state_text, view.glyph, view.tone) == (text, glyph, tone)
    assert allowed(of) == can
    assert not view.stale


@pytest.mark.parametrize("state", STATES)
def test_a_channel_that_is_not_heard_claims_nothing_and_can_only_be_stopped(state: State) -> None:
    of = status(state, attention=TABLE[state][2] == "bad", latest=readings(voltage=3.8), age=0.1)
    view = channel_view(of, current=False, speed=1.0, unseen=12.4)
    assert allowed(of, current=False) == {"stop"}
    assert view.stale
    assert view.age_text == "last seen 12 s ago"
    assert view.state_text == f"{TABLE[state][0]} (last seen)"
    assert view.tone not in {"active", "good"}
    assert view.output_text in {"output was on when last seen", "output was off when last seen"}
    assert view.voltage == "3.8000 V"


@pytest.mark.parametrize(
    ("state", "output", "attention", "stopping", "current"),
    list(itertools.product(STATES, OUTPUTS, [False, True], [False, True], [False, True])),
)
def test_whatever_comes_together_no_button_and_no_colour_is_unsafe(
    state: State, output: Output, attention: bool, stopping: bool, current: bool
) -> None:
    of = status(state, output=output, attention=attention, stopping=stopping)
    view = channel_view(of, current=current, speed=1.0)
    can = allowed(of, current=current)
    over = state not in UNDER_WAY and not stopping
    in_doubt = output == "unknown" or (output == "on" and over)
    assert ("stop" in can) == (not current or not over or in_doubt)
    if "start" in can:
        assert over
        assert not attention
    if stopping or not current:
        assert not can & {"start", "pause", "resume"}
    assert ("acknowledge" in can) == (attention and current)
    if in_doubt:
        assert view.output_text == NOT_VERIFIED
        assert view.tone == "bad"
    if attention:
        assert view.tone == "bad"
    if view.tone == "good":
        assert current
        assert output == "off"
    assert (view.output_text == "output read back off") == (output == "off" and current)
    assert view.state_text.endswith("(last seen)") is not current
    assert view.glyph


def test_an_output_that_was_read_back_says_when() -> None:
    noon = datetime(2026, 3, 5, 12, 0).astimezone()
    view = channel_view(status("idle", output_at=noon.timestamp()), current=True, speed=1.0)
    assert view.output_text == "output read back off at 12:00 on 05 Mar 2026"
    today = datetime.now().astimezone().replace(hour=0, minute=7)
    view = channel_view(status("idle", output_at=today.timestamp()), current=True, speed=1.0)
    assert view.output_text == "output read back off at 00:07"


@pytest.mark.parametrize("state", ["tripped", "faulted", "killed"])
def test_what_was_acknowledged_is_calm_and_can_be_started_again(state: State) -> None:
    of = status(state, attention=False)
    view = channel_view(of, current=True, speed=1.0)
    assert view.state_text == f"{state}, acknowledged"
    assert view.tone == "idle"
    assert allowed(of) == {"start"}


def test_a_stop_that_is_not_done_says_so() -> None:
    view = channel_view(status(stopping=True), current=True, speed=1.0)
    assert view.stopping
    assert view.state_text == "stopping…"
    assert view.tone == "notice"


def test_a_hold_gives_its_reason_in_short_and_in_full() -> None:
    reason = "pressure went below 2 MPa; check the frame before you resume"
    view = channel_view(status("held", reason=reason), current=True, speed=1.0)
    assert view.state_text == "held: pressure went below 2 MPa"
    assert view.reason == reason


@given(st.text(min_size=1, max_size=200))
def test_a_short_reason_is_short_and_the_beginning_of_the_long_one(reason: str) -> None:
    view = channel_view(status("held", reason=reason), current=True, speed=1.0)
    short = view.state_text.removeprefix("held: ")
    assert len(short) <= SHORT + 1
    assert reason.strip().startswith(short.removesuffix("…").strip())
    assert view.reason == reason


def test_an_instrument_that_cannot_be_used_is_the_reason_of_an_idle_channel() -> None:
    instrument = InstrumentInfo(
        name="smu1", role="potentiostat", driver="d", address="a", problem="it does not answer"
    )
    view = channel_view(status("idle", instruments=(instrument,)), current=True, speed=1.0)
    assert view.reason == "smu1 cannot be used: it does not answer"
    assert channel_view(status("idle"), current=True, speed=1.0).reason == ""


def test_readings_are_texts_with_units_and_a_dash_where_nothing_is_known() -> None:
    of = status(latest=readings(voltage=3.84214, current=-1.569e-3, pressure=5.1234e6))
    view = channel_view(of, current=True, speed=1.0)
    assert (view.voltage, view.current) == ("3.8421 V", "−1.569 mA")
    assert (view.pressure, view.charge) == ("5.12 MPa", "—")
    invalid = status(latest=readings(voltage=None, charge=8.6868))
    view = channel_view(invalid, current=True, speed=1.0)
    assert (view.voltage, view.charge) == ("—", "2.413 mAh")


@pytest.mark.parametrize(
    ("age", "speed", "stale", "text"),
    [
        (0.4, 1.0, False, "now"),
        (3.2, 1.0, False, "3 s ago"),
        (10.0, 1.0, False, "10 s ago"),
        (10.1, 1.0, True, "10 s ago"),
        (120.0, 60.0, True, "2 s ago"),
        (30.0, 60.0, True, "0.5 s ago"),
        (9.0, 60.0, False, "now"),
        (None, 1.0, False, ""),
    ],
)
def test_age_is_judged_in_laboratory_time_and_told_in_wall_time(
    age: float | None, speed: float, stale: bool, text: str
) -> None:
    of = status(latest=readings(voltage=3.8), age=age, stale_after=10.0)
    view = channel_view(of, current=True, speed=speed)
    assert (view.stale, view.age_text) == (stale, text)
    assert view.tone == ("notice" if stale else "active")


def test_readings_of_a_run_that_is_over_are_said_to_be_its_last() -> None:
    of = status("completed", latest=readings(voltage=3.8))
    assert channel_view(of, current=True, speed=1.0).age_text == "at the end of the run"
    assert channel_view(status("idle"), current=True, speed=1.0).age_text == ""


def test_a_reading_that_stays_behind_the_others_is_named() -> None:
    latest = {
        "voltage": Reading(value=3.8, time=100.0),
        "current": Reading(value=1e-3, time=93.0),
        "pressure": Reading(value=5e6, time=60.0),
    }
    view = channel_view(status(latest=latest, age=4.0, stale_after=10.0), current=True, speed=1.0)
    assert view.old == {"current", "pressure"}
    assert not view.stale
    over = status("completed", latest=latest, stale_after=10.0)
    assert channel_view(over, current=True, speed=1.0).old == set()


def test_step_cycle_progress_and_times_are_ready_to_show() -> None:
    of = status(
        step="CC charge",
        step_index=3,
        cycle=2,
        progress=0.4299,
        elapsed=200.0,
        time_left=4320.0,
        protocol="cccv",
        title="formation",
    )
    view = channel_view(of, current=True, speed=60.0)
    assert (view.step, view.cycle) == ("step 3 · CC charge", "cycle 2")
    assert (view.progress, view.progress_text) == (0.4299, "42 %")
    assert (view.elapsed, view.time_left) == ("3 min 20 s", "1 h 12 min left")
    assert view.protocol == "formation"
    assert (view.name, view.cell, view.simulated) == ("A1", "c1", True)


def test_what_a_channel_does_not_have_is_no_text() -> None:
    view = channel_view(status("idle", cell=None), current=True, speed=1.0)
    assert view.cell == "no cell"
    texts = (view.step, view.cycle, view.progress_text, view.time_left, view.elapsed)
    assert texts == ("",) * 5
    assert view.progress is None
    assert view.protocol == view.reason == ""
    done = status("completed", progress=1.0, time_left=0.0, protocol="cccv")
    view = channel_view(done, current=True, speed=1.0)
    assert (view.time_left, view.progress_text, view.protocol) == ("", "100 %", "cccv")


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_progress_is_a_fraction_or_nothing_and_full_only_at_the_end(progress: float) -> None:
    view = channel_view(status(progress=progress), current=True, speed=1.0)
    assert view.progress is None or 0.0 <= view.progress <= 1.0
    if view.progress_text == "100 %":
        assert progress > 1.0 - 1e-9


@pytest.mark.skipif(shutil.which("fc-list") is None, reason="fontconfig is not installed")
@pytest.mark.parametrize("state", STATES)
def test_a_sign_is_in_the_font_that_is_always_there(state: State) -> None:
    for letter in GLYPHS[state]:
        found = subprocess.run(
            ["fc-list", f":family=DejaVu Sans:charset={ord(letter):x}"],
            capture_output=True,
            text=True,
            check=True,
        )
        if not subprocess.run(
            ["fc-list", ":family=DejaVu Sans"], capture_output=True, text=True, check=True
        ).stdout:
            pytest.skip("DejaVu Sans is not installed")
        assert found.stdout, f"DejaVu Sans has no {letter}"


@pytest.mark.parametrize("state", ["paused", "held"])
def test_what_waits_at_open_circuit_says_so_and_its_last_readings_are_the_last(
    state: State,
) -> None:
    latest = readings(voltage=3.8, current=3e-3, charge=3.0, pressure=5e6)
    of = status(state, output="off", reason="asked by the operator", latest=latest, age=0.1)
    view = channel_view(of, current=True, speed=60.0)
    assert view.circuit == f"{state} at open circuit, output read back off"
    assert view.brief == f"{view.circuit.capitalize()} · asked by the operator"
    last = {name for name in latest if view.is_last(name)}
    assert last == {"voltage", "current"}
    lost = channel_view(of, current=False, speed=60.0, unseen=3.0)
    assert lost.circuit == ""
    assert lost.is_last("pressure")


def test_an_output_that_was_not_read_back_is_not_called_open_circuit() -> None:
    for output in ("on", "unknown"):
        view = channel_view(status("paused", output=output), current=True, speed=1.0)
        assert view.circuit == ""
        assert "read back off" not in view.brief


def test_a_killed_run_says_its_output_once_and_in_short_words() -> None:
    long = (
        "the program that ran it died without an end. Its watchdog switches the output off; look "
        "at the instrument; its output was read back off when this station started"
    )
    today = datetime.now().astimezone().replace(hour=0, minute=7).timestamp()
    of = status("killed", attention=True, output="off", output_at=today, reason=long)
    view = channel_view(of, current=True, speed=1.0)
    assert view.brief == ("The station died. Output read back off at 00:07. Check the instrument.")
    assert view.reason == long
    doubt = channel_view(of.model_copy(update={"output": "unknown"}), current=True, speed=1.0)
    assert doubt.brief == "The station died. Check the instrument."


def test_a_reason_that_tells_the_output_is_followed_by_no_second_one() -> None:
    of = status("aborted", reason="; its output was read back off when this station started")
    view = channel_view(of, current=True, speed=1.0)
    assert view.brief == view.reason == "its output was read back off when this station started"
