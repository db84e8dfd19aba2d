"""Parameters of a simulated cell, their provenance, and the presets that hold them."""

import difflib
import math
import random
import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from operando.simulators.cell.quantities import check, clipped, quantity

PRESET_FOLDER = Path(__file__).resolve().parent.parent / "presets"

BASES = ("seed", "derived", "literature", "calibrated", "assumed")
"""Where a number may come from; "assumed" numbers also state a range."""


@dataclass(frozen=True, slots=True)
class CellParameters:
    """Everything that makes one cell, in SI units; see `docs/explanation/cell-model.md`.

    Charges and resistances "per area" refer to the geometric electrode area. A number outside its
    physical range (`quantities.quantity`) raises ValueError.
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
    """Butler-Volmer slope of the cathode in perfect contact, ohm m2."""
    charge_transfer_lithiation: float
    """Lithium content at which that resistance holds."""
    charge_transfer_activation_energy: float
    """J/mol."""
    space_charge_resistance: float
    """Of the contact between bare active material and electrolyte as assembled, ohm m2."""

    coating_coverage: float
    """Share of the active surface under the coating."""
    coating_thickness: float
    """Where it covers, m."""
    coating_conductivity: float
    """Ionic, S/m."""
    coating_window: float
    """Potential up to which the coating protects: half of its effect is lost there, V vs Li."""
    coating_window_width: float
    """Width of that loss (logistic), V."""
    contact_share: float
    """Share of the particles' surface, as smooth spheres, that the pressed electrolyte touches."""
    coating_adhesion: float
    """Adhesion between electrolyte and active material, relative to the Mg-doped LiNbO3 coating."""

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
    counter_interphase_expansion: float
    """Thickness gained per lithium that its interphase takes, beyond that lithium's own, m3/C."""
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

    stack_pressure: float
    """On the stack as assembled, Pa."""
    frame_stiffness: float
    """Rise of the pressure per gained thickness in the frame the cell is tested in, Pa/m."""

    contact_deficit: float
    """Contact missing as assembled, over what is there, at an adhesion of one half."""
    contact_loss: float
    """Relative loss of contact per travelled volume strain at the reference strain and pressure."""
    contact_strain: float
    """Contraction at which that loss holds, as a volume strain."""
    contact_exponent: float
    """Power of the contraction with which the loss rises."""
    contact_pressure: float
    """Stack pressure at which that loss holds, Pa."""
    contact_pressure_scale: float
    """Stack pressure at which the loss is half of that without pressure, Pa."""
    contact_healing: float
    """Share of the loss on swelling that the swelling itself restores."""
    connection_loss: float
    """Loss of connected active fraction per relative loss of contact, far below the threshold."""
    connection_threshold: float
    """Contact fraction at which half of that loss is reached."""
    connection_width: float
    """Width of the threshold in contact fraction (logistic)."""
    interphase_growth: float
    """Growth rate of the cathode interphase on a bare surface at its onset voltage, m/s."""
    interphase_incubation: float
    """Mean time until a fresh contact begins to react, at the reference temperature, s."""
    interphase_blocking: float
    """Thickness of interphase that lowers the contact by e: it blocks part of the surface, m."""
    interphase_charge: float
    """Charge of the electrolyte's oxidation per volume of interphase, C/m3."""
    first_oxidation: float
    """Charge of electrolyte that the first charge oxidises on a bare surface, C/m2 of particle."""
    first_oxidation_time: float
    """Time in which it does so far above the onset voltage, s."""
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
    reconstruction_rate: float
    """Share of the bare active material that turns into rock salt in a time, at the onset, 1/s."""
    reconstruction_onset: float
    """Potential at which that rate holds, half of the largest, V vs Li: where oxygen is lost."""
    reconstruction_voltage_scale: float
    """Width of that onset (logistic), V."""
    reconstruction_activation_energy: float
    """J/mol."""
    counter_interphase_rate: float
    """Parabolic rate of lithium consumption by the counter electrode's interphase, C/(m2 s^1/2)."""
    counter_interphase_activation_energy: float
    """Of the square of that rate, J/mol."""
    counter_interphase_resistance: float
    """Resistance per charge of the counter electrode's interphase, ohm m4/C."""
    electronic_conductivity: float
    """Of the separator, S/m: the cell discharges itself through it."""
    counter_creep_current: float
    """Stripping current that creep of the counter electrode can replenish, A/m2."""
    counter_creep_pressure: float
    """Stack pressure at which that current holds, Pa."""
    counter_creep_exponent: float
    """Power of the pressure on the remaining contact with which it rises."""
    counter_creep_activation_energy: float
    """J/mol."""
    counter_void_charge: float
    """Charge stripped beyond replenishment that would empty the whole interface, C/m2."""

    spread_loading: float
    """Relative standard deviation of the loading between cells."""
    spread_separator: float
    """Relative standard deviation of the separator thickness."""
    spread_charge_transfer: float
    """Relative standard deviation of the charge-transfer resistance."""
    spread_assembled_potential: float
    """Standard deviation of the open-circuit voltage as assembled, V."""
    spread_contact_loss: float
    """Relative standard deviation of the loss of contact."""
    flaw_probability: float
    """Probability that a cell of a batch has a separator that electrons pass."""
    flaw_conductance: float
    """Largest electronic conductance of such a separator, S/m2; the least is a hundredth of it."""
    flaw_potential: float
    """Drop of the open-circuit voltage as assembled of a cell with that conductance, V."""

    # Of the spectrum only: the time domain has no capacitances. See `cell/spectrum.py`.
    cathode_electronic_share: float
    """Share of the electrons in what is counted as the ions' way through the composite."""
    grain_boundary_share: float
    """Share of the separator's resistance that lies in its grain boundaries."""
    grain_boundary_capacitance: float
    """Constant-phase coefficient of the grain boundaries, F s^(a-1)/m2."""
    grain_boundary_exponent: float
    """Its exponent a."""
    counter_capacitance: float
    """Constant-phase coefficient of the counter electrode's interphase, F s^(a-1)/m2."""
    counter_exponent: float
    """Its exponent a."""
    double_layer_capacitance: float
    """Constant-phase coefficient of the cathode's interface, F s^(a-1) per m2 of electrode."""
    double_layer_exponent: float
    """Its exponent a."""

    def __post_init__(self) -> None:
        """Refuse what is unphysical."""
        check(self)

    @property
    def surface_ratio(self) -> float:
        """Surface of the particles per area of electrode, m2/m2, as smooth spheres."""
        return 3.0 * self.active_loading / (self.crystal_density * self.particle_radius)

    @property
    def coating_resistance(self) -> float:
        """Resistance of the coating if it covered all contacts, ohm m2 of electrode.

        Lithium passes it where electrolyte touches, which is a small part of the surface.
        """
        touched = self.surface_ratio * self.contact_share
        return self.coating_thickness / self.coating_conductivity / touched

    @property
    def assembled_contact(self) -> float:
        """Contact fraction as assembled: 1 from an adhesion of 1 upwards, less below."""
        return 1.0 / (1.0 + self.contact_deficit * max(1.0 / self.coating_adhesion - 1.0, 0.0))

    @property
    def fresh_film(self) -> float:
        """Ohmic part of the fresh cathode's arc in perfect contact, ohm m2.

        The current divides between the coated and the bare part of the surface; what both take
        longer than a clean surface would is counted as a film.
        """
        clean = self.charge_transfer_resistance
        covered = self.coating_coverage / (clean + self.coating_resistance)
        bare = (1.0 - self.coating_coverage) / (clean + self.space_charge_resistance)
        return 1.0 / (covered + bare) - clean

    def manufactured(self, seed: int) -> "CellParameters":
        """Return the parameters of one cell of a batch; seed 0 is the nominal cell.

        Loading, separator thickness, charge-transfer resistance and loss of contact are normally
        distributed in their logarithm, the open-circuit voltage as assembled normally; all cut at
        2.5 standard deviations. A cell is flawed with `flaw_probability`: electrons pass its
        separator, with a conductance uniform in its logarithm over two decades, and the more of
        them do, the lower is its voltage as assembled. Every quantity has a random stream of its
        own, named after it. A number that would leave its physical range stays at its end.
        """
        if seed == 0:
            return self

        def deviate(name: str) -> float:
            return max(-2.5, min(2.5, random.Random(f"{name}/{seed}").gauss(0.0, 1.0)))

        charge_transfer = math.exp(self.spread_charge_transfer * deviate("charge transfer"))
        separator = self.separator_thickness * math.exp(
            self.spread_separator * deviate("separator")
        )
        flaw = 0.0
        if random.Random(f"flaw/{seed}").random() < self.flaw_probability:
            flaw = 100.0 ** -random.Random(f"flaw size/{seed}").random()
        values = clipped(
            active_loading=self.active_loading * math.exp(self.spread_loading * deviate("loading")),
            separator_thickness=separator,
            electronic_conductivity=self.electronic_conductivity
            + flaw * self.flaw_conductance * separator,
            contact_loss=self.contact_loss
            * math.exp(self.spread_contact_loss * deviate("contact loss")),
            charge_transfer_resistance=self.charge_transfer_resistance * charge_transfer,
            space_charge_resistance=self.space_charge_resistance * charge_transfer,
            assembled_potential=self.assembled_potential
            + self.spread_assembled_potential * deviate("assembled potential")
            - flaw * self.flaw_potential,
        )
        return replace(self, **values)


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


