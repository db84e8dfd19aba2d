"""One owner per instrument."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from operando.instruments import locks
from operando.instruments.errors import AddressInUseError, BadInputError
from operando.instruments.locks import AddressLock, runtime_directory

ADDRESS = "TCPIP::127.0.0.1::5025::SOCKET"
SAME_PLACE = "TCPIP0::localhost::5025::SOCKET"

HOLDER = """
import sys
from pathlib import Path
from operando.instruments.locks import AddressLock
lock = AddressLock(sys.argv[1], Path(sys.argv[2]))
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_second_taker_is_refused_and_told_the_owner(tmp_path: Path) -> None:
    with AddressLock(ADDRESS, tmp_path), pytest.raises(AddressInUseError) as caught:
        AddressLock(SAME_PLACE, tmp_path).acquire()
    message = str(caught.value)
    assert f"{SAME_PLACE} is in use by process {os.getpid()} (" in message
    assert "Nothing was written to the instrument" in message


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    lock = AddressLock(ADDRESS, tmp_path)
    with lock:
        assert lock.held
        assert lock.owner is not None
    assert not lock.held
    assert lock.owner is None
    lock.release()
    with AddressLock(ADDRESS, tmp_path):
        pass


def test_other_addresses_are_not_locked(tmp_path: Path) -> None:
    with AddressLock(ADDRESS, tmp_path), AddressLock("GPIB0::24::INSTR", tmp_path) as other:
        assert other.held


def test_taking_a_lock_twice_with_one_object_is_refused(tmp_path: Path) -> None:
    with AddressLock(ADDRESS, tmp_path) as lock:
        with pytest.raises(AddressInUseError, match="already locked"):
            lock.acquire()
        assert lock.held


def test_a_loser_does_not_disturb_the_owners_note(tmp_path: Path) -> None:
    with AddressLock(ADDRESS, tmp_path) as lock:
        note = lock.owner
        loser = AddressLock(ADDRESS, tmp_path)
        with pytest.raises(AddressInUseError):
            loser.acquire()
        loser.release()
        assert lock.owner == note
        with pytest.raises(AddressInUseError):
            AddressLock(ADDRESS, tmp_path).acquire()


def test_an_owner_without_a_readable_note_is_still_an_owner(tmp_path: Path) -> None:
    with AddressLock(ADDRESS, tmp_path):
        (note,) = tmp_path.glob("*.json")
        for damage in ("", "[]", '{"pid": "x"}'):
            note.write_text(damage)
            with pytest.raises(AddressInUseError, match="did not leave its name"):
                AddressLock(ADDRESS, tmp_path).acquire()


@pytest.mark.sockets
def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, ADDRESS, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(AddressInUseError, match=f"process {holder.pid} "):
                AddressLock(ADDRESS, tmp_path).acquire()
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    (note,) = tmp_path.glob("*.json")
    assert json.loads(note.read_text())["pid"] == holder.pid
    with AddressLock(ADDRESS, tmp_path) as lock:
        assert lock.owner is not None
        assert lock.owner.pid == os.getpid()


def test_the_runtime_folder_is_made_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(locks.ENVIRONMENT, str(tmp_path / "a" / "run"))
    assert runtime_directory() == tmp_path / "a" / "run"
    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o700
    assert runtime_directory() == tmp_path / "a" / "run"


def test_without_a_setting_the_folder_belongs_to_the_session_or_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(locks.ENVIRONMENT)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_directory() == tmp_path / "operando"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert runtime_directory() == tmp_path / f"operando-{os.getuid()}"


def test_a_folder_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(locks.ENVIRONMENT)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "operando").mkdir()
    (tmp_path / "operando").chmod(0o777)
    with pytest.raises(BadInputError, match="does not belong to this user alone"):
        runtime_directory()


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(locks.ENVIRONMENT, str(tmp_path / "file" / "run"))
    with pytest.raises(BadInputError, match="cannot be made"):
        runtime_directory()
