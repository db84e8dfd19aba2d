"""What a record's manifest says: cell, instruments, protocol, limits and versions of a run."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.clock import Clock
from operando.instruments.roles import Identity, Instrument
from operando.protocols import ProtocolFunction
from operando.station.assembly import driver_info
from operando.station.orders import Order, Settled


def described_instrument(
    entry: InstrumentEntry, identity: Identity, instrument: Instrument, *, simulated: bool
) -> dict[str, Any]:
    """An instrument as the run met it, as plain data."""
    return {
        "driver": entry.driver,
        "document": driver_info(entry.driver).document,
        "address": entry.address,
        "identity": asdict(identity),
        "settings": dict(entry.settings),
        "calibration": _calibration(entry, instrument),
        "simulated": simulated,
    }


def _script_of(protocol: ProtocolFunction) -> dict[str, Any]:
    """Path and text of the file that a protocol was loaded from, where a recipe names one."""
    script = protocol.script
    return {} if script is None else {"file": str(script.path), "text": script.text}


def _calibration(entry: InstrumentEntry, instrument: Instrument) -> dict[str, Any] | None:
    """What the bench file states, and what the instrument's settings add: a tare, a piston."""
    written = entry.calibration
    stated = {
        "due": written.due.isoformat() if written.due else "",
        "certificate": written.certificate,
    }
    known = {key: value for key, value in stated.items() if value}
    return known | (getattr(instrument, "calibration", None) or {}) or None


def manifest_of(
    settled: Settled,
    order: Order,
    bench: Bench,
    instruments: Mapping[str, Mapping[str, Any]],
    started: float,
    clock: Clock,
    random_seed: int,
) -> dict[str, Any]:
    """The manifest of a run.

    instruments: by name, from `described_instrument`. started: Unix time of the record, s.
    """
    plan, cell = order.plan, settled.cell.entry
    # By the wall's clock, which a scaled one leaves. In virtual time equal runs make equal
    # records.
    made = {} if clock.mode == "virtual" else {"made": datetime.now(UTC).isoformat()}
    return made | {
        "started": datetime.fromtimestamp(started, UTC).isoformat(),
        "channel": settled.entry.name,
        "roles": dict(settled.entry.roles),
        "shared": list(settled.entry.shared),
        "cell": {
            "name": cell.name,
            "capacity": cell.capacity,
            "active_mass": cell.active_mass,
            "area": cell.area,
            "one_c": cell.one_c,
            "preset": cell.preset,
            "metadata": dict(cell.metadata),
        },
        "seed": cell.seed,
        "random_seed": random_seed,
        "instruments": dict(instruments),
        "bench": bench.path.read_text(encoding="utf-8"),
        "protocol": {
            "name": plan.protocol.name,
            "source": plan.protocol.source,
            "source_hash": plan.protocol.source_hash,
            **_script_of(plan.protocol),
            "parameters": dict(plan.parameters),
        },
        "title": order.title,
        "recipe": order.recipe_text,
        "recipe_path": order.recipe_path,
        "limits": {
            limit.name: {
                "when": str(limit.when),
                "action": limit.action.value,
                "grace": limit.grace,
                "stale_after": limit.stale_after,
            }
            for limit in settled.limits
        },
        "poll_interval": settled.settings.poll.interval,
        "software": {
            "operando": importlib.metadata.version("operando"),
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "clock": {"mode": clock.mode, "speed": clock.speed},
        "simulated": any(one["simulated"] for one in instruments.values()),
    }
