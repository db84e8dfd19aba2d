"""The simulated DMT143 dew point transmitter."""

from __future__ import annotations

import dataclasses
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import PROFILES
from drivers.tampered import Patient
from operando.instruments.clock import Clock
from operando.instruments.errors import ReplyTimeoutError
from operando.instruments.wires import Sized, Terminated
from operando.simulators.devices.dmt143 import SimulatedDMT143
from operando.simulators.devices.gas_sensor import dew_point, saturation_pressure
from operando.simulators.devices.modbus_slave import crc
from operando.simulators.devices.ports import Site
from operando.simulators.wire.timed import TimedLine
from simulators.bench_of_one import Host, virtual
from simulators.room_of_one import Box, sensor_in

QUIET: dict[str, object] = {"noise": 0.0, "echo": "off", "prompt": False}

STEADY: dict[str, object] = {"autocalibration_interval": 0.0, "purge_interval": 0.0}


async def transmitter(box: Box | None, **options: object) -> tuple[Host, Callable[[str], None]]:
    """A transmitter without noise, echo and prompt unless asked for."""
    return await sensor_in(SimulatedDMT143, box, {**QUIET, **options}, b"\r")


async def ask(host: Host, command: str, timeout: float = 1.0) -> str:
    """Send a command with CR; one line of the answer without CR LF."""
    request = command.encode("ascii") + b"\r"
    reply = await host.wire.exchange(request, Terminated(b"\r\n"), timeout)
    return reply.decode("latin-1")


def wet(ppm: float) -> float:
    """Mole fraction of all gas of a content in ppm of dry gas."""
    return 1e-6 * ppm / (1.0 + 1e-6 * ppm)


def at(celsius: float, pressure: float = 101_325.0) -> float:
    """Mole fraction of water with a dew point."""
    return saturation_pressure(celsius + 273.15) / pressure


def single_blanks(text: str) -> str:
    """As the printed manual shows a line: runs of blanks are lost on its page."""
    return re.sub(" +", " ", text)


async def dew(host: Host) -> float:
    """Dew point that is shown, degC."""
    shown = re.match(r"Tdf= *(-?[\d.]+) ", await ask(host, "SEND"))
    assert shown
    return float(shown[1])


# -- messages of the user guide


@virtual
async def test_the_default_message_is_the_user_guides() -> None:
    host, _ = await transmitter(Box(h2o=wet(2617.8)))
    reply = await host.wire.exchange(b"SEND\r", Terminated(b"\n"), 1.0)
    assert reply == b"Tdf= -9.80 'C Tdfatm= -9.80 'C H2O=  2618 ppm\r"
    assert single_blanks(reply.decode()) == "Tdf= -9.80 'C Tdfatm= -9.80 'C H2O= 2618 ppm\r"


@virtual
async def test_non_metric_units_under_pressure_are_the_user_guides() -> None:
    # 16.71 degF at the sensor is -6.19 degF at one atmosphere when the line is at this pressure.
    celsius, at_one = (16.71 - 32.0) / 1.8, (-6.19 - 32.0) / 1.8
    ratio = saturation_pressure(celsius + 273.15) / saturation_pressure(at_one + 273.15)
    box = Box(h2o=at(at_one))
    box.pascals = 101_325.0 * ratio
    host, _ = await transmitter(box, unit="non-metric", pressure_setting=101_325.0 * ratio)
    assert single_blanks(await ask(host, "SEND")) == "Tdf= 16.71 'F Tdfatm= -6.19 'F H2O= 907 ppm"


@pytest.mark.parametrize(
    ("celsius", "line"),
    [
        (-9.74, b"Tdf= -9.74'C H2O=  2632 ppm  C4\r"),
        (-9.72, b"Tdf= -9.72'C H2O=  2636 ppm  C6\r"),
    ],
)
@virtual
async def test_the_checksums_of_the_user_guides_format_come_out(
    celsius: float, line: bytes
) -> None:
    host, _ = await transmitter(Box(h2o=at(celsius)))
    form = r'FORM 3.2 "Tdf=" Tdf U3 6.0 "H2O=" H2O " " U5 CS2 \r \n'
    assert await ask(host, form) == "OK"
    assert await host.wire.exchange(b"SEND\r", Terminated(b"\n"), 1.0) == line


