"""The simulated MethodSCRIPT instruments on the wire: commands, packages, flow of output."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.instruments.clock import run
from operando.instruments.errors import BadInputError
from operando.simulators.devices.palmsens_packages import Variable, encode, write
from simulators.bench_of_one import virtual
from simulators.palmsens_bench import Console, RandlesCell, decode, package, packages

OCP = """
var p
var t
set_pgstat_chan 0
set_pgstat_mode 3
set_max_bandwidth 60
cell_off
timer_start
meas_loop_ocp p 1 3
timer_get t
pck_start
pck_add t
pck_add p
pck_end
endloop
"""

CHARGE = """
var p
var c
var t
set_pgstat_chan 0
set_pgstat_mode 6
set_max_bandwidth 10
set_range db 1m
set_range ab 4200m
set_i 0
cell_on
timer_start
meas_loop_cp p c 500u 1 36000
timer_get t
pck_start
pck_add t
pck_add p
pck_add c
pck_end
if p >= 4200m
breakloop
endif
endloop
on_finished:
cell_off
"""


# -- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "807A120u"),
        (-0.5, "7F85EE0u"),
        (3.7, "8387520u"),
        (100.0, "DF5E100u"),
        (-2.5e-6, "7D9DA60p"),
        (0.453668, "806EC24u"),
        (48.327789e-6, "AE16C6Dp"),
        (0.503857, "807B031u"),
        (53.871765e-6, "B360495p"),
        (-54.87976e-6, "4BA99F0p"),
        (-0.499905, "7F85F3Fu"),
        (-57.847747e-6, "48D503Dp"),
        (2.799987e-9, "82AB973f"),
        (99.999732, "DF5DFF4u"),
        (9885.956, "896D904m"),
        (2.9946, "82DB1A8u"),
        (0.0, "8000000 "),
        (10, "800000Ai"),
        (math.nan, "     nan"),
    ],
)
def test_values_are_written_as_in_the_captures(value: float, text: str) -> None:
    assert encode(value) == text


@given(st.floats(1e-9, 1e17) | st.floats(-1e17, -1e-9))
def test_a_value_is_written_with_the_finest_prefix_that_holds_it(value: float) -> None:
    text = encode(value)
    assert len(text) == 8
    mantissa = int(text[:7], 16) - 2**27
    assert decode(text) == pytest.approx(value, rel=0.6 / abs(mantissa))
    # One prefix finer it would not fit; "a" is the finest there is.
    assert text[7] == "a" or abs(value) * 1000.0 >= (2**27 - 1) * abs(value / mantissa)


@given(st.integers(-(2**27), 2**27 - 1))
def test_integers_keep_every_digit(value: int) -> None:
    text = encode(value)
    assert text[7] == "i"
    assert decode(text) == value


def test_metadata_follow_the_value() -> None:
    assert write(Variable(-57.847747e-6, "ba", 0, 0x88)) == "ba48D503Dp,10,288"
    assert write(Variable(2.799987e-9, "ba", 4, 0x84)) == "ba82AB973f,14,284"
    assert write(Variable(0.005137370, "da")) == "da84E63DAn"
    assert write(Variable(0.0, "ba", 0, 3), noise=True) == "ba8000000 ,10,203,40"


# -- commands


@pytest.mark.parametrize(
    ("model", "sent", "received"),
    [
        ("emstat4-lr", "t\n", "tes4_lr1500#Mar 12 2026 14:28:01\nR*\n"),
        ("emstat4-hr", "t\n", "tes4_hr1500#Mar 12 2026 14:28:01\nR*\n"),
        ("emstat-pico", "t\n", "tespico1600#Sep 30 2025 12:00:00\nR*\n"),
        ("nexus", "t\n", "tnexus11500#Mar 12 2026 14:28:01\nR*\n"),
        ("emstat4-lr", "i\n", "iES4LR20B0008\n"),
        ("emstat4-lr", "v\n", "v01.09.00\n"),
        ("emstat4-lr", "\n", "\n"),
        ("emstat4-lr", "CC\n", f"C{0x2F0000003FFFFF98FF00000002:064X}\n"),
        ("emstat4-lr", "CM\n", f"C{0x3FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE:064X}\n"),
        ("emstat4-lr", 'e\nsend_string "Hello world!"\n\n', "e\nTHello world!\n\n"),
        ("emstat4-lr", "e\ncell_off\n\n", "e\n\n"),
        ("emstat4-lr", "e\n\n", "e\n\n"),
        ("emstat4-lr", "e\ninvalid_command\n\n", "e!4001: Line 1, Col 16\n"),
        ("emstat4-lr", "e\nvar x\ninvalid_command\n\n", "e!4001: Line 2, Col 16\n"),
        ("emstat4-lr", "q\n", "q!0003\n"),
        ("emstat4-lr", "tt\n", "t!0003\n"),
        ("emstat4-lr", "Z\n", "Z!0006\n"),
        ("emstat4-lr", "h\n", "h!0006\n"),
        ("emstat4-lr", "r\n", "r!000C\n"),
        ("emstat4-lr", "Lmscr\n", "L!000C\n"),
        ("emstat4-lr", "l\nwait 1m\n\n", "l\n"),
        ("emstat4-lr", "fs_dir /\n", "f!001B\n"),
        ("emstat4-lr", "G06\n", "GES4LR20B0008\n"),
        ("emstat4-lr", "S06ABCD\n", "S!0005\n"),
        ("emstat4-lr", "GZZ\n", "G!0007\n"),
        ("emstat4-lr", "G7F\n", "G!0004\n"),
        ("emstat4-lr", "S0100000003\nG01\n", "S\nG00000003\n"),
        ("emstat4-lr", "i\r\n", "iES4LR20B0008\n"),
        ("emstat4-lr", "x" * 2000 + "\n", "x!0008\n"),
        ("emstat4-lr", "e\n#" + "x" * 2000 + "\n\n", "e!0008: Line 1, Col 256\n"),
        ("emstat4-lr", "e\n" + ("#" + "x" * 249 + "\n") * 270 + "\n", "e!4005: Line 270, Col 1\n"),
    ],
)
def test_a_command_is_answered_byte_for_byte(model: str, sent: str, received: str) -> None:
    async def scenario() -> None:
        assert await Console(model=model).ask(sent, 1.0) == received

    run(scenario(), virtual=True)


@virtual
async def test_a_stored_script_survives_a_loss_of_power_and_a_loaded_one_does_not() -> None:
    console = Console()
    assert await console.ask('l\nsend_string "a"\n\nFmscr\nr\n') == "l\nF\nr\nTa\n\n"
    console.faults.inject("reboot 1 s")
    await console.clock.sleep(1.1)
    assert await console.ask("r\n") == "r!000C\n"
    assert await console.ask("Lmscr\nr\n") == "L\nr\nTa\n\n"


@virtual
async def test_the_open_circuit_script_gives_these_bytes() -> None:
    console = Console(instruction_time=1e-7)
    lines = await console.script(OCP)
    # 3.7 V to the nearest of 2^18 counts over +-6.3 V: 3.700010 V; range 6 is "1 V".
    volts = "838752Au"
    assert lines == [
        "e",
        "M000B",
        f"Peb80F4240u;ab{volts},10,206",
        f"Peb81E8480u;ab{volts},10,206",
        f"Peb82DC6C0u;ab{volts},10,206",
        "*",
        "",
    ]


@virtual
async def test_the_acknowledgement_may_share_a_line_with_the_first_marker() -> None:
    console = Console(joined_acknowledgement=True)
    assert (await console.script(OCP))[:2] == ["eM000B", (await console.script(OCP))[1]]
    assert await console.ask("e\ncell_off\n\n") == "e\n\n"


@virtual
async def test_after_an_error_nothing_is_heard_for_a_while() -> None:
    console = Console()
    assert await console.ask("q\n", 0.03) == "q!0003\n"
    assert await console.ask("i\n", 0.5) == ""
    assert await console.ask("q\n", 0.06) == "q!0003\n"
    assert await console.ask("i\n") == "iES4HR20B0008\n"


@virtual
async def test_a_reply_takes_as_long_as_its_bytes() -> None:
    console = Console(baud=1200.0, latency=0.01)
    console.tell("i\n")
    await console.clock.sleep(0.01 + 13.9 * 10.0 / 1200.0)
    assert console.heard() == ""
    await console.clock.sleep(0.2 * 10.0 / 1200.0)
    assert console.heard() == "iES4HR20B0008\n"


# -- a script that runs


@virtual
async def test_constant_current_ends_at_its_voltage_and_opens_the_relay() -> None:
    cell = RandlesCell(emf=3.7, resistance=100.0)
    console = Console(cell)
    console.tell("e" + CHARGE + "\n")
    await console.clock.sleep(5.5)
    assert console.device.relay_closed
    assert cell.terminal(console.clock.now()).current == pytest.approx(0.5e-3, rel=1e-4)
    cell.emf = 4.3
    await console.clock.sleep(1.0)
    # The voltage is that of the last setting: this cell does not follow by itself.
    cell.source_current(console.clock.now(), 0.5e-3, 8.0)
    await console.clock.sleep(1.0)
    assert not console.device.relay_closed
    lines = console.heard().split("\n")
    assert lines[:2] == ["e", "M000A"]
    assert lines[-4:] == [lines[-4], "*", "", ""]
    last = package(lines[-4])
    assert last["ab"] == pytest.approx(4.35, abs=1e-4)
    assert last["db"] == pytest.approx(0.5e-3, rel=1e-4)
    assert last["eb"] == pytest.approx(7.0, abs=1e-3)


@virtual
async def test_an_abort_closes_the_loop_and_carries_out_on_finished() -> None:
    console = Console(RandlesCell(resistance=100.0))
    console.tell("e" + CHARGE + "\n")
    await console.clock.sleep(3.3)
    console.heard()
    said = await console.ask("Z\n", 1.1)
    assert said == "Z\n*\n\n"
    assert not console.device.relay_closed
    assert await console.ask("Z\n") == "Z!0006\n"


@virtual
async def test_an_abort_without_on_finished_leaves_the_cell_on() -> None:
    for opens in (False, True):
        console = Console(RandlesCell(resistance=100.0), cell_off_on_abort=opens)
        console.tell("e" + CHARGE.partition("on_finished:")[0] + "\n")
        await console.clock.sleep(3.3)
        assert (await console.ask("Z\n", 1.1)).endswith("Z\n*\n\n")
        assert console.device.relay_closed is not opens


@virtual
async def test_an_abort_waits_for_the_point_that_is_measured_but_not_for_long() -> None:
    text = OCP.replace("p 1 3", "p 100 300")
    console = Console(abort_latency=2.0)
    console.tell("e" + text + "\n")
    await console.clock.sleep(50.0)
    assert (await console.ask("Z\n", 1.9)).endswith("Z\n")
    await console.clock.sleep(0.2)
    assert console.heard() == "*\n\n"


@virtual
async def test_ending_the_loop_alone_goes_on_behind_it() -> None:
    console = Console()
    console.tell("e" + OCP + 'send_string "behind"\n\n')
    await console.clock.sleep(1.5)
    console.heard()
    assert await console.ask("Y\n", 1.1) == "Y\n*\nTbehind\n\n"


@virtual
async def test_a_pause_moves_the_points_and_leaves_the_cell_as_it_is() -> None:
    console = Console(RandlesCell(resistance=100.0))
    console.tell("e" + CHARGE + "\n")
    await console.clock.sleep(2.5)
    console.heard()
    assert await console.ask("h\n", 10.0) == "h\n"
    assert console.device.relay_closed
    said = await console.ask("H\n", 1.2)
    assert said.startswith("H\n")
    (point,) = packages(said.split("\n"))
    assert point["eb"] == pytest.approx(13.0, abs=2e-3)
    console.tell("h\n")
    await console.clock.sleep(1.0)
    assert (await console.ask("Z\n", 0.1)).endswith("Z\n*\n\n")
    assert not console.device.relay_closed


@virtual
async def test_only_five_commands_are_heard_while_a_script_runs() -> None:
    console = Console()
    console.tell("e" + OCP + "\n")
    await console.clock.sleep(0.1)
    console.heard()
    for text in ("t", "i", "CC", "e", "r", "G06"):
        assert await console.ask(f"{text}\n", 0.1) == f"{text[0]}!0006\n"
    assert await console.ask("\n", 0.1) == ""
    assert await console.ask("R\n", 0.1) == "R\n"
    await console.clock.sleep(3.0)
    assert len(packages(console.heard().split("\n"))) == 3


@virtual
async def test_a_runtime_error_leaves_the_cell_on_until_a_script_switches_it_off() -> None:
    console = Console()
    lines = await console.script(
        """
        set_pgstat_mode 2
        set_e 3700m
        cell_on
        set_e 20
        on_finished:
        cell_off
        """
    )
    assert lines == ["e", "!000F: Line 4"]
    assert console.device.relay_closed
    assert not console.device.running
    assert await console.ask("e\ncell_off\n\n") == "e\n\n"
    assert not console.device.relay_closed
    console = Console(blank_line_after_error=True)
    assert await console.script("set_pgstat_mode 1") == ["e", "!0021: Line 1", ""]


# -- nobody reads


@virtual
async def test_a_script_goes_on_while_nobody_is_connected() -> None:
    cell = RandlesCell(resistance=100.0)
    console = Console(cell)
    console.tell("e" + CHARGE.replace("36000", "60") + "\n")
    await console.clock.sleep(10.5)
    console.unplug()
    await console.clock.sleep(20.0)
    assert console.device.relay_closed
    console.plug_in()
    await console.clock.sleep(10.0)
    first = packages(console.heard().split("\n"))[0]
    assert first["eb"] == pytest.approx(31.0, abs=1e-3), "what nobody read is lost"
    await console.clock.sleep(30.0)
    assert not console.device.relay_closed
    assert cell.charge == pytest.approx(0.5e-3 * 60.0, rel=1e-3)


@virtual
async def test_output_may_be_kept_for_the_next_host_as_far_as_there_is_room() -> None:
    console = Console(unread_output="kept", output_buffer=200)
    console.tell("e" + OCP.replace("p 1 3", "p 1 100") + "\n")
    console.unplug()
    await console.clock.sleep(60.5)
    console.plug_in()
    await console.clock.sleep(0.1)
    said = console.heard()
    assert len(said) == 200
    assert package(said.split("\n")[-2])["eb"] == pytest.approx(60.0, abs=1e-2)


@virtual
async def test_a_host_that_stops_the_output_stops_the_script_when_the_buffer_is_full() -> None:
    console = Console(model="emstat-pico", output_buffer=200)
    assert await console.ask("\x13i\n") == ""
    assert await console.ask("\x11") == "iESPICO20B0008\n"
    console.tell("\x13e" + OCP.replace("p 1 3", "p 1 30") + "\n")
    await console.clock.sleep(100.0)
    assert console.heard() == ""
    assert console.device.running
    said = await console.ask("\x11", 100.0)
    assert not console.device.running
    times = [one["eb"] for one in packages(said.split("\n"))]
    assert len(times) == 30, "nothing is lost"
    assert times == sorted(times)
    assert times[-1] > 95.0, "the script had to wait"
    # 1: late; 2: a Pico ends at 2 V and the cell has more.
    assert said.count(",13") > 20


@virtual
async def test_without_flow_control_its_characters_are_stripped() -> None:
    assert await Console().ask("\x13\x11i\x13\n") == "iES4HR20B0008\n"


@virtual
async def test_more_output_than_the_line_carries_slows_the_script_down() -> None:
    console = Console(baud=1200.0, output_buffer=100)
    lines = await console.script(
        """
        var i
        store_var i 0i ja
        loop i < 50i
        send_string "0123456789"
        add_var i 1i
        endloop
        """,
        3.0,
    )
    assert console.device.running
    assert 20 < len(lines) < 40
    await console.clock.sleep(3.0)
    assert not console.device.running


# -- options and noise


def test_unknown_options_are_refused() -> None:
    async def scenario(**options: object) -> None:
        Console(None, **options)

    with pytest.raises(BadInputError, match=r"unknown key volume; it knows abort_latency"):
        run(scenario(volume=11), virtual=True)
    with pytest.raises(BadInputError, match="one of emstat-pico"):
        run(scenario(model="emstat-mini"), virtual=True)


def test_the_same_seed_gives_the_same_bytes() -> None:
    async def scenario(seed: int) -> list[str]:
        console = Console(noise=1.0, warm_up_offset=1e-4, seed=seed)
        return await console.script(OCP)

    first, again, other = (run(scenario(seed), virtual=True) for seed in (1, 1, 2))
    assert first == again
    assert first != other


# -- any bytes at all


_WORDS = st.sampled_from(
    [b"e\n", b"l\n", b"\n", b"\n\n", b"Z\n", b"Y\n", b"h\n", b"H\n", b"R\n", b"t\n", b"r\n",
     b"var p\n", b"cell_on\n", b"set_pgstat_mode 2\n", b"meas_loop_ocp p 1 3\n", b"endloop\n",
     b"\x11", b"\x13", b"set_e 1\n", b"on_finished:\n", b"wait 1\n", b"abort\n", b"G01\n"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=30) | _WORDS, max_size=30))
def test_no_bytes_break_it(chunks: list[bytes]) -> None:
    async def scenario() -> None:
        console = Console()
        for chunk in chunks:
            console.tell(chunk)
            await console.clock.sleep(0.03)
        console.tell("\x11\n\n")
        await console.clock.sleep(0.2)
        console.tell("H\n")
        await console.clock.sleep(0.2)
        console.tell("Z\n")
        await console.clock.sleep(20.0)
        console.heard()
        assert await console.ask("i\n") == "iES4HR20B0008\n"

    run(scenario(), virtual=True)
