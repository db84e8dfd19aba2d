"""What the computer and its files say before a run: calibrations, free disk, the clock.

Nothing is connected. The findings are journalled by the run with those of its instruments, see
`operando.protocols.preflight`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path

from rich.console import Console

from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.clock import Clock
from operando.instruments.words import quantity_words
from operando.protocols import Finding
from operando.protocols.preflight import overridden
from operando.station.assembly import driver_info
from operando.station.orders import Settled

BYTES_A_SAMPLE = 150
BYTES_A_READING = 75
"""Of a record, for a row of the potentiostat and for one of a monitor. Measured with a 2450 and a
PT113 over three hours: 109 and 51 at a row a second, 124 and 68 at one in 30 s."""

BYTES_A_STEP = 3_000
BYTES_A_RECORD = 1_000_000
"""Journal entries of a step, and all else of a record: its manifest, tables and log. Our choice,
above what such a record needed (50 kB beside its rows)."""

MARGIN = 2.0
"""Free space that is asked for, in sizes of the records that are being written. Our choice."""
SPARE = 100_000_000
"""Bytes that must be left beside them. Our choice."""

DUE_SOON = 14
"""Days before the next calibration from which it is told. Our choice."""

EARLIEST = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
"""Unix times, s, between which a clock is believed. Our choice: a clock that lost its battery
begins in 1970 or in the year in which its board was made."""

BEHIND = 60.0
"""Seconds by which the clock may be behind the newest record. Our choice."""

_SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
"""Made by systemd-timesyncd(8) when the clock has been set by a time server."""

FreeSpace = Callable[[Path], int]
"""Bytes that are free where a folder is, or is to be."""


def free_space(folder: Path) -> int:
    """Free bytes of the disk of a folder, which need not exist yet."""
    existing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(existing).free


def host_findings(
    settled: Settled,
    bench: Bench,
    clock: Clock,
    output: Path,
    *,
    beside: Iterable[Settled] = (),
    free: FreeSpace = free_space,
) -> tuple[Finding, ...]:
    """Calibration, disk and clock. output: folder of the records. beside: runs under way."""
    preflight = settled.settings.preflight
    findings = [
        calibration(settled, bench, clock),
        _disk([settled, *beside], bench, clock, output, free),
    ]
    if clock.mode == "virtual":
        findings.append(Finding("clock", note="virtual time: no clock is read"))
    else:
        findings.append(judge_clock(time.time(), _newest(output), _SYNCHRONIZED.exists()))
    return tuple(overridden(findings, preflight.override))


def calibration(settled: Settled, bench: Bench, clock: Clock) -> Finding:
    """Whether the calibrations of a run's instruments are still good today."""
    today = datetime.fromtimestamp(clock.utc(), UTC).date()
    entries = [bench.instruments[name] for name in settled.entry.instruments]
    finding = judge_calibrations(entries, today)
    return overridden([finding], settled.settings.preflight.override)[0]


def print_findings(findings: Iterable[Finding]) -> None:
    """Print what the computer and its files say; what is at the instruments is not known yet."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("\n[bold]pre-flight, as far as it is known before anything is connected[/bold]")
    for finding in findings:
        refused = "this run would be refused: " if finding.refuses else ""
        console.print(f"{refused}{finding}", markup=False)


# ---- calibration -------------------------------------------------------------------------------


def judge_calibrations(entries: Iterable[InstrumentEntry], today: date) -> Finding:
    """Whether the calibration of every instrument is still good."""
    expired, said, left = [], [], {}
    for entry in entries:
        due, certificate = entry.calibration.due, entry.calibration.certificate
        if due is None:
            continue
        named = f"{entry.name} was due on {due}" + (f" ({certificate})" if certificate else "")
        days = (due - today).days
        left[entry.name] = 86400.0 * days
        if days < 0:
            expired.append(named)
        elif days <= DUE_SOON:
            said.append(f"{named.replace('was due', 'is due')}, in {days} days")
    problem = ""
    if expired:
        problem = (
            f"the calibration of {'; '.join(expired)}. Have it calibrated and write the new date "
            "into the bench file (calibration = { due = ... })."
        )
    note = "; ".join(said) or ("" if left else "no calibration is stated in the bench file")
    return Finding("calibration", problem, note, left)


# ---- disk --------------------------------------------------------------------------------------


def record_size(settled: Settled, bench: Bench) -> float:
    """Bytes that the record of a run will have, at most, as far as its plan can be foreseen.

    Every reading is counted that `every` lets pass; a change that is recorded at once may add to
    it where the cell moves fast, which the margin is for.
    """
    settings, ahead = settled.settings, settled.preview
    size = BYTES_A_RECORD + BYTES_A_STEP * len(ahead.steps)
    samples = ahead.duration / max(settings.poll.interval, settings.record.every)
    readings = 0.0
    for name in settled.entry.instruments:
        if name != settled.entry.roles["potentiostat"]:
            quantities = len(driver_info(bench.instruments[name].driver).measures)
            readings += (
                quantities * ahead.duration / max(settings.poll.of(name), settings.record.every)
            )
    return size + BYTES_A_SAMPLE * samples + BYTES_A_READING * readings


def _disk(
    runs: list[Settled], bench: Bench, clock: Clock, output: Path, free: FreeSpace
) -> Finding:
    try:
        left = free(output)
    except OSError as error:
        return Finding("disk", f"the free space of {output} cannot be read: {error.strerror}.")
    sizes = [record_size(one, bench) for one in runs]
    finding = judge_disk(left, sizes, runs[0].preview.complete)
    if clock.mode == "virtual" and not finding.problem:
        # Equal runs make equal records: what the disk of this computer has free is left out.
        return Finding("disk", note="enough is free", values={"needed": finding.values["needed"]})
    return finding


def judge_disk(free: float, sizes: Iterable[float], complete: bool = True) -> Finding:
    """Whether records of these sizes (bytes) find room. complete: all steps were foreseen."""
    sizes = list(sizes)
    needed = MARGIN * sum(sizes) + SPARE
    many = f" and {len(sizes) - 1} others" if len(sizes) > 1 else ""
    least = "" if complete else "at least "
    found = (
        f"{_bytes(free)} are free, {_bytes(needed)} are wanted (this record of {least}about "
        f"{_bytes(sizes[0])}{many}, twice, and {_bytes(SPARE)})"
    )
    problem = ""
    if free < needed:
        problem = f"{found}. Make room, record more rarely ([record] every) or use another disk."
    return Finding("disk", problem, found, {"free": float(free), "needed": needed})


def _bytes(size: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


# ---- clock -------------------------------------------------------------------------------------


def judge_clock(now: float, newest: float | None, synchronized: bool) -> Finding:
    """Whether the clock of the computer can be right.

    now: Unix time that it shows, s. newest: of the newest record in the output folder, s.
    """
    shown = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    problem = ""
    if not EARLIEST <= now < LATEST:
        problem = f"the clock of this computer shows {shown}. Set it."
    elif newest is not None and now < newest - BEHIND:
        behind = quantity_words(newest - now, "s")
        problem = (
            f"the clock of this computer shows {shown}, {behind} before the newest record was "
            "begun. Set it, or the order of the records is lost."
        )
    how = "set by a time server" if synchronized else "not known whether a time server sets it"
    return Finding("clock", problem, f"{shown}, {how}", {"unix_time": now})


def _newest(output: Path) -> float | None:
    """Unix time of the computer at which the newest record in a folder was begun, s."""
    times = []
    for manifest in output.glob("*/manifest.json"):
        try:
            times.append(manifest.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)