@virtual
async def test_a_format_may_hold_control_codes_and_no_line_end() -> None:
    host, _ = await transmitter(Box(h2o=at(-9.574)))
    assert await ask(host, r'form #002 3.2 "Tdf="Tdf U3 6.0 "H2O=" H2O " " U5 #003') == "OK"
    reply = await host.wire.exchange(b"send\r", Terminated(b"\x03"), 1.0)
    assert reply == b"\x02Tdf= -9.57'C H2O=  2671 ppm  "


@virtual
async def test_formats_of_others_are_understood() -> None:
    host, _ = await transmitter(Box(h2o=at(-40.0)), address=5, **STEADY)
    form = r'FORM 3.6 Tdf ";" 3.6 Tdfa ";" 6.5 H2O ";" STAT ";" ADDR ";" TIME \n'
    assert await ask(host, form) == "OK"
    reply = await host.wire.exchange(b"SEND\r", Terminated(b"\n"), 1.0)
    assert reply == b"-40.000000;-40.000000;   126.70708; ;5;01:30:00"
    await ask(host, 'FORM 3.3 Tdf " " ERR " " SN " " RH U3 CSX " " CS4 #r#n')
    fields = (await ask(host, "SEND")).split()
    assert fields[:3] == ["-40.000", "0000", "J1140501"]
    assert await ask(host, "FORM /") == "OK"
    assert (await ask(host, "SEND")).startswith("Tdf=-40.00 'C Tdfatm=-40.00 'C H2O=   127 ppm")
    assert await ask(host, "FORM what") == "Invalid argument"


@pytest.mark.parametrize(
    ("ppm", "celsius"),
    [(0.5391, -80), (1.027, -76), (2.578, -70), (10.66, -60), (126.75, -40), (1020.1, -20)],
)
@virtual
async def test_dew_points_agree_with_the_makers_conversion(ppm: float, celsius: float) -> None:
    host, _ = await transmitter(Box(h2o=wet(ppm)), **STEADY)
    await ask(host, r"FORM 3.3 Tdf 9.5 H2O \r\n")
    shown = re.fullmatch(r" *(-[\d.]{6}) *([\d.]+)", await ask(host, "SEND"))
    assert shown
    assert float(shown[1]) == pytest.approx(celsius, abs=0.02)
    assert float(shown[2]) == pytest.approx(ppm, rel=2e-3)


@virtual
async def test_above_freezing_it_shows_the_dew_point_over_water() -> None:
    # 20 degC: 2339.2 Pa (IAPWS-IF97, steam tables).
    host, _ = await transmitter(Box(h2o=2339.2 / 101_325.0))
    assert await dew(host) == pytest.approx(20.0, abs=0.01)
    assert dew_point(611.657) == pytest.approx(273.16, abs=1e-3)


@virtual
async def test_the_water_content_is_reckoned_with_the_pressure_it_was_told() -> None:
    box = Box(h2o=wet(100.0))
    host, _ = await transmitter(box, **STEADY)
    await ask(host, "FORM 5.2 H2O #r#n")
    assert float(await ask(host, "SEND")) == pytest.approx(100.0, rel=1e-3)
    assert await ask(host, "PRES 2.02650") == "Pressure       :   2.02650 bara"
    assert float(await ask(host, "SEND")) == pytest.approx(50.0, rel=1e-3)


# -- the terminal


