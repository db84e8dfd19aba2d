"""The simulated Maccor on the wire: documented bytes, framing, errors, functions, faults."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.instruments.clock import run
from operando.instruments.errors import BadInputError, LinkLostError, ReplyTimeoutError
from operando.instruments.wires import Sized, Terminated
from operando.simulators.devices.maccor_channel import ChannelTest, Stat
from operando.simulators.devices.ports import Site
from simulators.bench_of_one import ResistorCell, virtual
from simulators.maccor_bench import OUTPUT, PROCEDURE, START, MaccorHost, a_tester

BINARY = Sized(8, lambda head: 8 + int.from_bytes(head[6:8], "little"))

# 2016-11-14T09:24:08 of the vendor's example, from the start of virtual time, s.
EXAMPLE_TIME = 1479115448.0


async def completed(**options: object) -> MaccorHost:
    """The tester of the vendor's examples: channel 4 of the front panel has ended normally."""
    at = await a_tester(ResistorCell(0.0062561989761889), channel="4", latency=0.0, **options)
    now = at.clock.now()
    at.device._utc_offset = EXAMPLE_TIME - at.clock.utc(now)
    channel = at.device.channel(3)
    channel.stat, channel.rf1, channel.rf2 = Stat.COMPLETED, 31, 193
    channel.test = ChannelTest("t", "p", records=18, step=2, test_time=15.0, step_time=10.0)
    return at


@virtual
async def test_the_state_of_a_completed_channel_is_the_documented_text() -> None:
    at = await completed()
    reply = await at.say(
        '{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":4,"FNum":7,"Chan":3},"id":1987}'
    )
    assert reply == (
        '{"jsonrpc":"2.0","result":{"FClass":4,"FNum":7,"Chan":3,"RF1":31,"RF2":193,"Stat":4,'
        '"LastRecNum":18,"Cycle":0,"Step":2,"TestTime":15,"StepTime":10,"Capacity":0,"Energy":0,'
        '"Current":0,"Voltage":0.0062561989761889,"TesterTime":"2016-11-14T09:24:08"},"id":1987}'
    )


@virtual
async def test_the_same_in_binary_is_the_documented_bytes() -> None:
    at = await completed()
    # The example's date has milliseconds, which its text has not.
    at.device._utc_offset += (
        int.from_bytes(bytes.fromhex("C09E266258010000"), "little") / 1000.0 - EXAMPLE_TIME
    )
    reply = await at.binary.exchange(bytes.fromhex("0400070003000000"), BINARY, 1.0)
    assert reply.hex(" ").upper() == (
        "04 00 07 00 03 00 2E 00 1F C1 04 00 12 00 00 00 00 00 00 00 02 00 00 00 70 41 00 00 20 41 "
        "00 00 00 00 00 00 00 00 00 00 00 00 CD 00 CD 3B C0 9E 26 62 58 01 00 00"
    )


@pytest.mark.parametrize(("counted", "length"), [("bytes", "08"), ("channels", "02")])
def test_voltages_in_binary_are_the_documented_bytes(counted: str, length: str) -> None:
    async def scenario() -> None:
        at = await a_tester(ResistorCell(0.539101243019104), binary_length=counted)
        head = Sized(16, lambda _: 16)
        reply = await at.binary.exchange(bytes.fromhex("0400020000000200"), head, 1.0)
        assert reply.hex(" ").upper() == f"04 00 02 00 00 00 {length} 00 8A 02 0A 3F 00 00 00 00"

    run(scenario(), virtual=True)


@virtual
async def test_the_documented_specification_is_the_default() -> None:
    at = await a_tester()
    reply = await at.say(
        '{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":3,"FNum":1,"Chan":0},"id":1987}'
    )
    assert reply == (
        '{"jsonrpc":"2.0","result":{"FClass":3,"FNum":1,"Chan":0,"TickSpeed":0.00499999988824129,'
        '"Vmax":10,"Vmin":0,"VSafeMax":10,"VSafeMin":0,"IR4Chg":5,"IR3Chg":0.150000005960464,'
        '"IR2Chg":0.00499999988824129,"IR1Chg":0.000150000007124618,"IR4Dis":5,'
        '"IR3Dis":0.150000005960464,"IR2Dis":0.00499999988824129,"IR1Dis":0.000150000007124618,'
        '"ISafeChg":5,"ISafeDis":5,"PBatSafeChg":50,"PBatSafeDis":50,"PChanSafeChg":0,'
        '"PChanSafeDis":0,"PSVChg":0,"PSVDis":0},"id":1987}'
    )


