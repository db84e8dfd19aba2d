"""Addresses of instruments."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.addresses import Address, SerialParameters, parse_address
from operando.instruments.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "TCPIP::127.0.0.1::5025::SOCKET",
            Address("visa_socket", "TCPIP::127.0.0.1::5025::SOCKET", "127.0.0.1", 5025),
        ),
        (
            "TCPIP0::smu1.lab::5025::socket",
            Address("visa_socket", "TCPIP0::smu1.lab::5025::socket", "smu1.lab", 5025),
        ),
        (
            "TCPIP::[::1]::5025::SOCKET",
            Address("visa_socket", "TCPIP::[::1]::5025::SOCKET", "::1", 5025),
        ),
        ("TCPIP::smu1::INSTR", Address("visa", "TCPIP::smu1::INSTR", "smu1")),
        (
            "TCPIP::127.0.0.1::hislip0,4881::INSTR",
            Address("visa", "TCPIP::127.0.0.1::hislip0,4881::INSTR", "127.0.0.1", 4881),
        ),
        (
            "TCPIP::127.0.0.1,4882::inst0::INSTR",
            Address("visa", "TCPIP::127.0.0.1,4882::inst0::INSTR", "127.0.0.1", 4882),
        ),
        (
            "USB0::0x05E6::0x2450::04500001::INSTR",
            Address("visa", "USB0::0x05E6::0x2450::04500001::INSTR"),
        ),
        ("GPIB0::24::INSTR", Address("visa", "GPIB0::24::INSTR")),
        (
            "ASRL/dev/ttyUSB0::INSTR",
            Address("visa", "ASRL/dev/ttyUSB0::INSTR", path="/dev/ttyUSB0"),
        ),
        (
            "serial:/dev/ttyUSB0?baud=115200&parity=e&bits=7&stop=2",
            Address(
                "serial",
                "serial:/dev/ttyUSB0?baud=115200&parity=e&bits=7&stop=2",
                path="/dev/ttyUSB0",
                serial=SerialParameters(115200, 7, "E", 2.0),
            ),
        ),
        ("serial:COM3", Address("serial", "serial:COM3", path="COM3")),
        (
            "serial:socket://127.0.0.1:5030",
            Address("serial_socket", "serial:socket://127.0.0.1:5030", "127.0.0.1", 5030),
        ),
        (
            "serial:rfc2217://localhost:5031?baud=4800",
            Address(
                "serial_rfc2217",
                "serial:rfc2217://localhost:5031?baud=4800",
                "localhost",
                5031,
                serial=SerialParameters(4800),
            ),
        ),
    ],
)
def test_an_address_is_taken_apart(text: str, expected: Address) -> None:
    assert parse_address(text, Path("/bench")) == expected


def test_a_relative_path_is_resolved_against_the_folder_and_stays_so() -> None:
    address = parse_address("serial:pty/../ports/pt113?baud=4800", Path("/bench"))
    assert address.path == "/bench/ports/pt113"
    assert address.text == "serial:/bench/ports/pt113?baud=4800"
    assert parse_address(address.text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write"),
        ("smu1", "write"),
        (" GPIB::24::INSTR", "is not an address"),
        ("TCPIP::host::SOCKET", "is not an address"),
        ("TCPIP::host::99999::SOCKET", "not a port"),
        ("TCPIP::host::0::SOCKET", "not a port"),
        ("TCPIP::ho st::5025::SOCKET", "is not an address"),
        ("TCPIP::host::5025::SOCKET\n", "is not an address"),
        ("serial:", "names no serial port"),
        ("serial:?baud=9600", "names no serial port"),
        ("serial:loop://x", "socket://host:port"),
        ("serial:socket://host", "socket://host:port"),
        ("serial:/dev/ttyS0?bauds=9600", 'did you mean "baud"'),
        ("serial:/dev/ttyS0?baud=fast", "baud must be a number"),
        ("serial:/dev/ttyS0?baud=0", "baud must be a number"),
        ("serial:/dev/ttyS0?parity=X", 'parity must be N, E or O, not "X"'),
        ("serial:/dev/ttyS0?bits=9", "bits must be 7 or 8"),
        ("serial:/dev/ttyS0?stop=3", "stop must be"),
        ("serial:/dev/ttyS0?baud=9600&baud=4800", "given twice"),
    ],
)
def test_what_is_no_address_is_refused_with_the_forms(text: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        parse_address(text)


@given(st.text(max_size=40), st.sampled_from(["", "serial:", "TCPIP::", "serial:socket://"]))
def test_arbitrary_text_is_read_or_refused(text: str, head: str) -> None:
    with contextlib.suppress(BadInputError):
        assert parse_address(head + text).text == head + text


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("[::1]", True),
     ("192.168.0.4", False), ("smu1.lab", False), ("127.0.0.1.example.org", False)],
)  # fmt: skip
def test_only_this_computer_is_loopback(host: str, loopback: bool) -> None:
    assert parse_address(f"TCPIP::{host}::5025::SOCKET").is_loopback is loopback


def test_one_place_has_one_key_however_it_is_written(tmp_path: Path) -> None:
    def key(text: str) -> str:
        return parse_address(text, tmp_path).key

    assert key("TCPIP::localhost::5025::SOCKET") == key("TCPIP0::127.0.0.1::5025::SOCKET")
    assert key("serial:socket://127.0.0.1:5025") == key("TCPIP::127.0.0.1::5025::SOCKET")
    assert key("serial:port?baud=9600") == key(f"serial:{tmp_path}/port?baud=4800")
    assert key("GPIB0::24::INSTR") == key("gpib0::24::instr")
    assert key("serial:/dev/ttyUSB0") == key("ASRL/dev/ttyUSB0::INSTR")
    assert key("TCPIP::h::5025::SOCKET") != key("TCPIP::h::5026::SOCKET")
    assert key("TCPIP::h::inst0::INSTR") != key("TCPIP::h::inst1::INSTR")
    (tmp_path / "link").symlink_to(tmp_path / "port")
    assert key("serial:link") == key("serial:port")


@pytest.mark.parametrize(
    ("text", "base", "channel"),
    [
        ("TCPIP::10.0.0.4::502::SOCKET#5-1-3", "TCPIP::10.0.0.4::502::SOCKET", "5-1-3"),
        ("serial:/dev/ttyUSB0?baud=9600#A", "serial:/dev/ttyUSB0?baud=9600", "A"),
        ("USB0::0x05E6::0x2450::1::INSTR#2.1", "USB0::0x05E6::0x2450::1::INSTR", "2.1"),
        ("TCPIP::10.0.0.4::502::SOCKET", "TCPIP::10.0.0.4::502::SOCKET", ""),
    ],
)
def test_a_channel_stands_behind_the_place(text: str, base: str, channel: str) -> None:
    found = parse_address(text)
    assert (found.text, found.base, found.channel) == (text, base, channel)
    place = parse_address(base)
    assert (found.kind, found.host, found.port) == (place.kind, place.host, place.port)
    assert found.base_key == place.key
    assert (found.key == place.key) is (channel == "")


@pytest.mark.parametrize("text", ["serial:/dev/ttyUSB0#", "serial:COM3#a b", "serial:COM3#-1"])
def test_a_channel_is_made_of_letters_and_digits(text: str) -> None:
    with pytest.raises(BadInputError, match="behind # stands a channel"):
        parse_address(text)
