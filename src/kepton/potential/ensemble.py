"""An ensemble of potentials in one program, and the one place where forces are derived."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array, Bool, Float

from kepton.atoms.frames import Frames, Label, Real
from kepton.atoms.neighbors import Neighbors, neighbors
from kepton.errors import InputError


def derive(energies: Callable, frames: Frames, neighbors: Neighbors) -> Label:
    """Energy, forces and virial of any differentiable energy.

    F = -dE/dx,   W = -dE/d strain at x (1 + strain), cell (1 + strain)

    Args:    energies: (frames, neighbors) -> (b,) eV
    Returns: Label of b frames: eV, eV/Å, eV
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
    return Label(energy, -slope, -0.5 * (torsion + torsion.mT))


def forces(energies: Callable, frames: Frames, neighbors: Neighbors):
    """(b,) energies and (b, n, 3) forces -dE/dx, where the virial is not needed."""

    def total(positions):
        energy = energies(frames.with_positions(positions), neighbors)
        return energy.sum(), energy

    (_, energy), slope = jax.value_and_grad(total, has_aux=True)(jnp.asarray(frames.positions))
    return energy, -slope


def atom_deviation(forces: Float[Array, "k b n 3"]) -> Float[Array, "b n"]:
    """Disagreement of the ensemble on the force of each atom.

    sqrt(< |F_i - <F_i>|^2 >)        F -> forces

    Args:    forces: eV/Å, one row a member; padded atoms hold zeros
    Returns: eV/Å; its maximum over atoms is DP-GEN's model deviation
    Source:  Zhang et al., Phys. Rev. Materials 3, 023804 (2019), eq. 5
    """
    spread = forces - forces.mean(axis=0)
    return jnp.sqrt((spread**2).sum(axis=-1).mean(axis=0))


def component_rms(per_atom: Float[Real, "b n"], mask: Bool[Real, "b n"]) -> Float[Array, "b"]:
    """Root mean square over force components: sqrt(sum_i v_i^2 / 3n), v_i a vector's length."""
    mask = jnp.asarray(mask)
    return jnp.sqrt((per_atom**2 * mask).sum(axis=1) / (3.0 * mask.sum(axis=1)))


@partial(jax.tree_util.register_dataclass, data_fields=["members"], meta_fields=[])
@dataclass(frozen=True)
class Ensemble:
    """k models of one architecture and one data set; its energy is their mean.

    Args:
        members: one potential whose `weights` have a leading axis of length k; `statistics`
            are shared, so what depends on positions alone is computed once for all members
    """

    members: Any

    @property
    def size(self) -> int:
        """k"""
        return jax.tree.leaves(self.members.weights)[0].shape[0]

    @property
    def cutoff(self) -> float:
        """Å"""
        return self.members.cutoff

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers it knows."""
        return self.members.config.species

    def member(self, index: int) -> Any:
        """One of the k potentials."""
        weights = jax.tree.map(lambda w: w[index], self.members.weights)
        return replace(self.members, weights=weights)

    def member_energies(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "k b"]:
        """eV"""

        def one(weights):
            return replace(self.members, weights=weights).energies(frames, neighbors)

        return jax.vmap(one)(self.members.weights)

    def energies(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "b"]:
        """The mean energy of the members, eV."""
        return self.member_energies(frames, neighbors).mean(axis=0)

    def energy_and_forces(self, frames: Frames, neighbors: Neighbors):
        """(b,) eV and (b, n, 3) eV/Å of the mean: what moves atoms."""
        return forces(self.energies, frames, neighbors)

    def member_forces(self, frames: Frames, neighbors: Neighbors) -> Float[Array, "k b n 3"]:
        """eV/Å"""

        def one(weights):
            return forces(replace(self.members, weights=weights).energies, frames, neighbors)[1]

        return jax.vmap(one)(self.members.weights)

    def calculator(self):
        """An ASE calculator: energy, forces, stress, and the ensemble's force deviation."""
        from kepton.potential.calculator import KeptonCalculator

        return KeptonCalculator(self)

    def with_dtype(self, dtype) -> "Ensemble":
        """The same function with nets in another precision."""
        return Ensemble(self.members.with_dtype(dtype))


@jax.jit
def evaluate(ensemble: Ensemble, frames: Frames, neighbors: Neighbors) -> tuple[Label, Array]:
    """Label of the mean, and (b, n) eV/Å the disagreement on each atom."""
    label = derive(ensemble.energies, frames, neighbors)
    return label, atom_deviation(ensemble.member_forces(frames, neighbors))


def predict(ensemble: Ensemble, frames: Frames, batch: int = 64) -> tuple[Label, np.ndarray]:
    """What the ensemble says of any frames, in batches, neighbour lists made on the way.

    Returns: Label of the mean, and (b, n) eV/Å the disagreement on each atom
    Raises:  InputError: an element that the model was not trained on
    """
    check_elements(ensemble, frames)
    parts = []
    for start in range(0, len(frames), batch):
        # the last batch repeats its last frame, so that one program serves all
        rows = np.minimum(np.arange(start, start + min(batch, len(frames))), len(frames) - 1)
        part = frames[rows]
        parts.append(evaluate(ensemble, part, neighbors(part, ensemble.cutoff)))
    merged = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(frames)], *parts)
    return merged


def check_elements(ensemble: Ensemble, frames: Frames) -> None:
    """Raise InputError where frames have elements that the potential does not know."""
    unknown = [chemical_symbols[z] for z, _ in frames.composition if z not in ensemble.species]
    if unknown:
        known = ", ".join(chemical_symbols[z] for z in ensemble.species)
        raise InputError(
            f"The potential knows {known}, and the structure has {', '.join(unknown)} too; use a "
            "potential that was trained on all of its elements."
        )
