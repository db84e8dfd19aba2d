"""What is looked at before a cell is driven, and what is found: one finding a check.

A check judges a reading and touches nothing. A problem keeps the run from starting unless the
recipe overrides that check with a reason; either way it is journalled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from operando.instruments.errors import UnsupportedError
from operando.instruments.recipe import Preflight
from operando.instruments.recorder import JSON
from operando.instruments.roles import Potentiostat
from operando.instruments.samples import AuxReading, Reading, Status
from operando.instruments.techniques import ImpedancePoint, Spectroscope, SpectrumRequest
from operando.instruments.words import bound_words, quantity_words

SETTLED = 1e-3
"""Two readings of an open circuit that agree within this are the cell's, V."""

SETTLING_READINGS = 20

SHORTED = 10e-3
"""Below this voltage, V, nothing is there that has one. Our choice."""

CONTACT_AMPLITUDE = 5e-3
"""Of the spectrum that checks the contacts, V (root mean square): half of what is usual for EIS of
these cells (10 mV, Kim et al., Energy Storage Materials 2026, 105167). Our choice."""

CONTACT_FREQUENCIES = tuple(10.0 ** (4.0 - index / 4.0) for index in range(5))
"""10 kHz to 1 kHz, four a decade, Hz: above the arcs of the electrodes and below where the
inductance of the leads rules; it takes some milliseconds of signal. Our choice."""

_AIR: Final = {
    "o2": ("1", "oxygen", "Wait until the purifier has brought it down, or regenerate it."),
    "h2o": ("1", "water", "Wait until the purifier has brought it down, or regenerate it."),
    "dew_point": ("K", "the dew point", "Wait until the gas is dry, or regenerate the purifier."),
}


@dataclass(frozen=True, slots=True)
class OpenCircuitWindow:
    """Voltage in which a healthy cell is found before its first step, V."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    name: of the check. problem: what is wrong, in words with a remedy, "" if nothing is. note:
    what was seen, or why nothing was. values: measured, SI units, None where there was no number.
    override: the reason for which a problem is let pass, "" when there is none.
    """

    name: str
    problem: str = ""
    note: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)
    override: str = ""

    @property
    def refuses(self) -> bool:
        """Whether it keeps the run from starting."""
        return bool(self.problem) and not self.override

    @property
    def entry(self) -> dict[str, JSON]:
        """The same as plain data, for the journal."""
        return {
            "check": self.name,
            "ok": not self.problem,
            "problem": self.problem or None,
            "note": self.note or None,
            "values": dict(self.values),
            "override": self.override or None,
        }

    def __str__(self) -> str:
        if self.problem and self.override:
            return f"{self.name}: {self.problem} Overridden: {self.override}"
        return f"{self.name}: {self.problem or self.note or 'as expected'}"


def overridden(findings: Iterable[Finding], reasons: Mapping[str, str]) -> list[Finding]:
    """Findings with the reasons for which the recipe lets their problems pass."""
    return [replace(one, override=reasons.get(one.name, "")) for one in findings]


# ---- the cell at rest --------------------------------------------------------------------------


def judge_rest(reading: Reading, window: OpenCircuitWindow) -> list[Finding]:
    """Connection, polarity and open-circuit voltage of a cell, from its reading at no current."""
    voltage = reading.voltage
    values = {"voltage": None if math.isnan(voltage) else voltage}
    if reading.status is Status.OVERLOAD or math.isnan(voltage):
        problem = (
            "no open-circuit voltage could be read at zero current (compliance or overflow): "
            "the leads are open or the cell is not connected. Check the contacts."
        )
        unknown = "not known without a voltage"
        return [
            Finding("connection", problem, values=values),
            Finding("polarity", note=unknown),
            Finding("open_circuit", note=unknown),
        ]
    expected = f"expected {window.low:.2f} to {window.high:.2f} V"
    found = f"open-circuit voltage {voltage:.4f} V"
    inside = window.low <= voltage <= window.high
    mirrored = window.low <= -voltage <= window.high
    one_sign = window.low > 0.0 or window.high < 0.0
    reversed_ = wrong = polarity = ""
    if mirrored and not inside and one_sign:
        reversed_ = (
            f"{found}, {expected}: the leads are reversed. Nothing was driven. Swap them, sense "
            "leads too."
        )
    elif mirrored and inside:
        polarity = "cannot be told from this voltage, which may have either sign"
    elif not inside:
        nothing = " (an open lead, an empty holder or a short)" if abs(voltage) < SHORTED else ""
        wrong = (
            f"{found}, {expected}: implausible for this cell{nothing}. Nothing was driven. Check "
            'it, or state its range in the recipe: [preflight] open_circuit = ["... V", "... V"].'
        )
    return [
        Finding("connection", note=found, values=values),
        Finding("polarity", reversed_, polarity, values),
        Finding("open_circuit", wrong, f"{found}, {expected}", values),
    ]


async def settled(potentiostat: Potentiostat) -> Reading:
    """Read an open circuit until two readings agree, and return the last.

    A zero-current source on its lowest range takes tenths of a second to charge what hangs on it;
    those readings are the instrument's, not the cell's, and are not kept.
    """
    reading = await potentiostat.measure()
    for _ in range(SETTLING_READINGS):
        before, reading = reading, await potentiostat.measure()
        if abs(reading.voltage - before.voltage) < SETTLED:
            break
    return reading


# ---- its contacts ------------------------------------------------------------------------------


