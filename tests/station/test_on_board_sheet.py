"""What a check says of the steps that a cycler carries out by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import write_bench
from operando.instruments.bench import Bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.protocols import (
    Block,
    Cell,
    ConstantCurrent,
    HoldTemperature,
    Plan,
    Rest,
    SheetLine,
    Step,
    Steps,
    cccv,
    conditioned_cccv,
    protocol,
)
from operando.station.engine import Order, settle
from operando.station.sheets import limit_lines, print_sheet

BENCH = """
[instruments.neware1]
driver = "neware-bts8"
address = "TCPIP::127.0.0.1::15060::SOCKET#21-1-1"
settings = { current = "0.1 A" }
[instruments.oven1]
driver = "espec-p300"
address = "serial:ports/oven1"
[channels.A1]
potentiostat = "neware1"
temperature_controller = "oven1"
cell = "c1"
[cells.c1]
"""
CAPACITY = 'capacity = "3.14 mAh"\n'


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A cycler and a chamber."""
    path = tmp_path / "bench.toml"
    path.write_text(BENCH + CAPACITY, encoding="utf-8")
    return load_bench(path)


def lines_of(plan: Plan, bench: Bench) -> dict[str, SheetLine]:
    """Lines of the sheet by their names."""
    lines = limit_lines(settle(bench, "A1", Order(plan)), bench, Clock())
    return {line.name: line for line in lines}


def on_board(plan: Plan, bench: Bench) -> str:
    """What is said to be carried out on board, "" if nothing."""
    line = lines_of(plan, bench).get("steps on board of neware1")
    return "" if line is None else line.when


@protocol(source="this test")
def asked(
    cell: Cell,
    *,
    repeats: int = 1,
    warm: bool = False,
    window: tuple[float, float] = (2.5, 4.25),
) -> Steps:
    """One block with many steps, or with a step for the chamber."""
    first: Step = Rest((ELAPSED >= 600.0,))
    if warm:
        first = HoldTemperature(313.15, (ELAPSED >= 600.0,))
    yield Block((first, *repeats * (ConstantCurrent(1e-3, (VOLTAGE >= 4.2,)),)))


def test_the_sheet_tells_the_longest_schedule_and_how_long_it_goes_on(bench: Bench) -> None:
    slow = cccv(formation_cycles=1, formation_rate="C/10", cycles=3)
    assert on_board(slow, bench) == "up to 4 steps, about 20 h 20 min, run by the instrument itself"
    assert "about 4 h 20 min" in on_board(cccv(cycles=3), bench)


def test_only_the_groups_that_run_on_board_count(bench: Bench) -> None:
    """The warm up lasts for up to 4 h and is stepped by software."""
    warmed = conditioned_cccv(charge_rate="1C", discharge_rate="1C", cv_cutoff="0.2C")
    assert "up to 4 steps, about 2 h 20 min" in on_board(warmed, bench)


def test_a_block_that_the_instrument_cannot_run_whole_is_not_said_to_run_on_board(
    bench: Bench,
) -> None:
    assert "up to 63 steps" in on_board(asked(repeats=62), bench)
    assert on_board(asked(repeats=64), bench) == ""
    assert on_board(asked(warm=True), bench) == ""


def test_a_time_that_cannot_be_estimated_is_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(BENCH, encoding="utf-8")
    said = on_board(asked(), load_bench(path))
    assert said.startswith("up to 2 steps, for a time that cannot be estimated")


def test_the_sheet_says_what_goes_on_without_link_program_and_computer(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(cccv(), bench)
    line = lines["steps on board of neware1"]
    assert line.latency is None
    print_sheet(lines.values())
    printed = " ".join(capsys.readouterr().out.split())
    told = printed.partition("steps on board of neware1: ")[2]
    assert told.startswith("up to 4 steps, about 4 h 20 min, run by the instrument itself if its")
    assert "the run ends when nothing was heard for 5 min" in told
    assert "the watchdog stops them within" in told
    assert "if the computer dies they go on to their end" in told
    assert "acts within" not in told
    assert printed.count("acts within") == len(lines) - 2  # steps and bounds on board have none


def test_the_watchdog_is_given_the_time_that_a_slow_instrument_needs(bench: Bench) -> None:
    line = lines_of(cccv(), bench)["steps on board of neware1"]
    (seconds,) = [float(word) for word in line.without_host.split() if word[0].isdigit()]
    # The server's data may be 5 s old, so that "off" cannot be known sooner.
    assert seconds > 10.0


def test_a_source_meter_has_no_such_line(tmp_path: Path) -> None:
    bench = load_bench(write_bench(tmp_path))
    assert not [name for name in lines_of(cccv(), bench) if name.startswith("steps on board")]
