"""What a dry run predicts, as plain data. Everything in it is SIMULATED.

Numbers are SI floats; a missing or unknown number is None. Times named `time` are seconds of
laboratory time since the start of the run.
"""

from __future__ import annotations

from typing import Literal

from operando.instruments.quantities import format_quantity
from operando.instruments.words import quantity_words
from operando.station.client.models import CycleRow, _Model

PredictedState = Literal["completed", "tripped", "held", "faulted", "refused", "cut", "stopped"]
"""How the predicted run ends. "held": a limit opened the circuit, and it waits for an operator.
"cut": the time for computing was up before its end. "stopped": a person stopped the dry run."""


class Extreme(_Model):
    """The lowest or highest value of a quantity, SI, and when."""

    value: float
    time: float


class Margin(_Model):
    """How close a quantity comes to the bound of a limit.

    limit, when, action: of the limit. quantity: what is compared, as in the condition. unit: SI
    unit of bound, value and margin. bound: as written, `above` if the limit lies above. value,
    time: where it came closest among the recorded readings; None where the twin has none. margin:
    what was left, negative beyond the bound. acted: s at which the limit acted, None if it did not.
    silent: it acted because there was no reading.
    """

    limit: str
    when: str
    action: str
    quantity: str
    unit: str
    bound: float
    above: bool
    value: float | None = None
    time: float | None = None
    margin: float | None = None
    acted: float | None = None
    silent: bool = False

    @property
    def watched(self) -> bool:
        """Whether the twin measures it."""
        return self.value is not None


class PredictedStep(_Model):
    """A step as it went in the twin. duration: s. charge: net, C. end_voltage: V, last reading.

    reason: how it ended. on_board: whether the instrument carried it out by itself.
    """

    index: int
    label: str
    cycle: int
    start: float
    duration: float | None
    charge: float | None
    end_voltage: float | None
    reason: str
    on_board: bool


class PredictedCurve(_Model):
    """A quantity against time: of each bin the lowest and the highest recorded reading."""

    quantity: str
    time: tuple[float, ...]
    value: tuple[float | None, ...]


class Prediction(_Model):
    """What a run would do, from the simulated twin of its channel. SIMULATED.

    state, reason: how it ends. preset: of the twin's cell. made: Unix time at which the run was
    taken to start, s. duration: s of the run; up to where the prediction came, if it was cut.
    finish: Unix time, s; None unless it completes or trips by itself. computed: wall s that it
    took. rows: samples of the dry record; readings: of its other instruments; size: bytes of all
    its files. margins: a line for each comparison of each limit. notes: what to know about the
    twin. folder: of the dry record, "" if it was not kept.
    """

    simulated: Literal[True] = True
    channel: str
    cell: str
    preset: str
    seed: int
    state: PredictedState
    reason: str
    made: float
    duration: float
    finish: float | None
    computed: float
    rows: int
    readings: int
    size: int
    steps: tuple[PredictedStep, ...] = ()
    cycles: tuple[CycleRow, ...] = ()
    margins: tuple[Margin, ...] = ()
    lowest_voltage: Extreme | None = None
    highest_voltage: Extreme | None = None
    lowest_current: Extreme | None = None
    highest_current: Extreme | None = None
    on_board: int = 0
    curves: tuple[PredictedCurve, ...] = ()
    notes: tuple[str, ...] = ()
    folder: str = ""


def margin_words(margin: Margin) -> str:
    """How a limit fares: "0.05 V left", "not watched in the twin", "would trip at 3 h 12 min"."""
    if margin.acted is not None:
        why = ", because there is no reading" if margin.silent else ""
        return f"would {margin.action} at {format_quantity(margin.acted, 's')}{why}"
    if margin.margin is None:
        return "not watched in the twin"
    if margin.margin < 0.0:
        return f"{value_words(-margin.margin, margin.unit)} beyond, not for long enough to act"
    return f"{value_words(margin.margin, margin.unit)} left"


def value_words(value: float, unit: str) -> str:
    """A value of a margin; a difference of temperatures stays one."""
    if unit == "1 s":  # the dose of a mole fraction
        return f"{value * 1e6 / 3600.0:.4g} ppm h"
    if unit == "K" or unit.endswith(" s"):
        return f"{value:.4g} {unit}"
    return quantity_words(value, unit)
