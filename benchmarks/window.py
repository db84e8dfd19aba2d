"""How soon a window shows a curve, says that its station died, and is whole when it returns.

    python benchmarks/window.py [--rounds N]

Real processes: simulated instruments at 60 times real time, a station, and `operando gui` drawing
offscreen; the figures are wall time and contain the start of the processes and some ms a look.
What is waited for is in the pixels or the texts of the window. Window and station are killed with
SIGKILL while a run is under way. A window that is stopped with SIGSTOP is a client that does not
read; what it does to the run is read in the record.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lab import free_port, simulated, write_bench
from operando.records import Record
from operando.station.client import RunRequest, StationClient, StationProcess
from support.at_screen import Operator

SPEED = 60.0
REQUEST = RunRequest(
    protocol="cccv",
    parameters={"charge_rate": "1C", "discharge_rate": "1C"},
    poll={"interval": "5 s"},
)
FIRST_PLOT, SAID, WHOLE = 2.0, 2.0, 3.0
"""Wall s: targets."""
STOPPED = 5.0
"""Wall s for which a window does not read."""


def until(look: Callable[[], bool], patience: float = 60.0) -> float:
    """Wall s until something is seen."""
    begin = time.perf_counter()
    while not look():
        if time.perf_counter() - begin > patience:
            raise SystemExit(f"not seen within {patience:g} s")
        time.sleep(0.005)
    return time.perf_counter() - begin


def lit(operator: Operator, name: str = "card-A1") -> bool:
    """Whether a curve is in the pixels of a card."""
    return bool(operator.ask(lit=name)["lit"] > 20)


def intervals(folder: Path, begin: float, end: float) -> np.ndarray:
    """Laboratory s between the samples of a record that lie between two Unix times of its clock."""
    time_s = Record.open(folder).samples()["time"]
    return np.diff(time_s[(time_s >= begin) & (time_s <= end)])


def first_plots(folder: Path, station: StationProcess) -> tuple[float, float]:
    """From the command to a curve of a run under way; from a start to its curve in the window."""
    with StationClient(station.url) as client:
        client.start("A1", REQUEST)
        until(lambda: client.snapshot().channels[0].rows > 10)
        begin = time.perf_counter()
        with Operator(None, folder, "gui", "--station", station.url, "--theme", "dark") as window:
            until(lambda: lit(window))
            opened = time.perf_counter() - begin
            client.abort("A1")
            until(lambda: window.see("start-A1")["visible"])
            client.start("A1", REQUEST)
            started = until(lambda: window.see("stop-A1")["enabled"] and lit(window))
            client.abort("A1")
    return opened, started


def killed_window(folder: Path, station: StationProcess) -> float:
    """Longest laboratory s between two samples around the SIGKILL of a window."""
    with StationClient(station.url) as client:
        run = client.start("A1", REQUEST).run
        with Operator(None, folder, "gui", "--station", station.url) as window:
            until(lambda: bool(window.read("running")))
            before = client.snapshot().channels[0].elapsed or 0.0
            os.kill(window.pid, signal.SIGKILL)
            window.wait()
        until(lambda: (client.snapshot().channels[0].elapsed or 0.0) > before + 120.0)
        assert client.snapshot().channels[0].output == "on"
        client.abort("A1")
    return float(np.max(intervals(folder / "runs" / run, before - 30.0, before + 120.0)))


def stopped_window(folder: Path, station: StationProcess) -> tuple[float, float]:
    """Longest laboratory s between samples beside a window that does not read; s to catch up."""
    with StationClient(station.url) as client:
        run = client.start("A1", REQUEST).run
        with Operator(None, folder, "gui", "--station", station.url) as window:
            window.await_widget("card-A1")
            window.ask(open="A1")
            until(lambda: window.ask(last=True)["last"] > 10.0)
            begin = client.snapshot().channels[0].elapsed or 0.0
            os.kill(window.pid, signal.SIGSTOP)
            time.sleep(STOPPED)
            end = client.snapshot().channels[0].elapsed or 0.0
            os.kill(window.pid, signal.SIGCONT)
            behind = until(lambda: window.ask(last=True)["last"] > end - 2.0 * SPEED)
            client.abort("A1")
    return float(np.max(intervals(folder / "runs" / run, begin, end))), behind


def killed_station(folder: Path, bench: Path) -> tuple[float, float, float]:
    """From SIGKILL to the word; from the station's return until it is heard, and until whole."""
    port = free_port()
    first = StationProcess(bench, port=port, output=folder / "runs").start()
    with (
        StationClient(first.url) as client,
        Operator(None, folder, "gui", "--station", first.url) as window,
    ):
        run = client.start("A1", REQUEST).run
        window.await_widget("card-A1")
        window.ask(open="A1")
        until(lambda: window.ask(last=True)["last"] > 60.0)
        os.kill(first.pid, signal.SIGKILL)
        said = until(lambda: bool(window.read("Lost")))
        first.close()
        with StationProcess(bench, port=port, output=folder / "runs"):
            begin = time.perf_counter()
            until(lambda: bool(window.read("Connected")))
            heard = time.perf_counter() - begin
            newest = float(Record.open(folder / "runs" / run).samples()["time"][-1])
            until(lambda: bool(window.read("killed")))
            until(lambda: window.ask(last=True)["last"] == newest)
            whole = time.perf_counter() - begin
            client.acknowledge("A1")
    return said, heard, whole


def line(name: str, seconds: list[float], target: float, unit: str = "s") -> bool:
    """Print a figure; whether all rounds reached its target."""
    print(
        f"{name:<62} median {np.median(seconds):6.2f} {unit}   longest {max(seconds):6.2f} {unit}"
        f"   (target {target:g} {unit})"
    )
    return max(seconds) <= target


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = write_bench(folder, speed=SPEED)
        with simulated(bench):
            with StationProcess(bench, output=folder / "runs") as station:
                plots = [first_plots(folder, station) for _ in range(rounds)]
                killed = [killed_window(folder, station) for _ in range(rounds)]
                stopped = [stopped_window(folder, station) for _ in range(rounds)]
            stations = [killed_station(folder, bench) for _ in range(rounds)]
    interval = 5.0 + SPEED * 0.25
    reached = [
        line("from 'operando gui' to the curve of a run", [a for a, _ in plots], FIRST_PLOT),
        line("from a start to its curve in an open window", [b for _, b in plots], FIRST_PLOT),
        line("longest interval of samples around kill -9 of the window", killed, interval, "lab s"),
        line(
            f"the same while a window does not read for {STOPPED:g} s",
            [a for a, _ in stopped],
            interval,
            "lab s",
        ),
        line("until that window has caught up", [b for _, b in stopped], WHOLE),
        line("from kill -9 of the station to the window's word", [a for a, _, _ in stations], SAID),
        line("from its return until it is heard", [b for _, b, _ in stations], WHOLE),
        line(
            "from its return until every stored reading is shown", [c for *_, c in stations], WHOLE
        ),
    ]
    print("all targets reached" if all(reached) else "A TARGET WAS MISSED")
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
