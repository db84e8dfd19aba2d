"""The measurement of every target: importing this fills the table."""

from operando.validation import full_cells, pellets_and_lithium
from operando.validation.outcomes import MEASUREMENTS

__all__ = ["MEASUREMENTS", "full_cells", "pellets_and_lithium"]
