"""Neighbour lists: who is within the cutoff of whom, all periodic images included."""

from collections.abc import Sequence
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
    data_fields=["index", "shift", "mask", "built_at", "built_in", "inverse_cell"],
    meta_fields=["reach", "segments"],
)
@dataclass(frozen=True)
class Neighbors:
    """A full list, padded to m neighbours an atom: each pair stands once at either end.

    Neighbours of one element stand together, so that what is different for every element needs no
    look-up: `segments` are slices of the last axis.

    Args:
        index: the neighbour's place in its frame, 0 where padded
        shift: the image it is taken from, in cell vectors
        mask: true where there is a neighbour
        built_at: the positions for which the list was made, Å
        built_in: the cell for which the list was made, Å
        inverse_cell: its inverse, 1/Å; zero where there is no cell
        reach: the distance up to which the list is complete at `built_at`, Å; static
        segments: (atomic number, number of slots) in the order of the slots; static
    """

    index: Int[Real, "b n m"]
    shift: Float[Real, "b n m 3"]
    mask: Bool[Real, "b n m"]
    built_at: Float[Real, "b n 3"]
    built_in: Float[Real, "b 3 3"]
    inverse_cell: Float[Real, "b 3 3"]
    reach: float
    segments: tuple[tuple[int, int], ...]

    def __getitem__(self, index) -> "Neighbors":
        """The lists of the frames that a slice or an array selects (not an integer)."""
        return jax.tree.map(lambda leaf: leaf[index], self)

    @property
    def slots(self) -> list[tuple[int, slice]]:
        """(atomic number, its slice of the last axis) of every segment."""
        ends = np.cumsum([width for _, width in self.segments]).tolist()
        return [(z, slice(end - width, end)) for (z, width), end in zip(self.segments, ends)]

    def vectors(self, frames: Frames) -> Float[Array, "b n m 3"]:
        """x_j + S cell - x_i for every pair, Å; (2 reach, 0, 0) where padded, never singular."""
        x = jnp.asarray(frames.positions)
        to = jax.vmap(lambda x, j: x[j])(x, self.index)
        image = jnp.einsum("bnms,bsc->bnmc", self.shift, frames.cell)
        away = jnp.array([2.0 * min(self.reach, 1e3), 0.0, 0.0])
        return jnp.where(self.mask[..., None], to + image - x[:, :, None], away)

    def distances(self, frames: Frames) -> Float[np.ndarray, "b n m"]:
        """Lengths of the vectors, on the host: inf where padded, Å."""
        x, cell = np.asarray(frames.positions), np.asarray(frames.cell)
        d = np.stack([one[j] for one, j in zip(x, np.asarray(self.index))]) - x[:, :, None]
        if np.any(frames.pbc):
            d = d + np.asarray(self.shift) @ cell[:, None]
        return np.where(self.mask, np.sqrt((d * d).sum(axis=-1)), np.inf)

    def stale(self, frames: Frames, cutoff: float) -> Bool[Array, "b"]:
        """Whether atoms and cell moved by more than half of the skin: a pair may be missing."""
        return self.moved(frames) > 0.5 * (self.reach - cutoff)

    def moved(self, frames: Frames) -> Float[Array, "b"]:
        """Half of what a pair as far apart as the list reaches may have come closer, at most, in Å.

        max_i |x_i' - x_i (1 + e)| + reach |e| / 2,   e = h^-1 (h' - h)
        x -> built_at, h -> built_in; x', h' -> frames

        A pair at d is at d (1 + e) + u_j - u_i now, which is no shorter than
        |d| (1 - |e|) - 2 max |u|; the Frobenius norm bounds that of the matrix.
        """
        strain = self.inverse_cell @ (frames.cell - self.built_in)
        apart = frames.positions - self.built_at - self.built_at @ strain
        stretched = min(self.reach, 1e9) * jnp.linalg.norm(strain, axis=(1, 2))
        return jnp.linalg.norm(apart, axis=-1).max(axis=-1) + 0.5 * stretched


