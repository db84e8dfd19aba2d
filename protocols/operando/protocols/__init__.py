"""Protocols: steps, the runner that carries them out, one module an experiment."""

from operando.protocols.actuator_steps import (
    CHAMBER_TEMPERATURE,
    HoldPressure,
    HoldTemperature,
    within,
)
from operando.protocols.actuators import VERIFIED, check_actuator
from operando.protocols.calendar_ageing import calendar_ageing
from operando.protocols.cccv import cccv
from operando.protocols.ccd import ccd
from operando.protocols.composite_transport import composite_transport
from operando.protocols.compression_relaxation import compression_relaxation
from operando.protocols.conductivity import conductivity
from operando.protocols.ctta import ctta
from operando.protocols.cv import cv
from operando.protocols.electronic_conductivity import dc_polarisation, electronic_conductivity
from operando.protocols.gitt import gitt
from operando.protocols.hold import conditioned_cccv
from operando.protocols.impedance import impedance
from operando.protocols.impedance_by_charge import impedance_by_charge
from operando.protocols.lsv import lsv
from operando.protocols.operando_pressure import operando_pressure
from operando.protocols.pitt import pitt
from operando.protocols.plating_stripping import plating_stripping
from operando.protocols.preflight import Finding, OpenCircuitWindow
from operando.protocols.pressure_sweep import pressure_sweep
from operando.protocols.preview import Preview, preview
from operando.protocols.protocol import Cell, Outcome, Plan, ProtocolFunction, Steps, protocol
from operando.protocols.pulses import pulses
from operando.protocols.rate_capability import rate_capability
from operando.protocols.run import POTENTIOSTAT, Channel, RunResult, RunSettings, RunState
from operando.protocols.runner import Runner
from operando.protocols.self_discharge import self_discharge
from operando.protocols.sheet import (
    SheetLine,
    contradictions,
    default_limits,
    limit_sheet,
    loosened,
    missing_limits,
)
from operando.protocols.static_contact import static_contact
from operando.protocols.steps import (
    Block,
    ConstantCurrent,
    ConstantCurrentConstantVoltage,
    ConstantVoltage,
    Impedance,
    Rest,
    Step,
    VoltageSweep,
    logarithmic,
)
from operando.protocols.techniques import check_technique
from operando.protocols.voltage_hold import voltage_hold

__all__ = [
    "CHAMBER_TEMPERATURE",
    "POTENTIOSTAT",
    "VERIFIED",
    "Block",
    "Cell",
    "Channel",
    "ConstantCurrent",
    "ConstantCurrentConstantVoltage",
    "ConstantVoltage",
    "Finding",
    "HoldPressure",
    "HoldTemperature",
    "Impedance",
    "OpenCircuitWindow",
    "Outcome",
    "Plan",
    "Preview",
    "ProtocolFunction",
    "Rest",
    "RunResult",
    "RunSettings",
    "RunState",
    "Runner",
    "SheetLine",
    "Step",
    "Steps",
    "VoltageSweep",
    "calendar_ageing",
    "cccv",
    "ccd",
    "check_actuator",
    "check_technique",
    "composite_transport",
    "compression_relaxation",
    "conditioned_cccv",
    "conductivity",
    "contradictions",
    "ctta",
    "cv",
    "dc_polarisation",
    "default_limits",
    "electronic_conductivity",
    "gitt",
    "impedance",
    "impedance_by_charge",
    "limit_sheet",
    "logarithmic",
    "loosened",
    "lsv",
    "missing_limits",
    "operando_pressure",
    "pitt",
    "plating_stripping",
    "pressure_sweep",
    "preview",
    "protocol",
    "pulses",
    "rate_capability",
    "self_discharge",
    "static_contact",
    "voltage_hold",
    "within",
]
