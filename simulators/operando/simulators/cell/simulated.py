"""The simulated cell: a single-particle electrode model behind an electrical port.

The cell integrates on its own grid of steps, which starts anew at every change of control and
nowhere else. It looks one step ahead; a poll interpolates inside that step and leaves no trace, so
that the trajectory does not depend on who asks, nor how often. Equations, parameters and limits:
`docs/explanation/cell-model.md`.
"""

import math
from dataclasses import replace

from operando.simulators.cell.control import (
    LONGEST_LIFE,
    check_source,
    check_start,
    check_temperature,
)
from operando.simulators.cell.electrochemistry import Electrochemistry
from operando.simulators.cell.inside import Inside
from operando.simulators.cell.parameters import CellParameters, load_preset
from operando.simulators.cell.state import Branch, CellState, Point, Regulation, Source, Terminal
from operando.simulators.cell.stepping import HELD_CLOSER, PATIENCE, RELIEF, error_of_step

FIRST_STEP = 4e-2
"""Length of the first step after a change of control, s."""
LONGEST_STEP = 900.0
"""s. Even a resting cell is looked at this often: the interphases still grow."""
LONGEST_SHARE = 0.01
"""Of the time since the last change of control: where that is longer, a step may be as long."""
SHORTEST_STEP = 1e-6
"""A step this short is taken whatever its error, s."""
SAFETY = 0.8
"""Share of the length that a step could have by its error which the next attempt takes. With 0.85
the ripple that steps leave on a relaxation grows beyond 0.1 uV a minute."""


