"""SCPI commands of the simulated 2400 series that measure: functions, triggers, trace buffer."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from operando.simulators.devices.scpi import (
    Command,
    Parser,
    ScpiError,
    boolean,
    choice,
    nothing,
    number_or_keyword,
    resolve,
    string,
)

if TYPE_CHECKING:
    from operando.simulators.devices.keithley_2400 import Row, SimulatedKeithley2400

LONG = {"VOLT": "VOLTage", "CURR": "CURRent", "RES": "RESistance"}

MOST_POINTS = 2500
"""Readings of the trace buffer, and of one trigger cycle (section 9, p. 18-81)."""

Value = float | str

_FUNCTIONS = {
    f"{word}{dc}": short
    for short, words in (("VOLT", ("VOLT", "VOLTAGE")), ("CURR", ("CURR", "CURRENT")))
    for word in words
    for dc in ("", ":DC")
} | {"RES": "RES", "RESISTANCE": "RES"}


def setting(value: float) -> str:
    """A setting as queries print it: 1.050000E-04."""
    return f"{value + 0.0:.6E}"


def bit(on: bool) -> str:
    """A switch as queries print it."""
    return "1" if on else "0"


def _function(text: str) -> str:
    try:
        return _FUNCTIONS[string(text).upper()]
    except KeyError:
        raise ScpiError(-224) from None


def reading_commands(m: SimulatedKeithley2400) -> list[Command]:
    """Functions that are measured, readings, triggers, trace buffer."""
    return [*_functions(m), *_readings(m), *_trigger(m), *_trace(m)]


def _functions(m: SimulatedKeithley2400) -> list[Command]:
    several: tuple[Parser, ...] = (_function,) * 3

    def on(now: float, *names: str) -> None:
        m.functions = (m.functions | set(names)) if m.concurrent else {names[-1]}

    def off(now: float, *names: str) -> None:
        m.functions = m.functions - set(names)

    def listed(names: set[str]) -> str:
        shown = {"VOLT": '"VOLT:DC"', "CURR": '"CURR:DC"', "RES": '"RES"'}
        return ",".join(text for name, text in shown.items() if name in names)

    def set_concurrent(now: float, value: bool) -> None:
        m.concurrent = value
        if not value and len(m.functions) > 1:
            # The manual: with concurrency off the voltage function is selected first.
            m.functions = {"VOLT"} if "VOLT" in m.functions else {"CURR"}

    root = "[:SENSe[1]]:FUNCtion"
    return [
        Command(root + "[:ON]", on, several, 1),
        Command(root + "[:ON]?", lambda now: listed(m.functions)),
        Command(root + "[:ON]:ALL", lambda now: on(now, "VOLT", "CURR", "RES")),
        Command(root + "[:ON]:COUNt?", lambda now: str(len(m.functions))),
        Command(root + ":OFF", off, several, 1),
        Command(root + ":OFF?", lambda now: listed(set(LONG) - m.functions)),
        Command(root + ":OFF:ALL", lambda now: off(now, *LONG)),
        Command(root + ":CONCurrent", set_concurrent, (boolean,)),
        Command(root + ":CONCurrent?", lambda now: bit(m.concurrent)),
    ]


def _readings(m: SimulatedKeithley2400) -> list[Command]:
    element = choice("VOLTage", "CURRent", "RESistance", "TIME", "STATus")

    def set_elements(now: float, *names: str) -> None:
        m.elements = set(names)

    def elements(now: float) -> str:
        order = ("VOLT", "CURR", "RES", "TIME", "STAT")
        return ",".join(name for name in order if name in m.elements)

    def fetch(now: float) -> str:
        if not m.last_rows:
            raise ScpiError(-230)
        return m.print_rows(m.last_rows)

    def configure(function: str, now: float) -> None:
        m.abort(now)
        m.functions = {function}
        m.counts = dict.fromkeys(m.counts, 1)
        m.trigger_delay = 0.0
        m.arm_source = "IMM"
        if function != m.stage.function:
            m.stage.senses[function].range = None
        m.apply_limits(now)
        m.occupy(m.stage.switch(True, now))

    def measure(function: str, now: float) -> str:
        # Called again while it waits: configure once.
        if m.measuring != function:
            configure(function, now)
            m.measuring = function
        try:
            reply = m.read(now)
        except ScpiError:
            m.measuring = ""
            raise
        m.measuring = ""
        return reply

    table = [
        Command(":FORMat:ELEMents[:SENSe[1]]", set_elements, (element,) * 5, 1),
        Command(":FORMat:ELEMents[:SENSe[1]]?", elements),
        Command(":READ?", m.read),
        Command(":FETCh?", fetch),
        Command("[:SENSe[1]]:DATA[:LATest]?", lambda now: m.print_rows(m.last_rows[-1:])),
        Command(":MEASure?", m.read),
        Command(":CONFigure?", lambda now: ",".join(sorted(m.functions))),
    ]
    for function in ("VOLT", "CURR", "RES"):
        dc = "" if function == "RES" else "[:DC]"
        table += [
            Command(f":CONFigure:{LONG[function]}{dc}", partial(configure, function)),
            Command(f":MEASure:{LONG[function]}{dc}?", partial(measure, function)),
        ]
    return table


def _trigger(m: SimulatedKeithley2400) -> list[Command]:
    words = {"outputs": {"ARM": "NONE", "TRIG": "NONE"}, "sources": {"TRIG": "IMM"}}
    lines = {("ARM", "ILINe"): 1, ("ARM", "OLINe"): 2, ("TRIG", "ILINe"): 1, ("TRIG", "OLINe"): 2}

    def set_count(layer: str, now: float, value: Value) -> None:
        count = int(resolve(value, 1, MOST_POINTS, 1))
        other = m.counts["TRIG" if layer == "ARM" else "ARM"]
        if count * other > MOST_POINTS:
            raise ScpiError(-221)
        m.counts[layer] = count

    def set_delay(now: float, value: Value) -> None:
        m.trigger_delay = resolve(value, 0.0, 999.9999, 0.0)

    def set_timer(now: float, value: Value) -> None:
        m.arm_timer = resolve(value, 0.001, 99_999.99, 0.1)

    def set_arm_source(now: float, word: str) -> None:
        m.arm_source = word

    def set_word(group: str, layer: str, now: float, *chosen: str) -> None:
        words[group][layer] = ",".join(chosen)

    def set_line(key: tuple[str, str], now: float, value: Value) -> None:
        lines[key] = int(resolve(value, 1, 4, 1))

    sources = choice("IMMediate", "TLINk", "TIMer", "MANual", "BUS", "NSTest", "PSTest", "BSTest")
    arm_events = choice("TENTer", "TEXit", "NONE")
    trigger_events = choice("SOURce", "DELay", "SENSe", "NONE")
    table = [
        Command(":INITiate[:IMMediate]", m.initiate),
        Command(":ABORt", m.abort),
        Command(":TRIGger:CLEar", m.abort),
        Command(":TRIGger[:SEQuence[1]]:DELay", set_delay, (number_or_keyword,)),
        Command(":TRIGger[:SEQuence[1]]:DELay?", lambda now: setting(m.trigger_delay)),
        Command(":ARM:TIMer", set_timer, (number_or_keyword,)),
        Command(":ARM:TIMer?", lambda now: setting(m.arm_timer)),
        Command(":ARM:SOURce", set_arm_source, (sources,)),
        Command(":ARM:SOURce?", lambda now: m.arm_source),
        Command(
            ":TRIGger:SOURce",
            partial(set_word, "sources", "TRIG"),
            (choice("IMMediate", "TLINk"),),
        ),
        Command(":TRIGger:SOURce?", lambda now: words["sources"]["TRIG"]),
    ]
    for layer, root, events in (
        ("ARM", ":ARM[:SEQuence[1]][:LAYer[1]]", arm_events),
        ("TRIG", ":TRIGger[:SEQuence[1]]", trigger_events),
    ):
        table += [
            Command(root + ":COUNt", partial(set_count, layer), (number_or_keyword,)),
            Command(root + ":COUNt?", lambda now, layer=layer: str(m.counts[layer])),
            Command(root + ":OUTPut", partial(set_word, "outputs", layer), (events,) * 3, 1),
            Command(root + ":OUTPut?", lambda now, layer=layer: words["outputs"][layer]),
        ]
        for which in ("ILINe", "OLINe"):
            key = (layer, which)
            table += [
                Command(f"{root}:{which}", partial(set_line, key), (number_or_keyword,)),
                Command(f"{root}:{which}?", lambda now, key=key: str(lines[key])),
            ]
    return table


def _trace(m: SimulatedKeithley2400) -> list[Command]:
    chosen = {"statistic": "MEAN"}

    def clear(now: float) -> None:
        m.trace.clear()

    def set_size(now: float, value: Value) -> None:
        m.trace.clear()
        m.trace_size = int(resolve(value, 1, MOST_POINTS, 100))

    def set_control(now: float, word: str) -> None:
        if word == "NEXT":
            m.trace.clear()
        m.trace_control = word

    def data(now: float) -> str:
        if not m.trace:
            raise ScpiError(-230)
        return m.print_rows(m.trace)

    def set_statistic(now: float, word: str) -> None:
        chosen["statistic"] = word

    def statistic(now: float) -> str:
        if not m.trace:
            raise ScpiError(-230)
        names = [name for name in ("VOLT", "CURR", "RES") if name in m.functions]
        found = (_statistic(m.trace, name, chosen["statistic"]) for name in names)
        return ",".join(f"{value:+.6E}" for value in found)

    feeds = choice("SENSe", "SENSe1", "CALCulate1", "CALCulate2")
    return [
        Command(":TRACe:CLEar", clear),
        Command(":TRACe:POINts", set_size, (number_or_keyword,)),
        Command(":TRACe:POINts?", lambda now: str(m.trace_size)),
        Command(":TRACe:POINts:ACTual?", lambda now: str(len(m.trace))),
        Command(":TRACe:FEED", nothing, (feeds,)),
        Command(":TRACe:FEED?", lambda now: "SENS1"),
        Command(":TRACe:FEED:CONTrol", set_control, (choice("NEXT", "NEVer"),)),
        Command(":TRACe:FEED:CONTrol?", lambda now: m.trace_control),
        Command(":TRACe:DATA?", data),
        Command(
            ":CALCulate3:FORMat",
            set_statistic,
            (choice("MEAN", "SDEViation", "MAXimum", "MINimum", "PKPK"),),
        ),
        Command(":CALCulate3:FORMat?", lambda now: chosen["statistic"]),
        Command(":CALCulate3:DATA?", statistic),
    ]


def _statistic(rows: list[Row], element: str, which: str) -> float:
    """Mean, deviation or an extreme of one element of readings."""
    values = [row.element(element) for row in rows]
    mean = math.fsum(values) / len(values)
    if which == "SDEV":
        spread = math.fsum((value - mean) ** 2 for value in values)
        return math.sqrt(spread / max(len(values) - 1, 1))
    return {
        "MEAN": mean,
        "MAX": max(values),
        "MIN": min(values),
        "PKPK": max(values) - min(values),
    }[which]
