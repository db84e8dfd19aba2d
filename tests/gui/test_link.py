"""The window's threads to its station, against a small station that does as it is told."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.gui import link as link_module
from operando.gui.link import FOREIGN, Back, LinkMessage, Lost, StationLink, _Inbox
from operando.station.client import Rows, Snapshot, StationClient, StationLostError
from support.stand_in import ScriptedClient, StandIn, rows, snapshot, station_process

pytestmark = pytest.mark.sockets


@pytest.fixture
def station() -> Iterator[StandIn]:
    stand_in = StandIn()
    try:
        yield stand_in
    finally:
        stand_in.kill()


@contextlib.contextmanager
def linked(url: str) -> Iterator[StationLink]:
    """A link that has been started."""
    link = StationLink(url, token="token")
    link.start()
    try:
        yield link
    finally:
        link.close()


def drained(
    link: StationLink, until: Callable[[list[LinkMessage]], bool], timeout: float = 10.0
) -> list[LinkMessage]:
    """All that the link delivers until the messages are enough."""
    seen: list[LinkMessage] = []
    deadline = time.monotonic() + timeout
    while not until(seen):
        assert time.monotonic() < deadline, f"not within {timeout:g} s; came: {seen}"
        select.select([], [], [], 0.005)
        seen += link.drain()
    return seen


def has(kind: type) -> Callable[[list[LinkMessage]], bool]:
    """Whether a message of a kind has come."""
    return lambda seen: any(isinstance(message, kind) for message in seen)


def holding(begun: threading.Event, release: threading.Event) -> Callable[[object], str]:
    """Work that says that it has begun and goes on when it is released."""

    def work(client: object) -> str:
        begun.set()
        assert release.wait(20.0)
        return "held up"

    return work


def delivered(answers: list[object], count: int = 1) -> Callable[[list[LinkMessage]], bool]:
    """Whether so many answers have come."""
    return lambda _: len(answers) >= count


def scripted(client: ScriptedClient) -> StationLink:
    """A link to it."""
    return StationLink("http://127.0.0.1:1", client=cast(StationClient, client))


# The stream


def test_no_thread_runs_before_start() -> None:
    before = set(threading.enumerate())
    asked: list[object] = []
    link = StationLink("http://127.0.0.1:1", token="token")
    link.follow(["a"])
    link.ask("key", lambda client: 1, asked.append)
    link.command(lambda client: 1, asked.append)
    assert set(threading.enumerate()) == before
    link.close()
    assert link.drain() == []
    assert asked == []


def test_what_was_wanted_before_start_is_done_after_it(station: StandIn) -> None:
    answers: list[object] = []
    link = StationLink(station.url, token="token")
    link.follow(["a"])
    link.ask("key", lambda client: "answer", answers.append)
    link.command(lambda client: "done", answers.append)
    link.start()
    try:
        drained(link, delivered(answers, 2))
        assert station.follows.get(timeout=5.0) == ["a"]
    finally:
        link.close()
    assert sorted(map(str, answers)) == ["answer", "done"]


def test_the_first_snapshot_comes_before_the_return(station: StandIn) -> None:
    with linked(station.url) as link:
        seen = drained(link, has(Back))
    assert [type(message) for message in seen[:2]] == [Snapshot, Back]


def test_rows_arrive_in_the_order_in_which_they_were_sent(station: StandIn) -> None:
    with linked(station.url) as link:
        drained(link, has(Back))
        for number in range(100):
            station.send(rows("a", number))
        seen = drained(link, lambda seen: sum(isinstance(m, Rows) for m in seen) == 100)
    arrived = [message for message in seen if isinstance(message, Rows)]
    assert arrived == [rows("a", number) for number in range(100)]


def test_drain_gives_no_more_than_was_asked_for() -> None:
    client = ScriptedClient(snapshot(), *(rows("a", number) for number in range(10)))
    link = scripted(client)
    link.start()
    assert client.empty.wait(5.0)
    first, second = link.drain(limit=4), link.drain(limit=100)
    link.close()
    assert len(first) == 4
    assert [*first, *second] == [snapshot(), Back(), *(rows("a", number) for number in range(10))]


def test_a_killed_station_is_lost_within_two_seconds(station: StandIn) -> None:
    with linked(station.url) as link:
        drained(link, has(Back))
        before = time.monotonic()
        station.kill()
        seen = drained(link, has(Lost), timeout=2.0)
    losses = [message for message in seen if isinstance(message, Lost)]
    assert len(losses) == 1
    assert station.url in losses[0].why or "broke" in losses[0].why
    assert before - 1.0 < losses[0].since < time.monotonic()


def test_a_station_that_is_not_there_is_lost_from_the_start(free_port: int) -> None:
    with linked(f"http://127.0.0.1:{free_port}") as link:
        seen = drained(link, has(Lost), timeout=2.0)
    assert len(seen) == 1
    assert isinstance(seen[0], Lost)
    assert seen[0].why == "no station answers there"


def test_a_loss_is_told_once_however_often_the_return_is_tried() -> None:
    class Gone(ScriptedClient):
        tried = threading.Semaphore(0)

        def stream(self) -> ScriptedClient:
            self.tried.release()
            raise StationLostError("gone")

    client = Gone()
    link = scripted(client)
    link.start()
    seen = drained(link, has(Lost))
    for _ in range(4):
        assert client.tried.acquire(timeout=5.0)
    more = link.drain()
    link.close()
    assert [message.why for message in seen if isinstance(message, Lost)] == ["gone"]
    assert len(seen) == 1
    assert more == []


def test_a_silent_station_is_lost_though_its_socket_is_open(station: StandIn) -> None:
    with linked(station.url) as link:
        drained(link, has(Back))
        station.beating.clear()
        seen = drained(link, has(Lost), timeout=5.0)
        station.beating.set()
        seen += drained(link, has(Back))
    lost = next(message for message in seen if isinstance(message, Lost))
    assert "no sign of life" in lost.why
    kinds = [type(message) for message in seen if not isinstance(message, Rows)]
    assert kinds[-2:] == [Snapshot, Back]


def test_what_this_process_slept_is_no_silence_of_the_station(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]

    def take_an_hour() -> None:
        now[0] += 3600.0

    monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    client = ScriptedClient(
        snapshot(1), None, snapshot(2), None, None, snapshot(3), took=take_an_hour
    )
    link = scripted(client)
    link.start()
    assert client.empty.wait(5.0)
    seen = link.drain()
    monkeypatch.undo()
    link.close()
    assert seen == [snapshot(3), Back()]


def test_a_message_that_is_not_understood_is_a_loss_and_does_not_end_the_thread() -> None:
    class Foreign(ScriptedClient):
        calls = 0

        def receive(self, timeout: float) -> Snapshot | Rows | None:
            self.calls += 1
            if self.calls == 1:
                raise ValueError("not JSON")
            return super().receive(timeout)

    link = scripted(Foreign(snapshot()))
    link.start()
    seen = drained(link, has(Back))
    link.close()
    assert isinstance(seen[0], Lost)
    assert seen[0].why == FOREIGN
    assert seen[1:] == [snapshot(), Back()]


def test_after_a_return_the_runs_are_followed_again(free_port: int) -> None:
    first = StandIn(free_port)
    with linked(first.url) as link:
        link.follow({"b", "a"})
        assert first.follows.get(timeout=5.0) == ["a", "b"]
        drained(link, has(Back))
        first.kill()
        drained(link, has(Lost))
        second = StandIn(free_port, instance="second")
        try:
            seen = drained(link, has(Back), timeout=3.0)
            assert second.follows.get(timeout=5.0) == ["a", "b"]
            link.follow([])
            assert second.follows.get(timeout=5.0) == []
        finally:
            second.kill()
    back = seen.index(Back())
    assert isinstance(seen[back - 1], Snapshot)


# A real process that dies or stands still


def test_a_process_that_was_killed_is_lost_within_two_seconds() -> None:
    with station_process() as (process, url), linked(url) as link:
        drained(link, has(Back))
        process.kill()
        drained(link, has(Lost), timeout=2.0)


def test_a_process_that_stands_still_is_lost_and_comes_back() -> None:
    with station_process() as (process, url), linked(url) as link:
        drained(link, has(Back))
        process.send_signal(signal.SIGSTOP)
        seen = drained(link, has(Lost), timeout=4.0)
        process.send_signal(signal.SIGCONT)
        drained(link, has(Back), timeout=8.0)
    lost = next(message for message in seen if isinstance(message, Lost))
    assert "no sign of life" in lost.why


# Questions and commands


def test_an_answer_is_delivered_in_the_thread_that_drains(station: StandIn) -> None:
    answers: list[tuple[str, threading.Thread]] = []
    with linked(station.url) as link:
        link.ask(
            "station",
            lambda client: client.snapshot(),
            lambda answer: answers.append((answer.instance, threading.current_thread())),
        )
        drained(link, lambda _: bool(answers))
    assert answers == [("first", threading.current_thread())]


def test_of_questions_with_the_same_key_only_the_newest_counts(station: StandIn) -> None:
    begun, release = threading.Event(), threading.Event()
    ran: list[int] = []
    answers: list[object] = []

    def note(number: int) -> Callable[[StationClient], int]:
        def work(client: StationClient) -> int:
            ran.append(number)
            return number

        return work

    with linked(station.url) as link:
        link.ask("curves", holding(begun, release), answers.append)
        assert begun.wait(5.0)
        for number in range(5):
            link.ask("curves", note(number), answers.append)
        link.ask("other", note(99), answers.append)
        release.set()
        drained(link, delivered(answers, 2))
    assert ran == [4, 99]
    assert answers == [4, 99]


def test_a_question_that_is_forgotten_is_not_answered(station: StandIn) -> None:
    answers: list[object] = []
    begun, release = threading.Event(), threading.Event()
    with linked(station.url) as link:
        link.ask("gone", holding(begun, release), answers.append)
        assert begun.wait(5.0)
        link.forget("gone")
        release.set()
        link.ask("here", lambda client: "here", answers.append)
        drained(link, delivered(answers))
    assert answers == ["here"]


def test_a_command_does_not_wait_behind_a_slow_question(station: StandIn) -> None:
    begun, release = threading.Event(), threading.Event()
    answers: list[object] = []
    with linked(station.url) as link:
        link.ask("slow", holding(begun, release), answers.append)
        assert begun.wait(5.0)
        link.command(lambda client: client.snapshot().bench, answers.append)
        drained(link, delivered(answers), timeout=5.0)
        assert answers == ["bench"]
        release.set()


def test_a_failure_is_told_to_who_asked_and_kept_otherwise(station: StandIn) -> None:
    told: list[Exception] = []
    answers: list[object] = []
    problem, other = ValueError("asked"), KeyError("commanded")

    def fail(error: Exception) -> Callable[[StationClient], object]:
        def work(client: StationClient) -> object:
            raise error

        return work

    with linked(station.url) as link:
        link.ask("key", fail(problem), answers.append)
        drained(link, lambda _: link.last_error is problem)
        link.command(fail(other), answers.append, told.append)
        drained(link, lambda _: bool(told))
    assert told == [other]
    assert link.last_error is other
    assert answers == []


def test_a_delivery_that_raises_comes_out_of_drain_and_loses_no_message() -> None:
    client = ScriptedClient(snapshot(), rows("a"))

    def explode(answer: object) -> None:
        raise RuntimeError("in a widget")

    link = scripted(client)
    link.command(lambda client: "done", explode)
    link.start()
    try:
        assert client.empty.wait(5.0)
        for thread in threading.enumerate():
            if thread.name == "operando-command":
                thread.join(5.0)
        with pytest.raises(RuntimeError, match="in a widget"):
            link.drain()
        assert link.drain() == [snapshot(), Back(), rows("a")]
    finally:
        link.close()


def test_questions_to_another_start_of_the_station_are_dropped_but_commands_are_told(
    free_port: int,
) -> None:
    release = threading.Event()
    begun = threading.Semaphore(0)
    asked: list[object] = []
    commanded: list[object] = []
    ran: list[str] = []

    def wait(client: StationClient) -> str:
        begun.release()
        assert release.wait(20.0)
        return "of the first"

    first = StandIn(free_port)
    with linked(first.url) as link:
        drained(link, has(Back))
        link.ask("running", wait, asked.append, asked.append)
        link.command(wait, commanded.append)
        assert begun.acquire(timeout=5.0)
        assert begun.acquire(timeout=5.0)
        link.ask("waiting", lambda client: ran.append("waiting"), asked.append, asked.append)
        first.kill()
        drained(link, has(Lost))
        second = StandIn(free_port, instance="second")
        try:
            drained(link, has(Back))
            release.set()
            link.ask("again", lambda client: client.snapshot().instance, asked.append)
            drained(link, lambda _: bool(asked) and bool(commanded))
        finally:
            second.kill()
    assert asked == ["second"]
    assert ran == []
    assert commanded == ["of the first"]


# A window that does not look


def test_a_window_that_does_not_drain_gets_the_newest_snapshot_and_a_mark_for_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "READINGS", 50)
    script: list[Snapshot | Rows | None] = []
    for number in range(200):
        script += [snapshot(number), rows("a", number), rows("b", number)]
    client = ScriptedClient(*script, rows("c"))
    link = scripted(client)
    link.start()
    assert client.empty.wait(5.0)
    seen = link.drain()
    link.close()
    marks = [Rows(run=run, quantities={}, skipped=True) for run in ("a", "b")]
    assert seen == [snapshot(199), Back(), *marks, rows("c")]


def test_after_a_mark_was_drained_rows_are_delivered_again() -> None:
    inbox = _Inbox()
    for number in range(link_module.MESSAGES + 5):
        inbox.put(rows("a", number))
    assert inbox.take(10) == [Rows(run="a", quantities={}, skipped=True)]
    inbox.put(rows("a", 7))
    assert inbox.take(10) == [rows("a", 7)]


def test_a_connection_that_comes_and_goes_leaves_its_last_state_alone() -> None:
    inbox = _Inbox()
    for number in range(50):
        inbox.put(Lost("gone", float(number)))
        inbox.put(snapshot(number), Back())
    assert inbox.take(100) == [Lost("gone", 49.0), snapshot(49), Back()]


events = st.sampled_from(["snapshot", "rows a", "rows b", "lost", "back", "take"])


@given(st.lists(events, max_size=60))
def test_what_waits_is_bounded_and_ends_as_it_came(script: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_module, "READINGS", 6)
        patch.setattr(link_module, "MESSAGES", 12)
        inbox, serial, connected = _Inbox(), 0, False
        for word in script:
            if word == "snapshot" and connected:
                inbox.put(snapshot(serial := serial + 1))
            elif word == "back" and not connected:
                inbox.put(snapshot(serial := serial + 1), Back())
                connected = True
            elif word == "lost" and connected:
                inbox.put(Lost("gone", float(serial)))
                connected = False
            elif word.startswith("rows"):
                inbox.put(rows(word[-1], count=2))
            elif word == "take":
                inbox.take(3)
        left = inbox.take(1000)
    assert len(left) <= 6 / 2 + 2 + 4
    states = [message for message in left if not isinstance(message, Rows)]
    if states:
        assert isinstance(states[-1], Lost) is not connected
    numbers = [message.serial for message in left if isinstance(message, Snapshot)]
    assert numbers == sorted(numbers)
    assert not numbers or not connected or numbers[-1] == serial
    assert inbox.take(1000) == []


# The end


def timed_close(link: StationLink) -> float:
    """Wall s that closing takes."""
    before = time.monotonic()
    link.close()
    return time.monotonic() - before


def test_close_is_idempotent_and_nothing_is_delivered_after_it(station: StandIn) -> None:
    answers: list[object] = []
    with linked(station.url) as link:
        drained(link, has(Back))
        link.command(lambda client: "late", answers.append)
        link.close()
        assert timed_close(link) < 0.1
        link.command(lambda client: "too late", answers.append)
        assert link.drain() == []
    assert answers == []


def test_a_command_given_just_before_the_end_is_still_sent(station: StandIn) -> None:
    reached: list[str] = []
    for _ in range(20):
        link = StationLink(station.url, token="token")
        link.start()
        link.command(lambda client: reached.append(client.snapshot().bench), lambda _: None)
        link.close()
    assert reached == ["bench"] * 20


@pytest.fixture
def hanging() -> Iterator[socket.socket]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_close_is_quick_while_the_station_hangs(hanging: socket.socket) -> None:
    begun = threading.Semaphore(0)

    def work(client: StationClient) -> Snapshot:
        begun.release()
        return client.snapshot()

    link = StationLink(f"http://127.0.0.1:{hanging.getsockname()[1]}", token="token")
    link.start()
    link.ask("key", work, lambda _: None)
    link.command(work, lambda _: None)
    assert begun.acquire(timeout=5.0)
    assert begun.acquire(timeout=5.0)
    assert timed_close(link) < 1.0


def test_close_is_quick_when_a_connected_station_falls_silent() -> None:
    with station_process() as (process, url), linked(url) as link:
        drained(link, has(Back))
        process.send_signal(signal.SIGSTOP)
        assert timed_close(link) < 1.0


def test_a_question_to_a_lost_station_fails_at_once(free_port: int) -> None:
    told: list[object] = []
    with linked(f"http://127.0.0.1:{free_port}") as link:
        link.ask("key", StationClient.snapshot, told.append, told.append)
        drained(link, delivered(told), timeout=2.0)
    assert isinstance(told[0], StationLostError)
