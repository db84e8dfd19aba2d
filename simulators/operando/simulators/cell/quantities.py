"""Unit and physical range of every number that a preset can hold."""

from __future__ import annotations

import math
from typing import NamedTuple


class Quantity(NamedTuple):
    """What a number must be."""

    unit: str
    """SI unit as written in presets; empty where any is accepted."""
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """The number lies above `low`, never on it."""


_NEVER_ZERO = {
    "m2": "area",
    "kg/m2": "active_loading",
    "C/kg": "charge_per_lithiation formation_charge nominal_specific_capacity",
    "kg/m3": "crystal_density",
    "m": (
        "growth_scale interphase_scale particle_radius separator_thickness thickness void_height"
    ),
    "m2/s": "diffusivity",
    "ohm m2": "charge_transfer_resistance",
    "S/m": "coating_conductivity electrolyte_conductivity separator_conductivity",
    "V": (
        "coating_window_width interphase_voltage_scale oxidation_scale reconstruction_voltage_scale"
    ),
    "1": (
        "coating_adhesion connection_width contact_strain diffusivity_knee_width potential_stretch"
    ),
    "C/m2": "bare_charge counter_void_charge nucleation_charge",
    "F/m2": "blocking_capacitance",
    "A/m2": (
        "counter_creep_current exchange_current filament_current nucleation_current stripping_limit"
    ),
    "C/(m2 s^0.5)": "interphase_rate",
    "C/(m2 s)": "interphase_reaction",
    "Pa": (
        "contact_pressure contact_pressure_scale counter_creep_pressure creep_short_pressure "
        "stack_pressure stripping_pressure"
    ),
    "s": (
        "creep_short_time filament_time first_oxidation_time incubation_time interphase_incubation"
    ),
    "m3/C": "lithium_expansion",
}
"""Numbers above 0, by unit."""

_NOT_NEGATIVE = {
    "A/m2": "oxidation_current",
    "ohm m2": (
        "cathode_ionic_resistance counter_resistance interface_resistance space_charge_resistance"
    ),
    "J/mol": (
        "active_activation_energy charge_transfer_activation_energy counter_activation_energy "
        "counter_creep_activation_energy counter_interphase_activation_energy "
        "creep_activation_energy diffusivity_activation_energy electrolyte_activation_energy "
        "exchange_activation_energy filament_activation_energy growth_activation_energy "
        "interface_activation_energy interphase_activation_energy reconstruction_activation_energy"
    ),
    "m3/C": "counter_expansion interphase_volume",
    "C/m2": "counter_inventory counter_lithium first_oxidation working_lithium",
    "V": "bare_potential flaw_potential spread_assembled_potential",
    "1/s": "reconstruction_rate",
    "1": (
        "connection_loss contact_deficit contact_exponent contact_loss counter_creep_exponent "
        "creep_short_exponent filament_exponent nucleation_exponent percolation_exponent "
        "spread_charge_transfer spread_conductivity spread_contact_loss spread_filament "
        "spread_interface "
        "spread_loading spread_separator spread_thickness stripping_exponent"
    ),
    "m/s": "growth_rate interphase_growth",
    "ohm m2/m": "growth_resistivity interphase_resistance",
    "C/(m2 s^0.5)": "counter_interphase_rate",
    "ohm m": "interphase_resistivity",
    "S/m": (
        "active_conductivity electrolyte_electronic_conductivity electronic_conductivity "
        "electronic_floor ionic_floor separator_electronic_conductivity"
    ),
    "S/m2": "electron_contact flaw_conductance hard_conductance ion_contact soft_conductance",
    "F s^(a-1)/m2": (
        "blocking_coefficient counter_capacitance double_layer_capacitance "
        "grain_boundary_capacitance interface_capacitance"
    ),
    "F/m2": "internal_capacitance",
    "m": "coating_thickness",
    "Pa/m": "frame_stiffness",
    "C/m3": "interphase_charge",
    "ohm m4/C": "counter_interphase_resistance",
}
"""Numbers from 0 upwards, by unit."""

_SHARES = (
    "active_fraction barrier_depth barrier_growth bulk_growth_share cathode_accommodation "
    "cathode_electronic_share charge_transfer_lithiation coating_coverage connection_threshold "
    "contact_healing coverage diffusivity_floor diffusivity_knee electronic_threshold "
    "flaw_probability "
    "grain_boundary_share initial_lithiation ionic_threshold porosity soft_short"
)
"""Numbers between 0 and 1."""

_EXPONENTS = (
    "grain_boundary_exponent counter_exponent double_layer_exponent interface_exponent "
    "blocking_exponent"
)
"""Exponents of constant-phase elements: 1 is a capacitor, below 0.5 there is nothing to model."""

_KNOWN = (
    {n: Quantity(u, 0.0, above=True) for u, names in _NEVER_ZERO.items() for n in names.split()}
    | {n: Quantity(u, 0.0) for u, names in _NOT_NEGATIVE.items() for n in names.split()}
    | {name: Quantity("1", 0.0, 1.0) for name in _SHARES.split()}
    | {name: Quantity("1", 0.5, 1.0) for name in _EXPONENTS.split()}
    | {
        "counter_potential": Quantity("V", -1.0, 5.0),
        "assembled_potential": Quantity("V", -1.0, 5.0),
        "interphase_onset": Quantity("V", -1.0, 6.0),
        "reconstruction_onset": Quantity("V", -1.0, 6.0),
        "contact_share": Quantity("1", 0.0, 1.0, above=True),
        "oxidation_onset": Quantity("V", -1.0, 10.0),
        "coating_window": Quantity("V", 0.0, 10.0),
        "reference_temperature": Quantity("K", 150.0, 600.0),
    }
)


def quantity(name: str) -> Quantity:
    """Return what a parameter must be; any finite number with a unit for one not listed."""
    return _KNOWN.get(name, Quantity(""))
