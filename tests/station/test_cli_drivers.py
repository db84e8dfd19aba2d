"""`operando drivers`: what it tells of one driver can be read, and written into a bench file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
from typer.testing import CliRunner

from operando.instruments.errors import BadInputError
from operando.instruments.parameters import parameters_from, parameters_schema
from operando.instruments.quantities import KelvinDifference, Seconds, Voltages
from operando.instruments.registry import DRIVERS, available, load
from operando.station.assembly import driver_info
from operando.station.cli import app
from operando.station.cli_drivers import PIPED, Setting, settings_of

NAMES = list(available(DRIVERS))


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["drivers", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_a_driver_has_a_meaning_and_a_default_that_a_bench_may_write(
    name: str,
) -> None:
    driver: Any = load(DRIVERS, name)
    told = settings_of(driver.Settings)
    assert {one.name.partition(".")[0] for one in told} == {f.name for f in fields(driver.Settings)}
    assert [one.name for one in told if not one.meaning or not one.default or not one.takes] == []
    # No text goes on into that of the next setting.
    names = [one.name.rpartition(".")[2] for one in told]
    assert [one for one in told if any(f". {other}: " in one.meaning for other in names)] == []
    properties = parameters_schema(driver.Settings)["properties"]
    written = {one.name: one.default for one in told if "unit" in properties.get(one.name, {})}
    assert all(default[-1:].isalpha() or default[-1:] in "2%" for default in written.values())
    assert parameters_from(driver.Settings, written, "here") == driver.Settings()


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_driver_states_is_printed_within_the_width(name: str) -> None:
    printed, info = shown(name), driver_info(name)
    words = " ".join(printed.split())
    said = (info.maker, info.document, info.safe_state, info.identification, *info.notes)
    assert [one for one in (*said, *info.roles, *info.measures, *info.signs)
            if one not in words] == []  # fmt: skip
    driver: Any = load(DRIVERS, name)
    assert [
        one.name for one in settings_of(driver.Settings) if f"│ {one.name} " not in printed
    ] == []
    assert max(map(len, printed.splitlines())) <= PIPED


def test_what_it_tells_as_json_is_the_same() -> None:
    told = json.loads(shown("espec-p300", "--json"))
    assert told["name"] == "espec-p300"
    assert told["simulated"] is True
    lowest = next(one for one in told["settings"] if one["name"] == "lowest")
    assert (lowest["default"], lowest["takes"]) == ("-20 degC", "a temperature, K")
    assert lowest["meaning"].endswith("a set-point outside is refused.")
    assert [info["name"] for info in json.loads(shown("--json"))] == NAMES


def test_the_list_names_every_driver_within_the_width() -> None:
    lines = shown().splitlines()
    assert [name for name in NAMES if not any(line.startswith(f"{name}: ") for line in lines)] == []
    assert max(map(len, lines)) <= PIPED


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["drivers", "keithly-2450"])
    assert isinstance(result.exception, BadInputError)
    assert 'Did you mean "keithley-2450"?' in str(result.exception)


@dataclass(frozen=True)
class Inner:
    """A table. when: ISO 8601."""

    when: str = ""
    number: int = 3


@dataclass(frozen=True)
class Everything:
    """Of each kind one. given: s, always. change: K, added.

    window: of the cell, a: b and c. share, other: of both
    lines.
    inner: kept.
    """

    given: Seconds
    change: KelvinDifference = 0.0
    window: Voltages = (2.5, 4.25)
    share: float = 0.5
    other: bool = True
    silent: str = "x"
    inner: Inner = field(default_factory=Inner)


def test_settings_of_every_kind_are_told() -> None:
    assert settings_of(Everything) == (
        Setting("given", "must be given", "a time, s", "s, always."),
        Setting("change", "0 K", "a temperature difference, K", "K, added."),
        Setting("window", "2.5 V, 4.25 V", "2, each a voltage, V", "of the cell, a: b and c."),
        Setting("share", "0.5", "a number", "of both lines."),
        Setting("other", "true", "true, false", "of both lines."),
        Setting("silent", "x", "a text", ""),
        Setting("inner.when", '""', "a text", "ISO 8601."),
        Setting("inner.number", "3", "a whole number", "kept."),
    )


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_on_a_terminal_it_is_as_wide_as_that() -> None:
    import termios

    host, terminal = os.openpty()
    try:
        termios.tcsetwinsize(terminal, (24, 70))
        environment = {key: text for key, text in os.environ.items() if key != "COLUMNS"}
        command = [sys.executable, "-m", "operando.station", "drivers", "rapidox-1100"]
        process = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal,
            env={**environment, "TERM": "xterm"},
        )  # fmt: skip
        os.close(terminal)
        printed = b""
        while True:
            try:
                read = os.read(host, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not read:
                break
            printed += read
        assert process.wait(60) == 0, printed
    finally:
        os.close(host)
    lines = re.sub("\x1b\\[[0-9;]*m", "", printed.decode()).splitlines()
    assert any("Cambridge Sensotec" in line for line in lines)
    assert 60 < max(map(len, lines)) <= 70
