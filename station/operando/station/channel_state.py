"""What is known of a channel beside a run under way: its last run, and what was acknowledged."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from operando.instruments.bench import Bench
from operando.instruments.errors import OperandoError
from operando.instruments.recorder import Entry
from operando.instruments.roles import ACTUATORS
from operando.protocols import POTENTIOSTAT, VERIFIED, RunState
from operando.records import Record
from operando.station.client.models import LimitInfo, Output, State
from operando.station.details import limits_in, made
from operando.station.engine import Run, UnderWay
from operando.station.sheets import limit_info

_LAST_ROW = "SELECT test_time_second FROM samples ORDER BY record_index DESC LIMIT 1"

SERIOUS = frozenset({"tripped", "faulted", "killed"})
"""States after which somebody must look before the next run starts."""

ACKNOWLEDGED = ".acknowledged"
"""File in the station's folder: a line with the run, for each one that was acknowledged."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """How a channel's last run ended. run: None when it has had none.

    output: of the potentiostat, read back at Unix time `output_at`; None if it was not.
    attention: somebody must acknowledge first. started: as `RunSummary`. elapsed: s of laboratory
    time. unsafe: actuators that it drove and that were not read back safe. died: Unix time by the
    wall's clock of the last that is known of a killed run, s. obstacle: why it cannot go on.
    resumed: how often it was taken up again.
    """

    run: str | None = None
    state: State = "idle"
    reason: str = ""
    output: Output = "unknown"
    output_at: float | None = None
    attention: bool = False
    protocol: str = ""
    title: str = ""
    started: float | None = None
    elapsed: float | None = None
    step: str = ""
    step_index: int = 0
    cycle: int = 0
    limits: tuple[LimitInfo, ...] = ()
    unsafe: tuple[str, ...] = ()
    died: float | None = None
    obstacle: str = ""
    resumed: int = 0

    @property
    def seen_as(self) -> str:
        """Under what it is stored that somebody has seen it; a run can die again."""
        return f"{self.run}+{self.resumed}" if self.resumed else str(self.run)


def limits_of(run: UnderWay) -> tuple[LimitInfo, ...]:
    """The limits that a run is watched by now."""
    limits = run.settled.limits if run.runner is None else run.runner.limits
    return tuple(limit_info(limit.name, limit.when, limit.action.value) for limit in limits)


def ended(run: UnderWay, outcome: Run | str) -> LastRun:
    """How a run that got as far as a record has ended.

    outcome: its end, or in words what kept the engine from coming to one.
    """
    assert run.runner is not None
    assert run.folder is not None
    tally = run.runner.tally
    if isinstance(outcome, Run):
        result = outcome.result
        state, reason, off, elapsed = (
            result.state, result.reason, result.output_off, result.duration,
        )  # fmt: skip
        unsafe = tuple(name for name in result.unsafe if name != POTENTIOSTAT)
    else:
        state, reason, off, elapsed = (
            RunState.FAULTED, outcome, run.verified_off, tally.time,
        )  # fmt: skip
        roles = run.settled.entry.roles.items()
        unsafe = tuple(name for role, name in roles if role in ACTUATORS and not run.is_safe(name))
    return LastRun(
        run=run.folder.name,
        state=state.value,
        reason=reason,
        output="off" if off else "unknown",
        output_at=time.time() if off else None,
        attention=state.value in SERIOUS or not off or bool(unsafe),
        protocol=run.order.plan.protocol.name,
        title=run.order.title or run.order.plan.protocol.name,
        started=run.started,
        elapsed=elapsed,
        step=tally.label,
        step_index=tally.step_count,
        cycle=tally.cycle,
        limits=limits_of(run),
        unsafe=unsafe,
        resumed=0 if run.again is None else times_resumed(Record.open(run.folder)),
    )


class Acknowledgements:
    """Runs that somebody has acknowledged, kept beside their records: a trip stays latched when
    the station is started again. By `LastRun.seen_as`."""

    def __init__(self, output: Path) -> None:
        self._path = output / ACKNOWLEDGED
        self._runs: set[str] = set()
        with contextlib.suppress(OSError, UnicodeDecodeError):
            self._runs = set(self._path.read_text(encoding="utf-8").split())

    def __contains__(self, run: str) -> bool:
        return run in self._runs

    def add(self, run: str) -> None:
        """Remember a run. Raises OSError when that cannot be stored."""
        self._runs.add(run)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{run}\n")
            file.flush()
            os.fsync(file.fileno())


def last_run(output: Path, bench: Bench, channel: str, seen: Acknowledgements) -> LastRun:
    """How the newest run in a folder went that belongs to a channel of a bench."""
    entry = bench.channels[channel]
    folders = {path.parent for path in output.glob(f"*_{channel}_*/record.sqlite")}
    for folder in sorted(folders, key=lambda path: (made(path), path.name), reverse=True):
        try:
            record = Record.open(folder)
            if not _belongs(record, channel, entry.cell, entry.roles.get("potentiostat", "")):
                continue
            found = _from_record(record)
        except (OperandoError, OSError) as error:
            found = LastRun(
                run=folder.name,
                state="killed",
                reason=f"its record cannot be read, so nothing is known of its end: {error}",
            )
        if found.state == "running":  # somebody else writes it, so it is not of these instruments
            continue
        attention = found.state in SERIOUS or found.output != "off" or bool(found.unsafe)
        return replace(found, attention=attention and found.seen_as not in seen)
    return LastRun()


def unsafe_of(record: Record) -> tuple[str, ...]:
    """Whose safe state nobody has read back: "potentiostat", and actuators that were told.

    What a run was refused, or did not come to tell, it has not driven.
    """
    verdicts: dict[str, object] = {POTENTIOSTAT: "unknown"}
    for entry in record.journal():
        if entry.entry is Entry.NOTE and "told" in entry.data:
            verdicts[str(entry.data.get("instrument"))] = "unknown"
        elif entry.entry is Entry.NOTE and "not driven" in entry.data:
            verdicts.pop(str(entry.data.get("instrument")), None)
        elif entry.entry is Entry.SAFE:
            verdicts[POTENTIOSTAT] = entry.data.get("potentiostat")
            verdicts |= _mapping(entry.data.get("actuators"))
    return tuple(name for name, verdict in verdicts.items() if verdict != VERIFIED)


def _belongs(record: Record, channel: str, cell: str, potentiostat: str) -> bool:
    """Whether a record is of this channel's instruments; virtual time touched none."""
    manifest = record.manifest
    clock, roles = _mapping(manifest.get("clock")), _mapping(manifest.get("roles"))
    return (
        manifest.get("channel") == channel
        and record.cell_name == cell
        and roles.get("potentiostat") == potentiostat
        and clock.get("mode") != "virtual"
    )


