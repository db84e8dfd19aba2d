"""What `operando check` prints: the plan in the units people write, and the limit sheet."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from operando.instruments.quantities import format_quantity
from operando.instruments.roles import Galvanostatic, Potentiostatic
from operando.protocols import SheetLine, Step
from operando.station.engine import Order, Settled


def print_plan(channel: str, settled: Settled, order: Order) -> None:
    """Print parameters with their values and the steps that would come."""
    console = Console(highlight=False)
    cell = settled.cell
    capacity = format_quantity(cell.entry.capacity, "mAh") if cell.entry.capacity else "unknown"
    protocol = order.plan.protocol
    console.print(f"[bold]channel {channel}[/bold]: {protocol.name} on cell {cell.name}")
    console.print(f"1C is {capacity} in one hour ({cell.entry.one_c or 'as given'})")
    table = Table("step", "set-point", "ends when", "times", title="steps ahead", expand=False)
    for (label, setpoint, ends), group in groupby(settled.preview.steps, _row):
        table.add_row(label, setpoint, ends, str(len(list(group))))
    console.print(table)
    more = "" if settled.preview.complete else " or more"
    console.print(
        f"{len(settled.preview.steps)} steps{more}, about "
        f"{format_quantity(settled.preview.duration, 's')} if the cell has its nominal capacity"
    )
    settings = settled.settings
    console.print(
        f"read every {format_quantity(settings.poll.interval, 's')}, recorded every "
        f"{format_quantity(settings.record.every, 's')}"
    )


def _row(step: Step) -> tuple[str, str, str]:
    setpoint = step.setpoint(0.0)
    if isinstance(setpoint, Galvanostatic):
        current = format_quantity(setpoint.current, "A")
        text = f"{current}, cut off by the instrument at {setpoint.cutoff:g} V"
    elif isinstance(setpoint, Potentiostatic):
        limit = format_quantity(setpoint.current_limit, "A")
        text = f"{setpoint.voltage:g} V, at most {limit}"
    else:
        text = "open circuit"
    return step.label, text, " or ".join(map(str, step.until))


def print_sheet(lines: Iterable[SheetLine], unidentified: Iterable[str] = ()) -> None:
    """Print the limit sheet. unidentified: instruments that cannot be told from their like."""
    console = Console(highlight=False)
    console.print("\n[bold]limit sheet[/bold]")
    for line in lines:
        console.print(f"[bold]{line.name}[/bold]: {line.action} when {line.when}")
        for title, text in (
            ("enforced by", ", ".join(line.layers)),
            ("acts within", f"{line.latency:.2f} s of the limit being passed"),
            ("if this program dies", line.without_host),
        ):
            console.print(Padding(f"{title}: {text}", (0, 0, 0, 4)))
    for name in unidentified:
        console.print(
            f"{name} does not say who it is: nothing would notice if it were exchanged for another"
        )
