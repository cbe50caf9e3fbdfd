"""Neighbour lists: who is within the cutoff of whom, all periodic images included."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from vesin import NeighborList

from kepton.atoms.frames import Frames, Real

ALL_PAIRS = 40
"""Isolated frames of at most so many atoms list every pair, which never goes stale."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["index", "shift", "mask", "built_at"],
    meta_fields=["reach"],
)
@dataclass(frozen=True)
class Neighbors:
    """A full list, padded to m neighbours an atom: each pair stands once at either end.

    Args:
        index: the neighbour's place in its frame, 0 where padded
        shift: the image it is taken from, in cell vectors
        mask: true where there is a neighbour
        built_at: the positions for which the list was made, Å
        reach: the distance up to which the list is complete at `built_at`, Å; static
    """

    index: Int[Real, "b n m"]
    shift: Float[Real, "b n m 3"]
    mask: Bool[Real, "b n m"]
    built_at: Float[Real, "b n 3"]
    reach: float

    def __getitem__(self, index) -> "Neighbors":
        """The lists of the frames that a slice or an array selects (not an integer)."""
        return jax.tree.map(lambda leaf: leaf[index], self)

    def vectors(self, frames: Frames) -> Float[Array, "b n m 3"]:
        """x_j + S cell - x_i for every pair, Å; (2 reach, 0, 0) where padded, never singular."""
        x = jnp.asarray(frames.positions)
        to = jax.vmap(lambda x, j: x[j])(x, self.index)
        image = jnp.einsum("bnms,bsc->bnmc", self.shift, frames.cell)
        away = jnp.array([2.0 * min(self.reach, 1e3), 0.0, 0.0])
        return jnp.where(self.mask[..., None], to + image - x[:, :, None], away)

    def stale(self, frames: Frames, cutoff: float) -> Bool[Array, "b"]:
        """Whether an atom moved more than half of the skin, so that a pair may be missing."""
        moved = jnp.linalg.norm(frames.positions - self.built_at, axis=-1).max(axis=-1)
        return moved > 0.5 * (self.reach - cutoff)


def neighbors(frames: Frames, cutoff: float, skin: float = 0.0) -> Neighbors:
    """All neighbours within cutoff + skin of every atom, on the host.

    Isolated frames of at most ALL_PAIRS atoms list all pairs, and their reach is infinite.

    Args:    frames: b configurations;  cutoff, skin: Å
    Returns: lists padded to the largest number of neighbours, rounded up to a multiple of 8
             where it can change
    """
    positions, cell = np.asarray(frames.positions, float), np.asarray(frames.cell, float)
    pbc, real = np.asarray(frames.pbc), np.asarray(frames.mask)
    b, n = real.shape
    if not pbc.any() and n <= ALL_PAIRS:
        other = np.array([[j for j in range(n) if j != i] for i in range(n)], int).reshape(n, n - 1)
        index = np.broadcast_to(other, (b, n, n - 1)).copy()
        mask = real[:, :, None] & real[:, other]
        return Neighbors(index, np.zeros((b, n, n - 1, 3)), mask, positions, np.inf)
    search = NeighborList(cutoff=cutoff + skin, full_list=True, sorted=True)
    pairs = []
    for f in range(b):
        # vesin wants a box of full rank even where a direction is not periodic
        box = cell[f] if pbc[f].all() else _complete(cell[f], pbc[f])
        pairs.append(search.compute(positions[f, real[f]], box, pbc[f], quantities="ijS"))
    counts = [np.bincount(i, minlength=n) for i, _, _ in pairs]
    m = max(1, *(int(count.max()) for count in counts))
    m += -m % 8
    index, mask = np.zeros((b, n, m), int), np.zeros((b, n, m), bool)
    shift = np.zeros((b, n, m, 3))
    for f, (i, j, image) in enumerate(pairs):
        i = i.astype(int)
        slot = np.arange(len(i)) - np.concatenate([[0], np.cumsum(counts[f])])[i]
        index[f, i, slot], shift[f, i, slot], mask[f, i, slot] = j, image, True
    return Neighbors(index, shift, mask, positions, float(cutoff + skin))


def _complete(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with unit vectors, normal to the periodic ones, where it is not periodic."""
    box = cell.copy()
    _, _, normal = np.linalg.svd(cell[pbc].reshape(-1, 3), full_matrices=True)
    box[~pbc] = normal[pbc.sum() :]
    return box
