"""Impedance at open circuit: what each spectrum shows, and whether it may be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from operando.evaluation.circuits import Arc, CircuitFit, Complexes, Floats, Tail, fit_circuit
from operando.evaluation.kramers_kronig import KramersKronig, linear_kramers_kronig
from operando.instruments.recorder import Entry
from operando.records import Record
from operando.records.reader import VALID, Spectrum, Step, last_value, usable_values

NAN = math.nan
LARGEST_DRIFT = 0.01
"""Share of the amplitude by which the open-circuit voltage may move over a spectrum: the drift is
read as part of the response at the lowest frequencies."""
LARGEST_NONLINEARITY = 0.01
"""Largest relative difference between spectra at an amplitude and at half of it. Our choice: as
much as the Kramers-Kronig test allows."""
NOISE = 3.0
"""How many times the noise of both spectra comes on top. The noise is the root mean square of what
the Kramers-Kronig chains leave; of a hundred differences one in a hundred passes 3 by chance."""
LEAST_POINTS = 8
"""With fewer points nothing is fitted."""
MAX_AGE = 600.0
"""How old a reading of pressure or temperature may be at the start of a spectrum, s."""
CM2_PER_M2 = 1e4
LINEARITY = "linearity"
"""Label of a second spectrum, at half the amplitude of the one before it."""


@dataclass(frozen=True, slots=True)
class MeasuredSpectrum:
    """One spectrum with what is needed to judge it.

    index, step, cycle: as in the record. label: of its step. time: s of the run at its first point.
    frequency, impedance: valid points, Hz and ohm, as measured. amplitude: V rms, as asked. bias,
    start_voltage, end_voltage: V; the open-circuit voltages are those right before and after.
    pressure: Pa, temperature: K, at its start. kramers_kronig, fit: None where too few points are
    valid. nonlinearity: largest relative difference to the spectrum at half the amplitude. NaN
    where something was not measured. flags: what speaks against using the numbers: "incomplete",
    "invalid points", "unsettled" (the rest before it ended by its longest time), "drift",
    "Kramers-Kronig residual", "not linear", "bias off open circuit".
    """

    index: int
    step: int
    cycle: int
    label: str
    time: float
    frequency: Floats
    impedance: Complexes
    amplitude: float
    bias: float
    start_voltage: float
    end_voltage: float
    pressure: float
    temperature: float
    kramers_kronig: KramersKronig | None
    fit: CircuitFit | None
    nonlinearity: float
    flags: tuple[str, ...] = ()

    @property
    def drift(self) -> float:
        """Change of the open-circuit voltage from right before to right after it, V."""
        return self.end_voltage - self.start_voltage

    @property
    def resistance(self) -> float:
        """Resistance of the fitted circuit without its tail, ohm; NaN without a fit."""
        return self.fit.resistance if self.fit else NAN

    @property
    def high_frequency_resistance(self) -> float:
        """Intercept of the fitted circuit at high frequency, ohm; NaN without a fit."""
        return self.fit.high_frequency_resistance if self.fit else NAN

    @property
    def slowest_arc(self) -> Arc | None:
        """The arc of the lowest frequency; None if the fit has no arc."""
        return self.fit.slowest if self.fit else None

    @property
    def valid(self) -> bool:
        """Nothing speaks against it."""
        return not self.flags


@dataclass(frozen=True, slots=True)
class ImpedanceResult:
    """The spectra of a record. cell: its name. area: electrode area, m2, NaN where not stated.

    simulated: whether the data came from simulated instruments.
    """

    cell: str
    area: float
    simulated: bool
    spectra: tuple[MeasuredSpectrum, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a spectrum in the units of the literature, which are part of the keys."""
        table: list[dict[str, float | int | str | bool]] = []
        for one in self.spectra:
            arc = one.slowest_arc
            table.append(
                {
                    "cell": self.cell,
                    "simulated": self.simulated,
                    "spectrum": one.index,
                    "label": one.label,
                    "time_h": one.time / 3600.0,
                    "amplitude_rms_mV": 1e3 * one.amplitude,
                    "open_circuit_voltage_V": one.start_voltage,
                    "drift_uV": 1e6 * one.drift,
                    "pressure_MPa": 1e-6 * one.pressure,
                    "temperature_degC": one.temperature - 273.15,
                    "high_frequency_resistance_ohm": one.high_frequency_resistance,
                    "slowest_arc_ohm": arc.resistance if arc else NAN,
                    "slowest_arc_error_ohm": arc.error if arc else NAN,
                    "slowest_arc_Hz": arc.frequency if arc else NAN,
                    "slowest_arc_F": arc.capacitance if arc else NAN,
                    "resistance_ohm": one.resistance,
                    "resistance_ohm_cm2": one.resistance * self.area * CM2_PER_M2,
                    "flags": ", ".join(one.flags),
                }
            )
        return table


