"""Who is let in: our clients with the token, and no web page in any browser."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from operando.station.client import StationClient, StationLostError
from operando.station.views import Views
from station.served_stub import TOKEN, Served, StubDesk, author, warm_views, write_cycle

pytestmark = pytest.mark.sockets

BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    root = tmp_path_factory.mktemp("station")
    for output, name in ((root / "runs", "ours"), (root, "elsewhere"), (root / "runs", ".hidden")):
        with author(output, name) as writing:
            write_cycle(writing)
    with warm_views(root / "runs") as views:
        yield views


@pytest.fixture
def station(views: Views, tmp_path: Path) -> Iterator[Served]:
    with Served(StubDesk(tmp_path), views) as served:
        yield served


def post(station: Served, path: str, headers: dict[str, str], body: bytes = b"") -> httpx.Response:
    with httpx.Client(trust_env=False) as http:
        return http.post(station.url + path, headers=headers, content=body)


def get(station: Served, path: str, headers: dict[str, str]) -> httpx.Response:
    with httpx.Client(trust_env=False) as http:
        return http.get(station.url + path, headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Cookie": f"token={TOKEN}"},
    ],
)
def test_nothing_answers_without_the_token(station: Served, headers: dict[str, str]) -> None:
    for path in ("/api/station", "/api/runs", "/openapi.json", "/nowhere"):
        answer = get(station, path, headers)
        assert answer.status_code == 401
        assert "token" in answer.json()["message"]
    assert post(station, "/api/stop", headers | JSON).status_code == 401
    assert station.desk.asked == []
    with pytest.raises(InvalidStatus):
        connect(f"ws://{station.host}/api/stream", additional_headers=headers, proxy=None)


def test_the_token_in_the_address_is_of_no_use(station: Served) -> None:
    assert get(station, f"/api/station?token={TOKEN}", {}).status_code == 401


def test_a_client_with_a_wrong_token_cannot_open_the_stream(station: Served) -> None:
    with StationClient(station.url, "wrong") as client, pytest.raises(StationLostError):
        client.stream()


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", ""]
)
def test_a_web_page_is_refused_even_with_the_token(station: Served, origin: str) -> None:
    headers = BEARER | {"Origin": origin}
    assert get(station, "/api/station", headers).status_code == 403
    assert post(station, "/api/stop", headers | JSON).status_code == 403
    assert station.desk.asked == []
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{station.host}/api/stream", additional_headers=headers, proxy=None)
    assert caught.value.response.status_code == 403


def test_a_name_that_was_made_to_point_here_is_refused(station: Served) -> None:
    for host in ("evil.example", f"evil.example:{station.port}", f"127.0.0.2:{station.port}"):
        headers = BEARER | {"Host": host}
        assert get(station, "/api/station", headers).status_code == 403
        assert post(station, "/api/stop", headers | JSON).status_code == 403
    assert station.desk.asked == []
    request = (
        f"GET /api/stream HTTP/1.1\r\nHost: evil.example:{station.port}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert raw(station, request).startswith("HTTP/1.1 403")


def test_both_names_of_this_computer_are_let_in(station: Served) -> None:
    for host in (station.host, f"localhost:{station.port}", f"LOCALHOST:{station.port}"):
        assert get(station, "/api/station", BEARER | {"Host": host}).status_code == 200
    own = BEARER | {"Origin": station.url}
    assert get(station, "/api/station", own).status_code == 200


def test_no_answer_invites_other_origins(station: Served) -> None:
    with httpx.Client(trust_env=False) as http:
        preflight = http.options(
            f"{station.url}/api/stop",
            headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        )
    assert preflight.status_code == 403
    for answer in (preflight, get(station, "/api/station", BEARER)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_form_of_a_web_page_is_no_command(station: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = post(station, "/api/stop", BEARER | {"Content-Type": kind})
        assert answer.status_code == 415
    assert post(station, "/api/stop", BEARER).status_code == 415
    assert station.desk.asked == []


def test_a_body_without_end_is_not_read(station: Served) -> None:
    path = "/api/channels/A1/check"
    answer = post(station, path, BEARER | JSON, b'{"recipe": "' + b"x" * 2_000_000 + b'"}')
    assert answer.status_code == 413
    chunked = (
        f"POST {path} HTTP/1.1\r\nHost: {station.host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert raw(station, chunked).startswith("HTTP/1.1 411")
    assert station.desk.asked == []


@pytest.mark.parametrize(
    "run",
    [
        "..", "../elsewhere", "..%2Felsewhere", "%2e%2e%2felsewhere", "%2e%2e", ".", ".hidden",
        "%2Fetc", "..%5Celsewhere", "C:", "ours%00", "ours%2F", "ours%2F..%2Fours", "%FF",
        "x" * 300, "*", "our",
    ],
)  # fmt: skip
def test_a_run_is_a_name_and_never_a_path(station: Served, run: str) -> None:
    for what in ("", "/cycles", "/rows", "/loops", "/curves?quantities=voltage"):
        answer = raw(
            station,
            f"GET /api/runs/{run}{what} HTTP/1.1\r\nHost: {station.host}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n",
        )
        assert answer.startswith("HTTP/1.1 404"), (what, answer[:200])


def test_the_run_beside_them_is_found(station: Served) -> None:
    assert get(station, "/api/runs/ours", BEARER).status_code == 200


def raw(station: Served, request: str) -> str:
    """What the station answers to bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", station.port), timeout=10.0) as connection:
        connection.sendall(request.encode())
        received = b""
        while b"\r\n\r\n" not in received and (more := connection.recv(65536)):
            received += more
        return received.decode("latin-1")
