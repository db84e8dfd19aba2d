"""What the messages of a link add up to."""

from __future__ import annotations

import time

import pytest

from operando.gui.link import Back, Lost
from operando.gui.models.station import Connection, StationModel
from operando.station.client import ChannelStatus, Rows, Snapshot, State


def channel(name: str, state: State = "idle") -> ChannelStatus:
    """A channel without cell and instruments."""
    return ChannelStatus(
        name=name, cell=None, instruments=(), simulated=True, state=state, output="off"
    )


def snapshot(
    *channels: ChannelStatus, serial: int = 1, instance: str = "first", speed: float = 1.0
) -> Snapshot:
    """A station with these channels."""
    return Snapshot(
        instance=instance,
        serial=serial,
        version="0",
        bench="bench",
        simulated=True,
        speed=speed,
        started=0.0,
        now=float(serial),
        channels=channels,
    )


@pytest.fixture
def model() -> StationModel:
    """A station with channels B1 and A1, heard."""
    heard = StationModel()
    heard.apply(snapshot(channel("B1"), channel("A1")))
    return heard


def test_before_the_first_snapshot_nothing_is_known() -> None:
    model = StationModel()
    assert model.connection is Connection.CONNECTING
    assert not model.current()
    assert model.snapshot is None
    assert model.channels == {}
    assert model.unseen() is None


def test_the_first_snapshot_brings_all_channels_in_the_order_of_the_bench() -> None:
    model = StationModel()
    assert model.apply(snapshot(channel("B1"), channel("A1"))) == {"A1", "B1"}
    assert list(model.channels) == ["B1", "A1"]
    assert model.current()


def test_a_snapshot_names_the_channels_that_changed(model: StationModel) -> None:
    assert model.apply(snapshot(channel("B1"), channel("A1"), serial=2)) == set()
    running = channel("A1", "running")
    assert model.apply(snapshot(channel("B1"), running, serial=3)) == {"A1"}
    assert model.channels["A1"] is running


def test_a_channel_that_is_gone_or_new_has_changed(model: StationModel) -> None:
    assert model.apply(snapshot(channel("B1"), channel("C1"), serial=2)) == {"A1", "C1"}
    assert list(model.channels) == ["B1", "C1"]


def test_a_snapshot_that_is_older_than_the_last_is_not_taken(model: StationModel) -> None:
    model.apply(snapshot(channel("A1", "running"), serial=9))
    assert model.apply(snapshot(channel("A1"), serial=8)) == set()
    assert model.channels["A1"].state == "running"


def test_another_start_of_the_station_changes_all_though_its_serial_is_low(
    model: StationModel,
) -> None:
    model.apply(snapshot(channel("B1"), channel("A1"), serial=9))
    again = snapshot(channel("B1"), channel("A1"), serial=1, instance="second")
    assert model.apply(again) == {"A1", "B1"}
    assert model.snapshot is again


def test_after_a_loss_the_last_snapshot_stays_and_is_not_current(model: StationModel) -> None:
    before = model.snapshot
    since = time.monotonic() - 12.5
    assert model.apply(Lost("it does not answer", since)) == {"A1", "B1"}
    assert model.connection is Connection.LOST
    assert (model.why, model.since) == ("it does not answer", since)
    assert model.snapshot is before
    assert not model.current()
    view = model.view("A1")
    assert view.stale
    assert view.age_text.startswith("last seen 1")
    assert view.can_stop
    assert not view.can_start


def test_only_a_snapshot_ends_a_loss(model: StationModel) -> None:
    model.apply(Lost("gone", time.monotonic()))
    assert model.apply(Back()) == set()
    assert not model.current()
    # The same serial: nothing happened while it was not heard.
    assert model.apply(snapshot(channel("B1"), channel("A1"))) == {"A1", "B1"}
    assert model.apply(Back()) == set()
    assert model.current()
    assert model.why == ""
    assert model.unseen() is None
    assert model.view("A1").can_start


def test_a_station_that_never_answered_is_lost_without_channels() -> None:
    model = StationModel()
    assert model.apply(Lost("no station runs there", time.monotonic())) == set()
    assert model.connection is Connection.LOST
    assert not model.current()


def test_rows_change_no_channel(model: StationModel) -> None:
    assert model.apply(Rows(run="r", quantities={})) == set()
    assert model.current()


def test_a_view_uses_the_speed_of_the_station(model: StationModel) -> None:
    running = channel("A1", "running").model_copy(update={"age": 120.0})
    model.apply(snapshot(running, serial=2, speed=60.0))
    assert model.view("A1").age_text == "2 s ago"


def test_a_channel_that_is_not_there_has_no_view(model: StationModel) -> None:
    with pytest.raises(KeyError):
        model.view("Z9")
