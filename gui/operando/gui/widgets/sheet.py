"""The stylesheet of the whole window, as text. No Qt here and no fonts: see `style.font`."""

from __future__ import annotations

from operando.gui.theme import RADIUS, SPACE, Theme


def mix(first: str, second: str, share: float) -> str:
    """A colour between two, "#rrggbb". share: 1 is the first, 0 the second."""
    parts = (
        round(int(first[i : i + 2], 16) * share + int(second[i : i + 2], 16) * (1.0 - share))
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02x}" for part in parts)


def stylesheet(theme: Theme) -> str:
    """One stylesheet for the whole application.

    Properties that it answers to: `kind` of push buttons (plain, accent, stop, danger,
    quiet), `role` of
    labels (muted, faint, accent, a tone), `panel` of frames (true), `invalid` of fields (true).
    """
    return "\n".join((_base(theme), _buttons(theme), _fields(theme), _views(theme), _frame(theme)))


def _base(theme: Theme) -> str:
    roles = "\n".join(
        f'QLabel[role="{name}"] {{ color: {value}; }}'
        for name, value in (
            ("muted", theme.muted),
            ("faint", theme.faint),
            ("accent", theme.accent),
            ("idle", theme.idle),
            ("active", theme.active),
            ("good", theme.good),
            ("notice", theme.notice),
            ("bad", theme.bad),
            ("problem", theme.bad),
        )
    )
    return f"""
QMainWindow, QDialog, QStackedWidget, #page {{ background: {theme.background}; }}
QWidget {{ color: {theme.text}; }}
QTabWidget > QStackedWidget {{ background: transparent; }}
QLabel {{ background: transparent; }}
{roles}
QToolTip {{
    color: {theme.text}; background: {theme.raised};
    border: 1px solid {theme.line}; padding: {SPACE // 2}px {SPACE}px;
}}
QFrame[hairline="true"] {{ background: {theme.line}; border: none; }}
QFrame[panel="true"] {{
    background: {theme.surface}; border: 1px solid {theme.line}; border-radius: {RADIUS}px;
}}
QScrollArea {{ background: transparent; border: none; }}
QScrollArea > QWidget > QWidget {{ background: transparent; }}
QSplitter::handle {{ background: {theme.line}; }}
QSplitter::handle:horizontal {{ width: 1px; }}
QSplitter::handle:vertical {{ height: 1px; }}
"""


def _buttons(theme: Theme) -> str:
    hover = mix(theme.text, theme.raised, 0.08)
    press = mix(theme.text, theme.raised, 0.16)
    accent_hover = mix(theme.text, theme.accent, 0.14)
    danger_hover = mix("#ffffff", theme.danger, 0.12)
    danger_press = mix("#000000", theme.danger, 0.18)
    stop = mix(theme.danger, theme.surface, 0.16)
    stop_edge = mix(theme.danger, theme.surface, 0.55)
    off = mix(theme.raised, theme.surface, 0.5)
    return f"""
QPushButton {{
    background: {theme.raised}; color: {theme.text}; border: 1px solid {theme.line};
    border-radius: {RADIUS}px; padding: 0 {3 * SPACE // 2}px;
    min-height: {4 * SPACE - 2}px;
}}
QPushButton:hover {{ background: {hover}; }}
QPushButton:pressed, QPushButton:checked {{ background: {press}; }}
QPushButton:focus {{ border-color: {theme.accent}; }}
QPushButton:disabled {{ background: {off}; color: {theme.faint}; border-color: {theme.line}; }}
QPushButton[kind="accent"] {{
    background: {theme.accent}; color: {theme.on_accent}; border-color: {theme.accent};
}}
QPushButton[kind="accent"]:hover {{ background: {accent_hover}; }}
QPushButton[kind="accent"]:focus {{ border-color: {theme.text}; }}
QPushButton[kind="accent"]:disabled {{
    background: {off}; color: {theme.faint}; border-color: {theme.line};
}}
QPushButton[kind="stop"] {{
    background: {stop}; color: {theme.bad}; border-color: {stop_edge};
}}
QPushButton[kind="stop"]:hover {{
    background: {theme.danger}; color: {theme.on_danger}; border-color: {theme.danger};
}}
QPushButton[kind="stop"]:pressed {{ background: {danger_press}; color: {theme.on_danger}; }}
QPushButton[kind="stop"]:focus {{ border-color: {theme.text}; }}
QPushButton[kind="stop"]:disabled {{
    background: transparent; color: {theme.faint}; border-color: {theme.line};
}}
QPushButton[kind="danger"] {{
    background: {theme.danger}; color: {theme.on_danger}; border-color: {theme.danger};
}}
QPushButton[kind="danger"]:hover {{ background: {danger_hover}; border-color: {danger_hover}; }}
QPushButton[kind="danger"]:pressed {{ background: {danger_press}; border-color: {danger_press}; }}
QPushButton[kind="danger"]:focus {{ border-color: {theme.text}; }}
QPushButton[kind="danger"]:disabled {{
    background: transparent; color: {theme.faint}; border-color: {theme.line};
}}
QPushButton[kind="quiet"] {{
    background: transparent; border-color: transparent; color: {theme.muted};
}}
QPushButton[kind="quiet"]:hover {{ background: {theme.raised}; color: {theme.text}; }}
QPushButton[kind="quiet"]:focus {{ border-color: {theme.accent}; }}
QPushButton[kind="quiet"]:disabled {{ color: {theme.faint}; }}
QToolButton {{
    background: transparent; color: {theme.muted}; border: 1px solid transparent;
    border-radius: {RADIUS}px;
}}
QToolButton:hover {{ background: {theme.raised}; color: {theme.text}; }}
QToolButton:checked {{ background: {theme.raised}; color: {theme.text}; }}
QToolButton:focus {{ border-color: {theme.accent}; }}
"""


