"""The table of SCPI commands of the simulated source meters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from operando.simulators.devices import keithley_sweep as sweeps
from operando.simulators.devices import scpi
from operando.simulators.devices.keithley_readings import (
    LONG,
    buffer_commands,
    reading_commands,
)
from operando.simulators.devices.keithley_source import OTHER
from operando.simulators.devices.scpi import (
    Command,
    ScpiError,
    anything,
    boolean,
    choice,
    keyword,
    nothing,
    number,
    number_or_keyword,
    resolve,
    string,
)

if TYPE_CHECKING:
    from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450

LIMIT = {"VOLT": "ILIMit", "CURR": "VLIMit"}
PROTECTION_STEPS = "PROT"

Value = float | str


def plain(value: float) -> str:
    """A setting as queries print it: 4.25, 1.57E-03."""
    if value == 0.0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.7G}"
    mantissa, _, power = f"{value:.6E}".partition("E")
    return f"{mantissa.rstrip('0').rstrip('.')}E{power}"


def commands(meter: SimulatedKeithley2450) -> list[Command]:
    """Every command of one instrument."""
    table = [
        *_common(meter),
        *_system(meter),
        *_output(meter),
        *reading_commands(meter),
        *buffer_commands(meter),
    ]
    for function in ("VOLT", "CURR"):
        table += _source(meter, function)
    for function in ("VOLT", "CURR", "RES"):
        table += _sense(meter, function)
    if meter.language != "SCPI":
        # The other command sets are not simulated: only their name is.
        table = [c for c in table if c.pattern in ("*IDN?", "*LANG?", "*LANG")]
    return table


def _common(m: SimulatedKeithley2450) -> list[Command]:
    def identify(now: float) -> str:
        return f"KEITHLEY INSTRUMENTS,{m.MODEL.name},{m.serial},{m.firmware}"

    def clear_status(now: float) -> None:
        m.event_status = 0
        m.events.clear()

    def event_status(now: float) -> str:
        value, m.event_status = m.event_status, 0
        return str(value)

    def status_byte(now: float) -> str:
        value = 4 if m.events.count() else 0
        value |= 32 if m.event_status & m.event_enable else 0
        if m.measurement_enable & 512:
            buffer = m.buffers["defbuffer1"]
            value |= 1 if len(buffer.entries) == buffer.size else 0
        value |= 64 if value & m.service_enable else 0
        return str(value)

    def complete(now: float) -> str:
        m.await_sweep(now)
        return "1"

    def note_complete(now: float) -> None:
        m.event_status |= 1

    def set_language(now: float, language: str) -> None:
        m.next_language = language

    def set_event_enable(now: float, value: float) -> None:
        m.event_enable = int(resolve(value, 0, 255, 0))

    def set_service_enable(now: float, value: float) -> None:
        m.service_enable = int(resolve(value, 0, 255, 0))

    return [
        Command("*IDN?", identify),
        Command("*RST", m.reset),
        Command("*CLS", clear_status),
        Command("*LANG?", lambda now: m.language),
        Command("*LANG", set_language, (choice("SCPI", "SCPI2400", "TSP"),)),
        Command("*OPC?", complete),
        Command("*OPC", note_complete),
        Command("*OPT?", lambda now: "0"),
        Command("*WAI", m.await_sweep),
        Command("*TRG", nothing),
        Command("*ESR?", event_status),
        Command("*ESE", set_event_enable, (number,)),
        Command("*ESE?", lambda now: str(m.event_enable)),
        Command("*SRE", set_service_enable, (number,)),
        Command("*SRE?", lambda now: str(m.service_enable)),
        Command("*STB?", status_byte),
        Command("*TST?", lambda now: "0"),
    ]


KINDS = {"ERR": scpi.ERROR, "WARN": scpi.WARNING, "INF": scpi.INFORMATION, "ALL": 7}


def _kinds(text: str) -> int:
    total = 0
    for word in text.upper().split("|"):
        short = {"ERROR": "ERR", "WARNING": "WARN", "INFORMATION": "INF"}.get(word, word)
        if short not in KINDS:
            raise ScpiError(-224)
        total |= KINDS[short]
    return total


def _system(m: SimulatedKeithley2450) -> list[Command]:
    def next_error(now: float) -> str:
        event = m.events.next()
        return event.dated() if event else scpi.NO_EVENT

    def next_event(now: float, kinds: int = 7) -> str:
        event = m.events.next(kinds)
        return event.numbered() if event else scpi.NO_EVENT

    def clear(now: float) -> None:
        m.events.clear()

    def clear_status(now: float) -> None:
        m.event_status = 0

    def preset(now: float) -> None:
        m.measurement_enable = 0

    def beep(now: float, frequency: float, duration: float) -> None:
        resolve(frequency, 20.0, 2e6, 1e3)  # 2450 manual: 20 to 8000 Hz; others ask for more
        resolve(duration, 0.001, 100.0, 0.1)

    table = [
        Command(":SYSTem:ERRor[:NEXT]?", next_error),
        Command(":SYSTem:ERRor:COUNt?", lambda now: str(m.events.count())),
        Command(":SYSTem:EVENtlog:NEXT?", next_event, (_kinds,), 0),
        Command(":SYSTem:EVENtlog:COUNt?", lambda now, k=7: str(m.events.count(k)), (_kinds,), 0),
        Command(":SYSTem:CLEar", clear),
        Command(":SYSTem:BEEPer[:IMMediate]", beep, (number, number)),
        Command(":SYSTem:LFRequency?", lambda now: plain(m.stage.line_frequency)),
        Command(":SYSTem:VERSion?", lambda now: "1996.0"),
        Command(":STATus:CLEar", clear_status),
        Command(":STATus:PRESet", preset),
        Command(":FORMat[:DATA]", nothing, (choice("ASCii"),)),
        Command(":FORMat[:DATA]?", lambda now: "ASC"),
        Command(":FORMat:ASCii:PRECision", nothing, (number_or_keyword,)),
        Command(":DISPlay:SCReen", nothing, (anything,)),
        Command(":DISPlay:CLEar", nothing),
    ]
    if m.accepts_2400_buffers:

        def enable(now: float, value: float) -> None:
            m.measurement_enable = int(value)

        table.append(Command(":STATus:MEASurement:ENABle", enable, (number,)))
    return table


def _output(m: SimulatedKeithley2450) -> list[Command]:
    stage = m.stage
    state = choice("NORMal", "HIMPedance", "ZERO", "GUARd")

    def switch(now: float, on: bool) -> None:
        if not on:
            m.sweep.abort(now)
        m.occupy(stage.switch(on, now))

    def set_state(now: float, *arguments: str) -> None:
        for function in ("VOLT", "CURR"):
            stage.source[function].off_state = arguments[0]
        m.occupy(stage.off_state_changed(now))

    def set_state_of(function: str, now: float, value: str) -> None:
        stage.source[function].off_state = value
        if function == stage.function:
            m.occupy(stage.off_state_changed(now))

    def set_terminals(now: float, which: str) -> None:
        m.sweep.abort(now)
        m.occupy(stage.change_terminals(which, now))

    table = [
        Command(":OUTPut[1][:STATe]", switch, (boolean,)),
        Command(":OUTPut[1][:STATe]?", lambda now: "1" if stage.output else "0"),
        Command(":OUTPut[1]:SMODe", set_state, (state,)),
        Command(":OUTPut[1]:SMODe?", lambda now: stage.source[stage.function].off_state),
        Command(":ROUTe:TERMinals", set_terminals, (choice("FRONt", "REAR"),)),
        Command(":ROUTe:TERMinals?", lambda now: stage.terminals),
    ]
    for function in ("VOLT", "CURR"):
        header = f":OUTPut[1]:{LONG[function]}:SMODe"
        table += [
            Command(header, partial(set_state_of, function), (state,)),
            Command(header + "?", lambda now, get=function: stage.source[get].off_state),
        ]
    return table


def _source(m: SimulatedKeithley2450, function: str) -> list[Command]:
    stage, model = m.stage, m.MODEL
    highest = model.highest_voltage if function == "VOLT" else model.highest_current
    limits = model.current_limits if function == "VOLT" else model.voltage_limits
    default_limit = (
        model.default_current_limit if function == "VOLT" else model.default_voltage_limit
    )

    def changed(now: float) -> None:
        if stage.function == function:
            stage.source_changed(now)

    def set_level(now: float, value: Value) -> None:
        level = resolve(value, -highest, highest, 0.0)
        settings = stage.source[function]
        if settings.range is not None and abs(level) > model.reach(function, settings.range):
            raise ScpiError(-222)
        settings.level = level
        changed(now)

    def get_level(now: float, word: str = "") -> str:
        if word:
            return plain(resolve(word, -highest, highest, 0.0))
        return plain(stage.source[function].level)

    def set_range(now: float, value: Value) -> None:
        ranges = model.ranges(function)
        wanted = resolve(value, -ranges[-1] * 1.05, ranges[-1] * 1.05, ranges[0])
        full_scale = model.range_for(function, wanted) or ranges[-1]
        settings = stage.source[function]
        if abs(settings.level) > model.reach(function, full_scale):
            raise ScpiError(-221)
        settings.range = full_scale
        changed(now)

    def set_auto(now: float, on: bool) -> None:
        stage.source[function].range = None if on else stage.source_range(function)
        changed(now)

    def set_limit(now: float, value: Value) -> None:
        limit = resolve(value if isinstance(value, str) else abs(value), *limits, default_limit)
        if function == "CURR" and stage.protection is not None and limit > stage.protection:
            raise ScpiError(-222)
        measured = OTHER[function]
        fixed = stage.senses[measured].range
        if stage.sense == measured and fixed is not None:
            check_limit_against_range(limit, fixed, model.reach(measured, fixed))
        stage.source[function].limit = limit
        changed(now)

    def get_limit(now: float, word: str = "") -> str:
        return plain(
            resolve(word, *limits, default_limit) if word else stage.source[function].limit
        )

    def tripped(now: float) -> str:
        stage.catch_up(now)
        return "1" if stage.function == function and stage.in_limit(now) else "0"

    def set_read_back(now: float, on: bool) -> None:
        stage.source[function].read_back = on
        stage.rearrange()

    def set_delay(now: float, value: Value) -> None:
        stage.source[function].delay = resolve(value, 0.0, 1e4, 0.0)
        stage.source[function].delay_auto = False

    def set_delay_auto(now: float, on: bool) -> None:
        stage.source[function].delay_auto = on

    def set_high_capacitance(now: float, on: bool) -> None:
        stage.source[function].high_capacitance = on

    def set_up_sweep(
        now: float,
        start: float,
        stop: float,
        points: float,
        delay: Value = 0.0,
        count: Value = 1.0,
        range_type: str = "BEST",
        *rest: object,
    ) -> None:
        if isinstance(count, str) or count != 1:
            raise ScpiError(-222)
        if not 2 <= points <= sweeps.MOST_POINTS or max(abs(start), abs(stop)) > highest:
            raise ScpiError(-222)
        name = str(rest[2]) if len(rest) > 2 else "defbuffer1"
        m.buffer(name)
        m.sweep.plan = sweeps.SweepPlan(
            function=function,
            levels=sweeps.linear(start, stop, int(points)),
            delay=None if isinstance(delay, str) or delay < 0 else delay,
            buffer=name,
            fixed=range_type != "AUTO",
        )

    root = f":SOURce[1]:{LONG[function]}"
    level = f"{root}[:LEVel][:IMMediate][:AMPLitude]"
    limit = f"{root}:{LIMIT[function]}[:LEVel]"
    table = [
        Command(level, set_level, (number_or_keyword,)),
        Command(level + "?", get_level, (keyword,), 0),
        Command(root + ":RANGe", set_range, (number_or_keyword,)),
        Command(root + ":RANGe?", lambda now: plain(stage.source_range(function))),
        Command(root + ":RANGe:AUTO", set_auto, (boolean,)),
        Command(
            root + ":RANGe:AUTO?", lambda now: "1" if stage.source[function].range is None else "0"
        ),
        Command(limit, set_limit, (number_or_keyword,)),
        Command(limit + "?", get_limit, (keyword,), 0),
        Command(limit + ":TRIPped?", tripped),
        Command(root + ":READ:BACK", set_read_back, (boolean,)),
        Command(root + ":READ:BACK?", lambda now: _bit(stage.source[function].read_back)),
        Command(root + ":DELay", set_delay, (number_or_keyword,)),
        Command(root + ":DELay?", lambda now: plain(stage.source[function].delay)),
        Command(root + ":DELay:AUTO", set_delay_auto, (boolean,)),
        Command(root + ":DELay:AUTO?", lambda now: _bit(stage.source[function].delay_auto)),
        Command(root + ":HIGH:CAPacitance", set_high_capacitance, (boolean,)),
        Command(
            root + ":HIGH:CAPacitance?", lambda now: _bit(stage.source[function].high_capacitance)
        ),
        Command(
            f":SOURce[1]:SWEep:{LONG[function]}:LINear",
            set_up_sweep,
            (
                number,
                number,
                number,
                number_or_keyword,
                number_or_keyword,
                choice("AUTO", "BEST", "FIXed"),
                boolean,
                boolean,
                string,
            ),
            3,
        ),
    ]
    if function == "VOLT":
        table += _source_once(m)
    return table


def check_limit_against_range(limit: float, full_scale: float, reach: float) -> None:
    """A limit must exceed 0.1 % of a fixed measure range, and the range must hold it."""
    if limit <= 0.001 * full_scale or limit > reach:
        raise ScpiError(-221)


def _bit(on: bool) -> str:
    return "1" if on else "0"


def _source_once(m: SimulatedKeithley2450) -> list[Command]:
    """Commands of the source that exist once: function and over-voltage protection."""
    stage = m.stage
    words = tuple(f"{PROTECTION_STEPS}{step}" for step in m.MODEL.protections)

    def set_function(now: float, function: str) -> None:
        if function != stage.function:
            m.sweep.abort(now)
        m.occupy(stage.change_function(function, now))

    def set_protection(now: float, word: str) -> None:
        stage.protection = None if word == "NONE" else int(word.removeprefix(PROTECTION_STEPS))
        stage.source_changed(now)

    def protection(now: float) -> str:
        step = stage.protection
        return "NONE" if step is None else f"{PROTECTION_STEPS}{step}"

    header = ":SOURce[1]:VOLTage:PROTection[:LEVel]"
    return [
        Command(":SOURce[1]:FUNCtion[:MODE]", set_function, (choice("VOLTage", "CURRent"),)),
        Command(":SOURce[1]:FUNCtion[:MODE]?", lambda now: stage.function),
        Command(header, set_protection, (choice(*words, "NONE"),)),
        Command(header + "?", protection),
        Command(header + ":TRIPped?", lambda now: _bit(stage.protecting(now))),
    ]


def _sense(m: SimulatedKeithley2450, function: str) -> list[Command]:
    stage, model = m.stage, m.MODEL
    dc = "" if function == "RES" else "[:DC]"
    root = f"[:SENSe[1]]:{LONG[function]}{dc}"

    def full_scale(value: Value) -> float:
        if function == "RES":
            wanted = resolve(value, 0.0, 2.1e8, 2e5)
            return next(r for r in (2.0 * 10.0**e for e in range(9)) if wanted <= 1.05 * r)
        ranges = model.ranges(function)
        wanted = resolve(value, -1.05 * ranges[-1], 1.05 * ranges[-1], ranges[0])
        return model.range_for(function, wanted) or ranges[-1]

    def set_range(now: float, value: Value) -> None:
        found = full_scale(value)
        if function != "RES" and OTHER[function] == stage.function and stage.sense == function:
            limit = stage.source[stage.function].limit
            check_limit_against_range(limit, found, model.reach(function, found))
        stage.senses[function].range = found
        stage.rearrange()

    def get_range(now: float) -> str:
        fixed = stage.senses[function].range
        if fixed is None and function == stage.function:
            fixed = stage.source_range(function)
        if fixed is None:
            fixed = stage.current_range() if function == "CURR" else stage.voltage_range()
            if function == "RES":
                fixed = 2e5
        return plain(fixed)

    def set_auto(now: float, on: bool) -> None:
        sense = stage.senses[function]
        if on:
            sense.range = None
        elif sense.range is None:
            sense.range = float(get_range(now))
        stage.rearrange()

    def set_lowest(now: float, value: Value) -> None:
        found = full_scale(value)
        if found > stage.senses[function].highest:
            raise ScpiError(-221)
        stage.senses[function].lowest = found
        stage.rearrange()

    def set_highest(now: float, value: Value) -> None:
        found = full_scale(value)
        if found < stage.senses[function].lowest:
            raise ScpiError(-221)
        stage.senses[function].highest = found
        stage.rearrange()

    def set_nplc(now: float, value: Value) -> None:
        stage.senses[function].nplc = resolve(value, 0.01, 10.0, 1.0)
        stage.rearrange()

    def set_four_wire(now: float, on: bool) -> None:
        stage.senses[function].four_wire = on
        stage.source_changed(now)

    def set_auto_zero(now: float, on: bool) -> None:
        stage.senses[function].auto_zero = on
        stage.rearrange()

    def set_filter(now: float, on: bool) -> None:
        stage.senses[function].filter = on
        stage.rearrange()

    def set_filter_count(now: float, value: Value) -> None:
        stage.senses[function].filter_count = int(resolve(value, 1, 100, 10))
        stage.rearrange()

    def set_filter_kind(now: float, kind: str) -> None:
        stage.senses[function].filter_kind = kind

    upper = root + ":RANGe[:UPPer]"
    average = root + ":AVERage"
    return [
        Command(upper, set_range, (number_or_keyword,)),
        Command(upper + "?", get_range),
        Command(root + ":RANGe:AUTO", set_auto, (boolean,)),
        Command(root + ":RANGe:AUTO?", lambda now: _bit(stage.senses[function].range is None)),
        Command(root + ":RANGe:AUTO:LLIMit", set_lowest, (number_or_keyword,)),
        Command(root + ":RANGe:AUTO:LLIMit?", lambda now: plain(stage.senses[function].lowest)),
        Command(root + ":RANGe:AUTO:ULIMit", set_highest, (number_or_keyword,)),
        Command(root + ":RANGe:AUTO:ULIMit?", lambda now: plain(stage.senses[function].highest)),
        Command(root + ":NPLCycles", set_nplc, (number_or_keyword,)),
        Command(root + ":NPLCycles?", lambda now: plain(stage.senses[function].nplc)),
        Command(root + ":RSENse", set_four_wire, (boolean,)),
        Command(root + ":RSENse?", lambda now: _bit(stage.senses[function].four_wire)),
        Command(root + ":AZERo[:STATe]", set_auto_zero, (boolean,)),
        Command(root + ":AZERo[:STATe]?", lambda now: _bit(stage.senses[function].auto_zero)),
        Command(average + "[:STATe]", set_filter, (boolean,)),
        Command(average + "[:STATe]?", lambda now: _bit(stage.senses[function].filter)),
        Command(average + ":COUNt", set_filter_count, (number_or_keyword,)),
        Command(average + ":COUNt?", lambda now: str(stage.senses[function].filter_count)),
        Command(average + ":TCONtrol", set_filter_kind, (choice("REPeat", "MOVing"),)),
        Command(average + ":TCONtrol?", lambda now: stage.senses[function].filter_kind),
    ]
