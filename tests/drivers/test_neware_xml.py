"""BTS 8 byte by byte: the documents' replies, and what is made of damaged ones."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.drivers.neware import NewareBTS8
from operando.drivers.neware_xml import (
    ChannelPlace,
    accepted,
    events_of,
    inquire_item,
    list_body,
    live_of,
    places_of,
    reply_to,
    rows_of,
    states_of,
    steps_of,
    stored_of,
)
from operando.instruments.errors import GarbledReplyError
from wire.cycler_server import reply, request
from wire.transcript import Transcript, in_virtual_time, transcript

END = b"\n\n#\r\n"
ONE = ChannelPlace("127.0.0.1", 27, 21, 1, 1)
TWO = ChannelPlace("127.0.0.1", 27, 21, 1, 2)
IN_UNIT_FIVE = ChannelPlace("127.0.0.1", 27, 13, 5, 5)

# As captured from a BTS 8.0 (aurora-neware, tests/mocks.py).
LOGGED_IN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
    b"  <cmd>connect_resp</cmd>\r\n  <result>ok</result>\r\n</bts>"
)
ONE_CHANNEL = (
    b'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
    b'  <cmd>getdevinfo_resp</cmd>\r\n  <serverip count="1">\r\n'
    b'    <server ip="127.0.0.1" port="3306" />\r\n  </serverip>\r\n  <middle count="1">\r\n'
    b'    <channel ip="127.0.0.1" devtype="27" devid="21" subdevid="1" Channelid="2">false'
    b"</channel>\r\n</middle>\r\n</bts>"
)
NO_HARDWARE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\r\n<bts version="1.0">\r\n'
    b'  <cmd>getdevinfo_resp</cmd>\r\n  <serverip count="1">\r\n'
    b'    <server ip="127.0.0.1" port="3306" />\r\n  </serverip>\r\n  <middle count="0">\r\n'
    b"</middle>\r\n</bts>"
)
FINISHED = (
    '<inquire dev="27-21-1-1-0" cycle_id="1" step_type="--" workstatus="finish" '
    'barcode="251203_kigr_gen17_01" current="0" voltage="3.8834" capacity="0" energy="0" '
    'totaltime="0" relativetime="0" open_or_close="0" log_code="0" />'
)
DISCHARGING = (
    '<inquire dev="27-21-1-2-0" cycle_id="44" step_id="4" step_type="dc" workstatus="working" '
    'barcode="251203_kigr_gen17_02" current="-0.0003" voltage="4.6947" capacity="0.001" '
    'energy="0.0047" totaltime="3189199.3" relativetime="12319" open_or_close="0" '
    'log_code="102000" />'
)
# Two channels were asked for, and the count is 1: as captured.
TWO_CHANNELS = reply(
    f'<cmd>inquire_resp</cmd>\n<list count="1">\n{FINISHED}\n{DISCHARGING}\n</list>'
).encode()
ROWS = reply(
    '<cmd>donwload_resp</cmd>\n<download devtype="27" devid="21" subdevid="1" chlid="1" '
    'testid="143" startpos="219584" count="1000" auxid="0" />\n<list count="2">\n'
    '<data seqid="219584" stepid="24" cycleid="29" steptype="dc" testtime="36130000" '
    'atime="2025-12-28 22:30:05" volt="3.52100968360901" curr="-0.000295051228022203" '
    'cap="0.00296120182611048" eng="0.013578899204731" />\n'
    '<data seqid="219585" stepid="24" cycleid="29" steptype="dc" testtime="36136400" '
    'atime="2025-12-28 22:30:11" volt="3.49995565414429" curr="-0.000295051460852847" '
    'cap="0.00296172639355063" eng="0.013580740429461" />\n</list>'
).encode()
EVENTS = reply(
    '<cmd>donwloadlog_resp</cmd>\n<download devtype="27" devid="21" subdevid="1" chlid="1" '
    'testid="143" log_lever="0" />\n<list count="2">\n'
    '<data seqid="1" log_code="100000" atime="2025-12-03 16:44:02" />\n'
    '<data seqid="219585" log_code="100001" atime="2025-12-28 22:30:11" />\n</list>'
).encode()
STEPS = reply(
    '<cmd>downloadStepLayer_resp</cmd>\n<downloadStepLayer devtype="27" devid="21" subdevid="1" '
    'chlid="1" testid="143" />\n<list count="1">\n'
    '<data startseqid="4322" endseqid="7518" stepindex="2" stepid="2" cycleid="1" steptype="cc" '
    'steptime="31799100" endatime="2025-12-04 13:34:01" startvolt="3.19527578125" '
    'endvolt="4.9000171875" startcurr="0.000294779107207432" endcurr="0.000295047357212752" '
    'cap="0.00260622496716678" eng="0.0123314764350653" dcir="0" />\n</list>'
).encode()


def about(command: str, tag: str, text: str, extra: str = "") -> bytes:
    """A reply about channel 21-1-1."""
    return reply(
        f'<cmd>{command}_resp</cmd>\n<list count="1">\n<{tag} ip="127.0.0.1" devtype="27" '
        f'devid="21" subdevid="1" chlid="1"{extra}>{text}</{tag}>\n</list>'
    ).encode()


# ---------------------------------------------------------------- byte transcripts


def greet(peer: Transcript, channels: bytes = ONE_CHANNEL) -> None:
    """Log in and list the channels."""
    peer.answer(
        request("<cmd>connect</cmd><username>admin</username><password>neware</password>"
                "<type>bfgs</type>"),
        LOGGED_IN + END,
    )  # fmt: skip
    peer.answer(request("<cmd>getdevinfo</cmd>"), channels + END)


@in_virtual_time
async def test_a_session_opens_and_asks_as_documented_byte_by_byte() -> None:
    async with transcript(NewareBTS8, END, name="a1") as (channel, peer):
        greet(peer)
        identity = await channel.connect()
        assert (identity.maker, identity.model, identity.serial) == ("NEWARE", "BTS 8", "27-21-1-2")
        where = 'ip="127.0.0.1" devtype="27" devid="21" subdevid="1" chlid="2"'
        peer.answer(
            request(
                f'<cmd>inquire</cmd><list count = "1"><inquire {where} aux="0" barcode="1">true'
                "</inquire></list>"
            ),
            reply(f'<cmd>inquire_resp</cmd>\n<list count="1">\n{DISCHARGING}\n</list>').encode()
            + END,
            delay=0.1,
        )
        place = where.removeprefix('ip="127.0.0.1" ')
        peer.answer(
            request(f'<cmd>inquiredf</cmd><list count = "1"><chl {place} testid="0" /></list>'),
            reply(
                f'<cmd>inquiredf_resp</cmd>\n<list count="1">\n<chl {place} testid="144" '
                'count="320850">false</chl>\n</list>'
            ).encode()
            + END,
        )
        peer.answer(
            request(
                f'<cmd>download</cmd><download {place} auxid="0" testid="0" startpos="320850" '
                'count="1000"/>'
            ),
            reply(
                f'<cmd>donwload_resp</cmd>\n<download {place} testid="144" startpos="320850" '
                'count="1000" auxid="0" />\n<list count="1">\n'
                '<data seqid="320850" stepid="4" cycleid="44" steptype="dc" testtime="12318000" '
                'atime="2025-12-28 22:30:11" volt="4.69471" curr="-0.000295051460852847" '
                'cap="0.001" eng="0.0047" />\n</list>'
            ).encode()
            + END,
        )
        reading = await channel.measure()
        peer.answer(
            request(
                f'<cmd>getchlstatus</cmd><list count = "1"><status {where}>true</status></list>'
            ),
            reply(
                f'<cmd>getchlstatus_resp</cmd>\n<list count="1">\n<status {where} '
                'reservepause="1">working</status>\n</list>'
            ).encode()
            + END,
        )
        assert await channel.output_is_on()
    assert reading.voltage == 4.6947
    assert reading.current == -0.000295051460852847
    assert reading.regulation.value == "current"
    assert (reading.time, reading.uncertainty) == pytest.approx((0.05, 0.05))


@in_virtual_time
async def test_stopping_is_written_as_documented() -> None:
    where = 'ip="127.0.0.1" devtype="27" devid="21" subdevid="1" chlid="2"'
    ask = request(f'<cmd>getchlstatus</cmd><list count = "1"><status {where}>true</status></list>')
    async with transcript(NewareBTS8, END) as (channel, peer):
        greet(peer)
        await channel.connect()
        for before, state in ((None, "ok"), (ask, "working"), (ask, "stop")):
            tag = "status" if before else "stop"
            command = "getchlstatus" if before else "stop"
            peer.answer(
                before
                or request(f'<cmd>stop</cmd><list count = "1"><stop {where}>true</stop></list>'),
                reply(
                    f'<cmd>{command}_resp</cmd>\n<list count="1">\n<{tag} {where}>{state}</{tag}>\n'
                    "</list>"
                ).encode()
                + END,
            )
        await channel.safe()


# ---------------------------------------------------------------- decoding


def test_live_data_are_read_in_the_order_of_the_request() -> None:
    finished, discharging = live_of(reply_to("inquire", TWO_CHANNELS), [ONE, TWO])
    assert (finished.state, finished.step, finished.step_type) == ("finish", 0, "")
    assert finished.voltage == 3.8834
    assert discharging.state == "working"
    assert (discharging.cycle, discharging.step, discharging.step_type) == (44, 4, "dc")
    assert (discharging.voltage, discharging.current) == (4.6947, -0.0003)
    assert (discharging.charge, discharging.energy) == pytest.approx((3.6, 16.92))
    assert (discharging.total_time, discharging.step_time) == (3189199.3, 12319.0)
    assert (discharging.code, discharging.decimals) == (102000, 4)


def test_two_dashes_are_no_value() -> None:
    data = TWO_CHANNELS.replace(b'voltage="3.8834"', b'voltage="--"')
    assert math.isnan(live_of(reply_to("inquire", data), [ONE, TWO])[0].voltage)


def test_answers_of_other_channels_in_the_wrong_order_are_garbage() -> None:
    with pytest.raises(GarbledReplyError, match="answer of 27-21-1-1"):
        live_of(reply_to("inquire", TWO_CHANNELS), [TWO, ONE])


def test_fewer_answers_than_channels_are_garbage() -> None:
    with pytest.raises(GarbledReplyError, match="2 answers"):
        live_of(reply_to("inquire", TWO_CHANNELS), [ONE, TWO, ONE])


def test_a_unit_that_is_wrongly_called_1_is_the_one_that_was_asked() -> None:
    data = about("getchlstatus", "status", "finish", ' reservepause="1"')
    data = data.replace(b'devid="21"', b'devid="13"').replace(b'chlid="1"', b'chlid="5"')
    assert states_of(reply_to("getchlstatus", data), [IN_UNIT_FIVE]) == ("finish",)
    with pytest.raises(GarbledReplyError):
        states_of(reply_to("getchlstatus", data), [IN_UNIT_FIVE._replace(chlid=6)])


def test_ok_and_false_are_the_two_answers_to_an_order() -> None:
    for text, wanted in (("ok", True), ("false", False)):
        assert accepted(reply_to("stop", about("stop", "stop", text)), "stop", [ONE]) == (wanted,)
    with pytest.raises(GarbledReplyError, match="ok or false"):
        accepted(reply_to("stop", about("stop", "stop", "okay")), "stop", [ONE])


def test_an_unknown_state_is_garbage_and_not_idle() -> None:
    with pytest.raises(GarbledReplyError, match="the state 'finished'"):
        states_of(reply_to("getchlstatus", about("getchlstatus", "status", "finished")), [ONE])


def test_stored_rows_come_in_si_units() -> None:
    last = rows_of(reply_to("download", ROWS), ONE, 219584)[-1]
    assert (last.number, last.step, last.cycle, last.step_type) == (219585, 24, 29, "dc")
    assert last.step_time == pytest.approx(36136.4)
    assert last.local_time == "2025-12-28 22:30:11"
    assert (last.voltage, last.current) == (3.49995565414429, -0.000295051460852847)
    assert last.charge == pytest.approx(0.00296172639355063 * 3600.0)
    # Time in the step times current is the charge that is told.
    assert -last.current * last.step_time == pytest.approx(last.charge, rel=1e-4)


def test_rows_that_were_not_asked_for_are_garbage() -> None:
    with pytest.raises(GarbledReplyError, match="row 219584"):
        rows_of(reply_to("download", ROWS), ONE, 1)
    with pytest.raises(GarbledReplyError):
        rows_of(reply_to("download", ROWS), TWO, 219584)


def test_both_spellings_of_a_download_are_taken() -> None:
    assert rows_of(reply_to("download", ROWS.replace(b"donwload_", b"download_")), ONE, 219584)


def test_events_and_sums_of_steps_are_read() -> None:
    events = events_of(reply_to("downloadlog", EVENTS), ONE)
    assert [(event.row, event.code) for event in events] == [(1, 100000), (219585, 100001)]
    (step,) = steps_of(reply_to("downloadStepLayer", STEPS), ONE)
    assert (step.rows, step.step_type, step.duration) == ((4322, 7518), "cc", 31799.1)
    assert step.voltages == (3.19527578125, 4.9000171875)


def test_a_server_without_hardware_has_no_channels() -> None:
    assert places_of(reply_to("getdevinfo", NO_HARDWARE)) == ()


def test_names_and_paths_are_escaped() -> None:
    place = ChannelPlace('"><bad', 27, 21, 1, 1)
    assert "<inquire ip='\"&gt;&lt;bad'" in list_body("inquire", [inquire_item(place)])


# ---------------------------------------------------------------- damage and malice

BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE bts [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    b"<bts><cmd>inquire_resp</cmd><result>&b;</result></bts>"
)


@pytest.mark.parametrize(
    "data",
    [
        BOMB,
        BOMB.decode().encode("utf-16"),
        b"<bts><!-- --><cmd>inquire_resp</cmd></bts>",
        b"<bts><cmd>inquire_resp</cmd><![CDATA[x]]></bts>",
        b"<bts><cmd>inquire_resp</cmd>",
        b"<other><cmd>inquire_resp</cmd></other>",
        b"<bts><cmd>stop_resp</cmd></bts>",
        b"<bts/>",
        b"",
        b"\xff\xfe",
        b'<?xml version="1.0" encoding="UTF-7"?><bts/>',
        b"<bts><cmd>inquire_resp</cmd>\x00</bts>",
        b"<bts>" + b" " * 4_000_000 + b"</bts>",
    ],
)
def test_what_is_no_answer_is_garbage_and_expands_nothing(data: bytes) -> None:
    with pytest.raises(GarbledReplyError, match="answered inquire with"):
        reply_to("inquire", data)


@pytest.mark.parametrize(
    "value",
    ["", "nan", "inf", "1e999", "0x1", "1,5", " 1", "1_0", "--1", "\N{ARABIC-INDIC DIGIT ONE}"],
)
def test_what_is_no_number_is_garbage(value: str) -> None:
    data = TWO_CHANNELS.replace(b'voltage="4.6947"', f'voltage="{value}"'.encode())
    with pytest.raises(GarbledReplyError):
        live_of(reply_to("inquire", data), [ONE, TWO])


Decoder = Callable[[bytes], object]
DECODERS: Sequence[tuple[bytes, Decoder]] = (
    (TWO_CHANNELS, lambda d: live_of(reply_to("inquire", d), [ONE, TWO])),
    (ROWS, lambda d: rows_of(reply_to("download", d), ONE, 219584)),
    (EVENTS, lambda d: events_of(reply_to("downloadlog", d), ONE)),
    (STEPS, lambda d: steps_of(reply_to("downloadStepLayer", d), ONE)),
    (ONE_CHANNEL, lambda d: places_of(reply_to("getdevinfo", d))),
    (
        about("getchlstatus", "status", "working"),
        lambda d: states_of(reply_to("getchlstatus", d), [ONE]),
    ),
    (about("stop", "stop", "ok"), lambda d: accepted(reply_to("stop", d), "stop", [ONE])),
    (
        about("inquiredf", "chl", "true", ' testid="143" count="219585"'),
        lambda d: stored_of(reply_to("inquiredf", d), [ONE]),
    ),
)


@pytest.mark.parametrize(("data", "decode"), DECODERS)
def test_every_captured_reply_is_understood(data: bytes, decode: Decoder) -> None:
    assert decode(data)


@given(st.sampled_from(DECODERS), st.data())
def test_a_damaged_reply_is_garbage_or_a_reply(
    case: tuple[bytes, Decoder], draw: st.DataObject
) -> None:
    data, decode = bytearray(case[0]), case[1]
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data) - 1))
        match draw.draw(st.integers(0, 2)):
            case 0:
                data[at] = draw.draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw.draw(st.integers(1, 40))]
            case _:
                data[at:at] = draw.draw(st.binary(min_size=1, max_size=8))
        if not data:
            break
    with contextlib.suppress(GarbledReplyError):
        decode(bytes(data))


@given(st.sampled_from(DECODERS), st.binary(max_size=400))
def test_random_bytes_are_garbage(case: tuple[bytes, Decoder], data: bytes) -> None:
    with pytest.raises(GarbledReplyError):
        case[1](data)


@given(st.integers(0, len(TWO_CHANNELS) - 1))
def test_a_reply_that_was_cut_off_is_garbage(length: int) -> None:
    with pytest.raises(GarbledReplyError):
        live_of(reply_to("inquire", TWO_CHANNELS[:length]), [ONE, TWO])
