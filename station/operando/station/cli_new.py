"""`operando protocols` and `operando new`."""

from __future__ import annotations

import json
import keyword
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from operando.instruments.bench_file import load_bench
from operando.instruments.errors import BadInputError
from operando.protocols import ProtocolFunction
from operando.protocols.lint import notes_on
from operando.protocols.script_files import SUFFIX
from operando.station.assembly import protocol_functions, protocols_of_file

new = typer.Typer(no_args_is_help=True, help="Write a file to begin with.")

EXAMPLE = '''\
"""A protocol script. Change the name, the parameters and the steps.

    operando protocols {name}.py                              what it offers, and notes on it
    operando check {name}.toml --bench BENCH                  what would run; nothing is connected
    operando run {name}.toml --bench BENCH --channel A1       --virtual: on a simulated cell

{name}.toml is a recipe, such as

    protocol = "{name}.py"
    [parameters]
    pulses = 3
"""

from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.quantities import CRate, Seconds, Voltages
from operando.protocols import Cell, ConstantCurrent, Rest, Steps, cccv, protocol


@protocol(source="our procedure 1")
def {name}(
    cell: Cell,
    *,
    pulses: int = 5,
    rate: CRate = "C/5",
    length: Seconds = "10 min",
    rest: Seconds = "20 min",
    window: Voltages = ("2.5 V", "4.25 V"),
) -> Steps:
    """Charge in pulses with a rest after each, then cycle once.

    pulses: how many, at most.
    rate: current of the pulses as a C-rate of the cell's nominal capacity.
    length: time in s of a pulse.
    rest: open-circuit time in s after a pulse.
    window: lowest and highest voltage in V that the cell is driven to.
    """
    # Parameters arrive as numbers in SI units: amperes, volts, seconds. Positive current charges.
    upper = window[1]
    full = VOLTAGE >= upper
    for pulse in range(1, pulses + 1):
        # A step is yielded; what comes back is how it ended. `operando check` goes the way on which
        # each step ends by its first condition.
        charge = yield ConstantCurrent(
            rate * cell.capacity, (ELAPSED >= length, full), label="pulse", cycle=pulse
        )
        relaxed = yield Rest((ELAPSED >= rest,), label="relax", cycle=pulse)
        if charge.ended_by(full) or relaxed.voltage > upper - 0.05:
            break  # it is nearly full
    # Another protocol can be part of this one.
    yield from cccv.steps(cell, cycles=1, charge_rate=rate, discharge_rate=rate, window=window)
'''
"""What `operando new protocol` writes: runs as it is."""


@new.command()
def protocol(
    name: Annotated[str, typer.Argument(help="Name of the protocol; the file is NAME.py.")],
) -> None:
    """Write NAME.py, an example of a protocol script that runs as it is."""
    name = name.removesuffix(SUFFIX)
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise BadInputError(
            f"'{name}' cannot be the name of a function; take letters, digits and _, such as "
            '"slow_pulses"'
        )
    path = Path(name + SUFFIX)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(EXAMPLE.replace("{name}", name))
    except FileExistsError:
        raise BadInputError(f"{path} is there already; take another name, or move it") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from None
    print(f'{path} is written. A recipe beside it names it: protocol = "{path}"')
    print(f"look at it: operando protocols {path}")
    print("check it: operando check RECIPE --bench BENCH")
    print("run it on a simulated cell: operando run RECIPE --bench BENCH --channel A1 --virtual")


def protocols(
    script: Annotated[
        Path | None, typer.Argument(help="A protocol script; all protocols when left out.")
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", help="List the scripts of this bench's folder as well."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the protocols and their parameters."""
    wrong: dict[str, str] = {}
    if script is not None:
        found = protocols_of_file(script)
    else:
        found, wrong = protocol_functions(None if bench is None else load_bench(bench).scripts)
    if as_json:
        data = [
            {"name": n, "summary": p.summary, "source": p.source, "parameters": p.parameter_table()}
            | ({"notes": _notes(p)} if p.script is not None else {})
            for n, p in found.items()
        ]
        print(json.dumps(data))
    else:
        _print(found)
    told = Console(stderr=True, highlight=False, soft_wrap=True)
    for why in wrong.values():
        told.print(f"cannot be used: {why}", style="bold red", markup=False)


def _notes(function: ProtocolFunction) -> tuple[str, ...]:
    return () if function.script is None else notes_on(function.script)


def _print(found: dict[str, ProtocolFunction]) -> None:
    console = Console(highlight=False)
    for name, function in found.items():
        console.print(f"[bold]{name}[/bold]: {function.summary}")
        console.print(f"source: {function.source}", style="dim")
        table = Table("parameter", "default", "meaning")
        for parameter in function.parameter_table():
            table.add_row(parameter["name"], parameter["default"], parameter["meaning"])
        console.print(table)
    for note in dict.fromkeys(note for function in found.values() for note in _notes(function)):
        console.print(f"note: {note}", markup=False, soft_wrap=True)
