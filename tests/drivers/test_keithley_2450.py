"""The 2450 driver as a whole: races between set-points and the safe state, cost of a reading."""

from __future__ import annotations

import asyncio
import time

import pytest

from operando.drivers.keithley_2450 import READ, Keithley2450, Keithley2461
from operando.drivers.keithley_scpi import LINE
from operando.drivers.keithley_tables import SourceMeterSettings
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import Clock, run
from operando.instruments.errors import (
    BadInputError,
    InstrumentError,
    NotVerifiedError,
    UnsupportedError,
)
from operando.instruments.roles import Galvanostatic, OpenCircuit, Potentiostatic, Protection
from operando.instruments.safety import secure
from operando.instruments.wires import Line, Switchboard

ADDRESS = "TCPIP::127.0.0.1::5025::SOCKET"
WINDOW = Protection(voltage=(2.5, 4.25), current=5e-3)


class Parrot:
    """Remembers every setting as it was written and answers queries from that.

    delay: s before each answer. switched: every change of the output, in order.
    """

    def __init__(self, model: str = "2450", delay: float = 0.0) -> None:
        self.delay = delay
        self.settings = {":OUTP": "0", ":SOUR:FUNC": "VOLT"}
        self.settings["*IDN"] = f"KEITHLEY INSTRUMENTS,MODEL {model},04096331,1.6.7c"
        self.settings["*LANG"] = "SCPI"
        self.settings[":SYST:ERR"] = '0,"No error;0,0,0"'
        self.settings[":SOUR:VOLT:ILIM:TRIP"] = "0"
        self.reading = "+3.800000E+00,+1.570000E-03"
        self.switched: list[str] = []

    def connected(self, line: Line, now: float) -> None:
        """A host came."""

    def disconnected(self, line: Line, now: float) -> None:
        """The host went."""

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Take a setting or answer a question."""
        text = data.decode("ascii").strip()
        if text.startswith(":READ?"):
            line.send(self.reading.encode() + b"\n", now + self.delay)
        elif text.endswith("?"):
            line.send(self.settings[text[:-1]].encode() + b"\n", now + self.delay)
        elif text != ":ABOR":
            header, value = text.split(" ", 1)
            value = {"ON": "1", "OFF": "0"}.get(value, value.strip('"'))
            if header == ":OUTP":
                self.switched.append(value)
            if header == ":OUTP:SMOD":
                self.settings[":OUTP:VOLT:SMOD"] = self.settings[":OUTP:CURR:SMOD"] = value
            self.settings[header] = value


async def prepared(
    parrot: Parrot, driver: type[Keithley2450] = Keithley2450, window: Protection = WINDOW
) -> Keithley2450:
    switchboard, clock = Switchboard(), Clock("virtual")
    switchboard.attach(ADDRESS, parrot)
    smu = driver(switchboard.wire(ADDRESS, clock), clock)
    await smu.connect()
    await smu.prepare(window)
    return smu


@pytest.mark.parametrize("moment", range(60))
def test_the_relay_is_open_whenever_during_a_set_point_the_safe_state_is_asked_for(
    moment: int,
) -> None:
    parrot = Parrot(delay=1e-3)

    async def scenario() -> None:
        smu = await prepared(parrot)
        applying = asyncio.ensure_future(smu.apply(Galvanostatic(current=1e-3, cutoff=4.25)))
        await asyncio.sleep(0.4e-3 * moment)
        before = applying.done()
        await smu.safe()
        assert parrot.settings[":OUTP"] == "0"
        result = (await asyncio.gather(applying, return_exceptions=True))[0]
        assert parrot.settings[":OUTP"] == "0"
        assert before == (result is None)
        if not before:
            assert isinstance(result, InstrumentError)
        await asyncio.sleep(1.0)
        assert parrot.settings[":OUTP"] == "0"

    run(scenario(), virtual=True)


def test_the_sweep_over_moments_meets_both_an_unfinished_and_a_finished_set_point() -> None:
    parrot = Parrot(delay=1e-3)

    async def scenario() -> float:
        smu = await prepared(parrot)
        start = asyncio.get_running_loop().time()
        await smu.apply(Galvanostatic(current=1e-3, cutoff=4.25))
        return asyncio.get_running_loop().time() - start

    duration = run(scenario(), virtual=True)
    assert 0.4e-3 * 10 < duration < 0.4e-3 * 59
    assert parrot.switched[-1] == "1"


def test_a_cancelled_set_point_does_not_switch_on_later() -> None:
    parrot = Parrot(delay=1e-3)

    async def scenario() -> None:
        smu = await prepared(parrot)
        applying = asyncio.ensure_future(smu.apply(Galvanostatic(current=1e-3, cutoff=4.25)))
        await asyncio.sleep(3e-3)
        applying.cancel()
        await asyncio.gather(applying, return_exceptions=True)
        await asyncio.sleep(1.0)
        assert "1" not in parrot.switched
        await secure(smu)

    run(scenario(), virtual=True)


def test_the_output_switched_off_by_hand_while_a_set_point_changes_is_noticed() -> None:
    parrot = Parrot(delay=1e-3)

    async def scenario() -> None:
        smu = await prepared(parrot)
        await smu.apply(Galvanostatic(current=1e-3, cutoff=4.25))
        changing = asyncio.ensure_future(smu.apply(Galvanostatic(current=-1e-3, cutoff=2.5)))
        await asyncio.sleep(5e-3)
        parrot.settings[":OUTP"] = "0"
        with pytest.raises(NotVerifiedError, match=r":OUTP\? should be 1"):
            await changing

    run(scenario(), virtual=True)


@pytest.mark.parametrize(
    ("driver", "highest", "full_scale"),
    [(Keithley2450, 4.25, "20"), (Keithley2450, 1.5, "2"), (Keithley2461, 4.25, "7")],
)
def test_the_voltage_range_holds_the_whole_window_and_not_only_the_level(
    driver: type[Keithley2450], highest: float, full_scale: str
) -> None:
    parrot = Parrot(driver.MODEL.number)

    async def scenario() -> None:
        window = Protection(voltage=(0.1, highest), current=5e-3)
        smu = await prepared(parrot, driver, window)
        await smu.apply(Galvanostatic(current=-1e-3, cutoff=0.1))

    run(scenario(), virtual=True)
    assert parrot.settings[":SOUR:VOLT:RANG"] == full_scale
    assert parrot.settings[":SOUR:VOLT"] == "0.1"


def test_the_2461_takes_currents_that_a_2450_refuses() -> None:
    wire = Switchboard().wire(ADDRESS, Clock("virtual"))
    small, large = Keithley2450(wire, Clock("virtual")), Keithley2461(wire, Clock("virtual"))
    charge = Galvanostatic(current=7.0, cutoff=4.2)
    large.check(charge)
    with pytest.raises(UnsupportedError):
        small.check(charge)
    with pytest.raises(UnsupportedError, match="lowest current limit"):
        large.check(Potentiostatic(voltage=4.0, current_limit=0.5e-6))
    with pytest.raises(UnsupportedError, match="too low"):
        large.check(OpenCircuit(voltage_limit=0.1))


def test_the_capabilities_say_that_the_output_stays_on_when_the_host_falls_silent() -> None:
    wire = Switchboard().wire(ADDRESS, Clock("virtual"))
    slow = SourceMeterSettings(nplc=10.0)
    smu = Keithley2450(wire, Clock("virtual"), settings=slow)
    assert smu.capabilities.when_host_is_silent is WhenHostIsSilent.STAYS_ON
    assert smu.capabilities.off_time > smu.capabilities.fastest_sampling > 1.0
    assert "voltage cut-off" in smu.capabilities.on_board


@pytest.mark.parametrize("nplc", [0.0, 0.001, 11.0, float("nan")])
def test_an_integration_time_outside_the_manual_is_refused(nplc: float) -> None:
    with pytest.raises(BadInputError, match="power line cycles"):
        SourceMeterSettings(nplc=nplc)


def test_a_reading_costs_little_beside_the_wire_itself() -> None:
    parrot = Parrot()

    async def scenario() -> tuple[float, float]:
        smu = await prepared(parrot)
        await smu.apply(Galvanostatic(current=1.57e-3, cutoff=4.25))
        wire = smu._wire
        bare, whole = [], []
        for _ in range(300):
            start = time.perf_counter()
            await wire.exchange(READ, LINE, 1.0)
            middle = time.perf_counter()
            await smu.measure()
            bare.append(middle - start)
            whole.append(time.perf_counter() - middle)
        return min(bare), min(whole)

    bare, whole = run(scenario(), virtual=True)
    # The quietest of many: a shared machine slows most of them. Generous against 15 us.
    assert whole - bare < 60e-6
