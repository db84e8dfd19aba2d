"""A station in a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from operando.instruments.errors import BadInputError

END = 60.0
"""Wall s for a station to bring every run into its safe state and end."""


class StationProcess:
    """`operando station` as a process; a context manager that ends what it started.

    bench: bench file, None for the built-in simulated lab. The process is in a session of its own:
    it outlives the one that started it unless `close` is called.
    Raises BadInputError with the station's own message when it does not start.
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
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> Self:
        """Start it and wait until it answers."""
        process = subprocess.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        self._process = process
        for line in process.stdout:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self.url = str(json.loads(line)["url"])
                return self
        self.close()
        raise BadInputError("the station did not start; see its message above")

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
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