class SimulatedCell:
    """A cell with two terminals, a temperature and a thickness.

    The times given to its methods are laboratory time in s and must not decrease from call to
    call (ValueError). Positive current charges the cell. Switching to another current acts on the
    terminals at once: there is no double layer.
    """

    area: float
    """Electrode area, m2."""
    active_mass: float
    """Mass of active material, kg."""
    nominal_capacity: float
    """Charge that defines 1C, C: a current of this over 3600 s is 1C."""
    assembled_at: float
    """Laboratory time of assembly, s."""

    def __init__(
        self, parameters: CellParameters, *, seed: int | None = 0, start: float = 0.0
    ) -> None:
        """Assemble a cell.

        parameters: of the nominal cell. seed: which cell of the batch; 0 or None is the nominal
        one. start: laboratory time of assembly, s.
        """
        check_start(start)
        p = parameters.manufactured(seed or 0)
        self.parameters = p
        self.area = p.area
        self.active_mass = p.active_loading * p.area
        self.nominal_capacity = p.nominal_specific_capacity * self.active_mass
        self.assembled_at = start
        self._temperature = p.reference_temperature
        self._physics = Electrochemistry(p)
        # Within the model time counts from assembly: the shortest step is not lost in rounding
        # beside a laboratory time that may count from anywhere.
        fresh = self._physics.fresh(0.0)
        self._now = 0.0
        # The running step reaches from _begin to _end; _before is the point before on the same
        # stretch of control, if there is one.
        self._before: Point | None = None
        self._begin = fresh
        self._end = fresh
        self._history: list[tuple[float, float]] = []
        self._length = FIRST_STEP
        self._source = Source(Regulation.OPEN)
        self._branch = Branch(Regulation.OPEN)
        # Where the source leaves its branch at the end of the running step: the branch it takes.
        self._next_branch: Branch | None = None
        self._just_switched = False
        # Steps since the last change of control, and its time: what bounds the work.
        self._effort = 0
        self._engaged = 0.0
        self._leniency = self._most_lenient = 1.0
        # What a poll needs of the running step, made by the first poll that asks.
        self._inside: Inside | None = None
        self._engage()

    @classmethod
    def from_preset(cls, name: str, *, seed: int | None = 0, start: float = 0.0) -> "SimulatedCell":
        """Assemble a cell from a preset; KeyError, with the names there are, for an unknown one."""
        return cls(load_preset(name).parameters, seed=seed, start=start)

    # -- electrical port

    def open_circuit(self, now: float) -> None:
        """Disconnect whatever is connected."""
        self._control(now, Source(Regulation.OPEN))

    def source_voltage(
        self, now: float, level: float, current_limit: float, resistance: float = 0.0
    ) -> None:
        """Connect a voltage source that limits its current both ways.

        level: V, held at the source's side of the leads. current_limit: A, a magnitude.
        resistance: of the leads in series, ohm.
        """
        self._control(now, Source(Regulation.VOLTAGE, level, abs(current_limit), resistance))

    def source_current(self, now: float, level: float, voltage_limit: float) -> None:
        """Connect a current source that limits its voltage both ways.

        level: A, positive charges. voltage_limit: V, a magnitude. A cell whose voltage lies
        outside it is pulled to it, with whatever current that takes.
        """
        self._control(now, Source(Regulation.CURRENT, level, abs(voltage_limit)))

    def terminal(self, now: float) -> Terminal:
        """Return voltage (V), current (A) and regulation at the terminals."""
        now -= self.assembled_at
        if now > self._end.time:
            self._run(now)
        if not now >= self._now:
            self._check(now)
        self._now = now
        return (self._inside or self._view()).terminal(now)

    def _view(self) -> Inside:
        """Return what polls see of the running step."""
        if self._inside is None:
            self._inside = Inside(
                self._physics, self._before, self._begin, self._end, self._branch,
                straight=self._leniency > 1.0,
            )  # fmt: skip
        return self._inside

    def advance(self, now: float) -> None:
        """Make the state valid up to a time (s); every other method does so by itself."""
        now -= self.assembled_at
        self._check(now)
        if now > self._end.time:
            self._run(now)
        self._now = now

    def run_until(self, current: float, latest: float) -> float:
        """Run until the source holds its voltage and no more than a current flows.

        current: A, a magnitude; infinite stops where the voltage is reached. latest: laboratory
        time, s, at which to stop whatever happens. Returns the time reached, to a microsecond.
        Nothing is polled: this is how a cell is cycled without instruments, see `cycle`.
        """
        end_of_wait = latest - self.assembled_at
        self._check(end_of_wait)
        while True:
            held = self._branch.regulation is Regulation.VOLTAGE
            if held and abs(self._end.shown) <= current and self._end.time >= self._now:
                now = min(self._crossing(current), end_of_wait)
                break
            if self._end.time >= end_of_wait:
                now = end_of_wait
                break
            self._run(math.nextafter(self._end.time, math.inf))
        self._now = max(now, self._now)
        return self.assembled_at + self._now

    def _crossing(self, current: float) -> float:
        """Return when a current (A) is reached in the running step, s after assembly."""
        low, high = max(self._begin.time, self._now), self._end.time
        inside = self._view()
        if abs(inside.terminal(low).current) <= current:
            return low
        above = abs(inside.terminal(low).current) - current
        below = abs(inside.terminal(high).current) - current
        side = 0
        for _ in range(60):
            if high - low < 1e-6 or below == 0.0:
                break
            middle = high - below * (high - low) / (below - above)
            middle = min(max(middle, low + 0.4e-6), high - 0.4e-6)
            excess = abs(inside.terminal(middle).current) - current
            if excess > 0.0:
                low, above = middle, excess
                below *= 0.5 if side > 0 else 1.0
                side = 1
            else:
                high, below = middle, excess
                above *= 0.5 if side < 0 else 1.0
                side = -1
        return high

    @property
    def time(self) -> float:
        """Laboratory time up to which the cell has been asked, s."""
        return self.assembled_at + self._now

    @property
    def temperature(self) -> float:
        """Temperature of the whole cell, K."""
        return self._temperature

    def set_temperature(self, now: float, kelvin: float) -> None:
        """Set the temperature of the whole cell, K."""
        check_temperature(kelvin)
        if kelvin == self._temperature:
            self.advance(now)
            return
        self._cut(now)
        self._temperature = kelvin
        self._physics.set_temperature(kelvin)
        self._engage()

    # -- mechanics

    def thickness_change(self, now: float) -> float:
        """Return what both electrodes have gained in thickness since assembly, m."""
        self.advance(now)
        begin, end, physics = self._begin, self._end, self._physics
        # Charge is known better than linearly, the rest follows.
        plated = self._charge() - self._linear(begin.charge, end.charge)
        return self._linear(physics.height(begin), physics.height(end)) + (
            plated * self.parameters.counter_expansion / self.area
        )

    @property
    def stack_pressure(self) -> float:
        """Pressure on the stack at the time up to which the cell has been asked, Pa."""
        height = self._physics.height
        return self._physics.ageing.pressure_at(
            self._linear(height(self._begin), height(self._end))
        )

    def set_stack_pressure(self, now: float, pascal: float, stiffness: float | None = None) -> None:
        """Set the pressure on the stack from a time on, Pa.

        stiffness: rise of the pressure per thickness gained from then on, Pa/m; 0 holds the
        pressure, None keeps the frame there is. It acts on contact loss and on the creep of the
        counter electrode. Raises ValueError for what is negative or not finite.
        """
        ageing = self._physics.ageing
        stiffness = ageing.stiffness if stiffness is None else stiffness
        for name, value in (("pressure", pascal), ("stiffness", stiffness)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and not negative, not {value!r}")
        self._cut(now)
        height = self._physics.height(self._end)
        ageing.pressure, ageing.stiffness, ageing.reference_height = pascal, stiffness, height
        self._engage()

    # -- truth

    def charge_passed(self, now: float) -> float:
        """Return the net charge since assembly, C; positive charged the cell."""
        self.advance(now)
        return self._charge()

    def throughput(self, now: float) -> float:
        """Return the absolute charge passed since assembly, C."""
        self.advance(now)
        return self._begin.throughput + abs(self._charge() - self._begin.charge)

    def lithiation(self, now: float) -> float:
        """Return the mean lithium content of the connected active material."""
        self.advance(now)
        begin, end = self._begin, self._end
        # The charge is known better than linearly between the ends of a step.
        bend = self._charge() - self._linear(begin.charge, end.charge)
        bend /= self._physics.capacity * begin.connected
        return self._linear(begin.mean, end.mean) - bend

    def open_circuit_voltage(self, now: float) -> float:
        """Return the voltage the cell would relax to if it were left alone, V."""
        self.advance(now)
        positive = self._linear(self._begin.positive, self._end.positive)
        return self._physics.rest_voltage(self.lithiation(now), positive)

    def charge_transfer_resistance(self, now: float) -> float:
        """Return the cathode's arc diameter, ohm: Butler-Volmer slope and films together.

        Taken at zero current and the surface composition of this moment.
        """
        state = self.state(now)
        return state.film_resistance + self._physics.charge_transfer_resistance(
            state.surface_lithiation, state.contact_fraction, state.connected_fraction
        )

    def state(self, now: float) -> CellState:
        """Return the inner state at a time, between the ends of a step linearly."""
        lithiation = self.lithiation(now)
        begin, end, linear = self._begin, self._end, self._linear
        charge = self._charge()
        p, physics = self.parameters, self._physics
        old, new = begin.wear, end.wear
        connected = linear(old.connected, new.connected)
        leaked = linear(begin.leaked, end.leaked)
        consumed = math.sqrt(linear(old.counter_square, new.counter_square))
        height = linear(physics.height(begin), physics.height(end))
        return CellState(
            time=now,
            lithiation=lithiation,
            surface_lithiation=linear(begin.x[-1], end.x[-1]),
            contact_fraction=linear(old.contact, new.contact),
            connected_fraction=connected,
            interphase_thickness=linear(old.interphase, new.interphase),
            counter_interphase_charge=consumed,
            void_fraction=linear(old.void, new.void),
            counter_lithium=p.counter_inventory + (charge - leaked) / self.area - consumed,
            charge=charge,
            throughput=begin.throughput + abs(charge - begin.charge),
            leaked_charge=leaked,
            oxidised_charge=linear(begin.oxidised, end.oxidised),
            cathode_lithium=physics.capacity
            * linear(
                physics.sphere.mean(begin.x) * old.connected + old.isolated,
                physics.sphere.mean(end.x) * new.connected + new.isolated,
            )
            - (charge - linear(begin.charge, end.charge)),
            film_resistance=linear(physics.film_resistance(old), physics.film_resistance(new)),
            counter_resistance=linear(
                physics.counter_resistance(old), physics.counter_resistance(new)
            ),
            pressure=physics.ageing.pressure_at(height),
        )

    @property
    def leniency(self) -> float:
        """Largest factor by which the tolerance of a step was widened since assembly.

        1 in ordinary use. Under abuse, where the equations would ask for steps without end, they
        are solved the less accurately the longer that lasts: this says that it happened.
        """
        return self._most_lenient

    # -- inside the running step

    def _linear(self, begin: float, end: float) -> float:
        """Return a quantity at the present time from its values at the ends of the step."""
        length = self._end.time - self._begin.time
        if length <= 0.0:
            return end
        return begin + (end - begin) * (self._now - self._begin.time) / length

    def _charge(self) -> float:
        """Return the net charge (C), a cubic through charge and current at the ends of the step."""
        begin, end = self._begin, self._end
        length = end.time - begin.time
        if length <= 0.0:
            return end.charge
        s = (self._now - begin.time) / length
        rise = end.charge - begin.charge
        first, last = begin.shown * length, end.shown * length
        return begin.charge + s * (
            first + s * (3.0 * rise - 2.0 * first - last + s * (first + last - 2.0 * rise))
        )

    # -- control

    def _check(self, now: float) -> None:
        """Refuse a time (s after assembly) that lies before the last one."""
        if not now >= self._now:
            start = self.assembled_at
            raise ValueError(
                f"time must not decrease: asked for {start + now!r} s after {start + self._now!r} s"
            )

    def _control(self, now: float, source: Source) -> None:
        """Replace the source from a time on; the same source again changes nothing."""
        check_source(source)
        if source == self._source:
            self.advance(now)
            return
        self._cut(now)
        self._source = source
        self._engage()

    def _cut(self, now: float) -> None:
        """End the running step at a time, as if it had been planned so."""
        self.advance(now)
        now = self._now
        if self._begin.time < now < self._end.time:
            length = now - self._begin.time
            end = self._step(length)
            self._end = self._choose_branch(end, length) if self._leniency > 1.0 else end
            self._inside = None
        elif now == self._begin.time:
            self._end = self._begin
            self._inside = None

    def _engage(self) -> None:
        """Start the grid anew, with the branch that the source takes on the present state."""
        source = self._source
        point = replace(self._end, resistance=self._physics.resistance(self._end))
        self._effort, self._engaged, self._leniency = 0, point.time, 1.0
        instant = self._physics.instant_voltage
        level, limit, lead = source.level, source.limit, source.resistance
        if source.regulation is Regulation.OPEN:
            branch = Branch(Regulation.OPEN)
        elif source.regulation is Regulation.VOLTAGE:
            if instant(point, limit) + limit * lead <= level:
                branch = Branch(Regulation.CURRENT, limit)
            elif instant(point, -limit) - limit * lead >= level:
                branch = Branch(Regulation.CURRENT, -limit)
            else:
                branch = Branch(Regulation.VOLTAGE, level, lead)
        else:
            voltage = instant(point, level)
            if abs(voltage) <= limit:
                branch = Branch(Regulation.CURRENT, level)
            else:
                branch = Branch(Regulation.VOLTAGE, math.copysign(limit, voltage))
        self._switch(branch)
        self._just_switched = False

    def _switch(self, branch: Branch) -> None:
        """Start the grid anew at the end of the last step, with a given branch."""
        # After a change of temperature or pressure the same state has other resistances.
        point = replace(self._end, resistance=self._physics.resistance(self._end))
        self._branch = branch
        self._next_branch = None
        if branch.regulation is Regulation.VOLTAGE:
            current = self._physics.instant_current(point, branch)
            voltage = branch.level - current * branch.resistance
        else:
            current = branch.level
            voltage = self._physics.instant_voltage(point, current)
        self._before = None
        physics = self._physics
        potential = voltage + self.parameters.counter_potential - current * physics.ohmic
        potential -= (current - point.side) * physics.counter_resistance(point.wear)
        self._begin = self._end = replace(
            point, current=current, shown=current, voltage=voltage, potential=potential
        )
        self._length = FIRST_STEP
        self._restart_history()
        self._inside = None
        self._just_switched = True

    # -- grid

    def _restart_history(self) -> None:
        """Forget the points before the beginning of the present step."""
        begin = self._begin
        self._before = None
        self._history = [(begin.time, begin.x[-1])]

    def _run(self, now: float) -> None:
        """Take steps until one reaches a time (s after assembly)."""
        if not math.isfinite(now):
            raise ValueError(f"a time must be finite, not {now!r}")
        if now > LONGEST_LIFE:
            raise ValueError(
                f"a cell is followed for {LONGEST_LIFE:g} s after its assembly at "
                f"{self.assembled_at!r} s, not for {now!r} s"
            )
        while self._end.time < now:
            if self._next_branch is not None:
                self._switch(self._next_branch)
            self._take_step()

    def _step(self, length: float) -> Point:
        return self._physics.step(self._before, self._begin, self._branch, length)

    def _take_step(self) -> None:
        """Take the next step, as long as its error and the source's branch allow."""
        if self._end is not self._begin:
            self._before, self._begin = self._begin, self._end
        history = self._history
        shortest, tolerated = SHORTEST_STEP, 1.0
        slope_of = self._physics.potential.slope
        self._effort += 1
        if self._effort > PATIENCE:
            # The exponent is cut where every step has long been as long as it may be.
            relief = RELIEF ** min(self._effort - PATIENCE, 10_000)
            shortest, tolerated = shortest * relief, relief**3
            self._leniency = tolerated
            self._most_lenient = max(self._most_lenient, tolerated)
        # The surface hardly moves under a held voltage, where the current is what is looked at.
        held = self._branch.regulation is Regulation.VOLTAGE
        weight = (HELD_CLOSER if held else 1.0) / tolerated
        length = max(self._length, shortest)
        while True:
            end = self._step(length)
            surface = end.x[-1]
            error = error_of_step(history, end.time, surface, slope_of(surface)) * weight
            if error <= 1.0 or length <= shortest:
                break
            length = max(length * max(0.2, SAFETY * error ** (-1.0 / 3.0)), shortest)
        growth = 2.0 if error < 0.06 else max(0.3, SAFETY * error ** (-1.0 / 3.0))
        self._length = length * growth
        if self._length > LONGEST_STEP:
            longest = max(LONGEST_STEP, LONGEST_SHARE * (end.time - self._engaged))
            self._length = min(self._length, longest)
        if self._just_switched or tolerated > 1.0:
            # The first step after a switch is not searched for the next one, so that laboratory
            # time goes on whatever the source does.
            end = self._choose_branch(end, length)
            self._just_switched = False
        else:
            end = self._find_switch(end, length)
        self._end = end
        self._inside = None
        history = self._history
        history.append((end.time, end.x[-1]))
        if len(history) > 3:
            del history[0]

    def _excess(self, point: Point) -> float:
        """Return how far a point lies beyond its branch: > 0 is beyond, -inf without an end.

        In V on a held current, in A on a held voltage.
        """
        source, branch = self._source, self._branch
        if source.regulation is Regulation.OPEN or source.limit == 0.0:
            return -math.inf
        held_current = branch.regulation is Regulation.CURRENT
        # A held voltage is left a little beyond the limit, so that rounding does not switch.
        if source.regulation is Regulation.VOLTAGE:
            if held_current:
                excess = point.voltage + point.current * source.resistance - source.level
                return excess if branch.level > 0.0 else -excess
            return abs(point.current) - source.limit * (1.0 + 1e-9) - 1e-15
        if held_current:
            return abs(point.voltage) - source.limit
        margin = 1e-15 + 1e-9 * abs(source.level)
        excess = point.current - source.level
        return (excess if branch.level > 0.0 else -excess) - margin

    def _other_branch(self, point: Point) -> Branch:
        """Return the branch that the source takes where a point lies beyond the present one."""
        source = self._source
        held_current = self._branch.regulation is Regulation.CURRENT
        if source.regulation is Regulation.VOLTAGE:
            if held_current:
                return Branch(Regulation.VOLTAGE, source.level, source.resistance)
            return Branch(Regulation.CURRENT, math.copysign(source.limit, point.current))
        if held_current:
            return Branch(Regulation.VOLTAGE, math.copysign(source.limit, point.voltage))
        return Branch(Regulation.CURRENT, source.level)

    def _choose_branch(self, end: Point, length: float) -> Point:
        """Return the end of a step on the branch that the source takes there, without a search.

        The voltage rises with the current over an implicit step, so that one of the two branches
        is right. It then stands for the whole step.
        """
        for _ in range(2):
            if self._excess(end) <= 0.0:
                break
            self._branch = self._other_branch(end)
            self._restart_history()
            end = self._step(length)
        return end

    def _find_switch(self, end: Point, length: float) -> Point:
        """Shorten a step to where the source leaves its branch, if it does within the step."""
        beyond = self._excess(end)
        if beyond <= 0.0:
            return end
        self._next_branch = self._other_branch(end)
        below = self._excess(self._begin)
        if below >= 0.0:
            # Already beyond at the start of the step, where an unsearched step can end.
            return self._step(min(length, FIRST_STEP))
        low, high = 0.0, length
        point, side = end, 0
        for _ in range(60):
            # Illinois variant of the secant rule: it keeps the bracket.
            middle = high - beyond * (high - low) / (beyond - below)
            if not low < middle < high:
                middle = 0.5 * (low + high)
            point = self._step(middle)
            excess = self._excess(point)
            if abs(excess) < 1e-10 or high - low < 1e-9:
                break
            if excess > 0.0:
                high, beyond = middle, excess
                below *= 0.5 if side > 0 else 1.0
                side = 1
            else:
                low, below = middle, excess
                beyond *= 0.5 if side < 0 else 1.0
                side = -1
        return point