@virtual
async def test_the_documented_safety_limits_are_echoed_in_single_precision() -> None:
    at = await a_tester()
    reply = await at.message(
        {
            "FClass": 6,
            "FNum": 10,
            "Chan": 3,
            "VSafeMax": 5.0,
            "VSafeMin": 0.1,
            "ISafeChg": 4.3,
            "ISafeDis": 2.5,
            "PBatSafeChg": 0,
            "PBatSafeDis": 0,
        }
    )
    assert reply["result"] == {
        "FClass": 6,
        "FNum": 10,
        "Chan": 3,
        "VSafeMax": 5,
        "VSafeMin": 0.100000001490116,
        "ISafeChg": 4.30000019073486,
        "ISafeDis": 2.5,
        "PBatSafeChg": 0,
        "PBatSafeDis": 0,
    }


@virtual
async def test_the_documented_start_and_direct_output_are_accepted() -> None:
    at = await a_tester(channel="4", procedures="Procedure Name = rest 60 s", start_time=0.0)
    started = await at.say(
        '{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":6,"FNum":2,"Chan":3,'
        '"TestName":"Random","ProcName":"Procedure Name","Comment":"Test comment","Crate":1,'
        '"ChamberNum":0,"StartCycle":0,"TotCycles":0,"Mass":1,"VGain":0,"AbsTRepAlign":0,'
        '"ParallelR":0,"VDivHiR":0,"VDivLoR":0,"CANpos":-1,"CANprof":"","RegimeName":""},'
        '"id":1987}'
    )
    assert started == (
        '{"jsonrpc":"2.0","result":{"FClass":6,"FNum":2,"Chan":3,"Result":"OK"},"id":1987}'
    )
    assert await at.told(6, 5, Chan=3) == "OK"
    assert await at.told(6, 7, **{**START, "Chan": 3, "Voltage": 20}) == "OK"
    await at.clock.sleep(0.1)
    output = await at.say(
        '{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":6,"FNum":8,"Chan":3,"Current":0.1,'
        '"Voltage":20,"Power":50,"Resistance":0,"CurrentRange":4,"ChMode":"C"},"id":1987}'
    )
    assert output == (
        '{"jsonrpc":"2.0","result":{"FClass":6,"FNum":8,"Chan":3,"Result":"OK"},"id":1987}'
    )
    rest = bytes.fromhex("06000800030012000000000000 00A041 00004842 00000000 04 52")
    await at.clock.sleep(0.1)
    reply = await at.binary.exchange(rest, BINARY, 1.0)
    assert reply == bytes.fromhex("0600080003000200 0000")
    assert (await at.ask(4, 7, Chan=3))["RF1"] == 4


@virtual
async def test_an_echo_comes_back_as_it_was_sent() -> None:
    at = await a_tester()
    text = '{"jsonrpc": "2.0", "method": "MacNet", "params": {"FClass": 0, "FNum": 0}, "id": 1987}'
    assert await at.say(text) == text
    frame = bytes.fromhex("00000000 05000200 AABB")
    assert await at.binary.exchange(frame, BINARY, 1.0) == frame


# -- framing and errors


@virtual
async def test_requests_are_told_apart_by_their_braces_alone() -> None:
    at = await a_tester()
    request = (
        '{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":4,"FNum":6,"Chan":0},"id":"a}\\"{"}'
    )
    framing = at.wire
    await framing.send(request[:30].encode(), 1.0)
    reply = json.loads(await at.say(request[30:]))
    assert reply["id"] == 'a}"{'
    together = await at.say(request + " \r\n" + request)
    assert json.loads(together)["id"] == 'a}"{'


@virtual
async def test_a_reply_may_be_laid_out_in_lines() -> None:
    at = await a_tester(reply_layout="lines")
    request = b'{"jsonrpc":"2.0","method":"MacNet","params":{"FClass":6,"FNum":3,"Chan":0},"id":1}'
    reply = await at.wire.exchange(request, Terminated(b"}\r\n"), 1.0)
    assert reply.startswith(b'{\r\n "jsonrpc":"2.0",\r\n "result":{\r\n  "FClass":6,')


