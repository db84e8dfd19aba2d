"""Every driver on a line that damages replies: an error of ours, or what the bytes do say.

The replies are those of the simulated instruments. What damaged bytes say is read here anew, by
expressions of the documents' forms and other people's check sums, not by the drivers' parsers.
"""

from __future__ import annotations

import dataclasses
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from conformance import PROFILES
from drivers.tampered import Patient, Wound, wounds
from operando.drivers.dmt143 import DMT143Settings
from operando.drivers.pt113 import PT113Settings
from operando.instruments.errors import InstrumentError
from operando.instruments.samples import Status

Says = Callable[[bytes], Iterator[Sequence[float]]]
"""What bytes may be taken for: readings as sequences of numbers."""

NUMBER = rb"[+-]?\d+(?:\.\d+)?"
SCIENTIFIC = rb"[+-]?\d\.\d+E[+-]\d{2}"

PISTON = 1.3273e-4
"""m2, a piston of 13 mm diameter."""

PSI = 6894.757
"""Pa (NIST SP 811, appendix B.8)."""

RATIO = 1.9635e-3 / PISTON
"""A bellows of 50 mm on a piston of 13 mm."""


def first_line(form: bytes, end: bytes) -> Callable[[bytes], re.Match[bytes] | None]:
    """Matches the form against the line that comes first, all of it."""
    return lambda heard: re.fullmatch(form, heard.partition(end)[0]) if end in heard else None


def in_line(form: bytes, end: bytes, scale: float, offset: float = 0.0) -> Says:
    """Bytes whose first line has one number."""
    match = first_line(form, end)

    def says(heard: bytes) -> Iterator[Sequence[float]]:
        found = match(heard)
        if found is not None:
            yield (float(found[1]) * scale + offset,)

    return says


def in_frame(length: int, value: Callable[[bytes], float]) -> Says:
    """Bytes that are a Modbus reply of slave 1 with a good check sum and so many bytes of data."""

    def says(heard: bytes) -> Iterator[Sequence[float]]:
        frame = heard[: length + 5]
        body, sent = frame[:-2], frame[-2:]
        whole = len(frame) == length + 5 and body[:3] == bytes((1, 3, length))
        if whole and FramerRTU.compute_CRC(body).to_bytes(2, "big") == sent:
            yield (value(body[3:]),)

    return says


def summed(heard: bytes) -> Iterator[Sequence[float]]:
    """A weight with the BSI check sum: all characters and it are 0 modulo 256."""
    line, end, _ = heard.partition(b"\r\n")
    found = re.fullmatch(rb"01B[SD]([+-][\d.]{8})[0-9A-F]{2}", line)
    if end and found and (sum(line[:-2]) + int(line[-2:], 16)) % 256 == 0:
        yield (float(found[1]) / PISTON,)


def source_meter(fields: int) -> Says:
    """Lines of voltage and current, and more numbers behind them, or 0: the output is off."""
    form = b",".join([rb"\s*(%b)\s*" % SCIENTIFIC] * fields)

    def says(heard: bytes) -> Iterator[Sequence[float]]:
        for line in heard.split(b"\n")[:-1]:
            found = re.fullmatch(form, line)
            if found is not None:
                yield float(found[1]), float(found[2])
            elif fields == 3 and line.strip() == b"0":
                yield math.nan, 0.0

    return says


def dew_point(heard: bytes) -> Iterator[Sequence[float]]:
    """A line of a DMT143."""
    found = re.match(rb"[> \r\n]*Tdf\s*=\s*(%b)\s*'C[^\r\n]*[\r\n]" % NUMBER, heard)
    if found:
        yield (float(found[1]) + 273.15,)


def with_sum(heard: bytes) -> Iterator[Sequence[float]]:
    """A line of a DMT143 with its modulus-65536 check sum of what was sent before it."""
    form = rb"[> \r\n]*(Tdf\s*=\s*(%b)\s*'C[^\r\n]*)([0-9A-Fa-f]{4})\s*[\r\n]" % NUMBER
    found = re.match(form, heard)
    if found and sum(found[1]) % 65536 == int(found[3], 16):
        yield (float(found[2]) + 273.15,)


def keyed(voltage: bytes, current: bytes) -> Says:
    """All voltages and currents that stand behind their keys in a text."""

    def says(heard: bytes) -> Iterator[Sequence[float]]:
        text = heard.decode("utf-8", "replace").encode()
        for volts in re.findall(voltage, text):
            for amperes in re.findall(current, text):
                yield float(volts), float(amperes)

    return says


SCALES = dict(zip(b"afpnum kMGTPE", range(-18, 19, 3), strict=True))


def packages(heard: bytes) -> Iterator[Sequence[float]]:
    """Voltage and current in data packages of the driver's own scripts."""

    def value(digits: bytes, prefix: bytes) -> float:
        return (int(digits, 16) - (1 << 27)) * 10.0 ** SCALES[prefix[0]]

    one = rb"([0-9A-Fa-f]{7})([afpnum kMGTPE])[^;\n]*"
    for found in re.finditer(
        rb"^[\x11\x13]*Peb[^;\n]*;ja[^;\n]*;(?:ab|da)%b;(?:ba|db)%b$" % (one, one),
        heard.translate(None, b"\x11\x13"),
        re.MULTILINE,
    ):
        yield value(found[1], found[2]), value(found[3], found[4])


