"""The simulated dual-valve pressure controller: its lines, its valves, what it presses on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, ReplyTimeoutError
from operando.instruments.wires import Terminated
from operando.simulators.devices.alicat import PSI, SimulatedAlicatDualValve
from operando.simulators.devices.ports import Site
from operando.simulators.faults import FaultyPeer
from simulators.bench_of_one import Host, connect, virtual

AREA = 2e-3


class Press:
    """A frame that keeps the force it was given, N, and remembers when it changed."""

    area = 1e-4

    def __init__(self, newtons: float = 0.0) -> None:
        self.newtons = newtons
        self.history: list[tuple[float, float]] = []

    def force(self, now: float) -> float:
        return self.newtons

    def press(self, now: float, force: float) -> None:
        assert force >= 0.0
        assert not self.history or now >= self.history[-1][0], "time ran backwards"
        self.newtons = force
        self.history.append((now, force))


class Controller(NamedTuple):
    """A controller, the frame it presses on and a host."""

    host: Host
    device: SimulatedAlicatDualValve
    frame: Press
    faults: FaultyPeer

    async def pressure(self) -> float:
        """Pressure in the data frame."""
        return float((await self.host.ask("A")).split()[1])

    async def status(self) -> list[str]:
        """Status in the data frame."""
        return (await self.host.ask("A")).split()[3:]


async def controller(frame: Press | None = None, **options: object) -> Controller:
    """A controller without noise on an actuator of 20 cm2; in virtual time."""
    clock = Clock("virtual")
    frame = frame or Press()
    device = SimulatedAlicatDualValve(
        "pc1",
        site=Site(frame=frame),
        clock=clock,
        options={"noise": 0.0, "actuator_area": AREA, **options},
    )
    host, faults = await connect(device, clock, b"\r")
    return Controller(host, device, frame, faults)


@dataclass(frozen=True, slots=True)
class Rows(Terminated):
    """A reply of several lines."""

    count: int = 1

    def find_end(self, data: bytes | bytearray) -> int:
        ends = [at + 1 for at, byte in enumerate(data) if byte == 13]
        return ends[self.count - 1] if len(ends) >= self.count else 0


async def lines(host: Host, text: str, count: int) -> list[str]:
    """Send a line that is answered by several."""
    reply = await host.wire.exchange(text.encode() + b"\r", Rows(b"\r", count), 5.0)
    return reply.decode("latin-1").split("\r")


# -- lines


@pytest.mark.parametrize(
    ("request_text", "reply"),
    [
        ("A", "A +000.00 +000.00"),
        ("a", "A +000.00 +000.00"),
        ("*", "A +000.00 +000.00"),
        ("ALS", "A +000.00 +000.00 10 PSIG"),
        ("ALS 12.5", "A +012.50 +012.50 10 PSIG"),
        ("AS12.5", "A +000.00 +012.50"),
        ("AS 12.5", "A +000.00 +012.50"),
        ("A64000", "A +000.00 +150.00"),
        ("ALS 1 7", "A +014.50 +014.50 10 PSIG"),
        ("ALSS", "A S"),
        ("ALSS U", "A U"),
        ("ASR", "A 0.00 10 4 PSIG/s"),
        ("ASR 25 4", "A 25.00 10 4 PSIG/s"),
        ("ASR 60 5", "A 60.00 10 5 PSIG/m"),
        ("ALSRC", "A 1 1 1 1"),
        ("ALSRC 1 0 0 1", "A 1 0 0 1"),
        ("AHP", "A +000.00 +000.00 HLD"),
        ("AHC", "A +000.00 +000.00 HLD"),
        ("A$$H", "A +000.00 +000.00 HLD"),
        ("AE", "A +000.00 +000.00 EXH"),
        ("AC", "A +000.00 +000.00"),
        ("AL", "A +000.00 +000.00 LCK"),
        ("AVD", "A 000.00 000.00 000.00 000.00"),
        ("AVE", "A   10v20.0-R24 Jan  9 2025,15:04:07"),
        ("A??M4", "A  M04 Model Number PCD-150PSIG-D"),
        ("A??M5", "A  M05 Serial Number 301245"),
        ("ADCU 6", "A 10 PSIG"),
        ("ADCU 6 7", "A 7 barG"),
        ("AFPF 6", "A +150.00 10 PSIG"),
        ("ALV", "A 38"),
        ("AR122", "A   122 = 38"),
        ("A$$R21", "A   021 = 200"),
        ("ANCS", "A 50"),
        ("ADV 10 6 38", "+000.00 +000.00"),
        ("ADV 10 99", "--"),
        ("ADV 1", "?"),
        ("AXYZ", "?"),
        ("ALS 200", "?"),
        ("ALS -1", "?"),
        ("ASR 1", "?"),
        ("ASR -1 4", "?"),
        ("A65536", "?"),
        ("AW46=3", "?"),
        ("A@ 7", "?"),
    ],
)
def test_each_request_has_its_reply(request_text: str, reply: str) -> None:
    async def scenario() -> None:
        assert await (await controller()).host.ask(request_text) == reply

    run(scenario(), virtual=True)


def test_a_frame_seen_on_a_real_controller_is_made_the_same() -> None:
    """`A +01.104 +00.000 LCK`: a PCD-1000PSIA that shows bar, its buttons locked."""

    async def scenario() -> None:
        rig = await controller(
            full_scale=1000.0 * PSI, unit="bar", reference="absolute", sensor_offset=9075.0
        )
        await rig.host.ask("ALSS U")
        await rig.host.ask("AS0")
        await rig.host.clock.sleep(20.0)
        assert await rig.host.ask("AL") == "A +01.013 +00.000 LCK"

    run(scenario(), virtual=True)


@virtual
async def test_the_tables_have_the_captured_form() -> None:
    rig = await controller(unit="kPa")
    maker = await lines(rig.host, "A??M*", 10)
    assert [line[:6] for line in maker] == [f"A  M{at:02d}" for at in range(10)]
    assert maker[9] == "A  M09 Software Revision 10v20.0-R24"
    columns = await lines(rig.host, "A??D*", 10)
    head = "A D00 ID_ NAME______________________ TYPE_______ WIDTH NOTES___________________"
    assert columns[0] == head
    assert columns[2] == "A D02 006 Gauge Press                s decimal     7/1 004 02 kPaG"
    assert columns[3] == "A D03 038 Gauge Press Setpt          s decimal     7/1 004 02 kPaG"
    assert [line.split()[-1] for line in columns[4:]] == ["ADC", "OPL", "POV", "HLD", "EXH", "LCK"]


@virtual
async def test_another_unit_is_not_its_business_and_its_own_can_change() -> None:
    host = (await controller(unit_id="C")).host
    with pytest.raises(ReplyTimeoutError):
        await host.ask("A", timeout=1.0)
    assert await host.ask("C@ D") == "D +000.00 +000.00"
    assert await host.ask("D@=E") == "E +000.00 +000.00"
    with pytest.raises(ReplyTimeoutError):
        await host.ask("C", timeout=1.0)


@virtual
async def test_the_unit_id_must_be_the_first_character_after_a_return() -> None:
    host = (await controller()).host
    with pytest.raises(ReplyTimeoutError):
        await host.ask("\nA", timeout=1.0)
    assert await host.ask("A") == "A +000.00 +000.00"


@virtual
async def test_a_request_during_an_answer_is_lost() -> None:
    host = (await controller(baud=2400)).host
    await host.wire.send(b"AS10\rA\r", 1.0)
    await host.clock.sleep(1.0)
    assert await host.ask("ALS") == "A +010.00 +010.00 10 PSIG"
    with pytest.raises(ReplyTimeoutError):
        await lines(host, "AVE\rALS", 2)


@virtual
async def test_streaming_sends_frames_without_a_unit_until_it_is_stopped() -> None:
    host = (await controller()).host
    await host.tell("A@ @")
    before = host.clock.now()
    assert await lines(host, "", 10) == ["+000.00 +000.00"] * 10
    assert host.clock.now() - before == pytest.approx(0.5, abs=0.06)
    await host.tell("@@ B")
    await host.clock.sleep(1.0)
    assert await host.ask("B") == "B +000.00 +000.00"


@virtual
async def test_the_serial_line_takes_its_time() -> None:
    host = (await controller(baud=2400, response_time=0.1)).host
    before = host.clock.now()
    reply = await host.ask("A")
    characters = len("A\r") + 3.5 + len(reply) + 1
    assert host.clock.now() - before == pytest.approx(0.1 + 10.0 * characters / 2400.0)


@virtual
async def test_a_unit_changes_the_digits_and_not_the_pressure() -> None:
    rig = await controller()
    await rig.host.ask("ALS 14.5038")
    await rig.host.clock.sleep(10.0)
    assert await rig.host.ask("ADCU 6 2") == "A 2 PaG"
    assert await rig.host.ask("A") == "A +100000 +100000"
    assert await rig.host.ask("ADCU 6 5") == "A 5 MPaG"
    assert await rig.host.ask("A") == "A +00.100 +00.100"


# -- pressure and force


@virtual
async def test_the_pressure_goes_to_the_set_point_and_presses_on_the_frame() -> None:
    rig = await controller()
    await rig.host.ask("ALS 100")
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("A") == "A +100.00 +100.00"
    assert rig.frame.newtons == pytest.approx(100.0 * PSI * AREA, rel=1e-4)
    await rig.host.ask("ALS 0")
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("A") == "A +000.00 +000.00"
    assert rig.frame.newtons == pytest.approx(0.0, abs=0.03)


@virtual
async def test_the_frame_is_pressed_while_nobody_asks() -> None:
    rig = await controller(fill_rate=10.0 * PSI)
    await rig.host.ask("ALS 100")
    started = rig.host.clock.now()
    await rig.host.clock.sleep(5.0)
    assert rig.frame.newtons == pytest.approx(50.0 * PSI * AREA, rel=0.03)
    await rig.host.clock.sleep(30.0)
    assert rig.frame.newtons == pytest.approx(100.0 * PSI * AREA, rel=1e-4)
    times = [at for at, _ in rig.frame.history]
    assert max(b - a for a, b in pairwise(times)) < 0.25
    assert times[-1] < started + 15.0, "at rest it lets the frame alone"


@virtual
async def test_a_ramp_moves_the_set_point_at_its_rate() -> None:
    rig = await controller()
    await rig.host.ask("ASR 60 5")
    await rig.host.ask("ALS 30")
    await rig.host.clock.sleep(10.0)
    current, requested = (float(word) for word in (await rig.host.ask("ALS")).split()[1:3])
    assert current == pytest.approx(10.0, abs=0.1)
    assert requested == 30.0
    # A first-order loop follows a ramp one time constant (0.2 s) behind.
    assert await rig.pressure() == pytest.approx(current - 0.2, abs=0.05)
    await rig.host.clock.sleep(30.0)
    assert await rig.host.ask("A") == "A +030.00 +030.00"
    await rig.host.ask("ASR 0 4")
    await rig.host.ask("ALS 0")
    assert (await rig.host.ask("ALS")).startswith("A +000.00 +000.00")


@virtual
async def test_a_ramp_may_leave_the_way_down_alone() -> None:
    rig = await controller(initial_pressure=50.0 * PSI)
    await rig.host.ask("ASR 1 4")
    await rig.host.ask("ALSRC 1 0 0 1")
    assert await rig.host.ask("ALS 20") == "A +020.00 +020.00 10 PSIG"
    assert (await rig.host.ask("ALS 40")).startswith("A +020.0")


def test_the_trajectory_does_not_depend_on_polling() -> None:
    async def trace(polls: int) -> list[float]:
        rig = await controller(fill_rate=20.0 * PSI, exhaust_rate=5.0 * PSI)
        await rig.host.clock.sleep_until(1.0)
        found = []
        for point, until in (("ASR 0 4", 2.0), ("ALS 90", 4.0), ("ASR 30 4", 5.0), ("ALS 10", 9.0)):
            await rig.host.ask(point)
            start = rig.host.clock.now()
            for at in range(1, polls):
                await rig.host.clock.sleep_until(start + (until - 0.1 - start) * at / polls)
                await rig.host.ask("A")
            await rig.host.clock.sleep_until(until)
            found.append(rig.device.true_pressure(until))
        return found

    seldom, often = run(trace(1), virtual=True), run(trace(17), virtual=True)
    assert often == pytest.approx(seldom, abs=1e-6 * PSI)
    assert max(seldom) > 30.0 * PSI, "the trajectory must go somewhere"


@virtual
async def test_it_cannot_exceed_its_supply() -> None:
    rig = await controller(supply_pressure=60.0 * PSI)
    await rig.host.ask("ALS 100")
    await rig.host.clock.sleep(60.0)
    assert await rig.host.ask("A") == "A +060.00 +100.00"
    assert await rig.host.ask("AVD") == "A 100.00 000.00 000.00 000.00"


@virtual
async def test_a_hold_closes_both_valves_and_a_leak_then_shows() -> None:
    rig = await controller(initial_pressure=100.0 * PSI, leak_rate=1e-3)
    assert await rig.host.ask("AHP") == "A +100.00 +100.00 HLD"
    await rig.host.ask("ALS 50")
    await rig.host.clock.sleep(100.0)
    assert await rig.pressure() == pytest.approx(100.0 * 0.90484, abs=0.02)
    assert rig.frame.newtons == pytest.approx(0.9048 * 100.0 * PSI * AREA, rel=0.02)
    await rig.host.ask("AC")
    await rig.host.clock.sleep(10.0)
    assert await rig.host.ask("A") == "A +050.00 +050.00"


@virtual
async def test_exhaust_empties_it_whatever_the_set_point() -> None:
    rig = await controller(initial_pressure=100.0 * PSI)
    assert (await rig.host.ask("AE")).endswith("EXH")
    assert await rig.host.ask("AVD") == "A 000.00 100.00 000.00 000.00"
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("A") == "A +000.00 +100.00 EXH"
    assert rig.frame.newtons == pytest.approx(0.0, abs=0.03)
    await rig.host.ask("AC")
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("A") == "A +100.00 +100.00"


@virtual
async def test_at_the_start_it_holds_the_force_that_is_there() -> None:
    rig = await controller(Press(1000.0))
    assert await rig.host.ask("A") == f"A {1000.0 / AREA / PSI:+07.2f} {1000.0 / AREA / PSI:+07.2f}"
    await rig.host.clock.sleep(100.0)
    assert rig.frame.newtons == 1000.0
    assert rig.frame.history == []


def test_a_force_beyond_full_scale_is_refused_at_the_start() -> None:
    async def scenario() -> None:
        with pytest.raises(BadInputError, match="larger actuator_area"):
            await controller(Press(10_000.0))

    run(scenario(), virtual=True)


@virtual
async def test_the_sensor_is_what_is_regulated() -> None:
    rig = await controller(sensor_offset=2.0 * PSI)
    await rig.host.ask("ALS 50")
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("A") == "A +050.00 +050.00"
    assert rig.device.true_pressure(rig.host.clock.now()) == pytest.approx(48.0 * PSI, rel=1e-4)
    assert rig.frame.newtons == pytest.approx(48.0 * PSI * AREA, rel=1e-4)


@virtual
async def test_a_tare_with_pressure_on_makes_the_loop_add_it_again() -> None:
    rig = await controller(initial_pressure=20.0 * PSI)
    assert await rig.host.ask("AP") == "A +000.00 +020.00"
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("A") == "A +020.00 +020.00"
    assert rig.frame.newtons == pytest.approx(40.0 * PSI * AREA, rel=1e-3)


@virtual
async def test_an_absolute_controller_counts_from_vacuum() -> None:
    rig = await controller(reference="absolute")
    assert await rig.host.ask("ALV") == "A 34"
    await rig.host.ask("ALS 30")
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("ALS") == "A +030.00 +030.00 10 PSIA"
    gauge = 30.0 * PSI - 101_325.0
    assert rig.frame.newtons == pytest.approx(gauge * AREA, rel=1e-3)


@virtual
async def test_set_points_are_ignored_while_the_analogue_input_rules() -> None:
    rig = await controller()
    await rig.host.ask("ALSS A")
    assert await rig.host.ask("ALS 50") == "A +000.00 +000.00 10 PSIG"


@virtual
async def test_a_set_point_out_of_range_may_be_clipped_in_silence() -> None:
    rig = await controller(overrange_setpoint="clip")
    assert await rig.host.ask("ALS 500") == "A +153.60 +153.60 10 PSIG"


# -- faults


@virtual
async def test_an_overload_is_an_over_range_status() -> None:
    rig = await controller()
    rig.faults.inject("overload once")
    assert await rig.host.ask("A") == "A +165.00 +000.00 POV"
    assert await rig.status() == []


@virtual
async def test_refusals_and_a_swapped_instrument_show() -> None:
    rig = await controller()
    rig.faults.inject("nak once; identity 999999")
    assert await rig.host.ask("ALS 50") == "?"
    assert await rig.host.ask("ALS") == "A +000.00 +000.00 10 PSIG"
    assert await rig.host.ask("A??M5") == "A  M05 Serial Number 999999"
    rig.faults.inject("none")
    assert await rig.host.ask("A??M5") == "A  M05 Serial Number 301245"


@virtual
async def test_without_its_hose_it_can_only_empty() -> None:
    rig = await controller(initial_pressure=50.0 * PSI)
    rig.faults.inject("unplug")
    await rig.host.ask("ALS 80")
    await rig.host.clock.sleep(30.0)
    assert await rig.host.ask("A") == "A +050.00 +080.00"
    await rig.host.ask("ALS 20")
    await rig.host.clock.sleep(30.0)
    assert await rig.host.ask("A") == "A +020.00 +020.00"
    await rig.host.ask("ALS 80")
    rig.faults.inject("none")
    await rig.host.clock.sleep(30.0)
    assert await rig.host.ask("A") == "A +080.00 +080.00"


@virtual
async def test_losing_power_closes_the_valves_and_keeps_the_set_point() -> None:
    rig = await controller(initial_pressure=50.0 * PSI, leak_rate=1e-2)
    rig.faults.inject("reboot 30 s")
    with pytest.raises(ReplyTimeoutError):
        await rig.host.ask("A", timeout=1.0)
    await rig.host.clock.sleep(28.5)
    assert rig.frame.newtons < 0.85 * 50.0 * PSI * AREA
    await rig.host.clock.sleep(20.0)
    assert await rig.host.ask("A") == "A +050.00 +050.00"


@virtual
async def test_an_unsaved_set_point_is_zero_after_a_power_failure() -> None:
    rig = await controller(initial_pressure=50.0 * PSI)
    await rig.host.ask("ALSS U")
    rig.faults.inject("reboot 2 s")
    await rig.host.clock.sleep(30.0)
    assert await rig.host.ask("A") == "A +000.00 +000.00"


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_leave_it_alive(noise: list[bytes]) -> None:
    async def scenario() -> None:
        rig = await controller()
        for piece in noise:
            await rig.host.wire.send(piece + b"\r", 1.0)
            await rig.host.clock.sleep(1.0)
        await rig.host.tell(f"@@ {rig.device.unit_id}")
        await rig.host.clock.sleep(2.0)
        assert (await rig.host.ask(f"{rig.device.unit_id}VE")).startswith(rig.device.unit_id)

    run(scenario(), virtual=True)


COMMANDS = st.sampled_from(
    ["S", "LS ", "SR ", "LSRC ", "DCU ", "FPF ", "LV ", "DV ", "NCS ", "R", "W", "??M", "", "LSS "]
)


@given(COMMANDS, st.text(alphabet="0123456789.+-eE =ASU*", max_size=14))
def test_any_argument_is_answered_and_stays_within_reach(command: str, rest: str) -> None:
    async def scenario() -> None:
        rig = await controller()
        reply = await rig.host.ask(f"A{command}{rest}")
        assert reply
        await rig.host.clock.sleep(30.0)
        assert 0.0 <= rig.device.true_pressure(rig.host.clock.now()) <= 154.0 * PSI

    run(scenario(), virtual=True)