Parameters = TypeVar("Parameters")

INSERTION = "insertion"
"""Kind of a preset that says nothing else: a cell with an insertion cathode, `SimulatedCell`."""


def presets(kind: str | None = INSERTION) -> dict[str, str]:
    """Return the name of every preset of a kind with a one-line description; None is every kind."""
    found = {}
    for path in sorted(PRESET_FOLDER.glob("*.toml")):
        document = _document(path)
        if document.get("partial", False):
            continue
        if kind is None or _kind(path) == kind:
            found[path.stem] = str(document["summary"])
    return found


def preset_kind(name: str) -> str:
    """Return the kind of a preset; KeyError, listing the names there are, for an unknown one."""
    known = presets(None)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        meant = f"; did you mean {close[0]!r}?" if close else "."
        raise KeyError(f"no cell preset named {name!r}{meant} There are: {', '.join(known)}")
    return _kind(PRESET_FOLDER / f"{name}.toml")


@cache
def load_preset(name: str) -> Preset:
    """Return a preset of an insertion cell by its name.

    Raises KeyError, listing the names there are, for an unknown one or one of another kind, and
    ValueError as `read_preset`.
    """
    kind = preset_kind(name)
    if kind != INSERTION:
        raise KeyError(
            f"preset {name!r} is no insertion cell but of kind {kind!r}: build it with "
            f"cell_from_preset. There are: {', '.join(presets())}"
        )
    path = PRESET_FOLDER / f"{name}.toml"
    parameters, provenance = read_preset(path, CellParameters)
    return Preset(name, str(_document(path)["summary"]), parameters, provenance)


