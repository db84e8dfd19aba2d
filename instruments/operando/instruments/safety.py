"""The one way to a safe state, used by the runner, the engine and the watchdog."""

from __future__ import annotations

import asyncio

from operando.instruments.errors import OperandoError, SafeStateError
from operando.instruments.roles import Instrument


async def secure(instrument: Instrument, *, timeout: float = 2.0, attempts: int = 3) -> None:
    """Bring an instrument into its safe state, through a fresh session if the old one fails.

    timeout: seconds of the event loop for each attempt. Returns when the safe state has been
    read back. Raises SafeStateError, after which the output must be assumed to be on.
    """
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
    raise SafeStateError(
        "the safe state could not be verified; ASSUME THAT THE OUTPUT IS ON and disconnect the "
        f"cell by hand. {attempts} attempts: " + "; ".join(dict.fromkeys(failures))
    )
