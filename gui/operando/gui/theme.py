"""Colours, sizes and fonts of the window, dark and light, in one place.

No Qt here: colours are texts "#rrggbb". Widgets take a `Theme` and never name a colour themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["idle", "active", "good", "notice", "bad"]
"""What a state means to an operator. idle: nothing happens. active: a run drives or rests a cell.
good: came to its end. notice: waits for somebody. bad: something went wrong or is not known."""

SPACE = 8
"""Unit of all margins and gaps, px; use 1, 2, 3 times it, or half."""

RADIUS = 6
"""Corner of cards, fields and buttons, px."""

FONTS = ("Inter", "Segoe UI", "SF Pro Text", "Helvetica Neue", "Noto Sans", "DejaVu Sans")
"""Families, the first that is there is used."""

SMALL, BODY, LARGE, READOUT = 11, 13, 16, 22
"""Sizes of text, px."""


@dataclass(frozen=True, slots=True)
class Theme:
    """One appearance.

    background: of the window. surface: of cards and panels. raised: of fields and buttons.
    line: hairlines and borders. text, muted, faint: three weights of text.
    accent: what can be pressed and what is chosen. danger: stop buttons; on_danger: text on it.
    simulated: the SIMULATED mark.
    voltage, current, pressure, charge, temperature: of curves, one quantity one colour anywhere.
    idle ... bad: tones of states. grid: lines of plots. gap: time that was not observed.
    cycles: first and last colour of a sequence of cycles, interpolated between.
    """

    name: Literal["dark", "light"]
    background: str
    surface: str
    raised: str
    line: str
    text: str
    muted: str
    faint: str
    accent: str
    on_accent: str
    danger: str
    on_danger: str
    simulated: str
    on_simulated: str
    idle: str
    active: str
    good: str
    notice: str
    bad: str
    voltage: str
    current: str
    pressure: str
    charge: str
    temperature: str
    limit: str
    grid: str
    gap: str
    cycles: tuple[str, str]

    def tone(self, tone: Tone) -> str:
        """Colour of a tone."""
        colour: str = getattr(self, tone)
        return colour

    def quantity(self, name: str) -> str:
        """Colour of a quantity's curve; that of plain text for one without its own."""
        names = {"voltage", "current", "pressure", "charge", "temperature"}
        name = name.removeprefix("chamber_")
        colour: str = getattr(self, name) if name in names else self.text
        return colour


DARK = Theme(
    name="dark",
    background="#14171c",
    surface="#1c2027",
    raised="#262b34",
    line="#333a45",
    text="#e8eaee",
    muted="#a3abb8",
    faint="#818b9b",
    accent="#5b9cf5",
    on_accent="#0e1116",
    danger="#d6453d",
    on_danger="#ffffff",
    simulated="#e0a526",
    on_simulated="#1a1405",
    idle="#7b8494",
    active="#4cc38a",
    good="#5b9cf5",
    notice="#e0a526",
    bad="#f0635a",
    voltage="#6cb0ff",
    current="#f2a65a",
    pressure="#c792ea",
    charge="#5fd0a5",
    temperature="#f07178",
    limit="#f0635a",
    grid="#2b313b",
    gap="#3a3226",
    cycles=("#3d6fb8", "#9fd0ff"),
)

LIGHT = Theme(
    name="light",
    background="#f3f4f6",
    surface="#ffffff",
    raised="#f0f2f5",
    line="#d5d9e0",
    text="#1a1e25",
    muted="#525b69",
    faint="#697281",
    accent="#1f66c9",
    on_accent="#ffffff",
    danger="#c22f28",
    on_danger="#ffffff",
    simulated="#b47a00",
    on_simulated="#ffffff",
    idle="#757e8c",
    active="#14804a",
    good="#1f66c9",
    notice="#a86b00",
    bad="#c22f28",
    voltage="#1f66c9",
    current="#c25e00",
    pressure="#7b3fb5",
    charge="#0f7d5c",
    temperature="#b83240",
    limit="#c22f28",
    grid="#e6e9ee",
    gap="#f4ead6",
    cycles=("#9cc3f5", "#123f7d"),
)

THEMES = {theme.name: theme for theme in (DARK, LIGHT)}
