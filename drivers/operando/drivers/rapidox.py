"""Cambridge Sensotec Rapidox 1100, oxygen analyser of a glovebox, over RS-232.

Documents: Rapidox 1100E manual v3.8, printed page 15; Rapidox 1100ZR-H-PFC-E manual v1.2, printed
page 18. The one command known is `D`; nothing can be set over the line. Speed and framing of the
line are not printed there: 9600 baud 8N1, the default of a serial address, is an ASSUMPTION.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

from operando.drivers.driver import NoOutput, WireDriver
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    GarbledReplyError,
)
from operando.instruments.quantities import Seconds
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.samples import AuxReading, Status
from operando.instruments.wires import Terminated

LINE = Terminated(b"\r\n")

NOT_READY = {
    "Initialising": Status.UNSTABLE,
    "Sensor heating": Status.UNSTABLE,
    "Sensor cooling": Status.UNSTABLE,
    "Cleaning sensor": Status.UNSTABLE,
    "User setup active": Status.UNSTABLE,  # somebody is in its menu; it closes after 60 s
    "Possible sensor fault": Status.FAULT,  # not at its temperature 10 min after power-up
    "No sensor or sensor fault": Status.FAULT,
}
"""What it says behind `!` instead of a reading; there is no oxygen value then."""

STATES = {
    0: ("OK", Status.OK),
    1: ("O2 over-range", Status.OVERLOAD),
    2: ("O2 under-range", Status.UNDERLOAD),
    3: ("O2 sensor fault", Status.FAULT),
    4: ("pressure under-range", Status.FAULT),
    5: ("pressure over-range", Status.FAULT),
    6: ("pressure fault", Status.FAULT),
}
"""State codes of the 1100ZR. Of the 1100E the manual gives 0 alone; any other is a fault there.

Zirconia senses the partial pressure: without the sample's pressure there is no fraction.
"""

_NUMBER = r"(-?\d\.\d{3}E[+-]\d{2})"
_TIME, _DATE = r"\d{2}:\d{2}:\d{2}", r"\d{2}/\d{2}/\d{2}"
# Only "ALM1&2" is printed: the alarms are the digits in whatever words stand around them.
_ALARMS = r"([A-Za-z& ]*1?[A-Za-z& ]*2?[A-Za-z& ]*)"
_HEAD = rf"d{_NUMBER},{_NUMBER},{_NUMBER}"
_PLAIN = re.compile(rf"{_HEAD},{_TIME},{_DATE},{_ALARMS},(\d)")
_ZIRCONIA = re.compile(rf"{_HEAD},,{_TIME},{_DATE},,,{_ALARMS},(\d)")

_WHOLE = 1e6
"""ppm in pure oxygen."""


@dataclass(frozen=True, slots=True)
class RapidoxSettings:
    """What the manuals leave open. timeout: s to wait for a reply; how fast it is, is not said."""

    timeout: Seconds = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.timeout < math.inf:
            raise BadInputError(f"timeout must be positive, not {self.timeout:g} s")


class Report(NamedTuple):
    """One reply. oxygen: mole fraction, NaN when there is none. condition: in the maker's words.

    alarms: which of the two alarms of the front panel are on.
    """

    oxygen: float
    status: Status
    condition: str
    alarms: frozenset[int] = frozenset()


def parse(reply: bytes) -> Report | None:
    """What a reply without its terminator says; None when the manuals do not allow it."""
    text = reply.decode("ascii", "replace")
    if text.startswith("!"):
        status = NOT_READY.get(text[1:])
        return None if status is None else Report(math.nan, status, text[1:])
    found = _ZIRCONIA.fullmatch(text)
    plain = found is None
    found = found or _PLAIN.fullmatch(text)
    if found is None:
        return None
    ppm, code = float(found[1]), int(found[5])
    if ppm > _WHOLE or code not in STATES:
        return None
    condition, status = STATES[code]
    if plain and code:
        condition, status = f"sensor fault {code}", Status.FAULT
    if ppm < 0.0 and status is Status.OK:
        status = Status.UNDERLOAD
    alarms = frozenset(number for number in (1, 2) if str(number) in found[4])
    return Report(math.nan if status is Status.FAULT else ppm * 1e-6, status, condition, alarms)


class Rapidox1100(NoOutput, WireDriver[RapidoxSettings]):
    """One Rapidox 1100. No output; nothing happens when the host falls silent."""

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="rapidox-1100",
        maker="Cambridge Sensotec",
        models=("Rapidox 1100E", "Rapidox 1100ZR"),
        document="Rapidox 1100E manual v3.8, printed page 15, and 1100ZR-H-PFC-E v1.2, page 18",
        roles=("glovebox_monitor",),
        identification="none",
        safe_state="has no output",
        measures=("o2",),
        notes=(
            "the speed of its line is in neither manual: 9600 8N1 unless the address says more",
            "its pressure is that of the sample at the sensor, not of the box: it is not recorded",
        ),
    )
    Settings: TypeAlias = RapidoxSettings

    _last = Report(math.nan, Status.UNSTABLE, "")

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities. How often it measures is not in its manuals: 1 s is an ASSUMPTION."""
        return Capabilities(fastest_sampling=1.0, when_host_is_silent=WhenHostIsSilent.NO_OUTPUT)

    @property
    def condition(self) -> str:
        """What it last said about itself: "OK", "Sensor heating"; empty before the first reply."""
        return self._last.condition

    @property
    def alarms(self) -> frozenset[int]:
        """Which of its own alarms, 1 and 2, were on in the last reply."""
        return self._last.alarms

    async def measure(self) -> tuple[AuxReading, ...]:
        """Measure the oxygen, quantity "o2", mole fraction.

        UNSTABLE with NaN while it warms up, cleans its sensor or is in its menu; FAULT with NaN
        when the sensor or its pressure compensation fails; OVERLOAD or UNDERLOAD with the number
        that it gives. `condition` has its words.
        """
        sent = self._clock.now()
        report = await self._ask()
        width = 0.5 * (self._clock.now() - sent)
        return (AuxReading(self.name, "o2", sent + width, width, report.oxygen, report.status),)

    async def _identify(self) -> Identity:
        await self._ask()
        return Identity("", "")

    async def _ask(self) -> Report:
        try:
            reply = await self._wire.exchange(b"D", LINE, self._settings.timeout)
        except CommunicationError as error:
            self._blame(error)
        report = parse(reply)
        if report is None:
            raise self._error(
                GarbledReplyError,
                f"answered D with {reply!r}, expected a reading such as d8.000E-01,1.550E+02,"
                "2.000E-03,10:15:00,01/02/26,,0 or a message such as !Sensor heating. Check the "
                "settings of the line in the address (baud, parity).",
            )
        self._last = report
        return report
