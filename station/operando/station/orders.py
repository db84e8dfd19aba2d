"""Orders: what a run is to do, resolved for one channel before anything is connected."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, floor, isclose
from pathlib import Path
from typing import get_args, get_type_hints

from operando.instruments.bench import PLAUSIBLE_VOLTAGES, Bench, CellEntry, ChannelEntry
from operando.instruments.conditions import (
    VOLTAGE,
    All,
    AnyOf,
    Comparison,
    Condition,
    Held,
    Magnitude,
)
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Limit
from operando.instruments.quantities import Quantity
from operando.instruments.recipe import Poll, Preflight, Recipe, RecordConditions
from operando.instruments.roles import Galvanostatic, Potentiostatic, Protection, SetPoint
from operando.instruments.words import quantity_words
from operando.protocols import (
    Cell,
    OpenCircuitWindow,
    Plan,
    Preview,
    RunSettings,
    contradictions,
    default_limits,
    loosened,
    missing_limits,
    preview,
)
from operando.protocols.actuator_steps import ActuatorStep
from operando.protocols.actuators import no_actuator
from operando.protocols.chemistries import chemistry_limits, chemistry_of, with_chemistry
from operando.protocols.lint import notes_on
from operando.protocols.sheet import CURRENT_AT_REST, unguarded
from operando.protocols.tally import ELECTRICAL
from operando.station.assembly import check_monitor, check_role, driver_info, protocol_function
from operando.station.client.models import Problem
from operando.station.predicted import prediction_of

OPEN_CIRCUIT_BELOW = 0.5
OPEN_CIRCUIT_ABOVE = 0.05
"""Accepted open-circuit voltage of a cell before its first step: the protocol's window widened by
these volts. A freshly assembled cell rests well below its window (about 2.6 V vs Li)."""

NO_TWIN = (
    "{words} residual, but the recipe names no twin; make a dry run (operando check RECIPE "
    '--dry-run --output FOLDER) and write twin = "FOLDER/..." into the recipe'
)
_MEASURED_BY = {
    "pressure": 'load_cell = "..." or pressure_controller = "..."',
    "chamber_temperature": 'temperature_controller = "..." or shared = ["..."]',
    "temperature": 'thermometer = "..." or shared = ["..."]',
}
"""What to write for a quantity to be measured; the others are of glovebox monitors."""
_OTHERS = 'glovebox_monitor = "..." or shared = ["..."]'

MOST_STEPS = 1_000_000
"""Steps of a plan that is believed: at a second each it lasts twelve days."""


@dataclass(frozen=True)
class Order:
    """All that a run needs to know beside the bench.

    limits: those asked for; default ones are added for what they leave unguarded.
    preflight: what must be found before the first step. twin: record of a dry run of the same
    plan, from whose voltage `residual` is counted.
    recipe_text, recipe_path: the recipe as written and where, for the record. title: of the recipe.
    """

    plan: Plan
    limits: tuple[Limit, ...] = ()
    record: RecordConditions = field(default_factory=RecordConditions)
    poll: Poll = field(default_factory=Poll)
    preflight: Preflight = field(default_factory=Preflight)
    recipe_text: str = ""
    recipe_path: str = ""
    twin: Path | None = None
    title: str = ""


def order_from(recipe: Recipe, scripts: Path | None = None) -> Order:
    """What a recipe orders. Raises BadInputError for an unknown protocol or parameter.

    scripts: the bench's folder of protocol scripts. A script that the recipe names is looked for
    beside it as well, if the recipe's path is absolute.
    """
    near = recipe.path.parent if recipe.path.is_absolute() else None
    line = recipe.lines.get(("protocol",))
    place = f"{recipe.path.name} line {line}: protocol" if line else recipe.path.name
    function = protocol_function(recipe.protocol, place, near=near, scripts=scripts)
    return Order(
        plan=function.plan(recipe.parameters, where=recipe.where),
        limits=recipe.limits,
        record=recipe.record,
        poll=recipe.poll,
        preflight=recipe.preflight,
        recipe_text=recipe.source,
        recipe_path=str(recipe.path),
        twin=recipe.path.parent / recipe.twin if recipe.twin else None,
        title=recipe.title,
    )


@dataclass(frozen=True)
class Settled:
    """An order resolved for one channel: every number in SI units, nothing connected yet.

    warnings: it would run, but read this.
    """

    plan: Plan
    entry: ChannelEntry
    cell: Cell
    preview: Preview
    limits: tuple[Limit, ...]
    settings: RunSettings
    warnings: tuple[str, ...] = ()


def cell_of(bench: Bench, channel: str) -> Cell:
    """The cell on a channel. Raises BadInputError for an unknown channel or one without cell."""
    entry = bench.channels.get(channel)
    if entry is None:
        raise BadInputError(
            f"{bench.path.name}: there is no channel '{channel}'; it has: "
            + ", ".join(sorted(bench.channels))
        )
    if not entry.cell:
        raise BadInputError(f'{entry.where}: channel {channel} names no cell; add cell = "..."')
    return Cell(with_chemistry(bench.cells[entry.cell]))


def settle(bench: Bench, channel: str, order: Order) -> Settled:
    """Resolve an order for a channel. Raises BadInputError; touches nothing."""
    settled, problems = resolve(bench, channel, order)
    if settled is None or problems:
        raise BadInputError(problems[0].message)
    return settled


def resolve(bench: Bench, channel: str, order: Order) -> tuple[Settled | None, list[Problem]]:
    """Resolve an order and collect all that is wrong with it, field by field; touches nothing.

    None instead of the settled order when there is too little to go on with.
    """
    problems: list[Problem] = []
    try:
        cell = cell_of(bench, channel)
        entry = bench.channels[channel]
        for role, name in entry.roles.items():
            check_role(role, bench.instruments[name], channel)
        for name in entry.shared:
            check_monitor(bench.instruments[name], channel)
        if "potentiostat" not in entry.roles:
            raise BadInputError(f"{entry.where}: channel {channel} has no potentiostat")
    except BadInputError as error:
        return None, [Problem(where="", message=str(error))]
    try:
        lower, upper = order.plan.window()
        ahead = preview(order.plan, cell)
        predicted = prediction_of(order.twin, ahead) if order.twin is not None else None
    except BadInputError as error:
        message = str(error)
        return None, [Problem(where=_parameter_in(message, order.plan), message=message)]
    limits: list[Limit] = []
    for limit in order.limits:
        try:
            limits.append(
                limit.bind(
                    capacity=cell.entry.capacity,
                    area=cell.entry.area,
                    mass=cell.entry.active_mass,
                )
            )
        except BadInputError as error:
            problems.append(Problem(where=f"limits.{limit.name}.when", message=str(error)))
    defaults = default_limits(
        (lower, upper), ahead.highest_current, cell.entry.voltage_range, order.poll.interval
    )
    warnings = (*loosened(limits, defaults), *_no_room((lower, upper), cell.entry))
    if order.plan.protocol.script is not None:
        warnings += notes_on(order.plan.protocol.script)
    beyond = _beyond_range(order, (lower, upper), cell, ahead, limits)
    chemistry = chemistry_of(cell.entry)
    measured = _measured(entry, bench) - ({"residual"} if predicted is None else set())
    if chemistry is not None:
        slowest = max(map(order.poll.of, entry.instruments))
        defaults += chemistry_limits(chemistry, measured, ahead.steps, slowest)
    limits += missing_limits(limits, defaults)
    problems += (
        Problem(where="limits", message=f"nothing ends this run at {side}; add a limit that does")
        for side in unguarded(limits)
    )
    window = order.preflight.open_circuit
    if window is None and chemistry is not None:
        window = chemistry.open_circuit
    if window is None:
        window = lower - OPEN_CIRCUIT_BELOW, upper + OPEN_CIRCUIT_ABOVE
    settings = RunSettings(
        poll=order.poll,
        limits=tuple(limits),
        record=order.record,
        # A run that only rests drives nothing, but no instrument is set to protect from nothing.
        protection=Protection((lower, upper), ahead.highest_current or CURRENT_AT_REST),
        open_circuit=OpenCircuitWindow(*window),
        preflight=order.preflight,
        predicted=predicted,
    )
    problems += beyond
    problems += _too_many_steps(order.plan, ahead)
    problems += _without_actuator(ahead, entry)
    problems += _unmeasured(limits, ahead, entry, measured)
    problems += _not_looked_at(order.preflight, entry, measured)
    problems += _short_windows(limits, ahead, order.poll)
    problems += _hasty_staleness(limits, entry, order.poll)
    problems += _not_together(entry, order.poll)
    settled = Settled(order.plan, entry, cell, ahead, tuple(limits), settings, warnings)
    return settled, problems


def limit_problems(
    bench: Bench, settled: Settled, order: Order, limits: Collection[Limit]
) -> list[Problem]:
    """What is wrong with limits for a run that is under way, as `resolve` would tell at its start.

    limits: all of them, bound to the cell. What the plan itself would pass is a problem here.
    """
    protection, measured = settled.settings.protection, _measured(settled.entry, bench)
    low, high = protection.voltage
    problems = [
        Problem(where="limits", message=f"nothing would end this run at {side}")
        for side in unguarded(limits)
    ]
    problems += _beyond_range(order, (low, high), settled.cell, settled.preview, limits)
    problems += _unmeasured(limits, settled.preview, settled.entry, measured)
    problems += _short_windows(limits, settled.preview, order.poll)
    problems += (
        Problem(where="limits", message=f"{words}: the run would be ended by it")
        for words in contradictions(limits, protection)
    )
    return [problem for problem in problems if problem.where.startswith("limits")]


def _parameter_in(message: str, plan: Plan) -> str:
    """The field of a protocol's own complaint: "window: the lower ..." is that of `window`."""
    first = re.match(r"\w+", message)
    known = first is not None and first[0] in plan.parameters
    return f"parameters.{first[0]}" if first is not None and known else ""


