"""MethodSCRIPT programs that run a set-point on board a PalmSens instrument.

Documents: the grammar and the argument orders of PalmSens' MethodSCRIPT examples; the pattern of
one loop under current and one under voltage is that of the SDK's battery template.

A step never outlives its host by more than `unattended`: every measurement loop is that long, or
looks at the time. A loop that `Y` has ended before its time shows that somebody is there, and
begins again, the cell staying on; one that comes to its end by itself opens the cell. A spectrum
is not renewed: it lasts as long as its points take, and opens the cell behind the last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from operando.instruments.errors import BadInputError

LARGEST = 1 << 27
"""Mantissas stay below this, which is what a data package can hold too."""

PREFIXES = (
    ("G", 9), ("M", 6), ("", 0), ("m", -3), ("u", -6), ("n", -9), ("p", -12), ("f", -15),
    ("a", -18),
)  # fmt: skip
"""Coarse ones first; thousands need none."""

REST, CURRENT, VOLTAGE, SWEEP = 0, 1, 2, 3
"""Stages of a script, as its points tell them: cell off, current driven, voltage held, swept."""

OVER_LIMIT = 1.05
"""Share of the current limit at which a held voltage gives way to the limiting current."""

WRONG_WAY = 0.05
"""Share of a step's current that may flow against it at the cut-off before the cell is opened."""

RESTING_POTENTIAL = ("meas_loop_ocp p 100m 200m", "endloop")
"""Two points of the open circuit; `p` keeps the last."""

FIRST_LOOK = "50m 100m"
"""Interval and length, s, of the loop that begins a constant current."""

LOOK = "100m 100m"
"""Interval and length, s, of the loop that holds the bias before a spectrum."""

CELL_OFF = b"e\ncell_off\n\n"

PROBE = b"e\nvar p\nmeas_loop_ocp p 100m 100m\nendloop\n\n"
"""Measures an open circuit without making one: refused as 0014 or 4028 while the cell is on."""


def literal(value: float) -> str:
    """A number as MethodSCRIPT writes it, to six or seven digits: 0.5 is `500m`, 4.2 is `4200m`.

    Raises BadInputError for what has no such form.
    """
    if not math.isfinite(value):
        raise BadInputError(f"{value} has no literal in a script")
    for digits in (7, 6):  # seven do not always fit below `LARGEST`, six do
        exact = Decimal(f"{value:.{digits - 1}e}")
        for prefix, exponent in PREFIXES:
            mantissa = exact.scaleb(-exponent)
            if mantissa == mantissa.to_integral_value() and abs(mantissa) < LARGEST:
                return f"{int(mantissa)}{prefix if mantissa else ''}"
    raise BadInputError(f"{value:g} has no literal in a script")


@dataclass(frozen=True, slots=True)
class Manner:
    """What scripts of one run have in common.

    stamp: text that tells whose instrument this is, sent with each point. channel: of the
    potentiostat. mode, ac_mode: potentiostat modes. interval, unattended: s. bandwidth: Hz.
    mains: Hz, 0 to say nothing. window: V, beyond which a step opens the cell. reach: V, highest
    magnitude that potential ranges must hold. autoranging: of the current while a voltage is held.
    """

    stamp: str
    channel: int
    mode: int
    ac_mode: int
    interval: float
    unattended: float
    bandwidth: float
    mains: int
    window: tuple[float, float]
    reach: float
    autoranging: bool = False


def script(lines: Sequence[str]) -> bytes:
    """Lines as the command that loads and runs them: `e`, the lines, an empty line."""
    return "\n".join(("e", *lines, "", "")).encode("ascii")


def _declared(*names: str) -> list[str]:
    return [f"var {name}" for name in names]


def _set_up(manner: Manner, mode: int) -> list[str]:
    lines = [f"set_pgstat_mode {mode}", f"set_max_bandwidth {literal(manner.bandwidth)}"]
    if manner.mains:
        lines.append(f"set_acquisition_frac_autoadjust {manner.mains}")
    return lines


