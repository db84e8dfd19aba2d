"""The pyramid of a quantity against time: what it draws was read, and no extreme is left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operando.records.pyramid import FEWEST, Curve, Pyramid, Span

Floats = npt.NDArray[np.float64]


class Store:
    """Readings in rows, as a file would hold them. Rows of other quantities lie in between."""

    def __init__(self, time: npt.ArrayLike, value: npt.ArrayLike) -> None:
        self.time = np.array(time, dtype=np.float64)
        self.value = np.array(value, dtype=np.float64)
        self.rows = 5 + 3 * np.arange(len(self.time))
        self.read_rows = 0

    def read(self, spans: Sequence[Span]) -> tuple[Floats, Floats]:
        assert all(first < stop for first, stop in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        found = np.concatenate(
            [np.arange(*np.searchsorted(self.rows, span)) for span in spans], dtype=np.int64
        )
        self.read_rows += len(found)
        return self.time[found], self.value[found]

    def pyramid(self, width: float = 1.6, cuts: Sequence[int] = ()) -> Pyramid:
        """All of it, appended in pieces."""
        pyramid = Pyramid(self.read, width)
        for first, stop in pairwise([0, *sorted(cuts), len(self.time)]):
            pyramid.append(self.rows[first:stop], self.time[first:stop], self.value[first:stop])
        return pyramid


@st.composite
def stores(draw: st.DrawFn, *, ascending: bool = False) -> Store:
    """Pulses beside rests, equal stamps, readings that are not valid, stamps that go backwards."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    stretches = draw(
        st.lists(
            st.tuples(
                st.one_of(st.integers(1, 12), st.integers(13, 400)),
                st.sampled_from((0.0, 0.01, 0.1, 1.0, 7.0, 60.0, 3600.0)),
                st.sampled_from((0.0, 0.0, 0.05, 0.5, 1.0)),
            ),
            min_size=1,
            max_size=9,
        )
    )
    times, values, now = [], [], draw(st.sampled_from((0.0, -1e4, 1e6)))
    for count, interval, invalid in stretches:
        time = now + interval * np.cumsum(random.uniform(0.0, 2.0, count))
        value = np.round(random.normal(3.7, 0.5, count), draw(st.integers(0, 6)))
        value[random.uniform(size=count) < invalid] = math.nan
        now = float(time[-1])
        times.append(time)
        values.append(value)
    time, value = np.concatenate(times), np.concatenate(values)
    if not ascending and draw(st.booleans()):
        back = random.uniform(size=len(time)) < 0.02
        time[back] -= draw(st.sampled_from((1e-9, 0.5, 100.0, 1e5)))
    return Store(time, value)


def viewport(store: Store, draw: st.DataObject) -> tuple[float, float]:
    low, high = float(store.time.min()), float(store.time.max())
    moments = st.one_of(
        st.sampled_from(store.time.tolist()),
        st.floats(low - 10.0, high + 10.0, allow_nan=False),
        st.sampled_from((-math.inf, math.inf)),
    )
    start, end = sorted((draw.draw(moments), draw.draw(moments)))
    return start, end


def inside(curve: Curve, start: float, end: float) -> tuple[Floats, Floats]:
    chosen = (curve.time >= start) & (curve.time <= end)
    return curve.time[chosen], curve.value[chosen]


@settings(deadline=None, max_examples=300)
@given(stores(), st.integers(1, 40), st.sampled_from((0.3, 1.6, 20.0)), st.data())
def test_a_curve_tells_of_its_viewport_what_the_readings_tell(
    store: Store, bins: int, width: float, data: st.DataObject
) -> None:
    start, end = viewport(store, data)
    curve = store.pyramid(width).curve(start, end, bins)
    seen = (store.time >= start) & (store.time <= end)
    time, value = inside(curve, start, end)

    stored = Counter(zip(store.time.tolist(), map(repr, store.value.tolist()), strict=True))
    drawn = Counter(zip(curve.time.tolist(), map(repr, curve.value.tolist()), strict=True))
    assert drawn <= stored
    assert np.all(np.diff(curve.time) >= 0.0)
    assert len(curve.time) <= max(4 * bins, 3 * (bins + 1)) + 2

    true = store.value[seen]
    assert np.any(np.isnan(value)) == np.any(np.isnan(true))
    if np.any(~np.isnan(true)):
        assert np.nanmin(value) == np.nanmin(true)
        assert np.nanmax(value) == np.nanmax(true)
    if curve.exact:
        assert time.tolist() == sorted(store.time[seen].tolist())

    before, after = store.time[store.time < start], store.time[store.time > end]
    assert curve.time[curve.time < start].tolist() == ([before.max()] if len(before) else [])
    assert curve.time[curve.time > end].tolist() == ([after.min()] if len(after) else [])


