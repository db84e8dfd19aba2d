"""An operator at a display that nobody sees: Xvfb, a mouse and a keyboard through XTEST."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from Xlib import XK, X, display
from Xlib.ext import xtest

from lab import wait_until

EYES = Path(__file__).with_name("eyes.py")

_SHIFTED = {"<", ">", "(", ")", "/", "*", "=", ":", '"', "_", "?", "!", "%", "&", ";"}
_NAMES = {
    " ": "space", ".": "period", ",": "comma", "/": "slash", ">": "greater", "<": "less",
    "(": "parenleft", ")": "parenright", "_": "underscore", "-": "minus", "=": "equal",
    ":": "colon", "\n": "Return",
}  # fmt: skip


@contextlib.contextmanager
def screen(width: int = 1920, height: int = 1080) -> Iterator[str]:
    """A virtual X display; gives its name."""
    assert shutil.which("Xvfb"), "install xvfb: sudo apt-get install xvfb"
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            *("Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24"),
            *("-nolisten", "tcp", "-noreset"),
        ],
        pass_fds=[write],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10.0)


class Operator:
    """Sits before `operando gui ...` on a display. A context manager.

    screen: an X display, or None to only look: the window then draws offscreen and has no hands.
    words: after `operando`. Everything done is an input event of the X server; `see` only looks.
    """

    def __init__(self, screen: str | None, folder: Path, *words: str) -> None:
        self._screen = screen
        self._folder = folder
        self._words = words

    def __enter__(self) -> Operator:
        environment = {
            **os.environ,
            "DISPLAY": self._screen or "",
            "QT_QPA_PLATFORM": "xcb" if self._screen else "offscreen",
            "XDG_CONFIG_HOME": str(self._folder / "settings"),
        }
        self._display = display.Display(self._screen) if self._screen else None
        self._log = (self._folder / "window.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(EYES), *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            cwd=self._folder,
        )
        wait_until(lambda: self.ask(ready=True)["ready"])
        self.resize(1280, 800)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()
        if self._display is not None:
            self._display.close()

    @property
    def pid(self) -> int:
        """Process of the window."""
        return self._process.pid

    def wait(self, timeout: float = 60.0) -> int:
        """Exit code of the window once it has ended."""
        return self._process.wait(timeout)

    # ---- eyes

    def ask(self, **question: object) -> dict[str, Any]:
        """One question to the eyes, see `support.eyes`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                assert "error" not in answer, answer
                return answer
        raise AssertionError("the window has ended: " + (self._folder / "window.log").read_text())

    def see(self, name: str) -> dict[str, Any]:
        """What a widget looks like now."""
        return self.ask(find=name)

    def read(self, part: str) -> list[str]:
        """All texts in the window that hold `part`."""
        texts: list[str] = self.ask(texts=part)["texts"]
        return texts

    def await_text(self, part: str, timeout: float = 30.0) -> list[str]:
        """Wait until a text is in the window."""
        found: list[str] = wait_until(lambda: self.read(part), timeout)
        return found

    def await_widget(self, name: str, *, enabled: bool = True, timeout: float = 30.0) -> None:
        """Wait until a widget can be seen, and used if `enabled`."""

        def ready() -> bool:
            seen = self.see(name)
            return bool(seen["visible"] and (seen["enabled"] or not enabled))

        wait_until(ready, timeout)

    def picture(self, path: Path) -> None:
        """Keep a picture of the window."""
        path.parent.mkdir(parents=True, exist_ok=True)
        assert self.ask(shot=str(path))["saved"]

    def theme(self, name: str) -> None:
        """Change the appearance for a picture."""
        self.ask(theme=name)

    def resize(self, width: int, height: int) -> None:
        """Do what a window manager does: size the window and give it the keyboard."""
        handle = self.ask(size=[width, height])["handle"]
        if self._display is None:
            return
        window = self._display.create_resource_object("window", handle)
        wait_until(lambda: window.get_attributes().map_state == X.IsViewable)
        window.set_input_focus(X.RevertToParent, X.CurrentTime)
        self._display.sync()

    # ---- hands

    def click(self, name: str) -> None:
        """Move the mouse onto a widget and press the left button."""
        self.await_widget(name)
        x, y, width, height = self._settled(name)
        self._move(x + width // 2, y + height // 2)
        self._button(1)

    def _settled(self, name: str) -> list[int]:
        """Where a widget is once it has stopped moving: nobody clicks what still moves."""
        places: list[list[int]] = []

        def resting() -> bool:
            places.append(self.see(name)["rect"])
            return len(places) > 3 and places[-1] == places[-4]

        wait_until(resting)
        return places[-1]

    def scroll_to(self, name: str, over: str) -> None:
        """Turn the wheel over one widget until another is wholly in view."""
        x, y, width, height = self.see(over)["rect"]
        self._move(x + width // 2, y + height // 2)
        for _ in range(100):
            seen = self.see(name)
            if seen["visible"] and seen["whole"]:
                return
            self._button(5)
        raise AssertionError(f"{name} does not scroll into view")

    @property
    def _x(self) -> display.Display:
        assert self._display is not None, "this operator has no hands: give it a screen"
        return self._display

    def _move(self, x: int, y: int) -> None:
        xtest.fake_input(self._x, X.MotionNotify, x=x, y=y)
        self._x.sync()

    def _button(self, number: int) -> None:
        xtest.fake_input(self._x, X.ButtonPress, number)
        xtest.fake_input(self._x, X.ButtonRelease, number)
        self._x.sync()

    def key(self, *names: str) -> None:
        """Press keys together: key("Control_L", "a")."""
        codes = [self._x.keysym_to_keycode(XK.string_to_keysym(name)) for name in names]
        for code in codes:
            xtest.fake_input(self._x, X.KeyPress, code)
        for code in reversed(codes):
            xtest.fake_input(self._x, X.KeyRelease, code)
        self._x.sync()

    def type(self, text: str) -> None:
        """Type a text where the keyboard is."""
        for letter in text:
            name = _NAMES.get(letter, letter)
            shifted = letter.isupper() or (letter in _SHIFTED and letter not in "/=;")
            self.key(*(["Shift_L"] if shifted else []), name)

    def write(self, name: str, text: str) -> None:
        """Click a field, select what is in it, and type over it; look, and mend what went wrong."""
        for _ in range(5):
            self.click(name)
            if not self._soon(lambda: self.see(name).get("focus")):
                continue
            self.key("Control_L", "a")
            self.type(text)
            if self._soon(lambda: self.see(name).get("text") == text):
                return
        raise AssertionError(f"{name} holds {self.see(name)} instead of {text!r}")

    def _soon(self, probe: Callable[[], object]) -> bool:
        try:
            wait_until(probe, 4.0)
        except AssertionError:
            return False
        return True
