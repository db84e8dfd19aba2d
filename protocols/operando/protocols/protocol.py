"""Protocols: Python generators of steps with typed parameters.

A function decorated with `protocol` is called with its parameters and gives a `Plan`; the plan
asks the function for steps once a cell is known. The function's first argument is the cell, the
others are keyword parameters with defaults; strings with units are floats inside.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import Condition
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import Where, descriptions, parameters_from
from operando.protocols.advancing import flat, grouped
from operando.protocols.steps import Block, Step


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    index: running number of the step, from 1. reason: "condition", "cut-off", "operator", or
    "complete" for a spectrum. condition: the condition that ended it. duration: s, pauses excluded.
    charge: net, C. energy: net, J. voltage, current: last reading, V and A. time: s since the run
    began.
    """

    index: int
    reason: str
    condition: Condition | None
    duration: float
    charge: float
    energy: float
    voltage: float
    current: float
    time: float = 0.0

    def ended_by(self, condition: Condition) -> bool:
        """Whether this condition ended the step."""
        return self.condition == condition


Steps = Generator[Step | Block, Outcome, None]
"""What a protocol function returns."""

Groups = Generator[tuple[Step, ...], Outcome, None]
"""The same in groups: a block, once for each of its repeats, or a step alone."""

Program = Generator[Step, Outcome, None]
"""The same with its blocks unrolled."""


@dataclass(frozen=True)
class Cell:
    """The cell under test, as a protocol sees it. capacity: C that 1C refers to.

    seed: of `random`, the run's own random numbers: a run that is resumed gets the same ones again.
    """

    entry: CellEntry
    seed: int = 0
    random: Random = field(default_factory=Random, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name on the bench."""
        return self.entry.name

    @property
    def capacity(self) -> float:
        """Charge that 1C passes in an hour, C (ampere seconds). Raises BadInputError if unknown."""
        if self.entry.capacity <= 0.0:
            raise BadInputError(
                f"{self.entry.where or 'the cell'}: a C-rate needs the capacity of cell "
                f'\'{self.name}\'; write capacity = "3.14 mAh", or active_mass = "16.96 mg" and '
                f'one_c = "185 mA/g"'
            )
        return self.entry.capacity

    @property
    def area(self) -> float:
        """Electrode area, m2; 0.0 when unknown."""
        return self.entry.area


@dataclass(frozen=True)
class Plan:
    """A protocol with its parameters, ready for a cell."""

    protocol: ProtocolFunction
    parameters: Mapping[str, Any]

    def groups(self, cell: Cell) -> Groups:
        """The generator of groups of steps for this cell; each may run on board whole."""
        own = replace(cell, random=Random(cell.seed))
        return grouped(self.protocol, own, self.parameters)

    def steps(self, cell: Cell) -> Program:
        """The generator of steps for this cell, blocks unrolled."""
        return flat(self.groups(cell))

    def window(self) -> tuple[float, float]:
        """Lowest and highest voltage that the protocol itself goes to, V."""
        window = self.parameters.get("window")
        if not (isinstance(window, tuple) and len(window) == 2):
            raise BadInputError(
                f"protocol {self.protocol.name} has no parameter 'window'; every protocol that "
                "drives a cell needs its lowest and highest voltage there"
            )
        return float(window[0]), float(window[1])


@dataclass(frozen=True)
class Script:
    """The file that a protocol was loaded from. path: absolute. text: as it was then."""

    path: Path
    text: str

    @property
    def hash(self) -> str:
        """SHA-256 of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class ProtocolFunction:
    """A protocol: call it with its parameters to get a plan.

    name: of the function. source: where the procedure comes from. summary: first line of the
    docstring. script: the file it is in, where a recipe names one.
    """

    function: Callable[..., Steps]
    name: str
    source: str
    summary: str
    parameter_docs: Mapping[str, str] = field(default_factory=dict)
    script: Script | None = None

    def __call__(self, **parameters: Any) -> Plan:
        """Check the parameters and give a plan. Raises BadInputError."""
        return self.plan(parameters, where=f"{self.name}(...)")

    def plan(self, table: Mapping[str, object], *, where: Where) -> Plan:
        """The same from a table. where: its place for messages, see `parameters_from`."""
        return Plan(self, parameters_from(self.function, table, where))

    def steps(self, cell: Cell, **parameters: Any) -> Steps:
        """Its steps, inside another protocol: `yield from cccv.steps(cell, cycles=2)`.

        Parameters as in a recipe, with its defaults. Raises BadInputError.
        """
        plan = self.plan(parameters, where=f"{self.name}.steps(...)")
        return self.function(cell, **plan.parameters)

    def parameter_table(self) -> list[dict[str, str]]:
        """Name, default and meaning of each parameter, as text."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return [
            {
                "name": parameter.name,
                "default": _text(parameter.default),
                "meaning": self.parameter_docs.get(parameter.name, ""),
            }
            for parameter in parameters
        ]

    @property
    def source_hash(self) -> str:
        """SHA-256 of the source text of the file that defines the protocol.

        Where there is no such text, as under `python -c`, a sentence that says so.
        """
        if self.script is not None:
            return self.script.hash
        module = inspect.getmodule(self.function)
        try:
            text = inspect.getsource(module) if module is not None else ""
        except (OSError, TypeError):
            text = ""
        if not text:
            file = inspect.unwrap(self.function).__code__.co_filename
            return f"not known: the protocol was defined in {file}, whose text nobody kept"
        return hashlib.sha256(text.encode()).hexdigest()


def _text(default: object) -> str:
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def protocol(*, source: str) -> Callable[[Callable[..., Steps]], ProtocolFunction]:
    """Make a generator function a protocol. source: the document it reproduces."""

    def decorate(function: Callable[..., Steps]) -> ProtocolFunction:
        doc = inspect.getdoc(function) or ""
        return ProtocolFunction(
            function=function,
            name=function.__name__,
            source=source,
            summary=doc.partition("\n")[0],
            parameter_docs=descriptions(doc, inspect.signature(function).parameters),
        )

    return decorate
