"""Parameters of a simulated cell, their provenance, and the presets that hold them."""

import math
import random
import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

PRESET_FOLDER = Path(__file__).resolve().parent.parent / "presets"

BASES = ("seed", "derived", "literature", "calibrated", "assumed")
"""Where a number may come from; "assumed" numbers also state a range."""


@dataclass(frozen=True, slots=True)
class CellParameters:
    """Everything that makes one cell, in SI units; see `docs/explanation/cell-model.md`.

    Charges and resistances "per area" refer to the geometric electrode area.
    """

    area: float
    """Electrode area, m2."""
    active_loading: float
    """Active material per area, kg/m2."""
    nominal_specific_capacity: float
    """Charge that defines 1C, C/kg of active material."""
    charge_per_lithiation: float
    """Charge per unit of lithium content x, C/kg of active material."""
    crystal_density: float
    """Density of the active material, kg/m3."""
    initial_lithiation: float
    """Lithium content of the pristine cathode."""
    potential_stretch: float
    """Factor on (1 - x) of the published open-circuit curve."""

    particle_radius: float
    """Radius of the (secondary) particles, m."""
    diffusivity: float
    """Lithium diffusivity away from full lithiation, at the reference temperature, m2/s."""
    diffusivity_knee: float
    """Lithium content at which the diffusivity has fallen to half."""
    diffusivity_knee_width: float
    """Width of that fall in lithium content (logistic)."""
    diffusivity_floor: float
    """Diffusivity at full lithiation over that of the plateau."""
    diffusivity_activation_energy: float
    """J/mol."""

    charge_transfer_resistance: float
    """Arc diameter of the fresh cathode, ohm m2: Butler-Volmer slope and coating together."""
    charge_transfer_lithiation: float
    """Lithium content at which that resistance holds."""
    charge_transfer_activation_energy: float
    """J/mol."""
    coating_resistance: float
    """Ohmic part of the arc: resistance of the fresh coating, ohm m2."""

    separator_thickness: float
    """m."""
    separator_conductivity: float
    """Ionic, as densified in the cell and at the reference temperature, S/m."""
    electrolyte_activation_energy: float
    """Of the separator and of the ions' way through the cathode, J/mol."""
    cathode_ionic_resistance: float
    """Resistance of the ions' way through the composite, ohm m2; a third of it acts at DC."""

    counter_potential: float
    """Potential of the counter electrode, V vs Li."""
    counter_resistance: float
    """Area-specific resistance of the counter electrode with its interphase, ohm m2."""
    counter_activation_energy: float
    """J/mol."""
    counter_expansion: float
    """Thickness gained per charge per area when the cell is charged, m3/C."""
    counter_inventory: float
    """Lithium in the counter electrode as assembled, C/m2."""
    cathode_accommodation: float
    """Share of the particles' volume change that reaches the thickness of the cathode."""

    assembled_potential: float
    """Open-circuit voltage of the cell as assembled, never charged, V vs Li."""
    formation_charge: float
    """First charge over which that voltage relaxes into the model's curve (1/e), C/kg."""

    reference_temperature: float
    """Temperature at which the numbers above hold, and of the cell until told otherwise, K."""

    contact_loss: float
    """Relative loss of contact per travelled volume strain of the cathode."""
    connection_loss: float
    """Loss of connected active fraction per loss of contact below the threshold."""
    connection_threshold: float
    """Contact fraction below which active material loses its connection."""
    interphase_growth: float
    """Growth rate of the cathode interphase at its onset voltage, m/s."""
    interphase_onset: float
    """Voltage at which that rate holds, V vs Li."""
    interphase_voltage_scale: float
    """Voltage that multiplies the growth rate by e, V."""
    interphase_scale: float
    """Thickness beyond which growth becomes parabolic, m."""
    interphase_resistance: float
    """Resistance per thickness of cathode interphase, ohm m2/m."""
    interphase_activation_energy: float
    """J/mol."""
    counter_interphase_rate: float
    """Parabolic rate of lithium consumption by the counter electrode's interphase, C/(m2 s^1/2)."""

    spread_loading: float
    """Relative standard deviation of the loading between cells."""
    spread_separator: float
    """Relative standard deviation of the separator thickness."""
    spread_charge_transfer: float
    """Relative standard deviation of the charge-transfer resistance."""
    spread_assembled_potential: float
    """Standard deviation of the open-circuit voltage as assembled, V."""

    def manufactured(self, seed: int) -> "CellParameters":
        """Return the parameters of one cell of a batch; seed 0 is the nominal cell.

        Loading, separator thickness and charge-transfer resistance are normally distributed in
        their logarithm, the open-circuit voltage as assembled normally; all cut at 2.5 standard
        deviations. Every quantity has a random stream of its own, named after it.
        """
        if seed == 0:
            return self

        def deviate(name: str) -> float:
            return max(-2.5, min(2.5, random.Random(f"{name}/{seed}").gauss(0.0, 1.0)))

        charge_transfer = math.exp(self.spread_charge_transfer * deviate("charge transfer"))
        return replace(
            self,
            active_loading=self.active_loading * math.exp(self.spread_loading * deviate("loading")),
            separator_thickness=self.separator_thickness
            * math.exp(self.spread_separator * deviate("separator")),
            charge_transfer_resistance=self.charge_transfer_resistance * charge_transfer,
            coating_resistance=self.coating_resistance * charge_transfer,
            assembled_potential=self.assembled_potential
            + self.spread_assembled_potential * deviate("assembled potential"),
        )


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one number of a preset comes from."""

    value: float
    """In `unit`."""
    unit: str
    """SI unit as written in the preset."""
    basis: str
    """One of BASES."""
    source: str
    """The source with its place, or the derivation, or the reason of an assumption."""
    plausible: tuple[float, float] | None
    """Range an assumed number may lie in, in `unit`."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named parameter set with the provenance of every number."""

    name: str
    summary: str
    """One line."""
    parameters: CellParameters
    provenance: dict[str, Provenance]
    """By the name of the parameter."""


