"""Runs of an engine, from the moment they are asked for, and instruments as it met them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from operando.instruments.roles import Identity
from operando.protocols import Runner, RunResult
from operando.station.orders import Order, Settled
from operando.station.resume import TakenUp


@dataclass(frozen=True)
class Run:
    """A run that has ended: how, and where its record is."""

    result: RunResult
    folder: Path


@dataclass
class UnderWay:
    """A run from the moment it was asked for until its record is closed.

    runner, folder: None while the instruments are being connected. started: Unix time of the
    record, s. recorded: done when the record exists, cancelled when it never will. ended: done
    when all is over. stop_reason: why it was asked to end, "" if it was not. driving: whether the
    runner is at work.
    """

    channel: str
    order: Order
    settled: Settled
    recorded: asyncio.Future[Path]
    ended: asyncio.Future[None]
    again: TakenUp | None = None
    runner: Runner | None = None
    folder: Path | None = None
    started: float | None = None
    stop_reason: str = ""
    driving: bool = field(default=False, repr=False)

    def stop(self, reason: str) -> None:
        """End it in the safe state, also if it is still being prepared."""
        self.stop_reason = self.stop_reason or reason
        if self.runner is not None:
            self.runner.abort(reason)

    @property
    def verified_off(self) -> bool:
        """Whether the output is known to be off: never touched by this run, or read back open."""
        return self.runner is None or self.runner.verified_off

    def is_safe(self, actuator: str) -> bool:
        """Whether an actuator was not driven by this run, or its safe state was read back."""
        return self.runner is None or self.runner.is_safe(actuator)


@dataclass(frozen=True)
class Found:
    """What an instrument was found to be when it was last connected.

    identity: None if it did not say. problem: why it cannot be used, "" if it can. output: of a
    potentiostat, read back at Unix time `at`; "unknown" if it was not.
    """

    identity: Identity | None = None
    problem: str = ""
    output: Literal["off", "on", "unknown"] = "unknown"
    simulated: bool = False
    at: float = field(default_factory=time.time, compare=False)
