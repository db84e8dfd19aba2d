"""What is left of the handling of signals when a run is over."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from lab import write_bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.station.engine import Engine
from operando.station.signals import signals_of


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has few signals")
def test_after_a_run_a_process_can_be_ended_as_before_and_a_late_pause_does_not_end_it(
    tmp_path: Path,
) -> None:
    ends = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    pauses = [signal.SIGUSR1, signal.SIGUSR2]
    engine = Engine(load_bench(write_bench(tmp_path)), Clock())

    async def handle() -> None:
        with signals_of(engine, virtual=False):
            assert all(callable(signal.getsignal(number)) for number in (*ends, *pauses))

    before = {number: signal.getsignal(number) for number in (*ends, *pauses)}
    for number in (*ends, *pauses):
        signal.signal(number, signal.SIG_DFL)
    try:
        asyncio.run(handle())
        assert [signal.getsignal(number) for number in ends[1:]] == [signal.SIG_DFL] * 2
        assert [signal.getsignal(number) for number in pauses] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
