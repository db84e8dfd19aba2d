"""A whole simulated laboratory in the window: 24 channels, rooms, a sensor that falls silent.

With OPERANDO_PICTURES=FOLDER a picture of it is kept there, for the documents.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from lab import simulated, wait_until
from operando.station.client import RunRequest, StationClient, stations
from support.at_screen import Operator, screen
from support.laboratory import copied

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform != "linux", reason="needs an X server of its own"),
    pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="needs dbus-daemon"),
    pytest.mark.timeout(300),
]

IN_SIGHT = [*(f"A{number}" for number in range(1, 9)), *(f"B{n}" for n in range(1, 5))]
IN_SIGHT += [f"C{number}" for number in range(1, 5)]
BELOW = [f"D{number}" for number in range(1, 9)]
"""A screen of 1920 by 1080 shows sixteen cards whole; the other eight are scrolled to."""
DRIVEN = {"A2": "neware2", "B1": "maccor1", "C1": "smu1", "C2": "smu2", "C3": "smu3", "C4": "smu4"}
"""Channels that are started from elsewhere, one of each kind, with what drives them."""

RECIPE = """
protocol = "cccv"
[parameters]
charge_rate = "2C"
discharge_rate = "2C"
[poll]
interval = "5 s"
[limits]
over_voltage = { when = "voltage > 4.30 V", action = "trip", stale_after = "10 min" }
under_voltage = { when = "voltage < 2.2 V", action = "trip", stale_after = "10 min" }
over_current = { when = "abs(current) > 3C", action = "trip", stale_after = "10 min" }
"""
WET = 'wet = { when = "h2o > 100 ppm", action = "trip", stale_after = "10 h" }\n'


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where the picture goes."""
    wanted = os.environ.get("OPERANDO_PICTURES")
    return Path(wanted).absolute() if wanted else tmp_path / "pictures"


def plotted(operator: Operator) -> list[str]:
    """Quantities that have a plot on the page of a channel."""
    names = ("voltage", "current", "pressure", "charge", "h2o", "o2", "dew_point", "box_pressure")
    # A plot is covered by the canvas inside it; one that is not shown has no place.
    return [name for name in names if "rect" in operator.see(f"plot-{name}")]


def choose(operator: Operator, protocol: str, *, shows: str) -> None:
    """Drop the list of protocols down, go to one by typing it; look, and mend what went wrong."""
    for _ in range(5):
        operator.click("protocol")
        operator.type(protocol)
        operator.key("Return")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: operator.see(shows)["visible"], timeout=4.0)
            return
    raise AssertionError(f"{protocol} was not chosen: {operator.see('protocol')}")


def test_an_operator_watches_a_laboratory_and_stops_all_of_it(
    tmp_path: Path, pictures: Path
) -> None:
    bench = copied("lab.toml", tmp_path)
    recipe = tmp_path / "watched.toml"
    recipe.write_text(RECIPE + WET, encoding="utf-8")
    with (
        screen(1920, 1080) as display,
        simulated(bench) as lab,
        Operator(display, tmp_path, "gui", str(bench), "--simulate") as operator,
    ):
        # As many channels as a screen holds are in sight at once, and say what they have.
        operator.await_widget("card-A1")
        operator.resize(1920, 1080)
        wait_until(lambda: operator.see("card-C4")["visible"] and operator.see("card-C4")["whole"])
        assert all(operator.see(f"card-{name}")["whole"] for name in IN_SIGHT)
        assert all("rect" in operator.see(f"card-{name}") for name in BELOW)
        assert operator.see("around-A1")["text"] == "neware1 · load1 · oxygen1 · water1 · box1"
        assert operator.see("caption-pressure-A1")["text"] == "Stack pressure"
        assert not operator.see("caption-pressure-A5").get("text")

        # One of each kind is started; a Maccor by hand, whose limits it tells only when it is met.
        (note,) = stations()
        with StationClient(note.url, note.token) as client:
            for name, instrument in (("A1", "neware1"), *DRIVEN.items()):
                wet = WET if name in {"A1", "A2", "C1", "C2"} else ""
                client.start(name, RunRequest(recipe=RECIPE + wet, recipe_name="watched"))
                wait_until(lambda relay=instrument: lab.relays()[relay])
        operator.click("start-B2")
        choose(operator, "cccv", shows="field-charge_rate")
        operator.write("field-charge_rate", "2C")
        operator.click("start-run")
        wait_until(lambda: lab.relays()["maccor2"])

        # What is around the cells is told in the units of the field.
        wait_until(lambda: "H₂O 0.54 ppm" in operator.see("around-A1").get("text", ""))
        wait_until(lambda: "chamber 23." in operator.see("around-B1").get("text", ""))
        wait_until(lambda: operator.see("pressure-A1").get("text", "").endswith("MPa"))
        assert "°C" in operator.see("around-B1")["text"]
        if operator.see("start-run")["visible"]:
            operator.key("Escape")
        wait_until(lambda: int(operator.see("progress-text-C4")["text"].split()[0]) >= 5)
        operator.picture(pictures / "window-laboratory.png")

        # The page of one channel: what a limit watches beside the cell, then all that is around.
        operator.click("card-A1")
        wait_until(lambda: plotted(operator) == ["voltage", "current", "pressure", "charge", "h2o"])
        operator.click("surroundings")
        around = ["voltage", "h2o", "o2", "dew_point", "box_pressure"]
        wait_until(lambda: sorted(plotted(operator)) == sorted(around))
        wait_until(lambda: "Glovebox" in operator.see("page-around").get("text", ""))

        # A sensor falls silent: its readings say so, the run goes on.
        lab.inject("water1", "silence")
        wait_until(lambda: "ppm (old)" in operator.see("page-around").get("text", ""))
        operator.key("Escape")
        # The grid is drawn again after the key.
        wait_until(lambda: "H₂O 0.54 ppm (old)" in operator.see("around-A1").get("text", ""))
        assert lab.relays()["neware1"]

        # One press stops everything.
        operator.click("stop-all")
        wait_until(lambda: not any(lab.relays().values()))
        operator.await_text("8 aborted")
    assert stations() == []