class Case(NamedTuple):
    """A driver, what its replies say, and how it is used.

    replies: how many there are to damage. nearness: allowed besides the rounding of a float.
    settings, options: of driver and simulated instrument. before: what is sent to it first.
    """

    name: str
    says: Says
    replies: int = 1
    nearness: float = 0.0
    settings: Any = None
    options: str = ""
    before: bytes = b""


SUMMED_FORM = (
    b'FORM "Tdf=" 3.2 Tdf " " U3 "Tdfatm=" 3.2 Tdfa " " U3 "H2O=" 6.0 H2O " " U3 CS4 \\r \\n'
)

CASES = {
    "pt113": Case("pt113", in_line(rb"01B[SD]([+-][\d.]{8})", b"\r\n", 1.0 / PISTON)),
    "pt113 with check sum": Case(
        "pt113", summed, settings=PT113Settings(checksum=True), options="checksum = true"
    ),
    "pt113-modbus": Case(
        "pt113-modbus", in_frame(6, lambda data: struct.unpack(">i", data[:4])[0] / 10.0 / PISTON)
    ),
    "keller-33x": Case("keller-33x", in_frame(4, lambda data: struct.unpack(">f", data)[0] * 1e5)),
    "rapidox-1100": Case(
        "rapidox-1100", in_line(rb"d(\d\.\d{3}E[+-]\d\d),.*", b"\r\n", 1e-6), nearness=1e-12
    ),
    "dmt143": Case("dmt143", dew_point, options='mode = "POLL"'),
    "dmt143 with check sum": Case(
        "dmt143",
        with_sum,
        settings=DMT143Settings(checksum="CS4"),
        options='mode = "POLL"',
        before=b"OPEN 0\r" + SUMMED_FORM + b"\rCLOSE\r",
    ),
    "espec-p300": Case("espec-p300", in_line(rb"(%b),.*" % NUMBER, b"\r\n", 1.0, 273.15)),
    "alicat-dual-valve": Case(
        "alicat-dual-valve",
        in_line(rb"\n*A +(%b) .*" % NUMBER, b"\r", PSI * RATIO),
        options="stiffness = 0.0",
    ),
    "keithley-2400": Case("keithley-2400", source_meter(3), replies=2),
    "keithley-2450": Case("keithley-2450", source_meter(2)),
    "keithley-2461": Case("keithley-2461", source_meter(2)),
    "maccor-macnet": Case(
        "maccor-macnet",
        keyed(rb'"Voltage"\s*:\s*(-?\d[\d.eE+-]*)', rb'"Current"\s*:\s*(-?\d[\d.eE+-]*)'),
    ),
    "neware-bts8": Case(
        "neware-bts8",
        keyed(rb"voltage=[\"'](-?\d[\d.eE+-]*)", rb"curr(?:ent)?=[\"'](-?\d[\d.eE+-]*)"),
        replies=2,
        nearness=5e-5,  # the live current has four decimals, the one that was stored has all
    ),
    "palmsens-methodscript": Case(
        "palmsens-methodscript", packages, replies=2, options='model = "emstat4-hr"'
    ),
}


def numbers_of(result: Any) -> tuple[tuple[float, ...], Status]:
    """What a reading says, as the oracles do, and its gravest status."""
    if type(result) is tuple:  # a reading is a named one
        return (result[0].value,), result[0].status
    if hasattr(result, "value"):
        return (result.value,), result.status
    return (result.voltage, result.current), result.status


def is_said(numbers: Sequence[float], status: Status, heard: Sequence[bytes], case: Case) -> bool:
    """Whether a reading is one of those that the bytes say; without a number it must not be OK.

    heard: in pieces as they came, of which the driver may have dropped the first.
    """
    nothing = math.isnan(numbers[0]) and (math.isnan(numbers[-1]) or numbers[-1] == 0.0)
    if nothing and status is not Status.OK:
        return True

    def near(number: float, said: float) -> bool:
        if math.isnan(number):
            return math.isnan(said) or status is not Status.OK
        if case.name == "maccor-macnet":  # the sign of a current follows from another number
            number, said = abs(number), abs(said)
        return abs(number - said) <= 1e-9 * abs(said) + case.nearness

    texts = (b"".join(heard[start:]) for start in range(len(heard)))
    return any(all(map(near, numbers, said)) for text in texts for said in case.says(text))


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_reply_is_an_error_of_ours_or_what_its_bytes_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    profile = dataclasses.replace(PROFILES[case.name], options=case.options)
    monkeypatch.setitem(PROFILES, case.name, profile)
    refused = read = 0
    with Patient(case.name, tmp_path, case.settings, case.before) as patient:

        @given(wounds, st.integers(0, case.replies - 1))
        def check(damage: list[Wound], which: int) -> None:
            nonlocal refused, read
            named = "nothing was refused"
            try:
                result = patient.do(patient.measure(damage, which))
            except InstrumentError as error:
                named = error.instrument
                refused += 1
                patient.do(patient.driver.reconnect())
                result = patient.do(patient.measure([]))
            assert named, "the error does not name the instrument"
            read += 1
            heard = patient.tamper.heard
            assert is_said(*numbers_of(result), heard, case), (result, heard)

        check()
        assert refused > 20
        assert read > refused
