"""A pytest plugin: whatever a test starts or opens, it must also end or close.

After every test that passed, tasks, threads, child processes and file descriptors are compared
with those before it, and what is left over fails the test. Descriptors and child processes are
read from /proc and therefore checked on Linux alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import multiprocessing.resource_tracker
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

ON_LINUX = sys.platform == "linux"
THREAD_GRACE = 2.0
"""Wall s for which a thread may still be ending."""
PROCESS_GRACE = 5.0
"""Wall s for which a child process may still be ending: a watchdog reads back what it did."""
LOOP_GRACE = 20
"""Turns of the event loop for which a task may still be ending after the main one."""
PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h: orphans below this process become its children instead of init's."""

_CALL_FAILED = pytest.StashKey[bool]()


class _LostTasks(logging.Handler):
    """Collects what asyncio says about tasks and futures that nobody waited for."""

    MARKS = ("was destroyed but it is pending", "was never retrieved")

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if any(mark in message for mark in self.MARKS):
            self.messages.append(message)


class _Loops:
    """Watches event loops end: `asyncio.Runner` would cancel leaked tasks there in silence."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ran = False
        self.pending: list[str] = []
        cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]
        close = asyncio.BaseEventLoop.close

        def watched_cancel_all(loop: asyncio.AbstractEventLoop) -> None:
            if asyncio.all_tasks(loop):
                loop.run_until_complete(_let_tasks_end())
            self._note(loop)
            cancel_all(loop)

        def watched_close(loop: asyncio.BaseEventLoop) -> None:
            self.ran = True
            self._note(loop)
            close(loop)

        patch.setattr(asyncio.runners, "_cancel_all_tasks", watched_cancel_all)
        patch.setattr(asyncio.BaseEventLoop, "close", watched_close)

    def _note(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pending += [repr(task) for task in asyncio.all_tasks(loop)]


async def _let_tasks_end() -> None:
    for _ in range(LOOP_GRACE):
        if len(asyncio.all_tasks()) == 1:
            return
        await asyncio.sleep(0)


def descriptors() -> Mapping[int, str]:
    """Open file descriptors of this process and what they point to; empty off Linux."""
    found: dict[int, str] = {}
    if not ON_LINUX:
        return found
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_fd", None)
    for name in os.listdir("/proc/self/fd"):
        # The descriptor that lists the directory is gone by the time its link is read.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) != tracker and not target.startswith("/dev/"):
                found[int(name)] = target
    return found


def children() -> Mapping[int, str]:
    """Living child processes of this process, pid to command line; empty off Linux.

    Adopted orphans that have ended are reaped on the way.
    """
    found: dict[int, str] = {}
    if not ON_LINUX:
        return found
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_pid", None)
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):
            for pid in map(int, listing.read_text().split()):
                if pid != tracker and _is_alive(pid):
                    with contextlib.suppress(FileNotFoundError):
                        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                        found[pid] = b" ".join(words).decode(errors="replace").strip()
    return found


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _wait_for_exit(pid: int, deadline: float) -> None:
    """Wait until a child ends or the monotonic deadline passes."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000.0)
    finally:
        os.close(handle)


def leaked_threads(before: set[threading.Thread]) -> list[str]:
    """Threads that outlive the test and the grace."""
    deadline = time.monotonic() + THREAD_GRACE
    extra = [thread for thread in threading.enumerate() if thread not in before]
    for thread in extra:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [f"thread {thread.name!r} ({thread!r})" for thread in extra if thread.is_alive()]


def leaked_children(before: Mapping[int, str]) -> list[str]:
    """Processes that outlive the test and the grace; they are killed, so that nothing hangs."""
    deadline = time.monotonic() + PROCESS_GRACE
    leaked: list[str] = []
    # Killing a parent may hand us its own children, hence more than one round.
    while extra := [pid for pid in children() if pid not in before]:
        for pid in extra:
            _wait_for_exit(pid, deadline)
            if _is_alive(pid):
                leaked.append(f"child process {pid} ({children().get(pid, 'gone')})")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _wait_for_exit(pid, time.monotonic() + 1.0)
            _reap(pid)
    return leaked


def leaked_descriptors(before: Mapping[int, str]) -> list[str]:
    """Files, sockets, pipes and event loops that the test left open."""

    def extra() -> list[str]:
        now = descriptors()
        return [
            f"file descriptor {number} ({target})"
            for number, target in now.items()
            if before.get(number) != target
        ]

    if extra():
        # Rubbish in a cycle closes itself here, and warns if it should have been closed by hand.
        gc.collect()
    return extra()


def _adopt_orphans() -> None:
    """Make processes whose parent died visible to `children`: a watchdog outlives its engine."""
    if ON_LINUX:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_configure() -> None:
    """Prepare the process before any test runs."""
    _adopt_orphans()


def pytest_collection_finish() -> None:
    """Keep the garbage collections after each test cheap: modules are not rubbish."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself failed: one failure says one thing."""
    report = yield
    if report.when == "call":
        item.stash[_CALL_FAILED] = report.failed
    return report


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    lost = _LostTasks()
    logger = logging.getLogger("asyncio")
    processes, open_before = children(), descriptors()
    threads = set(threading.enumerate())
    logger.addHandler(lost)
    try:
        with pytest.MonkeyPatch.context() as patch:
            loops = _Loops(patch)
            yield
        if loops.ran:
            gc.collect()
    finally:
        logger.removeHandler(lost)
    leaks = [
        *(f"task {task}" for task in loops.pending),
        *lost.messages,
        *leaked_threads(threads),
        *leaked_children(processes),
        *leaked_descriptors(open_before),
    ]
    if leaks and not request.node.stash.get(_CALL_FAILED, False):
        pytest.fail("the test left behind:\n  " + "\n  ".join(leaks), pytrace=False)
