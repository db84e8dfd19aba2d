"""What a record means: one module an experiment, and the figures."""

from operando.evaluation.calendar_ageing import calendar_ageing
from operando.evaluation.cccv import Cycle, CyclePressure, CyclingResult, cccv
from operando.evaluation.ccd import ccd
from operando.evaluation.composite_transport import composite_transport
from operando.evaluation.compression_relaxation import compression_relaxation
from operando.evaluation.conductivity import conductivity
from operando.evaluation.ctta import ctta
from operando.evaluation.cv import cv
from operando.evaluation.electronic_conductivity import dc_polarisation, electronic_conductivity
from operando.evaluation.figures import (
    draw_ageing,
    draw_capacity_by_cycle,
    draw_time_series,
    draw_voltage_capacity,
)
from operando.evaluation.gitt import gitt
from operando.evaluation.hold import conditioned_cccv
from operando.evaluation.impedance import impedance
from operando.evaluation.impedance_by_charge import impedance_by_charge
from operando.evaluation.lsv import lsv
from operando.evaluation.operando_pressure import operando_pressure
from operando.evaluation.pitt import pitt
from operando.evaluation.plating_stripping import plating_stripping
from operando.evaluation.pressure_sweep import pressure_sweep
from operando.evaluation.pulses import pulses
from operando.evaluation.rate_capability import rate_capability
from operando.evaluation.self_discharge import self_discharge
from operando.evaluation.static_contact import static_contact
from operando.evaluation.voltage_hold import voltage_hold

__all__ = [
    "Cycle",
    "CyclePressure",
    "CyclingResult",
    "calendar_ageing",
    "cccv",
    "ccd",
    "composite_transport",
    "compression_relaxation",
    "conditioned_cccv",
    "conductivity",
    "ctta",
    "cv",
    "dc_polarisation",
    "draw_ageing",
    "draw_capacity_by_cycle",
    "draw_time_series",
    "draw_voltage_capacity",
    "electronic_conductivity",
    "gitt",
    "impedance",
    "impedance_by_charge",
    "lsv",
    "operando_pressure",
    "pitt",
    "plating_stripping",
    "pressure_sweep",
    "pulses",
    "rate_capability",
    "self_discharge",
    "static_contact",
    "voltage_hold",
]
