"""What viewers see of records, read by processes of their own so that nothing slows acquisition.

Three of them, which differ only in what they are asked: the live push waits for nobody, a plot
does not wait for an export, and what reads whole records waits its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import queue
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

_LOG = logging.getLogger(__name__)

PROGRAM = "from operando.station.view_process import main; main()"

LIVE = 10.0
"""Wall s after which a live reader that does not answer is replaced; it reads the newest rows."""

WHOLE = 60.0
"""The same for readers that may have to read a whole record first."""

ANEW = 3.0
"""Times as long for the first answer of a process, which has all its modules to load."""

ANSWER = 45.0
"""Wall s after which a question is refused for now; its client waits 60 s, and may ask again."""

GRACE = 1.0
"""Wall s that a process which was killed may take to be gone."""

MOST_NEW = 2_000
"""Rows that are given to those who follow a run; of more at once only the newest."""


class UnknownRunError(OperandoError):
    """There is no such run in the station's folder."""


class ReaderLostError(OperandoError):
    """The reader process died or did not answer, and did so again; or there is no answer yet."""


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
    over: nothing will be committed after it; the run's writer was gone before the look.
    """

    cursor: Cursor
    readings: Readings
    latest: Mapping[str, Reading]
    skipped: bool
    over: bool = False


class Views:
    """Answers questions about the runs in a folder; a context manager.

    output: folder that holds the folders of the runs. Every question raises UnknownRunError,
    RecordError, or ReaderLostError when the reader died or hung over it twice, and all but `fresh`
    also when there is no answer within `ANSWER`. May be asked by one event loop at a time.
    """

    def __init__(self, output: Path) -> None:
        output = output.resolve()
        self.live = Lane("live", output, 0, LIVE)
        # Plots and tables make room for acquisition, if there is not enough for both.
        self.plots = Lane("plots", output, 5, WHOLE)
        self.tables = Lane("tables", output, 10, WHOLE)

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
        try:
            async with asyncio.timeout(ANSWER):
                content: bytes = await lane.ask(name, *arguments)
        except TimeoutError:
            raise ReaderLostError(
                f"there is no answer to '{name}' after {ANSWER:g} s: the records are still being "
                "read, or their disk does not answer; ask again in a moment"
            ) from None
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
    """A reader process that is asked one question at a time, and replaced when it fails.

    nice: as `os.nice`. patience: wall s after which a process that does not answer counts as lost;
    `ANEW` times as long for one that has not answered yet.
    """

    def __init__(self, name: str, output: Path, nice: int, patience: float) -> None:
        self.name = name
        self.patience = patience
        self._words = [sys.executable, "-c", PROGRAM, str(output), str(nice)]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"reader-{name}")
        self._process: _Process | None = None
        self._closed = False
        self._changing = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Number of its process, None while there is none."""
        process = self._process
        return None if process is None else process.pid

    async def ask(self, name: str, *arguments: object) -> Any:
        """The answer of a method of `Reader`; raises what it raised."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._exchange, name, arguments)

    def start(self) -> _Process:
        """The process, started unless it runs."""
        with self._changing:
            if self._closed:
                raise ReaderLostError("the station is ending")
            if self._process is None:
                self._process = _Process(self._words, f"reader-{self.name}-pipe")
            return self._process

    def close(self) -> None:
        """End the process, whatever it is at; it only reads."""
        with self._changing:
            self._closed = True
        self._drop()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _exchange(self, name: str, arguments: tuple[object, ...]) -> Any:
        why = ""
        for _ in range(2):
            process = self.start()
            answer = process.ask((name, arguments), self.patience)
            if not isinstance(answer, str):
                good, content = answer
                if good:
                    return content
                raise content
            why = answer
            if not self._closed:
                _LOG.warning("reader '%s', asked for '%s': %s; starting another", self.name, name,
                             why)  # fmt: skip
            self._drop()
        raise ReaderLostError(
            f"the reader process was lost over '{name}' twice: it {why}; see the station's log"
        )

    def _drop(self) -> None:
        with self._changing:
            process, self._process = self._process, None
        if process is not None:
            process.end()


class _Process:
    """A reader process, and a thread which alone may be blocked by it.

    A process that waits for a disk does not even die when it is killed, so nobody waits for it, nor
    for the thread that reads from it. It is a plain child and not one of multiprocessing's, which
    would import the station's main module again, and ends by itself when its standard input does.
    """

    def __init__(self, words: Sequence[str], name: str) -> None:
        self._questions: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[bool, Any] | str] = queue.SimpleQueue()
        self._answered = False
        # In a session of its own, so that Ctrl-C does not reach it.
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._process.pid
        self._thread = threading.Thread(target=self._carry, name=name, daemon=True)
        self._thread.start()

    def ask(self, question: object, patience: float) -> tuple[bool, Any] | str:
        """Whether it went well, and the answer or error; or in words what became of the process.

        After words it is not asked again.
        """
        patience *= 1.0 if self._answered else ANEW
        self._questions.put(question)
        try:
            answer = self._answers.get(timeout=patience)
        except queue.Empty:
            return f"did not answer within {patience:.3g} s"
        self._answered = True
        return answer

    def end(self) -> None:
        """Kill it, and let go of it even if it does not die."""
        self._process.kill()
        self._answers.put("was killed")
        self._questions.put(None)
        self._thread.join(GRACE)

    def _carry(self) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            while (question := self._questions.get()) is not None:
                pickle.dump(question, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
                process.stdin.flush()
                self._answers.put(pickle.load(process.stdout))
        except (OSError, EOFError, pickle.UnpicklingError):
            self._answers.put("died")
        except Exception as error:
            _LOG.exception("a reader process cannot be talked to")
            self._answers.put(f"cannot be talked to: {type(error).__name__}: {error}")
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        process.wait()
