"""The scripts that set-points become, as text, and the driver on a real line."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.palmsens_board import PREFIXES, Board
from operando.drivers.methodscript import Manner, literal, rest, source, spectrum, sweep
from operando.drivers.palmsens import PalmSensMethodScript
from operando.drivers.palmsens_models import PalmSensSettings
from operando.drivers.transports import make_wire
from operando.instruments.clock import Clock, run
from operando.instruments.errors import BadInputError, InstrumentError
from operando.instruments.roles import Galvanostatic, Protection
from operando.instruments.techniques import SpectrumRequest

MANNER = Manner(
    stamp="operando ES4HR20B0001 es4_hr1500 Y",
    channel=0,
    mode=3,
    ac_mode=3,
    interval=0.5,
    unattended=600.0,
    bandwidth=11.70107,
    mains=0,
    window=(2.4, 4.35),
    reach=4.25,
)


def charge(direction: int = 1) -> bytes:
    return source(MANNER, voltage=4.2, current=1.5e-3, full_scale=10e-3, direction=direction)


SPECTRUM = spectrum(
    MANNER,
    amplitude=10e-3,
    highest=200e3,
    lowest=0.1,
    points=51,
    bias=3.7,
    current=0.9e-3,
    full_scale=1e-3,
)


def swept(rate: float, end: float = 3.8) -> bytes:
    return sweep(MANNER, start=3.7, end=end, rate=rate, step=1e-3, current=0.9e-3, full_scale=1e-3)


SWEEPS = [swept(10e-3), swept(0.1e-3), swept(10e-3, 3.6), swept(0.1e-3, 3.6)]

ALL = [rest(MANNER), charge(1), charge(-1), charge(0), SPECTRUM, *SWEEPS]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "500m"),
        (-0.2, "-200m"),
        (4.2, "4200m"),
        (3.65, "3650m"),
        (0.0, "0"),
        (60.0, "60"),
        (200e3, "200000"),
        (5e9, "5G"),
        (134218.5, "134218"),
        (421.2346, "421235m"),
        (1.57e-3, "1570u"),
        (1e-10, "100p"),
        (-1e-18, "-1a"),
    ],
)
def test_numbers_have_no_decimal_point(value: float, text: str) -> None:
    assert literal(value) == text


@given(st.floats(-1e6, 1e6).filter(lambda value: value == 0.0 or abs(value) > 1e-11))
def test_a_number_keeps_six_digits(value: float) -> None:
    text = literal(value)
    digits = text.rstrip("kMGmunpfa")
    scale = (PREFIXES | {"f": 1e-15, "a": 1e-18, "G": 1e9})[text[len(digits) :]]
    assert abs(int(digits)) < 1 << 27
    assert int(digits) * scale == pytest.approx(value, rel=5.1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e-30])
def test_what_has_no_literal_is_refused(value: float) -> None:
    with pytest.raises(BadInputError):
        literal(value)


@pytest.mark.parametrize("script", ALL)
def test_every_script_begins_and_ends_with_the_cell_off(script: bytes) -> None:
    lines = script.decode("ascii").split("\n")
    assert lines[0] == "e"
    assert lines[-4:] == ["on_finished:", "cell_off", "", ""]
    assert "" not in lines[:-2]
    assert all(len(line) <= 127 for line in lines)
    switches = [line for line in lines if line in ("cell_on", "cell_off")]
    assert switches[0] == "cell_off"


@pytest.mark.parametrize("script", ALL)
def test_the_mode_never_changes_with_the_cell_on(script: bytes) -> None:
    on = False
    for line in script.decode("ascii").split("\n"):
        if line in ("cell_on", "cell_off"):
            on = line == "cell_on"
        assert not (on and line.startswith("set_pgstat_mode"))


@pytest.mark.parametrize("script", ALL[:4])
def test_every_measurement_loop_of_a_step_is_bounded(script: bytes) -> None:
    loops = [line for line in script.decode().split("\n") if line.startswith("meas_loop")]
    steady = [line for line in loops if not line.endswith((" 100m 200m", " 50m 100m"))]
    assert steady
    assert all(line.endswith(" 500m 600") for line in steady)


def test_a_charge_is_written_as_the_documents_write_one() -> None:
    text = charge().decode("ascii")
    for part in (
        "set_pgstat_mode 6\nset_max_bandwidth 11701070u\nset_range db 10m\nset_range ab 4250m\n"
        "set_i 0\ncell_on\n",
        "meas_loop_cp p c i 500m 600\ntimer_get t\n",
        "pck_start\npck_add t\npck_add s\npck_add p\npck_add c\npck_end\n",
        "if p >= 4200m\nstore_var s 2i ja\nbreakloop\nendif\n",
        "set_e 4200m\ncell_on\n",
        "meas_loop_ca p c 4200m 500m 600\n",
    ):
        assert part in text, part


def test_a_spectrum_is_written_as_the_documents_write_one() -> None:
    text = SPECTRUM.decode("ascii")
    assert "meas_loop_eis f r j 10m 200000 100m 51i 3700m\n" in text
    assert "set_max_bandwidth 200000\n" in text
    assert "set_autoranging ba 1u 1m\n" in text


def test_a_fast_sweep_is_one_of_the_instrument_and_a_slow_one_is_held_level_by_level() -> None:
    fast, slow = swept(10e-3).decode("ascii"), swept(0.1e-3).decode("ascii")
    assert "meas_loop_lsv p c b 3799m 1m 10m\n" in fast
    assert "meas_loop_lsv" not in slow
    assert "meas_loop_ca p c b 500m 10\n" in slow
    for text in (fast, slow):
        assert "meas_loop_ca p c 3800m 500m 600\n" in text
        assert text.count("if c > 900u\n") == text.count("if c < -900u\n") == 2
        assert text.count("if p > 4350m\n") == text.count("if p < 2400m\n") == 2


# ---------------------------------------------------------------- a real line


class SocketLine:
    """A connection as the board knows it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def send(self, data: bytes, at: float) -> None:
        """Send at once."""
        self._writer.write(data)

    def drop(self) -> None:
        """Break the connection."""
        self._writer.close()


