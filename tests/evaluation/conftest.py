"""Records of an ideal cell whose capacity, efficiency and breathing are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from operando.instruments.clock import VIRTUAL_EPOCH, run
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Origin, Regulation, Sample, Status
from operando.records import Record, SqliteRecorder

NAN = float("nan")


@dataclass(frozen=True)
class IdealCell:
    """Charged at `current` (A) for `constant` s, then held for `held` s with time constant `tau`.

    Voltage rises linearly from 3.0 V to 4.2 V while the current is constant and, displaced by
    `drop` (V) downwards, falls from 4.2 V to 3.0 V on discharge. Pressure is `base` + `breathing`
    times the charge stored (Pa, Pa/C). Each discharge returns `efficiency` of the charge;
    capacity falls by `fade` a cycle.
    """

    name: str = "ideal"
    current: float = 1e-3
    constant: float = 3600.0
    held: float = 1200.0
    tau: float = 600.0
    drop: float = 0.1
    base: float = 5e6
    breathing: float = 1e5
    efficiency: float = 0.98
    fade: float = 0.0
    interval: float = 10.0
    cycles: int = 2

    def held_charge(self, time: float) -> float:
        return self.current * self.tau * (1.0 - math.exp(-time / self.tau))

    @property
    def charge_capacity(self) -> float:
        """Of the first cycle, C."""
        return self.current * self.constant + self.held_charge(self.held)


class Writer:
    """Writes an ideal cell's run as a runner would."""

    def __init__(self, recorder: SqliteRecorder, cell: IdealCell, counted: bool) -> None:
        self.recorder, self.cell, self.counted = recorder, cell, counted
        self.time = 0.0
        self.charge = 0.0
        self.energy = 0.0
        self.step = 0

    async def run_step(
        self,
        cycle: int,
        label: str,
        kind: str,
        duration: float,
        course: Callable[[float], tuple[float, float, float, Regulation]],
        *,
        end: bool = True,
    ) -> None:
        """course: voltage, current, charge since the start of the step, regulation at a time."""
        self.step += 1
        data: dict[str, JSON] = {
            "index": self.step, "step_id": 1 + (self.step - 1) % 3, "cycle": cycle,
            "label": label, "kind": kind, "step": {}, "hash": f"{self.step:x}",
        }  # fmt: skip
        await self.recorder.journal(Entry.STEP_STARTED, self.time, data)
        started, before = self.time, self.charge
        count = round(duration / self.cell.interval)
        passed = last_passed = 0.0
        last_voltage = course(0.0)[0]
        for n in range(count + 1):
            elapsed = n * duration / count
            voltage, current, passed, regulation = course(elapsed)
            self.energy += 0.5 * (voltage + last_voltage) * (passed - last_passed)
            last_voltage, last_passed = voltage, passed
            charge = before + passed if self.counted else NAN
            energy = self.energy if self.counted else NAN
            at = started + elapsed
            self.recorder.sample(
                Sample(
                    at, VIRTUAL_EPOCH + at, 0.005, voltage, current, charge, passed, energy,
                    elapsed, self.step, 1 + (self.step - 1) % 3, cycle, regulation, Status.OK,
                    Origin.POLL,
                )
            )  # fmt: skip
            pressure = self.cell.base + self.cell.breathing * (before + passed)
            self.recorder.aux(AuxReading("lc1", "pressure", at, 0.01, pressure, Status.OK))
        self.time, self.charge = started + duration, before + passed
        if end:
            outcome: dict[str, JSON] = {
                "index": self.step, "reason": "condition", "condition": None,
                "duration": duration, "charge": passed, "energy": NAN,
            }  # fmt: skip
            await self.recorder.journal(Entry.STEP_ENDED, self.time, outcome)

    async def cycle(self, number: int, *, finish: bool = True) -> None:
        cell = self.cell
        scale = (1.0 - cell.fade) ** (number - 1)
        constant = cell.constant * scale

        def charge(t: float) -> tuple[float, float, float, Regulation]:
            if t < constant:
                return 3.0 + 1.2 * t / constant, cell.current, cell.current * t, Regulation.CURRENT
            held = t - constant
            current = cell.current * math.exp(-held / cell.tau)
            passed = cell.current * constant + cell.held_charge(held)
            return 4.2, current, passed, Regulation.VOLTAGE

        stored = cell.current * constant + cell.held_charge(cell.held)
        seconds = cell.efficiency * stored / cell.current

        def discharge(t: float) -> tuple[float, float, float, Regulation]:
            voltage = 4.2 - cell.drop - 1.2 * t / seconds
            return voltage, -cell.current, -cell.current * t, Regulation.CURRENT

        def rest(t: float) -> tuple[float, float, float, Regulation]:
            return 4.15, 0.0, 0.0, Regulation.OPEN

        kind = "ConstantCurrentConstantVoltage"
        await self.run_step(number, "charge", kind, constant + cell.held, charge)
        await self.run_step(number, "rest", "Rest", 600.0, rest)
        await self.run_step(number, "discharge", "ConstantCurrent", seconds, discharge, end=finish)


class MakeRecord:
    """Makes records below a folder. cell: the kind of cell to make them of."""

    cell = IdealCell

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        cell: IdealCell | None = None,
        *,
        counted: bool = True,
        finish: bool = True,
        gap: tuple[float, float] | None = None,
        mass: float = 1e-5,
        simulated: bool = True,
        state: str | None = "completed",
        extra: Sequence[tuple[Entry, float, dict[str, JSON]]] = (),
    ) -> Record:
        """counted: the runner's counters are filled. finish: the last discharge has an outcome.

        gap: from and to, s. mass: kg. state: how the run ended, None if nobody said. extra: further
        entries of the journal.
        """
        cell = cell or IdealCell()
        folder = self._folder / cell.name
        manifest: dict[str, JSON] = {
            "run_id": cell.name, "started": "2026-01-01T00:00:00+00:00", "simulated": simulated,
            "cell": {"name": cell.name, "capacity": 4.0, "active_mass": mass, "area": 7.854e-5},
        }  # fmt: skip

        async def write() -> None:
            recorder = SqliteRecorder(folder, manifest, inline=True)
            await recorder.journal(Entry.RUN_STARTED, 0.0, {})
            writer = Writer(recorder, cell, counted)
            for number in range(1, cell.cycles + 1):
                await writer.cycle(number, finish=finish or number < cell.cycles)
            if gap:
                entry: dict[str, JSON] = {
                    "start": gap[0], "end": gap[1], "reason": "suspended", "charge_bound": 0.1,
                }  # fmt: skip
                await recorder.journal(Entry.GAP, writer.time, entry)
            for more in extra:
                await recorder.journal(*more)
            if state is not None:
                await recorder.journal(Entry.RUN_ENDED, writer.time, {"state": state})
            await recorder.close()

        run(write(), virtual=True)
        return Record.open(folder)


@pytest.fixture
def make_record(tmp_path: Path) -> MakeRecord:
    return MakeRecord(tmp_path)


@pytest.fixture(scope="session")
def fonts() -> None:
    """Matplotlib keeps the files of the fonts it has used open: they are no test's own."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.text(0.0, 0.0, "plain")
    figure.text(0.0, 0.0, "bold", fontweight="bold")
    figure.draw_without_rendering()
