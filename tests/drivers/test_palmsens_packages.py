"""What MethodSCRIPT instruments send: the documents' own examples, and everything but that."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.palmsens_board import encoded
from operando.drivers.palmsens_models import MODELS, PICO, model_of
from operando.drivers.palmsens_packages import (
    Variable,
    check_nesting,
    end_of_script,
    first,
    impedance,
    is_known,
    next_point,
    package,
    point,
    renewed,
    trouble,
    until,
)
from operando.instruments.samples import Status

LSV = b"e\nM0000\nPda7F85F3Fu;ba48D503Dp,10,288\nPda7F9234Bu;ba4E2C324p,10,288\n*\n\n"
"""A linear sweep on 10 kohm, from the capture in the README of PalmSens' MethodSCRIPT examples."""

VECTORS = [
    ("da7F85F3Fu", -0.499905),
    ("ba48D503Dp", -57.847747e-6),
    ("da7F9234Bu", -0.449717),
    ("ba4E2C324p", -52.247772e-6),
    ("da84E63DAn", 5.137370e-3),
    ("ba82AB973f", 2.799987e-9),
    ("dcDF5DFF4u", 99.999732),
    ("cc896D904m", 9885.956),
    ("cd82DB1A8u", 2.9946),
    ("da806EC24u", 0.453668),
    ("baAE16C6Dp", 48.327789e-6),
    ("da807B031u", 0.503857),
    ("baB360495p", 53.871765e-6),
    ("ba4BA99F0p", -54.87976e-6),
    ("da800000Am", 0.010),
    ("ab807A120u", 0.5),
    ("ab7F85EE0u", -0.5),
    ("ab8387520u", 3.7),
    ("dcDF5E100u", 100.0),
    ("ba7D9DA60p", -2.5e-6),
    ("ab8000000 ", 0.0),
    ("ja8000005i", 5.0),
    ("jaFFFFFFFi", 134217727.0),
    ("ja0000000i", -134217728.0),
    ("dc8000001E", 1e18),
    ("ba8000001a", 1e-18),
]


@pytest.mark.parametrize(("text", "value"), VECTORS)
def test_values_are_those_of_the_documents(text: str, value: float) -> None:
    (variable,) = package(b"P" + text.encode())
    assert variable.value == pytest.approx(value, rel=2e-5 if text.startswith("cd8") else 1e-7)
    assert variable.kind == text[:2]
    assert (variable.flags, variable.range) == (0, None)


def test_status_and_range_are_those_of_the_documents() -> None:
    _, current = package(b"Pda84E63DAn;ba82AB973f,14,284")
    assert current.flags == 4
    assert current.status is Status.UNDERLOAD
    assert current.range == 132
    assert PICO.ranges[132] == 25e-6
    assert PICO.ranges[136] == 1e-3


def test_the_sweep_of_the_documents_passes_whole() -> None:
    lines = LSV.split(b"\n")[:-1]
    check_nesting(lines)
    assert [is_known(line) for line in lines] == [True] * len(lines)
    currents = [package(line)[1].value for line in lines if line.startswith(b"P")]
    assert currents == pytest.approx([-57.847747e-6, -52.247772e-6])


def test_the_acknowledgement_may_share_its_line_with_the_first_loop() -> None:
    check_nesting(LSV.replace(b"e\nM", b"eM").split(b"\n")[:-1])


def test_a_point_of_a_spectrum_gives_its_range() -> None:
    # The capture of the documents, behind a time as our scripts send it.
    found = impedance(b"Peb8000FA0m;dcDF5DFF4u;cc896D904m,10,287;cd82DB1A8u,10,287")
    assert found.time == 4.0
    assert found.frequency == pytest.approx(99.999732)
    assert found.real == pytest.approx(9885.956)
    assert found.imaginary == pytest.approx(2.9946, rel=1e-4)
    assert found.range == 135
    assert PICO.ranges[135] == 200e-6
    assert found.status is Status.OK


@pytest.mark.parametrize(
    "line",
    [
        b"PdcDF5DFF4u;cc896D904m,10,287;cd82DB1A8u,10,287",
        b"Peb7FFF060m;dcDF5DFF4u;cc896D904m;cd82DB1A8u",
        b"Peb8000FA0m;dcDF5DFF4u;cc896D904m",
        b"Peb8000FA0m;ja8000001i;ab8387520u,10,206;ba816E360n,10,218",
    ],
)
def test_what_is_no_point_of_a_spectrum_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"spectrum|began"):
        impedance(line)