async def serve(board: Board, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand a connection to the board, command by command."""
    line = SocketLine(writer)
    loop = asyncio.get_running_loop()
    board.connected(line, loop.time())
    try:
        while data := await reader.readline():
            if data == b"e\n":
                while not data.endswith(b"\n\n"):
                    data += await reader.readline()
            board.receive(line, data, loop.time())
    finally:
        board.disconnected(line, loop.time())
        writer.close()


@pytest.mark.sockets
def test_steps_and_spectra_on_a_real_line() -> None:
    async def main() -> None:
        board = Board()
        served: list[asyncio.Task[None]] = []

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(asyncio.create_task(serve(board, reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        clock = Clock()
        driver = PalmSensMethodScript(
            make_wire(f"serial:socket://127.0.0.1:{port}", clock),
            clock,
            settings=PalmSensSettings(interval=0.05, unattended=1.0),
        )
        try:
            await driver.connect()
            await driver.prepare(Protection((2.5, 4.25), 5e-3))
            await driver.apply(Galvanostatic(1.5e-3, 4.2))
            assert board.relay
            readings = [await driver.measure() for _ in range(30)]  # 1.5 s: beyond `unattended`
            assert all(one.current == pytest.approx(1.5e-3) for one in readings)
            assert len(board.closed) == 1
            assert b"Y\n" in board.letters
            request = SpectrumRequest((1e5, 1e4, 1e3, 1e2), 10e-3, 3.6, 5e-3)
            await driver.begin_spectrum(request)
            for frequency in request.frequencies:
                point = await driver.next_point()
                assert point is not None
                assert point.frequency == pytest.approx(frequency)
                assert abs(clock.now() - point.time) < 0.5
            assert await driver.next_point() is None
            assert not board.relay
            await driver.begin_spectrum(SpectrumRequest((10.0, 0.01), 10e-3, 3.6, 5e-3))
            assert await driver.next_point() is not None
            assert board.relay
            await driver.safe()  # does not wait for the 100 s of the last point
            assert not board.relay
            with pytest.raises(InstrumentError, match="safe state"):
                await driver.next_point()
        finally:
            await driver.close()
            server.close()
            await asyncio.gather(*served)
            await server.wait_closed()

    run(main())
