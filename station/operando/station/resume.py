"""Runs whose program died: what their records tell, and whether they can go on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from operando.instruments.bench import Bench
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Limit, parse_limits
from operando.instruments.recipe import parse_recipe
from operando.instruments.recorder import JSON, Entry
from operando.instruments.roles import Identity
from operando.protocols import Cell
from operando.protocols.replay import History, Noted, Resumption, Tail, history_of, resume
from operando.records import Record, find_records
from operando.station.details import made
from operando.station.orders import Order, Settled, order_from, settle


@dataclass(frozen=True)
class TakenUp:
    """A run that goes on. folder, manifest: of its record. cell: with the run's random numbers."""

    folder: Path
    manifest: Mapping[str, JSON]
    order: Order
    settled: Settled
    cell: Cell
    resumption: Resumption

    def started(self, clock: Clock) -> float:
        """Unix time (s) at which the run began, by a clock of this program.

        A clock that was set back since does not make the run go back in time.
        """
        now = clock.utc()
        began = datetime.fromisoformat(str(self.manifest["started"])).timestamp()
        if clock.mode == "scaled":
            # Its Unix time begins anew with each program; the wall's tells how long ago it was.
            began = now - clock.speed * (time.time() - made(self.folder, self.manifest))
        return min(began, now - self.resumption.history.noted_until)

    def check_instrument(self, name: str, identity: Identity, *, simulated: bool) -> None:
        """Raise BadInputError if another instrument than the run's own answers."""
        known = _table(_table(self.manifest.get("instruments")).get(name))
        serial = _table(known.get("identity")).get("serial")
        if serial != identity.serial:
            raise BadInputError(
                f"{name}: the run began with serial number {serial or 'none'}, now "
                f"{identity.serial or 'none'} answers. Nothing was written. Was the cell moved?"
            )
        if known.get("simulated") is not simulated:
            was, now = ("simulated", "real") if known.get("simulated") else ("real", "simulated")
            raise BadInputError(
                f"{name}: the run began with a {was} instrument, now a {now} one answers. Nothing "
                "was written; start a new run"
            )


def history_in(record: Record) -> History:
    """What a record tells of a run that nobody ended. Raises BadInputError, RecordError."""
    journal = [Noted(entry.entry, entry.time, entry.data) for entry in record.journal()]
    (spectra,) = record.rows("SELECT COALESCE(MAX(spectrum_index), 0) FROM spectra")[0]
    return history_of(journal, _tail_of(record), int(spectra))


def _tail_of(record: Record) -> Tail:
    fields = (
        "test_time_second, step_count, net_charge_coulomb, net_energy_joule, "
        "step_net_charge_coulomb, step_time_second"
    )
    rows = record.rows(f"SELECT {fields} FROM samples ORDER BY record_index DESC LIMIT 1")
    if not rows:
        return Tail()
    time, step, charge, energy, step_charge, step_time = rows[0]
    before = record.rows(
        "SELECT net_energy_joule FROM samples WHERE step_count < ? ORDER BY record_index DESC "
        "LIMIT 1",
        (step,),
    )
    step_energy = energy - (before[0][0] if before else 0.0)
    return Tail(time, int(step), charge, energy, step_charge, step_energy, step_time)


def order_in(record: Record, bench: Bench) -> Order:
    """What a run was to do, from the recipe in its record. Raises BadInputError."""
    recipe = record.manifest.get("recipe")
    if not isinstance(recipe, str) or not recipe:
        raise BadInputError(
            f"{record.folder}: the run was started by a script and its record holds no recipe. "
            'Resume it from the script: bench["A1"].resume(plan, record=...)'
        )
    path = Path(str(record.manifest.get("recipe_path") or record.folder / "recipe.toml"))
    return order_from(parse_recipe(recipe, path), bench.scripts)


