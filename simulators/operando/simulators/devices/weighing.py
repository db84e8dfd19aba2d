"""The weighing half of a simulated load-cell indicator: filter, motion, zero and tare."""

from __future__ import annotations

import math
from random import Random

from operando.instruments.errors import BadInputError
from operando.simulators.devices.device import Options
from operando.simulators.devices.ports import FramePort

STANDARD_GRAVITY = 9.80665  # m/s2, exact by definition (CGPM 1901)

NEWTONS = {"N": 1.0, "kN": 1000.0, "kg": STANDARD_GRAVITY, "t": 1000.0 * STANDARD_GRAVITY}
"""N in one of each unit; the indicator itself never says which it shows."""

FILTER_TIMES = (0.02, 0.04, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4, 0.6, 1.0)
"""Time constant of each filter setting, s. The manual names 5 "medium" and 7 the default and
gives no times: assumed."""

DRIFT_PERIOD = 86_400.0
"""Period of the temperature drift, s: a day."""


class WeighingStage:
    """Reads the force in a frame and keeps zero, tare and filter.

    Values are in the configured unit. Between two looks the force is taken as linear, so that the
    filter's output does not depend on how often it is asked.
    """

    def __init__(
        self, name: str, frame: FramePort | None, random: Random, options: Options
    ) -> None:
        self._frame = frame
        self._gauss = random.gauss
        unit = options.text("unit", "N", tuple(NEWTONS))
        self._scale = 1.0 / NEWTONS[unit]
        self.division = options.number("division", 0.1, low=1e-4, high=1e4)
        self.decimals = max(0, math.ceil(-math.log10(self.division) - 1e-9))
        self.capacity = options.number("capacity", 20_000.0, low=self.division)
        if self.capacity >= 10.0 ** (7 - self.decimals if self.decimals else 8):
            raise BadInputError(
                f"[instruments.{name}.simulated] capacity = {self.capacity:g} with "
                f"division {self.division:g} does not fit the 8 characters of a weight"
            )
        self._noise = options.number("noise", 0.2 * self.division, low=0.0)
        self._drift = options.number("drift", 0.0, low=0.0)
        self._motion = options.number("motion", 2.0 * self.division, low=0.0)
        self._zero_range = options.number("zero_range", 0.02 * self.capacity, low=0.0)
        self.filter = options.whole("filter", 7, low=0, high=9)
        self._power_on_filter = self.filter
        self.zero_offset = 0.0
        self.tare = 0.0
        self.net = False
        self._last: tuple[float, float, float] | None = None
        self._slope = 0.0

    def power_on(self) -> None:
        """Wake up: tare forgotten, calibration zero (assumed)."""
        self.zero_offset = self.tare = 0.0
        self.net = False
        self.filter = self._power_on_filter
        self._last = None

    def look(self, now: float) -> float:
        """Filtered gross weight without noise at laboratory time `now` (s)."""
        force = self._frame.force(now) if self._frame is not None else 0.0
        load = force * self._scale + self._drift * math.sin(2.0 * math.pi * now / DRIFT_PERIOD)
        if self._last is None:
            self._last = (now, load, load)
            self._slope = 0.0
            return load - self.zero_offset
        before, load_before, filtered = self._last
        elapsed = now - before
        if elapsed > 0.0:
            tau = FILTER_TIMES[self.filter]
            slope = (load - load_before) / elapsed
            # Response of a first-order filter to a ramp.
            lag = slope * tau
            filtered = load - lag + (filtered - load_before + lag) * math.exp(-elapsed / tau)
            self._slope = slope
            self._last = (now, load, filtered)
        return filtered - self.zero_offset

    def moving(self) -> bool:
        """Whether the weight was moving when it was last looked at."""
        if self._last is None:
            return False
        _, load, filtered = self._last
        return abs(self._slope) > self._motion or abs(load - filtered) > self._motion

    def gross(self, now: float) -> float:
        """Gross weight with noise, rounded to a division."""
        return self._round(self._noisy(now), self.division)

    def fine(self, now: float) -> float:
        """Indicated weight with one more digit."""
        value = self._noisy(now) - (self.tare if self.net else 0.0)
        return self._round(value, 0.1 * self.division)

    def _noisy(self, now: float) -> float:
        return self.look(now) + self._noise * self._gauss(0.0, 1.0)

    @staticmethod
    def _round(value: float, step: float) -> float:
        return round(value / step) * step + 0.0

    def over(self, gross: float) -> bool:
        """Whether a gross weight is beyond the capacity (by more than nine divisions)."""
        return gross > self.capacity + 9.0 * self.division

    def under(self, gross: float) -> bool:
        """Whether a gross weight is below the zero range."""
        return gross < -self._zero_range - 9.0 * self.division

    def set_zero(self, now: float) -> bool:
        """Take the present load as zero; whether it was allowed."""
        gross = self.look(now)
        if self.net or abs(gross + self.zero_offset) > self._zero_range:
            return False
        self.zero_offset += gross
        return True

    def set_tare(self, now: float) -> bool:
        """Take the present load as tare; whether it was allowed."""
        gross = self._round(self.look(now), self.division)
        if not 0.0 < gross <= self.capacity:
            return False
        self.tare = gross
        self.net = True
        return True

    def clear_tare(self) -> None:
        """Show gross again."""
        self.tare = 0.0
        self.net = False
