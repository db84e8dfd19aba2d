"""Curves as the window holds them: exact in view, no reading twice, no line where none was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.gui.models.traces import ALL, TAIL, Trace, Traces, Viewport, pieces
from operando.station.client import Curve, Rows, StationLostError
from support.window import FakeLink, rows

RUN = "run-A1"
ALL_TIME = (-np.inf, np.inf)


class Record:
    """A record that grows, and the station's answers about it."""

    def __init__(self, link: FakeLink) -> None:
        self.time: list[float] = []
        self.value: list[float] = []
        self.asked: list[tuple[float | None, float | None, int]] = []
        link.client.answers["curves"] = self.curves

    def commit(self, times: Iterable[float]) -> Rows:
        """Add readings; returns the message that the station sends about them."""
        new = list(times)
        self.time += new
        self.value += [value_at(time) for time in new]
        return rows(RUN, voltage=(new, [value_at(time) for time in new]))

    def curves(
        self,
        run: str,
        quantities: Iterable[str],
        *,
        start: float | None,
        end: float | None,
        bins: int,
    ) -> dict[str, Curve]:
        """As a station answers: a reading on either side comes along; bins beyond two a pixel."""
        self.asked.append((start, end, bins))
        time, value = np.array(self.time), np.array(self.value)
        first = 0 if start is None else max(0, int(np.searchsorted(time, start)) - 1)
        last = len(time) if end is None else int(np.searchsorted(time, end, side="right")) + 1
        time, value = time[first:last], value[first:last]
        exact = len(time) <= 2 * bins
        if not exact:
            keep = {0, len(time) - 1}
            for part in np.array_split(np.arange(len(time)), bins):
                keep |= {int(part[np.argmin(value[part])]), int(part[np.argmax(value[part])])}
            time, value = time[sorted(keep)], value[sorted(keep)]
        return {name: Curve(time, value, exact) for name in quantities}


