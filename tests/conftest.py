"""What every test has: a place of its own for locks, free ports, and a check for leaks."""

from __future__ import annotations

import random
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "support.leaks"]

# A shared machine may stop for a second at any time, which says nothing about a test.
settings.register_profile("operando", deadline=None)
settings.load_profile("operando")

PORTS = range(20_000, 30_000)
"""Below the ports that Linux gives to outgoing connections (32768 and up), which come and go."""


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A run leaves late pauses ignored, and a station every signal while it ends, as they should.

    Processes that a later test starts would inherit that.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _own_runtime_directory(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Locks of instrument addresses live here, so that tests side by side do not meet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPERANDO_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        yield


@pytest.fixture
def free_ports() -> Callable[[int], tuple[int, ...]]:
    """Call with a number to get as many TCP ports of the loopback that are free right now."""
    return _find_free_ports


@pytest.fixture
def free_port() -> int:
    """One TCP port of the loopback that is free right now."""
    return _find_free_ports(1)[0]


def _find_free_ports(count: int) -> tuple[int, ...]:
    # Not from `random` itself: tests seed it, and two workers would then pick the same port.
    candidates = random.SystemRandom().sample(PORTS, 50 * count)
    found: list[int] = []
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return tuple(found)
    raise RuntimeError(f"found {len(found)} of {count} free ports among {len(candidates)} tried")