def read_preset(path: Path, wanted: type[Parameters]) -> tuple[Parameters, dict[str, Provenance]]:
    """Return the parameters in a preset file with the provenance of each.

    wanted: the dataclass whose fields the file and its base must give, no more and no less.
    Raises ValueError that names the file, the entry and what to write: for a number missing,
    without unit or source, in another unit, or outside what is physical.
    """
    places = _entries(path)
    names = [field.name for field in fields(wanted)]  # type: ignore[arg-type]
    for key, (place, _) in places.items():
        if key not in names:
            close = difflib.get_close_matches(key, names, 1)
            meant = f"did you mean {close[0]}?" if close else "remove it"
            raise ValueError(f"{place}: [parameters] {key} is no parameter of this kind: {meant}")
    missing = [name for name in names if name not in places]
    if missing:
        lines = "\n".join(f"  {_example(name)}" for name in missing)
        raise ValueError(f"{path}: [parameters] lacks {', '.join(missing)}; write\n{lines}")
    provenance = {key: _provenance(places[key][0], key, places[key][1]) for key in names}
    return wanted(**{key: entry.value for key, entry in provenance.items()}), provenance


def _document(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such preset file") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    if not isinstance(document.get("summary"), str):
        raise ValueError(f'{path}: write summary = "one line about this preset" at the top')
    if not isinstance(document.get("parameters"), dict):
        raise ValueError(f"{path}: there is no table [parameters]; write one with the numbers")
    return document


def _kind(path: Path) -> str:
    """Return the kind of a preset, its own or that of its base."""
    document = _document(path)
    if "kind" not in document and "base" in document:
        return _kind(path.with_name(f"{document['base']}.toml"))
    return str(document.get("kind", INSERTION))


def _entries(path: Path, above: tuple[Path, ...] = ()) -> dict[str, tuple[Path, Any]]:
    """Return the entries of a preset laid over those of its base, each with its file."""
    document = _document(path)
    if path in above:
        raise ValueError(f"{path}: its base leads back to itself; remove one `base`")
    base = document.get("base")
    entries = {} if base is None else _entries(path.with_name(f"{base}.toml"), (*above, path))
    return entries | {key: (path, entry) for key, entry in document["parameters"].items()}


def _example(key: str, value: object = "...") -> str:
    unit = quantity(key).unit or "..."
    return f'{key} = {{ value = {value}, unit = "{unit}", basis = "...", source = "..." }}'


def _provenance(path: Path, key: str, entry: Any) -> Provenance:
    place = f"{path}: [parameters] {key}"
    if not isinstance(entry, dict):
        raise ValueError(
            f"{place} = {entry!r} has no unit and no source; write {_example(key, entry)}"
        )
    for name in ("value", "unit", "basis", "source"):
        if name not in entry:
            raise ValueError(
                f"{place} has no {name}; write {_example(key, entry.get('value', '...'))}"
            )
    known = quantity(key)
    unit, basis, source = str(entry["unit"]), str(entry["basis"]), str(entry["source"])
    value = _number(place, "value", entry["value"])
    if known.unit and unit != known.unit:
        raise ValueError(
            f'{place} is given in {unit!r}; convert it and write unit = "{known.unit}"'
        )
    if not unit.strip():
        raise ValueError(f'{place} has an empty unit; a plain number has unit = "1"')
    if basis not in BASES:
        raise ValueError(f"{place}: basis is one of {', '.join(BASES)}, not {basis!r}")
    if not source.strip():
        raise ValueError(f"{place} has an empty source; write where the number comes from")
    if not known.holds(value):
        raise ValueError(f"{place} = {value:g} is unphysical: write {known}")
    bounds = entry.get("range")
    if bounds is None:
        if basis == "assumed":
            raise ValueError(
                f"{place} is assumed: add the range it may lie in, range = [low, high]"
            )
        return Provenance(value, unit, basis, source, None)
    if not (isinstance(bounds, list) and len(bounds) == 2):
        raise ValueError(f"{place}: range = {bounds!r}; write range = [low, high]")
    low, high = (_number(place, "range", bound) for bound in bounds)
    if not low <= value <= high:
        raise ValueError(f"{place} = {value:g} lies outside its own range [{low:g}, {high:g}]")
    for bound in (low, high):
        if not known.holds(bound):
            raise ValueError(f"{place}: {bound:g} in its range is unphysical: write {known}")
    return Provenance(value, unit, basis, source, (low, high))


def _number(place: str, name: str, value: object) -> float:
    number = float(value) if isinstance(value, int | float) else math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{place}: {name} = {value!r}; write a finite number")
    return number