def contact_request(bias: float, expected: tuple[float, float], highest: float) -> SpectrumRequest:
    """The spectrum that checks contacts.

    bias: V at rest. expected: ohm, lowest and highest. highest: current of the instrument, A.
    """
    # The peak of the current through the lowest resistance that is accepted, and as much again.
    current = min(2.0 * math.sqrt(2.0) * CONTACT_AMPLITUDE / expected[0], highest)
    return SpectrumRequest(CONTACT_FREQUENCIES, CONTACT_AMPLITUDE, bias, current)


def why_no_contact(potentiostat: object, request: SpectrumRequest) -> str:
    """Why an instrument cannot measure contacts, in words; "" if it can. Touches nothing."""
    if not isinstance(potentiostat, Spectroscope):
        return "it measures no impedance."
    try:
        potentiostat.check_spectrum(request)
    except UnsupportedError as error:
        return error.reason
    return ""


async def contact_points(
    potentiostat: Spectroscope, request: SpectrumRequest
) -> list[ImpedancePoint]:
    """Measure the spectrum; the circuit is open afterwards."""
    await potentiostat.begin_spectrum(request)
    points = []
    while (point := await potentiostat.next_point()) is not None:
        points.append(point)
    return points


def judge_contact(points: Sequence[ImpedancePoint], expected: tuple[float, float]) -> Finding:
    """Whether the real part lies where it should at every frequency. expected: ohm."""
    low, high = expected
    values = {
        quantity_words(point.frequency, "Hz"): None if math.isnan(point.real) else point.real
        for point in points
    }
    resistances = [point.real for point in points if point.status in _VALID]
    span = f"{bound_words(low, 'ohm')} to {bound_words(high, 'ohm')}"
    if len(resistances) < len(points) or not points or any(map(math.isnan, resistances)):
        problem = (
            f"a point of the spectrum at 10 kHz to 1 kHz is not valid, {span} are expected: the "
            "contact is open or the current beyond its range. Check contacts and leads."
        )
        return Finding("contact", problem, values=values)
    least, most = min(resistances), max(resistances)
    found = f"{quantity_words(least, 'ohm')} to {quantity_words(most, 'ohm')} at 10 kHz to 1 kHz"
    problem = ""
    if most > high:
        problem = (
            f"{found}, expected {span}: a bad contact or a dry cell. Check contacts, stack "
            "pressure and the sense leads."
        )
    elif least < low:
        problem = f"{found}, expected {span}: the cell or its holder is shorted. Take it out."
    return Finding("contact", problem, f"{found}, expected {span}", values)


# ---- what stands around it ---------------------------------------------------------------------

_VALID = {Status.OK, Status.UNSTABLE}


def _is_valid(reading: AuxReading) -> bool:
    return reading.status in _VALID and not math.isnan(reading.value)


def judge_surroundings(readings: Sequence[AuxReading], asked: Preflight) -> list[Finding]:
    """What the monitors of a channel say before anything is switched on."""
    invalid = [one for one in readings if not _is_valid(one)]
    problem = "; ".join(
        f"{one.source} gives no valid {one.quantity} ({one.status.value})" for one in invalid
    )
    if problem:
        problem += "; nothing was switched on. Check the sensor, or take it out of the channel."
    values = {
        f"{one.source} {one.quantity}": one.value if _is_valid(one) else None for one in readings
    }
    findings = [Finding("readings", problem, "" if readings else "no monitors", values)]
    bounds = {"o2": asked.o2, "h2o": asked.h2o, "dew_point": asked.dew_point}
    for name, bound in bounds.items():
        valid = _valid_values(readings, name)
        if valid or bound is not None:
            findings.append(_judge_air(name, valid, bound))
    pressures = _valid_values(readings, "pressure")
    if pressures or asked.pressure is not None:
        findings.append(_judge_pressure(pressures, asked.pressure))
    return findings


def _valid_values(readings: Iterable[AuxReading], quantity: str) -> dict[str, float]:
    return {
        one.source: one.value for one in readings if one.quantity == quantity and _is_valid(one)
    }


def _judge_air(name: str, values: Mapping[str, float], bound: float | None) -> Finding:
    """The worst reading of oxygen, water or dew point against what the recipe asks."""
    unit, word, remedy = _AIR[name]
    if not values:
        return Finding(name, f"not measured: no valid reading of {word} on this channel.")
    source, worst = max(values.items(), key=lambda one: one[1])
    found = f"{word} is {quantity_words(worst, unit)} ({source})"
    if bound is None:
        return Finding(name, "", f"{found}; no bound is asked for", values)
    most = f"at most {bound_words(bound, unit)} asked for"
    problem = f"{found}, {most}. {remedy}" if worst > bound else ""
    return Finding(name, problem, f"{found}, {most}", values)


def _judge_pressure(values: Mapping[str, float], expected: tuple[float, float] | None) -> Finding:
    """Stack pressure of the clamped cell. Its tare cannot be judged under load."""
    found = ", ".join(
        f"{quantity_words(value, 'Pa')} ({source})" for source, value in values.items()
    )
    if expected is None:
        return Finding("pressure", "", f"{found}; no range is asked for", values)
    if not values:
        return Finding("pressure", "not measured: no valid reading of it on this channel.")
    low, high = expected
    span = f"expected {bound_words(low, 'Pa')} to {bound_words(high, 'Pa')}"
    problem = ""
    if not all(low <= value <= high for value in values.values()):
        problem = (
            f"stack pressure {found}, {span}. Look at the clamp and at the load cell's tare: "
            "without load it must read zero."
        )
    return Finding("pressure", problem, f"{found}, {span}", values)
