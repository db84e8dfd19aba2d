"""Edits of a run under way: what is taken, what is refused, and what the journal says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.conditions import CURRENT
from operando.instruments.errors import BadInputError
from operando.protocols import RunState, cccv
from operando.records import Record
from operando.station.client.client import RefusedError
from operando.station.client.models import ChannelStatus
from operando.station.desk import Desk
from operando.station.details import detail_of
from operando.station.engine import Engine, Order
from operando.station.resume import taken_up
from station.served_stub import author
from support.desk_story import REQUEST as PLAIN
from support.desk_story import of, relay, tell, until
from support.dropped import Mortal

BENCH = Path(__file__).parents[2] / "examples" / "bench.toml"
REQUEST = PLAIN.model_copy(
    update={
        "limits": {
            "over_voltage": {"when": "voltage > 4.3 V", "action": "trip"},
            "over_current": {"when": "abs(current) > 3C", "action": "trip"},
        }
    }
)
QUICK = {"charge_rate": "1C", "discharge_rate": "1C", "cv_cutoff": "C/5", "rest": "5 min"}


def limit(status: ChannelStatus, name: str) -> str:
    """At what a limit of a channel acts."""
    return next(one.when for one in status.limits if one.name == name)


def edits(folder: Path, run: str) -> list[str]:
    """What the page of a run tells of its edits."""
    journal = detail_of(Record.open(folder / "runs" / run), (), None, None).journal
    return [line.text for line in journal if line.kind == "edit"]


def test_a_limit_is_changed_acts_and_is_told(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        run = (await desk.start("A1", REQUEST)).run
        await clock.sleep(60.0)
        before = limit(of(desk), "over_current")
        done = await desk.change_limit("A1", "over_voltage", "voltage > 4.29 V", "the test")
        assert "4.29 V now" in done.message
        assert limit(of(desk), "over_voltage") == "voltage > 4.29 V"
        await desk.change_limit("A1", "over_current", "abs(current) > 2.5C", "the test")
        told = limit(of(desk), "over_current")
        assert "mA" in told  # bound to the cell
        await desk.abort("A1")
        assert edits(tmp_path, run) == [
            "limit over_voltage: voltage > 4.3 V -> voltage > 4.29 V, by the test",
            f"limit over_current: {before} -> {told}, by the test",
        ]
        detail = detail_of(Record.open(tmp_path / "runs" / run), (), None, None)
        assert [one.when for one in detail.limits if one.name == "over_current"] == [told]

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("name", "when", "why"),
    [
        ("over_voltage", "voltage > 4.30 A", "4.30 A"),
        ("over_voltage", "volts > 4.30 V", "volts"),
        ("over_voltage", "voltage > 9 V", "believed of a lithium cell"),
        ("over_voltage", "voltage > 4.2 V", "below the window's"),
        ("over_voltage", "voltage < 4.3 V", "nothing would end this run at over-voltage"),
        ("over_voltage", "pressure > 20 MPa", "would leave that unguarded|over-voltage"),
        ("over_voltage", "h2o > 1 ppm", "over-voltage.*measures it"),
        ("over_current", "abs(current) > 1C", "below the highest current"),
        ("no_such", "voltage > 4.3 V", "has no limit 'no_such'; it has: over_voltage"),
    ],
)
def test_a_condition_that_would_be_refused_at_the_start_is_refused_and_changes_nothing(
    tmp_path: Path, name: str, when: str, why: str
) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        run = (await desk.start("A1", REQUEST)).run
        await clock.sleep(60.0)
        before = of(desk).limits
        with pytest.raises(RefusedError, match=why):
            await desk.change_limit("A1", name, when)
        assert of(desk).limits == before
        assert relay(engine)
        await desk.abort("A1")
        assert edits(tmp_path, run) == []

    tell(tmp_path, story)


def test_a_step_is_ended_and_the_next_begins(tmp_path: Path) -> None:
    async def story(desk: Desk, engine: Engine, clock: Clock) -> None:
        with pytest.raises(RefusedError, match="no run under way"):
            await desk.end_step("A1")
        run = (await desk.start("A1", REQUEST)).run
        await clock.sleep(60.0)
        with pytest.raises(RefusedError, match=r"NOTHING WAS ENDED.*step 1 \('charge'\).*not 2"):
            await desk.end_step("A1", 2)
        await desk.end_step("A1", 1, "the test")
        await clock.sleep(10.0)
        assert of(desk).step == "rest after charge"
        assert of(desk).state == "running"
        await until(desk, clock, "completed")
        steps = Record.open(tmp_path / "runs" / run).steps()
        assert (steps[0].reason, len(steps)) == ("operator", 4)
        assert edits(tmp_path, run) == ["step 1 ('charge') was to end at once, by the test"]

    tell(tmp_path, story)


def test_a_changed_limit_is_in_force_in_a_run_that_goes_on_after_a_crash(tmp_path: Path) -> None:
    bench = load_bench(BENCH)
    channel = next(iter(bench.channels))
    cell = bench.channels[channel].cell
    with Mortal(bench, tmp_path) as lab:
        lab.start(channel, Order(cccv(cycles=1, **QUICK)))
        lab.live(600.0)
        runner = lab._engine.runners[channel]  # type: ignore[union-attr]
        (name,) = (one.name for one in runner.limits if "over_current" in one.name)
        stricter = (abs(CURRENT) > "1.05C").bind(capacity=bench.cells[cell].capacity)

        async def change() -> None:
            await runner.change_limit(name, stricter, "the test")

        lab._loop.run_until_complete(change())
        record = lab.record
        lab.drop()
        lab.now += 20.0
        lab.resume(record, Order(cccv(cycles=1, **QUICK)))
        lab.live(60.0)
        again = lab._engine.runners[channel].limits  # type: ignore[union-attr]
        assert next(one.when for one in again if one.name == name) == stricter
        run = lab.end()
    assert run.result.state is RunState.COMPLETED, run.result.reason


def test_a_record_that_is_still_written_and_one_of_virtual_time_are_not_taken_up(
    tmp_path: Path,
) -> None:
    bench = load_bench(BENCH)
    with (
        author(tmp_path, "written", clock={"mode": "real", "speed": 1.0}) as writing,
        pytest.raises(BadInputError, match="still running"),
    ):
        taken_up(bench, Clock(), writing.folder)
    with Mortal(bench, tmp_path / "virtual") as lab:
        lab.start(next(iter(bench.channels)), Order(cccv(cycles=1, **QUICK)))
        lab.live(600.0)
        record = lab.record
        lab.drop()
        with pytest.raises(BadInputError, match="Run it again"):
            taken_up(bench, Clock(), record)


def test_a_run_whose_cell_was_driven_since_does_not_go_on(tmp_path: Path) -> None:
    bench = load_bench(BENCH)
    channel = next(iter(bench.channels))
    with Mortal(bench, tmp_path) as lab:
        lab.start(channel, Order(cccv(cycles=1, **QUICK)))
        lab.live(600.0)
        first = lab.record
        lab.drop()
        lab.now += 20.0
        lab.start(channel, Order(cccv(cycles=1, **QUICK)))
        lab.live(60.0)
        second = lab.record
        lab.drop()
        with pytest.raises(BadInputError, match=f"driven since, by the run {second.name}"):
            lab.resume(first, Order(cccv(cycles=1, **QUICK)))
