"""A channel as an operator reads it: every text, sign and permission of a card, ready to show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from operando.gui.models.units import (
    charge_text,
    clock_text,
    current_text,
    display,
    duration_text,
)
from operando.gui.theme import Tone
from operando.station.client import UNDER_WAY, ChannelStatus, State

GLYPHS: Mapping[State, str] = {
    "idle": "○",
    "preparing": "◔",
    "running": "▶",
    "paused": "❚❚",
    "held": "◆",
    "completed": "✓",
    "tripped": "▲",
    "aborted": "■",
    "faulted": "✕",
    "refused": "⊘",
    "killed": "✕",
}
"""Signs of the states, all in DejaVu Sans; state is never said by colour alone."""

TONES: Mapping[State, Tone] = {
    "idle": "idle",
    "preparing": "active",
    "running": "active",
    "paused": "notice",
    "held": "notice",
    "completed": "good",
    "tripped": "bad",
    "aborted": "idle",
    "faulted": "bad",
    "refused": "notice",
    "killed": "bad",
}
"""What a state means as long as nothing else is wrong."""

WORDS: Mapping[State, str] = {"killed": "killed: the station died"}
"""States that need more than their name."""

NOT_VERIFIED = "OUTPUT NOT VERIFIED: assume that it is ON"

AROUND = (
    "o2",
    "temperature",
    "chamber_temperature",
    "h2o",
    "dew_point",
    "relative_humidity",
    "box_pressure",
    "force",
)
"""What is measured around a cell, what is looked at most first."""

PRESSES = frozenset({"load_cell", "pressure_controller"})
"""Roles of instruments that tell the stack pressure."""

ASSUME = "ASSUME THAT"
"""In a reason: an output could not be read back when the run ended."""

SHORT = 48
"""Letters of a reason that a state text holds."""

LAST_SEEN = " (last seen)"
"""End of a state text that is not the present one."""

OPEN = frozenset({"paused", "held"})
"""States that wait at open circuit: nothing is read at the potentiostat, and no charge passes."""

DRIVEN = ("voltage", "current")
"""What is read at the potentiostat, and may be another after the circuit was opened."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """What a card or the head of a page shows of a channel; every text is ready, "" is nothing.

    reason: why it is in its state, or why an instrument of it cannot be used.
    voltage ... charge: last committed readings; "—" when not known or not valid. pressure: "" where
    nothing measures it. around: readings of what is around the cell, in words; around_short: the
    same in few letters. tools: names of the channel's instruments.
    stale: these readings are older than they should be, or the station is lost.
    over: no run is under way, so that they are the last of the run before and not of now.
    old: the quantities among them whose own reading is older than it should be, or which are not
    measured while the circuit is open.
    brief: the reason or else what it does, and what is known of its output, in a few words.
    circuit: that it waits at open circuit, if it does and that was read back.
    known: of a killed run, until when it is known and how long ago that was.
    age_text: wall time since the newest of them. progress: 0 ... 1.
    elapsed, time_left: laboratory time. output_text: what is known of the output.
    can_...: which buttons can be pressed; a stop can be whenever a run may be under way.
    """

    name: str
    cell: str
    state_text: str
    glyph: str
    tone: Tone
    reason: str
    voltage: str
    current: str
    pressure: str
    charge: str
    stale: bool
    age_text: str
    step: str
    cycle: str
    progress: float | None
    progress_text: str
    time_left: str
    elapsed: str
    protocol: str
    attention: bool
    output_text: str
    can_start: bool
    can_pause: bool
    can_resume: bool
    can_stop: bool
    can_acknowledge: bool
    stopping: bool
    simulated: bool
    old: frozenset[str] = frozenset()
    over: bool = False
    brief: str = ""
    circuit: str = ""
    around: str = ""
    around_short: str = ""
    tools: str = ""
    known: str = ""
    can_continue: bool = False
    can_end_step: bool = False

    def is_last(self, quantity: str) -> bool:
        """Whether a reading is the last that there was and says nothing of now.

        What passed stays passed: a charge is as true after the run as in it.
        """
        return quantity != "charge" and (self.over or self.stale or quantity in self.old)

    @property
    def last_seen(self) -> bool:
        """Whether the station is not heard, so that all this is what was last seen."""
        return self.state_text.endswith(LAST_SEEN)

    @property
    def word(self) -> str:
        """Its state as one word or two, without a reason: "running", "stopping…"."""
        return self.state_text.removesuffix(LAST_SEEN).partition(":")[0]


def channel_view(
    status: ChannelStatus,
    *,
    current: bool,
    speed: float,
    unseen: float | None = None,
    now: float | None = None,
) -> ChannelView:
    """What to show of a channel.

    current: whether the station is heard; if not, nothing here claims to be the present state.
    speed: laboratory seconds a wall second. unseen: wall s since the station's last sign of life,
    used when it is not heard; None when not known. now: Unix time of the station, s.
    """
    under_way = status.state in UNDER_WAY
    aged = _is_older(_age(status), status.stale_after)
    progress = _fraction(status.progress)
    return ChannelView(
        name=status.name,
        cell=status.cell.name if status.cell is not None else "no cell",
        state_text=_state_text(status, current=current),
        glyph=GLYPHS[status.state],
        tone=_tone(status, current=current, aged=aged),
        reason=_reason(status, now),
        voltage=display("voltage").text(_value(status, "voltage")),
        current=current_text(_value(status, "current")),
        pressure=_pressure_text(status),
        charge=charge_text(_value(status, "charge")),
        stale=aged or not current,
        age_text=_age_text(status, current=current, speed=speed, unseen=unseen),
        step=_step_text(status),
        cycle=f"cycle {status.cycle}" if status.cycle > 0 else "",
        progress=progress,
        progress_text="" if progress is None else f"{math.floor(100.0 * progress + 1e-9)} %",
        time_left=(
            f"{duration_text(status.time_left)} left"
            if under_way and status.time_left is not None
            else ""
        ),
        elapsed="" if status.elapsed is None else duration_text(status.elapsed),
        protocol=status.title or status.protocol,
        attention=status.attention,
        output_text=_output_text(status, current=current),
        can_start=current and not under_way and not status.attention and not status.stopping,
        can_pause=current and status.state == "running" and not status.stopping,
        can_resume=current and status.state in {"paused", "held"} and not status.stopping,
        can_stop=not current or under_way or status.stopping or _output_in_doubt(status),
        can_acknowledge=current and status.attention,
        can_continue=current and _is_killed(status) and not status.obstacle,
        can_end_step=current
        and status.state in {"running", "paused"}
        and status.step_index > 0
        and not status.stopping,
        stopping=status.stopping,
        simulated=status.simulated,
        old=_old_quantities(status),
        over=not under_way and bool(status.latest),
        brief=_brief(status, current=current, now=now),
        circuit=_circuit(status, current=current),
        around=" · ".join(_around(status, short=False)),
        around_short=" · ".join(_around(status, short=True)),
        tools=" · ".join(tool.name for tool in status.instruments),
        known=_known(status, now),
    )


def _is_killed(status: ChannelStatus) -> bool:
    return status.state == "killed" and status.died is not None and not status.stopping


def _known(status: ChannelStatus, now: float | None) -> str:
    """Until when a killed run is known. now: Unix time of the station, s."""
    if not _is_killed(status) or status.died is None:
        return ""
    gap = "" if now is None else f", {duration_text(now - status.died)} ago"
    return f"Known until {clock_text(status.died)}{gap}."


def _state_text(status: ChannelStatus, *, current: bool) -> str:
    text = WORDS.get(status.state, status.state)
    if status.stopping:
        text = "stopping…"
    elif status.state == "held" and status.reason:
        text = f"held: {_short(status.reason)}"
    elif TONES[status.state] == "bad" and not status.attention:
        text = f"{status.state}, acknowledged"
    return text if current else f"{text}{LAST_SEEN}"


def _tone(status: ChannelStatus, *, current: bool, aged: bool) -> Tone:
    if status.attention or _output_in_doubt(status):
        return "bad"
    tone = TONES[status.state]
    if tone == "bad":
        # Acknowledged and read back off: red is for what still wants somebody.
        tone = "idle"
    if status.stopping or (aged and tone == "active"):
        tone = "notice"
    return "idle" if not current and tone in {"active", "good"} else tone


def _output_in_doubt(status: ChannelStatus) -> bool:
    over = status.state not in UNDER_WAY and not status.stopping
    return status.output == "unknown" or (status.output == "on" and over)


def _output_text(status: ChannelStatus, *, current: bool) -> str:
    if _output_in_doubt(status):
        return NOT_VERIFIED
    if status.output == "on":
        return "" if current else "output was on when last seen"
    if not current:
        return "output was off when last seen"
    # Nobody has looked since then: a front panel may have switched it on.
    when = "" if status.output_at is None else f" at {clock_text(status.output_at)}"
    return f"output read back off{when}"


def _reason(status: ChannelStatus, now: float | None = None) -> str:
    if status.state in UNDER_WAY:
        return status.reason
    if known := _known(status, now):
        why = f"It cannot go on: {status.obstacle}." if status.obstacle else ""
        reason = f"{status.reason[:1].upper()}{status.reason[1:]}"
        return " ".join(part for part in (known, why, reason) if part)
    if reason := status.reason.removeprefix("; "):  # of several parts the first may be empty
        return reason
    problems = (tool for tool in status.instruments if tool.problem)
    return next((f"{tool.name} cannot be used: {tool.problem}" for tool in problems), "")


def _circuit(status: ChannelStatus, *, current: bool) -> str:
    if not current or status.state not in OPEN or status.output != "off" or status.stopping:
        return ""
    return f"{status.state} at open circuit, output read back off"


def _brief(status: ChannelStatus, *, current: bool, now: float | None) -> str:
    """Each fact once: what a warning says already is not said again."""
    output = _output_text(status, current=current)
    output = "" if output == NOT_VERIFIED else output
    if status.state == "killed":
        look = "Check the instrument." if status.attention else ""
        said = f"{output[:1].upper()}{output[1:]}." if output else ""
        known = _known(status, now)
        stays = "It cannot go on." if status.obstacle else ""
        return " ".join(part for part in ("The station died.", known, stays, said, look) if part)
    circuit = _circuit(status, current=current)
    reason = _reason(status)
    if circuit:
        parts = [f"{circuit[:1].upper()}{circuit[1:]}", reason]
    elif reason:
        # A reason that names what was read back needs it no second time.
        parts = [reason, "" if "read back off" in reason else output]
        if status.output == "off" and ASSUME in reason:
            # What the run could not do has been done since: that comes first.
            parts = [f"{output[:1].upper()}{output[1:]}", reason]
    else:
        elapsed = "" if status.elapsed is None else duration_text(status.elapsed)
        parts = [status.title or status.protocol, elapsed, output]
    return " · ".join(part for part in parts if part)


def _age_text(status: ChannelStatus, *, current: bool, speed: float, unseen: float | None) -> str:
    if not current:
        return "last seen before" if unseen is None else f"last seen {duration_text(unseen)} ago"
    if status.state not in UNDER_WAY:
        return "at the end of the run" if status.latest else ""
    age = _age(status)
    if age is None:
        return ""
    wall = max(0.0, age) / speed
    if wall >= 1.0:
        return f"{duration_text(wall)} ago"
    # At a high speed readings can be too old in less than a second of the wall.
    return f"{wall:.1f} s ago" if _is_older(age, status.stale_after) else "now"


def _age(status: ChannelStatus) -> float | None:
    """Age of what is shown, s: while it drives, of the voltage, whatever else is still read."""
    voltage = status.latest.get("voltage")
    if status.age is None or voltage is None or status.state != "running":
        return status.age
    return status.age + max(each.time for each in status.latest.values()) - voltage.time


def _step_text(status: ChannelStatus) -> str:
    if status.step_index < 1:
        return status.step
    return f"step {status.step_index}" + (f" · {status.step}" if status.step else "")


def _old_quantities(status: ChannelStatus) -> frozenset[str]:
    if status.state not in UNDER_WAY or not status.latest:
        return frozenset()
    newest = max(reading.time for reading in status.latest.values()) + (status.age or 0.0)
    old = {
        name
        for name, reading in status.latest.items()
        if _is_older(newest - reading.time, status.stale_after)
    }
    if status.state in OPEN:
        # At once, and not when they have become old: they are of the closed circuit.
        old |= status.latest.keys() & set(DRIVEN)
    return frozenset(old)


def _is_older(age: float | None, most: float | None) -> bool:
    return age is not None and most is not None and age > most


def _value(status: ChannelStatus, quantity: str) -> float | None:
    reading = status.latest.get(quantity)
    return None if reading is None else reading.value


def _pressure_text(status: ChannelStatus) -> str:
    if "pressure" in status.latest or any(one.role in PRESSES for one in status.instruments):
        return display("pressure").text(_value(status, "pressure"))
    return ""


def _around(status: ChannelStatus, *, short: bool) -> Iterator[str]:
    """Each reading around the cell in words; one that is older than it should be says so."""
    old = _old_quantities(status)
    for name in AROUND:
        if name in status.latest:
            shown = display(name)
            label = (shown.short or shown.label) if short else shown.label
            late = " (old)" if name in old else ""
            yield f"{label} {shown.text(_value(status, name))}{late}"


def _fraction(progress: float | None) -> float | None:
    if progress is None or not math.isfinite(progress):
        return None
    return min(1.0, max(0.0, progress))


def _short(reason: str) -> str:
    """The beginning of a reason, whole words of it."""
    clause = reason.partition(";")[0].strip()
    if len(clause) <= SHORT:
        return clause
    return clause[:SHORT].rpartition(" ")[0].rstrip(",:") + "…"
