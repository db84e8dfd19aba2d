"""The demonstration: cells age through the drivers, and the table says what is no prediction."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from operando import evaluation
from operando.instruments.bench_file import load_bench
from operando.instruments.recipe import load_recipe, parse_recipe
from operando.records import Record, verify
from operando.station import demo
from operando.station.engine import order_from

CYCLES = 4


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, ...]:
    """The cells of the demonstration after a few of its cycles."""
    recipe = demo.examples_folder() / "recipes" / "ageing.toml"
    text = recipe.read_text(encoding="utf-8")
    assert "\ncycles = 100\n" in text
    order = order_from(
        parse_recipe(text.replace("\ncycles = 100\n", f"\ncycles = {CYCLES}\n"), recipe)
    )
    bench = demo.examples_folder() / "three-coatings.toml"
    return demo.in_virtual_time(bench, order, tmp_path_factory.mktemp("demo"))


def test_each_cell_of_the_bench_ages_through_its_instruments(aged: tuple[Record, ...]) -> None:
    assert [record.cell_name for record in aged] == ["CAEC", "LiNbO3", "bare"]
    for record in aged:
        assert record.simulated
        assert verify(record.folder)
        _, *cycles = evaluation.cccv(record).cycles
        assert len(cycles) == CYCLES
        assert all(cycle.flags == () for cycle in cycles)
        assert cycles[-1].mean_polarisation > cycles[0].mean_polarisation


def test_the_table_says_that_it_is_simulated_and_what_was_calibrated(
    aged: tuple[Record, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SHOWN", (1, CYCLES))
    out = io.StringIO()
    demo.print_ageing(aged, Console(file=out, width=80))
    text = out.getvalue()
    assert "SIMULATED" in text
    assert "calibrated" in text
    assert "…" not in text  # nothing is cut at 80 columns
    assert "nan" not in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 7]
    assert [row[1] for row in rows] == ["C/10", "1", str(CYCLES)] * 3
    published = {(row[0], row[1]): row[6] for row in rows if row[6]}
    assert published == {
        ("CAEC", "C/10"): "202.3",
        ("CAEC", str(CYCLES)): "81.0 %",
        ("LiNbO₃", "C/10"): "196.0",
        ("LiNbO₃", str(CYCLES)): "74.2 %",
        ("bare", str(CYCLES)): "69.1 %",
    }


@pytest.fixture(scope="module")
def fonts() -> None:
    """Matplotlib keeps the files of the fonts it has used open: they are no test's own."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.text(0.0, 0.0, "plain")
    figure.text(0.0, 0.0, "bold", fontweight="bold")
    figure.draw_without_rendering()


@pytest.mark.usefixtures("fonts")
def test_the_picture_is_drawn(
    aged: tuple[Record, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SHOWN", (1, CYCLES))
    path = demo.draw_ageing(aged, tmp_path / "ageing.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_bench_and_recipe_of_the_demonstration_fit_together() -> None:
    examples = demo.examples_folder()
    bench = load_bench(examples / "three-coatings.toml")
    recipe = load_recipe(examples / "recipes" / "ageing.toml")
    loads = {channel.roles["load_cell"] for channel in bench.channels.values()}
    assert set(recipe.poll.instruments) == loads
    assert len(bench.channels) == len(demo.RETENTIONS)
    assert recipe.parameters["formation_cycles"] == demo.FORMATION
    assert recipe.parameters["cycles"] == demo.SHOWN[-1]
