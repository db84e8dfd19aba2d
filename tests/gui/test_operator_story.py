"""An evening at the window: real input events, and what became of it at the instruments.

With OPERANDO_PICTURES=FOLDER the stages are kept there as pictures, for the documents.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import simulated, wait_until
from operando.instruments.recorder import Entry
from operando.records import Record, find_records
from support.at_screen import Operator, screen
from support.laboratory import copied

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform != "linux", reason="needs an X server of its own"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures of the stages go."""
    wanted = os.environ.get("OPERANDO_PICTURES")
    return Path(wanted).absolute() if wanted else tmp_path / "pictures"


@pytest.fixture
def display_name() -> Iterator[str]:
    with screen(1920, 1080) as name:
        yield name


def record_of(folder: Path, channel: str) -> Record:
    """The newest record of a channel."""
    records = [Record.open(path) for path in find_records(folder / "runs")]
    return [record for record in records if record.manifest["channel"] == channel][-1]


def test_an_operator_starts_watches_and_stops_a_simulated_lab(
    tmp_path: Path, display_name: str, pictures: Path
) -> None:
    bench = copied("simulated-lab.toml", tmp_path)
    with (
        simulated(bench, 60.0) as lab,
        Operator(
            display_name, tmp_path, "gui", str(bench), "--simulate", "--speed", "60"
        ) as operator,
    ):
        # The window opens on four idle channels, and says that nothing here is real.
        operator.await_widget("card-A4")
        operator.await_text("SIMULATED")
        assert not any(lab.relays().values())

        # A bad value is refused with its reason, under its field; nothing can be started.
        operator.click("start-A1")
        operator.await_text("C/2")
        operator.write("field-charge_rate", "half")
        wait_until(lambda: operator.see("problem-charge_rate").get("text"))
        assert "half" in operator.see("problem-charge_rate")["text"]
        assert not operator.see("start-run")["enabled"]
        operator.picture(pictures / "window-refused.png")

        # A good one is shown in the cell's own currents, and starts.
        operator.write("field-charge_rate", "1C")
        operator.await_widget("start-run")
        operator.await_text("3.138 mA")
        operator.picture(pictures / "window-start.png")
        operator.click("start-run")
        wait_until(lambda: lab.relays()["smu1"])

        # A second channel, with a limit that its charge will pass.
        operator.click("start-A2")
        operator.write("field-charge_rate", "1C")
        operator.scroll_to("add-limit", over="field-charge_rate")
        operator.click("add-limit")
        operator.write("limit-0-name", "too_high")
        operator.write("limit-0-when", "voltage > 3.9 V")
        operator.click("start-run")
        wait_until(lambda: lab.relays()["smu2"])
        assert lab.relays()["smu1"]

        # Watching: the page of the first channel shows its curve.
        operator.click("card-A1")
        operator.await_widget("page-stop")
        operator.await_text("1 half cycle")
        wait_until(lambda: int(operator.see("page-progress-text")["text"].split()[0]) >= 5)
        operator.picture(pictures / "window-channel.png")
        operator.key("Escape")

        # The limit trips the second channel: its output goes off while the first one's stays on.
        wait_until(lambda: not lab.relays()["smu2"], 60.0)
        assert lab.relays()["smu1"]
        operator.await_text("tripped")
        operator.await_widget("acknowledge-A2")
        operator.picture(pictures / "window-tripped.png")

        # Stopping the first one opens its relay.
        operator.click("card-A1")
        operator.click("page-stop")
        wait_until(lambda: not lab.relays()["smu1"])
        operator.await_text("aborted")
        operator.key("Escape")

        # A picture to take along.
        operator.click("card-A2")
        operator.click("save-picture")
        operator.await_widget("fileNameEdit")
        operator.write("fileNameEdit", str(tmp_path / "trip.png"))
        operator.key("Return")
        wait_until((tmp_path / "trip_SIMULATED.png").exists)
        operator.resize(1920, 1080)
        operator.theme("light")
        operator.picture(pictures / "window-after-trip-light.png")

        tripped = record_of(tmp_path, "A2")
        aborted = record_of(tmp_path, "A1")
        assert tripped.state == "tripped"
        assert [event.name for event in tripped.limits] == ["too_high"]
        assert aborted.state == "aborted"
        for record in (tripped, aborted):
            assert record.simulated
            (safe,) = record.journal(Entry.SAFE)
            assert safe.data["potentiostat"] == "verified"
        assert not any(lab.relays().values())
