"""One channel of a Maccor tester: who answers, set-points in direct mode, readings, procedures."""

from __future__ import annotations

import pytest

from operando.drivers.maccor import MaccorMacNet
from operando.drivers.maccor_direct import Drive, MaccorSettings, regulation_of
from operando.instruments.capabilities import WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    GarbledReplyError,
    LinkLostError,
    NotVerifiedError,
    ReplyTimeoutError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.parameters import parameters_from
from operando.instruments.roles import (
    Cycler,
    Expect,
    Galvanostatic,
    Identity,
    OpenCircuit,
    Potentiostat,
    Potentiostatic,
    Protection,
    SetPoint,
)
from operando.instruments.samples import Regulation, Status
from operando.instruments.wires import Switchboard
from wire.macnet_tester import ADDRESS, SPECIFICATION, Bench, Channel, MacNetTester, with_tester

WINDOW = Protection(voltage=(2.5, 4.25), current=5e-3)
CHARGE = Galvanostatic(current=1.5e-3, cutoff=4.25)
DISCHARGE = Galvanostatic(current=-1e-4, cutoff=2.5)
START_DIRECT, SET_DIRECT, SUSPEND, RESET, SAFETY = (6, 7), (6, 8), (6, 3), (6, 5), (6, 10)


def fourth(bench: Bench) -> Channel:
    """The channel that the drivers of these tests use."""
    return bench.tester.channels[3]


async def prepared(bench: Bench, settings: MaccorSettings | None = None) -> MaccorMacNet:
    cycler = bench.driver(settings=settings)
    await cycler.connect()
    await cycler.prepare(WINDOW)
    return cycler


# ---------------------------------------------------------------- identity


def test_connecting_tells_who_answers_and_writes_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        assert isinstance(cycler, Potentiostat)
        assert isinstance(cycler, Cycler)
        assert cycler.capabilities.voltage is None
        found = await cycler.connect()
        assert found == Identity("MACCOR", "system type 0", "Win10", "3.2.18")
        assert found.model in cycler.INFO.models
        capabilities = cycler.capabilities
        assert capabilities.voltage == (0.0, 10.0)
        assert capabilities.current == (-5.0, 5.0)
        assert [one.full_scale for one in capabilities.current_ranges][1] == 0.005

    tester = with_tester(scenario)
    assert tester.sent == [(1, 2, -1), (1, 1, -1), (3, 1, 3)]
    assert tester.disconnections == 1


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        (Expect(serial="Other"), "expected serial Other, found Win10"),
        (Expect(model="system type 5"), "expected model system type 5, found system type 0"),
        (Expect(firmware="9.9.9"), "expected firmware 9.9.9, found 3.2.18"),
    ],
)
def test_another_tester_than_expected_is_refused(expect: Expect, message: str) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(WrongInstrumentError, match=message):
            await bench.driver(expect=expect).connect()

    tester = with_tester(scenario)
    assert tester.writes() == []
    assert tester.disconnections == 1


def test_a_channel_that_the_tester_has_not_is_refused() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(WrongInstrumentError, match="has 12 channels"):
            await bench.driver(13).connect()
        await bench.driver(12).connect()

    with_tester(scenario)


@pytest.mark.parametrize("behind", ["", "#", "#0", "#A", "#-1", "#1-2", "#99999", "#٣"])
def test_an_address_without_a_channel_is_refused(behind: str) -> None:
    wire = Switchboard().wire(ADDRESS + behind, Clock("virtual"))
    with pytest.raises(BadInputError, match="names no channel"):
        MaccorMacNet(wire, Clock("virtual"))


def test_a_driver_that_is_not_connected_says_so() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        with pytest.raises(LinkLostError, match=r"maccor-macnet at .*#4: is not connected"):
            await cycler.measure()
        with pytest.raises(UnsupportedError, match="before connect"):
            await cycler.prepare(WINDOW)
        cycler.check(Galvanostatic(1e6, 4.2))  # too much for any, but it has not said for which

    assert with_tester(scenario).sent == []


# ---------------------------------------------------------------- preparing


def test_preparing_sets_the_testers_own_safety_around_the_window_with_the_channel_idle() -> None:
    async def scenario(bench: Bench) -> None:
        await prepared(bench)
        assert not fourth(bench).relay

    assert with_tester(scenario).writes() == [SAFETY]


