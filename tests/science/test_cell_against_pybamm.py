"""The fresh single particle with constant diffusivity against PyBaMM's single-particle model.

Both are given the same open-circuit curve, exchange current, resistance and diffusivity; PyBaMM
(Sulzer et al., J. Open Res. Softw. 9 (2021) 14) solves them by its own discretisation and solver.
Where the lithium content at the surface exceeds 0.99 the slope of the curve diverges, and nothing
is compared.
"""

import os
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from operando.simulators.cell import CellParameters, SimulatedCell, load_preset
from operando.simulators.cell.electrochemistry import Electrochemistry
from operando.simulators.cell.materials import FARADAY

START = 0.95
UPPER, LOWER = 4.25, 2.8
FULL = 0.99
"""Lithium content of the particle's surface up to which voltages are compared."""


def single_particle() -> CellParameters:
    """Return the nominal cell without ageing, side reactions or composition-dependent diffusion."""
    p = load_preset("ncm811-caec").parameters
    curve = Electrochemistry(p).potential
    return replace(
        p,
        initial_lithiation=START,
        assembled_potential=curve(START),
        diffusivity_floor=1.0,
        contact_loss=0.0,
        interphase_growth=0.0,
        first_oxidation=0.0,
        electronic_conductivity=0.0,
        counter_interphase_rate=0.0,
        counter_creep_current=1e6,
    )


@pytest.fixture(scope="module")
def pybamm() -> ModuleType:
    os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
    import pybamm as module

    module.set_logging_level("ERROR")
    return module  # type: ignore[no-any-return]


def reference(
    pybamm: ModuleType, parameters: CellParameters, rate: float
) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Return time (s), voltage (V) and current (A, positive charges) of every step by PyBaMM."""
    cell = SimulatedCell(parameters)
    physics = cell._physics
    p = parameters
    model = pybamm.lithium_ion.SPM({"working electrode": "positive", "contact resistance": "true"})
    values = model.default_parameter_values
    thickness, fraction = 1e-4, 0.5
    most = physics.capacity / (FARADAY * fraction * thickness * p.area)
    surface = 3.0 * fraction / p.particle_radius * thickness * p.area
    grid = np.linspace(0.0, 1.05, 8001)
    potential = np.array([physics.potential(float(x)) for x in grid])
    exchange = np.array([physics.exchange_current(float(x), 1.0, 1.0) / surface for x in grid])

    def tabulated(table: NDArray[Any], name: str) -> Any:
        return lambda sto: pybamm.Interpolant(grid, table, sto, name=name, interpolator="cubic")

    ocp, kinetics = tabulated(potential, "ocp"), tabulated(exchange, "exchange")
    resistance = physics.resistance(cell._end)
    values.update(
        {
            "Nominal cell capacity [A.h]": cell.nominal_capacity / 3600.0,
            "Electrode height [m]": p.area / 0.01,
            "Electrode width [m]": 0.01,
            "Positive electrode thickness [m]": thickness,
            "Positive electrode active material volume fraction": fraction,
            "Positive particle radius [m]": p.particle_radius,
            "Positive particle diffusivity [m2.s-1]": p.diffusivity,
            "Maximum concentration in positive electrode [mol.m-3]": most,
            "Initial concentration in positive electrode [mol.m-3]": START * most,
            "Positive electrode OCP [V]": ocp,
            "Positive electrode exchange-current density [A.m-2]": (
                lambda c_e, c_s, c_max, kelvin: kinetics(c_s / c_max)
            ),
            "Exchange-current density for lithium metal electrode [A.m-2]": 1e9,
            "Negative electrode conductivity [S.m-1]": 1e15,
            "Positive electrode conductivity [S.m-1]": 1e15,
            "Contact resistance [Ohm]": resistance,
            "Ambient temperature [K]": p.reference_temperature,
            "Reference temperature [K]": p.reference_temperature,
            "Initial temperature [K]": p.reference_temperature,
            "Lower voltage cut-off [V]": 2.0,
            "Upper voltage cut-off [V]": 4.6,
        },
        check_already_exists=False,
    )
    one_c = cell.nominal_capacity / 3600.0
    period = f"{20.0 / rate:.0f} seconds"
    steps = (
        f"Charge at {rate * one_c:.9f} A until {UPPER} V",
        f"Hold at {UPPER} V until {0.05 * one_c:.9f} A",
        f"Discharge at {rate * one_c:.9f} A until {LOWER} V",
    )
    simulation = pybamm.Simulation(
        model,
        parameter_values=values,
        experiment=pybamm.Experiment([steps], period=period),
        var_pts={"x_n": 5, "x_s": 5, "x_p": 5, "r_p": 300},
    )
    solution = simulation.solve()
    found = []
    for step in solution.cycles[0].steps:
        found.append(
            (
                np.asarray(step["Time [s]"].entries),
                np.asarray(step["Voltage [V]"].entries),
                -np.asarray(step["Current [A]"].entries),
            )
        )
    return found


@pytest.mark.filterwarnings("ignore")  # of PyBaMM and what it builds on
@pytest.mark.parametrize("rate", [0.1, 0.5, 2.0])
def test_voltage_and_current_agree_within_a_millivolt(pybamm: ModuleType, rate: float) -> None:
    parameters = single_particle()
    charge, hold, discharge = reference(pybamm, parameters, rate)
    cell = SimulatedCell(parameters)
    one_c = cell.nominal_capacity / 3600.0
    deviations: list[float] = []
    currents: list[float] = []
    cell.source_voltage(0.0, UPPER, rate * one_c)
    for time, voltage, current in (charge, hold):
        for t, v, i in zip(time, voltage, current, strict=True):
            terminal = cell.terminal(float(t))
            deviations.append(terminal.voltage - v)
            currents.append((terminal.current - i) / (rate * one_c))
    cell.source_voltage(float(hold[0][-1]), LOWER, rate * one_c)
    compared = 0
    for t, v in zip(discharge[0], discharge[1], strict=True):
        terminal = cell.terminal(float(t))
        if cell.state(float(t)).surface_lithiation >= FULL:
            break
        deviations.append(terminal.voltage - v)
        compared += 1
    assert len(charge[0]) > 50
    assert compared > 50
    assert np.sqrt(np.mean(np.square(deviations))) < 1e-3
    assert np.sqrt(np.mean(np.square(currents))) < 2e-3
