"""The measurement of every target: importing this fills the table in `outcomes`."""

from operando.validation import full_cells, pellets_and_lithium
from operando.validation.outcomes import MEASUREMENTS, Found, NotYet, Path

__all__ = ["MEASUREMENTS", "Found", "NotYet", "Path", "full_cells", "pellets_and_lithium"]
