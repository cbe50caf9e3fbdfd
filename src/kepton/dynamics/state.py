"""`State`: where all walkers are, how fast, and everything their next step depends on."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from kepton.atoms import Frames, Label
from kepton.atoms.frames import Real
from kepton.atoms.neighbors import Neighbors, neighbors
from kepton.atoms.units import ACCELERATION, BOLTZMANN
from kepton.devices import jitted
from kepton.dynamics.forcefield import ForceField

SKIN = 1.0
"""Å by which a neighbour list reaches beyond the cutoff."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "frames",
        "velocities",
        "forces",
        "energy",
        "virial",
        "masses",
        "key",
        "heat",
        "bath",
        "alive",
        "neighbors",
    ],
    meta_fields=[],
)
@dataclass(frozen=True)
class State:
    """b walkers, each independent of the others.

    Args:
        frames: the configurations; positions in float64
        velocities: Å/fs
        forces: eV/Å, at these positions
        energy: eV, at these positions
        virial: eV, at these positions; nan where the integrator needs none
        masses: amu, 0 where padded
        key: one random key a walker, from which all its noise follows
        heat: eV that thermostat and barostat gave since the start; energy less heat is conserved
        bath: what else the integrator remembers of each walker
        alive: false for walkers that are frozen: no step changes them
        neighbors: a list that is complete at these positions
    """

    frames: Frames
    velocities: Float[Real, "b n 3"]
    forces: Float[Real, "b n 3"]
    energy: Float[Real, "b"]
    virial: Float[Real, "b 3 3"]
    masses: Float[Real, "b n"]
    key: Key[Array, "b"]
    heat: Float[Real, "b"]
    bath: Float[Real, "b m"]
    alive: Bool[Real, "b"]
    neighbors: Neighbors

    def __len__(self) -> int:
        return self.velocities.shape[0]

    def __getitem__(self, index) -> "State":
        """The walkers that a slice, an array of indices or of booleans selects (not an integer)."""
        return jax.tree.map(lambda leaf: leaf[index], self)

    def freeze(self, which: Bool[Real, "b"]) -> "State":
        """The same state, from which these walkers will not move."""
        return replace(self, alive=jnp.asarray(self.alive) & ~jnp.asarray(which))


def initial_state(
    key: Key[Array, "b"],
    field: ForceField,
    frames: Frames,
    velocities: Float[Real, "b n 3"],
    virial: bool = False,
    bath: int = 0,
) -> State:
    """Walkers at given positions and velocities.

    Args:
        key: one random key a walker
        field: the force field
        frames: the configurations
        velocities: Å/fs, 0 where padded
        virial: whether the integrator needs it
        bath: how many numbers a walker the integrator remembers, all zero at the start
    """
    positions, cell = (jnp.asarray(a, jnp.float64) for a in (frames.positions, frames.cell))
    frames = replace(frames, positions=positions, cell=cell)
    listed = neighbors(frames, field.cutoff, SKIN)
    label = _evaluate(field, frames, listed, virial)
    return State(
        frames=frames,
        velocities=jnp.asarray(velocities, jnp.float64),
        forces=label.forces,
        energy=label.energy,
        virial=label.virial,
        masses=atomic_masses(frames),
        key=key,
        heat=jnp.zeros(len(frames)),
        bath=jnp.zeros((len(frames), bath)),
        alive=jnp.ones(len(frames), bool),
        neighbors=listed,
    )


def thermal_state(
    key: Key[Array, "b"],
    field: ForceField,
    frames: Frames,
    temperature_K: float | Float[Real, "..."],
    still: bool,
    virial: bool = False,
    bath: int = 0,
) -> State:
    """Walkers with Maxwell-Boltzmann velocities.

    Args:
        key: one random key a walker
        field: the force field
        frames: the configurations
        temperature_K: one for all walkers, or (b,)
        still: without rigid motion
        virial, bath: as of `initial_state`
    """
    key, first = split_keys(key)
    velocities = maxwell_boltzmann(first, atomic_masses(frames), temperature_K)
    if still:
        velocities = without_rigid_motion(frames, velocities)
    return initial_state(key, field, frames, velocities, virial, bath)


def split_keys(key: Key[Array, "b"]) -> tuple[Key[Array, "b"], Key[Array, "b"]]:
    """Keys to keep, and keys to use up."""
    both = jax.vmap(jax.random.split)(key)
    return both[:, 0], both[:, 1]


def atomic_masses(frames: Frames) -> Float[Array, "b n"]:
    """Standard atomic masses in amu, 0 where padded, so that sums over atoms need no mask."""
    return jnp.asarray(np.where(np.asarray(frames.mask), frames.masses, 0.0))


def evaluate(field: ForceField, frames: Frames, neighbors: Neighbors, virial: bool) -> Label:
    """What the field says in float64: forces zero where padded, virial nan where not asked for."""
    label = jax.tree.map(
        lambda part: part.astype(jnp.float64), field.answer(frames, neighbors, virial)
    )
    forces = jnp.where(jnp.asarray(frames.mask)[..., None], label.forces, 0.0)
    return replace(
        label,
        forces=forces,
        virial=label.virial if virial else jnp.full((len(frames), 3, 3), jnp.nan),
    )


