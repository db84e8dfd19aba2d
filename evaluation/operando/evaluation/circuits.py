"""Equivalent circuits of impedance spectra, fitted to what was measured.

A circuit is a resistance, an inductance of the leads, arcs in series and a tail:

    Z = R_hf + j w L + sum R_k / (1 + (j w tau_k)^a_k) + tail

Each arc is a resistance beside a constant-phase element, Q = tau^a / R. A blocking tail is a
constant-phase element in series, 1 / (Q (j w)^n). A tail of diffusion lies in series with the
resistance of the slowest arc, inside of it (Randles, Discuss. Faraday Soc. 1 (1947) 11): the
Warburg element s / sqrt(j w), or for particles of finite size s sqrt(T) tanh(x) / (x - tanh(x))
with x = sqrt(j w T), T radius squared over diffusivity, which is the Warburg element at high
frequency (Jacobsen and West, Electrochim. Acta 40 (1995) 255). The capacitance of an arc is
tau / R (Hsu and Mansfeld, Corrosion 57 (2001) 747).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Complexes: TypeAlias = npt.NDArray[np.complex128]

Tail = Literal["none", "blocking", "diffusion", "finite diffusion"]
"""What a spectrum ends in at low frequency."""

MOST_ARCS = 4
"""Our choice: more cannot be told apart in seven decades."""
GAIN = 10.0
"""Fall of the Bayesian information criterion that a further element must bring: "very strong"
evidence (Kass and Raftery, J. Am. Stat. Assoc. 90 (1995) 773)."""
CLOSE_ENOUGH = 5e-4
"""Root mean square of the relative residuals at which no further arc is looked for: about what a
good frequency response analyser states for its gain. Our choice."""
UNSURE = 0.3
"""Relative standard error of a resistance above which its arc is not believed. Our choice."""
STEEP, GENTLE = 3.0, 0.25
"""Slope of -Im Z against Re Z at the lowest frequencies: above the first it is the tail of a
blocking contact (an exponent of 0.9 has 6.3), between both that of diffusion (1), below the second
there is none. Our choice."""
NAN = math.nan


@dataclass(frozen=True, slots=True)
class Arc:
    """A resistance beside a constant-phase element.

    resistance: diameter, ohm. error: its standard error from the covariance, ohm. frequency: at
    which -Im Z is largest, 1/(2 pi tau), Hz. exponent: 1 is a semicircle.
    """

    resistance: float
    error: float
    frequency: float
    exponent: float

    @property
    def capacitance(self) -> float:
        """tau / R, F: what tells a grain boundary (1 nF) from an interface (1 uF and more)."""
        return 1.0 / (2.0 * math.pi * self.frequency * self.resistance)


@dataclass(frozen=True, slots=True)
class CircuitFit:
    """A fitted circuit.

    high_frequency_resistance, high_frequency_error: ohm. inductance: H. arcs: the fastest first.
    tail: its kind. tail_coefficient, tail_exponent: Q in F s^(n-1) and n of a blocking one, s in
    ohm s^-0.5 and 0.5 of diffusion. resistance, error: of all that is no tail, ohm; the error knows
    how its parts depend on each other. residual: root mean square of the relative residuals, of
    both parts. largest_residual: the largest relative residual. impedance: of the fit, ohm.
    """

    high_frequency_resistance: float
    high_frequency_error: float
    inductance: float
    arcs: tuple[Arc, ...]
    tail: Tail
    tail_coefficient: float
    tail_exponent: float
    resistance: float
    error: float
    residual: float
    largest_residual: float
    impedance: Complexes

    @property
    def slowest(self) -> Arc | None:
        """The arc of the lowest frequency: of a full cell at rest the charge transfer."""
        return self.arcs[-1] if self.arcs else None


def fit_circuit(
    frequency: Floats, impedance: Complexes, *, tail: Tail | None = None, arcs: int | None = None
) -> CircuitFit:
    """Fit a circuit by complex least squares, each residual relative to |Z|.

    frequency: Hz. impedance: ohm. tail, arcs: of the circuit; without them the tail is chosen by
    how the spectrum ends, and arcs are added where the residuals are largest until none improves
    the Bayesian information criterion by GAIN or the residuals are below CLOSE_ENOUGH. Starting
    values come from the data alone. Errors are standard errors from the covariance
    (J^T J)^-1 s^2: they know the noise, not whether the circuit is the right one.
    Raises ValueError with fewer than eight points.
    """
    if len(frequency) < 8:
        raise ValueError(f"a circuit needs at least eight frequencies, not {len(frequency)}")
    data = _Data.of(frequency, impedance)
    kind = tail if tail is not None else tail_of(frequency, impedance)
    best = _best(data, kind, arcs)
    if tail is None and kind == "none" and best.residual > CLOSE_ENOUGH:
        # The end of an arc may hide where diffusion begins.
        best = min(best, _best(data, "diffusion", arcs), key=lambda found: found.criterion)
    if tail is None and best.tail == "diffusion":
        finite = _finite(data, best)
        if finite.criterion < best.criterion - GAIN:
            best = finite
    return best.told(data)


def _best(data: _Data, tail: Tail, arcs: int | None) -> _Solved:
    """The circuit with a tail and so many arcs, or as many as the data ask for."""
    least = 1 if tail in ("diffusion", "finite diffusion") else 0
    best = _grown(data, tail, least if arcs is None else arcs)
    while arcs is None and best.arcs < MOST_ARCS and best.residual > CLOSE_ENOUGH:
        larger = _with_another(data, best)
        if larger.criterion > best.criterion - GAIN or not larger.believable(data):
            break
        best = larger
    return best


def tail_of(frequency: Floats, impedance: Complexes) -> Tail:
    """What a spectrum ends in, by the slope of its last half decade."""
    order = np.argsort(frequency)
    last = order[: max(3, int(np.sum(frequency <= frequency.min() * 3.2)))]
    real, capacitive = impedance.real[last], -impedance.imag[last]
    rise = _slope(np.log(frequency[last]), capacitive)
    run = _slope(np.log(frequency[last]), real)
    if rise >= 0.0:  # -Im Z falls towards low frequency: the end of an arc
        return "none"
    if run >= 0.0 or rise / run > STEEP:
        return "blocking" if -rise > 0.002 * abs(real[0]) else "none"
    return "diffusion" if rise / run > GENTLE else "none"


def resistance_without_tail(impedance: Complexes) -> float:
    """Resistance of a spectrum without its blocking tail and without a model, ohm.

    impedance: from high to low frequency. The steepest piece of the tail is drawn on to the real
    axis; of a spectrum that ends on the real axis it is Re Z at its end. An arc that reaches into
    the tail is counted in part only: a fit is better there.
    """
    real, capacitive = impedance.real, -impedance.imag
    rise, run = np.diff(capacitive), np.diff(real)
    steep = (rise > 0.0) & (rise > STEEP * np.maximum(run, 0.0)) & (capacitive[1:] > 0.0)
    if not steep[-1]:
        return float(real[-1])
    gentle = np.flatnonzero(~steep)
    first = int(gentle[-1]) + 1 if len(gentle) else 0
    slope = run[first:] / rise[first:]
    place = first + int(np.argmin(slope))
    return float(real[place] - capacitive[place] * run[place] / rise[place])


def _slope(x: Floats, y: Floats) -> float:
    deviation = x - x.mean()
    return float(np.sum(deviation * y) / np.sum(deviation**2))


@dataclass(frozen=True, slots=True)
class _Data:
    omega: Floats
    z: Complexes
    weight: Floats
    scale: float
    """Largest |Z|, ohm."""

    @classmethod
    def of(cls, frequency: Floats, impedance: Complexes) -> _Data:
        omega = 2.0 * np.pi * np.asarray(frequency, np.float64)
        size = np.abs(impedance)
        return cls(omega, np.asarray(impedance, np.complex128), 1.0 / size, float(size.max()))


@dataclass(frozen=True, slots=True)
class _Solved:
    """parameters: R_hf, L, ln R and ln tau and a of each arc, then the tail's."""

    tail: Tail
    arcs: int
    parameters: Floats
    covariance: Floats
    criterion: float
    residual: float

    def believable(self, data: _Data) -> bool:
        """Whether the resistance of every arc is known, and its maximum lies in the band.

        At high frequency it may lie half a decade beyond: there the other side of the arc is seen.
        """
        errors = np.sqrt(np.diag(self.covariance))[2 : 2 + 3 * self.arcs : 3]
        turning = -self.parameters[3 : 3 + 3 * self.arcs : 3]
        low, high = math.log(data.omega.min()), math.log(3.0 * data.omega.max())
        return bool(np.all(errors < UNSURE) and np.all((turning > low) & (turning < high)))

    def told(self, data: _Data) -> CircuitFit:
        p, n = self.parameters, self.arcs
        errors = np.sqrt(np.diag(self.covariance))
        found = []
        for k in range(n):
            log_r, log_tau, exponent = p[2 + 3 * k : 5 + 3 * k]
            r = math.exp(log_r)
            frequency = math.exp(-log_tau) / (2.0 * math.pi)
            found.append(Arc(r, r * float(errors[2 + 3 * k]), frequency, float(exponent)))
        by = np.zeros(len(p))
        by[0] = 1.0
        by[2 : 2 + 3 * n : 3] = [arc.resistance for arc in found]
        coefficient, power = NAN, NAN
        if self.tail == "blocking":
            coefficient, power = math.exp(p[-2]), float(p[-1])
        elif self.tail == "diffusion":
            coefficient, power = math.exp(p[-1]), 0.5
        elif self.tail == "finite diffusion":
            coefficient, power = math.exp(p[-2]), 0.5
        fitted = _circuit(data.omega, p, n, self.tail)
        return CircuitFit(
            high_frequency_resistance=float(p[0]),
            high_frequency_error=float(errors[0]),
            inductance=float(p[1]),
            arcs=tuple(sorted(found, key=lambda arc: -arc.frequency)),
            tail=self.tail,
            tail_coefficient=coefficient,
            tail_exponent=power,
            resistance=float(p[0]) + sum(arc.resistance for arc in found),
            error=math.sqrt(max(float(by @ self.covariance @ by), 0.0)),
            residual=self.residual,
            largest_residual=float(np.max(np.abs(fitted - data.z) * data.weight)),
            impedance=fitted,
        )


