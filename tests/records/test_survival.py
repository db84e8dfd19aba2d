"""A record outlives its writer: kill -9 and a full disk, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from operando.instruments.recorder import Entry
from operando.records import Record, verify

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits"),
]

WRITER = """
import sys
from operando.instruments.clock import run
from operando.instruments.errors import RecordError
from operando.instruments.recorder import Entry
from operando.instruments.samples import AuxReading, Origin, Regulation, Sample, Status
from operando.records import SqliteRecorder

folder, inline, limit = sys.argv[1], sys.argv[2] == "inline", int(sys.argv[3])
if limit:
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

async def main():
    recorder = SqliteRecorder(
        folder, {"started": "2026-01-01T00:00:00+00:00", "simulated": True}, inline=inline
    )
    n = 0
    try:
        while True:
            for _ in range(137):
                recorder.sample(Sample(
                    float(n), 0.0, 0.0, 3.7, 1e-3, 0.0, 0.0, 0.0, 0.0, 1, 1, 1,
                    Regulation.CURRENT, Status.OK, Origin.POLL,
                ))
                recorder.aux(AuxReading("lc1", "pressure", float(n), 0.0, 5e6, Status.OK))
                n += 1
            await recorder.journal(Entry.NOTE, float(n), {"n": n})
            print(n, flush=True)
    except RecordError as error:
        print(error, flush=True)

run(main(), virtual=inline)
"""


def start(folder: Path, mode: str, limit: int = 0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), mode, str(limit)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("mode", ["inline", "threaded"])
@pytest.mark.parametrize("acknowledged", [1, 25])
def test_every_acknowledged_row_outlives_kill_nine(
    tmp_path: Path, mode: str, acknowledged: int
) -> None:
    folder = tmp_path / "r"
    with start(folder, mode) as writer:
        assert writer.stdout is not None
        for _ in range(acknowledged):
            told = int(writer.stdout.readline())
        assert Record.open(folder).state == "running"
        writer.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    record = Record.open(folder)
    assert record.state == "killed"
    times = record.samples()["time"]
    assert len(times) >= told
    assert times.tolist() == [float(n) for n in range(len(times))]
    assert len(record.aux("pressure")["time"]) >= told
    assert record.journal(Entry.NOTE)[-1].data["n"] in (told, told + 137)
    verification = verify(folder)
    assert verification, str(verification)
    assert not verification.closed


@pytest.mark.parametrize("mode", ["inline", "threaded"])
def test_a_full_disk_is_told_and_what_was_acknowledged_can_be_read(
    tmp_path: Path, mode: str
) -> None:
    folder = tmp_path / "r"
    with start(folder, mode, limit=400_000) as writer:
        assert writer.stdout is not None
        lines = writer.stdout.read().splitlines()
    acknowledged, message = [int(line) for line in lines[:-1]], lines[-1]
    assert writer.returncode == 0
    assert len(acknowledged) >= 2
    assert "writing the record failed" in message
    assert "Make room on the disk" in message
    record = Record.open(folder)
    assert len(record.samples()["time"]) >= acknowledged[-1]
    assert record.state == "killed"
    assert verify(folder), str(verify(folder))
