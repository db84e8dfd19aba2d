"""The reference pages say what the code does."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from conformance import CURRENT, PROFILES, Subject
from operando.instruments import errors
from operando.instruments.addresses import parse_address
from operando.instruments.bench import RoomEntry
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.conditions import parse
from operando.instruments.limits import Action
from operando.instruments.quantities import QUANTITIES
from operando.instruments.recipe import parse_recipe
from operando.instruments.registry import DRIVERS, SIMULATORS, available, load
from operando.instruments.roles import ROLES, DriverInfo, Galvanostatic, Protection
from operando.instruments.samples import Status
from operando.instruments.units import parse_unit
from operando.simulators.devices.ports import Site
from operando.simulators.rooms import KINDS, make_room

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


def test_the_table_of_live_quantities_is_the_one_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S*) ?\| (.+?) \|$", page("conditions.md"), re.MULTILINE)
    live = [(name, unit, words) for name, unit, words in rows if name in QUANTITIES]
    assert live == [(q.name, q.unit, q.meaning) for q in QUANTITIES.values()]


def test_the_conditions_shown_are_canonical_and_the_python_shown_runs() -> None:
    shown = blocks("conditions.md", "text")[0].splitlines()
    assert len(shown) == 5
    assert [str(parse(line)) for line in shown] == shown
    exec(blocks("conditions.md", "python")[0], {})


def test_every_unit_shown_is_known() -> None:
    section = page("conditions.md").partition("## Units")[2].partition("`C` is a C-rate")[0]
    written = [unit for part in re.findall(r"`([^`]+)`", section) for unit in part.split()]
    known = [unit for unit in written if unit not in ("*", "/", "µ", "Ω", "2", "30")]
    assert len(known) > 50
    for unit in known:
        parse_unit(unit)


def test_the_bench_shown_loads_and_every_role_is_named(tmp_path: Path) -> None:
    whole, shared, rooms, script = blocks("bench-file.md", "toml")
    path = tmp_path / "bench.toml"
    path.write_text(whole, encoding="utf-8")
    assert load_bench(path).channels["A1"].cell == "c1"
    path.write_text(shared, encoding="utf-8")
    assert [channel.shared for channel in load_bench(path).channels.values()] == [("o2",)] * 2
    path.write_text(rooms, encoding="utf-8")
    assert load_bench(path).cells["c1"].room == "oven"
    shown = '[instruments.smu1.simulated]\ncell = "c1"\n'
    assert script.startswith(shown)
    path.write_text(whole.replace(shown, script), encoding="utf-8")
    simulated = load_bench(path).instruments["smu1"].simulated
    assert simulated is not None
    assert "at cycle 3 + 10 s: drop 40 s" in simulated.faults
    assert [role for role in ROLES if f"`{role}`" not in page("bench-file.md")] == []


def test_the_addresses_shown_are_understood() -> None:
    rows = re.findall(r"^\| (.*`.*) \| .* \|$", page("bench-file.md"), re.MULTILINE)
    shown = [
        text for row in rows for text in re.findall(r"`([^`]*::[^`]*|(?:serial|ble):[^`]*)`", row)
    ]
    shown = [text.replace("PATH", "/dev/ttyS0").replace(":port", ":5030") for text in shown]
    shown = [text.replace("...", "0x05E6::0x2450::1::INSTR") for text in shown]
    assert len(shown) >= 10
    found = [parse_address(text) for text in shown]
    assert {address.channel for address in found} == {"", "5-1-3"}
    assert {"visa_socket", "visa", "serial", "serial_socket", "serial_rfc2217", "ble"} == {
        address.kind for address in found
    }
    assert [address.path for address in found if address.kind == "ble"].count("/dev/ttyS0") == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_option_of_a_room_stands_in_its_section(kind: str) -> None:
    (section,) = re.findall(
        rf'^### `kind = "{kind}"`$(.*?)(?=^##)', page("bench-file.md"), re.MULTILINE | re.DOTALL
    )
    entry = RoomEntry("box", "here", kind, {"no such option": 1})
    with pytest.raises(errors.BadInputError, match="unknown key") as caught:
        make_room(entry, 0.0)
    known = str(caught.value).partition("it knows ")[2].split(", ")
    assert len(known) >= 3
    assert [key for key in known if f"`{key}`" not in section] == []


@pytest.mark.parametrize("name", ["recipe-file.md", "conditions.md"])
def test_the_recipes_shown_load(name: str) -> None:
    (block,) = blocks(name, "toml")
    text = block if "protocol" in block else f'protocol = "cccv"\n{block}'
    recipe = parse_recipe(text, Path("shown.toml"))
    assert len(recipe.limits) == 2
    assert all(f"`{action.value}`" in page("conditions.md") for action in Action)


def section_of(driver: str, name: str) -> str:
    """The section of a page whose title names a driver."""
    parts = re.split(r"^## (.*)$", page(name), flags=re.MULTILINE)
    (text,) = [
        text for title, text in zip(parts[1::2], parts[2::2], strict=True) if f"`{driver}`" in title
    ]
    return text


TABLE = {
    re.findall(r"`([\w-]+)`", row)[0]: [cell.strip() for cell in row.strip("|").split("|")]
    for row in re.findall(r"^\| \[`.*$", page("drivers.md"), re.MULTILINE)
}


def test_the_table_of_drivers_lists_those_there_are() -> None:
    assert list(TABLE) == list(available(DRIVERS))


@pytest.mark.parametrize("name", TABLE)
def test_the_table_says_of_a_driver_what_it_says_of_itself(name: str, tmp_path: Path) -> None:
    _, _, _, roles, measures, identified, safe_state, alone = TABLE[name]
    driver: Any = load(DRIVERS, name)
    info: DriverInfo = driver.INFO
    assert re.findall(r"`(\w+)`", roles) == list(info.roles)
    electrical = ("voltage", "current") if "potentiostat" in info.roles else ()
    assert re.findall(r"`(\w+)`", measures) == [*electrical, *info.measures]
    assert identified == info.identification
    assert (safe_state == "has no output") == (info.safe_state == "has no output")

    async def main() -> str:
        subject = Subject(name, driver, tmp_path)
        await subject.instrument.connect()
        return str(subject.instrument.capabilities.when_host_is_silent.value)

    assert alone.startswith(run(main(), virtual=True))


@pytest.mark.parametrize("name", TABLE)
def test_every_setting_of_a_driver_stands_in_its_section(name: str) -> None:
    driver: Any = load(DRIVERS, name)
    settings = [field.name for field in dataclasses.fields(driver.Settings)]
    assert settings
    # The 2400 is set up like the 2450.
    text = section_of("keithley-2450" if name == "keithley-2400" else name, "drivers.md")
    assert [one for one in settings if not re.search(rf"`{one}[`.]", text)] == []


@pytest.mark.parametrize("name", sorted(available(SIMULATORS)))
def test_every_option_of_a_simulated_instrument_stands_in_its_section(name: str) -> None:
    device: Any = load(SIMULATORS, name)
    text = section_of(name, "simulated-instruments.md")

    async def main() -> str:
        options = {"no such option": 1}
        with pytest.raises(errors.BadInputError, match="unknown key") as caught:
            device("it", site=Site(), clock=Clock("virtual"), options=options)
        return str(caught.value)

    known = run(main(), virtual=True).partition("it knows ")[2].split(", ")
    assert len(known) > 5
    assert [key for key in known if f"`{key}`" not in text] == []


def fault_rows(name: str) -> list[list[str]]:
    """Rows of a driver's fault table."""
    rows = re.findall(r"^\| `(.*)$", section_of(name, "drivers.md"), re.MULTILINE)
    cells = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]
    return [row for row in cells if re.fullmatch(r"\d+(\.\d+)? s", row[2])]


