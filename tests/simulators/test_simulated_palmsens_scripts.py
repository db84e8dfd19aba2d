"""What scripts do on the simulated MethodSCRIPT instruments: language, techniques, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.instruments.clock import run
from operando.simulators.devices.palmsens_models import COMMAND_BITS, MODELS
from operando.simulators.devices.palmsens_script import ScriptRefusal, parse_script
from simulators.bench_of_one import virtual
from simulators.palmsens_bench import Console, RandlesCell, packages

ON = "set_pgstat_mode 2\nset_e 3700m\ncell_on\n"
GALVANOSTAT = "set_pgstat_mode 6\nset_range db 10m\ncell_on\n"
SEND = "pck_start\npck_add p\npck_add c\npck_end\n"


# -- refusals while loading


@pytest.mark.parametrize(
    ("script", "refusal"),
    [
        ("nonsense 1", "4001: Line 1, Col 9"),
        ("var p\n  nonsense 1", "4001: Line 2, Col 11"),
        ("wait 3.7", "4004: Line 1, Col 7"),
        ("wait +1", "4004: Line 1, Col 6"),
        ("wait 1e3", "4039: Line 1, Col 9"),
        ("wait 1x", "4039: Line 1, Col 8"),
        ("wait 99999999999", "4039: Line 1, Col 17"),
        ("wait 0x", "4039: Line 1, Col 8"),
        ("wait", "4004: Line 1, Col 5"),
        ("wait 1 2", "420A: Line 1, Col 9"),
        ("wait \xe9", "4004: Line 1, Col 6"),
        ("wait x", "420B: Line 1, Col 7"),
        ("var p\nvar p", "4026: Line 2, Col 6"),
        ("var P", "402B: Line 1, Col 6"),
        ("var " + "p" * 40, "402C: Line 1, Col 45"),
        ("var p\nstore_var p 1 zz", "4209: Line 2, Col 17"),
        ("store_var 1 1 ab", "420D: Line 1, Col 12"),
        ("array a 3i\nwait a", "420E: Line 2, Col 7"),
        ("array a 3i\nwait a[0i", "4038: Line 2, Col 10"),
        ("loop 1i == 1i", "4018: Line 1, Col 14"),
        ("if 1i == 1i\nendloop", "400E: Line 2, Col 8"),
        ("endif", "400E: Line 1, Col 6"),
        ("if 1i == 1i\nelse\nelse\nendif", "400E: Line 3, Col 5"),
        ("breakloop", "400E: Line 1, Col 10"),
        ("loop 1i == 1i\n" * 17, "400D: Line 17, Col 14"),
        ("var p\nmeas_loop_ocp p 1 3\nmeas_loop_ocp p 1 3", "400B: Line 3, Col 20"),
        ("cell_on maybe(1)", "4008: Line 1, Col 14"),
        ('send_string f"{p"', "4210: Line 1, Col 18"),
        ('send_string f"{p}"', "420B: Line 1, Col 19"),
        ("i2c_config 100k 7", "400C: Line 1, Col 11"),
    ],
)
def test_a_script_is_refused_with_code_line_and_column(script: str, refusal: str) -> None:
    async def scenario() -> None:
        console = Console()
        assert await console.ask(f"e\n{script}\n\n") == f"e!{refusal}\n"
        assert not console.device.running

    run(scenario(), virtual=True)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("set_i 1m", "0023: Line 1"),
        ("set_pgstat_mode 1", "0021: Line 1"),
        ("set_pgstat_mode 2\nset_e 7", "000F: Line 2"),
        ("set_pgstat_mode 2\nset_i 1m", "0023: Line 2"),
        ("set_pgstat_mode 6\nset_e 1", "0023: Line 2"),
        ("cell_on", "0023: Line 1"),
        ("set_pgstat_mode 2\nvar p\nvar c\nmeas_loop_ca p c 1 1 3\nendloop", "4027: Line 4"),
        (ON + "var p\nmeas_loop_ocp p 1 3\nendloop", "0014: Line 5"),
        (ON + "var p\nvar c\nmeas_loop_cp p c 1m 1 3\nendloop", "0023: Line 6"),
        (ON + "var p\nvar c\nmeas_loop_lsv p c 1 1 10m 1\nendloop", "4029: Line 6"),
        (ON + "var p\nvar c\nmeas_loop_lsv p c 1 2 1u 1\nendloop", "001C: Line 6"),
        (ON + "var p\nvar c\nmeas_loop_lsv p c 1 2 10m 100\nendloop", "005A: Line 6"),
        (ON + "var p\nvar c\nmeas_loop_ca p c 1 0 3\nendloop", "4204: Line 6"),
        (ON + "var f\nvar r\nvar j\nmeas_loop_eis f r j 10m 1M 1 3 0\nendloop", "0011: Line 7"),
        (ON + "var f\nvar r\nvar j\nmeas_loop_eis f r j 0 1k 1 3 0\nendloop", "0012: Line 7"),
        (ON + "var p\nvar c\nmeas_loop_ca p c 1 1 3\nset_e 2\nendloop", "4032: Line 7"),
        (
            GALVANOSTAT + "var p\nvar c\nmeas_loop_cp p c 1m 1 3\nset_i 2m\nendloop",
            "4033: Line 7",
        ),
        (GALVANOSTAT + "set_i 100m", "4205: Line 4"),
        ("var x\nstore_var x 1 ab\ndiv_var x 0", "0028: Line 3"),
        ("var x\nstore_var x 2147483647i ja\nmul_var x 4i", "4037: Line 3"),
        ("var x\nstore_var x -1 ab\npow_var x 500m", "4207: Line 3"),
        ("array a 3i\nwait a[3i]", "400F: Line 2"),
        ("array a 0i", "000B: Line 1"),
        ("wait -1", "4200: Line 1"),
        ("pck_add 1", "401B: Line 1"),
        ("pck_start\npck_start", "401B: Line 2"),
        ("set_script_output 7", "403C: Line 1"),
        ("set_pgstat_chan 5", "0007: Line 1"),
        ("await_int", "0007: Line 1"),
        ("var x\nmeas 1 x ca", "0084: Line 2"),
        ("set_range ca 1", "0084: Line 1"),
        ("pck_start\n" + "pck_add 1\n" * 34, "401C: Line 35"),
    ],
)
def test_a_script_that_cannot_go_on_ends_with_code_and_line(script: str, error: str) -> None:
    async def scenario() -> None:
        console = Console()
        lines = await console.script(script)
        assert lines[0] == "e"
        assert lines[-1] == f"!{error}"

    run(scenario(), virtual=True)


# -- language


@virtual
async def test_arithmetic_texts_and_branches_work() -> None:
    lines = await Console().script(
        """
        # a comment
        var i
        var x
        array a 3i
        store_var i 0i ja   # and another
        loop i < 3i
            copy_var i a[i]
            mul_var a[i] 500m
            add_var i 1i
        endloop
        mean a x
        if x == 500m
            send_string "half"
        elseif x > 1
            send_string "more"
        else
            send_string "less"
        endif
        store_var x 100 ab
        log_var x
        pow_var x 3
        send_string f"x = {x}, i = {i}, a = {a[1i]} {a[i]}"
        """
    )
    # The last text reads past the array's end.
    assert lines == ["e", "L", "+", "Thalf", "!400F: Line 22"]


@virtual
async def test_texts_show_variables_and_elements() -> None:
    lines = await Console().script(
        """
        var i
        array a 2i
        store_var i 1i ja
        store_var a[1i] 2500m ab
        send_string f"{i} of {a[i]} V"
        store_var i 0x10 ja
        bit_or_var i 0b101
        bit_lsl_var i 2i
        pck_start
        pck_add i
        pck_add a[1i]
        pck_end
        """
    )
    assert lines == ["e", "T1 of 2.5 V", "Pja8000054i;ab82625A0u", ""]


@virtual
async def test_loops_mark_their_ends_and_break_out_of_the_innermost() -> None:
    lines = await Console().script(
        """
        var i
        var p
        var t
        store_var i 0i ja
        loop i < 2i
            add_var i 1i
            meas_loop_ocp p 100m 1
                if i == 1i
                    breakloop
                endif
                set_script_output 0
                send_string "nobody hears this"
            endloop
        endloop
        set_script_output 1
        send_string "end"
        """
    )
    assert lines == ["e", "L", "M000B", "*", "M000B", "*", "+", "Tend", ""]


@virtual
async def test_an_abort_closes_every_loop_from_inside_out() -> None:
    console = Console()
    console.tell(
        "e\n" + ON + "var p\nvar c\nloop 1i == 1i\n"
        "meas_loop_cv p c 3700m 3900m 3500m 10m 10m nscans(2)\n" + SEND + "endloop\nendloop\n"
        'on_finished:\ncell_off\nsend_string "off"\n\n'
    )
    await console.clock.sleep(3.1)
    console.heard()
    assert await console.ask("Z\n", 1.1) == "Z\n-\n*\n+\nToff\n\n"
    assert not console.device.relay_closed


@virtual
async def test_the_command_abort_goes_to_on_finished_too() -> None:
    lines = await Console().script('abort\nsend_string "no"\non_finished:\nsend_string "yes"')
    assert lines == ["e", "Tyes", ""]


@virtual
async def test_intervals_and_timers_keep_time() -> None:
    lines = await Console().script(
        """
        var p
        var c
        var i
        store_var i 0i ja
        timer_start
        set_int 2
        loop i < 3i
            await_int
            timer_get p
            get_time c
            pck_start
            pck_add p
            pck_end
            wait 500m
            add_var i 1i
        endloop
        """,
        20.0,
    )
    times = [one["eb"] for one in packages(lines)]
    assert times == pytest.approx([2.0, 4.0, 6.0], abs=1e-3)


@virtual
async def test_an_endless_loop_can_be_aborted() -> None:
    console = Console()
    console.tell("e\nloop 1i == 1i\nendloop\n\n")
    await console.clock.sleep(0.5)
    assert (await console.ask("Z\n", 0.1)).endswith("L\nZ\n+\n\n")


# -- techniques


@virtual
async def test_a_linear_sweep_steps_through_ohms_law() -> None:
    cell = RandlesCell(emf=0.0, resistance=1e4)
    lines = await Console(cell).script(
        "set_pgstat_mode 2\nset_autoranging ba 5u 50u\nset_range ba 50u\nset_e -500m\ncell_on\n"
        "var p\nvar c\nmeas_loop_lsv p c -500m 500m 50m 100m\n" + SEND + "endloop\ncell_off",
        20.0,
    )
    assert lines[:2] == ["e", "M0000"]
    assert lines[-2:] == ["*", ""]
    points = packages(lines)
    assert [one["da"] for one in points] == pytest.approx(
        [-0.5 + 0.05 * k for k in range(21)], abs=1e-4
    )
    for one in points:
        assert one["ba"] == pytest.approx(one["da"] / 1e4, abs=2e-9)


@virtual
async def test_cyclic_scans_are_marked_and_can_be_turned_round() -> None:
    script = (
        "set_pgstat_mode 2\ncell_on\nvar p\nvar c\n"
        "meas_loop_cv p c 0 20m -20m 10m 10m nscans(2)\n" + SEND + "endloop\ncell_off"
    )
    console = Console(RandlesCell(emf=0.0))
    lines = await console.script(script, 60.0)
    marks = [line if line[0] != "P" else "P" for line in lines[:-1]]
    scan = ["P"] * 9
    assert marks == ["e", "M0005", "C0000", *scan, "-", "C0001", *scan, "-", "*"]
    levels = [round(one["da"], 2) for one in packages(lines)]
    assert levels == [0.0, 0.01, 0.02, 0.01, 0.0, -0.01, -0.02, -0.01, 0.0] * 2
    console.tell(f"e\n{script}\n\n")
    await console.clock.sleep(1.5)
    console.tell("R\n")
    await console.clock.sleep(60.0)
    turned = packages(console.heard().split("\n"))
    assert [round(one["da"], 2) for one in turned[:5]] == [0.0, 0.01, 0.0, -0.01, -0.02]


@virtual
async def test_impedance_is_that_of_the_cell() -> None:
    cell = RandlesCell()
    lines = await Console(cell).script(
        "set_pgstat_mode 3\nset_range ba 10m\nset_autoranging ba 1u 10m\n"
        "set_e 3700m\ncell_on\nvar f\nvar r\nvar j\n"
        "meas_loop_eis f r j 10m 200k 100m 51i 3700m\n"
        "pck_start\npck_add f\npck_add r\npck_add j\npck_end\nendloop\non_finished:\ncell_off",
        600.0,
    )
    points = packages(lines)
    assert len(points) == 51
    assert points[0]["dc"] == pytest.approx(200e3)
    assert points[-1]["dc"] == pytest.approx(0.1)
    for one in points:
        expected = complex(cell.impedance(one["dc"], 0.0))
        assert complex(one["cc"], one["cd"]) == pytest.approx(expected, rel=1e-6)
    assert min(one["cd"] for one in points) < -20.0, "a capacitive cell gives a negative Z''"
    assert ",10,2" in lines[5]


@virtual
async def test_the_impedance_of_a_galvanostat_is_the_same() -> None:
    cell = RandlesCell()
    lines = await Console(cell).script(
        GALVANOSTAT + "var f\nvar r\nvar j\nmeas_loop_geis f r j 1m 10k 1 11i 0\n"
        "pck_start\npck_add f\npck_add r\npck_add j\npck_end\nendloop\ncell_off",
        60.0,
    )
    assert "M000E" in lines
    for one in packages(lines):
        expected = complex(cell.impedance(one["dc"], 0.0))
        assert complex(one["cc"], one["cd"]) == pytest.approx(expected, rel=1e-6)


@virtual
async def test_noise_stray_inductance_and_range_steps_show_in_a_spectrum() -> None:
    script = (
        "set_pgstat_mode 3\nset_autoranging ba 1u 10m\nset_e 3700m\ncell_on\nvar f\nvar r\nvar j\n"
        "meas_loop_eis f r j 10m 200k 10 21i 3700m\n"
        "pck_start\npck_add f\npck_add r\npck_add j\npck_end\nendloop\ncell_off"
    )
    cell = RandlesCell(resistance=1.0)
    plain = packages(await Console(cell, stray_inductance=1e-6).script(script, 60.0))
    noisy = packages(await Console(cell, stray_inductance=1e-6, impedance_noise=1.0).script(script))
    assert plain[0]["cd"] == pytest.approx(
        complex(cell.impedance(200e3, 0.0)).imag + 2 * 3.14159265 * 200e3 * 1e-6, rel=1e-3
    )
    errors = [abs(a["cc"] / b["cc"] - 1.0) for a, b in zip(plain, noisy, strict=True)]
    assert 1e-6 < max(errors) < 0.05
    steps = packages(await Console(cell, range_gain_error=1e-2).script(script, 60.0))
    gains = {round(a["cc"] / complex(cell.impedance(a["dc"], 0.0)).real, 6) for a in steps}
    assert 1 < len(gains) < 6, "one gain for each range that was used"


@virtual
async def test_pulses_measure_differences() -> None:
    cell = RandlesCell(emf=0.0, resistance=1e3)
    console = Console(cell)
    head = "set_pgstat_mode 3\nset_range ba 1m\ncell_on\nvar p\nvar c\nvar f\nvar r\n"
    for command, difference in (
        ("meas_loop_dpv p c -100m 100m 10m 20m 5m 100m", 20e-6),
        ("meas_loop_swv p c f r -100m 100m 10m 15m 10", 30e-6),
    ):
        lines = await console.script(head + command + "\n" + SEND + "endloop\ncell_off", 10.0)
        points = packages(lines)
        assert len(points) == 21
        assert [one["ba"] for one in points] == pytest.approx([difference] * 21, abs=0.3e-6)


@virtual
async def test_one_more_quantity_can_be_measured_beside() -> None:
    lines = await Console(RandlesCell(resistance=100.0)).script(
        GALVANOSTAT + "var p\nvar c\nvar m\nmeas_loop_cp p c 1m 1 2 add_meas(0 ba m)\n"
        "pck_start\npck_add p\npck_add m\npck_end\nendloop\ncell_off"
    )
    for one in packages(lines):
        assert one == {"ab": pytest.approx(3.8, abs=1e-4), "ba": pytest.approx(1e-3, rel=1e-3)}


@virtual
async def test_the_cell_can_start_at_its_open_circuit_potential() -> None:
    console = Console()
    await console.script("var p\nset_pgstat_mode 3\nmeas 100m p ab\ncell_on ocp(p)\nwait 1", 2.0)
    state = console.cell.terminal(console.clock.now())
    assert console.device.relay_closed
    assert abs(state.current) < 20e-6


@virtual
async def test_the_potential_may_be_set_before_the_mode() -> None:
    console = Console()
    await console.script("set_e 3750m\nset_pgstat_mode 2\ncell_on")
    state = console.cell.terminal(console.clock.now())
    assert state.current == pytest.approx(5e-3, abs=20e-6)


@virtual
async def test_another_mode_opens_the_relay() -> None:
    console = Console()
    await console.script(ON)
    assert console.device.relay_closed
    await console.script("set_pgstat_mode 6")
    assert not console.device.relay_closed


# -- ranges


@virtual
async def test_readings_say_how_they_fit_their_range() -> None:
    cell = RandlesCell(emf=0.0, resistance=1e3)
    console = Console(cell)
    for volts, ranges, status, index in (
        ("1", "set_range ba 1m", "0", 21),
        ("3", "set_range ba 1m", "2", 21),
        ("2050m", "set_range ba 1m", "8", 21),
        ("5m", "set_range ba 1m", "4", 21),
        ("5m", "set_range ba 1m\nset_autoranging ba 1u 1m", "0", 15),
        ("3", "set_range ba 1u\nset_autoranging ba 1u 10m", "0", 24),
    ):
        lines = await console.script(
            f"set_pgstat_mode 2\n{ranges}\ncell_on\nvar p\nvar c\nmeas_loop_ca p c {volts} 1 1\n"
            + SEND
            + "endloop\ncell_off"
        )
        assert lines[2].endswith(f",1{status},2{index:02X}"), (volts, ranges, lines)


@virtual
async def test_a_range_limits_the_current_that_flows() -> None:
    cell = RandlesCell(emf=3.7, resistance=1.0)
    console = Console(cell)
    await console.script("set_pgstat_mode 2\nset_range ba 1m\nset_e 0\ncell_on")
    assert cell.terminal(console.clock.now()).current == pytest.approx(-2.1e-3)


@virtual
async def test_autoranging_takes_time() -> None:
    cell = RandlesCell(emf=0.0, resistance=1e3)
    lines = await Console(cell).script(
        "set_pgstat_mode 2\nset_range ba 100n\nset_autoranging ba 100n 10m\ncell_on\nvar p\nvar c\n"
        "meas_loop_ca p c 1 10m 100m\n" + SEND + "endloop\ncell_off"
    )
    statuses = [line[-5] for line in lines if line.startswith("P")]
    assert statuses == ["2", "2", "2", "0", "0", "0", "0", "0", "0", "0"]


@virtual
async def test_offset_gain_and_drift_are_seen() -> None:
    console = Console(potential_offset=2e-3, current_gain_error=0.01)
    (one,) = packages(await console.script("var p\nmeas 100m p ab\npck_start\npck_add p\npck_end"))
    assert one["ab"] == pytest.approx(3.702, abs=1e-4)
    await console.script(GALVANOSTAT + "set_i 1m")
    assert console.cell.terminal(console.clock.now()).current == pytest.approx(
        1e-3 / 1.01, rel=1e-3
    )


# -- models


def test_capability_bits_tell_what_a_model_lacks() -> None:
    async def scenario() -> None:
        for name, model in MODELS.items():
            said = await Console(model=name).ask("CM\n")
            bits = int(said[1:], 16)
            for command in ("meas_loop_cp", "meas_loop_geis", "set_i", "meas_loop_lsp"):
                has = bool(bits >> COMMAND_BITS[command] & 1)
                assert has is (name != "emstat-pico")
                assert has is (command not in model.missing_commands)
            assert bits >> COMMAND_BITS["meas_loop_eis"] & 1

    run(scenario(), virtual=True)


def test_a_pico_knows_neither_galvanostat_nor_more_than_two_volts() -> None:
    async def scenario() -> None:
        console = Console(RandlesCell(emf=1.0), model="emstat-pico")
        said = await console.ask("e\nvar p\nvar c\nmeas_loop_cp p c 1u 1 1\n\n")
        assert said == "e!4001: Line 3, Col 13\n"
        await console.clock.sleep(0.1)
        for script, error in (
            ("set_pgstat_mode 6", "!0021: Line 1"),
            ("set_pgstat_mode 2\nset_e 2100m", "!000F: Line 2"),
            ("set_pgstat_mode 2\nset_e -1500m", "!000F: Line 2"),
            ("set_pgstat_mode 3\nset_range_minmax da -700m 700m", "!000F: Line 2"),
            ("set_pgstat_mode 3\nset_range_minmax da 0 1\nset_e 1900m", "!000F: Line 3"),
        ):
            assert (await console.script(script))[-1] == error
        lines = await console.script(
            "set_pgstat_mode 3\nset_range ba 100u\nset_e 1\ncell_on\nvar f\nvar r\nvar j\n"
            "meas_loop_eis f r j 1m 1k 1k 1i 1\npck_start\npck_add r\npck_add j\npck_end\n"
            "endloop\ncell_off"
        )
        assert lines[2].count(",10,287") == 2, "its current range stands with Z' and Z''"

    run(scenario(), virtual=True)


@pytest.mark.parametrize(("model", "volts"), [("emstat4-lr", 3), ("emstat4-hr", 6), ("nexus", 10)])
def test_windows_end_where_they_should(model: str, volts: int) -> None:
    async def scenario() -> None:
        console = Console(model=model)
        assert await console.script(f"set_pgstat_mode 2\nset_e {volts}\nset_e -{volts}") == [
            "e",
            "",
        ]
        assert (await console.script(f"set_pgstat_mode 2\nset_e {volts}001m"))[-1] == (
            "!000F: Line 2"
        )

    run(scenario(), virtual=True)


# -- anything at all

_NAMES = st.sampled_from([*sorted(COMMAND_BITS)[:90], "on_finished:", "endloop", "endif"])
_ARGUMENTS = st.sampled_from(
    ["p", "c", "a[0i]", "a[9i]", "1", "0", "-1", "500m", "3i", "0x10", "ba", "ab", "da", "db",
     "1k", "<", "==", "nscans(2)", "ocp(p)", "f", "(", "[", "99999P"]
)  # fmt: skip
_LINES = st.builds(lambda name, words: " ".join([name, *words]), _NAMES, st.lists(_ARGUMENTS))


def _refusal(lines: list[str]) -> ScriptRefusal | None:
    try:
        parse_script(lines, frozenset(COMMAND_BITS))
    except ScriptRefusal as refusal:
        return refusal
    return None


@settings(max_examples=150, deadline=None)
@given(st.lists(_LINES | st.text(max_size=20), max_size=12))
def test_no_text_breaks_the_parser(lines: list[str]) -> None:
    refusal = _refusal(["var p", "var c", "array a 3i", *lines])
    if refusal is not None:
        assert 1 <= refusal.line <= len(lines) + 3
        assert refusal.column >= 1


_STATEMENTS = st.sampled_from(
    ["cell_on", "cell_off", "set_pgstat_mode 2", "set_pgstat_mode 6", "set_e 1", "set_i 1m",
     "set_e p", "add_var p 1i", "mul_var p c", "div_var p c", "pow_var p p", "store_var p 3i ja",
     "store_var c -500m ab", "meas 10m c ba", "meas 10m p ab", "set_range ba p", "wait c",
     "set_autoranging ba c p", "set_range_minmax da p c", "float_to_int p", "bit_inv_var p",
     "pck_start", "pck_add p", "pck_end", "if p > c\nabort\nendif", "set_int 1", "await_int",
     "meas_loop_ca p c 1 100m 1\npck_start\npck_add c\npck_end\nendloop",
     "meas_loop_cp p c 1m p 1\nendloop", "meas_loop_lsv p c p c 100m 1\nendloop",
     "meas_loop_cv p c 0 c p 100m 1\nendloop", "meas_loop_eis p c c p 1k 1 3i c\nendloop",
     "loop p < 3\nadd_var p 1\nendloop", "timer_get c", "cell_on ocp(c)"]
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(_STATEMENTS, max_size=15), st.sampled_from(sorted(MODELS)))
def test_every_script_that_is_accepted_ends(statements: list[str], model: str) -> None:
    async def scenario() -> None:
        console = Console(model=model)
        script = "\n".join(["var p", "var c", *statements])
        lines = await console.script(script, 1e4)
        assert lines[-1] == "" or "!" in lines[-1]
        assert not console.device.running
        await console.clock.sleep(0.1)
        assert await console.ask("e\ncell_off\n\n") == "e\n\n"
        assert not console.device.relay_closed

    run(scenario(), virtual=True)
