"""CC/CV cycles of the simulated cell alone on one core, all ageing on.

`--compiled` compiles the cell first (hatch_build.py). `--pybamm` runs PyBaMM's single-particle
model with SEI and swelling beside it, in the same process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from operando.simulators.cell import SimulatedCell, cycle, simulated

TARGET = 0.3
"""Seconds for 100 cycles."""
RATIO = 10.0
"""How much longer PyBaMM takes."""


def own(preset: str, cycles: int) -> tuple[float, float]:
    """Seconds of processor time for some cycles at C/2, and their retention."""
    cell = SimulatedCell.from_preset(preset)
    begun = time.process_time()
    run = cycle(cell, 0.0, lower=2.5, upper=4.25, rate=0.5, cutoff_rate=0.05, cycles=cycles)
    capacities = [done.discharged for done in run]
    return time.process_time() - begun, capacities[-1] / capacities[0]


def theirs(cycles: int) -> float:
    """Seconds of processor time of PyBaMM for as many cycles, model building included."""
    os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
    import pybamm

    pybamm.set_logging_level("ERROR")
    options = {"SEI": "solvent-diffusion limited", "particle mechanics": "swelling only"}
    steps = (
        "Charge at C/2 until 4.2 V",
        "Hold at 4.2 V until C/20",
        "Discharge at C/2 until 2.5 V",
    )
    begun = time.process_time()
    pybamm.Simulation(
        pybamm.lithium_ion.SPM(options),
        parameter_values=pybamm.ParameterValues("OKane2022"),
        experiment=pybamm.Experiment([steps] * cycles),
    ).solve(initial_soc=0.0)
    return time.process_time() - begun


def again_compiled(arguments: list[str]) -> int:
    """Compile the cell to a folder of its own and run this program on it; returns its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, str(Path(__file__).parents[1] / "hatch_build.py"), folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        environment = {**os.environ, "PYTHONPATH": folder}
        return subprocess.run(
            [sys.executable, __file__, *arguments], env=environment, check=False
        ).returncode


def main() -> int:
    """Measure and print; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="ncm811-caec")
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--pybamm", action="store_true")
    arguments = parser.parse_args()
    if arguments.compiled:
        return again_compiled([word for word in sys.argv[1:] if word != "--compiled"])
    print("plain Python" if simulated.__file__.endswith(".py") else "compiled")
    times = []
    for _ in range(arguments.rounds):
        seconds, retention = own(arguments.preset, arguments.cycles)
        times.append(seconds)
        print(f"{arguments.cycles} cycles: {seconds:.3f} s, retention {100 * retention:.2f} %")
    best = min(times)
    allowed = TARGET * arguments.cycles / 100
    verdict = "reached" if best <= allowed else "missed"
    print(f"best {best:.3f} s; target {allowed:.2f} s: {verdict}")
    if arguments.pybamm:
        seconds = theirs(arguments.cycles)
        ratio = seconds / best
        print(f"PyBaMM: {seconds:.2f} s, {ratio:.1f} times as long; target {RATIO:g} times")
        return int(best > allowed or ratio < RATIO)
    return int(best > allowed)


if __name__ == "__main__":
    sys.exit(main())
