"""What a simulated instrument writes, its driver reads back; what no instrument writes, it refuses.

The two sides share no code: a number that goes through both has met the document twice.
"""

from __future__ import annotations

import json
import math
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.tampered import Patient
from operando.drivers import ess, ruuvi
from operando.drivers.maccor_messages import (
    EVERYTHING,
    MacNetRefusedError,
    MacNetReplyError,
    result_of,
    state_of,
    status_of,
)
from operando.drivers.neware_xml import ChannelPlace, live_of, reply_to, rows_of, states_of
from operando.drivers.palmsens_packages import package, point
from operando.instruments.errors import GarbledReplyError, ReportedError
from operando.instruments.samples import Status
from operando.simulators.devices import (
    dmt143_format,
    gas_sensor,
    maccor_messages,
    neware_xml,
    palmsens_packages,
)
from operando.simulators.devices import ess as simulated_ess
from operando.simulators.devices import ruuvi as simulated_ruuvi
from operando.simulators.devices.keithley_buffer import exponent
from operando.simulators.devices.modbus_slave import RtuSlave
from operando.simulators.devices.scpi import Event

# ---------------------------------------------------------------- through the whole driver

PISTON = 1.3273e-4
BELLOWS = 1.9635e-3
PSI = 6894.757


def registers(data: bytes) -> Callable[[Any, bytes], bytes]:
    """A simulated slave's reply to a request for registers, with these bytes."""
    count = len(data) // 2

    def framed(_: Any, request: bytes) -> bytes:
        values = list(struct.unpack(f">{count}H", data))
        slave = RtuSlave(1, lambda start, count, now: values, lambda *_: None)
        ((_, reply),) = slave.receive(bytearray(request), 0.0)
        return reply

    return framed


class Spoken(NamedTuple):
    """Values to be spoken, how the simulated instrument writes one, what is to be read.

    rounding: of what is written.
    """

    values: st.SearchStrategy[float]
    write: Callable[[Any, float], bytes]
    reading: Callable[[float], tuple[float, ...]]
    rounding: float


READ_GROSS = bytes.fromhex("01 03 00 05 00 03 15 CA")
READ_P1 = bytes.fromhex("01 03 00 02 00 02 65 CB")


def dew_point_line(_: Any, kelvins: float) -> bytes:
    """The default line of a transmitter at 1 atm."""
    vapour = gas_sensor.saturation_pressure(kelvins)
    ppm = 1e6 * vapour / (101_325.0 - vapour)
    shown = dmt143_format.Reading(kelvins, kelvins, ppm, 0.0)
    return dmt143_format.message(dmt143_format.DEFAULT_FORM, shown, True, lambda name: "")


def shown_by_a_chamber(device: Any, celsius: float) -> bytes:
    """What a chamber answers to MON? when it measures this."""
    device.measured, device._noise = lambda now: celsius, 0.0
    return f"{device._show(0.0)},,STANDBY,0\r\n".encode()


SPOKEN = {
    "pt113": Spoken(
        st.floats(-9e4, 9e4),
        lambda device, newtons: f"01BS{device._weight(newtons)}\r\n".encode(),
        lambda newtons: (newtons / PISTON,),
        0.051 / PISTON,
    ),
    "pt113-modbus": Spoken(
        st.floats(-2e8, 2e8),
        lambda device, newtons: registers(struct.pack(">iH", round(newtons * 10.0), 0x0002))(
            device, READ_GROSS
        ),
        lambda newtons: (newtons / PISTON,),
        0.051 / PISTON,
    ),
    "keller-33x": Spoken(
        st.floats(-1.0, 30.0, width=32),
        lambda device, bar: registers(struct.pack(">f", bar))(device, READ_P1),
        lambda bar: (bar * 1e5,),
        1e-6,
    ),
    "rapidox-1100": Spoken(
        st.floats(1e-6, 0.3),
        lambda device, fraction: (
            device._line(
                f"{fraction * 1e6:.3E}", "1.000E+01", "0.000E+00", "10:15:00,01/02/26", "", 0
            ).encode()
            + b"\r\n"
        ),
        lambda fraction: (fraction,),
        2e-4,
    ),
    "espec-p300": Spoken(
        st.floats(-40.0, 150.0),
        shown_by_a_chamber,
        lambda celsius: (celsius + 273.15,),
        0.051,
    ),
    "alicat-dual-valve": Spoken(
        st.floats(0.0, 100.0),
        lambda device, psi: f"A {device._print(psi * PSI)} {device._print(1e5)}\r".encode(),
        lambda psi: (psi * PSI * BELLOWS / PISTON,),
        0.0051 * PSI * BELLOWS / PISTON,
    ),
    "dmt143": Spoken(
        st.floats(200.0, 303.0),
        dew_point_line,
        lambda kelvins: (kelvins,),
        0.0051,
    ),
    "keithley-2450": Spoken(
        st.floats(-20.0, 20.0).map(lambda volts: round(volts, 6)),
        lambda device, volts: f"{exponent(volts)},{exponent(1.5e-3)}\n".encode(),
        lambda volts: (volts, 1.5e-3),
        1e-5,
    ),
    "keithley-2400": Spoken(
        st.floats(-20.0, 20.0).map(lambda volts: round(volts, 6)),
        lambda device, volts: (
            f"{exponent(volts)},{exponent(1.5e-3)},{exponent(4216844.0)}\n".encode()
        ),
        lambda volts: (volts, 1.5e-3),
        1e-5,
    ),
}


