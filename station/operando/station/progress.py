"""The progress of a run on the terminal: cycle, step, voltage, current, pressure, time left."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from operando.instruments.quantities import format_quantity
from operando.protocols import preview
from operando.station.engine import Engine, Order


@contextlib.contextmanager
def show_progress(engine: Engine, orders: Mapping[str, Order]) -> Iterator[None]:
    """Show the runs on the channels while the context lasts, if there is a terminal for it.

    orders: by channel.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    view = _View(engine, orders)
    with Live(get_renderable=view.render, console=console, refresh_per_second=4, transient=True):
        yield


class _View:
    def __init__(self, engine: Engine, orders: Mapping[str, Order]) -> None:
        self._engine = engine
        self._expected = {
            channel: preview(order.plan, engine.cell_of(channel)).duration
            for channel, order in orders.items()
        }

    def render(self) -> RenderableType:
        """Called by the display's thread, so it only reads."""
        table = Table("channel", "state", "cycle", "step", "voltage", "current", "pressure",
                      "elapsed", "time left")  # fmt: skip
        for channel, expected in self._expected.items():
            runner = self._engine.runners.get(channel)
            if runner is None:
                table.add_row(channel, "no run", *[""] * 7)
                continue
            tally = runner.tally
            values = dict(tally.values)
            table.add_row(
                channel,
                runner.state.value,
                str(tally.cycle),
                tally.label,
                _quantity(values.get("voltage"), "V"),
                _quantity(values.get("current"), "A"),
                _quantity(values.get("pressure"), "Pa"),
                format_quantity(tally.time, "s"),
                f"about {format_quantity(max(0.0, expected - tally.time), 's')}",
            )
        return table


def _quantity(value: float | None, unit: str) -> str:
    return "-" if value is None or math.isnan(value) else format_quantity(value, unit)
