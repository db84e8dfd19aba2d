"""Pulling the plug in the middle of a charge, with every part in a process of its own.

Each case asks the simulated instrument's true output relay, over the simulation's own control
line, never the driver's belief.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lab import RunProcess, simulated, summary, wait_until, write_bench, write_recipe
from operando.instruments.recorder import Entry
from operando.records import Record, verify
from operando.station.simulate import SimulatedProcess
from operando.station.watchdog import WATCHDOG_TIME

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals"),
]

SLOW = 'charge_rate = "C/2"\ndischarge_rate = "C/2"'
SPEED = 20.0


class Bench:
    """A simulated bench that is being served, with runs on it."""

    def __init__(self, folder: Path, process: SimulatedProcess, path: Path) -> None:
        self.folder = folder
        self.process = process
        self.path = path

    def start(self, *, interval: str = "2 s", limits: str = "") -> RunProcess:
        """Start a charge; returns once it has recorded samples with the output on."""
        recipe = write_recipe(self.folder, SLOW, interval=interval, limits=limits)
        run = RunProcess(recipe, self.path, self.folder / "runs")
        try:
            wait_until(lambda: self.process.relays()["smu1"])
            folder = run.folder()
            wait_until(lambda: len(Record.open(folder).samples()["time"]) >= 20)
        except BaseException:
            run.__exit__()
            raise
        return run

    def relay_opens_within(self, seconds: float) -> None:
        """The relay is open within wall seconds from now."""
        start = time.monotonic()
        wait_until(lambda: not self.process.relays()["smu1"], timeout=seconds)
        assert time.monotonic() - start <= seconds


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served bench at SPEED."""
    path = write_bench(tmp_path, speed=SPEED)
    with simulated(path) as process:
        yield Bench(tmp_path, process, path)


def acknowledged(folder: Path) -> np.ndarray:
    """Times of the samples that a reader sees committed now."""
    return Record.open(folder).samples()["time"]


def test_kill_nine_of_the_runner_opens_the_relay_and_loses_no_acknowledged_sample(
    bench: Bench,
) -> None:
    with bench.start() as run:
        folder = run.folder()
        seen = acknowledged(folder)
        run.signal(signal.SIGKILL)
        bench.relay_opens_within(WATCHDOG_TIME)
    record = Record.open(folder)
    assert record.state == "killed"
    assert verify(folder)
    times = record.samples()["time"]
    assert np.array_equal(times[: len(seen)], seen)
    assert len(seen) >= 20


def test_a_stopped_runner_is_switched_off_and_its_gap_is_explicit_when_it_goes_on(
    bench: Bench,
) -> None:
    with bench.start() as run:
        folder = run.folder()
        run.signal(signal.SIGSTOP)
        seen = acknowledged(folder)
        bench.relay_opens_within(WATCHDOG_TIME)
        run.signal(signal.SIGCONT)
        wait_until(lambda: Record.open(folder).journal(Entry.GAP))
        wait_until(lambda: Record.open(folder).journal(Entry.PAUSED))
        assert not bench.process.relays()["smu1"]
        run.signal(signal.SIGTERM)
        code, out, _ = run.wait()
    assert code == 4
    assert summary(out)["safe"] is True
    record = Record.open(folder)
    gap = record.gaps()[0]
    assert gap.end - gap.start > 3.0 * SPEED
    assert 0.0 < gap.charge_bound < 1.0
    times = record.samples()["time"]
    assert np.array_equal(times[: len(seen)], seen)
    assert verify(folder)


def test_a_dropped_link_ends_the_run_with_the_output_off(bench: Bench) -> None:
    with bench.start() as run:
        bench.process.inject("smu1", "drop")
        code, out, _ = run.wait()
        bench.relay_opens_within(0.5)
    assert code == 5
    assert summary(out)["safe"] is True
    assert Record.open(run.folder()).state == "faulted"


def test_a_source_meter_that_hangs_is_reported_as_not_verified_and_off_once_it_answers(
    bench: Bench,
) -> None:
    with bench.start() as run:
        watchdog = watchdog_of(run)
        bench.process.inject("smu1", "silence")
        code, out, _ = run.wait()
        result = summary(out)
        assert code == 5
        assert result["safe"] is False
        assert "ASSUME THAT THE OUTPUT IS ON" in str(result["reason"])
        # The run could not switch it off. The watchdog still guards it and goes on trying.
        bench.process.inject("smu1", "none")
        bench.relay_opens_within(WATCHDOG_TIME)
        wait_until(lambda: has_ended(watchdog))  # it reads back before it goes


def watchdog_of(run: RunProcess) -> int:
    """Process of the watchdog of a run."""
    children = (Path("/proc") / str(run.pid) / "task" / str(run.pid) / "children").read_text()
    return int(children.split()[0])


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits for nothing but to be counted."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_frozen_run_stays_guarded_after_it_came_back(bench: Bench) -> None:
    with bench.start() as run:
        run.signal(signal.SIGSTOP)
        bench.relay_opens_within(WATCHDOG_TIME)
        run.signal(signal.SIGCONT)
        folder = run.folder()
        wait_until(lambda: Record.open(folder).journal(Entry.PAUSED))
        run.signal(signal.SIGUSR2)
        wait_until(lambda: bench.process.relays()["smu1"])
        watchdog = watchdog_of(run)
        run.signal(signal.SIGKILL)
        bench.relay_opens_within(WATCHDOG_TIME)
        wait_until(lambda: has_ended(watchdog))  # it reads back before it goes


