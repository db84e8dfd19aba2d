"""A station as a process: announced, killed, started again, ended in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from lab import free_port, simulated, wait_until, write_bench
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import run as run_coroutine
from operando.instruments.errors import BadInputError
from operando.instruments.locks import runtime_directory
from operando.records import Record
from operando.station import cli_station, serve
from operando.station.client import (
    ChannelStatus,
    RefusedError,
    RunRequest,
    StationClient,
    StationNote,
    StationProcess,
    announced,
    station_at,
    station_of,
    stations,
)
from operando.station.served import served
from operando.station.simulate import simulated_lab
from operando.station.watchdog import WATCHDOG_TIME

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals"),
]

SPEED = 20.0
REQUEST = RunRequest(
    protocol="cccv",
    parameters={"charge_rate": "C/2", "discharge_rate": "C/2"},
    poll={"interval": "2 s"},
)


class Bench:
    """A simulated bench for stations that may be killed."""

    def __init__(self, folder: Path) -> None:
        self.path = write_bench(folder, speed=SPEED)
        self.output = folder / "runs"

    def station(self, **options: Any) -> StationProcess:
        """A station of the bench, not started yet."""
        return StationProcess(self.path, output=self.output, **options)

    def served(self) -> bool:
        """Whether a simulation serves the source meter."""
        return served(load_bench(self.path).instruments["smu1"].address) is not None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench of one channel."""
    return Bench(tmp_path)


@pytest.fixture
def client() -> Iterator[Any]:
    """Clients that are closed at the end: call it with a station."""
    with ExitStack() as stack:
        yield lambda station: stack.enter_context(StationClient(station.url))


def of(client: StationClient) -> ChannelStatus:
    """The state of the only channel."""
    return client.snapshot().channels[0]


