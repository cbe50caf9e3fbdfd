"""An ensemble of potentials in one program."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Array, Bool, Float

from kepton.atoms.frames import Frames, Label, Real
from kepton.atoms.neighbors import Neighbors, neighbors
from kepton.devices import ALL, EACH, jitted, shared_out
from kepton.errors import InputError
from kepton.potential.derive import Answer

BATCH_ATOMS = 512
"""Atoms at a time in `predict`"""
LISTED_BATCHES = 32
"""Batches whose neighbour lists are made together, so that one width, one program, serves all"""


def atom_deviation(forces: Float[Real, "k b n 3"]) -> Float[Real, "b n"]:
    """Disagreement of the ensemble on the force of each atom.

    sqrt(< |F_i - <F_i>|^2 >)        F -> forces

    Args:    forces: eV/Å, one row a member; padded atoms hold zeros
    Returns: eV/Å; its maximum over atoms is DP-GEN's model deviation
    Source:  Zhang et al., Phys. Rev. Materials 3, 023804 (2019), eq. 5
    """
    spread = forces - forces.mean(axis=0)
    return (spread**2).sum(axis=-1).mean(axis=0) ** 0.5


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

    def member(self, index: int | slice) -> Any:
        """One of the k potentials, or with a slice some of them, stacked."""
        weights = jax.tree.map(lambda w: w[index], self.members.weights)
        return self.members.with_weights(weights)

    def alone(self, index: int) -> "Ensemble":
        """One of the k potentials as an ensemble of its own."""
        return Ensemble(self.member(slice(index, index + 1)))

    def answers(self, frames: Frames, neighbors: Neighbors, virial: bool = True) -> Answer:
        """What every member says, each leaf with a leading axis of length k."""
        return self.members.answers(frames, neighbors, virial)

    def answer(self, frames: Frames, neighbors: Neighbors, virial: bool = True) -> Label:
        """What the mean says: what moves atoms, and the cell."""
        each = self.answers(frames, neighbors, virial)
        mean = jax.tree.map(lambda part: part.mean(axis=0), each)
        return Label(mean.energy, mean.forces, mean.virial)

    def calculator(self):
        """An ASE calculator: energy, forces, stress, and the ensemble's force deviation."""
        from kepton.potential.calculator import KeptonCalculator

        return KeptonCalculator(self)

    def with_dtype(self, dtype) -> "Ensemble":
        """The same function with nets in another precision."""
        return Ensemble(self.members.with_dtype(dtype))


@jitted
def _each(ensemble: Ensemble, frames: Frames, neighbors: Neighbors) -> Label:
    def share(ensemble, frames, neighbors):
        answers = ensemble.answers(frames, neighbors)
        energy, forces, virial = (jnp.moveaxis(a.astype(jnp.float64), 0, -1) for a in answers)
        return Label(energy, forces, virial)

    return shared_out(share, len(frames), ALL, EACH, EACH)(ensemble, frames, neighbors)


def evaluate(ensemble: Ensemble, frames: Frames, neighbors: Neighbors) -> tuple[Label, np.ndarray]:
    """As `predict`, of a few frames with their lists."""
    return _told(jax.tree.map(np.asarray, _each(ensemble, frames, neighbors)))


def _told(answers: Label) -> tuple[Label, np.ndarray]:
    return answers.mean, atom_deviation(np.moveaxis(answers.forces, -1, 0))


def committee(ensemble: Ensemble, frames: Frames, batch: int | None = None) -> Label:
    """What each member says of any frames, in batches, the members along the last axis.

    Args:    batch: frames at a time; default: some hundred atoms, whose pairs fit a core's cache
    Raises:  InputError: an element that the potential was not trained on
    """
    return _in_batches(_each, ensemble, frames, batch)


def predict(
    ensemble: Ensemble, frames: Frames, batch: int | None = None
) -> tuple[Label, np.ndarray]:
    """What the ensemble says of any frames.

    Args:    batch: as of `committee`
    Returns: Label of the mean, and (b, n) eV/Å the disagreement on each atom
    Raises:  InputError: an element that the potential was not trained on
    """
    return _told(committee(ensemble, frames, batch))


@jitted
def _features(ensemble: Ensemble, frames: Frames, neighbors: Neighbors) -> Array:
    def share(ensemble, frames, neighbors):
        return ensemble.members.features(frames, neighbors)

    return shared_out(share, len(frames), ALL, EACH, EACH)(ensemble, frames, neighbors)


def features(ensemble: Ensemble, frames: Frames) -> np.ndarray:
    """(b, d) coordinates of any frames in which near means alike: see `fingerprint`."""
    return _in_batches(_features, ensemble, frames, None)


def _in_batches(program: Callable, ensemble: Ensemble, frames: Frames, batch: int | None) -> Any:
    """What a program makes of all frames, some at a time."""
    check_elements(ensemble, frames)
    batch = batch or max(1, BATCH_ATOMS // frames.positions.shape[1])
    parts = []
    for first in range(0, len(frames), LISTED_BATCHES * batch):
        some = frames[first : first + LISTED_BATCHES * batch]
        lists = neighbors(some, ensemble.cutoff)
        for start in range(0, len(some), batch):
            # the last batch repeats its last frame, so that one program serves all
            rows = np.minimum(np.arange(start, start + batch), len(some) - 1)
            part = jax.tree.map(np.asarray, program(ensemble, some[rows], lists[rows]))
            real = slice(len(some) - start)
            parts.append(jax.tree.map(lambda leaf, real=real: leaf[real], part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def check_elements(ensemble: Ensemble, frames: Frames) -> None:
    """Raise InputError where frames have elements that the potential does not know."""
    unknown = [chemical_symbols[z] for z, _ in frames.composition if z not in ensemble.species]
    if unknown:
        known = ", ".join(chemical_symbols[z] for z in ensemble.species)
        raise InputError(
            f"The potential knows {known}, and the structure has {', '.join(unknown)} too; use a "
            "potential that was trained on all of its elements."
        )