@pytest.mark.parametrize("name", SPOKEN)
def test_what_the_simulated_instrument_writes_is_what_the_driver_reads(
    name: str, tmp_path: Path
) -> None:
    spoken = SPOKEN[name]
    with Patient(name, tmp_path) as patient:
        device = patient.subject.simulation.devices["it"]

        @given(spoken.values)
        def check(value: float) -> None:
            written = spoken.write(device, value)
            mark = b"," if name.startswith("keithley") else b""
            result = patient.do(patient.measure_as(written, mark))
            first = result[0] if type(result) is tuple else result
            numbers = (first.value,) if hasattr(first, "value") else (first.voltage, first.current)
            wanted = spoken.reading(value)
            for number, want in zip(numbers, wanted, strict=True):
                assert number == pytest.approx(want, abs=spoken.rounding, rel=5e-4), written

        check()


# ---------------------------------------------------------------- decoder by decoder

numbers = st.floats(-1e6, 1e6).filter(lambda value: value == 0.0 or abs(value) > 1e-9)


@given(numbers, numbers, st.integers(0, 15), st.integers(0, 255), st.booleans())
def test_packages_survive_their_way(
    voltage: float, current: float, flags: int, index: int, noise: bool
) -> None:
    variables = [
        palmsens_packages.Variable(12.5, "eb"),
        palmsens_packages.Variable(1, "ja"),
        palmsens_packages.Variable(voltage, "ab", flags, index),
        palmsens_packages.Variable(current, "ba", flags, index),
    ]
    line = "P" + ";".join(palmsens_packages.write(one, noise) for one in variables)
    found = package(line.encode())
    assert [one.kind for one in found] == ["eb", "ja", "ab", "ba"]
    assert [one.value for one in found] == pytest.approx([12.5, 1.0, voltage, current], rel=1e-4)
    assert {(one.flags, one.range) for one in found[2:]} == {(flags, index)}
    made = point(line.encode())
    assert (made.time, made.stage) == (12.5, 1)
    assert (made.status is Status.OVERLOAD) == bool(flags & palmsens_packages.OVERLOAD)


@given(st.integers(-palmsens_packages.OFFSET, palmsens_packages.OFFSET - 1))
def test_whole_numbers_of_a_script_keep_every_digit(value: int) -> None:
    (found,) = package(f"Pja{palmsens_packages.encode(value)}".encode())
    assert found.value == value


single = st.floats(-(2.0**99), 2.0**99, width=32)


@given(single, single, st.integers(0, 18), st.integers(0, 0xFFFF), st.booleans())
def test_what_a_tester_tells_survives_its_way(
    voltage: float, current: float, state: int, step: int, lines: bool
) -> None:
    body = {
        "FClass": 4, "FNum": 7, "Chan": 3, "RF1": 1, "RF2": 0, "Stat": state, "LastRecNum": 1,
        "Cycle": 0, "Step": step, "TestTime": 1, "StepTime": 1, "Capacity": 0, "Energy": 0,
        "Current": maccor_messages.single(current), "Voltage": maccor_messages.single(voltage),
        "TesterTime": "2026-01-01T00:00:05",
    }  # fmt: skip
    reply = maccor_messages.encode(maccor_messages.result(7, body), lines=lines)
    found = result_of(reply, EVERYTHING, {"Chan": 3}, 7)
    assert found.number("Voltage") == pytest.approx(voltage, rel=1e-7)
    assert found.number("Current") == pytest.approx(current, rel=1e-7)
    assert state_of(found) == (1, 0, state)
    assert status_of(found).step == step


