"""Simulated Cambridge Sensotec Rapidox 1100 oxygen analyser with a heated zirconia cell.

Written from the Rapidox 1100E instruction manual 3.8, page 15, and the 1100ZR-H-PFC-E manual 1.2,
page 18. What is assumed where they are silent stands in
`docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from operando.instruments.wires import Line
from operando.simulators.devices.device import Options
from operando.simulators.devices.gas_sensor import BAR, Lag, RoomSensor
from operando.simulators.rooms import OXYGEN_IN_AIR, STANDARD_PRESSURE

GAS_CONSTANT = 8.314462618  # J/(mol K), CODATA 2018
FARADAY = 96485.33212  # C/mol, CODATA 2018

OXYGEN_PER_SULFIDE = 1.5
"""H2S + 3/2 O2 -> H2O + SO2: combustible gas burns on the hot platinum as the equation says, and
the cell sees the oxygen that is left (Michell XZR200 manual, section 5.2.3)."""

CLEANING_TIME = 5.0
"""Manual: the sensor is cleaned for 5 s once it is hot."""

HEATING_LIMIT = 600.0
"""Manual: a sensor that is not hot 10 minutes after power-up may be faulty."""

OK, OVER, UNDER, PRESSURE_UNDER, PRESSURE_OVER = 0, 1, 2, 4, 5
"""Sensor states of the ZR manual; 3 (oxygen sensor fault) is told by "!" replies here, and 6
(pressure sensor fault) does not happen."""

LEAST_OXYGEN = 1e-30
"""Mole fraction where combustible gas is in excess: the equilibrium's is beyond any range."""


