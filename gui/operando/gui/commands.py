"""What the operator tells the station, and what the window says until the station answers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from operando.gui.link import StationLink, never_sent, plain
from operando.gui.widgets.notices import Action
from operando.station.client import Done, StationClient

if TYPE_CHECKING:
    from operando.gui.widgets.notices import NoticeStrip

ALL = "all channels"


class Commands:
    """Commands of one window. Each acts at once; a refusal becomes a notice, never a question.

    changed: called with the names of channels whose `stopping` changed.
    stopping_all: called with whether a stop of every channel is unanswered.
    `stopping`: channels that were told to stop and have not answered.
    """

    def __init__(
        self,
        link: StationLink,
        notices: NoticeStrip,
        changed: Callable[[Collection[str]], None],
        stopping_all: Callable[[bool], None],
    ) -> None:
        self._link = link
        self._notices = notices
        self._changed = changed
        self._stopping_all = stopping_all
        self._stops_of_all = 0
        self.stopping: set[str] = set()

    def pause(self, name: str) -> None:
        """Open the circuit of a channel and keep its step."""
        self._give(name, "Pause", lambda client: client.pause(name))

    def resume(self, name: str) -> None:
        """Go on with a channel."""
        self._give(name, "Resume", lambda client: client.resume(name))

    def acknowledge(self, name: str, run: str) -> None:
        """Say that what happened on a channel has been seen. run: the one that was seen, or ""."""
        self._give(name, "Acknowledge", lambda client: client.acknowledge(name, run))

    def go_on(self, name: str, run: str) -> None:
        """Go on with the killed run of a channel. run: the one that was seen."""

        def work(client: StationClient) -> Done:
            return Done(ok=True, message=client.go_on(name, run).run)

        self._give(name, "Continue", work)

    def end_step(self, name: str, step: int, label: str) -> None:
        """End a step of a channel, when it has been confirmed. step: its index."""
        key = f"end-step-{name}"

        def act() -> None:
            self._notices.clear(key)
            self._give(name, "End step", lambda client: client.end_step(name, step))

        words = f"End step {step} '{label}' of {name} now? The protocol goes on with its next step."
        actions = (
            Action("Leave it", lambda: self._notices.clear(key), "plain", f"leave-step-{name}"),
            Action("End step", act, "accent", f"end-step-now-{name}"),
        )
        self._notices.ask(key, "notice", words, actions)

    def change_limit(
        self, name: str, limit: str, when: str, answered: Callable[[str, str], None]
    ) -> None:
        """Let a limit act at another condition. answered: called with its name and a problem."""

        def end(done: Done) -> None:
            answered(limit, "" if done.ok else done.message)

        self._link.command(
            lambda client: client.change_limit(name, limit, when),
            end,
            lambda error: answered(limit, plain(error)),
        )

    def stop(self, name: str) -> None:
        """Stop a channel, without asking: stopping is always safe."""
        # No run is named: whatever runs there by now is to stop, also what is not shown yet.
        self._stop(name, lambda client: client.abort(name), {name}, lambda: None)

    def stop_all(self, under_way: Collection[str], then: Callable[[], None] | None = None) -> None:
        """Stop every run. under_way: channels that are known to have one.

        then: called when every output was read back off.
        """
        self._stops_of_all += 1
        self._stopping_all(True)
        self._stop(ALL, lambda client: client.stop_all(), under_way, then or (lambda: None))

    def answered_by_state(self, name: str) -> None:
        """The station itself says now that this channel is stopping."""
        self.stopping.discard(name)

    def _stop(
        self,
        target: str,
        work: Callable[[StationClient], Done],
        names: Collection[str],
        then: Callable[[], None],
    ) -> None:
        self.stopping.update(names)
        self._changed(names)

        def finish(problem: str) -> None:
            self.stopping.difference_update(names)
            if target == ALL:
                self._stops_of_all -= 1
                self._stopping_all(self._stops_of_all > 0)
            self._changed(names)
            if not problem:
                then()

        self._give(target, "Stop", work, finish)

    def _give(
        self,
        target: str,
        what: str,
        work: Callable[[StationClient], Done],
        finish: Callable[[str], None] = lambda problem: None,
    ) -> None:
        key = f"command-{target.replace(' ', '-')}"
        self._notices.clear(key)

        def end(problem: str) -> None:
            if problem:
                self._notices.say(key, "bad", f"{what} {target}: {problem}")
            finish(problem)

        def failed(error: Exception) -> None:
            stop = what == "Stop"
            if never_sent(error):
                by_hand = " Use the instrument's own output switch." if stop else ""
                end(f"not delivered: no station answers.{by_hand}")
                return
            # A stop that was not answered may have been carried out, or not: nobody here knows.
            unknown = " Whether it was carried out is not known." if stop else ""
            end(f"{plain(error).rstrip('.')}.{unknown}")

        self._link.command(work, lambda done: end("" if done.ok else done.message), failed)
