"""The MacNet functions of a simulated Maccor tester in JSON, by class and number.

From the vendor's help "Remote Control - MacNet - LabView" (2022). Each function takes the tester,
the parameters and the laboratory time (s), and returns what follows FClass and FNum in the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from operando.simulators.devices.maccor_channel import (
    DISCHARGE,
    VARIABLES,
    ChannelTest,
    MaccorChannel,
    Snapshot,
)
from operando.simulators.devices.maccor_messages import (
    ADVANCED_TEXTS,
    CHECK_TEXTS,
    DIRECT_TEXTS,
    ILLEGAL_VALUE,
    MACNET_ERROR,
    OUTPUT_TEXTS,
    START_TEXTS,
    STATE_TEXT,
    Parameters,
    Refusal,
    single,
)
from operando.simulators.devices.maccor_stage import Output, Safety, Specification

if TYPE_CHECKING:
    from operando.simulators.devices.maccor import SimulatedMaccor

START_BY_CHECK = {0: 0, 1: 23, 2: 14, 4: 19, 5: 22, 6: 22}
"""Results of function (6, 2) by what (6, 11) would say."""

Body = dict[str, object]
Function = Callable[["SimulatedMaccor", Parameters, float], Body]

ALL_SELECTED = 65535
CONTROLLERS_OF = 8
"""Channels of one controller board (assumed)."""


# -- 1: system


def versions(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(1, 1); the values of the vendor's example."""
    return {
        "APIVersion": 1,
        "MacTest32EXEversionMajor": 3,
        "MacTest32EXEversionMinor": 2,
        "MacTest32EXEversionBuild": 18,
        "MacTest32DLLversionMajor": 3,
        "MacTest32DLLversionMinor": 2,
        "MacTest32DLLversionBuild": 18,
        "MacTest32ExeDT": "2016-11-08T15:02:58",
        "MacTest32DLLDT": "2016-11-13T11:29:48",
    }