_evaluate = jitted(evaluate, static_argnums=3)


def inverse(masses: Float[Real, "b n"]) -> Float[Array, "b n 1"]:
    """1 / m, or 0 where padded, so that nothing moves a padded atom."""
    masses = jnp.asarray(masses)[..., None]
    return jnp.where(masses > 0, 1 / jnp.where(masses > 0, masses, 1.0), 0.0)


def normal(key: Key[Array, "b"], n: int) -> Float[Array, "b n 3"]:
    """Standard normal noise; that of an atom depends on its walker's key and its place alone."""
    return jax.vmap(lambda k: jax.random.normal(k, (n, 3), jnp.float64))(key)


def maxwell_boltzmann(
    key: Key[Array, "b"],
    masses: Float[Real, "b n"],
    temperature_K: float | Float[Real, "..."],
) -> Float[Array, "b n 3"]:
    """Velocities drawn from the Maxwell-Boltzmann distribution.

    v = sqrt(k_B T / m) xi,   xi standard normal        m -> masses, T -> temperature_K

    Args:
        key: one random key a walker
        masses: amu, 0 where padded
        temperature_K: one for all walkers, or (b,)
    Returns: Å/fs, 0 where padded
    """
    temperature = jnp.broadcast_to(jnp.asarray(temperature_K), (len(masses),))[:, None, None]
    scale = BOLTZMANN * temperature * ACCELERATION * inverse(masses)
    return jnp.sqrt(scale) * normal(key, masses.shape[1])


def rigid_motions(frames: Frames) -> Int[Array, "b"]:
    """How many momenta are conserved where no noise acts on single atoms.

    Periodic: 3, of the translation. Isolated: 6, with rotation; 5 of two atoms; 3 of one.
    """
    atoms = jnp.asarray(frames.mask).sum(axis=1)
    isolated = ~jnp.asarray(frames.pbc).any(axis=1)
    return jnp.where(isolated & (atoms > 1), jnp.minimum(4 + (atoms > 1) + (atoms > 2), 6), 3)


def without_rigid_motion(
    frames: Frames, velocities: Float[Real, "b n 3"]
) -> Float[np.ndarray, "b n 3"]:
    """Velocities of the same atoms with no total momentum and, if isolated, no angular momentum.

    v_i - <v> - w x (x_i - <x>),   I w = L        <> -> average over atoms, weighted by mass

    Args:
        frames: the configurations; those periodic along no direction are isolated
        velocities: Å/fs, 0 where padded
    """
    m = np.asarray(atomic_masses(frames))[..., None]
    x, v = np.asarray(frames.positions), np.asarray(velocities)
    x = x - (m * x).sum(axis=1, keepdims=True) / m.sum(axis=1, keepdims=True)
    v = v - (m * v).sum(axis=1, keepdims=True) / m.sum(axis=1, keepdims=True)
    angular = (m * np.cross(x, v)).sum(axis=1)
    square = (m * x**2).sum(axis=(1, 2))[:, None, None]
    inertia = square * np.eye(3) - np.einsum("bnc,bnd->bcd", m * x, x)
    # a linear molecule, or one atom, has an axis about which nothing turns
    spin = np.einsum("bcd,bd->bc", np.linalg.pinv(inertia, rtol=1e-10, hermitian=True), angular)
    isolated = ~np.asarray(frames.pbc).any(axis=1, keepdims=True)
    v = v - np.cross(np.where(isolated, spin, 0.0)[:, None], x)
    return np.where(m > 0, v, 0.0)


def kinetic_tensor(state: State) -> Float[Array, "b 3 3"]:
    """sum_i m_i v_i (x) v_i, in eV; its trace is twice the kinetic energy."""
    momenta = state.masses[..., None] * state.velocities
    return jnp.einsum("bnc,bnd->bcd", momenta, state.velocities) / ACCELERATION


def kinetic_energy(state: State) -> Float[Array, "b"]:
    """K = sum_i m_i v_i^2 / 2, in eV."""
    return 0.5 * (state.masses[..., None] * state.velocities**2).sum(axis=(1, 2)) / ACCELERATION


def kinetic_temperature(state: State, constraints: int | Int[Real, "b"] = 0) -> Float[Array, "b"]:
    """Temperature of the velocities.

    T = 2 K / (k_B (3 n - c))        K -> kinetic_energy, n -> number of atoms, c -> constraints

    Args:    constraints: number of momenta that are conserved at zero, such as `rigid_motions`
    Returns: K
    """
    atoms = (jnp.asarray(state.masses) > 0).sum(axis=1)
    return 2 * kinetic_energy(state) / (BOLTZMANN * jnp.maximum(3 * atoms - constraints, 1))
