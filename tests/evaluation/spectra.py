"""Spectra of known circuits with noise, and records that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from operando.evaluation.circuits import Complexes, Floats
from operando.instruments.clock import run
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import SpectrumRow, Status
from operando.records import Record, SqliteRecorder

NAN = float("nan")


def band(highest: float = 1e6, lowest: float = 1e-2, per_decade: int = 10) -> Floats:
    """Frequencies, Hz, the highest first."""
    steps = round(np.log10(highest / lowest) * per_decade)
    return np.geomspace(highest, lowest, steps + 1)


def arc(frequency: Floats, resistance: float, turning: float, exponent: float) -> Complexes:
    """A resistance (ohm) beside a constant-phase element; turning: frequency of its maximum, Hz."""
    return np.asarray(resistance / (1.0 + (1j * frequency / turning) ** exponent), np.complex128)


def full_cell(frequency: Floats, charge_transfer: float | Floats = 40.0) -> Complexes:
    """16 ohm, arcs of 6 ohm at 100 kHz and of the charge transfer at 5 Hz, and diffusion, ohm."""
    jw = 2j * np.pi * frequency
    diffusing = charge_transfer + 0.6 / np.sqrt(jw)
    slow = 1.0 / ((1j * frequency / 5.0) ** 0.85 / charge_transfer + 1.0 / diffusing)
    z = 16.0 + 1e-7 * jw + arc(frequency, 6.0, 1e5, 0.9) + slow
    return np.asarray(z, np.complex128)


def noisy(impedance: Complexes, seed: int, noise: float = 1e-3) -> Complexes:
    """With noise of both parts, relative to |Z|."""
    random = np.random.default_rng(seed)
    size = len(impedance)
    return impedance * (1.0 + noise * (random.normal(size=size) + 1j * random.normal(size=size)))


@dataclass(frozen=True)
class Swept:
    """One spectrum to be written. rest: what ended the rest before it, None for no rest."""

    frequency: Floats
    impedance: Complexes
    amplitude: float = 0.01
    start_voltage: float = 3.7
    end_voltage: float = 3.7
    label: str = "impedance"
    reason: str = "complete"
    rest: str | None = None
    overloaded: Sequence[int] = field(default_factory=tuple)


def write_spectra(folder: Path, spectra: Sequence[Swept], **cell: JSON) -> Record:
    """A record of spectra, written as a runner would. cell: of the manifest."""
    manifest: dict[str, JSON] = {
        "run_id": "spectra", "started": "2026-01-01T00:00:00+00:00", "simulated": True,
        "cell": {"name": "ideal", "capacity": 10.0, "area": 1e-4, **cell},
    }  # fmt: skip

    async def write() -> None:
        recorder = SqliteRecorder(folder, manifest, inline=True)
        await recorder.journal(Entry.RUN_STARTED, 0.0, {})
        time, step = 0.0, 0

        async def begin(label: str, kind: str, data: dict[str, JSON]) -> None:
            asked: dict[str, JSON] = {
                "index": step, "step_id": step, "cycle": 1, "label": label, "kind": kind,
                "step": data, "hash": f"{step:x}",
            }  # fmt: skip
            await recorder.journal(Entry.STEP_STARTED, time, asked)

        for number, one in enumerate(spectra, start=1):
            if one.rest is not None:
                step += 1
                await begin("rest until steady", "Rest", {})
                time += 3600.0
                ended: dict[str, JSON] = {
                    "index": step, "reason": "condition", "condition": one.rest,
                    "duration": 3600.0, "charge": 0.0, "energy": 0.0,
                }  # fmt: skip
                await recorder.journal(Entry.STEP_ENDED, time, ended)
            step += 1
            await begin(one.label, "Impedance", {"amplitude": one.amplitude})
            for point, (f, z) in enumerate(zip(one.frequency, one.impedance, strict=True), 1):
                time += 3.0 / f
                status = Status.OVERLOAD if point in one.overloaded else Status.OK
                recorder.spectrum(
                    SpectrumRow(
                        number, point, time, step, 1, float(f), float(z.real), float(z.imag),
                        NAN, NAN, status,
                    )
                )  # fmt: skip
            outcome: dict[str, JSON] = {
                "index": step, "reason": one.reason, "condition": None, "duration": 1.0,
                "charge": 0.0, "energy": 0.0,
                "spectrum": {
                    "index": number, "start_voltage": one.start_voltage,
                    "end_voltage": one.end_voltage, "bias": one.start_voltage,
                    "amplitude": one.amplitude,
                },
            }  # fmt: skip
            await recorder.journal(Entry.STEP_ENDED, time, outcome)
        await recorder.journal(Entry.RUN_ENDED, time, {"state": "completed"})
        await recorder.close()

    run(write(), virtual=True)
    return Record.open(folder)
