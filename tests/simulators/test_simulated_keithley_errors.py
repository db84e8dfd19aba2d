"""The simulated source meters: buffers, sweeps, error queue, status."""

from __future__ import annotations

import math

import pytest

from operando.instruments.clock import run
from operando.instruments.errors import BadInputError, ReplyTimeoutError
from simulators.bench_of_one import ResistorCell, meter_on, virtual

# -- buffers


@virtual
async def test_user_buffers_are_made_filled_read_and_deleted() -> None:
    meter = await meter_on()
    await meter.host.tell(':TRAC:MAKE "run",100')
    await meter.host.ask(':READ? "run"')
    await meter.host.ask(':READ? "run"')
    assert await meter.host.ask(':TRAC:POIN? "run"') == "100"
    assert await meter.host.ask(':TRAC:ACT? "run"') == "2"
    assert await meter.host.ask(':TRAC:ACT:STAR? "run"') == "1"
    assert await meter.host.ask(':TRAC:ACT:END? "run"') == "2"
    assert len((await meter.host.ask(':TRAC:DATA? 1,2,"run",SOUR,READ')).split(",")) == 4
    row = await meter.host.ask(':FETC? "run",READ,UNIT,SOURUNIT,STAT,DATE,TIME,SEC')
    assert row.split(",")[1:5] == ["Amp DC", "Volt DC", "0", "01/01/2026"]
    await meter.host.tell(':TRAC:CLE "run"')
    assert await meter.host.ask(':TRAC:ACT? "run"') == "0"
    await meter.host.tell(':TRAC:DEL "run";:TRAC:CLE "run"')
    assert await meter.host.errors() == [-224]


@virtual
async def test_an_unknown_buffer_element_is_error_1133() -> None:
    meter = await meter_on()
    await meter.host.tell(':READ? "defbuffer1",SOUR,VOLTS')
    assert await meter.host.errors() == [1133]


@virtual
async def test_a_buffer_that_fills_once_keeps_its_first_readings() -> None:
    meter = await meter_on()
    await meter.host.tell(':TRAC:MAKE "few",10;:TRAC:FILL:MODE ONCE,"few";:SENS:COUN 15')
    await meter.host.ask(':READ? "few"', timeout=10.0)
    first = await meter.host.numbers(':TRAC:DATA? 1,10,"few",REL')
    assert first[0] == 0.0
    assert first[-1] == pytest.approx(0.9)


@virtual
async def test_a_sweep_runs_beside_the_commands_and_ends_with_the_output_off() -> None:
    meter = await meter_on(ResistorCell(emf=0.0, resistance=100.0))
    await meter.host.tell(":OUTP:SMOD HIMP;:SOUR:VOLT:ILIM 0.1")
    await meter.host.tell(':SOUR:SWE:VOLT:LIN 0,1,11,0,1,AUTO,ON,OFF,"defbuffer1";:INIT')
    assert await meter.host.ask(":OUTP?") == "1"
    assert await meter.host.ask("*OPC?", timeout=30.0) == "1"
    data = await meter.host.numbers(':TRAC:DATA? 1,11,"defbuffer1",READ')
    assert data == pytest.approx([n * 1e-3 for n in range(11)], abs=1e-6)
    assert await meter.host.ask(":OUTP?") == "0"
    assert not meter.device.relay_closed


@virtual
async def test_a_current_sweep_switches_the_function_first_and_can_be_aborted() -> None:
    meter = await meter_on(ResistorCell(emf=0.0, resistance=100.0))
    await meter.host.tell(":OUTP:SMOD HIMP;:SENS:FUNC 'VOLT';:SOUR:CURR:VLIM 10")
    await meter.host.tell(":SOUR:SWE:CURR:LIN 0,10e-3,101,10e-3;:INIT")
    await meter.host.clock.sleep(1.0)
    await meter.host.tell(":ABOR")
    taken = int(await meter.host.ask(":TRAC:ACT?"))
    assert 3 < taken < 15
    data = await meter.host.numbers(f':TRAC:DATA? 1,{taken},"defbuffer1",READ')
    assert data == pytest.approx([n * 0.01 for n in range(taken)], abs=2e-4)
    await meter.host.clock.sleep(1.0)
    assert int(await meter.host.ask(":TRAC:ACT?")) == taken
    assert await meter.host.ask(":SOUR:FUNC?") == "CURR"
    assert await meter.host.ask(":OUTP?") == "1", "an aborted sweep leaves the output as it is"


