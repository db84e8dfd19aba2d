"""The station's API: HTTP with an OpenAPI document, and one WebSocket for what changes.

Reachable by those alone who know the token, and never through a web page in a browser: whatever
names another host or comes from another origin is refused before anything looks at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Collection
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from operando.instruments.errors import OperandoError, RecordError
from operando.station.client.client import RefusedError
from operando.station.client.models import (
    API_VERSION,
    CheckReport,
    CycleRow,
    Done,
    NewLimit,
    Problem,
    ProtocolInfo,
    RunDetail,
    RunRequest,
    RunSummary,
    Snapshot,
    Started,
)
from operando.station.client.predictions import Prediction
from operando.station.connections import AT_ONCE, RequestConnection, StreamConnection, trust
from operando.station.dry_process import DryRunLostError, predict_apart
from operando.station.push import LONGEST_MESSAGE, Board, Desk
from operando.station.views import ReaderLostError, UnknownRunError, Views

LONGEST_BODY = 1024 * 1024
"""Bytes of a request's body."""

PLOT_PATIENCE = 4.0
"""Wall s after which a question for a plot is answered with 503; its client waits 5 s."""

SLICE = 256 * 1024
"""Bytes of an export that are sent at once."""

SERVER_OPTIONS: dict[str, Any] = {
    "http": RequestConnection,
    "ws": StreamConnection,
    "backlog": AT_ONCE,
    "ws_max_size": LONGEST_MESSAGE,
    "ws_per_message_deflate": False,
    "lifespan": "on",
    "proxy_headers": False,
    "server_header": False,
    "access_log": False,
    "timeout_graceful_shutdown": 3,
}
"""What `uvicorn.Config` must be told to serve this application."""

DESCRIPTION = """\
A station owns a bench of instruments and runs protocols on its channels. Numbers are SI, missing
ones null. Every request needs `Authorization: Bearer TOKEN`, with the token of the note that the
station leaves in its user's runtime folder. A connection that does not show it within some
seconds is closed.

A request that is no HTTP gets 400 in plain text, and a method that a path does not have 405; the
WebSocket answers 403 wherever HTTP would answer 401.

The WebSocket `/api/stream` pushes `Snapshot` messages when something changes and at least once a
second, and `Rows` of the runs that a client asks for with `{"follow": [RUN, ...]}`.
"""


class Refusal(BaseModel):
    """Why a request was not carried out. problems: field by field, where that is known."""

    message: str
    problems: list[Problem] = []


class BusyError(OperandoError):
    """The answer takes longer than its client waits."""


Channel = Annotated[str, Path(description="Name of the channel on the bench.", max_length=200)]
Run = Annotated[str, Path(description="Identifier of the run: the name of its record.")]
RequestId = Annotated[
    str,
    Query(
        alias="request",
        description="Made by the client for one start: asked for again with the same one, it is "
        "answered with the run that it began, and begins no other.",
        max_length=100,
    ),
]
ThisRun = Annotated[
    str,
    Query(alias="run", description="The run that is meant: refused if it is another. Left out: "
          "whatever there is.", max_length=200),
]  # fmt: skip
ThisStep = Annotated[
    int,
    Query(alias="step", description="Index of the step that is meant: refused if another one runs "
          "by now. Left out: whichever runs.", ge=0),
]  # fmt: skip
LimitName = Annotated[str, Path(description="Name of the limit.", max_length=200)]
By = Annotated[
    str, Header(alias="User-Agent", description="Who asks, for the journal.", max_length=1000)
]
Time = Annotated[
    float | None, Query(description="s since the start of the run", allow_inf_nan=False)
]


AtMost = Annotated[
    float, Query(description="s of computing after which the dry run is cut", ge=1.0, le=600.0)
]

NPZ = "application/x-npz"


def _binary(description: str) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "string", "format": "binary"}
    return {200: {"description": description, "content": {NPZ: {"schema": schema}}}}


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Refusal, "description": _WHY[code]} for code in codes}


