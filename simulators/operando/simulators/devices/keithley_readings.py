"""SCPI commands of the simulated source meters that take readings and look after buffers."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from operando.simulators.devices.keithley_buffer import (
    MOST_ELEMENTS,
    ReadingBuffer,
    element,
    exponent,
    print_entry,
    statistics,
)
from operando.simulators.devices.scpi import (
    Command,
    ScpiError,
    anything,
    choice,
    nothing,
    number,
    number_or_keyword,
    resolve,
    string,
)

if TYPE_CHECKING:
    from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450

LONG = {"VOLT": "VOLTage", "CURR": "CURRent", "RES": "RESistance"}

_FUNCTIONS = {
    "VOLT": "VOLT", "VOLTAGE": "VOLT", "VOLT:DC": "VOLT", "VOLTAGE:DC": "VOLT",
    "CURR": "CURR", "CURRENT": "CURR", "CURR:DC": "CURR", "CURRENT:DC": "CURR",
    "RES": "RES", "RESISTANCE": "RES",
}  # fmt: skip


def _function(text: str) -> str:
    try:
        return _FUNCTIONS[string(text).upper()]
    except KeyError:
        raise ScpiError(-224) from None


def reading_commands(m: SimulatedKeithley2450) -> list[Command]:
    """Measure function, readings, scans."""
    stage = m.stage

    def set_function(now: float, function: str) -> None:
        stage.sense = function
        stage.source_changed(now)

    def get_function(now: float) -> str:
        return '"RES"' if stage.sense == "RES" else f'"{stage.sense}:DC"'

    def set_count(now: float, value: float | str) -> None:
        m.count = int(resolve(value, 1, 300_000, 1))

    def fetch(now: float, name: str = "defbuffer1", *elements: str) -> str:
        buffer = m.buffer(name)
        if not buffer.entries:
            raise ScpiError(-230, "Data corrupt or stale")
        return print_entry(buffer.entries[-1], elements or ("READ",), buffer)

    def measure(function: str, now: float, name: str = "defbuffer1", *elements: str) -> str:
        if function and stage.sense != function:
            set_function(now, function)
        return m.read(now, name, *elements)

    which = (string, *(element,) * MOST_ELEMENTS)
    table = [
        Command("[:SENSe[1]]:FUNCtion[:ON]", set_function, (_function,)),
        Command("[:SENSe[1]]:FUNCtion[:ON]?", get_function),
        Command("[:SENSe[1]]:COUNt", set_count, (number_or_keyword,)),
        Command("[:SENSe[1]]:COUNt?", lambda now: str(m.count)),
        Command("[:SENSe[1]]:AZERo:ONCE", nothing),
        Command(":READ?", m.read, which, 0),
        Command(":FETCh?", fetch, which, 0),
        Command(":MEASure?", partial(measure, ""), which, 0),
        Command(":INITiate[:IMMediate]", m.sweep.start),
        Command(":ABORt", m.sweep.abort),
    ]
    for function in ("VOLT", "CURR", "RES"):
        dc = "" if function == "RES" else "[:DC]"
        header = f":MEASure:{LONG[function]}{dc}?"
        table.append(Command(header, partial(measure, function), which, 0))
    return table


def buffer_commands(m: SimulatedKeithley2450) -> list[Command]:
    """Reading buffers."""

    def make(now: float, name: str, size: float, *style: object) -> None:
        if name in m.buffers or not name:
            raise ScpiError(-221, f"Reading buffer {name} exists")
        m.buffers[name] = ReadingBuffer(int(resolve(size, 10, 6_875_000, 10)), m.clock.utc(0.0))

    def delete(now: float, name: str) -> None:
        m.buffer(name)
        if name.startswith("defbuffer"):
            raise ScpiError(-221)
        del m.buffers[name]

    def clear(now: float, name: str = "defbuffer1") -> None:
        m.buffer(name).clear()

    def set_points(now: float, value: float | str, name: str = "defbuffer1") -> None:
        lowest = 1 if m.accepts_2400_buffers else 10
        m.buffer(name).resize(int(resolve(value, lowest, 6_875_000, 100_000)))

    def points(now: float, name: str = "defbuffer1") -> str:
        return str(m.buffer(name).size)

    def count(now: float, name: str = "defbuffer1") -> str:
        return str(len(m.buffer(name).entries))

    def first(now: float, name: str = "defbuffer1") -> str:
        return "1" if m.buffer(name).entries else "0"

    def set_mode(now: float, mode: str, name: str = "defbuffer1") -> None:
        m.buffer(name).mode = mode

    def mode(now: float, name: str = "defbuffer1") -> str:
        return m.buffer(name).mode

    def data(
        now: float, start: float = 1, end: float = -1, name: str = "defbuffer1", *elements: str
    ) -> str:
        buffer = m.buffer(name)
        if end == -1 and m.accepts_2400_buffers:
            end = len(buffer.entries)
        if not 1 <= start <= end <= len(buffer.entries):
            raise ScpiError(-222)
        wanted = elements or ("READ",)
        return ",".join(
            print_entry(entry, wanted, buffer)
            for entry in islice(buffer.entries, int(start) - 1, int(end))
        )

    def statistic(which: str, now: float, name: str = "defbuffer1") -> str:
        return exponent(statistics(m.buffer(name).entries, which))

    which = (string,)
    table = [
        Command(":TRACe:MAKE", make, (string, number_or_keyword, anything), 2),
        Command(":TRACe:DELete", delete, which),
        Command(":TRACe:CLEar", clear, which, 0),
        Command(":TRACe:POINts", set_points, (number_or_keyword, string), 1),
        Command(":TRACe:POINts?", points, which, 0),
        Command(":TRACe:ACTual?", count, which, 0),
        Command(":TRACe:ACTual:STARt?", first, which, 0),
        Command(":TRACe:ACTual:END?", count, which, 0),
        Command(":TRACe:FILL:MODE", set_mode, (choice("CONTinuous", "ONCE"), string), 1),
        Command(":TRACe:FILL:MODE?", mode, which, 0),
        Command(
            ":TRACe:DATA?",
            data,
            (number, number, string, *(element,) * MOST_ELEMENTS),
            0 if m.accepts_2400_buffers else 2,
        ),
    ]
    for word in ("AVERage", "MAXimum", "MINimum", "PK2Pk", "STDDev"):
        short = "".join(c for c in word if not c.islower())
        table.append(Command(f":TRACe:STATistics:{word}?", partial(statistic, short), which, 0))
    if m.accepts_2400_buffers:
        table += [
            Command(":TRACe:FEED", nothing, (anything,)),
            Command(":TRACe:FEED:CONTrol", nothing, (choice("NEXT", "NEVer"),)),
        ]
    return table