def system(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(1, 2)."""
    count = tester.channel_count
    return {
        "SystemID": tester.identity,
        "SystemType": tester.system_type,
        "ControllerBoards": -(-count // CONTROLLERS_OF),
        "TestChannels": count,
        "AuxBoards": 1,
        "AuxChannels": sum(len(channel.stage.aux) for channel in tester.channels.values()),
        "SMB1Pos": 0,
        "SMB3Pos": 0,
    }


def procedure_exists(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(1, 3)."""
    return {"ProcedurExists": _truth(params.text("ProcName", 10_000) in tester.procedures)}


def test_exists(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(1, 4)."""
    return {"TestNameExists": _truth(params.text("TestName", 10_000) in tester.archive)}


def _truth(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def files(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(1, 5): build a list, then take one name at a time; past its end is an error (assumed)."""
    kind = params.whole("FileType", 1, 7)
    command = params.whole("Command", 0, 1)
    if command == 0:
        tester.listing = list_files(tester, kind)
        tester.listed = 0
        return {"FileType": kind, "Command": 0, "NumberOfFiles": len(tester.listing)}
    if tester.listed >= len(tester.listing):
        raise Refusal(MACNET_ERROR)
    name, date, size = tester.listing[tester.listed]
    tester.listed += 1
    return {
        "FileType": kind,
        "Command": 1,
        "NumberOfFiles": len(tester.listing),
        "Index": tester.listed,
        "FileDate": tester.date(date),
        "Size": size,
        "FileName": name,
    }


def list_files(tester: SimulatedMaccor, kind: int) -> list[tuple[str, float, int]]:
    """Name, date (laboratory time, s) and size of files; data files have the channel's number."""
    if kind == 1:
        return [
            (f"{channel.test.name}.{channel.index + 1:03d}", 0.0, 64 * channel.test.records)
            for channel in tester.channels.values()
            if channel.test.name
        ]
    if kind == 2:
        return [(f"{name}.001", date, 64) for name, date in tester.archive.items()]
    if kind == 3:
        return [(f"{name}.000", 0.0, 512) for name in tester.procedures]
    return []


# -- 3: what a channel is


def specification(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(3, 1)."""
    channel = _channel(tester, params)
    body: Body = {"Chan": channel.index}
    names, values = SPECIFICATION_KEYS, specified(channel.stage.spec)
    body.update({name: single(value) for name, value in zip(names, values, strict=True)})
    return body


SPECIFICATION_KEYS = (
    *("TickSpeed", "Vmax", "Vmin", "VSafeMax", "VSafeMin"),
    *(f"IR{number}{way}" for way in ("Chg", "Dis") for number in (4, 3, 2, 1)),
    *("ISafeChg", "ISafeDis", "PBatSafeChg", "PBatSafeDis", "PChanSafeChg", "PChanSafeDis"),
    *("PSVChg", "PSVDis"),
)


def specified(spec: Specification) -> tuple[float, ...]:
    """Values of function (3, 1) in its order."""
    currents = tuple(reversed(spec.ranges))
    full = spec.ranges[3]
    limits = (full, full, spec.power, spec.power, 0.0, 0.0, 0.0, 0.0)
    # The help says that the tick is in ms; its example, 0.005, must be s.
    return (0.005, spec.vmax, spec.vmin, spec.vmax, spec.vmin, *currents, *currents, *limits)


CALIBRATED = ("VChg", "VDis", *(f"I{way}R{n}" for n in (4, 3, 2, 1) for way in ("Chg", "Dis")))


def calibration(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(3, 2): never verified, as in the vendor's example."""
    channel = _channel(tester, params)
    return {"Chan": channel.index, **dict.fromkeys(CALIBRATED, "1970-01-01T00:00:00")}


# -- 4: what a channel does


def _channel(tester: SimulatedMaccor, params: Parameters) -> MaccorChannel:
    return tester.channel(params.whole("Chan"))


def _row(tester: SimulatedMaccor, params: Parameters) -> tuple[Body, list[MaccorChannel]]:
    """Channels of a request for several, and the head of its reply."""
    start, count = params.whole("Chan"), params.whole("Len")
    return {"Chan": start, "Len": count}, tester.several(start, count)


def states(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 1)."""
    body, channels = _row(tester, params)
    body["Status"] = [{"RF1": c.rf1, "RF2": c.rf2, "Stat": int(c.stat)} for c in channels]
    return body


def voltages(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 2)."""
    body, channels = _row(tester, params)
    body["Voltage"] = [single(channel.reading(now)[0]) for channel in channels]
    return body


def currents(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 3)."""
    body, channels = _row(tester, params)
    body["Current"] = [single(told_current(tester, c.rf1, c.reading(now)[1])) for c in channels]
    return body


def told_current(tester: SimulatedMaccor, rf1: int, current: float) -> float:
    """A current as the tester writes it, A.

    Maccor's files hold magnitudes beside the state (general knowledge); for MacNet it is open.
    """
    if tester.signed_current:
        return current
    return -current if rf1 == DISCHARGE else current


def aux_values(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 4)."""
    channel = _channel(tester, params)
    values = [single(value) for value in channel.stage.auxiliary(now)]
    return {"Chan": channel.index, "Len": len(values), "AuxValues": values}


def aux_units(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 5)."""
    channel = _channel(tester, params)
    units = list(channel.stage.aux)
    return {"Chan": channel.index, "Len": len(units), "AuxUnit": units}


def names(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 6)."""
    channel = _channel(tester, params)
    test = channel.test
    return {"Chan": channel.index, "TestName": test.name, "ProcName": test.procedure}


def everything(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 7)."""
    channel = _channel(tester, params)
    seen: Snapshot = channel.snapshot(now)
    return {
        "Chan": channel.index,
        "RF1": seen.rf1,
        "RF2": seen.rf2,
        "Stat": int(seen.stat),
        "LastRecNum": seen.records,
        "Cycle": seen.cycle,
        "Step": seen.step,
        "TestTime": single(seen.test_time),
        "StepTime": single(seen.step_time),
        "Capacity": single(seen.capacity),
        "Energy": single(seen.energy),
        "Current": single(told_current(tester, seen.rf1, seen.current)),
        "Voltage": single(seen.voltage),
        "TesterTime": tester.date(now),
    }


def variables(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 8)."""
    channel = _channel(tester, params)
    return {
        "Chan": channel.index,
        "GlobFlags": f"0x{tester.global_flags:08X}",
        "VARs": [single(value) for value in channel.variables],
    }


def test_times(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 9)."""
    body, channels = _row(tester, params)
    body["TestTimes"] = [single(channel.snapshot(now).test_time) for channel in channels]
    return body


def end_status(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(4, 10)."""
    channel = _channel(tester, params)
    test = channel.test
    return {"Chan": channel.index, "NumOfEnds": test.ends, "EndNum": test.end}


# -- 5: the whole tester


def set_flags(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(5, 1)."""
    text = params.text("GlobFlags")
    try:
        flags = int(text, 16) if text.startswith(("0x", "0X")) else -1
    except ValueError:
        flags = -1
    if not 0 <= flags <= 0xFFFFFFFF:
        raise Refusal(ILLEGAL_VALUE)
    tester.global_flags = flags
    return {"New GlobFlags": f"0x{flags:08X}"}


# -- 6: commands to channels


def select(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 1): a toggle, as a click."""
    channels = [tester.channel(index) for index in params.wholes("Chans")]
    for channel in channels:
        channel.select()
    return {"Result": "OK"}


def start(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 2)."""
    index = params.whole("Chan")
    wanted = _test_of(params)
    capacity, chamber = params.number("Crate"), params.whole("ChamberNum", 0, 255)
    if index == ALL_SELECTED:
        chosen = [c for c in tester.channels.values() if c.stat == 1]
    else:
        chosen = [tester.channel(index)]
    code = start_all(tester, chosen, now, wanted, capacity, chamber)
    return {"Chan": index, "Result": START_TEXTS[code]}


def start_all(
    tester: SimulatedMaccor,
    chosen: list[MaccorChannel],
    now: float,
    wanted: ChannelTest,
    capacity: float,
    chamber: int,
) -> int:
    """Start a procedure on channels, on all or on none; code of function (6, 2)."""
    if not chosen:
        return 24
    if len(wanted.name) > 250:
        return 18
    for channel in chosen:
        why = tester.check_start(channel, wanted.name, wanted.procedure, chamber)
        if why:
            return START_BY_CHECK[why]
    # Several channels share a name: their files differ in the channel's number.
    name = tester.name_for_test(wanted.name)
    for channel in chosen:
        test = ChannelTest(name, wanted.procedure, wanted.comment)
        tester.start(channel, now, test, capacity)
    return 0


def _test_of(params: Parameters) -> ChannelTest:
    return ChannelTest(
        params.text("TestName", 10_000),
        params.text("ProcName", 10_000),
        params.text("Comment", 10_000)[:80],
    )


def check_start(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 11)."""
    channel = _channel(tester, params)
    wanted = _test_of(params)
    params.number("Crate")
    chamber = params.whole("ChamberNum", 0, 255)
    code = tester.check_start(channel, wanted.name, wanted.procedure, chamber)
    return {"Chan": channel.index, "Result": CHECK_TEXTS[code]}


def advanced_start(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 13): a start at any step; archived tests cannot be taken up again (not simulated)."""
    channel = _channel(tester, params)
    wanted = _test_of(params)
    capacity = params.number("Crate")
    options, step = params.whole("Options", 0, 7), params.whole("TestStep", -1, 32767)
    wanted.test_time = max(0.0, params.number("TestTime"))
    code = 0
    if not channel.free:
        code = 2
    elif options:
        code = 4 if options & 1 else 3
    elif tester.check_start(channel, wanted.name, wanted.procedure, 0):
        code = 0xFFFF
    elif step > len(tester.procedures[wanted.procedure]) or step == 0:
        code = 6
    else:
        wanted.name = tester.name_for_test(wanted.name)
        run = tester.start(channel, now, wanted, capacity)
        run.start_at(max(step, 1))
    return {"Chan": channel.index, "Result": ADVANCED_TEXTS[code]}


def suspend(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 3)."""
    channel = _channel(tester, params)
    return _done(channel, channel.suspend(now), "suspended")


def resume(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 4)."""
    channel = _channel(tester, params)
    return _done(channel, channel.resume(now), "resumed")


def reset(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 5)."""
    channel = _channel(tester, params)
    return _done(channel, channel.reset(now), "reset")


def archive(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 6)."""
    channel = _channel(tester, params)
    return _done(channel, channel.archive(now), "archived")


def _done(channel: MaccorChannel, done: bool, what: str) -> Body:
    return {"Chan": channel.index, "Result": "OK" if done else STATE_TEXT.format(what)}


def start_direct(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 7)."""
    channel = _channel(tester, params)
    wanted = params.text("TestName", 10_000)
    output = _set_points(channel, params)
    increments = (params.number("DataTime"), params.number("DataV"), params.number("DataI"))
    if tester.output_of_json(output) is None:
        output = Output("C", output.current, output.voltage, output.power, output.resistance)
    code = begin_direct(tester, channel, now, wanted, output, increments)
    return {"Chan": channel.index, "Result": DIRECT_TEXTS[code]}


def begin_direct(
    tester: SimulatedMaccor,
    channel: MaccorChannel,
    now: float,
    wanted: str,
    output: Output,
    increments: tuple[float, float, float],
) -> int:
    """Start direct mode; code of function (6, 7). A taken name fails as 3 (assumed)."""
    if tester.system_type != 0:
        return 1
    if not channel.free:
        return 2
    name = tester.name_for_test(wanted) if len(wanted) <= 250 else ""
    return channel.start_direct(now, name, output, increments) if name else 3


def direct_output(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 8); "R" has no effect in JSON."""
    channel = _channel(tester, params)
    output = tester.output_of_json(_set_points(channel, params))
    if tester.system_type != 0:
        code = 1
    elif output is None:
        code = channel.feed(now)
    else:
        code = channel.set_direct(now, output)
    return {"Chan": channel.index, "Result": OUTPUT_TEXTS[code]}


def _set_points(channel: MaccorChannel, params: Parameters) -> Output:
    return set_points(
        channel.stage.spec,
        params.text("ChMode", 1),
        params.whole("CurrentRange", 1, 4),
        params.number("Current"),
        params.number("Voltage"),
        params.number("Power"),
        params.number("Resistance"),
    )


def set_points(
    spec: Specification,
    mode: str,
    current_range: int,
    current: float,
    voltage: float,
    power: float,
    resistance: float,
) -> Output:
    """Set points; those out of range are ignored. Raises Refusal for a mode or range of none."""
    if mode not in ("C", "D", "R") or not 1 <= current_range <= 4:
        raise Refusal(ILLEGAL_VALUE)
    return Output(
        mode,
        current if 0.0 <= current <= 1.000001 * spec.ranges[current_range - 1] else None,
        voltage if spec.vmin <= voltage <= spec.vmax else None,
        power if 0.0 <= power <= spec.power else None,
        resistance if resistance > 0.0 else None,
        current_range,
    )


def set_variable(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 9)."""
    channel = _channel(tester, params)
    channel.variables[params.whole("VarNum", 1, VARIABLES) - 1] = params.number("Value")
    return {"Chan": channel.index, "Result": "OK"}


SAFETY_KEYS = ("VSafeMax", "VSafeMin", "ISafeChg", "ISafeDis", "PBatSafeChg", "PBatSafeDis")


def set_safety(tester: SimulatedMaccor, params: Parameters, now: float) -> Body:
    """(6, 10): echoes what holds now."""
    channel = _channel(tester, params)
    safety = safety_of(channel.stage.spec, tuple(params.number(key) for key in SAFETY_KEYS))
    channel.set_safety(now, safety)
    told = (
        safety.vmax,
        safety.vmin,
        safety.charge,
        safety.discharge,
        safety.charge_power,
        safety.discharge_power,
    )
    body: Body = {"Chan": channel.index}
    body.update({key: single(value) for key, value in zip(SAFETY_KEYS, told, strict=True)})
    return body


def safety_of(spec: Specification, values: tuple[float, ...]) -> Safety:
    """Safety limits, no wider than the channel (assumed: an illegal value). Raises Refusal."""
    safety = Safety(*values)
    full, slack = spec.ranges[3], 1.000001
    if not (
        spec.vmin - 1e-6 <= safety.vmin < safety.vmax <= slack * spec.vmax
        and 0.0 <= safety.charge <= slack * full
        and 0.0 <= safety.discharge <= slack * full
        and 0.0 <= safety.charge_power <= slack * spec.power
        and 0.0 <= safety.discharge_power <= slack * spec.power
    ):
        raise Refusal(ILLEGAL_VALUE)
    return safety


FUNCTIONS: Mapping[int, Mapping[int, Function]] = {
    1: {1: versions, 2: system, 3: procedure_exists, 4: test_exists, 5: files},
    3: {1: specification, 2: calibration},
    4: {
        1: states,
        2: voltages,
        3: currents,
        4: aux_values,
        5: aux_units,
        6: names,
        7: everything,
        8: variables,
        9: test_times,
        10: end_status,
    },
    5: {1: set_flags},
    6: {
        1: select,
        2: start,
        3: suspend,
        4: resume,
        5: reset,
        6: archive,
        7: start_direct,
        8: direct_output,
        9: set_variable,
        10: set_safety,
        11: check_start,
        13: advanced_start,
    },
}
