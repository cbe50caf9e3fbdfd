"""Constant temperature."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from kepton.atoms import Frames
from kepton.atoms.frames import Real
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import Integrator, split_keys
from kepton.dynamics.state import (
    State,
    atomic_masses,
    initial_state,
    kinetic_energy,
    maxwell_boltzmann,
)
from kepton.errors import InputError


class Thermostat(Integrator):
    """Half of the drift, what the thermostat does to velocities, the other half of the drift.

    x <- x + (dt/2) v;   v <- exchange(v);   x <- x + (dt/2) v        dt -> timestep_fs
    """

    temperature_K: float | Float[Real, "..."]

    @abstractmethod
    def start(self, key: Key[Array, "b"], field: ForceField, frames: Frames, virial: bool) -> State:
        """Walkers with Maxwell-Boltzmann velocities, with a virial where asked for."""

    def init(self, key: Key[Array, "b"], field: ForceField, frames: Frames) -> State:
        """Walkers with Maxwell-Boltzmann velocities.

        Args:
            key: one random key a walker
            field: the force field
            frames: the configurations
        """
        return self.start(key, field, frames, virial=False)

    @abstractmethod
    def exchange(self, state: State) -> State:
        """Velocities, and all that the thermostat remembers, after one time step of it."""

    def move(self, state: State) -> State:
        """A O A: O changes velocities, and its heat is what the kinetic energy gains."""
        state = self.drift(state, 0.5)
        new = self.exchange(state)
        heat = state.heat + kinetic_energy(new) - kinetic_energy(state)
        return self.drift(replace(new, heat=heat), 0.5)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["temperature_K"],
    meta_fields=["timestep_fs", "friction_per_fs"],
)
@dataclass(frozen=True)
class Langevin(Thermostat):
    """Constant temperature by friction and noise, split as BAOAB.

    B: v <- v + (dt/2) F(x) / m;   A: x <- x + (dt/2) v
    O: v <- c v + sqrt((1 - c^2) k_B T / m) xi,   c = exp(-gamma dt),   xi standard normal

    Its positions are exactly canonical in a harmonic well at any stable time step; elsewhere they
    err by O(dt^2). Total momentum is not conserved.

    Args:
        timestep_fs: dt
        friction_per_fs: gamma
        temperature_K: T, one for all walkers or (b,); data, so another one compiles nothing

    Source: Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34 (2013)
    """

    timestep_fs: float
    friction_per_fs: float
    temperature_K: float | Float[Real, "..."]

    def __post_init__(self):
        super().__post_init__()
        if not self.friction_per_fs >= 0:
            raise InputError(
                f"friction_per_fs = {self.friction_per_fs}; give 1/fs, 0 or more, such as 0.01."
            )

    def start(self, key: Key[Array, "b"], field: ForceField, frames: Frames, virial: bool) -> State:
        """Walkers with Maxwell-Boltzmann velocities, total momentum included."""
        key, first = split_keys(key)
        velocities = maxwell_boltzmann(first, atomic_masses(frames), self.temperature_K)
        return initial_state(key, field, frames, velocities, virial)

    def exchange(self, state: State) -> State:
        """O"""
        key, now = split_keys(state.key)
        c = np.exp(-self.friction_per_fs * self.timestep_fs)
        noise = maxwell_boltzmann(now, state.masses, self.temperature_K)
        return replace(state, velocities=c * state.velocities + np.sqrt(1 - c**2) * noise, key=key)
