"""Steps that are more than a set-point: sweeps of the voltage, and impedance spectra.

An instrument that has the technique on board is asked for it; a sweep is stepped by software where
the held voltage can be moved without opening the circuit. Anything else is refused beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError, UnsupportedError
from operando.instruments.recorder import JSON, Recorder
from operando.instruments.roles import (
    OpenCircuit,
    Potentiostat,
    Potentiostatic,
    TellsSwitching,
)
from operando.instruments.samples import Reading, SpectrumRow
from operando.instruments.techniques import Leveller, Spectroscope, Sweeper, SweepRequest
from operando.protocols.preflight import settled
from operando.protocols.steps import (
    LARGEST_BIAS,
    Impedance,
    Step,
    VoltageSweep,
    elapsed_bound,
)
from operando.protocols.tally import Tally


def check_technique(step: Step, potentiostat: Potentiostat) -> None:
    """Raise UnsupportedError if the instrument cannot do what a step needs beside set-points.

    Before it is prepared for a run: at 0 V, which need not lie within that run's window.
    """
    check_kind(step, potentiostat)
    if isinstance(step, Impedance) and isinstance(potentiostat, Spectroscope):
        # At 0 V; the bias is the cell's own voltage, which lies within the run's window.
        potentiostat.check_spectrum(step.request(0.0 if step.bias is None else step.bias))
    elif isinstance(step, VoltageSweep):
        potentiostat.check(Potentiostatic(step.end, step.current_limit))
        if isinstance(potentiostat, Sweeper):
            potentiostat.check_sweep(step.request)


def check_kind(step: Step, potentiostat: Potentiostat) -> None:
    """Raise UnsupportedError if the instrument has no such technique, whatever its bounds."""
    if isinstance(step, Impedance) and not isinstance(potentiostat, Spectroscope):
        raise UnsupportedError(
            f"step '{step.label}': this instrument measures no impedance. Run it on a "
            "potentiostat that does, or take the spectra out of the recipe."
        )
    if isinstance(step, VoltageSweep) and not isinstance(potentiostat, Sweeper | Leveller):
        raise UnsupportedError(
            f"step '{step.label}': this instrument neither sweeps its voltage nor moves it "
            "without opening the circuit. Run it on a potentiostat or a source meter."
        )


class Staircase:
    """A sweep that is stepped by software. began: laboratory time of its first level, s."""

    def __init__(self, potentiostat: Leveller, request: SweepRequest, began: float) -> None:
        self._potentiostat = potentiostat
        self._request = request
        self._began = began
        self._level = request.start

    async def follow(self, now: float) -> None:
        """Go to the level that is due at a laboratory time (s)."""
        level = self._request.level(now - self._began)
        if level != self._level:
            await self._potentiostat.move(level)
            self._level = level


async def begin_sweep(
    potentiostat: Potentiostat, step: VoltageSweep, elapsed: float, clock: Clock
) -> Staircase | None:
    """Begin a sweep, or what is left of it; None where the instrument goes on by itself.

    elapsed: s that the step has had.
    """
    whole = step.request
    level = whole.level(elapsed)
    left = abs(whole.end - level)
    # What is left of a sweep after a pause may be no more than its last level.
    if left == 0.0 or (isinstance(potentiostat, Sweeper) and left <= whole.step * (1.0 + 1e-6)):
        await potentiostat.apply(Potentiostatic(whole.end, step.current_limit))
        return None
    rest = SweepRequest(level, whole.end, whole.rate, whole.step, whole.current_limit)
    if isinstance(potentiostat, Sweeper):
        await potentiostat.sweep(rest)
        return None
    await potentiostat.apply(Potentiostatic(level, step.current_limit))
    assert isinstance(potentiostat, Leveller)
    return Staircase(potentiostat, rest, clock.now())


class SpectrumHost(Protocol):
    """The run, as a spectrum needs it."""

    tally: Tally

    def judge(self, reading: Reading, step: Step) -> None:
        """Take a reading and let limits act on it."""
        ...

    async def unobserved(self, start: float, end: float, slept: float = 0.0) -> None:
        """Journal that nothing was observed between two laboratory times, and hold."""
        ...


class Spectra:
    """Measures the spectra of one run and numbers them. count: of those begun so far."""

    def __init__(
        self,
        potentiostat: Potentiostat,
        recorder: Recorder,
        clock: Clock,
        host: SpectrumHost,
        count: int = 0,
    ) -> None:
        self._potentiostat = potentiostat
        self._recorder = recorder
        self._clock = clock
        self._host = host
        self.count = count
        self.facts: dict[str, JSON] = {}

    async def measure(
        self, step: Impedance, rest_limit: float, quiet: Callable[[bool], None]
    ) -> None:
        """Open the circuit, measure around its voltage, and open it again; `facts` tell of it.

        rest_limit: compliance at rest, V. quiet: told while no voltage is read. Raises
        BadInputError for a bias far from the cell's own voltage.
        """
        potentiostat, tally, clock = self._potentiostat, self._host.tally, self._clock
        assert isinstance(potentiostat, Spectroscope)
        start = await self._at_rest(step, rest_limit)
        bias = start.voltage if step.bias is None else step.bias
        if not abs(bias - start.voltage) <= LARGEST_BIAS:
            raise BadInputError(
                f"step '{step.label}': a bias of {bias:.4f} V is more than "
                f"{1e3 * LARGEST_BIAS:g} mV from the cell's open-circuit voltage of "
                f"{start.voltage:.4f} V and would drive it. Leave the bias out: a cell is measured "
                "at its own voltage"
            )
        self.count += 1
        self.facts = {
            "index": self.count,
            "start_voltage": start.voltage,
            "end_voltage": None,
            "bias": bias,
            "amplitude": step.amplitude,
        }
        given_up = tally.elapsed_bound
        assert given_up is not None
        left = given_up - tally.elapsed
        suspended, began = clock.suspended(), clock.now()
        quiet(True)
        try:
            # Laboratory seconds as the event loop counts them.
            async with asyncio.timeout(left / clock.lab(1.0)):
                await potentiostat.begin_spectrum(step.request(bias))
                await self._points(potentiostat)
            complete = True
        except TimeoutError:
            complete = False
        finally:
            quiet(False)
        tally.elapsed += clock.now() - began
        slept = clock.suspended() - suspended
        if slept > 1.0:
            await self._host.unobserved(began, clock.now(), slept)
            return
        end = await self._at_rest(step, rest_limit)
        self.facts["end_voltage"] = end.voltage
        if complete:
            tally.end("complete")
        else:
            tally.end("condition", next(c for c in step.until if elapsed_bound((c,)) == given_up))

    async def _at_rest(self, step: Impedance, rest_limit: float) -> Reading:
        tally, asked = self._host.tally, self._clock.now()
        await self._potentiostat.apply(OpenCircuit(rest_limit))
        ended = began = asked
        if isinstance(self._potentiostat, TellsSwitching):
            ended, began = self._potentiostat.switched
        tally.begin_attempt(began, step.current_limit, ended)
        reading = await settled(self._potentiostat)
        self._host.judge(reading, step)
        tally.record_last()
        return reading

    async def _points(self, potentiostat: Spectroscope) -> None:
        tally, number = self._host.tally, 0
        while (point := await potentiostat.next_point()) is not None:
            number += 1
            self._recorder.spectrum(
                SpectrumRow(
                    self.count,
                    number,
                    point.time - tally.start,
                    tally.step_count,
                    tally.cycle,
                    point.frequency,
                    point.real,
                    point.imaginary,
                    point.voltage,
                    point.current,
                    point.status,
                )
            )
