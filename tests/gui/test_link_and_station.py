"""The window's threads against the station's own API, with real records behind it."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operando.gui.link import Back, LinkMessage, Lost, StationLink
from operando.gui.models.station import StationModel
from operando.station.client import Rows
from operando.station.views import Views
from station.served_stub import TOKEN, Author, Served, StubDesk, author, status, warm_views

pytestmark = pytest.mark.sockets


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Author]:
    """A record under way."""
    with author(tmp_path_factory.mktemp("records"), "live") as writing:
        writing.sample(0.0)
        writing.commit()
        yield writing


@pytest.fixture(scope="module")
def views(record: Author) -> Iterator[Views]:
    """Readers of it."""
    with warm_views(record.folder.parent) as views:
        yield views


def desk(instance: str = "i1") -> StubDesk:
    """A station with that run on its channel."""
    running = status("A1", state="running", run="live", elapsed=90.0, output="on")
    return StubDesk(Path("unused"), (running,), instance=instance)


def drained(
    link: StationLink, model: StationModel, until: Callable[[list[LinkMessage]], bool]
) -> list[LinkMessage]:
    """All messages, taken by the model, until they are enough."""
    seen: list[LinkMessage] = []
    deadline = time.monotonic() + 15.0
    while not until(seen):
        assert time.monotonic() < deadline, f"not within 15 s; came: {seen}"
        select.select([], [], [], 0.005)
        for message in link.drain():
            model.apply(message)
            seen.append(message)
    return seen


def times(seen: list[LinkMessage]) -> list[float]:
    """Of the rows of the run."""
    rows = [message for message in seen if isinstance(message, Rows) and message.run == "live"]
    return [time for message in rows for time in message.quantities["voltage"][0]]


def test_rows_answers_and_commands_go_through_and_all_is_whole_after_a_return(
    record: Author, views: Views
) -> None:
    model = StationModel()
    answers: list[str] = []
    first = Served(desk(), views)
    link = StationLink(first.url, token=TOKEN)
    link.follow(["live"])
    link.start()
    try:
        with first:
            drained(link, model, lambda seen: Back() in seen)
            assert model.current()
            assert model.view("A1").can_stop
            _rows_follow(link, model, record, 100.0)
            link.command(lambda client: client.abort("A1").message, answers.append)
            link.ask("run", lambda client: client.run("live").summary.run, answers.append)
            drained(link, model, lambda _: len(answers) == 2)
        assert sorted(answers) == ["abort done", "live"]
        assert first.desk.asked == [("abort", "A1")]
        drained(link, model, lambda seen: any(isinstance(message, Lost) for message in seen))
        assert not model.current()
        with Served(desk("i2"), views, first.port):
            drained(link, model, lambda seen: Back() in seen)
            assert model.current()
            assert model.snapshot is not None
            assert model.snapshot.instance == "i2"
            _rows_follow(link, model, record, 200.0)
    finally:
        link.close()


def _rows_follow(link: StationLink, model: StationModel, record: Author, start: float) -> None:
    """New rows are written until one comes: from when on a run is followed is not told."""
    written: list[float] = []

    def enough(seen: list[LinkMessage]) -> bool:
        if times(seen):
            return True
        record.sample(start + len(written))
        record.commit()
        written.append(start + len(written))
        return False

    came = times(drained(link, model, enough))
    assert set(came) <= set(written)
    assert came == sorted(came)
