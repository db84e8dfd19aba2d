"""Figures: what they draw, how it is labelled, and that simulated data are marked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.evaluation import (
    draw_ageing,
    draw_capacity_by_cycle,
    draw_time_series,
    draw_voltage_capacity,
    figures,
)
from operando.instruments.errors import BadInputError

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("fonts")
MakeRecord = Any
DRAW: list[Callable[..., Path]] = [
    draw_voltage_capacity, draw_time_series, draw_capacity_by_cycle, draw_ageing,
]  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are made."""
    made: list[Any] = []
    original = figures._figure

    @contextmanager
    def spy(*arguments: Any) -> Iterator[tuple[Any, Any]]:
        with original(*arguments) as (fig, save):
            made.append(fig)
            yield fig, save

    monkeypatch.setattr(figures, "_figure", spy)
    return made


def everything_drawn(fig: Any) -> list[Any]:
    """Texts of the figure with their boxes, as drawn."""
    fig.draw_without_rendering()  # saving was at another resolution
    renderer = fig.canvas.get_renderer()
    texts = [artist for artist in fig.findobj() if hasattr(artist, "get_text")]
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in texts
        if text.get_visible() and text.get_text().strip()
    ]


@pytest.mark.parametrize("draw", DRAW)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_nothing_is_clipped_and_simulated_data_are_marked(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any], draw: Any, count: int
) -> None:
    cells = [make_record.cell(name=f"NCM811 with coating {n}", fade=0.1 * n) for n in range(count)]
    path = draw([make_record(cell) for cell in cells], tmp_path / "out" / "figure.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    (fig,) = drawn
    texts = everything_drawn(fig)
    assert "SIMULATED DATA" in [text for text, _ in texts]
    width, height = fig.canvas.get_width_height()
    for text, box in texts:
        if text.replace("−", "-").replace(".", "").lstrip("-").isdigit():
            continue  # ticks beyond the axis are text too, but not drawn
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text


def test_measured_data_are_not_marked_and_mixtures_are(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    measured = make_record(make_record.cell(name="m"), simulated=False)
    simulated = make_record(make_record.cell(name="s"))
    draw_time_series(measured, tmp_path / "a.png")
    draw_time_series([measured, simulated], tmp_path / "b.png")
    titles = [fig.get_suptitle() for fig in drawn]
    assert titles == ["", "PARTLY SIMULATED DATA"]


def test_voltage_is_drawn_against_the_specific_capacity_of_each_half(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    record = make_record()
    draw_voltage_capacity(record, tmp_path / "a.png")
    (ax,) = drawn[0].axes
    assert ax.get_xlabel() == "Specific capacity / mAh g⁻¹"
    assert ax.get_ylabel() == "Voltage / V"
    charge, discharge = ax.get_lines()[:2]
    assert charge.get_color() == discharge.get_color()
    assert charge.get_xdata()[0] == 0.0
    assert charge.get_xdata()[-1] == pytest.approx(4.1188 / 3.6 / 0.01, rel=1e-4)
    assert discharge.get_xdata()[-1] == pytest.approx(0.98 * charge.get_xdata()[-1])
    assert len(charge.get_xdata()) == len(record.samples(step=1)["time"])  # nothing thinned


def test_without_mass_the_axis_says_capacity(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    draw_voltage_capacity(make_record(mass=0.0), tmp_path / "a.png")
    assert drawn[0].axes[0].get_xlabel() == "Capacity / mAh"


def test_chosen_cycles_alone_are_drawn_and_a_wrong_choice_is_told(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    record = make_record()
    draw_voltage_capacity(record, tmp_path / "a.png", cycles=[2])
    assert len(drawn[0].axes[0].get_lines()) == 2
    with pytest.raises(BadInputError, match=r"no such cycle to draw \(has \[1, 2\]\)"):
        draw_voltage_capacity(record, tmp_path / "a.png", cycles=[7])


def test_overlaid_records_share_a_panel_and_have_a_hue_each(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    records = [make_record(make_record.cell(name=name)) for name in ("a", "b")]
    draw_voltage_capacity(records, tmp_path / "a.png", overlaid=True, labels=["CAEC", "bare"])
    (ax,) = drawn[0].axes
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["CAEC: 1, 2", "bare: 1, 2"]
    assert len(ax.get_lines()) == 8


def test_time_series_are_in_hours_and_broken_at_gaps(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    draw_time_series(make_record(gap=(1003.0, 1047.0)), tmp_path / "a.png")
    voltage, current, pressure = drawn[0].axes
    labels = [ax.get_ylabel() for ax in (voltage, current, pressure)]
    assert labels == ["Voltage / V", "Current / mA", "Pressure / MPa"]
    assert pressure.get_xlabel() == "Time / h"
    for ax in (voltage, current, pressure):
        line = ax.get_lines()[0]
        assert np.isnan(line.get_ydata()).sum() == 1
    assert np.nanmax(current.get_lines()[0].get_ydata()) == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "cycles"), [(1, 2), (2, 4), (3, 4), (2, 300), (6, 300)])
def test_points_of_several_records_stand_side_by_side_around_their_cycle(
    count: int, cycles: int
) -> None:
    offsets = figures._offsets(count, cycles)
    assert sum(offsets) == pytest.approx(0.0, abs=1e-12)
    assert offsets == sorted(set(offsets))
    assert max(offsets) - min(offsets) < 0.6  # nearer to their own cycle than to the next


def test_capacities_that_are_the_same_can_all_be_seen(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    cells = [make_record.cell(name=name, efficiency=1.0) for name in ("a", "b")]
    draw_capacity_by_cycle([make_record(cell) for cell in cells], tmp_path / "a.png")
    upper, lower = drawn[0].axes
    rings = [m for m in upper.get_lines() if m.get_fillstyle() == "none" and len(m.get_xdata())]
    dots = [m for m in upper.get_lines() if m.get_fillstyle() == "full" and len(m.get_xdata())]
    squares = [m for m in lower.get_lines() if m.get_marker() == "s"]
    assert [len(kind) for kind in (rings, dots, squares)] == [2, 2, 2]
    for ring, dot in zip(rings, dots, strict=True):
        assert ring.get_markersize() > dot.get_markersize() + 2.0 * ring.get_markeredgewidth()
        assert np.array_equal(ring.get_xdata(), dot.get_xdata())
    for first, second in (rings, dots, squares):
        apart = upper.transData.transform(np.column_stack([second.get_xdata(), [0, 0]]))
        apart -= upper.transData.transform(np.column_stack([first.get_xdata(), [0, 0]]))
        assert np.all(apart[:, 0] > first.get_markersize() * drawn[0].dpi / 72.0)
    low, high = lower.get_xlim()
    assert (low, high) == (0.5, 2.5)


def test_a_line_over_another_is_thinner(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    records = [make_record(make_record.cell(name=name)) for name in ("a", "b")]
    draw_time_series(records, tmp_path / "a.png")
    draw_voltage_capacity(records, tmp_path / "b.png")
    draw_voltage_capacity(records, tmp_path / "c.png", overlaid=True)
    series, loops, overlaid = drawn
    below, above = series.axes[0].get_lines()
    assert below.get_linewidth() > above.get_linewidth()
    first, *_, last = loops.axes[0].get_lines()
    assert first.get_linewidth() > last.get_linewidth()
    widths = [line.get_linewidth() for line in overlaid.axes[0].get_lines()]
    assert len(set(widths)) == 2
    assert widths == sorted(widths, reverse=True)


def test_ageing_counts_from_the_fresh_cycle_and_says_what_is_left(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    cells = [
        make_record.cell(name=name, fade=fade, cycles=4) for name, fade in (("a", 0.1), ("b", 0.2))
    ]
    records = [make_record(cell) for cell in cells]
    draw_ageing(records, tmp_path / "a.png", cycles=(2, 4), calibrated={"a": 0.8})
    fade, *_ = drawn[0].axes
    names = [text.get_text() for text in fade.get_legend().get_texts()]
    assert names[-1] == "published, calibrated"
    assert [name.partition(":")[0] for name in names[:2]] == ["a", "b"]
    a, mark, b, _ = fade.get_lines()
    assert list(a.get_xdata()) == [1, 2, 3]
    left = a.get_ydata()[-1] / a.get_ydata()[0]
    assert names[0] == f"a: {100.0 * left:.1f} % left"
    assert left > b.get_ydata()[-1] / b.get_ydata()[0]
    assert list(mark.get_xdata()) == [3]
    assert mark.get_ydata()[0] == pytest.approx(0.8 * a.get_ydata()[0])


def test_ageing_draws_voltage_and_pressure_of_both_cycles(
    tmp_path: Path, make_record: MakeRecord, drawn: list[Any]
) -> None:
    record = make_record(make_record.cell(fade=0.1, cycles=3))
    draw_ageing(record, tmp_path / "a.png")
    _, voltage, pressure = drawn[0].axes
    assert len(voltage.get_lines()) == 4
    labels = [text.get_text() for text in pressure.get_legend().get_texts()]
    assert labels == ["cycle 1", "cycle 3"]
    fresh, aged = pressure.get_lines()
    passed, height = fresh.get_xdata(), fresh.get_ydata()
    assert passed[0] == pytest.approx(0.0, abs=0.1)
    # 0.1 MPa/C, 10 mg: the reading rises with the charge put in.
    assert height.max() - height[0] == pytest.approx(0.1 * 3.6 * 0.01 * passed.max(), rel=1e-3)
    assert np.all(aged.get_ydata() > 0.0)


def test_ageing_needs_two_complete_cycles(tmp_path: Path, make_record: MakeRecord) -> None:
    with pytest.raises(BadInputError, match=r"two complete ones are needed.*\(has \[1\]\)"):
        draw_ageing(make_record(make_record.cell(cycles=1)), tmp_path / "a.png")
    with pytest.raises(BadInputError, match="cycles 2 and 9 cannot be compared"):
        draw_ageing(make_record(make_record.cell(name="b")), tmp_path / "b.png", cycles=(2, 9))


def test_no_global_state_of_matplotlib_is_changed(tmp_path: Path, make_record: MakeRecord) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw_capacity_by_cycle(make_record(), tmp_path / "a.png")
    assert dict(mpl.rcParams) == before


def test_without_matplotlib_the_figure_says_what_to_install(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BadInputError, match=r"operando\[report\]"):
        draw_time_series(make_record(), tmp_path / "a.png")


def test_labels_must_match_the_records(tmp_path: Path, make_record: MakeRecord) -> None:
    with pytest.raises(BadInputError, match="1 records need as many labels, not 2"):
        draw_time_series(make_record(), tmp_path / "a.png", labels=["a", "b"])
    with pytest.raises(BadInputError, match="no record to draw"):
        draw_time_series([], tmp_path / "a.png")
