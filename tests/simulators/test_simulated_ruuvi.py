"""The simulated RuuviTag."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruuvi_decoders import Df5Decoder  # type: ignore[import-untyped]

from operando.instruments.ble import Advertisement, MemoryLink, Peripheral, attach_peripheral
from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, ReplyTimeoutError
from operando.instruments.wires import Switchboard
from operando.simulators.devices.gas_sensor import ZERO_CELSIUS
from operando.simulators.devices.ports import Site
from operando.simulators.devices.ruuvi import COMPANY, GRAVITY, SimulatedRuuviTag, frame
from operando.simulators.radio import FaultyPeripheral
from simulators.bench_of_one import virtual
from simulators.bluetooth_bench import air, bluetooth, sensor_in
from simulators.room_of_one import Box

MAC = "CB:B8:33:4C:88:4F"
VALID = bytes.fromhex("0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
STEADY: dict[str, object] = {"acceleration_noise": 0.0}


def tag_in(room: Box | None, **options: object) -> FaultyPeripheral:
    """A tag in virtual time, exact unless its options say otherwise."""
    tag = sensor_in(SimulatedRuuviTag, room, Clock("virtual"), {**STEADY, **options})
    tag.sensor.address = MAC
    return tag


async def heard(tag: Peripheral, count: int) -> list[Advertisement]:
    """The next advertisements that are heard of a tag."""
    clock = Clock("virtual")
    found: list[Advertisement] = []
    newest = tag.advertisement(clock.now())
    last = -math.inf if newest is None else newest.time
    while len(found) < count:
        await clock.sleep_until(tag.next_advertisement(clock.now()))
        newest = tag.advertisement(clock.now())
        if newest is not None and newest.time > last:
            last = newest.time
            found.append(newest)
    return found


async def payloads(tag: Peripheral, count: int = 1) -> list[bytes]:
    """Ruuvi's data in the next advertisements."""
    return [one.manufacturer_data[COMPANY] for one in await heard(tag, count)]


def missing(payload: bytes) -> list[bool]:
    """Whether temperature, humidity, pressure and acceleration are missing."""
    return [
        payload[1:3] == b"\x80\x00",
        payload[3:5] == b"\xff\xff",
        payload[5:7] == b"\xff\xff",
        payload[7:13] == b"\x80\x00" * 3,
    ]


# -- the frame


def test_the_documents_vectors_are_encoded_byte_for_byte() -> None:
    assert (
        frame(
            temperature=24.3 + ZERO_CELSIUS,
            humidity=0.5349,
            pressure=100_044.0,
            acceleration=(0.004 * GRAVITY, -0.004 * GRAVITY, 1.036 * GRAVITY),
            voltage=2.977,
            power=4.0,
            movements=66,
            sequence=205,
            address=MAC,
        )
        == VALID
    )
    for end, text in (
        (1.0, "057FFFFFFEFFFE7FFF7FFF7FFFFFDEFEFFFECBB8334C884F"),
        (-1.0, "058001000000008001800180010000000000CBB8334C884F"),
    ):
        most = 1e6 if end > 0.0 else -1e6
        assert (
            frame(
                temperature=most,
                humidity=most,
                pressure=most,
                acceleration=(most, most, most),
                voltage=most,
                power=most,
                movements=254 if end > 0.0 else 0,
                sequence=65534 if end > 0.0 else 0,
                address=MAC,
            )
            .hex()
            .upper()
            == text
        )
    nothing = frame(
        temperature=None,
        humidity=None,
        pressure=None,
        acceleration=None,
        voltage=None,
        power=None,
        movements=None,
        sequence=None,
        address="",
    )
    assert nothing.hex().upper() == "058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF"