@given(st.sampled_from(sorted(maccor_messages.ERROR_CODES)), st.sampled_from(["object", "text"]))
def test_a_refusal_of_a_tester_is_one(text: str, shape: str) -> None:
    reply = maccor_messages.encode(maccor_messages.error(7, text, shape), lines=False)
    with pytest.raises(MacNetRefusedError) as caught:
        result_of(reply, EVERYTHING, {"Chan": 3}, 7)
    assert caught.value.text == text


ONE = ChannelPlace("127.0.0.1", 27, 21, 1, 1)
PLACE = {"devtype": 27, "devid": 21, "subdevid": 1, "chlid": 1}


@given(st.floats(-10.0, 10.0), st.floats(-100.0, 100.0), st.text(max_size=20))
def test_live_data_of_a_cycler_survive_their_way(volts: float, amps: float, barcode: str) -> None:
    values = {
        "dev": "27-21-1-1-0", "cycle_id": 2, "step_id": 3, "step_type": "cc",
        "workstatus": "working", "barcode": "".join(filter(str.isprintable, barcode)),
        "current": neware_xml.short(amps, 4), "voltage": neware_xml.short(volts, 4),
        "capacity": "0", "energy": "0", "totaltime": "5.1", "relativetime": "5.1", "log_code": 0,
    }  # fmt: skip
    body = neware_xml.listing([neware_xml.element("inquire", values)])
    data = neware_xml.reply("inquire_resp", body).removesuffix(neware_xml.END)
    if "<!" in data.decode():
        return
    (live,) = live_of(reply_to("inquire", data), [ONE])
    assert (live.voltage, live.current) == pytest.approx((volts, amps), abs=5.01e-5)
    assert (live.state, live.step, live.barcode) == ("working", 3, values["barcode"])


@given(st.lists(st.tuples(st.floats(-10.0, 10.0), st.floats(-100.0, 100.0)), max_size=5))
def test_stored_rows_of_a_cycler_survive_their_way(rows: list[tuple[float, float]]) -> None:
    written = [
        neware_xml.element(
            "data",
            {
                "seqid": number, "stepid": 1, "cycleid": 1, "steptype": "cc",
                "testtime": 1000 * number, "atime": "2026-01-01 00:00:05",
                "volt": neware_xml.stored(neware_xml.single(volts)),
                "curr": neware_xml.stored(neware_xml.single(amps)), "cap": "0", "eng": "0",
            },
        )
        for number, (volts, amps) in enumerate(rows, 1)
    ]  # fmt: skip
    about = neware_xml.element("download", {**PLACE, "testid": 1, "startpos": 1, "count": 1000})
    data = neware_xml.reply("donwload_resp", f"{about}\r\n{neware_xml.listing(written)}")
    found = rows_of(reply_to("download", data.removesuffix(neware_xml.END)), ONE, 1)
    assert [row.number for row in found] == list(range(1, len(rows) + 1))
    for row, (volts, amps) in zip(found, rows, strict=True):
        assert (row.voltage, row.current) == pytest.approx((volts, amps), rel=1e-6, abs=1e-30)


maybe = st.none()


