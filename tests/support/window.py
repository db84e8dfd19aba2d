"""What tests of the window stand on: a link without a station, and statuses made to measure.

No Qt here. `FakeLink` is a `StationLink` whose questions are answered by a `FakeClient` in the
thread that drains it, so that a test says when an answer arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from operando.station.client import (
    UNDER_WAY,
    CellInfo,
    ChannelStatus,
    Curve,
    Done,
    InstrumentInfo,
    LimitInfo,
    Output,
    Reading,
    Rows,
    RunDetail,
    RunSummary,
    Snapshot,
    State,
)

if TYPE_CHECKING:
    from operando.gui.link import StationLink
else:
    StationLink = object

T = TypeVar("T")

STATES: tuple[State, ...] = (
    "idle",
    "preparing",
    "running",
    "paused",
    "held",
    "completed",
    "tripped",
    "aborted",
    "faulted",
    "refused",
    "killed",
)

REASONS: Mapping[str, str] = {
    "paused": "by the operator",
    "held": "pressure went above 8 MPa for 2 s (limit over_pressure); resume when it is clear why",
    "tripped": "voltage 4.352 V > 4.35 V for 0 s (limit over_voltage)",
    "aborted": "by the operator",
    "faulted": "smu1 at TCPIP::127.0.0.1::5025::SOCKET did not answer *IDN? within 2 s; check its "
    "cable and power, then acknowledge",
    "refused": "charge_rate 5C is 78.4 mA and the instrument's range ends at 50 mA",
    "killed": "the station ended without an end of this run; its record is complete up to then",
}


def channel(name: str = "A1", state: State = "running", **changes: Any) -> ChannelStatus:
    """A channel in a state, with everything that a station would say of it.

    changes: fields to set otherwise, as those of `ChannelStatus`.
    """
    ran = state not in {"idle", "refused"}
    under_way = state in UNDER_WAY
    attention = state in {"tripped", "faulted", "killed"}
    output: Output = "unknown" if state in {"faulted", "killed"} else "off"
    if state == "running":
        output = "on"
    fields: dict[str, Any] = {
        "name": name,
        "cell": CellInfo(name=f"NCM-{name}", capacity=28.24, one_c="7.844 mA", active_mass=4e-5),
        "instruments": (
            InstrumentInfo(
                name="smu1",
                role="potentiostat",
                driver="keithley-2450",
                address="TCPIP::127.0.0.1::5025::SOCKET",
                identity="KEITHLEY INSTRUMENTS,MODEL 2450,04500001,1.7.12b",
                simulated=True,
            ),
        ),
        "simulated": True,
        "state": state,
        "output": output,
        "reason": REASONS.get(state, ""),
        "attention": attention,
        "run": f"run-{name}" if ran else None,
        "protocol": "cccv" if ran else "",
        "title": "Formation" if ran else "",
        "started": 1_760_000_000.0 if ran else None,
        "elapsed": 5025.0 if ran else None,
        "progress": (1.0 if state == "completed" else 0.42) if ran else None,
        "time_left": 6940.0 if under_way else None,
        "step": "charge CC" if ran else "",
        "step_index": 3 if ran else 0,
        "cycle": 2 if ran else 0,
        "latest": {
            "voltage": Reading(value=3.8421, time=5024.8),
            "current": Reading(value=0.001569 if state == "running" else 0.0, time=5024.8),
            "charge": Reading(value=8.687, time=5024.8),
            "pressure": Reading(value=5.12e6, time=5024.5),
        }
        if ran and state != "preparing"
        else {},
        "age": 0.3 if under_way and state != "preparing" else None,
        "stale_after": 5.0 if ran else None,
        "rows": 1204 if ran else 0,
        "limits": (
            LimitInfo(
                name="over_voltage",
                when="voltage > 4.35 V",
                action="trip",
                quantity="voltage",
                bound=4.35,
            ),
        )
        if ran
        else (),
    }
    return ChannelStatus(**(fields | changes))


def mixed(count: int) -> tuple[ChannelStatus, ...]:
    """So many channels A1 ... A8, B1 ... in many states, most of them running."""
    states: tuple[State, ...] = (
        "running",
        "tripped",
        "running",
        "idle",
        "held",
        "running",
        "completed",
        "preparing",
        "faulted",
        "paused",
        "killed",
        "aborted",
        "refused",
        "running",
        "idle",
        "running",
    )
    return tuple(
        channel(f"{'ABCDEFGH'[index // 8]}{index % 8 + 1}", states[index % len(states)])
        for index in range(count)
    )


def snapshot(channels: Iterable[ChannelStatus] = (), **changes: Any) -> Snapshot:
    """A simulated station at speed 60 with these channels; one running channel by default."""
    fields: dict[str, Any] = {
        "instance": "first",
        "serial": 1,
        "version": "0.1.0",
        "bench": "simulated-lab",
        "simulated": True,
        "speed": 60.0,
        "started": 1_760_000_000.0,
        "now": 1_760_000_100.0,
        "channels": tuple(channels) or (channel(),),
    }
    return Snapshot(**(fields | changes))


def rows(run: str = "run-A1", **quantities: tuple[Iterable[float], Iterable[float | None]]) -> Rows:
    """New rows of a run: rows("run-A1", voltage=([1.0, 2.0], [3.6, 3.7]))."""
    both = {name: (tuple(times), tuple(values)) for name, (times, values) in quantities.items()}
    return Rows(run=run, quantities=both)


def curve(time: Iterable[float], value: Iterable[float], *, exact: bool = True) -> Curve:
    """A curve, ready to be an answer."""
    return Curve(np.array(list(time), dtype=float), np.array(list(value), dtype=float), exact)


def charging_curve(points: int = 200, span: float = 5000.0) -> Curve:
    """Voltage of a charge and a discharge of a solid-state cell, V over s."""
    time = np.linspace(0.0, span, points)
    turn = time / span
    up = 3.45 + 0.75 * np.minimum(turn / 0.55, 1.0) ** 0.8 + 0.06 * np.sin(9 * turn)
    down = 4.05 - 1.1 * np.clip((turn - 0.6) / 0.4, 0.0, 1.0) ** 1.4
    return Curve(time, np.where(turn < 0.6, up, down), True)


def run_summary(run: str = "run-A1", **changes: Any) -> RunSummary:
    """A record in the station's folder."""
    fields: dict[str, Any] = {
        "run": run,
        "channel": "A1",
        "cell": "NCM-A1",
        "protocol": "cccv",
        "state": "completed",
        "simulated": True,
        "started": 1_760_000_000.0,
        "duration": 5025.0,
        "folder": f"/data/{run}",
    }
    return RunSummary(**(fields | changes))


