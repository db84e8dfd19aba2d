"""Step files of Neware's BTS 8: what a channel is told to do.

Form and units follow the step files that the public writer `aurora-unicycler` (Empa) makes for
BTS 8.0: V x 10000, mA, ms, mAh x 3600.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Literal

from operando.simulators.devices.neware_xml import XmlRefusal, parse

VOLT, AMPERE, SECOND, COULOMB = 1e-4, 1e-3, 1e-3, 1e-3
"""V, A, s and C in one unit of a step file; mAh x 3600 is mC."""

Kind = Literal["cc", "dc", "cv", "dv", "rest", "scan", "loop", "end"]

KINDS: dict[str, Kind] = {
    "1": "cc",
    "2": "dc",
    "3": "cv",
    "19": "dv",
    "4": "rest",
    "25": "scan",
    "5": "loop",
    "6": "end",
}
"""`Step_Type`: constant current charge and discharge, constant voltage charge and discharge, ..."""

WORDS: dict[Kind, str] = {"cc": "cc", "dc": "dc", "cv": "cv", "dv": "cv", "rest": "rest"}
"""`step_type` in replies. A discharge at constant voltage is assumed to read as a charge does."""

_MAIN: dict[Kind, frozenset[str]] = {
    "cc": frozenset({"Curr", "Rate", "Time", "Stop_Volt"}),
    "dc": frozenset({"Curr", "Rate", "Time", "Stop_Volt"}),
    "cv": frozenset({"Volt", "Time", "Stop_Curr", "Stop_Rate", "Curr", "Rate"}),
    "dv": frozenset({"Volt", "Time", "Stop_Curr", "Stop_Rate", "Curr", "Rate"}),
    "rest": frozenset({"Time"}),
}
_MOST_STEPS = 10_000
_LARGEST = 1e15


class StepFileRefusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A step file that a channel does not start with. The text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. number: 1-based. kind: what it does.

    current: A, a magnitude; of a step at constant voltage its limit, None for what the channel can.
    voltage: V, that is held or where a scan begins. stop_voltage: V, where it ends. stop_current:
    A, a magnitude. seconds: after which it ends; infinite for never. rate: of a scan, V/s.
    target, count: of a loop, where it goes back to and how often it is run in all.
    """

    number: int
    kind: Kind
    current: float | None = None
    voltage: float = 0.0
    stop_voltage: float | None = None
    stop_current: float | None = None
    seconds: float = math.inf
    rate: float = 0.0
    target: int = 0
    count: int = 0

    @property
    def sign(self) -> int:
        """Sign of the current that it is meant to drive; positive charges."""
        return {"cc": 1, "cv": 1, "dc": -1, "dv": -1}.get(self.kind, 0)

    @property
    def word(self) -> str:
        """Its `step_type` in replies; that of a voltage scan is not public."""
        return WORDS.get(self.kind, self.kind)


@dataclass(frozen=True, slots=True)
class Protection:
    """Bounds outside which a test is broken off after `delay` s: V, A, C."""

    lowest_voltage: float = -math.inf
    highest_voltage: float = math.inf
    lowest_current: float = -math.inf
    highest_current: float = math.inf
    highest_charge: float = math.inf
    delay: float = 0.0

    def violated(self, volts: float, amps: float, coulombs: float) -> bool:
        """Whether a reading lies outside."""
        return not (
            self.lowest_voltage <= volts <= self.highest_voltage
            and self.lowest_current <= amps <= self.highest_current
            and coulombs <= self.highest_charge
        )


@dataclass(frozen=True, slots=True)
class Recording:
    """When rows are stored: every so many s, and after a change by so many V or A."""

    seconds: float = math.inf
    volts: float = math.inf
    amps: float = math.inf


@dataclass(frozen=True, slots=True)
class Schedule:
    """A step file as read. steps: in order, the end last."""

    steps: tuple[Step, ...]
    protection: Protection = field(default_factory=Protection)
    recording: Recording = field(default_factory=Recording)

    def step(self, number: int) -> Step:
        """A step by its 1-based number."""
        return self.steps[number - 1]


def parse_step_file(data: bytes) -> Schedule:
    """Read a step file. Raises StepFileRefusal for what no channel could do."""
    try:
        root = parse(data)
    except XmlRefusal as error:
        raise StepFileRefusal(f"not XML: {error}") from None
    config = root.find("config")
    if root.tag != "root" or config is None or config.get("type") != "Step File":
        raise StepFileRefusal('it needs <root><config type="Step File">')
    listed = config.find("Step_Info")
    if listed is None or not 1 <= len(listed) <= _MOST_STEPS:
        raise StepFileRefusal("it needs Step_Info with steps")
    if listed.get("Num") != str(len(listed)):
        raise StepFileRefusal(f"Step_Info says {listed.get('Num')} steps and has {len(listed)}")
    capacity = _value(config, "Head_Info/MultCap", 1.0)
    steps = tuple(_step(item, at, capacity) for at, item in enumerate(listed, start=1))
    _check_order(steps)
    return Schedule(steps, _protection(config), _recording(config))


