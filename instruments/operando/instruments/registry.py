"""Plug-ins by name, as entry points: drivers, simulators, protocols, transports, windows."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Mapping
from importlib.metadata import EntryPoint

from operando.instruments.errors import BadInputError

DRIVERS = "operando.drivers"
SIMULATORS = "operando.simulators"
BENCHES = "operando.benches"
PROTOCOLS = "operando.protocols"
TRANSPORTS = "operando.transports"
WINDOWS = "operando.windows"
DISCOVERY = "operando.discovery"

GROUPS: Mapping[str, str] = {
    DRIVERS: "driver",
    SIMULATORS: "simulated instrument",
    BENCHES: "kind of simulated bench",
    PROTOCOLS: "protocol",
    TRANSPORTS: "transport",
    WINDOWS: "window",
    DISCOVERY: "way to look for instruments",
}
"""Groups of entry points with what they hold."""


def available(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name, sorted. Imports nothing.

    Raises BadInputError for an unknown group, and when two packages claim one name for different
    things: which of them would speak to the instrument must not depend on chance.
    """
    _check(group)
    found: dict[str, EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise BadInputError(
                f'two packages provide the {GROUPS[group]} "{point.name}": {_origin(other)} and '
                f"{_origin(point)}; uninstall one of them"
            )
    return dict(sorted(found.items()))


def load(group: str, name: str) -> object:
    """Import what an entry point names.

    Raises BadInputError for an unknown name (with those that exist) and for a failing import.
    """
    points = available(group)
    what = GROUPS[group]
    point = points.get(name)
    if point is None:
        near = difflib.get_close_matches(name, points, n=1, cutoff=0.5)
        hint = f' Did you mean "{near[0]}"?' if near else ""
        listed = ", ".join(points) or "none: is the package installed?"
        raise BadInputError(f'there is no {what} "{name}".{hint} Installed: {listed}')
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise BadInputError(
            f'the {what} "{name}" ({_origin(point)}) cannot be loaded: {error}; install what is '
            "missing, or install the package again"
        ) from error


def _check(group: str) -> None:
    if group not in GROUPS:
        raise BadInputError(f'there is no group "{group}"; there are {", ".join(GROUPS)}')


def _origin(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "unknown package"
    return f"{point.value} of {package}"
