"""What instruments are to an experiment.

Roles are structural: a driver implements one by having its methods. A set-point that drives
current carries the voltage where it must stop; the types have no form without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from operando.instruments.capabilities import Capabilities
from operando.instruments.samples import AuxReading, Reading

Identification = Literal["serial", "model", "none"]
"""How well an instrument can be told from its siblings."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered. Empty strings where the instrument does not say."""

    maker: str
    model: str
    serial: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class Expect:
    """What the bench file says must answer. Empty strings are not checked."""

    serial: str = ""
    model: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class Galvanostatic:
    """Drive a current until the instrument itself stops at a voltage.

    current: A, positive charges, never zero. cutoff: V at the cell where the instrument stops
    driving this current by its own hardware.
    """

    current: float
    cutoff: float

    def __post_init__(self) -> None:
        if self.current == 0.0:
            raise ValueError("a galvanostatic set-point needs a current; use OpenCircuit for zero")


@dataclass(frozen=True, slots=True)
class Potentiostatic:
    """Hold a voltage. voltage: V at the cell. current_limit: A, magnitude, positive."""

    voltage: float
    current_limit: float

    def __post_init__(self) -> None:
        if self.current_limit <= 0.0:
            raise ValueError("a potentiostatic set-point needs a positive current limit")


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """Drive no current but keep measuring the voltage.

    A source meter does this as a zero-current source on its lowest range.
    voltage_limit: V, magnitude at which its compliance sits.
    """

    voltage_limit: float


SetPoint = Galvanostatic | Potentiostatic | OpenCircuit


@dataclass(frozen=True, slots=True)
class Protection:
    """Bounds of a whole run, programmed before the output is ever switched on.

    voltage: lowest and highest voltage of the run, V. current: highest magnitude, A.
    """

    voltage: tuple[float, float]
    current: float


@runtime_checkable
class Instrument(Protocol):
    """What every driver can do."""

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the identified instrument."""
        ...

    async def connect(self) -> Identity:
        """Open the wire, read the identity and check it. Changes nothing at the output."""
        ...

    async def reconnect(self) -> Identity:
        """Abandon the present session, open another, check the identity again. Writes nothing."""
        ...

    async def safe(self) -> None:
        """Bring the instrument into its safe state; returns when that has been read back.

        Idempotent. Raises SafeStateError (or CommunicationError) when it could not be verified.
        """
        ...

    async def close(self) -> None:
        """Close the wire. Does not change the output."""
        ...


@runtime_checkable
class Potentiostat(Instrument, Protocol):
    """Drives one cell and measures its voltage and current."""

    def check(self, setpoint: SetPoint) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        ...

    async def prepare(self, protection: Protection) -> None:
        """Program ranges, sensing, protections and the off state, read back, output off."""
        ...

    async def apply(self, setpoint: SetPoint) -> None:
        """Drive the cell as told; returns when the output is on with the settings read back."""
        ...

    async def measure(self) -> Reading:
        """Measure voltage (V) and current (A) in one reading."""
        ...


@runtime_checkable
class TellsSwitching(Protocol):
    """A potentiostat whose `apply` takes a while, and that knows when it switched meanwhile."""

    @property
    def switched(self) -> tuple[float, float]:
        """Laboratory times (s) at which the set-point before ended and the present one began."""
        ...


@runtime_checkable
class Cycler(Instrument, Protocol):
    """Runs whole schedules on board on one of its channels."""

    async def load(self, program: str) -> None:
        """Load a compiled schedule."""
        ...

    async def start(self) -> None:
        """Start the loaded schedule."""
        ...

    async def stop(self) -> None:
        """Stop and open the circuit."""
        ...

    async def measure(self) -> Reading:
        """Latest live reading."""
        ...


@runtime_checkable
class LoadCell(Instrument, Protocol):
    """Measures the stack pressure on a cell."""

    async def measure(self) -> AuxReading:
        """Measure the stack pressure, quantity "pressure", Pa."""
        ...


@runtime_checkable
class PressureController(Instrument, Protocol):
    """Holds or ramps the stack pressure."""

    def check(self, pressure: float, *, slew: float, maximum: float) -> None:
        """Raise UnsupportedError if `hold` would refuse this by its settings. Touches nothing."""
        ...

    async def hold(self, pressure: float, *, slew: float, maximum: float) -> None:
        """Go to `pressure` (Pa) at `slew` (Pa/s), never above `maximum` (Pa)."""
        ...

    async def measure(self) -> AuxReading:
        """Measure the pressure, Pa."""
        ...


@runtime_checkable
class TemperatureController(Instrument, Protocol):
    """A chamber or stage with a temperature set-point."""

    def check(self, temperature: float) -> None:
        """Raise UnsupportedError if `hold` would refuse this by its settings. Touches nothing."""
        ...

    async def hold(self, temperature: float) -> None:
        """Go to `temperature` (K)."""
        ...

    async def measure(self) -> AuxReading:
        """Measure the temperature, K."""
        ...


@runtime_checkable
class Thermometer(Instrument, Protocol):
    """Measures a temperature."""

    async def measure(self) -> AuxReading:
        """Measure the temperature, K."""
        ...


@runtime_checkable
class GloveboxMonitor(Instrument, Protocol):
    """Measures the atmosphere of a glovebox."""

    async def measure(self) -> tuple[AuxReading, ...]:
        """Measure what the sensor gives: o2, h2o (fractions), dew_point (K), box_pressure (Pa)."""
        ...


ROLES: Mapping[str, type] = {
    "potentiostat": Potentiostat,
    "cycler": Cycler,
    "load_cell": LoadCell,
    "pressure_controller": PressureController,
    "temperature_controller": TemperatureController,
    "thermometer": Thermometer,
    "glovebox_monitor": GloveboxMonitor,
}
"""Roles by the names that bench files use."""

ACTUATORS = frozenset({"pressure_controller", "temperature_controller"})
"""Roles of what is driven around a cell, beside the potentiostat."""


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a driver states about itself before it is connected; class attribute `INFO`.

    name: its entry point. maker, models: as printed by the instrument.
    document: what it was written from. roles: names of `ROLES`. identification: see there.
    safe_state: in words. notes: what else a user must know. measures: names of `QUANTITIES` that it
    gives beside voltage and current of a cell. signs: by which the model is recognised before
    anything is said to it: "usb:05e6:2450" (ids in hexadecimal), "ble:name:Ruuvi" (how the name
    begins), "ble:service:181a", "ble:data:0499:05" (company, and how its data begin).
    """

    name: str
    maker: str
    models: tuple[str, ...]
    document: str
    roles: tuple[str, ...]
    identification: Identification
    safe_state: str
    notes: tuple[str, ...] = field(default_factory=tuple)
    measures: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
