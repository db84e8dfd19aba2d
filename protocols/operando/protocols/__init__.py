"""Protocols: steps, the runner that carries them out, one module an experiment."""

from operando.protocols.actuator_steps import (
    CHAMBER_TEMPERATURE,
    HoldPressure,
    HoldTemperature,
    within,
)
from operando.protocols.actuators import VERIFIED, check_actuator
from operando.protocols.cccv import cccv
from operando.protocols.hold import conditioned_cccv
from operando.protocols.preflight import Finding, OpenCircuitWindow
from operando.protocols.preview import Preview, preview
from operando.protocols.protocol import Cell, Outcome, Plan, ProtocolFunction, Steps, protocol
from operando.protocols.run import POTENTIOSTAT, Channel, RunResult, RunSettings, RunState
from operando.protocols.runner import Runner
from operando.protocols.sheet import (
    SheetLine,
    contradictions,
    default_limits,
    limit_sheet,
    loosened,
    missing_limits,
)
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
    "cccv",
    "check_actuator",
    "check_technique",
    "conditioned_cccv",
    "contradictions",
    "default_limits",
    "limit_sheet",
    "logarithmic",
    "loosened",
    "missing_limits",
    "preview",
    "protocol",
    "within",
]