def test_the_gravest_status_of_a_point_counts() -> None:
    line = b"Peb8000FA0m;dcDF5DFF4u;cc896D904m,14,287;cd82DB1A8u,12,287"
    assert impedance(line).status is Status.OVERLOAD


def test_not_a_number_and_noise_fields_are_understood() -> None:
    voltage, current = package(b"Pab     nan,12,202;ba8000001n,10,218,41F3")
    assert math.isnan(voltage.value)
    assert voltage.status is Status.OVERLOAD
    assert current == Variable("ba", 1e-9, 0, 24)
    (alone,) = package(b"Pab     nan")
    assert alone.status is Status.FAULT


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"P",
        b"Pda7F85F3Fu;",
        b"Pda7F85F3u",  # six digits
        b"Pda7F85F3F",  # no prefix
        b"Pda7F85F3Fx",
        b"PDA7F85F3Fu",
        b"Pda7F85F3Fu,1",
        b"Pda7F85F3Fu,10,10",  # twice
        b"Pda7F85F3Fu,1G",
        b"Pda7F85F3Fu,2100",
        b"Pda7F85F3Fu,30",
        b"Pda    nan",
        b"Pda\xff7F85F3u",
        b"da7F85F3Fu",
        "Pda٣F85F3Fu".encode(),
    ],
)
def test_anything_else_is_no_package(line: bytes) -> None:
    with pytest.raises(ValueError):
        package(line)


@given(st.floats(-1e8, 1e8).filter(lambda value: value == 0.0 or abs(value) > 1e-9))
def test_a_value_survives_its_way(value: float) -> None:
    (found,) = package(b"Pab" + encoded(value).encode())
    assert found.value == pytest.approx(value, rel=1e-4, abs=1e-18)


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(line: bytes) -> None:
    for decode in (package, point):
        try:
            decode(line)
        except ValueError:
            pass
        else:
            assert line.startswith(b"P")
    trouble(line)
    is_known(line)


POINT = b"Peb8000FA0m;ja8000001i;ab8387520u,10,206;ba816E360n,10,218"


def test_a_point_of_our_own_scripts_is_decoded() -> None:
    found = point(POINT)
    assert found.time == 4.0
    assert found.voltage == pytest.approx(3.7)
    assert found.current == pytest.approx(1.5e-3)
    assert (found.stage, found.status) == (1, Status.OK)


@given(st.data())
def test_a_damaged_point_is_refused_or_is_one_of_the_same_form(data: st.DataObject) -> None:
    # Cut short, or with a byte lost, doubled or changed into one that no field has there.
    at = data.draw(st.integers(0, len(POINT) - 1))
    kind = data.draw(st.sampled_from(["cut", "lost", "doubled", "wild"]))
    if kind == "cut":
        damaged = POINT[:at]
    elif kind == "lost":
        damaged = POINT[:at] + POINT[at + 1 :]
    elif kind == "doubled":
        damaged = POINT[:at] + POINT[at : at + 1] + POINT[at:]
    else:
        wild = data.draw(st.sampled_from([0x00, 0x7F, 0x80, 0xFF, *b'!"$%&/()=?QWXYZ~']))
        damaged = POINT[:at] + bytes([wild]) + POINT[at + 1 :]
    try:
        found = point(damaged)
    except ValueError:
        return
    # What passes lost nothing but metadata at the end: the values are those that were sent.
    assert found[:4] == point(POINT)[:4]


@pytest.mark.parametrize(
    "line",
    [
        POINT.replace(b"ja8000001i", b"ja8000007i"),
        POINT.replace(b"eb", b"ec"),
        POINT.replace(b";ba816E360n,10,218", b""),
        POINT.replace(b"ba", b"ca"),
        POINT.replace(b"ab", b"ae"),
        POINT.replace(b"eb8000FA0m", b"eb7FFF060m"),
        POINT.replace(b"eb8000FA0m", b"eb     nan"),
        b"Peb8000FA0m;ja8000000i;ab8387520u;ba816E360n",
    ],
)
def test_a_package_that_is_no_point_of_ours_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        point(line)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (b"e!4001: Line 1, Col 16", 0x4001, "Line 1, Col 16"),
        (b"!0032: Line 7", 0x0032, "critical cell overload"),
        (b"Z!0006", 0x0006, "not allowed"),
        (b"q!0003", 0x0003, "unknown command"),
        (b"!0143", 0x0143, "error 0143"),
    ],
)
def test_every_form_of_an_error_is_understood(line: bytes, code: int, words: str) -> None:
    found = trouble(line)
    assert found is not None
    assert found.code == code
    assert words in found.text


