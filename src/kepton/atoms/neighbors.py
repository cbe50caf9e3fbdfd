"""Neighbour lists: who is within the cutoff of whom, all periodic images included."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from vesin import NeighborList

from kepton.atoms.cell_list import cell_list
from kepton.atoms.frames import Frames, Real
from kepton.atoms.images import IMAGES, check_images, packed, unpacked
from kepton.kernels import library
from kepton.machine import threads

ALL_PAIRS = 40
"""Isolated frames of at most so many atoms list every pair, which never goes stale."""
LARGE = 4000
"""Atoms from which on an accelerator makes the lists of a periodic system itself"""

Listed = Callable[[list[int]], tuple[Real, Real, Real, Real]]
"""Slots of each element -> index, image, home with as many neighbours as fit; the most found"""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["index", "image", "home", "built_at", "built_in", "inverse_cell"],
    meta_fields=["reach", "segments"],
)
@dataclass(frozen=True)
class Neighbors:
    """A full list, padded to m neighbours an atom: each pair stands once at either end.

    Neighbours of one element stand together, so that what is different for every element needs no
    look-up: `segments` are slices of the last axis.

    Args:
        index: the neighbour's place in its frame, -1 where padded
        image: the image it is taken from, when all atoms are moved home, as `packed`
        home: the cell in which each atom was, in cell vectors
        built_at: the positions for which the list was made, Å
        built_in: the cell for which the list was made, Å
        inverse_cell: its inverse, 1/Å; zero where there is no cell
        reach: the distance up to which the list is complete at `built_at`, Å; static
        segments: (atomic number, number of slots) in the order of the slots; static
    """

    index: Int[Real, "b n m"]
    image: Int[Real, "b n m"]
    home: Int[Real, "b n 3"]
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

    @property
    def mask(self) -> Bool[Real, "b n m"]:
        """True where there is a neighbour."""
        return self.index >= 0

    def of(self, places: Int[Array, "b c"]) -> tuple[Int[Array, "b c m"], Int[Array, "b c m"]]:
        """`index` and `image` of some atoms of every frame; no neighbour where the place is -1."""
        index, image = (_rows(jnp.asarray(part), places) for part in (self.index, self.image))
        return jnp.where(places[..., None] >= 0, index, -1), image

    def vectors(
        self, frames: Frames, places: Int[Array, "b c"] | None = None
    ) -> Float[Array, "b n m 3"]:
        """x_j + S cell - x_i for every pair, Å; (2 reach, 0, 0) where padded, never singular.

        Args:    places: of the atoms i; default: all
        """
        return jnp.stack(self.components(frames, places), axis=-1)

    def components(
        self, frames: Frames, places: Int[Array, "b c"] | None = None
    ) -> list[Float[Array, "b n m"]]:
        """Those of `vectors`, each in an array of its own."""
        index, image = jnp.asarray(self.index), jnp.asarray(self.image)
        if places is not None:
            index, image = self.of(places)
        cell, home, away = jnp.asarray(frames.cell), jnp.asarray(self.home), unpacked(image)
        found = []
        for c, far in enumerate((2.0 * min(self.reach, 1e3), 0.0, 0.0)):
            x = frames.positions[..., c] - _combined(home, cell[..., c])
            own = x if places is None else _rows(x, places)
            apart = _rows(x, index) + _combined(away, cell[..., c]) - own[..., None]
            found.append(jnp.where(index >= 0, apart, far))
        return found

    def distances(self, frames: Frames) -> Float[np.ndarray, "b n m"]:
        """Lengths of the vectors, on the host: inf where padded, Å."""
        cell = np.asarray(frames.cell)
        x = np.asarray(frames.positions) - np.asarray(self.home) @ cell
        d = np.stack([one[j] for one, j in zip(x, np.asarray(self.index))]) - x[:, :, None]
        if np.any(frames.pbc):
            d = d + np.asarray(unpacked(self.image)) @ cell[:, None]
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


def _combined(count: Int[Array, "b *n 3"], cell: Float[Array, "b 3"]) -> Float[Array, "b *n"]:
    """So many of every cell vector, along one axis, Å."""
    # terms in the open, which fuse with what uses them; a product of matrices would be stored
    along = cell.reshape(-1, *(1,) * (count.ndim - 2), 3)
    return reduce(add, (count[..., s] * along[..., s] for s in range(3)))


def _rows(values: Array, places: Array) -> Array:
    return jax.vmap(lambda values, at: values[at])(values, places)


def neighbors(
    frames: Frames,
    cutoff: float,
    skin: float = 0.0,
    segments: Sequence[tuple[int, int]] = (),
) -> Neighbors:
    """All neighbours within cutoff + skin of every atom.

    They are made on the host; where one large periodic system is on an accelerator, there.

    Isolated frames of at most ALL_PAIRS atoms list all pairs, and their reach is infinite.

    Args:
        frames: b configurations
        cutoff, skin: Å
        segments: of an older list; no segment is narrower than there, and one that must be wider
            gets room to spare, so that widths, each a program to compile, change rarely
    Returns: lists whose segments are padded to the largest number of neighbours of their element,
             rounded up to a multiple of 4 where it can change
    """
    cell, pbc = np.asarray(frames.cell, float), np.asarray(frames.pbc)
    if not pbc.any() and frames.species.shape[1] <= ALL_PAIRS:
        return _all_pairs(frames)
    elements = np.array([z for z, _ in frames.composition])
    if _on_accelerator(frames):
        positions = jnp.asarray(frames.positions, float)
        listed = cell_list(frames.with_positions(positions), cutoff + skin)
    else:
        positions, species = np.array(frames.positions, float), np.asarray(frames.species)
        types = np.where(np.asarray(frames.mask), np.searchsorted(elements, species), -1)
        # a box of full rank even where a direction is not periodic
        boxes = np.stack([c if p.all() else complete(c, p) for c, p in zip(cell, pbc)])
        method = _compiled if library() else _by_vesin
        listed = method(positions, types.astype(np.int32), boxes, pbc, cutoff + skin, len(elements))
    least = dict(segments)
    widths = [least.get(int(z), 0) for z in elements]
    while True:
        index, image, home, most = listed(widths)
        needed = [max(1, int(count)) for count in most]
        if all(count <= width for count, width in zip(needed, widths)):
            break
        del index, image  # before wider ones are made
        widths = [
            width if count <= width else _rounded(count + (count // 8 if width else 0))
            for count, width in zip(needed, widths)
        ]
    found = tuple((int(z), width) for z, width in zip(elements, widths))
    built = positions, cell, np.linalg.pinv(cell)
    return Neighbors(index, image, home, *built, float(cutoff + skin), found)


def _on_accelerator(frames: Frames) -> bool:
    """Whether the lists are made where the atoms are: of one large periodic system, not padded."""
    large = len(frames) == 1 and frames.positions.shape[1] >= LARGE
    if jax.default_backend() == "cpu" or not large:
        return False
    return bool(frames.pbc.all()) and bool(frames.mask.all())


def _rounded(count: int) -> int:
    return count + -count % 4


def _compiled(positions, types, boxes, pbc, reach: float, elements: int) -> Listed:
    """By the compiled search, in a fraction of the time and without a list of pairs beside."""
    (b, n, _), search = positions.shape, library().kepton_neighbors  # pyright: ignore
    given = positions, types, boxes, np.linalg.inv(boxes), pbc.astype(np.uint8)
    given = [np.ascontiguousarray(array) for array in given]

    def listed(widths):
        slots, most = sum(widths), np.zeros(elements, np.int64)
        index, image = np.empty((b, n, slots), np.int32), np.empty((b, n, slots), np.int16)
        index[types < 0], image[types < 0] = -1, 0
        home = np.empty((b, n, 3), np.int32)
        arrays = *given, np.array(widths, np.int64), index, image, home, most
        places = [array.ctypes.data for array in arrays]
        far = search(b, n, elements, *places[:5], reach, *places[5:], threads())
        check_images(bool(far))
        return index, image, home, most

    return listed


def _by_vesin(positions, types, boxes, pbc, reach: float, elements: int) -> Listed:
    """By vesin's search."""
    b, n, _ = positions.shape
    search = NeighborList(cutoff=reach, full_list=True, sorted=True)
    scaled = positions @ np.linalg.inv(boxes)
    home = np.where(pbc[:, None], np.floor(scaled), 0).astype(np.int32)
    pairs = []
    for f in range(b):
        places = np.flatnonzero(types[f] >= 0)
        i, j, image = search.compute(positions[f, places], boxes[f], pbc[f], quantities="ijS")
        i, j = places[i.astype(int)], places[j.astype(int)]
        image = image + home[f, j] - home[f, i]
        check_images(bool(np.abs(image).max(initial=0) > IMAGES))
        pairs.append((i, j, packed(image)))

    def listed(widths):
        slots, most = sum(widths), np.zeros(elements, int)
        index, images = np.full((b, n, slots), -1, np.int32), np.zeros((b, n, slots), np.int16)
        for f, (i, j, image) in enumerate(pairs):
            start = 0
            for element, width in enumerate(widths):
                own = types[f][j] == element
                at, count = i[own], np.bincount(i[own], minlength=n)
                most[element] = max(most[element], count.max())
                slot = np.arange(len(at)) - (np.cumsum(count) - count)[at]
                fits = slot < width
                rows = at[fits], start + slot[fits]
                index[f][rows], images[f][rows] = j[own][fits], image[own][fits]
                start += width
        return index, images, home, most

    return listed


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
    index[~mask] = -1
    image, home = np.zeros(index.shape, np.int16), np.zeros((b, n, 3), np.int32)
    cell = np.zeros((b, 3, 3))
    built = np.asarray(frames.positions, float), cell, cell
    return Neighbors(index, image, home, *built, np.inf, frames.composition)


def complete(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with unit vectors, normal to the periodic ones, where it is not periodic."""
    box = cell.copy()
    _, _, normal = np.linalg.svd(cell[pbc].reshape(-1, 3), full_matrices=True)
    box[~pbc] = normal[pbc.sum() :]
    return box