def _point(manner: Manner, *variables: str) -> list[str]:
    return [
        "timer_get t",
        f'send_string "{manner.stamp}"',
        "pck_start",
        *(f"pck_add {name}" for name in variables),
        "pck_end",
    ]


def _leave(condition: str, stage: int, *before: str) -> list[str]:
    """Leave the measurement loop for another stage."""
    return [f"if {condition}", *before, f"store_var s {stage}i ja", "breakloop", "endif"]


def _still_attended(manner: Manner, stage: int, end: int) -> list[str]:
    """After a measurement loop that has begun at `a`: whether it came to its end by itself."""
    longest = manner.unattended - 2.0 * manner.interval
    return [
        "timer_get t",
        "sub_var t a",
        f"if s == {stage}i",
        f"if t >= {literal(longest)}",
        f"store_var s {end}i ja",
        "endif",
        "endif",
    ]


def _window(manner: Manner) -> list[str]:
    """Open the cell outside of the run's window."""
    low, high = manner.window
    return _leave(f"p > {literal(high)}", 0) + _leave(f"p < {literal(low)}", 0)


def _protection(manner: Manner, current: float) -> list[str]:
    """Open the cell outside of the run's window, and beyond a current (A) of either sign."""
    return [
        *_window(manner),
        *_leave(f"c > {literal(current)}", 0),
        *_leave(f"c < {literal(-current)}", 0),
    ]


def _autoranging(manner: Manner, full_scale: float) -> list[str]:
    """Let the instrument choose the current range up to `full_scale` (A), where that is wanted."""
    if not manner.autoranging:
        return []
    return [f"set_autoranging ba {literal(1e-3 * full_scale)} {literal(full_scale)}"]


def rest(manner: Manner) -> bytes:
    """Cell off, its voltage measured."""
    timing = f"{literal(manner.interval)} {literal(manner.unattended)}"
    return script(
        [
            *_declared("p", "t", "a", "s"),
            "store_var s 0i ja",
            f"set_pgstat_chan {manner.channel}",
            "cell_off",
            *_set_up(manner, manner.mode),
            "timer_start",
            "loop s == 0i",
            "timer_get a",
            f"meas_loop_ocp p {timing}",
            *_point(manner, "t", "s", "p"),
            "endloop",
            *_still_attended(manner, REST, CURRENT),
            "endloop",
            "on_finished:",
            "cell_off",
        ]
    )