async def at_work(subject: Subject) -> None:
    """Bring a driver to where its table begins."""
    instrument = subject.instrument
    await instrument.connect()
    if subject.drives:
        await instrument.prepare(Protection((2.5, 4.25), 5e-3))
        await instrument.apply(Galvanostatic(CURRENT, 4.25))
    elif subject.name == "espec-p300":
        await instrument.hold(313.15)
    elif subject.name == "alicat-dual-valve":
        pressure = subject.simulation.frames["c1"].pressure(subject.clock.now())
        await instrument.hold(pressure, slew=1e5, maximum=12e6)
    await subject.clock.sleep(5.0)


async def outcome(subject: Subject, doing: Awaitable[Any]) -> tuple[str, float]:
    """What came of it in the table's words, and how long it took, s."""
    start = subject.clock.now()
    try:
        result = await asyncio.wait_for(doing, 60.0)
    except errors.InstrumentError as error:
        words = type(error).__name__
    else:
        reading = result[0] if type(result) is tuple else result
        words = "done" if reading is None else "reading"
        if reading is not None and reading.status is not Status.OK:
            words = f"status {reading.status.value}"
    return words, subject.clock.now() - start


def true_state(subject: Subject) -> str:
    """What the actuator behind an instrument does, in the table's words."""
    if subject.drives:
        return "relay closed" if subject.relay else "relay open"
    device: Any = subject.simulation.devices["it"]
    if subject.name == "espec-p300":
        return {"CONSTANT": "goes on", "STANDBY": "standby", "OFF": "off"}[device.mode]
    if device.pneumatics.mode == "hold":
        return "valves closed"
    pressed = subject.simulation.frames["c1"].pressure(subject.clock.now())
    return "goes on" if pressed > 7e6 else "vented"


