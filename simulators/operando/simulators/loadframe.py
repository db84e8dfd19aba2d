"""A load frame of finite stiffness around a simulated cell: thickness becomes pressure."""

import math

from operando.simulators.cell.lithium import LithiumCell
from operando.simulators.cell.port import Cell
from operando.simulators.cell.simulated import SimulatedCell

PISTON_AREA = 1.3273e-4
"""Area of the 13 mm die, m2: seed 002 section 2.3 line 78."""

PRESSURE = 8e6
"""Pressure after assembly, Pa, of a cell that states none. A cap torque of 5 N m (Kim et al.,
Energy Storage Materials 2026, 105167, section 2.3) is about 6-9 MPa for a 20-30 mm thread with a
friction coefficient of 0.2 (assumed)."""

STIFFNESS = 1e7
"""Stiffness of the frame, N/m: 10 N/um, plausible between 1 and 50 (assumed)."""

THERMAL_PRESSURE = 5e4
"""Pressure per temperature, Pa/K: 60 mm of steel against that stiffness (derived)."""

RELAXATION = 0.005
"""Share of the preload lost per decade of time by creep of the stack (assumed, 0 to 0.03)."""

MOST_RELAXATION = 0.1
"""Largest such share: with it 30 years take seven tenths of the preload; half as much again would
take all of it."""

RELAXATION_TIME = 60.0
"""Time after assembly from which those decades count, s (assumed)."""


class LoadFrame:
    """Load frame of finite stiffness in series with the stack.

    The force depends on the state of the cell and on time only; asking for it changes nothing.
    A cell on which pressure acts is told it, and the stiffness, when it is clamped, and follows the
    pressure by itself from there on: it acts on its ageing.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        stiffness: float = STIFFNESS,
        stack_stiffness: float | None = None,
        preload: float | None = None,
        area: float = PISTON_AREA,
        thermal_pressure: float = THERMAL_PRESSURE,
        relaxation: float = RELAXATION,
        start: float | None = None,
    ) -> None:
        """Clamp a cell.

        stiffness: of the frame, N/m; 0 is a frame that keeps the force constant.
        stack_stiffness: of pellet and electrodes, N/m, in series with the frame; None is rigid.
        preload: force at the start, N; None presses with the stack pressure that the cell
        states. area: of the piston, m2.
        thermal_pressure: Pa/K, against the temperature at the start.
        relaxation: share of the preload lost per decade of time, up to 0.1; 0 switches it off.
        start: laboratory time of clamping, s; None is the time of the cell's assembly.
        Raises ValueError for what is no frame.
        """
        if preload is None:
            preload = float(getattr(cell, "stack_pressure", PRESSURE)) * area
        for name, value in (("stiffness", stiffness), ("preload", preload)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and not negative, not {value!r}")
        if stack_stiffness is not None and not stack_stiffness > 0.0:
            raise ValueError(f"stack_stiffness must be positive, not {stack_stiffness!r}")
        if not area > 0.0:
            raise ValueError(f"area must be positive, not {area!r}")
        if not math.isfinite(thermal_pressure):
            raise ValueError(f"thermal_pressure must be finite (Pa/K), not {thermal_pressure!r}")
        if not 0.0 <= relaxation <= MOST_RELAXATION:
            raise ValueError(
                f"relaxation must lie between 0 and {MOST_RELAXATION:g} (share of the preload "
                f"per decade of time), not {relaxation!r}"
            )
        self.cell = cell
        self.area = area
        self.preload = preload
        self.thermal_pressure = thermal_pressure
        self.relaxation = relaxation
        if stiffness == 0.0:
            self.stiffness = 0.0
        elif stack_stiffness is None:
            self.stiffness = stiffness
        else:
            self.stiffness = 1.0 / (1.0 / stiffness + 1.0 / stack_stiffness)
        self.start = cell.assembled_at if start is None else start
        self._temperature = cell.temperature
        self._tell(max(self.start, getattr(cell, "time", self.start)), preload)

    def _tell(self, now: float, force: float) -> None:
        """Tell the cell what presses on it (N): it ages under it.

        What temperature and creep of the stack add is left out there: parts in a hundred, and they
        would have to be told step by step.
        """
        if isinstance(self.cell, SimulatedCell | LithiumCell):
            self.cell.set_stack_pressure(now, force / self.area, self.stiffness / self.area)

    def _change(self, now: float) -> float:
        """Force that thickness and temperature have added to the preload, N."""
        change = self.cell.thickness_change(now) * self.stiffness
        if self.stiffness > 0.0:
            change += (
                self.thermal_pressure * self.area * (self.cell.temperature - self._temperature)
            )
        return change

    def force(self, now: float) -> float:
        """Return the force on the stack at a laboratory time (s), N; never negative."""
        change = self._change(now)
        if self.stiffness > 0.0:
            change -= (
                self.preload
                * self.relaxation
                * math.log10(1.0 + max(now - self.start, 0.0) / RELAXATION_TIME)
            )
        return max(self.preload + change, 0.0)

    def press(self, now: float, force: float) -> None:
        """Let an actuator bring the force to a value (N) at a laboratory time (s).

        The frame stays as stiff as it is: from then on the force follows the thickness again,
        unless the frame keeps its force constant. Raises ValueError for what is no force.
        """
        if not (math.isfinite(force) and force >= 0.0):
            raise ValueError(f"force must be finite and not negative, not {force!r}")
        # The cell first: its step ends here, and its thickness is the exact one.
        self._tell(now, force)
        # What thickness, temperature and creep contribute stays; the preload makes up for it.
        creep = 1.0
        if self.stiffness > 0.0:
            creep -= self.relaxation * math.log10(
                1.0 + max(now - self.start, 0.0) / RELAXATION_TIME
            )
        change = self._change(now)
        self.preload = (force - change) / creep

    def pressure(self, now: float) -> float:
        """Return the pressure on the stack, Pa: the force over the area of the piston."""
        return self.force(now) / self.area
