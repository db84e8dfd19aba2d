"""A message bus of one's own: a `dbus-daemon` at a socket, on which a simulated BlueZ is served."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

from operando.instruments.errors import AddressInUseError, BadInputError

LONGEST_PATH = 107
"""Bytes of a Unix socket's path: linux/un.h, less the final zero."""

START_TIMEOUT = 10.0
"""Wall s for the daemon to say that it listens."""

_CONFIGURATION = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


def bus_address(socket: Path) -> str:
    """D-Bus' own spelling of a socket's path: what `DBUS_SYSTEM_BUS_ADDRESS` is set to."""
    return f"unix:path={socket}"


class PrivateBus:
    """A `dbus-daemon` that listens at a socket of one's own; only this user can connect."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """D-Bus address."""
        return bus_address(self.socket)

    async def start(self) -> None:
        """Start it. Raises BadInputError where it cannot run, AddressInUseError where one does."""
        daemon = shutil.which("dbus-daemon")
        if daemon is None:
            raise BadInputError(
                "simulated Bluetooth needs the program dbus-daemon, which was not found; on "
                "Debian or Ubuntu: sudo apt-get install dbus-daemon"
            )
        text = str(self.socket)
        if len(text.encode()) > LONGEST_PATH or set(text) & set("<>&,;=%'\""):
            raise BadInputError(
                f"a bus cannot listen at {text}: a socket's path has at most {LONGEST_PATH} bytes "
                "and none of < > & , ; = % or quotes; choose another `bus` in the bench file"
            )
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        await self._clear()
        with tempfile.TemporaryDirectory(prefix="operando-bus-") as folder:
            configuration = Path(folder) / "bus.conf"
            configuration.write_text(_CONFIGURATION.format(socket=self.socket))
            self._process = process = await asyncio.create_subprocess_exec(
                daemon,
                "--nofork",
                "--nopidfile",
                "--nosyslog",
                f"--config-file={configuration}",
                "--print-address=1",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                # A key on the terminal that stops a simulation stops the bus last.
                start_new_session=True,
            )
            assert process.stdout is not None
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    said = await process.stdout.readline()
            except BaseException:
                await self.close()
                raise
        if not said:
            await self.close()
            raise BadInputError(f"dbus-daemon did not start at {self.socket}")

    async def close(self) -> None:
        """End it and remove the socket; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        # What it still writes is read, or its pipe would outlive it.
        await process.communicate()
        self.socket.unlink(missing_ok=True)

    async def _clear(self) -> None:
        """Remove a socket at which nobody listens any more."""
        if not self.socket.exists():
            return
        if not self.socket.is_socket():
            raise AddressInUseError(f"{self.socket} exists already and is no socket")
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
        except ConnectionRefusedError:
            self.socket.unlink()
            return
        writer.close()
        await writer.wait_closed()
        raise AddressInUseError(
            f"a bus listens at {self.socket} already; another simulation may be running there"
        )