@given(
    st.floats(-163.8, 163.8),
    st.floats(0.0, 1.0),
    st.floats(50_000.0, 115_534.0),
    st.tuples(*[st.floats(-32.7, 32.7)] * 3),
    st.floats(1.6, 3.646),
    st.integers(-20, 10),
    st.integers(0, 254),
    st.integers(0, 65534),
)
def test_a_public_decoder_reads_what_was_encoded(
    celsius: float,
    humidity: float,
    pascals: float,
    gravities: tuple[float, float, float],
    volts: float,
    half_power: int,
    movements: int,
    sequence: int,
) -> None:
    x, y, z = gravities
    data = frame(
        temperature=celsius + ZERO_CELSIUS,
        humidity=humidity,
        pressure=pascals,
        acceleration=(x * GRAVITY, y * GRAVITY, z * GRAVITY),
        voltage=volts,
        power=2.0 * half_power,
        movements=movements,
        sequence=sequence,
        address=MAC,
    )
    read = Df5Decoder().decode_data(data.hex())
    # Half a step of the frame, and half of the decoder's own rounding to two places.
    assert read["temperature"] == pytest.approx(celsius, abs=0.0025 + 0.005 + 1e-9)
    assert read["humidity"] == pytest.approx(100.0 * humidity, abs=0.00125 + 0.005 + 1e-9)
    assert read["pressure"] == pytest.approx(pascals / 100.0, abs=0.005 + 0.005 + 1e-9)
    for axis, true in zip("xyz", gravities, strict=True):
        assert read[f"acceleration_{axis}"] == pytest.approx(1e3 * true, abs=0.5 + 1e-6)
    assert read["battery"] == pytest.approx(1e3 * volts, abs=0.5 + 1e-6)
    assert read["tx_power"] == 2 * half_power
    assert read["movement_counter"] == movements
    assert read["measurement_sequence_number"] == sequence
    assert read["mac"] == MAC.replace(":", "").lower()


# -- the tag


@virtual
async def test_a_tag_sends_the_documents_frame_when_the_air_is_so() -> None:
    tag = tag_in(
        air(24.3, 0.5349, 100_044.0),
        acceleration_x=0.004 * GRAVITY,
        acceleration_y=-0.004 * GRAVITY,
        acceleration_z=1.036 * GRAVITY,
        battery=2.977,
        movements=66,
        sequence=205,
    )
    assert await payloads(tag) == [VALID]


@virtual
async def test_the_sequence_counts_measurements_and_skips_the_missing_number() -> None:
    numbers = [
        int.from_bytes(one[16:18], "big")
        for one in await payloads(tag_in(Box(), sequence=65532), 5)
    ]
    assert numbers == [65532, 65533, 65534, 0, 1]


@virtual
async def test_it_advertises_at_its_interval_with_the_radios_random_delay() -> None:
    times = [one.time for one in await heard(tag_in(Box(), advertising_interval=1.285), 200)]
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) >= 1.285 - 0.005
    assert max(gaps) <= 1.285 + 0.015
    assert max(gaps) - min(gaps) > 0.005
    assert (times[-1] - times[0]) / 199 == pytest.approx(1.29, abs=1e-3)


@virtual
async def test_a_share_of_the_advertisements_is_never_heard() -> None:
    found = await payloads(tag_in(Box(), loss=0.6), 200)
    first, last = (int.from_bytes(one[16:18], "big") for one in (found[0], found[-1]))
    assert 1.0 - 199 / (last - first) == pytest.approx(0.6, abs=0.08)


@virtual
async def test_what_is_heard_does_not_depend_on_how_often_one_listens() -> None:
    def noisy() -> FaultyPeripheral:
        return tag_in(Box(), temperature_noise=0.1, loss=0.3, rssi_noise=4.0, seed=3)

    often, seldom = noisy(), noisy()
    every = {one.time: one for one in await heard(often, 60)}
    clock = Clock("virtual")
    late = seldom.advertisement(clock.now())
    assert late is not None
    assert late == every[late.time]
    assert len({one.manufacturer_data[COMPANY][1:3] for one in every.values()}) > 10
    assert len({one.rssi for one in every.values()}) > 3


@virtual
async def test_temperature_follows_the_room_with_its_time_constant() -> None:
    box = Box()
    box.kelvin = 293.15
    tag = tag_in(box, temperature_response=60.0, advertising_interval=1.0)
    before = (await heard(tag, 2))[-1].time
    box.kelvin = 303.15
    later = await heard(tag, 60)
    shown = int.from_bytes(later[-1].manufacturer_data[COMPANY][1:3], "big") * 0.005
    passed = later[-1].time - before
    assert shown == pytest.approx(20.0 + 10.0 * (1.0 - math.exp(-passed / 60.0)), abs=0.12)


