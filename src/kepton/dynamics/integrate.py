"""Integrators: one step of every walker at once."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from kepton.atoms import Frames
from kepton.atoms.frames import Real
from kepton.atoms.units import ACCELERATION
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.state import (
    State,
    atomic_masses,
    evaluate,
    initial_state,
    inverse,
    maxwell_boltzmann,
    without_rigid_motion,
)
from kepton.errors import InputError

LEAP = 0.49
"""Å: an atom that moves further in one step has exploded (hydrogen would carry 12 eV at 1 fs)."""


@partial(jax.tree_util.register_dataclass, data_fields=["late", "broken"], meta_fields=[])
@dataclass(frozen=True)
class StepInfo:
    """What happened in one step.

    Args:
        late: the neighbour list would miss a pair; where any is late, no walker was advanced
        broken: an atom moved by more than LEAP, or energy or forces are not finite; such a walker
            keeps its last state, and is frozen
    """

    late: Bool[Array, "b"]
    broken: Bool[Array, "b"]


@dataclass(frozen=True)
class Integrator(ABC):
    """A step in two halves: `move` to the new positions, then a kick by the forces found there.

    v <- v + (dt/2) F(x) / m        dt -> timestep_fs
    """

    timestep_fs: float

    def __post_init__(self):
        if not self.timestep_fs > 0:
            raise InputError(f"timestep_fs = {self.timestep_fs}; give fs above 0, such as 0.5.")

    @abstractmethod
    def move(self, state: State) -> State:
        """New positions, and velocities that lack only the last half kick."""

    def kick(self, state: State) -> State:
        """Velocities after half a time step under the forces."""
        impulse = 0.5 * self.timestep_fs * ACCELERATION * state.forces * inverse(state.masses)
        return replace(state, velocities=state.velocities + impulse)

    def drift(self, state: State, share: float) -> State:
        """Positions after a share of the time step at constant velocities."""
        x = state.frames.positions + share * self.timestep_fs * state.velocities
        return replace(state, frames=state.frames.with_positions(x))

    def step(self, field: ForceField, state: State) -> tuple[State, StepInfo]:
        """Advance every living walker by one time step, or none where a neighbour list is late."""
        moved = self.move(state)
        leap = jnp.linalg.norm(moved.frames.positions - state.frames.positions, axis=-1).max(axis=1)
        sound = leap <= LEAP  # false for nan
        moved = _choose(state.alive & sound, moved, state)
        late = jnp.asarray(state.alive) & state.neighbors.stale(moved.frames, field.cutoff)

        def finish():
            energy, forces = evaluate(field, moved.frames, state.neighbors)
            finite = jnp.isfinite(energy) & jnp.isfinite(forces).all(axis=(1, 2))
            new = self.kick(replace(moved, energy=energy, forces=forces))
            new = _choose(state.alive & sound & finite, new, state)
            broken = state.alive & ~(sound & finite)
            return replace(new, alive=state.alive & ~broken), broken

        def stay():
            return state, jnp.zeros_like(late)

        state, broken = jax.lax.cond(late.any(), stay, finish)
        return state, StepInfo(late, broken)


def _choose(which: Bool[Array, "b"], new: State, old: State) -> State:
    def choose(a, b):
        return jnp.where(which.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    positions = choose(new.frames.positions, old.frames.positions)
    return replace(
        old,
        frames=old.frames.with_positions(positions),
        velocities=choose(new.velocities, old.velocities),
        forces=choose(new.forces, old.forces),
        energy=choose(new.energy, old.energy),
        key=choose(new.key, old.key),
    )


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["timestep_fs"])
@dataclass(frozen=True)
class VelocityVerlet(Integrator):
    """Constant energy: symplectic, time-reversible, of second order.

    v <- v + (dt/2) F(x) / m;   x <- x + dt v;   v <- v + (dt/2) F(x) / m

    Args:   timestep_fs: dt
    Source: Swope et al., J. Chem. Phys. 76, 637 (1982)
    """

    def init(
        self,
        key: Key[Array, "b"],
        field: ForceField,
        frames: Frames,
        temperature_K: float | Float[Real, "..."],
    ) -> State:
        """Walkers with Maxwell-Boltzmann velocities and no rigid motion.

        Isolated walkers have neither momentum nor angular momentum, periodic ones no momentum.

        Args:
            key: one random key a walker
            field: the force field
            frames: the configurations
            temperature_K: one for all walkers, or (b,)
        """
        key, first = _split(key)
        velocities = maxwell_boltzmann(first, atomic_masses(frames), temperature_K)
        return initial_state(key, field, frames, without_rigid_motion(frames, velocities))

    def move(self, state: State) -> State:
        """v <- v + (dt/2) F / m;   x <- x + dt v"""
        return self.drift(self.kick(state), 1.0)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["temperature_K"],
    meta_fields=["timestep_fs", "friction_per_fs"],
)
@dataclass(frozen=True)
class Langevin(Integrator):
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

    friction_per_fs: float
    temperature_K: float | Float[Real, "..."]

    def __post_init__(self):
        super().__post_init__()
        if not self.friction_per_fs >= 0:
            raise InputError(
                f"friction_per_fs = {self.friction_per_fs}; give 1/fs, 0 or more, such as 0.01."
            )

    def init(self, key: Key[Array, "b"], field: ForceField, frames: Frames) -> State:
        """Walkers with Maxwell-Boltzmann velocities.

        Args:
            key: one random key a walker
            field: the force field
            frames: the configurations
        """
        key, first = _split(key)
        velocities = maxwell_boltzmann(first, atomic_masses(frames), self.temperature_K)
        return initial_state(key, field, frames, velocities)

    def move(self, state: State) -> State:
        """B A O A"""
        key, now = _split(state.key)
        state = self.drift(self.kick(state), 0.5)
        c = np.exp(-self.friction_per_fs * self.timestep_fs)
        noise = maxwell_boltzmann(now, state.masses, self.temperature_K)
        velocities = c * state.velocities + np.sqrt(1 - c**2) * noise
        return self.drift(replace(state, velocities=velocities, key=key), 0.5)


def _split(key: Key[Array, "b"]) -> tuple[Key[Array, "b"], Key[Array, "b"]]:
    both = jax.vmap(jax.random.split)(key)
    return both[:, 0], both[:, 1]
