"""The one way to a safe state, used by the runner, the engine and the watchdog."""

from __future__ import annotations

import asyncio

from operando.instruments.errors import OperandoError, SafeStateError
from operando.instruments.roles import ACTUATORS, Instrument

CELL_TIME = 2.0
"""Seconds that an attempt may take on an instrument that drives a cell."""

ACTUATOR_TIME = 6.0
"""Seconds that an attempt may take on a chamber or press: a session that is new, some lines of
slow serial text, and a mode that shows up to a second after it was told to change."""

SLOW_OFF = 1.0
"""Seconds that off may take within CELL_TIME."""

_REMEDIES = {
    "pressure_controller": "IT GOES ON PRESSING: shut the gas off and vent by hand",
    "temperature_controller": "IT GOES ON HEATING OR COOLING: stop it at its panel",
}


async def secure(
    instrument: Instrument, *, timeout: float | None = None, attempts: int = 3
) -> None:
    """Bring an instrument into its safe state, through a fresh session if the old one fails.

    timeout: seconds of the event loop for each attempt; None is ACTUATOR_TIME for a chamber or
    press, for all else CELL_TIME, or more where the driver states a longer time for off. Returns
    when the safe state has been read back. Raises SafeStateError, after which the output must be
    assumed to be on.
    """
    info = getattr(instrument, "INFO", None)
    roles = ACTUATORS.intersection(() if info is None else info.roles)
    if timeout is None:
        timeout = ACTUATOR_TIME if roles else _cell_time(instrument)
    failures: list[str] = []
    for attempt in range(attempts):
        try:
            async with asyncio.timeout(timeout):
                if attempt:
                    await instrument.reconnect()
                await instrument.safe()
                return
        except TimeoutError:
            failures.append(f"no answer within {timeout:g} s")
        except OperandoError as error:
            failures.append(str(error))
        except Exception as error:
            # A driver's own bug must not keep the next attempt from being made.
            failures.append(f"{type(error).__name__}: {error}")
    remedies = [_REMEDIES[role] for role in sorted(roles)]
    assumed = "; ".join(remedies) or "THE OUTPUT IS ON and disconnect the cell by hand"
    raise SafeStateError(
        f"the safe state could not be verified; ASSUME THAT {assumed}. "
        f"{attempts} attempts: " + "; ".join(dict.fromkeys(failures))
    )


def _cell_time(instrument: Instrument) -> float:
    """Seconds of an attempt on what drives a cell."""
    try:
        off_time = instrument.capabilities.off_time
    except OperandoError:  # known once it is connected
        return CELL_TIME
    return CELL_TIME if off_time <= SLOW_OFF else CELL_TIME + off_time