@pytest.mark.parametrize(
    ("echo", "prompt", "reply"),
    [
        ("as sent", True, b"snum\rSerial number  : J1140501\r\n>"),
        ("as sent", False, b"snum\rSerial number  : J1140501\r\n"),
        ("lines", True, b"snum\r\nSerial number  : J1140501\r\n>"),
        ("off", True, b"Serial number  : J1140501\r\n>"),
    ],
)
@virtual
async def test_echo_and_prompt_can_be_had_in_each_way(
    echo: str, prompt: bool, reply: bytes
) -> None:
    host, _ = await transmitter(Box(), echo=echo, prompt=prompt)
    whole = Sized(1, lambda data: len(reply))
    assert await host.wire.exchange(b"snum\r", whole, 1.0) == reply


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("INTV 1 min", "Output interval: 1 MIN"),
        ("sdelay 30", "Serial delay   :        30"),
        ("ADDR 5", "Address        :        5"),
        ("SNUM", "Serial number  : J1140501"),
        ("VERS", "DMT143 / 1.4.2"),
        ("ERRS", "No errors"),
        ("CLOSE", "line closed"),
        ("OPEN 0", "DMT143   0 line opened for operator commands"),
        ("UNIT n", "Output units   : non metric"),
        ("FILT 0.5", "Filter         : 0.50000"),
        ("SERI 9600 e 7 1", "Baud P D S     : 9600 E 7 1"),
        ("ADDR 256", "Invalid argument"),
        ("INTV", "Output interval: 1 S"),
        ("XYZ", "Unknown command"),
    ],
)
@virtual
async def test_commands_are_answered(command: str, reply: str) -> None:
    host, _ = await transmitter(Box())
    assert await ask(host, command) == reply


@virtual
async def test_the_information_has_serial_number_and_pressure_where_others_read_them() -> None:
    host, _ = await transmitter(Box())

    def whole(data: bytes) -> int:
        return len(data) + (0 if data.count(b"\r\n") == 15 else 1)

    lines = (await host.wire.exchange(b"?\r", Sized(1, whole), 2.0)).decode().split("\r\n")
    assert lines[0] == "DMT143 / 1.4.2"
    assert lines[1].split(" ")[-1] == "J1140501"
    assert lines[13].split(" ")[-2] == "1.01325"


@virtual
async def test_in_poll_mode_only_its_own_address_is_answered() -> None:
    host, _ = await transmitter(Box(h2o=at(-40.0)), mode="POLL", address=5, echo="as sent")
    for command in ("SEND", "SEND 4", "SNUM", "OPEN 4"):
        with pytest.raises(ReplyTimeoutError):
            await ask(host, command)
    assert (await ask(host, "SEND 5")).startswith("Tdf=-40.00")
    assert await ask(host, "open 5") == "DMT143   5 line opened for operator commands"
    assert await ask(host, "SNUM") == "SNUM\rSerial number  : J1140501"
    assert await ask(host, "CLOSE") == "CLOSE\rline closed"
    with pytest.raises(ReplyTimeoutError):
        await ask(host, "SNUM")


@virtual
async def test_in_run_mode_lines_come_by_themselves_until_escape() -> None:
    clock = Clock("virtual")
    heard: list[tuple[float, bytes]] = []
    device = SimulatedDMT143(
        "dp1", site=Site(room=Box(h2o=at(-40.0))), clock=clock, options={**QUIET, "mode": "RUN"}
    )
    line = TimedLine(clock, lambda data: heard.append((clock.now(), data)), lambda: None)
    device.connected(line, clock.now())
    await clock.sleep(5.5)
    assert len(heard) == 5
    assert all(data.startswith(b"Tdf=-40.00") for _, data in heard)
    assert heard[1][0] - heard[0][0] == pytest.approx(1.0)
    device.receive(line, b"SNUM\r", clock.now())
    device.receive(line, b"\x1b", clock.now())
    await clock.sleep(5.0)
    assert len(heard) == 5, "nothing but S and ESC is heard in RUN mode"
    device.receive(line, b"INTV 3 s\rR\r", clock.now())
    await clock.sleep(10.0)
    device.receive(line, b"S\r", clock.now())
    assert [data[:6] for _, data in heard[5:]] == [b"Output", b"Tdf=-4", b"Tdf=-4", b"Tdf=-4"]
    device.close()


