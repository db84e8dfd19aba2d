"""`operando records`: list, show, verify, export."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from operando.instruments.errors import BadInputError, OperandoError
from operando.instruments.quantities import format_quantity
from operando.instruments.recorder import Entry
from operando.records import JournalEntry, Record, export_csv, export_parquet, find_records, verify
from operando.station.resume import history_in

records = typer.Typer(help="Look at, verify and export records.", no_args_is_help=True)

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the record.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@records.command("list")
def list_records(
    root: Annotated[Path, typer.Argument(help="Folder to look in.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the records below a folder."""
    if not root.is_dir():
        raise BadInputError(f"{root}: there is no such folder; name the one that holds the records")
    found = [Record.open(folder) for folder in find_records(root)]
    rows = [
        {
            "record": str(record.folder),
            "state": record.state,
            "resumable": _can_go_on(record),
            "protocol": _protocol_name(record),
            "cell": record.cell_name,
            "simulated": record.simulated,
        }
        for record in found
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("record", "state", "protocol", "cell", "data")
    for row in rows:
        data = "SIMULATED" if row["simulated"] else "measured"
        state = f"{row['state']}, resumable" if row["resumable"] else str(row["state"])
        table.add_row(str(row["record"]), state, str(row["protocol"]), str(row["cell"]), data)
    console = Console()
    console.print(table)
    if any(row["resumable"] for row in rows):
        console.print("'operando resume RECORD --bench BENCH' goes on with a resumable one")


@records.command()
def show(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Show how a run went: its steps, gaps and journal."""
    record = Record.open(folder)
    if as_json:
        print(json.dumps({"state": record.state, "manifest": record.manifest,
                          "journal": [_plain(entry) for entry in record.journal()]}))  # fmt: skip
        return
    console = Console(highlight=False)
    kind = "SIMULATED" if record.simulated else "measured"
    console.print(f"[bold]{folder.name}[/bold]: {record.state}, {kind}")
    table = Table("step", "label", "cycle", "duration", "charge", "ended by")
    for step in record.steps():
        duration = format_quantity(step.duration, "s") if step.reason else ""
        charge = format_quantity(step.charge, "mAh") if step.reason else ""
        table.add_row(str(step.index), step.label, str(step.cycle), duration, charge,
                      step.condition or step.reason or "not ended")  # fmt: skip
    console.print(table)
    for event in record.limits:
        console.print(f"limit {event.name} ({event.action}): {event.when}", markup=False)
    for entry in record.journal(Entry.ALARM, Entry.RUN_ENDED):
        console.print(
            f"{entry.entry.value}: " + ", ".join(str(value) for value in entry.data.values()),
            markup=False,
        )
    for gap in record.gaps():
        console.print(
            f"gap of {format_quantity(gap.end - gap.start, 's')} at "
            f"{format_quantity(gap.start, 's')}: {gap.reason}; at most "
            f"{format_quantity(gap.charge_bound, 'mAh')} passed unseen"
        )


def _can_go_on(record: Record) -> bool:
    """Whether its program died in a run that can go on, as far as the record itself tells."""
    if record.state != "killed":
        return False
    clock = record.manifest.get("clock")
    if isinstance(clock, dict) and clock.get("mode") == "virtual":
        return False  # its cell is gone
    try:
        history_in(record)
    except OperandoError:
        return False
    return True


def _protocol_name(record: Record) -> str:
    protocol = record.manifest.get("protocol")
    return str(protocol.get("name", "")) if isinstance(protocol, dict) else ""


def _plain(entry: JournalEntry) -> dict[str, object]:
    return {"seq": entry.seq, "time": entry.time, "unix_time": entry.unix_time,
            "entry": entry.entry.value, "data": dict(entry.data)}  # fmt: skip


@records.command("verify")
def verify_record(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Check the checksums, the journal's chain and the database of a record."""
    report = verify(folder)
    if as_json:
        print(json.dumps({"intact": bool(report), "problems": list(report.problems)}))
    else:
        Console(highlight=False, soft_wrap=True).print(str(report))
    if not report:
        sys.exit(1)


@records.command()
def export(
    folder: FolderArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder for the exported files.")] = Path(),
    institution: Annotated[
        str, typer.Option(help="Code of your institution, first part of the file name.")
    ] = "LAB",
    form: Annotated[
        Literal["bdf-csv", "bdf-parquet"], typer.Option("--format", help="File format.")
    ] = "bdf-csv",
) -> None:
    """Export a record in the Battery Data Format."""
    write = export_csv if form == "bdf-csv" else export_parquet
    written = write(Record.open(folder), to, institution=institution)
    print(written.data)
    print(written.metadata)
