"""Orders: what a run is to do, resolved for one channel before anything is connected."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from operando.instruments.bench import Bench, ChannelEntry
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Limit
from operando.instruments.recipe import Poll, Recipe, RecordConditions
from operando.instruments.roles import Protection
from operando.protocols import (
    Cell,
    OpenCircuitWindow,
    Plan,
    Preview,
    RunSettings,
    preview,
    with_defaults,
)
from operando.protocols.tally import ELECTRICAL
from operando.station.assembly import check_role, protocol_function
from operando.station.client.models import Problem

OPEN_CIRCUIT_BELOW = 0.5
OPEN_CIRCUIT_ABOVE = 0.05
"""Accepted open-circuit voltage of a cell before its first step: the protocol's window widened by
these volts. A freshly assembled cell rests well below its window (about 2.6 V vs Li)."""


@dataclass(frozen=True)
class Order:
    """All that a run needs to know beside the bench.

    limits: those asked for; default ones are added for what they leave unguarded.
    open_circuit: accepted voltage before the first step, V; None derives it from the window.
    recipe_text: the recipe as written, for the record. title: of the recipe.
    """

    plan: Plan
    limits: tuple[Limit, ...] = ()
    record: RecordConditions = field(default_factory=RecordConditions)
    poll: Poll = field(default_factory=Poll)
    open_circuit: tuple[float, float] | None = None
    check_open_circuit: bool = True
    recipe_text: str = ""
    title: str = ""


def order_from(recipe: Recipe) -> Order:
    """What a recipe orders. Raises BadInputError for an unknown protocol or parameter."""
    return Order(
        plan=protocol_function(recipe.protocol).plan(recipe.parameters, where=recipe.where),
        limits=recipe.limits,
        record=recipe.record,
        poll=recipe.poll,
        open_circuit=recipe.open_circuit,
        check_open_circuit=recipe.check_open_circuit,
        recipe_text=recipe.source,
        title=recipe.title,
    )


@dataclass(frozen=True)
class Settled:
    """An order resolved for one channel: every number in SI units, nothing connected yet."""

    entry: ChannelEntry
    cell: Cell
    preview: Preview
    limits: tuple[Limit, ...]
    settings: RunSettings


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
    return Cell(bench.cells[entry.cell])


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
        if "potentiostat" not in entry.roles:
            raise BadInputError(f"{entry.where}: channel {channel} has no potentiostat")
    except BadInputError as error:
        return None, [Problem(where="", message=str(error))]
    try:
        lower, upper = order.plan.window()
        ahead = preview(order.plan, cell)
    except BadInputError as error:
        message = str(error)
        return None, [Problem(where=_parameter_in(message, order.plan), message=message)]
    limits: list[Limit] = []
    for limit in with_defaults(
        order.limits, order.plan, ahead.highest_current, order.poll.interval
    ):
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
    window = order.open_circuit or (lower - OPEN_CIRCUIT_BELOW, upper + OPEN_CIRCUIT_ABOVE)
    settings = RunSettings(
        poll=order.poll,
        limits=tuple(limits),
        record=order.record,
        protection=Protection((lower, upper), ahead.highest_current),
        open_circuit=OpenCircuitWindow(*window) if order.check_open_circuit else None,
    )
    problems += _unmeasured(limits, entry)
    problems += _short_windows(limits, ahead, order.poll)
    problems += _hasty_staleness(limits, entry, order.poll)
    return Settled(entry, cell, ahead, tuple(limits), settings), problems


def _parameter_in(message: str, plan: Plan) -> str:
    """The field of a protocol's own complaint: "window: the lower ..." is that of `window`."""
    first = re.match(r"\w+", message)
    known = first is not None and first[0] in plan.parameters
    return f"parameters.{first[0]}" if first is not None and known else ""


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


def _hasty_staleness(limits: Iterable[Limit], entry: ChannelEntry, poll: Poll) -> list[Problem]:
    """A limit must not take the time between two polls for a sensor that fell silent."""
    slowest = max(map(poll.of, entry.roles.values()), default=poll.interval)
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


def _unmeasured(limits: Iterable[Limit], entry: ChannelEntry) -> list[Problem]:
    """A limit on a quantity that nothing on the channel measures would never act."""
    measured = set(ELECTRICAL)
    if "load_cell" in entry.roles:
        measured.add("pressure")
    return [
        Problem(
            where=f"limits.{limit.name}.when",
            message=f"limit {limit.name} watches {quantity}, but nothing on channel {entry.name} "
            f"({entry.where}) measures it",
        )
        for limit in limits
        for quantity in sorted(limit.when.quantities - measured)
    ]
