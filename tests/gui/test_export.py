"""What leaves the window: true to the record, and marked when it is simulated."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PyQt6.QtCore import QMimeDatabase
from PyQt6.QtGui import QColor, QImage
from PyQt6.QtWidgets import QApplication, QFileDialog, QPushButton
from pytestqt.qtbot import QtBot

from operando.gui.models.channel import channel_view
from operando.gui.theme import DARK, LIGHT, Theme
from operando.gui.widgets.channel_page import ChannelPage
from operando.gui.widgets.export import HEAD, SCALE, marked, table, write_data
from operando.gui.widgets.sheet import stylesheet
from operando.gui.widgets.style import Line
from operando.instruments.errors import BadInputError
from operando.station.client import Curve, GapInfo, JournalLine, RunDetail, StationLostError
from support.window import FakeLink, channel, run_summary

# Dialogs for files need it, and Qt keeps its file open from then on.
QMimeDatabase().allMimeTypes()

ROWS: dict[str, np.ndarray[Any, Any]] = {
    "record_index": np.array([7, 8, 9]),
    "time": np.array([10.0, 20.0, 30.0]),
    "unix_time": np.array([1.76e9, 1.76e9 + 10, 1.76e9 + 20]),
    "uncertainty": np.array([0.005, 0.005, 0.005]),
    "voltage": np.array([3.7, 3.8, np.nan]),
    "current": np.array([1.5e-3, 1.5e-3, -1.5e-3]),
    "charge": np.array([3.6, 7.2, 10.8]),
    "step_count": np.array([1, 1, 2]),
    "status": np.array(["ok", "ok", "overload"]),
    "pressure": np.array([8e6, 8.1e6, np.nan]),
    "h2o": np.array([1e-6, 1e-6, 1e-6]),
}


def curves(run: str, quantities: Any, **options: Any) -> dict[str, Curve]:
    time = np.arange(0.0, 1001.0, 10.0)
    return {name: Curve(time, 3.0 + time / 1000.0, True) for name in quantities}


def detail(run: str, *, simulated: bool = True) -> RunDetail:
    return RunDetail(
        summary=run_summary(run, simulated=simulated),
        quantities=("voltage", "current"),
        start=0.0,
        end=1000.0,
    )


@pytest.fixture(params=[DARK, LIGHT], ids=["dark", "light"])
def page(request: pytest.FixtureRequest, qtbot: QtBot, link: FakeLink) -> Iterator[ChannelPage]:
    """The page of a simulated record."""
    theme: Theme = request.param
    link.client.answers.update(
        {"run": detail, "curves": curves, "loops": [], "cycles": [], "rows": ROWS}
    )
    made = ChannelPage(link, theme)
    qtbot.addWidget(made)
    made.setStyleSheet(stylesheet(theme))
    made.resize(1100, 700)
    made.show()
    made.show_record("run-A1")
    settle(made, link)
    yield made
    for dialog in made.findChildren(QFileDialog):
        dialog.close()


def settle(page: ChannelPage, link: FakeLink) -> None:
    for _ in range(4):
        QApplication.processEvents()
        page.tick()
        link.drain()
        QApplication.processEvents()


def note(page: ChannelPage) -> str:
    label = page.findChild(Line, "page-note")
    assert label is not None
    return label.text()


def amber(image: QImage) -> int:
    """Pixels of the SIMULATED mark in the head of a picture."""
    wanted = QColor(LIGHT.simulated).rgb()
    high = round(HEAD * SCALE)
    return sum(
        image.pixel(x, y) == wanted for y in range(0, high, 2) for x in range(0, image.width(), 2)
    )


# Pictures


def test_a_picture_of_simulated_data_bears_the_mark(page: ChannelPage, tmp_path: Path) -> None:
    path = page.save_picture(tmp_path / "plots.png")
    assert path.name == "plots_SIMULATED.png"
    image = QImage(str(path))
    assert not image.isNull()
    assert amber(image) > 300
    assert image.text("Simulated") == "true"
    assert image.text("Title") == "A1 · NCM-A1 · cccv"
    assert "run-A1" in image.text("Description")
    assert note(page) == f"saved {path.name}"


def test_a_picture_of_measured_data_bears_no_mark(
    page: ChannelPage, link: FakeLink, tmp_path: Path
) -> None:
    link.client.answers["run"] = lambda run: detail(run, simulated=False)
    page.show_record("run-real")
    settle(page, link)
    image = QImage(str(page.save_picture(tmp_path / "plots.png")))
    assert amber(image) == 0
    assert image.text("Simulated") == "false"


def test_a_picture_is_light_and_shows_the_curves_whatever_the_window_looks_like(
    page: ChannelPage, tmp_path: Path
) -> None:
    before = page.plots.plots["voltage"].curve.lines[0].colour
    image = QImage(str(page.save_picture(tmp_path / "plots.png")))
    assert image.pixelColor(3, 3).name() == LIGHT.surface
    wanted = QColor(LIGHT.voltage)
    lit = 0
    for y in range(0, image.height(), 2):
        for x in range(0, image.width(), 2):
            seen = image.pixelColor(x, y)
            lit += abs(seen.red() - wanted.red()) < 30 and abs(seen.blue() - wanted.blue()) < 30
    assert lit > 200
    assert page.plots.plots["voltage"].curve.lines[0].colour == before


def test_a_picture_gets_its_suffix_and_a_bad_folder_is_said(
    page: ChannelPage, tmp_path: Path
) -> None:
    assert page.save_picture(tmp_path / "plots").name == "plots_SIMULATED.png"
    page.save_picture(tmp_path / "nowhere" / "plots.png")
    assert note(page).startswith("not saved: ")
    assert "nowhere" in note(page)


def test_what_is_not_known_yet_is_marked_as_simulated(
    page: ChannelPage, link: FakeLink, tmp_path: Path
) -> None:
    page.show_record("run-unread")
    image = QImage(str(page.save_picture(tmp_path / "plots.png")))
    assert amber(image) > 300


# Data


def test_the_columns_bear_the_names_and_units_of_the_battery_data_format() -> None:
    labels, columns = table(ROWS)
    by_label = dict(zip(labels, columns, strict=True))
    assert labels[:3] == ["Test Time / s", "Voltage / V", "Current / A"]
    assert labels[-1] == "Status"
    assert by_label["Net Capacity / Ah"].tolist() == pytest.approx([1e-3, 2e-3, 3e-3])
    assert by_label["Surface Pressure / Pa"][0] == 8e6
    assert by_label["Step Count / 1"].tolist() == [1, 1, 2]
    assert by_label["H2O"][0] == 1e-6


def test_temperatures_are_written_in_degrees_celsius() -> None:
    labels, columns = table({"time": np.array([0.0]), "temperature": np.array([298.15])})
    assert labels == ["Test Time / s", "Surface Temperature / degC"]
    assert columns[1][0] == pytest.approx(25.0)


def test_the_table_holds_the_recorded_rows_of_the_visible_time(
    page: ChannelPage, link: FakeLink, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def some(run: str, **options: Any) -> dict[str, Any]:
        asked.append({"run": run, **options})
        return ROWS

    link.client.answers["rows"] = some
    page.plots.choose(5.0, 35.0)
    path = page.save_data(tmp_path / "data.csv")
    assert note(page).startswith("saving ")
    settle(page, link)
    assert asked == [{"run": "run-A1", "start": 5.0, "end": 35.0}]
    with path.open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == 3
    assert [float(row["Test Time / s"]) for row in read] == [10.0, 20.0, 30.0]
    assert [row["Voltage / V"] for row in read] == ["3.7", "3.8", ""]
    assert [float(row["Current / A"]) for row in read] == ROWS["current"].tolist()
    assert read[2]["Status"] == "overload"
    assert note(page) == f"saved {path.name}, 3 rows"


def test_gaps_and_pauses_are_lines_of_the_table_so_that_nothing_is_joined_over_them(
    page: ChannelPage, link: FakeLink, tmp_path: Path
) -> None:
    told = {"paused": 12.0, "resumed": 18.0, "run ended": 40.0}
    link.client.answers["run"] = detail("run-A1").model_copy(
        update={
            "gaps": (GapInfo(start=20.0, end=30.0, reason="asleep"),),
            "journal": tuple(
                JournalLine(seq=n, time=time, unix_time=None, kind=kind, text=kind)
                for n, (kind, time) in enumerate(told.items())
            ),
        }
    )
    path = page.save_data(tmp_path / "data.csv")
    settle(page, link)
    with path.open() as file:
        read = list(csv.DictReader(file))
    assert [(float(row["Test Time / s"]), row["Status"], row["Voltage / V"]) for row in read] == [
        (10.0, "ok", "3.7"),
        (12.0, "paused from here", ""),
        (18.0, "paused until here", ""),
        (20.0, "ok", "3.8"),
        (20.0, "not observed from here", ""),
        (30.0, "not observed until here", ""),
        (30.0, "overload", ""),
    ]
    assert read[1]["Current / A"] == ""


def test_a_table_of_simulated_data_says_so_in_its_name(
    page: ChannelPage, link: FakeLink, tmp_path: Path
) -> None:
    path = page.save_data(tmp_path / "data.csv")
    settle(page, link)
    assert path.name == "data_SIMULATED.csv"
    assert path.exists()
    assert not (tmp_path / "data.csv").exists()


def test_the_mark_is_set_once_and_never_on_measured_data() -> None:
    assert marked(Path("a.csv"), ".csv", simulated=True).name == "a_SIMULATED.csv"
    assert marked(Path("a_SIMULATED.csv"), ".csv", simulated=True).name == "a_SIMULATED.csv"
    assert marked(Path("a.PNG"), ".png", simulated=True).name == "a_SIMULATED.png"
    assert marked(Path("a"), ".csv", simulated=False).name == "a.csv"
    assert marked(Path("2026-01-01.A1"), ".csv", simulated=False).name == "2026-01-01.A1.csv"


def test_a_table_that_could_not_be_made_is_said(
    page: ChannelPage, link: FakeLink, tmp_path: Path
) -> None:
    link.client.answers["rows"] = StationLostError("the station does not answer")
    path = page.save_data(tmp_path / "data.csv")
    settle(page, link)
    assert note(page) == "not saved: the station does not answer"
    assert not path.exists()


def test_an_empty_stretch_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no recorded rows in view"):
        write_data(tmp_path / "a.csv", {"time": np.empty(0)})
    assert list(tmp_path.iterdir()) == []


# Dialogs


@pytest.mark.parametrize("what", ["picture", "data"])
def test_a_dialog_asks_where_and_locks_nothing_up(
    page: ChannelPage, link: FakeLink, tmp_path: Path, what: str
) -> None:
    made = page.findChild(QPushButton, f"save-{what}")
    assert made is not None
    made.click()
    dialog = page.findChild(QFileDialog, f"save-{what}-dialog")
    assert dialog is not None
    assert dialog.isVisible()
    assert not dialog.isModal()
    assert dialog.acceptMode() is QFileDialog.AcceptMode.AcceptSave
    assert "run-A1_SIMULATED" in dialog.selectedFiles()[0]
    suffix = ".png" if what == "picture" else ".csv"
    dialog.fileSelected.emit(str(tmp_path / f"chosen{suffix}"))
    settle(page, link)
    assert [path.suffix for path in tmp_path.iterdir()] == [suffix]


def test_a_channel_without_a_run_has_no_data_to_save(
    page: ChannelPage, link: FakeLink, tmp_path: Path
) -> None:
    status = channel("A1", "idle")
    page.show_channel(status, channel_view(status, current=True, speed=1.0))
    page.save_data(tmp_path / "data.csv")
    assert note(page) == "there is no run to save"
