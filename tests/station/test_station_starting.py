"""Starts that are given up: nothing is left that nobody owns."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import wait_until, write_bench
from operando.instruments.bench_file import load_bench
from operando.instruments.errors import BadInputError
from operando.instruments.locks import AddressLock
from operando.station import simulate
from operando.station.client import StationProcess, process, stations
from operando.station.served import served
from operando.station.simulate import SimulatedProcess
from station.served_stub import is_alive
from support.leaks import children

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

STATION = """
import sys
from pathlib import Path
from operando.station.client import StationProcess
bench = Path(sys.argv[1])
StationProcess(bench, output=bench.parent / "runs", simulate="--simulate" in sys.argv).start()
"""

SIMULATION = """
import sys
from pathlib import Path
from operando.station.simulate import SimulatedProcess
SimulatedProcess(Path(sys.argv[1])).__enter__()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A bench whose source meter nobody serves."""
    return write_bench(tmp_path)


@contextmanager
def starter(program: str, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for a station or simulation that it starts."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stderr=subprocess.PIPE, text=True
    ) as waiting:
        yield waiting
        waiting.communicate(timeout=30)


def child_of(pid: int, word: str) -> int:
    """The child of a process that has `word` on its command line; 0 if there is none yet."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words[:4]:
            return int(child)
    return 0


def test_ctrl_c_while_a_station_starts_ends_the_station(bench: Path) -> None:
    address = load_bench(bench).instruments["smu1"].address
    with AddressLock(address):  # the station waits for its instruments
        with starter(STATION, bench) as waiting:
            station = wait_until(lambda: child_of(waiting.pid, "station"))
            wait_until((bench.parent / "runs").is_dir)
            waiting.send_signal(signal.SIGINT)
            _, err = waiting.communicate(timeout=30)
        assert "KeyboardInterrupt" in err
        assert not is_alive(station)
        assert stations() == []


@pytest.mark.parametrize("options", [(), ("--simulate",)])
def test_ctrl_c_at_the_first_moment_ends_the_station_and_its_simulation(
    bench: Path, options: tuple[str, ...]
) -> None:
    with starter(STATION, bench, *options) as waiting:
        station = wait_until(lambda: child_of(waiting.pid, "station"))
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=30)
    assert not is_alive(station)
    assert children() == {}


def test_a_station_that_is_told_to_end_while_its_simulation_starts_ends_both(bench: Path) -> None:
    words = [sys.executable, "-m", "operando.station", "station", "--bench", str(bench)]
    words += ["--simulate", "--port", "0", "--output", str(bench.parent / "runs")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as station:
        simulation = wait_until(lambda: child_of(station.pid, "simulate"))
        station.send_signal(signal.SIGTERM)
        station.communicate(timeout=30)
    wait_until(lambda: not is_alive(simulation), timeout=5.0)
    assert served(load_bench(bench).instruments["smu1"].address) is None


def test_ctrl_c_while_a_simulation_starts_ends_the_simulation(bench: Path) -> None:
    with starter(SIMULATION, bench) as waiting:
        simulation = wait_until(lambda: child_of(waiting.pid, "simulate"))
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert not is_alive(simulation)


def test_a_station_that_does_not_answer_in_time_is_ended_and_the_error_says_what_to_do(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START", 3.0)
    address = load_bench(bench).instruments["smu1"].address
    station = StationProcess(bench, output=bench.parent / "runs")
    with AddressLock(address), pytest.raises(BadInputError, match=r"3 s.*operando station --bench"):
        station.start()
    assert not station.alive
    assert children() == {}


def test_a_simulation_that_does_not_start_in_time_is_ended(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "START", 0.01)
    with pytest.raises(BadInputError, match="did not start within"), SimulatedProcess(bench):
        pass
    assert children() == {}
