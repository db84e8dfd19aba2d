"""The way to a safe state: how long an attempt may take, and what is said when it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from operando.drivers.alicat import AlicatDualValve
from operando.drivers.espec import EspecP300
from operando.drivers.keithley_2450 import Keithley2450
from operando.instruments.capabilities import Capabilities
from operando.instruments.clock import run
from operando.instruments.errors import SafeStateError
from operando.instruments.safety import ACTUATOR_TIME, CELL_TIME, secure


def deaf(kind: type[Any], waits: list[float]) -> Any:
    """An instrument of this kind that never answers; how long each attempt waited, s."""

    async def wait(self: Any) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            await asyncio.sleep(1e6)
        finally:
            waits.append(loop.time() - start)

    methods: dict[str, Callable[[Any], Awaitable[None]]] = {"safe": wait, "reconnect": wait}
    return type("Deaf", (), {"INFO": kind.INFO, "capabilities": Capabilities(), **methods})()


@pytest.mark.parametrize(
    ("kind", "time", "words"),
    [
        (Keithley2450, CELL_TIME, "THE OUTPUT IS ON and disconnect the cell by hand"),
        (AlicatDualValve, ACTUATOR_TIME, "IT GOES ON PRESSING: shut the gas off"),
        (EspecP300, ACTUATOR_TIME, "IT GOES ON HEATING OR COOLING: stop it at its panel"),
    ],
)
def test_time_and_words_suit_the_instrument(kind: type[Any], time: float, words: str) -> None:
    waits: list[float] = []
    with pytest.raises(SafeStateError, match=f"ASSUME THAT {words}") as caught:
        run(secure(deaf(kind, waits)), virtual=True)
    assert waits == pytest.approx([time] * 3)
    assert f"3 attempts: no answer within {time:g} s" in str(caught.value)
