"""Molecular dynamics: integrators and the program that runs them."""

from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import Integrator, Langevin, VelocityVerlet
from kepton.dynamics.simulate import Info, simulate
from kepton.dynamics.state import State, initial_state, kinetic_energy, kinetic_temperature

__all__ = [
    "ForceField",
    "Info",
    "Integrator",
    "Langevin",
    "State",
    "VelocityVerlet",
    "initial_state",
    "kinetic_energy",
    "kinetic_temperature",
    "simulate",
]
