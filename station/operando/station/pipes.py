"""Lines from a pipe or terminal, read by a thread that can be left behind at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


def read_lines(descriptor: int, take: Callable[[bytes], None], name: str) -> threading.Thread:
    """Start a daemon thread that hands each line of a file descriptor to `take`, then b"".

    It reads the descriptor itself: a thread that waits inside a buffered stream holds that
    stream's lock, and the interpreter cannot end without it.
    """

    def read() -> None:
        rest = b""
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                data = b""
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                take(line + b"\n")
        take(b"")

    thread = threading.Thread(target=read, daemon=True, name=name)
    thread.start()
    return thread
