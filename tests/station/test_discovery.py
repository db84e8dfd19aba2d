"""How a station is found: by its user alone, and never after its death."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from operando.instruments.errors import BadInputError
from operando.instruments.locks import runtime_directory
from operando.station.client import StationNote, announced, station_at, stations
from operando.station.served import Announcement, served

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of files")

TOKEN = "a-token-that-nobody-else-may-read"
NOTE = StationNote("http://127.0.0.1:1", TOKEN, "/bench.toml", 1)
ADDRESS = "TCPIP::127.0.0.1::5025::SOCKET"
NOBODY = 65534
LOOKS = 2000

as_root = pytest.mark.skipif(
    sys.platform == "win32" or os.getuid() != 0, reason="another account is played by root alone"
)

LEAVE = """
import os, signal
from operando.station.client import StationNote, announced
from operando.station.served import Announcement
with announced(StationNote({url!r}, "t", "/bench.toml", 1)), Announcement(2.0) as simulation:
    simulation.add({address!r})
    os.kill(os.getpid(), signal.SIGKILL)
"""

LOOK = """
import sys
from operando.station.client import stations
from operando.station.served import served
print("ready", flush=True)
sys.stdin.readline()
alive = 0
for _ in range({looks}):
    alive += bool(stations()) + (served({address!r}) is not None)
print(alive, flush=True)
"""


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder that every account of this computer may write to."""
    folder = Path(tempfile.mkdtemp(prefix="operando-shared-"))
    folder.chmod(0o1777)
    monkeypatch.setenv("OPERANDO_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def own() -> Path:
    """Folder of this user's notes."""
    return runtime_directory() / f"stations-{os.getuid()}"


def somebody_else(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as another account."""
    return subprocess.run(
        list(map(str, words)), user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False,
        capture_output=True, text=True,
    )  # fmt: skip


@as_root
def test_another_account_reads_no_token_in_a_shared_folder(shared: Path) -> None:
    with announced(NOTE) as path:
        assert TOKEN in path.read_text()
        assert somebody_else("ls", shared).stdout.split() == [own().name]
        for command in (("cat", path), ("ls", own()), ("grep", "-r", TOKEN, shared)):
            done = somebody_else(*command)
            assert done.returncode != 0
            assert TOKEN not in done.stdout


@as_root
def test_a_folder_that_another_account_made_first_is_refused(shared: Path) -> None:
    assert somebody_else("mkdir", "-m", "0777", own()).returncode == 0
    for look in (stations, lambda: announced(NOTE).__enter__()):
        with pytest.raises(BadInputError, match="this user alone"):
            look()
    assert list(own().iterdir()) == []


def test_a_folder_that_others_can_open_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    for mode in (0o755, 0o770, 0o701):
        own().mkdir()
        own().chmod(mode)
        with pytest.raises(BadInputError, match=str(own())):
            stations()
        own().rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match="this user alone"), announced(NOTE):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_that_waits_where_the_token_will_be_written_does_not_get_it(tmp_path: Path) -> None:
    with announced(NOTE) as path:
        pass
    waiting = path.with_suffix(f".{os.getpid()}")
    waiting.touch(mode=0o666)
    with waiting.open() as held, announced(NOTE):
        assert TOKEN in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert held.read() == ""
    target = tmp_path / "target"
    target.touch()
    waiting.symlink_to(target)
    with announced(NOTE):
        assert TOKEN in path.read_text()
        assert not path.is_symlink()
    assert target.read_text() == ""


@as_root
def test_a_note_of_another_account_is_not_believed() -> None:
    with announced(NOTE) as path:
        assert station_at(NOTE.url) == NOTE
        os.chown(path, NOBODY, NOBODY)
        assert stations() == []
        os.chown(path, os.getuid(), os.getgid())
        assert stations() == [NOTE]
        path.rename(path.with_suffix(".kept"))
        path.symlink_to(path.with_suffix(".kept"))
        assert stations() == []


def lookers(count: int) -> list[subprocess.Popen[str]]:
    """Processes that look as soon as they are told to, all imported."""
    found = [
        subprocess.Popen(
            [sys.executable, "-c", LOOK.format(looks=LOOKS, address=ADDRESS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    for looker in found:
        assert looker.stdout is not None
        assert looker.stdout.readline() == "ready\n"
    return found


def test_a_dead_station_is_dead_however_many_look_at_once() -> None:
    left = subprocess.run(
        [sys.executable, "-c", LEAVE.format(url=NOTE.url, address=ADDRESS)], check=False
    )
    assert left.returncode == -9
    assert len(list(own().glob("*.json"))) == 1
    looking = lookers(3)
    for looker in looking:
        assert looker.stdin is not None
        looker.stdin.write("\n")
        looker.stdin.flush()
    assert [looker.communicate(timeout=100)[0] for looker in looking] == ["0\n"] * 3


def test_those_who_look_keep_nobody_from_starting() -> None:
    with announced(NOTE), Announcement(2.0) as simulation:
        simulation.add(ADDRESS)
    looking = lookers(2)
    for looker in looking:
        assert looker.stdin is not None
        looker.stdin.write("\n")
        looker.stdin.flush()
    starts = 0
    while any(looker.poll() is None for looker in looking):
        with announced(NOTE), Announcement(2.0) as simulation:
            simulation.add(ADDRESS)
            assert stations() == [NOTE]
            assert served(ADDRESS) is not None
        starts += 1
    for looker in looking:
        looker.communicate()
    assert starts > 5
    assert stations() == []
    assert served(ADDRESS) is None
