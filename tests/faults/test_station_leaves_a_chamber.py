"""A station that ends while its chamber is silent says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab import free_port, simulated, wait_until
from operando.instruments.locks import runtime_directory
from operando.station.client import RunRequest, StationClient
from operando.station.serve import EXIT_OUTPUT_UNKNOWN
from station.conditioned import write_conditioned_bench

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals"),
]

WARM = RunRequest(
    protocol="conditioned_cccv",
    parameters={"temperature": "40 degC", "soak": "2 min"},
    poll={"interval": "2 s"},
)


def test_a_station_says_what_chamber_it_could_not_secure_and_ends_with_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERANDO_RUNTIME_DIR", str(tmp_path / "runtime"))
    smu = f"TCPIP::127.0.0.1::{free_port()}::SOCKET"
    bench = write_conditioned_bench(tmp_path, smu=smu, speed=20.0)
    words = ["--json", "--port", "0", "--bench", str(bench), "--output", str(tmp_path / "runs")]
    log = runtime_directory() / "watchdog.log"
    with simulated(bench) as lab:
        station = subprocess.Popen(
            [sys.executable, "-m", "operando.station", "station", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert station.stdout is not None
            with StationClient(json.loads(station.stdout.readline())["url"]) as client:
                client.start("A1", WARM)
                wait_until(lambda: client.snapshot().channels[0].step_index == 1)
                wait_until(lambda: lab.relays()["smu1"] is False)
                wait_until(lambda: "oven1" in log.read_text(encoding="utf-8"))
                lab.inject("oven1", "silence")
            station.terminate()
            _, said = station.communicate(timeout=60.0)
        finally:
            station.kill()
            station.communicate()
        assert station.returncode == EXIT_OUTPUT_UNKNOWN
        assert "channel A1: oven1 IS NOT KNOWN TO BE IN ITS SAFE STATE" in said
        assert "HEATING OR COOLING: stop it at its panel" in said
        assert "THE OUTPUT IS NOT KNOWN" not in said
        lab.inject("oven1", "none")
        # The watchdog outlives it, and ends with what it was left to do.
        wait_until(lambda: '"verified off": true' in log.read_text(encoding="utf-8"))
