"""Test procedures that lie on a simulated Maccor tester, and how one runs.

A real procedure is a file made with the vendor's editor; here a line of text stands for it:
`NAME = charge C/10 to 4.25 V; hold 4.25 V to C/50; rest 600 s; discharge 1 mA to 2.5 V; repeat 3`.
C is the capacity (Ah) that the start command gives as Crate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from operando.instruments.errors import BadInputError
from operando.simulators.devices.maccor_stage import REST, Output

EXAMPLES = (
    "Rest 1h = rest 3600 s | "
    "Cycle C10 = charge C/10 to 4.25 V; hold 4.25 V to C/50; rest 600 s; "
    "discharge C/10 to 2.5 V; rest 600 s; repeat 3"
)
"""Procedures of a tester that was given none."""

_RATE = r"(?:C/(?P<parts>\d+(?:\.\d+)?)|(?P<times>\d*\.?\d+)C|(?P<amps>\d*\.?\d+) (?P<unit>[um]?A))"
_NUMBER = r"(?P<value>\d*\.?\d+)"
_STEPS = {
    "charge": re.compile(rf"charge {_RATE} to {_NUMBER} V"),
    "discharge": re.compile(rf"discharge {_RATE} to {_NUMBER} V"),
    "hold": re.compile(rf"hold {_NUMBER} V to {_RATE}"),
    "rest": re.compile(rf"rest {_NUMBER} s"),
    "repeat": re.compile(r"repeat (?P<value>\d{1,6})"),
}
_UNITS = {"A": 1.0, "mA": 1e-3, "uA": 1e-6}


@dataclass(frozen=True, slots=True)
class ProcedureStep:
    """One step. kind: a key of the grammar. value: V, s, or a count.

    current: A, or times the start command's capacity in Ah where `of_capacity`.
    """

    kind: str
    value: float
    current: float = 0.0
    of_capacity: bool = False

    def amperes(self, capacity: float) -> float:
        """Current of this step, A. capacity: Ah."""
        return self.current * capacity if self.of_capacity else self.current


Procedure = tuple[ProcedureStep, ...]


def parse_procedures(place: str, text: str) -> dict[str, Procedure]:
    """Procedures by name. Raises BadInputError that quotes the part that is wrong."""
    found: dict[str, Procedure] = {}
    for part in text.split("|"):
        if not part.strip():
            continue
        name, sign, body = part.partition("=")
        name = name.strip()
        if not sign or not name or len(name) > 250:
            raise BadInputError(f"{place} procedures: write 'NAME = step; step', not {part!r}")
        found[name] = tuple(_step(place, step.strip()) for step in body.split(";"))
    return found


def _step(place: str, text: str) -> ProcedureStep:
    for kind, pattern in _STEPS.items():
        match = pattern.fullmatch(text)
        if match is None:
            continue
        part = match.groupdict()
        value = float(part["value"])
        if part.get("parts"):
            if float(part["parts"]) == 0.0:
                break
            return ProcedureStep(kind, value, 1.0 / float(part["parts"]), True)
        if part.get("times"):
            return ProcedureStep(kind, value, float(part["times"]), True)
        if part.get("amps"):
            return ProcedureStep(kind, value, float(part["amps"]) * _UNITS[part["unit"]])
        return ProcedureStep(kind, value)
    raise BadInputError(
        f"{place} procedures: {text!r} is no step; write 'charge C/10 to 4.2 V', "
        "'discharge 1 mA to 2.5 V', 'hold 4.2 V to C/50', 'rest 600 s' or 'repeat 3'"
    )


class ProcedureRun:
    """A procedure on its way. capacity: Ah that is 1C. ranges: full scales of the channel, A."""

    def __init__(self, procedure: Procedure, capacity: float, ranges: tuple[float, ...]) -> None:
        self._steps = procedure
        self._capacity = capacity
        self._ranges = ranges
        self._left: dict[int, int] = {}
        self._last_current = ranges[-1]
        self.at = 0
        self.cycle = 0
        self._jump()

    @property
    def step(self) -> ProcedureStep | None:
        """The step that runs; None at the end."""
        return self._steps[self.at] if self.at < len(self._steps) else None

    def start_at(self, number: int) -> None:
        """Begin at a step, counted from 1."""
        self.at = number - 1
        self._jump()

    def follow(self) -> None:
        """Go on to the next step."""
        self.at += 1
        self._jump()

    def _jump(self) -> None:
        """Follow loops; each begins a cycle."""
        while (step := self.step) is not None and step.kind == "repeat":
            left = self._left.get(self.at, int(step.value)) - 1
            self.cycle += 1
            if left > 0 and self.at > 0:
                self._left[self.at] = left
                self.at = 0
            else:
                self._left.pop(self.at, None)
                self.at += 1

    def output(self) -> Output:
        """Set points of the step that runs."""
        step = self.step
        if step is None or step.kind == "rest":
            return REST
        if step.kind == "hold":
            return Output("C", self._last_current, step.value, range=self._range())
        current = step.amperes(self._capacity)
        self._last_current = current
        mode = "C" if step.kind == "charge" else "D"
        return Output(mode, current, step.value, range=self._range())

    def _range(self) -> int:
        for number, full in enumerate(self._ranges, 1):
            if self._last_current <= full:
                return number
        return len(self._ranges)

    def ended(self, step_time: float, held: bool, current: float) -> int:
        """Reason code (RF2) with which the running step ends; 0: it goes on. s, A."""
        step = self.step
        if step is None:
            return 193
        if step.kind == "rest":
            return 129 if step_time >= step.value - 1e-9 else 0
        if not held:
            return 0
        if step.kind == "hold":
            return 132 if abs(current) <= step.amperes(self._capacity) else 0
        return 133

    def time_left(self, step_time: float) -> float:
        """Until a rest ends, s; infinite in other steps."""
        step = self.step
        if step is not None and step.kind == "rest":
            return max(0.0, step.value - step_time)
        return float("inf")