def impedance(
    record: Record,
    *,
    tail: Tail | None = None,
    arcs: int | None = None,
    fitted: bool = True,
    temperature_source: str | None = None,
    pressure_source: str | None = None,
) -> ImpedanceResult:
    """Evaluate all spectra of a record.

    Each is held against the linear Kramers-Kronig test (`linear_kramers_kronig`: below 1 % valid,
    to 2 % with a warning), the drift of the open-circuit voltage from its start to its end (below
    1 % of the amplitude) and, where it was measured again at half the amplitude, linearity (below
    1 % and three times the noise), and fitted with an equivalent circuit (`fit_circuit`; tail,
    arcs: as there; fitted: whether at all). temperature_source, pressure_source: the instrument,
    if there were several.

    The slowest arc of a full cell at rest is its charge transfer with the film in its way: they
    share one time constant. What the two-electrode cell adds lies in the faster arcs; an interface
    of the counter electrode as slow as the cathode's would not be told apart. The amplitude is a
    root mean square; papers seldom say what theirs is.

    Raises RecordError if the record cannot be read or has several sources of one quantity.
    """
    steps = {step.index: step for step in record.steps()}
    told = _told(record)
    around = Surroundings.of(record, temperature_source, pressure_source)
    found: list[MeasuredSpectrum] = []
    for spectrum in record.spectra():
        one = _judged(spectrum, steps, told.get(spectrum.step, {}), around, tail, arcs, fitted)
        if found and one.label == LINEARITY and one.frequency.size:
            found[-1] = _linear(found[-1], one)
        found.append(one)
    return ImpedanceResult(
        record.cell_name, record.of_cell("area") or NAN, record.simulated, tuple(found)
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Readings of pressure and temperature around a cell, over the run."""

    record: Record
    temperature: tuple[str, str | None] | None
    pressure_source: str | None

    @classmethod
    def of(
        cls, record: Record, temperature_source: str | None = None, pressure: str | None = None
    ) -> Surroundings:
        """A cell's own temperature is taken before that of the chamber."""
        for name in ("temperature", "chamber_temperature"):
            source = record.source_of(name, temperature_source)
            if source is not None:
                return cls(record, (name, source), record.source_of("pressure", pressure))
        return cls(record, None, record.source_of("pressure", pressure))

    def temperature_at(self, time: float) -> float:
        """K, NaN if there is none of the last ten minutes."""
        return self._at(*self.temperature, time) if self.temperature else NAN

    def pressure_at(self, time: float) -> float:
        """Pa, likewise."""
        return self._at("pressure", self.pressure_source, time) if self.pressure_source else NAN

    def _at(self, quantity: str, source: str | None, time: float) -> float:
        readings = self.record.aux(quantity, source=source)
        at = np.array([time])
        return float(last_value(at, readings["time"], usable_values(readings), MAX_AGE)[0])


def _told(record: Record) -> dict[int, dict[str, float]]:
    """What the journal tells of each step's spectrum: voltages, bias and amplitude, V."""
    told: dict[int, dict[str, float]] = {}
    for entry in record.journal(Entry.STEP_ENDED):
        index, spectrum = entry.data.get("index"), entry.data.get("spectrum")
        if isinstance(index, int) and isinstance(spectrum, dict):
            told[index] = {
                name: float(value)
                for name, value in spectrum.items()
                if isinstance(value, int | float)
            }
    return told


def _judged(
    spectrum: Spectrum,
    steps: dict[int, Step],
    told: dict[str, float],
    around: Surroundings,
    tail: Tail | None,
    arcs: int | None,
    fitted: bool,
) -> MeasuredSpectrum:
    step = steps.get(spectrum.step)
    asked = step.step.get("amplitude") if step else None
    amplitude = told.get("amplitude", float(asked) if isinstance(asked, int | float) else NAN)
    start, end = told.get("start_voltage", NAN), told.get("end_voltage", NAN)
    bias = told.get("bias", NAN)
    usable = np.isin(spectrum.status, list(VALID)) & np.isfinite(spectrum.impedance)
    frequency, z = spectrum.frequency[usable], spectrum.impedance[usable]
    flags: list[str] = []
    if step is None or step.reason != "complete":
        flags.append("incomplete")
    if not np.all(usable):
        flags.append(f"invalid points: {int(np.sum(~usable))}")
    before = steps.get(spectrum.step - 1)
    if before is not None and before.label == SETTLING and _gave_up(before):
        flags.append("unsettled: the longest rest had passed")
    if abs(end - start) > LARGEST_DRIFT * amplitude:
        flags.append(f"drift {100.0 * abs(end - start) / amplitude:.1f} % of the amplitude")
    test = linear_kramers_kronig(frequency, z) if len(frequency) >= LEAST_POINTS else None
    if test is None:
        flags.append("too few points")
    else:
        flags += test.flags
    fit = fit_circuit(frequency, z, tail=tail, arcs=arcs) if test and fitted else None
    return MeasuredSpectrum(
        index=spectrum.index,
        step=spectrum.step,
        cycle=spectrum.cycle,
        label=step.label if step else "",
        time=spectrum.time,
        frequency=frequency,
        impedance=z,
        amplitude=amplitude,
        bias=bias,
        start_voltage=start,
        end_voltage=end,
        pressure=around.pressure_at(spectrum.time),
        temperature=around.temperature_at(spectrum.time),
        kramers_kronig=test,
        fit=fit,
        nonlinearity=NAN,
        flags=tuple(flags),
    )


def _gave_up(rest: Step) -> bool:
    """Whether time alone ended a rest that waits for the voltage."""
    condition = rest.condition or ""
    return condition.startswith("elapsed") and " and " not in condition


SETTLING = "rest until steady"
"""Label of the rest before a spectrum that waits for the voltage to be steady."""


def _linear(whole: MeasuredSpectrum, half: MeasuredSpectrum) -> MeasuredSpectrum:
    """The spectrum with its linearity, from the one at half its amplitude."""
    difference = nonlinearity(whole.frequency, whole.impedance, half.frequency, half.impedance)
    flags = whole.flags
    noise = math.hypot(*(_noise(one) for one in (whole, half)))
    if difference > LARGEST_NONLINEARITY + NOISE * noise:
        flags = (*flags, f"not linear: {100.0 * difference:.1f} % at half the amplitude")
    return replace(whole, nonlinearity=difference, flags=flags)


def _noise(one: MeasuredSpectrum) -> float:
    """Root mean square of |Z measured - Z of the chain| / |Z|."""
    test = one.kramers_kronig
    return math.sqrt(float(np.mean(test.real**2 + test.imaginary**2))) if test else 0.0


def nonlinearity(
    frequency: Floats, impedance: Complexes, other_frequency: Floats, other: Complexes
) -> float:
    """Largest |Z1 - Z2| / |Z1| at the frequencies (Hz) that two spectra (ohm) share, or NaN."""
    largest = NAN
    for f, z in zip(frequency, impedance, strict=True):
        near = int(np.argmin(np.abs(other_frequency - f)))
        if abs(other_frequency[near] - f) <= 1e-3 * f:
            found = float(abs(z - other[near]) / abs(z))
            largest = found if math.isnan(largest) else max(largest, found)
    return largest