def usual_answers() -> dict[str, Any]:
    """What a station with a record of every run would answer to questions; see `FakeClient`."""

    def curves(run: str, quantities: Iterable[str], **options: Any) -> dict[str, Curve]:
        return {name: charging_curve() for name in quantities}

    def detail(run: str) -> RunDetail:
        return RunDetail(
            summary=run_summary(run), quantities=("voltage", "current"), start=0.0, end=5000.0
        )

    return {
        "curves": curves,
        "run": detail,
        "runs": [run_summary("run-A1"), run_summary("run-B2", channel="B2", started=1.77e9)],
        "loops": [],
        "cycles": [],
        "protocols": [],
    }


class FakeClient:
    """Answers every call of a `StationClient` from `answers`, and remembers it in `calls`.

    answers: by the name of the call; a value, an exception to raise, or a function of the call's
    arguments. What is not there fails the test, but for commands, which are done.
    """

    COMMANDS = frozenset(
        {
            *("pause", "resume", "abort", "acknowledge", "stop_all", "shut_down"),
            *("end_step", "change_limit"),
        }
    )

    def __init__(self) -> None:
        self.url = "http://127.0.0.1:8250"
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Positional arguments of the calls of that name so far."""
        return [arguments for called, arguments, _ in self.calls if called == name]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            if name in self.COMMANDS and name not in self.answers:
                return Done(ok=True, message="done")
            if name not in self.answers:
                raise AssertionError(f"the test has no answer to {name}{arguments}")
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments, **options) if callable(answer) else answer

        return call


class FakeLink(StationLink):
    """A `StationLink` without threads. Its work is done when it is drained; of a key, the latest.

    client: answers. followed: every argument of `follow`, sorted. hold: while True nothing is
    answered, as if the station took its time. started, closed: whether that was called.
    """

    def __init__(self) -> None:
        self.url = "http://127.0.0.1:8250"
        self.bench = ""
        self.last_error = None
        self.client: Any = FakeClient()
        self.followed: list[list[str]] = []
        self.hold = False
        self.started = False
        self.closed = False
        self._arrived: list[Any] = []
        self._questions: dict[str, tuple[Any, Any, Any]] = {}
        self._orders: list[tuple[Any, Any, Any]] = []

    def put(self, *messages: Any) -> None:
        """Let messages arrive: Snapshot, Rows, Lost, Back."""
        self._arrived.extend(messages)

    @property
    def asked(self) -> list[str]:
        """Keys of the questions that were not answered yet."""
        return list(self._questions)

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True

    def follow(self, runs: Iterable[str]) -> None:
        self.followed.append(sorted(runs))

    def ask(
        self,
        key: str,
        work: Callable[[Any], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self._questions[key] = (work, then, failed)

    def forget(self, key: str) -> None:
        self._questions.pop(key, None)

    def command(
        self,
        work: Callable[[Any], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self._orders.append((work, then, failed))

    def drain(self, limit: int = 200) -> list[Any]:
        if not self.hold:
            orders, self._orders = self._orders, []
            asked, self._questions = list(self._questions.values()), {}
            for work, then, failed in orders + asked:
                self._answer(work, then, failed)
        taken, self._arrived = self._arrived[:limit], self._arrived[limit:]
        return taken

    def _answer(self, work: Any, then: Any, failed: Any) -> None:
        try:
            answer = work(self.client)
        except AssertionError:
            raise
        except Exception as error:
            self.last_error = error
            if failed is not None:
                failed(error)
            return
        then(answer)
