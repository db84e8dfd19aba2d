"""Starts that clients asked for: one that is asked for twice, because its answer was lost, is made
once.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

from operando.station.client.client import RefusedError
from operando.station.client.models import RunRequest, Started
from operando.station.runs import UnderWay

REMEMBERED = 32
"""Newest starts of each channel that are remembered, while the station lives."""


@dataclass(eq=False, slots=True)
class Asked:
    """A start that was asked for.

    stops: of its channel when it was asked for first: a stop in between counts, however often it
    is asked for again. answer: the run that was begun, or why it came to no record; None while
    nothing was begun.
    """

    request: RunRequest
    stops: int
    answer: asyncio.Future[Started | str] | None = None


class Starts:
    """The newest starts of each channel by the ids that their clients gave. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, dict[str, Asked]] = {}

    def asked(self, channel: str, request: RunRequest, request_id: str, stops: int) -> Asked:
        """The start of this id, as it was asked for first. stops: of the channel by now.

        Raises RefusedError when the id was that of a different start.
        """
        fresh = Asked(request, stops)
        if not request_id:
            return fresh
        with self._lock:
            of_channel = self._asked.setdefault(channel, {})
            found = of_channel.setdefault(request_id, fresh)
            while len(of_channel) > REMEMBERED:
                del of_channel[next(iter(of_channel))]
        if found.request != request:
            raise RefusedError(
                f"channel {channel} was asked with request id {request_id!r} to start something "
                "else before; nothing was started. Give each start an id of its own"
            )
        return found


async def recorded(run: UnderWay, task: asyncio.Task[str]) -> Started | str:
    """Wait until a run that was begun has its record; in words why it came to none."""
    either: set[asyncio.Future[Any]] = {task, run.recorded}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if run.folder is None:
        await asyncio.wait({task})
        return task.result()
    return Started(run=run.folder.name)


async def begun(channel: str, answer: asyncio.Future[Started | str]) -> Started:
    """What a start is answered; waiting ends with a client that goes away, the start does not."""
    told = await asyncio.shield(answer)
    if isinstance(told, str):
        raise RefusedError(f"channel {channel}: {told}")
    return told