def test_a_safety_limit_that_reads_back_otherwise_is_noticed() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        wrong = {"VSafeMax": 9.0, "VSafeMin": 2.4, "ISafeChg": 5.5e-3, "ISafeDis": 5.5e-3}
        bench.tester.instead(SAFETY, wrong | {"PBatSafeChg": 50, "PBatSafeDis": 50})
        with pytest.raises(NotVerifiedError, match=r"VSafeMax should be 4\.35 but reads back 9"):
            await cycler.prepare(WINDOW)
        with pytest.raises(UnsupportedError, match="prepare"):
            await cycler.apply(CHARGE)

    with_tester(scenario)


def test_a_safety_limit_in_single_precision_is_the_one_that_was_set() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        rounded = {"VSafeMax": 4.34999990463257, "VSafeMin": 2.40000009536743}
        current = 0.00549999997019768
        rounded |= {"ISafeChg": current, "ISafeDis": current, "PBatSafeChg": 50, "PBatSafeDis": 50}
        bench.tester.instead(SAFETY, rounded)
        await cycler.prepare(WINDOW)

    with_tester(scenario)


@pytest.mark.parametrize("state", [2, 3, 5, 14])
def test_a_channel_with_somebody_elses_test_is_left_alone(state: int) -> None:
    async def scenario(bench: Bench) -> None:
        fourth(bench).name = "Anna 2026-03"
        fourth(bench).enter(4, 0, state, "another's")
        cycler = bench.driver()
        await cycler.connect()
        with pytest.raises(UnsupportedError, match="not ours"):
            await cycler.prepare(WINDOW)

    assert with_tester(scenario).writes() == []


def test_a_completed_test_is_taken_away_whosever_it_was() -> None:
    async def scenario(bench: Bench) -> None:
        fourth(bench).name = "Anna 2026-03"
        fourth(bench).enter(31, 193, 4, "completed")
        await prepared(bench)

    assert with_tester(scenario).writes() == [RESET, SAFETY]


def test_what_an_earlier_process_left_running_is_ended_by_preparing() -> None:
    async def scenario(bench: Bench) -> None:
        dead = await prepared(bench)
        await dead.apply(CHARGE)
        await dead.close()
        assert fourth(bench).relay
        heir = bench.driver()
        await heir.connect()
        assert await heir.output_is_on()
        assert (await heir.measure()).regulation is Regulation.UNKNOWN
        await heir.prepare(WINDOW)
        assert not await heir.output_is_on()
        assert fourth(bench).history[-2:] == ["suspended", "reset"]

    with_tester(scenario)


def test_a_tester_without_direct_mode_is_refused_before_a_run() -> None:
    tester = MacNetTester()
    tester.system_type = 1

    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        with pytest.raises(UnsupportedError, match="system type 1 has no direct mode"):
            await cycler.prepare(WINDOW)

    assert with_tester(scenario, tester).writes() == []


@pytest.mark.parametrize(
    "window",
    [
        Protection(voltage=(-1.0, 4.2), current=5e-3),
        Protection(voltage=(2.5, 11.0), current=5e-3),
        Protection(voltage=(2.5, 4.2), current=6.0),
        Protection(voltage=(2.5, float("nan")), current=5e-3),
    ],
)
def test_a_window_beyond_the_channel_is_refused(window: Protection) -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        with pytest.raises(UnsupportedError, match="beyond its 0 to 10 V and 5 A"):
            await cycler.prepare(window)

    assert with_tester(scenario).writes() == []


# ---------------------------------------------------------------- set-points


