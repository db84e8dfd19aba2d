"""A bound on how long a protocol may think between two steps.

A protocol is advanced in the event loop that reads the instruments: while it thinks, no limit can
act. Code that does not come back by itself is stopped by an exception in its thread.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 2.0
"""Wall s for which a protocol may think about its next step. Our choice: with a heartbeat of 0.5 s
before it, less than the 3 s after which the watchdog counts the engine as frozen."""

AGAIN = 0.25
"""Wall s after which code that swallowed the exception gets another."""

_TICK = 0.02
"""Wall s between two looks at who is thinking."""


class TooLongError(BaseException):
    """What was called did not come back in time. No `Exception`: a script must not swallow it."""


class _Call:
    """One call under watch. thread: its number. left: s until it is stopped."""

    __slots__ = ("fired", "left", "over", "thread")

    def __init__(self, seconds: float) -> None:
        self.thread = threading.get_ident()
        self.left = seconds
        self.over = False
        self.fired = False


class _Watcher:
    """Looks at the calls under watch, in a thread that lives only while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[_Call] = set()
        self._watching = False

    def begin(self, seconds: float) -> _Call:
        """Put a call of this thread under watch."""
        call = _Call(seconds)
        with self._lock:
            self._calls.add(call)
            start, self._watching = not self._watching, True
        if start:
            threading.Thread(target=self._watch, name="patience", daemon=True).start()
        return call

    def end(self, call: _Call) -> None:
        """Watch a call no more; an exception that has not reached it yet never will."""
        with self._lock:
            self._calls.discard(call)
            if call.fired:
                _set_exception(call.thread, None)

    def _watch(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            # A process that stood still has not been thinking meanwhile.
            passed, before = min(now - before, 2.0 * _TICK), now
            with self._lock:
                if not self._calls:
                    self._watching = False
                    return
                for call in self._calls:
                    call.left -= passed
                    if call.left <= 0.0 and not call.over:
                        call.fired, call.left = True, AGAIN
                        _set_exception(call.thread, TooLongError)


_WATCHER = _Watcher()


def _set_exception(thread: int, kind: type[BaseException] | None) -> None:
    """Raise an exception in a thread as soon as it carries out Python; None takes it back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind)
    )


def within(function: Callable[[], T], seconds: float | None = None) -> T:
    """Call a function of no arguments; raises TooLongError in it after `seconds` of wall time.

    seconds: PATIENCE if None. The exception reaches Python code alone: a call into C, such as
    `time.sleep(3600)`, is first waited for. It never comes later than this returns.
    """
    call = _WATCHER.begin(PATIENCE if seconds is None else seconds)
    ended: BaseException | None = None
    try:
        result = function()
        call.over = True
    except BaseException as error:
        call.over = True
        ended = error
    # From here on nothing is fired any more. What was fired a moment before arrives in the `try`
    # at the latest, or is taken back. All in this frame: the entry to a function is a place where
    # it could arrive too.
    while True:
        try:
            _WATCHER.end(call)
            break
        except TooLongError:
            pass
    if ended is None:
        return result
    try:
        raise ended
    finally:
        del ended  # a frame that holds its own traceback is rubbish in a cycle
