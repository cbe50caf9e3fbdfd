"""Constant temperature."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from kepton.atoms import Frames
from kepton.atoms.frames import Real
from kepton.atoms.units import BOLTZMANN
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import Integrator
from kepton.dynamics.state import (
    State,
    kinetic_energy,
    maxwell_boltzmann,
    rigid_motions,
    split_keys,
    thermal_state,
)
from kepton.errors import InputError

LINKS = 3
"""Length of a chain"""
_OUTER = 1 / (2 - 2 ** (1 / 3))
FOURTH_ORDER = (_OUTER, 1 - 2 * _OUTER, _OUTER)
"""Shares of a step that make a method of second order one of fourth (Suzuki, Yoshida)"""


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
        """Velocities, heat and what the thermostat remembers, after one time step of it."""

    def move(self, state: State) -> State:
        """A O A"""
        return self.drift(self.exchange(self.drift(state, 0.5)), 0.5)


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
        return thermal_state(key, field, frames, self.temperature_K, still=False, virial=virial)

    def exchange(self, state: State) -> State:
        """O"""
        key, now = split_keys(state.key)
        c = np.exp(-self.friction_per_fs * self.timestep_fs)
        noise = maxwell_boltzmann(now, state.masses, self.temperature_K)
        velocities = c * state.velocities + np.sqrt(1 - c**2) * noise
        return replace(heated(state, velocities), key=key)


@dataclass(frozen=True)
class CollectiveThermostat(Thermostat):
    """A thermostat that acts on all velocities alike, so that rigid motion stays at zero.

    Args:
        timestep_fs: dt
        time_fs: in which it acts
        temperature_K: one for all walkers or (b,)
    """

    timestep_fs: float
    time_fs: float
    temperature_K: float | Float[Real, "..."]
    remembers: ClassVar[int] = 0
    """Numbers a walker"""

    def __post_init__(self):
        super().__post_init__()
        if not self.time_fs > 0:
            raise InputError(f"time_fs = {self.time_fs}; give fs above 0, such as 100.")

    def start(self, key: Key[Array, "b"], field: ForceField, frames: Frames, virial: bool) -> State:
        """Walkers with Maxwell-Boltzmann velocities and no rigid motion, nothing remembered."""
        return thermal_state(
            key, field, frames, self.temperature_K, still=True, virial=virial, bath=self.remembers
        )


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["temperature_K"],
    meta_fields=["timestep_fs", "time_fs"],
)
@dataclass(frozen=True)
class VelocityRescaling(CollectiveThermostat):
    """Constant temperature by one random factor a step for all velocities: a gentle thermostat.

    v <- a v,   a^2 = c + (1 - c) (K_0 / f K) (R_1^2 + S) + 2 R_1 sqrt(c (1 - c) K_0 / f K)
    c = exp(-dt / tau),   K_0 = f k_B T / 2,   R_1 standard normal,   S chi squared of f - 1

    It keeps the total momentum, and of an isolated walker the angular momentum, at zero; f is what
    is left of 3 n.

    Args:
        timestep_fs: dt
        time_fs: tau
        temperature_K: T, one for all walkers or (b,); data, so another one compiles nothing

    Source: Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007), eq. A7; the sign of a:
            Bussi and Parrinello, Comput. Phys. Commun. 179, 26 (2008)
    """

    def exchange(self, state: State) -> State:
        """One factor a walker."""
        key, now = split_keys(state.key)
        freedom = _freedom(state)
        first, others = jax.vmap(_normal_and_squares)(now, freedom)
        c = np.exp(-self.timestep_fs / self.time_fs)
        kinetic = kinetic_energy(state)
        mean = 0.5 * BOLTZMANN * self.temperature_K  # K_0 / f
        share = (1 - c) * jnp.where(kinetic > 0, mean / jnp.where(kinetic > 0, kinetic, 1.0), 0.0)
        square = c + share * (first**2 + others) + 2 * first * jnp.sqrt(c * share)
        sign = jnp.where(first * jnp.sqrt(share) + np.sqrt(c) < 0, -1.0, 1.0)
        factor = sign * jnp.sqrt(jnp.maximum(square, 0.0))
        return replace(heated(state, factor[:, None, None] * state.velocities), key=key)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["temperature_K"],
    meta_fields=["timestep_fs", "time_fs"],
)
@dataclass(frozen=True)
class NoseHooverChain(CollectiveThermostat):
    """Constant temperature by a friction that is driven itself, in a chain: reversible, no noise.

    dv/dt = F / m - w_1 v,   dw_k/dt = G_k - w_{k+1} w_k,   w_{M+1} = 0
    G_1 = (2 K - f k_B T) / Q_1,   G_k = (Q_{k-1} w_{k-1}^2 - k_B T) / Q_k
    Q_1 = f k_B T tau^2,   Q_k = k_B T tau^2

    Energy less heat is the conserved quantity K + U + sum_k (Q_k w_k^2 / 2 + f_k k_B T s_k), where
    ds_k/dt = w_k, f_1 = f, f_k = 1, and f is what rigid motion leaves of 3 n.

    Args:
        timestep_fs: dt
        time_fs: tau, about the period in which the kinetic energy swings
        temperature_K: T, one for all walkers or (b,); data, so another one compiles nothing

    Source: Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992); Martyna et al., Mol. Phys.
            87, 1117 (1996), of fourth order here
    """

    remembers: ClassVar[int] = LINKS

    def start(self, key: Key[Array, "b"], field: ForceField, frames: Frames, virial: bool) -> State:
        """Walkers with Maxwell-Boltzmann velocities, no rigid motion, and a chain at rest."""
        if not np.all(np.asarray(self.temperature_K) > 0):
            raise InputError(
                "A Nose-Hoover chain needs a temperature above 0 K; give one, or a Langevin "
                "thermostat, which cools to 0 K too."
            )
        return super().start(key, field, frames, virial)

    def exchange(self, state: State) -> State:
        """The chain and the velocities, by a symmetric splitting."""
        kt = BOLTZMANN * jnp.broadcast_to(jnp.asarray(self.temperature_K), (len(state),))
        freedom = jnp.stack([_freedom(state), *[jnp.ones(len(state))] * (LINKS - 1)])
        mass = freedom * kt * self.time_fs**2
        w, twice = list(state.bath.T), 2 * kinetic_energy(state)
        given, factor = jnp.zeros(len(state)), jnp.ones(len(state))

        def push(k: int, h: float):
            """Link k by half of h."""
            drive = twice if k == 0 else mass[k - 1] * w[k - 1] ** 2
            damping = jnp.exp(-0.25 * h * w[k + 1]) if k + 1 < LINKS else 1.0
            w[k] = damping * (damping * w[k] + 0.5 * h * (drive - freedom[k] * kt) / mass[k])

        before = 0.5 * (mass * state.bath.T**2).sum(axis=0)
        for share in FOURTH_ORDER:
            h = share * self.timestep_fs
            for k in reversed(range(LINKS)):
                push(k, h)
            slower = jnp.exp(-h * w[0])
            factor, twice = factor * slower, twice * slower**2
            given = given - h * kt * sum(f * link for f, link in zip(freedom, w))
            for k in range(LINKS):
                push(k, h)
        after = 0.5 * sum(m * link**2 for m, link in zip(mass, w))
        return replace(
            state,
            velocities=factor[:, None, None] * state.velocities,
            heat=state.heat + given + before - after,
            bath=jnp.stack(w, axis=1),
        )


def heated(state: State, velocities: Float[Array, "b n 3"]) -> State:
    """With other velocities; the kinetic energy that they gain is heat."""
    new = replace(state, velocities=velocities)
    return replace(new, heat=state.heat + kinetic_energy(new) - kinetic_energy(state))


def _freedom(state: State) -> Float[Array, "b"]:
    atoms = jnp.asarray(state.frames.mask).sum(axis=1)
    return jnp.maximum(3.0 * atoms - rigid_motions(state.frames), 1.0)


def _normal_and_squares(key, freedom):
    """One standard normal number, and the sum of the squares of freedom - 1 others."""
    first, others = jax.random.split(key)
    squares = 2 * jax.random.gamma(others, jnp.maximum(0.5 * (freedom - 1), 0.5), dtype=jnp.float64)
    return jax.random.normal(first, dtype=jnp.float64), jnp.where(freedom > 1, squares, 0.0)