@pytest.mark.parametrize(
    ("setpoint", "reason"),
    [
        (Galvanostatic(1e3, 4.2), "1000 A is beyond its 5 A"),
        (Galvanostatic(-1e3, 3.0), "1000 A is beyond its 5 A"),
        (Galvanostatic(1e-3, 1e4), "10000 V is beyond its 0 to 10 V"),
        (Galvanostatic(1e-3, float("nan")), "nan V is beyond"),
        (Galvanostatic(float("nan"), 4.2), "nan A is beyond"),
        (Galvanostatic(1e-9, 4.2), "too little"),
        (Galvanostatic(1e-3, 4.3), "outside what the run was prepared for"),
        (Galvanostatic(6e-3, 4.2), "outside what the run was prepared for"),
        (Potentiostatic(1e4, 1e-3), "10000 V is beyond"),
        (Potentiostatic(4.2, 9.0), "9 A is beyond its 5 A"),
        (OpenCircuit(1e4), "voltage limit of 10000 V"),
        (OpenCircuit(0.0), "voltage limit of 0 V"),
    ],
)
def test_what_the_channel_cannot_do_is_refused_and_nothing_is_written(
    setpoint: SetPoint, reason: str
) -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        count = len(bench.tester.sent)
        with pytest.raises(UnsupportedError, match=reason):
            cycler.check(setpoint)
        with pytest.raises(UnsupportedError, match=reason):
            await cycler.apply(setpoint)
        assert len(bench.tester.sent) == count

    with_tester(scenario)


def test_power_beyond_the_battery_power_of_the_channel_is_refused() -> None:
    async def scenario(bench: Bench) -> None:
        bench.tester.instead((3, 1), SPECIFICATION | {"PBatSafeChg": 20})
        cycler = bench.driver()
        await cycler.connect()
        with pytest.raises(UnsupportedError, match="10 V with 5 A is beyond its 20 W"):
            cycler.check(Galvanostatic(5.0, 10.0))
        cycler.check(Galvanostatic(-5.0, 10.0))

    with_tester(scenario)


def test_a_charge_is_a_direct_mode_with_the_cut_off_on_board() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        await cycler.apply(CHARGE)
        drive = fourth(bench).drive
        assert (drive["ChMode"], drive["Current"], drive["Voltage"]) == ("C", 1.5e-3, 4.25)
        assert (drive["CurrentRange"], drive["Resistance"], drive["DataTime"]) == (2, 0, 10.0)
        assert drive["Power"] > 50.0
        assert len(drive["TestName"]) <= 25
        reading = await cycler.measure()
        assert reading.current == 1.5e-3
        assert reading.voltage == pytest.approx(3.715)
        assert reading.regulation is Regulation.CURRENT
        assert reading.status is Status.OK

    assert with_tester(scenario).writes() == [SAFETY, START_DIRECT]


@pytest.mark.parametrize("signs", [True, False])
def test_a_discharge_reads_negative_whether_its_sign_is_sent_or_not(signs: bool) -> None:
    async def scenario(bench: Bench) -> None:
        bench.tester.signs = signs
        cycler = await prepared(bench)
        await cycler.apply(DISCHARGE)
        reading = await cycler.measure()
        assert reading.current == -1e-4
        assert fourth(bench).drive["CurrentRange"] == 1
        assert reading.regulation is Regulation.CURRENT

    with_tester(scenario)


def test_a_change_between_charge_and_discharge_leaves_no_gap_and_keeps_the_pace() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        await cycler.apply(CHARGE)
        for setpoint in (DISCHARGE, CHARGE, DISCHARGE):
            await cycler.apply(setpoint)
            assert (await cycler.measure()).current == setpoint.current
        assert set(fourth(bench).history) == {"active"}

    assert with_tester(scenario).writes() == [SAFETY, START_DIRECT, *[SET_DIRECT] * 3]


def test_a_rest_suspends_the_channel_and_reads_its_voltage() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        await cycler.apply(OpenCircuit(4.75))
        await cycler.apply(CHARGE)
        await cycler.apply(OpenCircuit(4.75))
        assert fourth(bench).state == 3
        reading = await cycler.measure()
        assert (reading.voltage, reading.current) == (3.7, 0.0)
        assert reading.regulation is Regulation.OPEN
        assert reading.status is Status.OK
        await cycler.apply(CHARGE)
        assert fourth(bench).relay

    writes = with_tester(scenario).writes()
    assert writes == [SAFETY, START_DIRECT, SUSPEND, RESET, START_DIRECT]


def test_two_tests_never_have_one_name() -> None:
    names = []

    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        for _ in range(3):
            await cycler.apply(CHARGE)
            names.append(fourth(bench).name)
            await cycler.apply(OpenCircuit(4.75))

    with_tester(scenario)
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("rest", "level", "mode"), [(3.7, 4.0, "C"), (3.7, 3.5, "D"), (4.0, 4.0, "C")]
)
def test_a_held_voltage_takes_its_direction_from_the_cell(
    rest: float, level: float, mode: str
) -> None:
    async def scenario(bench: Bench) -> None:
        fourth(bench).rest_voltage = rest
        cycler = await prepared(bench)
        await cycler.apply(Potentiostatic(level, 1e-3))
        assert fourth(bench).drive["ChMode"] == mode

    with_tester(scenario)


