"""Numbers that the bench file states about a cell and no instrument measures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from operando.instruments.errors import BadInputError
from operando.instruments.units import parse_quantity
from operando.records import Record


def stated(record: Record, name: str, unit: str) -> float:
    """A quantity of the table [cells.NAME.metadata], SI; NaN if it is not there.

    unit: SI unit, as in `units`: stated(record, "thickness", "m"). A bare number is taken as SI.
    Raises BadInputError if it is of another kind, with the place and what to write.
    """
    value = _metadata(record).get(name)
    if value is None:
        return math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return parse_quantity(str(value), unit)
    except BadInputError as error:
        raise BadInputError(
            f"{record.folder}: [cells.{record.cell_name}.metadata] {name}: {error}"
        ) from None


def stated_text(record: Record, name: str) -> str:
    """A text of the same table; "" if it is not there."""
    value = _metadata(record).get(name)
    return "" if value is None else str(value)


def parameter_of(record: Record, name: str) -> object:
    """A parameter of the protocol that the record came from, as it ran; None if it had none."""
    protocol = record.manifest.get("protocol")
    parameters = protocol.get("parameters") if isinstance(protocol, Mapping) else None
    return parameters.get(name) if isinstance(parameters, Mapping) else None


def _metadata(record: Record) -> Mapping[str, object]:
    table = record.cell.get("metadata")
    return table if isinstance(table, Mapping) else {}
