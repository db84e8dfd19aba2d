"""Lithium diffusion in a sphere with composition-dependent diffusivity, implicit in time.

Finite volumes from the centre to the surface, thinner towards the surface, where a change of
current is felt first; the last is a thin shell whose composition is that of the surface. Each
volume's mean stands where the square of the radius has its mean, and gradients are taken over the
square of the radius: a steadily charged sphere, whose profile is a parabola, is met exactly by any
number of volumes. One step is one tridiagonal elimination from the centre outwards; what remains
at the surface is affine in the flux, so that any electrode law (given current, given voltage)
closes the system as one scalar equation.
"""

import itertools
from collections.abc import Callable

TABLE_SIZE = 500
TABLE_HIGH = 1.05
"""Material functions are tabulated over lithium contents from 0 to this; constant outside."""

_LAST = float(TABLE_SIZE)
_SCALE = TABLE_SIZE / TABLE_HIGH

Table = tuple[list[float], list[float]]
"""Straight pieces of a material function over u = x * _SCALE: values at u = 0 of
their continuations, and slopes. The piece of a u is the one at int(u)."""


def tabulate(function: Callable[[float], float]) -> Table:
    """Return a function sampled evenly between 0 and TABLE_HIGH, one spare entry."""
    width = TABLE_HIGH / TABLE_SIZE
    values = [function(i * width) for i in range(TABLE_SIZE + 1)]
    slopes = [*(b - a for a, b in itertools.pairwise(values)), 0.0]
    return [v - k * s for k, (v, s) in enumerate(zip(values, slopes, strict=True))], slopes


class Sphere:
    """A sphere of host material, discretised; compositions are lists from centre to surface."""

    __slots__ = (
        "_diffusivity",
        "_free",
        "_geometry",
        "_inwards",
        "_outer",
        "_pull",
        "nodes",
        "radius",
        "volumes",
    )

    def __init__(
        self,
        radius: float,
        diffusivity: Callable[[float], float],
        *,
        nodes: int,
        grading: float,
        shell: float = 1.0 / 300.0,
    ) -> None:
        """Build the grid.

        radius: m. diffusivity: m2/s over lithium content, before any common factor.
        nodes: number of volumes. grading: ratio of neighbouring thicknesses, < 1 refines towards
            the surface. shell: thickness of the last volume over the radius.
        """
        steps = [grading**i for i in range(nodes - 1)]
        total = sum(steps) / (1.0 - shell)
        edges = [0.0, *itertools.accumulate(step / total for step in steps)]
        edges[-1] = 1.0 - shell
        edges.append(1.0)
        self.radius = radius
        self.nodes = nodes
        # Share of each volume in the sphere; they sum to 1.
        self.volumes = [b**3 - a**3 for a, b in itertools.pairwise(edges)]
        # Mean of the square of the radius in each volume; the shell stands for the surface.
        squares = [
            0.6 * (b**5 - a**5) / v
            for (a, b), v in zip(itertools.pairwise(edges), self.volumes, strict=True)
        ]
        squares[-1] = 1.0
        # Exchange between neighbours is diffusivity times this, in 1/m2.
        self._geometry = [
            6.0 * face**3 / (radius * radius * (b - a))
            for face, (a, b) in zip(edges[1:-1], itertools.pairwise(squares), strict=True)
        ]
        self._diffusivity = tabulate(diffusivity)
        self._inwards = self.volumes[::-1]
        self._outer = range(1, nodes)
        # Of the last elimination: x_i = free_(i+1) + pull_(i+1) x_(i+1); the first is not used.
        self._free = [0.0] * nodes
        self._pull = [0.0] * nodes

    def mean(self, composition: list[float]) -> float:
        """Return the volume average of a composition."""
        return sum(v * x for v, x in zip(self.volumes, composition, strict=True))

    def average(self, table: Table, composition: list[float]) -> float:
        """Return the volume average of a tabulated function of composition."""
        total, scale = 0.0, _SCALE
        bases, slopes = table
        for v, x in zip(self.volumes, composition, strict=True):
            u = x * scale
            if u < 0.0:
                u = 0.0
            elif u > TABLE_SIZE:
                u = _LAST
            k = int(u)
            total += v * (bases[k] + u * slopes[k])
        return total

    def eliminate(
        self, now: list[float], before: list[float] | None, *, h: float, ratio: float, factor: float
    ) -> tuple[float, float]:
        """Eliminate all but the surface node for one step of length h.

        now, before: compositions at the start of this step and of the one before; without the
            latter the step is backward Euler, with it the second-order backward formula (BDF2).
        h: step, s; any number from 0, where nothing moves. ratio: this step over the one before.
        factor: on the diffusivity.
        Returns (a, b) of x_surface = a + b * s, where s is the inflow at the surface as a rate of
        the mean composition, in 1/s. `complete` then gives all nodes.
        """
        # Every row is multiplied by `weight`, the step over the leading coefficient of its
        # formula: nothing is divided by the step, which may be as short as a float can say.
        if before is None:
            before = now
            ratio = c2 = 0.0
            c1 = 1.0
            weight = h
        else:
            grown = 1.0 + ratio
            denominator = 1.0 + 2.0 * ratio
            c1 = grown * grown / denominator
            c2 = ratio * ratio / denominator
            weight = h * grown / denominator
        exchange = weight * factor
        bases, slopes = self._diffusivity
        free, pull = self._free, self._pull
        half = 0.5 * _SCALE
        outwards, earlier = iter(now), iter(before)
        x, w = next(outwards), next(earlier)
        here = x + ratio * (x - w)
        history = c1 * x - c2 * w
        g = q = held = 0.0
        for i, volume, geometric, x, w in zip(
            self._outer, self.volumes, self._geometry, outwards, earlier, strict=False
        ):
            # The diffusivity between two nodes is taken at their mean composition, extrapolated
            # to the end of the step, which keeps the step linear and of second order.
            there = x + ratio * (x - w)
            u = half * (here + there)
            if u < 0.0:
                u = 0.0
            elif u > TABLE_SIZE:
                u = _LAST
            k = int(u)
            # Row i: (V + g + last) x_i - last x_(i-1) - g x_(i+1) = V history, with x_(i-1) put in.
            right = volume * history + g * q
            g = geometric * exchange * (bases[k] + u * slopes[k])
            kept = volume + held
            d = kept + g
            free[i] = q = right / d
            pull[i] = p = g / d
            held = p * kept
            history = c1 * x - c2 * w
            here = there
        volume = self.volumes[-1]
        d = volume + held
        return (volume * history + g * q) / d, weight / d

    def complete(self, surface: float, table: Table) -> tuple[list[float], float]:
        """Return the composition that belongs to a surface value after `eliminate`.

        table: a material function; its volume average comes second. One pass does both, because
        every step needs both.
        """
        x = surface
        composition = []
        total, scale = 0.0, _SCALE
        bases, slopes = table
        # At the centre there is nothing further in: the last pair is not used.
        free_nodes, pulls = reversed(self._free), reversed(self._pull)
        for volume, free, pull in zip(self._inwards, free_nodes, pulls, strict=True):
            composition.append(x)
            u = x * scale
            if u < 0.0:
                u = 0.0
            elif u > TABLE_SIZE:
                u = _LAST
            k = int(u)
            total += volume * (bases[k] + u * slopes[k])
            x = free + pull * x
        composition.reverse()
        return composition, total