class HandLink(FakeLink):
    """A link whose questions are begun and delivered by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[tuple[Any, Any, Any]] = []

    def ask(self, key: str, work: Any, then: Any, failed: Any = None) -> None:
        self.questions.append((work, then, failed))


def value_at(time: float) -> float:
    return 3.0 + (7.0 * time) % 1.3


def shown(link: FakeLink, *, view: tuple[float, float] = ALL_TIME, pixels: int = 100) -> Traces:
    """Traces of the run that were asked for and answered."""
    traces = Traces(link)
    traces.show(RUN, ("voltage",))
    traces.look(*view, pixels)
    link.drain()
    return traces


def asked_by_hand(wake: Callable[[], None] | None = None) -> tuple[HandLink, Traces]:
    """Traces that have asked for a run of ten readings."""
    link = HandLink()
    Record(link).commit(range(10))
    traces = Traces(link, wake=wake)
    traces.show(RUN, ("voltage",))
    traces.look(*ALL_TIME, 100)
    assert len(link.questions) == 1
    return link, traces


@pytest.fixture
def record(link: FakeLink) -> Record:
    return Record(link)


# The viewport


def test_a_view_of_everything_keeps_room_for_what_comes_and_moves_in_steps() -> None:
    view = Viewport()
    assert view.advance(0.0, 1000.0, live=True)
    assert view.start == 0.0
    assert view.end == pytest.approx(1040.0)
    assert not view.advance(0.0, 1039.0, live=True)
    assert view.advance(0.0, 1041.0, live=True)
    assert view.end > 1041.0


def test_a_view_of_ten_minutes_shows_the_newest_ten() -> None:
    view = Viewport()
    view.follow(600.0)
    view.advance(0.0, 5000.0, live=True)
    assert view.end - view.start == pytest.approx(600.0)
    assert view.start < 5000.0 <= view.end
    before = view.start
    assert not view.advance(0.0, 5010.0, live=True)
    assert view.advance(0.0, 5030.0, live=True)
    assert view.start > before
    assert view.end - view.start == pytest.approx(600.0)


def test_a_view_of_ten_minutes_of_a_shorter_run_shows_all_of_it() -> None:
    view = Viewport()
    view.follow(600.0)
    view.advance(0.0, 120.0, live=True)
    assert view.start == 0.0
    assert 120.0 < view.end < 130.0


def test_a_run_that_is_over_is_shown_whole_with_a_small_margin() -> None:
    view = Viewport()
    view.advance(0.0, 1000.0, live=False)
    assert view.start == pytest.approx(-10.0)
    assert view.end == pytest.approx(1010.0)


def test_a_stretch_chosen_by_hand_stays_until_somebody_follows_again() -> None:
    view = Viewport()
    view.choose(100.0, 200.0)
    assert not view.advance(0.0, 5000.0, live=True)
    assert (view.start, view.end, view.follows) == (100.0, 200.0, False)
    assert view.wanted == (100.0, 200.0)
    view.follow(ALL)
    assert view.advance(0.0, 5000.0, live=True)
    assert view.wanted == ALL_TIME


def test_no_stretch_is_shorter_than_a_time_stamp_can_tell() -> None:
    view = Viewport()
    view.choose(5.0, 5.0)
    assert view.end > view.start


# Lines


def test_a_line_ends_at_a_reading_that_was_not_valid() -> None:
    time = np.arange(6.0)
    assert pieces(time, np.array([1, 2, np.nan, 4, 5, 6.0])) == [(0, 2), (3, 6)]


def test_no_line_crosses_a_gap() -> None:
    time = np.array([0.0, 1.0, 2.0, 50.0, 51.0])
    assert pieces(time, np.ones(5), [(2.0, 50.0)]) == [(0, 3), (3, 5)]
    assert pieces(time, np.ones(5), [(2.4, 49.9)]) == [(0, 3), (3, 5)]


def test_a_line_is_cut_where_a_pause_begins_and_where_it_ends() -> None:
    time = np.array([0.0, 1.0, 2.0, 50.0, 51.0])
    assert pieces(time, np.ones(5), (), [(2.4, 49.9)]) == [(0, 3), (3, 5)]
    assert pieces(time, np.ones(5), (), [(0.5, 50.5)]) == [(0, 1), (1, 4), (4, 5)]
    assert pieces(time, np.ones(5), (), [(1.5, np.inf)]) == [(0, 2), (2, 5)]
    assert pieces(time, np.ones(5), (), [(60.0, np.inf)]) == [(0, 5)]


def test_a_gap_outside_the_readings_breaks_nothing() -> None:
    time = np.array([10.0, 11.0])
    assert pieces(time, np.ones(2), [(0.0, 5.0), (20.0, 30.0)]) == [(0, 2)]
    assert pieces(np.empty(0), np.empty(0), [(0.0, 1.0)]) == []


def test_the_nearest_reading_is_a_stored_one_and_valid() -> None:
    trace = Trace(np.array([0.0, 1.0, 2.0]), np.array([5.0, np.nan, 7.0]))
    assert trace.nearest(0.9) == (0.0, 5.0)
    assert trace.nearest(1.2) == (2.0, 7.0)
    assert trace.nearest(99.0) == (2.0, 7.0)
    assert Trace().nearest(0.0) is None


# Curves and rows


def test_rows_that_are_part_of_the_answer_are_not_drawn_twice(
    link: FakeLink, record: Record
) -> None:
    record.commit(range(10))
    message = record.commit([10.0, 11.0])
    traces = shown(link)
    traces.apply(message)
    link.drain()
    assert traces.trace("voltage").time.tolist() == [float(n) for n in range(12)]


def test_rows_that_come_while_a_question_is_asked_follow_its_answer(
    link: FakeLink, record: Record
) -> None:
    record.commit(range(10))
    traces = shown(link)
    traces.apply(record.commit([10.0]))
    link.drain()
    traces.refresh()
    time, value = list(record.time), list(record.value)
    message = record.commit([11.0])
    traces.apply(message)
    # The station had read its record before that row was committed.
    record.time, record.value = time, value
    link.drain()
    assert traces.trace("voltage").time.tolist() == [float(n) for n in range(12)]


def test_new_rows_are_appended_without_asking(link: FakeLink, record: Record) -> None:
    record.commit(range(10))
    traces = shown(link)
    traces.apply(record.commit([10.0]))
    link.drain()
    before = len(record.asked)
    for number in range(11, 50):
        assert traces.apply(record.commit([float(number)]))
    assert link.asked == []
    assert len(record.asked) == before
    trace = traces.trace("voltage")
    assert trace.time.tolist() == [float(n) for n in range(50)]
    assert trace.value.tolist() == [value_at(float(n)) for n in range(50)]


def test_the_first_rows_after_a_question_are_taken_as_a_reason_to_ask_once_more(
    link: FakeLink, record: Record
) -> None:
    record.commit(range(10))
    traces = shown(link)
    # Committed after the answer and before the stream was taken up: nobody sends it.
    record.commit([10.0])
    traces.apply(record.commit([11.0]))
    assert traces.trace("voltage").time[-1] == 9.0
    link.drain()
    assert traces.trace("voltage").time.tolist() == [float(n) for n in range(12)]


def test_nothing_is_appended_behind_rows_that_were_left_out(link: FakeLink, record: Record) -> None:
    record.commit(range(10))
    traces = shown(link)
    traces.apply(record.commit([10.0]))
    link.drain()
    record.commit(range(11, 20))
    message = record.commit([20.0])
    assert not traces.apply(message.model_copy(update={"skipped": True}))
    assert traces.trace("voltage").time[-1] == 10.0
    assert traces.waiting
    link.drain()
    assert traces.trace("voltage").time.tolist() == [float(n) for n in range(21)]


def test_readings_that_take_the_place_of_earlier_ones_are_a_reason_to_ask(
    link: FakeLink, record: Record
) -> None:
    record.commit(range(10))
    traces = shown(link)
    traces.apply(record.commit([10.0, 20.0]))
    link.drain()
    assert not traces.waiting
    traces.apply(rows(RUN, voltage=([12.0, 13.0], [3.0, 3.1])))
    assert traces.waiting


def test_a_tail_longer_than_pixels_can_show_is_asked_for_as_bins(
    link: FakeLink, record: Record
) -> None:
    record.commit(range(10))
    traces = shown(link, pixels=20)
    traces.apply(record.commit([10.0]))
    link.drain()
    number = 10
    while not traces.waiting:
        number += 1
        traces.apply(record.commit([float(number)]))
        assert number < 1000
    assert number - 10 == pytest.approx(TAIL * 20, abs=2)
    link.drain()
    assert len(traces.trace("voltage").time) <= 2 * 20 + 2
    assert traces.trace("voltage").time[-1] == number


def test_zooming_into_bins_asks_and_zooming_into_readings_does_not(
    link: FakeLink, record: Record
) -> None:
    record.commit(np.arange(5000.0))
    traces = shown(link)
    assert not traces.trace("voltage").exact
    assert traces.look(1000.0, 1100.0, 100)
    link.drain()
    assert traces.trace("voltage").exact
    assert traces.trace("voltage").time.tolist() == [float(n) for n in range(999, 1102)]
    assert not traces.look(1020.0, 1060.0, 100)
    assert traces.look(900.0, 1000.0, 100)


def test_a_wider_plot_asks_for_finer_bins(link: FakeLink, record: Record) -> None:
    record.commit(np.arange(5000.0))
    traces = shown(link, pixels=100)
    assert not traces.look(*ALL_TIME, 90)
    assert traces.look(*ALL_TIME, 400)
    link.drain()
    assert record.asked[-1] == (None, None, 400)


def test_no_line_leads_from_a_stretch_of_the_past_to_the_newest_reading(
    link: FakeLink, record: Record
) -> None:
    record.commit(range(100))
    traces = shown(link, view=(10.0, 20.0))
    traces.apply(record.commit([100.0]))
    link.drain()
    assert not traces.apply(record.commit([101.0]))
    assert traces.trace("voltage").time.tolist() == [float(n) for n in range(9, 22)]
    assert traces.last == 101.0


def test_a_stretch_that_reaches_beyond_the_end_goes_on_growing(
    link: FakeLink, record: Record
) -> None:
    record.commit(range(100))
    traces = shown(link, view=(90.0, 200.0))
    traces.apply(record.commit([100.0]))
    link.drain()
    assert traces.apply(record.commit([101.0]))
    assert traces.trace("voltage").time[-1] == 101.0


def test_one_question_is_asked_at_a_time_and_then_the_newest(
    link: FakeLink, record: Record
) -> None:
    record.commit(np.arange(5000.0))
    traces = shown(link)
    for start in (100.0, 200.0, 300.0, 400.0):
        traces.look(start, start + 50.0, 100)
    before = len(record.asked)
    link.drain()
    assert record.asked[before:] == [(100.0, 150.0, 100)]
    link.drain()
    assert record.asked[before:] == [(100.0, 150.0, 100), (400.0, 450.0, 100)]
    link.drain()
    assert len(record.asked) == before + 2
    assert traces.trace("voltage").time[0] == 399.0


def test_an_answer_for_another_run_is_dropped() -> None:
    link, traces = asked_by_hand()
    # It was read, and waits to be taken, when somebody looks at another run.
    work, then, _ = link.questions[-1]
    answer = work(link.client)
    traces.show("run-B1", ("voltage",))
    then(answer)
    assert not traces.take()
    assert len(traces.trace("voltage").time) == 0


def test_rows_of_another_run_are_not_drawn(link: FakeLink, record: Record) -> None:
    record.commit(range(10))
    traces = shown(link)
    assert not traces.apply(rows("run-B1", voltage=([100.0], [3.0])))
    assert traces.last == 9.0


def test_what_failed_is_asked_again_when_rows_come(link: FakeLink, record: Record) -> None:
    record.commit(range(10))
    link.client.answers["curves"] = StationLostError("gone")
    traces = shown(link)
    assert len(traces.trace("voltage").time) == 0
    assert not traces.waiting
    link.client.answers["curves"] = record.curves
    traces.apply(record.commit([10.0]))
    link.drain()
    assert len(traces.trace("voltage").time) == 11


def test_a_question_that_nobody_answers_any_more_is_asked_again_after_the_return() -> None:
    link, traces = asked_by_hand()
    traces.refresh()
    work, then, _ = link.questions[1]
    then(work(link.client))
    assert len(traces.trace("voltage").time) == 10


def test_a_late_answer_to_a_replaced_question_changes_nothing() -> None:
    link, traces = asked_by_hand()
    traces.refresh()
    work, then, failed = link.questions[0]
    then(work(link.client))
    failed(StationLostError("gone"))
    assert not traces.take()
    assert traces.waiting


def test_rows_left_out_while_a_question_is_asked_are_asked_for_after_it() -> None:
    link, traces = asked_by_hand()
    work, then, _ = link.questions[-1]
    answer = work(link.client)
    # The answer was read before these were committed.
    traces.apply(rows(RUN, voltage=([12.0], [3.3])).model_copy(update={"skipped": True}))
    then(answer)
    assert len(link.questions) == 2
    assert traces.waiting


def test_the_window_is_woken_as_soon_as_an_answer_is_there() -> None:
    woken: list[bool] = []
    link, traces = asked_by_hand(lambda: woken.append(True))
    work, then, _ = link.questions[-1]
    answer = work(link.client)
    assert woken == [True]
    assert traces.take()
    assert len(traces.trace("voltage").time) == 10
    then(answer)
    assert len(link.questions) == 1


def test_a_value_that_was_not_valid_stays_a_hole(link: FakeLink, record: Record) -> None:
    record.commit(range(3))
    traces = shown(link)
    traces.apply(record.commit([3.0]))
    link.drain()
    traces.apply(rows(RUN, voltage=([4.0, 5.0], [None, 3.3])))
    trace = traces.trace("voltage")
    assert np.isnan(trace.value[4])
    assert pieces(trace.time, trace.value) == [(0, 4), (5, 6)]


def test_a_quantity_that_turns_up_later_is_asked_for(link: FakeLink, record: Record) -> None:
    record.commit(range(10))
    traces = shown(link)
    traces.want(("voltage", "pressure"))
    link.drain()
    assert len(traces.trace("pressure").time) == 10


STEPS = st.lists(
    st.sampled_from(["commit", "send", "skip", "answer", "zoom", "all", "back"]), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_order_things_happen_in_each_reading_is_drawn_once(steps: list[str]) -> None:
    link = FakeLink()
    record = Record(link)
    record.commit([0.0])
    traces = shown(link)
    unsent: list[Any] = []
    for step in steps:
        match step:
            case "commit":
                last = record.time[-1]
                unsent.append(record.commit([last + 1.0, last + 2.0]))
            case "send" if unsent:
                traces.apply(unsent.pop(0))
            case "skip" if unsent:
                traces.apply(rows(RUN).model_copy(update={"skipped": True}))
                unsent.clear()
            case "answer":
                link.drain()
            case "zoom":
                traces.look(2.0, 6.0, 100)
            case "all":
                traces.look(*ALL_TIME, 100)
            case "back":
                unsent.clear()
                traces.refresh()
        drawn = traces.trace("voltage").time
        assert np.all(np.diff(drawn) > 0)
        # Nothing that is missing is drawn over: readings are 1 s apart.
        assert np.all(np.diff(drawn) < 1.5)
        assert set(drawn.tolist()) <= set(record.time)
    traces.look(*ALL_TIME, 100)
    for message in (*unsent, record.commit([record.time[-1] + 1.0])):
        traces.apply(message)
    for _ in range(3):
        link.drain()
    assert traces.trace("voltage").time.tolist() == record.time
