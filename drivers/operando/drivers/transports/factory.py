"""The one door to the transports."""

from __future__ import annotations

import os

from operando.drivers.transports.threaded import ThreadedWire
from operando.instruments.addresses import parse_address
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Switchboard, Wire

VISA_LIBRARY_VARIABLE = "OPERANDO_VISA_LIBRARY"
"""Environment variable that selects the VISA library, in PyVISA's spelling: "@py", "@ivi"."""


def make_wire(
    address: str,
    clock: Clock,
    *,
    switchboard: Switchboard | None = None,
    visa_library: str | None = None,
) -> Wire:
    """A wire to the instrument at `address`, not yet open.

    switchboard: memory pipes, used instead of the outside world when given.
    visa_library: VISA library in PyVISA's spelling; the environment's choice, else "@py".
    Raises BadInputError for an address that is not understood.
    """
    if switchboard is not None:
        return switchboard.wire(address, clock)
    if clock.mode == "virtual":
        raise BadInputError(
            f"address {address!r}: virtual time cannot wait for the outside world. Simulate the "
            "bench, or use a real clock."
        )
    place = parse_address(address)
    # pyvisa and pyserial take a tenth of a second to import: only who opens a line pays for it.
    if place.kind in ("visa", "visa_socket"):
        from operando.drivers.transports.visa import VisaSession

        library = visa_library or os.environ.get(VISA_LIBRARY_VARIABLE, "@py")
        return ThreadedWire(address, lambda: VisaSession(place.base, library))
    from operando.drivers.transports.serial_line import SerialSession

    scheme = {"serial_socket": "socket", "serial_rfc2217": "rfc2217"}.get(place.kind)
    port = f"{scheme}://{place.host}:{place.port}" if scheme else place.path
    return ThreadedWire(address, lambda: SerialSession(port, place.serial))
