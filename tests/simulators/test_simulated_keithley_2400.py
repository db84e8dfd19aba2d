"""The simulated 2400: RS-232, compliance, concurrent readings, status word, error queue."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, ReplyTimeoutError
from operando.simulators.devices.keithley_2400 import SimulatedKeithley2400
from operando.simulators.devices.ports import Site
from operando.simulators.faults import FaultyPeer
from simulators.bench_of_one import Host, ResistorCell, connect, virtual

OFF = '+803,"Not permitted with OUTPUT off"'


class Meter(NamedTuple):
    """A source meter on a cell of 3.7 V and 10 ohm, and a host."""

    host: Host
    device: SimulatedKeithley2400
    cell: ResistorCell
    faults: FaultyPeer

    async def tell(self, *lines: str) -> None:
        """Send lines that have no reply."""
        for line in lines:
            await self.host.tell(line)

    async def charge(self, *, level: float = 4.25, limit: float = 1.57e-3) -> None:
        """A voltage source at the cut-off with the current as limit, all measured."""
        await self.tell(
            "*RST",
            ":OUTP:SMOD HIMP",
            ":SOUR:FUNC VOLT",
            ":SOUR:VOLT:RANG 20",
            f":SOUR:VOLT {level}",
            f":SENS:CURR:PROT {limit}",
            ":SENS:FUNC 'VOLT','CURR'",
            ":OUTP ON",
        )
        assert await self.host.errors() == []


async def meter(cell: ResistorCell | None = None, **options: object) -> Meter:
    """A source meter without noise unless asked for; in virtual time."""
    clock = Clock("virtual")
    cell = cell or ResistorCell()
    device = SimulatedKeithley2400(
        "smu1", site=Site(cell), clock=clock, options={"noise": 0.0, **options}
    )
    host, faults = await connect(device, clock)
    return Meter(host, device, cell, faults)


# -- RS-232


@virtual
async def test_the_documented_identity_is_answered_byte_for_byte() -> None:
    rig = await meter()
    assert await rig.host.ask("*IDN?") == (
        "KEITHLEY INSTRUMENTS INC.,MODEL 2400,4105123,C32   Oct  4 2010 14:20:11/A02  /S/K"
    )
    assert await rig.host.ask(":SYST:ERR?") == '0,"No error"'


@pytest.mark.parametrize(
    ("option", "end"), [("CR", b"\r"), ("CR+LF", b"\r\n"), ("LF", b"\n"), ("LF+CR", b"\n\r")]
)
def test_replies_end_as_chosen_and_requests_with_either(option: str, end: bytes) -> None:
    async def scenario() -> None:
        clock = Clock("virtual")
        device = SimulatedKeithley2400(
            "smu1", site=Site(ResistorCell()), clock=clock, options={"terminator": option}
        )
        host, _ = await connect(device, clock, end)
        assert await host.ask("*OPC?") == "1"
        for other in (b"\r", b"\n", b"\r\n"):
            reply = await host.wire.exchange(b"*OPC?" + other, host._framing, 5.0)
            assert reply == b"1"
        assert await host.ask(":SYST:ERR:COUN?") == "0"

    run(scenario(), virtual=True)


@virtual
async def test_the_serial_line_takes_its_time() -> None:
    rig = await meter(baud=300, latency=0.0)
    before = rig.host.clock.now()
    reply = await rig.host.ask("*IDN?")
    bits = 10 * (len("*IDN?\n") + len(reply) + 1)
    assert rig.host.clock.now() - before == pytest.approx(bits / 300.0)


@virtual
async def test_a_message_before_the_answer_interrupts_the_query() -> None:
    rig = await meter()
    await rig.host.wire.send(b":SYST:ERR?\n*OPC?\n", 1.0)
    await rig.host.clock.sleep(1.0)
    assert await rig.host.ask(":SYST:ERR?") == '-410,"Query INTERRUPTED"'
    assert await rig.host.ask(":SYST:ERR?") == '0,"No error"'


@virtual
async def test_a_reading_under_way_is_given_up_when_the_next_message_comes() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(":READ?", ":OUTP OFF")
    await rig.host.clock.sleep(1.0)
    assert await rig.host.errors() == [-410]
    assert await rig.host.ask(":OUTP?") == "0"
    assert not rig.device.relay_closed


@virtual
async def test_control_c_clears_a_query_and_leaves_no_error() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(":TRIG:COUN 100", ":READ?")
    await rig.host.clock.sleep(1.0)
    reply = await rig.host.wire.exchange(b"\x03:OUTP?\n", rig.host._framing, 1.0)
    assert reply == b"1"
    assert await rig.host.errors() == []
    await rig.host.wire.send(b":NONSEN\x18", 1.0)
    assert await rig.host.ask("*OPC?") == "1"
    assert await rig.host.errors() == []


# -- errors


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (":READ?", OFF),
        (":INIT", OFF),
        (":SENS:VOLT:RANG100", '-113,"Undefined header"'),
        (":SYST :ERR?", '-113,"Undefined header"'),
        (":SOUR:VOLT", '-109,"Missing parameter"'),
        (":SOUR:VOLT 1,2", '-108,"Parameter not allowed"'),
        (":SOUR:VOLT five", '-104,"Data type error"'),
        (":SOUR:VOLT 500", '-222,"Parameter data out of range"'),
        (":SENS:FUNC 'POW'", '-224,"Illegal parameter value"'),
        (":SENS:VOLT:RANG 2", '-221,"Settings conflict"'),
        (":SENS:CURR:RANG 1", '+824,"Cannot exceed compliance range"'),
        (":SENS:CURR:PROT 1e-12", '+822,"Too small for sense range"'),
        (":SENS:CURR:PROT 1;:SOUR:VOLT 100", '+826,"Attempt to exceed power limit"'),
        ("*TRG", '-211,"Trigger ignored"'),
    ],
)
def test_what_it_refuses_is_in_the_queue(message: str, reply: str) -> None:
    async def scenario() -> None:
        rig = await meter()
        with pytest.raises(ReplyTimeoutError):
            await rig.host.ask(message, timeout=1.0)
        assert await rig.host.ask(":SYST:ERR?") == reply

    run(scenario(), virtual=True)


@virtual
async def test_the_error_queue_holds_ten() -> None:
    rig = await meter()
    for _ in range(12):
        await rig.tell(":NONSENSE")
    assert await rig.host.ask(":SYST:ERR:COUN?") == "10"
    assert await rig.host.errors() == [-113] * 9 + [-350]
    await rig.tell(":NONSENSE", ":SOUR:VOLT 500")
    assert await rig.host.ask(":SYST:ERR:ALL?") == (
        '-113,"Undefined header",-222,"Parameter data out of range"'
    )
    await rig.tell(":NONSENSE", ":SOUR:VOLT 500")
    assert await rig.host.ask(":SYST:ERR:CODE?") == "-113"
    assert await rig.host.ask(":STAT:QUE?") == '-222,"Parameter data out of range"'
    assert int(await rig.host.ask("*ESR?")) & 48 == 48


# -- sourcing and measuring


@virtual
async def test_a_reading_has_five_elements_and_the_documented_status_bits() -> None:
    rig = await meter()
    await rig.charge(level=3.75, limit=0.02)
    await rig.tell(":SYST:RSEN ON")
    await rig.host.ask(":READ?")
    volts, amps, ohms, seconds, status = await rig.host.numbers(":READ?")
    assert volts == pytest.approx(3.75, abs=1e-5)
    assert amps == pytest.approx(5e-3, abs=1e-8)
    assert ohms == 9.91e37
    assert seconds > 0.0
    # Front terminals, V and I measured, V-source, remote sense: the example of the document.
    assert int(status) == 4216836
    await rig.tell(":SENS:CURR:PROT 1e-3")
    await rig.host.ask(":READ?")
    assert int((await rig.host.numbers(":READ?"))[4]) == 4216844, "bit 3: in compliance"


@virtual
async def test_charging_is_limited_until_the_cut_off_is_reached() -> None:
    rig = await meter()
    await rig.charge()
    await rig.host.ask(":READ?")
    volts, amps, *_ = await rig.host.numbers(":READ?")
    assert amps == pytest.approx(1.57e-3, abs=1e-8)
    assert volts == pytest.approx(3.7157, abs=2e-5)
    assert await rig.host.ask(":SENS:CURR:PROT:TRIP?") == "1"
    rig.cell.emf = 4.2495
    await rig.tell(":SOUR:VOLT 4.25")
    assert await rig.host.ask(":SENS:CURR:PROT:TRIP?") == "0"
    assert int(await rig.host.ask(":STAT:MEAS:COND?")) & 1 << 14 == 0


@virtual
async def test_what_is_not_measured_shows_the_programmed_value_or_nan() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(":SENS:FUNC:OFF 'VOLT'", ":FORM:ELEM CURR,VOLT")
    volts, amps = await rig.host.numbers(":READ?")
    assert volts == 4.25, "not measured: the level, not the voltage of the cell"
    assert amps == pytest.approx(1.57e-3, rel=1e-3)
    await rig.tell(":SOUR:FUNC CURR", ":SENS:FUNC:OFF:ALL", ":OUTP ON")
    assert await rig.host.numbers(":READ?") == [9.91e37, 0.0]


@virtual
async def test_after_reset_only_the_current_is_measured() -> None:
    rig = await meter()
    await rig.tell("*RST")
    assert await rig.host.ask(":SENS:FUNC?") == '"CURR:DC"'
    assert await rig.host.ask(":SENS:CURR:PROT?") == "1.050000E-04"
    assert await rig.host.ask(":SENS:VOLT:PROT?") == "2.100000E+01"
    assert await rig.host.ask(":FORM:ELEM?") == "VOLT,CURR,RES,TIME,STAT"
    assert await rig.host.ask(":OUTP:SMOD?") == "NORM"
    assert await rig.host.ask(":OUTP?") == "0"


@virtual
async def test_a_range_below_the_compliance_limits_first_and_says_so() -> None:
    rig = await meter()
    await rig.charge(limit=0.05)
    await rig.tell(":SENS:CURR:RANG 0.01")
    await rig.host.ask(":READ?")
    _, amps, _, _, status = await rig.host.numbers(":READ?")
    assert amps == pytest.approx(0.0105, rel=1e-4)
    assert int(status) & 1 << 16
    assert not int(status) & 1 << 3
    assert await rig.host.ask(":SENS:CURR:PROT?") == "5.000000E-02"


@virtual
async def test_ranges_are_asked_with_their_full_reach_or_their_name() -> None:
    rig = await meter()
    await rig.tell(":SOUR:VOLT:RANG 20")
    assert await rig.host.ask(":SOUR:VOLT:RANG?") == "2.100000E+01"
    rig = await meter(range_queries_full=False)
    await rig.tell(":SOUR:VOLT:RANG 20")
    assert await rig.host.ask(":SOUR:VOLT:RANG?") == "2.000000E+01"


@pytest.mark.parametrize(
    ("asked", "step"),
    [(20, 20), (39, 20), (40, 40), (159, 120), (160, 160), (161, 210), ("NONE", 210), (5, 20)],
)
def test_between_two_steps_of_the_protection_the_lower_acts(asked: object, step: float) -> None:
    async def scenario() -> None:
        rig = await meter()
        await rig.tell(f":SOUR:VOLT:PROT {asked}")
        assert await rig.host.numbers(":SOUR:VOLT:PROT?") == [step]

    run(scenario(), virtual=True)


@virtual
async def test_each_model_has_its_own_range_and_protection() -> None:
    rig = await meter(model="2440")
    assert "MODEL 2440" in await rig.host.ask("*IDN?")
    await rig.tell(":SOUR:VOLT:PROT 15", ":SOUR:FUNC CURR", ":SOUR:CURR 5.25")
    assert await rig.host.numbers(":SOUR:VOLT:PROT?") == [12.0]
    assert await rig.host.errors() == [826]
    await rig.tell(":SENS:VOLT:PROT 10", ":SOUR:CURR 5.25", ":SOUR:VOLT 50")
    assert await rig.host.errors() == [-222]
    with pytest.raises(BadInputError, match="2400"):
        await meter(model="9000")


@virtual
async def test_a_reading_takes_longer_with_more_functions_and_cycles() -> None:
    rig = await meter(baud=57_600)
    await rig.charge()
    await rig.host.ask(":READ?")

    async def duration() -> float:
        before = rig.host.clock.now()
        await rig.host.ask(":READ?")
        return rig.host.clock.now() - before

    both = await duration()
    await rig.tell(":SENS:FUNC:OFF 'VOLT'")
    one = await duration()
    await rig.tell(":SENS:CURR:NPLC 10")
    slow = await duration()
    assert both - one == pytest.approx(0.06, abs=1e-3)
    assert slow - one == pytest.approx(0.54, abs=1e-3)


@virtual
async def test_several_readings_come_in_one_answer() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(":TRIG:COUN 5", ":FORM:ELEM CURR,TIME")
    data = await rig.host.numbers(":READ?")
    assert len(data) == 10
    times = data[1::2]
    assert [b - a for a, b in pairwise(times)] == pytest.approx([0.16] * 4)
    assert await rig.host.numbers(":FETC?") == data


@virtual
async def test_readings_fill_the_trace_buffer_beside_the_commands() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(
        ":TRAC:CLE", ":TRAC:POIN 4", ":TRAC:FEED SENS", ":TRAC:FEED:CONT NEXT", ":FORM:ELEM CURR"
    )
    await rig.tell(":STAT:MEAS:ENAB 512", "*SRE 1", ":TRIG:COUN 4", ":INIT")
    assert int(await rig.host.ask("*STB?")) & 65 == 0
    assert await rig.host.ask("*OPC?", timeout=10.0) == "1"
    assert int(await rig.host.ask("*STB?")) & 65 == 65
    data = await rig.host.numbers(":TRAC:DATA?")
    assert data[1:] == pytest.approx([1.57e-3] * 3, abs=1e-8)
    await rig.tell(":CALC3:FORM MEAN", ":SENS:FUNC:OFF 'VOLT'")
    mean = await rig.host.numbers(":CALC3:DATA?")
    assert mean == pytest.approx([1.57e-3], rel=1e-2)


@virtual
async def test_a_bus_trigger_starts_what_was_armed() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(":ARM:SOUR BUS", ":TRAC:FEED:CONT NEXT", ":INIT")
    await rig.host.clock.sleep(1.0)
    assert await rig.host.ask(":TRAC:POIN:ACT?") == "0"
    await rig.tell("*TRG")
    await rig.host.clock.sleep(1.0)
    assert await rig.host.ask(":TRAC:POIN:ACT?") == "1"
    await rig.tell(":READ?")
    assert await rig.host.errors() == [-214]


@virtual
async def test_measure_configures_and_switches_the_output_on() -> None:
    rig = await meter()
    await rig.tell("*RST", ":OUTP:SMOD HIMP", ":SOUR:VOLT 3.7")
    reply = await rig.host.numbers(":MEAS:CURR?")
    assert len(reply) == 5
    assert await rig.host.ask(":OUTP?") == "1"
    assert await rig.host.ask(":SENS:FUNC?") == '"CURR:DC"'


@virtual
async def test_auto_clear_switches_the_output_for_each_reading() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(":OUTP OFF", ":SOUR:CLE:AUTO ON")
    assert len(await rig.host.numbers(":READ?")) == 5
    assert await rig.host.ask(":OUTP?") == "0"
    await rig.host.clock.sleep(0.1)
    assert not rig.device.relay_closed


# -- output and relay


@virtual
async def test_off_opens_the_relay_in_high_impedance_alone() -> None:
    rig = await meter()
    await rig.charge()
    await rig.tell(":OUTP OFF")
    assert await rig.host.ask(":OUTP?") == "0"
    assert not rig.device.relay_closed
    assert rig.cell.terminal(rig.host.clock.now()).current == 0.0
    await rig.tell(":OUTP:SMOD NORM")
    await rig.host.clock.sleep(1.0)
    assert rig.device.relay_closed
    assert rig.cell.terminal(rig.host.clock.now()).current < 0.0, "0 V loads the cell"


@virtual
async def test_a_change_of_function_or_terminals_switches_the_output_off() -> None:
    rig = await meter()
    for change in (":SOUR:FUNC CURR", ":ROUT:TERM REAR"):
        await rig.charge()
        await rig.tell(change)
        assert await rig.host.ask(":OUTP?") == "0"


@virtual
async def test_sensing_with_four_wires_leaves_the_leads_out() -> None:
    rig = await meter(lead_resistance=1.0)
    await rig.charge(limit=0.01)
    await rig.host.ask(":READ?")
    two = (await rig.host.numbers(":READ?"))[0]
    await rig.tell(":SYST:RSEN ON")
    await rig.host.ask(":READ?")
    four = (await rig.host.numbers(":READ?"))[0]
    assert two - four == pytest.approx(0.01, abs=1e-4)


# -- faults


@virtual
async def test_an_overload_reads_overflow() -> None:
    rig = await meter()
    await rig.charge()
    rig.faults.inject("overload once")
    volts, amps, _, _, status = await rig.host.numbers(":READ?")
    assert (volts, amps) == (9.9e37, 9.9e37)
    assert int(status) & 1


@virtual
async def test_injected_faults_reach_queue_identity_and_leads() -> None:
    rig = await meter()
    await rig.charge()
    rig.faults.inject("nak once; error 802; identity 1111111")
    await rig.tell(":SOUR:VOLT 3")
    assert await rig.host.ask(":SYST:ERR?") == '+802,"OUTPUT blocked by output enable"'
    assert await rig.host.ask(":SYST:ERR?") == '-200,"Execution error"'
    assert ",1111111," in await rig.host.ask("*IDN?")
    rig.faults.inject("unplug")
    await rig.host.clock.sleep(0.1)
    assert rig.cell.terminal(rig.host.clock.now()).current == 0.0
    rig.faults.inject("none")
    await rig.host.clock.sleep(0.1)
    assert rig.cell.terminal(rig.host.clock.now()).current > 0.0
    assert ",4105123," in await rig.host.ask("*IDN?")


@virtual
async def test_losing_power_opens_the_relay_and_forgets_the_settings() -> None:
    rig = await meter()
    await rig.charge()
    rig.faults.inject("reboot 10 s")
    assert not rig.device.relay_closed
    with pytest.raises(ReplyTimeoutError):
        await rig.host.ask(":OUTP?", timeout=5.0)
    await rig.host.clock.sleep(6.0)
    assert await rig.host.ask(":OUTP?") == "0"
    assert await rig.host.ask(":SENS:CURR:PROT?") == "1.050000E-04"
    assert int(await rig.host.ask("*ESR?")) & 128


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_leave_it_alive(noise: list[bytes]) -> None:
    async def scenario() -> None:
        rig = await meter()
        for piece in noise:
            await rig.host.wire.send(piece + b"\n", 1.0)
        await rig.host.clock.sleep(5.0)
        assert (await rig.host.ask("\x03*IDN?")).startswith("KEITHLEY")

    run(scenario(), virtual=True)


HEADERS = st.sampled_from(
    [
        ":SOUR:VOLT",
        ":SOUR:VOLT:RANG",
        ":SOUR:VOLT:PROT",
        ":SENS:CURR:PROT",
        ":SENS:CURR:RANG",
        ":SENS:FUNC",
        ":FORM:ELEM",
        ":TRIG:COUN",
        ":TRAC:POIN",
        ":OUTP",
        ":ROUT:TERM",
        ":SYST:AZER",
        ":CALC3:FORM",
    ]
)


@given(HEADERS, st.text(alphabet="0123456789.+-eEMINAXVOLTCUR',? ", max_size=16))
def test_any_parameter_is_taken_or_refused_with_a_number(header: str, rest: str) -> None:
    async def scenario() -> None:
        rig = await meter()
        await rig.tell(f"{header} {rest}")
        await rig.host.clock.sleep(10.0)
        code, text = (await rig.host.ask("\x03:SYST:ERR?")).split(",", 1)
        assert int(code) == 0 or text.startswith('"')
        assert abs(rig.device.stage.source["VOLT"].level) <= 210.0

    run(scenario(), virtual=True)
