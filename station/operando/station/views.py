"""What viewers see of records, read by processes of their own so that nothing slows acquisition.

Three of them, which differ only in what they are asked: the live push waits for nobody, a plot
does not wait for an export, and what reads whole records waits its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from operando.instruments.errors import OperandoError
from operando.station.client.models import Reading

PROGRAM = "from operando.station.view_process import main; main()"


MOST_NEW = 2_000
"""Rows that are given to those who follow a run; of more at once only the newest."""


class UnknownRunError(OperandoError):
    """There is no such run in the station's folder."""


class ReaderLostError(OperandoError):
    """The reader process died, and died again."""


class Cursor(NamedTuple):
    """Up to where a run has been followed: rows of its samples, other readings and journal."""

    samples: int
    aux: int
    journal: int


START = Cursor(0, 0, 0)

Readings = Mapping[str, tuple[tuple[float, ...], tuple[float | None, ...]]]
"""By name of the quantity: times (s) and values (SI; None where not valid)."""


class Fresh(NamedTuple):
    """What was committed to a run since a cursor.

    cursor: where to go on. latest: the last reading of each quantity of `readings`.
    skipped: the readings cannot just be appended: there were more than `MOST_NEW` and older ones
    were left out, or there is a gap before them, or they replace others.
    """

    cursor: Cursor
    readings: Readings
    latest: Mapping[str, Reading]
    skipped: bool


class Views:
    """Answers questions about the runs in a folder; a context manager.

    output: folder that holds the folders of the runs. Every question raises UnknownRunError,
    RecordError, or ReaderLostError when the reader died over it twice. May be asked by one event
    loop at a time.
    """

    def __init__(self, output: Path) -> None:
        output = output.resolve()
        self.live = Lane("live", output, 0)
        # Plots and tables make room for acquisition, if there is not enough for both.
        self.plots = Lane("plots", output, 5)
        self.tables = Lane("tables", output, 10)

    async def fresh(self, cursors: Mapping[str, Cursor]) -> dict[str, Fresh | str]:
        """What was committed since these cursors, by run, or why it cannot be read.

        Unknown runs are left out.
        """
        fresh: dict[str, Fresh | str] = await self.live.ask("fresh", dict(cursors))
        return fresh

    async def curves(
        self,
        run: str,
        quantities: Sequence[str],
        start: float | None = None,
        end: float | None = None,
        bins: int = 1200,
    ) -> bytes:
        """Curves as an npz, see `StationClient.curves`."""
        return await self._bytes(self.plots, "curves", run, tuple(quantities), start, end, bins)

    async def loops(self, run: str, points: int) -> bytes:
        """Voltage against charge as an npz, see `StationClient.loops`."""
        return await self._bytes(self.plots, "loops", run, points)

    async def run(self, run: str) -> bytes:
        """JSON of a RunDetail."""
        return await self._bytes(self.plots, "run", run)

    async def rows(self, run: str, start: float | None = None, end: float | None = None) -> bytes:
        """Samples as an npz, see `StationClient.rows`."""
        return await self._bytes(self.tables, "rows", run, start, end)

    async def cycles(self, run: str) -> bytes:
        """JSON of a list of CycleRow."""
        return await self._bytes(self.tables, "cycles", run)

    async def runs(self) -> bytes:
        """JSON of a list of RunSummary, the newest first."""
        return await self._bytes(self.tables, "runs")

    async def _bytes(self, lane: Lane, name: str, *arguments: object) -> bytes:
        content: bytes = await lane.ask(name, *arguments)
        return content

    def __enter__(self) -> Self:
        for lane in (self.live, self.plots, self.tables):
            lane.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for lane in (self.live, self.plots, self.tables):
            lane.close()


class Lane:
    """One reader process and the thread that talks to it, a question at a time.

    The process is a plain child and not one of multiprocessing's, which would import the station's
    main module again. It ends by itself when its standard input does. nice: as `os.nice`.
    """

    def __init__(self, name: str, output: Path, nice: int) -> None:
        self.name = name
        self._words = [sys.executable, "-c", PROGRAM, str(output), str(nice)]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"reader-{name}")
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._changing = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Number of its process, None while there is none."""
        return None if self._process is None else self._process.pid

    async def ask(self, name: str, *arguments: object) -> Any:
        """The answer of a method of `Reader`; raises what it raised."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._exchange, name, arguments)

    def start(self) -> None:
        """Start the process, unless it runs."""
        with self._changing:
            if self._closed:
                raise ReaderLostError("the station is ending")
            if self._process is None:
                # In a session of its own, so that Ctrl-C does not reach it.
                self._process = subprocess.Popen(
                    self._words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )

    def close(self) -> None:
        """End the process, whatever it is at; it only reads."""
        with self._changing:
            self._closed = True
            if self._process is not None:
                self._process.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._drop()

    def _exchange(self, name: str, arguments: tuple[object, ...]) -> Any:
        for _ in range(2):
            self.start()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                pickle.dump((name, arguments), process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
                process.stdin.flush()
                good, answer = pickle.load(process.stdout)
            except (OSError, EOFError, pickle.UnpicklingError):
                self._drop()
                continue
            if good:
                return answer
            raise answer
        raise ReaderLostError(
            f"the reader process died over '{name}', twice; see the station's log"
        )

    def _drop(self) -> None:
        with self._changing:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        process.wait()
