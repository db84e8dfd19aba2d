"""A room whose air a test sets, for tests of simulated sensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from operando.instruments.clock import Clock
from operando.instruments.wires import Peer
from operando.simulators.devices.ports import Site
from simulators.bench_of_one import Host, connect


class Box:
    """Air of a glovebox: mole fractions, K and Pa as the test sets them; a gas may be a function
    of time."""

    def __init__(self, **gases: float | Callable[[float], float]) -> None:
        self.gases: dict[str, float | Callable[[float], float]] = {
            "o2": 1e-6,
            "h2o": 1e-6,
            "h2s": 0.0,
            **gases,
        }
        self.kelvin = 296.15
        self.pascals = 101_325.0
        self.outside = 101_325.0
        self._now = float("-inf")

    def _look(self, now: float) -> None:
        assert now >= self._now, "time ran backwards"
        self._now = now

    def temperature(self, now: float) -> float:
        self._look(now)
        return self.kelvin

    def pressure(self, now: float) -> float:
        self._look(now)
        return self.pascals

    def surrounding_pressure(self, now: float) -> float:
        self._look(now)
        return self.outside

    def fraction(self, gas: str, now: float) -> float:
        self._look(now)
        value = self.gases[gas]
        return value(now) if callable(value) else value

    def regulate(self, now: float, target: float | None, rate: float = float("inf")) -> None:
        raise ValueError("nothing heats this box")


async def sensor_in(
    model: Callable[..., Peer],
    box: Box | None,
    options: Mapping[str, object],
    end: bytes = b"\r\n",
) -> tuple[Host, Callable[[str], None]]:
    """A host at a sensor in a box, and a way to inject faults; in virtual time."""
    clock = Clock("virtual")
    device = model("dut", site=Site(room=box), clock=clock, options=options)
    host, peer = await connect(device, clock, end)
    return host, peer.inject
