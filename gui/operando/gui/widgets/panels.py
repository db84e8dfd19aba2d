"""Panels of a page, and buttons of which some are chosen."""

from __future__ import annotations

from PyQt6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from operando.gui.theme import SPACE


def choose(made: QPushButton, chosen: bool) -> None:
    """Show a button as the chosen one of several."""
    made.setChecked(chosen)
    made.setProperty("kind", "plain" if chosen else "quiet")
    style = made.style()
    if style is not None:
        style.unpolish(made)
        style.polish(made)


def panel(head: QHBoxLayout | None, *bodies: QWidget) -> QFrame:
    """A panel with these below one another, as large as there is room."""
    made = QFrame()
    made.setProperty("panel", True)
    column = QVBoxLayout(made)
    column.setContentsMargins(SPACE, SPACE, SPACE, SPACE)
    column.setSpacing(SPACE // 2)
    if head is not None:
        column.addLayout(head)
    for body in bodies:
        column.addWidget(body, 1)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
    return made
