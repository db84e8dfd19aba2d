"""`operando validate` on the real chain: instruments, records, tables, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from operando import evaluation
from operando.instruments.errors import BadInputError
from operando.records import Record, verify
from operando.simulators.cell import CellParameters, Provenance, load_preset
from operando.station import cli as station_cli
from operando.validation import cli
from operando.validation.direct import DirectCell, first_cycle
from operando.validation.experiments import FIRST_CYCLE
from operando.validation.lab import Lab
from operando.validation.prior import BUNDLES, drawn, intervals
from operando.validation.published import Role


@pytest.fixture(scope="module")
def command() -> typer.Typer:
    """The command alone, as `operando validate`."""
    app = typer.Typer()
    app.command()(cli.validate)
    return app


def test_a_first_cycle_is_measured_through_instruments_and_reported(
    command: typer.Typer, tmp_path: Path
) -> None:
    ran = CliRunner().invoke(
        command, ["--only", "V-01", "--only", "V-16", "--json", "--report", str(tmp_path)]
    )
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.output
    data = json.loads(ran.stdout)
    rows = {(row["id"], row["case"]): row for row in data["rows"]}
    assert rows["V-01", "caec"]["path"] == "instruments"
    assert 150.0 < rows["V-01", "caec"]["measured"] < 276.0
    records = sorted(tmp_path.glob("records/first-cycle-*/records/*/manifest.json"))
    assert len(records) == 2
    assert rows["V-16", "lpscb"]["path"] == "instruments"
    assert len(list(tmp_path.glob("records/conductivity-*/records/*/manifest.json"))) == 1
    assert all(verify(path.parent) for path in records)
    record = Record.open(records[0].parent)
    assert record.simulated
    capacity = evaluation.cccv(record).rows()[0]["charge_capacity_mAh_per_g"]
    assert any(row["measured"] == pytest.approx(capacity, rel=1e-5) for row in data["rows"][:2])
    assert json.loads((tmp_path / "table.json").read_text(encoding="utf-8")) == data
    assert "| V-01 |" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_the_instruments_and_the_model_agree_on_the_first_cycle(tmp_path: Path) -> None:
    (cycle,) = Lab(tmp_path).run(FIRST_CYCLE, "ncm811-caec").cycles
    cell = DirectCell("ncm811-caec")
    direct = first_cycle(cell)
    assert cycle.charge_capacity == pytest.approx(direct.charge.charge, rel=2e-3)
    assert cycle.discharge_capacity == pytest.approx(direct.discharge.charge, rel=2e-3)


def test_an_unknown_row_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadInputError, match=r"'V-99'; there are: V-01"):
        cli.chosen(["V-99"])


def test_rows_come_in_the_order_of_the_files_whatever_was_asked_first() -> None:
    assert [target.id for target in cli.chosen(["V-04", "V-01"])] == ["V-01", "V-04"]
    assert len(cli.chosen([])) == 31


def test_a_full_folder_is_not_written_over(command: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "records" / "older").mkdir(parents=True)
    ran = CliRunner().invoke(command, ["--only", "V-16", "--report", str(tmp_path)])
    assert "holds a report already" in str(ran.exception)


def test_the_exit_code_says_when_calibrated_rows_miss(
    command: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for good, code in ((True, 0), (False, 1)):
        monkeypatch.setattr("operando.validation.verdicts.acceptable", lambda rows, good=good: good)
        assert CliRunner().invoke(command, ["--only", "V-16"]).exit_code == code


def test_the_whole_command_line_has_validate_beside_the_stations_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered = list(station_cli.app.registered_commands)
    monkeypatch.setattr(station_cli.app, "registered_commands", registered)
    monkeypatch.setattr("sys.argv", ["operando", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "validate" in shown
    assert "simulate" in shown


def of_preset(name: str) -> tuple[CellParameters, dict[str, Provenance]]:
    """Parameters of a full cell with their provenance."""
    preset = load_preset(name)
    return preset.parameters, preset.provenance


def test_draws_repeat_and_stay_within_the_stated_ranges() -> None:
    parameters, provenance = of_preset("ncm811-caec")
    first, again, other = (drawn(parameters, provenance, index, 1) for index in (0, 0, 1))
    assert first == again != other
    ranged = {n: e.plausible for n, e in provenance.items() if e.plausible is not None}
    assert ranged
    for name, (low, high) in ranged.items():
        assert low <= getattr(first, name) <= high
    for name in set(provenance) - set(ranged):
        assert getattr(first, name) == getattr(parameters, name)


def test_a_number_that_two_cells_share_is_drawn_alike() -> None:
    one, other = (drawn(*of_preset(name), 3, 1) for name in ("ncm811-caec", "ncm811-lno"))
    assert one.separator_conductivity == other.separator_conductivity


def test_an_interval_counts_its_draws() -> None:
    (target,) = cli.chosen(["V-04"])
    found = intervals(target, draws=3, seed=1)
    assert set(found) == {"caec", "lno"}
    assert found["caec"].draws == 3
    assert found["caec"].low <= found["caec"].high


def test_every_held_out_target_is_predicted_by_one_simulation() -> None:
    held_out = {target.id for target in cli.chosen([]) if target.role is Role.HELD_OUT}
    predicted = [target for bundle in BUNDLES for target in bundle.ids]
    assert sorted(predicted) == sorted(held_out)