def _circuit(omega: Floats, p: Floats, arcs: int, tail: Tail) -> Complexes:
    """Impedance, ohm. The slowest arc of a circuit with diffusion is its last."""
    jw = 1j * omega
    z: Complexes = p[0] + jw * p[1]
    for k in range(arcs):
        log_r, log_tau, exponent = p[2 + 3 * k : 5 + 3 * k]
        r = np.exp(log_r)
        bent = (jw * np.exp(log_tau)) ** exponent
        if k == arcs - 1 and tail in ("diffusion", "finite diffusion"):
            root = np.sqrt(jw)
            if tail == "diffusion":
                diffusion = np.exp(p[-1]) / root
            else:
                x = root * np.exp(0.5 * p[-1])
                tanh = np.tanh(x)
                diffusion = np.exp(p[-2] + 0.5 * p[-1]) * tanh / (x - tanh)
            z = z + 1.0 / (bent / r + 1.0 / (r + diffusion))
        else:
            z = z + r / (1.0 + bent)
    if tail == "blocking":
        z = z + 1.0 / (np.exp(p[-2]) * jw ** p[-1])
    return z


def _bounds(data: _Data, arcs: int, tail: Tail) -> tuple[Floats, Floats]:
    slowest, fastest = 1.0 / data.omega.max(), 1.0 / data.omega.min()
    large = math.log(1e3 * data.scale)
    low: list[float] = [0.0, 0.0]
    high: list[float] = [2.0 * data.scale, data.scale / data.omega.max()]
    for _ in range(arcs):
        low += [math.log(1e-6 * data.scale), math.log(0.1 * slowest), 0.5]
        high += [large, math.log(10.0 * fastest), 1.0]
    if tail == "blocking":
        low += [-60.0, 0.5]
        high += [20.0, 1.0]
    elif tail != "none":
        low += [-60.0]
        high += [large]
    if tail == "finite diffusion":
        low += [math.log(0.1 * slowest)]
        high += [math.log(1e4 * fastest)]
    return np.array(low), np.array(high)