@virtual
async def test_a_new_mode_acts_after_a_reset() -> None:
    host, _ = await transmitter(Box(), prompt=True)
    assert await ask(host, "SMODE POLL") == "Serial mode    : POLL"
    assert await ask(host, "SNUM") == "Serial number  : J1140501"
    with pytest.raises(ReplyTimeoutError):
        await ask(host, "RESET", timeout=2.5)
    with pytest.raises(ReplyTimeoutError):
        await ask(host, "SNUM")
    await ask(host, "OPEN 0")
    await ask(host, "SMODE STOP")
    assert await ask(host, "RESET", timeout=2.5) == "DMT143 / 1.4.2"


# -- the sensor


@virtual
async def test_it_follows_wet_gas_in_seconds_and_dry_gas_in_minutes() -> None:
    async def ninety(before: float, after: float) -> float:
        loop_now = Clock("virtual").now()
        step = loop_now + 100.0
        box = Box(h2o=lambda now: at(before if now < step else after))
        host, _ = await transmitter(box, **STEADY)
        await host.clock.sleep_until(step - 0.01)
        await ask(host, "SEND")
        while abs(await dew(host) - after) > 0.1 * abs(after - before):
            await host.clock.sleep(0.2)
        return host.clock.now() - step

    assert await ninety(-50.0, -10.0) == pytest.approx(10.0, abs=0.6)
    assert await ninety(-10.0, -50.0) == pytest.approx(144.0, abs=3.0)


@virtual
async def test_an_automatic_calibration_holds_the_value_and_says_so() -> None:
    box = Box(h2o=lambda now: at(-40.0 if now < 1000.0 else -20.0))
    host, _ = await transmitter(box, powered_for=3600.0 - 990.0)
    await ask(host, r"FORM 3.2 Tdf STAT \r\n")
    assert await ask(host, "SEND") == "-40.00 "
    await host.clock.sleep_until(989.0)
    assert await ask(host, "SEND") == "-40.00 "
    await host.clock.sleep_until(991.0)
    assert await ask(host, "SEND") == "-40.00A"
    await host.clock.sleep_until(1050.0)
    assert await ask(host, "SEND") == "-40.00A"
    await host.clock.sleep_until(1056.0)
    shown = await ask(host, "SEND")
    assert shown[-1] == " "
    assert float(shown) > -22.0


@virtual
async def test_a_held_value_is_that_of_the_beginning_however_often_it_is_asked() -> None:
    async def held(asked_before: tuple[float, ...]) -> str:
        begin = Clock("virtual").now()
        box = Box(h2o=lambda now: at(-60.0 + 0.01 * (now - begin)))
        host, _ = await transmitter(box, powered_for=2600.0, wetting_time=0.0)
        await ask(host, r"FORM 3.2 Tdf STAT \r\n")
        for moment in (0.0, *asked_before, 1030.0):
            await host.clock.sleep_until(begin + moment)
            reply = await ask(host, "SEND")
        return reply

    often = await held((400.0, 990.0, 999.9, 1001.0, 1020.0))
    assert often == "-50.00A"
    assert await held(()) == often


@virtual
async def test_power_brings_a_purge_with_nothing_to_show() -> None:
    host, inject = await transmitter(Box(h2o=at(-60.0)), purge_time=240.0)
    inject("reboot")
    await host.clock.sleep(3.0)
    shown = await ask(host, "SEND")
    assert shown == "Tdf=****** 'C Tdfatm=****** 'C H2O=****** ppm"
    await ask(host, r"FORM 3.2 Tdf STAT ERR \r\n")
    assert await ask(host, "SEND") == "******H0000"
    await host.clock.sleep(240.0)
    assert await ask(host, "SEND") == "-60.00 0000"
    await host.clock.sleep_until(86_400.0 + 60.0)
    assert await ask(host, "SEND") == "-60.00H0000"
    unpurged, _ = await transmitter(Box(h2o=at(-60.0)), purge_interval=0.0, powered_for=0.0)
    assert await dew(unpurged) == -60.0, "the first automatic calibration comes an hour later"


