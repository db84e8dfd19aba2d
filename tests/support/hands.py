"""Mouse and keyboard for tests of widgets, with types: what Qt's own tests press."""

from __future__ import annotations

from typing import Any

from PyQt6.QtCore import QPoint, Qt
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QWidget

# Qt's stubs take these for methods of an instance.
_TEST: Any = QTest


def click(widget: QWidget, place: QPoint | None = None) -> None:
    """Press and release the left button, in the middle of the widget unless told where."""
    where = widget.rect().center() if place is None else place
    left = Qt.MouseButton.LeftButton
    _TEST.mouseClick(widget, left, Qt.KeyboardModifier.NoModifier, where)


def double_click(widget: QWidget, place: QPoint) -> None:
    """Press twice."""
    left = Qt.MouseButton.LeftButton
    _TEST.mouseClick(widget, left, Qt.KeyboardModifier.NoModifier, place)
    _TEST.mouseDClick(widget, left, Qt.KeyboardModifier.NoModifier, place)


def key(
    widget: QWidget,
    pressed: Qt.Key,
    modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
) -> None:
    """Press and release a key."""
    _TEST.keyClick(widget, pressed, modifiers)


def write(widget: QWidget, text: str) -> None:
    """Write a text, letter by letter."""
    _TEST.keyClicks(widget, text)
