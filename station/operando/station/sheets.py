"""The plan and the limit sheet of an order, as data for the API and as print for `operando check`.

Nothing here is connected: drivers are made, but their wires stay closed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.conditions import Comparison, Condition, Held, Live, Magnitude, Operator
from operando.instruments.errors import BadInputError, UnsupportedError
from operando.instruments.on_board import Sequencer, Stage
from operando.instruments.quantities import format_quantity
from operando.instruments.roles import Galvanostatic, Potentiostatic, SetPoint
from operando.instruments.safety import SLOW_OFF
from operando.instruments.techniques import Sweeper
from operando.instruments.words import condition_text_words, condition_words, quantity_words
from operando.protocols import SheetLine, Step, check_actuator, limit_sheet
from operando.protocols.actuator_steps import ActuatorStep
from operando.protocols.preflight import contact_request, why_no_contact
from operando.protocols.sheet import (
    AT_THE_END,
    actuator_line,
    bounds_line,
    on_board_line,
    spectrum_line,
    sweep_line,
)
from operando.protocols.steps import Impedance, VoltageSweep
from operando.station.assembly import instrument_of
from operando.station.client.models import LimitInfo, PlanRow, Problem
from operando.station.orders import Order, Settled, parameters_behind
from operando.station.watchdog import WATCHDOG_TIME

_TAME_CURRENT = 1e-6
"""A current that every potentiostat can drive, A."""


def plan_rows(steps: Iterable[Step]) -> tuple[PlanRow, ...]:
    """Kinds of steps in the order in which they first come, with how many there are of each."""
    counted = Counter((step.label, _words_of(step), step.until) for step in steps)
    return tuple(
        PlanRow(
            label=label,
            setpoint=setpoint,
            ends=" or ".join(map(condition_words, until)),
            times=times,
        )
        for (label, setpoint, until), times in counted.items()
    )


def _words_of(step: Step) -> str:
    return str(step) if isinstance(step, ActuatorStep) else _in_words(step.setpoint(0.0))


def _in_words(setpoint: SetPoint) -> str:
    if isinstance(setpoint, Galvanostatic):
        current = quantity_words(setpoint.current, "A")
        return f"{current}, cut off by the instrument at {quantity_words(setpoint.cutoff, 'V')}"
    if isinstance(setpoint, Potentiostatic):
        limit = quantity_words(setpoint.current_limit, "A")
        return f"{quantity_words(setpoint.voltage, 'V')}, at most {limit}"
    return "open circuit"


def limit_info(name: str, when: Condition, action: str) -> LimitInfo:
    """A limit with the line that can be drawn for it, if it compares one live quantity."""
    inner = when.condition if isinstance(when, Held) else when
    operand = inner.operand if isinstance(inner, Comparison) else None
    magnitude = isinstance(operand, Magnitude)
    live = operand.operand if isinstance(operand, Magnitude) else operand
    if not isinstance(inner, Comparison) or not isinstance(live, Live) or inner.unbound:
        return LimitInfo(name=name, when=str(when), action=action)
    return LimitInfo(
        name=name,
        when=str(when),
        action=action,
        quantity=live.name,
        bound=inner.bound,
        above=inner.operator in (Operator.ABOVE, Operator.AT_LEAST),
        magnitude=magnitude,
    )


def limit_lines(settled: Settled, bench: Bench, clock: Clock) -> tuple[SheetLine, ...]:
    """The limit sheet of an order on its channel; what is driven around the cell comes last.

    Raises BadInputError for a step that an instrument cannot do, and for wrong settings.
    """
    instruments = _instruments(settled, bench, clock)
    instrument = instruments["potentiostat"]
    problems = _unsupported(settled, instruments)
    if problems:
        raise BadInputError(f"channel {settled.entry.name}, {problems[0].message}")
    poll, watchdog_time = settled.settings.poll, _watchdog_time(instrument)
    lines = limit_sheet(
        settled.limits,
        instrument.capabilities,
        settled.settings.protection,
        poll_interval=poll.interval,
        monitor_interval=max(map(poll.of, settled.entry.instruments)),
        watchdog_time=watchdog_time,
    )
    driven = {step.role for step in settled.preview.steps if isinstance(step, ActuatorStep)}
    name = settled.entry.roles["potentiostat"]
    capabilities = instrument.capabilities
    if capabilities.bounds:
        stays_on = capabilities.when_host_is_silent is not WhenHostIsSilent.SWITCHES_OFF
        lines += (
            bounds_line(name, capabilities.bounds, stays_on=stays_on, watchdog_time=watchdog_time),
        )
    schedules = _schedules(settled, instrument)
    if schedules:
        steps, duration = max(schedules, key=lambda one: (one[1] or math.inf, one[0]))
        lines += (on_board_line(name, steps, duration, watchdog_time=watchdog_time),)
    ahead = settled.preview.steps
    spectra = [step.request(0.0) for step in ahead if isinstance(step, Impedance)]
    if spectra:
        lines += (spectrum_line(name, spectra, watchdog_time=watchdog_time),)
    sweeps = [step.request.duration for step in ahead if isinstance(step, VoltageSweep)]
    if sweeps and isinstance(instrument, Sweeper):
        lines += (sweep_line(name, max(sweeps), watchdog_time=watchdog_time),)
    return lines + tuple(
        actuator_line(
            settled.entry.roles[role],
            instruments[role].capabilities,
            _safe_state(bench.instruments[settled.entry.roles[role]], instruments[role]),
            watchdog_time=WATCHDOG_TIME,
        )
        for role in sorted(driven)
    )


def _watchdog_time(potentiostat: Any) -> float:
    """Seconds from the death of this process to the circuit being read back open."""
    off_time: float = potentiostat.capabilities.off_time
    return WATCHDOG_TIME + (off_time if off_time > SLOW_OFF else 0.0)


def _schedules(settled: Settled, instrument: Any) -> list[tuple[int, float | None]]:
    """Groups of steps that the potentiostat carries out by itself, whole.

    How many steps each has, and its estimated s; None where a step's cannot be estimated.
    """
    if not isinstance(instrument, Sequencer):
        return []
    limit = _highest_voltage(settled)
    found: dict[tuple[Stage, ...], tuple[int, float | None]] = {}
    for steps, durations in settled.preview.grouped():
        if any(isinstance(step, ActuatorStep) for step in steps):
            continue
        stages = tuple(Stage(step.setpoint(limit), step.until) for step in steps)
        found[stages] = len(steps), sum(durations) if all(durations) else None
    return [one for stages, one in found.items() if not instrument.why_not(stages)]


def _highest_voltage(settled: Settled) -> float:
    """Compliance with which the runner rests, V."""
    return max(map(abs, settled.settings.protection.voltage)) + 0.5


def _safe_state(entry: InstrumentEntry, instrument: Any) -> str:
    """Which safe state an instrument is set to; "" when it has no choice."""
    defaults = {field.name: field.default for field in fields(type(instrument).Settings)}
    return str(entry.settings.get("safe_state", defaults.get("safe_state", "")))


def _instruments(settled: Settled, bench: Bench, clock: Clock) -> dict[str, Any]:
    """Instruments of the channel by role, nothing opened."""
    return {
        role: instrument_of(bench.instruments[name], clock)
        for role, name in settled.entry.roles.items()
    }


def unsupported_steps(settled: Settled, bench: Bench, clock: Clock) -> list[Problem]:
    """Steps that an instrument cannot do, at the parameters that ask for them.

    Raises BadInputError for wrong settings of an instrument.
    """
    return _unsupported(settled, _instruments(settled, bench, clock))


def _unsupported(settled: Settled, instruments: Mapping[str, Any]) -> list[Problem]:
    instrument = instruments["potentiostat"]
    highest = _highest_voltage(settled)
    named = _named(settled)
    setpoints = {step.setpoint(highest): name for step, name in named}
    problems: dict[str, Problem] = {}
    for setpoint, name in setpoints.items():
        try:
            instrument.check(setpoint)
        except UnsupportedError as error:
            message = f"{name}: {error.reason}"
            for where in _asked_by(setpoint, settled, instrument):
                problems.setdefault(where, Problem(where=where, message=message))
    for problem in _no_contact(settled, instrument):
        problems[problem.where] = problem
    for step, name in named:
        try:
            check_actuator(step, instruments, settled.entry.name)
        except UnsupportedError as error:
            message = f"{name}: {error.reason}"
            problems.setdefault(message, Problem(where="", message=message))
    return list(problems.values())


def _no_contact(settled: Settled, instrument: Any) -> list[Problem]:
    """The check of contacts before the first step, where the instrument cannot make it."""
    preflight = settled.settings.preflight
    if preflight.contact is None or "contact" in preflight.override:
        return []
    highest = (instrument.capabilities.current or (0.0, math.inf))[1]
    # At the lower voltage of the window: the cell's own is not known yet.
    bias = settled.settings.protection.voltage[0]
    why_not = why_no_contact(instrument, contact_request(bias, preflight.contact, highest))
    if not why_not:
        return []
    message = f"the contacts cannot be measured on {settled.entry.roles['potentiostat']}: {why_not}"
    return [Problem(where="preflight.contact", message=message)]


def _named(settled: Settled) -> list[tuple[Step, str]]:
    """The steps ahead and what messages call them: label, and the line of a script."""
    ahead, script = settled.preview, settled.plan.protocol.script
    return [
        (step, f"step '{step.label}'" + (f" ({place})" if script is not None else ""))
        for step, place in zip(ahead.steps, ahead.places, strict=True)
    ]


def _asked_by(setpoint: SetPoint, settled: Settled, instrument: Any) -> tuple[str, ...]:
    """Fields of the parameters that a refused set-point was made from, ("",) if none is known."""
    plan, cell = settled.plan, settled.cell
    names: tuple[str, ...] = ()
    if isinstance(setpoint, Galvanostatic):
        tame = replace(setpoint, current=math.copysign(_TAME_CURRENT, setpoint.current))
        try:
            instrument.check(tame)
        except UnsupportedError:
            names = parameters_behind(plan, cell, voltage=setpoint.cutoff)
        else:
            names = parameters_behind(plan, cell, current=abs(setpoint.current))
    return tuple(f"parameters.{name}" for name in names) or ("",)


def print_plan(channel: str, settled: Settled, order: Order) -> None:
    """Print parameters with their values and the steps that would come."""
    console = Console(highlight=False)
    cell = settled.cell
    capacity = format_quantity(cell.entry.capacity, "mAh") if cell.entry.capacity else "unknown"
    protocol = order.plan.protocol
    console.print(f"[bold]channel {channel}[/bold]: {protocol.name} on cell {cell.name}")
    console.print(f"1C is {capacity} in one hour ({cell.entry.one_c or 'as given'})")
    table = Table("step", "set-point", "ends when", "times", title="steps ahead", expand=False)
    for row in plan_rows(settled.preview.steps):
        table.add_row(row.label, row.setpoint, row.ends, str(row.times))
    console.print(table)
    more = "" if settled.preview.complete else " or more"
    console.print(
        f"{len(settled.preview.steps)} steps{more}, about "
        f"{format_quantity(settled.preview.duration, 's')} if the cell has its nominal capacity"
    )
    settings = settled.settings
    every = settings.record.every
    console.print(
        f"read every {format_quantity(settings.poll.interval, 's')}, recorded every "
        + (format_quantity(every, "s") if every else "reading")
    )


def layer_words(layers: Iterable[str]) -> str:
    """Who enforces a limit, for people."""
    return ", ".join("software on this computer" if one == "runner" else one for one in layers)


def print_sheet(lines: Iterable[SheetLine], unidentified: Iterable[str] = ()) -> None:
    """Print the limit sheet. unidentified: instruments that cannot be told from their like."""
    console = Console(highlight=False)
    console.print("\n[bold]limit sheet[/bold]")
    for line in lines:
        what = line.when
        if line.latency is not None:
            what = f"{line.action} when {condition_text_words(line.when)}"
        console.print(f"[bold]{line.name}[/bold]: {what}")
        moment = "that" if line.when == AT_THE_END else "the limit being passed"
        within = "" if line.latency is None else f"{line.latency:.2f} s of {moment}"
        for title, text in (
            ("enforced by", layer_words(line.layers)),
            ("acts within", within),
            ("if its link is lost", line.without_link),
            ("if this program dies", line.without_host),
        ):
            if text:
                console.print(Padding(f"{title}: {text}", (0, 0, 0, 4)))
    for name in unidentified:
        console.print(
            f"{name} does not say who it is: nothing would notice if it were exchanged for another"
        )
