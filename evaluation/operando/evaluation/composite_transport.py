"""Effective ionic and electronic conductivity of a composite between blocking contacts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from operando.evaluation.electronic_conductivity import PolarisationResult, dc_polarisation
from operando.evaluation.impedance import MeasuredSpectrum, impedance
from operando.evaluation.metadata import parameter_of, stated, stated_text
from operando.evaluation.transmission import LineFit, fit_transmission_line
from operando.instruments.errors import BadInputError
from operando.records import Record

NAN = math.nan
ION_BLOCKING, ELECTRON_BLOCKING = "ion-blocking", "electron-blocking"
LARGEST_DIFFERENCE = 0.05
"""Relative difference between spectrum and direct current that is flagged. Our choice."""


@dataclass(frozen=True, slots=True)
class CompositeTransport:
    """What one pellet showed, SI units; NaN where not stated or not measured.

    contacts: "ion-blocking" (electrons pass) or "electron-blocking" (ions pass). thickness: m.
    area: m2. contact_resistance: subtracted, ohm. line: of the first spectrum that could be fitted.
    ionic_conductivity, electronic_conductivity: effective, S/m, from the line; the one whose
    carrier is blocked rests on the high-frequency end of the spectrum alone.
    direct_conductivity: of the carrier that passes, from direct current, S/m.
    flags: what speaks against using the numbers.
    """

    cell: str
    simulated: bool
    contacts: str
    thickness: float
    area: float
    contact_resistance: float
    spectrum: MeasuredSpectrum | None
    line: LineFit | None
    polarisation: PolarisationResult
    ionic_conductivity: float
    electronic_conductivity: float
    direct_conductivity: float
    flags: tuple[str, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """One row in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "contacts": self.contacts,
                "ionic_conductivity_mS_per_cm": 10.0 * self.ionic_conductivity,
                "electronic_conductivity_mS_per_cm": 10.0 * self.electronic_conductivity,
                "direct_conductivity_mS_per_cm": 10.0 * self.direct_conductivity,
                "contact_resistance_ohm": self.contact_resistance,
                "flags": ", ".join(self.flags),
            }
        ]


def composite_transport(record: Record) -> CompositeTransport:
    """Effective conductivities of a composite from its spectrum and from direct current.

    Between ion-blocking contacts the steady current is electrons', between electron-blocking ones
    ions' (Dandena et al., EES Batteries 2025, 1, 692, section 2.3: transmission-line fit, direct
    current at several voltages and Ohm's law side by side). sigma = d / (R A), with d the metadata
    `thickness`, and the pellet's R after subtraction of the contacts (metadata
    `contact_resistance`: layers of electrolyte and their electrodes, from a cell without the
    composite). Without it both conductivities come out too small, and it is flagged for
    electron-blocking contacts, whose layers resist as much as the pellet.

    contacts: the protocol's parameter, else the metadata `contacts`. Raises BadInputError if
    neither says it, RecordError if the record cannot be read.
    """
    contacts = str(parameter_of(record, "contacts") or stated_text(record, "contacts"))
    if contacts not in (ION_BLOCKING, ELECTRON_BLOCKING):
        raise BadInputError(
            f'{record.folder}: contacts is "{contacts}"; write contacts = "{ION_BLOCKING}" or '
            f'"{ELECTRON_BLOCKING}" in [cells.{record.cell_name}.metadata]'
        )
    flags: list[str] = []
    thickness, area = stated(record, "thickness", "m"), record.of_cell("area") or NAN
    contact = stated(record, "contact_resistance", "ohm")
    if math.isnan(thickness) or math.isnan(area):
        flags.append("thickness or area not stated")
    if math.isnan(contact) and contacts == ELECTRON_BLOCKING:
        flags.append("contact resistance not stated: conductivities are lower bounds")
    in_series = 0.0 if math.isnan(contact) else contact
    spectrum, line = None, None
    for one in impedance(record, fitted=False).spectra:
        if one.kramers_kronig is not None:
            spectrum = one
            line = fit_transmission_line(one.frequency, one.impedance, contact=in_series)
            flags += one.flags
            break
    polarisation = dc_polarisation(record)
    flags += polarisation.flags
    through = thickness / (line.through * area) if line else NAN
    other = thickness / (line.blocked * area) if line else NAN
    direct = thickness / ((polarisation.resistance - in_series) * area)
    if abs(direct - through) > LARGEST_DIFFERENCE * through:
        flags.append(
            f"direct current and spectrum differ by {100 * abs(direct / through - 1):.0f} %"
        )
    ions_pass = contacts == ELECTRON_BLOCKING
    return CompositeTransport(
        cell=record.cell_name,
        simulated=record.simulated,
        contacts=contacts,
        thickness=thickness,
        area=area,
        contact_resistance=contact,
        spectrum=spectrum,
        line=line,
        polarisation=polarisation,
        ionic_conductivity=through if ions_pass else other,
        electronic_conductivity=other if ions_pass else through,
        direct_conductivity=direct,
        flags=tuple(flags),
    )
