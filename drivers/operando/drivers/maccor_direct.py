"""A direct mode of a Maccor channel as a value, and how a channel is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Seconds, Volts
from operando.instruments.samples import Regulation

IGNORED_POWER: Final = 65536.0
"""W beyond every range: the power does not limit (p. 46; the value that pymacnet sends)."""

NEAR: Final = 5e-3
"""V within which a voltage counts as held, and a channel keeps its direction. ASSUMPTION."""


@dataclass(frozen=True, slots=True)
class MaccorSettings:
    """How a channel is used.

    watchdog: MacNetDirectModeWD in the tester's System.ini, which cannot be read from here, s; 0
        says that there is none, and the output stays on when this computer dies.
    renewal: interval at which a set-point is sent again, s; below half the watchdog.
    sharing: age up to which a reading made together with another channel's is taken, s.
    safety_margin: by how much the tester's voltage safety lies outside the run's window, V.
    record_interval: of the rows that the tester stores of a direct mode, s; 0 stores none.
    """

    watchdog: Seconds = 0.0
    renewal: Seconds = 2.0
    sharing: Seconds = 0.4
    safety_margin: Volts = 0.1
    record_interval: Seconds = 10.0

    def __post_init__(self) -> None:
        if not self.renewal >= 0.5:
            raise BadInputError(f"renewal must be at least 0.5 s, not {self.renewal:g} s")
        if self.watchdog and not self.renewal <= 0.5 * self.watchdog:
            raise BadInputError(
                f"a renewal of {self.renewal:g} s is too slow for a watchdog of {self.watchdog:g} "
                "s; it must come twice in that time"
            )
        if self.safety_margin < 0.0:
            raise BadInputError(f"safety_margin must not be negative: {self.safety_margin:g} V")


@dataclass(frozen=True, slots=True)
class Drive:
    """A direct mode. current: A, positive charges. level: V. scale: index of the range, 0 to 3."""

    current: float
    level: float
    scale: int
    full_scale: float

    @property
    def parameters(self) -> dict[str, str | int | float]:
        return {
            "Current": abs(self.current),
            "Voltage": self.level,
            "Power": IGNORED_POWER,
            "Resistance": 0,
            "CurrentRange": self.scale + 1,
            "ChMode": "C" if self.current > 0.0 else "D",
        }


def regulation_of(drive: Drive, voltage: float, current: float) -> Regulation:
    """What limits a direct mode: the current, or the voltage once it flows less."""
    limit = abs(drive.current)
    if abs(current) >= limit - 0.005 * limit - 0.001 * drive.full_scale:
        return Regulation.CURRENT
    if abs(voltage - drive.level) <= max(NEAR, 2e-3 * abs(drive.level)):
        return Regulation.VOLTAGE
    return Regulation.UNKNOWN


def channel_of(address: str) -> int:
    """The 0-based channel that an address names from 1. Raises BadInputError."""
    text = address.partition("#")[2]
    if not text.isascii() or not text.isdecimal() or not 0 < len(text) <= 4 or int(text) == 0:
        raise BadInputError(
            f'"{address}" names no channel of the tester; write it behind #, as on its front '
            'panel: "TCPIP::host::57570::SOCKET#1"'
        )
    return int(text) - 1
