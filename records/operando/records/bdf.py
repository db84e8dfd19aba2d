"""Exports in the Battery Data Format (BDF): CSV with preferred labels, Parquet with machine names.

The columns are those of the ontology's version 1.3.0, pinned in `TERMS`. Files are derived from a
record and can be made again; the metadata beside them say what they were made from and whether
the data were simulated.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from operando.instruments.errors import BadInputError, RecordError
from operando.instruments.recorder import JSON
from operando.records import schema
from operando.records.charge import cumulative, increments
from operando.records.files import write_atomically
from operando.records.reader import Columns, Record

ONTOLOGY_VERSION: Final = "1.3.0"
IRI: Final = "https://w3id.org/battery-data-alliance/ontology/battery-data-format#"

COULOMBS_PER_AH: Final = 3600.0
JOULES_PER_WH: Final = 3600.0
CELSIUS_ZERO: Final = 273.15
"""0 degC in K, exact by the definition of the degree Celsius (SI Brochure, 9th ed., 2.3.1)."""

TERMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # required
        "test_time_second": "Test Time / s",
        "voltage_volt": "Voltage / V",
        "current_ampere": "Current / A",
        # recommended
        "unix_time_second": "Unix Time / s",
        "cycle_count": "Cycle Count / 1",
        "step_count": "Step Count / 1",
        "ambient_temperature_celsius": "Ambient Temperature / degC",
        # optional
        "record_index": "Record Index / 1",
        "step_id": "Step ID",
        "step_type": "Step Type",
        "step_time_second": "Step Time / s",
        "step_record_index": "Step Record Index / 1",
        "power_watt": "Power / W",
        "charging_capacity_ah": "Charging Capacity / Ah",
        "discharging_capacity_ah": "Discharging Capacity / Ah",
        "net_capacity_ah": "Net Capacity / Ah",
        "cycle_charging_capacity_ah": "Cycle Charging Capacity / Ah",
        "cycle_discharging_capacity_ah": "Cycle Discharging Capacity / Ah",
        "cycle_net_capacity_ah": "Cycle Net Capacity / Ah",
        "step_charging_capacity_ah": "Step Charging Capacity / Ah",
        "step_discharging_capacity_ah": "Step Discharging Capacity / Ah",
        "step_net_capacity_ah": "Step Net Capacity / Ah",
        "charging_energy_wh": "Charging Energy / Wh",
        "discharging_energy_wh": "Discharging Energy / Wh",
        "net_energy_wh": "Net Energy / Wh",
        "cycle_charging_energy_wh": "Cycle Charging Energy / Wh",
        "cycle_discharging_energy_wh": "Cycle Discharging Energy / Wh",
        "cycle_net_energy_wh": "Cycle Net Energy / Wh",
        "step_charging_energy_wh": "Step Charging Energy / Wh",
        "step_discharging_energy_wh": "Step Discharging Energy / Wh",
        "step_net_energy_wh": "Step Net Energy / Wh",
        "surface_pressure_pa": "Surface Pressure / Pa",
        "surface_temperature_celsius": "Surface Temperature / degC",
    }
)
"""Machine name to preferred label, in the order of the columns that are written."""

AUXILIARY: Final[Mapping[str, tuple[str, float]]] = MappingProxyType(
    {
        "pressure": ("surface_pressure_pa", 0.0),
        "temperature": ("surface_temperature_celsius", -CELSIUS_ZERO),
        "chamber_temperature": ("ambient_temperature_celsius", -CELSIUS_ZERO),
    }
)
"""Live quantities to machine name and what is added to the SI value. The stack pressure is
measured at the cell, hence `surface_`, not `applied_`."""

_WITH_UNIT: Final = {
    "capacity": "capacity_coulomb",
    "active_mass": "active_mass_kilogram",
    "area": "area_square_metre",
}
"""Numbers of a manifest's cell, which are in SI units, under names that say so."""

REQUIRED: Final = ("test_time_second", "voltage_volt", "current_ampere")


@dataclass(frozen=True, slots=True)
class Exported:
    """Files that were written. data: the table. metadata: the JSON beside it."""

    data: Path
    metadata: Path


