"""The dual-valve controller, line by line: who answers, readings, set-points, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest

from operando.drivers.alicat import AlicatDualValve, AlicatSettings
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    GarbledReplyError,
    NotVerifiedError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.parameters import parameters_from
from operando.instruments.roles import Expect, PressureController
from operando.instruments.samples import Status
from operando.instruments.wires import Switchboard
from wire.pneumatic_press import END, PSI, RATIO, SETTINGS, table
from wire.transcript import Transcript, in_virtual_time, transcript


def greet(peer: Transcript, **named: str) -> None:
    peer.answer("A??M*", table(**named))
    peer.answer("ALS", "A +000.00 +000.00 10 PSIG")


# ---------------------------------------------------------------- identity


@in_virtual_time
async def test_connecting_tells_who_answers_and_writes_nothing() -> None:
    async with transcript(AlicatDualValve, END) as (press, peer):
        greet(peer)
        identity = await press.connect()
    assert identity.maker == "ALICAT SCIENTIFIC"
    assert identity.model in AlicatDualValve.INFO.models
    assert identity.serial == "521641"
    assert identity.firmware == "10v20.0-R24"
    assert isinstance(press, PressureController)


@pytest.mark.parametrize(
    ("expect", "model", "message"),
    [
        (Expect(), "MC-500SCCM-D", "found MC-500SCCM-D"),
        (Expect(), "PC-100PSIG-D", "found PC-100PSIG-D"),
        (Expect(model="PCD-100PSIG-D"), "PCD-200PSIG-D", "expected model PCD-100PSIG-D"),
        (Expect(serial="99999999"), "PCD-200PSIG-D", "expected serial 99999999, found 521641"),
        (Expect(firmware="9v00"), "PCD-200PSIG-D", "expected firmware 9v00"),
    ],
)
@in_virtual_time
async def test_another_instrument_is_refused_with_a_remedy(
    expect: Expect, model: str, message: str
) -> None:
    async with transcript(AlicatDualValve, END, expect=expect) as (press, peer):
        peer.answer("A??M*", table(model))
        with pytest.raises(WrongInstrumentError, match=f"{message}.*Nothing was written"):
            await press.connect()


@in_virtual_time
async def test_a_controller_that_was_swapped_is_found_after_a_reconnection() -> None:
    async with transcript(AlicatDualValve, END) as (press, peer):
        greet(peer)
        await press.connect()
        for _ in range(2):
            peer.answer("A??M*", table(serial="77777777"))
        with pytest.raises(WrongInstrumentError, match="expected serial 521641"):
            await press.reconnect()
        with pytest.raises(WrongInstrumentError):
            await press.safe()


@pytest.mark.parametrize(
    ("settings", "label", "message"),
    [
        (AlicatSettings(unit="bar"), "PSIG", "expected the unit bar"),
        (AlicatSettings(), "PSIA", "expected gauge pressure"),
        (AlicatSettings(reference="absolute"), "BarG", "expected absolute pressure"),
        (AlicatSettings(), "PSID", "expected gauge pressure"),
        (AlicatSettings(), "SCCM", "no pressure"),
    ],
)
@in_virtual_time
async def test_a_unit_that_is_not_the_expected_one_is_refused(
    settings: AlicatSettings, label: str, message: str
) -> None:
    async with transcript(AlicatDualValve, END, settings=settings) as (press, peer):
        peer.answer("A??M*", table())
        peer.answer("ALS", f"A +000.00 +000.00 10 {label}")
        with pytest.raises(WrongInstrumentError, match=message):
            await press.connect()


@in_virtual_time
async def test_a_unit_that_changes_on_the_way_is_noticed_before_the_next_number() -> None:
    async with transcript(AlicatDualValve, END) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +0")
        with pytest.raises(GarbledReplyError):
            await press.measure()
        peer.answer("A??M*", table())
        peer.answer("ALS", "A +000.00 +000.00 7 BarG")
        with pytest.raises(WrongInstrumentError, match="changed from PSIG to BarG"):
            await press.measure()


@in_virtual_time
async def test_old_firmware_is_not_asked_what_it_takes_for_a_lock_of_its_buttons() -> None:
    async with transcript(AlicatDualValve, END) as (press, peer):
        peer.answer("A??M*", table(firmware="5v12.0-R22"))
        with pytest.raises(WrongInstrumentError, match=r"does not tell its unit.*settings\.unit"):
            await press.connect()


@in_virtual_time
async def test_old_firmware_takes_set_points_that_are_read_back_from_the_frame() -> None:
    settings = AlicatSettings(unit="psi", actuator_area=1e-3, piston_area=1e-4, stale_after=1e6)
    async with transcript(AlicatDualValve, END, settings=settings) as (press, peer):
        peer.answer("A??M*", table(firmware="8v17.0-R23"))
        await press.connect()
        peer.answer("A", "A +000.00 +000.00")
        peer.answer("ASR 30.0000 5", "A 30.0 10 5 PSIG/m")
        peer.answer("AS20.00", "A +000.00 +020.00")
        await press.hold(20.0 * PSI * RATIO, slew=0.500001 * PSI * RATIO, maximum=5e6)


@in_virtual_time
async def test_a_refused_table_is_a_refusal_and_not_a_time_out() -> None:
    async with transcript(AlicatDualValve, END) as (press, peer):
        peer.answer("A??M*", "?")
        with pytest.raises(ReportedError, match=r"A\?\?M\*"):
            await press.connect()


# ---------------------------------------------------------------- measuring


@pytest.mark.parametrize(
    ("settings", "label", "frame", "gas"),
    [
        (SETTINGS, "PSIG", "A +014.50 +014.50", 14.5 * PSI),
        (SETTINGS, "BarG", "A -000.02 0000.00", -2e3),
        (
            AlicatSettings(reference="absolute", actuator_area=1e-3, piston_area=1e-4),
            "kPaA",
            "A +201.325 +101.325 HLD LCK",
            100e3,
        ),
    ],
)
@in_virtual_time
async def test_the_stack_carries_the_gas_pressure_times_the_areas(
    settings: AlicatSettings, label: str, frame: str, gas: float
) -> None:
    async with transcript(AlicatDualValve, END, name="p1", settings=settings) as (press, peer):
        peer.answer("A??M*", table())
        peer.answer("ALS", f"A +000.00 +000.00 10 {label}")
        await press.connect()
        peer.answer("A", frame, delay=0.1)
        reading = await press.measure()
    assert (reading.source, reading.quantity) == ("p1", "pressure")
    assert reading.value == pytest.approx(RATIO * gas)
    assert reading.time == pytest.approx(0.05)
    assert reading.uncertainty == pytest.approx(0.05)
    assert reading.status is Status.OK


@pytest.mark.parametrize(
    ("codes", "status"), [("POV", Status.OVERLOAD), ("OPL", Status.OVERLOAD), ("ADC", Status.FAULT)]
)
@in_virtual_time
async def test_codes_behind_the_numbers_mark_the_reading(codes: str, status: Status) -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", f"A +014.50 +014.50 {codes}")
        reading = await press.measure()
    assert reading.status is status
    assert math.isnan(reading.value) == (status is Status.FAULT)


@pytest.mark.parametrize(
    "reply",
    [
        "B +014.50 +014.50",
        "A +014.50",
        "A +014.50 +014.50 XYZ",
        "A +014.50 +014.50 +014.50",
        "A +014.5O +014.50",
        "A +014.5 +014.50",
        "A +14.50\x00 +014.50",
        "A nan inf",
        "A",
        "",
    ],
)
@in_virtual_time
async def test_a_frame_of_another_form_is_garbage(reply: str) -> None:
    async with transcript(AlicatDualValve, END) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +000.00 +000.00")
        await press.measure()
        peer.answer("A", reply)
        with pytest.raises(GarbledReplyError, match="alicat-dual-valve at"):
            await press.measure()


@in_virtual_time
async def test_further_columns_are_named_in_the_settings() -> None:
    settings = AlicatSettings(columns="- pressure - setpoint", actuator_area=1e-4, piston_area=1e-4)
    async with transcript(AlicatDualValve, END, settings=settings) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +014.70 +001.00 +023.1 +000.00")
        assert (await press.measure()).value == pytest.approx(PSI)


# ---------------------------------------------------------------- lines of a ramp


@in_virtual_time
async def test_a_ramp_sets_the_slew_limit_before_the_set_point_and_leads_the_reading() -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +000.00 +000.00")
        peer.answer("ASR 2.0000 4", "A 2.0 10 4 PSIG/s")
        peer.answer("ALS 10.00", "A +000.00 +010.00 10 PSIG")
        await press.hold(30.0 * PSI * RATIO, slew=2.0 * PSI * RATIO * 1.00001, maximum=5e6)
        peer.answer("A", "A +002.00 +010.00")
        peer.answer("ALS 12.00", "A +002.00 +012.00 10 PSIG")
        await press.measure()
        peer.answer("A", "A +001.90 +012.00")  # what falls back does not pull it down
        await press.measure()
        peer.answer("A", "A +024.00 +012.00")
        peer.answer("ALS 30.00", "A +012.00 +030.00 10 PSIG")
        await press.measure()
        peer.answer("A", "A +030.00 +030.00")
        await press.measure()


@in_virtual_time
async def test_held_valves_are_freed_with_the_set_point_at_the_pressure() -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +020.00 +050.00 HLD")
        peer.answer("ALS 20.00", "A +050.00 +020.00 10 PSIG")
        peer.answer("ASR 0 4", "A 0.0 10 4 PSIG/s")
        peer.answer("ASR 2.0000 4", "A 2.0 10 4 PSIG/s")
        peer.answer("AC", "A +020.00 +020.00")
        peer.answer("A", "A +020.00 +020.00")
        peer.answer("ALS 9.99", "A +020.00 +009.99 10 PSIG")
        await press.hold(5.0 * PSI * RATIO, slew=2.0 * PSI * RATIO * 1.00001, maximum=5e6)


@in_virtual_time
async def test_a_set_point_that_seems_to_stand_already_is_written_nevertheless() -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +020.00 +020.00")  # perhaps on its way to somewhere else
        peer.answer("ASR 2.0000 4", "A 2.0 10 4 PSIG/s")
        peer.answer("ALS 20.00", "A +020.00 +020.00 10 PSIG")
        await press.hold(20.0 * PSI * RATIO, slew=2.0 * PSI * RATIO * 1.00001, maximum=5e6)


@in_virtual_time
async def test_nothing_is_ramped_by_a_converter_that_fails() -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +020.00 +020.00 ADC")
        with pytest.raises(UnsupportedError, match="converter"):
            await press.hold(1e6, slew=1e5, maximum=5e6)


@pytest.mark.parametrize("code", ["POV", "OPL"])
@in_virtual_time
async def test_a_ramp_goes_down_but_not_up_while_there_is_too_much_pressure(code: str) -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        for target, written in ((30.0, "20.00"), (5.0, "9.99")):
            peer.answer("A", f"A +020.00 +020.00 {code}")
            peer.answer("ASR 2.0000 4", "A 2.0 10 4 PSIG/s")
            peer.answer(f"ALS {written}", f"A +020.00 +{float(written):06.2f} 10 PSIG")
            slew = 2.0 * PSI * RATIO * 1.00001
            await press.hold(target * PSI * RATIO, slew=slew, maximum=5e6)


@in_virtual_time
async def test_a_set_point_that_is_not_taken_is_an_error_and_ends_the_ramp() -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +000.00 +000.00")
        peer.answer("ASR 2.0000 4", "A 2.0 10 4 PSIG/s")
        peer.answer("ALS 10.00", "A +000.00 +000.00 10 PSIG")
        with pytest.raises(NotVerifiedError, match="is its source serial"):
            await press.hold(30.0 * PSI * RATIO, slew=2.0 * PSI * RATIO * 1.00001, maximum=5e6)
        peer.answer("A", "A +000.00 +000.00")
        await press.measure()


@in_virtual_time
async def test_a_set_point_that_is_taken_in_another_unit_is_an_error() -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +000.00 +000.00")
        peer.answer("ASR 2.0000 4", "A 2.0 10 4 PSIG/s")
        peer.answer("ALS 10.00", "A +000.00 +010.00 7 BarG")
        with pytest.raises(NotVerifiedError, match="should give PSIG but gives BarG"):
            await press.hold(30.0 * PSI * RATIO, slew=2.0 * PSI * RATIO * 1.00001, maximum=5e6)


@pytest.mark.parametrize("reply", ["A 0.0 10 4 PSIG/s", "A 3.0 10 4 PSIG/s", "A 2.0 10 3 PSIG/ms"])
@in_virtual_time
async def test_a_slew_limit_that_is_lifted_or_faster_is_an_error(reply: str) -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +000.00 +000.00")
        peer.answer("ASR 2.0000 4", reply)
        with pytest.raises(NotVerifiedError, match="slew limit"):
            await press.hold(30.0 * PSI * RATIO, slew=2.0 * PSI * RATIO * 1.00001, maximum=5e6)


@pytest.mark.parametrize(
    ("pressure", "slew", "maximum"),
    [
        (6e6, 1e4, 5e6),
        (11e6, 1e4, 20e6),
        (-1.0, 1e4, 5e6),
        (math.nan, 1e4, 5e6),
        (1e6, 0.0, 5e6),
        (1e6, -1e4, 5e6),
        (1e6, 2e6, 5e6),
        (1e6, math.nan, 5e6),
        (1e6, 1e4, math.nan),
        (1e6, 1e-3, 5e6),
    ],
)
@in_virtual_time
async def test_what_the_run_the_force_or_the_slew_forbids_is_refused_and_nothing_is_sent(
    pressure: float, slew: float, maximum: float
) -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        with pytest.raises(UnsupportedError, match="Nothing was written"):
            await press.hold(pressure, slew=slew, maximum=maximum)


@in_virtual_time
async def test_a_stack_that_is_above_the_new_maximum_is_not_ramped_from_there() -> None:
    async with transcript(AlicatDualValve, END, settings=SETTINGS) as (press, peer):
        greet(peer)
        await press.connect()
        peer.answer("A", "A +100.00 +100.00")
        with pytest.raises(UnsupportedError, match="above the maximum"):
            await press.hold(1e6, slew=1e5, maximum=2e6)


# ---------------------------------------------------------------- settings and noise


def test_the_capabilities_say_what_stays_on_and_what_the_press_can_carry() -> None:
    clock = Clock("virtual")
    wire = Switchboard().wire("a", clock)
    capabilities = AlicatDualValve(wire, clock, settings=SETTINGS).capabilities
    assert capabilities.when_host_is_silent is WhenHostIsSilent.STAYS_ON
    assert "slew limit" in capabilities.on_board
    assert capabilities.pressure_ranges[0].full_scale == pytest.approx(10e6)
    small = AlicatSettings(actuator_area=1e-3, piston_area=1e-4, full_scale=1e5)
    ranges = AlicatDualValve(wire, clock, settings=small).capabilities.pressure_ranges
    assert ranges[0].full_scale == pytest.approx(1e6)


def test_settings_come_from_a_bench_file_with_units() -> None:
    written = {"actuator_area": "20 cm2", "lead": "0.1 MPa", "overshoot": "5 %", "unit": "bar"}
    settings = parameters_from(AlicatSettings, written, "bench.toml")
    numbers = (settings.actuator_area, settings.lead, settings.overshoot)
    assert numbers == pytest.approx((2e-3, 1e5, 0.05))
    assert settings.unit == "bar"


@pytest.mark.parametrize(
    "bad",
    [
        {"columns": "pressure"},
        {"columns": "pressure setpoint gas"},
        {"unit_id": "a"},
        {"actuator_area": 0.0},
        {"maximum_force": math.nan},
        {"overshoot": -0.1},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        AlicatSettings(**bad)
