"""Molecular dynamics: integrators and the program that runs them."""

from kepton.dynamics.cell_rescaling import Shape, StochasticCellRescaling, pressure, volume
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import Integrator, VelocityVerlet
from kepton.dynamics.simulate import Info, simulate
from kepton.dynamics.state import State, initial_state, kinetic_energy, kinetic_temperature
from kepton.dynamics.thermostats import Langevin

__all__ = [
    "ForceField",
    "Info",
    "Integrator",
    "Langevin",
    "Shape",
    "State",
    "StochasticCellRescaling",
    "VelocityVerlet",
    "initial_state",
    "kinetic_energy",
    "kinetic_temperature",
    "pressure",
    "simulate",
    "volume",
]
