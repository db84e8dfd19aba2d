"""Lithium diffusion in a sphere with composition-dependent diffusivity, implicit in time.

Finite volumes around nodes that reach from the centre to the surface, so that the surface
composition is itself an unknown. The nodes lie closer together towards the surface, where a
change of current is felt first. One step is one tridiagonal elimination from the centre outwards;
what remains at the surface is affine in the flux, so that any electrode law (given current, given
voltage) closes the system as one scalar equation.
"""

import itertools
from collections.abc import Callable

TABLE_SIZE = 4000
TABLE_LOW, TABLE_HIGH = 0.0, 1.05
"""Range of lithium content over which material functions are tabulated; constant outside."""


def tabulate(function: Callable[[float], float]) -> list[float]:
    """Return a function sampled evenly between TABLE_LOW and TABLE_HIGH, one spare entry."""
    width = (TABLE_HIGH - TABLE_LOW) / TABLE_SIZE
    values = [function(TABLE_LOW + i * width) for i in range(TABLE_SIZE + 1)]
    return [*values, values[-1]]


class Sphere:
    """A sphere of host material, discretised; compositions are lists from centre to surface."""

    __slots__ = (
        "_coupling",
        "_diagonal",
        "_diffusivity",
        "_geometry",
        "_right",
        "nodes",
        "radius",
        "volumes",
    )

    def __init__(
        self, radius: float, diffusivity: Callable[[float], float], *, nodes: int, grading: float
    ) -> None:
        """Build the grid.

        radius: m. diffusivity: m2/s over lithium content, before any common factor.
        nodes: number of unknowns. grading: ratio of neighbouring node distances, < 1 refines
            towards the surface.
        """
        steps = [grading**i for i in range(nodes - 1)]
        total = sum(steps)
        positions = [0.0]
        for step in steps:
            positions.append(positions[-1] + radius * step / total)
        positions[-1] = radius
        faces = [0.5 * (a + b) for a, b in itertools.pairwise(positions)]
        edges = [0.0, *faces, radius]
        self.radius = radius
        self.nodes = nodes
        # Share of each cell in the volume of the sphere; they sum to 1.
        self.volumes = [(b**3 - a**3) / radius**3 for a, b in itertools.pairwise(edges)]
        # Exchange between neighbours is diffusivity times this, in 1/m2.
        self._geometry = [
            3.0 * face**2 / (radius**3 * (b - a))
            for face, a, b in zip(faces, positions, positions[1:], strict=False)
        ]
        self._diffusivity = tabulate(diffusivity)
        self._diagonal = [0.0] * nodes
        self._right = [0.0] * nodes
        self._coupling = [0.0] * (nodes - 1)

    def mean(self, composition: list[float]) -> float:
        """Return the volume average of a composition."""
        return sum(v * x for v, x in zip(self.volumes, composition, strict=True))

    def average(self, table: list[float], composition: list[float]) -> float:
        """Return the volume average of a tabulated function of composition."""
        total = 0.0
        scale = TABLE_SIZE / (TABLE_HIGH - TABLE_LOW)
        for v, x in zip(self.volumes, composition, strict=True):
            u = (x - TABLE_LOW) * scale
            u = 0.0 if u < 0.0 else TABLE_SIZE if u > TABLE_SIZE else u
            k = int(u)
            low = table[k]
            total += v * (low + (u - k) * (table[k + 1] - low))
        return total

    def eliminate(
        self, now: list[float], before: list[float] | None, *, h: float, ratio: float, factor: float
    ) -> tuple[float, float]:
        """Eliminate all but the surface node for one step of length h.

        now, before: compositions at the start of this step and of the one before; without the
            latter the step is backward Euler, with it the second-order backward formula (BDF2).
        h: step, s. ratio: this step over the one before. factor: on the diffusivity.
        Returns (a, b) of x_surface = a + b * s, where s is the inflow at the surface as a rate of
        the mean composition, in 1/s. `complete` then gives all nodes.
        """
        diffusivity = self._diffusivity
        geometry = self._geometry
        volumes = self.volumes
        diagonal = self._diagonal
        right = self._right
        coupling = self._coupling
        scale = TABLE_SIZE / (TABLE_HIGH - TABLE_LOW)
        offset = TABLE_LOW * scale
        # The diffusivity between two nodes is taken at their mean composition, extrapolated to
        # the end of the step, which keeps the step linear and of second order.
        if before is None:
            guess = now
            history = now
            a0 = 1.0 / h
            scale_history = a0
        else:
            grown = 1.0 + ratio
            c1 = grown * grown / (1.0 + 2.0 * ratio)
            c2 = ratio * ratio / (1.0 + 2.0 * ratio)
            guess = [x + ratio * (x - w) for x, w in zip(now, before, strict=True)]
            history = [c1 * x - c2 * w for x, w in zip(now, before, strict=True)]
            a0 = (1.0 + 2.0 * ratio) / (grown * h)
            scale_history = a0
        half = 0.5 * scale
        here = guess[0]
        g = 0.0
        d = y = 0.0
        pull = 0.0
        for i, geometric in enumerate(geometry):
            there = guess[i + 1]
            u = half * (here + there) - offset
            if u < 0.0:
                u = 0.0
            elif u > TABLE_SIZE:
                u = TABLE_SIZE
            k = int(u)
            low = diffusivity[k]
            mass = volumes[i] * scale_history
            last = g
            g = geometric * factor * (low + (u - k) * (diffusivity[k + 1] - low))
            # Row i: (a0 V + g + last) x_i - last x_(i-1) - g x_(i+1) = a0 V history
            y = mass * history[i] + pull * y
            d = mass + g + last * (1.0 - pull)
            diagonal[i] = d
            right[i] = y
            coupling[i] = g
            pull = g / d
            here = there
        mass = volumes[-1] * a0
        y = mass * history[-1] + pull * y
        d = mass + g * (1.0 - pull)
        return y / d, 1.0 / d

    def complete(self, surface: float) -> list[float]:
        """Return the composition that belongs to a surface value after `eliminate`."""
        diagonal = self._diagonal
        right = self._right
        coupling = self._coupling
        composition = [surface] * self.nodes
        x = surface
        for i in range(self.nodes - 2, -1, -1):
            x = (right[i] + coupling[i] * x) / diagonal[i]
            composition[i] = x
        return composition