def bdf_columns(
    record: Record, *, max_age: float = 60.0, sources: Mapping[str, str] | None = None
) -> Columns:
    """The record as arrays under BDF machine names and in BDF units.

    max_age: s; pressure and temperatures are the last reading unless it is older.
    sources: instrument by quantity, where several measured the same.
    Capacities and energies are those of `increments`: `charging_` never resets, `cycle_` resets
    when the cycle's number rises, `step_` at each step.
    Raises RecordError if the record has no samples, or a quantity has several sources.
    """
    samples = record.samples()
    if len(samples["time"]) == 0:
        raise RecordError(f"{record.folder}: there are no samples to export.")
    kinds = {step.index: step.kind for step in record.steps()}
    first = np.concatenate(([1], np.diff(samples["step_count"]) != 0)).astype(np.int64)
    columns: Columns = {
        "test_time_second": samples["time"],
        "voltage_volt": samples["voltage"],
        "current_ampere": samples["current"],
        "unix_time_second": samples["unix_time"],
        "cycle_count": samples["cycle"],
        "step_count": samples["step_count"],
        "record_index": np.arange(1, len(first) + 1),
        "step_id": samples["step_id"],
        "step_type": np.array([kinds.get(int(step), "") for step in samples["step_count"]]),
        "step_time_second": samples["step_time"],
        "step_record_index": cumulative(np.ones(len(first)), samples["step_count"]).astype(int),
        "power_watt": samples["voltage"] * samples["current"],
    }
    passed = increments(samples, record.gaps())
    for values, scale, name in (
        (passed.charge, COULOMBS_PER_AH, "capacity_ah"),
        (passed.energy, JOULES_PER_WH, "energy_wh"),
    ):
        # The sign of the current decides, not that of the energy: a cell below 0 V is still
        # being discharged.
        charging = np.where(passed.charge > 0.0, values, 0.0) / scale
        discharging = np.where(passed.charge < 0.0, -values, 0.0) / scale
        for prefix, groups in (
            ("", None),
            ("cycle_", samples["cycle"]),
            ("step_", samples["step_count"]),
        ):
            into, out = cumulative(charging, groups), cumulative(discharging, groups)
            columns[f"{prefix}charging_{name}"] = into
            columns[f"{prefix}discharging_{name}"] = out
            columns[f"{prefix}net_{name}"] = cumulative(values / scale, groups)
    measured = {quantity for _, quantity in record.quantities()}
    for quantity, (name, offset) in AUXILIARY.items():
        if quantity in measured:
            source = (sources or {}).get(quantity)
            columns[name] = record.joined(quantity, max_age, source=source) + offset
    return {name: columns[name] for name in TERMS if name in columns}


def export_csv(
    record: Record,
    folder: Path | str,
    *,
    institution: str,
    number: int | None = None,
    max_age: float = 60.0,
    sources: Mapping[str, str] | None = None,
) -> Exported:
    """Write `Institution__Cell__YYYYMMDD_NNN.bdf.csv` and its metadata.

    folder: made if absent. institution: its code. number: NNN; by default that of an earlier
    export of the same run, else the next free one. Other arguments: see `bdf_columns`.
    Simulated data carry `_SIMULATED` in the file name and `simulated: true` in the metadata; a
    missing value is an empty field. Raises RecordError if there is nothing to export or it cannot
    be written.
    """
    columns = bdf_columns(record, max_age=max_age, sources=sources)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([TERMS[name] for name in columns])
    writer.writerows(zip(*(_fields(values) for values in columns.values()), strict=True))
    stem = _stem(record, Path(folder), institution, number)
    metadata = _metadata(record, columns, institution, max_age, sources)
    return _write(Path(folder), stem, "csv", text.getvalue().encode(), metadata)


