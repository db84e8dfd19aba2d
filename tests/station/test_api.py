"""Every endpoint of the station's API, through the real client and over a real socket."""

from __future__ import annotations

import io
import math
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from operando.station.client import (
    Problem,
    RefusedError,
    RunRequest,
    StationClient,
    StationLostError,
)
from operando.station.views import Views
from station.served_stub import (
    TOKEN,
    Served,
    StubDesk,
    author,
    status,
    warm_views,
    write_cycle,
)

pytestmark = pytest.mark.sockets


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    output = tmp_path_factory.mktemp("records")
    with author(output, "cycled") as writing:
        write_cycle(writing)
    with author(output, "started", started="2026-02-01T00:00:00+00:00") as writing:
        writing.sample(0.0)
        writing.commit()
        with warm_views(output) as views:
            yield views


@pytest.fixture
def station(views: Views) -> Iterator[Served]:
    desk = StubDesk(
        Path("unused"),
        (
            status("A1", state="running", run="started", elapsed=90.0, output="on"),
            status("A2", run="cycled", state="completed"),
        ),
    )
    with Served(desk, views) as served:
        yield served


@pytest.fixture
def client(station: Served) -> Iterator[StationClient]:
    with station.client() as client:
        yield client


def test_a_snapshot_joins_what_the_bench_says_and_what_is_committed(client: StationClient) -> None:
    snapshot = client.snapshot()
    running, over = snapshot.channels
    assert (snapshot.instance, snapshot.bench, snapshot.speed) == ("i1", "bench.toml", 60.0)
    assert running.latest["voltage"].value == 3.7
    assert running.rows == 1
    assert running.age == 90.0  # laboratory seconds since the only reading, which was at 0 s
    assert over.latest["pressure"].value == pytest.approx(5.099e6)
    assert over.rows == 200
    assert over.age is None


def test_protocols_come_with_their_schemas(client: StationClient) -> None:
    (protocol,) = client.protocols()
    assert protocol.name == "cccv"
    assert protocol.parameters["properties"] == {"cycles": {"default": 1}}


def test_runs_are_listed_the_newest_first_with_how_they_ended(client: StationClient) -> None:
    newest, oldest = client.runs()
    assert (newest.run, newest.state) == ("started", "running")
    assert (oldest.run, oldest.state) == ("cycled", "completed")
    assert (oldest.channel, oldest.cell, oldest.protocol) == ("A1", "NCM811/1", "cccv")
    assert oldest.duration == 1e4
    assert oldest.simulated


def test_a_run_tells_its_steps_journal_and_limits(client: StationClient) -> None:
    detail = client.run("cycled")
    assert {"voltage", "current", "pressure"} <= set(detail.quantities)
    assert detail.start == 0.0
    assert detail.end == pytest.approx(1990.5)
    assert [step.label for step in detail.steps] == ["charge", "discharge"]
    assert detail.steps[0].setpoint == "1.00 mA"
    assert detail.steps[0].condition == "voltage >= 4.25 V"
    assert detail.reason == "it came to its end"
    assert detail.cell is not None
    assert detail.cell.metadata == {"electrolyte": "Li6PS5Cl", "layers": 2}
    texts = [line.text for line in detail.journal]
    assert texts[0] == "run started on channel A1"
    assert texts[1] == "step 1, cycle 1: charge, 1.00 mA, until voltage >= 4.25 V"
    over_voltage, drift = detail.limits
    assert (over_voltage.quantity, over_voltage.bound, over_voltage.above) == ("voltage", 4.3, True)
    assert (drift.quantity, drift.action) == (None, "warn")


def test_cycles_are_those_that_the_evaluation_finds(client: StationClient) -> None:
    (cycle,) = client.cycles("cycled")
    assert cycle.charge_capacity == pytest.approx(0.99)
    assert cycle.discharge_capacity == pytest.approx(0.99, rel=0.02)
    assert cycle.pressure_swing == pytest.approx(9.9e4, rel=0.02)
    assert cycle.flags == ()


def test_a_narrow_curve_holds_every_reading_and_one_beyond_either_side(
    client: StationClient,
) -> None:
    curves = client.curves("cycled", ["voltage", "pressure"], start=100.0, end=200.0)
    assert set(curves) == {"voltage", "pressure"}
    voltage = curves["voltage"]
    assert voltage.exact
    assert voltage.time.tolist() == [90.0 + 10.0 * n for n in range(13)]
    assert voltage.value[1] == pytest.approx(3.55)


