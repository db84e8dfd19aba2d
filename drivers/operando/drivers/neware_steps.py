"""Step files: the schedules that Neware's BTS 8 runs by itself.

Document: aurora-unicycler of Empa (_formats/neware.py), which writes files that BTS Client
8.0.0.478 takes. Voltages are written in 0.1 mV, currents in mA, times in ms, charges in mA s.
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from operando.drivers.neware_xml import parse_xml
from operando.instruments.errors import BadInputError

CLIENT: Final = "BTS Client 8.0.0.478(2024.06.24)(R3)"
VERSION: Final = "17"

VOLT: Final = 1e4
MILLI: Final = 1e3

END_STEP: Final = "6"

_NAMESPACE = uuid.UUID("6a1c2f0e-6b8f-5f5e-9a55-0d6f8a3b7c11")


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """Constant current (A, positive charges) until a voltage (V) or for a time (s); 0: no end."""

    current: float
    until_voltage: float | None = None
    longest: float = 0.0

    def __post_init__(self) -> None:
        if self.current == 0.0 or self.until_voltage is None:
            raise BadInputError("a current step needs a current and the voltage where it stops")


@dataclass(frozen=True, slots=True)
class VoltageStep:
    """Constant voltage (V). charging: whether its current is positive.

    current_limit, until_current: A, magnitudes, 0: none. longest: s, 0: no end.
    """

    voltage: float
    charging: bool
    current_limit: float = 0.0
    until_current: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class RestStep:
    """Open circuit for a time (s)."""

    duration: float


@dataclass(frozen=True, slots=True)
class LoopStep:
    """Go back to step number `first` (from 1), until it has been run `times` times."""

    first: int
    times: int


@dataclass(frozen=True, slots=True)
class ScanStep:
    """Sweep the voltage (V) at a rate (V/s, magnitude)."""

    start: float
    end: float
    rate: float


Step: TypeAlias = CurrentStep | VoltageStep | RestStep | LoopStep | ScanStep


@dataclass(frozen=True, slots=True)
class Bounds:
    """At which the instrument stops by itself, whatever the step: V, A (magnitude), s, C.

    delay: for how long a bound must be passed. charge: 0: none.
    """

    lowest: float
    highest: float
    current: float
    delay: float = 0.0
    charge: float = 0.0


@dataclass(frozen=True, slots=True)
class Recording:
    """When a row is stored: every s, and at a change of V or A; 0: not."""

    every: float = 1.0
    voltage: float = 0.0
    current: float = 0.0


def step_file(
    steps: Sequence[Step], bounds: Bounds, recording: Recording, *, date: str, remark: str
) -> str:
    """A step file as text. date: YYYYMMDDhhmmss. remark: shown in BTS."""
    root = ET.Element("root")
    config = ET.SubElement(
        root,
        "config",
        type="Step File",
        version=VERSION,
        client_version=CLIENT,
        date=date,
        Guid="",
    )
    head = ET.SubElement(config, "Head_Info")
    for name, value in (("Operate", "66"), ("Scale", "1")):
        ET.SubElement(head, name, Value=value)
    ET.SubElement(head, "Start_Step", Value="1", Hide_Ctrl_Step="0")
    for name, value in (("Creator", "operando"), ("Remark", remark), ("RateType", "103")):
        ET.SubElement(head, name, Value=value)
    whole = ET.SubElement(config, "Whole_Prt")
    _write_bounds(ET.SubElement(ET.SubElement(whole, "Protect"), "Main"), bounds)
    _write_recording(ET.SubElement(ET.SubElement(whole, "Record"), "Main"), recording)
    info = ET.SubElement(config, "Step_Info", Num=str(len(steps) + 1))
    for number, step in enumerate(steps, 1):
        _write_step(info, number, step)
    _numbered(info, len(steps) + 1, END_STEP)
    ET.SubElement(ET.SubElement(config, "SMBUS"), "SMBUS_Info", Num="0", AdjacentInterval="0")
    # The same schedule written at the same moment is the same file, to the byte.
    config.set("Guid", str(uuid.uuid5(_NAMESPACE, ET.tostring(root, encoding="unicode"))))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _leaf(parent: ET.Element, name: str, value: float) -> None:
    ET.SubElement(parent, name, Value=f"{value:.6f}")


def _leaves(parent: ET.Element, **values: float) -> None:
    """Those that are not 0."""
    for name, value in values.items():
        if value:
            _leaf(parent, name, value)


def _write_bounds(main: ET.Element, bounds: Bounds) -> None:
    volt = ET.SubElement(main, "Volt")
    _leaf(volt, "Upper", bounds.highest * VOLT)
    _leaf(volt, "Lower", bounds.lowest * VOLT)
    current = ET.SubElement(main, "Curr")
    _leaf(current, "Upper", bounds.current * MILLI)
    _leaf(current, "Lower", -bounds.current * MILLI)
    _leaves(main, Delay_Time=bounds.delay * MILLI)
    _leaves(ET.SubElement(main, "Cap"), Upper=bounds.charge * MILLI)


def _write_recording(main: ET.Element, recording: Recording) -> None:
    _leaves(
        main,
        Time=recording.every * MILLI,
        Volt=recording.voltage * VOLT,
        Curr=recording.current * MILLI,
    )


def _numbered(info: ET.Element, number: int, kind: str) -> ET.Element:
    return ET.SubElement(info, f"Step{number}", Step_ID=str(number), Step_Type=kind)


def _write_step(info: ET.Element, number: int, step: Step) -> None:
    match step:
        case CurrentStep(current=current, until_voltage=voltage, longest=longest):
            main = _limit(_numbered(info, number, "1" if current > 0.0 else "2"))
            _leaf(main, "Curr", abs(current) * MILLI)
            _leaves(main, Time=longest * MILLI)
            _leaf(main, "Stop_Volt", (voltage or 0.0) * VOLT)
        case VoltageStep():
            main = _limit(_numbered(info, number, "3" if step.charging else "19"))
            _leaf(main, "Volt", step.voltage * VOLT)
            _leaves(
                main,
                Time=step.longest * MILLI,
                Stop_Curr=step.until_current * MILLI,
                Curr=step.current_limit * MILLI,
            )
        case RestStep(duration=duration):
            _leaf(_limit(_numbered(info, number, "4")), "Time", duration * MILLI)
        case LoopStep(first=first, times=times):
            if not 1 <= first < number or times < 1:
                raise BadInputError(f"step {number} cannot go back to step {first} {times} times")
            other = _limit(_numbered(info, number, "5"), "Other")
            ET.SubElement(other, "Start_Step", Value=str(first))
            ET.SubElement(other, "Cycle_Count", Value=str(times))
        case ScanStep(start=start, end=end, rate=rate):
            slope = ET.SubElement(
                _numbered(info, number, "25"),
                "Slope",
                SlopeType="1",
                Cycle_Count="1",
                ItemCount="1",
            )
            ET.SubElement(
                slope,
                "Slope1",
                StartValue=f"{start * VOLT:.6f}",
                EndValue=f"{end * VOLT:.6f}",
                Value=f"{rate * MILLI:.6f}",
            )


def _limit(step: ET.Element, name: str = "Main") -> ET.Element:
    return ET.SubElement(ET.SubElement(step, "Limit"), name)


def bounds_of(schedule: str) -> Bounds:
    """What a step file says about when the instrument stops by itself.

    Raises BadInputError for a file that is none, and for one without bounds of voltage and
    current: nobody else watches a cell when the computer dies.
    """
    try:
        root = parse_xml(schedule)
    except ValueError as error:
        raise BadInputError(f"the step file {error}") from None
    info = root.find("config/Step_Info")
    steps = [] if info is None else list(info)
    if root.tag != "root" or info is None or info.get("Num") != str(len(steps)):
        raise BadInputError(
            "this is no step file of BTS 8: expected root/config/Step_Info whose Num counts its "
            "steps; save it again in the BTS step editor"
        )
    for number, step in enumerate(steps, 1):
        if step.tag != f"Step{number}":
            raise BadInputError(f"the step file has <{step.tag}>, expected <Step{number}>")
    if not steps or steps[-1].get("Step_Type") != END_STEP:
        raise BadInputError("the last step of the file must be the end (Step_Type 6)")
    main = "config/Whole_Prt/Protect/Main/"
    upper, lower, current = (
        _value(root, main + path) for path in ("Volt/Upper", "Volt/Lower", "Curr/Upper")
    )
    below = _value(root, main + "Curr/Lower")
    return Bounds(lower / VOLT, upper / VOLT, max(abs(current), abs(below)) / MILLI)


def _value(root: ET.Element, path: str) -> float:
    item = root.find(path)
    try:
        return float("" if item is None else item.get("Value", ""))
    except ValueError:
        raise BadInputError(
            f"the step file has no {path.removeprefix('config/Whole_Prt/')}: without it nothing "
            "stops the cell when the computer dies. Set the protection of the whole test in BTS."
        ) from None
