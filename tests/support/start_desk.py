"""The start panel with the hands and eyes of a test, judged by a station's own check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QLabel, QLineEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.theme import Theme
from operando.gui.widgets.start_panel import StartPanel
from operando.instruments.bench_file import load_bench
from operando.station.client import CellInfo, ChannelStatus, CheckReport, RunRequest
from operando.station.requests import check_request
from support.forms import CCCV, EVERY
from support.window import FakeLink, channel

BENCH = load_bench(Path(__file__).parents[2] / "examples" / "simulated-lab.toml")
# Qt fills large areas in threads of a pool that outlives the test which painted first.
os.environ.setdefault("QT_NO_GUI_THREADPOOL", "1")

W = TypeVar("W", bound=QWidget)

CELL = CellInfo(name="coated-1", capacity=11.2944, one_c="185 mA/g")


def lab() -> list[ChannelStatus]:
    return [channel(name, "idle", cell=CELL) for name in BENCH.channels]


def judge(name: str, request: RunRequest) -> CheckReport:
    if request.protocol == "every":
        return CheckReport(ok=True)
    return check_request(BENCH, name, request).report


class Desk:
    """The panel, and the hands and eyes of a test."""

    def __init__(self, link: FakeLink, theme: Theme, qtbot: QtBot) -> None:
        self.link = link
        link.client.answers |= {"protocols": [CCCV, EVERY], "check": judge}
        self.panel = StartPanel(link, theme)
        qtbot.addWidget(self.panel)
        self.panel.set_channels(lab())
        self.panel.set_speed(60.0)
        self.panel.open_for(lab()[0])
        self.panel.resize(420, 800)
        self.panel._pause.setInterval(0)
        self.qtbot = qtbot
        self.answer()

    def answer(self) -> None:
        """Let the pause after the last key pass and the station answer."""
        for _ in range(3):
            if self.panel._pause.isActive():
                self.qtbot.waitUntil(lambda: not self.panel._pause.isActive())
            self.link.drain()

    def press(self, widget: QWidget, key: Qt.Key) -> None:
        self.qtbot.keyClick(widget, key)  # type: ignore[no-untyped-call]

    def write(self, name: str, text: str) -> QLineEdit:
        line = self.find(QLineEdit, name)
        line.setFocus()
        line.selectAll()
        self.qtbot.keyClicks(line, text)  # type: ignore[no-untyped-call]
        return line

    def find(self, kind: type[W], name: str) -> W:
        found = self.panel.findChildren(kind, name)
        assert len(found) == 1, f"{len(found)} widgets are called {name}"
        return found[0]

    def said(self, name: str) -> str:
        """Text of a label that is shown, "" of one that is hidden."""
        made = self.find(QLabel, name)
        return "" if made.isHidden() else made.text()

    @property
    def start(self) -> QPushButton:
        return self.find(QPushButton, "start-run")