def test_a_quantity_that_was_not_recorded_is_left_out(client: StationClient) -> None:
    assert set(client.curves("cycled", ["voltage", "humour"])) == {"voltage"}
    assert client.curves("cycled", ["humour"]) == {}


def test_loops_come_half_cycle_by_half_cycle(client: StationClient) -> None:
    charge, discharge = client.loops("cycled")
    assert (charge.cycle, charge.charging, discharge.charging) == (1, True, False)
    assert charge.charge[-1] == pytest.approx(0.99)
    assert np.all(np.diff(charge.charge) >= 0.0)
    assert charge.voltage[-1] == pytest.approx(3.5 + 0.495)


def test_rows_are_the_samples_as_they_were_recorded(client: StationClient) -> None:
    rows = client.rows("cycled", start=100.0, end=199.0)
    assert rows["time"].tolist() == [100.0 + 10.0 * n for n in range(10)]
    assert rows["regulation"].tolist() == ["current"] * 10
    # The load cell is read half a second after each sample: joined is the value before.
    assert rows["pressure"][0] == pytest.approx(5.009e6)


def test_commands_reach_the_channel_they_name(client: StationClient, station: Served) -> None:
    request = RunRequest(protocol="cccv", parameters={"cycles": 3})
    report = client.check("A1", request)
    assert report.problems[0].where == "parameters.cycles"
    assert client.start("A2", request).run == "run1"
    for command in (client.pause, client.resume, client.abort, client.acknowledge):
        assert command("A1").ok
    assert client.stop_all().message == "stop_all done"
    assert station.desk.asked == [
        ("check", "A1", "cccv"), ("start", "A2", "cccv"), ("pause", "A1"), ("resume", "A1"),
        ("abort", "A1"), ("acknowledge", "A1"), ("stop_all",),
    ]  # fmt: skip


def test_ids_of_starts_and_runs_reach_the_desk_as_they_are(
    client: StationClient, station: Served
) -> None:
    strange = "a&b=c d/é#1"
    client.start("A1", RunRequest(protocol="cccv"), strange)
    client.abort("A1", strange)
    client.acknowledge("A1", strange)
    assert station.desk.asked == [
        ("start", "A1", "cccv", strange), ("abort", "A1", strange), ("acknowledge", "A1", strange),
    ]  # fmt: skip


def test_edits_reach_the_desk_with_who_asked(station: Served) -> None:
    with StationClient(station.url, TOKEN, name="night shift") as client:
        assert client.end_step("A1", 3).ok
        assert client.change_limit("A1", "over / voltage (default)", "voltage > 4.3 V").ok
        assert client.go_on("A1", "run1").run == "run1"
    assert station.desk.asked == [
        ("end_step", "A1", "3", "night shift"),
        ("change_limit", "A1", "over / voltage (default)", "voltage > 4.3 V", "night shift"),
        ("go_on", "A1", "run1"),
    ]


def test_shutting_down_is_answered_before_it_happens(
    client: StationClient, station: Served
) -> None:
    assert client.shut_down().ok
    assert station.desk.shut.wait(5.0)


def test_a_refusal_reaches_the_client_in_the_desks_words(
    client: StationClient, station: Served
) -> None:
    station.desk.refusing = RefusedError("channel A1 is running already")
    with pytest.raises(RefusedError, match="channel A1 is running already") as caught:
        client.start("A1", RunRequest(protocol="cccv"))
    assert caught.value.problems == ()


def test_a_refusal_field_by_field_keeps_its_fields(client: StationClient, station: Served) -> None:
    problem = Problem(where="limits.over.when", message="there is no such quantity")
    station.desk.refusing = RefusedError("the recipe is wrong", [problem])
    with pytest.raises(RefusedError, match="the recipe is wrong") as caught:
        client.start("A1", RunRequest(protocol="cccv"))
    assert caught.value.problems == (problem,)


def test_an_unknown_channel_is_named_with_those_that_there_are(client: StationClient) -> None:
    with pytest.raises(RefusedError, match="there is no channel 'B7'; the bench has A1, A2"):
        client.abort("B7")


def test_an_unknown_run_is_refused(client: StationClient) -> None:
    for ask in (client.run, client.cycles, client.loops, client.rows):
        with pytest.raises(RefusedError, match="there is no run 'nowhere'"):
            ask("nowhere")
    with pytest.raises(RefusedError, match="there is no run 'nowhere'"):
        client.curves("nowhere", ["voltage"])


