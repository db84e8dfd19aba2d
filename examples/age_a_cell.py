"""Age three simulated cells, without instruments: 100 cycles at C/2 each, in about a second.

NCM811 | Li6PS5Cl0.5Br0.5 | Li with three coatings (Kim et al., Energy Storage Materials 2026,
105167). Their retentions after 100 cycles were calibrated; the way there is the model's.
"""

from copy import deepcopy

from operando.simulators.cell import SimulatedCell, cycle
from operando.simulators.loadframe import LoadFrame

PRESETS = ("ncm811-caec", "ncm811-lno", "ncm811-bare")
SHOWN = (1, 25, 50, 75, 100)


def half_charged_arc(cell: SimulatedCell, now: float) -> float:
    """Arc of the cathode in the cell's spectrum after an hour at C/2, ohm; the cell is left alone.

    cell: discharged. now: its laboratory time, s.
    """
    twin = deepcopy(cell)
    twin.source_current(now, 0.5 * twin.nominal_capacity / 3600.0, voltage_limit=4.25)
    return twin.charge_transfer_resistance(now + 3600.0)


print("SIMULATED; discharged to 2.5 V, the arc half charged")
print("cell          cycle  discharge   arc  contact  pressure")
print("                         mAh/g   ohm        %       MPa")
for preset in PRESETS:
    cell = SimulatedCell.from_preset(preset, seed=0)  # another seed is another cell of the batch
    frame = LoadFrame(cell)
    for done in cycle(cell, 0.0, lower=2.5, upper=4.25, rate=0.5, cutoff_rate=0.05, cycles=100):
        if done.number in SHOWN:
            capacity = done.discharged / 3.6 / (1e3 * cell.active_mass)  # 3.6 C is 1 mAh
            arc = half_charged_arc(cell, done.end)
            contact = 100.0 * cell.state(done.end).contact_fraction
            pressure = frame.pressure(done.end) / 1e6
            print(
                f"{preset:<12} {done.number:>6} {capacity:>10.1f} {arc:>5.0f} "
                f"{contact:>8.1f} {pressure:>9.2f}"
            )
