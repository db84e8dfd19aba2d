"""The durable record of a run: its writer, its reader, its exports."""

from operando.records.bdf import Exported, export_csv, export_parquet
from operando.records.charge import Increments, increments
from operando.records.loops import HalfLoop
from operando.records.pyramid import Curve, Pyramid
from operando.records.reader import (
    INTERRUPTIONS,
    Gap,
    JournalEntry,
    LimitEvent,
    Record,
    Spectrum,
    Step,
    find_records,
)
from operando.records.recorder import SqliteRecorder
from operando.records.verification import Verification, canonical_dump, verify
from operando.records.view import Fresh, Latest, RecordView

__all__ = [
    "INTERRUPTIONS",
    "Curve",
    "Exported",
    "Fresh",
    "Gap",
    "HalfLoop",
    "Increments",
    "JournalEntry",
    "Latest",
    "LimitEvent",
    "Pyramid",
    "Record",
    "RecordView",
    "Spectrum",
    "SqliteRecorder",
    "Step",
    "Verification",
    "canonical_dump",
    "export_csv",
    "export_parquet",
    "find_records",
    "increments",
    "verify",
]