def export_parquet(
    record: Record,
    folder: Path | str,
    *,
    institution: str,
    number: int | None = None,
    max_age: float = 60.0,
    sources: Mapping[str, str] | None = None,
) -> Exported:
    """Write `Institution__Cell__YYYYMMDD_NNN.bdf.parquet` and its metadata; see `export_csv`.

    The metadata are in the file's own key-value metadata too, under `bdf`. Raises BadInputError if
    pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise BadInputError(
            "Parquet needs pyarrow, which is not installed: pip install 'operando[parquet]', or "
            "export CSV."
        ) from error
    columns = bdf_columns(record, max_age=max_age, sources=sources)
    stem = _stem(record, Path(folder), institution, number)
    metadata = _metadata(record, columns, institution, max_age, sources)
    arrays = {name: pa.array(values.tolist(), from_pandas=True) for name, values in columns.items()}
    table = pa.table(arrays).replace_schema_metadata({"bdf": schema.encode(metadata)})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return _write(Path(folder), stem, "parquet", buffer.getvalue(), metadata)


def _fields(values: npt.NDArray[Any]) -> list[object]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    return ["" if math.isnan(value) else value for value in values.tolist()]


def _write(
    folder: Path, stem: str, kind: str, content: bytes, metadata: Mapping[str, JSON]
) -> Exported:
    files = Exported(folder / f"{stem}.bdf.{kind}", folder / f"{stem}.bdf.metadata.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(files.data, content)
        write_atomically(files.metadata, schema.encode_manifest(metadata).encode())
    except OSError as error:
        raise RecordError(f"{files.data}: the export could not be written: {error}.") from error
    return files


def _metadata(
    record: Record,
    columns: Columns,
    institution: str,
    max_age: float,
    sources: Mapping[str, str] | None,
) -> dict[str, JSON]:
    joined: dict[str, JSON] = {
        name: {
            "quantity": quantity,
            "source": record.source_of(quantity, (sources or {}).get(quantity)),
            "max_age_second": max_age,
        }
        for quantity, (name, _) in AUXILIARY.items()
        if name in columns
    }
    described: list[JSON] = [
        {"name": name, "label": TERMS[name], "iri": IRI + name} for name in columns
    ]
    gaps: list[JSON] = [
        {
            "start_second": gap.start,
            "end_second": gap.end,
            "reason": gap.reason,
            "charge_bound_ah": gap.charge_bound / COULOMBS_PER_AH,
        }
        for gap in record.gaps()
    ]
    return {
        "format": "Battery Data Format",
        "ontology_version": ONTOLOGY_VERSION,
        "simulated": record.simulated,
        "institution": institution,
        "cell": {_WITH_UNIT.get(name, name): value for name, value in record.cell.items()},
        "state": record.state,
        "sign": "positive current charges the cell",
        "capacities": "counted by the runner at every poll"
        if increments(record.samples()).counted
        else "trapezoid rule between samples of a step, nothing over gaps",
        "gaps": gaps,
        "joined": joined,
        "columns": described,
        "manifest_units": "SI, capacities in coulomb",
        "manifest": dict(record.manifest),
    }


def _stem(record: Record, folder: Path, institution: str, number: int | None) -> str:
    started = record.manifest.get("started")
    try:
        moment = datetime.datetime.fromisoformat(str(started)).astimezone(datetime.UTC)
    except ValueError as error:
        raise RecordError(f"{record.folder}: the manifest says no time of start.") from error
    for what, word in (("institution", institution), ("cell", record.cell_name)):
        if not _word(word):
            raise BadInputError(f"{what} {word!r} has no letter or digit to name a file with")
    begin = f"{_word(institution)}__{_word(record.cell_name)}__{moment:%Y%m%d}_"
    mark = "_SIMULATED" if record.simulated else ""
    candidates = range(1, 1000) if number is None else (number,)
    for candidate in candidates:
        stem = f"{begin}{candidate:03d}{mark}"
        run = _exported_run(folder / f"{stem}.bdf.metadata.json")
        if run is None or run == record.manifest.get("run_id", math.nan) or number is not None:
            return stem
    raise RecordError(f"{folder}: all numbers of {begin}NNN are taken. Choose another folder.")


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def _exported_run(path: Path) -> object:
    """The run that an existing export was made of; None if there is no such export."""
    try:
        content = json.loads(path.read_bytes())
        return content["manifest"].get("run_id", "")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ""