@given(
    maybe | st.floats(110.0, 436.0),
    maybe | st.floats(0.0, 1.63),
    maybe | st.floats(50_000.0, 115_000.0),
    maybe | st.floats(1.6, 3.6),
    maybe | st.integers(0, 254),
    maybe | st.integers(0, 65534),
)
def test_a_broadcast_survives_its_way(
    temperature: float | None,
    humidity: float | None,
    pressure: float | None,
    voltage: float | None,
    movements: int | None,
    sequence: int | None,
) -> None:
    data = simulated_ruuvi.frame(
        temperature=temperature,
        humidity=humidity,
        pressure=pressure,
        acceleration=None,
        voltage=voltage,
        power=None,
        movements=movements,
        sequence=sequence,
        address="CB:B8:33:4C:88:4F",
    )
    found = ruuvi.parse(data)
    assert found is not None
    for value, told, step in (
        (temperature, found.temperature, 0.005),
        (humidity, found.humidity, 0.25e-4),
        (pressure, found.pressure, 1.0),
        (voltage, found.battery, 1e-3),
    ):
        if value is None:
            assert math.isnan(told)
        else:
            assert told == pytest.approx(value, abs=0.51 * step)
    assert (found.movements, found.sequence) == (movements, sequence)
    assert all(map(math.isnan, found.acceleration))


@given(st.floats(0.0, 500.0), st.floats(0.0, 1.0), st.floats(0.0, 4e8))
def test_characteristics_survive_their_way(kelvins: float, humidity: float, pascals: float) -> None:
    encode = simulated_ess.encode
    assert ess.temperature(encode(simulated_ess.TEMPERATURE, kelvins)) == pytest.approx(
        kelvins, abs=0.0051
    )
    assert ess.humidity(encode(simulated_ess.HUMIDITY, humidity)) == pytest.approx(
        humidity, abs=0.51e-4
    )
    assert ess.pressure(encode(simulated_ess.PRESSURE, pascals)) == pytest.approx(
        pascals, abs=0.051
    )


@pytest.mark.parametrize("name", ["keithley-2400", "keithley-2450"])
def test_an_entry_of_an_event_log_becomes_its_code_and_text(name: str, tmp_path: Path) -> None:
    with Patient(name, tmp_path) as patient:

        @given(st.integers(-999, 5099).filter(bool), st.text("abcXYZ (),.-", max_size=30))
        def check(code: int, text: str) -> None:
            event = Event(code, text, 1, 1_767_225_605.0)
            entry = event.dated() if name == "keithley-2450" else f'{code},"{text}"'
            telling = patient.driver._tell(":SENS:CURR:NPLC 1")
            with pytest.raises(ReportedError) as caught:
                patient.do(patient.hears(entry.encode() + b"\n", b"No error", telling))
            assert caught.value.code == code
            assert caught.value.text.startswith(text)

        check()


# ---------------------------------------------------------------- what no instrument writes

HEAD, TAIL = "<bts><cmd>inquire_resp</cmd><list>", "</list></bts>"
ITEM = (
    '<inquire dev="27-21-1-1-0" step_type="cc" workstatus="working" current="1" voltage="3.7" '
    'capacity="0" energy="0" totaltime="1" relativetime="1" />'
)
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
MALICE = {
    "a billion laughs": f'<!DOCTYPE b [<!ENTITY l0 "ha">{LAUGHS}]>{HEAD}&l9;{TAIL}',
    "quadratic blowup": f'<!DOCTYPE b [<!ENTITY a "{"x" * 50_000}">]>{HEAD}{"&a;" * 50_000}{TAIL}',
    "an entity in a file": f'<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]>{HEAD}&a;{TAIL}',
    "an entity in the net": f'<!DOCTYPE b [<!ENTITY a SYSTEM "http://127.0.0.1/">]>{HEAD}&a;{TAIL}',
    "an external subset": f'<!DOCTYPE b SYSTEM "http://127.0.0.1/b.dtd">{HEAD}{ITEM}{TAIL}',
    "a parameter entity": f'<!DOCTYPE b [<!ENTITY % a "x"> %a;]>{HEAD}{ITEM}{TAIL}',
    "attributes by default": f'<!DOCTYPE b [<!ATTLIST inquire x CDATA "1">]>{HEAD}{ITEM}{TAIL}',
    "a small document type": f"<!DOCTYPE bts>{HEAD}{ITEM}{TAIL}",
    "an entity of nobody": f"{HEAD}&lol;{TAIL}",
    "deep nesting": HEAD + "<a>" * 500_000 + "</a>" * 500_000 + TAIL,
    "nesting within bounds": HEAD + "<a>" * 25_000 + "</a>" * 25_000 + TAIL,
    "very many elements": HEAD + "<a/>" * 900_000 + TAIL,
    "very many attributes": HEAD
    + "<a "
    + " ".join(f'a{n}=""' for n in range(300_000))
    + "/>"
    + TAIL,
    "a huge attribute": f'{HEAD}<inquire dev="{"1" * 3_900_000}"/>{TAIL}',
    "a huge word": ITEM.replace("working", "w" * 3_900_000).join((HEAD, TAIL)),
    "a huge number": ITEM.replace("3.7", "3" * 3_900_000).join((HEAD, TAIL)),
    "a huge name": f"<{'b' * 3_900_000}/>",
    "more than anybody sends": HEAD + " " * 4_000_000 + ITEM + TAIL,
    "the same attribute twice": ITEM.replace('voltage="3.7"', 'voltage="3.7" voltage="3.8"').join(
        (HEAD, TAIL)
    ),
}


