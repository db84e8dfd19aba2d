"""All channels at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from PyQt6.QtCore import QRect, Qt, pyqtSignal
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from operando.gui.models.channel import NOT_VERIFIED, ChannelView
from operando.gui.theme import BODY, LARGE, SPACE, Theme, Tone
from operando.gui.widgets.card import ChannelCard
from operando.gui.widgets.style import Role, label
from operando.station.client import Rows

NARROWEST, WIDEST = 44 * SPACE, 88 * SPACE
"""Width of a card, px."""

TALLEST = 46 * SPACE
"""Height of a card where there is room, px; its least is what it needs."""

GAP = 3 * SPACE // 2
COLUMNS = 4

RANK: tuple[Tone, ...] = ("bad", "notice", "active", "good", "idle")


def columns_for(width: int, count: int) -> int:
    """How many cards stand side by side: as many as fit, but no row nearly empty.

    width: px. count: of all cards.
    """
    fit = max(1, min(COLUMNS, (width + GAP) // (NARROWEST + GAP), count))
    rows = -(-count // fit)
    return -(-count // rows)


def summary(views: Iterable[ChannelView]) -> list[tuple[str, Tone]]:
    """How many channels are in which state, what wants somebody first: [("1 tripped", "bad")].

    No word comes twice; it has the worst tone of its channels.
    """
    counts: Counter[str] = Counter()
    tones: dict[str, Tone] = {}
    lost = False
    for view in views:
        word = _word(view)
        counts[word] += 1
        tones[word] = min(tones.get(word, view.tone), view.tone, key=RANK.index)
        lost |= view.last_seen
    ordered = sorted(counts.items(), key=lambda item: (RANK.index(tones[item[0]]), -item[1]))
    parts = [(f"{count} {word}", tones[word]) for word, count in ordered]
    if parts and lost:
        parts[0] = (f"last seen: {parts[0][0]}", parts[0][1])
    return parts


def _word(view: ChannelView) -> str:
    """What a channel is counted as: its state, or what is more urgent than that."""
    if view.output_text == NOT_VERIFIED and not view.attention:
        return "with output not verified"
    state, _, acknowledged = view.word.partition(", ")
    if view.stale and not view.last_seen:
        return f"{state} without new readings"
    return acknowledged or state.rstrip("…")


class _Flow(QWidget):
    """Cards in rows and columns, as wide and as tall as there is room."""

    def __init__(self) -> None:
        super().__init__()
        self.cards: list[ChannelCard] = []
        self.room = 0

    def arrange(self) -> None:
        """Place the cards in the present width."""
        if not self.cards:
            self.setMinimumHeight(0)
            return
        width = self.width() - 4 * SPACE
        columns = columns_for(width, len(self.cards))
        rows = -(-len(self.cards) // columns)
        across = min(WIDEST, (width - (columns - 1) * GAP) // columns)
        least = max(card.minimumSizeHint().height() for card in self.cards)
        share = (self.room - 2 * SPACE - (rows - 1) * GAP) // rows
        down = max(least, min(TALLEST, share))
        for index, card in enumerate(self.cards):
            row, column = divmod(index, columns)
            card.setGeometry(
                QRect(2 * SPACE + column * (across + GAP), row * (down + GAP), across, down)
            )
        self.setMinimumHeight(rows * down + (rows - 1) * GAP + 2 * SPACE)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Another width, another order."""
        self.arrange()


class _Scroll(QScrollArea):
    def __init__(self, flow: _Flow) -> None:
        super().__init__()
        self._flow = flow
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(flow)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Tell the cards how much is in sight."""
        if event is not None:
            self._flow.room = event.size().height()
        super().resizeEvent(event)
        self._flow.arrange()


class GridPage(QWidget):
    """A card for every channel, and over them how many are in which state."""

    opened = pyqtSignal(str)
    start_requested = pyqtSignal(str)
    pause_requested = pyqtSignal(str)
    resume_requested = pyqtSignal(str)
    stop_requested = pyqtSignal(str)
    acknowledge_requested = pyqtSignal(str)
    continue_requested = pyqtSignal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("page")
        self._theme = theme
        self.cards: dict[str, ChannelCard] = {}
        self._counts: list[tuple[str, Tone]] = []
        self._flow = _Flow()
        self.area = _Scroll(self._flow)
        self.area.setAccessibleName("Cards of the channels")
        self.area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its cards are reached themselves
        self._empty = label("", "muted", size=BODY)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._summary = QHBoxLayout()
        self._summary.setSpacing(SPACE)
        head = QHBoxLayout()
        head.setContentsMargins(2 * SPACE, 2 * SPACE, 2 * SPACE, GAP)
        head.setSpacing(2 * SPACE)
        head.addWidget(label("Channels", size=LARGE, bold=True))
        head.addLayout(self._summary)
        head.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(head)
        column.addWidget(self._empty, 1)
        column.addWidget(self.area, 1)
        self.area.hide()
        self.say_empty("Connecting to the station…")

    def say_empty(self, text: str) -> None:
        """What stands there while there are no channels."""
        self._empty.setText(text)

    def set_channels(self, names: Sequence[str]) -> None:
        """Have a card for each of these channels, in this order."""
        if names == list(self.cards):
            return
        for name in [name for name in self.cards if name not in names]:
            gone = self.cards.pop(name)
            gone.hide()
            gone.deleteLater()
        for name in names:
            if name not in self.cards:
                self.cards[name] = self._card(name)
        self.cards = {name: self.cards[name] for name in names}
        self._flow.cards = list(self.cards.values())
        for before, after in zip(self._flow.cards, self._flow.cards[1:], strict=False):
            self.setTabOrder(before, after)
        self._flow.arrange()
        self.area.setVisible(bool(names))
        self._empty.setVisible(not names)

    def show_views(self, views: Mapping[str, ChannelView], changed: Iterable[str]) -> None:
        """Show the channels that changed. views: all of them, by name."""
        for name in changed:
            if name in self.cards and name in views:
                self.cards[name].show_view(views[name])
        self._count(summary(views.values()))

    def summary_text(self) -> str:
        """The line over the cards."""
        return " · ".join(text for text, _ in self._counts)

    def apply_rows(self, name: str, rows: Rows) -> None:
        """Continue a channel's trend."""
        if name in self.cards:
            self.cards[name].apply_rows(rows)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        for card in self.cards.values():
            card.set_theme(theme)

    def _card(self, name: str) -> ChannelCard:
        card = ChannelCard(self._theme, name)
        card.setParent(self._flow)
        card.opened.connect(self.opened)
        card.start_requested.connect(self.start_requested)
        card.pause_requested.connect(self.pause_requested)
        card.resume_requested.connect(self.resume_requested)
        card.stop_requested.connect(self.stop_requested)
        card.acknowledge_requested.connect(self.acknowledge_requested)
        card.continue_requested.connect(self.continue_requested)
        card.show()
        return card

    def _count(self, counts: list[tuple[str, Tone]]) -> None:
        if counts == self._counts:
            return
        self._counts = counts
        while (item := self._summary.takeAt(0)) is not None:
            if (gone := item.widget()) is not None:
                gone.hide()
                gone.deleteLater()
        for index, (text, tone) in enumerate(counts):
            if index:
                self._summary.addWidget(label("·", "faint"))
            role: Role = "muted" if tone == "idle" else tone
            made = label(text, role, bold=tone in {"bad", "notice"})
            made.setObjectName(f"summary-{index}")
            self._summary.addWidget(made)
