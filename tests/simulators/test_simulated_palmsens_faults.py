"""Faults of the simulated MethodSCRIPT instruments, and the true state of their relay."""

from __future__ import annotations

import pytest

from operando.simulators.cell import SimulatedCell, impedance
from simulators.bench_of_one import virtual
from simulators.palmsens_bench import Console, RandlesCell, packages
from simulators.test_simulated_palmsens import CHARGE, OCP


async def _charging(**options: object) -> Console:
    console = Console(RandlesCell(resistance=100.0), **options)
    console.tell("e" + CHARGE + "\n")
    await console.clock.sleep(3.5)
    assert console.device.relay_closed
    console.heard()
    return console


@virtual
async def test_a_loss_of_power_opens_the_relay_and_forgets_the_script() -> None:
    console = await _charging()
    console.faults.inject("reboot 5 s")
    assert not console.device.relay_closed
    assert not console.device.running
    assert console.cell.terminal(console.clock.now()).current == 0.0
    assert await console.ask("i\n", 4.5) == ""
    await console.clock.sleep(1.0)
    assert await console.ask("i\n") == "iES4HR20B0008\n"
    assert await console.ask("Z\n") == "Z!0006\n"


@virtual
async def test_an_injected_error_ends_the_script_with_the_cell_on() -> None:
    console = await _charging()
    console.faults.inject("error 32")
    await console.clock.sleep(0.2)
    assert console.heard() == "!0032: Line 12\n"
    assert console.device.relay_closed
    assert not console.device.running
    assert await console.ask("e\ncell_off\n\n") == "e\n\n"
    assert not console.device.relay_closed


@virtual
async def test_silence_does_not_stop_the_script() -> None:
    console = await _charging()
    console.faults.inject("silence")
    assert await console.ask("Z\n", 5.0) != "Z\n"
    assert console.device.relay_closed
    console.faults.inject("none")
    assert (await console.ask("Z\n", 1.1)).endswith("Z\n*\n\n")
    assert not console.device.relay_closed


@virtual
async def test_a_mute_instrument_still_obeys() -> None:
    console = await _charging()
    console.faults.inject("mute")
    assert await console.ask("Z\n", 2.0) == ""
    assert not console.device.relay_closed


@virtual
async def test_an_overload_is_reported_with_every_reading() -> None:
    console = Console()
    console.faults.inject("overload 2 times")
    lines = [line for line in await console.script(OCP) if line.startswith("P")]
    assert [",12" in line for line in lines] == [True, True, False]


@virtual
async def test_an_instrument_that_refuses_still_aborts() -> None:
    console = await _charging()
    console.faults.inject("nak")
    assert (await console.ask("Z\n", 1.1)).endswith("Z\n*\n\n")
    assert await console.ask("i\n", 0.1) == "i!0001\n"
    assert await console.ask("e\ncell_off\n\n", 0.1) == "e!0001\n"
    console.faults.inject("none")
    assert await console.ask("e\ncell_off\n\n") == "e\n\n"


@virtual
async def test_another_serial_number_can_answer() -> None:
    console = Console()
    console.faults.inject("identity ES4HR99X0001")
    assert await console.ask("i\nG06\n") == "iES4HR99X0001\nGES4HR99X0001\n"
    console.faults.inject("none")
    assert await console.ask("i\n") == "iES4HR20B0008\n"


@virtual
async def test_leads_that_come_off_stop_the_current_and_overload_the_potential() -> None:
    console = await _charging()
    cell = console.cell
    console.faults.inject("unplug")
    assert cell.terminal(console.clock.now()).current == 0.0
    assert console.device.relay_closed, "the relay knows nothing of it"
    console.faults.inject("none")
    assert cell.terminal(console.clock.now()).current == pytest.approx(0.5e-3, rel=1e-3)
    console.faults.inject("unplug")
    await console.clock.sleep(1.0)
    said = console.heard()
    assert ",12" in said
    assert said.endswith("*\n\n"), "the script took the overloaded potential for its limit"
    assert not console.device.relay_closed


@virtual
async def test_a_galvanostat_ends_at_its_compliance() -> None:
    cell = RandlesCell(emf=3.7, resistance=1e6)
    console = Console(cell)
    lines = await console.script(
        "set_pgstat_mode 6\nset_range db 1m\ncell_on\nvar p\nvar c\nmeas_loop_cp p c 100u 1 2\n"
        "pck_start\npck_add p\npck_end\nendloop"
    )
    assert cell.terminal(console.clock.now()).voltage == pytest.approx(8.0)
    assert all(",12" in line for line in lines if line.startswith("P"))


@virtual
async def test_a_simulated_cell_is_charged_and_its_spectrum_measured() -> None:
    cell = SimulatedCell.from_preset("ncm811-caec", seed=0)
    console = Console(cell)
    lines = await console.script(CHARGE.replace("36000", "600").strip(), 700.0)
    points = packages(lines)
    assert len(points) == 600
    assert cell.charge_passed(console.clock.now()) == pytest.approx(0.3, rel=1e-3)
    assert points[-1]["ab"] > points[0]["ab"] > 2.5
    lines = await console.script(OCP.strip())
    rest = packages(lines)[-1]["ab"]
    millivolts = round(1000.0 * rest)
    lines = await console.script(
        f"set_pgstat_mode 3\nset_range ba 10m\nset_autoranging ba 100n 10m\nset_e {millivolts}m\n"
        "cell_on\nvar f\nvar r\nvar j\n"
        f"meas_loop_eis f r j 10m 100k 1 21i {millivolts}m\n"
        "pck_start\npck_add f\npck_add r\npck_add j\npck_end\nendloop\non_finished:\ncell_off",
        60.0,
    )
    spectrum = packages(lines)
    assert len(spectrum) == 21
    now = console.clock.now()
    for one in spectrum:
        expected = complex(impedance(cell, one["dc"], now))
        assert complex(one["cc"], one["cd"]) == pytest.approx(expected, rel=0.02)
