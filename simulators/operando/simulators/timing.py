"""Timers in laboratory time, for whatever answers later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from operando.instruments.clock import Clock


def set_timer(clock: Clock, at: float, action: Callable[[], None]) -> asyncio.TimerHandle:
    """Call `action` at laboratory time `at` (s), or at once when that has passed.

    The event loop's timers and `clock` may differ by a tick: `action` may come a little early.
    """
    loop = asyncio.get_running_loop()
    # One second of the loop is `clock.lab(1.0)` laboratory seconds.
    wait = max(at - clock.now(), 0.0) / clock.lab(1.0)
    if clock.mode == "virtual":
        return loop.call_at(max(at, loop.time()), action)
    return loop.call_at(loop.time() + wait, action)
