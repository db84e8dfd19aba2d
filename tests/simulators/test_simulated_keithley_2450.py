"""The simulated source meters: ranges, limits, output, relay, readings."""

from __future__ import annotations

import statistics

import pytest

from operando.instruments.clock import Clock, run
from operando.instruments.wires import Switchboard, Terminated
from operando.simulators.devices.keithley_2450 import (
    SimulatedKeithley2450,
    SimulatedKeithley2461,
)
from operando.simulators.devices.ports import Site
from simulators.bench_of_one import Meter, ResistorCell, connect, meter_on, virtual

READ = ':READ? "defbuffer1",SOUR,READ'


async def _charging(meter: Meter) -> None:
    """The document's recipe: a voltage source at the cut-off with the current as limit."""
    for line in (
        "*RST",
        ":OUTP:SMOD HIMP",
        ":SOUR:FUNC VOLT",
        ":SOUR:VOLT:RANG 20",
        ":SOUR:VOLT 4.25",
        ":SOUR:VOLT:ILIM 0.00157",
        ":SOUR:VOLT:READ:BACK ON",
        ':SENS:FUNC "CURR"',
        ":SENS:CURR:RANG 0.01",
        ":OUTP ON",
    ):
        await meter.host.tell(line)
    assert await meter.host.errors() == []


@virtual
async def test_the_documented_identity_is_answered_byte_for_byte() -> None:
    meter = await meter_on()
    assert await meter.host.ask("*IDN?") == "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c"
    assert await meter.host.ask("*LANG?") == "SCPI"
    assert await meter.host.ask(":SENS:FUNC?") == '"CURR:DC"'
    assert await meter.host.ask(":SYST:ERR?") == '0,"No error;0,0,0"'
    assert await meter.host.ask(":SYST:EVEN:NEXT?") == '0,"No error;0,0,0"'


@virtual
async def test_an_impossible_level_is_rejected_with_the_documented_text() -> None:
    meter = await meter_on()
    await meter.host.tell(":SOUR:VOLT 500")
    text = await meter.host.ask(":SYST:ERR?")
    assert text == '-222,"Data out of range;1;2026/01/01 00:00:00.000"'
    assert await meter.host.ask(":SOUR:VOLT?") == "0"


@virtual
async def test_the_event_log_has_its_own_separators() -> None:
    meter = await meter_on()
    await meter.host.tell(":NONSENSE")
    assert await meter.host.ask(":SYST:EVEN:NEXT?") == '-113,"Undefined header;1,1767225600,0"'


@virtual
async def test_charging_is_current_limited_until_the_cutoff_is_reached() -> None:
    meter = await meter_on()
    await _charging(meter)
    await meter.host.ask(READ)  # the first one is still a little in transient
    reply = await meter.host.ask(READ)
    assert reply == "+3.715700E+00,+1.570000E-03"
    assert await meter.host.ask(":SOUR:VOLT:ILIM:TRIP?") == "1"
    meter.cell.emf = 4.2495
    await meter.host.tell(":SOUR:VOLT 4.25")
    volts, amps = await meter.host.numbers(READ)
    assert volts == pytest.approx(4.25, abs=1e-5)
    assert amps == pytest.approx(0.05e-3, abs=1e-8)
    assert await meter.host.ask(":SOUR:VOLT:ILIM:TRIP?") == "0"


@virtual
async def test_discharging_shows_a_negative_current() -> None:
    meter = await meter_on()
    await _charging(meter)
    await meter.host.tell(":SOUR:VOLT 2.5")
    volts, amps = await meter.host.numbers(READ)
    assert amps == -1.57e-3
    assert volts == pytest.approx(3.7 - 0.0157, abs=1e-5)


@virtual
async def test_after_reset_the_current_limit_is_105_microamperes() -> None:
    meter = await meter_on()
    await meter.host.tell("*RST")
    assert await meter.host.ask(":SOUR:VOLT:ILIM?") == "1.05E-04"
    assert await meter.host.ask(":SOUR:CURR:VLIM?") == "21"
    assert await meter.host.ask(":OUTP?") == "0"
    assert await meter.host.ask(":OUTP:SMOD?") == "NORM"