@pytest.mark.parametrize(
    ("request_text", "code", "message"),
    [
        ("hello", -32700, "Parse error"),
        ("[1]", -32700, "Parse error"),
        ('{"a":}', -32700, "Parse error"),
        ('{"a":NaN}', -32700, "Parse error"),
        ('{"jsonrpc":"2.0"}', -32600, "Method MacNet, jsonrpc 2.0 or id not found"),
        (
            '{"jsonrpc":"2.0","method":"macnet","params":{},"id":1}',
            -32600,
            "Method MacNet, jsonrpc 2.0 or id not found",
        ),
    ],
)
def test_what_is_no_request_is_told_without_an_id(
    request_text: str, code: int, message: str
) -> None:
    async def scenario() -> None:
        at = await a_tester()
        reply = json.loads(await at.say(request_text))
        assert reply == {
            "jsonrpc": "2.0",
            "error": {"code": code, "message": message},
            "id": None,
        }
        assert (await at.state())["Stat"] == 0, "the next request is understood"

    run(scenario(), virtual=True)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([4, 7], "Invalid params"),
        ({"fclass": 4}, '"FClass" key does not exist or value syntax error'),
        ({"FClass": 4, "FNum": "7"}, '"FNum" key does not exist or value syntax error'),
        ({"FClass": 9, "FNum": 1}, "Invalid FClass"),
        ({"FClass": 4, "FNum": 99}, "Invalid FNum"),
        ({"FClass": 4, "FNum": 7}, "Missing object"),
        ({"FClass": 4, "FNum": 7, "Chan": 16}, "Illegal value"),
        ({"FClass": 4, "FNum": 7, "Chan": -1}, "Illegal value"),
        ({"FClass": 4, "FNum": 7, "Chan": "1"}, "Illegal value"),
        ({"FClass": 4, "FNum": 1, "Chan": 0, "Len": 129}, "Illegal value"),
        ({"FClass": 4, "FNum": 1, "Chan": 8, "Len": 9}, "Illegal value"),
        ({"FClass": 6, "FNum": 8, "Chan": 0, **OUTPUT, "ChMode": "c"}, "Illegal value"),
        ({"FClass": 6, "FNum": 8, "Chan": 0, **OUTPUT, "CurrentRange": 5}, "Illegal value"),
        ({"FClass": 6, "FNum": 8, "Chan": 0, **OUTPUT, "Current": 1e39}, "Illegal value"),
        ({"FClass": 6, "FNum": 9, "Chan": 0, "VarNum": 16, "Value": 1}, "Illegal value"),
        ({"FClass": 5, "FNum": 1, "GlobFlags": "1"}, "Illegal value"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_an_error_with_its_id(
    params: object, message: str
) -> None:
    async def scenario() -> None:
        at = await a_tester()
        reply = await at.message(params, id=5)
        assert (reply["error"]["message"], reply["id"]) == (message, 5)
        at = await a_tester(error_shape="text")
        assert (await at.message(params))["error"] == message

    run(scenario(), virtual=True)


@virtual
async def test_one_request_is_carried_out_after_the_other() -> None:
    at = await a_tester(latency=0.25)
    before = at.clock.now()
    await at.state()
    await at.state()
    assert at.clock.now() - before == pytest.approx(0.5, abs=1e-6)
    await at.binary.send(bytes.fromhex("0400070000000000"), 1.0)
    await at.state()
    assert at.clock.now() - before == pytest.approx(1.0, abs=1e-6), "both ports are one tester"


# -- functions


@virtual
async def test_the_tester_tells_what_it_is_and_has() -> None:
    at = await a_tester(channels=12, serial="Lab 3", aux="V,C")
    system = await at.ask(1, 2)
    assert (system["SystemID"], system["TestChannels"], system["AuxChannels"]) == ("Lab 3", 12, 2)
    assert (await at.ask(1, 3, ProcName="Short"))["ProcedurExists"] == "TRUE"
    assert (await at.ask(1, 3, ProcName="Long"))["ProcedurExists"] == "FALSE"
    assert (await at.ask(1, 5, FileType=3, Command=0))["NumberOfFiles"] == 1
    assert (await at.ask(1, 5, FileType=3, Command=1))["FileName"] == "Short.000"
    past_the_end = await at.message({"FClass": 1, "FNum": 5, "FileType": 3, "Command": 1})
    assert past_the_end["error"]["message"] == "MacNet error"
    assert (await at.ask(4, 5, Chan=0))["AuxUnit"] == ["V", "C"]
    values = (await at.ask(4, 4, Chan=0))["AuxValues"]
    assert values == [pytest.approx(3.7, abs=1e-4), pytest.approx(25.0, abs=0.2)]
    assert (await at.ask(3, 2, Chan=0))["IDisR1"] == "1970-01-01T00:00:00"


@virtual
async def test_flags_and_variables_read_back() -> None:
    at = await a_tester()
    assert (await at.ask(5, 1, GlobFlags="0x00000020"))["New GlobFlags"] == "0x00000020"
    assert await at.told(6, 9, VarNum=3, Value=-1.25) == "OK"
    seen = await at.ask(4, 8, Chan=0)
    assert seen["GlobFlags"] == "0x00000020"
    assert seen["VARs"] == [0, 0, -1.25, *[0] * 12]


@virtual
async def test_selecting_twice_unselects() -> None:
    at = await a_tester()
    stats = []
    for _ in range(2):
        assert (await at.ask(6, 1, Chans=[0, 2]))["Result"] == "OK"
        stats.append([seen["Stat"] for seen in (await at.ask(4, 1, Chan=0, Len=3))["Status"]])
    assert stats == [[1, 0, 1], [0, 0, 0]]


@virtual
async def test_all_selected_channels_start_together() -> None:
    at = await a_tester(start_time=0.0)
    assert (
        await at.told(6, 2, **PROCEDURE, Chan=65535) == "No Channels were selected to be started."
    )
    await at.ask(6, 1, Chans=[0, 1])
    assert await at.told(6, 2, **PROCEDURE, Chan=65535) == "OK"
    assert [s["Stat"] for s in (await at.ask(4, 1, Chan=0, Len=3))["Status"]] == [2, 2, 0]


@virtual
async def test_a_start_is_refused_with_its_reason() -> None:
    at = await a_tester()
    missing = {**PROCEDURE, "ProcName": "Long"}
    assert await at.told(6, 11, **PROCEDURE) == "OK"
    assert await at.told(6, 11, **missing) == "Procedure does not exist"
    assert "No test procedure" in await at.told(6, 2, **missing)
    assert "maximum length" in await at.told(6, 2, **{**PROCEDURE, "TestName": 251 * "x"})
    named = {**PROCEDURE, "TestName": "cell 7"}
    assert await at.told(6, 2, **named) == "OK"
    assert await at.told(6, 2, **named) == "Channel in use"
    assert await at.told(6, 7, **START) == "The channel is not available"
    assert await at.told(6, 5) == "OK"
    assert (await at.ask(1, 4, TestName="cell 7"))["TestNameExists"] == "TRUE"
    assert await at.told(6, 2, **named) == "Name is not a unique filename."


@virtual
async def test_channels_have_their_own_cells_relays_and_states() -> None:
    at = await a_tester(channels=4)
    other = ResistorCell(3.1)
    at.device.add_channel("mac2", "6", site=Site(other), options={"noise": 0.0})
    assert (await at.ask(1, 2))["TestChannels"] == 6
    await at.begin()
    assert await at.output(Current=0.01) == "OK"
    assert at.device.channel_relays == {"1": True, "6": False}
    voltages = (await at.ask(4, 2, Chan=0, Len=6))["Voltage"]
    assert voltages[0] == pytest.approx(3.8, abs=1e-3)
    assert voltages[5] == pytest.approx(3.1, abs=1e-3)
    assert voltages[1:5] == pytest.approx([0, 0, 0, 0], abs=1e-3)
    assert (await at.ask(4, 3, Chan=0, Len=6))["Current"][1:] == [0, 0, 0, 0, 0]
    at.device.channel(5).fail(at.clock.now(), 253)
    assert (await at.state())["Stat"] == 2


@pytest.mark.parametrize("channel", ["0", "x", "1.5", "2000", "1"])
def test_a_channel_that_cannot_be_is_refused(channel: str) -> None:
    async def scenario() -> None:
        at = await a_tester()
        with pytest.raises(BadInputError, match="mac2"):
            at.device.add_channel("mac2", channel, site=Site(), options={})

    run(scenario(), virtual=True)


@pytest.mark.parametrize(
    "options",
    [
        {"aux": "C,K"},
        {"procedures": "nonsense"},
        {"procedures": "A = charge 4 V"},
        {"procedures": "A = charge C/0 to 4 V"},
        {"unknown": 1},
        {"leads": "shut"},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    async def scenario() -> None:
        with pytest.raises(BadInputError, match="mac1"):
            await a_tester(**options)

    run(scenario(), virtual=True)


# -- faults


@virtual
async def test_refusals_identity_and_problems_can_be_injected() -> None:
    at = await a_tester()
    at.faults.inject("nak once; identity 77777777")
    reply = await at.message({"FClass": 1, "FNum": 2})
    assert reply["error"]["message"] == "MacNet error"
    assert (await at.ask(1, 2))["SystemID"] == "77777777"
    at.faults.inject("none")
    assert (await at.ask(1, 2))["SystemID"] == "SIMULATED"
    await at.begin()
    assert at.device.relay_closed
    at.faults.inject("error 198")
    seen = await at.state()
    assert (seen["Stat"], seen["RF1"], seen["RF2"]) == (5, 29, 198)
    assert not at.device.relay_closed


@virtual
async def test_leads_that_fall_off_leave_the_cell_alone() -> None:
    at = await a_tester()
    await at.begin()
    await at.output(Current=0.01)
    at.faults.inject("unplug")
    seen = await at.state()
    assert (seen["Voltage"], seen["Current"]) == (pytest.approx(4.2, abs=1e-4), 0)
    at.faults.inject("none")
    await at.clock.sleep(0.1)
    assert (await at.state())["Current"] == pytest.approx(0.01, abs=1e-5)


@virtual
async def test_a_power_failure_opens_the_relays_and_keeps_the_test() -> None:
    at = await a_tester()
    await at.begin()
    await at.output(Current=0.01)
    at.faults.inject("reboot 10 s")
    assert not at.device.relay_closed
    with pytest.raises((LinkLostError, ReplyTimeoutError)):
        await at.state()
    await at.clock.sleep(11.0)
    await at.wire.open()
    assert (await at.state())["Stat"] == 9
    assert await at.told(6, 4) == "OK"
    assert (await at.state())["Current"] == pytest.approx(0.01, abs=1e-5)


# -- fuzz


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_random_bytes_never_break_the_tester(chunks: list[bytes]) -> None:
    async def scenario() -> None:
        at = await a_tester()
        for chunk in chunks:
            await at.wire.send(chunk, 1.0)
            await at.binary.send(chunk, 1.0)
        await at.wire.close()
        await at.wire.open()
        assert (await at.state())["Stat"] == 0

    run(scenario(), virtual=True)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.integers(-1, 20), max_size=3),
    st.sampled_from(["C", "D", "R", "Random", "Short", "0x1"]),
)
KEYS = st.sampled_from(
    ["Chan", "Chans", "Len", "VarNum", "Value", "FileType", "Command", *START, *PROCEDURE]
)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 7),
    st.integers(0, 14),
    st.dictionaries(KEYS, VALUES, max_size=6),
    st.booleans(),
)
def test_random_parameters_are_answered_and_leave_a_sane_tester(
    function_class: int, number: int, params: dict[str, object], complete: bool
) -> None:
    async def scenario() -> None:
        at = await a_tester()
        whole = {"Chan": 0, **START, **PROCEDURE} if complete else {}
        request = {"FClass": function_class, "FNum": number, **whole, **params}
        reply = await at.message(request)
        if function_class:
            assert ("result" in reply) != ("error" in reply)
        await at.clock.sleep(30.0)
        seen = await at.state()
        assert seen["Stat"] in set(Stat)
        assert 0.0 <= seen["Voltage"] <= 10.0

    run(scenario(), virtual=True)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 8), st.integers(0, 14), st.integers(0, 20), st.integers(0, 140), st.binary())
def test_random_binary_requests_never_break_the_tester(
    function_class: int, number: int, chan: int, length: int, data: bytes
) -> None:
    async def scenario() -> None:
        at = await a_tester()
        words = (function_class, number, chan, length)
        head = b"".join(word.to_bytes(2, "little") for word in words)
        await at.binary.send(head + data.ljust(200, b"\x20"), 1.0)
        await at.clock.sleep(5.0)
        assert (await at.state())["Stat"] in set(Stat)

    run(scenario(), virtual=True)