def test_a_voltage_held_behind_a_charge_or_discharge_to_it_keeps_its_direction() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        for current, level, mode in ((1e-3, 4.0, "C"), (-1e-3, 3.0, "D")):
            await cycler.apply(Galvanostatic(current, level))
            # The cell stands where the step ended, on the wrong side by the noise of a reading.
            fourth(bench).rest_voltage = level + (1e-3 if mode == "C" else -1e-3)
            await cycler.apply(Potentiostatic(level, 1e-3))
            assert fourth(bench).drive["ChMode"] == mode

    with_tester(scenario)


def test_at_the_cut_off_the_channel_holds_the_voltage() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        await cycler.apply(Galvanostatic(1e-3, 4.0))
        fourth(bench).rest_voltage = 3.995
        reading = await cycler.measure()
        assert reading.current == pytest.approx(5e-4)
        assert reading.regulation is Regulation.VOLTAGE

    with_tester(scenario)


@pytest.mark.parametrize(
    ("voltage", "current", "regulation"),
    [
        (3.9, 1e-3, Regulation.CURRENT),
        (4.0, 0.996e-3, Regulation.CURRENT),
        (4.0, 0.95e-3, Regulation.VOLTAGE),
        (4.0, 0.0, Regulation.VOLTAGE),
        (3.9, 0.5e-3, Regulation.UNKNOWN),
    ],
)
def test_what_limits_a_direct_mode_is_told_from_its_reading(
    voltage: float, current: float, regulation: Regulation
) -> None:
    assert regulation_of(Drive(1e-3, 4.0, 1, 5e-3), voltage, current) is regulation


def test_a_slow_start_is_waited_for() -> None:
    async def scenario(bench: Bench) -> None:
        bench.tester.start_delay = 1.5
        cycler = await prepared(bench)
        await cycler.apply(CHARGE)
        assert fourth(bench).relay

    with_tester(scenario)


def test_a_start_that_never_comes_about_is_not_taken_for_one() -> None:
    async def scenario(bench: Bench) -> None:
        bench.tester.start_delay = 1e3
        cycler = await prepared(bench)
        with pytest.raises(NotVerifiedError, match="should be charging but is starting"):
            await cycler.apply(CHARGE)

    with_tester(scenario)


def test_a_charge_that_the_channel_carries_out_as_a_discharge_is_noticed() -> None:
    class Crossed(MacNetTester):
        def run(self, channel: Channel) -> None:
            """Close the relay the wrong way."""
            channel.enter(2, 0, 2, "active")

    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        with pytest.raises(NotVerifiedError, match="should be charging but is active"):
            await cycler.apply(CHARGE)

    with_tester(scenario, Crossed())


@pytest.mark.parametrize("words", ["Command sent too fast", "Direct mode is not ready yet"])
def test_a_change_that_the_tester_put_off_is_sent_again(words: str) -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        await cycler.apply(CHARGE)
        bench.tester.instead(SET_DIRECT, {"Result": words}, {"Result": words}, None)
        await cycler.apply(DISCHARGE)
        assert fourth(bench).drive["ChMode"] == "D"

    assert with_tester(scenario).writes().count(SET_DIRECT) == 3


@pytest.mark.parametrize("function", [START_DIRECT, SET_DIRECT])
def test_a_refusal_carries_number_and_words_and_is_not_repeated(function: tuple[int, int]) -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        if function == SET_DIRECT:
            await cycler.apply(DISCHARGE)
        bench.tester.instead(function, {"Result": "Illegal system type"})
        with pytest.raises(ReportedError, match=r"at .*#4: reports 1: Illegal system") as caught:
            await cycler.apply(CHARGE)
        assert caught.value.code == 1

    assert with_tester(scenario).writes().count(function) == 1


