"""Faults that come by themselves: the text of a script, and what it does to instruments."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, LinkLostError, ReplyTimeoutError
from operando.instruments.wires import MemoryWire, Switchboard, Terminated
from operando.simulators import SimulatedBench
from operando.simulators.script import CycleCount, Planned, read_script
from operando.station.simulate import SimulatedProcess
from simulators.bench_of_one import Meter, meter_on, virtual

LINES = Terminated(b"\n")
IDENTITY = "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c"


# -- text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("none", ()),
        ("silence", (Planned("silence"),)),
        ("silence for 30 s", (Planned("silence", lasts=30.0),)),
        ("at 2 h: silence for 30 s", (Planned("silence", 7200.0, "start", lasts=30.0),)),
        ("at 1 h + 90 s: drop 40 s", (Planned("drop 40 s", 3690.0, "start"),)),
        ("in 500 ms: late 3 s", (Planned("late 3 s", 0.5),)),
        ("at cycle 3 + 10 s: drop 40 s", (Planned("drop 40 s", 10.0, "cycle", 3),)),
        ("at  cycle 2 of c-1:\tnak for 1 d", (Planned("nak", 0.0, "cycle", 2, "c-1", 86400.0),)),
        (
            "garbage once\n at 1.5 h: reboot 5 s;; none",
            (Planned("garbage once"), Planned("reboot 5 s", 5400.0, "start")),
        ),
    ],
)
def test_a_script_is_written_as_text(text: str, parts: tuple[Planned, ...]) -> None:
    assert read_script(text) == parts


@pytest.mark.parametrize(
    "text",
    ["at 2: silence", "at noon: silence", "at 2 h:", "in 2 h: none", "at cycle 0: drop",
     "in cycle 2: drop", "at cycle 2 + 3: drop", "silence for ever", "silence for 0 s",
     "at cycle two: drop", "at : drop"],
)  # fmt: skip
def test_a_part_of_a_script_that_is_misspelt_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(BadInputError, match=text[:5].strip()):
        read_script(f"silence; {text}")


@given(st.text(max_size=60) | st.from_regex(r"(at|in) [^:]{0,20}: ?silence( for .{0,9})?"))
def test_any_text_is_a_script_or_is_refused(text: str) -> None:
    try:
        parts = read_script(text)
    except BadInputError:
        return
    assert all(part.action and part.after >= 0.0 and part.lasts >= 0.0 for part in parts)


# -- on one instrument


async def answers(meter: Meter) -> bool:
    """Whether the meter answers within half a second."""
    try:
        return await meter.host.ask("*IDN?", timeout=0.5) == IDENTITY
    except ReplyTimeoutError:
        return False


@virtual
async def test_a_fault_begins_at_its_time_and_ends_after_what_it_lasts() -> None:
    meter = await meter_on()
    clock = meter.host.clock
    meter.faults.inject("in 2 h: silence for 30 s")
    await clock.sleep(7199.0)
    assert await answers(meter)
    await clock.sleep_until(7200.5)
    assert not await answers(meter)
    await clock.sleep_until(7229.0)
    assert not await answers(meter)
    await clock.sleep_until(7230.1)
    assert await answers(meter)
    assert meter.faults.well


@virtual
async def test_planned_faults_add_to_those_that_are_on_and_leave_them_on() -> None:
    meter = await meter_on()
    clock = meter.host.clock
    meter.faults.inject("late 2 s; in 10 s: silence for 20 s; in 20 s: silence for 20 s")

    async def delay() -> float:
        begin = clock.now()
        try:
            await meter.host.ask("*IDN?", timeout=3.0)
        except ReplyTimeoutError:
            return 3.0
        return clock.now() - begin

    assert await delay() == pytest.approx(2.0, abs=0.1)
    await clock.sleep_until(12.0)
    assert await delay() == 3.0
    await clock.sleep_until(32.0)
    assert await delay() == 3.0, "the first silence has ended, the second has not"
    await clock.sleep_until(40.5)
    assert await delay() == pytest.approx(2.0, abs=0.1)


@virtual
async def test_a_fault_inside_the_instrument_ends_without_ending_the_others() -> None:
    meter = await meter_on()
    clock = meter.host.clock
    meter.faults.inject("identity 04500007; in 10 s: overload for 10 s")
    await clock.sleep_until(11.0)
    assert float((await meter.host.ask(":READ?")).split(",")[0]) > 1e37
    await clock.sleep_until(21.0)
    assert abs(float((await meter.host.ask(":READ?")).split(",")[0])) < 1e3
    assert "04500007" in await meter.host.ask("*IDN?")


@virtual
async def test_a_planned_link_breaks_without_anyone_asking() -> None:
    meter = await meter_on()
    clock, wire = meter.host.clock, meter.host.wire
    meter.faults.inject("in 60 s: drop 5 s")
    await clock.sleep(61.0)
    with pytest.raises(LinkLostError):
        await meter.host.ask("*IDN?")
    await wire.close()
    with pytest.raises(LinkLostError):
        await wire.open()
    await clock.sleep(5.0)
    await wire.open()
    assert await answers(meter)


@virtual
async def test_a_planned_reboot_opens_the_relay_at_its_time() -> None:
    meter = await meter_on(power_on_off_state="high impedance")
    clock = meter.host.clock
    meter.faults.inject("in 60 s: reboot 5 s")
    await meter.host.tell(":SOUR:VOLT 3.8;:OUTP ON")
    await clock.sleep_until(59.0)
    assert meter.device.relay_closed
    await clock.sleep_until(60.1)
    assert not meter.device.relay_closed


@virtual
async def test_new_text_replaces_the_plan_and_none_forgets_it() -> None:
    for text in ("none", "garbage once; in 1 h: nak"):
        meter = await meter_on()
        clock = meter.host.clock
        begin = clock.now()
        meter.faults.inject("in 10 s: silence; silence for 1 min")
        await clock.sleep(1.0)
        meter.faults.inject(text)
        await clock.sleep_until(begin + 70.0)
        if text != "none":
            assert await meter.host.ask("*IDN?") != IDENTITY
        assert await answers(meter)
        meter.faults.close()


@virtual
async def test_a_script_that_is_refused_changes_nothing() -> None:
    meter = await meter_on()
    await meter.host.clock.sleep(10.0)
    meter.faults.inject("silence")
    for text, message in (
        ("none; at 5 s: explode", "unknown fault"),
        ("in 5 s: drop for 3 s", "it ends by itself"),
        ("in 5 s: silence once for 3 s", "it ends by itself"),
        ("at cycle 2: drop", "knows no cell"),
    ):
        with pytest.raises(BadInputError, match=message):
            meter.faults.inject(text)
    assert not await answers(meter)


# -- cycles


@virtual
async def test_cycles_are_counted_from_the_sign_of_the_charge() -> None:
    clock = Clock("virtual")
    begun: list[tuple[int, float]] = []
    # Rest, charge, rest, discharge, rest, charge (in two parts), discharge, charge; A and s.
    program = [(0.0, 100), (1e-3, 50), (0.0, 30), (-1e-3, 50), (0.0, 20), (1e-3, 30), (0.0, 10),
               (2e-3, 20), (-1e-3, 60), (1e-3, 40)]  # fmt: skip

    def charge(now: float) -> float:
        total, start = 0.0, 0.0
        for current, lasts in program:
            total += current * min(max(now - start, 0.0), lasts)
            start += lasts
        return total

    count = CycleCount(clock, charge, lambda number, now: begun.append((number, now)))
    await clock.sleep(500.0)
    count.close()
    assert [number for number, _ in begun] == [1, 2, 3]
    assert [now for _, now in begun] == pytest.approx([101.0, 251.0, 371.0], abs=1.0)


BENCH = """
[instruments.smu1]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::{port}::SOCKET"
[instruments.smu1.simulated]
cell = "c1"
power_on_off_state = "high impedance"
faults = "{faults}"
[cells.c1]
preset = "ncm811-caec"
{more}
"""


def bench_file(folder: Path, faults: str, *, port: int = 5025, more: str = "") -> Path:
    """A bench file with one source meter."""
    path = folder / "bench.toml"
    path.write_text(BENCH.format(port=port, faults=faults, more=more))
    return path


def bench_with(folder: Path, faults: str, more: str = "") -> tuple[SimulatedBench, MemoryWire]:
    """The simulated bench of such a file in virtual time, and a wire to its source meter."""
    clock = Clock("virtual")
    bench = SimulatedBench(load_bench(bench_file(folder, faults, more=more)), clock)
    switchboard = Switchboard()
    bench.attach(switchboard)
    return bench, switchboard.wire("TCPIP::127.0.0.1::5025::SOCKET", clock)


def test_a_script_in_the_bench_file_follows_the_cycles_of_the_cell(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, wire = bench_with(tmp_path, "at cycle 2 + 10 s: silence for 30 s")
        clock = bench.clock
        await wire.open()

        async def source(volts: float, seconds: float) -> None:
            await wire.send(f":SOUR:VOLT {volts};:SOUR:VOLT:ILIM 1e-3;:OUTP ON\n".encode(), 1.0)
            await clock.sleep(seconds)

        async def silent() -> bool:
            try:
                await wire.exchange(b"*IDN?\n", LINES, 0.2)
            except ReplyTimeoutError:
                return True
            return False

        await source(4.2, 600.0)
        assert not await silent()
        await source(2.5, 300.0)
        assert not await silent()
        begin = clock.now()
        await source(4.2, 9.0)
        assert not await silent()
        await clock.sleep_until(begin + 12.0)
        assert await silent()
        await clock.sleep_until(begin + 39.0)
        assert await silent()
        await clock.sleep_until(begin + 42.0)
        assert not await silent()
        await bench.close()

    run(scenario(), virtual=True)


def test_counting_cycles_leaves_no_trace_in_the_cell(tmp_path: Path) -> None:
    async def voltage(faults: str) -> float:
        bench, wire = bench_with(tmp_path, faults)
        await wire.open()
        await wire.send(b":SOUR:VOLT 4.2;:SOUR:VOLT:ILIM 1e-3;:OUTP ON\n", 1.0)
        await bench.clock.sleep_until(4000.0)
        seen = bench.cells["c1"].terminal(4000.0).voltage
        await bench.close()
        return seen

    counted = run(voltage("at cycle 9: drop"), virtual=True)
    assert counted == run(voltage("none"), virtual=True)


def test_the_cell_whose_cycles_count_can_be_named_and_must_be_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, wire = bench_with(tmp_path, "at cycle 1 of c1: silence")
        await wire.open()
        await wire.send(b":SOUR:VOLT 4.2;:SOUR:VOLT:ILIM 1e-3;:OUTP ON\n", 1.0)
        await bench.clock.sleep(3.0)
        with pytest.raises(ReplyTimeoutError):
            await wire.exchange(b"*IDN?\n", LINES, 0.5)
        with pytest.raises(BadInputError, match=r"'c9'.*one of: c1"):
            bench.inject("smu1", "at cycle 1 of c9: silence")
        await bench.close()
        for faults, message in (
            ("at cycle 1 of c9: drop", r"\[instruments.smu1.simulated\] faults: cycles are"),
            ("at 2 h: explode", r"\[instruments.smu1.simulated\] faults: unknown fault 'explode'"),
            ("at 2 h silence", "faults: unknown fault"),
        ):
            with pytest.raises(BadInputError, match=message):
                bench_with(tmp_path, faults)

    run(scenario(), virtual=True)


def test_times_count_from_the_start_of_the_bench_also_when_written_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock("virtual")
        await clock.sleep(1000.0)
        bench, wire = bench_with(tmp_path, "at 1 min: silence for 1 min")
        await wire.open()
        await clock.sleep_until(1061.0)
        with pytest.raises(ReplyTimeoutError):
            await wire.exchange(b"*IDN?\n", LINES, 0.5)
        bench.inject("smu1", "at 2 min: mute for 10 s")
        assert b"2450" in await wire.exchange(b"*IDN?\n", LINES, 0.5)
        await clock.sleep_until(1121.0)
        with pytest.raises(ReplyTimeoutError):
            await wire.exchange(b"*IDN?\n", LINES, 0.5)
        with pytest.raises(BadInputError, match=r"61\.5 s ago; write 'in 10 s: mute'"):
            bench.inject("smu1", "at 1 min: mute")
        await bench.close()

    run(scenario(), virtual=True)


def test_a_closed_bench_carries_nothing_out_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, wire = bench_with(tmp_path, "at 10 s: drop; at cycle 1: drop")
        await wire.open()
        await bench.close()
        await wire.send(b":SOUR:VOLT 4.2;:SOUR:VOLT:ILIM 1e-3;:OUTP ON\n", 1.0)
        await bench.clock.sleep(60.0)
        assert b"2450" in await wire.exchange(b"*IDN?\n", LINES, 0.5)

    run(scenario(), virtual=True)


# -- from the command line


@pytest.mark.sockets
def test_scripts_and_events_are_given_to_a_simulation_that_runs(
    tmp_path: Path, free_port: int
) -> None:
    path = bench_file(
        tmp_path, "at 1 s: garbage once", port=free_port, more='[rooms.box]\nkind = "glovebox"'
    )

    def ask(line: socket.socket) -> bytes:
        line.sendall(b"*IDN?\n")
        try:
            return line.recv(200)
        except TimeoutError:
            return b""

    with (
        SimulatedProcess(path, speed=20.0) as process,
        socket.create_connection(("127.0.0.1", free_port), 5.0) as line,
    ):
        process.inject("box", "leak for 10 min; in 1 h: antechamber")
        with pytest.raises(BadInputError, match="unknown event"):
            process.inject("box", "silence")
        with pytest.raises(BadInputError, match="unknown fault"):
            process.inject("smu1", "in 1 s: explode")
        process.inject("smu1", "in 10 s: silence for 60 s")
        assert b"2450" in ask(line)
        line.settimeout(0.3)
        # 10 s of laboratory time are half a second of the wall.
        until = time.monotonic() + 10.0
        while ask(line):
            assert time.monotonic() < until, "it never fell silent"
        until = time.monotonic() + 30.0
        while b"2450" not in ask(line):
            assert time.monotonic() < until, "it never came back"
