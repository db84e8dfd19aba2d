"""What a record says, as plain data and in words: for lists of runs and the page of one run."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from operando.evaluation import cccv
from operando.instruments import conditions
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import QUANTITIES, format_quantity
from operando.instruments.recorder import JSON, Entry
from operando.records import JournalEntry, Record, Step, schema
from operando.station.client.models import (
    CellInfo,
    CycleRow,
    GapInfo,
    JournalLine,
    LimitInfo,
    RunDetail,
    RunSummary,
    StepInfo,
)
from operando.station.sheets import limit_info

UNREADABLE = "unreadable"
"""State of a record whose files cannot be read."""

_LAST = (
    "SELECT (SELECT test_time_second FROM journal ORDER BY seq DESC LIMIT 1), "
    "(SELECT test_time_second FROM samples ORDER BY record_index DESC LIMIT 1)"
)


def summary_of(record: Record) -> RunSummary:
    """A line of the list of runs. Raises RecordError."""
    manifest = record.manifest
    ends = [_finite(end) for end in record.rows(_LAST)[0]]
    return RunSummary(
        run=record.folder.name,
        channel=str(manifest.get("channel", "")),
        cell=record.cell_name,
        protocol=protocol_of(record),
        state=record.state,
        simulated=record.simulated,
        started=_started(record),
        made=made(record.folder, record.manifest),
        duration=max((end for end in ends if end is not None), default=None),
        folder=str(record.folder),
    )


def unreadable(record: Record) -> RunSummary:
    """The line for a record that cannot be read: it is listed all the same."""
    return RunSummary(
        run=record.folder.name,
        channel="",
        cell="",
        protocol="",
        state=UNREADABLE,
        simulated=record.simulated,
        started=_started(record),
        made=made(record.folder, record.manifest),
        folder=str(record.folder),
    )


def made(folder: Path, manifest: Mapping[str, JSON] | None = None) -> float:
    """When a record was made by this computer's clock, Unix time in s: the order of records.

    Not by `started`, which is of the laboratory's clock and runs ahead where that is scaled. What
    the manifest says as `made` (ISO 8601 with its offset), else the time of its file, which is
    written once; then that of the folder, and 0 where there is none. manifest: None reads it.
    """
    if manifest is None:
        manifest = {}
        with contextlib.suppress(OSError, ValueError):
            manifest = _mapping(json.loads((folder / schema.MANIFEST).read_bytes()))
    moment = _moment(_text(manifest, "made"))
    if moment is not None:
        return moment
    for path in (folder / schema.MANIFEST, folder):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def detail_of(
    record: Record, quantities: tuple[str, ...], start: float | None, end: float | None
) -> RunDetail:
    """A run with everything but its curves. start, end: s. Raises RecordError."""
    journal = record.journal()
    ended = [entry for entry in journal if entry.entry is Entry.RUN_ENDED]
    return RunDetail(
        summary=summary_of(record),
        reason=_text(ended[-1].data, "reason") if ended else "",
        quantities=quantities,
        start=_finite(start),
        end=_finite(end),
        cell=cell_info(record),
        steps=tuple(_step(step) for step in record.steps()),
        journal=tuple(
            JournalLine(
                seq=entry.seq,
                time=_finite(entry.time),
                unix_time=_finite(entry.unix_time),
                kind=entry.entry.value,
                text=words(entry),
            )
            for entry in journal
        ),
        gaps=tuple(
            GapInfo(
                start=gap.start,
                end=gap.end,
                reason=gap.reason,
                charge_bound=_finite(gap.charge_bound),
            )
            for gap in record.gaps()
            if math.isfinite(gap.start) and math.isfinite(gap.end)
        ),
        limits=limits_in(record),
    )


def cycles_of(record: Record) -> list[CycleRow]:
    """The cycles of a run so far. Raises RecordError."""
    # Of several sources of pressure any tells how it swings; the choice is always the same.
    sources = [source for source, quantity in record.quantities() if quantity == "pressure"]
    result = cccv(record, pressure_source=sources[0] if sources else None)
    return [
        CycleRow(
            cycle=cycle.cycle,
            charge_capacity=_finite(cycle.charge_capacity),
            discharge_capacity=_finite(cycle.discharge_capacity),
            coulombic_efficiency=_finite(cycle.coulombic_efficiency),
            constant_voltage_time=_finite(cycle.constant_voltage_time),
            mean_polarisation=_finite(cycle.mean_polarisation),
            pressure_swing=_finite(cycle.pressure.swing),
            flags=cycle.flags,
        )
        for cycle in result.cycles
    ]


def protocol_of(record: Record) -> str:
    """Name of its protocol; "" if the manifest has none."""
    return _text(_mapping(record.manifest.get("protocol")), "name")


def cell_info(record: Record) -> CellInfo:
    """The cell under test as the manifest describes it."""
    cell = record.cell
    plain = {
        str(key): value if isinstance(value, str | float | int | bool) else str(value)
        for key, value in _mapping(cell.get("metadata")).items()
    }
    return CellInfo(
        name=record.cell_name,
        capacity=_positive(cell.get("capacity")),
        active_mass=_positive(cell.get("active_mass")),
        area=_positive(cell.get("area")),
        one_c=_text(cell, "one_c"),
        metadata=plain,
    )


def words(entry: JournalEntry) -> str:
    """A journal entry as a sentence. Never raises: what it does not know it lists as it is."""
    sentence = ""
    with contextlib.suppress(ValueError, TypeError, KeyError, BadInputError):
        sentence = _SENTENCES.get(entry.entry, _listed)(entry.data)
    return sentence or _listed(entry.data)


# ---- below ---------------------------------------------------------------------------------


def _run_started(data: Mapping[str, JSON]) -> str:
    return f"run started on channel {data['channel']}"


def _step_started(data: Mapping[str, JSON]) -> str:
    step = _mapping(data.get("step"))
    until = step.get("until")
    ends = f", until {' or '.join(map(str, until))}" if isinstance(until, list) and until else ""
    asked = setpoint_of(step)
    return (
        f"step {data['index']}, cycle {data['cycle']}: {data['label']}"
        f"{f', {asked}' if asked else ''}{ends}"
    )


def _step_ended(data: Mapping[str, JSON]) -> str:
    why = data.get("condition") or data.get("reason") or "no reason was recorded"
    return (
        f"step {data['index']} ended: {why}; after {_amount(data.get('duration'), 's')}, "
        f"{_charge(data.get('charge'))} passed"
    )


def _limit(data: Mapping[str, JSON]) -> str:
    if data.get("cause") == "stale":
        why = f"no valid reading for {data['when']}"
    else:
        read = [
            f"{name} {_amount(value, QUANTITIES[name].unit if name in QUANTITIES else '')}"
            for name, value in _mapping(data.get("values")).items()
        ]
        why = str(data["when"]) + (f" ({', '.join(read)})" if read else "")
    return f"limit {data['name']} acted ({data['action']}): {why}"


def _alarm(data: Mapping[str, JSON]) -> str:
    return f"{data['what']}: {data['why']}"


def _paused(data: Mapping[str, JSON]) -> str:
    passed = ""
    if data.get("step_charge") is not None:
        passed = (
            f"; the step has taken {_amount(data.get('elapsed'), 's')} and "
            f"{_charge(data.get('step_charge'))}"
        )
    return f"{data['state']}: {data['reason']}{passed}"


def _gap(data: Mapping[str, JSON]) -> str:
    lasted = float(str(data["end"])) - float(str(data["start"]))
    return (
        f"nothing was observed for {_amount(lasted, 's')}: {data['reason']}; at most "
        f"{_amount(data.get('charge_bound'), 'As')} passed"
    )


def _safe(data: Mapping[str, JSON]) -> str:
    actuators = _mapping(data.get("actuators"))
    verdicts = {"the output": data.get("potentiostat"), **actuators}
    wrong = [f"{name}: {verdict}" for name, verdict in verdicts.items() if verdict != "verified"]
    if wrong:
        return f"NOT VERIFIED SAFE: {'; '.join(wrong)} ({data['reason']})"
    others = f", {', '.join(actuators)} read back safe" if actuators else ""
    return f"safe state: the output was read back off{others} ({data['reason']})"


def _note(data: Mapping[str, JSON]) -> str:
    for said in ("told", "read back"):
        if said in data:
            return f"{data['instrument']} {said}: {setpoint_of(_mapping(data[said]))}"
    findings = data.get("preflight")
    if not isinstance(findings, list):
        return _listed(data)
    found = [_mapping(one) for one in findings]
    wrong = [_finding(one) for one in found if one.get("problem")]
    rest = [str(one["note"]) for one in found if one.get("check") == "open_circuit"]
    return f"before the first step: {'; '.join(wrong or rest)}"


def _finding(finding: Mapping[str, JSON]) -> str:
    override = finding.get("override")
    return f"{finding['problem']}" + (f" Let pass: {override}" if override else "")


def _run_ended(data: Mapping[str, JSON]) -> str:
    reason = data.get("reason")
    return f"run {data['state']}{f': {reason}' if reason else ''}"


def _resumed(data: Mapping[str, JSON]) -> str:
    over = data.get("steps over")
    return "resumed" if over is None else f"resumed by another program, {over} steps being over"


def _edit(data: Mapping[str, JSON]) -> str:
    by = f", by {data['by']}" if data.get("by") else ""
    if data["what"] == "step":
        return f"step {data['index']} ('{data['label']}') was to end at once{by}"
    return f"{data['what']} {data['name']}: {data['old']} -> {data['new']}{by}"


def _listed(data: Mapping[str, JSON]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in data.items() if value is not None)


_SENTENCES = {
    Entry.RUN_STARTED: _run_started,
    Entry.STEP_STARTED: _step_started,
    Entry.STEP_ENDED: _step_ended,
    Entry.LIMIT: _limit,
    Entry.ALARM: _alarm,
    Entry.PAUSED: _paused,
    Entry.RESUMED: _resumed,
    Entry.EDIT: _edit,
    Entry.GAP: _gap,
    Entry.SAFE: _safe,
    Entry.NOTE: _note,
    Entry.RUN_ENDED: _run_ended,
}


def setpoint_of(step: Mapping[str, JSON]) -> str:
    """What a step asks of its instruments, in words. step: its fields, SI. "" if not known."""
    parts = []
    if "temperature" in step:
        parts.append(_amount(step["temperature"], "K"))
    if "pressure" in step:
        parts.append(_amount(step["pressure"], "Pa"))
        parts.append(f"by {_amount(step['slew'], 'Pa/s')}")
        parts.append(f"at most {_amount(step['maximum'], 'Pa')}")
    if "current" in step:
        parts.append(_amount(step["current"], "A"))
    if "voltage" in step:
        parts.append(_amount(step["voltage"], "V"))
    if "current_limit" in step:
        parts.append(f"at most {_amount(step['current_limit'], 'A')}")
    if parts:
        return ", ".join(parts)
    return "open circuit" if step.get("kind") == "Rest" else ""


def _step(step: Step) -> StepInfo:
    return StepInfo(
        index=step.index,
        cycle=step.cycle,
        label=step.label,
        kind=step.kind,
        setpoint=setpoint_of(step.step),
        start=_finite(step.start) or 0.0,
        end=_finite(step.end),
        reason=step.reason,
        condition=step.condition,
        duration=_finite(step.duration),
        charge=_finite(step.charge),
    )


def limits_in(record: Record) -> tuple[LimitInfo, ...]:
    """The limits of a run as an operator changed them last."""
    found = []
    edits = (entry.data for entry in record.journal(Entry.EDIT))
    changed = {_text(data, "name"): _text(data, "new") for data in edits if data.get("new")}
    for name, described in _mapping(record.manifest.get("limits")).items():
        when = changed.get(name) or _text(_mapping(described), "when")
        action = _text(_mapping(described), "action")
        try:
            found.append(limit_info(name, conditions.parse(when), action))
        except BadInputError:
            found.append(LimitInfo(name=name, when=when, action=action))
    return tuple(found)


def _started(record: Record) -> float:
    """Unix time, s; that of the folder if the manifest does not say."""
    moment = _moment(_text(record.manifest, "started"))
    return record.folder.stat().st_mtime if moment is None else moment


def _moment(text: str) -> float | None:
    """Unix time in s of a time in ISO 8601 with its offset; None if it is none."""
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.timestamp()
    return None


def _amount(value: object, unit: str, *, digits: int = 3) -> str:
    number = float(value) if isinstance(value, int | float) else math.nan
    return format_quantity(number, unit, digits=digits)


def _charge(value: object) -> str:
    # The sum of a current that flickers around zero is no charge.
    small = isinstance(value, int | float) and abs(value) < 1e-9
    return "no charge" if small else _amount(value, "As")


def _mapping(value: object) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}


def _text(data: Mapping[str, JSON], key: str) -> str:
    value = data.get(key)
    return "" if value is None else str(value)


def _finite(value: object) -> float | None:
    """The number, None for one that JSON has no word for."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _positive(value: object) -> float | None:
    number = _finite(value)
    return number if number is not None and number > 0.0 else None