_WHY = {
    401: "The token is missing or wrong.",
    403: "The request names another host or comes from another origin.",
    404: "There is no such channel or run.",
    409: "The station says no; the message says why.",
    411: "The body comes without its length, in Content-Length.",
    413: "The body is too long.",
    415: "A POST is not application/json.",
    422: "Something is wrong with the request; the problems say what, field by field.",
    500: "The record cannot be read, or the station failed.",
    503: "The answer is not ready yet; ask again.",
}


OF_A_RUN = _refusals(404, 422, 500, 503)


def make_app(desk: Desk, views: Views, token: str, hosts: Collection[str]) -> FastAPI:
    """The application. hosts: values of the Host header that are ours, such as "127.0.0.1:8250".

    Serve it with `SERVER_OPTIONS`. It runs as long as its lifespan; desk and views outlive it.
    """
    board = Board(desk, views)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with board.open():
            yield

    app = FastAPI(
        title="operando station",
        version=str(API_VERSION),
        description=DESCRIPTION,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.add_middleware(Gate, token=token, hosts=hosts)
    _add_error_answers(app)
    bearer = HTTPBearer(auto_error=False, description="The gate has checked it already.")
    api = APIRouter(
        prefix="/api", dependencies=[Depends(bearer)], responses=_refusals(401, 403, 411, 413)
    )
    _add_views(api, board, desk, views)
    _add_commands(api, desk)
    app.include_router(api)
    app.state.board = board

    @app.websocket("/api/stream")
    async def stream(websocket: WebSocket) -> None:
        await board.serve(websocket)

    return app


def _add_views(api: APIRouter, board: Board, desk: Desk, views: Views) -> None:
    @api.get("/station", response_model=Snapshot)
    async def station() -> Response:
        """The station as it is now."""
        return _plain(await board.snapshot())

    @api.get("/protocols")
    async def protocols() -> list[ProtocolInfo]:
        """Protocols with the schemas of their parameters."""
        # Beside the loop: a script of the bench's folder is carried out to be listed.
        return list(await asyncio.to_thread(desk.protocols))

    @api.get("/runs", response_model=list[RunSummary])
    async def runs() -> Response:
        """Records in the station's folder, the newest first."""
        return _json(await views.runs())

    @api.get("/runs/{run}", response_model=RunDetail, responses=OF_A_RUN)
    async def run_detail(run: Run) -> Response:
        """A run with its steps, journal, gaps and limits."""
        return _json(await _soon(views.run(run)))

    @api.get("/runs/{run}/cycles", response_model=list[CycleRow], responses=OF_A_RUN)
    async def cycles(run: Run) -> Response:
        """The cycles of a run so far."""
        return _json(await views.cycles(run))

    @api.get(
        "/runs/{run}/curves",
        response_class=Response,
        responses=OF_A_RUN
        | _binary("QUANTITY/time (s), QUANTITY/value (SI), QUANTITY/exact of each that there is"),
    )
    async def curves(
        run: Run,
        quantities: Annotated[
            str, Query(description="Names, separated by commas", max_length=2000)
        ],
        start: Time = None,
        end: Time = None,
        bins: Annotated[
            int, Query(description="Width of the plot, pixels", ge=1, le=20_000)
        ] = 1200,
    ) -> Response:
        """Quantities against time for a viewport, one reading beyond it on either side."""
        names = [name for name in quantities.split(",") if name]
        content = await _soon(views.curves(run, names, start, end, bins))
        return Response(content, media_type=NPZ)

    @api.get(
        "/runs/{run}/loops",
        response_class=Response,
        responses=OF_A_RUN
        | _binary("N/cycle, N/charging, N/charge (C) and N/voltage (V) of each half cycle N"),
    )
    async def loops(
        run: Run,
        points: Annotated[int, Query(description="At most so many each", ge=2, le=100_000)] = 1000,
    ) -> Response:
        """Voltage against charge, half cycle by half cycle."""
        return Response(await views.loops(run, points), media_type=NPZ)

    @api.get(
        "/runs/{run}/rows",
        response_class=Response,
        responses=OF_A_RUN | _binary("An array a column"),
    )
    async def rows(run: Run, start: Time = None, end: Time = None) -> Response:
        """The committed samples of a stretch as they were recorded, by column."""
        content = await views.rows(run, start, end)
        return StreamingResponse(
            _slices(content), media_type=NPZ,
            headers={"Content-Length": str(len(content))},
        )  # fmt: skip


def _add_commands(api: APIRouter, desk: Desk) -> None:
    checking, predicting = asyncio.Lock(), asyncio.Lock()

    async def must_exist(channel: Channel) -> None:
        names = [status.name for status in desk.statuses()]
        if channel not in names:
            raise HTTPException(
                404, f"there is no channel '{channel}'; the bench has {', '.join(names)}"
            )

    channels = APIRouter(
        prefix="/channels/{channel}",
        dependencies=[Depends(must_exist)],
        responses=_refusals(404, 409, 415, 422),
    )

    @channels.post("/check")
    async def check(channel: Channel, request: RunRequest) -> CheckReport:
        """What a request would do on a channel, or all that is wrong with it."""
        # Pure computing: beside the loop, and one at a time, so that it costs one thread's share.
        async with checking:
            return await asyncio.to_thread(desk.check, channel, request)

    @channels.post(
        "/dry-run", response_model=Prediction, responses=_refusals(404, 409, 415, 422, 503)
    )
    async def dry_run(channel: Channel, request: RunRequest, at_most: AtMost = 60.0) -> Response:
        """What would come of a request, SIMULATED on the twin of the channel; touches nothing."""
        report = await asyncio.to_thread(desk.check, channel, request)
        if not report.ok:
            raise RefusedError(report.problems[0].message, report.problems)
        if predicting.locked():
            raise BusyError("another dry run is being computed; ask again when it is done")
        async with predicting:
            name = request.recipe_name
            return _json(await predict_apart(desk.bench, channel, report.recipe, name, at_most))

    @channels.post("/start")
    async def start(channel: Channel, request: RunRequest, request_id: RequestId = "") -> Started:
        """Start a run; answers when its record exists."""
        return await desk.start(channel, request, request_id)

    @channels.post("/pause")
    async def pause(channel: Channel) -> Done:
        """Open the circuit and keep the step's time and charge."""
        return desk.pause(channel)

    @channels.post("/resume")
    async def resume(channel: Channel) -> Done:
        """Go on after a pause or hold."""
        return desk.resume(channel)

    @channels.post("/abort")
    async def abort(channel: Channel, run: ThisRun = "") -> Done:
        """End the run; answers when the output has been read back off, or could not be."""
        return await desk.abort(channel, run)

    @channels.post("/end-step")
    async def end_step(channel: Channel, step: ThisStep = 0, by: By = "") -> Done:
        """End the present step; the protocol goes on with the next."""
        return await desk.end_step(channel, step, _named(by))

    @channels.post("/limits/{name:path}")
    async def change_limit(channel: Channel, name: LimitName, new: NewLimit, by: By = "") -> Done:
        """Let a limit of the run under way act at another condition. The journal tells by whom."""
        return await desk.change_limit(channel, name, new.when, _named(by))

    @channels.post("/continue")
    async def go_on(channel: Channel, run: ThisRun = "") -> Started:
        """Go on with the last run, which was killed; answers when its record is open again."""
        return await desk.go_on(channel, run)

    @channels.post("/acknowledge")
    async def acknowledge(channel: Channel, run: ThisRun = "") -> Done:
        """Say that a trip, fault or killed run has been seen, so that the next run may start."""
        return desk.acknowledge(channel, run)

    api.include_router(channels)

    @api.post("/stop", responses=_refusals(415))
    async def stop_all() -> Done:
        """Abort every run; answers when every output has been read back off, or could not be."""
        return await desk.stop_all()

    @api.post("/shutdown", response_model=Done, responses=_refusals(415))
    async def shut_down() -> Response:
        """Abort every run and end the station. Answers first."""

        async def end() -> None:
            desk.shut_down()

        done = Done(ok=True, message="the station ends its runs, and then itself")
        return _plain(done, background=BackgroundTask(end))


def _named(by: str) -> str:
    """Who asks, as the journal may have it."""
    plain = "".join(letter for letter in by if letter.isprintable())
    return plain.strip()[:100] or "a client"


async def _soon(answer: Awaitable[bytes]) -> bytes:
    try:
        async with asyncio.timeout(PLOT_PATIENCE):
            return await answer
    except TimeoutError:
        raise BusyError("the record is still being read; ask again in a moment") from None


async def _slices(content: bytes) -> AsyncIterator[memoryview]:
    for start in range(0, len(content), SLICE):
        yield memoryview(content)[start : start + SLICE]


def _plain(
    model: BaseModel, status: int = 200, background: BackgroundTask | None = None
) -> Response:
    return _json(model.model_dump_json().encode(), status, background)


def _json(content: bytes, status: int = 200, background: BackgroundTask | None = None) -> Response:
    return Response(content, status, media_type="application/json", background=background)


def _add_error_answers(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        refusal = Refusal(message=str(error), problems=list(error.problems))
        return _plain(refusal, 422 if error.problems else 409)

    async def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [
            Problem(where=".".join(map(str, found["loc"][1:])), message=str(found["msg"]))
            for found in error.errors()
        ]
        first = "; ".join(f"{problem.where}: {problem.message}" for problem in problems[:3])
        return _plain(Refusal(message=f"the request is malformed: {first}", problems=problems), 422)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _plain(Refusal(message=str(error.detail)), error.status_code)

    async def unexpected(_: Request, error: Exception) -> Response:
        return _plain(Refusal(message=f"the station failed: {type(error).__name__}: {error}"), 500)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
    kinds: tuple[tuple[type[OperandoError], int], ...] = (
        (UnknownRunError, 404),
        (RecordError, 500),
        (ReaderLostError, 503),
        (BusyError, 503),
        (DryRunLostError, 503),
        (OperandoError, 409),
    )
    for kind, status in kinds:
        app.add_exception_handler(kind, _says(status))


def _says(status: int) -> Any:
    async def answer(_: Request, error: Exception) -> Response:
        return _plain(Refusal(message=str(error)), status)

    return answer


class Gate:
    """Lets in what names this host, comes from no other origin and bears the token.

    A browser sends the Host of the page's own address (so that a name which an attacker lets
    resolve to this computer shows) and the Origin of the page; our clients send no Origin.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str]) -> None:
        self._app = app
        self._bearer = f"Bearer {token}".encode()
        self._hosts = {host.lower().encode() for host in hosts}
        self._origins = {b"http://" + host for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is let in, and answer the rest."""
        refusal = self._judge(scope) if scope["type"] != "lifespan" else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1][:120]})
        else:
            await _plain(Refusal(message=refusal[1]), refusal[0])(scope, receive, send)

    def _judge(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason of a refusal; None lets it in."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 403, "this station does not answer to that host"
        if not self._origins.issuperset(headers.get(b"origin", [])):
            return 403, "requests from web pages are refused"
        tokens = headers.get(b"authorization", [])
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self._bearer):
            return 401, "the token is missing or wrong; it is in the station's note"
        trust(scope)
        if scope["type"] == "http":
            return _wrong_body(scope["method"], headers)
        return None


def _wrong_body(method: str, headers: dict[bytes, list[bytes]]) -> tuple[int, str] | None:
    if b"transfer-encoding" in headers:
        return 411, "a body needs its Content-Length"
    lengths = headers.get(b"content-length", [b"0"])
    if not lengths[-1].isdigit() or int(lengths[-1][:20]) > LONGEST_BODY:
        return 413, f"a body has at most {LONGEST_BODY} bytes"
    kind = headers.get(b"content-type", [b""])[-1].partition(b";")[0].strip().lower()
    if method == "POST" and kind != b"application/json":
        return 415, "a body is application/json"
    return None
