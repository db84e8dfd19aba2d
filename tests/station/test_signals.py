"""What is left of the handling of signals when a run is over."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import write_bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.station.engine import Engine
from operando.station.remote import _signals
from operando.station.signals import signals_of

ENDS = ["SIGINT", "SIGTERM", "SIGHUP"]
PAUSES = ["SIGUSR1", "SIGUSR2"]


def numbers(names: list[str]) -> list[int]:
    """Signals by their names; Windows has few of them."""
    return [getattr(signal, name) for name in names]


def check_handled() -> None:
    """Every signal has a function of ours."""
    assert all(callable(signal.getsignal(number)) for number in numbers(ENDS + PAUSES))


def run_here(folder: Path) -> None:
    """Signals as they are around a run of this process."""
    engine = Engine(load_bench(write_bench(folder)), Clock())

    async def handle() -> None:
        with signals_of(engine, virtual=False):
            check_handled()

    asyncio.run(handle())


def run_through_a_station(_: Path) -> None:
    """Signals as they are around a run through a station."""
    with _signals():
        check_handled()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has few signals")
@pytest.mark.parametrize("run", [run_here, run_through_a_station])
def test_after_a_run_a_process_can_be_ended_as_before_and_a_late_pause_does_not_end_it(
    tmp_path: Path, run: Callable[[Path], None]
) -> None:
    for number in numbers(ENDS + PAUSES):
        signal.signal(number, signal.SIG_DFL)  # the fixture of all tests puts back what was
    run(tmp_path)
    # asyncio handles SIGINT itself for as long as its loop runs.
    assert [signal.getsignal(number) for number in numbers(ENDS)[1:]] == [signal.SIG_DFL] * 2
    assert [signal.getsignal(number) for number in numbers(PAUSES)] == [signal.SIG_IGN] * 2
