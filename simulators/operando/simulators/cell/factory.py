"""One way from the name of a preset to a cell of whatever kind it is."""

from __future__ import annotations

from functools import cache

from operando.simulators.cell import parameters
from operando.simulators.cell.lithium import LithiumCell, LithiumParameters
from operando.simulators.cell.parameters import (
    INSERTION,
    load_preset,
    preset_kind,
    presets,
    read_preset,
)
from operando.simulators.cell.pellet import PelletCell, PelletParameters
from operando.simulators.cell.simulated import SimulatedCell

AnyCell = SimulatedCell | LithiumCell | PelletCell

KINDS = (INSERTION, "lithium", "pellet")
"""Kinds of preset: `kind = "..."` at the top of the file."""


def cell_from_preset(name: str, *, seed: int | None = 0, start: float = 0.0) -> AnyCell:
    """Make a cell of whatever kind a preset describes.

    seed: which cell of the batch; 0 or None is the nominal one. start: laboratory time of
    assembly, s. Raises KeyError, with the names there are, for an unknown preset, and ValueError,
    naming file, entry and what to write, for one with a missing, unit-less or unphysical number.
    """
    kind = preset_kind(name)
    if kind == INSERTION:
        return SimulatedCell(load_preset(name).parameters, seed=seed, start=start)
    if kind == "lithium":
        return LithiumCell(load_lithium(name), seed=seed, start=start)
    if kind == "pellet":
        return PelletCell(load_pellet(name), seed=seed, start=start)
    path = parameters.PRESET_FOLDER / f"{name}.toml"
    raise ValueError(f"{path}: kind = {kind!r}; write one of {', '.join(map(repr, KINDS))}")


@cache
def load_lithium(name: str) -> LithiumParameters:
    """Return the parameters of a preset of kind "lithium"; errors as `cell_from_preset`."""
    return _load(name, "lithium", LithiumParameters)


@cache
def load_pellet(name: str) -> PelletParameters:
    """Return the parameters of a preset of kind "pellet"; errors as `cell_from_preset`."""
    return _load(name, "pellet", PelletParameters)


def _load(name: str, kind: str, wanted: type[parameters.Parameters]) -> parameters.Parameters:
    found = preset_kind(name)
    if found != kind:
        raise KeyError(
            f"preset {name!r} is of kind {found!r}, not {kind!r}; there are: "
            + ", ".join(presets(kind))
        )
    return read_preset(parameters.PRESET_FOLDER / f"{name}.toml", wanted)[0]