def test_a_station_that_is_gone_is_said_to_be_lost(station: Served, client: StationClient) -> None:
    with Served(StubDesk(Path("unused")), station.views) as other:
        url = other.url
    with StationClient(url, TOKEN) as late, pytest.raises(StationLostError, match="not answer"):
        late.snapshot()
    with StationClient(url, TOKEN) as late, pytest.raises(StationLostError, match="not answer"):
        late.stream()


def test_what_is_not_a_number_is_null(client: StationClient, station: Served) -> None:
    station.desk.channels = (status("A1", progress=math.nan, time_left=math.inf),)
    (channel,) = client.snapshot().channels
    assert channel.progress is None
    assert channel.time_left is None


def get(station: Served, path: str) -> httpx.Response:
    return httpx.get(
        station.url + path, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
    )


def test_malformed_queries_are_refused_with_the_parameter(station: Served) -> None:
    for query, where in (
        ("bins=0&quantities=voltage", "bins"),
        ("bins=99999999&quantities=voltage", "bins"),
        ("start=nan&quantities=voltage", "start"),
        ("end=soon&quantities=voltage", "end"),
        ("", "quantities"),
    ):
        answer = get(station, f"/api/runs/cycled/curves?{query}")
        assert answer.status_code == 422
        assert [problem["where"] for problem in answer.json()["problems"]] == [where]


MODELS = {
    ("get", "/api/station"): "Snapshot",
    ("get", "/api/protocols"): "ProtocolInfo",
    ("get", "/api/runs"): "RunSummary",
    ("get", "/api/runs/{run}"): "RunDetail",
    ("get", "/api/runs/{run}/cycles"): "CycleRow",
    ("post", "/api/channels/{channel}/check"): "CheckReport",
    ("post", "/api/channels/{channel}/dry-run"): "Prediction",
    ("post", "/api/channels/{channel}/start"): "Started",
    ("post", "/api/channels/{channel}/pause"): "Done",
    ("post", "/api/channels/{channel}/resume"): "Done",
    ("post", "/api/channels/{channel}/abort"): "Done",
    ("post", "/api/channels/{channel}/acknowledge"): "Done",
    ("post", "/api/channels/{channel}/end-step"): "Done",
    ("post", "/api/channels/{channel}/limits/{name}"): "Done",
    ("post", "/api/channels/{channel}/continue"): "Started",
    ("post", "/api/stop"): "Done",
    ("post", "/api/shutdown"): "Done",
}
BINARY = {f"/api/runs/{{run}}/{name}" for name in ("curves", "loops", "rows")}


def test_the_openapi_document_has_every_endpoint_with_its_answer(station: Served) -> None:
    document = get(station, "/openapi.json").json()
    paths = document["paths"]
    assert set(paths) == {path for _, path in MODELS} | BINARY
    for (method, path), model in MODELS.items():
        content = paths[path][method]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"]
        assert schema.get("items", schema)["$ref"] == f"#/components/schemas/{model}"
    for path in BINARY:
        content = paths[path]["get"]["responses"]["200"]["content"]
        assert content == {"application/x-npz": {"schema": {"type": "string", "format": "binary"}}}
    for path, methods in paths.items():
        for operation in methods.values():
            assert operation["description"]
            assert operation["security"] == [{"HTTPBearer": []}]
            refusals = [
                answer["content"]["application/json"]["schema"]["$ref"]
                for code, answer in operation["responses"].items()
                if code != "200"
            ]
            assert {"401", "403"} <= set(operation["responses"])
            assert set(refusals) == {"#/components/schemas/Refusal"}, path


def test_an_answer_is_what_the_document_says_it_is(station: Served) -> None:
    answer = get(station, "/api/runs/cycled/curves?quantities=voltage")
    assert answer.headers["content-type"] == "application/x-npz"
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as arrays:
        assert set(arrays.files) == {"voltage/time", "voltage/value", "voltage/exact"}


def test_answers_do_not_wait_to_be_sent_together(station: Served, client: StationClient) -> None:
    client.snapshot()
    (connection,) = station._server.server_state.connections
    kept = connection.transport.get_extra_info("socket")
    assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_there_are_no_pages_that_load_scripts(station: Served) -> None:
    for path in ("/docs", "/redoc", "/"):
        answer = get(station, path)
        assert answer.status_code == 404
        assert set(answer.json()) == {"message", "problems"}
