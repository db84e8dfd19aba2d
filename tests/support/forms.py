"""Protocols for tests of the form that starts a run: ours, and one with every kind of parameter."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

from operando.gui.models.fields import Field, fields_of
from operando.instruments.parameters import parameters_schema
from operando.instruments.quantities import (
    CRate,
    Fraction,
    Kelvins,
    Quantity,
    Seconds,
    Voltages,
    Volts,
)
from operando.station.assembly import protocol_function
from operando.station.client import ProtocolInfo


def info(name: str, function: Any) -> ProtocolInfo:
    """What a station says of a protocol."""
    return ProtocolInfo(
        name=name, summary=f"What {name} does.", source="", parameters=parameters_schema(function)
    )


Swing = Annotated[float, Quantity("K", "a temperature difference", "2 K", difference=True)]


class Mode(enum.Enum):
    """A choice."""

    FAST = "fast"
    SLOW = "slow"


def every_kind(
    *,
    pulse: Seconds,
    rate: CRate = 0.1 / 3600.0,
    water: Fraction = 5e-6,
    heat: Kelvins | None = None,
    swing: Swing = 2.0,
    window: Voltages = (2.5, 4.25),
    count: int = 3,
    factor: float = 1.5,
    fast: bool = False,
    name: str = "x",
    order: Literal["up", "down"] = "down",
    mode: Mode = Mode.SLOW,
    rates: tuple[CRate, ...] = ("C/10", "C/2"),  # type: ignore[assignment]
    steps: tuple[int, ...] = (1, 2),
    holds: list[Volts] = ["4.1 V"],  # type: ignore[list-item]  # noqa: B006
) -> None:
    """One of each.

    pulse: how long the pulse lasts,
        in words.
    """


CCCV = info("cccv", protocol_function("cccv").function)
EVERY = info("every", every_kind)


def of(protocol: ProtocolInfo) -> dict[str, Field]:
    """Its fields by name."""
    return {one.name: one for one in fields_of(protocol.parameters)}
