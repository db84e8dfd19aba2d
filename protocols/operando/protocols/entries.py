"""What the runner writes into the journal, as plain data, and its words for what ended a run."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import replace

from operando.instruments.errors import OperandoError, RecordError
from operando.instruments.limits import Firing
from operando.instruments.recorder import JSON
from operando.instruments.samples import AuxReading
from operando.protocols.protocol import Outcome
from operando.protocols.steps import Step, describe, step_hash
from operando.protocols.tally import Tally

OUT_OF_RANGE = (
    "the reading is beyond its range (overflow): voltage or current are not known. Check the "
    "contacts and the ranges."
)
WENT_OFF = (
    "the instrument's output went off although it had been on: its protection, its front panel "
    "or program, an interlock or a loss of power. Look at the instrument before going on."
)


def beyond_range(reading: AuxReading) -> str:
    """What a limit makes of a sensor that reports overload."""
    return (
        f"{reading.source} reports overload: {reading.quantity} is beyond its range, and a limit "
        "watches it"
    )


def started_entry(step: Step, tally: Tally) -> dict[str, JSON]:
    """The intent to carry a step out, written before its set-point."""
    return {
        "index": tally.step_count,
        "step_id": tally.step_id,
        "cycle": tally.cycle,
        "label": step.label,
        "kind": type(step).__name__,
        "step": describe(step),
        "hash": step_hash(step),
    }


def ended_entry(
    outcome: Outcome, tally: Tally, spectrum: Mapping[str, JSON] | None = None
) -> dict[str, JSON]:
    """How a step ended. charge_before: C, passed by the set-point before after its last reading.

    spectrum: what is known of the one that it measured.
    """
    measured: dict[str, JSON] = {"spectrum": dict(spectrum)} if spectrum else {}
    return measured | {
        "index": outcome.index,
        "reason": outcome.reason,
        "condition": None if outcome.condition is None else str(outcome.condition),
        "duration": outcome.duration,
        "charge": outcome.charge,
        "energy": outcome.energy,
        "voltage": outcome.voltage,
        "current": outcome.current,
        "time": outcome.time,
        "charge_before": tally.charge_before,
    }


def cut_short_entry(state: str, tally: Tally) -> dict[str, JSON]:
    """How a step ended that the end of its run cut short. state: of the run."""
    return ended_entry(replace(tally.outcome(), reason=state, condition=None), tally)


def firing_entry(firing: Firing) -> dict[str, JSON]:
    """A limit that acted. value: that of its first quantity, values: of all, SI units."""
    values: dict[str, JSON] = {
        name: value if math.isfinite(value) else None
        for name, value in sorted(firing.values.items())
    }
    return {
        "name": firing.limit.name,
        "when": str(firing.limit.when),
        "action": firing.action.value,
        "cause": firing.cause.value,
        "since": firing.since,
        "value": next(iter(values.values()), None),
        "values": values,
    }


PROGRAM_DIED = "no reading: the program that ran this died, and the run was resumed"
UNSEEN = "what passed unseen is to be downloaded"
"""What a note tells of a stretch of a step on board that is a gap if the step's rows never come."""
STOOD_STILL = "no reading: this process or its computer stood still"


def gap_entry(
    start: float, end: float, *, suspended: float, charge_bound: float, why: str = STOOD_STILL
) -> dict[str, JSON]:
    """A stretch in which nothing was seen. start, end: s of the run.

    suspended: wall s of it for which the computer slept. charge_bound: C, the most that passed.
    """
    return {
        "start": start,
        "end": end,
        "suspended": suspended,
        "reason": why,
        "charge_bound": charge_bound,
    }


def safe_entry(
    reason: str, potentiostat: str, actuators: Mapping[str, str], charge_after: float
) -> dict[str, JSON]:
    """Verdicts of the safe state. potentiostat: "verified" or what is wrong; actuators: the same
    of each that was driven, by name. charge_after: C, passed between the last reading and the
    opening of the circuit.
    """
    entry: dict[str, JSON] = {"reason": reason, "potentiostat": potentiostat}
    if actuators:
        entry["actuators"] = dict(sorted(actuators.items()))
    return entry | {"charge_after": charge_after}


def in_words(error: Exception) -> str:
    """What ended a run, for people; a bug with the place where it came up."""
    if isinstance(error, RecordError):
        return f"the record failed: {error}"
    if isinstance(error, OperandoError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename} line {frame.lineno})"
