"""A channel as clients see it: its cell, its instruments, its run under way or its last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operando.instruments.bench import Bench
from operando.instruments.clock import Clock
from operando.instruments.roles import Identity
from operando.records.recorder import FLUSH_SECONDS
from operando.station.channel_state import SERIOUS, LastRun, limits_of
from operando.station.client.models import UNDER_WAY, CellInfo, InstrumentInfo
from operando.station.engine import Engine, UnderWay

BESIDE_FLUSH = 1.0
"""Wall s beside the recorder's flush until a committed row has come to a client."""


def of_last(last: LastRun) -> dict[str, Any]:
    """Fields of a `ChannelStatus` while no run is under way."""
    return {
        "state": last.state,
        "output": last.output,
        "output_at": last.output_at,
        "reason": last.reason,
        "attention": last.attention,
        "run": last.run,
        "protocol": last.protocol,
        "title": last.title,
        "started": last.started,
        "elapsed": last.elapsed,
        "progress": 1.0 if last.state == "completed" else None,
        "step": last.step,
        "step_index": last.step_index,
        "cycle": last.cycle,
        "limits": last.limits,
        "died": last.died,
        "obstacle": last.obstacle,
    }


def of_current(run: UnderWay, last: LastRun, clock: Clock) -> dict[str, Any]:
    """Fields of a `ChannelStatus` while a run is under way. last: the run before it."""
    settled, runner = run.settled, run.runner
    status: dict[str, Any] = {
        "state": "preparing",
        "output": last.output,
        "output_at": last.output_at,
        "stopping": bool(run.stop_reason),
        "reason": run.stop_reason,
        "protocol": run.order.plan.protocol.name,
        "title": run.order.title or run.order.plan.protocol.name,
        "limits": limits_of(run),
        "stale_after": _stale_after(run, clock),
    }
    if runner is None or run.folder is None:
        return status
    tally, ahead = runner.tally, settled.preview
    state, off = runner.state.value, runner.verified_off
    behind = ahead.passed(tally.step_count, tally.elapsed)
    ending = state not in UNDER_WAY and not off
    return status | {
        "state": state,
        "output": "off" if off else "on",
        "output_at": None,
        "stopping": ending or (bool(run.stop_reason) and state in UNDER_WAY),
        "reason": runner.reason or run.stop_reason,
        "attention": state in SERIOUS,
        "run": run.folder.name,
        "started": run.started,
        "elapsed": max(0.0, clock.now() - tally.start),
        "progress": behind / ahead.duration if behind is not None and ahead.duration else None,
        "time_left": None if behind is None else max(0.0, ahead.duration - behind),
        "step": tally.label,
        "step_index": tally.step_count,
        "cycle": tally.cycle if tally.step_count else 0,
    }


def _stale_after(run: UnderWay, clock: Clock) -> float:
    """Age of the newest committed row at which something is wrong, s of laboratory time."""
    settings = run.settled.settings
    between = max(settings.poll.interval, settings.record.every)
    on_its_way = clock.lab(FLUSH_SECONDS + BESIDE_FLUSH)
    return max(3.0 * between + 1.0, between + on_its_way)


def cell_on(bench: Bench, channel: str) -> CellInfo | None:
    """The cell on a channel of a bench; None if it has none."""
    cell = bench.cells.get(bench.channels[channel].cell)
    if cell is None:
        return None
    return CellInfo(
        name=cell.name,
        capacity=cell.capacity or None,
        active_mass=cell.active_mass or None,
        area=cell.area or None,
        one_c=cell.one_c,
        metadata={key: _plain(value) for key, value in cell.metadata.items()},
    )


def instruments_on(
    engine: Engine, channel: str, simulated: Mapping[str, bool]
) -> tuple[InstrumentInfo, ...]:
    """The instruments of a channel as they were last met. simulated: by name, before they were."""
    infos = []
    on = engine.bench.channels[channel]
    for role, name in (*on.roles.items(), *(("shared", name) for name in on.shared)):
        entry, found = engine.bench.instruments[name], engine.found.get(name)
        identity = None if found is None else found.identity
        infos.append(
            InstrumentInfo(
                name=name,
                role=role,
                driver=entry.driver,
                address=entry.address,
                identity="" if identity is None else _in_words(identity),
                problem="" if found is None else found.problem,
                simulated=simulated[name] if found is None else found.simulated,
            )
        )
    return tuple(infos)


def _in_words(identity: Identity) -> str:
    words = f"{identity.maker} {identity.model}".strip()
    serial = f"serial {identity.serial}" if identity.serial else ""
    firmware = f"firmware {identity.firmware}" if identity.firmware else ""
    return ", ".join(filter(None, (words, serial, firmware)))


def _plain(value: object) -> str | float | int | bool:
    return value if isinstance(value, str | float | int | bool) else str(value)
