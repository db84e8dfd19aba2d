"""A glovebox: a well-mixed box of argon that leaks, is purified and is worked in.

Between two events (a valve, a hand, a step of the purifier's load, something planned) the box obeys
linear equations that are solved in closed form, so that its course does not depend on who asks,
nor how often. Equations and limits: `docs/reference/bench-file.md`.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from operando.instruments.errors import BadInputError
from operando.simulators.cell.port import Cell
from operando.simulators.devices.device import Options, noise_stream
from operando.simulators.devices.ports import CellPort, FramePort
from operando.simulators.rooms.laboratory import GASES, STANDARD_PRESSURE, WATER_IN_AIR, air
from operando.simulators.rooms.mixing import Balance, Overpressure, Product
from operando.simulators.rooms.purifier import OXYGEN_PER_SULFIDE, Bed, Purifier
from operando.simulators.script import Planned, read_script

GAS_CONSTANT = 8.314462618
"""J/(mol K) (CODATA 2018)."""

WATER_MASS = 0.018015
"""kg/mol (IUPAC 2021 atomic weights)."""

LEAK = 6e-6 / 3600.0
"""Air that gets in over the volume of the box, 1/s: 0.0006 % an hour, measured on a box with closed
glove ports at -10 mbar (MBRAUN, technical note on leak rates, 2014). Class 1 of ISO 10648-2 allows
0.05 % an hour."""

LOSS = 5e-4 / 3600.0
"""Argon lost at 1 kPa of overpressure over the volume of the box, 1/s: what class 1 of ISO 10648-2
allows; more than the leak, because valves and gloves lose gas too (assumed; 6e-6 to 2.5e-3 /h)."""

PERMEATION_OXYGEN = 2e-8
"""O2 through two gloves of butyl rubber, mol/s: +1.8 ppm/h in that technical note, in a box taken
as 1 m3 (assumed; 1e-8 to 2e-7 for other rubbers and more gloves)."""

PERMEATION_WATER = 1e-7
"""H2O through the gloves, mol/s: rubber lets water pass about 80 times as well as oxygen at the
same difference of partial pressure (assumed; 2e-8 to 1e-6)."""

SUPPLY_OXYGEN = 2e-6
SUPPLY_WATER = 3e-6
"""Mole fractions in fresh argon 5.0: upper limits that suppliers state (assumed; down to 1e-7)."""

LOWEST, HIGHEST = 100.0, 500.0
"""Overpressure between which the box is kept, Pa (assumed; boxes are set within +-1500 Pa)."""

FILL = 1e-3
"""Argon that flows while a valve fills the box, or leaves while it vents, m3/s: 60 l/min (assumed;
10 to 200 l/min)."""

PURGE = 3e-3
"""Argon through the box while it is purged, m3/s: 180 l/min (assumed; 50 to 500 l/min)."""

GLOVE_VOLUME = 3e-3
"""Volume that one arm takes from the box, m3 (assumed; 1 to 5 l: hand and forearm)."""

GLOVE_PERIODS = 3.0, 15.0
"""Between these the time from one movement of the arms to the next is drawn, s (assumed)."""

SULFIDE_RATE = (
    1e-4 * STANDARD_PRESSURE / (GAS_CONSTANT * 298.15) / 1800.0 / (12.84 / STANDARD_PRESSURE)
)
"""H2S from exposed electrolyte per mass and per mole fraction of water, mol/(kg s): 0.1 cm3/g in 30
min at a dew point of -40 degC for a Li2S-P2S5-LiI powder (Front. Energy Res. 2022, 882508), 12.84
Pa of water (Sonntag 1990). An order of magnitude for argyrodites. First order in water: assumed."""

FRESH = 1e-7
"""O2 and H2O at the start (mole fraction): a box in good order (assumed; 1e-8 to 1e-6)."""

LONGEST = 86400.0
"""A box is looked at by itself this often, s, so that searches for the next event stay short."""

HOLE = 1e-5
"""Air through a torn glove, m3/s: 0.6 l/min (assumed; a pinhole 0.01, a cut finger 10 l/min)."""

VOLUMES = {"m3": 1.0, "l": 1e-3, "ml": 1e-6}
MASSES = {"kg": 1.0, "g": 1e-3, "mg": 1e-6}
FLOWS = {"m3/s": 1.0, "l/min": 1e-3 / 60.0, "ml/min": 1e-6 / 60.0}


Fractions = tuple[float, float, float]
"""Of O2, H2O and H2S."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that can happen in a box. units: of its size; usual: size if none is written.

    lasting: it goes on until it is ended. once: it is over at once.
    """

    units: dict[str, float]
    usual: float
    lasting: bool


EVENTS = {
    # A leak of that size opens.
    "leak": Event(FLOWS, HOLE, True),
    # That much air comes in from an antechamber that was not evacuated well: 10 l at 10 mbar.
    "antechamber": Event(VOLUMES, 1e-4, False),
    # Something wet comes in and gives off that much water at once.
    "sample": Event(MASSES, 1e-5, False),
    # That much sulfide electrolyte lies open.
    "expose": Event(MASSES, 1e-3, True),
    "gloves": Event({}, 1.0, True),
    "blower off": Event({}, 1.0, True),
    "purge": Event({}, 1.0, True),
    "regenerate": Event({}, 0.0, False),
}
"""Events by name. Sizes are assumed; every one can be written."""

_EVENT = re.compile(rf"({'|'.join(EVENTS)})(?:\s+(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(\S+))?")


@dataclass(frozen=True, slots=True)
class _Segment:
    """What the box obeys from one event to the next. start, end: laboratory time, s.

    uptake: by copper, zeolite and copper again of O2, H2O and H2S, 1/s. turn: what happens at the
    end, where that follows from the segment itself.
    """

    start: float
    oxygen: Balance
    water: Balance
    sulfide: Product
    uptake: tuple[float, float, float]
    pressure: Overpressure
    end: float = math.inf
    turn: Callable[[], None] | None = None

    def fractions(self, begin: Fractions, time: float) -> Fractions:
        """Mole fractions a time (s) after they were `begin`."""
        return (
            self.oxygen.after(begin[0], time),
            self.water.after(begin[1], time),
            self.sulfide.after(begin[2], begin[1], time),
        )

    def taken(self, begin: Fractions, time: float) -> Fractions:
        """What the beds took by then, over the gas in the box; sulfide counts on the copper too."""
        sulfide = 0.0
        if self.uptake[2]:
            sulfide = self.uptake[2] * self.sulfide.dose(begin[2], begin[1], time)
        return (
            self.uptake[0] * self.oxygen.dose(begin[0], time) + OXYGEN_PER_SULFIDE * sulfide,
            self.uptake[1] * self.water.dose(begin[1], time),
            sulfide,
        )


class Glovebox:
    """A box of argon with gloves, purifier and pressure regulation.

    Options: see `docs/reference/bench-file.md`; those of `Purifier` too. name: for messages and
    the random stream of the arms' movements.
    """

    def __init__(self, options: Options, start: float, name: str = "glovebox") -> None:
        self.name = name
        self.volume = volume = options.number("volume", 1.0, low=0.01, high=100.0)
        self._temperature = options.number("temperature", 298.15, low=250.0, high=330.0)
        self._surroundings = options.number("pressure", STANDARD_PRESSURE, low=5e4, high=1.2e5)
        outside = air(options.number("h2o_outside", WATER_IN_AIR, low=0.0, high=0.2))
        self._outside = outside["o2"], outside["h2o"]
        # State at the start of the present segment: mole fractions and overpressure, Pa.
        self._gases: Fractions = (
            options.number("o2", FRESH, low=0.0, high=1.0),
            options.number("h2o", FRESH, low=0.0, high=1.0),
            options.number("h2s", 0.0, low=0.0, high=1.0),
        )
        self.leak = options.number("leak", LEAK * volume, low=0.0, high=1.0)
        self._permeation = (
            options.number("permeation_o2", PERMEATION_OXYGEN, low=0.0, high=1e-2),
            options.number("permeation_h2o", PERMEATION_WATER, low=0.0, high=1e-2),
        )
        loss = options.number("loss", LOSS * volume, low=0.0, high=1.0)
        self._supply = (
            options.number("supply_o2", SUPPLY_OXYGEN, low=0.0, high=1.0),
            options.number("supply_h2o", SUPPLY_WATER, low=0.0, high=1.0),
        )
        self._low = options.number("low", LOWEST, low=-5e3, high=5e3)
        self._high = options.number("high", HIGHEST, low=self._low + 1.0, high=5e3)
        self._over = self._middle = 0.5 * (self._low + self._high)
        self._valve = ""
        self._fill = options.number("fill", FILL, low=1e-6, high=1.0) / volume
        self._purge = options.number("purge", PURGE, low=1e-6, high=1.0) / volume
        self._arm = options.number("glove_volume", GLOVE_VOLUME, low=0.0, high=0.2 * volume)
        self._random = noise_stream(name, options.whole("seed", 0))
        self.purifier = Purifier(options)
        self._moles = self._surroundings * volume / (GAS_CONSTANT * self._temperature)
        self._bleed = self._surroundings * loss / (1000.0 * volume)
        self._going = {event: 0.0 for event, what in EVENTS.items() if what.lasting}
        self._arms = 0.0
        self._move_at = self._regenerated_at = math.inf
        self._began = start
        self._order = 0
        # Time, order of planning, and what to do then.
        self._plan: list[tuple[float, int, Callable[[float], None]]] = []
        if 0.0 < self.purifier.every <= self.purifier.duration:
            raise BadInputError(
                f"[rooms.{name}] regeneration_every = {self.purifier.every:g}: write 0 (never) or "
                f"more than the {self.purifier.duration:g} s that a regeneration takes"
            )
        if self.purifier.every:
            self._schedule(start + self.purifier.every, self._regenerate_again)
        self._segment = self._begin(start)
        script = options.text("events", "")
        try:
            self.inject(script, start)
        except BadInputError as error:
            raise BadInputError(f"[rooms.{name}] events: {error}") from None

    # -- what instruments and cells see

    def occupy(self, cell: Cell, now: float) -> CellPort:
        """Put a cell into the box: it has the box's temperature from now on."""
        cell.set_temperature(now, self._temperature)
        return cell

    def clamp(self, frame: FramePort, cell: CellPort) -> FramePort:
        """The frame itself: its temperature does not change."""
        return frame

    def temperature(self, now: float) -> float:
        """K; constant."""
        return self._temperature

    def pressure(self, now: float) -> float:
        """Absolute, Pa."""
        time = self._elapsed(now)
        return self._surroundings + self._segment.pressure.after(self._over, time)

    def surrounding_pressure(self, now: float) -> float:
        """Absolute pressure outside, Pa."""
        return self._surroundings

    def fraction(self, gas: str, now: float) -> float:
        """Mole fraction of "o2", "h2o" or "h2s"."""
        time = self._elapsed(now)
        return self._segment.fractions(self._gases, time)[GASES.index(gas)]

    def regulate(self, now: float, target: float | None, rate: float = float("inf")) -> None:
        """Refused: nothing heats it."""
        raise ValueError("nothing heats or cools a glovebox: give the chamber a room of its own")

    def loads(self, now: float) -> tuple[float, float, float]:
        """What the copper (as O2, with what sulfide blocks), zeolite and sulfide hold, mol."""
        time = self._elapsed(now)
        taken = self._segment.taken(self._gases, time)
        copper, zeolite, sulfide = (
            bed.load + self._moles * part
            for bed, part in zip(self.purifier.beds, taken, strict=True)
        )
        return copper, zeolite, sulfide

    def inject(self, text: str, now: float) -> None:
        """Let events happen or plan them; "none" ends what lasts and forgets what was planned.

        Events add up with those before. A regeneration that runs comes to its end. Raises
        BadInputError, having changed nothing.
        """
        parts = [(part, *_event(part)) for part in read_script(text)]
        now = max(now, self._segment.start)
        times = []
        for part, _, _ in parts:
            if part.since == "cycle":
                raise BadInputError(f"{part.action!r}: a glovebox knows no cycles; give a time")
            times.append(part.time(self._began, now))
        self._elapsed(now)
        if text.strip() == "none":
            self._plan.clear()
            self._schedule(now, self._end_all)
            if self.purifier.every:
                self._schedule(now + self.purifier.every, self._regenerate_again)
        for at, (part, event, size) in zip(times, parts, strict=True):
            self._schedule(at, partial(self._happen, event, size, part.lasts))
        self._commit(max(now, self._segment.start))

    # -- events

    def _schedule(self, at: float, action: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._plan, (at, self._order, action))

    def _happen(self, event: str, size: float, lasts: float, now: float) -> None:
        if event == "regenerate":
            self._regenerate(now, lasts or self.purifier.duration)
        elif event == "antechamber":
            let_in = size / self.volume
            oxygen, water, sulfide = self._gases
            share = 1.0 / (1.0 + let_in)
            self._gases = (
                (oxygen + let_in * self._outside[0]) * share,
                (water + let_in * self._outside[1]) * share,
                sulfide * share,
            )
        elif event == "sample":
            oxygen, water, sulfide = self._gases
            self._gases = oxygen, water + size / WATER_MASS / self._moles, sulfide
        else:
            self._go(event, size, now)
            if lasts:
                self._schedule(now + lasts, partial(self._go, event, -size))

    def _go(self, event: str, size: float, now: float) -> None:
        """Let something begin, or end where the size is negative."""
        before = self._going[event]
        after = before + size
        # What was added and taken away again leaves no rounding behind.
        self._going[event] = after if after > 1e-9 * abs(size) else 0.0
        if event == "gloves" and not before:
            self._move_at = now
        elif event == "gloves" and not self._going[event]:
            self._put_arms(0.0)
            self._move_at = math.inf

    def _end_all(self, now: float) -> None:
        for event, size in self._going.items():
            if size:
                self._go(event, -size, now)

    def _regenerate(self, now: float, duration: float) -> None:
        if not self.purifier.regenerating:
            self.purifier.regenerating = True
            self._regenerated_at = now + duration

    def _regenerate_again(self, now: float) -> None:
        self._schedule(now + self.purifier.every, self._regenerate_again)
        self._regenerate(now, self.purifier.duration)

    def _put_arms(self, volume: float) -> None:
        """Let the arms take a volume (m3) from the box."""
        self._over += self._surroundings * (volume - self._arms) / self.volume
        self._arms = volume

    def _move(self, now: float) -> None:
        """Both arms go somewhere between out and in."""
        self._put_arms(self._random.uniform(0.0, 2.0 * self._arm))
        self._move_at = now + self._random.uniform(*GLOVE_PERIODS)

    # -- from event to event

    def _elapsed(self, now: float) -> float:
        """Bring the box up to a time; s since the present segment began."""
        while self._segment.end <= now:
            self._commit(self._segment.end)
        return max(now - self._segment.start, 0.0)

    def _commit(self, now: float) -> None:
        """End the segment, carry out what is due, and begin the next one."""
        segment = self._segment
        time = now - segment.start
        for bed, part in zip(self.purifier.beds, segment.taken(self._gases, time), strict=True):
            bed.load += self._moles * part
        self._over = segment.pressure.after(self._over, time)
        self._gases = segment.fractions(self._gases, time)
        if segment.turn is not None and now >= segment.end:
            segment.turn()
        if self._regenerated_at <= now:
            self.purifier.regenerate()
            self._regenerated_at = math.inf
        while self._plan and self._plan[0][0] <= now:
            heapq.heappop(self._plan)[2](now)
        if self._move_at <= now:
            self._move(now)
        self._segment = self._begin(now)

    def _begin(self, now: float) -> _Segment:
        """Set up the box as it is from now on, and find out until when."""
        inflow, pressure = self._regulated()
        leak = (self.leak + self._going["leak"]) / self.volume
        running = not self._going["blower off"]
        uptake = self.purifier.rates(self.volume, running=running)
        eaten = SULFIDE_RATE * self._going["expose"] / self._moles
        oxygen, water = (
            Balance(
                leak * outside + permeation / self._moles + inflow * supply,
                leak + permeation / self._moles / outside + inflow + taken,
            )
            if outside
            else Balance(inflow * supply, leak + inflow + taken)
            for outside, permeation, supply, taken in zip(
                self._outside, self._permeation, self._supply, uptake[:2], strict=True
            )
        )
        water = replace(water, rate=water.rate + eaten)
        sulfide = Product(water, eaten, leak + inflow + uptake[2])
        segment = _Segment(now, oxygen, water, sulfide, uptake, pressure)
        end, turn = self._next_valve(now, pressure)
        others = min(self._regenerated_at, self._move_at, now + LONGEST)
        if self._plan:
            others = min(others, self._plan[0][0])
        if others < end:
            end, turn = others, None
        for bed in self.purifier.beds:
            found = self._next_stair(segment, bed, end - now)
            if found < end - now:
                end, turn = now + found, bed.climb
        return replace(segment, end=max(end, now), turn=turn)

    def _regulated(self) -> tuple[float, Overpressure]:
        """Set the valves. Returns argon that comes in (1/s) and the course of the pressure."""
        if self._going["purge"]:
            self._valve = ""
            return self._purge, Overpressure(0.0)
        if self._over >= self._high:
            self._valve = "vent"
        elif self._over <= self._low:
            self._valve = "fill"
        elif (self._valve == "fill" and self._over >= self._middle) or (
            self._valve == "vent" and self._over <= self._middle
        ):
            self._valve = ""
        flow = self._fill * self._surroundings
        if self._valve == "fill":
            return self._fill, Overpressure(self._bleed, flow)
        return 0.0, Overpressure(self._bleed, -flow if self._valve == "vent" else 0.0)

    def _next_valve(
        self, now: float, pressure: Overpressure
    ) -> tuple[float, Callable[[], None] | None]:
        """When a valve moves next, and what to do then."""
        # A closed box that leaks only nears the surroundings: from above it may reach `low`.
        wanted = self._middle if self._valve else self._low
        if not self._valve and self._over < 0.0:
            wanted = self._high

        def reach() -> None:
            self._over = wanted

        return now + pressure.time_to(self._over, wanted), reach

    def _next_stair(self, segment: _Segment, bed: Bed, horizon: float) -> float:
        """Time until the load of a bed passes its next stair, s; the horizon if not before."""
        which = self.purifier.beds.index(bed)

        def missing(time: float) -> float:
            return bed.next - bed.load - self._moles * segment.taken(self._gases, time)[which]

        if missing(horizon) > 0.0:
            return horizon
        low, high = 0.0, horizon
        while high - low > 1e-9 * high + 1e-6:
            middle = 0.5 * (low + high)
            if missing(middle) > 0.0:
                low = middle
            else:
                high = middle
        return high


def _event(part: Planned) -> tuple[str, float]:
    """Name and size (SI) of an event. Raises BadInputError."""
    found = _EVENT.fullmatch(part.action)
    if not found:
        known = ", ".join(("none", *EVENTS))
        raise BadInputError(f"unknown event {part.action!r} of a glovebox; known are {known}")
    name, number, unit = found[1], found[2], found[3]
    event = EVENTS[name]
    if part.lasts and not event.lasting and name != "regenerate":
        raise BadInputError(f"event {part.action!r} happens once: leave 'for ...' out")
    if number is None:
        return name, event.usual
    if unit not in event.units:
        units = " or ".join(event.units)
        wanted = f"write its size in {units}" if units else "it has no size"
        raise BadInputError(f"event {part.action!r}: {wanted}")
    size = float(number) * event.units[unit]
    if not 0.0 < size < math.inf:
        raise BadInputError(f"event {part.action!r}: its size must be more than 0")
    return name, size