def source(
    manner: Manner, *, voltage: float, current: float, full_scale: float, direction: int
) -> bytes:
    """Drive `current` until `voltage` is reached, then hold that as long as it takes no more.

    voltage: V. current: A, magnitude. full_scale: A, of the current range. direction: 1 charges
    the cell, -1 discharges it; 0 goes to the voltage from wherever the open circuit is.
    """
    timing = f"{literal(manner.interval)} {literal(manner.unattended)}"
    target, limit = literal(voltage), literal(OVER_LIMIT * current)
    forward, backward = (
        ["store_var g 1i ja", f"store_var i {literal(current)} db"],
        ["store_var g -1i ja", f"store_var i {literal(-current)} db"],
    )
    protection = _window(manner)
    upwards = _leave(f"p >= {target}", VOLTAGE)
    downwards = _leave(f"p <= {target}", VOLTAGE)
    too_much, too_little = f"c > {limit}", f"c < {literal(-OVER_LIMIT * current)}"
    begin, at_target = (forward if direction >= 0 else backward), []
    if direction == 0:
        reached = ["if g > 0i", *upwards, "else", *downwards, "endif"]
        at_target = [*RESTING_POTENTIAL, f"if p > {target}", *backward, "endif"]
        exceeded = _leave(too_much, CURRENT, *forward) + _leave(too_little, CURRENT, *backward)
    elif direction > 0:
        reached = upwards
        against = f"c < {literal(-WRONG_WAY * current)}"
        exceeded = _leave(too_much, CURRENT) + _leave(against, 0)
    else:
        reached = downwards
        against = f"c > {literal(WRONG_WAY * current)}"
        exceeded = _leave(too_little, CURRENT) + _leave(against, 0)
    span, scale = literal(manner.reach), literal(full_scale)
    return script(
        [
            *_declared("p", "c", "t", "a", "s", "g", "i"),
            f"store_var s {CURRENT}i ja",
            *begin,
            f"set_pgstat_chan {manner.channel}",
            "cell_off",
            *_set_up(manner, manner.mode),
            *at_target,
            "timer_start",
            "loop s > 0i",
            # The mode changes with the cell open, so that nothing is driven in between.
            "cell_off",
            *_set_up(manner, 6),
            f"set_range db {scale}",
            f"set_range ab {span}",
            "set_i 0",
            "cell_on",
            # A cell at its cut-off passes it by the current times its resistance: look soon.
            f"meas_loop_cp p c i {FIRST_LOOK}",
            *reached,
            "endloop",
            f"loop s == {CURRENT}i",
            "timer_get a",
            f"meas_loop_cp p c i {timing}",
            *_point(manner, "t", "s", "p", "c"),
            *reached,  # before the protection: holding the cut-off is as safe as opening
            *protection,
            "endloop",
            *_still_attended(manner, CURRENT, 0),
            "endloop",
            "if s == 0i",
            "cell_off",
            "abort",
            "endif",
            "cell_off",
            *_set_up(manner, manner.mode),
            f"set_range da {span}",
            f"set_range ba {scale}",
            *_autoranging(manner, full_scale),
            f"set_e {target}",
            "cell_on",
            f"loop s == {VOLTAGE}i",
            "timer_get a",
            f"meas_loop_ca p c {target} {timing}",
            *_point(manner, "t", "s", "p", "c"),
            *protection,
            *exceeded,
            "endloop",
            *_still_attended(manner, VOLTAGE, 0),
            "endloop",
            "endloop",
            "on_finished:",
            "cell_off",
        ]
    )


def spectrum(
    manner: Manner,
    *,
    amplitude: float,
    highest: float,
    lowest: float,
    points: int,
    bias: float,
    current: float,
    full_scale: float,
) -> bytes:
    """Impedance from `highest` to `lowest` frequency (Hz), evenly on a logarithmic scale.

    amplitude: V, root mean square. bias: V. current: A, beyond which, or outside the window, the
    cell is opened after a first look at the held bias. full_scale: A, of the largest current range.
    """
    held, scale = literal(bias), literal(full_scale)
    return script(
        [
            *_declared("p", "c", "t", "s", "f", "r", "j"),
            f"store_var s {VOLTAGE}i ja",
            f"set_pgstat_chan {manner.channel}",
            "cell_off",
            f"set_pgstat_mode {manner.ac_mode}",
            f"set_max_bandwidth {literal(float(f'{highest:.3g}'))}",
            f"set_range da {literal(manner.reach)}",
            f"set_range ba {scale}",
            f"set_autoranging ba {literal(1e-3 * full_scale)} {scale}",
            f"set_e {held}",
            "timer_start",
            "cell_on",
            f"meas_loop_ca p c {held} {LOOK}",
            *_point(manner, "t", "s", "p", "c"),
            *_protection(manner, current),
            "endloop",
            "if s == 0i",
            "cell_off",
            "abort",
            "endif",
            f"meas_loop_eis f r j {literal(amplitude)} {literal(highest)} {literal(lowest)} "
            f"{points}i {held}",
            *_point(manner, "t", "f", "r", "j"),
            "endloop",
            "on_finished:",
            "cell_off",
        ]
    )


