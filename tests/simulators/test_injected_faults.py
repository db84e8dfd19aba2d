"""Faults: their text, and what they do on the line and inside an instrument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, LinkLostError, ReplyTimeoutError
from operando.instruments.wires import Line
from operando.simulators.devices.ports import Site
from operando.simulators.devices.pt113 import SimulatedPT113
from operando.simulators.faults import (
    DEVICE_FAULTS,
    EVENTS,
    LINE_FAULTS,
    Fault,
    FaultyPeer,
    parse_faults,
)
from simulators.bench_of_one import Spring, connect, meter_on

IDENTITY = "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c"


# -- text


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("none", ()),
        ("", ()),
        ("silence", (Fault("silence"),)),
        ("silence once", (Fault("silence", times=1),)),
        ("garbage 3 times", (Fault("garbage", times=3),)),
        ("late 3 s", (Fault("late", seconds=3.0),)),
        ("late 250 ms once", (Fault("late", seconds=0.25, times=1),)),
        ("drop", (Fault("drop"),)),
        ("drop 2 min", (Fault("drop", seconds=120.0),)),
        ("reboot 5s", (Fault("reboot", seconds=5.0),)),
        ("identity 04500007", (Fault("identity", text="04500007"),)),
        ("error", (Fault("error", text="-200"),)),
        ("error -221; truncated", (Fault("error", text="-221"), Fault("truncated"))),
    ],
)
def test_faults_are_written_as_text(text: str, faults: tuple[Fault, ...]) -> None:
    assert parse_faults(text) == faults


@pytest.mark.parametrize(
    "text",
    ["late", "late soon", "late 3", "silence 3 s", "explode", "identity", "drop once",
     "silence 0 times", "error x", "nak now"],
)  # fmt: skip
def test_a_fault_that_is_misspelt_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(BadInputError, match=text.split(maxsplit=1)[0]):
        parse_faults(text)


_durations = st.floats(0.001, 1e4, allow_nan=False).map(lambda s: float(f"{s:.6f}"))
_counts = st.integers(0, 50)
_faults = st.one_of(
    st.builds(Fault, st.sampled_from(("silence", "mute", "garbage", "truncated")), times=_counts),
    st.builds(Fault, st.sampled_from(("overload", "nak")), times=_counts),
    st.builds(Fault, st.just("late"), seconds=_durations, times=_counts),
    st.builds(Fault, st.sampled_from(("drop", "reboot")), seconds=st.just(0.0) | _durations),
    st.builds(Fault, st.just("identity"), text=st.from_regex(r"[0-9]{8}", fullmatch=True)),
    st.builds(Fault, st.just("error"), text=st.integers(-999, 9999).map(str)),
)


@given(st.lists(_faults, max_size=4))
def test_every_fault_reads_back_from_its_text(faults: list[Fault]) -> None:
    assert parse_faults("; ".join(str(fault) for fault in faults) or "none") == tuple(faults)


@given(st.text(max_size=40))
def test_any_text_is_a_fault_or_is_refused(text: str) -> None:
    try:
        faults = parse_faults(text)
    except BadInputError:
        return
    known = {*LINE_FAULTS, *DEVICE_FAULTS, *EVENTS}
    assert {fault.kind for fault in faults} <= known


# -- on the line


def test_silence_swallows_the_request_itself() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("silence")
        await meter.host.tell(":SOUR:VOLT 1")
        with pytest.raises(ReplyTimeoutError):
            await meter.host.ask("*IDN?", timeout=1.0)
        meter.faults.inject("none")
        assert await meter.host.ask(":SOUR:VOLT?") == "0"

    run(scenario(), virtual=True)


def test_mute_carries_the_request_out_and_loses_the_reply() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("mute once")
        with pytest.raises(ReplyTimeoutError):
            await meter.host.ask(":SOUR:VOLT 1;:SOUR:VOLT?", timeout=1.0)
        assert await meter.host.ask(":SOUR:VOLT?") == "1"

    run(scenario(), virtual=True)


def test_a_counted_fault_ends_by_itself() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("silence 2 times")
        for _ in range(2):
            with pytest.raises(ReplyTimeoutError):
                await meter.host.ask("*IDN?", timeout=0.5)
        assert await meter.host.ask("*IDN?") == IDENTITY
        assert meter.faults.well

    run(scenario(), virtual=True)


def test_garbage_is_complete_but_wrong() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("garbage once")
        reply = await meter.host.ask("*IDN?")
        assert len(reply) == len(IDENTITY)
        assert reply != IDENTITY
        assert await meter.host.ask("*IDN?") == IDENTITY

    run(scenario(), virtual=True)


def test_a_truncated_reply_never_ends() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("truncated once")
        with pytest.raises(ReplyTimeoutError, match=IDENTITY[:10]):
            await meter.host.ask("*IDN?", timeout=1.0)

    run(scenario(), virtual=True)


def test_late_delays_each_reply_by_its_time() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("late 3 s")
        before = meter.host.clock.now()
        assert await meter.host.ask("*IDN?") == IDENTITY
        assert meter.host.clock.now() - before == pytest.approx(3.0, abs=0.01)
        with pytest.raises(ReplyTimeoutError):
            await meter.host.ask("*IDN?", timeout=1.0)

    run(scenario(), virtual=True)


def test_composed_faults_act_together() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("late 2 s once; garbage once")
        before = meter.host.clock.now()
        assert await meter.host.ask("*IDN?") != IDENTITY
        assert meter.host.clock.now() - before > 2.0
        assert await meter.host.ask("*IDN?") == IDENTITY

    run(scenario(), virtual=True)


def test_a_dropped_link_refuses_connections_for_its_time() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("drop 5 s")
        with pytest.raises(LinkLostError):
            await meter.host.ask("*IDN?")
        with pytest.raises(LinkLostError, match="refuses"):
            await meter.host.wire.reopen()
        await meter.host.clock.sleep(5.1)
        await meter.host.wire.reopen()
        assert await meter.host.ask("*IDN?") == IDENTITY

    run(scenario(), virtual=True)


def test_a_dropped_link_leaves_the_output_on() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        await meter.host.tell(":OUTP:SMOD HIMP;:SOUR:VOLT 3.8;:OUTP ON")
        await meter.host.clock.sleep(1.0)
        meter.faults.inject("drop")
        await meter.host.clock.sleep(100.0)
        assert meter.device.relay_closed
        assert meter.cell.terminal(meter.host.clock.now()).current > 0.0

    run(scenario(), virtual=True)


# -- inside the instrument


def test_a_reboot_forgets_settings_and_reports_power_on() -> None:
    async def scenario() -> None:
        meter = await meter_on(power_on_off_state="normal")
        await meter.host.tell(":OUTP:SMOD HIMP;:SOUR:VOLT 3.8;:OUTP ON")
        assert await meter.host.ask("*ESR?") == "128"
        meter.faults.inject("reboot")
        assert not meter.device.relay_closed, "without power the relay is open"
        with pytest.raises(LinkLostError):
            await meter.host.wire.reopen()
        await meter.host.clock.sleep(20.1)
        await meter.host.wire.reopen()
        assert await meter.host.ask(":OUTP?") == "0"
        assert await meter.host.ask(":SOUR:VOLT?") == "0"
        assert await meter.host.ask("*ESR?") == "128"
        assert await meter.host.errors() == [-500]
        # Power-on settings have the normal off state: the terminals are connected again.
        assert meter.device.relay_closed
        assert meter.cell.terminal(meter.host.clock.now()).current < 0.0

    run(scenario(), virtual=True)


def test_power_on_settings_are_high_impedance_unless_they_are_the_factory_s() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        assert not meter.device.relay_closed
        meter.faults.inject("reboot 1 s")
        await meter.host.clock.sleep(2.0)
        assert not meter.device.relay_closed
        await meter.host.wire.reopen()
        await meter.host.tell("*RST")
        assert await meter.host.ask(":OUTP:SMOD?") == "NORM"
        assert meter.device.relay_closed, "*RST restores the factory's off state"

    run(scenario(), virtual=True)


def test_an_overload_reads_overflow() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("overload once")
        assert await meter.host.ask(":READ?") == "+9.900000E+37"
        assert abs(float(await meter.host.ask(":READ?"))) < 1.0

    run(scenario(), virtual=True)


def test_the_identity_changes_and_comes_back() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("identity 04500007")
        assert (await meter.host.ask("*IDN?")).split(",")[2] == "04500007"
        meter.faults.inject("none")
        assert await meter.host.ask("*IDN?") == IDENTITY

    run(scenario(), virtual=True)


def test_nak_refuses_commands_but_not_the_error_queue() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        await meter.host.tell(":OUTP ON")
        meter.faults.inject("nak once")
        await meter.host.tell(":OUTP OFF")
        assert await meter.host.errors() == [-200]
        assert await meter.host.ask(":OUTP?") == "1"

    run(scenario(), virtual=True)


def test_an_error_is_queued_with_its_standard_text() -> None:
    async def scenario() -> None:
        meter = await meter_on()
        meter.faults.inject("error -410; error -420")
        assert (await meter.host.ask(":SYST:ERR?")).startswith('-410,"Query INTERRUPTED;1;')
        assert await meter.host.errors() == [-420]
        assert int(await meter.host.ask("*ESR?")) & 4

    run(scenario(), virtual=True)


def test_what_an_instrument_cannot_do_is_refused_and_changes_nothing() -> None:
    async def scenario() -> None:
        clock = Clock("virtual")
        device = SimulatedPT113("lc1", site=Site(frame=Spring(10.0)), clock=clock, options={})
        host, peer = await connect(device, clock, b"\r\n")
        with pytest.raises(BadInputError, match="identity"):
            peer.inject("silence; identity 4711")
        assert (await host.ask("01I")).startswith("01I")

    run(scenario(), virtual=True)


def test_line_faults_need_nothing_from_a_foreign_instrument() -> None:
    class Echo:
        def connected(self, line: Line, now: float) -> None: ...

        def receive(self, line: Line, data: bytes, now: float) -> None:
            line.send(data, now)

        def disconnected(self, line: Line, now: float) -> None: ...

    async def scenario() -> None:
        clock = Clock("virtual")
        host, peer = await connect(Echo(), clock)
        assert isinstance(peer, FaultyPeer)
        assert await host.ask("hello") == "hello"
        peer.inject("garbage once")
        assert await host.ask("hello") != "hello"
        with pytest.raises(BadInputError, match="overload"):
            peer.inject("overload")

    run(scenario(), virtual=True)
