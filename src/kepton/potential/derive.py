"""What a potential answers, and how it follows from an energy by automatic differentiation."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kepton.atoms.frames import Frames
from kepton.atoms.neighbors import Neighbors


class Answer(NamedTuple):
    """What a potential, or every member of an ensemble, says of b frames.

    Args:    energy: eV, float64;  forces: eV/Å;  virial: eV, nan where it was not asked for
    """

    energy: Float[Array, "*k b"]
    forces: Float[Array, "*k b n 3"]
    virial: Float[Array, "*k b 3 3"]


def derive(energies: Callable, frames: Frames, neighbors: Neighbors) -> Answer:
    """Energy, forces and virial of a differentiable energy.

    F = -dE/dx,   W = -dE/d strain at x (1 + strain), cell (1 + strain)

    Args:    energies: (frames, neighbors) -> (b,) eV
    """

    def total(positions, strain):
        bent = replace(
            frames,
            positions=positions + jnp.einsum("bnc,bcd->bnd", positions, strain),
            cell=frames.cell + jnp.einsum("bsc,bcd->bsd", frames.cell, strain),
        )
        energy = energies(bent, neighbors)
        return energy.sum(), energy

    positions = jnp.asarray(frames.positions)
    strain = jnp.zeros((len(frames), 3, 3))
    (_, energy), (slope, torsion) = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(
        positions, strain
    )
    return Answer(energy, -slope, -0.5 * (torsion + torsion.mT))