def _beyond_range(
    order: Order,
    window: tuple[float, float],
    cell: Cell,
    ahead: Preview,
    limits: Iterable[Limit],
) -> list[Problem]:
    """Voltages that the cell must not see: of the window, of set-points, limits and preflight."""
    entry = cell.entry
    low, high = entry.voltage_range
    places: dict[tuple[str, float], str] = {}
    for end in window:
        places.setdefault(("parameters.window", end), "the window goes to")
    driven = {_voltage_of(step.setpoint(0.0)): step.label for step in ahead.steps}
    for voltage, label in driven.items():
        if voltage is None:
            continue
        for name in parameters_behind(order.plan, cell, voltage=voltage) or ("",):
            where = f"parameters.{name}" if name else ""
            places.setdefault((where, voltage), f"step '{label}' goes to")
    for limit in limits:
        for part in _comparisons(limit.when):
            both = isinstance(part.operand, Magnitude)
            if part.operand in (VOLTAGE, abs(VOLTAGE)) and not (both and part.bound <= -low):
                where = f"limits.{limit.name}.when"
                places.setdefault((where, part.bound), f"{limit.name} lies at")
    for end in order.preflight.open_circuit or ():
        places.setdefault(("preflight.open_circuit", end), "accepted at rest is")
    return [
        Problem(where=where, message=f"{words} {_beyond(at, entry)}")
        for (where, at), words in places.items()
        if not low <= at <= high
    ]