def _check_order(steps: tuple[Step, ...]) -> None:
    if steps[-1].kind != "end" or any(step.kind == "end" for step in steps[:-1]):
        raise StepFileRefusal("a step of type 6 ends it, and no other may be one")
    for step in steps:
        if step.kind != "loop":
            continue
        inside = steps[step.target - 1 : step.number - 1]
        if not 1 <= step.target < step.number or all(one.kind == "loop" for one in inside):
            raise StepFileRefusal(f"loop {step.number} cannot go back to step {step.target}")


def _protection(config: ET.Element) -> Protection:
    place = "Whole_Prt/Protect/Main/"
    endless = math.inf
    return Protection(
        lowest_voltage=_value(config, place + "Volt/Lower", VOLT, -endless),
        highest_voltage=_value(config, place + "Volt/Upper", VOLT, endless),
        lowest_current=_value(config, place + "Curr/Lower", AMPERE, -endless),
        highest_current=_value(config, place + "Curr/Upper", AMPERE, endless),
        highest_charge=_value(config, place + "Cap/Upper", COULOMB, endless),
        delay=_value(config, place + "Delay_Time", SECOND),
    )


def _recording(config: ET.Element) -> Recording:
    values = [
        _value(config, f"Whole_Prt/Record/Main/{name}", unit)
        for name, unit in (("Time", SECOND), ("Volt", VOLT), ("Curr", AMPERE))
    ]
    return Recording(*(value if value > 0.0 else math.inf for value in values))


def _step(item: ET.Element, at: int, capacity: float) -> Step:
    kind = KINDS.get(item.get("Step_Type", ""))
    if item.tag != f"Step{at}" or item.get("Step_ID") != str(at) or kind is None:
        raise StepFileRefusal(f"step {at} is {item.tag} with {item.attrib}")
    if kind == "end":
        return Step(at, kind)
    if kind == "loop":
        target = _value(item, "Limit/Other/Start_Step", 1.0, -1.0)
        count = _value(item, "Limit/Other/Cycle_Count", 1.0, -1.0)
        if count < 1.0 or count % 1.0 or target % 1.0:
            raise StepFileRefusal(f"loop {at}: {count:g} cycles from step {target:g}")
        return Step(at, kind, target=int(target), count=int(count))
    if kind == "scan":
        return _scan(item, at)
    return _driven(item, at, kind, capacity)


def _driven(item: ET.Element, at: int, kind: Kind, capacity: float) -> Step:
    main = item.find("Limit/Main")
    if main is None:
        raise StepFileRefusal(f"step {at} has no Limit/Main")
    unknown = {child.tag for child in main} - _MAIN[kind]
    if unknown:
        raise StepFileRefusal(f"step {at} of type {kind}: unknown {', '.join(sorted(unknown))}")
    current = _current(main, "Curr", "Rate", capacity)
    seconds = _value(main, "Time", SECOND)
    stop_voltage = _value(main, "Stop_Volt", VOLT, math.nan)
    voltage = _value(main, "Volt", VOLT, math.nan)
    if kind in ("cc", "dc") and not current:
        raise StepFileRefusal(f"step {at} needs a current")
    if kind in ("cv", "dv") and math.isnan(voltage):
        raise StepFileRefusal(f"step {at} needs a voltage")
    if current is not None and current < 0.0:
        raise StepFileRefusal(f"step {at}: a current is written as a magnitude")
    return Step(
        at,
        kind,
        current=current,
        voltage=0.0 if math.isnan(voltage) else voltage,
        stop_voltage=None if math.isnan(stop_voltage) else stop_voltage,
        stop_current=_current(main, "Stop_Curr", "Stop_Rate", capacity),
        seconds=seconds if seconds > 0.0 else math.inf,
    )


def _current(main: ET.Element, name: str, rate_name: str, capacity: float) -> float | None:
    """A current (A), directly or as a rate; capacity: mAs. None where there is neither."""
    direct = _value(main, name, AMPERE, math.nan)
    if not math.isnan(direct):
        return direct
    rate = _value(main, rate_name, 1.0, math.nan)
    if math.isnan(rate):
        return None
    if capacity <= 0.0:
        raise StepFileRefusal(f"{rate_name} needs MultCap")
    return rate * capacity / 3600.0 * AMPERE


def _scan(item: ET.Element, at: int) -> Step:
    slope = item.find("Slope")
    line = None if slope is None else slope.find("Slope1")
    if slope is None or line is None or slope.get("ItemCount") != "1":
        raise StepFileRefusal(f"step {at} needs Slope with one Slope1")
    begin, end, rate = (
        _number(line.get(name), f"step {at} {name}") for name in ("StartValue", "EndValue", "Value")
    )
    if rate == 0.0:
        raise StepFileRefusal(f"step {at}: a scan needs a rate")
    begin, end, rate = begin * VOLT, end * VOLT, abs(rate) * 1e-3
    # A scan is over when its end is reached.
    return Step(
        at, "scan", voltage=begin, stop_voltage=end, seconds=abs(end - begin) / rate, rate=rate
    )


def _value(parent: ET.Element, path: str, unit: float, default: float = 0.0) -> float:
    """The attribute Value of an element below, in SI units; the default where there is none."""
    found = parent.find(path)
    return default if found is None else _number(found.get("Value"), path) * unit


def _number(text: str | None, place: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise StepFileRefusal(f"{place} = {text!r} is no number") from None
    if not abs(value) <= _LARGEST:
        raise StepFileRefusal(f"{place} = {text!r} is out of range")
    return value
