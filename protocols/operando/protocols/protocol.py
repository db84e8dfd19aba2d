"""Protocols: Python generators of steps with typed parameters.

A function decorated with `protocol` is called with its parameters and gives a `Plan`; the plan
asks the function for steps once a cell is known. The function's first argument is the cell, the
others are keyword parameters with defaults; strings with units are floats inside.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import GeneratorType
from typing import Any, cast

from operando.instruments.bench import CellEntry
from operando.instruments.conditions import Condition
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import Where, descriptions, parameters_from
from operando.protocols.steps import Block, Step, problem_with, shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    index: running number of the step, from 1. reason: "condition", "cut-off" or "operator".
    condition: the condition that ended it. duration: s, pauses excluded. charge: net, C.
    energy: net, J. voltage, current: last reading, V and A.
    """

    index: int
    reason: str
    condition: Condition | None
    duration: float
    charge: float
    energy: float
    voltage: float
    current: float

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
    """The cell under test, as a protocol sees it. capacity: C that 1C refers to."""

    entry: CellEntry

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
        return _grouped(self.protocol, self.protocol.function(cell, **self.parameters))

    def steps(self, cell: Cell) -> Program:
        """The generator of steps for this cell, blocks unrolled."""
        return _flat(self.groups(cell))

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
class ProtocolFunction:
    """A protocol: call it with its parameters to get a plan.

    name: of the function. source: where the procedure comes from. summary: first line of the
    docstring. source_hash: SHA-256 of the module's text, for the record.
    """

    function: Callable[..., Steps]
    name: str
    source: str
    summary: str
    parameter_docs: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, **parameters: Any) -> Plan:
        """Check the parameters and give a plan. Raises BadInputError."""
        return self.plan(parameters, where=f"{self.name}(...)")

    def plan(self, table: Mapping[str, object], *, where: Where) -> Plan:
        """The same from a table. where: its place for messages, see `parameters_from`."""
        return Plan(self, parameters_from(self.function, table, where))

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
        """SHA-256 of the source text of the module that defines the protocol."""
        module = inspect.getmodule(self.function)
        text = inspect.getsource(module) if module is not None else ""
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


def _grouped(maker: ProtocolFunction, steps: Steps) -> Groups:
    """Groups of steps, passing outcomes back; a block's own outcome is that of its last step.

    Raises BadInputError when the protocol's function gives anything but steps.
    """
    if not isinstance(steps, Generator):
        code = inspect.unwrap(maker.function).__code__
        place = f"{Path(code.co_filename).name} line {code.co_firstlineno}"
        raise BadInputError(
            f"protocol {maker.name}, {place}: its function returns {shown(steps)}; write it as "
            "a generator, which yields its steps: 'yield Rest(...)'"
        )
    try:
        item = next(steps)
        while True:
            problem = _problem_with(item)
            if problem:
                raise BadInputError(f"protocol {maker.name}, {_place(steps)}: {problem}")
            if isinstance(item, Block):
                for _ in range(item.repeat):
                    outcome = yield tuple(item.steps)
            else:
                outcome = yield (item,)
            item = steps.send(outcome)
    except StopIteration:
        return


def _flat(groups: Groups) -> Program:
    """The steps of groups, one by one."""
    try:
        group = next(groups)
        while True:
            for step in group:
                outcome = yield step
            group = groups.send(outcome)
    except StopIteration:
        return
    finally:
        groups.close()


def _problem_with(item: Step | Block) -> str:
    if not isinstance(item, Block):
        return problem_with(item)
    if not item.steps or item.repeat < 1:
        return "a block needs at least one step and one repeat"
    return next(filter(None, map(problem_with, item.steps)), "")


def _place(steps: Steps) -> str:
    """File and line of the yield at which a generator waits, in whatever function that is."""
    place, waiting = "somewhere", cast(object, steps)
    while isinstance(waiting, GeneratorType) and waiting.gi_frame is not None:
        place = f"{Path(waiting.gi_code.co_filename).name} line {waiting.gi_frame.f_lineno}"
        waiting = waiting.gi_yieldfrom
    return place
