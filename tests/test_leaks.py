"""The check for leaks is itself checked: every kind of leak makes a test fail."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SHORT_GRACE = """
def pytest_configure():
    import support.leaks
    support.leaks.THREAD_GRACE = support.leaks.PROCESS_GRACE = 0.3
"""
TASK = """
    import asyncio
    kept = []
    async def forever():
        await asyncio.Event().wait()
    async def main():
        kept.append(asyncio.create_task(forever(), name="forgotten"))
    def test_leak():
        asyncio.run(main())
"""
VIRTUAL_TASK = """
    import asyncio
    from operando.instruments.clock import run
    kept = []
    async def forever():
        await asyncio.sleep(1e9)
    async def main():
        kept.append(asyncio.create_task(forever(), name="forgotten"))
    def test_leak():
        run(main(), virtual=True)
"""
DESTROYED_TASK = """
    import asyncio
    async def forever():
        await asyncio.get_running_loop().create_future()
    def test_leak():
        loop = asyncio.new_event_loop()
        loop.create_task(forever(), name="forgotten")
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
"""
THREAD = """
    import threading
    stop = threading.Event()
    def test_leak():
        threading.Thread(target=stop.wait, name="forgotten", daemon=True).start()
"""
SOCKET = """
    import socket
    kept = []
    def test_leak():
        kept.append(socket.socket())
"""
UNRETRIEVED = """
    import asyncio
    async def fails():
        raise OSError("nobody looked")
    async def main():
        asyncio.create_task(fails())
        await asyncio.sleep(0)
    def test_leak():
        asyncio.run(main())
"""
FILE = """
    kept = []
    def test_leak(tmp_path):
        kept.append(open(tmp_path / "forgotten", "w"))
"""
PROCESS = """
    import subprocess, sys
    kept = []
    def test_leak():
        kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
"""
ORPHAN = """
    import subprocess, sys
    PARENT = '''
    import subprocess, sys
    subprocess.Popen(["sleep", "120"], start_new_session=True)
    '''
    def test_leak():
        subprocess.run([sys.executable, "-c", PARENT.replace("    ", "")], check=True)
"""
CLEAN = """
    import asyncio, socket, subprocess, sys, threading
    async def main():
        task = asyncio.create_task(asyncio.sleep(1e9))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    def test_clean(tmp_path, free_port):
        asyncio.run(main())
        thread = threading.Thread(target=len, args=("ab",))
        thread.start()
        (tmp_path / "file").write_text("closed")
        with socket.create_server(("127.0.0.1", free_port)):
            pass
        subprocess.run([sys.executable, "-c", ""], check=True)
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A pytest run of its own that uses this project's conftest."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    conftest = (TESTS / "conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(conftest + SHORT_GRACE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *sys.path]))
    # The outer run's own options must not leak inwards.
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def run_inner(inner: pytest.Pytester, source: str) -> pytest.RunResult:
    """Run one test module in a fresh process and return its result."""
    inner.makepyfile(source)
    return inner.runpytest_subprocess("-p", "no:cacheprovider", timeout=100)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        pytest.param(TASK, "*task <Task pending name='forgotten'*", id="task"),
        pytest.param(VIRTUAL_TASK, "*task <Task pending name='forgotten'*", id="virtual task"),
        pytest.param(DESTROYED_TASK, "*task <Task pending name='forgotten'*", id="lost task"),
        pytest.param(UNRETRIEVED, "*Task exception was never retrieved*", id="lost exception"),
        pytest.param(THREAD, "*thread 'forgotten'*", id="thread"),
        pytest.param(SOCKET, "*file descriptor * (socket:*", id="socket", marks=linux_only),
        pytest.param(FILE, "*file descriptor * (*forgotten*", id="file", marks=linux_only),
        pytest.param(PROCESS, "*child process * (*input()*", id="process", marks=linux_only),
        pytest.param(ORPHAN, "*child process * (sleep 120)*", id="orphan", marks=linux_only),
    ],
)
def test_a_test_that_leaks_fails_and_names_what_it_left_behind(
    inner: pytest.Pytester, source: str, complaint: str
) -> None:
    result = run_inner(inner, source)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the test left behind:", complaint])


def test_a_test_that_cleans_up_passes(inner: pytest.Pytester) -> None:
    run_inner(inner, CLEAN).assert_outcomes(passed=1)


def test_every_test_has_a_runtime_directory_of_its_own() -> None:
    assert os.listdir(os.environ["OPERANDO_RUNTIME_DIR"]) == []


def test_a_free_port_can_be_bound(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)) as server:
        assert server.getsockname()[1] == free_port