def sweep(
    manner: Manner,
    *,
    start: float,
    end: float,
    rate: float,
    step: float,
    current: float,
    full_scale: float,
) -> bytes:
    """Run the voltage from `start` to `end` (V) in steps of `step` (V) at `rate` (V/s), hold `end`.

    The levels are `start`, one step further and so on, each for step/rate; `end` comes when they
    would pass it. At least two levels. current: A, beyond which the cell is opened. full_scale: A,
    of the current range.

    Levels that last no longer than the interval are a linear sweep of the instrument. Longer ones
    are held one by one with a point in each interval: so an abort need not wait for a level.
    """
    up = end > start
    signed = step if up else -step
    dwell = step / rate
    levels = math.ceil(abs(end - start) / step - 1e-6)
    reached = ">=" if up else "<="
    span, scale = literal(manner.reach), literal(full_scale)
    protection = _protection(manner, current)
    longest = literal(manner.unattended - 2.0 * manner.interval)
    unattended = ["timer_get u", "sub_var u a", *_leave(f"u >= {longest}", 0)]
    if dwell <= manner.interval * (1.0 + 1e-9):
        last = start + (levels - 1) * signed
        sweeping = [
            "timer_get a",
            f"meas_loop_lsv p c b {literal(last)} {literal(step)} {literal(rate)}",
            *_point(manner, "t", "s", "p", "c"),
            *protection,
            *unattended,
            "endloop",
            f"if s == {SWEEP}i",
            # Ended, or renewed, which takes a point's time: the clock tells how far it should be.
            "timer_get b",
            f"mul_var b {literal(math.copysign(rate, signed))}",
            f"add_var b {literal(start)}",
            # One level that is left is no sweep.
            f"if b {reached} {literal(last - 1.001 * signed)}",
            f"store_var s {VOLTAGE}i ja",
            "endif",
            "endif",
        ]
    else:
        interval = dwell / math.ceil(dwell / manner.interval - 1e-9)
        # The level has lasted its time when less than half an interval of it is left.
        over = ["timer_get u", "sub_var u e", f"if u >= {literal(-0.5 * interval)}"]
        sweeping = [
            "store_var o 0i ja",
            f"meas_loop_ca p c b {literal(interval)} {literal(dwell)}",
            *_point(manner, "t", "s", "p", "c"),
            *protection,
            *unattended,
            *over,
            "store_var o 1i ja",
            "breakloop",
            "endif",
            "endloop",
            f"if s == {SWEEP}i",
            "if o == 1i",
            f"add_var b {literal(signed)}",
            f"add_var e {literal(dwell)}",
            f"if b {reached} {literal(start + (levels - 0.5) * signed)}",
            f"store_var s {VOLTAGE}i ja",
            "endif",
            "else",
            "timer_get a",  # the level was ended before its time: somebody is there
            "endif",
            "endif",
        ]
    return script(
        [
            *_declared("p", "c", "t", "a", "s", "u", "b", "e", "o"),
            f"store_var s {SWEEP}i ja",
            f"store_var b {literal(start)} da",
            f"store_var e {literal(dwell)} eb",
            f"set_pgstat_chan {manner.channel}",
            "cell_off",
            *_set_up(manner, manner.mode),
            f"set_range da {span}",
            f"set_range ba {scale}",
            *_autoranging(manner, full_scale),
            f"set_e {literal(start)}",
            "cell_on",
            "timer_start",
            "timer_get a",
            f"loop s == {SWEEP}i",
            *sweeping,
            "endloop",
            f"loop s == {VOLTAGE}i",
            "timer_get a",
            f"meas_loop_ca p c {literal(end)} {literal(manner.interval)} "
            f"{literal(manner.unattended)}",
            *_point(manner, "t", "s", "p", "c"),
            *protection,
            "endloop",
            *_still_attended(manner, VOLTAGE, 0),
            "endloop",
            "on_finished:",
            "cell_off",
        ]
    )


def evenly_spaced(frequencies: Sequence[float]) -> bool:
    """Whether frequencies (Hz) are two or more, evenly spaced on a logarithmic scale to 0.1 %."""
    if len(frequencies) < 2 or not all(0.0 < frequency < math.inf for frequency in frequencies):
        return False
    first = frequencies[0]
    step = math.log(frequencies[-1] / first) / (len(frequencies) - 1)
    return step != 0.0 and all(
        abs(math.log(frequency / first) - index * step) <= 1e-3
        for index, frequency in enumerate(frequencies)
    )
