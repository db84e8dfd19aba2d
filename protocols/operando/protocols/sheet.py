"""The limit sheet: where each limit of a run is enforced, how late it can act, what is left.

It is made before the run from what instruments state about themselves; nothing is connected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.conditions import (
    CURRENT,
    VOLTAGE,
    All,
    AnyOf,
    Comparison,
    Condition,
    Held,
    Operator,
    voltage_bound,
)
from operando.instruments.limits import STALE_AFTER, Action, Limit
from operando.instruments.quantities import format_quantity
from operando.instruments.roles import Protection
from operando.instruments.techniques import SpectrumRequest
from operando.instruments.units import LARGEST
from operando.instruments.words import condition_words, quantity_words
from operando.protocols.on_board import OUT_OF_SIGHT
from operando.protocols.tally import ELECTRICAL

EVENT_LOOP_DELAY = 0.010
"""Allowance for this process's own scheduling, s; measured by `benchmarks/limit_latency.py`."""

VOLTAGE_MARGIN_ABOVE = 0.05
VOLTAGE_MARGIN_BELOW = 0.30
CURRENT_MARGIN = 1.2
CURRENT_AT_REST = 10e-6
"""Default limits: 50 mV above the window, 0.3 V below it (a freshly assembled cell may rest
below its window), 1.2 times the highest current, and 10 uA where none is asked for. Our choice; a
recipe overrides them."""

AT_THE_END = "the run has ended, however it ended"
"""When a chamber or press that a run has driven is brought into its safe state."""

DEFAULT_MARK = " (default)"
"""Ends the name of a limit that is added by itself."""


@dataclass(frozen=True, slots=True)
class SheetLine:
    """One limit, or what an instrument carries out by itself.

    when: the limit passed, or what is carried out. layers: where a limit is enforced. latency:
    worst case of the runner's layer, s; None where nothing has to act. without_host,
    without_link: what is left when this process or the computer dies, and when the instrument
    cannot be reached; "" where the latency says all.
    """

    name: str
    when: str
    action: str
    layers: tuple[str, ...]
    latency: float | None
    without_host: str
    without_link: str = ""


def limit_sheet(
    limits: Iterable[Limit],
    capabilities: Capabilities,
    protection: Protection,
    *,
    poll_interval: float,
    monitor_interval: float,
    watchdog_time: float,
) -> tuple[SheetLine, ...]:
    """Lines of the sheet.

    protection: the run's window and highest current. An instrument enforces a limit only where
    the set-points stay inside of it.
    poll_interval, monitor_interval: s. watchdog_time: wall s from the death of the engine to the
    output being read back open. A limit's `for`, slope window and grace are part of its latency,
    which holds while the instrument answers.
    """
    stays_on = capabilities.when_host_is_silent is not WhenHostIsSilent.SWITCHES_OFF
    lines = []
    for limit in limits:
        electrical = bool(limit.when.quantities & ELECTRICAL)
        period = poll_interval if electrical else monitor_interval
        latency = _waits(limit.when) + limit.grace + period
        latency += capabilities.fastest_sampling + capabilities.off_time + EVENT_LOOP_DELAY
        latency += capabilities.reading_age if electrical else 0.0
        layers = ["runner"]
        on_board = ""
        if _outside_window(limit.when, protection) and "voltage cut-off" in capabilities.on_board:
            on_board = "the cut-off of each set-point"
        elif _above_currents(limit.when, protection) and "current limit" in capabilities.on_board:
            on_board = "the current limit of each set-point"
        if on_board:
            layers.insert(0, f"instrument ({on_board})")
        if limit.action is Action.WARN:
            without_host = "nothing: it only warns"
        elif on_board:
            without_host = f"{on_board} goes on acting, even if the computer dies"
        elif stays_on:
            without_host = (
                f"the watchdog switches off within {watchdog_time:g} s if this process dies; "
                "NOTHING if the computer dies"
            )
        else:
            without_host = "the instrument switches off by itself"
        lines.append(
            SheetLine(limit.name, str(limit.when), limit.action.value, tuple(layers), latency,
                      without_host)
        )  # fmt: skip
    return tuple(lines)


