"""Purifier of a glovebox: beds of copper and zeolite that fill up, and their regeneration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from operando.simulators.devices.device import Options

CIRCULATION = 50.0 / 3600.0
"""Gas through the purifier, m3/s: 50 m3/h (assumed; 30 to 90 for one to three persons)."""

EFFICIENCY = 0.99
"""Share that a fresh bed takes out in one pass (assumed; 0.9 to 0.999: what counts is circulation
times efficiency)."""

OXYGEN_CAPACITY = 2.0
"""O2 that the copper takes up to half of breakthrough, mol: 49 l (assumed; 0.5 to 9: 5 kg of a
catalyst with 30 % of copper oxide would bind 9 mol, but only surfaces react in the cold)."""

WATER_CAPACITY = 55.0
"""Water that the zeolite takes up to half of breakthrough, mol: 1 kg on 5 kg (assumed; 20 to 70).
"""

BREAKTHROUGH_WIDTH = 0.03
"""Width of the breakthrough in load over capacity. A logistic function of the load is the curve of
Yoon and Nelson, Am. Ind. Hyg. Assoc. J. 45 (1984) 509; the width is assumed (0.01 to 0.1)."""

OXYGEN_PER_SULFIDE = 0.5
"""Capacity for O2 (mol) that a mole of H2S takes from the copper for good: CuS instead of CuO."""

STAIR = 0.005
"""Load over capacity, in steps of which the efficiency falls (ours: between two steps the box obeys
linear equations). Near breakthrough a step is a sixth of the width."""

REGENERATION = 16.0 * 3600.0
"""Heating, hydrogen, evacuation and cooling, s (assumed; 10 to 24 h)."""


@dataclass(slots=True, eq=False)
class Bed:
    """A bed that takes up a gas. capacity, load: mol. stair: steps of the load gone so far."""

    capacity: float
    load: float = 0.0
    stair: int = 0

    @property
    def share(self) -> float:
        """What is left of the efficiency of the fresh bed."""
        beyond = (self.stair * STAIR - 1.0) / BREAKTHROUGH_WIDTH
        return 1.0 / (1.0 + math.exp(min(beyond, 700.0)))

    @property
    def next(self) -> float:
        """Load at which the efficiency falls next, mol."""
        return (self.stair + 1) * STAIR * self.capacity

    def climb(self) -> None:
        """Take the next step of the load."""
        self.stair += 1

    def regenerate(self, kept: float = 0.0) -> None:
        """Become fresh but for a load (mol) that stays."""
        self.load = kept
        self.stair = math.floor(kept / (STAIR * self.capacity))


class Purifier:
    """Three uptakes: oxygen and sulfide on copper, water on zeolite.

    Options: circulation (m3/s), efficiency, oxygen_capacity, water_capacity (mol),
    oxygen_load, water_load (mol, at the start), regeneration_time (s), regeneration_every (s; 0 is
    never).
    """

    def __init__(self, options: Options) -> None:
        self.circulation = options.number("circulation", CIRCULATION, low=0.0, high=1.0)
        self.efficiency = options.number("efficiency", EFFICIENCY, low=0.0, high=1.0)
        oxygen = options.number("oxygen_capacity", OXYGEN_CAPACITY, low=1e-3, high=1e3)
        water = options.number("water_capacity", WATER_CAPACITY, low=1e-3, high=1e4)
        self.copper = Bed(oxygen)
        self.copper.regenerate(options.number("oxygen_load", 0.0, low=0.0, high=2.0 * oxygen))
        self.zeolite = Bed(water)
        self.zeolite.regenerate(options.number("water_load", 0.0, low=0.0, high=2.0 * water))
        # Sulfide displaces oxide: it finds copper until all of it is sulfide.
        self.sulfide = Bed(oxygen / OXYGEN_PER_SULFIDE)
        self.duration = options.number("regeneration_time", REGENERATION, low=1.0, high=1e6)
        self.every = options.number("regeneration_every", 0.0, low=0.0)
        self.regenerating = False

    @property
    def beds(self) -> tuple[Bed, Bed, Bed]:
        """Copper, zeolite, sulfide on the copper."""
        return self.copper, self.zeolite, self.sulfide

    def rates(self, volume: float, *, running: bool) -> tuple[float, float, float]:
        """Removal of O2, H2O and H2S from a box (m3), 1/s."""
        if not running or self.regenerating:
            return 0.0, 0.0, 0.0
        most = self.circulation * self.efficiency / volume
        oxygen, water, sulfide = (most * bed.share for bed in self.beds)
        return oxygen, water, sulfide

    def regenerate(self) -> None:
        """End a regeneration: oxide and water leave, sulfide stays on the copper."""
        self.regenerating = False
        self.copper.regenerate(OXYGEN_PER_SULFIDE * self.sulfide.load)
        self.zeolite.regenerate()
