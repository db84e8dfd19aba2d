"""The compiled cell computes what the source says, to the last bit.

`hatch_build.py` translates the modules of a cell's steps with mypyc; it needs a C compiler.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LIFE = '''
import dataclasses
import json
from operando.simulators.cell import SimulatedCell, cycle, impedance
from operando.simulators.cell import simulated

def life(preset):
    """What terminals and state show over some cycles, as text without rounding."""
    cell = SimulatedCell.from_preset(preset, seed=3)
    seen = []
    for done in cycle(cell, 0.0, lower=2.5, upper=4.3, rate=1.0, cutoff_rate=0.05, cycles=4):
        seen += [done.charged, done.discharged]
    now = cell.time
    cell.set_temperature(now, 323.15)
    cell.set_stack_pressure(now, 2e6)
    cell.source_current(now, 2e-3, 4.4)
    for poll in range(400):
        now += 5.3
        seen += cell.terminal(now)[:2]
    state = cell.state(now)
    seen += [getattr(state, field.name) for field in dataclasses.fields(state)]
    z = impedance(cell, 0.01, now)
    return [value.hex() for value in (*seen, z.real, z.imag)]

print(json.dumps({
    "compiled": not simulated.__file__.endswith(".py"),
    **{preset: life(preset) for preset in ("ncm811-caec", "ncm811-bare")},
}))
'''


def run(*path: str) -> dict[str, object]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-c", LIFE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.sockets
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not (shutil.which("cc") and Path(sysconfig.get_paths()["include"], "Python.h").exists()),
    reason="needs a C compiler and the headers of Python",
)
def test_the_compiled_cell_lives_the_same_life_to_the_last_bit(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "hatch_build.py"), str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=280,
    )
    compiled, plain = run(str(tmp_path)), run(str(ROOT / "simulators"))
    assert compiled.pop("compiled") is True
    assert plain.pop("compiled") is False
    assert compiled == plain