@virtual
async def test_the_source_element_is_the_programmed_value_without_read_back() -> None:
    meter = await meter_on()
    await _charging(meter)
    await meter.host.tell(":SOUR:VOLT:READ:BACK OFF")
    assert (await meter.host.ask(READ)).startswith("+4.250000E+00,")


# -- output and relay


@virtual
async def test_off_in_the_normal_state_loads_the_cell_with_zero_volts() -> None:
    meter = await meter_on()
    await meter.host.tell("*RST")
    await meter.host.tell(":SOUR:VOLT:ILIM 1e-3;:SOUR:VOLT 3.7;:OUTP ON;:OUTP OFF")
    assert await meter.host.ask(":OUTP?") == "0"
    assert meter.device.relay_closed
    # A tenth of the present current range: 1 mA.
    before = meter.cell.charge
    await meter.host.clock.sleep(100.0)
    meter.cell.terminal(meter.host.clock.now())
    assert meter.cell.charge - before == pytest.approx(-100.0 * 0.1e-3, rel=1e-3)


@virtual
async def test_off_in_high_impedance_opens_the_relay_after_its_dead_time() -> None:
    meter = await meter_on(relay_time=5e-3)
    await _charging(meter)
    await meter.host.ask(READ)
    before = meter.host.clock.now()
    await meter.host.tell(":OUTP OFF")
    assert meter.device.relay_closed
    assert await meter.host.ask(":OUTP?") == "0"
    assert not meter.device.relay_closed
    assert meter.host.clock.now() - before >= 5e-3
    assert meter.cell.terminal(meter.host.clock.now()).current == 0.0


@virtual
async def test_the_relay_opens_even_if_nobody_asks_again() -> None:
    meter = await meter_on()
    await _charging(meter)
    await meter.host.ask(READ)
    await meter.host.tell(":OUTP OFF")
    await meter.host.clock.sleep(0.01)
    assert not meter.device.relay_closed


@virtual
async def test_zero_and_guard_keep_the_relay_closed() -> None:
    for state in ("ZERO", "GUAR"):
        meter = await meter_on()
        await meter.host.tell(f":OUTP:SMOD {state};:SOUR:VOLT 3.7;:OUTP ON")
        await meter.host.tell(":OUTP OFF")
        assert await meter.host.ask(":OUTP:SMOD?") == state
        assert meter.device.relay_closed


@virtual
async def test_the_off_state_belongs_to_the_source_function() -> None:
    meter = await meter_on(power_on_off_state="normal")
    await meter.host.tell(":OUTP:VOLT:SMOD HIMP")
    assert await meter.host.ask(":OUTP:SMOD?") == "HIMP"
    assert not meter.device.relay_closed
    # The trap: the current function still has the normal state, so the relay closes again.
    await meter.host.tell(":SOUR:FUNC CURR")
    assert await meter.host.ask(":OUTP:SMOD?") == "NORM"
    assert meter.device.relay_closed


@pytest.mark.parametrize("line", [":SOUR:FUNC CURR", ":ROUT:TERM REAR", "*RST"])
def test_these_commands_switch_the_output_off(line: str) -> None:
    async def scenario() -> None:
        meter = await meter_on()
        await _charging(meter)
        assert await meter.host.ask(":OUTP?") == "1"
        await meter.host.tell(line)
        assert await meter.host.ask(":OUTP?") == "0"

    run(scenario(), virtual=True)


@virtual
async def test_an_off_state_may_be_told_to_act_at_the_next_off_alone() -> None:
    meter = await meter_on(off_state_acts_at_once=False, power_on_off_state="normal")
    await meter.host.tell(":OUTP:SMOD HIMP")
    assert await meter.host.ask(":OUTP:SMOD?") == "HIMP"
    assert meter.device.relay_closed
    await meter.host.tell(":OUTP ON;:OUTP OFF")
    assert await meter.host.ask(":OUTP?") == "0"
    assert not meter.device.relay_closed


