"""Prior-predictive intervals: what the presets' stated ranges allow a held-out result to be.

Every number of a preset that states a range is drawn from it, uniformly, or uniformly in its
logarithm where a positive range spans a decade or more; a calibrated number too where it states
one, and nothing is calibrated anew. A number of the same name has the same quantile in all cells
of one draw, so that cells differ by what makes them different. Runs go to the model directly, for
speed.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, TypeVar

import numpy as np

from operando.instruments.errors import OperandoError
from operando.simulators.cell import CellParameters, Provenance, presets
from operando.simulators.cell.lithium import LithiumParameters
from operando.simulators.cell.parameters import PRESET_FOLDER, read_preset
from operando.simulators.cell.pellet import PelletParameters
from operando.validation import other_cells as others
from operando.validation.direct import DirectCell, cycling, first_cycle, gap_at_half
from operando.validation.published import Target

COVERAGE = 0.90
"""Probability that an interval is meant to hold."""

DECADE = 10.0

Parameters = TypeVar("Parameters", CellParameters, LithiumParameters, PelletParameters)


@dataclass(frozen=True, slots=True)
class Interval:
    """A prior-predictive interval: its bounds, how many draws gave it, how many of them failed."""

    low: float
    high: float
    draws: int
    failed: int

    def holds(self, value: float) -> bool:
        """Whether a value lies within."""
        return self.low <= value <= self.high


def drawn(
    parameters: Parameters, provenance: Mapping[str, Provenance], index: int, seed: int
) -> Parameters:
    """The parameters of one draw. index: which, from 0. seed: of all of them."""
    values = {}
    for name, entry in provenance.items():
        if entry.plausible is None:
            continue
        low, high = entry.plausible
        quantile = random.Random(f"{name}/{seed}/{index}").random()
        if low > 0.0 and high >= DECADE * low:
            values[name] = math.exp(math.log(low) + quantile * math.log(high / low))
        else:
            values[name] = low + quantile * (high - low)
    return replace(parameters, **values)


def rate_bundle(parameters: CellParameters) -> dict[str, float]:
    """V-04 and V-05."""
    cell = DirectCell(parameters)
    first_cycle(cell)
    slow = cell.cycle(0.1, 0.1, 4.25, down_to=0.05).discharge.charge
    for rate in (0.2, 0.33, 0.5, 1.0):
        cell.cycle(0.1, rate, 4.25, down_to=0.05)
    fast = cell.cycle(0.1, 2.0, 4.25, down_to=0.05).discharge.charge
    return {"V-04": cell.specific(fast), "V-05": 100.0 * fast / slow}


def cycling_bundle(parameters: CellParameters) -> dict[str, float]:
    """V-10 and V-12."""
    cycles = cycling(DirectCell(parameters), 100, 4.25)
    return {
        "V-10": 100.0 * min(cycle.efficiency for cycle in cycles[1:]),
        "V-12": 1e3 * (gap_at_half(cycles[-1]) - gap_at_half(cycles[0])),
    }


def stress_bundle(parameters: CellParameters) -> dict[str, float]:
    """V-11."""
    cycles = cycling(DirectCell(parameters), 50, 4.35)
    return {"V-11": 100.0 * cycles[-1].discharge.charge / cycles[0].discharge.charge}


@dataclass(frozen=True, slots=True)
class Bundle(Generic[Parameters]):
    """Held-out results that one simulation of a cell gives, by id of their target.

    kind: of preset. run: gives them in the targets' units. fixed_preset: the preset where it does
    not follow from the case.
    """

    ids: frozenset[str]
    kind: type[Parameters]
    run: Callable[[Parameters], Mapping[str, float]]
    fixed_preset: str = ""

    def simulated(
        self, preset: str, draws: int, seed: int
    ) -> tuple[tuple[Mapping[str, float], ...], int]:
        """The results of the draws from a preset, and how many draws failed."""
        parameters, provenance = read_preset(PRESET_FOLDER / f"{preset}.toml", self.kind)
        given: list[Mapping[str, float]] = []
        for index in range(draws):
            with contextlib.suppress(OperandoError, ValueError, ArithmeticError):
                result = self.run(drawn(parameters, provenance, index, seed))
                if all(math.isfinite(value) for value in result.values()):
                    given.append(result)
        return tuple(given), draws - len(given)


BUNDLES: tuple[
    Bundle[CellParameters] | Bundle[LithiumParameters] | Bundle[PelletParameters], ...
] = (
    Bundle(frozenset({"V-04", "V-05"}), CellParameters, rate_bundle),
    Bundle(frozenset({"V-10", "V-12"}), CellParameters, cycling_bundle),
    Bundle(frozenset({"V-11"}), CellParameters, stress_bundle),
    Bundle(
        frozenset({"V-18-lno"}),
        PelletParameters,
        lambda p: {"V-18-lno": others.static_growth(p)},
        others.PRESETS["V-18 lno"],
    ),
    Bundle(
        frozenset({"V-40"}),
        LithiumParameters,
        lambda p: {"V-40": others.titration_exponent(p)},
        others.PRESETS["V-40"],
    ),
    Bundle(
        frozenset({"V-60"}),
        PelletParameters,
        lambda p: {"V-60": others.crossing(p)},
        others.PRESETS["V-60"],
    ),
)
"""What can be predicted, simulation by simulation."""


def intervals(target: Target, *, draws: int, seed: int) -> dict[str, Interval]:
    """Intervals of a held-out target by case; only those there are.

    A draw in which the cell does not reach the end of the protocol is counted and left out. What
    one simulation gives for several targets is simulated once.
    """
    bundle = next((b for b in BUNDLES if target.id in b.ids), None)
    if bundle is None or draws == 0:
        return {}
    found = {}
    for case in target.cases:
        preset = bundle.fixed_preset or target.presets[case]
        if preset in presets(None):
            series, failed = _series(BUNDLES.index(bundle), preset, draws, seed)
            found[case] = _interval([given[target.id] for given in series], draws, failed)
    return found


@cache
def _series(
    place: int, preset: str, draws: int, seed: int
) -> tuple[tuple[Mapping[str, float], ...], int]:
    """What a bundle gives for the draws of a preset, and how many draws failed."""
    return BUNDLES[place].simulated(preset, draws, seed)


def _interval(series: Sequence[float], draws: int, failed: int) -> Interval:
    if not series:
        return Interval(math.nan, math.nan, draws, failed)
    tail = 0.5 * (1.0 - COVERAGE)
    low, high = np.quantile(np.asarray(series), (tail, 1.0 - tail))
    return Interval(float(low), float(high), draws, failed)