def presets() -> dict[str, str]:
    """Return the name of every preset with a one-line description."""
    found = {}
    for path in sorted(PRESET_FOLDER.glob("*.toml")):
        document = _document(path.stem)
        if not document.get("partial", False):
            found[path.stem] = str(document["summary"])
    return found


@cache
def load_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises KeyError, listing the names there are, for an unknown one, and ValueError for a preset
    with a number missing or without its provenance.
    """
    known = presets()
    if name not in known:
        raise KeyError(f"no cell preset named {name!r}; there are: {', '.join(known)}")
    provenance = {key: _provenance(name, key, entry) for key, entry in _entries(name).items()}
    wanted = {field.name for field in fields(CellParameters)}
    if wanted != set(provenance):
        raise ValueError(
            f"preset {name}: missing {sorted(wanted - set(provenance))}, "
            f"unknown {sorted(set(provenance) - wanted)}"
        )
    parameters = CellParameters(**{key: entry.value for key, entry in provenance.items()})
    return Preset(name, known[name], parameters, provenance)


def _document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads(
        (PRESET_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    )
    return document


def _entries(name: str) -> dict[str, Any]:
    """Return the parameter entries of a preset laid over those of its base."""
    document = _document(name)
    base = document.get("base")
    entries: dict[str, Any] = _entries(str(base)) if base is not None else {}
    own: dict[str, Any] = document["parameters"]
    return entries | own


def _provenance(name: str, key: str, entry: Any) -> Provenance:
    try:
        value, unit = float(entry["value"]), str(entry["unit"])
        basis, source = str(entry["basis"]), str(entry["source"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"preset {name}: {key} needs value, unit, basis and source, got {entry!r}"
        ) from error
    if basis not in BASES:
        raise ValueError(f"preset {name}: {key}: basis must be one of {BASES}, not {basis!r}")
    bounds = entry.get("range")
    if basis == "assumed" and bounds is None:
        raise ValueError(f"preset {name}: {key} is assumed and must state its range")
    plausible = None if bounds is None else (float(bounds[0]), float(bounds[1]))
    return Provenance(value, unit, basis, source, plausible)
