"""Techniques that an instrument carries out by itself: spectra and sweeps, and how they are asked.

A potentiostat that has one says so by having its methods, see `Spectroscope` and `Sweeper`. As with
a set-point, what drives the cell carries its bounds: no request has a form without them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from operando.instruments.samples import Status


@dataclass(frozen=True, slots=True)
class SpectrumRequest:
    """One impedance spectrum around a voltage that is held.

    frequencies: Hz, at least two, evenly spaced on a logarithmic scale, the highest first.
    amplitude: V, root mean square. bias: V held meanwhile. current_limit: A, the largest current
    that is expected: it chooses the range. periods: least number that a point is averaged over.
    """

    frequencies: tuple[float, ...]
    amplitude: float
    bias: float
    current_limit: float
    periods: float = 3.0

    def __post_init__(self) -> None:
        if len(self.frequencies) < 2 or not self.frequencies[0] > self.frequencies[-1] > 0.0:
            raise ValueError("a spectrum needs two frequencies or more, the highest first")
        if not (self.amplitude > 0.0 and self.current_limit > 0.0 and self.periods > 0.0):
            raise ValueError("amplitude, current limit and periods of a spectrum are positive")

    @property
    def duration(self) -> float:
        """Least time that it takes, s: the periods of every point."""
        return math.fsum(self.periods / frequency for frequency in self.frequencies)


class ImpedancePoint(NamedTuple):
    """One frequency of a spectrum.

    time: laboratory time at which it was complete, s. frequency: Hz. real, imaginary: ohm, the
    imaginary part signed: capacitive is negative. voltage, current: held meanwhile, V and A, NaN
    where the instrument does not tell.
    """

    time: float
    frequency: float
    real: float
    imaginary: float
    voltage: float
    current: float
    status: Status


@runtime_checkable
class Spectroscope(Protocol):
    """A potentiostat that measures impedance on board."""

    def check_spectrum(self, request: SpectrumRequest) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        ...

    async def begin_spectrum(self, request: SpectrumRequest) -> None:
        """Begin; returns when the instrument has accepted it. The set-point before it ends."""
        ...

    async def next_point(self) -> ImpedancePoint | None:
        """The next point when it has been made; None when the spectrum is complete.

        The circuit is open then. Points come in the order of the request. Raises InstrumentError
        when the spectrum was stopped by anybody, and by `safe`.
        """
        ...


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """A voltage that runs from one level to another in small steps and is then held there.

    start, end: V. rate: V/s, a magnitude. step: V, a magnitude, of the staircase. current_limit: A,
    magnitude: beyond it the instrument opens the circuit.
    """

    start: float
    end: float
    rate: float
    step: float
    current_limit: float

    def __post_init__(self) -> None:
        if not (self.rate > 0.0 and self.step > 0.0 and self.current_limit > 0.0):
            raise ValueError("rate, step and current limit of a sweep are positive")

    @property
    def duration(self) -> float:
        """Time from the first level to the last, s."""
        return abs(self.end - self.start) / self.rate

    def level(self, elapsed: float) -> float:
        """Voltage (V) at a time (s) since the sweep began."""
        steps = math.floor(max(elapsed, 0.0) * self.rate / self.step + 1e-9)
        gone = min(steps * self.step, abs(self.end - self.start))
        return self.start + math.copysign(gone, self.end - self.start)


@runtime_checkable
class Sweeper(Protocol):
    """A potentiostat that sweeps its voltage on board."""

    def check_sweep(self, request: SweepRequest) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        ...

    async def sweep(self, request: SweepRequest) -> None:
        """Begin; returns when the first point has shown that it does.

        `measure` gives the points as they are made. After the last level it is held until another
        set-point comes.
        """
        ...


@runtime_checkable
class Leveller(Protocol):
    """A potentiostat whose held voltage can be moved without opening the circuit."""

    async def move(self, voltage: float) -> None:
        """Hold another voltage (V), current limit as it is; returns when that was read back.

        Only while a `Potentiostatic` set-point is applied.
        """
        ...
