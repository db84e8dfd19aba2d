"""Exports in the Battery Data Format."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from operando.instruments.clock import run
from operando.instruments.errors import BadInputError, RecordError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Sample, Status
from operando.records import Record, SqliteRecorder, export_csv, export_parquet, increments
from operando.records.bdf import REQUIRED, TERMS, bdf_columns
from operando.records.charge import cumulative

MakeSample = Callable[..., Sample]
Manifest = dict[str, JSON]
MakeRecord = Callable[..., Record]


@pytest.fixture
def make_record(tmp_path: Path, manifest: Manifest, make_sample: MakeSample) -> MakeRecord:
    """Two cycles of a charge and a discharge, 10 s and 1 A each, a row a second.

    counted: whether the runner's counters are filled. gap: seconds not observed.
    """

    def make(
        name: str = "r",
        *,
        counted: bool = True,
        gap: tuple[float, float] | None = None,
        voltage: float = 4.0,
        **extra: JSON,
    ) -> Record:
        async def write() -> None:
            recorder = SqliteRecorder(tmp_path / name, {**manifest, **extra}, inline=True)
            charge = energy = 0.0
            for step in range(1, 5):
                sign = 1.0 if step % 2 else -1.0
                kind = "ConstantCurrent"
                started: Manifest = {"index": step, "step_id": 2 - step % 2, "kind": kind}
                await recorder.journal(Entry.STEP_STARTED, 10.0 * step - 10.0, started)
                for n in range(11):
                    time = 10.0 * (step - 1) + n
                    passed = charge + sign * n
                    if gap and gap[0] < time < gap[1]:
                        continue
                    recorder.sample(
                        make_sample(
                            time,
                            voltage=voltage,
                            current=sign,
                            charge=passed if counted else math.nan,
                            energy=energy + sign * n * voltage if counted else math.nan,
                            step_time=float(n),
                            step_count=step,
                            step_id=2 - step % 2,
                            cycle=1 + step // 3,
                        )
                    )
                charge, energy = charge + 10.0 * sign, energy + 10.0 * sign * voltage
            reading = AuxReading("lc1", "pressure", 2.0, 0.01, 5e6, Status.OK)
            recorder.aux(reading)
            recorder.aux(reading._replace(source="t1", quantity="temperature", value=298.15))
            if gap:
                content: Manifest = {
                    "start": gap[0], "end": gap[1], "reason": "suspended", "charge_bound": 3.6,
                }  # fmt: skip
                await recorder.journal(Entry.GAP, 40.0, content)
            await recorder.close()

        run(write(), virtual=True)
        return Record.open(tmp_path / name)

    return make


def read_csv(path: Path) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return dict(zip(rows[0], (list(column) for column in zip(*rows[1:], strict=True)), strict=True))


def test_the_csv_has_the_preferred_labels_and_reads_back_exactly(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    record = make_record(voltage=10.0 / 3.0)
    files = export_csv(record, tmp_path / "out", institution="ISEA")
    table = read_csv(files.data)
    assert list(table)[:3] == ["Test Time / s", "Voltage / V", "Current / A"]
    assert set(table) <= set(TERMS.values())
    assert "Surface Pressure / Pa" in table
    samples = record.samples()
    assert [float(x) for x in table["Voltage / V"]] == samples["voltage"].tolist()
    assert [float(x) for x in table["Test Time / s"]] == samples["time"].tolist()
    assert [float(x) for x in table["Unix Time / s"]] == samples["unix_time"].tolist()
    assert [int(x) for x in table["Step Count / 1"]] == samples["step_count"].tolist()
    assert table["Step ID"][0] == "1"
    assert table["Step Type"] == ["ConstantCurrent"] * 44
    assert table["Step Record Index / 1"][:12] == [*(str(n) for n in range(1, 12)), "1"]
    assert table["Surface Pressure / Pa"][:3] == ["", "", "5000000.0"]
    assert float(table["Surface Temperature / degC"][2]) == pytest.approx(25.0)


@pytest.mark.parametrize("counted", [True, False])
def test_capacities_reset_as_their_names_say(make_record: MakeRecord, counted: bool) -> None:
    columns = bdf_columns(make_record(counted=counted))
    ends = [10, 21, 32, 43]  # last rows of the four steps

    def at_the_ends(name: str) -> list[float]:
        return [round(float(value) * 3600.0, 9) for value in columns[name][ends]]

    assert at_the_ends("charging_capacity_ah") == [10, 10, 20, 20]
    assert at_the_ends("discharging_capacity_ah") == [0, 10, 10, 20]
    assert at_the_ends("net_capacity_ah") == [10, 0, 10, 0]
    assert at_the_ends("cycle_charging_capacity_ah") == [10, 10, 10, 10]
    assert at_the_ends("cycle_discharging_capacity_ah") == [0, 10, 0, 10]
    assert at_the_ends("step_charging_capacity_ah") == [10, 0, 10, 0]
    assert at_the_ends("step_discharging_capacity_ah") == [0, 10, 0, 10]
    assert at_the_ends("step_net_capacity_ah") == [10, -10, 10, -10]
    assert at_the_ends("charging_energy_wh") == [40, 40, 80, 80]
    assert at_the_ends("cycle_discharging_energy_wh") == [0, 40, 0, 40]
    assert at_the_ends("step_net_energy_wh") == [40, -40, 40, -40]
    assert columns["step_charging_capacity_ah"][22] == 0.0


def test_no_charge_is_integrated_over_a_gap(tmp_path: Path, make_record: MakeRecord) -> None:
    record = make_record(counted=False, gap=(2.5, 6.5))
    columns = bdf_columns(record)
    # Rows at 2 s and 7 s are neighbours; of 10 C the 5 C between them were not seen.
    assert columns["charging_capacity_ah"][columns["step_count"] == 1][-1] * 3600 == (
        pytest.approx(5.0)
    )
    metadata = json.loads(export_csv(record, tmp_path, institution="X").metadata.read_bytes())
    assert metadata["gaps"] == [
        {"start_second": 2.5, "end_second": 6.5, "reason": "suspended", "charge_bound_ah": 1e-3}
    ]
    assert metadata["capacities"].startswith("trapezoid rule")


def test_the_runners_count_is_preferred_to_the_recorded_rows(make_record: MakeRecord) -> None:
    samples = make_record().samples()
    thinned = {name: values[::5] for name, values in samples.items()}
    thinned["current"] = np.zeros(len(thinned["time"]))
    counted = increments(thinned)
    assert counted.counted
    np.testing.assert_allclose(np.cumsum(counted.charge), thinned["charge"])
    thinned["charge"][1] = math.nan
    np.testing.assert_allclose(np.cumsum(increments(thinned).charge)[2:], thinned["charge"][2:])


def test_a_running_sum_starts_again_with_each_group() -> None:
    sums = cumulative(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 2, 1]))
    assert sums.tolist() == [1.0, 3.0, 3.0, 4.0]
    assert cumulative(np.array([]), np.array([])).tolist() == []


def test_simulated_data_say_so_in_name_and_metadata(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    simulated = export_csv(make_record("s"), tmp_path / "out", institution="RWTH/ISEA")
    assert simulated.data.name == "RWTH-ISEA__NCM-811-1__20260101_001_SIMULATED.bdf.csv"
    assert simulated.metadata.name == (
        "RWTH-ISEA__NCM-811-1__20260101_001_SIMULATED.bdf.metadata.json"
    )
    metadata = json.loads(simulated.metadata.read_bytes())
    assert metadata["simulated"] is True
    assert metadata["manifest"]["run_id"] == "r1"
    assert metadata["joined"]["surface_pressure_pa"]["source"] == "lc1"
    assert {column["name"] for column in metadata["columns"]} >= set(REQUIRED)
    measured = export_csv(make_record("m", simulated=False), tmp_path / "out", institution="X")
    assert measured.data.name == "X__NCM-811-1__20260101_001.bdf.csv"
    assert json.loads(measured.metadata.read_bytes())["simulated"] is False


def test_the_numbers_of_the_cell_have_their_units_in_the_metadata(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    cell = {"name": "NCM 811/1", "capacity": 11.3, "active_mass": 1.7e-5, "area": 1.1e-4}
    written = export_csv(make_record("c", cell=cell), tmp_path / "out", institution="X")
    metadata = json.loads(written.metadata.read_bytes())
    assert metadata["cell"] == {
        "name": "NCM 811/1",
        "capacity_coulomb": 11.3,
        "active_mass_kilogram": 1.7e-5,
        "area_square_metre": 1.1e-4,
    }
    assert metadata["manifest"]["cell"] == cell
    assert "coulomb" in metadata["manifest_units"]


def test_an_export_replaces_that_of_the_same_run_and_no_other(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    first, second = make_record("a"), make_record("b", run_id="r2")
    out = tmp_path / "out"
    names = [
        export_csv(record, out, institution="X").data.name[-21:-18]
        for record in (first, second, first, second)
    ]
    assert names == ["001", "002", "001", "002"]
    assert "_042_" in export_csv(first, out, institution="X", number=42).data.name


def test_parquet_has_the_machine_names_and_reads_back_exactly(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    record = make_record()
    files = export_parquet(record, tmp_path / "out", institution="ISEA")
    assert files.data.name.endswith("_SIMULATED.bdf.parquet")
    table = parquet.read_table(files.data)
    columns = bdf_columns(record)
    assert table.column_names == list(columns)
    assert set(table.column_names) <= set(TERMS)
    for name, values in columns.items():
        stored = table[name].to_pylist()
        if values.dtype.kind == "f":
            stored = [math.nan if value is None else value for value in stored]
            np.testing.assert_array_equal(stored, values)
        else:
            assert stored == values.tolist()
    assert table["surface_pressure_pa"].null_count > 0
    assert json.loads(table.schema.metadata[b"bdf"])["simulated"] is True
    assert json.loads(files.metadata.read_bytes())["simulated"] is True


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInputError, match=r"operando\[parquet\]"):
        export_parquet(make_record(), tmp_path / "out", institution="X")


def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, manifest: Manifest, make_record: MakeRecord
) -> None:
    async def write() -> None:
        await SqliteRecorder(tmp_path / "empty", manifest, inline=True).close()

    run(write(), virtual=True)
    with pytest.raises(RecordError, match="no samples to export"):
        export_csv(Record.open(tmp_path / "empty"), tmp_path, institution="X")
    with pytest.raises(BadInputError, match="institution '//' has no letter"):
        export_csv(make_record(), tmp_path, institution="//")
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="could not be written"):
        export_csv(make_record("q"), tmp_path / "file", institution="X")