@settings(deadline=None, max_examples=100)
@given(stores(), st.integers(1, 12), st.data())
def test_appending_in_pieces_or_at_once_gives_the_same(
    store: Store, bins: int, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(store.time)), max_size=12))
    start, end = viewport(store, data)
    pieces, whole = store.pyramid(cuts=cuts), store.pyramid()
    for one, other in zip(
        pieces.curve(start, end, bins), whole.curve(start, end, bins), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert pieces.bins == whole.bins
    assert (len(pieces), pieces.start, pieces.end) == (len(whole), whole.start, whole.end)
    assert pieces.span(start, end) == whole.span(start, end)


@settings(deadline=None, max_examples=50)
@given(stores(), st.data())
def test_asking_between_appends_changes_nothing(store: Store, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(store.time)), max_size=6))
    grown = Pyramid(store.read, 1.6)
    for first, stop in pairwise([0, *sorted(cuts), len(store.time)]):
        grown.append(store.rows[first:stop], store.time[first:stop], store.value[first:stop])
        grown.curve(bins=2)
    np.testing.assert_array_equal(grown.curve(bins=3)[1], store.pyramid().curve(bins=3)[1])


@settings(deadline=None, max_examples=100)
@given(stores(), st.data())
def test_all_readings_of_a_stretch_lie_in_its_span(store: Store, data: st.DataObject) -> None:
    start, end = viewport(store, data)
    first, stop = store.pyramid().span(start, end)
    rows = store.rows[(store.time >= start) & (store.time <= end)]
    assert np.all((rows >= first) & (rows < stop))


