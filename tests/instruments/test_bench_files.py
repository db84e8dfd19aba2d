"""Bench files and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.instruments.bench import PLAUSIBLE_VOLTAGES, Bench, SimulatedEntry
from operando.instruments.bench_file import load_bench
from operando.instruments.errors import BadInputError
from operando.instruments.roles import Expect

DESIGN = """\
[clock]
speed = 60
[instruments.smu1]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::5025::SOCKET"
expect.serial = "04500001"
[instruments.smu1.simulated]
cell = "c1"
faults = "none"
[instruments.lc1]
driver = "pt113"
address = "serial:ports/lc1?baud=9600"
[instruments.lc1.settings]
piston_area = "1.327 cm2"
[instruments.lc1.simulated]
cell = "c1"
station = 3
[instruments.glovebox1]
driver = "rapidox"
address = "serial:socket://127.0.0.1:5030"
[instruments.glovebox1.simulated]
[channels.A1]
potentiostat = "smu1"
load_cell = "lc1"
shared = ["glovebox1"]
[cells.c1]
preset = "ncm811-caec"
seed = 1
capacity = "3.14 mAh"
area = "1.131 cm2"
[cells.c1.metadata]
cathode = "NCM811"
"""


def bench(folder: Path, text: str) -> Bench:
    path = folder / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return load_bench(path)


def test_the_bench_of_the_design_loads(tmp_path: Path) -> None:
    found = bench(tmp_path, DESIGN)
    assert found.path == tmp_path / "bench.toml"
    assert found.speed == 60.0
    smu = found.instruments["smu1"]
    assert smu.driver == "keithley-2450"
    assert smu.address == "TCPIP::127.0.0.1::5025::SOCKET"
    assert smu.where == "bench.toml line 3"
    assert smu.expect == Expect(serial="04500001")
    assert smu.simulated == SimulatedEntry(cell="c1", faults="none")
    load_cell = found.instruments["lc1"]
    assert load_cell.address == f"serial:{tmp_path}/ports/lc1?baud=9600"
    assert load_cell.settings == {"piston_area": "1.327 cm2"}
    assert load_cell.simulated == SimulatedEntry(cell="c1", options={"station": 3})
    assert found.instruments["glovebox1"].simulated == SimulatedEntry()
    channel = found.channels["A1"]
    assert channel.roles == {"potentiostat": "smu1", "load_cell": "lc1"}
    assert channel.shared == ("glovebox1",)
    assert channel.cell == "c1"
    cell = found.cells["c1"]
    assert cell.capacity == pytest.approx(3.14e-3 * 3600.0)
    assert cell.area == pytest.approx(1.131e-4)
    assert cell.one_c == "1C = 3.140 mA, from the stated capacity"
    assert (cell.preset, cell.seed, cell.metadata) == ("ncm811-caec", 1, {"cathode": "NCM811"})


def test_an_empty_bench_is_a_bench_in_real_time(tmp_path: Path) -> None:
    found = bench(tmp_path, "")
    assert (found.speed, found.instruments, found.channels) == (1.0, {}, {})


def test_1c_can_be_defined_per_mass_and_per_area(tmp_path: Path) -> None:
    cells = bench(
        tmp_path,
        '[cells.m]\nactive_mass = "16.96 mg"\none_c = "185 mA/g"\n'
        '[cells.a]\narea = "2 cm2"\none_c = "3 mA/cm2"\n[cells.n]\n',
    ).cells
    # Seed cell: 16.96 mg at 185 mA/g, that is 3.138 mA for one hour.
    assert cells["m"].capacity == pytest.approx(185.0 * 16.96e-6 * 3600.0)
    assert cells["m"].one_c == "1C = 185 mA/g x 16.96 mg = 3.138 mA"
    assert cells["a"].capacity == pytest.approx(6e-3 * 3600.0)
    assert (cells["n"].capacity, cells["n"].one_c) == (0.0, "")


REAL = """\
[instruments.smu1]
driver = "keithley-2450"
address = "TCPIP::192.168.0.4::5025::SOCKET"
[instruments.smu2]
driver = "keithley-2450"
address = "TCPIP::192.168.0.5::5025::SOCKET"
[cells.c1]
[channels.A1]
potentiostat = "smu1"
"""

SMU1 = '[instruments.smu1]\ndriver = "d"\naddress = '


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            REAL.replace("address", "addres", 1), 3,
            '[instruments.smu1] addres: unknown key; did you mean "address"?',
        ),
        ("\n[clok]\nspeed = 1", 2, 'clok: unknown key; did you mean "clock"?'),
        ("[clock]\nspeed = 0", 2, "[clock] speed: must be more than 0 and at most 1000, found 0"),
        ("[clock]\nspeed = 1001", 2, "[clock] speed: must be more than 0"),
        ("[clock]\nspeed = nan", 2, "[clock] speed: must be more than 0"),
        ('[clock]\nspeed = "fast"', 2, "[clock] speed: must be a number, found 'fast'"),
        ("clock = 3", 1, "clock: must be a table, found 3"),
        ("[instruments]\nsmu1 = 3", 2, "[instruments] smu1: must be a table, found 3"),
        ("[instruments.'s 1']", 1, "[instruments] s 1: a name is made of letters"),
        ('[instruments.s]\naddress = "GPIB::1"', 1, "[instruments.s] driver is missing; write"),
        ('[instruments.s]\ndriver = "d"', 1, "[instruments.s] address is missing; write"),
        (SMU1 + "5", 3, "[instruments.smu1] address: must be a text in quotes, found 5"),
        (SMU1 + '"smu"', 3, '[instruments.smu1] address: "smu" is not an address; write'),
        (
            SMU1 + '"GPIB::1"\nexpect.seral = "1"', 4,
            '[instruments.smu1.expect] seral: unknown key; did you mean "serial"?',
        ),
        (
            SMU1 + '"GPIB::1"\nexpect.serial = 4500001', 4,
            "[instruments.smu1.expect] serial: must be a text in quotes, found 4500001",
        ),
        (SMU1 + '"GPIB::1"\nsettings = 1', 4, "[instruments.smu1] settings: must be a table"),
        (
            REAL.replace("192.168.0.5", "192.168.0.4"), 6,
            "[instruments.smu2] address: TCPIP::192.168.0.4::5025::SOCKET is the address of smu1 "
            "already (bench.toml line 3)",
        ),
        (
            "[clock]\nspeed = 60\n" + REAL, 2,
            "[clock] speed: is 60, but smu1 is a real instrument (bench.toml line 3). Simulated "
            "and real instruments on one bench only at speed 1",
        ),
        (
            "[clock]\nspeed = 60\n" + SMU1 + '"GPIB::1"\nsimulated = {}', 2,
            "[clock] speed: is 60, but smu1 is a real instrument (bench.toml line 3). Simulated "
            "and real instruments on one bench only at speed 1",
        ),
        (
            SMU1 + '"serial:p"\nsimulated = { cell = "c9" }', 4,
            "[instruments.smu1.simulated] cell: there is no [cells.c9]; cells of this bench: none",
        ),
        (
            SMU1 + '"serial:p"\nsimulated = { fault = "silence" }', 4,
            '[instruments.smu1.simulated] fault: unknown key; did you mean "faults"?',
        ),
        (
            REAL.replace("potentiostat", "potentiostatt"), 9,
            '[channels.A1] potentiostatt: unknown role; did you mean "potentiostat"?',
        ),
        (
            REAL.replace('= "smu1"', '= "smu3"'), 9,
            "[channels.A1] potentiostat: there is no [instruments.smu3]; instruments of this "
            "bench: smu1, smu2",
        ),
        (
            REAL + 'shared = ["box"]', 10,
            "[channels.A1] shared: there is no [instruments.box]",
        ),
        (REAL + 'shared = "box"', 10, "[channels.A1] shared: must be a list of texts in quotes"),
        (REAL + 'shared = ["smu1"]', 10, "[channels.A1] shared: smu1 is named twice"),
        (REAL + 'cell = "c2"', 10, "[channels.A1] cell: there is no [cells.c2]"),
        (
            REAL + '[channels.A2]\npotentiostat = "smu1"', 11,
            "[channels.A2] potentiostat: smu1 belongs to channel A1 already",
        ),
        (
            REAL + '[channels.A0]\nshared = ["smu1"]', 11,
            "[channels.A0] shared: smu1 has a role of channel A1 and cannot be shared",
        ),
        (
            REAL + 'cell = "c1"\n[channels.A2]\npotentiostat = "smu2"\ncell = "c1"', 13,
            "[channels.A2] cell: cell c1 is on channel A1 already",
        ),
        (
            DESIGN + '[cells.c2]\n[channels.A2]\ncell = "c1"', 35,
            "[channels.A2] cell: cell c1 is on channel A1 already",
        ),
        (
            DESIGN.replace('shared =', 'cell = "c2"\nshared =') + "[cells.c2]", 25,
            "[channels.A1] cell: the channel has cell c2, but smu1 is simulated on cell c1 "
            "(bench.toml line 7)",
        ),
        ('[cells.c1]\ncapacity = "3.14 mA"', 2, '[cells.c1] capacity: "3.14 mA" is a current'),
        ("[cells.c1]\ncapacity = 3.14", 2, '[cells.c1] capacity: write it with its unit, such as'),
        ('[cells.c1]\ncapacity = "0 mAh"', 2, "[cells.c1] capacity: must be more than zero"),
        ('[cells.c1]\narea = "1 cm"', 2, '[cells.c1] area: "1 cm" is a length; expected an area'),
        ('[cells.c1]\none_c = "185 mA/g"', 2, '[cells.c1] one_c: "185 mA/g" needs active_mass'),
        ('[cells.c1]\none_c = "3 mA/cm2"', 2, '[cells.c1] one_c: "3 mA/cm2" needs area'),
        ('[cells.c1]\none_c = "3 mA"', 2, '[cells.c1] one_c: "3 mA" is a current; write it such'),
        ("[cells.c1]\none_c = 185", 2, "[cells.c1] one_c: write it with its unit"),
        (
            '[cells.c1]\ncapacity = "3 mAh"\none_c = "185 mA/g"', 3,
            "[cells.c1] one_c: 1C is defined by capacity already",
        ),
        ("[cells.c1]\nseed = -1", 2, "[cells.c1] seed: must be a whole number from 0, found -1"),
        ("[cells.c1]\nseed = true", 2, "[cells.c1] seed: must be a whole number from 0"),
        ('[cells.c1]\ncathode = "x"', 2, "[cells.c1] cathode: unknown key; there are active_mass"),
        ("[cells.c1]\nmetadata = 1", 2, "[cells.c1] metadata: must be a table, found 1"),
    ],
)  # fmt: skip
def test_an_error_names_line_table_key_and_remedy(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        bench(tmp_path, text)
    message = str(caught.value)
    place = f"bench.toml line {line}: "
    assert message.startswith(place)
    assert message.removeprefix(place).startswith(words)


def test_a_file_that_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"bench\.toml: not valid TOML: .*line 2"):
        bench(tmp_path, "[clock]\nspeed 60\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"bench\.toml: cannot be read"):
        load_bench(tmp_path / "bench.toml")


def test_simulated_and_real_instruments_share_a_bench_at_speed_one(tmp_path: Path) -> None:
    found = bench(tmp_path, DESIGN.replace("speed = 60", "speed = 1") + REAL.partition("[cells")[0]
                  .replace("smu1", "real1").replace("smu2", "real2"))  # fmt: skip
    assert len(found.instruments) == 5


def test_a_cell_says_between_which_voltages_it_may_be(tmp_path: Path) -> None:
    text = '[cells.c1]\nvoltage_range = ["-100 mV", "4.4 V"]\n[cells.c2]\n'
    (tmp_path / "bench.toml").write_text(text, encoding="utf-8")
    cells = load_bench(tmp_path / "bench.toml").cells
    assert cells["c1"].voltage_range == (-0.1, 4.4)
    assert cells["c2"].voltage_range == PLAUSIBLE_VOLTAGES == (-5.0, 5.5)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('"4 V"', "write two voltages"),
        ("[0, 5]", "write two voltages"),
        ('["0 V", "4 V", "5 V"]', "write two voltages"),
        ('["0", "5 V"]', '"0" has no unit; expected a voltage'),
        ('["5 V", "0 V"]', "the lower voltage comes first"),
        ('["0 V", "425 V"]', "100 V is the most"),
    ],
)
def test_a_wrong_voltage_range_is_refused_with_its_line(
    tmp_path: Path, written: str, said: str
) -> None:
    (tmp_path / "bench.toml").write_text(f"[cells.c1]\nvoltage_range = {written}\n")
    with pytest.raises(BadInputError) as caught:
        load_bench(tmp_path / "bench.toml")
    assert str(caught.value).startswith("bench.toml line 2: [cells.c1] voltage_range: ")
    assert said in str(caught.value)


ROOMS = """\
[instruments.o2]
driver = "rapidox-1100"
address = "serial:ports/o2"
[instruments.o2.simulated]
room = "box"
[cells.c1]
preset = "ncm811-caec"
room = "oven"
[rooms.box]
kind = "glovebox"
leak = 1e-6
[rooms.oven]
kind = "chamber"
"""


def test_instruments_and_cells_are_in_rooms(tmp_path: Path) -> None:
    found = bench(tmp_path, ROOMS)
    assert found.instruments["o2"].simulated == SimulatedEntry(room="box")
    assert found.cells["c1"].room == "oven"
    assert (found.rooms["box"].kind, found.rooms["box"].options) == ("glovebox", {"leak": 1e-6})
    assert found.rooms["oven"].options == {}


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ('room = "bax"', 'room = "box"', r"line 5.*there is no \[rooms.bax\]; rooms of this bench"),
        ('room = "oben"', 'room = "oven"', r"there is no \[rooms.oben\]; .*: box, oven"),
        ('knd = "chamber"', 'kind = "chamber"', r'kind.*missing|write kind = "glovebox"'),
    ],
)
def test_a_room_that_is_not_there_is_named(
    tmp_path: Path, wrong: str, right: str, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        bench(tmp_path, ROOMS.replace(right, wrong))


CYCLER = """\
[instruments.c1]
driver = "neware-bts8"
address = "TCPIP::10.0.0.4::502::SOCKET#5-1-1"
[instruments.c2]
driver = "neware-bts8"
address = "TCPIP::10.0.0.4::502::SOCKET#5-1-2"
"""


def test_channels_of_one_instrument_share_a_place(tmp_path: Path) -> None:
    found = bench(tmp_path, CYCLER)
    assert [entry.address[-5:] for entry in found.instruments.values()] == ["5-1-1", "5-1-2"]


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("SOCKET#5-1-2", "SOCKET#5-1-1", "line 6: .*is the address of c1 already"),
        ("SOCKET#5-1-2", "SOCKET", "line 6: .*the place of c1 already.*behind each address"),
        ("SOCKET#5-1-1", "SOCKET", "line 6: .*the place of c1 already"),
    ],
)
def test_what_is_no_other_channel_is_refused(
    tmp_path: Path, right: str, wrong: str, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        bench(tmp_path, CYCLER.replace(right, wrong))


def test_another_driver_at_one_place_is_refused(tmp_path: Path) -> None:
    head, _, tail = CYCLER.rpartition("neware-bts8")
    with pytest.raises(BadInputError, match="one driver"):
        bench(tmp_path, f"{head}maccor-macnet{tail}")