@pytest.mark.parametrize(
    "line", [b"", b"P!0006", b"e", b"!00", b"!00061", b"e!4001 Line", b"TZ!06"]
)
def test_what_is_no_error_is_none(line: bytes) -> None:
    assert trouble(line) is None


@pytest.mark.parametrize(
    "output",
    [
        b"e\nM0007\nPab8000000 \n\n",  # loop left open
        b"e\n*\n\n",
        b"e\nL\n*\n\n",
        b"M0007\n*\n\n",
        b"e\nPab8000000 \n\n",
        b"e\nM0007\n*\n",
        b"e\nM0007\n\n*\n\n",
        b"e\n!0032: Line 2\nM0007\n\n",
        b"e\nM0007\n\x00\n*\n\n",
    ],
)
def test_marks_out_of_order_are_refused(output: bytes) -> None:
    with pytest.raises(ValueError):
        check_nesting(output.split(b"\n")[:-1])


@pytest.mark.parametrize(
    "output",
    [
        b"e\n\n",
        b"e\nL\nM0007\nPab8000000 \n*\n+\n\n",
        b"e\nM0005\nC0000\n-\nC0001\n-\n*\n\n",
        b"e\nM0007\n!0032: Line 2\n\n",
        b"e\nTHello world!\n\n",
    ],
)
def test_marks_in_order_pass(output: bytes) -> None:
    check_nesting(output.split(b"\n")[:-1])


# ---------------------------------------------------------------- framing


@given(st.integers(1, len(LSV) - 1))
def test_an_output_is_whole_at_its_empty_line_and_not_before(cut: int) -> None:
    framing = until(end_of_script)
    assert framing.find_end(LSV[:cut]) == 0
    assert framing.find_end(LSV) == len(LSV)
    assert framing.find_end(LSV + b"iXXXX\n") == len(LSV)


def test_flow_control_characters_do_not_count() -> None:
    assert until(end_of_script).find_end(b"e\n\x11\n") == 4
    assert until(next_point).find_end(b"\x13Pab8000000 \n") == 13


def test_the_rest_of_a_line_that_was_not_heard_is_passed_over() -> None:
    framing = until(next_point)
    rest = b"F85F3Fu;ba48D503Dp,10,288\n"
    assert framing.find_end(rest) == 0
    assert framing.find_end(rest + POINT + b"\n") == len(rest) + len(POINT) + 1
    # An empty one alone could be the end of a script, or the end of such a rest.
    assert framing.find_end(b"\n") == 0
    assert framing.find_end(b"*\n\n") == 3


def test_garbage_ends_the_wait() -> None:
    framing = until(next_point)
    assert framing.find_end(b"\xfe\xfe\n") == 3
    assert framing.find_end(b"abc\ndef\n") == 8


def test_points_made_before_a_renewal_do_not_answer_it() -> None:
    framing = until(renewed)
    before = POINT + b"\nY\n*\nM000A\n"
    assert framing.find_end(before) == 0
    assert framing.find_end(before + POINT + b"\n") == len(before) + len(POINT) + 1
    assert framing.find_end(b"Y!0006\n") == 7


def test_a_hurry_ends_the_wait() -> None:
    hurried = False
    framing = until(end_of_script, lambda: hurried)
    assert framing.find_end(b"e\nM00") == 0
    hurried = True
    assert framing.find_end(b"e\nM00") == 5


def test_an_answer_is_found_between_the_lines_of_a_script() -> None:
    framing = until(first(re.compile(rb"i!([0-9A-F]{4})")))
    stream = b"000i\n" + POINT + b"\nTx\ni!0006\n"
    assert framing.find_end(stream) == len(stream)


# ---------------------------------------------------------------- models


def test_firmware_tells_the_model() -> None:
    names = ("espico1300", "senswb1200", "es4_lr1500", "es4_hr1500", "mes4hr1500", "nexus11100")
    assert [model.name for name in names if (model := model_of(name))] == [
        "EmStat Pico",
        "Sensit Wearable",
        "EmStat4 LR",
        "EmStat4 HR",
        "EmStat4 HR",
        "Nexus",
    ]
    assert model_of("espbl1000") is None


def test_ranges_ascend_and_windows_hold_zero() -> None:
    for model in MODELS:
        assert list(model.currents) == sorted(model.currents)
        assert model.voltage[0] < 0.0 < model.voltage[1]
    assert [model.current for model in MODELS] == [3e-3, 3e-3, 10e-3, 100e-3, 1.0]