# -- errors and status


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (":SOUR:VLOT 1", -113),
        (":SOUR:VOLT", -109),
        (":SOUR:VOLT 1,2", -108),
        (":SOUR:VOLT 'four'", -104),
        (":SOUR:VOLT 4.2V", -131),
        (":SOUR:VOLT 211", -222),
        (":SOUR:FUNC POWER", -224),
        (":SENS:FUNC 'POWER'", -224),
        (":OUTP MAYBE", -104),
        (":SENS:FUNC 'VOLT", -102),
        (":SENS:CURR:NPLC 11", -222),
        (":TRAC:DATA? 1,99", -222),
        ("*IDN", -113),
        (":INIT;:INIT", -213),
        ("\xff", -102),
    ],
)
def test_a_bad_command_changes_nothing_and_queues_its_error(line: str, code: int) -> None:
    async def scenario() -> None:
        meter = await meter_on()
        await meter.host.wire.send(line.encode("latin-1") + b"\n", 1.0)
        assert await meter.host.errors() == [code]
        assert await meter.host.ask(":SOUR:VOLT?") == "0"
        assert await meter.host.ask(":SYST:ERR:COUN?") == "0"

    run(scenario(), virtual=True)


@virtual
async def test_a_bad_query_is_not_answered() -> None:
    meter = await meter_on()
    with pytest.raises(ReplyTimeoutError):
        await meter.host.ask(":SOUR:VOTL?", timeout=1.0)
    assert await meter.host.errors() == [-113]


@virtual
async def test_a_full_queue_ends_with_overflow() -> None:
    meter = await meter_on(error_queue=3)
    for _ in range(5):
        await meter.host.tell(":WRONG")
    assert await meter.host.errors() == [-113, -113, -350]


@virtual
async def test_the_event_status_register_tells_kinds_of_errors_apart() -> None:
    meter = await meter_on()
    assert await meter.host.ask("*ESR?") == "128"  # power on
    await meter.host.tell(":WRONG")
    await meter.host.tell(":SOUR:VOLT 999")
    assert await meter.host.ask("*ESR?") == str(32 + 16)
    assert await meter.host.ask("*ESR?") == "0"
    assert await meter.host.ask("*STB?") == "4"
    await meter.host.tell("*CLS")
    assert await meter.host.ask("*STB?") == "0"


@virtual
async def test_after_an_error_in_a_compound_message_what_came_before_holds() -> None:
    meter = await meter_on()
    await meter.host.tell(":SOUR:VOLT 1;:NO:SUCH;:SOUR:VOLT 2")
    assert await meter.host.ask(":SOUR:VOLT?") == "1"


@virtual
async def test_another_command_set_understands_nothing_but_its_name() -> None:
    meter = await meter_on(language="TSP")
    assert await meter.host.ask("*LANG?") == "TSP"
    with pytest.raises(ReplyTimeoutError):
        await meter.host.ask(":OUTP?", timeout=1.0)


@virtual
async def test_the_command_set_changes_at_the_next_power_cycle_alone() -> None:
    meter = await meter_on(language="TSP")
    await meter.host.tell("*LANG SCPI")
    assert await meter.host.ask("*LANG?") == "TSP"
    meter.faults.inject("reboot 1 s")
    await meter.host.clock.sleep(1.1)
    await meter.host.wire.reopen()
    assert await meter.host.ask("*LANG?") == "SCPI"


@virtual
async def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInputError, match=r"unknown key reeding_time.*reading_time"):
        await meter_on(reeding_time=0.1)


@virtual
async def test_time_in_the_buffer_is_that_of_the_lab() -> None:
    meter = await meter_on(reading_time=0.1)
    await meter.host.clock.sleep(10.25)
    await meter.host.ask(":READ?")
    seconds, fraction = await meter.host.numbers(':FETC? "defbuffer1",SEC,FRAC')
    assert seconds == 1_767_225_610
    assert math.isclose(fraction, 0.25, abs_tol=1e-3)