def on_board_limits(limits: Iterable[Limit], protection: Protection) -> frozenset[str]:
    """Names of the limits that an instrument enforces itself where it carries out steps alone."""
    return frozenset(
        limit.name
        for limit in limits
        if _outside_window(limit.when, protection) or _above_currents(limit.when, protection)
    )


def actuator_line(
    name: str, capabilities: Capabilities, safe_state: str, *, watchdog_time: float
) -> SheetLine:
    """A chamber or press that a run drives: its safe state, and what it does without a host.

    name: on the bench. safe_state: the word of its settings, "" if it has no choice.
    watchdog_time: wall s, as for `limit_sheet`.
    """
    stays = capabilities.when_host_is_silent is not WhenHostIsSilent.SWITCHES_OFF
    without_host = "it stops by itself"
    if stays:
        on_board = ", ".join(sorted(capabilities.on_board)) or "nothing"
        without_host = (
            f"it goes on holding its last set-point (on board: {on_board}); the watchdog brings it "
            f"into its safe state within {watchdog_time + capabilities.off_time:.2g} s if this "
            "process dies; NOTHING does if the computer dies"
        )
    return SheetLine(
        name,
        AT_THE_END,
        f"{safe_state} (its safe state)" if safe_state else "safe state",
        ("runner",),
        capabilities.off_time + EVENT_LOOP_DELAY,
        without_host,
    )


def on_board_line(
    name: str, steps: int, duration: float | None, *, watchdog_time: float
) -> SheetLine:
    """What becomes of steps that the potentiostat carries out by itself when nobody looks on.

    name: on the bench. steps: of the longest schedule. duration: its estimated s, None if not
    known. watchdog_time: wall s, as for `limit_sheet`.
    """
    number = "1 step" if steps == 1 else f"{steps} steps"
    lasts = "for a time that cannot be estimated"
    if duration is not None:
        lasts = f"about {format_quantity(duration, 's')}"
    patience = format_quantity(OUT_OF_SIGHT, "s")
    return SheetLine(
        f"steps on board of {name}",
        f"up to {number}, {lasts}, run by the instrument itself",
        "on board",
        (),
        None,
        f"the watchdog stops them within {watchdog_time:g} s if this process dies; if the computer "
        "dies they go on to their end, within the protection of their schedule, and then the "
        "circuit opens",
        "they go on within the protection of their schedule, and no other limit can stop them; "
        f"the run ends when nothing was heard for {patience}, and the watchdog goes on trying",
    )


def bounds_line(
    name: str, bounds: Iterable[str], *, stays_on: bool, watchdog_time: float
) -> SheetLine:
    """What a potentiostat keeps voltage and current within by itself, whoever looks on.

    name: on the bench. bounds: of its capabilities. stays_on: whether its output does when the
    computer falls silent. watchdog_time: wall s, as for `limit_sheet`.
    """
    left = "they go on acting if the computer dies, and nothing ends the step but they"
    if not stays_on:
        left = "the instrument switches off by itself if the computer dies"
    return SheetLine(
        f"bounds on board of {name}",
        "; ".join(bounds),
        "on board",
        (),
        None,
        f"the watchdog switches off within {watchdog_time:g} s if this process dies; {left}",
        "they go on acting; no other limit of voltage and current sees anything",
    )


def spectrum_line(
    name: str, spectra: Iterable[SpectrumRequest], *, watchdog_time: float
) -> SheetLine:
    """What limits can do while spectra are measured on board.

    name: on the bench. spectra: at least one. watchdog_time: wall s, as for `limit_sheet`.
    """
    longest = max(spectra, key=lambda one: one.duration)
    lasts = quantity_words(longest.duration, "s", digits=2)
    slowest = quantity_words(longest.periods / longest.frequencies[-1], "s", digits=2)
    return SheetLine(
        f"spectra on board of {name}",
        f"up to {len(longest.frequencies)} points, at least {lasts}; the last point alone takes "
        f"{slowest} or more. No voltage is read meanwhile: limits of voltage and current do not "
        "act, the instrument holds the bias and opens the circuit at more current than its range. "
        "Limits of pressure, temperature and gas act as ever",
        "on board",
        (),
        None,
        f"the watchdog stops it within {watchdog_time:g} s if this process dies; if the computer "
        "dies it goes on to its last frequency, and then the circuit opens",
        "it goes on to its last frequency, and then the circuit opens; no limit can stop it",
    )