def _beyond(voltage: float, entry: CellEntry) -> str:
    low, high = entry.voltage_range
    believed = entry.voltage_range == PLAUSIBLE_VOLTAGES
    kind = "believed of a lithium cell" if believed else f"stated for {entry.name}"
    chemistry = chemistry_of(entry)
    if chemistry is not None and chemistry.voltage_range == entry.voltage_range:
        kind = f"of {chemistry.name} cells"
    wider = f'["{min(low, floor(voltage)):g} V", "{max(high, ceil(voltage)):g} V"]'
    place = f" ({entry.where})" if entry.where else ""
    return (
        f"{quantity_words(voltage, 'V')}, beyond the {quantity_words(low, 'V')} to "
        f"{quantity_words(high, 'V')} {kind}; if it is meant, write voltage_range = {wider} into "
        f"[cells.{entry.name}] of the bench file{place}"
    )


def _no_room(window: tuple[float, float], entry: CellEntry) -> Iterator[str]:
    """Default limits that the cell's range puts onto the window: noise would pass them."""
    for bound, end, name in zip(
        window, entry.voltage_range, ("under_voltage", "over_voltage"), strict=True
    ):
        if bound == end:
            yield (
                f"{name} lies at the window's {quantity_words(bound, 'V')}, because the "
                f"voltage_range of {entry.name} ends there: noise can pass it"
            )


