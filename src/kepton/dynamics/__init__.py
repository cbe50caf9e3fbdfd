"""Molecular dynamics: integrators and the program that runs them."""

from kepton.dynamics.cell_rescaling import Shape, StochasticCellRescaling, pressure, volume
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import Integrator, VelocityVerlet
from kepton.dynamics.ring_polymer import RingPolymer
from kepton.dynamics.simulate import Info, simulate
from kepton.dynamics.state import (
    State,
    initial_state,
    kinetic_energy,
    kinetic_temperature,
    rigid_motions,
)
from kepton.dynamics.thermostats import Langevin, NoseHooverChain, Thermostat, VelocityRescaling

__all__ = [
    "ForceField",
    "Info",
    "Integrator",
    "Langevin",
    "NoseHooverChain",
    "RingPolymer",
    "Shape",
    "State",
    "StochasticCellRescaling",
    "Thermostat",
    "VelocityRescaling",
    "VelocityVerlet",
    "initial_state",
    "kinetic_energy",
    "kinetic_temperature",
    "pressure",
    "rigid_motions",
    "simulate",
    "volume",
]