def operando(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "operando.station", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_station_runs_a_recipe_and_ends_in_order_on_sigterm(bench: Bench, client: Any) -> None:
    with simulated(bench.path) as lab:
        with bench.station() as station:
            note = station_of(bench.path)
            assert note is not None
            assert (note.url, note.pid) == (station.url, station.pid)
            notes = list((runtime_directory() / f"stations-{os.getuid()}").glob("*.json"))
            assert [stat.S_IMODE(path.stat().st_mode) for path in notes] == [0o600]
            desk = client(station)
            snapshot = desk.snapshot()
            assert (snapshot.simulated, snapshot.speed) == (True, SPEED)
            assert "04500001" in of(desk).instruments[0].identity
            run = desk.start("A1", REQUEST).run
            wait_until(lambda: lab.relays()["smu1"])
            assert of(desk).run == run
            os.kill(station.pid, signal.SIGTERM)
            wait_until(lambda: not station.alive)
        assert lab.relays() == {"smu1": False}
        assert bench.served()  # a person started the simulation, so it goes on
        assert Record.open(bench.output / run).state == "aborted"
        assert stations() == []


def test_kill_nine_of_a_station_opens_the_relay_and_the_next_one_asks_to_look(
    bench: Bench, client: Any
) -> None:
    with simulated(bench.path) as lab:
        with bench.station() as station:
            run = client(station).start("A1", REQUEST).run
            wait_until(lambda: lab.relays()["smu1"])
            os.kill(station.pid, signal.SIGKILL)
            wait_until(lambda: not lab.relays()["smu1"], timeout=WATCHDOG_TIME)
        assert station_at(station.url) is None
        with bench.station() as station:
            desk = client(station)
            status = of(desk)
            assert (status.state, status.run, status.attention) == ("killed", run, True)
            assert status.output == "off"
            assert "read back off when this station started" in status.reason
            with pytest.raises(RefusedError, match="latched"):
                desk.start("A1", REQUEST)
            desk.acknowledge("A1")
            desk.start("A1", REQUEST)
            wait_until(lambda: lab.relays()["smu1"])
            assert desk.abort("A1").ok
            assert lab.relays() == {"smu1": False}
        with bench.station() as station:  # what was acknowledged stays so
            last = of(client(station))
            # The newest by the wall's clock: the stamps of a scaled one start anew each time.
            assert (last.state, last.attention, last.run != run) == ("aborted", False, True)


def test_a_station_switches_off_what_it_takes_over_from_an_owner_that_was_killed(
    bench: Bench, client: Any
) -> None:
    """It may be quicker than the watchdog, whom its own lock then keeps out."""
    address = load_bench(bench.path).instruments["smu1"].address
    hold = "import sys; from operando.instruments.locks import AddressLock; "
    hold += "lock = AddressLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    with simulated(bench.path) as lab:
        with subprocess.Popen(
            [sys.executable, "-c", hold, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as owner:
            assert owner.stdout is not None
            owner.stdout.readline()
            with socket.create_connection(("127.0.0.1", int(address.split("::")[2]))) as wire:
                wire.sendall(b":OUTP ON\n")
                wait_until(lambda: lab.relays()["smu1"])
            owner.kill()
        with bench.station() as station:
            status = of(client(station))
            assert (status.state, status.output, status.attention) == ("idle", "off", False)
            assert lab.relays() == {"smu1": False}


def test_a_simulation_outlives_a_killed_station_and_ends_with_the_next(
    bench: Bench, client: Any
) -> None:
    with bench.station(simulate=True) as station:
        assert of(client(station)).simulated
        os.kill(station.pid, signal.SIGKILL)
        wait_until(lambda: not station.alive)
    found = served(load_bench(bench.path).instruments["smu1"].address)
    assert found is not None
    assert found.speed == SPEED
    with bench.station(simulate=True) as station:
        again = served(load_bench(bench.path).instruments["smu1"].address)
        assert again == found
        assert not of(client(station)).instruments[0].problem
    assert not bench.served()


def test_a_simulation_at_another_speed_is_refused(bench: Bench) -> None:
    with simulated(bench.path, speed=10.0):
        done = operando("station", "--bench", bench.path, "--simulate", "--port", "0")
        assert done.returncode == 2
        assert "--speed 10" in done.stderr


def test_a_second_station_and_a_run_beside_it_are_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "bench.toml"
    with simulated(bench.path), bench.station() as station:
        copy.write_text(
            bench.path.read_text().replace("serial:ports", f"serial:{tmp_path / 'ports'}")
        )
        second = operando("station", "--bench", bench.path, "--port", "0")
        assert second.returncode == 2
        assert f"the station at {station.url} (process {station.pid}) already" in second.stderr
        recipe = tmp_path / "recipe.toml"
        recipe.write_text('protocol = "cccv"\n')
        beside = operando("run", recipe, "--bench", copy, "--channel", "A1")
        assert beside.returncode == 2
        assert f"process {station.pid}" in beside.stderr
        assert station_of(bench.path) is not None
        ended = operando("station", "--end")
        assert ended.returncode == 0, ended.stderr
        assert station.url in ended.stdout
        wait_until(lambda: not station.alive)
    none = operando("station", "--end")
    assert none.returncode == 2
    assert "no station" in none.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.10", "::", "example.org"])
def test_any_other_address_than_this_computer_is_refused(host: str) -> None:
    with pytest.raises(BadInputError, match="this computer alone"):
        serve.loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_addresses_are_taken(host: str) -> None:
    assert serve.loopback(host) in {"127.0.0.1", "127.9.9.9", "::1"}


def test_the_command_refuses_other_addresses_missing_benches_and_taken_ports(
    bench: Bench,
) -> None:
    done = operando("station", "--bench", bench.path, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "this computer alone" in done.stderr
    done = operando("station")
    assert done.returncode == 2
    assert "--bench" in done.stderr
    with serve.listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = operando("station", "--bench", bench.path, "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert not bench.output.exists()


def test_an_api_that_dies_is_started_again_and_the_station_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = load_bench(write_bench(tmp_path))
    apis: list[serve._Api] = []
    answers: list[str] = []

    def make_app(*_: object) -> FastAPI:
        app = FastAPI()

        @app.get("/")
        def which() -> int:
            return len(apis)

        return app

    def make_api(*arguments: Any) -> serve._Api:
        apis.append(real(*arguments))
        return apis[-1]

    real = serve._Api
    monkeypatch.setattr(serve, "make_app", make_app)
    monkeypatch.setattr(serve, "_Api", make_api)
    monkeypatch.setattr(serve, "SERVER_OPTIONS", {"lifespan": "off"})

    def ask() -> str:
        with urllib.request.urlopen(f"{stations()[0].url}/", timeout=10.0) as answer:
            return str(answer.read().decode())

    def watch() -> None:
        wait_until(stations)
        answers.append(ask())
        apis[0].tell_to_end()
        wait_until(lambda: len(apis) == 2)
        answers.append(ask())
        os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=watch)
    with serve.listening("127.0.0.1", 0) as listener, ExitStack() as note:
        options = serve.StationOptions(bench.path)
        station = serve._Station(bench, options, listener, None, tmp_path, note)  # type: ignore[arg-type]
        watching.start()
        code = run_coroutine(station.main())
        watching.join()
    assert answers == ["1", "2"]
    assert code == 0
    assert "the API ended unexpectedly" in capfd.readouterr().err


def test_the_simulated_lab_is_kept_while_it_is_served() -> None:
    first = simulated_lab()
    addresses = {entry.address for entry in load_bench(first).instruments.values()}
    with simulated(first):
        assert simulated_lab() == first
        assert {e.address for e in load_bench(first).instruments.values()} == addresses
    assert load_bench(simulated_lab()).channels


class Window:
    """What the window's entry point was called with. Ends the station given to it, as a window."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, bool, str | None]] = []
        monkeypatch.setattr(cli_station, "_window", lambda: self)

    def __call__(self, url: str, station: StationProcess | None, theme: str | None) -> int:
        assert station_at(url) is not None
        self.calls.append((url, station is not None, theme))
        if station is not None:
            station.close()
        return 0


def test_a_window_finds_the_only_station_or_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    window = Window(monkeypatch)
    with pytest.raises(BadInputError, match="operando gui --simulate"):
        cli_station.gui()
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    notes = [StationNote(url, "token", str(tmp_path / url[-5:]), 1) for url in urls]
    with announced(notes[0]):
        with pytest.raises(SystemExit):
            cli_station.gui(theme="light")
        with pytest.raises(SystemExit):
            cli_station.gui(station=urls[0].replace("127.0.0.1", "localhost") + "/")
        with pytest.raises(SystemExit):
            cli_station.gui(bench=Path(notes[0].bench))
        with pytest.raises(BadInputError, match="no station"):
            cli_station.gui(station=urls[1])
        with announced(notes[1]), pytest.raises(BadInputError, match="several") as refused:
            cli_station.gui()
        assert all(url in str(refused.value) for url in urls)
    assert window.calls == [(urls[0], False, "light"), *[(urls[0], False, None)] * 2]


def test_a_window_is_given_the_station_that_was_started_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    window = Window(monkeypatch)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli_station.gui(simulate=True, speed=SPEED)
    assert left.value.code == 0
    assert [started for _, started, _ in window.calls] == [True]
    assert stations() == []
    entries = load_bench(simulated_lab()).instruments.values()
    assert not any(served(entry.address) for entry in entries)


def test_a_station_announces_itself_in_one_line_for_people(bench: Bench) -> None:
    words = [sys.executable, "-m", "operando.station", "station", "--bench", str(bench.path)]
    with subprocess.Popen(
        [*words, "--simulate", "--port", "0", "--output", str(bench.output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            (note,) = stations()
            assert note.url in line
            assert "SIMULATED x20" in line
            assert f"operando gui --station {note.url}" in line
            assert json.loads(json.dumps(note.token))
            assert note.token not in line
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