def _voltage_of(setpoint: SetPoint) -> float | None:
    """The voltage that a set-point can drive the cell to, V; None for an open circuit."""
    if isinstance(setpoint, Galvanostatic):
        return setpoint.cutoff
    return setpoint.voltage if isinstance(setpoint, Potentiostatic) else None


def _comparisons(condition: Condition) -> Iterator[Comparison]:
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, Held):
        yield from _comparisons(condition.condition)
    elif isinstance(condition, All | AnyOf):
        for part in condition.conditions:
            yield from _comparisons(part)


def parameters_behind(
    plan: Plan, cell: Cell, *, voltage: float | None = None, current: float | None = None
) -> tuple[str, ...]:
    """Parameters that a set-point's voltage (V) or current (A, magnitude) was made from."""
    entry = cell.entry
    sizes = {"C": entry.capacity, "A": 1.0, "A/m2": entry.area, "A/kg": entry.active_mass}
    found: list[str] = []
    for name, unit in _units_of(plan.protocol.function).items():
        written = plan.parameters.get(name)
        values = written if isinstance(written, tuple | list) else (written,)
        numbers = [value for value in values if isinstance(value, float)]
        if unit == "V" and voltage is not None and voltage in numbers:
            found.append(name)
        if unit in sizes and current is not None:
            amperes = [abs(number) * sizes[unit] for number in numbers]
            if any(isclose(one, current, rel_tol=1e-9) for one in amperes):
                found.append(name)
    return tuple(found)


@lru_cache(maxsize=64)
def _units_of(function: Callable[..., object]) -> dict[str, str]:
    """Unit of each parameter that is a quantity or several of one kind."""
    hints = get_type_hints(function, include_extras=True)
    units = {name: _unit_in(hint) for name, hint in hints.items()}
    return {name: unit for name, unit in units.items() if unit}


def _unit_in(hint: object) -> str:
    for part in (*getattr(hint, "__metadata__", ()), *get_args(hint)):
        unit = part.unit if isinstance(part, Quantity) else _unit_in(part)
        if unit:
            return unit
    return ""


def _too_many_steps(plan: Plan, ahead: Preview) -> list[Problem]:
    """A count with some zeros too many. Judged by the cycles that the preview came through."""
    if ahead.complete or not ahead.steps:
        return []
    through = max(ahead.steps[-1].cycle, 1)
    return [
        Problem(
            where=f"parameters.{name}",
            message=f"{value:,} would be about {value * len(ahead.steps) // through:,} steps; a "
            f"plan of more than {MOST_STEPS:,} is hardly meant",
        )
        for name, value in plan.parameters.items()
        if isinstance(value, int) and value * len(ahead.steps) // through > MOST_STEPS
    ]


def _short_windows(limits: Iterable[Limit], ahead: Preview, poll: Poll) -> list[Problem]:
    """A slope needs three readings; over a shorter window it would never be defined."""
    slowest = max((poll.interval, *poll.instruments.values()))
    conditions = [(f"limits.{limit.name}.when", limit.when) for limit in limits]
    of_steps = dict.fromkeys(condition for step in ahead.steps for condition in step.until)
    conditions += [("poll.interval", condition) for condition in of_steps]
    return [
        Problem(
            where=where,
            message=f"condition '{condition}': its window holds fewer than three readings at one "
            f"in {slowest:g} s; widen the window, or poll faster ([poll] interval)",
        )
        for where, condition in conditions
        if any(window < 3.0 * slowest for window in condition.windows)
    ]


