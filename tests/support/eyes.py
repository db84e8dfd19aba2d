"""The window in a process of its own, with eyes: run as `python eyes.py gui ...`, as `operando`.

It is the real command. A thread answers questions from standard input, one JSON line each, by
looking at the widgets in the window's own thread; a test acts on them by input events alone.

{"ready": true} -> whether a window is shown
{"find": NAME} -> {"rect": [x, y, width, height] on the screen, "text", "enabled", "visible"}
{"texts": PART} -> texts of all visible widgets that hold PART
{"shot": PATH}  -> a picture of the window
{"size": [w, h]} -> resizes the window, as a window manager would
{"theme": "dark"} -> changes the appearance, for pictures
{"lit": NAME}   -> pixels of a widget that have the colour of a voltage
{"last": true}  -> time of the newest reading in the plots of the channel page
{"open": NAME}  -> shows the page of a channel, for benchmarks without hands
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np
from PyQt6 import sip
from PyQt6.QtCore import QCoreApplication, QObject, QPoint, pyqtSignal, pyqtSlot
from PyQt6.QtGui import QColor, QImage
from PyQt6.QtWidgets import QApplication, QWidget

from operando.station.cli import main


class Eyes(QObject):
    """Looks at the window."""

    asked = pyqtSignal(str)

    @pyqtSlot(str)
    def answer(self, line: str) -> None:
        """Called in the window's own thread."""
        self._answer(line)

    def _answer(self, line: str) -> None:
        question = json.loads(line)
        try:
            answer = getattr(self, f"_{next(iter(question))}")(next(iter(question.values())))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)

    def _ready(self, _: bool) -> dict[str, Any]:
        return {"ready": any(window.isVisible() for window in QApplication.topLevelWidgets())}

    def _find(self, name: str) -> dict[str, Any]:
        found = [widget for widget in _widgets() if widget.objectName() == name]
        shown = [widget for widget in found if widget.isVisible()]
        if not shown:
            return {"visible": False, "there": len(found)}
        widget = shown[0]
        corner = widget.mapToGlobal(QPoint(0, 0))
        seen = widget.visibleRegion().boundingRect()
        return {
            "visible": not seen.isEmpty(),
            "rect": [
                corner.x() + seen.x(), corner.y() + seen.y(), seen.width(), seen.height(),
            ],
            "whole": seen.size() == widget.size(),
            "enabled": widget.isEnabled(),
            "focus": widget.hasFocus(),
            "text": _text(widget),
        }  # fmt: skip

    def _texts(self, part: str) -> dict[str, Any]:
        texts = [_text(widget) for widget in _widgets() if widget.isVisible()]
        return {"texts": [text for text in texts if part.lower() in text.lower()]}

    def _lit(self, name: str) -> dict[str, Any]:
        """Pixels in the colour of a voltage that a widget shows."""
        from operando.gui.theme import DARK

        lit = 0
        for widget in _widgets():
            if widget.objectName() == name and widget.isVisible():
                image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
                bits: Any = image.constBits()
                pixels = np.frombuffer(bits.asarray(image.sizeInBytes()), np.uint32)
                lit += int(np.count_nonzero(pixels == QColor(DARK.voltage).rgb()))
        return {"lit": lit}

    def _last(self, _: bool) -> dict[str, Any]:
        """Time of the newest reading in the plots of the channel page, s."""
        plots: Any = next(one for one in _widgets() if type(one).__name__ == "TimePlots")
        return {"last": float(plots.traces.last)}

    def _open(self, channel: str) -> dict[str, Any]:
        """Show the page of a channel."""
        window: Any = _window()
        window.show_channel(channel)
        return {"open": channel}

    def _shot(self, path: str) -> dict[str, Any]:
        return {"saved": _window().grab().save(path)}

    def _size(self, size: list[int]) -> dict[str, Any]:
        window = _window()
        window.move(0, 0)
        window.resize(*size)
        return {"size": [window.width(), window.height()], "handle": int(window.winId())}

    def _theme(self, name: str) -> dict[str, Any]:
        from operando.gui.theme import DARK, LIGHT

        window: Any = _window()
        window.set_theme(DARK if name == "dark" else LIGHT)
        return {"theme": name}


def _widgets() -> list[QWidget]:
    return [
        widget
        for window in QApplication.topLevelWidgets()
        if window.isVisible()
        for widget in (window, *window.findChildren(QWidget))
        if not sip.isdeleted(widget)
    ]


def _window() -> QWidget:
    windows = [w for w in QApplication.topLevelWidgets() if w.isVisible() and w.isWindow()]
    return max(windows, key=lambda w: w.width() * w.height())


def _text(widget: QWidget) -> str:
    for name in ("text", "currentText", "toPlainText", "title"):
        method = getattr(widget, name, None)
        if callable(method):
            return str(method())
    return widget.accessibleDescription()


def _watch() -> None:
    while QCoreApplication.instance() is None:
        time.sleep(0.01)
    application = QCoreApplication.instance()
    assert application is not None
    eyes = Eyes()
    eyes.moveToThread(application.thread())
    # After the move: a connection runs in the thread in which its receiver was when it was made.
    eyes.asked.connect(eyes.answer)
    for line in sys.stdin:
        eyes.asked.emit(line)


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    main()
