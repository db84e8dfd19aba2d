"""A station in a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import IO, Any, Self

from operando.instruments.errors import BadInputError
from operando.station.pipes import read_lines

START = 180.0
"""Wall s for a station to answer. One that waits for its instruments' locks, switches off what a
killed station left on and meets instruments that keep silent takes about a minute."""

END = 60.0
"""Wall s for a station to bring every run into its safe state and end."""


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let signals that Python handles wait: a process must not be born while nobody knows it."""
    came: list[int] = []
    before: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            handler = None if number is None else signal.getsignal(number)
            if number is None or isinstance(handler, int) or not callable(handler):
                continue  # the system's own, which the new process is to inherit
            before[number] = handler
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in came:
        signal.raise_signal(number)


class Lines:
    """What a process writes, line by line, read by a thread so that waiting can end."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._thread = read_lines(stream.fileno(), self._lines.put, name)

    def next(self, until: float) -> str:
        """The next line, "" at the end. Raises TimeoutError at `until` on the monotonic clock."""
        try:
            return self._lines.get(timeout=max(0.0, until - time.monotonic())).decode()
        except Empty:
            raise TimeoutError from None

    def close(self) -> None:
        """Close the stream of a process that has ended, unless one of its children holds it."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._stream.close()


class StationProcess:
    """`operando station` as a process; a context manager that ends what it started.

    bench: bench file, None for the built-in simulated lab. The process is in a session of its own:
    it outlives the one that started it unless `close` is called, or its start is interrupted.
    Raises BadInputError when it does not start, after the station's own message, or not in time.
    """

    def __init__(
        self,
        bench: Path | None,
        *,
        simulate: bool = False,
        speed: float | None = None,
        port: int = 0,
        output: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        words = [sys.executable, "-m", "operando.station", "station", "--json", "--port", str(port)]
        words += ["--bench", str(bench)] if bench is not None else []
        words += ["--simulate"] if simulate else []
        words += ["--speed", f"{speed:g}"] if speed is not None else []
        words += ["--output", str(output)] if output is not None else []
        self._words = [*words, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: Lines | None = None
        self.url = ""

    def start(self) -> Self:
        """Start it and wait until it answers, at most `START`.

        Whatever ends the wait, Ctrl-C too, ends the station: it would belong to nobody.
        """
        try:
            with uninterrupted():
                process = self._process = subprocess.Popen(
                    self._words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
                assert process.stdout is not None
                self._lines = Lines(process.stdout, "station-lines")
            self.url = _url(self._lines)
        except TimeoutError:
            self.close()
            raise BadInputError(
                f"the station did not answer within {START:g} s and was ended. Look at its "
                "instruments and their cables, then start it in a terminal of its own, with "
                "'operando station --bench BENCH', to see what it waits for"
            ) from None
        except BaseException:
            self.close()
            raise
        return self

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End it in order: every output is read back off first. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._lines is not None:
            self._lines.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _url(lines: Lines) -> str:
    """The address that a station announces. Raises BadInputError, TimeoutError."""
    until = time.monotonic() + START
    while line := lines.next(until):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line)["url"])
    raise BadInputError("the station did not start; see its message above")
