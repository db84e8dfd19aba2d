"""What commands say at the end of a run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from operando.protocols import RunResult
from operando.records import Record
from operando.station.engine import exit_code


def end_of_run(result: RunResult, folder: Path, as_json: bool) -> None:
    """Say how a run ended, and leave with its exit code if it did not complete."""
    if as_json:
        summary = asdict(result) | {"state": result.state.value, "record": str(folder)}
        print(json.dumps(summary))
    else:
        colour = "green" if exit_code(result.state) == 0 else "bold red"
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"{result.state.value}: {result.reason}", style=colour, markup=False)
        off = "output read back off"
        if not result.output_off:
            off = "OUTPUT NOT VERIFIED: assume that it is ON"
        elif not result.safe:
            off += f", NOT VERIFIED SAFE: {', '.join(result.unsafe)}"
        kind = "SIMULATED record" if Record.open(folder).simulated else "record"
        console.print(f"{off}; {kind} in {folder}", markup=False)
    if exit_code(result.state):
        sys.exit(exit_code(result.state))