def sweep_line(name: str, duration: float, *, watchdog_time: float) -> SheetLine:
    """What limits can do while a voltage is swept on board.

    name: on the bench. duration: of the longest sweep, s. watchdog_time: wall s.
    """
    return SheetLine(
        f"sweeps on board of {name}",
        f"up to {quantity_words(duration, 's', digits=2)}; every point is read, and all limits act "
        "on it as on any reading",
        "on board",
        (),
        None,
        f"the watchdog stops it within {watchdog_time:g} s if this process dies; if the computer "
        "dies it goes on towards its last voltage, within the instrument's own bounds",
        "it goes on within the instrument's own bounds; no other limit can stop it",
    )


def _outside_window(when: Condition, protection: Protection) -> bool:
    """Whether every set-point stops before a limit of the voltage alone is passed."""
    inner = when.condition if isinstance(when, Held) else when
    low, high = protection.voltage
    upper, lower = voltage_bound((inner,), 1), voltage_bound((inner,), -1)
    return (
        inner.quantities == {"voltage"}
        and (upper is None or upper >= high)
        and (lower is None or lower <= low)
        and (upper is not None or lower is not None)
    )


def _above_currents(when: Condition, protection: Protection) -> bool:
    """Whether no set-point can drive the current of a limit."""
    inner = when.condition if isinstance(when, Held) else when
    return (
        isinstance(inner, Comparison)
        and _bounds_current(inner)
        and inner.bound >= protection.current
    )


def contradictions(limits: Iterable[Limit], protection: Protection) -> tuple[str, ...]:
    """Limits that the plan itself will pass, in words: the run would be ended by them."""
    found = []
    low, high = protection.voltage
    for limit in limits:
        if limit.action is Action.WARN:
            continue
        words = f"{limit.name} ({condition_words(limit.when)})"
        upper, lower = voltage_bound((limit.when,), 1), voltage_bound((limit.when,), -1)
        if upper is not None and upper < high:
            found.append(f"{words} lies below the window's {quantity_words(high, 'V')}")
        if lower is not None and lower > low:
            found.append(f"{words} lies above the window's {quantity_words(low, 'V')}")
        current = _bounds_current(limit.when) and isinstance(limit.when, Comparison)
        if current and limit.when.bound < protection.current:  # type: ignore[attr-defined]
            found.append(
                f"{words} is below the highest current of the plan, "
                f"{quantity_words(protection.current, 'A')}"
            )
    return tuple(found)


def _bounds_current(when: Condition) -> bool:
    """Whether a limit bounds the magnitude of the current, at once or after a `for`."""
    if isinstance(when, Held):
        return _bounds_current(when.condition)
    if isinstance(when, AnyOf):
        return any(map(_bounds_current, when.conditions))
    return (
        isinstance(when, Comparison)
        and when.operand == abs(CURRENT)
        and when.operator in (Operator.ABOVE, Operator.AT_LEAST)
    )


def _waits(when: Condition) -> float:
    """Longest time for which a condition must hold before it is true, s."""
    if isinstance(when, Held):
        return when.duration + _waits(when.condition)
    if isinstance(when, AnyOf | All):
        return max(map(_waits, when.conditions))
    return max(when.windows, default=0.0)


def default_limits(
    window: tuple[float, float],
    highest_current: float,
    voltages: tuple[float, float],
    poll_interval: float,
) -> tuple[Limit, ...]:
    """Upper and lower limit of the voltage and one of the current: every run has these.

    window: of the protocol, V. highest_current: of the plan, A. voltages: between which the cell
    may be, V; no limit lies beyond them. poll_interval: s.
    """
    lower, upper = window
    above = min(_rounded(upper + VOLTAGE_MARGIN_ABOVE), voltages[1])
    below = max(_rounded(lower - VOLTAGE_MARGIN_BELOW), voltages[0])
    most = _rounded_up(CURRENT_MARGIN * highest_current) or CURRENT_AT_REST
    stale_after = max(STALE_AFTER, 3.0 * poll_interval)
    return tuple(
        Limit(name + DEFAULT_MARK, when, Action.TRIP, stale_after=stale_after)
        for name, when in (
            ("over_voltage", VOLTAGE > above),
            ("under_voltage", VOLTAGE < below),
            ("over_current", abs(CURRENT) > most),
        )
    )


