"""What a station finds when it starts, of the runs that ended before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from operando.instruments.errors import OperandoError
from operando.station.channel_state import LastRun
from operando.station.engine import Engine, Found
from operando.station.resume import taken_up


def with_output(run: LastRun, name: str, found: Found | None, *, orphaned: bool) -> LastRun:
    """Say what became of the output of a channel.

    name: of its potentiostat. orphaned: its owner before this station died without an end.
    """
    output = "unknown" if found is None else found.output
    if found is not None and output == "off":
        reason = run.reason
        if orphaned:
            said = "its output was read back off when this station started"
            reason = "; ".join(filter(None, (reason, said)))
        return replace(run, reason=reason, output="off", output_at=found.at)
    if found is not None and (output == "on" or orphaned):
        why = "was found on when this station started, which had not switched it on"
        if output != "on":
            why = f"could not be read back off: ASSUME THAT IT IS ON ({found.problem})"
        text = f"the output of {name} {why}"
        return replace(
            run,
            output=output,
            output_at=found.at if output == "on" else None,
            attention=True,
            reason=f"{run.reason}; {text}" if run.reason else text,
        )
    return run


def with_actuators(run: LastRun, told: Collection[str], found: Mapping[str, Found]) -> LastRun:
    """Say what became of the chamber and the press that a run had left as they were.

    told: those that were to be brought into their safe state.
    """
    words, unsafe = [], []
    for name in [name for name in run.unsafe if name in told]:
        one = found.get(name)
        if one is not None and one.output == "off":
            words.append(f"{name} was brought into its safe state when this station started")
        else:
            unsafe.append(name)
            why = "" if one is None else f" ({one.problem})"
            words.append(f"{name} COULD NOT BE BROUGHT INTO ITS SAFE STATE{why}")
    reason = "; ".join(filter(None, (run.reason, *words)))
    return replace(run, reason=reason, unsafe=tuple(unsafe))


def with_obstacle(run: LastRun, engine: Engine, output: Path) -> LastRun:
    """Say what keeps a killed run from going on. output: folder of the records."""
    if run.state != "killed" or run.run is None:
        return run
    try:
        taken_up(engine.bench, engine.clock, output / run.run)
    except OperandoError as error:
        return replace(run, obstacle=str(error))
    except Exception as error:  # a bug of the protocol, which may be somebody else's
        return replace(run, obstacle=f"{type(error).__name__}: {error}")
    return run
