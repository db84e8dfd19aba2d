"""The window as a program: one application, one window, one station."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType

from PyQt6.QtWidgets import QApplication

from operando.gui.link import StationLink
from operando.gui.theme import THEMES
from operando.gui.window import MainWindow
from operando.instruments.errors import BadInputError
from operando.station.client import StationProcess


def run(url: str, *, station: StationProcess | None = None, theme: str | None = None) -> int:
    """Show the window of the station at a URL until it is closed; gives the exit code.

    station: the process of that station if it was started for this window. It is ended with the
    window, unless runs are under way and the operator lets them go on. A station that was not
    started for this window is never touched.
    theme: "dark" or "light"; None for the one chosen before, else that of the desktop.
    """
    keep = False
    try:
        if theme is not None and theme not in THEMES:
            raise BadInputError(f"theme is {theme!r}; it can be {' or '.join(sorted(THEMES))}")
        app = _application()
        link = StationLink(url)
        window = MainWindow(
            link,
            next((one for one in THEMES.values() if one.name == theme), None),
            owns_station=station is not None,
        )
        try:
            with hooks(window), signals(window):
                link.start()
                window.show()
                code = app.exec()
        finally:
            link.close()
        keep = window.keep_station
    finally:
        if station is not None and not keep:
            station.close()
    if station is not None and keep:
        print(
            f"the station at {url} goes on; open a window on it with "
            f"'operando gui --station {url}'",
            flush=True,
        )
    return code


@contextlib.contextmanager
def hooks(window: MainWindow) -> Iterator[None]:
    """While this lasts, an unexpected error is shown in the window and written to stderr.

    Without a hook PyQt would abort the process at the first error in a slot.
    """
    main_before, thread_before = sys.excepthook, threading.excepthook
    last = ""

    def tell(error: BaseException) -> None:
        nonlocal last
        text = "".join(traceback.format_exception(error))
        if text != last:  # one that comes back at every turn of a timer is written once
            sys.stderr.write(text)
            sys.stderr.flush()
        last = text
        window.report(error)

    def in_main(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            window.leave()
        else:
            tell(error.with_traceback(trace))

    def in_thread(what: threading.ExceptHookArgs) -> None:
        if what.exc_value is not None:
            tell(what.exc_value)

    sys.excepthook, threading.excepthook = in_main, in_thread
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook = main_before, thread_before


@contextlib.contextmanager
def signals(window: MainWindow) -> Iterator[None]:
    """While this lasts, SIGINT and SIGTERM close the window; its timer lets Python see them."""

    def leave(number: int, frame: FrameType | None) -> None:
        window.leave()

    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, leave) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def _application() -> QApplication:
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication(sys.argv[:1])
    app.setApplicationName("operando")
    app.setApplicationDisplayName("operando")
    app.setOrganizationName("operando")
    app.setDesktopFileName("operando")
    app.setStyle("Fusion")
    app.setQuitOnLastWindowClosed(True)
    return app
