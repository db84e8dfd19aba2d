"""The table of SCPI commands of the simulated 2400 series source meters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from operando.simulators.devices.keithley_2400_readings import (
    LONG,
    Value,
    bit,
    reading_commands,
    setting,
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
)

if TYPE_CHECKING:
    from operando.simulators.devices.keithley_2400 import SimulatedKeithley2400

NO_PROTECTION = "NONE"


def commands(meter: SimulatedKeithley2400) -> list[Command]:
    """Every command of one instrument."""
    table = [
        *_common(meter),
        *_errors(meter),
        *_status(meter),
        *_system(meter),
        *_output(meter),
        *reading_commands(meter),
    ]
    for function in ("VOLT", "CURR"):
        table += [*_source(meter, function), *_compliance(meter, function)]
    for function in ("VOLT", "CURR", "RES"):
        table += _sense(meter, function)
    return table


def _common(m: SimulatedKeithley2400) -> list[Command]:
    def clear_status(now: float) -> None:
        m.event_status = 0
        m.events = dict.fromkeys(m.events, 0)
        m.errors.clear()

    def event_status(now: float) -> str:
        value, m.event_status = m.event_status, 0
        return str(value)

    def complete(now: float) -> str:
        m.await_idle(now)
        return "1"

    def note_complete(now: float) -> None:
        m.event_status |= 1

    def set_event_enable(now: float, value: float) -> None:
        m.event_enable = int(resolve(value, 0, 255, 0))

    def set_service_enable(now: float, value: float) -> None:
        m.service_enable = int(resolve(value, 0, 255, 0))

    return [
        Command(
            "*IDN?", lambda now: f"KEITHLEY INSTRUMENTS INC.,{m.model.name},{m.serial},{m.firmware}"
        ),
        Command("*RST", m.reset),
        Command("*CLS", clear_status),
        Command("*OPC?", complete),
        Command("*OPC", note_complete),
        Command("*OPT?", lambda now: "0"),
        Command("*WAI", m.await_idle),
        Command("*TRG", m.trigger),
        Command("*ESR?", event_status),
        Command("*ESE", set_event_enable, (number,)),
        Command("*ESE?", lambda now: str(m.event_enable)),
        Command("*SRE", set_service_enable, (number,)),
        Command("*SRE?", lambda now: str(m.service_enable)),
        Command("*STB?", lambda now: str(m.status_byte(now))),
        Command("*TST?", lambda now: "0"),
    ]


def _errors(m: SimulatedKeithley2400) -> list[Command]:
    def shown(code: int, text: str) -> str:
        return f'{code:+d},"{text}"' if code else f'0,"{text}"'

    def next_error(now: float) -> str:
        return shown(*(m.errors.popleft() if m.errors else (0, "No error")))

    def every_error(now: float) -> str:
        found = [*m.errors] or [(0, "No error")]
        m.errors.clear()
        return ",".join(shown(*entry) for entry in found)

    def next_code(now: float) -> str:
        return f"{m.errors.popleft()[0]:+d}" if m.errors else "0"

    def every_code(now: float) -> str:
        found = [f"{code:+d}" for code, _ in m.errors] or ["0"]
        m.errors.clear()
        return ",".join(found)

    def clear(now: float) -> None:
        m.errors.clear()

    return [
        Command(":SYSTem:ERRor[:NEXT]?", next_error),
        Command(":SYSTem:ERRor:ALL?", every_error),
        Command(":SYSTem:ERRor:COUNt?", lambda now: str(len(m.errors))),
        Command(":SYSTem:ERRor:CODE[:NEXT]?", next_code),
        Command(":SYSTem:ERRor:CODE:ALL?", every_code),
        Command(":SYSTem:CLEar", clear),
        Command(":STATus:QUEue[:NEXT]?", next_error),
        Command(":STATus:QUEue:CLEar", clear),
    ]


def _status(m: SimulatedKeithley2400) -> list[Command]:
    def event(which: str, now: float) -> str:
        m.latch(now)
        value, m.events[which] = m.events[which], 0
        return str(value)

    def condition(which: str, now: float) -> str:
        if which == "OPER":
            return str(1 << 3 if m.running else 1 << 10)
        return str(m.measurement_condition(now) if which == "MEAS" else 0)

    def enable(which: str, now: float, value: float) -> None:
        m.enables[which] = int(resolve(value, 0, 65_535, 0))

    def preset(now: float) -> None:
        m.enables = dict.fromkeys(m.enables, 0)

    table = [Command(":STATus:PRESet", preset)]
    for which, word in (("MEAS", "MEASurement"), ("OPER", "OPERation"), ("QUES", "QUEStionable")):
        root = f":STATus:{word}"
        table += [
            Command(root + "[:EVENt]?", partial(event, which)),
            Command(root + ":CONDition?", partial(condition, which)),
            Command(root + ":ENABle", partial(enable, which), (number,)),
            Command(root + ":ENABle?", lambda now, which=which: str(m.enables[which])),
        ]
    return table


def _system(m: SimulatedKeithley2400) -> list[Command]:
    stage = m.stage
    shown = {"display": True, "frequency_auto": True}

    def set_four_wire(now: float, on: bool) -> None:
        for sense in stage.senses.values():
            sense.four_wire = on
        stage.source_changed(now)

    def set_auto_zero(now: float, word: str) -> None:
        if word.upper() == "ONCE":
            return
        for sense in stage.senses.values():
            sense.auto_zero = boolean(word)
        stage.rearrange()

    def beep(now: float, frequency: float, duration: float) -> None:
        resolve(frequency, 65.0, 2e6, 1e3)
        resolve(duration, 0.0, 7.9, 0.1)

    def set_frequency(now: float, value: float) -> None:
        if value not in (50.0, 60.0):
            raise ScpiError(-222)
        stage.line_frequency = value
        stage.rearrange()

    def switch(name: str, now: float, on: bool) -> None:
        shown[name] = on

    return [
        Command(":SYSTem:RSENse", set_four_wire, (boolean,)),
        Command(":SYSTem:RSENse?", lambda now: bit(stage.senses["VOLT"].four_wire)),
        Command(":SYSTem:AZERo[:STATe]", set_auto_zero, (anything,)),
        Command(":SYSTem:AZERo[:STATe]?", lambda now: bit(stage.senses["VOLT"].auto_zero)),
        Command(":SYSTem:PRESet", m.reset),
        Command(":SYSTem:BEEPer[:IMMediate]", beep, (number, number)),
        Command(":SYSTem:LFRequency", set_frequency, (number,)),
        Command(":SYSTem:LFRequency?", lambda now: f"{stage.line_frequency:.0f}"),
        Command(":SYSTem:LFRequency:AUTO", partial(switch, "frequency_auto"), (boolean,)),
        Command(":SYSTem:LFRequency:AUTO?", lambda now: bit(shown["frequency_auto"])),
        Command(":SYSTem:VERSion?", lambda now: "1996.0"),
        Command(":SYSTem:TIME:RESet", m.restart_timer),
        Command(":SYSTem:TIME?", lambda now: setting(m.take(now).time)),
        Command(":SYSTem:REMote", nothing),
        Command(":SYSTem:LOCal", nothing),
        Command(":SYSTem:RWLock", nothing),
        Command(":DISPlay:ENABle", partial(switch, "display"), (boolean,)),
        Command(":DISPlay:ENABle?", lambda now: bit(shown["display"])),
        Command(":DISPlay:CNDisplay", nothing),
        Command(":FORMat[:DATA]", nothing, (choice("ASCii"),)),
        Command(":FORMat[:DATA]?", lambda now: "ASC"),
    ]


def _output(m: SimulatedKeithley2400) -> list[Command]:
    stage = m.stage

    def switch(now: float, on: bool) -> None:
        if not on:
            m.abort(now)
        m.occupy(stage.switch(on, now))

    def set_state(now: float, state: str) -> None:
        for settings in stage.source.values():
            settings.off_state = state
        m.occupy(stage.off_state_changed(now))

    def set_terminals(now: float, which: str) -> None:
        m.occupy(stage.change_terminals(which, now))

    def set_clear_auto(now: float, on: bool) -> None:
        m.clear_auto = on

    def set_function(now: float, function: str) -> None:
        m.change_function(function, now)

    def set_protection(now: float, word: str) -> None:
        if word.upper() == NO_PROTECTION:
            stage.protection = None
        else:
            value = number_or_keyword(word)
            wanted = value if isinstance(value, str) else abs(value)
            level = resolve(wanted, 0.0, m.model.highest_voltage, m.model.highest_voltage)
            steps = m.model.protections
            lower = [step for step in steps if step <= level]
            # Between two steps the lower one acts; beyond the last there is none (p. 18-75).
            stage.protection = None if level > steps[-1] else (lower or [steps[0]])[-1]
        stage.source_changed(now)

    def protection(now: float) -> str:
        step = stage.protection
        return setting(m.model.highest_voltage if step is None else step)

    guard = choice("NORMal", "HIMPedance", "ZERO", "GUARd")
    header = ":SOURce[1]:VOLTage:PROTection[:LEVel]"
    return [
        Command(":OUTPut[1][:STATe]", switch, (boolean,)),
        Command(":OUTPut[1][:STATe]?", lambda now: bit(stage.output)),
        Command(":OUTPut[1]:SMODe", set_state, (guard,)),
        Command(":OUTPut[1]:SMODe?", lambda now: stage.source["VOLT"].off_state),
        Command(":OUTPut[1]:ENABle[:STATe]", nothing, (boolean,)),
        Command(":OUTPut[1]:ENABle[:STATe]?", lambda now: "0"),
        Command(":OUTPut[1]:ENABle:TRIPped?", lambda now: "0"),
        Command(":ROUTe:TERMinals", set_terminals, (choice("FRONt", "REAR"),)),
        Command(":ROUTe:TERMinals?", lambda now: stage.terminals),
        Command(":SOURce[1]:FUNCtion[:MODE]", set_function, (choice("VOLTage", "CURRent"),)),
        Command(":SOURce[1]:FUNCtion[:MODE]?", lambda now: stage.function),
        Command(":SOURce[1]:CLEar[:IMMediate]", lambda now: switch(now, False)),
        Command(":SOURce[1]:CLEar:AUTO", set_clear_auto, (boolean,)),
        Command(":SOURce[1]:CLEar:AUTO?", lambda now: bit(m.clear_auto)),
        Command(header, set_protection, (anything,)),
        Command(header + "?", protection),
        Command(header + ":TRIPped?", lambda now: bit(stage.protecting(now))),
        *_delay(m),
    ]


def _delay(m: SimulatedKeithley2400) -> list[Command]:
    """The source delay is one for both functions."""

    def set_delay(now: float, value: Value) -> None:
        delay = resolve(value, 0.0, 9999.999, 0.0)
        for settings in m.stage.source.values():
            settings.delay, settings.delay_auto = delay, False

    def set_auto(now: float, on: bool) -> None:
        for settings in m.stage.source.values():
            settings.delay_auto = on

    return [
        Command(":SOURce[1]:DELay", set_delay, (number_or_keyword,)),
        Command(":SOURce[1]:DELay?", lambda now: setting(m.stage.source["VOLT"].delay)),
        Command(":SOURce[1]:DELay:AUTO", set_auto, (boolean,)),
        Command(":SOURce[1]:DELay:AUTO?", lambda now: bit(m.stage.source["VOLT"].delay_auto)),
    ]


def _shown_range(m: SimulatedKeithley2400, function: str, full_scale: float) -> str:
    """A range as queries give it: 105 % of its name, or the name."""
    return setting(m.model.reach(function, full_scale) if m.full_ranges else full_scale)


def _source(m: SimulatedKeithley2400, function: str) -> list[Command]:
    stage, model = m.stage, m.model
    highest = model.highest_voltage if function == "VOLT" else model.highest_current

    def changed(now: float) -> None:
        if stage.function == function:
            stage.source_changed(now)

    def set_level(now: float, value: Value) -> None:
        level = resolve(value, -highest, highest, 0.0)
        settings = stage.source[function]
        fixed = settings.range
        if fixed is not None and abs(level) > model.reach(function, fixed):
            raise ScpiError(-222)
        full_scale = fixed or model.range_for(function, level) or highest
        m.check_power(function, full_scale, m.compliance[function])
        settings.level = level
        changed(now)

    def get_level(now: float, word: str = "") -> str:
        found = resolve(word, -highest, highest, 0.0) if word else stage.source[function].level
        return setting(found)

    def set_range(now: float, value: Value) -> None:
        ranges = model.ranges(function)
        wanted = resolve(value, -highest, highest, ranges[0])
        full_scale = model.range_for(function, wanted) or ranges[-1]
        settings = stage.source[function]
        if abs(settings.level) > model.reach(function, full_scale):
            raise ScpiError(-221)
        m.check_power(function, full_scale, m.compliance[function])
        settings.range = full_scale
        changed(now)

    def set_auto(now: float, on: bool) -> None:
        stage.source[function].range = None if on else stage.source_range(function)
        changed(now)

    root = f":SOURce[1]:{LONG[function]}"
    level = f"{root}[:LEVel][:IMMediate][:AMPLitude]"
    return [
        Command(level, set_level, (number_or_keyword,)),
        Command(level + "?", get_level, (keyword,), 0),
        Command(root + ":MODE", nothing, (choice("FIXed"),)),
        Command(root + ":MODE?", lambda now: "FIX"),
        Command(root + ":RANGe", set_range, (number_or_keyword,)),
        Command(
            root + ":RANGe?",
            lambda now: _shown_range(m, function, stage.source_range(function)),
        ),
        Command(root + ":RANGe:AUTO", set_auto, (boolean,)),
        Command(root + ":RANGe:AUTO?", lambda now: bit(stage.source[function].range is None)),
    ]


def _compliance(m: SimulatedKeithley2400, function: str) -> list[Command]:
    """Compliance in `function` limits the source of the other one."""
    stage, model = m.stage, m.model
    source = OTHER[function]
    highest = model.highest_voltage if function == "VOLT" else model.highest_current
    default = model.default_voltage_limit if function == "VOLT" else model.default_current_limit

    def set_limit(now: float, value: Value) -> None:
        limit = abs(resolve(value, -highest, highest, default))
        fixed = stage.senses[function].range
        smallest = 0.001 * (fixed if fixed is not None else model.ranges(function)[0])
        if limit < smallest * (1.0 - 1e-9):
            raise ScpiError(822)
        m.check_power(source, stage.source_range(source), limit)
        m.compliance[source] = limit
        m.apply_limits(now)

    def get_limit(now: float, word: str = "") -> str:
        found = resolve(word, -highest, highest, default) if word else m.compliance[source]
        return setting(found)

    def tripped(now: float) -> str:
        stage.catch_up(now)
        return bit(stage.function == source and stage.in_limit(now))

    root = f"[:SENSe[1]]:{LONG[function]}[:DC]:PROTection"
    return [
        Command(root + "[:LEVel]", set_limit, (number_or_keyword,)),
        Command(root + "[:LEVel]?", get_limit, (keyword,), 0),
        Command(root + ":TRIPped?", tripped),
    ]


def _sense(m: SimulatedKeithley2400, function: str) -> list[Command]:
    stage, model = m.stage, m.model
    dc = "" if function == "RES" else "[:DC]"
    root = f"[:SENSe[1]]:{LONG[function]}{dc}"
    modes = {"RES": "MAN"}

    def set_range(now: float, value: Value) -> None:
        if function == "RES":
            stage.senses["RES"].range = resolve(value, 0.0, 2.1e8, 2e5)
            return
        if function == stage.function:
            raise ScpiError(-221)  # p. 18-62: the source range decides
        ranges = model.ranges(function)
        reach = model.reach(function, ranges[-1])
        full_scale = model.range_for(function, resolve(value, -reach, reach, ranges[0]))
        limit = m.compliance[OTHER[function]]
        highest = model.range_for(function, limit)
        if full_scale is None or (highest is not None and full_scale > highest):
            raise ScpiError(824)
        stage.senses[function].range = full_scale
        m.apply_limits(now)

    def get_range(now: float) -> str:
        if function == "RES":
            return setting(1.05 * (stage.senses["RES"].range or 2e5))
        if function == stage.function:
            return _shown_range(m, function, stage.source_range(function))
        fixed = stage.senses[function].range
        if fixed is None:
            fixed = model.range_for(function, m.compliance[OTHER[function]])
        return _shown_range(m, function, fixed or model.ranges(function)[-1])

    def set_auto(now: float, on: bool) -> None:
        if function == "RES":
            stage.senses["RES"].range = None if on else 2e5
            return
        if on and function == stage.function:
            raise ScpiError(-221)
        sense = stage.senses[function]
        if on:
            sense.range = None
        elif sense.range is None:
            sense.range = model.range_for(function, m.compliance[OTHER[function]])
        m.apply_limits(now)

    def automatic(now: float) -> str:
        return bit(function != stage.function and stage.senses[function].range is None)

    def set_nplc(now: float, value: Value) -> None:
        nplc = resolve(value, 0.01, 10.0, 1.0)
        for sense in stage.senses.values():  # one setting for all functions
            sense.nplc = nplc
        stage.rearrange()

    def set_mode(now: float, word: str) -> None:
        modes["RES"] = word

    table = [
        Command(root + ":RANGe[:UPPer]", set_range, (number_or_keyword,)),
        Command(root + ":RANGe[:UPPer]?", get_range),
        Command(root + ":RANGe:AUTO", set_auto, (boolean,)),
        Command(root + ":RANGe:AUTO?", automatic),
        Command(root + ":NPLCycles", set_nplc, (number_or_keyword,)),
        Command(root + ":NPLCycles?", lambda now: setting(stage.senses[function].nplc)),
    ]
    if function == "RES":
        table += [
            Command(root + ":MODE", set_mode, (choice("MANual", "AUTO"),)),
            Command(root + ":MODE?", lambda now: modes["RES"]),
            *_filter(m),
        ]
    return table


def _filter(m: SimulatedKeithley2400) -> list[Command]:
    """The averaging filter is one for all functions."""
    stage = m.stage

    def switch(now: float, on: bool) -> None:
        for sense in stage.senses.values():
            sense.filter = on
        stage.rearrange()

    def set_count(now: float, value: Value) -> None:
        count = int(resolve(value, 1, 100, 10))
        for sense in stage.senses.values():
            sense.filter_count = count
        stage.rearrange()

    def set_kind(now: float, word: str) -> None:
        for sense in stage.senses.values():
            sense.filter_kind = word

    root = "[:SENSe[1]]:AVERage"
    return [
        Command(root + "[:STATe]", switch, (boolean,)),
        Command(root + "[:STATe]?", lambda now: bit(stage.senses["CURR"].filter)),
        Command(root + ":COUNt", set_count, (number_or_keyword,)),
        Command(root + ":COUNt?", lambda now: str(stage.senses["CURR"].filter_count)),
        Command(root + ":TCONtrol", set_kind, (choice("REPeat", "MOVing"),)),
        Command(root + ":TCONtrol?", lambda now: stage.senses["CURR"].filter_kind),
    ]
