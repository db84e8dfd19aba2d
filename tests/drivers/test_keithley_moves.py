"""A held voltage of a source meter is moved with its relay closed all the time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from drivers.potentiostat_bench import Scenario, TrueBench, on_bench, relay_history
from operando.instruments.errors import InstrumentError, NotVerifiedError, UnsupportedError
from operando.instruments.roles import Galvanostatic, OpenCircuit, Potentiostatic, Protection
from operando.instruments.samples import Regulation, Status
from operando.instruments.techniques import Leveller, Spectroscope, Sweeper

WINDOW = Protection((2.5, 4.25), 5e-3)
SOCKET = "TCPIP::127.0.0.1::15025::SOCKET"
METERS = {
    "keithley-2450": SOCKET,
    "keithley-2461": SOCKET,
    "keithley-2400": "serial:ports/it",
}


def bench(folder: Path, driver: str, scenario: Scenario) -> None:
    async def prepared(bench: TrueBench) -> None:
        await bench.instrument.prepare(WINDOW)
        await scenario(bench)

    on_bench(folder, prepared, driver=driver, address=METERS[driver])


def at_cell(bench: TrueBench) -> float:
    """The true voltage at the cell, V."""
    return float(bench.cell.terminal(bench.now).voltage)


@pytest.mark.parametrize("driver", METERS)
def test_a_staircase_of_moves_never_opens_the_relay(tmp_path: Path, driver: str) -> None:
    async def scenario(bench: TrueBench) -> None:
        meter = bench.instrument
        assert isinstance(bench.instrument, Leveller)
        assert not isinstance(bench.instrument, Sweeper | Spectroscope)
        rest = at_cell(bench)
        assert 2.5 < rest < 4.0
        await meter.apply(Potentiostatic(rest, 5e-3))

        async def staircase() -> None:
            for step in (*range(1, 6), *range(5, -4, -1)):
                level = rest + step * 5e-3
                await meter.move(level)
                reading = await meter.measure()
                assert reading.status is Status.OK
                if reading.regulation is Regulation.VOLTAGE:
                    assert reading.voltage == pytest.approx(level, abs=2e-3)
                    assert at_cell(bench) == pytest.approx(level, abs=2e-3)
                await bench.clock.sleep(0.2)

        seen = await relay_history(bench, staircase(), 2e-3)
        assert len(seen) > 1500
        assert all(seen), "the relay was open for a moment"
        assert at_cell(bench) == pytest.approx(rest - 15e-3, abs=3e-3)

    bench(tmp_path, driver, scenario)


@pytest.mark.parametrize("driver", METERS)
def test_the_current_limit_stays_as_it_is(tmp_path: Path, driver: str) -> None:
    async def scenario(bench: TrueBench) -> None:
        rest = at_cell(bench)
        await bench.instrument.apply(Potentiostatic(rest, 1e-3))
        await bench.instrument.move(4.2)
        reading = await bench.instrument.measure()
        assert reading.regulation is Regulation.CURRENT
        assert reading.current == pytest.approx(1e-3, rel=5e-3)

    bench(tmp_path, driver, scenario)


@pytest.mark.parametrize("driver", METERS)
@pytest.mark.parametrize("voltage", [4.26, 2.4, 1e3, float("nan")])
def test_a_move_outside_of_what_was_prepared_is_refused_and_nothing_moves(
    tmp_path: Path, driver: str, voltage: float
) -> None:
    async def scenario(bench: TrueBench) -> None:
        rest = at_cell(bench)
        await bench.instrument.apply(Potentiostatic(rest, 5e-3))
        with pytest.raises(UnsupportedError):
            await bench.instrument.move(voltage)
        assert bench.relay
        assert at_cell(bench) == pytest.approx(rest, abs=2e-3)
        await bench.instrument.move(rest + 5e-3)

    bench(tmp_path, driver, scenario)


@pytest.mark.parametrize("driver", METERS)
@pytest.mark.parametrize("what", ["nothing", "current", "rest", "safe", "reconnect"])
def test_without_a_held_voltage_there_is_nothing_to_move(
    tmp_path: Path, driver: str, what: str
) -> None:
    async def scenario(bench: TrueBench) -> None:
        meter = bench.instrument
        if what != "nothing":
            await meter.apply(Potentiostatic(at_cell(bench), 5e-3))
        if what == "current":
            await meter.apply(Galvanostatic(1e-3, 4.2))
        elif what == "rest":
            await meter.apply(OpenCircuit(4.75))
        elif what == "safe":
            await meter.safe()
        elif what == "reconnect":
            await meter.reconnect()
        before = bench.relay
        with pytest.raises(UnsupportedError, match="apply a Potentiostatic first"):
            await meter.move(3.0)
        assert bench.relay is before

    bench(tmp_path, driver, scenario)


@pytest.mark.parametrize("driver", METERS)
def test_a_move_of_an_output_that_went_off_is_not_believed(tmp_path: Path, driver: str) -> None:
    async def scenario(bench: TrueBench) -> None:
        meter = bench.instrument
        await meter.apply(Potentiostatic(at_cell(bench), 5e-3))
        await meter._tell(":OUTP OFF")  # as by the button of the front panel
        with pytest.raises(NotVerifiedError, match="OUTP"):
            await meter.move(3.0)
        assert not bench.relay

    bench(tmp_path, driver, scenario)


@pytest.mark.parametrize("driver", METERS)
@pytest.mark.parametrize("after", [0.0, 1e-3, 5e-3, 20e-3, 60e-3])
def test_safe_opens_the_relay_while_a_voltage_is_moved(
    tmp_path: Path, driver: str, after: float
) -> None:
    async def scenario(bench: TrueBench) -> None:
        meter = bench.instrument
        rest = at_cell(bench)
        await meter.apply(Potentiostatic(rest, 5e-3))
        moving = asyncio.create_task(meter.move(rest + 5e-3))
        await bench.clock.sleep(after)
        done = moving.done()
        await meter.safe()
        assert not bench.relay
        if done:
            await moving
        else:
            with pytest.raises(InstrumentError):
                await moving
        await bench.clock.sleep(1.0)
        assert not bench.relay

    bench(tmp_path, driver, scenario)
