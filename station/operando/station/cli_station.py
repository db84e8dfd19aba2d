"""`operando station` and `operando gui`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, Protocol

import typer

from operando.instruments.errors import BadInputError
from operando.instruments.registry import WINDOWS
from operando.station.client.discovery import (
    DEFAULT_PORT,
    StationNote,
    station_at,
    station_of,
    stations,
)
from operando.station.client.process import StationProcess
from operando.station.simulate import simulated_lab

END_PATIENCE = 60.0
"""Wall s for a station to end its runs and itself."""

EXIT_NOT_ENDED = 5


class Window(Protocol):
    """The window's entry point, which the station may not import: see `operando.gui.app.run`."""

    def __call__(self, url: str, *, station: StationProcess | None, theme: str | None) -> int:
        """Show the window until it is closed; ends `station`, if any, unless its runs go on."""
        ...


SpeedOption = Annotated[
    float | None,
    typer.Option(help="Laboratory seconds a wall second; replaces the speed of the bench's clock."),
]


def station(
    bench: Annotated[
        Path | None, typer.Option("--bench", help="The bench file; the built-in lab if simulated.")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Serve its simulated instruments too.")
    ] = False,
    speed: SpeedOption = None,
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 for a free one.")] = DEFAULT_PORT,
    output: Annotated[Path, typer.Option(help="Folder in which records are made.")] = Path("runs"),
    end: Annotated[
        bool, typer.Option("--end", help="End the station of the bench, or the only one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Announce itself as JSON.")] = False,
) -> None:
    """Own a bench: identify its instruments, run recipes on its channels, serve windows.

    Ctrl-C and SIGTERM end every run, read every output back off, and end the station. Exit code 5
    if an output could not be read back.
    """
    if end:
        end_station(bench)
        return
    if bench is None and not simulate:
        raise BadInputError(
            "which bench? name its file with --bench, or try the built-in lab with --simulate"
        )
    from operando.station.serve import StationOptions, serve_station

    code = serve_station(
        StationOptions(
            simulated_lab() if bench is None else bench,
            simulate=simulate,
            speed=speed,
            host=host,
            port=port,
            output=output,
            as_json=as_json,
        )
    )
    if code:
        sys.exit(code)


def end_station(bench: Path | None) -> None:
    """End a running station and wait until it is gone. Raises BadInputError."""
    from operando.station.client.client import StationClient, StationLostError

    note = station_of(bench) if bench is not None else _only_station("end")
    if note is None:
        raise BadInputError(f"{bench}: no station of this user has this bench")
    with StationClient(note.url, note.token) as client, contextlib.suppress(StationLostError):
        client.shut_down()
    deadline = time.monotonic() + END_PATIENCE
    while (living := station_at(note.url)) is not None and living.pid == note.pid:
        if time.monotonic() > deadline:
            print(
                f"the station at {note.url} has not ended within {END_PATIENCE:g} s. Its outputs "
                f"may be on; look at the instruments, then end process {note.pid}",
                file=sys.stderr,
            )
            sys.exit(EXIT_NOT_ENDED)
        time.sleep(0.05)
    print(f"the station at {note.url} has ended")


def _only_station(verb: str) -> StationNote:
    """The station that is meant when none was named. Raises BadInputError."""
    found = stations()
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInputError(f"there is no station of this user to {verb}")
    listed = "\n".join(f"  {note.url}  {note.bench}" for note in found)
    raise BadInputError(f"there are several stations; name one of them to {verb}:\n{listed}")


def gui(
    bench: Annotated[Path | None, typer.Argument(help="The bench file.")] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Simulate the bench, or the built-in lab.")
    ] = False,
    speed: SpeedOption = None,
    station: Annotated[
        str | None, typer.Option("--station", help="URL of a station that runs.")
    ] = None,
    theme: Annotated[
        Literal["dark", "light"] | None, typer.Option(help="Colours; the system's if left out.")
    ] = None,
) -> None:
    """Open the window on a station, and start one if there is none for the bench.

    A station that this command starts ends with its window; one that was there goes on.
    """
    open_window = _window()
    if station is not None:
        if bench is not None or simulate:
            raise BadInputError("--station names a station that runs; leave the bench out")
        sys.exit(open_window(_living(station), station=None, theme=theme))
    if bench is None and not simulate:
        if not stations():
            raise BadInputError(
                "no station of this user runs. Start one with its window: 'operando gui BENCH', "
                "or 'operando gui --simulate' for the built-in lab"
            )
        url = _only_station("open: --station URL").url
        sys.exit(open_window(url, station=None, theme=theme))
    path = simulated_lab() if bench is None else bench
    note = station_of(path)
    if note is not None:
        sys.exit(open_window(note.url, station=None, theme=theme))
    started = StationProcess(path, simulate=simulate, speed=speed).start()
    # The window ends it, or leaves it to the runs that the operator lets go on.
    sys.exit(open_window(started.url, station=started, theme=theme))


def _living(url: str) -> str:
    """The URL as its station announced it. Raises BadInputError when none is there."""
    wanted = url.rstrip("/").replace("//localhost:", "//127.0.0.1:")
    if station_at(wanted) is None:
        raise BadInputError(
            f"no station of this user runs at {url}; start one with 'operando station --bench "
            "BENCH'"
        )
    return wanted


def _window() -> Window:
    """The window's entry point. Raises BadInputError when it cannot be loaded."""
    for point in importlib.metadata.entry_points(group=WINDOWS, name="gui"):
        try:
            window: Window = point.load()
        except ImportError as error:
            raise BadInputError(
                f"the window needs PyQt6 and pyqtgraph ({error}); install them with "
                "\"pip install 'operando[gui]'\", in this repository with 'make gui'"
            ) from error
        return window
    raise BadInputError("this installation has no window; install operando again")