@virtual
async def test_humid_gas_warms_the_sensor() -> None:
    host, _ = await transmitter(Box(h2o=at(21.0)), **STEADY)
    await ask(host, r"FORM STAT \r\n")
    assert await ask(host, "SEND") == "h"


@virtual
async def test_errors_of_calibration_age_and_drift_shift_the_dew_point() -> None:
    year = 365.25 * 86_400.0
    host, _ = await transmitter(
        Box(h2o=at(-60.0)), offset=0.5, ageing=0.25, age=4 * year - 5400.0, **STEADY
    )
    assert await dew(host) == pytest.approx(-58.5, abs=0.01)
    host, _ = await transmitter(Box(h2o=at(-60.0)), drift=1e-3, powered_for=3500.0)
    assert await dew(host) == pytest.approx(-56.5, abs=0.01)
    await host.clock.sleep(200.0)
    assert await dew(host) == pytest.approx(-59.9, abs=0.01), "calibration removes the drift"


@virtual
async def test_below_its_range_it_stays_at_the_end() -> None:
    host, _ = await transmitter(Box(h2o=1e-9), **STEADY)
    assert await dew(host) == -80.0


@virtual
async def test_without_a_room_it_senses_laboratory_air() -> None:
    host, _ = await transmitter(None)
    assert await dew(host) == pytest.approx(10.6, abs=0.3)


# -- faults, time


@virtual
async def test_faults_inside_are_asterisks_error_bits_and_refusals() -> None:
    host, inject = await transmitter(Box(h2o=at(-60.0)), **STEADY)
    await ask(host, r"FORM 3.2 Tdf ERR \r\n")
    inject("overload once")
    assert await ask(host, "SEND") == "******0010"
    assert await ask(host, "SEND") == "-60.000000"
    inject("unplug")
    assert await ask(host, "SEND") == "******0010"
    assert await ask(host, "ERRS") == "F meas error"
    inject("nak once")
    assert await ask(host, "SEND") == "Unknown command"
    inject("identity K7654321")
    assert await ask(host, "SNUM") == "Serial number  : K7654321"
    inject("none")
    assert await ask(host, "SNUM") == "Serial number  : J1140501"


@virtual
async def test_it_is_silent_while_it_starts() -> None:
    host, inject = await transmitter(Box())
    inject("reboot")
    with pytest.raises(ReplyTimeoutError):
        await ask(host, "SNUM", timeout=1.9)
    await host.clock.sleep(0.2)
    assert await ask(host, "SNUM") == "Serial number  : J1140501"


@virtual
async def test_the_serial_line_takes_its_time() -> None:
    host, _ = await transmitter(Box(), baud=300, response_time=0.5)
    before = host.clock.now()
    reply = await ask(host, "SNUM", timeout=5.0)
    assert host.clock.now() - before == pytest.approx(0.5 + 10 * (5 + len(reply) + 2) / 300)


# -- Modbus


def _length(reply: bytes) -> int:
    if reply[1] & 0x80:
        return 5
    return 5 + reply[2] if reply[1] == 3 else 200


async def exchange(host: Host, frame: str) -> str:
    """Send a frame written as hex; the reply as hex."""
    reply = await host.wire.exchange(bytes.fromhex(frame), Sized(3, _length), 1.0)
    return reply.hex(" ").upper()


def framed(body: str) -> str:
    """A frame with its CRC, as hex."""
    data = bytes.fromhex(body)
    return (data + crc(data)).hex(" ").upper()


@pytest.mark.parametrize(
    ("request_frame", "reply"),
    [
        ("F0 03 1F 01 00 02 87 3E", "F0 03 04 E6 66 C2 F6 1C 8D"),
        ("F0 03 1F 00 00 01 96 FF", "F0 03 02 CF C7 D1 F3"),
        ("F0 03 00 06 00 02 31 2B", "F0 03 04 66 66 C2 98 B4 A1"),
    ],
)
@virtual
async def test_documented_frames_are_answered_byte_for_byte(request_frame: str, reply: str) -> None:
    host, _ = await transmitter(Box(h2o=at(-76.2)), mode="MODBUS", **STEADY)
    assert await exchange(host, request_frame) == reply


