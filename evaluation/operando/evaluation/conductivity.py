"""Conductivity of a pellet between blocking contacts, and its activation energy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.evaluation.impedance import MeasuredSpectrum, impedance
from operando.evaluation.lines import fit_line
from operando.evaluation.metadata import stated
from operando.records import Record

NAN = math.nan
GAS_CONSTANT = 8.31446261815324
"""J/(mol K), CODATA 2018."""
ELECTRON_VOLT = 96485.33212
"""J/mol of one eV, CODATA 2018."""
SAME_TEMPERATURE = 1.0
"""K within which a temperature on the way down counts as that on the way up. Our choice."""
LARGEST_HYSTERESIS = 0.03
"""Relative difference of conductivity between heating and cooling that is flagged. Our choice:
three times what a Kramers-Kronig valid spectrum may be off."""


@dataclass(frozen=True, slots=True)
class Conductivity:
    """One measurement. spectrum: what it comes from. resistance, error: ohm, leads subtracted.

    conductivity: S/m. temperature: K. pressure: of the stack meanwhile, Pa. flags: as of the
    spectrum, and "arc" (the circuit has arcs: whether they are grain boundaries, of about 1 nF, the
    cables' 10 pF beside a pellet of high resistance, or an interface, their capacitance tells).
    """

    spectrum: MeasuredSpectrum
    resistance: float
    error: float
    conductivity: float
    temperature: float
    pressure: float
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConductivityResult:
    """Conductivity of a pellet, SI units; NaN where not stated or not measured.

    thickness: under pressure, m. area: m2. lead_resistance: subtracted, ohm. fabrication_pressure,
    stack_pressure: as stated, Pa. activation_energy, error: from ln(sigma T) against 1/T, J/mol.
    activation_energy_without_temperature: from ln sigma, J/mol, for comparison with papers that
    leave T out; smaller by about R T, 2.5 kJ/mol (0.026 eV) at room temperature. prefactor: of
    sigma T, S K/m. hysteresis: largest relative difference of conductivity between heating and
    cooling.
    """

    cell: str
    simulated: bool
    thickness: float
    area: float
    lead_resistance: float
    fabrication_pressure: float
    stack_pressure: float
    measurements: tuple[Conductivity, ...]
    activation_energy: float
    error: float
    activation_energy_without_temperature: float
    prefactor: float
    hysteresis: float
    flags: tuple[str, ...]

    @property
    def conductivity(self) -> float:
        """Mean over the measurements, S/m; of a ladder the first, where it began."""
        values = [one.conductivity for one in self.measurements]
        if not values:
            return NAN
        return values[0] if not math.isnan(self.activation_energy) else float(np.mean(values))

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a measurement in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "spectrum": one.spectrum.index,
                "temperature_degC": one.temperature - 273.15,
                "resistance_ohm": one.resistance,
                "error_ohm": one.error,
                "conductivity_mS_per_cm": 10.0 * one.conductivity,
                "thickness_mm": 1e3 * self.thickness,
                "stack_pressure_MPa": 1e-6 * one.pressure,
                "fabrication_pressure_MPa": 1e-6 * self.fabrication_pressure,
                "activation_energy_eV": self.activation_energy / ELECTRON_VOLT,
                "flags": ", ".join(one.flags),
            }
            for one in self.measurements
        ]


def conductivity(record: Record) -> ConductivityResult:
    """Conductivity sigma = d / (R A) from each spectrum of a record, and its activation energy.

    The formula is equation (1) of Kim et al., Energy Storage Materials 2026, 105167, section 2.3.
    They print it with "R: radius of the pellet"; R is the resistance: their legend misnames it.
    R is the resistance of the circuit without the blocking tail, less the resistance of the leads
    (metadata `lead_resistance`). d is the thickness under pressure (metadata `thickness`), A the
    area of the cell. Arcs count as the pellet's, so that grain boundaries belong to its
    conductivity. Three pellets are three records.

    With contacts that electrons pass the result is the sum of ionic and electronic conductivity;
    for a coating material of 0.1 mS/m this matters, and `electronic_conductivity` says by how much.

    Several temperatures (differing by more than 1 K) give E_a from the slope of ln(sigma T)
    against 1/T: sigma T = A exp(-E_a / R T), from the Nernst-Einstein relation with thermally
    activated hopping. Temperatures are those of the cell, or of the chamber if no thermometer is
    at the cell.

    Raises RecordError as `impedance` does, BadInputError for metadata that cannot be read.
    """
    spectra = impedance(record)
    thickness = stated(record, "thickness", "m")
    leads = stated(record, "lead_resistance", "ohm")
    pressure = stated(record, "stack_pressure", "Pa")
    flags: list[str] = []
    if math.isnan(thickness):
        flags.append("thickness not stated")
    if math.isnan(spectra.area):
        flags.append("area not stated")
    if math.isnan(leads):
        flags.append("lead resistance not stated: nothing subtracted")
    found = []
    for one in spectra.spectra:
        resistance = one.resistance - (0.0 if math.isnan(leads) else leads)
        error = one.fit.error if one.fit else NAN
        arcs = ("arc",) if one.fit and one.fit.arcs else ()
        found.append(
            Conductivity(
                spectrum=one,
                resistance=resistance,
                error=error,
                conductivity=thickness / (resistance * spectra.area),
                temperature=one.temperature,
                pressure=pressure if math.isnan(one.pressure) else one.pressure,
                flags=(*one.flags, *arcs),
            )
        )
    ladder = Ladder.through(found)
    if ladder.hysteresis > LARGEST_HYSTERESIS:
        flags.append(f"hysteresis {100.0 * ladder.hysteresis:.1f} %")
    return ConductivityResult(
        cell=record.cell_name,
        simulated=record.simulated,
        thickness=thickness,
        area=spectra.area,
        lead_resistance=leads,
        fabrication_pressure=stated(record, "fabrication_pressure", "Pa"),
        stack_pressure=pressure,
        measurements=tuple(found),
        activation_energy=ladder.energy,
        error=ladder.error,
        activation_energy_without_temperature=ladder.without,
        prefactor=ladder.prefactor,
        hysteresis=ladder.hysteresis,
        flags=tuple(flags),
    )


@dataclass(frozen=True, slots=True)
class Ladder:
    """Arrhenius law through measurements, as in `ConductivityResult`; NaN with one temperature."""

    energy: float = NAN
    error: float = NAN
    without: float = NAN
    prefactor: float = NAN
    hysteresis: float = NAN

    @classmethod
    def through(cls, found: list[Conductivity]) -> Ladder:
        """The law through measurements in the order of time."""
        kelvin = np.array([one.temperature for one in found])
        sigma = np.array([one.conductivity for one in found])
        use = np.isfinite(kelvin) & np.isfinite(sigma) & (sigma > 0.0)
        kelvin, sigma = kelvin[use], sigma[use]
        if len(kelvin) < 2 or np.ptp(kelvin) <= SAME_TEMPERATURE:
            return cls()
        line = fit_line(1.0 / kelvin, np.log(sigma * kelvin))
        plain = fit_line(1.0 / kelvin, np.log(sigma))
        energy = -GAS_CONSTANT * line.slope
        # What is left after the law itself tells a difference at one temperature from the few
        # tenths of a kelvin between both.
        law = np.log(sigma * kelvin) - line.slope / kelvin
        top = int(np.argmax(kelvin))
        differences = [
            abs(math.expm1(law[up] - law[down]))
            for up in range(top)
            for down in range(top + 1, len(kelvin))
            if abs(kelvin[up] - kelvin[down]) <= SAME_TEMPERATURE
        ]
        return cls(
            energy,
            GAS_CONSTANT * line.slope_error,
            -GAS_CONSTANT * plain.slope,
            math.exp(line.intercept),
            max(differences, default=NAN),
        )