def _not_together(entry: ChannelEntry, poll: Poll) -> list[Problem]:
    """Instruments that are to be read together with the potentiostat, but are not there."""
    others = [name for name in entry.instruments if name != entry.roles["potentiostat"]]
    return [
        Problem(
            where="poll.together",
            message=f"channel {entry.name} ({entry.where}) has no instrument {name!r} beside its "
            f"potentiostat; it has: {', '.join(others) or 'none'}",
        )
        for name in poll.together
        if name not in others
    ]


def _hasty_staleness(limits: Iterable[Limit], entry: ChannelEntry, poll: Poll) -> list[Problem]:
    """A limit must not take the time between two polls for a sensor that fell silent."""
    slowest = max(map(poll.of, entry.instruments), default=poll.interval)
    return [
        Problem(
            where=f"limits.{limit.name}.stale_after",
            message=f"limit {limit.name} counts a reading as missing after "
            f"{limit.stale_after:g} s, but there is one in {slowest:g} s; write stale_after = "
            f'"{3.0 * slowest:g} s" into it, or poll faster ([poll] interval)',
        )
        for limit in limits
        if limit.stale_after < 2.0 * slowest
    ]


def _without_actuator(ahead: Preview, entry: ChannelEntry) -> list[Problem]:
    """Steps that ask for a chamber or press that the channel does not have."""
    missing = {
        step.role: step.label
        for step in ahead.steps
        if isinstance(step, ActuatorStep) and step.role not in entry.roles
    }
    return [
        Problem(where="", message=no_actuator(role, label, entry.name, entry.where))
        for role, label in missing.items()
    ]


def _measured(entry: ChannelEntry, bench: Bench) -> set[str]:
    """Quantities that the instruments of a channel give."""
    measured = set(ELECTRICAL)
    for name in entry.instruments:
        measured.update(driver_info(bench.instruments[name].driver).measures)
    return measured


def _not_looked_at(
    preflight: Preflight, entry: ChannelEntry, measured: Collection[str]
) -> list[Problem]:
    """What the recipe wants to be looked at before the first step and nothing measures."""
    asked = {name: getattr(preflight, name) for name in ("o2", "h2o", "dew_point", "pressure")}
    return [
        Problem(
            where=f"preflight.{name}",
            message=f"nothing on channel {entry.name} ({entry.where}) measures {name}; write "
            f"{_MEASURED_BY.get(name, _OTHERS)} into [channels.{entry.name}], or let the check "
            f'pass: [preflight] override = {{ {name} = "..." }}',
        )
        for name, bound in asked.items()
        if bound is not None and name not in measured and name not in preflight.override
    ]


def _unmeasured(
    limits: Iterable[Limit], ahead: Preview, entry: ChannelEntry, measured: set[str]
) -> list[Problem]:
    """A limit or the end of a step on what nothing on the channel measures would never act."""
    watching = [
        (f"limits.{limit.name}.when", f"limit {limit.name} watches", limit.when) for limit in limits
    ]
    ends = dict.fromkeys((step.label, end) for step in ahead.steps for end in step.until)
    watching += [("", f"step '{label}' waits for", end) for label, end in ends]
    return [
        Problem(
            where=where,
            message=NO_TWIN.format(words=words)
            if quantity == "residual"
            else f"{words} {quantity}, but nothing on channel {entry.name} ({entry.where}) "
            f"measures it; write {_MEASURED_BY.get(quantity, _OTHERS)} into "
            f"[channels.{entry.name}]" + (", or take the limit out" if where else ""),
        )
        for where, words, when in watching
        for quantity in sorted(when.quantities - measured)
    ]
