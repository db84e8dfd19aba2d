"""Dark or light: as it was chosen, else as the desktop is; and what a window remembers."""

from __future__ import annotations

from PyQt6.QtCore import QSettings, Qt
from PyQt6.QtGui import QGuiApplication
from PyQt6.QtWidgets import QApplication

from operando.gui.theme import DARK, LIGHT, THEMES, Theme
from operando.gui.widgets.style import palette, stylesheet


def settings() -> QSettings:
    """What a window remembers of how it was left."""
    return QSettings(QSettings.defaultFormat(), QSettings.Scope.UserScope, "operando", "window")


def system_theme() -> Theme:
    """That of the desktop; dark when it does not say."""
    hints = QGuiApplication.styleHints()
    if hints is not None and hasattr(hints, "colorScheme"):  # Qt 6.5
        return LIGHT if hints.colorScheme() == Qt.ColorScheme.Light else DARK
    return DARK


def remembered_theme() -> Theme | None:
    """The one that was chosen in a window before."""
    name = settings().value("theme")
    return next((theme for theme in THEMES.values() if theme.name == name), None)


def remember_theme(theme: Theme) -> None:
    """Open the next window in it, too."""
    settings().setValue("theme", theme.name)


def apply_theme(theme: Theme) -> None:
    """Colour the whole application."""
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    app.setPalette(palette(theme))
    app.setStyleSheet(stylesheet(theme))
