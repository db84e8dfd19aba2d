"""`operando discover`: what is connected."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from operando.instruments.errors import BadInputError
from operando.station.discover import as_data, skeleton
from operando.station.discover import discover as look


def discover(
    write: Annotated[
        Path | None, typer.Option(help="Bench file to begin with; must not exist yet.")
    ] = None,
    bluetooth: Annotated[bool, typer.Option(help="Listen for Bluetooth advertisers, 5 s.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List serial ports, VISA resources and Bluetooth sensors; ask those that are known.

    Nothing is ever written to a port whose instrument is not known by its USB ids or its name.
    """
    if write is not None and write.exists():
        raise BadInputError(f"{write} exists; name a file that does not")
    found, blind = asyncio.run(look(bluetooth=bluetooth))
    if as_json:
        print(json.dumps(as_data(found, blind)))
    else:
        table = Table("address", "what", "driver", "serial", "remark")
        for one in found:
            what = one.model or one.sighting.what
            table.add_row(one.sighting.address, what, one.driver or "–", one.serial, one.remark)
        console = Console(highlight=False)
        console.print(table if found else "no serial port, VISA resource or Bluetooth sensor seen")
        for why in blind:
            console.print(f"could not look for {why}")
    if write is not None:
        write.write_text(skeleton(found), encoding="utf-8")
        if not as_json:
            print(f"wrote {write}")
