"""One slow cycle of a simulated cell, from a script.

Take out `simulate` and `clock` to run the same lines on hardware.
"""

from pathlib import Path

from operando import evaluation
from operando.protocols import cccv
from operando.station import open_bench

with open_bench(Path(__file__).with_name("bench.toml"), simulate=True, clock="virtual") as bench:
    record = bench["A1"].run(cccv(charge_rate="C/10", discharge_rate="C/10", cv_cutoff="C/50"))

for cycle in evaluation.cccv(record).cycles:
    print(f"cycle {cycle.cycle}: coulombic efficiency {100 * cycle.coulombic_efficiency:.1f} %")
