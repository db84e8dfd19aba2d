"""Water in air from its temperature and relative humidity, as readings."""

from __future__ import annotations

import math

from operando.instruments.humidity import COLDEST, TRIPLE_POINT, dew_point, saturation_pressure
from operando.instruments.samples import AuxReading, Status

AIR = (1e4, 1e6)
"""Pa, between which a pressure is believed to be that of the air around a sensor. Our choice: wide
enough for every glovebox and mountain, narrow enough to find a broken sensor."""


def water_in(
    temperature: AuxReading, humidity: AuxReading, pressure: float
) -> tuple[AuxReading, AuxReading]:
    """Mole fraction "h2o" and "dew_point" (K) of air.

    temperature: K. humidity: relative, fraction, over liquid water. pressure: Pa, of the air. The
    readings lie between the two that they come from. NaN with the status of an input that is NaN;
    UNDERLOAD with NaN below 0.01 degC, where humidity sensors refer to supercooled water, whose
    vapour pressure `humidity` does not know, and for a dew point below its range; OVERLOAD with
    NaN when there would be nothing but water; FAULT for the fraction when the pressure is none of
    air.
    """
    first = min(one.time - one.uncertainty for one in (temperature, humidity))
    last = max(one.time + one.uncertainty for one in (temperature, humidity))
    status = next(
        (one.status for one in (temperature, humidity) if one.status is not Status.OK), Status.OK
    )
    fraction, wet = math.nan, status
    point, dew = math.nan, status
    if math.isnan(temperature.value) or math.isnan(humidity.value):
        if status is Status.OK:
            wet = dew = Status.FAULT
    elif temperature.value < TRIPLE_POINT:
        wet = dew = Status.UNDERLOAD
    else:
        vapour = humidity.value * saturation_pressure(temperature.value)
        if not AIR[0] <= pressure <= AIR[1]:
            wet = Status.FAULT
        elif vapour < pressure:
            fraction = vapour / pressure
        else:
            wet = Status.OVERLOAD
        if vapour >= saturation_pressure(COLDEST):
            point = dew_point(vapour)
        else:
            dew = Status.UNDERLOAD
    time, width = 0.5 * (first + last), 0.5 * (last - first)
    source = humidity.source
    return (
        AuxReading(source, "h2o", time, width, fraction, wet),
        AuxReading(source, "dew_point", time, width, point, dew),
    )
