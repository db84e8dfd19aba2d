"""What signals do to the runs of an engine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from operando.station.engine import Engine

Handler = Callable[[int, FrameType | None], Any] | int | None
"""What `signal.signal` takes and gives back."""


@contextlib.contextmanager
def signals_of(engine: Engine, *, virtual: bool) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal abort; SIGUSR1 and SIGUSR2 pause and resume."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _: object) -> None:
        actions: dict[int, Callable[[], None]] = {
            signal.SIGINT: lambda: engine.stop_all("Ctrl-C"),
            signal.SIGTERM: lambda: engine.stop_all("SIGTERM"),
        }
        if hasattr(signal, "SIGHUP"):
            actions[signal.SIGHUP] = lambda: engine.stop_all("the terminal was closed")
        if hasattr(signal, "SIGUSR1"):
            actions[signal.SIGUSR1] = engine.pause_all
            actions[signal.SIGUSR2] = engine.resume_all
        if virtual:
            actions[number]()
        else:
            loop.call_soon_threadsafe(actions[number])

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGUSR1"):
        numbers += [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
    before: dict[int, Handler] = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        put_back(before)


def put_back(before: Mapping[int, Handler]) -> None:
    """Give signals the handlers that they had before a run.

    A late pause or resume must not end the process, which its default would do: it is ignored.
    Whatever else was not handled must end the process again, and those that it starts.
    """
    ends = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)}
    for number, handler in before.items():
        ignored = number not in ends and handler is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if ignored else handler)
