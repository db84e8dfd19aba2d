"""What a run looks at before its first step: what is around the cell, then the cell at rest.

All findings go into one entry of the journal. What keeps the run from starting ends it before
anything is driven: with something wrong around it the cell is not touched, and with something
wrong at rest it sees no signal.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from operando.instruments.errors import BadInputError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.roles import OpenCircuit, Protection
from operando.instruments.samples import AuxReading
from operando.instruments.techniques import Spectroscope
from operando.protocols.monitors import readings_of
from operando.protocols.preflight import (
    Finding,
    contact_points,
    contact_request,
    judge_contact,
    judge_rest,
    judge_surroundings,
    overridden,
    settled,
    why_no_contact,
)
from operando.protocols.run import Channel, RunSettings
from operando.protocols.tally import Tally

ROOM = 0.05
"""V around the cell's voltage within which its contacts are checked: ten amplitudes. Our choice."""


class Preparation:
    """The checks of one run. done: whether the cell may be driven.

    note: appends to the journal. take: is given each reading of a monitor.
    """

    def __init__(
        self,
        channel: Channel,
        settings: RunSettings,
        tally: Tally,
        note: Callable[[Entry, Mapping[str, JSON]], Awaitable[None]],
        take: Callable[[AuxReading], None],
    ) -> None:
        self._channel = channel
        self._settings = settings
        self._tally = tally
        self._note = note
        self._take = take
        self._around: list[Finding] = []
        self._at_rest: list[Finding] = []
        self.done = False

    async def around(self) -> None:
        """Look at what stands around the cell and tell its potentiostat the run's bounds.

        Raises BadInputError for what keeps the run from starting.
        """
        readings: list[AuxReading] = []
        for monitor in self._channel.monitors.values():
            readings += await readings_of(monitor)
        self._around = self._overridden(
            [*self._settings.found, *judge_surroundings(readings, self._settings.preflight)]
        )
        if any(finding.refuses for finding in self._around):
            await self._refuse()
        for reading in readings:
            self._take(reading)
        await self._channel.potentiostat.prepare(self._settings.protection)

    async def at_rest(self, limit: float) -> None:
        """Look at the cell at zero current, and at its contacts. limit: compliance, V."""
        potentiostat, settings = self._channel.potentiostat, self._settings
        await potentiostat.apply(OpenCircuit(limit))
        reading = await settled(potentiostat)
        self._tally.rest_voltage = reading.voltage
        self._at_rest = self._overridden(judge_rest(reading, settings.open_circuit))
        expected = settings.preflight.contact
        if expected is None or any(finding.refuses for finding in self._at_rest):
            return  # a cell that is not the expected one sees no signal
        contact = await self._contact(reading.voltage, expected)
        self._at_rest += self._overridden([contact])

    async def _contact(self, voltage: float, expected: tuple[float, float]) -> Finding:
        potentiostat, run = self._channel.potentiostat, self._settings.protection
        highest = (potentiostat.capabilities.current or (0.0, math.inf))[1]
        request = contact_request(voltage, expected, highest)
        if not isinstance(potentiostat, Spectroscope):
            return Finding("contact", f"not measured: {why_no_contact(potentiostat, request)}")
        # The bounds of the run need not hold the cell's own voltage, nor this current.
        wide = min(run.voltage[0], voltage - ROOM), max(run.voltage[1], voltage + ROOM)
        bounds = Protection(wide, max(run.current, request.current_limit))
        await self._channel.potentiostat.prepare(bounds)
        if why_not := why_no_contact(potentiostat, request):
            finding = Finding("contact", f"not measured: {why_not}")
        else:
            finding = judge_contact(await contact_points(potentiostat, request), expected)
        await self._channel.potentiostat.prepare(run)
        return finding

    async def judge(self) -> None:
        """Journal all findings. Raises BadInputError for what keeps the run from starting."""
        if any(finding.refuses for finding in self._at_rest):
            await self._refuse()
        await self._journal()
        self.done = True

    def _overridden(self, findings: Sequence[Finding]) -> list[Finding]:
        return overridden(findings, self._settings.preflight.override)

    async def _refuse(self) -> None:
        await self._journal()
        findings = [*self._around, *self._at_rest]
        problems = "; ".join(finding.problem for finding in findings if finding.refuses)
        raise BadInputError(f"channel {self._channel.name}: {problems}")

    async def _journal(self) -> None:
        findings: list[JSON] = [one.entry for one in (*self._around, *self._at_rest)]
        await self._note(Entry.NOTE, {"preflight": findings})