def test_the_document_that_malice_is_made_from_is_a_good_one() -> None:
    (live,) = live_of(reply_to("inquire", f"{HEAD}{ITEM}{TAIL}".encode()), [ONE])
    assert live.voltage == 3.7


@pytest.mark.parametrize("name", MALICE)
def test_malicious_xml_is_refused_in_bounded_time_and_memory(name: str) -> None:
    data = MALICE[name].encode()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(GarbledReplyError) as caught:
        live_of(reply_to("inquire", data), [ONE])
    assert time.process_time() - start < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000, "kB"
    assert len(str(caught.value)) < 600


def test_a_document_type_in_another_encoding_is_refused() -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-7"):
        with pytest.raises(GarbledReplyError):
            reply_to("getchlstatus", MALICE["a billion laughs"].encode(encoding))
    assert callable(states_of)


GOOD = {
    "jsonrpc": "2.0",
    "result": {"FClass": 4, "FNum": 7, "Chan": 3, "RF1": 1, "RF2": 0, "Stat": 2, "Voltage": 3.7},
    "id": 7,
}
TEXT = json.dumps(GOOD)
BAD_JSON = {
    "NaN": TEXT.replace("3.7", "NaN"),
    "infinity": TEXT.replace("3.7", "-Infinity"),
    "a float beyond all floats": TEXT.replace("3.7", "1e999"),
    "an integer beyond all floats": TEXT.replace("3.7", "9" * 400),
    "an integer of a hundred thousand digits": TEXT.replace("3.7", "9" * 100_000),
    "an exponent of a hundred thousand digits": TEXT.replace("3.7", "1e" + "9" * 100_000),
    "deep lists": TEXT.replace("3.7", "[" * 90_000),
    "deep objects": TEXT.replace("3.7", '{"a":' * 30_000),
    "balanced deep lists": TEXT.replace("3.7", "[" * 90_000 + "]" * 90_000),
    "a voltage twice": TEXT.replace('"Voltage": 3.7', '"Voltage": 3.7, "Voltage": 3.8'),
    "an id twice": TEXT.replace('"id": 7', '"id": 7, "id": 7'),
    "two results": TEXT.replace('"id"', '"result": {}, "id"'),
    "two replies": TEXT + TEXT,
    "a batch": f"[{TEXT}]",
    "more than anybody sends": TEXT.replace("3.7", '"' + "x" * 4_000_000 + '"'),
    "a byte order mark": "\ufeff" + TEXT,
    "a number in words": TEXT.replace("3.7", '"3.7"'),
    "truth": TEXT.replace("3.7", "true"),
}


def test_the_reply_that_bad_json_is_made_from_is_a_good_one() -> None:
    assert result_of(TEXT.encode(), EVERYTHING, {"Chan": 3}, 7).number("Voltage") == 3.7


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_that_no_tester_sends_is_refused_in_bounded_time(name: str) -> None:
    start = time.process_time()
    with pytest.raises(MacNetReplyError) as caught:
        result_of(BAD_JSON[name].encode(), EVERYTHING, {"Chan": 3}, 7).number("Voltage")
    assert time.process_time() - start < 0.5
    assert len(str(caught.value)) <= 300


def test_the_words_of_a_refusal_are_kept_short() -> None:
    reply = json.dumps({"jsonrpc": "2.0", "error": {"code": 5, "message": "x" * 10_000}, "id": 7})
    with pytest.raises(MacNetRefusedError) as caught:
        result_of(reply.encode(), EVERYTHING, {"Chan": 3}, 7)
    assert len(caught.value.text) == 300