def neighbors(
    frames: Frames,
    cutoff: float,
    skin: float = 0.0,
    segments: Sequence[tuple[int, int]] = (),
) -> Neighbors:
    """All neighbours within cutoff + skin of every atom, on the host.

    Isolated frames of at most ALL_PAIRS atoms list all pairs, and their reach is infinite.

    Args:
        frames: b configurations
        cutoff, skin: Å
        segments: of an older list; no segment is narrower than there, and one that must be wider
            gets room to spare, so that widths, each a program to compile, change rarely
    Returns: lists whose segments are padded to the largest number of neighbours of their element,
             rounded up to a multiple of 4 where it can change
    """
    positions, cell = np.asarray(frames.positions, float), np.asarray(frames.cell, float)
    pbc, real = np.asarray(frames.pbc), np.asarray(frames.mask)
    b, n = real.shape
    if not pbc.any() and n <= ALL_PAIRS:
        return _all_pairs(frames)
    species = np.asarray(frames.species)
    search = NeighborList(cutoff=cutoff + skin, full_list=True, sorted=True)
    pairs = []
    for f in range(b):
        # vesin wants a box of full rank even where a direction is not periodic
        box = cell[f] if pbc[f].all() else complete(cell[f], pbc[f])
        places = np.flatnonzero(real[f])
        i, j, image = search.compute(positions[f, places], box, pbc[f], quantities="ijS")
        pairs.append((places[i.astype(int)], places[j.astype(int)], image))
    widths = _widths(pairs, species, frames.composition, dict(segments))
    m = sum(widths.values())
    start = dict(zip(widths, np.cumsum([0, *widths.values()]).tolist()))
    index, mask = np.zeros((b, n, m), np.int32), np.zeros((b, n, m), bool)
    shift = np.zeros((b, n, m, 3), np.float32)
    for f, (i, j, image) in enumerate(pairs):
        for z in widths:
            own = species[f][j] == z
            at, to = i[own], j[own]
            first = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=n))])
            slot = start[z] + np.arange(len(at)) - first[at]
            index[f, at, slot], shift[f, at, slot], mask[f, at, slot] = to, image[own], True
    built = positions, cell, np.linalg.pinv(cell)
    return Neighbors(index, shift, mask, *built, float(cutoff + skin), tuple(widths.items()))


def _all_pairs(frames: Frames) -> Neighbors:
    """Every pair of isolated frames."""
    species, real = np.asarray(frames.species), np.asarray(frames.mask)
    b, n = species.shape
    order = np.zeros((b, sum(count for _, count in frames.composition)), np.int32)
    filled = np.zeros(order.shape, bool)
    end = 0
    for z, count in frames.composition:
        for f in range(b):
            places = np.flatnonzero(species[f] == z)
            order[f, end : end + len(places)] = places
            filled[f, end : end + len(places)] = True
        end += count
    index = np.broadcast_to(order[:, None], (b, n, order.shape[1])).copy()
    mask = filled[:, None] & (index != np.arange(n)[:, None]) & real[:, :, None]
    shift = np.zeros((*index.shape, 3), np.float32)
    index[~mask] = 0
    cell = np.zeros((b, 3, 3))
    built = np.asarray(frames.positions, float), cell, cell
    return Neighbors(index, shift, mask, *built, np.inf, frames.composition)


def _widths(pairs, species, composition, least: dict[int, int]) -> dict[int, int]:
    """Slots of each element."""
    widths = {}
    for z, _ in composition:
        needed = 1
        for f, (i, j, _) in enumerate(pairs):
            counts = np.bincount(i[species[f][j] == z])
            needed = max(needed, int(counts.max(initial=0)))
        if z in least:
            needed = least[z] if needed <= least[z] else needed + needed // 8
        widths[z] = needed + -needed % 4
    return widths


def complete(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with unit vectors, normal to the periodic ones, where it is not periodic."""
    box = cell.copy()
    _, _, normal = np.linalg.svd(cell[pbc].reshape(-1, 3), full_matrices=True)
    box[~pbc] = normal[pbc.sum() :]
    return box
