"""The limit sheet: where each limit of a run is enforced, how late it can act, what is left.

It is made before the run from what instruments state about themselves; nothing is connected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.conditions import (
    CURRENT,
    All,
    AnyOf,
    Comparison,
    Condition,
    Held,
    Operator,
    voltage_bound,
)
from operando.instruments.limits import Action, Limit
from operando.instruments.roles import Protection
from operando.protocols.tally import ELECTRICAL

EVENT_LOOP_DELAY = 0.010
"""Allowance for this process's own scheduling, s; measured by `benchmarks/limit_latency.py`."""


@dataclass(frozen=True, slots=True)
class SheetLine:
    """One limit. layers: where it is enforced. latency: worst case of the runner's layer, s."""

    name: str
    when: str
    action: str
    layers: tuple[str, ...]
    latency: float
    without_host: str


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


def _bounds_voltage(when: Condition, direction: int) -> bool:
    """Whether a limit bounds the voltage on one side, at once or after a `for`."""
    if isinstance(when, Held):
        return _bounds_voltage(when.condition, direction)
    if isinstance(when, AnyOf):
        return any(_bounds_voltage(part, direction) for part in when.conditions)
    return voltage_bound((when,), direction) is not None


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
        upper, lower = voltage_bound((limit.when,), 1), voltage_bound((limit.when,), -1)
        if upper is not None and upper < high:
            found.append(f"{limit.name} ({limit.when}) lies below the window's {high:g} V")
        if lower is not None and lower > low:
            found.append(f"{limit.name} ({limit.when}) lies above the window's {low:g} V")
        current = _bounds_current(limit.when) and isinstance(limit.when, Comparison)
        if current and limit.when.bound < protection.current:  # type: ignore[attr-defined]
            found.append(
                f"{limit.name} ({limit.when}) is below the highest current of the plan, "
                f"{1e3 * protection.current:.4g} mA"
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


def missing_limits(limits: Iterable[Limit]) -> tuple[str, ...]:
    """Which of over_voltage, under_voltage and over_current the limits leave unguarded."""
    tripping = [limit.when for limit in limits if limit.action is not Action.WARN]
    missing = []
    if not any(_bounds_voltage(when, 1) for when in tripping):
        missing.append("over_voltage")
    if not any(_bounds_voltage(when, -1) for when in tripping):
        missing.append("under_voltage")
    if not any(_bounds_current(when) for when in tripping):
        missing.append("over_current")
    return tuple(missing)
