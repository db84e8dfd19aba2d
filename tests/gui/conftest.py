"""What every test of the window has: no display, settings of its own, a link without a station.

Statuses, snapshots and answers to put into it are built by `support.window`.
"""

from __future__ import annotations

import os

# Before Qt chooses; a story on a display of its own runs the window as another process.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# Qt paints large areas in threads of a pool, whose descriptors stay open.
os.environ["QT_NO_GUI_THREADPOOL"] = "1"

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PyQt6.QtCore import QCoreApplication, QEvent, QSettings
from PyQt6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from operando.gui.theme import DARK, LIGHT, Theme
from support.window import FakeLink, usual_answers


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a window remembers is remembered here, not in the home of who runs the tests."""
    folder = tmp_path_factory.mktemp("settings")
    before = QSettings.defaultFormat()
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder))
    yield folder
    QSettings.setDefaultFormat(before)


@pytest.fixture(autouse=True)
def _no_widget_outlives_its_test() -> Iterator[None]:
    """Widgets are deleted by an event loop, and tests have none: each would slow down the next."""
    yield
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


@pytest.fixture
def link() -> FakeLink:
    """A link whose client answers from `link.client.answers`, when it is drained."""
    return FakeLink()


@pytest.fixture
def answering(link: FakeLink) -> FakeLink:
    """The same link, with a client that has an answer to every usual question."""
    link.client.answers.update(usual_answers())
    return link


@pytest.fixture
def theme() -> Theme:
    """One appearance, where it does not matter which."""
    return DARK


@pytest.fixture(params=[DARK, LIGHT], ids=["dark", "light"])
def each_theme(request: pytest.FixtureRequest) -> Theme:
    """Dark, then light."""
    chosen: Theme = request.param
    return chosen


@pytest.fixture
def qtbot(qtbot: QtBot) -> Iterator[QtBot]:
    """Qt's robot, holding on to every widget until its test is over.

    It keeps weak references alone. A widget in a cycle of references, which its test has forgotten,
    could be collected while Qt is still painting it after the test, and take the process along.
    """
    kept: list[QWidget] = []
    add = qtbot.addWidget

    def add_and_keep(widget: QWidget, **named: Any) -> None:
        kept.append(widget)
        add(widget, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qtbot, "addWidget", add_and_keep)
        yield qtbot
    kept.clear()
