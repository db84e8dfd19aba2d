"""The cell's circuit: whether it may be closed, and its way to being read back open."""

from __future__ import annotations

import asyncio

from operando.instruments.clock import Clock
from operando.instruments.errors import SafeStateError
from operando.instruments.roles import Potentiostat
from operando.instruments.safety import secure


class Circuit:
    """The output of one run's potentiostat.

    may_be_closed: whether anything was switched on since it was read back open; at first nobody
    knows. opened_at: laboratory time at which it was found open, s.
    """

    def __init__(self, potentiostat: Potentiostat, clock: Clock) -> None:
        self._potentiostat = potentiostat
        self._clock = clock
        self._opening: asyncio.Task[SafeStateError | None] | None = None
        self.may_be_closed = True
        self.opened_at = clock.now()

    def begin_opening(self) -> asyncio.Task[SafeStateError | None]:
        """Start to open it, on a path that waits for nobody, unless that is under way."""
        if self._opening is None or (self._opening.done() and self.may_be_closed):
            self._opening = asyncio.create_task(self._open())
        return self._opening

    async def _open(self) -> SafeStateError | None:
        if not self.may_be_closed:
            return None
        try:
            await secure(self._potentiostat)
        except SafeStateError as error:
            return error
        self.may_be_closed = False
        self.opened_at = self._clock.now()
        return None

    async def opened(self) -> SafeStateError | None:
        """Wait until it was read back open; the error if that could not be verified.

        Cancelling does not stop it.
        """
        task = self.begin_opening()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    def forget(self) -> None:
        """What was opened may be closed again, and then be opened again."""
        self._opening = None
