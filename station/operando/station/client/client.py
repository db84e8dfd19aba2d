"""A typed client of a station: requests over HTTP, what changes over a WebSocket. Blocking.

Safe to use from several threads; each call takes a connection of its own from a pool.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, TypeAdapter, ValidationError
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from operando.instruments.errors import OperandoError
from operando.station.client.discovery import station_at
from operando.station.client.models import (
    CheckReport,
    CycleRow,
    Done,
    NewLimit,
    Problem,
    ProtocolInfo,
    Rows,
    RunDetail,
    RunRequest,
    RunSummary,
    Snapshot,
    Started,
)
from operando.station.client.predictions import Prediction

Floats = npt.NDArray[np.float64]
Message = Snapshot | Rows

PATIENCE = 5.0
"""Wall s for the answer to a request."""

LONG_PATIENCE = 60.0
"""Wall s for what may wait for an instrument or read a whole record."""

READ_AGAIN = 0.2
"""Wall s before a question is repeated to which the station had no answer yet."""

_Model = TypeVar("_Model", bound=BaseModel)


class StationLostError(OperandoError):
    """The station does not answer."""


class RefusedError(OperandoError):
    """The station refused a request; the message says why. problems: field by field, if known."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity against time, ready to draw: every point is a committed reading.

    time: s since the start of the run, ascending. value: SI, NaN where not valid.
    exact: all readings of the stretch are there; False: of each bin the lowest and the highest.
    """

    time: Floats
    value: Floats
    exact: bool


@dataclass(frozen=True, slots=True)
class Loop:
    """Voltage against charge of one half cycle, in order of time; never decimated by bins.

    charge: C passed since the half cycle began, magnitude. voltage: V. charging: direction.
    """

    cycle: int
    charging: bool
    charge: Floats
    voltage: Floats


class StationClient:
    """Talks to one station. url: http://127.0.0.1:PORT. token: None takes that of its note.

    name: who asks, as the journal tells it of what is changed in a run.
    Nothing is connected before the first call. Every call raises StationLostError when the station
    does not answer, and RefusedError when it says no.
    """

    def __init__(self, url: str, token: str | None = None, *, name: str = "a script") -> None:
        self.url = url.rstrip("/")
        self._given = token
        self._token = token
        self._http = httpx.Client(
            base_url=self.url, timeout=PATIENCE, trust_env=False, headers={"User-Agent": name}
        )

    # What there is

    def snapshot(self) -> Snapshot:
        """The station as it is now."""
        return self._model(Snapshot, self._get("/api/station"))

    def protocols(self) -> list[ProtocolInfo]:
        """Protocols with the schemas of their parameters."""
        return self._list(ProtocolInfo, self._get("/api/protocols"))

    def runs(self) -> list[RunSummary]:
        """Records in the station's folder, the newest first."""
        return self._list(RunSummary, self._get("/api/runs", patience=LONG_PATIENCE))

    def run(self, run: str) -> RunDetail:
        """A run with its steps, journal, gaps and limits."""
        return self._model(RunDetail, self._get(f"/api/runs/{run}"))

    def cycles(self, run: str) -> list[CycleRow]:
        """The cycles of a run so far."""
        return self._list(CycleRow, self._get(f"/api/runs/{run}/cycles", patience=LONG_PATIENCE))

    # Curves

    def curves(
        self,
        run: str,
        quantities: Iterable[str],
        *,
        start: float | None = None,
        end: float | None = None,
        bins: int = 1200,
    ) -> dict[str, Curve]:
        """Quantities against time for a viewport. start, end: s; None is the end of the record.

        bins: width of the plot in pixels. A reading on either side of the viewport comes along, so
        that lines leave it where they should.
        """
        query: dict[str, Any] = {"quantities": ",".join(quantities), "bins": bins}
        if start is not None:
            query["start"] = start
        if end is not None:
            query["end"] = end
        arrays = _arrays(self._get(f"/api/runs/{run}/curves", query).content)
        names = {name.partition("/")[0] for name in arrays}
        return {
            name: Curve(
                arrays[f"{name}/time"], arrays[f"{name}/value"], bool(arrays[f"{name}/exact"])
            )
            for name in sorted(names)
        }

    def loops(self, run: str, *, points: int = 1000) -> list[Loop]:
        """Voltage against charge, half cycle by half cycle. points: at most so many each."""
        answer = self._get(f"/api/runs/{run}/loops", {"points": points}, patience=LONG_PATIENCE)
        arrays = _arrays(answer.content)
        count = len({name.partition("/")[0] for name in arrays})
        return [
            Loop(
                int(arrays[f"{number}/cycle"]),
                bool(arrays[f"{number}/charging"]),
                arrays[f"{number}/charge"],
                arrays[f"{number}/voltage"],
            )
            for number in range(count)
        ]

    def rows(
        self, run: str, *, start: float | None = None, end: float | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """The committed samples of a stretch as they were recorded, by column, for an export.

        Columns as `operando.records.Record.samples`, and "pressure", ... joined by last value.
        """
        query = {key: value for key, value in (("start", start), ("end", end)) if value is not None}
        return _arrays(self._get(f"/api/runs/{run}/rows", query, patience=LONG_PATIENCE).content)

    # Commands

    def check(self, channel: str, request: RunRequest) -> CheckReport:
        """What a request would do on a channel, or all that is wrong with it."""
        return self._model(CheckReport, self._post(f"/api/channels/{channel}/check", request))

    def dry_run(self, channel: str, request: RunRequest, *, at_most: float = 60.0) -> Prediction:
        """What would come of a request, SIMULATED. at_most: wall s after which it is cut."""
        path, query = f"/api/channels/{channel}/dry-run", {"at_most": at_most}
        patience = at_most + LONG_PATIENCE
        return self._model(Prediction, self._post(path, request, query, patience=patience))

    def start(self, channel: str, request: RunRequest, request_id: str = "") -> Started:
        """Start a run; returns when its record exists. RefusedError says why it does not.

        request_id: of one start, made by the caller. After a StationLostError it may be asked for
        again with the same id: the station answers with the run that it began, if it began one,
        and begins no other. A station that was started anew has forgotten it.
        """
        query = {"request": request_id} if request_id else None
        path = f"/api/channels/{channel}/start"
        return self._model(Started, self._post(path, request, query, patience=LONG_PATIENCE))

    def pause(self, channel: str) -> Done:
        """Open the circuit and keep the step's time and charge."""
        return self._command(f"/api/channels/{channel}/pause")

    def resume(self, channel: str) -> Done:
        """Go on after a pause or hold."""
        return self._command(f"/api/channels/{channel}/resume")

    def abort(self, channel: str, run: str = "") -> Done:
        """End the run; done when the output has been read back off.

        run: end this one alone; RefusedError if another is under way. "" ends whatever runs.
        """
        return self._command(f"/api/channels/{channel}/abort", run)

    def end_step(self, channel: str, step: int = 0) -> Done:
        """End the present step; the protocol goes on with the next.

        step: index of the step that is meant; RefusedError if another one runs. 0 is whichever.
        """
        query = {"step": step} if step else None
        path = f"/api/channels/{channel}/end-step"
        return self._model(Done, self._post(path, query=query, patience=LONG_PATIENCE))

    def change_limit(self, channel: str, name: str, when: str) -> Done:
        """Let a limit of the run under way act at another condition, written as in a recipe.

        RefusedError says what is wrong with it; the limit then stays as it was.
        """
        path = f"/api/channels/{channel}/limits/{quote(name, safe='')}"
        body = NewLimit(when=when)
        return self._model(Done, self._post(path, body, patience=LONG_PATIENCE))

    def go_on(self, channel: str, run: str = "") -> Started:
        """Go on with the last run of a channel, which was killed with its station.

        Returns when its record is open again. run: which run is meant; "" is any. May be asked for
        again after a StationLostError: it is begun once.
        """
        path, query = f"/api/channels/{channel}/continue", {"run": run} if run else None
        return self._model(Started, self._post(path, query=query, patience=LONG_PATIENCE))

    def acknowledge(self, channel: str, run: str = "") -> Done:
        """Say that a trip, fault or killed run has been seen, so that the next run may start.

        run: which run has been seen; RefusedError if the last one is another. "" is any.
        """
        return self._command(f"/api/channels/{channel}/acknowledge", run)

    def stop_all(self) -> Done:
        """Abort every run; done when every output has been read back off."""
        return self._command("/api/stop")

    def shut_down(self) -> Done:
        """Abort every run and end the station."""
        return self._command("/api/shutdown")

    def stream(self) -> Stream:
        """Open the stream of what changes. Raises StationLostError."""
        return Stream(self._websocket())

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- below -----------------------------------------------------------------------------

    def _headers(self, *, fresh: bool = False) -> dict[str, str]:
        # A station that was started again has another token.
        if self._given is None and (fresh or self._token is None):
            note = station_at(self.url)
            if note is None:
                raise StationLostError(
                    f"no station of this user runs at {self.url}; start one with "
                    "'operando station --bench BENCH'"
                )
            self._token = note.token
        return {"Authorization": f"Bearer {self._token}"}

    def _get(
        self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = PATIENCE
    ) -> httpx.Response:
        return self._ask("GET", path, patience, params=query)

    def _post(
        self,
        path: str,
        body: BaseModel | None = None,
        query: Mapping[str, Any] | None = None,
        *,
        patience: float = PATIENCE,
    ) -> httpx.Response:
        content = None if body is None else body.model_dump_json()
        kind = {"Content-Type": "application/json"}
        return self._ask("POST", path, patience, content=content, headers=kind, params=query)

    def _command(self, path: str, run: str = "") -> Done:
        query = {"run": run} if run else None
        return self._model(Done, self._post(path, query=query, patience=LONG_PATIENCE))

    def _ask(
        self,
        method: str,
        path: str,
        patience: float,
        headers: Mapping[str, str] | None = None,
        until: float | None = None,
        **options: Any,
    ) -> httpx.Response:
        until = time.monotonic() + LONG_PATIENCE if until is None else until
        answer: httpx.Response | None = None
        for fresh in (False, True):
            both = {**(headers or {}), **self._headers(fresh=fresh)}
            try:
                answer = self._http.request(method, path, headers=both, timeout=patience, **options)
            except httpx.HTTPError as error:
                raise StationLostError(f"the station at {self.url} does not answer: {error}") from (
                    error
                )
            if answer.status_code != httpx.codes.UNAUTHORIZED or self._given is not None:
                break
        assert answer is not None
        if answer.is_success:
            return answer
        unready = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and method == "GET"
        if unready and time.monotonic() < until:
            # A long record is still being read; the station says so before we call it lost.
            time.sleep(READ_AGAIN)
            return self._ask(method, path, patience, headers, until, **options)
        raise _refusal(answer)

    def _websocket(self) -> ClientConnection:
        for fresh in (False, True):
            try:
                # Entered by hand: `Stream` is the context, and closes it.
                return connect(
                    f"{self.url.replace('http', 'ws', 1)}/api/stream",
                    additional_headers=self._headers(fresh=fresh),
                    open_timeout=2.0,
                    close_timeout=0.5,
                    max_size=None,
                    compression=None,
                    proxy=None,
                ).__enter__()
            except (OSError, WebSocketException, TimeoutError) as error:
                failure = error
        raise StationLostError(f"the station at {self.url} does not answer: {failure}") from failure

    def _model(self, model: type[_Model], answer: httpx.Response) -> _Model:
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            raise RefusedError(
                f"the station at {self.url} speaks another version: {error}"
            ) from error

    def _list(self, model: type[_Model], answer: httpx.Response) -> list[_Model]:
        try:
            return TypeAdapter(list[model]).validate_json(answer.content)  # type: ignore[valid-type]
        except ValidationError as error:
            raise RefusedError(
                f"the station at {self.url} speaks another version: {error}"
            ) from error


class Stream:
    """What a station pushes; a context manager. Belongs to one thread, but for `close`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def receive(self, timeout: float) -> Message | None:
        """The next message; None when there was none within `timeout` (wall s).

        A living station sends a snapshot at least once a second. Raises StationLostError when
        the connection broke.
        """
        try:
            text = self._connection.recv(timeout)
        except TimeoutError:
            return None
        except (OSError, WebSocketException, EOFError) as error:
            raise StationLostError(f"the connection to the station broke: {error}") from error
        kind = json.loads(text).get("type")
        return (Rows if kind == "rows" else Snapshot).model_validate_json(text)

    def follow(self, runs: Iterable[str]) -> None:
        """Ask for the new rows of these runs and of no others, from now on.

        May be called from any thread. Raises StationLostError.
        """
        try:
            self._connection.send(json.dumps({"follow": sorted(runs)}))
        except (OSError, WebSocketException) as error:
            raise StationLostError(f"the connection to the station broke: {error}") from error

    def close(self) -> None:
        """End the stream; `receive` in another thread then raises StationLostError."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def number(value: float | None) -> float:
    """NaN for None."""
    return math.nan if value is None else value


def _arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _refusal(answer: httpx.Response) -> RefusedError:
    try:
        body = answer.json()
        problems = [Problem.model_validate(problem) for problem in body.get("problems", ())]
        return RefusedError(str(body["message"]), problems)
    except (ValueError, KeyError, TypeError, AttributeError):
        return RefusedError(f"{answer.status_code} {answer.reason_phrase}: {answer.text[:300]}")
