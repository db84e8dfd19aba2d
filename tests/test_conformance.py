"""Every registered driver obeys every rule, and a driver broken in one point fails its rule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import conformance
from conformance import RULES, Rule, Subject
from operando.drivers.keithley_2450 import Keithley2450
from operando.drivers.pt113 import PT113
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.clock import run
from operando.instruments.errors import InstrumentError
from operando.instruments.registry import DRIVERS, available, load
from operando.instruments.roles import (
    Galvanostatic,
    Identity,
    OpenCircuit,
    Protection,
    SetPoint,
)
from operando.instruments.samples import AuxReading, Reading, Regulation, Status


def judge(rule: Rule, name: str, driver: Any, folder: Path) -> None:
    """Hold a driver against a rule in virtual time."""

    async def main() -> None:
        subject = Subject(name, driver, folder)
        try:
            await rule(subject)
        finally:
            if hasattr(subject.instrument, "close"):
                await subject.instrument.close()

    run(main(), virtual=True)


@pytest.mark.parametrize("name", sorted(available(DRIVERS)))
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_driver_obeys_every_rule(rule: Rule, name: str, tmp_path: Path) -> None:
    judge(rule, name, load(DRIVERS, name), tmp_path)


def test_every_driver_is_known_to_the_rules() -> None:
    assert set(available(DRIVERS)) == set(conformance.PROFILES)


class Nameless(Keithley2450):
    """Says another name than its entry point's."""

    INFO = Keithley2450.INFO.__class__("", "", (), "", Keithley2450.INFO.roles, "serial", "")


class Half:
    """Implements no role."""

    INFO = Keithley2450.INFO

    def __init__(self, *_: object, **__: object) -> None:
        pass


class WritesOnConnect(Keithley2450):
    """Resets the instrument when it connects."""

    async def connect(self) -> Identity:
        """Connect and reset."""
        identity = await super().connect()
        await self._wire.send(b"*RST\n", 0.5)
        return identity


class Credulous(Keithley2450):
    """Takes any instrument for the one that it expects."""

    def _check_identity(self, identity: Identity) -> None:
        pass


class TrustsALinkThatCameBack(Keithley2450):
    """Does not ask who answers after a reconnect."""

    async def reconnect(self) -> Identity:
        """Open another session and ask nothing."""
        await self._wire.reopen()
        return Identity(
            "KEITHLEY INSTRUMENTS", "2450", conformance.PROFILES["keithley-2450"].serial
        )


class SilentAboutSilence(PT113):
    """Claims an output that a load cell does not have."""

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities that are not true."""
        return Capabilities(when_host_is_silent=WhenHostIsSilent.UNKNOWN)


class MisreadsTheSign(Keithley2450):
    """Reports charging as discharging."""

    async def measure(self) -> Reading:
        """Measure with the sign turned."""
        reading = await super().measure()
        return reading._replace(current=-reading.current)


class WeighsInTheWrongUnit(PT113):
    """Takes newtons for kilograms-force."""

    async def measure(self) -> AuxReading:
        """Measure, wrongly scaled."""
        reading = await super().measure()
        return reading._replace(value=reading.value * 9.80665)


class PreparesWithTheOutputOn(Keithley2450):
    """Leaves the output on after preparing."""

    async def prepare(self, protection: Protection) -> None:
        """Prepare and switch on."""
        await super().prepare(protection)
        await self._wire.send(b":SOUR:VOLT 4.2;:OUTP ON\n", 0.5)


class SourcesCurrent(Keithley2450):
    """Charges towards the end of its range and leaves the cut-off to whoever polls."""

    async def apply(self, setpoint: SetPoint) -> None:
        """Apply with the cut-off moved out of the way."""
        if isinstance(setpoint, Galvanostatic):
            setpoint = Galvanostatic(setpoint.current, 4.24 if setpoint.current > 0 else 2.6)
        await super().apply(setpoint)


class Clamps(Keithley2450):
    """Does what it can instead of refusing."""

    def check(self, setpoint: SetPoint) -> None:
        """Refuse nothing."""


class BelievesItself(Keithley2450):
    """Remembers that it is off instead of switching off."""

    async def safe(self) -> None:
        """Do nothing."""


class NeverReadsBack(Keithley2450):
    """Sends the off command and trusts that it arrived."""

    async def safe(self) -> None:
        """Send and believe."""
        await self._wire.send(b":OUTP OFF\n", 0.5, urgent=True)


class WaitsForEver(Keithley2450):
    """Has no time-out worth the name."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reading_timeout = 1e9