def test_an_error_of_json_rpc_reaches_the_caller() -> None:
    error = b'{"jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params"},"id":null}\r\n'

    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        bench.tester.instead((4, 7), error)
        with pytest.raises(ReportedError, match="Invalid params") as caught:
            await cycler.measure()
        assert caught.value.code == -32602

    with_tester(scenario)


def test_a_command_without_an_answer_is_not_sent_again() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        bench.tester.instead(START_DIRECT, b"")
        with pytest.raises(ReplyTimeoutError):
            await cycler.apply(CHARGE)

    assert with_tester(scenario).writes() == [SAFETY, START_DIRECT]


@pytest.mark.parametrize(
    "reply", [b"\xff\xfe\r\n", b"{}\r\n", b'{"jsonrpc":"2.0","result":{},"id":1}\r\n', b"\r\n"]
)
def test_a_garbled_reading_is_refused_and_the_next_one_is_good(reply: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        cycler = await prepared(bench)
        bench.tester.instead((4, 7), reply)
        with pytest.raises(GarbledReplyError, match=r"at .*#4: answered function 4,7"):
            await cycler.measure()
        before = len(bench.tester.sent)
        assert (await cycler.measure()).voltage == 3.7
        assert bench.tester.functions()[before:] == [(1, 2), (4, 7)]

    with_tester(scenario)


# ---------------------------------------------------------------- procedures


def test_a_procedure_that_exists_is_started_and_stopped() -> None:
    async def scenario(bench: Bench) -> None:
        bench.tester.instead((6, 11), {"Result": "OK"})
        cycler = bench.driver()
        await cycler.connect()
        await cycler.load("Formation")
        assert bench.tester.writes() == []
        await cycler.start()
        assert fourth(bench).relay
        assert await cycler.output_is_on()
        assert (await cycler.measure()).regulation is Regulation.UNKNOWN
        await cycler.stop()
        assert not fourth(bench).relay
        assert (await cycler.measure()).status is Status.OK

    assert with_tester(scenario).writes() == [(6, 2), SUSPEND]


def test_a_procedure_that_does_not_exist_is_refused() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        with pytest.raises(UnsupportedError, match="no procedure 'Fromation'"):
            await cycler.load("Fromation")
        with pytest.raises(UnsupportedError, match="no procedure is chosen"):
            await cycler.start()
        bench.tester.instead((1, 3), {"ProcedurExists": "PERHAPS"})
        with pytest.raises(GarbledReplyError, match="PERHAPS"):
            await cycler.load("Formation")

    assert with_tester(scenario).writes() == []


def test_a_procedure_that_does_not_compile_is_not_started() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        await cycler.load("Formation")
        bench.tester.instead((6, 11), {"Result": "Compile error in step 3"})
        with pytest.raises(ReportedError, match="Compile error in step 3") as caught:
            await cycler.start()
        assert caught.value.code == 7

    assert with_tester(scenario).writes() == []


def test_counters_and_auxiliary_inputs_are_read_in_si_units() -> None:
    async def scenario(bench: Bench) -> None:
        cycler = bench.driver()
        await cycler.connect()
        status = await cycler.status()
        assert (status.charge, status.energy, status.step_time) == (3.6, 14.4, 10.0)
        assert status.state == "available"
        assert await cycler.auxiliary() == ((24.75, "C"), (0.5, "V"))

    with_tester(scenario)


# ---------------------------------------------------------------- settings


def test_settings_are_read_with_units_and_say_what_happens_when_the_host_falls_silent() -> None:
    table = {"watchdog": "10 s", "renewal": "1 s", "safety_margin": "50 mV"}
    settings = parameters_from(MaccorSettings, table, "settings")
    assert (settings.watchdog, settings.safety_margin) == (10.0, 0.05)
    wire, clock = Switchboard().wire(f"{ADDRESS}#1", Clock("virtual")), Clock("virtual")
    silent = MaccorMacNet(wire, clock, settings=settings).capabilities.when_host_is_silent
    assert silent is WhenHostIsSilent.SWITCHES_OFF
    assert MaccorMacNet(wire, clock).capabilities.when_host_is_silent is WhenHostIsSilent.STAYS_ON


@pytest.mark.parametrize("settings", [{"watchdog": 3.0}, {"renewal": 0.1}, {"safety_margin": -0.1}])
def test_settings_that_would_lose_the_channel_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(BadInputError):
        MaccorSettings(**settings)
