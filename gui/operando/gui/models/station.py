"""The station as the window knows it: its last snapshot, and whether that is the present."""

from __future__ import annotations

import time
from enum import Enum

from operando.gui.link import LinkMessage, Lost
from operando.gui.models.channel import ChannelView, channel_view
from operando.station.client import ChannelStatus, Snapshot


class Connection(Enum):
    """Whether the station is heard. CONNECTING: not yet."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"


class StationModel:
    """What the messages of a `StationLink` add up to.

    connection: CONNECTED from the first snapshot on until a loss. why: in words why it is lost, "".
    since: `time.monotonic()` of the last sign of life when lost, of the connection otherwise, s.
    snapshot: the last one; it stays after a loss but is not current then. channels: of it, by name,
    in the order of the bench.
    """

    def __init__(self) -> None:
        self.connection = Connection.CONNECTING
        self.why = ""
        self.since = time.monotonic()
        self.snapshot: Snapshot | None = None
        self.channels: dict[str, ChannelStatus] = {}

    def apply(self, message: LinkMessage) -> set[str]:
        """Take a message; gives the names of the channels that are to be shown anew.

        After a loss, a return or another start of the station these are all, gone ones too.
        """
        if isinstance(message, Snapshot):
            return self._take(message)
        if isinstance(message, Lost):
            self.connection = Connection.LOST
            self.why, self.since = message.why, message.since
            return set(self.channels)
        # Rows change no state, and `Back` comes after the snapshot that alone can say what is.
        return set()

    def current(self) -> bool:
        """Whether the snapshot is the present."""
        return self.connection is Connection.CONNECTED and self.snapshot is not None

    def unseen(self) -> float | None:
        """Wall s since the last sign of life of a lost station; None when it is not lost."""
        if self.connection is not Connection.LOST:
            return None
        return max(0.0, time.monotonic() - self.since)

    def view(self, name: str) -> ChannelView:
        """What to show of a channel now. KeyError when there is no such channel.

        While the station is lost, ask about once a second: the text of its age changes.
        """
        speed = self.snapshot.speed if self.snapshot is not None else 1.0
        return channel_view(
            self.channels[name],
            current=self.current(),
            speed=speed,
            unseen=self.unseen(),
            now=None if self.snapshot is None else self.snapshot.now,
        )

    def _take(self, snapshot: Snapshot) -> set[str]:
        before, last = self.channels, self.snapshot
        same = last is not None and last.instance == snapshot.instance
        returned = self.connection is not Connection.CONNECTED
        if not returned and last is not None and same and snapshot.serial < last.serial:
            return set()
        self.snapshot = snapshot
        self.channels = {channel.name: channel for channel in snapshot.channels}
        if returned:
            self.connection, self.why, self.since = Connection.CONNECTED, "", time.monotonic()
        names = before.keys() | self.channels.keys()
        if returned or not same:
            return set(names)
        return {name for name in names if before.get(name) != self.channels.get(name)}