SAFE = {"relay open", "standby", "valves closed", "vented"}
"""True states that `safe` reaches with the default settings."""


OPTIONS = {"maccor-macnet": "watchdog = 0.0"}
"""Of the simulated instrument where a table is not of its defaults, as its section says."""


@pytest.mark.parametrize("name", TABLE)
def test_the_fault_table_of_a_driver_is_what_happens(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in OPTIONS:
        profile = dataclasses.replace(PROFILES[name], options=OPTIONS[name])
        monkeypatch.setitem(PROFILES, name, profile)
    rows = fault_rows(name)
    assert {"silence", "mute", "garbage", "truncated", "nak", "reboot"} <= {row[0] for row in rows}

    async def seen(fault: str, act: str) -> tuple[str, float, str]:
        subject = Subject(name, load(DRIVERS, name), tmp_path)
        await at_work(subject)
        subject.simulation.inject("it", fault)
        words, took = await outcome(subject, getattr(subject.instrument, act)())
        await subject.clock.sleep(60.0)
        then = true_state(subject) if act == "safe" else ""
        # The fault ends, and the instrument can be used and brought into its safe state again.
        subject.simulation.inject("it", "none")
        await subject.clock.sleep(120.0)
        await subject.instrument.reconnect()
        await subject.instrument.measure()
        await subject.instrument.safe()
        if subject.drives or subject.acts:
            await subject.clock.sleep(60.0)
            assert true_state(subject) in SAFE, fault
        return words, took, then

    def check(fault: str, act: str, words: str, within: str, state: str = "") -> None:
        came, took, then = run(seen(fault, act), virtual=True)
        assert (came, then) == (words, state), f"{fault}: {act}"
        bound = float(within.removesuffix(" s"))
        assert bound - 0.11 <= took <= bound + 1e-6, f"{fault}: {act} took {took:g} s"

    for fault, words, within, *after in rows:
        check(fault, "measure", words, within)
        assert bool(after) == (TABLE[name][6] != "has no output")
        if after:
            check(fault, "safe", *after)


def test_the_watchdog_of_a_maccor_tester_opens_the_relay_in_every_row(tmp_path: Path) -> None:
    rows = fault_rows("maccor-macnet")
    assert "relay closed" in {row[-1] for row in rows}

    async def then(fault: str) -> str:
        subject = Subject("maccor-macnet", load(DRIVERS, "maccor-macnet"), tmp_path)
        await at_work(subject)
        subject.simulation.inject("it", fault)
        await outcome(subject, subject.instrument.safe())
        await subject.clock.sleep(60.0)
        return true_state(subject)

    assert {run(then(row[0]), virtual=True) for row in rows} == {"relay open"}