def _solve(data: _Data, start: Floats, arcs: int, tail: Tail) -> _Solved:
    from scipy.optimize import least_squares

    low, high = _bounds(data, arcs, tail)

    def residuals(p: Floats) -> Floats:
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = (_circuit(data.omega, p, arcs, tail) - data.z) * data.weight
        return np.concatenate([wrong.real, wrong.imag])

    inside = np.clip(start, low + 1e-9 * (high - low), high - 1e-9 * (high - low))
    found: Any = least_squares(
        residuals, inside, bounds=(low, high), x_scale="jac", max_nfev=200, method="trf"
    )
    count, free = 2 * len(data.z), len(start)
    square = float(np.sum(found.fun**2))
    variance = square / max(count - free, 1)
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * variance
    criterion = count * math.log(max(square / count, 1e-30)) + free * math.log(count)
    return _Solved(
        tail, arcs, np.asarray(found.x), covariance, criterion, math.sqrt(square / count)
    )


def _grown(data: _Data, tail: Tail, arcs: int) -> _Solved:
    """The circuit with a number of arcs, added one by one."""
    first = [float(data.z.real[int(np.argmax(data.omega))]), 0.0]
    ends = _tail_start(data, tail)
    if tail in ("diffusion", "finite diffusion") and arcs > 0:
        # The first arc holds the diffusion: it begins where -Im Z has its last maximum.
        size, when = _last_maximum(data)
        first += [math.log(size), math.log(when), 0.9]
        solved = _solve(data, np.array([*first, *ends]), 1, tail)
    else:
        solved = _solve(data, np.array([*first, *ends]), 0, tail)
    while solved.arcs < arcs:
        solved = _with_another(data, solved)
    return solved


