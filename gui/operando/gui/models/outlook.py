"""What a checked run would be like, in words: its size, its length, when it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from operando.gui.models.units import current_text
from operando.instruments.words import bound_words
from operando.station.client import UNDER_WAY, CellInfo, ChannelStatus, CheckReport, LimitInfo

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """Lines about a run. size: steps and estimated duration. done: when, "" when not known."""

    size: str
    done: str


def outlook(
    report: CheckReport,
    speed: float | None,
    now: float,
    local: Callable[[float], datetime] = datetime.fromtimestamp,
) -> Outlook:
    """How long and until when, if it started now.

    speed: laboratory seconds a wall second, None when not known. now: Unix time, s. local: makes
    local time of it.
    """
    more = "" if report.complete else " or more"
    size = f"{report.steps} step{'' if report.steps == 1 else 's'}{more}"
    if report.duration is None:
        return Outlook(f"{size}, for a time that cannot be estimated", "")
    size += f", about {duration_words(report.duration)}"
    if speed is None or speed <= 0.0:
        return Outlook(size, "")
    seconds = report.duration / speed
    done = f"done about {moment(local(now + seconds), local(now))}"
    if speed == 1.0:
        return Outlook(size, done)
    return Outlook(
        f"{size} of laboratory time",
        f"{done} by the wall clock, in {duration_words(seconds)} at ×{speed:g}",
    )


def duration_words(seconds: float) -> str:
    """A duration rounded to what matters: "45 s", "12 min", "3 h 20 min", "2 d 5 h"."""
    if seconds < _MINUTE:
        return f"{math.ceil(seconds):d} s"
    minutes = round(seconds / _MINUTE)
    if minutes < 60:
        return f"{minutes} min"
    if seconds < _DAY - 30.0:
        return _two(minutes, 60, "h", "min")
    return _two(round(seconds / _HOUR), 24, "d", "h")


def _two(count: int, per: int, large: str, small: str) -> str:
    whole, rest = divmod(count, per)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def moment(then: datetime, now: datetime) -> str:
    """A time in words: "16:40" today, "Thu 16:40" within a week, else "Thu 12 Nov, 16:40"."""
    days = (then.date() - now.date()).days
    if days == 0:
        return f"{then:%H:%M}"
    if 0 < days < 7:
        return f"{then:%a %H:%M}"
    return f"{then:%a} {then.day} {then:%b, %H:%M}"


def one_c_words(cell: CellInfo | None) -> str:
    """What 1C is for a cell, or why that is not known."""
    if cell is None:
        return "no cell on this channel"
    if not cell.capacity:
        return "its capacity is not known: no C-rates"
    return f"1C = {current_text(cell.capacity / 3600.0)}"


def duration_within(seconds: float) -> str:
    """A reaction time: "0.25 s", "1.5 s", "2 min"."""
    return f"{seconds:.2g} s" if seconds < 10.0 else duration_words(seconds)


def summary(report: CheckReport) -> str:
    """Plan and limits in a line: "4 steps · off outside 2.2 V to 4.3 V, above 1.89 mA"."""
    more = "" if report.complete else " or more"
    plan = f"{report.steps} step{'' if report.steps == 1 else 's'}{more}"
    return f"{plan} · {guard_words(report.limits)}"


def guard_words(limits: Iterable[LimitInfo]) -> str:
    """The tightest limits that trip or hold: "off outside 2.2 V to 4.3 V or above 3.77 mA"."""
    acting = [limit for limit in limits if limit.action != "warn"]
    told: set[str] = set()

    def tightest(quantity: str, *, above: bool, magnitude: bool) -> float | None:
        found = [
            limit
            for limit in acting
            if (limit.quantity, limit.above, limit.magnitude) == (quantity, above, magnitude)
        ]
        told.update(limit.name for limit in found)
        bounds = [limit.bound for limit in found if limit.bound is not None]
        return (min if above else max)(bounds, default=None)

    low = tightest("voltage", above=False, magnitude=False)
    high = tightest("voltage", above=True, magnitude=False)
    most = tightest("current", above=True, magnitude=True)
    parts = []
    if low is not None and high is not None:
        parts.append(f"outside {bound_words(low, 'V')} to {bound_words(high, 'V')}")
    elif high is not None:
        parts.append(f"above {bound_words(high, 'V')}")
    elif low is not None:
        parts.append(f"below {bound_words(low, 'V')}")
    if most is not None:
        parts.append(f"above {bound_words(most, 'A')}")
    others = len({limit.name for limit in acting} - told)
    if others:
        parts.append(f"{others} more limit{'' if others == 1 else 's'}")
    return f"off {', '.join(parts)}" if parts else "no limit switches off"


def channel_note(channel: ChannelStatus | None) -> str:
    """Why a channel would not start a run now, "" when it might; the station alone decides."""
    if channel is None:
        return ""
    if channel.state in UNDER_WAY:
        return f"{channel.name} is {channel.state}: {channel.title or channel.protocol}"
    if channel.attention:
        return f"{channel.name} waits to be acknowledged ({channel.state}): {channel.reason}"
    return ""
