"""The progress of a run on the terminal: cycle, step, voltage, current, pressure, time left."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from operando.instruments.quantities import format_quantity
from operando.protocols import RunState, preview
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
        """Called by the display's thread, so it only reads. Two lines a channel, 80 columns."""
        lines = []
        for channel, expected in self._expected.items():
            runner = self._engine.runners.get(channel)
            if runner is None:
                lines.append(Text(f"{channel:<6} not running"))
                continue
            tally = runner.tally
            values = dict(tally.values)
            left = format_quantity(60.0 * math.ceil(max(0.0, expected - tally.time) / 60.0), "s")
            state = Text(f"{channel:<6} ", style="bold")
            state.append(runner.state.value, style=_COLOURS.get(runner.state, "yellow"))
            state.append(f", cycle {tally.cycle}, {tally.label or 'no step yet'}", style="default")
            lines.append(state)
            readings = (
                f"{values.get('voltage', math.nan):9.4f} V",
                f"{1e3 * values.get('current', math.nan):10.4f} mA",
                f"{1e-6 * values['pressure']:8.3f} MPa" if "pressure" in values else "",
                f"   {format_quantity(60.0 * (tally.time // 60.0), 's')} gone, about {left} left",
            )
            lines.append(Text(" " * 6 + "".join(readings), style="default"))
        return Group(*lines)


_COLOURS = {RunState.RUNNING: "green", RunState.PREPARING: "cyan", RunState.HELD: "bold red"}