def test_a_stopped_watchdog_ends_the_run(bench: Bench) -> None:
    with bench.start() as run:
        watchdog = watchdog_of(run)
        os.kill(watchdog, signal.SIGSTOP)
        try:
            wait_until(lambda: not bench.process.relays()["smu1"])
        finally:
            os.kill(watchdog, signal.SIGCONT)
        code, out, _ = run.wait()
    assert code == 5
    assert "does not answer" in str(summary(out)["reason"])


def test_a_pause_at_any_moment_opens_the_circuit(bench: Bench) -> None:
    """Also between two steps, when nothing is being polled."""
    short = 'charge_rate = "C/2"\ndischarge_rate = "C/2"\nrest = "0 s"\n'
    short += 'window = ["2.5 V", "3.0 V"]\nconstant_voltage = false\ncycles = 40'
    recipe = write_recipe(bench.folder, short, interval="1 s", name="short.toml")
    with RunProcess(recipe, bench.path, bench.folder / "runs") as run:
        folder = run.folder()
        for pause in range(1, 6):
            ended = len(Record.open(folder).journal(Entry.STEP_ENDED))
            wait_until(lambda n=ended: len(Record.open(folder).journal(Entry.STEP_ENDED)) > n)
            run.signal(signal.SIGUSR1)
            wait_until(lambda n=pause: len(Record.open(folder).journal(Entry.PAUSED)) >= n)
            assert not bench.process.relays()["smu1"]
            run.signal(signal.SIGUSR2)
            wait_until(lambda n=pause: len(Record.open(folder).journal(Entry.RESUMED)) >= n)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 4), (signal.SIGTERM, 4)])
def test_ctrl_c_and_sigterm_are_orderly_aborts(
    bench: Bench, number: signal.Signals, code: int
) -> None:
    with bench.start() as run:
        run.signal(number)
        ended, out, _ = run.wait()
    assert ended == code
    assert summary(out)["safe"] is True
    assert not bench.process.relays()["smu1"]
    record = Record.open(run.folder())
    assert record.state == "aborted"
    assert verify(run.folder())


def test_a_full_disk_ends_the_run_with_the_output_off(bench: Bench) -> None:
    recipe = write_recipe(bench.folder, SLOW, interval="1 s")
    limit = 300_000  # bytes a file may have: a few thousand samples
    launcher = (
        "import resource, signal, sys;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.argv = ['operando', *sys.argv[1:]];"
        "from operando.station.cli import main; main()"
    )
    import subprocess

    done = subprocess.run(
        [
            *(sys.executable, "-c", launcher, "run", str(recipe), "--bench", str(bench.path)),
            *("--channel", "A1", "--output", str(bench.folder / "runs"), "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    result = summary(done.stdout)
    assert result["safe"] is True
    assert "record" in str(result["reason"])
    assert not bench.process.relays()["smu1"]
    folder = Path(str(result["record"]))
    assert len(Record.open(folder).samples()["time"]) > 100
    assert verify(folder)


def test_a_second_run_on_the_same_instrument_is_refused_and_names_the_owner(bench: Bench) -> None:
    with bench.start() as run:
        recipe = write_recipe(bench.folder, SLOW, name="second.toml")
        with RunProcess(recipe, bench.path, bench.folder / "other") as second:
            code, _, err = second.wait()
        assert code == 2
        assert f"process {run.pid}" in err
        assert bench.process.relays()["smu1"]


def test_a_run_at_another_speed_than_its_simulation_is_refused(bench: Bench) -> None:
    recipe = write_recipe(bench.folder, SLOW)
    with RunProcess(recipe, bench.path, bench.folder / "runs", "--speed", "7") as run:
        code, _, err = run.wait()
    assert code == 2
    assert "simulated at speed 20" in err


def test_the_watchdog_outlives_ctrl_c_at_the_terminal(bench: Bench) -> None:
    with bench.start() as run:
        children = (Path("/proc") / str(run.pid) / "task" / str(run.pid) / "children").read_text()
        watchdogs = [int(child) for child in children.split()]
        assert watchdogs
        assert all(os.getsid(child) != os.getsid(run.pid) for child in watchdogs)


def test_a_run_without_its_watchdog_does_not_go_on(bench: Bench) -> None:
    with bench.start() as run:
        children = (Path("/proc") / str(run.pid) / "task" / str(run.pid) / "children").read_text()
        os.kill(int(children.split()[0]), signal.SIGKILL)
        code, out, _ = run.wait()
    assert code == 5
    assert "watchdog died" in str(summary(out)["reason"])
    assert not bench.process.relays()["smu1"]


def test_a_closed_terminal_ends_the_run_in_order(bench: Bench) -> None:
    with bench.start() as run:
        run.signal(signal.SIGHUP)
        code, out, _ = run.wait()
    assert code == 4
    assert "terminal" in str(summary(out)["reason"])
    assert summary(out)["safe"] is True
    assert not bench.process.relays()["smu1"]