def taken_up(bench: Bench, clock: Clock, folder: Path, order: Order | None = None) -> TakenUp:
    """Whether a run can go on, and where. Touches nothing. Raises BadInputError, RecordError.

    clock: by which it would go on. order: what it was to do; that of its recipe if None. Its limits
    are those that the run began with, whatever would be the default ones by now.
    """
    record = Record.open(folder)
    state = record.state
    if state != "killed":
        why = "it is still running" if state == "running" else f"it ended {state}"
        raise BadInputError(f"{folder}: there is nothing to resume: {why}")
    manifest = record.manifest
    _check_clock(record, clock)
    _check_last(record)
    if order is None:
        order = order_in(record, bench)
    order = replace(order, limits=_limits_in(record))
    settled = settle(bench, str(manifest.get("channel")), order)
    _check_same(record, order, settled)
    seed = manifest.get("random_seed")
    cell = replace(settled.cell, seed=int(seed) if isinstance(seed, int | float) else 0)
    history = history_in(record)
    try:
        resumption = resume(order.plan.groups(cell), history)
    except BadInputError as error:
        raise BadInputError(f"{folder}: {error}") from error
    return TakenUp(folder, manifest, order, settled, cell, resumption)


def _limits_in(record: Record) -> tuple[Limit, ...]:
    """The limits that a run began with."""
    written = {
        name: {
            key: f"{value} s" if key in _SECONDS else value for key, value in _table(one).items()
        }
        for name, one in _table(record.manifest.get("limits")).items()
    }
    return parse_limits(written, str(record.folder))


_SECONDS = frozenset({"grace", "stale_after"})


def _check_clock(record: Record, clock: Clock) -> None:
    """Raise BadInputError unless laboratory time goes on as it did in the record."""
    known = _table(record.manifest.get("clock"))
    mode, speed = known.get("mode"), known.get("speed")
    if mode == "virtual" and clock.mode != "virtual":
        raise BadInputError(
            f"{record.folder}: the run was simulated in virtual time, and its cell is gone with "
            "the program. Run it again: it takes no time"
        )
    if (mode, speed) != (clock.mode, clock.speed):
        raise BadInputError(
            f"{record.folder}: the run had a {mode} clock of speed {speed}, and this one is "
            f"{clock.mode} of speed {clock.speed:g}; give the bench the clock that it had"
        )


def _check_last(record: Record) -> None:
    """Raise BadInputError if its cell has been driven by another run since.

    Looks at the records beside it; those of another clock are of another cell.
    """
    mine = made(record.folder, record.manifest)
    for folder in find_records(record.folder.parent):
        other = Record.open(folder)
        if (
            other.cell_name == record.cell_name
            and _table(other.manifest.get("clock")) == _table(record.manifest.get("clock"))
            and made(folder, other.manifest) > mine
            and any(other.journal(Entry.STEP_STARTED))
        ):
            raise BadInputError(
                f"{record.folder}: the cell {record.cell_name} has been driven since, by the run "
                f"{folder.name}; what this one had reached is not there any more. Start a new run"
            )


def _check_same(record: Record, order: Order, settled: Settled) -> None:
    """Raise BadInputError unless protocol, cell and instruments are those of the record."""
    manifest, plan = record.manifest, order.plan
    known, was = _table(manifest.get("protocol")), _table(manifest.get("cell"))
    entry = settled.cell.entry
    pairs: list[tuple[str, object, object]] = [
        ("protocol", known.get("name"), plan.protocol.name),
        ("source of the protocol", known.get("source_hash"), plan.protocol.source_hash),
        ("cell", was.get("name"), entry.name),
        ("capacity of the cell, C", was.get("capacity"), entry.capacity),
        ("area of the cell, m2", was.get("area"), entry.area),
        ("instruments of the channel", manifest.get("roles"), dict(settled.entry.roles)),
    ]
    changed = [f"{what}: {old} then, {new} now" for what, old, new in pairs if old != new]
    if changed:
        raise BadInputError(
            f"{record.folder}: the run cannot go on, because something has changed: "
            f"{'; '.join(changed)}. Restore it, or start a new run"
        )


def interrupted_runs(folder: Path) -> list[Record]:
    """Records at or below a folder whose program died before their run ended."""
    found = []
    for path in find_records(folder):
        record = Record.open(path)
        if record.state == "killed":
            found.append(record)
    return found


def _table(value: JSON) -> dict[str, JSON]:
    return value if isinstance(value, dict) else {}