def test_a_sparse_rest_is_drawn_in_full_beside_a_dense_pulse() -> None:
    """The trap of decimating by rows: it spends nearly all points on the pulse."""
    random = np.random.default_rng(1)
    pulse = np.arange(200_000) * 0.1
    rest = pulse[-1] + 300.0 * np.arange(1, 401)
    store = Store(np.append(pulse, rest), random.normal(3.7, 0.1, 200_400))
    curve = store.pyramid().curve(bins=1200)
    assert not curve.exact
    assert curve.time[curve.time > pulse[-1]].tolist() == rest.tolist()
    assert 100 <= np.sum(curve.time <= pulse[-1])
    assert len(curve.time) <= 4 * 1200
    by_row = np.append(pulse, rest)[:: len(store.time) // 2400]
    assert np.sum(by_row > pulse[-1]) < 6


def test_rests_between_pulses_are_drawn_in_full() -> None:
    steps = np.tile(np.append(np.full(2000, 0.1), np.full(15, 60.0)), 20)
    time = np.cumsum(steps)
    store = Store(time, np.random.default_rng(1).normal(3.7, 0.1, len(time)))
    curve = store.pyramid().curve(bins=1200)
    assert not curve.exact
    # The last reading of a rest shares its pixel with the pulse that follows at once.
    alone = (steps == 60.0) & (np.roll(steps, -1) == 60.0)
    assert alone.sum() == 20 * 14
    assert set(time[alone]) <= set(curve.time)


def test_readings_that_are_few_are_drawn_exactly() -> None:
    store = Store(np.arange(1000.0), np.sin(np.arange(1000.0)))
    curve = store.pyramid(16.0).curve(100.0, 200.0, 1200)
    assert curve.exact
    assert curve.time.tolist() == list(map(float, range(99, 202)))


@pytest.mark.parametrize(("burst_at", "bins"), [("end", 400), ("start", 400), ("beyond", 100)])
def test_a_burst_within_one_bin_does_not_make_the_rest_of_the_curve_coarse(
    burst_at: str, bins: int
) -> None:
    """No bin can take the burst, however coarse: it is no reason to take coarser ones."""
    slow, burst = 600.0 * np.arange(1, 401), np.linspace(0.01, 0.9, 3000)
    time = np.append(burst, slow) if burst_at == "start" else np.append(slow, 240_001.0 + burst)
    store = Store(time, np.random.default_rng(1).normal(3.7, 0.1, len(time)))
    end = 239_000.0 if burst_at == "beyond" else math.inf
    drawn = store.pyramid().curve(-math.inf, end, bins).time
    # One may share its pixel with the burst.
    assert len(set(slow[slow <= end]) - set(drawn)) <= 1
    assert len(drawn) <= 4 * 400 + 2


def test_readings_that_came_faster_than_bins_were_made_for_are_drawn_pixel_by_pixel() -> None:
    """Rows of an instrument's own memory, at 1 kHz in a record that is polled at 10 Hz."""
    time = np.arange(20_000) * 1e-3
    store = Store(time, np.sin(2.0 * np.pi * time))
    curve = store.pyramid(1.2).curve(0.0, 20.0, bins=1200)
    assert not curve.exact
    assert len(curve.time) >= 1200
    assert np.max(np.diff(curve.time)) <= 2.0 * 20.0 / 1200


def test_what_is_not_valid_breaks_the_line_at_every_zoom() -> None:
    time = np.arange(100_000) * 0.1
    value = np.full(100_000, 3.7)
    value[40_000:50_000] = math.nan
    value[70_000] = math.inf
    pyramid = Store(time, value).pyramid()
    for bins in (5, 50, 500):
        curve = pyramid.curve(bins=bins)
        broken = curve.time[np.isnan(curve.value)]
        assert np.any((broken >= 4000.0) & (broken < 5000.0))
        assert time[70_000] in broken
        within = (curve.time > 4000.0) & (curve.time < 4999.9)
        assert np.all(np.isnan(curve.value[within]))
        assert np.nanmax(curve.value) == 3.7


def test_a_record_that_holds_only_invalid_readings_draws_no_value() -> None:
    curve = Store(np.arange(5000.0), np.full(5000, math.nan)).pyramid().curve(bins=10)
    assert len(curve.time)
    assert np.all(np.isnan(curve.value))


def test_readings_without_a_time_are_left_out() -> None:
    store = Store([0.0, math.nan, 2.0], [1.0, 9.0, 3.0])
    pyramid = store.pyramid()
    assert len(pyramid) == 2
    assert pyramid.curve().value.tolist() == [1.0, 3.0]


def test_a_clock_that_was_turned_back_is_drawn_where_its_stamps_say() -> None:
    time = np.append(np.arange(2000.0), 500.0 + np.arange(1000.0))
    value = np.append(np.zeros(2000), np.ones(1000))
    pyramid = Store(time, value).pyramid()
    assert (len(pyramid), pyramid.start, pyramid.end) == (3000, 0.0, 1999.0)
    _, value = inside(pyramid.curve(600.0, 700.0, 1200), 600.0, 700.0)
    assert sorted(value.tolist()) == [0.0] * 101 + [1.0] * 101
    assert np.nanmax(pyramid.curve(1600.0, 1700.0, 2).value) == 0.0
    coarse = pyramid.curve(0.0, 1999.0, 10)
    assert (np.nanmin(coarse.value), np.nanmax(coarse.value)) == (0.0, 1.0)


def test_bins_cost_little_whether_data_are_dense_or_sparse() -> None:
    for interval in (0.1, 1.0, 10.0, 60.0):
        store = Store(np.arange(200_000) * interval, np.zeros(200_000))
        pyramid = store.pyramid(1.6)
        assert sum(pyramid.bins) <= 200_000 / FEWEST / (1.0 - 1.0 / 4.0)
    dense = Store(np.arange(200_000) * 0.1, np.zeros(200_000))
    assert sum(dense.pyramid().bins) < 20_000


def test_a_wide_curve_reads_few_stored_rows_again() -> None:
    store = Store(np.arange(500_000) * 0.1, np.sin(np.arange(500_000) * 1e-4))
    pyramid = store.pyramid()
    assert pyramid.width == 2.0
    for start, end in ((0.0, 50_000.0), (1234.5, 40_000.1), (20_000.0, 24_000.0)):
        store.read_rows = 0
        assert not pyramid.curve(start, end, 1200).exact
        assert store.read_rows <= 4 * 20


def test_nothing_gives_an_empty_curve_and_no_viewport_is_refused() -> None:
    pyramid = Pyramid(Store([], []).read, 1.0)
    assert [len(column) for column in pyramid.curve(0.0, 1.0)[:2]] == [0, 0]
    assert math.isnan(pyramid.start)
    assert math.isnan(pyramid.end)
    for start, end, bins in ((1.0, 0.0, 10), (math.nan, 1.0, 10), (0.0, 1.0, 0)):
        with pytest.raises(ValueError, match="expected start <= end"):
            pyramid.curve(start, end, bins)
    with pytest.raises(ValueError, match="width of a bin"):
        Pyramid(Store([], []).read, 0.0)
