"""MacNet's JSON, byte by byte from the tester's help, and what is not MacNet."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers.maccor_messages import (
    CAN_START,
    CURRENTS,
    EVERYTHING,
    SET_DIRECT,
    SPECIFICATION,
    START,
    START_DIRECT,
    STATES,
    SUSPEND,
    SYSTEM,
    UNNUMBERED,
    VOLTAGES,
    ChannelStatus,
    MacNetRefusedError,
    MacNetReplyError,
    Parameters,
    check_done,
    request,
    result_of,
    specification_of,
    state_of,
    status_of,
)

STATUS = (
    b'{"jsonrpc":"2.0","result":{"FClass":4,"FNum":7,"Chan":3,"RF1":31,"RF2":193,"Stat":4,'
    b'"LastRecNum":18,"Cycle":0,"Step":2,"TestTime":15,"StepTime":10,"Capacity":0,"Energy":0,'
    b'"Current":0,"Voltage":0.0062561989761889,"TesterTime":"2016-11-14T09:24:08"},"id":1987}'
)

SPECIFIED = """{
 "jsonrpc":"2.0",
 "result":
 {
   "FClass":3, "FNum":1, "Chan":0, "TickSpeed":0.00499999988824129, "Vmax":10, "Vmin":0,
   "VSafeMax":10, "VSafeMin":0, "IR4Chg":5, "IR3Chg":0.150000005960464,
   "IR2Chg":0.00499999988824129, "IR1Chg":0.000150000007124618, "IR4Dis":5,
   "IR3Dis":0.150000005960464, "IR2Dis":0.00499999988824129, "IR1Dis":0.000150000007124618,
   "ISafeChg":5, "ISafeDis":5, "PBatSafeChg":50, "PBatSafeDis":50, "PChanSafeChg":0,
   "PChanSafeDis":0, "PSVChg":0, "PSVDis":0
 }
 ,
 "id":1987
}"""


def test_a_request_for_everything_of_a_channel_is_that_of_the_document() -> None:
    assert request(EVERYTHING, {"Chan": 3}, 1987) == (
        b'{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":4,"FNum":7,"Chan":3},"id":1987}'
    )


def test_a_direct_charge_is_that_of_the_document() -> None:
    parameters: Parameters = {
        "Chan": 3,
        "Current": 0.1,
        "Voltage": 20,
        "Power": 50,
        "Resistance": 0,
        "CurrentRange": 4,
        "ChMode": "C",
    }
    assert request(SET_DIRECT, parameters, 1987) == (
        b'{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":6,"FNum":8,"Chan":3,"Current":0.1,'
        b'"Voltage":20,"Power":50,"Resistance":0,"CurrentRange":4,"ChMode":"C"},"id":1987}'
    )


def test_a_number_that_json_does_not_have_is_never_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        request(SET_DIRECT, {"Current": math.nan}, 1)


def test_everything_of_a_channel_is_read_as_in_the_document() -> None:
    result = result_of(STATUS, EVERYTHING, {"Chan": 3}, 1987)
    assert state_of(result) == (31, 193, 4)
    assert result.number("Voltage") == 0.0062561989761889
    assert status_of(result) == ChannelStatus(
        "completed", "normal end", 18, 0, 2, 15.0, 10.0, 0.0, 0.0, "2016-11-14T09:24:08"
    )


def test_a_specification_is_read_as_in_the_document() -> None:
    result = result_of(SPECIFIED.encode(), SPECIFICATION, {"Chan": 0}, 1987)
    found = specification_of(result)
    assert found.voltage == (0.0, 10.0)
    assert found.charge == (0.000150000007124618, 0.00499999988824129, 0.150000005960464, 5.0)
    assert found.safety_power == (50.0, 50.0)
    assert [found.range_for(a) for a in (1e-4, -5e-3, 0.15, 4.9, -5.1)] == [0, 1, 2, 3, -1]


def test_the_voltages_of_eight_channels_are_read_as_in_the_document() -> None:
    voltages = [0.539101243019104, 0, 0.000152590218931437, 0.00640878919512033]
    voltages += [0.378957808017731, -1.81513690948486, -1.60807204246521, -0.922407865524292]
    reply = {"FClass": 4, "FNum": 2, "Chan": 0, "Len": 8, "Voltage": voltages}
    text = json.dumps({"jsonrpc": "2.0", "result": reply, "id": 1987}).encode()
    asked = {"Chan": 0, "Len": 8}
    assert result_of(text, VOLTAGES, asked, 1987).numbers("Voltage", 8) == voltages
    with pytest.raises(MacNetReplyError, match="FNum 3, not 2"):
        result_of(text, CURRENTS, asked, 1987)


@pytest.mark.parametrize(
    ("mutation", "expected"),
    [
        ({"id": 1986}, "the id 1987, not 1986"),
        ({"id": True}, "the id 1987"),
        ({"jsonrpc": "1.0"}, "jsonrpc"),
        ({"result": None}, "an object, not None"),
        ({"result": {"FClass": 4, "FNum": 7, "Chan": 2}}, "Chan 3, not 2"),
        ({"result": {"FClass": 4, "FNum": 8, "Chan": 3}}, "FNum 7, not 8"),
        ({"result": {"FClass": 4, "FNum": 7}}, "whole number Chan"),
    ],
)
def test_a_reply_to_another_question_is_refused(mutation: dict[str, Any], expected: str) -> None:
    reply = json.dumps(json.loads(STATUS) | mutation).encode()
    with pytest.raises(MacNetReplyError, match=expected):
        result_of(reply, EVERYTHING, {"Chan": 3}, 1987)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Stat", "4"),
        ("Stat", 19),
        ("Stat", 2.0),
        ("RF1", 256),
        ("RF1", -1),
        ("Stat", True),
        ("Voltage", "3.7"),
        ("Voltage", None),
        ("Voltage", True),
        ("Voltage", 10**400),
        ("TesterTime", 5),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(key: str, value: object) -> None:
    message = json.loads(STATUS)
    message["result"][key] = value
    result = result_of(json.dumps(message).encode(), EVERYTHING, {"Chan": 3}, 1987)
    with pytest.raises(MacNetReplyError, match=key):
        status_of(result) and result.number("Voltage")


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_reading_that_is_no_finite_number_is_refused(text: bytes) -> None:
    reply = STATUS.replace(b"0.0062561989761889", text)
    assert reply != STATUS
    with pytest.raises(MacNetReplyError):
        result_of(reply, EVERYTHING, {"Chan": 3}, 1987).number("Voltage")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        ('{"code":-32602,"message":"Invalid params"}', -32602, "Invalid params"),
        ('{"message":"Invalid FClass"}', UNNUMBERED, "Invalid FClass"),
        ('"MacNet error"', UNNUMBERED, "MacNet error"),
    ],
)
@pytest.mark.parametrize("number", ["1987", "null"])
def test_an_error_of_json_rpc_is_taken_in_the_shapes_that_it_may_have(
    error: str, code: int, text: str, number: str
) -> None:
    reply = f'{{"jsonrpc":"2.0","error":{error},"id":{number}}}'.encode()
    with pytest.raises(MacNetRefusedError, match=text) as caught:
        result_of(reply, SYSTEM, {}, 1987)
    assert caught.value.code == code


@pytest.mark.parametrize("error", ["null", "7", '{"code":"x","message":"y"}', '{"code":1}', '""'])
def test_an_error_without_words_is_no_answer(error: str) -> None:
    with pytest.raises(MacNetReplyError, match="an error with code"):
        result_of(f'{{"jsonrpc":"2.0","error":{error},"id":1}}'.encode(), SYSTEM, {}, 1)


@pytest.mark.parametrize(
    ("function", "text", "code"),
    [
        (START, "No test procedure was selected, please select a test procedure", 14),
        (START, "Channel in use", 23),
        (START, "Name is not a unique filename.", 19),
        (START_DIRECT, "Illegal system type. This feature only works for type 0", 1),
        (START_DIRECT, "The channel is not available", 2),
        (START_DIRECT, "Failed creating the pseudo test procedure", 3),
        (SET_DIRECT, "The channel is not active", 2),
        (SET_DIRECT, "Command sent too fast. There must be at least 100 ms (10 ticks)", 3),
        (SET_DIRECT, "Direct mode is not active.", 4),
        (SET_DIRECT, "Direct mode is not ready yet.", 5),
        (CAN_START, "Procedure does not exist", 2),
        (CAN_START, "Sub routine procedures do not exist", 3),
        (CAN_START, "Compile error", 7),
        (SUSPEND, "something else", UNNUMBERED),
        (SUSPEND, 5, 5),
    ],
)
def test_a_refusal_in_words_gets_the_number_of_the_document(
    function: Any, text: object, code: int
) -> None:
    values = {"FClass": 6, "FNum": function.number, "Result": text}
    reply = json.dumps({"jsonrpc": "2.0", "result": values, "id": 1}).encode()
    with pytest.raises(MacNetRefusedError) as caught:
        check_done(result_of(reply, function, {}, 1), function)
    assert caught.value.code == code


@pytest.mark.parametrize("result", ["OK", 0])
def test_ok_is_no_refusal(result: object) -> None:
    values = {"FClass": 6, "FNum": 3, "Result": result}
    reply = json.dumps({"jsonrpc": "2.0", "result": values, "id": 1}).encode()
    check_done(result_of(reply, SUSPEND, {}, 1), SUSPEND)


@given(st.binary(max_size=300))
def test_noise_is_never_a_reply(noise: bytes) -> None:
    with pytest.raises((MacNetReplyError, MacNetRefusedError)):
        result_of(noise, EVERYTHING, {"Chan": 3}, 1987)


def test_a_reply_nested_beyond_all_measure_is_refused() -> None:
    with pytest.raises(MacNetReplyError):
        result_of(b"[" * 200_000, EVERYTHING, {"Chan": 3}, 1987)


@given(st.integers(0, len(STATUS) - 1), st.integers(0, 255), st.booleans())
def test_a_mutated_reply_is_refused_or_reads_as_a_finite_voltage_of_the_same_channel(
    at: int, byte: int, cut: bool
) -> None:
    mutated = STATUS[:at] if cut else STATUS[:at] + bytes([byte]) + STATUS[at + 1 :]
    try:
        result = result_of(mutated, EVERYTHING, {"Chan": 3}, 1987)
        status_of(result)
        voltage, current = result.number("Voltage"), result.number("Current")
    except (MacNetReplyError, MacNetRefusedError):
        return
    assert not cut
    assert math.isfinite(voltage)
    assert math.isfinite(current)
    assert result.values["Chan"] == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(["RF1", "Stat", "Voltage", "Cycle", "TesterTime", "FClass"]), json_values)
def test_any_json_in_place_of_a_value_is_refused_or_of_its_kind(key: str, value: object) -> None:
    message = json.loads(STATUS)
    message["result"][key] = value
    try:
        result = result_of(json.dumps(message).encode(), EVERYTHING, {"Chan": 3}, 1987)
        found = status_of(result)
        voltage = result.number("Voltage")
    except MacNetReplyError:
        return
    assert math.isfinite(voltage)
    assert isinstance(found.tester_time, str)


@given(json_values)
def test_any_json_in_place_of_a_list_of_states_is_refused(value: object) -> None:
    values = {"FClass": 4, "FNum": 1, "Chan": 0, "Len": 2, "Status": value}
    reply = json.dumps({"jsonrpc": "2.0", "result": values, "id": 1}).encode()
    try:
        items = result_of(reply, STATES, {"Chan": 0, "Len": 2}, 1).items("Status", 2)
    except MacNetReplyError:
        return
    assert len(items) == 2
