"""Force fields in closed form, and structures, for the tests of dynamics."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.build import bulk

from kepton.atoms import Frames, Label
from kepton.atoms.units import ACCELERATION


@partial(jax.tree_util.register_dataclass, data_fields=["stiffness"], meta_fields=["cutoff"])
@dataclass(frozen=True)
class Harmonic:
    """E = sum_i k x_i^2 / 2."""

    stiffness: float | jax.Array
    cutoff: float = 3.0

    def answer(self, frames, neighbors, virial):  # noqa: ARG002
        x = jnp.where(frames.mask[..., None], frames.positions, 0.0)
        energy = 0.5 * self.stiffness * (x**2).sum(axis=(1, 2))
        return Label(energy, -self.stiffness * x, jnp.zeros((len(frames), 3, 3)))


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["edge", "cutoff"])
@dataclass(frozen=True)
class Edge:
    """No force up to |x| = edge, and no number beyond."""

    edge: float = 1.0
    cutoff: float = 3.0

    def answer(self, frames, neighbors, virial):  # noqa: ARG002
        beyond = (jnp.abs(frames.positions) > self.edge).any(axis=(1, 2))
        zero = jnp.zeros_like(frames.positions)
        return Label(jnp.where(beyond, jnp.nan, 0.0), zero, jnp.zeros((len(frames), 3, 3)))


@partial(jax.tree_util.register_dataclass, data_fields=["depth", "width"], meta_fields=["cutoff"])
@dataclass(frozen=True)
class LennardJones:
    """E = sum_pairs 4 e ((s/r)^12 - (s/r)^6) (1 - (r/r_c)^2)^3 for r < r_c."""

    depth: float | jax.Array = 0.0104
    width: float | jax.Array = 3.4
    cutoff: float = 6.0

    def answer(self, frames, neighbors, virial):  # noqa: ARG002
        """d(pair)/dr rows give forces and virial alike."""

        def total(r):
            square = jnp.minimum((r**2).sum(axis=-1), self.cutoff**2)
            six = (self.width**2 / square) ** 3
            fade = (1 - square / self.cutoff**2) ** 3
            pairs = jnp.where(neighbors.mask, 2 * self.depth * (six**2 - six) * fade, 0.0)
            return pairs.sum(), pairs.sum(axis=(1, 2))

        r = neighbors.vectors(frames)
        (_, energy), slope = jax.value_and_grad(total, has_aux=True)(r)
        forces = 2 * slope.sum(axis=2)
        return Label(energy, forces, -jnp.einsum("bnmc,bnmd->bcd", r, slope))


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["cutoff"])
@dataclass(frozen=True)
class IdealGas:
    """E = 0."""

    cutoff: float = 0.1

    def answer(self, frames, neighbors, virial):  # noqa: ARG002
        b = len(frames)
        return Label(jnp.zeros(b), jnp.zeros_like(frames.positions), jnp.zeros((b, 3, 3)))


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["modulus", "at", "cutoff"])
@dataclass(frozen=True)
class Jelly:
    """E = K V_0 ln(V / V_0)^2 / 2: it feels its volume alone."""

    modulus: float
    at: float
    cutoff: float = 1.0

    def answer(self, frames, neighbors, virial):  # noqa: ARG002
        strain = jnp.log(jnp.linalg.det(frames.cell) / self.at)
        energy = 0.5 * self.modulus * self.at * strain**2
        virial = -(self.modulus * self.at * strain)[:, None, None] * jnp.eye(3)
        return Label(energy, jnp.zeros_like(frames.positions), virial)


STIFFNESS = 40.0
HYDROGEN = 1.008
OMEGA = np.sqrt(STIFFNESS / HYDROGEN * ACCELERATION)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def hydrogens(walkers, atoms=1):
    return Frames.from_ase([Atoms(f"H{atoms}", np.zeros((atoms, 3)))] * walkers)


def cluster():
    """Thirteen argon atoms near the icosahedron."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (1, -1) for b in (1, -1)]
    corners = [np.roll(c, k) for c in corners for k in range(3)]
    return Atoms("Ar13", np.vstack([np.zeros((1, 3)), corners]) * 3.7 / np.hypot(1, golden))


def crystal(repeat=3):
    return bulk("Ar", "fcc", a=5.4, cubic=True) * repeat