def times_resumed(record: Record) -> int:
    """How often a run was taken up again after its program had died."""
    return sum("steps over" in entry.data for entry in record.journal(Entry.RESUMED))


def _from_record(record: Record) -> LastRun:
    manifest, steps = record.manifest, record.steps()
    journal = record.journal()
    state: State = record.state
    unsafe = unsafe_of(record)
    reasons = [e.data.get("reason") for e in journal if e.entry is Entry.RUN_ENDED]
    if state == "killed":
        reason = (
            "the program that ran it died without an end. Its watchdog switches the output off; "
            "look at the instrument"
        )
        rows = record.rows(_LAST_ROW)
    else:
        reason = str(reasons[-1]) if reasons else ""
        rows = []
    elapsed = max(
        [*(entry.time for entry in journal[-1:]), *(row[0] for row in rows)], default=None
    )
    started: float | None = None
    with contextlib.suppress(ValueError):
        started = datetime.fromisoformat(str(manifest.get("started"))).timestamp()
    protocol = str(_mapping(manifest.get("protocol")).get("name", ""))
    return LastRun(
        run=record.folder.name,
        state=state,
        reason=reason,
        output="off" if state != "killed" and POTENTIOSTAT not in unsafe else "unknown",
        protocol=protocol,
        title=str(manifest.get("title") or protocol),
        started=started,
        elapsed=elapsed,
        step=steps[-1].label if steps else "",
        step_index=steps[-1].index if steps else 0,
        cycle=steps[-1].cycle if steps else 0,
        limits=limits_in(record),
        unsafe=tuple(name for name in unsafe if name != POTENTIOSTAT),
        died=_died(record, elapsed) if state == "killed" else None,
        resumed=times_resumed(record),
    )


def _died(record: Record, elapsed: float | None) -> float:
    """When a record was written last, Unix time by the wall's clock, s. elapsed: lab time, s."""
    clock = _mapping(record.manifest.get("clock"))
    speed = clock.get("speed") if clock.get("mode") == "scaled" else 1.0
    passed = (elapsed or 0.0) / (float(speed) if isinstance(speed, int | float) else 1.0)
    return min(made(record.folder, record.manifest) + passed, time.time())


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