@virtual
async def test_offsets_drift_and_self_heating_shift_what_it_shows() -> None:
    async def shown(**options: object) -> tuple[float, float, float]:
        (data,) = await payloads(tag_in(air(20.0, 0.5, 1e5), **options))
        raw = [int.from_bytes(data[at : at + 2], "big") for at in (1, 3, 5)]
        return raw[0] * 0.005, raw[1] * 0.0025, raw[2] + 50_000.0

    plain = {"humidity_drift": 0.0, "pressure_drift": 0.0}
    assert await shown(**plain) == pytest.approx((20.0, 50.0, 1e5))
    assert await shown(
        **plain, temperature_offset=0.5, humidity_offset=-0.02, pressure_offset=200.0
    ) == pytest.approx((20.5, 48.0, 100_200.0))
    aged = await shown(age=2.0 * 365.25 * 86_400.0, humidity_drift=0.005, pressure_drift=-100.0)
    assert aged == pytest.approx((20.0, 51.0, 99_800.0), abs=0.01)
    warm, dry, _ = await shown(
        **plain, self_heating=1.0, warm_up_time=1.0, advertising_interval=10.0, seed=1
    )
    assert 20.5 < warm <= 21.0
    # The same vapour in warmer air: about 6 % of the humidity a kelvin.
    assert dry == pytest.approx(50.0 * (1.0 - 0.0604 * (warm - 20.0)), abs=0.2)


@virtual
async def test_humidity_is_shown_up_to_saturation() -> None:
    (data,) = await payloads(tag_in(air(20.0, 1.3, 1e5)))
    assert int.from_bytes(data[3:5], "big") * 0.0025 == 100.0


@virtual
async def test_faults_inside_are_shown_as_missing_values() -> None:
    tag = tag_in(Box())
    tag.inject("unplug")
    assert missing((await payloads(tag))[0]) == [True, True, True, False]
    tag.inject("overload once")
    first, second = await payloads(tag, 2)
    assert missing(first) == [True] * 4
    assert missing(second) == [False] * 4
    tag.inject("identity C0:00:00:00:00:07")
    assert (await payloads(tag))[0][18:] == bytes.fromhex("C00000000007")
    tag.inject("none")
    assert (await payloads(tag))[0][18:] == bytes.fromhex(MAC.replace(":", ""))


@pytest.mark.parametrize("fault", ["silence", "mute"])
@virtual
async def test_a_silent_tag_is_not_heard_until_it_speaks_again(fault: str) -> None:
    tag = tag_in(Box())
    await heard(tag, 2)
    tag.inject(f"{fault} 3 times")
    before = (await heard(tag, 1))[0].manufacturer_data[COMPANY][16:18]
    assert int.from_bytes(before, "big") == 5


@virtual
async def test_payloads_are_garbled_truncated_and_late_on_demand() -> None:
    tag = tag_in(Box())
    good = (await payloads(tag))[0]
    tag.inject("garbage once")
    garbled, healed = await payloads(tag, 2)
    assert len(garbled) == 24
    assert garbled[:8] != good[:8]
    assert healed[:8] == good[:8]
    tag.inject("truncated once")
    halved, whole = await payloads(tag, 2)
    assert (len(halved), len(whole)) == (12, 24)
    assert halved[:8] == good[:8]


@virtual
async def test_a_late_advertisement_comes_after_its_time() -> None:
    tag = tag_in(Box(), advertising_interval=10.0)
    await heard(tag, 1)
    tag.inject("late 3 s once")
    late, next_one = await heard(tag, 2)
    assert next_one.time - late.time == pytest.approx(10.0 - 3.0, abs=0.02)
    assert late.time <= Clock("virtual").now()


@virtual
async def test_a_tag_out_of_range_comes_back() -> None:
    tag = tag_in(Box())
    (last,) = await heard(tag, 1)
    tag.inject("drop 40 s")
    (next_one,) = await heard(tag, 1)
    assert 39.0 < next_one.time - last.time < 42.0