@virtual
async def test_with_the_relay_open_a_reading_shows_nothing_of_the_cell() -> None:
    meter = await meter_on()
    await meter.host.tell(":OUTP:SMOD HIMP;:SENS:FUNC 'VOLT'")
    assert float(await meter.host.ask(":READ?")) == 0.0


@virtual
async def test_the_first_reading_after_output_on_is_in_transient_when_taken_fast() -> None:
    meter = await meter_on()
    await _charging(meter)
    await meter.host.tell(":OUTP OFF;:SENS:CURR:NPLC 0.01;:SOUR:VOLT:DEL 0;:OUTP ON")
    first = (await meter.host.numbers(READ))[1]
    later = (await meter.host.numbers(READ))[1]
    assert first < 0.9 * 1.57e-3
    assert later == 1.57e-3


@virtual
async def test_a_wrong_terminal_selection_finds_no_cell() -> None:
    meter = await meter_on(terminals="rear")
    await _charging(meter)
    assert (await meter.host.numbers(READ))[1] == 0.0
    assert meter.cell.charge == 0.0


# -- ranges and limits


@pytest.mark.parametrize(
    ("header", "value", "reply"),
    [
        (":SOUR:VOLT:RANG", "3", "20"),
        (":SOUR:VOLT:RANG", "0.05", "0.2"),
        (":SOUR:VOLT:RANG", "-4", "20"),
        (":SOUR:CURR:RANG", "1.5e-3", "0.01"),
        (":SENS:CURR:RANG", "1.05e-3", "0.001"),
        (":SENS:VOLT:RANG", "MAX", "200"),
    ],
)
def test_the_lowest_range_that_holds_the_value_is_picked(
    header: str, value: str, reply: str
) -> None:
    async def scenario() -> None:
        meter = await meter_on()
        await meter.host.tell(f"{header} {value}")
        assert float(await meter.host.ask(header + "?")) == float(reply)
        assert await meter.host.ask(header + ":AUTO?") == "0"
        assert await meter.host.errors() == []

    run(scenario(), virtual=True)


@virtual
async def test_the_level_must_stay_in_a_fixed_range() -> None:
    meter = await meter_on()
    await meter.host.tell(":SOUR:VOLT:RANG 2;:SOUR:VOLT 3.7")
    assert await meter.host.errors() == [-222]
    assert await meter.host.ask(":SOUR:VOLT?") == "0"
    await meter.host.tell(":SOUR:VOLT:RANG 20;:SOUR:VOLT 3.7;:SOUR:VOLT:RANG 2")
    assert await meter.host.errors() == [-221]
    assert await meter.host.ask(":SOUR:VOLT:RANG?") == "20"


@virtual
async def test_the_limit_must_suit_a_fixed_measure_range() -> None:
    meter = await meter_on()
    await meter.host.tell(":SOUR:VOLT:ILIM 5e-3;:SENS:CURR:RANG 10e-3")
    assert await meter.host.errors() == []
    await meter.host.tell(":SOUR:VOLT:ILIM 10e-6")  # exactly 0.1 %: must exceed it
    assert await meter.host.errors() == [-221]
    await meter.host.tell(":SOUR:VOLT:ILIM 20e-3")
    assert await meter.host.errors() == [-221]
    await meter.host.tell(":SENS:CURR:RANG 1e-3")
    assert await meter.host.errors() == [-221]
    assert await meter.host.ask(":SOUR:VOLT:ILIM?") == "0.005"
    await meter.host.tell(":SENS:CURR:RANG:AUTO ON;:SOUR:VOLT:ILIM 10e-6")
    assert await meter.host.errors() == []


