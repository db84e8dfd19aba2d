"""What the runner writes into the journal, as plain data."""

from __future__ import annotations

import math
from dataclasses import replace

from operando.instruments.limits import Firing
from operando.instruments.recorder import JSON
from operando.protocols.protocol import Outcome
from operando.protocols.steps import Step, describe, step_hash
from operando.protocols.tally import Tally


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


def ended_entry(outcome: Outcome, tally: Tally) -> dict[str, JSON]:
    """How a step ended. charge_before: C, passed by the set-point before after its last reading."""
    return {
        "index": outcome.index,
        "reason": outcome.reason,
        "condition": None if outcome.condition is None else str(outcome.condition),
        "duration": outcome.duration,
        "charge": outcome.charge,
        "energy": outcome.energy,
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