def _rounded(voltage: float) -> float:
    """To 0.1 mV, much less than the margin."""
    return round(voltage, 4)


def _rounded_up(current: float) -> float:
    """To three digits, never below."""
    nearest = float(f"{current:.3g}")
    return nearest if nearest >= current * (1.0 - 1e-9) else float(f"{1.005 * current:.3g}")


def missing_limits(limits: Iterable[Limit], defaults: Iterable[Limit]) -> tuple[Limit, ...]:
    """The default limits that have to stand beside these, which are bound to their cell.

    One is left out where a limit that trips or holds acts whenever it would, and as early; or
    where one has its name and bounds the same side: that is what its author asked for.
    """
    given = [limit for limit in limits if limit.action is not Action.WARN]
    return tuple(
        default
        for default in defaults
        if not any(_covers(one, default) or _replaces(one, default) for one in given)
    )


def unguarded(limits: Iterable[Limit]) -> tuple[str, ...]:
    """Sides on which nothing ends a run: "over-voltage", "under-voltage", "over-current"."""
    acting = [limit for limit in limits if limit.action is not Action.WARN]
    sides = {
        "over-voltage": VOLTAGE > LARGEST,
        "under-voltage": VOLTAGE < -LARGEST,
        "over-current": abs(CURRENT) > LARGEST,
    }
    return tuple(
        name
        for name, beyond in sides.items()
        if not any(_follows(limit.when, beyond, patient=True) for limit in acting)
    )


def loosened(limits: Iterable[Limit], defaults: Iterable[Limit]) -> tuple[str, ...]:
    """Limits that take a default's place by their name and let the cell go further, in words."""
    return tuple(
        f"{one.name} ({condition_words(one.when)}) lets the cell go further than the default in "
        f"its place ({condition_words(default.when)})"
        for default in defaults
        for one in limits
        if one.action is not Action.WARN
        and _replaces(one, default)
        and not _follows(one.when, default.when, patient=True)
    )


def _covers(limit: Limit, default: Limit) -> bool:
    """Whether a limit acts whenever a default would, and not later."""
    return (
        limit.grace <= default.grace
        and limit.stale_after <= default.stale_after
        and _follows(limit.when, default.when)
    )


def _replaces(limit: Limit, default: Limit) -> bool:
    return limit.name == default.name.removesuffix(DEFAULT_MARK) and _same_side(
        limit.when, default.when
    )


def _follows(when: Condition, default: Condition, *, patient: bool = False) -> bool:
    """Whether `when` is true as soon as `default`, a plain comparison, is.

    patient: also when it becomes true a `for` later.
    """
    if isinstance(when, Held):
        return patient and _follows(when.condition, default, patient=True)
    if isinstance(when, AnyOf):
        return any(_follows(part, default, patient=patient) for part in when.conditions)
    if isinstance(when, All):
        return all(_follows(part, default, patient=patient) for part in when.conditions)
    if not _same_side(when, default):
        return False
    assert isinstance(when, Comparison)
    assert isinstance(default, Comparison)
    if default.operator is Operator.ABOVE:
        return when.bound <= default.bound
    return when.bound >= default.bound


def _same_side(when: Condition, default: Condition) -> bool:
    """Whether a condition bounds the quantity of a plain comparison on its side, anywhere."""
    if isinstance(when, Held):
        return _same_side(when.condition, default)
    if isinstance(when, AnyOf):
        return any(_same_side(part, default) for part in when.conditions)
    if not (isinstance(when, Comparison) and isinstance(default, Comparison)) or when.unbound:
        return False
    above = (Operator.ABOVE, Operator.AT_LEAST)
    return when.operand == default.operand and (
        (when.operator in above) == (default.operator in above)
    )