@virtual
async def test_over_voltage_protection_caps_the_limit_and_clamps_the_source() -> None:
    meter = await meter_on(ResistorCell(emf=1.0, resistance=1000.0))
    await meter.host.tell(":SOUR:VOLT:PROT PROT5;:SOUR:CURR:VLIM 6")
    assert await meter.host.errors() == [-222]
    assert await meter.host.ask(":SOUR:VOLT:PROT?") == "PROT5"
    await meter.host.tell(":SENS:FUNC 'VOLT';:SOUR:VOLT 10;:SOUR:VOLT:ILIM 0.1;:OUTP ON")
    assert float(await meter.host.ask(":READ?")) == pytest.approx(5.0)
    assert await meter.host.ask(":SOUR:VOLT:PROT:TRIP?") == "1"
    await meter.host.tell(":SOUR:VOLT 3")
    assert await meter.host.ask(":SOUR:VOLT:PROT:TRIP?") == "0"


@virtual
async def test_the_voltage_limit_of_a_current_source_is_a_magnitude() -> None:
    meter = await meter_on(ResistorCell(emf=0.5, resistance=1000.0))
    await meter.host.tell(":SOUR:FUNC CURR;:SOUR:CURR:VLIM -2;:SENS:FUNC 'VOLT'")
    assert await meter.host.ask(":SOUR:CURR:VLIM?") == "2"
    # A discharge runs into reverse polarity: the limit does not stop it at +2 V nor at 0 V.
    await meter.host.tell(":SOUR:CURR -1.5e-3;:OUTP ON")
    assert float(await meter.host.ask(":READ?")) == pytest.approx(-1.0)
    assert await meter.host.ask(":SOUR:CURR:VLIM:TRIP?") == "0"
    await meter.host.tell(":SOUR:CURR -5e-3")
    assert float(await meter.host.ask(":READ?")) == pytest.approx(-2.0)
    assert await meter.host.ask(":SOUR:CURR:VLIM:TRIP?") == "1"


@virtual
async def test_a_current_beyond_the_measure_range_reads_overflow() -> None:
    meter = await meter_on()
    await meter.host.tell(":SENS:FUNC 'VOLT';:SENS:VOLT:RANG 2;:SOUR:FUNC CURR;:OUTP ON")
    assert await meter.host.ask(":READ?") == "+9.900000E+37"


@virtual
async def test_the_2461_has_other_limits() -> None:
    meter = await meter_on(model=SimulatedKeithley2461)
    assert ",MODEL 2461," in await meter.host.ask("*IDN?")
    assert await meter.host.ask(":SOUR:CURR:VLIM?") == "7.35"
    await meter.host.tell(":SOUR:VOLT:RANG 3")
    assert await meter.host.ask(":SOUR:VOLT:RANG?") == "7"
    await meter.host.tell(":SOUR:VOLT 106;:SOUR:CURR:VLIM 0.1;:SOUR:VOLT:ILIM 7.35")
    assert await meter.host.errors() == [-222, -222]
    await meter.host.tell(":SOUR:VOLT:PROT PROT100")
    assert await meter.host.errors() == [-224]


# -- wiring


@virtual
async def test_two_wires_see_the_leads_and_four_do_not() -> None:
    meter = await meter_on(lead_resistance=2.0)
    await _charging(meter)
    two = (await meter.host.numbers(READ))[0]
    await meter.host.tell(":SENS:CURR:RSEN ON")
    four = (await meter.host.numbers(READ))[0]
    assert two - four == pytest.approx(2.0 * 1.57e-3, abs=1e-5)
    assert four == pytest.approx(3.7157, abs=1e-5)
    # Four wires belong to a measure function.
    await meter.host.tell(":SENS:FUNC 'VOLT'")
    assert await meter.host.ask(":SENS:VOLT:RSEN?") == "0"
    assert float(await meter.host.ask(":READ?")) == pytest.approx(two, abs=1e-5)


@virtual
async def test_reversed_leads_turn_the_sign() -> None:
    meter = await meter_on(leads="reversed")
    await meter.host.tell(":OUTP:SMOD HIMP;:SENS:FUNC 'VOLT';:SOUR:FUNC CURR;:OUTP ON")
    assert float(await meter.host.ask(":READ?")) == pytest.approx(-3.7)


