"""Calendar ageing: storage at a state of charge, with check-ups of capacity and resistance."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    CRate,
    Fraction,
    Hertz,
    KelvinDifference,
    Kelvins,
    Seconds,
    Voltages,
)
from operando.protocols.actuator_steps import CHAMBER_TEMPERATURE, HoldTemperature, within
from operando.protocols.cycling_steps import (
    after_pulse,
    charge,
    check_rates,
    check_taper,
    check_times,
    discharge,
    pulse,
    rested,
    spectrum,
)
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Block, ConstantCurrent

STORAGE = "storage"
"""Label of the long rests."""

PATIENCE = 4.0
"""Times the soak after which a chamber that does not become steady is no longer waited for."""


@protocol(
    source="our choice, after the calendar-life test of the USABC, Battery Test Manual for Plug-In "
    "Hybrid Electric Vehicles, Idaho National Laboratory: storage at a set state of charge and "
    "temperature, with reference performance tests at the reference temperature"
)
def calendar_ageing(
    cell: Cell,
    *,
    storages: int = 4,
    interval: Seconds = "28 d",  # type: ignore[assignment]
    state: Fraction = "80 %",  # type: ignore[assignment]
    rate: CRate = "C/10",  # type: ignore[assignment]
    cv_cutoff: CRate = "C/20",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    rest: Seconds = "1 h",  # type: ignore[assignment]
    pulse_rate: CRate = "C/2",  # type: ignore[assignment]
    pulse_time: Seconds = "10 s",  # type: ignore[assignment]
    spectra: bool = False,
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "0.1 Hz",  # type: ignore[assignment]
    hold_temperature: bool = False,
    storage_temperature: Kelvins = "45 degC",  # type: ignore[assignment]
    check_temperature: Kelvins = "30 degC",  # type: ignore[assignment]
    temperature_tolerance: KelvinDifference = "0.5 K",  # type: ignore[assignment]
    soak: Seconds = "1 h",  # type: ignore[assignment]
) -> Steps:
    """Check the cell, store it at a state of charge, and repeat; a check-up ends it.

    A check-up discharges what the storage left, charges, discharges (the capacity) and charges by
    time to the state of charge, a share of that capacity; there it rests, and a discharge pulse,
    optionally after a spectrum, gives the resistance. The storage at open circuit follows. With
    `hold_temperature` the channel's chamber is at one temperature during check-ups and at another
    during storage. The bench file must state the cell's capacity, or its active mass and what 1C
    is. Poll every minute or more seldom; every reading of a pulse is kept; a row every 30 min is
    enough of a storage.

    storages: number of storages; there is one check-up more.
    interval: duration of a storage in s.
    state: state of charge during storage as a fraction of the capacity last measured.
    rate: charge and discharge rate of the check-ups as a C-rate of the cell's nominal capacity.
    cv_cutoff: current at which the hold at the upper voltage ends, as a C-rate.
    window: lower and upper voltage in V against the counter electrode.
    rest: open-circuit time in s after each charge and discharge of a check-up.
    pulse_rate: current of the discharge pulse as a C-rate.
    pulse_time: its duration in s.
    spectra: measure a spectrum before each pulse; the potentiostat must measure impedance.
    highest_frequency: at which a spectrum begins in Hz; the potentiostat must reach it.
    lowest_frequency: at which it ends in Hz.
    hold_temperature: drive the channel's temperature controller.
    storage_temperature: of the chamber during storage in K.
    check_temperature: of the chamber during check-ups in K.
    temperature_tolerance: how far from it the chamber counts as steady, in K.
    soak: time in s for which it must be steady before a check-up begins; four times as long it is
        waited for at most.
    """
    lower, upper = window
    check_rates(rate=rate, pulse_rate=pulse_rate)
    check_taper(cv_cutoff, rate, "rate")
    check_times(interval=interval, rest=rest, pulse_time=pulse_time, soak=soak)
    if not 0.0 < state <= 1.0:
        raise BadInputError('state: write a fraction above 0 and up to 1, such as "80 %"')
    if storages < 1:
        raise BadInputError("storages: ask for at least one")

    def chamber(temperature: float, cycle: int, seconds: float) -> HoldTemperature:
        steady = within(CHAMBER_TEMPERATURE, temperature, temperature_tolerance).held(seconds)
        ends = (steady, ELAPSED >= PATIENCE * seconds)
        return HoldTemperature(temperature, ends, label="chamber", cycle=cycle)

    for check_up in range(1, storages + 2):
        cycle = check_up
        if hold_temperature:
            yield chamber(check_temperature, cycle, soak)
        if check_up > 1:
            yield Block(
                (
                    discharge(cell, rate, lower, cycle, "discharge of what is left"),
                    rested(rest, cycle, "rest after discharge"),
                )
            )
        yield Block(
            (
                charge(cell, rate, upper, cv_cutoff, cycle),
                rested(rest, cycle, "rest after charge"),
            )
        )
        whole = yield discharge(cell, rate, lower, cycle, "capacity discharge")
        # A look ahead has no outcome that tells of a charge.
        capacity = -whole.charge if whole.charge < 0.0 else cell.capacity
        yield rested(rest, cycle, "rest after discharge")
        seconds = state * capacity / (rate * cell.capacity)
        yield ConstantCurrent(
            rate * cell.capacity,
            (ELAPSED >= seconds, VOLTAGE >= upper),
            label="to state of charge",
            cycle=cycle,
        )
        yield rested(rest, cycle, "rest before pulse")
        if spectra:
            yield Block(spectrum(cell, highest_frequency, lowest_frequency, cycle))
        yield Block(
            (
                pulse(-pulse_rate * cell.capacity, pulse_time, window, cycle, "discharge pulse"),
                after_pulse(pulse_time, cycle),
            )
        )
        if check_up <= storages:
            if hold_temperature:
                yield chamber(storage_temperature, cycle, soak)
            yield rested(interval, cycle, STORAGE)
