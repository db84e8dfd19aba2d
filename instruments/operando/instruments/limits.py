"""Limits: what must never happen, what is done about it, and who watches."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from operando.instruments import conditions
from operando.instruments.conditions import Condition
from operando.instruments.errors import BadInputError
from operando.instruments.evaluators import unknown
from operando.instruments.parameters import Where, unknown_key
from operando.instruments.quantities import QUANTITIES, Quantity, format_quantity

STALE_AFTER = 10.0
"""Age in s at which a reading no longer counts, unless a limit says otherwise."""


class Action(enum.Enum):
    """What a limit does when it acts."""

    WARN = "warn"
    """Tell people; the run goes on."""
    HOLD = "hold"
    """Open circuit; an operator can resume."""
    TRIP = "trip"
    """Safe state, latched until somebody acknowledges."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A condition that must not become true.

    grace: s for which it must stay true (or the sensor stale) before the limit acts.
    stale_after: age in s at which a reading counts as missing; a missing reading follows the
    limit's action after its grace.
    """

    name: str
    when: Condition
    action: Action
    grace: float = 0.0
    stale_after: float = STALE_AFTER

    def bind(self, *, capacity: float = 0.0, area: float = 0.0, mass: float = 0.0) -> Limit:
        """The limit with its condition bound to a cell, see `Condition.bind`."""
        return replace(self, when=self.when.bind(capacity=capacity, area=area, mass=mass))

    @property
    def sensors(self) -> frozenset[str]:
        """Measured quantities without which it is blind."""
        return frozenset(
            source for name in self.when.quantities for source in QUANTITIES[name].sources
        )

    def __str__(self) -> str:
        grace = f", grace {format_quantity(self.grace, 's')}" if self.grace else ""
        stale = (
            f", or no reading for {format_quantity(self.stale_after, 's')}" if self.sensors else ""
        )
        return f"{self.name}: {self.action.value} when {self.when}{stale}{grace}"


class Cause(enum.Enum):
    """Why a limit acted."""

    CONDITION = "condition"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Firing:
    """A limit that acts now.

    since: laboratory time in s when its condition became true or its reading stale.
    time: when it acted, s. values: of its quantities at that time, SI.
    """

    limit: Limit
    cause: Cause
    since: float
    time: float
    values: Mapping[str, float]

    @property
    def action(self) -> Action:
        """What is to be done."""
        return self.limit.action

    def __str__(self) -> str:
        if self.cause is Cause.STALE:
            what = f"no valid reading of {', '.join(sorted(self.limit.sensors))}"
        else:
            read = (
                f"{name} {format_quantity(value, QUANTITIES[name].unit)}"
                for name, value in sorted(self.values.items())
            )
            what = f"{self.limit.when} ({', '.join(read)})"
        lasted = self.time - self.since
        after = f" for {format_quantity(lasted, 's')}" if lasted > 0.0 else ""
        return f"limit {self.limit.name} acts ({self.action.value}): {what}{after}"


class _Watch:
    """One limit at work."""

    __slots__ = (
        "acted", "evaluator", "latched", "limit", "names", "sensors", "since", "stale_acted",
        "stale_since", "started",
    )  # fmt: skip

    def __init__(self, limit: Limit, started: float) -> None:
        self.limit = limit
        self.started = started
        self.evaluator = limit.when.evaluator(patient=True)
        self.names = limit.when.quantities
        self.sensors = tuple(limit.sensors)
        self.latched = False
        self.forget()

    def forget(self) -> None:
        self.evaluator.reset()
        self.since: float | None = None
        self.acted = False
        self.stale_since: float | None = None
        self.stale_acted = False


class LimitMonitor:
    """Watches limits over a run.

    A limit that warns or holds acts once per excursion; one that trips is latched and acts no
    more until `acknowledge`. started: laboratory time in s since which readings are expected.
    Raises BadInputError for a limit that is not bound to its cell.
    """

    def __init__(self, limits: Iterable[Limit], *, started: float = 0.0) -> None:
        self._watches = [_Watch(limit, started) for limit in limits]
        self._values: Mapping[str, float] = {}

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that are watched."""
        return tuple(watch.limit for watch in self._watches)

    @property
    def latched(self) -> tuple[str, ...]:
        """Names of the limits that tripped and were not acknowledged."""
        return tuple(watch.limit.name for watch in self._watches if watch.latched)

    @property
    def pending(self) -> Mapping[str, float]:
        """Limits within their grace, with the laboratory time (s) at which they will act."""
        found: dict[str, float] = {}
        for watch in self._watches:
            if watch.latched:
                continue
            starts = [
                since
                for since, acted in (
                    (watch.since, watch.acted),
                    (watch.stale_since, watch.stale_acted),
                )
                if since is not None and not acted
            ]
            if starts:
                found[watch.limit.name] = min(starts) + watch.limit.grace
        return found

    def exchange(self, limit: Limit) -> Limit:
        """Watch a limit instead of the one of its name, from now on; the one that it replaces.

        Raises BadInputError when there is none, or that has tripped.
        """
        for place, watch in enumerate(self._watches):
            if watch.limit.name == limit.name:
                if watch.latched:
                    raise BadInputError(f'limit "{limit.name}" has tripped; it is not changed now')
                self._watches[place] = _Watch(limit, watch.started)
                return watch.limit
        known = ", ".join(one.name for one in self.limits) or "none"
        raise BadInputError(f'there is no limit "{limit.name}"; there are: {known}')

    def update(
        self, time: float, values: Mapping[str, float], new: Collection[str] | None = None
    ) -> list[Firing]:
        """Judge a new sample; returns the limits that act now.

        time: stamp of the sample, s. values, new: as in `evaluators.Evaluator.update`. A NaN
        neither sets off a limit nor calms one that is within its grace.
        """
        self._values = values
        fired: list[Firing] = []
        for watch in self._watches:
            if watch.evaluator.update(time, values, new):
                if watch.since is None:
                    watch.since = time
                if not watch.acted and time - watch.since >= watch.limit.grace:
                    self._act(watch, Cause.CONDITION, watch.since, time, fired)
            elif watch.since is not None and not unknown(watch.names, values):
                watch.since = None
                watch.acted = False
        return fired

    def check_stale(
        self, time: float, ages: Mapping[str, float], excused: Collection[str] = ()
    ) -> list[Firing]:
        """Judge silence; to be called regularly, also while nothing is measured.

        time: now, s. ages: s since the latest *valid* reading of each measured quantity; one that
        is missing was never read. Also lets a grace run out when no sample comes any more.
        excused: names of limits that need no reading now, because the instrument enforces them.
        """
        fired: list[Firing] = []
        for watch in self._watches:
            limit = watch.limit
            if watch.since is not None and not watch.acted and time - watch.since >= limit.grace:
                self._act(watch, Cause.CONDITION, watch.since, time, fired)
            age, longest = 0.0, time - watch.started
            for name in watch.sensors:
                own = ages.get(name, math.inf)
                # A NaN age is no age at all. Nothing can be older than the watch itself.
                age = max(age, longest if math.isnan(own) else min(own, longest))
            if age <= limit.stale_after or limit.name in excused:
                watch.stale_since = None
                watch.stale_acted = False
                continue
            if watch.stale_since is None:
                watch.stale_since = time - (age - limit.stale_after)
            if not watch.stale_acted and time - watch.stale_since >= limit.grace:
                self._act(watch, Cause.STALE, watch.stale_since, time, fired)
        return fired

    def acknowledge(self, name: str) -> None:
        """Release a latched trip. It acts again if its reason persists, after its grace.

        Raises BadInputError when that limit has not tripped.
        """
        for watch in self._watches:
            if watch.limit.name == name and watch.latched:
                watch.latched = False
                watch.forget()
                return
        raise BadInputError(
            f'limit "{name}" has not tripped; latched: {", ".join(self.latched) or "none"}'
        )

    def reset(self, started: float, names: Collection[str] | None = None) -> None:
        """Restart windows, timers and graces, as after a pause. Latched trips stay latched.

        names: of the limits for which to do so; all if None.
        """
        for watch in self._watches:
            if names is None or watch.limit.name in names:
                watch.started = started
                watch.forget()

    def _act(
        self, watch: _Watch, cause: Cause, since: float, time: float, fired: list[Firing]
    ) -> None:
        if cause is Cause.STALE:
            watch.stale_acted = True
        else:
            watch.acted = True
        if watch.latched:
            return
        watch.latched = watch.limit.action is Action.TRIP
        values = {name: self._values.get(name, math.nan) for name in watch.names}
        fired.append(Firing(watch.limit, cause, since, time, values))


