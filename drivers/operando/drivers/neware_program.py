"""How stages become the steps of a BTS 8 schedule, and its stored rows become readings again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from operando.drivers.neware_steps import (
    Bounds,
    CurrentStep,
    Recording,
    RestStep,
    Step,
    VoltageStep,
    step_file,
)
from operando.drivers.neware_xml import Live, StoredRow
from operando.instruments.on_board import Stage, StoredReading, ends_of
from operando.instruments.roles import Galvanostatic, OpenCircuit, Protection
from operando.instruments.samples import Regulation

MOST_STEPS: Final = 64
"""Steps of a schedule. ASSUMPTION: the documents name no bound; files of 20 steps were captured."""


WORDS: Final[Mapping[str, Regulation]] = {
    "cc": Regulation.CURRENT,
    "dc": Regulation.CURRENT,
    "cv": Regulation.VOLTAGE,
    "dv": Regulation.VOLTAGE,
    "rest": Regulation.OPEN,
    "pause": Regulation.OPEN,
}
"""What a step holds, by its word ("dv" is of the API protocol, the others were captured)."""

DRIVES: Final = (Regulation.CURRENT, Regulation.VOLTAGE)
"""What the two steps of a set-point hold, in order."""


@dataclass(frozen=True, slots=True)
class Native:
    """A step of a schedule with its stage. regulation: what it holds. sign: of its current."""

    step: Step
    stage: int
    regulation: Regulation
    sign: int


def unsayable(stages: Sequence[Stage]) -> str:
    """Why a schedule cannot say these stages exactly, "" if it can."""
    for stage in stages:
        ends, setpoint = ends_of(stage), stage.setpoint
        until = " or ".join(map(str, stage.until))
        if ends is None:
            return f"a step of it cannot end when {until}"
        match setpoint:
            case OpenCircuit():
                possible = ends.elapsed is not None and ends.taper is None
            case Galvanostatic():
                # A time would start afresh when the voltage is held: that is a step of its own.
                possible = (ends.cutoff is None) != (ends.taper is None) and (
                    ends.taper is None or ends.elapsed is None
                )
            case _:
                return "which way a voltage is reached is not known before"
        # In a step file a time or a current of 0 means that there is none.
        if not possible or ends.elapsed == 0.0 or ends.taper == 0.0:
            return f"{setpoint} until {until} is no step of it"
    steps = len(natives(stages, longest=math.inf))
    return f"{steps} steps are more than {MOST_STEPS}" if steps > MOST_STEPS else ""


def natives(stages: Sequence[Stage], *, longest: float) -> tuple[Native, ...]:
    """The steps of a schedule, for stages of which `unsayable` says nothing.

    longest: s after which a step ends that no condition of its own has ended.
    """
    found: list[Native] = []
    for number, stage in enumerate(stages):
        ends = ends_of(stage)
        assert ends is not None
        if not isinstance(stage.setpoint, Galvanostatic):
            rest = RestStep(ends.elapsed or 0.0)
            found.append(Native(rest, number, Regulation.OPEN, 0))
            continue
        current, cutoff = stage.setpoint.current, stage.setpoint.cutoff
        sign = 1 if current > 0.0 else -1
        time = longest if ends.elapsed is None else ends.elapsed
        drive = CurrentStep(current, cutoff, time)
        found.append(Native(drive, number, Regulation.CURRENT, sign))
        if ends.taper is not None:
            hold = VoltageStep(cutoff, sign > 0, abs(current), ends.taper, longest)
            found.append(Native(hold, number, Regulation.VOLTAGE, sign))
    return tuple(found)


def schedule(
    steps: Sequence[Step],
    protection: Protection,
    present: float,
    *,
    margin: float,
    delay: float,
    charge: float,
    every: float,
    date: str,
    remark: str,
) -> str:
    """A step file within the bounds of a run.

    present: V; the first step may lead a cell back into the window from outside. margin: V by
    which the bounds lie outside of the window. delay: s. charge: C, 0: none. every: s between rows.
    """
    low, high = protection.voltage
    first = steps[0]
    direction = first.current if isinstance(first, CurrentStep) else 0.0
    if direction >= 0.0 and present < low:
        low = present
    if direction <= 0.0 and present > high:
        high = present
    # A regulated current overshoots a little; a tenth is far from what harms a cell.
    bounds = Bounds(low - margin, high + margin, 1.1 * protection.current, delay, charge)
    return step_file(steps, bounds, Recording(every), date=date, remark=remark)


@dataclass(slots=True)
class Reel:
    """Rows of a schedule on their way from the instrument's memory.

    test: its number on the server. rows: downloaded and not handed out yet.
    """

    natives: tuple[Native, ...]
    test: int = 0
    rows: list[StoredRow] = field(default_factory=list)
    _last: StoredRow | None = None
    _before: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def stages(self) -> int:
        """How many stages the schedule has."""
        return self.natives[-1].stage + 1

    def at(self, live: Live) -> tuple[Native | None, float]:
        """The step that live data are of, and the time in its stage (s, NaN if not known)."""
        if not 1 <= live.step <= len(self.natives):
            return None, math.nan
        native = self.natives[live.step - 1]
        opens = live.step == 1 or self.natives[live.step - 2].stage != native.stage
        return native, live.step_time if opens else math.nan

    def hand_out(self) -> list[StoredReading]:
        """The rows as readings; each is handed out once."""
        rows, self.rows = self.rows, []
        return list(self._read(rows))

    def _read(self, rows: Iterable[StoredRow]) -> Iterable[StoredReading]:
        for row in rows:
            native, last = self.natives[row.step - 1], self._last
            if last is not None and last.step != row.step:
                same = self.natives[last.step - 1].stage == native.stage
                time, charge, energy = self._before
                self._before = (
                    (time + last.step_time, charge + abs(last.charge), energy + abs(last.energy))
                    if same
                    else (0.0, 0.0, 0.0)
                )
            self._last = row
            time, charge, energy = self._before
            yield StoredReading(
                native.stage,
                time + row.step_time,
                row.voltage,
                row.current,
                # The documents leave the sign open; that of the step is known.
                native.sign * (charge + abs(row.charge)),
                native.sign * (energy + abs(row.energy)),
                native.regulation,
            )