def _fields(theme: Theme) -> str:
    fields = "QLineEdit, QPlainTextEdit, QTextEdit, QComboBox, QSpinBox, QDoubleSpinBox"
    focused = ", ".join(f"{name}:focus" for name in fields.split(", "))
    invalid = ", ".join(f'{name}[invalid="true"]' for name in fields.split(", "))
    disabled = ", ".join(f"{name}:disabled" for name in fields.split(", "))
    return f"""
{fields} {{
    background: {theme.raised}; color: {theme.text}; border: 1px solid {theme.line};
    border-radius: {RADIUS}px; padding: 0 {SPACE}px;
    selection-background-color: {theme.accent}; selection-color: {theme.on_accent};
}}
QLineEdit, QComboBox, QSpinBox, QDoubleSpinBox {{ min-height: {4 * SPACE - 2}px; }}
QPlainTextEdit, QTextEdit {{ padding: {SPACE // 2}px; }}
{focused} {{ border-color: {theme.accent}; }}
{invalid} {{ border-color: {theme.bad}; }}
{disabled} {{ color: {theme.faint}; }}
QComboBox::drop-down {{ border: none; width: {3 * SPACE}px; }}
QComboBox QAbstractItemView {{
    background: {theme.raised}; color: {theme.text}; border: 1px solid {theme.line};
    selection-background-color: {theme.accent}; selection-color: {theme.on_accent};
}}
QCheckBox, QRadioButton {{ spacing: {SPACE}px; }}
QProgressBar {{
    background: {theme.raised}; border: none; border-radius: 2px; max-height: 4px;
}}
QProgressBar::chunk {{ background: {theme.accent}; border-radius: 2px; }}
"""


def _views(theme: Theme) -> str:
    stripe = mix(theme.raised, theme.surface, 0.35)
    chosen = mix(theme.accent, theme.surface, 0.22)
    return f"""
QTableView, QTreeView, QListView {{
    background: {theme.surface}; alternate-background-color: {stripe};
    border: 1px solid {theme.line}; border-radius: {RADIUS}px; gridline-color: {theme.line};
    selection-background-color: {chosen}; selection-color: {theme.text}; outline: none;
}}
QTableView::item, QTreeView::item, QListView::item {{ padding: 0 {SPACE}px; border: none; }}
QTableView::item:selected {{ background: {chosen}; color: {theme.text}; }}
QTableView:focus {{ border-color: {theme.accent}; }}
QTableView QTableCornerButton::section {{ background: {theme.surface}; border: none; }}
QHeaderView {{ background: {theme.surface}; border: none; }}
QHeaderView::section {{
    background: {theme.surface}; color: {theme.muted}; border: none;
    border-bottom: 1px solid {theme.line}; padding: {SPACE - 2}px {SPACE + 3}px;
}}
QTabWidget::pane {{ border: none; border-top: 1px solid {theme.line}; }}
QTabBar {{ background: transparent; }}
QTabBar::tab {{
    background: transparent; color: {theme.muted}; border: none;
    border-bottom: 2px solid transparent; padding: {SPACE}px {3 * SPACE // 2}px;
}}
QTabBar::tab:hover {{ color: {theme.text}; }}
QTabBar::tab:selected {{ color: {theme.text}; border-bottom-color: {theme.accent}; }}
QTabBar::tab:focus {{ color: {theme.accent}; }}
QScrollBar:vertical {{ background: transparent; width: 12px; margin: 0; border: none; }}
QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 0; border: none; }}
QScrollBar::handle {{ background: {theme.line}; border-radius: 4px; margin: 2px; }}
QScrollBar::handle:vertical {{ min-height: {4 * SPACE}px; }}
QScrollBar::handle:horizontal {{ min-width: {4 * SPACE}px; }}
QScrollBar::handle:hover {{ background: {theme.faint}; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; border: none; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QMenu {{ background: {theme.raised}; border: 1px solid {theme.line}; padding: {SPACE // 2}px; }}
QMenu::item {{ padding: {SPACE // 2}px {2 * SPACE}px; border-radius: {RADIUS - 2}px; }}
QMenu::item:selected {{ background: {theme.accent}; color: {theme.on_accent}; }}
"""


def _frame(theme: Theme) -> str:
    chosen = mix(theme.accent, theme.surface, 0.16)
    return f"""
#header {{ background: {theme.surface}; border-bottom: 1px solid {theme.line}; }}
#rail {{ background: {theme.surface}; border-right: 1px solid {theme.line}; }}
#rail QToolButton {{ color: {theme.muted}; border-radius: {RADIUS}px; }}
#rail QToolButton:hover {{ background: {theme.raised}; color: {theme.text}; }}
#rail QToolButton:checked {{ background: {chosen}; color: {theme.accent}; }}
#side-panel {{ background: {theme.surface}; border-left: 1px solid {theme.line}; }}
#stop-all {{ padding: 0 {2 * SPACE}px; min-height: {5 * SPACE - 2}px; }}
"""
