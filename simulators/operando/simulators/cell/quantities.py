"""Unit and physical range of every number that a preset can hold.

The ranges are wide: they bound what the equations can carry, and what could be a cell at all, not
what is likely. What is likely for one number of one cell stands in its preset.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NamedTuple


class Quantity(NamedTuple):
    """What a number must be."""

    unit: str
    """SI unit as written in presets; empty where any is accepted."""
    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a value lies within; False for one that is no number."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """What to write, for messages."""
        least, most = not math.isinf(self.low), not math.isinf(self.high)
        unit = f" ({self.unit})" if self.unit else ""
        if least and most:
            return f"a value at least {self.low:g} and at most {self.high:g}{unit}"
        return f"a value at least {self.low:g}{unit}" if least else f"a finite number{unit}"


_RANGES: tuple[tuple[str, float, float, str], ...] = (
    ("m2", 1e-8, 1.0, "area"),
    ("kg/m2", 1e-4, 1e2, "active_loading"),
    ("kg/m3", 5e2, 3e4, "crystal_density"),
    ("C/kg", 1e4, 2e7, "charge_per_lithiation nominal_specific_capacity"),
    ("C/kg", 1.0, 1e7, "formation_charge"),
    ("1", 0.5, 2.0, "potential_stretch"),
    # Lengths.
    ("m", 1e-8, 1e-3, "particle_radius"),
    ("m", 1e-6, 1e-1, "separator_thickness thickness"),
    ("m", 1e-9, 1e-2, "void_height"),
    ("m", 1e-11, 1e-3, "growth_scale interphase_blocking interphase_scale"),
    ("m", 0.0, 1e-5, "coating_thickness"),
    # Transport.
    ("m2/s", 1e-22, 1e-8, "diffusivity"),
    ("S/m", 1e-14, 1e3, "coating_conductivity"),
    ("S/m", 1e-8, 1e3, "electrolyte_conductivity separator_conductivity"),
    ("S/m", 0.0, 1e-2, "electronic_conductivity separator_electronic_conductivity"),
    ("S/m", 0.0, 1e-1, "electrolyte_electronic_conductivity"),
    ("S/m", 0.0, 1e6, "active_conductivity electronic_floor ionic_floor"),
    ("S/m2", 0.0, 1e12, "electron_contact ion_contact"),
    ("S/m2", 0.0, 1e8, "hard_conductance soft_conductance"),
    ("S/m2", 0.0, 1e2, "flaw_conductance"),
    # Resistances.
    ("ohm m2", 1e-7, 1e2, "charge_transfer_resistance"),
    (
        "ohm m2",
        0.0,
        1e2,
        "cathode_ionic_resistance counter_resistance interface_resistance space_charge_resistance",
    ),
    ("ohm m2/m", 0.0, 1e12, "growth_resistivity interphase_resistance"),
    ("ohm m", 0.0, 1e12, "interphase_resistivity"),
    ("ohm m4/C", 0.0, 1.0, "counter_interphase_resistance"),
    # Lithium and charge.
    ("C/m2", 1.0, 1e9, "counter_inventory"),
    ("C/m2", 0.0, 1e9, "counter_lithium working_lithium"),
    ("C/m2", 0.0, 1e6, "first_oxidation"),
    ("C/m2", 1e-3, 1e6, "bare_charge nucleation_charge"),
    ("C/m2", 1.0, 1e12, "counter_void_charge"),
    ("C/m3", 0.0, 1e11, "interphase_charge"),
    # Capacitances.
    ("F/m2", 1e-4, 1e6, "blocking_capacitance"),
    ("F/m2", 1e-6, 1e6, "internal_capacitance"),
    ("F s^(a-1)/m2", 1e-6, 1e6, "blocking_coefficient"),
    (
        "F s^(a-1)/m2",
        0.0,
        1e6,
        "counter_capacitance double_layer_capacitance grain_boundary_capacitance "
        "interface_capacitance",
    ),
    # Rates.
    (
        "A/m2",
        1e-6,
        1e6,
        "counter_creep_current exchange_current filament_current nucleation_current "
        "stripping_limit",
    ),
    ("A/m2", 0.0, 1e4, "oxidation_current"),
    ("C/(m2 s^0.5)", 1e-9, 1e4, "interphase_rate"),
    ("C/(m2 s^0.5)", 0.0, 1e4, "counter_interphase_rate"),
    ("C/(m2 s)", 1e-9, 1e6, "interphase_reaction"),
    ("m/s", 0.0, 1e-9, "growth_rate interphase_growth"),
    ("1/s", 0.0, 1.0, "reconstruction_rate"),
    (
        "s",
        1e-3,
        1e12,
        "creep_short_time filament_time first_oxidation_time incubation_time interphase_incubation",
    ),
    (
        "J/mol",
        0.0,
        3e5,
        "active_activation_energy charge_transfer_activation_energy counter_activation_energy "
        "counter_creep_activation_energy counter_interphase_activation_energy "
        "creep_activation_energy diffusivity_activation_energy electrolyte_activation_energy "
        "exchange_activation_energy filament_activation_energy growth_activation_energy "
        "interface_activation_energy interphase_activation_energy "
        "reconstruction_activation_energy",
    ),
    ("K", 150.0, 600.0, "reference_temperature"),
    # Mechanics.
    (
        "Pa",
        1e3,
        1e11,
        "contact_pressure contact_pressure_scale counter_creep_pressure creep_short_pressure "
        "stack_pressure stripping_pressure",
    ),
    ("Pa/m", 0.0, 1e16, "frame_stiffness"),
    ("m3/C", 1e-12, 1e-8, "lithium_expansion"),
    (
        "m3/C",
        0.0,
        1e-8,
        "counter_expansion counter_interphase_expansion interphase_volume",
    ),
    ("1", 5e-2, 1e2, "coating_adhesion"),
    ("1", 1e-4, 1.0, "contact_strain"),
    ("1", 1e-4, 1.0, "contact_share"),
    ("1", 0.0, 1e2, "connection_loss contact_loss"),
    # With the least adhesion a contact of 5e-3 as assembled: the model goes down to 1e-3.
    ("1", 0.0, 10.0, "contact_deficit"),
    # Potentials.
    ("V", -1.0, 5.0, "assembled_potential counter_potential"),
    ("V", -1.0, 6.0, "interphase_onset reconstruction_onset"),
    ("V", -1.0, 10.0, "oxidation_onset"),
    ("V", 0.0, 10.0, "coating_window"),
    ("V", 0.0, 5.0, "bare_potential flaw_potential"),
    ("V", 0.0, 1.0, "spread_assembled_potential"),
    # Widths of thresholds: a narrower one is a step, which no step in time resolves.
    ("V", 1e-2, 5.0, "interphase_voltage_scale oxidation_scale"),
    ("V", 1e-3, 5.0, "coating_window_width reconstruction_voltage_scale"),
    ("1", 3e-3, 1.0, "connection_width"),
    ("1", 5e-3, 1.0, "diffusivity_knee_width"),
    # Exponents, of laws and of constant-phase elements: of these 1 is a capacitor, and below 0.5
    # there is nothing to model.
    (
        "1",
        0.0,
        20.0,
        "contact_exponent counter_creep_exponent creep_short_exponent filament_exponent "
        "nucleation_exponent percolation_exponent stripping_exponent",
    ),
    (
        "1",
        0.5,
        1.0,
        "blocking_exponent counter_exponent double_layer_exponent grain_boundary_exponent "
        "interface_exponent",
    ),
    (
        "1",
        0.0,
        1.0,
        "active_fraction barrier_depth barrier_growth bulk_growth_share cathode_accommodation "
        "cathode_electronic_share charge_transfer_lithiation coating_coverage connection_threshold "
        "contact_healing coverage diffusivity_floor diffusivity_knee electronic_threshold "
        "flaw_probability grain_boundary_share initial_lithiation ionic_threshold porosity",
    ),
    ("1", 0.0, 0.99, "soft_short"),
    (
        "1",
        0.0,
        1.0,
        "spread_charge_transfer spread_conductivity spread_contact_loss spread_filament "
        "spread_interface spread_loading spread_separator spread_thickness",
    ),
)
"""Unit, least and largest value, and the numbers they hold for."""

_KNOWN = {
    name: Quantity(unit, low, high) for unit, low, high, names in _RANGES for name in names.split()
}


def quantity(name: str) -> Quantity:
    """Return what a parameter must be; any finite number with a unit for one not listed."""
    return _KNOWN.get(name, Quantity(""))


_BOUNDS: dict[type[Any], tuple[tuple[str, float, float], ...]] = {}
"""Fields of a dataclass of parameters with their least and largest values, as they are asked."""


def check(parameters: object) -> None:
    """Raise ValueError naming the first number of a dataclass of parameters out of its range."""
    kind: type[Any] = type(parameters)
    if kind not in _BOUNDS:
        known = ((field.name, quantity(field.name)) for field in fields(kind))
        _BOUNDS[kind] = tuple((name, each.low, each.high) for name, each in known)
    for name, low, high in _BOUNDS[kind]:
        value = getattr(parameters, name)
        if not (isinstance(value, float | int) and low <= value <= high):
            raise ValueError(f"{name} = {value!r} is unphysical: write {quantity(name)}")


def clipped(**values: float) -> dict[str, float]:
    """Return parameters by name, each brought to the nearer end of its range if beyond it."""
    known = {name: quantity(name) for name in values}
    return {n: min(max(v, known[n].low), known[n].high) for n, v in values.items()}