@virtual
async def test_modbus_gives_status_text_and_the_other_table() -> None:
    host, inject = await transmitter(
        Box(h2o=at(-76.2)), mode="MODBUS", modbus_table="dmt340", **STEADY
    )
    assert await exchange(host, framed("F0 03 00 08 00 02")) == framed("F0 03 04 66 66 C2 98")
    assert await exchange(host, framed("F0 03 02 00 00 02")) == framed("F0 03 04 00 01 00 01")
    text = bytes.fromhex(await exchange(host, framed("F0 03 1F 03 00 04")))[3:-2]
    assert text == b"-123.45\0"
    inject("overload once")
    low, high = struct.unpack(
        ">HH", bytes.fromhex(await exchange(host, framed("F0 03 00 14 00 02")))[3:-2]
    )
    (value,) = struct.unpack(">f", struct.pack(">HH", high, low))
    assert math.isnan(value)
    inject("nak once")
    assert await exchange(host, framed("F0 03 00 08 00 02")) == framed("F0 83 04")
    assert await exchange(host, framed("F0 03 01 00 00 02")) == framed("F0 83 02")
    assert await exchange(host, framed("F0 10 00 08 00 01 02 00 00")) == framed("F0 90 02")


@virtual
async def test_modbus_tells_what_it_is() -> None:
    host, _ = await transmitter(Box(), mode="MODBUS")

    async def identify(code: int, first: int) -> bytes:
        request = bytes.fromhex(framed(f"F0 2B 0E {code:02X} {first:02X}"))

        def length(reply: bytes) -> int:
            if reply[1] & 0x80:
                return 5
            end = 8
            for _ in range(reply[7] if len(reply) > 7 else 1):
                end += 2 + (reply[end + 1] if len(reply) > end + 1 else 1)
            return end + 2

        return await host.wire.exchange(request, Sized(3, length), 1.0)

    basic = await identify(1, 0)
    assert basic[1:8] == bytes.fromhex("2B 0E 01 83 00 00 03")
    assert basic[8:-2] == b"\x00\x07Vaisala\x01\x06DMT143\x02\x051.4.2"
    assert crc(basic[:-2]) == basic[-2:]
    assert (await identify(4, 0x80))[8:-2] == b"\x80\x08J1140501"
    assert b"J1140501" in await identify(3, 0)
    assert (await identify(4, 0x50))[:3] == bytes.fromhex("F0 AB 02")
    assert (await identify(9, 0))[:3] == bytes.fromhex("F0 AB 03")


@given(st.binary(max_size=300), st.sampled_from(["STOP", "RUN", "POLL", "MODBUS"]))
def test_any_bytes_leave_it_alive(noise: bytes, mode: str) -> None:
    @virtual
    async def scenario() -> None:
        host, inject = await transmitter(Box(), mode=mode)
        await host.wire.send(noise, 1.0)
        await host.clock.sleep(5.0)
        inject("reboot")
        await host.clock.sleep(5.0)
        inject("none")
        if mode == "MODBUS":
            reply = await exchange(host, "F0 03 1F 00 00 01 96 FF")
            assert reply == "F0 03 02 CF C7 D1 F3"
            return
        await host.wire.send(b"\x1b\rOPEN 0\r", 1.0)
        await host.clock.sleep(2.0)
        await host.wire.exchange(b"??\r", Terminated(b"DMT143 / 1.4.2"), 1.0)

    scenario()


@pytest.mark.parametrize("mode", ["", 'mode = "STOP"', 'mode = "POLL"'])
def test_a_bench_that_says_nothing_to_the_driver_of_modes_works(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, "dmt143", dataclasses.replace(PROFILES["dmt143"], options=mode))
    with Patient("dmt143", tmp_path) as patient:
        for _ in range(2):
            readings = patient.do(patient.driver.measure())
            assert [one.status.value for one in readings] == ["ok", "ok"]
            assert patient.do(patient.driver.reconnect()).serial == "J1140501"