class SimulatedRapidox(RoomSensor):
    """A Rapidox 1100: `D` in, `d8.000E-01,1.550E+02,...` or `!Sensor heating` out."""

    power_on_time = 1.0
    default_response_time = 0.05

    def _take_own_options(self, options: Options) -> None:
        self._layout = options.text("layout", "1100E", ("1100E", "1100ZR"))
        self._initialising = options.number("initialising_time", 5.0, low=0.0)
        self._heating = options.number("heating_time", 180.0, low=0.0)
        self._cell_temperature = options.number("cell_temperature", 923.15, low=300.0, high=2000.0)
        polarity = options.text(
            "cell_polarity", "air minus sample", ("air minus sample", "sample minus air")
        )
        self._polarity = 1.0 if polarity == "air minus sample" else -1.0
        self._sensing_time = options.number("sensing_time", 2.0, low=0.0)
        self._noise = options.number("noise", 2e-5, low=0.0)
        self._offset = options.number("offset", 0.0, low=-0.1, high=0.1)
        self._warm_up_error = options.number("warm_up_error", 1e-3, low=-0.1, high=0.1)
        self._warm_up_time = options.number("warm_up_time", 600.0, low=1.0)
        self._ageing = options.number("ageing", 0.0, low=0.0, high=1.0)
        self.dose = options.number("dose", 0.0, low=0.0)
        self._poison_dose = options.number("poison_dose", 1.0, low=1e-9)
        self._poison_loss = options.number("poison_loss", 0.1, low=0.0, high=0.9)
        self._poison_delay = options.number("poison_delay", 9.0, low=0.0)
        self._lowest = options.number("lowest", 1e-26, low=1e-30, high=1e-3)
        self._highest = options.number("highest", 1.0, low=1e-3, high=1.0)
        self._compensation = options.flag("pressure_compensation", True)
        self._pressure_noise = options.number("pressure_noise", 10.0, low=0.0)
        self._pressure_offset = options.number("pressure_offset", 0.0)
        self._alarms = (
            options.number("alarm1", 0.0, low=0.0, high=1.0),
            options.number("alarm2", 0.0, low=0.0, high=1.0),
        )
        self._rising = options.text("alarm_polarity", "rising", ("rising", "falling")) == "rising"
        self._clock_offset = options.number("clock_offset", 0.0)
        self._oxygen = Lag()
        self._sulfide: tuple[float, float] | None = None

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Answer each `D`; everything else is ignored."""
        for byte in data:
            if byte == ord("D"):
                self._reply(line, self._answer(now).encode("ascii") + b"\r\n", 1, now)

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s): the cell is cold when it comes back. Poison stays."""
        self._sense(now)
        self.powered_at = now + boot_time

    # -- the cell

    @property
    def poisoning(self) -> float:
        """0 for a clean cell, towards 1 with the hydrogen sulfide it has seen."""
        return self.dose / (self.dose + self._poison_dose)

    def _sense(self, now: float) -> float:
        """Oxygen at the cell, mole fraction that it would show when healthy.

        The cell's voltage follows with a time constant, and with it the logarithm of the oxygen.
        """
        sulfide = self.room.fraction("h2s", now)
        if self._sulfide is not None and now > self._sulfide[0]:
            before, was = self._sulfide
            self.dose += 0.5 * (sulfide + was) * (now - before)
        self._sulfide = (now, sulfide)
        left = self.room.fraction("o2", now) - OXYGEN_PER_SULFIDE * sulfide
        if not self._compensation:
            left *= self.room.pressure(now) / STANDARD_PRESSURE
        sluggish = self._sensing_time * (1.0 + self._poison_delay * self.poisoning)
        return math.exp(self._oxygen.look(now, math.log(max(left, LEAST_OXYGEN)), sluggish))

    def _measure(self, now: float) -> tuple[float, float]:
        """Mole fraction that is shown, and voltage of the cell, V (air against sample)."""
        seen = self._sense(now)
        nernst = GAS_CONSTANT * self._cell_temperature / (4.0 * FARADAY)
        hot_at = self.powered_at + self._initialising + self._heating
        kept = max(0.0, 1.0 - self._ageing * self.age(now))
        kept *= 1.0 - self._poison_loss * self.poisoning
        voltage = nernst * math.log(OXYGEN_IN_AIR / seen) * kept + self._offset
        voltage += self._warm_up_error * math.exp(-max(now - hot_at, 0.0) / self._warm_up_time)
        voltage += self._noise * self.gauss(0.0, 1.0)
        return OXYGEN_IN_AIR * math.exp(-voltage / nernst), voltage

    # -- the reply

    def _answer(self, now: float) -> str:
        not_ready = self._not_ready(now)
        if not_ready:
            self._sense(now)
            return "!" + not_ready
        shown, voltage = self._measure(now)
        state = OK
        if self._overloads and self._overloaded():
            shown = self._highest * 2.0
        if shown > self._highest:
            shown, state = self._highest, OVER
        elif shown < self._lowest:
            shown, state = self._lowest, UNDER
        outside = self.room.surrounding_pressure(now)
        gauge = self.room.pressure(now) - outside + self._pressure_offset
        gauge += self._pressure_noise * self.gauss(0.0, 1.0)
        pressure = min(max(gauge / BAR, -2.0), 2.0)  # the sensor's range: manual of the 1100L
        if state == OK and abs(gauge) > 2.0 * BAR:
            state = PRESSURE_UNDER if gauge < 0.0 else PRESSURE_OVER
        written_at = datetime.fromtimestamp(self.clock.utc(now) + self._clock_offset, UTC)
        return self._line(
            f"{shown * 1e6:.3E}",
            f"{self._polarity * voltage * 1e3:.3E}",
            f"{pressure:.3E}",
            f"{written_at:%H:%M:%S,%d/%m/%y}",
            self._alarm_text(shown),
            state,
        )

    def _line(
        self, oxygen: str, voltage: str, pressure: str, time: str, alarms: str, state: int
    ) -> str:
        if self._layout == "1100E":
            # Its manual knows 0 only, "no faults"; any other state is shown as it is (assumed).
            return f"d{oxygen},{voltage},{pressure},{time},{alarms},{state}"
        return f"d{oxygen},{voltage},{pressure},,{time},,,{alarms},{state}"

    def _alarm_text(self, shown: float) -> str:
        """Documented for both; for one alone assumed. A set point of 0 is switched off."""
        on = [
            str(number)
            for number, level in enumerate(self._alarms, 1)
            if level > 0.0 and (shown > level if self._rising else shown < level)
        ]
        return "ALM" + "&".join(on) if on else ""

    def _not_ready(self, now: float) -> str:
        """Why there is no reading; "" when there is."""
        on_for = now - self.powered_at
        if on_for < self._initialising:
            return "Initialising"
        if not self.plugged:
            return "No sensor or sensor fault"
        if self._refusals and self._refusing():
            return "User setup active"
        hot_after = self._initialising + self._heating
        if on_for < hot_after:
            return "Possible sensor fault" if on_for >= HEATING_LIMIT else "Sensor heating"
        return "Cleaning sensor" if on_for < hot_after + CLEANING_TIME else ""