class MakesNumbersUp(Keithley2450):
    """Gives NaN where the instrument gave nothing."""

    async def measure(self) -> Reading:
        """Measure or invent."""
        try:
            return await super().measure()
        except InstrumentError:
            return Reading(
                self._clock.now(), 0.0, math.nan, math.nan, Regulation.UNKNOWN, Status.OK
            )


class DeafToErrors(Keithley2450):
    """Never looks at the instrument's error queue."""

    async def _drain_log(self, *_: Any, **__: Any) -> list[tuple[int, str]]:
        return []


class SwitchesOffOnClose(Keithley2450):
    """Changes the output when it only was to let go."""

    async def close(self) -> None:
        """Switch off and close."""
        if self._function is not None:
            await self._wire.send(b":OUTP OFF\n", 0.5)
        await super().close()


BROKEN: tuple[tuple[str, Any, Rule], ...] = (
    ("keithley-2450", Nameless, conformance.states_what_it_is),
    ("keithley-2450", Half, conformance.implements_its_roles),
    ("keithley-2450", WritesOnConnect, conformance.identifies_without_writing),
    ("keithley-2450", Credulous, conformance.refuses_another_instrument),
    (
        "keithley-2450",
        TrustsALinkThatCameBack,
        conformance.verifies_the_identity_after_a_reconnect,
    ),
    ("pt113", SilentAboutSilence, conformance.has_plausible_capabilities),
    ("keithley-2450", MisreadsTheSign, conformance.measures_what_the_cell_does),
    ("pt113", WeighsInTheWrongUnit, conformance.measures_what_the_cell_does),
    ("keithley-2450", PreparesWithTheOutputOn, conformance.prepares_with_the_output_off),
    ("keithley-2450", SourcesCurrent, conformance.stops_at_the_cutoff_by_itself),
    ("keithley-2450", Clamps, conformance.refuses_what_it_cannot_do),
    ("keithley-2450", BelievesItself, conformance.switches_off_and_reads_it_back),
    ("keithley-2450", NeverReadsBack, conformance.never_calls_an_unverified_output_safe),
    ("keithley-2450", WaitsForEver, conformance.fails_in_time_under_each_fault),
    ("keithley-2450", MakesNumbersUp, conformance.fails_in_time_under_each_fault),
    ("keithley-2450", DeafToErrors, conformance.maps_the_errors_of_the_instrument),
    ("keithley-2450", SwitchesOffOnClose, conformance.closes_without_touching_the_output),
)


@pytest.mark.parametrize(
    ("name", "driver", "rule"), BROKEN, ids=lambda x: getattr(x, "__name__", x)
)
def test_a_broken_driver_fails_its_rule(name: str, driver: Any, rule: Rule, tmp_path: Path) -> None:
    # The intact driver passes the same rule, see above: only the one defect can be the reason.
    with pytest.raises((AssertionError, InstrumentError, TimeoutError, pytest.fail.Exception)):
        judge(rule, name, driver, tmp_path)


def test_every_rule_has_a_driver_that_breaks_it() -> None:
    assert {rule for _, _, rule in BROKEN} == set(RULES)


def test_an_open_circuit_drives_no_current(tmp_path: Path) -> None:
    async def main() -> None:
        subject = Subject("keithley-2450", Keithley2450, tmp_path)
        await subject.instrument.connect()
        await subject.instrument.prepare(Protection((2.5, 4.25), 5e-3))
        await subject.instrument.apply(OpenCircuit(4.75))
        await subject.clock.sleep(3600.0)
        assert subject.relay
        assert abs(subject.simulation.cells["c1"].charge_passed(subject.clock.now())) < 1e-4

    run(main(), virtual=True)
