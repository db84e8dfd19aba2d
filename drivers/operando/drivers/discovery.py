"""What this computer can see of instruments without saying a word to any of them.

Serial ports are listed, never opened: some instruments calibrate or tare on a stray letter.
"""

from __future__ import annotations

import asyncio
import re

from operando.drivers.transports.ble import survey
from operando.instruments.clock import Clock
from operando.instruments.sightings import Sighting, Sightings

SCAN = 5.0
"""s for which Bluetooth advertisers are listened to; a sensor speaks every second or two."""

_USB = re.compile(r"USB\d*::(0x[0-9A-Fa-f]+|[0-9]+)::(0x[0-9A-Fa-f]+|[0-9]+)::", re.IGNORECASE)

REMEDIES = {
    "USB instruments": "pip install pyusb, and libusb from the system",
    "Bluetooth": "an adapter, and on Linux the service bluetoothd",
}
"""What looking needs."""


async def look(*, bluetooth: bool = True, visa_library: str = "@py") -> Sightings:
    """List serial ports, VISA resources and Bluetooth advertisers. Writes to none of them.

    Where looking itself fails (no VISA library, no Bluetooth adapter), that is said.
    """
    seen: list[Sighting] = []
    blind: list[str] = []
    for kind, found in (
        ("serial ports", asyncio.to_thread(serial_ports)),
        ("USB instruments", asyncio.to_thread(visa_resources, visa_library)),
        *((("Bluetooth", advertisers(SCAN)),) if bluetooth else ()),
    ):
        try:
            seen += await found
        except Exception as error:  # whatever a library meets while it looks
            needs = f"; it needs {REMEDIES[kind]}" if kind in REMEDIES else ""
            blind.append(f"{kind}: {type(error).__name__}: {error}{needs}")
    return Sightings(tuple(seen), tuple(blind))


def serial_ports() -> list[Sighting]:
    """Serial ports of this computer, by what their adapters say of themselves."""
    from serial.tools import list_ports

    found = []
    for port in sorted(list_ports.comports()):
        signs = set()
        if port.vid is not None and port.pid is not None:
            signs.add(f"usb:{port.vid:04x}:{port.pid:04x}")
        words = [port.manufacturer, port.product or port.description, port.serial_number]
        what = ", ".join(word for word in words if word and word != "n/a")
        found.append(Sighting(f"serial:{port.device}", what, frozenset(signs)))
    return found


def visa_resources(library: str = "@py") -> list[Sighting]:
    """USB instruments, and what else a VISA library other than PyVISA-py lists.

    PyVISA-py would also call into the network, and list serial ports a second time.
    """
    if library == "@py":
        from pyvisa_py.usb import USBSession

        names = USBSession.list_resources()
    else:
        import pyvisa

        manager = pyvisa.ResourceManager(library)
        try:
            names = [n for n in manager.list_resources() if not n.upper().startswith("ASRL")]
        finally:
            manager.close()
    found = []
    for name in sorted(names):
        match = _USB.match(name)
        signs = {f"usb:{int(match[1], 0):04x}:{int(match[2], 0):04x}"} if match else set()
        found.append(Sighting(name, "VISA resource", frozenset(signs)))
    return found


async def advertisers(seconds: float) -> list[Sighting]:
    """Bluetooth devices that advertise within some seconds."""
    found = []
    for address, said in sorted((await survey(seconds, Clock())).items()):
        signs = {f"ble:name:{said.name}"} if said.name else set()
        signs |= {
            f"ble:data:{who:04x}:{data.hex()}" for who, data in said.manufacturer_data.items()
        }
        # Services of the Bluetooth SIG have 16 bits in a fixed frame of 128.
        signs |= {
            f"ble:service:{one[4:8].lower()}"
            for one in said.services
            if one.lower().endswith("-0000-1000-8000-00805f9b34fb") and one.startswith("0000")
        }
        what = f"{said.name or 'no name'}, {said.rssi} dBm"
        found.append(Sighting(f"ble:{address}", what, frozenset(signs)))
    return found