def _tail_start(data: _Data, tail: Tail) -> list[float]:
    """Parameters of the tail from the lowest frequency alone."""
    low = int(np.argmin(data.omega))
    omega, capacitive = float(data.omega[low]), -float(data.z.imag[low])
    if tail == "none":
        return []
    if tail == "blocking":
        return [-math.log(max(capacitive, 1e-3 * data.scale) * omega**0.9), 0.9]
    diffusing = math.log(max(capacitive, 1e-4 * data.scale) * math.sqrt(2.0 * omega))
    return [diffusing] if tail == "diffusion" else [diffusing, math.log(100.0 / omega)]


def _last_maximum(data: _Data) -> tuple[float, float]:
    """Diameter (ohm) and time (s) of the arc before the tail, from the data."""
    order = np.argsort(-data.omega)
    capacitive = -data.z.imag[order]
    inner = np.flatnonzero(
        (capacitive[1:-1] >= capacitive[:-2]) & (capacitive[1:-1] > capacitive[2:])
    )
    place = order[int(inner[-1]) + 1] if len(inner) else order[len(order) // 2]
    span = max(float(np.ptp(data.z.real)), 1e-3 * data.scale)
    size = max(-2.0 * float(data.z.imag[place]), 0.1 * span)
    return size, 1.0 / float(data.omega[place])


def _with_another(data: _Data, now: _Solved) -> _Solved:
    """The circuit with one more arc: the best of those begun where the residuals are largest."""
    left = data.z - _circuit(data.omega, now.parameters, now.arcs, now.tail)
    order = np.argsort(data.omega)
    wrong = np.abs(left[order]) * data.weight[order]
    # Parts of the band, each with its own worst place: noise alone does not choose then.
    parts = np.array_split(np.arange(len(order)), 4)
    places = [part[int(np.argmax(wrong[part]))] for part in parts]
    places.sort(key=lambda place: -wrong[place])
    best: _Solved | None = None
    for place in places[:3]:
        omega = float(data.omega[order[place]])
        size = max(2.0 * float(np.abs(left[order[place]])), 1e-3 * data.scale)
        # The tail begins anew: in a circuit with too few arcs it may have gone for nothing.
        arcs = now.parameters[2 : 2 + 3 * now.arcs]
        # Before the arcs there are: one that holds a diffusion stays the last.
        new = [math.log(size), -math.log(omega), 0.9]
        ends = _tail_start(data, now.tail)
        start = np.concatenate([now.parameters[:2], new, arcs, ends])
        start[0] = max(start[0] - 0.5 * size, 0.1 * start[0])
        tried = _solve(data, start, now.arcs + 1, now.tail)
        if best is None or tried.criterion < best.criterion:
            best = tried
    assert best is not None
    return best


def _finite(data: _Data, now: _Solved) -> _Solved:
    start = np.append(now.parameters, math.log(100.0 / data.omega.min()))
    return _solve(data, start, now.arcs, "finite diffusion")