_KEYS = ["when", "action", "grace", "stale_after"]
_TIME = Quantity("s", "a time", "10 min", lowest=0.0)


def parse_limits(table: Mapping[str, object], where: Where) -> tuple[Limit, ...]:
    """Limits of a table `{name = { when = ..., action = ..., grace = ..., stale_after = ... }}`.

    where: place for messages, a text or a function of the limit's name and of "name.key".
    Raises BadInputError naming the limit, the key and the remedy.
    """
    place: Callable[[str], str] = where if callable(where) else lambda key: f"{where} {key}".strip()
    return tuple(_limit(name, entry, place) for name, entry in table.items())


def _limit(name: str, entry: object, place: Callable[[str], str]) -> Limit:
    if not isinstance(entry, Mapping):
        raise BadInputError(
            f'{place(name)}: a limit is a table: {name} = {{ when = "voltage > 4.3 V", '
            'action = "trip" }'
        )

    def text(key: str) -> str:
        value = entry.get(key)
        if isinstance(value, str):
            return value
        if value is None:
            raise BadInputError(f"{place(name)}: {key} is missing")
        raise BadInputError(f"{place(f'{name}.{key}')}: must be a text, found {value!r}")

    def seconds(key: str, default: float) -> float:
        if key not in entry:
            return default
        try:
            return _TIME.parse(entry[key])
        except BadInputError as error:
            raise BadInputError(f"{place(f'{name}.{key}')}: {error}") from None

    for key in entry:
        if key not in _KEYS:
            raise BadInputError(f"{place(f'{name}.{key}')}: {unknown_key(str(key), _KEYS)}")
    written = text("action")
    try:
        action = Action(written)
    except ValueError:
        raise BadInputError(
            f'{place(f"{name}.action")}: "{written}" is not an action; there are warn, hold, trip'
        ) from None
    try:
        when = conditions.parse(text("when"))
    except BadInputError as error:
        raise BadInputError(f"{place(f'{name}.when')}: {error}") from None
    stale_after = seconds("stale_after", STALE_AFTER)
    if stale_after <= 0.0:
        raise BadInputError(f"{place(f'{name}.stale_after')}: must be more than 0 s")
    return Limit(name, when, action, seconds("grace", 0.0), stale_after)
