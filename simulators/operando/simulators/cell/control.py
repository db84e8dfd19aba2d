"""What may be asked of a simulated cell, of whatever kind."""

import math

from operando.simulators.cell.state import Source

LONGEST_LIFE = 1e9
"""Time after assembly to which a cell is followed, s: 30 years, with steps still told apart."""
LARGEST_SETTING = 1e6
"""V, A or ohm. No source is set beyond it; it keeps every number of the model finite."""
COLDEST, HOTTEST = 150.0, 600.0
"""K, between which a temperature may be set; our choice, beyond every glovebox and oven."""


def check_source(source: Source) -> None:
    """Raise ValueError for a source that no cell can be connected to."""
    largest = max(abs(source.level), source.limit, source.resistance)
    if not math.isfinite(source.level + source.limit + source.resistance):
        raise ValueError(f"a source needs finite numbers, not {source!r}")
    if largest > LARGEST_SETTING:
        raise ValueError(f"no source is set beyond {LARGEST_SETTING:g} V, A or ohm: {source!r}")
    if source.resistance < 0.0:
        raise ValueError(f"leads have no negative resistance: {source.resistance!r} ohm")


def check_start(start: float) -> None:
    """Raise ValueError for a time of assembly (s) that is none."""
    if not math.isfinite(start):
        raise ValueError(f"a cell needs a finite time of assembly, not {start!r}")


def check_temperature(kelvin: float) -> None:
    """Raise ValueError for a temperature (K) at which no cell is simulated."""
    if not (math.isfinite(kelvin) and COLDEST < kelvin < HOTTEST):
        raise ValueError(
            f"a cell needs a temperature between {COLDEST:g} and {HOTTEST:g} K, not {kelvin!r}"
        )
