"""Integrators: one step of every walker at once."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from kepton.atoms import Frames
from kepton.atoms.frames import Real
from kepton.atoms.units import ACCELERATION
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.state import State, evaluate, inverse, thermal_state
from kepton.errors import InputError

LEAP = 0.49
"""Å: an atom that moves further in one step has exploded (hydrogen would carry 12 eV at 1 fs)."""


@partial(jax.tree_util.register_dataclass, data_fields=["late", "broken"], meta_fields=[])
@dataclass(frozen=True)
class StepInfo:
    """What happened in one step.

    Args:
        late: the neighbour list would miss a pair; where any is late, no walker was advanced
        broken: an atom, or the cell, moved by more than LEAP, or energy, forces or virial are not
            finite; such a walker keeps its last state, and is frozen
    """

    late: Bool[Array, "b"]
    broken: Bool[Array, "b"]


class Integrator(ABC):
    """A step: kick, move, forces, kick.

    v <- v + (dt/2) F(x) / m        dt -> timestep_fs
    """

    timestep_fs: float
    needs_virial: ClassVar[bool] = False

    @property
    def together(self) -> int:
        """How many walkers in a row make one system, and break together."""
        return 1

    def __post_init__(self):
        if not self.timestep_fs > 0:
            raise InputError(f"timestep_fs = {self.timestep_fs}; give fs above 0, such as 0.5.")

    @abstractmethod
    def move(self, state: State) -> State:
        """What happens between two kicks: new positions, and what thermostat and barostat do."""

    def leap(self, state: State, frames: Frames) -> Float[Array, "b"]:
        """How far atoms move in a step, at most, Å."""
        return jnp.linalg.norm(frames.positions - state.frames.positions, axis=-1).max(axis=1)

    def given(self, old: State, new: State) -> State:  # noqa: ARG002
        """The new state, its heat complete now that its energy and virial are known."""
        return new

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
        moved = self.move(self.kick(state))
        sound = self._together(self.leap(state, moved.frames) <= LEAP)  # false for nan
        moved = _choose(state.alive & sound, moved, state)
        late = jnp.asarray(state.alive) & state.neighbors.stale(moved.frames, field.cutoff)

        def finish():
            label = evaluate(field, moved.frames, state.neighbors, self.needs_virial)
            finite = jnp.isfinite(label.energy) & jnp.isfinite(label.forces).all(axis=(1, 2))
            if self.needs_virial:
                finite &= jnp.isfinite(label.virial).all(axis=(1, 2))
            finite = self._together(finite)
            new = replace(moved, energy=label.energy, forces=label.forces, virial=label.virial)
            new = self.given(state, self.kick(new))
            new = _choose(state.alive & sound & finite, new, state)
            broken = state.alive & ~(sound & finite)
            return replace(new, alive=state.alive & ~broken), broken

        def stay():
            return state, jnp.zeros_like(late)

        state, broken = jax.lax.cond(late.any(), stay, finish)
        return state, StepInfo(late, broken)

    def _together(self, sound: Bool[Array, "b"]) -> Bool[Array, "b"]:
        whole = sound.reshape(-1, self.together).all(axis=1)
        return jnp.repeat(whole, self.together)


CHANGES = ("velocities", "forces", "energy", "virial", "key", "heat", "bath")
"""What a step changes, beside positions and cell"""


def _choose(which: Bool[Array, "b"], new: State, old: State) -> State:
    def choose(a, b):
        return jnp.where(which.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    positions = choose(new.frames.positions, old.frames.positions)
    cell = choose(new.frames.cell, old.frames.cell)
    chosen = {name: choose(getattr(new, name), getattr(old, name)) for name in CHANGES}
    return replace(old, frames=replace(old.frames, positions=positions, cell=cell), **chosen)


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["timestep_fs"])
@dataclass(frozen=True)
class VelocityVerlet(Integrator):
    """Constant energy: symplectic, time-reversible, of second order.

    v <- v + (dt/2) F(x) / m;   x <- x + dt v;   v <- v + (dt/2) F(x) / m

    Args:   timestep_fs: dt
    Source: Swope et al., J. Chem. Phys. 76, 637 (1982)
    """

    timestep_fs: float

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
        return thermal_state(key, field, frames, temperature_K, still=True)

    def move(self, state: State) -> State:
        """x <- x + dt v"""
        return self.drift(state, 1.0)