@virtual
async def test_a_reboot_begins_the_counters_anew() -> None:
    tag = tag_in(Box(), sequence=100, movements=9)
    await heard(tag, 5)
    tag.inject("reboot 10 s")
    now = Clock("virtual").now()
    (first,) = await heard(tag, 1)
    assert first.time >= now + 10.0
    data = first.manufacturer_data[COMPANY]
    assert (data[15], int.from_bytes(data[16:18], "big")) == (0, 0)


@virtual
async def test_an_empty_battery_ends_it() -> None:
    tag = tag_in(Box(), battery=2.0, battery_life=1000.0, brown_out=1.95)
    found = await heard(tag, 35)
    volts = [
        1.6 + (int.from_bytes(one.manufacturer_data[COMPANY][13:15], "big") >> 5) / 1e3
        for one in found
    ]
    assert volts[0] == pytest.approx(2.0, abs=2e-3)
    assert volts[-1] < 1.96
    await Clock("virtual").sleep(10.0)
    assert tag.next_advertisement(Clock("virtual").now()) == math.inf
    assert tag.advertisement(Clock("virtual").now()) is not None, "the last one was heard"


@virtual
async def test_it_cannot_be_connected_to() -> None:
    switchboard, tag = Switchboard(), tag_in(Box())
    attach_peripheral(switchboard, f"ble:{MAC}", tag)
    link = MemoryLink(switchboard, f"ble:{MAC}", Clock("virtual"))
    await link.listen()
    newest = await link.advertisement(-math.inf, 5.0)
    assert newest.manufacturer_data[COMPANY][0] == 5
    with pytest.raises(Exception, match="did not connect"):
        await link.connect(5.0)
    tag.inject("silence")
    with pytest.raises(ReplyTimeoutError):
        await link.advertisement(newest.time + 10.0, 5.0)
    await link.close()


@virtual
async def test_without_a_room_it_senses_laboratory_air() -> None:
    tag = tag_in(None)
    (data,) = await payloads(tag)
    assert int.from_bytes(data[1:3], "big") * 0.005 == pytest.approx(23.0, abs=0.01)
    assert 40.0 < int.from_bytes(data[3:5], "big") * 0.0025 < 50.0


@virtual
async def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(BadInputError, match="colour"):
        SimulatedRuuviTag("t", site=Site(), clock=Clock("virtual"), options={"colour": "red"})


# -- a public client, in a process of its own

CLIENT = """
import asyncio, json
from ruuvitag_sensor.ruuvi import RuuviTagSensor

async def main():
    found = []
    async for address, values in RuuviTagSensor.get_data_async():
        found.append((address, values))
        if len(found) == 4:
            break
    print(json.dumps(found))

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.sockets
def test_a_public_client_reads_the_tag_through_bleak_and_the_simulated_bluez(
    tmp_path: Path,
) -> None:
    (tmp_path / "client.py").write_text(CLIENT)

    async def scenario() -> list[tuple[str, dict[str, object]]]:
        clock = Clock("scaled", 10.0)
        tag = sensor_in(SimulatedRuuviTag, air(24.3, 0.5349, 100_044.0), clock, STEADY)
        tag.sensor.address = MAC
        async with bluetooth(tmp_path, clock, tag):
            client = await asyncio.create_subprocess_exec(
                sys.executable,
                "client.py",
                cwd=tmp_path,  # where it writes its log
                env={**os.environ, "RUUVI_BLE_ADAPTER": "bleak"},
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(60.0):
                    output, _ = await client.communicate()
            finally:
                if client.returncode is None:
                    client.kill()
                    await client.wait()
            answer: list[tuple[str, dict[str, object]]] = json.loads(output)
            return answer

    found = run(scenario())
    assert [address for address, _ in found] == [MAC] * 4
    for _, values in found:
        assert values["temperature"] == 24.3
        assert values["humidity"] == 53.49
        assert values["pressure"] == 1000.44
        assert values["battery"] == 3000
        assert values["mac"] == MAC.replace(":", "").lower()
        assert values["rssi"] == -65
    numbers = [int(str(values["measurement_sequence_number"])) for _, values in found]
    assert numbers == list(range(numbers[0], numbers[0] + 4)), "each was heard once"
