"""What passes between a 2450 and its driver in the ordinary course of things."""

from __future__ import annotations

from operando.drivers.keithley_2450 import Keithley2450
from operando.instruments.roles import Galvanostatic, Protection
from wire.transcript import Transcript

IDENTITY = "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c"
NO_ERROR = '0,"No error;0,0,0"'
WINDOW = Protection(voltage=(2.5, 4.25), current=5e-3)
READ = ':READ? "defbuffer1",SOUR,READ'


def greet(peer: Transcript, identity: str = IDENTITY) -> None:
    peer.dialogue(("*IDN?", identity), ("*LANG?", "SCPI"))


def told(peer: Transcript, *commands: str) -> None:
    """A batch of commands and one look into the event log."""
    peer.expect(*commands)
    peer.answer(":SYST:ERR?", NO_ERROR)


def relay_opened(peer: Transcript) -> None:
    told(peer, ":OUTP OFF")
    peer.answer(":OUTP?", "0")
    told(peer, ":OUTP:SMOD HIMP")
    peer.dialogue((":OUTP:VOLT:SMOD?", "HIMP"), (":OUTP:CURR:SMOD?", "HIMP"))


def wiring_read(peer: Transcript) -> None:
    peer.dialogue(
        (":SOUR:VOLT:PROT?", "PROT5"),
        (":SENS:VOLT:RSEN?", "1"),
        (":SENS:CURR:RSEN?", "1"),
        (":SOUR:VOLT:READ:BACK?", "1"),
        (":SOUR:CURR:READ:BACK?", "1"),
        (":OUTP:VOLT:SMOD?", "HIMP"),
        (":OUTP:CURR:SMOD?", "HIMP"),
    )


def preparation(peer: Transcript, protection: str = "PROT5") -> None:
    """All of it, or as far as the first mismatch when another protection is read back."""
    peer.answer(":SYST:ERR?", '-113,"Undefined header;1;2015/05/06 12:57:04.484"')
    peer.answer(":SYST:ERR?", NO_ERROR)
    relay_opened(peer)
    told(
        peer,
        ":ROUT:TERM FRON",
        ":SENS:COUN 1",
        ':SENS:FUNC "VOLT"',
        ":SENS:VOLT:RANG:AUTO ON",
        ":SENS:VOLT:RSEN ON",
        ":SENS:VOLT:NPLC 1",
        ":SENS:VOLT:AZER ON",
        ':SENS:FUNC "CURR"',
        ":SENS:CURR:RANG:AUTO ON",
        ":SENS:CURR:RSEN ON",
        ":SENS:CURR:NPLC 1",
        ":SENS:CURR:AZER ON",
        ":SOUR:FUNC VOLT",
        ":SOUR:VOLT 0",
        ":SOUR:CURR 0",
        ":SOUR:CURR:VLIM 1",
        ":SOUR:VOLT:RANG 20",
        ":SOUR:VOLT:PROT PROT5",
        ":SOUR:VOLT:READ:BACK ON",
        ":SOUR:CURR:READ:BACK ON",
    )
    peer.dialogue(
        (":ROUT:TERM?", "FRON"),
        (":SENS:COUN?", "1"),
        (":SENS:VOLT:NPLC?", "1.000000E+00"),
        (":SENS:CURR:NPLC?", "1.000000E+00"),
    )
    if protection != "PROT5":
        peer.answer(":SOUR:VOLT:PROT?", protection)
        return
    wiring_read(peer)
    peer.dialogue((":SOUR:VOLT:RANG?", "2.000000E+01"), (":OUTP?", "0"))


def programmed(peer: Transcript, level: str, limit: str, current_range: str) -> None:
    told(
        peer,
        ":SOUR:FUNC VOLT",
        ':SENS:FUNC "CURR"',
        ":SENS:CURR:RANG:AUTO ON",
        ":SOUR:VOLT:RANG 20",
        f":SOUR:VOLT {level}",
        f":SOUR:VOLT:ILIM {limit}",
        f":SENS:CURR:RANG {current_range}",
    )


def read_back(peer: Transcript, level: str, limit: str, current_range: str) -> None:
    wiring_read(peer)
    peer.dialogue(
        (":SOUR:FUNC?", "VOLT"),
        (":SENS:FUNC?", '"CURR:DC"'),
        (":SOUR:VOLT:RANG?", "2.000000E+01"),
        (":SOUR:VOLT?", level),
        (":SENS:CURR:RANG?", current_range),
        (":SOUR:VOLT:ILIM?", limit),
    )


def charging(peer: Transcript) -> None:
    """From the open relay to 1.57 mA up to 4.25 V."""
    peer.dialogue((":OUTP?", "0"), (":SOUR:FUNC?", "VOLT"))
    programmed(peer, "4.25", "0.00157", "0.01")
    read_back(peer, "4.250000E+00", "1.570000E-03", "1.000000E-02")
    told(peer, ":OUTP ON")
    peer.answer(":OUTP?", "1")


CHARGE = Galvanostatic(current=1.57e-3, cutoff=4.25)


async def charge_of(smu: Keithley2450, peer: Transcript) -> None:
    greet(peer)
    preparation(peer)
    charging(peer)
    await smu.connect()
    await smu.prepare(WINDOW)
    await smu.apply(CHARGE)


def made_safe(peer: Transcript) -> None:
    peer.expect(":ABOR", ":OUTP OFF")
    peer.dialogue(
        (":OUTP?", "0"),
        (":OUTP:VOLT:SMOD?", "HIMP"),
        (":OUTP:CURR:SMOD?", "HIMP"),
        (":SYST:ERR?", NO_ERROR),
    )