@virtual
async def test_open_leads_let_the_source_reach_its_level_without_current() -> None:
    meter = await meter_on(leads="open")
    await _charging(meter)
    assert await meter.host.ask(READ) == "+4.250000E+00,+0.000000E+00"
    assert meter.cell.charge == 0.0


@virtual
async def test_open_sense_leads_drive_the_cell_to_its_limit() -> None:
    meter = await meter_on(leads="sense open")
    await _charging(meter)
    await meter.host.tell(":SENS:CURR:RSEN ON;:SOUR:VOLT:PROT PROT5")
    volts, amps = await meter.host.numbers(READ)
    assert abs(volts) < 1e-3
    assert amps == 1.57e-3
    assert await meter.host.ask(":SOUR:VOLT:PROT:TRIP?") == "1"


# -- readings


@virtual
async def test_a_reading_takes_about_a_tenth_of_a_second() -> None:
    meter = await meter_on()
    await _charging(meter)
    await meter.host.ask(READ)
    before = meter.host.clock.now()
    await meter.host.ask(READ)
    assert 0.08 <= meter.host.clock.now() - before <= 0.12
    await meter.host.tell(":SENS:CURR:NPLC 10")
    before = meter.host.clock.now()
    await meter.host.ask(READ)
    assert meter.host.clock.now() - before > 0.6


@virtual
async def test_the_reading_time_can_be_set() -> None:
    meter = await meter_on(reading_time=0.02)
    before = meter.host.clock.now()
    await meter.host.ask(":READ?")
    assert meter.host.clock.now() - before == pytest.approx(0.02)


@virtual
async def test_noise_scales_with_the_range_and_repeats_with_the_name() -> None:
    async def readings(name: str, span: float) -> list[float]:
        clock = Clock("virtual")
        device = SimulatedKeithley2450(
            name, site=Site(ResistorCell()), clock=clock, options={"noise": 1e-5}
        )
        host, _ = await connect(device, clock)
        await host.tell(f":SENS:FUNC 'VOLT';:SENS:VOLT:RANG {span};:SOUR:FUNC CURR;:OUTP ON")
        return [float(await host.ask(":READ?")) for _ in range(200)]

    narrow, wide = await readings("a", 20), await readings("a", 200)
    assert statistics.stdev(narrow) == pytest.approx(200e-6, rel=0.3)
    assert statistics.stdev(wide) == pytest.approx(2000e-6, rel=0.3)
    assert await readings("a", 20) == narrow
    assert await readings("b", 20) != narrow
    steps = {round(value / 1e-5, 3) % 1 for value in narrow}
    assert steps == {0.0}, "quantised to 10 uV on the 20 V range"


@virtual
async def test_count_readings_are_taken_one_after_the_other() -> None:
    meter = await meter_on(reading_time=0.1)
    await meter.host.tell(":SENS:COUN 5")
    before = meter.host.clock.now()
    await meter.host.ask(":READ?")
    assert meter.host.clock.now() - before == pytest.approx(0.5)
    assert await meter.host.ask(":TRAC:ACT?") == "5"
    times = await meter.host.numbers(':TRAC:DATA? 1,5,"defbuffer1",REL')
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@virtual
async def test_a_second_session_waits_for_the_reading_but_gets_in() -> None:
    clock = Clock("virtual")
    device = SimulatedKeithley2450(
        "smu1", site=Site(ResistorCell()), clock=clock, options={"reading_time": 0.1}
    )
    switchboard = Switchboard()
    switchboard.attach("memory", device)
    frozen, watchdog = switchboard.wire("memory", clock), switchboard.wire("memory", clock)
    await frozen.open()
    await watchdog.open()
    await frozen.send(b":OUTP:SMOD HIMP;:OUTP ON\n", 1.0)
    await frozen.send(b":READ?\n", 1.0)  # and never reads the answer
    before = clock.now()
    await watchdog.send(b":ABOR;:OUTP OFF\n", 1.0)
    assert await watchdog.exchange(b":OUTP?\n", Terminated(), 1.0) == b"0"
    assert clock.now() - before < 0.2
    assert not device.relay_closed
