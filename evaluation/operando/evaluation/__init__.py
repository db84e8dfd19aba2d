"""What a record means: one module an experiment, and the figures."""

from operando.evaluation.cccv import Cycle, CyclePressure, CyclingResult, cccv
from operando.evaluation.figures import (
    draw_ageing,
    draw_capacity_by_cycle,
    draw_time_series,
    draw_voltage_capacity,
)

__all__ = [
    "Cycle",
    "CyclePressure",
    "CyclingResult",
    "cccv",
    "draw_ageing",
    "draw_capacity_by_cycle",
    "draw_time_series",
    "draw_voltage_capacity",
]
